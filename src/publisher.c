/* Confirms and returns, a channel for each lane, on the publishing connection. */
#include "publisher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define ANSWER_LIMIT_NS (30 * NS_PER_S) /* a broker that lives answers a method by then */

enum lane_state {
	LANE_DOWN,    /* no channel */
	LANE_OPENING, /* channel.open-ok is awaited */
	LANE_SELECT,  /* confirm.select-ok is awaited */
	LANE_OPEN,
	LANE_CLOSING, /* channel.close-ok is awaited; then down */
};

/* A lane has at most one message out, so a return can only be that message's. */
struct lane {
	enum lane_state state;
	struct conn_waiter waiter;
	int64_t answer_by_ns; /* while a state waits for the broker's answer */
	uint64_t seq;         /* number of the last message on this channel */
	bool out;             /* message `seq` awaits its confirm */
	bool returned;        /* it came back as unroutable */
	struct publish_answer answer;
};

struct publisher {
	const struct conf *conf;
	struct conn *conn;
	struct lane *lanes;
	unsigned n_lanes;
	bool blocked; /* the broker's alarm: it reads nothing from us */
	int64_t blocked_at_ns;
	bool stopping;
	char alarm[BROKER_TEXT_MAX];
};

const char *published_word(enum published result)
{
	static const char *const words[] = {
		[PUBLISHED] = "published",
		[PUBLISH_UNROUTABLE] = "unroutable",
		[PUBLISH_NACKED] = "nacked",
		[PUBLISH_REFUSED] = "refused",
		[PUBLISH_INVALID] = "invalid",
		[PUBLISH_IN_DOUBT] = "in-doubt",
		[PUBLISH_BLOCKED] = "blocked",
	};
	return words[result];
}

static void settle(struct publisher *publisher, struct lane *lane, enum published result)
{
	lane->out = false;
	lane->answer.result = result;
	conn_ready(publisher->conn, &lane->waiter);
}

static unsigned channel_of(const struct publisher *publisher, const struct lane *lane)
{
	return (unsigned)(lane - publisher->lanes) + 1;
}

static void await_answer(struct lane *lane, enum lane_state state)
{
	lane->state = state;
	lane->answer_by_ns = clock_mono_ns() + ANSWER_LIMIT_NS;
}

static void sent(struct publisher *publisher, bool ok)
{
	if (!ok)
		conn_broken(publisher->conn);
}

/* ---- what conn.c calls ---- */

static void on_up(void *owner)
{
	struct publisher *publisher = owner;
	publisher->blocked = false;
	conn_is_good(publisher->conn);
	for (unsigned i = 0; i < publisher->n_lanes; i++)
		conn_ready(publisher->conn, &publisher->lanes[i].waiter);
}

static void on_down(void *owner, const struct broker_error *why)
{
	struct publisher *publisher = owner;
	publisher->blocked = false;
	for (unsigned i = 0; i < publisher->n_lanes; i++) {
		struct lane *lane = &publisher->lanes[i];
		lane->state = LANE_DOWN;
		if (lane->out) {
			(void)snprintf(
			    lane->answer.text, sizeof(lane->answer.text), "%s", why->text);
			settle(publisher, lane, PUBLISH_IN_DOUBT);
		}
	}
}

static void on_answer(struct publisher *publisher, struct lane *lane, const struct event *event)
{
	/* Older numbers were given up at their deadline. */
	bool ours =
	    lane->out && (event->tag == lane->seq || (event->multiple && event->tag > lane->seq));
	if (!ours)
		return;
	if (event->kind == EV_REFUSED)
		settle(publisher, lane, PUBLISH_NACKED);
	else
		settle(publisher, lane, lane->returned ? PUBLISH_UNROUTABLE : PUBLISHED);
}

