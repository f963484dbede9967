/* What settings demand of each other, and the defaults that depend on others. Floor 1. */
#include "conf_read.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "text.h"

#ifndef WARREN_PLUGIN_DIR
#define WARREN_PLUGIN_DIR "/usr/local/lib/warren/plugins"
#define WARREN_PLUGIN_REL "../lib/warren/plugins"
#endif

enum {
	QUEUE_NAME_MAX = 190, /* leaves room for what we append */
	SHORTSTR_MAX = 255,   /* AMQP's limit for names and keys */
	CHANNELS_MAX = 2000,  /* of the 2047 that a broker grants by default */
	PRIORITY_MAX = 255,   /* of x-max-priority */
	TAKEN_BACK_S = 29 * 60,
	TIME_LIMIT_S = 25 * 60, /* RabbitMQ's consumer timeout is 30 minutes by default */
};

/* ---- names ---- */

static bool begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool is_reserved(const char *name)
{
	return begins(name, "amq.") || begins(name, "warren.v1.");
}

static bool has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7F)
			return true;
	return false;
}

/* A name or key that goes over the wire as a short string. */
static void check_name(
    struct reader *r, unsigned line, const char *what, const char *name, size_t max)
{
	if (strlen(name) > max)
		reader_wrong(r, line, "%s is longer than %zu bytes", what, max);
	else if (!text_is_utf8(bytes_of(name)))
		reader_wrong(r, line, "%s is not UTF-8", what);
	else if (has_control(name))
		reader_wrong(r, line, "%s holds a control character", what);
}

/* ---- broker ---- */

static bool is_loopback(const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	size_t len = strlen(host);
	return strcasecmp(host, "localhost") == 0 ||
	       (len > 10 && strcasecmp(host + len - 10, ".localhost") == 0);
}

static void check_external(
    struct reader *r, const struct conf_broker *b, const struct url *url, unsigned line)
{
	if (!url->tls)
		reader_wrong(r, line, "broker.auth = \"external\" needs amqps://, but there is %s",
		    url->shown);
	if (url->has_password || b->password_file)
		reader_wrong(r, line, "broker.auth = \"external\" takes no password: leave it out");
}

static void check_plain(
    struct reader *r, const struct conf_broker *b, const struct url *url, unsigned line)
{
	bool guest = strcmp(url->user, "guest") == 0;
	if (url->has_password && b->password_file)
		reader_wrong(r, line,
		    "broker.urls holds a password, and broker.password_file is set: give one");
	else if (!url->password[0] && !b->password_file)
		reader_wrong(r, line,
		    "%s names a user without a password: set broker.password_file", url->shown);
	if (is_loopback(url->host))
		return;
	if (guest)
		reader_warn(r, line, "%s: RabbitMQ lets the user guest in from its own host only",
		    url->shown);
	if (!url->tls && (url->has_password || b->password_file))
		reader_warn(r, line,
		    "%s: the password crosses the network in the clear (amqps:// hides it)",
		    url->shown);
}

static void check_urls(struct reader *r, const struct conf_broker *b)
{
	unsigned line = conf_line(r, "broker.urls");
	if (line > 0 && b->n_urls == 0 && !reader_has_wrong(r, line))
		reader_wrong(r, line, "broker.urls is empty");
	for (size_t i = 0; i < b->n_urls; i++) {
		unsigned item = conf_line(r, "broker.urls.[%zu]", i);
		if (!b->urls[i].shown)
			continue; /* refused already */
		if (b->auth == AUTH_EXTERNAL)
			check_external(r, b, &b->urls[i], item);
		else
			check_plain(r, b, &b->urls[i], item);
	}
}

