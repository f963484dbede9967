/* The daemon's answer: JSON, read by paths that may lead nowhere. Floor 4, for commands. */
#ifndef WARREN_REPLY_H
#define WARREN_REPLY_H

#include <jansson.h>

#include "base.h"

/* NULL when it is not one JSON object; then `why` says so. json_decref it. */
json_t *reply_parse(struct bytes text, char *why, size_t why_size) MUST_CHECK;

/*
 * Members by name, or by names with dots between them: "run.p50_s". What is not there, or is not of
 * that kind, reads as empty, NAN, false, or a list of nothing: a newer or older daemon is no error.
 */
const json_t *reply_at(const json_t *object, const char *path);
struct bytes reply_text(const json_t *object, const char *path);
double reply_real(const json_t *object, const char *path);
bool reply_bool(const json_t *object, const char *path);

struct reply_list {
	const json_t *array; /* NULL: empty */
	size_t n;
};
struct reply_list reply_list(const json_t *object, const char *path);
const json_t *reply_item(const struct reply_list *list, size_t i);

#endif
