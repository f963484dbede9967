/* What is gathered from crew, scoreboards and configuration. */
#include "stage.h"

#include "account.h"
#include "text.h"

#define CONFIG                                                                                     \
	"plugins = { load = ( { file = \"/lib/x.so\"; } ); };"                                     \
	"workers = { processes = 2; };"                                                            \
	"queues = ( { name = \"images\"; task = \"img.scale\"; threads = 4; },"                    \
	"           { name = \"mixed\"; route = \"type\"; threads = 2; } );"

static struct stage stage;

static void setup(void)
{
	stage_open(&stage, CONFIG);
}

static void teardown(void)
{
	stage_close(&stage);
}

static const struct view_queue *queue_of(const struct view *view, const char *name)
{
	for (size_t i = 0; i < view->n_queues; i++)
		if (strcmp(view->queues[i].queue, name) == 0)
			return &view->queues[i];
	ck_abort_msg("no queue %s", name);
}

START_TEST(a_daemon_at_rest)
{
	struct view *view;

	for (unsigned post = 0; post < 2; post++) {
		const struct worker *w = stage_worker(&stage, post, SLOT_CONSUMING);

		stage_conn(&stage, w, BOARD_WORK, BOARD_UP, "");
		stage_conn(&stage, w, BOARD_PUBLISH, BOARD_UP, "");
		stage_source(&stage, w, 0,
		    &(struct board_source){ .state = BOARD_CONSUMING,
			.threads = 4,
			.consuming = 4,
			.unacked = 1,
			.ready = 10 + post,
			.dead = 2,
			.seen_ns = clock_mono_ns() - (int64_t)post * NS_PER_S });
	}
	view = stage_look(&stage);
	ck_assert_int_eq(view->state, VIEW_RUNNING);
	ck_assert_uint_eq(view->n_workers, 2);
	ck_assert_str_eq(view->workers[1].worker, "1");
	ck_assert(view->workers[1].stands && view->workers[1].current);
	ck_assert_int_gt(view->workers[0].memory_bytes, 100000);
	ck_assert_uint_eq(view->n_conns, 4);
	ck_assert_uint_eq(view->n_consuming, 2);
	ck_assert_str_eq(view->queues[0].queue, "images");
	ck_assert_uint_eq(view->queues[0].threads, 8);
	ck_assert_uint_eq(view->queues[0].consumers, 8);
	ck_assert_uint_eq(view->queues[0].unacked, 2);
	ck_assert_int_eq(view->queues[0].ready, 10); /* what was seen last */
	ck_assert_str_eq(view->queues[0].task, "img.scale");
	ck_assert_ptr_null(view->queues[0].route);
	ck_assert_str_eq(view->queues[1].route, "type");
	ck_assert_ptr_null(view->queues[1].task);
	ck_assert_int_eq(view->queues[1].ready, -1);
	ck_assert(view->ready);
	ck_assert_uint_eq(view->n_troubles, 0);
	view_destroy(view);
}
END_TEST

/* While a process is relieved, the one that can do most speaks for the post. */
START_TEST(one_process_stands_for_its_post)
{
	struct worker *old = stage_worker(&stage, 0, SLOT_CONSUMING), *fresh = old + 1;
	struct view *view;

	fresh->slot.state = SLOT_LOADED;
	fresh->child.pid = getpid();
	stage_source(&stage, old, 0, &(struct board_source){ .state = BOARD_CONSUMING });
	stage_source(&stage, fresh, 0, &(struct board_source){ .state = BOARD_WAITING });
	view = stage_look(&stage);
	ck_assert(view->workers[0].stands && !view->workers[1].stands);
	ck_assert_int_eq(view->queues[0].state, BOARD_CONSUMING);
	view_destroy(view);
	old->slot.state = SLOT_DRAINING;
	view = stage_look(&stage);
	ck_assert(!view->workers[0].stands && view->workers[1].stands);
	ck_assert_int_eq(view->queues[0].state, BOARD_WAITING);
	view_destroy(view);
}
END_TEST

static const struct {
	enum score_state state;
	const char *word;
	bool has_job, runs;
} thread_cases[] = {
	{ ROW_TAKEN, "running", false, true },
	{ ROW_RUNNING, "running", true, true },
	{ ROW_SETTLING, "settling", true, true },
	{ ROW_SETTLED, "settling", true, false },
	{ ROW_GIVEN_UP, "given-up", true, true },
	{ ROW_STUCK, "given-up", true, false },
};

START_TEST(threads_and_what_they_run)
{
	struct worker *w = stage_worker(&stage, 0, SLOT_CONSUMING);
	struct view *view;

	stage_thread(&stage, w, 3, 1, thread_cases[_i].state, "img.scale");
	stage_thread(&stage, w, 2, 1, ROW_IDLE, "img.scale"); /* is counted, and not shown */
	view = stage_look(&stage);
	ck_assert_uint_eq(view->threads_total, 2);
	ck_assert_uint_eq(view->threads_busy, 1);
	ck_assert_uint_eq(view->n_threads, 1);
	ck_assert_uint_eq(view->threads[0].thread, 3);
	ck_assert_str_eq(view->threads[0].queue, "mixed");
	ck_assert_str_eq(view_thread_word(view->threads[0].state), thread_cases[_i].word);
	ck_assert(!!view->threads[0].job == thread_cases[_i].has_job);
	ck_assert_uint_eq(view->queues[1].running, thread_cases[_i].runs);
	view_destroy(view);
}
END_TEST

