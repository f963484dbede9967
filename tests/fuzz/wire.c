/* The readers and writers inside of broker.c, driven without a connection. */
#include "broker.c"

#include "wire.h"

enum { WIRE_MAX = FRAME_MAX - FRAME_OVERHEAD, POOL_PAGE = 8192 };

/* A buffer that well-formed AMQP is written to. */
struct wire {
	uint8_t *at, *end;
};

static void put(struct wire *w, uint64_t n, size_t bytes)
{
	for (; bytes > 0 && w->at < w->end; bytes--)
		*w->at++ = (uint8_t)(n >> 8 * (bytes - 1));
}

static void put_bytes(struct wire *w, struct bytes b)
{
	size_t room = (size_t)(w->end - w->at), len = b.len < room ? b.len : room;
	if (len)
		memcpy(w->at, b.data, len);
	w->at += len;
}

static void put_short(struct wire *w, struct bytes b)
{
	put(w, b.len, 1);
	put_bytes(w, b);
}

/* A length of four bytes that is known when what it stands for is written. */
static uint8_t *begin_long(struct wire *w)
{
	uint8_t *length = w->at;
	put(w, 0, 4);
	return length;
}

static void end_long(struct wire *w, uint8_t *length)
{
	struct wire head = { length, w->at };
	if (w->at - length >= 4)
		put(&head, (uint64_t)(w->at - length - 4), 4);
}

/* Names that warren and the broker give a meaning to, beside the input's own. */
static struct bytes field_name(struct feed *feed)
{
	static const char *const names[] = { "x-death", "queue", "x-warren-attempt",
		"x-warren-exchange", "x-warren-routing-key", "x-warren-first-at",
		"x-warren-expires-at", "x-warren-crashes", "x-warren-signal", "x-delivery-count",
		"CC", "task" };
	uint8_t which = feed_byte(feed);
	return which < ARRAY_LEN(names) ? bytes_of(names[which]) : feed_bytes(feed, 255);
}

/* A table or array in a table or array in ..., to a depth that the input need not spell out. */
static void put_nest(struct wire *w, unsigned depth, char kind)
{
	put(w, depth ? (uint8_t)kind : 'V', 1);
	if (depth == 0)
		return;
	uint8_t *length = begin_long(w);
	if (kind == 'F')
		put_short(w, BYTES_LIT("t"));
	put_nest(w, depth - 1, kind);
	end_long(w, length);
}

static void put_filling(struct wire *w, size_t len)
{
	put(w, 'S', 1);
	put(w, len, 4);
	for (; len > 0; len--)
		put(w, 'x', 1);
}

static void put_fields(struct wire *w, struct feed *feed, int depth);

static void put_value(struct wire *w, struct feed *feed, int depth)
{
	static const struct {
		char kind;
		uint8_t bytes;
	} scalars[] = { { 't', 1 }, { 'b', 1 }, { 'B', 1 }, { 's', 2 }, { 'u', 2 }, { 'I', 4 },
		{ 'i', 4 }, { 'l', 8 }, { 'L', 8 }, { 'f', 4 }, { 'd', 8 }, { 'D', 5 }, { 'T', 8 },
		{ 'V', 0 }, { '?', 0 } };
	static const char longs[] = "SxAF";
	size_t which = feed_byte(feed) % (ARRAY_LEN(scalars) + 7);
	if (which < ARRAY_LEN(scalars)) {
		put(w, (uint8_t)scalars[which].kind, 1);
		put(w, feed_number(feed, scalars[which].bytes), scalars[which].bytes);
		return;
	}
	which -= ARRAY_LEN(scalars);
	if (which == 4 || which == 5) {
		put_nest(w, (unsigned)feed_number(feed, 2) % 6000, which == 4 ? 'F' : 'A');
		return;
	}
	if (which == 6) {
		put_filling(w, (size_t)feed_number(feed, 2));
		return;
	}
	put(w, (uint8_t)longs[which], 1);
	uint8_t *length = begin_long(w);
	if (which < 2)
		put_bytes(w, feed_bytes(feed, 1000));
	else if (which == 2)
		for (size_t n = feed_byte(feed) % 6u; n > 0 && depth < 100; n--)
			put_value(w, feed, depth + 1);
	else
		put_fields(w, feed, depth + 1);
	end_long(w, length);
}

