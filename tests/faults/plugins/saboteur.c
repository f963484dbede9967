/*
 * sabotage.run: misbehaves as its body says, so that tests can see what becomes of the others.
 *
 * A body is a list, parted by newlines or semicolons: the id of the job, then commands, carried out
 * in turn. A run writes a "start" line into the ledger before the first and an "end" line before it
 * returns, if it does. Where the file named by the option `trap` exists, the plugin misbehaves as
 * the file says while it is loaded, opened or closed.
 */
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <warren/plugin.h>

#include "book.h"

/* A sanitizer would report what is done on purpose. */
#define ON_PURPOSE __attribute__((no_sanitize("address", "undefined")))

struct run {
	struct warren_job *job;
	const char *id;
	bool over; /* a command has given the verdict */
	enum warren_verdict verdict;
};

static struct book book = { .fd = -1 };

static bool note(const struct run *run, const char *what)
{
	return book_note(&book, run->job, what, (int)run->verdict, run->id);
}

static void give(struct run *run, enum warren_verdict verdict)
{
	run->verdict = verdict;
	run->over = true;
}

static void nap(int64_t ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

static bool exists(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0;
}

/* ---- Crashes ---- */

ON_PURPOSE static void segv(struct run *run, const char *rest)
{
	volatile int *volatile nowhere = NULL;
	(void)run;
	(void)rest;
	*nowhere = 1;
}

ON_PURPOSE static void fpe(struct run *run, const char *rest)
{
	volatile int number = 7, zero = 0;
	(void)run;
	(void)rest;
	number = number / zero;
	raise(SIGFPE); /* where a division by zero is no trap */
}

/* Memory behind the end of its file. */
ON_PURPOSE static void bus(struct run *run, const char *rest)
{
	FILE *file = tmpfile();
	volatile char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
	(void)rest;
	give(run, warren_dead(run->job, "read %d", *map));
}

static void ill(struct run *run, const char *rest)
{
	(void)run;
	(void)rest;
	__builtin_trap();
}

static void give_up(struct run *run, const char *rest)
{
	(void)run;
	(void)rest;
	abort();
}

/* "kill 9": the whole process, as the kernel's out-of-memory killer does it. */
static void kill_self(struct run *run, const char *rest)
{
	(void)run;
	kill(getpid(), atoi(rest));
	for (;;)
		pause();
}

ON_PURPOSE static int deeper(volatile char *above, int depth)
{
	volatile char here[4096];
	here[0] = 0;
	here[4095] = above[0];
	return above[0] ? depth : deeper(here, depth + 1) + here[4095];
}

static void overflow(struct run *run, const char *rest)
{
	char top = 0;
	(void)rest;
	give(run, warren_dead(run->job, "%d", deeper(&top, 0)));
}

/* "alloca BYTES": at once; what the compiler adds steps on every page of it. */
ON_PURPOSE static void take_stack(struct run *run, const char *rest)
{
	size_t size = strtoull(rest, NULL, 10);
	volatile char *block = alloca(size);
	for (size_t i = 0; i < size; i += 512)
		block[i] = 1;
	give(run, warren_dead(run->job, "%d", block[size / 2]));
}

static void free_body(struct run *run, const char *rest)
{
	size_t len;
	(void)rest;
	free((void *)(uintptr_t)warren_body(run->job, &len));
}

static jmp_buf earlier;

/* "longjmp": the first run remembers its frame, which is gone when the second one jumps there. */
static void jump(struct run *run, const char *rest)
{
	static atomic_bool remembered;
	(void)rest;
	if (atomic_exchange(&remembered, true))
		longjmp(earlier, 1);
	if (setjmp(earlier))
		give(run, warren_dead(run->job, "came out of another run"));
}

/* ---- Ends that are none ---- */

static void leave(struct run *run, const char *rest)
{
	(void)run;
	exit(atoi(rest));
}

static void leave_quickly(struct run *run, const char *rest)
{
	(void)run;
	quick_exit(atoi(rest));
}

static void leave_at_once(struct run *run, const char *rest)
{
	(void)run;
	_exit(atoi(rest));
}

static void end_thread(struct run *run, const char *rest)
{
	(void)run;
	(void)rest;
	pthread_exit(NULL);
}

/* ---- Tasks that do not come back ---- */

/* "busy MS": whatever happens. */
static void be_busy(struct run *run, const char *rest)
{
	(void)run;
	nap(atoll(rest));
}

/* "hold FILE": until the file is there, whatever happens. */
static void hold(struct run *run, const char *rest)
{
	(void)run;
	while (!exists(rest))
		nap(5);
}

/* "soft MS": listens. */
static void sleep_softly(struct run *run, const char *rest)
{
	enum warren_stop why = WARREN_STOP_NONE;
	for (int64_t left = atoll(rest); left > 0 && !why; left -= 5) {
		nap(5);
		why = warren_stopping(run->job);
	}
	if (why)
		give(run, warren_retry(run->job, "stopped: %d", (int)why));
}

/* "once FILE COMMAND": only where the file is not there yet; it is then. */
static void obey(struct run *run, char *line);
static void only_once(struct run *run, const char *rest)
{
	char line[512], *command;
	snprintf(line, sizeof(line), "%s", rest);
	command = line + strcspn(line, " ");
	if (*command)
		*command++ = '\0';
	int fd = open(line, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	close(fd);
	obey(run, command);
}

static void block_signals(struct run *run, const char *rest)
{
	sigset_t all;
	(void)run;
	(void)rest;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
}

/* What a process that was not started by warren has. */
static void unblock_signals(struct run *run, const char *rest)
{
	sigset_t all;
	(void)run;
	(void)rest;
	sigfillset(&all);
	pthread_sigmask(SIG_UNBLOCK, &all, NULL);
}

static void spin(struct run *run, const char *rest)
{
	block_signals(run, rest);
	for (volatile unsigned i = 0;; i = i + 1)
		;
}

/* ---- What belongs to the whole process ---- */

static void default_sigpipe(struct run *run, const char *rest)
{
	(void)run;
	(void)rest;
	signal(SIGPIPE, SIG_DFL);
}

static void write_to_nobody(struct run *run, const char *rest)
{
	int fds[2];
	(void)rest;
	if (pipe2(fds, O_CLOEXEC) != 0)
		return;
	close(fds[0]);
	if (write(fds[1], "x", 1) < 0)
		give(run, warren_dead(run->job, "write: %s", strerror(errno)));
	close(fds[1]);
}

static void ignore_sigchld(struct run *run, const char *rest)
{
	(void)run;
	(void)rest;
	signal(SIGCHLD, SIG_IGN);
}

/* "system N": a child that exits with N, and whether its end could be seen. */
static void run_child(struct run *run, const char *rest)
{
	char command[64];
	snprintf(command, sizeof(command), "exit %d", atoi(rest));
	int status = system(command);
	if (status < 0 || WEXITSTATUS(status) != atoi(rest))
		give(run, warren_dead(run->job, "system: %d", status));
}

/* "daemon SECONDS": a grandchild that its parent leaves behind. */
static void leave_daemon(struct run *run, const char *rest)
{
	pid_t child = fork();
	if (child == 0) {
		if (fork() == 0) {
			close_range(0, ~0U, 0);
			execl("/bin/sleep", "sleep", rest, (char *)NULL);
		}
		_exit(0);
	}
	if (child < 0 || waitpid(child, NULL, 0) != child)
		give(run, warren_dead(run->job, "daemon: %s", strerror(errno)));
}

/* "close FIRST": and all above. */
static void close_descriptors(struct run *run, const char *rest)
{
	(void)run;
	close_range((unsigned)atoi(rest), ~0U, 0);
}

static void change_directory(struct run *run, const char *rest)
{
	if (chdir(rest) != 0)
		give(run, warren_dead(run->job, "chdir: %s", strerror(errno)));
}

static void change_umask(struct run *run, const char *rest)
{
	(void)run;
	umask((mode_t)strtoul(rest, NULL, 8));
}

static void change_locale(struct run *run, const char *rest)
{
	if (!setlocale(LC_ALL, rest))
		give(run, warren_dead(run->job, "no locale %s", rest));
}

static void change_environment(struct run *run, const char *rest)
{
	(void)run;
	setenv(rest, "changed by a task", 1);
	errno = ENOTRECOVERABLE;
}

/* ---- Leaks ---- */

static void *leaked; /* so that the compiler cannot leave it out */

/* "leak BYTES" */
static void leak_memory(struct run *run, const char *rest)
{
	size_t size = strtoull(rest, NULL, 10);
	leaked = malloc(size);
	if (!leaked)
		give(run, warren_retry(run->job, "out of memory"));
	else
		memset(leaked, 1, size);
}

static void allocate_without_end(struct run *run, const char *rest)
{
	(void)rest;
	while (!run->over)
		leak_memory(run, "4194304");
}

static void leak_descriptors(struct run *run, const char *rest)
{
	for (int n = atoi(rest); n > 0; n--)
		if (open("/dev/null", O_RDONLY) < 0)
			give(run, warren_retry(run->job, "%s", strerror(errno)));
}

/* ---- The host's functions, used as they must not be ---- */

static void return_number(struct run *run, const char *rest)
{
	give(run, (enum warren_verdict)atoi(rest));
}

static void say_dead(struct run *run, const char *rest)
{
	give(run, warren_dead(run->job, "%s", rest));
}

static void say_retry(struct run *run, const char *rest)
{
	give(run, warren_retry(run->job, "%s", rest));
}

/* What a call answered, into the ledger. */
static void note_error(const struct run *run, const char *call, enum warren_error error)
{
	char what[64];
	snprintf(what, sizeof(what), "%s/%d", call, (int)error);
	(void)note(run, what);
}

static void reply(struct run *run, const char *rest)
{
	note_error(run, "reply", warren_reply(run->job, "text/plain", rest, strlen(rest)));
}

/* "reply-size BYTES" */
static void reply_size(struct run *run, const char *rest)
{
	size_t size = strtoull(rest, NULL, 10);
	void *body =
	    mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (body == MAP_FAILED) {
		give(run, warren_retry(run->job, "mmap: %s", strerror(errno)));
		return;
	}
	note_error(run, "reply", warren_reply(run->job, "application/octet-stream", body, size));
	munmap(body, size);
}

static void reply_null(struct run *run, const char *rest)
{
	note_error(run, "reply", warren_reply(run->job, NULL, NULL, strtoull(rest, NULL, 10)));
}

/* "headers N": a follow-up to nowhere with so many. */
static void follow_with_headers(struct run *run, const char *rest)
{
	size_t n = strtoull(rest, NULL, 10);
	struct warren_value *headers = calloc(n, sizeof(*headers));
	struct warren_message message = {
		.routing_key = "nowhere", .headers = headers, .n_headers = n
	};
	for (size_t i = 0; headers && i < n; i++)
		headers[i] = warren_int("number", (int64_t)i);
	if (headers)
		note_error(run, "publish", warren_publish(run->job, &message));
	free(headers);
}

/* What is left of a job for a thread that outlives it. */
struct late {
	struct run run;
	char id[64], file[200];
};

static void call_all(const struct run *run)
{
	size_t len;
	(void)warren_body(run->job, &len);
	(void)warren_alloc(run->job, 1);
	warren_progress(run->job, 50);
	char what[96];
	snprintf(what, sizeof(what), "late/%d/%d/%d/%d", (int)warren_stopping(run->job),
	    (int)warren_reply(run->job, NULL, "late", 4), (int)warren_child(run->job, 0),
	    (int)warren_publish(run->job, &(struct warren_message){ .routing_key = "nowhere" }));
	(void)book_note(&book, NULL, what, 0, run->id);
}

static void *call_late(void *arg)
{
	struct late *late = arg;
	while (!exists(late->file))
		nap(5);
	call_all(&late->run);
	free(late);
	return NULL;
}

/* "late FILE": a thread that calls when the file is there, whatever became of the job. */
static void outlive(struct run *run, const char *rest)
{
	struct late *late = calloc(1, sizeof(*late));
	pthread_t thread;
	if (!late)
		return;
	late->run = *run;
	late->run.id = late->id;
	snprintf(late->id, sizeof(late->id), "%s", run->id);
	snprintf(late->file, sizeof(late->file), "%s", rest);
	if (pthread_create(&thread, NULL, call_late, late) == 0)
		pthread_detach(thread);
}

static atomic_bool together;

static void *ask_on(void *arg)
{
	const struct run *run = arg;
	while (atomic_load(&together)) {
		(void)warren_stopping(run->job);
		(void)warren_time_left_ms(run->job);
		warren_progress(run->job, 50);
	}
	warren_log(run->job, WARREN_LOG_DEBUG, "from another thread");
	return NULL;
}

/* "share N": what may be called from several threads, from several threads, N times. */
static void share(struct run *run, const char *rest)
{
	pthread_t thread;
	atomic_store(&together, true);
	if (pthread_create(&thread, NULL, ask_on, run) != 0)
		return;
	for (int n = atoi(rest); n > 0; n--) {
		(void)warren_stopping(run->job);
		(void)warren_reply(run->job, NULL, "reply", 5);
	}
	atomic_store(&together, false);
	pthread_join(thread, NULL);
}

static pthread_key_t at_thread_end;

/* Runs when the worker thread is gone from us: its last job has long ended. */
static void call_from_destructor(void *arg)
{
	struct warren_host *host = arg;
	warren_host_log(host, WARREN_LOG_INFO, "from a destructor");
	(void)book_note(&book, NULL, "destructor", 0, "-");
}

static void call_at_thread_end(struct run *run, const char *rest)
{
	(void)rest;
	pthread_setspecific(at_thread_end, warren_host_of(run->job));
}

static const struct {
	const char *name;
	void (*act)(struct run *run, const char *rest);
} commands[] = {
	{ "segv", segv },
	{ "fpe", fpe },
	{ "bus", bus },
	{ "ill", ill },
	{ "abort", give_up },
	{ "kill", kill_self },
	{ "overflow", overflow },
	{ "alloca", take_stack },
	{ "free-body", free_body },
	{ "longjmp", jump },
	{ "exit", leave },
	{ "quick_exit", leave_quickly },
	{ "_exit", leave_at_once },
	{ "pthread_exit", end_thread },
	{ "busy", be_busy },
	{ "hold", hold },
	{ "soft", sleep_softly },
	{ "once", only_once },
	{ "block-signals", block_signals },
	{ "unblock-signals", unblock_signals },
	{ "spin", spin },
	{ "sigpipe", default_sigpipe },
	{ "write", write_to_nobody },
	{ "sigchld", ignore_sigchld },
	{ "system", run_child },
	{ "daemon", leave_daemon },
	{ "close", close_descriptors },
	{ "chdir", change_directory },
	{ "umask", change_umask },
	{ "setlocale", change_locale },
	{ "setenv", change_environment },
	{ "leak", leak_memory },
	{ "allocate", allocate_without_end },
	{ "open", leak_descriptors },
	{ "return", return_number },
	{ "dead", say_dead },
	{ "retry", say_retry },
	{ "reply", reply },
	{ "reply-size", reply_size },
	{ "reply-null", reply_null },
	{ "headers", follow_with_headers },
	{ "late", outlive },
	{ "share", share },
	{ "destructor", call_at_thread_end },
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
	give(run, warren_dead(run->job, "no such command: %s", line));
}

static enum warren_verdict sabotage(struct warren_job *job)
{
	struct run run = { .job = job, .verdict = WARREN_DONE };
	char *text = (char *)(uintptr_t)warren_body_text(job), *rest = NULL;
	if (!text)
		return warren_retry(job, "out of memory");
	char *line = strtok_r(text, "\n;", &rest);
	run.id = line ? line : "-";
	if (!note(&run, "start"))
		return warren_retry(job, "ledger: %s", strerror(errno));
	while (!run.over && line && (line = strtok_r(NULL, "\n;", &rest)))
		obey(&run, line);
	return note(&run, "end") ? run.verdict : warren_retry(job, "ledger: %s", strerror(errno));
}

/* ---- The trap: what happens outside of any task ---- */

/* What the file says, "" where there is none. A constructor knows no options: hence the
 * environment. */
static void read_trap(char *what, size_t size)
{
	const char *path = getenv("WARREN_TEST_TRAP");
	FILE *file = path ? fopen(path, "re") : NULL;
	what[0] = '\0';
	if (!file)
		return;
	if (fgets(what, (int)size, file))
		what[strcspn(what, "\n")] = '\0';
	fclose(file);
}

static bool trapped(const char *where)
{
	char what[32];
	read_trap(what, sizeof(what));
	return strcmp(what, where) == 0;
}

__attribute__((constructor)) static void crash_while_loading(void)
{
	if (trapped("constructor"))
		segv(NULL, NULL);
}

static bool sabotage_open(struct warren_host *host, void **state)
{
	(void)state;
	if (trapped("open"))
		segv(NULL, NULL);
	if (trapped("refuse"))
		return warren_refuse(host, "the trap says so");
	pthread_key_create(&at_thread_end, call_from_destructor);
	if (!book_open(&book, warren_option_text(host, "file")))
		return warren_refuse(host, "ledger: %s", strerror(errno));
	return true;
}

static void sabotage_close(void *state)
{
	(void)state;
	if (trapped("close"))
		segv(NULL, NULL);
}

static const struct warren_task tasks[] = {
	{ .name = "sabotage.run", .run = sabotage },
	{ .name = "sabotage.serial", .run = sabotage, .flags = WARREN_SERIAL },
	{ .name = "sabotage.short", .run = sabotage, .time_limit_ms = 1000 },
	{ 0 },
};

static const struct warren_option options[] = {
	{ .name = "file", .type = WARREN_OPT_PATH, .help = "where the lines go" },
	{ 0 },
};

WARREN_PLUGIN(saboteur, .version = "1.0", .summary = "misbehaves as its body says", .tasks = tasks,
    .options = options, .open = sabotage_open, .close = sabotage_close);
