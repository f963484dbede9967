/*
 * Sends dead letters back to where they came from, one after the other. Floor 4, for `warren dead
 * retry`.
 *
 * A message goes the way of a retry: into QUEUE.retry, from where the broker brings it to QUEUE at
 * once. So warrend takes it for one that came back (job_came_back), and a task, and `route`, see
 * where it was first published. Publishing to that exchange again would reach whoever else is bound
 * there; publishing to QUEUE itself would forget it.
 */
#ifndef WARREN_REPLAY_H
#define WARREN_REPLAY_H

#include "edit.h"
#include "letter.h"
#include "tray.h"

struct replay {
	struct broker *broker;
	struct tray *tray;
	const struct conf *conf; /* NULL: none */
	const char *source;      /* the queue of the dead letters */
	const char *to;          /* --to: instead of where each came from; NULL: none */
	const char *edit;        /* --edit: the program for bodies; NULL: none */
	bool dry;                /* only says where it would go */

	bool in_doubt;           /* the last one was sent, and the broker has not said a word */
	struct replay_way *ways; /* that were looked for */
	size_t n_ways;
};

enum replayed {
	REPLAYED,       /* a queue has it: ack the dead one */
	REPLAY_LEFT,    /* nothing was changed: `why` says for what reason */
	REPLAY_REFUSED, /* likewise; the broker could not keep it, and may be able to later */
};

/*
 * `to` becomes the queue that it went to, or would go to; it holds until replay_fini. Returns
 * EXIT_OK, or an exit code after saying what is wrong: then it may be out all the same, once.
 */
int replay_letter(struct replay *replay, const struct letter *letter, const struct msg *msg,
    enum replayed *how, const char **to, char *why, size_t why_size) MUST_CHECK;

void replay_fini(struct replay *replay);

#endif
