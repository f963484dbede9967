/* What is read from a dead letter, which ones a filter means, and what is replayed. */
#include "letter.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum { NOW_MS = 1700000000, FIELDS = 32 };

#define S(text) V_STR(BYTES_LIT(text))

static struct arena *arena;
static struct msg msg;
static struct letter letter;

static void set_up(void)
{
	arena = arena_create();
	ck_assert_ptr_nonnull(arena);
	msg = (struct msg){ .props.present = PROP_HEADERS };
	msg.props.headers.fields = arena_zalloc(arena, FIELDS, sizeof(struct field));
	ck_assert_ptr_nonnull(msg.props.headers.fields);
}

static void tear_down(void)
{
	arena_destroy(arena);
}

static void put(const char *key, struct value value)
{
	struct table *headers = &msg.props.headers;
	ck_assert_uint_lt(headers->n, FIELDS);
	headers->fields[headers->n++] = (struct field){ bytes_of(key), value };
}

static void put_own(void)
{
	put("x-warren-queue", S("work"));
	put("x-warren-task", S("text.upper"));
	put("x-warren-exchange", S("files"));
	put("x-warren-routing-key", S("new.a"));
	put("x-warren-verdict", S("exhausted"));
	put("x-warren-reason", S("disk full"));
	put("x-warren-host", S("web1"));
	put("x-warren-plugin", S("upper/1.0"));
	put("x-warren-attempt", V_INT(5));
	put("x-warren-at", V_INT(NOW_MS - 60000));
	put("x-warren-first-at", V_INT(NOW_MS - 90000));
	put("x-warren-expires-at", V_INT(NOW_MS + 1));
	put("x-warren-crashes", V_INT(3));
	put("x-warren-signal", S("SEGV"));
}

/* One of the broker's own moves, as x-death tells it. */
static struct value moved(
    const char *queue, const char *reason, const char *exchange, const char *key)
{
	struct value *keys = arena_zalloc(arena, 1, sizeof(*keys));
	struct field *fields = arena_zalloc(arena, 5, sizeof(*fields));
	ck_assert(keys && fields);
	keys[0] = V_STR(bytes_of(key));
	fields[0] = (struct field){ BYTES_LIT("queue"), V_STR(bytes_of(queue)) };
	fields[1] = (struct field){ BYTES_LIT("reason"), V_STR(bytes_of(reason)) };
	fields[2] = (struct field){ BYTES_LIT("exchange"), V_STR(bytes_of(exchange)) };
	fields[3] = (struct field){ BYTES_LIT("routing-keys"),
		{ .kind = VALUE_ARRAY, .array = { keys, 1 } } };
	fields[4] = (struct field){ BYTES_LIT("time"),
		{ .kind = VALUE_TIMESTAMP, .natural = NOW_MS / 1000 - 7 } };
	return (struct value){ .kind = VALUE_TABLE, .table = { fields, 5 } };
}

static void put_deaths(const struct value *deaths, size_t n)
{
	struct value *items = arena_zalloc(arena, n, sizeof(*items));
	ck_assert_ptr_nonnull(items);
	memcpy(items, deaths, n * sizeof(*items));
	put("x-death", (struct value){ .kind = VALUE_ARRAY, .array = { items, n } });
}

#define READS(field, want) ck_assert_msg(bytes_is(letter.field, want), "%s", #field)

/* ---- Reading ---- */

START_TEST(what_warren_wrote)
{
	put_own();
	msg.props.message_id = BYTES_LIT("m1");
	letter_read(&msg, &letter);
	READS(message_id, "m1");
	READS(queue, "work");
	READS(task, "text.upper");
	READS(verdict, "exhausted");
	READS(reason, "disk full");
	READS(host, "web1");
	READS(plugin, "upper/1.0");
	ck_assert(letter.has_origin);
	READS(exchange, "files");
	READS(routing_key, "new.a");
	ck_assert_int_eq(letter.attempts, 5);
	ck_assert_int_eq(letter.at_ms, NOW_MS - 60000);
}
END_TEST