/* Of more than a reader can be told at once, those that run longest. */
START_TEST(of_very_many_threads_the_oldest_are_shown)
{
	enum { EACH = 700, MANY = 3 * EACH };
	struct score *score = stage.crew.current->score;
	struct score_job job = { .deadline_ns = CLOCK_NEVER };
	struct worker *w = stage_worker(&stage, 0, SLOT_CONSUMING);
	struct view *view;

	ck_assert(score_use_rows(score, EACH));
	for (uint32_t i = 0; i < MANY; i++) {
		w[i / EACH].slot.state = SLOT_CONSUMING;
		w[i / EACH].child.pid = getpid();
		job.started_ns = MANY - i;
		score_begin(score_row(score, w[i / EACH].place, i % EACH), &job);
	}
	view = stage_look(&stage);
	ck_assert_uint_eq(view->threads_busy, MANY);
	ck_assert_uint_eq(view->queues[0].running, MANY);
	ck_assert_uint_eq(view->n_threads, VIEW_THREADS_MAX);
	ck_assert_uint_eq(view->threads[0].thread, EACH - 1);
	ck_assert_int_eq(view->threads[VIEW_THREADS_MAX - 1].job->started_ns, VIEW_THREADS_MAX);
	view_destroy(view);
}
END_TEST

static const struct {
	enum score_state state;
	int64_t left_s;
	bool seen;
} overdue_cases[] = {
	{ ROW_RUNNING, 60, false },
	{ ROW_RUNNING, -60, true },
	{ ROW_SETTLING, -60, false },
	{ ROW_GIVEN_UP, 60, true },
	{ ROW_STUCK, 60, true },
};

/* All that the watch asks for every second; queues are counted in full. */
START_TEST(the_watch_sees_threads_that_are_overdue)
{
	struct worker *w = stage_worker(&stage, 0, SLOT_CONSUMING);
	struct score_row *row = score_row(stage.crew.current->score, w->place, 0);
	struct score_job job = { .task = "x" };
	const struct accounts none = { 0 };
	struct view *view;

	job.deadline_ns = clock_mono_ns() + overdue_cases[_i].left_s * NS_PER_S;
	score_begin(row, &job);
	score_state(row, overdue_cases[_i].state);
	view = view_create(&stage.watch.subject, &none, VIEW_OVERDUE);
	ck_assert_ptr_nonnull(view);
	ck_assert_uint_eq(view->n_threads, overdue_cases[_i].seen);
	ck_assert_uint_eq(view->threads_busy, 1);
	ck_assert_uint_eq(view->queues[0].running, overdue_cases[_i].state != ROW_STUCK);
	view_destroy(view);
}
END_TEST

/* What was taken is settled or runs, whichever generation did it. */
START_TEST(counts_of_gone_generations_stay)
{
	struct score *score = stage.crew.current->score;
	struct accounts gone = { 0 };
	struct account old = { .queue = "gone", .task = "x" };
	struct view *view;

	old.sum.counts[COUNT_TAKEN] = 5;
	gone = (struct accounts){ &old, 1, 1 };
	ck_assert(accounts_add(&stage.crew.past, &gone));
	tally_count(score_tally(score, score_find_tally(score, 1, "a")), COUNT_TAKEN, 2);
	tally_count(score_tally(score, score_find_tally(score, 1, "b")), COUNT_TAKEN, 3);
	view = stage_look(&stage);
	ck_assert_uint_eq(view->totals.counts[COUNT_TAKEN], 10);
	ck_assert_uint_eq(queue_of(view, "mixed")->sum.counts[COUNT_TAKEN], 5);
	ck_assert_uint_eq(queue_of(view, "mixed")->n_tasks, 3); /* "" is always there */
	ck_assert_uint_eq(queue_of(view, "gone")->sum.counts[COUNT_TAKEN], 5);
	ck_assert(!queue_of(view, "gone")->configured);
	ck_assert(queue_of(view, "images")->configured);
	view_destroy(view);
}
END_TEST

START_TEST(strings_of_strangers_are_valid_utf8)
{
	struct worker *w = stage_worker(&stage, 0, SLOT_CONSUMING);
	struct score *score = stage.crew.current->score;
	struct view *view;

	stage_conn(&stage, w, BOARD_WORK, BOARD_UP, "low on \xff");
	stage_thread(&stage, w, 0, 0, ROW_RUNNING, "img\xc3");
	(void)score_find_tally(score, 1, "bad\xfe");
	(void)score_find_tally(score, 1, "sch\xc3\xb6n");
	(void)snprintf(w->why, sizeof(w->why), "%s", "\x80");
	view = stage_look(&stage);
	ck_assert_str_eq(view->conns[0].error, "low on \\xff");
	ck_assert_str_eq(view->threads[0].job->task, "img\\xc3");
	ck_assert_str_eq(view->workers[0].why, "\\x80");
	ck_assert_str_eq(queue_of(view, "mixed")->tasks[1].task, "bad\\xfe");
	ck_assert_str_eq(queue_of(view, "mixed")->tasks[2].task, "sch\xc3\xb6n");
	view_destroy(view);
}
END_TEST

