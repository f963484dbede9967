/* Plugins: every refusal with its words, options, and the host's functions seen from inside a
 * plugin. */
#include "plugin.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "trial.h"

/* ---- Refusals ---- */

static bool says(const struct conf_errors *errors, const char *words)
{
	for (size_t i = 0; i < errors->n; i++)
		if (strstr(errors->list[i].text, words))
			return true;
	return false;
}

static void show_errors(const struct conf_errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		fprintf(stderr, "  %s\n", errors->list[i].text);
}

static void check_says(const struct trial *t, const char *words)
{
	if (!says(&t->errors, words))
		show_errors(&t->errors);
	ck_assert_msg(says(&t->errors, words), "no error says \"%s\"", words);
}

static const struct {
	const char *file;
	const char *words[4];
} refusals[] = {
	{ "wrong_MAGIC", { "wrong_MAGIC.so", "magic is 0x1234", "0x6e727277", "WARREN_PLUGIN" } },
	{ "wrong_MAJOR", { "wrong_MAJOR.so", "abi_major is 2", "this host's is 1", "rebuild" } },
	{ "wrong_MINOR", { "wrong_MINOR.so", "abi_minor is 1", "this host's 0", "update warren" } },
	{ "wrong_SIZE", { "its size is", "newer than this host's", "update warren" } },
	{ "wrong_TASK_SIZE", { "its task_size is", "newer than this host's" } },
	{ "wrong_SMALL", { "below those of any ABI" } },
	{ "wrong_SYMBOL", { "does not export the data symbol warren_plugin" } },
	{ "wrong_FUNCTION", { "does not export the data symbol warren_plugin" } },
	{ "wrong_TASK_NAME", { "task name \"wrong name\"" } },
	{ "wrong_RUN", { "wrong.run has no function" } },
	{ "wrong_FLAGS", { "flags 0x80", "knows 0x1" } },
	{ "wrong_TWICE", { "wrong.twice is also in", "wrong_TWICE.so" } },
	{ "wrong_EMPTY", { "table of tasks is empty" } },
	{ "wrong_DEFAULT", { "option \"delay\" has the default \"soon\"", "duration" } },
	{ "wrong_BOUND", { "option \"n\" has the bound \"lots\"" } },
	{ "wrong_TYPE", { "type 99" } },
	{ "wrong_OPEN", { "open() refused: no disk in drive 7" } },
	{ "wrong_SILENT", { "open() refused: it gives no reason" } },
	{ "wrong_ASK", { "option \"colour\", which its table does not have" } },
};

static char *wrong_file(const char *name)
{
	return xasprintf(WRONG_DIR "/%s.so", name);
}

START_TEST(refuses_and_teaches)
{
	struct trial t = { 0 };
	char *file = wrong_file(refusals[_i].file);
	ck_assert(!trial_open(&t, file));
	for (size_t i = 0; i < 4 && refusals[_i].words[i]; i++) {
		const char *words = refusals[_i].words[i];
		bool in_place = t.errors.n && strstr(t.errors.list[0].file, words);
		if (!in_place)
			check_says(&t, words);
	}
	trial_close(&t);
	free(file);
}
END_TEST

START_TEST(refuses_a_thread)
{
	struct trial t = { 0 };
	char *file = wrong_file("wrong_THREAD");
	ck_assert(!trial_open(&t, file));
	ck_assert_uint_eq(t.errors.n, 0);
	ck_assert(strstr(t.why, "no room for thread 0"));
	trial_close(&t);
	free(file);
}
END_TEST

static void check_file(const void *content, size_t len, const char *words)
{
	struct trial t = { 0 };
	char path[] = "/tmp/warren-test-XXXXXX";
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, content, len), (ssize_t)len);
	close(fd);
	ck_assert(!trial_open(&t, path));
	check_says(&t, words);
	trial_close(&t);
	unlink(path);
}

static char *read_whole(const char *path, size_t *len)
{
	FILE *file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	char *data = xcalloc(1, 1 << 22);
	*len = fread(data, 1, 1 << 22, file);
	fclose(file);
	return data;
}

