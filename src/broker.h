/*
 * One AMQP 0-9-1 connection in our own words: the only door to rabbitmq-c. Floor 2.
 *
 * rabbitmq-c serves here as codec, socket, handshake and heartbeat timer; its consume, read and RPC
 * wrappers are never used once a connection is up, because they drop and hide frames. It makes a
 * system call for each frame, so the acks of jobs are written and sent here, many at once. Methods
 * are sent without waiting, and what the broker says comes back as events, one channel's order
 * kept.
 *
 * A connection belongs to one thread at a time; the caller sees to it (conn.h). Any thread that
 * calls broker_read needs a stack of 8 MiB: rabbitmq-c before 0.14 decodes nested headers by
 * recursion. Every send may block while the broker does not read; broker_shutdown from another
 * thread ends it.
 */
#ifndef WARREN_BROKER_H
#define WARREN_BROKER_H

#include "conf.h"
#include "job.h"
#include "msg.h"

enum { BROKER_STACK_SIZE = 8 * 1024 * 1024, BROKER_TEXT_MAX = 256, BROKER_NAME_MAX = 255 };

enum broker_fault {
	FAULT_NONE,
	FAULT_DNS,        /* the host name has no address */
	FAULT_CONNECT,    /* nobody listens, or no way there */
	FAULT_TIMEOUT,    /* connecting, the handshake or a frame took too long */
	FAULT_TLS,        /* certificate, host name, protocol version */
	FAULT_AUTH,       /* 403: the broker does not take these credentials */
	FAULT_VHOST,      /* 530: no such virtual host, or not for this user */
	FAULT_FILE,       /* a certificate, key or password file of ours cannot be used */
	FAULT_LOST,       /* the broker or the network closed the connection */
	FAULT_HEARTBEAT,  /* nothing was heard for two heartbeat intervals */
	FAULT_CLOSED,     /* the broker closed the connection and said why: code and text */
	FAULT_PROTOCOL,   /* what came is not AMQP as we know it */
	FAULT_UNREADABLE, /* a message whose headers cannot be decoded: channel, tag */
	FAULT_MEMORY,
};

struct broker_error {
	enum broker_fault fault;
	int code;                   /* AMQP reply code, 0 none */
	char text[BROKER_TEXT_MAX]; /* for people; the broker's words are not yet escaped */
	/* FAULT_UNREADABLE: whose delivery it was. */
	unsigned channel;
	uint64_t tag;
	bool redelivered;
};

/* "auth", "heartbeat", ...: the word for logs. */
const char *broker_fault_word(enum broker_fault fault);

enum event_kind {
	EV_NONE,             /* nothing more to read now */
	EV_LOST,             /* the connection is dead; broker_last_error says why */
	EV_OPENED,           /* channel */
	EV_CLOSED_BY_BROKER, /* channel, code, text: answered already; the number may be opened
				again */
	EV_CLOSED,           /* channel: our channel.close was answered */
	EV_QOS_OK,
	EV_CONSUMING,  /* consume-ok; name = consumer tag */
	EV_CANCELLED,  /* the broker cancelled the consumer: close the channel and build it anew */
	EV_CANCEL_OK,  /* our basic.cancel was answered */
	EV_DELIVERY,   /* arena, msg, tag: the receiver owns them */
	EV_RETURNED,   /* a mandatory message had no queue; its confirm follows. code, text */
	EV_CONFIRMING, /* confirm.select-ok */
	EV_CONFIRMED,  /* tag, multiple */
	EV_REFUSED,    /* tag, multiple: basic.nack from the broker */
	EV_EXCHANGE_OK,
	EV_QUEUE_OK, /* name, messages, consumers */
	EV_BIND_OK,  /* bound, or unbound */
	EV_BLOCKED,  /* text: the broker's alarm; it reads no more from this connection */
	EV_UNBLOCKED,
	EV_GOT, /* basic.get-ok: as EV_DELIVERY, messages = how many are left */
	EV_GET_EMPTY,
	EV_PURGED, /* queue.purge-ok or delete-ok: messages */
};

struct event {
	enum event_kind kind;
	unsigned channel;
	uint64_t tag;
	bool multiple;
	int code;
	uint32_t messages, consumers;
	char text[BROKER_TEXT_MAX];
	char name[BROKER_NAME_MAX + 1];
	/* EV_DELIVERY, EV_GOT, EV_RETURNED (without its body). */
	struct arena *arena;
	struct msg msg;
};

struct broker;

/*
 * Connects to conf->urls[url], TLS and login included, within conf->connect_timeout_ns. `name` is
 * shown by the broker as the connection's name. Blocks (name resolution without a bound of ours).
 * Bodies over max_message are spooled to a temporary file. NULL with the reason in `error`.
 */
struct broker *broker_connect(const struct conf_broker *conf, size_t url, const char *name,
    int64_t max_message, struct broker_error *error) MUST_CHECK;

/* Says goodbye if the connection still stands (waits at most `wait_ms` for the answer) and frees
 * it. */
void broker_destroy(struct broker *broker, int wait_ms);

int broker_fd(const struct broker *broker);

