/* Tables: widths, cuts, blocks; and the text that is in them. */
#include "table.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static char *drawn;
static size_t drawn_len;
static struct stream_pen pen;

static void setup(void)
{
	pen_set_locale();
	pen = pen_to(or_die(open_memstream(&drawn, &drawn_len)), false);
}

static void teardown(void)
{
	(void)fclose(pen.out);
	free(drawn);
}

static void expect(const char *text)
{
	ck_assert_int_eq(fflush(pen.out), 0);
	ck_assert_str_eq(drawn, text);
}

static struct table *table_of(const char *const *headings, const char *const *cells, size_t rows)
{
	struct table *table = table_create(4);
	for (size_t i = 0; i < 4; i++) {
		struct table_column column = { headings[i],
			i == 0 || i == 3 ? TABLE_LEFT : TABLE_RIGHT, i != 2, i == 3 };
		table_set_column(table, i, &column);
	}
	for (size_t row = 0; row < rows; row++) {
		table_add_row(table);
		for (size_t i = 0; i < 4; i++)
			table_set(table, i, TINT_PLAIN, xstrdup(cells[4 * row + i]));
	}
	return table;
}

static const char *const headings[] = { "NAME", "N", "M", "WHY" };
static const char *const cells[] = { "a", "1", "22", "-", "long", "333", "4", "-" };
static const char *const reasons[] = { "a", "1", "22", "", "long", "333", "4", "it is so" };

START_TEST(columns_are_as_wide_as_their_cells)
{
	struct table *table = table_of(headings, cells, 2);
	table_put(table, &pen.pen, 80);
	table_free(table);
	expect("NAME    N   M\n"
	       "a       1  22\n"
	       "long  333   4\n");
}
END_TEST

START_TEST(an_optional_column_is_there_when_it_says_something)
{
	struct table *table = table_of(headings, reasons, 2);
	table_put(table, &pen.pen, 80);
	table_free(table);
	expect("NAME    N   M  WHY\n"
	       "a       1  22\n"
	       "long  333   4  it is so\n");
}
END_TEST

START_TEST(a_narrow_line_gives_blocks_that_repeat_the_name)
{
	struct table *table = table_of(headings, reasons, 2);
	table_put(table, &pen.pen, 15);
	table_free(table);
	expect("NAME    N   M\n"
	       "a       1  22\n"
	       "long  333   4\n"
	       "NAME  WHY\n"
	       "a\n"
	       "long  it is so\n");
}
END_TEST

START_TEST(a_group_that_does_not_fit_is_cut)
{
	struct table *table = table_of(headings, cells, 1);
	table_put(table, &pen.pen, 8);
	table_free(table);
	expect("NAME  N\n"
	       "a     1\n"
	       "NAME   M\n"
	       "a     22\n");
}
END_TEST

START_TEST(long_text_is_cut_to_a_third_but_the_last_runs_on)
{
	static const char *const wide[] = { "abcdefghijklmnopqrstuvwxyz", "1", "2",
		"a reason that is longer than a third of the line" };
	struct table *table = table_of(headings, wide, 1);
	table_put(table, &pen.pen, 30);
	table_free(table);
	expect("NAME        N  M  WHY\n"
	       "abcdefghi~  1  2  a reason th~\n");
}
END_TEST

START_TEST(wide_characters_take_two_columns)
{
	static const char *const wide[] = { "\xe6\x97\xa5\xe6\x9c\xac", "1", "2", "", "abcd", "3",
		"4", "" };
	struct table *table = table_of(headings, wide, 2);
	table_put(table, &pen.pen, 80);
	table_free(table);
	expect("NAME  N  M\n"
	       "\xe6\x97\xa5\xe6\x9c\xac  1  2\n"
	       "abcd  3  4\n");
}
END_TEST

