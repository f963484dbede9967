/* The words of an operator's request: a line taken apart, and the patterns it is compared with.
 * Floor 1. */
#ifndef WARREN_WORDS_H
#define WARREN_WORDS_H

#include "base.h"

enum { WORDS_MAX = 8 };

struct words {
	struct bytes list[WORDS_MAX]; /* may hold any byte; none is empty */
	size_t n;
};

/*
 * Takes a line without its end apart: words of printable ASCII, single spaces between them, every
 * other byte (and '%') as %XX. The bytes of the words stand in `line`, which is written over. False
 * with the reason in `why`, which holds no byte of the line.
 */
bool words_read(char *line, size_t len, struct words *words, char *why, size_t why_size) MUST_CHECK;

/* "pause QUEUE": a word in capitals stands for any word, every other one for itself. */
bool words_match(const struct words *words, const char *pattern);

/* Whether the first word is that of the pattern, whatever follows. */
bool words_begin(const struct words *words, const char *pattern);

#endif
