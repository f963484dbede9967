/* Durations, sizes, UTF-8, escaping, patterns. */
#include "text.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* BYTES_LIT for static tables. */
#define B(s)                                                                                       \
	{                                                                                          \
		(s), sizeof(s) - 1                                                                 \
	}

static const struct {
	const char *text;
	int64_t ns;
} durations[] = {
	{ "0", 0 },
	{ "0s", 0 },
	{ "1ns", 1 },
	{ "7us", 7000 },
	{ "500ms", 500 * NS_PER_MS },
	{ "10s", 10 * NS_PER_S },
	{ "10 s", 10 * NS_PER_S },
	{ "1.5s", 1500 * NS_PER_MS },
	{ "0.25s", 250 * NS_PER_MS },
	{ "5m", 300 * NS_PER_S },
	{ "5min", 300 * NS_PER_S },
	{ "2h", 7200 * NS_PER_S },
	{ "1d", 86400 * NS_PER_S },
	{ "1.00001s", NS_PER_S + 10000 },
	{ "1.000019s", NS_PER_S + 10000 }, /* five decimals count */
	{ "9223372036854775807ns", INT64_MAX },
};

START_TEST(reads_durations)
{
	int64_t ns = -1;
	ck_assert_msg(text_duration_ns(durations[_i].text, &ns), "%s", durations[_i].text);
	ck_assert_int_eq(ns, durations[_i].ns);
}
END_TEST

static const char *const no_durations[] = { NULL, "", "s", "-1s", "+1s", "1", " 1s", "1s ", "1S",
	"1 min s", "1e3s", "0x1s", ".5s", "1.s", "1..5s", "1,5s", "1.5ns", "inf", "nan",
	"9223372036854775808ns", "9223372036855s0", "9223372037s0", "106752d", "1.5.5s", "10s10s",
	"99999999999999999999999999s" };

START_TEST(refuses_what_is_no_duration)
{
	int64_t ns;
	ck_assert_msg(!text_duration_ns(no_durations[_i], &ns), "%s", no_durations[_i]);
}
END_TEST

static const struct {
	const char *text;
	int64_t size;
} sizes[] = {
	{ "0", 0 },
	{ "4096", 4096 },
	{ "4096B", 4096 },
	{ "64KiB", 65536 },
	{ "1.5KiB", 1536 },
	{ "16MiB", 16 << 20 },
	{ "1GiB", 1 << 30 },
	{ "3GiB", INT64_C(3) << 30 },
	{ "5kB", 5000 },
	{ "5MB", 5000000 },
	{ "5GB", INT64_C(5000000000) },
};

START_TEST(reads_sizes)
{
	int64_t size = -1;
	ck_assert_msg(text_size(sizes[_i].text, &size), "%s", sizes[_i].text);
	ck_assert_int_eq(size, sizes[_i].size);
}
END_TEST

START_TEST(refuses_what_is_no_size)
{
	static const char *const wrong[] = { NULL, "", "-1", "1.5", "1.5B", "1K", "1KB", "1kb",
		"1 TiB", "9223372036854775808", "8589934592GiB", "16MiB " };
	int64_t size;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		ck_assert_msg(!text_size(wrong[i], &size), "%s", wrong[i]);
}
END_TEST

START_TEST(shows_durations)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{ -5, "0s" },
		{ 0, "0s" },
		{ 1, "0.001us" },
		{ 12500, "12.5us" },
		{ 31 * NS_PER_MS, "31ms" },
		{ NS_PER_S - 1, "999.999ms" },
		{ NS_PER_S, "1s" },
		{ 2500 * NS_PER_MS, "2.5s" },
		{ 2050 * NS_PER_MS, "2.05s" },
		{ 60 * NS_PER_S, "1m" },
		{ 60 * NS_PER_S + 500 * NS_PER_MS, "60.5s" },
		{ 90 * NS_PER_S, "90s" },
		{ 3600 * NS_PER_S, "1h" },
		{ 1500 * 60 * NS_PER_S, "25h" },
		{ 2 * 86400 * NS_PER_S, "2d" },
		{ INT64_MAX, "9223372036.854s" },
	};
	char buf[48];
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		ck_assert_str_eq(text_show_duration(cases[i].ns, buf, sizeof(buf)), cases[i].text);
	ck_assert_str_eq(text_show_duration(NS_PER_S, buf, 2), "1");
}
END_TEST