static void put_fields(struct wire *w, struct feed *feed, int depth)
{
	uint8_t n = feed_byte(feed);
	size_t times = n == 255 ? (size_t)feed_number(feed, 2) % 5000 : 1;
	for (; times > 1; times--) {
		put_short(w, BYTES_LIT("k"));
		put(w, 'V', 1);
	}
	for (n %= 6; n > 0 && depth < 100; n--) {
		put_short(w, field_name(feed));
		put_value(w, feed, depth);
	}
}

static void put_properties(struct wire *w, struct feed *feed)
{
	uint64_t flags = feed_number(feed, 2) & 0xFFFC;
	put(w, flags, 2);
	for (int bit = 15; bit >= 2; bit--) {
		if (!(flags >> bit & 1))
			continue;
		if (bit == 13) {
			uint8_t *length = begin_long(w);
			put_fields(w, feed, 0);
			end_long(w, length);
		} else if (bit == 12 || bit == 11) {
			put(w, feed_byte(feed), 1);
		} else if (bit == 6) {
			put(w, feed_number(feed, 8), 8);
		} else {
			put_short(w, feed_bytes(feed, 255));
		}
	}
}

/* The bytes of a content header behind its class, weight and body size. */
static struct bytes make_header(struct feed *feed, uint8_t *room)
{
	if (feed_byte(feed) & 1)
		return feed_rest(feed);
	struct wire w = { room, room + WIRE_MAX };
	put_properties(&w, feed);
	return (struct bytes){ (const char *)room, (size_t)(w.at - room) };
}

static bool decode_and_take(struct bytes header, struct arena *arena, struct msg *msg)
{
	amqp_pool_t pool;
	void *decoded;
	init_amqp_pool(&pool, POOL_PAGE);
	int status = amqp_decode_properties(AMQP_BASIC_CLASS, &pool, to_amqp(header), &decoded);
	if (status >= 0)
		CHECK(take_properties(arena, decoded, msg));
	empty_amqp_pool(&pool);
	return status >= 0;
}

bool wire_message(struct feed *feed, struct arena *arena, struct msg *msg)
{
	static uint8_t room[WIRE_MAX];
	*msg = (struct msg){ .flaw = MSG_SOUND };
	bool read = decode_and_take(make_header(feed, room), arena, msg);
	CHECK(msg->flaw == MSG_SOUND || !(msg->props.present & PROP_HEADERS));
	CHECK(size_of_own(&msg->props.headers) <= MSG_HEADERS_MAX);
	return read;
}

/* A connection of the library without a socket. */
static amqp_connection_state_t wire_connection(int frame_max)
{
	amqp_frame_t frame;
	amqp_connection_state_t amqp = amqp_new_connection();
	CHECK(amqp);
	/* The library lets a connection be tuned only between two frames. */
	CHECK(amqp_handle_input(amqp, amqp_cstring_bytes("AMQP0091"), &frame) == 8);
	CHECK(amqp_tune_connection(amqp, 0, frame_max, 0) == AMQP_STATUS_OK);
	return amqp;
}

/* ---- the same way back ---- */

static bool same_value(const struct value *a, const struct value *b);

static bool same_table(const struct table *a, const struct table *b)
{
	bool same = a->n == b->n;
	for (size_t i = 0; same && i < a->n; i++)
		same = bytes_equal(a->fields[i].key, b->fields[i].key) &&
		       same_value(&a->fields[i].value, &b->fields[i].value);
	return same;
}

static bool same_array(const struct value *a, const struct value *b)
{
	bool same = a->array.n == b->array.n;
	for (size_t i = 0; same && i < a->array.n; i++)
		same = same_value(&a->array.items[i], &b->array.items[i]);
	return same;
}

/* What went out as `a` and came in as `b`: unsigned numbers of 64 bits go out as signed ones. */
static bool same_value(const struct value *a, const struct value *b)
{
	if (a->kind == VALUE_UINT && (a->width == 8 || a->width == 0))
		return b->kind == VALUE_INT && b->integer == (int64_t)a->natural;
	if (a->kind != b->kind)
		return false;
	switch ((enum value_kind)a->kind) {
	case VALUE_VOID:
		return true;
	case VALUE_BOOL:
		return a->boolean == b->boolean;
	case VALUE_INT:
	case VALUE_UINT:
	case VALUE_TIMESTAMP:
		return a->natural == b->natural;
	case VALUE_DOUBLE:
		return (a->real != a->real && b->real != b->real) ||
		       memcmp(&a->real, &b->real, sizeof(a->real)) == 0;
	case VALUE_DECIMAL:
		return a->natural == b->natural && a->scale == b->scale;
	case VALUE_STRING:
	case VALUE_BYTES:
		return bytes_equal(a->bytes, b->bytes);
	case VALUE_ARRAY:
		return same_array(a, b);
	case VALUE_TABLE:
		return same_table(&a->table, &b->table);
	}
	return false;
}

