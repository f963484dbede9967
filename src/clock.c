/* The only caller of clock_gettime, and how a moment is written. */
#include "clock.h"

#include <stdio.h>
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

struct date {
	int64_t year;
	int month, day;
};

/*
 * The Gregorian date of a day counted from 1970-01-01: Howard Hinnant, "chrono-Compatible Low-Level
 * Date Algorithms", civil_from_days. Years begin in March there, so that the leap day is the last
 * of one; an era is 400 years, after which all repeats.
 */
static struct date date_of(int64_t days)
{
	days += 719468; /* from 0000-03-01 */
	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	int of_era = (int)(days - era * 146097);
	int year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int of_year = of_era - (365 * year + year / 4 - year / 100);
	int from_march = (5 * of_year + 2) / 153;
	int month = from_march < 10 ? from_march + 3 : from_march - 9;
	return (struct date){ .year = year + era * 400 + (month <= 2),
		.month = month,
		.day = of_year - (153 * from_march + 2) / 5 + 1 };
}

void clock_stamp(int64_t wall_ms, char text[CLOCK_STAMP_MAX])
{
	static const int64_t day_ms = 24 * 3600 * 1000;
	int64_t days = (wall_ms >= 0 ? wall_ms : wall_ms - (day_ms - 1)) / day_ms;
	int ms = (int)(wall_ms - days * day_ms), s = ms / 1000;
	struct date date = date_of(days);
	(void)snprintf(text, CLOCK_STAMP_MAX, "%04lld-%02d-%02dT%02d:%02d:%02d.%03dZ",
	    (long long)date.year, date.month, date.day, s / 3600, s / 60 % 60, s % 60, ms % 1000);
}

int clock_until_ms(int64_t deadline_ns, int cap_ms)
{
	if (deadline_ns == CLOCK_NEVER)
		return cap_ms;
	int64_t left = deadline_ns - clock_mono_ns();
	if (left <= 0)
		return 0;
	int64_t ms = left / NS_PER_MS + (left % NS_PER_MS != 0);
	return ms < cap_ms ? (int)ms : cap_ms;
}
