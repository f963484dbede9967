/* What warrend -t --broker prints: findings, RabbitMQ's refusals in words, limits. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "plan.h"

static char *printed(const struct plan *plan)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	ck_assert_ptr_nonnull(out);
	plan_print(plan, out);
	ck_assert_int_eq(fclose(out), 0);
	return text;
}

static void assert_prints(const struct plan *plan, const char *words)
{
	char *text = printed(plan);
	ck_assert_msg(strstr(text, words), "no '%s' in:\n%s", words, text);
	free(text);
}

static struct conf *parse(const char *queue)
{
	struct conf_errors errors = { 0 };
	char *text = xasprintf("plugins = { load = ( { file = \"/lib/x.so\"; } ); };"
			       "queues = ( { name = \"work\"; task = \"a.b\"; %s } );",
	    queue);
	struct conf *conf = conf_parse("test.cfg", text, &errors, NULL);
	if (!conf)
		conf_errors_print(&errors, stderr);
	ck_assert_ptr_nonnull(conf);
	conf_errors_free(&errors);
	free(text);
	return conf;
}

/* ---- the plan ---- */

START_TEST(only_what_stops_warrend_is_worth_78)
{
	static const struct {
		enum plan_state state;
		int code;
		const char *word;
	} cases[] = {
		{ PLAN_ANSWERS, EXIT_OK, "answers          it: why\nwarrend can start\n" },
		{ PLAN_THERE, EXIT_OK, "there            it: why\n1 there: warrend can start\n" },
		{ PLAN_ALLOWED, EXIT_OK, "allowed          it: why\nwarrend can start\n" },
		{ PLAN_TO_CREATE, EXIT_OK, "will be created  it: why\n1 will be created: " },
		{ PLAN_TO_BIND, EXIT_OK, "will be bound    it: why\n1 will be bound: " },
		{ PLAN_UNKNOWN, EXIT_OK, "not known        it: why\nwarrend can start\n" },
		{ PLAN_WARNING, EXIT_OK, "warning          it: why\n1 warning: " },
		{ PLAN_MISSING, EXIT_CONFIG,
		    "MISSING          it: why\n1 MISSING: warrend cannot" },
		{ PLAN_CLASHES, EXIT_CONFIG,
		    "CLASHES          it: why\n1 CLASHES: warrend cannot" },
		{ PLAN_REFUSED, EXIT_CONFIG,
		    "REFUSED          it: why\n1 REFUSED: warrend cannot" },
	};
	struct plan plan = { 0 };
	plan_add(&plan, cases[_i].state, "it", "%s", "why");
	ck_assert_int_eq(plan_exit_code(&plan), cases[_i].code);
	assert_prints(&plan, cases[_i].word);
	plan_free(&plan);
}
END_TEST

START_TEST(strangers_cannot_forge_a_line)
{
	struct plan plan = { 0 };
	plan_add(&plan, PLAN_HEADING, "queue \"a\\b\"", "%s", "");
	plan_add(&plan, PLAN_CLASHES, "queue a\nthere", "%s", "\033[2J");
	assert_prints(&plan, "# queue \"a\\b\"\nCLASHES          queue a\\nthere: \\x1b[2J\n");
	plan_free(&plan);
}
END_TEST

START_TEST(folding_keeps_trouble_and_the_sum)
{
	struct plan plan = { 0 };
	plan_add(&plan, PLAN_THERE, "before", "%s", "");
	plan_add(&plan, PLAN_TO_CREATE, "a", "%s", "");
	plan_add(&plan, PLAN_REFUSED, "b", "%s", "");
	plan_add(&plan, PLAN_TO_BIND, "c", "%s", "");
	plan_add(&plan, PLAN_TO_CREATE, "d", "%s", "");
	plan_fold(&plan, 1, "of the ladder");
	assert_prints(&plan, "there            before\n"
			     "REFUSED          b\n"
			     "will be created  2 exchanges and queues of the ladder\n"
			     "will be bound    1 bindings of the ladder\n"
			     "1 there, 2 will be created, 1 will be bound, 1 REFUSED: ");
	plan_fold(&plan, plan.n + 1, "of nothing");
	ck_assert_uint_eq(plan.n, 4);
	plan_free(&plan);
}
END_TEST

