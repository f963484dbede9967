/* One worker process as a table: every state meets every event, and time does what it should. */
#include "slot.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW_NS (1000 * NS_PER_S)
#define START_NS (30 * NS_PER_S)
#define DRAIN_NS (40 * NS_PER_S)
#define DEADLINE_NS (NOW_NS + 20 * NS_PER_S) /* what stands in the slot before the event */

/* What is expected of one pair; `left_ns` is the deadline seen from NOW_NS. */
struct expected {
	enum slot_state state;
	enum slot_event event;
	enum slot_state next;
	int64_t left_ns;
	unsigned actions;
};

#define NEVER CLOCK_NEVER
#define KEPT (DEADLINE_NS - NOW_NS)

/* Every pair that is possible, written down a second time, in another order than in slot.c. */
static const struct expected all[] = {
	{ SLOT_DOWN, SLOT_START, SLOT_BACKOFF, 0, 0 },

	/* stop: whoever may have a job drains, everybody else leaves */
	{ SLOT_DOWN, SLOT_STOP, SLOT_DOWN, KEPT, 0 },
	{ SLOT_BACKOFF, SLOT_STOP, SLOT_DOWN, NEVER, 0 },
	{ SLOT_STARTING, SLOT_STOP, SLOT_STOPPING, SLOT_KILL_AFTER_NS, SLOT_DO_NOW },
	{ SLOT_LOADED, SLOT_STOP, SLOT_DRAINING, DRAIN_NS, SLOT_DO_DRAIN },
	{ SLOT_CONSUMING, SLOT_STOP, SLOT_DRAINING, DRAIN_NS, SLOT_DO_DRAIN },
	{ SLOT_DRAINING, SLOT_STOP, SLOT_DRAINING, KEPT, SLOT_DO_DRAIN },
	{ SLOT_STOPPING, SLOT_STOP, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_STOP, SLOT_STOPPING, KEPT, SLOT_DO_NOW },

	/* stop again: only ever after a stop, and only ever shorter */
	{ SLOT_DOWN, SLOT_HASTEN, SLOT_DOWN, KEPT, 0 },
	{ SLOT_DRAINING, SLOT_HASTEN, SLOT_DRAINING, SLOT_HASTE_NS, SLOT_DO_DRAIN },
	{ SLOT_STOPPING, SLOT_HASTEN, SLOT_STOPPING, KEPT, 0 },

	{ SLOT_DOWN, SLOT_NOW, SLOT_DOWN, KEPT, 0 },
	{ SLOT_BACKOFF, SLOT_NOW, SLOT_DOWN, NEVER, 0 },
	{ SLOT_STARTING, SLOT_NOW, SLOT_STOPPING, SLOT_KILL_AFTER_NS, SLOT_DO_NOW },
	{ SLOT_LOADED, SLOT_NOW, SLOT_STOPPING, SLOT_KILL_AFTER_NS, SLOT_DO_NOW },
	{ SLOT_CONSUMING, SLOT_NOW, SLOT_STOPPING, SLOT_KILL_AFTER_NS, SLOT_DO_NOW },
	{ SLOT_DRAINING, SLOT_NOW, SLOT_STOPPING, SLOT_KILL_AFTER_NS, SLOT_DO_NOW },
	{ SLOT_STOPPING, SLOT_NOW, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_NOW, SLOT_STOPPING, KEPT, SLOT_DO_NOW },

	/* relieved: only who is at work, and then without a limit */
	{ SLOT_LOADED, SLOT_RETIRE, SLOT_DRAINING, NEVER, SLOT_DO_RETIRE },
	{ SLOT_CONSUMING, SLOT_RETIRE, SLOT_DRAINING, NEVER, SLOT_DO_RETIRE },

	{ SLOT_BACKOFF, SLOT_SPAWNED, SLOT_STARTING, START_NS, 0 },
	{ SLOT_BACKOFF, SLOT_SPAWN_FAILED, SLOT_BACKOFF, SLOT_BACKOFF_FIRST_NS, 0 },

	/* what the process says, in every state that has one */
	{ SLOT_STARTING, SLOT_IS_LOADED, SLOT_LOADED, NEVER, 0 },
	{ SLOT_LOADED, SLOT_IS_LOADED, SLOT_LOADED, KEPT, 0 },
	{ SLOT_CONSUMING, SLOT_IS_LOADED, SLOT_CONSUMING, KEPT, 0 },
	{ SLOT_DRAINING, SLOT_IS_LOADED, SLOT_DRAINING, KEPT, 0 },
	{ SLOT_STOPPING, SLOT_IS_LOADED, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_IS_LOADED, SLOT_FAILING, KEPT, 0 },

	{ SLOT_STARTING, SLOT_IS_CONSUMING, SLOT_CONSUMING, NEVER, 0 },
	{ SLOT_LOADED, SLOT_IS_CONSUMING, SLOT_CONSUMING, NEVER, 0 },
	{ SLOT_CONSUMING, SLOT_IS_CONSUMING, SLOT_CONSUMING, KEPT, 0 },
	{ SLOT_DRAINING, SLOT_IS_CONSUMING, SLOT_DRAINING, KEPT, 0 },
	{ SLOT_STOPPING, SLOT_IS_CONSUMING, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_IS_CONSUMING, SLOT_FAILING, KEPT, 0 },

	{ SLOT_STARTING, SLOT_IS_STALLED, SLOT_STARTING, KEPT, 0 },
	{ SLOT_LOADED, SLOT_IS_STALLED, SLOT_LOADED, KEPT, 0 },
	{ SLOT_CONSUMING, SLOT_IS_STALLED, SLOT_LOADED, NEVER, 0 },
	{ SLOT_DRAINING, SLOT_IS_STALLED, SLOT_DRAINING, KEPT, 0 },
	{ SLOT_STOPPING, SLOT_IS_STALLED, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_IS_STALLED, SLOT_FAILING, KEPT, 0 },

	{ SLOT_STARTING, SLOT_REFUSED, SLOT_FAILING, SLOT_KILL_AFTER_NS, 0 },
	{ SLOT_LOADED, SLOT_REFUSED, SLOT_FAILING, SLOT_KILL_AFTER_NS, 0 },
	{ SLOT_CONSUMING, SLOT_REFUSED, SLOT_FAILING, SLOT_KILL_AFTER_NS, 0 },
	{ SLOT_DRAINING, SLOT_REFUSED, SLOT_DRAINING, KEPT, 0 },
	{ SLOT_STOPPING, SLOT_REFUSED, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_REFUSED, SLOT_FAILING, KEPT, 0 },

	{ SLOT_STARTING, SLOT_PULSE, SLOT_STARTING, KEPT, 0 },
	{ SLOT_LOADED, SLOT_PULSE, SLOT_LOADED, KEPT, 0 },
	{ SLOT_CONSUMING, SLOT_PULSE, SLOT_CONSUMING, KEPT, 0 },
	{ SLOT_DRAINING, SLOT_PULSE, SLOT_DRAINING, KEPT, 0 },
	{ SLOT_STOPPING, SLOT_PULSE, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_PULSE, SLOT_FAILING, KEPT, 0 },

	{ SLOT_STARTING, SLOT_DEAF, SLOT_FAILING, SLOT_FAIL_NS, 0 },
	{ SLOT_LOADED, SLOT_DEAF, SLOT_FAILING, SLOT_FAIL_NS, 0 },
	{ SLOT_CONSUMING, SLOT_DEAF, SLOT_FAILING, SLOT_FAIL_NS, 0 },
	{ SLOT_DRAINING, SLOT_DEAF, SLOT_STOPPING, SLOT_FAIL_NS, 0 },
	{ SLOT_STOPPING, SLOT_DEAF, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_DEAF, SLOT_FAILING, KEPT, 0 },

	{ SLOT_STARTING, SLOT_OVERRUN, SLOT_DRAINING, NEVER, 0 },
	{ SLOT_LOADED, SLOT_OVERRUN, SLOT_DRAINING, NEVER, 0 },
	{ SLOT_CONSUMING, SLOT_OVERRUN, SLOT_DRAINING, NEVER, 0 },
	{ SLOT_DRAINING, SLOT_OVERRUN, SLOT_DRAINING, KEPT, 0 },
	{ SLOT_STOPPING, SLOT_OVERRUN, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_OVERRUN, SLOT_FAILING, KEPT, 0 },

	/* what its rows say */
	{ SLOT_STARTING, SLOT_OVERDUE, SLOT_FAILING, SLOT_FAIL_NS, SLOT_DO_ABORT },
	{ SLOT_LOADED, SLOT_OVERDUE, SLOT_FAILING, SLOT_FAIL_NS, SLOT_DO_ABORT },
	{ SLOT_CONSUMING, SLOT_OVERDUE, SLOT_FAILING, SLOT_FAIL_NS, SLOT_DO_ABORT },
	{ SLOT_DRAINING, SLOT_OVERDUE, SLOT_STOPPING, SLOT_FAIL_NS, SLOT_DO_ABORT },
	{ SLOT_STOPPING, SLOT_OVERDUE, SLOT_STOPPING, KEPT, 0 },
	{ SLOT_FAILING, SLOT_OVERDUE, SLOT_FAILING, KEPT, 0 },

	/* what time did */
	{ SLOT_BACKOFF, SLOT_DEADLINE, SLOT_BACKOFF, NEVER, SLOT_DO_SPAWN },
	{ SLOT_STARTING, SLOT_DEADLINE, SLOT_FAILING, SLOT_FAIL_NS, SLOT_DO_ABORT },
	{ SLOT_DRAINING, SLOT_DEADLINE, SLOT_STOPPING, SLOT_KILL_AFTER_NS, SLOT_DO_NOW },
	{ SLOT_STOPPING, SLOT_DEADLINE, SLOT_STOPPING, SLOT_FAIL_NS, SLOT_DO_KILL },
	{ SLOT_FAILING, SLOT_DEADLINE, SLOT_FAILING, SLOT_FAIL_NS, SLOT_DO_KILL },
	{ SLOT_LOADED, SLOT_SILENT, SLOT_FAILING, SLOT_FAIL_NS, SLOT_DO_ABORT },
	{ SLOT_CONSUMING, SLOT_SILENT, SLOT_FAILING, SLOT_FAIL_NS, SLOT_DO_ABORT },
	{ SLOT_DRAINING, SLOT_SILENT, SLOT_STOPPING, SLOT_FAIL_NS, SLOT_DO_ABORT },

	/* how it ended: replaced, unless it was told to leave */
	{ SLOT_STARTING, SLOT_ENDED, SLOT_BACKOFF, 0, 0 },
	{ SLOT_LOADED, SLOT_ENDED, SLOT_BACKOFF, 0, 0 },
	{ SLOT_CONSUMING, SLOT_ENDED, SLOT_BACKOFF, 0, 0 },
	{ SLOT_FAILING, SLOT_ENDED, SLOT_BACKOFF, 0, 0 },
	{ SLOT_DRAINING, SLOT_ENDED, SLOT_DOWN, NEVER, 0 },
	{ SLOT_STOPPING, SLOT_ENDED, SLOT_DOWN, NEVER, 0 },
	{ SLOT_STARTING, SLOT_ENDED_FATAL, SLOT_DOWN, NEVER, SLOT_DO_FATAL },
	{ SLOT_LOADED, SLOT_ENDED_FATAL, SLOT_DOWN, NEVER, SLOT_DO_FATAL },
	{ SLOT_FAILING, SLOT_ENDED_FATAL, SLOT_DOWN, NEVER, SLOT_DO_FATAL },
	{ SLOT_DRAINING, SLOT_ENDED_FATAL, SLOT_DOWN, NEVER, 0 },
	{ SLOT_STOPPING, SLOT_ENDED_FATAL, SLOT_DOWN, NEVER, 0 },
};