START_TEST(refuses_what_is_no_plugin)
{
	static const char script[] =
	    "#!/bin/sh\n# a script of some length, which is no library at all, of course\n";
	size_t len;
	char *file = wrong_file("wrong_NOTHING"), *data = read_whole(file, &len);
	check_file("", 0, "too short");
	check_file(script, sizeof(script) - 1, "not an ELF file");
	check_file(data, 100, "does not export");
	data[18] ^= 0x55; /* e_machine */
	check_file(data, len, "another machine");
	data[18] ^= 0x55;
	data[16] = 2; /* e_type: a program */
	check_file(data, len, "no shared object");
	free(data);
	free(file);
}
END_TEST

/* Damaged files must be refused or work, and never crash the one who looks. */
START_TEST(survives_damage)
{
	size_t len;
	char *file = wrong_file("wrong_SYMBOL"), *data = read_whole(file, &len);
	srandom(7);
	for (int round = 0; round < 200; round++) {
		size_t at = (size_t)random() % (round % 2 ? 64 : len);
		char kept = data[at];
		data[at] = (char)random();
		check_file(data, len, "");
		data[at] = kept;
	}
	free(data);
	free(file);
}
END_TEST

START_TEST(refuses_missing_files)
{
	struct trial t = { 0 };
	ck_assert(!trial_open(&t, "/nonexistent/plugin.so"));
	check_says(&t, "No such file");
	trial_close(&t);
}
END_TEST

static char conf_path[] = "/etc/test.cfg";

static struct conf conf_of(struct conf_plugin *list, size_t n)
{
	return (struct conf){ .path = conf_path, .plugins = list, .n_plugins = n };
}

START_TEST(refuses_the_same_task_twice)
{
	struct conf_plugin list[] = { { .file = wrong_file("wrong_NOTHING"), .line = 3 },
		{ .file = wrong_file("wrong_SILENT"), .line = 4 } };
	struct conf conf = conf_of(list, 2);
	struct conf_errors errors = { 0 };
	ck_assert_ptr_null(plugins_open(&conf, PLUGINS_OF_USER, &errors));
	ck_assert_uint_eq(errors.n, 1);
	ck_assert_uint_eq(errors.list[0].line, 4);
	ck_assert_str_eq(errors.list[0].file, conf_path);
	ck_assert(says(&errors, "wrong_NOTHING.so"));
	ck_assert(says(&errors, "wrong_SILENT.so"));
	conf_errors_free(&errors);
	free(list[0].file);
	free(list[1].file);
}
END_TEST

START_TEST(refuses_files_of_others)
{
	size_t len;
	char folder[] = "/tmp/warren-test-XXXXXX", path[64];
	char *good = wrong_file("wrong_NOTHING"), *data = read_whole(good, &len);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/p.so", folder);
	FILE *file = fopen(path, "we");
	ck_assert_uint_eq(fwrite(data, 1, len, file), len);
	fclose(file);
	chmod(path, 0666);
	struct conf_plugin list[] = { { .file = path, .line = 3 } };
	struct conf conf = conf_of(list, 1);
	struct conf_errors errors = { 0 };
	ck_assert_ptr_null(plugins_open(&conf, PLUGINS_OF_CONF, &errors));
	ck_assert(errors.refused);
	ck_assert(says(&errors, path));
	conf_errors_free(&errors);
	unlink(path);
	rmdir(folder);
	free(data);
	free(good);
}
END_TEST

/* ---- Options ---- */

static char *probe_file(void)
{
	return xstrdup(WRONG_DIR "/probe.so");
}

static char word_name[] = "word", test_name[] = "";

