/* What a copy keeps, what it drops, what it says; and what is believed of a message that comes
 * back. */
#include "copy.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum { NOW_MS = 1700000500, FIRST_MS = 1700000000 };

#define KEY(s) BYTES_LIT(s)

static char queue_name[] = "work";
static char queue_label[] = "work \"of\" all";
static struct conf_queue queue;
static struct warren_job *job;
static struct copy_stamp stamp;

static void set_up(void)
{
	queue = (struct conf_queue){
		.name = queue_name,
		.label = queue_label,
		.retry = { .attempts = 5 },
	};
	job = job_create(NULL, &queue);
	ck_assert_ptr_nonnull(job);
	job->task_name = BYTES_LIT("text.upper");
	job->first_exchange = BYTES_LIT("files");
	job->first_routing_key = BYTES_LIT("new.a");
	job->first_at_ms = FIRST_MS;
	stamp = (struct copy_stamp){
		.verdict = "retry",
		.attempt = 2,
		.now_wall_ms = NOW_MS,
		.host = "here",
		.plugin = "upper/1.0",
	};
}

static void tear_down(void)
{
	job_destroy(job);
}

static void set_headers(struct field *fields, size_t n)
{
	job->msg.props.headers = (struct table){ fields, n };
	job->msg.props.present |= PROP_HEADERS;
}

enum { COPY_MAX = MSG_HEADERS_MAX + MSG_HEADERS_ROOM };

static struct outgoing made(void)
{
	struct outgoing out = { .next = NULL };
	ck_assert(copy_make(job, &stamp, &out));
	ck_assert_uint_le(copy_table_size(&out.props.headers), COPY_MAX);
	return out;
}

static void check_text(const struct outgoing *out, const char *key, const char *want)
{
	struct bytes text;
	ck_assert_msg(table_get_bytes(&out->props.headers, key, &text), "%s", key);
	ck_assert_msg(bytes_is(text, want), "%s: %.*s", key, (int)text.len, text.data);
}

static void check_int(const struct outgoing *out, const char *key, int64_t want)
{
	int64_t n;
	ck_assert_msg(table_get_int(&out->props.headers, key, &n), "%s", key);
	ck_assert_int_eq(n, want);
	ck_assert_uint_eq(table_get(&out->props.headers, key)->width, 8);
}

static void check_missing(const struct outgoing *out, const char *key)
{
	ck_assert_msg(!table_get(&out->props.headers, key), "%s", key);
}

static struct bytes reason_of(const struct outgoing *out)
{
	struct bytes reason;
	ck_assert(table_get_bytes(&out->props.headers, "x-warren-reason", &reason));
	ck_assert(text_is_utf8(reason));
	ck_assert_uint_le(reason.len, 1024);
	for (size_t i = 0; i < reason.len; i++)
		ck_assert_uint_ge((unsigned char)reason.data[i], ' ');
	return reason;
}

static bool begins_with(struct bytes text, const char *beginning)
{
	size_t len = strlen(beginning);
	return text.len >= len && memcmp(text.data, beginning, len) == 0;
}

/* ---- What a copy says ---- */

START_TEST(a_copy_carries_the_headers_of_the_table)
{
	memcpy(job->reason, "disk full", 10);
	job->expires_at_ms = FIRST_MS + 7;
	stamp.crashes = 2;
	stamp.signal = "SIGSEGV";
	struct outgoing out = made();
	check_int(&out, "x-warren-attempt", 2);
	check_text(&out, "x-warren-queue", "work \"of\" all"); /* byte by byte */
	check_text(&out, "x-warren-task", "text.upper");
	check_text(&out, "x-warren-exchange", "files");
	check_text(&out, "x-warren-routing-key", "new.a");
	check_int(&out, "x-warren-first-at", FIRST_MS);
	check_int(&out, "x-warren-at", NOW_MS);
	check_int(&out, "x-warren-expires-at", FIRST_MS + 7);
	check_text(&out, "x-warren-reason", "disk full");
	check_text(&out, "x-warren-verdict", "retry");
	check_text(&out, "x-warren-host", "here");
	check_text(&out, "x-warren-plugin", "upper/1.0");
	check_int(&out, "x-warren-crashes", 2);
	check_text(&out, "x-warren-signal", "SIGSEGV");
	ck_assert_uint_eq(out.props.headers.n, 14);
}
END_TEST

