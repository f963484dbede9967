/* One question to a running daemon. */
#include "ask.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

enum {
	LINE_MAX_BYTES = 4096,
	ANSWER_MAX = 64 * 1024 * 1024, /* what thousands of queues need is a tenth of it */
	RETRY_MS = 50, /* until the next try to connect to a daemon whose backlog is full */
};

struct ask {
	char *socket;
	char *line;
	size_t line_len, sent;
	int fd; /* -1: not connected */
	char *answer;
	size_t len, room;
	enum ask_state state;
	int code;
	char why[1024];
};

/* ---- where ---- */

static char *socket_in(const char *folder, size_t len, const char *below)
{
	return xasprintf("%.*s%s/warren.sock", (int)len, folder, below);
}

char *ask_default_socket(void)
{
	const char *runtime = getenv("RUNTIME_DIRECTORY"), *session = getenv("XDG_RUNTIME_DIR");
	char *tried[3];
	size_t n = 0;
	if (runtime && *runtime) /* systemd parts several with colons */
		tried[n++] = socket_in(runtime, strcspn(runtime, ":"), "");
	if (session && *session)
		tried[n++] = socket_in(session, strlen(session), "/warren");
	tried[n++] = xstrdup("/run/warren/warren.sock");
	size_t chosen = 0;
	while (chosen < n && access(tried[chosen], F_OK) != 0 && errno != EACCES)
		chosen++;
	if (chosen == n)
		chosen = 0;
	for (size_t i = 0; i < n; i++)
		if (i != chosen)
			free(tried[i]);
	return tried[chosen];
}

/* ---- what ---- */

static bool stays(unsigned char c)
{
	return c > 0x20 && c < 0x7F && c != '%';
}

char *ask_line(const char *const *words, size_t n)
{
	char *line = NULL;
	size_t len;
	FILE *out = or_die(open_memstream(&line, &len));
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			(void)putc(' ', out);
		for (const char *p = words[i]; *p; p++)
			if (stays((unsigned char)*p))
				(void)putc(*p, out);
			else
				(void)fprintf(out, "%%%02X", (unsigned char)*p);
	}
	(void)putc('\n', out);
	if (fclose(out) != 0)
		(void)or_die(NULL);
	if (len <= LINE_MAX_BYTES)
		return line;
	free(line);
	return NULL;
}

/* ---- failures, with what helps ---- */

static void PRINTF_LIKE(3, 4) fail(struct ask *ask, int code, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(ask->why, sizeof(ask->why), fmt, args);
	va_end(args);
	ask->state = ASK_FAILED;
	ask->code = code;
}

/* The group that may go where we may not, as "group NAME". */
static char *group_of(const struct stat *st)
{
	const struct group *group = getgrgid(st->st_gid);
	return group ? xasprintf("group %s", group->gr_name)
		     : xasprintf("group %u", (unsigned)st->st_gid);
}

static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	return len > 0 ? xasprintf("%.*s", (int)len, path) : xstrdup(slash ? "/" : ".");
}

static void fail_denied(struct ask *ask)
{
	struct stat st;
	char *folder = folder_of(ask->socket);
	const char *closed = stat(ask->socket, &st) == 0 ? ask->socket : folder;
	if (closed == ask->socket || stat(folder, &st) == 0) {
		char *group = group_of(&st);
		fail(ask, EXIT_REFUSED,
		    "you may not use %s: it takes root, or a member of %s (as root: usermod -aG, "
		    "then log in anew)",
		    closed, group);
		free(group);
	} else {
		fail(ask, EXIT_REFUSED, "you may not use %s: a folder above it is closed to you",
		    ask->socket);
	}
	free(folder);
}

static void fail_connect(struct ask *ask, int why)
{
	switch (why) {
	case ENOENT:
		fail(ask, EXIT_UNAVAILABLE,
		    "no warrend is running with the socket %s: there is no such file. Start "
		    "warrend, or "
		    "name its socket with -s, or its configuration with -c",
		    ask->socket);
		return;
	case ECONNREFUSED:
		fail(ask, EXIT_UNAVAILABLE,
		    "no warrend is running with the socket %s: the one that made it has ended. Its "
		    "last words are in the log (journalctl -u warrend); start it again",
		    ask->socket);
		return;
	case EACCES:
	case EPERM:
		fail_denied(ask);
		return;
	default:
		fail(ask, EXIT_UNAVAILABLE, "cannot connect to %s: %s", ask->socket, strerror(why));
	}
}