static bool same_props(const struct props *a, const struct props *b)
{
	bool same = a->present == b->present && a->delivery_mode == b->delivery_mode &&
		    a->priority == b->priority && a->timestamp == b->timestamp;
	for (size_t i = 0; same && i < ARRAY_LEN(text_props); i++) {
		struct bytes x, y;
		memcpy(&x, (const char *)a + text_props[i].our_offset, sizeof(x));
		memcpy(&y, (const char *)b + text_props[i].our_offset, sizeof(y));
		same = bytes_equal(x, y);
	}
	return same && same_table(&a->headers, &b->headers);
}

static void check_table_size(const amqp_table_t *headers, const struct table *ours)
{
	static uint8_t room[2 * FRAME_MAX];
	size_t offset = 0;
	amqp_table_t copy = *headers;
	CHECK(amqp_encode_table((amqp_bytes_t){ sizeof(room), room }, &copy, &offset) ==
	      AMQP_STATUS_OK);
	CHECK(offset == copy_table_size(ours));
}

bool wire_goes_out(const struct outgoing *out, char *why, size_t why_size)
{
	static uint8_t room[WIRE_MAX];
	struct broker broker = { .amqp = wire_connection(FRAME_MAX) };
	struct arena *arena = arena_create();
	amqp_basic_properties_t props = { 0 };
	struct msg back = { .flaw = MSG_SOUND };
	CHECK(arena);
	bool fits = can_encode(&broker, out, why, why_size);
	if (fits) {
		CHECK(give_properties(arena, &out->props, &props));
		if (out->props.present & PROP_HEADERS)
			check_table_size(&props.headers, &out->props.headers);
		/* Class, weight and size stand before it in a frame. */
		int len = amqp_encode_properties(
		    AMQP_BASIC_CLASS, &props, (amqp_bytes_t){ sizeof(room) - 12, room });
		CHECK(len >= 0 && (size_t)len + 12 == header_size(&out->props));
		struct bytes header = { (const char *)room, (size_t)len };
		CHECK(decode_and_take(header, arena, &back));
		CHECK(back.flaw != MSG_SOUND || same_props(&out->props, &back.props));
	}
	arena_destroy(arena);
	(void)amqp_destroy_connection(broker.amqp);
	return fits;
}

/* ---- connections ---- */

static void set_nonblocking(int fd)
{
	CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
}