static void check_tls(struct reader *r, struct conf_broker *b)
{
	struct conf_tls *tls = &b->tls;
	unsigned line = tls->line = conf_line(r, "broker.tls");
	bool any = false;
	for (size_t i = 0; i < b->n_urls; i++)
		any |= b->urls[i].tls || !b->urls[i].shown;
	if (line > 0 && !any)
		reader_wrong(r, line, "broker.tls is set, but no URL begins with amqps://");
	if (tls->cert_file && !tls->key_file)
		reader_wrong(
		    r, conf_line(r, "broker.tls.cert_file"), "broker.tls.cert_file needs key_file");
	if (tls->key_file && !tls->cert_file)
		reader_wrong(
		    r, conf_line(r, "broker.tls.key_file"), "broker.tls.key_file needs cert_file");
	if (tls->key_password_file && !tls->key_file)
		reader_wrong(r, conf_line(r, "broker.tls.key_password_file"),
		    "broker.tls.key_password_file needs key_file");
	if (b->auth == AUTH_EXTERNAL && !tls->cert_file)
		reader_wrong(r, conf_line(r, "broker.auth"),
		    "broker.auth = \"external\" needs a client certificate: set tls.cert_file and "
		    "tls.key_file");
	if (!tls->verify)
		reader_warn(r, conf_line(r, "broker.tls.verify"),
		    "broker.tls.verify = false: anybody on the way can pose as the broker and read "
		    "the password");
}

static void check_broker(struct reader *r, struct conf_broker *b)
{
	check_urls(r, b);
	check_tls(r, b);
	if (b->heartbeat_ns % NS_PER_S != 0)
		reader_wrong(
		    r, conf_line(r, "broker.heartbeat"), "broker.heartbeat must be whole seconds");
	if (b->connection_name)
		check_name(r, conf_line(r, "broker.connection_name"), "broker.connection_name",
		    b->connection_name, SHORTSTR_MAX);
}

/* ---- plugins ---- */

/* An installation may be moved as a whole, so plugins are first looked for where they stand in
 * relation to the program that runs. */
static char *own_plugin_directory(struct reader *r)
{
	char program[PATH_MAX], beside[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
	char *slash = len > 0 ? memrchr(program, '/', (size_t)len) : NULL;
	if (slash) {
		*slash = '\0';
		int n = snprintf(beside, sizeof(beside), "%s/" WARREN_PLUGIN_REL, program);
		char *real = n < (int)sizeof(beside) ? realpath(beside, NULL) : NULL;
		if (real) {
			char *path = reader_path(r, r->folder, real);
			free(real);
			return path;
		}
	}
	return reader_path(r, r->folder, WARREN_PLUGIN_DIR);
}

static void check_plugins(struct reader *r, struct conf *conf)
{
	if (!conf->plugin_directory)
		conf->plugin_directory = own_plugin_directory(r);
	for (size_t i = 0; i < conf->n_plugins; i++) {
		struct conf_plugin *plugin = &conf->plugins[i];
		if (!plugin->file)
			continue;
		if (!*plugin->file) {
			reader_wrong(r, plugin->line, "plugins.load.file is empty");
			continue;
		}
		plugin->file = reader_path(r, conf->plugin_directory, plugin->file);
		for (size_t j = 0; j < i; j++)
			if (conf->plugins[j].file &&
			    strcmp(plugin->file, conf->plugins[j].file) == 0)
				reader_wrong(r, plugin->line,
				    "plugins.load: %s is loaded twice (line %u)", plugin->file,
				    conf->plugins[j].line);
	}
}

/* ---- exchanges ---- */

static void check_exchange_type(struct reader *r, const struct conf_exchange *exchange)
{
	static const char *const known[] = { "fanout", "direct", "topic", "headers" };
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(exchange->type, known[i]) == 0)
			return;
	if (!begins(exchange->type, "x-"))
		reader_wrong(r, exchange->line,
		    "exchanges.type must be \"fanout\", \"direct\", \"topic\", \"headers\" or "
		    "begin with "
		    "\"x-\", not \"%s\"",
		    exchange->type);
}

