/* Reads what a dead letter says, decides filters, and makes the copy that is replayed. */
#include "letter.h"

#include <string.h>

#include "clock.h"
#include "copy.h"
#include "ladder.h"
#include "suspect.h"
#include "text.h"

enum {
	NAME_MAX_LEN = 255, /* of a queue, an exchange, a routing key */
	PERSISTENT = 2,     /* delivery_mode */
	OWN_HEADERS = 6,    /* that a replayed copy gets anew */
};

/* ---- reading ---- */

static bool get_name(const struct table *headers, const char *key, struct bytes *name)
{
	struct bytes found;
	if (!table_get_bytes(headers, key, &found) || found.len > NAME_MAX_LEN)
		return false;
	*name = found;
	return true;
}

static void get_words(const struct table *headers, const char *key, struct bytes *words)
{
	(void)table_get_bytes(headers, key, words);
}

static void get_count(const struct table *headers, const char *key, int64_t *n)
{
	int64_t found;
	if (table_get_int(headers, key, &found) && found > 0)
		*n = found;
}

static bool begins_with(struct bytes b, const char *prefix)
{
	size_t len = strlen(prefix);
	return b.len >= len && memcmp(b.data, prefix, len) == 0;
}

static bool ends_with(struct bytes b, const char *suffix)
{
	size_t len = strlen(suffix);
	return b.len >= len && memcmp(b.data + b.len - len, suffix, len) == 0;
}

/* The table of one of the broker's own moves, the last one first; NULL: there is none. */
static const struct table *death(const struct table *headers, size_t i)
{
	const struct value *deaths = table_get(headers, "x-death");
	if (!deaths || deaths->kind != VALUE_ARRAY || i >= deaths->array.n ||
	    deaths->array.items[i].kind != VALUE_TABLE)
		return NULL;
	return &deaths->array.items[i].table;
}

/* True where the broker brought it to `queue` from the queue's own return queue. */
static bool came_back(const struct table *headers, struct bytes queue)
{
	const struct table *one;
	struct bytes from;
	for (size_t i = 0; (one = death(headers, i)); i++)
		if (table_get_bytes(one, "queue", &from) && from.len > queue.len &&
		    memcmp(from.data, queue.data, queue.len) == 0 &&
		    bytes_is((struct bytes){ from.data + queue.len, from.len - queue.len },
			LADDER_RETURN_SUFFIX))
			return true;
	return false;
}

static void read_origin(const struct table *headers, struct letter *letter)
{
	struct bytes exchange, key;
	letter->has_origin = get_name(headers, "x-warren-exchange", &exchange) &&
			     get_name(headers, "x-warren-routing-key", &key);
	if (!letter->has_origin)
		return;
	letter->exchange = exchange;
	letter->routing_key = key;
}

/* What warren wrote when it last published the message. */
static void read_own(const struct table *headers, struct letter *letter)
{
	letter->trusted = true;
	(void)get_name(headers, "x-warren-queue", &letter->queue);
	get_words(headers, "x-warren-task", &letter->task);
	get_words(headers, "x-warren-verdict", &letter->verdict);
	get_words(headers, "x-warren-reason", &letter->reason);
	get_words(headers, "x-warren-host", &letter->host);
	get_words(headers, "x-warren-plugin", &letter->plugin);
	get_count(headers, "x-warren-attempt", &letter->attempts);
	get_count(headers, "x-warren-at", &letter->at_ms);
	read_origin(headers, letter);
}

static void read_death_origin(const struct table *last, struct letter *letter)
{
	const struct value *keys = table_get(last, "routing-keys");
	if (!keys || keys->kind != VALUE_ARRAY || keys->array.n == 0 ||
	    keys->array.items[0].kind != VALUE_STRING ||
	    !get_name(last, "exchange", &letter->exchange))
		return;
	letter->routing_key = keys->array.items[0].bytes;
	letter->has_origin = letter->routing_key.len <= NAME_MAX_LEN;
}

/* The broker's word goes first; warren's holds where the broker brought the message from warren. */
static void read_death(const struct table *headers, const struct table *last, struct letter *letter)
{
	struct bytes from = { NULL, 0 };
	const struct value *time = table_get(last, "time");
	(void)get_name(last, "queue", &from);
	bool parked = begins_with(from, LADDER_DELAY_PREFIX),
	     suspect = ends_with(from, QUARANTINE_SUFFIX);
	if (suspect)
		from.len -= strlen(QUARANTINE_SUFFIX);
	if (parked || suspect || came_back(headers, from))
		read_own(headers, letter);
	else
		read_death_origin(last, letter);
	if (!parked)
		letter->queue = from;
	if (parked)
		letter->verdict = BYTES_LIT("parked");
	else
		get_words(last, "reason", &letter->verdict);
	if (time && time->kind == VALUE_TIMESTAMP && time->natural < INT64_MAX / 1000)
		letter->at_ms = (int64_t)time->natural * 1000;
}

void letter_read(const struct msg *msg, struct letter *letter)
{
	const struct table *headers = &msg->props.headers;
	const struct table *last = death(headers, 0);
	*letter = (struct letter){ .message_id = msg->props.message_id };
	if (last)
		read_death(headers, last, letter);
	else
		read_own(headers, letter);
}

