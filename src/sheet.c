/* The columns of queues, threads, workers and connections. */
#include "sheet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "figure.h"

/* ---- values ---- */

static bool is_some(double n)
{
	return n > 0; /* NAN is not */
}

char *sheet_number(double n, enum figure figure)
{
	char buf[FIGURE_SIZE];
	switch (figure) {
	case FIGURE_RATE:
		return xstrdup(figure_rate(n, buf));
	case FIGURE_TIME:
		return xstrdup(figure_time(n, buf));
	case FIGURE_BYTES:
		return xstrdup(figure_bytes(n, buf));
	default:
		return xstrdup(figure_count(n, buf));
	}
}

char *sheet_text(const json_t *item, const char *path)
{
	return pen_safe(reply_text(item, path));
}

bool sheet_is(const json_t *item, const char *path, const char *text)
{
	return bytes_is(reply_text(item, path), text);
}

/* ---- queues ---- */

/* What an operator has to know of a queue in a word. */
static const char *queue_state(const json_t *queue, enum tint *tint)
{
	double consumers = reply_real(queue, "consumers"), threads = reply_real(queue, "threads");
	*tint = TINT_WARN;
	if (reply_bool(queue, "paused"))
		return "paused";
	if (isnan(consumers) || isnan(threads))
		return "unknown";
	*tint = TINT_BAD;
	if (is_some(threads) && consumers == 0)
		return "NOT CONSUMED";
	if (consumers < threads)
		return "SHORT";
	*tint = TINT_GOOD;
	return "ok";
}

static char *show_queue_state(const json_t *queue)
{
	enum tint tint;
	return xstrdup(queue_state(queue, &tint));
}

static enum tint tint_queue_state(const json_t *queue)
{
	enum tint tint;
	(void)queue_state(queue, &tint);
	return tint;
}

/* "8/8": consumers that there are of those that there should be. */
static char *show_consumers(const json_t *queue)
{
	char have[FIGURE_SIZE], want[FIGURE_SIZE];
	return xasprintf("%s/%s", figure_count(reply_real(queue, "consumers"), have),
	    figure_count(reply_real(queue, "threads"), want));
}

static enum tint warn_if(const json_t *item, const char *path)
{
	return is_some(reply_real(item, path)) ? TINT_WARN : TINT_PLAIN;
}

static enum tint tint_dead_letters(const json_t *queue)
{
	return warn_if(queue, "dead_letters");
}

static enum tint tint_dead(const json_t *queue)
{
	return warn_if(queue, "counts.dead");
}

static enum tint tint_crashed(const json_t *queue)
{
	return warn_if(queue, "counts.crashed");
}

static enum tint tint_timed_out(const json_t *queue)
{
	return warn_if(queue, "counts.timed_out");
}

static const struct sheet_column queue_columns[] = {
	{ "QUEUE", "queue", FIGURE_TEXT, 0, NULL, NULL },
	{ "STATE", "paused", FIGURE_TEXT, SHEET_GROUP, show_queue_state, tint_queue_state },
	{ "CONSUM", "consumers", FIGURE_COUNT, 0, show_consumers, tint_queue_state },
	{ "READY", "ready", FIGURE_COUNT, 0, NULL, NULL },
	{ "UNACK", "unacked", FIGURE_COUNT, 0, NULL, NULL },
	{ "RUN", "running", FIGURE_COUNT, 0, NULL, NULL },
	{ "JOBS/S", "rate", FIGURE_RATE, 0, NULL, NULL },
	{ "DEAD-Q", "dead_letters", FIGURE_COUNT, 0, NULL, tint_dead_letters },
	{ "DONE", "counts.done", FIGURE_COUNT, SHEET_GROUP, NULL, NULL },
	{ "RETRIED", "counts.retried", FIGURE_COUNT, 0, NULL, NULL },
	{ "DEAD", "counts.dead", FIGURE_COUNT, 0, NULL, tint_dead },
	{ "CRASHED", "counts.crashed", FIGURE_COUNT, 0, NULL, tint_crashed },
	{ "TIMEOUT", "counts.timed_out", FIGURE_COUNT, 0, NULL, tint_timed_out },
	{ "REDELIV", "counts.redelivered", FIGURE_COUNT, 0, NULL, NULL },
	{ "WAIT p50", "wait.p50_s", FIGURE_TIME, SHEET_GROUP, NULL, NULL },
	{ "p95", "wait.p95_s", FIGURE_TIME, 0, NULL, NULL },
	{ "p99", "wait.p99_s", FIGURE_TIME, 0, NULL, NULL },
	{ "RUN p50", "run.p50_s", FIGURE_TIME, 0, NULL, NULL },
	{ "p95", "run.p95_s", FIGURE_TIME, 0, NULL, NULL },
	{ "p99", "run.p99_s", FIGURE_TIME, 0, NULL, NULL },
};
const struct sheet sheet_queues = { queue_columns, ARRAY_LEN(queue_columns) };

