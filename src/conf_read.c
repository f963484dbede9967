/*
 * From text to struct conf, by the table of options.def: types, words, bounds, defaults, names that
 * nobody knows. The only file that includes libconfig. Floor 1.
 */
#include "conf_read.h"

#include <libconfig.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settings.h"
#include "text.h"
#include "url.h"

enum {
	NAME_MAX_LEN = 64, /* longer names are not compared for a suggestion */
	SHOWN_MAX = 128,   /* of a value that stands in a message */
};

/* ---- what stands in messages ---- */

/* "broker.heartbeat"; names of the outermost level stand alone. */
static const char *full_name(struct reader *r, enum section_id section, const char *name)
{
	const char *path = sections[section].path;
	return *path ? reader_printf(r, "%s.%s", path, name) : name;
}

/* What looks like a URL may hold a password, wherever it stands. */
static const char *show_string(struct reader *r, const char *s)
{
	return strstr(s, "://") ? "a string" : reader_printf(r, "\"%.*s\"", SHOWN_MAX, s);
}

/* A value as the operator wrote it, or what it is. */
static const char *show(struct reader *r, const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return reader_printf(r, "%lld", config_setting_get_int64(s));
	case CONFIG_TYPE_FLOAT:
		return reader_printf(r, "%g", config_setting_get_float(s));
	case CONFIG_TYPE_BOOL:
		return config_setting_get_bool(s) ? "true" : "false";
	case CONFIG_TYPE_STRING:
		return show_string(r, config_setting_get_string(s));
	case CONFIG_TYPE_GROUP:
		return "a group { ... }";
	case CONFIG_TYPE_ARRAY:
		return "an array [ ... ]";
	default:
		return "a list ( ... )";
	}
}

/* `"after" or "none"` from "after|none". */
static const char *show_words(struct reader *r, const char *words)
{
	const char *shown = "";
	while (*words) {
		size_t len = strcspn(words, "|");
		const char *rest = words + len + (words[len] == '|');
		const char *glue = *rest ? ", " : " or ";
		if (len > 0)
			shown = reader_printf(
			    r, "%s%s\"%.*s\"", shown, *shown ? glue : "", (int)len, words);
		words = rest;
	}
	return shown;
}

/* What an operator who wrote this may be looking for, where the plain refusal would not teach it.
 */
static const char *lesson(const struct setting *st, const config_setting_t *s)
{
	int type = config_setting_type(s);
	if (st->section == SECTION_root && strcmp(st->name, "workers") == 0 &&
	    type == CONFIG_TYPE_LIST)
		return "workers as a list of pools is reserved for a later version: write one "
		       "group { ... }";
	if (st->section == SECTION_queue && strcmp(st->name, "type") == 0 &&
	    type == CONFIG_TYPE_STRING && strcmp(config_setting_get_string(s), "stream") == 0)
		return "queues.type: streams are not supported: reading one settles nothing, so a "
		       "failed "
		       "job could not be given back";
	return NULL;
}

static void refuse(struct reader *r, const struct setting *st, const config_setting_t *s)
{
	unsigned line = config_setting_source_line(s);
	const char *words = lesson(st, s);
	if (words) {
		reader_wrong(r, line, "%s", words);
		return;
	}
	reader_wrong(r, line, "%s must be %s, not %s", full_name(r, st->section, st->name),
	    st->kind == KIND_WORD ? show_words(r, st->of) : setting_kind_words(st->kind),
	    show(r, s));
}

static void refuse_bounds(struct reader *r, const struct setting *st, const config_setting_t *s)
{
	bool quoted = st->kind == KIND_DURATION || st->kind == KIND_SIZE;
	const char *quote = quoted ? "\"" : "";
	reader_wrong(r, config_setting_source_line(s), "%s must be from %s%s%s to %s%s%s, not %s",
	    full_name(r, st->section, st->name), quote, st->low, quote, quote, st->high, quote,
	    show(r, s));
}

/* ---- names that nobody knows ---- */

