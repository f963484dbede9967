/* `warren plugin`: a task without a broker, and what a plugin offers. A plugin author's first hour.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "cmd.h"
#include "job.h"
#include "option.h"
#include "plugin.h"
#include "text.h"

enum {
	EXIT_DEAD = 65,
	LIST_MAX = 256, /* of -o, of -H */
};

static const char help_text[] =
    "usage: warren plugin run FILE TASK [OPTIONS] < BODY\n"
    "       warren plugin show FILE\n"
    "\n"
    "run opens the plugin, gives one message to the task, and prints verdict, reason and reply;\n"
    "there is no broker and no configuration. show prints tasks and options.\n"
    "\n"
    "  -o, --option NAME=VALUE    an option of the plugin; a list's items with commas\n"
    "  -f, --file FILE            the body (default: standard input)\n"
    "  -H, --header NAME=VALUE    a header, a string\n"
    "  -e, --exchange NAME        as if published there (default: the default exchange)\n"
    "  -r, --routing-key KEY      with that key (default: the name of the task)\n"
    "  -q, --queue NAME           as if taken from there (default: dry-run)\n"
    "      --type TEXT            property type\n"
    "      --content-type TEXT    property content_type\n"
    "      --message-id TEXT      property message_id\n"
    "      --correlation-id TEXT  property correlation_id\n"
    "      --reply-to NAME        property reply_to (default: dry-run.replies; \"\": none)\n"
    "      --attempt N            which run of the message this is\n"
    "      --redelivered          the broker has delivered it before\n"
    "      --time-limit DURATION  the task is told to stop after it\n"
    "      --raw                  print the reply alone, byte by byte\n"
    "  -v, --verbose              log debug lines too\n"
    "  -h, --help\n"
    "\n"
    "Ctrl-C asks the task to stop, a second one ends it.\n"
    "\n"
    "Exit code: 0 done, 75 retry, 65 dead, 70 the task returned no verdict, 78 the plugin or its\n"
    "options are refused, 64 usage.\n"
    "\n"
    "Examples:\n"
    "  echo hello | warren plugin run ./upper.so text.upper\n"
    "  printf /etc/hostname | warren plugin run digest.so file.digest -o algorithm=sha512 --raw\n"
    "  warren plugin run ./exec.so exec.run -o program=/usr/bin/env -H x-customer=7 < /dev/null\n"
    "  warren plugin show ./upper.so\n";

/* One dry run, as the command line says. */
struct dry_run {
	const char *file, *task, *body_file;
	struct conf_option options[LIST_MAX];
	struct field headers[LIST_MAX];
	size_t n_options, n_headers;
	struct conf_queue queue;
	const char *exchange, *routing_key;
	struct props props;
	int64_t attempt, time_limit_ns;
	bool redelivered, raw, verbose;
};

/* ---- Reading the command line ---- */

enum long_option {
	LONG_TYPE = 256,
	LONG_CONTENT_TYPE,
	LONG_MESSAGE_ID,
	LONG_CORRELATION_ID,
	LONG_REPLY_TO,
	LONG_ATTEMPT,
	LONG_REDELIVERED,
	LONG_TIME_LIMIT,
	LONG_RAW,
};

