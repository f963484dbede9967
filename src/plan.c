/* Gathers findings, puts RabbitMQ's refusals into words, and judges limits. */
#include "plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "text.h"

#define DEFAULT_TIMEOUT_NS (30 * 60 * NS_PER_S) /* RabbitMQ's consumer_timeout */

enum {
	DEFAULT_DELIVERY_LIMIT = 20, /* RabbitMQ's since 4.0 */
	/* RabbitMQ's versions as broker_version has them, with what is new there. */
	QUEUE_TIMEOUTS = 312,
	DELIVERY_LIMITS = 400,
	QUORUM_TIMEOUTS = 403, /* and of other queues no more */
};

static const char *const state_words[] = {
	[PLAN_HEADING] = "",
	[PLAN_ANSWERS] = "answers",
	[PLAN_THERE] = "there",
	[PLAN_ALLOWED] = "allowed",
	[PLAN_TO_CREATE] = "will be created",
	[PLAN_TO_BIND] = "will be bound",
	[PLAN_UNKNOWN] = "not known",
	[PLAN_WARNING] = "warning",
	[PLAN_MISSING] = "MISSING",
	[PLAN_CLASHES] = "CLASHES",
	[PLAN_REFUSED] = "REFUSED",
};

/* ---- the plan ---- */

void plan_add(struct plan *plan, enum plan_state state, const char *what, const char *fmt, ...)
{
	char *why;
	va_list args;
	va_start(args, fmt);
	if (vasprintf(&why, fmt, args) < 0)
		why = NULL;
	va_end(args);
	plan->findings = or_die(reallocarray(plan->findings, plan->n + 1, sizeof(*plan->findings)));
	plan->findings[plan->n++] = (struct finding){ state, 1, xstrdup(what), or_die(why) };
}

static void free_finding(struct finding *finding)
{
	free(finding->what);
	free(finding->why);
}

void plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->n; i++)
		free_finding(&plan->findings[i]);
	free(plan->findings);
	*plan = (struct plan){ 0 };
}

static bool is_trouble(enum plan_state state)
{
	return state >= PLAN_WARNING;
}

/* Takes the parts of that state out from behind `first`; returns how many things they were. */
static size_t take_out(struct plan *plan, size_t first, enum plan_state state)
{
	size_t parts = 0, n = first;
	if (first >= plan->n)
		return 0;
	for (size_t i = first; i < plan->n; i++) {
		struct finding *finding = &plan->findings[i];
		if (finding->state == state) {
			parts += finding->parts;
			free_finding(finding);
		} else {
			plan->findings[n++] = *finding;
		}
	}
	plan->n = n;
	return parts;
}

void plan_fold(struct plan *plan, size_t first, const char *what)
{
	for (enum plan_state state = PLAN_THERE; !is_trouble(state); state++) {
		size_t parts = take_out(plan, first, state);
		if (parts == 0)
			continue;
		char *words = xasprintf("%zu %s %s", parts,
		    state == PLAN_TO_BIND ? "bindings" : "exchanges and queues", what);
		plan_add(plan, state, words, "%s", "");
		plan->findings[plan->n - 1].parts = parts;
		free(words);
	}
}

static size_t count(const struct plan *plan, enum plan_state state)
{
	size_t parts = 0;
	for (size_t i = 0; i < plan->n; i++)
		if (plan->findings[i].state == state)
			parts += plan->findings[i].parts;
	return parts;
}

int plan_exit_code(const struct plan *plan)
{
	return count(plan, PLAN_MISSING) + count(plan, PLAN_CLASHES) + count(plan, PLAN_REFUSED)
		   ? EXIT_CONFIG
		   : EXIT_OK;
}

static void print_finding(const struct finding *finding, FILE *out)
{
	if (finding->state == PLAN_HEADING)
		(void)fputs("# ", out);
	else
		(void)fprintf(out, "%-15s  ", state_words[finding->state]);
	text_print(finding->what, out);
	if (finding->why[0])
		(void)fputs(": ", out);
	text_print(finding->why, out);
	(void)fputc('\n', out);
}

static void print_sum(const struct plan *plan, FILE *out)
{
	const char *between = "";
	for (enum plan_state state = PLAN_THERE; state <= PLAN_REFUSED; state++) {
		size_t n = count(plan, state);
		if (n == 0 || state == PLAN_ALLOWED || state == PLAN_UNKNOWN)
			continue;
		(void)fprintf(out, "%s%zu %s%s", between, n, state_words[state],
		    state == PLAN_WARNING && n > 1 ? "s" : "");
		between = ", ";
	}
	(void)fprintf(out, "%s%s\n", between[0] ? ": " : "",
	    plan_exit_code(plan) == EXIT_OK ? "warrend can start"
					    : "warrend cannot do its work with this broker");
}

