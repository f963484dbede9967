/*
 * The supervisor's loop. What happens to one worker process is decided by slot.c; this file carries
 * it out, and knows what is about all of them: generations, reload, stop, readiness, the exit code.
 *
 * There are at most two generations: the current one, and either the next one, which comes up
 * during a reload, or one that leaves: retired by a reload, or rolled back. A reload begins only
 * where there is neither; one more may wait.
 */
#include "supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "ipc.h"
#include "notify.h"
#include "score.h"
#include "slot.h"
#include "text.h"

enum {
	PASS_MS = 1000, /* the loop comes round at least so often */
	CRASH_LOOP = 5, /* so many failures in a row have a name of their own */
	WHY_MAX = 256,
};
#define GROUP_KILL_NS (2 * NS_PER_S) /* a dead worker's children: from SIGTERM to SIGKILL */

struct worker {
	struct slot slot;
	struct generation *generation;
	unsigned number;
	struct child child;
	bool consumed;      /* this process has been consuming */
	int64_t given_back; /* as it said last */
	unsigned ends;      /* processes that ended or could not be made */
	char why[WHY_MAX];  /* why it is not consuming, in its own words; "": no reason known */
};

struct generation {
	unsigned number;
	struct snapshot snapshot;
	struct score *score;
	int score_fd;
	struct worker *workers;
	unsigned n_workers;
	int64_t deadline_ns; /* of the next one: by then it has taken over, or is rolled back */
};

/* A process group that a dead worker's job has left behind. */
struct leftover {
	pid_t group;
	int64_t kill_ns;
};

struct supervisor {
	const struct supervisor_setup *setup;
	int signals;
	struct notify notify;
	struct generation *current, *next, *leaving; /* NULL where there is none */
	unsigned generations;                        /* made so far */
	struct check check;                          /* runs while check.child.pid is not 0 */
	struct snapshot checked;                     /* what it checks */
	bool reload_wanted;
	bool ready;  /* the service manager was told so */
	bool tested; /* something has been consuming: from now on a refusal is not fatal */
	bool stopping;
	bool gave_back; /* a started job, while stopping */
	int exit_code;  /* why it ends, if not because it was told to */
	int64_t broker_deadline_ns;
	int64_t watchdog_ns; /* when to ping next */
	struct leftover *leftovers;
	size_t n_leftovers;
	uint64_t totals[COUNT_N]; /* of generations that are gone */
	struct pollfd *fds;
	size_t max_fds;
	char status[WHY_MAX];
};

static void stop(struct supervisor *s, enum slot_event how);

/* ---- reload; the start is one that replaces nothing ---- */

static void reload_over(struct supervisor *s)
{
	if (s->ready && !s->stopping)
		notify_send(&s->notify, "READY=1");
}

static void log_errors(enum log_level level, const char *event, const struct conf_errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		log_event(level, event, L_STR("file", errors->list[i].file),
		    L_INT("line", errors->list[i].line), L_STR("error", errors->list[i].text));
}

/* At the start it is a person who reads this; later it is the log. */
static void refuse(struct supervisor *s, const struct conf_errors *errors)
{
	if (s->current) {
		log_errors(LOG_ERROR, "reload.refused", errors);
		reload_over(s);
		return;
	}
	conf_errors_print(errors, stderr);
	log_event(
	    LOG_ERROR, "config.refused", L_STR("file", s->setup->path), L_INT("errors", errors->n));
	s->exit_code = errors->refused ? EXIT_REFUSED : EXIT_CONFIG;
	stop(s, SLOT_NOW);
}

