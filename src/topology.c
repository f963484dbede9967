/* Turns the configuration into the steps that make its exchanges, queues and bindings. */
#include "topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ladder.h"

enum { STEPS_AT_FIRST = 8 };

static struct script *script_create(void)
{
	struct script *script = calloc(1, sizeof(*script));
	if (!script)
		return NULL;
	script->arena = arena_create();
	if (script->arena)
		return script;
	free(script);
	return NULL;
}

void script_free(struct script *script)
{
	if (!script)
		return;
	free(script->steps);
	arena_destroy(script->arena);
	free(script);
}

/* The end of every script: all of it or nothing. */
static struct script *whole(struct script *script)
{
	if (!script->short_of_memory)
		return script;
	script_free(script);
	return NULL;
}

/* Grows at 8, 16, 32, ... */
static bool make_room(struct script *script)
{
	size_t n = script->n;
	if (n != 0 && (n < STEPS_AT_FIRST || (n & (n - 1)) != 0))
		return true;
	struct step *grown =
	    reallocarray(script->steps, n ? n * 2 : STEPS_AT_FIRST, sizeof(*grown));
	if (grown)
		script->steps = grown;
	return grown != NULL;
}

static struct step *add(struct script *script, struct step step)
{
	if (script->short_of_memory || !make_room(script)) {
		script->short_of_memory = true;
		script->spare = step;
		return &script->spare;
	}
	script->steps[script->n] = step;
	return &script->steps[script->n++];
}

static const char *keep(struct script *script, const char *text)
{
	char *copy = arena_dup(script->arena, text, strlen(text));
	if (!copy)
		script->short_of_memory = true;
	return copy ? copy : "";
}

static void put_argument(
    struct script *script, struct step *step, const char *key, struct value value)
{
	struct table *table = &step->arguments;
	struct field *fields = arena_zalloc(script->arena, table->n + 1, sizeof(*fields));
	if (!fields) {
		script->short_of_memory = true;
		return;
	}
	if (table->n)
		memcpy(fields, table->fields, table->n * sizeof(*fields));
	fields[table->n] = (struct field){ bytes_of(keep(script, key)), value };
	*table = (struct table){ fields, table->n + 1 };
}

static void put_text(struct script *script, struct step *step, const char *key, const char *text)
{
	put_argument(script, step, key, V_STR(bytes_of(keep(script, text))));
}

/* Dead-lettering that loses nothing when the broker is killed. */
static void make_lossless(struct script *script, struct step *step, const char *exchange)
{
	put_text(script, step, "x-queue-type", "quorum");
	put_text(script, step, "x-dead-letter-exchange", exchange);
	put_text(script, step, "x-dead-letter-strategy", "at-least-once");
	put_text(script, step, "x-overflow", "reject-publish");
}

static const char *queue_type_word(enum conf_queue_type type)
{
	return type == QUEUE_QUORUM ? "quorum" : "classic";
}

/* ---- what one queue needs ---- */

bool topology_uses_ladder(const struct conf_queue *queue)
{
	return queue->retry.attempts > 1 && !queue->no_ack && !queue->exclusive &&
	       queue->name[0] != '\0';
}

bool topology_has_quarantine(const struct conf_queue *queue)
{
	return !queue->no_ack && !queue->exclusive && queue->name[0] != '\0';
}

bool topology_needs_quarantine(const struct conf *conf)
{
	for (size_t i = 0; i < conf->n_queues; i++)
		if (topology_has_quarantine(&conf->queues[i]))
			return true;
	return false;
}

static const struct conf_exchange *listed_exchange(const struct conf *conf, const char *name)
{
	for (size_t i = 0; i < conf->n_exchanges; i++)
		if (strcmp(conf->exchanges[i].name, name) == 0)
			return &conf->exchanges[i];
	return NULL;
}

static void add_exchange(
    struct script *script, const struct conf_exchange *exchange, const char *why)
{
	if (exchange->declare == DECLARE_OFF)
		return;
	add(script, (struct step){ .kind = STEP_EXCHANGE,
			.name = exchange->name,
			.type = exchange->type,
			.passive = exchange->declare == DECLARE_PASSIVE,
			.durable = exchange->durable,
			.auto_delete = exchange->auto_delete,
			.internal = exchange->internal,
			.arguments = exchange->arguments,
			.why = why });
}

