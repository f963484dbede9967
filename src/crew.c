/* The crew: worker processes as they really are, under the orders of their slots. */
#include "crew.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "inquest.h"
#include "ipc.h"
#include "relief.h"
#include "topology.h"

enum {
	CRASH_LOOP = 5,    /* so many failures in a row have a name of their own */
	LISTEN_MAX = 1000, /* messages from one worker in one pass; more than its socket holds */
};
#define GROUP_KILL_NS (2 * NS_PER_S) /* a dead worker's children: from SIGTERM to SIGKILL */
#define LEFTOVER_PASS_NS (100 * NS_PER_MS)
#define DEAF_NS NS_PER_S /* a process that ends is gone by then */

/* ---- all workers of all generations ---- */

struct worker *crew_after(struct crew *crew, struct worker *w)
{
	struct generation *all[] = { crew->current, crew->next, crew->leaving };
	size_t i = 0;

	if (w && w->place + 1 < w->generation->n_places)
		return w + 1;
	if (w)
		while (all[i++] != w->generation)
			;
	for (; i < ARRAY_LEN(all); i++)
		if (all[i])
			return all[i]->workers;
	return NULL;
}

/* Ordinary posts that have a process in the one state or the other. */
static unsigned count_posts(const struct generation *g, enum slot_state one, enum slot_state other)
{
	unsigned n = 0;

	for (unsigned post = 0; g && post < g->n_workers; post++) {
		const struct worker *places = &g->workers[post * CREW_PLACES];
		bool found = false;

		for (int i = 0; i < CREW_PLACES; i++)
			found |= places[i].slot.state == one || places[i].slot.state == other;
		n += found;
	}
	return n;
}

unsigned crew_consuming(const struct generation *g)
{
	return count_posts(g, SLOT_CONSUMING, SLOT_CONSUMING);
}

unsigned crew_loaded(const struct generation *g)
{
	return count_posts(g, SLOT_LOADED, SLOT_CONSUMING);
}

static bool is_quarantine(const struct worker *w)
{
	return w->post == w->generation->n_workers;
}

struct log_field crew_who(const struct worker *w)
{
	if (is_quarantine(w))
		return L_STR("worker", "quarantine");
	return L_INT("worker", w->post);
}

const char *crew_why(const struct generation *g)
{
	for (unsigned i = 0; g && i < g->n_places; i++)
		if (g->workers[i].why[0] && slot_alive(&g->workers[i].slot))
			return g->workers[i].why;
	return "";
}

/* ---- generations ---- */

static uint32_t rows_needed(const struct conf *conf)
{
	uint32_t rows = 0;

	for (size_t i = 0; i < conf->n_queues; i++)
		rows += (uint32_t)conf->queues[i].threads;
	return rows > 0 ? rows : 1;
}

enum {
	SPARE_TALLIES = 512, /* for the tasks of queues that are routed */
	SPARE_ROWS = 1024,   /* for queues that are scaled up; they cost nothing until then */
};

/* A queue that the operator has paused stays so across a reload. */
static void inherit_pause(
    struct score *score, uint32_t queue, const char *label, const struct generation *from)
{
	const struct conf *conf = from ? from->snapshot.conf : NULL;

	for (uint32_t i = 0; conf && i < conf->n_queues; i++)
		if (strcmp(conf->queues[i].label, label) == 0)
			atomic_store(&score_wish(score, queue)->paused,
			    atomic_load(&score_wish(from->score, i)->paused));
}

static struct score *make_score(
    const struct generation *g, const struct conf *conf, const struct generation *from, int *fd)
{
	const struct score_size size = {
		.workers = g->n_places,
		.rows = rows_needed(conf),
		.max_rows = rows_needed(conf) + SPARE_ROWS,
		.queues = conf->n_queues > 0 ? (uint32_t)conf->n_queues : 1,
		.tallies = 2 * (uint32_t)conf->n_queues + SPARE_TALLIES,
	};
	struct score *score = score_create(&size, fd);

	for (uint32_t i = 0; score && i < conf->n_queues; i++) {
		atomic_store(&score_wish(score, i)->threads, (unsigned)conf->queues[i].threads);
		inherit_pause(score, i, conf->queues[i].label, from);
	}
	return score;
}

