/* The loop of a worker thread, and the one log line that each job leaves behind. */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "crash.h"
#include "host.h"
#include "identity.h"
#include "ipc.h"
#include "overseer.h"
#include "settle.h"
#include "topology.h"

enum {
	UNSTORED_WAIT_S = 5,
	UNKNOWN =
	    3, /* deliveries that a broker or two may have interrupted by their own restarts */
};

struct pool_thread {
	struct pool *pool;
	pthread_t thread;
	bool made;
	atomic_bool ended;
	struct log_complaint unstored;
	unsigned number; /* among all of the process: its row and its publishing lane */
	struct link *link;
	unsigned link_number; /* among its link's */
	struct score_row *row;
	struct tally *tally; /* where the job in hand is counted */
	struct plugin_thread *plugins;
	struct settler settler;
	unsigned looked; /* guard_after()'s */
	struct grip *grip;
	/* A job that was given up, and what settles it in the thread's place. */
	struct warren_job *lost, *twin;
	enum outcome fate;
	pthread_t undertaker;
	bool has_undertaker;
	atomic_bool given_up; /* all of this is set, and counted */
};

/* Where a queue and task is counted: its place on the scoreboard, and one; 0: not looked up yet. */
struct known_tally {
	atomic_uint place;
};

struct pool {
	struct pool_setup setup;
	struct pool_thread *threads;
	struct grip *grips; /* one for each */
	struct overseer *overseer;
	struct turn alone;           /* in the quarantine: whose turn it is to run */
	struct known_tally *tallies; /* by queue and task */
	size_t n_tasks;              /* and one more, for those that are not known */
	unsigned n;
	atomic_uint running, given_back;
	atomic_uint unsettled; /* jobs that were given up and are being settled */
	atomic_bool overrun;   /* one was given up: nothing new is started */
	int news_fd;
	/* How pool_start hears from a thread that opens its plugins. */
	pthread_mutex_t lock;
	pthread_cond_t opened;
	unsigned n_opened;
	char refusal[512];
	char which[512]; /* the first job that was given up */
};

static void tell_news(struct pool *pool)
{
	CHECK(eventfd_write(pool->news_fd, 1) == 0);
}

/* ---- before the task ---- */

PRINTF_LIKE(3, 4)
static enum outcome not_run(struct warren_job *job, enum outcome outcome, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(job->reason, sizeof(job->reason), fmt, args);
	va_end(args);
	return outcome;
}

/* What speaks against running the job at all. */
static bool may_run(struct warren_job *job, enum outcome *outcome)
{
	if (job->msg.flaw != MSG_SOUND) {
		*outcome = not_run(job, OUTCOME_REFUSED, "%s", msg_flaw_words(job->msg.flaw));
		return false;
	}
	if (job->expires_at_ms != 0 && clock_wall_ms() >= job->expires_at_ms) {
		*outcome = not_run(job, OUTCOME_EXPIRED, "it expired before it could run");
		return false;
	}
	if (!job->task) {
		if (job->task_name.len == 0)
			*outcome = not_run(job, OUTCOME_UNKNOWN_TASK, "the message names no task");
		else
			*outcome =
			    not_run(job, OUTCOME_UNKNOWN_TASK, "no task \"%.*s\" for this queue",
				(int)job->task_name.len, job->task_name.data);
		return false;
	}
	return true;
}

/* ---- suspects ---- */

/* Told of itself by a quorum queue: how often it was handed out and not settled. */
static int64_t delivery_count(const struct warren_job *job)
{
	int64_t n;
	return table_get_int(&job->msg.props.headers, "x-delivery-count", &n) ? n : 0;
}

static enum outcome put_aside(struct warren_job *job)
{
	if (job->crashes)
		return not_run(job, OUTCOME_SUSPECT,
		    "it brought its worker down (%s): it runs alone next",
		    job->signal ? job->signal : "?");
	return not_run(job, OUTCOME_SUSPECT,
	    "it ran in a worker that came to a sudden end (%s): it runs alone next",
	    job->signal ? job->signal : "?");
}

/*
 * What is known against the message: from the supervisor, and from what it carries itself. One that
 * is gone with its connection, or that nobody has to settle, is not remembered; and of one whose
 * headers were not kept it is not known which it is.
 */
