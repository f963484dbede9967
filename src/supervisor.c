/*
 * The supervisor's loop: generations, reload, stop, readiness, the exit code. What happens to one
 * worker process is decided by slot.c and carried out by crew.c.
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

#include "clock.h"
#include "crew.h"
#include "notify.h"
#include "operator.h"
#include "relief.h"
#include "text.h"
#include "watch.h"

enum { PASS_MS = 1000, STATUS_MAX = 480 }; /* the loop comes round at least once a second */

struct supervisor {
	const struct supervisor_setup *setup;
	int signals;
	struct notify notify;
	struct operator_desk desk;
	struct crew crew;
	struct watch watch;
	struct check check;      /* runs while check.child.pid is not 0 */
	struct snapshot checked; /* what it checks */
	bool reload_wanted;
	bool ready;    /* the service manager was told so */
	int exit_code; /* why it ends, if not because it was told to */
	int64_t broker_deadline_ns;
	int64_t watchdog_ns; /* when to ping next */
	struct pollfd *fds;
	size_t max_fds;
	char status[STATUS_MAX];
};

static void fail(struct supervisor *s, int code, enum slot_event how);

/* ---- reload; the start is one that replaces nothing ---- */

static bool can_reload(const struct supervisor *s)
{
	return s->crew.current && !s->crew.next && !s->crew.leaving && s->check.child.pid == 0;
}

static void reload_over(struct supervisor *s)
{
	if (s->ready && !s->crew.stopping)
		notify_send(&s->notify, "READY=1");
}

static void note_refusal(struct supervisor *s, const struct conf_errors *errors)
{
	const struct conf_error *first = &errors->list[0];
	char why[sizeof(s->watch.reload.why)] = "out of memory";

	if (errors->n > 0 && first->line > 0)
		(void)snprintf(
		    why, sizeof(why), "%s:%u: %s", first->file, first->line, first->text);
	else if (errors->n > 0)
		(void)snprintf(why, sizeof(why), "%s: %s", first->file, first->text);
	watch_reloaded(&s->watch, RELOAD_REFUSED, why);
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
	if (s->crew.current) {
		log_errors(LOG_ERROR, "reload.refused", errors);
		if (errors->n == 0)
			log_event(LOG_ERROR, "reload.refused", L_STR("error", "out of memory"));
		steer_reload_refused(&s->desk.steer, errors);
		note_refusal(s, errors);
		reload_over(s);
		return;
	}
	conf_errors_print(errors, stderr);
	log_event(
	    LOG_ERROR, "config.refused", L_STR("file", s->setup->path), L_INT("errors", errors->n));
	fail(s, conf_errors_code(errors), SLOT_NOW);
}

/* The first configuration's doors are open before anything runs: where another daemon has them,
 * this one is one too many. False: it ends. */
static bool open_doors(struct supervisor *s)
{
	struct conf_errors errors = { 0 };

	if (operator_prepare(&s->desk, s->setup->path, s->checked.conf, &errors)) {
		operator_commit(&s->desk);
		return true;
	}
	conf_errors_print(&errors, stderr);
	log_errors(LOG_ERROR, "daemon.failed", &errors);
	if (errors.n == 0)
		log_event(LOG_ERROR, "daemon.failed", L_STR("error", "out of memory"));
	fail(s, errors.n > 0 ? EXIT_CANT_CREATE : EXIT_OS, SLOT_NOW);
	conf_errors_free(&errors);
	snapshot_drop(&s->checked);
	return false;
}

static void begin_check(struct supervisor *s)
{
	if (!s->crew.current && !open_doors(s))
		return;
	if (check_start(&s->check, s->setup->path, &s->checked))
		return;
	refuse(s, &s->check.errors);
	conf_errors_free(&s->check.errors);
	snapshot_drop(&s->checked);
}

static void begin(struct supervisor *s)
{
	struct conf_errors errors = { 0 }, warnings = { 0 };

	s->reload_wanted = false;
	if (s->crew.current) {
		log_event(LOG_INFO, "reload.started", L_STR("file", s->setup->path));
		steer_reload_begins(&s->desk.steer);
	}
	if (s->crew.current && s->ready)
		notify_send(&s->notify, "RELOADING=1\nMONOTONIC_USEC=%lld",
		    (long long)(clock_mono_ns() / 1000));
	if (snapshot_take(&s->checked, s->setup->path, &errors, &warnings)) {
		if (!s->crew.current)
			log_init(s->checked.conf->log_level, s->checked.conf->log_format);
		log_errors(LOG_WARN, "config.warning", &warnings);
		begin_check(s);
	} else {
		refuse(s, &errors);
	}
	conf_errors_free(&errors);
	conf_errors_free(&warnings);
}

