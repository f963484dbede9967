/* What the files of the configuration share, and nobody else: conf.c, conf_read.c, conf_check.c,
 * conf_scan.c, conf_file.c. Floor 1. */
#ifndef WARREN_CONF_READ_H
#define WARREN_CONF_READ_H

#include "conf.h"

/* One reading of one configuration. */
struct reader {
	const char *path;   /* stands in messages */
	const char *folder; /* absolute: what relative file names are relative to */
	struct arena *arena;
	struct conf_errors *errors, *warnings; /* warnings may be NULL */
	struct config_t *source;               /* libconfig's tree, while it stands */
};

void reader_wrong(struct reader *r, unsigned line, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool reader_has_wrong(const struct reader *r, unsigned line);
void reader_warn(struct reader *r, unsigned line, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Memory that lives as long as the configuration; short memory ends the process, as in xcalloc. */
void *reader_zalloc(struct reader *r, size_t n, size_t size) __attribute__((returns_nonnull));
char *reader_printf(struct reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3)
    __attribute__((returns_nonnull));

/* `name` as an absolute path, seen from `folder`. */
char *reader_path(struct reader *r, const char *folder, const char *name)
    __attribute__((returns_nonnull));

/*
 * What libconfig's scanner swallows or reads differently from version to version: @include, NUL
 * bytes in strings, comments and strings without an end, integers that do not fit or begin with a
 * zero. False when the text must not be given to libconfig at all.
 */
bool conf_scan(struct reader *r, const char *text) MUST_CHECK;

/* Reads the text into `conf` by the table of options.def. False: a syntax error, nothing was read.
 */
bool conf_read(struct reader *r, const char *text, struct conf *conf) MUST_CHECK;

/* The line of a setting, "queues.[3].retry"; 0 when the file does not hold it. Only before
 * conf_read_done(). */
unsigned conf_line(const struct reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void conf_read_done(struct reader *r);

/* What settings demand of each other, and the defaults that depend on others. */
void conf_check(struct reader *r, struct conf *conf);

/* A file in memory, with a terminator behind it, and the mode it had when it was open. */
struct conf_file {
	char *text; /* malloc'ed */
	size_t len;
	unsigned mode;
};

/* conf_read_file() with the mode. False with the reason in errors. */
bool conf_open_file(
    const char *path, struct conf_file *file, struct conf_errors *errors) MUST_CHECK;

/* Complains at the line of `setting` when the password in `path` cannot be read or by too many. */
void conf_check_secret(struct reader *r, const char *setting, const char *path);

/* The same of a file that somebody else reads; NULL is fine. `secret`: it holds a key. */
void conf_check_file(struct reader *r, const char *setting, const char *path, bool secret);

#endif
