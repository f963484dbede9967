/* sd_notify's protocol: datagrams of NAME=VALUE lines to the socket that NOTIFY_SOCKET names. */
#include "notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "clock.h"

/* A path, or a name in the abstract namespace, whose '@' stands for the leading zero byte. */
static bool set_address(struct notify *notify, const char *name)
{
	size_t len = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof(notify->to.sun_path))
		return false;
	notify->to.sun_family = AF_UNIX;
	memcpy(notify->to.sun_path, name, len + 1);
	if (name[0] == '@')
		notify->to.sun_path[0] = '\0';
	notify->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	return true;
}

static int64_t whole_number(const char *s)
{
	char *end;
	long long n;

	if (!s || *s == '\0')
		return 0;
	errno = 0;
	n = strtoll(s, &end, 10);
	return errno == 0 && *end == '\0' && n > 0 ? n : 0;
}

static int64_t watchdog_ns(void)
{
	int64_t usec = whole_number(getenv("WATCHDOG_USEC"));
	const char *pid = getenv("WATCHDOG_PID");

	if (pid && whole_number(pid) != getpid())
		return 0; /* meant for somebody else, who passed his environment on */
	return usec <= INT64_MAX / 1000 ? usec * 1000 : 0;
}

void notify_open(struct notify *notify)
{
	/* Losing READY=1 would be worse than waiting a moment for a listener that is busy. */
	const struct timeval patience = { .tv_usec = 200000 };
	const char *name = getenv("NOTIFY_SOCKET");

	*notify = (struct notify){ .fd = -1 };
	if (!name || !set_address(notify, name))
		return;
	notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (notify->fd < 0)
		return;
	(void)setsockopt(notify->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	notify->watchdog_ns = watchdog_ns();
}

void notify_close(struct notify *notify)
{
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

void notify_send(const struct notify *notify, const char *fmt, ...)
{
	char text[512];
	va_list args;
	int len;

	if (notify->fd < 0)
		return;
	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	CHECK(len > 0 && (size_t)len < sizeof(text));
	(void)sendto(notify->fd, text, (size_t)len, MSG_NOSIGNAL,
	    (const struct sockaddr *)&notify->to, notify->to_len);
}
