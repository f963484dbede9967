/* Every outcome under every stop, attempt and policy, against the rules of verdict.h by number. */
#include "verdict.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum { OUTCOMES = OUTCOME_SUSPECT + 1, NOW_MS = 1000000 };

static char dead_letter_name[] = "work.dead";

static const struct conf_retry usual = {
	.attempts = 5,
	.first_ns = NS_PER_S,
	.max_ns = 600 * NS_PER_S,
	.factor = 2,
	.jitter = 0,
};

static struct conf_queue a_queue(void)
{
	return (struct conf_queue){
		.retry = usual,
		.kill_after_ns = 10 * NS_PER_S,
		.dead_letter = dead_letter_name,
	};
}

static struct situation a_situation(enum outcome outcome, const struct conf_queue *queue)
{
	return (struct situation){
		.outcome = outcome,
		.attempt = 1,
		.retry_after_ns = -1,
		.now_wall_ms = NOW_MS,
		.dice = 0.5,
		.queue = queue,
	};
}

static bool is_retry(enum outcome outcome)
{
	return outcome == OUTCOME_RETRY || outcome == OUTCOME_TIMED_OUT ||
	       outcome == OUTCOME_UNROUTABLE;
}

static void check_action(struct action action, enum action_kind kind, const char *verdict)
{
	ck_assert_int_eq(action.kind, kind);
	ck_assert_pstr_eq(action.verdict, verdict);
	if (kind != ACTION_RETRY)
		ck_assert_int_eq(action.delay_ns, 0);
}

/* ---- The rules one by one ---- */

START_TEST(rule_1_a_lost_lease_gives_nothing)
{
	struct conf_queue queue = a_queue();
	struct situation s = a_situation((enum outcome)_i, &queue);
	s.stop = WARREN_STOP_LOST;
	check_action(verdict_decide(&s), ACTION_NOTHING, NULL);
	queue.no_ack = true;
	check_action(verdict_decide(&s), ACTION_NOTHING, NULL);
}
END_TEST

START_TEST(rule_2_done_is_done)
{
	struct conf_queue queue = a_queue();
	struct situation s = a_situation(OUTCOME_DONE, &queue);
	s.attempt = 99;         /* too late to matter */
	s.expires_at_ms = 1;    /* it did run */
	s.retry_after_ns = 100; /* said, then thought better of */
	for (int stop = WARREN_STOP_NONE; stop <= WARREN_STOP_NOW; stop++) {
		s.stop = stop;
		if (stop != WARREN_STOP_LOST)
			check_action(verdict_decide(&s), ACTION_DONE, NULL);
	}
}
END_TEST

START_TEST(rule_3_an_unacked_queue_sends_nothing_but_what_is_done)
{
	struct conf_queue queue = a_queue();
	queue.no_ack = true;
	struct situation s = a_situation((enum outcome)_i, &queue);
	check_action(verdict_decide(&s), _i == OUTCOME_DONE ? ACTION_DONE : ACTION_NOTHING, NULL);
	s.stop = WARREN_STOP_DRAIN;
	check_action(verdict_decide(&s), _i == OUTCOME_DONE ? ACTION_DONE : ACTION_NOTHING, NULL);
}
END_TEST

START_TEST(rule_4_a_retry_under_drain_or_now_costs_no_attempt)
{
	struct conf_queue queue = a_queue();
	struct situation s = a_situation(OUTCOME_RETRY, &queue);
	for (s.attempt = 1; s.attempt <= 6; s.attempt++) {
		s.stop = WARREN_STOP_DRAIN;
		check_action(verdict_decide(&s), ACTION_GIVE_BACK, NULL);
		s.stop = WARREN_STOP_NOW;
		check_action(verdict_decide(&s), ACTION_GIVE_BACK, NULL);
	}
	s.attempt = 1;
	s.stop = WARREN_STOP_CANCEL;
	check_action(verdict_decide(&s), ACTION_RETRY, "retry");
	s.stop = WARREN_STOP_LIMIT;
	check_action(verdict_decide(&s), ACTION_RETRY, "retry");
}
END_TEST

/* A job that hangs while the daemon drains must not be run for nothing at every restart. */
START_TEST(rule_4_what_timed_out_costs_its_attempt_under_drain_too)
{
	struct conf_queue queue = a_queue();
	struct situation s = a_situation(OUTCOME_TIMED_OUT, &queue);
	s.stop = WARREN_STOP_DRAIN;
	check_action(verdict_decide(&s), ACTION_RETRY, "timed-out");
	s.outcome = OUTCOME_UNROUTABLE;
	check_action(verdict_decide(&s), ACTION_RETRY, "retry");
	s.attempt = 5;
	check_action(verdict_decide(&s), ACTION_DEAD, "exhausted");
}
END_TEST

