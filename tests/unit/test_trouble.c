/* What is no trouble, what is one, how grave, in which words; what is remembered of it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "clock.h"
#include "text.h"
#include "trouble.h"

#define NOW_NS (100000 * NS_PER_S)
#define AGO(seconds) (NOW_NS - (seconds)*NS_PER_S)

/* A view of a daemon where all is well, for a case to spoil. */
static struct view_worker workers[3];
static struct view_conn conns[3];
static struct view_queue queues[1];
static struct view_job jobs[2];
static struct view_thread threads[2];
static struct view view;

static void setup(void)
{
	workers[0] = (struct view_worker){ .worker = "0",
		.current = true,
		.stands = true,
		.pid = 10,
		.generation = 1,
		.state = SLOT_CONSUMING,
		.spawned_ns = AGO(9000),
		.since_ns = AGO(8000),
		.jobs = 5,
		.why = "" };
	workers[1] = workers[0];
	workers[1].worker = "1";
	for (int i = 0; i < 3; i++)
		conns[i] = (struct view_conn){ .owner = &workers[i % 2],
			.which = i == 2 ? BOARD_PUBLISH : BOARD_WORK,
			.state = BOARD_UP,
			.since_ns = AGO(8000),
			.broker = "amqp://app:***@rabbit:5672/%2f",
			.product = "RabbitMQ 3.10.8",
			.error = "" };
	queues[0] = (struct view_queue){ .queue = "images",
		.configured = true,
		.ack = true,
		.threads = 8,
		.consumers = 8,
		.ready = 0,
		.dead = 0,
		.seen_ns = AGO(3),
		.state = BOARD_CONSUMING,
		.connected = true,
		.text = "",
		.since_ns = AGO(8000) };
	jobs[0] = jobs[1] = (struct view_job){ .id = "10.0.7",
		.task = "img.scale",
		.message_id = "",
		.started_ns = AGO(320),
		.deadline_ns = NOW_NS + NS_PER_S,
		.progress = -1 };
	jobs[1].id = "10.1.3";
	for (int i = 0; i < 2; i++)
		threads[i] = (struct view_thread){ .owner = &workers[0],
			.thread = (uint32_t)i,
			.queue = "images",
			.state = ROW_RUNNING,
			.job = &jobs[i] };
	view = (struct view){ .arena = arena_create(),
		.now_ns = NOW_NS,
		.state = VIEW_RUNNING,
		.config = "/etc/warren/warren.cfg",
		.generation = 2,
		.reload_why = "",
		.n_posts = 2,
		.n_consuming = 2,
		.n_brokers = 1,
		.workers = workers,
		.conns = conns,
		.queues = queues,
		.threads = threads,
		.n_workers = 2,
		.n_conns = 3,
		.n_queues = 1,
		.n_threads = 2 };
	ck_assert_ptr_nonnull(view.arena);
}

static void teardown(void)
{
	arena_destroy(view.arena);
}

/* ---- one spoilt thing a case ---- */

static void nothing(void)
{
}

static void lose_connection(void)
{
	conns[1].state = BOARD_DOWN;
	conns[1].since_ns = AGO(12);
	conns[1].retry_at_ns = NOW_NS + 3 * NS_PER_S;
	conns[1].error = "connect: rabbit port 5672: Connection refused";
}

static void lose_one_of_several(void)
{
	lose_connection();
	view.n_brokers = 3;
}

static void be_refused(void)
{
	lose_connection();
	conns[1].error = "auth: ACCESS_REFUSED - Login was refused";
}

static void miss_vhost(void)
{
	lose_connection();
	conns[1].error = "vhost: NOT_ALLOWED - vhost x not found";
}

static void miss_name(void)
{
	lose_connection();
	conns[1].error = "dns: host name rabbit has no address";
}

static void distrust(void)
{
	lose_connection();
	conns[1].error = "tls: rabbit port 5671: certificate has expired";
}

static void hear_nothing(void)
{
	lose_connection();
	conns[1].error = "timeout: no answer from rabbit port 5672 in time";
}

