/*
 * What happens to a message: the plugin's word, the attempt, the clock and the queue's policy give
 * an action. A table without I/O. Floor 1.
 */
#ifndef WARREN_VERDICT_H
#define WARREN_VERDICT_H

#include "job.h"

/* What came of a job, before policy. */
enum outcome {
	OUTCOME_DONE,
	OUTCOME_RETRY,        /* the task says: transient */
	OUTCOME_DEAD,         /* the task says: permanent */
	OUTCOME_BREACH,       /* the task returned something else */
	OUTCOME_UNKNOWN_TASK, /* no plugin has the task, or the routed property is missing */
	OUTCOME_EXPIRED,      /* its expiry passed before it could run */
	OUTCOME_REFUSED,      /* the message has a flaw (msg_flaw): not run */
	OUTCOME_TIMED_OUT,    /* given up at its time limit */
	OUTCOME_CRASHED,      /* brought its worker down crash_limit times */
	OUTCOME_UNROUTABLE,   /* a follow-up that no queue took: a retry */
	OUTCOME_SUSPECT,      /* not run: it may bring its worker down, so it is to run alone */
};

enum action_kind {
	ACTION_DONE,      /* publish reply and follow-ups, then ack */
	ACTION_RETRY,     /* publish a copy to the delay ladder, then ack */
	ACTION_DEAD,      /* publish a copy to the dead-letter queue, then ack */
	ACTION_ASIDE,     /* publish a copy to the quarantine, then ack */
	ACTION_DROP,      /* the queue has no dead-letter queue: log, count, ack */
	ACTION_GIVE_BACK, /* nack with requeue: it costs no attempt */
	ACTION_NOTHING,   /* the lease is lost, or the queue is not acked: nothing is sent */
};

struct action {
	enum action_kind kind;
	const char *verdict; /* RETRY, DEAD, ASIDE, DROP: x-warren-verdict's word; else NULL */
	int64_t delay_ns;    /* RETRY */
};

/* Everything the decision depends on. */
struct situation {
	enum outcome outcome;
	int stop;               /* enum warren_stop of the job when it returned, 0 none */
	int attempt;            /* from 1 */
	int64_t retry_after_ns; /* -1: not asked for */
	int64_t now_wall_ms, expires_at_ms; /* expires_at 0: never */
	double dice;                        /* 0 <= dice < 1, for the jitter */
	const struct conf_queue *queue;
};

/*
 * Pure. The rules, from the strongest down:
 * 1. A lost lease gives NOTHING, whatever the task said.
 * 2. Done is DONE.
 * 3. An un-acked queue (no_ack) gives NOTHING for all else.
 * 4. A retry that the task itself asked for under drain or now gives the message back and costs no
 *    attempt. What timed out or had no route is no answer to the drain: it costs its attempt.
 * 5. A retry whose attempts are used up is dead as `exhausted`, or `timed-out` where that was it.
 * 6. A retry whose delay passes its expiry is dead as `expired`.
 * 7. A retry waits as long as its task asked, else the queue's back-off; a timed-out one at least
 *    kill_after, because both runs may overlap.
 * 8. A suspect is put aside, as it is.
 * 9. All else is dead. Dead without a dead-letter queue is DROP.
 */
struct action verdict_decide(const struct situation *situation);

/* first * factor^(attempt - 1), at most max, spread by +-jitter; dice is 0 <= dice < 1. */
int64_t verdict_backoff_ns(const struct conf_retry *retry, int attempt, double dice);

/* The word for an outcome in logs: done, retry, dead, breach, unknown-task, ... */
const char *outcome_word(enum outcome outcome);

#endif
