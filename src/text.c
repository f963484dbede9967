/* Durations, sizes, UTF-8, escaping and patterns, all without a locale. */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit duration_units[] = {
	{ "ns", 1 },
	{ "us", 1000 },
	{ "ms", NS_PER_MS },
	{ "s", NS_PER_S },
	{ "m", 60 * NS_PER_S },
	{ "min", 60 * NS_PER_S },
	{ "h", 3600 * NS_PER_S },
	{ "d", 24 * 3600 * NS_PER_S },
	{ NULL, 0 },
};

static const struct unit size_units[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "kB", 1000 },
	{ "MB", 1000 * 1000 },
	{ "GB", 1000 * 1000 * 1000 },
	{ "KiB", 1 << 10 },
	{ "MiB", 1 << 20 },
	{ "GiB", 1 << 30 },
	{ NULL, 0 },
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static const struct unit *find_unit(const struct unit *units, const char *name)
{
	for (; units->name; units++)
		if (strcmp(units->name, name) == 0)
			return units;
	return NULL;
}

/* digits [. digits] [space] unit; five decimals count, more are cut. */
static bool read_quantity(const char *s, const struct unit *units, int64_t *out)
{
	if (!s || !is_digit(*s))
		return false;
	int64_t whole = 0;
	for (; is_digit(*s); s++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, *s - '0', &whole))
			return false;

	int64_t fraction = 0, scale = 1;
	if (*s == '.') {
		s++;
		if (!is_digit(*s))
			return false;
		for (; is_digit(*s); s++)
			if (scale < 100000) {
				fraction = fraction * 10 + (*s - '0');
				scale *= 10;
			}
	}
	while (*s == ' ')
		s++;

	const struct unit *unit = find_unit(units, s);
	if (!unit || (unit->factor == 1 && fraction != 0))
		return false;
	return !__builtin_mul_overflow(whole, unit->factor, out) &&
	       !__builtin_add_overflow(*out, fraction * unit->factor / scale, out);
}

bool text_duration_ns(const char *s, int64_t *ns)
{
	if (s && strcmp(s, "0") == 0) {
		*ns = 0;
		return true;
	}
	return read_quantity(s, duration_units, ns);
}

bool text_size(const char *s, int64_t *size)
{
	return read_quantity(s, size_units, size);
}

/* n / factor with up to three decimals, trailing zeros cut. */
static char *show_scaled(int64_t n, int64_t factor, const char *unit, char *buf, size_t size)
{
	int64_t milli = n % factor * 1000 / factor;
	char decimals[8] = "";
	if (milli > 0) {
		(void)snprintf(decimals, sizeof(decimals), ".%03d", (int)milli);
		for (size_t len = strlen(decimals); decimals[len - 1] == '0'; len--)
			decimals[len - 1] = '\0';
	}
	(void)snprintf(buf, size, "%lld%s%s", (long long)(n / factor), decimals, unit);
	return buf;
}

char *text_show_duration(int64_t ns, char *buf, size_t size)
{
	if (ns <= 0)
		return show_scaled(0, 1, "s", buf, size);
	if (ns < NS_PER_MS)
		return show_scaled(ns, 1000, "us", buf, size);
	if (ns < NS_PER_S)
		return show_scaled(ns, NS_PER_MS, "ms", buf, size);
	/* Larger units only where they come out even: 90s says more than 1.5m. */
	if (ns % (86400 * NS_PER_S) == 0)
		return show_scaled(ns, 86400 * NS_PER_S, "d", buf, size);
	if (ns % (3600 * NS_PER_S) == 0)
		return show_scaled(ns, 3600 * NS_PER_S, "h", buf, size);
	if (ns % (60 * NS_PER_S) == 0)
		return show_scaled(ns, 60 * NS_PER_S, "m", buf, size);
	return show_scaled(ns, NS_PER_S, "s", buf, size);
}

char *text_show_size(int64_t n, char *buf, size_t size)
{
	if (n >= 1 << 30)
		return show_scaled(n, 1 << 30, "GiB", buf, size);
	if (n >= 1 << 20)
		return show_scaled(n, 1 << 20, "MiB", buf, size);
	if (n >= 1 << 10)
		return show_scaled(n, 1 << 10, "KiB", buf, size);
	return show_scaled(n, 1, "B", buf, size);
}

/*
 * The length of the UTF-8 character at p (RFC 3629: shortest form, no surrogates, at most
 * U+10FFFF), or 0 where there is none.
 */
static size_t utf8_len(const unsigned char *p, size_t left, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len;
	uint32_t c = p[0];
	if (c < 0x80)
		len = 1;
	else if (c >= 0xC2 && c <= 0xDF)
		len = 2, c &= 0x1F;
	else if (c >= 0xE0 && c <= 0xEF)
		len = 3, c &= 0x0F;
	else if (c >= 0xF0 && c <= 0xF4)
		len = 4, c &= 0x07;
	else
		return 0;
	if (len > left)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xC0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3F);
	}
	if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
		return 0;
	*code = c;
	return len;
}

