/*
 * The HTTP server: GET and HEAD of pages that somebody else writes, on libmicrohttpd without
 * threads, so that it runs in the supervisor's loop. Every connection is for one request, ends
 * after five seconds whatever its client does, and costs 8 KiB; there are 16 at a time, the next
 * ones wait with the kernel. Floor 3; the only door to libmicrohttpd.
 */
#ifndef WARREN_HTTP_H
#define WARREN_HTTP_H

#include <poll.h>

#include "base.h"

enum {
	HTTP_CONNECTIONS = 16,
	HTTP_FDS = 2,
};

struct http;

struct http_page {
	unsigned status;  /* 200, 503 */
	const char *type; /* Content-Type */
	char *body;       /* malloc'ed; NULL: memory was short */
	size_t len;
};

/* Writes the page; false when there is none of that path. */
typedef bool http_write(void *context, const char *path, struct http_page *page);

/* False where warren was built without libmicrohttpd: then nothing ever listens. */
bool http_is_built(void);

/* For the start of a process: does not return NULL. */
struct http *http_create(http_write *write, void *context);
void http_destroy(struct http *http);

/*
 * Listens, from http_commit() on in the place of what was listened on before; http_abandon()
 * forgets it. Port 0: nowhere. False with why.
 */
bool http_prepare(
    struct http *http, const char *address, int port, char *why, size_t why_size) MUST_CHECK;
void http_commit(struct http *http);
void http_abandon(struct http *http);

/* What poll() has to look at, at most HTTP_FDS; returns how many. */
size_t http_fds(const struct http *http, struct pollfd *fds);
/* When http_serve() has to be called at the latest. */
int64_t http_deadline(const struct http *http);
void http_serve(struct http *http, int64_t now_ns);

#endif