static void begin(struct supervisor *s)
{
	struct conf_errors errors = { 0 }, warnings = { 0 };

	s->reload_wanted = false;
	if (s->current)
		log_event(LOG_INFO, "reload.started", L_STR("file", s->setup->path));
	if (s->current && s->ready)
		notify_send(&s->notify, "RELOADING=1\nMONOTONIC_USEC=%lld",
		    (long long)(clock_mono_ns() / 1000));
	if (snapshot_take(&s->checked, s->setup->path, &errors, &warnings)) {
		if (!s->current)
			log_init(s->checked.conf->log_level, s->checked.conf->log_format);
		log_errors(LOG_WARN, "config.warning", &warnings);
		if (!check_start(&s->check, s->setup->path, &s->checked)) {
			refuse(s, &s->check.errors);
			conf_errors_free(&s->check.errors);
			snapshot_drop(&s->checked);
		}
	} else {
		refuse(s, &errors);
	}
	conf_errors_free(&errors);
	conf_errors_free(&warnings);
}

static void start_generation(struct supervisor *s)
{
	struct generation *g = generation_create(s, &s->checked);

	if (!g) {
		log_event(LOG_ERROR, s->current ? "reload.refused" : "daemon.failed",
		    L_STR("error", "cannot create the scoreboard"), L_STR("why", strerror(errno)));
		snapshot_drop(&s->checked);
		if (s->current) {
			reload_over(s);
			return;
		}
		s->exit_code = EXIT_OS;
		stop(s, SLOT_NOW);
		return;
	}
	if (s->current) {
		s->next = g;
	} else {
		s->current = g;
		s->broker_deadline_ns = g->deadline_ns;
	}
	for (unsigned i = 0; i < g->n_workers; i++)
		step(s, &g->workers[i], SLOT_START);
}

static void check_finished(struct supervisor *s, int status)
{
	bool fine = check_ended(&s->check, status);

	if (fine && !s->stopping) {
		start_generation(s);
	} else {
		snapshot_drop(&s->checked);
		if (!s->stopping)
			refuse(s, &s->check.errors);
	}
	conf_errors_free(&s->check.errors);
	s->check = (struct check){ .child.ipc = -1 };
}

static void retire(struct supervisor *s, struct generation *g)
{
	CHECK(!s->leaving);
	s->leaving = g;
	for (unsigned i = 0; i < g->n_workers; i++)
		step(s, &g->workers[i], SLOT_STOP);
}

static void promote(struct supervisor *s)
{
	struct generation *old = s->current;
	const struct conf *conf = s->next->snapshot.conf;

	s->current = s->next;
	s->next = NULL;
	log_event(LOG_INFO, "reload.done", L_INT("generation", s->current->number));
	log_init(conf->log_level, conf->log_format);
	retire(s, old);
	reload_over(s);
}

static void roll_back(struct supervisor *s, const char *why)
{
	struct generation *failed = s->next;

	s->next = NULL;
	log_event(LOG_ERROR, "reload.rolled-back", L_INT("generation", s->current->number),
	    L_STR("why", why));
	retire(s, failed);
	reload_over(s);
}

static const struct worker *first_failed(const struct generation *g)
{
	for (unsigned i = 0; i < g->n_workers; i++)
		if (g->workers[i].ends > 0 || g->workers[i].slot.state == SLOT_FAILING)
			return &g->workers[i];
	return NULL;
}

/* Every process of the next generation consumes; or has its plugins open where the current one
 * could not do better either, because there is no broker. */
static bool can_take_over(const struct supervisor *s)
{
	unsigned consuming = count_state(s->next, SLOT_CONSUMING);
	unsigned loaded = consuming + count_state(s->next, SLOT_LOADED);
	bool old_consumes = count_state(s->current, SLOT_CONSUMING) > 0;

	return (old_consumes ? consuming : loaded) == s->next->n_workers;
}

static void judge_next(struct supervisor *s, int64_t now_ns)
{
	const struct worker *failed;

	if (!s->next || s->stopping)
		return;
	failed = first_failed(s->next);
	if (failed)
		roll_back(
		    s, failed->why[0] ? failed->why : "a new worker ended before it was consuming");
	else if (can_take_over(s))
		promote(s);
	else if (now_ns >= s->next->deadline_ns)
		roll_back(s, "the new workers were not consuming within workers.start_limit");
}

/* ---- stopping, and what the operator says ---- */

