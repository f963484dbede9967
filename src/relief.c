/* Posts and places: replacement first, then the old process leaves. */
#include "relief.h"

#include "clock.h"

#define LOOK_NS NS_PER_S
#define WORN_NS (10 * NS_PER_S)   /* by memory no process is worn out sooner */
#define OVERDUE_NS (3 * NS_PER_S) /* a worker gives a job up within a fraction of it */
/* Longer than a suspect takes from one queue to the other. */
#define QUARANTINE_NS (60 * NS_PER_S)

static struct worker *places_of(const struct generation *g, unsigned post)
{
	return &g->workers[post * CREW_PLACES];
}

/* The process that has the post, or will have it: not one that leaves. */
static struct worker *standing_at(const struct generation *g, unsigned post)
{
	struct worker *places = places_of(g, post);

	for (int i = 0; i < CREW_PLACES; i++) {
		enum slot_state state = places[i].slot.state;

		if (state != SLOT_DOWN && state != SLOT_DRAINING && state != SLOT_STOPPING &&
		    !places[i].relieved)
			return &places[i];
	}
	return NULL;
}

static struct worker *free_place(const struct generation *g, unsigned post)
{
	struct worker *places = places_of(g, post);

	for (int i = 0; i < CREW_PLACES; i++)
		if (places[i].slot.state == SLOT_DOWN)
			return &places[i];
	return NULL;
}

/* Every place is taken by somebody who leaves: who has had the most time is told to go. */
static void make_room(struct crew *crew, const struct generation *g, unsigned post)
{
	struct worker *places = places_of(g, post), *longest = NULL;

	for (int i = 0; i < CREW_PLACES; i++) {
		if (places[i].slot.state == SLOT_STOPPING)
			return; /* one is on its way */
		if (places[i].slot.state == SLOT_DRAINING &&
		    (!longest || places[i].leaving_ns < longest->leaving_ns))
			longest = &places[i];
	}
	if (!longest)
		return;
	log_event(LOG_WARN, "worker.hastened", crew_who(longest), L_INT("pid", longest->child.pid));
	crew_step(crew, longest, SLOT_NOW);
}

static void man_post(struct crew *crew, struct generation *g, unsigned post)
{
	struct worker *place;

	if (standing_at(g, post))
		return;
	place = free_place(g, post);
	if (place) {
		place->relieved = false;
		crew_step(crew, place, SLOT_START);
	} else {
		make_room(crew, g, post);
	}
}

/* ---- the quarantine ---- */

void relief_call_quarantine(struct crew *crew, int64_t now_ns)
{
	crew->quarantine_until_ns = now_ns + QUARANTINE_NS;
}

static bool quarantine_wanted(const struct crew *crew, int64_t now_ns)
{
	return suspects_doubtful(&crew->suspects) || now_ns < crew->quarantine_until_ns;
}

static bool has_job(const struct worker *w)
{
	struct score *score = w->generation->score;
	struct score_job job;

	for (uint32_t i = 0; i < score_rows(score); i++)
		if (score_read_job(score_row(score, w->place, i), &job))
			return true;
	return false;
}

static void dismiss_quarantine(struct crew *crew, struct generation *g, int64_t now_ns)
{
	struct worker *w = g->has_quarantine ? standing_at(g, g->n_workers) : NULL;

	if (!w || w->slot.state != SLOT_CONSUMING)
		return;
	if (has_job(w))
		relief_call_quarantine(crew, now_ns);
	else if (!quarantine_wanted(crew, now_ns))
		crew_step(crew, w, SLOT_STOP);
}

void relief_man(struct crew *crew)
{
	struct generation *all[] = { crew->current, crew->next };

	for (size_t i = 0; i < ARRAY_LEN(all) && !crew->stopping; i++)
		for (unsigned post = 0; all[i] && post < all[i]->n_workers; post++)
			man_post(crew, all[i], post);
	if (!crew->stopping && crew->current && crew->current->has_quarantine &&
	    quarantine_wanted(crew, clock_mono_ns()))
		man_post(crew, crew->current, crew->current->n_workers);
}

/* ---- jobs that should have been given up ---- */

static bool is_overdue(const struct score_row *row, int64_t now_ns, struct score_job *job)
{
	return atomic_load(&row->state) == ROW_RUNNING && score_read_job(row, job) &&
	       job->kill_ns < now_ns;
}

static void note_overdue(struct crew *crew, const struct worker *w, int64_t now_ns)
{
	struct score *score = w->generation->score;
	struct score_job job;

	for (uint32_t i = 0; i < score_rows(score); i++) {
		if (!is_overdue(score_row(score, w->place, i), now_ns, &job))
			continue;
		suspects_lease_lost(&crew->suspects, job.identity, now_ns);
		log_event(LOG_ERROR, "worker.overdue", crew_who(w), L_INT("pid", w->child.pid),
		    L_STR("job", job.id), L_STR("task", job.task), L_STR("queue", job.queue),
		    L_NS("after", now_ns - job.started_ns));
	}
	crew_tell_suspects(crew);
}

