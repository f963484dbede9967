/*
 * The configuration: every default, every refusal with its line, all of them in one run, warnings,
 * the samples that ship, and who may own and read the files.
 */
#include "conf.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "clock.h"
#include "settings.h"

/* libconfig 1.5 leaks the string at which a syntax error stands. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig\n";
}

enum {
	NOBODY = 65534,
	MINUTE = 60,
};

static struct conf_errors errors, warnings;
static struct conf *conf;

static void set_up(void)
{
	conf = NULL;
	errors = warnings = (struct conf_errors){ 0 };
}

static void tear_down(void)
{
	conf_free(conf);
	conf_errors_free(&errors);
	conf_errors_free(&warnings);
}

/* All that was said, as an operator sees it. */
static char *said(const struct conf_errors *list)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	ck_assert_ptr_nonnull(out);
	conf_errors_print(list, out);
	ck_assert_int_eq(fclose(out), 0);
	return text;
}

static void parse(const char *text)
{
	tear_down();
	conf = conf_parse("/etc/warren/w.cfg", text, &errors, &warnings);
	ck_assert_int_eq(conf == NULL, errors.n > 0);
}

static void parse_sound(const char *text)
{
	parse(text);
	char *what = said(&errors);
	ck_assert_msg(conf, "%s\n%s", text, what);
	free(what);
}

/* One entry for each thing said, in this order: "line: a part of its words". */
static void expect(const struct conf_errors *list, const char *text, const char *const *wanted)
{
	char *all = said(list);
	size_t n = 0;
	for (; wanted[n]; n++) {
		ck_assert_msg(n < list->n, "missing: %s\nof: %s\nsaid:\n%s", wanted[n], text, all);
		char *words;
		unsigned line = (unsigned)strtoul(wanted[n], &words, 10);
		ck_assert_msg(list->list[n].line == line && strstr(list->list[n].text, words + 2),
		    "not said: %s\nof: %s\nsaid:\n%s", wanted[n], text, all);
	}
	ck_assert_msg(n == list->n, "too much for: %s\nsaid:\n%s", text, all);
	free(all);
}

#define QUEUE(more) "queues = ( { name = \"q\"; task = \"t\"; " more " } );"
#define BROKER(more) "broker = { " more " };"
#define EXCHANGE(more) QUEUE() "exchanges = ( { name = \"e\"; type = \"fanout\"; " more " } );"

/* ---- what a sound one becomes ---- */

START_TEST(defaults)
{
	ck_assert_int_eq(setenv("RUNTIME_DIRECTORY", "/run/a:/run/b", 1), 0);
	parse_sound(QUEUE());
	ck_assert_uint_eq(warnings.n, 0);
	ck_assert_str_eq(conf->path, "/etc/warren/w.cfg");

	const struct conf_broker *b = &conf->broker;
	ck_assert_uint_eq(b->n_urls, 1);
	ck_assert_str_eq(b->urls[0].host, "localhost");
	ck_assert_str_eq(b->urls[0].vhost, "/");
	ck_assert_ptr_null(b->password_file);
	ck_assert_int_eq(b->auth, AUTH_PLAIN);
	ck_assert_int_eq(b->heartbeat_ns, 10 * NS_PER_S);
	ck_assert_int_eq(b->connect_timeout_ns, 10 * NS_PER_S);
	ck_assert_int_eq(b->reconnect_max_ns, 10 * NS_PER_S);
	ck_assert_int_eq(b->confirm_timeout_ns, 30 * NS_PER_S);
	ck_assert_ptr_null(b->connection_name);
	ck_assert_ptr_null(b->tls.ca_file);
	ck_assert_ptr_null(b->tls.cert_file);
	ck_assert(b->tls.verify);

	const struct conf_queue *q = &conf->queues[0];
	ck_assert_uint_eq(conf->n_queues, 1);
	ck_assert_str_eq(q->name, "q");
	ck_assert_str_eq(q->label, "q");
	ck_assert_int_eq(q->type, QUEUE_UNSET);
	ck_assert(q->durable && !q->exclusive && !q->auto_delete && !q->no_ack);
	ck_assert_int_eq(q->declare, DECLARE_ACTIVE);
	ck_assert_int_eq(q->threads, 1);
	ck_assert_int_eq(q->prefetch, 1);
	ck_assert_int_eq(q->priority, 0);
	ck_assert_int_eq(q->route, ROUTE_TASK);
	ck_assert_str_eq(q->task, "t");
	ck_assert_int_eq(q->retry.attempts, 5);
	ck_assert_int_eq(q->retry.first_ns, NS_PER_S);
	ck_assert_int_eq(q->retry.max_ns, 10 * MINUTE * NS_PER_S);
	ck_assert_double_eq(q->retry.factor, 2.0);
	ck_assert_double_eq(q->retry.jitter, 0.2);
	ck_assert_int_eq(q->time_limit_ns, 25 * MINUTE * NS_PER_S);
	ck_assert_int_eq(q->kill_after_ns, 10 * NS_PER_S);
	ck_assert_int_eq(q->crash_limit, 3);
	ck_assert_str_eq(q->dead_letter, "q.dead");
	ck_assert_int_eq(q->dead_letter_type, QUEUE_CLASSIC);
	ck_assert(q->broker_dead_letter);
	ck_assert_int_eq(q->replies, REPLIES_ANY);
	ck_assert_uint_eq(q->line, 1);

	ck_assert_int_eq(conf->workers.processes, 1);
	ck_assert_int_eq(conf->workers.drain_limit_ns, 30 * NS_PER_S);
	ck_assert_int_eq(conf->workers.start_limit_ns, 30 * NS_PER_S);
	ck_assert_int_eq(conf->workers.recycle_jobs, 0);
	ck_assert_int_eq(conf->workers.recycle_memory, 0);
	ck_assert_int_eq(conf->max_message, 16 << 20);
	ck_assert_int_eq(conf->log_level, LOG_INFO);
	ck_assert_int_eq(conf->log_format, LOG_LOGFMT);
	ck_assert_str_eq(conf->control_socket, "/run/a/warren.sock");
	ck_assert_int_eq(conf->plugin_directory[0], '/');
}
END_TEST

START_TEST(the_socket_stands_where_its_user_may_write)
{
	(void)unsetenv("RUNTIME_DIRECTORY");
	(void)setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	parse_sound(QUEUE());
	ck_assert_str_eq(conf->control_socket, "/run/user/7/warren/warren.sock");
	(void)unsetenv("XDG_RUNTIME_DIR");
	parse_sound(QUEUE());
	ck_assert_str_eq(conf->control_socket, "/run/warren/warren.sock");
	parse_sound(QUEUE() "control = { socket = \"x.sock\"; };");
	ck_assert_str_eq(conf->control_socket, "/etc/warren/x.sock");
}
END_TEST

START_TEST(the_doors_may_be_shut)
{
	parse_sound(QUEUE());
	ck_assert_uint_eq(conf->control_line, 0);
	ck_assert_int_eq(conf->http_port, 0);
	ck_assert_str_eq(conf->http_address, "127.0.0.1");
	parse_sound(QUEUE() "\ncontrol = {\nsocket = \"\"; };");
	ck_assert_ptr_null(conf->control_socket);
	ck_assert_uint_eq(conf->control_line, 3);
}
END_TEST

