/* The HTTP server. We listen, accept and end connections ourselves; what is said on them is
 * libmicrohttpd's business, between two calls of http_serve(). */
#include "http.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

enum {
	BACKLOG = 32,
	MEMORY_MAX = 8 * 1024, /* of a connection: its request's line and headers */
	LIMIT_S = 5,           /* from the connection to its end */
	ACCEPT_PAUSE_S = 1,
};

struct listener {
	int fd; /* -1: none */
	int port;
	char address[INET6_ADDRSTRLEN];
};

#define NOWHERE ((struct listener){ .fd = -1 })

struct visit {
	struct MHD_Connection *connection; /* NULL: a free place */
	int fd;
	int64_t deadline_ns; /* CLOCK_NEVER once it was told to end */
};

struct http {
	http_write *write;
	void *context;
	struct MHD_Daemon *library; /* NULL until there is something to listen on */
	int epoll;                  /* the library's */
	struct listener door, next;
	bool changes;
	int64_t accept_ns; /* nothing is accepted before that */
	struct log_complaint accepting;
	struct visit visits[HTTP_CONNECTIONS];
};

/* ---- the library ---- */

/*
 * Opened where something listens, which is in the supervisor alone: it brings others along, and all
 * of them would be two megabytes in every worker process.
 */
#define LIBRARY "libmicrohttpd.so.12" /* the one of its interface that microhttpd.h is of */

#define FUNCTIONS(X)                                                                               \
	X(start_daemon)                                                                            \
	X(stop_daemon)                                                                             \
	X(get_daemon_info)                                                                         \
	X(get_timeout)                                                                             \
	X(run)                                                                                     \
	X(add_connection)                                                                          \
	X(get_connection_info)                                                                     \
	X(create_response_from_buffer)                                                             \
	X(add_response_header)                                                                     \
	X(queue_response)                                                                          \
	X(destroy_response)

#define MEMBER(name) __typeof__(MHD_##name) *name;
static struct {
	FUNCTIONS(MEMBER)
} mhd;

#define ENTRY(name) { "MHD_" #name, &mhd.name },
static const struct {
	const char *name;
	void *member;
} functions[] = { FUNCTIONS(ENTRY) };

static bool open_library(char *why, size_t size)
{
	static void *library;

	if (library)
		return true;
	library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	for (size_t i = 0; library && i < ARRAY_LEN(functions); i++) {
		void *found = dlsym(library, functions[i].name);
		if (!found)
			library = NULL; /* and it stays where it is */
		memcpy(functions[i].member, &found, sizeof(found));
	}
	if (!library)
		(void)snprintf(why, size, "HTTP needs libmicrohttpd: %s", dlerror());
	return library;
}

/* ---- life ---- */

bool http_is_built(void)
{
	return true;
}

struct http *http_create(http_write *write, void *context)
{
	struct http *http = xcalloc(1, sizeof(*http));

	http->write = write;
	http->context = context;
	http->door = http->next = NOWHERE;
	return http;
}

static void close_listener(struct listener *listener)
{
	if (listener->fd >= 0)
		(void)close(listener->fd);
	*listener = NOWHERE;
}

void http_destroy(struct http *http)
{
	if (http->library)
		mhd.stop_daemon(http->library);
	close_listener(&http->next);
	close_listener(&http->door);
	free(http);
}

/* ---- answers ---- */

