/* One reader for all text: defaults, bounds, and what the configuration writes as text. */
#include "option.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "text.h"

static const struct {
	const char *word;
	const char *wanted;
} types[] = {
	[WARREN_OPT_STRING] = { "string", "a string" },
	[WARREN_OPT_BOOL] = { "bool", "true or false" },
	[WARREN_OPT_INT] = { "int", "a whole number" },
	[WARREN_OPT_FLOAT] = { "float", "a number" },
	[WARREN_OPT_DURATION] = { "duration", "a duration with a unit, such as \"10s\"" },
	[WARREN_OPT_SIZE] = { "size", "a size, such as \"16MiB\"" },
	[WARREN_OPT_PATH] = { "path", "an absolute path" },
	[WARREN_OPT_LIST] = { "list", "a list of strings, such as [ \"a\", \"b\" ]" },
};

const char *option_type_word(enum warren_option_type type)
{
	return (size_t)type < ARRAY_LEN(types) ? types[type].word : NULL;
}

/* The member of `list`, which has room for all of them. */
static bool add_item(struct arena *arena, struct host_option *out, const char *text, size_t len)
{
	out->list[out->n_list] = arena_dup(arena, text, len);
	return out->list[out->n_list++] != NULL;
}

static bool read_list(struct arena *arena, const char *text, struct host_option *out)
{
	size_t n = *text ? 1 : 0;
	for (const char *at = text; *at; at++)
		n += *at == ',';
	out->list = arena_zalloc(arena, n + 1, sizeof(*out->list));
	if (!out->list)
		return false;
	for (const char *at = text; n > 0; n--) {
		size_t len = strcspn(at, ",");
		if (!add_item(arena, out, at, len))
			return false;
		at += len + 1;
	}
	return true;
}

static bool read_int(const char *text, int64_t *out)
{
	char *end;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	*out = n;
	return end != text && !*end && !errno;
}

static bool read_float(const char *text, double *out)
{
	char *end;
	*out = strtod(text, &end);
	return end != text && !*end && isfinite(*out);
}

static bool read_text(
    struct arena *arena, enum warren_option_type type, const char *text, struct host_option *out)
{
	switch (type) {
	case WARREN_OPT_STRING:
	case WARREN_OPT_PATH:
		out->text = arena_dup(arena, text, strlen(text));
		return out->text && (type == WARREN_OPT_STRING || !*text || *text == '/');
	case WARREN_OPT_BOOL:
		out->boolean = strcmp(text, "true") == 0;
		return out->boolean || strcmp(text, "false") == 0;
	case WARREN_OPT_INT:
		return read_int(text, &out->integer);
	case WARREN_OPT_FLOAT:
		return read_float(text, &out->real);
	case WARREN_OPT_DURATION:
		if (!text_duration_ns(text, &out->integer))
			return false;
		out->integer /= NS_PER_MS;
		return true;
	case WARREN_OPT_SIZE:
		return text_size(text, &out->integer);
	case WARREN_OPT_LIST:
		return read_list(arena, text, out);
	}
	return false;
}

/* Types that the configuration writes as a string. */
static bool is_written_as_text(enum warren_option_type type)
{
	return type == WARREN_OPT_STRING || type == WARREN_OPT_PATH ||
	       type == WARREN_OPT_DURATION || type == WARREN_OPT_SIZE;
}

static bool read_array(struct arena *arena, const struct value *given, struct host_option *out)
{
	size_t n = given->array.n;
	out->list = arena_zalloc(arena, n + 1, sizeof(*out->list));
	for (size_t i = 0; out->list && i < n; i++) {
		const struct value *item = &given->array.items[i];
		char number[24];
		struct bytes text = item->bytes;
		if (item->kind == VALUE_INT) {
			snprintf(number, sizeof(number), "%lld", (long long)item->integer);
			text = bytes_of(number);
		} else if (item->kind != VALUE_STRING) {
			return false;
		}
		if (!add_item(arena, out, text.data, text.len))
			return false;
	}
	return out->list != NULL;
}