static void add_bound_exchanges(
    struct script *script, const struct conf *conf, const struct conf_queue *queue)
{
	for (size_t i = 0; i < queue->n_bindings; i++) {
		const char *name = queue->bindings[i].exchange;
		const struct conf_exchange *exchange = listed_exchange(conf, name);
		bool seen = false;
		for (size_t j = 0; j < i; j++)
			seen = seen || strcmp(queue->bindings[j].exchange, name) == 0;
		if (exchange && !seen)
			add_exchange(script, exchange, "the queue is bound to it");
	}
}

/* RabbitMQ 4 drops what was delivered 20 times, unless it knows where to put it. */
static void keep_what_the_broker_gives_up(
    struct script *script, struct step *step, const struct conf_queue *queue)
{
	put_text(script, step, "x-dead-letter-exchange", "");
	put_text(script, step, "x-dead-letter-routing-key", queue->dead_letter);
}

static void add_work_queue(struct script *script, const struct conf_queue *queue)
{
	struct step *step = add(script, (struct step){ .kind = STEP_QUEUE,
					    .name = queue->name,
					    .passive = queue->declare == DECLARE_PASSIVE,
					    .durable = queue->durable,
					    .exclusive = queue->exclusive,
					    .auto_delete = queue->auto_delete,
					    .arguments = queue->arguments,
					    .why = "its messages run tasks" });
	if (queue->type != QUEUE_UNSET)
		put_text(script, step, "x-queue-type", queue_type_word(queue->type));
	if (queue->type == QUEUE_QUORUM && queue->broker_dead_letter && queue->dead_letter &&
	    !table_get(&queue->arguments, "x-dead-letter-exchange"))
		keep_what_the_broker_gives_up(script, step, queue);
}

static void add_bindings(struct script *script, const struct conf_queue *queue)
{
	for (size_t i = 0; i < queue->n_bindings; i++) {
		const struct conf_binding *binding = &queue->bindings[i];
		for (size_t k = 0; k < binding->n_keys; k++)
			add(script, (struct step){ .kind = STEP_BIND,
					.name = queue->name,
					.source = binding->exchange,
					.key = binding->keys[k],
					.arguments = binding->arguments,
					.why = "brings it its messages" });
	}
}

static void add_dead_letters(struct script *script, const struct conf_queue *queue, bool passive)
{
	if (!queue->dead_letter)
		return;
	struct step *step = add(script, (struct step){ .kind = STEP_QUEUE,
					    .name = queue->dead_letter,
					    .passive = passive,
					    .durable = true,
					    .why = "keeps its dead letters" });
	put_text(script, step, "x-queue-type", queue_type_word(queue->dead_letter_type));
}

/* A work queue that is full or gone holds up its own return queue alone, never a rung. */
static void add_return_queue(struct script *script, const char *queue, bool passive)
{
	char address[LADDER_ADDRESS_LEN + 1], key[LADDER_KEY_SIZE];
	char *name = arena_printf(script->arena, "%s" LADDER_RETURN_SUFFIX, queue);
	if (!name || !ladder_address(bytes_of(queue), address)) {
		script->short_of_memory = true;
		return;
	}
	struct step *step = add(script, (struct step){ .kind = STEP_QUEUE,
					    .name = name,
					    .passive = passive,
					    .durable = true,
					    .why = "brings its retries back" });
	make_lossless(script, step, "");
	put_text(script, step, "x-dead-letter-routing-key", queue);
	put_argument(script, step, "x-message-ttl", V_INT(0));
	if (passive)
		return;

	ladder_delivery_binding(address, key);
	add(script, (struct step){ .kind = STEP_BIND,
			.name = name,
			.source = LADDER_DELIVER,
			.key = keep(script, key),
			.why = "retries that have waited leave the ladder here" });
}

/* It holds what the work queue held, so it keeps it as safe. */
static void add_quarantine(struct script *script, const struct conf_queue *queue, bool passive)
{
	char *name = arena_printf(script->arena, "%s" QUARANTINE_SUFFIX, queue->name);
	if (!name) {
		script->short_of_memory = true;
		return;
	}
	struct step *step = add(script, (struct step){ .kind = STEP_QUEUE,
					    .name = name,
					    .passive = passive,
					    .durable = true,
					    .why = "its crash suspects run alone from here" });
	put_text(script, step, "x-queue-type", queue_type_word(queue->type));
	if (queue->type == QUEUE_QUORUM && queue->broker_dead_letter && queue->dead_letter)
		keep_what_the_broker_gives_up(script, step, queue);
}

