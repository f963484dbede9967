/*
 * One question to the broker and its answer: for programs that have nothing else to do meanwhile.
 * Floor 2.
 */
#ifndef WARREN_ASK_H
#define WARREN_ASK_H

#include "broker.h"

enum { ASK_CHANNEL = 1, ASK_ANSWER_S = 30 };

/* The next event, or EV_NONE at the deadline. Serves heartbeats meanwhile. */
void ask_next(struct broker *broker, int64_t deadline_ns, struct event *event);

/*
 * Waits for the answer to what was just sent. False when it did not come: then `event` says why
 * (EV_CLOSED_BY_BROKER, EV_LOST, or EV_NONE for ASK_ANSWER_S of silence).
 */
bool ask_answer(struct broker *broker, enum event_kind kind, struct event *event) MUST_CHECK;

/* Opens ASK_CHANNEL; false as in ask_answer. */
bool ask_open(struct broker *broker, struct event *event) MUST_CHECK;

/* The exit code that a connection which cannot be had, or is lost, is worth. */
int ask_exit_code(const struct broker_error *error);

#endif
