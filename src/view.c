/* Gathers a view. One that cannot be whole, because memory is short, is none. */
#include "view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "clock.h"
#include "text.h"

#define CRASH_NEWS_NS                                                                              \
	(600 * NS_PER_S) /* a message that crashed its worker is worth a word so long */

enum { GENERATIONS = 3 }; /* of a crew, at most */

/* A thread that may get into the view. */
struct candidate {
	uint32_t worker, thread; /* of view->workers; its row */
	int64_t rank;            /* the lower, the more it is worth to be shown */
};

/* A view in the making. */
struct maker {
	const struct view_subject *subject;
	enum view_threads threads; /* that are wanted */
	struct view *view;
	const struct worker **crew;          /* whom view->workers are about */
	bool (*is_up)[BOARD_CONNECTIONS];    /* their connections */
	struct generation *all[GENERATIONS]; /* NULL where there is none */
	/* By their place in the configuration; NULL until one is asked for. */
	struct view_queue **queues[GENERATIONS];
	size_t max_queues;
	size_t found; /* the queue that was found last */
	struct candidate *candidates;
	size_t n_candidates, max_candidates;
	bool short_of_memory;
};

/* Cleared; NULL when memory is short. */
static void *take(struct maker *m, size_t n, size_t size)
{
	void *p = arena_zalloc(m->view->arena, n, size);

	m->short_of_memory |= !p;
	return p;
}

/* Room for one more in a list of the arena; false when memory is short. */
static bool make_room(struct maker *m, void **list, size_t n, size_t *max, size_t size)
{
	size_t more = 2 * n + 2;
	void *grown;

	if (n < *max)
		return true;
	grown = take(m, more, size);
	if (!grown)
		return false;
	if (n > 0)
		memcpy(grown, *list, n * size);
	*list = grown;
	*max = more;
	return true;
}

/* As it stands where that is valid UTF-8, else an escaped copy. */
static const char *clean(struct maker *m, const char *s)
{
	size_t room = 4 * strlen(s) + 4;
	char *copy;

	if (text_is_utf8(bytes_of(s)))
		return s;
	copy = arena_alloc(m->view->arena, room);
	m->short_of_memory |= !copy;
	if (copy)
		(void)text_escape(bytes_of(s), copy, room);
	return copy ? copy : "";
}

/* A copy that is valid UTF-8. */
static const char *keep(struct maker *m, const char *s)
{
	const char *text = clean(m, s);
	char *copy;

	if (text != s || !*s)
		return text != s ? text : "";
	copy = arena_dup(m->view->arena, s, strlen(s));
	m->short_of_memory |= !copy;
	return copy ? copy : "";
}

/* ---- workers ---- */

static bool is_there(const struct worker *w)
{
	return w->slot.state != SLOT_DOWN;
}

static size_t count_workers(struct crew *crew)
{
	size_t n = 0;

	for (struct worker *w = NULL; (w = crew_after(crew, w));)
		n += is_there(w);
	return n;
}

static const char *name_worker(struct maker *m, const struct worker *w)
{
	char number[16];

	if (w->post == w->generation->n_workers)
		return "quarantine";
	(void)snprintf(number, sizeof(number), "%u", w->post);
	return keep(m, number);
}

static void gather_worker(struct maker *m, const struct worker *w, struct view_worker *out)
{
	const struct slot *slot = &w->slot;

	*out = (struct view_worker){
		.worker = name_worker(m, w),
		.quarantine = w->post == w->generation->n_workers,
		.current = w->generation == m->subject->crew->current,
		.pid = w->child.pid,
		.generation = w->generation->number,
		.state = slot->state,
		.spawned_ns = slot->spawned_ns,
		.since_ns = w->since_ns,
		.start_at_ns = slot->state == SLOT_BACKOFF ? slot->deadline_ns : 0,
		.memory_bytes = w->child.pid > 0 ? child_memory(w->child.pid) : 0,
		.jobs = score_finished(w->generation->score, w->place),
		.failures = slot->failures,
		.has_ended = w->has_ended,
		.end_code = w->end.code,
		.end_signal = w->end.signal,
		.why = keep(m, w->why),
	};
}