/* ---- clashes ---- */

/* What RabbitMQ 3.10.8 said, word for word. */
#define SAID(arg, thing, rest)                                                                     \
	"PRECONDITION_FAILED - inequivalent arg '" arg "' for " thing " in vhost '/': " rest

static struct field type_quorum[] = { { { "x-queue-type", 12 },
    { .kind = VALUE_STRING, .bytes = { "quorum", 6 } } } };
static struct field max_length[] = { { { "x-max-length", 12 },
    { .kind = VALUE_INT, .width = 8, .integer = 5 } } };

START_TEST(a_clash_in_words)
{
	static const struct {
		struct step step;
		const char *said, *words, *remedy;
	} cases[] = {
		{ { .kind = STEP_QUEUE, .name = "work", .arguments = { type_quorum, 1 } },
		    SAID("x-queue-type", "queue 'work'",
			"received 'quorum' but current is 'classic'"),
		    "with x-queue-type = classic, the configuration says quorum",
		    "type = \"classic\"" },
		{ { .kind = STEP_QUEUE, .name = "work", .arguments = { type_quorum, 1 } },
		    SAID("x-queue-type", "queue 'work'",
			"received the value 'quorum' of type 'longstr' but current is none"),
		    "with x-queue-type = classic, the configuration says quorum",
		    "type = \"classic\"" },
		{ { .kind = STEP_QUEUE, .name = "work.dead" },
		    SAID("x-queue-type", "queue 'work.dead'",
			"received 'classic' but current is 'quorum'"),
		    "with x-queue-type = quorum, the configuration says nothing of it",
		    "dead_letter_type = \"quorum\"" },
		{ { .kind = STEP_QUEUE, .name = "work.retry", .arguments = { type_quorum, 1 } },
		    SAID("x-queue-type", "queue 'work.retry'",
			"received 'quorum' but current is 'classic'"),
		    "with x-queue-type = classic, the configuration says quorum", "" },
		{ { .kind = STEP_QUEUE, .name = "work" },
		    SAID("durable", "queue 'work'", "received 'false' but current is 'true'"),
		    "with durable = true, the configuration says false", "durable = true" },
		{ { .kind = STEP_QUEUE, .name = "work", .arguments = { max_length, 1 } },
		    SAID("x-max-length", "queue 'work'", "received '5' but current is '10'"),
		    "with x-max-length = 10, the configuration says 5",
		    "x-max-length = 10 in its arguments" },
		{ { .kind = STEP_QUEUE, .name = "work", .arguments = { max_length, 1 } },
		    SAID("x-max-length", "queue 'work'",
			"received the value '5' of type 'signedint' but current is none"),
		    "without x-max-length, the configuration says 5",
		    "no x-max-length in its arguments" },
		{ { .kind = STEP_QUEUE, .name = "work" },
		    SAID("x-dead-letter-routing-key", "queue 'work'",
			"received the value 'work.dead' of type 'longstr' but current is none"),
		    "without x-dead-letter-routing-key", "broker_dead_letter = false" },
		{ { .kind = STEP_QUEUE, .name = "work" },
		    SAID("x-dead-letter-exchange", "queue 'work'",
			"received none but current is the value 'it's' of type 'longstr'"),
		    "with x-dead-letter-exchange = it's, the configuration says nothing of it",
		    "x-dead-letter-exchange = it's in its arguments" },
		{ { .kind = STEP_EXCHANGE, .name = "x", .type = "topic" },
		    SAID("type", "exchange 'x'", "received 'topic' but current is 'fanout'"),
		    "with type = fanout, the configuration says topic", "type = \"fanout\"" },
		{ { .kind = STEP_EXCHANGE, .name = "warren.v1.deliver", .type = "topic" },
		    SAID("durable", "exchange 'warren.v1.deliver'",
			"received 'true' but current is 'false'"),
		    "with durable = false", "" },
	};
	struct conf *conf = parse("");
	struct clash clash;
	char words[700], remedy[400];
	ck_assert(clash_read(&clash, &cases[_i].step, cases[_i].said));
	clash_show(&clash, &cases[_i].step, words, sizeof(words));
	clash_remedy(&clash, &cases[_i].step, &conf->queues[0], remedy, sizeof(remedy));
	ck_assert_msg(strncmp(words, cases[_i].words, strlen(cases[_i].words)) == 0, "%s", words);
	ck_assert_str_eq(remedy, cases[_i].remedy);
	conf_free(conf);
}
END_TEST

