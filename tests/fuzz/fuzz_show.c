/* A message in words, for people and as JSON: no line of it passes for another, nothing drives a
 * terminal. */
#include "show.h"

#include <stdlib.h>
#include <string.h>

#include "wire.h"

/* The lines of a block in their order; a header may stand any number of times, and so may a line of
 * the body. */
static const char *const lines[] = { "queue: ", "exchange: ", "routing_key: ", "redelivered: ",
	"content_type: ", "content_encoding: ", "delivery_mode: ", "priority: ", "correlation_id: ",
	"reply_to: ", "expiration: ", "message_id: ", "timestamp: ", "type: ", "user_id: ",
	"app_id: ", "cluster_id: ", "header ", "flaw: ", "body: ", "  " };

static bool begins(struct bytes line, const char *with)
{
	return line.len >= strlen(with) && memcmp(line.data, with, strlen(with)) == 0;
}

static void check_block(const struct msg *msg)
{
	struct memory memory;
	size_t kind = 0, bodies = 0;
	show_block(memory_open(&memory), msg, "work");
	struct bytes all = memory_close(&memory);
	CHECK(all.len > 2 && memcmp(all.data + all.len - 2, "\n\n", 2) == 0);
	CHECK(is_safe_text(all, "\n\t"));
	for (size_t at = 0; at < all.len - 1;) {
		const char *end = memchr(all.data + at, '\n', all.len - at);
		struct bytes line = { all.data + at, (size_t)(end - all.data) - at };
		while (kind < ARRAY_LEN(lines) && !begins(line, lines[kind]))
			kind++;
		CHECK(kind < ARRAY_LEN(lines));
		bodies += begins(line, "body: ");
		at += line.len + 1;
	}
	CHECK(bodies == 1);
	free(memory.text);
}

static void check_json(const struct msg *msg)
{
	struct memory memory;
	show_json(memory_open(&memory), msg, "work");
	struct bytes all = memory_close(&memory);
	CHECK(all.len > 0 && all.data[all.len - 1] == '\n');
	CHECK(is_json((struct bytes){ all.data, all.len - 1 }));
	free(memory.text);
}

/* A dead letter is one line, and its JSON is JSON. */
static void check_letter(const struct msg *msg)
{
	struct memory memory;
	struct letter letter;
	letter_read(msg, &letter);
	show_letter(memory_open(&memory), &letter, msg, 1, 0);
	struct bytes all = memory_close(&memory);
	CHECK(is_safe_text(all, "\n"));
	CHECK(memchr(all.data, '\n', all.len) == all.data + all.len - 1);
	free(memory.text);
	show_letter_json(memory_open(&memory), &letter, msg, 1, 0);
	all = memory_close(&memory);
	CHECK(is_json((struct bytes){ all.data, all.len - 1 }));
	free(memory.text);
}

/* What is replayed can be sent, and says of itself what it said before. */
static void check_replay(const struct msg *msg, struct arena *arena)
{
	struct letter letter, again;
	struct outgoing out;
	letter_read(msg, &letter);
	CHECK(letter_replay(&letter, msg, BYTES_LIT("work"), 1, arena, &out));
	const struct msg copy = { .props = out.props, .body = out.body };
	letter_read(&copy, &again);
	CHECK(bytes_is(again.queue, "work") && again.attempts == 1 && again.at_ms == 1);
	CHECK(again.has_origin == letter.has_origin);
	CHECK(!again.has_origin || bytes_equal(again.routing_key, letter.routing_key));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = { data, size };
	struct arena *arena = arena_create();
	struct msg msg;
	CHECK(arena);
	struct bytes exchange = feed_bytes(&feed, 255), key = feed_bytes(&feed, 255);
	struct bytes body = feed_bytes(&feed, 6000);
	if (wire_message(&feed, arena, &msg)) {
		msg.exchange = exchange;
		msg.routing_key = key;
		msg.body = body;
		check_block(&msg);
		check_json(&msg);
		check_letter(&msg);
		check_replay(&msg, arena);
	}
	arena_destroy(arena);
	return 0;
}
