/* Opens, checks and runs plugins. What is refused is said so that its author knows what to do. */
#include "plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "elfsym.h"
#include "job.h"
#include "option.h"
#include "text.h"

enum {
	WHY_MAX = 1024,
	KNOWN_MAX = 512,  /* of a list of names in a message */
	TASKS_MAX = 1024, /* of one plugin: more is a table without its end */
	OPTIONS_MAX = 1024,
};

struct plugins {
	struct arena *arena; /* owns everything here but what dlopen maps */
	struct plugin *list;
	size_t n;
};

struct plugin_thread {
	const struct plugins *plugins;
	size_t n_opened;
	struct warren_host *hosts; /* one a plugin: its refusals do not meet another thread's */
	void **states;
};

/* One plugin while it is being opened: where to look, where to complain. */
struct opening {
	struct plugins *plugins;
	struct plugin *plugin;
	const struct conf *conf;
	const struct conf_plugin *wanted;
	enum plugin_trust trust;
	struct conf_errors *errors;
	size_t exported; /* bytes of the symbol, as the file's symbol table says */
};

/* Memory at start-up: a shortage ends the process, as in xcalloc. */
static void *grab(struct plugins *plugins, size_t n, size_t size)
{
	return or_die(arena_zalloc(plugins->arena, n ? n : 1, size));
}

static const char *grab_text(struct plugins *plugins, const char *text)
{
	return or_die(arena_dup(plugins->arena, text, strlen(text)));
}

/* Complains about a plugin, at the line that loads it or at `line`; false, so that it can be
 * returned. */
PRINTF_LIKE(3, 4)
static bool complain(const struct opening *o, unsigned line, const char *fmt, ...)
{
	char text[WHY_MAX];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	conf_errors_add(o->errors, o->conf->path, line ? line : o->wanted->line, "plugin %s: %s",
	    o->wanted->file, text);
	return false;
}

/* The system's own word: a shortage says nothing of the plugin. */
static bool complain_of(const struct opening *o, int why)
{
	o->errors->shortage |= conf_is_shortage(why);
	o->errors->refused |= why == EACCES;
	return complain(o, 0, "%s", strerror(why));
}

/* Appends a name to a list of names for a message; names that do not fit are left out. */
static void list_name(char *list, size_t size, const char *name)
{
	size_t len = strlen(list);
	snprintf(list + len, size - len, "%s%s", len ? ", " : "", name);
}

/* Read by a signal handler of the same thread. */
static const char *volatile at_work;

const char *plugins_at_work(void)
{
	return at_work;
}

/* ---- The file ---- */

/* By the name that the configuration gives: links on the way count, too. */
static bool check_owner(const struct opening *o, int fd)
{
	char why[WHY_MAX];
	errno = 0;
	if (o->trust != PLUGINS_OF_CONF ||
	    conf_check_path(o->wanted->file, fd, false, why, sizeof(why)))
		return true;
	if (conf_is_shortage(errno))
		return complain_of(o, errno);
	o->errors->refused = true;
	return complain(o, 0, "%s", why);
}

static bool check_symbol(struct opening *o, int fd)
{
	char why[WHY_MAX];
	errno = 0;
	o->exported = elfsym_data_size(fd, "warren_plugin", why, sizeof(why));
	if (o->exported == 0 && conf_is_shortage(errno))
		return complain_of(o, errno);
	return o->exported > 0 || complain(o, 0, "%s", why);
}

/* Nothing of a file runs before its owner and its symbol table are found right. */
static bool check_file(struct opening *o, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return complain_of(o, errno);
	bool good = check_owner(o, fd) && check_symbol(o, fd);
	close(fd);
	return good;
}

static const struct warren_plugin *open_file(struct opening *o)
{
	char path[PATH_MAX];
	if (!realpath(o->wanted->file, path)) {
		complain_of(o, errno);
		return NULL;
	}
	if (!check_file(o, path))
		return NULL;
	at_work = o->wanted->file;
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	at_work = NULL;
	const struct warren_plugin *found = library ? dlsym(library, "warren_plugin") : NULL;
	if (!found) {
		const char *why = dlerror();
		o->errors->shortage |= why && strstr(why, strerror(ENOMEM));
		complain(o, 0, "%s; `ldd` shows what it needs", why ? why : "it cannot be opened");
	}
	return found;
}

/* ---- The descriptor ---- */

