/*
 * AMQP 0-9-1 frames, as a proxy sees them: where one ends, what it is called, what it says. Reads
 * only; believes no length that it has not checked.
 */
#ifndef FAULTS_FRAME_H
#define FAULTS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum scan {
	SCAN_MORE,  /* the frame is not whole yet */
	SCAN_FRAME, /* `frame` is filled */
	SCAN_ALIEN, /* this is not AMQP; nothing after it can be told apart either */
};

enum { FRAME_LEN_AT = 3, FRAME_HEAD = 7, FRAME_REST = 8, FRAME_KINDS_MAX = 64 };

/* The words of the kinds that are no methods. */
enum { KIND_UNKNOWN, KIND_PROTOCOL, KIND_HEADER, KIND_BODY, KIND_HEARTBEAT, KIND_FIRST_METHOD };

struct frame {
	const unsigned char *data; /* all of it, its first and its last byte too */
	size_t len;
	unsigned kind, channel;
};

/* Looks at what a stream holds next. The first thing of a client's stream is "AMQP" and four bytes.
 */
enum scan frame_scan(const unsigned char *data, size_t len, struct frame *frame);

/* "basic.ack", "header", ...; "?" for a method that nobody needs to tell apart. */
const char *frame_kind_name(unsigned kind);
/* KIND_UNKNOWN where there is no such word. */
unsigned frame_kind_find(const char *name);

/* What is worth knowing of it, in "key=value" words; bytes that could confuse a reader become '.'.
 */
void frame_describe(const struct frame *frame, char *text, size_t size);

/* The connection's name in a connection.start-ok's client properties; false where there is none. */
bool frame_client_name(const struct frame *frame, char *name, size_t size);

/* Where in a header frame the kind of the first entry of `headers` stands; 0: it has no headers. */
size_t frame_first_header_kind(const struct frame *frame);

bool frame_holds(const struct frame *frame, const char *text);

#endif
