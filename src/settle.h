/*
 * Settling: turns what came of a job into AMQP. Publish what must be published, wait for its
 * confirm, then ack; never the reverse. Floor 2.
 */
#ifndef WARREN_SETTLE_H
#define WARREN_SETTLE_H

#include "job.h"
#include "link.h"
#include "publisher.h"
#include "verdict.h"

struct settler {
	const struct conf *conf;
	struct link *link; /* of the acked queues: it knows the ladder */
	struct publisher *publisher;
	char host[64];
	struct log_complaint complaint; /* of this lane */
	unsigned lane;
};

/* What was done in the end, for the log line and the counters. */
struct settlement {
	struct action action;
	enum outcome outcome; /* as it came, or UNROUTABLE when a follow-up had no queue */
	unsigned published, unroutable;
	bool lost;        /* the lease was gone: nothing took effect */
	int64_t delay_ns; /* of a retry, as the ladder rounds it */
};

/*
 * Publishes what `outcome` asks for and says how the delivery is to be settled on its channel. A
 * publish that does not work is tried again, with back-off, as long as the job's lease holds and
 * the process is not told to leave; meanwhile the thread keeps its delivery and takes no other.
 * Blocks.
 */
struct settlement settle_job(struct settler *settler, struct warren_job *job, enum outcome outcome);

/* How link_settle is to be called for an action. */
enum link_settlement settle_how(enum action_kind kind);

#endif