struct generation *crew_enlist(struct crew *crew, struct snapshot *snapshot)
{
	const struct conf *conf = snapshot->conf;
	struct generation *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->n_workers = (unsigned)conf->workers.processes;
	g->has_quarantine = topology_needs_quarantine(conf);
	g->n_places = (g->n_workers + g->has_quarantine) * CREW_PLACES;
	g->workers = calloc(g->n_places, sizeof(*g->workers));
	if (g->workers)
		g->score = make_score(g, conf, crew->current, &g->score_fd);
	if (!g->score) {
		free(g->workers);
		free(g);
		return NULL;
	}
	g->number = ++crew->generations;
	g->snapshot = *snapshot;
	*snapshot = (struct snapshot){ .fd = -1 };
	g->deadline_ns = clock_mono_ns() + conf->workers.start_limit_ns;
	/* The old ones do not consume all they should either: there is nothing to keep. */
	if (crew->tested && crew_consuming(crew->current) < crew->current->n_workers)
		score_set_lenient(g->score);
	score_publish_suspects(g->score, &crew->suspects);
	for (unsigned i = 0; i < g->n_places; i++) {
		struct worker *w = &g->workers[i];

		w->generation = g;
		w->post = i / CREW_PLACES;
		w->place = i;
		w->child.ipc = -1;
		slot_init(&w->slot, conf->workers.start_limit_ns, conf->workers.drain_limit_ns);
	}
	return g;
}

static bool is_deserted(const struct generation *g)
{
	for (unsigned i = 0; i < g->n_places; i++)
		if (g->workers[i].slot.state != SLOT_DOWN)
			return false;
	return true;
}

/* Frees a generation whose last process is gone; its counters live on in the totals. */
static void bury(struct crew *crew, struct generation **place)
{
	struct generation *g = *place;

	if (!g || !is_deserted(g))
		return;
	/* short of memory it stays, and is tried again; a daemon that stops has no time for that */
	if (!accounts_add_score(&crew->past, g->score, g->snapshot.conf) && !crew->stopping)
		return;
	if (!crew->stopping)
		log_event(LOG_INFO, "generation.gone", L_INT("generation", g->number));
	score_close(g->score);
	close(g->score_fd);
	snapshot_drop(&g->snapshot);
	free(g->workers);
	free(g);
	*place = NULL;
}

void crew_bury(struct crew *crew)
{
	bury(crew, &crew->leaving);
	if (!crew->stopping)
		return;
	bury(crew, &crew->next);
	bury(crew, &crew->current);
}

/* ---- what dead workers leave behind ---- */

/*
 * The number comes from memory that a plugin may have spoilt, and a group may have ended and its
 * number gone to somebody else: only groups of our own session, or sessions of their own, are
 * touched.
 */
static bool group_is_theirs(pid_t group)
{
	pid_t session;

	if (group <= 1 || group == getpgrp() || kill(-group, 0) != 0)
		return false;
	session = getsid(group);
	return session < 0 || session == getsid(0) || session == group;
}

static void end_group(struct crew *crew, pid_t group)
{
	struct leftover *grown;

	if (!group_is_theirs(group))
		return;
	log_event(LOG_WARN, "child.ended", L_INT("group", group));
	kill(-group, SIGTERM);
	kill(-group, SIGCONT); /* a stopped one could not hear it */
	grown = realloc(crew->leftovers, (crew->n_leftovers + 1) * sizeof(*grown));
	if (!grown) {
		kill(-group, SIGKILL);
		return;
	}
	crew->leftovers = grown;
	grown[crew->n_leftovers++] =
	    (struct leftover){ .group = group, .kill_ns = clock_mono_ns() + GROUP_KILL_NS };
}

