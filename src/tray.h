/*
 * The messages of one queue, taken one after the other and held without an acknowledgement, so that
 * whatever is not settled goes back to its place. Floor 4, for `warren dead`.
 *
 * They are fetched (basic.get), a few ahead, because what a broker pushes to a consumer has no
 * bound in bytes, and ends at 2000 messages where the queue is a quorum queue. Here are at most a
 * few MiB of bodies, or one message; the broker holds what was taken, and keeps bodies on its disk.
 */
#ifndef WARREN_TRAY_H
#define WARREN_TRAY_H

#include "broker.h"

struct tray;

/* `queue` must stay. Give the tray to tray_open before anything else. */
struct tray *tray_create(struct broker *broker, const char *queue);
void tray_destroy(struct tray *tray);

/* Each of these returns EXIT_OK, or an exit code after saying what is wrong; then nothing is held
 * any more, and all that follow return the same. */

/* Takes at most `most` messages from now on, from the head of the queue. */
int tray_open(struct tray *tray, uint64_t most) MUST_CHECK;

/* The next message, EV_GOT, or EV_NONE where there is none. Its receiver drops it. */
int tray_take(struct tray *tray, struct event *event) MUST_CHECK;

/* It is gone from the queue. */
int tray_ack(struct tray *tray, uint64_t tag) MUST_CHECK;

enum posted {
	POSTED,          /* a queue has it, for certain */
	POST_UNROUTABLE, /* there is no such queue */
	POST_REFUSED,    /* the broker could not keep it: the queue is full, say */
	POST_INVALID,    /* it cannot be said in AMQP */
};

/*
 * Publishes a message, mandatory, and waits for the broker's word on it. The next ack travels
 * behind it on the same channel, so that whatever ends this process there is one message at most
 * whose copy is out while itself is not acked. Other codes than EXIT_OK: nobody knows whether it is
 * out.
 */
int tray_post(struct tray *tray, const struct outgoing *message, enum posted *how) MUST_CHECK;

/* Serves the connection until the monotonic deadline, or a signal that stops (cmd_stopped). */
int tray_idle(struct tray *tray, int64_t deadline_ns) MUST_CHECK;

/* Everything that was asked for has come: other channels can be used with dialog_answer. */
int tray_pause(struct tray *tray) MUST_CHECK;

/* Gives back, each to its place, what was taken and not acked. From RabbitMQ 4.3 on waits until it
 * is there, or none has come for 2 s. tray_open begins anew. */
int tray_give_back(struct tray *tray) MUST_CHECK;

#endif
