/* Headers are found, read, copied and shown whatever a publisher put into them. */
#include "msg.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEY(s) BYTES_LIT(s)

static struct arena *arena;

static void set_up(void)
{
	arena = arena_create();
	ck_assert_ptr_nonnull(arena);
}

static void tear_down(void)
{
	arena_destroy(arena);
}

static struct value v_uint(uint64_t n)
{
	return (struct value){ .kind = VALUE_UINT, .width = 8, .natural = n };
}

static struct value v_array(struct value *items, size_t n)
{
	return (struct value){ .kind = VALUE_ARRAY, .array = { items, n } };
}

static struct value v_table(struct field *fields, size_t n)
{
	return (struct value){ .kind = VALUE_TABLE, .table = { fields, n } };
}

/* ---- Looking up ---- */

START_TEST(the_first_of_two_equal_names_counts)
{
	struct field fields[] = { { KEY("a"), V_INT(1) }, { KEY("b"), V_INT(2) },
		{ KEY("a"), V_INT(3) } };
	struct table table = { fields, ARRAY_LEN(fields) };
	int64_t n;
	ck_assert(table_get_int(&table, "a", &n));
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_null(table_get(&table, "A"));
	ck_assert_ptr_null(table_get(&table, ""));
	ck_assert_ptr_null(table_get(&(struct table){ NULL, 0 }, "a"));
}
END_TEST

/* A name with a NUL inside is not the name before the NUL. */
START_TEST(names_are_compared_whole)
{
	struct field fields[] = { { KEY("a\0b"), V_INT(1) } };
	ck_assert_ptr_null(table_get(&(struct table){ fields, 1 }, "a"));
}
END_TEST

START_TEST(numbers_of_any_width_are_read_and_no_others)
{
	struct field fields[] = {
		{ KEY("min"), V_INT(INT64_MIN) },
		{ KEY("byte"), { .kind = VALUE_INT, .width = 1, .integer = -7 } },
		{ KEY("most"), v_uint(INT64_MAX) },
		{ KEY("2^63"), v_uint((uint64_t)1 << 63) },
		{ KEY("text"), V_STR(BYTES_LIT("5")) },
		{ KEY("bool"), V_BOOL(true) },
		{ KEY("time"), { .kind = VALUE_TIMESTAMP, .natural = 5 } },
		{ KEY("real"), { .kind = VALUE_DOUBLE, .real = 5 } },
		{ KEY("none"), { .kind = VALUE_VOID } },
		{ KEY("table"), v_table(NULL, 0) },
	};
	struct table table = { fields, ARRAY_LEN(fields) };
	int64_t n = 0;
	ck_assert(table_get_int(&table, "min", &n) && n == INT64_MIN);
	ck_assert(table_get_int(&table, "byte", &n) && n == -7);
	ck_assert(table_get_int(&table, "most", &n) && n == INT64_MAX);
	for (size_t i = 3; i < table.n; i++)
		ck_assert(!table_get_int(&table, fields[i].key.data, &n));
	ck_assert(!table_get_int(&table, "missing", &n));
	ck_assert_int_eq(n, INT64_MAX); /* untouched */
}
END_TEST

START_TEST(texts_of_both_kinds_are_read_and_no_others)
{
	struct field fields[] = {
		{ KEY("s"), V_STR(BYTES_LIT("text")) },
		{ KEY("x"), { .kind = VALUE_BYTES, .bytes = BYTES_LIT("\0\1") } },
		{ KEY("i"), V_INT(1) },
		{ KEY("a"), v_array(NULL, 0) },
	};
	struct table table = { fields, ARRAY_LEN(fields) };
	struct bytes b = { NULL, 0 };
	ck_assert(table_get_bytes(&table, "s", &b) && bytes_is(b, "text"));
	ck_assert(table_get_bytes(&table, "x", &b) && b.len == 2);
	ck_assert(!table_get_bytes(&table, "i", &b));
	ck_assert(!table_get_bytes(&table, "a", &b));
	ck_assert(!table_get_bytes(&table, "missing", &b));
}
END_TEST

/* ---- Copying ---- */

static void check_same(const struct value *a, const struct value *b);

static void check_same_table(const struct table *a, const struct table *b)
{
	ck_assert_uint_eq(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		ck_assert(bytes_equal(a->fields[i].key, b->fields[i].key));
		ck_assert(
		    a->fields[i].key.len == 0 || a->fields[i].key.data != b->fields[i].key.data);
		check_same(&a->fields[i].value, &b->fields[i].value);
	}
}

