/* `warren dead`: looks at dead letters, replays them, or drops them. */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "ladder.h"
#include "letter.h"
#include "replay.h"
#include "show.h"
#include "text.h"
#include "tray.h"

static const char help[] =
    "usage: warren dead list QUEUE [FILTER]... [OPTIONS]\n"
    "       warren dead show QUEUE [ID | NUMBER] [OPTIONS]\n"
    "       warren dead retry QUEUE ID | NUMBER... | FILTER... | --all [OPTIONS]\n"
    "       warren dead drop QUEUE ID | NUMBER... | FILTER... | --all [OPTIONS]\n"
    "\n"
    "Lists the dead letters of a queue, shows one, sends them back to be run again, or drops "
    "them.\n"
    "Those that are not meant stay where they are, in their order. QUEUE is a queue of the\n"
    "configuration, or the name of a queue of dead letters; warren.v1.parked is one.\n"
    "\n"
    "Broker (default: as /etc/warren/warren.cfg says):\n"
    "  -c, --config FILE     as this configuration of warrend says\n"
    "  -u, --url URL         its URL; wiped from the process list. Or in WARREN_URL. Without -c, "
    "QUEUE\n"
    "                        is then the queue of the dead letters itself\n"
    "Which (all that are given must hold):\n"
    "  ID, NUMBER            the property message_id; or the place in the list, counted from 1\n"
    "      --id ID           a message_id, also if it looks like a number\n"
    "      --task TASK       of this task; * stands for any text\n"
    "      --reason TEXT     with this text in the reason\n"
    "      --verdict WORD    dead, exhausted, timed-out, crashed, expired, ...\n"
    "      --older TIME      dead for longer than TIME (90s, 2h, 30d)\n"
    "      --newer TIME      dead for less than TIME\n"
    "  -H, --header NAME=VALUE  with this header\n"
    "  -a, --all             all of them (retry, drop)\n"
    "  -n, --limit N         N of them at most, from the oldest on\n"
    "How:\n"
    "  -j, --json            a line of JSON each (list, show)\n"
    "      --rate N          retries N a second at most\n"
    "      --edit COMMAND    gives the body to COMMAND (by sh -c) and takes what it writes "
    "(retry)\n"
    "      --to QUEUE        retries in this queue, not in the one each came from\n"
    "      --dry-run         only says what it would do (retry, drop)\n"
    "      --yes             drops without asking\n"
    "  -h, --help\n"
    "\n"
    "Examples:\n"
    "  warren dead list digests --newer 1h\n"
    "  warren dead show digests 1\n"
    "  warren dead retry digests --reason 'connection refused' --rate 50\n"
    "  warren dead retry digests 3 --edit 'jq .path=\\\"/srv/new\\\"'\n"
    "  warren dead drop digests --older 30d --yes\n"
    "\n"
    "Exit: 0 done, 64 usage, 65 nothing matched, or one could not be sent, 69 no broker, 75\n"
    "interrupted, or not confirmed, 77 refused, 78 the configuration is bad.\n";

enum {
	WHICH_MAX = 1000, /* ids and numbers */
	HEADERS_MAX = 64, /* filters */
	NAMED = 5,        /* messages that were left and are named; the others are counted */
	RENEW_AT = 10, /* RabbitMQ 4 drops what a quorum queue has handed out more than 20 times */
	RATE_MAX = 100000,
};

/* RabbitMQ takes back what is held for half an hour; before that we begin anew. */
#define HOLD_NS (10 * 60 * NS_PER_S)

enum act { LIST, SHOW, RETRY, DROP };

struct dead {
	enum act act;
	struct cmd_target target;
	const char *queue; /* as given; then the queue of the dead letters */
	uint64_t numbers[WHICH_MAX];
	const char *ids[WHICH_MAX];
	size_t n_numbers, n_ids;
	struct letter_filter filter;
	struct letter_header headers[HEADERS_MAX];
	int64_t limit, rate; /* -1: none */
	bool all, json, dry, yes;
	const char *to, *edit;

	/* Once it runs. */
	struct broker *broker;
	struct tray *tray;
	struct replay replay;
	FILE *out;            /* what is printed when the messages are back in their queue */
	uint64_t total, last; /* how many there were; the last number that is meant */
	uint64_t kept, gone;  /* passed by, at the head; settled or put behind */
	uint64_t chosen, done, left, refused;
	uint64_t *tags; /* to be dropped when the operator has said yes */
	int64_t opened_ns, next_ns;
};

