/* The life of a worker process: open plugins, consume, drain, leave with a meaningful code.
 * Floor 3. */
#ifndef WARREN_WORKER_H
#define WARREN_WORKER_H

#include "conf.h"
#include "score.h"

struct worker_setup {
	const struct conf *conf;
	struct score *score;
	unsigned number; /* worker 0 alone owns exclusive queues */
	unsigned place;  /* its rows in the scoreboard */
	bool quarantine; /* it runs crash suspects, one at a time, instead of the queues' jobs */
	unsigned generation; /* grows with each reload */
	int supervisor;      /* ipc socket; its end means that the supervisor is gone */
};

/*
 * Runs until told to stop; called in a fresh process with one thread, all signals blocked but those
 * of faults. Returns the exit code for the process: EXIT_OK, EXIT_TEMPFAIL (drained with jobs given
 * back), EXIT_CONFIG or EXIT_REFUSED (told to the supervisor before), EXIT_ORPHAN, EXIT_OS,
 * EXIT_TIME_LIMIT (a job was given up, and the process replaced).
 */
int worker_main(const struct worker_setup *setup);

/*
 * Opens the plugins of a configuration, checks their options and the queues' task names, and tries
 * certificates and key: what -t, start and reload let a short-lived child do. All errors go to
 * `errors`.
 */
bool worker_check(const struct conf *conf, struct conf_errors *errors);

#endif
