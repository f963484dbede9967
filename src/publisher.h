/*
 * Publishes what follows from jobs, on a connection of its own: with confirms, mandatory, one
 * message of a lane at a time, so that a message that comes back is never mistaken for another.
 * Floor 2.
 */
#ifndef WARREN_PUBLISHER_H
#define WARREN_PUBLISHER_H

#include "conn.h"
#include "job.h"

struct publisher;

enum published {
	PUBLISHED,          /* the broker has it, and routed it */
	PUBLISH_UNROUTABLE, /* no queue took it: the broker has forgotten it */
	PUBLISH_NACKED,  /* the broker could not keep it: a full queue, a queue process that died */
	PUBLISH_REFUSED, /* it closed the channel over it: code and text */
	PUBLISH_INVALID, /* it cannot be said in AMQP: nothing was sent */
	PUBLISH_IN_DOUBT, /* the connection went away, or no confirm came in time */
	PUBLISH_BLOCKED,  /* no connection, or the broker's alarm, for all the time there was */
};

struct publish_answer {
	enum published result;
	int code;
	char text[BROKER_TEXT_MAX];
};

const char *published_word(enum published result);

/* How to publish. */
enum {
	PUBLISH_MANDATORY = 1, /* no queue is a failure */
	PUBLISH_PATIENT =
	    2, /* what an alarm of the broker holds back is waited for, however long */
};

/* `lanes`: one for each thread that may publish at the same time, and its channel. NULL with errno
 * when there is no descriptor for it. */
struct publisher *publisher_create(const struct conf *conf, unsigned lanes) MUST_CHECK;
bool publisher_start(struct publisher *publisher) MUST_CHECK;
void publisher_destroy(struct publisher *publisher);

/*
 * Publishes one message on `lane` and waits for the broker's word on it, at the latest until the
 * monotonic deadline. The message stays the caller's. Blocks; one thread for each lane; stack
 * BROKER_STACK_SIZE.
 */
enum published publisher_publish(struct publisher *publisher, unsigned lane,
    const struct outgoing *message, unsigned how, int64_t deadline_ns,
    struct publish_answer *answer);

/* Ends all waiting, now and later: what is out is in doubt. The last thing before the process
 * leaves. */
void publisher_interrupt(struct publisher *publisher);

/* Why publishing does not work now, or "". Never waits: false while somebody holds the connection.
 */
bool publisher_trouble(struct publisher *publisher, char *text, size_t size);

/* How its connection stands, for the scoreboard. Likewise never waits. */
bool publisher_describe(struct publisher *publisher, struct board_conn *out);

bool publisher_watch(struct publisher *publisher, int64_t now_ns);

#endif