struct script *topology_queue(const struct conf *conf, const struct conf_queue *queue)
{
	struct script *script = script_create();
	bool passive = queue->declare != DECLARE_ACTIVE;
	if (!script)
		return NULL;
	if (!passive)
		add_bound_exchanges(script, conf, queue);
	if (queue->declare != DECLARE_OFF)
		add_work_queue(script, queue);
	if (!passive)
		add_bindings(script, queue);
	add_dead_letters(script, queue, passive);
	if (topology_has_quarantine(queue))
		add_quarantine(script, queue, passive);
	if (topology_uses_ladder(queue))
		add_return_queue(script, queue->name, passive);
	return whole(script);
}

static void add_look(struct script *script, const char *name)
{
	(void)add(script, (struct step){ .kind = STEP_QUEUE,
			      .name = arena_dup(script->arena, name, strlen(name)),
			      .passive = true,
			      .why = "how many wait there" });
}

struct script *topology_look(const struct conf_queue *queue, const char *name)
{
	struct script *script = script_create();
	if (!script)
		return NULL;
	add_look(script, name);
	if (queue->dead_letter)
		add_look(script, queue->dead_letter);
	if (topology_has_quarantine(queue))
		add_quarantine(script, queue, true);
	return whole(script);
}

struct script *topology_return(const char *queue)
{
	struct script *script = script_create();
	if (!script)
		return NULL;
	add_return_queue(script, queue, false);
	return whole(script);
}

struct script *topology_exchanges(const struct conf *conf)
{
	struct script *script = script_create();
	for (size_t i = 0; script && i < conf->n_exchanges; i++) {
		const char *name = conf->exchanges[i].name;
		bool bound = false;
		for (size_t q = 0; q < conf->n_queues; q++)
			for (size_t b = 0; b < conf->queues[q].n_bindings; b++)
				bound = bound || (conf->queues[q].declare == DECLARE_ACTIVE &&
						     strcmp(conf->queues[q].bindings[b].exchange,
							 name) == 0);
		if (!bound)
			add_exchange(script, &conf->exchanges[i], "listed for publishers");
	}
	return script ? whole(script) : NULL;
}

/* ---- the delay ladder ---- */

static struct step *add_topic_exchange(
    struct script *script, const char *name, bool passive, const char *why)
{
	return add(script, (struct step){ .kind = STEP_EXCHANGE,
			       .name = name,
			       .type = "topic",
			       .passive = passive,
			       .durable = true,
			       .why = why });
}

static void add_parking(struct script *script, bool passive)
{
	struct step *step = add(script, (struct step){ .kind = STEP_EXCHANGE,
					    .name = LADDER_PARKED,
					    .type = "fanout",
					    .passive = passive,
					    .durable = true,
					    .why = "takes delayed messages whose queue is gone" });
	step = add(script, (struct step){ .kind = STEP_QUEUE,
			       .name = LADDER_PARKED,
			       .passive = passive,
			       .durable = true,
			       .why = "keeps delayed messages whose queue is gone" });
	put_text(script, step, "x-queue-type", "quorum");
	if (!passive)
		add(script, (struct step){ .kind = STEP_BIND,
				.name = LADDER_PARKED,
				.source = LADDER_PARKED,
				.key = "",
				.why = "parks them" });
}

