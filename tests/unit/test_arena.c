/* Pieces are whole, aligned and apart; nothing overflows; one release frees all. */
#include "arena.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

static bool is_all(const unsigned char *p, int c, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != c)
			return false;
	return true;
}

/* Each piece keeps its own pattern to the end, whatever was handed out after it. */
START_TEST(pieces_do_not_overlap)
{
	enum { PIECES = 3000 };
	unsigned char *pieces[PIECES];
	size_t sizes[PIECES], total = 0;
	srand(3);
	for (int i = 0; i < PIECES; i++) {
		sizes[i] = (size_t)rand() % (i % 50 ? 200 : 30000);
		total += sizes[i];
		pieces[i] = arena_alloc(arena, sizes[i]);
		ck_assert_ptr_nonnull(pieces[i]);
		ck_assert_uint_eq((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
		memset(pieces[i], i & 0xff, sizes[i]);
	}
	for (int i = 0; i < PIECES; i++)
		ck_assert(is_all(pieces[i], i & 0xff, sizes[i]));
	ck_assert_uint_eq(arena_used(arena), total);
}
END_TEST

START_TEST(size_zero_is_a_valid_pointer)
{
	ck_assert_ptr_nonnull(arena_alloc(arena, 0));
	ck_assert_ptr_nonnull(arena_zalloc(arena, 0, 8));
	ck_assert_uint_eq(arena_used(arena), 0);
}
END_TEST

/* A plugin may ask for anything: what does not fit is NULL, never a short piece. */
START_TEST(absurd_sizes_are_refused)
{
	volatile size_t huge[] = { SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 15, SIZE_MAX - 16,
		SIZE_MAX - 64, SIZE_MAX / 2 + 1, PTRDIFF_MAX };
	for (size_t i = 0; i < ARRAY_LEN(huge); i++) {
		ck_assert_ptr_null(arena_alloc(arena, huge[i]));
		ck_assert_ptr_null(arena_zalloc(arena, huge[i], 2));
		ck_assert_ptr_null(arena_dup(arena, NULL, huge[i]));
	}
	ck_assert_ptr_null(arena_zalloc(arena, (size_t)1 << 33, (size_t)1 << 33));
	ck_assert_uint_eq(arena_used(arena), 0);
	ck_assert_ptr_nonnull(arena_alloc(arena, 1));
}
END_TEST

START_TEST(zalloc_clears_used_memory)
{
	for (int round = 0; round < 3; round++) {
		unsigned char *p = arena_zalloc(arena, 100, 7);
		ck_assert_ptr_nonnull(p);
		ck_assert(is_all(p, 0, 700));
		memset(p, 0xAA, 700);
		arena_reset(arena);
	}
}
END_TEST

START_TEST(dup_copies_any_bytes)
{
	char *p = arena_dup(arena, "a\0b", 3);
	ck_assert_mem_eq(p, "a\0b\0", 4);
	ck_assert_str_eq(arena_dup(arena, NULL, 0), "");
}
END_TEST

START_TEST(printf_takes_any_length)
{
	char text[20001];
	memset(text, 'x', 20000);
	text[20000] = '\0';
	ck_assert_str_eq(arena_printf(arena, "%s", ""), "");
	ck_assert_str_eq(arena_printf(arena, "%d %s", 7, "of nine"), "7 of nine");
	ck_assert_str_eq(arena_printf(arena, "%s", text), text);
}
END_TEST

START_TEST(reset_starts_again)
{
	arena_reset(arena); /* of an empty one */
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 50; i++)
			ck_assert_ptr_nonnull(arena_alloc(arena, (size_t)i * 100));
		arena_reset(arena);
		ck_assert_uint_eq(arena_used(arena), 0);
	}
}
END_TEST

START_TEST(destroy_accepts_null)
{
	arena_destroy(NULL);
}
END_TEST

/* What a forked child builds stands in its parent, at the same addresses, also when the rest was
 * given back. */
START_TEST(what_a_child_builds_in_a_shared_one_is_ours)
{
	enum { ROOM = 1024 * 1024 };
	struct arena *shared = arena_create_shared(ROOM);
	ck_assert_ptr_nonnull(shared);
	char **words = arena_zalloc(shared, 2, sizeof(*words));
	ck_assert_ptr_nonnull(words);

	pid_t pid = fork();
	if (pid == 0) {
		words[0] = arena_printf(shared, "%s-%d", "made", 1);
		words[1] = arena_alloc(shared, 100 * 1024);
		if (words[1])
			memset(words[1], 'x', 100 * 1024);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	arena_close_shared(shared);
	ck_assert_str_eq(words[0], "made-1");
	ck_assert(is_all((unsigned char *)words[1], 'x', 100 * 1024));
	ck_assert_ptr_null(arena_alloc(shared, 1));
	arena_destroy(shared);
}
END_TEST

START_TEST(one_that_insists_ends_its_process_with_71)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		arena_insist(arena);
		void *p = arena_alloc(arena, 100);
		_exit(p && !arena_alloc(arena, PTRDIFF_MAX) ? 1 : 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OS);
}
END_TEST

START_TEST(a_shared_one_has_an_end)
{
	enum { ROOM = 64 * 1024 };
	struct arena *shared = arena_create_shared(ROOM);
	ck_assert_ptr_nonnull(shared);
	ck_assert_ptr_null(arena_alloc(shared, ROOM));
	ck_assert_ptr_null(arena_alloc(shared, SIZE_MAX));
	size_t taken = 0;
	while (arena_alloc(shared, 1000))
		taken += 1000;
	ck_assert(taken > ROOM / 2 && taken < ROOM);
	arena_close_shared(shared);
	arena_destroy(shared);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("arena");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, pieces_do_not_overlap);
	tcase_add_test(t, size_zero_is_a_valid_pointer);
	tcase_add_test(t, absurd_sizes_are_refused);
	tcase_add_test(t, zalloc_clears_used_memory);
	tcase_add_test(t, dup_copies_any_bytes);
	tcase_add_test(t, printf_takes_any_length);
	tcase_add_test(t, reset_starts_again);
	tcase_add_test(t, destroy_accepts_null);
	tcase_add_test(t, what_a_child_builds_in_a_shared_one_is_ours);
	tcase_add_test(t, one_that_insists_ends_its_process_with_71);
	tcase_add_test(t, a_shared_one_has_an_end);
	tcase_set_timeout(t, 60);

	Suite *suite = suite_create("arena");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
