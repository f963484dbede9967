/*
 * One AMQP connection that several threads share: who may touch it, who reads it, what happens when
 * it is lost. Floor 2.
 *
 * The right to touch the connection is the lock, never held while a plugin runs. Reading is a role:
 * of the threads that wait for something, one at a time is the leader and reads for all of them;
 * the others sleep until what they wait for is there, or until they are made leader. So an idle
 * worker thread takes its next delivery off the socket itself, without a hand-over. When nobody
 * waits, because every thread is busy in a task, a keeper thread looks after the connection four
 * times a second: heartbeats never depend on a plugin. The keeper also connects, and connects
 * again.
 *
 * A leader that leaves with what it waited for passes the role on, which wakes another thread.
 * Where it will be back before that one has woken up, that is most of what a message costs: then it
 * keeps the role, and the keeper, which looks every millisecond as long as that happens, passes it
 * on for a leader that stays away. Its acks may wait for each other as long as it has read ahead,
 * and need not ask the socket for more.
 */
#ifndef WARREN_CONN_H
#define WARREN_CONN_H

#include <pthread.h>

#include "board.h"
#include "broker.h"

struct conn;

/* All are called with the lock held, by whichever thread has the role at that moment; none may
 * wait. */
struct conn_ops {
	/* A new connection stands: everything is built from nothing. */
	void (*up)(void *owner);
	/* It can no longer be read, but for a last word it can still be sent on (NULL: none). */
	void (*dying)(void *owner, struct broker *broker);
	/* It is lost; what was in flight on it is void. conn_broker() is NULL from now on. */
	void (*down)(void *owner, const struct broker_error *why);
	/* The owner of an EV_DELIVERY takes its arena and message, or calls event_drop. */
	void (*event)(void *owner, struct event *event);
	/* Four times a second or more often while it is up: retries, deadlines. */
	void (*tick)(void *owner, int64_t now_ns);
	/* False: leave the socket unread for now (NULL: always read). */
	bool (*may_read)(void *owner);
};

/* Something that one thread waits for. Zero-initialise, then conn_waiter_init. */
struct conn_waiter {
	pthread_cond_t cond;
	bool ready;   /* set by conn_ready, cleared by conn_wait's caller */
	bool brief;   /* the owner's: it will wait again within microseconds */
	bool waiting; /* asleep as a follower */
	struct conn_waiter *next, *prev;
	void *seat; /* the owner's, for conn_reader's caller */
};

void conn_waiter_init(struct conn_waiter *waiter);
void conn_waiter_fini(struct conn_waiter *waiter);

/* `name` is what logs and the broker call it ("work", "publish"); ops and owner stay the caller's.
 * NULL with errno when there is no descriptor for it. */
struct conn *conn_create(
    const struct conf *conf, const char *name, const struct conn_ops *ops, void *owner) MUST_CHECK;

/* Starts the keeper, which connects. False with errno when the thread cannot be made. */
bool conn_start(struct conn *conn) MUST_CHECK;

/* Says goodbye (bounded), ends the keeper, frees. No thread may be waiting any more. */
void conn_destroy(struct conn *conn);

void conn_lock(struct conn *conn);

/*
 * For threads that must not wait for a send that blocks. conn_try_lock gives up at once; conn_seize
 * waits for a second, then cuts the connection, so that whoever is stuck in it comes out.
 */
bool conn_try_lock(struct conn *conn) MUST_CHECK;
void conn_seize(struct conn *conn);
void conn_unlock(struct conn *conn);

/* The connection, or NULL while there is none. Lock held; valid until it is released. */
struct broker *conn_broker(struct conn *conn);

/*
 * To send costs more than a brief job does. True: acks may be put off, for the thread that keeps
 * the role of reading has the next job at hand already; conn_push_acks is called before anybody
 * sleeps on the socket, and at the keeper's next look at the latest. Lock held.
 */
bool conn_may_put_off(const struct conn *conn);

/* Sends the acks that were put off. False: the connection broke. Lock held. */
bool conn_push_acks(struct conn *conn);

/* Call when a send returned false: the keeper tears the connection down. Lock held. */
void conn_broken(struct conn *conn);

/*
 * Waits, lock held on entry and return, until `waiter` is ready or the monotonic deadline has
 * passed; true when ready. Meanwhile the caller may be the one who reads for all.
 */
bool conn_wait(struct conn *conn, struct conn_waiter *waiter, int64_t deadline_ns);

/* For what is called with an event: the waiter of the thread that reads it, NULL for the keeper's.
 */
struct conn_waiter *conn_reader(struct conn *conn);

/* What `waiter` waits for is there. Lock held. */
void conn_ready(struct conn *conn, struct conn_waiter *waiter);

/* Asks the keeper to read without pause until told otherwise: while things are being built and no
 * worker thread is waiting. Lock held. */
void conn_hurry(struct conn *conn, bool hurry);

/* All is built up on this connection: if it stays so for a while, back-off starts anew. Lock held.
 */
void conn_is_good(struct conn *conn);

/* No more attempts to connect after this; a standing connection goes on. Lock held. */
void conn_no_reconnect(struct conn *conn);

/*
 * Called once a second by the worker's watching thread, without the lock: shuts a socket down whose
 * holder has been stuck in a send, without a byte getting away, for longer than max(2 heartbeats,
 * 30 s). True when it did.
 */
bool conn_watch(struct conn *conn, int64_t now_ns);

/* How it stands, for the scoreboard. Lock held. */
void conn_describe(const struct conn *conn, struct board_conn *out);

/* Why there is no connection, for the status; empty when there is one. Lock held. */
const char *conn_trouble(const struct conn *conn);

#endif