static void connect_first(void)
{
	lose_connection();
	conns[1].error = "";
	conns[1].since_ns = AGO(2);
}

static void connect_for_long(void)
{
	connect_first();
	conns[1].since_ns = AGO(20);
}

static void another_process_connects(void)
{
	lose_connection();
	workers[1].stands = false;
	workers[2] = workers[0];
	workers[2].worker = "1";
	view.n_workers = 3;
}

static void block(void)
{
	conns[2].state = BOARD_BLOCKED;
	conns[2].error = "low on memory";
}

static void block_by_disk(void)
{
	block();
	conns[2].error = "low on disk";
}

static void break_ladder(void)
{
	conns[0].error = "delay ladder: PRECONDITION_FAILED - inequivalent arg";
}

static void remember_error(void)
{
	conns[0].error = "lost: the broker closed the connection";
}

static void miss_queue(void)
{
	queues[0].state = BOARD_WAITING;
	queues[0].consumers = 4;
	queues[0].code = 404;
	queues[0].text = "NOT_FOUND - no queue 'images' in vhost '/'";
	queues[0].since_ns = AGO(1);
	queues[0].declare = DECLARE_PASSIVE;
}

static void miss_exchange(void)
{
	miss_queue();
	queues[0].declare = DECLARE_ACTIVE;
}

static void be_forbidden(void)
{
	miss_queue();
	queues[0].code = 403;
	queues[0].text = "ACCESS_REFUSED - access to queue 'images' refused";
}

static void meet_another_consumer(void)
{
	miss_queue();
	queues[0].code = 403;
	queues[0].text = "ACCESS_REFUSED - queue 'images' in vhost '/' in exclusive use";
}

static void differ(void)
{
	miss_queue();
	queues[0].code = 406;
	queues[0].text = "PRECONDITION_FAILED - inequivalent arg 'durable'";
	queues[0].declare = DECLARE_ACTIVE;
}

static void be_locked_out(void)
{
	miss_queue();
	queues[0].state = BOARD_HELD;
	queues[0].code = 405;
	queues[0].text = "RESOURCE_LOCKED - cannot obtain exclusive access";
}

static void be_locked_out_by_a_reload(void)
{
	be_locked_out();
	workers[2] = workers[0];
	workers[2].current = workers[2].stands = false;
	workers[2].state = SLOT_DRAINING;
	workers[2].since_ns = AGO(20);
	view.n_workers = 3;
}

static void build_queue(void)
{
	queues[0].state = BOARD_BUILDING;
	queues[0].consumers = 7;
	queues[0].since_ns = AGO(1);
}

static void build_queue_for_long(void)
{
	build_queue();
	queues[0].since_ns = AGO(30);
}

static void build_without_ladder(void)
{
	build_queue_for_long();
	queues[0].consumers = 0;
	queues[0].state = BOARD_BUILDING;
	conns[0].error = "delay ladder: ACCESS_REFUSED - access refused";
}

static void build_without_connection(void)
{
	build_queue_for_long();
	queues[0].connected = false;
}

static void pause_queue(void)
{
	queues[0].paused = true;
	queues[0].state = BOARD_PAUSED;
	queues[0].consumers = 0;
}

static void be_busy(void)
{
	queues[0].running = 8;
	queues[0].ready = 1200;
	queues[0].busy_since_ns = AGO(301);
}

static void be_busy_for_a_while(void)
{
	be_busy();
	queues[0].busy_since_ns = AGO(290);
}

static void overrun(void)
{
	jobs[0].deadline_ns = AGO(20);
}

static void overrun_a_little(void)
{
	jobs[0].deadline_ns = NOW_NS - NS_PER_S / 2;
}

static void run_without_limit(void)
{
	jobs[0].deadline_ns = CLOCK_NEVER;
	jobs[0].started_ns = AGO(80000);
}

static void give_up(void)
{
	overrun();
	threads[0].state = ROW_GIVEN_UP;
	threads[1].state = ROW_STUCK;
	jobs[1].started_ns = AGO(400);
	jobs[1].deadline_ns = AGO(100);
}