static void check_same(const struct value *a, const struct value *b)
{
	ck_assert_uint_eq(a->kind, b->kind);
	ck_assert_uint_eq(a->width, b->width);
	ck_assert_uint_eq(a->scale, b->scale);
	if (a->kind == VALUE_TABLE) {
		check_same_table(&a->table, &b->table);
	} else if (a->kind == VALUE_ARRAY) {
		ck_assert_uint_eq(a->array.n, b->array.n);
		for (size_t i = 0; i < a->array.n; i++)
			check_same(&a->array.items[i], &b->array.items[i]);
	} else if (a->kind == VALUE_STRING || a->kind == VALUE_BYTES) {
		ck_assert(bytes_equal(a->bytes, b->bytes));
		ck_assert(a->bytes.len == 0 || a->bytes.data != b->bytes.data);
	} else if (a->kind == VALUE_BOOL) {
		ck_assert_int_eq(a->boolean, b->boolean);
	} else if (a->kind != VALUE_VOID) {
		ck_assert_uint_eq(a->natural, b->natural);
	}
}

static struct bytes random_bytes(struct arena *from)
{
	size_t len = (size_t)rand() % 40;
	char *data = arena_alloc(from, len);
	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (char)rand();
	return (struct bytes){ len ? data : NULL, len };
}

static struct value random_value(struct arena *from, int depth)
{
	struct value value = { .kind = (uint8_t)(rand() % (depth ? VALUE_TABLE + 1 : VALUE_ARRAY)),
		.width = 8 };
	size_t n = (size_t)rand() % 5;
	if (value.kind == VALUE_STRING || value.kind == VALUE_BYTES) {
		value.bytes = random_bytes(from);
	} else if (value.kind == VALUE_ARRAY) {
		value = v_array(arena_zalloc(from, n, sizeof(struct value)), n);
		for (size_t i = 0; i < n; i++)
			value.array.items[i] = random_value(from, depth - 1);
	} else if (value.kind == VALUE_TABLE) {
		value = v_table(arena_zalloc(from, n, sizeof(struct field)), n);
		for (size_t i = 0; i < n; i++)
			value.table.fields[i] =
			    (struct field){ random_bytes(from), random_value(from, depth - 1) };
	} else if (value.kind == VALUE_BOOL) {
		value.boolean = rand() % 2;
	} else if (value.kind == VALUE_DOUBLE) {
		value.real = rand();
	} else if (value.kind != VALUE_VOID) {
		value.natural = (uint64_t)rand() << 33 ^ (uint64_t)rand();
	}
	return value;
}

START_TEST(a_copy_is_equal_and_apart)
{
	srand(21);
	for (int i = 0; i < 500; i++) {
		struct arena *from = arena_create();
		ck_assert_ptr_nonnull(from);
		struct value value = random_value(from, 5), copy, again;
		ck_assert(value_copy(arena, &copy, &value));
		check_same(&value, &copy);
		struct arena *third = arena_create();
		ck_assert_ptr_nonnull(third);
		ck_assert(value_copy(third, &again, &copy));
		arena_destroy(from); /* the copy needs nothing of it */
		check_same(&copy, &again);
		arena_destroy(third);
	}
}
END_TEST

START_TEST(the_deepest_allowed_is_copied)
{
	struct value levels[MSG_DEPTH_MAX];
	levels[0] = V_INT(42);
	for (int i = 1; i < MSG_DEPTH_MAX; i++)
		levels[i] = v_array(&levels[i - 1], 1);
	struct value copy;
	ck_assert(value_copy(arena, &copy, &levels[MSG_DEPTH_MAX - 1]));
	check_same(&levels[MSG_DEPTH_MAX - 1], &copy);
}
END_TEST

/* ---- Showing ---- */

static struct value three[] = { { .kind = VALUE_INT, .integer = -1 }, { .kind = VALUE_VOID },
	{ .kind = VALUE_STRING, .bytes = { "x", 1 } } };
static struct field two[] = { { { "k", 1 }, { .kind = VALUE_BOOL, .boolean = false } },
	{ { "list", 4 }, { .kind = VALUE_ARRAY, .array = { three, ARRAY_LEN(three) } } } };

