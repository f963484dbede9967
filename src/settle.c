/* The order of things that keeps promise 1: publish, confirm, and only then ack. */
#include "settle.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "clock.h"
#include "copy.h"
#include "ladder.h"
#include "plugin.h"
#include "topology.h"

#define AGAIN_FIRST_NS (100 * NS_PER_MS)
#define AGAIN_MAX_NS (5 * NS_PER_S)
#define LOOK_NS (100 * NS_PER_MS)

/* How an attempt to publish ended, once it has ended. */
enum outgoing_end {
	END_DONE,
	END_UNROUTABLE,
	END_INVALID, /* it can never be published: trying again is no use */
	END_LOST,    /* the lease is gone: somebody else has the message */
	END_NOW,     /* the process is to leave at once */
};

static double roll_dice(void)
{
	uint32_t r = 0;
	if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
		r = (uint32_t)clock_mono_ns() * 2654435761u;
	return (double)r / 4294967296.0;
}

static bool must_end(const struct warren_job *job, enum outgoing_end *end)
{
	if (atomic_load(&job->lost))
		*end = END_LOST;
	else if (atomic_load(&job->stop) == WARREN_STOP_NOW)
		*end = END_NOW;
	else
		return false;
	return true;
}

/* Sleeps in short pieces, because the lease may go meanwhile. */
static bool wait_unless_ended(const struct warren_job *job, int64_t ns, enum outgoing_end *end)
{
	int64_t until = clock_mono_ns() + ns;
	while (clock_mono_ns() < until) {
		if (must_end(job, end))
			return false;
		int64_t piece = until - clock_mono_ns();
		if (piece > LOOK_NS)
			piece = LOOK_NS;
		if (piece > 0)
			(void)nanosleep(&(struct timespec){ .tv_nsec = (long)piece }, NULL);
	}
	return !must_end(job, end);
}

static void complain(struct settler *settler, const struct warren_job *job,
    const struct outgoing *message, const struct publish_answer *answer)
{
	uint64_t silent;
	if (log_complain(&settler->complaint, &silent))
		log_event(LOG_WARN, "publish.failed", L_STR("job", job->id),
		    L_STR("queue", job->queue->label), L_BYTES("exchange", message->exchange),
		    L_BYTES("routing_key", message->routing_key),
		    L_STR("reason", published_word(answer->result)), L_INT("code", answer->code),
		    L_OPT("text", answer->text), L_INT("silent", silent));
}

static void healed(struct settler *settler)
{
	int64_t for_ns;
	if (log_healed(&settler->complaint, &for_ns))
		log_event(LOG_INFO, "publish.healed", L_NS("after", for_ns));
}

/* One try: until the broker's word, the confirm timeout, or the end of an alarm. */
static enum published try_once(struct settler *settler, const struct outgoing *message,
    unsigned how, struct publish_answer *answer)
{
	int64_t deadline = clock_mono_ns() + settler->conf->broker.confirm_timeout_ns;
	return publisher_publish(
	    settler->publisher, settler->lane, message, how | PUBLISH_PATIENT, deadline, answer);
}

/*
 * Publishes a message of warren's own (retry, dead letter) to a place that must exist: what is
 * missing is made again, what is full is waited for.
 */
static enum outgoing_end publish_until_kept(
    struct settler *settler, const struct warren_job *job, const struct outgoing *message)
{
	enum outgoing_end end = END_DONE;
	for (int64_t again = AGAIN_FIRST_NS;;
	     again = again * 2 < AGAIN_MAX_NS ? again * 2 : AGAIN_MAX_NS) {
		struct publish_answer answer;
		if (must_end(job, &end))
			return end;
		switch (try_once(settler, message, PUBLISH_MANDATORY, &answer)) {
		case PUBLISHED:
			healed(settler);
			return END_DONE;
		case PUBLISH_INVALID:
			complain(settler, job, message, &answer);
			return END_INVALID;
		case PUBLISH_UNROUTABLE:
		case PUBLISH_REFUSED:
			link_renew(settler->link, job->queue);
			break;
		default:
			break;
		}
		complain(settler, job, message, &answer);
		if (!wait_unless_ended(job, again, &end))
			return end;
	}
}

