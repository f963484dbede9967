/* A plugin that wants more static thread-local memory than a process has left for what it opens. */
#include <warren/plugin.h>

static __thread __attribute__((tls_model("initial-exec"))) volatile char block[1 << 20];

static enum warren_verdict run(struct warren_job *job)
{
	(void)job;
	block[0] = 1;
	return WARREN_DONE;
}

static const struct warren_task tasks[] = { { .name = "tls.run", .run = run }, { 0 } };

WARREN_PLUGIN(static_tls, .version = "1.0", .summary = "wants too much", .tasks = tasks, );
