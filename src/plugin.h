/*
 * Plugins: opened once per process, checked against the ABI and against the configuration, never
 * closed. Floor 1; the only door to dlopen. The order of life:
 *
 *	plugins_open -> plugins_check_queues -> plugins_start      once, before any thread
 *	plugins_thread_open -> task_run ... -> plugins_thread_close  in each worker thread
 *	plugins_stop                                               after all threads have ended
 */
#ifndef WARREN_PLUGIN_H
#define WARREN_PLUGIN_H

#include "conf.h"
#include "host.h"
#include "turn.h"

struct plugins;
struct plugin_thread; /* the thread states of all plugins for one worker thread */

struct task {
	const char *name;
	enum warren_verdict (*run)(struct warren_job *job);
	int64_t time_limit_ns; /* the task's own, 0 none; the shorter of it and the queue's holds */
	struct turn *serial;   /* NULL unless WARREN_SERIAL */
	const struct plugin *plugin;
};

/* One loaded plugin. Constant after plugins_start, so that all threads may read it. */
struct plugin {
	size_t index;                    /* its place among the loaded ones */
	const char *file;                /* absolute */
	const char *label;               /* "name/version", as in x-warren-plugin */
	struct warren_plugin descriptor; /* a copy; members that an older plugin lacks are zero */
	struct task *tasks;
	size_t n_tasks;
	struct warren_option *options; /* its table, as our ABI has it */
	size_t n_options;
	struct warren_host *host; /* its options, and what it sees of us */
	void *state;              /* set by its open() */
	bool started;
};

/* Whose word is enough for a file to be opened. */
enum plugin_trust {
	PLUGINS_OF_CONF, /* only files that nobody but root and we can write (conf_check_path) */
	PLUGINS_OF_USER, /* any: the user named the file, and its options as text, on a command line
			  */
	PLUGINS_TO_SHOW, /* the same, and required options may be missing: it is not started */
};

/*
 * Opens every plugin that the configuration lists, and checks descriptor, task names and options;
 * does not call open(). NULL when anything is wrong, with all of it in `errors`, each a sentence
 * that names file, field, both values and the remedy.
 */
struct plugins *plugins_open(
    const struct conf *conf, enum plugin_trust trust, struct conf_errors *errors) MUST_CHECK;

/* Every task that a queue names exists, and every pattern in `tasks` matches one. */
bool plugins_check_queues(
    const struct plugins *plugins, const struct conf *conf, struct conf_errors *errors) MUST_CHECK;

/* Calls each plugin's open(), in the order of the configuration. False when one refuses; those
 * before it are closed again. */
bool plugins_start(struct plugins *plugins, struct conf_errors *errors) MUST_CHECK;

/* Calls close() of all that were started, last one first. The files stay mapped: thread-local
 * destructors may still run through them. */
void plugins_stop(struct plugins *plugins);

/* The task of that name, or NULL. */
const struct task *plugins_find(const struct plugins *plugins, struct bytes name);

/* The same for a message of that queue: NULL also where the queue's `tasks` do not allow the name.
 */
const struct task *plugins_find_for(
    const struct plugins *plugins, const struct conf_queue *queue, struct bytes name);

/* The file of the plugin that is being opened, or whose open() is running, by the only thread that
 * there is then; NULL: none. For last words. */
const char *plugins_at_work(void);

size_t plugins_count(const struct plugins *plugins);
const struct plugin *plugins_at(const struct plugins *plugins, size_t index);

/* Calls each plugin's thread_open() in the calling thread, which is number `thread` of its process.
 * NULL with the reason in `why`; those that had succeeded are closed again. */
struct plugin_thread *plugins_thread_open(
    const struct plugins *plugins, unsigned thread, char *why, size_t why_size) MUST_CHECK;

/* In the same thread; NULL is accepted. */
void plugins_thread_close(struct plugin_thread *thread);

/*
 * Runs job->task in the calling thread, in its turn where it is WARREN_SERIAL, and returns its
 * word, which may be no verdict at all: a breach. Sets job's states. A done whose reply or
 * follow-up the host had refused is turned into retry or dead, with the reason.
 */
enum warren_verdict task_run(struct plugin_thread *thread, struct warren_job *job);

/*
 * The three parts of task_run, for who must be able to break off the wait for the turn:
 * task_enter is false when leave(arg) says that there is no point in waiting any more.
 */
bool task_enter(const struct task *task, bool (*leave)(void *arg), void *arg) MUST_CHECK;
enum warren_verdict task_call(struct plugin_thread *thread, struct warren_job *job);
void task_leave(const struct task *task);

#endif