static void add_rung(struct script *script, int rung, bool passive)
{
	char name[LADDER_NAME_SIZE], below[LADDER_NAME_SIZE] = LADDER_DELIVER, key[LADDER_KEY_SIZE];
	ladder_rung_name(rung, name);
	if (rung > 0)
		ladder_rung_name(rung - 1, below);
	const char *own = keep(script, name), *next = keep(script, below);

	(void)add_topic_exchange(script, own, passive, "a rung of the delay ladder");
	struct step *step = add(script, (struct step){ .kind = STEP_QUEUE,
					    .name = own,
					    .passive = passive,
					    .durable = true,
					    .why = "delayed messages wait here" });
	make_lossless(script, step, next);
	put_argument(script, step, "x-message-ttl", V_INT(ladder_rung_ttl_ms(rung)));
	if (passive)
		return;

	ladder_binding(rung, 1, key);
	add(script, (struct step){ .kind = STEP_BIND,
			.name = own,
			.source = own,
			.key = keep(script, key),
			.why = "those whose delay has this bit wait" });
	ladder_binding(rung, 0, key);
	add(script, (struct step){ .kind = STEP_BIND_EXCHANGE,
			.name = next,
			.source = own,
			.key = keep(script, key),
			.why = "the others go on at once" });
}

struct script *topology_ladder(int top, bool passive)
{
	struct script *script = script_create();
	if (top < 0 || !script)
		return script;
	CHECK(top < LADDER_RUNGS);
	add_parking(script, passive);
	struct step *deliver = add_topic_exchange(
	    script, LADDER_DELIVER, passive, "delayed messages leave the ladder here");
	put_text(script, deliver, "alternate-exchange", LADDER_PARKED);
	/* Lowest first: a binding to a rung that is not there yet would leave it half made. */
	for (int rung = 0; rung <= top; rung++)
		add_rung(script, rung, passive);
	return whole(script);
}

int topology_top_rung(const struct conf *conf)
{
	int top = -1;
	for (size_t i = 0; i < conf->n_queues; i++) {
		const struct conf_queue *queue = &conf->queues[i];
		if (!topology_uses_ladder(queue))
			continue;
		/* With jitter a delay may pass its maximum; a timed-out job waits kill_after at
		 * least. */
		int64_t longest =
		    (int64_t)((double)queue->retry.max_ns * (1.0 + queue->retry.jitter));
		if (longest < queue->kill_after_ns)
			longest = queue->kill_after_ns;
		int rung = ladder_top_rung(longest);
		if (rung > top)
			top = rung;
	}
	return top;
}

bool topology_ladder_passive(const struct conf *conf)
{
	for (size_t i = 0; i < conf->n_queues; i++)
		if (topology_uses_ladder(&conf->queues[i]) &&
		    conf->queues[i].declare == DECLARE_ACTIVE)
			return false;
	return true;
}

/* ---- in words ---- */

static size_t show_flags(const struct step *step, char *buf, size_t size)
{
	size_t len = (size_t)snprintf(buf, size, "%s%s%s%s%s%s", step->passive ? " must exist" : "",
	    step->type ? " " : "", step->type ? step->type : "",
	    step->durable ? " durable" : " transient", step->exclusive ? " exclusive" : "",
	    step->auto_delete ? " auto_delete" : "");
	return len < size ? len : size - 1;
}

static void show_arguments(const struct table *table, char *buf, size_t size)
{
	size_t len = 0;
	buf[0] = '\0';
	for (size_t i = 0; i < table->n && len + 1 < size; i++) {
		char value[128];
		(void)value_show(&table->fields[i].value, value, sizeof(value));
		int n = snprintf(buf + len, size - len, " %.*s=%s", (int)table->fields[i].key.len,
		    table->fields[i].key.data, value);
		if (n < 0)
			return;
		len += (size_t)n;
	}
}

void step_show(const struct step *step, char *buf, size_t size)
{
	char arguments[512], flags[96];
	show_arguments(&step->arguments, arguments, sizeof(arguments));
	(void)show_flags(step, flags, sizeof(flags));
	switch (step->kind) {
	case STEP_EXCHANGE:
		(void)snprintf(buf, size, "exchange %s%s%s", step->name, flags, arguments);
		break;
	case STEP_QUEUE:
		(void)snprintf(buf, size, "queue %s%s%s",
		    step->name[0] ? step->name : "(named by the server)", flags, arguments);
		break;
	case STEP_BIND:
		(void)snprintf(buf, size, "bind queue %s to exchange %s with key \"%s\"%s",
		    step->name[0] ? step->name : "(named by the server)", step->source, step->key,
		    arguments);
		break;
	case STEP_BIND_EXCHANGE:
		(void)snprintf(buf, size, "bind exchange %s to exchange %s with key \"%s\"%s",
		    step->name, step->source, step->key, arguments);
		break;
	}
}
