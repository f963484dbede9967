/* Whoever listens where a broker should be: all that it says before and after we have logged in. */
#include <sys/socket.h>
#include <unistd.h>

#include "broker.h"
#include "wire.h"

enum { SESSION_MAX = 400000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[SESSION_MAX];
	struct feed feed = { data, size };
	size_t sent = 0, len;
	int peer;
	struct broker *broker = wire_broker(&peer, 0);
	while (sent < SESSION_MAX / 2 && (len = wire_frame(&feed, room, SESSION_MAX / 2)) > 0) {
		CHECK(send(peer, room, len, MSG_NOSIGNAL) == (ssize_t)len);
		sent += len;
	}
	CHECK(shutdown(peer, SHUT_WR) == 0);
	if (wire_log_in(broker)) {
		struct event event;
		CHECK(is_safe_text(bytes_of(broker_product(broker)), "") ||
		      broker_product(broker)[0]);
		CHECK(broker_version(broker) >= 0 && broker_version(broker) < 10000);
		CHECK(broker_channel_max(broker) >= 1 && broker_channel_max(broker) <= 65535);
		do {
			broker_read(broker, &event);
			event_drop(&event);
		} while (event.kind != EV_LOST);
	}
	broker_destroy(broker, 0);
	close(peer);
	return 0;
}