static struct suspect recall(struct pool_thread *t, struct warren_job *job, bool trusted)
{
	struct suspect known = { 0 };
	if (!topology_has_quarantine(job->queue) || job->msg.flaw != MSG_SOUND)
		return known;
	identity_of(job, job->identity);
	job->suspected = score_find_suspect(t->pool->setup.score, job->identity, &known);
	if (!job->suspected)
		known = (struct suspect){ 0 };
	/* What the supervisor may not have heard yet. */
	int leases = job->msg.redelivered ? link_leases(t->link, job->identity) : 0;
	if (leases > known.leases)
		known.leases = leases;
	job->suspected |= leases > 0;
	job->leases = known.leases;
	job->crashes = trusted ? job_carried_crashes(job) : 0;
	job->signal = suspect_signal_name(known.signal);
	return known;
}

/*
 * A message that may bring its worker down does not run beside others: it is put aside, runs alone
 * in the quarantine, and is dead when its crashes are too many. There each new crash is written on
 * the message before it runs again, so that the count outlives the supervisor. Without one that
 * remembers, the delivery count of a quorum queue is reason enough to be careful.
 */
static bool is_harmless(struct pool_thread *t, struct warren_job *job, const struct suspect *known,
    enum outcome *outcome)
{
	bool quarantine = t->pool->setup.quarantine;
	int carried = job->crashes, limit = job->queue->crash_limit;
	if (known->crashes > job->crashes)
		job->crashes = known->crashes;
	if (job->crashes >= limit) {
		*outcome = not_run(job, OUTCOME_CRASHED,
		    "it brought its worker down %d times, the last time by %s", job->crashes,
		    job->signal ? job->signal : "an unknown signal");
		return false;
	}
	job->attempt += known->leases;
	if (known->leases && job->attempt > job->queue->retry.attempts) {
		job->attempt = job->queue->retry.attempts;
		*outcome = not_run(job, OUTCOME_TIMED_OUT,
		    "its runs took too long (%d of them): the broker took it back, or they were "
		    "killed",
		    known->leases);
		return false;
	}
	bool unknown_trouble =
	    !job->suspected && delivery_count(job) >= (limit > UNKNOWN ? limit : UNKNOWN);
	if (!topology_has_quarantine(job->queue) ||
	    !(quarantine ? job->crashes > carried : known->doubtful || unknown_trouble))
		return true;
	job->attempt -=
	    known->leases; /* the supervisor still has them, and the next one adds them */
	*outcome = put_aside(job);
	return false;
}

/* What the supervisor is to know of a settled job; 0: nothing. */
static enum ipc_word news_of(enum action_kind kind)
{
	switch (kind) {
	case ACTION_DONE:
	case ACTION_DEAD:
	case ACTION_DROP:
		return IPC_SETTLED;
	case ACTION_RETRY:
		return IPC_RETRIED;
	case ACTION_ASIDE:
	case ACTION_GIVE_BACK:
	case ACTION_NOTHING:
		break;
	}
	return 0;
}

static void report_suspect(const struct pool_thread *t, const uint8_t *identity, bool suspected,
    const struct settlement *s)
{
	int supervisor = t->pool->setup.supervisor;
	enum ipc_word word = news_of(s->action.kind);
	char text[2 * IDENTITY_LEN + 1];
	if (s->lost)
		return;
	if (s->action.kind == ACTION_ASIDE)
		(void)ipc_send(supervisor, IPC_ASIDE, 1, NULL);
	if (!suspected || !word)
		return;
	link_forget_leases(t->link, identity);
	identity_show(identity, text);
	(void)ipc_send(supervisor, word, 0, text);
}

/* ---- the task ---- */

static int64_t shorter_limit(int64_t a, int64_t b)
{
	if (a == 0 || b == 0)
		return a + b;
	return a < b ? a : b;
}

static void put_text(char *out, size_t size, struct bytes text)
{
	size_t len = text.len < size - 1 ? text.len : size - 1;
	if (len)
		memcpy(out, text.data, len);
	out[len] = '\0';
}