static void stop(struct supervisor *s, enum slot_event how)
{
	if (!s->stopping) {
		notify_send(&s->notify, "STOPPING=1");
		log_event(
		    LOG_INFO, "daemon.stopping", L_STR("how", how == SLOT_NOW ? "now" : "drain"));
	}
	s->stopping = true;
	s->reload_wanted = false;
	if (s->check.child.pid > 0)
		kill(s->check.child.pid, SIGKILL);
	for (struct worker *w = NULL; (w = worker_after(s, w));)
		step(s, w, how);
}

static void obey(struct supervisor *s, const struct signalfd_siginfo *info)
{
	int signal = (int)info->ssi_signo;
	bool busy = s->check.child.pid > 0 || s->next || s->leaving;

	if (signal == SIGCHLD)
		return; /* reap() looks at every pass */
	log_event(LOG_INFO, "signal", L_STR("name", sigabbrev_np(signal)),
	    L_INT("from", info->ssi_pid), L_INT("uid", info->ssi_uid));
	if (signal == SIGHUP && s->stopping) {
		log_event(LOG_INFO, "reload.ignored", L_STR("why", "the daemon stops"));
	} else if (signal == SIGHUP) {
		if (busy && !s->reload_wanted)
			log_event(
			    LOG_INFO, "reload.waiting", L_STR("why", "another one is in progress"));
		s->reload_wanted = true;
	} else if (signal == SIGQUIT) {
		stop(s, SLOT_NOW);
	} else {
		stop(s, s->stopping ? SLOT_HASTEN : SLOT_STOP);
	}
}

static void read_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		obey(s, &info);
}