/* ---- the command line ---- */

enum {
	OPT_ID = 256,
	OPT_TASK,
	OPT_REASON,
	OPT_VERDICT,
	OPT_OLDER,
	OPT_NEWER,
	OPT_RATE,
	OPT_EDIT,
	OPT_TO,
	OPT_DRY_RUN,
	OPT_YES
};

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "url", required_argument, NULL, 'u' },
	{ "id", required_argument, NULL, OPT_ID },
	{ "task", required_argument, NULL, OPT_TASK },
	{ "reason", required_argument, NULL, OPT_REASON },
	{ "verdict", required_argument, NULL, OPT_VERDICT },
	{ "older", required_argument, NULL, OPT_OLDER },
	{ "newer", required_argument, NULL, OPT_NEWER },
	{ "header", required_argument, NULL, 'H' },
	{ "all", no_argument, NULL, 'a' },
	{ "limit", required_argument, NULL, 'n' },
	{ "json", no_argument, NULL, 'j' },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "edit", required_argument, NULL, OPT_EDIT },
	{ "to", required_argument, NULL, OPT_TO },
	{ "dry-run", no_argument, NULL, OPT_DRY_RUN },
	{ "yes", no_argument, NULL, OPT_YES },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool add_header(struct dead *d, char *text)
{
	char *equals = strchr(text, '=');
	if (!equals || equals == text || d->filter.n_headers == HEADERS_MAX) {
		(void)cmd_usage("-H: '%s' %s", text,
		    equals && equals != text ? "is one header too many" : "is not NAME=VALUE");
		return false;
	}
	*equals = '\0';
	d->headers[d->filter.n_headers++] = (struct letter_header){ text, equals + 1 };
	d->filter.headers = d->headers;
	return true;
}

static bool has_room(size_t n)
{
	if (n < WHICH_MAX)
		return true;
	(void)cmd_usage("more than %d messages are named", WHICH_MAX);
	return false;
}

static bool add_id(struct dead *d, const char *id)
{
	if (!has_room(d->n_ids))
		return false;
	d->ids[d->n_ids++] = id;
	return true;
}

static bool add_number(struct dead *d, const char *text)
{
	int64_t number;
	if (!has_room(d->n_numbers) || !cmd_read_count("the number", text, 1, INT64_MAX, &number))
		return false;
	d->numbers[d->n_numbers++] = (uint64_t)number;
	if (d->last < (uint64_t)number)
		d->last = (uint64_t)number;
	return true;
}

/* What only some of the commands have, as the word for a complaint; NULL: this one has it. */
static const char *foreign(enum act act, int c)
{
	switch (c) {
	case 'a':
	case OPT_DRY_RUN:
		return act == RETRY || act == DROP ? NULL : "retry and drop";
	case 'j':
		return act == LIST || act == SHOW ? NULL : "list and show";
	case OPT_RATE:
	case OPT_EDIT:
	case OPT_TO:
		return act == RETRY ? NULL : "retry";
	case OPT_YES:
		return act == DROP ? NULL : "drop";
	case 'n':
		return act == SHOW ? "list, retry and drop" : NULL;
	default:
		return NULL;
	}
}

static bool take_filter(struct dead *d, int c, char *arg)
{
	switch (c) {
	case OPT_ID:
		return add_id(d, arg);
	case OPT_TASK:
		d->filter.task = arg;
		return true;
	case OPT_REASON:
		d->filter.reason = arg;
		return true;
	case OPT_VERDICT:
		d->filter.verdict = arg;
		return true;
	case OPT_OLDER:
		return cmd_read_duration("--older", arg, &d->filter.older_ns);
	case OPT_NEWER:
		return cmd_read_duration("--newer", arg, &d->filter.newer_ns);
	case 'H':
		return add_header(d, arg);
	default:
		(void)fputs(
		    "Try 'warren dead --help'.\n", stderr); /* getopt has said what is wrong */
		return false;
	}
}

