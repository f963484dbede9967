/* Asks a broker what stands in the way of a configuration. */
#include "probe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "dialog.h"
#include "ladder.h"
#include "link.h"

enum {
	CLASHES_MAX = 16,     /* of one thing; each costs a question */
	CONNECTIONS_MAX = 32, /* what closes each of them is the broker's fault, not ours */
	MAX_MESSAGE = 1024 * 1024,
	GOODBYE_MS = 1000,
};

/* Stands in for the name that the server will choose. */
#define UNNAMED "amq.gen-warren"

/* A thing that the configuration declares, as it will be once warrend has started. */
struct thing {
	enum step_kind kind;
	char *name;
	bool exists;
};

struct probe {
	const struct conf *conf;
	const struct url *url;
	struct plan *plan;
	struct broker *broker;
	size_t url_index, connections;
	bool is_rabbit; /* whose checks come in the order that we know */
	bool lost;
	int code; /* what the loss is worth */
	struct thing *things;
	size_t n_things;
	char nobodys_key[48];
};

/* ---- connecting ---- */

static struct broker *connect_to(const struct conf *conf, size_t index, struct broker_error *error)
{
	struct broker *broker =
	    broker_connect(&conf->broker, index, "warrend -t", MAX_MESSAGE, error);
	struct event event;
	if (!broker || dialog_open(broker, &event))
		return broker;
	*error = *broker_last_error(broker);
	broker_destroy(broker, 0);
	return NULL;
}

static void add_url(struct probe *p, size_t index, enum plan_state state, const char *words)
{
	char *what = xasprintf("broker %s", p->conf->broker.urls[index].shown);
	plan_add(p->plan, state, what, "%s", words);
	free(what);
}

static void take_broker(struct probe *p, struct broker *broker, size_t index)
{
	p->broker = broker;
	p->url_index = index;
	p->url = &p->conf->broker.urls[index];
	p->is_rabbit = strncmp(broker_product(broker), "RabbitMQ", 8) == 0;
	p->connections = 1;
}

/* One that refuses us says more than one that does not answer. */
static void try_url(struct probe *p, size_t index)
{
	struct broker_error error;
	struct broker *broker = connect_to(p->conf, index, &error);
	if (!broker) {
		char *words = xasprintf("%s: %s", broker_fault_word(error.fault), error.text);
		add_url(p, index, PLAN_WARNING, words);
		free(words);
		if (p->code == EXIT_OK || p->code == EXIT_UNAVAILABLE)
			p->code = dialog_exit_code(&error);
		return;
	}
	char *words = xasprintf("%s%s", broker_product(broker),
	    p->broker ? ", not compared: an earlier one answered" : "");
	add_url(p, index, PLAN_ANSWERS, words);
	free(words);
	if (p->broker)
		broker_destroy(broker, GOODBYE_MS);
	else
		take_broker(p, broker, index);
}

static void give_up(struct probe *p, int code, const char *why)
{
	p->lost = true;
	p->code = code;
	add_url(p, p->url_index, PLAN_REFUSED, why);
}

/* A question may cost the connection (an exchange type that is not known, say). */
static void connect_again(struct probe *p)
{
	struct broker_error error = { .text = "it closes one connection after the other" };
	broker_destroy(p->broker, 0);
	p->broker = NULL;
	if (p->connections++ < CONNECTIONS_MAX)
		p->broker = connect_to(p->conf, p->url_index, &error);
	if (!p->broker)
		give_up(p, EXIT_UNAVAILABLE, error.text);
}

/* ---- one question ---- */

struct answer {
	int code; /* 0: done; otherwise why the broker refuses, in AMQP's numbers */
	char text[BROKER_TEXT_MAX];
	uint32_t messages, consumers;
};

static void take_refusal(struct answer *answer, int code, const char *text)
{
	answer->code = code;
	(void)snprintf(answer->text, sizeof(answer->text), "%s", text);
}

static void hear_of_loss(struct probe *p, struct answer *answer)
{
	const struct broker_error error = *broker_last_error(p->broker);
	take_refusal(answer, error.code, error.text);
	if (error.fault == FAULT_CLOSED)
		connect_again(p);
	else
		give_up(p, EXIT_UNAVAILABLE, error.text);
}

static void open_again(struct probe *p)
{
	struct event event;
	if (!dialog_open(p->broker, &event))
		give_up(p, EXIT_UNAVAILABLE, "the broker opens no channel any more");
}

/* After a question was sent: what the broker says to it. Once the connection is lost for good there
 * are no answers, and what is found then is not added to the plan. */
