/* What TLS connections trust and show, and OpenSSL's reasons in words. */
#include "tls.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

/* Why the peer's certificate was refused in this thread's last handshake; X509_V_OK: it was not. */
static _Thread_local int refusal;

void tls_init(void)
{
	(void)OPENSSL_init_ssl(0, NULL);
}

/* ---- reasons ---- */

void tls_begin(void)
{
	refusal = X509_V_OK;
	ERR_clear_error();
}

static int note_refusal(int fine, X509_STORE_CTX *store)
{
	if (!fine && refusal == X509_V_OK)
		refusal = X509_STORE_CTX_get_error(store);
	return fine;
}

/* OpenSSL's first reason, which says more than what followed from it: "bad decrypt", or "". */
static const char *first_reason(void)
{
	unsigned long error = ERR_peek_error();
	if (ERR_GET_LIB(error) == ERR_LIB_SYS)
		return strerror(ERR_GET_REASON(error));
	const char *reason = error ? ERR_reason_error_string(error) : NULL;
	return reason ? reason : "";
}

static const char *hint(void)
{
	unsigned long error = ERR_peek_error();
	if (ERR_GET_LIB(error) != ERR_LIB_SSL)
		return "";
	switch (ERR_GET_REASON(error)) {
	case SSL_R_WRONG_VERSION_NUMBER:
		return " (does anybody speak TLS there?)";
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
		return " (TLS 1.2 or newer is needed)";
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
	case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
		return " (does the broker want a client certificate?)";
	default:
		return "";
	}
}

static bool is_mere_end(void)
{
	unsigned long error = ERR_peek_error();
	return error == 0 || (ERR_GET_LIB(error) == ERR_LIB_SSL &&
				 ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING);
}

void tls_explain(int code, char *why, size_t why_size)
{
	if (refusal == X509_V_ERR_IP_ADDRESS_MISMATCH)
		(void)snprintf(why, why_size, "the certificate has no entry for this IP address");
	else if (refusal != X509_V_OK)
		(void)snprintf(why, why_size, "the certificate is not trusted: %s",
		    X509_verify_cert_error_string(refusal));
	else if (!is_mere_end())
		(void)snprintf(why, why_size, "TLS handshake: %s%s", first_reason(), hint());
	else
		(void)snprintf(why, why_size, "TLS handshake: %s",
		    code ? strerror(code) : "the other side closed the connection");
}

/* ---- files ---- */

static bool cannot_use(char *why, size_t why_size, const char *what, const char *file)
{
	(void)snprintf(why, why_size, "%s %s cannot be used: %s", what, file, first_reason());
	return false;
}

/* Never asks on the terminal, which is what OpenSSL does by itself. */
static int give_password(char *out, int size, int writing, void *password)
{
	(void)writing;
	size_t len = password ? strlen(password) : 0;
	if (len > (size_t)size)
		return -1;
	if (len)
		memcpy(out, password, len);
	return (int)len;
}

static bool load_key(SSL_CTX *ctx, const struct conf_tls *conf, char *why, size_t why_size)
{
	char *password = NULL;
	if (conf->key_password_file &&
	    !(password = conf_read_password(conf->key_password_file, why, why_size)))
		return false;
	SSL_CTX_set_default_passwd_cb(ctx, give_password);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, password);
	bool ok = SSL_CTX_use_PrivateKey_file(ctx, conf->key_file, SSL_FILETYPE_PEM) == 1;
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	if (password)
		explicit_bzero(password, strlen(password));
	free(password);
	return ok || cannot_use(why, why_size, "key_file", conf->key_file);
}

static bool load_certificate(SSL_CTX *ctx, const struct conf_tls *conf, char *why, size_t why_size)
{
	if (!conf->cert_file)
		return true;
	if (SSL_CTX_use_certificate_chain_file(ctx, conf->cert_file) != 1)
		return cannot_use(why, why_size, "cert_file", conf->cert_file);
	return load_key(ctx, conf, why, why_size);
}

static bool load_authorities(SSL_CTX *ctx, const struct conf_tls *conf, char *why, size_t why_size)
{
	if (!conf->ca_file)
		return SSL_CTX_set_default_verify_paths(ctx) == 1 ||
		       cannot_use(why, why_size, "certificate authorities", "of the system");
	return SSL_CTX_load_verify_locations(ctx, conf->ca_file, NULL) == 1 ||
	       cannot_use(why, why_size, "ca_file", conf->ca_file);
}

bool tls_is_address(const char *host)
{
	unsigned char buf[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, host, buf) == 1 || inet_pton(AF_INET6, host, buf) == 1;
}

bool tls_set_up(
    SSL_CTX *ctx, const struct conf_tls *conf, const char *host, char *why, size_t why_size)
{
	tls_begin();
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
		return cannot_use(why, why_size, "TLS", "1.2");
	if (!load_authorities(ctx, conf, why, why_size) ||
	    !load_certificate(ctx, conf, why, why_size))
		return false;
	if (!conf->verify)
		return true;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, note_refusal);
	return !tls_is_address(host) ||
	       X509_VERIFY_PARAM_set1_ip_asc(SSL_CTX_get0_param(ctx), host) == 1 ||
	       cannot_use(why, why_size, "address", host);
}

bool tls_check(const struct conf_tls *conf, char *why, size_t why_size)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		return cannot_use(why, why_size, "TLS", "as such");
	bool ok = tls_set_up(ctx, conf, "localhost", why, why_size);
	SSL_CTX_free(ctx);
	return ok;
}
