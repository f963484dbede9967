/* A worker process: plugins, links, publisher and threads come up in order, and go down in order.
 */
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "copy.h"
#include "crash.h"
#include "guard.h"
#include "host.h"
#include "identity.h"
#include "ipc.h"
#include "pool.h"
#include "tls.h"

/* How long threads may take to come back once they are told to leave at once. */
#define LEAVE_LIMIT_NS (5 * NS_PER_S)
#define LOOP_SILENCE_NS (60 * NS_PER_S) /* a loop that stands still for longer has hung */
enum { PULSE_MS = 1000 };

enum phase {
	PHASE_RUN,
	PHASE_DRAIN, /* takes no more; running jobs may finish until deadline_ns */
	PHASE_LEAVE, /* running jobs are told to stop now; the process ends at deadline_ns without
			them */
};

struct worker {
	const struct worker_setup *setup;
	struct plugins *plugins;
	struct link *acked, *unacked;
	struct publisher *publisher;
	struct pool *pool;
	struct guard guard;
	unsigned n_threads;

	enum phase phase;
	int64_t deadline_ns, look_at_ns, guard_at_ns, report_at_ns;
	pthread_t watcher;
	bool watches;
	int watch_fd;
	_Atomic int64_t looped_ns; /* when the loop last went round */
	int exit_code;             /* when it ends of itself */
	bool consuming, orphan, overrun;
	char state[IPC_TEXT_MAX]; /* as last told to the supervisor */
};

/* ---- checking ---- */

static struct plugins *open_plugins(const struct conf *conf, struct conf_errors *errors)
{
	struct plugins *plugins = plugins_open(conf, PLUGINS_OF_CONF, errors);
	if (plugins && !plugins_check_queues(plugins, conf, errors))
		return NULL; /* it stays mapped: nobody closes plugins in a process that goes on */
	return plugins;
}

static bool uses_tls(const struct conf_broker *conf)
{
	for (size_t i = 0; i < conf->n_urls; i++)
		if (conf->urls[i].tls)
			return true;
	return false;
}

bool worker_check(const struct conf *conf, struct conf_errors *errors)
{
	/* They are never closed; that they are still known keeps leak checkers quiet. */
	static struct plugins *checked;
	char why[256];
	if (uses_tls(&conf->broker) && !tls_check(&conf->broker.tls, why, sizeof(why)))
		conf_errors_add(errors, conf->path, conf->broker.tls.line, "broker.tls: %s", why);
	checked = open_plugins(conf, errors);
	return checked != NULL;
}

/* ---- talking to the supervisor ---- */

static int refused(const struct worker_setup *setup, const char *text, int code)
{
	log_event(LOG_ERROR, "worker.refused", L_STR("reason", text));
	(void)ipc_send(setup->supervisor, IPC_REFUSED, code, text);
	return code;
}

static int refused_by_errors(const struct worker_setup *setup, struct conf_errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		log_event(LOG_ERROR, "config.error", L_STR("file", errors->list[i].file),
		    L_INT("line", errors->list[i].line), L_STR("text", errors->list[i].text));
	char text[IPC_TEXT_MAX];
	if (errors->n)
		(void)snprintf(text, sizeof(text), "%s:%u: %s", errors->list[0].file,
		    errors->list[0].line, errors->list[0].text);
	else
		(void)snprintf(
		    text, sizeof(text), errors->shortage ? "out of memory" : "a plugin is refused");
	int code = conf_errors_code(errors);
	conf_errors_free(errors);
	return refused(setup, text, code);
}

static void tell_state(struct worker *w, const char *text)
{
	if (strcmp(w->state, text) == 0)
		return;
	(void)snprintf(w->state, sizeof(w->state), "%s", text);
	(void)ipc_send(w->setup->supervisor, IPC_STATE, 0, w->state);
}

/* ---- leaving ---- */

static void for_links(
    struct worker *w, void (*what)(struct link *, enum warren_stop), enum warren_stop stop)
{
	if (w->acked)
		what(w->acked, stop);
	if (w->unacked)
		what(w->unacked, stop);
}

