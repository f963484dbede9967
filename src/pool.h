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
	unsigned place;  /* of this process in the scoreboard */
	bool quarantine; /* its jobs are suspects: they run one at a time, and are not put aside */
	int supervisor;  /* is told what becomes of suspects (ipc.h) */
};

/* NULL with errno when there is no descriptor for it. */
struct pool *pool_create(const struct pool_setup *setup) MUST_CHECK;

/* Starts all threads. False with the reason in `why` when one cannot be made or a plugin refuses
 * it: a worker never runs with fewer threads than were asked for. Those that run already end with
 * their links' drain. */
bool pool_start(struct pool *pool, char *why, size_t why_size) MUST_CHECK;

/* Readable when the last thread has ended, and when a job was given up. */
int pool_news_fd(const struct pool *pool);
/* How many threads still have something to do. */
unsigned pool_working(const struct pool *pool);
/* How many threads are stuck in a job that was given up: they may never end. */
unsigned pool_stuck(const struct pool *pool);
/* True when a job was given up, so that the process is to be replaced; `which` names it. */
bool pool_overrun(struct pool *pool, char *which, size_t size);

/* Jobs that had started and were given back unfinished. */
unsigned pool_given_back(const struct pool *pool);

/* Threads of acked queues that are still at work: the broker gives their messages to somebody else.
 */
unsigned pool_abandoned(const struct pool *pool);

/* Joins the threads and frees, given that none is working or stuck. NULL is accepted. */
void pool_destroy(struct pool *pool);

#endif