static struct answer hear(struct probe *p, bool sent, enum event_kind kind)
{
	struct answer answer = { .code = -1 };
	struct event event = { .kind = EV_LOST };
	if (sent && dialog_answer(p->broker, kind, &event)) {
		answer.code = 0;
		answer.messages = event.messages;
		answer.consumers = event.consumers;
	} else if (event.kind == EV_CLOSED_BY_BROKER) {
		take_refusal(&answer, event.code, event.text);
		open_again(p);
	} else if (event.kind == EV_LOST) {
		hear_of_loss(p, &answer);
	} else {
		give_up(p, EXIT_UNAVAILABLE, "no answer for 30 s");
	}
	return answer;
}

static const struct answer unheard = { .code = -1 };

static struct answer declare(struct probe *p, const struct step *step)
{
	if (p->lost)
		return unheard;
	return hear(p, broker_declare(p->broker, DIALOG_CHANNEL, step),
	    step->kind == STEP_EXCHANGE ? EV_EXCHANGE_OK : EV_QUEUE_OK);
}

static struct answer look(struct probe *p, enum step_kind kind, const char *name)
{
	const struct step step = { .kind = kind, .name = name, .type = "direct", .passive = true };
	return declare(p, &step);
}

static struct answer unbind(
    struct probe *p, enum step_kind kind, const char *name, const char *source)
{
	const struct step step = {
		.kind = kind, .name = name, .source = source, .key = p->nobodys_key
	};
	if (p->lost)
		return unheard;
	return hear(p, broker_unbind(p->broker, DIALOG_CHANNEL, &step), EV_BIND_OK);
}

static void put(struct probe *p, enum plan_state state, const char *what, const char *why)
{
	if (!p->lost)
		plan_add(p->plan, state, what, "%s", why);
}

/* ---- permissions ---- */

static bool is_denied(const struct answer *answer)
{
	return answer->code == 403 && strstr(answer->text, "access to ") &&
	       !strstr(answer->text, "access to topic");
}

/* The default exchange as a source is never allowed, but the destination's permission comes first.
 */
static bool may_write(struct probe *p, const char *exchange)
{
	struct answer answer = unbind(p, STEP_BIND_EXCHANGE, exchange, "");
	return !is_denied(&answer);
}

/* A queue that is not there can be asked for, too. */
static bool may_read(struct probe *p, const char *queue)
{
	if (p->lost)
		return false;
	struct answer answer =
	    hear(p, broker_consume_in_vain(p->broker, DIALOG_CHANNEL, queue), EV_CONSUMING);
	if (answer.code == 0) /* no RabbitMQ that we know of; it takes everything back */
		give_up(p, EXIT_INTERNAL, "it took a consumer that it should have refused");
	return !is_denied(&answer);
}

static char *lacks(
    const struct probe *p, const char *permission, const char *kind, const char *name)
{
	bool by_name = p->conf->broker.auth == AUTH_PLAIN;
	return xasprintf("user %s lacks the %s permission on %s %s in vhost %s: rabbitmqctl "
			 "set_permissions",
	    by_name ? p->url->user : "of the certificate", permission, kind,
	    name[0] ? name : "amq.default", p->url->vhost);
}

static void put_denial(
    struct probe *p, const char *what, const char *permission, const char *kind, const char *name)
{
	char *why = lacks(p, permission, kind, name);
	put(p, PLAN_REFUSED, what, why);
	free(why);
}

/* ---- what is declared ---- */

static const char *kind_word(const struct step *step)
{
	return step->kind == STEP_EXCHANGE ? "exchange" : "queue";
}

static struct thing *find_thing(const struct probe *p, enum step_kind kind, const char *name)
{
	for (size_t i = 0; i < p->n_things; i++)
		if (p->things[i].kind == kind && strcmp(p->things[i].name, name) == 0)
			return &p->things[i];
	return NULL;
}

static void note_thing(struct probe *p, const struct step *step, bool exists)
{
	p->things = or_die(reallocarray(p->things, p->n_things + 1, sizeof(*p->things)));
	p->things[p->n_things++] = (struct thing){ step->kind, xstrdup(step->name), exists };
}

static bool will_exist(struct probe *p, enum step_kind kind, const char *name)
{
	const struct thing *thing = find_thing(p, kind, name);
	if (thing)
		return thing->exists;
	struct answer answer = look(p, kind, name);
	return answer.code != 404;
}

