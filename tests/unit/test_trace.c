/* Which values of traceparent are taken, what the log shows of them, and where they go along. */
#include "trace.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"
#define GOOD "00-" ID "-" SPAN "-01"
#define KEY(s) BYTES_LIT(s)
#define TEXT(s) V_STR(BYTES_LIT(s))

static struct trace trace_from(struct bytes parent, struct bytes state)
{
	struct field fields[] = { { KEY("tracestate"), V_STR(state) },
		{ KEY("traceparent"), V_STR(parent) } };
	return trace_of(&(struct table){ fields, ARRAY_LEN(fields) });
}

static const char *const taken[] = {
	GOOD,
	"00-" ID "-" SPAN "-00",
	"00-" ID "-" SPAN "-ff",
	"00-00000000000000000000000000000001-0000000000000001-00",
	"01-" ID "-" SPAN "-01",
	"01-" ID "-" SPAN "-01-",
	"cc-" ID "-" SPAN "-01-what the future brings",
	"fe-" ID "-" SPAN "-01",
};

START_TEST(well_formed_values_are_taken)
{
	struct trace trace = trace_from(bytes_of(taken[_i]), BYTES_LIT("a=1"));
	ck_assert_msg(bytes_is(trace.parent, taken[_i]), "%s", taken[_i]);
	ck_assert(bytes_is(trace.state, "a=1"));
	ck_assert(bytes_equal(
	    trace_ids(&trace), (struct bytes){ taken[_i] + strlen("00-"), strlen(ID "-" SPAN) }));
}
END_TEST

static const char *const ignored[] = {
	"",
	"00",
	"00-" ID "-" SPAN "-0",
	"00-" ID "-" SPAN "-01-",
	"00-" ID "-" SPAN "-01-more",
	"00-" ID "-" SPAN "-012",
	" 00-" ID "-" SPAN "-01",
	"00-" ID "-" SPAN "-01 ",
	"ff-" ID "-" SPAN "-01",
	"01-" ID "-" SPAN "-012",
	"01-" ID "-" SPAN "-01.x",
	"0x-" ID "-" SPAN "-01",
	"0A-" ID "-" SPAN "-01",
	"00-00000000000000000000000000000000-" SPAN "-01",
	"00-" ID "-0000000000000000-01",
	"00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",
	"00-4bf92f3577b34da6a3ce929d0e0e473g-" SPAN "-01",
	"00-" ID "-00F067AA0BA902B7-01",
	"00-" ID "-00f067aa0ba902b\n-01",
	"00-" ID "-" SPAN "-0F",
	"00_" ID "-" SPAN "-01",
	"00-" ID "_" SPAN "-01",
	"00-" ID "-" SPAN "_01",
	"00-" SPAN "-" ID "-01",
};

START_TEST(all_others_are_ignored)
{
	struct trace trace = trace_from(bytes_of(ignored[_i]), BYTES_LIT("a=1"));
	ck_assert_msg(trace.parent.len == 0, "%s", ignored[_i]);
	ck_assert_uint_eq(trace.state.len, 0); /* means nothing alone */
	ck_assert_uint_eq(trace_ids(&trace).len, 0);
}
END_TEST

START_TEST(a_nul_is_no_end)
{
	struct bytes parent = BYTES_LIT(GOOD "\0");
	ck_assert_uint_eq(trace_from(parent, BYTES_LIT("")).parent.len, 0);
	parent = BYTES_LIT("00-" ID "-" SPAN "\0"
			   "01");
	ck_assert_uint_eq(trace_from(parent, BYTES_LIT("")).parent.len, 0);
}
END_TEST

START_TEST(what_is_no_text_is_ignored)
{
	struct field field = { KEY("traceparent"), V_INT(1) };
	ck_assert_uint_eq(trace_of(&(struct table){ &field, 1 }).parent.len, 0);
	field = (struct field){ KEY("TraceParent"), TEXT(GOOD) };
	ck_assert_uint_eq(trace_of(&(struct table){ &field, 1 }).parent.len, 0);
	field =
	    (struct field){ KEY("traceparent"), { .kind = VALUE_BYTES, .bytes = BYTES_LIT(GOOD) } };
	ck_assert(bytes_is(trace_of(&(struct table){ &field, 1 }).parent, GOOD));
	ck_assert_uint_eq(trace_of(&(struct table){ NULL, 0 }).parent.len, 0);
}
END_TEST

