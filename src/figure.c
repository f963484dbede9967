/* Numbers as people read them. */
#include "figure.h"

#include <math.h>
#include <stdio.h>

#include "base.h"

#define MOST 1e18 /* what is beyond counts nothing, and would be long */

static char *dash(char *buf)
{
	buf[0] = '-';
	buf[1] = '\0';
	return buf;
}

/* Three digits, or two and a decimal; rounding must not make four of them. */
static char *show_scaled(double n, double step, const char *const *units, size_t n_units, char *buf)
{
	size_t unit = 0;
	while (fabs(n) >= step - step / 2000 && unit + 1 < n_units) {
		n /= step;
		unit++;
	}
	int decimals = unit > 0 && fabs(n) < 99.95 ? 1 : 0;
	(void)snprintf(buf, FIGURE_SIZE, "%.*f%s", decimals, n, units[unit]);
	return buf;
}

char *figure_count(double n, char buf[FIGURE_SIZE])
{
	static const char *const units[] = { "", "k", "M", "G", "T" };
	if (!(fabs(n) < MOST))
		return dash(buf);
	if (fabs(n) < 10000) {
		(void)snprintf(buf, FIGURE_SIZE, "%.0f", n);
		return buf;
	}
	return show_scaled(n, 1000, units, ARRAY_LEN(units), buf);
}

char *figure_rate(double per_s, char buf[FIGURE_SIZE])
{
	if (!isfinite(per_s))
		return dash(buf);
	if (per_s == 0 || fabs(per_s) >= 99.95)
		return figure_count(per_s, buf);
	(void)snprintf(buf, FIGURE_SIZE, "%.*f", fabs(per_s) < 0.995 ? 2 : 1, per_s);
	return buf;
}

char *figure_bytes(double n, char buf[FIGURE_SIZE])
{
	static const char *const units[] = { " B", " KiB", " MiB", " GiB", " TiB" };
	return fabs(n) < MOST ? show_scaled(n, 1024, units, ARRAY_LEN(units), buf) : dash(buf);
}

static void show_short(double seconds, char *buf)
{
	double ms = seconds * 1e3;
	if (ms < 0.9995)
		(void)snprintf(buf, FIGURE_SIZE, "%.0f us", seconds * 1e6);
	else if (ms < 999.5)
		(void)snprintf(buf, FIGURE_SIZE, "%.*f ms", ms < 9.95 ? 1 : 0, ms);
	else
		(void)snprintf(buf, FIGURE_SIZE, "%.*f s", seconds < 9.95 ? 1 : 0, seconds);
}

static void show_long(double seconds, char *buf)
{
	enum { MINUTE = 60, HOUR = 60 * MINUTE, DAY = 24 * HOUR };
	const double longest = 9999.0 * DAY;
	long s = lround(fmin(seconds, longest));
	if (s < HOUR)
		(void)snprintf(buf, FIGURE_SIZE, "%ldm %02lds", s / MINUTE, s % MINUTE);
	else if (s < DAY)
		(void)snprintf(buf, FIGURE_SIZE, "%ldh %02ldm", s / HOUR, s % HOUR / MINUTE);
	else
		(void)snprintf(buf, FIGURE_SIZE, "%ldd %02ldh", s / DAY, s % DAY / HOUR);
}

char *figure_time(double seconds, char buf[FIGURE_SIZE])
{
	if (!isfinite(seconds))
		return dash(buf);
	if (seconds < 0) {
		char past[FIGURE_SIZE];
		(void)snprintf(buf, FIGURE_SIZE, "-%.20s", figure_time(-seconds, past));
	} else if (seconds == 0)
		(void)snprintf(buf, FIGURE_SIZE, "0 s");
	else if (seconds < 59.5)
		show_short(seconds, buf);
	else
		show_long(seconds, buf);
	return buf;
}
