/*
 * Time limits: a thread that watches running jobs, says when one has passed its limit, and takes it
 * away from the thread that is stuck in it when kill_after has passed, too. Floor 2.
 *
 * A job is in the grip of its worker thread from grip_take to grip_drop. Completion and give-up
 * race on one compare-and-swap: whoever wins settles the job, and the other one leaves it alone.
 */
#ifndef WARREN_OVERSEER_H
#define WARREN_OVERSEER_H

#include <stdatomic.h>

#include "job.h"
#include "score.h"

/* One for each worker thread. Zero-initialised. */
struct grip {
	atomic_uint_fast64_t word; /* number of the run and what has become of it */
	_Atomic int64_t limit_ns, kill_ns;
	struct warren_job *job;
	atomic_uint_fast64_t told; /* the run whose limit was logged */
};

/* The worker thread's side: the job begins to run. CLOCK_NEVER: no limit. */
void grip_take(struct grip *grip, struct warren_job *job, int64_t limit_ns, int64_t kill_ns);

/* It returned. False when it was given up meanwhile: it is not the thread's any more. */
bool grip_drop(struct grip *grip) MUST_CHECK;

/* True for the first who asks about this run: to say that it has passed its limit. For the thread
 * itself, after grip_drop; a task that listens is sooner than the overseer. */
bool grip_tell(struct grip *grip) MUST_CHECK;

/* It will never return: the thread ends in the middle of it. False when it was given up already, or
 * was none. */
bool grip_lose(struct grip *grip) MUST_CHECK;

/* Whether the run that was given up has not returned yet. Any thread. */
bool grip_is_stuck(const struct grip *grip);

/* Called by the overseer's thread, in which they may block. */
struct overseer_ops {
	/* The job of thread `number` has passed its limit: a word for the log. */
	void (*late)(void *owner, unsigned number);
	/* It was given up: to be settled as timed out. Its memory stays until the process ends. */
	void (*give_up)(void *owner, unsigned number, struct warren_job *job);
};

struct overseer;

/* `grips` and `ops` stay the caller's. */
struct overseer *overseer_create(
    struct grip *grips, unsigned n, const struct overseer_ops *ops, void *owner);
/* False with errno when the thread cannot be made. */
bool overseer_start(struct overseer *overseer) MUST_CHECK;
/* Waits for the thread, which must not be kept inside of give_up for ever. NULL is accepted. */
void overseer_destroy(struct overseer *overseer);

#endif
