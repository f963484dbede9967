/* Messages between supervisor and worker: what arrives is what was sent, and nonsense is refused.
 */
#include "ipc.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fds[2];

static void setup(void)
{
	ck_assert(ipc_pair(fds));
}

static void teardown(void)
{
	close(fds[0]);
	close(fds[1]);
}

START_TEST(every_word_arrives)
{
	struct ipc_msg msg;

	ck_assert(ipc_send(fds[0], (enum ipc_word)_i, -5 * (int64_t)_i, "why"));
	ck_assert_int_eq(ipc_recv(fds[1], &msg), 1);
	ck_assert_uint_eq(msg.word, (unsigned)_i);
	ck_assert_int_eq(msg.number, -5 * (int64_t)_i);
	ck_assert_uint_eq(msg.len, 3);
	ck_assert_int_eq(memcmp(msg.text, "why", 3), 0);
	ck_assert_int_eq(ipc_recv(fds[1], &msg), 0);
}
END_TEST

START_TEST(no_text_is_empty_text)
{
	struct ipc_msg msg;

	ck_assert(ipc_send(fds[0], IPC_LOADED, 0, NULL));
	ck_assert(ipc_send(fds[0], IPC_STATE, 0, ""));
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(ipc_recv(fds[1], &msg), 1);
		ck_assert_uint_eq(msg.len, 0);
	}
}
END_TEST

START_TEST(long_text_is_cut)
{
	char text[3 * IPC_TEXT_MAX];
	struct ipc_msg msg;

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	ck_assert(ipc_send(fds[0], IPC_REFUSED, 0, text));
	ck_assert_int_eq(ipc_recv(fds[1], &msg), 1);
	ck_assert_uint_eq(msg.len, IPC_TEXT_MAX);
	ck_assert_int_eq(msg.text[IPC_TEXT_MAX - 1], 'x');
}
END_TEST

START_TEST(the_pair_neither_blocks_nor_survives_exec)
{
	for (int i = 0; i < 2; i++) {
		ck_assert(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		ck_assert(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
	}
}
END_TEST

START_TEST(a_full_buffer_is_said_and_loses_nothing)
{
	struct ipc_msg msg;
	int64_t sent = 0, got = 0;

	while (ipc_send(fds[0], IPC_PULSE, sent, NULL))
		ck_assert_int_lt(++sent, 1000000);
	ck_assert_int_eq(errno, EAGAIN);
	while (ipc_recv(fds[1], &msg) == 1)
		ck_assert_int_eq(msg.number, got++);
	ck_assert_int_eq(got, sent);
	ck_assert(ipc_send(fds[0], IPC_PULSE, sent, NULL));
}
END_TEST

START_TEST(what_was_sent_before_the_end_is_still_heard)
{
	struct ipc_msg msg;

	ck_assert(ipc_send(fds[0], IPC_GIVEN_BACK, 3, NULL));
	shutdown(fds[0], SHUT_RDWR);
	ck_assert_int_eq(ipc_recv(fds[1], &msg), 1);
	ck_assert_int_eq(msg.number, 3);
	ck_assert_int_eq(ipc_recv(fds[1], &msg), -1);
	ck_assert(!ipc_send(fds[1], IPC_DRAIN, 0, NULL)); /* and no SIGPIPE */
}
END_TEST

/* A process whose memory a plugin has spoilt may send anything. */
START_TEST(nonsense_is_refused)
{
	enum { HEAD = offsetof(struct ipc_msg, text) };
	char raw[2 * sizeof(struct ipc_msg)] = { 0 };
	struct ipc_msg *head = (struct ipc_msg *)(void *)raw, msg;
	static const struct {
		uint32_t word, len;
		size_t size;
	} bad[] = {
		{ IPC_PULSE, 0, 0 },
		{ IPC_PULSE, 0, 1 },
		{ IPC_PULSE, 0, HEAD - 1 },
		{ IPC_PULSE, 1, HEAD },
		{ IPC_PULSE, 0, HEAD + 1 },
		{ IPC_PULSE, UINT32_MAX, HEAD + 10 },
		{ IPC_PULSE, IPC_TEXT_MAX, HEAD + IPC_TEXT_MAX + 1 },
		{ IPC_PULSE, IPC_TEXT_MAX + 1, HEAD + IPC_TEXT_MAX + 1 },
		{ IPC_PULSE, IPC_TEXT_MAX + 100, HEAD + IPC_TEXT_MAX + 100 },
		{ 0, 0, HEAD },
		{ IPC_CANCEL + 1, 0, HEAD },
		{ UINT32_MAX, 0, HEAD },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		head->word = bad[i].word;
		head->len = bad[i].len;
		ck_assert_int_eq(send(fds[0], raw, bad[i].size, 0), (ssize_t)bad[i].size);
		ck_assert_msg(ipc_recv(fds[1], &msg) == -1, "case %zu", i);
	}
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("ipc");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, every_word_arrives, IPC_LOADED, IPC_CANCEL + 1);
	tcase_add_test(t, no_text_is_empty_text);
	tcase_add_test(t, long_text_is_cut);
	tcase_add_test(t, the_pair_neither_blocks_nor_survives_exec);
	tcase_add_test(t, a_full_buffer_is_said_and_loses_nothing);
	tcase_add_test(t, what_was_sent_before_the_end_is_still_heard);
	tcase_add_test(t, nonsense_is_refused);

	Suite *suite = suite_create("ipc");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
