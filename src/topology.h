/*
 * What must exist on the broker for a configuration to work: exchanges, queues, bindings, the delay
 * ladder, dead-letter queues. Made as lists of steps; link.c runs them, `warren topology` prints
 * them. Floor 2.
 */
#ifndef WARREN_TOPOLOGY_H
#define WARREN_TOPOLOGY_H

#include "conf.h"
#include "suspect.h"

enum step_kind {
	STEP_EXCHANGE,
	STEP_QUEUE,
	STEP_BIND,          /* queue `name` to exchange `source` with `key` */
	STEP_BIND_EXCHANGE, /* exchange `name` to exchange `source` with `key` */
};

struct step {
	enum step_kind kind;
	bool passive; /* check that it is there; never create */
	const char *name, *source, *key;
	const char *type; /* of an exchange */
	bool durable, auto_delete, exclusive, internal;
	struct table arguments;
	const char *why; /* what it is needed for, in words */
};

struct script {
	struct step *steps;
	size_t n;
	struct arena *arena;
	struct step spare; /* takes what there is no memory for */
	bool short_of_memory;
};

/* Scripts are NULL when memory is short. */

/* What `conf` needs for this queue alone: its exchanges, the queue, bindings, dead letters, return
 * queue. The name in STEP_BIND is empty for a server-named queue: the last one declared. */
struct script *topology_queue(const struct conf *conf, const struct conf_queue *queue) MUST_CHECK;

/* The delay ladder up to rung `top` (-1: none), lowest first, then what delivers and parks. */
struct script *topology_ladder(int top, bool passive) MUST_CHECK;

/*
 * Looks at how many messages wait: in the queue, called `name` by the broker, in its dead-letter
 * queue and in its quarantine, as far as it has them. Creates nothing.
 */
struct script *topology_look(const struct conf_queue *queue, const char *name) MUST_CHECK;

/* The return queue of any queue alone, and its binding to where the ladder ends. */
struct script *topology_return(const char *queue) MUST_CHECK;

/* Listed exchanges that no queue binds: they are there for publishers. */
struct script *topology_exchanges(const struct conf *conf) MUST_CHECK;

void script_free(struct script *script);

/* True when the queue has a place for crash suspects: it is acked, has a name, and is not
 * exclusive. */
bool topology_has_quarantine(const struct conf_queue *queue);
/* True when any has. */
bool topology_needs_quarantine(const struct conf *conf);

/* True when the queue's retries wait on the ladder. */
bool topology_uses_ladder(const struct conf_queue *queue);
/* The highest rung that the configuration's own back-offs can need; -1: no queue retries. */
int topology_top_rung(const struct conf *conf);
/* True when no queue that uses the ladder lets warren create it. */
bool topology_ladder_passive(const struct conf *conf);

/* One step in words: `queue digests (durable, x-queue-type=quorum)`. Not escaped. */
void step_show(const struct step *step, char *buf, size_t size);

#endif
