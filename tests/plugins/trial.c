/* What a worker does around a task, without the worker. */
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

static char trial_name[] = "trial";

void trial_option(struct trial *t, const char *name, const char *text)
{
	CHECK(t->n_options < TRIAL_OPTIONS);
	t->options[t->n_options++] =
	    (struct conf_option){ .name = xstrdup(name), .value = V_STR(bytes_of(text)) };
}

void trial_header(struct trial *t, const char *name, struct value value)
{
	CHECK(t->n_headers < TRIAL_HEADERS);
	t->headers[t->n_headers++] = (struct field){ bytes_of(name), value };
}

bool trial_open(struct trial *t, const char *name)
{
	struct conf_plugin wanted = { .options = t->options, .n_options = t->n_options };
	struct conf conf = { .path = trial_name, .plugins = &wanted, .n_plugins = 1 };
	wanted.file = *name == '/' ? xstrdup(name) : xasprintf("%s/%s.so", PLUGIN_DIR, name);
	t->queue.name = t->queue.label = trial_name;
	t->plugins = plugins_open(&conf, PLUGINS_OF_USER, &t->errors);
	free(wanted.file);
	if (!t->plugins || !plugins_start(t->plugins, &t->errors))
		return false;
	t->thread = plugins_thread_open(t->plugins, 0, t->why, sizeof(t->why));
	return t->thread != NULL;
}

struct warren_job *trial_job(struct trial *t, const char *task, struct bytes body)
{
	struct warren_job *job = job_create(host_api(), &t->queue);
	CHECK(job);
	job_destroy(t->job);
	t->job = job;
	job->msg.props = t->props;
	if (t->n_headers) {
		job->msg.props.present |= PROP_HEADERS;
		job->msg.props.headers = (struct table){ t->headers, t->n_headers };
	}
	job->msg.routing_key = bytes_of(t->routing_key);
	job->msg.body_alloc = malloc(body.len + 1);
	CHECK(job->msg.body_alloc);
	if (body.len)
		memcpy(job->msg.body_alloc, body.data, body.len);
	job->msg.body = (struct bytes){ job->msg.body_alloc, body.len };
	job_read_headers(job, false, clock_wall_ms());
	job->task = plugins_find(t->plugins, bytes_of(task));
	CHECK(job->task);
	job->task_name = bytes_of(job->task->name);
	snprintf(job->id, sizeof(job->id), "trial");
	if (t->time_limit_ns)
		job->deadline_ns = clock_mono_ns() + t->time_limit_ns;
	return job;
}

enum warren_verdict trial_run(struct trial *t, const char *task, const char *body)
{
	return task_run(t->thread, trial_job(t, task, bytes_of(body)));
}

bool trial_replied(const struct trial *t, const char *text)
{
	return t->job->reply && bytes_is(t->job->reply->body, text);
}

void trial_close(struct trial *t)
{
	job_destroy(t->job);
	plugins_thread_close(t->thread);
	plugins_stop(t->plugins);
	conf_errors_free(&t->errors);
	for (size_t i = 0; i < t->n_options; i++)
		free(t->options[i].name);
}
