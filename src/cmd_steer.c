/* The commands that steer a running daemon: pause, resume, drain, reload, restart and others. */
#include "cmd_ask.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum { OTHERS_TIMEOUT_S = 120 };

struct steering {
	const char *name;
	const char *usage; /* its words */
	const char *prose;
	int least, most;     /* words that it takes */
	const char *waiting; /* NULL: the daemon answers at once */
	bool for_ever;       /* waits without an end unless told otherwise */
	const char *codes;
};

static const struct steering steerings[] = {
	{ "pause", "[QUEUE]",
	    "Takes no more jobs from the queue, or from any. Jobs that run are finished, and "
	    "other\n"
	    "consumers of the queue go on; 'warren resume' ends the pause.\n",
	    0, 1, NULL, false, "65 no such queue, " },
	{ "resume", "[QUEUE]", "Takes jobs again from the queue, or from all that are paused.\n", 0,
	    1, NULL, false, "65 no such queue, " },
	{ "drain", "[--limit DURATION]",
	    "Ends warrend, as SIGTERM does: it takes no more jobs from any queue, and is gone\n"
	    "when those that run are over. 'warren pause' stops the taking alone.\n",
	    0, 0, "waiting until the running jobs are over", true, "" },
	{ "reload", "",
	    "Reads the configuration again, and puts it into effect. A bad one is refused, each "
	    "error\n"
	    "with its line, and the old one stays.\n",
	    0, 0, "waiting for workers of the new configuration", false, "" },
	{ "restart", "",
	    "Replaces the worker processes by new ones: new plugin code, the same configuration.\n",
	    0, 0, "waiting for the new workers", false, "" },
	{ "cancel", "JOB",
	    "Asks a running job to stop; 'warren status' shows which run. Its task has to look for "
	    "it: "
	    "one\nthat does not goes on.\n",
	    1, 1, NULL, false, "65 no such job, " },
	{ "scale", "QUEUE N", "Changes the number of the queue's threads.\n", 2, 2,
	    "waiting for workers with the new number of threads", false, "65 no such queue, " },
	{ "log", "LEVEL", "Changes the level of the log: error, warn, info or debug.\n", 1, 1, NULL,
	    false, "" },
};

static const struct option options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "config", required_argument, NULL, 'c' },
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ "timeout", required_argument, NULL, 't' },
	{ "limit", required_argument, NULL, 'l' },
	{ 0 },
};

struct request {
	const struct steering *steering;
	struct cmd_daemon daemon;
	struct cmd_patience patience;
	int64_t limit_ns; /* -1: the configuration's */
	bool json;
};

static const struct steering *find_steering(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(steerings); i++)
		if (strcmp(steerings[i].name, name) == 0)
			return &steerings[i];
	return NULL;
}

static bool drains(const struct steering *steering)
{
	return steering->for_ever;
}

static int show_help(const struct steering *s)
{
	(void)printf("usage: warren %s%s%s [-s SOCKET | -c FILE] [--json]%s\n\n%s\n" CMD_ASK_HELP,
	    s->name, *s->usage ? " " : "", s->usage, s->waiting ? " [--timeout DURATION]" : "",
	    s->prose);
	if (drains(s))
		(void)fputs(
		    "      --limit DURATION  how long warrend gives the running jobs\n", stdout);
	if (s->waiting)
		(void)printf(
		    "      --timeout DURATION\n"
		    "                        ends with 75 after it (default: %s); what was "
		    "ordered goes on\n",
		    s->for_ever ? "never" : "2m");
	(void)printf("  -j, --json            the daemon's answer as it comes\n"
		     "  -h, --help\n\n"
		     "Exit: 0 done, 64 usage, %s69 no warrend answers, 75 busy%s,\n"
		     "77 not allowed%s.\n",
	    s->codes, s->waiting ? " or not over in time" : "",
	    s->waiting && !drains(s) ? ", 78 the new configuration or its workers were refused"
				     : "");
	return EXIT_OK;
}

