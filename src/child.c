/* Executing ourselves anew: fork, descriptors, exec; the configuration that travels along. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "clock.h"
#include "ipc.h"

enum {
	ABOVE_ALL = 10,                /* descriptors under way to their numbers rest here */
	CONF_ROOM = 128 * 1024 * 1024, /* more than the largest file can become; taken as needed */
};

/* ---- between fork and exec: only what is safe in a copy of a process with one thread ---- */

static bool close_rest_on_exec(void)
{
	long max = sysconf(_SC_OPEN_MAX);

	if (close_range(CHILD_SCORE + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return true;
	for (int fd = CHILD_SCORE + 1; fd < max; fd++) /* an old kernel, or a sandbox */
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	return true;
}

static bool place_descriptors(const struct child_order *order, int ipc, int *report)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return false;
	int fds[] = { null, ipc, order->conf_fd, order->score_fd };
	const int places[] = { 0, CHILD_IPC, CHILD_CONF, CHILD_SCORE };
	size_t n = order->role == CHILD_WORKER ? 4 : 3;

	*report = fcntl(*report, F_DUPFD_CLOEXEC, ABOVE_ALL);
	for (size_t i = 0; i < n; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, ABOVE_ALL);
	for (size_t i = 0; i < n; i++)
		if (fds[i] < 0 || dup2(fds[i], places[i]) < 0)
			return false;
	if (n == 3)
		close(CHILD_SCORE);
	return *report >= 0 && close_rest_on_exec();
}

/* What the service manager says to us is not said to our children. */
static void clean_environment(void)
{
	static const char *const ours[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
		"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES" };

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		unsetenv(ours[i]);
}

/*
 * The kernel's link leads to the very file that we run, also where another was put in its place.
 * Its name is better only for valgrind, where the link leads to valgrind itself.
 */
static const char *own_path(char *name, size_t size)
{
	static const char link[] = "/proc/self/exe";
	int fd = open(link, O_RDONLY | O_CLOEXEC);
	ssize_t len = readlink(link, name, size - 1);
	struct stat ours, named;

	if (fd < 0 || len <= 0)
		return link;
	name[len] = '\0';
	if (fstat(fd, &ours) != 0 || stat(name, &named) != 0 || ours.st_ino != named.st_ino ||
	    ours.st_dev != named.st_dev)
		return link;
	return name;
}

static void exec_self(const struct child_order *order)
{
	char number[16], place[16], generation[16], name[PATH_MAX];
	char *path = (char *)(uintptr_t)order->path; /* execv promises not to write to it */
	char *worker[] = { (char[]){ "warrend" }, (char[]){ "--" CHILD_WORKER_OPTION }, number,
		(char[]){ "--place" }, place, (char[]){ "--generation" }, generation,
		(char[]){ "-c" }, path,
		order->quarantine ? (char[]){ "--" CHILD_QUARANTINE_OPTION } : NULL, NULL };
	char *check[] = { (char[]){ "warrend" }, (char[]){ "--" CHILD_CHECK_OPTION },
		(char[]){ "-c" }, path, NULL };

	snprintf(number, sizeof(number), "%u", order->number);
	snprintf(place, sizeof(place), "%u", order->place);
	snprintf(generation, sizeof(generation), "%u", order->generation);
	execv(own_path(name, sizeof(name)), order->role == CHILD_WORKER ? worker : check);
}

__attribute__((noreturn)) static void become_child(
    const struct child_order *order, int ipc, int report, pid_t parent)
{
	int why;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before the line above */
		_exit(EXIT_ORPHAN);
	if (place_descriptors(order, ipc, &report)) {
		clean_environment();
		exec_self(order);
	}
	why = errno;
	while (write(report, &why, sizeof(why)) < 0 && errno == EINTR)
		;
	_exit(EXIT_OS);
}

/* ---- the parent ---- */

/* Waits for the exec, whose success closes the pipe. Returns 0 or the child's errno. */
static int exec_result(int report)
{
	int why = 0;
	ssize_t got;

	do
		got = read(report, &why, sizeof(why));
	while (got < 0 && errno == EINTR);
	return got == (ssize_t)sizeof(why) ? why : 0;
}

static int fork_and_exec(const struct child_order *order, int ipc, pid_t *pid)
{
	int report[2], why;
	pid_t parent = getpid();

	if (pipe2(report, O_CLOEXEC) != 0)
		return errno;
	*pid = fork();
	if (*pid == 0)
		become_child(order, ipc, report[1], parent);
	why = *pid < 0 ? errno : 0;
	close(report[1]);
	if (why == 0 && (why = exec_result(report[0])) != 0)
		(void)waitpid(*pid, NULL, 0);
	close(report[0]);
	return why;
}

bool child_spawn(const struct child_order *order, struct child *child)
{
	int pair[2], why;

	*child = (struct child){ .ipc = -1 };
	if (!ipc_pair(pair))
		return false;
	why = fork_and_exec(order, pair[1], &child->pid);
	close(pair[1]);
	child->ipc = pair[0];
	if (why == 0)
		return true;
	child->pid = 0;
	child_close_ipc(child);
	errno = why;
	return false;
}

void child_close_ipc(struct child *child)
{
	if (child->ipc >= 0)
		close(child->ipc);
	child->ipc = -1;
}

int64_t child_memory(pid_t pid)
{
	char path[64];
	long long total, resident = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%lld %lld", &total, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * sysconf(_SC_PAGESIZE);
}

/* ---- the configuration that travels ---- */

static bool write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return false;
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

/*
 * The parser's libraries end the process where memory is short, and the supervisor must not end. So
 * a copy of it reads the configuration, and what it makes of it stands in memory that both share.
 */
struct reading {
	struct conf *conf; /* NULL: refused */
	struct conf_errors errors, warnings;
};

static bool share_errors(
    struct arena *arena, const struct conf_errors *from, struct conf_errors *to)
{
	*to = *from;
	to->list = arena_zalloc(arena, from->n, sizeof(*to->list));
	if (!to->list)
		return false;
	for (size_t i = 0; i < from->n; i++) {
		const struct conf_error *e = &from->list[i];
		char *text = arena_dup(arena, e->text, strlen(e->text));

		if (!text)
			return false;
		to->list[i] = (struct conf_error){ .file = e->file, .line = e->line, .text = text };
	}
	return true;
}

static int read_here(const char *path, struct arena *arena, int fd, struct reading *reading)
{
	struct conf_errors errors = { 0 }, warnings = { 0 };
	char *text = NULL;
	size_t len = 0;
	bool fine;

	reading->conf = conf_load_text(path, arena, &text, &len, &errors, &warnings);
	if (reading->conf && !write_all(fd, text, len)) {
		conf_errors_add(&errors, path, 0, "cannot keep a copy: %s", strerror(errno));
		errors.shortage = true;
		reading->conf = NULL;
	}
	if (text)
		explicit_bzero(text, len); /* it may hold a password */
	free(text);
	fine = share_errors(arena, &errors, &reading->errors) &&
	       share_errors(arena, &warnings, &reading->warnings);
	conf_errors_free(&errors);
	conf_errors_free(&warnings);
	return fine ? EXIT_OK : EXIT_OS;
}

__attribute__((noreturn)) static void become_reader(
    const char *path, struct arena *arena, int fd, struct reading *reading, pid_t parent)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_ORPHAN);
	_exit(read_here(path, arena, fd, reading));
}