/* A thing's place in the configuration, for the remedy; `queue` may be NULL. */
struct part {
	const struct conf_queue *queue;
	const struct step *step;
	char what[BROKER_NAME_MAX + 32];
};

static void put_there(
    struct probe *p, const struct part *part, const struct answer *seen, const char *more)
{
	char *why = NULL;
	if (part->step->kind == STEP_QUEUE)
		why = xasprintf("messages ready: %" PRIu32 ", consumers: %" PRIu32 "%s%s",
		    seen->messages, seen->consumers, more[0] ? "; " : "", more);
	put(p, PLAN_THERE, part->what, why ? why : more);
	free(why);
}

/* Puts `more` behind what there is. */
static void append(char **text, const char *between, const char *more)
{
	char *longer = xasprintf("%s%s%s", *text, between, more);
	free(*text);
	*text = longer;
}

/* One difference in words, behind those before it. */
static void tell_clash(const struct part *part, const struct clash *clash, char **shown, char **set)
{
	char one[700], remedy[400];
	clash_show(clash, part->step, one, sizeof(one));
	append(shown, (*shown)[0] ? "; " : "exists ", one);
	clash_remedy(clash, part->step, part->queue, remedy, sizeof(remedy));
	if (!strstr(*set, remedy)) /* one setting may be good for two arguments */
		append(set, (*set)[0] ? " and " : "", remedy);
}

/* Asks on with each difference adopted, until the broker has named all of them. */
static void put_clashes(
    struct probe *p, const struct part *part, const struct answer *seen, struct answer refusal)
{
	struct step step = *part->step;
	struct arena *arena = or_die(arena_create());
	struct clash clash;
	char *shown = xstrdup(""), *set = xstrdup("");
	for (int i = 0; i < CLASHES_MAX && refusal.code == 406; i++) {
		if (!clash_read(&clash, &step, refusal.text))
			break;
		tell_clash(part, &clash, &shown, &set);
		if (!clash_adopt(&clash, &step, arena))
			break;
		refusal = declare(p, &step);
	}
	char held[64] = "";
	if (seen->messages)
		(void)snprintf(
		    held, sizeof(held), " (messages ready in it: %" PRIu32 ")", seen->messages);
	char *why = xasprintf("%s: delete it%s%s%s", shown[0] ? shown : refusal.text, held,
	    set[0] ? ", or set " : "", set);
	put(p, PLAN_CLASHES, part->what, why);
	free(why);
	free(shown);
	free(set);
	arena_destroy(arena);
}

/* It was there a moment ago: one that is deleted in between would be created, as warrend would. */
static void inspect_existing(struct probe *p, const struct part *part, const struct answer *seen)
{
	struct answer answer = declare(p, part->step);
	if (answer.code == 0)
		put_there(p, part, seen, "");
	else if (is_denied(&answer))
		put_denial(p, part->what, "configure", kind_word(part->step), part->step->name);
	else if (answer.code == 406)
		put_clashes(p, part, seen, answer);
	else if (answer.code == 405)
		put(p, PLAN_CLASHES, part->what,
		    part->step->exclusive
			? "exists and is not exclusive: delete it, or set exclusive = false"
			: answer.text);
	else
		put(p, PLAN_REFUSED, part->what, answer.text);
}

/* The argument that names an exchange, for one of that kind. */
static const char *link_key(const struct step *step)
{
	return step->kind == STEP_EXCHANGE ? "alternate-exchange" : "x-dead-letter-exchange";
}

/* Declares it with a number where an exchange's name belongs: RabbitMQ refuses that after it has
 * looked at the permission. */
static struct answer declare_in_vain(struct probe *p, const struct step *step)
{
	struct step spoilt = *step;
	const struct table *own = &step->arguments;
	struct field *fields = xcalloc(own->n + 1, sizeof(*fields));
	spoilt.arguments = (struct table){ fields, 0 };
	for (size_t i = 0; i < own->n; i++)
		if (!bytes_is(own->fields[i].key, link_key(step)))
			fields[spoilt.arguments.n++] = own->fields[i];
	fields[spoilt.arguments.n++] = (struct field){ bytes_of(link_key(step)), V_INT(0) };
	struct answer answer = declare(p, &spoilt);
	free(fields);
	return answer;
}