static void check_exchange(struct reader *r, const struct conf *conf, size_t index)
{
	const struct conf_exchange *exchange = &conf->exchanges[index];
	if (exchange->type)
		check_exchange_type(r, exchange);
	if (!exchange->name)
		return;
	check_name(r, exchange->line, "exchanges.name", exchange->name, SHORTSTR_MAX);
	if (!*exchange->name)
		reader_wrong(r, exchange->line,
		    "exchanges.name is empty: the default exchange is always there and cannot be "
		    "declared");
	if (is_reserved(exchange->name) && exchange->declare == DECLARE_ACTIVE)
		reader_wrong(r, exchange->line,
		    "exchanges.name: \"%s\" is a reserved name (amq.*, warren.v1.*)",
		    exchange->name);
	for (size_t j = 0; j < index; j++)
		if (conf->exchanges[j].name && strcmp(exchange->name, conf->exchanges[j].name) == 0)
			reader_wrong(r, exchange->line,
			    "exchanges: \"%s\" is listed twice (line %u)", exchange->name,
			    conf->exchanges[j].line);
}

/* ---- queues ---- */

static bool is_server_named(const struct conf_queue *q)
{
	return q->name && !*q->name;
}

/* A queue whose messages cannot come back to it: it ends with its connection. */
static bool is_private(const struct conf_queue *q)
{
	return q->exclusive || is_server_named(q);
}

static unsigned line_of(const struct reader *r, const struct conf_queue *q, const char *setting)
{
	return conf_line(r, "queues.[%zu].%s", q->index, setting);
}

static bool is_set(const struct reader *r, const struct conf_queue *q, const char *setting)
{
	return line_of(r, q, setting) > 0;
}

static char *make_label(struct reader *r, const struct conf *conf, const struct conf_queue *q)
{
	if (!is_server_named(q))
		return reader_printf(r, "%s", q->name ? q->name : "");
	const char *exchange =
	    q->n_bindings > 0 && q->bindings[0].exchange ? q->bindings[0].exchange : "";
	unsigned same = 1;
	for (size_t i = 0; i < q->index; i++) {
		const struct conf_queue *other = &conf->queues[i];
		const char *its = other->n_bindings > 0 ? other->bindings[0].exchange : "";
		same += is_server_named(other) && its && strcmp(its, exchange) == 0;
	}
	return same == 1 ? reader_printf(r, "(%s)", exchange)
			 : reader_printf(r, "(%s %u)", exchange, same);
}

static void fill_defaults(struct reader *r, const struct conf *conf, struct conf_queue *q)
{
	bool comes_back = !is_private(q) && !q->no_ack;
	q->label = make_label(r, conf, q);
	if (!is_set(r, q, "durable"))
		q->durable = !q->exclusive;
	if (!is_set(r, q, "retry") && !comes_back)
		q->retry.attempts = 1;
	if (!is_set(r, q, "dead_letter") && comes_back && q->name)
		q->dead_letter = reader_printf(r, "%s.dead", q->name);
	else if (q->dead_letter && !*q->dead_letter)
		q->dead_letter = NULL;
	for (size_t i = 0; i < q->n_bindings; i++) {
		struct conf_binding *binding = &q->bindings[i];
		if (binding->n_keys > 0)
			continue;
		binding->keys = reader_zalloc(r, 1, sizeof(*binding->keys));
		binding->keys[0] = reader_printf(r, "%s", "");
		binding->n_keys = 1;
	}
}

static void check_queue_name(struct reader *r, const struct conf_queue *q)
{
	unsigned line = line_of(r, q, "name");
	check_name(r, line, "queues.name", q->name, QUEUE_NAME_MAX);
	if (is_reserved(q->name))
		reader_wrong(r, line, "queues.name: \"%s\" is a reserved name (amq.*, warren.v1.*)",
		    q->name);
	if (is_server_named(q) && !q->exclusive)
		reader_wrong(
		    r, line, "queues: a server-named queue (name = \"\") must be exclusive = true");
	if (is_private(q) && q->declare != DECLARE_ACTIVE)
		reader_wrong(r, line_of(r, q, "declare"),
		    "queues.declare: an exclusive or server-named queue must be \"active\": nobody "
		    "else can "
		    "declare it for us");
}