static struct score_job row_of(const struct warren_job *job)
{
	struct score_job row = { .attempt = job->attempt,
		.crashes = job->crashes,
		.redelivered = job->msg.redelivered,
		.started_ns = job->started_ns,
		.deadline_ns = job->deadline_ns,
		.kill_ns = job->kill_ns };
	memcpy(row.identity, job->identity, sizeof(row.identity));
	put_text(row.id, sizeof(row.id), bytes_of(job->id));
	put_text(row.queue, sizeof(row.queue), bytes_of(job->queue->label));
	put_text(row.task, sizeof(row.task), job->task_name);
	put_text(row.message_id, sizeof(row.message_id), job->msg.props.message_id);
	return row;
}

static enum outcome outcome_of(enum warren_verdict verdict, struct warren_job *job)
{
	switch (verdict) {
	case WARREN_DONE:
		return OUTCOME_DONE;
	case WARREN_RETRY:
		return OUTCOME_RETRY;
	case WARREN_DEAD:
		return OUTCOME_DEAD;
	}
	log_event(LOG_ERROR, "plugin.breach", L_STR("plugin", job->task->plugin->label),
	    L_STR("task", job->task->name), L_INT("returned", (int)verdict));
	return not_run(job, OUTCOME_BREACH, "task %s returned %d, which is no verdict",
	    job->task->name, (int)verdict);
}

static void set_limits(struct warren_job *job)
{
	int64_t limit = shorter_limit(job->queue->time_limit_ns, job->task->time_limit_ns);
	job->started_ns = clock_mono_ns();
	if (!limit)
		return;
	job->deadline_ns = job->started_ns + limit;
	job->kill_ns = job->deadline_ns + job->queue->kill_after_ns;
}

/* A job that waits for its turn has not begun: it goes back where somebody else may have the turn
 * sooner. */
struct waiting {
	struct pool *pool;
	struct warren_job *job;
};

static bool stops_waiting(void *arg)
{
	struct waiting *w = arg;
	if (w->job->queue->no_ack) /* nobody else would run it */
		return job_stopping(w->job) == WARREN_STOP_NOW;
	if (atomic_load(&w->pool->overrun))
		job_stop(w->job, WARREN_STOP_DRAIN);
	return job_stopping(w->job) != 0;
}

static bool enter(struct pool *pool, struct warren_job *job)
{
	struct waiting w = { pool, job };
	if (pool->setup.quarantine && !turn_take(&pool->alone, stops_waiting, &w))
		return false;
	if (task_enter(job->task, stops_waiting, &w))
		return true;
	if (pool->setup.quarantine)
		turn_give(&pool->alone);
	return false;
}

static void leave(struct pool *pool, const struct task *task)
{
	task_leave(task);
	if (pool->setup.quarantine)
		turn_give(&pool->alone);
}

static void log_timeout(const struct pool_thread *t, const char *kind, enum log_level level)
{
	struct score_job job;
	if (!score_read_job(t->row, &job))
		return;
	log_event(level, "task.timeout", L_STR("kind", kind), L_STR("job", job.id),
	    L_STR("task", job.task), L_STR("queue", job.queue), L_INT("attempt", job.attempt),
	    L_NS("after", clock_mono_ns() - job.started_ns));
}

/* Runs the task. False when the job was given up meanwhile: it is somebody else's. */
static bool run_task(struct pool_thread *t, struct warren_job *job, enum outcome *outcome)
{
	const struct task *task = job->task;
	set_limits(job);
	const struct score_job row = row_of(job);
	histogram_add(&t->tally->wait, job->started_ns - job->taken_ns);
	score_begin(t->row, &row);
	job->ran = true;
	atomic_store(&job->identified, identity_known(job->identity));
	grip_take(t->grip, job, job->deadline_ns, job->kill_ns);
	enum warren_verdict verdict = task_call(t->plugins, job);
	bool ours = grip_drop(t->grip);
	if (ours) {
		atomic_store(&job->identified, false);
		score_state(t->row, ROW_SETTLING); /* before another one runs alone */
	}
	leave(t->pool, task);
	if (!ours)
		return false;
	guard_after(t->pool->setup.guard, &t->looked, job);
	job->ended_ns = clock_mono_ns();
	if (job->ended_ns >= job->deadline_ns && grip_tell(t->grip))
		log_timeout(t, "soft", LOG_WARN);
	histogram_add(&t->tally->run, job->ended_ns - job->started_ns);
	*outcome = outcome_of(verdict, job);
	return true;
}

