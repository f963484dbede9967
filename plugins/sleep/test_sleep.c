/* debug.sleep: how long it takes, and that it can be stopped. */
#include <check.h>
#include <stdlib.h>

#include "clock.h"
#include "trial.h"

static int64_t run_ms(struct trial *t, const char *body, enum warren_verdict verdict)
{
	int64_t start_ns = clock_mono_ns();
	ck_assert_int_eq(trial_run(t, "debug.sleep", body), verdict);
	return (clock_mono_ns() - start_ns) / NS_PER_MS;
}

static const struct {
	const char *body;
	int64_t least_ms;
} lengths[] = {
	{ "", 0 },
	{ "0", 0 },
	{ "no time at all", 0 },
	{ "120ms", 120 },
	{ "0.1s\n", 100 },
	{ "0.15", 150 },
	{ "work.", 1000 },
};

START_TEST(sleeps_as_told)
{
	struct trial t = { 0 };
	ck_assert(trial_open(&t, "sleep"));
	int64_t took_ms = run_ms(&t, lengths[_i].body, WARREN_DONE);
	ck_assert_int_ge(took_ms, lengths[_i].least_ms);
	ck_assert_int_lt(took_ms, lengths[_i].least_ms + 900);
	trial_close(&t);
}
END_TEST

START_TEST(the_option_wins)
{
	struct trial t = { 0 };
	trial_option(&t, "duration", "50ms");
	ck_assert(trial_open(&t, "sleep"));
	ck_assert_int_lt(run_ms(&t, "1h", WARREN_DONE), 900);
	trial_close(&t);
}
END_TEST

START_TEST(stops_at_its_time_limit)
{
	struct trial t = { .time_limit_ns = 100 * NS_PER_MS };
	ck_assert(trial_open(&t, "sleep"));
	ck_assert_int_lt(run_ms(&t, "1h", WARREN_RETRY), 1000);
	ck_assert_int_eq(t.job->progress, 0);
	trial_close(&t);
}
END_TEST

START_TEST(finishes_under_drain)
{
	struct trial t = { 0 };
	ck_assert(trial_open(&t, "sleep"));
	struct warren_job *job = trial_job(&t, "debug.sleep", BYTES_LIT("100ms"));
	job_stop(job, WARREN_STOP_DRAIN);
	ck_assert_int_eq(task_run(t.thread, job), WARREN_DONE);
	job = trial_job(&t, "debug.sleep", BYTES_LIT("1h"));
	job_stop(job, WARREN_STOP_NOW);
	ck_assert_int_eq(task_run(t.thread, job), WARREN_RETRY);
	trial_close(&t);
}
END_TEST

START_TEST(bytes_are_no_length)
{
	struct trial t = { 0 };
	ck_assert(trial_open(&t, "sleep"));
	struct warren_job *job = trial_job(&t, "debug.sleep", BYTES_LIT("1\0h"));
	ck_assert_int_eq(task_run(t.thread, job), WARREN_DEAD);
	trial_close(&t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sleep");
	TCase *sleeping = tcase_create("debug.sleep");
	tcase_add_loop_test(sleeping, sleeps_as_told, 0, (int)ARRAY_LEN(lengths));
	tcase_add_test(sleeping, the_option_wins);
	tcase_add_test(sleeping, stops_at_its_time_limit);
	tcase_add_test(sleeping, finishes_under_drain);
	tcase_add_test(sleeping, bytes_are_no_length);
	suite_add_tcase(suite, sleeping);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
