/* The stamp of log lines: every day of the calendar, by the words of the C library. */
#include "clock.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

static int step = 1; /* days, seconds */

static void expect(int64_t wall_ms, int ms)
{
	time_t s = (time_t)((wall_ms - ms) / 1000);
	struct tm tm;
	char date[32], expected[CLOCK_STAMP_MAX], text[CLOCK_STAMP_MAX];
	ck_assert_ptr_nonnull(gmtime_r(&s, &tm));
	ck_assert_uint_gt(strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm), 0);
	(void)snprintf(expected, sizeof(expected), "%s.%03dZ", date, ms);
	clock_stamp(wall_ms, text);
	ck_assert_str_eq(text, expected);
}

/* 1800 to 2200: a whole cycle of leap years, on both sides of the epoch; now its first and now its
 * last moment. */
START_TEST(every_day_is_the_librarys)
{
	for (int64_t day = -62091; day < 84006; day += step)
		expect(day % 2 ? day * DAY_MS : (day + 1) * DAY_MS - 1, day % 2 ? 0 : 999);
}
END_TEST

START_TEST(every_second_of_a_day_is_the_librarys)
{
	for (int64_t s = 0; s < 24 * 3600; s += step)
		expect(20000 * DAY_MS + s * 1000 + s % 1000, (int)(s % 1000));
}
END_TEST

START_TEST(any_number_is_taken)
{
	char text[CLOCK_STAMP_MAX];
	clock_stamp(0, text);
	ck_assert_str_eq(text, "1970-01-01T00:00:00.000Z");
	clock_stamp(INT64_MAX / 2, text);
	clock_stamp(INT64_MIN / 2, text);
}
END_TEST

int main(void)
{
	if (getenv("WARREN_VALGRIND"))
		step = 97;
	TCase *t = tcase_create("clock");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_day_is_the_librarys);
	tcase_add_test(t, every_second_of_a_day_is_the_librarys);
	tcase_add_test(t, any_number_is_taken);

	Suite *suite = suite_create("clock");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
