/* What a configuration asks the broker for, step by step. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "ladder.h"
#include "topology.h"

static struct conf *parse(const char *text)
{
	struct conf_errors errors = { 0 };
	struct conf *conf = conf_parse("test.cfg", text, &errors, NULL);
	if (!conf)
		conf_errors_print(&errors, stderr);
	ck_assert_ptr_nonnull(conf);
	conf_errors_free(&errors);
	return conf;
}

static const struct step *find(const struct script *script, enum step_kind kind, const char *name)
{
	for (size_t i = 0; i < script->n; i++)
		if (script->steps[i].kind == kind && strcmp(script->steps[i].name, name) == 0)
			return &script->steps[i];
	return NULL;
}

static void assert_argument(const struct step *step, const char *key, const char *text)
{
	struct bytes value;
	ck_assert_msg(table_get_bytes(&step->arguments, key, &value), "%s is missing", key);
	ck_assert_msg(bytes_is(value, text), "%s is not %s", key, text);
}

#define QUEUE(settings)                                                                            \
	"plugins = { load = ( { file = \"/lib/x.so\"; } ); };"                                     \
	"exchanges = ( { name = \"files\"; type = \"topic\"; durable = true; },"                   \
	"              { name = \"alone\"; type = \"fanout\"; } );"                                \
	"queues = ( { name = \"work\"; task = \"a.b\"; " settings " } );"

START_TEST(an_active_queue_makes_what_it_needs_in_order)
{
	struct conf *conf = parse(QUEUE("durable = true; bindings = ( { exchange = \"files\"; keys "
					"= [ \"a.#\", \"b\" ]; } );"));
	struct script *script = topology_queue(conf, &conf->queues[0]);
	static const struct {
		enum step_kind kind;
		const char *name;
	} expected[] = {
		{ STEP_EXCHANGE, "files" },
		{ STEP_QUEUE, "work" },
		{ STEP_BIND, "work" },
		{ STEP_BIND, "work" },
		{ STEP_QUEUE, "work.dead" },
		{ STEP_QUEUE, "work.quarantine" },
		{ STEP_QUEUE, "work.retry" },
		{ STEP_BIND, "work.retry" },
	};
	ck_assert_uint_eq(script->n, ARRAY_LEN(expected));
	for (size_t i = 0; i < script->n; i++) {
		ck_assert_int_eq(script->steps[i].kind, expected[i].kind);
		ck_assert_str_eq(script->steps[i].name, expected[i].name);
		ck_assert(!script->steps[i].passive);
	}
	ck_assert_str_eq(script->steps[2].key, "a.#");
	ck_assert_str_eq(script->steps[3].key, "b");
	script_free(script);
	conf_free(conf);
}
END_TEST

START_TEST(defaults_are_durable_and_send_no_type)
{
	struct conf *conf = parse(QUEUE(""));
	struct script *script = topology_queue(conf, &conf->queues[0]);
	const struct step *step = find(script, STEP_QUEUE, "work");
	ck_assert_ptr_null(table_get(&step->arguments, "x-queue-type"));
	ck_assert(step->durable && !step->exclusive && !step->auto_delete);
	script_free(script);
	conf_free(conf);
}
END_TEST

START_TEST(a_quorum_queue_knows_its_dead_letters)
{
	struct conf *conf = parse(QUEUE("type = \"quorum\"; durable = true;"));
	struct script *script = topology_queue(conf, &conf->queues[0]);
	const struct step *step = find(script, STEP_QUEUE, "work");
	assert_argument(step, "x-queue-type", "quorum");
	assert_argument(step, "x-dead-letter-exchange", "");
	assert_argument(step, "x-dead-letter-routing-key", "work.dead");
	step = find(script, STEP_QUEUE, "work.quarantine");
	assert_argument(step, "x-queue-type", "quorum");
	assert_argument(step, "x-dead-letter-routing-key", "work.dead");
	script_free(script);
	conf_free(conf);

	conf = parse(QUEUE("type = \"quorum\"; durable = true; broker_dead_letter = false;"));
	script = topology_queue(conf, &conf->queues[0]);
	ck_assert_ptr_null(
	    table_get(&find(script, STEP_QUEUE, "work")->arguments, "x-dead-letter-exchange"));
	script_free(script);
	conf_free(conf);
}
END_TEST

START_TEST(a_passive_queue_creates_nothing)
{
	struct conf *conf = parse(QUEUE(
	    "declare = \"passive\"; bindings = ( { exchange = \"files\"; keys = [ \"a\" ]; } );"));
	struct script *script = topology_queue(conf, &conf->queues[0]);
	/* the queue, its dead letters, its quarantine, its return queue */
	ck_assert_uint_eq(script->n, 4);
	for (size_t i = 0; i < script->n; i++) {
		ck_assert_int_eq(script->steps[i].kind, STEP_QUEUE);
		ck_assert(script->steps[i].passive);
	}
	ck_assert(topology_ladder_passive(conf));
	script_free(script);
	conf_free(conf);
}
END_TEST

START_TEST(off_does_not_touch_the_queue)
{
	struct conf *conf = parse(QUEUE("declare = \"off\";"));
	struct script *script = topology_queue(conf, &conf->queues[0]);
	ck_assert_ptr_null(find(script, STEP_QUEUE, "work"));
	ck_assert(find(script, STEP_QUEUE, "work.dead")->passive);
	script_free(script);
	conf_free(conf);
}
END_TEST

