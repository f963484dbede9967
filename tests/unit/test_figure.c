/* Numbers for people. */
#include "figure.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base.h"

static const struct {
	char *(*figure)(double, char *);
	double n;
	const char *text;
} cases[] = {
	{ figure_count, 0, "0" },
	{ figure_count, 9999, "9999" },
	{ figure_count, 10000, "10.0k" },
	{ figure_count, 12345, "12.3k" },
	{ figure_count, 99949, "99.9k" },
	{ figure_count, 99951, "100k" },
	{ figure_count, 999499, "999k" },
	{ figure_count, 999501, "1.0M" },
	{ figure_count, 1234567, "1.2M" },
	{ figure_count, 1e300, "-" }, /* nothing counts so far; and it would be long */
	{ figure_count, -12345, "-12.3k" },
	{ figure_count, NAN, "-" },
	{ figure_count, INFINITY, "-" },
	{ figure_rate, 0, "0" },
	{ figure_rate, 0.05, "0.05" },
	{ figure_rate, 0.994, "0.99" },
	{ figure_rate, 0.996, "1.0" },
	{ figure_rate, 12.5, "12.5" },
	{ figure_rate, 99.96, "100" },
	{ figure_rate, 1234.4, "1234" },
	{ figure_rate, NAN, "-" },
	{ figure_bytes, 0, "0 B" },
	{ figure_bytes, 1023, "1023 B" },
	{ figure_bytes, 1024, "1.0 KiB" },
	{ figure_bytes, 1288490189.0, "1.2 GiB" },
	{ figure_bytes, 1048575.9, "1.0 MiB" },
	{ figure_bytes, NAN, "-" },
	{ figure_time, 0, "0 s" },
	{ figure_time, 0.000012, "12 us" },
	{ figure_time, 0.0035, "3.5 ms" },
	{ figure_time, 0.35, "350 ms" },
	{ figure_time, 0.9996, "1.0 s" },
	{ figure_time, 1.54, "1.5 s" },
	{ figure_time, 9.96, "10 s" },
	{ figure_time, 59.4, "59 s" },
	{ figure_time, 59.5, "1m 00s" },
	{ figure_time, 200, "3m 20s" },
	{ figure_time, 3599.6, "1h 00m" },
	{ figure_time, 14700, "4h 05m" },
	{ figure_time, 273900, "3d 04h" },
	{ figure_time, 1e300, "9999d 00h" },
	{ figure_time, -44, "-44 s" },
	{ figure_time, -INFINITY, "-" },
};

START_TEST(is_short)
{
	char buf[FIGURE_SIZE];
	ck_assert_str_eq(cases[_i].figure(cases[_i].n, buf), cases[_i].text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("figure");
	TCase *tc = tcase_create("figures");
	tcase_add_loop_test(tc, is_short, 0, ARRAY_LEN(cases));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
