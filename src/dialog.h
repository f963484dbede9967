/*
 * One question to the broker and its answer: for programs that have nothing else to do meanwhile.
 * Floor 2.
 */
#ifndef WARREN_DIALOG_H
#define WARREN_DIALOG_H

#include "broker.h"

enum { DIALOG_CHANNEL = 1, DIALOG_ANSWER_S = 30 };

/* The next event, or EV_NONE at the deadline. Serves heartbeats meanwhile. */
void dialog_next(struct broker *broker, int64_t deadline_ns, struct event *event);

/*
 * Waits for the answer to what was just sent. False when it did not come: then `event` says why
 * (EV_CLOSED_BY_BROKER, EV_LOST, or EV_NONE for DIALOG_ANSWER_S of silence).
 */
bool dialog_answer(struct broker *broker, enum event_kind kind, struct event *event) MUST_CHECK;

/* Opens DIALOG_CHANNEL; false as in dialog_answer. */
bool dialog_open(struct broker *broker, struct event *event) MUST_CHECK;

/* The exit code that a connection which cannot be had, or is lost, is worth. */
int dialog_exit_code(const struct broker_error *error);

#endif