void plan_print(const struct plan *plan, void *stream)
{
	for (size_t i = 0; i < plan->n; i++)
		print_finding(&plan->findings[i], stream);
	print_sum(plan, stream);
}

/* ---- how a thing on the broker differs ---- */

/* Moves past `what`, which must stand at *at. */
static bool skip(const char **at, const char *what)
{
	size_t len = strlen(what);
	if (strncmp(*at, what, len) != 0)
		return false;
	*at += len;
	return true;
}

/* Takes what stands before `end`, and moves past it. */
static bool take_until(const char **at, const char *end, char *out, size_t size)
{
	const char *stop = strstr(*at, end);
	if (!stop || (size_t)(stop - *at) >= size)
		return false;
	memcpy(out, *at, (size_t)(stop - *at));
	out[stop - *at] = '\0';
	*at = stop + strlen(end);
	return true;
}

/* The value and its quote end the text: it may hold quotes itself. */
static bool take_rest(const char *at, char *out, size_t size)
{
	size_t len = strlen(at);
	if (len == 0 || at[len - 1] != '\'' || len > size)
		return false;
	memcpy(out, at, len - 1);
	out[len - 1] = '\0';
	return true;
}

static bool read_current(struct clash *clash, const char *at)
{
	clash->is_set = strcmp(at, "none") != 0;
	if (!clash->is_set)
		return true;
	if (skip(&at, "the value '"))
		return take_until(&at, "' of type '", clash->current, sizeof(clash->current)) &&
		       take_rest(at, clash->type, sizeof(clash->type));
	return skip(&at, "'") && take_rest(at, clash->current, sizeof(clash->current));
}

bool clash_read(struct clash *clash, const struct step *step, const char *text)
{
	const char *at = strstr(text, "inequivalent arg '");
	const char *kind = step->kind == STEP_EXCHANGE ? "exchange '" : "queue '";
	char received[256];
	*clash = (struct clash){ 0 };
	return at && skip(&at, "inequivalent arg '") &&
	       take_until(&at, "' for ", clash->argument, sizeof(clash->argument)) &&
	       skip(&at, kind) && skip(&at, step->name) && skip(&at, "' in vhost '") &&
	       take_until(&at, "': received ", received, sizeof(received)) &&
	       take_until(&at, " but current is ", received, sizeof(received)) &&
	       read_current(clash, at);
}

/* The step's own word for an AMQP property, or NULL: it is an argument. */
static bool *flag_of(const char *name, struct step *step)
{
	if (strcmp(name, "durable") == 0)
		return &step->durable;
	if (strcmp(name, "auto_delete") == 0)
		return &step->auto_delete;
	if (strcmp(name, "internal") == 0)
		return &step->internal;
	return NULL;
}

static bool is_type(const struct clash *clash, const struct step *step)
{
	return step->kind == STEP_EXCHANGE && strcmp(clash->argument, "type") == 0;
}

/* Copies the table without that key, and with room for one more. */
static bool copy_without(struct arena *arena, struct table *table, const char *key)
{
	struct field *fields = arena_zalloc(arena, table->n + 1, sizeof(*fields));
	size_t n = 0;
	if (!fields)
		return false;
	for (size_t i = 0; i < table->n; i++)
		if (!bytes_is(table->fields[i].key, key))
			fields[n++] = table->fields[i];
	*table = (struct table){ fields, n };
	return true;
}

static bool read_value(
    const struct clash *clash, const struct value *ours, struct arena *arena, struct value *value)
{
	bool same = clash->type[0] == '\0' && ours;
	if (strcmp(clash->type, "longstr") == 0 || (same && ours->kind == VALUE_STRING)) {
		const char *text = arena_dup(arena, clash->current, strlen(clash->current));
		*value = V_STR(bytes_of(text));
		return text != NULL;
	}
	if (strcmp(clash->type, "bool") == 0 || (same && ours->kind == VALUE_BOOL)) {
		*value = V_BOOL(strcmp(clash->current, "true") == 0);
		return true;
	}
	char *end;
	*value = V_INT(strtoll(clash->current, &end, 10));
	return end != clash->current && *end == '\0';
}

static bool adopt_argument(const struct clash *clash, struct step *step, struct arena *arena)
{
	const struct value *ours = table_get(&step->arguments, clash->argument);
	struct value value;
	if (clash->is_set && !read_value(clash, ours, arena, &value))
		return false;
	if (!copy_without(arena, &step->arguments, clash->argument))
		return false;
	const char *key = arena_dup(arena, clash->argument, strlen(clash->argument));
	if (clash->is_set && key)
		step->arguments.fields[step->arguments.n++] =
		    (struct field){ bytes_of(key), value };
	return key != NULL;
}