static void crash(void)
{
	workers[1].state = SLOT_BACKOFF;
	workers[1].failures = 1;
	workers[1].has_ended = true;
	workers[1].end_signal = 11;
	workers[1].start_at_ns = NOW_NS + NS_PER_S;
	workers[1].since_ns = AGO(0);
}

static void be_replaced_at_once(void)
{
	crash();
	workers[1].failures = 0;
}

static void crash_again_and_again(void)
{
	crash();
	workers[1].failures = 7;
}

static void come_up_after_crashes(void)
{
	crash_again_and_again();
	workers[1].state = SLOT_CONSUMING;
	workers[1].spawned_ns = AGO(3);
	workers[1].jobs = 0;
}

static void work_after_crashes(void)
{
	come_up_after_crashes();
	workers[1].jobs = 1;
}

static void refuse(void)
{
	crash();
	workers[1].end_signal = 0;
	workers[1].end_code = EXIT_CONFIG;
	workers[1].why = "/lib/x.so: no such file";
}

static void crash_quarantine(void)
{
	crash_again_and_again();
	workers[1].worker = "quarantine";
	workers[1].quarantine = true;
}

static void stall(void)
{
	workers[1].state = SLOT_LOADED;
	workers[1].since_ns = AGO(10);
	workers[1].why = "delay ladder: it is built";
}

static void stall_for_a_moment(void)
{
	stall();
	workers[1].since_ns = AGO(1);
}

static void suspect(void)
{
	view.doubtful = 2;
}

static void know_crashers(void)
{
	view.crashers = 1;
}

static void refuse_reload(void)
{
	view.reload = RELOAD_REFUSED;
	view.reload_why = "/etc/warren/warren.cfg:3: unknown setting";
	view.reload_at_ns = AGO(60);
}

static void roll_back(void)
{
	refuse_reload();
	view.reload = RELOAD_ROLLED_BACK;
	view.reload_why = "the new workers were not consuming within workers.start_limit";
}

static void reload_well(void)
{
	view.reload = RELOAD_DONE;
}

static void drain(void)
{
	be_locked_out_by_a_reload();
	queues[0].state = BOARD_CONSUMING;
}

static void drain_for_long(void)
{
	drain();
	workers[2].since_ns = AGO(1200);
}