static void end_groups(struct crew *crew, struct worker *w)
{
	struct score *score = w->generation->score;

	for (uint32_t i = 0; i < score_rows(score); i++)
		end_group(crew, atomic_exchange(&score_row(score, w->place, i)->child, 0));
}

static void tick_leftovers(struct crew *crew, int64_t now_ns)
{
	size_t kept = 0;

	for (size_t i = 0; i < crew->n_leftovers; i++) {
		struct leftover left = crew->leftovers[i];

		if (!group_is_theirs(left.group))
			continue;
		if (now_ns >= left.kill_ns)
			kill(-left.group, SIGKILL);
		else
			crew->leftovers[kept++] = left;
	}
	crew->n_leftovers = kept;
}

/* The ids of the jobs that a dead worker was running, with commas; how many they are. */
static unsigned name_jobs(const struct worker *w, char *list, size_t size)
{
	struct score *score = w->generation->score;
	struct score_job job;
	unsigned n = 0;
	size_t len = 0;

	list[0] = '\0';
	for (uint32_t i = 0; i < score_rows(score); i++) {
		if (!score_read_job(score_row(score, w->place, i), &job))
			continue;
		if (len < size)
			len +=
			    (size_t)snprintf(list + len, size - len, "%s%s", n ? "," : "", job.id);
		n++;
	}
	return n;
}

/* Jobs that nobody settles any more. One that was counted was only not acked yet. */
static void log_interrupted(const struct worker *w)
{
	struct score *score = w->generation->score;
	struct score_job job;

	for (uint32_t i = 0; i < score_rows(score); i++) {
		const struct score_row *row = score_row(score, w->place, i);

		if (score_is_open(row))
			tally_count(
			    score_tally(score, atomic_load(&row->tally)), COUNT_INTERRUPTED, 1);
		if (!score_read_job(row, &job))
			continue;
		log_event(LOG_WARN, "job.interrupted", crew_who(w), L_STR("job", job.id),
		    L_STR("task", job.task), L_STR("queue", job.queue),
		    L_INT("attempt", job.attempt));
	}
}

/* ---- fresh processes that the operator has asked for ---- */

/* It was started after the operator has asked for fresh processes. */
static bool is_fresh(const struct crew *crew, const struct worker *w)
{
	return w->slot.state != SLOT_DOWN && w->slot.spawned_ns >= crew->renewing_ns;
}

/* A fresh process ends before it has consumed: the others will fare no better. */
static void note_failed_renewal(struct crew *crew, const struct worker *w, const char *why)
{
	if (crew->renewing_ns && !crew->renewal_why[0] && w->generation == crew->current &&
	    !is_quarantine(w) && !w->consumed)
		(void)snprintf(crew->renewal_why, sizeof(crew->renewal_why), "%s",
		    why[0] ? why : "it ended before it was ready; its lines in the log say why");
}

/* ---- one worker: carrying out what its slot decides ---- */

static void follow(struct crew *crew, struct worker *w, enum slot_state before, unsigned actions);

void crew_step(struct crew *crew, struct worker *w, enum slot_event event)
{
	enum slot_state before = w->slot.state;

	follow(crew, w, before, slot_event(&w->slot, event, clock_mono_ns()));
}

static void spawn(struct crew *crew, struct worker *w)
{
	const struct generation *g = w->generation;
	const struct child_order order = {
		.role = CHILD_WORKER,
		.path = crew->path,
		.conf_fd = g->snapshot.fd,
		.score_fd = g->score_fd,
		.number = w->post,
		.place = w->place,
		.quarantine = is_quarantine(w),
		.generation = g->number,
	};

	w->consumed = w->relieved = w->renew = false;
	w->given_back = w->overdue_ns = 0;
	w->why[0] = '\0';
	if (!child_spawn(&order, &w->child)) {
		log_event(
		    LOG_ERROR, "worker.spawn-failed", crew_who(w), L_STR("why", strerror(errno)));
		snprintf(w->why, sizeof(w->why), "no process could be made: %s", strerror(errno));
		w->ends++;
		note_failed_renewal(crew, w, w->why);
		crew_step(crew, w, SLOT_SPAWN_FAILED);
		return;
	}
	atomic_store(&score_worker(g->score, w->place)->pid, w->child.pid);
	atomic_store(&score_worker(g->score, w->place)->generation, g->number);
	log_event(LOG_INFO, "worker.started", crew_who(w), L_INT("pid", w->child.pid),
	    L_INT("generation", g->number));
	crew_step(crew, w, SLOT_SPAWNED);
}

