/*
 * One question to a running daemon through its control socket: a line there, an answer back. Floor
 * 4, for commands; never waits unless told to.
 */
#ifndef WARREN_ASK_H
#define WARREN_ASK_H

#include <poll.h>

#include "base.h"

/*
 * Where the daemon's socket is when nobody says it: in $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/warren
 * or /run/warren, the first of these that has one; when none has, the first of all. malloc'ed.
 */
char *ask_default_socket(void) __attribute__((returns_nonnull));

/* The words as the line that the daemon reads, malloc'ed; NULL when it is longer than it may be. */
char *ask_line(const char *const *words, size_t n);

enum ask_state {
	ASK_BUSY,
	ASK_ANSWERED, /* ask_answer */
	ASK_FAILED,   /* ask_why, ask_code */
};

struct ask;

/* Begins; `line` is copied. What cannot be done is said by the first step. */
struct ask *ask_start(const char *socket, const char *line) __attribute__((returns_nonnull));

/* What can be done without waiting. */
enum ask_state ask_step(struct ask *ask) MUST_CHECK;

/* What to wait for before the next step; returns how long at most, in milliseconds, -1 for ever. */
int ask_poll(const struct ask *ask, struct pollfd *p);

/* Steps until there is an answer, at most to the deadline: ASK_BUSY then. */
enum ask_state ask_wait(struct ask *ask, int64_t deadline_ns) MUST_CHECK;

/* The daemon's bytes, without the end of the line. */
struct bytes ask_answer(const struct ask *ask);
/* Why there is no answer and what helps, in words that are not escaped; and the exit code. */
const char *ask_why(const struct ask *ask);
int ask_code(const struct ask *ask);

void ask_end(struct ask *ask);

#endif
