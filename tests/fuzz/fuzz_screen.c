/* What a daemon, or who pretends to be one, says: no screen of it drives a terminal or is too wide.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "screen.h"

enum { WIDTH = 80 };

static void check_lines(char *text)
{
	for (char *line; (line = strsep(&text, "\n"));)
		CHECK(pen_width(line) <= WIDTH);
}

static void check_screen(const json_t *status, bool all)
{
	struct memory memory;
	struct stream_pen pen = pen_to(memory_open(&memory), false);
	screen_put_status(&pen.pen, status, WIDTH, all);
	screen_put_detail(&pen.pen, status, WIDTH);
	struct bytes text = memory_close(&memory);
	CHECK(is_safe_text(text, "\n"));
	check_lines(memory.text);
	free(memory.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char why[256];
	json_t *status = reply_parse((struct bytes){ (const char *)data, size }, why, sizeof(why));
	pen_set_locale();
	if (!status)
		return 0;
	check_screen(status, false);
	check_screen(status, true);
	json_decref(status);
	return 0;
}
