/* Everything that is read from a message: headers, attempts, expiry, origin; then the copies of it
 * that warren publishes, which must hold the same when they come back. */
#include <stdlib.h>
#include <string.h>

#include "copy.h"
#include "identity.h"
#include "wire.h"

#define NOW_MS INT64_C(1700000000000)

static struct conf_queue queue = {
	.name = (char[]){ "work" },
	.label = (char[]){ "work" },
	.task = (char[]){ "text.upper" },
	.route_header = (char[]){ "task" },
	.retry = { .attempts = 5 },
};

static void check_job(const struct warren_job *job, bool trusted)
{
	CHECK(job->attempt >= 1 && job->attempt <= 1000000);
	CHECK(trusted || job->attempt == 1);
	CHECK(job->first_at_ms > 0 && job->first_at_ms <= NOW_MS);
	CHECK(job->expires_at_ms >= 0);
	CHECK(job->first_exchange.len <= 255 && job->first_routing_key.len <= 255);
	CHECK(job_task_name(job).len == 0 || job_task_name(job).data);
}

static struct bytes text_header(const struct outgoing *out, const char *key)
{
	struct bytes text = { "", 0 };
	(void)table_get_bytes(&out->props.headers, key, &text);
	return text;
}

static bool lost_headers(const struct outgoing *out)
{
	static const char words[] = "original headers are missing";
	struct bytes reason = text_header(out, "x-warren-reason");
	return reason.len >= strlen(words) && memcmp(reason.data, words, strlen(words)) == 0;
}

/* A copy that came back through a queue of ours says what the job knew, and is known as the same
 * message. */
static void check_came_back(const struct warren_job *job, const struct outgoing *out, int attempt)
{
	struct warren_job *next = job_create(NULL, &queue);
	uint8_t before[IDENTITY_LEN], after[IDENTITY_LEN];
	CHECK(next);
	next->msg.props = out->props;
	job_read_headers(next, true, NOW_MS + 5);
	CHECK(next->attempt == attempt);
	CHECK(bytes_equal(next->first_exchange, job->first_exchange));
	CHECK(bytes_equal(next->first_routing_key, job->first_routing_key));
	CHECK(next->first_at_ms == job->first_at_ms && next->expires_at_ms == job->expires_at_ms);
	CHECK(job_carried_crashes(next) >= 0);
	next->msg.body = job->msg.body;
	identity_of(job, before);
	identity_of(next, after);
	bool kept = job->msg.flaw == MSG_SOUND && !lost_headers(out);
	CHECK(!kept || memcmp(before, after, sizeof(before)) == 0);
	next->msg.body = (struct bytes){ NULL, 0 };
	job_destroy(next);
}

static void check_copy(struct warren_job *job, struct feed *feed)
{
	char why[300] = "";
	struct outgoing out = { .exchange = bytes_of("warren.v1.delay.00") };
	const struct copy_stamp stamp = { .verdict = "retry",
		.attempt = job->attempt + 1,
		.now_wall_ms = NOW_MS,
		.host = "host",
		.plugin = feed_byte(feed) & 1 ? "upper/1.0" : NULL,
		.crashes = feed_byte(feed) % 4,
		.signal = feed_byte(feed) & 1 ? "SIGSEGV" : NULL };
	CHECK(copy_make(job, &stamp, &out));
	CHECK(!(out.props.present & (PROP_EXPIRATION | PROP_USER_ID)));
	CHECK(out.props.delivery_mode == 2);
	CHECK(copy_table_size(&out.props.headers) <= MSG_HEADERS_MAX + MSG_HEADERS_ROOM);
	CHECK(!table_get(&out.props.headers, "CC") && !table_get(&out.props.headers, "x-death"));
	CHECK(is_safe_text(text_header(&out, "x-warren-reason"), ""));
	CHECK(is_safe_text(text_header(&out, "x-warren-task"), ""));
	CHECK(is_safe_text(text_header(&out, "x-warren-signal"), ""));
	CHECK(wire_goes_out(&out, why, sizeof(why)));
	check_came_back(job, &out, job->attempt + 1);
}

static void check_reply(struct warren_job *job)
{
	char why[300] = "";
	struct outgoing out;
	CHECK(copy_reply(job, bytes_of("text/plain"), bytes_of("body"), &out));
	CHECK(out.exchange.len == 0 && bytes_equal(out.routing_key, job->msg.props.reply_to));
	CHECK(bytes_equal(text_header(&out, "traceparent"), job->trace.parent));
	CHECK(bytes_equal(text_header(&out, "tracestate"), job->trace.state));
	CHECK(is_safe_text(trace_ids(&job->trace), ""));
	CHECK(wire_goes_out(&out, why, sizeof(why)));
}

/* As a follow-up that a task makes of the headers it was given. */
static void check_pass_on(const struct warren_job *job)
{
	char why[300] = "";
	struct outgoing out = { .props = job->msg.props };
	CHECK(wire_goes_out(&out, why, sizeof(why)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = { data, size };
	uint8_t how = feed_byte(&feed);
	queue.route = (enum conf_route)(how >> 4 & 3);
	struct warren_job *job = job_create(NULL, &queue);
	CHECK(job);
	struct bytes exchange = feed_bytes(&feed, 255), key = feed_bytes(&feed, 255);
	struct bytes reason = feed_bytes(&feed, 1024);
	if (wire_message(&feed, job->arena, &job->msg)) {
		job->msg.exchange = exchange;
		job->msg.routing_key = key;
		if (reason.len)
			memcpy(job->reason, reason.data, reason.len);
		bool trusted = how & 1 || job_came_back(job);
		job_read_headers(job, trusted, NOW_MS);
		check_job(job, trusted);
		job->task_name = job_task_name(job);
		check_pass_on(job);
		check_copy(job, &feed);
		check_reply(job);
	}
	job_destroy(job);
	return 0;
}