bool clash_adopt(const struct clash *clash, struct step *step, struct arena *arena)
{
	bool *flag = flag_of(clash->argument, step);
	if (flag) {
		bool current = strcmp(clash->current, "true") == 0;
		bool differs = *flag != current;
		*flag = current;
		return differs;
	}
	if (!is_type(clash, step))
		return adopt_argument(clash, step, arena);
	const char *type = arena_dup(arena, clash->current, strlen(clash->current));
	if (type)
		step->type = type;
	return type != NULL;
}

/* What the step has for it; "" where it has nothing. */
static void show_own(const struct clash *clash, const struct step *step, char *buf, size_t size)
{
	struct step copy = *step;
	const bool *flag = flag_of(clash->argument, &copy);
	const struct value *value = table_get(&step->arguments, clash->argument);
	buf[0] = '\0';
	if (flag)
		(void)snprintf(buf, size, "%s", *flag ? "true" : "false");
	else if (is_type(clash, step))
		(void)snprintf(buf, size, "%s", step->type);
	else if (value && value_show(value, buf, size) == 0)
		(void)snprintf(buf, size, "\"\"");
}

void clash_show(const struct clash *clash, const struct step *step, char *buf, size_t size)
{
	char own[256], current[512];
	show_own(clash, step, own, sizeof(own));
	if (clash->is_set)
		(void)snprintf(current, sizeof(current), "with %s = %s", clash->argument,
		    clash->current[0] ? clash->current : "\"\"");
	else if (strcmp(clash->argument, "x-queue-type") == 0) /* none is classic */
		(void)snprintf(current, sizeof(current), "with x-queue-type = classic");
	else
		(void)snprintf(current, sizeof(current), "without %s", clash->argument);
	(void)snprintf(
	    buf, size, "%s, the configuration says %s", current, own[0] ? own : "nothing of it");
}

static const char *type_setting(const struct step *step, const struct conf_queue *queue)
{
	if (strcmp(step->name, queue->name) == 0)
		return "type";
	return queue->dead_letter && strcmp(step->name, queue->dead_letter) == 0
		   ? "dead_letter_type"
		   : NULL;
}

/* What warren adds of itself to a quorum queue's arguments. */
static bool is_broker_dead_letter(const struct clash *clash, const struct conf_queue *queue)
{
	return !clash->is_set && !table_get(&queue->arguments, "x-dead-letter-exchange") &&
	       strncmp(clash->argument, "x-dead-letter-", 14) == 0;
}

static void remedy_of_queue(const struct clash *clash, const struct step *step,
    const struct conf_queue *queue, char *buf, size_t size)
{
	const char *setting = type_setting(step, queue);
	bool is_work = setting && strcmp(setting, "type") == 0;
	if (setting && strcmp(clash->argument, "x-queue-type") == 0)
		(void)snprintf(
		    buf, size, "%s = \"%s\"", setting, clash->is_set ? clash->current : "classic");
	else if (is_work && flag_of(clash->argument, &(struct step){ 0 }))
		(void)snprintf(buf, size, "%s = %s", clash->argument, clash->current);
	else if (is_work && is_broker_dead_letter(clash, queue))
		(void)snprintf(buf, size, "broker_dead_letter = false");
	else if (is_work && clash->is_set)
		(void)snprintf(
		    buf, size, "%s = %s in its arguments", clash->argument, clash->current);
	else if (is_work)
		(void)snprintf(buf, size, "no %s in its arguments", clash->argument);
}

void clash_remedy(const struct clash *clash, const struct step *step,
    const struct conf_queue *queue, char *buf, size_t size)
{
	buf[0] = '\0';
	if (step->kind == STEP_QUEUE && queue)
		remedy_of_queue(clash, step, queue, buf, size);
	if (step->kind != STEP_EXCHANGE || strncmp(step->name, "warren.v1.", 10) == 0)
		return;
	if (is_type(clash, step))
		(void)snprintf(buf, size, "type = \"%s\"", clash->current);
	else if (clash->is_set)
		(void)snprintf(buf, size, "%s = %s%s", clash->argument, clash->current,
		    flag_of(clash->argument, &(struct step){ 0 }) ? "" : " in its arguments");
	else
		(void)snprintf(buf, size, "no %s in its arguments", clash->argument);
}

/* ---- limits ---- */

/* The queue's own timeout where this version heeds it, else the default. */
static int64_t timeout_of(const struct conf_queue *queue, int version)
{
	int64_t ms;
	bool heeded =
	    version >= QUORUM_TIMEOUTS ? queue->type == QUEUE_QUORUM : version >= QUEUE_TIMEOUTS;
	if (heeded && table_get_int(&queue->arguments, "x-consumer-timeout", &ms) && ms >= 0 &&
	    ms <= INT64_MAX / NS_PER_MS)
		return ms * NS_PER_MS;
	return DEFAULT_TIMEOUT_NS;
}

