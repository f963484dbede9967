/*
 * The metrics: a family after the other, each with its help and type, and no series twice. Labels
 * hold what plugins and configurations chose, and are escaped.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "text.h"
#include "trouble.h"

/* ---- lines ---- */

static void family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\n')
			fputs("\\n", out);
		else if (*value == '\\' || *value == '"')
			fprintf(out, "\\%c", *value);
		else
			fputc(*value, out);
	}
	fputc('"', out);
}

/* name{a="x",b="y"} with a blank behind it; labels whose name is NULL are left out. */
static void put_series(FILE *out, const char *name, const char *const labels[][2], size_t n)
{
	const char *before = "{";

	fputs(name, out);
	for (size_t i = 0; i < n; i++) {
		if (!labels[i][0])
			continue;
		fputs(before, out);
		put_label(out, labels[i][0], labels[i][1]);
		before = ",";
	}
	fputs(*before == ',' ? "} " : " ", out);
}

#define SERIES(out, name, ...)                                                                     \
	put_series((out), (name), (const char *const[][2]){ __VA_ARGS__ },                         \
	    sizeof((const char *const[][2]){ __VA_ARGS__ }) / sizeof(const char *[2]))

static void put_count(FILE *out, uint64_t n)
{
	fprintf(out, "%" PRIu64 "\n", n);
}

static void put_bool(FILE *out, bool value)
{
	put_count(out, value ? 1 : 0);
}

/* ---- the daemon ---- */

static void put_daemon(FILE *out, const struct view *v)
{
	family(out, "warren_build_info", "gauge", "The version that runs; always 1.");
	SERIES(out, "warren_build_info", { "version", WARREN_VERSION });
	put_count(out, 1);
	family(
	    out, "warren_start_time_seconds", "gauge", "When the daemon was started, Unix time.");
	fprintf(out, "warren_start_time_seconds %.3f\n", (double)v->started_wall_ms / 1000);
	family(out, "warren_generation", "gauge",
	    "The number of the configuration that runs; each reload makes a new one.");
	fprintf(out, "warren_generation %u\n", v->generation);
	family(out, "warren_ready", "gauge",
	    "1 while everything is as configured, but for warnings; else 0.");
	fprintf(out, "warren_ready %d\n", v->ready);
}

static void put_reloads(FILE *out, const struct view *v)
{
	family(out, "warren_reloads_total", "counter", "Reloads, by how they went.");
	for (enum reload_outcome i = RELOAD_DONE; i < RELOAD_OUTCOMES; i++) {
		SERIES(out, "warren_reloads_total", { "outcome", view_reload_word(i) });
		put_count(out, v->reloads[i]);
	}
}

static void put_problems(FILE *out, const struct view *v)
{
	uint64_t errors = 0;

	for (size_t i = 0; i < v->n_troubles; i++)
		errors += v->troubles[i].severity == TROUBLE_ERROR;
	family(out, "warren_problems", "gauge",
	    "What is not as configured at this moment, by severity; warren status has the words.");
	SERIES(out, "warren_problems", { "severity", "error" });
	put_count(out, errors);
	SERIES(out, "warren_problems", { "severity", "warning" });
	put_count(out, v->n_troubles - errors);
}

/* ---- worker processes ---- */

static void put_workers(FILE *out, const struct view *v)
{
	family(out, "warren_worker_processes", "gauge", "Worker processes, by state.");
	for (enum slot_state state = SLOT_BACKOFF; state < SLOT_STATES; state++) {
		uint64_t n = 0;

		for (size_t i = 0; i < v->n_workers; i++)
			n += v->workers[i].state == state;
		SERIES(out, "warren_worker_processes", { "state", view_worker_word(state) });
		put_count(out, n);
	}
}

static void put_exits(FILE *out, const struct view *v)
{
	static const char *const causes[CREW_EXITS] = {
		[CREW_ORDERED] = "ordered",
		[CREW_CRASHED] = "crash",
		[CREW_TIME_LIMIT] = "time_limit",
		[CREW_FAILED] = "failed",
	};

	family(out, "warren_worker_exits_total", "counter",
	    "Worker processes that ended, by cause: ordered, a crash, a job that overran its time "
	    "limit, or failed to serve.");
	for (enum crew_exit i = 0; i < CREW_EXITS; i++) {
		SERIES(out, "warren_worker_exits_total", { "cause", causes[i] });
		put_count(out, v->exits[i]);
	}
}

