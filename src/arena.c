/* A chain of chunks that is released as one. */
#include "arena.h"

#include <stdarg.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHUNK_SIZE = 8 * 1024 - 64 };

struct chunk {
	struct chunk *next;
	size_t size, used;
	alignas(max_align_t) char data[];
};

struct arena {
	struct chunk *chunks; /* the newest first; only it is filled further */
	size_t used;
	size_t shared; /* bytes of the mapping whose beginning this is; 0: there is none */
	bool insists;
};

static struct chunk *chunk_create(size_t size)
{
	if (size > PTRDIFF_MAX - sizeof(struct chunk))
		return NULL;
	struct chunk *chunk = malloc(sizeof(*chunk) + size);
	if (chunk) {
		chunk->next = NULL;
		chunk->size = size;
		chunk->used = 0;
	}
	return chunk;
}

struct arena *arena_create(void)
{
	return calloc(1, sizeof(struct arena));
}

/* The whole mapping is one chunk behind the arena itself. */
struct arena *arena_create_shared(size_t size)
{
	int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
	struct arena *arena = mmap(NULL, size, prot, flags, -1, 0);
	size_t head = (sizeof(*arena) + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (arena == MAP_FAILED)
		return NULL;
	CHECK(size > head + sizeof(struct chunk));
	arena->shared = size;
	arena->chunks = (struct chunk *)(void *)((char *)arena + head);
	arena->chunks->size = size - head - sizeof(struct chunk);
	return arena;
}

void arena_close_shared(struct arena *arena)
{
	struct chunk *chunk = arena->chunks;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t kept = (size_t)(chunk->data + chunk->used - (char *)arena);
	kept = (kept + page - 1) / page * page;
	chunk->size = chunk->used;
	if (kept >= arena->shared || munmap((char *)arena + kept, arena->shared - kept) != 0)
		return; /* nothing to give back, or not now: it goes with the arena */
	arena->shared = kept;
}

static void free_chunks(struct chunk *chunk)
{
	while (chunk) {
		struct chunk *next = chunk->next;
		free(chunk);
		chunk = next;
	}
}

void arena_destroy(struct arena *arena)
{
	if (!arena)
		return;
	if (arena->shared) {
		CHECK(munmap(arena, arena->shared) == 0);
		return;
	}
	free_chunks(arena->chunks);
	free(arena);
}

void arena_reset(struct arena *arena)
{
	CHECK(!arena->shared);
	struct chunk *keep = NULL;
	for (struct chunk *chunk = arena->chunks; chunk;) {
		struct chunk *next = chunk->next;
		if (!keep && chunk->size == CHUNK_SIZE)
			keep = chunk;
		else
			free(chunk);
		chunk = next;
	}
	if (keep) {
		keep->next = NULL;
		keep->used = 0;
	}
	arena->chunks = keep;
	arena->used = 0;
}

/* A piece of more than a quarter chunk gets a chunk of its own, behind the one being filled; so
 * does every piece under sanitizers. */
static bool wants_own_chunk(size_t size)
{
#ifdef WARREN_SANITIZED
	(void)size;
	return true;
#else
	return size > CHUNK_SIZE / 4;
#endif
}

static void *own_chunk(struct arena *arena, size_t size)
{
	struct chunk *chunk = chunk_create(size);
	if (!chunk)
		return NULL;
	chunk->used = size;
	if (arena->chunks) {
		chunk->next = arena->chunks->next;
		arena->chunks->next = chunk;
	} else {
		arena->chunks = chunk;
	}
	arena->used += size;
	return chunk->data;
}

static void *take(struct arena *arena, size_t size)
{
	if (!arena->shared && wants_own_chunk(size))
		return own_chunk(arena, size);
	if (size > PTRDIFF_MAX)
		return NULL;

	size_t room = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	struct chunk *chunk = arena->chunks;
	if (!chunk || chunk->size - chunk->used < room) {
		if (arena->shared)
			return NULL;
		chunk = chunk_create(CHUNK_SIZE);
		if (!chunk)
			return NULL;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
	}
	void *p = chunk->data + chunk->used;
	chunk->used += room;
	arena->used += size;
	return p;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	void *p = take(arena, size);
	return arena->insists ? or_die(p) : p;
}

void arena_insist(struct arena *arena)
{
	arena->insists = true;
}

void *arena_zalloc(struct arena *arena, size_t n, size_t size)
{
	size_t total;
	if (__builtin_mul_overflow(n, size, &total))
		return NULL;
	void *p = arena_alloc(arena, total);
	if (p)
		memset(p, 0, total);
	return p;
}

char *arena_dup(struct arena *arena, const void *data, size_t len)
{
	if (len == SIZE_MAX)
		return NULL;
	char *p = arena_alloc(arena, len + 1);
	if (!p)
		return NULL;
	if (len)
		memcpy(p, data, len);
	p[len] = '\0';
	return p;
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
	va_list args, again;
	va_start(args, fmt);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	char *p = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
	if (p)
		(void)vsnprintf(p, (size_t)len + 1, fmt, again);
	va_end(again);
	return p;
}

size_t arena_used(const struct arena *arena)
{
	return arena->used;
}