static bool take_option(struct dead *d, int c, char *arg)
{
	switch (c) {
	case 'c':
		d->target.file = arg;
		return true;
	case 'u':
		cmd_take_url(&d->target, arg);
		return true;
	case 'a':
		return d->all = true;
	case 'n':
		return cmd_read_count("--limit", arg, 1, INT64_MAX, &d->limit);
	case 'j':
		return d->json = true;
	case OPT_RATE:
		return cmd_read_count("--rate", arg, 1, RATE_MAX, &d->rate);
	case OPT_EDIT:
		d->edit = arg;
		return true;
	case OPT_TO:
		d->to = arg;
		return cmd_check_name("--to", arg);
	case OPT_DRY_RUN:
		return d->dry = true;
	case OPT_YES:
		return d->yes = true;
	default:
		return take_filter(d, c, arg);
	}
}

static bool has_filter(const struct letter_filter *f)
{
	return f->task || f->reason || f->verdict || f->n_headers > 0 || f->older_ns >= 0 ||
	       f->newer_ns >= 0;
}

static bool take_which(struct dead *d, const char *text)
{
	size_t digits = strspn(text, "0123456789");
	return digits > 0 && text[digits] == '\0' ? add_number(d, text) : add_id(d, text);
}

/* What goes with what. NULL: all is well. */
static const char *find_contradiction(const struct dead *d)
{
	bool some = d->n_ids + d->n_numbers > 0 || has_filter(&d->filter);
	if ((d->act == RETRY || d->act == DROP) && !some && !d->all)
		return "which? Give ids or numbers, a filter, or --all";
	if (some && d->all)
		return "--all goes with no other choice";
	if (d->to && d->to[0] == '\0')
		return "--to: the name of the queue is empty";
	return NULL;
}

static int read_act(struct dead *d, const char *word)
{
	static const char *const acts[] = { "list", "show", "retry", "drop" };
	for (size_t i = 0; i < ARRAY_LEN(acts); i++)
		if (word && strcmp(word, acts[i]) == 0) {
			d->act = (enum act)i;
			return EXIT_OK;
		}
	return cmd_usage("what is to be done? One of: list, show, retry, drop");
}

/* Reads what stands behind the word; -1: go on. */
static int read_command_line(struct dead *d, int argc, char **argv)
{
	int c;
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		(void)fputs(help, stdout);
		return EXIT_OK;
	}
	int code = read_act(d, argc > 1 ? argv[1] : NULL);
	if (code != EXIT_OK)
		return code;
	optind = 2;
	while ((c = getopt_long(argc, argv, "c:u:H:an:jh", options, NULL)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return EXIT_OK;
		}
		const char *whose = foreign(d->act, c);
		if (whose)
			return cmd_usage("%s: that is an option of %s", argv[optind - 1], whose);
		if (!take_option(d, c, optarg))
			return EXIT_USAGE;
	}
	if (optind == argc || argv[optind][0] == '\0')
		return cmd_usage("of which queue?");
	d->queue = argv[optind++];
	for (; optind < argc; optind++)
		if (!take_which(d, argv[optind]))
			return EXIT_USAGE;
	const char *wrong = find_contradiction(d);
	if (wrong)
		return cmd_usage("%s", wrong);
	return cmd_check_name("the name of the queue", d->queue) ? -1 : EXIT_USAGE;
}

/* ---- which messages ---- */

static bool is_named(const struct dead *d, const struct letter *letter, uint64_t number)
{
	for (size_t i = 0; i < d->n_numbers; i++)
		if (d->numbers[i] == number)
			return true;
	for (size_t i = 0; i < d->n_ids; i++)
		if (bytes_is(letter->message_id, d->ids[i]))
			return true;
	return false;
}

static bool is_meant(
    const struct dead *d, const struct letter *letter, const struct msg *msg, uint64_t number)
{
	bool named = d->n_ids + d->n_numbers == 0 || is_named(d, letter, number);
	return named && letter_matches(&d->filter, letter, msg, clock_wall_ms());
}

static bool is_last(const struct dead *d, uint64_t number)
{
	return (d->limit >= 0 && d->chosen >= (uint64_t)d->limit) ||
	       (d->act == SHOW && d->chosen > 0) ||
	       (d->n_numbers > 0 && d->n_ids == 0 && number >= d->last);
}

/* ---- what is done with one that is meant ---- */

/* What became of it: the queue has it still, or it is gone from there. */
enum fate { STAYS, GOES };