static const struct {
	const char *name;
	struct value value;
	const char *words; /* NULL: taken */
} given[] = {
	{ "wait", { .kind = VALUE_STRING, .bytes = { "10s", 3 } }, NULL },
	{ "wait", { .kind = VALUE_INT, .integer = 10 }, "must be a duration" },
	{ "wait", { .kind = VALUE_STRING, .bytes = { "10", 2 } }, "must be a duration" },
	{ "wait", { .kind = VALUE_STRING, .bytes = { "10ms", 4 } }, "must be at least 1s" },
	{ "wait", { .kind = VALUE_STRING, .bytes = { "2m", 2 } }, "must be at most 1m" },
	{ "number", { .kind = VALUE_INT, .integer = -5 }, NULL },
	{ "number", { .kind = VALUE_INT, .integer = -6 }, "must be at least -5" },
	{ "number", { .kind = VALUE_INT, .integer = 21 }, "must be at most 20" },
	{ "number", { .kind = VALUE_STRING, .bytes = { "5", 1 } }, "must be a whole number" },
	{ "ratio", { .kind = VALUE_DOUBLE, .real = 0.25 }, NULL },
	{ "ratio", { .kind = VALUE_INT, .integer = 1 }, NULL },
	{ "ratio", { .kind = VALUE_DOUBLE, .real = 1.5 }, "must be at most 1" },
	{ "size", { .kind = VALUE_INT, .integer = 100 }, NULL },
	{ "size", { .kind = VALUE_INT, .integer = -1 }, "must be a size" },
	{ "flag", { .kind = VALUE_BOOL, .boolean = false }, NULL },
	{ "flag", { .kind = VALUE_INT, .integer = 1 }, "true or false" },
	{ "path", { .kind = VALUE_STRING, .bytes = { "/a", 2 } }, NULL },
	{ "path", { .kind = VALUE_STRING, .bytes = { "a", 1 } }, "must be an absolute path" },
	{ "word", { .kind = VALUE_BOOL }, "must be a string" },
	{ "word", { .kind = VALUE_STRING, .bytes = { "a\0b", 3 } }, "must be a string" },
	{ "list", { .kind = VALUE_STRING, .bytes = { "a", 1 } }, "must be a list" },
	{ "colour", { .kind = VALUE_INT }, "no option \"colour\"; it has: word, wait, size" },
};

START_TEST(options_are_checked)
{
	char *name = xstrdup(given[_i].name);
	struct conf_option options[] = {
		{ .name = word_name, .value = V_STR(BYTES_LIT("blue")), .line = 7 },
		{ .name = name, .value = given[_i].value, .line = 8 },
	};
	bool own_word = strcmp(name, "word") == 0;
	struct conf_plugin plugin = { .file = probe_file(),
		.options = options + own_word,
		.n_options = 2 - (size_t)own_word,
		.line = 6 };
	struct conf conf = conf_of(&plugin, 1);
	struct conf_errors errors = { 0 };
	struct plugins *plugins = plugins_open(&conf, PLUGINS_OF_CONF, &errors);
	if (!given[_i].words && !plugins)
		show_errors(&errors);
	/* Where others may write the build folder, files of it are refused before their options. */
	ck_assert(errors.refused || (plugins != NULL) == (given[_i].words == NULL));
	if (given[_i].words && !errors.refused) {
		ck_assert_msg(says(&errors, given[_i].words), "not: %s", given[_i].words);
		ck_assert_uint_eq(errors.list[0].line, 8);
	}
	plugins_stop(plugins);
	conf_errors_free(&errors);
	free(plugin.file);
	free(name);
}
END_TEST

START_TEST(a_required_option_is_missed)
{
	struct trial t = { 0 };
	char *file = probe_file();
	ck_assert(!trial_open(&t, file));
	check_says(&t, "option \"word\" is required");
	trial_close(&t);
	free(file);
}
END_TEST

/* ---- The host, from inside ---- */

static void open_probe(struct trial *t)
{
	char *file = probe_file();
	trial_option(t, "word", "blue");
	if (!trial_open(t, file))
		show_errors(&t->errors);
	ck_assert_ptr_nonnull(t->thread);
	free(file);
}

static void expect(struct trial *t, const char *task, const char *body, enum warren_verdict wanted)
{
	enum warren_verdict verdict = trial_run(t, task, body);
	ck_assert_msg(
	    verdict == wanted, "%s: %s: %s", task, host_verdict_word(verdict), t->job->reason);
}

