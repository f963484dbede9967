/*
 * What the supervisor remembers about messages: which are suspected of bringing worker processes
 * down, how often they did, and how often the broker took them back from a running job. Pure, and
 * bounded: the oldest of the least guilty are forgotten first. Floor 1.
 */
#ifndef WARREN_SUSPECT_H
#define WARREN_SUSPECT_H

#include "base.h"

/* Where a queue's crash suspects wait: its name, with this behind it. */
#define QUARANTINE_SUFFIX ".quarantine"

enum {
	IDENTITY_LEN = 16, /* of a message: identity.h */
	SUSPECTS_MAX = 256,
	CRASHES_MAX = 1000, /* that are told of a message: above every limit of the configuration */
	/* x-warren-signal of a message whose task called exit(): no signal has this number */
	SIGNAL_EXIT = 1000,
};

struct suspect {
	uint8_t identity[IDENTITY_LEN];
	int32_t crashes; /* times that it brought its worker down, for certain */
	int32_t
	    leases; /* times that the broker took it back from a job, or the job had to be killed */
	int32_t signal;   /* of the last death that it is suspected of; 0: none known */
	int32_t doubtful; /* 1: it runs alone, in the quarantine, until it is settled */
};

struct suspects {
	struct known {
		struct suspect suspect;
		int64_t seen_ns;
	} list[SUSPECTS_MAX];
	size_t n;
};

/* All zero: the identity of a message is not known, so it is never suspected of anything. */
bool identity_known(const uint8_t identity[IDENTITY_LEN]);

/* It crashed its worker, for certain. `carried` crashes were known before from the message itself.
 * Returns how many they are now. */
int suspects_blame(struct suspects *suspects, const uint8_t identity[IDENTITY_LEN], int carried,
    int signal, int64_t now_ns);

/* It ran in a process that ended by `signal` and may or may not be the cause. */
void suspects_doubt(
    struct suspects *suspects, const uint8_t identity[IDENTITY_LEN], int signal, int64_t now_ns);

/* The broker took it back from a job that still ran, or the job had to be killed. */
void suspects_lease_lost(
    struct suspects *suspects, const uint8_t identity[IDENTITY_LEN], int64_t now_ns);

/* It has run, alone if it was doubtful, and was published anew: its leases stand on it as attempts
 * now, and a mere doubt is gone. */
void suspects_retried(struct suspects *suspects, const uint8_t identity[IDENTITY_LEN]);

/* It was settled for good. */
void suspects_clear(struct suspects *suspects, const uint8_t identity[IDENTITY_LEN]);

/* Forgets crashes that were not heard of for a day, and mere doubts after an hour. True when it
 * changed anything. */
bool suspects_age(struct suspects *suspects, int64_t now_ns);

/* NULL: nothing is known against it. Valid until the next change. */
const struct suspect *suspects_find(
    const struct suspects *suspects, const uint8_t identity[IDENTITY_LEN]);

/* True when some message waits for the quarantine. */
bool suspects_doubtful(const struct suspects *suspects);

/* For x-warren-signal and the log: "SEGV", "EXIT"; NULL for 0. */
const char *suspect_signal_name(int signal);

/* 32 hex digits and a terminator; and back, false when they are none. */
void identity_show(const uint8_t identity[IDENTITY_LEN], char text[2 * IDENTITY_LEN + 1]);
bool identity_read(struct bytes text, uint8_t identity[IDENTITY_LEN]) MUST_CHECK;

#endif
