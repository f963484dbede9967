/* One message in words: for people, as a line of JSON, or its body alone. Floor 4, for commands. */
#ifndef WARREN_SHOW_H
#define WARREN_SHOW_H

#include <stdio.h>

#include "msg.h"

/* A block of lines as debug.print writes it; nothing in it can drive a terminal or pass for a line
 * of ours. */
void show_block(FILE *out, const struct msg *msg, const char *queue);

/*
 * One line: { queue, exchange, routing_key, redelivered, properties, headers, body }. A body that
 * is not UTF-8 stands in body_base64 instead. Header values are of their JSON kind; those without
 * one are { "$bytes": base64 }, { "$timestamp": seconds }, { "$decimal": text }.
 */
void show_json(FILE *out, const struct msg *msg, const char *queue);

#endif