/* Edits that lead from one name to the other: letters put in, taken out, changed or swapped. */
static size_t distance(const char *a, const char *b)
{
	size_t m = strlen(a), n = strlen(b);
	if (m > NAME_MAX_LEN || n > NAME_MAX_LEN)
		return NAME_MAX_LEN;

	size_t d[NAME_MAX_LEN + 1][NAME_MAX_LEN + 1];
	for (size_t i = 0; i <= m; i++)
		d[i][0] = i;
	for (size_t j = 0; j <= n; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= m; i++) {
		for (size_t j = 1; j <= n; j++) {
			size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[m][n];
}

static const struct setting *find_setting(enum section_id section, const char *name)
{
	for (size_t i = 0; i < n_settings; i++)
		if (settings[i].section == section && strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

static const struct setting *find_nearest(enum section_id section, const char *name)
{
	const struct setting *nearest = NULL;
	size_t least = strlen(name) / 3 + 2; /* further away it is another word */
	for (size_t i = 0; i < n_settings; i++) {
		size_t far =
		    settings[i].section == section ? distance(name, settings[i].name) : least;
		if (far < least) {
			least = far;
			nearest = &settings[i];
		}
	}
	return nearest;
}

static const struct setting *find_elsewhere(const char *name)
{
	for (size_t i = 0; i < n_settings; i++)
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

static void refuse_unknown(struct reader *r, enum section_id section, const config_setting_t *s)
{
	const char *name = config_setting_name(s);
	const struct setting *nearest = find_nearest(section, name);
	const struct setting *elsewhere = find_elsewhere(name);
	const char *hint = "";
	if (nearest)
		hint = reader_printf(r, " (did you mean %s?)", nearest->name);
	else if (elsewhere)
		hint = reader_printf(
		    r, " (it is known as %s)", full_name(r, elsewhere->section, elsewhere->name));
	reader_wrong(r, config_setting_source_line(s), "unknown setting %s%s",
	    full_name(r, section, name), hint);
}

/* ---- single values ---- */

struct scalar {
	int64_t whole;
	double real;
};

static bool read_word(const char *words, const char *text, int64_t *index)
{
	size_t len = strlen(text);
	for (*index = 0; len > 0 && *words; ++*index) {
		size_t word_len = strcspn(words, "|");
		if (word_len == len && memcmp(words, text, len) == 0)
			return true;
		words += word_len + (words[word_len] == '|');
	}
	return false;
}

/* A value that the file, too, holds as a string. */
static bool read_text(const struct setting *st, const char *text, struct scalar *out)
{
	switch (st->kind) {
	case KIND_DURATION:
		return text_duration_ns(text, &out->whole);
	case KIND_SIZE:
		return text_size(text, &out->whole);
	case KIND_WORD:
		return read_word(st->of, text, &out->whole);
	default:
		return false;
	}
}

/* A default or a bound as options.def writes it. */
static struct scalar read_own(const struct setting *st, const char *text)
{
	struct scalar out = { 0, 0.0 };
	if (st->kind == KIND_BOOL)
		out.whole = strcmp(text, "true") == 0;
	else if (st->kind == KIND_INT)
		out.whole = strtoll(text, NULL, 10);
	else if (st->kind == KIND_REAL)
		out.real = strtod(text, NULL);
	else
		CHECK(read_text(st, text, &out));
	return out;
}

static bool read_source(const struct setting *st, const config_setting_t *s, struct scalar *out)
{
	int type = config_setting_type(s);
	bool whole = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
	switch (st->kind) {
	case KIND_BOOL:
		out->whole = config_setting_get_bool(s);
		return type == CONFIG_TYPE_BOOL;
	case KIND_INT:
		out->whole = config_setting_get_int64(s);
		return whole;
	case KIND_REAL:
		out->real =
		    whole ? (double)config_setting_get_int64(s) : config_setting_get_float(s);
		return whole || type == CONFIG_TYPE_FLOAT;
	default:
		return type == CONFIG_TYPE_STRING &&
		       read_text(st, config_setting_get_string(s), out);
	}
}

static bool within_bounds(const struct setting *st, struct scalar value)
{
	if (!*st->low)
		return true;
	struct scalar low = read_own(st, st->low), high = read_own(st, st->high);
	if (st->kind == KIND_REAL)
		return value.real >= low.real && value.real <= high.real;
	return value.whole >= low.whole && value.whole <= high.whole;
}

static void *field_of(const struct setting *st, void *base)
{
	return (char *)base + st->offset;
}

static void store(const struct setting *st, void *base, struct scalar value)
{
	void *field = field_of(st, base);
	if (st->kind == KIND_REAL)
		memcpy(field, &value.real, sizeof(value.real));
	else if (st->size == sizeof(bool))
		memcpy(field, &(bool){ value.whole != 0 }, sizeof(bool));
	else if (st->size == sizeof(int))
		memcpy(field, &(int){ (int)value.whole },
		    sizeof(int)); /* an enum, or an int in bounds */
	else
		memcpy(field, &value.whole, sizeof(value.whole));
}

static void read_scalar(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	struct scalar value = { 0, 0.0 };
	if (!read_source(st, s, &value))
		refuse(r, st, s);
	else if (!within_bounds(st, value))
		refuse_bounds(r, st, s);
	else
		store(st, base, value);
}

static void read_string(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	const char *text =
	    config_setting_type(s) == CONFIG_TYPE_STRING ? config_setting_get_string(s) : NULL;
	bool is_file = st->kind == KIND_FILE || (st->kind == KIND_SOCKET && text && *text);
	if (!text || (is_file && !*text)) {
		refuse(r, st, s);
		return;
	}
	char *copy = is_file ? reader_path(r, r->folder, text) : reader_printf(r, "%s", text);
	memcpy(field_of(st, base), &copy, sizeof(copy));
}

static void read_route(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	static const char header[] = "header:";
	struct conf_queue *queue = base;
	const char *text =
	    config_setting_type(s) == CONFIG_TYPE_STRING ? config_setting_get_string(s) : "";
	if (strcmp(text, "type") == 0) {
		queue->route = ROUTE_TYPE;
	} else if (strcmp(text, "routing_key") == 0) {
		queue->route = ROUTE_ROUTING_KEY;
	} else if (strncmp(text, header, strlen(header)) == 0 && text[strlen(header)]) {
		queue->route = ROUTE_HEADER;
		queue->route_header = reader_printf(r, "%s", text + strlen(header));
	} else {
		refuse(r, st, s);
	}
}

/* ---- lists ---- */

static bool is_list(const config_setting_t *s)
{
	return config_setting_is_list(s) || config_setting_is_array(s);
}

static const config_setting_t *item_of(const config_setting_t *s, size_t i)
{
	return config_setting_get_elem((config_setting_t *)(uintptr_t)s, (unsigned)i);
}

static const config_setting_t *member_of(const config_setting_t *s, const char *name)
{
	return s ? config_setting_get_member((config_setting_t *)(uintptr_t)s, name) : NULL;
}

static size_t length_of(const config_setting_t *s)
{
	return (size_t)config_setting_length(s);
}

/* Cleared room for n items in the list that `st` describes. */
static void *make_list(
    struct reader *r, const struct setting *st, void *base, size_t n, size_t size)
{
	void *items = reader_zalloc(r, n, size);
	memcpy(field_of(st, base), &items, sizeof(items));
	memcpy((char *)base + st->count_offset, &n, sizeof(n));
	return items;
}

static bool holds_strings(const config_setting_t *s)
{
	if (!is_list(s))
		return false;
	for (size_t i = 0; i < length_of(s); i++)
		if (config_setting_type(item_of(s, i)) != CONFIG_TYPE_STRING)
			return false;
	return true;
}

static void read_strings(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	if (!holds_strings(s)) {
		refuse(r, st, s);
		return;
	}
	char **items = make_list(r, st, base, length_of(s), sizeof(*items));
	for (size_t i = 0; i < length_of(s); i++)
		items[i] = reader_printf(r, "%s", config_setting_get_string(item_of(s, i)));
}

static void read_url(
    struct reader *r, const struct setting *st, const char *text, unsigned line, struct url *url)
{
	char why[256];
	if (!url_parse(r->arena, text, url, why, sizeof(why)))
		reader_wrong(r, line, "%s: %s", full_name(r, st->section, st->name), why);
}

static void read_urls(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	if (!holds_strings(s)) {
		refuse(r, st, s);
		return;
	}
	struct url *urls = make_list(r, st, base, length_of(s), sizeof(*urls));
	for (size_t i = 0; i < length_of(s); i++) {
		const config_setting_t *item = item_of(s, i);
		read_url(r, st, config_setting_get_string(item), config_setting_source_line(item),
		    &urls[i]);
	}
}

/* ---- values of AMQP tables and of plugins' options ---- */

static void read_table(
    struct reader *r, const char *what, const config_setting_t *s, int depth, struct table *table);

static struct bytes copy_bytes(struct reader *r, const char *text)
{
	return bytes_of(reader_printf(r, "%s", text));
}

static void read_array(
    struct reader *r, const char *what, const config_setting_t *s, int depth, struct value *value);

static void read_value(
    struct reader *r, const char *what, const config_setting_t *s, int depth, struct value *value)
{
	if (depth > MSG_DEPTH_MAX) {
		reader_wrong(r, config_setting_source_line(s), "%s is nested deeper than %d", what,
		    MSG_DEPTH_MAX);
		return;
	}
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		*value = V_BOOL(config_setting_get_bool(s) != 0);
		break;
	case CONFIG_TYPE_FLOAT:
		*value = (struct value){
			.kind = VALUE_DOUBLE, .width = 8, .real = config_setting_get_float(s)
		};
		break;
	case CONFIG_TYPE_STRING:
		*value = V_STR(copy_bytes(r, config_setting_get_string(s)));
		break;
	case CONFIG_TYPE_GROUP:
		value->kind = VALUE_TABLE;
		read_table(r, what, s, depth, &value->table);
		break;
	case CONFIG_TYPE_ARRAY:
	case CONFIG_TYPE_LIST:
		read_array(r, what, s, depth, value);
		break;
	default:
		/* One width for all, so that each redeclaration says the same. */
		*value = V_INT(config_setting_get_int64(s));
		break;
	}
}

static void read_array(
    struct reader *r, const char *what, const config_setting_t *s, int depth, struct value *value)
{
	size_t n = length_of(s);
	struct value *items = reader_zalloc(r, n, sizeof(*items));
	for (size_t i = 0; i < n; i++)
		read_value(r, what, item_of(s, i), depth + 1, &items[i]);
	value->kind = VALUE_ARRAY;
	value->array.items = items;
	value->array.n = n;
}

static void read_table(
    struct reader *r, const char *what, const config_setting_t *s, int depth, struct table *table)
{
	size_t n = length_of(s);
	struct field *fields = reader_zalloc(r, n, sizeof(*fields));
	for (size_t i = 0; i < n; i++) {
		const config_setting_t *item = item_of(s, i);
		fields[i].key = copy_bytes(r, config_setting_name(item));
		read_value(r, what, item, depth + 1, &fields[i].value);
	}
	table->fields = fields;
	table->n = n;
}

/* One { name = "..."; value = ...; } of the list form. */
static bool read_pair(
    struct reader *r, const char *what, const config_setting_t *s, struct field *field)
{
	const config_setting_t *name = member_of(config_setting_is_group(s) ? s : NULL, "name");
	const config_setting_t *value = member_of(config_setting_is_group(s) ? s : NULL, "value");
	if (!name || !value || length_of(s) != 2 ||
	    config_setting_type(name) != CONFIG_TYPE_STRING) {
		reader_wrong(r, config_setting_source_line(s),
		    "%s: each item must be { name = \"...\"; value = ...; }", what);
		return false;
	}
	field->key = copy_bytes(r, config_setting_get_string(name));
	read_value(r, what, value, 1, &field->value);
	return true;
}

static void check_keys(
    struct reader *r, const char *what, const config_setting_t *s, const struct table *table)
{
	for (size_t i = 0; i < table->n; i++) {
		struct bytes key = table->fields[i].key;
		unsigned line = config_setting_source_line(item_of(s, i));
		if (key.len == 0 || key.len > 255)
			reader_wrong(r, line, "%s: a name must have from 1 to 255 bytes", what);
		for (size_t j = 0; j < i; j++)
			if (bytes_equal(key, table->fields[j].key))
				reader_wrong(r, line, "%s: %s stands twice", what, key.data);
	}
}

static void read_arguments(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	struct table table = { NULL, 0 };
	const char *what = full_name(r, st->section, st->name);
	if (config_setting_is_group(s)) {
		read_table(r, what, s, 0, &table);
	} else if (config_setting_is_list(s)) {
		table.fields = reader_zalloc(r, length_of(s), sizeof(*table.fields));
		for (table.n = 0; table.n < length_of(s); table.n++)
			if (!read_pair(r, what, item_of(s, table.n), &table.fields[table.n]))
				return;
	} else {
		refuse(r, st, s);
		return;
	}
	check_keys(r, what, s, &table);
	memcpy(field_of(st, base), &table, sizeof(table));
}

static bool is_plain(const config_setting_t *s)
{
	if (config_setting_is_scalar(s) || config_setting_type(s) == CONFIG_TYPE_BOOL)
		return true;
	if (!is_list(s))
		return false;
	for (size_t i = 0; i < length_of(s); i++)
		if (config_setting_is_aggregate(item_of(s, i)))
			return false;
	return true;
}

/* What a plugin's options must be is known when it is open; here they only have to be values. */
static void read_options(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	if (!config_setting_is_group(s)) {
		refuse(r, st, s);
		return;
	}
	const char *what = full_name(r, st->section, st->name);
	struct conf_option *options = make_list(r, st, base, length_of(s), sizeof(*options));
	for (size_t i = 0; i < length_of(s); i++) {
		const config_setting_t *item = item_of(s, i);
		options[i].name = reader_printf(r, "%s", config_setting_name(item));
		options[i].line = config_setting_source_line(item);
		if (is_plain(item))
			read_value(r, what, item, 1, &options[i].value);
		else
			reader_wrong(r, options[i].line,
			    "%s.%s must be a value or an array of values, not %s", what,
			    options[i].name, show(r, item));
	}
}

/* ---- groups ---- */

static void read_section(
    struct reader *r, enum section_id id, const config_setting_t *group, void *base);

static void read_group(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	if (s && !config_setting_is_group(s)) {
		refuse(r, st, s);
		s = NULL; /* its defaults, so that the checks find something sane */
	}
	read_section(r, st->child, s, st->kind == KIND_PART ? base : field_of(st, base));
}

static void read_groups(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	if (!config_setting_is_list(s)) {
		refuse(r, st, s);
		return;
	}
	size_t size = sections[st->child].size;
	char *items = make_list(r, st, base, length_of(s), size);
	for (size_t i = 0; i < length_of(s); i++) {
		const config_setting_t *item = item_of(s, i);
		unsigned line = config_setting_source_line(item);
		memcpy(items + i * size + st->line_offset, &line, sizeof(line));
		bool is_group = config_setting_is_group(item);
		if (!is_group)
			reader_wrong(r, line, "%s: each item must be a group { ... }, not %s",
			    sections[st->child].path, show(r, item));
		read_section(r, st->child, is_group ? item : NULL, items + i * size);
	}
}

static void read_default(struct reader *r, const struct setting *st, void *base)
{
	if (!*st->fallback || *st->fallback == '(')
		return;
	if (st->kind == KIND_URLS) {
		struct url *url = make_list(r, st, base, 1, sizeof(*url));
		read_url(r, st, st->fallback, 0, url);
		return;
	}
	store(st, base, read_own(st, st->fallback));
}

static void read_setting(
    struct reader *r, const struct setting *st, const config_setting_t *s, void *base)
{
	static void (*const readers[])(
	    struct reader *, const struct setting *, const config_setting_t *, void *) = {
		[KIND_STRING] = read_string,
		[KIND_FILE] = read_string,
		[KIND_SOCKET] = read_string,
		[KIND_BOOL] = read_scalar,
		[KIND_INT] = read_scalar,
		[KIND_REAL] = read_scalar,
		[KIND_DURATION] = read_scalar,
		[KIND_SIZE] = read_scalar,
		[KIND_WORD] = read_scalar,
		[KIND_ROUTE] = read_route,
		[KIND_STRINGS] = read_strings,
		[KIND_URLS] = read_urls,
		[KIND_TABLE] = read_arguments,
		[KIND_OPTIONS] = read_options,
		[KIND_GROUP] = read_group,
		[KIND_GROUPS] = read_groups,
		[KIND_PART] = read_group,
	};
	if (st->fallback)
		read_default(r, st, base); /* stands where the file's own value is refused, too */
	if (s || st->kind == KIND_GROUP || st->kind == KIND_PART)
		readers[st->kind](r, st, s, base);
}

static void read_section(
    struct reader *r, enum section_id id, const config_setting_t *group, void *base)
{
	for (size_t i = 0; group && i < length_of(group); i++) {
		const config_setting_t *s = item_of(group, i);
		if (!find_setting(id, config_setting_name(s)))
			refuse_unknown(r, id, s);
	}
	for (size_t i = 0; i < n_settings; i++) {
		const struct setting *st = &settings[i];
		if (st->section != id)
			continue;
		const config_setting_t *s = member_of(group, st->name);
		if (group && !s && !st->fallback)
			reader_wrong(r, config_setting_source_line(group), "%s is missing",
			    full_name(r, id, st->name));
		read_setting(r, st, s, base);
	}
}

/* ---- the door ---- */

static bool read_all(struct reader *r, const char *text, struct conf *conf)
{
	r->source = xcalloc(1, sizeof(*r->source));
	config_init(r->source);
	if (config_read_string(r->source, text) != CONFIG_TRUE) {
		reader_wrong(r, (unsigned)config_error_line(r->source), "%s at or before this line",
		    config_error_text(r->source));
		return false;
	}
	read_section(r, SECTION_root, config_root_setting(r->source), conf);
	return true;
}

bool conf_read(struct reader *r, const char *text, struct conf *conf)
{
	/* A decimal point is one, whatever the program's locale says: libconfig 1.5 asks it. */
	locale_t plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
	locale_t before = uselocale(plain);
	bool ok = read_all(r, text, conf);
	(void)uselocale(before);
	if (plain)
		freelocale(plain);
	return ok;
}

unsigned conf_line(const struct reader *r, const char *fmt, ...)
{
	char path[256];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	const config_setting_t *s = config_lookup(r->source, path);
	return s ? config_setting_source_line(s) : 0;
}

void conf_read_done(struct reader *r)
{
	if (r->source)
		config_destroy(r->source);
	free(r->source);
	r->source = NULL;
}
