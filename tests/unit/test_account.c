/* Sums that outlive scoreboards, and what a history makes of them. */
#include "account.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "history.h"

#define QUEUE_A "{ name = \"a\"; task = \"x\"; }"
#define QUEUES(list) "plugins = { load = ( { file = \"/lib/x.so\"; } ); }; queues = ( " list " );"

static struct conf *parse(const char *text)
{
	struct conf_errors errors = { 0 };
	struct conf *conf = conf_parse("test.cfg", text, &errors, NULL);

	conf_errors_print(&errors, stderr);
	ck_assert_ptr_nonnull(conf);
	conf_errors_free(&errors);
	return conf;
}

static struct score *make_score(const struct conf *conf, int *fd)
{
	const struct score_size size = { 1, 1, 1, (uint32_t)conf->n_queues, 8 };
	struct score *score = score_create(&size, fd);

	ck_assert_ptr_nonnull(score);
	return score;
}

static void count(struct score *score, uint32_t queue, const char *task, uint64_t n)
{
	tally_count(score_tally(score, score_find_tally(score, queue, task)), COUNT_DONE, n);
}

/* A queue may stand elsewhere in the next configuration, or be gone: its name decides. */
START_TEST(sums_go_on_by_name_across_configurations)
{
	struct conf *first = parse(QUEUES(QUEUE_A ", { name = \"b\"; task = \"x\"; }"));
	struct conf *second = parse(QUEUES("{ name = \"b\"; task = \"x\"; }"));
	struct accounts accounts = { 0 };
	int fds[2];
	struct score *before = make_score(first, &fds[0]), *after = make_score(second, &fds[1]);

	count(before, 0, "x", 1);
	count(before, 1, "x", 2);
	count(before, 1, "", 4);
	count(after, 0, "x", 8);
	ck_assert(accounts_add_score(&accounts, before, first));
	ck_assert(accounts_add_score(&accounts, after, second));
	ck_assert_uint_eq(accounts_find(&accounts, "a", "x")->sum.counts[COUNT_DONE], 1);
	ck_assert_uint_eq(accounts_find(&accounts, "b", "x")->sum.counts[COUNT_DONE], 10);
	ck_assert_uint_eq(accounts_find(&accounts, "b", "")->sum.counts[COUNT_DONE], 4);
	ck_assert_ptr_null(accounts_find(&accounts, "c", "x"));
	ck_assert_uint_eq(accounts_sum(&accounts, "b").counts[COUNT_DONE], 14);
	ck_assert_uint_eq(accounts_sum(&accounts, NULL).counts[COUNT_DONE], 15);
	accounts_free(&accounts);
	score_close(before);
	score_close(after);
	close(fds[0]);
	close(fds[1]);
	conf_free(first);
	conf_free(second);
}
END_TEST

START_TEST(the_longest_label_is_one_account)
{
	char text[1024], name[251];
	struct accounts accounts = { 0 };
	struct conf *conf;
	struct score *score;
	int fd;

	memset(name, 'e', 250);
	name[250] = '\0';
	(void)snprintf(text, sizeof(text),
	    QUEUES("{ name = \"\"; exclusive = true; task = \"x\"; bindings = ( { exchange = "
		   "\"%s\"; } ); }"),
	    name);
	conf = parse(text);
	score = make_score(conf, &fd);
	count(score, 0, "x", 1);
	ck_assert(accounts_add_score(&accounts, score, conf));
	ck_assert(accounts_add_score(&accounts, score, conf));
	ck_assert_uint_eq(accounts.n, 2); /* "x" and "" */
	ck_assert_uint_eq(
	    accounts_find(&accounts, conf->queues[0].label, "x")->sum.counts[COUNT_DONE], 2);
	accounts_free(&accounts);
	score_close(score);
	close(fd);
	conf_free(conf);
}
END_TEST

/* ---- history ---- */

static struct accounts now;
static struct history history;

static void setup(void)
{
	static struct account account = { .queue = "a", .task = "x" };

	account.sum = (struct tally_sum){ 0 };
	now = (struct accounts){ &account, 1, 1 };
	history = (struct history){ 0 };
}

static void teardown(void)
{
	history_free(&history);
}

/* Seconds from `from` to `to`, in each of which so many jobs are done. */
static void pass(int from, int to, uint64_t each)
{
	for (int s = from; s < to; s++) {
		now.list[0].sum.counts[COUNT_DONE] += each;
		now.list[0].sum.run.buckets[3] += each;
		history_tick(&history, &now, (s + 1) * NS_PER_S);
	}
}

START_TEST(a_rate_is_that_of_the_last_minute)
{
	ck_assert(history_rate(&history, "a") == 0);
	pass(0, 1, 10);
	ck_assert(history_rate(&history, "a") == 0); /* one moment is no time */
	pass(1, 11, 10);
	ck_assert(fabs(history_rate(&history, "a") - 10) < 1e-9);
	pass(11, 200, 3);
	ck_assert(fabs(history_rate(&history, "a") - 3) < 1e-9);
	pass(200, 230, 0);
	ck_assert(fabs(history_rate(&history, "a") - 1.5) < 1e-9);
	pass(230, 300, 0);
	ck_assert(history_rate(&history, "a") == 0);
	ck_assert(history_rate(&history, "b") == 0);
}
END_TEST

START_TEST(a_supervisor_that_stood_still_does_not_spoil_a_rate)
{
	pass(0, 70, 10);
	pass(700, 702, 10);
	ck_assert(fabs(history_rate(&history, "a") - 10) < 1e-9);
}
END_TEST

START_TEST(two_ticks_in_a_second_are_one)
{
	pass(0, 5, 10);
	now.list[0].sum.counts[COUNT_DONE] += 1000;
	history_tick(&history, &now, 5 * NS_PER_S + 1);
	ck_assert(fabs(history_rate(&history, "a") - 10) < 1e-9);
}
END_TEST

START_TEST(recent_is_the_last_five_to_ten_minutes)
{
	uint64_t n;

	for (int s = 0; s < 3000; s++) {
		pass(s, s + 1, 1);
		n = history_recent(&history, &now.list[0]).run.buckets[3];
		if (s < 600)
			ck_assert_uint_eq(n, (uint64_t)s + 1);
		else
			ck_assert_msg(n >= 300 && n <= 601, "%d: %d", s, (int)n);
	}
}
END_TEST

START_TEST(busy_counts_from_its_first_second_on)
{
	history_note_busy(&history, "a", false, 5);
	ck_assert_int_eq(history_busy_since(&history, "a"), 0);
	history_note_busy(&history, "a", true, 6);
	history_note_busy(&history, "a", true, 7);
	ck_assert_int_eq(history_busy_since(&history, "a"), 6);
	history_note_busy(&history, "a", false, 8);
	ck_assert_int_eq(history_busy_since(&history, "a"), 0);
}
END_TEST

int main(void)
{
	TCase *accounts = tcase_create("accounts");
	tcase_add_test(accounts, sums_go_on_by_name_across_configurations);
	tcase_add_test(accounts, the_longest_label_is_one_account);

	TCase *t = tcase_create("history");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_rate_is_that_of_the_last_minute);
	tcase_add_test(t, a_supervisor_that_stood_still_does_not_spoil_a_rate);
	tcase_add_test(t, two_ticks_in_a_second_are_one);
	tcase_add_test(t, recent_is_the_last_five_to_ten_minutes);
	tcase_add_test(t, busy_counts_from_its_first_second_on);

	Suite *suite = suite_create("account");
	suite_add_tcase(suite, accounts);
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
