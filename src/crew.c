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
#include "ipc.h"

enum { CRASH_LOOP = 5 };               /* so many failures in a row have a name of their own */
#define GROUP_KILL_NS (2 * NS_PER_S) /* a dead worker's children: from SIGTERM to SIGKILL */

/* ---- all workers of all generations ---- */

static struct generation *generation_at(struct crew *crew, size_t i)
{
	struct generation *all[] = { crew->current, crew->next, crew->leaving };

	return i < ARRAY_LEN(all) ? all[i] : NULL;
}

enum { GENERATIONS = 3 };

/* Walks over all of them; begins with NULL, ends with NULL. */
static struct worker *crew_after(struct crew *crew, struct worker *w)
{
	size_t i = 0;

	if (w && w->number + 1 < w->generation->n_workers)
		return w + 1;
	if (w)
		while (generation_at(crew, i++) != w->generation)
			;
	for (; i < GENERATIONS; i++)
		if (generation_at(crew, i))
			return generation_at(crew, i)->workers;
	return NULL;
}

static unsigned crew_count(const struct generation *g, enum slot_state state)
{
	unsigned n = 0;

	for (unsigned i = 0; g && i < g->n_workers; i++)
		n += g->workers[i].slot.state == state;
	return n;
}

/* ---- generations ---- */

static uint32_t rows_needed(const struct conf *conf)
{
	uint32_t rows = 0;

	for (size_t i = 0; i < conf->n_queues; i++)
		rows += (uint32_t)conf->queues[i].threads;
	return rows > 0 ? rows : 1;
}

/* Takes over the snapshot. NULL with errno. */
static struct generation *generation_create(struct crew *crew, struct snapshot *snapshot)
{
	const struct conf *conf = snapshot->conf;
	struct generation *g = xcalloc(1, sizeof(*g));

	g->n_workers = (unsigned)conf->workers.processes;
	g->score = score_create(g->n_workers, rows_needed(conf), &g->score_fd);
	if (!g->score) {
		free(g);
		return NULL;
	}
	g->number = ++crew->generations;
	g->snapshot = *snapshot;
	*snapshot = (struct snapshot){ .fd = -1 };
	g->deadline_ns = clock_mono_ns() + conf->workers.start_limit_ns;
	g->workers = xcalloc(g->n_workers, sizeof(*g->workers));
	for (unsigned i = 0; i < g->n_workers; i++) {
		struct worker *w = &g->workers[i];

		w->generation = g;
		w->number = i;
		w->child.ipc = -1;
		slot_init(&w->slot, conf->workers.start_limit_ns, conf->workers.drain_limit_ns);
	}
	return g;
}

/* Frees a generation whose last process is gone; its counters live on in the totals. */
static void generation_bury(struct crew *crew, struct generation **place)
{
	struct generation *g = *place;

	if (!g || crew_count(g, SLOT_DOWN) < g->n_workers)
		return;
	for (int i = 0; i < COUNT_N; i++)
		crew->totals[i] += score_sum(g->score, (enum score_counter)i);
	if (!crew->stopping)
		log_event(LOG_INFO, "generation.gone", L_INT("generation", g->number));
	score_close(g->score);
	close(g->score_fd);
	snapshot_drop(&g->snapshot);
	free(g->workers);
	free(g);
	*place = NULL;
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
		end_group(crew, atomic_exchange(&score_row(score, w->number, i)->child, 0));
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
		if (!score_read_job(score_row(score, w->number, i), &job))
			continue;
		if (len < size)
			len +=
			    (size_t)snprintf(list + len, size - len, "%s%s", n ? "," : "", job.id);
		n++;
	}
	return n;
}

static void log_interrupted(const struct worker *w)
{
	struct score *score = w->generation->score;
	struct score_job job;

	for (uint32_t i = 0; i < score_rows(score); i++)
		if (score_read_job(score_row(score, w->number, i), &job))
			log_event(LOG_WARN, "job.interrupted", L_INT("worker", w->number),
			    L_STR("job", job.id), L_STR("task", job.task),
			    L_STR("queue", job.queue), L_INT("attempt", job.attempt));
}

/* ---- one worker: carrying out what its slot decides ---- */

static void follow(
    struct crew *crew, struct worker *w, enum slot_state before, unsigned actions);

