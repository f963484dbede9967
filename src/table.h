/*
 * A table of text: columns as wide as their cells, in blocks where the terminal is narrower than
 * all of them. Floor 4, for commands; pure.
 */
#ifndef WARREN_TABLE_H
#define WARREN_TABLE_H

#include "pen.h"

enum table_side { TABLE_LEFT, TABLE_RIGHT };

struct table_column {
	const char *heading;
	enum table_side side; /* cells on the left side are text, and may be cut */
	bool opens_group;     /* a block rather begins here than between columns of a group */
	bool optional;        /* left out while no cell says anything */
};

struct table;

struct table *table_create(size_t n_columns);
void table_free(struct table *table);

void table_set_column(struct table *table, size_t column, const struct table_column *what);

/* A new row of empty cells. */
void table_add_row(struct table *table);
size_t table_rows(const struct table *table);

/* A cell of the last row. Takes over `text`, which is safe and malloc'ed. */
void table_set(struct table *table, size_t column, enum tint tint, char *text);
const char *table_cell(const struct table *table, size_t row, size_t column);

/* Which rows contain `text` in a cell, whatever the case; an empty one is in all. */
bool table_contains(const struct table *table, size_t row, const char *text);

/* The columns from `from` to before `end`, behind the first column, which every block has. */
struct table_block {
	size_t from, end;
	size_t last;  /* before which the columns end that are shown */
	size_t width; /* of the line */
	size_t left;  /* of it for the last column */
};

/* The block that begins with column `from` (1 or more). */
struct table_block table_block(const struct table *table, size_t from, size_t width);

/* One line without its end. */
void table_put_heading(const struct table *table, struct pen *pen, const struct table_block *block);
void table_put_row(
    const struct table *table, struct pen *pen, size_t row, const struct table_block *block);

/* All of it, block by block. */
void table_put(const struct table *table, struct pen *pen, size_t width);

#endif
