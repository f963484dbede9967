/* The options of a plugin: from text and configuration to checked, typed values. Floor 1. */
#ifndef WARREN_OPTION_H
#define WARREN_OPTION_H

#include "conf.h"
#include "host.h"

/* Where an option comes from, and so how strictly it is typed. */
enum option_source {
	OPTION_FROM_CONF, /* a value of libconfig's types, which must be the option's */
	OPTION_FROM_TEXT, /* a string for an option of any type: a command line */
};

/*
 * Reads `given` into `out`, which points into `arena`. False with a sentence in `why` that names
 * what was expected.
 */
bool option_read(struct arena *arena, const struct warren_option *option, enum option_source source,
    const struct value *given, struct host_option *out, char *why, size_t why_size) MUST_CHECK;

/* The option's default; false with `why` where the plugin's own table is wrong: a name, a type, a
 * default or a bound that does not read. A required option (no default) is left zero. */
bool option_default(struct arena *arena, const struct warren_option *option,
    struct host_option *out, char *why, size_t why_size) MUST_CHECK;

/* "string", "duration", ...; NULL for no known type. */
const char *option_type_word(enum warren_option_type type);

#endif
