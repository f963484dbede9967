/* The identity of a message: what makes it another one, and what does not. */
#include "identity.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "copy.h"

enum { LARGE = 100000 };

static char queue_name[] = "work", other_name[] = "other";
static struct conf_queue queue;
static struct warren_job *job;
static uint8_t first[IDENTITY_LEN];
static char *large;

static void set_up(void)
{
	queue = (struct conf_queue){ .name = queue_name, .label = queue_name };
	job = job_create(NULL, &queue);
	ck_assert_ptr_nonnull(job);
	large = calloc(1, LARGE);
	ck_assert_ptr_nonnull(large);
	job->first_exchange = BYTES_LIT("files");
	job->first_routing_key = BYTES_LIT("new.a");
	job->msg.body = BYTES_LIT("the body");
	job->msg.props = (struct props){
		.present = PROP_TYPE | PROP_DELIVERY_MODE,
		.type = BYTES_LIT("a.b"),
		.delivery_mode = 2,
	};
	identity_of(job, first);
	ck_assert(identity_known(first));
}

static void tear_down(void)
{
	free(large);
	job_destroy(job);
}

static bool is_same(void)
{
	uint8_t now[IDENTITY_LEN];

	identity_of(job, now);
	ck_assert(identity_known(now));
	return memcmp(first, now, IDENTITY_LEN) == 0;
}

START_TEST(every_part_counts)
{
	struct warren_job *j = job;
	struct msg original = j->msg;

	ck_assert(is_same());
	queue.name = other_name; /* a copy in another queue runs another task */
	ck_assert(!is_same());
	queue.name = queue_name;
	j->first_exchange = BYTES_LIT("filesn");
	j->first_routing_key = BYTES_LIT("ew.a");
	ck_assert(!is_same());
	j->first_exchange = BYTES_LIT("files");
	j->first_routing_key = BYTES_LIT("new.a");
	ck_assert(is_same());
	j->msg.body = BYTES_LIT("the bodY");
	ck_assert(!is_same());
	j->msg = original;
	j->msg.props.present |= PROP_MESSAGE_ID;
	j->msg.props.message_id = BYTES_LIT("1");
	ck_assert(!is_same());
	j->msg = original;
	j->msg.props.present |= PROP_PRIORITY;
	ck_assert(!is_same());
	j->msg = original;
	j->msg.props.type = BYTES_LIT("a.c");
	ck_assert(!is_same());
}
END_TEST

START_TEST(what_delivery_and_copies_change_does_not_count)
{
	struct field fields[] = { { BYTES_LIT("x-death"), V_STR(BYTES_LIT("1")) },
		{ BYTES_LIT("x-delivery-count"), V_INT(7) },
		{ BYTES_LIT("x-warren-attempt"), V_INT(3) } };

	job->msg.redelivered = true;
	job->msg.exchange = BYTES_LIT("");
	job->msg.routing_key = BYTES_LIT("work");
	job->msg.props.present |= PROP_EXPIRATION | PROP_USER_ID | PROP_HEADERS;
	job->msg.props.expiration = BYTES_LIT("1000");
	job->msg.props.user_id = BYTES_LIT("guest");
	job->msg.props.delivery_mode = 1;
	job->msg.props.headers = (struct table){ fields, ARRAY_LEN(fields) };
	job->attempt = 3;
	ck_assert(is_same());
}
END_TEST

START_TEST(a_copy_of_ours_is_the_same_message)
{
	struct field fields[] = { { BYTES_LIT("tenant"), V_INT(7) } };
	struct outgoing out = { .next = NULL };
	const struct copy_stamp stamp = { .verdict = "retry", .attempt = 2, .crashes = 1 };

	job->msg.props.present |= PROP_HEADERS | PROP_EXPIRATION;
	job->msg.props.expiration = BYTES_LIT("1000");
	job->msg.props.headers = (struct table){ fields, 1 };
	identity_of(job, first);
	ck_assert(copy_make(job, &stamp, &out));
	job->msg.props = out.props;
	ck_assert(is_same());
}
END_TEST

static bool header_matters(struct value value)
{
	struct field fields[] = { { BYTES_LIT("tenant"), value } };
	bool same;

	job->msg.props.headers = (struct table){ fields, 1 };
	same = is_same();
	job->msg.props.headers = (struct table){ NULL, 0 };
	return !same;
}

START_TEST(headers_of_every_kind_count)
{
	struct value items[] = { V_INT(1), V_STR(BYTES_LIT("2")) };
	struct field inner[] = { { BYTES_LIT("k"), V_BOOL(true) } };
	const struct value values[] = {
		{ .kind = VALUE_VOID },
		V_BOOL(true),
		V_INT(-1),
		{ .kind = VALUE_UINT, .natural = 5 },
		{ .kind = VALUE_DOUBLE, .real = 0.5 },
		{ .kind = VALUE_DECIMAL, .natural = 5, .scale = 2 },
		{ .kind = VALUE_TIMESTAMP, .natural = 1700000000 },
		V_STR(BYTES_LIT("x")),
		{ .kind = VALUE_BYTES, .bytes = BYTES_LIT("x") },
		{ .kind = VALUE_ARRAY, .array = { items, 2 } },
		{ .kind = VALUE_TABLE, .table = { inner, 1 } },
	};
	uint8_t seen[ARRAY_LEN(values)][IDENTITY_LEN];

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct field fields[] = { { BYTES_LIT("tenant"), values[i] } };

		ck_assert(header_matters(values[i]));
		job->msg.props.headers = (struct table){ fields, 1 };
		identity_of(job, seen[i]);
		for (size_t k = 0; k < i; k++)
			ck_assert_mem_ne(seen[i], seen[k], IDENTITY_LEN);
	}
}
END_TEST

/* Its length, its first and its last 4 KiB. */
START_TEST(of_a_large_body_the_ends_count)
{
	job->msg.body = (struct bytes){ large, LARGE };
	identity_of(job, first);
	large[4095] = 1;
	ck_assert(!is_same());
	large[4095] = 0;
	large[LARGE - 4096] = 1;
	ck_assert(!is_same());
	large[LARGE - 4096] = 0;
	large[LARGE / 2] = 1;
	ck_assert(is_same());
	job->msg.body.len--;
	ck_assert(!is_same());
	job->msg.body = (struct bytes){ NULL, 0 };
	ck_assert(!is_same());
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("identity");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, every_part_counts);
	tcase_add_test(t, what_delivery_and_copies_change_does_not_count);
	tcase_add_test(t, a_copy_of_ours_is_the_same_message);
	tcase_add_test(t, headers_of_every_kind_count);
	tcase_add_test(t, of_a_large_body_the_ends_count);

	Suite *suite = suite_create("identity");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
