/* rabbitmq-c without warren: the least that a consumer or a publisher of that library costs. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <amqp.h>
#include <amqp_tcp_socket.h>

enum {
	MOST_CHANNELS = 2047, /* what the broker allows on a connection unless told otherwise */
	MOST_THREADS = 2000,
	MOST_WINDOW = 65536,
	MOST_BYTES = 1024 * 1024,
	FRAME_SIZE = 131072,
	THREAD_STACK = 256 * 1024,
};

/* Of a message that is on its way in on a channel. */
struct arrival {
	uint64_t tag;
	uint64_t missing; /* bytes of its body */
};

struct consumer {
	const char *url, *queue;
	int channels;
};

static _Noreturn void fail(const char *doing, const char *why)
{
	fprintf(stderr, "bare: %s: %s\n", doing, why);
	exit(1);
}

static void check(int status, const char *doing)
{
	if (status < 0)
		fail(doing, amqp_error_string2(status));
}

/* Both close methods begin with the code and the text. */
static void check_reply(const amqp_rpc_reply_t *reply, const char *doing)
{
	if (reply->reply_type == AMQP_RESPONSE_NORMAL)
		return;
	if (reply->reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
		fail(doing, amqp_error_string2(reply->library_error));
	if (reply->reply_type != AMQP_RESPONSE_SERVER_EXCEPTION)
		fail(doing, "no answer");

	amqp_bytes_t text = { 0 };
	if (reply->reply.id == AMQP_CHANNEL_CLOSE_METHOD)
		text = ((amqp_channel_close_t *)reply->reply.decoded)->reply_text;
	else if (reply->reply.id == AMQP_CONNECTION_CLOSE_METHOD)
		text = ((amqp_connection_close_t *)reply->reply.decoded)->reply_text;
	fprintf(stderr, "bare: %s: %.*s\n", doing, (int)text.len, (const char *)text.bytes);
	exit(1);
}

static void check_last(amqp_connection_state_t conn, const char *doing)
{
	const amqp_rpc_reply_t reply = amqp_get_rpc_reply(conn);
	check_reply(&reply, doing);
}

static amqp_connection_state_t open_connection(const char *url)
{
	char *parts = strdup(url); /* amqp_parse_url writes into it, and points into it */
	amqp_connection_state_t conn = amqp_new_connection();
	amqp_socket_t *sock = conn ? amqp_tcp_socket_new(conn) : NULL;
	if (!parts || !sock)
		fail("connecting", "out of memory");

	struct amqp_connection_info to;
	check(amqp_parse_url(parts, &to), "reading the URL");
	if (to.ssl)
		fail("reading the URL", "no TLS here");
	check(amqp_socket_open(sock, to.host, to.port), "connecting");
	const amqp_rpc_reply_t reply = amqp_login(
	    conn, to.vhost, 0, FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, to.user, to.password);
	check_reply(&reply, "logging in");
	free(parts);
	return conn;
}

static void open_channel(amqp_connection_state_t conn, amqp_channel_t channel)
{
	amqp_channel_open(conn, channel);
	check_last(conn, "opening a channel");
}

static void start_consumer(amqp_connection_state_t conn, amqp_channel_t channel, const char *queue)
{
	open_channel(conn, channel);
	amqp_basic_qos(conn, channel, 0, 1, 0);
	check_last(conn, "setting the prefetch count");
	amqp_basic_consume(
	    conn, channel, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	check_last(conn, "consuming");
}

static void next_frame(amqp_connection_state_t conn, amqp_frame_t *frame)
{
	check(amqp_simple_wait_frame(conn, frame), "reading");
}

static _Noreturn void unexpected(const amqp_frame_t *frame)
{
	const char *name = NULL;
	if (frame->frame_type == AMQP_FRAME_METHOD)
		name = amqp_method_name(frame->payload.method.id);
	fail("unexpected from the broker", name ? name : "a frame out of turn");
}

/* Whether the message is complete with this frame. */
static bool take_frame(struct arrival *a, const amqp_frame_t *frame)
{
	switch (frame->frame_type) {
	case AMQP_FRAME_METHOD:
		if (frame->payload.method.id != AMQP_BASIC_DELIVER_METHOD)
			unexpected(frame);
		a->tag = ((amqp_basic_deliver_t *)frame->payload.method.decoded)->delivery_tag;
		return false;
	case AMQP_FRAME_HEADER:
		a->missing = frame->payload.properties.body_size;
		return a->missing == 0;
	case AMQP_FRAME_BODY:
		if (frame->payload.body_fragment.len > a->missing)
			unexpected(frame);
		a->missing -= frame->payload.body_fragment.len;
		return a->missing == 0;
	default:
		unexpected(frame);
	}
}

/* Consumes until the process is ended. */
static _Noreturn void consume(const struct consumer *c)
{
	amqp_connection_state_t conn = open_connection(c->url);
	struct arrival *arrivals = calloc((size_t)c->channels + 1, sizeof *arrivals);
	if (!arrivals)
		fail("starting", "out of memory");
	for (int i = 1; i <= c->channels; i++)
		start_consumer(conn, (amqp_channel_t)i, c->queue);

	for (;;) {
		amqp_frame_t frame;
		next_frame(conn, &frame);
		if (frame.channel < 1 || frame.channel > c->channels)
			unexpected(&frame);
		struct arrival *a = &arrivals[frame.channel];
		if (!take_frame(a, &frame))
			continue;
		check(amqp_basic_ack(conn, frame.channel, a->tag, 0), "acknowledging");
		amqp_maybe_release_buffers_on_channel(conn, frame.channel);
	}
}

static void *consume_in_thread(void *arg)
{
	consume(arg);
}

static _Noreturn void consume_in_threads(struct consumer *c, int count)
{
	pthread_attr_t attr;
	pthread_t thread;
	int error = pthread_attr_init(&attr);
	if (!error)
		error = pthread_attr_setstacksize(&attr, THREAD_STACK);
	for (int i = 1; i < count && !error; i++)
		error = pthread_create(&thread, &attr, consume_in_thread, c);
	if (error)
		fail("starting a thread", strerror(error));
	consume(c); /* the first one */
}

/* Marks what an answer settles and moves head behind all that is. */
static void settle(
    bool *settled, uint64_t *head, uint64_t next, uint64_t window, amqp_basic_ack_t *ack)
{
	if (ack->delivery_tag < *head || ack->delivery_tag >= next)
		fail("publishing", "a confirm for what was not published");
	for (uint64_t tag = ack->multiple ? *head : ack->delivery_tag; tag <= ack->delivery_tag;
	     tag++)
		settled[tag % window] = true;
	while (*head < next && settled[*head % window]) {
		settled[*head % window] = false;
		++*head;
	}
}

static void publish(amqp_connection_state_t conn, const char *queue, uint64_t count,
    amqp_bytes_t body, uint64_t window)
{
	const amqp_basic_properties_t properties = {
		._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
		.delivery_mode = AMQP_DELIVERY_NONPERSISTENT,
	};
	uint64_t head = 1, next = 1; /* delivery tags */
	bool *settled = calloc(window, sizeof *settled);
	if (!settled)
		fail("publishing", "out of memory");
	while (head <= count) {
		if (next <= count && next - head < window) {
			check(amqp_basic_publish(conn, 1, amqp_empty_bytes,
				  amqp_cstring_bytes(queue), 1, 0, &properties, body),
			    "publishing");
			next++;
			continue;
		}
		amqp_frame_t frame;
		next_frame(conn, &frame);
		if (frame.frame_type != AMQP_FRAME_METHOD ||
		    frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
			unexpected(&frame);
		settle(settled, &head, next, window, frame.payload.method.decoded);
		amqp_maybe_release_buffers_on_channel(conn, 1);
	}
	free(settled);
}

static void publish_all(const char *url, const char *queue, int count, int bytes, int window)
{
	amqp_bytes_t body = amqp_bytes_malloc((size_t)bytes);
	if (!body.bytes)
		fail("publishing", "out of memory");
	memset(body.bytes, 'x', body.len);

	amqp_connection_state_t conn = open_connection(url);
	open_channel(conn, 1);
	amqp_confirm_select(conn, 1);
	check_last(conn, "asking for confirms");
	publish(conn, queue, (uint64_t)count, body, (uint64_t)window);
	const amqp_rpc_reply_t reply = amqp_connection_close(conn, AMQP_REPLY_SUCCESS);
	check_reply(&reply, "closing");
	check(amqp_destroy_connection(conn), "closing");
	amqp_bytes_free(body);
}

static int number(const char *text, int most)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 1 || value > most) {
		fprintf(stderr, "bare: %s is no number from 1 to %d\n", text, most);
		exit(1);
	}
	return (int)value;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "inline") == 0)
		consume(&(struct consumer){ argv[2], argv[3], number(argv[4], MOST_CHANNELS) });
	if (argc == 5 && strcmp(argv[1], "threads") == 0)
		consume_in_threads(
		    &(struct consumer){ argv[2], argv[3], 1 }, number(argv[4], MOST_THREADS));
	if (argc == 7 && strcmp(argv[1], "publish") == 0) {
		publish_all(argv[2], argv[3], number(argv[4], INT32_MAX),
		    number(argv[5], MOST_BYTES), number(argv[6], MOST_WINDOW));
		return 0;
	}
	fputs("usage: bare inline URL QUEUE CHANNELS\n"
	      "       bare threads URL QUEUE N\n"
	      "       bare publish URL QUEUE COUNT BYTES WINDOW\n",
	    stderr);
	return 1;
}