START_TEST(a_message_that_says_nothing)
{
	letter_read(&msg, &letter);
	ck_assert_uint_eq(letter.queue.len + letter.task.len + letter.verdict.len, 0);
	ck_assert(!letter.has_origin);
	ck_assert_int_eq(letter.attempts + letter.at_ms, 0);
}
END_TEST

/* A publisher's own x-warren headers say nothing of a message that the broker moved. */
START_TEST(what_the_broker_moved)
{
	put_own();
	put_deaths((struct value[]){ moved("jobs", "delivery_limit", "in", "k") }, 1);
	letter_read(&msg, &letter);
	READS(queue, "jobs");
	READS(verdict, "delivery_limit");
	READS(exchange, "in");
	READS(routing_key, "k");
	ck_assert(letter.has_origin && !letter.trusted);
	ck_assert_uint_eq(letter.reason.len + letter.task.len, 0);
	ck_assert_int_eq(letter.attempts, 0);
	ck_assert_int_eq(letter.at_ms, (NOW_MS / 1000 - 7) * 1000);
}
END_TEST

START_TEST(what_the_broker_moved_after_a_retry)
{
	put_own();
	put_deaths((struct value[]){ moved("work", "delivery_limit", "", "work"),
		       moved("work.retry", "expired", "warren.v1.deliver", "0.1.abc"),
		       moved("warren.v1.delay.00", "expired", "warren.v1.delay.00", "0.1.abc") },
	    3);
	letter_read(&msg, &letter);
	READS(queue, "work");
	READS(verdict, "delivery_limit");
	READS(reason, "disk full");
	READS(exchange, "files");
	READS(routing_key, "new.a");
	ck_assert_int_eq(letter.attempts, 5);
}
END_TEST

START_TEST(what_came_from_the_quarantine)
{
	put_own();
	put_deaths(
	    (struct value[]){ moved("work.quarantine", "rejected", "", "work.quarantine") }, 1);
	letter_read(&msg, &letter);
	READS(queue, "work");
	READS(routing_key, "new.a");
}
END_TEST

START_TEST(what_is_parked)
{
	put_own();
	put_deaths((struct value[]){ moved("warren.v1.delay.03", "expired", "x", "y") }, 1);
	letter_read(&msg, &letter);
	READS(queue, "work");
	READS(verdict, "parked");
	READS(routing_key, "new.a");
}
END_TEST

START_TEST(headers_of_wrong_kinds_say_nothing)
{
	static char long_name[256];
	memset(long_name, 'q', sizeof(long_name));
	put("x-warren-queue", V_STR(((struct bytes){ long_name, sizeof(long_name) })));
	put("x-warren-task", V_INT(1));
	put("x-warren-exchange", S("files"));
	put("x-warren-routing-key", V_BOOL(true));
	put("x-warren-attempt", S("5"));
	put("x-warren-at", V_INT(-5));
	put("x-death", S("no array"));
	letter_read(&msg, &letter);
	ck_assert_uint_eq(letter.queue.len + letter.task.len, 0);
	ck_assert(!letter.has_origin);
	ck_assert_int_eq(letter.attempts + letter.at_ms, 0);
	put_deaths((struct value[]){ V_INT(3) }, 1);
	letter_read(&msg, &letter);
	struct field nothing = { BYTES_LIT("queue"), V_INT(1) };
	msg.props.headers.n = 0;
	put_deaths((struct value[]){ { .kind = VALUE_TABLE, .table = { &nothing, 1 } } }, 1);
	letter_read(&msg, &letter);
	ck_assert_uint_eq(letter.queue.len + letter.verdict.len, 0);
	ck_assert(!letter.has_origin);
}
END_TEST

/* ---- Filters ---- */

static const struct letter_header n5[] = { { "n", "5" } }, n6[] = { { "n", "6" } },
				  both[] = { { "n", "5" }, { "s", "a b" } },
				  none[] = { { "missing", "" } };

#define AGES .older_ns = -1, .newer_ns = -1