int64_t letter_deliveries(const struct msg *msg)
{
	int64_t n = 0;
	get_count(&msg->props.headers, "x-delivery-count", &n);
	return n;
}

/* ---- filters ---- */

static bool has_part(struct bytes text, const char *part)
{
	size_t len = strlen(part);
	return len == 0 || (text.len >= len && memmem(text.data, text.len, part, len));
}

static bool has_header(const struct table *headers, const struct letter_header *wanted)
{
	const struct value *value = table_get(headers, wanted->name);
	char shown[1024];
	if (!value)
		return false;
	if (value->kind == VALUE_STRING || value->kind == VALUE_BYTES)
		return bytes_is(value->bytes, wanted->value);
	return value_show(value, shown, sizeof(shown)) < sizeof(shown) &&
	       strcmp(shown, wanted->value) == 0;
}

static bool has_age(const struct letter_filter *filter, const struct letter *letter, int64_t now_ms)
{
	if (filter->older_ns < 0 && filter->newer_ns < 0)
		return true;
	if (letter->at_ms == 0)
		return false;
	int64_t age_ms = now_ms - letter->at_ms;
	return (filter->older_ns < 0 || age_ms >= filter->older_ns / NS_PER_MS) &&
	       (filter->newer_ns < 0 || age_ms <= filter->newer_ns / NS_PER_MS);
}

bool letter_matches(const struct letter_filter *filter, const struct letter *letter,
    const struct msg *msg, int64_t now_wall_ms)
{
	for (size_t i = 0; i < filter->n_headers; i++)
		if (!has_header(&msg->props.headers, &filter->headers[i]))
			return false;
	return (!filter->task || text_match(filter->task, letter->task)) &&
	       (!filter->reason || has_part(letter->reason, filter->reason)) &&
	       (!filter->verdict || bytes_is(letter->verdict, filter->verdict)) &&
	       (!filter->queue || bytes_is(letter->queue, filter->queue)) &&
	       has_age(filter, letter, now_wall_ms);
}

/* ---- copies ---- */

/* What stays as it is where it holds: the history of the message until its next verdict. */
static bool is_history(struct bytes key)
{
	static const char *const kept[] = { "x-warren-task", "x-warren-first-at",
		"x-warren-verdict", "x-warren-reason", "x-warren-host", "x-warren-plugin" };
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		if (bytes_is(key, kept[i]))
			return true;
	return false;
}

static void put(struct table *table, const char *key, struct value value)
{
	table->fields[table->n++] = (struct field){ bytes_of(key), value };
}

static void put_original(struct table *to, const struct table *original, bool history)
{
	for (size_t i = 0; i < original->n; i++) {
		struct bytes key = original->fields[i].key;
		if (!copy_drops_header(key) || (history && is_history(key)))
			to->fields[to->n++] = original->fields[i];
	}
}

static void make_persistent(struct props *props)
{
	props->present |= PROP_DELIVERY_MODE | PROP_HEADERS;
	props->present &= ~(uint32_t)(PROP_EXPIRATION | PROP_USER_ID);
	props->expiration = props->user_id = (struct bytes){ NULL, 0 };
	props->delivery_mode = PERSISTENT;
}

bool letter_replay(const struct letter *letter, const struct msg *msg, struct bytes queue,
    int64_t now_wall_ms, struct arena *arena, struct outgoing *out)
{
	const struct table *original = &msg->props.headers;
	struct table headers = {
		arena_zalloc(arena, original->n + OWN_HEADERS, sizeof(struct field)), 0
	};
	int64_t expires_at = 0;
	if (!headers.fields)
		return false;
	put_original(&headers, original, letter->trusted);
	put(&headers, "x-warren-attempt", V_INT(1));
	put(&headers, "x-warren-queue", V_STR(queue));
	put(&headers, "x-warren-at", V_INT(now_wall_ms));
	if (letter->has_origin) {
		put(&headers, "x-warren-exchange", V_STR(letter->exchange));
		put(&headers, "x-warren-routing-key", V_STR(letter->routing_key));
	}
	if (letter->trusted)
		get_count(original, "x-warren-expires-at", &expires_at);
	if (expires_at > now_wall_ms)
		put(&headers, "x-warren-expires-at", V_INT(expires_at));

	*out = (struct outgoing){ .props = msg->props, .body = msg->body };
	make_persistent(&out->props);
	out->props.headers = headers;
	return true;
}

bool letter_renew(const struct msg *msg, struct arena *arena, struct outgoing *out)
{
	const struct table *original = &msg->props.headers;
	struct table headers = { arena_zalloc(arena, original->n, sizeof(struct field)), 0 };
	if (!headers.fields)
		return false;
	for (size_t i = 0; i < original->n; i++)
		if (!bytes_is(original->fields[i].key, "x-delivery-count") &&
		    !bytes_is(original->fields[i].key, "x-acquired-count"))
			headers.fields[headers.n++] = original->fields[i];
	*out = (struct outgoing){ .props = msg->props, .body = msg->body };
	make_persistent(&out->props);
	out->props.headers = headers;
	return true;
}