/* Who leaves does not stand at a post. */
static int standing(enum slot_state state)
{
	static const int ranks[SLOT_STATES] = {
		[SLOT_CONSUMING] = 5,
		[SLOT_LOADED] = 4,
		[SLOT_STARTING] = 3,
		[SLOT_BACKOFF] = 2,
		[SLOT_FAILING] = 1,
	};

	return ranks[state];
}

/* Places of one post are neighbours. */
static void find_standing(struct maker *m)
{
	for (size_t i = 0; i < m->view->n_workers;) {
		size_t best = i, next = i;

		for (; next < m->view->n_workers &&
		       m->crew[next]->generation == m->crew[i]->generation &&
		       m->crew[next]->post == m->crew[i]->post;
		     next++)
			if (standing(m->view->workers[next].state) >
			    standing(m->view->workers[best].state))
				best = next;
		m->view->workers[best].stands = standing(m->view->workers[best].state) > 0;
		i = next;
	}
}

static void gather_workers(struct maker *m)
{
	struct view *v = m->view;
	size_t max = count_workers(m->subject->crew);

	v->workers = take(m, max, sizeof(*v->workers));
	m->crew = take(m, max, sizeof(const struct worker *));
	if (m->short_of_memory)
		return;
	for (struct worker *w = NULL; (w = crew_after(m->subject->crew, w));) {
		if (!is_there(w))
			continue;
		m->crew[v->n_workers] = w;
		gather_worker(m, w, &v->workers[v->n_workers++]);
	}
	find_standing(m);
}

/* ---- connections ---- */

static void gather_conn(struct maker *m, size_t worker, enum board_which which)
{
	const struct worker *w = m->crew[worker];
	struct board_conn conn;

	if (!board_read_conn(score_conn(w->generation->score, w->place, which), &conn))
		return;
	m->is_up[worker][which] = conn.state == BOARD_UP;
	m->view->conns[m->view->n_conns++] = (struct view_conn){
		.owner = &m->view->workers[worker],
		.which = which,
		.state = (enum board_conn_state)conn.state,
		.since_ns = conn.since_ns,
		.retry_at_ns = conn.retry_at_ns,
		.error_at_ns = conn.error_at_ns,
		.broker = keep(m, conn.broker),
		.product = keep(m, conn.product),
		.error = keep(m, conn.error),
	};
}

static void gather_conns(struct maker *m)
{
	struct view *v = m->view;

	v->conns = take(m, v->n_workers * BOARD_CONNECTIONS, sizeof(*v->conns));
	m->is_up = take(m, v->n_workers, sizeof(*m->is_up));
	for (size_t i = 0; i < v->n_workers && !m->short_of_memory; i++)
		for (enum board_which which = 0; which < BOARD_CONNECTIONS; which++)
			gather_conn(m, i, which);
}

/* ---- queues ---- */

static struct view_queue *add_queue(struct maker *m, const char *label)
{
	struct view_queue *queue = &m->view->queues[m->view->n_queues];

	CHECK(m->view->n_queues < m->max_queues);
	m->found = m->view->n_queues++;
	queue->queue = keep(m, label);
	queue->ready = queue->dead = -1;
	queue->text = "";
	queue->rate = history_rate(m->subject->history, label);
	queue->busy_since_ns = history_busy_since(m->subject->history, queue->queue);
	return queue;
}

/* They are asked for in their order mostly: begins with the one that was found last. */
static struct view_queue *find_queue(struct maker *m, const char *label)
{
	const char *name = clean(m, label);
	size_t n = m->view->n_queues;

	for (size_t i = 0; i < n; i++) {
		size_t at = (m->found + i) % n;

		if (strcmp(m->view->queues[at].queue, name) == 0) {
			m->found = at;
			return &m->view->queues[at];
		}
	}
	return add_queue(m, label);
}

/* The queue that a generation's configuration has at this place. */
static struct view_queue *queue_at(struct maker *m, const struct generation *g, size_t place)
{
	size_t i = 0;

