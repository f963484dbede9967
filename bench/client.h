/* client.h: what the programs of this folder do with rabbitmq-c alike; each failure ends them. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <amqp.h>

_Noreturn void fail(const char *doing, const char *why);

/* What rabbitmq-c returned. */
void check(int status, const char *doing);
void check_reply(const amqp_rpc_reply_t *reply, const char *doing);
void check_last(amqp_connection_state_t conn, const char *doing);

amqp_connection_state_t open_connection(const char *url);
void open_channel(amqp_connection_state_t conn, amqp_channel_t channel);
void ask_for_confirms(amqp_connection_state_t conn, amqp_channel_t channel);
void next_frame(amqp_connection_state_t conn, amqp_frame_t *frame);
_Noreturn void unexpected(const amqp_frame_t *frame);

/* Of the command line: from 1 to `most`. */
int number(const char *text, int most);

#endif
