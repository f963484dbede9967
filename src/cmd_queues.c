/* `warren queues`: how much waits in each queue that a configuration has to do with. */
#include "cmd.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "ladder.h"
#include "text.h"

static const char help[] =
    "usage: warren queues [-c FILE] [-u URL] [--json]\n"
    "\n"
    "Shows how many messages are ready in each queue of a configuration, and how many consumers "
    "it\n"
    "has: work queues, their dead letters, quarantines and return queues, what waits on each rung "
    "of\n"
    "the delay ladder, and what is parked. Only looks; creates nothing.\n"
    "\n"
    "  -c, --config FILE  the configuration; default: /etc/warren/warren.cfg\n"
    "  -u, --url URL      another broker or user than the configuration's; wiped from the process\n"
    "                     list\n"
    "  -j, --json         a line of JSON each: queue, kind, ready, consumers; missing ones have "
    "an\n"
    "                     error instead of numbers, rungs a delay in seconds\n"
    "  -h, --help\n"
    "\n"
    "Examples:\n"
    "  warren queues -c warren.cfg\n"
    "  warren queues --json | jq -r 'select(.kind == \"dead\" and .ready > 0) | .queue'\n"
    "\n"
    "Exit: 0 all are there, 64 usage, 65 one is missing, 69 no broker, 77 refused, 78 the\n"
    "configuration is bad.\n";

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "url", required_argument, NULL, 'u' },
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

enum kind { WORK, DEAD, QUARANTINE, RETURN, DELAY, PARKED };

static const char *const kind_words[] = { "work", "dead", "quarantine", "retry", "delay",
	"parked" };

struct row {
	const char *name;
	enum kind kind;
	int64_t delay_ms; /* DELAY */
	const char *why;
	bool needed; /* it must be there */
	bool found;
	uint32_t ready, consumers;
	char error[BROKER_TEXT_MAX]; /* why it was not found */
};

struct queues {
	struct cmd_target target;
	bool json;
	struct row *rows;
	size_t n;
	struct script **scripts; /* that the rows' names belong to */
	size_t n_scripts;
	char rungs[LADDER_RUNGS][LADDER_NAME_SIZE];
	char **returns; /* names of return queues, by the index of their queue */
};

/* ---- what there should be ---- */

static bool is_listed(const struct queues *q, const char *name)
{
	for (size_t i = 0; i < q->n; i++)
		if (strcmp(q->rows[i].name, name) == 0)
			return true;
	return false;
}

static void add_row(struct queues *q, struct row row)
{
	if (is_listed(q, row.name))
		return;
	q->rows = or_die(reallocarray(q->rows, q->n + 1, sizeof(*q->rows)));
	q->rows[q->n++] = row;
}

static bool ends_with(const char *text, const char *suffix)
{
	size_t len = strlen(text), end = strlen(suffix);
	return len >= end && strcmp(text + len - end, suffix) == 0;
}

static enum kind kind_of(const struct conf_queue *queue, const char *name)
{
	if (strcmp(name, queue->name) == 0)
		return WORK;
	if (queue->dead_letter && strcmp(name, queue->dead_letter) == 0)
		return DEAD;
	return ends_with(name, LADDER_RETURN_SUFFIX) ? RETURN : QUARANTINE;
}

/* A queue that never retries has a return queue where dead letters were replayed, or messages
 * published with a delay. */
static void add_return(struct queues *q, const struct conf_queue *queue)
{
	char *name = xasprintf("%s" LADDER_RETURN_SUFFIX, queue->name);
	q->returns[queue->index] = name;
	if (topology_has_quarantine(queue))
		add_row(
		    q, (struct row){ .name = name, .kind = RETURN, .why = "brings messages back" });
}

/* As topology.c has them, whoever has to make them. */
static void add_queue(struct queues *q, const struct conf_queue *queue)
{
	struct conf_queue active = *queue;
	active.declare = DECLARE_ACTIVE;
	struct script *script = or_die(topology_queue(q->target.conf, &active));
	q->scripts = or_die(reallocarray(q->scripts, q->n_scripts + 1, sizeof(struct script *)));
	q->scripts[q->n_scripts++] = script;
	for (size_t i = 0; i < script->n; i++) {
		const struct step *step = &script->steps[i];
		if (step->kind == STEP_QUEUE && step->name[0] != '\0')
			add_row(q, (struct row){ .name = step->name,
				       .kind = kind_of(queue, step->name),
				       .why = step->why,
				       .needed = true });
	}
	add_return(q, queue);
}

/* Higher rungs than the configuration needs are there where somebody published with a delay. */
static void add_ladder(struct queues *q)
{
	int top = topology_top_rung(q->target.conf);
	for (int rung = 0; rung < LADDER_RUNGS; rung++) {
		ladder_rung_name(rung, q->rungs[rung]);
		add_row(q, (struct row){ .name = q->rungs[rung],
			       .kind = DELAY,
			       .delay_ms = ladder_rung_ttl_ms(rung),
			       .needed = rung <= top });
	}
	add_row(q, (struct row){ .name = LADDER_PARKED,
		       .kind = PARKED,
		       .why = "keeps delayed messages whose queue is gone",
		       .needed = top >= 0 });
}

/* ---- what there is ---- */

