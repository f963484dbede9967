/* Publishes with a bounded window: confirms, returns and replies. */
#include "sender.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "cmd.h"
#include "text.h"

#define DIRECT_REPLY_TO "amq.rabbitmq.reply-to"

enum {
	WINDOW = 256,               /* messages without a confirm */
	WINDOW_BYTES = 1024 * 1024, /* and their bodies, unless it is one alone */
	FLIGHTS = 1024,             /* messages without an end, be it a confirm or a reply */
	HELD = 16,                  /* messages that may share a packet, */
	HELD_BYTES = 16 * 1024,     /* and their bodies */
	NAMED = 5,                  /* messages at fault that are named; the others are counted */
};

/* One published message on its way; its tag is its number on the channel, from 1. */
struct flight {
	char id[BROKER_NAME_MAX];
	size_t id_len;
	size_t body_len;
	bool confirmed; /* or refused: the broker has said its word */
	bool hopeless;  /* no queue took it, or the broker refused it: no reply will come */
	bool answered;
	struct msg reply; /* its body alone */
};

/*
 * Ends a send that blocks for longer than the limit: neither library nor kernel would while the
 * broker reads nothing but sends heartbeats.
 */
struct guard {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool end;
	int fd;
	int64_t limit_ns;
	_Atomic int64_t since_ns; /* when the present send began; 0: none */
	atomic_bool fired;
};

struct sender {
	struct broker *broker;
	struct sender_rules rules;
	struct sender_counts counts;
	struct guard guard;
	uint64_t head, next; /* tags: the oldest without an end, and the next to be given */
	uint64_t oldest;     /* the oldest without a confirm; next: none */
	uint64_t in_doubt;   /* how many are without a confirm */
	size_t in_doubt_bytes;
	unsigned held; /* messages that the kernel may still hold back, */
	size_t held_bytes;
	int64_t since_ns; /* the last sign of progress */
	bool blocked;     /* by an alarm of the broker */
	bool to_terminal;
	uint64_t missed; /* replies that did not come */
	struct flight flights[FLIGHTS];
};

/* ---- the guard ---- */

static void guard_look(struct guard *guard)
{
	int64_t since = atomic_load(&guard->since_ns);
	if (since == 0 || clock_mono_ns() - since < guard->limit_ns)
		return;
	atomic_store(&guard->fired, true);
	broker_shutdown(guard->fd);
}

static void *guard_run(void *arg)
{
	struct guard *guard = arg;
	PTOK(pthread_mutex_lock(&guard->lock));
	while (!guard->end) {
		int64_t wake = clock_mono_ns() + NS_PER_S / 4;
		struct timespec ts = { .tv_sec = wake / NS_PER_S, .tv_nsec = wake % NS_PER_S };
		(void)pthread_cond_timedwait(&guard->over, &guard->lock, &ts);
		guard_look(guard);
	}
	PTOK(pthread_mutex_unlock(&guard->lock));
	return NULL;
}

static void guard_start(struct guard *guard, int fd, int64_t limit_ns)
{
	pthread_condattr_t attr;
	guard->fd = fd;
	guard->limit_ns = limit_ns;
	PTOK(pthread_mutex_init(&guard->lock, NULL));
	PTOK(pthread_condattr_init(&attr));
	PTOK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	PTOK(pthread_cond_init(&guard->over, &attr));
	PTOK(pthread_condattr_destroy(&attr));
	PTOK(pthread_create(&guard->thread, NULL, guard_run, guard));
}

static void guard_stop(struct guard *guard)
{
	PTOK(pthread_mutex_lock(&guard->lock));
	guard->end = true;
	PTOK(pthread_cond_signal(&guard->over));
	PTOK(pthread_mutex_unlock(&guard->lock));
	PTOK(pthread_join(guard->thread, NULL));
	PTOK(pthread_cond_destroy(&guard->over));
	PTOK(pthread_mutex_destroy(&guard->lock));
}

/* ---- life ---- */

