/* A model of the broker's routing walks every message down the ladder. */
#include "ladder.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* ---- What a topic exchange does ---- */

/* The length of the word at `s`; words end at a dot or at the end. */
static size_t word_len(const char *s)
{
	return strcspn(s, ".");
}

static const char *next_word(const char *s)
{
	s += word_len(s);
	return *s ? s + 1 : NULL;
}

static bool same_word(const char *a, const char *b)
{
	return word_len(a) == word_len(b) && strncmp(a, b, word_len(a)) == 0;
}

/* AMQP's rule: `*` is one word, `#` any number of them. NULL: no words left. */
static bool topic_match(const char *pattern, const char *key)
{
	if (!pattern)
		return !key;
	if (same_word(pattern, "#"))
		return topic_match(next_word(pattern), key) ||
		       (key && topic_match(pattern, next_word(key)));
	if (!key || (!same_word(pattern, "*") && !same_word(pattern, key)))
		return false;
	return topic_match(next_word(pattern), next_word(key));
}

START_TEST(the_model_matches_as_a_broker_does)
{
	ck_assert(topic_match("a.*.c", "a.b.c"));
	ck_assert(!topic_match("a.*", "a"));
	ck_assert(!topic_match("*.*", "a.b.c"));
	ck_assert(topic_match("a.#", "a"));
	ck_assert(topic_match("a.#", "a.b.c"));
	ck_assert(topic_match("#.c", "a.b.c"));
	ck_assert(!topic_match("b.#", "a.b"));
}
END_TEST

/* ---- The ladder as it is declared ---- */

enum { DELIVER = -1 };

static char wait_here[LADDER_RUNGS][LADDER_KEY_SIZE]; /* exchange L to queue L */
static char go_on[LADDER_RUNGS][LADDER_KEY_SIZE];     /* exchange L to L-1, 0 to deliver */

/* Queues whose names would be trouble as routing keys. */
static const char *const queues[] = { "sales", "eu.sales", "sales.eu", "*", "#", "*.*", "#.sales",
	".", "..", "a b", "0.1.0", "1", "gr\xC3\xBC\xC3\x9F", "", "sales ", "Sales",
	"a-very-long-name-a-very-long-name-a-very-long-name-a-very-long-name-a-very-long-name-"
	"a-very-long-name-a-very-long-name-a-very-long-name-a-very-long-name-a-very-long-name-"
	"a-very-long-name-xx" };
static char addresses[ARRAY_LEN(queues)][LADDER_ADDRESS_LEN + 1];
static char deliveries[ARRAY_LEN(queues)][LADDER_KEY_SIZE];

static void declare(void)
{
	for (int rung = 0; rung < LADDER_RUNGS; rung++) {
		ladder_binding(rung, 1, wait_here[rung]);
		ladder_binding(rung, 0, go_on[rung]);
	}
	for (size_t i = 0; i < ARRAY_LEN(queues); i++) {
		ck_assert(ladder_address(bytes_of(queues[i]), addresses[i]));
		ladder_delivery_binding(addresses[i], deliveries[i]);
	}
}

/* The only queue that `deliver` leads this key to; -1 for none, -2 for several. */
static int delivered_to(const char *key)
{
	int found = -1;
	for (size_t i = 0; i < ARRAY_LEN(queues); i++)
		if (topic_match(deliveries[i], key))
			found = found == -1 ? (int)i : -2;
	return found;
}

struct trip {
	int64_t waited_ms;
	int waits; /* queues it stood in */
	int destination;
};

/* Publishes to the rung's exchange and follows the message until it is delivered. */
static struct trip travel(int rung, const char *key)
{
	struct trip trip = { 0, 0, -1 };
	while (rung != DELIVER) {
		bool waits = topic_match(wait_here[rung], key);
		ck_assert_msg(waits != topic_match(go_on[rung], key), "rung %d of %s", rung, key);
		if (waits) {
			trip.waited_ms += ladder_rung_ttl_ms(rung);
			trip.waits++;
		}
		rung--; /* the dead-letter exchange, or the binding that goes on */
	}
	trip.destination = delivered_to(key);
	return trip;
}

static void check_trip(int64_t delay_ns, size_t queue)
{
	char key[LADDER_KEY_SIZE];
	uint32_t seconds = ladder_round(delay_ns);
	ladder_key(seconds, addresses[queue], key);
	ck_assert_uint_eq(strlen(key), LADDER_KEY_SIZE - 1);
	struct trip trip = travel(ladder_rung(seconds), key);
	ck_assert_int_eq(trip.waited_ms, (int64_t)seconds * 1000);
	ck_assert_int_eq(trip.destination, (int)queue);
	if (seconds > 3600 && seconds < (1u << LADDER_RUNGS) - 1)
		ck_assert_int_le(trip.waits, 5);
}

static int64_t random_ns(void)
{
	int64_t n = (int64_t)rand() << 31 ^ rand();
	return n % (INT64_C(1) << (rand() % 59));
}

START_TEST(waits_add_up_and_each_finds_its_own_queue)
{
	declare();
	srand(11);
	for (int i = 0; i < 5000; i++)
		check_trip(random_ns(), (size_t)rand() % ARRAY_LEN(queues));
	for (int rung = 0; rung < LADDER_RUNGS; rung++)
		for (int64_t off = -1; off <= 1; off++)
			check_trip(((INT64_C(1) << rung) + off) * NS_PER_S, (size_t)rung % 7);
	check_trip(0, 0);
	check_trip(INT64_MAX, 1);
}
END_TEST

