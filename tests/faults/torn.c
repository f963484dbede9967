/*
 * Row E9: a writer of the scoreboard is killed at a random instruction, again and again, and
 * whoever reads its row afterwards must see one job or none, never parts of two. `torn N SEED
 * SECONDS` kills N writers, or as many as it can in that time, and prints what it saw.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "score.h"

enum { SPIN_MAX = 30000 };

/* Every byte of a job follows from one number, so that parts of two would show. */
static struct score_job job_of(unsigned number)
{
	struct score_job job;
	int letter = 'a' + (int)(number % 26);
	memset(&job, 0, sizeof(job));
	memset(job.id, letter, sizeof(job.id) - 1);
	memset(job.queue, letter, sizeof(job.queue) - 1);
	memset(job.task, letter, sizeof(job.task) - 1);
	memset(job.message_id, letter, sizeof(job.message_id) - 1);
	memset(job.identity, letter, sizeof(job.identity));
	job.attempt = (int)number;
	job.redelivered = number & 1;
	job.started_ns = (int64_t)number * 1000003;
	job.deadline_ns = (int64_t)number * 1000033;
	return job;
}

__attribute__((noreturn)) static void write_for_ever(struct score *score, unsigned number)
{
	struct score_row *row = score_row(score, 0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		struct score_job job = job_of(number = number % 1000000 + 1);
		score_begin(row, &job);
		tally_count(score_tally(score, 0), COUNT_TAKEN, 1);
		score_state(row, ROW_SETTLING);
		tally_count(score_tally(score, 0), COUNT_DONE, 1);
		score_state(row, ROW_IDLE);
	}
}

static void spin(unsigned turns)
{
	for (volatile unsigned i = 0; i < turns; i++)
		continue;
}

static uint64_t taken(struct score *score)
{
	return score_sum(score, COUNT_TAKEN);
}

/* One writer from its first job to its end. The spin is short, so that it begins when there is
 * something to hit. */
static bool kill_one(struct score *score, unsigned number)
{
	uint64_t before = taken(score);
	pid_t pid = fork();
	if (pid < 0)
		return false;
	if (pid == 0)
		write_for_ever(score, number);
	while (taken(score) == before)
		(void)sched_yield();
	spin((unsigned)random() % SPIN_MAX);
	return kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid;
}

static bool is_whole(const struct score_job *job)
{
	struct score_job want = job_of((unsigned)job->attempt);
	return memcmp(job, &want, sizeof(want)) == 0;
}

int main(int argc, char **argv)
{
	unsigned kills = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 10000;
	int64_t seconds = argc > 3 ? strtoll(argv[3], NULL, 10) : 3600;
	int64_t until_ns = clock_mono_ns() + seconds * NS_PER_S;
	unsigned killed = 0, torn = 0, whole = 0, between = 0, wrong = 0;
	int fd;
	struct score *score = score_create(&(struct score_size){ 1, 1, 1, 1, 1 }, &fd);
	struct score_row *row = score ? score_row(score, 0, 0) : NULL;
	srandom(argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1);
	if (!row)
		return EXIT_OS;
	for (; killed < kills && clock_mono_ns() < until_ns; killed++) {
		struct score_job job;
		if (!kill_one(score, (unsigned)random() % 1000000))
			return EXIT_OS;
		bool is_torn = atomic_load(&row->seq) & 1;
		int state = atomic_load(&row->state);
		bool runs = state == ROW_RUNNING || state == ROW_SETTLING;
		bool found = score_read_job(row, &job);
		wrong += (found && (is_torn || !runs || !is_whole(&job))) ||
			 (!found && runs && !is_torn);
		torn += is_torn;
		whole += found;
		between += !found && !is_torn;
		score_reset(score, 0);
		wrong += score_read_job(row, &job) || (atomic_load(&row->seq) & 1);
	}
	printf(
	    "kills=%u torn=%u whole=%u between=%u wrong=%u\n", killed, torn, whole, between, wrong);
	score_close(score);
	close(fd);
	return wrong ? 1 : 0;
}