static void start_generation(struct supervisor *s)
{
	struct generation *g = crew_enlist(&s->crew, &s->checked);

	if (!g) {
		log_event(LOG_ERROR, s->crew.current ? "reload.refused" : "daemon.failed",
		    L_STR("error", "cannot create the scoreboard"), L_STR("why", strerror(errno)));
		snapshot_drop(&s->checked);
		operator_abandon(&s->desk);
		if (s->crew.current) {
			watch_reloaded(&s->watch, RELOAD_REFUSED, "cannot create the scoreboard");
			steer_reload_rolled_back(&s->desk.steer, "cannot create the scoreboard");
			reload_over(s);
		} else {
			fail(s, EXIT_OS, SLOT_NOW);
		}
		return;
	}
	if (s->crew.current) {
		s->crew.next = g;
	} else {
		s->crew.current = g;
		s->broker_deadline_ns = g->deadline_ns;
	}
	relief_man(&s->crew);
}

static void check_finished(struct supervisor *s, int status)
{
	bool fine = check_ended(&s->check, status);

	if (fine && s->crew.current && !s->crew.stopping)
		fine =
		    operator_prepare(&s->desk, s->setup->path, s->checked.conf, &s->check.errors);
	if (fine && !s->crew.stopping) {
		start_generation(s);
	} else {
		snapshot_drop(&s->checked);
		if (!s->crew.stopping)
			refuse(s, &s->check.errors);
	}
	conf_errors_free(&s->check.errors);
	s->check = (struct check){ .child.ipc = -1 };
}

static void retire(struct supervisor *s, struct generation *g)
{
	CHECK(!s->crew.leaving);
	s->crew.leaving = g;
	crew_order(&s->crew, g, SLOT_STOP);
}

static void promote(struct supervisor *s)
{
	struct generation *old = s->crew.current;
	const struct conf *conf = s->crew.next->snapshot.conf;

	s->crew.current = s->crew.next;
	s->crew.next = NULL;
	score_set_lenient(s->crew.current->score);
	log_event(LOG_INFO, "reload.done", L_INT("generation", s->crew.current->number));
	log_init(conf->log_level, conf->log_format);
	operator_commit(&s->desk);
	steer_reload_done(&s->desk.steer);
	watch_reloaded(&s->watch, RELOAD_DONE, "");
	retire(s, old);
	reload_over(s);
}

static void roll_back(struct supervisor *s, const char *why)
{
	struct generation *failed = s->crew.next;

	s->crew.next = NULL;
	log_event(LOG_ERROR, "reload.rolled-back", L_INT("generation", s->crew.current->number),
	    L_STR("why", why));
	operator_abandon(&s->desk);
	steer_reload_rolled_back(&s->desk.steer, why);
	watch_reloaded(&s->watch, RELOAD_ROLLED_BACK, why);
	retire(s, failed);
	reload_over(s);
}

static const struct worker *first_failed(const struct generation *g)
{
	for (unsigned i = 0; i < g->n_places; i++)
		if (g->workers[i].ends > 0 || g->workers[i].slot.state == SLOT_FAILING)
			return &g->workers[i];
	return NULL;
}

/* Every process of the next generation consumes; or has its plugins open where the current one
 * could not do better either, because there is no broker. */
static bool can_take_over(const struct supervisor *s)
{
	bool old_consumes = crew_consuming(s->crew.current) > 0;
	unsigned able = old_consumes ? crew_consuming(s->crew.next) : crew_loaded(s->crew.next);

	return able == s->crew.next->n_workers;
}

static void judge_next(struct supervisor *s, int64_t now_ns)
{
	const struct worker *failed;

	if (!s->crew.next || s->crew.stopping)
		return;
	failed = first_failed(s->crew.next);
	if (failed)
		roll_back(s, failed->why[0] ? failed->why : "a new worker ended too early");
	else if (can_take_over(s))
		promote(s);
	else if (now_ns >= s->crew.next->deadline_ns)
		roll_back(s, "the new workers were not consuming within workers.start_limit");
}