START_TEST(cells_are_found_whatever_the_case)
{
	struct table *table = table_of(headings, reasons, 2);
	ck_assert(table_contains(table, 1, "IT IS"));
	ck_assert(!table_contains(table, 0, "it is"));
	ck_assert(table_contains(table, 0, ""));
	table_free(table);
}
END_TEST

/* ---- text ---- */

static const struct {
	const char *text;
	size_t columns;
	const char *fit;
} fits[] = {
	{ "abc", 3, "abc" },
	{ "abcd", 3, "ab~" },
	{ "abcd", 1, "~" },
	{ "abcd", 0, "" },
	{ "", 0, "" },
	{ "\xe6\x97\xa5\xe6\x9c\xac", 4, "\xe6\x97\xa5\xe6\x9c\xac" },
	{ "\xe6\x97\xa5\xe6\x9c\xac", 3, "\xe6\x97\xa5~" },
	{ "\xe6\x97\xa5\xe6\x9c\xac", 2, "~" },
	{ "e\xcc\x81t\xc3\xa9", 3, "e\xcc\x81t\xc3\xa9" },
};

START_TEST(is_cut_at_whole_characters)
{
	char *fit = pen_fit(fits[_i].text, fits[_i].columns);
	ck_assert_str_eq(fit, fits[_i].fit);
	ck_assert_uint_le(pen_width(fit), fits[_i].columns);
	free(fit);
}
END_TEST

static const struct {
	struct bytes text;
	const char *safe;
} safes[] = {
	{ { "a\"\\b", 4 }, "a\"\\b" },
	{ { "a\0b\033[2J\n", 8 }, "a\\x00b\\x1b[2J\\n" },
	{ { "\xff\xc3\xa9", 3 }, "\\xff\xc3\xa9" },
	{ { "\xe2\x80\xae", 3 }, "\\u{202e}" },
	{ { "e\xcc\x81\xcc\x81\xcc\x81\xcc\x81", 9 }, "e\xcc\x81\xcc\x81" },
	{ { NULL, 0 }, "" },
};

START_TEST(of_strangers_is_made_safe)
{
	char *safe = pen_safe(safes[_i].text);
	ck_assert_str_eq(safe, safes[_i].safe);
	free(safe);
}
END_TEST

START_TEST(of_strangers_is_bounded)
{
	char *big = xcalloc(1, 1 << 20);
	char *safe = pen_safe((struct bytes){ big, 1 << 20 });
	ck_assert_uint_le(strlen(safe), 8 * 4096);
	free(safe);
	free(big);
}
END_TEST

START_TEST(prose_is_wrapped_at_spaces)
{
	pen_wrap(&pen.pen, TINT_PLAIN, "one two three four five six sevenseveneightnineteneleven x",
	    2, 24);
	expect("  one two three four\n"
	       "  five six\n"
	       "  sevenseveneightnineten\n"
	       "  eleven x\n");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("table");
	TCase *tables = tcase_create("table"), *text = tcase_create("text");
	tcase_add_checked_fixture(tables, setup, teardown);
	tcase_add_test(tables, columns_are_as_wide_as_their_cells);
	tcase_add_test(tables, an_optional_column_is_there_when_it_says_something);
	tcase_add_test(tables, a_narrow_line_gives_blocks_that_repeat_the_name);
	tcase_add_test(tables, a_group_that_does_not_fit_is_cut);
	tcase_add_test(tables, long_text_is_cut_to_a_third_but_the_last_runs_on);
	tcase_add_test(tables, wide_characters_take_two_columns);
	tcase_add_test(tables, cells_are_found_whatever_the_case);
	tcase_add_checked_fixture(text, setup, teardown);
	tcase_add_loop_test(text, is_cut_at_whole_characters, 0, ARRAY_LEN(fits));
	tcase_add_loop_test(text, of_strangers_is_made_safe, 0, ARRAY_LEN(safes));
	tcase_add_test(text, of_strangers_is_bounded);
	tcase_add_test(text, prose_is_wrapped_at_spaces);
	suite_add_tcase(suite, tables);
	suite_add_tcase(suite, text);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
