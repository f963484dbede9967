/* debug.print: writes one block for each message to standard output: where from, properties,
 * headers, body. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <warren/plugin.h>

enum {
	CHUNK = 4096, /* what a pipe that polls as writable takes without blocking */
	WAIT_MS = 100,
};

/* ---- Text that is safe to show ---- */

/*
 * The length of the UTF-8 character at `p` if it may be shown as it is, else 0: controls of both
 * kinds, line separators, marks that turn the direction of writing, and bytes that are no UTF-8.
 */
static size_t shown_len(const unsigned char *p, size_t left)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = p[0] < 0x80       ? 1
		     : p[0] >> 5 == 6  ? 2
		     : p[0] >> 4 == 14 ? 3
		     : p[0] >> 3 == 30 ? 4
				       : 0;
	if (len == 0 || len > left)
		return 0;
	uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if (p[i] >> 6 != 2)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	bool control = c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
	bool turns = c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
		     (c >= 0x2066 && c <= 0x2069);
	bool none = c < least[len] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff;
	return control || turns || none ? 0 : len;
}

/* Writes text so that it can neither drive a terminal nor begin a line: `newline` stands for "\n".
 */
static void put_text(FILE *out, const char *text, size_t len, const char *newline)
{
	const unsigned char *p = (const unsigned char *)text;
	for (size_t i = 0; i < len;) {
		size_t n = shown_len(p + i, len - i);
		if (n > 0)
			fwrite(p + i, 1, n, out);
		else if (p[i] == '\n')
			fputs(newline, out);
		else if (p[i] == '\t')
			fputc('\t', out);
		else
			fprintf(out, "\\x%02x", p[i]);
		i += n ? n : 1;
	}
}

static void put_value(FILE *out, const struct warren_value *value);

static void put_items(FILE *out, const struct warren_value *value)
{
	for (size_t i = 0; i < value->len; i++) {
		const struct warren_value *item = &value->items[i];
		fputs(i ? ", " : " ", out);
		if (item->name) {
			put_text(out, item->name, strlen(item->name), "\\n");
			fputs(" = ", out);
		}
		put_value(out, item);
	}
}

static void put_decimal(FILE *out, const struct warren_value *value)
{
	fprintf(out, "%" PRIu64 "e-%d", value->natural, value->scale);
}

static void put_value(FILE *out, const struct warren_value *value)
{
	switch (value->kind) {
	case WARREN_VOID:
		fputs("(void)", out);
		break;
	case WARREN_BOOL:
		fputs(value->boolean ? "true" : "false", out);
		break;
	case WARREN_INT:
		fprintf(out, "%" PRId64, value->integer);
		break;
	case WARREN_UINT:
	case WARREN_TIMESTAMP:
		fprintf(out, "%" PRIu64, value->natural);
		break;
	case WARREN_DOUBLE:
		fprintf(out, "%.17g", value->real);
		break;
	case WARREN_DECIMAL:
		put_decimal(out, value);
		break;
	case WARREN_STRING:
	case WARREN_BYTES:
		put_text(out, value->text, value->len, "\\n");
		break;
	case WARREN_ARRAY:
		fputc('[', out);
		put_items(out, value);
		fputs(" ]", out);
		break;
	case WARREN_TABLE:
		fputc('{', out);
		put_items(out, value);
		fputs(" }", out);
		break;
	}
}

/* ---- One block ---- */

static void put_fields(FILE *out, struct warren_job *job)
{
	for (int i = WARREN_QUEUE; i < WARREN_FIELDS; i++) {
		const struct warren_value *value = warren_get(job, (enum warren_field)i);
		if (!value)
			continue;
		fprintf(out, "%s: ", value->name);
		put_value(out, value);
		fputc('\n', out);
	}
}

static void put_headers(FILE *out, struct warren_job *job)
{
	size_t n;
	const struct warren_value *headers = warren_headers(job, &n);
	for (size_t i = 0; i < n; i++) {
		fputs("header ", out);
		put_text(out, headers[i].name, strlen(headers[i].name), "\\n");
		fputs(": ", out);
		put_value(out, &headers[i]);
		fputc('\n', out);
	}
}

/* The body's lines stand indented, so that none of them can pass for a line of ours. */
static void put_body(FILE *out, struct warren_job *job)
{
	size_t len;
	const char *body = warren_body(job, &len);
	fprintf(out, "body: %zu bytes\n  ", len);
	put_text(out, body, len, "\n  ");
	fputs("\n\n", out);
}

/* The block as malloc'ed text; NULL when memory is short. */
static char *block_of(struct warren_job *job, size_t *len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, len);
	if (!out)
		return NULL;
	put_fields(out, job);
	put_headers(out, job);
	put_body(out, job);
	bool good = !ferror(out);
	if (fclose(out) == 0 && good)
		return text;
	free(text);
	return NULL;
}

/* Writes all of it, and looks at the job while whoever reads standard output does not. */
static enum warren_verdict write_out(struct warren_job *job, const char *text, size_t len)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	while (len > 0) {
		if (poll(&out, 1, WAIT_MS) == 0) {
			if (warren_stopping(job) > WARREN_STOP_DRAIN)
				return warren_retry(job, "nobody reads standard output");
			continue;
		}
		ssize_t n = write(STDOUT_FILENO, text, len < CHUNK ? len : CHUNK);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return warren_retry(job, "standard output: %s", strerror(errno));
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return WARREN_DONE;
}

static enum warren_verdict print(struct warren_job *job)
{
	size_t len;
	char *text = block_of(job, &len);
	if (!text)
		return warren_retry(job, "out of memory");
	enum warren_verdict verdict = write_out(job, text, len);
	free(text);
	return verdict;
}

/* Serial, so that the blocks of two threads never mingle. */
static const struct warren_task tasks[] = {
	{ .name = "debug.print", .run = print, .flags = WARREN_SERIAL },
	{ 0 },
};

WARREN_PLUGIN(print, .version = "1.0",
    .summary = "prints each message, its properties and headers to standard output",
    .tasks = tasks);
