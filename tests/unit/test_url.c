/* AMQP URLs: what each part becomes, what is refused, and that no password is ever shown. */
#include "url.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static const struct {
	const char *text;
	bool tls;
	const char *user, *password, *host;
	int port;
	const char *vhost;
	bool has_password;
	const char *shown;
} good[] = {
	{ "amqp://localhost", false, "guest", "guest", "localhost", 5672, "/", false,
	    "amqp://localhost:5672/%2f" },
	{ "amqp://guest:guest@localhost:5672/%2f", false, "guest", "guest", "localhost", 5672, "/",
	    false, "amqp://guest:***@localhost:5672/%2f" },
	{ "AMQPS://h/", true, "guest", "guest", "h", 5671, "/", false, "amqps://h:5671/%2f" },
	{ "amqp://h//", false, "guest", "guest", "h", 5672, "/", false, "amqp://h:5672/%2f" },
	{ "amqp://h/%2F", false, "guest", "guest", "h", 5672, "/", false, "amqp://h:5672/%2F" },
	{ "amqp://h/work", false, "guest", "guest", "h", 5672, "work", false,
	    "amqp://h:5672/work" },
	{ "amqp://h/a%2fb", false, "guest", "guest", "h", 5672, "a/b", false,
	    "amqp://h:5672/a%2fb" },
	{ "amqp://u:p%40%2f%3a@h:1/v", false, "u", "p@/:", "h", 1, "v", true,
	    "amqp://u:***@h:1/v" },
	{ "amqp://u:p@ss:word@h", false, "u", "p@ss:word", "h", 5672, "/", true,
	    "amqp://u:***@h:5672/%2f" },
	{ "amqp://u@h", false, "u", "", "h", 5672, "/", false, "amqp://u@h:5672/%2f" },
	{ "amqp://u:@h", false, "u", "", "h", 5672, "/", false, "amqp://u:***@h:5672/%2f" },
	{ "amqp://guest:other@h", false, "guest", "other", "h", 5672, "/", true,
	    "amqp://guest:***@h:5672/%2f" },
	{ "amqp://other:guest@h", false, "other", "guest", "h", 5672, "/", true,
	    "amqp://other:***@h:5672/%2f" },
	{ "amqp://:secret@h", false, "guest", "secret", "h", 5672, "/", true,
	    "amqp://:***@h:5672/%2f" },
	{ "amqp://%C3%A9:%ff@h/%c3%a9", false, "\xc3\xa9", "\xff", "h", 5672, "\xc3\xa9", true,
	    "amqp://%C3%A9:***@h:5672/%c3%a9" },
	{ "amqps://[::1]", true, "guest", "guest", "::1", 5671, "/", false,
	    "amqps://[::1]:5671/%2f" },
	{ "amqp://u:p@[2001:db8::7]:5673/v", false, "u", "p", "2001:db8::7", 5673, "v", true,
	    "amqp://u:***@[2001:db8::7]:5673/v" },
	{ "amqp://10.0.0.1:65535", false, "guest", "guest", "10.0.0.1", 65535, "/", false,
	    "amqp://10.0.0.1:65535/%2f" },
	{ "amqp://my_host-1.example.org.", false, "guest", "guest", "my_host-1.example.org.", 5672,
	    "/", false, "amqp://my_host-1.example.org.:5672/%2f" },
	{ "amqp://h/%25", false, "guest", "guest", "h", 5672, "%", false, "amqp://h:5672/%25" },
};

START_TEST(good_urls_are_taken_apart)
{
	struct url url;
	char why[256] = "";
	ck_assert_msg(
	    url_parse(arena, good[_i].text, &url, why, sizeof(why)), "%s: %s", good[_i].text, why);
	ck_assert_int_eq(url.tls, good[_i].tls);
	ck_assert_str_eq(url.user, good[_i].user);
	ck_assert_str_eq(url.password, good[_i].password);
	ck_assert_str_eq(url.host, good[_i].host);
	ck_assert_int_eq(url.port, good[_i].port);
	ck_assert_str_eq(url.vhost, good[_i].vhost);
	ck_assert_int_eq(url.has_password, good[_i].has_password);
	ck_assert_str_eq(url.shown, good[_i].shown);
}
END_TEST