static int64_t left_ms(const struct slot *slot)
{
	int64_t left_ns = slot->deadline_ns - clock_mono_ns();

	return left_ns > 0 ? (left_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
}

/* A message that does not arrive is no reason to wait: the slot's deadline ends in SIGKILL. */
static void tell(const struct worker *w, enum ipc_word word, int64_t number)
{
	if (w->child.ipc >= 0 && !ipc_send(w->child.ipc, word, number, NULL))
		log_event(LOG_WARN, "worker.untold", crew_who(w), L_INT("pid", w->child.pid),
		    L_STR("why", strerror(errno)));
}

static void send_signal(const struct worker *w, int signal, const char *event)
{
	log_event(LOG_ERROR, event, crew_who(w), L_INT("pid", w->child.pid),
	    L_STR("signal", sigabbrev_np(signal)));
	CHECK(w->child.pid > 1); /* not yet reaped, so nobody else has this number */
	kill(w->child.pid, signal);
}

static void announce(struct crew *crew, struct worker *w, enum slot_state before)
{
	enum slot_state after = w->slot.state;
	int64_t took_ns = clock_mono_ns() - w->slot.spawned_ns;

	if (before == after)
		return;
	w->since_ns = clock_mono_ns();
	if (after == SLOT_DRAINING)
		w->leaving_ns = w->since_ns;
	if (after == SLOT_LOADED && before == SLOT_CONSUMING)
		log_event(LOG_WARN, "worker.stalled", crew_who(w), L_OPT("why", w->why));
	else if (after == SLOT_LOADED)
		log_event(LOG_INFO, "worker.loaded", crew_who(w), L_NS("took", took_ns));
	else if (after == SLOT_CONSUMING)
		log_event(LOG_INFO, "worker.consuming", crew_who(w));
	if (is_quarantine(w))
		return;
	crew->loaded |= slot_is_at_work(after);
	crew->tested |= after == SLOT_CONSUMING;
	if (after == SLOT_CONSUMING && w->generation == crew->current)
		score_set_lenient(w->generation->score);
}

static void follow(struct crew *crew, struct worker *w, enum slot_state before, unsigned actions)
{
	announce(crew, w, before);
	if (actions & SLOT_DO_SPAWN)
		spawn(crew, w);
	if (actions & SLOT_DO_DRAIN)
		tell(w, IPC_DRAIN, left_ms(&w->slot));
	if (actions & SLOT_DO_RETIRE)
		tell(w, IPC_RETIRE, 0);
	if (actions & SLOT_DO_NOW)
		tell(w, IPC_NOW, 0);
	if (actions & SLOT_DO_ABORT)
		send_signal(
		    w, SIGABRT, before == SLOT_STARTING ? "worker.late" : "worker.unresponsive");
	if (actions & SLOT_DO_KILL)
		send_signal(w, SIGKILL, "worker.killed");
}

/* ---- what workers say ---- */

static void hear_nothing(struct crew *crew, struct worker *w)
{
	if (w->slot.state != SLOT_FAILING && w->slot.state != SLOT_STOPPING)
		log_event(LOG_ERROR, "worker.deaf", crew_who(w), L_INT("pid", w->child.pid));
	crew_step(crew, w, SLOT_DEAF);
}

void crew_tell_suspects(struct crew *crew)
{
	struct generation *all[] = { crew->current, crew->next, crew->leaving };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i])
			score_publish_suspects(all[i]->score, &crew->suspects);
}

