/*
 * ledger.run: does what its body says, and keeps a ledger of it, so that a test can see what ran.
 *
 * A body is a list, parted by newlines or semicolons: the id of the job, then commands, carried out
 * in turn. A body without commands is done at once. A run writes its "start" line before the first
 * command and its "end" line before it returns, each with one write to a file opened with O_APPEND:
 * what a killed worker had begun stands there too. With the option `sync` a line is on the disk
 * before the run goes on.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <warren/plugin.h>

struct ledger {
	int fd;
	bool sync;
};

struct run {
	struct warren_job *job;
	struct ledger *ledger;
	const char *id;
	enum warren_verdict verdict; /* 0: no command has given one yet */
};

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void nap(int64_t ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

static unsigned thread_of(const struct run *run)
{
	return *(const unsigned *)warren_thread_state(run->job);
}

/* what, process, thread of warren's, attempt, redelivered, monotonic time, thread of the system's,
 * verdict, id */
static bool note(const struct run *run, const char *what)
{
	char line[600];
	int len = snprintf(line, sizeof(line), "%s %d %u %d %d %lld %d %d %.200s\n", what,
	    (int)getpid(), thread_of(run), warren_attempt(run->job), warren_redelivered(run->job),
	    (long long)now_ms(), (int)gettid(), (int)run->verdict, run->id);
	if (write(run->ledger->fd, line, (size_t)len) != len)
		return false;
	return !run->ledger->sync || fdatasync(run->ledger->fd) == 0;
}

/* ---- Commands ---- */

static void obey(struct run *run, char *line);

static void say_retry(struct run *run, const char *rest)
{
	run->verdict = warren_retry(run->job, "%s", rest);
}

static void say_dead(struct run *run, const char *rest)
{
	run->verdict = warren_dead(run->job, "%s", rest);
}

/* Any number as the verdict. */
static void say_number(struct run *run, const char *rest)
{
	run->verdict = (enum warren_verdict)atoi(rest);
}

/* The delay of a retry that another command asks for. */
static void retry_after(struct run *run, const char *rest)
{
	(void)warren_retry_after(run->job, atoll(rest));
}

/* "until 3 REASON": retries until the third attempt. */
static void retry_until(struct run *run, const char *rest)
{
	char *reason;
	if (warren_attempt(run->job) < strtol(rest, &reason, 10))
		run->verdict = warren_retry(run->job, "%s", reason + (*reason == ' '));
}

static void reply(struct run *run, const char *rest)
{
	warren_reply(run->job, "text/plain", rest, strlen(rest));
}

/* "follow QUEUE": a follow-up whose body is the id. */
static void follow(struct run *run, const char *rest)
{
	struct warren_message message = {
		.routing_key = rest,
		.body = run->id,
		.body_len = strlen(run->id),
	};
	warren_publish(run->job, &message);
}

/* "begin QUEUE TRACEPARENT": a follow-up that belongs to another trace. */
static void begin_trace(struct run *run, const char *rest)
{
	char queue[256];
	size_t len = strcspn(rest, " ");
	snprintf(queue, sizeof(queue), "%.*s", (int)len, rest);
	const struct warren_value header = warren_string("traceparent", rest + len + 1);
	struct warren_message message = {
		.routing_key = queue,
		.body = run->id,
		.body_len = strlen(run->id),
		.headers = &header,
		.n_headers = 1,
	};
	warren_publish(run->job, &message);
}

/* "say TEXT": a line in the log. */
static void say(struct run *run, const char *rest)
{
	warren_log(run->job, WARREN_LOG_INFO, "%s", rest);
}

/* "emit EXCHANGE KEY": a follow-up to an exchange, whose body is the id. */
static void emit(struct run *run, const char *rest)
{
	char exchange[256];
	size_t len = strcspn(rest, " ");
	snprintf(exchange, sizeof(exchange), "%.*s", (int)len, rest);
	struct warren_message message = {
		.exchange = exchange,
		.routing_key = rest[len] ? rest + len + 1 : "",
		.body = run->id,
		.body_len = strlen(run->id),
	};
	warren_publish(run->job, &message);
}

/* Sleeps whatever happens: a task that does not listen. */
static void be_busy(struct run *run, const char *rest)
{
	(void)run;
	nap(atoll(rest));
}

/* Only the first thread is slow. */
static void be_slow(struct run *run, const char *rest)
{
	nap(thread_of(run) == 0 ? atoll(rest) : 1);
}

/* "wait FILE": until the file is there. Asked to stop it goes on waiting; told to, it does not. */
static void wait_for(struct run *run, const char *rest)
{
	struct stat st;
	while (stat(rest, &st) != 0 && run->verdict == 0) {
		nap(5);
		if (warren_stopping(run->job) > WARREN_STOP_DRAIN)
			run->verdict = warren_retry(run->job, "told to stop");
	}
}

/* "yield": until it is asked to stop; then hands its message back. */
static void yield(struct run *run, const char *rest)
{
	(void)rest;
	while (!warren_stopping(run->job))
		nap(5);
	run->verdict = warren_retry(run->job, "asked to stop");
}

/* "hear 5000": until it is told to stop, at most so long; what it was told goes into the ledger. */
static void hear(struct run *run, const char *rest)
{
	char what[32];
	int64_t over = now_ms() + atoll(rest);
	while (!warren_stopping(run->job) && now_ms() < over)
		nap(5);
	snprintf(what, sizeof(what), "stop/%d", (int)warren_stopping(run->job));
	(void)note(run, what);
}

/* "once COMMAND ...": only the first time that the message comes from its queue. */
static void once(struct run *run, const char *rest)
{
	char command[256];
	snprintf(command, sizeof(command), "%s", rest);
	if (!warren_redelivered(run->job) && warren_attempt(run->job) == 1)
		obey(run, command);
}

/* Where the message was first published, into the ledger. */
static void origin(struct run *run, const char *rest)
{
	char what[600];
	(void)rest;
	snprintf(what, sizeof(what), "origin/%s/%s", warren_exchange(run->job),
	    warren_routing_key(run->job));
	(void)note(run, what);
}

/* "raise 11" */
static void raise_signal(struct run *run, const char *rest)
{
	(void)run;
	raise(atoi(rest));
}

static void call_exit(struct run *run, const char *rest)
{
	(void)run;
	exit(atoi(rest));
}

/* Without the handlers of atexit. */
static void leave_at_once(struct run *run, const char *rest)
{
	(void)run;
	_exit(atoi(rest));
}

/* Dead unless a child of ours that ends in order is seen to end in order. */
static void have_child(struct run *run, const char *rest)
{
	int status = -1;
	pid_t pid = fork();
	(void)rest;
	if (pid == 0)
		exit(7);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 7)
		run->verdict = warren_dead(run->job, "the child ended with %x", (unsigned)status);
}