START_TEST(what_is_not_known_is_left_out)
{
	job->task_name = (struct bytes){ NULL, 0 };
	job->first_exchange =
	    (struct bytes){ NULL, 0 }; /* the default exchange: known, and empty */
	stamp.plugin = NULL;
	struct outgoing out = made();
	check_missing(&out, "x-warren-task");
	check_missing(&out, "x-warren-plugin");
	check_missing(&out, "x-warren-expires-at");
	check_missing(&out, "x-warren-reason");
	check_missing(&out, "x-warren-crashes");
	check_missing(&out, "x-warren-signal");
	check_text(&out, "x-warren-exchange", "");
}
END_TEST

START_TEST(body_and_properties_stay_but_those_that_act_twice)
{
	struct props *props = &job->msg.props;
	*props = (struct props){
		.present = (PROP_CLUSTER_ID << 1) - 1,
		.delivery_mode = 1,
		.priority = 7,
		.timestamp = 99,
		.content_type = BYTES_LIT("text/plain"),
		.content_encoding = BYTES_LIT("gzip"),
		.correlation_id = BYTES_LIT("c"),
		.reply_to = BYTES_LIT("r"),
		.expiration = BYTES_LIT("5000"),
		.message_id = BYTES_LIT("m\0m"),
		.type = BYTES_LIT("t"),
		.user_id = BYTES_LIT("guest"),
		.app_id = BYTES_LIT("a"),
	};
	job->msg.body = BYTES_LIT("\0body\0");
	struct outgoing out = made();
	ck_assert_uint_eq(out.props.present,
	    props->present & ~(uint32_t)PROP_EXPIRATION & ~(uint32_t)PROP_USER_ID);
	ck_assert_uint_eq(out.props.expiration.len + out.props.user_id.len, 0);
	ck_assert_int_eq(out.props.delivery_mode, 2);
	ck_assert_int_eq(out.props.priority, 7);
	ck_assert_uint_eq(out.props.timestamp, 99);
	ck_assert(bytes_equal(out.props.message_id, BYTES_LIT("m\0m")));
	ck_assert(bytes_is(out.props.content_type, "text/plain"));
	ck_assert(bytes_is(out.props.content_encoding, "gzip"));
	ck_assert(bytes_is(out.props.correlation_id, "c"));
	ck_assert(bytes_is(out.props.reply_to, "r"));
	ck_assert(bytes_is(out.props.type, "t"));
	ck_assert(bytes_is(out.props.app_id, "a"));
	ck_assert(bytes_equal(out.body, job->msg.body));
	ck_assert_uint_eq(props->expiration.len, 4); /* the message itself is untouched */
}
END_TEST

START_TEST(a_bare_message_becomes_persistent)
{
	struct outgoing out = made();
	ck_assert_uint_eq(out.props.present, PROP_HEADERS | PROP_DELIVERY_MODE);
	ck_assert_int_eq(out.props.delivery_mode, 2);
}
END_TEST

/* ---- What a copy drops ---- */

START_TEST(what_the_broker_added_is_stripped)
{
	static const char *const gone[] = { "CC", "BCC", "x-death", "x-first-death-queue",
		"x-first-death-reason", "x-first-death-exchange", "x-last-death-queue",
		"x-last-death-reason", "x-last-death-exchange", "x-delivery-count",
		"x-acquired-count", "x-delay", "x-warren-attempt", "x-warren-anything" };
	static const char *const kept[] = { "cc", "X-Death", "x-deaths", "x-delays", "x-warren",
		"x-first-deat", "my-x-death", "", "x-match", "x-delivery-counts", "x-first-death" };
	for (size_t i = 0; i < ARRAY_LEN(gone); i++)
		ck_assert_msg(copy_drops_header(bytes_of(gone[i])), "%s", gone[i]);
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		ck_assert_msg(!copy_drops_header(bytes_of(kept[i])), "%s", kept[i]);
	ck_assert(!copy_drops_header(BYTES_LIT("CC\0")));
}
END_TEST