static void check_quorum(struct reader *r, const struct conf_queue *q)
{
	if (q->type != QUEUE_QUORUM)
		return;
	if (q->exclusive)
		reader_wrong(
		    r, line_of(r, q, "exclusive"), "queues: a quorum queue cannot be exclusive");
	else if (!q->durable)
		reader_wrong(r, line_of(r, q, "durable"), "queues: a quorum queue must be durable");
	if (q->auto_delete)
		reader_wrong(r, line_of(r, q, "auto_delete"),
		    "queues: a quorum queue cannot be auto_delete");
}

static void check_argument(
    struct reader *r, const struct conf_queue *q, const struct field *field, unsigned line)
{
	if (bytes_is(field->key, "x-queue-type"))
		reader_wrong(r, line,
		    "queues.arguments: x-queue-type is given by the setting type%s",
		    field->value.kind == VALUE_STRING && bytes_is(field->value.bytes, "stream")
			? ", and streams are not supported"
			: "");
	if (bytes_is(field->key, "x-max-priority") && q->type == QUEUE_QUORUM)
		reader_wrong(r, line,
		    "queues.arguments: x-max-priority is refused by quorum queues, which have "
		    "priorities of their own");
	else if (bytes_is(field->key, "x-max-priority") &&
		 (field->value.kind != VALUE_INT || field->value.integer < 1 ||
		     field->value.integer > PRIORITY_MAX))
		reader_wrong(r, line,
		    "queues.arguments: x-max-priority must be a whole number from 1 to %d",
		    PRIORITY_MAX);
	if (bytes_is(field->key, "x-delivery-limit") && q->type == QUEUE_CLASSIC)
		reader_wrong(
		    r, line, "queues.arguments: x-delivery-limit is refused by classic queues");
}

/* Where the argument stands: by name in a group, by place in a list. */
static unsigned argument_line(const struct reader *r, const struct conf_queue *q, size_t i)
{
	return conf_line(r, "queues.[%zu].arguments.[%zu]", q->index, i);
}

static void check_binding(struct reader *r, const struct conf_binding *binding)
{
	if (!binding->exchange)
		return;
	check_name(r, binding->line, "queues.bindings.exchange", binding->exchange, SHORTSTR_MAX);
	if (!*binding->exchange)
		reader_wrong(r, binding->line,
		    "queues.bindings.exchange is empty: the default exchange reaches "
		    "every queue by its name and knows no bindings");
	for (size_t i = 0; i < binding->n_keys; i++)
		check_name(
		    r, binding->line, "queues.bindings: a key", binding->keys[i], SHORTSTR_MAX);

	const struct value *match = table_get(&binding->arguments, "x-match");
	if (match &&
	    (match->kind != VALUE_STRING ||
		!(bytes_is(match->bytes, "all") || bytes_is(match->bytes, "any") ||
		    bytes_is(match->bytes, "all-with-x") || bytes_is(match->bytes, "any-with-x"))))
		reader_wrong(r, binding->line,
		    "queues.bindings: x-match must be \"all\", \"any\", "
		    "\"all-with-x\" or \"any-with-x\"");
}

static bool is_pattern(const char *s)
{
	return *s &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-*") ==
		   strlen(s);
}