static struct slot slot_in(enum slot_state state)
{
	struct slot slot;

	slot_init(&slot, START_NS, DRAIN_NS);
	slot.state = state;
	slot.deadline_ns = DEADLINE_NS;
	slot.spawned_ns = NOW_NS;
	return slot;
}

static const struct expected *expectation(enum slot_state state, enum slot_event event)
{
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i].state == state && all[i].event == event)
			return &all[i];
	return NULL;
}

START_TEST(every_state_meets_every_event)
{
	enum slot_state state = (enum slot_state)_i;

	for (int e = 0; e < SLOT_EVENTS; e++) {
		enum slot_event event = (enum slot_event)e;
		const struct expected *want = expectation(state, event);
		struct slot slot = slot_in(state);
		unsigned actions;

		ck_assert_msg(slot_possible(state, event) == (want != NULL), "%s, event %d",
		    slot_state_name(state), e);
		if (!want)
			continue;
		actions = slot_event(&slot, event, NOW_NS);
		ck_assert_msg(slot.state == want->next, "%s, event %d", slot_state_name(state), e);
		ck_assert_msg(actions == want->actions, "%s, event %d", slot_state_name(state), e);
		ck_assert_int_eq(slot.deadline_ns,
		    want->left_ns == NEVER ? CLOCK_NEVER : NOW_NS + want->left_ns);
	}
}
END_TEST