/* What a worker says about a message. */
static void hear_of_message(struct crew *crew, struct worker *w, const struct ipc_msg *msg)
{
	uint8_t identity[IDENTITY_LEN];
	int64_t now_ns = clock_mono_ns();

	if (!identity_read((struct bytes){ msg->text, msg->len }, identity)) {
		hear_nothing(crew, w);
		return;
	}
	if (msg->word == IPC_LEASE_LOST)
		suspects_lease_lost(&crew->suspects, identity, now_ns);
	else if (msg->word == IPC_RETRIED)
		suspects_retried(&crew->suspects, identity);
	else
		suspects_clear(&crew->suspects, identity);
	crew_tell_suspects(crew);
}

static void hear_of_overrun(struct crew *crew, struct worker *w, const struct ipc_msg *msg)
{
	log_event(LOG_ERROR, "worker.replaced", crew_who(w), L_INT("pid", w->child.pid),
	    L_BYTES("because", ((struct bytes){ msg->text, msg->len })));
	crew_step(crew, w, SLOT_OVERRUN);
	relief_man(crew);
}

static void hear(struct crew *crew, struct worker *w, const struct ipc_msg *msg)
{
	switch (msg->word) {
	case IPC_LOADED:
		crew_step(crew, w, SLOT_IS_LOADED);
		break;
	case IPC_CONSUMING:
		w->consumed = true;
		w->why[0] = '\0';
		crew_step(crew, w, SLOT_IS_CONSUMING);
		break;
	case IPC_REFUSED:
		snprintf(w->why, sizeof(w->why), "%.*s", (int)msg->len, msg->text);
		log_event(LOG_ERROR, "worker.refused", crew_who(w), L_STR("why", w->why));
		if (is_fresh(crew, w))
			note_failed_renewal(crew, w, w->why);
		crew_step(crew, w, SLOT_REFUSED);
		break;
	case IPC_PULSE:
		crew_step(crew, w, SLOT_PULSE);
		break;
	case IPC_GIVEN_BACK:
		crew->gave_back |= crew->stopping && msg->number > w->given_back;
		w->given_back = msg->number;
		break;
	case IPC_STATE:
		snprintf(w->why, sizeof(w->why), "%.*s", (int)msg->len, msg->text);
		if (msg->len > 0)
			crew_step(crew, w, SLOT_IS_STALLED);
		else if (w->consumed)
			crew_step(crew, w, SLOT_IS_CONSUMING);
		break;
	case IPC_OVERRUN:
		hear_of_overrun(crew, w, msg);
		break;
	case IPC_ASIDE:
		relief_call_quarantine(crew, clock_mono_ns());
		break;
	case IPC_RETRIED:
	case IPC_SETTLED:
	case IPC_LEASE_LOST:
		hear_of_message(crew, w, msg);
		break;
	default: /* ours to say, not its */
		hear_nothing(crew, w);
	}
}

/* False when nothing more will come. One that never stops talking must not hold up the others. */
static bool listen_to(struct crew *crew, struct worker *w)
{
	struct ipc_msg msg;
	int got = 0;

	for (int i = 0; i < LISTEN_MAX && w->child.ipc >= 0; i++) {
		got = ipc_recv(w->child.ipc, &msg);
		if (got <= 0)
			break;
		hear(crew, w, &msg);
	}
	return got >= 0;
}

/* A process that ends closes its socket before it can be reaped, on a busy machine long before: it
 * is deaf only if it is still there a while later. */
void crew_listen(struct crew *crew)
{
	int64_t now_ns = clock_mono_ns();

	for (struct worker *w = NULL; (w = crew_after(crew, w));) {
		if (w->child.pid <= 0)
			continue;
		if (w->child.ipc >= 0 && !listen_to(crew, w)) {
			child_close_ipc(&w->child);
			w->closed_ns = now_ns;
		} else if (w->child.ipc < 0 && now_ns - w->closed_ns > DEAF_NS) {
			hear_nothing(crew, w);
		}
	}
}