static const struct filter_case {
	const char *what;
	struct letter_filter filter;
	bool matches;
} filters[] = {
	{ "no filter", { AGES }, true },
	{ "the task", { AGES, .task = "text.upper" }, true },
	{ "a pattern of the task", { AGES, .task = "text.*" }, true },
	{ "another task", { AGES, .task = "text" }, false },
	{ "a part of the reason", { AGES, .reason = "k fu" }, true },
	{ "an empty part", { AGES, .reason = "" }, true },
	{ "another reason", { AGES, .reason = "Disk" }, false },
	{ "longer than the reason", { AGES, .reason = "disk full and more" }, false },
	{ "the verdict", { AGES, .verdict = "exhausted" }, true },
	{ "a part of the verdict", { AGES, .verdict = "exhaust" }, false },
	{ "the queue", { AGES, .queue = "work" }, true },
	{ "another queue", { AGES, .queue = "works" }, false },
	{ "older, at the limit", { .older_ns = 60 * NS_PER_S, .newer_ns = -1 }, true },
	{ "not old enough", { .older_ns = 61 * NS_PER_S, .newer_ns = -1 }, false },
	{ "newer, at the limit", { .older_ns = -1, .newer_ns = 60 * NS_PER_S }, true },
	{ "not new enough", { .older_ns = -1, .newer_ns = 59 * NS_PER_S }, false },
	{ "between", { .older_ns = 59 * NS_PER_S, .newer_ns = 61 * NS_PER_S }, true },
	{ "a number", { AGES, .headers = n5, .n_headers = 1 }, true },
	{ "another number", { AGES, .headers = n6, .n_headers = 1 }, false },
	{ "two headers", { AGES, .headers = both, .n_headers = 2 }, true },
	{ "a header that is not there", { AGES, .headers = none, .n_headers = 1 }, false },
	{ "all of it but one", { AGES, .task = "*", .verdict = "dead" }, false },
};

START_TEST(filters_mean)
{
	put_own();
	put("n", V_INT(5));
	put("s", S("a b"));
	letter_read(&msg, &letter);
	for (size_t i = 0; i < ARRAY_LEN(filters); i++)
		ck_assert_msg(
		    letter_matches(&filters[i].filter, &letter, &msg, NOW_MS) == filters[i].matches,
		    "%s", filters[i].what);
}
END_TEST

START_TEST(what_has_no_age_is_neither_older_nor_newer)
{
	const struct letter_filter older = { .older_ns = 0, .newer_ns = -1 };
	const struct letter_filter newer = { .older_ns = -1, .newer_ns = INT64_MAX };
	letter_read(&msg, &letter);
	ck_assert(!letter_matches(&older, &letter, &msg, NOW_MS));
	ck_assert(!letter_matches(&newer, &letter, &msg, NOW_MS));
}
END_TEST

/* ---- Replays ---- */

static struct table replayed(int64_t now_ms)
{
	struct outgoing out;
	letter_read(&msg, &letter);
	ck_assert(letter_replay(&letter, &msg, BYTES_LIT("work"), now_ms, arena, &out));
	ck_assert_uint_eq(out.props.delivery_mode, 2);
	ck_assert(!(out.props.present & (PROP_EXPIRATION | PROP_USER_ID)));
	ck_assert(out.props.present & PROP_HEADERS);
	return out.props.headers;
}

static void check_text(const struct table *headers, const char *key, const char *want)
{
	struct bytes text;
	ck_assert_msg(table_get_bytes(headers, key, &text) && bytes_is(text, want), "%s", key);
}

static void check_int(const struct table *headers, const char *key, int64_t want)
{
	int64_t n;
	ck_assert_msg(table_get_int(headers, key, &n), "%s", key);
	ck_assert_int_eq(n, want);
}

