/* Rules that find what is not as configured, and the memory of what they found. */
#include "trouble.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "clock.h"
#include "remedy.h"
#include "text.h"

enum { CRASH_LOOP = 5 }; /* failures in a row */

#define GRACE_NS (5 * NS_PER_S)   /* what is still being built is no trouble for so long */
#define BUSY_NS (300 * NS_PER_S)  /* all threads of a queue, without a break */
#define DRAIN_NS (300 * NS_PER_S) /* who finishes what runs for longer is worth a word */
#define PAST_NS NS_PER_S          /* a job is asked to end at its limit, and may need a moment */

struct finder {
	const struct view *view;
	struct trouble *list;
	size_t n, max;
	bool short_of_memory;
};

static const char *print(struct finder *f, const char *fmt, ...) PRINTF_LIKE(2, 3);

static const char *print(struct finder *f, const char *fmt, ...)
{
	va_list args;
	char *text = NULL;
	int len;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len >= 0)
		text = arena_alloc(f->view->arena, (size_t)len + 1);
	if (!text) {
		f->short_of_memory = true;
		return "";
	}
	va_start(args, fmt);
	(void)vsnprintf(text, (size_t)len + 1, fmt, args);
	va_end(args);
	return text;
}

/* As people say it: "45s", "5m", "2h10m". */
static const char *duration(struct finder *f, int64_t ns)
{
	long long s = ns / NS_PER_S;

	if (s < 120)
		return print(f, "%llds", s);
	if (s < 7200)
		return print(f, "%lldm", s / 60);
	return print(f, "%lldh%lldm", s / 3600, s / 60 % 60);
}

static void add(struct finder *f, const struct trouble *trouble)
{
	struct trouble *grown;

	if (f->n == f->max) {
		grown = arena_zalloc(f->view->arena, 2 * f->max + 8, sizeof(*grown));
		if (!grown) {
			f->short_of_memory = true;
			return;
		}
		if (f->n > 0)
			memcpy(grown, f->list, f->n * sizeof(*grown));
		f->list = grown;
		f->max = 2 * f->max + 8;
	}
	grown = &f->list[f->n++];
	*grown = *trouble;
	if (grown->since_ns <= 0 || grown->since_ns > f->view->now_ns)
		grown->since_ns = f->view->now_ns;
}

static bool is_older(const struct finder *f, int64_t since_ns, int64_t ns)
{
	return f->view->now_ns - since_ns > ns;
}

/* ---- the broker ---- */

/* Of a process that does the work; others come and go. */
static bool counts(const struct view_conn *conn)
{
	return conn->owner->current && conn->owner->stands && slot_is_at_work(conn->owner->state);
}

/* With several brokers the next one is tried each time: the trouble is one, whichever it was. */
static const char *broker_name(struct finder *f, const struct view_conn *conn)
{
	return f->view->n_brokers == 1 ? print(f, "broker %s", conn->broker) : "brokers";
}

static const char *tried(struct finder *f, const struct view_conn *conn)
{
	return f->view->n_brokers == 1 ? "" : print(f, " to %s", conn->broker);
}

static bool is_down(const struct finder *f, const struct view_conn *conn)
{
	return conn->state == BOARD_DOWN &&
	       (conn->error[0] || is_older(f, conn->since_ns, GRACE_NS));
}

static void find_lost_connections(struct finder *f)
{
	const struct view_conn *worst = NULL;
	unsigned down = 0, all = 0;

	for (size_t i = 0; i < f->view->n_conns; i++) {
		const struct view_conn *conn = &f->view->conns[i];

		if (!counts(conn))
			continue;
		all++;
		if (!is_down(f, conn))
			continue;
		down++;
		if (!worst || conn->since_ns < worst->since_ns)
			worst = conn;
	}
	if (!worst)
		return;
	const struct trouble trouble = {
		.subject = broker_name(f, worst),
		.what = "no connection",
		.severity = TROUBLE_ERROR,
		.why = print(f, "%s (\"%s\" of worker %s%s; %u of %u connections are down)",
		    worst->error[0] ? worst->error : "no answer yet", view_conn_word(worst->which),
		    worst->owner->worker, tried(f, worst), down, all),
		.remedy = remedy_of_connection(worst->error),
		.since_ns = worst->since_ns,
		.next_try_ns = worst->retry_at_ns,
	};

	add(f, &trouble);
}

