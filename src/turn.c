/* A lock whose waiters look up now and then. */
#include "turn.h"

#include <time.h>

#include "clock.h"

#define LOOK_NS (100 * NS_PER_MS)

void turn_init(struct turn *turn)
{
	pthread_condattr_t attr;

	PTOK(pthread_condattr_init(&attr));
	PTOK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	PTOK(pthread_cond_init(&turn->freed, &attr));
	PTOK(pthread_condattr_destroy(&attr));
	PTOK(pthread_mutex_init(&turn->lock, NULL));
	turn->taken = false;
}

void turn_fini(struct turn *turn)
{
	PTOK(pthread_cond_destroy(&turn->freed));
	PTOK(pthread_mutex_destroy(&turn->lock));
}

bool turn_take(struct turn *turn, bool (*leave)(void *arg), void *arg)
{
	PTOK(pthread_mutex_lock(&turn->lock));
	while (turn->taken && !(leave && leave(arg))) {
		int64_t at_ns = clock_mono_ns() + LOOK_NS;
		const struct timespec at = { .tv_sec = (time_t)(at_ns / NS_PER_S),
			.tv_nsec = (long)(at_ns % NS_PER_S) };

		(void)pthread_cond_timedwait(&turn->freed, &turn->lock, &at);
	}
	bool mine = !turn->taken;
	turn->taken = true;
	PTOK(pthread_mutex_unlock(&turn->lock));
	return mine;
}

void turn_give(struct turn *turn)
{
	PTOK(pthread_mutex_lock(&turn->lock));
	turn->taken = false;
	PTOK(pthread_cond_signal(&turn->freed));
	PTOK(pthread_mutex_unlock(&turn->lock));
}