/* ---- the end of a process ---- */

static bool was_wanted(enum slot_state state)
{
	return state != SLOT_DRAINING && state != SLOT_STOPPING;
}

static void log_ended(const struct worker *w, const struct slot_end *end, enum slot_state before,
    pid_t pid, const char *jobs)
{
	bool again = w->slot.state == SLOT_BACKOFF, unexpected = was_wanted(before);
	int64_t wait_ns = again ? slot_backoff_ns(w->slot.failures) : 0;

	log_event(unexpected || end->signal ? LOG_ERROR : LOG_INFO, "worker.exited", crew_who(w),
	    L_INT("pid", pid),
	    end->signal ? L_INT("signal", end->signal) : L_INT("code", end->code),
	    L_OPT("name", end->signal ? sigabbrev_np(end->signal) : NULL),
	    L_STR("was", slot_state_name(before)), L_BOOL("unexpected", unexpected),
	    L_OPT("jobs", jobs), end->blamed ? L_BOOL("blamed", true) : L_OPT("", NULL),
	    again ? L_INT("failures", w->slot.failures) : L_OPT("", NULL),
	    again ? L_NS("restart_in", wait_ns) : L_OPT("", NULL));
	if (again && w->slot.failures == CRASH_LOOP)
		log_event(LOG_ERROR, "worker.crashloop", crew_who(w),
		    L_INT("failures", w->slot.failures));
}

/*
 * What it died of, as far as jobs may be the cause: a signal, or an exit that nobody asked for; 0
 * where the end was in order, or our own doing.
 */
static int cause_of_death(const struct slot_end *end, enum slot_state before)
{
	static const int in_order[] = { EXIT_TEMPFAIL, EXIT_REFUSED, EXIT_CONFIG, EXIT_OS,
		EXIT_ORPHAN, EXIT_TIME_LIMIT };

	if (end->signal)
		return before == SLOT_STOPPING && (end->signal == SIGKILL || end->signal == SIGABRT)
			   ? 0
			   : end->signal;
	/* Who leaves in order has said so before; its codes may be used by others, too. */
	if (end->code == EXIT_PLUGIN_EXIT || slot_is_at_work(before))
		return SIGNAL_EXIT;
	for (size_t i = 0; i < ARRAY_LEN(in_order); i++)
		if (end->code == in_order[i])
			return 0;
	return was_wanted(before) ? SIGNAL_EXIT : 0;
}

static void log_finding(const struct finding *f)
{
	log_event(LOG_ERROR, "job.suspect", L_STR("job", f->job.id), L_STR("task", f->job.task),
	    L_STR("queue", f->job.queue), L_INT("attempt", f->job.attempt),
	    L_OPT("message_id", f->job.message_id), L_BOOL("certain", f->certain),
	    L_STR("signal", suspect_signal_name(f->signal)), L_INT("crashes", f->crashes));
}

static bool find_cause(
    struct crew *crew, const struct worker *w, const struct slot_end *end, enum slot_state before)
{
	const struct death death = {
		.worker = w->place,
		.signal = cause_of_death(end, before),
		.alone = is_quarantine(w),
	};
	bool blamed;

	if (death.signal == 0)
		return false;
	blamed = inquest_hold(
	    w->generation->score, &death, &crew->suspects, clock_mono_ns(), log_finding);
	crew_tell_suspects(crew);
	return blamed;
}

static enum crew_exit kind_of_exit(const struct slot_end *end, enum slot_state before)
{
	if (end->signal == 0 && end->code == EXIT_TIME_LIMIT)
		return CREW_TIME_LIMIT;
	if (before == SLOT_FAILING)
		return CREW_FAILED;
	if (cause_of_death(end, before) != 0)
		return CREW_CRASHED;
	return was_wanted(before) || end->signal ? CREW_FAILED : CREW_ORDERED;
}