START_TEST(what_is_too_long_is_ignored)
{
	static char text[TRACE_MAX + 1];
	memset(text, 'x', sizeof(text));
	memcpy(text, "01-" ID "-" SPAN "-01-", strlen(GOOD "-"));
	struct bytes fits = { text, TRACE_MAX }, over = { text, TRACE_MAX + 1 };
	struct trace trace = trace_from(fits, fits);
	ck_assert(bytes_equal(trace.parent, fits) && bytes_equal(trace.state, fits));
	ck_assert_uint_eq(trace_from(over, fits).parent.len, 0);
	trace = trace_from(BYTES_LIT(GOOD), over);
	ck_assert(bytes_is(trace.parent, GOOD));
	ck_assert_uint_eq(trace.state.len, 0);
}
END_TEST

/* ---- Carrying ---- */

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

static struct props carried(struct bytes state, struct field *fields, size_t n)
{
	struct trace trace = trace_from(BYTES_LIT(GOOD), state);
	struct props props = { .present = n ? PROP_HEADERS : 0, .headers = { fields, n } };
	ck_assert(trace_carry(&trace, arena, &props));
	return props;
}

static bool says(const struct props *props, const char *key, const char *want)
{
	struct bytes text;
	return table_get_bytes(&props->headers, key, &text) && bytes_is(text, want);
}

START_TEST(both_go_along_with_what_is_there)
{
	struct props props = carried(BYTES_LIT("a=1"), NULL, 0);
	ck_assert_uint_eq(props.present, PROP_HEADERS);
	ck_assert_uint_eq(props.headers.n, 2);
	ck_assert(says(&props, "traceparent", GOOD) && says(&props, "tracestate", "a=1"));

	struct field own = { KEY("mine"), TEXT("x") };
	props = carried(BYTES_LIT(""), &own, 1);
	ck_assert_uint_eq(props.headers.n, 2);
	ck_assert(says(&props, "mine", "x") && says(&props, "traceparent", GOOD));
}
END_TEST

START_TEST(a_context_of_its_own_stays)
{
	struct field parent = { KEY("traceparent"), TEXT("of its own") };
	struct props props = carried(BYTES_LIT("a=1"), &parent, 1);
	ck_assert_uint_eq(props.headers.n, 1); /* the state of another parent would lie */
	ck_assert(says(&props, "traceparent", "of its own"));

	struct field state = { KEY("tracestate"), TEXT("b=2") };
	props = carried(BYTES_LIT("a=1"), &state, 1);
	ck_assert_uint_eq(props.headers.n, 2);
	ck_assert(says(&props, "traceparent", GOOD) && says(&props, "tracestate", "b=2"));
}
END_TEST

START_TEST(without_a_trace_nothing_is_added_or_allocated)
{
	struct trace none = { 0 };
	struct props props = { 0 };
	size_t before = arena_used(arena);
	ck_assert(trace_carry(&none, arena, &props));
	ck_assert_uint_eq(props.present, 0);
	ck_assert_uint_eq(props.headers.n, 0);
	ck_assert_uint_eq(arena_used(arena), before);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("trace");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, well_formed_values_are_taken, 0, (int)ARRAY_LEN(taken));
	tcase_add_loop_test(t, all_others_are_ignored, 0, (int)ARRAY_LEN(ignored));
	tcase_add_test(t, a_nul_is_no_end);
	tcase_add_test(t, what_is_no_text_is_ignored);
	tcase_add_test(t, what_is_too_long_is_ignored);
	tcase_add_test(t, both_go_along_with_what_is_there);
	tcase_add_test(t, a_context_of_its_own_stays);
	tcase_add_test(t, without_a_trace_nothing_is_added_or_allocated);

	Suite *suite = suite_create("trace");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
