/* Columns, their widths, and blocks of them. */
#include "table.h"

#include <stdlib.h>
#include <string.h>

enum { GAP = 2 }; /* columns of space between cells */

struct cell {
	char *text; /* NULL: empty */
	enum tint tint;
};

struct column {
	struct table_column what;
	size_t width; /* of its widest cell */
	bool says;    /* a cell is neither empty nor a dash */
};

struct table {
	struct column *columns;
	size_t n_columns;
	struct cell *cells; /* row by row */
	size_t n_rows, room;
};

struct table *table_create(size_t n_columns)
{
	struct table *table = xcalloc(1, sizeof(*table));
	table->columns = xcalloc(n_columns, sizeof(*table->columns));
	table->n_columns = n_columns;
	return table;
}

void table_free(struct table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->n_rows * table->n_columns; i++)
		free(table->cells[i].text);
	free(table->cells);
	free(table->columns);
	free(table);
}

void table_set_column(struct table *table, size_t column, const struct table_column *what)
{
	CHECK(column < table->n_columns);
	table->columns[column] = (struct column){ *what, pen_width(what->heading), false };
}

void table_add_row(struct table *table)
{
	if (table->n_rows == table->room) {
		table->room = table->room ? 2 * table->room : 16;
		table->cells = or_die(reallocarray(
		    table->cells, table->room * table->n_columns, sizeof(*table->cells)));
	}
	memset(&table->cells[table->n_rows * table->n_columns], 0,
	    table->n_columns * sizeof(*table->cells));
	table->n_rows++;
}

size_t table_rows(const struct table *table)
{
	return table->n_rows;
}

static struct cell *cell_at(const struct table *table, size_t row, size_t column)
{
	CHECK(row < table->n_rows && column < table->n_columns);
	return &table->cells[row * table->n_columns + column];
}

void table_set(struct table *table, size_t column, enum tint tint, char *text)
{
	struct cell *cell = cell_at(table, table->n_rows - 1, column);
	size_t width = pen_width(text);
	if (*text != '\0' && strcmp(text, "-") != 0)
		table->columns[column].says = true;
	free(cell->text);
	*cell = (struct cell){ text, tint };
	if (width > table->columns[column].width)
		table->columns[column].width = width;
}

const char *table_cell(const struct table *table, size_t row, size_t column)
{
	const char *text = cell_at(table, row, column)->text;
	return text ? text : "";
}

bool table_contains(const struct table *table, size_t row, const char *text)
{
	for (size_t i = 0; i < table->n_columns; i++)
		if (strcasestr(table_cell(table, row, i), text))
			return true;
	return false;
}

static bool is_shown(const struct table *table, size_t column)
{
	return table->columns[column].says || !table->columns[column].what.optional;
}

/* Numbers stand whole; text may take a third of the line. */
static size_t width_of(const struct table *table, size_t column, size_t line)
{
	const struct column *c = &table->columns[column];
	size_t most = line / 3, heading = pen_width(c->what.heading);
	if (most < heading)
		most = heading;
	return c->what.side == TABLE_LEFT && c->width > most ? most : c->width;
}

/* With the gap before it. */
static size_t space_of(const struct table *table, size_t column, size_t line)
{
	return is_shown(table, column) ? GAP + width_of(table, column, line) : 0;
}

static bool breaks_before(const struct table *table, size_t column)
{
	return column == table->n_columns || table->columns[column].what.opens_group;
}

/* As many columns as fit, at least one; but not a part of a group where whole ones fit. */
struct table_block table_block(const struct table *table, size_t from, size_t width)
{
	size_t end = from, used = width_of(table, 0, width);
	while (end < table->n_columns) {
		size_t more = space_of(table, end, width);
		if (end > from && used + more > width)
			break;
		used += more;
		end++;
	}
	size_t whole = end;
	while (whole > from && !breaks_before(table, whole))
		whole--;
	while (whole > from && end > whole)
		used -= space_of(table, --end, width);
	size_t last = end;
	while (last > from && !is_shown(table, last - 1))
		last--;
	size_t before_last = used - (last > from ? width_of(table, last - 1, width) : 0);
	return (struct table_block){ from, end, last, width,
		before_last < width ? width - before_last : 0 };
}

/* Text at the end of a line may run as far as the line does. */
static size_t width_in(const struct table *table, const struct table_block *block, size_t column)
{
	size_t width = width_of(table, column, block->width);
	bool runs = column + 1 == block->last && table->columns[column].what.side == TABLE_LEFT;
	return runs && block->left > width ? block->left : width;
}

/* A line under way; spaces are written when something follows them. */
struct line {
	const struct table *table;
	const struct table_block *block;
	struct pen *pen;
	size_t spaces;
};

static void put_cell(struct line *line, size_t column, const char *text, enum tint tint)
{
	if (!is_shown(line->table, column))
		return;
	size_t width = width_in(line->table, line->block, column);
	char *fit = pen_fit(text, width);
	size_t space = width - pen_width(fit);
	bool right = line->table->columns[column].what.side == TABLE_RIGHT;
	line->spaces += (column > 0 ? GAP : 0) + (right ? space : 0);
	if (*fit != '\0') {
		pen_pad(line->pen, line->spaces);
		line->pen->put(line->pen, tint, fit);
		line->spaces = 0;
	}
	line->spaces += right ? 0 : space;
	free(fit);
}

static void put_heading(struct line *line, size_t column)
{
	put_cell(line, column, line->table->columns[column].what.heading, TINT_STRONG);
}

void table_put_heading(const struct table *table, struct pen *pen, const struct table_block *block)
{
	struct line line = { table, block, pen, 0 };
	put_heading(&line, 0);
	for (size_t i = block->from; i < block->end; i++)
		put_heading(&line, i);
}

static void put_cell_of(struct line *line, size_t row, size_t column)
{
	put_cell(line, column, table_cell(line->table, row, column),
	    cell_at(line->table, row, column)->tint);
}

void table_put_row(
    const struct table *table, struct pen *pen, size_t row, const struct table_block *block)
{
	struct line line = { table, block, pen, 0 };
	put_cell_of(&line, row, 0);
	for (size_t i = block->from; i < block->end; i++)
		put_cell_of(&line, row, i);
}

void table_put(const struct table *table, struct pen *pen, size_t width)
{
	struct table_block block = { .end = 1 };
	while (block.end < table->n_columns) {
		block = table_block(table, block.end, width);
		table_put_heading(table, pen, &block);
		pen->put(pen, TINT_PLAIN, "\n");
		for (size_t row = 0; row < table->n_rows; row++) {
			table_put_row(table, pen, row, &block);
			pen->put(pen, TINT_PLAIN, "\n");
		}
	}
}
