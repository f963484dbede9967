/* Bytes of a broker that may be anybody, on a connection that is up: frames in, events out. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker.h"
#include "wire.h"

enum { CHANNELS = 4, FRAME_ROOM = 131072 };

static void check_event(const struct event *event)
{
	switch (event->kind) {
	case EV_NONE:
	case EV_LOST:
		CHECK(!event->arena);
		break;
	case EV_DELIVERY:
	case EV_GOT:
		CHECK(event->arena && (event->msg.body.len == 0 || event->msg.body.data));
		CHECK(event->channel >= 1 && event->channel <= CHANNELS);
		break;
	case EV_RETURNED:
		CHECK(event->arena && event->msg.body.len == 0);
		break;
	default:
		CHECK(!event->arena && event->channel <= CHANNELS);
	}
}

/* Reads all there is. Answers of ours lie in the peer's buffer, which is emptied as well. */
static bool read_events(struct broker *broker, int peer)
{
	static char answers[65536];
	for (;;) {
		struct event event;
		broker_read(broker, &event);
		check_event(&event);
		enum event_kind kind = event.kind;
		event_drop(&event);
		while (recv(peer, answers, sizeof(answers), MSG_DONTWAIT) > 0)
			continue;
		if (kind == EV_NONE || kind == EV_LOST)
			return kind == EV_NONE;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[FRAME_ROOM];
	struct feed feed = { data, size };
	int peer;
	struct broker *broker = wire_broker(&peer, FRAME_ROOM);
	bool up = true;
	wire_channels(broker, feed_byte(&feed));
	for (size_t len; up && (len = wire_frame(&feed, room, sizeof(room))) > 0;) {
		CHECK(send(peer, room, len, MSG_NOSIGNAL) == (ssize_t)len);
		up = read_events(broker, peer);
	}
	CHECK(shutdown(peer, SHUT_WR) == 0);
	while (up)
		up = read_events(broker, peer);
	const struct broker_error *why = broker_last_error(broker);
	CHECK(why->fault != FAULT_NONE && why->text[0]);
	/* The last word on a message that the library cannot read. */
	if (why->fault == FAULT_UNREADABLE)
		CHECK(broker_reject(broker, why->channel, why->tag) || errno);
	broker_destroy(broker, 0);
	close(peer);
	return 0;
}
