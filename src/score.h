/*
 * The scoreboard: shared memory with one row per worker thread, written by the worker, read by the
 * supervisor at any moment, also after the writer was killed in the middle of a write. Floor 1.
 */
#ifndef WARREN_SCORE_H
#define WARREN_SCORE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "base.h"
#include "board.h"
#include "suspect.h"
#include "tally.h"

enum score_state {
	ROW_UNUSED,
	ROW_IDLE,     /* waits for a delivery */
	ROW_TAKEN,    /* has one, which waits for its turn or is not run at all */
	ROW_RUNNING,  /* inside the task's run() */
	ROW_SETTLING, /* publishing what follows */
	ROW_SETTLED,  /* counted; its ack is on the way */
	ROW_GIVEN_UP, /* the task does not return, and somebody else settles its job */
	ROW_STUCK,    /* that is done, and counted; the task has still not returned */
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
	atomic_uint queue;         /* of the job in hand: its place in conf.queues */
	atomic_uint tally;         /* where the job in hand is counted */
	atomic_int progress;       /* 0..100 as the task says, -1 unknown */
	struct score_job job;
};

/* One worker process. */
struct score_worker {
	_Atomic pid_t pid;
	atomic_uint generation;
	atomic_uint crashed; /* a row of it tells of a crash */
	atomic_uint_fast64_t
	    jobs; /* finished since it started: back-off grows only while it is 0 */
};

struct score;

struct score_size {
	uint32_t workers;
	uint32_t rows;     /* of each worker, in use */
	uint32_t max_rows; /* of each worker, as many as score_use_rows may ask for */
	uint32_t queues;
	uint32_t tallies; /* at least one for each queue */
};

/* A new scoreboard behind a descriptor (memfd) that workers inherit; NULL with errno. */
struct score *score_create(const struct score_size *size, int *fd) MUST_CHECK;

/* Maps one that score_create made, in another process; NULL when it does not look like one. */
struct score *score_open(int fd) MUST_CHECK;
void score_close(struct score *score);

uint32_t score_workers(const struct score *score);
uint32_t score_rows(const struct score *score); /* of each worker, in use */
uint32_t score_queues(const struct score *score);
uint32_t score_tallies(const struct score *score); /* in use, at most */
struct score_worker *score_worker(struct score *score, uint32_t worker);
struct score_row *score_row(struct score *score, uint32_t worker, uint32_t row);
struct board_conn_row *score_conn(struct score *score, uint32_t worker, enum board_which which);
struct board_source_row *score_source(struct score *score, uint32_t worker, uint32_t queue);
struct board_wish *score_wish(struct score *score, uint32_t queue);

/* The supervisor's side: from now on each worker has so many rows, never fewer than before; false
 * where there is no room for them. */
bool score_use_rows(struct score *score, uint32_t rows) MUST_CHECK;

/*
 * Whether a worker that cannot have all that it should consume is to consume what it can. Otherwise
 * it refuses its work, as it should at a start, and in a reload whose old workers could go on.
 */
void score_set_lenient(struct score *score);
bool score_is_lenient(struct score *score);

/* The level of the log that the operator wishes (log.h); -1: the configuration's. */
void score_set_log_level(struct score *score, int level);
int score_log_level(struct score *score);

/* Where jobs of this queue and task are counted; task "": it is not known. */
uint32_t score_find_tally(struct score *score, uint32_t queue, const char *task);
/* A place that somebody wrote down; one that cannot be is the first one's. */
struct tally *score_tally(struct score *score, uint32_t place);
/* The same for a reader: false when nothing is counted there. The task's name is put into `task`,
 * its queue is below score_queues. */
bool score_read_tally(struct score *score, uint32_t place, struct tally_sum *sum, uint32_t *queue,
    char task[TALLY_TASK_MAX]) MUST_CHECK;
/* Over all queues and tasks. */
uint64_t score_sum(struct score *score, enum tally_count what);

/* The supervisor's side, before a new process takes over the rows of a dead one: no row holds a
 * job, nothing is said of connections and queues, a write that was cut short is closed, and the
 * counters stay. */
void score_reset(struct score *score, uint32_t worker);
/* Jobs that the worker's process finished since then. */
uint64_t score_finished(struct score *score, uint32_t worker);

/* The owner's side. score_take turns the row to ROW_TAKEN, score_describe fills the job, as must be
 * done before it runs or is settled; score_begin also turns the row to ROW_RUNNING. */
void score_take(struct score_row *row, uint32_t queue, uint32_t tally);
void score_describe(struct score_row *row, const struct score_job *job);
void score_begin(struct score_row *row, const struct score_job *job);
void score_state(struct score_row *row, enum score_state state);

/* The owner's thread is about to die of it. Safe in a signal handler. */
void score_crash(struct score *score, struct score_row *row, int signal);

/* The reader's side: false when the row holds no job or the writer died while writing it. */
bool score_read_job(const struct score_row *row, struct score_job *job) MUST_CHECK;
/* True while the row has a delivery in hand that is not counted as settled yet. */
bool score_is_open(const struct score_row *row);
/* The same for a row whose thread has crashed: also a job that was given up while it ran. */
bool score_read_crashed(const struct score_row *row, struct score_job *job) MUST_CHECK;
/* Of the same jobs these times alone, which costs little: for who looks at all rows. */
bool score_read_times(
    const struct score_row *row, int64_t *started_ns, int64_t *deadline_ns) MUST_CHECK;

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
