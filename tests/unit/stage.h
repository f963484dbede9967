/* A daemon as on a stage: a crew from a configuration, without a process, that a test poses. */
#ifndef WARREN_STAGE_H
#define WARREN_STAGE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "watch.h"

struct stage {
	struct crew crew;
	struct watch watch;
};

static inline void stage_open(struct stage *stage, const char *text)
{
	struct snapshot snapshot = { .fd = -1 };
	struct conf_errors errors = { 0 };

	*stage = (struct stage){ .crew.path = "/etc/warren/warren.cfg" };
	snapshot.conf = conf_parse("test.cfg", text, &errors, NULL);
	conf_errors_print(&errors, stderr);
	conf_errors_free(&errors);
	ck_assert_ptr_nonnull(snapshot.conf);
	stage->crew.current = crew_enlist(&stage->crew, &snapshot);
	ck_assert_ptr_nonnull(stage->crew.current);
	stage->crew.loaded = stage->crew.tested = true;
	watch_open(&stage->watch, &stage->crew);
}

static inline void stage_close(struct stage *stage)
{
	struct generation *g = stage->crew.current;

	watch_close(&stage->watch);
	accounts_free(&stage->crew.past);
	score_close(g->score);
	close(g->score_fd);
	conf_free(g->snapshot.conf);
	free(g->workers);
	free(g);
}

/* The first place of a post; its process is said to be ours, so that it has memory. */
static inline struct worker *stage_worker(struct stage *stage, unsigned post, enum slot_state state)
{
	struct worker *w = &stage->crew.current->workers[post * CREW_PLACES];

	w->slot.state = state;
	w->since_ns = w->slot.spawned_ns = clock_mono_ns() - 3600 * NS_PER_S;
	w->child.pid = state == SLOT_BACKOFF ? 0 : getpid();
	return w;
}

static inline void stage_conn(struct stage *stage, const struct worker *w, enum board_which which,
    enum board_conn_state state, const char *error)
{
	struct board_conn conn = {
		.state = (int32_t)state,
		.since_ns = clock_mono_ns() - 60 * NS_PER_S,
		.error_at_ns = error[0] ? clock_mono_ns() - 2 * NS_PER_S : 0,
		.retry_at_ns = state == BOARD_DOWN ? clock_mono_ns() + 3 * NS_PER_S : 0,
		.broker = "amqp://app:***@rabbit:5672/%2f",
		.product = "RabbitMQ 3.10.8",
	};

	(void)snprintf(conn.error, sizeof(conn.error), "%s", error);
	board_write_conn(score_conn(stage->crew.current->score, w->place, which), &conn);
}

static inline void stage_source(
    struct stage *stage, const struct worker *w, uint32_t queue, const struct board_source *source)
{
	board_write_source(score_source(stage->crew.current->score, w->place, queue), source);
}

/* A thread of the queue is in this state, with a job of this task if there is one. */
static inline void stage_thread(struct stage *stage, const struct worker *w, uint32_t thread,
    uint32_t queue, enum score_state state, const char *task)
{
	struct score_row *row = score_row(stage->crew.current->score, w->place, thread);
	struct score_job job = {
		.attempt = 1,
		.started_ns = clock_mono_ns() - 20 * NS_PER_S,
		.deadline_ns = clock_mono_ns() + 280 * NS_PER_S,
		.kill_ns = CLOCK_NEVER,
	};

	(void)snprintf(job.id, sizeof(job.id), "100.%u.1", thread);
	(void)snprintf(job.task, sizeof(job.task), "%s", task);
	atomic_store(&row->queue, queue);
	score_begin(row, &job);
	score_state(row, state);
}

static inline struct view *stage_look(struct stage *stage)
{
	struct view *view = watch_look(&stage->watch);

	ck_assert_ptr_nonnull(view);
	return view;
}

#endif
