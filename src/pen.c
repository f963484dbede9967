/* Streams to write screens to, and text measured in columns. */
#include "pen.h"

#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "cmd.h"

void pen_set_locale(void)
{
	(void)setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		(void)setlocale(LC_CTYPE, "C.UTF-8");
}

bool pen_wants_colour(FILE *out)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	return isatty(fileno(out)) == 1 && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

static void put_to_stream(struct pen *pen, enum tint tint, const char *text)
{
	static const char *const escapes[N_TINTS] = { "", "1", "2", "32", "33", "1;31" };
	struct stream_pen *stream = CONTAINER_OF(pen, struct stream_pen, pen);
	if (stream->colour && tint != TINT_PLAIN)
		(void)fprintf(stream->out, "\033[%sm%s\033[0m", escapes[tint], text);
	else
		(void)fputs(text, stream->out);
}

struct stream_pen pen_to(FILE *out, bool colour)
{
	return (struct stream_pen){ { put_to_stream }, out, colour };
}

void pen_put(struct pen *pen, enum tint tint, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, fmt);
	int n = vasprintf(&text, fmt, args);
	va_end(args);
	pen->put(pen, tint, or_die(n < 0 ? NULL : text));
	free(text);
}

void pen_pad(struct pen *pen, size_t columns)
{
	if (columns > 0)
		pen_put(pen, TINT_PLAIN, "%*s", (int)columns, "");
}

/* The character at `text` and its width; -1 where it has none. Returns its bytes, 0 at the end. */
static size_t next_char(const char *text, wchar_t *c, int *width)
{
	mbstate_t state = { 0 };
	size_t n = mbrtowc(c, text, MB_LEN_MAX, &state);
	if (n == 0)
		return 0;
	if (n > MB_LEN_MAX) { /* not of this locale: a byte that takes one column */
		*c = (unsigned char)*text;
		*width = 1;
		return 1;
	}
	*width = wcwidth(*c);
	return n;
}

static void put_known(FILE *out, const char *text)
{
	enum { MOST_MARKS = 2 };
	wchar_t c;
	int width, marks = 0;
	for (size_t n; (n = next_char(text, &c, &width)) > 0; text += n) {
		marks = width == 0 ? marks + 1 : 0;
		if (width < 0)
			(void)fprintf(out, "\\u{%04x}", (unsigned)c);
		else if (marks <= MOST_MARKS)
			(void)fwrite(text, 1, n, out);
	}
}

/* Runs `write` on a stream into memory. */
static char *written(void (*write)(FILE *, const void *), const void *what)
{
	char *text = NULL;
	size_t len;
	FILE *out = or_die(open_memstream(&text, &len));
	write(out, what);
	if (fclose(out) != 0)
		(void)or_die(NULL);
	return or_die(text);
}

static void write_escaped(FILE *out, const void *what)
{
	cmd_put_text(out, *(const struct bytes *)what, false);
}

static void write_known(FILE *out, const void *what)
{
	put_known(out, what);
}

char *pen_safe(struct bytes text)
{
	enum { MOST = 4096 };
	if (text.len > MOST)
		text.len = MOST;
	char *escaped = written(write_escaped, &text);
	char *known = written(write_known, escaped);
	free(escaped);
	return known;
}

/* How many bytes of the text fit into `columns`, with the columns that they take. */
static size_t fitting(const char *text, size_t columns, size_t *taken)
{
	wchar_t c;
	int width;
	size_t at = 0;
	*taken = 0;
	for (size_t n; (n = next_char(text + at, &c, &width)) > 0; at += n) {
		size_t more = width > 0 ? (size_t)width : 0;
		if (*taken + more > columns)
			break;
		*taken += more;
	}
	return at;
}

size_t pen_width(const char *text)
{
	size_t taken;
	(void)fitting(text, SIZE_MAX, &taken);
	return taken;
}

char *pen_fit(const char *text, size_t columns)
{
	size_t taken, n = fitting(text, columns, &taken);
	if (text[n] == '\0')
		return xstrdup(text);
	if (columns == 0)
		return xstrdup("");
	n = fitting(text, columns - 1, &taken);
	return xasprintf("%.*s~", (int)n, text);
}

/* The bytes of the first line of prose: up to the last space that fits, or a piece of a long word.
 */
static size_t line_end(const char *text, size_t columns)
{
	size_t taken, n = fitting(text, columns, &taken);
	if (text[n] == '\0' || text[n] == ' ')
		return n;
	size_t space = n;
	while (space > 0 && text[space] != ' ')
		space--;
	return space > 0 ? space : n;
}

void pen_wrap(struct pen *pen, enum tint tint, const char *text, size_t indent, size_t width)
{
	enum { LEAST = 20 };
	size_t columns = width > indent + LEAST ? width - indent : LEAST;
	while (*text != '\0') {
		size_t n = line_end(text, columns);
		pen_pad(pen, indent);
		pen_put(pen, tint, "%.*s", (int)n, text);
		pen->put(pen, TINT_PLAIN, "\n");
		text += n;
		while (*text == ' ')
			text++;
	}
}
