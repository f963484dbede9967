/*
 * Sums by queue and task over any number of scoreboards, so that counters go on across reloads.
 * Floor 1.
 */
#ifndef WARREN_ACCOUNT_H
#define WARREN_ACCOUNT_H

#include "conf.h"
#include "score.h"

enum { ACCOUNT_QUEUE_MAX = 272 }; /* "(exchange 12)" for one with the longest name */

struct account {
	char queue[ACCOUNT_QUEUE_MAX]; /* its label */
	char task[TALLY_TASK_MAX];
	struct tally_sum sum;
};

/* Zero-initialise. */
struct accounts {
	struct account *list;
	size_t n, max;
};

/* Adds what a scoreboard of `conf` holds. False when memory is short; then nothing was added. */
bool accounts_add_score(
    struct accounts *accounts, struct score *score, const struct conf *conf) MUST_CHECK;
bool accounts_add(struct accounts *accounts, const struct accounts *other) MUST_CHECK;
void accounts_free(struct accounts *accounts);

/* NULL where there is none. */
const struct account *accounts_find(
    const struct accounts *accounts, const char *queue, const char *task);
/* Over all tasks of a queue; of all queues where it is NULL. */
struct tally_sum accounts_sum(const struct accounts *accounts, const char *queue);

#endif
