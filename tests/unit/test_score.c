/* The scoreboard: read at any moment, also after its writer died in the middle of a write. */
#include "score.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

enum { WORKERS = 3, ROWS = 4, MAX_ROWS = 6, QUEUES = 2, TALLIES = 5 };

static const struct score_size shape = { WORKERS, ROWS, MAX_ROWS, QUEUES, TALLIES };

static struct score *score;
static int score_fd;

static void setup(void)
{
	score = score_create(&shape, &score_fd);
	ck_assert_ptr_nonnull(score);
}

static void teardown(void)
{
	score_close(score);
	close(score_fd);
}

/* A job in which every field says the same, so that a mixture of two shows. */
static struct score_job job_of(unsigned n)
{
	struct score_job job = {
		.attempt = (int32_t)n,
		.redelivered = n & 1,
		.started_ns = n,
		.deadline_ns = n,
	};

	memset(job.id, 'a' + (int)(n % 26), sizeof(job.id) - 1);
	memset(job.queue, 'a' + (int)(n % 26), sizeof(job.queue) - 1);
	memset(job.task, 'a' + (int)(n % 26), sizeof(job.task) - 1);
	memset(job.message_id, 'a' + (int)(n % 26), sizeof(job.message_id) - 1);
	memset(job.identity, (int)(n % 251), sizeof(job.identity));
	return job;
}

static void check_whole(const struct score_job *job)
{
	struct score_job want = job_of((unsigned)job->attempt);

	ck_assert_mem_eq(job, &want, sizeof(want));
}

START_TEST(a_job_is_read_back)
{
	struct score_row *row = score_row(score, 1, 2);
	struct score_job job = job_of(7), got;

	ck_assert(!score_read_job(row, &got));
	score_state(row, ROW_IDLE);
	ck_assert(!score_read_job(row, &got));
	score_begin(row, &job);
	ck_assert(score_read_job(row, &got));
	check_whole(&got);
	score_state(row, ROW_SETTLING);
	ck_assert(score_read_job(row, &got));
	score_state(row, ROW_IDLE);
	ck_assert(!score_read_job(row, &got));
}
END_TEST

START_TEST(a_row_turns_only_from_the_state_that_is_expected)
{
	struct score_row *row = score_row(score, 1, 2);

	score_state(row, ROW_GIVEN_UP);
	ck_assert(!score_turn(row, ROW_RUNNING, ROW_SETTLING));
	ck_assert_int_eq(atomic_load(&row->state), ROW_GIVEN_UP);
	ck_assert(score_turn(row, ROW_GIVEN_UP, ROW_STUCK));
	ck_assert_int_eq(atomic_load(&row->state), ROW_STUCK);
}
END_TEST

START_TEST(rows_do_not_overlap)
{
	struct score_job got;

	for (unsigned w = 0; w < WORKERS; w++)
		for (unsigned r = 0; r < ROWS; r++) {
			struct score_job job = job_of(10 * w + r);

			score_begin(score_row(score, w, r), &job);
		}
	for (unsigned w = 0; w < WORKERS; w++)
		for (unsigned r = 0; r < ROWS; r++) {
			ck_assert(score_read_job(score_row(score, w, r), &got));
			check_whole(&got);
			ck_assert_int_eq(got.attempt, (int)(10 * w + r));
		}
	ck_assert_uint_eq(score_workers(score), WORKERS);
	ck_assert_uint_eq(score_rows(score), ROWS);
}
END_TEST

START_TEST(another_mapping_sees_the_same)
{
	struct score *other = score_open(score_fd);
	struct score_job job = job_of(3), got;

	ck_assert_ptr_nonnull(other);
	score_begin(score_row(other, 2, 3), &job);
	tally_count(score_tally(other, 1), COUNT_DONE, 5);
	ck_assert(score_read_job(score_row(score, 2, 3), &got));
	check_whole(&got);
	ck_assert_uint_eq(score_sum(score, COUNT_DONE), 5);
	score_close(other);
}
END_TEST

START_TEST(what_is_no_scoreboard_is_refused)
{
	int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int pipes[2];

	ck_assert_ptr_null(score_open(-1));
	ck_assert_ptr_null(score_open(fd)); /* empty, not sealed */
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	ck_assert_ptr_null(score_open(fd)); /* not sealed */
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	ck_assert_ptr_null(score_open(fd)); /* no head */
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_ptr_null(score_open(pipes[0]));
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}
END_TEST

START_TEST(a_spoilt_head_is_refused_and_does_not_matter_to_who_has_it_open)
{
	uint32_t *head = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, score_fd, 0);
	struct score_job job = job_of(1);

	ck_assert_ptr_ne(head, MAP_FAILED);
	for (int i = 0; i < 6; i++) {
		uint32_t saved = head[i];

		head[i] ^= 0xfffff;
		ck_assert_ptr_null(score_open(score_fd));
		score_begin(score_row(score, WORKERS - 1, ROWS - 1), &job);
		ck_assert_uint_eq(score_workers(score), WORKERS);
		head[i] = saved;
	}
	munmap(head, 4096);
}
END_TEST

START_TEST(it_cannot_be_cut_short)
{
	ck_assert_int_ne(ftruncate(score_fd, 0), 0);
	ck_assert_int_ne(ftruncate(score_fd, 1 << 30), 0);
}
END_TEST

