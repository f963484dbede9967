/* What is remembered of messages that did harm, and who is blamed for a dead worker. */
#include "inquest.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

enum { WORKERS = 2, ROWS = 3 };

static struct suspects suspects;
static struct score *score;
static int score_fd;
static struct finding findings[8];
static size_t n_findings;

static const uint8_t *id(uint8_t n)
{
	static uint8_t ids[8][IDENTITY_LEN];
	static unsigned next;
	uint8_t *one = ids[next++ % 8];

	memset(one, n, IDENTITY_LEN);
	return one;
}

static void setup(void)
{
	memset(&suspects, 0, sizeof(suspects));
	n_findings = 0;
	score = score_create(&(struct score_size){ WORKERS, ROWS, ROWS, 1, 1 }, &score_fd);
	ck_assert_ptr_nonnull(score);
}

static void teardown(void)
{
	score_close(score);
	close(score_fd);
}

/* ---- memory ---- */

START_TEST(crashes_add_up_and_are_cleared)
{
	ck_assert_ptr_null(suspects_find(&suspects, id(1)));
	ck_assert_int_eq(suspects_blame(&suspects, id(1), 0, SIGSEGV, 1), 1);
	ck_assert_int_eq(suspects_blame(&suspects, id(1), 0, SIGFPE, 2), 2);
	ck_assert_int_eq(suspects_find(&suspects, id(1))->signal, SIGFPE);
	ck_assert(suspects_doubtful(&suspects));
	suspects_clear(&suspects, id(2));
	ck_assert_uint_eq(suspects.n, 1);
	suspects_clear(&suspects, id(1));
	ck_assert_ptr_null(suspects_find(&suspects, id(1)));
	ck_assert(!suspects_doubtful(&suspects));
}
END_TEST

START_TEST(what_the_message_tells_counts_too)
{
	ck_assert_int_eq(suspects_blame(&suspects, id(1), 4, SIGSEGV, 1), 5);
	ck_assert_int_eq(suspects_blame(&suspects, id(1), 4, SIGSEGV, 1), 6);
}
END_TEST

START_TEST(doubt_is_no_crash)
{
	suspects_doubt(&suspects, id(1), SIGKILL, 1);
	ck_assert_int_eq(suspects_find(&suspects, id(1))->crashes, 0);
	ck_assert_int_eq(suspects_find(&suspects, id(1))->signal, SIGKILL);
	ck_assert(suspects_doubtful(&suspects));
	ck_assert_int_eq(suspects_blame(&suspects, id(1), 0, SIGSEGV, 1), 1);
	suspects_doubt(&suspects, id(1), SIGKILL, 1);
	ck_assert_int_eq(suspects_find(&suspects, id(1))->signal, SIGSEGV);
}
END_TEST

START_TEST(a_lost_lease_needs_no_quarantine)
{
	suspects_lease_lost(&suspects, id(1), 1);
	suspects_lease_lost(&suspects, id(1), 1);
	ck_assert_int_eq(suspects_find(&suspects, id(1))->leases, 2);
	ck_assert(!suspects_doubtful(&suspects));
}
END_TEST

/* Its attempts say it from then on; counting both would be counting twice. */
START_TEST(what_stands_on_a_copy_is_not_remembered_besides)
{
	suspects_lease_lost(&suspects, id(1), 1);
	suspects_retried(&suspects, id(1));
	ck_assert_ptr_null(suspects_find(&suspects, id(1)));
	suspects_doubt(&suspects, id(4), SIGKILL, 1);
	suspects_retried(&suspects, id(4)); /* it ran alone, and nothing happened */
	ck_assert_ptr_null(suspects_find(&suspects, id(4)));
	suspects_lease_lost(&suspects, id(2), 1);
	suspects_blame(&suspects, id(2), 0, SIGSEGV, 1);
	suspects_retried(&suspects, id(2));
	ck_assert_int_eq(suspects_find(&suspects, id(2))->leases, 0);
	ck_assert_int_eq(suspects_find(&suspects, id(2))->crashes, 1);
	suspects_retried(&suspects, id(3));
}
END_TEST

START_TEST(nobody_is_nobody)
{
	ck_assert_int_eq(suspects_blame(&suspects, id(0), 0, SIGSEGV, 1), 0);
	suspects_doubt(&suspects, id(0), SIGSEGV, 1);
	suspects_lease_lost(&suspects, id(0), 1);
	ck_assert_uint_eq(suspects.n, 0);
}
END_TEST

