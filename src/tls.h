/*
 * TLS by OpenSSL: whom we trust, who we are, and why a handshake failed. rabbitmq-c does the
 * handshake itself, in a context that is set up here. Floor 2.
 */
#ifndef WARREN_TLS_H
#define WARREN_TLS_H

#include "conf.h"

struct ssl_ctx_st; /* SSL_CTX */

/* Call once per process before the first connection and before any thread. */
void tls_init(void);

/* IPv4 or IPv6, rather than a name. */
bool tls_is_address(const char *host);

/*
 * Makes the context demand what the configuration says, of a server reached as `host`. Host names
 * are left to rabbitmq-c; an address is compared with the certificate here, which rabbitmq-c
 * cannot.
 */
bool tls_set_up(struct ssl_ctx_st *ctx, const struct conf_tls *conf, const char *host, char *why,
    size_t why_size) MUST_CHECK;

/* True when the files of the configuration can be used: what start and reload ask beforehand. */
bool tls_check(const struct conf_tls *conf, char *why, size_t why_size) MUST_CHECK;

/* Around one handshake in the calling thread: forgets what was before, and says what went wrong;
 * `code` is the errno of it, for what OpenSSL does not know. */
void tls_begin(void);
void tls_explain(int code, char *why, size_t why_size);

#endif