static void check_task(struct reader *r, const struct conf_queue *q)
{
	bool routed = is_set(r, q, "route");
	if (q->task && routed)
		reader_wrong(r, line_of(r, q, "route"),
		    "queues: both task and route are set: a queue runs one task, or takes its name "
		    "from the message");
	else if (!is_set(r, q, "task") && !routed)
		reader_wrong(r, q->line,
		    "queues: neither task nor route is set: nothing says what this queue runs");
	if (q->task && !text_is_name(bytes_of(q->task)))
		reader_wrong(r, line_of(r, q, "task"),
		    "queues.task: \"%s\" cannot be the name of a task (letters, digits, and . _ -)",
		    q->task);
	if (q->route_header && strlen(q->route_header) > SHORTSTR_MAX)
		reader_wrong(r, line_of(r, q, "route"),
		    "queues.route: the header's name is longer than %d bytes", SHORTSTR_MAX);
	if (is_set(r, q, "tasks") && !routed)
		reader_wrong(r, line_of(r, q, "tasks"),
		    "queues.tasks says what route may lead to, but there is no route");
	for (size_t i = 0; i < q->n_tasks; i++)
		if (!is_pattern(q->tasks[i]))
			reader_wrong(r, line_of(r, q, "tasks"),
			    "queues.tasks: \"%s\" cannot match a task (letters, digits, and . _ - "
			    "*)",
			    q->tasks[i]);
}

static void check_retry(struct reader *r, const struct conf_queue *q)
{
	unsigned line = line_of(r, q, "retry");
	if (q->retry.first_ns > q->retry.max_ns)
		reader_wrong(r, line, "queues.retry: first is longer than max");
	if (line == 0 || q->retry.attempts == 1)
		return;
	if (is_private(q))
		reader_wrong(r, line,
		    "queues.retry: the queue ends with its connection, so a waiting message "
		    "could not come back: retries need a queue that has a name and is not "
		    "exclusive");
	else if (q->no_ack)
		reader_wrong(r, line,
		    "queues.retry: with ack = \"none\" the broker has forgotten a message before "
		    "its task runs: there are no retries");
}

static void check_dead_letter(struct reader *r, const struct conf_queue *q)
{
	unsigned line = line_of(r, q, "dead_letter");
	if (q->dead_letter && line > 0) /* ours is as sound as the queue's name */
		check_name(r, line, "queues.dead_letter", q->dead_letter, SHORTSTR_MAX);
	if (q->dead_letter && is_reserved(q->dead_letter) && line > 0)
		reader_wrong(r, line,
		    "queues.dead_letter: \"%s\" is a reserved name (amq.*, warren.v1.*)",
		    q->dead_letter);
	if (q->dead_letter && q->no_ack)
		reader_wrong(r, line,
		    "queues.dead_letter: with ack = \"none\" the broker has forgotten a message "
		    "before its task runs: there are no dead letters");
	if (!q->dead_letter && line > 0 && !is_private(q) && !q->no_ack)
		reader_warn(r, line,
		    "queues.dead_letter = \"\": messages that \"%s\" gives up are dropped, with no "
		    "trace but log and count",
		    q->label);
}

static void check_times(struct reader *r, const struct conf_queue *q)
{
	unsigned line = line_of(r, q, "time_limit");
	if (q->no_ack)
		return;
	if (q->time_limit_ns == 0)
		reader_warn(r, line,
		    "queues.time_limit = \"0\": a task that hangs holds its thread for ever, and "
		    "RabbitMQ takes back what is not acknowledged within its consumer_timeout (in "
		    "rabbitmq.conf or advanced.config; 30 minutes by default)");
	else if (q->time_limit_ns > TIME_LIMIT_S * NS_PER_S ||
		 q->time_limit_ns + q->kill_after_ns > TAKEN_BACK_S * NS_PER_S)
		reader_warn(r, line,
		    "queues.time_limit, with queues.kill_after, comes close to RabbitMQ's consumer "
		    "timeout, which is 30 "
		    "minutes by default: unless consumer_timeout in the broker's rabbitmq.conf or "
		    "advanced.config (milliseconds) is raised, or queues.time_limit lowered to "
		    "\"25m\", it hands the message to somebody else meanwhile");
}

