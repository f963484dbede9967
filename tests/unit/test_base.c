/* Byte strings, the two clocks, and how a broken promise ends the process. */
#include "base.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

START_TEST(bytes_compare_by_content)
{
	ck_assert(bytes_equal(BYTES_LIT("a\0b"), BYTES_LIT("a\0b")));
	ck_assert(!bytes_equal(BYTES_LIT("a\0b"), BYTES_LIT("a\0c")));
	ck_assert(!bytes_is(BYTES_LIT("a\0b"), "a"));
	ck_assert(bytes_is((struct bytes){ NULL, 0 }, ""));
	ck_assert(bytes_is((struct bytes){ "", 0 }, NULL));
	ck_assert_uint_eq(bytes_of(NULL).len, 0);
	ck_assert_uint_eq(bytes_of("four").len, 4);
}
END_TEST

START_TEST(allocation_gives_memory)
{
	unsigned char *p = xcalloc(0, 0);
	free(p);
	p = xcalloc(3, 5);
	for (int i = 0; i < 15; i++)
		ck_assert_uint_eq(p[i], 0);
	free(p);
	char *s = xstrdup("same");
	ck_assert_str_eq(s, "same");
	free(s);
	s = xasprintf("%d-%s", 4, "x");
	ck_assert_str_eq(s, "4-x");
	free(s);
}
END_TEST

/* What the process wrote on descriptor 2 before it ended with `status`. */
static int end_of(void (*last)(void), char *text, size_t size)
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct rlimit no_core = { 0, 0 };
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)signal(SIGABRT, SIG_DFL);
		(void)dup2(ends[1], STDERR_FILENO);
		last();
		_exit(0);
	}
	(void)close(ends[1]);
	size_t len = 0;
	for (ssize_t n; (n = read(ends[0], text + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	text[len] = '\0';
	(void)close(ends[0]);
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void break_a_promise(void)
{
	CHECK(1 + 1 == 3);
}

START_TEST(a_broken_promise_says_where_and_aborts)
{
	char text[1024];
	int status = end_of(break_a_promise, text, sizeof(text));
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	ck_assert_ptr_nonnull(strstr(text, "1 + 1 == 3 does not hold"));
	ck_assert_ptr_nonnull(strstr(text, "test_base.c:"));
}
END_TEST

#ifndef WARREN_SANITIZED /* which refuse such a size in their own way */
static void exhaust_memory(void)
{
	volatile size_t most = (size_t)PTRDIFF_MAX;
	free(xcalloc(1, most));
}

START_TEST(out_of_memory_at_start_ends_with_71)
{
	char text[1024];
	int status = end_of(exhaust_memory, text, sizeof(text));
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), EXIT_OS);
	ck_assert_ptr_nonnull(strstr(text, "out of memory"));
}
END_TEST
#endif

START_TEST(clocks_go_forward)
{
	int64_t before = clock_mono_ns();
	ck_assert_int_ge(clock_mono_ns(), before);
	ck_assert_int_gt(clock_wall_ms(), INT64_C(1600000000000));
}
END_TEST

START_TEST(poll_timeouts_are_bounded)
{
	int64_t now = clock_mono_ns();
	ck_assert_int_eq(clock_until_ms(0, 1000), 0);
	ck_assert_int_eq(clock_until_ms(now, 1000), 0);
	ck_assert_int_eq(clock_until_ms(CLOCK_NEVER, 1000), 1000);
	ck_assert_int_eq(clock_until_ms(now + 3600 * NS_PER_S, 1000), 1000);
	int left = clock_until_ms(now + 600 * NS_PER_S, 3600 * 1000);
	ck_assert_int_gt(left, 500 * 1000);
	ck_assert_int_le(left, 600 * 1000);
	/* Rounded up, so that a poll does not wake before its deadline and spin. */
	ck_assert_int_ge(clock_until_ms(clock_mono_ns() + 50 * NS_PER_MS, 1000), 1);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("base");
	tcase_add_test(t, bytes_compare_by_content);
	tcase_add_test(t, allocation_gives_memory);
	tcase_add_test(t, a_broken_promise_says_where_and_aborts);
#ifndef WARREN_SANITIZED
	tcase_add_test(t, out_of_memory_at_start_ends_with_71);
#endif
	tcase_add_test(t, clocks_go_forward);
	tcase_add_test(t, poll_timeouts_are_bounded);

	Suite *suite = suite_create("base");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