	while (m->all[i] != g)
		CHECK(++i < GENERATIONS);
	if (!m->queues[i][place])
		m->queues[i][place] = find_queue(m, g->snapshot.conf->queues[place].label);
	return m->queues[i][place];
}

static struct view_task *find_task(struct maker *m, struct view_queue *queue, const char *task)
{
	const char *name = clean(m, task);
	void *list = queue->tasks;

	for (size_t i = 0; i < queue->n_tasks; i++)
		if (strcmp(queue->tasks[i].task, name) == 0)
			return &queue->tasks[i];
	if (!make_room(m, &list, queue->n_tasks, &queue->max_tasks, sizeof(*queue->tasks)))
		return NULL;
	queue->tasks = list;
	queue->tasks[queue->n_tasks].task = keep(m, task);
	return &queue->tasks[queue->n_tasks++];
}

static const char *name_route(struct maker *m, const struct conf_queue *conf)
{
	char *text;

	switch (conf->route) {
	case ROUTE_TASK:
		return NULL;
	case ROUTE_TYPE:
		return "type";
	case ROUTE_ROUTING_KEY:
		return "routing_key";
	case ROUTE_HEADER:
		break;
	}
	text = arena_printf(m->view->arena, "header:%s", keep(m, conf->route_header));
	m->short_of_memory |= !text;
	return text;
}

static unsigned threads_wanted(const struct generation *g, const struct conf_queue *conf)
{
	unsigned each = atomic_load(&score_wish(g->score, (uint32_t)conf->index)->threads);

	if (each > CONF_THREADS_MAX)
		each = CONF_THREADS_MAX;
	return conf->exclusive ? each : each * g->n_workers;
}

static void configure_queue(
    struct maker *m, const struct generation *g, const struct conf_queue *conf)
{
	struct view_queue *queue = queue_at(m, g, conf->index);

	queue->configured = true;
	queue->ack = !conf->no_ack;
	queue->declare = conf->declare;
	queue->route = name_route(m, conf);
	queue->threads = threads_wanted(g, conf);
	queue->paused = atomic_load(&score_wish(g->score, (uint32_t)conf->index)->paused) != 0;
	if (conf->route != ROUTE_TASK)
		return;
	queue->task = keep(m, conf->task);
	(void)find_task(
	    m, queue, conf->task); /* its counters begin with 0, and not with the first job */
}

/* How bad it is that a process says so of a queue. */
static int badness(enum board_source_state state, bool connected)
{
	switch (state) {
	case BOARD_WAITING:
		return 6;
	case BOARD_HELD:
		return 5;
	case BOARD_BUILDING:
		return connected ? 4 : 3;
	case BOARD_PAUSED:
		return 2;
	case BOARD_CONSUMING:
		return 1;
	case BOARD_NO_QUEUE:
		break;
	}
	return 0;
}

static void note_state(
    struct maker *m, struct view_queue *queue, const struct board_source *source, bool connected)
{
	enum board_source_state state = (enum board_source_state)source->state;

	if (badness(state, connected) <= badness(queue->state, queue->connected))
		return;
	queue->state = state;
	queue->connected = connected;
	queue->code = source->code;
	queue->text = keep(m, source->text);
	queue->since_ns = source->since_ns;
	queue->retry_at_ns = source->retry_at_ns;
}

/* What one process says of a queue. */
static void gather_source(struct maker *m, size_t worker, const struct conf_queue *conf)
{
	const struct worker *w = m->crew[worker];
	enum board_which which = conf->no_ack ? BOARD_UNACKED : BOARD_WORK;
	struct view_queue *queue;
	struct board_source source;

	if (!board_read_source(
		score_source(w->generation->score, w->place, (uint32_t)conf->index), &source))
		return;
	queue = queue_at(m, w->generation, conf->index);
	queue->consumers += source.consuming;
	queue->unacked += source.unacked;
	if (source.seen_ns > queue->seen_ns) {
		queue->ready = source.ready;
		queue->dead = source.dead;
		queue->seen_ns = source.seen_ns;
	}
	if (m->view->workers[worker].stands)
		note_state(m, queue, &source, m->is_up[worker][which]);
}