static int look(struct broker *broker, struct row *row)
{
	struct event event;
	int code = cmd_look(broker, row->name, &event);
	if (code != EXIT_OK)
		return code;
	row->found = event.kind == EV_QUEUE_OK;
	if (row->found) {
		row->ready = event.messages;
		row->consumers = event.consumers;
	} else if (event.code == 404) {
		(void)snprintf(row->error, sizeof(row->error), "missing");
	} else if (event.code == 405) {
		(void)snprintf(row->error, sizeof(row->error), "exclusive to who declared it");
		row->needed = false;
	} else {
		(void)snprintf(row->error, sizeof(row->error), "%s", event.text);
	}
	return EXIT_OK;
}

static int look_at_all(struct queues *q, struct broker *broker)
{
	int code = EXIT_OK;
	for (size_t i = 0; i < q->n && code == EXIT_OK; i++)
		code = look(broker, &q->rows[i]);
	return code;
}

/* What is neither needed nor there is nobody's concern; an exclusive queue is there. */
static bool is_shown(const struct row *row)
{
	return row->needed || row->found || row->kind == WORK;
}

/* ---- words ---- */

/* 4h 33m 4s: how long is said by more than one unit where it does not come out even. */
static void show_delay(int64_t ms, char *buf, size_t size)
{
	static const struct {
		int64_t seconds;
		char letter;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	int64_t left = ms / 1000;
	size_t len = 0;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		int64_t n = left / units[i].seconds;
		left %= units[i].seconds;
		if (n > 0 && len < size)
			len += (size_t)snprintf(buf + len, size - len, "%s%" PRId64 "%c",
			    len ? " " : "", n, units[i].letter);
	}
}

static void print_why(const struct row *row)
{
	char delay[64];
	if (row->kind != DELAY) {
		(void)printf("  %s\n", row->why);
		return;
	}
	show_delay(row->delay_ms, delay, sizeof(delay));
	(void)printf("  each waits %s here\n", delay);
}

static void print_row(const struct row *row, int width)
{
	cmd_put_text(stdout, bytes_of(row->name), false);
	for (int n = (int)strlen(row->name); n < width; n++)
		(void)putchar(' ');
	if (row->found) {
		(void)printf("  %10" PRIu32 "  %9" PRIu32, row->ready, row->consumers);
	} else {
		(void)fputs("  ", stdout);
		cmd_put_text(stdout, bytes_of(row->error), false);
		for (int n = (int)strlen(row->error); n < 21; n++)
			(void)putchar(' ');
	}
	print_why(row);
}

static void print_table(const struct queues *q)
{
	int width = (int)strlen("QUEUE");
	for (size_t i = 0; i < q->n; i++)
		if (is_shown(&q->rows[i]) && (int)strlen(q->rows[i].name) > width)
			width = (int)strlen(q->rows[i].name);
	(void)printf("%-*s  %10s  %9s\n", width, "QUEUE", "READY", "CONSUMERS");
	for (size_t i = 0; i < q->n; i++)
		if (is_shown(&q->rows[i]))
			print_row(&q->rows[i], width);
}

static void print_json(const struct row *row)
{
	(void)fputs("{\"queue\":", stdout);
	cmd_put_json(stdout, bytes_of(row->name));
	(void)printf(",\"kind\":\"%s\"", kind_words[row->kind]);
	if (row->kind == DELAY)
		(void)printf(",\"delay\":%" PRId64, row->delay_ms / 1000);
	if (row->found) {
		(void)printf(
		    ",\"ready\":%" PRIu32 ",\"consumers\":%" PRIu32, row->ready, row->consumers);
	} else {
		(void)fputs(",\"error\":", stdout);
		cmd_put_json(stdout, bytes_of(row->error));
	}
	(void)fputs("}\n", stdout);
}

/* Prints all; EXIT_OK when none is missing. */
static int print(const struct queues *q)
{
	int code = EXIT_OK;
	if (!q->json)
		print_table(q);
	for (size_t i = 0; i < q->n; i++) {
		if (q->json && is_shown(&q->rows[i]))
			print_json(&q->rows[i]);
		if (q->rows[i].needed && !q->rows[i].found)
			code = EXIT_UNROUTABLE;
	}
	return code;
}

/* ---- */

static int queues(struct queues *q)
{
	int code;
	struct broker *broker = cmd_connect(&q->target, &code);
	if (!broker)
		return code;
	q->returns = xcalloc(q->target.conf->n_queues, sizeof(*q->returns));
	for (size_t i = 0; i < q->target.conf->n_queues; i++)
		add_queue(q, &q->target.conf->queues[i]);
	add_ladder(q);
	code = look_at_all(q, broker);
	broker_destroy(broker, 1000);
	return code == EXIT_OK ? print(q) : code;
}

static void queues_free(struct queues *q)
{
	for (size_t i = 0; i < q->n_scripts; i++)
		script_free(q->scripts[i]);
	for (size_t i = 0; q->returns && i < q->target.conf->n_queues; i++)
		free(q->returns[i]);
	free(q->returns);
	free(q->scripts);
	free(q->rows);
	cmd_target_free(&q->target);
}

int cmd_queues(int argc, char **argv)
{
	struct queues q = { .target = { .file = CMD_CONFIG } };
	int c;
	while ((c = getopt_long(argc, argv, "c:u:jh", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			q.target.file = optarg;
			break;
		case 'u':
			cmd_take_url(&q.target, optarg);
			break;
		case 'j':
			q.json = true;
			break;
		case 'h':
			(void)fputs(help, stdout);
			return EXIT_OK;
		default:
			(void)fputs("Try 'warren queues --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		return cmd_usage("what is '%s'?", argv[optind]);
	int code = queues(&q);
	queues_free(&q);
	return code;
}
