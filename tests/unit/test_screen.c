/*
 * Screens of the samples in tests/status: NAME.json in, NAME.txt out, 80 columns wide. After a look
 * at what has changed, WARREN_WRITE_SCREENS=1 writes them anew.
 */
#include "screen.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "roster.h"

static const char *const samples[] = { "healthy", "broker-down", "queue-gone", "memory-alarm",
	"stuck-task", "crash-loop", "paused", "hostile-names" };

static char *path_of(const char *name, const char *ending)
{
	return xasprintf("%s/tests/status/%s.%s", SOURCE_DIR, name, ending);
}

static char *read_all(const char *path, size_t *len)
{
	FILE *file = fopen(path, "r");
	ck_assert_msg(file != NULL, "%s", path);
	char *text = NULL;
	FILE *copy = or_die(open_memstream(&text, len));
	for (int c; (c = getc(file)) != EOF;)
		(void)putc(c, copy);
	(void)fclose(file);
	ck_assert_int_eq(fclose(copy), 0);
	return text;
}

static json_t *sample(const char *name)
{
	char why[256] = "";
	size_t len;
	char *path = path_of(name, "json"), *text = read_all(path, &len);
	json_t *status = reply_parse((struct bytes){ text, len }, why, sizeof(why));
	ck_assert_msg(status != NULL, "%s: %s", path, why);
	free(text);
	free(path);
	return status;
}

static char *screen_of(const json_t *status, size_t width, bool all)
{
	char *text = NULL;
	size_t len;
	struct stream_pen pen = pen_to(or_die(open_memstream(&text, &len)), false);
	screen_put_status(&pen.pen, status, width, all);
	ck_assert_int_eq(fclose(pen.out), 0);
	return text;
}

static void setup(void)
{
	pen_set_locale();
}

START_TEST(a_sample_looks_as_it_should)
{
	json_t *status = sample(samples[_i]);
	char *path = path_of(samples[_i], "txt"), *screen = screen_of(status, 80, false);
	if (getenv("WARREN_WRITE_SCREENS")) {
		FILE *file = fopen(path, "w");
		ck_assert_ptr_nonnull(file);
		(void)fputs(screen, file);
		ck_assert_int_eq(fclose(file), 0);
	}
	size_t len;
	char *wanted = read_all(path, &len);
	ck_assert_str_eq(screen, wanted);
	free(wanted);
	free(screen);
	free(path);
	json_decref(status);
}
END_TEST

static const size_t widths[] = { 1, 40, 80, 132, 200, 1000 };

/* Whatever the status says: lines of printable text, as wide as the terminal at most. */
static void check_lines(const char *screen, size_t width)
{
	char *copy = xstrdup(screen), *rest = copy, *line;
	while ((line = strsep(&rest, "\n"))) {
		for (const char *p = line; *p; p++)
			ck_assert_int_ge((unsigned char)*p, ' ');
		if (width >= 80)
			ck_assert_msg(pen_width(line) <= width, "%zu: %s", width, line);
		size_t n = strlen(line);
		ck_assert_msg(n == 0 || line[n - 1] != ' ' || width < 80, "a space ends: %s", line);
	}
	free(copy);
}

START_TEST(lines_fit_the_terminal)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		json_t *status = sample(samples[i]);
		char *screen = screen_of(status, widths[_i], true);
		check_lines(screen, widths[_i]);
		free(screen);
		json_decref(status);
	}
}
END_TEST

START_TEST(an_error_is_an_error)
{
	json_t *healthy = sample("healthy"), *gone = sample("queue-gone");
	json_t *alarm = sample("memory-alarm"); /* a warning alone */
	ck_assert(!screen_has_error(healthy));
	ck_assert(screen_has_error(gone));
	ck_assert(!screen_has_error(alarm));
	json_decref(healthy);
	json_decref(gone);
	json_decref(alarm);
}
END_TEST

START_TEST(a_status_of_anything_is_no_crash)
{
	static const char *const odd[] = { "{}", "{\"problems\":{},\"queues\":[1,null,\"x\",[]]}",
		"{\"queues\":[{}],\"threads\":[{\"job\":{}}],\"workers\":[[]],\"connections\":[{}]"
		"}",
		"{\"problems\":[{}],\"healed\":[0],\"totals\":[],\"last_reload\":{}}" };
	char why[128];
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		json_t *status = reply_parse(bytes_of(odd[i]), why, sizeof(why));
		ck_assert_ptr_nonnull(status);
		char *screen = screen_of(status, 80, true);
		ck_assert_int_gt((int)strlen(screen), 0);
		free(screen);
		json_decref(status);
	}
	ck_assert_ptr_null(reply_parse(bytes_of("[]"), why, sizeof(why)));
	ck_assert_ptr_null(reply_parse(bytes_of("{} x"), why, sizeof(why)));
	ck_assert_ptr_null(reply_parse((struct bytes){ NULL, 0 }, why, sizeof(why)));
}
END_TEST

/* ---- many queues ---- */

/* Queues "q0" to "q199", of which every fiftieth has something to do. */
static json_t *many_queues(void)
{
	json_t *status = sample("healthy"), *queues = json_array();
	json_t *model = json_array_get(json_object_get(status, "queues"), 1);
	for (int i = 0; i < 200; i++) {
		json_t *queue = or_die(json_deep_copy(model));
		ck_assert_int_eq(json_object_set_new(queue, "queue", json_sprintf("q%d", i)), 0);
		ck_assert_int_eq(json_object_set_new(queue, "rate", json_real(0)), 0);
		ck_assert_int_eq(
		    json_object_set_new(queue, "ready", json_integer(i % 50 ? 0 : i + 1)), 0);
		ck_assert_int_eq(json_array_append_new(queues, queue), 0);
	}
	ck_assert_int_eq(json_object_set_new(status, "queues", queues), 0);
	return status;
}