START_TEST(own_headers_stay_in_their_order)
{
	struct value items[] = { V_INT(1) };
	struct field fields[] = {
		{ KEY("x-death"), V_INT(1) },
		{ KEY("b"), { .kind = VALUE_ARRAY, .array = { items, 1 } } },
		{ KEY("CC"), V_STR(BYTES_LIT("other")) },
		{ KEY("a"), V_STR(BYTES_LIT("\xff")) },
		{ KEY("x-warren-verdict"), V_STR(BYTES_LIT("forged")) },
		{ KEY("a"), V_BOOL(true) },
	};
	set_headers(fields, ARRAY_LEN(fields));
	struct outgoing out = made();
	const struct field *got = out.props.headers.fields;
	ck_assert(bytes_is(got[0].key, "b") && got[0].value.array.items == items);
	ck_assert(bytes_is(got[1].key, "a") && got[1].value.bytes.len == 1);
	ck_assert(bytes_is(got[2].key, "a") && got[2].value.kind == VALUE_BOOL);
	check_text(&out, "x-warren-verdict", "retry");
	check_missing(&out, "x-death");
	check_missing(&out, "CC");
}
END_TEST

/* However often a message comes back, its copies do not grow. */
START_TEST(copies_of_copies_do_not_grow)
{
	struct field fields[] = { { KEY("mine"), V_INT(1) },
		{ KEY("x-warren-crashes"), V_INT(1) } };
	set_headers(fields, ARRAY_LEN(fields));
	struct outgoing out = made();
	size_t n = out.props.headers.n;
	for (int i = 0; i < 10; i++) {
		job->msg.props = out.props;
		out = made();
		ck_assert_uint_eq(out.props.headers.n, n);
	}
	check_int(&out, "mine", 1);
}
END_TEST

START_TEST(crashes_stay_until_worse_is_told)
{
	struct field fields[] = { { KEY("x-warren-crashes"), V_INT(1) },
		{ KEY("x-warren-signal"), V_STR(BYTES_LIT("SIGABRT")) } };
	set_headers(fields, ARRAY_LEN(fields));
	struct outgoing out = made();
	check_int(&out, "x-warren-crashes", 1);
	check_text(&out, "x-warren-signal", "SIGABRT");
	stamp.crashes = 2;
	stamp.signal = "SIGSEGV";
	out = made();
	check_int(&out, "x-warren-crashes", 2);
	check_text(&out, "x-warren-signal", "SIGSEGV");
}
END_TEST

START_TEST(forged_crashes_do_not_stay)
{
	struct field fields[] = { { KEY("x-warren-crashes"), V_INT(-3) },
		{ KEY("x-warren-signal"), V_INT(9) } };
	set_headers(fields, ARRAY_LEN(fields));
	struct outgoing out = made();
	check_missing(&out, "x-warren-crashes");
	check_missing(&out, "x-warren-signal");
}
END_TEST

/* ---- Reasons ---- */

START_TEST(reasons_become_one_line_of_utf8)
{
	(void)strcpy(job->reason, "bad\n\x1b[2J \xff \xC2\x85 \xE2\x80\xAE gr\xC3\xBC\xC3\x9F");
	struct outgoing out = made();
	ck_assert(bytes_is(
	    reason_of(&out), "bad\\n\\x1b[2J \\xff \\u{0085} \\u{202e} gr\xC3\xBC\xC3\x9F"));
}
END_TEST

START_TEST(reasons_end_at_one_kib_between_characters)
{
	for (size_t i = 0; i + 2 < sizeof(job->reason); i += 2)
		memcpy(job->reason + i, "\xC3\xBC", 2);
	struct outgoing out = made();
	ck_assert_uint_eq(reason_of(&out).len, 1024); /* fits to the last byte */
	memset(job->reason, '\n', sizeof(job->reason) - 1);
	out = made();
	struct bytes reason = reason_of(&out);
	ck_assert_mem_eq(reason.data + reason.len - 5, "\\n...", 5);
}
END_TEST

/* ---- Sizes ---- */

