/*
 * The ledger of the plugins that misbehave: a line for each start and each end of a run, as
 * ledger.run writes them, on the disk before the call returns.
 */
#ifndef WARREN_TEST_BOOK_H
#define WARREN_TEST_BOOK_H

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <warren/plugin.h>

struct book {
	int fd;
};

static inline bool book_open(struct book *book, const char *path)
{
	book->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	return book->fd >= 0;
}

/* `job` may be NULL: for what happens outside of any. */
static inline bool book_note(
    const struct book *book, struct warren_job *job, const char *what, int verdict, const char *id)
{
	char line[512];
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	long long ms = (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	int tid = (int)gettid();
	int len = snprintf(line, sizeof(line), "%.64s %d %d %d %d %lld %d %d %.200s\n", what,
	    (int)getpid(), tid, job ? warren_attempt(job) : 0, job ? warren_redelivered(job) : 0,
	    ms, tid, verdict, id);
	return write(book->fd, line, (size_t)len) == len && fdatasync(book->fd) == 0;
}

#endif
