/* Goes through a queue of dead letters, holds what it passes by, and gives it back at the end. */
#include "dead.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "cmd.h"
#include "replay.h"
#include "show.h"
#include "tray.h"

enum {
	NAMED = 5,     /* messages that were left and are named; the others are counted */
	RENEW_AT = 10, /* RabbitMQ 4 drops what a quorum queue has handed out more than 20 times */
};

/* RabbitMQ takes back what is held for half an hour; before that we begin anew. */
#define HOLD_NS (10 * 60 * NS_PER_S)

/* An order while it is carried out. */
struct round {
	const struct dead_order *order;
	struct broker *broker;
	const struct conf *conf;
	const char *queue;           /* of the dead letters */
	struct letter_filter filter; /* the order's, and whose letters it is about */
	struct tray *tray;
	struct replay replay;
	FILE *out;           /* what is printed when the messages are back in their queue */
	uint64_t total;      /* how many there were */
	uint64_t kept, gone; /* passed by, at the head; settled or put behind */
	uint64_t chosen, done, left, refused;
	uint64_t *tags; /* to be dropped when the operator has said yes */
	int64_t opened_ns, next_ns;
};

/* ---- which messages ---- */

static bool is_named(const struct round *r, const struct letter *letter, uint64_t number)
{
	for (size_t i = 0; i < r->order->n_numbers; i++)
		if (r->order->numbers[i] == number)
			return true;
	for (size_t i = 0; i < r->order->n_ids; i++)
		if (bytes_is(letter->message_id, r->order->ids[i]))
			return true;
	return false;
}

static bool is_meant(
    const struct round *r, const struct letter *letter, const struct msg *msg, uint64_t number)
{
	bool named = r->order->n_ids + r->order->n_numbers == 0 || is_named(r, letter, number);
	return named && letter_matches(&r->filter, letter, msg, clock_wall_ms());
}

static bool is_last(const struct round *r, uint64_t number)
{
	return (r->order->limit >= 0 && r->chosen >= (uint64_t)r->order->limit) ||
	       (r->order->act == SHOW && r->chosen > 0) ||
	       (r->order->n_numbers > 0 && r->order->n_ids == 0 && number >= r->order->last);
}

/* ---- what is done with one that is meant ---- */

/* What became of it: the queue has it still, or it is gone from there. */
enum fate { STAYS, GOES };

/* It is said of the first ones alone; all are counted. */
static void say_left(struct round *r, const struct letter *letter, uint64_t number, const char *why)
{
	struct bytes id = letter->message_id;
	r->left++;
	if (r->left > NAMED)
		return;
	cmd_say("number %" PRIu64 "%s%.*s stays: %s%s", number, id.len ? ", " : "", (int)id.len,
	    id.len ? id.data : "", why, r->left == NAMED ? " (more are counted, not named)" : "");
}

static void say_dry(
    FILE *out, const struct letter *letter, uint64_t number, const char *what, const char *to)
{
	(void)fprintf(out, "%" PRIu64 " ", number);
	cmd_put_text(out, letter->message_id.len ? letter->message_id : BYTES_LIT("-"), false);
	(void)fprintf(out, " %s", what);
	cmd_put_text(out, bytes_of(to), false);
	(void)putc('\n', out);
}

static void list_one(
    struct round *r, const struct letter *letter, const struct msg *msg, uint64_t number)
{
	if (r->order->json)
		show_letter_json(r->out, letter, msg, number, clock_wall_ms());
	else if (r->chosen == 1)
		show_letter_heading(r->out);
	if (!r->order->json)
		show_letter(r->out, letter, msg, number, clock_wall_ms());
	r->done++;
}

static void show_one(struct round *r, const struct msg *msg)
{
	if (r->order->json)
		show_json(r->out, msg, r->queue);
	else
		show_block_hex(r->out, msg, r->queue);
	r->done++;
}