START_TEST(fields_are_read)
{
	struct trial t = { .routing_key = "a.b",
		.props = { .present = PROP_MESSAGE_ID | PROP_PRIORITY | PROP_TIMESTAMP,
		    .message_id = BYTES_LIT("id-1"),
		    .priority = 5,
		    .timestamp = 1234567890 } };
	open_probe(&t);
	expect(&t, "probe.fields", "", WARREN_DONE);
	trial_close(&t);
}
END_TEST

START_TEST(headers_are_read)
{
	struct trial t = { 0 };
	struct field deep = { BYTES_LIT("deep"), V_STR(BYTES_LIT("down")) };
	struct value items[] = { V_BOOL(true), { .kind = VALUE_TABLE, .table = { &deep, 1 } } };
	struct value bytes = V_STR(((struct bytes){ "a\0b", 3 }));
	bytes.kind = VALUE_BYTES;
	trial_header(&t, "text", V_STR(BYTES_LIT("hello")));
	trial_header(&t, "number", V_INT(-7));
	trial_header(&t, "list", (struct value){ .kind = VALUE_ARRAY, .array = { items, 2 } });
	trial_header(&t, "bytes", bytes);
	open_probe(&t);
	expect(&t, "probe.headers", "", WARREN_DONE);
	trial_close(&t);
}
END_TEST

START_TEST(bodies_are_read)
{
	struct trial t = { 0 };
	open_probe(&t);
	expect(&t, "probe.body", "", WARREN_DONE);
	expect(&t, "probe.body", "some text", WARREN_DONE);
	ck_assert_int_eq(
	    task_run(t.thread, trial_job(&t, "probe.body", BYTES_LIT("a\0b"))), WARREN_DONE);
	trial_close(&t);
}
END_TEST

START_TEST(any_word_is_passed_on)
{
	struct trial t = { 0 };
	open_probe(&t);
	expect(&t, "probe.say", "1", WARREN_DONE);
	expect(&t, "probe.say", "3", WARREN_DEAD);
	expect(&t, "probe.say", "0", (enum warren_verdict)0);
	expect(&t, "probe.say", "9999", (enum warren_verdict)9999);
	ck_assert_str_eq(host_verdict_word((enum warren_verdict)9999), "breach");
	trial_close(&t);
}
END_TEST

START_TEST(retries_say_when)
{
	struct trial t = { 0 };
	open_probe(&t);
	expect(&t, "probe.retry", "1500", WARREN_RETRY);
	ck_assert_str_eq(t.job->reason, "words and 2");
	ck_assert_int_eq(t.job->retry_after_ns, 1500 * NS_PER_MS);
	expect(&t, "probe.retry", "-3", WARREN_RETRY);
	ck_assert_int_eq(t.job->retry_after_ns, 0);
	expect(&t, "probe.retry", "9223372036854775807", WARREN_RETRY);
	ck_assert_int_eq(t.job->retry_after_ns, ((INT64_C(1) << 28) - 1) * NS_PER_S);
	ck_assert_int_eq(t.job->task->time_limit_ns, 2500 * NS_PER_MS);
	trial_close(&t);
}
END_TEST

START_TEST(refused_replies_do_not_pass_as_done)
{
	struct trial t = { 0 };
	open_probe(&t);
	expect(&t, "probe.reply_large", "", WARREN_DEAD);
	ck_assert(strstr(t.job->reason, "over the limit"));
	expect(&t, "probe.reply_null", "", WARREN_DEAD);
	expect(&t, "probe.hold", "", WARREN_DEAD);
	expect(&t, "probe.reply_twice", "", WARREN_DONE);
	ck_assert(trial_replied(&t, "second"));
	trial_close(&t);
}
END_TEST