START_TEST(shows_sizes)
{
	static const struct {
		int64_t n;
		const char *text;
	} cases[] = {
		{ 0, "0B" },
		{ 1023, "1023B" },
		{ 1024, "1KiB" },
		{ 1536, "1.5KiB" },
		{ 2047, "1.999KiB" },
		{ 16 << 20, "16MiB" },
		{ INT64_C(5) << 29, "2.5GiB" },
	};
	char buf[48];
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		ck_assert_str_eq(text_show_size(cases[i].n, buf, sizeof(buf)), cases[i].text);
}
END_TEST

/* What is shown without loss reads back as the same. */
START_TEST(shown_durations_read_back)
{
	srand(1);
	for (int i = 0; i < 10000; i++) {
		int64_t ms = rand() % (i % 2 ? 1000 : 1000 * 86400 * 2);
		char buf[48];
		int64_t back;
		ck_assert(
		    text_duration_ns(text_show_duration(ms * NS_PER_MS, buf, sizeof(buf)), &back));
		ck_assert_msg(back == ms * NS_PER_MS, "%" PRId64 " ms: %s", ms, buf);
	}
}
END_TEST

static const struct {
	struct bytes text;
	bool valid;
} utf8[] = {
	{ B(""), true },
	{ B("plain"), true },
	{ B("\0"), true },
	{ B("gr\xC3\xBC\xC3\x9F"), true },
	{ B("\xE2\x82\xAC"), true },
	{ B("\xF0\x9F\x90\x87"), true },
	{ B("\xED\x9F\xBF"), true },      /* U+D7FF */
	{ B("\xF4\x8F\xBF\xBF"), true },  /* U+10FFFF */
	{ B("\x80"), false },             /* a tail alone */
	{ B("\xC3"), false },             /* cut */
	{ B("\xE2\x82"), false },         /* cut */
	{ B("\xF0\x9F\x90"), false },     /* cut */
	{ B("\xC3("), false },            /* no tail */
	{ B("\xC0\xAF"), false },         /* longer than needed */
	{ B("\xC1\xBF"), false },         /* longer than needed */
	{ B("\xE0\x9F\xBF"), false },     /* longer than needed */
	{ B("\xF0\x8F\xBF\xBF"), false }, /* longer than needed */
	{ B("\xED\xA0\x80"), false },     /* a surrogate */
	{ B("\xED\xBF\xBF"), false },     /* a surrogate */
	{ B("\xF4\x90\x80\x80"), false }, /* above U+10FFFF */
	{ B("\xF5\x80\x80\x80"), false },
	{ B("\xFE"), false },
	{ B("\xFF"), false },
};

START_TEST(knows_utf8)
{
	ck_assert_int_eq(text_is_utf8(utf8[_i].text), utf8[_i].valid);
}
END_TEST

static const struct {
	struct bytes in;
	const char *plain, *json;
} escapes[] = {
	{ B(""), "", "" },
	{ B("a b=c"), "a b=c", "a b=c" },
	{ B("a\0b"), "a\\x00b", "a\\u0000b" },
	{ B("\x1b[2J"), "\\x1b[2J", "\\u001b[2J" },
	{ B("a\nb\r\tc"), "a\\nb\\r\\tc", "a\\nb\\r\\tc" },
	{ B("\"\\"), "\\\"\\\\", "\\\"\\\\" },
	{ B("\x7f"), "\\x7f", "\\u007f" },
	{ B("\xC2\x85"), "\\u{0085}", "\\u0085" },                 /* next line */
	{ B("\xC2\x9B"), "\\u{009b}", "\\u009b" },                 /* CSI of C1 */
	{ B("\x9B"), "\\x9b", "\\u009b" },                         /* the same, raw */
	{ B("\xC2\xAD"), "\\u{00ad}", "\\u00ad" },                 /* soft hyphen */
	{ B("\xE2\x80\xAE"), "\\u{202e}", "\\u202e" },             /* right to left */
	{ B("\xE2\x81\xA6"), "\\u{2066}", "\\u2066" },             /* isolate */
	{ B("\xE2\x80\xA8"), "\\u{2028}", "\\u2028" },             /* line separator */
	{ B("\xE2\x80\x8B"), "\\u{200b}", "\\u200b" },             /* zero width */
	{ B("\xEF\xBB\xBF"), "\\u{feff}", "\\ufeff" },             /* byte order mark */
	{ B("\xF3\xA0\x80\x81"), "\\u{e0001}", "\\udb40\\udc01" }, /* a tag */
	{ B("\xC3\xBC\xF0\x9F\x90\x87"), "\xC3\xBC\xF0\x9F\x90\x87", "\xC3\xBC\xF0\x9F\x90\x87" },
	{ B("\xC3"), "\\xc3", "\\u00c3" },
	{ B("\xE2\x82z"), "\\xe2\\x82z", "\\u00e2\\u0082z" },
	{ B("\xED\xA0\x80"), "\\xed\\xa0\\x80", "\\u00ed\\u00a0\\u0080" },
};