START_TEST(a_replay_begins_anew_and_keeps_its_history)
{
	static const char *const gone[] = { "CC", "x-delivery-count", "x-warren-crashes",
		"x-warren-signal", "x-warren-forged" };
	put_own();
	put("mine", V_INT(7));
	put("CC", S("other"));
	put("x-delivery-count", V_INT(2));
	put("x-warren-forged", V_INT(2));
	msg.props.present |= PROP_EXPIRATION | PROP_USER_ID;
	struct table headers = replayed(NOW_MS);
	check_int(&headers, "x-warren-attempt", 1);
	check_int(&headers, "x-warren-at", NOW_MS);
	check_int(&headers, "x-warren-first-at", NOW_MS - 90000);
	check_int(&headers, "x-warren-expires-at", NOW_MS + 1);
	check_int(&headers, "mine", 7);
	check_text(&headers, "x-warren-queue", "work");
	check_text(&headers, "x-warren-exchange", "files");
	check_text(&headers, "x-warren-routing-key", "new.a");
	check_text(&headers, "x-warren-reason", "disk full");
	check_text(&headers, "x-warren-verdict", "exhausted");
	for (size_t i = 0; i < ARRAY_LEN(gone); i++)
		ck_assert_msg(!table_get(&headers, gone[i]), "%s", gone[i]);
	for (size_t i = 0; i < headers.n; i++)
		for (size_t j = 0; j < i; j++)
			ck_assert(!bytes_equal(headers.fields[i].key, headers.fields[j].key));
}
END_TEST

START_TEST(an_expiry_that_has_passed_is_dropped)
{
	put_own();
	struct table headers = replayed(NOW_MS + 1);
	ck_assert(!table_get(&headers, "x-warren-expires-at"));
}
END_TEST

START_TEST(headers_of_a_publisher_are_not_believed_after_the_broker_moved_it)
{
	put_own();
	put_deaths((struct value[]){ moved("work", "delivery_limit", "in", "k") }, 1);
	struct table headers = replayed(NOW_MS);
	check_int(&headers, "x-warren-attempt", 1);
	check_text(&headers, "x-warren-exchange", "in");
	check_text(&headers, "x-warren-routing-key", "k");
	ck_assert(!table_get(&headers, "x-warren-verdict"));
	ck_assert(!table_get(&headers, "x-warren-expires-at"));
	ck_assert(!table_get(&headers, "x-death"));
}
END_TEST

START_TEST(a_message_without_origin_gets_none)
{
	struct table headers = replayed(NOW_MS);
	ck_assert(!table_get(&headers, "x-warren-exchange"));
	ck_assert_uint_eq(headers.n, 3);
}
END_TEST

START_TEST(a_renewed_message_is_the_same_without_the_count)
{
	struct outgoing out;
	put_own();
	put("x-delivery-count", V_INT(12));
	put("x-acquired-count", V_INT(12));
	msg.body = BYTES_LIT("body");
	ck_assert_int_eq(letter_deliveries(&msg), 12);
	ck_assert(letter_renew(&msg, arena, &out));
	ck_assert_uint_eq(out.props.headers.n, msg.props.headers.n - 2);
	check_int(&out.props.headers, "x-warren-crashes", 3);
	ck_assert(bytes_equal(out.body, msg.body));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("letter");
	TCase *tcase = tcase_create("letter");
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_test(tcase, what_warren_wrote);
	tcase_add_test(tcase, a_message_that_says_nothing);
	tcase_add_test(tcase, what_the_broker_moved);
	tcase_add_test(tcase, what_the_broker_moved_after_a_retry);
	tcase_add_test(tcase, what_came_from_the_quarantine);
	tcase_add_test(tcase, what_is_parked);
	tcase_add_test(tcase, headers_of_wrong_kinds_say_nothing);
	tcase_add_test(tcase, filters_mean);
	tcase_add_test(tcase, what_has_no_age_is_neither_older_nor_newer);
	tcase_add_test(tcase, a_replay_begins_anew_and_keeps_its_history);
	tcase_add_test(tcase, an_expiry_that_has_passed_is_dropped);
	tcase_add_test(tcase, headers_of_a_publisher_are_not_believed_after_the_broker_moved_it);
	tcase_add_test(tcase, a_message_without_origin_gets_none);
	tcase_add_test(tcase, a_renewed_message_is_the_same_without_the_count);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