static void step(struct crew *crew, struct worker *w, enum slot_event event)
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
		.number = w->number,
		.generation = g->number,
	};

	score_reset(g->score, w->number);
	w->consumed = false;
	w->given_back = 0;
	w->why[0] = '\0';
	if (!child_spawn(&order, &w->child)) {
		log_event(LOG_ERROR, "worker.spawn-failed", L_INT("worker", w->number),
		    L_STR("why", strerror(errno)));
		w->ends++;
		step(crew, w, SLOT_SPAWN_FAILED);
		return;
	}
	atomic_store(&score_worker(g->score, w->number)->pid, w->child.pid);
	atomic_store(&score_worker(g->score, w->number)->generation, g->number);
	log_event(LOG_INFO, "worker.started", L_INT("worker", w->number),
	    L_INT("pid", w->child.pid), L_INT("generation", g->number));
	step(crew, w, SLOT_SPAWNED);
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
		log_event(LOG_WARN, "worker.untold", L_INT("worker", w->number),
		    L_INT("pid", w->child.pid), L_STR("why", strerror(errno)));
}

static void send_signal(const struct worker *w, int signal, const char *event)
{
	log_event(LOG_ERROR, event, L_INT("worker", w->number), L_INT("pid", w->child.pid),
	    L_STR("signal", sigabbrev_np(signal)));
	CHECK(w->child.pid > 1); /* not yet reaped, so nobody else has this number */
	kill(w->child.pid, signal);
}

static void announce(struct crew *crew, const struct worker *w, enum slot_state before)
{
	enum slot_state after = w->slot.state;
	int64_t took_ns = clock_mono_ns() - w->slot.spawned_ns;

	if (before == after)
		return;
	if (after == SLOT_LOADED && before == SLOT_CONSUMING)
		log_event(
		    LOG_WARN, "worker.stalled", L_INT("worker", w->number), L_OPT("why", w->why));
	else if (after == SLOT_LOADED)
		log_event(
		    LOG_INFO, "worker.loaded", L_INT("worker", w->number), L_NS("took", took_ns));
	else if (after == SLOT_CONSUMING)
		log_event(LOG_INFO, "worker.consuming", L_INT("worker", w->number));
	if (after == SLOT_CONSUMING)
		crew->tested = true;
	if ((after == SLOT_LOADED || after == SLOT_CONSUMING) && !crew->ready) {
		crew->ready = true;
		notify_send(&crew->notify, "READY=1");
		log_event(LOG_INFO, "daemon.ready", L_INT("worker", w->number));
	}
}

static void follow(struct crew *crew, struct worker *w, enum slot_state before, unsigned actions)
{
	announce(crew, w, before);
	if (actions & SLOT_DO_SPAWN)
		spawn(crew, w);
	if (actions & SLOT_DO_DRAIN)
		tell(w, IPC_DRAIN, left_ms(&w->slot));
	if (actions & SLOT_DO_NOW)
		tell(w, IPC_NOW, 0);
	if (actions & SLOT_DO_ABORT)
		send_signal(
		    w, SIGABRT, before == SLOT_STARTING ? "worker.late" : "worker.unresponsive");
	if (actions & SLOT_DO_KILL)
		send_signal(w, SIGKILL, "worker.killed");
	if (actions & SLOT_DO_FATAL)
		stop(crew, SLOT_NOW);
}

/* ---- what workers say ---- */

static void hear(struct crew *crew, struct worker *w, const struct ipc_msg *msg)
{
	switch (msg->word) {
	case IPC_LOADED:
		step(crew, w, SLOT_IS_LOADED);
		break;
	case IPC_CONSUMING:
		w->consumed = true;
		w->why[0] = '\0';
		step(crew, w, SLOT_IS_CONSUMING);
		break;
	case IPC_REFUSED:
		snprintf(w->why, sizeof(w->why), "%.*s", (int)msg->len, msg->text);
		log_event(
		    LOG_ERROR, "worker.refused", L_INT("worker", w->number), L_STR("why", w->why));
		step(crew, w, SLOT_REFUSED);
		break;
	case IPC_PULSE:
		step(crew, w, SLOT_PULSE);
		break;
	case IPC_GIVEN_BACK:
		crew->gave_back |= crew->stopping && msg->number > w->given_back;
		w->given_back = msg->number;
		break;
	case IPC_STATE:
		snprintf(w->why, sizeof(w->why), "%.*s", (int)msg->len, msg->text);
		if (msg->len > 0)
			step(crew, w, SLOT_IS_STALLED);
		else if (w->consumed)
			step(crew, w, SLOT_IS_CONSUMING);
		break;
	default: /* ours to say, not its */
		step(crew, w, SLOT_DEAF);
	}
}