START_TEST(defaults_that_depend_on_others)
{
	parse_sound(QUEUE("exclusive = true;"));
	ck_assert(!conf->queues[0].durable);
	ck_assert_ptr_null(conf->queues[0].dead_letter);
	ck_assert_int_eq(conf->queues[0].retry.attempts, 1);

	parse_sound(QUEUE("ack = \"none\";"));
	ck_assert(conf->queues[0].no_ack && conf->queues[0].durable);
	ck_assert_ptr_null(conf->queues[0].dead_letter);
	ck_assert_int_eq(conf->queues[0].retry.attempts, 1);

	parse_sound(QUEUE("dead_letter = \"\";"));
	ck_assert_ptr_null(conf->queues[0].dead_letter);
	ck_assert_int_eq(conf->queues[0].retry.attempts, 5);

	parse_sound(
	    "queues = ( { name = \"\"; exclusive = true; task = \"t\"; dead_letter = \"d\";\n"
	    "  bindings = ( { exchange = \"news\"; } ); },\n"
	    "{ name = \"\"; exclusive = true; task = \"t\"; bindings = ( { exchange = \"news\"; } "
	    "); },\n"
	    "{ name = \"\"; exclusive = true; task = \"t\"; } );");
	ck_assert_str_eq(conf->queues[0].label, "(news)");
	ck_assert_str_eq(conf->queues[0].dead_letter, "d");
	ck_assert_str_eq(conf->queues[1].label, "(news 2)");
	ck_assert_str_eq(conf->queues[2].label, "()");
	ck_assert_ptr_null(conf->queues[1].dead_letter);
	ck_assert_uint_eq(conf->queues[0].bindings[0].n_keys, 1);
	ck_assert_str_eq(conf->queues[0].bindings[0].keys[0], "");
}
END_TEST

static const char everything[] =
    "broker = {\n"
    "  urls = [ \"amqps://u@h1/v\", \"amqps://u@h2/v\" ]; password_file = \"pw\";\n"
    "  heartbeat = \"30s\"; connect_timeout = \"3s\"; confirm_timeout = \"1m\"; connection_name = "
    "\"me\";\n"
    "  tls = { ca_file = \"/ca\"; cert_file = \"c\"; key_file = \"sub/k\"; key_password_file = "
    "\"kp\"; };\n"
    "};\n"
    "plugins = { directory = \"plug\"; load = (\n"
    "  { file = \"digest.so\"; options = { algorithm = \"sha256\"; n = 5; big = 5000000000L; x = "
    "1.5;\n"
    "    on = true; list = [ \"a\", \"b\" ]; }; },\n"
    "  { file = \"/abs/print.so\"; } ); };\n"
    "exchanges = ( { name = \"files\"; type = \"topic\"; durable = false; auto_delete = true;\n"
    "  internal = true; declare = \"passive\"; arguments = { alternate-exchange = \"un\"; }; },\n"
    "  { name = \"x\"; type = \"x-consistent-hash\"; } );\n"
    "queues = (\n"
    "  { name = \"d\"; type = \"quorum\"; durable = true; threads = 8; prefetch = 3; priority = "
    "-4;\n"
    "    task = \"file.digest\"; declare = \"active\"; ack = \"after\"; broker_dead_letter = "
    "false;\n"
    "    bindings = ( { exchange = \"files\"; keys = [ \"new.#\", \"changed.#\" ]; },\n"
    "      { exchange = \"amq.headers\"; arguments = { x-match = \"any\"; kind = 7; }; } );\n"
    "    arguments = ( { name = \"x-max-length\"; value = 100000; },\n"
    "      { name = \"a.b\"; value = ( 1, \"two\", { three = 0x10; }, 5000000000L, 2.5, false ); } "
    ");\n"
    "    retry = { attempts = 2; first = \"500ms\"; factor = 3; max = \"2h\"; jitter = 0.0; };\n"
    "    time_limit = \"5m\"; kill_after = \"1s\"; crash_limit = 7; dead_letter = \"dl\";\n"
    "    dead_letter_type = \"quorum\"; replies = \"direct\"; },\n"
    "  { name = \"r\"; type = \"classic\"; route = \"header:x-task\"; tasks = [ \"file.*\", \"t\" "
    "]; },\n"
    "  { name = \"k\"; route = \"routing_key\"; replies = \"none\"; },\n"
    "  { name = \"t\"; route = \"type\"; auto_delete = true; }\n"
    ");\n"
    "workers = { processes = 3; drain_limit = \"0\"; start_limit = \"1m\"; recycle_jobs = "
    "5000000000L;\n"
    "  recycle_memory = \"1GiB\"; };\n"
    "limits = { message = \"1MiB\"; };\n"
    "log = { level = \"debug\"; format = \"json\"; };\n"
    "control = { socket = \"/run/w.sock\"; };\n"
    "http = { address = \"::1\"; port = 9419; };\n";

START_TEST(everything_is_read)
{
	parse_sound(everything);
	const struct conf_broker *b = &conf->broker;
	ck_assert_uint_eq(b->n_urls, 2);
	ck_assert_str_eq(b->urls[1].host, "h2");
	ck_assert_str_eq(b->password_file, "/etc/warren/pw");
	ck_assert_str_eq(b->connection_name, "me");
	ck_assert_int_eq(b->heartbeat_ns, 30 * NS_PER_S);
	ck_assert_int_eq(b->connect_timeout_ns, 3 * NS_PER_S);
	ck_assert_int_eq(b->confirm_timeout_ns, 60 * NS_PER_S);
	ck_assert_str_eq(b->tls.ca_file, "/ca");
	ck_assert_str_eq(b->tls.key_file, "/etc/warren/sub/k");

	ck_assert_uint_eq(conf->n_plugins, 2);
	ck_assert_str_eq(conf->plugin_directory, "/etc/warren/plug");
	ck_assert_str_eq(conf->plugins[0].file, "/etc/warren/plug/digest.so");
	ck_assert_str_eq(conf->plugins[1].file, "/abs/print.so");
	ck_assert_uint_eq(conf->plugins[1].line, 9);

	ck_assert_uint_eq(conf->n_exchanges, 2);
	const struct conf_exchange *e = &conf->exchanges[0];
	ck_assert(!e->durable && e->auto_delete && e->internal && e->declare == DECLARE_PASSIVE);
	ck_assert_uint_eq(e->arguments.n, 1);
	ck_assert(conf->exchanges[1].durable);

	ck_assert_uint_eq(conf->n_queues, 4);
	const struct conf_queue *q = &conf->queues[0];
	ck_assert(q->type == QUEUE_QUORUM && q->dead_letter_type == QUEUE_QUORUM);
	ck_assert(!q->broker_dead_letter && !q->no_ack);
	ck_assert_int_eq(q->threads, 8);
	ck_assert_int_eq(q->prefetch, 3);
	ck_assert_int_eq(q->priority, -4);
	ck_assert_int_eq(q->crash_limit, 7);
	ck_assert_str_eq(q->dead_letter, "dl");
	ck_assert_int_eq(q->replies, REPLIES_DIRECT);
	ck_assert_int_eq(q->retry.attempts, 2);
	ck_assert_int_eq(q->retry.first_ns, NS_PER_S / 2);
	ck_assert_double_eq(q->retry.factor, 3.0);
	ck_assert_double_eq(q->retry.jitter, 0.0);
	ck_assert_uint_eq(q->n_bindings, 2);
	ck_assert_str_eq(q->bindings[0].keys[1], "changed.#");
	int64_t kind;
	ck_assert(table_get_int(&q->bindings[1].arguments, "kind", &kind) && kind == 7);

	ck_assert_int_eq(conf->queues[1].route, ROUTE_HEADER);
	ck_assert_str_eq(conf->queues[1].route_header, "x-task");
	ck_assert_uint_eq(conf->queues[1].n_tasks, 2);
	ck_assert_int_eq(conf->queues[2].route, ROUTE_ROUTING_KEY);
	ck_assert_int_eq(conf->queues[2].replies, REPLIES_NONE);
	ck_assert_int_eq(conf->queues[3].route, ROUTE_TYPE);
	ck_assert_uint_eq(conf->queues[3].index, 3);

	ck_assert_int_eq(conf->workers.drain_limit_ns, 0);
	ck_assert_int_eq(conf->workers.recycle_jobs, 5000000000);
	ck_assert_int_eq(conf->workers.recycle_memory, 1 << 30);
	ck_assert_int_eq(conf->max_message, 1 << 20);
	ck_assert_int_eq(conf->log_level, LOG_DEBUG);
	ck_assert_int_eq(conf->log_format, LOG_JSON);
	ck_assert_str_eq(conf->control_socket, "/run/w.sock");
	ck_assert_str_eq(conf->http_address, "::1");
	ck_assert_int_eq(conf->http_port, 9419);
}
END_TEST

