/* Writes log lines with one write each to a descriptor that cannot block its caller. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "text.h"

enum {
	LINE_MAX_LEN = 4096, /* with its newline; no pipe takes so little in two parts */
	LINE_TAIL = 16,      /* kept free for what ends a line */
	FIELD_MAX = 256,
};

static struct {
	atomic_int level, format;
	int fd;
	bool is_socket;
	char role[64];
	atomic_bool torn; /* the last line went out in part */
	atomic_uint_fast64_t dropped, reported;
} sink = { .level = LOG_INFO, .format = LOG_LOGFMT, .fd = STDERR_FILENO };

static const char *const level_names[] = { "error", "warn", "info", "debug" };

/*
 * The flag O_NONBLOCK belongs to an open file, which we share with whoever started us. So a pipe or
 * terminal is opened anew; a socket is sent to with MSG_DONTWAIT; a plain file never blocks.
 */
static void open_sink(void)
{
	struct stat st;
	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	sink.is_socket = S_ISSOCK(st.st_mode);
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		if (fd >= 0)
			sink.fd = fd;
	}
}

void log_init(enum log_level level, enum log_format format)
{
	static bool opened;
	if (!opened) {
		open_sink();
		opened = true;
	}
	atomic_store_explicit(&sink.format, (int)format, memory_order_relaxed);
	log_set_level(level);
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&sink.level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&sink.level, memory_order_relaxed);
}

void log_set_role(const char *role)
{
	(void)snprintf(sink.role, sizeof(sink.role), "%s", role);
}

struct log_field log_opt(const char *key, struct bytes value)
{
	struct log_field field = L_BYTES(key, value);
	if (value.len == 0)
		field.kind = LOG_K_SKIP;
	return field;
}

uint64_t log_dropped(void)
{
	return atomic_load(&sink.dropped);
}

/* A line being put together; `len` never passes the end. */
struct line {
	char text[LINE_MAX_LEN];
	size_t len;
	bool json;
	bool full; /* the field being put did not fit */
	bool cut;  /* some field was left out */
};

static void put(struct line *line, const char *text, size_t len)
{
	if (line->full || line->len + len > sizeof(line->text) - LINE_TAIL) {
		line->full = true;
		return;
	}
	memcpy(line->text + line->len, text, len);
	line->len += len;
}

static void put_str(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

static void put_key(struct line *line, const char *key)
{
	if (line->json) {
		put_str(line, line->len > 1 ? ",\"" : "\"");
		put_str(line, key);
		put_str(line, "\":");
	} else {
		if (line->len > 0)
			put_str(line, " ");
		put_str(line, key);
		put_str(line, "=");
	}
}

/* A bare word needs no quotes in logfmt. */
static bool is_bare(struct bytes v)
{
	if (v.len == 0 || v.len > FIELD_MAX)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		unsigned char c = (unsigned char)v.data[i];
		if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7F)
			return false;
	}
	return true;
}

static void put_bytes(struct line *line, struct bytes v)
{
	char escaped[FIELD_MAX];
	if (!line->json && is_bare(v)) {
		put(line, v.data, v.len);
		return;
	}
	size_t len = line->json ? text_escape_json(v, escaped, sizeof(escaped))
				: text_escape(v, escaped, sizeof(escaped));
	put_str(line, "\"");
	put(line, escaped, len);
	put_str(line, "\"");
}

static void put_value(struct line *line, const struct log_field *field)
{
	char number[48];
	int64_t ns = field->number > 0 ? field->number : 0;
	switch (field->kind) {
	case LOG_K_BYTES:
		put_bytes(line, field->bytes);
		return;
	case LOG_K_BOOL:
		put_str(line, field->number ? "true" : "false");
		return;
	case LOG_K_INT:
		(void)snprintf(number, sizeof(number), "%" PRId64, field->number);
		break;
	case LOG_K_MS:
		if (line->json)
			(void)snprintf(number, sizeof(number), "%" PRId64 ".%06d", ns / NS_PER_S,
			    (int)(ns % NS_PER_S / 1000));
		else
			(void)text_show_duration(ns, number, sizeof(number));
		break;
	case LOG_K_SKIP:
		return;
	}
	put_str(line, number);
}