/* The next one is due a while after the last one, however long that took. */
static int wait_for_turn(struct round *r)
{
	if (r->order->rate < 0)
		return EXIT_OK;
	int64_t now = clock_mono_ns(), due = r->next_ns > now ? r->next_ns : now;
	int code = tray_idle(r->tray, due);
	r->next_ns = due + NS_PER_S / r->order->rate;
	return code;
}

static void say_in_doubt(const struct round *r, const struct letter *letter, uint64_t number)
{
	struct bytes id = letter->message_id;
	if (r->replay.in_doubt)
		cmd_say("number %" PRIu64 "%s%.*s may have been replayed, and is among the dead "
			"letters still",
		    number, id.len ? ", " : "", (int)id.len, id.len ? id.data : "");
}

static int retry_one(struct round *r, const struct letter *letter, const struct event *event,
    uint64_t number, enum fate *fate)
{
	enum replayed how = REPLAY_LEFT;
	const char *to = "";
	char why[512] = "";
	int code = wait_for_turn(r);
	if (code != EXIT_OK || cmd_stopped())
		return code;
	code = replay_letter(&r->replay, letter, &event->msg, &how, &to, why, sizeof(why));
	if (code != EXIT_OK) {
		say_in_doubt(r, letter, number);
		return code;
	}
	if (how != REPLAYED) {
		if (cmd_stopped())
			return EXIT_OK;
		r->refused += how == REPLAY_REFUSED;
		say_left(r, letter, number, why);
		return EXIT_OK;
	}
	r->done++;
	if (r->order->dry) {
		say_dry(r->out, letter, number, "would go to ", to);
		return EXIT_OK;
	}
	*fate = GOES;
	return tray_ack(r->tray, event->tag);
}

static int drop_one(struct round *r, const struct letter *letter, const struct event *event,
    uint64_t number, enum fate *fate)
{
	if (r->order->dry) {
		say_dry(r->out, letter, number, "would be dropped", "");
		r->done++;
		return EXIT_OK;
	}
	if (r->order->yes) {
		*fate = GOES;
		r->done++;
		return tray_ack(r->tray, event->tag);
	}
	if ((r->chosen & (r->chosen - 1)) == 0)
		r->tags = or_die(reallocarray(r->tags, r->chosen * 2, sizeof(*r->tags)));
	r->tags[r->chosen - 1] = event->tag;
	return EXIT_OK;
}

static int act_on(struct round *r, const struct letter *letter, const struct event *event,
    uint64_t number, enum fate *fate)
{
	switch (r->order->act) {
	case LIST:
		list_one(r, letter, &event->msg, number);
		return EXIT_OK;
	case SHOW:
		show_one(r, &event->msg);
		return EXIT_OK;
	case RETRY:
		return retry_one(r, letter, event, number, fate);
	case DROP:
		return drop_one(r, letter, event, number, fate);
	}
	return EXIT_INTERNAL;
}

/*
 * RabbitMQ 4 drops a message that a quorum queue has handed out too often, and each look at it is
 * one time. So before that it is put behind the others, as a message that was never handed out.
 */
static int renew(struct round *r, const struct event *event, enum fate *fate)
{
	struct outgoing out;
	enum posted posted;
	if (letter_deliveries(&event->msg) < RENEW_AT || event->msg.flaw > MSG_TOO_LARGE)
		return EXIT_OK;
	struct arena *arena = or_die(arena_create());
	or_die(letter_renew(&event->msg, arena, &out) ? arena : NULL);
	out.exchange = bytes_of("");
	out.routing_key = bytes_of(r->queue);
	int code = tray_post(r->tray, &out, &posted);
	arena_destroy(arena);
	if (code != EXIT_OK || posted != POSTED)
		return code;
	*fate = GOES;
	return tray_ack(r->tray, event->tag);
}

/* ---- the way through the queue ---- */