/* It is said of the first ones alone; all are counted. */
static void say_left(struct dead *d, const struct letter *letter, uint64_t number, const char *why)
{
	struct bytes id = letter->message_id;
	d->left++;
	if (d->left > NAMED)
		return;
	cmd_say("number %" PRIu64 "%s%.*s stays: %s%s", number, id.len ? ", " : "", (int)id.len,
	    id.len ? id.data : "", why, d->left == NAMED ? " (more are counted, not named)" : "");
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
    struct dead *d, const struct letter *letter, const struct msg *msg, uint64_t number)
{
	if (d->json)
		show_letter_json(d->out, letter, msg, number, clock_wall_ms());
	else if (d->chosen == 1)
		show_letter_heading(d->out);
	if (!d->json)
		show_letter(d->out, letter, msg, number, clock_wall_ms());
	d->done++;
}

static void show_one(struct dead *d, const struct msg *msg)
{
	if (d->json)
		show_json(d->out, msg, d->queue);
	else
		show_block_hex(d->out, msg, d->queue);
	d->done++;
}

/* The next one is due a while after the last one, however long that took. */
static int wait_for_turn(struct dead *d)
{
	if (d->rate < 0)
		return EXIT_OK;
	int64_t now = clock_mono_ns(), due = d->next_ns > now ? d->next_ns : now;
	int code = tray_idle(d->tray, due);
	d->next_ns = due + NS_PER_S / d->rate;
	return code;
}

static void say_in_doubt(const struct dead *d, const struct letter *letter, uint64_t number)
{
	struct bytes id = letter->message_id;
	if (d->replay.in_doubt)
		cmd_say("number %" PRIu64 "%s%.*s may have been replayed, and is among the dead "
			"letters still",
		    number, id.len ? ", " : "", (int)id.len, id.len ? id.data : "");
}

static int retry_one(struct dead *d, const struct letter *letter, const struct event *event,
    uint64_t number, enum fate *fate)
{
	enum replayed how = REPLAY_LEFT;
	const char *to = "";
	char why[512] = "";
	int code = wait_for_turn(d);
	if (code != EXIT_OK || cmd_stopped())
		return code;
	code = replay_letter(&d->replay, letter, &event->msg, &how, &to, why, sizeof(why));
	if (code != EXIT_OK) {
		say_in_doubt(d, letter, number);
		return code;
	}
	if (how != REPLAYED) {
		if (cmd_stopped())
			return EXIT_OK;
		d->refused += how == REPLAY_REFUSED;
		say_left(d, letter, number, why);
		return EXIT_OK;
	}
	d->done++;
	if (d->dry) {
		say_dry(d->out, letter, number, "would go to ", to);
		return EXIT_OK;
	}
	*fate = GOES;
	return tray_ack(d->tray, event->tag);
}

static int drop_one(struct dead *d, const struct letter *letter, const struct event *event,
    uint64_t number, enum fate *fate)
{
	if (d->dry) {
		say_dry(d->out, letter, number, "would be dropped", "");
		d->done++;
		return EXIT_OK;
	}
	if (d->yes) {
		*fate = GOES;
		d->done++;
		return tray_ack(d->tray, event->tag);
	}
	if ((d->chosen & (d->chosen - 1)) == 0)
		d->tags = or_die(reallocarray(d->tags, d->chosen * 2, sizeof(*d->tags)));
	d->tags[d->chosen - 1] = event->tag;
	return EXIT_OK;
}

static int act_on(struct dead *d, const struct letter *letter, const struct event *event,
    uint64_t number, enum fate *fate)
{
	switch (d->act) {
	case LIST:
		list_one(d, letter, &event->msg, number);
		return EXIT_OK;
	case SHOW:
		show_one(d, &event->msg);
		return EXIT_OK;
	case RETRY:
		return retry_one(d, letter, event, number, fate);
	case DROP:
		return drop_one(d, letter, event, number, fate);
	}
	return EXIT_INTERNAL;
}

/*
 * RabbitMQ 4 drops a message that a quorum queue has handed out too often, and each look at it is
 * one time. So before that it is put behind the others, as a message that was never handed out.
 */
