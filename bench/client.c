/* What the programs of this folder do with rabbitmq-c alike; each failure ends them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <amqp_tcp_socket.h>

#include "client.h"

enum { FRAME_SIZE = 131072 };

_Noreturn void fail(const char *doing, const char *why)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, doing, why);
	exit(1);
}

void check(int status, const char *doing)
{
	if (status < 0)
		fail(doing, amqp_error_string2(status));
}

/* Both close methods begin with the code and the text. */
void check_reply(const amqp_rpc_reply_t *reply, const char *doing)
{
	if (reply->reply_type == AMQP_RESPONSE_NORMAL)
		return;
	if (reply->reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
		fail(doing, amqp_error_string2(reply->library_error));
	if (reply->reply_type != AMQP_RESPONSE_SERVER_EXCEPTION)
		fail(doing, "no answer");

	amqp_bytes_t text = { 0 };
	if (reply->reply.id == AMQP_CHANNEL_CLOSE_METHOD)
		text = ((amqp_channel_close_t *)reply->reply.decoded)->reply_text;
	else if (reply->reply.id == AMQP_CONNECTION_CLOSE_METHOD)
		text = ((amqp_connection_close_t *)reply->reply.decoded)->reply_text;
	fprintf(stderr, "%s: %s: %.*s\n", program_invocation_short_name, doing, (int)text.len,
	    (const char *)text.bytes);
	exit(1);
}

void check_last(amqp_connection_state_t conn, const char *doing)
{
	const amqp_rpc_reply_t reply = amqp_get_rpc_reply(conn);
	check_reply(&reply, doing);
}

amqp_connection_state_t open_connection(const char *url)
{
	char *parts = strdup(url); /* amqp_parse_url writes into it, and points into it */
	amqp_connection_state_t conn = amqp_new_connection();
	amqp_socket_t *sock = conn ? amqp_tcp_socket_new(conn) : NULL;
	if (!parts || !sock)
		fail("connecting", "out of memory");

	struct amqp_connection_info to;
	check(amqp_parse_url(parts, &to), "reading the URL");
	if (to.ssl)
		fail("reading the URL", "no TLS here");
	check(amqp_socket_open(sock, to.host, to.port), "connecting");
	const amqp_rpc_reply_t reply = amqp_login(
	    conn, to.vhost, 0, FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, to.user, to.password);
	check_reply(&reply, "logging in");
	free(parts);
	return conn;
}

void open_channel(amqp_connection_state_t conn, amqp_channel_t channel)
{
	amqp_channel_open(conn, channel);
	check_last(conn, "opening a channel");
}

void ask_for_confirms(amqp_connection_state_t conn, amqp_channel_t channel)
{
	amqp_confirm_select(conn, channel);
	check_last(conn, "asking for confirms");
}

void next_frame(amqp_connection_state_t conn, amqp_frame_t *frame)
{
	check(amqp_simple_wait_frame(conn, frame), "reading");
}

_Noreturn void unexpected(const amqp_frame_t *frame)
{
	const char *name = NULL;
	if (frame->frame_type == AMQP_FRAME_METHOD)
		name = amqp_method_name(frame->payload.method.id);
	fail("unexpected from the broker", name ? name : "a frame out of turn");
}

int number(const char *text, int most)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 1 || value > most) {
		fprintf(stderr, "%s: %s is no number from 1 to %d\n", program_invocation_short_name,
		    text, most);
		exit(1);
	}
	return (int)value;
}
