/* The two clocks: a monotonic one for every deadline, a wall clock for stamps alone. Floor 0. */
#ifndef WARREN_CLOCK_H
#define WARREN_CLOCK_H

#include <stdint.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)
#define CLOCK_NEVER INT64_MAX /* a deadline that does not come */

/* Nanoseconds on CLOCK_MONOTONIC. Jumps of the wall clock do not touch it. */
int64_t clock_mono_ns(void);

/* Milliseconds since the epoch, for log stamps and the x-warren-*-at headers. */
int64_t clock_wall_ms(void);

enum { CLOCK_STAMP_MAX = 96 }; /* for every number; the years that a log sees take 24 and NUL */

/* Writes wall-clock milliseconds as UTC, RFC 3339: 2024-01-01T00:00:00.000Z. Unlike gmtime_r it
 * takes no lock and no memory, so a signal handler may call it too. */
void clock_stamp(int64_t wall_ms, char text[CLOCK_STAMP_MAX]);

/* Milliseconds until a monotonic deadline for poll(): 0 when passed, at most `cap_ms`, rounded up.
 */
int clock_until_ms(int64_t deadline_ns, int cap_ms);

#endif
