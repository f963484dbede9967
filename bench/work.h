/* work.h: what tasks that do something do, the same in bench/work.c and in bench/bare.c. */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <errno.h>
#include <stddef.h>
#include <time.h>

#include <openssl/sha.h>

static inline void work_wait(long ms)
{
	struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

static inline void work_sha256(const void *body, size_t len, int times)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	for (int i = 0; i < times; i++)
		SHA256(body, len, digest);
}

#endif