/* One field of the descriptor that must not be above ours. */
static bool check_not_above(
    const struct opening *o, const char *field, uint32_t theirs, uint32_t ours)
{
	return theirs <= ours || complain(o, 0,
				     "its %s is %u, newer than this host's %u; update warren, or "
				     "rebuild the plugin with "
				     "the <warren/plugin.h> of ABI %d.%d",
				     field, theirs, ours, WARREN_ABI_MAJOR, WARREN_ABI_MINOR);
}

static bool check_version(const struct opening *o, const struct warren_plugin *p)
{
	if (o->exported < offsetof(struct warren_plugin, name) || p->magic != WARREN_MAGIC)
		return complain(o, 0,
		    "its magic is 0x%x, and a plugin's is 0x%x; define the descriptor with "
		    "WARREN_PLUGIN(...)",
		    o->exported < sizeof(p->magic) ? 0 : p->magic, WARREN_MAGIC);
	if (p->abi_major != WARREN_ABI_MAJOR)
		return complain(o, 0,
		    "its abi_major is %u, this host's is %d; rebuild the plugin with the "
		    "<warren/plugin.h> of ABI %d.x",
		    p->abi_major, WARREN_ABI_MAJOR, WARREN_ABI_MAJOR);
	if (!check_not_above(o, "abi_minor", p->abi_minor, WARREN_ABI_MINOR) ||
	    !check_not_above(o, "size", p->size, sizeof(struct warren_plugin)) ||
	    !check_not_above(o, "task_size", p->task_size, sizeof(struct warren_task)) ||
	    !check_not_above(o, "option_size", p->option_size, sizeof(struct warren_option)))
		return false;
	if (p->size < offsetof(struct warren_plugin, options) || p->size > o->exported ||
	    p->task_size < offsetof(struct warren_task, flags) ||
	    p->option_size < offsetof(struct warren_option, min))
		return complain(o, 0,
		    "its sizes (%u bytes of descriptor, %zu exported, %u a task, %u an option) are "
		    "below those of any ABI; define the descriptor with WARREN_PLUGIN(...)",
		    p->size, o->exported, p->task_size, p->option_size);
	return true;
}

/* Item `i` of a table whose items are of the size that the plugin was built with. */
static void copy_item(void *to, const void *table, size_t i, size_t size)
{
	memcpy(to, (const char *)table + i * size, size);
}

static struct warren_task task_at(const struct warren_plugin *p, size_t i)
{
	struct warren_task task = { 0 };
	copy_item(&task, p->tasks, i, p->task_size);
	return task;
}

static struct warren_option option_at(const struct warren_plugin *p, size_t i)
{
	struct warren_option option = { 0 };
	copy_item(&option, p->options, i, p->option_size);
	return option;
}

static size_t count_tasks(const struct warren_plugin *p)
{
	size_t n = 0;
	while (p->tasks && n < TASKS_MAX && task_at(p, n).name)
		n++;
	return n;
}

static size_t count_options(const struct warren_plugin *p)
{
	size_t n = 0;
	while (p->options && n < OPTIONS_MAX && option_at(p, n).name)
		n++;
	return n;
}

static bool check_task(const struct opening *o, const struct warren_task *task)
{
	const struct task *twin = plugins_find(o->plugins, bytes_of(task->name));
	if (!text_is_name(bytes_of(task->name)))
		return complain(o, 0,
		    "its task name \"%s\" is not 1 to 255 characters of A-Z a-z 0-9 . _ -",
		    task->name);
	if (!task->run)
		return complain(o, 0, "its task %s has no function: set .run", task->name);
	if (task->flags & ~(uint32_t)WARREN_SERIAL)
		return complain(o, 0, "its task %s has the flags 0x%x, and this host knows 0x%x",
		    task->name, task->flags, (unsigned)WARREN_SERIAL);
	if (twin)
		return complain(o, 0,
		    "its task %s is also in %s; task names are unique: load one of the two",
		    task->name, twin->plugin->file);
	return true;
}

static void add_task(struct opening *o, const struct warren_task *from)
{
	struct task *task = &o->plugin->tasks[o->plugin->n_tasks++];
	task->name = from->name;
	task->run = from->run;
	task->time_limit_ns = from->time_limit_ms * NS_PER_MS;
	task->plugin = o->plugin;
	if (from->flags & WARREN_SERIAL) {
		task->serial = grab(o->plugins, 1, sizeof(*task->serial));
		turn_init(task->serial);
	}
}