/* Whether something has come off the socket that broker_read has not given out: a frame, or a part
 * of one. */
bool broker_read_ahead(const struct broker *broker);

/* Whether broker_read may find something although the socket has nothing. */
bool broker_holds_more(const struct broker *broker);

/* Ends every call that blocks in this connection. The one function that any thread may call, given
 * that the connection is not destroyed meanwhile. */
void broker_shutdown(int fd);

/*
 * One step without blocking: sends a heartbeat if one is due, reads what is there, and fills
 * `event`. Call until EV_NONE before waiting on broker_fd, or messages that are already in memory
 * would wait. After EV_LOST only broker_destroy makes sense.
 */
void broker_read(struct broker *broker, struct event *event);

/* Frees what an event that nobody wants carries. */
void event_drop(struct event *event);

const struct broker_error *broker_last_error(const struct broker *broker);

/* "RabbitMQ 3.10.8", from the server's properties. */
const char *broker_product(const struct broker *broker);
/* Major * 100 + minor, 310; 0 unknown. */
int broker_version(const struct broker *broker);
unsigned broker_channel_max(const struct broker *broker);
/* The shorter of what we asked for and what the server wants. */
int64_t broker_heartbeat_ns(const struct broker *broker);

/* Sends a heartbeat now: for a connection that is deliberately not read. */
bool broker_heartbeat(struct broker *broker) MUST_CHECK;

/* True when a send of ordinary size would not block at this moment. */
bool broker_writable(const struct broker *broker);

/*
 * Each of these sends one method; false means that the connection is lost. The answer comes as an
 * event. A name longer than 255 bytes is our own mistake: the configuration and publishers check.
 */
bool broker_open_channel(struct broker *broker, unsigned channel) MUST_CHECK;
bool broker_close_channel(struct broker *broker, unsigned channel) MUST_CHECK;
bool broker_qos(struct broker *broker, unsigned channel, unsigned prefetch) MUST_CHECK;
bool broker_select(struct broker *broker, unsigned channel) MUST_CHECK;
bool broker_ack(struct broker *broker, unsigned channel, uint64_t tag) MUST_CHECK;
/*
 * The same, but it may leave only with the next thing that is sent, with broker_push_acks, or when
 * broker_read asks the socket: many acks then cost one system call. Of what was put off and could
 * not be sent, broker_push_acks says false.
 */
bool broker_put_off_ack(struct broker *broker, unsigned channel, uint64_t tag) MUST_CHECK;
bool broker_push_acks(struct broker *broker) MUST_CHECK;
/* Gives the message back: for what is not its fault. */
bool broker_nack(struct broker *broker, unsigned channel, uint64_t tag) MUST_CHECK;
/* The same for all of the channel that are neither acked nor given back. */
bool broker_nack_all(struct broker *broker, unsigned channel) MUST_CHECK;
/* Rejects without requeue: it goes to the queue's dead-letter exchange or is dropped. */
bool broker_reject(struct broker *broker, unsigned channel, uint64_t tag) MUST_CHECK;
bool broker_cancel(struct broker *broker, unsigned channel, const char *consumer_tag) MUST_CHECK;
bool broker_get(struct broker *broker, unsigned channel, const char *queue) MUST_CHECK;

struct consume {
	const char *queue, *consumer_tag;
	bool no_ack, exclusive;
	int priority; /* 0: not sent */
};
bool broker_consume(
    struct broker *broker, unsigned channel, const struct consume *consume) MUST_CHECK;

/*
 * Asks whether we may consume from the queue, and takes nothing: the consumer's x-priority is a
 * text, which RabbitMQ looks at last. 406: we may; 403: no permission to read; 404, 405: no such
 * queue, or another connection's, and we may read it.
 */
bool broker_consume_in_vain(struct broker *broker, unsigned channel, const char *queue) MUST_CHECK;

struct step; /* topology.h */
bool broker_declare(struct broker *broker, unsigned channel, const struct step *step) MUST_CHECK;
/* Takes the binding of a STEP_BIND or STEP_BIND_EXCHANGE away. One that is not there is no error.
 */
bool broker_unbind(struct broker *broker, unsigned channel, const struct step *step) MUST_CHECK;

enum publish_sent {
	SENT,         /* it counts: the channel's next confirm number is its own */
	SENT_NOTHING, /* the message cannot be encoded; nothing went out; `why` says what is wrong
		       */
	SENT_LOST,    /* the connection is lost; whether the broker has it is unknown */
};

/* Publishes with the mandatory flag as given. `why` may be NULL. */
enum publish_sent broker_publish(struct broker *broker, unsigned channel,
    const struct outgoing *message, bool mandatory, char *why, size_t why_size) MUST_CHECK;

/*
 * Between these what is sent may be held back by the kernel for up to 200 ms, so that many messages
 * share a packet; broker_flush sends what is held now.
 */
void broker_hold(struct broker *broker);
void broker_flush(struct broker *broker);
void broker_release(struct broker *broker);

/* Call once per process before the first connection and before any thread. */
void broker_init(void);

/* For a program whose main thread reads frames: its stack grows up to BROKER_STACK_SIZE and more.
 */
void broker_widen_stack(void);

#endif