/* A plugin may have scribbled over all of it. */
START_TEST(a_spoilt_scoreboard_is_bounded)
{
	struct worker *w = stage_worker(&stage, 0, SLOT_CONSUMING);
	struct score *score = stage.crew.current->score;
	struct view *view;

	stage_thread(&stage, w, 0, 99, ROW_RUNNING, "x");
	stage_thread(&stage, w, 1, 0, (enum score_state)77, "x");
	stage_thread(&stage, w, 2, 0, ROW_RUNNING, "x");
	memset(&score_row(score, w->place, 2)->job, 0xFF, sizeof(struct score_job));
	atomic_store(&score_row(score, w->place, 2)->progress, 1000);
	atomic_store(&score_wish(score, 0)->threads, UINT32_MAX);
	view = stage_look(&stage);
	ck_assert_uint_eq(view->n_threads, 1);
	ck_assert_int_eq(view->threads[0].job->progress, -1);
	ck_assert(text_is_utf8(bytes_of(view->threads[0].job->message_id)));
	ck_assert_uint_eq(view->queues[0].threads, 2 * CONF_THREADS_MAX);
	view_destroy(view);
}
END_TEST

/* ---- shortage of memory, wherever it strikes; the linker puts these in (tests/CMakeLists.txt)
 * ---- */

static size_t allocations, fails_at; /* 0: none */

static bool fails(void)
{
	return fails_at && ++allocations == fails_at;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

START_TEST(without_memory_there_is_none_and_a_later_look_is_whole)
{
	struct worker *w = stage_worker(&stage, 0, SLOT_CONSUMING);
	struct view *view = NULL;

	stage_conn(&stage, w, BOARD_WORK, BOARD_DOWN, "connect: refused");
	for (uint32_t i = 0; i < 4; i++)
		stage_thread(&stage, w, i, 0, ROW_STUCK, "img.scale");
	for (size_t n = 1; !view; n++) {
		allocations = 0;
		fails_at = n;
		view = watch_look(&stage.watch);
		fails_at = 0;
		ck_assert(view || allocations >= n);
	}
	ck_assert_uint_gt(allocations, 3);
	ck_assert_uint_eq(view->n_troubles, 2);
	view_destroy(view);
}
END_TEST

START_TEST(a_second_without_memory_is_left_out)
{
	struct worker *w = stage_worker(&stage, 0, SLOT_CONSUMING);

	stage_conn(&stage, w, BOARD_WORK, BOARD_DOWN, "connect: refused");
	for (size_t n = 1; stage.watch.headline[0] == '\0'; n++) {
		allocations = 0;
		fails_at = n;
		watch_tick(&stage.watch, false, clock_mono_ns() + (int64_t)n * NS_PER_S);
		fails_at = 0;
	}
	ck_assert_uint_eq(stage.watch.memory.n_open, 1);
}
END_TEST

START_TEST(a_start_is_over_when_something_consumes_or_its_limit_has_passed)
{
	struct view *view;

	stage.crew.tested = false;
	view = stage_look(&stage);
	ck_assert_int_eq(view->state, VIEW_STARTING);
	ck_assert(!view->ready);
	ck_assert_uint_eq(view->n_troubles, 0);
	view_destroy(view);
	stage.crew.current->deadline_ns = clock_mono_ns();
	view = stage_look(&stage);
	ck_assert_int_eq(view->state, VIEW_RUNNING);
	view_destroy(view);
	stage.crew.stopping = true;
	view = stage_look(&stage);
	ck_assert_int_eq(view->state, VIEW_STOPPING);
	ck_assert(!view->ready);
	view_destroy(view);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("view");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_daemon_at_rest);
	tcase_add_test(t, one_process_stands_for_its_post);
	tcase_add_loop_test(t, threads_and_what_they_run, 0, (int)ARRAY_LEN(thread_cases));
	tcase_add_test(t, of_very_many_threads_the_oldest_are_shown);
	tcase_add_loop_test(
	    t, the_watch_sees_threads_that_are_overdue, 0, (int)ARRAY_LEN(overdue_cases));
	tcase_add_test(t, counts_of_gone_generations_stay);
	tcase_add_test(t, strings_of_strangers_are_valid_utf8);
	tcase_add_test(t, a_spoilt_scoreboard_is_bounded);
	tcase_add_test(t, without_memory_there_is_none_and_a_later_look_is_whole);
	tcase_add_test(t, a_second_without_memory_is_left_out);
	tcase_add_test(t, a_start_is_over_when_something_consumes_or_its_limit_has_passed);

	Suite *suite = suite_create("view");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
