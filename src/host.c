/* Our side of <warren/plugin.h>. Everything a plugin hands in is checked here, copied and held. */
#include "host.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "copy.h"
#include "job.h"
#include "log.h"
#include "plugin.h"
#include "score.h"

enum {
	LOG_TEXT_MAX = 1024,
	OUTGOING_COST = 512, /* what a held message costs besides its bytes */
};

/* The delay ladder has 28 binary digits of seconds: longer delays are that long. */
#define RETRY_AFTER_MAX_MS (((INT64_C(1) << 28) - 1) * 1000)

/* ---- Logging and refusing ---- */

static const char *plugin_name(const struct warren_job *job)
{
	return job->task ? job->task->plugin->descriptor.name : NULL;
}

/* Public levels have our order; anything else is treated as the loudest. */
static enum log_level level_of(enum warren_level level)
{
	return (unsigned)level <= WARREN_LOG_DEBUG ? (enum log_level)level : LOG_ERROR;
}

PRINTF_LIKE(3, 0)
static void api_log(
    const struct warren_job *job, enum warren_level level, const char *fmt, va_list args)
{
	char text[LOG_TEXT_MAX];
	if (!log_enabled(level_of(level)))
		return;
	vsnprintf(text, sizeof(text), fmt, args);
	log_event(level_of(level), "task.log", L_STR("job", job->id),
	    L_OPT("plugin", plugin_name(job)), L_BYTES("task", job->task_name),
	    L_OPT_BYTES("trace", trace_ids(&job->trace)), L_STR("text", text));
}

PRINTF_LIKE(3, 0)
static void api_host_log(
    struct warren_host *host, enum warren_level level, const char *fmt, va_list args)
{
	char text[LOG_TEXT_MAX];
	if (!log_enabled(level_of(level)))
		return;
	vsnprintf(text, sizeof(text), fmt, args);
	log_event(
	    level_of(level), "plugin.log", L_STR("plugin", host->plugin), L_STR("text", text));
}

/* Refuses what a task hands in: logged, and remembered so that its done does not pass (task_run).
 */
PRINTF_LIKE(3, 4)
static enum warren_error refuse(
    struct warren_job *job, enum warren_error error, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(job->reason, sizeof(job->reason), fmt, args);
	va_end(args);
	job->refused = error;
	log_event(LOG_WARN, "task.refused", L_STR("job", job->id),
	    L_OPT("plugin", plugin_name(job)), L_BYTES("task", job->task_name),
	    L_OPT_BYTES("trace", trace_ids(&job->trace)), L_STR("reason", job->reason));
	return error;
}

static bool gone(const struct warren_job *job)
{
	return atomic_load(&job->gone);
}

/* ---- Reading ---- */

static const char *api_body(const struct warren_job *job, size_t *len)
{
	*len = job->msg.body.len;
	return job->msg.body.len ? job->msg.body.data : "";
}

static const char *api_body_text(struct warren_job *job)
{
	struct bytes body = job->msg.body;
	if (gone(job) || (body.len && memchr(body.data, '\0', body.len)))
		return NULL;
	return arena_dup(job->arena, body.data, body.len);
}

/* A terminated copy in the job's memory; "" when memory is short, which spoils the job. */
static const char *text_of(struct warren_job *job, struct bytes bytes)
{
	const char *text = arena_dup(job->arena, bytes.data, bytes.len);
	if (text)
		return text;
	refuse(job, WARREN_ENOMEM, "out of memory");
	return "";
}

static struct warren_value string_value(
    struct warren_job *job, const char *name, struct bytes bytes)
{
	return (struct warren_value){
		.kind = WARREN_STRING, .name = name, .text = text_of(job, bytes), .len = bytes.len
	};
}

static struct warren_value int_value(const char *name, int64_t n)
{
	return (struct warren_value){ .kind = WARREN_INT, .name = name, .integer = n };
}