static void gather_sources(struct maker *m, const struct conf *conf)
{
	const struct view *v = m->view;

	for (size_t i = 0; i < v->n_workers && !m->short_of_memory; i++)
		for (size_t k = 0; k < conf->n_queues; k++)
			if (v->workers[i].current && !v->workers[i].quarantine)
				gather_source(m, i, &conf->queues[k]);
}

/* ---- threads ---- */

static const struct view_job *gather_job(struct maker *m, const struct score_row *row)
{
	struct score_job job;
	struct view_job *out;

	if (!score_read_crashed(row, &job) || !(out = take(m, 1, sizeof(*out))))
		return NULL;
	*out = (struct view_job){
		.id = keep(m, job.id),
		.task = keep(m, job.task),
		.message_id = keep(m, job.message_id),
		.started_ns = job.started_ns,
		.deadline_ns = job.deadline_ns,
		.attempt = job.attempt,
		.redelivered = job.redelivered != 0,
		.progress = atomic_load(&row->progress),
	};
	if (out->progress < -1 || out->progress > 100)
		out->progress = -1;
	return out;
}

/* It has a delivery in hand. */
static bool is_running(enum score_state state)
{
	return state == ROW_TAKEN || state == ROW_RUNNING || state == ROW_SETTLING ||
	       state == ROW_GIVEN_UP;
}

static bool is_overdue(const struct maker *m, enum score_state state, int64_t deadline_ns)
{
	return state == ROW_GIVEN_UP || state == ROW_STUCK ||
	       (state == ROW_RUNNING && deadline_ns < m->view->now_ns);
}

/* Those that are overdue come first, then those that run longest. */
static void note_candidate(struct maker *m, size_t worker, uint32_t thread, enum score_state state,
    const struct score_row *row)
{
	int64_t started_ns, deadline_ns;
	void *list = m->candidates;
	bool overdue;

	if (!score_read_times(row, &started_ns, &deadline_ns)) {
		started_ns = m->view->now_ns;
		deadline_ns = CLOCK_NEVER;
	}
	overdue = is_overdue(m, state, deadline_ns);
	if ((!overdue && m->threads == VIEW_OVERDUE) ||
	    !make_room(m, &list, m->n_candidates, &m->max_candidates, sizeof(*m->candidates)))
		return;
	m->candidates = list;
	m->candidates[m->n_candidates++] =
	    (struct candidate){ (uint32_t)worker, thread, overdue ? -1 : started_ns };
}

/* A number that somebody wrote down; false: it is none, or there is no thread. */
static bool read_row(
    const struct worker *w, const struct score_row *row, enum score_state *state, size_t *queue)
{
	int number = atomic_load(&row->state);

	*state = (enum score_state)number;
	*queue = atomic_load(&row->queue);
	return number > ROW_UNUSED && number <= ROW_STUCK &&
	       *queue < w->generation->snapshot.conf->n_queues;
}

static void count_thread(struct maker *m, size_t worker, uint32_t thread)
{
	const struct worker *w = m->crew[worker];
	const struct score_row *row = score_row(w->generation->score, w->place, thread);
	enum score_state state;
	size_t queue;

	if (!read_row(w, row, &state, &queue))
		return;
	m->view->threads_total++;
	if (state == ROW_IDLE)
		return;
	m->view->threads_busy++;
	queue_at(m, w->generation, queue)->running += is_running(state);
	note_candidate(m, worker, thread, state, row);
}

static void gather_thread(struct maker *m, const struct candidate *candidate)
{
	const struct worker *w = m->crew[candidate->worker];
	const struct score_row *row = score_row(w->generation->score, w->place, candidate->thread);
	enum score_state state;
	size_t queue;

	if (!read_row(w, row, &state, &queue) || state == ROW_IDLE)
		return; /* meanwhile */
	m->view->threads[m->view->n_threads++] = (struct view_thread){
		.owner = &m->view->workers[candidate->worker],
		.thread = candidate->thread,
		.queue = queue_at(m, w->generation, queue)->queue,
		.state = state,
		.job = gather_job(m, row),
	};
}

