/*
 * The delay ladder: names, routing keys and arithmetic of rungs in powers of two seconds, on a
 * stock broker. The scheme is NServiceBus's, with hash addresses and parking.
 * Floor 1.
 */
#ifndef WARREN_LADDER_H
#define WARREN_LADDER_H

#include "base.h"

enum {
	LADDER_RUNGS = 28,       /* 00 to 27 */
	LADDER_ADDRESS_LEN = 32, /* hex digits: the first half of SHA-256 of the queue's name */
	LADDER_KEY_SIZE = LADDER_RUNGS * 2 + LADDER_ADDRESS_LEN + 1,
	LADDER_NAME_SIZE = 32,
};

/* Before the number of a rung. */
#define LADDER_DELAY_PREFIX "warren.v1.delay."
#define LADDER_DELIVER "warren.v1.deliver"
#define LADDER_PARKED "warren.v1.parked"
#define LADDER_RETURN_SUFFIX ".retry"

/* "warren.v1.delay.LL": exchange and queue of that rung have the same name. */
void ladder_rung_name(int rung, char name[LADDER_NAME_SIZE]);

/* The rung's x-message-ttl. */
int64_t ladder_rung_ttl_ms(int rung);

/* Fixed-length hex of the destination queue's name; false when memory is short. */
bool ladder_address(struct bytes queue, char address[LADDER_ADDRESS_LEN + 1]) MUST_CHECK;

/*
 * The delay that will really be waited, in whole seconds: shorter ones round up to the next second,
 * those over an hour to their top five bits (up), all at most 2^28 - 1 s. 0 stays 0 and
 * passes the lowest rung's exchange straight to the destination.
 */
uint32_t ladder_round(int64_t delay_ns);

/* The rung to publish to: the highest set bit; 0 for 0. */
int ladder_rung(uint32_t seconds);

/* The highest rung that delays up to this one can need, after rounding. */
int ladder_top_rung(int64_t longest_ns);

/* 28 binary digits, each with a dot, then the address. */
void ladder_key(uint32_t seconds, const char *address, char key[LADDER_KEY_SIZE]);

/* Binding keys of a rung: wait here (bit 1), go on (bit 0). */
void ladder_binding(int rung, int bit, char key[LADDER_KEY_SIZE]);

/* Binding of a return queue to LADDER_DELIVER: 28 stars and the address. */
void ladder_delivery_binding(const char *address, char key[LADDER_KEY_SIZE]);

#endif