static const struct view_conn *blocked_connection(const struct view *view)
{
	for (size_t i = 0; i < view->n_conns; i++)
		if (counts(&view->conns[i]) && view->conns[i].state == BOARD_BLOCKED)
			return &view->conns[i];
	return NULL;
}

static void find_alarm(struct finder *f)
{
	const struct view_conn *conn = blocked_connection(f->view);

	if (!conn)
		return;
	const struct trouble trouble = {
		.subject = broker_name(f, conn),
		.what = "takes no messages",
		.severity = TROUBLE_ERROR,
		.why = print(f, "its alarm: %s; %s", conn->error,
		    "jobs with replies, retries or dead letters wait, others go on"),
		.remedy = remedy_of_alarm(conn->error),
		.since_ns = conn->since_ns,
	};

	add(f, &trouble);
}

/* Why the queues that retries wait in are not all there; NULL: they are. */
static const char *ladder_error(const struct finder *f)
{
	static const char mark[] = "delay ladder: ";

	for (size_t i = 0; i < f->view->n_conns; i++) {
		const struct view_conn *conn = &f->view->conns[i];

		if (counts(conn) && conn->state == BOARD_UP && conn->which == BOARD_WORK &&
		    strncmp(conn->error, mark, sizeof(mark) - 1) == 0)
			return conn->error + sizeof(mark) - 1;
	}
	return NULL;
}

static const char ladder_remedy[] =
    "let the broker's user declare what begins with \"warren.\", or delete what is there with "
    "other properties";

static void find_ladder(struct finder *f)
{
	const char *error = ladder_error(f);
	const struct trouble trouble = {
		.subject = "delay ladder",
		.what = "not as wanted",
		.severity = TROUBLE_WARNING,
		.why = error,
		.remedy = ladder_remedy,
	};

	if (error)
		add(f, &trouble);
}

/* ---- queues ---- */

static const char *queue_name(struct finder *f, const struct view_queue *queue)
{
	return print(f, "queue %s", queue->queue);
}

static bool somebody_leaves(const struct view *view)
{
	for (size_t i = 0; i < view->n_workers; i++)
		if (view->workers[i].state == SLOT_DRAINING ||
		    view->workers[i].state == SLOT_STOPPING)
			return true;
	return false;
}

static void find_waiting(struct finder *f, const struct view_queue *queue)
{
	/* What it needs besides, its dead-letter queue, say, is not there, but its jobs run. */
	bool consumes = queue->consumers >= queue->threads;
	const struct trouble trouble = {
		.subject = queue_name(f, queue),
		.what = consumes ? "lacks something" : "not consuming",
		.severity = consumes ? TROUBLE_WARNING : TROUBLE_ERROR,
		.why = print(f, "%s (%u of %u threads consume)", queue->text, queue->consumers,
		    queue->threads),
		.remedy = remedy_of_queue(queue->code, queue->text, queue->declare),
		.since_ns = queue->since_ns,
		.next_try_ns = queue->retry_at_ns,
	};

	add(f, &trouble);
}

/* During a reload that is as it should be: the old process lets go of it when its jobs are done. */
static void find_held(struct finder *f, const struct view_queue *queue)
{
	bool ours = somebody_leaves(f->view);

	const struct trouble trouble = {
		.subject = queue_name(f, queue),
		.what = "held by another connection",
		.severity = ours ? TROUBLE_WARNING : TROUBLE_ERROR,
		.why = queue->text,
		.remedy = ours ? "none: a worker process that leaves still has this exclusive queue"
			       : remedy_of_queue(405, queue->text, queue->declare),
		.since_ns = queue->since_ns,
		.next_try_ns = queue->retry_at_ns,
	};

	add(f, &trouble);
}

