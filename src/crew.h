/*
 * The crew: every worker process of every generation. Carries out what slot.c decides about each:
 * spawns, tells, signals, listens, reaps, and cleans up after the dead. Which generations there
 * are, and when they come and go, is the supervisor's business. Floor 3.
 */
#ifndef WARREN_CREW_H
#define WARREN_CREW_H

#include "account.h"
#include "child.h"
#include "score.h"
#include "slot.h"

enum {
	CREW_WHY_MAX = 256,
	CREW_PLACES = 8, /* of each post: who stands there, who takes over, those who leave */
};

/* Why processes ended. */
enum crew_exit {
	CREW_ORDERED, /* it was told to, and did */
	CREW_CRASHED, /* a signal, or an exit that nobody asked for */
	CREW_TIME_LIMIT,
	CREW_FAILED, /* it refused, hung, or could not go on */
	CREW_EXITS
};

/*
 * A place for a worker process. What has to be done is a post: worker 0 to n - 1, and the
 * quarantine. Each post has several places, so that a process can be relieved by another one before
 * it leaves (relief.c).
 */
struct worker {
	struct slot slot;
	struct generation *generation;
	unsigned post;  /* the worker's number; n_workers is the quarantine */
	unsigned place; /* its rows in the scoreboard */
	struct child child;
	bool consumed;       /* this process has been consuming */
	bool relieved;       /* another process is to take its post */
	bool renew;          /* it is to be replaced by a fresh one (warren restart, scale) */
	int64_t since_ns;    /* since when its slot is as it is */
	int64_t closed_ns;   /* since when its socket is closed, where it is */
	int64_t leaving_ns;  /* since when it drains */
	int64_t overdue_ns;  /* for how long a job of it should have been given up */
	int64_t given_back;  /* as it said last */
	unsigned ends;       /* processes that ended or could not be made */
	struct slot_end end; /* how the last one did; meaningless while `has_ended` is false */
	bool has_ended;
	char why[CREW_WHY_MAX]; /* why it is not consuming, in its own words; "": no reason known */
};

/* The workers of one configuration, and the scoreboard that they share. */
struct generation {
	unsigned number;
	struct snapshot snapshot;
	struct score *score;
	int score_fd;
	struct worker *workers; /* all places, CREW_PLACES for each post */
	unsigned n_workers;     /* posts of ordinary workers */
	unsigned n_places;
	bool has_quarantine;
	int64_t deadline_ns; /* its start limit: until then it may take over */
};

/* A process group that a dead worker's job has left behind. */
struct leftover {
	pid_t group;
	int64_t kill_ns;
};

struct crew {
	const char *path; /* of the configuration */
	/* NULL where there is none. `leaving` was retired by a reload, or rolled back. */
	struct generation *current, *next, *leaving;
	unsigned generations; /* made so far */
	bool stopping;        /* set by the supervisor */
	bool loaded;          /* some process has had its plugins open */
	bool tested;    /* some process has been consuming: now a refusal is not fatal any more */
	bool gave_back; /* a started job was given back while stopping */
	int fatal;      /* exit code of a refusal that ends the daemon, or 0 */
	struct accounts past;        /* of generations that are gone */
	uint64_t exits[CREW_EXITS];  /* of worker processes */
	struct suspects suspects;    /* of all generations */
	int64_t quarantine_until_ns; /* until then it is manned, also without suspects */
	int64_t looked_ns;           /* when relief_tick last looked at the rows */
	int64_t renewing_ns; /* since when all are replaced by fresh ones; 0: they are not */
	char renewal_why[CREW_WHY_MAX]; /* why that has failed; "": it has not */
	struct leftover *leftovers;
	size_t n_leftovers;
};

/* Walks over all workers; begins with NULL, ends with NULL. */
struct worker *crew_after(struct crew *crew, struct worker *worker);
/* How many ordinary posts have a process that consumes; or whose plugins are open, at least. */
unsigned crew_consuming(const struct generation *generation);
unsigned crew_loaded(const struct generation *generation);
/* How a worker is called in the log. */
struct log_field crew_who(const struct worker *worker);
/* The first reason that one of them gives for not consuming; "" without one. */
const char *crew_why(const struct generation *generation);

/* A generation whose workers are about to start; takes over the snapshot. NULL with errno. */
struct generation *crew_enlist(struct crew *crew, struct snapshot *snapshot) MUST_CHECK;
/* Frees the leaving generation, or while stopping all of them, once no process is left. */
void crew_bury(struct crew *crew);

/* One event for one worker, with all that follows. */
void crew_step(struct crew *crew, struct worker *worker, enum slot_event event);
/* What is known against messages has changed: all workers are to know. */
void crew_tell_suspects(struct crew *crew);

void crew_order(struct crew *crew, struct generation *generation, enum slot_event event);
void crew_order_all(struct crew *crew, enum slot_event event);

/*
 * Every worker process of the current generation is to be replaced by a fresh one, one after the
 * other (relief.c). False where some post has no place left for it: old ones are still leaving.
 */
bool crew_renew(struct crew *crew) MUST_CHECK;
bool crew_renewing(const struct crew *crew);
/* Whether it is over, for good or bad: then crew_stop_renewing() must be called, after which those
 * that were not replaced stay. */
bool crew_renewed(const struct crew *crew);
void crew_stop_renewing(struct crew *crew);

/* Asks the running job with that id to come to an end. False when there is none. */
bool crew_cancel(struct crew *crew, struct bytes job_id, struct score_job *job) MUST_CHECK;

/* From now on whoever is told to drain has so long. */
void crew_limit_drain(struct crew *crew, int64_t limit_ns);

/* What each pass of the loop does. */
void crew_listen(struct crew *crew);
void crew_reap(struct crew *crew);
void crew_tick(struct crew *crew, int64_t now_ns);
/* When crew_tick has to be called next at the latest. */
int64_t crew_deadline(struct crew *crew);

/* A process was reaped by somebody else's wait; false when it is none of ours. */
bool crew_reaped(struct crew *crew, pid_t pid, int status);

#endif
