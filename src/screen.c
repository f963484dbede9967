/* The daemon's status as screens for people. */
#include "screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "figure.h"

static const char *plural(size_t n)
{
	return n == 1 ? "" : "s";
}

static void end_line(struct pen *pen)
{
	pen->put(pen, TINT_PLAIN, "\n");
}

/* ---- the first lines ---- */

static size_t count_severity(const json_t *status, const char *severity)
{
	struct reply_list problems = reply_list(status, "problems");
	size_t n = 0;
	for (size_t i = 0; i < problems.n; i++)
		n += sheet_is(reply_item(&problems, i), "severity", severity);
	return n;
}

bool screen_has_error(const json_t *status)
{
	return count_severity(status, "error") > 0;
}

static size_t count_paused(const json_t *status)
{
	struct reply_list queues = reply_list(status, "queues");
	size_t n = 0;
	for (size_t i = 0; i < queues.n; i++)
		n += reply_bool(reply_item(&queues, i), "paused");
	return n;
}

static void put_number_of(struct pen *pen, enum tint tint, size_t n, const char *what, bool *first)
{
	if (n == 0)
		return;
	pen_put(pen, tint, "%s%zu %s%s", *first ? "" : ", ", n, what, plural(n));
	*first = false;
}

/* A word that stands in a line of ours. */
static char *short_text(const json_t *item, const char *path)
{
	enum { SHORT = 16 };
	char *text = sheet_text(item, path);
	char *fit = pen_fit(text, SHORT);
	free(text);
	return fit;
}

void screen_put_verdict(struct pen *pen, const json_t *status)
{
	size_t errors = count_severity(status, "error"), paused = count_paused(status);
	size_t warnings = reply_list(status, "problems").n - errors;
	char *version = short_text(status, "version"), *state = short_text(status, "state");
	bool first = true;
	pen_put(pen, TINT_STRONG, "warrend %s is %s: ", version, state);
	put_number_of(pen, TINT_BAD, errors, "error", &first);
	put_number_of(pen, TINT_WARN, warnings, "warning", &first);
	put_number_of(pen, TINT_WARN, paused, "paused queue", &first);
	if (first && strcmp(state, "running") == 0)
		pen_put(pen, TINT_GOOD, "all is as configured");
	else if (first)
		pen_put(pen, TINT_PLAIN, "no problem so far");
	end_line(pen);
	free(version);
	free(state);
}

static void put_last_reload(struct pen *pen, const json_t *status, size_t width)
{
	const json_t *reload = reply_at(status, "last_reload");
	if (!json_is_object(reload))
		return;
	char ago[FIGURE_SIZE];
	char *outcome = sheet_text(reload, "outcome"), *why = sheet_text(reload, "why");
	char *line = xasprintf("last reload: %s %s ago%s%s", outcome,
	    figure_time(reply_real(reload, "ago_s"), ago), *why ? ": " : "", why);
	bool done = strcmp(outcome, "done") == 0;
	pen_wrap(pen, done ? TINT_PLAIN : TINT_WARN, line, 0, width);
	free(line);
	free(outcome);
	free(why);
}

void screen_put_facts(struct pen *pen, const json_t *status, size_t width)
{
	char up[FIGURE_SIZE];
	char *config = sheet_text(status, "config"), *level = sheet_text(status, "log_level");
	char *line = xasprintf("pid %.0f, up %s, generation %.0f, log level %s, %s",
	    reply_real(status, "pid"), figure_time(reply_real(status, "uptime_s"), up),
	    reply_real(status, "generation"), level, config);
	pen_wrap(pen, TINT_PLAIN, line, 0, width);
	free(line);
	free(config);
	free(level);
	put_last_reload(pen, status, width);
}

/* What has happened since the start, of what has happened at all. */
static void put_totals(struct pen *pen, const json_t *status, size_t width)
{
	const json_t *totals = reply_at(status, "totals"), *value;
	char *line = xstrdup("");
	const char *name;
	json_object_foreach((json_t *)(uintptr_t)totals, name, value)
	{
		char figure[FIGURE_SIZE];
		if (json_number_value(value) == 0)
			continue;
		char *safe = pen_safe(bytes_of(name));
		for (char *p = safe; *p; p++)
			*p = *p == '_' ? ' ' : *p;
		char *longer = xasprintf("%s%s%s %s", line, *line ? ", " : "",
		    figure_count(json_number_value(value), figure), safe);
		free(safe);
		free(line);
		line = longer;
	}
	if (*line) {
		char *all = xasprintf("jobs since the start: %s", line);
		pen_wrap(pen, TINT_PLAIN, all, 0, width);
		free(all);
	}
	free(line);
}

