/* bench.stamp: notes how old its message is, and replies where it is asked to. */
#include <errno.h>

#include <warren/plugin.h>

#include "sample.h"

static struct samples samples;

static bool open_samples(struct warren_host *host, void **state)
{
	(void)state;
	const char *path = warren_option_text(host, "samples");
	return samples_open(&samples, path) ||
	       warren_refuse(host, "cannot open %s: %s", path, strerror(errno));
}

static enum warren_verdict stamp(struct warren_job *job)
{
	size_t len;
	const char *body = warren_body(job, &len);
	sample_begin(&samples, body, len);
	if (warren_text(job, WARREN_REPLY_TO) && len >= sizeof(struct stamp))
		warren_reply(job, NULL, body, sizeof(struct stamp));
	return WARREN_DONE;
}

static const struct warren_task tasks[] = {
	{ .name = "bench.stamp", .run = stamp },
	{ 0 },
};

static const struct warren_option options[] = {
	{ "samples", WARREN_OPT_PATH, NULL, "the file of samples" },
	{ 0 },
};

WARREN_PLUGIN(stamp, .version = "1.0", .summary = "notes how old messages are", .tasks = tasks,
    .options = options, .open = open_samples);
