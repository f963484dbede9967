/* One message in words. */
#include "show.h"

#include <inttypes.h>
#include <math.h>

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
	(void)fprintf(out, "body: %zu bytes\n", body.len);
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

void show_block(FILE *out, const struct msg *msg, const char *queue)
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
	put_body(out, msg->body);
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
