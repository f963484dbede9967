/* control.c and local.c: what no client can do, without waiting for the limits to pass. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "control.h"
#include "local.h"
#include "log.h"

enum { LARGE = 4 << 20 };

static char folder[] = "/tmp/warren-unit-XXXXXX";
static char path[64], why[512];
static struct control *control;
static control_client asked;

static void answer_large(
    void *context, struct control *c, control_client client, const struct words *words)
{
	char *text = malloc(LARGE + 1);

	(void)context, (void)words;
	ck_assert_ptr_nonnull(text);
	memset(text, 'x', LARGE);
	text[LARGE] = '\0';
	control_answer(c, client, text);
}

static void answer_short_of_memory(
    void *context, struct control *c, control_client client, const struct words *words)
{
	(void)context, (void)words;
	control_answer(c, client, NULL);
}

static void answer_later(
    void *context, struct control *c, control_client client, const struct words *words)
{
	(void)c, (void)words;
	*(control_client *)context = client;
}

static const struct control_command commands[] = {
	{ "large", answer_large },
	{ "short", answer_short_of_memory },
	{ "later", answer_later },
	{ "later WHAT", answer_later },
};

static void open_control(void)
{
	ck_assert(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/s", folder);
	log_init(LOG_ERROR, LOG_LOGFMT);
	control = control_create(commands, ARRAY_LEN(commands), &asked);
	ck_assert(control_prepare(control, path, why, sizeof(why)));
	control_commit(control);
	asked = 0;
}

static void close_control(void)
{
	control_destroy(control);
	ck_assert_int_ne(access(path, F_OK), 0);
	ck_assert_int_eq(rmdir(folder), 0);
	memcpy(strrchr(folder, '-'), "-XXXXXX", sizeof("-XXXXXX"));
}

static void serve(int64_t later_s)
{
	control_serve(control, clock_mono_ns() + later_s * NS_PER_S);
}

static int call(const char *text)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	(void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	ck_assert_int_eq(send(fd, text, strlen(text), 0), (ssize_t)strlen(text));
	serve(0); /* lets it in */
	serve(0); /* hears it */
	return fd;
}

/* What has come; -1 while it goes on. */
static ssize_t hear(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size && (n = recv(fd, text + len, size - len, 0)) > 0)
		len += (size_t)n;
	text[len < size ? len : size - 1] = '\0';
	return n == 0 ? (ssize_t)len : -1;
}

static void hears(int fd, const char *expected)
{
	char text[512];

	ck_assert_int_ge(hear(fd, text, sizeof(text)), 0);
	ck_assert_str_eq(text, expected);
	(void)close(fd);
}

static bool is_held(void)
{
	struct pollfd fds[CONTROL_FDS];

	return control_fds(control, fds) > 1;
}

START_TEST(a_large_reply_goes_as_fast_as_it_is_read)
{
	static char text[LARGE + 2];
	int fd = call("large\n");
	size_t len = 0;

	ck_assert(is_held());
	while (len < LARGE + 1) {
		ssize_t n = recv(fd, text + len, 100000, 0);

		ck_assert_int_gt(n, 0);
		len += (size_t)n;
		serve(0);
	}
	ck_assert(text[LARGE - 1] == 'x' && text[LARGE] == '\n');
	ck_assert_int_eq(recv(fd, text, 1, 0), 0);
	ck_assert(!is_held());
	(void)close(fd);
}
END_TEST

START_TEST(who_never_reads_is_left_after_five_seconds)
{
	int fd = call("large\n");

	ck_assert_int_le(control_deadline(control), clock_mono_ns() + 5 * NS_PER_S);
	serve(4);
	ck_assert(is_held());
	serve(6);
	ck_assert(!is_held());
	(void)close(fd);
}
END_TEST

START_TEST(who_sends_no_line_is_answered_after_two_seconds)
{
	int fd = call("lat");

	ck_assert_int_le(control_deadline(control), clock_mono_ns() + 2 * NS_PER_S);
	serve(1);
	ck_assert(is_held());
	serve(3);
	ck_assert(!is_held());
	hears(fd, "{\"ok\":false,\"code\":64,\"error\":\"no whole line came within 2 seconds\"}\n");
}
END_TEST