static void find_slow_build(struct finder *f, const struct view_queue *queue)
{
	const char *ladder = ladder_error(f);

	if (!queue->connected || !is_older(f, queue->since_ns, GRACE_NS))
		return; /* the connection's trouble, or none yet */
	const struct trouble trouble = {
		.subject = queue_name(f, queue),
		.what = "not consuming",
		.severity = TROUBLE_ERROR,
		.why = print(f, "%s%s (%u of %u threads consume)",
		    ladder ? "it needs the delay ladder: "
			   : "the broker has not confirmed all consumers",
		    ladder ? ladder : "", queue->consumers, queue->threads),
		.remedy = ladder
			      ? ladder_remedy
			      : "see whether the broker is overloaded: rabbitmq-diagnostics status",
		.since_ns = queue->since_ns,
	};

	add(f, &trouble);
}

static void find_paused(struct finder *f, const struct view_queue *queue)
{
	const struct trouble trouble = {
		.subject = queue_name(f, queue),
		.what = "paused",
		.severity = TROUBLE_WARNING,
		.why = "an operator has paused it",
		.remedy = print(f, "warren resume %s", queue->queue),
		.since_ns = queue->state == BOARD_PAUSED ? queue->since_ns : 0,
	};

	add(f, &trouble);
}

static void find_busy(struct finder *f, const struct view_queue *queue)
{
	if (!queue->busy_since_ns || !is_older(f, queue->busy_since_ns, BUSY_NS))
		return;
	const struct trouble trouble = {
		.subject = queue_name(f, queue),
		.what = "all threads busy",
		.severity = TROUBLE_WARNING,
		.why = print(f, "%u of %u threads busy for %s, %lld messages ready", queue->running,
		    queue->threads, duration(f, f->view->now_ns - queue->busy_since_ns),
		    (long long)queue->ready),
		.remedy = print(
		    f, "see what runs: warren top; more threads: warren scale %s N", queue->queue),
		.since_ns = queue->busy_since_ns,
	};

	add(f, &trouble);
}

static void find_queues(struct finder *f)
{
	for (size_t i = 0; i < f->view->n_queues; i++) {
		const struct view_queue *queue = &f->view->queues[i];

		if (!queue->configured)
			continue;
		if (queue->paused)
			find_paused(f, queue);
		else if (queue->state == BOARD_WAITING)
			find_waiting(f, queue);
		else if (queue->state == BOARD_HELD)
			find_held(f, queue);
		else if (queue->state == BOARD_BUILDING)
			find_slow_build(f, queue);
		find_busy(f, queue);
	}
}

/* ---- jobs ---- */

static bool is_given_up(const struct view_thread *thread)
{
	return thread->job && (thread->state == ROW_GIVEN_UP || thread->state == ROW_STUCK);
}

static bool is_stuck(const struct finder *f, const struct view_thread *thread)
{
	const struct view_job *job = thread->job;

	return is_given_up(thread) ||
	       (job && thread->state == ROW_RUNNING && job->deadline_ns != CLOCK_NEVER &&
		   is_older(f, job->deadline_ns, PAST_NS));
}

static bool is_first_of_task(const struct finder *f, size_t place)
{
	for (size_t i = 0; i < place; i++)
		if (is_stuck(f, &f->view->threads[i]) &&
		    strcmp(f->view->threads[i].job->task, f->view->threads[place].job->task) == 0)
			return false;
	return true;
}

static const char overdue_remedy[] =
    "wait: it was asked to end, and is given up after kill_after; if it needs longer, raise "
    "time_limit";
static const char given_up_remedy[] =
    "correct the task: it heeds no request to end, \"warren cancel\" neither; its message is "
    "settled and its process replaced";

