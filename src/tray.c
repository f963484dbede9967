/* Takes messages with basic.get, holds them, and gives them back. */
#include "tray.h"

#include <poll.h>
#include <stdlib.h>

#include "clock.h"
#include "cmd.h"
#include "dialog.h"

enum {
	TRAY_CHANNEL =
	    DIALOG_CHANNEL + 1,        /* a look at a queue that is missing costs the other one */
	AHEAD_MAX = 64,                /* messages that are asked for before they are needed */
	AHEAD_BYTES = 4 * 1024 * 1024, /* and their bodies, unless it is one alone */
	NACK_KEEPS_COUNT = 403,        /* from this RabbitMQ on */
	BACK_LOOK_MS = 10,
};

#define BACK_LIMIT_NS (2 * NS_PER_S) /* without another message that came back */

struct tray {
	struct broker *broker;
	const char *queue;
	bool open;
	int failed;    /* the exit code, once something went wrong */
	uint64_t left; /* that may still be asked for */
	uint64_t held; /* that have come and were not acked */

	struct event ahead[AHEAD_MAX]; /* a ring of what has come and was not taken yet */
	size_t first, n;
	size_t asked;     /* how many are under way */
	size_t limit;     /* of both together */
	size_t mean_size; /* of bodies */

	bool blocked;                     /* by an alarm of the broker */
	bool answered, returned, refused; /* the broker's word on what was published last */
};

struct tray *tray_create(struct broker *broker, const char *queue)
{
	struct tray *tray = xcalloc(1, sizeof(*tray));
	tray->broker = broker;
	tray->queue = queue;
	return tray;
}

static void drop_ahead(struct tray *tray)
{
	for (; tray->n > 0; tray->n--) {
		event_drop(&tray->ahead[tray->first]);
		tray->first = (tray->first + 1) % AHEAD_MAX;
	}
}

void tray_destroy(struct tray *tray)
{
	if (!tray)
		return;
	drop_ahead(tray);
	free(tray);
}

/* ---- what the broker says ---- */

/* With the channel everything that was held has gone back. */
static int fail(struct tray *tray, const struct event *event)
{
	int code = cmd_explain(tray->broker, event, "go on");
	tray->failed = code == EXIT_REFUSED ? code : EXIT_TEMPFAIL;
	tray->open = false;
	drop_ahead(tray);
	return tray->failed;
}

/* As many as fit into the bytes, growing from one on until their size is known. */
static void learn_size(struct tray *tray, size_t body_len)
{
	enum { OVERHEAD = 1024 };
	tray->mean_size = (tray->mean_size * 7 + body_len + OVERHEAD) / 8;
	size_t fit = AHEAD_BYTES / (tray->mean_size > body_len ? tray->mean_size : body_len + 1);
	size_t grown = tray->limit * 2;
	tray->limit = fit < grown ? fit : grown;
	if (tray->limit > AHEAD_MAX)
		tray->limit = AHEAD_MAX;
	if (tray->limit == 0)
		tray->limit = 1;
}

static void keep(struct tray *tray, const struct event *event)
{
	CHECK(tray->n < AHEAD_MAX && tray->asked > 0);
	tray->ahead[(tray->first + tray->n++) % AHEAD_MAX] = *event;
	tray->asked--;
	tray->held++;
	learn_size(tray, event->msg.body.len);
}

static void say_blocked(struct tray *tray, const char *text)
{
	tray->blocked = true;
	cmd_say("the broker takes no messages now (%s); waiting until it does", text);
}

/* Takes one event, or waits for one until the deadline. */
static int pump(struct tray *tray, int64_t deadline_ns, bool *silent)
{
	struct event event;
	dialog_next(tray->broker, deadline_ns, &event);
	*silent = event.kind == EV_NONE;
	switch (event.kind) {
	case EV_GOT:
		keep(tray, &event);
		return EXIT_OK;
	case EV_GET_EMPTY:
		tray->asked--;
		tray->left = 0;
		break;
	case EV_CONFIRMED:
	case EV_REFUSED:
		tray->answered = true;
		tray->refused = event.kind == EV_REFUSED;
		break;
	case EV_RETURNED:
		tray->returned = true;
		break;
	case EV_BLOCKED:
		say_blocked(tray, event.text);
		break;
	case EV_UNBLOCKED:
		tray->blocked = false;
		cmd_say("the broker takes messages again");
		break;
	case EV_CLOSED_BY_BROKER:
	case EV_LOST:
		return fail(tray, &event);
	default:
		break;
	}
	event_drop(&event);
	return EXIT_OK;
}

/*
 * One step of waiting for an answer. An alarm lasts as long as it lasts, unless we are told to
 * stop; otherwise the broker has DIALOG_ANSWER_S from `since_ns` on.
 */
static int await(struct tray *tray, int64_t since_ns)
{
	const struct event nothing = { .kind = EV_NONE };
	int64_t now = clock_mono_ns(), deadline = since_ns + DIALOG_ANSWER_S * NS_PER_S;
	bool silent;
	if (tray->blocked && cmd_stopped())
		return EXIT_TEMPFAIL;
	if (!tray->blocked && now >= deadline)
		return fail(tray, &nothing);
	return pump(tray, now + NS_PER_S / 10, &silent);
}

/* ---- taking ---- */

static int open_channel(struct tray *tray)
{
	struct event event = { .kind = EV_LOST };
	if (broker_open_channel(tray->broker, TRAY_CHANNEL) &&
	    dialog_answer(tray->broker, EV_OPENED, &event)) {
		event.kind = EV_LOST;
		if (broker_select(tray->broker, TRAY_CHANNEL) &&
		    dialog_answer(tray->broker, EV_CONFIRMING, &event))
			return EXIT_OK;
	}
	return fail(tray, &event);
}

