/* What the fuzz targets share: taking an input apart, and what must hold of anything we print. */
#ifndef WARREN_FUZZ_H
#define WARREN_FUZZ_H

#include <stdio.h>

#include "base.h"

/* The one function of a target: libFuzzer's name for it. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An input that is used up from the front; what is not there any more reads as zero. */
struct feed {
	const uint8_t *data;
	size_t left;
};

uint8_t feed_byte(struct feed *feed);
/* Up to 8 bytes, most significant first. */
uint64_t feed_number(struct feed *feed, size_t bytes);
/* At most `max` bytes, the length standing in front in one byte, or in two where max needs them. */
struct bytes feed_bytes(struct feed *feed, size_t max);
/* The same as a malloc'ed string; it ends at its first NUL. */
char *feed_string(struct feed *feed, size_t max);
struct bytes feed_rest(struct feed *feed);

/* Valid UTF-8 without anything that ends a line, moves a cursor or reorders text; `allowed` are
 * controls that may be there. */
bool is_safe_text(struct bytes text, const char *allowed);

/* One JSON value and nothing behind it; its strings are safe text. */
bool is_json(struct bytes text);

/* What was written to it since the last time. */
struct memory {
	FILE *file;
	char *text;
	size_t len;
};
FILE *memory_open(struct memory *memory);
struct bytes memory_close(struct memory *memory); /* the bytes are memory->text: free it */

#endif
