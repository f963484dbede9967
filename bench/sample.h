/*
 * sample.h: how old each message of bench/probe was when its task began and when its reply came: in
 * memory that the probe, the contestants and bench/run share. All on one machine, so by one clock.
 */
#ifndef BENCH_SAMPLE_H
#define BENCH_SAMPLE_H

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What a body begins with. */
struct stamp {
	int64_t sent_ns;
	uint64_t number; /* of its sample */
};

/* 0: not yet. */
struct sample {
	_Atomic int64_t begun_ns, replied_ns; /* after it was sent */
};

struct samples {
	struct sample *of;
	size_t n;
};

static inline int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* As many as the file has room for. False, and errno, when that cannot be. */
static inline bool samples_open(struct samples *samples, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	struct stat file;
	void *memory = MAP_FAILED;
	if (fstat(fd, &file) == 0)
		memory =
		    mmap(NULL, (size_t)file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (memory == MAP_FAILED)
		return false;
	samples->of = memory;
	samples->n = (size_t)file.st_size / sizeof *samples->of;
	return true;
}

/* The sample of the message with this body, and how old that is; NULL when it has none. */
static inline struct sample *sample_of(
    const struct samples *samples, const void *body, size_t len, int64_t *age_ns)
{
	const int64_t now = now_ns();
	struct stamp stamp;
	if (len < sizeof stamp)
		return NULL;
	memcpy(&stamp, body, sizeof stamp);
	*age_ns = now - stamp.sent_ns;
	return stamp.number < samples->n ? &samples->of[stamp.number] : NULL;
}

static inline void sample_begin(const struct samples *samples, const void *body, size_t len)
{
	int64_t age_ns;
	struct sample *sample = sample_of(samples, body, len, &age_ns);
	if (sample)
		sample->begun_ns = age_ns;
}

#endif