struct broker *wire_broker(int *peer, int frame_max)
{
	static const int room = 1024 * 1024;
	int fds[2];
	struct broker_error error;
	struct broker *broker = broker_create(64 * 1024, &error);
	CHECK(broker && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
	CHECK(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
	set_nonblocking(fds[0]);
	set_nonblocking(fds[1]);
	amqp_destroy_connection(broker->amqp);
	broker->amqp = frame_max ? wire_connection(frame_max) : amqp_new_connection();
	amqp_socket_t *socket = amqp_tcp_socket_new(broker->amqp);
	CHECK(socket);
	amqp_tcp_socket_set_sockfd(socket, fds[0]);
	broker->channel_max = 2047;
	*peer = fds[1];
	return broker;
}

void wire_channels(struct broker *broker, unsigned states)
{
	const struct consume consume = { .queue = "work", .consumer_tag = "tag" };
	for (unsigned number = 1; number <= 4; number++, states >>= 2) {
		enum channel_state state = (enum channel_state)(states & 3);
		if (state == CHANNEL_FREE)
			continue;
		CHECK(broker_open_channel(broker, number));
		if (state == CHANNEL_OPENING)
			continue;
		find_channel(broker, number)->state = CHANNEL_OPEN;
		CHECK(broker_consume(broker, number, &consume));
		if (state == CHANNEL_CLOSING)
			CHECK(broker_close_channel(broker, number));
	}
}

bool wire_log_in(struct broker *broker)
{
	static char word[] = "guest", vhost[] = "/", host[] = "localhost";
	const struct url url = {
		.host = host, .port = 5672, .user = word, .password = word, .vhost = vhost
	};
	const struct conf_broker conf = { .heartbeat_ns = 10 * NS_PER_S };
	struct broker_error error = { 0 };
	bool in = log_in(broker, &conf, &url, "fuzz", clock_mono_ns() + NS_PER_S, &error);
	CHECK(in || (error.fault != FAULT_NONE && error.text[0]));
	return in && read_terms(broker, &error);
}

/* ---- what a broker sends ---- */

/* Methods that a client may be sent, with the layout of their arguments: b h l q for numbers of 1,
 * 2, 4, 8 bytes, s short strings, S long ones, t a table. */
static const struct {
	uint16_t class, method;
	const char *layout;
} methods[] = {
	{ 10, 10, "bbtSS" },
	{ 10, 20, "S" },
	{ 10, 30, "hlh" },
	{ 10, 41, "s" },
	{ 10, 50, "hshh" },
	{ 10, 51, "" },
	{ 10, 60, "s" },
	{ 10, 61, "" },
	{ 20, 11, "S" },
	{ 20, 20, "b" },
	{ 20, 40, "hshh" },
	{ 20, 41, "" },
	{ 40, 11, "" },
	{ 40, 31, "" },
	{ 50, 11, "sll" },
	{ 50, 21, "" },
	{ 60, 11, "" },
	{ 60, 21, "s" },
	{ 60, 30, "sb" },
	{ 60, 31, "s" },
	{ 60, 50, "hsss" },
	{ 60, 60, "sqbss" },
	{ 60, 71, "qbssl" },
	{ 60, 72, "s" },
	{ 60, 80, "qb" },
	{ 60, 120, "qb" },
	{ 85, 11, "" },
};

static void put_method(struct wire *w, struct feed *feed)
{
	size_t which = feed_byte(feed) % ARRAY_LEN(methods);
	put(w, methods[which].class, 2);
	put(w, methods[which].method, 2);
	for (const char *kind = methods[which].layout; *kind; kind++) {
		size_t bytes = *kind == 'b' ? 1 : *kind == 'h' ? 2 : *kind == 'l' ? 4 : 8;
		uint8_t *length = *kind == 'S' || *kind == 't' ? begin_long(w) : NULL;
		uint8_t choice = *kind == 's' || *kind == 'S' ? feed_byte(feed) : 1;
		if (*kind == 't')
			put_fields(w, feed, 0);
		else if (*kind == 'S')
			put_bytes(w, choice ? BYTES_LIT("PLAIN AMQPLAIN") : feed_bytes(feed, 300));
		else if (*kind == 's')
			put_short(w, choice & 1 ? BYTES_LIT("tag") : feed_bytes(feed, 255));
		else
			put(w, feed_number(feed, bytes), bytes);
		if (length)
			end_long(w, length);
	}
}

/* Class, weight, body size, properties. */
static void put_content_header(struct wire *w, struct feed *feed)
{
	uint8_t choice = feed_byte(feed);
	put(w, choice == 255 ? feed_number(feed, 2) : AMQP_BASIC_CLASS, 2);
	put(w, 0, 2);
	put(w, choice < 128 ? choice : feed_number(feed, 8), 8);
	put_properties(w, feed);
}

size_t wire_frame(struct feed *feed, uint8_t *room, size_t size)
{
	struct wire w = { room, room + size };
	if (feed->left == 0)
		return 0;
	uint8_t kind = feed_byte(feed);
	if (kind == 255) {
		put_bytes(&w, feed_bytes(feed, 4096));
		return (size_t)(w.at - room);
	}
	put(&w, kind % 4 == 3 ? AMQP_FRAME_HEARTBEAT : kind % 4u + 1, 1);
	put(&w, kind / 4 % 6u, 2);
	uint8_t *length = begin_long(&w);
	if (kind % 4 == 0)
		put_method(&w, feed);
	else if (kind % 4 == 1)
		put_content_header(&w, feed);
	else
		put_bytes(&w, feed_bytes(feed, 4096));
	end_long(&w, length);
	put(&w, AMQP_FRAME_END, 1);
	return (size_t)(w.at - room);
}
