/* A body's way through a program of the operator's. Floor 4, for `warren dead retry --edit`. */
#ifndef WARREN_EDIT_H
#define WARREN_EDIT_H

#include "base.h"

enum { EDIT_MAX = 128 * 1024 * 1024 }; /* bytes that a program may write */

struct edit {
	const char *command; /* for sh -c */
	/* Is called ten times a second meanwhile, and lets the program go on while it returns true.
	 */
	bool (*meanwhile)(void *arg);
	void *arg;
};

/*
 * Pipes `body` through the program. True with what it wrote in `out` (malloc'ed; the caller's) when
 * it ended with exit code 0; else false with the reason in `why`. It need not read all of the body.
 * Where `meanwhile` returns false, the program and all of its process group are killed.
 */
bool edit_run(const struct edit *edit, struct bytes body, struct bytes *out, char **out_alloc,
    char *why, size_t why_size) MUST_CHECK;

#endif