static const struct {
	const char *text, *why;
} bad[] = {
	{ "", "must begin with amqp://" },
	{ "localhost", "must begin with amqp://" },
	{ "http://h", "must begin with amqp://" },
	{ "amqp:/h", "must begin with amqp://" },
	{ "amqp://", "names no host" },
	{ "amqp:///v", "names no host" },
	{ "amqp://u:canary@", "names no host" },
	{ "amqp://u:canary@/v", "names no host" },
	{ "amqp://:5672", "names no host" },
	{ "amqp://h:0", "port must be" },
	{ "amqp://h:65536", "port must be" },
	{ "amqp://h:99999999999999999999", "port must be" },
	{ "amqp://h:", "port must be" },
	{ "amqp://h:+5", "port must be" },
	{ "amqp://h:56x", "port must be" },
	{ "amqp://u:canary/x@h", "behind the first slash" },
	{ "amqp://u:1234/x@h", "behind the first slash" },
	{ "amqp://u:can?ary@h", "query" },
	{ "amqp://h/v?heartbeat=5", "query" },
	{ "amqp://h/v#x", "fragment" },
	{ "amqp://h/a/b", "%2f" },
	{ "amqp://h///", "%2f" },
	{ "amqp://h/%", "two hex digits" },
	{ "amqp://h/%2", "two hex digits" },
	{ "amqp://h/%zz", "two hex digits" },
	{ "amqp://u:canary%@h", "the password: % must be followed" },
	{ "amqp://u%:canary@h", "the user: % must be followed" },
	{ "amqp://h/%00", "NUL" },
	{ "amqp://u:canary%00@h", "NUL" },
	{ "amqp://h/%ff", "UTF-8" },
	{ "amqp://h h", "space or a control" },
	{ "amqp://h\n", "space or a control" },
	{ "amqp://h!", "no host name has" },
	{ "amqp://h%41", "no host name has" },
	{ "amqp://[::1", "not closed" },
	{ "amqp://[::1]x", "not closed" },
	{ "amqp://[]", "names no host" },
	{ "amqp://[canary]", "not an IPv6 address" },
	{ "amqp://[fe80::1%25eth0]", "not an IPv6 address" },
	{ "amqp://[127.0.0.1]", "not an IPv6 address" },
	{ "amqp://h,canary", "no host name has" },
};

START_TEST(bad_urls_are_refused_without_showing_them)
{
	struct url url;
	char why[256] = "";
	ck_assert_msg(!url_parse(arena, bad[_i].text, &url, why, sizeof(why)), "%s", bad[_i].text);
	ck_assert_msg(strstr(why, bad[_i].why), "%s: %s", bad[_i].text, why);
	ck_assert_ptr_null(strstr(why, "canary"));
	ck_assert_ptr_null(url.shown);
}
END_TEST

START_TEST(lengths_are_bounded)
{
	static const struct {
		const char *before, *after, *why;
		size_t fits;
	} cases[] = {
		{ "amqp://", "", "the host is longer", 253 },
		{ "amqp://", ":p@h", "the user is longer", 255 },
		{ "amqp://h/", "", "the virtual host is longer", 255 },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t more = 0; more < 2; more++) {
			char run[300] = "", text[600], why[256] = "";
			memset(run, 'a', cases[i].fits + more);
			(void)snprintf(
			    text, sizeof(text), "%s%s%s", cases[i].before, run, cases[i].after);
			struct url url;
			ck_assert_int_eq(url_parse(arena, text, &url, why, sizeof(why)), more == 0);
			ck_assert_msg(more == 0 || strstr(why, cases[i].why), "%s", why);
		}
	}
}
END_TEST

/* Every single byte in every place: no crash, and what is accepted is shown without its password.
 */
START_TEST(any_byte_anywhere)
{
	static const char base[] = "amqps://us:canary@[::1]:5671/%2f";
	for (size_t at = 0; at < sizeof(base) - 1; at++) {
		for (int byte = 0; byte < 256; byte++) {
			char text[sizeof(base)], why[256] = "";
			memcpy(text, base, sizeof(base));
			text[at] = (char)byte;
			struct url url;
			bool ok = url_parse(arena, text, &url, why, sizeof(why));
			const char *said = ok ? url.shown : why;
			if (strstr(text, ":canary@"))
				ck_assert_msg(!strstr(said, "canary"), "%s", said);
		}
		arena_reset(arena);
	}
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("url");
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_loop_test(tcase, good_urls_are_taken_apart, 0, ARRAY_LEN(good));
	tcase_add_loop_test(tcase, bad_urls_are_refused_without_showing_them, 0, ARRAY_LEN(bad));
	tcase_add_test(tcase, lengths_are_bounded);
	tcase_add_test(tcase, any_byte_anywhere);

	Suite *suite = suite_create("url");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
