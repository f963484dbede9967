/* The operator's tool: `warren COMMAND ...`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
};

static int run_help(int argc, char **argv);

static const struct command commands[] = {
	{ "publish", cmd_publish, "send messages to a queue or exchange, confirmed" },
	{ "subscribe", cmd_subscribe, "print messages as they arrive" },
	{ "dead", cmd_dead, "look at dead letters, replay them, or drop them" },
	{ "queues", cmd_queues, "how much waits in the queues of a configuration" },
	{ "plugin", cmd_plugin, "run a task without a broker, or show what a plugin offers" },
	{ "topology", cmd_topology, "show or create what a configuration needs on the broker" },
#ifdef WARREN_STEERS
	{ "status", cmd_status, "what a running warrend does, and what is wrong" },
#ifdef WARREN_TOP
	{ "top", cmd_top, "the same, live" },
#endif
	{ "pause", cmd_steer, "take no more jobs from a queue, or from any" },
	{ "resume", cmd_steer, "take jobs again" },
	{ "drain", cmd_steer, "take no more jobs, and wait for those that run" },
	{ "reload", cmd_steer, "put a changed configuration into effect" },
	{ "restart", cmd_steer, "replace the worker processes by new ones" },
	{ "cancel", cmd_steer, "ask a running job to stop" },
	{ "scale", cmd_steer, "change the number of a queue's threads" },
	{ "log", cmd_steer, "change the level of the log" },
#endif
	{ "help", run_help, "show the help of a command" },
};

static int show_help(FILE *out)
{
	(void)fputs("warren: the operator's tool of warren, the worker framework for RabbitMQ\n\n"
		    "usage: warren COMMAND [ARGUMENTS]\n\n",
	    out);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		(void)fprintf(out, "  %-10s  %s\n", commands[i].name, commands[i].summary);
	(void)fputs("\n'warren COMMAND --help' shows a command's options and examples, "
		    "'warren --version' the version.\n",
	    out);
	return EXIT_OK;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Levenshtein's distance, on one row; words longer than that are near to nothing we have. */
static size_t distance(const char *a, const char *b)
{
	enum { LONGEST = 32 };
	size_t row[LONGEST + 1], n = strlen(b);
	if (n > LONGEST || strlen(a) > LONGEST)
		return LONGEST;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i] != '\0'; i++) {
		size_t diagonal = row[0];
		row[0] = i + 1;
		for (size_t j = 0; j < n; j++) {
			size_t replaced = diagonal + (a[i] != b[j]);
			diagonal = row[j + 1];
			row[j + 1] = least(replaced, least(row[j], row[j + 1]) + 1);
		}
	}
	return row[n];
}

/* The command that was probably meant: one that begins so, or the nearest one; NULL: none is near.
 */
static const struct command *guess(const char *name)
{
	const struct command *best = NULL;
	size_t best_distance = 3;
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		size_t d = distance(name, commands[i].name);
		if (strlen(name) >= 2 && strncmp(name, commands[i].name, strlen(name)) == 0)
			d = 0;
		if (d < best_distance) {
			best_distance = d;
			best = &commands[i];
		}
	}
	return best;
}

static int refuse(const char *name)
{
	const struct command *meant = guess(name);
	(void)fputs("warren: there is no command '", stderr);
	cmd_put_text(stderr, bytes_of(name), false);
	(void)fprintf(stderr, "'%s%s%s\nTry 'warren help'.\n", meant ? "; did you mean '" : "",
	    meant ? meant->name : "", meant ? "'?" : "");
	return EXIT_USAGE;
}

static int run_command(const char *name, int argc, char **argv)
{
	const struct command *command = find_command(name);
	if (!command)
		return refuse(name);
	cmd_set_name(command->name);
	return command->run(argc, argv);
}

static int run_help(int argc, char **argv)
{
	char *args[] = { argc > 1 ? argv[1] : NULL, (char[]){ "--help" }, NULL };
	if (argc < 2 || find_command(argv[1]) == find_command("help"))
		return show_help(stdout);
	return run_command(argv[1], 2, args);
}

/* What was printed must have arrived: a full disk is not a success. */
static int end(int code)
{
	if ((fflush(stdout) == 0 && !ferror(stdout)) || code != EXIT_OK)
		return code;
	(void)fputs("warren: cannot write to standard output\n", stderr);
	return EXIT_OS;
}

int main(int argc, char **argv)
{
	broker_widen_stack();
	if (argc < 2) {
		(void)show_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return end(show_help(stdout));
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return end(puts("warren " WARREN_VERSION) < 0 ? EXIT_OS : EXIT_OK);
	return end(run_command(argv[1], argc - 1, argv + 1));
}
