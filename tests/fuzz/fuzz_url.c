/* URLs: what is taken apart can be put together again, and no word of ours holds the password. */
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "fuzz.h"
#include "url.h"

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* What may be printed reads as the same place, with another password. */
static void check_shown(struct arena *arena, const struct url *url)
{
	struct url again;
	char why[256];
	CHECK(url_parse(arena, url->shown, &again, why, sizeof(why)));
	CHECK(again.tls == url->tls && again.port == url->port && same(again.host, url->host));
	CHECK(same(again.vhost, url->vhost) && same(again.user, url->user));
	CHECK(same(again.shown, url->shown));
	CHECK(!url->has_password || same(again.password, "***"));
}

static bool holds(const char *text, const char *what)
{
	return strstr(text, what) != NULL;
}

/* A password that stands nowhere else in the URL stands in nothing that is said about it. No letter
 * of it could be part of a percent code. */
static void check_secret(const char *text, bool parsed, const struct url *url, const char *why)
{
	static const char secret[] = "xyzzy7";
	if (!holds(text, secret))
		return;
	CHECK(parsed || !holds(why, secret));
	if (parsed && holds(url->password, secret) && !holds(url->user, secret) &&
	    !holds(url->host, secret) && !holds(url->vhost, secret))
		CHECK(!holds(url->shown, secret));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_create();
	char *text = xcalloc(1, size + 1), why[256] = "";
	struct url url;
	CHECK(arena);
	if (size)
		memcpy(text, data, size);
	bool parsed = url_parse(arena, text, &url, why, sizeof(why));
	if (parsed) {
		CHECK(url.port >= 1 && url.port <= 65535 && url.host[0] && url.vhost[0]);
		CHECK(strlen(url.user) <= 255 && strlen(url.vhost) <= 255);
		check_shown(arena, &url);
	} else {
		CHECK(why[0] && is_safe_text(bytes_of(why), ""));
	}
	check_secret(text, parsed, &url, why);
	arena_destroy(arena);
	free(text);
	return 0;
}