/* What works, but not as its author may believe. */
static void warn_of_effects(struct reader *r, const struct conf_queue *q)
{
	static const char *const declared[] = { "bindings", "arguments" };
	for (size_t i = 0; i < ARRAY_LEN(declared); i++)
		if (q->declare != DECLARE_ACTIVE && is_set(r, q, declared[i]))
			reader_warn(r, line_of(r, q, declared[i]),
			    "queues.%s has no effect: declare is not \"active\"", declared[i]);
	if (q->no_ack && is_set(r, q, "prefetch"))
		reader_warn(r, line_of(r, q, "prefetch"),
		    "queues.prefetch has no effect with ack = \"none\"");
	if (!q->durable && !q->exclusive && q->type != QUEUE_QUORUM && q->declare == DECLARE_ACTIVE)
		reader_warn(r, line_of(r, q, "durable"),
		    "queues: \"%s\" is neither durable nor exclusive: its "
		    "messages are lost when the broker restarts, and RabbitMQ 4.3 or newer may "
		    "refuse "
		    "such queues",
		    q->label);
}

static void check_queue(struct reader *r, struct conf *conf, struct conf_queue *q)
{
	fill_defaults(r, conf, q);
	if (q->name)
		check_queue_name(r, q);
	check_quorum(r, q);
	for (size_t i = 0; i < q->arguments.n; i++)
		check_argument(r, q, &q->arguments.fields[i], argument_line(r, q, i));
	for (size_t i = 0; i < q->n_bindings; i++)
		check_binding(r, &q->bindings[i]);
	check_task(r, q);
	check_retry(r, q);
	check_dead_letter(r, q);
	check_times(r, q);
	warn_of_effects(r, q);
}

/* ---- names that would meet ---- */

enum claim_kind { CLAIM_QUEUE, CLAIM_RETURN, CLAIM_QUARANTINE, CLAIM_DEAD_LETTER };

/* One queue in the broker that some queue of the file stands for. */
struct claim {
	const char *name;
	enum claim_kind kind;
	const struct conf_queue *queue;
};

static int compare_claims(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int order = strcmp(x->name, y->name);
	if (order != 0)
		return order;
	return x->queue->index < y->queue->index ? -1 : x->queue->index > y->queue->index;
}

static const char *claim_words(struct reader *r, const struct claim *c)
{
	static const char *const words[] = {
		[CLAIM_QUEUE] = "a work queue",
		[CLAIM_RETURN] = "the return queue",
		[CLAIM_QUARANTINE] = "the quarantine queue",
		[CLAIM_DEAD_LETTER] = "the dead-letter queue",
	};
	if (c->kind == CLAIM_QUEUE)
		return words[c->kind];
	return reader_printf(r, "%s of \"%s\"", words[c->kind], c->queue->name);
}

static void check_meeting(struct reader *r, const struct claim *a, const struct claim *b)
{
	unsigned line = line_of(r, b->queue, b->kind == CLAIM_DEAD_LETTER ? "dead_letter" : "name");
	if (line == 0)
		line = b->queue->line;
	if (a->kind == CLAIM_DEAD_LETTER && b->kind == CLAIM_DEAD_LETTER) {
		if (a->queue->dead_letter_type != b->queue->dead_letter_type)
			reader_wrong(r, line,
			    "queues.dead_letter: \"%s\" has another dead_letter_type in line %u",
			    b->name, a->queue->line);
		return; /* several queues may share one */
	}
	if (a->kind == b->kind && a->kind != CLAIM_QUEUE)
		return; /* of two queues of one name, which is said already */
	if (a->kind == CLAIM_QUEUE && b->kind == CLAIM_QUEUE)
		reader_wrong(
		    r, line, "queues: \"%s\" is listed twice (line %u)", b->name, a->queue->line);
	else
		reader_wrong(r, line, "queues: \"%s\" would be %s and %s (line %u)", b->name,
		    claim_words(r, b), claim_words(r, a), a->queue->line);
}

static size_t add_claims(struct reader *r, const struct conf_queue *q, struct claim *claims)
{
	size_t n = 0;
	if (!q->name || is_server_named(q))
		return 0;
	claims[n++] = (struct claim){ q->name, CLAIM_QUEUE, q };
	if (!q->exclusive && !q->no_ack) {
		claims[n++] =
		    (struct claim){ reader_printf(r, "%s.retry", q->name), CLAIM_RETURN, q };
		claims[n++] = (struct claim){ reader_printf(r, "%s.quarantine", q->name),
			CLAIM_QUARANTINE, q };
	}
	return n;
}