/* A post that is being handed over has several processes. */
static bool is_first_of_post(const struct view *v, size_t place)
{
	for (size_t i = 0; i < place; i++)
		if (strcmp(v->workers[i].worker, v->workers[place].worker) == 0)
			return false;
	return true;
}

static void put_memory(FILE *out, const struct view *v)
{
	family(out, "warren_worker_memory_bytes", "gauge",
	    "Resident memory of a worker; while it is replaced, of all its processes.");
	for (size_t i = 0; i < v->n_workers; i++) {
		const char *worker = v->workers[i].worker;
		uint64_t sum = 0;

		if (!is_first_of_post(v, i))
			continue;
		for (size_t k = i; k < v->n_workers; k++)
			if (strcmp(v->workers[k].worker, worker) == 0)
				sum += (uint64_t)v->workers[k].memory_bytes;
		SERIES(out, "warren_worker_memory_bytes", { "worker", worker });
		put_count(out, sum);
	}
}

/* ---- connections ---- */

static void put_conns(FILE *out, const struct view *v, const char *name, bool blocked)
{
	for (size_t i = 0; i < v->n_conns; i++) {
		const struct view_conn *conn = &v->conns[i];

		if (!conn->owner->current || !conn->owner->stands)
			continue; /* one process for each worker: no series twice */
		SERIES(out, name, { "worker", conn->owner->worker },
		    { "connection", view_conn_word(conn->which) });
		put_bool(out, blocked ? conn->state == BOARD_BLOCKED : conn->state != BOARD_DOWN);
	}
}

static void put_connections(FILE *out, const struct view *v)
{
	family(out, "warren_connection_up", "gauge", "1 while the worker has this connection.");
	put_conns(out, v, "warren_connection_up", false);
	family(out, "warren_connection_blocked", "gauge",
	    "1 while an alarm of the broker keeps it from taking what is published.");
	put_conns(out, v, "warren_connection_blocked", true);
}

/* ---- queues ---- */

static int64_t queue_threads(const struct view_queue *q)
{
	return q->threads;
}

static int64_t queue_consumers(const struct view_queue *q)
{
	return q->consumers;
}

static int64_t queue_paused(const struct view_queue *q)
{
	return q->paused;
}

static int64_t queue_ready(const struct view_queue *q)
{
	return q->ready;
}

static int64_t queue_dead(const struct view_queue *q)
{
	return q->dead;
}

static int64_t queue_running(const struct view_queue *q)
{
	return q->running;
}

/* What a queue is at this moment; less than 0: not known. */
static const struct queue_gauge {
	const char *name, *help;
	int64_t (*value)(const struct view_queue *queue);
} queue_gauges[] = {
	{ "warren_queue_threads", "Threads that the queue should have, in all worker processes.",
	    queue_threads },
	{ "warren_queue_consumers", "Threads whose consumer the broker has confirmed.",
	    queue_consumers },
	{ "warren_queue_paused", "1 while an operator has paused the queue.", queue_paused },
	{ "warren_queue_messages_ready", "Messages that wait in the queue.", queue_ready },
	{ "warren_queue_dead_letters", "Messages in the dead-letter queue of the queue.",
	    queue_dead },
	{ "warren_jobs_running", "Jobs that are taken and not settled yet.", queue_running },
};

static void put_queue_gauge(FILE *out, const struct view *v, const struct queue_gauge *gauge)
{
	family(out, gauge->name, "gauge", gauge->help);
	for (size_t i = 0; i < v->n_queues; i++) {
		const struct view_queue *q = &v->queues[i];
		int64_t value = gauge->value(q);

		if ((!q->configured && q->running == 0) || value < 0)
			continue;
		SERIES(out, gauge->name, { "queue", q->queue });
		put_count(out, (uint64_t)value);
	}
}

/* ---- jobs ---- */

