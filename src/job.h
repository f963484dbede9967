/* One delivery in hand of one worker thread: what came, what its task said, where it came from.
 * Floor 1. */
#ifndef WARREN_JOB_H
#define WARREN_JOB_H

#include <stdatomic.h>
#include <sys/types.h>

#include <warren/plugin.h>

#include "conf.h"
#include "msg.h"
#include "suspect.h"
#include "trace.h"

struct task; /* plugin.h */
struct score_row;

/* A message that warren is to publish: a reply, a follow-up, a retry, a dead letter. */
struct outgoing {
	struct bytes exchange, routing_key;
	struct props props;
	struct bytes body;
	struct outgoing *next;
};

/*
 * Where a delivery came from. An ack is sent only while all of it is still true (promise 4): the
 * channel's epoch changes whenever the channel or its connection is lost.
 */
struct origin {
	unsigned channel;
	uint64_t epoch;
	uint64_t tag;
};

/*
 * The first member is what a plugin sees of it. All bytes below live in `arena` until the job ends.
 * Written by the thread that runs it; `stop` alone is set from outside.
 */
struct warren_job {
	const struct warren_api *api; /* first: the header's inline wrappers call through it */
	struct arena *arena;
	struct msg msg;
	const struct conf_queue *queue;
	struct origin origin;
	char id[48]; /* names this job in logs: process.channel.number */

	const struct task *task; /* NULL: none of that name */
	struct bytes task_name;  /* what was asked for, known or not */
	void *state, *thread_state;

	/* Read from the x-warren headers where they can be believed, else from the delivery itself.
	 */
	int attempt;                        /* from 1 */
	int64_t first_at_ms, expires_at_ms; /* expires_at 0: never */
	struct bytes first_exchange, first_routing_key;
	struct trace trace;

	/* What is known against the message. */
	uint8_t identity[IDENTITY_LEN];
	atomic_bool identified; /* its task runs, and its identity is there for other threads */
	int crashes;            /* how often it brought its worker down */
	int leases;             /* how often the broker took it back from a run, or it was killed */
	const char *signal;     /* of the last time; NULL: none known */
	bool suspected;         /* the supervisor knows it, and is to be told when it is settled */
	bool ran;               /* its task was called */

	int64_t taken_ns, started_ns, ended_ns; /* monotonic */
	int64_t deadline_ns;                    /* soft time limit; CLOCK_NEVER: none */
	int64_t kill_ns;                        /* it is given up then; CLOCK_NEVER: never */

	atomic_bool lost; /* the broker has given the message to somebody else: said once, holds */
	atomic_int stop;  /* enum warren_stop, set by drain, loss of the connection, cancel */

	/* What the task said. */
	char reason[1024 + 1];  /* valid UTF-8 is made of it when it is written to a header */
	int64_t retry_after_ns; /* -1: the queue's back-off */
	struct outgoing *reply; /* the last one given */
	struct outgoing *follow_ups, **follow_ups_tail;
	enum warren_error
	    refused; /* a reply or follow-up that the host did not take; see task_run */
	size_t held; /* bytes of reply and follow-ups */
	atomic_bool
	    gone; /* set when the job is given up: from then on every host call on it fails */
	atomic_bool ended;             /* job_end() */
	_Atomic pid_t child;           /* process group of a child that the job runs, 0 none */
	atomic_int progress;           /* 0..100, -1 unknown */
	struct score_row *_Atomic row; /* NULL outside a worker, and when it has ended */

	/* The message as the plugin sees it, made by host.c at the first question. */
	struct warren_value fields[WARREN_FIELDS];
	bool has_fields;
	struct warren_value *headers;
};

/* A job with an empty message; NULL when memory is short. */
struct warren_job *job_create(const struct warren_api *api, const struct conf_queue *queue);

/* It is over: what it holds is freed, and every host call on it fails in good order, as long as the
 * job itself is kept. For a plugin's thread that calls when run() has long returned. */
void job_end(struct warren_job *job);

/* NULL is accepted. Frees the message too. */
void job_destroy(struct warren_job *job);

/*
 * The x-warren headers of a message are believed only when it came back through the queue's own
 * return queue, which the broker notes in x-death; whoever can write that can publish into our
 * queues anyway, and gains no more than attempts that count as used.
 */
bool job_came_back(const struct warren_job *job);

/*
 * What stands in for a job that was given up while its task still runs: the same delivery, with
 * memory of its own for what is published about it. Reads only what the task cannot change. The
 * job must outlive it. NULL when memory is short.
 */
struct warren_job *job_stand_in(const struct warren_job *job);

/* How many crashes of its worker the message itself tells of: only where it can be believed. */
int job_carried_crashes(const struct warren_job *job);

/*
 * Reads attempt, first exchange and routing key, first-at and expiry from the x-warren headers
 * where `trusted` (the message came through a return queue of ours), otherwise from the message
 * itself: attempt 1, its own exchange and key, now, `expiration`. A forged or absurd number never
 * gives a free retry: a bad attempt counts as the last one. The trace context is read whoever wrote
 * it.
 */
void job_read_headers(struct warren_job *job, bool trusted, int64_t now_wall_ms);

/* The name of the task that this message asks for by its queue's rule (task or route); empty when
 * the routed property is missing. */
struct bytes job_task_name(const struct warren_job *job);

/* Raises the stop reason; a weaker one never replaces a stronger one (now > lost > limit > cancel >
 * drain). */
void job_stop(struct warren_job *job, enum warren_stop why);

/* The reason that holds now: job->stop, or WARREN_STOP_LIMIT where nothing stronger is raised and
 * the deadline has passed. */
enum warren_stop job_stopping(const struct warren_job *job);

#endif