/* From 1 on, through all plugins; 0 is for those that are not known. */
static size_t task_number(const struct plugins *plugins, const struct task *task)
{
	size_t number = 1;
	if (!task)
		return 0;
	for (size_t i = 0; i < task->plugin->index; i++)
		number += plugins_at(plugins, i)->n_tasks;
	return number + (size_t)(task - task->plugin->tasks);
}

/* Looked up on the scoreboard once: tasks of a queue may alternate, and their tallies are many. */
static uint32_t tally_place(
    struct pool *pool, const struct conf_queue *queue, const struct task *task)
{
	size_t number = task_number(pool->setup.plugins, task);
	struct known_tally *known = &pool->tallies[queue->index * pool->n_tasks + number];
	unsigned place = atomic_load_explicit(&known->place, memory_order_relaxed);
	if (place > 0)
		return place - 1;
	place = score_find_tally(pool->setup.score, (uint32_t)queue->index, task ? task->name : "");
	atomic_store_explicit(&known->place, place + 1, memory_order_relaxed);
	return place;
}

/* From now on it is counted. */
static void take_on(struct pool_thread *t, struct warren_job *job, bool trusted)
{
	job->started_ns = job->ended_ns = clock_mono_ns();
	job->row = t->row;
	job_read_headers(job, trusted, clock_wall_ms());
	job->task_name = job_task_name(job);
	job->task = plugins_find_for(t->pool->setup.plugins, job->queue, job->task_name);
	uint32_t place = tally_place(t->pool, job->queue, job->task);
	t->tally = score_tally(t->pool->setup.score, place);
	score_take(t->row, (uint32_t)job->queue->index, place);
	tally_count(t->tally, COUNT_TAKEN, 1);
	if (job->msg.redelivered)
		tally_count(t->tally, COUNT_REDELIVERED, 1);
}

static bool run(struct pool_thread *t, struct warren_job *job, bool trusted, enum outcome *outcome)
{
	/* What runs here ran before, in a process that died; the broker does not know that of a
	 * copy. */
	job->msg.redelivered |= t->pool->setup.quarantine;
	/* First, so that the supervisor hears also of those that are not run any more. */
	struct suspect known = recall(t, job, trusted);
	if (!may_run(job, outcome) || !is_harmless(t, job, &known, outcome))
		return true;
	if (!enter(t->pool, job)) {
		*outcome = not_run(job, OUTCOME_RETRY, "stopped before it began");
		return true;
	}
	return run_task(t, job, outcome);
}

/* ---- after the task ---- */

struct ending {
	const char *event;
	enum log_level level;
	enum tally_count counter;
};

static struct ending ending_of(const struct settlement *s)
{
	if (s->lost)
		return (struct ending){ "job.lost", LOG_WARN, COUNT_LOST };
	switch (s->action.kind) {
	case ACTION_DONE:
		return (struct ending){ "job.done", LOG_INFO, COUNT_DONE };
	case ACTION_RETRY:
		return (struct ending){ "job.retry", LOG_WARN, COUNT_RETRIED };
	case ACTION_DEAD:
		return (struct ending){ "job.dead", LOG_WARN, COUNT_DEAD };
	case ACTION_GIVE_BACK:
		return (struct ending){ "job.given_back", LOG_WARN, COUNT_GIVEN_BACK };
	case ACTION_ASIDE:
		return (struct ending){ "job.quarantined", LOG_WARN, COUNT_QUARANTINED };
	case ACTION_DROP:
	case ACTION_NOTHING:
		break;
	}
	return (struct ending){ "job.dropped", LOG_WARN, COUNT_DEAD };
}

