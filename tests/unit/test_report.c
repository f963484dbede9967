/* The status as its readers take it apart. */
#include "report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "stage.h"

#define CONFIG                                                                                     \
	"plugins = { load = ( { file = \"/lib/x.so\"; } ); };"                                     \
	"queues = ( { name = \"images\"; task = \"img.scale\"; threads = 4; },"                    \
	"           { name = \"mixed\"; route = \"header:kind\"; threads = 2; } );"

static struct stage stage;
static struct worker *worker;

static void setup(void)
{
	stage_open(&stage, CONFIG);
	worker = stage_worker(&stage, 0, SLOT_CONSUMING);
}

static void teardown(void)
{
	stage_close(&stage);
}

static json_t *report(void)
{
	struct view *view = stage_look(&stage);
	char *text = report_status(view);
	json_t *status;

	ck_assert_ptr_nonnull(text);
	for (const char *c = text; *c; c++)
		ck_assert_msg(*c >= 0x20 && *c < 0x7F, "a byte %d", *c);
	status = json_loads(text, 0, NULL);
	ck_assert_ptr_nonnull(status);
	free(text);
	view_destroy(view);
	return status;
}

/* Every name of the contract, so that a reader finds it whatever the daemon does. */
static const struct {
	const char *list; /* NULL: of the whole */
	const char *keys[24];
} contract[] = {
	{ NULL, { "ok", "version", "pid", "uptime_s", "generation", "state", "config", "log_level",
		    "last_reload", "problems", "healed", "workers", "connections", "queues",
		    "threads_total", "threads_busy", "threads", "totals" } },
	{ "workers",
	    { "worker", "pid", "generation", "state", "uptime_s", "jobs", "memory_bytes", "why" } },
	{ "connections", { "worker", "connection", "broker", "product", "state", "since_s", "error",
			     "error_ago_s", "retry_in_s" } },
	{ "queues",
	    { "queue", "task", "route", "ack", "threads", "consumers", "paused", "running", "ready",
		"unacked", "dead_letters", "seen_s", "rate", "counts", "wait", "run", "tasks" } },
	{ "threads", { "worker", "thread", "queue", "state", "job" } },
	{ "problems", { "subject", "what", "severity", "for_s", "why", "remedy", "next_try_s" } },
};

START_TEST(it_has_every_name_of_the_contract)
{
	json_t *status, *object;

	stage_conn(&stage, worker, BOARD_WORK, BOARD_DOWN, "connect: refused");
	stage_thread(&stage, worker, 0, 0, ROW_RUNNING, "");
	status = report();
	object = contract[_i].list ? json_array_get(json_object_get(status, contract[_i].list), 0)
				   : status;
	ck_assert_ptr_nonnull(object);
	for (size_t i = 0; contract[_i].keys[i]; i++)
		ck_assert_msg(json_object_get(object, contract[_i].keys[i]) != NULL, "no %s of %s",
		    contract[_i].keys[i], contract[_i].list ? contract[_i].list : "all");
	json_decref(status);
}
END_TEST

static double number(const json_t *object, const char *key)
{
	ck_assert_msg(json_is_number(json_object_get(object, key)), "%s is no number", key);
	return json_number_value(json_object_get(object, key));
}

START_TEST(durations_are_seconds_and_what_is_missing_is_null)
{
	json_t *status, *down, *up;

	stage_conn(&stage, worker, BOARD_WORK, BOARD_DOWN, "connect: refused");
	stage_conn(&stage, worker, BOARD_PUBLISH, BOARD_UP, "");
	status = report();
	down = json_array_get(json_object_get(status, "connections"), 0);
	up = json_array_get(json_object_get(status, "connections"), 1);
	ck_assert(fabs(number(down, "since_s") - 60) < 5);
	ck_assert(fabs(number(down, "error_ago_s") - 2) < 5);
	ck_assert(number(down, "retry_in_s") <= 3);
	ck_assert(json_is_null(json_object_get(up, "error_ago_s")));
	ck_assert(json_is_null(json_object_get(up, "retry_in_s")));
	ck_assert(json_is_null(json_object_get(status, "last_reload")));
	json_decref(status);
}
END_TEST