static void add_stuck_task(struct finder *f, size_t place)
{
	const struct view *v = f->view;
	const struct view_thread *oldest = &v->threads[place];
	unsigned n = 0;

	for (size_t i = place; i < v->n_threads; i++) {
		const struct view_thread *thread = &v->threads[i];

		if (!is_stuck(f, thread) || strcmp(thread->job->task, oldest->job->task) != 0)
			continue;
		n++;
		if (thread->job->started_ns < oldest->job->started_ns)
			oldest = thread;
	}
	const struct trouble trouble = {
		.subject = print(f, "task %s", oldest->job->task),
		.what = "does not return",
		.severity = TROUBLE_WARNING,
		.why = print(f, "job %s of queue %s runs for %s, past its time limit%s; %u in all",
		    oldest->job->id, oldest->queue,
		    duration(f, v->now_ns - oldest->job->started_ns),
		    is_given_up(oldest) ? ", and was given up" : "", n),
		.remedy = is_given_up(oldest) ? given_up_remedy : overdue_remedy,
		.since_ns = oldest->job->deadline_ns != CLOCK_NEVER ? oldest->job->deadline_ns
								    : oldest->job->started_ns,
	};

	add(f, &trouble);
}

static void find_stuck_tasks(struct finder *f)
{
	for (size_t i = 0; i < f->view->n_threads; i++)
		if (is_stuck(f, &f->view->threads[i]) && is_first_of_task(f, i))
			add_stuck_task(f, i);
}

static void find_quarantine(struct finder *f)
{
	if (f->view->doubtful == 0)
		return;
	const struct trouble trouble = {
		.subject = "quarantine",
		.what = "messages under suspicion",
		.severity = TROUBLE_WARNING,
		.why = print(f, "%u may have brought a worker process down; each runs alone now",
		    f->view->doubtful),
		.remedy = "none yet: event=job.suspect in the log names them",
	};

	add(f, &trouble);
}

static void find_crashers(struct finder *f)
{
	if (f->view->crashers == 0)
		return;
	const struct trouble trouble = {
		.subject = "messages",
		.what = "bring worker processes down",
		.severity = TROUBLE_WARNING,
		.why = print(
		    f, "%u did, and run again until crash_limit is reached", f->view->crashers),
		.remedy = "correct the task that event=job.suspect in the log names",
	};

	add(f, &trouble);
}

/* ---- worker processes ---- */

static const char *last_end(struct finder *f, const struct view_worker *w)
{
	const char *name = w->end_signal ? sigabbrev_np(w->end_signal) : NULL;

	if (!w->has_ended)
		return w->why;
	if (w->end_signal)
		return print(f, "its process ended by signal %s", name ? name : "of no name");
	return print(f, "its process ended with exit code %d%s%s", w->end_code,
	    w->why[0] ? ": " : "", w->why);
}

static bool is_refused(const struct view_worker *w)
{
	return w->why[0] && w->state == SLOT_BACKOFF && w->has_ended && !w->end_signal &&
	       (w->end_code == EXIT_CONFIG || w->end_code == EXIT_REFUSED);
}

/* Who has run for a while, or done anything, is over it. */
static bool is_in_crash_loop(const struct finder *f, const struct view_worker *w)
{
	return w->failures >= CRASH_LOOP &&
	       (w->state == SLOT_BACKOFF || w->state == SLOT_FAILING ||
		   (w->jobs == 0 && !is_older(f, w->spawned_ns, SLOT_STABLE_NS)));
}

static void add_worker(struct finder *f, const struct view_worker *w, const char *what,
    const char *why, const char *remedy)
{
	const struct trouble trouble = {
		.subject = print(f, "worker %s", w->worker),
		.what = what,
		.severity = w->quarantine ? TROUBLE_WARNING : TROUBLE_ERROR,
		.why = why,
		.remedy = remedy,
		.since_ns = w->since_ns,
		.next_try_ns = w->start_at_ns,
	};

	add(f, &trouble);
}

static void find_workers(struct finder *f)
{
	for (size_t i = 0; i < f->view->n_workers; i++) {
		const struct view_worker *w = &f->view->workers[i];

		if (!w->current || !w->stands)
			continue;
		if (is_refused(w))
			add_worker(
			    f, w, "refuses to start", w->why, "correct what it names, then reload");
		else if (is_in_crash_loop(f, w))
			add_worker(f, w, "in a crash loop",
			    print(f, "%s; %u times in a row before it had finished a job",
				last_end(f, w), w->failures),
			    "see the log before event=worker.exited; a plugin is the likely cause");
		else if (w->state == SLOT_BACKOFF && w->failures > 0)
			add_worker(f, w, "waits to be started again", last_end(f, w),
			    "see the log before event=worker.exited");
	}
}