START_TEST(follow_ups_are_held)
{
	struct trial t = { 0 };
	open_probe(&t);
	expect(&t, "probe.publish", "", WARREN_RETRY);
	const struct outgoing *out = t.job->follow_ups;
	ck_assert(bytes_is(out->exchange, "e") && bytes_is(out->routing_key, "k"));
	ck_assert(bytes_is(out->body, "body") && bytes_is(out->props.type, "t"));
	ck_assert(bytes_is(out->props.expiration, "1500"));
	ck_assert_int_eq(out->props.delivery_mode, 2);
	ck_assert_int_eq(out->props.priority, 3);
	ck_assert_uint_eq(out->props.headers.n, 2);
	ck_assert(bytes_is(out->props.headers.fields[0].value.bytes, "text"));
	ck_assert_int_eq(out->props.headers.fields[1].value.integer, 7);
	ck_assert(bytes_is(out->next->routing_key, "q"));
	ck_assert_ptr_null(out->next->next);
	trial_close(&t);
}
END_TEST

START_TEST(stops_by_strength)
{
	struct trial t = { 0 };
	open_probe(&t);
	expect(&t, "probe.look", "", WARREN_DONE);
	ck_assert_int_eq(t.job->progress, 100);

	struct warren_job *job = trial_job(&t, "probe.look", BYTES_LIT(""));
	job_stop(job, WARREN_STOP_LOST);
	job_stop(job, WARREN_STOP_DRAIN);
	ck_assert_int_eq(task_run(t.thread, job), WARREN_RETRY);
	ck_assert(strstr(job->reason, "stop 4"));

	job = trial_job(&t, "probe.look", BYTES_LIT(""));
	job_stop(job, WARREN_STOP_DRAIN);
	job->deadline_ns = 1;
	ck_assert_int_eq(task_run(t.thread, job), WARREN_RETRY);
	ck_assert_str_eq(job->reason, "stop 3, left 0");
	trial_close(&t);
}
END_TEST

START_TEST(a_job_given_up_is_deaf)
{
	struct trial t = { 0 };
	open_probe(&t);
	struct warren_job *job = trial_job(&t, "probe.gone", BYTES_LIT(""));
	atomic_store(&job->gone, true);
	ck_assert_int_eq(task_run(t.thread, job), WARREN_DONE);
	ck_assert_ptr_null(job->reply);
	ck_assert_ptr_null(job->follow_ups);
	trial_close(&t);
}
END_TEST

START_TEST(states_and_options_arrive)
{
	struct trial t = { 0 };
	open_probe(&t);
	expect(&t, "probe.states", "", WARREN_DONE);
	trial_close(&t);
}
END_TEST

static void *run_serial(void *arg)
{
	const struct plugins *plugins = arg;
	char why[256];
	struct plugin_thread *thread = plugins_thread_open(plugins, 1, why, sizeof(why));
	size_t failed = thread == NULL;
	for (int i = 0; i < 1000 && thread; i++) {
		struct warren_job *job = job_create(host_api(), NULL);
		job->task = plugins_find(plugins, BYTES_LIT("probe.serial"));
		failed += task_run(thread, job) != WARREN_DONE;
		job_destroy(job);
	}
	plugins_thread_close(thread);
	return (void *)failed;
}

START_TEST(serial_is_serial)
{
	struct trial t = { 0 };
	pthread_t threads[4];
	void *failed;
	open_probe(&t);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run_serial, t.plugins), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
	trial_close(&t);
}
END_TEST

START_TEST(older_plugins_run)
{
	struct trial t = { 0 };
	char *file = wrong_file("older");
	ck_assert(trial_open(&t, file));
	expect(&t, "older.run", "", WARREN_DEAD);
	ck_assert_str_eq(t.job->reason, "old but well");
	ck_assert_str_eq(t.job->task->plugin->label, "older/0.9");
	trial_close(&t);
	free(file);
}
END_TEST