/* The other half of the table: one state after the other, each impossible pair ends a process. */
START_TEST(the_impossible_ends_the_process)
{
	enum slot_state state = (enum slot_state)_i;

	for (int e = 0; e < SLOT_EVENTS; e++) {
		struct slot slot = slot_in(state);
		int status;
		pid_t pid;

		if (expectation(state, (enum slot_event)e))
			continue;
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0 && dup2(open("/dev/null", O_WRONLY), STDERR_FILENO) == STDERR_FILENO)
			_exit(slot_event(&slot, (enum slot_event)e, NOW_NS) == 0 ? 0 : 1);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s, event %d",
		    slot_state_name(state), e);
	}
}
END_TEST

START_TEST(whatever_a_process_says_has_an_answer)
{
	for (int state = SLOT_STARTING; state < SLOT_STATES; state++) {
		for (int event = SLOT_IS_LOADED; event <= SLOT_OVERDUE; event++)
			ck_assert(slot_possible((enum slot_state)state, (enum slot_event)event));
		ck_assert(slot_possible((enum slot_state)state, SLOT_ENDED));
	}
}
END_TEST

/* From any state: TERM, time and the end of the process lead down, and nothing is started. */
START_TEST(a_stop_ends_in_down)
{
	struct slot slot = slot_in((enum slot_state)_i);
	const struct slot_end killed = { .signal = SIGKILL };
	int64_t now_ns = NOW_NS;
	unsigned seen = slot_event(&slot, SLOT_STOP, now_ns);

	while (slot_alive(&slot) && !(seen & SLOT_DO_KILL)) {
		now_ns += NS_PER_S;
		seen |= slot_tick(&slot, now_ns);
		ck_assert_int_lt(now_ns - NOW_NS, 60 * NS_PER_S);
	}
	if (slot_alive(&slot))
		seen |= slot_ended(&slot, &killed, now_ns);
	ck_assert_int_eq(slot.state, SLOT_DOWN);
	ck_assert_uint_eq(seen & (SLOT_DO_SPAWN | SLOT_DO_FATAL), 0);
}
END_TEST