/* ---- stopping, and what the operator says ---- */

static void stop(struct supervisor *s, enum slot_event how)
{
	if (!s->crew.stopping) {
		notify_send(&s->notify, "STOPPING=1");
		log_event(
		    LOG_INFO, "daemon.stopping", L_STR("how", how == SLOT_NOW ? "now" : "drain"));
	}
	s->crew.stopping = true;
	s->reload_wanted = false;
	if (s->check.child.pid > 0)
		kill(s->check.child.pid, SIGKILL);
	crew_order_all(&s->crew, how);
}

/* Ends the daemon for a reason of its own; the first one counts. */
static void fail(struct supervisor *s, int code, enum slot_event how)
{
	if (s->exit_code == EXIT_OK)
		s->exit_code = code;
	stop(s, how);
}

static void want_reload(struct supervisor *s)
{
	if (s->crew.stopping) {
		log_event(LOG_INFO, "reload.ignored", L_STR("why", "the daemon stops"));
		return;
	}
	if (!can_reload(s) && !s->reload_wanted)
		log_event(LOG_INFO, "reload.waiting", L_STR("why", "one is in progress"));
	s->reload_wanted = true;
}

/* What came through the control socket. */
static void obey_operator(struct supervisor *s)
{
	struct steer *steer = &s->desk.steer;

	if (steer->wants_reload)
		want_reload(s);
	if (steer->wants_drain)
		stop(s, SLOT_STOP);
	steer->wants_reload = steer->wants_drain = false;
	steer_tick(steer);
}

static void obey(struct supervisor *s, const struct signalfd_siginfo *info)
{
	int signal = (int)info->ssi_signo;

	if (signal == SIGCHLD)
		return; /* reap() looks at every pass */
	log_event(LOG_INFO, "signal", L_STR("name", sigabbrev_np(signal)),
	    L_INT("from", info->ssi_pid), L_INT("uid", info->ssi_uid));
	if (signal == SIGHUP) {
		want_reload(s);
	} else if (signal == SIGQUIT) {
		stop(s, SLOT_NOW);
	} else {
		stop(s, s->crew.stopping ? SLOT_HASTEN : SLOT_STOP);
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

static void show_status(struct supervisor *s)
{
	unsigned total = s->crew.current ? s->crew.current->n_workers : 0, alive = 0;
	const char *trouble = s->watch.headline;
	char text[STATUS_MAX];

	for (struct worker *w = NULL; (w = crew_after(&s->crew, w));)
		alive += slot_alive(&w->slot);
	if (s->crew.stopping)
		snprintf(text, sizeof(text), "stopping, %u worker processes left", alive);
	else
		snprintf(text, sizeof(text), "%u of %u worker processes consuming%s%s%s",
		    crew_consuming(s->crew.current), total, s->crew.next ? ", reloading" : "",
		    trouble[0] ? ": " : "", trouble);
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
	if (!s->setup->require_broker || s->crew.tested || s->crew.stopping || !s->crew.current ||
	    now_ns < s->broker_deadline_ns)
		return;
	log_event(LOG_ERROR, "daemon.no-broker", L_OPT("why", crew_why(s->crew.current)));
	fail(s, EXIT_UNAVAILABLE, SLOT_STOP);
}

static void say_ready(struct supervisor *s)
{
	if (s->ready || !s->crew.loaded || s->crew.stopping)
		return;
	s->ready = true;
	notify_send(&s->notify, "READY=1");
	log_event(LOG_INFO, "daemon.ready", L_INT("generation", s->crew.current->number));
}

static void tick(struct supervisor *s, int64_t now_ns)
{
	crew_tick(&s->crew, now_ns);
	if (s->crew.fatal && !s->crew.stopping)
		fail(s, s->crew.fatal, SLOT_NOW);
	if (s->check.child.pid > 0 && now_ns >= s->check.deadline_ns)
		kill(s->check.child.pid, SIGKILL);
	say_ready(s);
	require_broker(s, now_ns);
	judge_next(s, now_ns);
	crew_bury(&s->crew);
	obey_operator(s);
	watch_tick(&s->watch, s->check.child.pid > 0, now_ns);
	if (s->reload_wanted && can_reload(s))
		begin(s);
}

static bool over(const struct supervisor *s)
{
	const struct crew *crew = &s->crew;

	return crew->stopping && !crew->current && !crew->next && !crew->leaving &&
	       crew->n_leftovers == 0 && s->check.child.pid == 0;
}

static int wait_ms(struct supervisor *s)
{
	int64_t at_ns = crew_deadline(&s->crew), doors_ns = operator_deadline(&s->desk);

	if (doors_ns < at_ns)
		at_ns = doors_ns;
	if (s->notify.watchdog_ns > 0 && s->watchdog_ns < at_ns)
		at_ns = s->watchdog_ns;
	return clock_until_ms(at_ns, PASS_MS);
}

/* False: what has no place is served at the end of the pass all the same. */
static bool has_place(struct supervisor *s, size_t n)
{
	struct pollfd *grown;

	if (n <= s->max_fds)
		return true;
	grown = reallocarray(s->fds, 2 * n, sizeof(*grown));
	if (!grown)
		return false;
	s->fds = grown;
	s->max_fds = 2 * n;
	return true;
}

static size_t add_fd(struct supervisor *s, size_t n, int fd)
{
	if (fd < 0 || !has_place(s, n + 1))
		return n;
	s->fds[n] = (struct pollfd){ .fd = fd, .events = POLLIN };
	return n + 1;
}

static void wait_for_something(struct supervisor *s)
{
	size_t n = add_fd(s, 0, s->signals);

	n = add_fd(s, n, s->check.child.ipc);
	for (struct worker *w = NULL; (w = crew_after(&s->crew, w));)
		n = add_fd(s, n, w->child.ipc);
	if (has_place(s, n + OPERATOR_FDS))
		n += operator_fds(&s->desk, s->fds + n);
	(void)poll(s->fds, n, wait_ms(s));
}

static void reap(struct supervisor *s)
{
	pid_t check = s->check.child.pid, pid;
	int status;

	crew_reap(&s->crew);
	if (check > 0 && waitpid(check, &status, WNOHANG) == check)
		check_finished(s, status);
	if (getpid() != 1)
		return;
	/* orphans of the whole machine are handed to us, and nobody else will bury them */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!crew_reaped(&s->crew, pid, status) && pid == s->check.child.pid)
			check_finished(s, status);
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
		crew_listen(&s->crew);
		operator_serve(&s->desk, clock_mono_ns());
	}
}