static void warn_of_time(
    struct plan *plan, const struct conf_queue *queue, int64_t timeout_ns, int64_t longest_ns)
{
	char timeout[32], longest[32], what[300];
	(void)snprintf(what, sizeof(what), "queue %s", queue->label);
	text_show_duration(timeout_ns, timeout, sizeof(timeout));
	text_show_duration(longest_ns, longest, sizeof(longest));
	if (queue->time_limit_ns == 0)
		plan_add(plan, PLAN_WARNING, what,
		    "no time_limit: what runs for longer than the broker's consumer_timeout, %s as "
		    "far as known, is handed out a second time",
		    timeout);
	else
		plan_add(plan, PLAN_WARNING, what,
		    "time_limit and kill_after%s come to %s, the broker takes a message back after "
		    "its consumer_timeout, %s as far as known: a shorter time_limit%s, or a longer "
		    "consumer_timeout in rabbitmq.conf",
		    queue->prefetch > 1 ? ", times prefetch," : "", longest, timeout,
		    queue->prefetch > 1 ? ", prefetch = 1" : "");
}

/* With a prefetch a message waits, unacknowledged, behind those before it. */
static int64_t longest_hold(const struct conf_queue *queue)
{
	int64_t one_ns = queue->time_limit_ns + queue->kill_after_ns;
	return one_ns < INT64_MAX / queue->prefetch ? one_ns * queue->prefetch : INT64_MAX;
}

static bool has_timeout(const struct conf_queue *queue, int version)
{
	return !queue->no_ack && (version < QUORUM_TIMEOUTS || queue->type != QUEUE_CLASSIC);
}

void plan_judge_times(struct plan *plan, const struct conf *conf, int version)
{
	int64_t longest_ns = 0;
	size_t judged = 0;
	for (size_t i = 0; i < conf->n_queues; i++) {
		const struct conf_queue *queue = &conf->queues[i];
		if (!has_timeout(queue, version))
			continue;
		int64_t timeout_ns = timeout_of(queue, version), hold_ns = longest_hold(queue);
		judged++;
		if (hold_ns > longest_ns)
			longest_ns = hold_ns;
		if (queue->time_limit_ns == 0 || hold_ns >= timeout_ns)
			warn_of_time(plan, queue, timeout_ns, hold_ns);
	}
	char longest[32];
	text_show_duration(longest_ns, longest, sizeof(longest));
	if (judged > 0)
		plan_add(plan, PLAN_UNKNOWN, "the broker's consumer_timeout",
		    "AMQP does not tell it; 30m is assumed, RabbitMQ's default; a message is held "
		    "for at most %s (time_limit + kill_after)",
		    longest);
}

/* Where a quorum queue's messages go that the broker gives up. */
static const char *given_up(const struct conf_queue *queue)
{
	bool kept = (queue->broker_dead_letter && queue->dead_letter) ||
		    table_get(&queue->arguments, "x-dead-letter-exchange");
	return kept ? "dead-lettered" : "dropped";
}

static void judge_limit(
    struct plan *plan, const struct conf_queue *queue, const int64_t *limit, int version)
{
	char what[300];
	bool kept = strcmp(given_up(queue), "dropped") != 0;
	(void)snprintf(what, sizeof(what), "queue %s", queue->label);
	if (limit && *limit < 0 && version > 0 && version < DELIVERY_LIMITS)
		plan_add(plan, PLAN_WARNING, what,
		    "x-delivery-limit = -1 means no limit from RabbitMQ 4.0 on; this one gives a "
		    "message up when it comes back for the first time: take it out");
	else if (limit && *limit >= 0)
		plan_add(plan, kept ? PLAN_UNKNOWN : PLAN_WARNING, what,
		    "a message that came back more than %lld times is %s "
		    "(x-delivery-limit; a policy may say less)",
		    (long long)*limit, given_up(queue));
	else if (!limit && version >= DELIVERY_LIMITS)
		plan_add(plan, kept ? PLAN_UNKNOWN : PLAN_WARNING, what,
		    "no x-delivery-limit: %d is assumed, the default of RabbitMQ 4.0 and newer; "
		    "what "
		    "came back more often is %s%s",
		    DEFAULT_DELIVERY_LIMIT, given_up(queue),
		    kept ? "" : ": broker_dead_letter = true keeps it");
}

void plan_judge_deliveries(struct plan *plan, const struct conf *conf, int version)
{
	for (size_t i = 0; i < conf->n_queues; i++) {
		const struct conf_queue *queue = &conf->queues[i];
		int64_t limit;
		bool set = table_get_int(&queue->arguments, "x-delivery-limit", &limit);
		if (queue->type == QUEUE_QUORUM && queue->declare == DECLARE_ACTIVE)
			judge_limit(plan, queue, set ? &limit : NULL, version);
	}
}