static int renew(struct dead *d, const struct event *event, enum fate *fate)
{
	struct outgoing out;
	enum posted posted;
	if (letter_deliveries(&event->msg) < RENEW_AT || event->msg.flaw > MSG_TOO_LARGE)
		return EXIT_OK;
	struct arena *arena = or_die(arena_create());
	or_die(letter_renew(&event->msg, arena, &out) ? arena : NULL);
	out.exchange = bytes_of("");
	out.routing_key = bytes_of(d->queue);
	int code = tray_post(d->tray, &out, &posted);
	arena_destroy(arena);
	if (code != EXIT_OK || posted != POSTED)
		return code;
	*fate = GOES;
	return tray_ack(d->tray, event->tag);
}

/* ---- the way through the queue ---- */

static int open_tray(struct dead *d)
{
	d->opened_ns = clock_mono_ns();
	return tray_open(d->tray, d->total - d->gone);
}

static int judge(struct dead *d, const struct event *event, bool *ended)
{
	struct letter letter;
	enum fate fate = STAYS;
	uint64_t number = d->kept + d->gone + 1;
	int code = EXIT_OK;
	letter_read(&event->msg, &letter);
	if (is_meant(d, &letter, &event->msg, number)) {
		d->chosen++;
		code = act_on(d, &letter, event, number, &fate);
	}
	if (code == EXIT_OK && fate == STAYS && !d->tags)
		code = renew(d, event, &fate);
	d->kept += fate == STAYS;
	d->gone += fate == GOES;
	*ended = cmd_stopped() || is_last(d, number);
	cmd_progress(number, d->total);
	return code;
}

static int take_one(struct dead *d, bool *ended)
{
	struct event event;
	int code = tray_take(d->tray, &event);
	*ended = code != EXIT_OK || event.kind == EV_NONE;
	if (*ended)
		return code;
	code = judge(d, &event, ended);
	event_drop(&event);
	return code;
}

/* Those at the head that were passed by are back there, in their order. */
static int begin_anew(struct dead *d)
{
	int code = tray_give_back(d->tray);
	if (code == EXIT_OK)
		code = open_tray(d);
	for (uint64_t i = 0; i < d->kept && code == EXIT_OK; i++) {
		struct event event;
		code = tray_take(d->tray, &event);
		event_drop(&event);
	}
	return code;
}

static bool is_held_long(const struct dead *d)
{
	return d->act == RETRY && d->kept > 0 && clock_mono_ns() - d->opened_ns > HOLD_NS;
}

static int walk(struct dead *d)
{
	bool ended = false;
	int code = open_tray(d);
	while (code == EXIT_OK && !ended && !cmd_stopped()) {
		code = take_one(d, &ended);
		if (code == EXIT_OK && !ended && is_held_long(d))
			code = begin_anew(d);
	}
	return code;
}

/* ---- the question ---- */

static bool read_answer(struct dead *d, int *code)
{
	char answer[64] = "";
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	while (*code == EXIT_OK && !cmd_stopped()) {
		if (poll(&p, 1, 100) == 1) {
			ssize_t n = read(STDIN_FILENO, answer, sizeof(answer) - 1);
			return n > 0 && (answer[0] == 'y' || answer[0] == 'Y');
		}
		*code = tray_idle(d->tray, clock_mono_ns());
	}
	return false;
}

/* What was counted is held meanwhile, so that it is exactly what is dropped. */
static int ask_and_drop(struct dead *d)
{
	int code = EXIT_OK;
	cmd_progress_end();
	(void)fprintf(stderr, "Drop %" PRIu64 " of %" PRIu64 " in ", d->chosen, d->total);
	cmd_put_text(stderr, bytes_of(d->queue), false);
	(void)fputs(" for ever? [y/N] ", stderr);
	if (!read_answer(d, &code)) {
		if (cmd_stopped())
			(void)putc('\n', stderr);
		return code == EXIT_OK && !cmd_stopped() ? EXIT_REFUSED : code;
	}
	for (; d->done < d->chosen && code == EXIT_OK; d->done++)
		code = tray_ack(d->tray, d->tags[d->done]);
	return code;
}

/* ---- the end ---- */

/* Printed only now: whoever reads it slowly, or not at all, holds nobody's messages. */
static void print_out(const struct dead *d)
{
	char piece[65536];
	size_t n;
	rewind(d->out);
	while ((n = fread(piece, 1, sizeof(piece), d->out)) > 0)
		if (fwrite(piece, 1, n, stdout) != n)
			return;
}