START_TEST(values_keep_their_types)
{
	parse_sound(everything);
	const struct table *arguments = &conf->queues[0].arguments;
	int64_t length;
	ck_assert(table_get_int(arguments, "x-max-length", &length) && length == 100000);
	const struct value *list = table_get(arguments, "a.b");
	ck_assert(list && list->kind == VALUE_ARRAY && list->array.n == 6);
	const struct value *items = list->array.items;
	ck_assert(items[0].kind == VALUE_INT && items[0].width == 8 && items[0].integer == 1);
	ck_assert(items[1].kind == VALUE_STRING && bytes_is(items[1].bytes, "two"));
	ck_assert(items[2].kind == VALUE_TABLE && items[2].table.n == 1);
	ck_assert_int_eq(items[2].table.fields[0].value.integer, 16);
	ck_assert(items[3].kind == VALUE_INT && items[3].integer == 5000000000);
	ck_assert(items[4].kind == VALUE_DOUBLE && items[4].real == 2.5);
	ck_assert(items[5].kind == VALUE_BOOL && !items[5].boolean);

	static const enum value_kind kinds[] = { VALUE_STRING, VALUE_INT, VALUE_INT, VALUE_DOUBLE,
		VALUE_BOOL, VALUE_ARRAY };
	const struct conf_plugin *plugin = &conf->plugins[0];
	ck_assert_uint_eq(plugin->n_options, ARRAY_LEN(kinds));
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		ck_assert_int_eq(plugin->options[i].value.kind, kinds[i]);
	ck_assert_str_eq(plugin->options[0].name, "algorithm");
	ck_assert_uint_eq(plugin->options[0].line, 7);
	ck_assert_uint_eq(plugin->options[4].line, 8);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
	const char *text;
	const char *wanted[8];
} broken[] = {
	/* the language */
	{ "queues = (\n", { "2: syntax error" } },
	{ "a = 1 }\n", { "1: syntax error" } },
	{ QUEUE() "\nlog = { };\nlog = { };", { "3: duplicate setting name" } },
	{ QUEUE() "\n/* a\nb", { "2: comment is never closed" } },
	{ QUEUE() "\nlog = { level = \"info; };\n\n", { "2: string is never closed" } },
	{ QUEUE() "\n@include \"/etc/passwd\"\n", { "2: @include is not supported" } },
	{ QUEUE() "\n  @include \"x\"\n\n@include \"y\"", { "2: @include", "4: @include" } },
	{ QUEUE() "\nlog = { level = \"info\\x00\"; };", { "2: NUL" } },
	{ QUEUE("\nthreads = 3000000000;"),
	    { "2: 3000000000 does not fit into 32 bits: write 3000000000L", "2: queues.threads" } },
	{ QUEUE("arguments = { a =\n-2147483649; b = 0x80000000;\nc = 4294967297; };"),
	    { "2: -2147483649 does", "2: 0x80000000 does", "3: 4294967297 does" } },
	{ QUEUE("arguments = { a = 0xffffffffL; };"), { "1: write 4294967295L" } },
	{ QUEUE("arguments = { a = 9223372036854775808L; };"), { "1: does not fit into 64 bits" } },
	{ QUEUE("threads = 010;"), { "1: 010 begins with a zero" } },
	/* names and types */
	{ QUEUE() "\nlogs = { };", { "2: unknown setting logs (did you mean log?)" } },
	{ BROKER("\nhartbeat = \"5s\";"), { "2: broker.hartbeat (did you mean heartbeat?)" } },
	{ QUEUE("\ntimelimit = \"5s\";"), { "2: queues.timelimit (did you mean time_limit?)" } },
	{ QUEUE() "\ntime_limit = \"1s\";",
	    { "2: time_limit (it is known as queues.time_limit)" } },
	{ QUEUE("zzzzzz = 1;"), { "1: unknown setting queues.zzzzzz" } },
	{ BROKER("tls = { verfy = true; };"),
	    { "1: broker.tls.verfy (did you mean verify?)", "1: no URL begins with amqps" } },
	{ QUEUE("retry = { atempts = 1; };"),
	    { "1: queues.retry.atempts (did you mean attempts?)" } },
	{ "queues = { };",
	    { "1: queues must be a list of groups, ( { ... }, { ... } ), not a group" } },
	{ "queues = ( 5 );", { "1: each item must be a group { ... }, not 5", "1: neither task" } },
	{ "broker = 1;", { "1: broker must be a group { ... }, not 1" } },
	{ "workers = ( { processes = 1; } );", { "1: list of pools is reserved" } },
	{ QUEUE("threads = \"4\";"), { "1: queues.threads must be a whole number, not \"4\"" } },
	{ QUEUE("threads = 1.0;"), { "1: queues.threads must be a whole number, not 1" } },
	{ QUEUE("durable = 1;"), { "1: queues.durable must be true or false, not 1" } },
	{ QUEUE("time_limit = 5;"), { "1: queues.time_limit must be a duration" } },
	{ QUEUE("time_limit = \"5\";"),
	    { "1: such as \"500ms\", \"10s\", \"5m\" or \"2h\", not \"5\"" } },
	{ "limits = { message = \"16 mega\"; };", { "1: limits.message must be a size" } },
	{ QUEUE("ack = \"maybe\";"),
	    { "1: queues.ack must be \"after\" or \"none\", not \"maybe\"" } },
	{ QUEUE("ack = \"\";"), { "1: queues.ack must be" } },
	{ QUEUE("type = \"\";"), { "1: queues.type must be \"classic\" or \"quorum\", not \"\"" } },
	{ "log = { level = \"warning\"; };", { "1: \"error\", \"warn\", \"info\" or \"debug\"" } },
	/* bounds */
	{ QUEUE("threads = 0;"), { "1: queues.threads must be from 1 to 1024, not 0" } },
	{ QUEUE("threads = 1025;"), { "1: queues.threads" } },
	{ QUEUE("retry = { factor = 0.5; };"),
	    { "1: queues.retry.factor must be from 1.0 to 100.0" } },
	{ BROKER("heartbeat = \"0\";"), { "1: broker.heartbeat must be from \"1s\" to \"1h\"" } },
	{ BROKER("heartbeat = \"1500ms\";"), { "1: whole seconds" } },
	{ QUEUE("retry = { first = \"1h\"; };"), { "1: first is longer than max" } },
	{ "queues = ( { name = \"a\"; task = \"t\"; threads = 1000; },\n"
	  "{ name = \"b\"; task = \"t\"; threads = 1001; } );",
	    { "1: 2001 threads in all" } },
	/* broker */
	{ BROKER("urls = [ ];"), { "1: broker.urls is empty" } },
	{ BROKER("urls = \"amqp://u:canary@h\";"), { "1: must be a list of strings" } },
	{ BROKER("urls = [ 1 ];"), { "1: must be a list of strings" } },
	{ BROKER("urls = [ \"amqp://h\",\n\"amqp://u:canary@h:x\" ];"), { "2: port must be" } },
	{ BROKER("urls = [ \"amqp://u:canary@h\" ]; password_file = \"x\";"), { "1: give one" } },
	{ BROKER("urls = [ \"amqp://u@h\" ];"), { "1: without a password" } },
	{ BROKER("tls = { ca_file = \"x\"; };"), { "1: no URL begins with amqps" } },
	{ BROKER("urls = [ \"amqps://h\" ]; tls = {\ncert_file = \"c\"; };"),
	    { "2: needs key_file" } },
	{ BROKER("urls = [ \"amqps://h\" ]; tls = {\nkey_file = \"c\"; };"),
	    { "2: needs cert_file" } },
	{ BROKER("urls = [ \"amqps://h\" ]; tls = {\nkey_password_file = \"c\"; };"),
	    { "2: needs key_file" } },
	{ BROKER("urls = [ \"amqps://h\" ];\nauth = \"external\";"),
	    { "2: needs a client certificate" } },
	{ BROKER("urls = [ \"amqp://h\", \"amqps://h\" ]; auth = \"external\";\n"
		 "tls = { cert_file = \"c\"; key_file = \"k\"; };"),
	    { "1: needs amqps://" } },
	{ BROKER("urls = [ \"amqps://u:canary@h\" ]; auth = \"external\";\n"
		 "tls = { cert_file = \"c\"; key_file = \"k\"; };"),
	    { "1: takes no password" } },
	{ BROKER("connection_name = \"a\\nb\";"), { "1: control character" } },
	/* plugins */
	{ "plugins = { load = ( { } ); };", { "1: plugins.load.file is missing" } },
	{ "plugins = { load = ( { file = \"\"; } ); };", { "1: plugins.load.file is empty" } },
	{ "plugins = { load = ( { file = \"a.so\"; },\n{ file = \"a.so\"; } ); };",
	    { "2: is loaded twice (line 1)" } },
	{ "plugins = { load = ( { file = \"a.so\"; options = {\na = { }; b = ( ( 1 ) ); }; } ); };",
	    { "2: options.a must be a value", "2: options.b must be a value" } },
	{ "plugins = { load = ( { file = \"a.so\"; options = 1; } ); };",
	    { "1: plugins.load.options" } },
	/* exchanges */
	{ "exchanges = ( { } );", { "1: name is missing", "1: type is missing" } },
	{ "exchanges = ( { name = \"\"; type = \"topic\"; } );", { "1: name is empty" } },
	{ "exchanges = ( { name = \"e\"; type = \"topc\"; } );", { "1: not \"topc\"" } },
	{ "exchanges = ( { name = \"amq.topic\"; type = \"topic\"; } );", { "1: reserved" } },
	{ "exchanges = ( { name = \"warren.v1.deliver\"; type = \"topic\"; } );",
	    { "1: reserved" } },
	{ EXCHANGE("},\n{ name = \"e\"; type = \"topic\";"),
	    { "2: \"e\" is listed twice (line 1)" } },
	/* queues */
	{ "queues = ( { task = \"t\"; } );", { "1: queues.name is missing" } },
	{ "queues = ( { name = \"q\"; } );", { "1: neither task nor route" } },
	{ QUEUE("\nroute = \"type\";"), { "2: both task and route" } },
	{ QUEUE("tasks = [ \"a\" ];"), { "1: there is no route" } },
	{ "queues = ( { name = \"q\"; route = \"body\"; } );",
	    { "1: \"routing_key\" or \"header:NAME\"" } },
	{ "queues = ( { name = \"q\"; route = \"header:\"; } );", { "1: queues.route must be" } },
	{ "queues = ( { name = \"q\"; route = \"type\"; tasks = [ \"a b\" ]; } );",
	    { "1: cannot match" } },
	{ "queues = ( { name = \"q\"; task = \"a b\"; } );",
	    { "1: cannot be the name of a task" } },
	{ QUEUE("},\n{ name = \"q\"; task = \"u\";"), { "2: \"q\" is listed twice (line 1)" } },
	{ "queues = ( { name = \"amq.q\"; task = \"t\"; } );", { "1: reserved" } },
	{ "queues = ( { name = \"warren.v1.parked\"; task = \"t\"; } );", { "1: reserved" } },
	{ "queues = ( { name = \"a\\nb\"; task = \"t\"; } );", { "1: control character" } },
	{ "queues = ( { name = \"\\xff\"; task = \"t\"; } );", { "1: not UTF-8" } },
	{ "queues = ( { name = \"\"; task = \"t\"; } );", { "1: must be exclusive" } },
	{ "queues = ( { name = \"\"; exclusive = true; task = \"t\"; declare = \"off\"; } );",
	    { "1: must be \"active\"" } },
	{ QUEUE("},\n{ name = \"q.retry\"; task = \"t\";"),
	    { "2: \"q.retry\" would be a work queue and the return queue of \"q\" (line 1)" } },
	{ "queues = ( { name = \"q.quarantine\"; task = \"t\"; },\n{ name = \"q\"; task = \"t\"; } "
	  ");",
	    { "2: the quarantine queue of \"q\"" } },
	{ QUEUE("},\n{ name = \"q.dead\"; task = \"t\";"),
	    { "2: a work queue and the dead-letter queue of \"q\"" } },
	{ QUEUE("\ndead_letter = \"q\";"), { "2: \"q\" would be the dead-letter queue" } },
	{ QUEUE("dead_letter = \"d\"; },\n{ name = \"r\"; task = \"t\";\ndead_letter = \"d\"; "
		"dead_letter_type = \"quorum\";"),
	    { "3: \"d\" has another dead_letter_type in line 1" } },
	{ QUEUE("dead_letter = \"amq.x\";"), { "1: reserved" } },
	{ QUEUE("type = \"stream\";"), { "1: streams are not supported" } },
	{ QUEUE("arguments = { x-queue-type = \"stream\"; };"),
	    { "1: streams are not supported" } },
	{ QUEUE("arguments = { x-queue-type = \"quorum\"; };"),
	    { "1: given by the setting type" } },
	{ QUEUE("type = \"quorum\"; exclusive = true;"), { "1: cannot be exclusive" } },
	{ QUEUE("type = \"quorum\"; durable = false;"), { "1: must be durable" } },
	{ QUEUE("type = \"quorum\"; auto_delete = true;"), { "1: cannot be auto_delete" } },
	{ QUEUE("type = \"quorum\"; arguments = {\nx-max-priority = 5; };"),
	    { "2: refused by quorum" } },
	{ QUEUE(
	      "type = \"classic\"; arguments = (\n{ name = \"x-delivery-limit\"; value = 5; } );"),
	    { "2: refused by classic" } },
	{ QUEUE("arguments = { x-max-priority = 256; };"), { "1: from 1 to 255" } },
	{ QUEUE("arguments = ( { name = \"a\"; value = 1; },\n{ name = \"a\"; value = 2; } );"),
	    { "2: a stands twice" } },
	{ QUEUE("arguments = ( { name = \"\"; value = 1; } );"), { "1: from 1 to 255 bytes" } },
	{ QUEUE("arguments = ( { name = \"a\"; } );"), { "1: each item must be { name" } },
	{ QUEUE("arguments = ( 5 );"), { "1: each item must be { name" } },
	{ QUEUE("arguments = [ 5 ];"), { "1: queues.arguments must be a group" } },
	{ QUEUE("arguments = { a = ((((((((((((((((( 1 ))))))))))))))))); };"),
	    { "1: nested deeper" } },
	{ QUEUE("exclusive = true;\nretry = { };"), { "2: retries need a queue that has a name" } },
	{ QUEUE("ack = \"none\";\nretry = { attempts = 3; };"), { "2: there are no retries" } },
	{ QUEUE("ack = \"none\";\ndead_letter = \"d\";"), { "2: there are no dead letters" } },
	{ QUEUE("bindings = ( { } );"), { "1: queues.bindings.exchange is missing" } },
	{ QUEUE("bindings = ( { exchange = \"\"; } );"), { "1: the default exchange" } },
	{ QUEUE("bindings = ( { exchange = \"e\"; arguments = { x-match = \"one\"; }; } );"),
	    { "1: x-match must be" } },
	{ QUEUE("bindings = ( { exchange = \"e\"; keys = \"k\"; } );"),
	    { "1: keys must be a list" } },
	{ QUEUE("exclusive = true; declare = \"passive\";"), { "1: nobody else can declare it" } },
	{ BROKER("password_file = \"\";"), { "1: broker.password_file must be a file name" } },
	/* control */
	{ "control = { socket = "
	  "\"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"; };",
	    { "1: longer than 107 bytes" } },
	/* http */
	{ "http = { address = \"localhost\"; };",
	    { "1: http.address must be an IP address such as \"127.0.0.1\" or \"::1\", not "
	      "\"localhost\"" } },
	{ "http = { address = \"\"; };", { "1: must be an IP address" } },
	{ "http = { port = 65536; };", { "1: http.port must be from 0 to 65535" } },
};

