/* The supervisor: spawns workers, watches them, answers signals. Runs no plugin code, speaks no
 * AMQP, has one thread. Floor 3. */
#ifndef WARREN_SUPERVISOR_H
#define WARREN_SUPERVISOR_H

#include "base.h"

struct supervisor_setup {
	const char *path;    /* of the configuration */
	bool require_broker; /* EXIT_UNAVAILABLE when nothing consumes within the start limit */
};

/* Runs until it is told to stop and every child is reaped; all signals are blocked by the caller.
 * Returns the daemon's exit code. */
int supervisor_run(const struct supervisor_setup *setup);

#endif
