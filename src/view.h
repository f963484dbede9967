/*
 * All that an operator may see of the daemon at one moment, gathered from the crew, the scoreboards
 * of its generations and the configuration into plain structs. Status, metrics, problems and
 * readiness are written from the same view, so that they agree. Floor 3.
 *
 * Every string in it is valid UTF-8, whatever a message, a plugin or a broker may have written.
 * Times are on the monotonic clock; 0 is never.
 */
#ifndef WARREN_VIEW_H
#define WARREN_VIEW_H

#include "crew.h"
#include "history.h"

enum view_state { VIEW_STARTING, VIEW_RUNNING, VIEW_RELOADING, VIEW_STOPPING };

enum reload_outcome {
	RELOAD_NONE,
	RELOAD_DONE,
	RELOAD_REFUSED,
	RELOAD_ROLLED_BACK,
	RELOAD_OUTCOMES
};

/* How the reloads went so far. Zero-initialise. */
struct reload_note {
	enum reload_outcome outcome; /* of the last one */
	int64_t at_ns;
	char why[512];
	uint64_t counts[RELOAD_OUTCOMES];
};

struct view_worker {
	const char *worker; /* "0", "quarantine" */
	bool quarantine;
	bool current; /* of the generation that works now */
	bool stands;  /* of those that have this post in its generation, the one that can do most */
	pid_t pid;    /* 0: there is no process */
	unsigned generation;
	enum slot_state state;
	int64_t spawned_ns, since_ns; /* since when it is in this state */
	int64_t start_at_ns;          /* the next start, where it waits for one */
	int64_t memory_bytes;         /* resident */
	uint64_t jobs;                /* finished */
	unsigned failures;            /* in a row */
	bool has_ended;               /* a process has, here, and this is how the last one did: */
	int end_code, end_signal;
	const char *why; /* why it is not consuming, in its own words; "": no reason known */
};

struct view_conn {
	const struct view_worker *owner;
	enum board_which which;
	enum board_conn_state state;
	int64_t since_ns, retry_at_ns, error_at_ns;
	const char *broker, *product, *error;
};

struct view_task {
	const char *task;             /* "": not known */
	struct tally_sum sum, recent; /* of all time; of the last minutes */
};

struct view_queue {
	const char *queue;
	bool configured; /* else it is there for what was counted, or still runs */
	bool ack;
	enum conf_declare declare;
	const char *task;  /* NULL: it is routed, */
	const char *route; /* by "type", "routing_key", "header:NAME" */
	unsigned threads;  /* that there should be, in all processes */
	unsigned consumers, running, unacked;
	bool paused;
	int64_t ready, dead, seen_ns; /* -1: not known */
	double rate;
	int64_t busy_since_ns; /* all threads, while messages wait; 0: it is not so */
	/* As the process says that consumes it worst. */
	enum board_source_state state;
	bool connected; /* that one has its connection */
	int code;
	const char *text;
	int64_t since_ns, retry_at_ns;
	struct tally_sum sum, recent;
	struct view_task *tasks;
	size_t n_tasks, max_tasks;
};

struct view_job {
	const char *id, *task, *message_id;
	int64_t started_ns, deadline_ns; /* CLOCK_NEVER: no limit */
	int32_t attempt;
	bool redelivered;
	int progress; /* -1: unknown */
};

struct view_thread {
	const struct view_worker *owner;
	uint32_t thread;
	const char *queue;
	enum score_state state;
	const struct view_job *job; /* NULL where there is none, or it cannot be read */
};

/* trouble.h */
struct trouble;
struct healed;

struct view {
	struct arena *arena; /* holds all of it */
	int64_t now_ns, started_ns, started_wall_ms;
	enum view_state state;
	const char *config;
	unsigned generation;
	enum log_level log_level;
	enum reload_outcome reload; /* the last one, */
	int64_t reload_at_ns;
	const char *reload_why;
	uint64_t reloads[RELOAD_OUTCOMES];
	unsigned n_posts, n_consuming; /* of the current generation, without the quarantine */
	size_t n_brokers;              /* that are configured */
	unsigned doubtful,
	    crashers; /* messages in quarantine; that have crashed a worker of late */
	uint64_t exits[CREW_EXITS];
	struct tally_sum totals;
	struct view_worker *workers;
	struct view_conn *conns;
	struct view_queue *queues;
	/* Those that have a job, or took one just now; of very many those that are overdue
	 * and the oldest. */
	struct view_thread *threads;
	size_t n_workers, n_conns, n_queues, n_threads;
	unsigned threads_total, threads_busy; /* that there are at this moment */
	/* What is not as configured, and whether that keeps it from being ready: trouble.h. */
	struct trouble *troubles;
	size_t n_troubles;
	const struct healed *healed; /* newest first */
	size_t n_healed;
	bool ready;
};

/* What is looked at. */
struct view_subject {
	struct crew *crew;
	const struct reload_note *reload;
	const struct history *history;
	int64_t started_ns, started_wall_ms;
	bool checking; /* a configuration is being checked */
};

/* Which threads are to be in it: those that are busy, or the few among them that are given up or
 * past their time limit, which are all that a trouble is made of. */
enum view_threads { VIEW_BUSY, VIEW_OVERDUE };

enum { VIEW_THREADS_MAX = 2000 }; /* what a status can list without holding up the supervisor */

/* The sums of all that was counted so far. False when memory is short. */
bool view_accounts(struct crew *crew, struct accounts *accounts) MUST_CHECK;

/* Without troubles (trouble_find). `accounts` are view_accounts's. NULL when memory is short. */
struct view *view_create(const struct view_subject *subject, const struct accounts *accounts,
    enum view_threads threads) MUST_CHECK;
void view_destroy(struct view *view);

/* "running"; "backoff"; "work unacked"; "blocked"; "given-up"; "rolled-back": for JSON and labels.
 */
const char *view_state_word(enum view_state state);
const char *view_worker_word(enum slot_state state);
const char *view_conn_word(enum board_which which);
const char *view_link_word(enum board_conn_state state);
const char *view_thread_word(enum score_state state);
const char *view_reload_word(enum reload_outcome outcome);

#endif
