/* Time limits: who wins between a job that returns and an overseer that gives it up; turns. */
#include "overseer.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "clock.h"
#include "turn.h"

enum { THREADS = 4, RUNS = 20000 };

static struct grip grips[THREADS];
static atomic_uint given_up[THREADS], late[THREADS];
static struct warren_job *last[THREADS];

static void on_late(void *owner, unsigned number)
{
	ck_assert_ptr_eq(owner, grips);
	atomic_fetch_add(&late[number], 1);
}

static void on_give_up(void *owner, unsigned number, struct warren_job *job)
{
	ck_assert_ptr_eq(owner, grips);
	last[number] = job;
	atomic_fetch_add(&given_up[number], 1);
}

static const struct overseer_ops ops = { .late = on_late, .give_up = on_give_up };

static void reset(void)
{
	for (int i = 0; i < THREADS; i++) {
		grips[i] = (struct grip){ .job = NULL };
		atomic_store(&given_up[i], 0);
		atomic_store(&late[i], 0);
	}
}

static struct overseer *start(void)
{
	struct overseer *overseer = overseer_create(grips, THREADS, &ops, grips);

	ck_assert(overseer_start(overseer));
	return overseer;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS }, NULL);
}

START_TEST(a_run_in_time_is_left_alone)
{
	struct overseer *overseer;

	reset();
	overseer = start();
	for (int i = 0; i < RUNS; i++) {
		grip_take(&grips[0], NULL, CLOCK_NEVER, CLOCK_NEVER);
		ck_assert(grip_drop(&grips[0]));
	}
	overseer_destroy(overseer);
	ck_assert_uint_eq(atomic_load(&given_up[0]), 0);
	ck_assert_uint_eq(atomic_load(&late[0]), 0);
}
END_TEST

START_TEST(past_its_limit_it_is_told_once_and_then_given_up_once)
{
	struct warren_job *job = (struct warren_job *)(void *)grips; /* never looked into */
	struct overseer *overseer;

	reset();
	overseer = start();
	grip_take(&grips[1], job, clock_mono_ns(), clock_mono_ns() + 300 * NS_PER_MS);
	while (atomic_load(&late[1]) == 0)
		nap();
	ck_assert_uint_eq(atomic_load(&given_up[1]), 0);
	ck_assert(!grip_is_stuck(&grips[1]));
	while (atomic_load(&given_up[1]) == 0)
		nap();
	ck_assert(grip_is_stuck(&grips[1]));
	overseer_destroy(overseer);
	ck_assert_ptr_eq(last[1], job);
	ck_assert_uint_eq(atomic_load(&late[1]), 1);
	ck_assert(!grip_drop(&grips[1]));
	ck_assert(!grip_is_stuck(&grips[1]));
}
END_TEST

START_TEST(a_limit_is_told_by_whoever_comes_first)
{
	reset();
	grip_take(&grips[0], NULL, 1, CLOCK_NEVER);
	ck_assert(grip_drop(&grips[0]));
	ck_assert(grip_tell(&grips[0]));
	ck_assert(!grip_tell(&grips[0]));
	grip_take(&grips[0], NULL, 1, CLOCK_NEVER);
	ck_assert(grip_drop(&grips[0]));
	ck_assert(grip_tell(&grips[0]));
}
END_TEST

START_TEST(a_thread_that_ends_in_a_run_has_lost_it)
{
	reset();
	ck_assert(!grip_lose(&grips[0]));
	reset();
	grip_take(&grips[0], NULL, CLOCK_NEVER, CLOCK_NEVER);
	ck_assert(grip_lose(&grips[0]));
	ck_assert(!grip_lose(&grips[0]));
	ck_assert(!grip_is_stuck(&grips[0]));
}
END_TEST

/* Every run ends exactly once, however close the two come. */
static void *race(void *arg)
{
	unsigned number = (unsigned)((struct grip *)arg - grips), lost = 0;

	for (int i = 0; i < RUNS; i++) {
		int64_t now = clock_mono_ns();

		grip_take(&grips[number], NULL, now, now + NS_PER_MS / 100);
		while (clock_mono_ns() < now + NS_PER_MS / 100)
			sched_yield();
		if (!grip_drop(&grips[number])) {
			lost++;
			/* who loses ends; a fresh one takes its place */
			while (atomic_load(&given_up[number]) < lost)
				sched_yield();
			atomic_store(&grips[number].word, (uint64_t)(i + 1) * 1000000);
		}
	}
	ck_assert_uint_eq(atomic_load(&given_up[number]), lost);
	return NULL;
}

START_TEST(completion_and_give_up_race_on_one_word)
{
	pthread_t threads[THREADS];
	struct overseer *overseer;

	reset();
	overseer = start();
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &grips[i]), 0);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	overseer_destroy(overseer);
}
END_TEST

/* ---- turns ---- */

static struct turn turn;
static int inside, most, passed;

static void *take_turns(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2000; i++) {
		ck_assert(turn_take(&turn, NULL, NULL));
		inside++;
		most = inside > most ? inside : most;
		passed++;
		inside--;
		turn_give(&turn);
	}
	return NULL;
}

START_TEST(one_at_a_time)
{
	pthread_t threads[THREADS];

	turn_init(&turn);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, take_turns, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(most, 1);
	ck_assert_int_eq(passed, THREADS * 2000);
	turn_fini(&turn);
}
END_TEST

static bool leaves(void *arg)
{
	return ++*(int *)arg > 2;
}

START_TEST(a_wait_can_be_broken_off)
{
	int asked = 0;

	turn_init(&turn);
	ck_assert(turn_take(&turn, leaves, &asked));
	ck_assert_int_eq(asked, 0);
	ck_assert(!turn_take(&turn, leaves, &asked));
	ck_assert_int_eq(asked, 3);
	turn_give(&turn);
	ck_assert(turn_take(&turn, leaves, &asked));
	turn_fini(&turn);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("overseer");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_run_in_time_is_left_alone);
	tcase_add_test(t, past_its_limit_it_is_told_once_and_then_given_up_once);
	tcase_add_test(t, a_limit_is_told_by_whoever_comes_first);
	tcase_add_test(t, a_thread_that_ends_in_a_run_has_lost_it);
	tcase_add_test(t, completion_and_give_up_race_on_one_word);
	tcase_add_test(t, one_at_a_time);
	tcase_add_test(t, a_wait_can_be_broken_off);

	Suite *suite = suite_create("overseer");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
