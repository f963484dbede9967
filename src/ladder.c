/* Names, keys and arithmetic of the delay ladder. */
#include "ladder.h"

#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "clock.h"
#include "text.h"

#define LONGEST ((INT64_C(1) << LADDER_RUNGS) - 1)

enum {
	EXACT_UP_TO = 3600, /* seconds; longer delays keep their top bits alone, hence few hops */
	TOP_BITS = 5,
};

void ladder_rung_name(int rung, char name[LADDER_NAME_SIZE])
{
	CHECK(rung >= 0 && rung < LADDER_RUNGS);
	(void)snprintf(name, LADDER_NAME_SIZE, LADDER_DELAY_PREFIX "%02d", rung);
}

int64_t ladder_rung_ttl_ms(int rung)
{
	CHECK(rung >= 0 && rung < LADDER_RUNGS);
	return (INT64_C(1) << rung) * 1000;
}

bool ladder_address(struct bytes queue, char address[LADDER_ADDRESS_LEN + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	if (EVP_Digest(queue.data, queue.len, digest, &len, EVP_sha256(), NULL) != 1)
		return false;
	CHECK(len >= LADDER_ADDRESS_LEN / 2);
	text_hex(digest, LADDER_ADDRESS_LEN / 2, address);
	return true;
}

int ladder_rung(uint32_t seconds)
{
	return seconds ? 31 - __builtin_clz(seconds) : 0;
}

uint32_t ladder_round(int64_t delay_ns)
{
	if (delay_ns <= 0)
		return 0;
	int64_t seconds = delay_ns / NS_PER_S + (delay_ns % NS_PER_S != 0);
	if (seconds >= LONGEST)
		return (uint32_t)LONGEST;
	if (seconds > EXACT_UP_TO) {
		int64_t step = INT64_C(1) << (ladder_rung((uint32_t)seconds) + 1 - TOP_BITS);
		seconds = (seconds + step - 1) / step * step;
	}
	return (uint32_t)(seconds < LONGEST ? seconds : LONGEST);
}

int ladder_top_rung(int64_t longest_ns)
{
	return ladder_rung(ladder_round(longest_ns));
}

/* `n` words of one star, each with its dot; returns where they end. */
static char *put_stars(char *key, int n)
{
	for (; n > 0; n--) {
		*key++ = '*';
		*key++ = '.';
	}
	return key;
}

void ladder_key(uint32_t seconds, const char *address, char key[LADDER_KEY_SIZE])
{
	CHECK(seconds <= LONGEST && strlen(address) == LADDER_ADDRESS_LEN);
	for (int rung = LADDER_RUNGS - 1; rung >= 0; rung--) {
		*key++ = seconds >> rung & 1 ? '1' : '0';
		*key++ = '.';
	}
	memcpy(key, address, LADDER_ADDRESS_LEN + 1);
}

void ladder_binding(int rung, int bit, char key[LADDER_KEY_SIZE])
{
	CHECK(rung >= 0 && rung < LADDER_RUNGS);
	memcpy(put_stars(key, LADDER_RUNGS - 1 - rung), bit ? "1.#" : "0.#", 4);
}

void ladder_delivery_binding(const char *address, char key[LADDER_KEY_SIZE])
{
	CHECK(strlen(address) == LADDER_ADDRESS_LEN);
	memcpy(put_stars(key, LADDER_RUNGS), address, LADDER_ADDRESS_LEN + 1);
}
