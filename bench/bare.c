/* rabbitmq-c without warren: the least that a consumer or a publisher of that library costs. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "sample.h"
#include "work.h"

enum {
	MOST_CHANNELS = 2047, /* what the broker allows on a connection unless told otherwise */
	MOST_THREADS = 2000,
	MOST_WINDOW = 65536,
	MOST_BYTES = 1024 * 1024,
	MOST_WAIT_MS = 60 * 1000,
	MOST_TIMES = 1000000,
	THREAD_STACK = 256 * 1024,
};

/* Of a message that is on its way in on a channel. */
struct arrival {
	uint64_t tag;
	uint64_t len;
	amqp_bytes_t body, reply_to; /* until the channel's buffers are released */
};

struct consumer {
	const char *url, *queue;
	int channels;
	void (*task)(const struct consumer *consumer, amqp_bytes_t body); /* or NULL */
	bool replies, confirms; /* confirms: acknowledges only when the reply was confirmed */
	struct samples samples;
	int wait_ms, times;
};

/* What a frame has brought. */
enum news { NOTHING, MESSAGE, CONFIRM };

static void start_consumer(
    amqp_connection_state_t conn, amqp_channel_t channel, const struct consumer *c)
{
	open_channel(conn, channel);
	if (c->confirms)
		ask_for_confirms(conn, channel);
	amqp_basic_qos(conn, channel, 0, 1, 0);
	check_last(conn, "setting the prefetch count");
	amqp_basic_consume(conn, channel, amqp_cstring_bytes(c->queue), amqp_empty_bytes, 0, 0, 0,
	    amqp_empty_table);
	check_last(conn, "consuming");
}

static enum news take_method(struct arrival *a, const amqp_frame_t *frame)
{
	if (frame->payload.method.id == AMQP_BASIC_ACK_METHOD)
		return CONFIRM;
	if (frame->payload.method.id != AMQP_BASIC_DELIVER_METHOD)
		unexpected(frame);
	a->tag = ((amqp_basic_deliver_t *)frame->payload.method.decoded)->delivery_tag;
	return NOTHING;
}

static enum news take_header(struct arrival *a, const amqp_frame_t *frame)
{
	const amqp_basic_properties_t *properties = frame->payload.properties.decoded;
	a->len = frame->payload.properties.body_size;
	a->body = amqp_empty_bytes;
	a->reply_to = amqp_empty_bytes;
	if (properties->_flags & AMQP_BASIC_REPLY_TO_FLAG)
		a->reply_to = properties->reply_to;
	return a->len ? NOTHING : MESSAGE;
}

/* No body is as long as a frame here, so none comes in pieces. */
static enum news take_body(struct arrival *a, const amqp_frame_t *frame)
{
	a->body = frame->payload.body_fragment;
	if (a->body.len != a->len)
		unexpected(frame);
	return MESSAGE;
}

static enum news take_frame(struct arrival *a, const amqp_frame_t *frame)
{
	switch (frame->frame_type) {
	case AMQP_FRAME_METHOD:
		return take_method(a, frame);
	case AMQP_FRAME_HEADER:
		return take_header(a, frame);
	case AMQP_FRAME_BODY:
		return take_body(a, frame);
	default:
		unexpected(frame);
	}
}

static void reply(amqp_connection_state_t conn, amqp_channel_t channel, const struct arrival *a)
{
	const amqp_bytes_t body = { sizeof(struct stamp), a->body.bytes };
	check(amqp_basic_publish(conn, channel, amqp_empty_bytes, a->reply_to, 1, 0, NULL, body),
	    "replying");
}

/* Whether the message is done with, and not only when its reply has been confirmed. */
static bool run(const struct consumer *c, amqp_connection_state_t conn, amqp_channel_t channel,
    const struct arrival *a)
{
	if (c->task)
		c->task(c, a->body);
	if (!c->replies || !a->reply_to.len || a->body.len < sizeof(struct stamp))
		return true;
	reply(conn, channel, a);
	return !c->confirms;
}