/* ---- problems ---- */

static const char *severity_word(const json_t *problem, enum tint *tint)
{
	bool error = sheet_is(problem, "severity", "error");
	*tint = error ? TINT_BAD : TINT_WARN;
	return error ? "ERROR  " : "WARNING";
}

void screen_put_problem_line(struct pen *pen, const json_t *problem, size_t width)
{
	enum { WORD = 9 };
	enum tint tint;
	char figure[FIGURE_SIZE];
	char *subject = sheet_text(problem, "subject"), *what = sheet_text(problem, "what");
	char *line = xasprintf("%s: %s", subject, what);
	char *lasted = xasprintf(" for %s", figure_time(reply_real(problem, "for_s"), figure));
	size_t taken = WORD + strlen(lasted);
	char *fit = pen_fit(line, width > taken ? width - taken : 0);
	const char *word = severity_word(problem, &tint);
	pen->put(pen, tint, word);
	pen_pad(pen, 2);
	pen->put(pen, TINT_STRONG, fit);
	pen->put(pen, TINT_PLAIN, lasted);
	free(fit);
	free(lasted);
	free(line);
	free(subject);
	free(what);
}

/* "remedy: ...", indented below the problem. */
static void put_clause(struct pen *pen, const char *prefix, const char *text, size_t width)
{
	enum { INDENT = 9 };
	if (*text == '\0')
		return;
	char *clause = xasprintf("%s%s", prefix, text);
	pen_wrap(pen, TINT_PLAIN, clause, INDENT, width);
	free(clause);
}

static void put_problem(struct pen *pen, const json_t *problem, size_t width)
{
	char next[FIGURE_SIZE];
	char *why = sheet_text(problem, "why"), *remedy = sheet_text(problem, "remedy");
	screen_put_problem_line(pen, problem, width);
	end_line(pen);
	put_clause(pen, "why: ", why, width);
	put_clause(pen, "remedy: ", remedy, width);
	double next_s = reply_real(problem, "next_try_s");
	if (isfinite(next_s))
		put_clause(
		    pen, "warrend tries again in ", figure_time(fmax(next_s, 0), next), width);
	free(why);
	free(remedy);
}

/* Errors first, in whatever order they come. */
void screen_put_problems(struct pen *pen, const json_t *status, size_t width)
{
	struct reply_list problems = reply_list(status, "problems");
	for (int errors = 1; errors >= 0; errors--)
		for (size_t i = 0; i < problems.n; i++) {
			const json_t *problem = reply_item(&problems, i);
			if (sheet_is(problem, "severity", "error") == (errors == 1))
				put_problem(pen, problem, width);
		}
}

void screen_put_healed(struct pen *pen, const json_t *status, size_t width)
{
	struct reply_list healed = reply_list(status, "healed");
	for (size_t i = 0; i < healed.n; i++) {
		const json_t *item = reply_item(&healed, i);
		char lasted[FIGURE_SIZE], ago[FIGURE_SIZE];
		char *subject = sheet_text(item, "subject"), *what = sheet_text(item, "what");
		char *line = xasprintf("healed %s ago: %s: %s, lasted %s",
		    figure_time(reply_real(item, "ago_s"), ago), subject, what,
		    figure_time(reply_real(item, "lasted_s"), lasted));
		pen_wrap(pen, TINT_PLAIN, line, 0, width);
		free(line);
		free(subject);
		free(what);
	}
}

/* ---- lists ---- */

/* Items that are about to be a table. */
struct items {
	const json_t **list;
	size_t n;
	size_t left_out;
};

static void items_add(struct items *items, const json_t *item)
{
	items->list = or_die(reallocarray(items->list, items->n + 1, sizeof(*items->list)));
	items->list[items->n++] = item;
}

static void put_items(
    struct pen *pen, const struct sheet *sheet, const struct items *items, size_t width)
{
	struct table *table = sheet_table(sheet, items->list, items->n);
	table_put(table, pen, width);
	table_free(table);
}