static void put_stamp(struct line *line)
{
	char text[CLOCK_STAMP_MAX];
	clock_stamp(clock_wall_ms(), text);
	put_key(line, "time");
	if (line->json)
		put_bytes(line, bytes_of(text));
	else
		put_str(line, text);
}

static void put_field(struct line *line, const struct log_field *field)
{
	if (field->kind == LOG_K_SKIP)
		return;
	size_t before = line->len;
	put_key(line, field->key);
	put_value(line, field);
	if (!line->full)
		return;
	line->len = before; /* a field stands whole or not at all */
	line->full = false;
	line->cut = true;
}

static bool is_writable(void)
{
	/* A pipe without a reader adds POLLERR: writing would only raise SIGPIPE. */
	struct pollfd ready = { .fd = sink.fd, .events = POLLOUT };
	return poll(&ready, 1, 0) == 1 && ready.revents == POLLOUT;
}

/* How much could be written at once. */
static size_t try_write(const char *text, size_t len)
{
	ssize_t n;
	do {
		if (sink.is_socket)
			n = send(sink.fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		else if (is_writable())
			n = write(sink.fd, text, len);
		else
			n = 0;
	} while (n < 0 && errno == EINTR);
	return n > 0 ? (size_t)n : 0;
}

static bool emit(const struct line *line)
{
	/* A terminal or disk that took a part of the last line: end it, lest the next one run on.
	 */
	if (atomic_exchange(&sink.torn, false) && try_write("\n", 1) != 1) {
		atomic_store(&sink.torn, true);
		return false;
	}
	size_t n = try_write(line->text, line->len);
	if (n > 0 && n < line->len)
		atomic_store(&sink.torn, true);
	return n == line->len;
}

static void end_line(struct line *line)
{
	const char *cut = line->json ? ",\"cut\":true" : " cut=true";
	line->len += (size_t)snprintf(line->text + line->len, LINE_TAIL, "%s%s\n",
	    line->cut ? cut : "", line->json ? "}" : "");
}

static void compose(struct line *line, enum log_level level, const char *event,
    const struct log_field *fields, size_t n)
{
	line->len = 0;
	line->full = line->cut = false;
	line->json = atomic_load_explicit(&sink.format, memory_order_relaxed) == LOG_JSON;
	if (line->json)
		put_str(line, "{");
	put_stamp(line);
	put_field(line, &L_STR("level", level_names[level]));
	if (sink.role[0])
		put_field(line, &L_STR("role", sink.role));
	put_field(line, &L_STR("event", event));
	for (size_t i = 0; i < n; i++)
		put_field(line, &fields[i]);
	end_line(line);
}

/* Tells once how many lines were lost, as soon as a line goes out again. */
static void report_dropped(void)
{
	uint64_t dropped = atomic_load(&sink.dropped);
	uint64_t reported = atomic_load(&sink.reported);
	if (dropped == reported ||
	    !atomic_compare_exchange_strong(&sink.reported, &reported, dropped))
		return;
	struct line line;
	const struct log_field field = L_INT("n", dropped - reported);
	compose(&line, LOG_WARN, "log.dropped", &field, 1);
	if (!emit(&line))
		atomic_fetch_sub(&sink.reported, dropped - reported);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
	int saved = errno;
	struct line line;
	compose(&line, level, event, fields, n);
	if (emit(&line))
		report_dropped();
	else
		atomic_fetch_add(&sink.dropped, 1);
	errno = saved;
}

bool log_complain(struct log_complaint *c, uint64_t *silent)
{
	int64_t now = clock_mono_ns();
	if (c->total++ == 0)
		c->since_ns = now;
	if (now < c->next_ns) {
		c->silent++;
		return false;
	}
	*silent = c->silent;
	c->silent = 0;
	c->interval_ns = c->interval_ns ? c->interval_ns * 2 : NS_PER_S;
	if (c->interval_ns > 60 * NS_PER_S)
		c->interval_ns = 60 * NS_PER_S;
	c->next_ns = now + c->interval_ns;
	return true;
}

bool log_healed(struct log_complaint *c, int64_t *for_ns)
{
	if (c->total == 0)
		return false;
	*for_ns = clock_mono_ns() - c->since_ns;
	*c = (struct log_complaint){ 0 };
	return true;
}
