/* Frames of AMQP 0-9-1: their ends, names and words. */
#include "frame.h"

#include <stdio.h>
#include <string.h>

enum {
	TYPE_METHOD = 1,
	TYPE_HEADER = 2,
	TYPE_BODY = 3,
	TYPE_HEARTBEAT = 8,
	FRAME_END = 0xce,
	LONGEST = 1 << 20, /* what is longer is no frame of anybody's */
	FLAG_CONTENT_TYPE = 1 << 15,
	FLAG_CONTENT_ENCODING = 1 << 14,
	FLAG_HEADERS = 1 << 13,
	FLAG_DELIVERY_MODE = 1 << 12,
	FLAG_PRIORITY = 1 << 11,
	FLAG_CORRELATION_ID = 1 << 10,
	FLAG_REPLY_TO = 1 << 9,
	FLAG_EXPIRATION = 1 << 8,
	FLAG_MESSAGE_ID = 1 << 7,
	PROPERTIES_AT = FRAME_HEAD + 12, /* behind class, weight and body size */
};

static const struct kind {
	const char *name;
	unsigned class_id, method_id; /* 0: no method */
} kinds[] = {
	{ "?", 0, 0 },
	{ "protocol", 0, 0 },
	{ "header", 0, 0 },
	{ "body", 0, 0 },
	{ "heartbeat", 0, 0 },
	{ "connection.start", 10, 10 },
	{ "connection.start-ok", 10, 11 },
	{ "connection.tune", 10, 30 },
	{ "connection.tune-ok", 10, 31 },
	{ "connection.open", 10, 40 },
	{ "connection.open-ok", 10, 41 },
	{ "connection.close", 10, 50 },
	{ "connection.close-ok", 10, 51 },
	{ "connection.blocked", 10, 60 },
	{ "connection.unblocked", 10, 61 },
	{ "channel.open", 20, 10 },
	{ "channel.open-ok", 20, 11 },
	{ "channel.close", 20, 40 },
	{ "channel.close-ok", 20, 41 },
	{ "exchange.declare", 40, 10 },
	{ "exchange.declare-ok", 40, 11 },
	{ "exchange.bind", 40, 30 },
	{ "exchange.bind-ok", 40, 31 },
	{ "queue.declare", 50, 10 },
	{ "queue.declare-ok", 50, 11 },
	{ "queue.bind", 50, 20 },
	{ "queue.bind-ok", 50, 21 },
	{ "basic.qos", 60, 10 },
	{ "basic.qos-ok", 60, 11 },
	{ "basic.consume", 60, 20 },
	{ "basic.consume-ok", 60, 21 },
	{ "basic.cancel", 60, 30 },
	{ "basic.cancel-ok", 60, 31 },
	{ "basic.publish", 60, 40 },
	{ "basic.return", 60, 50 },
	{ "basic.deliver", 60, 60 },
	{ "basic.ack", 60, 80 },
	{ "basic.reject", 60, 90 },
	{ "basic.nack", 60, 120 },
	{ "confirm.select", 85, 10 },
	{ "confirm.select-ok", 85, 11 },
};

enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };
_Static_assert(sizeof(kinds) / sizeof(kinds[0]) <= (size_t)FRAME_KINDS_MAX,
    "counters have room for every kind");

const char *frame_kind_name(unsigned kind)
{
	return kinds[kind < N_KINDS ? kind : KIND_UNKNOWN].name;
}