static void drain_link(struct link *link, enum warren_stop stop)
{
	link_drain(link);
	link_stop_jobs(link, stop);
}

static void drain(struct worker *w, int64_t limit_ns)
{
	if (w->phase == PHASE_RUN) {
		w->phase = PHASE_DRAIN;
		w->deadline_ns = clock_mono_ns() + limit_ns;
		log_event(LOG_INFO, "drain.start", L_NS("limit", limit_ns));
		for_links(w, drain_link, WARREN_STOP_DRAIN);
	} else if (w->phase == PHASE_DRAIN && clock_mono_ns() + limit_ns < w->deadline_ns) {
		if (w->deadline_ns == CLOCK_NEVER) /* those who were not told yet */
			for_links(w, link_stop_jobs, WARREN_STOP_DRAIN);
		w->deadline_ns =
		    clock_mono_ns() + limit_ns; /* a second signal only shortens the wait */
	}
}

static void refuse_more(struct link *link, enum warren_stop stop)
{
	(void)stop;
	link_drain(link);
}

/* Another process has its post: it takes no more. Its jobs are not told to stop, and have all the
 * time they need. */
static void retire(struct worker *w, const char *because)
{
	if (w->phase != PHASE_RUN)
		return;
	w->phase = PHASE_DRAIN;
	w->deadline_ns = CLOCK_NEVER;
	log_event(LOG_INFO, "drain.start", L_STR("because", because));
	for_links(w, refuse_more, 0);
}

/* A thread is stuck in a job that was given up. */
static void wind_down(struct worker *w, const char *which)
{
	w->overrun = true;
	if (w->exit_code == EXIT_OK)
		w->exit_code = EXIT_TIME_LIMIT;
	(void)ipc_send(w->setup->supervisor, IPC_OVERRUN, 0, which);
	retire(w, which);
}

static void leave_now(struct worker *w)
{
	if (w->phase == PHASE_LEAVE)
		return;
	if (w->phase == PHASE_RUN)
		drain(w, 0);
	w->phase = PHASE_LEAVE;
	w->deadline_ns = clock_mono_ns() + LEAVE_LIMIT_NS;
	for_links(w, link_stop_jobs, WARREN_STOP_NOW);
	if (w->publisher)
		publisher_interrupt(w->publisher);
}

static void end_of_itself(struct worker *w, int code)
{
	if (w->exit_code == EXIT_OK)
		w->exit_code = code;
	leave_now(w);
}

/* ---- the watch ---- */

static enum link_health worst(struct worker *w, char *why, size_t size)
{
	enum link_health health = LINK_CONSUMING;
	struct link *links[] = { w->acked, w->unacked };
	why[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		char text[IPC_TEXT_MAX] = "";
		enum link_health one =
		    links[i] ? link_health(links[i], text, sizeof(text)) : LINK_CONSUMING;
		if (text[0])
			(void)snprintf(why, size, "%s", text);
		if (one == LINK_REFUSED)
			return one;
		if (one != LINK_CONSUMING)
			health = one;
	}
	return health;
}

static void report(struct worker *w)
{
	struct score *score = w->setup->score;
	struct board_conn conn;
	if (w->acked)
		link_report(w->acked);
	if (w->unacked)
		link_report(w->unacked);
	if (publisher_describe(w->publisher, &conn))
		board_write_conn(score_conn(score, w->setup->place, BOARD_PUBLISH), &conn);
}

static void watch_health(struct worker *w)
{
	char why[IPC_TEXT_MAX];
	switch (worst(w, why, sizeof(why))) {
	case LINK_CONSUMING:
		if (!w->consuming)
			report(w); /* who hears of it may look at once */
		if (!w->consuming && ipc_send(w->setup->supervisor, IPC_CONSUMING, 0, NULL))
			w->consuming = true;
		if (!why[0] && !publisher_trouble(w->publisher, why, sizeof(why)))
			return;
		break;
	case LINK_REFUSED:
		(void)refused(w->setup, why, EXIT_CONFIG);
		end_of_itself(w, EXIT_CONFIG);
		break;
	case LINK_BUSY:
		return;
	case LINK_BUILDING:
		break;
	}
	tell_state(w, why);
}