static bool reading_failed(struct conf_errors *errors, const char *path, const char *what, int why)
{
	conf_errors_add(errors, path, 0, "%s: %s", what, strerror(why));
	errors->shortage = true;
	return false;
}

static bool read_apart(const char *path, struct arena *arena, int fd, struct reading *reading,
    struct conf_errors *errors)
{
	pid_t parent = getpid(), pid = fork();
	int status = 0;

	if (pid == 0)
		become_reader(path, arena, fd, reading, parent);
	if (pid < 0)
		return reading_failed(errors, path, "cannot start a process that reads it", errno);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK)
		return true;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OS)
		return reading_failed(errors, path, "cannot be read", ENOMEM);
	conf_errors_add(errors, path, 0, "the process that read it ended with %s %d",
	    WIFSIGNALED(status) ? "signal" : "exit code",
	    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	errors->shortage = true;
	return false;
}

static void take_errors(struct conf_errors *to, const char *path, const struct conf_errors *from)
{
	for (size_t i = 0; i < from->n; i++)
		conf_errors_add(to, path, from->list[i].line, "%s", from->list[i].text);
	to->refused |= from->refused;
	to->shortage |= from->shortage;
}

/* Nobody changes the copy any more, whoever gets hold of it. */
static bool seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) ==
	       0;
}

static struct conf *read_into(
    int fd, const char *path, struct conf_errors *errors, struct conf_errors *warnings)
{
	struct arena *arena = arena_create_shared(CONF_ROOM);
	struct reading *reading = arena ? arena_zalloc(arena, 1, sizeof(*reading)) : NULL;

	if (!reading) {
		(void)reading_failed(errors, path, "cannot be read", ENOMEM);
		return NULL;
	}
	if (read_apart(path, arena, fd, reading, errors)) {
		take_errors(errors, path, &reading->errors);
		take_errors(warnings, path, &reading->warnings);
		if (reading->conf && !errors->shortage) {
			arena_close_shared(arena);
			return reading->conf; /* it owns the arena */
		}
	}
	arena_destroy(arena);
	return NULL;
}

