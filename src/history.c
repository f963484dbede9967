/* Samples of the counters: a ring a queue for rates, two earlier states for recent times. */
#include "history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum { PACE_SAMPLES = 61 }; /* a minute, with both its ends */

/* One queue, sampled once a second. */
struct pace {
	char queue[ACCOUNT_QUEUE_MAX];
	struct pace_sample {
		int64_t at_ns;
		uint64_t settled;
	} samples[PACE_SAMPLES];
	size_t n;              /* taken so far; the last PACE_SAMPLES of them stand */
	int64_t busy_since_ns; /* 0: it is not */
};

static struct pace *find(const struct history *history, const char *queue)
{
	for (size_t i = 0; i < history->n_paces; i++)
		if (strcmp(history->paces[i].queue, queue) == 0)
			return &history->paces[i];
	return NULL;
}

static struct pace *find_or_add(struct history *history, const char *queue)
{
	struct pace *pace = find(history, queue), *grown;

	if (pace)
		return pace;
	if (history->n_paces == history->max_paces) {
		grown = reallocarray(history->paces, 2 * history->max_paces + 4, sizeof(*grown));
		if (!grown)
			return NULL;
		history->paces = grown;
		history->max_paces = 2 * history->max_paces + 4;
	}
	pace = &history->paces[history->n_paces++];
	*pace = (struct pace){ 0 };
	(void)snprintf(pace->queue, sizeof(pace->queue), "%s", queue);
	return pace;
}

/* What is over and done with: not what was only given back, lost or interrupted. */
static uint64_t settled(const struct tally_sum *sum)
{
	return sum->counts[COUNT_DONE] + sum->counts[COUNT_RETRIED] + sum->counts[COUNT_DEAD] +
	       sum->counts[COUNT_QUARANTINED];
}

/* Accounts of one queue add to the sample that its first one has begun. */
static void take_sample(struct pace *pace, uint64_t n, int64_t now_ns)
{
	struct pace_sample *last = &pace->samples[(pace->n + PACE_SAMPLES - 1) % PACE_SAMPLES];

	if (pace->n > 0 && last->at_ns == now_ns)
		last->settled += n;
	else
		pace->samples[pace->n++ % PACE_SAMPLES] = (struct pace_sample){ now_ns, n };
}

static void sample(struct history *history, const struct accounts *now, int64_t now_ns)
{
	for (size_t i = 0; i < now->n; i++) {
		struct pace *pace = find_or_add(history, now->list[i].queue);

		if (pace)
			take_sample(pace, settled(&now->list[i].sum), now_ns);
	}
}

static void renew(struct history *history, const struct accounts *now, int64_t now_ns)
{
	struct accounts copy = { 0 };

	if (!accounts_add(&copy, now))
		return;
	accounts_free(&history->base);
	history->base = history->later;
	history->later = copy;
	history->renewed_ns = now_ns;
}

void history_tick(struct history *history, const struct accounts *now, int64_t now_ns)
{
	if (history->ticked_ns && now_ns - history->ticked_ns < NS_PER_S)
		return;
	if (!history->ticked_ns)
		history->renewed_ns = now_ns;
	history->ticked_ns = now_ns;
	sample(history, now, now_ns);
	if (now_ns - history->renewed_ns >= HISTORY_BASE_NS)
		renew(history, now, now_ns);
}

void history_free(struct history *history)
{
	accounts_free(&history->base);
	accounts_free(&history->later);
	free(history->paces);
	*history = (struct history){ 0 };
}

/* The oldest sample that is no older than the minute that counts. */
static const struct pace_sample *first_of(const struct pace *pace, const struct pace_sample *last)
{
	size_t kept = pace->n < PACE_SAMPLES ? pace->n : PACE_SAMPLES;

	for (size_t i = pace->n - kept; i < pace->n; i++) {
		const struct pace_sample *s = &pace->samples[i % PACE_SAMPLES];

		if (last->at_ns - s->at_ns <= HISTORY_RATE_NS)
			return s;
	}
	return last;
}

double history_rate(const struct history *history, const char *queue)
{
	const struct pace *pace = find(history, queue);
	const struct pace_sample *first, *last;

	if (!pace || pace->n < 2)
		return 0;
	last = &pace->samples[(pace->n - 1) % PACE_SAMPLES];
	first = first_of(pace, last);
	if (last->at_ns == first->at_ns || last->settled < first->settled)
		return 0;
	return (double)(last->settled - first->settled) * NS_PER_S /
	       (double)(last->at_ns - first->at_ns);
}

struct tally_sum history_recent(const struct history *history, const struct account *account)
{
	const struct account *before = accounts_find(&history->base, account->queue, account->task);
	struct tally_sum sum = account->sum;

	if (before)
		tally_since(&sum, &before->sum);
	return sum;
}

void history_note_busy(struct history *history, const char *queue, bool busy, int64_t now_ns)
{
	struct pace *pace = busy ? find_or_add(history, queue) : find(history, queue);

	if (pace && (!busy || !pace->busy_since_ns))
		pace->busy_since_ns = busy ? now_ns : 0;
}

int64_t history_busy_since(const struct history *history, const char *queue)
{
	const struct pace *pace = find(history, queue);

	return pace ? pace->busy_since_ns : 0;
}