static void put_left_out(struct pen *pen, const struct items *items, const char *what)
{
	if (items->left_out > 0)
		pen_put(pen, TINT_FAINT, "and %zu more %s%s: --all shows them\n", items->left_out,
		    what, plural(items->left_out));
}

/* Those that are up to the same broker, as one; NULL when an earlier one stands for them. */
static json_t *merge_up(const struct reply_list *connections, size_t first)
{
	const json_t *model = reply_item(connections, first);
	size_t n = 0;
	double since = NAN;
	for (size_t i = 0; i < connections->n; i++) {
		const json_t *other = reply_item(connections, i);
		if (!sheet_connection_is_up(other) ||
		    !json_equal(reply_at(model, "broker"), reply_at(other, "broker")))
			continue;
		if (i < first)
			return NULL;
		since = fmin(since, reply_real(other, "since_s"));
		n++;
	}
	json_t *merged = or_die(json_copy((json_t *)(uintptr_t)model));
	if (n == 1)
		return merged;
	if (json_object_set_new(merged, "connection", json_sprintf("all %zu", n)) != 0 ||
	    json_object_set_new(merged, "worker", json_string("")) != 0 ||
	    json_object_set_new(merged, "since_s", isnan(since) ? json_null() : json_real(since)) !=
		0)
		(void)or_die(NULL);
	return merged;
}

static void put_connections(struct pen *pen, const json_t *status, size_t width)
{
	struct reply_list connections = reply_list(status, "connections");
	struct items items = { 0 };
	json_t *merged = or_die(json_array());
	for (size_t i = 0; i < connections.n; i++) {
		const json_t *item = reply_item(&connections, i);
		if (sheet_connection_is_up(item)) {
			json_t *all = merge_up(&connections, i);
			if (!all)
				continue;
			item = all;
			if (json_array_append_new(merged, all) != 0)
				(void)or_die(NULL);
		}
		items_add(&items, item);
	}
	if (items.n > 0) {
		end_line(pen);
		put_items(pen, &sheet_connections, &items, width);
	}
	free(items.list);
	json_decref(merged);
}

static void put_tasks(struct pen *pen, const json_t *queue, size_t width)
{
	struct reply_list tasks = reply_list(queue, "tasks");
	struct items items = { 0 };
	for (size_t i = 0; i < tasks.n; i++)
		items_add(&items, reply_item(&tasks, i));
	if (items.n > 0) {
		char *name = sheet_text(queue, "queue");
		char *title = xasprintf("tasks of queue %s", name), *fit = pen_fit(title, width);
		pen_put(pen, TINT_STRONG, "\n%s\n", fit);
		free(fit);
		free(title);
		free(name);
		put_items(pen, &sheet_tasks, &items, width);
	}
	free(items.list);
}

/* A long list is worth reading for what is not idle. */
static void put_queues(struct pen *pen, const json_t *status, size_t width, bool all)
{
	enum { LONG = 20 };
	struct reply_list queues = reply_list(status, "queues");
	struct items items = { 0 };
	for (size_t i = 0; i < queues.n; i++) {
		const json_t *queue = reply_item(&queues, i);
		if (!all && queues.n > LONG && sheet_queue_is_idle(queue))
			items.left_out++;
		else
			items_add(&items, queue);
	}
	end_line(pen);
	if (queues.n == 0)
		pen->put(pen, TINT_WARN, "no queues are configured\n");
	if (items.n > 0)
		put_items(pen, &sheet_queues, &items, width);
	put_left_out(pen, &items, "idle queue");
	for (size_t i = 0; all && i < queues.n; i++)
		put_tasks(pen, reply_item(&queues, i), width);
	free(items.list);
}

static int oldest_first(const void *a, const void *b)
{
	double left = reply_real(*(const json_t *const *)a, "job.age_s");
	double right = reply_real(*(const json_t *const *)b, "job.age_s");
	if (isnan(left) || isnan(right))
		return isnan(left) - isnan(right);
	return (left < right) - (left > right);
}

/* "5 of 12 worker threads busy": the list has the busy ones alone, and of very many not all. */
static void put_thread_counts(struct pen *pen, const json_t *status)
{
	char busy[FIGURE_SIZE], total[FIGURE_SIZE];
	double n = reply_real(status, "threads_total");
	pen_put(pen, TINT_STRONG, "\n%s of %s worker thread%s busy\n",
	    figure_count(reply_real(status, "threads_busy"), busy), figure_count(n, total),
	    n == 1 ? "" : "s");
}

