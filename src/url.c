/* AMQP URLs, read by our own parser: the library's edits its argument and differs by machine.
 * Floor 1. */
#include "url.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "text.h"

enum {
	HOST_MAX = 253,
	NAME_BYTES_MAX = 255, /* user and virtual host: short strings on the wire */
};

/* The parts of a URL as they stand in its text, still encoded. `data` NULL: absent. */
struct parts {
	struct bytes user, password, host, port, vhost;
};

struct parser {
	struct arena *arena;
	struct url *url;
	char *why;
	size_t why_size;
};

/* Never quotes the URL: what was misread may be the password. */
static bool PRINTF_LIKE(2, 3) refuse(struct parser *p, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(p->why, p->why_size, fmt, args);
	va_end(args);
	return false;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent codes into bytes. `what` names the part in the refusal. */
static bool decode(struct parser *p, struct bytes in, const char *what, char **out)
{
	char *text = arena_alloc(p->arena, in.len + 1);
	if (!text)
		return refuse(p, "out of memory");
	size_t len = 0;
	for (size_t i = 0; i < in.len; i++) {
		if (in.data[i] != '%') {
			text[len++] = in.data[i];
			continue;
		}
		int high = i + 2 < in.len ? hex_digit(in.data[i + 1]) : -1;
		int low = i + 2 < in.len ? hex_digit(in.data[i + 2]) : -1;
		if (high < 0 || low < 0)
			return refuse(p,
			    "%s: %% must be followed by two hex digits (a %% itself is %%25)",
			    what);
		if (high == 0 && low == 0)
			return refuse(p, "%s must not hold a NUL byte (%%00)", what);
		text[len++] = (char)(high << 4 | low);
		i += 2;
	}
	text[len] = '\0';
	*out = text;
	return true;
}

static struct bytes span(const char *from, const char *to)
{
	return (struct bytes){ from, (size_t)(to - from) };
}

static const char *find_first(struct bytes in, char c)
{
	return in.len ? memchr(in.data, c, in.len) : NULL;
}

static const char *find_last(struct bytes in, char c)
{
	return in.len ? memrchr(in.data, c, in.len) : NULL;
}

/* The scheme; returns what follows "://", or NULL. */
static const char *read_scheme(struct parser *p, const char *text)
{
	if (strncasecmp(text, "amqp://", 7) == 0)
		return text + 7;
	if (strncasecmp(text, "amqps://", 8) == 0) {
		p->url->tls = true;
		return text + 8;
	}
	(void)refuse(p, "the URL must begin with amqp:// or amqps://");
	return NULL;
}

static bool check_bytes(struct parser *p, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c <= ' ' || c == 0x7F)
			return refuse(p, "the URL holds a space or a control character: write it "
					 "as a percent code");
		if (c == '?' || c == '#')
			return refuse(p,
			    "the URL has a query or a fragment, which warren does not know (in a "
			    "password, ? is written %%3f and # is written %%23)");
	}
	return true;
}

static bool split_host(struct parser *p, struct bytes in, struct parts *parts)
{
	const char *end = in.data + in.len;
	const char *host_end;
	if (in.len > 0 && in.data[0] == '[') {
		const char *bracket = find_first(in, ']');
		if (!bracket || (bracket + 1 < end && bracket[1] != ':'))
			return refuse(p, "the IPv6 address is not closed by ]");
		parts->host = span(in.data + 1, bracket);
		host_end = bracket + 1;
	} else {
		const char *colon = find_first(in, ':');
		host_end = colon ? colon : end;
		parts->host = span(in.data, host_end);
	}
	if (host_end < end)
		parts->port = span(host_end + 1, end);
	return true;
}

/* [user[:password]@]host[:port][/vhost] */
static bool split(struct parser *p, const char *text, struct parts *parts)
{
	const char *slash = strchr(text, '/');
	const char *end = text + strlen(text);
	struct bytes authority = span(text, slash ? slash : end);
	if (slash)
		parts->vhost = span(slash + 1, end);
	if (find_first(parts->vhost, '@'))
		return refuse(p, "there is an @ behind the first slash (a slash in a password is "
				 "written %%2f, an "
				 "@ in a virtual host %%40)");

	const char *at = find_last(authority, '@');
	if (!at)
		return split_host(p, authority, parts);
	struct bytes login = span(text, at);
	const char *colon = find_first(login, ':');
	parts->user = span(text, colon ? colon : at);
	if (colon)
		parts->password = span(colon + 1, at);
	return split_host(p, span(at + 1, text + authority.len), parts);
}