static void log_job(
    const struct warren_job *job, const struct settlement *s, const struct ending *ending)
{
	struct log_field delay = { .kind = LOG_K_SKIP }, verdict = { .kind = LOG_K_SKIP };
	if (s->action.kind == ACTION_RETRY)
		delay = L_NS("delay", s->delay_ns);
	if (s->action.kind != ACTION_DONE || s->lost)
		verdict = L_STR("verdict", s->action.verdict && s->action.kind != ACTION_ASIDE
					       ? s->action.verdict
					       : outcome_word(s->outcome));
	log_event(ending->level, ending->event, L_STR("job", job->id),
	    L_BYTES("task", job->task_name), L_STR("queue", job->queue->label),
	    L_INT("attempt", job->attempt), L_NS("took", job->ended_ns - job->started_ns),
	    L_NS("settled", clock_mono_ns() - job->ended_ns),
	    L_OPT_BYTES("message_id", job->msg.props.message_id),
	    job->msg.redelivered ? L_BOOL("redelivered", true)
				 : (struct log_field){ .kind = LOG_K_SKIP },
	    verdict, delay, job->crashes ? L_INT("crashes", job->crashes) : L_OPT("", NULL),
	    L_OPT_BYTES("trace", trace_ids(&job->trace)), L_OPT("reason", job->reason));
}

/*
 * A job that was given up is counted by somebody else, before or after its thread ends: the row is
 * free after both, or the job would be missing from the sums should the process die in between.
 */
static void close_given_up(struct pool_thread *t)
{
	PTOK(pthread_mutex_lock(&t->pool->lock));
	score_state(t->row, atomic_load(&t->ended) ? ROW_UNUSED : ROW_STUCK);
	PTOK(pthread_mutex_unlock(&t->pool->lock));
}

static void close_row(struct pool_thread *t)
{
	PTOK(pthread_mutex_lock(&t->pool->lock));
	atomic_store(&t->ended, true);
	if (atomic_load(&t->row->state) != ROW_GIVEN_UP)
		score_state(t->row, ROW_UNUSED);
	PTOK(pthread_mutex_unlock(&t->pool->lock));
}

static void count(struct pool_thread *t, const struct settlement *s, const struct ending *ending)
{
	tally_count(t->tally, ending->counter, 1);
	if (atomic_load(&t->given_up))
		close_given_up(t);
	else
		score_state(t->row, ROW_SETTLED);
	if (s->published)
		tally_count(t->tally, COUNT_PUBLISHED, s->published);
	if (s->unroutable)
		tally_count(t->tally, COUNT_UNROUTABLE, s->unroutable);
	if (!s->lost && s->action.kind != ACTION_GIVE_BACK)
		atomic_fetch_add(
		    &score_worker(t->pool->setup.score, t->pool->setup.place)->jobs, 1);
}

/* False when it came too late to be sent. */
static bool close_lease(struct pool_thread *t, struct warren_job *job, enum link_settlement how)
{
	char id[sizeof(job->id)];
	const struct conf_queue *queue = job->queue;
	memcpy(id, job->id, sizeof(id));
	if (link_settle(t->link, t->link_number, job, how))
		return true;
	log_event(LOG_WARN, "ack.stale", L_STR("job", id), L_STR("queue", queue->label));
	tally_count(t->tally, COUNT_STALE, 1);
	return false;
}

static void settle(struct pool_thread *t, struct warren_job *job, enum outcome outcome)
{
	struct settlement s = settle_job(&t->settler, job, outcome);
	struct ending ending = ending_of(&s);
	/* The line and the count come first: who sees the ack may look for them. */
	log_job(job, &s, &ending);
	count(t, &s, &ending);
	if (s.action.kind == ACTION_GIVE_BACK && job->ran)
		atomic_fetch_add(&t->pool->given_back, 1);
	uint8_t identity[IDENTITY_LEN];
	bool suspected = job->suspected;
	memcpy(identity, job->identity, sizeof(identity));
	s.lost |= !close_lease(t, job, settle_how(s.action.kind));
	report_suspect(t, identity, suspected, &s);
}

/* ---- jobs that are given up ---- */

static void end_thread(struct pool_thread *t)
{
	crash_thread_end();
	close_row(t);
	atomic_fetch_sub(&t->pool->running, 1);
	tell_news(t->pool);
}

static void *bury(void *arg)
{
	struct pool_thread *t = arg;
	settle(t, t->twin, t->fate);
	atomic_fetch_sub(&t->pool->unsettled, 1);
	tell_news(t->pool);
	return NULL;
}