START_TEST(rule_5_attempts_are_runs_in_all)
{
	struct conf_queue queue = a_queue();
	struct situation s = a_situation(OUTCOME_RETRY, &queue);
	int runs = 0;
	do
		runs++;
	while (s.attempt = runs, verdict_decide(&s).kind == ACTION_RETRY);
	ck_assert_int_eq(runs, queue.retry.attempts);
	check_action(verdict_decide(&s), ACTION_DEAD, "exhausted");
	s.retry_after_ns = 0; /* a wish does not add an attempt */
	check_action(verdict_decide(&s), ACTION_DEAD, "exhausted");
	s.outcome = OUTCOME_UNROUTABLE;
	check_action(verdict_decide(&s), ACTION_DEAD, "exhausted");
	s.outcome = OUTCOME_TIMED_OUT;
	check_action(verdict_decide(&s), ACTION_DEAD, "timed-out");
	s.outcome = OUTCOME_RETRY;
	s.attempt = 1;
	queue.retry.attempts = 1; /* never again */
	check_action(verdict_decide(&s), ACTION_DEAD, "exhausted");
	s.attempt = INT32_MAX;
	check_action(verdict_decide(&s), ACTION_DEAD, "exhausted");
}
END_TEST

START_TEST(rule_6_a_delay_that_passes_the_expiry_is_expired)
{
	struct conf_queue queue = a_queue(); /* first delay: 1 s */
	struct situation s = a_situation(OUTCOME_RETRY, &queue);
	static const struct {
		int64_t expires_at_ms;
		bool expires;
	} cases[] = {
		{ 0, false },
		{ INT64_MIN, true },
		{ -1, true },
		{ 1, true },
		{ NOW_MS, true },
		{ NOW_MS + 999, true },
		{ NOW_MS + 1000, true },
		{ NOW_MS + 1001, false },
		{ INT64_MAX, false },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		s.expires_at_ms = cases[i].expires_at_ms;
		check_action(verdict_decide(&s), cases[i].expires ? ACTION_DEAD : ACTION_RETRY,
		    cases[i].expires ? "expired" : "retry");
	}
	s.expires_at_ms = NOW_MS + 5000;
	s.retry_after_ns = INT64_MAX;
	check_action(verdict_decide(&s), ACTION_DEAD, "expired");
	s.attempt = 5; /* attempts are looked at first */
	check_action(verdict_decide(&s), ACTION_DEAD, "exhausted");
}
END_TEST

START_TEST(rule_7_a_task_may_say_when)
{
	struct conf_queue queue = a_queue();
	struct situation s = a_situation(OUTCOME_RETRY, &queue);
	ck_assert_int_eq(verdict_decide(&s).delay_ns, NS_PER_S);
	s.attempt = 3;
	ck_assert_int_eq(verdict_decide(&s).delay_ns, 4 * NS_PER_S);
	s.retry_after_ns = 77 * NS_PER_S;
	ck_assert_int_eq(verdict_decide(&s).delay_ns, 77 * NS_PER_S);
	s.retry_after_ns = 0;
	ck_assert_int_eq(verdict_decide(&s).delay_ns, 0);
	s.outcome = OUTCOME_UNROUTABLE; /* its task said "done" in the end */
	ck_assert_int_eq(verdict_decide(&s).delay_ns, 4 * NS_PER_S);
}
END_TEST

START_TEST(rule_7_what_timed_out_waits_until_its_run_is_killed)
{
	struct conf_queue queue = a_queue();
	struct situation s = a_situation(OUTCOME_TIMED_OUT, &queue);
	s.retry_after_ns = 0; /* whatever the stuck run had said */
	ck_assert_int_eq(verdict_decide(&s).delay_ns, 10 * NS_PER_S);
	queue.kill_after_ns = 100;
	ck_assert_int_eq(verdict_decide(&s).delay_ns, NS_PER_S);
}
END_TEST

START_TEST(rule_9_dead_without_a_dead_letter_queue_is_dropped)
{
	static const enum outcome outcomes[] = { OUTCOME_DEAD, OUTCOME_BREACH, OUTCOME_UNKNOWN_TASK,
		OUTCOME_EXPIRED, OUTCOME_REFUSED, OUTCOME_CRASHED };
	struct conf_queue queue = a_queue();
	for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
		for (int stop = WARREN_STOP_NONE; stop <= WARREN_STOP_NOW; stop++) {
			struct situation s = a_situation(outcomes[i], &queue);
			s.stop = stop;
			if (stop == WARREN_STOP_LOST)
				continue;
			queue.dead_letter = dead_letter_name;
			check_action(verdict_decide(&s), ACTION_DEAD, outcome_word(outcomes[i]));
			queue.dead_letter = NULL;
			check_action(verdict_decide(&s), ACTION_DROP, outcome_word(outcomes[i]));
		}
	struct situation s = a_situation(OUTCOME_RETRY, &queue);
	s.attempt = 5;
	check_action(verdict_decide(&s), ACTION_DROP, "exhausted");
}
END_TEST