/* A message that the AMQP library cannot decode leaves a notice in the dead-letter queue before it
 * is rejected: the one exception to promise 2 (README). */
static void leave_notice(struct worker *w)
{
	const struct conf_queue *queue = w->acked ? link_take_notice(w->acked) : NULL;
	if (!queue)
		return;
	struct warren_job *job = job_create(host_api(), queue);
	struct outgoing out = { 0 };
	struct publish_answer answer = { .result = PUBLISH_IN_DOUBT };
	if (job) {
		char host[64] = "";
		(void)gethostname(host, sizeof(host) - 1);
		const struct copy_stamp stamp = { .verdict = "refused",
			.attempt = 1,
			.now_wall_ms = clock_wall_ms(),
			.host = host };
		job->msg.flaw = MSG_HEADERS_BROKEN;
		job_read_headers(job, false, clock_wall_ms());
		(void)snprintf(job->reason, sizeof(job->reason),
		    "the AMQP library cannot read this message's headers: it was rejected, and is "
		    "lost");
		if (copy_make(job, &stamp, &out) && queue->dead_letter) {
			out.exchange = bytes_of("");
			out.routing_key = bytes_of(queue->dead_letter);
			(void)publisher_publish(w->publisher, w->n_threads, &out, PUBLISH_MANDATORY,
			    clock_mono_ns() + 2 * NS_PER_S, &answer);
		}
	}
	link_notice_done(w->acked, queue, !queue->dead_letter || answer.result == PUBLISHED);
	job_destroy(job);
}

/*
 * The watching thread touches no lock that somebody may hold during a send, so that it can end such
 * a send; and it is the pulse that the supervisor hears, as long as the process's own loop goes
 * round.
 */
static void *watch_main(void *arg)
{
	struct worker *w = arg;
	struct pollfd stop = { .fd = w->watch_fd, .events = POLLIN };
	while (poll(&stop, 1, PULSE_MS) <= 0) {
		int64_t now = clock_mono_ns();
		if (now - atomic_load(&w->looped_ns) < LOOP_SILENCE_NS)
			(void)ipc_send(w->setup->supervisor, IPC_PULSE, 0, NULL);
		if (w->acked)
			(void)link_watch(w->acked, now);
		if (w->unacked)
			(void)link_watch(w->unacked, now);
		(void)publisher_watch(w->publisher, now);
	}
	return NULL;
}

static bool start_watch(struct worker *w)
{
	atomic_store(&w->looped_ns, clock_mono_ns());
	w->watch_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	w->watches = w->watch_fd >= 0 && pthread_create(&w->watcher, NULL, watch_main, w) == 0;
	if (w->watches)
		(void)pthread_setname_np(w->watcher, "watch");
	return w->watches;
}

static void stop_watch(struct worker *w)
{
	if (!w->watches)
		return;
	CHECK(eventfd_write(w->watch_fd, 1) == 0);
	PTOK(pthread_join(w->watcher, NULL));
	close(w->watch_fd);
}

static void heed_log_level(const struct worker *w)
{
	int wish = score_log_level(w->setup->score);
	log_set_level(wish >= 0 ? (enum log_level)wish : w->setup->conf->log_level);
}

static void look_around(struct worker *w)
{
	int64_t now = clock_mono_ns();
	atomic_store(&w->looped_ns, now);
	char which[IPC_TEXT_MAX];
	if (now >= w->guard_at_ns) {
		w->guard_at_ns = now + NS_PER_S;
		guard_look(&w->guard);
		heed_log_level(w);
	}
	if (now >= w->report_at_ns) {
		w->report_at_ns = now + (w->consuming ? NS_PER_S : NS_PER_S / 4);
		report(w);
	}
	if (!w->overrun && pool_overrun(w->pool, which, sizeof(which)))
		wind_down(w, which);
	/* Until it consumes its health is looked at more often: reloads wait for it. */
	if (w->phase != PHASE_RUN || (w->consuming && now < w->look_at_ns))
		return;
	w->look_at_ns = now + NS_PER_S;
	watch_health(w);
	leave_notice(w);
}

