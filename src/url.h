/* AMQP URLs, read by our own parser: amqp://user:password@host:port/vhost. Floor 1. */
#ifndef WARREN_URL_H
#define WARREN_URL_H

#include "conf.h"

/*
 * Takes `text` apart into arena memory. Understands amqp and amqps (any case), percent codes for
 * any byte but NUL, [IPv6], an absent or "/" path as vhost "/", "//" (as some clients write it) as
 * "/", and refuses what it does not understand (query, fragment, port out of range) with the reason
 * in `why`, which never holds the password.
 */
bool url_parse(
    struct arena *arena, const char *text, struct url *url, char *why, size_t why_size) MUST_CHECK;

#endif