/* The table is full: who did least goes first, and of these who was heard of longest ago. */
START_TEST(the_guilty_are_remembered_longest)
{
	uint8_t one[IDENTITY_LEN] = { 1 };

	suspects_blame(&suspects, id(255), 0, SIGSEGV, 0);
	for (int i = 0; i < 3 * SUSPECTS_MAX; i++) {
		one[1] = (uint8_t)(i & 0xff);
		one[2] = (uint8_t)(i >> 8);
		suspects_doubt(&suspects, one, SIGKILL, 10 + i);
	}
	ck_assert_uint_eq(suspects.n, SUSPECTS_MAX);
	ck_assert_ptr_nonnull(suspects_find(&suspects, id(255)));
	ck_assert_ptr_nonnull(suspects_find(&suspects, one));
	one[1] = one[2] = 0;
	ck_assert_ptr_null(suspects_find(&suspects, one));
}
END_TEST

START_TEST(doubts_are_forgotten_after_an_hour_crashes_after_a_day)
{
	const int64_t hour_ns = 3600 * NS_PER_S;

	suspects_doubt(&suspects, id(1), SIGKILL, 1);
	suspects_blame(&suspects, id(2), 0, SIGSEGV, 1);
	ck_assert(!suspects_age(&suspects, hour_ns));
	ck_assert(suspects_age(&suspects, hour_ns + 2));
	ck_assert_ptr_null(suspects_find(&suspects, id(1)));
	ck_assert(!suspects_age(&suspects, 24 * hour_ns));
	ck_assert_ptr_nonnull(suspects_find(&suspects, id(2)));
	ck_assert(suspects_age(&suspects, 24 * hour_ns + 2));
	ck_assert_uint_eq(suspects.n, 0);
}
END_TEST

START_TEST(identities_travel_as_text)
{
	const uint8_t identity[IDENTITY_LEN] = { 0, 1, 0x7f, 0x80, 0xff, 0xab };
	char text[2 * IDENTITY_LEN + 1];
	uint8_t back[IDENTITY_LEN];

	identity_show(identity, text);
	ck_assert_uint_eq(strlen(text), 2 * IDENTITY_LEN);
	ck_assert(identity_read(bytes_of(text), back));
	ck_assert_mem_eq(identity, back, IDENTITY_LEN);
	ck_assert(!identity_read((struct bytes){ text, 31 }, back));
	text[5] = 'G';
	ck_assert(!identity_read(bytes_of(text), back));
	text[5] = '/';
	ck_assert(!identity_read(bytes_of(text), back));
	ck_assert(!identity_read(bytes_of(""), back));
}
END_TEST

START_TEST(signals_have_names)
{
	ck_assert_ptr_null(suspect_signal_name(0));
	ck_assert_str_eq(suspect_signal_name(SIGSEGV), "SEGV");
	ck_assert_str_eq(suspect_signal_name(SIGNAL_EXIT), "EXIT");
	ck_assert_str_eq(suspect_signal_name(-7), "?");
}
END_TEST

/* ---- inquests ---- */

static void report(const struct finding *finding)
{
	ck_assert_uint_lt(n_findings, ARRAY_LEN(findings));
	findings[n_findings++] = *finding;
}

static struct score_row *run_job(uint32_t worker, uint32_t row, uint8_t n, int carried)
{
	struct score_job job = { .attempt = 1, .crashes = carried, .kill_ns = CLOCK_NEVER };

	memset(job.identity, n, IDENTITY_LEN);
	snprintf(job.id, sizeof(job.id), "job%u", n);
	score_begin(score_row(score, worker, row), &job);
	return score_row(score, worker, row);
}

static bool hold(int signal, bool alone)
{
	const struct death death = { .worker = 1, .signal = signal, .alone = alone };

	return inquest_hold(score, &death, &suspects, 1, report);
}

START_TEST(who_is_marked_is_to_blame_and_nobody_else)
{
	run_job(0, 0, 9, 0);
	run_job(1, 0, 1, 0);
	score_crash(score, run_job(1, 1, 2, 1), SIGSEGV);
	run_job(1, 2, 3, 0);
	ck_assert(hold(SIGSEGV, false));
	ck_assert_uint_eq(n_findings, 1);
	ck_assert_str_eq(findings[0].job.id, "job2");
	ck_assert(findings[0].certain);
	ck_assert_int_eq(findings[0].crashes, 2);
	ck_assert_uint_eq(suspects.n, 1);
	ck_assert_uint_eq(score_sum(score, COUNT_CRASHES), 1);
}
END_TEST