/* subject NULL: no trouble. `words` stand in why or remedy. */
static const struct trouble_case {
	void (*spoil)(void);
	const char *subject, *what;
	enum trouble_severity severity;
	const char *words;
} cases[] = {
	{ nothing, NULL, NULL, 0, NULL },
	{ lose_connection, "broker amqp://app:***@rabbit:5672/%2f", "no connection", TROUBLE_ERROR,
	    "1 of 3 connections are down" },
	{ lose_connection, "broker amqp://app:***@rabbit:5672/%2f", "no connection", TROUBLE_ERROR,
	    "start the broker" },
	{ lose_one_of_several, "brokers", "no connection", TROUBLE_ERROR, "rabbit:5672" },
	{ be_refused, NULL, "no connection", TROUBLE_ERROR, "broker.password_file" },
	{ miss_vhost, NULL, "no connection", TROUBLE_ERROR, "rabbitmqctl add_vhost" },
	{ miss_name, NULL, "no connection", TROUBLE_ERROR, "host name" },
	{ distrust, NULL, "no connection", TROUBLE_ERROR, "broker.tls" },
	{ hear_nothing, NULL, "no connection", TROUBLE_ERROR, "firewall" },
	{ connect_first, NULL, NULL, 0, NULL },
	{ connect_for_long, NULL, "no connection", TROUBLE_ERROR, "no answer yet" },
	{ another_process_connects, NULL, NULL, 0, NULL },
	{ block, NULL, "takes no messages", TROUBLE_ERROR, "vm_memory_high_watermark" },
	{ block_by_disk, NULL, "takes no messages", TROUBLE_ERROR, "disk_free_limit" },
	{ break_ladder, "delay ladder", "not as wanted", TROUBLE_WARNING, "PRECONDITION" },
	{ remember_error, NULL, NULL, 0, NULL },
	{ miss_queue, "queue images", "not consuming", TROUBLE_ERROR, "declare = \"active\"" },
	{ miss_queue, "queue images", "not consuming", TROUBLE_ERROR, "(4 of 8 threads consume)" },
	{ miss_exchange, "queue images", "not consuming", TROUBLE_ERROR, "exchanges = " },
	{ be_forbidden, "queue images", "not consuming", TROUBLE_ERROR, "set_permissions" },
	{ meet_another_consumer, "queue images", "not consuming", TROUBLE_ERROR, "list_consumers" },
	{ differ, "queue images", "not consuming", TROUBLE_ERROR, "other properties" },
	{ be_locked_out, "queue images", "held by another connection", TROUBLE_ERROR,
	    "list_connections" },
	{ be_locked_out_by_a_reload, "queue images", "held by another connection", TROUBLE_WARNING,
	    "that leaves" },
	{ build_queue, NULL, NULL, 0, NULL },
	{ build_queue_for_long, "queue images", "not consuming", TROUBLE_ERROR, "7 of 8" },
	{ build_without_connection, NULL, NULL, 0, NULL },
	{ pause_queue, "queue images", "paused", TROUBLE_WARNING, "warren resume images" },
	{ be_busy, "queue images", "all threads busy", TROUBLE_WARNING,
	    "8 of 8 threads busy for 5m, 1200 messages ready" },
	{ be_busy_for_a_while, NULL, NULL, 0, NULL },
	{ overrun, "task img.scale", "does not return", TROUBLE_WARNING,
	    "job 10.0.7 of queue images" },
	{ overrun, "task img.scale", "does not return", TROUBLE_WARNING, "time_limit" },
	{ overrun_a_little, NULL, NULL, 0, NULL },
	{ run_without_limit, NULL, NULL, 0, NULL },
	{ give_up, "task img.scale", "does not return", TROUBLE_WARNING,
	    "job 10.1.3 of queue images" },
	{ give_up, "task img.scale", "does not return", TROUBLE_WARNING, "; 2 in all" },
	{ crash, "worker 1", "waits to be started again", TROUBLE_ERROR, "signal SEGV" },
	{ be_replaced_at_once, NULL, NULL, 0, NULL },
	{ crash_again_and_again, "worker 1", "in a crash loop", TROUBLE_ERROR, "7 times in a row" },
	{ come_up_after_crashes, "worker 1", "in a crash loop", TROUBLE_ERROR, "SEGV" },
	{ work_after_crashes, NULL, NULL, 0, NULL },
	{ refuse, "worker 1", "refuses to start", TROUBLE_ERROR, "no such file" },
	{ crash_quarantine, "worker quarantine", "in a crash loop", TROUBLE_WARNING, "7 times" },
	{ stall, "worker 1", "not consuming", TROUBLE_ERROR, "it is built" },
	{ stall_for_a_moment, NULL, NULL, 0, NULL },
	{ suspect, "quarantine", "messages under suspicion", TROUBLE_WARNING, "2 may have" },
	{ know_crashers, "messages", "bring worker processes down", TROUBLE_WARNING,
	    "crash_limit" },
	{ refuse_reload, "configuration", "reload refused", TROUBLE_WARNING, "unknown setting" },
	{ refuse_reload, "configuration", "reload refused", TROUBLE_WARNING,
	    "generation 2 goes on" },
	{ roll_back, "configuration", "reload rolled back", TROUBLE_WARNING, "start_limit" },
	{ reload_well, NULL, NULL, 0, NULL },
	{ drain, NULL, NULL, 0, NULL },
	{ drain_for_long, "old worker processes", "still finish what they run", TROUBLE_WARNING,
	    "generation 1" },
};