static bool is_direct_reply(const struct outgoing *message)
{
	static const char direct[] = "amq.rabbitmq.reply-to.";
	return message->exchange.len == 0 && message->routing_key.len >= sizeof(direct) - 1 &&
	       memcmp(message->routing_key.data, direct, sizeof(direct) - 1) == 0;
}

/* Publishes a reply or follow-up: the task chose the place, so "not there" is an answer. */
static enum outgoing_end publish_for_task(
    struct settler *settler, const struct warren_job *job, const struct outgoing *message)
{
	enum outgoing_end end = END_DONE;
	for (int64_t again = AGAIN_FIRST_NS;;
	     again = again * 2 < AGAIN_MAX_NS ? again * 2 : AGAIN_MAX_NS) {
		struct publish_answer answer;
		if (must_end(job, &end))
			return end;
		/* No queue stands behind a direct reply: RabbitMQ 3.10 returns it also when it
		 * delivered it. */
		switch (try_once(
		    settler, message, is_direct_reply(message) ? 0 : PUBLISH_MANDATORY, &answer)) {
		case PUBLISHED:
			healed(settler);
			return END_DONE;
		case PUBLISH_UNROUTABLE:
			return END_UNROUTABLE;
		case PUBLISH_REFUSED:
			complain(settler, job, message, &answer);
			if (answer.code == 403 || answer.code == 404 || answer.code == 406)
				return END_UNROUTABLE;
			break;
		case PUBLISH_INVALID:
			complain(settler, job, message, &answer);
			return END_INVALID;
		default:
			complain(settler, job, message, &answer);
			break;
		}
		if (!wait_unless_ended(job, again, &end))
			return end;
	}
}

static void set_ended(
    const struct warren_job *job, struct settlement *settlement, enum outgoing_end end)
{
	settlement->lost = end == END_LOST;
	settlement->action.kind =
	    end == END_LOST || job->queue->no_ack ? ACTION_NOTHING : ACTION_GIVE_BACK;
}

static const char *plugin_label(const struct warren_job *job)
{
	return job->task ? job->task->plugin->label : NULL;
}

static bool make_copy(struct settler *settler, struct warren_job *job, const struct action *action,
    int attempt, struct outgoing *out)
{
	const struct copy_stamp stamp = { .verdict = action->verdict,
		.attempt = attempt,
		.now_wall_ms = clock_wall_ms(),
		.host = settler->host,
		.plugin = plugin_label(job),
		.crashes = job->crashes,
		.signal = job->crashes ? job->signal : NULL };
	memset(out, 0, sizeof(*out));
	if (!copy_make(job, &stamp, out))
		return false;
	out->body = job->msg.body;
	return true;
}

/* Given back, for somebody may have more memory; not at once, or it would be here again at once. */
static enum outgoing_end short_of_memory(const struct warren_job *job)
{
	enum outgoing_end end = END_NOW;
	log_event(
	    LOG_ERROR, "memory.short", L_STR("job", job->id), L_STR("queue", job->queue->label));
	(void)wait_unless_ended(job, NS_PER_S, &end);
	return end;
}

static enum outgoing_end publish_dead(
    struct settler *settler, struct warren_job *job, const struct action *action)
{
	struct outgoing out;
	if (!make_copy(settler, job, action, job->attempt, &out))
		return short_of_memory(job);
	out.exchange = bytes_of("");
	out.routing_key = bytes_of(job->queue->dead_letter);
	return publish_until_kept(settler, job, &out);
}

