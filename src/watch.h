/*
 * The supervisor's watch over its own daemon: looks once a second, remembers, and shows whoever
 * asks how things stand now. Floor 3.
 */
#ifndef WARREN_WATCH_H
#define WARREN_WATCH_H

#include "trouble.h"

struct watch {
	struct view_subject subject;
	struct reload_note reload;
	struct history history;
	struct trouble_memory memory;
	int64_t ticked_ns;
	char headline[400]; /* the first trouble, escaped; "": none */
};

void watch_open(struct watch *watch, struct crew *crew);
void watch_close(struct watch *watch);

/* Call at least once a second. */
void watch_tick(struct watch *watch, bool checking, int64_t now_ns);

/* How a reload went. */
void watch_reloaded(struct watch *watch, enum reload_outcome outcome, const char *why);

/* How everything stands at this moment, with its troubles; view_destroy it. NULL when memory is
 * short. */
struct view *watch_look(struct watch *watch) MUST_CHECK;

#endif
