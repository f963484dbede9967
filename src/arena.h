/* Memory that belongs to one job: many small pieces, one release. Not thread-safe. Floor 0. */
#ifndef WARREN_ARENA_H
#define WARREN_ARENA_H

#include "base.h"

struct arena;

/* Returns NULL when memory is short. */
struct arena *arena_create(void);

/*
 * One whose memory, at most `size` bytes, is shared with processes that are forked from here on:
 * what a child builds in it stands at the same addresses in its parent. NULL when memory is short.
 */
struct arena *arena_create_shared(size_t size);

/* Gives back what was not used: nothing more can be taken from a shared arena. */
void arena_close_shared(struct arena *arena);

/* From here on a shortage ends the process with exit 71, as in xcalloc: for what is read at the
 * start, by code that could only take it for something wrong with what it reads. */
void arena_insist(struct arena *arena);

/* Frees the arena and all that came from it. NULL is accepted. */
void arena_destroy(struct arena *arena);

/* Frees all pieces, keeps the arena (and one chunk of ordinary size). */
void arena_reset(struct arena *arena);

/* `size` bytes, aligned for any type, not cleared; NULL when memory is short. Size 0 gives a valid
 * pointer. Under sanitizers each piece is an allocation of its own, so that overruns show. */
void *arena_alloc(struct arena *arena, size_t size) MUST_CHECK;

/* Cleared memory for n objects; NULL when memory is short or n * size overflows. */
void *arena_zalloc(struct arena *arena, size_t n, size_t size) MUST_CHECK;

/* A copy of the bytes with a terminator behind it (not counted); NULL when memory is short. */
char *arena_dup(struct arena *arena, const void *data, size_t len) MUST_CHECK;

/* printf into the arena; NULL when memory is short. */
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* Bytes handed out since the last reset. */
size_t arena_used(const struct arena *arena);

#endif
