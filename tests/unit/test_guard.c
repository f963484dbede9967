/* What belongs to the whole process: changed as a plugin may change it, looked at, put back. */
#include "guard.h"

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct guard guard;
static int line[2];

static void set_signal(int number, void (*handler)(int))
{
	const struct sigaction action = { .sa_handler = handler };

	ck_assert_int_eq(sigaction(number, &action, NULL), 0);
}

static void (*get_signal(int number))(int)
{
	struct sigaction action;

	ck_assert_int_eq(sigaction(number, NULL, &action), 0);
	return action.sa_handler;
}

static void start(void)
{
	set_signal(SIGPIPE, SIG_IGN);
	set_signal(SIGHUP, SIG_IGN);
	set_signal(SIGCHLD, SIG_DFL);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line), 0);
	guard_start(&guard, line[0]);
}

static void stop(void)
{
	guard_stop(&guard);
	close(line[0]);
	close(line[1]);
}

static void handler(int number)
{
	(void)number;
}

START_TEST(ignored_signals_are_ignored_again)
{
	set_signal(SIGPIPE, SIG_DFL);
	set_signal(SIGHUP, SIG_DFL);
	guard_look(&guard);
	ck_assert(get_signal(SIGPIPE) == SIG_IGN);
	ck_assert(get_signal(SIGHUP) == SIG_IGN);
}
END_TEST

START_TEST(a_handler_of_the_plugins_own_stays)
{
	set_signal(SIGPIPE, handler);
	set_signal(SIGCHLD, handler);
	guard_look(&guard);
	ck_assert(get_signal(SIGPIPE) == handler);
	ck_assert(get_signal(SIGCHLD) == handler);
}
END_TEST

START_TEST(children_can_be_waited_for_again)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_NOCLDWAIT };

	set_signal(SIGCHLD, SIG_IGN);
	guard_look(&guard);
	ck_assert(get_signal(SIGCHLD) == SIG_DFL);
	ck_assert_int_eq(sigaction(SIGCHLD, &action, NULL), 0);
	guard_look(&guard);
	ck_assert_int_eq(sigaction(SIGCHLD, NULL, &action), 0);
	ck_assert_int_eq(action.sa_flags & SA_NOCLDWAIT, 0);
}
END_TEST

START_TEST(folder_and_umask_are_as_they_were)
{
	char before[PATH_MAX], after[PATH_MAX];
	mode_t mask = umask(0027);

	stop();
	start();
	ck_assert_ptr_nonnull(getcwd(before, sizeof(before)));
	ck_assert_int_eq(chdir("/"), 0);
	(void)umask(0);
	guard_look(&guard);
	ck_assert_ptr_nonnull(getcwd(after, sizeof(after)));
	ck_assert_str_eq(before, after);
	ck_assert_uint_eq(umask(mask), 0027);
}
END_TEST

START_TEST(the_locale_stays)
{
	ck_assert_ptr_nonnull(setlocale(LC_NUMERIC, "POSIX"));
	guard_look(&guard);
	ck_assert_str_eq(setlocale(LC_NUMERIC, NULL), "C"); /* another name of it */
	if (setlocale(LC_NUMERIC, "C.UTF-8")) {
		guard_look(&guard);
		ck_assert_uint_ne(atomic_load(&guard.said), 0);
		ck_assert_str_eq(setlocale(LC_NUMERIC, NULL), "C.UTF-8");
	}
}
END_TEST

START_TEST(a_threads_signal_mask_is_restored_after_the_first_task_that_follows_a_look)
{
	const struct warren_job job = { .id = "1.0.1" };
	sigset_t all, now;
	unsigned seen = 0;

	sigfillset(&all);
	guard_after(&guard, &seen, &job);
	ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
	guard_after(&guard, &seen, &job);
	ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	ck_assert_int_eq(sigismember(&now, SIGSEGV), 1); /* nobody has looked yet */
	guard_look(&guard);
	guard_after(&guard, &seen, &job);
	ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	ck_assert_int_eq(sigismember(&now, SIGSEGV), 0);
}
END_TEST

START_TEST(closed_descriptors_are_noticed_also_when_others_have_their_numbers)
{
	int other;

	ck_assert(guard_descriptors(&guard));
	close(line[0]);
	ck_assert(!guard_descriptors(&guard));
	other = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(other, line[0]);
	ck_assert(!guard_descriptors(&guard));
}
END_TEST

START_TEST(before_it_is_started_it_looks_at_nothing)
{
	struct guard none = { 0 };

	set_signal(SIGPIPE, SIG_DFL);
	guard_look(&none);
	ck_assert(get_signal(SIGPIPE) == SIG_DFL);
	ck_assert(guard_descriptors(&none));
	guard_stop(&none);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("guard");
	TCase *tcase = tcase_create("guard");
	SRunner *runner = srunner_create(suite);

	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_test(tcase, ignored_signals_are_ignored_again);
	tcase_add_test(tcase, a_handler_of_the_plugins_own_stays);
	tcase_add_test(tcase, children_can_be_waited_for_again);
	tcase_add_test(tcase, folder_and_umask_are_as_they_were);
	tcase_add_test(tcase, the_locale_stays);
	tcase_add_test(
	    tcase, a_threads_signal_mask_is_restored_after_the_first_task_that_follows_a_look);
	tcase_add_test(tcase, closed_descriptors_are_noticed_also_when_others_have_their_numbers);
	tcase_add_test(tcase, before_it_is_started_it_looks_at_nothing);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
