/* One at a time, with a wait that can be broken off. Floor 1. */
#ifndef WARREN_TURN_H
#define WARREN_TURN_H

#include <pthread.h>

#include "base.h"

struct turn {
	pthread_mutex_t lock;
	pthread_cond_t freed;
	bool taken;
};

void turn_init(struct turn *turn);
void turn_fini(struct turn *turn);

/* Waits until it is the caller's turn: true; or until leave(arg), asked ten times a second, says
 * that there is no point any more: false. `leave` may be NULL. */
bool turn_take(struct turn *turn, bool (*leave)(void *arg), void *arg);
void turn_give(struct turn *turn);

#endif