START_TEST(escapes_what_drives_terminals)
{
	char out[128];
	ck_assert_uint_eq(text_escape(escapes[_i].in, out, sizeof(out)), strlen(escapes[_i].plain));
	ck_assert_str_eq(out, escapes[_i].plain);
	ck_assert_uint_eq(
	    text_escape_json(escapes[_i].in, out, sizeof(out)), strlen(escapes[_i].json));
	ck_assert_str_eq(out, escapes[_i].json);
}
END_TEST

START_TEST(cuts_at_whole_characters)
{
	struct bytes hare = BYTES_LIT("abc\xF0\x9F\x90\x87\xF0\x9F\x90\x87");
	static const char *const want[] = { [4] = "...",
		[5] = "a...",
		[6] = "ab...",
		[7] = "abc...",
		[8] = "abc...",
		[9] = "abc...",
		[10] = "abc...",
		[11] = "abc\xF0\x9F\x90\x87...",
		[12] = "abc\xF0\x9F\x90\x87\xF0\x9F\x90\x87" };
	for (size_t size = 4; size < ARRAY_LEN(want); size++) {
		char out[16];
		ck_assert_uint_eq(text_escape(hare, out, size), strlen(want[size]));
		ck_assert_str_eq(out, want[size]);
	}
	char out[8];
	text_escape(BYTES_LIT("\n\n\n\n\n"), out, sizeof(out)); /* never half an escape */
	ck_assert_str_eq(out, "\\n\\n...");
}
END_TEST

/* One line that no terminal obeys: no control of C0 or C1, no DEL. */
static bool is_safe(const char *text, size_t len, size_t size)
{
	if (strlen(text) != len || len >= size || !text_is_utf8((struct bytes){ text, len }))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i], next = (unsigned char)text[i + 1];
		if (c < 0x20 || c == 0x7f || (c == 0xC2 && next < 0xA0))
			return false;
	}
	return true;
}

/* Whatever bytes come, one line of valid, printable UTF-8 comes out, in any room. */
START_TEST(any_bytes_become_one_safe_line)
{
	srand(7);
	for (int round = 0; round < 20000; round++) {
		char in[64], out[400], json[400];
		size_t len = (size_t)rand() % sizeof(in), size = 4 + (size_t)rand() % 396;
		for (size_t i = 0; i < len; i++)
			in[i] = (char)(rand() % 4 ? 0x80 + rand() % 0x80 : rand() % 0x80);
		struct bytes value = { in, len };
		ck_assert(is_safe(out, text_escape(value, out, size), size));
		ck_assert(is_safe(json, text_escape_json(value, json, size), size));
	}
}
END_TEST

static void assert_prints(const char *text, const char *expected)
{
	char *out;
	size_t size;
	FILE *stream = open_memstream(&out, &size);
	ck_assert_ptr_nonnull(stream);
	text_print(text, stream);
	ck_assert_int_eq(fclose(stream), 0);
	ck_assert_str_eq(out, expected);
	free(out);
}