static void exit_thread(struct run *run, const char *rest)
{
	(void)run;
	(void)rest;
	pthread_exit(NULL);
}

static void stand_still(int signal)
{
	(void)signal;
	for (;;)
		pause();
}

/* "stun NAME": the thread of the process that has this name never does anything again. */
static void stun(struct run *run, const char *rest)
{
	struct sigaction still = { .sa_handler = stand_still };
	char path[64], name[32] = "";
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	(void)run;
	sigaction(SIGTRAP, &still, NULL);
	while (tasks && (entry = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", entry->d_name);
		FILE *file = fopen(path, "r");
		if (file && fgets(name, sizeof(name), file) &&
		    strncmp(name, rest, strlen(rest)) == 0)
			syscall(SYS_tgkill, getpid(), atoi(entry->d_name), SIGTRAP);
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
}

static const struct {
	const char *name;
	void (*act)(struct run *run, const char *rest);
} commands[] = {
	{ "retry", say_retry },
	{ "dead", say_dead },
	{ "return", say_number },
	{ "after", retry_after },
	{ "until", retry_until },
	{ "reply", reply },
	{ "follow", follow },
	{ "emit", emit },
	{ "begin", begin_trace },
	{ "say", say },
	{ "busy", be_busy },
	{ "slow", be_slow },
	{ "wait", wait_for },
	{ "yield", yield },
	{ "origin", origin },
	{ "hear", hear },
	{ "once", once },
	{ "raise", raise_signal },
	{ "exit", call_exit },
	{ "_exit", leave_at_once },
	{ "thread_exit", exit_thread },
	{ "child", have_child },
	{ "stun", stun },
};

static void obey(struct run *run, char *line)
{
	char *rest = line + strcspn(line, " ");
	if (*rest)
		*rest++ = '\0';
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(line, commands[i].name) == 0) {
			commands[i].act(run, rest);
			return;
		}
	}
	run->verdict = warren_dead(run->job, "no such command: %s", line);
}

