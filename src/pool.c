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
#include "host.h"
#include "ladder.h"
#include "settle.h"

enum { UNSTORED_WAIT_S = 5 };

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
	struct plugin_thread *plugins;
	struct settler settler;
	unsigned looked; /* guard_after()'s */
};

struct pool {
	struct pool_setup setup;
	struct pool_thread *threads;
	unsigned n;
	atomic_uint running, given_back;
	int ended_fd;
	/* How pool_start hears from a thread that opens its plugins. */
	pthread_mutex_t lock;
	pthread_cond_t opened;
	unsigned n_opened;
	char refusal[512];
};

/* ---- before the task ---- */

/*
 * The x-warren headers of a message are believed only when it came back through the queue's own
 * return queue, which the broker notes in x-death; whoever can write that can publish into our
 * queues anyway, and gains no more than attempts that count as used.
 */
static bool came_back(const struct warren_job *job)
{
	const struct value *deaths = table_get(&job->msg.props.headers, "x-death");
	struct bytes queue;
	char name[256];
	if (!deaths || deaths->kind != VALUE_ARRAY || deaths->array.n == 0 ||
	    deaths->array.items[0].kind != VALUE_TABLE ||
	    !table_get_bytes(&deaths->array.items[0].table, "queue", &queue))
		return false;
	(void)snprintf(name, sizeof(name), "%s" LADDER_RETURN_SUFFIX, job->queue->name);
	return bytes_is(queue, name);
}

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
static bool may_run(struct pool_thread *t, struct warren_job *job, enum outcome *outcome)
{
	if (job->msg.flaw != MSG_SOUND) {
		*outcome = not_run(job, OUTCOME_REFUSED, "%s", msg_flaw_words(job->msg.flaw));
		return false;
	}
	if (job->expires_at_ms != 0 && clock_wall_ms() >= job->expires_at_ms) {
		*outcome = not_run(job, OUTCOME_EXPIRED, "it expired before it could run");
		return false;
	}
	job->task_name = job_task_name(job);
	job->task = plugins_find_for(t->pool->setup.plugins, job->queue, job->task_name);
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

static void fill_row(struct pool_thread *t, const struct warren_job *job)
{
	struct score_job row = { .attempt = job->attempt,
		.redelivered = job->msg.redelivered,
		.started_ns = job->started_ns,
		.deadline_ns = job->deadline_ns };
	put_text(row.id, sizeof(row.id), bytes_of(job->id));
	put_text(row.queue, sizeof(row.queue), bytes_of(job->queue->label));
	put_text(row.task, sizeof(row.task), job->task_name);
	put_text(row.message_id, sizeof(row.message_id), job->msg.props.message_id);
	score_begin(t->row, &row);
}

/* ---- the task ---- */

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
	    L_STR("task", job->task->name), L_INT("returned", verdict));
	return not_run(job, OUTCOME_BREACH, "task %s returned %d, which is no verdict",
	    job->task->name, (int)verdict);
}

static enum outcome run(struct pool_thread *t, struct warren_job *job)
{
	enum outcome outcome;
	job->started_ns = job->ended_ns = clock_mono_ns();
	job->row = t->row;
	job_read_headers(job, came_back(job), clock_wall_ms());
	if (!may_run(t, job, &outcome))
		return outcome;

	int64_t limit = shorter_limit(job->queue->time_limit_ns, job->task->time_limit_ns);
	if (limit)
		job->deadline_ns = job->started_ns + limit;
	fill_row(t, job);
	enum warren_verdict verdict = task_run(t->plugins, job);
	job->ended_ns = clock_mono_ns();
	score_count(t->row, COUNT_RUN_NS, (uint64_t)(job->ended_ns - job->started_ns));
	guard_after(t->pool->setup.guard, &t->looked, job);
	return outcome_of(verdict, job);
}

/* ---- after the task ---- */

struct ending {
	const char *event;
	enum log_level level;
	enum score_counter counter;
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
		verdict = L_STR(
		    "verdict", s->action.verdict ? s->action.verdict : outcome_word(s->outcome));
	log_event(ending->level, ending->event, L_STR("job", job->id),
	    L_BYTES("task", job->task_name), L_STR("queue", job->queue->label),
	    L_INT("attempt", job->attempt), L_NS("took", job->ended_ns - job->started_ns),
	    L_NS("settled", clock_mono_ns() - job->ended_ns),
	    L_OPT_BYTES("message_id", job->msg.props.message_id),
	    job->msg.redelivered ? L_BOOL("redelivered", true)
				 : (struct log_field){ .kind = LOG_K_SKIP },
	    verdict, delay, L_OPT("reason", job->reason));
}