START_TEST(one_thing_is_wrong)
{
	const struct trouble_case *c = &cases[_i];
	const struct trouble *t;

	c->spoil();
	ck_assert(trouble_find(&view));
	ck_assert_msg(
	    view.n_troubles == (c->what ? 1 : 0), "case %d: %d troubles", _i, (int)view.n_troubles);
	ck_assert_int_eq(view.ready, !c->what || c->severity == TROUBLE_WARNING);
	if (!c->what)
		return;
	t = &view.troubles[0];
	if (c->subject)
		ck_assert_str_eq(t->subject, c->subject);
	ck_assert_str_eq(t->what, c->what);
	ck_assert_int_eq(t->severity, c->severity);
	ck_assert_msg(strstr(t->why, c->words) || strstr(t->remedy, c->words),
	    "\"%s\" in \"%s\", \"%s\"", c->words, t->why, t->remedy);
	ck_assert_int_gt(t->since_ns, 0);
	ck_assert_int_le(t->since_ns, NOW_NS);
	ck_assert_uint_gt(strlen(t->remedy), 0);
}
END_TEST

START_TEST(a_queue_that_needs_the_ladder_says_so)
{
	build_without_ladder();
	ck_assert(trouble_find(&view));
	ck_assert_uint_eq(view.n_troubles, 2);
	ck_assert_str_eq(view.troubles[0].subject, "queue images");
	ck_assert_ptr_nonnull(strstr(view.troubles[0].why, "delay ladder: ACCESS_REFUSED"));
	ck_assert_str_eq(view.troubles[1].subject, "delay ladder");
}
END_TEST

START_TEST(errors_come_first_and_carry_their_times)
{
	pause_queue();
	crash_again_and_again();
	lose_connection();
	refuse_reload();
	workers[1].stands = true;
	conns[1].owner = &workers[0];
	ck_assert(trouble_find(&view));
	ck_assert_uint_eq(view.n_troubles, 4);
	ck_assert_str_eq(view.troubles[0].what, "no connection");
	ck_assert_int_eq(view.troubles[0].since_ns, AGO(12));
	ck_assert_int_eq(view.troubles[0].next_try_ns, NOW_NS + 3 * NS_PER_S);
	ck_assert_str_eq(view.troubles[1].what, "in a crash loop");
	ck_assert_int_eq(view.troubles[1].next_try_ns, NOW_NS + NS_PER_S);
	ck_assert_str_eq(view.troubles[2].what, "paused");
	ck_assert(!view.ready);
}
END_TEST

START_TEST(who_starts_or_stops_is_not_ready)
{
	view.state = VIEW_STARTING;
	ck_assert(trouble_find(&view));
	ck_assert(!view.ready);
	lose_connection();
	ck_assert(trouble_find(&view));
	ck_assert_uint_eq(view.n_troubles, 1); /* but a broker that refuses is told at once */
	view.state = VIEW_STOPPING;
	ck_assert(trouble_find(&view));
	ck_assert_uint_eq(view.n_troubles, 0);
	ck_assert(!view.ready);
	teardown();
	setup();
	view.state = VIEW_RELOADING;
	ck_assert(trouble_find(&view));
	ck_assert(view.ready);
}
END_TEST

/* ---- memory ---- */

static void look(struct trouble_memory *memory, int64_t now_ns)
{
	view.now_ns = now_ns;
	view.n_threads = 0;
	ck_assert(trouble_find(&view));
	trouble_recall(memory, &view);
	trouble_tick(memory, &view);
}

START_TEST(what_began_is_remembered_until_it_heals)
{
	static struct trouble_memory memory;

	lose_connection();
	look(&memory, NOW_NS);
	ck_assert_uint_eq(memory.n_open, 1);
	conns[1].since_ns = NOW_NS; /* it was up for a moment that nobody saw */
	look(&memory, NOW_NS + NS_PER_S);
	ck_assert_uint_eq(memory.n_open, 1);
	ck_assert_int_eq(view.troubles[0].since_ns, AGO(12));
	conns[1].state = BOARD_UP;
	look(&memory, NOW_NS + 8 * NS_PER_S);
	ck_assert_uint_eq(memory.n_open, 0);
	ck_assert_uint_eq(memory.n_healed, 1);
	ck_assert_str_eq(memory.healed[0].name.what, "no connection");
	ck_assert_int_eq(memory.healed[0].ended_ns - memory.healed[0].began_ns, 20 * NS_PER_S);
}
END_TEST