/*
 * Its own overseer gives jobs up (pool.c). Where that does not happen the whole process hangs. Time
 * in which we were stopped ourselves, and it perhaps with us, does not count.
 */
static void look_for_overdue(struct crew *crew, struct worker *w, int64_t now_ns, int64_t step_ns)
{
	struct score *score = w->generation->score;
	struct score_job job;
	bool overdue = false;

	if (!slot_alive(&w->slot) || w->slot.state == SLOT_STOPPING ||
	    w->slot.state == SLOT_FAILING)
		return;
	for (uint32_t i = 0; i < score_rows(score) && !overdue; i++)
		overdue = is_overdue(score_row(score, w->place, i), now_ns, &job);
	w->overdue_ns = overdue ? w->overdue_ns + step_ns : 0;
	if (w->overdue_ns < OVERDUE_NS)
		return;
	note_overdue(crew, w, now_ns);
	crew_step(crew, w, SLOT_OVERDUE);
}

/* ---- recycling ---- */

/* Why the process is to be replaced by a fresh one; NULL: it is not. */
static const char *wear_of(const struct worker *w)
{
	const struct conf_workers *limits = &w->generation->snapshot.conf->workers;

	if (w->renew)
		return "restart";
	if (limits->recycle_jobs &&
	    score_finished(w->generation->score, w->place) >= (uint64_t)limits->recycle_jobs)
		return "jobs";
	/* A limit below what a fresh process needs must not make one after the other. */
	if (limits->recycle_memory && score_finished(w->generation->score, w->place) > 0 &&
	    clock_mono_ns() - w->slot.spawned_ns > WORN_NS &&
	    child_memory(w->child.pid) > limits->recycle_memory)
		return "memory";
	return NULL;
}

/* One at a time, and none while another change is going on. Who was relieved may leave as slowly as
 * it likes where the operator has asked for fresh processes. */
static bool is_quiet(const struct crew *crew)
{
	const struct generation *g = crew->current;
	bool asked = crew_renewing(crew);

	if (!g || crew->next || crew->leaving || crew->stopping)
		return false;
	for (unsigned i = 0; i < g->n_workers * CREW_PLACES; i++)
		if (g->workers[i].slot.state != SLOT_DOWN &&
		    !slot_is_at_work(g->workers[i].slot.state) &&
		    !(asked && slot_leaves(g->workers[i].slot.state)))
			return false;
	for (unsigned i = 0; i < g->n_workers * CREW_PLACES; i++)
		if (g->workers[i].relieved && slot_is_at_work(g->workers[i].slot.state))
			return false;
	return true;
}

static void recycle(struct crew *crew)
{
	struct generation *g = crew->current;

	for (unsigned i = 0; g && i < g->n_workers * CREW_PLACES; i++) {
		struct worker *w = &g->workers[i];
		const char *reason =
		    slot_is_at_work(w->slot.state) && is_quiet(crew) ? wear_of(w) : NULL;

		if (!reason)
			continue;
		log_event(LOG_INFO, "worker.recycle", crew_who(w), L_INT("pid", w->child.pid),
		    L_STR("reason", reason), L_INT("jobs", score_finished(g->score, w->place)),
		    L_INT("memory", child_memory(w->child.pid)));
		w->relieved = true;
		relief_man(crew);
	}
}

/* The old one leaves when the new one can do at least as much. */
static void relieve(struct crew *crew, struct worker *w)
{
	const struct worker *other = standing_at(w->generation, w->post);

	if (!w->relieved || !slot_is_at_work(w->slot.state) || !other)
		return;
	if (other->slot.state == SLOT_CONSUMING ||
	    (other->slot.state == SLOT_LOADED && w->slot.state == SLOT_LOADED))
		crew_step(crew, w, SLOT_RETIRE);
}

void relief_tick(struct crew *crew, int64_t now_ns)
{
	int64_t step_ns = now_ns - crew->looked_ns;

	relief_man(crew);
	if (crew_renewing(crew))
		recycle(crew);
	for (struct worker *w = NULL; (w = crew_after(crew, w));)
		relieve(crew, w);
	if (step_ns < LOOK_NS)
		return;
	crew->looked_ns = now_ns;
	if (step_ns > 2 * LOOK_NS)
		step_ns = LOOK_NS;
	for (struct worker *w = NULL; (w = crew_after(crew, w));)
		look_for_overdue(crew, w, now_ns, step_ns);
	recycle(crew);
	if (crew->current)
		dismiss_quarantine(crew, crew->current, now_ns);
	if (suspects_age(&crew->suspects, now_ns))
		crew_tell_suspects(crew);
}