bool snapshot_take(struct snapshot *snapshot, const char *path, struct conf_errors *errors,
    struct conf_errors *warnings)
{
	*snapshot = (struct snapshot){
		.fd = memfd_create("warren-conf", MFD_CLOEXEC | MFD_ALLOW_SEALING),
	};
	if (snapshot->fd >= 0)
		snapshot->conf = read_into(snapshot->fd, path, errors, warnings);
	if (snapshot->conf && seal(snapshot->fd))
		return true;
	if (snapshot->fd < 0 || snapshot->conf)
		(void)reading_failed(errors, path, "cannot keep a copy", errno);
	snapshot_drop(snapshot);
	return false;
}

void snapshot_drop(struct snapshot *snapshot)
{
	conf_free(snapshot->conf);
	if (snapshot->fd >= 0)
		close(snapshot->fd);
	*snapshot = (struct snapshot){ .fd = -1 };
}

static bool read_all(int fd, char *text, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(fd, text + have, len - have, (off_t)have);

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		have += n > 0 ? (size_t)n : 0;
	}
	return true;
}

struct conf *snapshot_read(const char *path, struct conf_errors *errors)
{
	struct conf *conf = NULL;
	struct stat st;
	char *text;

	if (fstat(CHILD_CONF, &st) != 0 || !S_ISREG(st.st_mode)) {
		conf_errors_add(errors, path, 0, "no configuration was handed over");
		return NULL;
	}
	text = xcalloc(1, (size_t)st.st_size + 1);
	if (read_all(CHILD_CONF, text, (size_t)st.st_size))
		conf = conf_parse(path, text, errors, NULL);
	else
		conf_errors_add(errors, path, 0, "cannot read the copy: %s", strerror(errno));
	close(CHILD_CONF);
	explicit_bzero(text, (size_t)st.st_size);
	free(text);
	return conf;
}

/* ---- the checking child ---- */

bool check_start(struct check *check, const char *path, const struct snapshot *snapshot)
{
	const struct child_order order = {
		.role = CHILD_CHECK,
		.path = path,
		.conf_fd = snapshot->fd,
		.score_fd = -1,
	};

	*check = (struct check){
		.path = path,
		.deadline_ns = clock_mono_ns() + snapshot->conf->workers.start_limit_ns,
	};
	if (child_spawn(&order, &check->child))
		return true;
	return reading_failed(
	    &check->errors, path, "cannot start a process that checks the plugins", errno);
}

bool check_read(struct check *check)
{
	struct ipc_msg msg;
	int got;

	if (check->child.ipc < 0)
		return false;
	while ((got = ipc_recv(check->child.ipc, &msg)) > 0)
		if (msg.word == IPC_REFUSED)
			conf_errors_add(&check->errors, check->path,
			    msg.number > 0 && msg.number <= INT32_MAX ? (unsigned)msg.number : 0,
			    "%.*s", (int)msg.len, msg.text);
	if (got == 0)
		return true;
	child_close_ipc(&check->child);
	return false;
}

bool check_ended(struct check *check, int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	(void)check_read(check);
	child_close_ipc(&check->child);
	check->child.pid = 0;
	check->errors.refused |= code == EXIT_REFUSED;
	check->errors.shortage |= code == EXIT_OS;
	if (WIFSIGNALED(status) && clock_mono_ns() >= check->deadline_ns)
		conf_errors_add(&check->errors, check->path, 0,
		    "the plugins were not opened within workers.start_limit");
	else if (WIFSIGNALED(status))
		conf_errors_add(&check->errors, check->path, 0,
		    "a plugin crashed the process that checks the plugins: SIG%s",
		    sigabbrev_np(WTERMSIG(status)));
	else if (code != EXIT_OK && check->errors.n == 0)
		conf_errors_add(&check->errors, check->path, 0,
		    "the process that checks the plugins ended with exit code %d", code);
	return code == EXIT_OK && check->errors.n == 0 && !check->errors.shortage;
}

bool check_run(const char *path, const struct snapshot *snapshot, struct conf_errors *errors)
{
	struct check check;
	int status = 0;
	bool fine = false;

	if (check_start(&check, path, snapshot)) {
		while (check_read(&check) && clock_mono_ns() < check.deadline_ns) {
			struct pollfd p = { .fd = check.child.ipc, .events = POLLIN };

			(void)poll(&p, 1, clock_until_ms(check.deadline_ns, 1000));
		}
		if (clock_mono_ns() >= check.deadline_ns)
			kill(check.child.pid, SIGKILL);
		while (waitpid(check.child.pid, &status, 0) < 0 && errno == EINTR)
			;
		fine = check_ended(&check, status);
	}
	*errors = check.errors;
	return fine;
}

void check_report(int ipc, const struct conf_errors *errors)
{
	/* Our end alone: hundreds of complaints may wait for the parent to read them. */
	(void)fcntl(ipc, F_SETFL, fcntl(ipc, F_GETFL) & ~O_NONBLOCK);
	for (size_t i = 0; i < errors->n; i++) {
		const struct conf_error *e = &errors->list[i];

		(void)ipc_send(ipc, IPC_REFUSED, e->line, e->text);
	}
}
