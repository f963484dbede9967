/* The HTTP server of a build without libmicrohttpd: there is none. Floor 3. */
#include "clock.h"
#include "http.h"

bool http_is_built(void)
{
	return false;
}

struct http *http_create(http_write *write, void *context)
{
	(void)write, (void)context;
	return NULL;
}

void http_destroy(struct http *http)
{
	(void)http;
}

bool http_prepare(struct http *http, const char *address, int port, char *why, size_t why_size)
{
	(void)http, (void)address, (void)port, (void)why, (void)why_size;
	return true;
}

void http_commit(struct http *http)
{
	(void)http;
}

void http_abandon(struct http *http)
{
	(void)http;
}

size_t http_fds(const struct http *http, struct pollfd *fds)
{
	(void)http, (void)fds;
	return 0;
}

int64_t http_deadline(const struct http *http)
{
	(void)http;
	return CLOCK_NEVER;
}

void http_serve(struct http *http, int64_t now_ns)
{
	(void)http, (void)now_ns;
}