static int by_rank(const void *a, const void *b)
{
	const struct candidate *left = a, *right = b;

	return (left->rank > right->rank) - (left->rank < right->rank);
}

static void gather_threads(struct maker *m)
{
	struct view *v = m->view;
	size_t n;

	for (size_t i = 0; i < v->n_workers; i++)
		for (uint32_t k = 0;
		     v->workers[i].pid > 0 && k < score_rows(m->crew[i]->generation->score); k++)
			count_thread(m, i, k);
	if (m->n_candidates > VIEW_THREADS_MAX)
		qsort(m->candidates, m->n_candidates, sizeof(*m->candidates), by_rank);
	n = m->n_candidates < VIEW_THREADS_MAX ? m->n_candidates : VIEW_THREADS_MAX;
	v->threads = take(m, n, sizeof(*v->threads));
	for (size_t i = 0; i < n && !m->short_of_memory; i++)
		gather_thread(m, &m->candidates[i]);
}

/* ---- counts ---- */

bool view_accounts(struct crew *crew, struct accounts *accounts)
{
	struct generation *all[] = { crew->current, crew->next, crew->leaving };

	*accounts = (struct accounts){ 0 };
	if (!accounts_add(accounts, &crew->past))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (all[i] && !accounts_add_score(accounts, all[i]->score, all[i]->snapshot.conf)) {
			accounts_free(accounts);
			return false;
		}
	}
	return true;
}

static void gather_count(struct maker *m, const struct account *account)
{
	struct tally_sum recent = history_recent(m->subject->history, account);
	struct view_queue *queue = find_queue(m, account->queue);
	struct view_task *task = find_task(m, queue, account->task);

	tally_merge(&m->view->totals, &account->sum);
	tally_merge(&queue->sum, &account->sum);
	tally_merge(&queue->recent, &recent);
	if (!task)
		return;
	tally_merge(&task->sum, &account->sum);
	tally_merge(&task->recent, &recent);
}

/* ---- all of it ---- */

/* Places for all queues that there may be. */
static void prepare_queues(struct maker *m, size_t n_accounts)
{
	const struct crew *crew = m->subject->crew;
	struct generation *all[GENERATIONS] = { crew->current, crew->next, crew->leaving };

	memcpy(m->all, all, sizeof(all));
	m->max_queues = n_accounts;
	for (size_t i = 0; i < GENERATIONS; i++) {
		size_t n = all[i] ? all[i]->snapshot.conf->n_queues : 0;

		m->queues[i] = take(m, n, sizeof(*m->queues[i]));
		m->max_queues += n;
	}
	m->view->queues = take(m, m->max_queues, sizeof(*m->view->queues));
}

static void gather_queues(struct maker *m, const struct accounts *accounts)
{
	const struct generation *g = m->subject->crew->current;

	prepare_queues(m, accounts->n);
	if (m->short_of_memory)
		return;
	for (size_t i = 0; g && i < g->snapshot.conf->n_queues; i++)
		configure_queue(m, g, &g->snapshot.conf->queues[i]);
	if (g)
		gather_sources(m, g->snapshot.conf);
	for (size_t i = 0; i < accounts->n; i++)
		gather_count(m, &accounts->list[i]);
	gather_threads(m);
}

static void count_suspects(struct view *v, const struct suspects *suspects)
{
	for (size_t i = 0; i < suspects->n; i++) {
		const struct known *known = &suspects->list[i];

		v->doubtful += known->suspect.doubtful != 0;
		v->crashers += known->suspect.crashes > 0 && !known->suspect.doubtful &&
			       v->now_ns - known->seen_ns < CRASH_NEWS_NS;
	}
}

static enum view_state state_of(const struct view_subject *subject, int64_t now_ns)
{
	const struct crew *crew = subject->crew;