static bool start_undertaker(struct pool_thread *t)
{
	pthread_attr_t attr;
	PTOK(pthread_attr_init(&attr));
	PTOK(pthread_attr_setstacksize(&attr, BROKER_STACK_SIZE));
	t->has_undertaker = pthread_create(&t->undertaker, &attr, bury, t) == 0;
	PTOK(pthread_attr_destroy(&attr));
	if (t->has_undertaker)
		(void)pthread_setname_np(t->undertaker, "undertaker");
	return t->has_undertaker;
}

/*
 * The thread will not settle its job any more. A stand-in is settled instead, on the thread's own
 * publishing lane, by a thread of its own: publishing may take long, and others may be late, too.
 */
static void give_up(
    struct pool_thread *t, struct warren_job *job, enum outcome fate, const char *reason)
{
	struct pool *pool = t->pool;
	atomic_fetch_add(&pool->unsettled, 1);
	atomic_store(&t->given_up, true);
	atomic_store(&job->gone, true);
	t->lost = job;
	score_state(t->row, ROW_GIVEN_UP);
	PTOK(pthread_mutex_lock(&pool->lock));
	if (!pool->which[0])
		(void)snprintf(pool->which, sizeof(pool->which), "job %s, task %.*s, queue %s",
		    job->id, (int)job->task_name.len, job->task_name.data, job->queue->label);
	PTOK(pthread_mutex_unlock(&pool->lock));
	atomic_store(&pool->overrun, true);
	t->fate = fate;
	t->twin = job_stand_in(job);
	if (!t->twin) {
		/* The broker gives it to somebody else when the process is gone. */
		log_event(LOG_ERROR, "memory.short", L_STR("job", job->id));
		atomic_fetch_sub(&pool->unsettled, 1);
		tell_news(pool);
		return;
	}
	t->twin->ended_ns = clock_mono_ns();
	(void)snprintf(t->twin->reason, sizeof(t->twin->reason), "%s", reason);
	link_give_up(t->link, t->link_number, t->twin);
	tell_news(pool);
	if (!start_undertaker(t))
		(void)bury(t);
}

static void on_late(void *owner, unsigned number)
{
	struct pool *pool = owner;
	log_timeout(&pool->threads[number], "soft", LOG_WARN);
}

static void on_overrun(void *owner, unsigned number, struct warren_job *job)
{
	struct pool *pool = owner;
	struct pool_thread *t = &pool->threads[number];
	log_timeout(t, "hard", LOG_ERROR);
	tally_count(t->tally, COUNT_TIMED_OUT, 1);
	give_up(
	    t, job, OUTCOME_TIMED_OUT, "its task did not return within time_limit and kill_after");
}

static const struct overseer_ops overseer_ops = { .late = on_late, .give_up = on_overrun };

/* The task has ended its thread: the process lacks one from now on, and is replaced. */
static void on_thread_exit(void *arg)
{
	struct pool_thread *t = arg;
	struct warren_job *job = t->grip->job;
	if (grip_lose(t->grip)) {
		log_event(LOG_ERROR, "plugin.thread_exit", L_STR("job", job->id),
		    L_BYTES("task", job->task_name), L_STR("plugin", job->task->plugin->label));
		leave(t->pool, job->task);
		give_up(t, job, OUTCOME_BREACH, "its task ended the worker thread");
	}
	plugins_thread_close(t->plugins);
	end_thread(t);
}

/* Its job was given up while it ran. */
static void come_back_late(struct pool_thread *t, const struct warren_job *job)
{
	log_event(LOG_WARN, "job.late", L_STR("job", job->id), L_STR("queue", job->queue->label),
	    L_NS("took", clock_mono_ns() - job->started_ns),
	    L_OPT_BYTES("trace", trace_ids(&job->trace)));
	tally_count(t->tally, COUNT_LATE, 1);
}

/* No file could hold its body, so it goes back; not at once, or it would be here again at once. */
static void give_back_unstored(struct pool_thread *t, struct warren_job *job)
{
	uint64_t silent;
	if (log_complain(&t->unstored, &silent))
		log_event(LOG_ERROR, "msg.unstored", L_STR("job", job->id),
		    L_STR("queue", job->queue->label),
		    L_STR("reason", msg_flaw_words(MSG_UNSTORED)), L_INT("silent", silent));
	for (int i = 0; i < UNSTORED_WAIT_S * 10 && !job_stopping(job); i++)
		(void)nanosleep(&(struct timespec){ .tv_nsec = 100 * NS_PER_MS }, NULL);
	tally_count(t->tally, COUNT_GIVEN_BACK, 1);
	score_state(t->row, ROW_IDLE); /* it is counted */
	(void)close_lease(t, job, LINK_GIVE_BACK);
}

