/*
 * What is not as configured, in words, with what to do about it; and the memory of it: what began
 * and what healed is logged once. Floor 3.
 */
#ifndef WARREN_TROUBLE_H
#define WARREN_TROUBLE_H

#include "view.h"

enum trouble_severity { TROUBLE_WARNING, TROUBLE_ERROR };

/* The name of a trouble is its subject with `what`: it holds no number, so it stays while it lasts.
 */
struct trouble {
	const char *subject; /* "queue images" */
	const char *what;    /* "not consuming" */
	enum trouble_severity severity;
	const char *why, *remedy;
	int64_t since_ns;
	int64_t next_try_ns; /* 0: nothing is tried */
};

enum { TROUBLE_NAME_MAX = 400, TROUBLES_HEALED = 16, TROUBLES_OPEN = 64 };

struct trouble_name {
	char subject[TROUBLE_NAME_MAX], what[64];
};

struct healed {
	struct trouble_name name;
	int64_t began_ns, ended_ns;
};

/* Zero-initialise. */
struct trouble_memory {
	struct open_trouble {
		struct trouble_name name;
		int64_t began_ns;
		bool seen;
	} open[TROUBLES_OPEN]; /* more at once are told, but not remembered */
	size_t n_open;
	struct healed healed[TROUBLES_HEALED]; /* newest first */
	size_t n_healed;
};

/*
 * Finds the troubles of a view, the gravest first, and whether it is ready: it runs, and nothing is
 * an error. Pure, but for memory from the view's arena; false when that is short.
 */
bool trouble_find(struct view *view) MUST_CHECK;

/* Since when, as far as it is remembered, and what has healed. */
void trouble_recall(const struct trouble_memory *memory, struct view *view);

/* Once a second, for a view with troubles: logs and remembers what is new and what is gone. */
void trouble_tick(struct trouble_memory *memory, const struct view *view);

/* One line a trouble for people, escaped; "starting" and the like where it is not ready without
 * one. malloc'ed; NULL when memory is short. */
char *trouble_text(const struct view *view) MUST_CHECK;

#endif
