/* A look at the text of a configuration for what libconfig itself lets pass. Floor 1. */
#include "conf_read.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct scan {
	struct reader *reader;
	const char *at;
	unsigned line;
	bool sound;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_name_start(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*';
}

static bool is_name(char c)
{
	return is_name_start(c) || is_digit(c) || c == '-' || c == '_';
}

static void step(struct scan *s)
{
	if (*s->at == '\n')
		s->line++;
	s->at++;
}

static void skip_line(struct scan *s)
{
	while (*s->at && *s->at != '\n')
		s->at++;
}

/* libconfig 1.5 takes a comment without an end for the rest of the file, in silence. */
static void skip_comment(struct scan *s)
{
	unsigned opened = s->line;
	s->at += 2;
	while (*s->at && strncmp(s->at, "*/", 2) != 0)
		step(s);
	if (*s->at) {
		s->at += 2;
		return;
	}
	reader_wrong(s->reader, opened, "this comment is never closed");
	s->sound = false;
}

static void skip_string(struct scan *s)
{
	unsigned opened = s->line;
	s->at++;
	while (*s->at && *s->at != '"') {
		if (strncmp(s->at, "\\x00", 4) == 0 || strncmp(s->at, "\\X00", 4) == 0)
			reader_wrong(
			    s->reader, s->line, "a string must not hold a NUL byte (\\x00)");
		if (*s->at == '\\' && s->at[1])
			step(s);
		step(s);
	}
	if (*s->at) {
		s->at++;
		return;
	}
	reader_wrong(s->reader, opened, "this string is never closed");
	s->sound = false;
}

static void skip_name(struct scan *s)
{
	while (is_name(*s->at))
		s->at++;
}

/* The end of a number with a point or an exponent, or NULL when `at` begins none. */
static const char *float_end(const char *at)
{
	const char *p = at + strspn(at, "+-");
	const char *digits = p;
	while (is_digit(*p))
		p++;
	bool has_digits = p > digits;
	bool has_point = *p == '.';
	if (has_point)
		for (p++; is_digit(*p); p++)
			;
	const char *exponent = p;
	if ((has_digits || has_point) && (*p == 'e' || *p == 'E')) {
		p++;
		if (*p == '+' || *p == '-')
			p++;
		if (is_digit(*p)) {
			while (is_digit(*p))
				p++;
			return p;
		}
	}
	return has_point ? exponent : NULL;
}

/* Versions of libconfig disagree: a number that is too large is wrapped by 1.5, widened by 1.7 and
 * refused by 1.8, which reads 0xffffffffL as -1. */
static void check_integer(struct scan *s, const char *text, bool hex, bool is_long)
{
	errno = 0;
	long long value = strtoll(text, NULL, hex ? 16 : 10);
	bool is_int = value >= INT_MIN && value <= INT_MAX;
	if (errno != 0) {
		reader_wrong(s->reader, s->line, "%s does not fit into 64 bits", text);
		s->sound = false;
	} else if (!is_int && hex)
		reader_wrong(s->reader, s->line,
		    "%s does not fit into 31 bits, as a hexadecimal number must: write %lldL", text,
		    value);
	else if (!is_int && !is_long)
		reader_wrong(
		    s->reader, s->line, "%s does not fit into 32 bits: write %sL", text, text);

	const char *digits = text + strspn(text, "+-");
	if (!hex && digits[0] == '0' && digits[1])
		reader_wrong(s->reader, s->line,
		    "%s begins with a zero, which some versions of libconfig take for octal: leave "
		    "it out",
		    text);
}

static void read_number(struct scan *s)
{
	const char *end = float_end(s->at);
	if (end) {
		s->at = end;
		return;
	}

	const char *start = s->at;
	s->at += *s->at == '+' || *s->at == '-';
	bool hex = s->at[0] == '0' && (s->at[1] == 'x' || s->at[1] == 'X') && is_hex(s->at[2]);
	if (hex)
		s->at += 2;
	while (hex ? is_hex(*s->at) : is_digit(*s->at))
		s->at++;

	char *text = reader_printf(s->reader, "%.*s", (int)(s->at - start), start);
	check_integer(s, text, hex, *s->at == 'L');
	s->at += strspn(s->at, "L");
}

static bool begins_number(const char *at)
{
	if (*at == '+' || *at == '-')
		at++;
	return is_digit(*at) || (*at == '.' && is_digit(at[1]));
}

static void refuse_include(struct scan *s)
{
	reader_wrong(s->reader, s->line,
	    "@include is not supported: a configuration is one file, so that what was checked is "
	    "what runs");
	s->sound = false;
	skip_line(s);
}

static void scan_token(struct scan *s)
{
	if (*s->at == '#' || strncmp(s->at, "//", 2) == 0)
		skip_line(s);
	else if (strncmp(s->at, "/*", 2) == 0)
		skip_comment(s);
	else if (*s->at == '"')
		skip_string(s);
	else if (strncmp(s->at, "@include", 8) == 0)
		refuse_include(s);
	else if (is_name_start(*s->at))
		skip_name(s);
	else if (begins_number(s->at))
		read_number(s);
	else
		step(s);
}

bool conf_scan(struct reader *r, const char *text)
{
	struct scan scan = { .reader = r, .at = text, .line = 1, .sound = true };
	while (*scan.at)
		scan_token(&scan);
	return scan.sound;
}
