/*
 * What has become of jobs, counted by queue and task in shared memory by whoever settles them, and
 * summed by the supervisor. Counters only grow; they outlive the process that wrote them. Floor 1.
 */
#ifndef WARREN_TALLY_H
#define WARREN_TALLY_H

#include <stdatomic.h>

#include "base.h"

enum tally_count {
	COUNT_TAKEN,
	/* What became of it. At rest these sum up to COUNT_TAKEN. */
	COUNT_DONE,
	COUNT_RETRIED,
	COUNT_DEAD,
	COUNT_GIVEN_BACK,
	COUNT_LOST, /* returned after its connection was gone: nothing published, nothing acked */
	COUNT_QUARANTINED, /* suspects that were put into the quarantine */
	COUNT_INTERRUPTED, /* its process ended before it was settled; counted by the supervisor */
	/* What else is known of it. */
	COUNT_CRASHES,     /* brought its worker down, for certain; counted by the supervisor */
	COUNT_TIMED_OUT,   /* was given up at its time limit */
	COUNT_REDELIVERED, /* was taken with the broker's redelivered mark */
	COUNT_UNROUTABLE,  /* replies that no queue took */
	COUNT_PUBLISHED,   /* replies, follow-ups, retries, dead letters */
	COUNT_LATE,        /* returned after it was given up */
	COUNT_STALE,       /* acks that came too late and were not sent */
	COUNT_N
};

enum { HISTOGRAM_BUCKETS = 22 };

/* Upper bounds of the buckets, inclusive; the last bucket has none. */
extern const int64_t histogram_bounds_ns[HISTOGRAM_BUCKETS - 1];

struct histogram {
	atomic_uint_fast64_t buckets[HISTOGRAM_BUCKETS]; /* not cumulative */
	atomic_uint_fast64_t sum_ns;
};

enum { TALLY_TASK_MAX = 256 };
enum tally_state { TALLY_FREE, TALLY_CLAIMED, TALLY_READY };

/* One queue and task; no two of them share a cache line. */
struct tally {
	_Alignas(64) atomic_uint state; /* enum tally_state */
	uint32_t queue;                 /* its place in conf.queues */
	char task[TALLY_TASK_MAX];      /* "": jobs whose task is not known */
	atomic_uint_fast64_t counts[COUNT_N];
	struct histogram wait; /* from the delivery's arrival in this process to the task's start */
	struct histogram run;  /* inside the task's run() */
};

void tally_count(struct tally *tally, enum tally_count what, uint64_t n);
void histogram_add(struct histogram *histogram, int64_t ns);

/*
 * The place of this queue and task among `n` tallies, made where there is none; the first
 * `n_queues` are the queues' own, for tasks that are not known and for those that have no room.
 * Any number of threads and processes may look at the same time.
 */
size_t tally_find(struct tally *tallies, size_t n, size_t n_queues, size_t queue, const char *task);

/* ---- sums, in ordinary memory ---- */

struct histogram_sum {
	uint64_t buckets[HISTOGRAM_BUCKETS];
	uint64_t sum_ns;
};

struct tally_sum {
	uint64_t counts[COUNT_N];
	struct histogram_sum wait, run;
};

void tally_add(struct tally_sum *sum, const struct tally *tally);
void tally_merge(struct tally_sum *sum, const struct tally_sum *other);
/* What was added since `before`, which must be an earlier state of `sum`. */
void tally_since(struct tally_sum *sum, const struct tally_sum *before);

uint64_t histogram_count(const struct histogram_sum *sum);
/*
 * The value below which the share `q` of all lies, in seconds, by linear interpolation within its
 * bucket as Prometheus' histogram_quantile() does it; -1 where there is none.
 */
double histogram_quantile(const struct histogram_sum *sum, double q);

/* "done", "given_back": for labels and JSON. */
const char *tally_word(enum tally_count what);

#endif