/* Counters by queue and task; those with an outcome share one name. */
static const struct job_counter {
	const char *name, *help; /* no help: one more outcome */
	enum tally_count what;
	bool is_outcome;
} job_counters[] = {
	{ "warren_jobs_taken_total", "Deliveries that a thread has taken.", COUNT_TAKEN, false },
	{ "warren_jobs_total",
	    "Jobs by what became of them. With those that run they sum up to the jobs taken.",
	    COUNT_DONE, true },
	{ "warren_jobs_total", NULL, COUNT_RETRIED, true },
	{ "warren_jobs_total", NULL, COUNT_DEAD, true },
	{ "warren_jobs_total", NULL, COUNT_GIVEN_BACK, true },
	{ "warren_jobs_total", NULL, COUNT_LOST, true },
	{ "warren_jobs_total", NULL, COUNT_QUARANTINED, true },
	{ "warren_jobs_total", NULL, COUNT_INTERRUPTED, true },
	{ "warren_jobs_redelivered_total", "Jobs taken with the broker's redelivered mark.",
	    COUNT_REDELIVERED, false },
	{ "warren_jobs_timed_out_total", "Jobs that were given up at their time limit.",
	    COUNT_TIMED_OUT, false },
	{ "warren_jobs_crashed_total", "Jobs that brought their worker process down.",
	    COUNT_CRASHES, false },
	{ "warren_jobs_late_total", "Tasks that returned after their job was given up.", COUNT_LATE,
	    false },
	{ "warren_acks_stale_total", "Acknowledgements that came too late and were not sent.",
	    COUNT_STALE, false },
	{ "warren_replies_unroutable_total", "Replies that no queue took.", COUNT_UNROUTABLE,
	    false },
	{ "warren_messages_published_total",
	    "Messages published: replies, follow-ups, retries, dead letters.", COUNT_PUBLISHED,
	    false },
};

static void put_job_counter(FILE *out, const struct view *v, const struct job_counter *counter)
{
	const char *outcome = counter->is_outcome ? "outcome" : NULL;

	if (counter->help)
		family(out, counter->name, "counter", counter->help);
	for (size_t i = 0; i < v->n_queues; i++) {
		for (size_t k = 0; k < v->queues[i].n_tasks; k++) {
			const struct view_task *task = &v->queues[i].tasks[k];

			SERIES(out, counter->name, { "queue", v->queues[i].queue },
			    { "task", task->task }, { outcome, tally_word(counter->what) });
			put_count(out, task->sum.counts[counter->what]);
		}
	}
}

static void put_histogram(FILE *out, const char *name, const char *queue, const char *task,
    const struct histogram_sum *sum)
{
	char series[64], bound[32];
	uint64_t n = 0;

	(void)snprintf(series, sizeof(series), "%s_bucket", name);
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		n += sum->buckets[i];
		if (i < HISTOGRAM_BUCKETS - 1)
			(void)snprintf(
			    bound, sizeof(bound), "%g", (double)histogram_bounds_ns[i] / NS_PER_S);
		else
			(void)snprintf(bound, sizeof(bound), "+Inf");
		SERIES(out, series, { "queue", queue }, { "task", task }, { "le", bound });
		put_count(out, n);
	}
	(void)snprintf(series, sizeof(series), "%s_sum", name);
	SERIES(out, series, { "queue", queue }, { "task", task });
	fprintf(out, "%" PRIu64 ".%09" PRIu64 "\n", sum->sum_ns / NS_PER_S, sum->sum_ns % NS_PER_S);
	(void)snprintf(series, sizeof(series), "%s_count", name);
	SERIES(out, series, { "queue", queue }, { "task", task });
	put_count(out, n);
}

/* Only of tasks that have run: a histogram is many lines. */
static void put_times(FILE *out, const struct view *v, const char *name, bool wait)
{
	for (size_t i = 0; i < v->n_queues; i++) {
		for (size_t k = 0; k < v->queues[i].n_tasks; k++) {
			const struct view_task *task = &v->queues[i].tasks[k];
			const struct histogram_sum *sum = wait ? &task->sum.wait : &task->sum.run;

			if (histogram_count(sum) > 0)
				put_histogram(out, name, v->queues[i].queue, task->task, sum);
		}
	}
}

static void put_histograms(FILE *out, const struct view *v)
{
	family(out, "warren_job_wait_seconds", "histogram",
	    "From the arrival of a delivery in the worker process to the start of its task.");
	put_times(out, v, "warren_job_wait_seconds", true);
	family(out, "warren_job_run_seconds", "histogram", "How long tasks ran.");
	put_times(out, v, "warren_job_run_seconds", false);
}

static void put_all(FILE *out, const struct view *v)
{
	put_daemon(out, v);
	put_reloads(out, v);
	put_problems(out, v);
	put_workers(out, v);
	put_exits(out, v);
	put_memory(out, v);
	put_connections(out, v);
	for (size_t i = 0; i < ARRAY_LEN(queue_gauges); i++)
		put_queue_gauge(out, v, &queue_gauges[i]);
	for (size_t i = 0; i < ARRAY_LEN(job_counters); i++)
		put_job_counter(out, v, &job_counters[i]);
	put_histograms(out, v);
}

char *metrics_text(const struct view *view)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	put_all(out, view);
	return text_finish(out, &text);
}