START_TEST(idle_ones_of_many_queues_are_left_out)
{
	json_t *status = many_queues();
	char *some = screen_of(status, 80, false), *all = screen_of(status, 80, true);
	ck_assert_ptr_nonnull(strstr(some, "\nq150 "));
	ck_assert_ptr_null(strstr(some, "\nq151 "));
	ck_assert_ptr_nonnull(strstr(some, "and 196 more idle queues: --all shows them\n"));
	ck_assert_ptr_nonnull(strstr(all, "\nq151 "));
	ck_assert_ptr_null(strstr(all, "--all"));
	free(some);
	free(all);
	json_decref(status);
}
END_TEST

/* ---- live tables ---- */

static size_t column_of(const char *heading)
{
	for (size_t i = 0; i < sheet_queues.n_columns; i++)
		if (strcmp(sheet_queues.columns[i].heading, heading) == 0)
			return i;
	ck_abort_msg("no column %s", heading);
}

static const char *chosen_of(const struct roster *roster)
{
	const json_t *item = roster_chosen(roster);
	return item ? json_string_value(json_object_get(item, "queue")) : "";
}

START_TEST(rows_are_sorted_and_the_chosen_one_stays_chosen)
{
	json_t *status = many_queues();
	struct reply_list queues = reply_list(status, "queues");
	struct roster roster = { .sheet = &sheet_queues };
	roster_update(&roster, &queues);
	ck_assert_str_eq(chosen_of(&roster), "q0");
	roster_move(&roster, 11);
	ck_assert_str_eq(chosen_of(&roster), "q11"); /* and not q108: numbers count */
	roster.sort = column_of("READY");
	roster.descending = true;
	roster_update(&roster, &queues);
	ck_assert_str_eq(chosen_of(&roster), "q11");
	roster_move(&roster, -1000);
	ck_assert_str_eq(chosen_of(&roster), "q150");
	roster_move(&roster, 1);
	ck_assert_str_eq(chosen_of(&roster), "q100");
	roster_move(&roster, 100000);
	ck_assert_str_eq(chosen_of(&roster), "q199");
	roster_free(&roster);
	json_decref(status);
}
END_TEST

START_TEST(what_is_missing_comes_last_both_ways)
{
	json_t *status = many_queues();
	struct reply_list queues = reply_list(status, "queues");
	ck_assert_int_eq(json_object_set_new(json_array_get(json_object_get(status, "queues"), 7),
			     "ready", json_null()),
	    0);
	for (int descending = 0; descending < 2; descending++) {
		struct roster roster = {
			.sheet = &sheet_queues, .sort = column_of("READY"), .descending = descending
		};
		roster_update(&roster, &queues);
		roster_move(&roster, 199);
		ck_assert_str_eq(chosen_of(&roster), "q7");
		roster_free(&roster);
	}
	json_decref(status);
}
END_TEST

START_TEST(a_filter_leaves_the_rows_that_contain_it)
{
	json_t *status = many_queues();
	struct reply_list queues = reply_list(status, "queues");
	struct roster roster = { .sheet = &sheet_queues, .filter = "Q19" };
	roster_update(&roster, &queues);
	ck_assert_uint_eq(roster.n_rows, 11);
	(void)strcpy(roster.filter, "no such queue");
	roster_update(&roster, &queues);
	ck_assert_uint_eq(roster.n_rows, 0);
	ck_assert_ptr_null(roster_chosen(&roster));
	roster_move(&roster, 1);
	roster_free(&roster);
	json_decref(status);
}
END_TEST

START_TEST(columns_turn_there_and_back)
{
	json_t *status = sample("healthy");
	struct reply_list queues = reply_list(status, "queues");
	struct roster roster = { .sheet = &sheet_queues };
	roster_update(&roster, &queues);
	roster_turn(&roster, true, 80);
	ck_assert_uint_eq(roster.first_column, column_of("DONE"));
	roster_turn(&roster, true, 80);
	ck_assert_uint_eq(roster.first_column, column_of("WAIT p50"));
	roster_turn(&roster, true, 80);
	ck_assert_uint_eq(roster.first_column, column_of("WAIT p50"));
	roster_turn(&roster, false, 80);
	ck_assert_uint_eq(roster.first_column, column_of("DONE"));
	roster_turn(&roster, false, 80);
	roster_turn(&roster, false, 80);
	ck_assert_uint_eq(roster.first_column, 1);
	roster_free(&roster);
	json_decref(status);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("screen");
	TCase *screens = tcase_create("status"), *rosters = tcase_create("roster");
	tcase_add_unchecked_fixture(screens, setup, NULL);
	tcase_add_loop_test(screens, a_sample_looks_as_it_should, 0, ARRAY_LEN(samples));
	tcase_add_loop_test(screens, lines_fit_the_terminal, 0, ARRAY_LEN(widths));
	tcase_add_test(screens, an_error_is_an_error);
	tcase_add_test(screens, a_status_of_anything_is_no_crash);
	tcase_add_test(screens, idle_ones_of_many_queues_are_left_out);
	tcase_add_unchecked_fixture(rosters, setup, NULL);
	tcase_add_test(rosters, rows_are_sorted_and_the_chosen_one_stays_chosen);
	tcase_add_test(rosters, what_is_missing_comes_last_both_ways);
	tcase_add_test(rosters, a_filter_leaves_the_rows_that_contain_it);
	tcase_add_test(rosters, columns_turn_there_and_back);
	suite_add_tcase(suite, screens);
	suite_add_tcase(suite, rosters);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