START_TEST(without_a_mark_all_that_ran_are_suspects)
{
	run_job(0, 0, 9, 0);
	run_job(1, 0, 1, 0);
	score_state(run_job(1, 1, 2, 0), ROW_SETTLING); /* its task had returned */
	score_state(run_job(1, 2, 3, 0), ROW_GIVEN_UP); /* it is settled */
	ck_assert(!hold(SIGKILL, false));
	ck_assert_uint_eq(n_findings, 1);
	ck_assert_str_eq(findings[0].job.id, "job1");
	ck_assert(!findings[0].certain);
	ck_assert_int_eq(suspects_find(&suspects, id(1))->crashes, 0);
}
END_TEST

START_TEST(who_ran_alone_is_to_blame)
{
	run_job(1, 2, 3, 0);
	ck_assert(hold(SIGKILL, true));
	ck_assert(findings[0].certain);
	ck_assert_int_eq(suspects_find(&suspects, id(3))->crashes, 1);
}
END_TEST

START_TEST(an_idle_worker_leaves_nobody_to_blame)
{
	ck_assert(!hold(SIGSEGV, true));
	ck_assert(!hold(SIGSEGV, false));
	ck_assert_uint_eq(n_findings, 0);
}
END_TEST

START_TEST(a_mark_that_makes_no_sense_is_none)
{
	score_crash(score, run_job(1, 0, 1, 0), -5);
	score_crash(score, run_job(1, 1, 2, 0), 12345);
	ck_assert(!hold(SIGKILL, false));
	ck_assert_uint_eq(n_findings, 2);
}
END_TEST

/* ---- what workers are told ---- */

START_TEST(workers_see_what_is_published)
{
	struct score *other = score_open(score_fd);
	struct suspect found;

	ck_assert(!score_find_suspect(other, id(1), &found));
	suspects_blame(&suspects, id(1), 0, SIGSEGV, 1);
	suspects_doubt(&suspects, id(2), SIGKILL, 1);
	score_publish_suspects(score, &suspects);
	ck_assert(score_find_suspect(other, id(1), &found));
	ck_assert_int_eq(found.crashes, 1);
	ck_assert(score_find_suspect(other, id(2), &found));
	ck_assert_int_eq(found.doubtful, 1);
	ck_assert(!score_find_suspect(other, id(3), &found));
	ck_assert(!score_find_suspect(other, id(0), &found));
	suspects_clear(&suspects, id(1));
	score_publish_suspects(score, &suspects);
	ck_assert(!score_find_suspect(other, id(1), &found));
	score_close(other);
}
END_TEST

/* The broker is quicker with the message than the supervisor with the dead. */
START_TEST(a_crash_counts_before_the_dead_are_buried)
{
	struct suspect found;

	score_crash(score, run_job(1, 0, 1, 2), SIGBUS);
	ck_assert(score_find_suspect(score, id(1), &found));
	ck_assert_int_eq(found.crashes, 3);
	ck_assert_int_eq(found.signal, SIGBUS);
	ck_assert(!score_find_suspect(score, id(2), &found));
	score_reset(score, 1);
	ck_assert(!score_find_suspect(score, id(1), &found));
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("suspect");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, crashes_add_up_and_are_cleared);
	tcase_add_test(t, what_the_message_tells_counts_too);
	tcase_add_test(t, doubt_is_no_crash);
	tcase_add_test(t, a_lost_lease_needs_no_quarantine);
	tcase_add_test(t, what_stands_on_a_copy_is_not_remembered_besides);
	tcase_add_test(t, nobody_is_nobody);
	tcase_add_test(t, the_guilty_are_remembered_longest);
	tcase_add_test(t, doubts_are_forgotten_after_an_hour_crashes_after_a_day);
	tcase_add_test(t, identities_travel_as_text);
	tcase_add_test(t, signals_have_names);
	tcase_add_test(t, who_is_marked_is_to_blame_and_nobody_else);
	tcase_add_test(t, without_a_mark_all_that_ran_are_suspects);
	tcase_add_test(t, who_ran_alone_is_to_blame);
	tcase_add_test(t, an_idle_worker_leaves_nobody_to_blame);
	tcase_add_test(t, a_mark_that_makes_no_sense_is_none);
	tcase_add_test(t, workers_see_what_is_published);
	tcase_add_test(t, a_crash_counts_before_the_dead_are_buried);

	Suite *suite = suite_create("suspect");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
