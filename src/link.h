/*
 * What stands between the worker threads and the broker: for each thread a channel that consumes
 * with its prefetch, and whatever it takes to keep it so. A narrow door: take a job, settle it.
 * Floor 2.
 *
 * One link serves all queues that acknowledge, another one those with ack = "none", which is left
 * unread while too many of its jobs wait in memory.
 */
#ifndef WARREN_LINK_H
#define WARREN_LINK_H

#include "conn.h"
#include "job.h"
#include "score.h"

struct link;

struct link_setup {
	const struct conf *conf;
	unsigned worker;        /* worker process 0 alone consumes exclusive queues */
	unsigned thread_offset; /* number of this link's first thread among all of the process */
	bool no_ack;            /* which kind of queues this link serves */
	bool quarantine;        /* instead of the queues their quarantines, with one thread each */
	unsigned publish_lanes; /* channels that the publishing connection will need */
	int supervisor;         /* is told of leases that the broker took back (ipc.h) */
	struct score *score;    /* tells which queues are paused */
	unsigned place;         /* of the process on the scoreboard */
};

/* How many threads such a link has: one for each of its queues' `threads`. */
unsigned link_count_threads(const struct link_setup *setup);

/* NULL with errno when there is no descriptor for it. */
struct link *link_create(const struct link_setup *setup) MUST_CHECK;
bool link_start(struct link *link) MUST_CHECK;
/* After link_drain, when no thread is inside. NULL is accepted. */
void link_destroy(struct link *link);

/*
 * The next job of thread `thread` (0 to link_count_threads - 1), or NULL when it is to end. It may
 * be of any queue of the link, but of each at most as many are out as it has `threads`. Blocks;
 * meanwhile the calling thread may be the one that reads the connection for all, so its stack must
 * be BROKER_STACK_SIZE. The job is the caller's until link_settle.
 */
struct warren_job *link_take(struct link *link, unsigned thread);

enum link_settlement {
	LINK_ACK,
	LINK_GIVE_BACK, /* nack with requeue */
	LINK_NOTHING,   /* nothing is sent: the lease is lost, or the queue is not acked */
};

/*
 * The last word on a job, which is freed. False when the delivery's channel is not the one it came
 * on any more, so that nothing was sent: the broker has given the message to somebody else.
 */
bool link_settle(
    struct link *link, unsigned thread, struct warren_job *job, enum link_settlement how);

/*
 * A job was taken away from its thread, which is stuck in it: `twin` stands in for it from now on,
 * and link_settle is called with that. The thread's channel gets no further delivery.
 */
void link_give_up(struct link *link, unsigned thread, struct warren_job *twin);

/*
 * How often this link has seen the broker take that message back from a running job, as far as the
 * supervisor may not know it yet: it comes back at once, and would be run once too often. And: it
 * was settled, or stands on the message now.
 */
int link_leases(struct link *link, const uint8_t identity[IDENTITY_LEN]);
void link_forget_leases(struct link *link, const uint8_t identity[IDENTITY_LEN]);

/* Takes no more: consumers are cancelled, waiting deliveries are given back, link_take returns
 * NULL. */
void link_drain(struct link *link);

/* Raises `stop` on every job that is out, and on those that are still to come. With WARREN_STOP_NOW
 * what waits of ack = "none" queues is dropped, counted in the log. */
void link_stop_jobs(struct link *link, enum warren_stop stop);

/* The highest rung that there may be: where warren is not to create any, those that the
 * configuration needs. */
int link_ladder_limit(const struct link *link);

/* Sees to it that the delay ladder reaches up to this rung. Returns the highest rung there is: a
 * lower one where the broker refuses more, -1 where there is no ladder by the deadline. */
int link_raise_ladder(struct link *link, int rung, int64_t deadline_ns);

/* Builds the queue's topology again: something that should be there is not. */
void link_renew(struct link *link, const struct conf_queue *queue);

enum link_health {
	LINK_BUILDING,  /* not there yet, or not again; `why` says what is missing */
	LINK_BUSY,      /* somebody holds the connection at this moment: ask again */
	LINK_CONSUMING, /* every thread's consumer is confirmed */
	LINK_REFUSED,   /* the broker refuses what the configuration asks for, and never took it
			   before */
};
/* Never waits. */
enum link_health link_health(struct link *link, char *why, size_t size);

/* Writes on the scoreboard how connection and queues stand. Never waits: nothing is written while
 * somebody holds the connection. */
void link_report(struct link *link);

/* Asks the task of the running job with that id to come to an end (WARREN_STOP_CANCEL). False when
 * there is none. */
bool link_cancel(struct link *link, struct bytes job_id);

/* conn_watch of its connection. */
bool link_watch(struct link *link, int64_t now_ns);

/*
 * A queue about a message of which a notice is to be dead-lettered before it is rejected, because
 * the library cannot decode it; or NULL. The caller sees to it and says how that ended: where it is
 * not `safe` there, it is asked for again. Another such message may come meanwhile.
 */
const struct conf_queue *link_take_notice(struct link *link);
void link_notice_done(struct link *link, const struct conf_queue *queue, bool safe);

#endif