/* Takes the body over. */
static enum MHD_Result send_page(struct MHD_Connection *connection, const struct http_page *page)
{
	struct MHD_Response *response =
	    mhd.create_response_from_buffer(page->len, page->body, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result sent = MHD_NO;

	if (!response) {
		free(page->body);
		return MHD_NO;
	}
	if (mhd.add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, page->type) &&
	    mhd.add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") &&
	    mhd.add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") &&
	    (page->status != MHD_HTTP_METHOD_NOT_ALLOWED ||
		mhd.add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD")))
		sent = mhd.queue_response(connection, page->status, response);
	mhd.destroy_response(response);
	return sent;
}

static enum MHD_Result send_words(
    struct MHD_Connection *connection, unsigned status, const char *words)
{
	char *body = strdup(words);
	const struct http_page page = { status, "text/plain; charset=utf-8", body, strlen(words) };

	return body ? send_page(connection, &page) : MHD_NO;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
    const char *path, const char *method, const char *version, const char *upload,
    size_t *upload_len, void **state)
{
	struct http *http = context;
	struct http_page page = { .status = MHD_HTTP_OK };

	(void)version, (void)upload, (void)upload_len, (void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return send_words(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (!http->write(http->context, path, &page))
		return send_words(connection, MHD_HTTP_NOT_FOUND,
		    "there is no such page; / lists those there are\n");
	if (!page.body)
		return send_words(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
	return send_page(connection, &page);
}

/* ---- connections ---- */

static struct visit *find_visit(struct http *http, const struct MHD_Connection *connection)
{
	for (size_t i = 0; i < HTTP_CONNECTIONS; i++)
		if (http->visits[i].connection == connection)
			return &http->visits[i];
	return NULL;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **state,
    enum MHD_ConnectionNotificationCode what)
{
	struct http *http = context;
	struct visit *visit =
	    find_visit(http, what == MHD_CONNECTION_NOTIFY_STARTED ? NULL : connection);
	const union MHD_ConnectionInfo *info =
	    mhd.get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	(void)state;
	CHECK(visit && info); /* we have counted before it was given to the library */
	*visit = (struct visit){ 0 };
	if (what == MHD_CONNECTION_NOTIFY_STARTED)
		*visit = (struct visit){ connection, info->connect_fd,
			clock_mono_ns() + LIMIT_S * NS_PER_S };
}

/* The library sees the end of the connection, and closes it. */
static void end_overdue(struct http *http, int64_t now_ns)
{
	for (size_t i = 0; i < HTTP_CONNECTIONS; i++) {
		struct visit *visit = &http->visits[i];

		if (!visit->connection || now_ns < visit->deadline_ns)
			continue;
		(void)shutdown(visit->fd, SHUT_RDWR);
		visit->deadline_ns = CLOCK_NEVER;
	}
}

static bool has_room(struct http *http)
{
	return find_visit(http, NULL) != NULL;
}

/* Without a descriptor for it the client stays where poll() would report it again at once. */
static void pause_accepting(struct http *http, int64_t now_ns)
{
	uint64_t silent;
	int why = errno;

	http->accept_ns = now_ns + ACCEPT_PAUSE_S * NS_PER_S;
	if (log_complain(&http->accepting, &silent))
		log_event(
		    LOG_ERROR, "http.deaf", L_STR("why", strerror(why)), L_INT("silent", silent));
}

static void accept_clients(struct http *http, int64_t now_ns)
{
	struct sockaddr_storage from;
	int64_t lasted_ns;

	for (int i = 0; i < HTTP_CONNECTIONS && http->door.fd >= 0 && has_room(http); i++) {
		socklen_t len = sizeof(from);
		int fd = accept4(
		    http->door.fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			/* it closes what it cannot take */
			(void)mhd.add_connection(http->library, fd, (struct sockaddr *)&from, len);
			if (log_healed(&http->accepting, &lasted_ns))
				log_event(LOG_INFO, "http.hears", L_NS("after", lasted_ns));
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			pause_accepting(http, now_ns);
			return;
		}
	}
}

size_t http_fds(const struct http *http, struct pollfd *fds)
{
	bool full = true;
	size_t n = 0;

	if (!http->library)
		return 0;
	for (size_t i = 0; i < HTTP_CONNECTIONS; i++)
		full = full && http->visits[i].connection;
	fds[n++] = (struct pollfd){ .fd = http->epoll, .events = POLLIN };
	if (http->door.fd >= 0 && http->accept_ns == 0 && !full)
		fds[n++] = (struct pollfd){ .fd = http->door.fd, .events = POLLIN };
	return n;
}

int64_t http_deadline(const struct http *http)
{
	int64_t at_ns = http->accept_ns ? http->accept_ns : CLOCK_NEVER;
	MHD_UNSIGNED_LONG_LONG ms;

	if (!http->library)
		return CLOCK_NEVER;
	if (mhd.get_timeout(http->library, &ms) == MHD_YES)
		at_ns = ms == 0 ? 0 : clock_mono_ns() + (int64_t)ms * NS_PER_MS;
	for (size_t i = 0; i < HTTP_CONNECTIONS; i++)
		if (http->visits[i].connection && http->visits[i].deadline_ns < at_ns)
			at_ns = http->visits[i].deadline_ns;
	return at_ns;
}

void http_serve(struct http *http, int64_t now_ns)
{
	if (!http->library)
		return;
	if (http->accept_ns == 0 || now_ns >= http->accept_ns) {
		http->accept_ns = 0;
		accept_clients(http, now_ns);
	}
	end_overdue(http, now_ns);
	(void)mhd.run(http->library);
}

/* ---- where it listens ---- */

static bool start_library(struct http *http)
{
	const union MHD_DaemonInfo *info;

	if (http->library)
		return true;
	errno = 0;
	http->library = mhd.start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
	    on_request, http, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_MAX, MHD_OPTION_NOTIFY_CONNECTION,
	    on_connection, http, MHD_OPTION_END);
	if (!http->library) {
		if (errno == 0) /* it does not say of all that it lacks */
			errno = ENOMEM;
		return false;
	}
	info = mhd.get_daemon_info(http->library, MHD_DAEMON_INFO_EPOLL_FD);
	CHECK(info);
	http->epoll = info->epoll_fd;
	return true;
}

/* The configuration holds nothing but IP addresses. */
static socklen_t read_address(const char *text, int port, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return sizeof(*v4);
	}
	CHECK(inet_pton(AF_INET6, text, &v6->sin6_addr) == 1);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	return sizeof(*v6);
}

static void set_option(int fd, int level, int option, int value)
{
	(void)setsockopt(fd, level, option, &value, sizeof(value)); /* then bind() says it */
}

/* `shares`: with a listener of ours on the same port, of which one may be for all addresses. */
static bool listen_at(struct listener *listener, bool shares)
{
	struct sockaddr_storage at;
	socklen_t len = read_address(listener->address, listener->port, &at);

	listener->fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		return false;
	set_option(listener->fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (at.ss_family == AF_INET6)
		set_option(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	set_option(listener->fd, SOL_SOCKET, SO_REUSEPORT, shares);
	return bind(listener->fd, (struct sockaddr *)&at, len) == 0 &&
	       listen(listener->fd, BACKLOG) == 0;
}

static bool is_at(const struct listener *listener, const char *address, int port)
{
	return listener->fd >= 0 && listener->port == port &&
	       strcmp(listener->address, address) == 0;
}

bool http_prepare(struct http *http, const char *address, int port, char *why, size_t why_size)
{
	bool shares = http->door.fd >= 0 && http->door.port == port;

	CHECK(!http->changes);
	if (is_at(&http->door, address, port))
		return true;
	if (port != 0 && !open_library(why, why_size))
		return false;
	if (port != 0) {
		http->next.port = port;
		(void)snprintf(http->next.address, sizeof(http->next.address), "%s", address);
		if (shares)
			set_option(http->door.fd, SOL_SOCKET, SO_REUSEPORT, 1);
		if (!listen_at(&http->next, shares) || !start_library(http)) {
			(void)snprintf(why, why_size, "cannot listen on %s port %d: %s", address,
			    port, strerror(errno));
			close_listener(&http->next);
			return false;
		}
	}
	http->changes = true;
	return true;
}

void http_commit(struct http *http)
{
	if (!http->changes)
		return;
	close_listener(&http->door);
	http->door = http->next;
	http->next = NOWHERE;
	http->changes = false;
	if (http->door.fd >= 0)
		log_event(LOG_INFO, "http.listening", L_STR("address", http->door.address),
		    L_INT("port", http->door.port));
}

void http_abandon(struct http *http)
{
	close_listener(&http->next);
	http->changes = false;
}
