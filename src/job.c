/* A job's life, and what is read from its message before it runs. */
#include "job.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "ladder.h"
#include "suspect.h"

enum {
	ATTEMPT_MAX =
	    1000000, /* more than any configuration can ask for: such a number is forged */
	SHORTSTR_MAX = 255,
};

/* About 290 years: keeps sums of times far from overflow. */
#define EXPIRATION_MAX_MS (INT64_MAX / NS_PER_MS)

struct warren_job *job_create(const struct warren_api *api, const struct conf_queue *queue)
{
	struct warren_job *job = calloc(1, sizeof(*job));
	if (!job)
		return NULL;
	job->arena = arena_create();
	if (!job->arena) {
		free(job);
		return NULL;
	}
	job->api = api;
	job->queue = queue;
	job->attempt = 1;
	job->deadline_ns = job->kill_ns = CLOCK_NEVER;
	job->retry_after_ns = -1;
	job->follow_ups_tail = &job->follow_ups;
	atomic_init(&job->progress, -1);
	return job;
}

void job_end(struct warren_job *job)
{
	struct arena *arena = job->arena;
	atomic_store(&job->gone, true);
	atomic_store(&job->ended, true);
	job->arena = NULL;
	atomic_store(&job->row, NULL);
	job->task_name = (struct bytes){ NULL, 0 };
	job->trace = (struct trace){ 0 };
	msg_free_body(&job->msg);
	job->msg = (struct msg){ 0 };
	arena_destroy(arena);
}

void job_destroy(struct warren_job *job)
{
	if (!job)
		return;
	msg_free_body(&job->msg);
	arena_destroy(job->arena);
	free(job);
}

struct warren_job *job_stand_in(const struct warren_job *job)
{
	struct warren_job *twin = job_create(job->api, job->queue);
	if (!twin)
		return NULL;
	twin->msg = job->msg;
	twin->msg.body_alloc = NULL; /* the job's own */
	twin->msg.body_map_len = 0;
	twin->origin = job->origin;
	memcpy(twin->id, job->id, sizeof(twin->id));
	twin->task = job->task;
	twin->task_name = job->task_name;
	twin->attempt = job->attempt;
	twin->first_at_ms = job->first_at_ms;
	twin->expires_at_ms = job->expires_at_ms;
	twin->first_exchange = job->first_exchange;
	twin->first_routing_key = job->first_routing_key;
	twin->trace = job->trace;
	memcpy(twin->identity, job->identity, sizeof(twin->identity));
	twin->crashes = job->crashes;
	twin->leases = job->leases;
	twin->signal = job->signal;
	twin->suspected = job->suspected;
	twin->ran = job->ran;
	twin->taken_ns = job->taken_ns;
	twin->started_ns = job->started_ns;
	return twin;
}

int job_carried_crashes(const struct warren_job *job)
{
	int64_t n;
	if (!table_get_int(&job->msg.props.headers, "x-warren-crashes", &n) || n < 0)
		return 0;
	return n < CRASHES_MAX ? (int)n : CRASHES_MAX;
}

/* The property `expiration` is a decimal number of milliseconds as text. */
static bool read_expiration(const struct props *props, int64_t *ms)
{
	if (!(props->present & PROP_EXPIRATION) || props->expiration.len == 0)
		return false;
	int64_t n = 0;
	for (size_t i = 0; i < props->expiration.len; i++) {
		char c = props->expiration.data[i];
		if (c < '0' || c > '9')
			return false;
		if (n > (EXPIRATION_MAX_MS - 9) / 10)
			return false;
		n = n * 10 + (c - '0');
	}
	*ms = n;
	return true;
}

static void read_own(struct warren_job *job, int64_t now_wall_ms)
{
	int64_t ms;
	job->attempt = 1;
	job->first_exchange = job->msg.exchange;
	job->first_routing_key = job->msg.routing_key;
	job->first_at_ms = now_wall_ms;
	job->expires_at_ms = read_expiration(&job->msg.props, &ms) ? now_wall_ms + ms : 0;
}

/* An attempt that warren cannot have written counts as the last one: never a free retry. */
static int read_attempt(const struct warren_job *job)
{
	const struct table *headers = &job->msg.props.headers;
	int64_t n;
	if (!table_get(headers, "x-warren-attempt"))
		return 1;
	if (table_get_int(headers, "x-warren-attempt", &n) && n >= 1 && n <= ATTEMPT_MAX)
		return (int)n;
	return job->queue ? job->queue->retry.attempts : ATTEMPT_MAX;
}

static void read_name(const struct table *headers, const char *key, struct bytes *name)
{
	struct bytes found;
	if (table_get_bytes(headers, key, &found) && found.len <= SHORTSTR_MAX)
		*name = found;
}

void job_read_headers(struct warren_job *job, bool trusted, int64_t now_wall_ms)
{
	const struct table *headers = &job->msg.props.headers;
	int64_t ms;
	read_own(job, now_wall_ms);
	job->trace = trace_of(headers);
	if (!trusted)
		return;
	job->attempt = read_attempt(job);
	read_name(headers, "x-warren-exchange", &job->first_exchange);
	read_name(headers, "x-warren-routing-key", &job->first_routing_key);
	if (table_get_int(headers, "x-warren-first-at", &ms) && ms > 0 && ms < now_wall_ms)
		job->first_at_ms = ms;
	if (table_get_int(headers, "x-warren-expires-at", &ms) && ms > 0)
		job->expires_at_ms = ms;
}

bool job_came_back(const struct warren_job *job)
{
	const struct value *deaths = table_get(&job->msg.props.headers, "x-death");
	struct bytes queue;
	char name[256];
	if (!deaths || deaths->kind != VALUE_ARRAY || deaths->array.n == 0 ||
	    deaths->array.items[0].kind != VALUE_TABLE ||
	    !table_get_bytes(&deaths->array.items[0].table, "queue", &queue))
		return false;
	(void)snprintf(name, sizeof(name), "%s" LADDER_RETURN_SUFFIX, job->queue->name);
	return bytes_is(queue, name);
}

struct bytes job_task_name(const struct warren_job *job)
{
	const struct conf_queue *queue = job->queue;
	const struct props *props = &job->msg.props;
	struct bytes name = { NULL, 0 };
	switch (queue->route) {
	case ROUTE_TASK:
		return bytes_of(queue->task);
	case ROUTE_TYPE:
		return props->present & PROP_TYPE ? props->type : name;
	case ROUTE_ROUTING_KEY:
		return job->first_routing_key;
	case ROUTE_HEADER:
		if (!table_get_bytes(&props->headers, queue->route_header, &name))
			return (struct bytes){ NULL, 0 };
		return name;
	}
	return name;
}

void job_stop(struct warren_job *job, enum warren_stop why)
{
	if (why == WARREN_STOP_LOST)
		atomic_store(&job->lost, true);
	int now = atomic_load(&job->stop);
	while (now < (int)why && !atomic_compare_exchange_weak(&job->stop, &now, (int)why))
		continue;
}

enum warren_stop job_stopping(const struct warren_job *job)
{
	enum warren_stop why = (enum warren_stop)atomic_load(&job->stop);
	bool over = atomic_load(&job->gone) || clock_mono_ns() >= job->deadline_ns;
	return over && why < WARREN_STOP_LIMIT ? WARREN_STOP_LIMIT : why;
}