/* Those at the head that were passed by before are back there, in their order. */
static int open_tray(struct round *r)
{
	int code = tray_open(r->tray, r->total - r->gone);
	for (uint64_t i = 0; i < r->kept && code == EXIT_OK; i++) {
		struct event event;
		code = tray_take(r->tray, &event);
		event_drop(&event);
	}
	r->opened_ns = clock_mono_ns();
	return code;
}

static int judge(struct round *r, const struct event *event, bool *ended)
{
	struct letter letter;
	enum fate fate = STAYS;
	uint64_t number = r->kept + r->gone + 1;
	int code = EXIT_OK;
	letter_read(&event->msg, &letter);
	if (is_meant(r, &letter, &event->msg, number)) {
		r->chosen++;
		code = act_on(r, &letter, event, number, &fate);
	}
	if (code == EXIT_OK && fate == STAYS && !r->tags)
		code = renew(r, event, &fate);
	r->kept += fate == STAYS;
	r->gone += fate == GOES;
	*ended = cmd_stopped() || is_last(r, number);
	cmd_progress(number, r->total);
	return code;
}

static int take_one(struct round *r, bool *ended)
{
	struct event event;
	int code = tray_take(r->tray, &event);
	*ended = code != EXIT_OK || event.kind == EV_NONE;
	if (*ended)
		return code;
	code = judge(r, &event, ended);
	event_drop(&event);
	return code;
}

static bool is_held_long(const struct round *r)
{
	return r->order->act == RETRY && r->kept > 0 && clock_mono_ns() - r->opened_ns > HOLD_NS;
}

static int walk(struct round *r)
{
	bool ended = false;
	int code = open_tray(r);
	while (code == EXIT_OK && !ended && !cmd_stopped()) {
		code = take_one(r, &ended);
		if (code != EXIT_OK || ended || !is_held_long(r))
			continue;
		code = tray_give_back(r->tray);
		if (code == EXIT_OK)
			code = open_tray(r);
	}
	return code;
}

/* ---- the question ---- */

static bool read_answer(struct round *r, int *code)
{
	char answer[64] = "";
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	while (*code == EXIT_OK && !cmd_stopped()) {
		if (poll(&p, 1, 100) == 1) {
			ssize_t n = read(STDIN_FILENO, answer, sizeof(answer) - 1);
			return n > 0 && (answer[0] == 'y' || answer[0] == 'Y');
		}
		*code = tray_idle(r->tray, clock_mono_ns());
	}
	return false;
}

/* What was counted is held meanwhile, so that it is exactly what is dropped. */
static int ask_and_drop(struct round *r)
{
	int code = EXIT_OK;
	cmd_progress_end();
	(void)fprintf(stderr, "Drop %" PRIu64 " of %" PRIu64 " in ", r->chosen, r->total);
	cmd_put_text(stderr, bytes_of(r->queue), false);
	(void)fputs(" for ever? [y/N] ", stderr);
	if (!read_answer(r, &code)) {
		if (cmd_stopped())
			(void)putc('\n', stderr);
		return code == EXIT_OK && !cmd_stopped() ? EXIT_REFUSED : code;
	}
	for (; r->done < r->chosen && code == EXIT_OK; r->done++)
		code = tray_ack(r->tray, r->tags[r->done]);
	return code;
}

/* ---- the end ---- */

/* Printed only now: whoever reads it slowly, or not at all, holds nobody's messages. */
static void print_out(const struct round *r)
{
	char piece[65536];
	size_t n;
	(void)signal(
	    SIGPIPE, SIG_DFL); /* as with `| head`: it is the edited bodies that need it away */
	rewind(r->out);
	while ((n = fread(piece, 1, sizeof(piece), r->out)) > 0)
		if (fwrite(piece, 1, n, stdout) != n)
			return;
}

static void sum_up(const struct round *r)
{
	const char *word = r->order->act == RETRY ? "replayed" : "dropped";
	if (r->order->act == LIST || r->order->act == SHOW || r->order->dry)
		return;
	cmd_say("%s%s %" PRIu64 "; %" PRIu64 " of %" PRIu64 " remain in %s",
	    cmd_stopped() ? "interrupted: " : "", word, r->done, r->total - r->done, r->total,
	    r->queue);
}

