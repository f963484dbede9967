/* text.upper: replies with the body in capitals. The smallest whole plugin; start yours from it. */
#include <ctype.h>

#include <warren/plugin.h>

static enum warren_verdict upper(struct warren_job *job)
{
	size_t len;
	const char *in = warren_body(job, &len);
	if (len == 0)
		return warren_dead(job, "empty body");

	char *out = warren_alloc(job, len); /* freed by the host after run() */
	if (!out)
		return warren_retry(job, "out of memory");
	for (size_t i = 0; i < len; i++)
		out[i] = (char)toupper((unsigned char)in[i]);

	warren_reply(job, "text/plain", out, len);
	return WARREN_DONE;
}

static const struct warren_task tasks[] = {
	{ .name = "text.upper", .run = upper },
	{ 0 },
};

WARREN_PLUGIN(upper, .version = "1.0", .summary = "the body in capitals", .tasks = tasks);
