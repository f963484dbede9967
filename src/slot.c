/* One supervised worker process: the table, the timers, the back-off. */
#include "slot.h"

enum timer {
	KEEP, /* the deadline stays as it is */
	OFF,
	AT_ONCE,
	START_LIMIT,
	DRAIN_LIMIT,
	DRAIN_AT_MOST, /* the drain limit, but never later than it was */
	HASTE,         /* at most SLOT_HASTE_NS from now; never later than it was */
	KILL_AFTER,
	FAIL_GRACE,
	RETRY, /* by the failures in a row */
};

struct rule {
	enum slot_state next; /* 0: this cannot happen */
	enum timer timer;
	unsigned actions;
};

/*
 * One row per state, one line per event that can reach it. Where a process exists, everything that
 * it may say has an answer. What it says after it was told to leave changes nothing.
 */
static const struct rule rules[SLOT_STATES][SLOT_EVENTS] = {
	[SLOT_DOWN] = {
		[SLOT_START] = { SLOT_BACKOFF, AT_ONCE, 0 },
		[SLOT_STOP] = { SLOT_DOWN, KEEP, 0 },
		[SLOT_HASTEN] = { SLOT_DOWN, KEEP, 0 },
		[SLOT_NOW] = { SLOT_DOWN, KEEP, 0 },
	},
	[SLOT_BACKOFF] = {
		[SLOT_STOP] = { SLOT_DOWN, OFF, 0 },
		[SLOT_NOW] = { SLOT_DOWN, OFF, 0 },
		[SLOT_DEADLINE] = { SLOT_BACKOFF, OFF, SLOT_DO_SPAWN },
		[SLOT_SPAWNED] = { SLOT_STARTING, START_LIMIT, 0 },
		[SLOT_SPAWN_FAILED] = { SLOT_BACKOFF, RETRY, 0 },
	},
	[SLOT_STARTING] = {
		/* it has no job yet that could be waited for */
		[SLOT_STOP] = { SLOT_STOPPING, KILL_AFTER, SLOT_DO_NOW },
		[SLOT_NOW] = { SLOT_STOPPING, KILL_AFTER, SLOT_DO_NOW },
		[SLOT_IS_LOADED] = { SLOT_LOADED, OFF, 0 },
		[SLOT_IS_CONSUMING] = { SLOT_CONSUMING, OFF, 0 },
		[SLOT_IS_STALLED] = { SLOT_STARTING, KEEP, 0 },
		[SLOT_REFUSED] = { SLOT_FAILING, KILL_AFTER, 0 },
		[SLOT_PULSE] = { SLOT_STARTING, KEEP, 0 },
		[SLOT_DEAF] = { SLOT_FAILING, FAIL_GRACE, 0 },
		[SLOT_OVERRUN] = { SLOT_DRAINING, OFF, 0 },
		[SLOT_OVERDUE] = { SLOT_FAILING, FAIL_GRACE, SLOT_DO_ABORT },
		[SLOT_DEADLINE] = { SLOT_FAILING, FAIL_GRACE, SLOT_DO_ABORT },
		[SLOT_ENDED] = { SLOT_BACKOFF, RETRY, 0 },
		[SLOT_ENDED_FATAL] = { SLOT_DOWN, OFF, SLOT_DO_FATAL },
	},
	[SLOT_LOADED] = {
		[SLOT_STOP] = { SLOT_DRAINING, DRAIN_LIMIT, SLOT_DO_DRAIN },
		[SLOT_NOW] = { SLOT_STOPPING, KILL_AFTER, SLOT_DO_NOW },
		[SLOT_RETIRE] = { SLOT_DRAINING, OFF, SLOT_DO_RETIRE },
		[SLOT_IS_LOADED] = { SLOT_LOADED, KEEP, 0 },
		[SLOT_IS_CONSUMING] = { SLOT_CONSUMING, OFF, 0 },
		[SLOT_IS_STALLED] = { SLOT_LOADED, KEEP, 0 },
		[SLOT_REFUSED] = { SLOT_FAILING, KILL_AFTER, 0 },
		[SLOT_PULSE] = { SLOT_LOADED, KEEP, 0 },
		[SLOT_DEAF] = { SLOT_FAILING, FAIL_GRACE, 0 },
		[SLOT_OVERRUN] = { SLOT_DRAINING, OFF, 0 },
		[SLOT_OVERDUE] = { SLOT_FAILING, FAIL_GRACE, SLOT_DO_ABORT },
		[SLOT_SILENT] = { SLOT_FAILING, FAIL_GRACE, SLOT_DO_ABORT },
		[SLOT_ENDED] = { SLOT_BACKOFF, RETRY, 0 },
		[SLOT_ENDED_FATAL] = { SLOT_DOWN, OFF, SLOT_DO_FATAL },
	},
	[SLOT_CONSUMING] = {
		[SLOT_STOP] = { SLOT_DRAINING, DRAIN_LIMIT, SLOT_DO_DRAIN },
		[SLOT_NOW] = { SLOT_STOPPING, KILL_AFTER, SLOT_DO_NOW },
		[SLOT_RETIRE] = { SLOT_DRAINING, OFF, SLOT_DO_RETIRE },
		[SLOT_IS_LOADED] = { SLOT_CONSUMING, KEEP, 0 },
		[SLOT_IS_CONSUMING] = { SLOT_CONSUMING, KEEP, 0 },
		[SLOT_IS_STALLED] = { SLOT_LOADED, OFF, 0 },
		[SLOT_REFUSED] = { SLOT_FAILING, KILL_AFTER, 0 },
		[SLOT_PULSE] = { SLOT_CONSUMING, KEEP, 0 },
		[SLOT_DEAF] = { SLOT_FAILING, FAIL_GRACE, 0 },
		[SLOT_OVERRUN] = { SLOT_DRAINING, OFF, 0 },
		[SLOT_OVERDUE] = { SLOT_FAILING, FAIL_GRACE, SLOT_DO_ABORT },
		[SLOT_SILENT] = { SLOT_FAILING, FAIL_GRACE, SLOT_DO_ABORT },
		[SLOT_ENDED] = { SLOT_BACKOFF, RETRY, 0 },
	},
	[SLOT_DRAINING] = {
		[SLOT_STOP] = { SLOT_DRAINING, DRAIN_AT_MOST, SLOT_DO_DRAIN },
		[SLOT_HASTEN] = { SLOT_DRAINING, HASTE, SLOT_DO_DRAIN },
		[SLOT_NOW] = { SLOT_STOPPING, KILL_AFTER, SLOT_DO_NOW },
		[SLOT_IS_LOADED] = { SLOT_DRAINING, KEEP, 0 },
		[SLOT_IS_CONSUMING] = { SLOT_DRAINING, KEEP, 0 },
		[SLOT_IS_STALLED] = { SLOT_DRAINING, KEEP, 0 },
		[SLOT_REFUSED] = { SLOT_DRAINING, KEEP, 0 },
		[SLOT_PULSE] = { SLOT_DRAINING, KEEP, 0 },
		[SLOT_DEAF] = { SLOT_STOPPING, FAIL_GRACE, 0 },
		[SLOT_OVERRUN] = { SLOT_DRAINING, KEEP, 0 },
		[SLOT_OVERDUE] = { SLOT_STOPPING, FAIL_GRACE, SLOT_DO_ABORT },
		[SLOT_DEADLINE] = { SLOT_STOPPING, KILL_AFTER, SLOT_DO_NOW },
		[SLOT_SILENT] = { SLOT_STOPPING, FAIL_GRACE, SLOT_DO_ABORT },
		[SLOT_ENDED] = { SLOT_DOWN, OFF, 0 },
		[SLOT_ENDED_FATAL] = { SLOT_DOWN, OFF, 0 },
	},
	[SLOT_STOPPING] = {
		[SLOT_STOP] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_HASTEN] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_NOW] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_IS_LOADED] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_IS_CONSUMING] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_IS_STALLED] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_REFUSED] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_PULSE] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_DEAF] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_OVERRUN] = { SLOT_STOPPING, KEEP, 0 },
		[SLOT_OVERDUE] = { SLOT_STOPPING, KEEP, 0 },
		/* again and again: a process in uninterruptible sleep dies late */
		[SLOT_DEADLINE] = { SLOT_STOPPING, FAIL_GRACE, SLOT_DO_KILL },
		[SLOT_ENDED] = { SLOT_DOWN, OFF, 0 },
		[SLOT_ENDED_FATAL] = { SLOT_DOWN, OFF, 0 },
	},
	[SLOT_FAILING] = {
		[SLOT_STOP] = { SLOT_STOPPING, KEEP, SLOT_DO_NOW },
		[SLOT_NOW] = { SLOT_STOPPING, KEEP, SLOT_DO_NOW },
		[SLOT_IS_LOADED] = { SLOT_FAILING, KEEP, 0 },
		[SLOT_IS_CONSUMING] = { SLOT_FAILING, KEEP, 0 },
		[SLOT_IS_STALLED] = { SLOT_FAILING, KEEP, 0 },
		[SLOT_REFUSED] = { SLOT_FAILING, KEEP, 0 },
		[SLOT_PULSE] = { SLOT_FAILING, KEEP, 0 },
		[SLOT_DEAF] = { SLOT_FAILING, KEEP, 0 },
		[SLOT_OVERRUN] = { SLOT_FAILING, KEEP, 0 },
		[SLOT_OVERDUE] = { SLOT_FAILING, KEEP, 0 },
		[SLOT_DEADLINE] = { SLOT_FAILING, FAIL_GRACE, SLOT_DO_KILL },
		[SLOT_ENDED] = { SLOT_BACKOFF, RETRY, 0 },
		[SLOT_ENDED_FATAL] = { SLOT_DOWN, OFF, SLOT_DO_FATAL },
	},
};