static void count(struct pool_thread *t, const struct settlement *s, const struct ending *ending)
{
	score_count(t->row, ending->counter, 1);
	score_count(t->row, COUNT_PUBLISHED, s->published);
	score_count(t->row, COUNT_UNROUTABLE, s->unroutable);
	if (!s->lost && s->action.kind != ACTION_GIVE_BACK)
		atomic_fetch_add(
		    &score_worker(t->pool->setup.score, t->pool->setup.worker)->jobs, 1);
}

static void settle(struct pool_thread *t, struct warren_job *job, enum outcome outcome)
{
	score_state(t->row, ROW_SETTLING);
	struct settlement s = settle_job(&t->settler, job, outcome);
	bool started = job->task != NULL;
	struct ending ending = ending_of(&s);
	/* The line and the count come first: who sees the ack may look for them. */
	log_job(job, &s, &ending);
	count(t, &s, &ending);
	if (s.action.kind == ACTION_GIVE_BACK && started)
		atomic_fetch_add(&t->pool->given_back, 1);
	char id[sizeof(job->id)];
	memcpy(id, job->id, sizeof(id));
	if (!link_settle(t->link, t->link_number, job, settle_how(s.action.kind))) {
		log_event(LOG_WARN, "ack.stale", L_STR("job", id),
		    L_STR("queue", link_queue(t->link, t->link_number)->label));
		score_count(t->row, COUNT_LOST, 1);
	}
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
	score_count(t->row, COUNT_GIVEN_BACK, 1);
	(void)link_settle(t->link, t->link_number, job, LINK_GIVE_BACK);
}

static void work(struct pool_thread *t)
{
	struct warren_job *job;
	while ((job = link_take(t->link, t->link_number))) {
		score_count(t->row, COUNT_TAKEN, 1);
		if (job->msg.redelivered)
			score_count(t->row, COUNT_REDELIVERED, 1);
		if (job->msg.flaw == MSG_UNSTORED)
			give_back_unstored(t, job);
		else
			settle(t, job, run(t, job));
		score_state(t->row, ROW_IDLE);
	}
}

/* ---- threads ---- */

static bool open_plugins(struct pool_thread *t)
{
	struct pool *pool = t->pool;
	char why[sizeof(pool->refusal)] = "";
	t->plugins = plugins_thread_open(pool->setup.plugins, t->number, why, sizeof(why));
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
		work(t);
		plugins_thread_close(t->plugins);
	}
	score_state(t->row, ROW_UNUSED);
	atomic_store(&t->ended, true);
	if (atomic_fetch_sub(&t->pool->running, 1) == 1)
		CHECK(eventfd_write(t->pool->ended_fd, 1) == 0);
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
	(void)snprintf(name, sizeof(name), "%u %.10s", t->number % 1000,
	    link_queue(t->link, t->link_number)->label);
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
	t->row = score_row(setup->score, setup->worker, number);
	t->settler = (struct settler){ .conf = setup->conf,
		.link = setup->acked,
		.publisher = setup->publisher,
		.lane = number };
	(void)gethostname(t->settler.host, sizeof(t->settler.host) - 1);
}

struct pool *pool_create(const struct pool_setup *setup)
{
	struct pool *pool = xcalloc(1, sizeof(*pool));
	pool->setup = *setup;
	pool->n = setup->n_acked + setup->n_unacked;
	pool->threads = xcalloc(pool->n, sizeof(*pool->threads));
	pool->ended_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	CHECK(pool->ended_fd >= 0);
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
	return !why[0];
}

int pool_ended_fd(const struct pool *pool)
{
	return pool->ended_fd;
}

unsigned pool_running(const struct pool *pool)
{
	return atomic_load(&pool->running);
}

unsigned pool_given_back(const struct pool *pool)
{
	return atomic_load(&pool->given_back);
}

unsigned pool_abandoned(const struct pool *pool)
{
	unsigned n = 0;
	for (unsigned i = 0; i < pool->setup.n_acked; i++)
		n += pool->threads[i].made && !atomic_load(&pool->threads[i].ended);
	return n;
}

void pool_destroy(struct pool *pool)
{
	if (!pool)
		return;
	for (unsigned i = 0; i < pool->n; i++)
		if (pool->threads[i].made)
			PTOK(pthread_join(pool->threads[i].thread, NULL));
	close(pool->ended_fd);
	PTOK(pthread_cond_destroy(&pool->opened));
	PTOK(pthread_mutex_destroy(&pool->lock));
	free(pool->threads);
	free(pool);
}