START_TEST(a_second_signal_only_shortens)
{
	struct slot slot = slot_in(SLOT_CONSUMING);

	ck_assert_uint_eq(slot_event(&slot, SLOT_STOP, NOW_NS), SLOT_DO_DRAIN);
	ck_assert_uint_eq(slot_event(&slot, SLOT_HASTEN, NOW_NS + NS_PER_S), SLOT_DO_DRAIN);
	ck_assert_int_eq(slot.deadline_ns, NOW_NS + NS_PER_S + SLOT_HASTE_NS);
	ck_assert_uint_eq(slot_event(&slot, SLOT_HASTEN, NOW_NS + 3 * NS_PER_S), SLOT_DO_DRAIN);
	ck_assert_int_eq(slot.deadline_ns, NOW_NS + NS_PER_S + SLOT_HASTE_NS);
	ck_assert_uint_eq(slot_event(&slot, SLOT_STOP, NOW_NS + 4 * NS_PER_S), SLOT_DO_DRAIN);
	ck_assert_int_eq(slot.deadline_ns, NOW_NS + NS_PER_S + SLOT_HASTE_NS);
}
END_TEST

START_TEST(who_overran_has_all_the_time_until_the_daemon_stops)
{
	struct slot slot = slot_in(SLOT_CONSUMING);

	ck_assert_uint_eq(slot_event(&slot, SLOT_OVERRUN, NOW_NS), 0);
	for (int64_t s = 0; s < 10000; s += 10) {
		ck_assert_uint_eq(slot_tick(&slot, NOW_NS + s * NS_PER_S), 0);
		ck_assert_uint_eq(slot_event(&slot, SLOT_PULSE, NOW_NS + s * NS_PER_S), 0);
	}
	ck_assert_uint_eq(slot_event(&slot, SLOT_STOP, NOW_NS), SLOT_DO_DRAIN);
	ck_assert_int_eq(slot.deadline_ns, NOW_NS + DRAIN_NS);
}
END_TEST