	if (crew->stopping)
		return VIEW_STOPPING;
	if (!crew->current || (!crew->tested && now_ns < crew->current->deadline_ns))
		return VIEW_STARTING;
	return crew->next || subject->checking ? VIEW_RELOADING : VIEW_RUNNING;
}

static void gather_current(struct view *v, const struct generation *g)
{
	const struct conf *conf = g->snapshot.conf;
	int level = score_log_level(g->score);

	v->generation = g->number;
	v->n_posts = g->n_workers;
	v->n_consuming = crew_consuming(g);
	v->n_brokers = conf->broker.n_urls;
	v->log_level = level >= 0 ? (enum log_level)level : conf->log_level;
}

static void gather(struct maker *m, const struct accounts *accounts)
{
	const struct view_subject *subject = m->subject;
	struct view *v = m->view;

	v->now_ns = clock_mono_ns();
	v->started_ns = subject->started_ns;
	v->started_wall_ms = subject->started_wall_ms;
	v->state = state_of(subject, v->now_ns);
	v->config = keep(m, subject->crew->path);
	v->reload = subject->reload->outcome;
	v->reload_at_ns = subject->reload->at_ns;
	v->reload_why = keep(m, subject->reload->why);
	memcpy(v->reloads, subject->reload->counts, sizeof(v->reloads));
	memcpy(v->exits, subject->crew->exits, sizeof(v->exits));
	count_suspects(v, &subject->crew->suspects);
	if (subject->crew->current)
		gather_current(v, subject->crew->current);
	gather_workers(m);
	if (!m->short_of_memory)
		gather_conns(m);
	if (!m->short_of_memory)
		gather_queues(m, accounts);
}

struct view *view_create(
    const struct view_subject *subject, const struct accounts *accounts, enum view_threads threads)
{
	struct arena *arena = arena_create();
	struct maker maker = { .subject = subject, .threads = threads };

	if (arena)
		maker.view = arena_zalloc(arena, 1, sizeof(*maker.view));
	if (!maker.view) {
		arena_destroy(arena);
		return NULL;
	}
	maker.view->arena = arena;
	gather(&maker, accounts);
	if (!maker.short_of_memory)
		return maker.view;
	view_destroy(maker.view);
	return NULL;
}

void view_destroy(struct view *view)
{
	if (view)
		arena_destroy(view->arena);
}

/* ---- words ---- */

const char *view_state_word(enum view_state state)
{
	static const char *const words[] = {
		[VIEW_STARTING] = "starting",
		[VIEW_RUNNING] = "running",
		[VIEW_RELOADING] = "reloading",
		[VIEW_STOPPING] = "stopping",
	};

	return words[state];
}

const char *view_worker_word(enum slot_state state)
{
	return state == SLOT_BACKOFF ? "backoff" : slot_state_name(state);
}

const char *view_conn_word(enum board_which which)
{
	static const char *const words[BOARD_CONNECTIONS] = {
		[BOARD_WORK] = "work",
		[BOARD_UNACKED] = "work unacked",
		[BOARD_PUBLISH] = "publish",
	};

	return words[which];
}

const char *view_link_word(enum board_conn_state state)
{
	return state == BOARD_UP ? "up" : state == BOARD_BLOCKED ? "blocked" : "down";
}

const char *view_thread_word(enum score_state state)
{
	switch (state) {
	case ROW_TAKEN:
	case ROW_RUNNING:
		return "running";
	case ROW_SETTLING:
	case ROW_SETTLED:
		return "settling";
	case ROW_GIVEN_UP:
	case ROW_STUCK:
		return "given-up";
	case ROW_UNUSED:
	case ROW_IDLE:
		break;
	}
	return "idle";
}

const char *view_reload_word(enum reload_outcome outcome)
{
	static const char *const words[RELOAD_OUTCOMES] = {
		[RELOAD_NONE] = "none",
		[RELOAD_DONE] = "done",
		[RELOAD_REFUSED] = "refused",
		[RELOAD_ROLLED_BACK] = "rolled-back",
	};

	return words[outcome];
}
