/*
 * What the counters were a while ago, so that a reader can be told a rate and how long jobs took of
 * late, and not since the daemon began. Floor 1.
 */
#ifndef WARREN_HISTORY_H
#define WARREN_HISTORY_H

#include "account.h"

#define HISTORY_RATE_NS (60 * NS_PER_S) /* rates are means over so long */
#define HISTORY_BASE_NS                                                                            \
	(300 * NS_PER_S) /* recent times are those of the last one or two of these */

/* Zero-initialise. */
struct history {
	int64_t ticked_ns, renewed_ns;
	struct accounts base, later; /* earlier states of the sums */
	struct pace *paces;          /* of queues */
	size_t n_paces, max_paces;
};

/* A sample, at most one a second. `now` are the sums of all that was counted so far. Short of
 * memory it goes on with what it has. */
void history_tick(struct history *history, const struct accounts *now, int64_t now_ns);
void history_free(struct history *history);

/* Jobs of the queue that were settled, a second, over the last minute. */
double history_rate(const struct history *history, const char *queue);

/* What `account` has gained in the last minutes. */
struct tally_sum history_recent(const struct history *history, const struct account *account);

/* Every thread of the queue is busy while messages wait for one, or that is over. And: since when,
 * without a break; 0: it is not so. */
void history_note_busy(struct history *history, const char *queue, bool busy, int64_t now_ns);
int64_t history_busy_since(const struct history *history, const char *queue);

#endif