static const struct {
	enum warren_field field;
	enum prop bit;
	const char *name;
	size_t offset;
} text_properties[] = {
#define TEXT(field, name)                                                                          \
	{                                                                                          \
		WARREN_##field, PROP_##field, #name, offsetof(struct props, name)                  \
	}
	TEXT(CONTENT_TYPE, content_type),
	TEXT(CONTENT_ENCODING, content_encoding),
	TEXT(CORRELATION_ID, correlation_id),
	TEXT(REPLY_TO, reply_to),
	TEXT(EXPIRATION, expiration),
	TEXT(MESSAGE_ID, message_id),
	TEXT(TYPE, type),
	TEXT(USER_ID, user_id),
	TEXT(APP_ID, app_id),
	TEXT(CLUSTER_ID, cluster_id),
#undef TEXT
};

static void read_properties(struct warren_job *job)
{
	const struct props *props = &job->msg.props;
	for (size_t i = 0; i < ARRAY_LEN(text_properties); i++) {
		const char *at = (const char *)props + text_properties[i].offset;
		if (props->present & text_properties[i].bit)
			job->fields[text_properties[i].field] = string_value(
			    job, text_properties[i].name, *(const struct bytes *)(const void *)at);
	}
	if (props->present & PROP_DELIVERY_MODE)
		job->fields[WARREN_DELIVERY_MODE] =
		    int_value("delivery_mode", props->delivery_mode);
	if (props->present & PROP_PRIORITY)
		job->fields[WARREN_PRIORITY] = int_value("priority", props->priority);
	if (props->present & PROP_TIMESTAMP)
		job->fields[WARREN_SENT_AT] = (struct warren_value){
			.kind = WARREN_TIMESTAMP, .name = "timestamp", .natural = props->timestamp
		};
}

static void read_delivery(struct warren_job *job)
{
	const struct conf_queue *queue = job->queue;
	const char *from = !queue ? "" : queue->name && *queue->name ? queue->name : queue->label;
	struct warren_value *fields = job->fields;
	fields[WARREN_JOB_ID] = string_value(job, "job_id", bytes_of(job->id));
	fields[WARREN_TASK] = string_value(job, "task", job->task_name);
	fields[WARREN_QUEUE] = string_value(job, "queue", bytes_of(from));
	fields[WARREN_EXCHANGE] = string_value(job, "exchange", job->first_exchange);
	fields[WARREN_ROUTING_KEY] = string_value(job, "routing_key", job->first_routing_key);
	fields[WARREN_ATTEMPT] = int_value("attempt", job->attempt);
	fields[WARREN_REDELIVERED] = (struct warren_value){
		.kind = WARREN_BOOL, .name = "redelivered", .boolean = job->msg.redelivered
	};
}