/* True when the thread may take another one. */
static bool work_on(struct pool_thread *t, struct warren_job *job)
{
	bool trusted = t->pool->setup.quarantine || job_came_back(job);
	enum outcome outcome;
	take_on(t, job, trusted);
	if (job->msg.flaw == MSG_UNSTORED) {
		give_back_unstored(t, job);
		return true;
	}
	if (!run(t, job, trusted, &outcome)) {
		come_back_late(t, job); /* and its memory is left: somebody may still read it */
		return false;
	}
	if (!job->ran) { /* or the row would still tell of the job before it */
		const struct score_job row = row_of(job);
		score_describe(t->row, &row);
	}
	score_state(t->row, ROW_SETTLING);
	settle(t, job, outcome);
	score_state(t->row, ROW_IDLE);
	/* Un-acked jobs that are here already are nobody else's. */
	return t->link == t->pool->setup.unacked || !atomic_load(&t->pool->overrun);
}

static void work(struct pool_thread *t)
{
	struct warren_job *job;
	while ((job = link_take(t->link, t->link_number)) && work_on(t, job))
		continue;
}

/* ---- threads ---- */

static bool open_plugins(struct pool_thread *t)
{
	struct pool *pool = t->pool;
	char why[sizeof(pool->refusal)] = "";
	if (crash_thread_start(t->row))
		t->plugins = plugins_thread_open(pool->setup.plugins, t->number, why, sizeof(why));
	else
		(void)snprintf(
		    why, sizeof(why), "no memory for its signal stack: %s", strerror(errno));
	PTOK(pthread_mutex_lock(&pool->lock));
	if (!t->plugins && !pool->refusal[0])
		memcpy(pool->refusal, why, sizeof(why));
	pool->n_opened++;
	PTOK(pthread_cond_signal(&pool->opened));
	PTOK(pthread_mutex_unlock(&pool->lock));
	return t->plugins != NULL;
}

static void *thread_main(void *arg)
{
	struct pool_thread *t = arg;
	if (open_plugins(t)) {
		score_state(t->row, ROW_IDLE);
		pthread_cleanup_push(on_thread_exit, t);
		work(t);
		pthread_cleanup_pop(0);
		plugins_thread_close(t->plugins);
	}
	end_thread(t);
	return NULL;
}

static bool make_thread(struct pool_thread *t)
{
	pthread_attr_t attr;
	char name[16];
	PTOK(pthread_attr_init(&attr));
	PTOK(pthread_attr_setstacksize(&attr, BROKER_STACK_SIZE));
	atomic_fetch_add(&t->pool->running, 1);
	int result = pthread_create(&t->thread, &attr, thread_main, t);
	PTOK(pthread_attr_destroy(&attr));
	if (result != 0) {
		atomic_fetch_sub(&t->pool->running, 1);
		errno = result;
		return false;
	}
	t->made = true;
	(void)snprintf(name, sizeof(name), "thread %u", t->number);
	(void)pthread_setname_np(t->thread, name);
	return true;
}

static void init_thread(struct pool *pool, unsigned number)
{
	const struct pool_setup *setup = &pool->setup;
	struct pool_thread *t = &pool->threads[number];
	bool acked = number < setup->n_acked;
	t->pool = pool;
	t->number = number;
	t->link = acked ? setup->acked : setup->unacked;
	t->link_number = acked ? number : number - setup->n_acked;
	t->row = score_row(setup->score, setup->place, number);
	t->grip = &pool->grips[number];
	t->settler = (struct settler){ .conf = setup->conf,
		.link = setup->acked,
		.publisher = setup->publisher,
		.lane = number };
	(void)gethostname(t->settler.host, sizeof(t->settler.host) - 1);
}

static size_t count_tasks(const struct plugins *plugins)
{
	size_t n = 0;
	for (size_t i = 0; i < plugins_count(plugins); i++)
		n += plugins_at(plugins, i)->n_tasks;
	return n;
}

