/* The only caller of clock_gettime. */
#include "clock.h"

#include <time.h>

#include "base.h"

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;
	CHECK(clock_gettime(id, &ts) == 0);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_mono_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_ms(void)
{
	return read_clock(CLOCK_REALTIME) / NS_PER_MS;
}

int clock_until_ms(int64_t deadline_ns, int cap_ms)
{
	int64_t left = deadline_ns - clock_mono_ns();
	if (left <= 0)
		return 0;
	int64_t ms = left / NS_PER_MS + (left % NS_PER_MS != 0);
	return ms < cap_ms ? (int)ms : cap_ms;
}
