/* Log lines in both formats, whatever stands in their fields: one line, safe, and what it says can
 * be read back. */
#include "log.c"

#include <stdlib.h>

#include "fuzz.h"

enum { FIELDS_MAX = 24 };

static const char *const keys[] = { "job", "task", "queue", "reason", "message_id", "text" };

static struct log_field make_field(struct feed *feed)
{
	const char *key = keys[feed_byte(feed) % ARRAY_LEN(keys)];
	switch (feed_byte(feed) % 8) {
	case 0:
		return L_INT(key, feed_number(feed, 8));
	case 1:
		return L_NS(key, (int64_t)feed_number(feed, 8));
	case 2:
		return L_BOOL(key, feed_byte(feed) & 1);
	case 3:
		return L_OPT_BYTES(key, feed_bytes(feed, 255));
	default:
		return L_BYTES(key, feed_bytes(feed, 700));
	}
}

/* The end of one key=value of a logfmt line, or NULL. */
static const char *skip_pair(const char *p, const char *end)
{
	const char *key = p;
	while (p < end && ((*p >= 'a' && *p <= 'z') || *p == '_'))
		p++;
	if (p == key || p >= end || *p++ != '=')
		return NULL;
	if (p >= end || *p != '"') {
		const char *value = p;
		while (p < end && *p != ' ' && *p != '"' && *p != '=')
			p++;
		return p > value && (p == end || *p == ' ') ? p : NULL;
	}
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p + 1 : NULL;
}

/* How many pairs the line has; each stands whole. */
static size_t count_pairs(const char *p, const char *end)
{
	size_t n = 0;
	for (;; n++, p++) {
		p = skip_pair(p, end);
		CHECK(p);
		if (p == end)
			return n + 1;
		CHECK(*p == ' ');
	}
}

static void check_line(const struct line *line, size_t n_fields)
{
	struct bytes text = { line->text, line->len - 1 };
	CHECK(line->len <= LINE_MAX_LEN && line->text[line->len - 1] == '\n');
	CHECK(is_safe_text(text, ""));
	if (line->json)
		CHECK(is_json(text));
	else
		CHECK(count_pairs(text.data, text.data + text.len) <= n_fields + 5);
	const char *cut = line->json ? ",\"cut\":true}" : " cut=true";
	if (line->cut)
		CHECK(text.len > strlen(cut) &&
		      memcmp(text.data + text.len - strlen(cut), cut, strlen(cut)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = { data, size };
	struct log_field fields[FIELDS_MAX];
	struct line line;
	size_t n = 0;
	char *role = feed_string(&feed, 80);
	log_set_role(role);
	free(role);
	while (n < FIELDS_MAX && feed.left > 0)
		fields[n++] = make_field(&feed);
	for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
		atomic_store(&sink.format, format);
		compose(&line, LOG_WARN, "fuzz.line", fields, n);
		check_line(&line, n);
	}
	return 0;
}