START_TEST(a_short_drain_is_not_made_longer)
{
	struct slot slot = slot_in(SLOT_CONSUMING);

	slot.drain_limit_ns = 2 * NS_PER_S;
	ck_assert_uint_eq(slot_event(&slot, SLOT_STOP, NOW_NS), SLOT_DO_DRAIN);
	ck_assert_uint_eq(slot_event(&slot, SLOT_HASTEN, NOW_NS), SLOT_DO_DRAIN);
	ck_assert_int_eq(slot.deadline_ns, NOW_NS + 2 * NS_PER_S);
}
END_TEST

/* ---- pulses ---- */

/* Ticks once a second; the second in which something happened, or 0. */
static int seconds_until_action(struct slot *slot, int limit, unsigned *actions)
{
	for (int i = 0; i <= limit; i++)
		if ((*actions = slot_tick(slot, NOW_NS + i * NS_PER_S)) != 0)
			return i;
	return 0;
}

START_TEST(twenty_seconds_of_silence_end_it)
{
	struct slot slot = slot_in(SLOT_CONSUMING);
	unsigned actions;

	slot.deadline_ns = CLOCK_NEVER;
	ck_assert_int_eq(seconds_until_action(&slot, 100, &actions), 20);
	ck_assert_uint_eq(actions, SLOT_DO_ABORT);
	ck_assert_uint_eq(slot_tick(&slot, NOW_NS + 24 * NS_PER_S), 0);
	ck_assert_uint_eq(slot_tick(&slot, NOW_NS + 25 * NS_PER_S), SLOT_DO_KILL);
	ck_assert_uint_eq(slot_tick(&slot, NOW_NS + 26 * NS_PER_S), 0);
	ck_assert_uint_eq(slot_tick(&slot, NOW_NS + 30 * NS_PER_S), SLOT_DO_KILL);
}
END_TEST

START_TEST(a_pulse_starts_the_count_anew)
{
	struct slot slot = slot_in(SLOT_LOADED);

	slot.deadline_ns = CLOCK_NEVER;
	for (int i = 0; i < 1000; i++) {
		ck_assert_uint_eq(slot_tick(&slot, NOW_NS + i * NS_PER_S), 0);
		if (i % 19 == 0)
			ck_assert_uint_eq(slot_event(&slot, SLOT_PULSE, NOW_NS + i * NS_PER_S), 0);
	}
	ck_assert_int_eq(slot.state, SLOT_LOADED);
}
END_TEST

START_TEST(a_supervisor_that_slept_blames_nobody)
{
	struct slot slot = slot_in(SLOT_CONSUMING);

	slot.deadline_ns = CLOCK_NEVER;
	ck_assert_uint_eq(slot_tick(&slot, NOW_NS), 0);
	ck_assert_uint_eq(slot_tick(&slot, NOW_NS + 600 * NS_PER_S), 0);
	ck_assert_int_eq(slot.state, SLOT_CONSUMING);
}
END_TEST

START_TEST(nobody_pulses_while_plugins_are_opened)
{
	struct slot slot = slot_in(SLOT_STARTING);
	unsigned actions;

	slot.deadline_ns = NOW_NS + 50 * NS_PER_S;
	ck_assert_int_eq(seconds_until_action(&slot, 100, &actions), 50);
	ck_assert_uint_eq(actions, SLOT_DO_ABORT);

	slot = slot_in(SLOT_STARTING);
	ck_assert_uint_eq(slot_tick(&slot, NOW_NS), 0);
	slot.silent_ns = 100 * NS_PER_S;
	ck_assert_uint_eq(slot_event(&slot, SLOT_IS_LOADED, NOW_NS), 0);
	ck_assert_uint_eq(slot_tick(&slot, NOW_NS + NS_PER_S), 0);
}
END_TEST

