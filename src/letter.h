/*
 * A dead letter: what its headers say of its death, whether an operator's filter means it, and the
 * copy of it that is replayed. Floor 1.
 */
#ifndef WARREN_LETTER_H
#define WARREN_LETTER_H

#include "job.h"
#include "msg.h"

/*
 * What is known of it. A dead letter that warren wrote says so in x-warren headers; one that the
 * broker moved itself (a quorum queue that gave a message up, a delay whose queue is gone) in
 * x-death, and its x-warren headers hold only where it had been through queues of warren's.
 * Everything points into the message, and was chosen by whoever could publish it.
 */
struct letter {
	struct bytes message_id;
	struct bytes queue;                               /* it came from; empty: unknown */
	struct bytes task, verdict, reason, host, plugin; /* empty: not said */
	bool has_origin; /* where it was first published is known: */
	struct bytes exchange, routing_key;
	int64_t attempts; /* how often it was tried; 0: unknown */
	int64_t at_ms;    /* since when it is dead; 0: unknown */
	bool trusted;     /* the other x-warren headers hold */
};

void letter_read(const struct msg *msg, struct letter *letter);

struct letter_header {
	const char *name, *value;
};

/* All that is set must hold. Zero-initialise, but the ages. */
struct letter_filter {
	const char *task;           /* a pattern, as text_match knows them */
	const char *reason;         /* a part of it */
	const char *verdict;        /* the word */
	const char *queue;          /* that it came from */
	int64_t older_ns, newer_ns; /* -1: not asked for. What has no known age is neither */
	const struct letter_header *headers; /* each has this value, as value_show writes it */
	size_t n_headers;
};

bool letter_matches(const struct letter_filter *filter, const struct letter *letter,
    const struct msg *msg, int64_t now_wall_ms);

/*
 * The copy that is replayed to `queue`, in arena memory and that of the message: persistent, with
 * the message's own headers as copy_make keeps them, attempt 1, no crashes, and no expiry that has
 * passed. Where it was first published and its last verdict stay. Does not set exchange and routing
 * key. False when memory is short.
 */
bool letter_replay(const struct letter *letter, const struct msg *msg, struct bytes queue,
    int64_t now_wall_ms, struct arena *arena, struct outgoing *out) MUST_CHECK;

/*
 * The message as it is, to be put behind the others of its queue: without the broker's count of
 * how often it was handed out. False when memory is short.
 */
bool letter_renew(const struct msg *msg, struct arena *arena, struct outgoing *out) MUST_CHECK;

/* How often the broker says that it was handed out before; 0 where it does not count. */
int64_t letter_deliveries(const struct msg *msg);

#endif
