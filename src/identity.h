/*
 * The identity of a message: the same on every delivery and every retry, whatever the publisher
 * set or left out, so that crashes can be counted by it. Floor 1.
 */
#ifndef WARREN_IDENTITY_H
#define WARREN_IDENTITY_H

#include "job.h"
#include "suspect.h"

/* Once, before any thread: makes hashing cheap, and has OpenSSL set itself up. */
void identity_init(void);

/*
 * The first half of SHA-256 over: the queue, since a copy in another queue runs another task; first
 * exchange and routing key; length, first and last 4 KiB of the body; the properties but those that
 * a copy of warren's changes (delivery_mode, expiration, user_id); the headers but those that
 * broker and warren add (copy_drops_header). After job_read_headers. All zero, which is no
 * identity, when memory is short.
 */
void identity_of(const struct warren_job *job, uint8_t identity[IDENTITY_LEN]);

#endif
