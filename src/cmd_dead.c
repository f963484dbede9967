/* `warren dead`: looks at dead letters, replays them, or drops them. */
#include "cmd.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dead.h"

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

struct dead {
	struct cmd_target target;
	struct dead_order order;
	bool all; /* no choice was meant */
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
	if (!equals || equals == text || d->order.filter.n_headers == DEAD_HEADERS_MAX) {
		(void)cmd_usage("-H: '%s' %s", text,
		    equals && equals != text ? "is one header too many" : "is not NAME=VALUE");
		return false;
	}
	*equals = '\0';
	d->order.headers[d->order.filter.n_headers++] = (struct letter_header){ text, equals + 1 };
	d->order.filter.headers = d->order.headers;
	return true;
}

static bool has_room(size_t n)
{
	if (n < DEAD_NAMED_MAX)
		return true;
	(void)cmd_usage("more than %d messages are named", DEAD_NAMED_MAX);
	return false;
}

static bool add_id(struct dead *d, const char *id)
{
	if (!has_room(d->order.n_ids))
		return false;
	d->order.ids[d->order.n_ids++] = id;
	return true;
}

static bool add_number(struct dead *d, const char *text)
{
	int64_t number;
	if (!has_room(d->order.n_numbers) ||
	    !cmd_read_count("the number", text, 1, INT64_MAX, &number))
		return false;
	d->order.numbers[d->order.n_numbers++] = (uint64_t)number;
	if (d->order.last < (uint64_t)number)
		d->order.last = (uint64_t)number;
	return true;
}

/* What only some of the commands have, as the word for a complaint; NULL: this one has it. */
static const char *foreign(enum dead_act act, int c)
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

static const char *name_of(int c)
{
	const struct option *option = options;
	while (option->val != c)
		option++;
	return option->name;
}

static bool take_filter(struct dead *d, int c, char *arg)
{
	switch (c) {
	case OPT_ID:
		return add_id(d, arg);
	case OPT_TASK:
		d->order.filter.task = arg;
		return true;
	case OPT_REASON:
		d->order.filter.reason = arg;
		return true;
	case OPT_VERDICT:
		d->order.filter.verdict = arg;
		return true;
	case OPT_OLDER:
		return cmd_read_duration("--older", arg, &d->order.filter.older_ns);
	case OPT_NEWER:
		return cmd_read_duration("--newer", arg, &d->order.filter.newer_ns);
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
		return cmd_read_count("--limit", arg, 1, INT64_MAX, &d->order.limit);
	case 'j':
		return d->order.json = true;
	case OPT_RATE:
		return cmd_read_count("--rate", arg, 1, DEAD_RATE_MAX, &d->order.rate);
	case OPT_EDIT:
		d->order.edit = arg;
		return true;
	case OPT_TO:
		d->order.to = arg;
		return cmd_check_name("--to", arg);
	case OPT_DRY_RUN:
		return d->order.dry = true;
	case OPT_YES:
		return d->order.yes = true;
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
	const struct dead_order *order = &d->order;
	if ((order->act == RETRY || order->act == DROP) && !order->choice && !d->all)
		return "which? Give ids or numbers, a filter, or --all";
	if (order->choice && d->all)
		return "--all goes with no other choice";
	if (order->to && order->to[0] == '\0')
		return "--to: the name of the queue is empty";
	return NULL;
}

static int read_act(struct dead *d, const char *word)
{
	static const char *const acts[] = { "list", "show", "retry", "drop" };
	for (size_t i = 0; i < ARRAY_LEN(acts); i++)
		if (word && strcmp(word, acts[i]) == 0) {
			d->order.act = (enum dead_act)i;
			return EXIT_OK;
		}
	return cmd_usage("what is to be done? One of: list, show, retry, drop");
}

/* -1: go on. */
static int read_options(struct dead *d, int argc, char **argv)
{
	int c;
	while ((c = getopt_long(argc, argv, "c:u:H:an:jh", options, NULL)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return EXIT_OK;
		}
		const char *whose = foreign(d->order.act, c);
		if (whose)
			return cmd_usage("--%s is an option of %s", name_of(c), whose);
		if (!take_option(d, c, optarg))
			return EXIT_USAGE;
	}
	return -1;
}

/* The queue, and which of its messages; -1: go on. */
static int read_arguments(struct dead *d, int argc, char **argv)
{
	if (optind == argc || argv[optind][0] == '\0')
		return cmd_usage("of which queue?");
	d->order.queue = argv[optind++];
	if (!cmd_check_name("the name of the queue", d->order.queue))
		return EXIT_USAGE;
	for (; optind < argc; optind++)
		if (!take_which(d, argv[optind]))
			return EXIT_USAGE;
	d->order.choice = d->order.n_ids + d->order.n_numbers > 0 || has_filter(&d->order.filter);
	const char *wrong = find_contradiction(d);
	return wrong ? cmd_usage("%s", wrong) : -1;
}

/* -1: go on. */
static int read_command_line(struct dead *d, int argc, char **argv)
{
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		(void)fputs(help, stdout);
		return EXIT_OK;
	}
	int code = read_act(d, argc > 1 ? argv[1] : NULL);
	if (code != EXIT_OK)
		return code;
	optind = 2; /* behind the word */
	code = read_options(d, argc, argv);
	return code < 0 ? read_arguments(d, argc, argv) : code;
}

/* ---- */

static int dead(struct dead *d)
{
	int code = EXIT_OK;
	const struct dead_order *order = &d->order;
	const char *environment = getenv("WARREN_URL");
	if (!d->target.file && !d->target.url && !(environment && *environment))
		d->target.file = CMD_CONFIG;
	if (order->act == DROP && !order->yes && !order->dry && isatty(STDIN_FILENO) != 1) {
		cmd_say("drop asks on a terminal, and there is none; --yes drops without asking");
		return EXIT_REFUSED;
	}
	struct broker *broker = cmd_connect(&d->target, &code);
	if (!broker)
		return code;
	code = dead_carry_out(broker, d->target.conf, order);
	broker_destroy(broker, 1000);
	return code;
}

int cmd_dead(int argc, char **argv)
{
	struct dead *d = xcalloc(1, sizeof(*d));
	d->order.filter.older_ns = d->order.filter.newer_ns = -1;
	d->order.limit = d->order.rate = -1;
	(void)signal(SIGPIPE, SIG_IGN);
	int code = read_command_line(d, argc, argv);
	if (code < 0)
		code = dead(d);
	cmd_target_free(&d->target);
	free(d);
	return code;
}
