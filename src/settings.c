/* The table of all settings, spelled out from options.def. Floor 1. */
#include "settings.h"

#define REQUIRED NULL
#define NONE ""

/* The struct of each section under a name that can be pasted together. */
#define SECTION(id, type, path, prose) typedef type section_##id;
#include "options.def"

#define SECTION(id, type, path, prose) [SECTION_##id] = { path, prose, sizeof(type) },
const struct section sections[N_SECTIONS] = {
#include "options.def"
};

#define FIELD(sec, field) offsetof(section_##sec, field), sizeof(((section_##sec *)0)->field)

#define VALUE(sec, name, kind, field, fallback, low, high, of, prose)                              \
	{ SECTION_##sec, name, KIND_##kind, 0, FIELD(sec, field), 0, 0, fallback, low, high, of,   \
		prose },
#define VALUES(sec, name, kind, field, fallback, prose)                                            \
	{ SECTION_##sec, name, KIND_##kind, 0, FIELD(sec, field),                                  \
		offsetof(section_##sec, n_##field), 0, fallback, "", "", "", prose },
#define GROUP(sec, name, field, child, prose)                                                      \
	{ SECTION_##sec, name, KIND_GROUP, SECTION_##child, FIELD(sec, field), 0, 0, NONE, "", "", \
		"", prose },
#define GROUPS(sec, name, field, child, prose)                                                     \
	{ SECTION_##sec, name, KIND_GROUPS, SECTION_##child, FIELD(sec, field),                    \
		offsetof(section_##sec, n_##field), offsetof(section_##child, line), NONE, "", "", \
		"", prose },
#define PART(sec, name, child, prose)                                                              \
	{ SECTION_##sec, name, KIND_PART, SECTION_##child, 0, 0, 0, 0, NONE, "", "", "", prose },
const struct setting settings[] = {
#include "options.def"
};
const size_t n_settings = ARRAY_LEN(settings);

const char *setting_kind_words(enum setting_kind kind)
{
	static const char *const words[] = {
		[KIND_STRING] = "a string",
		[KIND_FILE] = "a file name, a string",
		[KIND_SOCKET] = "a file name, a string",
		[KIND_BOOL] = "true or false",
		[KIND_INT] = "a whole number",
		[KIND_REAL] = "a number",
		[KIND_DURATION] =
		    "a duration, a string such as \"500ms\", \"10s\", \"5m\" or \"2h\"",
		[KIND_SIZE] = "a size, a string such as \"64KiB\" or \"16MiB\"",
		[KIND_WORD] = "a string",
		[KIND_ROUTE] = "\"type\", \"routing_key\" or \"header:NAME\"",
		[KIND_STRINGS] = "a list of strings, [ \"...\", \"...\" ]",
		[KIND_URLS] = "a list of strings, [ \"amqp://...\" ]",
		[KIND_TABLE] = "a group { name = value; } or a list of { name; value; }",
		[KIND_OPTIONS] = "a group { ... }",
		[KIND_GROUP] = "a group { ... }",
		[KIND_GROUPS] = "a list of groups, ( { ... }, { ... } )",
		[KIND_PART] = "a group { ... }",
	};
	return words[kind];
}