struct pool *pool_create(const struct pool_setup *setup)
{
	int news_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (news_fd < 0)
		return NULL;
	struct pool *pool = xcalloc(1, sizeof(*pool));
	pool->setup = *setup;
	pool->n = setup->n_acked + setup->n_unacked;
	pool->threads = xcalloc(pool->n, sizeof(*pool->threads));
	pool->grips = xcalloc(pool->n, sizeof(*pool->grips));
	pool->overseer = overseer_create(pool->grips, pool->n, &overseer_ops, pool);
	turn_init(&pool->alone);
	pool->news_fd = news_fd;
	pool->n_tasks = count_tasks(setup->plugins) + 1;
	pool->tallies = xcalloc(setup->conf->n_queues * pool->n_tasks, sizeof(*pool->tallies));
	PTOK(pthread_mutex_init(&pool->lock, NULL));
	PTOK(pthread_cond_init(&pool->opened, NULL));
	for (unsigned i = 0; i < pool->n; i++)
		init_thread(pool, i);
	return pool;
}

bool pool_start(struct pool *pool, char *why, size_t why_size)
{
	unsigned made = 0;
	why[0] = '\0';
	for (; made < pool->n; made++)
		if (!make_thread(&pool->threads[made])) {
			(void)snprintf(why, why_size, "worker thread %u of %u cannot be made: %s",
			    made + 1, pool->n, strerror(errno));
			break;
		}
	PTOK(pthread_mutex_lock(&pool->lock));
	while (pool->n_opened < made)
		PTOK(pthread_cond_wait(&pool->opened, &pool->lock));
	if (!why[0] && pool->refusal[0])
		(void)snprintf(why, why_size, "%s", pool->refusal);
	PTOK(pthread_mutex_unlock(&pool->lock));
	if (!why[0] && !overseer_start(pool->overseer))
		(void)snprintf(
		    why, why_size, "the overseer thread cannot be made: %s", strerror(errno));
	return !why[0];
}

int pool_news_fd(const struct pool *pool)
{
	return pool->news_fd;
}

static bool is_stuck(const struct pool_thread *t)
{
	return atomic_load(&t->given_up) && grip_is_stuck(t->grip);
}

unsigned pool_stuck(const struct pool *pool)
{
	unsigned n = 0;
	for (unsigned i = 0; i < pool->n; i++)
		n += is_stuck(&pool->threads[i]);
	return n;
}

/* Stuck first: a thread that comes back between the two is then counted, not missed. */
unsigned pool_working(const struct pool *pool)
{
	unsigned stuck = pool_stuck(pool);
	return atomic_load(&pool->running) - stuck + atomic_load(&pool->unsettled);
}

bool pool_overrun(struct pool *pool, char *which, size_t size)
{
	if (!atomic_load(&pool->overrun))
		return false;
	PTOK(pthread_mutex_lock(&pool->lock));
	(void)snprintf(which, size, "%s", pool->which);
	PTOK(pthread_mutex_unlock(&pool->lock));
	return true;
}

unsigned pool_given_back(const struct pool *pool)
{
	return atomic_load(&pool->given_back);
}

unsigned pool_abandoned(const struct pool *pool)
{
	unsigned n = 0;
	for (unsigned i = 0; i < pool->setup.n_acked; i++)
		n += pool->threads[i].made && !atomic_load(&pool->threads[i].ended) &&
		     !is_stuck(&pool->threads[i]);
	return n;
}

void pool_destroy(struct pool *pool)
{
	if (!pool)
		return;
	overseer_destroy(pool->overseer);
	for (unsigned i = 0; i < pool->n; i++) {
		if (pool->threads[i].made)
			PTOK(pthread_join(pool->threads[i].thread, NULL));
		if (pool->threads[i].has_undertaker)
			PTOK(pthread_join(pool->threads[i].undertaker, NULL));
		job_destroy(pool->threads[i].lost);
	}
	close(pool->news_fd);
	turn_fini(&pool->alone);
	free(pool->grips);
	free(pool->tallies);
	PTOK(pthread_cond_destroy(&pool->opened));
	PTOK(pthread_mutex_destroy(&pool->lock));
	free(pool->threads);
	free(pool);
}