static int64_t at_most(int64_t at_ns, int64_t limit_ns)
{
	return at_ns < limit_ns ? at_ns : limit_ns;
}

static int64_t timer_ns(const struct slot *slot, enum timer timer, int64_t now_ns)
{
	switch (timer) {
	case KEEP:
		return slot->deadline_ns;
	case OFF:
		return CLOCK_NEVER;
	case AT_ONCE:
		return now_ns;
	case START_LIMIT:
		return now_ns + slot->start_limit_ns;
	case DRAIN_LIMIT:
		return now_ns + slot->drain_limit_ns;
	case DRAIN_AT_MOST:
		return at_most(now_ns + slot->drain_limit_ns, slot->deadline_ns);
	case HASTE:
		return at_most(now_ns + SLOT_HASTE_NS, slot->deadline_ns);
	case KILL_AFTER:
		return now_ns + SLOT_KILL_AFTER_NS;
	case FAIL_GRACE:
		return now_ns + SLOT_FAIL_NS;
	case RETRY:
		return now_ns + slot_backoff_ns(slot->failures);
	}
	base_check_failed("a timer of the table", __FILE__, __LINE__);
}

void slot_init(struct slot *slot, int64_t start_limit_ns, int64_t drain_limit_ns)
{
	*slot = (struct slot){
		.state = SLOT_DOWN,
		.start_limit_ns = start_limit_ns,
		.drain_limit_ns = drain_limit_ns,
		.deadline_ns = CLOCK_NEVER,
	};
}