START_TEST(each_fault_has_its_line)
{
	parse(broken[_i].text);
	expect(&errors, broken[_i].text, broken[_i].wanted);
	ck_assert(!errors.refused);
	char *all = said(&errors);
	ck_assert_ptr_null(strstr(all, "canary"));
	free(all);
}
END_TEST

START_TEST(all_faults_in_one_run)
{
	static const char text[] =
	    "broker = {\n"
	    "  hartbeat = \"1s\";\n"
	    "  heartbeat = \"0\";\n"
	    "};\n"
	    "queues = (\n"
	    "  { name = \"a\"; threads = 5000000000; task = \"x\"; route = \"type\"; },\n"
	    "  { name = \"a\"; ack = 7; type = \"stream\"; task = \"x\"; },\n"
	    "  { }\n"
	    ");\n"
	    "limits = { message = \"1\"; };\n"
	    "log = { level = 1; format = \"xml\"; };\n";
	static const char *const wanted[] = { "2: hartbeat", "3: broker.heartbeat", "6: 5000000000",
		"6: queues.threads", "6: both", "7: queues.type", "7: queues.ack",
		"7: listed twice", "8: queues.name", "8: neither", "10: limits.message",
		"11: log.level", "11: log.format", NULL };
	parse(text);
	expect(&errors, text, wanted);
}
END_TEST