static int judge_end(const struct round *r)
{
	if (cmd_stopped())
		return EXIT_TEMPFAIL;
	if (r->refused > 0)
		return EXIT_TEMPFAIL;
	if (r->left > 0)
		return EXIT_UNROUTABLE;
	if (r->chosen > 0 || (r->order->act == LIST && !r->order->choice))
		return EXIT_OK;
	cmd_say("nothing matched; %s holds %" PRIu64, r->queue, r->total);
	return EXIT_UNROUTABLE;
}

/* ---- which queue ---- */

static const struct conf_queue *listed(const struct conf *conf, const char *name)
{
	for (size_t i = 0; conf && i < conf->n_queues; i++)
		if (strcmp(conf->queues[i].name, name) == 0)
			return &conf->queues[i];
	return NULL;
}

static bool is_shared(const struct conf *conf, const struct conf_queue *queue)
{
	for (size_t i = 0; i < conf->n_queues; i++) {
		const char *other = conf->queues[i].dead_letter;
		if (&conf->queues[i] != queue && other && strcmp(other, queue->dead_letter) == 0)
			return true;
	}
	return false;
}

/* Of a queue of dead letters that several share, those of the named one alone are meant. */
static int resolve_queue(struct round *r, bool *by_itself)
{
	const struct conf_queue *queue = listed(r->conf, r->queue);
	*by_itself = !queue;
	if (!queue)
		return EXIT_OK;
	if (!queue->dead_letter) {
		cmd_say("queue %s has no queue of dead letters", r->queue);
		return EXIT_UNROUTABLE;
	}
	if (is_shared(r->conf, queue))
		r->filter.queue = queue->name;
	r->queue = queue->dead_letter;
	return EXIT_OK;
}

/* A queue that somebody consumes is at work: its messages are not dead. */
static int look(struct round *r)
{
	bool by_itself;
	struct event event;
	int code = resolve_queue(r, &by_itself);
	if (code == EXIT_OK)
		code = cmd_look(r->broker, r->queue, &event);
	if (code != EXIT_OK)
		return code;
	if (event.kind != EV_QUEUE_OK)
		return cmd_explain(r->broker, &event, "look for the dead letters");
	if (by_itself && event.consumers > 0) {
		cmd_say(
		    "queue %s has consumers, so its messages are not dead; with -c FILE the name "
		    "of a work queue means its dead letters",
		    r->queue);
		return EXIT_REFUSED;
	}
	r->total = event.messages;
	return EXIT_OK;
}

/* ---- */

static int go_through(struct round *r)
{
	r->out = or_die(tmpfile());
	r->tray = tray_create(r->broker, r->queue);
	r->replay = (struct replay){ .broker = r->broker,
		.tray = r->tray,
		.conf = r->conf,
		.source = r->queue,
		.to = r->order->to,
		.edit = r->order->edit,
		.dry = r->order->dry };
	cmd_note_stops();
	cmd_progress_start();
	int code = walk(r);
	if (code == EXIT_OK && r->tags && !cmd_stopped())
		code = ask_and_drop(r);
	int given = tray_give_back(r->tray);
	cmd_progress_end();
	print_out(r);
	sum_up(r);
	if (code == EXIT_OK)
		code = given;
	return code == EXIT_OK ? judge_end(r) : code;
}

int dead_carry_out(struct broker *broker, const struct conf *conf, const struct dead_order *order)
{
	struct round r = { .order = order,
		.broker = broker,
		.conf = conf,
		.queue = order->queue,
		.filter = order->filter };
	int code = look(&r);
	if (code == EXIT_OK)
		code = go_through(&r);
	replay_fini(&r.replay);
	tray_destroy(r.tray);
	if (r.out)
		(void)fclose(r.out);
	free(r.tags);
	return code;
}