/* Consumes until the process is ended. */
static _Noreturn void consume(const struct consumer *c)
{
	amqp_connection_state_t conn = open_connection(c->url);
	struct arrival *arrivals = calloc((size_t)c->channels + 1, sizeof *arrivals);
	if (!arrivals)
		fail("starting", "out of memory");
	for (int i = 1; i <= c->channels; i++)
		start_consumer(conn, (amqp_channel_t)i, c);

	for (;;) {
		amqp_frame_t frame;
		next_frame(conn, &frame);
		if (frame.channel < 1 || frame.channel > c->channels)
			unexpected(&frame);
		struct arrival *a = &arrivals[frame.channel];
		const enum news news = take_frame(a, &frame);
		if (news == NOTHING)
			continue;
		if (news == CONFIRM || run(c, conn, frame.channel, a))
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
	ask_for_confirms(conn, 1);
	publish(conn, queue, (uint64_t)count, body, (uint64_t)window);
	const amqp_rpc_reply_t reply = amqp_connection_close(conn, AMQP_REPLY_SUCCESS);
	check_reply(&reply, "closing");
	check(amqp_destroy_connection(conn), "closing");
	amqp_bytes_free(body);
}

static void wait_task(const struct consumer *c, amqp_bytes_t body)
{
	(void)body;
	work_wait(c->wait_ms);
}

static void sha256_task(const struct consumer *c, amqp_bytes_t body)
{
	work_sha256(body.bytes, body.len, c->times);
}

static void stamp_task(const struct consumer *c, amqp_bytes_t body)
{
	sample_begin(&c->samples, body.bytes, body.len);
}

static void set_stamp_task(struct consumer *c, const char *path, bool confirms)
{
	c->task = stamp_task;
	c->replies = true;
	c->confirms = confirms;
	if (!samples_open(&c->samples, path))
		fail(path, strerror(errno));
}

/* What the words behind the number of threads say. */
/* For whoever waits for the first message. */
static void tell_task(const struct consumer *c, amqp_bytes_t body)
{
	(void)c;
	(void)body;
	fputs("it runs\n", stderr);
}

static bool set_task(struct consumer *c, int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[0], "sha256") == 0) {
		c->task = sha256_task;
		c->times = number(argv[1], MOST_TIMES);
	} else if (argc == 2 && strcmp(argv[0], "wait") == 0) {
		c->task = wait_task;
		c->wait_ms = number(argv[1], MOST_WAIT_MS);
	} else if (argc == 2 && strcmp(argv[0], "stamp") == 0) {
		set_stamp_task(c, argv[1], false);
	} else if (argc == 2 && strcmp(argv[0], "stamp-confirmed") == 0) {
		set_stamp_task(c, argv[1], true);
	} else if (argc == 1 && strcmp(argv[0], "tell") == 0) {
		c->task = tell_task;
	} else {
		return argc == 0;
	}
	return true;
}

int main(int argc, char **argv)
{
	const char *word = argc > 4 ? argv[1] : "";
	struct consumer c = { .channels = 1 };
	if (argc == 7 && strcmp(word, "publish") == 0) {
		publish_all(argv[2], argv[3], number(argv[4], INT32_MAX),
		    number(argv[5], MOST_BYTES), number(argv[6], MOST_WINDOW));
		return 0;
	}
	if (argc > 4 && set_task(&c, argc - 5, argv + 5)) {
		c.url = argv[2];
		c.queue = argv[3];
		if (strcmp(word, "threads") == 0)
			consume_in_threads(&c, number(argv[4], MOST_THREADS));
		c.channels = number(argv[4], MOST_CHANNELS);
		if (strcmp(word, "inline") == 0)
			consume(&c);
	}
	fputs("usage: bare inline URL QUEUE CHANNELS [TASK]\n"
	      "       bare threads URL QUEUE N [TASK]\n"
	      "       bare publish URL QUEUE COUNT BYTES WINDOW\n"
	      "TASK: wait MS, sha256 TIMES, stamp SAMPLES, stamp-confirmed SAMPLES, tell; nothing "
	      "unless "
	      "given\n",
	    stderr);
	return 1;
}
