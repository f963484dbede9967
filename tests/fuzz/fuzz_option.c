/* Options of a plugin: the plugin's own table, then a value from a configuration or a command line.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "fuzz.h"
#include "option.h"

/* A string that may be absent. */
static char *maybe(struct feed *feed)
{
	return feed_byte(feed) & 1 ? feed_string(feed, 64) : NULL;
}

static struct value number_or_text(struct feed *feed)
{
	double real;
	uint64_t bits;
	switch (feed_byte(feed) % 4) {
	case 0:
		return V_INT((int64_t)feed_number(feed, 8));
	case 1:
		return V_BOOL(feed_byte(feed) & 1);
	case 2:
		bits = feed_number(feed, 8);
		memcpy(&real, &bits, sizeof(real));
		return (struct value){ .kind = VALUE_DOUBLE, .real = real };
	default:
		return V_STR(feed_bytes(feed, 255));
	}
}

static struct value make_value(struct feed *feed, struct value items[8])
{
	size_t n = feed_byte(feed);
	if (n & 1)
		return number_or_text(feed);
	n = n / 2 % 8;
	for (size_t i = 0; i < n; i++)
		items[i] = number_or_text(feed);
	return (struct value){ .kind = VALUE_ARRAY, .array = { items, n } };
}

static void check_option(const struct warren_option *option, const struct host_option *got)
{
	CHECK(got->type == option->type && strcmp(got->name, option->name) == 0);
	switch (got->type) {
	case WARREN_OPT_STRING:
		CHECK(got->text);
		break;
	case WARREN_OPT_PATH:
		CHECK(!got->text[0] || got->text[0] == '/');
		break;
	case WARREN_OPT_DURATION:
	case WARREN_OPT_SIZE:
		CHECK(got->integer >= 0);
		break;
	case WARREN_OPT_FLOAT:
		CHECK(isfinite(got->real));
		break;
	case WARREN_OPT_LIST:
		for (size_t i = 0; i < got->n_list; i++)
			CHECK(got->list[i]);
		CHECK(!got->list[got->n_list]);
		break;
	case WARREN_OPT_BOOL:
	case WARREN_OPT_INT:
		break;
	}
}

static void read_values(struct arena *arena, const struct warren_option *option, struct feed *feed)
{
	struct host_option out;
	char why[512] = "";
	if (!option_default(arena, option, &out, why, sizeof(why))) {
		CHECK(why[0]);
		return;
	}
	if (option->fallback)
		check_option(option, &out);
	while (feed->left > 0) {
		struct value items[8], given = make_value(feed, items);
		enum option_source source =
		    feed_byte(feed) & 1 ? OPTION_FROM_TEXT : OPTION_FROM_CONF;
		why[0] = '\0';
		if (option_read(arena, option, source, &given, &out, why, sizeof(why)))
			check_option(option, &out);
		else
			CHECK(why[0]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = { data, size };
	struct arena *arena = arena_create();
	CHECK(arena);
	struct warren_option option = { .name = "size", .help = "help" };
	option.type = (enum warren_option_type)(feed_byte(&feed) % (WARREN_OPT_LIST + 3));
	char *fallback = maybe(&feed), *min = maybe(&feed), *max = maybe(&feed);
	option.fallback = fallback;
	option.min = min;
	option.max = max;
	read_values(arena, &option, &feed);
	free(fallback);
	free(min);
	free(max);
	arena_destroy(arena);
	return 0;
}