struct sender *sender_create(struct broker *broker, const struct sender_rules *rules)
{
	struct sender *s = xcalloc(1, sizeof(*s));
	s->broker = broker;
	s->rules = *rules;
	s->head = s->next = s->oldest = 1;
	s->to_terminal = isatty(STDOUT_FILENO) == 1;
	guard_start(&s->guard, broker_fd(broker), rules->timeout_ns);
	return s;
}

void sender_destroy(struct sender *s)
{
	if (!s)
		return;
	guard_stop(&s->guard);
	broker_release(s->broker);
	for (size_t i = 0; i < FLIGHTS; i++)
		msg_free_body(&s->flights[i].reply);
	free(s);
}

int sender_start(struct sender *s)
{
	struct event event = { .kind = EV_LOST };
	if (!broker_select(s->broker, DIALOG_CHANNEL) ||
	    !dialog_answer(s->broker, EV_CONFIRMING, &event))
		return cmd_explain(s->broker, &event, "have messages confirmed");
	event.kind = EV_LOST;
	struct consume replies = {
		.queue = DIRECT_REPLY_TO, .consumer_tag = "replies", .no_ack = true
	};
	if (s->rules.wait && (!broker_consume(s->broker, DIALOG_CHANNEL, &replies) ||
				 !dialog_answer(s->broker, EV_CONSUMING, &event)))
		return cmd_explain(s->broker, &event, "wait for replies");
	broker_hold(s->broker);
	return EXIT_OK;
}

const struct sender_counts *sender_counts(const struct sender *s)
{
	return &s->counts;
}

/* ---- what the broker says of messages ---- */

static struct flight *flight_of(struct sender *s, uint64_t tag)
{
	return &s->flights[tag % FLIGHTS];
}

static struct flight *find_flight(struct sender *s, struct bytes id)
{
	for (uint64_t tag = s->head; tag < s->next; tag++) {
		struct flight *f = flight_of(s, tag);
		if (bytes_equal((struct bytes){ f->id, f->id_len }, id))
			return f;
	}
	return NULL;
}

/* `nth`: how many have met the same fate. */
static void name_flight(const struct flight *f, uint64_t nth, const char *fate)
{
	if (nth <= NAMED)
		cmd_say("message %.*s %s", (int)f->id_len, f->id, fate);
	else if (nth == NAMED + 1)
		cmd_say("and more messages; the sum comes at the end");
}

static void settle_one(struct sender *s, struct flight *f, bool taken)
{
	if (f->confirmed)
		return;
	f->confirmed = true;
	s->in_doubt--;
	s->in_doubt_bytes -= f->body_len;
	if (taken) {
		s->counts.confirmed++;
		return;
	}
	f->hopeless = true;
	name_flight(f, ++s->counts.refused, "was refused by the broker: a queue is full or gone");
}

static void settle(struct sender *s, const struct event *event)
{
	bool taken = event->kind == EV_CONFIRMED;
	if (event->tag < s->oldest || event->tag >= s->next)
		return;
	for (uint64_t tag = event->multiple ? s->oldest : event->tag; tag <= event->tag; tag++)
		settle_one(s, flight_of(s, tag), taken);
	while (s->oldest < s->next && flight_of(s, s->oldest)->confirmed)
		s->oldest++;
}

static void take_return(struct sender *s, const struct event *event)
{
	struct flight *f = find_flight(s, event->msg.props.message_id);
	if (!f || f->hopeless)
		return;
	f->hopeless = true;
	s->counts.unroutable++;
	if (!s->rules.allow_unroutable)
		name_flight(f, s->counts.unroutable, "is unroutable: no queue took it");
}

/* Takes the body out of the event. A reply that nobody waits for any more is dropped. */
static void take_reply(struct sender *s, struct event *event)
{
	struct flight *f = find_flight(s, event->msg.props.correlation_id);
	if (!f || f->answered)
		return;
	f->answered = true;
	s->counts.replies++;
	f->reply.body = event->msg.body;
	f->reply.body_alloc = event->msg.body_alloc;
	f->reply.body_map_len = event->msg.body_map_len;
	event->msg.body_alloc = NULL;
	event->msg.body_map_len = 0;
}