START_TEST(what_is_no_clash_is_not_read_as_one)
{
	static const char *const said[] = {
		"",
		"NOT_FOUND - no queue 'work' in vhost '/'",
		SAID("durable", "queue 'other'", "received 'false' but current is 'true'"),
		SAID("durable", "exchange 'work'", "received 'false' but current is 'true'"),
		SAID(
		    "x-max-length", "queue 'work'", "received '5' but current is '1"), /* cut off */
		SAID("x-max-length", "queue 'work'", "received '5' but current is"),
		SAID("x-max-length", "queue 'work'", "received '5' but current is '"),
	};
	const struct step step = { .kind = STEP_QUEUE, .name = "work" };
	struct clash clash;
	for (size_t i = 0; i < ARRAY_LEN(said); i++)
		ck_assert_msg(!clash_read(&clash, &step, said[i]), "%s", said[i]);
}
END_TEST

START_TEST(a_step_adopts_what_is_there)
{
	struct arena *arena = arena_create();
	struct step step = { .kind = STEP_QUEUE, .name = "work", .arguments = { max_length, 1 } };
	struct clash clash = { .argument = "durable", .is_set = true, .current = "true" };
	ck_assert(clash_adopt(&clash, &step, arena));
	ck_assert(step.durable);
	ck_assert_msg(!clash_adopt(&clash, &step, arena), "asking on would never end");

	int64_t n;
	clash = (struct clash){ "x-max-length", true, "10", "" };
	ck_assert(clash_adopt(&clash, &step, arena));
	ck_assert(table_get_int(&step.arguments, "x-max-length", &n) && n == 10);
	ck_assert_uint_eq(step.arguments.n, 1);

	clash = (struct clash){ "x-max-length", false, "", "" };
	ck_assert(clash_adopt(&clash, &step, arena));
	ck_assert_uint_eq(step.arguments.n, 0);

	struct bytes text;
	clash = (struct clash){ "x-overflow", true, "drop-head", "longstr" };
	ck_assert(clash_adopt(&clash, &step, arena));
	ck_assert(table_get_bytes(&step.arguments, "x-overflow", &text));
	ck_assert(bytes_is(text, "drop-head"));

	clash = (struct clash){ "x-single-active-consumer", true, "true", "bool" };
	ck_assert(clash_adopt(&clash, &step, arena));
	ck_assert_int_eq(table_get(&step.arguments, clash.argument)->kind, VALUE_BOOL);

	clash = (struct clash){ "x-odd", true, "{table}", "table" };
	ck_assert(!clash_adopt(&clash, &step, arena));
	ck_assert_int_eq(max_length[0].value.integer, 5);
	arena_destroy(arena);
}
END_TEST

/* ---- limits ---- */

