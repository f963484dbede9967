/* The table of outcomes, and the few rules that stand above it. */
#include "verdict.h"

#include "clock.h"

/* How an outcome is settled when nothing stands above it. */
enum course {
	COURSE_DONE,
	COURSE_AGAIN, /* a retry, as long as attempts and expiry allow one */
	COURSE_DEAD,
	COURSE_ASIDE,
};

struct rule {
	const char *word; /* in logs, and in x-warren-verdict of a dead letter */
	enum course course;
	const char *retried; /* AGAIN: x-warren-verdict of a retry, */
	const char *used_up; /* and of a dead letter when attempts are used up */
};

static const struct rule rules[] = {
	[OUTCOME_DONE] = { "done", COURSE_DONE, NULL, NULL },
	[OUTCOME_RETRY] = { "retry", COURSE_AGAIN, "retry", "exhausted" },
	[OUTCOME_UNROUTABLE] = { "unroutable", COURSE_AGAIN, "retry", "exhausted" },
	[OUTCOME_TIMED_OUT] = { "timed-out", COURSE_AGAIN, "timed-out", "timed-out" },
	[OUTCOME_DEAD] = { "dead", COURSE_DEAD, NULL, NULL },
	[OUTCOME_BREACH] = { "breach", COURSE_DEAD, NULL, NULL },
	[OUTCOME_UNKNOWN_TASK] = { "unknown-task", COURSE_DEAD, NULL, NULL },
	[OUTCOME_EXPIRED] = { "expired", COURSE_DEAD, NULL, NULL },
	[OUTCOME_REFUSED] = { "refused", COURSE_DEAD, NULL, NULL },
	[OUTCOME_CRASHED] = { "crashed", COURSE_DEAD, NULL, NULL },
	[OUTCOME_SUSPECT] = { "suspect", COURSE_ASIDE, NULL, NULL },
};

const char *outcome_word(enum outcome outcome)
{
	CHECK((size_t)outcome < ARRAY_LEN(rules));
	return rules[outcome].word;
}

/* By squaring: a forged attempt number costs thirty rounds, not two billion. */
static double power(double base, unsigned n)
{
	double result = 1;
	for (; n; n >>= 1, base *= base)
		if (n & 1)
			result *= base;
	return result;
}

static int64_t to_ns(double ns)
{
	if (!(ns > 0))
		return 0;
	return ns < 0x1p63 ? (int64_t)ns : INT64_MAX;
}

int64_t verdict_backoff_ns(const struct conf_retry *retry, int attempt, double dice)
{
	if (retry->first_ns <= 0)
		return 0;
	unsigned again = attempt > 1 ? (unsigned)attempt - 1 : 0;
	double delay = (double)retry->first_ns * power(retry->factor, again);
	if (delay > (double)retry->max_ns)
		delay = (double)retry->max_ns;
	return to_ns(delay * (1 + retry->jitter * (2 * dice - 1)));
}

static struct action dead(const struct situation *s, const char *verdict)
{
	return (struct action){
		.kind = s->queue->dead_letter ? ACTION_DEAD : ACTION_DROP,
		.verdict = verdict,
	};
}

static int64_t retry_delay_ns(const struct situation *s)
{
	/* Only a task that said "retry" itself may say when. */
	if (s->outcome == OUTCOME_RETRY && s->retry_after_ns >= 0)
		return s->retry_after_ns;
	int64_t delay = verdict_backoff_ns(&s->queue->retry, s->attempt, s->dice);
	/* The run that was given up may go on until it is killed. */
	if (s->outcome == OUTCOME_TIMED_OUT && delay < s->queue->kill_after_ns)
		delay = s->queue->kill_after_ns;
	return delay;
}

/* Compares the delay as it is, not rounded: what the ladder adds, the next delivery finds out. */
static bool passes_expiry(const struct situation *s, int64_t delay_ns)
{
	if (s->expires_at_ms == 0)
		return false;
	if (s->expires_at_ms <= s->now_wall_ms)
		return true;
	return delay_ns / NS_PER_MS >= s->expires_at_ms - s->now_wall_ms;
}

static struct action again(const struct situation *s, const struct rule *rule)
{
	/* Asked to stop, the task handed its message back: that is not the message's fault. */
	if (s->outcome == OUTCOME_RETRY &&
	    (s->stop == WARREN_STOP_DRAIN || s->stop == WARREN_STOP_NOW))
		return (struct action){ .kind = ACTION_GIVE_BACK };
	if (s->attempt >= s->queue->retry.attempts)
		return dead(s, rule->used_up);

	int64_t delay_ns = retry_delay_ns(s);
	if (passes_expiry(s, delay_ns))
		return dead(s, outcome_word(OUTCOME_EXPIRED));
	return (struct action){
		.kind = ACTION_RETRY,
		.verdict = rule->retried,
		.delay_ns = delay_ns,
	};
}

/* To those who look at it in the quarantine, it is a message of crashes. */
static struct action aside(void)
{
	return (struct action){
		.kind = ACTION_ASIDE,
		.verdict = outcome_word(OUTCOME_CRASHED),
	};
}

struct action verdict_decide(const struct situation *s)
{
	CHECK((size_t)s->outcome < ARRAY_LEN(rules));
	const struct rule *rule = &rules[s->outcome];

	if (s->stop == WARREN_STOP_LOST)
		return (struct action){ .kind = ACTION_NOTHING };
	if (rule->course == COURSE_DONE)
		return (struct action){ .kind = ACTION_DONE };
	if (s->queue->no_ack)
		return (struct action){ .kind = ACTION_NOTHING };
	if (rule->course == COURSE_ASIDE)
		return aside();
	return rule->course == COURSE_AGAIN ? again(s, rule) : dead(s, rule->word);
}