START_TEST(sizes_are_those_of_the_wire)
{
	struct value items[] = { V_INT(1), V_BOOL(true) };
	struct field inner[] = { { KEY("k"), { .kind = VALUE_VOID } } };
	struct field fields[] = {
		{ KEY("v"), { .kind = VALUE_VOID } },
		{ KEY("t"), V_BOOL(true) },
		{ KEY("b"), { .kind = VALUE_INT, .width = 1 } },
		{ KEY("s"), { .kind = VALUE_INT, .width = 2 } },
		{ KEY("i"), { .kind = VALUE_UINT, .width = 4 } },
		{ KEY("l"), V_INT(1) },
		{ KEY("0"), { .kind = VALUE_INT, .width = 0 } },
		{ KEY("f"), { .kind = VALUE_DOUBLE, .width = 4 } },
		{ KEY("d"), { .kind = VALUE_DOUBLE, .width = 8 } },
		{ KEY("D"), { .kind = VALUE_DECIMAL } },
		{ KEY("S"), V_STR(BYTES_LIT("abc")) },
		{ KEY("x"), { .kind = VALUE_BYTES, .bytes = BYTES_LIT("") } },
		{ KEY("T"), { .kind = VALUE_TIMESTAMP } },
		{ KEY("A"), { .kind = VALUE_ARRAY, .array = { items, 2 } } },
		{ KEY("F"), { .kind = VALUE_TABLE, .table = { inner, 1 } } },
	};
	static const size_t sizes[] = { 1, 2, 2, 3, 5, 9, 9, 5, 9, 6, 8, 5, 9, 5 + 9 + 2,
		5 + 2 + 1 };
	size_t total = 4;
	ck_assert_uint_eq(copy_table_size(&(struct table){ NULL, 0 }), 4);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		ck_assert_uint_eq(
		    copy_table_size(&(struct table){ &fields[i], 1 }), 4 + 2 + sizes[i]);
		total += 2 + sizes[i];
	}
	ck_assert_uint_eq(copy_table_size(&(struct table){ fields, ARRAY_LEN(fields) }), total);
}
END_TEST

static struct bytes long_text(size_t len)
{
	char *text = arena_alloc(job->arena, len);
	ck_assert_ptr_nonnull(text);
	memset(text, 'x', len);
	return (struct bytes){ text, len };
}

/* Own headers that just fit stay; one byte more, and they are left out with a word about it. */
START_TEST(headers_over_64_kib_are_left_out)
{
	(void)strcpy(job->reason, "why");
	struct field field = { KEY("big"), V_STR(BYTES_LIT("")) };
	set_headers(&field, 1);
	struct outgoing out = made();
	size_t room = COPY_MAX - copy_table_size(&out.props.headers);

	field.value.bytes = long_text(room);
	out = made();
	ck_assert_uint_eq(copy_table_size(&out.props.headers), COPY_MAX);
	check_text(&out, "x-warren-reason", "why");

	field.value.bytes = long_text(room + 1);
	out = made();
	check_missing(&out, "big");
	check_int(&out, "x-warren-attempt", 2);
	check_text(
	    &out, "x-warren-reason", "original headers are missing (headers over 64 KiB): why");
}
END_TEST

START_TEST(headers_that_were_not_kept_are_missed_aloud)
{
	static const enum msg_flaw flaws[] = { MSG_HEADERS_LARGE, MSG_HEADERS_DEEP,
		MSG_HEADERS_BROKEN };
	for (size_t i = 0; i < ARRAY_LEN(flaws); i++) {
		job->msg.flaw = flaws[i];
		memset(job->reason, '\n', sizeof(job->reason) - 1); /* does not push it out */
		struct outgoing out = made();
		ck_assert(begins_with(reason_of(&out), "original headers are missing (headers"));
		memset(job->reason, 0, sizeof(job->reason));
		out = made();
		ck_assert(begins_with(reason_of(&out), "original headers are missing (headers"));
	}
	job->msg.flaw = MSG_TOO_LARGE; /* has its headers */
	struct outgoing out = made();
	check_missing(&out, "x-warren-reason");
}
END_TEST

/* Names of a length that AMQP cannot carry come from a forger; they must not fill the copy. */
START_TEST(forged_names_cannot_fill_a_copy)
{
	job->first_exchange = job->first_routing_key = job->task_name = long_text(60000);
	struct field field = { KEY("x-warren-signal"), V_STR(long_text(60000)) };
	set_headers(&field, 1);
	struct outgoing out = made();
	ck_assert_uint_lt(copy_table_size(&out.props.headers), 3000);
}
END_TEST

START_TEST(many_headers_are_kept)
{
	struct field fields[5000];
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		fields[i] = (struct field){ KEY("k"), V_BOOL(true) };
	set_headers(fields, ARRAY_LEN(fields));
	struct outgoing out = made();
	ck_assert_uint_gt(out.props.headers.n, ARRAY_LEN(fields));
}
END_TEST

/* ---- Replies ---- */

