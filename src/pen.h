/*
 * Where screens are written to: a stream, or the cells of a terminal library. With it, text that
 * somebody else chose, made safe and measured in columns. Floor 4, for commands.
 */
#ifndef WARREN_PEN_H
#define WARREN_PEN_H

#include <stdio.h>

#include "base.h"

/* What colours stress. Every stress is also said by a word: not every terminal or eye has colours.
 */
enum tint { TINT_PLAIN, TINT_STRONG, TINT_FAINT, TINT_GOOD, TINT_WARN, TINT_BAD, N_TINTS };

/* `put` writes text without control characters other than newlines. */
struct pen {
	void (*put)(struct pen *pen, enum tint tint, const char *text);
};

/* A pen that writes to a stream; `colour`: with the terminal's escape sequences. */
struct stream_pen {
	struct pen pen;
	FILE *out;
	bool colour;
};
struct stream_pen pen_to(FILE *out, bool colour);

/* True for a terminal that has colours and whose user wants them (NO_COLOR, TERM). */
bool pen_wants_colour(FILE *out);

/* Makes widths those of UTF-8, in whatever locale; for the start of a program. */
void pen_set_locale(void);

void pen_put(struct pen *pen, enum tint tint, const char *fmt, ...) PRINTF_LIKE(3, 4);
void pen_pad(struct pen *pen, size_t columns);

/* Prose at `indent`, wrapped at spaces to `width` columns, each line ended. */
void pen_wrap(struct pen *pen, enum tint tint, const char *text, size_t indent, size_t width);

/*
 * Text for people as cmd_put_text writes it, malloc'ed; of a long one its beginning. What has no
 * known width is escaped, and no character carries more than two marks.
 */
char *pen_safe(struct bytes text) __attribute__((returns_nonnull));

/* The columns that safe text takes. */
size_t pen_width(const char *text);

/* Safe text cut to `columns`, malloc'ed; what was cut ends in "~". */
char *pen_fit(const char *text, size_t columns) __attribute__((returns_nonnull));

#endif