START_TEST(rule_8_a_suspect_is_put_aside_as_it_is)
{
	struct conf_queue queue = a_queue();
	struct situation s = a_situation(OUTCOME_SUSPECT, &queue);
	for (s.attempt = 1; s.attempt < 10; s.attempt++)
		check_action(verdict_decide(&s), ACTION_ASIDE, "crashed");
}
END_TEST

/* ---- All of it: what must hold in every situation ---- */

/* The decision said again in the order of the rules, without their code. */
static enum action_kind expected(const struct situation *s, int64_t delay_ns)
{
	if (s->stop == WARREN_STOP_LOST)
		return ACTION_NOTHING;
	if (s->outcome == OUTCOME_DONE)
		return ACTION_DONE;
	if (s->queue->no_ack)
		return ACTION_NOTHING;
	if (s->outcome == OUTCOME_RETRY &&
	    (s->stop == WARREN_STOP_DRAIN || s->stop == WARREN_STOP_NOW))
		return ACTION_GIVE_BACK;
	bool expires =
	    s->expires_at_ms && s->now_wall_ms + delay_ns / NS_PER_MS >= s->expires_at_ms;
	if (s->outcome == OUTCOME_SUSPECT)
		return ACTION_ASIDE;
	if (is_retry(s->outcome) && s->attempt < s->queue->retry.attempts && !expires)
		return ACTION_RETRY;
	return s->queue->dead_letter ? ACTION_DEAD : ACTION_DROP;
}

static const char *const verdicts[] = { "retry", "dead", "exhausted", "crashed", "timed-out",
	"expired", "unknown-task", "refused", "breach" };

static bool is_verdict(const char *word)
{
	for (size_t i = 0; i < ARRAY_LEN(verdicts); i++)
		if (strcmp(verdicts[i], word) == 0)
			return true;
	return false;
}

static int64_t expected_delay(const struct situation *s)
{
	if (s->outcome == OUTCOME_RETRY && s->retry_after_ns >= 0)
		return s->retry_after_ns;
	int64_t delay = verdict_backoff_ns(&s->queue->retry, s->attempt, s->dice);
	if (s->outcome == OUTCOME_TIMED_OUT && delay < s->queue->kill_after_ns)
		return s->queue->kill_after_ns;
	return delay;
}

static bool is_right(const struct situation *s, struct action action)
{
	bool stamped = action.kind == ACTION_RETRY || action.kind == ACTION_DEAD ||
		       action.kind == ACTION_ASIDE || action.kind == ACTION_DROP;
	int64_t delay_ns = expected_delay(s);
	return action.kind == expected(s, delay_ns) && (action.verdict != NULL) == stamped &&
	       (!stamped || is_verdict(action.verdict)) &&
	       action.delay_ns == (action.kind == ACTION_RETRY ? delay_ns : 0);
}

static void check_situation(const struct situation *s)
{
	struct action action = verdict_decide(s);
	if (!is_right(s, action))
		ck_abort_msg("%s, stop %d, attempt %d: action %d, verdict %s",
		    outcome_word(s->outcome), s->stop, s->attempt, (int)action.kind,
		    action.verdict ? action.verdict : "none");
}

/* The other dimensions, in every combination. */
static void check_policies(struct situation s)
{
	static const int64_t wishes[] = { -1, 0, 5 * NS_PER_S };
	static const int64_t expiries[] = { 0, 1, NOW_MS + 3000, NOW_MS + 3600 * 1000 };
	static const double dice[] = { 0, 0.5, 0.999999 };
	for (size_t w = 0; w < ARRAY_LEN(wishes); w++)
		for (size_t e = 0; e < ARRAY_LEN(expiries); e++)
			for (size_t d = 0; d < ARRAY_LEN(dice); d++) {
				s.retry_after_ns = wishes[w];
				s.expires_at_ms = expiries[e];
				s.dice = dice[d];
				check_situation(&s);
			}
}

START_TEST(every_situation_follows_the_rules)
{
	struct conf_queue queues[16];
	for (int i = 0; i < 16; i++) {
		queues[i] = a_queue();
		queues[i].no_ack = i & 1;
		queues[i].dead_letter = i & 2 ? dead_letter_name : NULL;
		queues[i].retry.attempts = i & 4 ? 5 : 1;
		queues[i].retry.jitter = i & 8 ? 0.2 : 0;
	}
	for (int stop = WARREN_STOP_NONE; stop <= WARREN_STOP_NOW; stop++)
		for (int attempt = 1; attempt <= 7; attempt++)
			for (size_t q = 0; q < ARRAY_LEN(queues); q++) {
				struct situation s = a_situation((enum outcome)_i, &queues[q]);
				s.stop = stop;
				s.attempt = attempt;
				check_policies(s);
			}
}
END_TEST