/* ---- The task ---- */

static enum warren_verdict ledger_run(struct warren_job *job)
{
	struct run run = { .job = job, .ledger = warren_state(job) };
	size_t len;
	const char *body = warren_body(job, &len);
	char *text = warren_alloc(job, len + 1), *rest = NULL;
	if (!text)
		return warren_retry(job, "out of memory");
	memcpy(text, body, len);
	text[len] = '\0';

	char *line = strtok_r(text, "\n;", &rest);
	run.id = line ? line : "-";
	if (!note(&run, "start"))
		return warren_retry(job, "ledger: %s", strerror(errno));
	while (run.verdict == 0 && line && (line = strtok_r(NULL, "\n;", &rest)))
		obey(&run, line);
	if (run.verdict == 0)
		run.verdict = WARREN_DONE;
	if (!note(&run, "end"))
		return warren_retry(job, "ledger: %s", strerror(errno));
	return run.verdict;
}

/* The option `first`: what a task may do that needs no job. */
static void obey_first(const char *command)
{
	struct run none = { .id = "-" };
	char line[64];
	snprintf(line, sizeof(line), "%s", command);
	if (*line)
		obey(&none, line);
}

static bool ledger_open(struct warren_host *host, void **state)
{
	const char *path = warren_option_text(host, "file");
	obey_first(warren_option_text(host, "first"));
	struct ledger *ledger = malloc(sizeof(*ledger));
	if (!ledger)
		return warren_refuse(host, "out of memory");
	ledger->sync = warren_option_bool(host, "sync");
	ledger->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (ledger->fd < 0) {
		int why = errno;
		free(ledger);
		return warren_refuse(host, "%s: %s", path, strerror(why));
	}
	*state = ledger;
	return true;
}

static void ledger_close(void *state)
{
	struct ledger *ledger = state;
	close(ledger->fd);
	free(ledger);
}

static bool thread_open(struct warren_host *host, void *state, unsigned thread, void **thread_state)
{
	unsigned *number = malloc(sizeof(*number));
	(void)state;
	if (!number)
		return warren_refuse(host, "out of memory");
	*number = thread;
	*thread_state = number;
	return true;
}

static void thread_close(void *state, void *thread_state)
{
	(void)state;
	free(thread_state);
}

static const struct warren_task tasks[] = {
	{ .name = "ledger.run", .run = ledger_run },
	{ .name = "ledger.other", .run = ledger_run },
	{ .name = "ledger.serial", .run = ledger_run, .flags = WARREN_SERIAL },
	{ 0 },
};

static const struct warren_option options[] = {
	{ .name = "file", .type = WARREN_OPT_PATH, .help = "where the lines go" },
	{ .name = "sync",
	    .type = WARREN_OPT_BOOL,
	    .fallback = "false",
	    .help = "each line onto the disk at once" },
	{ .name = "first",
	    .type = WARREN_OPT_STRING,
	    .fallback = "",
	    .help = "a command that open() carries out: raise or exit" },
	{ 0 },
};

WARREN_PLUGIN(ledger, .version = "1.0", .summary = "does what its body says and keeps a ledger",
    .tasks = tasks, .options = options, .open = ledger_open, .close = ledger_close,
    .thread_open = thread_open, .thread_close = thread_close);
