/* The worker threads: each takes a job, runs its task, has it settled, and takes the next. Floor 2.
 */
#ifndef WARREN_POOL_H
#define WARREN_POOL_H

#include "guard.h"
#include "link.h"
#include "plugin.h"
#include "publisher.h"
#include "score.h"

struct pool;

struct pool_setup {
	const struct conf *conf;
	const struct plugins *plugins;
	struct guard *guard;          /* started when plugins and threads are open */
	struct publisher *publisher;  /* with one lane for each thread */
	struct link *acked, *unacked; /* either may be NULL */
	unsigned n_acked, n_unacked;  /* their threads; rows and lanes are numbered acked first */
	struct score *score;
	unsigned worker;
};

struct pool *pool_create(const struct pool_setup *setup);

/* Starts all threads. False with the reason in `why` when one cannot be made or a plugin refuses
 * it: a worker never runs with fewer threads than were asked for. Those that run already end with
 * their links' drain. */
bool pool_start(struct pool *pool, char *why, size_t why_size) MUST_CHECK;

/* Readable when the last thread has ended. */
int pool_ended_fd(const struct pool *pool);
/* How many threads have not ended. */
unsigned pool_running(const struct pool *pool);

/* Jobs that had started and were given back unfinished. */
unsigned pool_given_back(const struct pool *pool);

/* Threads of acked queues that have not ended: the broker gives their messages to somebody else. */
unsigned pool_abandoned(const struct pool *pool);

/* Joins the threads and frees, given that pool_running() is 0. NULL is accepted. */
void pool_destroy(struct pool *pool);

#endif
