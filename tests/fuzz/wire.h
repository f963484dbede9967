/* Messages as they come over the wire, through the AMQP library's own decoder and our own readers.
 */
#ifndef WARREN_FUZZ_WIRE_H
#define WARREN_FUZZ_WIRE_H

#include "fuzz.h"
#include "job.h"
#include "msg.h"

/*
 * Makes the content header of a message out of the input (either the bytes as they stand, or, so
 * that more than the library's refusals is tried, a well-formed one by the input's choices), lets
 * the library decode it and our walker take it. False when the library cannot read it.
 */
bool wire_message(struct feed *feed, struct arena *arena, struct msg *msg);

/* What one publish would send is what comes in at the other side, and has the size we say. False:
 * broker.c would not send it, for the reason in `why`. */
bool wire_goes_out(const struct outgoing *out, char *why, size_t why_size);

struct broker; /* broker.h */

/* A connection that is up, its other end in `peer`, with a limit of 64 KiB for bodies in memory. */
struct broker *wire_broker(int *peer, int frame_max);

/* Two bits each of `states` say how channels 1 to 4 stand: free, opening, open (and consuming),
 * closing. */
void wire_channels(struct broker *broker, unsigned states);

/* One step of logging in on `broker`, whose answers the peer has sent already. */
bool wire_log_in(struct broker *broker);

/*
 * The next piece of what a broker sends: either bytes as they stand, or one frame whose head and
 * end are right, by the input's choices. Returns its length, 0 at the end of the input.
 */
size_t wire_frame(struct feed *feed, uint8_t *room, size_t size);

#endif
