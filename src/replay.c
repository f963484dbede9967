/* Finds the way back of a dead letter, has its body edited, and publishes its copy. */
#include "replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "cmd.h"
#include "ladder.h"
#include "text.h"

/* How a queue is reached. */
struct replay_way {
	char *queue;
	char *key;                      /* of the default exchange: its return queue, or itself */
	char why[BROKER_TEXT_MAX + 64]; /* it cannot be reached; "": it can */
};

void replay_fini(struct replay *r)
{
	for (size_t i = 0; i < r->n_ways; i++) {
		free(r->ways[i].queue);
		free(r->ways[i].key);
	}
	free(r->ways);
}

/* ---- ways ---- */

static const struct conf_queue *listed(const struct conf *conf, const char *name)
{
	for (size_t i = 0; conf && i < conf->n_queues; i++)
		if (strcmp(conf->queues[i].name, name) == 0)
			return &conf->queues[i];
	return NULL;
}

/* A queue that never retries has no return queue until its first dead letter is replayed. */
static int make_return_queue(struct replay *r, struct replay_way *way, char *key)
{
	const struct conf_queue *queue = listed(r->conf, way->queue);
	if (!queue || queue->declare != DECLARE_ACTIVE) {
		cmd_say("there is no queue %s: tasks will see replayed messages as published to "
			"queue %s itself",
		    key, way->queue);
		free(key);
		return EXIT_OK;
	}
	int code = EXIT_OK;
	if (!r->dry) {
		struct script *script = or_die(topology_return(way->queue));
		struct event event;
		code = cmd_declare(r->broker, &script->steps[0], &event);
		script_free(script);
	}
	free(way->key);
	way->key = key;
	return code;
}

/* Where a dead letter came from, and what the configuration lists, is one of warren's queues. */
static bool is_ours(const struct replay *r, const char *queue)
{
	return !r->to || listed(r->conf, queue);
}

static int find_return_queue(struct replay *r, struct replay_way *way)
{
	struct event event;
	char *key = xasprintf("%s" LADDER_RETURN_SUFFIX, way->queue);
	bool possible = strlen(key) <= BROKER_NAME_MAX;
	int code = possible ? cmd_look(r->broker, key, &event) : EXIT_OK;
	if (code != EXIT_OK || !possible) {
		free(key);
		return code;
	}
	if (event.kind != EV_QUEUE_OK)
		return make_return_queue(r, way, key);
	free(way->key);
	way->key = key;
	return EXIT_OK;
}

static int explore(struct replay *r, struct replay_way *way)
{
	struct event event;
	if (strcmp(way->queue, r->source) == 0) {
		(void)snprintf(way->why, sizeof(way->why), "it would go to where it is");
		return EXIT_OK;
	}
	/* 4.3 closes the connection over a name that only looks like that of direct replies. */
	if (strncmp(way->queue, "amq.", 4) == 0) {
		(void)snprintf(way->why, sizeof(way->why),
		    "names that begin with amq. are the broker's own, and no work queues");
		return EXIT_OK;
	}
	int code = tray_pause(r->tray);
	if (code == EXIT_OK)
		code = cmd_look(r->broker, way->queue, &event);
	if (code != EXIT_OK)
		return code;
	if (event.kind != EV_QUEUE_OK) {
		(void)snprintf(way->why, sizeof(way->why), "%s", event.text);
		return EXIT_OK;
	}
	return is_ours(r, way->queue) ? find_return_queue(r, way) : EXIT_OK;
}

/* The way to that queue, which is looked for once. */
static int find_way(struct replay *r, struct bytes queue, const struct replay_way **found)
{
	for (size_t i = 0; i < r->n_ways; i++)
		if (bytes_is(queue, r->ways[i].queue)) {
			*found = &r->ways[i];
			return EXIT_OK;
		}
	r->ways = or_die(reallocarray(r->ways, r->n_ways + 1, sizeof(*r->ways)));
	struct replay_way *way = &r->ways[r->n_ways++];
	*way = (struct replay_way){ .queue = xasprintf("%.*s", (int)queue.len, queue.data) };
	way->key = xstrdup(way->queue);
	*found = way;
	return explore(r, way);
}

/* ---- bodies ---- */

static bool meanwhile(void *arg)
{
	struct replay *r = arg;
	return tray_idle(r->tray, clock_mono_ns()) == EXIT_OK && !cmd_stopped();
}

static bool edit_body(
    struct replay *r, struct outgoing *out, char **edited, char *why, size_t why_size)
{
	const struct edit edit = { .command = r->edit, .meanwhile = meanwhile, .arg = r };
	return !r->edit || edit_run(&edit, out->body, &out->body, edited, why, why_size);
}

/* ---- all of it ---- */

static enum replayed understand(enum posted posted, char *why, size_t size)
{
	switch (posted) {
	case POSTED:
		return REPLAYED;
	case POST_UNROUTABLE:
		(void)snprintf(why, size, "no queue took it");
		return REPLAY_LEFT;
	case POST_INVALID:
		(void)snprintf(why, size, "it cannot be said in AMQP");
		return REPLAY_LEFT;
	case POST_REFUSED:
		break;
	}
	(void)snprintf(why, size, "the broker refused it, as it does when a queue is full");
	return REPLAY_REFUSED;
}

static int post(struct replay *r, const struct replay_way *way, struct outgoing *out,
    enum replayed *how, char *why, size_t why_size)
{
	enum posted posted;
	char *edited = NULL;
	*how = REPLAY_LEFT;
	if (!edit_body(r, out, &edited, why, why_size))
		return EXIT_OK;
	out->exchange = bytes_of("");
	out->routing_key = bytes_of(way->key);
	r->in_doubt = true;
	int code = tray_post(r->tray, out, &posted);
	free(edited);
	if (code != EXIT_OK)
		return code;
	r->in_doubt = false;
	*how = understand(posted, why, why_size);
	return EXIT_OK;
}

/* A name that AMQP could not carry, or that no queue of ours has, is forged. */
static bool is_name(struct bytes queue)
{
	return queue.len > 0 && !memchr(queue.data, '\0', queue.len) && text_is_utf8(queue);
}

int replay_letter(struct replay *r, const struct letter *letter, const struct msg *msg,
    enum replayed *how, const char **to, char *why, size_t why_size)
{
	struct bytes queue = r->to ? bytes_of(r->to) : letter->queue;
	const struct replay_way *way = NULL;
	struct outgoing out;
	*how = REPLAY_LEFT;
	if (msg->flaw != MSG_SOUND && msg->flaw != MSG_TOO_LARGE) {
		(void)snprintf(why, why_size, "%s", msg_flaw_words(msg->flaw));
		return EXIT_OK;
	}
	if (!is_name(queue)) {
		(void)snprintf(
		    why, why_size, "it does not say where it came from; --to QUEUE sends it");
		return EXIT_OK;
	}
	int code = find_way(r, queue, &way);
	if (code != EXIT_OK)
		return code;
	if (way->why[0]) {
		(void)snprintf(why, why_size, "%s", way->why);
		return EXIT_OK;
	}
	*to = way->queue;
	*how = REPLAYED;
	if (r->dry)
		return EXIT_OK;
	struct arena *arena = or_die(arena_create());
	or_die(letter_replay(letter, msg, bytes_of(way->queue), clock_wall_ms(), arena, &out)
		   ? arena
		   : NULL);
	code = post(r, way, &out, how, why, why_size);
	arena_destroy(arena);
	return code;
}
