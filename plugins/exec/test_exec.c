/* exec.run: streams, environment, exit codes, and that no process outlives its job. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "trial.h"

enum { BIG = 3 * 1024 * 1024 };

/* A shell command as the program, and a reply is waited for. */
static void open_shell(struct trial *t, const char *command)
{
	t->props.present |= PROP_REPLY_TO;
	t->props.reply_to = BYTES_LIT("replies");
	trial_option(t, "shell", "true");
	trial_option(t, "program", command);
	ck_assert(trial_open(t, "exec"));
}

static void expect(
    struct trial *t, const char *body, enum warren_verdict verdict, const char *words)
{
	enum warren_verdict got = trial_run(t, "exec.run", body);
	ck_assert_msg(got == verdict, "%s: %s", host_verdict_word(got), t->job->reason);
	if (verdict == WARREN_DONE)
		ck_assert_msg(trial_replied(t, words), "%s", t->job->reply->body.data);
	else
		ck_assert_str_eq(t->job->reason, words);
}

START_TEST(body_in_output_out)
{
	struct trial t = { .props = { .present = PROP_REPLY_TO, .reply_to = BYTES_LIT("r") } };
	trial_option(&t, "program", "/bin/cat");
	trial_option(&t, "arguments", "-");
	ck_assert(trial_open(&t, "exec"));
	expect(&t, "some text", WARREN_DONE, "some text");
	expect(&t, "", WARREN_DONE, "");
	trial_close(&t);
}
END_TEST

/* More than any pipe holds, both ways at once. */
START_TEST(large_bodies_do_not_lock)
{
	struct trial t = { 0 };
	trial_option(&t, "max_output", "16MiB");
	open_shell(&t, "cat; cat /dev/null >&2");
	char *body = xcalloc(1, BIG + 1);
	memset(body, 'x', BIG);
	expect(&t, body, WARREN_DONE, body);
	free(body);
	trial_close(&t);
}
END_TEST

START_TEST(bodies_may_stay_unread)
{
	struct trial t = { 0 };
	open_shell(&t, "echo done");
	char *body = xcalloc(1, BIG + 1);
	memset(body, 'x', BIG);
	expect(&t, body, WARREN_DONE, "done\n");
	free(body);
	trial_close(&t);
}
END_TEST

START_TEST(too_much_output_is_dead)
{
	struct trial t = { 0 };
	trial_option(&t, "max_output", "1000");
	open_shell(&t, "head -c 1000 /dev/zero");
	ck_assert_int_eq(trial_run(&t, "exec.run", ""), WARREN_DONE);
	ck_assert_uint_eq(t.job->reply->body.len, 1000);
	trial_close(&t);

	struct trial more = { 0 };
	trial_option(&more, "max_output", "1000");
	open_shell(&more, "cat /dev/zero");
	expect(&more, "", WARREN_DEAD, "more than 1000 bytes of output");
	trial_close(&more);
}
END_TEST

static const struct {
	const char *code;
	enum warren_verdict verdict;
	const char *words;
} codes[] = {
	{ "exit 0", WARREN_DONE, "" },
	{ "exit 3", WARREN_DONE, "" },
	{ "exit 75", WARREN_RETRY, "exit code 75" },
	{ "exit 4", WARREN_RETRY, "exit code 4" },
	{ "exit 1", WARREN_DEAD, "exit code 1" },
	{ "kill -SEGV $$", WARREN_RETRY, "killed by SIGSEGV" },
	{ "kill -TERM $$", WARREN_RETRY, "killed by SIGTERM" },
};

START_TEST(exit_codes_are_verdicts)
{
	struct trial t = { 0 };
	trial_option(&t, "done_codes", "0,3");
	trial_option(&t, "retry_codes", "75,4");
	open_shell(&t, codes[_i].code);
	expect(&t, "", codes[_i].verdict, codes[_i].words);
	trial_close(&t);
}
END_TEST

