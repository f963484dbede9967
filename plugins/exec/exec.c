/*
 * exec.run: runs a program for each job. The body is its standard input, properties and headers
 * stand in its environment, its standard output is the reply, its exit code the verdict.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

enum { CODES = 256 };

/* From the options, constant after open(). */
struct exec {
	char **argv;                    /* the program and its arguments */
	const char *const *environment; /* NAME=VALUE, the operator's, and a NULL */
	size_t n_environment;
	const char *directory; /* "": warrend's */
	size_t max_output;
	int64_t kill_after_ms;
	enum warren_verdict verdicts[CODES]; /* by exit code */
};

/* ---- The environment: nothing of warrend's own but what every program needs ---- */

static const char *const inherited[] = {
	"PATH",
	"HOME",
	"USER",
	"LOGNAME",
	"SHELL",
	"LANG",
	"LC_ALL",
	"TZ",
	"TMPDIR",
};

#define N_INHERITED (sizeof(inherited) / sizeof(inherited[0]))

/* A name made of A-Z, 0-9 and _ alone, behind a prefix of ours: a header cannot be LD_PRELOAD. */
static char *env_name(char *to, const char *prefix, const char *name)
{
	for (; *prefix; prefix++)
		*to++ = *prefix;
	for (; *name; name++) {
		char c = *name >= 'a' && *name <= 'z' ? (char)(*name - 'a' + 'A') : *name;
		*to++ = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
	}
	*to++ = '=';
	return to;
}

/* The value as text; NULL for tables, arrays, and text with a NUL, which are left out. */
static const char *env_text(const struct warren_value *value, char *number, size_t size)
{
	switch (value->kind) {
	case WARREN_STRING:
	case WARREN_BYTES:
		return strlen(value->text) == value->len ? value->text : NULL;
	case WARREN_BOOL:
		return value->boolean ? "true" : "false";
	case WARREN_INT:
		snprintf(number, size, "%" PRId64, value->integer);
		return number;
	case WARREN_UINT:
	case WARREN_TIMESTAMP:
		snprintf(number, size, "%" PRIu64, value->natural);
		return number;
	case WARREN_DOUBLE:
		snprintf(number, size, "%.17g", value->real);
		return number;
	default:
		return NULL;
	}
}

/* "PREFIX_NAME=text" in the job's memory; NULL when the value is left out or memory is short. */
static char *env_of(struct warren_job *job, const char *prefix, const struct warren_value *value)
{
	char number[40];
	const char *text = env_text(value, number, sizeof(number));
	if (!text)
		return NULL;
	char *entry = warren_alloc(job, strlen(prefix) + strlen(value->name) + strlen(text) + 2);
	if (entry)
		strcpy(env_name(entry, prefix, value->name), text);
	return entry;
}

/* The three parts in one, in the job's memory; NULL when it is short. */
static char *env_entry(struct warren_job *job, const char *name, const char *sign, const char *text)
{
	size_t size = strlen(name) + strlen(sign) + strlen(text) + 1;
	char *entry = warren_alloc(job, size);
	if (entry)
		snprintf(entry, size, "%s%s%s", name, sign, text);
	return entry;
}

/* Whether NAME=... stands among the entries. */
static bool has_name(const char *const *entries, const char *name)
{
	size_t len = strlen(name);
	for (; *entries; entries++)
		if (strncmp(*entries, name, len) == 0 && (*entries)[len] == '=')
			return true;
	return false;
}

static void append(char **env, size_t *n, char *entry)
{
	if (entry)
		env[(*n)++] = entry;
}

/* The operator's own, what every program needs, then the message. NULL when memory is short. */
static char **environment(struct warren_job *job, const struct exec *exec)
{
	size_t n_headers, n = 0;
	const struct warren_value *headers = warren_headers(job, &n_headers);
	size_t room = exec->n_environment + N_INHERITED + WARREN_FIELDS + n_headers + 1;
	char **env = warren_alloc(job, room * sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < exec->n_environment; i++)
		append(env, &n, env_entry(job, exec->environment[i], "", ""));
	for (size_t i = 0; i < N_INHERITED; i++) {
		const char *text = getenv(inherited[i]);
		if (text && !has_name(exec->environment, inherited[i]))
			append(env, &n, env_entry(job, inherited[i], "=", text));
	}
	for (int i = 0; i < WARREN_FIELDS; i++) {
		const struct warren_value *field = warren_get(job, (enum warren_field)i);
		append(env, &n, field ? env_of(job, "WARREN_", field) : NULL);
	}
	for (size_t i = 0; i < n_headers; i++)
		append(env, &n, env_of(job, "WARREN_HEADER_", &headers[i]));
	env[n] = NULL;
	return env;
}

