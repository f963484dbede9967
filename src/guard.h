/*
 * What belongs to the whole worker process, and a plugin may have changed: put back where that is
 * possible, and said once. Floor 2.
 *
 * Looking costs system calls: the process's loop looks once a second, and a thread once a second
 * at most, after a task. What happens in between is seen late, or not at all where it was put back.
 */
#ifndef WARREN_GUARD_H
#define WARREN_GUARD_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "job.h"

struct guard {
	bool started;
	/* As they were when the plugins had been opened: what they set up there is theirs to
	 * choose. */
	int folder; /* the working directory, held open */
	dev_t device;
	ino_t inode;
	long mask; /* umask, -1 where /proc does not tell */
	int line;  /* to the supervisor */
	ino_t line_inode;
	char numbers[64]; /* locale LC_NUMERIC */
	sigset_t blocked; /* of every thread */

	atomic_uint looks;
	atomic_uint said; /* a bit for each thing that was complained about */
};

/* Takes stock, in a thread with the signal mask that all shall have. `line` is the socket to the
 * supervisor: a plugin that closes what is not its own closes that, too. */
void guard_start(struct guard *guard, int line);
void guard_stop(struct guard *guard);

/* Looks at what belongs to the process; before guard_start() at nothing. */
void guard_look(struct guard *guard);

/* False when our descriptors were closed: whatever is opened next may get their numbers, so nothing
 * may be read or written any more. True before guard_start(). */
bool guard_descriptors(const struct guard *guard) MUST_CHECK;

/* Looks at what belongs to the thread, after `job`'s task has returned in it. `seen` is the
 * thread's own, 0 at first: but for once after each guard_look() this costs one comparison. */
void guard_after(struct guard *guard, unsigned *seen, const struct warren_job *job);

#endif