START_TEST(other_codes_may_be_retried)
{
	struct trial t = { 0 };
	trial_option(&t, "otherwise", "retry");
	trial_option(&t, "dead_codes", "9");
	open_shell(&t, "read n; exit $n");
	expect(&t, "1\n", WARREN_RETRY, "exit code 1");
	expect(&t, "9\n", WARREN_DEAD, "exit code 9");
	trial_close(&t);
}
END_TEST

START_TEST(the_environment_is_safe)
{
	struct trial t = { .routing_key = "a.b",
		.props = { .present = PROP_TYPE, .type = BYTES_LIT("exec.run") } };
	setenv("CANARY", "secret", 1);
	trial_header(&t, "LD_PRELOAD", V_STR(BYTES_LIT("evil.so")));
	trial_header(&t, "x=y\nz", V_STR(BYTES_LIT("v")));
	trial_header(&t, "nul", V_STR(((struct bytes){ "a\0b", 3 })));
	trial_header(&t, "n", V_INT(-7));
	trial_option(&t, "environment", "GREETING=hello");
	open_shell(&t,
	    "echo \"$WARREN_ROUTING_KEY|$WARREN_TYPE|$WARREN_ATTEMPT|$WARREN_REDELIVERED|"
	    "$WARREN_HEADER_LD_PRELOAD|$LD_PRELOAD|$WARREN_HEADER_X_Y_Z|"
	    "$WARREN_HEADER_NUL|$WARREN_HEADER_N|$GREETING|$CANARY\"");
	expect(&t, "", WARREN_DONE, "a.b|exec.run|1|false|evil.so||v||-7|hello|\n");
	trial_close(&t);
}
END_TEST

START_TEST(arguments_stay_whole)
{
	struct trial t = { 0 };
	trial_option(&t, "arguments", "a b,$(id),*");
	open_shell(&t, "printf '%s;' \"$@\"");
	expect(&t, "", WARREN_DONE, "a b;$(id);*;");
	trial_close(&t);
}
END_TEST

START_TEST(runs_in_its_directory)
{
	struct trial t = { 0 };
	trial_option(&t, "directory", "/usr");
	open_shell(&t, "pwd");
	expect(&t, "", WARREN_DONE, "/usr\n");
	trial_close(&t);
}
END_TEST

START_TEST(starts_with_clean_signals)
{
	struct trial t = { 0 };
	sigset_t all;
	sigfillset(&all);
	signal(SIGPIPE, SIG_IGN);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	open_shell(&t, "grep -c 'SigBlk:.0000000000000000' /proc/self/status; "
		       "ls /proc/self/fd | wc -l");
	expect(&t, "", WARREN_DONE, "1\n4\n"); /* 0, 1, 2 and the folder that ls reads */
	trial_close(&t);
}
END_TEST

/* True when no process is left in the group that the command has told by its reply or its file. */
static bool is_gone(pid_t group)
{
	for (int i = 0; i < 200; i++) {
		if (kill(-group, 0) != 0 && errno == ESRCH)
			return true;
		usleep(10000);
	}
	return false;
}

static pid_t group_in(const char *path)
{
	FILE *file = fopen(path, "re");
	int pid = 0;
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fscanf(file, "%d", &pid), 1);
	fclose(file);
	unlink(path);
	return pid;
}

START_TEST(ends_at_the_time_limit_with_all_its_children)
{
	struct trial t = { .time_limit_ns = 300 * NS_PER_MS };
	char path[] = "/tmp/warren-test-XXXXXX";
	close(mkstemp(path));
	char *command =
	    xasprintf("echo $$ > %s; trap '' TERM; sleep 60 & sleep 60; sleep 60", path);
	trial_option(&t, "kill_after", "200ms");
	open_shell(&t, command);
	int64_t start_ns = clock_mono_ns();
	expect(&t, "", WARREN_RETRY, "ended because its time limit passed");
	ck_assert_int_lt(clock_mono_ns() - start_ns, 5 * NS_PER_S);
	ck_assert(is_gone(group_in(path)));
	ck_assert_int_eq(t.job->child, 0);
	trial_close(&t);
	free(command);
}
END_TEST

