/*
 * A TCP connection to whichever of a host's addresses answers first. Floor 2.
 *
 * An address that swallows every attempt, as one of a family does that is not routed any more, must
 * not use up the time of those behind it: the next one is tried soon after, beside it.
 */
#ifndef WARREN_DIAL_H
#define WARREN_DIAL_H

#include <stdint.h>

#include "base.h"

enum dialled {
	DIALLED,
	DIAL_NO_NAME, /* the name has no address, or nobody says which */
	DIAL_LATE,    /* no address answered by the deadline */
	DIAL_REFUSED, /* errno says why the last one did */
};

/* `fd` becomes a socket that does not block. Blocks, the look-up of the name without a bound. */
enum dialled dial(const char *host, int port, int64_t deadline_ns, int *fd) MUST_CHECK;

#endif
