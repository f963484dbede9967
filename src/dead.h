/*
 * Goes through a queue of dead letters and does with those that are meant what the operator orders.
 * Floor 4, for `warren dead`.
 */
#ifndef WARREN_DEAD_H
#define WARREN_DEAD_H

#include "broker.h"
#include "letter.h"

enum dead_act { LIST, SHOW, RETRY, DROP };

enum { DEAD_NAMED_MAX = 1000, DEAD_HEADERS_MAX = 64, DEAD_RATE_MAX = 100000 };

struct dead_order {
	enum dead_act act;
	const char *queue; /* of work, in the configuration; or of dead letters */

	/* Which are meant: those of these numbers or ids, where there are any, that pass the
	 * filter. */
	uint64_t numbers[DEAD_NAMED_MAX]; /* places in the queue, from 1 */
	const char *ids[DEAD_NAMED_MAX];
	size_t n_numbers, n_ids;
	uint64_t last; /* the highest of the numbers */
	struct letter_filter filter;
	struct letter_header headers[DEAD_HEADERS_MAX]; /* of the filter */
	bool choice;                                    /* any of these: not simply all */
	int64_t limit;                                  /* so many at most; -1: all */

	bool json;        /* LIST, SHOW */
	bool dry;         /* RETRY, DROP: only says what it would do */
	bool yes;         /* DROP: does not ask on the terminal */
	int64_t rate;     /* RETRY: so many a second at most; -1: as many as there can be */
	const char *to;   /* RETRY: in this queue; NULL: in the one that each came from */
	const char *edit; /* RETRY: the program for the bodies; NULL: they stay as they are */
};

/* `conf` may be NULL. Returns the exit code, after saying what is to be said. */
int dead_carry_out(
    struct broker *broker, const struct conf *conf, const struct dead_order *order) MUST_CHECK;

#endif
