/* Runs a program with a body as its input and takes what it writes. */
#include "edit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

extern char **environ;

#define TOO_MUCH "the program wrote more than 128 MiB, or than there is memory for"

enum { STEP_MS = 100, CHUNK = 65536 };

/* A program that runs. */
struct run {
	pid_t pid;
	int to, from, end; /* its input, its output, and what tells that it has ended; -1: closed */
	struct bytes body; /* what it has not read yet */
	char *out;
	size_t len, size;
	const char *killed; /* why we have ended it */
};

static void shut(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

/* A group of its own, so that all of it can be ended, and a Ctrl-C is ours to deal with. */
static int spawn(const char *command, int input, int output, pid_t *pid)
{
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, xstrdup(command), NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t defaults;
	CHECK(sigemptyset(&defaults) == 0 && sigaddset(&defaults, SIGPIPE) == 0);
	CHECK(posix_spawn_file_actions_init(&files) == 0 && posix_spawnattr_init(&attr) == 0);
	or_die(posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO) == 0 ? argv : NULL);
	or_die(posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO) == 0 ? argv : NULL);
	CHECK(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF) == 0);
	CHECK(posix_spawnattr_setsigdefault(&attr, &defaults) == 0);
	int error = posix_spawn(pid, "/bin/sh", &files, &attr, argv, environ);
	(void)posix_spawn_file_actions_destroy(&files);
	(void)posix_spawnattr_destroy(&attr);
	free(argv[2]);
	return error;
}

static bool set_nonblocking(int fd)
{
	return fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

static bool start(struct run *run, const char *command, char *why, size_t size)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 };
	int error = 0;
	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || !set_nonblocking(in[1]) ||
	    !set_nonblocking(out[0]))
		error = errno;
	else
		error = spawn(command, in[0], out[1], &run->pid);
	shut(&in[0]);
	shut(&out[1]);
	run->to = in[1];
	run->from = out[0];
	if (error == 0) {
		run->end = (int)syscall(SYS_pidfd_open, run->pid, 0);
		return true;
	}
	shut(&run->to);
	shut(&run->from);
	(void)snprintf(why, size, "cannot run sh: %s", strerror(error));
	return false;
}

/* What it does not read is its own affair. */
static void feed(struct run *run)
{
	while (run->body.len > 0) {
		ssize_t n = write(run->to, run->body.data, run->body.len);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			break;
		run->body.data += n;
		run->body.len -= (size_t)n;
	}
	shut(&run->to);
}

static bool make_room(struct run *run)
{
	if (run->size - run->len >= CHUNK)
		return true;
	size_t size = run->size ? run->size * 2 : CHUNK;
	char *grown = realloc(run->out, size);
	if (!grown)
		return false;
	run->out = grown;
	run->size = size;
	return true;
}

/* False when it wrote more than there is room for. */
static bool drain(struct run *run)
{
	for (;;) {
		if (run->len > EDIT_MAX || !make_room(run))
			return false;
		ssize_t n = read(run->from, run->out + run->len, run->size - run->len);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0) {
			shut(&run->from);
			return true;
		}
		run->len += (size_t)n;
	}
}

/* True when it has ended; its exit status then. */
static bool reap(struct run *run, int *status)
{
	return waitpid(run->pid, status, WNOHANG) == run->pid;
}

static void kill_all(struct run *run, const char *why)
{
	if (!run->killed)
		(void)kill(-run->pid, SIGKILL);
	run->killed = why;
}

static void step(struct run *run)
{
	struct pollfd p[] = { { .fd = run->to, .events = POLLOUT },
		{ .fd = run->from, .events = POLLIN }, { .fd = run->end, .events = POLLIN } };
	(void)poll(p, ARRAY_LEN(p), STEP_MS);
	if (p[0].revents)
		feed(run);
	if (p[1].revents && !drain(run))
		kill_all(run, TOO_MUCH);
}

/* Until it has ended and nothing of what it wrote is left; what it left behind in the background
 * may hold the pipe for longer than that. */
static int wait_for_end(const struct edit *edit, struct run *run)
{
	int64_t look = clock_mono_ns() + STEP_MS * NS_PER_MS;
	int status = 0;
	bool ended = false;
	while (!ended) {
		step(run);
		if (!run->killed && clock_mono_ns() >= look) {
			look = clock_mono_ns() + STEP_MS * NS_PER_MS;
			if (!edit->meanwhile(edit->arg))
				kill_all(run, "interrupted");
		}
		ended = reap(run, &status);
	}
	if (run->from >= 0 && !drain(run))
		run->killed = TOO_MUCH;
	return status;
}

static bool judge(const struct run *run, int status, char *why, size_t size)
{
	if (run->killed)
		(void)snprintf(why, size, "%s", run->killed);
	else if (WIFSIGNALED(status))
		(void)snprintf(why, size, "the program died of signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		(void)snprintf(
		    why, size, "the program ended with exit code %d", WEXITSTATUS(status));
	else
		return true;
	return false;
}

bool edit_run(const struct edit *edit, struct bytes body, struct bytes *out, char **out_alloc,
    char *why, size_t why_size)
{
	struct run run = { .to = -1, .from = -1, .end = -1, .body = body };
	if (!start(&run, edit->command, why, why_size))
		return false;
	int status = wait_for_end(edit, &run);
	shut(&run.to);
	shut(&run.from);
	shut(&run.end);
	if (!judge(&run, status, why, why_size)) {
		free(run.out);
		return false;
	}
	*out = (struct bytes){ run.out, run.len };
	*out_alloc = run.out;
	return true;
}
