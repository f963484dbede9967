/* Messages between supervisor and worker: any datagram is a message that makes sense, or refused.
 * The control protocol of the operator's socket is another one. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "ipc.h"
#include "suspect.h"

static void check_message(const struct ipc_msg *msg)
{
	CHECK(msg->word >= IPC_LOADED && msg->word <= IPC_CANCEL);
	CHECK(msg->len <= IPC_TEXT_MAX);
	/* About which message a worker speaks. */
	struct bytes text = { msg->text, msg->len };
	uint8_t identity[IDENTITY_LEN], again[IDENTITY_LEN];
	char shown[2 * IDENTITY_LEN + 1];
	if (!identity_read(text, identity))
		return;
	identity_show(identity, shown);
	CHECK(identity_read(bytes_of(shown), again) && memcmp(identity, again, sizeof(again)) == 0);
	CHECK(strncasecmp(shown, msg->text, msg->len) == 0 && msg->len == strlen(shown));
}

/* What arrives is what was sent, cut at the bound. */
static void check_own(int fds[2], enum ipc_word word, int64_t number, const char *text)
{
	struct ipc_msg msg;
	size_t len = strlen(text) < IPC_TEXT_MAX ? strlen(text) : IPC_TEXT_MAX;
	CHECK(ipc_send(fds[0], word, number, text));
	CHECK(ipc_recv(fds[1], &msg) == 1);
	CHECK(msg.word == word && msg.number == number && msg.len == len);
	CHECK(memcmp(msg.text, text, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = { data, size };
	struct ipc_msg msg;
	int fds[2];
	CHECK(ipc_pair(fds));
	enum ipc_word word = IPC_LOADED + feed_byte(&feed) % IPC_CANCEL;
	int64_t number = (int64_t)feed_number(&feed, 8);
	char *text = feed_string(&feed, 1500);
	check_own(fds, word, number, text);
	free(text);

	struct bytes rest = feed_rest(&feed);
	memset(&msg, 0xA5, sizeof(msg));
	if (send(fds[0], rest.data, rest.len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
		int got = ipc_recv(fds[1], &msg);
		CHECK(got == 1 || got == -1);
		if (got == 1)
			check_message(&msg);
	}
	CHECK(ipc_recv(fds[1], &msg) == 0);
	close(fds[0]);
	CHECK(ipc_recv(fds[1], &msg) == -1);
	close(fds[1]);
	return 0;
}
