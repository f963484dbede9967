/* The table of all settings (options.def) as data. Floor 1. */
#ifndef WARREN_SETTINGS_H
#define WARREN_SETTINGS_H

#include "conf.h"

enum setting_kind {
	KIND_STRING,
	KIND_FILE,   /* relative to the configuration's folder */
	KIND_SOCKET, /* a file, too; "" is none */
	KIND_BOOL,
	KIND_INT,
	KIND_REAL,
	KIND_DURATION, /* text with a unit, into nanoseconds */
	KIND_SIZE,     /* text with a unit, into bytes */
	KIND_WORD,     /* one of a few words, into an enum or bool */
	KIND_ROUTE,    /* into conf_queue's route and route_header */
	KIND_STRINGS,
	KIND_URLS,
	KIND_TABLE,   /* AMQP arguments */
	KIND_OPTIONS, /* a plugin's own options, read as they stand */
	KIND_GROUP,
	KIND_GROUPS,
	KIND_PART, /* a group whose settings are read into its parent's struct */
};

#define SECTION(id, type, path, prose) SECTION_##id,
enum section_id {
#include "options.def"
	N_SECTIONS
};

struct setting {
	enum section_id section;
	const char *name;
	enum setting_kind kind;
	enum section_id child;  /* GROUP, GROUPS, PART */
	size_t offset, size;    /* of the field in the section's struct */
	size_t count_offset;    /* lists: of n_field, a size_t */
	size_t line_offset;     /* GROUPS: of `line` in an item */
	const char *fallback;   /* NULL: required; "": none; "(...)": computed by conf_check.c */
	const char *low, *high; /* "": unbounded */
	const char *of;         /* WORD: its words */
	const char *prose;
};

struct section {
	const char *path; /* "broker.tls"; of a list's items, the list's path; "" for the file */
	const char *prose;
	size_t size; /* of its struct */
};

extern const struct section sections[N_SECTIONS];
extern const struct setting settings[];
extern const size_t n_settings;

/* "a string", "a duration such as \"10s\"": what a setting of that kind must be. */
const char *setting_kind_words(enum setting_kind kind);

#endif