START_TEST(long_names_are_refused)
{
	char name[400], text[600];
	for (int more = 0; more < 2; more++) {
		(void)snprintf(name, sizeof(name), "%0*d", 190 + more, 0);
		(void)snprintf(
		    text, sizeof(text), "queues = ( { name = \"%s\"; task = \"t\"; } );", name);
		parse(text);
		ck_assert_int_eq(conf != NULL, more == 0);
		(void)snprintf(name, sizeof(name), "%0*d", 255 + more, 0);
		(void)snprintf(text, sizeof(text),
		    QUEUE("bindings = ( { exchange = \"e\"; keys = [ \"%s\" ]; } );"), name);
		parse(text);
		ck_assert_int_eq(conf != NULL, more == 0);
	}
}
END_TEST

START_TEST(numbers_in_words_and_remarks_are_none)
{
	parse_sound("# 3000000000 \"\n// 3000000000 /*\n/* 3000000000 \" @include */\n" QUEUE(
	    "arguments = { a = \"3000000000 \\\" 3000000000\"; a3000000000 = 1;\n"
	    "a-3000000000 = 3000000000L; b = 3000000000.5; c = 3e30; d = -1; e = +5; f = "
	    "0x7fffffff;\n"
	    "g = 0; h = 0.5; i = .5; j = -2147483648; k = 0x7fffffffL; l = 3000000000LL; m = 1.; "
	    "};"));
	int64_t n;
	ck_assert(table_get_int(&conf->queues[0].arguments, "a-3000000000", &n) && n == 3000000000);
	ck_assert(table_get_int(&conf->queues[0].arguments, "k", &n) && n == 0x7fffffff);
}
END_TEST

START_TEST(a_decimal_point_is_one_in_any_locale)
{
	/* Where the machine has such a locale; elsewhere this is the plain case. */
	(void)setenv("LC_ALL", "de_DE.UTF-8", 1);
	parse_sound(QUEUE("retry = { factor = 1.5; };"));
	ck_assert_double_eq(conf->queues[0].retry.factor, 1.5);
	ck_assert_double_eq(conf->queues[0].retry.jitter, 0.2);
}
END_TEST

/* ---- each setting of the table, by the table ---- */

/* The setting in a file that is sound but for it. */
static void wrap(const struct setting *st, const char *value, char *text, size_t size)
{
	static const char *const wraps[N_SECTIONS] = {
		[SECTION_root] = "%s",
		[SECTION_broker] = "broker = { %s };",
		[SECTION_tls] = "broker = { urls = [ \"amqps://h\" ]; tls = { %s }; };",
		[SECTION_plugins] = "plugins = { %s };",
		[SECTION_plugin] = "plugins = { load = ( { %s } ); };",
		[SECTION_exchange] = "exchanges = ( { %s } );",
		[SECTION_queue] = "queues = ( { %s } );",
		[SECTION_binding] = "queues = ( { bindings = ( { %s } ); } );",
		[SECTION_retry] = "queues = ( { retry = { %s }; } );",
		[SECTION_workers] = "workers = { %s };",
		[SECTION_limits] = "limits = { %s };",
		[SECTION_log] = "log = { %s };",
		[SECTION_control] = "control = { %s };",
		[SECTION_http] = "http = { %s };",
	};
	char line[256];
	(void)snprintf(line, sizeof(line), "%s = %s;", st->name, value);
	const char *before = wraps[st->section], *place = strstr(before, "%s");
	ck_assert_ptr_nonnull(place);
	(void)snprintf(text, size, "%.*s%s%s", (int)(place - before), before, line, place + 2);
}

/* Whether the setting is refused for itself; what it needs beside it does not matter here. */
static bool is_refused(const struct setting *st, const char *value)
{
	char text[512], words[128];
	wrap(st, value, text, sizeof(text));
	parse(text);
	const char *path = sections[st->section].path;
	(void)snprintf(words, sizeof(words), "%s%s%s must be ", path, *path ? "." : "", st->name);
	for (size_t i = 0; i < errors.n; i++)
		if (strncmp(errors.list[i].text, words, strlen(words)) == 0 ||
		    strstr(errors.list[i].text, "as a list of pools"))
			return true;
	return false;
}

static bool is_text(const struct setting *st)
{
	return st->kind == KIND_DURATION || st->kind == KIND_SIZE;
}

START_TEST(every_setting_refuses_another_type)
{
	const struct setting *st = &settings[_i];
	ck_assert_msg(is_refused(st, st->kind == KIND_GROUPS || is_text(st) ? "1" : "( 1, 2.5 )") ||
			  st->kind == KIND_TABLE,
	    "%s", st->name);
	if (st->kind == KIND_TABLE)
		ck_assert(is_refused(st, "1"));
}
END_TEST

START_TEST(every_bound_holds)
{
	const struct setting *st = &settings[_i];
	if (!*st->low)
		return;
	const char *quote = is_text(st) ? "\"" : "";
	char low[64], high[64], above[64];
	(void)snprintf(low, sizeof(low), "%s%s%s", quote, st->low, quote);
	(void)snprintf(high, sizeof(high), "%s%s%s%s", quote, st->high, quote,
	    strlen(st->high) > 9 && !*quote ? "L" : "");
	ck_assert_msg(!is_refused(st, low), "%s", st->name);
	ck_assert_msg(!is_refused(st, high), "%s", st->name);
	(void)snprintf(
	    above, sizeof(above), "%s", is_text(st) ? "\"10000d\"" : "9000000000000000000L");
	ck_assert_msg(
	    is_refused(st, st->kind == KIND_SIZE ? "\"9000000GiB\"" : above), "%s", st->name);
	if (!is_text(st))
		ck_assert_msg(is_refused(st, "-9000000000000000000L"), "%s", st->name);
}
END_TEST

