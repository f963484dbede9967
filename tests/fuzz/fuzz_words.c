/* Requests of operators: words are found as the line says, or there is a reason; nothing else can
 * be read out of the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "words.h"

/* The words written again as a client would, every byte escaped or none that need not be. */
static size_t write_again(const struct words *words, bool all, char *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < words->n; i++) {
		if (i > 0)
			out[n++] = ' ';
		for (size_t j = 0; j < words->list[i].len; j++) {
			unsigned char c = (unsigned char)words->list[i].data[j];

			if (!all && c > ' ' && c < 0x7f && c != '%') {
				out[n++] = (char)c;
				continue;
			}
			out[n++] = '%';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
	}
	return n;
}

static void check_same(const struct words *words, bool all, size_t size)
{
	char *line = xcalloc(3, size + 1), why[128];
	size_t len = write_again(words, all, line);
	struct words again;

	CHECK(words_read(line, len, &again, why, sizeof(why)) && again.n == words->n);
	for (size_t i = 0; i < words->n; i++)
		CHECK(bytes_equal(again.list[i], words->list[i]));
	free(line);
}

static void check_patterns(const struct words *words)
{
	static const char *const patterns[] = { "status", "pause", "pause QUEUE", "scale QUEUE N" };
	size_t matches = 0;

	for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
		bool match = words_match(words, patterns[i]);

		matches += match;
		CHECK(!match || words_begin(words, patterns[i]));
	}
	CHECK(matches <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *line = xcalloc(1, size + 1), why[128] = "";
	struct words words;

	if (size)
		memcpy(line, data, size);
	if (words_read(line, size, &words, why, sizeof(why))) {
		CHECK(words.n >= 1 && words.n <= WORDS_MAX);
		for (size_t i = 0; i < words.n; i++)
			CHECK(words.list[i].len > 0);
		check_same(&words, false, size);
		check_same(&words, true, size);
		check_patterns(&words);
	} else {
		CHECK(why[0] && is_safe_text(bytes_of(why), ""));
	}
	free(line);
	return 0;
}