static void check_claims(struct reader *r, const struct conf *conf)
{
	enum { PER_QUEUE = 4 };
	size_t n = 0;
	struct claim *claims = xcalloc(conf->n_queues * PER_QUEUE, sizeof(*claims));
	for (size_t i = 0; i < conf->n_queues; i++) {
		const struct conf_queue *q = &conf->queues[i];
		n += add_claims(r, q, claims + n);
		if (q->dead_letter)
			claims[n++] = (struct claim){ q->dead_letter, CLAIM_DEAD_LETTER, q };
	}
	qsort(claims, n, sizeof(*claims), compare_claims);
	for (size_t i = 1; i < n; i++)
		if (strcmp(claims[i - 1].name, claims[i].name) == 0)
			check_meeting(r, &claims[i - 1], &claims[i]);
	free(claims);
}

static void check_threads(struct reader *r, const struct conf *conf)
{
	int total = 0;
	for (size_t i = 0; i < conf->n_queues; i++)
		total += conf->queues[i].threads;
	if (total > CHANNELS_MAX)
		reader_wrong(r, conf_line(r, "queues"),
		    "queues: %d threads in all, but one connection carries %d channels: use "
		    "workers.processes",
		    total, CHANNELS_MAX);
}

static void check_queues(struct reader *r, struct conf *conf)
{
	if (conf->n_queues == 0)
		reader_warn(r, conf_line(r, "queues"),
		    "there are no queues: warrend will have nothing to do");
	for (size_t i = 0; i < conf->n_queues; i++) {
		conf->queues[i].index = i;
		check_queue(r, conf, &conf->queues[i]);
	}
	check_claims(r, conf);
	check_threads(r, conf);
}

/* ---- the doors ---- */

static char *default_socket(struct reader *r)
{
	const char *runtime = getenv("RUNTIME_DIRECTORY");
	const char *session = getenv("XDG_RUNTIME_DIR");
	if (runtime && *runtime) /* systemd parts several with colons */
		return reader_printf(r, "%.*s/warren.sock", (int)strcspn(runtime, ":"), runtime);
	if (session && *session)
		return reader_printf(r, "%s/warren/warren.sock", session);
	return reader_printf(r, "/run/warren/warren.sock");
}

static void check_control(struct reader *r, struct conf *conf)
{
	struct sockaddr_un address;
	conf->control_line = conf_line(r, "control.socket");
	if (!conf->control_socket)
		conf->control_socket = default_socket(r);
	if (!*conf->control_socket)
		conf->control_socket = NULL;
	else if (strlen(conf->control_socket) >= sizeof(address.sun_path))
		reader_wrong(r, conf->control_line,
		    "control.socket: the path is longer than %zu bytes: %s",
		    sizeof(address.sun_path) - 1, conf->control_socket);
}

static void check_http(struct reader *r, struct conf *conf)
{
	struct in6_addr address;
	conf->http_line = conf_line(r, "http.port");
	if (!conf->http_address)
		conf->http_address = reader_printf(r, "127.0.0.1");
	if (inet_pton(AF_INET, conf->http_address, &address) != 1 &&
	    inet_pton(AF_INET6, conf->http_address, &address) != 1)
		reader_wrong(r, conf_line(r, "http.address"),
		    "http.address must be an IP address such as \"127.0.0.1\" or \"::1\", not "
		    "\"%s\"",
		    conf->http_address);
}

void conf_check(struct reader *r, struct conf *conf)
{
	check_broker(r, &conf->broker);
	check_plugins(r, conf);
	for (size_t i = 0; i < conf->n_exchanges; i++)
		check_exchange(r, conf, i);
	check_queues(r, conf);
	check_control(r, conf);
	check_http(r, conf);
}