static bool read_tasks(struct opening *o)
{
	const struct warren_plugin *p = &o->plugin->descriptor;
	size_t n = count_tasks(p);
	bool good = true;
	if (n == 0 || n == TASKS_MAX)
		return complain(o, 0, "its table of tasks %s",
		    n ? "has no end: close it with { 0 }" : "is empty: set .tasks");
	o->plugin->tasks = grab(o->plugins, n, sizeof(*o->plugin->tasks));
	for (size_t i = 0; i < n; i++) {
		struct warren_task task = task_at(p, i);
		if (check_task(o, &task))
			add_task(o, &task);
		else
			good = false;
	}
	return good;
}

static bool read_descriptor(struct opening *o, const struct warren_plugin *found)
{
	struct plugin *plugin = o->plugin;
	if (!check_version(o, found))
		return false;
	memcpy(&plugin->descriptor, found, found->size);
	if (!plugin->descriptor.name || !text_is_name(bytes_of(plugin->descriptor.name)))
		return complain(o, 0, "it has no name that can be used: WARREN_PLUGIN(name, ...)");
	if (!plugin->descriptor.version)
		plugin->descriptor.version = "0";
	if (!plugin->descriptor.summary)
		plugin->descriptor.summary = "";
	plugin->label = or_die(arena_printf(
	    o->plugins->arena, "%s/%s", plugin->descriptor.name, plugin->descriptor.version));
	return read_tasks(o);
}

/* ---- Options ---- */

static const struct conf_option *given_option(const struct conf_plugin *wanted, const char *name)
{
	for (size_t i = 0; i < wanted->n_options; i++)
		if (strcmp(wanted->options[i].name, name) == 0)
			return &wanted->options[i];
	return NULL;
}

static bool read_option(
    const struct opening *o, const struct warren_option *option, struct host_option *out)
{
	const struct conf_option *given = given_option(o->wanted, option->name);
	enum option_source source =
	    o->trust == PLUGINS_OF_CONF ? OPTION_FROM_CONF : OPTION_FROM_TEXT;
	char why[WHY_MAX];
	if (!option_default(o->plugins->arena, option, out, why, sizeof(why)))
		return complain(
		    o, 0, "its own table is wrong: option \"%s\" %s", option->name, why);
	if (!given && !option->fallback && o->trust != PLUGINS_TO_SHOW)
		return complain(o, 0, "option \"%s\" is required: %s", option->name,
		    option->help ? option->help : "it has no default");
	if (given &&
	    !option_read(o->plugins->arena, option, source, &given->value, out, why, sizeof(why)))
		return complain(o, given->line, "option \"%s\" %s", option->name, why);
	return true;
}

static bool has_option(const struct plugin *plugin, const char *name)
{
	for (size_t i = 0; i < plugin->n_options; i++)
		if (strcmp(plugin->options[i].name, name) == 0)
			return true;
	return false;
}

static bool check_unknown(const struct opening *o)
{
	char known[KNOWN_MAX] = "";
	bool good = true;
	for (size_t i = 0; i < o->plugin->n_options; i++)
		list_name(known, sizeof(known), o->plugin->options[i].name);
	for (size_t i = 0; i < o->wanted->n_options; i++) {
		const struct conf_option *given = &o->wanted->options[i];
		if (!has_option(o->plugin, given->name))
			good = complain(o, given->line, "it has no option \"%s\"; it has: %s",
			    given->name, *known ? known : "none");
	}
	return good;
}

static bool read_options(struct opening *o)
{
	struct plugin *plugin = o->plugin;
	size_t n = count_options(&plugin->descriptor);
	if (n == OPTIONS_MAX)
		return complain(o, 0, "its table of options has no end: close it with { 0 }");
	plugin->options = grab(o->plugins, n, sizeof(*plugin->options));
	plugin->n_options = n;
	struct host_option *values = grab(o->plugins, n, sizeof(*values));
	bool good = true;
	for (size_t i = 0; i < n; i++) {
		plugin->options[i] = option_at(&plugin->descriptor, i);
		good &= read_option(o, &plugin->options[i], &values[i]);
	}
	plugin->host = grab(o->plugins, 1, sizeof(*plugin->host));
	*plugin->host = (struct warren_host){
		.api = host_api(),
		.plugin = plugin->descriptor.name,
		.options = values,
		.n_options = n,
	};
	return check_unknown(o) && good;
}