/* The oldest jobs are those that somebody waits for. */
static void put_threads(struct pen *pen, const json_t *status, size_t width, bool all)
{
	enum { MOST = 20 };
	struct reply_list threads = reply_list(status, "threads");
	struct items items = { 0 };
	for (size_t i = 0; i < threads.n; i++)
		items_add(&items, reply_item(&threads, i));
	put_thread_counts(pen, status);
	if (items.n > 0)
		qsort(items.list, items.n, sizeof(*items.list), oldest_first);
	if (!all && items.n > MOST) {
		items.left_out = items.n - MOST;
		items.n = MOST;
	}
	if (items.n > 0)
		put_items(pen, &sheet_threads, &items, width);
	put_left_out(pen, &items, "busy thread");
	free(items.list);
}

static void put_workers(struct pen *pen, const json_t *status, size_t width)
{
	struct reply_list workers = reply_list(status, "workers");
	struct items items = { 0 };
	for (size_t i = 0; i < workers.n; i++)
		items_add(&items, reply_item(&workers, i));
	if (items.n > 0) {
		end_line(pen);
		put_items(pen, &sheet_workers, &items, width);
	}
	free(items.list);
}

void screen_put_status(struct pen *pen, const json_t *status, size_t width, bool all)
{
	screen_put_verdict(pen, status);
	screen_put_problems(pen, status, width);
	screen_put_healed(pen, status, width);
	screen_put_facts(pen, status, width);
	put_totals(pen, status, width);
	put_connections(pen, status, width);
	put_queues(pen, status, width, all);
	put_threads(pen, status, width, all);
	put_workers(pen, status, width);
}

/* ---- all of one object ---- */

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);
	return n > m && strcmp(name + n - m, end) == 0;
}

/* A member's name says its unit. */
static char *show_member(const char *name, const json_t *value)
{
	if (json_is_string(value))
		return pen_safe(
		    (struct bytes){ json_string_value(value), json_string_length(value) });
	if (json_is_boolean(value))
		return xstrdup(json_is_true(value) ? "yes" : "no");
	if (!json_is_number(value))
		return xstrdup("-");
	double n = json_number_value(value);
	if (ends_in(name, "_s"))
		return sheet_number(n, FIGURE_TIME);
	if (ends_in(name, "_bytes"))
		return sheet_number(n, FIGURE_BYTES);
	return json_is_integer(value)
		   ? xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value))
		   : sheet_number(n, FIGURE_RATE);
}

/* "run p95": the names on the way to the value, without units. */
static char *show_name(const char *above, const char *name)
{
	char *safe = pen_safe(bytes_of(name));
	size_t n = strlen(safe);
	if (ends_in(safe, "_s"))
		n -= 2;
	else if (ends_in(safe, "_bytes"))
		n -= 6;
	char *shown = xasprintf("%s%s%.*s", above, *above ? " " : "", (int)n, safe);
	for (char *p = shown; *p; p++)
		*p = *p == '_' ? ' ' : *p;
	free(safe);
	return shown;
}

static void put_member(struct pen *pen, const char *name, const char *value, size_t width)
{
	enum { COLUMNS = 22 };
	char *left = pen_fit(name, COLUMNS - 2);
	char *right = pen_fit(value, width > COLUMNS ? width - COLUMNS : 1);
	pen->put(pen, TINT_FAINT, left);
	pen_pad(pen, COLUMNS - pen_width(left));
	pen->put(pen, TINT_PLAIN, right);
	end_line(pen);
	free(left);
	free(right);
}

/* Lists have a table of their own. */
static void put_members(struct pen *pen, const char *above, const json_t *object, size_t width)
{
	const json_t *value;
	const char *name;
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		char *shown = show_name(above, name);
		if (json_is_object(value) && !*above) {
			put_members(pen, shown, value, width);
		} else if (!json_is_array(value) && !json_is_object(value)) {
			char *text = show_member(name, value);
			put_member(pen, shown, text, width);
			free(text);
		}
		free(shown);
	}
}

void screen_put_detail(struct pen *pen, const json_t *object, size_t width)
{
	put_members(pen, "", object, width);
	put_tasks(pen, object, width);
}