#ifdef HAVE_CXX_PLUGIN
START_TEST(exceptions_become_verdicts)
{
	struct trial t = { 0 };
	char *file = wrong_file("cxx");
	ck_assert(trial_open(&t, file));
	expect(&t, "cxx.run", "dead", WARREN_DEAD);
	ck_assert_str_eq(t.job->reason, "never again");
	expect(&t, "cxx.run", "retry", WARREN_RETRY);
	ck_assert_str_eq(t.job->reason, "exception: not now");
	expect(&t, "cxx.run", "odd", WARREN_RETRY);
	expect(&t, "cxx.run", "fine", WARREN_DONE);
	ck_assert(trial_replied(&t, "> fine"));
	trial_close(&t);

	struct trial throwing = { 0 };
	trial_option(&throwing, "prefix", "throw");
	ck_assert(!trial_open(&throwing, file));
	check_says(&throwing, "exception: thrown in open");
	trial_close(&throwing);
	free(file);
}
END_TEST
#endif

/* ---- Queues ---- */

START_TEST(queues_name_tasks_that_exist)
{
	char good[] = "probe.say", bad[] = "probe.sing", pattern[] = "probe.*", none[] = "text.*";
	char *patterns[] = { pattern, none };
	struct conf_queue queues[] = {
		{ .name = test_name, .label = test_name, .task = good, .line = 1 },
		{ .name = test_name, .label = test_name, .task = bad, .line = 2 },
		{ .name = test_name,
		    .label = test_name,
		    .route = ROUTE_TYPE,
		    .tasks = patterns,
		    .n_tasks = 2,
		    .line = 3 },
	};
	struct trial t = { 0 };
	struct conf conf = { .path = conf_path, .queues = queues, .n_queues = 3 };
	open_probe(&t);
	ck_assert(!plugins_check_queues(t.plugins, &conf, &t.errors));
	ck_assert_uint_eq(t.errors.n, 2);
	check_says(&t, "\"probe.sing\"; they have: probe.fields, ");
	check_says(&t, "matches \"text.*\"");

	ck_assert_ptr_nonnull(plugins_find_for(t.plugins, &queues[2], BYTES_LIT("probe.say")));
	queues[2].tasks = &patterns[1];
	queues[2].n_tasks = 1;
	ck_assert_ptr_null(plugins_find_for(t.plugins, &queues[2], BYTES_LIT("probe.say")));
	ck_assert_ptr_null(plugins_find_for(t.plugins, &queues[0], BYTES_LIT("probe.sing")));
	trial_close(&t);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("plugin");
	TCase *refusing = tcase_create("refusals"), *host = tcase_create("host");
	tcase_set_timeout(refusing, 60);
	tcase_add_loop_test(refusing, refuses_and_teaches, 0, (int)ARRAY_LEN(refusals));
	tcase_add_test(refusing, refuses_a_thread);
	tcase_add_test(refusing, refuses_what_is_no_plugin);
	tcase_add_test(refusing, survives_damage);
	tcase_add_test(refusing, refuses_missing_files);
	tcase_add_test(refusing, refuses_the_same_task_twice);
	tcase_add_test(refusing, refuses_files_of_others);
	tcase_add_loop_test(refusing, options_are_checked, 0, (int)ARRAY_LEN(given));
	tcase_add_test(refusing, a_required_option_is_missed);
	tcase_add_test(refusing, queues_name_tasks_that_exist);
	tcase_add_test(host, fields_are_read);
	tcase_add_test(host, headers_are_read);
	tcase_add_test(host, bodies_are_read);
	tcase_add_test(host, any_word_is_passed_on);
	tcase_add_test(host, retries_say_when);
	tcase_add_test(host, refused_replies_do_not_pass_as_done);
	tcase_add_test(host, follow_ups_are_held);
	tcase_add_test(host, stops_by_strength);
	tcase_add_test(host, a_job_given_up_is_deaf);
	tcase_add_test(host, states_and_options_arrive);
	tcase_add_test(host, serial_is_serial);
	tcase_add_test(host, older_plugins_run);
#ifdef HAVE_CXX_PLUGIN
	tcase_add_test(host, exceptions_become_verdicts);
#endif
	suite_add_tcase(s, refusing);
	suite_add_tcase(s, host);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(suite());
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