/* To create something that names another exchange in an argument takes permissions of its own. */
static bool may_link(struct probe *p, const struct part *part, const char *exchange)
{
	const struct step *step = part->step;
	const char *name = step->name[0] ? step->name : UNNAMED;
	if (!may_write(p, exchange)) {
		put_denial(p, part->what, "write", "exchange", exchange);
		return false;
	}
	if (step->kind == STEP_QUEUE && !may_read(p, name)) {
		put_denial(p, part->what, "read", "queue", name);
		return false;
	}
	/* Of an exchange it shows only together with a binding. */
	struct answer answer = { 0 };
	if (step->kind == STEP_EXCHANGE)
		answer = unbind(p, STEP_BIND_EXCHANGE, exchange, name);
	if (is_denied(&answer))
		put_denial(p, part->what, "read", "exchange", name);
	return !is_denied(&answer);
}

/* NULL where it names none. */
static const char *linked_exchange(const struct step *step, char *buf, size_t size)
{
	struct bytes name;
	if (!table_get_bytes(&step->arguments, link_key(step), &name))
		return NULL;
	(void)snprintf(buf, size, "%.*s", (int)name.len, name.data);
	return buf;
}

static void inspect_missing(struct probe *p, const struct part *part)
{
	char buf[BROKER_NAME_MAX + 1], shown[1024];
	const struct step *step = part->step;
	const char *linked = linked_exchange(step, buf, sizeof(buf));
	step_show(step, shown, sizeof(shown));
	struct answer answer = { .code = 406, .text = "invalid type" };
	if (p->is_rabbit)
		answer = declare_in_vain(p, step);
	if (is_denied(&answer)) {
		put_denial(p, part->what, "configure", kind_word(step),
		    step->name[0] ? step->name : UNNAMED);
	} else if (answer.code != 406 || !strstr(answer.text, "invalid type")) {
		put(p, PLAN_REFUSED, shown, answer.text);
	} else if (!p->is_rabbit || !linked || may_link(p, part, linked)) {
		put(p, PLAN_TO_CREATE, shown, step->why);
	}
}

/* What the broker would drop in silence. */
static void warn_of_link(struct probe *p, const struct part *part)
{
	char buf[BROKER_NAME_MAX + 1];
	const char *linked = linked_exchange(part->step, buf, sizeof(buf));
	if (!linked || !linked[0] || will_exist(p, STEP_EXCHANGE, linked))
		return;
	char *why = xasprintf("%s names exchange %s, which is not there: what should go to it is "
			      "dropped",
	    link_key(part->step), linked);
	put(p, PLAN_WARNING, part->what, why);
	free(why);
}

static void put_locked(struct probe *p, const struct part *part, const struct answer *seen)
{
	if (part->step->exclusive)
		put(p, PLAN_THERE, part->what,
		    "another connection holds it; warrend waits until that lets go");
	else
		put(p, PLAN_CLASHES, part->what,
		    strstr(seen->text, "exclusive")
			? "is another connection's exclusive queue: end "
			  "that one, or choose another name"
			: seen->text);
}

static void inspect_named(struct probe *p, const struct part *part)
{
	const struct step *step = part->step;
	struct answer seen = look(p, step->kind, step->name);
	bool away = seen.code == 404 && strstr(seen.text, "inaccessible");
	note_thing(p, step, seen.code != 404 || away || !step->passive);
	if (away)
		put(p, PLAN_WARNING, part->what, seen.text);
	else if (seen.code == 404 && step->passive)
		put(p, PLAN_MISSING, part->what,
		    "warrend only looks for it, because declare is not \"active\": warren topology "
		    "--declare makes what is missing, with a user who may");
	else if (seen.code == 404)
		inspect_missing(p, part);
	else if (seen.code == 405)
		put_locked(p, part, &seen);
	else if (seen.code != 0)
		put(p, PLAN_REFUSED, part->what, seen.text);
	else if (step->passive)
		put_there(p, part, &seen, "only looked for, its arguments are not compared");
	else
		inspect_existing(p, part, &seen);
	if (!step->passive)
		warn_of_link(p, part);
}

/* ---- bindings ---- */

static void inspect_binding(struct probe *p, const struct step *step)
{
	const char *name = step->name[0] ? step->name : UNNAMED;
	const char *kind = step->kind == STEP_BIND ? "queue" : "exchange";
	struct answer answer = { 0 };
	char what[1024];
	step_show(step, what, sizeof(what));
	if (!will_exist(p, STEP_EXCHANGE, step->source)) {
		char *why = xasprintf(
		    "exchange %s is not there: list it in exchanges, or make it", step->source);
		put(p, PLAN_MISSING, what, why);
		free(why);
		return;
	}
	if (p->is_rabbit)
		answer = unbind(p, step->kind, name, step->source);
	bool of_source = is_denied(&answer) && strstr(answer.text, "access to exchange") &&
			 (step->kind == STEP_BIND || may_write(p, name));
	if (of_source)
		put_denial(p, what, "read", "exchange", step->source);
	else if (is_denied(&answer))
		put_denial(p, what, "write", kind, name);
	else if (answer.code == 403 && !strstr(answer.text, "access to topic"))
		put(p, PLAN_REFUSED, what, answer.text);
	else
		put(p, PLAN_TO_BIND, what, step->why);
}