/* What is always there is there to the end, and longer. */
static const struct warren_value *field_of_ended(enum warren_field field)
{
	static const struct warren_value fields[] = {
#define ENDED(field, value_kind, value_name)                                                       \
	[WARREN_##field] = { .kind = (value_kind), .name = (value_name), .text = "" }
		ENDED(JOB_ID, WARREN_STRING, "job_id"),
		ENDED(TASK, WARREN_STRING, "task"),
		ENDED(QUEUE, WARREN_STRING, "queue"),
		ENDED(EXCHANGE, WARREN_STRING, "exchange"),
		ENDED(ROUTING_KEY, WARREN_STRING, "routing_key"),
#undef ENDED
		[WARREN_ATTEMPT] = { .kind = WARREN_INT, .name = "attempt" },
		[WARREN_REDELIVERED] = { .kind = WARREN_BOOL, .name = "redelivered" },
	};
	return (unsigned)field < ARRAY_LEN(fields) ? &fields[field] : NULL;
}

static const struct warren_value *api_field(struct warren_job *job, enum warren_field field)
{
	if (atomic_load(&job->ended))
		return field_of_ended(field);
	if (!job->has_fields) {
		read_delivery(job);
		read_properties(job);
		job->has_fields = true;
	}
	if ((unsigned)field >= WARREN_FIELDS || !job->fields[field].name)
		return NULL;
	return &job->fields[field];
}

static struct warren_value *view_table(struct warren_job *job, const struct table *table);

/* `in` as the plugin sees it. Its depth is bounded: the reader of the message has checked it. */
static struct warren_value view(struct warren_job *job, const char *name, const struct value *in)
{
	struct warren_value out = { .kind = (enum warren_kind)in->kind, .name = name };
	switch ((enum value_kind)in->kind) {
	case VALUE_VOID:
		break;
	case VALUE_BOOL:
		out.boolean = in->boolean;
		break;
	case VALUE_INT:
		out.integer = in->integer;
		break;
	case VALUE_DOUBLE:
		out.real = in->real;
		break;
	case VALUE_UINT:
	case VALUE_DECIMAL:
	case VALUE_TIMESTAMP:
		out.natural = in->natural;
		out.scale = in->scale;
		break;
	case VALUE_STRING:
	case VALUE_BYTES:
		out.text = text_of(job, in->bytes);
		out.len = in->bytes.len;
		break;
	case VALUE_TABLE:
		out.items = view_table(job, &in->table);
		out.len = out.items ? in->table.n : 0;
		break;
	case VALUE_ARRAY: {
		struct warren_value *items = arena_zalloc(job->arena, in->array.n, sizeof(*items));
		for (size_t i = 0; items && i < in->array.n; i++)
			items[i] = view(job, NULL, &in->array.items[i]);
		out.items = items;
		out.len = items ? in->array.n : 0;
		if (!items)
			refuse(job, WARREN_ENOMEM, "out of memory");
		break;
	}
	}
	return out;
}

static struct warren_value *view_table(struct warren_job *job, const struct table *table)
{
	struct warren_value *items = arena_zalloc(job->arena, table->n, sizeof(*items));
	if (!items)
		refuse(job, WARREN_ENOMEM, "out of memory");
	for (size_t i = 0; items && i < table->n; i++)
		items[i] = view(job, text_of(job, table->fields[i].key), &table->fields[i].value);
	return items;
}

static const struct warren_value *api_headers(struct warren_job *job, size_t *n)
{
	const struct table *headers = &job->msg.props.headers;
	*n = 0;
	if (atomic_load(&job->ended))
		return NULL;
	if (!job->headers)
		job->headers = view_table(job, headers);
	*n = job->headers ? headers->n : 0;
	return job->headers;
}

static const struct warren_value *api_header(struct warren_job *job, const char *name)
{
	const struct table *headers = &job->msg.props.headers;
	size_t n;
	const struct warren_value *all = api_headers(job, &n);
	for (size_t i = 0; i < n; i++)
		if (bytes_is(headers->fields[i].key, name))
			return &all[i];
	return NULL;
}

/* ---- Working ---- */

static void *api_alloc(struct warren_job *job, size_t size)
{
	return gone(job) ? NULL : arena_alloc(job->arena, size);
}

static void *api_state(const struct warren_job *job)
{
	return job->state;
}

static void *api_thread_state(const struct warren_job *job)
{
	return job->thread_state;
}

static struct warren_host *api_host(const struct warren_job *job)
{
	return job->task->plugin->host;
}

static enum warren_stop api_stopping(const struct warren_job *job)
{
	return job_stopping(job);
}

static int64_t api_time_left_ms(const struct warren_job *job)
{
	if (gone(job))
		return 0;
	if (job->deadline_ns == CLOCK_NEVER)
		return INT64_MAX;
	int64_t left_ns = job->deadline_ns - clock_mono_ns();
	return left_ns > 0 ? (left_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
}

/* A plugin's thread may call late, while the job ends: its row is read once. */
static void api_progress(struct warren_job *job, int percent)
{
	struct score_row *row = atomic_load(&job->row);
	percent = percent < 0 ? 0 : percent > 100 ? 100 : percent;
	atomic_store(&job->progress, percent);
	if (row)
		atomic_store(&row->progress, percent);
}

static enum warren_error api_child(struct warren_job *job, pid_t pgid)
{
	struct score_row *row = atomic_load(&job->row);
	atomic_store(&job->child, pgid);
	if (row)
		atomic_store(&row->child, pgid);
	return gone(job) ? WARREN_EGONE : WARREN_OK;
}

/* ---- Results ---- */

PRINTF_LIKE(3, 0)
static enum warren_verdict api_verdict(
    struct warren_job *job, enum warren_verdict verdict, const char *fmt, va_list args)
{
	if (!gone(job))
		vsnprintf(job->reason, sizeof(job->reason), fmt, args);
	return verdict;
}

static enum warren_verdict api_retry_after(struct warren_job *job, int64_t delay_ms)
{
	int64_t ms = delay_ms < 0 ? 0 : delay_ms;
	if (ms > RETRY_AFTER_MAX_MS)
		ms = RETRY_AFTER_MAX_MS;
	if (!gone(job))
		job->retry_after_ns = ms * NS_PER_MS;
	return WARREN_RETRY;
}

/* Checks a body and takes a copy of it; counts it against what one job may hold. */
static enum warren_error hold_body(
    struct warren_job *job, const char *what, const void *data, size_t len, struct bytes *body)
{
	if (!data && len)
		return refuse(job, WARREN_EINVAL, "%s: NULL with a length of %zu", what, len);
	if (len > WARREN_BODY_MAX)
		return refuse(job, WARREN_ELARGE, "%s of %zu bytes is over the limit of %u", what,
		    len, WARREN_BODY_MAX);
	if (len + OUTGOING_COST > WARREN_HELD_MAX - job->held)
		return refuse(job, WARREN_ELARGE, "%s: the job would hold more than %u bytes", what,
		    WARREN_HELD_MAX);
	*body = (struct bytes){ arena_dup(job->arena, data, len), len };
	if (!body->data)
		return refuse(job, WARREN_ENOMEM, "%s: out of memory", what);
	job->held += len + OUTGOING_COST;
	return WARREN_OK;
}

/* A short string of a message: at most 255 bytes, copied. NULL is empty. */
static enum warren_error hold_name(
    struct warren_job *job, const char *what, const char *text, struct bytes *name)
{
	*name = bytes_of(text);
	if (name->len > WARREN_NAME_MAX)
		return refuse(job, WARREN_EINVAL, "%s of %zu bytes is over the limit of %d", what,
		    name->len, WARREN_NAME_MAX);
	name->data = arena_dup(job->arena, text, name->len);
	return name->data ? WARREN_OK : refuse(job, WARREN_ENOMEM, "%s: out of memory", what);
}

static enum warren_error api_reply(
    struct warren_job *job, const char *content_type, const void *data, size_t len)
{
	struct bytes type, body;
	enum warren_error error;
	if (gone(job))
		return WARREN_EGONE;
	error = hold_name(job, "reply's content type", content_type, &type);
	if (!error)
		error = hold_body(job, "reply", data, len, &body);
	if (error)
		return error;
	struct outgoing *reply = arena_zalloc(job->arena, 1, sizeof(*reply));
	if (!reply || !copy_reply(job, type, body, reply))
		return refuse(job, WARREN_ENOMEM, "reply: out of memory");
	job->reply = reply;
	return WARREN_OK;
}

static enum warren_error bad_header(
    struct warren_job *job, const struct warren_value *in, const char *why)
{
	return refuse(job, WARREN_EINVAL, "header %s: %s", in->name ? in->name : "(item)", why);
}

/* Takes `cost` bytes from what the headers of one message may still need on the wire. */
static enum warren_error spend(struct warren_job *job, size_t *left, size_t cost)
{
	if (cost > *left)
		return refuse(
		    job, WARREN_ELARGE, "headers are over the limit of %d bytes", MSG_HEADERS_MAX);
	*left -= cost;
	return WARREN_OK;
}

static enum warren_error take_table(struct warren_job *job, const struct warren_value *in, size_t n,
    int depth, size_t *left, struct table *out);

static enum warren_error take_text(
    struct warren_job *job, const struct warren_value *in, size_t *left, struct bytes *out)
{
	if (!in->text && in->len)
		return bad_header(job, in, "NULL with a length");
	enum warren_error error = spend(job, left, in->len);
	if (error)
		return error;
	*out = (struct bytes){ arena_dup(job->arena, in->text, in->len), in->len };
	return out->data ? WARREN_OK : refuse(job, WARREN_ENOMEM, "headers: out of memory");
}

static enum warren_error take_value(struct warren_job *job, const struct warren_value *in,
    int depth, size_t *left, struct value *out);

static enum warren_error take_array(struct warren_job *job, const struct warren_value *in,
    int depth, size_t *left, struct value *out)
{
	if (depth >= MSG_DEPTH_MAX)
		return bad_header(job, in, "nested too deep");
	if (in->len > *left || (!in->items && in->len))
		return bad_header(job, in, "too many items, or none where some are counted");
	out->array.n = in->len;
	out->array.items = arena_zalloc(job->arena, in->len, sizeof(*out->array.items));
	if (!out->array.items)
		return refuse(job, WARREN_ENOMEM, "headers: out of memory");
	for (size_t i = 0; i < in->len; i++) {
		enum warren_error error =
		    take_value(job, &in->items[i], depth + 1, left, &out->array.items[i]);
		if (error)
			return error;
	}
	return WARREN_OK;
}

/* A copy of a plugin's value, checked. */
static enum warren_error take_value(struct warren_job *job, const struct warren_value *in,
    int depth, size_t *left, struct value *out)
{
	enum warren_error error = spend(job, left, 1 + sizeof(uint64_t));
	if (error)
		return error;
	*out = (struct value){ .kind = (uint8_t)in->kind };
	switch (in->kind) {
	case WARREN_VOID:
		return WARREN_OK;
	case WARREN_BOOL:
		out->boolean = in->boolean;
		return WARREN_OK;
	case WARREN_INT:
		out->width = sizeof(int64_t);
		out->integer = in->integer;
		return WARREN_OK;
	case WARREN_DOUBLE:
		out->width = sizeof(double);
		out->real = in->real;
		return WARREN_OK;
	case WARREN_TIMESTAMP:
		out->natural = in->natural;
		return WARREN_OK;
	case WARREN_UINT: /* brokers know no unsigned 64 bits: sent as INT */
		if (in->natural > INT64_MAX)
			return bad_header(job, in, "an unsigned number over 2^63 - 1");
		*out = V_INT((int64_t)in->natural);
		return WARREN_OK;
	case WARREN_DECIMAL:
		if (in->natural > UINT32_MAX || in->scale < 0 || in->scale > UINT8_MAX)
			return bad_header(job, in, "a decimal has 32 bits and a scale up to 255");
		out->natural = in->natural;
		out->scale = (uint8_t)in->scale;
		return WARREN_OK;
	case WARREN_STRING:
	case WARREN_BYTES:
		return take_text(job, in, left, &out->bytes);
	case WARREN_ARRAY:
		return take_array(job, in, depth, left, out);
	case WARREN_TABLE:
		return take_table(job, in->items, in->len, depth, left, &out->table);
	}
	return bad_header(job, in, "a value of no known kind");
}

static enum warren_error take_table(struct warren_job *job, const struct warren_value *in, size_t n,
    int depth, size_t *left, struct table *out)
{
	if (depth >= MSG_DEPTH_MAX || n > *left || (!in && n))
		return refuse(job, WARREN_EINVAL, "headers: too deep, too many, or NULL");
	out->n = n;
	out->fields = arena_zalloc(job->arena, n, sizeof(*out->fields));
	if (!out->fields)
		return refuse(job, WARREN_ENOMEM, "headers: out of memory");
	for (size_t i = 0; i < n; i++) {
		if (!in[i].name || !*in[i].name)
			return refuse(job, WARREN_EINVAL, "a header without a name");
		enum warren_error error =
		    hold_name(job, "header's name", in[i].name, &out->fields[i].key);
		if (!error)
			error = spend(job, left, 1 + out->fields[i].key.len);
		if (!error)
			error = take_value(job, &in[i], depth + 1, left, &out->fields[i].value);
		if (error)
			return error;
	}
	return WARREN_OK;
}

/* A text property: present where the plugin set it. */
static enum warren_error take_property(struct warren_job *job, const char *what, const char *text,
    enum prop bit, struct props *props, struct bytes *property)
{
	if (!text)
		return WARREN_OK;
	props->present |= (uint32_t)bit;
	return hold_name(job, what, text, property);
}

static enum warren_error take_properties(
    struct warren_job *job, const struct warren_message *in, struct props *out)
{
	const struct {
		const char *what, *text;
		enum prop bit;
		struct bytes *property;
	} texts[] = {
		{ "type", in->type, PROP_TYPE, &out->type },
		{ "content type", in->content_type, PROP_CONTENT_TYPE, &out->content_type },
		{ "content encoding", in->content_encoding, PROP_CONTENT_ENCODING,
		    &out->content_encoding },
		{ "correlation id", in->correlation_id, PROP_CORRELATION_ID, &out->correlation_id },
		{ "reply-to", in->reply_to, PROP_REPLY_TO, &out->reply_to },
		{ "message id", in->message_id, PROP_MESSAGE_ID, &out->message_id },
		{ "app id", in->app_id, PROP_APP_ID, &out->app_id },
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		enum warren_error error = take_property(
		    job, texts[i].what, texts[i].text, texts[i].bit, out, texts[i].property);
		if (error)
			return error;
	}
	out->present |= PROP_DELIVERY_MODE;
	out->delivery_mode = in->transient ? 1 : 2;
	if (in->priority) {
		out->present |= PROP_PRIORITY;
		out->priority = in->priority;
	}
	return WARREN_OK;
}

static enum warren_error take_expiration(struct warren_job *job, int64_t ms, struct props *out)
{
	if (ms == 0)
		return WARREN_OK;
	if (ms < 0)
		return refuse(job, WARREN_EINVAL, "a negative expiration");
	char *text = arena_printf(job->arena, "%lld", (long long)ms);
	if (!text)
		return refuse(job, WARREN_ENOMEM, "follow-up: out of memory");
	out->present |= PROP_EXPIRATION;
	out->expiration = bytes_of(text);
	return WARREN_OK;
}

static enum warren_error take_message(
    struct warren_job *job, const struct warren_message *in, struct outgoing *out)
{
	size_t left = MSG_HEADERS_MAX;
	enum warren_error error = hold_body(job, "follow-up", in->body, in->body_len, &out->body);
	if (!error)
		error = hold_name(job, "exchange", in->exchange, &out->exchange);
	if (!error)
		error = hold_name(job, "routing key", in->routing_key, &out->routing_key);
	if (!error)
		error = take_properties(job, in, &out->props);
	if (!error)
		error = take_expiration(job, in->expiration_ms, &out->props);
	if (error || !in->n_headers)
		return error;
	out->props.present |= PROP_HEADERS;
	error = take_table(job, in->headers, in->n_headers, 0, &left, &out->props.headers);
	job->held += MSG_HEADERS_MAX - left;
	return error;
}

/* `size` is the plugin's idea of the struct: what an older one lacks is zero. */
static enum warren_error api_publish(
    struct warren_job *job, const struct warren_message *message, size_t size)
{
	struct warren_message in = { 0 };
	if (gone(job))
		return WARREN_EGONE;
	memcpy(&in, message, size < sizeof(in) ? size : sizeof(in));
	struct outgoing *out = arena_zalloc(job->arena, 1, sizeof(*out));
	if (!out)
		return refuse(job, WARREN_ENOMEM, "follow-up: out of memory");
	enum warren_error error = take_message(job, &in, out);
	if (error)
		return error;
	if (!trace_carry(&job->trace, job->arena, &out->props))
		return refuse(job, WARREN_ENOMEM, "follow-up: out of memory");
	*job->follow_ups_tail = out;
	job->follow_ups_tail = &out->next;
	return WARREN_OK;
}

/* ---- The plugin as a whole ---- */

/* What the plugin did wrong is logged, and refuses its open() where one is running. */
static void api_record(struct warren_host *host, const char *text)
{
	if (host->why)
		snprintf(host->why, host->why_size, "%s", text);
	else
		log_event(LOG_ERROR, "plugin.fault", L_STR("plugin", host->plugin),
		    L_STR("reason", text));
}

PRINTF_LIKE(2, 0)
static bool api_refuse(struct warren_host *host, const char *fmt, va_list args)
{
	char text[LOG_TEXT_MAX];
	vsnprintf(text, sizeof(text), fmt, args);
	api_record(host, text);
	return false;
}

/* The option of that name and of one of those types (a set of bits 1 << type), or NULL. */
static const struct host_option *option(struct warren_host *host, const char *name, unsigned types)
{
	char text[LOG_TEXT_MAX];
	for (size_t i = 0; i < host->n_options; i++) {
		const struct host_option *found = &host->options[i];
		if (strcmp(found->name, name) != 0)
			continue;
		if (types & 1u << found->type)
			return found;
		snprintf(text, sizeof(text), "asked for option \"%s\" as of another type", name);
		api_record(host, text);
		return NULL;
	}
	snprintf(
	    text, sizeof(text), "asked for option \"%s\", which its table does not have", name);
	api_record(host, text);
	return NULL;
}

static const char *api_option_text(struct warren_host *host, const char *name)
{
	const struct host_option *found =
	    option(host, name, 1u << WARREN_OPT_STRING | 1u << WARREN_OPT_PATH);
	return found ? found->text : "";
}

static bool api_option_bool(struct warren_host *host, const char *name)
{
	const struct host_option *found = option(host, name, 1u << WARREN_OPT_BOOL);
	return found && found->boolean;
}

static int64_t api_option_int(struct warren_host *host, const char *name)
{
	const struct host_option *found = option(
	    host, name, 1u << WARREN_OPT_INT | 1u << WARREN_OPT_DURATION | 1u << WARREN_OPT_SIZE);
	return found ? found->integer : 0;
}

static double api_option_float(struct warren_host *host, const char *name)
{
	const struct host_option *found = option(host, name, 1u << WARREN_OPT_FLOAT);
	return found ? found->real : 0;
}

static const char *const *api_option_list(struct warren_host *host, const char *name, size_t *n)
{
	static const char *const none[] = { NULL };
	const struct host_option *found = option(host, name, 1u << WARREN_OPT_LIST);
	if (n)
		*n = found ? found->n_list : 0;
	return found ? found->list : none;
}

const struct warren_api *host_api(void)
{
	static const struct warren_api api = {
		.body = api_body,
		.body_text = api_body_text,
		.field = api_field,
		.headers = api_headers,
		.header = api_header,
		.alloc = api_alloc,
		.state = api_state,
		.thread_state = api_thread_state,
		.host = api_host,
		.stopping = api_stopping,
		.time_left_ms = api_time_left_ms,
		.verdict = api_verdict,
		.retry_after = api_retry_after,
		.reply = api_reply,
		.publish = api_publish,
		.child = api_child,
		.progress = api_progress,
		.log = api_log,
		.host_log = api_host_log,
		.refuse = api_refuse,
		.option_text = api_option_text,
		.option_bool = api_option_bool,
		.option_int = api_option_int,
		.option_float = api_option_float,
		.option_list = api_option_list,
	};
	return &api;
}

const char *host_verdict_word(enum warren_verdict verdict)
{
	switch (verdict) {
	case WARREN_DONE:
		return "done";
	case WARREN_RETRY:
		return "retry";
	case WARREN_DEAD:
		return "dead";
	}
	return "breach";
}