START_TEST(a_reply_goes_where_it_was_asked)
{
	struct props *props = &job->msg.props;
	props->present = PROP_REPLY_TO | PROP_CORRELATION_ID | PROP_MESSAGE_ID | PROP_DELIVERY_MODE;
	props->reply_to = BYTES_LIT("answers");
	props->correlation_id = BYTES_LIT("c1");
	props->message_id = BYTES_LIT("m1");
	props->delivery_mode = 2;
	char type[] = "text/plain", body[] = "yes";
	struct outgoing out;
	ck_assert(copy_reply(job, bytes_of(type), bytes_of(body), &out));
	memset(type, '#', sizeof(type)); /* the plugin's memory is its own again */
	memset(body, '#', sizeof(body));
	ck_assert_uint_eq(out.exchange.len, 0);
	ck_assert(bytes_is(out.routing_key, "answers"));
	ck_assert(bytes_is(out.props.correlation_id, "c1"));
	ck_assert(bytes_is(out.props.content_type, "text/plain"));
	ck_assert(bytes_is(out.body, "yes"));
	ck_assert_int_eq(out.props.delivery_mode, 2);
	ck_assert_uint_eq(
	    out.props.present, PROP_CORRELATION_ID | PROP_CONTENT_TYPE | PROP_DELIVERY_MODE);
	ck_assert_ptr_null(out.next);
}
END_TEST

START_TEST(a_reply_names_the_message_where_it_must)
{
	struct props *props = &job->msg.props;
	struct bytes none = { NULL, 0 };
	props->present = PROP_REPLY_TO | PROP_MESSAGE_ID | PROP_DELIVERY_MODE;
	props->message_id = BYTES_LIT("m1");
	props->delivery_mode = 1;
	struct outgoing out;
	ck_assert(copy_reply(job, none, none, &out));
	ck_assert(bytes_is(out.props.correlation_id, "m1"));
	ck_assert_uint_eq(out.props.present, PROP_CORRELATION_ID);
	props->present = PROP_REPLY_TO;
	ck_assert(copy_reply(job, none, none, &out));
	ck_assert_uint_eq(out.props.present, 0);
}
END_TEST

/* ---- What is believed of a message that comes back (job.h) ---- */

static int attempt_read(struct value value)
{
	struct field field = { KEY("x-warren-attempt"), value };
	set_headers(&field, 1);
	job_read_headers(job, true, NOW_MS);
	return job->attempt;
}

START_TEST(a_forged_attempt_is_the_last_one)
{
	int last = queue.retry.attempts;
	ck_assert_int_eq(attempt_read(V_INT(3)), 3);
	ck_assert_int_eq(
	    attempt_read((struct value){ .kind = VALUE_UINT, .width = 1, .natural = 4 }), 4);
	ck_assert_int_ge(attempt_read(V_INT(0)), last);
	ck_assert_int_ge(attempt_read(V_INT(-1)), last);
	ck_assert_int_ge(attempt_read(V_INT(INT64_MIN)), last);
	ck_assert_int_ge(attempt_read(V_INT(INT64_MAX)), last);
	ck_assert_int_ge(attempt_read(V_INT((INT64_C(1) << 32) + 1)), last);
	ck_assert_int_ge(
	    attempt_read((struct value){ .kind = VALUE_UINT, .natural = (uint64_t)1 << 63 }), last);
	ck_assert_int_ge(attempt_read(V_STR(BYTES_LIT("1"))), last);
	ck_assert_int_ge(attempt_read((struct value){ .kind = VALUE_TABLE }), last);
	ck_assert_int_ge(attempt_read((struct value){ .kind = VALUE_ARRAY }), last);
	ck_assert_int_ge(attempt_read((struct value){ .kind = VALUE_VOID }), last);
	ck_assert_int_ge(attempt_read((struct value){ .kind = VALUE_DOUBLE, .real = 1 }), last);
}
END_TEST

/* A forged attempt ends in the dead-letter queue, not in a loop of free retries. */
START_TEST(a_forged_attempt_gives_no_free_retry)
{
	struct situation s = { .outcome = OUTCOME_RETRY, .retry_after_ns = -1, .queue = &queue };
	static const int64_t forged[] = { -1, 0, INT64_MIN, INT64_MAX, INT64_C(1) << 31 };
	for (size_t i = 0; i < ARRAY_LEN(forged); i++) {
		s.attempt = attempt_read(V_INT(forged[i]));
		ck_assert_str_eq(verdict_decide(&s).verdict, "exhausted");
	}
}
END_TEST

