/* words.c: lines taken apart, and the patterns that they are compared with. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "words.h"

static struct words words;
static char line[256], why[128];

static bool read_bytes(const char *text, size_t len)
{
	memcpy(line, text, len);
	return words_read(line, len, &words, why, sizeof(why));
}

static bool read_text(const char *text)
{
	return read_bytes(text, strlen(text));
}

START_TEST(words_stand_between_single_spaces)
{
	ck_assert(read_text("scale images 8"));
	ck_assert_uint_eq(words.n, 3);
	ck_assert(bytes_is(words.list[0], "scale"));
	ck_assert(bytes_is(words.list[1], "images"));
	ck_assert(bytes_is(words.list[2], "8"));
	ck_assert(read_text("a b c d e f g h"));
	ck_assert_uint_eq(words.n, WORDS_MAX);
}
END_TEST

START_TEST(escapes_stand_for_any_byte)
{
	ck_assert(read_text("pause my%20queue%25%c3%A4%00%0a"));
	ck_assert(bytes_equal(words.list[1], BYTES_LIT("my queue%\xc3\xa4\0\n")));
	ck_assert(read_text("%70ause"));
	ck_assert(words_match(&words, "pause"));
}
END_TEST

START_TEST(every_byte_comes_back)
{
	char text[8];

	for (int byte = 0; byte < 256; byte++) {
		(void)snprintf(text, sizeof(text), "x%%%02X", (unsigned)byte);
		ck_assert(read_text(text));
		ck_assert_uint_eq(words.list[0].len, 2);
		ck_assert_int_eq((unsigned char)words.list[0].data[1], byte);
	}
}
END_TEST

#define TEXT(s)                                                                                    \
	{                                                                                          \
		(s), sizeof(s) - 1                                                                 \
	}

static const struct {
	struct bytes text;
	const char *why;
} broken[] = {
	{ TEXT(""), "empty" },
	{ TEXT(" "), "one space" },
	{ TEXT(" a"), "one space" },
	{ TEXT("a "), "one space" },
	{ TEXT("a  b"), "one space" },
	{ TEXT("a\tb"), "printable" },
	{ TEXT("a\r"), "printable" },
	{ TEXT("a\0b"), "printable" },
	{ TEXT("a\x7f"), "printable" },
	{ TEXT("\xc3\xa4"), "printable" },
	{ TEXT("%"), "hexadecimal" },
	{ TEXT("a%4"), "hexadecimal" },
	{ TEXT("a%4 1"), "hexadecimal" },
	{ TEXT("a%g1"), "hexadecimal" },
	{ TEXT("a%1g"), "hexadecimal" },
	{ TEXT("a%\0\0"), "hexadecimal" },
	{ TEXT("a b c d e f g h i"), "too many" },
};

START_TEST(what_is_no_line_of_words_is_refused)
{
	ck_assert(!read_bytes(broken[_i].text.data, broken[_i].text.len));
	ck_assert_msg(strstr(why, broken[_i].why) != NULL, "%s", why);
}
END_TEST

static const struct {
	const char *text, *pattern;
	bool matches, begins;
} patterns[] = {
	{ "pause", "pause", true, true },
	{ "pause", "pause QUEUE", false, true },
	{ "pause a", "pause QUEUE", true, true },
	{ "pause a", "pause", false, true },
	{ "pause a b", "pause QUEUE", false, true },
	{ "scale a 3", "scale QUEUE N", true, true },
	{ "paus", "pause", false, false },
	{ "pauses", "pause", false, false },
	{ "PAUSE", "pause", false, false },
	{ "resume a", "pause QUEUE", false, false },
	{ "pause%00", "pause", false, false },
	{ "pause%20a", "pause QUEUE", false, false },
};

START_TEST(capitals_stand_for_any_word)
{
	ck_assert(read_text(patterns[_i].text));
	ck_assert_int_eq(words_match(&words, patterns[_i].pattern), patterns[_i].matches);
	ck_assert_int_eq(words_begin(&words, patterns[_i].pattern), patterns[_i].begins);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("words");
	TCase *tests = tcase_create("words");
	SRunner *runner = srunner_create(suite);

	tcase_add_test(tests, words_stand_between_single_spaces);
	tcase_add_test(tests, escapes_stand_for_any_byte);
	tcase_add_test(tests, every_byte_comes_back);
	tcase_add_loop_test(tests, what_is_no_line_of_words_is_refused, 0, (int)ARRAY_LEN(broken));
	tcase_add_loop_test(tests, capitals_stand_for_any_word, 0, (int)ARRAY_LEN(patterns));
	suite_add_tcase(suite, tests);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