/* False when nothing more will come. */
static bool listen_to(struct crew *crew, struct worker *w)
{
	struct ipc_msg msg;
	int got = 0;

	while (w->child.ipc >= 0 && (got = ipc_recv(w->child.ipc, &msg)) > 0)
		hear(crew, w, &msg);
	return got == 0;
}

/* A process that ends closes its socket a moment before it can be reaped: it is deaf only if it is
 * still there a pass later. */
static void listen_to_all(struct crew *crew)
{
	for (struct worker *w = NULL; (w = crew_after(crew, w));) {
		if (w->child.pid > 0 && w->child.ipc < 0)
			step(crew, w, SLOT_DEAF);
		else if (!listen_to(crew, w))
			child_close_ipc(&w->child);
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
	bool again = w->slot.state == SLOT_BACKOFF;
	int64_t wait_ns = w->slot.deadline_ns - clock_mono_ns();
	bool bad = was_wanted(before) || end->signal != 0;

	log_event(bad ? LOG_ERROR : LOG_INFO, "worker.exited", L_INT("worker", w->number),
	    L_INT("pid", pid),
	    L_INT(end->signal ? "signal" : "code", end->signal ? end->signal : end->code),
	    L_OPT("name", end->signal ? sigabbrev_np(end->signal) : NULL),
	    L_STR("was", slot_state_name(before)), L_BOOL("unexpected", was_wanted(before)),
	    L_OPT("jobs", jobs), L_INT("failures", w->slot.failures),
	    again ? L_NS("restart_in", wait_ns > 0 ? wait_ns : 0) : L_OPT("restart_in", NULL));
	if (again && w->slot.failures == CRASH_LOOP)
		log_event(LOG_ERROR, "worker.crashloop", L_INT("worker", w->number),
		    L_INT("failures", w->slot.failures));
}

static void worker_ended(struct crew *crew, struct worker *w, int status)
{
	struct slot_end end = {
		.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
		.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
		.worked = score_finished(w->generation->score, w->number) > 0,
	};
	enum slot_state before;
	pid_t pid = w->child.pid;
	char jobs[CREW_WHY_MAX * 2];
	unsigned actions, n_jobs;

	(void)listen_to(crew, w);
	child_close_ipc(&w->child);
	w->child.pid = 0;
	w->ends++;
	/* a next generation that refuses is rolled back, and the old one runs on */
	end.untested = !crew->tested && w->generation == crew->current;
	before = w->slot.state;
	n_jobs = name_jobs(w, jobs, sizeof(jobs));
	actions = slot_ended(&w->slot, &end, clock_mono_ns());
	log_ended(w, &end, before, pid, jobs);
	log_interrupted(w);
	end_groups(crew, w);
	crew->gave_back |= crew->stopping && (end.code == EXIT_TEMPFAIL || n_jobs > 0);
	if (actions & SLOT_DO_FATAL) {
		log_event(
		    LOG_ERROR, "worker.fatal", L_INT("worker", w->number), L_INT("code", end.code));
		crew->exit_code = end.code;
	}
	follow(crew, w, before, actions);
}

static void check_finished(struct crew *crew, int status);

/* Somebody's child is gone: one of ours, or as PID 1 an orphan that was handed to us. */
static void reaped(struct crew *crew, pid_t pid, int status)
{
	if (pid == crew->check.child.pid) {
		check_finished(crew, status);
		return;
	}
	for (struct worker *w = NULL; (w = crew_after(crew, w));) {
		if (w->child.pid == pid) {
			worker_ended(crew, w, status);
			return;
		}
	}
}

static void reap_one(struct crew *crew, pid_t pid)
{
	int status;

	if (pid > 0 && waitpid(pid, &status, WNOHANG) == pid)
		reaped(crew, pid, status);
}

static void reap(struct crew *crew)
{
	pid_t pid;
	int status;

	for (struct worker *w = NULL; (w = crew_after(crew, w));)
		reap_one(crew, w->child.pid);
	reap_one(crew, crew->check.child.pid);
	if (getpid() == 1)
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			reaped(crew, pid, status);
}

