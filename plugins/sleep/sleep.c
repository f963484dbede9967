/* debug.sleep: a simulated task that takes as long as its message says. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <warren/plugin.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S (1000 * NS_PER_MS)
#define NAP (50 * NS_PER_MS) /* how late a stop may be noticed */

enum { LONGEST_MS = 24 * 3600 * 1000 };

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void nap(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
	nanosleep(&t, NULL);
}

/* The tutorial's way of writing it: each dot is a second of work. */
static int64_t count_dots_ms(const char *text)
{
	int64_t dots = 0;
	for (; *text; text++)
		dots += *text == '.';
	return dots * 1000;
}

/* A number and a unit: "2", "1.5s", "300ms", "2m". False when the text is something else. */
static bool read_length_ms(const char *text, int64_t *ms)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = { { "", 1000 }, { "s", 1000 }, { "ms", 1 }, { "m", 60000 }, { "h", 3600000 } };

	if (!isdigit((unsigned char)*text))
		return false;
	char *unit;
	double number = strtod(text, &unit);
	size_t len = strcspn(unit, "\r\n");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strlen(units[i].name) != len || strncmp(unit, units[i].name, len) != 0)
			continue;
		double length = number * units[i].ms;
		*ms = length < LONGEST_MS ? (int64_t)length : LONGEST_MS;
		return true;
	}
	return false;
}

static int64_t length_ms(struct warren_job *job, const char *body)
{
	int64_t ms = warren_option_int(warren_host_of(job), "duration");
	if (ms > 0 || read_length_ms(body, &ms))
		return ms;
	return count_dots_ms(body);
}

static enum warren_verdict run(struct warren_job *job)
{
	const char *body = warren_body_text(job);
	if (!body)
		return warren_dead(job, "the body is no text");

	int64_t total = length_ms(job, body) * NS_PER_MS, start = now_ns(), slept;
	while ((slept = now_ns() - start) < total) {
		if (warren_stopping(job) > WARREN_STOP_DRAIN)
			return warren_retry(job, "stopped after %lld of %lld ms",
			    (long long)(slept / NS_PER_MS), (long long)(total / NS_PER_MS));
		warren_progress(job, (int)(slept / (total / 100)));
		nap(total - slept < NAP ? total - slept : NAP);
	}
	return WARREN_DONE;
}

static const struct warren_task tasks[] = {
	{ .name = "debug.sleep", .run = run },
	{ 0 },
};

static const struct warren_option options[] = {
	{
	    .name = "duration",
	    .type = WARREN_OPT_DURATION,
	    .fallback = "0",
	    .help = "how long each job takes, whatever its body says; 0: as the body says",
	    .max = "1d",
	},
	{ 0 },
};

WARREN_PLUGIN(sleep, .version = "1.0", .summary = "takes as long as its message says",
    .tasks = tasks, .options = options);