/* Whatever else keeps a worker from consuming: none of them may be missing without a word. */
static void find_rest(struct finder *f)
{
	const struct view *v = f->view;

	for (size_t i = 0; i < f->n; i++)
		if (f->list[i].severity == TROUBLE_ERROR)
			return;
	for (size_t i = 0; i < v->n_workers && v->state != VIEW_STARTING; i++) {
		const struct view_worker *w = &v->workers[i];

		if (w->current && w->stands && !w->quarantine && w->state != SLOT_CONSUMING &&
		    is_older(f, w->since_ns, GRACE_NS))
			add_worker(f, w, "not consuming",
			    w->why[0] ? w->why : print(f, "it is %s", view_worker_word(w->state)),
			    "see what its lines in the log say");
	}
}

/* ---- changes ---- */

static void find_failed_reload(struct finder *f)
{
	const struct view *v = f->view;
	bool refused = v->reload == RELOAD_REFUSED;

	if (!refused && v->reload != RELOAD_ROLLED_BACK)
		return;
	const struct trouble trouble = {
		.subject = "configuration",
		.what = refused ? "reload refused" : "reload rolled back",
		.severity = TROUBLE_WARNING,
		.why = print(f, "%s; generation %u goes on", v->reload_why, v->generation),
		.remedy = print(f, "correct it (warrend -t -c %s), then reload", v->config),
		.since_ns = v->reload_at_ns,
	};

	add(f, &trouble);
}

static bool drains_long(const struct finder *f, const struct view_worker *w)
{
	return w->state == SLOT_DRAINING && is_older(f, w->since_ns, DRAIN_NS);
}

static void find_long_drain(struct finder *f)
{
	const struct view_worker *longest = NULL;
	unsigned n = 0;

	for (size_t i = 0; i < f->view->n_workers; i++) {
		const struct view_worker *w = &f->view->workers[i];

		if (!drains_long(f, w))
			continue;
		n++;
		if (!longest || w->since_ns < longest->since_ns)
			longest = w;
	}
	if (!longest)
		return;
	const struct trouble trouble = {
		.subject = "old worker processes",
		.what = "still finish what they run",
		.severity = TROUBLE_WARNING,
		.why = print(f, "%u of them, the longest (pid %d, generation %u) for %s", n,
		    (int)longest->pid, longest->generation,
		    duration(f, f->view->now_ns - longest->since_ns)),
		.remedy =
		    "see what they run (warren status); \"warren cancel JOB\" asks a job to end",
		.since_ns = longest->since_ns,
	};

	add(f, &trouble);
}

/* ---- all of them ---- */

typedef void find_rule(struct finder *f);

static find_rule *const rules[] = {
	find_lost_connections, find_alarm, find_workers, find_queues, find_stuck_tasks,
	find_quarantine, find_crashers, find_ladder, find_failed_reload, find_long_drain,
	find_rest, /* the last one: it looks at what the others found */
};

/* Errors first, else in the order in which they were found. */
static void sort(struct finder *f, struct trouble *sorted)
{
	size_t n = 0;

	for (int severity = TROUBLE_ERROR; severity >= TROUBLE_WARNING; severity--)
		for (size_t i = 0; i < f->n; i++)
			if ((int)f->list[i].severity == severity)
				sorted[n++] = f->list[i];
}

bool trouble_find(struct view *view)
{
	struct finder f = { .view = view };
	struct trouble *sorted;

	for (size_t i = 0; i < ARRAY_LEN(rules) && view->state != VIEW_STOPPING; i++)
		rules[i](&f);
	sorted = arena_zalloc(view->arena, f.n, sizeof(*sorted));
	if (!sorted || f.short_of_memory)
		return false;
	sort(&f, sorted);
	view->troubles = sorted;
	view->n_troubles = f.n;
	view->ready = (view->state == VIEW_RUNNING || view->state == VIEW_RELOADING) &&
		      (f.n == 0 || sorted[0].severity != TROUBLE_ERROR);
	return true;
}

/* ---- memory ---- */