unsigned frame_kind_find(const char *name)
{
	for (unsigned i = KIND_PROTOCOL; i < N_KINDS; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return i;
	return KIND_UNKNOWN;
}

/* ---- reading what may be too short ---- */

/* Behind the end everything is zero and empty, and `short_of` says so. */
struct reader {
	const unsigned char *at, *end;
	bool short_of;
};

static uint64_t take(struct reader *r, size_t bytes)
{
	uint64_t n = 0;
	if ((size_t)(r->end - r->at) < bytes) {
		r->at = r->end;
		r->short_of = true;
		return 0;
	}
	for (; bytes; bytes--)
		n = n << 8 | *r->at++;
	return n;
}

static const unsigned char *skip(struct reader *r, uint64_t bytes)
{
	const unsigned char *at = r->at;
	if ((uint64_t)(r->end - r->at) < bytes) {
		r->at = r->end;
		r->short_of = true;
		return r->end;
	}
	r->at += bytes;
	return at;
}

static struct reader payload_of(const struct frame *frame)
{
	if (frame->len < FRAME_REST)
		return (struct reader){ frame->data, frame->data, true };
	return (struct reader){ frame->data + FRAME_HEAD, frame->data + frame->len - 1, false };
}

/* ---- scanning ---- */

static unsigned method_kind(const struct frame *frame)
{
	struct reader r = payload_of(frame);
	unsigned class_id = (unsigned)take(&r, 2), method_id = (unsigned)take(&r, 2);
	for (unsigned i = KIND_FIRST_METHOD; i < N_KINDS; i++)
		if (kinds[i].class_id == class_id && kinds[i].method_id == method_id)
			return i;
	return KIND_UNKNOWN;
}

static unsigned kind_of(const struct frame *frame)
{
	switch (frame->data[0]) {
	case TYPE_METHOD:
		return method_kind(frame);
	case TYPE_HEADER:
		return KIND_HEADER;
	case TYPE_BODY:
		return KIND_BODY;
	case TYPE_HEARTBEAT:
		return KIND_HEARTBEAT;
	default:
		return KIND_UNKNOWN;
	}
}

static bool begins_protocol(const unsigned char *data, size_t len)
{
	return memcmp(data, "AMQP", len < 4 ? len : 4) == 0;
}

enum scan frame_scan(const unsigned char *data, size_t len, struct frame *frame)
{
	if (len == 0)
		return SCAN_MORE;
	*frame = (struct frame){ .data = data, .kind = KIND_PROTOCOL, .len = FRAME_REST };
	if (begins_protocol(data, len))
		return len < FRAME_REST ? SCAN_MORE : SCAN_FRAME;
	if (data[0] != TYPE_METHOD && data[0] != TYPE_HEADER && data[0] != TYPE_BODY &&
	    data[0] != TYPE_HEARTBEAT)
		return SCAN_ALIEN;
	if (len < FRAME_HEAD)
		return SCAN_MORE;
	struct reader r = { data + 1, data + FRAME_HEAD, false };
	frame->channel = (unsigned)take(&r, 2);
	frame->len = (size_t)take(&r, 4) + FRAME_REST;
	if (frame->len > LONGEST)
		return SCAN_ALIEN;
	if (len < frame->len)
		return SCAN_MORE;
	if (data[frame->len - 1] != FRAME_END)
		return SCAN_ALIEN;
	frame->kind = kind_of(frame);
	return SCAN_FRAME;
}

/* ---- words ---- */

/* Text that grows, and stays within its bound. */
struct words {
	char *text;
	size_t size, len;
};

static void say_number(struct words *w, const char *key, uint64_t n)
{
	int len = snprintf(w->text + w->len, w->size - w->len, "%s%s=%llu", w->len ? " " : "", key,
	    (unsigned long long)n);
	w->len = (size_t)len < w->size - w->len ? w->len + (size_t)len : w->size - 1;
}

static void say_text(struct words *w, const char *key, const unsigned char *text, size_t len)
{
	int n = snprintf(w->text + w->len, w->size - w->len, "%s%s=", w->len ? " " : "", key);
	w->len = (size_t)n < w->size - w->len ? w->len + (size_t)n : w->size - 1;
	for (size_t i = 0; i < len && i < 80 && w->len + 1 < w->size; i++)
		w->text[w->len++] = text[i] > ' ' && text[i] < 127 ? (char)text[i] : '.';
	w->text[w->len] = '\0';
}

static void say_short(struct words *w, const char *key, struct reader *r)
{
	uint64_t len = take(r, 1);
	const unsigned char *text = skip(r, len);
	if (!r->short_of)
		say_text(w, key, text, len);
}

static void describe_method(const struct frame *frame, struct words *w)
{
	struct reader r = payload_of(frame);
	const char *name = frame_kind_name(frame->kind);
	(void)skip(&r, 4);
	if (strcmp(name, "basic.deliver") == 0) {
		(void)skip(&r, take(&r, 1));
		say_number(w, "tag", take(&r, 8));
		say_number(w, "redelivered", take(&r, 1));
		say_short(w, "exchange", &r);
		say_short(w, "key", &r);
	} else if (strcmp(name, "basic.publish") == 0) {
		(void)skip(&r, 2);
		say_short(w, "exchange", &r);
		say_short(w, "key", &r);
	} else if (strcmp(name, "basic.ack") == 0 || strcmp(name, "basic.nack") == 0 ||
		   strcmp(name, "basic.reject") == 0) {
		say_number(w, "tag", take(&r, 8));
		say_number(w, "bits", take(&r, 1));
	}
}

/* The properties of a header frame up to message_id, in their order on the wire. */
static void describe_header(const struct frame *frame, struct words *w)
{
	struct reader r = payload_of(frame);
	(void)skip(&r, 4);
	say_number(w, "size", take(&r, 8));
	unsigned flags = (unsigned)take(&r, 2);
	if (flags & FLAG_CONTENT_TYPE)
		(void)skip(&r, take(&r, 1));
	if (flags & FLAG_CONTENT_ENCODING)
		(void)skip(&r, take(&r, 1));
	if (flags & FLAG_HEADERS)
		(void)skip(&r, take(&r, 4));
	if (flags & FLAG_DELIVERY_MODE)
		(void)skip(&r, 1);
	if (flags & FLAG_PRIORITY)
		(void)skip(&r, 1);
	if (flags & FLAG_CORRELATION_ID)
		say_short(w, "correlation", &r);
	if (flags & FLAG_REPLY_TO)
		(void)skip(&r, take(&r, 1));
	if (flags & FLAG_EXPIRATION)
		(void)skip(&r, take(&r, 1));
	if (flags & FLAG_MESSAGE_ID)
		say_short(w, "id", &r);
}

void frame_describe(const struct frame *frame, char *text, size_t size)
{
	struct words w = { text, size, 0 };
	struct reader r = payload_of(frame);
	text[0] = '\0';
	if (frame->kind == KIND_HEADER)
		describe_header(frame, &w);
	else if (frame->kind == KIND_BODY)
		say_text(&w, "text", r.at, (size_t)(r.end - r.at));
	else if (frame->kind >= KIND_FIRST_METHOD)
		describe_method(frame, &w);
}

static const unsigned char *find(const struct frame *frame, const char *text)
{
	size_t len = strlen(text);
	for (size_t i = 0; len && i + len <= frame->len; i++)
		if (memcmp(frame->data + i, text, len) == 0)
			return frame->data + i;
	return NULL;
}

bool frame_holds(const struct frame *frame, const char *text)
{
	return find(frame, text) != NULL;
}

bool frame_client_name(const struct frame *frame, char *name, size_t size)
{
	static const char key[] = "connection_name";
	const unsigned char *at = find(frame, key);
	if (!at)
		return false;
	struct reader r = { at + sizeof(key) - 1, frame->data + frame->len, false };
	if (take(&r, 1) != 'S')
		return false;
	uint64_t len = take(&r, 4);
	const unsigned char *text = skip(&r, len);
	if (r.short_of || len >= size)
		return false;
	memcpy(name, text, len);
	name[len] = '\0';
	return true;
}

size_t frame_first_header_kind(const struct frame *frame)
{
	struct reader r = payload_of(frame);
	(void)skip(&r, PROPERTIES_AT - FRAME_HEAD);
	unsigned flags = (unsigned)take(&r, 2);
	if (flags & FLAG_CONTENT_TYPE)
		(void)skip(&r, take(&r, 1));
	if (flags & FLAG_CONTENT_ENCODING)
		(void)skip(&r, take(&r, 1));
	if (!(flags & FLAG_HEADERS) || take(&r, 4) == 0)
		return 0;
	(void)skip(&r, take(&r, 1));
	return r.short_of || r.at == r.end ? 0 : (size_t)(r.at - frame->data);
}
