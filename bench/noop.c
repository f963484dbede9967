/* bench.noop: a task that does nothing, so that what a message costs is warren's own. */
#include <warren/plugin.h>

static enum warren_verdict noop(struct warren_job *job)
{
	(void)job;
	return WARREN_DONE;
}

static const struct warren_task tasks[] = {
	{ .name = "bench.noop", .run = noop },
	{ 0 },
};

WARREN_PLUGIN(noop, .version = "1.0", .summary = "does nothing", .tasks = tasks);