/* Another process is at work at the same post. */
static bool has_colleague(const struct worker *w)
{
	for (unsigned i = 0; i < CREW_PLACES; i++) {
		const struct worker *other = &w->generation->workers[w->post * CREW_PLACES + i];

		if (other != w && slot_is_at_work(other->slot.state))
			return true;
	}
	return false;
}

static void worker_ended(struct crew *crew, struct worker *w, int status)
{
	struct slot_end end = {
		.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
		.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
		.worked = score_finished(w->generation->score, w->place) > 0,
	};
	enum slot_state before;
	pid_t pid = w->child.pid;
	char jobs[CREW_WHY_MAX * 2];
	unsigned actions, n_jobs;

	(void)listen_to(crew, w);
	child_close_ipc(&w->child);
	w->child.pid = 0;
	/* a next generation that refuses is rolled back, and the old one runs on */
	before = w->slot.state;
	end.untested = !crew->tested && w->generation == crew->current && !is_quarantine(w) &&
		       !slot_is_at_work(before) && !has_colleague(w);
	n_jobs = name_jobs(w, jobs, sizeof(jobs));
	end.blamed = find_cause(crew, w, &end, before);
	w->ends += !end.blamed; /* a generation is not judged by its messages */
	w->end = end;
	w->has_ended = true;
	if (!end.blamed && is_fresh(crew, w))
		note_failed_renewal(crew, w, w->why);
	crew->exits[kind_of_exit(&end, before)]++;
	actions = slot_ended(&w->slot, &end, clock_mono_ns());
	log_ended(w, &end, before, pid, jobs);
	log_interrupted(w);
	end_groups(crew, w);
	score_reset(w->generation->score, w->place);
	crew->gave_back |= crew->stopping && (end.code == EXIT_TEMPFAIL || n_jobs > 0);
	if (actions & SLOT_DO_FATAL) {
		log_event(LOG_ERROR, "worker.fatal", crew_who(w), L_INT("code", end.code));
		crew->fatal = end.code;
	}
	follow(crew, w, before, actions);
	if (w->relieved && w->slot.state == SLOT_BACKOFF)
		crew_step(crew, w, SLOT_STOP); /* another one has its post already */
	if (w->slot.state == SLOT_DOWN)
		w->renew = w->relieved = false;
}

bool crew_reaped(struct crew *crew, pid_t pid, int status)
{
	for (struct worker *w = NULL; (w = crew_after(crew, w));) {
		if (w->child.pid == pid) {
			worker_ended(crew, w, status);
			return true;
		}
	}
	return false;
}

void crew_reap(struct crew *crew)
{
	int status;

	for (struct worker *w = NULL; (w = crew_after(crew, w));)
		if (w->child.pid > 0 && waitpid(w->child.pid, &status, WNOHANG) == w->child.pid)
			worker_ended(crew, w, status);
}

/* ---- orders and time ---- */

void crew_order(struct crew *crew, struct generation *g, enum slot_event event)
{
	for (unsigned i = 0; i < g->n_places; i++)
		crew_step(crew, &g->workers[i], event);
}

void crew_order_all(struct crew *crew, enum slot_event event)
{
	for (struct worker *w = NULL; (w = crew_after(crew, w));)
		crew_step(crew, w, event);
}

/* ---- what the operator asks for ---- */

static bool has_room(const struct generation *g, unsigned post)
{
	for (unsigned i = 0; i < CREW_PLACES; i++)
		if (g->workers[post * CREW_PLACES + i].slot.state == SLOT_DOWN)
			return true;
	return false;
}

