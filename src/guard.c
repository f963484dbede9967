/* What belongs to the whole worker process, looked at once a second. */
#include "guard.h"

#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

enum thing { SIGNAL_PIPE, SIGNAL_OTHER, SIGNAL_CHILD, FOLDER, MASK, NUMBERS, BLOCKED };

/* Each thing is said once: a plugin that does it in every job must not fill the log. */
static bool is_first(struct guard *guard, enum thing thing)
{
	return !(atomic_fetch_or(&guard->said, 1u << thing) & 1u << thing);
}

static void complain(struct guard *guard, enum thing thing, const char *what, const char *was,
    const char *now, bool restored)
{
	if (is_first(guard, thing))
		log_event(LOG_ERROR, "plugin.disturbed", L_STR("what", what), L_STR("was", was),
		    L_STR("now", now), L_BOOL("restored", restored));
}

/* ---- signals ---- */

static const char *disposition(const struct sigaction *action)
{
	if (action->sa_handler == SIG_IGN)
		return "ignored";
	return action->sa_handler == SIG_DFL ? "default" : "handled";
}

/* Those that we ignore would end the process. A handler of the plugin's own does not. */
static void look_at_ignored(struct guard *guard, int number, enum thing thing)
{
	struct sigaction action = { 0 };
	char name[32];

	if (sigaction(number, NULL, &action) != 0 || action.sa_handler != SIG_DFL)
		return;
	action = (struct sigaction){ .sa_handler = SIG_IGN };
	(void)snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(number));
	complain(guard, thing, name, "ignored", "default", sigaction(number, &action, NULL) == 0);
}

/* Where it is ignored, nobody can wait for a child: popen() and system() fail in all plugins. */
static void look_at_child(struct guard *guard)
{
	struct sigaction action = { 0 };
	const char *now;

	if (sigaction(SIGCHLD, NULL, &action) != 0 ||
	    (action.sa_handler != SIG_IGN && !(action.sa_flags & SA_NOCLDWAIT)))
		return;
	now = disposition(&action);
	action = (struct sigaction){ .sa_handler = SIG_DFL };
	complain(
	    guard, SIGNAL_CHILD, "SIGCHLD", "default", now, sigaction(SIGCHLD, &action, NULL) == 0);
}

static void look_at_signals(struct guard *guard)
{
	static const int others[] = { SIGHUP, SIGINT, SIGQUIT };

	look_at_ignored(guard, SIGPIPE, SIGNAL_PIPE);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		look_at_ignored(guard, others[i], SIGNAL_OTHER);
	look_at_child(guard);
}

/* ---- files ---- */

static ino_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

bool guard_descriptors(const struct guard *guard)
{
	return !guard->started || inode_of(guard->line) == guard->line_inode;
}

static void look_at_folder(struct guard *guard)
{
	struct stat st;

	if (guard->folder < 0)
		return;
	if (stat(".", &st) == 0 && st.st_ino == guard->inode && st.st_dev == guard->device)
		return;
	complain(guard, FOLDER, "working directory", "the one of the start", "another",
	    fchdir(guard->folder) == 0);
}

/* umask() can only be asked by changing it, and another thread may be creating a file. */
static long read_mask(void)
{
	char line[128];
	long mask = -1;
	FILE *file = fopen("/proc/self/status", "re");

	while (file && mask < 0 && fgets(line, sizeof(line), file))
		if (strncmp(line, "Umask:", 6) == 0)
			mask = strtol(line + 6, NULL, 8);
	if (file)
		(void)fclose(file);
	return mask;
}

static void look_at_mask(struct guard *guard)
{
	long mask = guard->mask < 0 ? -1 : read_mask();
	char was[32], now[32];

	if (mask < 0 || mask == guard->mask)
		return;
	(void)umask((mode_t)guard->mask);
	(void)snprintf(was, sizeof(was), "%04lo", guard->mask);
	(void)snprintf(now, sizeof(now), "%04lo", mask);
	complain(guard, MASK, "umask", was, now, true);
}

/* ---- the locale ---- */

/* Not put back: other threads may be using it. What we write and read after the start does not
 * depend on it. */
static void look_at_numbers(struct guard *guard)
{
	const char *now = setlocale(LC_NUMERIC, NULL);

	if (now && strcmp(now, guard->numbers) != 0)
		complain(guard, NUMBERS, "LC_NUMERIC", guard->numbers, now, false);
}

/* ---- the door ---- */

void guard_start(struct guard *guard, int line)
{
	struct stat st;
	const char *numbers = setlocale(LC_NUMERIC, NULL);

	*guard = (struct guard){ .started = true,
		.folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.mask = read_mask(),
		.line = line,
		.line_inode = inode_of(line) };
	if (guard->folder >= 0 && fstat(guard->folder, &st) == 0) {
		guard->device = st.st_dev;
		guard->inode = st.st_ino;
	}
	(void)snprintf(guard->numbers, sizeof(guard->numbers), "%s", numbers ? numbers : "C");
	PTOK(pthread_sigmask(SIG_SETMASK, NULL, &guard->blocked));
}

void guard_stop(struct guard *guard)
{
	if (guard->started && guard->folder >= 0)
		close(guard->folder);
}

void guard_look(struct guard *guard)
{
	if (!guard->started)
		return;
	look_at_signals(guard);
	look_at_folder(guard);
	look_at_mask(guard);
	look_at_numbers(guard);
	atomic_fetch_add_explicit(&guard->looks, 1, memory_order_relaxed);
}

static bool same_signals(const sigset_t *a, const sigset_t *b)
{
	for (int i = 1; i < NSIG; i++)
		if (sigismember(a, i) != sigismember(b, i))
			return false;
	return true;
}

void guard_after(struct guard *guard, unsigned *seen, const struct warren_job *job)
{
	unsigned looks = atomic_load_explicit(&guard->looks, memory_order_relaxed);
	sigset_t now;

	if (*seen == looks)
		return;
	*seen = looks;
	PTOK(pthread_sigmask(SIG_SETMASK, NULL, &now));
	if (same_signals(&now, &guard->blocked))
		return;
	/* A fault whose signal is blocked ends the process without a word about the job. */
	PTOK(pthread_sigmask(SIG_SETMASK, &guard->blocked, NULL));
	if (is_first(guard, BLOCKED))
		log_event(LOG_ERROR, "plugin.disturbed", L_STR("what", "blocked signals"),
		    L_STR("job", job->id), L_BYTES("task", job->task_name),
		    L_BOOL("restored", true));
}
