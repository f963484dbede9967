/*
 * What worker processes say about their connections and queues, and what the operator wishes of
 * them: records on the scoreboard beside the rows. Floor 1.
 */
#ifndef WARREN_BOARD_H
#define WARREN_BOARD_H

#include "seqlock.h"

/* The connections of a worker process. */
enum board_which { BOARD_WORK, BOARD_UNACKED, BOARD_PUBLISH, BOARD_CONNECTIONS };

enum board_conn_state {
	BOARD_NO_CONN, /* the process has no such connection, or there is no process */
	BOARD_DOWN,
	BOARD_UP,
	BOARD_BLOCKED, /* by an alarm of the broker: it takes nothing that is published */
};

/* Times are on CLOCK_MONOTONIC, which all processes share; 0 is never. */
struct board_conn {
	int32_t state; /* enum board_conn_state */
	uint32_t spare;
	int64_t since_ns, retry_at_ns, error_at_ns;
	char broker[192]; /* the URL, without its password */
	char product[64]; /* "RabbitMQ 3.10.8" */
	char error[528];  /* why it was lost or cannot be made; kept when it is up again */
};

enum board_source_state {
	BOARD_NO_QUEUE,  /* not consumed by this process */
	BOARD_BUILDING,  /* not all consumers are there */
	BOARD_WAITING,   /* as that, and `text` says what went wrong; tried again at retry_at_ns */
	BOARD_HELD,      /* exclusive, and another generation still has it */
	BOARD_CONSUMING, /* every consumer is confirmed */
	BOARD_PAUSED,    /* the operator has paused it */
};

/* A queue, as one worker process consumes it. */
struct board_source {
	int32_t state; /* enum board_source_state */
	int32_t code;  /* AMQP's word for what went wrong, 404; 0 none */
	uint32_t threads, consuming;
	uint32_t unacked; /* deliveries in hand */
	uint32_t spare;
	int64_t since_ns, retry_at_ns;
	int64_t ready, dead; /* messages in the queue, and in its dead-letter queue; -1: unknown */
	int64_t seen_ns;     /* when they were looked at */
	char text[512];
};

struct board_conn_row {
	atomic_uint seq;
	_Alignas(8) struct board_conn conn;
};

struct board_source_row {
	atomic_uint seq;
	_Alignas(8) struct board_source source;
};

void board_write_conn(struct board_conn_row *row, const struct board_conn *conn);
void board_write_source(struct board_source_row *row, const struct board_source *source);
/* False when nothing is known: no such thing, or its writer died while writing. */
bool board_read_conn(const struct board_conn_row *row, struct board_conn *conn) MUST_CHECK;
bool board_read_source(const struct board_source_row *row, struct board_source *source) MUST_CHECK;

/* What the operator wishes of a queue; written by the supervisor. */
struct board_wish {
	atomic_uint paused;
	atomic_uint threads; /* in each worker process; read when one starts */
};

#endif