static void inspect_step(struct probe *p, const struct conf_queue *queue, const struct step *step)
{
	struct part part = { .queue = queue, .step = step };
	(void)snprintf(part.what, sizeof(part.what), "%s %s", kind_word(step),
	    step->name[0] ? step->name : "(named by the server)");
	if (step->kind == STEP_BIND || step->kind == STEP_BIND_EXCHANGE)
		inspect_binding(p, step);
	else if (step->name[0] == '\0')
		inspect_missing(p, &part);
	else if (!find_thing(p, step->kind, step->name)) /* two queues may share one */
		inspect_named(p, &part);
}

static void inspect_script(
    struct probe *p, const struct conf_queue *queue, struct script *script, const char *heading)
{
	if (script->n > 0)
		put(p, PLAN_HEADING, heading, "");
	for (size_t i = 0; i < script->n && !p->lost; i++)
		inspect_step(p, queue, &script->steps[i]);
	script_free(script);
}

/* ---- what warrend does besides ---- */

static void inspect_consuming(struct probe *p, const char *queue)
{
	char *what =
	    xasprintf("to consume from queue %s", queue[0] ? queue : "(named by the server)");
	const char *name = queue[0] ? queue : UNNAMED;
	if (may_read(p, name))
		put(p, PLAN_ALLOWED, what, "");
	else
		put_denial(p, what, "read", "queue", name);
	free(what);
}

static void inspect_rights(struct probe *p, const struct conf_queue *queue)
{
	if (!p->is_rabbit)
		return;
	inspect_consuming(p, queue->name);
	if (!topology_has_quarantine(queue))
		return;
	char *name = xasprintf("%s" QUARANTINE_SUFFIX, queue->name);
	inspect_consuming(p, name);
	free(name);
}

/* The engine does not touch it, but needs it. */
static void look_at_foreign(struct probe *p, enum step_kind kind, const char *name,
    enum plan_state missing, const char *why)
{
	const struct step step = { .kind = kind, .name = name, .passive = true };
	struct part part = { .step = &step };
	struct answer seen = look(p, kind, name);
	(void)snprintf(part.what, sizeof(part.what), "%s %s", kind_word(&step), name);
	if (seen.code == 404)
		put(p, missing, part.what, why);
	else if (seen.code == 0)
		put_there(p, &part, &seen, "only looked at: declare = \"off\"");
	else
		put(p, PLAN_REFUSED, part.what, seen.text);
}

static void inspect_queue(struct probe *p, const struct conf_queue *queue)
{
	char *heading = xasprintf("queue %s", queue->label);
	inspect_script(p, queue, or_die(topology_queue(p->conf, queue)), heading);
	free(heading);
	if (queue->declare == DECLARE_OFF && queue->name[0])
		look_at_foreign(p, STEP_QUEUE, queue->name, PLAN_MISSING,
		    "with declare = \"off\" somebody else makes it: nothing can be consumed");
	inspect_rights(p, queue);
}

static void inspect_exchanges(struct probe *p)
{
	inspect_script(p, NULL, or_die(topology_exchanges(p->conf)), "exchanges for publishers");
	for (size_t i = 0; i < p->conf->n_exchanges; i++)
		if (p->conf->exchanges[i].declare == DECLARE_OFF)
			look_at_foreign(p, STEP_EXCHANGE, p->conf->exchanges[i].name, PLAN_WARNING,
			    "with declare = \"off\" somebody else makes it");
}

static void inspect_ladder(struct probe *p)
{
	int top = topology_top_rung(p->conf);
	if (top < 0)
		return;
	size_t first = p->plan->n + 1; /* the heading stays */
	inspect_script(p, NULL, or_die(topology_ladder(top, topology_ladder_passive(p->conf))),
	    "the delay ladder, for retries");
	plan_fold(p->plan, first, "of the delay ladder");
	for (int rung = 0; rung <= top && p->is_rabbit && !p->lost; rung++) {
		char name[LADDER_NAME_SIZE];
		ladder_rung_name(rung, name);
		if (may_write(p, name))
			continue;
		put_denial(p, "to publish retries", "write", "exchange", name);
		return;
	}
	if (p->is_rabbit)
		put(p, PLAN_ALLOWED, "to publish retries", "");
}

