/* A poll loop over the program's three pipes and its end, that looks at the job at each turn. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	TICK_MS = 100, /* how late a stop is noticed */
	BLIND_TICK_MS =
	    20, /* how late an end is, where the kernel has no descriptor for processes */
	CHUNK = 16 * 1024,
	LINE_SIZE = 240, /* a longer line of standard error is logged in parts */
	LINES_MAX = 100, /* of one job in the log */
};

/* Descriptors are -1 when closed. */
struct child {
	struct warren_job *job;
	const struct child_order *order;
	struct child_result *result;
	pid_t pid;   /* and its process group */
	int process; /* becomes readable when the program ends; -1 where there is no such thing */
	int in, out, err;
	size_t fed; /* of the body */
	size_t output_size;
	char line[LINE_SIZE]; /* of standard error, not yet whole */
	size_t line_len;
	unsigned lines;
	int64_t kill_at_ms; /* when SIGKILL follows SIGTERM; 0: SIGTERM was not sent */
	bool ended;
};

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- Starting ---- */

/* Group of its own, default signals, empty mask, no descriptor but 0 to 2. */
static int spawn(struct child *c, int in, int out, int err)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t all, none;
	sigfillset(&all);
	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	posix_spawn_file_actions_adddup2(&files, in, 0);
	posix_spawn_file_actions_adddup2(&files, out, 1);
	posix_spawn_file_actions_adddup2(&files, err, 2);
	posix_spawn_file_actions_addclosefrom_np(&files, 3);
	if (*c->order->directory)
		posix_spawn_file_actions_addchdir_np(&files, c->order->directory);
	posix_spawnattr_setflags(
	    &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setsigmask(&attributes, &none);
	int error = posix_spawn(
	    &c->pid, c->order->argv[0], &files, &attributes, c->order->argv, c->order->env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return error;
}

static bool open_pipe(int *theirs, int *ours, bool they_read)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0)
		return false;
	*theirs = ends[they_read ? 0 : 1];
	*ours = ends[they_read ? 1 : 0];
	return fcntl(*ours, F_SETFL, O_NONBLOCK) == 0;
}

/* 0, or errno. */
static int start(struct child *c)
{
	int in = -1, out = -1, err = -1, error;
	if (open_pipe(&in, &c->in, true) && open_pipe(&out, &c->out, false) &&
	    open_pipe(&err, &c->err, false))
		error = spawn(c, in, out, err);
	else
		error = errno;
	close_fd(&in);
	close_fd(&out);
	close_fd(&err);
	if (error)
		return error;
	c->process = pidfd_open(c->pid, 0);
	return 0;
}

/* ---- Ending ---- */

/* SIGTERM to the whole group, and the time of SIGKILL is set. */
static void end(struct child *c)
{
	if (c->kill_at_ms)
		return;
	kill(-c->pid, SIGTERM);
	c->kill_at_ms = now_ms() + c->order->kill_after_ms;
}

static void look_at_job(struct child *c)
{
	enum warren_stop stop = warren_stopping(c->job);
	if (stop > WARREN_STOP_DRAIN && !c->kill_at_ms) {
		c->result->stop = stop;
		end(c);
	}
	if (c->kill_at_ms && now_ms() >= c->kill_at_ms)
		kill(-c->pid, SIGKILL);
}

/* Sees whether the program has ended; does not reap it, so that its group's number stays its own.
 */
static void look_at_end(struct child *c)
{
	siginfo_t info = { 0 };
	if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
		c->ended = errno != EINTR;
		c->result->lost = c->ended;
	} else {
		c->ended = info.si_pid == c->pid;
	}
}

/* What the program left behind in its group goes too; then it is reaped. */
static void bury(struct child *c)
{
	if (!c->result->lost)
		kill(-c->pid, SIGKILL);
	warren_child(c->job, 0);
	while (!c->result->lost && waitpid(c->pid, &c->result->status, 0) < 0)
		c->result->lost = errno != EINTR;
}

/* ---- The three streams ---- */

static void feed(struct child *c)
{
	size_t left = c->order->body_len - c->fed;
	ssize_t n = left ? write(c->in, c->order->body + c->fed, left) : 0;
	if (n > 0)
		c->fed += (size_t)n;
	bool again = n < 0 && (errno == EAGAIN || errno == EINTR);
	if (c->fed == c->order->body_len || (n < 0 && !again))
		close_fd(&c->in); /* all given, or it reads no more: its own business */
}