static enum outgoing_end publish_aside(
    struct settler *settler, struct warren_job *job, const struct action *action)
{
	struct outgoing out;
	char name[BROKER_NAME_MAX + 1];
	if (!make_copy(settler, job, action, job->attempt, &out))
		return short_of_memory(job);
	(void)snprintf(name, sizeof(name), "%s" QUARANTINE_SUFFIX, job->queue->name);
	out.exchange = bytes_of("");
	out.routing_key = bytes_of(name);
	return publish_until_kept(settler, job, &out);
}

/* As near to `delay_ns` as the ladder's highest rung allows. Five bits: nothing that rounding could
 * carry over it. */
static uint32_t fit_delay(int64_t delay_ns, int top_rung)
{
	int64_t longest_ns = (INT64_C(31) << top_rung) / 16 * NS_PER_S;
	return ladder_round(delay_ns < longest_ns ? delay_ns : longest_ns);
}

/* Where the broker refuses a rung, the wait is shorter than asked for; that is better than none. */
static enum outgoing_end choose_delay(
    struct settler *settler, const struct warren_job *job, int64_t delay_ns, uint32_t *seconds)
{
	enum outgoing_end end = END_DONE;
	*seconds = fit_delay(delay_ns, link_ladder_limit(settler->link));
	int rung = ladder_rung(*seconds), top;
	while ((top = link_raise_ladder(settler->link, rung, clock_mono_ns() + NS_PER_S)) < 0)
		if (must_end(job, &end))
			return end;
	if (top < rung)
		*seconds = fit_delay(delay_ns, top);
	return END_DONE;
}

static enum outgoing_end publish_retry(
    struct settler *settler, struct warren_job *job, const struct action *action, int64_t *delay_ns)
{
	struct outgoing out;
	uint32_t seconds;
	char address[LADDER_ADDRESS_LEN + 1], key[LADDER_KEY_SIZE], exchange[LADDER_NAME_SIZE];
	enum outgoing_end end = choose_delay(settler, job, action->delay_ns, &seconds);
	if (end != END_DONE)
		return end;
	if (!make_copy(settler, job, action, job->attempt + 1, &out) ||
	    !ladder_address(bytes_of(job->queue->name), address))
		return short_of_memory(job);
	ladder_key(seconds, address, key);
	ladder_rung_name(ladder_rung(seconds), exchange);
	out.exchange = bytes_of(exchange);
	out.routing_key = bytes_of(key);
	*delay_ns = seconds * NS_PER_S;
	return publish_until_kept(settler, job, &out);
}

/* ---- done: what the task wants to be published ---- */

static bool reply_allowed(const struct warren_job *job)
{
	return job->queue->replies == REPLIES_ANY ||
	       (job->queue->replies == REPLIES_DIRECT && is_direct_reply(job->reply));
}

/* A reply that nobody waits for any more is counted, and the job is done all the same. */
static enum outgoing_end publish_reply(
    struct settler *settler, struct warren_job *job, struct settlement *settlement)
{
	if (!reply_allowed(job)) {
		log_event(LOG_WARN, "reply.refused", L_STR("job", job->id),
		    L_STR("queue", job->queue->label), L_BYTES("reply_to", job->reply->routing_key),
		    L_STR("reason", "the queue's setting replies"));
		return END_DONE;
	}
	enum outgoing_end end = publish_for_task(settler, job, job->reply);
	if (end == END_DONE) {
		settlement->published++;
	} else if (end == END_UNROUTABLE || end == END_INVALID) {
		settlement->unroutable++;
		log_event(LOG_WARN, "reply.unroutable", L_STR("job", job->id),
		    L_STR("queue", job->queue->label),
		    L_BYTES("reply_to", job->reply->routing_key));
		return END_DONE;
	}
	return end;
}