START_TEST(the_return_queue_loses_nothing)
{
	struct conf *conf = parse(QUEUE("durable = true;"));
	struct script *script = topology_queue(conf, &conf->queues[0]);
	const struct step *step = find(script, STEP_QUEUE, "work.retry");
	int64_t ttl = -1;
	ck_assert(step->durable);
	assert_argument(step, "x-queue-type", "quorum");
	assert_argument(step, "x-dead-letter-strategy", "at-least-once");
	assert_argument(step, "x-overflow", "reject-publish");
	assert_argument(step, "x-dead-letter-exchange", "");
	assert_argument(step, "x-dead-letter-routing-key", "work");
	ck_assert(table_get_int(&step->arguments, "x-message-ttl", &ttl));
	ck_assert_int_eq(ttl, 0);
	ck_assert_str_eq(find(script, STEP_BIND, "work.retry")->source, LADDER_DELIVER);
	script_free(script);
	conf_free(conf);
}
END_TEST

START_TEST(who_never_retries_needs_no_ladder)
{
	static const char *const configurations[] = {
		QUEUE("retry = { attempts = 1; };"),
		QUEUE("ack = \"none\";"),
		QUEUE("exclusive = true;"),
	};
	for (size_t i = 0; i < ARRAY_LEN(configurations); i++) {
		struct conf *conf = parse(configurations[i]);
		struct script *script = topology_queue(conf, &conf->queues[0]);
		ck_assert(!topology_uses_ladder(&conf->queues[0]));
		ck_assert_int_eq(topology_top_rung(conf), -1);
		ck_assert_ptr_null(find(script, STEP_QUEUE, "work.retry"));
		script_free(script);
		conf_free(conf);
	}
}
END_TEST

START_TEST(the_ladder_is_built_from_the_lowest_rung)
{
	struct script *script = topology_ladder(3, false);
	int last = -1;
	for (size_t i = 0; i < script->n; i++) {
		int rung;
		if (script->steps[i].kind == STEP_EXCHANGE &&
		    sscanf(script->steps[i].name, "warren.v1.delay.%d", &rung) == 1) {
			ck_assert_int_eq(rung, last + 1);
			last = rung;
		}
	}
	ck_assert_int_eq(last, 3);
	const struct step *deliver = find(script, STEP_EXCHANGE, LADDER_DELIVER);
	assert_argument(deliver, "alternate-exchange", LADDER_PARKED);
	assert_argument(find(script, STEP_QUEUE, "warren.v1.delay.02"), "x-dead-letter-exchange",
	    "warren.v1.delay.01");
	assert_argument(find(script, STEP_QUEUE, "warren.v1.delay.00"), "x-dead-letter-exchange",
	    LADDER_DELIVER);
	script_free(script);
}
END_TEST

START_TEST(the_ladder_reaches_the_longest_delay)
{
	struct conf *conf =
	    parse(QUEUE("retry = { attempts = 3; first = \"1s\"; max = \"10m\"; jitter = 0.2; };"));
	/* 720 s with jitter: bits up to 512 */
	ck_assert_int_eq(topology_top_rung(conf), 9);
	conf_free(conf);
}
END_TEST

START_TEST(exchanges_that_no_queue_binds_are_for_publishers)
{
	struct conf *conf =
	    parse(QUEUE("bindings = ( { exchange = \"files\"; keys = [ \"a\" ]; } );"));
	struct script *script = topology_exchanges(conf);
	ck_assert_uint_eq(script->n, 1);
	ck_assert_str_eq(script->steps[0].name, "alone");
	script_free(script);
	conf_free(conf);
}
END_TEST

START_TEST(steps_read_well)
{
	char text[512];
	struct conf *conf = parse(QUEUE("type = \"quorum\"; durable = true; bindings = ( { "
					"exchange = \"files\"; keys = [ \"a.#\" ]; } );"));
	struct script *script = topology_queue(conf, &conf->queues[0]);
	step_show(find(script, STEP_BIND, "work"), text, sizeof(text));
	ck_assert_str_eq(text, "bind queue work to exchange files with key \"a.#\"");
	step_show(find(script, STEP_EXCHANGE, "files"), text, sizeof(text));
	ck_assert_str_eq(text, "exchange files topic durable");
	script_free(script);
	conf_free(conf);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("topology");
	TCase *tc = tcase_create("topology");
	tcase_add_test(tc, an_active_queue_makes_what_it_needs_in_order);
	tcase_add_test(tc, defaults_are_durable_and_send_no_type);
	tcase_add_test(tc, a_quorum_queue_knows_its_dead_letters);
	tcase_add_test(tc, a_passive_queue_creates_nothing);
	tcase_add_test(tc, off_does_not_touch_the_queue);
	tcase_add_test(tc, the_return_queue_loses_nothing);
	tcase_add_test(tc, who_never_retries_needs_no_ladder);
	tcase_add_test(tc, the_ladder_is_built_from_the_lowest_rung);
	tcase_add_test(tc, the_ladder_reaches_the_longest_delay);
	tcase_add_test(tc, exchanges_that_no_queue_binds_are_for_publishers);
	tcase_add_test(tc, steps_read_well);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