/* Dead letters, suspects and replies go through the default exchange. */
static void inspect_publishing(struct probe *p)
{
	bool needed = false;
	for (size_t i = 0; i < p->conf->n_queues; i++)
		needed = needed || p->conf->queues[i].dead_letter ||
			 topology_has_quarantine(&p->conf->queues[i]) ||
			 p->conf->queues[i].replies != REPLIES_NONE;
	if (!needed || !p->is_rabbit)
		return;
	put(p, PLAN_HEADING, "publishing", "");
	if (may_write(p, ""))
		put(p, PLAN_ALLOWED, "to publish dead letters, crash suspects and replies", "");
	else
		put_denial(p, "to publish dead letters, crash suspects and replies", "write",
		    "exchange", "");
}

static void inspect_channels(struct probe *p)
{
	unsigned max = broker_channel_max(p->broker), need = 0;
	for (int no_ack = 0; no_ack <= 1; no_ack++) {
		const struct link_setup setup = { .conf = p->conf, .no_ack = no_ack != 0 };
		unsigned threads = link_count_threads(&setup);
		need = threads + 1 > need ? threads + 1 : need;
	}
	if (need <= max)
		return;
	char *why = xasprintf("%u are needed, the broker allows %u: lower the queues' threads, or "
			      "raise channel_max in rabbitmq.conf",
	    need, max);
	put(p, PLAN_REFUSED, "channels of a connection", why);
	free(why);
}

/* What nobody can ask for in AMQP, said so that nobody believes it was. */
static void tell_limits(struct probe *p)
{
	if (p->lost)
		return;
	int version = broker_version(p->broker);
	put(p, PLAN_HEADING, "limits, and what AMQP does not tell", "");
	plan_judge_deliveries(p->plan, p->conf, version);
	plan_judge_times(p->plan, p->conf, version);
	plan_add(p->plan, PLAN_UNKNOWN, "bindings",
	    "AMQP does not tell which exist; warrend makes those it needs and takes none away: "
	    "rabbitmqctl list_bindings -p %s",
	    p->url->vhost);
	plan_add(p->plan, PLAN_UNKNOWN, "policies",
	    "AMQP does not tell them; they can add limits, dead-lettering or an expiry: "
	    "rabbitmqctl list_policies -p %s",
	    p->url->vhost);
	put(p, PLAN_UNKNOWN, "arguments of what will be created",
	    "the broker judges them when it is created");
	if (!p->is_rabbit)
		put(p, PLAN_UNKNOWN, "permissions",
		    "this broker is not RabbitMQ; only of RabbitMQ it is known how to ask safely");
}

/* In the order in which warrend builds it (link.c). */
static void inspect(struct probe *p)
{
	inspect_channels(p);
	inspect_exchanges(p);
	inspect_ladder(p);
	for (size_t i = 0; i < p->conf->n_queues; i++)
		inspect_queue(p, &p->conf->queues[i]);
	inspect_publishing(p);
	tell_limits(p);
}

/* A binding key that no binding has, so that taking it away takes nothing. */
static bool make_key(struct probe *p)
{
	uint64_t random[2];
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return false;
	(void)snprintf(p->nobodys_key, sizeof(p->nobodys_key),
	    "warrend.t.%016" PRIx64 "%016" PRIx64, random[0], random[1]);
	return true;
}

static void free_things(struct probe *p)
{
	for (size_t i = 0; i < p->n_things; i++)
		free(p->things[i].name);
	free(p->things);
}

int probe_run(const struct conf *conf, struct plan *plan)
{
	struct probe p = { .conf = conf, .plan = plan };
	broker_init();
	if (!make_key(&p)) {
		plan_add(plan, PLAN_REFUSED, "the comparison", "the system has no random numbers");
		return EXIT_OS;
	}
	for (size_t i = 0; i < conf->broker.n_urls; i++)
		try_url(&p, i);
	if (!p.broker) {
		plan_add(plan, PLAN_MISSING, "a broker",
		    "none of the configured URLs can be used; nothing was compared");
		return p.code;
	}
	p.code = EXIT_OK;
	inspect(&p);
	broker_destroy(p.broker, GOODBYE_MS);
	free_things(&p);
	return p.code;
}
