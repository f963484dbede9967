/* Words out of a line, escapes undone, and patterns of them. */
#include "words.h"

#include <stdio.h>
#include <string.h>

static bool refuse(char *why, size_t size, const char *text)
{
	(void)snprintf(why, size, "%s", text);
	return false;
}

/* -1: no hexadecimal digit. */
static int digit(char c)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	const char *found = c ? strchr(digits, c) : NULL;

	return found ? (int)(found - digits) % 16 : -1;
}

/* One word in its own place; what it needs without escapes is never more. */
static bool unescape(char *word, size_t len, size_t *out, char *why, size_t size)
{
	*out = 0;
	for (size_t i = 0; i < len; i++) {
		if (word[i] != '%') {
			if (word[i] < '!' || word[i] > '~')
				return refuse(why, size,
				    "bytes other than printable ASCII must be written as %XX");
			word[(*out)++] = word[i];
			continue;
		}
		int high = len - i > 2 ? digit(word[i + 1]) : -1;
		int low = len - i > 2 ? digit(word[i + 2]) : -1;
		if (high < 0 || low < 0)
			return refuse(why, size, "a % must be followed by two hexadecimal digits");
		word[(*out)++] = (char)(high * 16 + low);
		i += 2;
	}
	return true;
}

static bool add(struct words *words, char *word, size_t len, char *why, size_t size)
{
	size_t out;

	if (len == 0)
		return refuse(why, size, "there must be one space between words, and none outside");
	if (words->n == WORDS_MAX)
		return refuse(why, size, "too many words");
	if (!unescape(word, len, &out, why, size))
		return false;
	words->list[words->n++] = (struct bytes){ word, out };
	return true;
}

bool words_read(char *line, size_t len, struct words *words, char *why, size_t why_size)
{
	char *end = line + len;

	words->n = 0;
	if (len == 0)
		return refuse(why, why_size, "the line is empty");
	for (char *at = line;;) {
		char *space = memchr(at, ' ', (size_t)(end - at));
		char *stop = space ? space : end;

		if (!add(words, at, (size_t)(stop - at), why, why_size))
			return false;
		if (!space)
			return true;
		at = space + 1;
	}
}

static bool is_capital(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool match_one(struct bytes word, const char *pattern, size_t len)
{
	return is_capital(*pattern) || bytes_equal(word, (struct bytes){ pattern, len });
}

bool words_match(const struct words *words, const char *pattern)
{
	size_t i = 0;

	for (; *pattern; i++) {
		size_t len = strcspn(pattern, " ");

		if (i == words->n || !match_one(words->list[i], pattern, len))
			return false;
		pattern += len + (pattern[len] == ' ');
	}
	return i == words->n;
}

bool words_begin(const struct words *words, const char *pattern)
{
	return words->n > 0 && match_one(words->list[0], pattern, strcspn(pattern, " "));
}