static void print_reply(const struct sender *s, struct flight *f)
{
	if (s->to_terminal)
		cmd_put_text(stdout, f->reply.body, true);
	else if (f->reply.body.len)
		(void)fwrite(f->reply.body.data, 1, f->reply.body.len, stdout);
	(void)putc('\n', stdout);
	msg_free_body(&f->reply);
}

static bool has_ended(const struct sender *s, const struct flight *f)
{
	return f->confirmed && (!s->rules.wait || f->answered || f->hopeless);
}

/* Lets go of the messages that have come to their end, in the order published. */
static int advance(struct sender *s)
{
	uint64_t was = s->head;
	for (; s->head < s->next && has_ended(s, flight_of(s, s->head)); s->head++)
		if (flight_of(s, s->head)->answered)
			print_reply(s, flight_of(s, s->head));
	cmd_progress(s->head - 1, s->rules.total);
	if (!s->rules.wait || was == s->head || (fflush(stdout) == 0 && !ferror(stdout)))
		return EXIT_OK;
	cmd_say("cannot write to standard output: %s", strerror(errno));
	return EXIT_OS;
}

/* ---- waiting ---- */

static int fail_lost(const struct sender *s)
{
	char limit[32];
	const struct event lost = { .kind = EV_LOST };
	if (atomic_load(&s->guard.fired))
		cmd_say("the broker took no data for %s: an alarm of its memory or disk, or the "
			"network",
		    text_show_duration(s->rules.timeout_ns, limit, sizeof(limit)));
	else {
		int code = cmd_explain(s->broker, &lost, "publish");
		if (s->counts.published == 0)
			return code;
	}
	return EXIT_TEMPFAIL;
}

static void say_blocked(struct sender *s, const char *text)
{
	char limit[32];
	s->blocked = true;
	cmd_say("the broker takes no messages now (%s); waiting up to %s", text,
	    text_show_duration(s->rules.timeout_ns, limit, sizeof(limit)));
}

/* Whatever the event is, it is used up. */
static int take(struct sender *s, struct event *event)
{
	int code = EXIT_OK;
	s->since_ns = clock_mono_ns();
	switch (event->kind) {
	case EV_CONFIRMED:
	case EV_REFUSED:
		settle(s, event);
		break;
	case EV_RETURNED:
		take_return(s, event);
		break;
	case EV_DELIVERY:
		take_reply(s, event);
		break;
	case EV_BLOCKED:
		say_blocked(s, event->text);
		break;
	case EV_UNBLOCKED:
		s->blocked = false;
		cmd_say("the broker takes messages again");
		break;
	case EV_CLOSED_BY_BROKER:
		code = cmd_explain(s->broker, event, "publish");
		break;
	case EV_CANCELLED:
		cmd_say("the broker took the queue of the replies away");
		code = EXIT_TEMPFAIL;
		break;
	case EV_LOST:
		code = fail_lost(s);
		break;
	default:
		break;
	}
	event_drop(event);
	return code;
}

/* Takes what has come already, without waiting. */
static int drain(struct sender *s)
{
	for (;;) {
		struct event event;
		broker_read(s->broker, &event);
		if (event.kind == EV_NONE)
			return advance(s);
		int code = take(s, &event);
		if (code != EXIT_OK)
			return code;
	}
}

static bool waits_for_broker(const struct sender *s)
{
	return s->blocked || s->in_doubt > 0;
}

static int give_up(struct sender *s)
{
	char limit[32];
	if (!waits_for_broker(s)) {
		cmd_say(
		    "no reply for %s", text_show_duration(s->rules.wait_ns, limit, sizeof(limit)));
		return EXIT_TEMPFAIL;
	}
	cmd_say("the broker %s for %s", s->blocked ? "was blocked" : "confirmed nothing",
	    text_show_duration(s->rules.timeout_ns, limit, sizeof(limit)));
	return EXIT_TEMPFAIL;
}

/* Nobody waits for what has not left. */
static void flush(struct sender *s)
{
	if (s->held)
		broker_flush(s->broker);
	s->held = 0;
	s->held_bytes = 0;
}