/* Reads what there is; false at the end of the stream. */
static bool read_some(int fd, char *chunk, size_t *len)
{
	ssize_t n = read(fd, chunk, CHUNK);
	*len = n > 0 ? (size_t)n : 0;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool make_room(struct child *c, size_t more)
{
	struct child_result *r = c->result;
	if (r->output_len + more <= c->output_size)
		return true;
	size_t size = 2 * (r->output_len + more);
	char *output = realloc(r->output, size);
	if (!output)
		return false;
	r->output = output;
	c->output_size = size;
	return true;
}

static void take_output(struct child *c)
{
	char chunk[CHUNK];
	size_t len;
	struct child_result *r = c->result;
	if (!read_some(c->out, chunk, &len))
		close_fd(&c->out);
	if (!c->order->want_output || r->too_much || len == 0)
		return;
	if (len > c->order->max_output - r->output_len || !make_room(c, len)) {
		r->too_much = true;
		end(c);
		return;
	}
	memcpy(r->output + r->output_len, chunk, len);
	r->output_len += len;
}

static void log_line(struct child *c)
{
	if (c->line_len > 0 && c->lines < LINES_MAX)
		warren_log(c->job, WARREN_LOG_WARN, "%.*s", (int)c->line_len, c->line);
	else if (c->lines == LINES_MAX)
		warren_log(c->job, WARREN_LOG_WARN, "more lines on standard error, not shown");
	c->lines += c->line_len > 0;
	c->line_len = 0;
}

static void take_errors(struct child *c)
{
	char chunk[CHUNK];
	size_t len;
	if (!read_some(c->err, chunk, &len))
		close_fd(&c->err);
	for (size_t i = 0; i < len; i++) {
		if (chunk[i] != '\n')
			c->line[c->line_len++] = chunk[i];
		if (chunk[i] == '\n' || c->line_len == sizeof(c->line))
			log_line(c);
	}
}

/* One turn: waits for anything to happen, at most a tick. */
static void turn(struct child *c)
{
	struct pollfd fds[] = {
		{ .fd = c->in, .events = POLLOUT },
		{ .fd = c->out, .events = POLLIN },
		{ .fd = c->err, .events = POLLIN },
		{ .fd = c->process, .events = POLLIN },
	};
	poll(fds, sizeof(fds) / sizeof(fds[0]), c->process < 0 ? BLIND_TICK_MS : TICK_MS);
	if (fds[0].revents)
		feed(c);
	if (fds[1].revents)
		take_output(c);
	if (fds[2].revents)
		take_errors(c);
}

/* What the program wrote before its end and still stands in the pipes. */
static void drain(struct child *c)
{
	struct pollfd fds[] = { { .fd = c->out, .events = POLLIN },
		{ .fd = c->err, .events = POLLIN } };
	while (poll(fds, 2, 0) > 0) {
		if (fds[0].revents)
			take_output(c);
		if (fds[1].revents)
			take_errors(c);
		fds[0].fd = c->out;
		fds[1].fd = c->err;
	}
	log_line(c);
}

/* ---- All of it ---- */

/* A write to a program that reads no more must not end the worker, whatever others did to SIGPIPE.
 */
static bool hold_sigpipe(sigset_t *before)
{
	sigset_t pipe_signal;
	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, before);
	return !sigismember(before, SIGPIPE);
}

static void release_sigpipe(const sigset_t *before)
{
	sigset_t pipe_signal;
	const struct timespec at_once = { 0, 0 };
	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	while (sigtimedwait(&pipe_signal, NULL, &at_once) > 0)
		continue;
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

static void tend(struct child *c)
{
	sigset_t before;
	bool held = hold_sigpipe(&before);
	if (warren_child(c->job, c->pid) != WARREN_OK)
		end(c);
	while (!c->ended) {
		turn(c);
		look_at_job(c);
		look_at_end(c);
	}
	bury(c);
	drain(c);
	if (held)
		release_sigpipe(&before);
}

void child_run(struct warren_job *job, const struct child_order *order, struct child_result *result)
{
	struct child c = {
		.job = job,
		.order = order,
		.result = result,
		.process = -1,
		.in = -1,
		.out = -1,
		.err = -1,
	};
	*result = (struct child_result){ 0 };
	result->spawn_error = start(&c);
	if (!result->spawn_error)
		tend(&c);
	close_fd(&c.process);
	close_fd(&c.in);
	close_fd(&c.out);
	close_fd(&c.err);
}