/* ---- warnings ---- */

static const struct {
	const char *text;
	const char *wanted[4];
} doubtful[] = {
	{ QUEUE(), { NULL } },
	{ "", { "0: there are no queues" } },
	{ QUEUE("\ntime_limit = \"0\";"), { "2: consumer_timeout" } },
	{ QUEUE("\ntime_limit = \"1501s\";"),
	    { "2: consumer_timeout in the broker's rabbitmq.conf" } },
	{ QUEUE("time_limit = \"25m\";"), { NULL } },
	{ QUEUE("time_limit = \"0\"; ack = \"none\";"), { NULL } },
	{ QUEUE("durable = false;"), { "1: neither durable nor exclusive" } },
	{ QUEUE("dead_letter = \"\";"), { "1: are dropped" } },
	{ QUEUE("ack = \"none\"; prefetch = 5;"), { "1: prefetch has no effect" } },
	{ QUEUE("declare = \"passive\";\nbindings = ( { exchange = \"e\"; } );\narguments = { a = "
		"1; };"),
	    { "2: bindings has no effect", "3: arguments has no effect" } },
	{ QUEUE() "\n" BROKER("urls = [ \"amqp://u:p@h\" ];"), { "2: in the clear" } },
	{ QUEUE() BROKER("urls = [ \"amqp://u@10.1.2.3\" ]; password_file = \"/p\";"),
	    { "1: in the clear" } },
	{ QUEUE() BROKER("urls = [ \"amqp://u:p@127.0.0.9\", \"amqp://u:p@[::1]\", "
			 "\"amqp://u:p@LOCALHOST\" ];"),
	    { NULL } },
	{ QUEUE() BROKER("urls = [ \"amqps://u:p@h\" ];"), { NULL } },
	{ QUEUE() BROKER("urls = [ \"amqp://h\" ];"), { "1: guest" } },
	{ QUEUE() BROKER("urls = [ \"amqps://u:p@h\" ];\ntls = { verify = false; };"),
	    { "2: pose as" } },
};

START_TEST(what_will_hurt_is_said)
{
	parse_sound(doubtful[_i].text);
	expect(&warnings, doubtful[_i].text, doubtful[_i].wanted);
	conf_free(conf);
	conf = conf_parse("w", doubtful[_i].text, &errors, NULL);
	ck_assert_ptr_nonnull(conf);
}
END_TEST

/* What an operator wrote reaches the terminal escaped. */
START_TEST(messages_are_one_safe_line)
{
	parse(QUEUE("ack = \"\\x1b[2J\n\\xe2\\x80\\xae\\xff\";"));
	char *all = said(&errors);
	ck_assert_str_eq(all, "/etc/warren/w.cfg:1: queues.ack must be \"after\" or \"none\", not "
			      "\"\\x1b[2J\\n\\u{202e}\\xff\"\n");
	free(all);
}
END_TEST

/* ---- the samples that ship ---- */

static char *read_text(const char *path)
{
	FILE *in = fopen(path, "r");
	ck_assert_msg(in != NULL, "%s: %s", path, strerror(errno));
	char *text = NULL;
	size_t room = 0;
	ck_assert_int_gt(getdelim(&text, &room, '\0', in), 0);
	ck_assert_int_eq(fclose(in), 0);
	return text;
}

/* What is commented out has its # in the first column, and no word behind one blank. */
static void uncomment(char *text)
{
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (line[0] == '#' && line[1] != '\n' && (line[1] != ' ' || line[2] == ' '))
			line[0] = ' ';
	}
}

START_TEST(samples_are_sound)
{
	static const char *const samples[] = { "warren.cfg", "warren-minimal.cfg" };
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		char path[1024];
		(void)snprintf(path, sizeof(path), "%s/etc/%s", SOURCE_DIR, samples[i]);
		char *text = read_text(path);
		parse_sound(text);
		ck_assert_uint_eq(warnings.n, 0);
		ck_assert_uint_eq(conf->n_queues, 1);
		free(text);
	}
}
END_TEST

START_TEST(the_full_sample_is_sound_uncommented)
{
	char *text = read_text(SOURCE_DIR "/etc/warren.cfg");
	uncomment(text);
	parse_sound(text);
	ck_assert_uint_eq(conf->n_queues, 5);
	ck_assert_uint_eq(conf->n_plugins, 2);
	ck_assert_uint_eq(conf->broker.n_urls, 2);
	ck_assert_ptr_nonnull(conf->broker.tls.key_file);
	free(text);
}
END_TEST

static bool holds_setting(const char *text, const char *setting)
{
	size_t len = strlen(setting);
	for (const char *p = strstr(text, setting); p; p = strstr(p + 1, setting))
		if (p > text && strchr(" #{", p[-1]) && strncmp(p + len, " = ", 3) == 0)
			return true;
	for (const char *p = strstr(text, setting); p; p = strstr(p + 1, setting))
		if (p == text || p[-1] == '\n')
			return true;
	return false;
}

START_TEST(the_full_sample_holds_every_setting)
{
	const struct setting *st = &settings[_i];
	char *text = read_text(SOURCE_DIR "/etc/warren.cfg");
	ck_assert_msg(holds_setting(text, st->name), "%s%s%s", sections[st->section].path,
	    *sections[st->section].path ? "." : "", st->name);
	if (st->fallback && *st->fallback && *st->fallback != '(' && st->kind != KIND_URLS) {
		bool bare = st->kind == KIND_BOOL || st->kind == KIND_INT || st->kind == KIND_REAL;
		char line[256];
		(void)snprintf(line, sizeof(line), "%s = %s%s%s;", st->name, bare ? "" : "\"",
		    st->fallback, bare ? "" : "\"");
		ck_assert_msg(strstr(text, line), "the sample does not show the default: %s", line);
	}
	free(text);
}
END_TEST

/* Cut anywhere, with any byte broken: an answer, never a crash. */
START_TEST(broken_text_is_survived)
{
	size_t len = strlen(everything);
	char *text = malloc(len + 1);
	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < len; i += 3) {
		memcpy(text, everything, len + 1);
		text[i] = '\0';
		parse(text);
	}
	srand(11);
	for (int i = 0; i < 2000; i++) {
		memcpy(text, everything, len + 1);
		for (int n = rand() % 4; n >= 0; n--)
			text[(size_t)rand() % len] =
			    "\"\\;=(){}[],#/*-+.09Laq\n\x01\xff"[rand() % 26];
		if (!strstr(text, "@include"))
			parse(text);
	}
	free(text);
}
END_TEST

/* ---- files ---- */

static char folder[64], file[80];

static void write_file(const char *path, const void *text, size_t len, mode_t mode)
{
	(void)unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	ck_assert_int_eq(close(fd), 0);
}

static void write_conf(const char *text, mode_t mode)
{
	write_file(file, text, strlen(text), mode);
}