/* ---- A job ---- */

static enum warren_verdict not_started(struct warren_job *job, const struct exec *exec, int error)
{
	if (error == E2BIG)
		return warren_dead(job, "%s: its environment is too large", exec->argv[0]);
	return warren_retry(job, "%s: %s", exec->argv[0], strerror(error));
}

/* Words for the way a program ended that was no exit of its own. */
static enum warren_verdict cut_short(
    struct warren_job *job, const struct exec *exec, const struct child_result *result)
{
	if (result->too_much)
		return warren_dead(job, "more than %zu bytes of output", exec->max_output);
	if (result->stop)
		return warren_retry(job, "ended because %s",
		    result->stop == WARREN_STOP_LIMIT ? "its time limit passed"
						      : "the job was stopped");
	if (result->lost)
		return warren_retry(
		    job, "its exit code was lost: something ignores or takes SIGCHLD");
	const char *name = sigabbrev_np(WTERMSIG(result->status));
	return warren_retry(job, "killed by SIG%s", name ? name : "?");
}

static enum warren_verdict judge(
    struct warren_job *job, const struct exec *exec, const struct child_result *result)
{
	if (result->spawn_error)
		return not_started(job, exec, result->spawn_error);
	if (result->too_much || result->stop || result->lost || !WIFEXITED(result->status))
		return cut_short(job, exec, result);
	int code = WEXITSTATUS(result->status);
	switch (exec->verdicts[code]) {
	case WARREN_DONE:
		warren_reply(job, "application/octet-stream", result->output, result->output_len);
		return WARREN_DONE;
	case WARREN_RETRY:
		return warren_retry(job, "exit code %d", code);
	case WARREN_DEAD:
		break;
	}
	return warren_dead(job, "exit code %d", code);
}

static enum warren_verdict run(struct warren_job *job)
{
	const struct exec *exec = warren_state(job);
	struct child_order order = {
		.argv = exec->argv,
		.env = environment(job, exec),
		.directory = exec->directory,
		.want_output = warren_text(job, WARREN_REPLY_TO) != NULL,
		.max_output = exec->max_output,
		.kill_after_ms = exec->kill_after_ms,
	};
	struct child_result result;
	if (!order.env)
		return warren_retry(job, "out of memory");
	order.body = warren_body(job, &order.body_len);
	child_run(job, &order, &result);
	enum warren_verdict verdict = judge(job, exec, &result);
	free(result.output);
	return verdict;
}

/* ---- Options ---- */

/* Sets the verdict of each exit code in a list; a code may stand in one list alone. */
static bool read_codes(
    struct warren_host *host, struct exec *exec, const char *option, enum warren_verdict verdict)
{
	for (const char *const *item = warren_option_list(host, option, NULL); *item; item++) {
		char *end;
		long code = strtol(*item, &end, 10);
		if (end == *item || *end || code < 0 || code >= CODES)
			return warren_refuse(
			    host, "%s: \"%s\" is no exit code (0 to 255)", option, *item);
		if (exec->verdicts[code] && exec->verdicts[code] != verdict)
			return warren_refuse(
			    host, "%s: %ld stands in another list too", option, code);
		exec->verdicts[code] = verdict;
	}
	return true;
}

static bool read_verdicts(struct warren_host *host, struct exec *exec)
{
	const char *otherwise = warren_option_text(host, "otherwise");
	enum warren_verdict other = strcmp(otherwise, "retry") == 0 ? WARREN_RETRY : WARREN_DEAD;
	if (other == WARREN_DEAD && strcmp(otherwise, "dead") != 0)
		return warren_refuse(
		    host, "otherwise is \"%s\"; it is \"dead\" or \"retry\"", otherwise);
	if (!read_codes(host, exec, "done_codes", WARREN_DONE) ||
	    !read_codes(host, exec, "retry_codes", WARREN_RETRY) ||
	    !read_codes(host, exec, "dead_codes", WARREN_DEAD))
		return false;
	for (int code = 0; code < CODES; code++)
		if (!exec->verdicts[code])
			exec->verdicts[code] = other;
	return true;
}

