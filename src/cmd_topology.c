/* `warren topology`: what a configuration needs on the broker, shown or created. */
#include "cmd.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: warren topology [-c FILE] [--declare] [-u URL]\n"
    "\n"
    "Prints every exchange, queue and binding that a configuration of warrend needs, in the order "
    "in\n"
    "which they must be made, and what each is for. 'must exist' marks what warrend itself only "
    "looks\n"
    "for (declare = \"passive\").\n"
    "\n"
    "  -c, --config FILE  the configuration; default: /etc/warren/warren.cfg\n"
    "      --declare      creates what is missing, and checks what is there. For an operator with "
    "the\n"
    "                     right to do so, where warrend has not; also creates what it only looks "
    "for\n"
    "                     for retries and dead letters\n"
    "  -u, --url URL      another broker or user than the configuration's, with --declare; wiped "
    "from\n"
    "                     the process list\n"
    "  -h, --help\n"
    "\n"
    "Examples:\n"
    "  warren topology -c warren.cfg\n"
    "  warren topology -c warren.cfg --declare -u amqp://admin:secret@localhost/%2f\n"
    "\n"
    "Exit: 0 done, 64 usage, 65 something is not as it must be, 69 no broker, 77 refused, 78 the\n"
    "configuration is bad.\n";

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "declare", no_argument, NULL, 'd' },
	{ "url", required_argument, NULL, 'u' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/*
 * What a queue needs, whoever has to make it: where the topology is somebody else's, warrend
 * creates nothing, but what its retries and dead letters need is shown in full, and created by
 * --declare. The queue itself is then only looked for, and its bindings are not ours to say.
 */
static struct script *queue_script(const struct conf *conf, const struct conf_queue *queue)
{
	struct conf_queue active = *queue;
	active.declare = DECLARE_ACTIVE;
	struct script *script = or_die(topology_queue(conf, &active));
	if (queue->declare == DECLARE_ACTIVE)
		return script;
	size_t n = 0;
	for (size_t i = 0; i < script->n; i++) {
		struct step *step = &script->steps[i];
		bool itself = strcmp(step->name, queue->name) == 0;
		if (step->kind == STEP_EXCHANGE || (itself && step->kind == STEP_BIND))
			continue;
		step->passive = itself;
		script->steps[n++] = *step;
	}
	script->n = n;
	return script;
}

static void show_step(const struct step *step)
{
	char shown[1024];
	step_show(step, shown, sizeof(shown));
	cmd_put_text(stdout, bytes_of(shown), false);
	(void)printf("  # %s\n", step->why ? step->why : "");
}

/* Shows the steps, each after it has been run where there is a broker. Frees the script. */
static int run_script(const char *heading, struct script *script, struct broker *broker)
{
	int code = EXIT_OK;
	if (script->n > 0) {
		cmd_put_text(stdout, bytes_of(heading), false);
		(void)putchar('\n');
	}
	for (size_t i = 0; i < script->n && code == EXIT_OK; i++) {
		struct event event;
		if (broker)
			code = cmd_declare(broker, &script->steps[i], &event);
		if (code == EXIT_OK)
			show_step(&script->steps[i]);
	}
	if (script->n > 0)
		(void)putchar('\n');
	script_free(script);
	return code;
}

static int run_queue(const struct conf *conf, const struct conf_queue *queue, struct broker *broker)
{
	char *heading = xasprintf("# queue %s", queue->label);
	int code = run_script(heading, queue_script(conf, queue), broker);
	free(heading);
	return code;
}

/* The ladder first: return queues are bound to where it ends. */
static int run_all(const struct conf *conf, struct broker *broker)
{
	struct script *ladder = or_die(topology_ladder(topology_top_rung(conf), false));
	int code = run_script("# the delay ladder, for retries", ladder, broker);
	for (size_t i = 0; i < conf->n_queues && code == EXIT_OK; i++)
		code = run_queue(conf, &conf->queues[i], broker);
	if (code == EXIT_OK)
		code = run_script("# exchanges that no queue is bound to",
		    or_die(topology_exchanges(conf)), broker);
	return code;
}

static int topology(struct cmd_target *target, bool declare)
{
	struct broker *broker = NULL;
	int code;
	if (declare)
		broker = cmd_connect(target, &code);
	else
		code = cmd_resolve(target);
	if (code != EXIT_OK)
		return code;
	code = run_all(target->conf, broker);
	broker_destroy(broker, 1000);
	return code;
}

int cmd_topology(int argc, char **argv)
{
	struct cmd_target target = { .file = CMD_CONFIG };
	bool declare = false;
	int c;
	while ((c = getopt_long(argc, argv, "c:u:h", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			target.file = optarg;
			break;
		case 'u':
			cmd_take_url(&target, optarg);
			break;
		case 'd':
			declare = true;
			break;
		case 'h':
			(void)fputs(help, stdout);
			return EXIT_OK;
		default:
			(void)fputs("Try 'warren topology --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		return cmd_usage("what is '%s'?", argv[optind]);
	int code = topology(&target, declare);
	cmd_target_free(&target);
	return code;
}
