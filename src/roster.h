/* The rows of a live table: sorted, filtered, one of them chosen. Floor 4, for commands; pure. */
#ifndef WARREN_ROSTER_H
#define WARREN_ROSTER_H

#include "sheet.h"

enum { ROSTER_FILTER_SIZE = 128 };

/* Zero-initialise, then set `sheet`, `sort` and `descending`. */
struct roster {
	const struct sheet *sheet;
	size_t sort; /* a column */
	bool descending;
	char filter[ROSTER_FILTER_SIZE]; /* rows that contain it; whatever the case */
	size_t first_column;             /* of those beside the name that are seen */

	/* What roster_update made of the items. */
	const json_t **items; /* sorted */
	struct table *table;  /* of the items */
	size_t *rows;         /* those that pass the filter */
	size_t n_items, n_rows;
	char *chosen;   /* the name in its first cell; NULL: none */
	size_t at, top; /* rows: the chosen one, the first that is seen */
};

/* New items, whose owner keeps them until the next update; the chosen one stays chosen. */
void roster_update(struct roster *roster, const struct reply_list *items);
/* Forgets the items. */
void roster_free(struct roster *roster);

/* Chooses the row so many below (or above) the chosen one. */
void roster_move(struct roster *roster, long rows);
/* NULL where there is no row. */
const json_t *roster_chosen(const struct roster *roster);

/* The next or the previous column to sort by, numbers from the largest on. */
void roster_sort_by_next(struct roster *roster, int step);

/* Shows other columns: those behind the ones that are seen at that width, or those before. */
void roster_turn(struct roster *roster, bool forward, size_t width);

/* The heading and so many lines of rows; `choose` is told before and after the chosen one. */
void roster_put(struct roster *roster, struct pen *pen, size_t lines, size_t width,
    void (*choose)(struct pen *pen, bool chosen));

#endif