static enum outgoing_end publish_results(
    struct settler *settler, struct warren_job *job, struct settlement *settlement)
{
	for (const struct outgoing *m = job->follow_ups; m; m = m->next) {
		enum outgoing_end end = publish_for_task(settler, job, m);
		if (end != END_DONE) {
			(void)snprintf(job->reason, sizeof(job->reason),
			    "no queue took the follow-up for exchange \"%.*s\", key \"%.*s\"",
			    (int)m->exchange.len, m->exchange.data, (int)m->routing_key.len,
			    m->routing_key.data);
			return end;
		}
		settlement->published++;
	}
	/* Nobody asked for a reply unless the message has a reply_to. */
	bool asked = job->reply && job->reply->routing_key.len > 0;
	return asked ? publish_reply(settler, job, settlement) : END_DONE;
}

/* ---- all of it ---- */

static struct action decide(const struct warren_job *job, enum outcome outcome)
{
	const struct situation situation = { .outcome = outcome,
		.stop = atomic_load(&job->lost) ? WARREN_STOP_LOST : atomic_load(&job->stop),
		.attempt = job->attempt,
		.retry_after_ns = job->retry_after_ns,
		.now_wall_ms = clock_wall_ms(),
		.expires_at_ms = job->expires_at_ms,
		.dice = outcome == OUTCOME_DONE ? 0 : roll_dice(), /* it waits for nothing */
		.queue = job->queue };
	return verdict_decide(&situation);
}

static void carry_out(struct settler *settler, struct warren_job *job, struct settlement *s);

/*
 * The broker's frames are too small for a copy with all its headers. A retry without them would run
 * the task on another message than it was, so it is dead, without them, and says so.
 */
static void bury_without_headers(
    struct settler *settler, struct warren_job *job, struct settlement *s)
{
	if (job->msg.flaw == MSG_HEADERS_LARGE) {
		enum outgoing_end end = END_NOW;
		(void)wait_unless_ended(job, AGAIN_MAX_NS, &end);
		set_ended(job, s, end);
		return;
	}
	job->msg.flaw = MSG_HEADERS_LARGE;
	s->outcome = OUTCOME_DEAD;
	s->action = decide(job, s->outcome);
	carry_out(settler, job, s);
}

static void carry_out(struct settler *settler, struct warren_job *job, struct settlement *s)
{
	enum outgoing_end end = END_DONE;
	switch (s->action.kind) {
	case ACTION_DONE:
		end = publish_results(settler, job, s);
		break;
	case ACTION_RETRY:
		end = publish_retry(settler, job, &s->action, &s->delay_ns);
		break;
	case ACTION_DEAD:
		end = publish_dead(settler, job, &s->action);
		break;
	case ACTION_ASIDE:
		end = publish_aside(settler, job, &s->action);
		break;
	case ACTION_DROP:
	case ACTION_GIVE_BACK:
	case ACTION_NOTHING:
		return;
	}
	if (end == END_LOST || end == END_NOW) {
		set_ended(job, s, end);
	} else if (s->action.kind == ACTION_DONE && end != END_DONE) {
		/* A follow-up that no queue takes: the job is run again, later. */
		s->outcome = end == END_INVALID ? OUTCOME_DEAD : OUTCOME_UNROUTABLE;
		s->action = decide(job, s->outcome);
		carry_out(settler, job, s);
	} else if (end == END_INVALID) {
		bury_without_headers(settler, job, s);
	} else if (s->action.kind != ACTION_DONE) {
		s->published++;
	}
}

struct settlement settle_job(struct settler *settler, struct warren_job *job, enum outcome outcome)
{
	struct settlement s = { .outcome = outcome, .action = decide(job, outcome) };
	if (s.action.kind == ACTION_NOTHING && !job->queue->no_ack)
		s.lost = true;
	carry_out(settler, job, &s);
	return s;
}

enum link_settlement settle_how(enum action_kind kind)
{
	switch (kind) {
	case ACTION_DONE:
	case ACTION_RETRY:
	case ACTION_DEAD:
	case ACTION_ASIDE:
	case ACTION_DROP:
		return LINK_ACK;
	case ACTION_GIVE_BACK:
		return LINK_GIVE_BACK;
	case ACTION_NOTHING:
		break;
	}
	return LINK_NOTHING;
}