START_TEST(prints_one_line_for_people)
{
	char longer[4096] = "x"; /* odd, so that pieces would end inside of a character */
	for (size_t i = 1; i + 2 < sizeof(longer); i += 2)
		memcpy(longer + i, "\xc3\xa9", 2);
	assert_prints("", "");
	assert_prints("a \"b\\\" \n\033[2J\xff", "a \"b\\\" \\n\\x1b[2J\\xff");
	assert_prints(longer, longer);
}
END_TEST

START_TEST(matches_patterns)
{
	static const struct {
		const char *pattern, *name;
		bool matches;
	} cases[] = {
		{ "file.digest", "file.digest", true },
		{ "file.*", "file.digest", true },
		{ "file.*", "file.", true },
		{ "file.*", "file", false },
		{ "file.*", "profile.digest", false },
		{ "*", "", true },
		{ "*", "a.b.c", true },
		{ "", "", true },
		{ "", "a", false },
		{ "*.b", "a.b.b", true },
		{ "a*b*c", "a-b-b-c", true },
		{ "a*b*c", "a-b-b-", false },
		{ "**", "x", true },
		{ "a?", "ab", false },
		{ "a?", "a?", true },
		{ "[ab]", "a", false },
		{ "*", "*", true },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		ck_assert_msg(
		    text_match(cases[i].pattern, bytes_of(cases[i].name)) == cases[i].matches,
		    "%s against %s", cases[i].name, cases[i].pattern);
	ck_assert(!text_match("a", BYTES_LIT("a\0b")));
	ck_assert(text_match("a*b", BYTES_LIT("a\0b")));
}
END_TEST

/* A pattern of many stars against a long name that almost fits must not take for ever. */
START_TEST(matching_is_never_exponential)
{
	char name[20000], pattern[201];
	memset(name, 'a', sizeof(name));
	for (size_t i = 0; i < 200; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	pattern[199] = 'b';
	pattern[200] = '\0';
	int64_t start = clock_mono_ns();
	ck_assert(!text_match(pattern, (struct bytes){ name, sizeof(name) }));
	ck_assert_int_lt(clock_mono_ns() - start, 5 * NS_PER_S);
}
END_TEST

START_TEST(knows_names)
{
	char longest[257];
	memset(longest, 'x', sizeof(longest));
	ck_assert(text_is_name(BYTES_LIT("text.upper-2_A")));
	ck_assert(text_is_name((struct bytes){ longest, 255 }));
	ck_assert(!text_is_name((struct bytes){ longest, 256 }));
	static const struct bytes wrong[] = { B(""), B("a b"), B("a\0"), B("a\n"), B("\xC3\xBC"),
		B("a/b"), B("a*") };
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		ck_assert(!text_is_name(wrong[i]));
}
END_TEST

START_TEST(writes_hex)
{
	char out[9];
	text_hex("\x00\x7f\x80\xff", 4, out);
	ck_assert_str_eq(out, "007f80ff");
	text_hex(NULL, 0, out);
	ck_assert_str_eq(out, "");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("text");
	tcase_add_loop_test(t, reads_durations, 0, ARRAY_LEN(durations));
	tcase_add_loop_test(t, refuses_what_is_no_duration, 0, ARRAY_LEN(no_durations));
	tcase_add_loop_test(t, reads_sizes, 0, ARRAY_LEN(sizes));
	tcase_add_test(t, refuses_what_is_no_size);
	tcase_add_test(t, shows_durations);
	tcase_add_test(t, shows_sizes);
	tcase_add_test(t, shown_durations_read_back);
	tcase_add_loop_test(t, knows_utf8, 0, ARRAY_LEN(utf8));
	tcase_add_loop_test(t, escapes_what_drives_terminals, 0, ARRAY_LEN(escapes));
	tcase_add_test(t, cuts_at_whole_characters);
	tcase_add_test(t, any_bytes_become_one_safe_line);
	tcase_add_test(t, prints_one_line_for_people);
	tcase_add_test(t, matches_patterns);
	tcase_add_test(t, matching_is_never_exponential);
	tcase_add_test(t, knows_names);
	tcase_add_test(t, writes_hex);
	tcase_set_timeout(t, 60);

	Suite *suite = suite_create("text");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
