/* text.upper: what comes back, and what does not. */
#include <check.h>
#include <stdlib.h>

#include "trial.h"

START_TEST(replies_in_capitals)
{
	struct trial t = { 0 };
	ck_assert(trial_open(&t, "upper"));
	ck_assert_int_eq(trial_run(&t, "text.upper", "Hello, world 1\n"), WARREN_DONE);
	ck_assert(trial_replied(&t, "HELLO, WORLD 1\n"));
	ck_assert(bytes_is(t.job->reply->props.content_type, "text/plain"));
	trial_close(&t);
}
END_TEST

START_TEST(an_empty_body_is_dead)
{
	struct trial t = { 0 };
	ck_assert(trial_open(&t, "upper"));
	ck_assert_int_eq(trial_run(&t, "text.upper", ""), WARREN_DEAD);
	ck_assert_str_eq(t.job->reason, "empty body");
	ck_assert_ptr_null(t.job->reply);
	trial_close(&t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("upper");
	TCase *upper = tcase_create("text.upper");
	tcase_add_test(upper, replies_in_capitals);
	tcase_add_test(upper, an_empty_body_is_dead);
	suite_add_tcase(suite, upper);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
