/* What the service manager is told (sd_notify's protocol, by ourselves): nothing where it does not
 * listen. Floor 3. */
#ifndef WARREN_NOTIFY_H
#define WARREN_NOTIFY_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base.h"

struct notify {
	int fd; /* -1: nobody listens */
	struct sockaddr_un to;
	socklen_t to_len;
	int64_t watchdog_ns; /* how often it wants to hear from us at least; 0: it does not */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. */
void notify_open(struct notify *notify);
void notify_close(struct notify *notify);

/* One datagram of NAME=VALUE lines. What cannot be sent is dropped. */
void notify_send(const struct notify *notify, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