START_TEST(a_torn_write_is_no_job)
{
	struct score_row *row = score_row(score, 0, 0);
	struct score_job job = job_of(9), got;

	score_begin(row, &job);
	atomic_fetch_add(&row->seq, 1); /* as if its writer had died there */
	ck_assert(!score_read_job(row, &got));
	score_reset(score, 0);
	score_begin(row, &job);
	ck_assert(score_read_job(row, &got));
	check_whole(&got);
}
END_TEST

/* A plugin may write anything anywhere. */
START_TEST(garbage_is_bounded)
{
	struct score_row *row = score_row(score, 0, 0);
	struct score_job got;

	memset(&row->job, 0xff, sizeof(row->job));
	atomic_store(&row->state, ROW_RUNNING);
	ck_assert(score_read_job(row, &got));
	ck_assert_uint_lt(strlen(got.id), sizeof(got.id));
	ck_assert_uint_lt(strlen(got.queue), sizeof(got.queue));
	ck_assert_uint_lt(strlen(got.task), sizeof(got.task));
	ck_assert_uint_lt(strlen(got.message_id), sizeof(got.message_id));
	ck_assert_int_ge(got.attempt, 0);
	ck_assert_uint_le(got.redelivered, 1);
	ck_assert_int_ge(got.started_ns, 0);
	ck_assert_int_ge(got.deadline_ns, 0);
	for (int state = -1; state < 1000; state++) {
		atomic_store(&row->state, state);
		ck_assert(score_read_job(row, &got) ==
			  (state == ROW_RUNNING || state == ROW_SETTLING || state == ROW_SETTLED));
	}
}
END_TEST

START_TEST(a_reset_keeps_the_counters)
{
	struct score_row *row = score_row(score, 1, 1);
	struct score_job job = job_of(4), got;

	score_begin(row, &job);
	tally_count(score_tally(score, 0), COUNT_DONE, 2);
	tally_count(score_tally(score, 1), COUNT_DONE, 3);
	atomic_store(&row->jobs, 2);
	atomic_store(&row->child, 1234);
	atomic_store(&row->signal, SIGSEGV);
	ck_assert_uint_eq(score_finished(score, 1), 2);
	score_reset(score, 1);
	ck_assert_uint_eq(score_finished(score, 1), 0);
	ck_assert_int_eq(atomic_load(&row->child), 0);
	ck_assert_int_eq(atomic_load(&row->signal), 0);
	ck_assert(!score_read_job(row, &got));
	ck_assert_uint_eq(score_sum(score, COUNT_DONE), 5);
}
END_TEST

/* ---- readers beside writers ---- */

static atomic_bool enough;

static void *write_on(void *arg)
{
	struct score_row *row = arg;

	for (unsigned n = 0; !atomic_load(&enough); n++) {
		struct score_job job = job_of(n & 0xffff);

		score_begin(row, &job);
		sched_yield();
	}
	return NULL;
}

START_TEST(a_reader_never_sees_a_mixture)
{
	struct score_row *row = score_row(score, 0, 1);
	struct score_job got;
	int64_t until_ns = clock_mono_ns() + 20 * NS_PER_S;
	pthread_t writer;
	int read = 0;

	atomic_store(&enough, false);
	ck_assert_int_eq(pthread_create(&writer, NULL, write_on, row), 0);
	while (read < 2000 && clock_mono_ns() < until_ns)
		if (score_read_job(row, &got)) {
			check_whole(&got);
			read++;
		}
	atomic_store(&enough, true);
	pthread_join(writer, NULL);
	ck_assert_int_eq(read, 2000);
}
END_TEST

START_TEST(a_writer_may_be_killed_anywhere)
{
	struct score_row *row = score_row(score, 0, 0);
	struct score_job got;
	int torn = 0;

	atomic_store(&enough, false);
	for (int i = 0; i < 300; i++) {
		pid_t pid = fork();

		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			write_on(row);
		while (!score_read_job(row, &got) && atomic_load(&row->seq) < 100)
			;
		for (volatile int spin = 0; spin < i * 100; spin++)
			;
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		if (score_read_job(row, &got))
			check_whole(&got);
		else
			torn++;
		score_reset(score, 0);
		ck_assert_uint_eq(atomic_load(&row->seq) % 2, 0);
	}
	ck_assert_int_lt(torn, 300);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("score");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_job_is_read_back);
	tcase_add_test(t, a_row_turns_only_from_the_state_that_is_expected);
	tcase_add_test(t, rows_do_not_overlap);
	tcase_add_test(t, another_mapping_sees_the_same);
	tcase_add_test(t, what_is_no_scoreboard_is_refused);
	tcase_add_test(t, a_spoilt_head_is_refused_and_does_not_matter_to_who_has_it_open);
	tcase_add_test(t, it_cannot_be_cut_short);
	tcase_add_test(t, a_torn_write_is_no_job);
	tcase_add_test(t, garbage_is_bounded);
	tcase_add_test(t, a_reset_keeps_the_counters);
	tcase_add_test(t, a_reader_never_sees_a_mixture);
	tcase_add_test(t, a_writer_may_be_killed_anywhere);
	tcase_set_timeout(t, 60);

	Suite *suite = suite_create("score");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
