/* Messages between supervisor and worker: a datagram is the head and the text there is. */
#include "ipc.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { IPC_HEAD = offsetof(struct ipc_msg, text) };

bool ipc_pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0;
}

bool ipc_send(int fd, enum ipc_word word, int64_t number, const char *text)
{
	struct ipc_msg msg = { .word = word, .number = number };
	size_t len = text ? strnlen(text, sizeof(msg.text)) : 0;
	ssize_t sent;

	msg.len = (uint32_t)len;
	if (len > 0)
		memcpy(msg.text, text, len);
	do
		sent = send(fd, &msg, IPC_HEAD + len, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent >= 0;
}

/* A peer may be a process whose memory a plugin has spoilt: nothing it sends is taken on trust. */
static bool makes_sense(const struct ipc_msg *msg, size_t got)
{
	return got >= IPC_HEAD && msg->len == got - IPC_HEAD && msg->word >= IPC_LOADED &&
	       msg->word <= IPC_CANCEL;
}

int ipc_recv(int fd, struct ipc_msg *msg)
{
	ssize_t got;

	do /* MSG_TRUNC: the true length comes back, also where it is more than we can hold */
		got = recv(fd, msg, sizeof(*msg), MSG_TRUNC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
	return (size_t)got <= sizeof(*msg) && makes_sense(msg, (size_t)got) ? 1 : -1;
}
