/* Inputs taken apart, and a second opinion on text: written without a look at src/text.c. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

uint8_t feed_byte(struct feed *feed)
{
	if (feed->left == 0)
		return 0;
	feed->left--;
	return *feed->data++;
}

uint64_t feed_number(struct feed *feed, size_t bytes)
{
	uint64_t n = 0;
	for (; bytes > 0; bytes--)
		n = n << 8 | feed_byte(feed);
	return n;
}

static struct bytes feed_take(struct feed *feed, size_t len)
{
	if (len > feed->left)
		len = feed->left;
	struct bytes taken = { (const char *)feed->data, len };
	feed->data += len;
	feed->left -= len;
	return taken;
}

struct bytes feed_bytes(struct feed *feed, size_t max)
{
	size_t len = (size_t)feed_number(feed, max > 255 ? 2 : 1);
	return feed_take(feed, len < max ? len : max);
}

char *feed_string(struct feed *feed, size_t max)
{
	struct bytes taken = feed_bytes(feed, max);
	char *text = xcalloc(1, taken.len + 1);
	if (taken.len)
		memcpy(text, taken.data, taken.len);
	return text;
}

struct bytes feed_rest(struct feed *feed)
{
	return feed_take(feed, feed->left);
}

/* ---- text ---- */

static const struct {
	uint32_t from, to;
} unsafe[] = {
	{ 0x00, 0x1F },       /* C0 */
	{ 0x7F, 0x9F },       /* DEL, C1 */
	{ 0x200B, 0x200F },   /* zero width, direction marks */
	{ 0x2028, 0x202E },   /* separators, bidirectional embeddings */
	{ 0x2066, 0x2069 },   /* bidirectional isolates */
	{ 0xFEFF, 0xFEFF },   /* byte order mark */
	{ 0xD800, 0xDFFF },   /* surrogates are no characters */
	{ 0xE0000, 0xE007F }, /* tags */
};

static bool is_unsafe(uint32_t c)
{
	for (size_t i = 0; i < ARRAY_LEN(unsafe); i++)
		if (c >= unsafe[i].from && c <= unsafe[i].to)
			return true;
	return false;
}

/* How many bytes the first one announces, 0: it begins no character. */
static size_t announced(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xF5)
		return 0;
	return first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 0;
}

/* The character at `p`, as long as `len` says; UINT32_MAX for an encoding that is not the one. */
static uint32_t decode(const unsigned char *p, size_t len)
{
	static const uint32_t first[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t c = len == 1 ? p[0] : p[0] & (0xFFu >> (len + 1));
	for (size_t i = 1; i < len; i++) {
		if (p[i] >> 6 != 2)
			return UINT32_MAX;
		c = c * 64 + p[i] % 64;
	}
	return c < first[len] || c > 0x10FFFF ? UINT32_MAX : c;
}

bool is_safe_text(struct bytes text, const char *allowed)
{
	const unsigned char *p = (const unsigned char *)text.data;
	for (size_t i = 0; i < text.len;) {
		size_t len = announced(p[i]);
		if (len == 0 || len > text.len - i)
			return false;
		uint32_t c = decode(p + i, len);
		bool may = c > 0 && c < 0x80 && strchr(allowed, (int)c);
		if (c == UINT32_MAX || (is_unsafe(c) && !may))
			return false;
		i += len;
	}
	return true;
}

/* ---- JSON ---- */

static const char *json_value(const char *p, const char *end, int depth);

static const char *json_string(const char *p, const char *end)
{
	const char *begin = ++p;
	for (; p < end && *p != '"'; p++) {
		if (*p != '\\')
			continue;
		if (++p == end || !strchr("\"\\/bfnrtu", *p))
			return NULL;
		for (int i = 0; *p == 'u' && i < 4; i++)
			if (p + 1 + i >= end || !strchr("0123456789abcdefABCDEF", p[1 + i]))
				return NULL;
	}
	if (p >= end || !is_safe_text((struct bytes){ begin, (size_t)(p - begin) }, ""))
		return NULL;
	return p + 1;
}

static const char *json_number(const char *p, const char *end)
{
	char text[64], *stop;
	size_t len = 0;
	while (p + len < end && len < sizeof(text) - 1 && strchr("+-.0123456789eE", p[len]))
		len++;
	memcpy(text, p, len);
	text[len] = '\0';
	const char *digits = text + (text[0] == '-');
	(void)strtod(text, &stop);
	if (len == 0 || *stop || *digits < '0' || *digits > '9')
		return NULL;
	return digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' ? NULL : p + len;
}

static const char *json_word(const char *p, const char *end, const char *word)
{
	size_t len = strlen(word);
	return (size_t)(end - p) >= len && memcmp(p, word, len) == 0 ? p + len : NULL;
}

/* Objects and arrays. */
static const char *json_members(const char *p, const char *end, int depth)
{
	char close = *p == '{' ? '}' : ']';
	bool named = *p++ == '{';
	if (p < end && *p == close)
		return p + 1;
	for (;;) {
		if (named && (p >= end || *p != '"' || !(p = json_string(p, end)) || p >= end ||
				 *p++ != ':'))
			return NULL;
		p = json_value(p, end, depth + 1);
		if (!p || p >= end)
			return NULL;
		if (*p == close)
			return p + 1;
		if (*p++ != ',')
			return NULL;
	}
}

static const char *json_value(const char *p, const char *end, int depth)
{
	if (p >= end || depth > 64)
		return NULL;
	switch (*p) {
	case '{':
	case '[':
		return json_members(p, end, depth);
	case '"':
		return json_string(p, end);
	case 't':
		return json_word(p, end, "true");
	case 'f':
		return json_word(p, end, "false");
	case 'n':
		return json_word(p, end, "null");
	default:
		return json_number(p, end);
	}
}

bool is_json(struct bytes text)
{
	const char *end = text.data + text.len;
	return text.len > 0 && json_value(text.data, end, 0) == end;
}

/* ---- streams ---- */

FILE *memory_open(struct memory *memory)
{
	memory->file = open_memstream(&memory->text, &memory->len);
	CHECK(memory->file);
	return memory->file;
}

struct bytes memory_close(struct memory *memory)
{
	CHECK(fclose(memory->file) == 0);
	return (struct bytes){ memory->text, memory->len };
}