char *text_finish(void *stream, char **text)
{
	FILE *out = stream;
	bool whole = ferror(out) == 0;

	if (fclose(out) == 0 && whole)
		return *text;
	free(*text);
	return NULL;
}

bool text_is_utf8(struct bytes in)
{
	uint32_t code;
	for (size_t i = 0; i < in.len;) {
		size_t n = utf8_len((const unsigned char *)in.data + i, in.len - i, &code);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

/* Characters that end lines, move cursors or reorder text: controls, separators, bidi, zero width.
 */
static bool is_unsafe(uint32_t c)
{
	return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0xAD || c == 0x061C ||
	       (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
	       (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFB) ||
	       (c >= 0xE0000 && c <= 0xE0FFF);
}

static const char *short_escape(uint32_t c)
{
	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	default:
		return NULL;
	}
}

/* The escaped form of the character at `p`; returns how many bytes of input it took. */
static size_t escape_one(
    const unsigned char *p, size_t left, bool json, char out[16], size_t *out_len)
{
	uint32_t c = 0;
	size_t n = utf8_len(p, left, &c);
	const char *brief = n ? short_escape(c) : NULL;
	if (brief) {
		*out_len = (size_t)snprintf(out, 16, "%s", brief);
	} else if (n == 0) {
		*out_len = (size_t)snprintf(out, 16, json ? "\\u00%02x" : "\\x%02x", p[0]);
		n = 1;
	} else if (!is_unsafe(c)) {
		memcpy(out, p, n);
		*out_len = n;
	} else if (json && c > 0xFFFF) {
		*out_len = (size_t)snprintf(out, 16, "\\u%04x\\u%04x",
		    (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
		    (unsigned)(0xDC00 + ((c - 0x10000) & 0x3FF)));
	} else if (json) {
		*out_len = (size_t)snprintf(out, 16, "\\u%04x", (unsigned)c);
	} else if (c < 0x80) {
		*out_len = (size_t)snprintf(out, 16, "\\x%02x", (unsigned)c);
	} else {
		*out_len = (size_t)snprintf(out, 16, "\\u{%04x}", (unsigned)c);
	}
	return n;
}

static size_t escape(struct bytes in, char *out, size_t size, bool json)
{
	CHECK(size >= 4);
	const unsigned char *p = (const unsigned char *)in.data;
	size_t used = 0, safe = 0; /* safe: a character's end with room for "..." behind it */
	for (size_t i = 0; i < in.len;) {
		char one[16];
		size_t len;
		size_t took = escape_one(p + i, in.len - i, json, one, &len);
		if (used + len + 1 > size) {
			memcpy(out + safe, "...", 4);
			return safe + 3;
		}
		memcpy(out + used, one, len);
		used += len;
		i += took;
		if (used + 4 <= size)
			safe = used;
	}
	out[used] = '\0';
	return used;
}

size_t text_escape(struct bytes in, char *out, size_t size)
{
	return escape(in, out, size, false);
}

size_t text_escape_json(struct bytes in, char *out, size_t size)
{
	return escape(in, out, size, true);
}

/* How much of `text` is escaped at once: up to `max`, and no part of a character. */
static size_t piece_len(const char *text, size_t max)
{
	size_t len = strcspn(text, "\"\\");
	if (len <= max)
		return len;
	/* A character's later bytes are 10xxxxxx. */
	for (len = max; len > max - 3 && ((unsigned char)text[len] & 0xC0) == 0x80;)
		len--;
	return len;
}

void text_print(const char *text, void *stream)
{
	enum { AT_ONCE = 512, GROWTH = 8 }; /* \u{NNNN} is the longest */
	char out[AT_ONCE * GROWTH + 1];
	while (*text) {
		size_t len = piece_len(text, AT_ONCE);
		(void)text_escape((struct bytes){ text, len }, out, sizeof(out));
		(void)fputs(out, stream);
		text += len;
		for (; *text == '"' || *text == '\\'; text++)
			(void)fputc(*text, stream);
	}
}

bool text_match(const char *pattern, struct bytes name)
{
	const char *star = NULL;
	size_t i = 0, retry = 0;
	while (i < name.len) {
		if (*pattern == '*') {
			star = pattern++;
			retry = i;
		} else if (*pattern != '\0' && *pattern == name.data[i]) {
			pattern++;
			i++;
		} else if (star) {
			pattern = star + 1;
			i = ++retry;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

bool text_is_name(struct bytes name)
{
	if (name.len == 0 || name.len > 255)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];
		if (!is_digit(c) && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    c != '.' && c != '_' && c != '-')
			return false;
	}
	return true;
}

void text_hex(const void *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * len] = '\0';
}