/* ---- Back-off ---- */

START_TEST(backoff_grows_to_its_ceiling)
{
	static const int seconds[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600 };
	for (size_t i = 0; i < ARRAY_LEN(seconds); i++)
		ck_assert_int_eq(
		    verdict_backoff_ns(&usual, (int)i + 1, 0.5), seconds[i] * NS_PER_S);
	ck_assert_int_eq(verdict_backoff_ns(&usual, INT32_MAX, 0.5), 600 * NS_PER_S);
	ck_assert_int_eq(verdict_backoff_ns(&usual, 0, 0.5), NS_PER_S);
	ck_assert_int_eq(verdict_backoff_ns(&usual, INT32_MIN, 0.5), NS_PER_S);
}
END_TEST

START_TEST(jitter_spreads_both_ways)
{
	struct conf_retry retry = usual;
	retry.jitter = 0.2;
	ck_assert_int_eq(verdict_backoff_ns(&retry, 1, 0), 800 * NS_PER_MS);
	ck_assert_int_eq(verdict_backoff_ns(&retry, 1, 0.5), NS_PER_S);
	int64_t latest = verdict_backoff_ns(&retry, 1, 0x1.fffffffffffffp-1);
	ck_assert_int_gt(latest, 1199 * NS_PER_MS);
	ck_assert_int_le(latest, 1200 * NS_PER_MS);
	retry.jitter = 1;
	ck_assert_int_eq(verdict_backoff_ns(&retry, 1, 0), 0);
}
END_TEST

/* No policy, however odd, gives a negative delay or an undefined conversion. */
START_TEST(odd_policies_stay_in_range)
{
	static const double factors[] = { 0, 0.5, 1, 1.0001, 2, 1e300, INFINITY };
	static const int64_t delays[] = { 0, 1, NS_PER_S, INT64_MAX };
	for (size_t f = 0; f < ARRAY_LEN(factors); f++)
		for (size_t a = 0; a < ARRAY_LEN(delays); a++)
			for (size_t b = 0; b < ARRAY_LEN(delays); b++) {
				struct conf_retry retry = { .attempts = 5,
					.first_ns = delays[a],
					.max_ns = delays[b],
					.factor = factors[f],
					.jitter = 1 };
				for (int attempt = 1; attempt < 100000; attempt *= 3)
					ck_assert_int_ge(
					    verdict_backoff_ns(&retry, attempt, 0.999), 0);
			}
	struct conf_retry flat = usual;
	flat.factor = 1;
	ck_assert_int_eq(verdict_backoff_ns(&flat, 1000000, 0.5), NS_PER_S);
}
END_TEST

START_TEST(outcomes_have_words_of_their_own)
{
	for (int a = 0; a < OUTCOMES; a++)
		for (int b = 0; b < a; b++)
			ck_assert_str_ne(
			    outcome_word((enum outcome)a), outcome_word((enum outcome)b));
	ck_assert_str_eq(outcome_word(OUTCOME_UNKNOWN_TASK), "unknown-task");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("verdict");
	tcase_add_loop_test(t, rule_1_a_lost_lease_gives_nothing, 0, OUTCOMES);
	tcase_add_test(t, rule_2_done_is_done);
	tcase_add_loop_test(t, rule_3_an_unacked_queue_sends_nothing_but_what_is_done, 0, OUTCOMES);
	tcase_add_test(t, rule_4_a_retry_under_drain_or_now_costs_no_attempt);
	tcase_add_test(t, rule_4_what_timed_out_costs_its_attempt_under_drain_too);
	tcase_add_test(t, rule_5_attempts_are_runs_in_all);
	tcase_add_test(t, rule_6_a_delay_that_passes_the_expiry_is_expired);
	tcase_add_test(t, rule_7_a_task_may_say_when);
	tcase_add_test(t, rule_7_what_timed_out_waits_until_its_run_is_killed);
	tcase_add_test(t, rule_8_a_suspect_is_put_aside_as_it_is);
	tcase_add_test(t, rule_9_dead_without_a_dead_letter_queue_is_dropped);
	tcase_add_loop_test(t, every_situation_follows_the_rules, 0, OUTCOMES);
	tcase_add_test(t, backoff_grows_to_its_ceiling);
	tcase_add_test(t, jitter_spreads_both_ways);
	tcase_add_test(t, odd_policies_stay_in_range);
	tcase_add_test(t, outcomes_have_words_of_their_own);
	tcase_set_timeout(t, 110);

	Suite *suite = suite_create("verdict");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