START_TEST(the_last_that_healed_stand_first)
{
	static struct trouble_memory memory;

	for (int i = 0; i < TROUBLES_HEALED + 4; i++) {
		view.doubtful = i == TROUBLES_HEALED + 3 ? 0 : 1;
		view.crashers = i == TROUBLES_HEALED + 3 ? 1 : 0;
		look(&memory, NOW_NS + 2 * i * NS_PER_S);
		view.doubtful = view.crashers = 0;
		look(&memory, NOW_NS + (2 * i + 1) * NS_PER_S);
	}
	ck_assert_uint_eq(memory.n_healed, TROUBLES_HEALED);
	ck_assert_str_eq(memory.healed[0].name.subject, "messages");
	for (int i = 1; i < TROUBLES_HEALED; i++) {
		ck_assert_str_eq(memory.healed[i].name.subject, "quarantine");
		ck_assert_int_lt(memory.healed[i].ended_ns, memory.healed[i - 1].ended_ns);
	}
}
END_TEST

START_TEST(more_than_can_be_remembered_are_still_told)
{
	static struct view_queue many[TROUBLES_OPEN + 10];
	static char names[TROUBLES_OPEN + 10][8];
	static struct trouble_memory memory;

	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		miss_queue();
		many[i] = queues[0];
		(void)snprintf(names[i], sizeof(names[i]), "q%zu", i);
		many[i].queue = names[i];
	}
	view.queues = many;
	view.n_queues = ARRAY_LEN(many);
	look(&memory, NOW_NS);
	ck_assert_uint_eq(view.n_troubles, ARRAY_LEN(many));
	ck_assert_uint_eq(memory.n_open, TROUBLES_OPEN);
	view.n_queues = 0;
	look(&memory, NOW_NS + NS_PER_S);
	ck_assert_uint_eq(memory.n_open, 0);
}
END_TEST

START_TEST(a_name_is_cut_at_a_whole_character)
{
	static char name[2 * TROUBLE_NAME_MAX + 1];
	static struct trouble_memory memory;

	for (size_t i = 0; i + 2 < sizeof(name); i += 2)
		memcpy(&name[i], "\xc3\xb6", 2);
	pause_queue();
	queues[0].queue = name;
	look(&memory, NOW_NS);
	look(&memory, NOW_NS + NS_PER_S);
	ck_assert_uint_eq(memory.n_open, 1);
	ck_assert(text_is_utf8(bytes_of(memory.open[0].name.subject)));
}
END_TEST

START_TEST(the_text_has_one_line_each)
{
	char *text;

	pause_queue();
	queues[0].queue = "two\n\"lines\"";
	lose_connection();
	ck_assert(trouble_find(&view));
	text = trouble_text(&view);
	ck_assert_ptr_nonnull(text);
	ck_assert_ptr_nonnull(strstr(text, "warning: queue two\\n\"lines\": paused: "));
	ck_assert_int_eq(strncmp(text, "error: broker ", 14), 0);
	ck_assert_ptr_eq(strchr(strchr(text, '\n') + 1, '\n') + 1, text + strlen(text));
	free(text);
	view.state = VIEW_STOPPING;
	ck_assert(trouble_find(&view));
	text = trouble_text(&view);
	ck_assert_str_eq(text, "stopping\n");
	free(text);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("trouble");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, one_thing_is_wrong, 0, (int)ARRAY_LEN(cases));
	tcase_add_test(t, a_queue_that_needs_the_ladder_says_so);
	tcase_add_test(t, errors_come_first_and_carry_their_times);
	tcase_add_test(t, who_starts_or_stops_is_not_ready);
	tcase_add_test(t, what_began_is_remembered_until_it_heals);
	tcase_add_test(t, the_last_that_healed_stand_first);
	tcase_add_test(t, more_than_can_be_remembered_are_still_told);
	tcase_add_test(t, a_name_is_cut_at_a_whole_character);
	tcase_add_test(t, the_text_has_one_line_each);

	Suite *suite = suite_create("trouble");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