static void make_folder(void)
{
	set_up();
	(void)snprintf(folder, sizeof(folder), "/tmp/warren-conf-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	(void)snprintf(file, sizeof(file), "%s/w.cfg", folder);
}

static void remove_folder(void)
{
	tear_down();
	if (geteuid() != getuid())
		ck_assert_int_eq(seteuid(getuid()), 0);
	(void)chmod(folder, 0700);
	(void)unlink(file);
	char path[96];
	(void)snprintf(path, sizeof(path), "%s/x", folder);
	(void)unlink(path);
	ck_assert_int_eq(rmdir(folder), 0);
}

static void load(void)
{
	tear_down();
	conf = conf_load(file, &errors, &warnings);
}

static void expect_loaded(void)
{
	load();
	char *all = said(&errors);
	ck_assert_msg(conf, "%s", all);
	free(all);
}

static void expect_refused(const char *words, const char *mode)
{
	load();
	ck_assert_ptr_null(conf);
	ck_assert(errors.refused);
	ck_assert_uint_eq(errors.n, 1);
	ck_assert_msg(strstr(errors.list[0].text, words) && strstr(errors.list[0].text, mode), "%s",
	    errors.list[0].text);
}

START_TEST(a_file_that_others_can_write_is_refused)
{
	write_conf(QUEUE(), 0644);
	expect_loaded();
	write_conf(QUEUE(), 0666);
	expect_refused("w.cfg (mode 0666) is writable by others", "0666");
	write_conf(QUEUE(), 0604);
	ck_assert_int_eq(chmod(folder, 0777), 0);
	expect_refused("(mode 0777) is writable by others", folder);
	ck_assert_int_eq(chmod(folder, 01777), 0);
	expect_loaded();
}
END_TEST

START_TEST(a_group_counts_as_others_unless_it_is_the_owners_own)
{
	/* A user that every Debian has, with a group of the same name. */
	enum { DAEMON = 1 };
	if (geteuid() != 0)
		return; /* needs other users than its own */
	write_conf(QUEUE(), 0644);
	ck_assert_int_eq(chown(file, 0, NOBODY), 0);
	ck_assert_int_eq(chmod(file, 0664), 0);
	expect_refused("is writable by others", "0664");
	ck_assert_int_eq(chown(file, 0, 0), 0);
	expect_refused("is writable by others", "0664");

	ck_assert_int_eq(chmod(folder, 0755), 0);
	ck_assert_int_eq(chown(file, DAEMON, DAEMON), 0);
	ck_assert_int_eq(seteuid(DAEMON), 0);
	expect_loaded();
}
END_TEST

START_TEST(a_password_must_not_be_readable_by_others)
{
	static const char text[] = QUEUE() "\n" BROKER("urls = [ \"amqp://u:canary@localhost\" ];");
	write_conf(text, 0644);
	expect_refused("w.cfg (mode 0644) holds a password", "0644");
	ck_assert_uint_eq(errors.list[0].line, 2);
	ck_assert_ptr_null(strstr(errors.list[0].text, "canary"));
	write_conf(text, 0640);
	expect_loaded();
	write_conf(QUEUE() BROKER("urls = [ \"amqp://guest:guest@localhost\" ];"), 0644);
	expect_loaded();
}
END_TEST

START_TEST(the_owner_must_be_root_or_us)
{
	if (geteuid() != 0)
		return;
	write_conf(QUEUE(), 0644);
	ck_assert_int_eq(chown(file, NOBODY, NOBODY), 0);
	expect_refused("belongs to user 65534", "0644");
	ck_assert_int_eq(chown(file, 0, 0), 0);
	ck_assert_int_eq(chown(folder, NOBODY, NOBODY), 0);
	expect_refused(folder, "belongs to user 65534");

	/* Somebody else may run it from his own folder, and from root's. */
	ck_assert_int_eq(chmod(folder, 0755), 0);
	ck_assert_int_eq(seteuid(NOBODY), 0);
	expect_loaded();
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(chown(folder, 1, 1), 0);
	ck_assert_int_eq(seteuid(NOBODY), 0);
	expect_refused(folder, "belongs to user 1");
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(chown(folder, 0, 0), 0);
	ck_assert_int_eq(chmod(file, 0600), 0);
	ck_assert_int_eq(seteuid(NOBODY), 0);
	expect_refused("Permission denied", "");
}
END_TEST

START_TEST(links_are_followed_to_the_end)
{
	char path[96];
	(void)snprintf(path, sizeof(path), "%s/x", folder);
	write_file(path, QUEUE(), strlen(QUEUE()), 0644);
	ck_assert_int_eq(symlink("x", file), 0);
	expect_loaded();
	ck_assert_int_eq(chmod(path, 0646), 0);
	expect_refused("/x (mode 0646)", "writable");
}
END_TEST

START_TEST(every_folder_that_links_lead_through_is_ours)
{
	char sub[96], link[128], path[96];
	(void)snprintf(sub, sizeof(sub), "%s/x", folder);
	(void)snprintf(link, sizeof(link), "%s/link", sub);
	(void)snprintf(path, sizeof(path), "%s/y", folder);
	write_file(path, QUEUE(), strlen(QUEUE()), 0644);
	ck_assert_int_eq(mkdir(sub, 0755), 0);
	ck_assert_int_eq(symlink("../y", link), 0);
	ck_assert_int_eq(symlink("x/.//../x/link", file), 0);
	expect_loaded();

	/* Who can replace a link can choose among all files that are trusted. */
	ck_assert_int_eq(chmod(sub, 0777), 0);
	expect_refused("/x (mode 0777) is writable by others", folder);
	ck_assert_int_eq(chmod(sub, 01777), 0);
	expect_loaded();
	if (geteuid() == 0) {
		ck_assert_int_eq(lchown(link, NOBODY, NOBODY), 0);
		expect_refused("/x/link (mode 0777) belongs to user 65534", folder);
	}

	ck_assert_int_eq(unlink(link), 0);
	ck_assert_int_eq(symlink("link", link), 0);
	load();
	ck_assert_str_eq(errors.list[0].text, strerror(ELOOP));
	ck_assert_int_eq(unlink(link), 0);
	ck_assert_int_eq(rmdir(sub), 0);
	ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(a_relative_name_is_seen_from_here)
{
	char name[96];
	write_conf(QUEUE(), 0644);
	ck_assert_int_eq(chdir(folder), 0);
	(void)snprintf(name, sizeof(name), "../%s/./w.cfg", strrchr(folder, '/') + 1);
	conf = conf_load(name, &errors, NULL);
	ck_assert_ptr_nonnull(conf);
	tear_down();
	ck_assert_int_eq(chmod(folder, 0777), 0);
	conf = conf_load("w.cfg", &errors, NULL);
	ck_assert(!conf && errors.refused);
	ck_assert_ptr_nonnull(strstr(errors.list[0].text, folder));
	ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

START_TEST(an_access_list_counts)
{
	/* user::rw-, user:4242:rw-, group::r--, mask::rw-, other::r--; as the kernel stores it. */
	static const unsigned char list[] = { 2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6,
		0, 146, 16, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255,
		32, 0, 4, 0, 255, 255, 255, 255 };
	enum { DAEMON = 1 };
	if (geteuid() != 0)
		return;
	write_conf(QUEUE(), 0644);
	ck_assert_int_eq(chmod(folder, 0755), 0);
	ck_assert_int_eq(chown(file, DAEMON, DAEMON), 0);
	if (setxattr(file, "system.posix_acl_access", list, sizeof(list), 0) != 0) {
		ck_assert_int_eq(errno, EOPNOTSUPP); /* this file system has none */
		return;
	}
	ck_assert_int_eq(seteuid(DAEMON), 0); /* whose own group could write, but not user 4242 */
	expect_refused("w.cfg (mode 0664) is writable by others", "0664");
	ck_assert_int_eq(removexattr(file, "system.posix_acl_access"), 0);
	ck_assert_int_eq(chmod(file, 0664), 0);
	expect_loaded();
}
END_TEST

START_TEST(files_of_tls_are_checked_with_the_configuration)
{
#define TLS_OF(setting, more)                                                                      \
	QUEUE()                                                                                    \
	BROKER("urls = [ \"amqps://localhost\" ]; tls = {\n" setting " = \"x\";\n" more "};")
	static const struct {
		const char *setting, *text;
	} cases[] = {
		{ "tls.ca_file", TLS_OF("ca_file", "") },
		{ "tls.cert_file", TLS_OF("cert_file", "key_file = \"w.cfg\";") },
		{ "tls.key_file", TLS_OF("key_file", "cert_file = \"w.cfg\";") },
	};
	char path[96];
	(void)snprintf(path, sizeof(path), "%s/x", folder);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool is_key = strcmp(cases[i].setting, "tls.key_file") == 0;
		write_conf(cases[i].text, 0600);
		(void)unlink(path);
		load();
		ck_assert(!conf && !errors.refused);
		ck_assert_uint_eq(errors.list[0].line, 2);
		ck_assert_ptr_nonnull(strstr(errors.list[0].text, "No such file"));

		write_file(path, "", 0, 0644);
		if (is_key)
			expect_refused("/x (mode 0644) holds a secret", "tls.key_file");
		else
			expect_loaded();
		ck_assert_int_eq(chmod(path, 0622), 0);
		expect_refused("/x (mode 0622) is writable by others", cases[i].setting);
		ck_assert_int_eq(chmod(path, 0640), 0);
		expect_loaded();
	}
}
END_TEST

START_TEST(what_is_no_text_file_is_refused)
{
	load();
	ck_assert_ptr_null(conf);
	ck_assert(!errors.refused);
	ck_assert_str_eq(errors.list[0].text, "No such file or directory");

	ck_assert_int_eq(mkfifo(file, 0600), 0);
	expect_refused("is not a regular file", "");

	write_file(file, "a\n\0b", 4, 0600);
	load();
	ck_assert_ptr_null(conf);
	ck_assert_uint_eq(errors.list[0].line, 2);
	ck_assert_ptr_nonnull(strstr(errors.list[0].text, "NUL byte"));

	size_t len;
	write_conf("log = { };", 0600);
	char *text = conf_read_file(file, &len, &errors);
	ck_assert_str_eq(text, "log = { };");
	ck_assert_uint_eq(len, strlen(text));
	free(text);
	write_conf("", 0600);
	expect_loaded();
}
END_TEST

START_TEST(a_password_is_the_first_line_of_its_file)
{
	static const struct {
		const char *text;
		size_t len;
		const char *password, *why;
	} cases[] = {
		{ "se cret", 7, "se cret", NULL },
		{ "secret\n", 7, "secret", NULL },
		{ "secret\r\nmore\n", 13, "secret", NULL },
		{ "", 0, NULL, "first line is empty" },
		{ "\nsecret", 7, NULL, "first line is empty" },
		{ "se\0cret", 7, NULL, "NUL" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char why[256] = "";
		write_file(file, cases[i].text, cases[i].len, 0640);
		char *password = conf_read_password(file, why, sizeof(why));
		ck_assert_pstr_eq(password, cases[i].password);
		ck_assert(!cases[i].why || strstr(why, cases[i].why));
		free(password);
	}
	char why[256] = "";
	ck_assert_int_eq(chmod(file, 0644), 0);
	ck_assert_ptr_null(conf_read_password(file, why, sizeof(why)));
	ck_assert_msg(strstr(why, "(mode 0644) holds a secret"), "%s", why);
}
END_TEST

START_TEST(the_text_is_handed_over_as_it_was_checked)
{
	static const char text[] = QUEUE() BROKER("urls = [ \"amqp://u:canary@localhost\" ];");
	char *copy = NULL;
	size_t len = 0;
	write_conf(text, 0604);
	ck_assert_ptr_null(conf_load_text(file, NULL, &copy, &len, &errors, &warnings));
	ck_assert(errors.refused && !copy);
	conf_errors_free(&errors);
	ck_assert_int_eq(chmod(file, 0600), 0);
	conf = conf_load_text(file, NULL, &copy, &len, &errors, &warnings);
	ck_assert_ptr_nonnull(conf);
	ck_assert_str_eq(copy, text);
	ck_assert_uint_eq(len, strlen(text));
	free(copy);
}
END_TEST

START_TEST(password_files_are_checked_with_the_configuration)
{
	char path[96];
	(void)snprintf(path, sizeof(path), "%s/x", folder);
	write_conf(
	    QUEUE() "\n" BROKER("urls = [ \"amqp://u@localhost\" ];\npassword_file = \"x\";"),
	    0644);
	load();
	ck_assert_ptr_null(conf);
	ck_assert(!errors.refused);
	ck_assert_uint_eq(errors.list[0].line, 3);
	ck_assert_ptr_nonnull(strstr(errors.list[0].text, "No such file"));

	write_file(path, "pw\n", 3, 0644);
	expect_refused("/x (mode 0644) holds a secret", "");
	ck_assert_int_eq(chmod(path, 0600), 0);
	expect_loaded();
	ck_assert_str_eq(conf->broker.password_file, path);
}
END_TEST

/* ---- */

static TCase *parsing(void)
{
	TCase *t = tcase_create("parsing");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, defaults);
	tcase_add_test(t, the_socket_stands_where_its_user_may_write);
	tcase_add_test(t, the_doors_may_be_shut);
	tcase_add_test(t, defaults_that_depend_on_others);
	tcase_add_test(t, everything_is_read);
	tcase_add_test(t, values_keep_their_types);
	tcase_add_loop_test(t, each_fault_has_its_line, 0, ARRAY_LEN(broken));
	tcase_add_test(t, all_faults_in_one_run);
	tcase_add_test(t, long_names_are_refused);
	tcase_add_test(t, numbers_in_words_and_remarks_are_none);
	tcase_add_test(t, a_decimal_point_is_one_in_any_locale);
	tcase_add_loop_test(t, every_setting_refuses_another_type, 0, (int)n_settings);
	tcase_add_loop_test(t, every_bound_holds, 0, (int)n_settings);
	tcase_add_loop_test(t, what_will_hurt_is_said, 0, ARRAY_LEN(doubtful));
	tcase_add_test(t, messages_are_one_safe_line);
	tcase_add_test(t, samples_are_sound);
	tcase_add_test(t, the_full_sample_is_sound_uncommented);
	tcase_add_loop_test(t, the_full_sample_holds_every_setting, 0, (int)n_settings);
	tcase_add_test(t, broken_text_is_survived);
	tcase_set_timeout(t, 60);
	return t;
}

static TCase *files(void)
{
	TCase *t = tcase_create("files");
	tcase_add_checked_fixture(t, make_folder, remove_folder);
	tcase_add_test(t, a_file_that_others_can_write_is_refused);
	tcase_add_test(t, a_group_counts_as_others_unless_it_is_the_owners_own);
	tcase_add_test(t, a_password_must_not_be_readable_by_others);
	tcase_add_test(t, the_owner_must_be_root_or_us);
	tcase_add_test(t, links_are_followed_to_the_end);
	tcase_add_test(t, every_folder_that_links_lead_through_is_ours);
	tcase_add_test(t, a_relative_name_is_seen_from_here);
	tcase_add_test(t, an_access_list_counts);
	tcase_add_test(t, files_of_tls_are_checked_with_the_configuration);
	tcase_add_test(t, what_is_no_text_file_is_refused);
	tcase_add_test(t, a_password_is_the_first_line_of_its_file);
	tcase_add_test(t, the_text_is_handed_over_as_it_was_checked);
	tcase_add_test(t, password_files_are_checked_with_the_configuration);
	return t;
}

int main(void)
{
	Suite *suite = suite_create("conf");
	suite_add_tcase(suite, parsing());
	suite_add_tcase(suite, files());
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