START_TEST(strangers_are_not_believed)
{
	struct field fields[] = {
		{ KEY("x-warren-attempt"), V_INT(4) },
		{ KEY("x-warren-exchange"), V_STR(BYTES_LIT("forged")) },
		{ KEY("x-warren-routing-key"), V_STR(BYTES_LIT("forged")) },
		{ KEY("x-warren-first-at"), V_INT(5) },
		{ KEY("x-warren-expires-at"), V_INT(6) },
	};
	set_headers(fields, ARRAY_LEN(fields));
	job->msg.exchange = BYTES_LIT("e");
	job->msg.routing_key = BYTES_LIT("k");
	job_read_headers(job, false, NOW_MS);
	ck_assert_int_eq(job->attempt, 1);
	ck_assert(bytes_is(job->first_exchange, "e"));
	ck_assert(bytes_is(job->first_routing_key, "k"));
	ck_assert_int_eq(job->first_at_ms, NOW_MS);
	ck_assert_int_eq(job->expires_at_ms, 0);

	job_read_headers(job, true, NOW_MS);
	ck_assert_int_eq(job->attempt, 4);
	ck_assert(bytes_is(job->first_exchange, "forged"));
	ck_assert_int_eq(job->first_at_ms, 5);
	ck_assert_int_eq(job->expires_at_ms, 6);
}
END_TEST

/* What a copy says is what the next delivery reads. */
START_TEST(a_copy_reads_back)
{
	job->expires_at_ms = NOW_MS + 100;
	job->first_routing_key = BYTES_LIT("any\0\xff byte");
	job->msg.props = made().props;
	job->msg.exchange = BYTES_LIT("");
	job->msg.routing_key = BYTES_LIT("work");
	job->attempt = 0;
	job->first_exchange = job->first_routing_key = (struct bytes){ NULL, 0 };
	job->first_at_ms = job->expires_at_ms = 0;
	job_read_headers(job, true, NOW_MS + 50);
	ck_assert_int_eq(job->attempt, 2);
	ck_assert_int_eq(job->first_at_ms, FIRST_MS);
	ck_assert_int_eq(job->expires_at_ms, NOW_MS + 100);
	ck_assert(bytes_is(job->first_exchange, "files"));
	ck_assert(bytes_equal(job->first_routing_key, BYTES_LIT("any\0\xff byte")));
}
END_TEST

START_TEST(absurd_expirations_are_never)
{
	static const struct {
		const char *text;
		int64_t expires_at_ms;
	} cases[] = {
		{ "5000", NOW_MS + 5000 },
		{ "0", NOW_MS },
		{ "", 0 },
		{ "-1", 0 },
		{ "5s", 0 },
		{ "99999999999999999999999999", 0 },
		{ "9223372036854775807", 0 },
	};
	job->msg.props.present = PROP_EXPIRATION;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		job->msg.props.expiration = bytes_of(cases[i].text);
		job_read_headers(job, false, NOW_MS);
		ck_assert_int_eq(job->expires_at_ms, cases[i].expires_at_ms);
	}
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("copy");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, a_copy_carries_the_headers_of_the_table);
	tcase_add_test(t, what_is_not_known_is_left_out);
	tcase_add_test(t, body_and_properties_stay_but_those_that_act_twice);
	tcase_add_test(t, a_bare_message_becomes_persistent);
	tcase_add_test(t, what_the_broker_added_is_stripped);
	tcase_add_test(t, own_headers_stay_in_their_order);
	tcase_add_test(t, copies_of_copies_do_not_grow);
	tcase_add_test(t, crashes_stay_until_worse_is_told);
	tcase_add_test(t, forged_crashes_do_not_stay);
	tcase_add_test(t, reasons_become_one_line_of_utf8);
	tcase_add_test(t, reasons_end_at_one_kib_between_characters);
	tcase_add_test(t, sizes_are_those_of_the_wire);
	tcase_add_test(t, headers_over_64_kib_are_left_out);
	tcase_add_test(t, headers_that_were_not_kept_are_missed_aloud);
	tcase_add_test(t, forged_names_cannot_fill_a_copy);
	tcase_add_test(t, many_headers_are_kept);
	tcase_add_test(t, a_reply_goes_where_it_was_asked);
	tcase_add_test(t, a_reply_names_the_message_where_it_must);
	tcase_add_test(t, a_forged_attempt_is_the_last_one);
	tcase_add_test(t, a_forged_attempt_gives_no_free_retry);
	tcase_add_test(t, strangers_are_not_believed);
	tcase_add_test(t, a_copy_reads_back);
	tcase_add_test(t, absurd_expirations_are_never);
	tcase_set_timeout(t, 60);

	Suite *suite = suite_create("copy");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