/* Cut at whole characters, where it is too long at all. */
static void copy_text(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	if (len >= size)
		len = size - 1;
	while (!text_is_utf8((struct bytes){ from, len }))
		len--;
	memcpy(to, from, len);
	to[len] = '\0';
}

static struct trouble_name name_of(const struct trouble *trouble)
{
	struct trouble_name name = { 0 };

	copy_text(name.subject, sizeof(name.subject), trouble->subject);
	copy_text(name.what, sizeof(name.what), trouble->what);
	return name;
}

/* Its place; n_open where it is not among them. */
static size_t find_open(const struct trouble_memory *memory, const struct trouble *trouble)
{
	const struct trouble_name name = name_of(trouble);
	size_t i = 0;

	while (i < memory->n_open && (strcmp(memory->open[i].name.subject, name.subject) != 0 ||
					 strcmp(memory->open[i].name.what, name.what) != 0))
		i++;
	return i;
}

static void begin(struct trouble_memory *memory, const struct trouble *trouble)
{
	if (memory->n_open == TROUBLES_OPEN)
		return;
	log_event(trouble->severity == TROUBLE_ERROR ? LOG_ERROR : LOG_WARN, "trouble.began",
	    L_STR("subject", trouble->subject), L_STR("what", trouble->what),
	    L_STR("why", trouble->why), L_STR("remedy", trouble->remedy));
	memory->open[memory->n_open++] = (struct open_trouble){
		.name = name_of(trouble),
		.began_ns = trouble->since_ns,
		.seen = true,
	};
}

static void heal(struct trouble_memory *memory, size_t place, int64_t now_ns)
{
	struct open_trouble open = memory->open[place];

	memory->open[place] = memory->open[--memory->n_open];
	log_event(LOG_INFO, "trouble.healed", L_STR("subject", open.name.subject),
	    L_STR("what", open.name.what), L_NS("lasted", now_ns - open.began_ns));
	memmove(&memory->healed[1], &memory->healed[0],
	    (TROUBLES_HEALED - 1) * sizeof(memory->healed[0]));
	memory->healed[0] = (struct healed){ open.name, open.began_ns, now_ns };
	memory->n_healed += memory->n_healed < TROUBLES_HEALED;
}

void trouble_tick(struct trouble_memory *memory, const struct view *view)
{
	if (view->state == VIEW_STOPPING)
		return;
	for (size_t i = 0; i < memory->n_open; i++)
		memory->open[i].seen = false;
	for (size_t i = 0; i < view->n_troubles; i++) {
		size_t place = find_open(memory, &view->troubles[i]);

		if (place < memory->n_open)
			memory->open[place].seen = true;
		else
			begin(memory, &view->troubles[i]);
	}
	for (size_t i = memory->n_open; i-- > 0;)
		if (!memory->open[i].seen)
			heal(memory, i, view->now_ns);
}

void trouble_recall(const struct trouble_memory *memory, struct view *view)
{
	for (size_t i = 0; i < view->n_troubles; i++) {
		struct trouble *trouble = &view->troubles[i];
		size_t place = find_open(memory, trouble);

		if (place < memory->n_open && memory->open[place].began_ns < trouble->since_ns)
			trouble->since_ns = memory->open[place].began_ns;
	}
	view->healed = memory->healed;
	view->n_healed = memory->n_healed;
}

/* ---- for people ---- */

static void put_line(FILE *out, const struct trouble *trouble)
{
	const char *const parts[] = { trouble->subject, trouble->what, trouble->why,
		trouble->remedy };
	static const char *const before[] = { ": ", ": ", ": ", "; remedy: " };

	fputs(trouble->severity == TROUBLE_ERROR ? "error" : "warning", out);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		fputs(before[i], out);
		text_print(parts[i], out);
	}
	fputc('\n', out);
}

char *trouble_text(const struct view *view)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	if (view->state == VIEW_STARTING || view->state == VIEW_STOPPING)
		fprintf(out, "%s\n", view_state_word(view->state));
	for (size_t i = 0; i < view->n_troubles; i++)
		put_line(out, &view->troubles[i]);
	return text_finish(out, &text);
}
