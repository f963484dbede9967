/*
 * The last words of a worker process that crashes: the thread that faulted marks its row of the
 * scoreboard, so that the supervisor knows whose job it was, and logs where it happened. Floor 2.
 */
#ifndef WARREN_CRASH_H
#define WARREN_CRASH_H

#include "score.h"

/*
 * Once, before the plugins are opened: handlers for the signals of faults, and for exit() where
 * nobody but us may call it. The scoreboard must outlive the process's threads.
 */
void crash_init(struct score *score);

/* Again when they are loaded, and when their open() has run, before any thread: frames in them and
 * in what they have loaded can be told from then on, and at exit() our handler comes before those
 * that they and their libraries have registered. */
void crash_know_plugins(void);

/* exit() is in order from now on. */
void crash_allow_exit(void);

/*
 * In the thread that owns `row`: a signal stack of its own, so that an overflow of its stack can be
 * told. False with errno when there is no memory for it.
 */
bool crash_thread_start(struct score_row *row) MUST_CHECK;
/* In the same thread, before it ends. */
void crash_thread_end(void);

#endif
