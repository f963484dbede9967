/* Small readers and writers of text: durations, sizes, UTF-8, escaping, patterns. Floor 0. */
#ifndef WARREN_TEXT_H
#define WARREN_TEXT_H

#include "base.h"

/* "500ms", "10s", "5m", "2h", "1d", "0"; a fraction is allowed ("1.5s"). False when it is not one
 * or does not fit. No locale is consulted. */
bool text_duration_ns(const char *s, int64_t *ns) MUST_CHECK;

/* "4096", "64KiB", "16MiB", "1GiB" (and B, kB, MB, GB for powers of ten). */
bool text_size(const char *s, int64_t *size) MUST_CHECK;

/* A duration in the shortest unit that says it ("2.5s"), into buf; returns buf. */
char *text_show_duration(int64_t ns, char *buf, size_t size);
char *text_show_size(int64_t n, char *buf, size_t size);

/*
 * Writes `in` to `out` so that it is one line of printable, valid UTF-8: C0 and C1 controls, DEL,
 * line separators, bidirectional controls and invalid bytes become \n, \t, \xNN or \u{NNNN}; quote
 * and backslash are escaped with a backslash. Always terminates; cuts at whole characters and ends
 * in "..." where it did not fit. Returns the length written.
 */
size_t text_escape(struct bytes in, char *out, size_t size);

/* The same for a JSON string's inside. Invalid UTF-8 bytes become \u00NN. */
size_t text_escape_json(struct bytes in, char *out, size_t size);

/* Prints `text` to a FILE as one safe line, for people: as text_escape, but quotes and backslashes
 * stand as they are. */
void text_print(const char *text, void *stream);

/* Closes a stream of open_memstream(): what was written to it, malloc'ed, or NULL where memory was
 * short. `text` is the stream's own pointer. */
char *text_finish(void *stream, char **text) MUST_CHECK;

bool text_is_utf8(struct bytes in);

/* Shell-like pattern over task names: `*` matches any run of characters, nothing else is special.
 */
bool text_match(const char *pattern, struct bytes name);

/* RabbitMQ task and header names we make: [A-Za-z0-9._-], 1 to 255 bytes. */
bool text_is_name(struct bytes name);

/* Lower-case hex; out holds 2 * len + 1. */
void text_hex(const void *data, size_t len, char *out);

#endif
