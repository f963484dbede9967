/*
 * One supervised worker process as a table: state x event -> next state, timer, actions. Pure: no
 * process, no clock, no descriptor is touched here; time comes in, actions go out. Floor 1.
 *
 *	            start            spawned            loaded           consuming
 *	   DOWN ----------> BACKOFF ----------> STARTING --------> LOADED <========> CONSUMING
 *	    ^                  ^                   |                 |    stalled        |
 *	    |                  |  ended            `---- hung, refused, deaf: FAILING ---+
 *	    |                  `------------------------------------------'              |
 *	    `--- ended --- STOPPING <--- limit, now --- DRAINING <----- stop, overrun ---'
 */
#ifndef WARREN_SLOT_H
#define WARREN_SLOT_H

#include "clock.h"
#include "base.h"

enum slot_state {
	SLOT_DOWN = 1,  /* no process, and none is wanted */
	SLOT_BACKOFF,   /* no process; one is started when the deadline has come */
	SLOT_STARTING,  /* opens its plugins; the deadline is the start limit */
	SLOT_LOADED,    /* plugins are open; it has no consumers yet, or lost some */
	SLOT_CONSUMING, /* every consumer is confirmed */
	SLOT_DRAINING,  /* finishes what runs, will not be replaced here; the deadline: drain limit,
			   or none where it overran */
	SLOT_STOPPING,  /* was told to leave now, will not be replaced; the deadline: SIGKILL */
	SLOT_FAILING,   /* hung, refused or deaf, will be replaced; the deadline: SIGKILL */
	SLOT_STATES
};

enum slot_event {
	/* what the supervisor wants */
	SLOT_START,  /* have a process from now on */
	SLOT_STOP,   /* drain and end: the daemon stops, or a reload retires this one */
	SLOT_HASTEN, /* a second signal: wait no longer than SLOT_HASTE_NS */
	SLOT_NOW,    /* give back what runs and end */
	SLOT_RETIRE, /* another one has its post: finish what runs, however long it takes, and end
		      */
	/* how making a process went */
	SLOT_SPAWNED,
	SLOT_SPAWN_FAILED,
	/* what the process says */
	SLOT_IS_LOADED,
	SLOT_IS_CONSUMING,
	SLOT_IS_STALLED, /* not consuming any more, or still not */
	SLOT_REFUSED,    /* configuration or plugin is no good; it is about to leave */
	SLOT_PULSE,
	SLOT_DEAF,    /* its socket is closed or carried nonsense: it cannot be talked to */
	SLOT_OVERRUN, /* it has given up a job whose task does not return, and takes no more */
	/* what its rows say */
	SLOT_OVERDUE, /* a job should have been given up, and was not: the process hangs */
	/* what time did (slot_tick) */
	SLOT_DEADLINE,
	SLOT_SILENT,
	/* how it ended (slot_ended) */
	SLOT_ENDED,
	SLOT_ENDED_FATAL, /* 78 or 77 before anything in this daemon has ever consumed */
	SLOT_EVENTS
};

/* What the caller has to do, a set of bits. */
enum slot_action {
	SLOT_DO_SPAWN = 1,   /* make a process, then SLOT_SPAWNED or SLOT_SPAWN_FAILED */
	SLOT_DO_DRAIN = 2,   /* tell it to drain until the deadline */
	SLOT_DO_NOW = 4,     /* tell it to leave now */
	SLOT_DO_ABORT = 8,   /* SIGABRT: leaves a core that shows where it hung */
	SLOT_DO_KILL = 16,   /* SIGKILL */
	SLOT_DO_FATAL = 32,  /* the daemon ends with this process's exit code */
	SLOT_DO_RETIRE = 64, /* tell it to take no more */
};

#define SLOT_HASTE_NS (5 * NS_PER_S)       /* after a second signal */
#define SLOT_KILL_AFTER_NS (10 * NS_PER_S) /* from "leave now" to SIGKILL */
#define SLOT_FAIL_NS (5 * NS_PER_S)        /* from SIGABRT, or the end of its socket, to SIGKILL */
#define SLOT_SILENCE_NS (20 * NS_PER_S)    /* without a pulse */
#define SLOT_STABLE_NS (60 * NS_PER_S)     /* who lived that long is in no crash loop */
#define SLOT_BACKOFF_FIRST_NS (100 * NS_PER_MS)
#define SLOT_BACKOFF_MAX_NS (30 * NS_PER_S)

struct slot {
	enum slot_state state;
	int64_t start_limit_ns, drain_limit_ns;
	int64_t deadline_ns; /* CLOCK_NEVER where the state has none */
	int64_t spawned_ns;
	int64_t silent_ns; /* heard nothing for so long, in time that the supervisor was awake */
	int64_t ticked_ns;
	unsigned failures; /* in a row that ended before they finished a job */
};

/* How a process ended. */
struct slot_end {
	int code;      /* exit code; meaningless where signal is not 0 */
	int signal;    /* 0: it exited */
	bool worked;   /* it finished a job */
	bool blamed;   /* a job is known to be the cause: replace at once */
	bool untested; /* nothing in this daemon has ever consumed */
};

void slot_init(struct slot *slot, int64_t start_limit_ns, int64_t drain_limit_ns);

/* Moves the slot and returns the actions. An impossible event is a CHECK failure; what a worker
 * process sends is never impossible while there is a process. */
unsigned slot_event(struct slot *slot, enum slot_event event, int64_t now_ns) MUST_CHECK;

/* Lets time pass: deadlines and missed pulses. Call at least once a second. */
unsigned slot_tick(struct slot *slot, int64_t now_ns) MUST_CHECK;

/* The process was reaped. */
unsigned slot_ended(struct slot *slot, const struct slot_end *end, int64_t now_ns) MUST_CHECK;

/* True while there is a process to be watched, told and reaped. */
bool slot_alive(const struct slot *slot);
/* Its plugins are open, and nobody has told it to leave. */
bool slot_is_at_work(enum slot_state state);
/* It was told to leave, and will not be replaced here. */
bool slot_leaves(enum slot_state state);

/* Whether the table has an answer to this pair: for the test that walks all of them. */
bool slot_possible(enum slot_state state, enum slot_event event);

/* The wait before the next start after so many failures in a row: 0, 0.1 s, doubling to 30 s. */
int64_t slot_backoff_ns(unsigned failures);

const char *slot_state_name(enum slot_state state);

#endif