static bool is_host_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_';
}

static bool read_host(struct parser *p, struct bytes in)
{
	if (in.len == 0)
		return refuse(p, "the URL names no host");
	if (in.len > HOST_MAX)
		return refuse(p, "the host is longer than %d bytes", HOST_MAX);
	char *host = arena_dup(p->arena, in.data, in.len);
	if (!host)
		return refuse(p, "out of memory");
	p->url->host = host;
	if (in.data[-1] == '[') {
		struct in6_addr address;
		return inet_pton(AF_INET6, host, &address) == 1 ||
		       refuse(p, "what stands in brackets is not an IPv6 address (zones are not "
				 "supported)");
	}
	for (size_t i = 0; i < in.len; i++)
		if (!is_host_byte(in.data[i]))
			return refuse(p,
			    "the host holds a character that no host name has (in a password, / is "
			    "written %%2f, : is written %%3a, and @ is written %%40)");
	return true;
}

static bool read_port(struct parser *p, struct bytes in)
{
	p->url->port = p->url->tls ? 5671 : 5672;
	if (!in.data)
		return true;
	int port = 0;
	for (size_t i = 0; i < in.len && port <= 65535; i++)
		port =
		    in.data[i] >= '0' && in.data[i] <= '9' ? port * 10 + (in.data[i] - '0') : 65536;
	if (port < 1 || port > 65535)
		return refuse(p, "the port must be a number from 1 to 65535 (a slash in a password "
				 "is written %%2f)");
	p->url->port = port;
	return true;
}

static bool read_login(struct parser *p, const struct parts *parts)
{
	struct bytes user = parts->user.len ? parts->user : BYTES_LIT("guest");
	/* Who names no user means the broker's own one; who names a user alone gives the password
	 * elsewhere. */
	struct bytes password = parts->password;
	if (!parts->user.len && !password.len)
		password = BYTES_LIT("guest");
	if (!decode(p, user, "the user", &p->url->user) ||
	    !decode(p, password, "the password", &p->url->password))
		return false;
	if (strlen(p->url->user) > NAME_BYTES_MAX)
		return refuse(p, "the user is longer than %d bytes", NAME_BYTES_MAX);
	bool is_guest =
	    strcmp(p->url->user, "guest") == 0 && strcmp(p->url->password, "guest") == 0;
	p->url->has_password = parts->password.len > 0 && !is_guest;
	return true;
}

static bool read_vhost(struct parser *p, struct bytes in)
{
	if (in.len == 0 || bytes_is(in, "/"))
		in = BYTES_LIT("%2f");
	if (find_first(in, '/'))
		return refuse(p, "the virtual host holds a slash: write it as %%2f");
	if (!decode(p, in, "the virtual host", &p->url->vhost))
		return false;
	size_t len = strlen(p->url->vhost);
	if (len > NAME_BYTES_MAX)
		return refuse(p, "the virtual host is longer than %d bytes", NAME_BYTES_MAX);
	return text_is_utf8((struct bytes){ p->url->vhost, len }) ||
	       refuse(p, "the virtual host is not UTF-8");
}

/* The same in one spelling, without the password. */
static bool show(struct parser *p, const struct parts *parts)
{
	bool brackets = strchr(p->url->host, ':') != NULL;
	struct bytes vhost = parts->vhost;
	if (vhost.len == 0 || bytes_is(vhost, "/"))
		vhost = BYTES_LIT("%2f");
	p->url->shown = arena_printf(p->arena, "amqp%s://%.*s%s%s%s%s%s:%d/%.*s",
	    p->url->tls ? "s" : "", (int)parts->user.len, parts->user.len ? parts->user.data : "",
	    parts->password.data ? ":***" : "", parts->user.data ? "@" : "", brackets ? "[" : "",
	    p->url->host, brackets ? "]" : "", p->url->port, (int)vhost.len, vhost.data);
	return p->url->shown || refuse(p, "out of memory");
}

bool url_parse(struct arena *arena, const char *text, struct url *url, char *why, size_t why_size)
{
	struct parser p = { arena, url, why, why_size };
	struct parts parts = { 0 };
	*url = (struct url){ 0 };
	const char *rest = read_scheme(&p, text);
	return rest && check_bytes(&p, rest) && split(&p, rest, &parts) &&
	       read_host(&p, parts.host) && read_port(&p, parts.port) && read_login(&p, &parts) &&
	       read_vhost(&p, parts.vhost) && show(&p, &parts);
}