/* ---- All of them ---- */

static bool open_one(struct opening *o)
{
	o->plugin->file = grab_text(o->plugins, o->wanted->file);
	const struct warren_plugin *found = open_file(o);
	return found && read_descriptor(o, found) && read_options(o);
}

struct plugins *plugins_open(
    const struct conf *conf, enum plugin_trust trust, struct conf_errors *errors)
{
	struct plugins *plugins = xcalloc(1, sizeof(*plugins));
	bool good = true;
	plugins->arena = or_die(arena_create());
	arena_insist(plugins->arena);
	plugins->list = grab(plugins, conf->n_plugins, sizeof(*plugins->list));
	for (size_t i = 0; i < conf->n_plugins; i++) {
		struct plugin *plugin = &plugins->list[i];
		plugin->index = plugins->n++;
		good &= open_one(&(struct opening){ .plugins = plugins,
		    .plugin = plugin,
		    .conf = conf,
		    .wanted = &conf->plugins[i],
		    .trust = trust,
		    .errors = errors });
	}
	if (good)
		return plugins;
	plugins_stop(plugins);
	return NULL;
}

const struct task *plugins_find(const struct plugins *plugins, struct bytes name)
{
	for (size_t i = 0; i < plugins->n; i++)
		for (size_t k = 0; k < plugins->list[i].n_tasks; k++)
			if (bytes_is(name, plugins->list[i].tasks[k].name))
				return &plugins->list[i].tasks[k];
	return NULL;
}

const struct task *plugins_find_for(
    const struct plugins *plugins, const struct conf_queue *queue, struct bytes name)
{
	bool allowed = queue->n_tasks == 0;
	for (size_t i = 0; i < queue->n_tasks && !allowed; i++)
		allowed = text_match(queue->tasks[i], name);
	return allowed ? plugins_find(plugins, name) : NULL;
}

size_t plugins_count(const struct plugins *plugins)
{
	return plugins->n;
}

const struct plugin *plugins_at(const struct plugins *plugins, size_t index)
{
	return &plugins->list[index];
}

static bool matches_any(const struct plugins *plugins, const char *pattern)
{
	for (size_t i = 0; i < plugins->n; i++)
		for (size_t k = 0; k < plugins->list[i].n_tasks; k++)
			if (text_match(pattern, bytes_of(plugins->list[i].tasks[k].name)))
				return true;
	return false;
}

static bool check_queue(const struct plugins *plugins, const struct conf *conf,
    const struct conf_queue *queue, const char *known, struct conf_errors *errors)
{
	bool good = true;
	if (queue->route == ROUTE_TASK && !plugins_find(plugins, bytes_of(queue->task))) {
		conf_errors_add(errors, conf->path, queue->line,
		    "queue \"%s\": no loaded plugin has the task \"%s\"; they have: %s",
		    queue->label, queue->task, *known ? known : "none");
		good = false;
	}
	for (size_t i = 0; i < queue->n_tasks; i++) {
		if (matches_any(plugins, queue->tasks[i]))
			continue;
		conf_errors_add(errors, conf->path, queue->line,
		    "queue \"%s\": no loaded plugin has a task that matches \"%s\"; they have: %s",
		    queue->label, queue->tasks[i], *known ? known : "none");
		good = false;
	}
	return good;
}

bool plugins_check_queues(
    const struct plugins *plugins, const struct conf *conf, struct conf_errors *errors)
{
	char known[KNOWN_MAX] = "";
	bool good = true;
	for (size_t i = 0; i < plugins->n; i++)
		for (size_t k = 0; k < plugins->list[i].n_tasks; k++)
			list_name(known, sizeof(known), plugins->list[i].tasks[k].name);
	for (size_t i = 0; i < conf->n_queues; i++)
		good &= check_queue(plugins, conf, &conf->queues[i], known, errors);
	return good;
}

/* ---- Life ---- */

/* True when a call of open() or thread_open() succeeded and asked for no option that does not
 * exist. */
static bool accepted(bool good, char *why, size_t why_size)
{
	if (good && !*why)
		return true;
	if (!*why)
		snprintf(
		    why, why_size, "it gives no reason: `return warren_refuse(host, \"...\")`");
	return false;
}