bool slot_possible(enum slot_state state, enum slot_event event)
{
	CHECK(state >= SLOT_DOWN && state < SLOT_STATES && event < SLOT_EVENTS);
	return rules[state][event].next != 0;
}

/* The facts that stand beside the state; all that an event changes but for state and deadline. */
static void note(struct slot *slot, enum slot_event event, int64_t now_ns)
{
	if (event == SLOT_SPAWNED)
		slot->spawned_ns = now_ns;
	else if (event == SLOT_SPAWN_FAILED)
		slot->failures++;
	if (event == SLOT_SPAWNED || event == SLOT_IS_LOADED || event == SLOT_PULSE)
		slot->silent_ns = 0;
}

unsigned slot_event(struct slot *slot, enum slot_event event, int64_t now_ns)
{
	const struct rule *rule;

	CHECK(slot_possible(slot->state, event));
	rule = &rules[slot->state][event];
	note(slot, event, now_ns);
	slot->deadline_ns = timer_ns(slot, rule->timer, now_ns);
	slot->state = rule->next;
	return rule->actions;
}

/* While plugins are being opened nobody can send a pulse, and who was told to leave need not. */
static bool pulse_expected(const struct slot *slot)
{
	return slot->state == SLOT_LOADED || slot->state == SLOT_CONSUMING ||
	       slot->state == SLOT_DRAINING;
}