int tray_open(struct tray *tray, uint64_t most)
{
	int code = open_channel(tray);
	tray->open = code == EXIT_OK;
	tray->left = most;
	tray->held = 0;
	tray->asked = 0;
	tray->limit = 1;
	tray->mean_size = 0;
	return code;
}

static int ask_ahead(struct tray *tray)
{
	const struct event lost = { .kind = EV_LOST };
	for (; tray->left > 0 && tray->n + tray->asked < tray->limit; tray->left--) {
		if (!broker_get(tray->broker, TRAY_CHANNEL, tray->queue))
			return fail(tray, &lost);
		tray->asked++;
	}
	return EXIT_OK;
}

int tray_take(struct tray *tray, struct event *event)
{
	int64_t since = clock_mono_ns();
	*event = (struct event){ .kind = EV_NONE };
	int code = tray->failed ? tray->failed : ask_ahead(tray);
	while (code == EXIT_OK && tray->n == 0 && tray->asked > 0) {
		code = await(tray, since);
		if (code == EXIT_OK)
			code = ask_ahead(tray);
	}
	if (code != EXIT_OK || tray->n == 0)
		return code;
	*event = tray->ahead[tray->first];
	tray->first = (tray->first + 1) % AHEAD_MAX;
	tray->n--;
	return EXIT_OK;
}

int tray_ack(struct tray *tray, uint64_t tag)
{
	const struct event lost = { .kind = EV_LOST };
	if (tray->failed)
		return tray->failed;
	tray->held--;
	return broker_ack(tray->broker, TRAY_CHANNEL, tag) ? EXIT_OK : fail(tray, &lost);
}

/* ---- publishing ---- */

int tray_post(struct tray *tray, const struct outgoing *message, enum posted *how)
{
	const struct event lost = { .kind = EV_LOST };
	if (tray->failed)
		return tray->failed;
	tray->answered = tray->returned = tray->refused = false;
	switch (broker_publish(tray->broker, TRAY_CHANNEL, message, true, NULL, 0)) {
	case SENT_NOTHING:
		*how = POST_INVALID;
		return EXIT_OK;
	case SENT_LOST:
		return fail(tray, &lost);
	case SENT:
		break;
	}
	int64_t since = clock_mono_ns();
	int code = EXIT_OK;
	while (code == EXIT_OK && !tray->answered) {
		code = await(tray, since);
		if (tray->blocked)
			since = clock_mono_ns();
	}
	*how = tray->refused ? POST_REFUSED : tray->returned ? POST_UNROUTABLE : POSTED;
	return code;
}

/* ---- waiting ---- */

int tray_idle(struct tray *tray, int64_t deadline_ns)
{
	int code = tray->failed;
	bool silent = false;
	while (code == EXIT_OK && !cmd_stopped()) {
		int64_t now = clock_mono_ns();
		int64_t step = now + NS_PER_S / 10;
		code = pump(tray, step < deadline_ns ? step : deadline_ns, &silent);
		if (silent && clock_mono_ns() >= deadline_ns)
			break;
	}
	return code;
}

int tray_pause(struct tray *tray)
{
	int64_t since = clock_mono_ns();
	int code = tray->failed;
	while (code == EXIT_OK && tray->asked > 0)
		code = await(tray, since);
	return code;
}

static int count_ready(struct tray *tray, uint64_t *ready)
{
	struct event event;
	int code = cmd_look(tray->broker, tray->queue, &event);
	*ready = event.kind == EV_QUEUE_OK ? event.messages : 0;
	return code;
}

/*
 * After a nack of 10,000 messages a classic queue was seen to have only some of them when the next
 * command looked. As long as more of them come they are waited for; somebody else may take them.
 */
static int wait_until_back(struct tray *tray, uint64_t before)
{
	uint64_t ready, most = before;
	int64_t grew_ns = clock_mono_ns();
	int code = count_ready(tray, &ready);
	while (code == EXIT_OK && ready < before + tray->held &&
	       clock_mono_ns() - grew_ns < BACK_LIMIT_NS) {
		(void)poll(NULL, 0, BACK_LOOK_MS);
		code = count_ready(tray, &ready);
		if (ready > most) {
			most = ready;
			grew_ns = clock_mono_ns();
		}
	}
	return code;
}

/*
 * Where a quorum queue puts what comes back, and whether it counts it, depends on how it comes back
 * and on the version: with its channel it goes to the head, in its order, everywhere. From 4.3 on
 * that counts as a failure, and a nack does not.
 */
int tray_give_back(struct tray *tray)
{
	struct event event = { .kind = EV_LOST };
	uint64_t before = 0;
	if (!tray->open)
		return EXIT_OK;
	int code = tray_pause(tray);
	if (code != EXIT_OK)
		return code;
	drop_ahead(tray);
	bool nack = broker_version(tray->broker) >= NACK_KEEPS_COUNT;
	if (nack)
		code = count_ready(tray, &before);
	if (code != EXIT_OK)
		return code;
	if ((nack && !broker_nack_all(tray->broker, TRAY_CHANNEL)) ||
	    !broker_close_channel(tray->broker, TRAY_CHANNEL) ||
	    !dialog_answer(tray->broker, EV_CLOSED, &event))
		return fail(tray, &event);
	tray->open = false;
	return nack ? wait_until_back(tray, before) : EXIT_OK;
}