static const struct {
	struct value value;
	const char *text;
} shows[] = {
	{ { .kind = VALUE_VOID }, "null" },
	{ { .kind = VALUE_BOOL, .boolean = true }, "true" },
	{ { .kind = VALUE_INT, .integer = INT64_MIN }, "-9223372036854775808" },
	{ { .kind = VALUE_UINT, .natural = UINT64_MAX }, "18446744073709551615" },
	{ { .kind = VALUE_TIMESTAMP, .natural = 1700000000 }, "1700000000" },
	{ { .kind = VALUE_DOUBLE, .width = 8, .real = 0.1 }, "0.1" },
	{ { .kind = VALUE_DOUBLE, .width = 4, .real = 0.1f }, "0.1" },
	{ { .kind = VALUE_DOUBLE, .width = 8, .real = 1e300 }, "1e+300" },
	{ { .kind = VALUE_DECIMAL, .scale = 0, .natural = 12345 }, "12345" },
	{ { .kind = VALUE_DECIMAL, .scale = 2, .natural = 12345 }, "123.45" },
	{ { .kind = VALUE_DECIMAL, .scale = 5, .natural = 12345 }, "0.12345" },
	{ { .kind = VALUE_DECIMAL, .scale = 7, .natural = 12345 }, "0.0012345" },
	{ { .kind = VALUE_STRING, .bytes = { "as it \x1b is", 10 } }, "as it \x1b is" },
	{ { .kind = VALUE_BYTES, .bytes = { "raw", 3 } }, "raw" },
	{ { .kind = VALUE_STRING, .bytes = { NULL, 0 } }, "" },
	{ { .kind = VALUE_ARRAY, .array = { NULL, 0 } }, "[]" },
	{ { .kind = VALUE_TABLE, .table = { NULL, 0 } }, "{}" },
	{ { .kind = VALUE_TABLE, .table = { two, ARRAY_LEN(two) } },
	    "{k=false, list=[-1, null, x]}" },
};

START_TEST(values_are_shown_in_any_room)
{
	char buf[100];
	size_t want = strlen(shows[_i].text);
	for (size_t size = 1; size < sizeof(buf); size++) {
		memset(buf, '#', sizeof(buf));
		ck_assert_uint_eq(value_show(&shows[_i].value, buf, size), want);
		size_t len = want < size ? want : size - 1;
		ck_assert_uint_eq(strlen(buf), len);
		ck_assert_mem_eq(buf, shows[_i].text, len);
		ck_assert_int_eq(buf[size], '#'); /* not one byte more */
	}
}
END_TEST

START_TEST(the_longest_decimal_is_shown)
{
	struct value value = { .kind = VALUE_DECIMAL, .scale = 255, .natural = UINT64_MAX };
	char buf[400];
	ck_assert_uint_eq(value_show(&value, buf, sizeof(buf)), 2 + 255);
	ck_assert_mem_eq(buf, "0.000", 5);
	ck_assert_str_eq(buf + 257 - 20, "18446744073709551615");
}
END_TEST

/* ---- The body's end ---- */

START_TEST(bodies_of_both_sorts_are_freed)
{
	struct msg msg = { .body_alloc = malloc(10) };
	msg.body = (struct bytes){ msg.body_alloc, 10 };
	msg_free_body(&msg);
	ck_assert_ptr_null(msg.body_alloc);
	ck_assert_uint_eq(msg.body.len, 0);
	msg_free_body(&msg); /* again: nothing */

	msg.body_alloc =
	    mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(msg.body_alloc, MAP_FAILED);
	msg.body_map_len = 8192;
	msg.body = (struct bytes){ msg.body_alloc, 5000 };
	msg_free_body(&msg);
	ck_assert_uint_eq(msg.body_map_len, 0);
	ck_assert_ptr_null(msg.body.data);
}
END_TEST

START_TEST(flaws_have_words_of_their_own)
{
	for (int a = MSG_SOUND; a <= MSG_UNSTORED; a++)
		for (int b = MSG_SOUND; b < a; b++)
			ck_assert_str_ne(
			    msg_flaw_words((enum msg_flaw)a), msg_flaw_words((enum msg_flaw)b));
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("msg");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, the_first_of_two_equal_names_counts);
	tcase_add_test(t, names_are_compared_whole);
	tcase_add_test(t, numbers_of_any_width_are_read_and_no_others);
	tcase_add_test(t, texts_of_both_kinds_are_read_and_no_others);
	tcase_add_test(t, a_copy_is_equal_and_apart);
	tcase_add_test(t, the_deepest_allowed_is_copied);
	tcase_add_loop_test(t, values_are_shown_in_any_room, 0, ARRAY_LEN(shows));
	tcase_add_test(t, the_longest_decimal_is_shown);
	tcase_add_test(t, bodies_of_both_sorts_are_freed);
	tcase_add_test(t, flaws_have_words_of_their_own);
	tcase_set_timeout(t, 60);

	Suite *suite = suite_create("msg");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
