/*
 * One writer's record in shared memory that others read at any moment, also after the writer was
 * killed in the middle of a write. Floor 0.
 *
 * Records cross in words, each of them atomic: stores with release and loads with acquire keep them
 * between the two sequence numbers without a fence, and without a race that a checker could name.
 * A record is whole 64-bit words without holes, aligned to one.
 */
#ifndef WARREN_SEQLOCK_H
#define WARREN_SEQLOCK_H

#include <stdatomic.h>

#include "base.h"

/* `seq` is odd while `record` is being written. One writer at a time. */
void seqlock_write(atomic_uint *seq, void *record, const void *value, size_t size);

/* False when the writer died while it wrote. */
bool seqlock_read(const atomic_uint *seq, const void *record, void *value, size_t size) MUST_CHECK;

/* Closes a write that was cut short. Its writer must be gone. */
void seqlock_mend(atomic_uint *seq);

/* The words alone, for records that are guarded otherwise. */
void seqlock_store(void *record, const void *value, size_t size);
void seqlock_fetch(void *value, const void *record, size_t size);

#endif
