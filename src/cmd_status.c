/* `warren status`: what a running daemon does, and what is wrong, on one screen. */
#include "cmd_ask.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "screen.h"

static const char help[] =
    "usage: warren status [-s SOCKET | -c FILE] [--all] [--json] [--watch[=SECONDS]]\n"
    "\n"
    "Shows what warrend does: problems and what to do about them first, then connections, queues,\n"
    "busy threads and worker processes.\n"
    "\n" CMD_ASK_HELP
    "  -a, --all             also idle queues of a long list, and each task of a queue\n"
    "  -j, --json            the daemon's answer as it comes\n"
    "  -w, --watch[=SECONDS] again every 2 seconds, on a terminal; Ctrl-C ends it\n"
    "  -h, --help\n"
    "\n"
    "Exit: 0 all is as configured, 1 there is an error among the problems, 64 usage, 69 no "
    "warrend\n"
    "answers, 75 it is busy, 77 not allowed.\n";

static const struct option options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "config", required_argument, NULL, 'c' },
	{ "all", no_argument, NULL, 'a' },
	{ "json", no_argument, NULL, 'j' },
	{ "watch", optional_argument, NULL, 'w' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

struct status {
	struct cmd_daemon daemon;
	bool all, json;
	int64_t watch_s; /* 0: once */
};

static size_t terminal_width(void)
{
	enum { USUAL = 80, LEAST = 40, MOST = 500 };
	struct winsize size;
	const char *columns = getenv("COLUMNS");
	long width = columns ? strtol(columns, NULL, 10) : 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		width = size.ws_col;
	if (width <= 0)
		return USUAL;
	return width < LEAST ? LEAST : width > MOST ? MOST : (size_t)width;
}

static int show(const struct status *status, const json_t *answer, const char *raw)
{
	int code = cmd_answer_code(answer);
	if (status->json)
		(void)puts(raw);
	if (code != EXIT_OK) {
		cmd_say_refused(answer);
		return code;
	}
	if (!status->json) {
		struct stream_pen pen = pen_to(stdout, pen_wants_colour(stdout));
		screen_put_status(&pen.pen, answer, terminal_width(), status->all);
	}
	return screen_has_error(answer) ? EXIT_PROBLEM : EXIT_OK;
}

static int ask_once(struct status *status)
{
	static const char *const words[] = { "status" };
	const struct cmd_patience patience = { CMD_ASK_ANSWER_NS, NULL };
	char *raw = NULL;
	int code;
	json_t *answer = cmd_ask(&status->daemon, words, ARRAY_LEN(words), &patience, &raw, &code);
	if (answer)
		code = show(status, answer, raw);
	free(raw);
	json_decref(answer);
	return code;
}

/* A daemon that goes away comes back, perhaps: it is asked again. */
static int watch(struct status *status)
{
	for (;;) {
		(void)fputs("\033[H\033[2J", stdout);
		(void)fflush(stdout); /* what is wrong is said on standard error */
		int code = ask_once(status);
		(void)printf("\nevery %lld s; Ctrl-C ends\n", (long long)status->watch_s);
		if (fflush(stdout) != 0)
			return code;
		struct timespec pause = { .tv_sec = status->watch_s };
		(void)nanosleep(&pause, NULL);
	}
}

static bool read_watch(struct status *status, const char *text)
{
	enum { USUAL_S = 2, LONGEST_S = 86400 };
	status->watch_s = USUAL_S;
	return !text || cmd_read_count("--watch", text, 1, LONGEST_S, &status->watch_s);
}

/* -1: go on. */
static int read_option(struct status *status, int c)
{
	switch (c) {
	case 's':
		status->daemon.socket = optarg;
		return -1;
	case 'c':
		status->daemon.file = optarg;
		return -1;
	case 'a':
		status->all = true;
		return -1;
	case 'j':
		status->json = true;
		return -1;
	case 'w':
		return read_watch(status, optarg) ? -1 : EXIT_USAGE;
	case 'h':
		(void)fputs(help, stdout);
		return EXIT_OK;
	default:
		(void)fputs("Try 'warren status --help'.\n", stderr);
		return EXIT_USAGE;
	}
}

int cmd_status(int argc, char **argv)
{
	struct status status = { 0 };
	int c;
	while ((c = getopt_long(argc, argv, "s:c:ajw::h", options, NULL)) != -1) {
		int code = read_option(&status, c);
		if (code >= 0)
			return code;
	}
	if (optind < argc)
		return cmd_usage("what is '%s'?", argv[optind]);
	if (status.watch_s > 0 && (status.json || isatty(STDOUT_FILENO) != 1))
		return cmd_usage("--watch draws on a terminal; a script asks again with --json");
	pen_set_locale();
	int code = status.watch_s > 0 ? watch(&status) : ask_once(&status);
	free(status.daemon.path);
	return code;
}
