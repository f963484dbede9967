/* One message in words. */
#include "show.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "cmd.h"
#include "text.h"

/* ---- properties, in the order of the protocol ---- */

struct property {
	enum prop bit;
	const char *name;
	size_t offset; /* of its text in struct props; 0: not a text */
};

#define TEXT(bit, name)                                                                            \
	{                                                                                          \
		PROP_##bit, #name, offsetof(struct props, name)                                    \
	}

static const struct property properties[] = {
	TEXT(CONTENT_TYPE, content_type),
	TEXT(CONTENT_ENCODING, content_encoding),
	{ PROP_DELIVERY_MODE, "delivery_mode", 0 },
	{ PROP_PRIORITY, "priority", 0 },
	TEXT(CORRELATION_ID, correlation_id),
	TEXT(REPLY_TO, reply_to),
	TEXT(EXPIRATION, expiration),
	TEXT(MESSAGE_ID, message_id),
	{ PROP_TIMESTAMP, "timestamp", 0 },
	TEXT(TYPE, type),
	TEXT(USER_ID, user_id),
	TEXT(APP_ID, app_id),
	TEXT(CLUSTER_ID, cluster_id),
};

static struct bytes text_of(const struct props *props, const struct property *property)
{
	return *(const struct bytes *)(const void *)((const char *)props + property->offset);
}

static uint64_t number_of(const struct props *props, const struct property *property)
{
	switch (property->bit) {
	case PROP_DELIVERY_MODE:
		return props->delivery_mode;
	case PROP_PRIORITY:
		return props->priority;
	default:
		return props->timestamp;
	}
}

/* ---- for people ---- */

static void put_line(FILE *out, const char *name, struct bytes text)
{
	(void)fprintf(out, "%s: ", name);
	cmd_put_text(out, text, false);
	(void)putc('\n', out);
}

static void put_headers(FILE *out, const struct table *headers)
{
	for (size_t i = 0; i < headers->n; i++) {
		char value[4096];
		size_t len = value_show(&headers->fields[i].value, value, sizeof(value));
		(void)fputs("header ", out);
		cmd_put_text(out, headers->fields[i].key, false);
		(void)fputs(": ", out);
		cmd_put_text(out,
		    (struct bytes){ value, len < sizeof(value) ? len : sizeof(value) - 1 }, false);
		(void)fputs(len < sizeof(value) ? "\n" : " ...\n", out);
	}
}

/* The body's lines stand indented, so that none of them can pass for a line of ours. */
static void put_body(FILE *out, struct bytes body)
{
	for (size_t at = 0; at <= body.len;) {
		size_t n = 0;
		while (at + n < body.len && body.data[at + n] != '\n')
			n++;
		(void)fputs("  ", out);
		cmd_put_text(out, (struct bytes){ body.data + at, n }, true);
		(void)putc('\n', out);
		at += n + 1;
	}
}

/* Indented like text: offset, bytes, and the ASCII characters among them. */
static void put_hex(FILE *out, struct bytes body)
{
	enum { ROW = 16 };
	for (size_t at = 0; at < body.len; at += ROW) {
		(void)fprintf(out, "  %08zx ", at);
		for (size_t i = at; i < at + ROW; i++)
			(void)(i < body.len ? fprintf(out, " %02x", (unsigned char)body.data[i])
					    : fputs("   ", out));
		(void)fputs("  ", out);
		for (size_t i = at; i < at + ROW && i < body.len; i++)
			(void)putc(
			    body.data[i] >= ' ' && body.data[i] <= '~' ? body.data[i] : '.', out);
		(void)putc('\n', out);
	}
}

static void put_head(FILE *out, const struct msg *msg, const char *queue)
{
	put_line(out, "queue", bytes_of(queue));
	put_line(out, "exchange", msg->exchange);
	put_line(out, "routing_key", msg->routing_key);
	put_line(out, "redelivered", bytes_of(msg->redelivered ? "true" : "false"));
	for (size_t i = 0; i < ARRAY_LEN(properties); i++) {
		const struct property *p = &properties[i];
		if (!(msg->props.present & (uint32_t)p->bit))
			continue;
		if (p->offset)
			put_line(out, p->name, text_of(&msg->props, p));
		else
			(void)fprintf(out, "%s: %" PRIu64 "\n", p->name, number_of(&msg->props, p));
	}
	put_headers(out, &msg->props.headers);
	if (msg->flaw != MSG_SOUND)
		put_line(out, "flaw", bytes_of(msg_flaw_words(msg->flaw)));
	(void)fprintf(out, "body: %zu bytes\n", msg->body.len);
}

void show_block(FILE *out, const struct msg *msg, const char *queue)
{
	put_head(out, msg, queue);
	put_body(out, msg->body);
	(void)putc('\n', out);
}

void show_block_hex(FILE *out, const struct msg *msg, const char *queue)
{
	put_head(out, msg, queue);
	if (text_is_utf8(msg->body))
		put_body(out, msg->body);
	else
		put_hex(out, msg->body);
	(void)putc('\n', out);
}

