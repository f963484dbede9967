/* The metrics in Prometheus' text format, from a view. Floor 3. */
#ifndef WARREN_METRICS_H
#define WARREN_METRICS_H

#include "view.h"

/* malloc'ed; NULL when memory is short. */
char *metrics_text(const struct view *view) MUST_CHECK;

#endif