/* ---- ends, and what follows ---- */

static int64_t wait_after(struct slot *slot, const struct slot_end *end, int64_t lived_ns)
{
	int64_t now_ns = slot->spawned_ns + lived_ns;

	ck_assert_uint_eq(slot_ended(slot, end, now_ns), 0);
	ck_assert_int_eq(slot->state, SLOT_BACKOFF);
	return slot->deadline_ns - now_ns;
}

START_TEST(backoff_doubles_to_thirty_seconds)
{
	static const int64_t ms[] = { 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000,
		30000 };
	const struct slot_end crash = { .signal = SIGSEGV };
	struct slot slot = slot_in(SLOT_STARTING);

	for (size_t i = 0; i < ARRAY_LEN(ms); i++) {
		ck_assert_int_eq(wait_after(&slot, &crash, NS_PER_MS), ms[i] * NS_PER_MS);
		ck_assert_int_eq(slot_backoff_ns((unsigned)i + 1), ms[i] * NS_PER_MS);
		slot.state = SLOT_STARTING;
	}
	ck_assert_int_eq(slot_backoff_ns(0), 0);
	ck_assert_int_eq(slot_backoff_ns(UINT32_MAX), SLOT_BACKOFF_MAX_NS);
}
END_TEST

START_TEST(a_crash_at_every_start_is_no_fork_bomb)
{
	const struct slot_end crash = { .signal = SIGABRT };
	struct slot slot;
	int64_t now_ns = NOW_NS;
	int spawned = 0;

	slot_init(&slot, START_NS, DRAIN_NS);
	ck_assert_uint_eq(slot_event(&slot, SLOT_START, now_ns), 0);
	for (; now_ns < NOW_NS + 60 * NS_PER_S; now_ns += 10 * NS_PER_MS) {
		if (!(slot_tick(&slot, now_ns) & SLOT_DO_SPAWN))
			continue;
		spawned++;
		ck_assert_uint_eq(slot_event(&slot, SLOT_SPAWNED, now_ns), 0);
		ck_assert_uint_eq(slot_ended(&slot, &crash, now_ns), 0);
	}
	ck_assert_int_le(spawned, 10);
	ck_assert_int_ge(spawned, 5);
}
END_TEST

START_TEST(who_worked_is_replaced_soon)
{
	const struct slot_end worked = { .signal = SIGKILL, .worked = true };
	const struct slot_end idle = { .signal = SIGKILL };
	struct slot slot = slot_in(SLOT_CONSUMING);

	slot.failures = 9;
	ck_assert_int_eq(wait_after(&slot, &worked, NS_PER_MS), SLOT_BACKOFF_FIRST_NS);
	slot = slot_in(SLOT_CONSUMING);
	slot.failures = 9;
	ck_assert_int_eq(wait_after(&slot, &idle, SLOT_STABLE_NS), SLOT_BACKOFF_FIRST_NS);
}
END_TEST

START_TEST(a_blamed_job_or_a_time_limit_costs_no_wait)
{
	const struct slot_end blamed = { .signal = SIGSEGV, .blamed = true };
	const struct slot_end limit = { .code = EXIT_TIME_LIMIT };
	struct slot slot = slot_in(SLOT_CONSUMING);

	slot.failures = 9;
	ck_assert_int_eq(wait_after(&slot, &blamed, NS_PER_MS), 0);
	slot = slot_in(SLOT_CONSUMING);
	slot.failures = 9;
	ck_assert_int_eq(wait_after(&slot, &limit, NS_PER_MS), 0);
	ck_assert_uint_eq(slot_tick(&slot, slot.spawned_ns + NS_PER_MS), SLOT_DO_SPAWN);
}
END_TEST

START_TEST(a_refusal_is_fatal_only_before_the_first_consuming)
{
	static const int codes[] = { EXIT_CONFIG, EXIT_REFUSED };

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		const struct slot_end early = { .code = codes[i], .untested = true };
		const struct slot_end late = { .code = codes[i] };
		struct slot slot = slot_in(SLOT_FAILING);

		ck_assert_uint_eq(slot_ended(&slot, &early, NOW_NS), SLOT_DO_FATAL);
		ck_assert_int_eq(slot.state, SLOT_DOWN);
		slot = slot_in(SLOT_FAILING);
		ck_assert_uint_eq(slot_ended(&slot, &late, NOW_NS), 0);
		ck_assert_int_eq(slot.state, SLOT_BACKOFF);
	}
}
END_TEST