bool sheet_queue_is_idle(const json_t *queue)
{
	return tint_queue_state(queue) == TINT_GOOD && !is_some(reply_real(queue, "ready")) &&
	       !is_some(reply_real(queue, "unacked")) && !is_some(reply_real(queue, "rate")) &&
	       !is_some(reply_real(queue, "running")) &&
	       !is_some(reply_real(queue, "dead_letters"));
}

/* ---- tasks of a queue ---- */

static const struct sheet_column task_columns[] = {
	{ "TASK", "task", FIGURE_TEXT, 0, NULL, NULL },
	{ "DONE", "counts.done", FIGURE_COUNT, SHEET_GROUP, NULL, NULL },
	{ "RETRIED", "counts.retried", FIGURE_COUNT, 0, NULL, NULL },
	{ "DEAD", "counts.dead", FIGURE_COUNT, 0, NULL, tint_dead },
	{ "CRASHED", "counts.crashed", FIGURE_COUNT, 0, NULL, tint_crashed },
	{ "TIMEOUT", "counts.timed_out", FIGURE_COUNT, 0, NULL, tint_timed_out },
	{ "REDELIV", "counts.redelivered", FIGURE_COUNT, 0, NULL, NULL },
	{ "WAIT p50", "wait.p50_s", FIGURE_TIME, SHEET_GROUP, NULL, NULL },
	{ "p95", "wait.p95_s", FIGURE_TIME, 0, NULL, NULL },
	{ "p99", "wait.p99_s", FIGURE_TIME, 0, NULL, NULL },
	{ "RUN p50", "run.p50_s", FIGURE_TIME, 0, NULL, NULL },
	{ "p95", "run.p95_s", FIGURE_TIME, 0, NULL, NULL },
	{ "p99", "run.p99_s", FIGURE_TIME, 0, NULL, NULL },
};
const struct sheet sheet_tasks = { task_columns, ARRAY_LEN(task_columns) };

/* ---- threads ---- */

/* "0/3": worker process and thread. */
static char *show_thread(const json_t *thread)
{
	char number[FIGURE_SIZE];
	char *worker = sheet_text(thread, "worker");
	char *shown =
	    xasprintf("%s/%s", worker, figure_count(reply_real(thread, "thread"), number));
	free(worker);
	return shown;
}

/* A job that ends soon or should have ended is what time limits are about to hit. */
static enum tint tint_left(const json_t *thread)
{
	double left = reply_real(thread, "job.left_s"), age = reply_real(thread, "job.age_s");
	if (left <= 0)
		return TINT_BAD;
	return left < age / 9 ? TINT_WARN : TINT_PLAIN; /* a tenth of its time is left */
}

static char *show_left(const json_t *thread)
{
	double left = reply_real(thread, "job.left_s");
	return left <= 0 ? xstrdup("OVERDUE") : sheet_number(left, FIGURE_TIME);
}

static char *show_progress(const json_t *thread)
{
	double progress = reply_real(thread, "job.progress");
	return progress >= 0 && progress <= 100 ? xasprintf("%.0f%%", progress) : xstrdup("-");
}

static enum tint tint_thread_state(const json_t *thread)
{
	return sheet_is(thread, "state", "given-up") ? TINT_BAD : TINT_PLAIN;
}

static const struct sheet_column thread_columns[] = {
	{ "THREAD", "worker", FIGURE_TEXT, 0, show_thread, NULL },
	{ "STATE", "state", FIGURE_TEXT, SHEET_GROUP, NULL, tint_thread_state },
	{ "QUEUE", "queue", FIGURE_TEXT, 0, NULL, NULL },
	{ "TASK", "job.task", FIGURE_TEXT, 0, NULL, NULL },
	{ "AGE", "job.age_s", FIGURE_TIME, 0, NULL, NULL },
	{ "LEFT", "job.left_s", FIGURE_TIME, 0, show_left, tint_left },
	{ "TRY", "job.attempt", FIGURE_COUNT, 0, NULL, NULL },
	{ "AT", "job.progress", FIGURE_COUNT, SHEET_OPTIONAL, show_progress, NULL },
	{ "JOB", "job.id", FIGURE_TEXT, SHEET_GROUP, NULL, NULL },
	{ "MESSAGE", "job.message_id", FIGURE_TEXT, 0, NULL, NULL },
};
const struct sheet sheet_threads = { thread_columns, ARRAY_LEN(thread_columns) };

/* ---- workers ---- */