static const struct option long_options[] = {
	{ "option", required_argument, NULL, 'o' },
	{ "file", required_argument, NULL, 'f' },
	{ "header", required_argument, NULL, 'H' },
	{ "exchange", required_argument, NULL, 'e' },
	{ "routing-key", required_argument, NULL, 'r' },
	{ "queue", required_argument, NULL, 'q' },
	{ "type", required_argument, NULL, LONG_TYPE },
	{ "content-type", required_argument, NULL, LONG_CONTENT_TYPE },
	{ "message-id", required_argument, NULL, LONG_MESSAGE_ID },
	{ "correlation-id", required_argument, NULL, LONG_CORRELATION_ID },
	{ "reply-to", required_argument, NULL, LONG_REPLY_TO },
	{ "attempt", required_argument, NULL, LONG_ATTEMPT },
	{ "redelivered", no_argument, NULL, LONG_REDELIVERED },
	{ "time-limit", required_argument, NULL, LONG_TIME_LIMIT },
	{ "raw", no_argument, NULL, LONG_RAW },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* Cuts NAME=VALUE in two. */
static bool cut(char *argument, char **value)
{
	*value = strchr(argument, '=');
	if (!*value || *value == argument)
		return false;
	*(*value)++ = '\0';
	return true;
}

static bool add_option(struct dry_run *run, char *argument)
{
	char *value;
	if (run->n_options == LIST_MAX || !cut(argument, &value))
		return false;
	run->options[run->n_options++] =
	    (struct conf_option){ .name = argument, .value = V_STR(bytes_of(value)) };
	return true;
}

static bool add_header(struct dry_run *run, char *argument)
{
	char *value;
	if (run->n_headers == LIST_MAX || !cut(argument, &value))
		return false;
	run->headers[run->n_headers++] =
	    (struct field){ bytes_of(argument), V_STR(bytes_of(value)) };
	return true;
}

static bool set_property(
    struct dry_run *run, enum prop bit, struct bytes *property, const char *text)
{
	run->props.present |= (uint32_t)bit;
	*property = bytes_of(text);
	return cmd_check_name("property", text);
}

static bool set_name(const char *option, const char **name, const char *text)
{
	*name = text;
	return cmd_check_name(option, text);
}

/* False when it has said what is wrong. */
static bool take_option(struct dry_run *run, int option, char *text)
{
	struct props *props = &run->props;
	switch (option) {
	case 'o':
		return add_option(run, text) || cmd_usage("-o %s: not NAME=VALUE", text) == EXIT_OK;
	case 'H':
		return add_header(run, text) || cmd_usage("-H %s: not NAME=VALUE", text) == EXIT_OK;
	case 'f':
		run->body_file = text;
		return true;
	case 'v':
		run->verbose = true;
		return true;
	case 'e':
		return set_name("-e", &run->exchange, text);
	case 'r':
		return set_name("-r", &run->routing_key, text);
	case 'q':
		run->queue.name = run->queue.label = text;
		return cmd_check_name("-q", text);
	case LONG_TYPE:
		return set_property(run, PROP_TYPE, &props->type, text);
	case LONG_CONTENT_TYPE:
		return set_property(run, PROP_CONTENT_TYPE, &props->content_type, text);
	case LONG_MESSAGE_ID:
		return set_property(run, PROP_MESSAGE_ID, &props->message_id, text);
	case LONG_CORRELATION_ID:
		return set_property(run, PROP_CORRELATION_ID, &props->correlation_id, text);
	case LONG_REPLY_TO:
		return set_property(run, PROP_REPLY_TO, &props->reply_to, text);
	case LONG_ATTEMPT:
		return cmd_read_count("--attempt", text, 1, 1000000, &run->attempt);
	case LONG_REDELIVERED:
		run->redelivered = true;
		return true;
	case LONG_TIME_LIMIT:
		return cmd_read_duration("--time-limit", text, &run->time_limit_ns);
	case LONG_RAW:
		run->raw = true;
		return true;
	default:
		return cmd_usage("see the options in --help") == EXIT_OK;
	}
}

/* ---- The message ---- */

/* All of a file as malloc'ed bytes; false with errno. */
static bool read_all(int fd, struct bytes *all)
{
	char *data = NULL;
	size_t len = 0, size = 0;
	for (;;) {
		if (len == size) {
			char *more = realloc(data, size = size ? 2 * size : 64 * 1024);
			if (!more)
				break;
			data = more;
		}
		ssize_t n = read(fd, data + len, size - len);
		if (n == 0) {
			*all = (struct bytes){ data, len };
			return true;
		}
		if (n < 0 && errno != EINTR)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	free(data);
	return false;
}

static bool read_body(const struct dry_run *run, struct msg *msg)
{
	FILE *file = run->body_file ? fopen(run->body_file, "re") : stdin;
	if (file && file == stdin && isatty(STDIN_FILENO))
		cmd_say("reading the body; end it with Ctrl-D");
	bool good = file && read_all(fileno(file), &msg->body);
	if (!good)
		cmd_say(
		    "%s: %s", run->body_file ? run->body_file : "standard input", strerror(errno));
	if (file && file != stdin)
		fclose(file);
	msg->body_alloc = (void *)(uintptr_t)msg->body.data;
	return good;
}

static struct warren_job *make_job(struct dry_run *run, const struct task *task)
{
	struct warren_job *job = job_create(host_api(), &run->queue);
	CHECK(job);
	job->msg.exchange = bytes_of(run->exchange);
	job->msg.routing_key = bytes_of(run->routing_key ? run->routing_key : run->task);
	job->msg.redelivered = run->redelivered;
	job->msg.props = run->props;
	if (run->n_headers) {
		job->msg.props.present |= PROP_HEADERS;
		job->msg.props.headers = (struct table){ run->headers, run->n_headers };
	}
	if (!(run->props.present & PROP_REPLY_TO)) {
		job->msg.props.present |= PROP_REPLY_TO;
		job->msg.props.reply_to = BYTES_LIT("dry-run.replies");
	} else if (run->props.reply_to.len == 0) {
		job->msg.props.present &= ~(uint32_t)PROP_REPLY_TO;
	}
	job_read_headers(job, false, clock_wall_ms());
	job->attempt = (int)run->attempt;
	job->task = task;
	job->task_name = bytes_of(task->name);
	snprintf(job->id, sizeof(job->id), "dry-run");
	return job;
}

/* ---- Running ---- */

static struct warren_job *running; /* what Ctrl-C stops */
static bool in_task;

static void on_interrupt(int signal)
{
	(void)signal;
	job_stop(running, WARREN_STOP_CANCEL);
}

/* A task that ends the process must not look as if it were done. */
static void on_exit_called(void)
{
	static const char words[] = "verdict: none\nwarren: the task called exit() or "
				    "pthread_exit(): in warrend that takes its "
				    "worker process or thread down\n";
	if (!in_task)
		return;
	if (write(STDERR_FILENO, words, sizeof(words) - 1) < 0)
		_exit(EXIT_OS);
	_exit(EXIT_INTERNAL);
}

static enum warren_verdict run_job(
    struct plugin_thread *thread, struct warren_job *job, int64_t time_limit_ns)
{
	struct sigaction ask = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };
	int64_t limit_ns = time_limit_ns ? time_limit_ns : job->task->time_limit_ns;
	running = job;
	sigaction(SIGINT, &ask, NULL);
	job->started_ns = clock_mono_ns();
	if (limit_ns)
		job->deadline_ns = job->started_ns + limit_ns;
	in_task = atexit(on_exit_called) == 0;
	enum warren_verdict verdict = task_run(thread, job);
	in_task = false;
	job->ended_ns = clock_mono_ns();
	signal(SIGINT, SIG_DFL);
	return verdict;
}

/* ---- Printing ---- */

static void put_field(const char *name, struct bytes text)
{
	printf("%s: ", name);
	cmd_put_text(stdout, text, false);
	putchar('\n');
}

static void put_body(const char *what, const struct outgoing *out)
{
	printf("%s: %zu bytes%s", what, out->body.len, out->props.content_type.len ? " of " : "");
	cmd_put_text(stdout, out->props.content_type, false);
	putchar('\n');
	cmd_put_text(stdout, out->body, true);
	if (out->body.len && out->body.data[out->body.len - 1] != '\n')
		putchar('\n');
}

static void put_follow_up(const struct outgoing *out)
{
	char text[256];
	put_field("follow-up to exchange", out->exchange);
	put_field("  routing key", out->routing_key);
	for (size_t i = 0; i < out->props.headers.n; i++) {
		const struct field *header = &out->props.headers.fields[i];
		fputs("  header ", stdout);
		cmd_put_text(stdout, header->key, false);
		value_show(&header->value, text, sizeof(text));
		put_field("", bytes_of(text));
	}
	put_body("  body", out);
}

static void put_result(const struct warren_job *job, enum warren_verdict verdict)
{
	char text[64];
	put_field("verdict", bytes_of(host_verdict_word(verdict)));
	if (verdict != WARREN_DONE && *job->reason)
		put_field("reason", bytes_of(job->reason));
	if (verdict == WARREN_RETRY && job->retry_after_ns >= 0)
		printf("retry after: %s\n",
		    text_show_duration(job->retry_after_ns, text, sizeof(text)));
	printf(
	    "took: %s\n", text_show_duration(job->ended_ns - job->started_ns, text, sizeof(text)));
	if (verdict != WARREN_DONE)
		return;
	for (const struct outgoing *out = job->follow_ups; out; out = out->next)
		put_follow_up(out);
	if (job->reply)
		put_body("reply", job->reply);
}

static int exit_code(enum warren_verdict verdict)
{
	switch (verdict) {
	case WARREN_DONE:
		return EXIT_OK;
	case WARREN_RETRY:
		return EXIT_TEMPFAIL;
	case WARREN_DEAD:
		return EXIT_DEAD;
	}
	return EXIT_INTERNAL;
}

/* ---- The two commands ---- */

static struct plugins *open_plugin(
    const char *file, enum plugin_trust trust, struct conf_option *options, size_t n_options)
{
	struct conf_plugin wanted = { .options = options, .n_options = n_options };
	static char path[] = "command line";
	struct conf conf = { .path = path, .plugins = &wanted, .n_plugins = 1 };
	struct conf_errors errors = { 0 };
	wanted.file = realpath(file, NULL);
	if (!wanted.file) {
		cmd_say("%s: %s", file, strerror(errno));
		return NULL;
	}
	struct plugins *plugins = plugins_open(&conf, trust, &errors);
	conf_errors_print(&errors, stderr);
	conf_errors_free(&errors);
	free(wanted.file);
	return plugins;
}

static int run_in(struct dry_run *run, struct plugin_thread *thread, const struct task *task)
{
	struct warren_job *job = make_job(run, task);
	int code = EXIT_USAGE;
	if (read_body(run, &job->msg)) {
		enum warren_verdict verdict = run_job(thread, job, run->time_limit_ns);
		code = exit_code(verdict);
		if (!run->raw)
			put_result(job, verdict);
		else if (verdict == WARREN_DONE && job->reply)
			fwrite(job->reply->body.data, 1, job->reply->body.len, stdout);
	}
	job_destroy(job);
	return code;
}

static int run_task(struct dry_run *run, struct plugins *plugins)
{
	struct conf_errors errors = { 0 };
	char why[1024];
	const struct task *task = plugins_find(plugins, bytes_of(run->task));
	if (!task)
		return cmd_usage(
		    "%s has no task %s; see: warren plugin show", run->file, run->task);
	if (!plugins_start(plugins, &errors)) {
		conf_errors_print(&errors, stderr);
		conf_errors_free(&errors);
		return EXIT_CONFIG;
	}
	struct plugin_thread *thread = plugins_thread_open(plugins, 0, why, sizeof(why));
	if (!thread) {
		cmd_say("%s", why);
		return EXIT_CONFIG;
	}
	int code = run_in(run, thread, task);
	plugins_thread_close(thread);
	return code;
}

static int command_run(struct dry_run *run)
{
	struct plugins *plugins =
	    open_plugin(run->file, PLUGINS_OF_USER, run->options, run->n_options);
	if (!plugins)
		return EXIT_CONFIG;
	int code = run_task(run, plugins);
	plugins_stop(plugins);
	return code;
}

static void show_task(const struct task *task)
{
	char text[64];
	printf("  %s%s", task->name, task->serial ? ", one thread at a time" : "");
	if (task->time_limit_ns)
		printf(", at most %s", text_show_duration(task->time_limit_ns, text, sizeof(text)));
	putchar('\n');
}

static void show_option(const struct warren_option *option)
{
	printf("  %s: %s, ", option->name, option_type_word(option->type));
	if (option->fallback)
		printf("default \"%s\"", option->fallback);
	else
		fputs("required", stdout);
	if (option->min)
		printf(", at least %s", option->min);
	if (option->max)
		printf(", at most %s", option->max);
	printf("\n      %s\n", option->help ? option->help : "");
}

static void show_plugin(const struct plugin *plugin)
{
	const struct warren_plugin *p = &plugin->descriptor;
	put_field("plugin", bytes_of(plugin->label));
	put_field("file", bytes_of(plugin->file));
	printf("abi: %u.%u\n", p->abi_major, p->abi_minor);
	put_field("summary", bytes_of(p->summary));
	puts("tasks:");
	for (size_t i = 0; i < plugin->n_tasks; i++)
		show_task(&plugin->tasks[i]);
	puts(plugin->n_options ? "options:" : "options: none");
	for (size_t i = 0; i < plugin->n_options; i++)
		show_option(&plugin->options[i]);
}

static int command_show(const char *file)
{
	struct plugins *plugins = open_plugin(file, PLUGINS_TO_SHOW, NULL, 0);
	if (!plugins)
		return EXIT_CONFIG;
	show_plugin(plugins_at(plugins, 0));
	plugins_stop(plugins);
	return EXIT_OK;
}

int cmd_plugin(int argc, char **argv)
{
	static char dry_run_name[] = "dry-run";
	struct dry_run run = {
		.queue = { .name = dry_run_name, .label = dry_run_name, .retry.attempts = 5 },
		.attempt = 1,
	};
	int option;
	while ((option = getopt_long(argc, argv, "o:f:H:e:r:q:vh", long_options, NULL)) != -1) {
		if (option == 'h')
			return fputs(help_text, stdout) < 0 ? EXIT_OS : EXIT_OK;
		if (!take_option(&run, option, optarg))
			return EXIT_USAGE;
	}
	log_init(run.verbose ? LOG_DEBUG : LOG_INFO, LOG_LOGFMT);
	argc -= optind;
	argv += optind;
	if (argc == 2 && strcmp(argv[0], "show") == 0)
		return command_show(argv[1]);
	if (argc != 3 || strcmp(argv[0], "run") != 0)
		return cmd_usage("run FILE TASK, or show FILE");
	run.file = argv[1];
	run.task = argv[2];
	return command_run(&run);
}
