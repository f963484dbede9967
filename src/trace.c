/* Reads `traceparent` by the rules of the W3C recommendation "Trace Context", and passes it on. */
#include "trace.h"

#include <string.h>

#define PARENT "traceparent"
#define STATE "tracestate"

/* Where its parts stand: version, trace-id, span-id, flags, with a dash between each two. */
enum {
	VERSION_LEN = 2,
	TRACE_AT = 3,
	TRACE_LEN = 32,
	SPAN_AT = 36,
	SPAN_LEN = 16,
	FLAGS_AT = 53,
	FLAGS_LEN = 2,
	PARENT_LEN = 55,
};

static bool is_hex(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
			return false;
	return true;
}

/* Hex digits, and not all of them zero. */
static bool is_id(const char *text, size_t len)
{
	size_t zeros = 0;
	while (zeros < len && text[zeros] == '0')
		zeros++;
	return zeros < len && is_hex(text, len);
}

/* Version 00 ends with the flags; later ones may go on behind another dash. There is no ff. */
static bool ends_well(struct bytes parent)
{
	if (memcmp(parent.data, "ff", VERSION_LEN) == 0)
		return false;
	if (parent.len == PARENT_LEN)
		return true;
	return memcmp(parent.data, "00", VERSION_LEN) != 0 && parent.data[PARENT_LEN] == '-';
}

static bool is_well_formed(struct bytes parent)
{
	const char *text = parent.data;
	if (parent.len < PARENT_LEN || parent.len > TRACE_MAX)
		return false;
	if (text[TRACE_AT - 1] != '-' || text[SPAN_AT - 1] != '-' || text[FLAGS_AT - 1] != '-')
		return false;
	return is_hex(text, VERSION_LEN) && is_id(text + TRACE_AT, TRACE_LEN) &&
	       is_id(text + SPAN_AT, SPAN_LEN) && is_hex(text + FLAGS_AT, FLAGS_LEN) &&
	       ends_well(parent);
}

struct trace trace_of(const struct table *headers)
{
	struct trace trace = { 0 };
	struct bytes state;
	if (!table_get_bytes(headers, PARENT, &trace.parent) || !is_well_formed(trace.parent))
		return (struct trace){ 0 };
	/* What it says is for the tracing systems that wrote it. */
	if (table_get_bytes(headers, STATE, &state) && state.len <= TRACE_MAX)
		trace.state = state;
	return trace;
}

struct bytes trace_ids(const struct trace *trace)
{
	if (trace->parent.len == 0)
		return (struct bytes){ NULL, 0 };
	return (struct bytes){ trace->parent.data + TRACE_AT, TRACE_LEN + 1 + SPAN_LEN };
}

bool trace_carry(const struct trace *trace, struct arena *arena, struct props *props)
{
	struct table *headers = &props->headers;
	if (trace->parent.len == 0 || table_get(headers, PARENT))
		return true;
	bool has_state = trace->state.len > 0 && !table_get(headers, STATE);
	struct table more = { arena_zalloc(arena, headers->n + 2, sizeof(struct field)),
		headers->n };
	if (!more.fields)
		return false;
	if (headers->n)
		memcpy(more.fields, headers->fields, headers->n * sizeof(struct field));
	more.fields[more.n++] = (struct field){ BYTES_LIT(PARENT), V_STR(trace->parent) };
	if (has_state)
		more.fields[more.n++] = (struct field){ BYTES_LIT(STATE), V_STR(trace->state) };
	*headers = more;
	props->present |= PROP_HEADERS;
	return true;
}