static void on_lane_event(struct publisher *publisher, struct lane *lane, const struct event *event)
{
	switch (event->kind) {
	case EV_OPENED:
		await_answer(lane, LANE_SELECT);
		sent(publisher,
		    broker_select(conn_broker(publisher->conn), channel_of(publisher, lane)));
		break;
	case EV_CONFIRMING:
		lane->state = LANE_OPEN;
		lane->seq = 0;
		conn_ready(publisher->conn, &lane->waiter);
		break;
	case EV_RETURNED:
		lane->returned = true;
		lane->answer.code = event->code;
		(void)snprintf(lane->answer.text, sizeof(lane->answer.text), "%s", event->text);
		break;
	case EV_CONFIRMED:
	case EV_REFUSED:
		on_answer(publisher, lane, event);
		break;
	case EV_CLOSED_BY_BROKER:
		lane->state = LANE_DOWN;
		lane->answer.code = event->code;
		(void)snprintf(lane->answer.text, sizeof(lane->answer.text), "%s", event->text);
		if (lane->out)
			settle(publisher, lane, PUBLISH_REFUSED);
		else
			conn_ready(publisher->conn, &lane->waiter);
		break;
	case EV_CLOSED:
		lane->state = LANE_DOWN;
		conn_ready(publisher->conn, &lane->waiter);
		break;
	default:
		break;
	}
}

static void on_blocked(struct publisher *publisher, const struct event *event)
{
	publisher->blocked = event->kind == EV_BLOCKED;
	publisher->blocked_at_ns = clock_mono_ns();
	(void)snprintf(publisher->alarm, sizeof(publisher->alarm), "%s", event->text);
	if (publisher->blocked)
		log_event(LOG_WARN, "broker.blocked", L_STR("conn", "publish"),
		    L_STR("reason", publisher->alarm));
	else
		log_event(LOG_INFO, "broker.unblocked", L_STR("conn", "publish"));
	for (unsigned i = 0; i < publisher->n_lanes; i++)
		if (!publisher->lanes[i].out)
			conn_ready(publisher->conn, &publisher->lanes[i].waiter);
}

static void on_event(void *owner, struct event *event)
{
	struct publisher *publisher = owner;
	if (event->kind == EV_BLOCKED || event->kind == EV_UNBLOCKED)
		on_blocked(publisher, event);
	else if (event->channel >= 1 && event->channel <= publisher->n_lanes)
		on_lane_event(publisher, &publisher->lanes[event->channel - 1], event);
	event_drop(event);
}

static void on_tick(void *owner, int64_t now_ns)
{
	struct publisher *publisher = owner;
	if (publisher->blocked)
		return; /* it reads nothing, so it answers nothing */
	for (unsigned i = 0; i < publisher->n_lanes; i++) {
		const struct lane *lane = &publisher->lanes[i];
		if (lane->state != LANE_DOWN && lane->state != LANE_OPEN &&
		    now_ns > lane->answer_by_ns) {
			log_event(LOG_ERROR, "broker.silent", L_STR("conn", "publish"),
			    L_NS("for", ANSWER_LIMIT_NS));
			conn_broken(publisher->conn);
			return;
		}
	}
}

static const struct conn_ops ops = {
	.up = on_up,
	.down = on_down,
	.event = on_event,
	.tick = on_tick,
};

/* ---- publishing ---- */

/* One step towards an open channel; the answer wakes the lane's waiter. */
static void advance(struct publisher *publisher, struct lane *lane)
{
	struct broker *broker = conn_broker(publisher->conn);
	if (broker && lane->state == LANE_DOWN) {
		await_answer(lane, LANE_OPENING);
		sent(publisher, broker_open_channel(broker, channel_of(publisher, lane)));
	}
}

static bool await_open(struct publisher *publisher, struct lane *lane, int64_t deadline_ns)
{
	while (!publisher->stopping) {
		if (conn_broker(publisher->conn) && lane->state == LANE_OPEN && !publisher->blocked)
			return true;
		advance(publisher, lane);
		lane->waiter.ready = false;
		if (!conn_wait(publisher->conn, &lane->waiter, deadline_ns))
			return false;
	}
	return false;
}

/* A confirm that may still come must not meet the next message, so the channel is closed. */
static void give_up(struct publisher *publisher, struct lane *lane)
{
	struct broker *broker = conn_broker(publisher->conn);
	lane->out = false;
	if (broker && lane->state == LANE_OPEN) {
		await_answer(lane, LANE_CLOSING);
		sent(publisher, broker_close_channel(broker, channel_of(publisher, lane)));
	}
	(void)snprintf(lane->answer.text, sizeof(lane->answer.text), "no confirm in time");
	lane->answer.result = PUBLISH_IN_DOUBT;
}

