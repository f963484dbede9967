/* Records that one writes and others read: whole or not at all, and bounded. */
#include "board.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { WRITES = 100000 };

static struct board_conn_row conn_row;
static struct board_source_row source_row;

static void setup(void)
{
	memset(&conn_row, 0, sizeof(conn_row));
	memset(&source_row, 0, sizeof(source_row));
}

START_TEST(what_was_written_is_read)
{
	struct board_conn conn = { .state = BOARD_BLOCKED,
		.since_ns = 1,
		.retry_at_ns = 2,
		.error_at_ns = 3,
		.broker = "amqp://h",
		.product = "RabbitMQ",
		.error = "low on disk" },
			  got_conn;
	struct board_source source = { .state = BOARD_WAITING,
		.code = 404,
		.threads = 8,
		.ready = -1,
		.dead = 7,
		.text = "NOT_FOUND" },
			    got_source;

	board_write_conn(&conn_row, &conn);
	board_write_source(&source_row, &source);
	ck_assert(board_read_conn(&conn_row, &got_conn));
	ck_assert(board_read_source(&source_row, &got_source));
	ck_assert_mem_eq(&got_conn, &conn, sizeof(conn));
	ck_assert_mem_eq(&got_source, &source, sizeof(source));
}
END_TEST

START_TEST(nothing_is_known_at_first)
{
	struct board_conn conn;
	struct board_source source;

	ck_assert(!board_read_conn(&conn_row, &conn));
	ck_assert(!board_read_source(&source_row, &source));
}
END_TEST

START_TEST(states_that_cannot_be_are_none)
{
	static const int32_t impossible[] = { -1, BOARD_NO_CONN, BOARD_BLOCKED + 1, INT32_MAX };
	static const int32_t no_queue[] = { -1, BOARD_NO_QUEUE, BOARD_PAUSED + 1, INT32_MAX };
	struct board_conn conn;
	struct board_source source;

	for (size_t i = 0; i < ARRAY_LEN(impossible); i++) {
		board_write_conn(&conn_row, &(struct board_conn){ .state = impossible[i] });
		ck_assert(!board_read_conn(&conn_row, &conn));
		board_write_source(&source_row, &(struct board_source){ .state = no_queue[i] });
		ck_assert(!board_read_source(&source_row, &source));
	}
}
END_TEST

START_TEST(garbage_is_bounded)
{
	struct board_conn conn;
	struct board_source source;

	memset(&conn_row.conn, 0xEE, sizeof(conn_row.conn));
	memset(&source_row.source, 0xEE, sizeof(source_row.source));
	conn_row.conn.state = BOARD_DOWN;
	source_row.source.state = BOARD_HELD;
	ck_assert(board_read_conn(&conn_row, &conn));
	ck_assert_uint_lt(strlen(conn.broker), sizeof(conn.broker));
	ck_assert_uint_lt(strlen(conn.product), sizeof(conn.product));
	ck_assert_uint_lt(strlen(conn.error), sizeof(conn.error));
	ck_assert_int_eq(conn.since_ns, 0);
	ck_assert_int_eq(conn.retry_at_ns, 0);
	ck_assert(board_read_source(&source_row, &source));
	ck_assert_uint_lt(strlen(source.text), sizeof(source.text));
	ck_assert_int_eq(source.ready, -1);
	ck_assert_int_eq(source.dead, -1);
	ck_assert_int_eq(source.seen_ns, 0);
}
END_TEST

START_TEST(a_write_that_was_cut_short_is_nothing_until_it_is_mended)
{
	struct board_conn conn;

	board_write_conn(&conn_row, &(struct board_conn){ .state = BOARD_UP });
	atomic_fetch_add(&conn_row.seq, 1);
	ck_assert(!board_read_conn(&conn_row, &conn));
	seqlock_mend(&conn_row.seq);
	ck_assert(board_read_conn(&conn_row, &conn));
	seqlock_mend(&conn_row.seq); /* nothing to mend */
	ck_assert(board_read_conn(&conn_row, &conn));
}
END_TEST

/* Every field says the same, so that a mixture of two writes shows. */
static void *write_many(void *arg)
{
	(void)arg;
	for (int i = 0; i < WRITES; i++) {
		struct board_source source = { .state = BOARD_WAITING, .code = i, .ready = i };

		source.since_ns = source.retry_at_ns = source.seen_ns = source.dead = i;
		memset(source.text, 'a' + i % 26, sizeof(source.text) - 1);
		board_write_source(&source_row, &source);
	}
	return NULL;
}

static bool is_whole(const struct board_source *source)
{
	char letter = (char)('a' + source->code % 26);

	for (size_t i = 0; i < sizeof(source->text) - 1; i++)
		if (source->text[i] != letter)
			return false;
	return source->ready == source->code && source->dead == source->code &&
	       source->since_ns == source->code && source->seen_ns == source->code;
}

START_TEST(a_reader_never_sees_a_mixture)
{
	struct board_source source = { .code = -1 };
	pthread_t writer;
	int seen = 0;

	ck_assert_int_eq(pthread_create(&writer, NULL, write_many, NULL), 0);
	while (source.code != WRITES - 1) {
		if (!board_read_source(&source_row, &source))
			continue;
		ck_assert(is_whole(&source));
		seen++;
	}
	ck_assert_int_eq(pthread_join(writer, NULL), 0);
	ck_assert_int_gt(seen, 0);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("board");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, what_was_written_is_read);
	tcase_add_test(t, nothing_is_known_at_first);
	tcase_add_test(t, states_that_cannot_be_are_none);
	tcase_add_test(t, garbage_is_bounded);
	tcase_add_test(t, a_write_that_was_cut_short_is_nothing_until_it_is_mended);
	tcase_add_test(t, a_reader_never_sees_a_mixture);
	tcase_set_timeout(t, 60);

	Suite *suite = suite_create("board");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