/* A message may be published to any rung above its own: it falls through. */
START_TEST(higher_rungs_let_it_through)
{
	declare();
	char key[LADDER_KEY_SIZE];
	ladder_key(5, addresses[0], key);
	for (int rung = 2; rung < LADDER_RUNGS; rung++) {
		struct trip trip = travel(rung, key);
		ck_assert_int_eq(trip.waited_ms, 5000);
		ck_assert_int_eq(trip.destination, 0);
	}
}
END_TEST

/* ---- Names and arithmetic ---- */

START_TEST(names_are_fixed)
{
	char name[LADDER_NAME_SIZE];
	ladder_rung_name(0, name);
	ck_assert_str_eq(name, "warren.v1.delay.00");
	ladder_rung_name(27, name);
	ck_assert_str_eq(name, "warren.v1.delay.27");
	ck_assert_int_eq(ladder_rung_ttl_ms(0), 1000);
	ck_assert_int_eq(ladder_rung_ttl_ms(27), INT64_C(134217728000)); /* the longest accepted */
}
END_TEST

/* On disk in every broker: it must never change. */
START_TEST(keys_and_addresses_are_fixed)
{
	char address[LADDER_ADDRESS_LEN + 1], key[LADDER_KEY_SIZE];
	ck_assert(ladder_address(BYTES_LIT("sales"), address));
	ck_assert_str_eq(address, "e04eb29020eaa961e99d3162635e9fe9");
	ck_assert(ladder_address(BYTES_LIT(""), address));
	ck_assert_str_eq(address, "e3b0c44298fc1c149afbf4c8996fb924");
	ladder_key(10, address, key);
	ck_assert_str_eq(key, "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.0."
			      "e3b0c44298fc1c149afbf4c8996fb924");
	ladder_binding(27, 1, key);
	ck_assert_str_eq(key, "1.#");
	ladder_binding(25, 0, key);
	ck_assert_str_eq(key, "*.*.0.#");
	ladder_binding(0, 0, key);
	ck_assert_uint_eq(strlen(key), 27 * 2 + 3);
	ladder_delivery_binding(address, key);
	ck_assert_uint_eq(strlen(key), 88);
	ck_assert_str_eq(key + 54, "*.e3b0c44298fc1c149afbf4c8996fb924");
}
END_TEST

START_TEST(rounds_as_promised)
{
	static const struct {
		int64_t ns;
		uint32_t seconds;
	} cases[] = {
		{ INT64_MIN, 0 },
		{ -1, 0 },
		{ 0, 0 },
		{ 1, 1 },
		{ NS_PER_S - 1, 1 },
		{ NS_PER_S, 1 },
		{ NS_PER_S + 1, 2 },
		{ 3599 * NS_PER_S, 3599 },
		{ 3600 * NS_PER_S, 3600 },
		{ 3601 * NS_PER_S, 3712 }, /* 29 * 128 */
		{ 4095 * NS_PER_S, 4096 }, /* up into the next power */
		{ 4096 * NS_PER_S, 4096 },
		{ 86400 * NS_PER_S, 86016 + 4096 }, /* 22 * 4096 */
		{ INT64_C(268435455) * NS_PER_S, 268435455 },
		{ INT64_C(268435456) * NS_PER_S, 268435455 },
		{ INT64_C(268435454) * NS_PER_S, 268435455 },
		{ INT64_MAX, 268435455 },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		ck_assert_uint_eq(ladder_round(cases[i].ns), cases[i].seconds);
}
END_TEST

/* Never shorter than asked, at most one sixteenth longer, and in order. */
START_TEST(rounding_is_up_near_and_monotone)
{
	srand(12);
	for (int i = 0; i < 20000; i++) {
		int64_t ns = random_ns() % (INT64_C(260046848) * NS_PER_S);
		int64_t rounded = ladder_round(ns) * NS_PER_S;
		ck_assert_int_ge(rounded, ns);
		ck_assert_int_le(rounded - ns, ns / 16 + NS_PER_S);
		ck_assert_uint_le(ladder_round(ns), ladder_round(ns + NS_PER_S));
		ck_assert_uint_eq(ladder_round(rounded), ladder_round(ns)); /* stays where it is */
	}
}
END_TEST

START_TEST(the_top_rung_covers_all_shorter_delays)
{
	ck_assert_int_eq(ladder_rung(0), 0);
	ck_assert_int_eq(ladder_rung(1), 0);
	ck_assert_int_eq(ladder_rung(2), 1);
	ck_assert_int_eq(ladder_rung(268435455), 27);
	ck_assert_int_eq(ladder_top_rung(600 * NS_PER_S), 9);
	ck_assert_int_eq(ladder_top_rung(4095 * NS_PER_S), 12); /* 4096 after rounding */
	srand(13);
	for (int i = 0; i < 20000; i++) {
		int64_t longest = random_ns(), delay = longest ? random_ns() % longest : 0;
		ck_assert_int_le(ladder_rung(ladder_round(delay)), ladder_top_rung(longest));
	}
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("ladder");
	tcase_add_test(t, the_model_matches_as_a_broker_does);
	tcase_add_test(t, waits_add_up_and_each_finds_its_own_queue);
	tcase_add_test(t, higher_rungs_let_it_through);
	tcase_add_test(t, names_are_fixed);
	tcase_add_test(t, keys_and_addresses_are_fixed);
	tcase_add_test(t, rounds_as_promised);
	tcase_add_test(t, rounding_is_up_near_and_monotone);
	tcase_add_test(t, the_top_rung_covers_all_shorter_delays);
	tcase_set_timeout(t, 110);

	Suite *suite = suite_create("ladder");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
