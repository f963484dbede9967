/* Counters and histograms by queue and task. */
#include "tally.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"

enum { CLAIM_TRIES = 1000 }; /* a claim takes less than a microsecond, or its owner is dead */

#define US (NS_PER_MS / 1000)

const int64_t histogram_bounds_ns[HISTOGRAM_BUCKETS - 1] = {
	100 * US,
	250 * US,
	500 * US,
	1 * NS_PER_MS,
	2500 * US,
	5 * NS_PER_MS,
	10 * NS_PER_MS,
	25 * NS_PER_MS,
	50 * NS_PER_MS,
	100 * NS_PER_MS,
	250 * NS_PER_MS,
	500 * NS_PER_MS,
	1 * NS_PER_S,
	2500 * NS_PER_MS,
	5 * NS_PER_S,
	10 * NS_PER_S,
	30 * NS_PER_S,
	60 * NS_PER_S,
	300 * NS_PER_S,
	1800 * NS_PER_S,
	7200 * NS_PER_S,
};

void tally_count(struct tally *tally, enum tally_count what, uint64_t n)
{
	CHECK(what < COUNT_N);
	atomic_fetch_add_explicit(&tally->counts[what], n, memory_order_release);
}

void histogram_add(struct histogram *histogram, int64_t ns)
{
	size_t i = 0;

	while (i < HISTOGRAM_BUCKETS - 1 && ns > histogram_bounds_ns[i])
		i++;
	atomic_fetch_add_explicit(&histogram->buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(
	    &histogram->sum_ns, ns > 0 ? (uint64_t)ns : 0, memory_order_relaxed);
}

/* ---- finding one ---- */

/* Waits for whoever is just making it; one that died meanwhile is left alone. */
static unsigned state_of(struct tally *tally)
{
	unsigned state = TALLY_CLAIMED;

	for (int i = 0; i < CLAIM_TRIES && state == TALLY_CLAIMED; i++) {
		state = atomic_load_explicit(&tally->state, memory_order_acquire);
		if (state == TALLY_CLAIMED)
			sched_yield();
	}
	return state;
}

static bool claim(struct tally *tally, size_t queue, const char *task)
{
	unsigned free = TALLY_FREE;

	if (!atomic_compare_exchange_strong(&tally->state, &free, TALLY_CLAIMED))
		return false;
	tally->queue = (uint32_t)queue;
	(void)snprintf(tally->task, sizeof(tally->task), "%s", task);
	atomic_store_explicit(&tally->state, TALLY_READY, memory_order_release);
	return true;
}

static bool is_for(const struct tally *tally, size_t queue, const char *task)
{
	return tally->queue == queue && strncmp(tally->task, task, sizeof(tally->task) - 1) == 0;
}

size_t tally_find(struct tally *tallies, size_t n, size_t n_queues, size_t queue, const char *task)
{
	CHECK(queue < n_queues && n_queues <= n);
	for (size_t i = n_queues; i < n && task[0]; i++) {
		if (claim(&tallies[i], queue, task))
			return i;
		if (state_of(&tallies[i]) == TALLY_READY && is_for(&tallies[i], queue, task))
			return i;
	}
	return queue;
}

/* ---- sums ---- */

static void add_histogram(struct histogram_sum *sum, const struct histogram *histogram)
{
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		sum->buckets[i] +=
		    atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
	sum->sum_ns += atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
}

/* Backwards: a job that is taken and done meanwhile is not seen to be done without being taken. */
void tally_add(struct tally_sum *sum, const struct tally *tally)
{
	for (size_t i = COUNT_N; i-- > 0;)
		sum->counts[i] += atomic_load_explicit(&tally->counts[i], memory_order_acquire);
	add_histogram(&sum->wait, &tally->wait);
	add_histogram(&sum->run, &tally->run);
}

_Static_assert(sizeof(struct tally_sum) % sizeof(uint64_t) == 0, "a sum is numbers alone");
typedef uint64_t __attribute__((may_alias)) number;

void tally_merge(struct tally_sum *sum, const struct tally_sum *other)
{
	number *to = (number *)sum;
	const number *from = (const number *)other;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] += from[i];
}

void tally_since(struct tally_sum *sum, const struct tally_sum *before)
{
	number *to = (number *)sum;
	const number *from = (const number *)before;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] -= from[i];
}

uint64_t histogram_count(const struct histogram_sum *sum)
{
	uint64_t n = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		n += sum->buckets[i];
	return n;
}

double histogram_quantile(const struct histogram_sum *sum, double q)
{
	double rank = q * (double)histogram_count(sum), below = 0, low = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
		double high = (double)histogram_bounds_ns[i] / NS_PER_S,
		       n = (double)sum->buckets[i];

		if (n > 0 && below + n >= rank)
			return low + (high - low) * (rank - below) / n;
		below += n;
		low = high;
	}
	return sum->buckets[HISTOGRAM_BUCKETS - 1] ? low : -1;
}

const char *tally_word(enum tally_count what)
{
	static const char *const words[COUNT_N] = {
		[COUNT_TAKEN] = "taken",
		[COUNT_DONE] = "done",
		[COUNT_RETRIED] = "retried",
		[COUNT_DEAD] = "dead",
		[COUNT_GIVEN_BACK] = "given_back",
		[COUNT_LOST] = "lost",
		[COUNT_QUARANTINED] = "quarantined",
		[COUNT_INTERRUPTED] = "interrupted",
		[COUNT_CRASHES] = "crashed",
		[COUNT_TIMED_OUT] = "timed_out",
		[COUNT_REDELIVERED] = "redelivered",
		[COUNT_UNROUTABLE] = "unroutable",
		[COUNT_PUBLISHED] = "published",
		[COUNT_LATE] = "late",
		[COUNT_STALE] = "stale",
	};

	CHECK(what < COUNT_N);
	return words[what];
}
