/* One message in words: for people, as a line of JSON, or its body alone. Floor 4, for commands. */
#ifndef WARREN_SHOW_H
#define WARREN_SHOW_H

#include <stdio.h>

#include "letter.h"
#include "msg.h"

/* A block of lines as debug.print writes it; nothing in it can drive a terminal or pass for a line
 * of ours. */
void show_block(FILE *out, const struct msg *msg, const char *queue);

/* The same with a body that is not UTF-8 in hexadecimal, sixteen bytes a line. */
void show_block_hex(FILE *out, const struct msg *msg, const char *queue);

/*
 * One line: { queue, exchange, routing_key, redelivered, properties, headers, body }. A body that
 * is not UTF-8 stands in body_base64 instead. Header values are of their JSON kind; those without
 * one are { "$bytes": base64 }, { "$timestamp": seconds }, { "$decimal": text }.
 */
void show_json(FILE *out, const struct msg *msg, const char *queue);

/* A dead letter as one line of a table; what is long is cut. `number` is its place in the queue. */
void show_letter_heading(FILE *out);
void show_letter(FILE *out, const struct letter *letter, const struct msg *msg, uint64_t number,
    int64_t now_wall_ms);

/* The same as a line of JSON: { number, message_id, queue, task, verdict, reason, attempts, at,
 * age, size, host, plugin, exchange, routing_key }. What is not known is null; `at` is in
 * milliseconds since the epoch, `age` in seconds. */
void show_letter_json(FILE *out, const struct letter *letter, const struct msg *msg,
    uint64_t number, int64_t now_wall_ms);

#endif
