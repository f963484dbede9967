/*
 * The status as JSON. The library hands NULL on from whatever could not be made, and refuses to put
 * it anywhere: each such refusal is noted, and a report that lacks anything is none.
 */
#include "report.h"

#include <jansson.h>
#include <unistd.h>

#include "clock.h"
#include "trouble.h"

struct report {
	const struct view *view;
	bool failed;
};

/* ---- values ---- */

static void put(struct report *r, json_t *object, const char *key, json_t *value)
{
	r->failed |= json_object_set_new(object, key, value) != 0;
}

static void append(struct report *r, json_t *array, json_t *value)
{
	r->failed |= json_array_append_new(array, value) != 0;
}

static json_t *count(uint64_t n)
{
	return json_integer(n <= INT64_MAX ? (json_int_t)n : INT64_MAX);
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

static json_t *count_or_null(int64_t n)
{
	return n >= 0 ? json_integer(n) : json_null();
}

static json_t *seconds(int64_t ns)
{
	return json_real((double)ns / NS_PER_S);
}

/* Since a moment that has passed; null where there was none. */
static json_t *ago(const struct report *r, int64_t at_ns)
{
	int64_t ns = r->view->now_ns - at_ns;

	return at_ns > 0 ? seconds(ns > 0 ? ns : 0) : json_null();
}

/* Until a moment that is to come; null where there is none. */
static json_t *until(const struct report *r, int64_t at_ns)
{
	int64_t ns = at_ns - r->view->now_ns;

	return at_ns > 0 && at_ns != CLOCK_NEVER ? seconds(ns > 0 ? ns : 0) : json_null();
}

/* ---- counts and times ---- */

static json_t *counts(struct report *r, const struct tally_sum *sum)
{
	json_t *object = json_object();

	for (enum tally_count i = 0; i < COUNT_N; i++)
		put(r, object, tally_word(i), count(sum->counts[i]));
	return object;
}

static void put_quantile(
    struct report *r, json_t *object, const char *key, const struct histogram_sum *sum, double q)
{
	double value = histogram_quantile(sum, q);

	put(r, object, key, value >= 0 ? json_real(value) : json_null());
}

static json_t *quantiles(struct report *r, const struct histogram_sum *sum)
{
	json_t *object = json_object();

	put_quantile(r, object, "p50_s", sum, 0.5);
	put_quantile(r, object, "p95_s", sum, 0.95);
	put_quantile(r, object, "p99_s", sum, 0.99);
	return object;
}

static void put_sums(
    struct report *r, json_t *object, const struct tally_sum *sum, const struct tally_sum *recent)
{
	put(r, object, "counts", counts(r, sum));
	put(r, object, "wait", quantiles(r, &recent->wait));
	put(r, object, "run", quantiles(r, &recent->run));
}

/* ---- the lists ---- */

static json_t *trouble(struct report *r, const struct trouble *t)
{
	json_t *object = json_object();

	put(r, object, "subject", json_string(t->subject));
	put(r, object, "what", json_string(t->what));
	put(r, object, "severity", json_string(t->severity == TROUBLE_ERROR ? "error" : "warning"));
	put(r, object, "for_s", ago(r, t->since_ns));
	put(r, object, "why", json_string(t->why));
	put(r, object, "remedy", json_string(t->remedy));
	put(r, object, "next_try_s", until(r, t->next_try_ns));
	return object;
}

static json_t *troubles(struct report *r)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->view->n_troubles; i++)
		append(r, array, trouble(r, &r->view->troubles[i]));
	return array;
}

static json_t *healed(struct report *r)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->view->n_healed; i++) {
		const struct healed *h = &r->view->healed[i];
		json_t *object = json_object();

		put(r, object, "subject", json_string(h->name.subject));
		put(r, object, "what", json_string(h->name.what));
		put(r, object, "lasted_s", seconds(h->ended_ns - h->began_ns));
		put(r, object, "ago_s", ago(r, h->ended_ns));
		append(r, array, object);
	}
	return array;
}

static json_t *workers(struct report *r)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->view->n_workers; i++) {
		const struct view_worker *w = &r->view->workers[i];
		json_t *object = json_object();

		put(r, object, "worker", json_string(w->worker));
		put(r, object, "pid", w->pid > 0 ? json_integer(w->pid) : json_null());
		put(r, object, "generation", json_integer(w->generation));
		put(r, object, "state", json_string(view_worker_word(w->state)));
		put(r, object, "uptime_s", w->pid > 0 ? ago(r, w->spawned_ns) : json_null());
		put(r, object, "jobs", count(w->jobs));
		put(r, object, "memory_bytes", json_integer(w->memory_bytes));
		put(r, object, "why", json_string(w->why));
		append(r, array, object);
	}
	return array;
}

static json_t *conns(struct report *r)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->view->n_conns; i++) {
		const struct view_conn *c = &r->view->conns[i];
		json_t *object = json_object();

		put(r, object, "worker", json_string(c->owner->worker));
		put(r, object, "connection", json_string(view_conn_word(c->which)));
		put(r, object, "broker", json_string(c->broker));
		put(r, object, "product", json_string(c->product));
		put(r, object, "state", json_string(view_link_word(c->state)));
		put(r, object, "since_s", ago(r, c->since_ns));
		put(r, object, "error", json_string(c->error));
		put(r, object, "error_ago_s", ago(r, c->error_at_ns));
		put(r, object, "retry_in_s", until(r, c->retry_at_ns));
		append(r, array, object);
	}
	return array;
}