/* ---- JSON ---- */

static void put_base64(FILE *out, struct bytes in)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)in.data;
	(void)putc('"', out);
	for (size_t i = 0; i < in.len; i += 3) {
		size_t left = in.len - i;
		unsigned n = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0) |
			     (left > 2 ? p[i + 2] : 0);
		(void)putc(digits[n >> 18], out);
		(void)putc(digits[n >> 12 & 63], out);
		(void)putc(left > 1 ? digits[n >> 6 & 63] : '=', out);
		(void)putc(left > 2 ? digits[n & 63] : '=', out);
	}
	(void)putc('"', out);
}

static void put_json_value(FILE *out, const struct value *value);

static void put_json_table(FILE *out, const struct table *table)
{
	(void)putc('{', out);
	for (size_t i = 0; i < table->n; i++) {
		(void)fputs(i ? "," : "", out);
		cmd_put_json(out, table->fields[i].key);
		(void)putc(':', out);
		put_json_value(out, &table->fields[i].value);
	}
	(void)putc('}', out);
}

static void put_json_array(FILE *out, const struct value *value)
{
	(void)putc('[', out);
	for (size_t i = 0; i < value->array.n; i++) {
		(void)fputs(i ? "," : "", out);
		put_json_value(out, &value->array.items[i]);
	}
	(void)putc(']', out);
}

static void put_json_decimal(FILE *out, const struct value *value)
{
	char text[320];
	(void)value_show(value, text, sizeof(text));
	(void)fprintf(out, "{\"$decimal\":\"%s\"}", text);
}

static void put_json_value(FILE *out, const struct value *value)
{
	switch ((enum value_kind)value->kind) {
	case VALUE_VOID:
		(void)fputs("null", out);
		break;
	case VALUE_BOOL:
		(void)fputs(value->boolean ? "true" : "false", out);
		break;
	case VALUE_INT:
		(void)fprintf(out, "%" PRId64, value->integer);
		break;
	case VALUE_UINT:
		(void)fprintf(out, "%" PRIu64, value->natural);
		break;
	case VALUE_DOUBLE:
		if (isfinite(value->real))
			(void)fprintf(out, "%.17g", value->real);
		else
			(void)fputs("null", out); /* JSON has no word for it */
		break;
	case VALUE_DECIMAL:
		put_json_decimal(out, value);
		break;
	case VALUE_STRING:
		cmd_put_json(out, value->bytes);
		break;
	case VALUE_BYTES:
		(void)fputs("{\"$bytes\":", out);
		put_base64(out, value->bytes);
		(void)putc('}', out);
		break;
	case VALUE_TIMESTAMP:
		(void)fprintf(out, "{\"$timestamp\":%" PRIu64 "}", value->natural);
		break;
	case VALUE_ARRAY:
		put_json_array(out, value);
		break;
	case VALUE_TABLE:
		put_json_table(out, &value->table);
		break;
	}
}

static void put_json_properties(FILE *out, const struct props *props)
{
	const char *comma = "";
	(void)putc('{', out);
	for (size_t i = 0; i < ARRAY_LEN(properties); i++) {
		const struct property *p = &properties[i];
		if (!(props->present & (uint32_t)p->bit))
			continue;
		(void)fprintf(out, "%s\"%s\":", comma, p->name);
		if (p->offset)
			cmd_put_json(out, text_of(props, p));
		else
			(void)fprintf(out, "%" PRIu64, number_of(props, p));
		comma = ",";
	}
	(void)putc('}', out);
}

void show_json(FILE *out, const struct msg *msg, const char *queue)
{
	(void)fputs("{\"queue\":", out);
	cmd_put_json(out, bytes_of(queue));
	(void)fputs(",\"exchange\":", out);
	cmd_put_json(out, msg->exchange);
	(void)fputs(",\"routing_key\":", out);
	cmd_put_json(out, msg->routing_key);
	(void)fprintf(
	    out, ",\"redelivered\":%s,\"properties\":", msg->redelivered ? "true" : "false");
	put_json_properties(out, &msg->props);
	(void)fputs(",\"headers\":", out);
	put_json_table(out, &msg->props.headers);
	if (msg->flaw != MSG_SOUND)
		(void)fprintf(out, ",\"flaw\":\"%s\"", msg_flaw_words(msg->flaw));
	if (text_is_utf8(msg->body)) {
		(void)fputs(",\"body\":", out);
		cmd_put_json(out, msg->body);
	} else {
		(void)fputs(",\"body_base64\":", out);
		put_base64(out, msg->body);
	}
	(void)fputs("}\n", out);
}

/* ---- dead letters ---- */

/* Whole characters of at most CELL_MAX bytes. */
static struct bytes cut(struct bytes text)
{
	enum { CELL_MAX = 160 };
	if (text.len <= CELL_MAX)
		return text;
	text.len = CELL_MAX;
	while (text.len > CELL_MAX - 4 && ((unsigned char)text.data[text.len] & 0xC0) == 0x80)
		text.len--;
	return text;
}

