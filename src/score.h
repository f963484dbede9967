/*
 * The scoreboard: shared memory with one row per worker thread, written by the worker, read by the
 * supervisor at any moment, also after the writer was killed in the middle of a write. Floor 1.
 */
#ifndef WARREN_SCORE_H
#define WARREN_SCORE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "base.h"
#include "suspect.h"

enum score_state {
	ROW_UNUSED,
	ROW_IDLE,     /* waits for a delivery */
	ROW_RUNNING,  /* inside the task's run() */
	ROW_SETTLING, /* publishing what follows, acking */
	ROW_GIVEN_UP, /* its job is settled, but the task has not returned */
};

/* Counters of one thread; they only grow, also across worker processes, so they can be summed. */
enum score_counter {
	COUNT_TAKEN,
	COUNT_DONE,
	COUNT_RETRIED,
	COUNT_DEAD,
	COUNT_GIVEN_BACK,
	COUNT_LOST, /* returned after its connection was gone: nothing published, nothing acked */
	COUNT_REDELIVERED, /* taken with the broker's redelivered mark */
	COUNT_UNROUTABLE,  /* replies that no queue took */
	COUNT_PUBLISHED,
	COUNT_QUARANTINED, /* suspects that were put into the quarantine */
	COUNT_TIMED_OUT,   /* jobs that were given up at their time limit */
	COUNT_CRASHES,     /* jobs that brought their worker down, for certain */
	COUNT_RUN_NS,      /* time inside run() */
	COUNT_N
};

struct score_job {
	char id[48];
	char queue[192];
	char task[256];
	char message_id[256];
	uint8_t identity[IDENTITY_LEN];
	int32_t attempt;
	int32_t crashes; /* that the message itself tells of */
	uint32_t redelivered;
	uint32_t spare;      /* so that it is whole words without a hole */
	int64_t started_ns;  /* CLOCK_MONOTONIC */
	int64_t deadline_ns; /* soft limit; CLOCK_NEVER: none */
	int64_t kill_ns;     /* it is given up then; CLOCK_NEVER: never */
};

struct score_row {
	/* Odd while `job` is being written: a reader that sees an odd or changed number reads
	 * again, and gives up on a row whose writer died there (score_read_job). */
	atomic_uint seq;
	atomic_int state; /* enum score_state */
	atomic_int
	    signal; /* the thread that owns this row crashed with it (or SIGNAL_EXIT); 0 none */
	_Atomic pid_t child;       /* process group that the job runs, 0 none */
	atomic_uint_fast64_t jobs; /* finished by this row's thread since its process started */
	atomic_uint_fast64_t counters[COUNT_N];
	struct score_job job;
};

/* One worker process. */
struct score_worker {
	_Atomic pid_t pid;
	atomic_uint generation;
	atomic_uint_fast64_t
	    jobs; /* finished since it started: back-off grows only while it is 0 */
	uint32_t first_row, n_rows;
};

struct score;

/* A new scoreboard behind a descriptor (memfd) that workers inherit; NULL with errno. */
struct score *score_create(uint32_t n_workers, uint32_t rows_per_worker, int *fd) MUST_CHECK;

/* Maps one that score_create made, in another process; NULL when it does not look like one. */
struct score *score_open(int fd) MUST_CHECK;
void score_close(struct score *score);

uint32_t score_workers(const struct score *score);
uint32_t score_rows(const struct score *score); /* of each worker */
struct score_worker *score_worker(struct score *score, uint32_t worker);
struct score_row *score_row(struct score *score, uint32_t worker, uint32_t row);

/* The supervisor's side, before a new process takes over the rows of a dead one: no row holds a
 * job, a write that was cut short is closed, and the counters stay. */
void score_reset(struct score *score, uint32_t worker);
/* Jobs that the worker's process finished since then. */
uint64_t score_finished(struct score *score, uint32_t worker);

/* The owner's side. score_begin fills the job and turns the row to ROW_RUNNING. */
void score_begin(struct score_row *row, const struct score_job *job);
void score_state(struct score_row *row, enum score_state state);
void score_count(struct score_row *row, enum score_counter what, uint64_t n);

/* The owner's thread is about to die of it. Safe in a signal handler. */
void score_crash(struct score *score, struct score_row *row, int signal);

/* The reader's side: false when the row holds no job or the writer died while writing it. */
bool score_read_job(const struct score_row *row, struct score_job *job) MUST_CHECK;
/* The same for a row whose thread has crashed: also a job that was given up while it ran. */
bool score_read_crashed(const struct score_row *row, struct score_job *job) MUST_CHECK;
uint64_t score_sum(struct score *score, enum score_counter what);

/* The supervisor tells the workers what is known against messages. */
void score_publish_suspects(struct score *score, const struct suspects *suspects);

/*
 * A worker asks before it runs a job: false when nothing is known against that message. A crash
 * that the supervisor has not looked into yet counts already: the broker hands a message to the
 * next worker process sooner than a dead one can be buried.
 */
bool score_find_suspect(
    struct score *score, const uint8_t identity[IDENTITY_LEN], struct suspect *found) MUST_CHECK;

#endif