static int exit_code(const struct supervisor *s)
{
	if (s->exit_code != EXIT_OK)
		return s->exit_code;
	return s->crew.gave_back ? EXIT_TEMPFAIL : EXIT_OK;
}

static void log_stopped(const struct supervisor *s)
{
	struct tally_sum all = accounts_sum(&s->crew.past, NULL);

	log_event(LOG_INFO, "daemon.stopped", L_INT("code", exit_code(s)),
	    L_INT("taken", all.counts[COUNT_TAKEN]), L_INT("done", all.counts[COUNT_DONE]),
	    L_INT("retried", all.counts[COUNT_RETRIED]), L_INT("dead", all.counts[COUNT_DEAD]),
	    L_INT("given_back", all.counts[COUNT_GIVEN_BACK]),
	    L_INT("timed_out", all.counts[COUNT_TIMED_OUT]),
	    L_INT("crashes", all.counts[COUNT_CRASHES]));
}

int supervisor_run(const struct supervisor_setup *setup)
{
	struct supervisor s = {
		.setup = setup,
		.crew.path = setup->path,
		.signals = open_signals(),
		.check.child.ipc = -1,
		.checked.fd = -1,
	};

	if (s.signals < 0) {
		log_event(LOG_ERROR, "daemon.failed", L_STR("error", "signalfd"),
		    L_STR("why", strerror(errno)));
		return EXIT_OS;
	}
	watch_open(&s.watch, &s.crew);
	notify_open(&s.notify);
	operator_open(&s.desk, &s.crew, &s.watch);
	log_event(LOG_INFO, "daemon.started", L_STR("version", WARREN_VERSION),
	    L_INT("pid", getpid()), L_STR("file", setup->path));
	run(&s);
	steer_drained(&s.desk.steer);
	operator_close(&s.desk);
	log_stopped(&s);
	notify_close(&s.notify);
	close(s.signals);
	free(s.crew.leftovers);
	accounts_free(&s.crew.past);
	watch_close(&s.watch);
	free(s.fds);
	return exit_code(&s);
}
