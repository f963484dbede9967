/* file.digest: right digests, refusals by name, and a root that cannot be left. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trial.h"

#define SHA256_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define SHA256_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* folder/inner/file holds "abc", and around it stands everything that could lead astray. */
static char folder[64];

static const char *in_folder(const char *name)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	FILE *file = fopen(in_folder(name), "we");
	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	fclose(file);
}

static void make_folder(void)
{
	strcpy(folder, "/tmp/warren-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(mkdir(in_folder("inner"), 0755), 0);
	write_file("inner/file", "abc");
	write_file("empty", "");
	write_file("outside", "secret");
	ck_assert_int_eq(symlink("../outside", in_folder("inner/link")), 0);
	ck_assert_int_eq(symlink("..", in_folder("inner/up")), 0);
	ck_assert_int_eq(mkfifo(in_folder("inner/pipe"), 0600), 0);
}

static void remove_folder(void)
{
	static const char *const names[] = { "inner/file", "inner/link", "inner/up", "inner/pipe",
		"empty", "outside", "inner", "" };
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		remove(in_folder(names[i]));
}

static void expect(
    struct trial *t, const char *body, enum warren_verdict verdict, const char *words)
{
	enum warren_verdict got = trial_run(t, "file.digest", body);
	ck_assert_msg(got == verdict, "%s: %s", body, t->job->reason);
	if (verdict == WARREN_DONE)
		ck_assert(trial_replied(t, words));
	else
		ck_assert_msg(strstr(t->job->reason, words) != NULL, "%s", t->job->reason);
}

START_TEST(digests_files)
{
	struct trial t = { 0 };
	ck_assert(trial_open(&t, "digest"));
	expect(&t, in_folder("inner/file"), WARREN_DONE, SHA256_ABC);
	expect(&t, in_folder("inner/file\n"), WARREN_DONE, SHA256_ABC);
	expect(&t, in_folder("empty"), WARREN_DONE, SHA256_EMPTY);
	ck_assert(bytes_is(t.job->reply->props.content_type, "text/plain"));
	expect(&t, in_folder("none"), WARREN_DEAD, "No such file");
	expect(&t, in_folder("inner"), WARREN_DEAD, "not a regular file");
	expect(&t, in_folder("inner/pipe"), WARREN_DEAD, "not a regular file");
	expect(&t, "/dev/zero", WARREN_DEAD, "not a regular file");
	expect(&t, "inner/file", WARREN_DEAD, "not an absolute path");
	expect(&t, "", WARREN_DEAD, "not the name of a file");
	ck_assert_int_eq(
	    task_run(t.thread, trial_job(&t, "file.digest", BYTES_LIT("/etc\0x"))), WARREN_DEAD);
	trial_close(&t);
}
END_TEST

START_TEST(digests_bodies)
{
	struct trial t = { 0 };
	trial_option(&t, "source", "body");
	ck_assert(trial_open(&t, "digest"));
	expect(&t, "abc", WARREN_DONE, SHA256_ABC);
	expect(&t, "", WARREN_DONE, SHA256_EMPTY);
	trial_close(&t);

	struct trial md = { 0 };
	trial_option(&md, "source", "body");
	trial_option(&md, "algorithm", "sha1");
	ck_assert(trial_open(&md, "digest"));
	expect(&md, "abc", WARREN_DONE, "a9993e364706816aba3e25717850c26c9cd0d89d");
	trial_close(&md);
}
END_TEST

static const struct {
	const char *name;
	const char *words; /* NULL: digested */
} paths[] = {
	{ "file", NULL },
	{ "//file", "not below the root" },
	{ ".//file", NULL },
	{ "link", "symbolic link" },
	{ "up/outside", "Not a directory" },
	{ "up/inner/file", "Not a directory" },
	{ "..", "not below the root" },
	{ "../outside", "not below the root" },
	{ "x/../../outside", "No such file" },
	{ "file/", "Not a directory" },
	{ ".", "not a regular file" },
	{ "/etc/passwd", "not below the root" },
	{ "pipe", "not a regular file" },
};

START_TEST(the_root_cannot_be_left)
{
	struct trial t = { 0 };
	char *root = xstrdup(in_folder("inner"));
	trial_option(&t, "root", root);
	ck_assert(trial_open(&t, "digest"));
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		expect(&t, paths[i].name, paths[i].words ? WARREN_DEAD : WARREN_DONE,
		    paths[i].words ? paths[i].words : SHA256_ABC);
	expect(&t, in_folder("inner/file"), WARREN_DONE, SHA256_ABC);
	expect(&t, in_folder("inner/../outside"), WARREN_DEAD, "not below the root");
	expect(&t, in_folder("innermost"), WARREN_DEAD, "not below the root");
	trial_close(&t);
	free(root);
}
END_TEST

START_TEST(stops_while_it_reads)
{
	struct trial t = { .time_limit_ns = 1 };
	ck_assert(trial_open(&t, "digest"));
	write_file("empty", "no more");
	expect(&t, in_folder("empty"), WARREN_RETRY, "stopped after");
	trial_close(&t);
}
END_TEST

static void check_refused(const char *option, const char *value, const char *words)
{
	struct trial t = { 0 };
	trial_option(&t, option, value);
	ck_assert(!trial_open(&t, "digest"));
	ck_assert_msg(strstr(t.errors.list[0].text, words) != NULL, "%s", t.errors.list[0].text);
	trial_close(&t);
}

START_TEST(refuses_bad_options)
{
	check_refused("algorithm", "sha257", "no digest \"sha257\"");
	check_refused("source", "air", "it is \"file\" or \"body\"");
	check_refused("root", "/nonexistent", "No such file");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("digest");
	TCase *digesting = tcase_create("file.digest");
	tcase_add_checked_fixture(digesting, make_folder, remove_folder);
	tcase_add_test(digesting, digests_files);
	tcase_add_test(digesting, digests_bodies);
	tcase_add_test(digesting, the_root_cannot_be_left);
	tcase_add_test(digesting, stops_while_it_reads);
	tcase_add_test(digesting, refuses_bad_options);
	suite_add_tcase(suite, digesting);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
