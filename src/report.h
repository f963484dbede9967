/* The status as JSON, from a view. Floor 3; the only door to the JSON library besides control.c. */
#ifndef WARREN_REPORT_H
#define WARREN_REPORT_H

#include "view.h"

/* One object in one line without its end, malloc'ed. NULL when memory is short, or where warren was
 * built without a JSON library. */
char *report_status(const struct view *view) MUST_CHECK;

/* False where warren was built without a JSON library. */
bool report_is_built(void);

#endif
