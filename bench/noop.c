/* Tasks that do nothing of their own, so that what a message costs is warren's. */
#include <warren/plugin.h>

enum { RETRY_MS = 512 * 1000 }; /* longer than a measurement, and the time of a single rung */

static enum warren_verdict noop(struct warren_job *job)
{
	(void)job;
	return WARREN_DONE;
}

static enum warren_verdict retry(struct warren_job *job)
{
	return warren_retry_after(job, RETRY_MS);
}

/* For whoever waits for the first job to run. */
static enum warren_verdict tell(struct warren_job *job)
{
	warren_log(job, WARREN_LOG_INFO, "it runs");
	return WARREN_DONE;
}

static const struct warren_task tasks[] = {
	{ .name = "bench.noop", .run = noop },
	{ .name = "bench.retry", .run = retry },
	{ .name = "bench.tell", .run = tell },
	{ 0 },
};

WARREN_PLUGIN(noop, .version = "1.0", .summary = "does nothing", .tasks = tasks);