/* `sh -c program program arguments...`, or the program and its arguments. */
static bool read_command(struct warren_host *host, struct exec *exec)
{
	const char *program = warren_option_text(host, "program");
	bool shell = warren_option_bool(host, "shell");
	size_t n_arguments, n = 0;
	const char *const *arguments = warren_option_list(host, "arguments", &n_arguments);

	if (!shell && (*program != '/' || access(program, X_OK) != 0))
		return warren_refuse(host, "program \"%s\": %s", program,
		    *program == '/' ? strerror(errno)
				    : "not an absolute path; or set shell = true");
	exec->argv = calloc(n_arguments + 5, sizeof(*exec->argv));
	if (!exec->argv)
		return warren_refuse(host, "out of memory");
	if (shell) {
		exec->argv[n++] = strdup("/bin/sh");
		exec->argv[n++] = strdup("-c");
		exec->argv[n++] = strdup(program);
	}
	exec->argv[n++] = strdup(program);
	for (size_t i = 0; i < n_arguments; i++)
		exec->argv[n++] = strdup(arguments[i]);
	while (n-- > 0)
		if (!exec->argv[n])
			return warren_refuse(host, "out of memory");
	return true;
}

static bool read_environment(struct warren_host *host, struct exec *exec)
{
	exec->environment = warren_option_list(host, "environment", &exec->n_environment);
	for (const char *const *item = exec->environment; *item; item++)
		if (strcspn(*item, "=") == 0 || !strchr(*item, '='))
			return warren_refuse(host, "environment: \"%s\" is not NAME=VALUE", *item);
	return true;
}

static void stop(void *state)
{
	struct exec *exec = state;
	for (char **argument = exec->argv; argument && *argument; argument++)
		free(*argument);
	free(exec->argv);
	free(exec);
}

static bool start(struct warren_host *host, void **state)
{
	struct exec *exec = calloc(1, sizeof(*exec));
	if (!exec)
		return warren_refuse(host, "out of memory");
	exec->directory = warren_option_text(host, "directory");
	exec->max_output = (size_t)warren_option_int(host, "max_output");
	exec->kill_after_ms = warren_option_int(host, "kill_after");
	if (!read_verdicts(host, exec) || !read_command(host, exec) ||
	    !read_environment(host, exec)) {
		stop(exec);
		return false;
	}
	*state = exec;
	return true;
}

static const struct warren_task tasks[] = {
	{ .name = "exec.run", .run = run },
	{ 0 },
};

static const struct warren_option options[] = {
	{ .name = "program",
	    .type = WARREN_OPT_STRING,
	    .help = "what is run: an absolute path, or with shell = true a command line" },
	{ .name = "arguments",
	    .type = WARREN_OPT_LIST,
	    .fallback = "",
	    .help = "its arguments, as they stand; with a shell its $1, $2, ..." },
	{ .name = "shell",
	    .type = WARREN_OPT_BOOL,
	    .fallback = "false",
	    .help = "run it by /bin/sh -c" },
	{ .name = "done_codes",
	    .type = WARREN_OPT_LIST,
	    .fallback = "0",
	    .help = "exit codes that mean done" },
	{ .name = "retry_codes",
	    .type = WARREN_OPT_LIST,
	    .fallback = "75",
	    .help = "exit codes that mean: again later" },
	{ .name = "dead_codes",
	    .type = WARREN_OPT_LIST,
	    .fallback = "",
	    .help = "exit codes that mean: never again" },
	{ .name = "otherwise",
	    .type = WARREN_OPT_STRING,
	    .fallback = "dead",
	    .help = "what an exit code in none of the lists means: \"dead\" or \"retry\"" },
	{ .name = "environment",
	    .type = WARREN_OPT_LIST,
	    .fallback = "",
	    .help = "NAME=VALUE, in addition to what the manual lists" },
	{ .name = "directory",
	    .type = WARREN_OPT_PATH,
	    .fallback = "",
	    .help = "where it is run; \"\": warrend's own directory" },
	{ .name = "max_output",
	    .type = WARREN_OPT_SIZE,
	    .fallback = "1MiB",
	    .help = "a longer reply ends it, and the message is dead",
	    .max = "16MiB" },
	{ .name = "kill_after",
	    .type = WARREN_OPT_DURATION,
	    .fallback = "5s",
	    .help = "when it is ended: the time between SIGTERM and SIGKILL",
	    .max = "1h" },
	{ 0 },
};

WARREN_PLUGIN(exec, .version = "1.0", .summary = "runs a program for each message", .tasks = tasks,
    .options = options, .open = start, .close = stop);
