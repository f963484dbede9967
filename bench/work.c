/* bench.wait and bench.sha256: a task that waits, as on a database, and one that computes. */
#include <warren/plugin.h>

#include "work.h"

static enum warren_verdict wait_task(struct warren_job *job)
{
	work_wait((long)warren_option_int(warren_host_of(job), "wait"));
	return WARREN_DONE;
}

static enum warren_verdict sha256(struct warren_job *job)
{
	size_t len;
	const char *body = warren_body(job, &len);
	work_sha256(body, len, (int)warren_option_int(warren_host_of(job), "times"));
	return WARREN_DONE;
}

static const struct warren_task tasks[] = {
	{ .name = "bench.wait", .run = wait_task },
	{ .name = "bench.sha256", .run = sha256 },
	{ 0 },
};

static const struct warren_option options[] = {
	{ "wait", WARREN_OPT_DURATION, "1ms", "how long bench.wait takes", .min = "1ms" },
	{ "times", WARREN_OPT_INT, "1", "how often bench.sha256 computes it", "1", "1000000" },
	{ 0 },
};

WARREN_PLUGIN(
    work, .version = "1.0", .summary = "waits or computes", .tasks = tasks, .options = options);
