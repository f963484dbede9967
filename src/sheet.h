/*
 * The lists in the daemon's status as tables: which columns there are, what they show, when they
 * alarm. Floor 4, for commands; pure.
 */
#ifndef WARREN_SHEET_H
#define WARREN_SHEET_H

#include "reply.h"
#include "table.h"

enum figure { FIGURE_TEXT, FIGURE_COUNT, FIGURE_RATE, FIGURE_TIME, FIGURE_BYTES };

enum { SHEET_GROUP = 1, SHEET_OPTIONAL = 2 };

struct sheet_column {
	const char *heading;
	const char *path; /* the value that it shows */
	enum figure figure;
	unsigned
	    flags; /* SHEET_GROUP: as table_column.opens_group; SHEET_OPTIONAL: as its optional */
	char *(*show)(const json_t *item);     /* NULL: the value itself; malloc'ed safe text */
	enum tint (*tint)(const json_t *item); /* NULL: plain */
};

struct sheet {
	const struct sheet_column *columns;
	size_t n_columns;
};

/* For items of the lists of these names; sheet_tasks for the tasks of a queue. */
extern const struct sheet sheet_queues, sheet_tasks, sheet_threads, sheet_workers,
    sheet_connections;

/* The items as rows of a table. */
struct table *sheet_table(const struct sheet *sheet, const json_t *const *items, size_t n)
    __attribute__((returns_nonnull));

/* Less, equal or greater than 0: the order of two items by a column. What is missing comes last,
 * `descending` or not. */
int sheet_compare(
    const struct sheet_column *column, const json_t *a, const json_t *b, bool descending);

/* The member at `path` as safe text, malloc'ed. */
char *sheet_text(const json_t *item, const char *path) __attribute__((returns_nonnull));
bool sheet_is(const json_t *item, const char *path, const char *text);

/* At rest and as it should be: what a long list may leave out. */
bool sheet_queue_is_idle(const json_t *queue);
bool sheet_connection_is_up(const json_t *connection);

/* A number in its figure, malloc'ed. */
char *sheet_number(double n, enum figure figure) __attribute__((returns_nonnull));

#endif
