/* text.c and ladder.c: escapes that are one safe line and can be undone, numbers that add up. */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fuzz.h"
#include "ladder.h"
#include "text.h"

enum { IN_MAX = 600, OUT_MAX = IN_MAX * 12 + 8 };

static size_t hex(const char *p, size_t digits, uint32_t *c)
{
	char text[9] = "";
	memcpy(text, p, digits);
	*c = (uint32_t)strtoul(text, NULL, 16);
	return digits;
}

static size_t put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = len; i-- > 1; c >>= 6)
		out[i] = (char)(0x80 | (c & 63));
	out[0] = (char)((0xF00u >> len & 0xFF) | c);
	return len;
}

/* The reverse of text_escape. */
static size_t undo(const char *in, size_t len, char *out)
{
	size_t n = 0;
	for (size_t i = 0; i < len;) {
		uint32_t c;
		if (in[i] != '\\') {
			out[n++] = in[i++];
			continue;
		}
		CHECK(i + 1 < len);
		const char *brief = strchr("nn\nrr\rtt\t\"\"\"\\\\\\", in[i + 1]);
		if (in[i + 1] == 'x') {
			i += 2 + hex(in + i + 2, 2, &c);
			out[n++] = (char)c;
		} else if (in[i + 1] == 'u') {
			const char *end = memchr(in + i, '}', len - i);
			CHECK(in[i + 2] == '{' && end);
			(void)hex(in + i + 3, (size_t)(end - in) - i - 3, &c);
			n += put_utf8(out + n, c);
			i = (size_t)(end - in) + 1;
		} else {
			CHECK(brief);
			out[n++] = brief[2];
			i += 2;
		}
	}
	return n;
}

static void check_escape(struct bytes in, size_t room)
{
	static char out[OUT_MAX], back[OUT_MAX];
	size_t len = text_escape(in, out, OUT_MAX);
	CHECK(len == strlen(out) && is_safe_text((struct bytes){ out, len }, ""));
	CHECK(
	    undo(out, len, back) == in.len && (in.len == 0 || memcmp(back, in.data, in.len) == 0));

	char *small = xcalloc(1, room);
	size_t cut = text_escape(in, small, room);
	CHECK(cut < room && small[cut] == '\0' && is_safe_text((struct bytes){ small, cut }, ""));
	CHECK(cut == len || (cut >= 3 && strcmp(small + cut - 3, "...") == 0));
	free(small);
}

static void check_json(struct bytes in, size_t room)
{
	static char out[OUT_MAX + 2];
	size_t len = text_escape_json(in, out + 1, OUT_MAX);
	out[0] = out[len + 1] = '"';
	CHECK(is_json((struct bytes){ out, len + 2 }));

	char *small = xcalloc(1, room + 2);
	len = text_escape_json(in, small + 1, room);
	CHECK(len < room);
	small[0] = small[len + 1] = '"';
	CHECK(is_json((struct bytes){ small, len + 2 }));
	free(small);
}

static void check_units(const char *text)
{
	int64_t ns, size, again;
	char shown[64];
	if (text_duration_ns(text, &ns)) {
		CHECK(ns >= 0);
		CHECK(text_duration_ns(text_show_duration(ns, shown, sizeof(shown)), &again));
		CHECK(again <= ns && (ns < 1000 || ns - again <= ns / 1000));
	}
	if (text_size(text, &size)) {
		CHECK(size >= 0);
		CHECK(text_size(text_show_size(size, shown, sizeof(shown)), &again));
		CHECK(again <= size && size - again <= size / 1000 + 1);
	}
}

/* By the definition, without the one trick that makes text_match fast. */
static bool match(const char *pattern, struct bytes name, unsigned *steps)
{
	if (++*steps > 20000)
		return false;
	if (*pattern == '\0')
		return name.len == 0;
	if (*pattern == '*')
		return match(pattern + 1, name, steps) ||
		       (name.len > 0 &&
			   match(pattern, (struct bytes){ name.data + 1, name.len - 1 }, steps));
	return name.len > 0 && *pattern == *name.data &&
	       match(pattern + 1, (struct bytes){ name.data + 1, name.len - 1 }, steps);
}

static void check_match(const char *pattern, struct bytes name)
{
	unsigned steps = 0;
	bool expected = match(pattern, name, &steps), found = text_match(pattern, name);
	CHECK(steps > 20000 || expected == found);
}

/* The delay that is waited is at least the one asked for, and not much more; its key says it. */
static void check_ladder(int64_t delay_ns, const char *name)
{
	char address[LADDER_ADDRESS_LEN + 1], key[LADDER_KEY_SIZE];
	int64_t longest = (INT64_C(1) << LADDER_RUNGS) - 1, seconds = ladder_round(delay_ns),
		bits = 0;
	if (delay_ns <= 0)
		CHECK(seconds == 0);
	else if (delay_ns <= longest * NS_PER_S)
		CHECK(seconds * NS_PER_S >= delay_ns || seconds == longest);
	CHECK(seconds <= longest);
	CHECK(delay_ns <= NS_PER_S || seconds - delay_ns / NS_PER_S <= seconds / 16 + 1);
	CHECK(ladder_top_rung(delay_ns) == ladder_rung((uint32_t)seconds));
	CHECK(ladder_address(bytes_of(name), address));
	ladder_key((uint32_t)seconds, address, key);
	for (int i = 0; i < LADDER_RUNGS; i++)
		bits = bits * 2 + (key[2 * i] - '0');
	CHECK(bits == seconds && strcmp(key + LADDER_RUNGS * 2, address) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = { data, size };
	size_t room = 4 + feed_byte(&feed);
	int64_t delay_ns = (int64_t)feed_number(&feed, 8);
	char *text = feed_string(&feed, 64);
	struct bytes rest = feed_rest(&feed);
	if (rest.len > IN_MAX)
		rest.len = IN_MAX;
	check_escape(rest, room);
	check_json(rest, room);
	check_units(text);
	check_match(text, rest);
	check_ladder(delay_ns, text);
	CHECK(text_is_utf8(rest) || !is_safe_text(rest, ""));
	(void)text_is_name(rest);
	free(text);
	return 0;
}