bool crew_renew(struct crew *crew)
{
	struct generation *g = crew->current;

	for (unsigned post = 0; post < g->n_workers; post++)
		if (!has_room(g, post))
			return false;
	crew->renewing_ns = clock_mono_ns();
	crew->renewal_why[0] = '\0';
	for (unsigned i = 0; i < g->n_places; i++) {
		struct worker *w = &g->workers[i];

		if (!slot_alive(&w->slot) || slot_leaves(w->slot.state))
			continue;
		/* the quarantine comes again of itself where it is needed */
		if (!is_quarantine(w))
			w->renew = true;
		else if (slot_is_at_work(w->slot.state))
			crew_step(crew, w, SLOT_RETIRE);
	}
	return true;
}

bool crew_renewing(const struct crew *crew)
{
	return crew->renewing_ns != 0;
}

/* The post has a fresh process at work, and none that is still to be replaced. */
static bool is_renewed(const struct crew *crew, unsigned post)
{
	bool fresh = false;

	for (unsigned i = 0; i < CREW_PLACES; i++) {
		const struct worker *w = &crew->current->workers[post * CREW_PLACES + i];

		if (w->renew && !slot_leaves(w->slot.state))
			return false;
		fresh |= is_fresh(crew, w) && slot_is_at_work(w->slot.state);
	}
	return fresh;
}

bool crew_renewed(const struct crew *crew)
{
	bool all = true;

	for (unsigned post = 0; post < crew->current->n_workers; post++)
		all = all && is_renewed(crew, post);
	return all || crew->renewal_why[0];
}

/* Who was to take over from `w` leaves. */
static void dismiss_fresh(struct crew *crew, const struct worker *w)
{
	for (unsigned i = 0; i < CREW_PLACES; i++) {
		struct worker *other = &w->generation->workers[w->post * CREW_PLACES + i];

		if (other != w && is_fresh(crew, other) && !slot_leaves(other->slot.state))
			crew_step(crew, other, SLOT_STOP);
	}
}

void crew_stop_renewing(struct crew *crew)
{
	struct generation *g = crew->current;

	for (unsigned i = 0; i < g->n_workers * CREW_PLACES; i++) {
		struct worker *w = &g->workers[i];

		if (w->renew && w->relieved && slot_is_at_work(w->slot.state)) {
			w->relieved = false;
			dismiss_fresh(crew, w);
		}
		w->renew = false;
	}
	crew->renewing_ns = 0;
}

bool crew_cancel(struct crew *crew, struct bytes job_id, struct score_job *job)
{
	char id[sizeof(job->id)];

	if (job_id.len >= sizeof(id))
		return false;
	memcpy(id, job_id.data, job_id.len);
	id[job_id.len] = '\0';
	for (struct worker *w = NULL; (w = crew_after(crew, w));) {
		struct score *score = w->generation->score;

		for (uint32_t i = 0; w->child.ipc >= 0 && i < score_rows(score); i++)
			if (score_read_job(score_row(score, w->place, i), job) &&
			    strcmp(job->id, id) == 0)
				return ipc_send(w->child.ipc, IPC_CANCEL, 0, id);
	}
	return false;
}

void crew_limit_drain(struct crew *crew, int64_t limit_ns)
{
	for (struct worker *w = NULL; (w = crew_after(crew, w));)
		w->slot.drain_limit_ns = limit_ns;
}

void crew_tick(struct crew *crew, int64_t now_ns)
{
	for (struct worker *w = NULL; (w = crew_after(crew, w));) {
		enum slot_state before = w->slot.state;

		follow(crew, w, before, slot_tick(&w->slot, now_ns));
	}
	tick_leftovers(crew, now_ns);
	relief_tick(crew, now_ns);
}

int64_t crew_deadline(struct crew *crew)
{
	int64_t at_ns = CLOCK_NEVER;

	for (struct worker *w = NULL; (w = crew_after(crew, w));)
		if (w->slot.deadline_ns < at_ns)
			at_ns = w->slot.deadline_ns;
	/* nobody tells us when a group is gone */
	if (crew->n_leftovers > 0 && at_ns > clock_mono_ns() + LEFTOVER_PASS_NS)
		at_ns = clock_mono_ns() + LEFTOVER_PASS_NS;
	return at_ns;
}
