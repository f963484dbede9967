/* Puts together what warren republishes: which headers stay, and which say what happened. */
#include "copy.h"

#include <string.h>

#include "text.h"

enum {
	REASON_MAX = 1024,
	NAME_MAX_LEN = 255, /* of a queue, an exchange, a routing key, a key of a table */
	PERSISTENT = 2,     /* delivery_mode */
	OWN_HEADERS_MAX = 16,
};

/* A pattern that ends in `*` stands for all names with that beginning. */
static const char *const dropped_headers[] = {
	"CC",
	"BCC",
	"x-death",
	"x-first-death-*",
	"x-last-death-*",
	"x-delivery-count",
	"x-acquired-count",
	"x-delay",
	"x-warren-*",
};

bool copy_drops_header(struct bytes key)
{
	for (size_t i = 0; i < ARRAY_LEN(dropped_headers); i++)
		if (text_match(dropped_headers[i], key))
			return true;
	return false;
}

static size_t value_size(const struct value *value)
{
	size_t size = 1; /* the letter of its kind */
	switch ((enum value_kind)value->kind) {
	case VALUE_VOID:
		break;
	case VALUE_BOOL:
		size += 1;
		break;
	case VALUE_INT:
	case VALUE_UINT:
	case VALUE_DOUBLE:
		size += value->width ? value->width : 8;
		break;
	case VALUE_DECIMAL:
		size += 1 + 4;
		break;
	case VALUE_TIMESTAMP:
		size += 8;
		break;
	case VALUE_STRING:
	case VALUE_BYTES:
		size += 4 + value->bytes.len;
		break;
	case VALUE_ARRAY:
		size += 4;
		for (size_t i = 0; i < value->array.n; i++)
			size += value_size(&value->array.items[i]);
		break;
	case VALUE_TABLE:
		size += copy_table_size(&value->table);
		break;
	}
	return size;
}

size_t copy_table_size(const struct table *table)
{
	size_t size = 4;
	for (size_t i = 0; i < table->n; i++)
		size += 1 + table->fields[i].key.len + value_size(&table->fields[i].value);
	return size;
}

/* The headers of a copy while they are being collected; the fields have room for all. */
struct collection {
	struct arena *arena;
	struct table table;
	bool short_of_memory;
};

static void put(struct collection *to, const char *key, struct value value)
{
	to->table.fields[to->table.n++] = (struct field){ bytes_of(key), value };
}

static void put_int(struct collection *to, const char *key, int64_t n)
{
	put(to, key, V_INT(n));
}

/* As it is: for names that must be read back byte by byte. Its memory is not ours to copy. */
static void put_name(struct collection *to, const char *key, struct bytes name)
{
	if (name.len > NAME_MAX_LEN)
		name.len = NAME_MAX_LEN; /* none that AMQP could carry; forged */
	put(to, key, V_STR(name));
}

/* For people: one line of valid UTF-8, at most `max` bytes; left out when empty. */
static void put_words(struct collection *to, const char *key, struct bytes text, size_t max)
{
	if (text.len == 0)
		return;
	char escaped[REASON_MAX + 1];
	CHECK(max < sizeof(escaped));
	size_t len = text_escape(text, escaped, max + 1);
	char *kept = arena_dup(to->arena, escaped, len);
	if (kept)
		put(to, key, V_STR(((struct bytes){ kept, len })));
	else
		to->short_of_memory = true;
}

static bool lost_headers(enum msg_flaw flaw)
{
	return flaw == MSG_HEADERS_LARGE || flaw == MSG_HEADERS_DEEP || flaw == MSG_HEADERS_BROKEN;
}

/* The note comes first, so that a long reason cannot push it out. */
static void put_reason(struct collection *to, const struct warren_job *job, const char *missing)
{
	if (!missing) {
		put_words(to, "x-warren-reason", bytes_of(job->reason), REASON_MAX);
		return;
	}
	const char *text = arena_printf(to->arena, "original headers are missing (%s)%s%s", missing,
	    job->reason[0] ? ": " : "", job->reason);
	if (text)
		put_words(to, "x-warren-reason", bytes_of(text), REASON_MAX);
	else
		to->short_of_memory = true;
}

/* What a crash left on a message stays until a worse one is told. */
static void put_crashes(
    struct collection *to, const struct table *original, const struct copy_stamp *stamp)
{
	int64_t crashes = stamp->crashes;
	struct bytes signal = bytes_of(stamp->signal);
	if (crashes == 0 && !table_get_int(original, "x-warren-crashes", &crashes))
		crashes = 0;
	if (!stamp->signal && !table_get_bytes(original, "x-warren-signal", &signal))
		signal.len = 0;
	if (crashes > 0)
		put_int(to, "x-warren-crashes", crashes);
	put_words(to, "x-warren-signal", signal, NAME_MAX_LEN);
}

