/*
 * The daemon's status as screens for people: what is wrong first, then what there is. Floor 4, for
 * commands; pure: JSON in, text out.
 */
#ifndef WARREN_SCREEN_H
#define WARREN_SCREEN_H

#include "sheet.h"

/* True when there is a problem of severity "error". */
bool screen_has_error(const json_t *status);

/* One line that says it all: version, state, how many problems. */
void screen_put_verdict(struct pen *pen, const json_t *status);
/* Process, uptime, generation, configuration; the last reload. */
void screen_put_facts(struct pen *pen, const json_t *status, size_t width);
/* A problem in one line, without its remedy. */
void screen_put_problem_line(struct pen *pen, const json_t *problem, size_t width);
/* What is wrong, why, and what to do. */
void screen_put_problems(struct pen *pen, const json_t *status, size_t width);
/* What was wrong lately, and is no more. */
void screen_put_healed(struct pen *pen, const json_t *status, size_t width);

/* All of it. `all`: also what is idle, and each task of a queue. */
void screen_put_status(struct pen *pen, const json_t *status, size_t width, bool all);

/* All that is known of one object, a line for each member. */
void screen_put_detail(struct pen *pen, const json_t *object, size_t width);

#endif