/* ---- the loop ---- */

/* The supervisor's end is seen at once, whatever killed it: what runs may finish, nothing is taken.
 */
static void become_orphan(struct worker *w)
{
	w->orphan = true;
	if (w->exit_code == EXIT_OK)
		w->exit_code = EXIT_ORPHAN;
	log_event(LOG_ERROR, "supervisor.gone", L_NS("limit", LEAVE_LIMIT_NS));
	drain(w, LEAVE_LIMIT_NS);
}

static void cancel(struct worker *w, struct bytes job_id)
{
	bool found = (w->acked && link_cancel(w->acked, job_id)) ||
		     (w->unacked && link_cancel(w->unacked, job_id));
	log_event(LOG_INFO, "job.cancelled", L_BYTES("job", job_id), L_BOOL("told", found));
}

static void hear(struct worker *w)
{
	while (!w->orphan) {
		struct ipc_msg msg;
		int n = ipc_recv(w->setup->supervisor, &msg);
		if (n == 0)
			return;
		if (n < 0) {
			become_orphan(w);
			return;
		}
		if (msg.word == IPC_DRAIN)
			drain(w, msg.number * NS_PER_MS);
		else if (msg.word == IPC_RETIRE)
			retire(w, "another process has its post");
		else if (msg.word == IPC_NOW)
			leave_now(w);
		else if (msg.word == IPC_CANCEL)
			cancel(w, (struct bytes){ msg.text, msg.len });
	}
}

/* False when the process is to end without waiting for its threads any longer. */
static bool deadline_holds(struct worker *w)
{
	if (w->phase == PHASE_RUN || clock_mono_ns() < w->deadline_ns)
		return true;
	if (w->phase == PHASE_LEAVE)
		return false;
	leave_now(w);
	return true;
}

static bool has_ended(const struct worker *w)
{
	return w->phase != PHASE_RUN && pool_working(w->pool) == 0;
}

/* Without its descriptors the process can neither settle a job nor say so to anybody. */
__attribute__((noreturn)) static void leave_at_once(void)
{
	log_event(LOG_ERROR, "worker.failed",
	    L_STR("reason", "a plugin has closed descriptors that were not its own"));
	_exit(EXIT_INTERNAL);
}

static void loop(struct worker *w)
{
	while (!has_ended(w) && deadline_holds(w)) {
		struct pollfd p[] = {
			{ .fd = w->orphan ? -1 : w->setup->supervisor, .events = POLLIN },
			{ .fd = pool_news_fd(w->pool), .events = POLLIN },
		};
		eventfd_t news;
		int64_t until = w->phase == PHASE_RUN ? CLOCK_NEVER : w->deadline_ns;
		(void)poll(p, ARRAY_LEN(p), clock_until_ms(until, w->consuming ? 1000 : 50));
		if (!guard_descriptors(&w->guard))
			leave_at_once();
		if (p[1].revents & POLLIN)
			(void)eventfd_read(p[1].fd, &news);
		hear(w);
		look_around(w);
	}
}

/* ---- up and down ---- */

static unsigned count_threads(const struct worker_setup *setup, bool no_ack)
{
	const struct link_setup link = { .conf = setup->conf,
		.worker = setup->number,
		.no_ack = no_ack,
		.quarantine = setup->quarantine };
	return link_count_threads(&link);
}

static struct link *make_link(const struct worker *w, bool no_ack, unsigned offset)
{
	const struct link_setup link = { .conf = w->setup->conf,
		.worker = w->setup->number,
		.thread_offset = offset,
		.no_ack = no_ack,
		.quarantine = w->setup->quarantine,
		.publish_lanes = w->n_threads + 1,
		.supervisor = w->setup->supervisor,
		.score = w->setup->score,
		.place = w->setup->place };
	return link_create(&link);
}