START_TEST(an_answer_may_come_later)
{
	int fd = call("later %20\n");

	ck_assert_uint_ne(asked, 0);
	ck_assert_int_eq(control_deadline(control), CLOCK_NEVER);
	serve(3600);
	ck_assert(is_held());
	control_answer(control, asked, strdup("{\"ok\":true}"));
	hears(fd, "{\"ok\":true}\n");
	control_answer(control, asked, strdup("{}")); /* nobody is there any more */
	ck_assert(!is_held());
}
END_TEST

START_TEST(who_left_is_not_answered)
{
	control_client first;
	int fd = call("later\n");

	first = asked;
	(void)close(fd);
	serve(0);
	ck_assert(!is_held());
	fd = call("later\n"); /* in the same place */
	control_refuse(control, first, EXIT_TEMPFAIL, "for the other one");
	ck_assert(is_held());
	control_refuse(control, asked, EXIT_TEMPFAIL, "no \"%s\"", "\\x1b");
	hears(fd, "{\"ok\":false,\"code\":75,\"error\":\"no \\\"\\\\x1b\\\"\"}\n");
}
END_TEST

START_TEST(shortage_of_memory_ends_one_request)
{
	hears(call("short\n"), "{\"ok\":false,\"code\":70,\"error\":\"out of memory\"}\n");
	hears(call("what\n"), "{\"ok\":false,\"code\":64,\"error\":\"no command \\\"what\\\"; "
			      "there are: large, short, later, later WHAT\"}\n");
	hears(call("later a b\n"),
	    "{\"ok\":false,\"code\":64,\"error\":\"wrong words after \\\"later\\\"; there are: "
	    "later, later WHAT\"}\n");
}
END_TEST

START_TEST(sixteen_wait_and_the_next_is_told)
{
	int fds[CONTROL_CLIENTS];

	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		fds[i] = call("later\n");
	hears(call("later\n"), "{\"ok\":false,\"code\":75,\"error\":\"16 clients are being served "
			       "already; try again\"}\n");
	(void)close(fds[3]);
	serve(0);
	fds[3] = call("later\n");
	control_answer(control, asked, strdup("{}"));
	hears(fds[3], "{}\n");
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (i != 3)
			(void)close(fds[i]);
}
END_TEST

START_TEST(clients_stay_when_the_socket_moves)
{
	char there[96];
	int fd = call("later\n");

	(void)snprintf(there, sizeof(there), "%s/t", folder);
	ck_assert(control_prepare(control, there, why, sizeof(why)));
	ck_assert_int_eq(access(path, F_OK), 0);
	control_abandon(control);
	ck_assert_int_ne(access(there, F_OK), 0);
	ck_assert(control_prepare(control, there, why, sizeof(why)));
	control_commit(control);
	ck_assert_int_ne(access(path, F_OK), 0);
	control_answer(control, asked, strdup("{}"));
	hears(fd, "{}\n");
}
END_TEST

START_TEST(only_what_is_ours_is_removed)
{
	struct local one, other;

	(void)strcat(path, "2");
	ck_assert(local_open(&one, path, why, sizeof(why)));
	ck_assert(!local_open(&other, path, why, sizeof(why)));
	ck_assert_msg(strstr(why, "somebody listens on") != NULL, "%s", why);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert(!local_is_there(&one));
	ck_assert(local_open(&other, path, why, sizeof(why)));
	local_close(&one);
	ck_assert(local_is_there(&other));
	local_close(&other);
	ck_assert_int_ne(access(path, F_OK), 0);
	path[strlen(path) - 1] = '\0';
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("control");
	TCase *t = tcase_create("control");
	SRunner *runner = srunner_create(suite);

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, open_control, close_control);
	tcase_add_test(t, a_large_reply_goes_as_fast_as_it_is_read);
	tcase_add_test(t, who_never_reads_is_left_after_five_seconds);
	tcase_add_test(t, who_sends_no_line_is_answered_after_two_seconds);
	tcase_add_test(t, an_answer_may_come_later);
	tcase_add_test(t, who_left_is_not_answered);
	tcase_add_test(t, shortage_of_memory_ends_one_request);
	tcase_add_test(t, sixteen_wait_and_the_next_is_told);
	tcase_add_test(t, clients_stay_when_the_socket_moves);
	tcase_add_test(t, only_what_is_ours_is_removed);
	suite_add_tcase(suite, t);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
