/* debug.print: the whole block, nothing that could drive a terminal, and whole blocks from many
 * threads. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trial.h"

enum { OUTPUT_MAX = 4 * 1024 * 1024, THREADS = 4, JOBS = 200 };

/* Standard output while a test looks at it. */
static struct {
	int before, file;
	char *text;
} out;

static void catch_output(void)
{
	char path[] = "/tmp/warren-test-XXXXXX";
	fflush(stdout);
	out.before = dup(STDOUT_FILENO);
	out.file = mkstemp(path);
	ck_assert_int_ge(out.file, 0);
	unlink(path);
	dup2(out.file, STDOUT_FILENO);
}

static const char *caught(void)
{
	free(out.text);
	out.text = xcalloc(1, OUTPUT_MAX + 1);
	ck_assert_int_ge(pread(out.file, out.text, OUTPUT_MAX, 0), 0);
	return out.text;
}

static void release_output(void)
{
	dup2(out.before, STDOUT_FILENO);
	close(out.before);
	close(out.file);
	free(out.text);
	out.text = NULL;
}

START_TEST(prints_everything)
{
	struct trial t = { .routing_key = "a.b",
		.props = { .present = PROP_MESSAGE_ID | PROP_TIMESTAMP,
		    .message_id = BYTES_LIT("id-1"),
		    .timestamp = 17 } };
	struct field inner = { BYTES_LIT("k"), V_STR(BYTES_LIT("v")) };
	struct value items[] = { V_INT(1), V_BOOL(false),
		{ .kind = VALUE_TABLE, .table = { &inner, 1 } } };
	trial_header(&t, "x-list", (struct value){ .kind = VALUE_ARRAY, .array = { items, 3 } });
	ck_assert(trial_open(&t, "print"));
	catch_output();
	ck_assert_int_eq(trial_run(&t, "debug.print", "first\nsecond"), WARREN_DONE);
	ck_assert_str_eq(caught(), "queue: trial\nexchange: \nrouting_key: a.b\nattempt: 1\n"
				   "redelivered: false\nmessage_id: id-1\ntimestamp: 17\n"
				   "header x-list: [ 1, false, { k = v } ]\n"
				   "body: 12 bytes\n  first\n  second\n\n");
	release_output();
	trial_close(&t);
}
END_TEST

/* Each of them would do something to a terminal, or pass for a line of ours. */
static const struct {
	const char *in, *shown;
} hostile[] = {
	{ "\x1b[31mred", "\\x1b[31mred" },
	{ "\xc2\x9b"
	  "31m",
	    "\\xc2\\x9b31m" },
	{ "\x9b"
	  "31m",
	    "\\x9b31m" },
	{ "a\rb\x7f\x08", "a\\x0db\\x7f\\x08" },
	{ "\xe2\x80\xae"
	  "drow",
	    "\\xe2\\x80\\xaedrow" },
	{ "\xe2\x81\xa6", "\\xe2\\x81\\xa6" },
	{ "\xc0\xaf\xed\xa0\x80\xf5", "\\xc0\\xaf\\xed\\xa0\\x80\\xf5" },
	{ "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x87",
	    "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x87" },
	{ "cut \xe2\x82", "cut \\xe2\\x82" },
};

START_TEST(drives_no_terminal)
{
	struct trial t = { 0 };
	char *header = xasprintf("header x: %s\n", hostile[_i].shown);
	char *body = xasprintf("\n  %s\n\n", hostile[_i].shown);
	trial_header(&t, "x", V_STR(bytes_of(hostile[_i].in)));
	ck_assert(trial_open(&t, "print"));
	catch_output();
	ck_assert_int_eq(trial_run(&t, "debug.print", hostile[_i].in), WARREN_DONE);
	ck_assert_msg(strstr(caught(), header) != NULL, "%s", caught());
	ck_assert_msg(strstr(caught(), body) != NULL, "%s", caught());
	release_output();
	trial_close(&t);
	free(header);
	free(body);
}
END_TEST

START_TEST(forges_no_block)
{
	struct trial t = { 0 };
	trial_header(&t, "x\nbody: 3 bytes", V_STR(BYTES_LIT("a\nqueue: forged")));
	ck_assert(trial_open(&t, "print"));
	catch_output();
	ck_assert_int_eq(trial_run(&t, "debug.print", "\n\nqueue: forged\n"), WARREN_DONE);
	ck_assert_ptr_null(strstr(caught(), "\nqueue: forged"));
	ck_assert_ptr_null(strstr(caught(), "\nbody: 3"));
	release_output();
	trial_close(&t);
}
END_TEST

static void *print_many(void *arg)
{
	const struct plugins *plugins = arg;
	char why[256];
	struct plugin_thread *thread = plugins_thread_open(plugins, 1, why, sizeof(why));
	size_t failed = 0;
	for (int i = 0; i < JOBS; i++) {
		struct warren_job *job = job_create(host_api(), NULL);
		job->msg.body_alloc = malloc(5000);
		memset(job->msg.body_alloc, 'x', 5000);
		job->msg.body = (struct bytes){ job->msg.body_alloc, 5000 };
		job->task = plugins_find(plugins, BYTES_LIT("debug.print"));
		failed += task_run(thread, job) != WARREN_DONE;
		job_destroy(job);
	}
	plugins_thread_close(thread);
	return (void *)failed;
}

START_TEST(blocks_do_not_mingle)
{
	struct trial t = { 0 };
	pthread_t threads[THREADS];
	void *failed;
	size_t blocks = 0;
	ck_assert(trial_open(&t, "print"));
	catch_output();
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, print_many, t.plugins), 0);
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
	for (const char *at = caught(); *at; blocks++) {
		ck_assert_int_eq(strncmp(at, "queue: \n", 8), 0);
		at = strstr(at, "\nbody: 5000 bytes\n  ");
		ck_assert_ptr_nonnull(at);
		at += strlen("\nbody: 5000 bytes\n  ");
		ck_assert_uint_eq(strspn(at, "x"), 5000);
		at += 5000;
		ck_assert_int_eq(strncmp(at, "\n\n", 2), 0);
		at += 2;
	}
	ck_assert_uint_eq(blocks, THREADS * JOBS);
	release_output();
	trial_close(&t);
}
END_TEST

/* A reader that does not read must not hold up a daemon that drains. */
START_TEST(gives_up_where_nobody_reads)
{
	struct trial t = { .time_limit_ns = 300000000 };
	int ends[2];
	ck_assert(trial_open(&t, "print"));
	char *body = xcalloc(1, 200001);
	memset(body, 'x', 200000);
	catch_output();
	ck_assert_int_eq(pipe(ends), 0);
	dup2(ends[1], STDOUT_FILENO);
	enum warren_verdict verdict = trial_run(&t, "debug.print", body);
	release_output();
	ck_assert_int_eq(verdict, WARREN_RETRY);
	ck_assert_str_eq(t.job->reason, "nobody reads standard output");
	close(ends[0]);
	close(ends[1]);
	free(body);
	trial_close(&t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("print");
	TCase *printing = tcase_create("debug.print");
	tcase_set_timeout(printing, 60);
	tcase_add_test(printing, prints_everything);
	tcase_add_loop_test(printing, drives_no_terminal, 0, (int)ARRAY_LEN(hostile));
	tcase_add_test(printing, forges_no_block);
	tcase_add_test(printing, blocks_do_not_mingle);
	tcase_add_test(printing, gives_up_where_nobody_reads);
	suite_add_tcase(suite, printing);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