static json_t *tasks(struct report *r, const struct view_queue *q)
{
	json_t *array = json_array();

	for (size_t i = 0; i < q->n_tasks; i++) {
		json_t *object = json_object();

		put(r, object, "task", json_string(q->tasks[i].task));
		put_sums(r, object, &q->tasks[i].sum, &q->tasks[i].recent);
		append(r, array, object);
	}
	return array;
}

static json_t *queue(struct report *r, const struct view_queue *q)
{
	json_t *object = json_object();

	put(r, object, "queue", json_string(q->queue));
	put(r, object, "task", text_or_null(q->task));
	put(r, object, "route", text_or_null(q->route));
	put(r, object, "ack", json_boolean(q->ack));
	put(r, object, "threads", json_integer(q->threads));
	put(r, object, "consumers", json_integer(q->consumers));
	put(r, object, "paused", json_boolean(q->paused));
	put(r, object, "running", json_integer(q->running));
	put(r, object, "ready", count_or_null(q->ready));
	put(r, object, "unacked", json_integer(q->unacked));
	put(r, object, "dead_letters", count_or_null(q->dead));
	put(r, object, "seen_s", ago(r, q->seen_ns));
	put(r, object, "rate", json_real(q->rate));
	put_sums(r, object, &q->sum, &q->recent);
	put(r, object, "tasks", tasks(r, q));
	return object;
}

/* One that is not configured any more is there as long as something of it runs. */
static json_t *queues(struct report *r)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->view->n_queues; i++)
		if (r->view->queues[i].configured || r->view->queues[i].running > 0)
			append(r, array, queue(r, &r->view->queues[i]));
	return array;
}

static json_t *job(struct report *r, const struct view_job *j)
{
	json_t *object;

	if (!j)
		return json_null();
	object = json_object();
	put(r, object, "id", json_string(j->id));
	put(r, object, "task", json_string(j->task));
	put(r, object, "message_id", json_string(j->message_id));
	put(r, object, "age_s", ago(r, j->started_ns));
	put(r, object, "attempt", json_integer(j->attempt));
	put(r, object, "left_s", until(r, j->deadline_ns));
	put(r, object, "redelivered", json_boolean(j->redelivered));
	put(r, object, "progress", count_or_null(j->progress));
	return object;
}

static json_t *threads(struct report *r)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->view->n_threads; i++) {
		const struct view_thread *t = &r->view->threads[i];
		json_t *object = json_object();

		put(r, object, "worker", json_string(t->owner->worker));
		put(r, object, "thread", json_integer(t->thread));
		put(r, object, "queue", json_string(t->queue));
		put(r, object, "state", json_string(view_thread_word(t->state)));
		put(r, object, "job", job(r, t->job));
		append(r, array, object);
	}
	return array;
}

/* ---- the whole ---- */

static json_t *last_reload(struct report *r)
{
	json_t *object;

	if (r->view->reload == RELOAD_NONE)
		return json_null();
	object = json_object();
	put(r, object, "outcome", json_string(view_reload_word(r->view->reload)));
	put(r, object, "ago_s", ago(r, r->view->reload_at_ns));
	put(r, object, "why", json_string(r->view->reload_why));
	return object;
}

static void put_daemon(struct report *r, json_t *status)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	const struct view *v = r->view;

	put(r, status, "ok", json_true());
	put(r, status, "version", json_string(WARREN_VERSION));
	put(r, status, "pid", json_integer(getpid()));
	put(r, status, "uptime_s", ago(r, v->started_ns));
	put(r, status, "generation", json_integer(v->generation));
	put(r, status, "state", json_string(view_state_word(v->state)));
	put(r, status, "ready", json_boolean(v->ready));
	put(r, status, "config", json_string(v->config));
	put(r, status, "log_level", json_string(levels[v->log_level]));
	put(r, status, "last_reload", last_reload(r));
}

static json_t *make_status(struct report *r)
{
	json_t *status = json_object();

	put_daemon(r, status);
	put(r, status, "problems", troubles(r));
	put(r, status, "healed", healed(r));
	put(r, status, "workers", workers(r));
	put(r, status, "connections", conns(r));
	put(r, status, "queues", queues(r));
	put(r, status, "threads_total", json_integer(r->view->threads_total));
	put(r, status, "threads_busy", json_integer(r->view->threads_busy));
	put(r, status, "threads", threads(r));
	put(r, status, "totals", counts(r, &r->view->totals));
	return status;
}

bool report_is_built(void)
{
	return true;
}

char *report_status(const struct view *view)
{
	struct report report = { .view = view };
	json_t *status = make_status(&report);
	char *text = NULL;

	/* ASCII alone: what others chose must not drive the terminal that it is shown on */
	if (!report.failed)
		text = json_dumps(status, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(status);
	return text;
}