/* At most OWN_HEADERS_MAX of them. */
static void put_own(struct collection *to, const struct warren_job *job,
    const struct copy_stamp *stamp, const char *missing)
{
	put_int(to, "x-warren-attempt", stamp->attempt);
	put_name(to, "x-warren-queue", bytes_of(job->queue->label));
	put_words(to, "x-warren-task", job->task_name, NAME_MAX_LEN);
	put_name(to, "x-warren-exchange", job->first_exchange);
	put_name(to, "x-warren-routing-key", job->first_routing_key);
	put_int(to, "x-warren-first-at", job->first_at_ms);
	put_int(to, "x-warren-at", stamp->now_wall_ms);
	if (job->expires_at_ms)
		put_int(to, "x-warren-expires-at", job->expires_at_ms);
	put_words(to, "x-warren-verdict", bytes_of(stamp->verdict), NAME_MAX_LEN);
	put_reason(to, job, missing);
	put_words(to, "x-warren-host", bytes_of(stamp->host), NAME_MAX_LEN);
	put_words(to, "x-warren-plugin", bytes_of(stamp->plugin), NAME_MAX_LEN);
	put_crashes(to, &job->msg.props.headers, stamp);
}

static void put_original(struct collection *to, const struct table *original)
{
	for (size_t i = 0; i < original->n; i++)
		if (!copy_drops_header(original->fields[i].key))
			to->table.fields[to->table.n++] = original->fields[i];
}

/* All headers of the copy; `missing` says why the message's own are left out, NULL if they stay. */
static bool make_headers(struct warren_job *job, const struct copy_stamp *stamp,
    const char *missing, struct table *headers)
{
	const struct table *original = &job->msg.props.headers;
	size_t room = OWN_HEADERS_MAX + (missing ? 0 : original->n);
	struct collection to = { .arena = job->arena };
	to.table.fields = arena_zalloc(job->arena, room, sizeof(struct field));
	if (!to.table.fields)
		return false;
	if (!missing)
		put_original(&to, original);
	put_own(&to, job, stamp, missing);
	CHECK(to.table.n <= room);
	*headers = to.table;
	return !to.short_of_memory;
}

static void unset(struct props *props, enum prop which, struct bytes *text)
{
	props->present &= ~(uint32_t)which;
	*text = (struct bytes){ NULL, 0 };
}

bool copy_make(struct warren_job *job, const struct copy_stamp *stamp, struct outgoing *out)
{
	enum msg_flaw flaw = job->msg.flaw;
	struct props *props = &out->props;
	*props = job->msg.props;
	unset(props, PROP_EXPIRATION, &props->expiration);
	unset(props, PROP_USER_ID, &props->user_id);
	props->present |= PROP_DELIVERY_MODE | PROP_HEADERS;
	props->delivery_mode = PERSISTENT;
	out->body = job->msg.body;

	const char *missing = lost_headers(flaw) ? msg_flaw_words(flaw) : NULL;
	if (!make_headers(job, stamp, missing, &props->headers))
		return false;
	if (copy_table_size(&props->headers) <= MSG_HEADERS_MAX + MSG_HEADERS_ROOM)
		return true;
	return make_headers(job, stamp, msg_flaw_words(MSG_HEADERS_LARGE), &props->headers);
}

static bool is_persistent(const struct props *props)
{
	return props->present & PROP_DELIVERY_MODE && props->delivery_mode == PERSISTENT;
}

/* The correlation id of the answer: the asker's own, or the id of its message. */
static void correlate(struct props *reply, const struct props *asked)
{
	if (asked->present & PROP_CORRELATION_ID)
		reply->correlation_id = asked->correlation_id;
	else if (asked->present & PROP_MESSAGE_ID)
		reply->correlation_id = asked->message_id;
	else
		return;
	reply->present |= PROP_CORRELATION_ID;
}

bool copy_reply(
    struct warren_job *job, struct bytes content_type, struct bytes body, struct outgoing *out)
{
	const struct props *asked = &job->msg.props;
	char *type = arena_dup(job->arena, content_type.data, content_type.len);
	char *data = arena_dup(job->arena, body.data, body.len);
	if (!type || !data)
		return false;

	*out = (struct outgoing){ .routing_key = asked->reply_to, .body = { data, body.len } };
	correlate(&out->props, asked);
	if (content_type.len) {
		out->props.content_type = (struct bytes){ type, content_type.len };
		out->props.present |= PROP_CONTENT_TYPE;
	}
	if (is_persistent(asked)) {
		out->props.delivery_mode = PERSISTENT;
		out->props.present |= PROP_DELIVERY_MODE;
	}
	return trace_carry(&job->trace, job->arena, &out->props);
}