START_TEST(what_it_leaves_behind_ends_too)
{
	struct trial t = { 0 };
	open_shell(&t, "sleep 60 & echo $$");
	ck_assert_int_eq(trial_run(&t, "exec.run", ""), WARREN_DONE);
	ck_assert(is_gone((pid_t)atoi(t.job->reply->body.data)));
	trial_close(&t);
}
END_TEST

START_TEST(a_lost_exit_code_is_a_retry)
{
	struct trial t = { 0 };
	open_shell(&t, "exit 0");
	signal(SIGCHLD, SIG_IGN);
	enum warren_verdict verdict = trial_run(&t, "exec.run", "");
	signal(SIGCHLD, SIG_DFL);
	ck_assert_int_eq(verdict, WARREN_RETRY);
	ck_assert(strstr(t.job->reason, "SIGCHLD"));
	trial_close(&t);
}
END_TEST

START_TEST(a_job_given_up_ends_its_child)
{
	struct trial t = { 0 };
	open_shell(&t, "sleep 60");
	struct warren_job *job = trial_job(&t, "exec.run", BYTES_LIT(""));
	job_stop(job, WARREN_STOP_LOST);
	ck_assert_int_eq(task_run(t.thread, job), WARREN_RETRY);
	trial_close(&t);
}
END_TEST

static const struct {
	const char *options[2][2];
	const char *words;
} refused[] = {
	{ { { "program", "cat" } }, "not an absolute path" },
	{ { { "program", "/nonexistent" } }, "No such file" },
	{ { { "program", "/bin/cat" }, { "done_codes", "256" } }, "no exit code" },
	{ { { "program", "/bin/cat" }, { "retry_codes", "x" } }, "no exit code" },
	{ { { "program", "/bin/cat" }, { "dead_codes", "75" } }, "75 stands in another list" },
	{ { { "program", "/bin/cat" }, { "otherwise", "done" } }, "it is \"dead\" or \"retry\"" },
	{ { { "program", "/bin/cat" }, { "environment", "=x" } }, "not NAME=VALUE" },
};

START_TEST(refuses_bad_options)
{
	struct trial t = { 0 };
	for (size_t i = 0; i < 2 && refused[_i].options[i][0]; i++)
		trial_option(&t, refused[_i].options[i][0], refused[_i].options[i][1]);
	ck_assert(!trial_open(&t, "exec"));
	ck_assert_msg(
	    strstr(t.errors.list[0].text, refused[_i].words) != NULL, "%s", t.errors.list[0].text);
	trial_close(&t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exec");
	TCase *running = tcase_create("exec.run");
	tcase_set_timeout(running, 60);
	tcase_add_test(running, body_in_output_out);
	tcase_add_test(running, large_bodies_do_not_lock);
	tcase_add_test(running, bodies_may_stay_unread);
	tcase_add_test(running, too_much_output_is_dead);
	tcase_add_loop_test(running, exit_codes_are_verdicts, 0, (int)ARRAY_LEN(codes));
	tcase_add_test(running, other_codes_may_be_retried);
	tcase_add_test(running, the_environment_is_safe);
	tcase_add_test(running, arguments_stay_whole);
	tcase_add_test(running, runs_in_its_directory);
	tcase_add_test(running, ends_at_the_time_limit_with_all_its_children);
	tcase_add_test(running, what_it_leaves_behind_ends_too);
	tcase_add_test(running, a_lost_exit_code_is_a_retry);
	tcase_add_test(running, a_job_given_up_ends_its_child);
	tcase_add_loop_test(running, refuses_bad_options, 0, (int)ARRAY_LEN(refused));
	tcase_add_test(running, starts_with_clean_signals); /* last: it blocks signals */
	suite_add_tcase(suite, running);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
