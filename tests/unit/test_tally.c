/* Counters and histograms: where they stand, how they sum up, what quantiles say. */
#include "tally.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"

enum { QUEUES = 2, TALLIES = 6, THREADS = 4, ROUNDS = 20000 };

static struct tally tallies[TALLIES];

static void setup(void)
{
	memset(tallies, 0, sizeof(tallies));
	for (uint32_t i = 0; i < QUEUES; i++) {
		tallies[i].queue = i;
		atomic_store(&tallies[i].state, TALLY_READY);
	}
}

START_TEST(each_queue_and_task_has_one_place)
{
	size_t a = tally_find(tallies, TALLIES, QUEUES, 0, "a");

	ck_assert_uint_ge(a, QUEUES);
	ck_assert_uint_eq(tally_find(tallies, TALLIES, QUEUES, 0, "a"), a);
	ck_assert_uint_ne(tally_find(tallies, TALLIES, QUEUES, 1, "a"), a);
	ck_assert_uint_ne(tally_find(tallies, TALLIES, QUEUES, 0, "b"), a);
	ck_assert_uint_eq(tally_find(tallies, TALLIES, QUEUES, 1, ""), 1);
}
END_TEST

START_TEST(what_has_no_room_is_counted_with_its_queue)
{
	char task[16];

	for (int i = 0; i < TALLIES - QUEUES; i++) {
		(void)snprintf(task, sizeof(task), "task %d", i);
		ck_assert_uint_ge(tally_find(tallies, TALLIES, QUEUES, 1, task), QUEUES);
	}
	ck_assert_uint_eq(tally_find(tallies, TALLIES, QUEUES, 1, "one more"), 1);
	ck_assert_uint_eq(tally_find(tallies, TALLIES, QUEUES, 0, "one more"), 0);
}
END_TEST

START_TEST(who_dies_while_claiming_costs_a_place_and_no_more)
{
	atomic_store(&tallies[QUEUES].state, TALLY_CLAIMED);
	ck_assert_uint_eq(tally_find(tallies, TALLIES, QUEUES, 0, "a"), QUEUES + 1);
}
END_TEST

static void *count_some(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		size_t place = tally_find(tallies, TALLIES, QUEUES, 0, i % 2 ? "a" : "b");

		tally_count(&tallies[place], COUNT_TAKEN, 1);
		histogram_add(&tallies[place].run, i * 1000);
	}
	return NULL;
}

START_TEST(many_threads_count_all)
{
	pthread_t threads[THREADS];
	struct tally_sum sum = { 0 };

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, count_some, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (int i = 0; i < TALLIES; i++)
		tally_add(&sum, &tallies[i]);
	ck_assert_uint_eq(sum.counts[COUNT_TAKEN], THREADS * ROUNDS);
	ck_assert_uint_eq(histogram_count(&sum.run), THREADS * ROUNDS);
	ck_assert_uint_eq(atomic_load(&tallies[QUEUES + 2].state), TALLY_FREE);
}
END_TEST

START_TEST(a_bound_belongs_to_its_bucket)
{
	struct histogram histogram = { 0 };

	for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
		histogram_add(&histogram, histogram_bounds_ns[i]);
		histogram_add(&histogram, histogram_bounds_ns[i] + 1);
	}
	histogram_add(&histogram, -5);
	ck_assert_uint_eq(atomic_load(&histogram.buckets[0]), 2);
	for (size_t i = 1; i < HISTOGRAM_BUCKETS - 1; i++)
		ck_assert_uint_eq(atomic_load(&histogram.buckets[i]), 2);
	ck_assert_uint_eq(atomic_load(&histogram.buckets[HISTOGRAM_BUCKETS - 1]), 1);
}
END_TEST

/* By the rule of Prometheus: a rank, and a straight line within the bucket where it lies. */
static const struct quantile_case {
	const char *what;
	size_t bucket[2];
	uint64_t n[2];
	double q, want;
} quantile_cases[] = {
	{ "nothing", { 0, 0 }, { 0, 0 }, 0.5, -1 },
	{ "the first bucket begins with nothing", { 0, 0 }, { 10, 10 }, 0.5, 0.00005 },
	{ "between 0.5 s and 1 s", { 12, 12 }, { 5, 5 }, 0.5, 0.75 },
	{ "all of it", { 12, 12 }, { 5, 5 }, 1, 1 },
	{ "the higher of two", { 12, 14 }, { 50, 50 }, 0.95, 4.75 },
	{ "the edge of two", { 12, 14 }, { 50, 50 }, 0.5, 1 },
	{ "behind the last bound", { 21, 21 }, { 3, 3 }, 0.99, 7200 },
};

START_TEST(quantiles_lie_on_a_straight_line)
{
	const struct quantile_case *c = &quantile_cases[_i];
	struct histogram_sum sum = { 0 };

	sum.buckets[c->bucket[0]] = c->n[0];
	sum.buckets[c->bucket[1]] = c->n[1];
	ck_assert_msg(fabs(histogram_quantile(&sum, c->q) - c->want) < 1e-9, "%s: %f", c->what,
	    histogram_quantile(&sum, c->q));
}
END_TEST

START_TEST(since_is_what_was_added)
{
	struct tally_sum before = { 0 }, now;

	before.counts[COUNT_DONE] = 3;
	before.wait.buckets[2] = 4;
	now = before;
	tally_merge(&now, &before);
	now.run.sum_ns = 7;
	tally_since(&now, &before);
	ck_assert_uint_eq(now.counts[COUNT_DONE], 3);
	ck_assert_uint_eq(now.wait.buckets[2], 4);
	ck_assert_uint_eq(now.run.sum_ns, 7);
}
END_TEST

START_TEST(every_count_has_a_word_of_its_own)
{
	for (enum tally_count a = 0; a < COUNT_N; a++) {
		ck_assert_ptr_nonnull(tally_word(a));
		for (enum tally_count b = a + 1; b < COUNT_N; b++)
			ck_assert_str_ne(tally_word(a), tally_word(b));
	}
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("tally");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, each_queue_and_task_has_one_place);
	tcase_add_test(t, what_has_no_room_is_counted_with_its_queue);
	tcase_add_test(t, who_dies_while_claiming_costs_a_place_and_no_more);
	tcase_add_test(t, many_threads_count_all);
	tcase_add_test(t, a_bound_belongs_to_its_bucket);
	tcase_add_loop_test(t, quantiles_lie_on_a_straight_line, 0, (int)ARRAY_LEN(quantile_cases));
	tcase_add_test(t, since_is_what_was_added);
	tcase_add_test(t, every_count_has_a_word_of_its_own);
	tcase_set_timeout(t, 60);

	Suite *suite = suite_create("tally");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
