/*
 * Keeps docs/warren.cfg.5 true: writes the description of every setting from options.def between
 * two marks of the page, or checks that what stands there is the same. Not installed. Floor 4.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settings.h"

static const char begin_mark[] = ".\\\" BEGIN options.def\n";
static const char end_mark[] = ".\\\" END options.def\n";

/* ---- mdoc ---- */

static void put_char(FILE *out, char c)
{
	switch (c) {
	case '\\':
		(void)fputs("\\e", out);
		break;
	case '"':
		(void)fputs("\\(dq", out);
		break;
	case '-':
		(void)fputs("\\-", out);
		break;
	case '^':
		(void)fputs("\\(ha", out);
		break;
	default:
		(void)fputc(c, out);
	}
}

/* One word of running text; what would be a request at the start of a line is made none. */
static void put_word(FILE *out, const char *word, size_t len, bool starts_line)
{
	if (starts_line && (word[0] == '.' || word[0] == '\''))
		(void)fputs("\\&", out);
	for (size_t i = 0; i < len; i++)
		put_char(out, word[i]);
}

/* Running text, folded; each sentence begins a line of its own, as mdoc wants it. */
static void put_text(FILE *out, const char *text)
{
	enum { WIDTH = 76 };
	size_t column = 0;
	while (*text) {
		size_t len = strcspn(text, " ");
		if (column > 0 && column + len > WIDTH) {
			(void)fputc('\n', out);
			column = 0;
		} else if (column > 0) {
			(void)fputc(' ', out);
		}
		put_word(out, text, len, column == 0);
		column += len + 1;
		text += len;
		if (*text && text[-1] == '.') {
			(void)fputc('\n', out);
			column = 0;
		}
		text += *text == ' ';
	}
	(void)fputc('\n', out);
}

static bool is_quoted(enum setting_kind kind)
{
	return kind != KIND_BOOL && kind != KIND_INT && kind != KIND_REAL;
}

static void put_value(FILE *out, const struct setting *st, const char *value)
{
	const char *quote = is_quoted(st->kind) ? "\\(dq" : "";
	(void)fputs(quote, out);
	for (; *value; value++)
		put_char(out, *value);
	(void)fputs(quote, out);
}

static const char *kind_name(enum setting_kind kind)
{
	static const char *const names[] = {
		[KIND_STRING] = "string",
		[KIND_FILE] = "file",
		[KIND_SOCKET] = "file",
		[KIND_BOOL] = "boolean",
		[KIND_INT] = "integer",
		[KIND_REAL] = "number",
		[KIND_DURATION] = "duration",
		[KIND_SIZE] = "size",
		[KIND_WORD] = "word",
		[KIND_ROUTE] = "where",
		[KIND_STRINGS] = "[ string , ... ]",
		[KIND_URLS] = "[ url , ... ]",
		[KIND_TABLE] = "arguments",
		[KIND_OPTIONS] = "{ name = value; ... }",
		[KIND_GROUP] = "{ ... }",
		[KIND_GROUPS] = "( { ... } , ... )",
		[KIND_PART] = "{ ... }",
	};
	return names[kind];
}

static void put_words(FILE *out, const char *words)
{
	(void)fputs("One of", out);
	while (*words) {
		size_t len = strcspn(words, "|");
		const char *rest = words + len + (words[len] == '|');
		if (len > 0)
			(void)fprintf(
			    out, " \\(dq%.*s\\(dq%s", (int)len, words, *rest ? "," : ".\n");
		words = rest;
	}
}

static void put_default(FILE *out, const struct setting *st)
{
	if (!st->fallback) {
		(void)fputs("Required.\n", out);
	} else if (*st->fallback == '(') {
		(void)fputs("Default: ", out);
		for (const char *p = st->fallback + 1; p[1]; p++)
			put_char(out, *p);
		(void)fputs(".\n", out);
	} else if (*st->fallback) {
		(void)fputs("Default: ", out);
		put_value(out, st, st->fallback);
		(void)fputs(".\n", out);
	}
}

static void put_bounds(FILE *out, const struct setting *st)
{
	if (!*st->low)
		return;
	(void)fputs("From ", out);
	put_value(out, st, st->low);
	(void)fputs(" to ", out);
	put_value(out, st, st->high);
	(void)fputs(".\n", out);
}

static void put_setting(FILE *out, const struct setting *st)
{
	(void)fprintf(out, ".It Cm %s No = Ar %s\n", st->name, kind_name(st->kind));
	put_text(out, st->prose);
	if (st->kind == KIND_WORD)
		put_words(out, st->of);
	put_bounds(out, st);
	put_default(out, st);
}

static void put_section(FILE *out, enum section_id id)
{
	const struct section *section = &sections[id];
	(void)fprintf(out, ".Ss %s\n", *section->path ? section->path : "The groups");
	if (*section->prose)
		put_text(out, section->prose);
	(void)fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; i < n_settings; i++)
		if (settings[i].section == id)
			put_setting(out, &settings[i]);
	(void)fputs(".El\n", out);
}

/* ---- the page ---- */

static char *read_page(const char *path)
{
	enum { PAGE_MAX = 1 << 20 };
	FILE *in = fopen(path, "r");
	if (!in) {
		perror(path);
		exit(EXIT_FAILURE);
	}
	char *text = xcalloc(1, PAGE_MAX + 1);
	size_t len = fread(text, 1, PAGE_MAX, in);
	CHECK(len < PAGE_MAX && !ferror(in));
	(void)fclose(in);
	return text;
}

/* The page as it should be. */
static char *make_page(const char *path, const char *old)
{
	const char *begin = strstr(old, begin_mark);
	const char *end = strstr(old, end_mark);
	if (!begin || !end || end < begin) {
		(void)fprintf(
		    stderr, "%s: the marks are missing:\n%s%s", path, begin_mark, end_mark);
		exit(EXIT_FAILURE);
	}
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	CHECK(out);
	(void)fprintf(out, "%.*s%s", (int)(begin - old), old, begin_mark);
	for (int id = 0; id < N_SECTIONS; id++)
		put_section(out, (enum section_id)id);
	(void)fputs(end, out);
	CHECK(fclose(out) == 0);
	return text;
}

static int check_page(const char *path, const char *old, const char *new)
{
	if (strcmp(old, new) == 0)
		return EXIT_SUCCESS;
	(void)fprintf(stderr,
	    "%s does not say what src/options.def says: cmake --build BUILD --target manual\n",
	    path);
	return EXIT_FAILURE;
}

static int write_page(const char *path, const char *new)
{
	FILE *out = fopen(path, "w");
	if (out && fputs(new, out) >= 0 && fclose(out) == 0)
		return EXIT_SUCCESS;
	perror(path);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	bool check = argc == 3 && strcmp(argv[1], "check") == 0;
	bool update = argc == 3 && strcmp(argv[1], "update") == 0;
	if (!check && !update) {
		(void)fputs("usage: man_options check|update PAGE\n", stderr);
		return EXIT_USAGE;
	}
	char *old = read_page(argv[2]);
	char *new = make_page(argv[2], old);
	int status = check ? check_page(argv[2], old, new) : write_page(argv[2], new);
	free(old);
	free(new);
	return status;
}