/* Waits until something happens, and takes all that has. */
static int wait_some(struct sender *s)
{
	struct event event;
	flush(s);
	dialog_next(s->broker,
	    s->since_ns + (waits_for_broker(s) ? s->rules.timeout_ns : s->rules.wait_ns), &event);
	if (event.kind == EV_NONE)
		return give_up(s);
	int code = take(s, &event);
	return code == EXIT_OK ? drain(s) : code;
}

/* ---- publishing ---- */

static bool has_room(const struct sender *s, size_t body_len)
{
	return !s->blocked && s->next - s->head < FLIGHTS && s->in_doubt < WINDOW &&
	       (s->in_doubt == 0 || s->in_doubt_bytes + body_len <= WINDOW_BYTES);
}

static void want_reply(struct outgoing *message)
{
	struct props *props = &message->props;
	props->present |= PROP_REPLY_TO | PROP_CORRELATION_ID;
	props->reply_to = BYTES_LIT(DIRECT_REPLY_TO);
	props->correlation_id = props->message_id;
}

static void take_off(struct sender *s, const struct outgoing *message)
{
	struct flight *f = flight_of(s, s->next++);
	struct bytes id = message->props.message_id;
	*f = (struct flight){ .id_len = id.len, .body_len = message->body.len };
	memcpy(f->id, id.data, id.len);
	s->in_doubt++;
	s->in_doubt_bytes += message->body.len;
	s->counts.published++;
}

static enum publish_sent send_guarded(
    struct sender *s, const struct outgoing *message, char *why, size_t size)
{
	s->since_ns = clock_mono_ns();
	atomic_store(&s->guard.since_ns, s->since_ns);
	enum publish_sent sent =
	    broker_publish(s->broker, DIALOG_CHANNEL, message, true, why, size);
	atomic_store(&s->guard.since_ns, 0);
	return sent;
}

int sender_publish(struct sender *s, struct outgoing *message)
{
	char why[256] = "";
	s->since_ns = clock_mono_ns();
	while (!has_room(s, message->body.len)) {
		int code = wait_some(s);
		if (code != EXIT_OK)
			return code;
	}
	if (s->rules.wait)
		want_reply(message);
	switch (send_guarded(s, message, why, sizeof(why))) {
	case SENT:
		take_off(s, message);
		s->held_bytes += message->body.len;
		if (++s->held >= HELD || s->held_bytes >= HELD_BYTES)
			flush(s);
		return EXIT_OK;
	case SENT_NOTHING:
		return cmd_usage("this message cannot be sent: %s", why);
	case SENT_LOST:
		take_off(s, message);
		return fail_lost(s);
	}
	return EXIT_INTERNAL;
}

int sender_idle(struct sender *s, int fd)
{
	enum { HEARTBEAT_STEP_MS = 500 };
	flush(s);
	for (;;) {
		struct pollfd p[] = { { .fd = fd, .events = POLLIN },
			{ .fd = broker_fd(s->broker), .events = POLLIN } };
		(void)poll(p, ARRAY_LEN(p), HEARTBEAT_STEP_MS);
		if (p[0].revents)
			return EXIT_OK;
		int code = drain(s);
		if (code != EXIT_OK)
			return code;
	}
}

/* Replies that came too early or too late for their turn are printed all the same. */
static void miss_replies(struct sender *s)
{
	for (; s->head < s->next; s->head++) {
		struct flight *f = flight_of(s, s->head);
		if (f->answered)
			print_reply(s, f);
		else if (!f->hopeless)
			name_flight(f, ++s->missed,
			    "got no reply (a job that was dead-lettered sends none)");
	}
}

int sender_finish(struct sender *s)
{
	int code = drain(s);
	s->since_ns = clock_mono_ns();
	while (code == EXIT_OK && s->head < s->next)
		code = wait_some(s);
	if (code != EXIT_OK && s->rules.wait)
		miss_replies(s);
	if (code != EXIT_OK)
		return code;
	if (s->counts.refused > 0)
		return EXIT_TEMPFAIL;
	return s->counts.unroutable > 0 && !s->rules.allow_unroutable ? EXIT_UNROUTABLE : EXIT_OK;
}
