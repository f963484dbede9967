/* Records in shared memory that survive the death of their writer. */
#include "seqlock.h"

enum { READ_TRIES = 1000 }; /* a writer is inside for less than a microsecond, or dead */

typedef uint64_t __attribute__((may_alias)) word;

void seqlock_store(void *record, const void *value, size_t size)
{
	word *out = record;
	const word *in = value;

	for (size_t i = 0; i < size / sizeof(word); i++)
		__atomic_store_n(&out[i], in[i], __ATOMIC_RELEASE);
}

void seqlock_fetch(void *value, const void *record, size_t size)
{
	word *out = value;
	const word *in = record;

	for (size_t i = 0; i < size / sizeof(word); i++)
		out[i] = __atomic_load_n(&in[i], __ATOMIC_ACQUIRE);
}

void seqlock_write(atomic_uint *seq, void *record, const void *value, size_t size)
{
	unsigned before = atomic_load_explicit(seq, memory_order_relaxed);

	atomic_store_explicit(seq, before + 1, memory_order_relaxed);
	seqlock_store(record, value, size);
	atomic_store_explicit(seq, before + 2, memory_order_release);
}

bool seqlock_read(const atomic_uint *seq, const void *record, void *value, size_t size)
{
	for (int i = 0; i < READ_TRIES; i++) {
		unsigned before = atomic_load_explicit(seq, memory_order_acquire);

		if (before & 1)
			continue;
		seqlock_fetch(value, record, size);
		if (atomic_load_explicit(seq, memory_order_relaxed) == before)
			return true;
	}
	return false;
}

void seqlock_mend(atomic_uint *seq)
{
	atomic_fetch_add(seq, atomic_load(seq) & 1);
}
