/*
 * What comes of comparing a configuration with a broker: each part with its state, why, and the
 * remedy. Data and words; probe.c asks the broker. Floor 2.
 */
#ifndef WARREN_PLAN_H
#define WARREN_PLAN_H

#include "topology.h"

enum plan_state {
	PLAN_HEADING, /* no part: what the parts below belong to */
	PLAN_ANSWERS, /* a broker: no part either */
	PLAN_THERE,
	PLAN_ALLOWED,
	PLAN_TO_CREATE,
	PLAN_TO_BIND, /* or it is bound already: AMQP does not tell */
	PLAN_UNKNOWN, /* AMQP cannot tell; `why` says what is assumed */
	PLAN_WARNING, /* warrend runs all the same */
	/* With any of these warrend cannot do its work. */
	PLAN_MISSING,
	PLAN_CLASHES,
	PLAN_REFUSED,
};

struct finding {
	enum plan_state state;
	size_t parts; /* how many things this line stands for */
	char *what, *why;
};

/* Zero-initialise. */
struct plan {
	struct finding *findings;
	size_t n;
};

/* `what` is copied; the reason may be "". */
void plan_add(struct plan *plan, enum plan_state state, const char *what, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* Of the findings from `first` on, makes one of all that share a state which is no trouble. `what`
 * says of what: "of the delay ladder". */
void plan_fold(struct plan *plan, size_t first, const char *what);

/* Writes a line for each finding, escaped, and one that sums them up. */
void plan_print(const struct plan *plan, void *stream);

/* EXIT_OK, or EXIT_CONFIG where warrend cannot do its work. */
int plan_exit_code(const struct plan *plan);

void plan_free(struct plan *plan);

/* ---- how a thing on the broker differs ---- */

/* The one difference that RabbitMQ names when it refuses a declaration (406). */
struct clash {
	char argument[128]; /* "durable", "type", "x-message-ttl" */
	bool is_set;        /* it has a value there */
	char current[256];
	char type[32]; /* of that value, in RabbitMQ's words; "": the same as ours */
};

/* Reads RabbitMQ's "inequivalent arg ..." about `step`. False when it says something else. */
bool clash_read(struct clash *clash, const struct step *step, const char *text) MUST_CHECK;

/* Changes the step so that it agrees in this point, to learn of the next one. What it needs is
 * taken from the arena. False when our words cannot say what is there. */
bool clash_adopt(const struct clash *clash, struct step *step, struct arena *arena) MUST_CHECK;

/* "with x-queue-type = classic, the configuration says quorum", of what exists. */
void clash_show(const struct clash *clash, const struct step *step, char *buf, size_t size);

/* What an operator can set instead of deleting the thing: `type = "classic"`. `queue` is the one
 * whose part it is, or NULL. Empty where the configuration has no word for it. */
void clash_remedy(const struct clash *clash, const struct step *step,
    const struct conf_queue *queue, char *buf, size_t size);

/* ---- what follows from the configuration and the broker's version alone ---- */

/* The broker's consumer timeout against time limits; `version` as broker_version. */
void plan_judge_times(struct plan *plan, const struct conf *conf, int version);

/* How often the broker hands out a message of a quorum queue, and where it goes then. */
void plan_judge_deliveries(struct plan *plan, const struct conf *conf, int version);

#endif
