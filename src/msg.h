/* A message in our own words, free of any AMQP library: properties, headers, body. Floor 1. */
#ifndef WARREN_MSG_H
#define WARREN_MSG_H

#include "arena.h"
#include "base.h"

/* The kinds of AMQP 0-9-1 field values as RabbitMQ speaks them; the letter on the wire stands
 * behind. */
enum value_kind {
	VALUE_VOID,      /* V */
	VALUE_BOOL,      /* t */
	VALUE_INT,       /* b s I l: signed; `width` remembers which */
	VALUE_UINT,      /* B u i: unsigned, as rabbitmq-c reads them */
	VALUE_DOUBLE,    /* f d */
	VALUE_DECIMAL,   /* D */
	VALUE_STRING,    /* S: should be UTF-8, may be anything */
	VALUE_BYTES,     /* x */
	VALUE_TIMESTAMP, /* T: seconds since the epoch */
	VALUE_ARRAY,     /* A */
	VALUE_TABLE,     /* F */
};

struct field;

struct value {
	uint8_t kind;  /* enum value_kind */
	uint8_t width; /* bytes on the wire for INT, UINT, DOUBLE: 1, 2, 4, 8; 0 = 8 */
	uint8_t scale; /* DECIMAL */
	union {
		bool boolean;
		int64_t integer;
		uint64_t natural; /* UINT, TIMESTAMP, DECIMAL's digits */
		double real;
		struct bytes bytes; /* STRING, BYTES */
		struct {
			struct value *items;
			size_t n;
		} array;
		struct table {
			struct field *fields;
			size_t n;
		} table;
	};
};

struct field {
	struct bytes key;
	struct value value;
};

#define V_STR(b) ((struct value){ .kind = VALUE_STRING, .bytes = (b) })
#define V_INT(n) ((struct value){ .kind = VALUE_INT, .width = 8, .integer = (n) })
#define V_BOOL(b) ((struct value){ .kind = VALUE_BOOL, .boolean = (b) })

/* Which properties of a message are present. */
enum prop {
	PROP_CONTENT_TYPE = 1 << 0,
	PROP_CONTENT_ENCODING = 1 << 1,
	PROP_HEADERS = 1 << 2,
	PROP_DELIVERY_MODE = 1 << 3,
	PROP_PRIORITY = 1 << 4,
	PROP_CORRELATION_ID = 1 << 5,
	PROP_REPLY_TO = 1 << 6,
	PROP_EXPIRATION = 1 << 7,
	PROP_MESSAGE_ID = 1 << 8,
	PROP_TIMESTAMP = 1 << 9,
	PROP_TYPE = 1 << 10,
	PROP_USER_ID = 1 << 11,
	PROP_APP_ID = 1 << 12,
	PROP_CLUSTER_ID = 1 << 13,
};

struct props {
	uint32_t present; /* of enum prop; a field whose bit is not set is empty */
	uint8_t delivery_mode;
	uint8_t priority;
	uint64_t timestamp;
	struct bytes content_type, content_encoding, correlation_id, reply_to, expiration,
	    message_id, type, user_id, app_id, cluster_id;
	struct table headers;
};

/* Why a delivery cannot be handed to a task as it is; it is dead-lettered (`refused`), an
 * unstored one is given back. */
enum msg_flaw {
	MSG_SOUND,
	MSG_TOO_LARGE,     /* the body is over max_message: it stands in a temporary file, mapped */
	MSG_HEADERS_LARGE, /* headers over 64 KiB: not kept */
	MSG_HEADERS_DEEP,  /* headers nested deeper than 16: not kept */
	MSG_HEADERS_BROKEN, /* an empty key or a value of no known kind: not kept */
	MSG_UNSTORED,       /* the body is over max_message and no file could hold it: given back */
};

enum {
	MSG_HEADERS_MAX = 64 * 1024,
	/* Above that: what the broker and warren add to a message that is retried. */
	MSG_HEADERS_ROOM = 24 * 1024,
	MSG_DEPTH_MAX = 16,
};

/*
 * One message. All bytes belong to its arena, but the body: `body_alloc` is malloc's, or, where
 * `body_map_len` is not 0, a mapping.
 */
struct msg {
	struct bytes exchange, routing_key;
	bool redelivered;
	enum msg_flaw flaw;
	struct props props;
	struct bytes body;
	void *body_alloc;
	size_t body_map_len;
};

/* The header of that name, or NULL. The first one where a name stands twice. */
const struct value *table_get(const struct table *table, const char *key);

/* The text of a string header (either kind); false when missing or of another kind. */
bool table_get_bytes(const struct table *table, const char *key, struct bytes *out);

/* A whole number of any width; false when missing, of another kind or out of range. */
bool table_get_int(const struct table *table, const char *key, int64_t *out);

/* Copies value, everything below included, into the arena; false when memory is short. Depth is
 * bounded by MSG_DEPTH_MAX, which the reader has checked. */
bool value_copy(struct arena *arena, struct value *to, const struct value *from) MUST_CHECK;

/* Frees the body. */
void msg_free_body(struct msg *msg);

const char *msg_flaw_words(enum msg_flaw flaw);

/* One value as text for people: `print`, `subscribe`, logs. Not escaped. Always terminates; returns
 * the length it wanted, as snprintf does. */
size_t value_show(const struct value *value, char *buf, size_t size);

#endif
