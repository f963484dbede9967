/* Attempts to connect to several addresses, side by side. */
#include "dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

enum { ADDRESSES_MAX = 8 };

#define NEXT_NS (250 * NS_PER_MS) /* as RFC 8305 has it */

/* The attempts that are under way. */
struct attempts {
	struct pollfd p[ADDRESSES_MAX];
	nfds_t n;
	int why; /* errno of the last one that failed */
};

static void set_up(int fd)
{
	const int on = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static void begin(struct attempts *attempts, const struct addrinfo *address)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		set_up(fd);
		/* One that connects at once is writable at once. */
		if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 ||
		    errno == EINPROGRESS) {
			attempts->p[attempts->n++] = (struct pollfd){ .fd = fd, .events = POLLOUT };
			return;
		}
	}
	attempts->why = errno;
	if (fd >= 0)
		close(fd);
}

static int outcome_of(int fd)
{
	int why = 0;
	socklen_t len = sizeof(why);
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len) == 0 ? why : errno;
}

/* Takes one that has connected out of the attempts, and closes those that have failed. */
static int harvest(struct attempts *attempts)
{
	for (nfds_t i = 0; i < attempts->n;) {
		struct pollfd p = attempts->p[i];
		int why = p.revents ? outcome_of(p.fd) : 0;
		if (!p.revents) {
			i++;
			continue;
		}
		attempts->p[i] = attempts->p[--attempts->n];
		if (why == 0)
			return p.fd;
		attempts->why = why;
		close(p.fd);
	}
	return -1;
}

static enum dialled race(const struct addrinfo *next, int64_t deadline_ns, int *fd)
{
	struct attempts attempts = { .n = 0 };
	int64_t next_ns = 0;
	*fd = -1;
	while (*fd < 0 && (next || attempts.n > 0) && clock_mono_ns() < deadline_ns) {
		bool more = next && attempts.n < ADDRESSES_MAX;
		if (more && (attempts.n == 0 || clock_mono_ns() >= next_ns)) {
			begin(&attempts, next);
			next = next->ai_next;
			next_ns = clock_mono_ns() + NEXT_NS;
			more = next && attempts.n < ADDRESSES_MAX;
		}
		int64_t until = more && next_ns < deadline_ns ? next_ns : deadline_ns;
		if (attempts.n > 0 && poll(attempts.p, attempts.n, clock_until_ms(until, 1000)) > 0)
			*fd = harvest(&attempts);
	}
	bool late = attempts.n > 0 || next;
	for (nfds_t i = 0; i < attempts.n; i++)
		close(attempts.p[i].fd);
	errno = attempts.why;
	return *fd >= 0 ? DIALLED : late ? DIAL_LATE : DIAL_REFUSED;
}

enum dialled dial(const char *host, int port, int64_t deadline_ns, int *fd)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *addresses;
	char service[16];
	(void)snprintf(service, sizeof(service), "%d", port);
	if (getaddrinfo(host, service, &hints, &addresses) != 0)
		return DIAL_NO_NAME;
	enum dialled result = race(addresses, deadline_ns, fd);
	int why = errno;
	freeaddrinfo(addresses);
	errno = why;
	return result;
}