static bool start(struct worker *w, char *why, size_t size)
{
	const struct worker_setup *setup = w->setup;
	unsigned n_acked, n_unacked;
	n_acked = count_threads(setup, false);
	n_unacked = count_threads(setup, true);
	w->n_threads = n_acked + n_unacked;
	if (n_acked)
		w->acked = make_link(w, false, 0);
	if (n_unacked)
		w->unacked = make_link(w, true, n_acked);
	/* One lane more: the loop's own, for notices. */
	w->publisher = publisher_create(setup->conf, w->n_threads + 1);
	const struct pool_setup pool = { .conf = setup->conf,
		.plugins = w->plugins,
		.guard = &w->guard,
		.publisher = w->publisher,
		.acked = w->acked,
		.unacked = w->unacked,
		.n_acked = n_acked,
		.n_unacked = n_unacked,
		.score = setup->score,
		.place = setup->place,
		.quarantine = setup->quarantine,
		.supervisor = setup->supervisor };
	if ((n_acked && !w->acked) || (n_unacked && !w->unacked) || !w->publisher ||
	    !(w->pool = pool_create(&pool))) {
		(void)snprintf(why, size, "a descriptor cannot be made: %s", strerror(errno));
		return false;
	}
	if (!pool_start(w->pool, why, size))
		return false;
	guard_start(&w->guard, setup->supervisor);
	if (!start_watch(w) || !publisher_start(w->publisher) ||
	    (w->acked && !link_start(w->acked)) || (w->unacked && !link_start(w->unacked))) {
		(void)snprintf(why, size, "a thread cannot be made: %s", strerror(errno));
		return false;
	}
	return true;
}

static int finish(struct worker *w)
{
	unsigned left = w->pool ? pool_working(w->pool) + pool_stuck(w->pool) : 0;
	unsigned given_back = w->pool ? pool_given_back(w->pool) + pool_abandoned(w->pool) : 0;
	if (given_back)
		(void)ipc_send(w->setup->supervisor, IPC_GIVEN_BACK, given_back, NULL);
	log_event(LOG_INFO, "drain.done", L_INT("given_back", given_back));
	int code = w->exit_code != EXIT_OK ? w->exit_code : given_back ? EXIT_TEMPFAIL : EXIT_OK;
	/* A thread that is stuck in a task keeps everything alive; the broker gets its message back
	 * when the process, and with it the connection, is gone. */
	stop_watch(w);
	crash_allow_exit();
	if (left)
		_exit(code);
	pool_destroy(w->pool);
	link_destroy(w->acked);
	link_destroy(w->unacked);
	publisher_destroy(w->publisher);
	guard_stop(&w->guard);
	plugins_stop(w->plugins);
	return code;
}

static void ignore_signals(void)
{
	/* Those for the whole process group are the supervisor's business; SIGPIPE
	 * is nobody's. */
	static const int ignored[] = { SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2 };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		CHECK(sigaction(ignored[i], &ignore, NULL) == 0);
}

int worker_main(const struct worker_setup *setup)
{
	struct worker w = { .setup = setup };
	struct conf_errors errors = { 0 };
	char why[512];
	ignore_signals();
	crash_init(setup->score);
	w.plugins = open_plugins(setup->conf, &errors);
	crash_know_plugins();
	if (!w.plugins || !plugins_start(w.plugins, &errors)) {
		int code = refused_by_errors(setup, &errors); /* which names their files */
		plugins_stop(w.plugins);
		crash_allow_exit();
		return code;
	}
	broker_init();
	identity_init();
	crash_know_plugins();
	if (!start(&w, why, sizeof(why))) {
		log_event(LOG_ERROR, "worker.failed", L_STR("reason", why));
		end_of_itself(&w, EXIT_OS);
	} else {
		(void)ipc_send(setup->supervisor, IPC_LOADED, 0, NULL);
	}
	if (w.pool)
		loop(&w);
	return finish(&w);
}