static void fail_lost(struct ask *ask)
{
	fail(ask, EXIT_UNAVAILABLE,
	    ask->len > 0 ? "warrend went away in the middle of its answer; its log says why"
			 : "warrend went away without an answer; its log says why");
}

/* ---- steps ---- */

static bool set_address(struct ask *ask, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	size_t len = strlen(ask->socket);
	if (len >= sizeof(address->sun_path)) {
		fail(ask, EXIT_USAGE, "the path of the socket is longer than %zu bytes: %s",
		    sizeof(address->sun_path) - 1, ask->socket);
		return false;
	}
	memcpy(address->sun_path, ask->socket, len);
	return true;
}

struct ask *ask_start(const char *socket_path, const char *line)
{
	struct ask *ask = xcalloc(1, sizeof(*ask));
	ask->socket = xstrdup(socket_path);
	ask->line = xstrdup(line);
	ask->line_len = strlen(line);
	ask->fd = -1;
	return ask;
}

/* True when connected. A full backlog is no failure: a daemon lives behind it. */
static bool step_connect(struct ask *ask)
{
	struct sockaddr_un address;
	if (!set_address(ask, &address))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
		ask->fd = fd;
		return true;
	}
	int why = errno;
	if (fd >= 0)
		(void)close(fd);
	if (why != EAGAIN && why != EINTR)
		fail_connect(ask, why);
	return false;
}

/* A daemon that does not want our line may all the same have said why. */
static void step_write(struct ask *ask)
{
	ssize_t n = send(ask->fd, ask->line + ask->sent, ask->line_len - ask->sent, MSG_NOSIGNAL);
	if (n > 0)
		ask->sent += (size_t)n;
	else if (errno != EAGAIN && errno != EINTR)
		ask->sent = ask->line_len;
}

static bool make_room(struct ask *ask)
{
	enum { FIRST = 64 * 1024 };
	if (ask->len < ask->room)
		return true;
	if (ask->room >= ANSWER_MAX) {
		fail(ask, EXIT_INTERNAL, "the answer is longer than %d MiB", ANSWER_MAX >> 20);
		return false;
	}
	ask->room = ask->room ? 2 * ask->room : FIRST;
	ask->answer = or_die(realloc(ask->answer, ask->room));
	return true;
}

static void end_answer(struct ask *ask)
{
	if (ask->len > 0 && ask->answer[ask->len - 1] == '\n')
		ask->state = ASK_ANSWERED;
	else
		fail_lost(ask);
}

/* False when there is nothing more to read now. */
static bool step_read(struct ask *ask)
{
	if (!make_room(ask))
		return false;
	ssize_t n = recv(ask->fd, ask->answer + ask->len, ask->room - ask->len, 0);
	if (n > 0) {
		ask->len += (size_t)n;
		return true;
	}
	if (n < 0 && errno == EINTR)
		return true;
	if (n == 0 || errno != EAGAIN)
		end_answer(ask);
	return false;
}

enum ask_state ask_step(struct ask *ask)
{
	if (ask->state == ASK_BUSY && ask->fd < 0 && !step_connect(ask))
		return ask->state;
	if (ask->state == ASK_BUSY && ask->sent < ask->line_len)
		step_write(ask);
	if (ask->state == ASK_BUSY && ask->sent == ask->line_len)
		while (step_read(ask))
			;
	return ask->state;
}

int ask_poll(const struct ask *ask, struct pollfd *p)
{
	*p = (struct pollfd){ .fd = ask->fd,
		.events = ask->sent < ask->line_len ? POLLOUT : POLLIN };
	return ask->fd < 0 ? RETRY_MS : -1;
}

enum ask_state ask_wait(struct ask *ask, int64_t deadline_ns)
{
	enum { STEP_MS = 60 * 1000 };
	while (ask_step(ask) == ASK_BUSY) {
		struct pollfd p;
		int cap_ms = ask_poll(ask, &p);
		int wait_ms = clock_until_ms(deadline_ns, cap_ms < 0 ? STEP_MS : cap_ms);
		if (wait_ms == 0)
			break;
		(void)poll(&p, 1, wait_ms);
	}
	return ask->state;
}

struct bytes ask_answer(const struct ask *ask)
{
	return (struct bytes){ ask->answer, ask->len > 0 ? ask->len - 1 : 0 };
}

const char *ask_why(const struct ask *ask)
{
	return ask->why;
}

int ask_code(const struct ask *ask)
{
	return ask->code;
}

void ask_end(struct ask *ask)
{
	if (!ask)
		return;
	if (ask->fd >= 0)
		(void)close(ask->fd);
	free(ask->answer);
	free(ask->line);
	free(ask->socket);
	free(ask);
}