static bool start_one(struct plugin *plugin, char *why, size_t why_size)
{
	struct warren_host *host = plugin->host;
	*why = '\0';
	if (plugin->descriptor.open) {
		host->why = why;
		host->why_size = why_size;
		at_work = plugin->file;
		bool good = plugin->descriptor.open(host, &plugin->state);
		at_work = NULL;
		host->why = NULL;
		plugin->started = good;
		return accepted(good, why, why_size);
	}
	plugin->started = true;
	return true;
}

static void close_all(struct plugins *plugins)
{
	for (size_t i = plugins->n; i-- > 0;) {
		struct plugin *plugin = &plugins->list[i];
		if (plugin->started && plugin->descriptor.close)
			plugin->descriptor.close(plugin->state);
		plugin->started = false;
	}
}

bool plugins_start(struct plugins *plugins, struct conf_errors *errors)
{
	char why[WHY_MAX];
	for (size_t i = 0; i < plugins->n; i++) {
		if (start_one(&plugins->list[i], why, sizeof(why)))
			continue;
		conf_errors_add(errors, plugins->list[i].file, 0, "open() refused: %s", why);
		close_all(plugins);
		return false;
	}
	return true;
}

void plugins_stop(struct plugins *plugins)
{
	if (!plugins)
		return;
	close_all(plugins);
	arena_destroy(plugins->arena);
	free(plugins);
}

static bool thread_start_one(struct plugin_thread *thread, const struct plugin *plugin,
    unsigned number, char *why, size_t why_size)
{
	struct warren_host *host = &thread->hosts[plugin->index];
	void **state = &thread->states[plugin->index];
	*host = *plugin->host;
	*why = '\0';
	if (!plugin->descriptor.thread_open)
		return true;
	host->why = why;
	host->why_size = why_size;
	bool good = plugin->descriptor.thread_open(host, plugin->state, number, state);
	host->why = NULL;
	return accepted(good, why, why_size);
}

struct plugin_thread *plugins_thread_open(
    const struct plugins *plugins, unsigned number, char *why, size_t why_size)
{
	struct plugin_thread *thread = xcalloc(1, sizeof(*thread));
	thread->plugins = plugins;
	thread->hosts = xcalloc(plugins->n + 1, sizeof(*thread->hosts));
	thread->states = xcalloc(plugins->n + 1, sizeof(*thread->states));
	for (size_t i = 0; i < plugins->n; i++) {
		char reason[WHY_MAX];
		const struct plugin *plugin = &plugins->list[i];
		if (!thread_start_one(thread, plugin, number, reason, sizeof(reason))) {
			snprintf(
			    why, why_size, "%s: thread_open() refused: %s", plugin->file, reason);
			plugins_thread_close(thread);
			return NULL;
		}
		thread->n_opened++;
	}
	return thread;
}

void plugins_thread_close(struct plugin_thread *thread)
{
	if (!thread)
		return;
	for (size_t i = thread->n_opened; i-- > 0;) {
		const struct plugin *plugin = &thread->plugins->list[i];
		if (plugin->descriptor.thread_close)
			plugin->descriptor.thread_close(plugin->state, thread->states[i]);
	}
	free(thread->hosts);
	free(thread->states);
	free(thread);
}

/* ---- Running ---- */

/* What the host did not take must not pass as done: nothing is lost in silence. */
static enum warren_verdict weigh(const struct warren_job *job, enum warren_verdict verdict)
{
	if (verdict != WARREN_DONE || job->refused == WARREN_OK)
		return verdict;
	return job->refused == WARREN_ENOMEM ? WARREN_RETRY : WARREN_DEAD;
}

bool task_enter(const struct task *task, bool (*leave)(void *arg), void *arg)
{
	return !task->serial || turn_take(task->serial, leave, arg);
}

void task_leave(const struct task *task)
{
	if (task->serial)
		turn_give(task->serial);
}

enum warren_verdict task_call(struct plugin_thread *thread, struct warren_job *job)
{
	const struct task *task = job->task;
	job->state = task->plugin->state;
	job->thread_state = thread->states[task->plugin->index];
	return weigh(job, task->run(job));
}

enum warren_verdict task_run(struct plugin_thread *thread, struct warren_job *job)
{
	enum warren_verdict verdict;
	CHECK(task_enter(job->task, NULL, NULL)); /* nothing breaks it off */
	verdict = task_call(thread, job);
	task_leave(job->task);
	return verdict;
}
