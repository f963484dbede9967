/* The rows of a live table. */
#include "roster.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b, void *context)
{
	const struct roster *roster = context;
	const json_t *left = *(const json_t *const *)a, *right = *(const json_t *const *)b;
	const struct sheet_column *columns = roster->sheet->columns;
	int order = sheet_compare(&columns[roster->sort], left, right, roster->descending);
	return order != 0 ? order : sheet_compare(&columns[0], left, right, false);
}

void roster_free(struct roster *roster)
{
	table_free(roster->table);
	free(roster->items);
	free(roster->rows);
	free(roster->chosen);
	roster->table = NULL;
	roster->items = NULL;
	roster->rows = NULL;
	roster->chosen = NULL;
	roster->n_items = roster->n_rows = 0;
}

static void filter(struct roster *roster)
{
	roster->n_rows = 0;
	for (size_t i = 0; i < roster->n_items; i++)
		if (table_contains(roster->table, i, roster->filter))
			roster->rows[roster->n_rows++] = i;
}

static void choose(struct roster *roster, size_t at)
{
	free(roster->chosen);
	roster->chosen = NULL;
	roster->at = 0;
	if (roster->n_rows == 0)
		return;
	roster->at = at < roster->n_rows ? at : roster->n_rows - 1;
	roster->chosen = xstrdup(table_cell(roster->table, roster->rows[roster->at], 0));
}

/* The row of the chosen name, else the one at its place. */
static size_t find_chosen(const struct roster *roster)
{
	for (size_t i = 0; roster->chosen && i < roster->n_rows; i++)
		if (strcmp(table_cell(roster->table, roster->rows[i], 0), roster->chosen) == 0)
			return i;
	return roster->at;
}

void roster_update(struct roster *roster, const struct reply_list *items)
{
	char *chosen = roster->chosen;
	roster->chosen = NULL;
	roster_free(roster);
	roster->chosen = chosen;
	roster->items = xcalloc(items->n, sizeof(json_t *));
	roster->rows = xcalloc(items->n, sizeof(size_t));
	roster->n_items = items->n;
	for (size_t i = 0; i < items->n; i++)
		roster->items[i] = reply_item(items, i);
	if (items->n > 0)
		qsort_r((void *)roster->items, items->n, sizeof(json_t *), compare, roster);
	roster->table = sheet_table(roster->sheet, roster->items, items->n);
	filter(roster);
	choose(roster, find_chosen(roster));
}

void roster_move(struct roster *roster, long rows)
{
	long at = (long)roster->at + rows;
	choose(roster, at < 0 ? 0 : (size_t)at);
}

const json_t *roster_chosen(const struct roster *roster)
{
	return roster->n_rows > 0 ? roster->items[roster->rows[roster->at]] : NULL;
}

void roster_sort_by_next(struct roster *roster, int step)
{
	size_t n = roster->sheet->n_columns;
	roster->sort = (roster->sort + n + (size_t)(step > 0 ? 1 : n - 1)) % n;
	roster->descending = roster->sheet->columns[roster->sort].figure != FIGURE_TEXT;
}

void roster_turn(struct roster *roster, bool forward, size_t width)
{
	size_t from = 1, wanted = roster->first_column ? roster->first_column : 1;
	for (;;) {
		struct table_block block = table_block(roster->table, from, width);
		bool last = block.end >= roster->sheet->n_columns;
		if (forward ? from >= wanted : block.end >= wanted) {
			if (forward && !last)
				roster->first_column = block.end;
			else if (!forward)
				roster->first_column = from;
			return;
		}
		if (last)
			return;
		from = block.end;
	}
}

/* Scrolls as little as it takes to see the chosen row. */
static void scroll(struct roster *roster, size_t lines)
{
	if (roster->at < roster->top)
		roster->top = roster->at;
	if (lines > 0 && roster->at >= roster->top + lines)
		roster->top = roster->at - lines + 1;
	if (roster->top + lines > roster->n_rows)
		roster->top = roster->n_rows > lines ? roster->n_rows - lines : 0;
}

void roster_put(struct roster *roster, struct pen *pen, size_t lines, size_t width,
    void (*choose_row)(struct pen *pen, bool chosen))
{
	size_t from = roster->first_column ? roster->first_column : 1;
	struct table_block block = table_block(roster->table, from, width - 2);
	scroll(roster, lines);
	pen_pad(pen, 2);
	table_put_heading(roster->table, pen, &block);
	pen->put(pen, TINT_PLAIN, "\n");
	for (size_t i = roster->top; i < roster->n_rows && i < roster->top + lines; i++) {
		choose_row(pen, i == roster->at);
		pen->put(pen, TINT_PLAIN, i == roster->at ? "> " : "  ");
		table_put_row(roster->table, pen, roster->rows[i], &block);
		choose_row(pen, false);
		pen->put(pen, TINT_PLAIN, "\n");
	}
}
