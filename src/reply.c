/* Reading what the daemon answered. */
#include "reply.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

json_t *reply_parse(struct bytes text, char *why, size_t why_size)
{
	json_error_t error;
	json_t *reply = json_loadb(text.data ? text.data : "", text.len, JSON_ALLOW_NUL, &error);
	if (json_is_object(reply))
		return reply;
	(void)snprintf(why, why_size, "the answer is not a JSON object: %s",
	    reply ? "it is something else" : error.text);
	json_decref(reply);
	return NULL;
}

const json_t *reply_at(const json_t *object, const char *path)
{
	char name[64];
	for (;;) {
		size_t n = strcspn(path, ".");
		(void)snprintf(name, sizeof(name), "%.*s", (int)n, path);
		object = json_object_get(object, name);
		if (path[n] == '\0' || !object)
			return object;
		path += n + 1;
	}
}

struct bytes reply_text(const json_t *object, const char *path)
{
	const json_t *text = reply_at(object, path);
	return (struct bytes){ json_string_value(text), json_string_length(text) };
}

double reply_real(const json_t *object, const char *path)
{
	const json_t *number = reply_at(object, path);
	return json_is_number(number) ? json_number_value(number) : NAN;
}

bool reply_bool(const json_t *object, const char *path)
{
	return json_is_true(reply_at(object, path));
}

struct reply_list reply_list(const json_t *object, const char *path)
{
	const json_t *array = reply_at(object, path);
	return (struct reply_list){ array, json_array_size(array) };
}

const json_t *reply_item(const struct reply_list *list, size_t i)
{
	return json_array_get(list->array, i);
}
