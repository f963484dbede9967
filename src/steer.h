/*
 * What an operator asks of the running daemon: pause, resume, scale, cancel, log, and, answered
 * when they are over, reload, restart and drain. What a reload or a drain is, is the supervisor's
 * business; here it is only wished for. Floor 3.
 */
#ifndef WARREN_STEER_H
#define WARREN_STEER_H

#include "control.h"
#include "crew.h"

enum steer_wait { STEER_NOTHING, STEER_RELOAD, STEER_RESTART, STEER_SCALE, STEER_DRAIN };

/* Who waits for the end of what. */
struct steer_pending {
	enum steer_wait what;
	control_client client;
	bool begun; /* a reload that began before the request does not answer it */
	int64_t since_ns;
};

struct steer {
	struct crew *crew;
	struct control *control;
	struct steer_pending pending[CONTROL_CLIENTS];
	bool reloading; /* no other change begins before that is over */
	/* A change of threads that is being carried out, and how it was before. The queue is one of
	 * the current generation, which stays the same meanwhile. */
	bool scaling;
	uint32_t scaled_queue;
	unsigned scaled_from;
	/* Read and cleared by the supervisor. */
	bool wants_reload, wants_drain;
};

/* What the commands do: `words` match the pattern that stands behind each. */
typedef void steer_command(struct steer *steer, control_client client, const struct words *words);
steer_command steer_pause;   /* pause [QUEUE] */
steer_command steer_resume;  /* resume [QUEUE] */
steer_command steer_scale;   /* scale QUEUE N */
steer_command steer_cancel;  /* cancel JOB */
steer_command steer_log;     /* log LEVEL */
steer_command steer_reload;  /* reload */
steer_command steer_restart; /* restart */
steer_command steer_drain;   /* drain [LIMIT_MS] */

/* What became of what was wished for. */
void steer_reload_begins(struct steer *steer);
void steer_reload_done(struct steer *steer);
void steer_reload_rolled_back(struct steer *steer, const char *why);
void steer_reload_refused(struct steer *steer, const struct conf_errors *errors);
void steer_drained(struct steer *steer);

/* Each pass: is a restart or a change of threads over? */
void steer_tick(struct steer *steer);

#endif
