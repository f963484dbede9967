/* Our side of <warren/plugin.h>: the functions that plugins call, the handle behind them. Floor 1.
 */
#ifndef WARREN_HOST_H
#define WARREN_HOST_H

#include <warren/plugin.h>

#include "base.h"

/* The value of an option after checks and defaults; which member holds depends on its type. */
struct host_option {
	const char *name;
	enum warren_option_type type;
	bool boolean;
	int64_t integer; /* INT; DURATION in ms; SIZE in bytes */
	double real;
	const char *text;
	const char **list; /* n_list strings and a NULL */
	size_t n_list;
};

/* What a plugin as a whole sees of us. `why` is there during open() and thread_open() alone: it
 * takes the reason of a refusal, or what the plugin asked for that does not exist. */
struct warren_host {
	const struct warren_api *api; /* first: the header's inline wrappers call through it */
	const char *plugin;           /* its name, for log lines */
	const struct host_option *options;
	size_t n_options;
	char *why;
	size_t why_size;
};

/* The table that every handle carries. */
const struct warren_api *host_api(void);

/* "done", "retry", "dead", or "breach" for what is no verdict. */
const char *host_verdict_word(enum warren_verdict verdict);

#endif