START_TEST(queues_and_jobs_are_as_they_are)
{
	struct score *score = stage.crew.current->score;
	struct tally *tally = score_tally(score, score_find_tally(score, 1, "a"));
	json_t *status, *queue, *job;

	for (int i = 0; i < 10; i++)
		histogram_add(&tally->run, 700 * NS_PER_MS);
	tally_count(tally, COUNT_DONE, 10);
	stage_thread(&stage, worker, 0, 0, ROW_IDLE, "");
	stage_thread(&stage, worker, 1, 1, ROW_RUNNING, "a");
	watch_reloaded(&stage.watch, RELOAD_ROLLED_BACK, "too late");
	status = report();
	queue = json_array_get(json_object_get(status, "queues"), 1);
	ck_assert_str_eq(json_string_value(json_object_get(queue, "route")), "header:kind");
	ck_assert(json_is_null(json_object_get(queue, "task")));
	ck_assert(json_is_null(json_object_get(queue, "ready")));
	ck_assert_int_eq((int)number(queue, "running"), 1);
	ck_assert_int_eq((int)number(json_object_get(queue, "counts"), "done"), 10);
	ck_assert(fabs(number(json_object_get(queue, "run"), "p50_s") - 0.75) < 1e-9);
	ck_assert(json_is_null(json_object_get(json_object_get(queue, "wait"), "p99_s")));
	ck_assert_int_eq((int)number(json_object_get(status, "totals"), "done"), 10);
	ck_assert_int_eq((int)number(status, "threads_total"), 2);
	ck_assert_int_eq((int)number(status, "threads_busy"), 1);
	job = json_object_get(json_array_get(json_object_get(status, "threads"), 0), "job");
	ck_assert_str_eq(json_string_value(json_object_get(job, "task")), "a");
	ck_assert(fabs(number(job, "left_s") - 280) < 5);
	ck_assert(json_is_null(json_object_get(job, "progress")));
	ck_assert_str_eq(
	    json_string_value(json_object_get(json_object_get(status, "last_reload"), "outcome")),
	    "rolled-back");
	json_decref(status);
}
END_TEST

START_TEST(bytes_of_strangers_do_not_break_it)
{
	json_t *status, *job;

	stage_conn(&stage, worker, BOARD_WORK, BOARD_BLOCKED, "\xff\x1b[31m\n");
	stage_thread(&stage, worker, 0, 0, ROW_STUCK, "img\xc3\"\\");
	(void)snprintf(worker->why, sizeof(worker->why), "%s", "\xe2\x80\xae\xf0");
	watch_reloaded(&stage.watch, RELOAD_REFUSED, "\xc3");
	status = report();
	job = json_object_get(json_array_get(json_object_get(status, "threads"), 0), "job");
	ck_assert_str_eq(json_string_value(json_object_get(job, "task")), "img\\xc3\\\"\\\\");
	ck_assert_uint_eq(json_array_size(json_object_get(status, "problems")), 3);
	json_decref(status);
}
END_TEST

/* ---- shortage of memory, wherever it strikes ---- */

static size_t allocations, fails_at;

static void *short_malloc(size_t size)
{
	return ++allocations == fails_at ? NULL : malloc(size);
}

START_TEST(without_memory_there_is_none)
{
	struct view *view;
	char *text;

	stage_conn(&stage, worker, BOARD_WORK, BOARD_UP, "");
	stage_thread(&stage, worker, 0, 0, ROW_RUNNING, "a");
	view = stage_look(&stage);
	json_set_alloc_funcs(short_malloc, free);
	for (fails_at = 1;; fails_at++) {
		allocations = 0;
		text = report_status(view);
		if (text)
			break;
		ck_assert_uint_ge(allocations, fails_at);
	}
	ck_assert_uint_gt(fails_at, 100);
	free(text);
	json_set_alloc_funcs(malloc, free);
	view_destroy(view);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("report");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, it_has_every_name_of_the_contract, 0, (int)ARRAY_LEN(contract));
	tcase_add_test(t, durations_are_seconds_and_what_is_missing_is_null);
	tcase_add_test(t, queues_and_jobs_are_as_they_are);
	tcase_add_test(t, bytes_of_strangers_do_not_break_it);
	tcase_add_test(t, without_memory_there_is_none);

	Suite *suite = suite_create("report");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