static int open_signals(void)
{
	static const int heard[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(heard); i++)
		sigaddset(&set, heard[i]);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* ---- what the service manager is told ---- */

static const char *first_why(const struct generation *g)
{
	for (unsigned i = 0; g && i < g->n_workers; i++)
		if (g->workers[i].why[0])
			return g->workers[i].why;
	return "";
}

static void show_status(struct supervisor *s)
{
	unsigned total = s->current ? s->current->n_workers : 0, alive = 0;
	char why[WHY_MAX / 2], text[WHY_MAX];

	for (struct worker *w = NULL; (w = worker_after(s, w));)
		alive += slot_alive(&w->slot);
	text_escape(bytes_of(first_why(s->current)), why, sizeof(why));
	if (s->stopping)
		snprintf(text, sizeof(text), "stopping, %u worker processes left", alive);
	else
		snprintf(text, sizeof(text), "%u of %u worker processes consuming%s%s%s",
		    count_state(s->current, SLOT_CONSUMING), total, s->next ? ", reloading" : "",
		    why[0] ? ": " : "", why);
	if (strcmp(text, s->status) == 0)
		return;
	snprintf(s->status, sizeof(s->status), "%s", text);
	notify_send(&s->notify, "STATUS=%s", text);
}

/* Only after a whole pass: a supervisor that hangs anywhere must not look alive. */
static void ping_watchdog(struct supervisor *s, int64_t now_ns)
{
	if (s->notify.watchdog_ns == 0 || now_ns < s->watchdog_ns)
		return;
	notify_send(&s->notify, "WATCHDOG=1");
	s->watchdog_ns = now_ns + s->notify.watchdog_ns / 2;
}

/* ---- the loop ---- */

static void require_broker(struct supervisor *s, int64_t now_ns)
{
	if (!s->setup->require_broker || s->tested || s->stopping || !s->current ||
	    now_ns < s->broker_deadline_ns)
		return;
	log_event(LOG_ERROR, "daemon.no-broker", L_OPT("why", first_why(s->current)));
	s->exit_code = EXIT_UNAVAILABLE;
	stop(s, SLOT_STOP);
}

static void tick(struct supervisor *s, int64_t now_ns)
{
	for (struct worker *w = NULL; (w = worker_after(s, w));) {
		enum slot_state before = w->slot.state;

		follow(s, w, before, slot_tick(&w->slot, now_ns));
	}
	if (s->check.child.pid > 0 && now_ns >= s->check.deadline_ns)
		kill(s->check.child.pid, SIGKILL);
	tick_leftovers(s, now_ns);
	require_broker(s, now_ns);
	judge_next(s, now_ns);
	generation_bury(s, &s->leaving);
	if (s->stopping) {
		generation_bury(s, &s->next);
		generation_bury(s, &s->current);
	}
	if (s->reload_wanted && s->current && !s->next && !s->leaving && s->check.child.pid == 0)
		begin(s);
}

static bool over(const struct supervisor *s)
{
	return s->stopping && !s->current && !s->next && !s->leaving && s->check.child.pid == 0 &&
	       s->n_leftovers == 0;
}

static int64_t earliest(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int wait_ms(struct supervisor *s)
{
	int64_t at = s->next ? s->next->deadline_ns : CLOCK_NEVER;

	for (struct worker *w = NULL; (w = worker_after(s, w));)
		at = earliest(at, w->slot.deadline_ns);
	for (size_t i = 0; i < s->n_leftovers; i++)
		at = earliest(at, s->leftovers[i].kill_ns);
	if (s->notify.watchdog_ns > 0)
		at = earliest(at, s->watchdog_ns);
	return clock_until_ms(at, s->n_leftovers > 0 ? PASS_MS / 10 : PASS_MS);
}

static size_t add_fd(struct supervisor *s, size_t n, int fd)
{
	if (fd < 0)
		return n;
	if (n == s->max_fds) {
		struct pollfd *grown = xcalloc(2 * n + 8, sizeof(*grown));

		if (n > 0)
			memcpy(grown, s->fds, n * sizeof(*grown));
		free(s->fds);
		s->fds = grown;
		s->max_fds = 2 * n + 8;
	}
	s->fds[n] = (struct pollfd){ .fd = fd, .events = POLLIN };
	return n + 1;
}

static void wait_for_something(struct supervisor *s)
{
	size_t n = add_fd(s, 0, s->signals);

	n = add_fd(s, n, s->check.child.ipc);
	for (struct worker *w = NULL; (w = worker_after(s, w));)
		n = add_fd(s, n, w->child.ipc);
	(void)poll(s->fds, n, wait_ms(s));
}

static void run(struct supervisor *s)
{
	begin(s);
	for (;;) {
		tick(s, clock_mono_ns());
		if (over(s))
			return;
		show_status(s);
		ping_watchdog(s, clock_mono_ns());
		wait_for_something(s);
		read_signals(s);
		reap(s);
		(void)check_read(&s->check);
		listen_to_all(s);
	}
}

static int exit_code(const struct supervisor *s)
{
	if (s->exit_code != EXIT_OK)
		return s->exit_code;
	return s->gave_back ? EXIT_TEMPFAIL : EXIT_OK;
}

int supervisor_run(const struct supervisor_setup *setup)
{
	struct supervisor s = {
		.setup = setup,
		.signals = open_signals(),
		.check.child.ipc = -1,
		.checked.fd = -1,
	};

	if (s.signals < 0) {
		log_event(LOG_ERROR, "daemon.failed", L_STR("error", "signalfd"),
		    L_STR("why", strerror(errno)));
		return EXIT_OS;
	}
	notify_open(&s.notify);
	log_event(LOG_INFO, "daemon.started", L_STR("version", WARREN_VERSION),
	    L_INT("pid", getpid()), L_STR("file", setup->path));
	run(&s);
	log_event(LOG_INFO, "daemon.stopped", L_INT("code", exit_code(&s)),
	    L_INT("taken", s.totals[COUNT_TAKEN]), L_INT("done", s.totals[COUNT_DONE]),
	    L_INT("retried", s.totals[COUNT_RETRIED]), L_INT("dead", s.totals[COUNT_DEAD]),
	    L_INT("given_back", s.totals[COUNT_GIVEN_BACK]));
	notify_close(&s.notify);
	close(s.signals);
	free(s.leftovers);
	free(s.fds);
	return exit_code(&s);
}
