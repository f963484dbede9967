/* Reading, copying and showing field values; the body's end. */
#include "msg.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

const struct value *table_get(const struct table *table, const char *key)
{
	for (size_t i = 0; i < table->n; i++)
		if (bytes_is(table->fields[i].key, key))
			return &table->fields[i].value;
	return NULL;
}

bool table_get_bytes(const struct table *table, const char *key, struct bytes *out)
{
	const struct value *value = table_get(table, key);
	if (!value || (value->kind != VALUE_STRING && value->kind != VALUE_BYTES))
		return false;
	*out = value->bytes;
	return true;
}

bool table_get_int(const struct table *table, const char *key, int64_t *out)
{
	const struct value *value = table_get(table, key);
	if (!value)
		return false;
	if (value->kind == VALUE_UINT && value->natural <= INT64_MAX)
		*out = (int64_t)value->natural;
	else if (value->kind == VALUE_INT)
		*out = value->integer;
	else
		return false;
	return true;
}

static bool bytes_copy(struct arena *arena, struct bytes *to, struct bytes from)
{
	char *data = arena_dup(arena, from.data, from.len);
	*to = (struct bytes){ data, data ? from.len : 0 };
	return data != NULL;
}

static bool array_copy(struct arena *arena, struct value *to, const struct value *from)
{
	size_t n = from->array.n;
	to->array.n = 0;
	to->array.items = arena_zalloc(arena, n, sizeof(struct value));
	if (!to->array.items)
		return false;
	for (; to->array.n < n; to->array.n++)
		if (!value_copy(
			arena, &to->array.items[to->array.n], &from->array.items[to->array.n]))
			return false;
	return true;
}

static bool table_copy(struct arena *arena, struct value *to, const struct value *from)
{
	size_t n = from->table.n;
	to->table.n = 0;
	to->table.fields = arena_zalloc(arena, n, sizeof(struct field));
	if (!to->table.fields)
		return false;
	for (; to->table.n < n; to->table.n++) {
		struct field *field = &to->table.fields[to->table.n];
		const struct field *source = &from->table.fields[to->table.n];
		if (!bytes_copy(arena, &field->key, source->key) ||
		    !value_copy(arena, &field->value, &source->value))
			return false;
	}
	return true;
}

bool value_copy(struct arena *arena, struct value *to, const struct value *from)
{
	*to = *from;
	switch ((enum value_kind)from->kind) {
	case VALUE_STRING:
	case VALUE_BYTES:
		return bytes_copy(arena, &to->bytes, from->bytes);
	case VALUE_ARRAY:
		return array_copy(arena, to, from);
	case VALUE_TABLE:
		return table_copy(arena, to, from);
	case VALUE_VOID:
	case VALUE_BOOL:
	case VALUE_INT:
	case VALUE_UINT:
	case VALUE_DOUBLE:
	case VALUE_DECIMAL:
	case VALUE_TIMESTAMP:
		break;
	}
	return true;
}

void msg_free_body(struct msg *msg)
{
	if (msg->body_map_len) /* where it fails, at the kernel's limit of mappings, the memory is
				  lost */
		(void)munmap(msg->body_alloc, msg->body_map_len);
	else
		free(msg->body_alloc);
	msg->body = (struct bytes){ NULL, 0 };
	msg->body_alloc = NULL;
	msg->body_map_len = 0;
}

const char *msg_flaw_words(enum msg_flaw flaw)
{
	switch (flaw) {
	case MSG_SOUND:
		return "sound";
	case MSG_TOO_LARGE:
		return "body over the size limit";
	case MSG_HEADERS_LARGE:
		return "headers over 64 KiB";
	case MSG_HEADERS_DEEP:
		return "headers nested deeper than 16";
	case MSG_HEADERS_BROKEN:
		return "headers with an empty key or a value of unknown kind";
	case MSG_UNSTORED:
		return "body over the size limit, and no room to store it";
	}
	return "unknown flaw";
}

/* A buffer that goes on counting when it is full. */
struct shown {
	char *buf;
	size_t size, len;
};

static void show_bytes(struct shown *out, struct bytes b)
{
	if (b.len && out->len + 1 < out->size) {
		size_t room = out->size - out->len - 1;
		memcpy(out->buf + out->len, b.data, b.len < room ? b.len : room);
	}
	out->len += b.len;
}

static void show_text(struct shown *out, const char *text)
{
	show_bytes(out, bytes_of(text));
}

/* The digits with a point before the last `scale` of them. */
static void show_decimal(struct shown *out, uint64_t digits, unsigned scale)
{
	char text[300];
	int len = snprintf(text, sizeof(text), "%0*" PRIu64, (int)scale + 1, digits);
	size_t whole = (size_t)len - scale;
	show_bytes(out, (struct bytes){ text, whole });
	if (scale) {
		show_text(out, ".");
		show_bytes(out, (struct bytes){ text + whole, scale });
	}
}

static void show_value(struct shown *out, const struct value *value);

static void show_array(struct shown *out, const struct value *value)
{
	show_text(out, "[");
	for (size_t i = 0; i < value->array.n; i++) {
		show_text(out, i ? ", " : "");
		show_value(out, &value->array.items[i]);
	}
	show_text(out, "]");
}

static void show_table(struct shown *out, const struct table *table)
{
	show_text(out, "{");
	for (size_t i = 0; i < table->n; i++) {
		show_text(out, i ? ", " : "");
		show_bytes(out, table->fields[i].key);
		show_text(out, "=");
		show_value(out, &table->fields[i].value);
	}
	show_text(out, "}");
}

static void show_value(struct shown *out, const struct value *value)
{
	char number[40] = "";
	switch ((enum value_kind)value->kind) {
	case VALUE_VOID:
		show_text(out, "null");
		return;
	case VALUE_BOOL:
		show_text(out, value->boolean ? "true" : "false");
		return;
	case VALUE_STRING:
	case VALUE_BYTES:
		show_bytes(out, value->bytes);
		return;
	case VALUE_DECIMAL:
		show_decimal(out, value->natural, value->scale);
		return;
	case VALUE_ARRAY:
		show_array(out, value);
		return;
	case VALUE_TABLE:
		show_table(out, &value->table);
		return;
	case VALUE_INT:
		(void)snprintf(number, sizeof(number), "%" PRId64, value->integer);
		break;
	case VALUE_UINT:
	case VALUE_TIMESTAMP:
		(void)snprintf(number, sizeof(number), "%" PRIu64, value->natural);
		break;
	case VALUE_DOUBLE:
		(void)snprintf(
		    number, sizeof(number), value->width == 4 ? "%.7g" : "%.15g", value->real);
		break;
	}
	show_text(out, number);
}

size_t value_show(const struct value *value, char *buf, size_t size)
{
	CHECK(size > 0);
	struct shown out = { buf, size, 0 };
	show_value(&out, value);
	buf[out.len < size ? out.len : size - 1] = '\0';
	return out.len;
}