static bool read_value(struct arena *arena, enum warren_option_type type, enum option_source source,
    const struct value *given, struct host_option *out)
{
	switch ((enum value_kind)given->kind) {
	case VALUE_STRING: {
		const char *text = arena_dup(arena, given->bytes.data, given->bytes.len);
		if (source == OPTION_FROM_CONF && !is_written_as_text(type))
			return false;
		return text && strlen(text) == given->bytes.len &&
		       read_text(arena, type, text, out);
	}
	case VALUE_BOOL:
		out->boolean = given->boolean;
		return type == WARREN_OPT_BOOL;
	case VALUE_INT:
		out->integer = given->integer;
		out->real = (double)given->integer;
		return type == WARREN_OPT_INT || type == WARREN_OPT_FLOAT ||
		       (type == WARREN_OPT_SIZE && given->integer >= 0);
	case VALUE_DOUBLE:
		out->real = given->real; /* libconfig reads 1e999 as infinity */
		return type == WARREN_OPT_FLOAT && isfinite(given->real);
	case VALUE_ARRAY:
		return type == WARREN_OPT_LIST && read_array(arena, given, out);
	default:
		return false;
	}
}

/* Negative, zero or positive as a number option compares to a bound. */
static int compare(const struct host_option *a, const struct host_option *b)
{
	if (a->type == WARREN_OPT_FLOAT)
		return a->real < b->real ? -1 : a->real > b->real;
	return a->integer < b->integer ? -1 : a->integer > b->integer;
}

static bool is_number(enum warren_option_type type)
{
	return type == WARREN_OPT_INT || type == WARREN_OPT_FLOAT || type == WARREN_OPT_DURATION ||
	       type == WARREN_OPT_SIZE;
}

/* On which side of a bound the value must not lie: -1 below, 1 above. */
static bool is_within(
    struct arena *arena, const struct host_option *value, const char *bound, int side)
{
	struct host_option limit = { .type = value->type };
	if (!bound || !is_number(value->type))
		return true;
	CHECK(read_text(arena, value->type, bound, &limit)); /* option_default has read it */
	return compare(value, &limit) * side <= 0;
}

bool option_read(struct arena *arena, const struct warren_option *option, enum option_source source,
    const struct value *given, struct host_option *out, char *why, size_t why_size)
{
	*out = (struct host_option){ .name = option->name, .type = option->type };
	if (!read_value(arena, option->type, source, given, out))
		snprintf(why, why_size, "must be %s", types[option->type].wanted);
	else if (!is_within(arena, out, option->min, -1))
		snprintf(why, why_size, "must be at least %s", option->min);
	else if (!is_within(arena, out, option->max, 1))
		snprintf(why, why_size, "must be at most %s", option->max);
	else
		return true;
	return false;
}

bool option_default(struct arena *arena, const struct warren_option *option,
    struct host_option *out, char *why, size_t why_size)
{
	const char *const bounds[] = { option->min, option->max };
	*out = (struct host_option){ .name = option->name, .type = option->type };
	if (!option_type_word(option->type)) {
		snprintf(why, why_size, "has the type %d, which this host does not know",
		    (int)option->type);
		return false;
	}
	for (size_t i = 0; is_number(option->type) && i < ARRAY_LEN(bounds); i++)
		if (bounds[i] && !read_text(arena, option->type, bounds[i], out)) {
			snprintf(why, why_size, "has the bound \"%s\", which is not %s", bounds[i],
			    types[option->type].wanted);
			return false;
		}
	if (!option->fallback)
		return true;
	struct value given = V_STR(bytes_of(option->fallback));
	if (option_read(arena, option, OPTION_FROM_TEXT, &given, out, why, why_size))
		return true;
	char reason[256];
	snprintf(reason, sizeof(reason), "%s", why);
	snprintf(why, why_size, "has the default \"%s\", which %s", option->fallback, reason);
	return false;
}
