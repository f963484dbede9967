/*
 * The copy of a message that warren republishes (retry, dead letter): it keeps body and properties,
 * drops what the broker added or what would act twice, and says in headers what happened. Floor 1.
 */
#ifndef WARREN_COPY_H
#define WARREN_COPY_H

#include "job.h"
#include "verdict.h"

struct copy_stamp {
	const char *verdict; /* x-warren-verdict */
	int attempt;         /* of the copy: the next one for a retry, this one for a dead letter */
	int64_t now_wall_ms;
	const char *host;
	const char *plugin; /* "name/version", NULL when no plugin ran */
	int crashes;        /* 0: what the message carries is kept */
	const char *signal; /* NULL: likewise */
};

/*
 * Fills `out` (properties and headers; the body is the message's own) from arena memory of the job
 * and from what the job, its queue and its message hold: persistent, no expiration, no user_id,
 * headers without CC, BCC, x-death, x-first-death-*, x-last-death-*, x-delivery-count,
 * x-acquired-count, x-delay, and without older x-warren-* ones (x-warren-crashes and -signal stay,
 * unless the stamp names others). Names (queue, exchange, routing key) travel byte by byte; words
 * (task, reason, host, plugin) are made one line of valid UTF-8, the reason of at most 1 KiB. Where
 * the message's own headers were not kept (msg_flaw), the copy says so in x-warren-reason. If all
 * headers would exceed MSG_HEADERS_MAX and MSG_HEADERS_ROOM, the message's own are left out and the
 * reason says so. Does not set exchange and routing key. False when memory is short.
 */
bool copy_make(
    struct warren_job *job, const struct copy_stamp *stamp, struct outgoing *out) MUST_CHECK;

/* The reply to a job: default exchange, reply_to as key, correlation_id copied (message_id where
 * there is none), the trace context carried on, persistent when the message was. `content_type` may
 * be empty; it and the body are copied. */
bool copy_reply(struct warren_job *job, struct bytes content_type, struct bytes body,
    struct outgoing *out) MUST_CHECK;

/* True for a header that the broker or warren adds and that never travels on a copy. */
bool copy_drops_header(struct bytes key);

/* Encoded size of a table on the AMQP wire (RabbitMQ's field table grammar). */
size_t copy_table_size(const struct table *table);

#endif
