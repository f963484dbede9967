/* The ground that every file stands on: attributes, contract checks, byte strings. Floor 0. */
#ifndef WARREN_BASE_H
#define WARREN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/*
 * CHECK states what our own code promised; it stays in release builds and ends the process with the
 * place and the words. What the network, the disk or a plugin does is never CHECKed but handled.
 */
#define CHECK(what) ((what) ? (void)0 : base_check_failed(#what, __FILE__, __LINE__))

/* Every pthread call that can only fail by our own mistake goes through PTOK. */
#define PTOK(call) ((call) == 0 ? (void)0 : base_check_failed(#call, __FILE__, __LINE__))

__attribute__((noreturn)) void base_check_failed(const char *what, const char *file, int line);

/*
 * A run of bytes that somebody else owns: not terminated, may hold any byte. `data` may be NULL
 * only where `len` is 0.
 */
struct bytes {
	const char *data;
	size_t len;
};

#define BYTES_LIT(s) ((struct bytes){ (s), sizeof(s) - 1 })

/* The bytes of a C string, without its terminator; NULL gives empty bytes. */
struct bytes bytes_of(const char *s);
bool bytes_equal(struct bytes a, struct bytes b);
bool bytes_is(struct bytes a, const char *s);

/*
 * Allocation that does not return NULL: out of memory ends the process with exit 71. For the start
 * of a process, and for programs that are there for one answer; what runs on handles it.
 */
void *or_die(void *p) __attribute__((returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((malloc, returns_nonnull));

/* Exit codes of the programs, from BSD's sysexits where there is one. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_PROBLEM = 1, /* warren status: something is not as configured */
	EXIT_USAGE = 64,
	EXIT_UNROUTABLE = 65,  /* warren publish: no queue took the message */
	EXIT_UNAVAILABLE = 69, /* broker unreachable */
	EXIT_INTERNAL = 70,
	EXIT_OS = 71,           /* fork, mmap, memory */
	EXIT_CANT_CREATE = 73,  /* socket, pid file */
	EXIT_TEMPFAIL = 75,     /* warrend: started jobs were given back; publish: not confirmed */
	EXIT_REFUSED = 77,      /* permissions */
	EXIT_CONFIG = 78,       /* bad configuration or plugin */
	EXIT_PLUGIN_EXIT = 121, /* worker: a plugin called exit() */
	EXIT_TIME_LIMIT = 122,  /* worker: a task overran its time limit and its kill_after */
	EXIT_ORPHAN = 123,      /* worker: the supervisor is gone */
};

#endif