/*
 * Silence is counted in steps of at most two seconds a tick: a supervisor that was itself stopped
 * for ten minutes must not take its workers for dead because of it.
 */
static void count_silence(struct slot *slot, int64_t now_ns)
{
	int64_t step = slot->ticked_ns ? now_ns - slot->ticked_ns : 0;

	slot->ticked_ns = now_ns;
	slot->silent_ns += step < 2 * NS_PER_S ? step : 2 * NS_PER_S;
}

unsigned slot_tick(struct slot *slot, int64_t now_ns)
{
	count_silence(slot, now_ns);
	if (now_ns >= slot->deadline_ns)
		return slot_event(slot, SLOT_DEADLINE, now_ns);
	if (pulse_expected(slot) && slot->silent_ns >= SLOT_SILENCE_NS)
		return slot_event(slot, SLOT_SILENT, now_ns);
	return 0;
}

static unsigned failures_after(const struct slot *slot, const struct slot_end *end, int64_t now_ns)
{
	bool time_limit = end->signal == 0 && end->code == EXIT_TIME_LIMIT;

	if (end->blamed || time_limit)
		return 0;
	if (end->worked || now_ns - slot->spawned_ns >= SLOT_STABLE_NS)
		return 1;
	return slot->failures + 1;
}

unsigned slot_ended(struct slot *slot, const struct slot_end *end, int64_t now_ns)
{
	bool refused = end->signal == 0 && (end->code == EXIT_CONFIG || end->code == EXIT_REFUSED);

	slot->failures = failures_after(slot, end, now_ns);
	return slot_event(slot, refused && end->untested ? SLOT_ENDED_FATAL : SLOT_ENDED, now_ns);
}

bool slot_is_at_work(enum slot_state state)
{
	return state == SLOT_LOADED || state == SLOT_CONSUMING;
}

bool slot_leaves(enum slot_state state)
{
	return state == SLOT_DRAINING || state == SLOT_STOPPING;
}

bool slot_alive(const struct slot *slot)
{
	return slot->state != SLOT_DOWN && slot->state != SLOT_BACKOFF;
}

int64_t slot_backoff_ns(unsigned failures)
{
	int64_t wait = SLOT_BACKOFF_FIRST_NS;

	if (failures == 0)
		return 0;
	for (unsigned i = 1; i < failures && wait < SLOT_BACKOFF_MAX_NS; i++)
		wait *= 2;
	return wait < SLOT_BACKOFF_MAX_NS ? wait : SLOT_BACKOFF_MAX_NS;
}

const char *slot_state_name(enum slot_state state)
{
	static const char *const names[SLOT_STATES] = {
		[SLOT_DOWN] = "down",
		[SLOT_BACKOFF] = "backing-off",
		[SLOT_STARTING] = "starting",
		[SLOT_LOADED] = "loaded",
		[SLOT_CONSUMING] = "consuming",
		[SLOT_DRAINING] = "draining",
		[SLOT_STOPPING] = "stopping",
		[SLOT_FAILING] = "failing",
	};

	CHECK(state >= SLOT_DOWN && state < SLOT_STATES);
	return names[state];
}