static enum tint tint_worker_state(const json_t *worker)
{
	static const char *const bad[] = { "backoff", "failing" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (sheet_is(worker, "state", bad[i]))
			return TINT_BAD;
	return sheet_is(worker, "state", "consuming") || sheet_is(worker, "state", "loaded")
		   ? TINT_GOOD
		   : TINT_WARN;
}

/* A number that is a name is not to be read as 12.3k; Linux has none beyond this. */
static char *show_pid(const json_t *worker)
{
	double pid = reply_real(worker, "pid");
	return pid >= 1 && pid < 1 << 22 ? xasprintf("%.0f", pid) : xstrdup("-");
}

static const struct sheet_column worker_columns[] = {
	{ "WORKER", "worker", FIGURE_TEXT, 0, NULL, NULL },
	{ "STATE", "state", FIGURE_TEXT, SHEET_GROUP, NULL, tint_worker_state },
	{ "PID", "pid", FIGURE_COUNT, 0, show_pid, NULL },
	{ "GEN", "generation", FIGURE_COUNT, 0, NULL, NULL },
	{ "UP", "uptime_s", FIGURE_TIME, 0, NULL, NULL },
	{ "JOBS", "jobs", FIGURE_COUNT, 0, NULL, NULL },
	{ "MEMORY", "memory_bytes", FIGURE_BYTES, 0, NULL, NULL },
	{ "WHY", "why", FIGURE_TEXT, SHEET_OPTIONAL, NULL, NULL },
};
const struct sheet sheet_workers = { worker_columns, ARRAY_LEN(worker_columns) };

/* ---- connections ---- */

bool sheet_connection_is_up(const json_t *connection)
{
	return sheet_is(connection, "state", "up");
}

static enum tint tint_connection(const json_t *connection)
{
	if (sheet_connection_is_up(connection))
		return TINT_GOOD;
	return sheet_is(connection, "state", "blocked") ? TINT_WARN : TINT_BAD;
}

/* "0/work": worker process and what it is for. */
static char *show_connection(const json_t *connection)
{
	char *worker = sheet_text(connection, "worker");
	char *purpose = sheet_text(connection, "connection");
	char *shown = xasprintf("%s%s%s", worker, *worker ? "/" : "", purpose);
	free(worker);
	free(purpose);
	return shown;
}

static char *show_broker(const json_t *connection)
{
	char *broker = sheet_text(connection, "broker"),
	     *product = sheet_text(connection, "product");
	char *shown = xasprintf("%s%s%s", broker, *product ? " " : "", product);
	free(broker);
	free(product);
	return shown;
}

static const struct sheet_column connection_columns[] = {
	{ "CONNECTION", "connection", FIGURE_TEXT, 0, show_connection, NULL },
	{ "STATE", "state", FIGURE_TEXT, SHEET_GROUP, NULL, tint_connection },
	{ "SINCE", "since_s", FIGURE_TIME, 0, NULL, NULL },
	{ "NEXT TRY", "retry_in_s", FIGURE_TIME, SHEET_OPTIONAL, NULL, NULL },
	{ "BROKER", "broker", FIGURE_TEXT, 0, show_broker, NULL },
	{ "AGO", "error_ago_s", FIGURE_TIME, SHEET_GROUP | SHEET_OPTIONAL, NULL, NULL },
	{ "LAST ERROR", "error", FIGURE_TEXT, SHEET_OPTIONAL, NULL, NULL },
};
const struct sheet sheet_connections = { connection_columns, ARRAY_LEN(connection_columns) };

/* ---- tables ---- */

static char *show_value(const struct sheet_column *column, const json_t *item)
{
	if (column->show)
		return column->show(item);
	if (column->figure == FIGURE_TEXT)
		return sheet_text(item, column->path);
	return sheet_number(reply_real(item, column->path), column->figure);
}

struct table *sheet_table(const struct sheet *sheet, const json_t *const *items, size_t n)
{
	struct table *table = table_create(sheet->n_columns);
	for (size_t i = 0; i < sheet->n_columns; i++) {
		const struct sheet_column *column = &sheet->columns[i];
		enum table_side side = column->figure == FIGURE_TEXT ? TABLE_LEFT : TABLE_RIGHT;
		struct table_column what = { column->heading, side,
			(column->flags & SHEET_GROUP) != 0, (column->flags & SHEET_OPTIONAL) != 0 };
		table_set_column(table, i, &what);
	}
	for (size_t row = 0; row < n; row++) {
		table_add_row(table);
		for (size_t i = 0; i < sheet->n_columns; i++) {
			const struct sheet_column *column = &sheet->columns[i];
			table_set(table, i, column->tint ? column->tint(items[row]) : TINT_PLAIN,
			    show_value(column, items[row]));
		}
	}
	return table;
}

static int compare_texts(
    const struct sheet_column *column, const json_t *a, const json_t *b, int direction)
{
	char *left = show_value(column, a), *right = show_value(column, b);
	int order = (*left == '\0') - (*right == '\0');
	if (order == 0)
		order = direction * strverscmp(left, right);
	free(left);
	free(right);
	return order;
}

int sheet_compare(
    const struct sheet_column *column, const json_t *a, const json_t *b, bool descending)
{
	int direction = descending ? -1 : 1;
	if (column->figure == FIGURE_TEXT)
		return compare_texts(column, a, b, direction);
	double left = reply_real(a, column->path), right = reply_real(b, column->path);
	if (isnan(left) || isnan(right))
		return isnan(left) - isnan(right);
	return direction * ((left > right) - (left < right));
}