/* Padded by characters; what could drive a terminal is escaped, what is long is cut. */
static void put_cell(FILE *out, struct bytes text, size_t width)
{
	char *cell = NULL;
	size_t len = 0, shown = 0;
	FILE *buffer = or_die(open_memstream(&cell, &len));
	struct bytes piece = text.len ? cut(text) : BYTES_LIT("-");
	cmd_put_text(buffer, piece, false);
	(void)fputs(piece.len < text.len ? "..." : "", buffer);
	if (fclose(buffer) != 0)
		or_die(NULL);
	for (size_t i = 0; i < len; i++)
		shown += ((unsigned char)cell[i] & 0xC0) != 0x80;
	(void)fputs(cell, out);
	free(cell);
	for (; shown < width; shown++)
		(void)putc(' ', out);
}

/* The largest unit of which it has two or more: 95s, 3h, 40d. */
static void show_age(int64_t age_ms, char *buf, size_t size)
{
	int64_t s = age_ms / 1000;
	if (s < 0)
		(void)snprintf(buf, size, "0s");
	else if (s < 120)
		(void)snprintf(buf, size, "%" PRId64 "s", s);
	else if (s < 120 * 60)
		(void)snprintf(buf, size, "%" PRId64 "m", s / 60);
	else if (s < 48 * 3600)
		(void)snprintf(buf, size, "%" PRId64 "h", s / 3600);
	else
		(void)snprintf(buf, size, "%" PRId64 "d", s / 86400);
}

#define ROW "%6s  %-11s  %-20s  %5s  %5s  %9s  %-24s  %-36s  %s\n"

void show_letter_heading(FILE *out)
{
	(void)fprintf(out, ROW, "NUMBER", "VERDICT", "TASK", "TRIED", "AGE", "SIZE", "WHERE",
	    "MESSAGE ID", "REASON");
}

static void put_where(FILE *out, const struct letter *letter)
{
	char *where = xasprintf("%.*s%s%.*s", (int)letter->host.len, letter->host.data,
	    letter->plugin.len ? " " : "", (int)letter->plugin.len, letter->plugin.data);
	put_cell(out, bytes_of(where), 24);
	free(where);
}

void show_letter(FILE *out, const struct letter *letter, const struct msg *msg, uint64_t number,
    int64_t now_wall_ms)
{
	char tried[24] = "-", age[24] = "-", size[32];
	if (letter->attempts > 0)
		(void)snprintf(tried, sizeof(tried), "%" PRId64, letter->attempts);
	if (letter->at_ms > 0)
		show_age(now_wall_ms - letter->at_ms, age, sizeof(age));
	text_show_size((int64_t)msg->body.len, size, sizeof(size));
	(void)fprintf(out, "%6" PRIu64 "  ", number);
	put_cell(out, letter->verdict, 11);
	(void)fputs("  ", out);
	put_cell(out, letter->task, 20);
	(void)fprintf(out, "  %5s  %5s  %9s  ", tried, age, size);
	put_where(out, letter);
	(void)fputs("  ", out);
	put_cell(out, letter->message_id, 36);
	(void)fputs("  ", out);
	put_cell(out, letter->reason, 0);
	(void)putc('\n', out);
}

static void put_json_words(FILE *out, const char *key, struct bytes text, bool known)
{
	(void)fprintf(out, ",\"%s\":", key);
	if (known)
		cmd_put_json(out, text);
	else
		(void)fputs("null", out);
}

static void put_json_number(FILE *out, const char *key, int64_t n, bool known)
{
	if (known)
		(void)fprintf(out, ",\"%s\":%" PRId64, key, n);
	else
		(void)fprintf(out, ",\"%s\":null", key);
}

void show_letter_json(FILE *out, const struct letter *letter, const struct msg *msg,
    uint64_t number, int64_t now_wall_ms)
{
	bool dated = letter->at_ms > 0;
	(void)fprintf(out, "{\"number\":%" PRIu64, number);
	put_json_words(out, "message_id", letter->message_id, letter->message_id.len > 0);
	put_json_words(out, "queue", letter->queue, letter->queue.len > 0);
	put_json_words(out, "task", letter->task, letter->task.len > 0);
	put_json_words(out, "verdict", letter->verdict, letter->verdict.len > 0);
	put_json_words(out, "reason", letter->reason, letter->reason.len > 0);
	put_json_number(out, "attempts", letter->attempts, letter->attempts > 0);
	put_json_number(out, "at", letter->at_ms, dated);
	put_json_number(out, "age", (now_wall_ms - letter->at_ms) / 1000, dated);
	put_json_number(out, "size", (int64_t)msg->body.len, true);
	put_json_words(out, "host", letter->host, letter->host.len > 0);
	put_json_words(out, "plugin", letter->plugin, letter->plugin.len > 0);
	put_json_words(out, "exchange", letter->exchange, letter->has_origin);
	put_json_words(out, "routing_key", letter->routing_key, letter->has_origin);
	(void)fputs("}\n", out);
}
