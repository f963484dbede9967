/* Publishes stamped messages, and notes how old each is when its reply comes: see sample.h. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "client.h"
#include "sample.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S (1000 * NS_PER_MS)
#define PAUSE_NS (3 * NS_PER_MS)
#define PATIENCE_NS (60 * NS_PER_S)

enum { BODY_BYTES = 128, MOST_MESSAGES = 100000000, MOST_RATE = 10000000 };

struct probe {
	const char *url, *queue;
	bool replies;
	amqp_bytes_t reply_to;
	amqp_connection_state_t incoming; /* replies; the thread's alone */
	struct samples samples;
	uint64_t count;
	int rate; /* messages a second; 0: one message at a time */
};

/* Any time that has passed is at once. */
static void sleep_until(int64_t when_ns)
{
	const struct timespec when = { when_ns / NS_PER_S, when_ns % NS_PER_S };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
		;
}

/* Looks from time to time, so that it costs little. */
static void await(const struct probe *p, uint64_t number)
{
	const struct sample *sample = &p->samples.of[number];
	const int64_t deadline_ns = now_ns() + PATIENCE_NS;
	while (!(p->replies ? sample->replied_ns : sample->begun_ns)) {
		if (now_ns() > deadline_ns)
			fail("waiting", p->replies ? "a reply is missing" : "a task has not begun");
		sleep_until(now_ns() + NS_PER_MS / 2);
	}
}

static void send_one(
    const struct probe *p, amqp_connection_state_t conn, uint64_t number, int64_t when_ns)
{
	char body[BODY_BYTES] = { 0 };
	const struct stamp stamp = { .sent_ns = when_ns, .number = number };
	memcpy(body, &stamp, sizeof stamp);
	const amqp_basic_properties_t properties = {
		._flags =
		    AMQP_BASIC_DELIVERY_MODE_FLAG | (p->replies ? AMQP_BASIC_REPLY_TO_FLAG : 0),
		.delivery_mode = AMQP_DELIVERY_NONPERSISTENT,
		.reply_to = p->reply_to,
	};
	check(amqp_basic_publish(conn, 1, amqp_empty_bytes, amqp_cstring_bytes(p->queue), 0, 0,
		  &properties, (amqp_bytes_t){ sizeof body, body }),
	    "publishing");
}

static void send_one_at_a_time(const struct probe *p, amqp_connection_state_t conn)
{
	for (uint64_t i = 0; i < p->count; i++) {
		send_one(p, conn, i, now_ns());
		sleep_until(now_ns() + PAUSE_NS);
		await(p, i);
	}
}

/* Counted from when a message was due: one that cannot be sent in time is late from then on. */
static void send_at_rate(const struct probe *p, amqp_connection_state_t conn)
{
	const int64_t start_ns = now_ns();
	for (uint64_t i = 0; i < p->count; i++) {
		const int64_t due_ns = start_ns + (int64_t)i * NS_PER_S / p->rate;
		sleep_until(due_ns);
		send_one(p, conn, i, due_ns);
	}
	for (uint64_t i = 0; i < p->count; i++)
		await(p, i);
}

/* By a connection of its own, as a thread of its own reads from it. */
static amqp_connection_state_t consume_replies(struct probe *p)
{
	amqp_connection_state_t conn = open_connection(p->url);
	open_channel(conn, 1);
	const amqp_queue_declare_ok_t *queue =
	    amqp_queue_declare(conn, 1, amqp_empty_bytes, 0, 0, 1, 1, amqp_empty_table);
	check_last(conn, "declaring the queue of replies");
	p->reply_to = amqp_bytes_malloc_dup(queue->queue);
	amqp_basic_consume(conn, 1, p->reply_to, amqp_empty_bytes, 0, 1, 0, amqp_empty_table);
	check_last(conn, "consuming replies");
	return conn;
}

static void *take_replies(void *arg)
{
	struct probe *p = arg;
	for (;;) {
		amqp_frame_t frame;
		next_frame(p->incoming, &frame);
		if (frame.frame_type == AMQP_FRAME_METHOD &&
		    frame.payload.method.id != AMQP_BASIC_DELIVER_METHOD)
			unexpected(&frame);
		if (frame.frame_type != AMQP_FRAME_BODY)
			continue;
		const amqp_bytes_t body = frame.payload.body_fragment;
		int64_t age_ns;
		struct sample *sample = sample_of(&p->samples, body.bytes, body.len, &age_ns);
		if (sample)
			sample->replied_ns = age_ns;
		amqp_maybe_release_buffers_on_channel(p->incoming, 1);
	}
}

static void start(struct probe *p, const char *path)
{
	if (!samples_open(&p->samples, path))
		fail(path, strerror(errno));
	if (p->samples.n < p->count)
		fail(path, "too short");
	memset(p->samples.of, 0, p->count * sizeof *p->samples.of);
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* the thread inherits it */
	if (!p->replies)
		return;
	p->incoming = consume_replies(p);
	pthread_t thread;
	const int error = pthread_create(&thread, NULL, take_replies, p);
	if (error)
		fail("starting a thread", strerror(error));
}

int main(int argc, char **argv)
{
	const char *until = argc == 7 ? argv[1] : "";
	if (strcmp(until, "begin") != 0 && strcmp(until, "reply") != 0) {
		fputs("usage: probe begin|reply URL QUEUE SAMPLES COUNT single|RATE\n"
		      "Publishes COUNT messages, each when the one before has come that far, or "
		      "RATE\n"
		      "a second; prints how many seconds it took until the last has.\n",
		    stderr);
		return 1;
	}
	struct probe p = {
		.url = argv[2],
		.queue = argv[3],
		.replies = strcmp(until, "reply") == 0,
		.count = (uint64_t)number(argv[5], MOST_MESSAGES),
		.rate = strcmp(argv[6], "single") == 0 ? 0 : number(argv[6], MOST_RATE),
	};
	start(&p, argv[4]);
	amqp_connection_state_t conn = open_connection(p.url);
	open_channel(conn, 1);
	const int64_t start_ns = now_ns();
	if (p.rate)
		send_at_rate(&p, conn);
	else
		send_one_at_a_time(&p, conn);
	printf("%.6f\n", (double)(now_ns() - start_ns) / (double)NS_PER_S);
	return 0;
}