/* -1: go on. */
static int read_option(struct request *r, int c)
{
	switch (c) {
	case 's':
		r->daemon.socket = optarg;
		return -1;
	case 'c':
		r->daemon.file = optarg;
		return -1;
	case 'j':
		r->json = true;
		return -1;
	case 't':
		if (!r->steering->waiting)
			return cmd_usage("--timeout: %s does not wait", r->steering->name);
		return cmd_read_duration("--timeout", optarg, &r->patience.timeout_ns) ? -1
										       : EXIT_USAGE;
	case 'l':
		if (!drains(r->steering))
			return cmd_usage("--limit is for drain");
		return cmd_read_duration("--limit", optarg, &r->limit_ns) ? -1 : EXIT_USAGE;
	case 'h':
		return show_help(r->steering);
	default:
		(void)fprintf(stderr, "Try 'warren %s --help'.\n", r->steering->name);
		return EXIT_USAGE;
	}
}

/* Each error of a refused reload, as `warrend -t` prints it. */
static void print_errors(const json_t *answer)
{
	struct reply_list errors = reply_list(answer, "errors");
	for (size_t i = 0; i < errors.n; i++) {
		const json_t *error = reply_item(&errors, i);
		double line = reply_real(error, "line");
		cmd_put_text(stderr, reply_text(error, "file"), false);
		if (line > 0)
			(void)fprintf(stderr, ":%.0f", line);
		(void)fputs(": ", stderr);
		cmd_put_text(stderr, reply_text(error, "text"), false);
		(void)putc('\n', stderr);
	}
}

static int show(const struct request *r, const json_t *answer, const char *raw)
{
	int code = cmd_answer_code(answer);
	if (r->json)
		(void)puts(raw);
	if (code != EXIT_OK) {
		print_errors(answer);
		cmd_say_refused(answer);
	} else if (!r->json) {
		cmd_put_text(stdout, reply_text(answer, "said"), false);
		(void)putchar('\n');
	}
	return code;
}

static int run(struct request *r, const char *const *words, size_t n)
{
	char *raw = NULL;
	int code;
	json_t *answer = cmd_ask(&r->daemon, words, n, &r->patience, &raw, &code);
	if (answer)
		code = show(r, answer, raw);
	free(raw);
	json_decref(answer);
	return code;
}

static int check_words(const struct steering *s, int n, char *const *words)
{
	if (n > s->most)
		return cmd_usage("what is '%s'?", words[s->most]);
	if (n < s->least)
		return cmd_usage("it takes %s", s->usage);
	for (int i = 0; i < n; i++)
		if (words[i][0] == '\0')
			return cmd_usage("an empty word says nothing");
	return EXIT_OK;
}

/* The command's name, its words, and drain's limit in milliseconds. */
static int steer(struct request *r, int n, char *const *given)
{
	enum { MOST = 4 };
	const char *words[MOST];
	size_t n_words = 0;
	char limit[24];
	int code = check_words(r->steering, n, given);
	if (code != EXIT_OK)
		return code;
	words[n_words++] = r->steering->name;
	for (int i = 0; i < n; i++)
		words[n_words++] = given[i];
	if (r->limit_ns >= 0) {
		(void)snprintf(limit, sizeof(limit), "%" PRId64, r->limit_ns / NS_PER_MS);
		words[n_words++] = limit;
	}
	return run(r, words, n_words);
}

int cmd_steer(int argc, char **argv)
{
	struct request r = { .steering = find_steering(argv[0]), .limit_ns = -1 };
	CHECK(r.steering != NULL);
	r.patience.waiting = r.steering->waiting;
	r.patience.timeout_ns = r.steering->for_ever  ? CLOCK_NEVER
				: r.steering->waiting ? OTHERS_TIMEOUT_S * NS_PER_S
						      : CMD_ASK_ANSWER_NS;
	int c;
	while ((c = getopt_long(argc, argv, "s:c:jh", options, NULL)) != -1) {
		int code = read_option(&r, c);
		if (code >= 0)
			return code;
	}
	int code = steer(&r, argc - optind, argv + optind);
	free(r.daemon.path);
	return code;
}
