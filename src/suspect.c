/* The supervisor's memory of messages that did harm. */
#include "suspect.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"

#define FORGET_NS (24 * 3600 * NS_PER_S)
#define FORGET_DOUBT_NS (3600 * NS_PER_S) /* settled where we did not hear of it, most likely */

bool identity_known(const uint8_t identity[IDENTITY_LEN])
{
	static const uint8_t none[IDENTITY_LEN];

	return memcmp(identity, none, IDENTITY_LEN) != 0;
}

/* Its place in the list; suspects->n where it is not known. */
static size_t index_of(const struct suspects *suspects, const uint8_t identity[IDENTITY_LEN])
{
	size_t i = 0;

	while (i < suspects->n &&
	       memcmp(suspects->list[i].suspect.identity, identity, IDENTITY_LEN) != 0)
		i++;
	return i;
}

static struct known *find(struct suspects *suspects, const uint8_t identity[IDENTITY_LEN])
{
	size_t i = index_of(suspects, identity);

	return i < suspects->n ? &suspects->list[i] : NULL;
}

const struct suspect *suspects_find(
    const struct suspects *suspects, const uint8_t identity[IDENTITY_LEN])
{
	size_t i = index_of(suspects, identity);

	return i < suspects->n ? &suspects->list[i].suspect : NULL;
}

static int guilt(const struct known *known)
{
	return known->suspect.crashes + known->suspect.leases;
}

static bool less_worth(const struct known *a, const struct known *b)
{
	return guilt(a) != guilt(b) ? guilt(a) < guilt(b) : a->seen_ns < b->seen_ns;
}

static struct known *make_room(struct suspects *suspects)
{
	struct known *least = &suspects->list[0];

	if (suspects->n < SUSPECTS_MAX)
		return &suspects->list[suspects->n++];
	for (size_t i = 1; i < suspects->n; i++)
		if (less_worth(&suspects->list[i], least))
			least = &suspects->list[i];
	return least;
}

static struct suspect *note(
    struct suspects *suspects, const uint8_t identity[IDENTITY_LEN], int64_t now_ns)
{
	struct known *known = find(suspects, identity);

	if (!known) {
		known = make_room(suspects);
		*known = (struct known){ .seen_ns = now_ns };
		memcpy(known->suspect.identity, identity, IDENTITY_LEN);
	}
	known->seen_ns = now_ns;
	return &known->suspect;
}

int suspects_blame(struct suspects *suspects, const uint8_t identity[IDENTITY_LEN], int carried,
    int signal, int64_t now_ns)
{
	struct suspect *suspect;

	if (!identity_known(identity))
		return 0;
	suspect = note(suspects, identity, now_ns);
	if (suspect->crashes < carried)
		suspect->crashes = carried;
	suspect->crashes++;
	suspect->signal = signal;
	suspect->doubtful = 1;
	return suspect->crashes;
}

void suspects_doubt(
    struct suspects *suspects, const uint8_t identity[IDENTITY_LEN], int signal, int64_t now_ns)
{
	struct suspect *suspect;

	if (!identity_known(identity))
		return;
	suspect = note(suspects, identity, now_ns);
	suspect->doubtful = 1;
	if (suspect->crashes == 0)
		suspect->signal = signal;
}

void suspects_lease_lost(
    struct suspects *suspects, const uint8_t identity[IDENTITY_LEN], int64_t now_ns)
{
	if (identity_known(identity))
		note(suspects, identity, now_ns)->leases++;
}

static void forget(struct suspects *suspects, struct known *known)
{
	*known = suspects->list[--suspects->n];
}

void suspects_retried(struct suspects *suspects, const uint8_t identity[IDENTITY_LEN])
{
	struct known *known = find(suspects, identity);

	if (!known)
		return;
	known->suspect.leases = 0;
	if (known->suspect.crashes == 0)
		forget(suspects, known);
}

void suspects_clear(struct suspects *suspects, const uint8_t identity[IDENTITY_LEN])
{
	struct known *known = find(suspects, identity);

	if (known)
		forget(suspects, known);
}

bool suspects_age(struct suspects *suspects, int64_t now_ns)
{
	size_t before = suspects->n;

	for (size_t i = suspects->n; i-- > 0;) {
		struct known *known = &suspects->list[i];

		if (now_ns - known->seen_ns >
		    (known->suspect.crashes ? FORGET_NS : FORGET_DOUBT_NS))
			forget(suspects, known);
	}
	return suspects->n != before;
}

bool suspects_doubtful(const struct suspects *suspects)
{
	for (size_t i = 0; i < suspects->n; i++)
		if (suspects->list[i].suspect.doubtful)
			return true;
	return false;
}

const char *suspect_signal_name(int signal)
{
	const char *name;

	if (signal == 0)
		return NULL;
	if (signal == SIGNAL_EXIT)
		return "EXIT";
	name = sigabbrev_np(signal);
	return name ? name : "?";
}

void identity_show(const uint8_t identity[IDENTITY_LEN], char text[2 * IDENTITY_LEN + 1])
{
	for (int i = 0; i < IDENTITY_LEN; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", identity[i]);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool identity_read(struct bytes text, uint8_t identity[IDENTITY_LEN])
{
	if (text.len != 2 * IDENTITY_LEN)
		return false;
	for (int i = 0; i < IDENTITY_LEN; i++) {
		int high = hex_digit(text.data[2 * i]), low = hex_digit(text.data[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		identity[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}