static void sum_up(const struct dead *d)
{
	const char *word = d->act == RETRY ? "replayed" : "dropped";
	if (d->act == LIST || d->act == SHOW || d->dry)
		return;
	cmd_say("%s%s %" PRIu64 "; %" PRIu64 " of %" PRIu64 " remain in %s",
	    cmd_stopped() ? "interrupted: " : "", word, d->done, d->total - d->done, d->total,
	    d->queue);
}

static int judge_end(const struct dead *d)
{
	if (cmd_stopped())
		return EXIT_TEMPFAIL;
	if (d->refused > 0)
		return EXIT_TEMPFAIL;
	if (d->left > 0)
		return EXIT_UNROUTABLE;
	if (d->chosen > 0 ||
	    (d->act == LIST && !has_filter(&d->filter) && d->n_ids + d->n_numbers == 0))
		return EXIT_OK;
	cmd_say("nothing matched; %s holds %" PRIu64, d->queue, d->total);
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
static int resolve_queue(struct dead *d, bool *by_itself)
{
	const struct conf_queue *queue = listed(d->target.conf, d->queue);
	*by_itself = !queue;
	if (!queue)
		return EXIT_OK;
	if (!queue->dead_letter) {
		cmd_say("queue %s has no queue of dead letters", d->queue);
		return EXIT_UNROUTABLE;
	}
	if (is_shared(d->target.conf, queue))
		d->filter.queue = queue->name;
	d->queue = queue->dead_letter;
	return EXIT_OK;
}

/* A queue that somebody consumes is at work: its messages are not dead. */
static int look(struct dead *d)
{
	bool by_itself;
	struct event event;
	int code = resolve_queue(d, &by_itself);
	if (code == EXIT_OK)
		code = cmd_look(d->broker, d->queue, &event);
	if (code != EXIT_OK)
		return code;
	if (event.kind != EV_QUEUE_OK)
		return cmd_explain(d->broker, &event, "look for the dead letters");
	if (by_itself && event.consumers > 0) {
		cmd_say(
		    "queue %s has consumers, so its messages are not dead; with -c FILE the name "
		    "of a work queue means its dead letters",
		    d->queue);
		return EXIT_REFUSED;
	}
	d->total = event.messages;
	return EXIT_OK;
}

/* ---- */

static int run(struct dead *d)
{
	d->out = or_die(tmpfile());
	d->tray = tray_create(d->broker, d->queue);
	d->replay = (struct replay){ .broker = d->broker,
		.tray = d->tray,
		.conf = d->target.conf,
		.source = d->queue,
		.to = d->to,
		.edit = d->edit,
		.dry = d->dry };
	cmd_note_stops();
	cmd_progress_start();
	int code = walk(d);
	if (code == EXIT_OK && d->tags && !cmd_stopped())
		code = ask_and_drop(d);
	int given = tray_give_back(d->tray);
	cmd_progress_end();
	print_out(d);
	sum_up(d);
	if (code == EXIT_OK)
		code = given;
	return code == EXIT_OK ? judge_end(d) : code;
}

static int dead(struct dead *d)
{
	int code = EXIT_OK;
	const char *environment = getenv("WARREN_URL");
	if (!d->target.file && !d->target.url && !(environment && *environment))
		d->target.file = CMD_CONFIG;
	if (d->act == DROP && !d->yes && !d->dry && isatty(STDIN_FILENO) != 1) {
		cmd_say("drop asks on a terminal, and there is none; --yes drops without");
		return EXIT_REFUSED;
	}
	d->broker = cmd_connect(&d->target, &code);
	if (!d->broker)
		return code;
	code = look(d);
	if (code == EXIT_OK)
		code = run(d);
	replay_fini(&d->replay);
	tray_destroy(d->tray);
	broker_destroy(d->broker, 1000);
	return code;
}

int cmd_dead(int argc, char **argv)
{
	struct dead *d = xcalloc(1, sizeof(*d));
	*d = (struct dead){ .filter = { .older_ns = -1, .newer_ns = -1 }, .limit = -1, .rate = -1 };
	(void)signal(SIGPIPE, SIG_IGN);
	int code = read_command_line(d, argc, argv);
	if (code < 0)
		code = dead(d);
	cmd_target_free(&d->target);
	if (d->out)
		(void)fclose(d->out);
	free(d->tags);
	free(d);
	return code;
}
