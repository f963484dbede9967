/* Sums by queue and task. */
#include "account.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct accounts *accounts, size_t more)
{
	size_t max = accounts->n + more;
	struct account *grown;

	if (max <= accounts->max)
		return true;
	grown = reallocarray(accounts->list, max, sizeof(*grown));
	if (!grown)
		return false;
	accounts->list = grown;
	accounts->max = max;
	return true;
}

static struct account *find(const struct accounts *accounts, const char *queue, const char *task)
{
	for (size_t i = 0; i < accounts->n; i++)
		if (strcmp(accounts->list[i].queue, queue) == 0 &&
		    strcmp(accounts->list[i].task, task) == 0)
			return &accounts->list[i];
	return NULL;
}

/* There is room for it. */
static void add(
    struct accounts *accounts, const char *queue, const char *task, const struct tally_sum *sum)
{
	struct account *account = find(accounts, queue, task);

	if (!account) {
		CHECK(accounts->n < accounts->max);
		account = &accounts->list[accounts->n++];
		*account = (struct account){ 0 };
		(void)snprintf(account->queue, sizeof(account->queue), "%s", queue);
		(void)snprintf(account->task, sizeof(account->task), "%s", task);
	}
	tally_merge(&account->sum, sum);
}

bool accounts_add_score(struct accounts *accounts, struct score *score, const struct conf *conf)
{
	uint32_t n = score_tallies(score), queue;
	struct tally_sum sum;
	char task[TALLY_TASK_MAX];

	if (!reserve(accounts, n))
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (score_read_tally(score, i, &sum, &queue, task) && queue < conf->n_queues)
			add(accounts, conf->queues[queue].label, task, &sum);
	return true;
}

bool accounts_add(struct accounts *accounts, const struct accounts *other)
{
	if (!reserve(accounts, other->n))
		return false;
	for (size_t i = 0; i < other->n; i++)
		add(accounts, other->list[i].queue, other->list[i].task, &other->list[i].sum);
	return true;
}

void accounts_free(struct accounts *accounts)
{
	free(accounts->list);
	*accounts = (struct accounts){ 0 };
}

const struct account *accounts_find(
    const struct accounts *accounts, const char *queue, const char *task)
{
	return find(accounts, queue, task);
}

struct tally_sum accounts_sum(const struct accounts *accounts, const char *queue)
{
	struct tally_sum sum = { 0 };

	for (size_t i = 0; i < accounts->n; i++)
		if (!queue || strcmp(accounts->list[i].queue, queue) == 0)
			tally_merge(&sum, &accounts->list[i].sum);
	return sum;
}