START_TEST(a_signal_is_never_a_refusal)
{
	const struct slot_end killed = { .signal = SIGKILL, .code = EXIT_CONFIG, .untested = true };
	struct slot slot = slot_in(SLOT_STARTING);

	ck_assert_uint_eq(slot_ended(&slot, &killed, NOW_NS), 0);
	ck_assert_int_eq(slot.state, SLOT_BACKOFF);
}
END_TEST

START_TEST(a_life_in_order)
{
	const struct slot_end fine = { .code = EXIT_OK };
	struct slot slot;
	int64_t now_ns = NOW_NS;

	slot_init(&slot, START_NS, DRAIN_NS);
	ck_assert(!slot_alive(&slot));
	ck_assert_uint_eq(slot_event(&slot, SLOT_START, now_ns), 0);
	ck_assert_uint_eq(slot_tick(&slot, now_ns), SLOT_DO_SPAWN);
	ck_assert_uint_eq(slot_tick(&slot, now_ns + NS_PER_S), 0);
	ck_assert_uint_eq(slot_event(&slot, SLOT_SPAWNED, now_ns), 0);
	ck_assert(slot_alive(&slot));
	ck_assert_uint_eq(slot_event(&slot, SLOT_IS_LOADED, now_ns), 0);
	ck_assert_uint_eq(slot_event(&slot, SLOT_IS_CONSUMING, now_ns), 0);
	ck_assert_uint_eq(slot_event(&slot, SLOT_IS_STALLED, now_ns), 0);
	ck_assert_uint_eq(slot_event(&slot, SLOT_IS_CONSUMING, now_ns), 0);
	ck_assert_uint_eq(slot_event(&slot, SLOT_STOP, now_ns), SLOT_DO_DRAIN);
	ck_assert_uint_eq(slot_ended(&slot, &fine, now_ns), 0);
	ck_assert_int_eq(slot.state, SLOT_DOWN);
	ck_assert_int_eq(slot.deadline_ns, CLOCK_NEVER);
}
END_TEST

START_TEST(states_have_names_of_their_own)
{
	for (int a = SLOT_DOWN; a < SLOT_STATES; a++)
		for (int b = a + 1; b < SLOT_STATES; b++)
			ck_assert_str_ne(slot_state_name((enum slot_state)a),
			    slot_state_name((enum slot_state)b));
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("slot");
	tcase_add_loop_test(t, every_state_meets_every_event, SLOT_DOWN, SLOT_STATES);
	tcase_add_loop_test(t, the_impossible_ends_the_process, SLOT_DOWN, SLOT_STATES);
	tcase_add_test(t, whatever_a_process_says_has_an_answer);
	tcase_add_loop_test(t, a_stop_ends_in_down, SLOT_DOWN, SLOT_STATES);
	tcase_add_test(t, a_second_signal_only_shortens);
	tcase_add_test(t, who_overran_has_all_the_time_until_the_daemon_stops);
	tcase_add_test(t, a_short_drain_is_not_made_longer);
	tcase_add_test(t, twenty_seconds_of_silence_end_it);
	tcase_add_test(t, a_pulse_starts_the_count_anew);
	tcase_add_test(t, a_supervisor_that_slept_blames_nobody);
	tcase_add_test(t, nobody_pulses_while_plugins_are_opened);
	tcase_add_test(t, backoff_doubles_to_thirty_seconds);
	tcase_add_test(t, a_crash_at_every_start_is_no_fork_bomb);
	tcase_add_test(t, who_worked_is_replaced_soon);
	tcase_add_test(t, a_blamed_job_or_a_time_limit_costs_no_wait);
	tcase_add_test(t, a_refusal_is_fatal_only_before_the_first_consuming);
	tcase_add_test(t, a_signal_is_never_a_refusal);
	tcase_add_test(t, a_life_in_order);
	tcase_add_test(t, states_have_names_of_their_own);

	Suite *suite = suite_create("slot");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