static void send_and_wait(struct publisher *publisher, struct lane *lane,
    const struct outgoing *message, unsigned how, int64_t deadline_ns)
{
	lane->waiter.ready = lane->returned = false;
	switch (broker_publish(conn_broker(publisher->conn), channel_of(publisher, lane), message,
	    how & PUBLISH_MANDATORY, lane->answer.text, sizeof(lane->answer.text))) {
	case SENT_NOTHING:
		lane->answer.result = PUBLISH_INVALID;
		return;
	case SENT_LOST:
		conn_broken(publisher->conn);
		lane->answer.result = PUBLISH_IN_DOUBT;
		(void)snprintf(lane->answer.text, sizeof(lane->answer.text), "connection lost");
		return;
	case SENT:
		break;
	}
	lane->seq++;
	lane->out = true;
	while (!conn_wait(publisher->conn, &lane->waiter, deadline_ns)) {
		if (!publisher->blocked || !(how & PUBLISH_PATIENT)) {
			give_up(publisher, lane);
			return;
		}
		/* The broker keeps what it was sent for after its alarm; publishing it again would
		 * double it. */
		deadline_ns = clock_mono_ns() + publisher->conf->broker.confirm_timeout_ns;
	}
}

enum published publisher_publish(struct publisher *publisher, unsigned number,
    const struct outgoing *message, unsigned how, int64_t deadline_ns,
    struct publish_answer *answer)
{
	CHECK(number < publisher->n_lanes);
	struct lane *lane = &publisher->lanes[number];
	conn_lock(publisher->conn);
	CHECK(!lane->out);
	lane->answer = (struct publish_answer){ 0 };
	if (await_open(publisher, lane, deadline_ns)) {
		send_and_wait(publisher, lane, message, how, deadline_ns);
	} else {
		lane->answer.result = PUBLISH_BLOCKED;
		(void)snprintf(lane->answer.text, sizeof(lane->answer.text), "%s",
		    publisher->blocked ? publisher->alarm : "no connection for publishing");
	}
	*answer = lane->answer;
	conn_unlock(publisher->conn);
	return answer->result;
}

/* ---- life ---- */

struct publisher *publisher_create(const struct conf *conf, unsigned lanes)
{
	struct publisher *publisher = xcalloc(1, sizeof(*publisher));
	publisher->conf = conf;
	publisher->n_lanes = lanes;
	publisher->lanes = xcalloc(lanes, sizeof(*publisher->lanes));
	for (unsigned i = 0; i < lanes; i++)
		conn_waiter_init(&publisher->lanes[i].waiter);
	publisher->conn = conn_create(conf, "publish", &ops, publisher);
	if (publisher->conn)
		return publisher;
	publisher_destroy(publisher);
	return NULL;
}

bool publisher_start(struct publisher *publisher)
{
	return conn_start(publisher->conn);
}

void publisher_destroy(struct publisher *publisher)
{
	if (!publisher)
		return;
	conn_destroy(publisher->conn);
	for (unsigned i = 0; i < publisher->n_lanes; i++)
		conn_waiter_fini(&publisher->lanes[i].waiter);
	free(publisher->lanes);
	free(publisher);
}

void publisher_interrupt(struct publisher *publisher)
{
	conn_seize(publisher->conn);
	publisher->stopping = true;
	for (unsigned i = 0; i < publisher->n_lanes; i++)
		if (publisher->lanes[i].out)
			settle(publisher, &publisher->lanes[i], PUBLISH_IN_DOUBT);
		else
			conn_ready(publisher->conn, &publisher->lanes[i].waiter);
	conn_unlock(publisher->conn);
}

bool publisher_trouble(struct publisher *publisher, char *text, size_t size)
{
	if (!conn_try_lock(publisher->conn))
		return false;
	if (publisher->blocked)
		(void)snprintf(text, size, "the broker's alarm: %s", publisher->alarm);
	else
		(void)snprintf(text, size, "%s", conn_trouble(publisher->conn));
	conn_unlock(publisher->conn);
	return true;
}

bool publisher_describe(struct publisher *publisher, struct board_conn *out)
{
	if (!conn_try_lock(publisher->conn))
		return false;
	conn_describe(publisher->conn, out);
	if (publisher->blocked) {
		out->state = BOARD_BLOCKED;
		out->since_ns = out->error_at_ns = publisher->blocked_at_ns;
		(void)snprintf(out->error, sizeof(out->error), "%s", publisher->alarm);
	}
	conn_unlock(publisher->conn);
	return true;
}

bool publisher_watch(struct publisher *publisher, int64_t now_ns)
{
	return conn_watch(publisher->conn, now_ns);
}
