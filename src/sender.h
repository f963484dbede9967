/*
 * Publishes on one channel with a bounded window, so that any number of messages streams through:
 * counts confirms, matches returns and replies by message id, prints replies in the order
 * published. Floor 4, for `warren publish`.
 */
#ifndef WARREN_SENDER_H
#define WARREN_SENDER_H

#include "broker.h"

struct sender_rules {
	int64_t timeout_ns; /* how long the broker may confirm nothing, or block us by an alarm */
	int64_t wait_ns;    /* how long no reply may come */
	bool wait;          /* each message gets a reply: printed, in the order published */
	bool allow_unroutable; /* a message that no queue took is not worth a word */
	uint64_t total;        /* of messages, for the progress bar; 0: unknown */
};

struct sender_counts {
	uint64_t published, confirmed, unroutable, refused, replies;
};

struct sender;

/* The broker's DIALOG_CHANNEL is open and nobody else's. */
struct sender *sender_create(struct broker *broker, const struct sender_rules *rules);
void sender_destroy(struct sender *sender);

/* Each of these returns EXIT_OK, or an exit code after saying what is wrong; then only destroy. */
int sender_start(struct sender *sender) MUST_CHECK;

/* Publishes when the window has room. The message_id is set and differs from those in flight. Where
 * replies are awaited, sets reply_to and correlation_id. */
int sender_publish(struct sender *sender, struct outgoing *message) MUST_CHECK;

/* Listens to the broker until the descriptor is readable. */
int sender_idle(struct sender *sender, int fd) MUST_CHECK;

/* Waits until everything is confirmed and answered. The code says how all of it went: refused, or
 * unroutable, or without a reply. */
int sender_finish(struct sender *sender) MUST_CHECK;

const struct sender_counts *sender_counts(const struct sender *sender);

#endif