START_TEST(limits_of_a_queue)
{
	static const struct {
		const char *queue;
		int version;
		const char *words; /* NULL: no warning */
	} times[] = {
		{ "", 310, NULL },
		{ "time_limit = \"29m\"; kill_after = \"59s\";", 310, NULL },
		{ "time_limit = \"29m\"; kill_after = \"1m\";", 310, "come to 30m" },
		{ "time_limit = \"0\";", 310, "no time_limit" },
		{ "time_limit = \"0\"; ack = \"none\"; retry = { attempts = 1; };", 310, NULL },
		{ "prefetch = 2;", 310, "times prefetch" },
		{ "prefetch = 65535; time_limit = \"30d\";", 310, "times prefetch" },
		{ "time_limit = \"1h\"; arguments = { x-consumer-timeout = 7200000; };", 310,
		    "come to 3610s" },
		{ "time_limit = \"1h\"; arguments = { x-consumer-timeout = 7200000; };", 313,
		    NULL },
		{ "time_limit = \"1h\"; type = \"classic\";", 403, NULL },
		{ "time_limit = \"1h\"; type = \"quorum\";", 403, "come to 3610s" },
	};
	struct conf *conf = parse(times[_i].queue);
	struct plan plan = { 0 };
	plan_judge_times(&plan, conf, times[_i].version);
	if (times[_i].words)
		assert_prints(&plan, times[_i].words);
	for (size_t i = 0; !times[_i].words && i < plan.n; i++)
		ck_assert_int_eq(plan.findings[i].state, PLAN_UNKNOWN);
	plan_free(&plan);
	conf_free(conf);
}
END_TEST

START_TEST(deliveries_of_a_queue)
{
	static const struct {
		const char *queue;
		int version;
		const char *words; /* NULL: nothing is said */
	} cases[] = {
		{ "", 403, NULL },
		{ "type = \"quorum\";", 310, NULL },
		{ "type = \"quorum\"; declare = \"passive\";", 403, NULL },
		{ "type = \"quorum\";", 400,
		    "not known        queue work: no x-delivery-limit: 20 is "
		    "assumed, the default of RabbitMQ 4.0 and newer; what "
		    "came back more often is dead-lettered" },
		{ "type = \"quorum\"; broker_dead_letter = false;", 400,
		    "more often is dropped: broker_dead_letter = true keeps it" },
		{ "type = \"quorum\"; arguments = { x-delivery-limit = 3; };", 310,
		    "came back more than 3 times is dead-lettered" },
		{ "type = \"quorum\"; arguments = { x-delivery-limit = 3; }; broker_dead_letter = "
		  "false;",
		    310,
		    "warning          queue work: a message that came back more than 3 times is "
		    "dropped" },
		{ "type = \"quorum\"; arguments = { x-delivery-limit = -1; };", 310,
		    "take it out" },
		{ "type = \"quorum\"; arguments = { x-delivery-limit = -1; };", 400, NULL },
	};
	struct conf *conf = parse(cases[_i].queue);
	struct plan plan = { 0 };
	plan_judge_deliveries(&plan, conf, cases[_i].version);
	if (cases[_i].words)
		assert_prints(&plan, cases[_i].words);
	else
		ck_assert_uint_eq(plan.n, 0);
	plan_free(&plan);
	conf_free(conf);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("plan");
	TCase *plan = tcase_create("plan"), *clash = tcase_create("clash"),
	      *limits = tcase_create("limits");
	tcase_add_loop_test(plan, only_what_stops_warrend_is_worth_78, 0, 10);
	tcase_add_test(plan, strangers_cannot_forge_a_line);
	tcase_add_test(plan, folding_keeps_trouble_and_the_sum);
	tcase_add_loop_test(clash, a_clash_in_words, 0, 11);
	tcase_add_test(clash, what_is_no_clash_is_not_read_as_one);
	tcase_add_test(clash, a_step_adopts_what_is_there);
	tcase_add_loop_test(limits, limits_of_a_queue, 0, 11);
	tcase_add_loop_test(limits, deliveries_of_a_queue, 0, 9);
	suite_add_tcase(suite, plan);
	suite_add_tcase(suite, clash);
	suite_add_tcase(suite, limits);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
