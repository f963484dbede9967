/* Runs tasks of one plugin without a broker, for tests. */
#ifndef WARREN_TRIAL_H
#define WARREN_TRIAL_H

#include "job.h"
#include "plugin.h"

enum { TRIAL_OPTIONS = 8, TRIAL_HEADERS = 8 };

/* Zero-initialise, say what is wanted, then open, run as often as wanted, close. */
struct trial {
	struct conf_option options[TRIAL_OPTIONS];
	size_t n_options;
	struct props props; /* of the next message */
	struct field headers[TRIAL_HEADERS];
	size_t n_headers;
	const char *routing_key;
	int64_t time_limit_ns; /* 0: none */

	struct conf_queue queue;
	struct conf_errors errors;
	struct plugins *plugins;
	struct plugin_thread *thread;
	char why[512];          /* of a refused thread */
	struct warren_job *job; /* the last one, to look at */
};

void trial_option(struct trial *t, const char *name, const char *text);
void trial_header(struct trial *t, const char *name, struct value value);

/* Opens PLUGIN_DIR/name.so, or the file where `name` is a path, and starts it. False: t->errors. */
bool trial_open(struct trial *t, const char *name) MUST_CHECK;

/* A job of that task with that body, ready and not run. */
struct warren_job *trial_job(struct trial *t, const char *task, struct bytes body);

/* The same, and runs it. */
enum warren_verdict trial_run(struct trial *t, const char *task, const char *body);

/* True when the last job has exactly this reply. */
bool trial_replied(const struct trial *t, const char *text);

void trial_close(struct trial *t);

#endif
