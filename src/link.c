/* Consumers: builds topology and channels, hands out deliveries, sends acks where they belong. */
#include "link.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "host.h"
#include "ipc.h"
#include "ladder.h"
#include "topology.h"

enum {
	CONTROL = 1, /* the channel on which topology is built; lane k has channel k + 2 */
	FIRST_LANE = 2,
	UNREAD_JOBS = 100, /* of ack = "none" queues: above this the socket is left unread */
	UNREAD_BYTES = 16 * 1024 * 1024,
	LEASES = 32,    /* lost ones that are remembered */
	ENDED_JOBS = 8, /* of each thread; a late call on one of them is answered, not a crash */
	MEAN_OF = 64,   /* jobs, about: how long a queue's take */
};

/* A broker whose writes block for 15 s (rabbit's send_timeout) drops the connection. */
#define UNREAD_LIMIT_NS (5 * NS_PER_S)
#define ANSWER_LIMIT_NS (30 * NS_PER_S) /* a broker that lives answers a method by then, */
#define LOOK_LIMIT_NS (300 * NS_PER_S)  /* and closes a channel on which a look was given up */
#define LOOK_NS (5 * NS_PER_S)          /* how often a queue is asked how many messages wait, */
#define LOOK_EACH_NS (NS_PER_S / 10)    /* and for many queues this for each */
#define HEARD_NS (10 * NS_PER_S)        /* by then the supervisor has heard what it was told */
#define LONG_NS (NS_PER_MS / 4) /* a job that was only interrupted is not to count for more */
#ifdef WARREN_SANITIZED
#define BRIEF_NS (LONG_NS / 2) /* all is slower there, and is to be looked at all the same */
#else
#define BRIEF_NS (NS_PER_MS / 50) /* about what it takes to wake another thread */
#endif
#define RETRY_FIRST_NS (NS_PER_S / 2)
#define RETRY_MAX_NS (30 * NS_PER_S)

/* Deliveries that no thread has taken yet. */
struct inbox {
	struct waiting_job {
		struct warren_job *job;
		struct waiting_job *next;
	} * first, **last;
};

/* A queue that this link consumes. */
enum source_state {
	SOURCE_WAITS,  /* its topology failed; again at retry_at */
	SOURCE_QUEUED, /* its topology is to be built, in its turn */
	SOURCE_READY,  /* its lanes may consume */
};

struct source {
	const struct conf_queue *queue;
	enum source_state state;
	unsigned first_lane, n_lanes, consuming;
	char name[BROKER_NAME_MAX + 1]; /* as the broker knows it: differs for a server-named one */
	int64_t retry_at_ns, backoff_ns;
	int64_t look_at_ns;
	int64_t mean_ns;               /* that its jobs take, LONG_NS at most */
	int64_t ready, dead, seen_ns;  /* what was seen there; -1: unknown */
	bool paused;                   /* as the operator wishes */
	int code;                      /* the broker's, of `trouble` */
	enum board_source_state shown; /* on the scoreboard, */
	int64_t shown_since_ns;        /* since when */
	bool locked;                   /* 405: the old generation still has this exclusive queue */
	bool was_up;                   /* it consumed with all its lanes before */
	char trouble[BROKER_TEXT_MAX + 256];
	struct log_complaint complaint;
	struct inbox shared; /* ack = "none": whichever thread is free takes the next */
	/* About a message that the library cannot decode. */
	bool wants_notice, notice_under_way, notice_sent;
};

/* A channel that consumes. The comment says what its state waits for. */
enum lane_state {
	LANE_DOWN, /* its source to be ready, retry_at, and its thread to end a job that it lost */
	LANE_OPENING,   /* channel.open-ok */
	LANE_QOS,       /* basic.qos-ok */
	LANE_CONSUME,   /* basic.consume-ok */
	LANE_CONSUMING, /* deliveries */
	LANE_CANCEL,    /* basic.cancel-ok: we drain or pause */
	LANE_PAUSED,  /* the jobs that wait unacked in memory to be fewer; its channel stays open */
	LANE_CLOSING, /* channel.close-ok: it is to be built anew */
};

struct lane {
	enum lane_state state;
	struct source *source;
	struct seat *seat; /* of the thread that has it now */
	unsigned number;
	uint64_t epoch; /* changes whenever what was delivered before can no longer be acked */
	int64_t answer_by_ns, retry_at_ns;
	struct inbox own, *inbox;    /* `inbox` is the source's where nothing is acked */
	struct warren_job *running;  /* out, with the thread */
	bool over;                   /* its thread is stuck in a job that was given up */
	struct log_complaint closes; /* of its channel or consumer by the broker */
	uint64_t jobs;
	char job_prefix[24];
	char tag[64];
};

/*
 * One worker thread's place, which always has a lane. Lanes change seats: a thread that reads what
 * came for an idle lane takes that lane over and runs the job itself, for it is awake. So there are
 * as many lanes of each queue at work as before, and each thread still has one channel.
 */
struct seat {
	struct lane *lane;
	struct conn_waiter waiter;
	int64_t took_ns; /* the job in hand */
	struct warren_job *ended[ENDED_JOBS];
	unsigned n_ended; /* in all */
};

/* What the control channel is building. */
enum errand { ERRAND_NONE, ERRAND_EXCHANGES, ERRAND_LADDER, ERRAND_SOURCE, ERRAND_LOOK };

struct control {
	bool open;
	enum errand errand;
	struct source *source;
	struct script *script;
	size_t step;
	int64_t answer_by_ns;
	bool exchanges_done, ladder_done;
	int ladder_top;      /* reached so far on this connection, -1 */
	int ladder_building; /* where the script that runs will reach */
	int ladder_wanted;   /* -1: no ladder */
	int64_t ladder_retry_at_ns, ladder_backoff_ns;
	char ladder_trouble[BROKER_TEXT_MAX + 256];
};

struct link {
	struct link_setup setup;
	const struct conf *conf;
	struct conn *conn;
	struct source *sources;
	size_t n_sources;
	struct lane *lanes;
	struct seat *seats; /* as many */
	unsigned n_lanes;
	struct control control;
	int pid;         /* of this process */
	uint64_t epochs; /* the last one given out */
	bool draining, was_consuming;
	enum warren_stop stop; /* raised on every job that is taken from now on */
	struct log_complaint unread, short_of_memory;
	char refused[BROKER_TEXT_MAX + 256];
	struct lost_lease {
		uint8_t identity[IDENTITY_LEN];
		int count;
		int64_t at_ns;
	} leases[LEASES];
	unsigned next_lease;
	size_t unread_jobs, unread_bytes;
	int64_t delivered_at_ns; /* the last delivery was read */
};

/* ---- jobs ---- */

static void init_inbox(struct inbox *inbox)
{
	inbox->first = NULL;
	inbox->last = &inbox->first;
}

static struct warren_job *pop_waiting(struct link *link, struct inbox *inbox)
{
	struct waiting_job *w = inbox->first;
	if (!w)
		return NULL;
	struct warren_job *job = w->job;
	inbox->first = w->next;
	if (!inbox->first)
		inbox->last = &inbox->first;
	free(w);
	link->unread_jobs--;
	link->unread_bytes -= job->msg.body.len;
	return job;
}

static bool push_waiting(struct link *link, struct inbox *inbox, struct warren_job *job)
{
	struct waiting_job *w = calloc(1, sizeof(*w));
	if (!w)
		return false;
	w->job = job;
	*inbox->last = w;
	inbox->last = &w->next;
	link->unread_jobs++;
	link->unread_bytes += job->msg.body.len;
	return true;
}

static unsigned drop_waiting(struct link *link, struct inbox *inbox)
{
	unsigned n = 0;
	for (struct warren_job *job; (job = pop_waiting(link, inbox)); n++)
		job_destroy(job);
	return n;
}

/* Process, channel, and a number, which snprintf would take a good part of a brief job to write. */
static void name_job(struct lane *lane, struct warren_job *job)
{
	char digits[20], *first = digits + sizeof(digits);
	size_t prefix = strlen(lane->job_prefix), len;
	for (uint64_t n = ++lane->jobs; n > 0; n /= 10)
		*--first = (char)('0' + n % 10);
	len = (size_t)(digits + sizeof(digits) - first);
	CHECK(prefix + len < sizeof(job->id));
	memcpy(job->id, lane->job_prefix, prefix);
	memcpy(job->id + prefix, first, len);
	job->id[prefix + len] = '\0';
}

/* Makes a job of the event's message, which is the job's from then on. */
static struct warren_job *make_job(struct lane *lane, struct event *event)
{
	struct warren_job *job = job_create(host_api(), lane->source->queue);
	if (!job)
		return NULL;
	arena_destroy(job->arena);
	job->arena = event->arena;
	job->msg = event->msg;
	event->arena = NULL;
	event->msg = (struct msg){ 0 };
	job->origin = (struct origin){ lane->number + FIRST_LANE, lane->epoch, event->tag };
	job->taken_ns = clock_mono_ns();
	name_job(lane, job);
	return job;
}

static void give_back(struct link *link, struct lane *lane, uint64_t tag)
{
	struct broker *broker = conn_broker(link->conn);
	if (broker && !link->setup.no_ack && !broker_nack(broker, lane->number + FIRST_LANE, tag))
		conn_broken(link->conn);
}

static void give_back_waiting(struct link *link, struct lane *lane)
{
	struct warren_job *job;
	while ((job = pop_waiting(link, lane->inbox))) {
		give_back(link, lane, job->origin.tag);
		job_destroy(job);
	}
}

static bool is_idle(const struct lane *lane)
{
	return !lane->running && !lane->over;
}

/* The thread that reads for all, given that it waits for a job itself; it may be the keeper. */
static struct seat *free_reader(struct link *link)
{
	struct conn_waiter *reader = conn_reader(link->conn);
	return reader && !reader->ready ? reader->seat : NULL;
}

static void exchange_lanes(struct seat *a, struct seat *b)
{
	struct lane *lane = a->lane;
	a->lane = b->lane;
	b->lane = lane;
	a->lane->seat = a;
	b->lane->seat = b;
}

static bool is_brief(const struct source *source)
{
	return source->mean_ns < BRIEF_NS;
}

static void hand_over(struct link *link, struct seat *seat)
{
	seat->waiter.brief = is_brief(seat->lane->source);
	conn_ready(link->conn, &seat->waiter);
}

/* A delivery of an idle lane is the reader's, who need not be woken. */
static void wake_for(struct link *link, struct lane *lane)
{
	struct seat *reader = free_reader(link);
	if (reader && is_idle(lane))
		exchange_lanes(reader, lane->seat);
	hand_over(link, lane->seat);
}

/* No other delivery has woken its thread. */
static bool is_free(const struct lane *lane)
{
	return is_idle(lane) && !lane->seat->waiter.ready;
}

/* Without acks any thread of the queue that is free may have it. */
static void wake_any(struct link *link, struct lane *lane)
{
	const struct source *source = lane->source;
	struct seat *reader = free_reader(link);
	if (reader && reader->lane->source == source)
		lane = reader->lane;
	for (unsigned i = 0; !is_free(lane) && i < source->n_lanes; i++)
		if (is_free(&link->lanes[source->first_lane + i]))
			lane = &link->lanes[source->first_lane + i];
	hand_over(link, lane->seat);
}

static void on_delivery(struct link *link, struct lane *lane, struct event *event)
{
	/* With ack = "none" what came before the cancel took effect is run; nobody else would. */
	if (link->draining && !link->setup.no_ack) {
		give_back(link, lane, event->tag);
		event_drop(event);
		return;
	}
	if (link->stop == WARREN_STOP_NOW) {
		event_drop(event); /* un-acked, and nobody is left to run it */
		return;
	}
	struct warren_job *job = make_job(lane, event);
	if (!job || !push_waiting(link, lane->inbox, job)) {
		log_event(LOG_ERROR, "memory.short", L_STR("queue", lane->source->queue->label));
		job_destroy(job);
		event_drop(event);
		conn_broken(link->conn);
		return;
	}
	link->delivered_at_ns = job->taken_ns;
	if (link->setup.no_ack)
		wake_any(link, lane);
	else
		wake_for(link, lane);
}

/* ---- trouble ---- */

static int64_t later(int64_t *backoff_ns)
{
	*backoff_ns = *backoff_ns ? *backoff_ns * 2 : RETRY_FIRST_NS;
	if (*backoff_ns > RETRY_MAX_NS)
		*backoff_ns = RETRY_MAX_NS;
	return clock_mono_ns() + *backoff_ns;
}

/* What an operator must mend: at the first start it is fatal, later it is a reason to wait. */
static bool is_configuration(int code, const char *text)
{
	/* A cluster that restarts says 404 for queues whose node is down, and 541 for what timed
	 * out; it says 541 for ever only of what it does not support any more. */
	if (strstr(text, "inaccessible") || (code == 541 && !strstr(text, "deprecated")))
		return false;
	return code == 403 || code == 404 || code == 406 || code == 530 || code == 540 ||
	       code == 541;
}

static void refuse(struct link *link, const char *text)
{
	if (!link->was_consuming && !link->refused[0])
		(void)snprintf(link->refused, sizeof(link->refused), "%s", text);
}

/* What an operator must mend on the broker. Where something was consumed before, the other queues
 * are not to wait for it. */
static void refuse_topology(struct link *link, const char *text)
{
	if (!score_is_lenient(link->setup.score))
		refuse(link, text);
}

static void source_failed(struct link *link, struct source *source, int code, const char *text)
{
	uint64_t silent;
	(void)snprintf(source->trouble, sizeof(source->trouble), "%s", text);
	source->code = code;
	source->state = SOURCE_WAITS;
	source->locked = code == 405;
	/* The other generation lets go of an exclusive queue at some moment that nobody announces.
	 */
	source->retry_at_ns =
	    source->locked ? clock_mono_ns() + RETRY_FIRST_NS : later(&source->backoff_ns);
	if (is_configuration(code, text) && !source->was_up)
		refuse_topology(link, text);
	if (log_complain(&source->complaint, &silent))
		log_event(source->locked ? LOG_INFO : LOG_ERROR, "queue.failed",
		    L_STR("queue", source->queue->label), L_INT("code", code), L_STR("text", text),
		    L_INT("silent", silent));
}

/* Everything that was delivered on this lane before is void. */
static void lane_lost(struct link *link, struct lane *lane)
{
	if (lane->state == LANE_CONSUMING)
		lane->source->consuming--;
	lane->epoch = ++link->epochs;
	lane->state = LANE_DOWN;
	lane->retry_at_ns = 0;
	if (link->draining)
		conn_ready(link->conn, &lane->seat->waiter);
	if (link->setup.no_ack)
		return; /* its jobs were nobody else's from the moment they were sent */
	if (lane->running)
		job_stop(lane->running, WARREN_STOP_LOST);
	(void)drop_waiting(link, lane->inbox);
}

/*
 * The broker takes a message back from a job that still runs: somebody else gets it now, and it may
 * go on like that for ever, so the supervisor counts it.
 */
static struct lost_lease *find_lease(struct link *link, const uint8_t *identity)
{
	for (unsigned i = 0; i < LEASES; i++)
		if (link->leases[i].count &&
		    memcmp(link->leases[i].identity, identity, IDENTITY_LEN) == 0)
			return &link->leases[i];
	return NULL;
}

static void remember_lease(struct link *link, const struct warren_job *job)
{
	struct lost_lease *lease = find_lease(link, job->identity);
	if (!lease)
		lease = &link->leases[link->next_lease++ % LEASES];
	memcpy(lease->identity, job->identity, IDENTITY_LEN);
	lease->count = job->leases + 1;
	lease->at_ns = clock_mono_ns();
}

static void lease_lost(struct link *link, const struct lane *lane)
{
	char identity[2 * IDENTITY_LEN + 1];
	const struct warren_job *job = lane->running;
	int64_t now = clock_mono_ns();
	/* Waiting for a turn, or behind others of its channel, is not the message's fault. */
	if (!job || !atomic_load(&job->identified) ||
	    now - job->started_ns < (now - job->taken_ns) / 2)
		return;
	remember_lease(link, job);
	identity_show(job->identity, identity);
	(void)ipc_send(link->setup.supervisor, IPC_LEASE_LOST, 0, identity);
}

static bool sent(struct link *link, bool ok)
{
	if (!ok)
		conn_broken(link->conn);
	return ok;
}

/* ---- building topology, one errand at a time ---- */

static void next_errand(struct link *link);

static void run_step(struct link *link)
{
	struct control *c = &link->control;
	c->answer_by_ns = clock_mono_ns() + ANSWER_LIMIT_NS;
	(void)sent(
	    link, broker_declare(conn_broker(link->conn), CONTROL, &c->script->steps[c->step]));
}

static void end_errand(struct link *link)
{
	struct control *c = &link->control;
	script_free(c->script);
	c->script = NULL;
	c->errand = ERRAND_NONE;
	c->answer_by_ns = CLOCK_NEVER;
}

static int64_t look_again_ns(const struct link *link)
{
	int64_t pause_ns = (int64_t)link->n_sources * LOOK_EACH_NS;
	return clock_mono_ns() + (pause_ns > LOOK_NS ? pause_ns : LOOK_NS);
}

static void errand_done(struct link *link)
{
	struct control *c = &link->control;
	if (c->errand == ERRAND_EXCHANGES) {
		c->exchanges_done = true;
	} else if (c->errand == ERRAND_LADDER) {
		c->ladder_top = c->ladder_building;
		c->ladder_done = c->ladder_top >= c->ladder_wanted;
		c->ladder_trouble[0] = '\0';
		c->ladder_backoff_ns = 0;
	} else {
		c->source->look_at_ns = look_again_ns(link);
		if (c->errand == ERRAND_SOURCE) {
			c->source->state = SOURCE_READY;
			c->source->locked = false;
			c->source->trouble[0] = '\0';
		}
	}
	end_errand(link);
}

static void errand_failed(struct link *link, int code, const char *text)
{
	struct control *c = &link->control;
	char step[BROKER_TEXT_MAX], words[BROKER_TEXT_MAX + 256];
	step_show(&c->script->steps[c->step], step, sizeof(step));
	(void)snprintf(words, sizeof(words), "%s (while declaring: %s)", text, step);
	if (c->errand == ERRAND_SOURCE) {
		source_failed(link, c->source, code, words);
	} else if (c->errand == ERRAND_LOOK) {
		c->source->ready = c->source->dead = -1;
		c->source->look_at_ns = look_again_ns(link);
		if (is_configuration(code, text) && c->source->state == SOURCE_READY)
			c->source->state = SOURCE_QUEUED; /* made again, or complained of */
	} else if (c->errand == ERRAND_LADDER) {
		(void)snprintf(c->ladder_trouble, sizeof(c->ladder_trouble), "%s", words);
		c->ladder_retry_at_ns = later(&c->ladder_backoff_ns);
		if (c->ladder_top >= 0) { /* a raise: what there is goes on serving */
			c->ladder_wanted = c->ladder_top;
			c->ladder_done = true;
		} else if (c->ladder_wanted > topology_top_rung(link->conf)) {
			c->ladder_wanted =
			    topology_top_rung(link->conf); /* what was raised was too much */
		} else if (is_configuration(code, text)) {
			refuse_topology(link, words);
		}
		log_event(LOG_ERROR, "ladder.failed", L_INT("code", code), L_STR("text", words));
	} else {
		/* Exchanges that are listed for publishers alone stop no queue. */
		c->exchanges_done = true;
		if (is_configuration(code, text))
			refuse_topology(link, words);
		log_event(LOG_ERROR, "exchange.failed", L_INT("code", code), L_STR("text", words));
	}
	end_errand(link);
}

static void begin(
    struct link *link, enum errand errand, struct source *source, struct script *script)
{
	struct control *c = &link->control;
	if (!script) { /* the next tick tries again */
		uint64_t silent;
		if (log_complain(&link->short_of_memory, &silent))
			log_event(LOG_ERROR, "memory.short", L_STR("for", "topology"),
			    L_INT("silent", silent));
		return;
	}
	c->errand = errand;
	c->source = source;
	c->script = script;
	c->step = 0;
	if (script->n == 0) {
		errand_done(link);
		next_errand(link);
	} else {
		run_step(link);
	}
}

static bool ladder_is_due(const struct control *c)
{
	return !c->ladder_done && c->ladder_wanted >= 0 && clock_mono_ns() >= c->ladder_retry_at_ns;
}

/* Return queues are bound to the ladder's end, so the ladder comes first. */
static bool source_is_due(const struct control *c, const struct source *source)
{
	return source->state == SOURCE_QUEUED &&
	       (c->ladder_top >= 0 || !topology_uses_ladder(source->queue));
}

/*
 * How many messages wait, for the status. And suspects that an earlier daemon has left in the
 * quarantine, or the broker has put back there, would wait for ever where no process consumes it.
 * One worker looks on behalf of all; but not while its socket is to be left unread.
 */
static bool look_is_due(const struct link *link, const struct source *source)
{
	return link->setup.worker == 0 && !link->setup.quarantine && !link->draining &&
	       source->state == SOURCE_READY && !source->locked &&
	       (!link->setup.no_ack || link->unread_jobs <= UNREAD_JOBS / 2) &&
	       clock_mono_ns() >= source->look_at_ns;
}

static void start_lanes(struct link *link);

static void next_errand(struct link *link)
{
	struct control *c = &link->control;
	if (!c->open || c->errand != ERRAND_NONE || !conn_broker(link->conn))
		return;
	if (!c->exchanges_done) {
		begin(link, ERRAND_EXCHANGES, NULL, topology_exchanges(link->conf));
		return;
	}
	if (ladder_is_due(c)) {
		c->ladder_building = c->ladder_wanted;
		begin(link, ERRAND_LADDER, NULL,
		    topology_ladder(c->ladder_wanted, topology_ladder_passive(link->conf)));
		return;
	}
	for (size_t i = 0; i < link->n_sources; i++)
		if (source_is_due(c, &link->sources[i])) {
			begin(link, ERRAND_SOURCE, &link->sources[i],
			    topology_queue(link->conf, link->sources[i].queue));
			return;
		}
	for (size_t i = 0; i < link->n_sources; i++)
		if (look_is_due(link, &link->sources[i])) {
			begin(link, ERRAND_LOOK, &link->sources[i],
			    topology_look(link->sources[i].queue, link->sources[i].name));
			return;
		}
	start_lanes(link);
}

static void open_control(struct link *link)
{
	struct control *c = &link->control;
	c->open = false;
	c->answer_by_ns = clock_mono_ns() + ANSWER_LIMIT_NS;
	(void)sent(link, broker_open_channel(conn_broker(link->conn), CONTROL));
}

static bool is_quarantine_of(const struct conf_queue *queue, const char *name)
{
	size_t len = strlen(queue->name);
	return strncmp(name, queue->name, len) == 0 && strcmp(name + len, QUARANTINE_SUFFIX) == 0;
}

static void note_depth(struct link *link, const struct event *event)
{
	struct control *c = &link->control;
	struct source *source = c->source;
	const char *name = c->script->steps[c->step].name;
	if (!source)
		return;
	if (is_quarantine_of(source->queue, name)) {
		if (event->messages)
			(void)ipc_send(link->setup.supervisor, IPC_ASIDE, event->messages, NULL);
	} else if (strcmp(name, source->name) == 0) {
		source->ready = event->messages;
		source->seen_ns = clock_mono_ns();
	} else if (source->queue->dead_letter && strcmp(name, source->queue->dead_letter) == 0) {
		source->dead = event->messages;
	}
}

static void on_control_event(struct link *link, const struct event *event)
{
	struct control *c = &link->control;
	if (event->kind == EV_OPENED) {
		c->open = true;
		c->answer_by_ns = CLOCK_NEVER;
		next_errand(link);
		return;
	}
	if (event->kind == EV_CLOSED_BY_BROKER) {
		if (c->script)
			errand_failed(link, event->code, event->text);
		open_control(link);
		return;
	}
	if (event->kind == EV_CLOSED) {
		open_control(link);
		return;
	}
	if (!c->script || (event->kind != EV_EXCHANGE_OK && event->kind != EV_QUEUE_OK &&
			      event->kind != EV_BIND_OK))
		return;
	/* The broker's answer tells the name of a queue that it named itself. */
	if (event->kind == EV_QUEUE_OK && c->errand == ERRAND_SOURCE &&
	    c->script->steps[c->step].name[0] == '\0')
		(void)snprintf(c->source->name, sizeof(c->source->name), "%s", event->name);
	if (event->kind == EV_QUEUE_OK)
		note_depth(link, event);
	if (++c->step < c->script->n) {
		run_step(link);
		return;
	}
	errand_done(link);
	next_errand(link);
}

/* ---- lanes ---- */

static bool awaits_answer(const struct lane *lane)
{
	return lane->state != LANE_DOWN && lane->state != LANE_CONSUMING &&
	       lane->state != LANE_PAUSED;
}

static bool is_building(const struct link *link)
{
	if (!link->control.open || link->control.errand != ERRAND_NONE)
		return true;
	for (unsigned i = 0; i < link->n_lanes; i++)
		if (awaits_answer(&link->lanes[i]))
			return true;
	return false;
}

/* Lanes that rightly do not consume: their thread runs a job it has lost, or too many jobs wait. */
static unsigned count_busy(const struct link *link, const struct source *source)
{
	unsigned n = 0;
	for (unsigned i = 0; i < source->n_lanes; i++) {
		const struct lane *lane = &link->lanes[source->first_lane + i];
		n += lane->over || (lane->state == LANE_PAUSED && link->setup.no_ack) ||
		     (lane->state == LANE_DOWN && lane->running);
	}
	return n;
}

static bool is_complete(const struct link *link, const struct source *source)
{
	return source->locked || source->paused ||
	       source->consuming + count_busy(link, source) == source->n_lanes;
}

static void note_progress(struct link *link)
{
	bool all = true;
	for (size_t i = 0; i < link->n_sources; i++)
		all = all && is_complete(link, &link->sources[i]);
	if (all) {
		link->was_consuming = true;
		conn_is_good(link->conn);
	}
	conn_hurry(link->conn, !link->draining && is_building(link));
}

static void start_lane(struct link *link, struct lane *lane)
{
	lane->state = LANE_OPENING;
	lane->answer_by_ns = clock_mono_ns() + ANSWER_LIMIT_NS;
	(void)sent(link, broker_open_channel(conn_broker(link->conn), lane->number + FIRST_LANE));
}

static void start_lanes(struct link *link)
{
	int64_t now = clock_mono_ns();
	for (unsigned i = 0; i < link->n_lanes && conn_broker(link->conn) && !link->draining; i++) {
		struct lane *lane = &link->lanes[i];
		/* A thread that still runs a job whose lease is lost would only keep a message
		 * waiting. */
		if (lane->state == LANE_DOWN && !lane->running && !lane->over &&
		    !lane->source->paused && lane->source->state == SOURCE_READY &&
		    now >= lane->retry_at_ns)
			start_lane(link, lane);
	}
	if (conn_broker(link->conn))
		note_progress(link);
}

static void lane_subscribe(struct link *link, struct lane *lane)
{
	const struct conf_queue *queue = lane->source->queue;
	const struct consume consume = { .queue = lane->source->name,
		.consumer_tag = lane->tag,
		.no_ack = queue->no_ack,
		.priority = queue->priority };
	lane->state = LANE_CONSUME;
	lane->answer_by_ns = clock_mono_ns() + ANSWER_LIMIT_NS;
	(void)sent(
	    link, broker_consume(conn_broker(link->conn), lane->number + FIRST_LANE, &consume));
}

/* qos counts for consumers that start after it, so it comes first, on every channel.
 */
static void lane_opened(struct link *link, struct lane *lane)
{
	if (link->setup.no_ack) {
		lane_subscribe(link, lane);
		return;
	}
	lane->state = LANE_QOS;
	lane->answer_by_ns = clock_mono_ns() + ANSWER_LIMIT_NS;
	(void)sent(link, broker_qos(conn_broker(link->conn), lane->number + FIRST_LANE,
			     link->setup.quarantine ? 1 : (unsigned)lane->source->queue->prefetch));
}

static void cancel_lane(struct link *link, struct lane *lane)
{
	lane->source->consuming--;
	lane->state = LANE_CANCEL;
	/* Who drains has a deadline of its own. */
	lane->answer_by_ns = link->draining ? CLOCK_NEVER : clock_mono_ns() + ANSWER_LIMIT_NS;
	(void)sent(
	    link, broker_cancel(conn_broker(link->conn), lane->number + FIRST_LANE, lane->tag));
}

static void lane_consuming(struct link *link, struct lane *lane)
{
	struct source *source = lane->source;
	int64_t quiet_ns;
	lane->state = LANE_CONSUMING;
	source->consuming++;
	if (clock_mono_ns() > lane->closes.next_ns)
		(void)log_healed(&lane->closes, &quiet_ns);
	if (link->draining || source->paused) {
		cancel_lane(link, lane);
		return;
	}
	if (is_complete(link, source)) {
		int64_t down_ns = 0;
		bool healed = log_healed(&source->complaint, &down_ns);
		source->was_up = true;
		source->backoff_ns = 0;
		source->trouble[0] = '\0';
		log_event(LOG_INFO, "queue.consuming", L_STR("queue", source->queue->label),
		    L_STR("name", source->name), L_INT("threads", source->consuming),
		    L_INT("prefetch", source->queue->no_ack ? 0 : source->queue->prefetch),
		    L_NS("after", healed ? down_ns : 0));
	}
	note_progress(link);
}

/* Something is wrong with the queue itself: its topology is looked at again before its lanes go on.
 */
static void doubt_source(struct source *source, int64_t retry_at_ns)
{
	if (source->state != SOURCE_READY)
		return;
	source->state = SOURCE_WAITS;
	source->retry_at_ns = retry_at_ns;
}

/* Its words up to 4.2; from 4.3 on a quorum queue cancels the consumer instead. */
static bool is_consumer_timeout(const struct event *event)
{
	return event->code == 406 && strstr(event->text, "timed out");
}

static void lane_closed_by_broker(struct link *link, struct lane *lane, const struct event *event)
{
	struct source *source = lane->source;
	enum lane_state was = lane->state;
	bool timeout = is_consumer_timeout(event);
	if (timeout)
		lease_lost(link, lane);
	lane_lost(link, lane);
	uint64_t silent;
	if (log_complain(&lane->closes, &silent))
		log_event(LOG_WARN, "chan.closed", L_STR("queue", source->queue->label),
		    L_INT("code", event->code), L_STR("text", event->text),
		    L_OPT("remedy", timeout ? "a shorter queues.time_limit, or a longer "
					      "consumer_timeout in rabbitmq.conf"
					    : NULL),
		    L_INT("silent", silent));
	if (was == LANE_CONSUME && source->state == SOURCE_READY) {
		/* The broker does not let us consume: the source's own trouble, once for all its
		 * lanes. */
		char words[BROKER_TEXT_MAX + 64];
		(void)snprintf(words, sizeof(words), "%s (while consuming from it)", event->text);
		source_failed(link, source, event->code, words);
	} else if (event->code == 404 || event->code == 405 || was == LANE_CONSUME) {
		doubt_source(source, clock_mono_ns());
	} else {
		/* The consumer timeout, say: this channel alone is built again. */
		lane->retry_at_ns = clock_mono_ns() + RETRY_FIRST_NS;
	}
}

/* From 4.3 on the consumer timeout is a quorum queue's, and says nothing but cancel. */
static bool may_be_timeout(const struct link *link, const struct conf_queue *queue)
{
	return queue->type == QUEUE_QUORUM &&
	       broker_version(conn_broker(link->conn)) >= 4 * 100 + 3;
}

static void lane_cancelled(struct link *link, struct lane *lane)
{
	struct source *source = lane->source;
	uint64_t silent;
	if (log_complain(&lane->closes, &silent))
		log_event(LOG_WARN, "consumer.cancelled", L_STR("queue", source->queue->label),
		    L_INT("silent", silent));
	if (may_be_timeout(link, source->queue))
		lease_lost(link, lane);
	lane_lost(link, lane);
	lane->state = LANE_CLOSING;
	lane->answer_by_ns = clock_mono_ns() + ANSWER_LIMIT_NS;
	doubt_source(source, clock_mono_ns());
	(void)sent(link, broker_close_channel(conn_broker(link->conn), lane->number + FIRST_LANE));
}

static void on_lane_event(struct link *link, struct lane *lane, struct event *event)
{
	switch (event->kind) {
	case EV_OPENED:
		lane_opened(link, lane);
		break;
	case EV_QOS_OK:
		lane_subscribe(link, lane);
		break;
	case EV_CONSUMING:
		lane_consuming(link, lane);
		break;
	case EV_DELIVERY:
		on_delivery(link, lane, event);
		break;
	case EV_CANCELLED:
		lane_cancelled(link, lane);
		break;
	case EV_CLOSED_BY_BROKER:
		lane_closed_by_broker(link, lane, event);
		break;
	case EV_CLOSED:
		lane->state = LANE_DOWN;
		lane->retry_at_ns = 0;
		break;
	case EV_CANCEL_OK:
		lane->state = link->draining ? LANE_DOWN : LANE_PAUSED; /* nothing more comes */
		if (lane->source->paused && !link->setup.no_ack)
			give_back_waiting(link, lane);
		conn_ready(link->conn, &lane->seat->waiter);
		break;
	default:
		event_drop(event);
	}
}

/* ---- what conn.c calls ---- */

/* What the operator wishes; read before anything is built, and then again and again. */
static void heed_wishes(struct link *link)
{
	for (size_t i = 0; i < link->n_sources; i++) {
		struct source *source = &link->sources[i];
		const struct board_wish *wish =
		    score_wish(link->setup.score, (uint32_t)source->queue->index);
		bool paused = atomic_load(&wish->paused) != 0;
		if (paused != source->paused)
			log_event(LOG_INFO, paused ? "queue.paused" : "queue.resumed",
			    L_STR("queue", source->queue->label));
		source->paused = paused;
	}
}

static void on_up(void *owner)
{
	struct link *link = owner;
	struct control *c = &link->control;
	c->exchanges_done = c->ladder_done = false;
	c->ladder_top = -1;
	c->ladder_retry_at_ns = 0;
	for (size_t i = 0; i < link->n_sources; i++)
		link->sources[i].state = SOURCE_QUEUED;
	heed_wishes(link);

	unsigned max = broker_channel_max(conn_broker(link->conn));
	unsigned need = link->n_lanes + 1;
	if (need < link->setup.publish_lanes)
		need = link->setup.publish_lanes;
	if (need > max) {
		char text[160];
		(void)snprintf(text, sizeof(text),
		    "the broker allows %u channels on a connection, but %u are needed: lower the "
		    "queues' "
		    "threads or raise channel_max in rabbitmq.conf",
		    max, need);
		refuse(link, text);
		log_event(LOG_ERROR, "config.refused", L_STR("reason", "channel_max"),
		    L_INT("need", need), L_INT("got", max));
		return;
	}
	open_control(link);
	conn_hurry(link->conn, true);
}

/* The connection goes down while a message's headers are in the way: the second time the message is
 * rejected, given that the notice about it is safe. What comes for the first time is another one:
 * the wire may have spoilt it. */
static void on_dying(void *owner, struct broker *broker)
{
	struct link *link = owner;
	const struct broker_error *why = broker_last_error(broker);
	unsigned number = why->channel - FIRST_LANE;
	if (why->fault != FAULT_UNREADABLE || why->channel < FIRST_LANE || number >= link->n_lanes)
		return;
	struct source *source = link->lanes[number].source;
	if (!source->notice_sent || !why->redelivered) {
		/* What comes again while a notice is under way is what the notice is about. */
		if (!source->notice_under_way || !why->redelivered)
			source->wants_notice = true;
		return;
	}
	bool gone = broker_reject(broker, why->channel, why->tag);
	source->notice_sent = false;
	log_event(LOG_ERROR, "msg.rejected", L_STR("queue", source->queue->label),
	    L_STR("reason", "headers that the AMQP library cannot read"), L_BOOL("sent", gone));
}

static void on_down(void *owner, const struct broker_error *why)
{
	struct link *link = owner;
	struct control *c = &link->control;
	/* A connection closed over a declaration says so in words (541 for a transient queue
	 * on 4.3). */
	if (c->script && why->fault == FAULT_CLOSED && why->code != 320)
		errand_failed(link, why->code, why->text);
	else if (c->script)
		end_errand(link);
	c->open = c->ladder_done = false;
	c->ladder_top = -1;
	for (unsigned i = 0; i < link->n_lanes; i++)
		lane_lost(link, &link->lanes[i]);
	conn_hurry(link->conn, false);
	if (link->draining)
		conn_no_reconnect(link->conn);
}

static void on_event(void *owner, struct event *event)
{
	struct link *link = owner;
	if (event->channel == CONTROL) {
		on_control_event(link, event);
		event_drop(event);
	} else if (event->channel >= FIRST_LANE && event->channel - FIRST_LANE < link->n_lanes) {
		on_lane_event(link, &link->lanes[event->channel - FIRST_LANE], event);
		if (event->kind != EV_DELIVERY && conn_broker(link->conn))
			next_errand(link);
	} else {
		event_drop(event); /* blocked and unblocked: this connection does not publish */
	}
}

/* A queue that is too busy to say how many messages wait is no reason to lose running jobs. */
static void give_up_look(struct link *link, int64_t now)
{
	struct control *c = &link->control;
	if (c->errand != ERRAND_LOOK || now <= c->answer_by_ns)
		return;
	log_event(LOG_WARN, "queue.unseen", L_STR("queue", c->source->queue->label),
	    L_NS("after", ANSWER_LIMIT_NS));
	c->source->ready = c->source->dead = -1;
	c->source->look_at_ns = now + LOOK_LIMIT_NS;
	end_errand(link);
	c->open = false;
	c->answer_by_ns = now + LOOK_LIMIT_NS;
	(void)sent(link, broker_close_channel(conn_broker(link->conn), CONTROL));
}

static bool answer_is_late(const struct link *link, int64_t now)
{
	if (link->control.answer_by_ns < now)
		return true;
	for (unsigned i = 0; i < link->n_lanes; i++) {
		const struct lane *lane = &link->lanes[i];
		if (awaits_answer(lane) && lane->answer_by_ns < now)
			return true;
	}
	return false;
}

/* While something is being built the answers must be read, and deliveries with them. */
static bool may_read(void *owner)
{
	const struct link *link = owner;
	return !link->setup.no_ack ||
	       (link->unread_jobs <= UNREAD_JOBS && link->unread_bytes <= UNREAD_BYTES) ||
	       is_building(link);
}

static void say_unread(struct link *link)
{
	uint64_t silent;
	int64_t for_ns;
	if (!may_read(link)) {
		if (log_complain(&link->unread, &silent))
			log_event(LOG_WARN, "conn.unread", L_STR("conn", "work unacked"),
			    L_INT("jobs", link->unread_jobs), L_INT("bytes", link->unread_bytes));
	} else if (log_healed(&link->unread, &for_ns)) {
		log_event(LOG_INFO, "conn.read_again", L_STR("conn", "work unacked"),
		    L_NS("after", for_ns));
	}
}

/*
 * Leaving the socket unread for long would make the broker drop the connection, and with it what it
 * had sent. So the consumers are cancelled, what is under way is read, and they start again when
 * half of it is worked off.
 */
static void pause_or_resume(struct link *link, int64_t now)
{
	bool pause = !may_read(link) && now - link->delivered_at_ns > UNREAD_LIMIT_NS;
	bool resume = !link->setup.no_ack || (link->unread_jobs <= UNREAD_JOBS / 2 &&
						 link->unread_bytes <= UNREAD_BYTES / 2);
	for (unsigned i = 0; i < link->n_lanes && !link->draining && conn_broker(link->conn); i++) {
		struct lane *lane = &link->lanes[i];
		bool wished = lane->source->paused;
		if ((pause || wished) && lane->state == LANE_CONSUMING)
			cancel_lane(link, lane);
		else if (resume && !wished && lane->state == LANE_PAUSED && !lane->over)
			lane_subscribe(link, lane);
	}
}

static void on_tick(void *owner, int64_t now)
{
	struct link *link = owner;
	give_up_look(link, now);
	if (answer_is_late(link, now)) {
		log_event(LOG_ERROR, "broker.silent", L_NS("for", ANSWER_LIMIT_NS));
		conn_broken(link->conn);
		return;
	}
	for (size_t i = 0; i < link->n_sources; i++) {
		struct source *source = &link->sources[i];
		if (source->state == SOURCE_WAITS && now >= source->retry_at_ns)
			source->state = SOURCE_QUEUED;
	}
	say_unread(link);
	heed_wishes(link);
	pause_or_resume(link, now);
	next_errand(link);
}

static const struct conn_ops ops = {
	.up = on_up,
	.dying = on_dying,
	.down = on_down,
	.event = on_event,
	.tick = on_tick,
	.may_read = may_read,
};

/* ---- the door ---- */

static bool is_ours(const struct link_setup *setup, const struct conf_queue *queue)
{
	if (setup->quarantine)
		return !setup->no_ack && topology_has_quarantine(queue);
	return queue->no_ack == setup->no_ack && (!queue->exclusive || setup->worker == 0);
}

static unsigned count_lanes(const struct link_setup *setup, const struct conf_queue *queue)
{
	if (!is_ours(setup, queue))
		return 0;
	return setup->quarantine ? 1 : (unsigned)queue->threads;
}

unsigned link_count_threads(const struct link_setup *setup)
{
	unsigned n = 0;
	for (size_t i = 0; i < setup->conf->n_queues; i++)
		n += count_lanes(setup, &setup->conf->queues[i]);
	return n;
}

static void init_lane(struct link *link, struct source *source, unsigned number)
{
	struct lane *lane = &link->lanes[number];
	lane->source = source;
	lane->number = number;
	lane->epoch = ++link->epochs;
	init_inbox(&lane->own);
	lane->inbox = link->setup.no_ack ? &source->shared : &lane->own;
	lane->answer_by_ns = CLOCK_NEVER;
	lane->seat = &link->seats[number];
	lane->seat->lane = lane;
	conn_waiter_init(&lane->seat->waiter);
	lane->seat->waiter.seat = lane->seat;
	(void)snprintf(lane->job_prefix, sizeof(lane->job_prefix), "%d.%u.", link->pid,
	    link->setup.thread_offset + number);
	(void)snprintf(lane->tag, sizeof(lane->tag), "warren.%d.%u", link->pid,
	    link->setup.thread_offset + number);
}

struct link *link_create(const struct link_setup *setup)
{
	struct link *link = xcalloc(1, sizeof(*link));
	link->setup = *setup;
	link->conf = setup->conf;
	link->pid = (int)getpid();
	link->n_lanes = link_count_threads(setup);
	link->lanes = xcalloc(link->n_lanes, sizeof(*link->lanes));
	link->seats = xcalloc(link->n_lanes, sizeof(*link->seats));
	link->sources = xcalloc(setup->conf->n_queues, sizeof(*link->sources));
	link->control.answer_by_ns = CLOCK_NEVER;
	link->control.ladder_wanted = setup->no_ack ? -1 : topology_top_rung(setup->conf);

	unsigned number = 0;
	for (size_t i = 0; i < setup->conf->n_queues; i++) {
		const struct conf_queue *queue = &setup->conf->queues[i];
		unsigned lanes = count_lanes(setup, queue);
		if (lanes == 0)
			continue;
		struct source *source = &link->sources[link->n_sources++];
		source->queue = queue;
		source->ready = source->dead = -1;
		source->mean_ns = LONG_NS;
		init_inbox(&source->shared);
		source->first_lane = number;
		source->n_lanes = lanes;
		(void)snprintf(source->name, sizeof(source->name), "%s%s", queue->name,
		    setup->quarantine ? QUARANTINE_SUFFIX : "");
		for (unsigned k = 0; k < lanes; k++)
			init_lane(link, source, number++);
	}
	link->conn = conn_create(setup->conf, setup->no_ack ? "work unacked" : "work", &ops, link);
	if (link->conn)
		return link;
	link_destroy(link);
	return NULL;
}

bool link_start(struct link *link)
{
	return conn_start(link->conn);
}

void link_destroy(struct link *link)
{
	if (!link)
		return;
	conn_destroy(link->conn);
	for (unsigned i = 0; i < link->n_lanes; i++) {
		(void)drop_waiting(link, link->lanes[i].inbox);
		for (unsigned k = 0; k < ENDED_JOBS; k++)
			job_destroy(link->seats[i].ended[k]);
		conn_waiter_fini(&link->seats[i].waiter);
	}
	script_free(link->control.script);
	free(link->lanes);
	free(link->seats);
	free(link->sources);
	free(link);
}

/* Un-acked deliveries may still come until the cancel has taken effect, and nobody else has them.
 */
static bool has_ended(const struct link *link, const struct lane *lane)
{
	bool awaits = link->setup.no_ack && lane->state == LANE_CANCEL;
	return link->draining && (!awaits || link->stop == WARREN_STOP_NOW);
}

struct warren_job *link_take(struct link *link, unsigned thread)
{
	CHECK(thread < link->n_lanes);
	struct seat *seat = &link->seats[thread];
	struct warren_job *job;
	conn_lock(link->conn);
	CHECK(!seat->lane->running);
	while (!(job = pop_waiting(link, seat->lane->inbox)) && !has_ended(link, seat->lane)) {
		seat->waiter.ready = seat->waiter.brief = false;
		(void)conn_wait(link->conn, &seat->waiter, CLOCK_NEVER);
	}
	seat->lane->running = job;
	if (job && link->stop)
		job_stop(job, link->stop);
	conn_unlock(link->conn);
	seat->took_ns = clock_mono_ns();
	return job;
}

/* An ack that was put off is lost with the process: one of each channel at most, as a crash may
 * have one job of each channel run again. */
static bool may_put_off(const struct link *link, const struct source *source)
{
	return is_brief(source) && source->queue->prefetch == 1 && !link->draining &&
	       conn_may_put_off(link->conn);
}

static bool send_settlement(struct link *link, const struct source *source,
    const struct warren_job *job, enum link_settlement how)
{
	struct broker *broker = conn_broker(link->conn);
	if (!broker)
		return false;
	bool ok = sent(link, how == LINK_ACK
				 ? broker_put_off_ack(broker, job->origin.channel, job->origin.tag)
				 : broker_nack(broker, job->origin.channel, job->origin.tag));
	return ok && (may_put_off(link, source) || conn_push_acks(link->conn));
}

/* The last few are kept, so that a plugin's thread that calls late is told so (job_end). */
static void keep_ended(struct seat *seat, struct warren_job *job)
{
	struct warren_job **place = &seat->ended[seat->n_ended++ % ENDED_JOBS];
	job_end(job);
	job_destroy(*place);
	*place = job;
}

/* With all that its settling took, but not the wait for the lock. */
static void note_length(struct source *source, int64_t ns)
{
	source->mean_ns += ((ns < LONG_NS ? ns : LONG_NS) - source->mean_ns) / MEAN_OF;
}

bool link_settle(
    struct link *link, unsigned thread, struct warren_job *job, enum link_settlement how)
{
	bool ok = true;
	int64_t now = clock_mono_ns();
	conn_lock(link->conn);
	struct seat *seat = &link->seats[thread];
	struct lane *lane = seat->lane;
	CHECK(lane->running == job);
	lane->running = NULL;
	note_length(lane->source, now - seat->took_ns);
	if (how != LINK_NOTHING && !link->setup.no_ack)
		ok = job->origin.epoch == lane->epoch &&
		     send_settlement(link, lane->source, job, how);
	if (lane->state == LANE_DOWN && conn_broker(link->conn))
		next_errand(link);
	conn_unlock(link->conn);
	keep_ended(seat, job);
	return ok;
}

void link_give_up(struct link *link, unsigned thread, struct warren_job *twin)
{
	conn_lock(link->conn);
	struct lane *lane = link->seats[thread].lane;
	CHECK(lane->running && !lane->over);
	if (atomic_load(&lane->running->lost))
		job_stop(twin, WARREN_STOP_LOST);
	if (link->stop)
		job_stop(twin, link->stop);
	lane->running = twin;
	lane->over = true;
	/* The cancel goes out before the ack does, so no delivery comes between. */
	if (lane->state == LANE_CONSUMING && conn_broker(link->conn))
		cancel_lane(link, lane);
	conn_unlock(link->conn);
}

int link_leases(struct link *link, const uint8_t identity[IDENTITY_LEN])
{
	conn_lock(link->conn);
	const struct lost_lease *lease = find_lease(link, identity);
	bool fresh = lease && clock_mono_ns() - lease->at_ns < HEARD_NS;
	int count = fresh ? lease->count : 0;
	conn_unlock(link->conn);
	return count;
}

void link_forget_leases(struct link *link, const uint8_t identity[IDENTITY_LEN])
{
	conn_lock(link->conn);
	struct lost_lease *lease = find_lease(link, identity);
	if (lease)
		lease->count = 0;
	conn_unlock(link->conn);
}

void link_drain(struct link *link)
{
	conn_seize(link->conn);
	link->draining = true;
	if (!conn_broker(link->conn))
		conn_no_reconnect(link->conn);
	for (unsigned i = 0; i < link->n_lanes; i++) {
		struct lane *lane = &link->lanes[i];
		if (lane->state == LANE_CONSUMING && conn_broker(link->conn))
			cancel_lane(link, lane);
		if (!link->setup.no_ack)
			give_back_waiting(link, lane);
		conn_ready(link->conn, &lane->seat->waiter);
	}
	conn_hurry(link->conn, false);
	(void)conn_push_acks(link->conn);
	conn_unlock(link->conn);
}

void link_stop_jobs(struct link *link, enum warren_stop stop)
{
	unsigned dropped = 0;
	conn_seize(link->conn);
	link->stop = stop;
	for (unsigned i = 0; i < link->n_lanes; i++) {
		struct lane *lane = &link->lanes[i];
		if (lane->running)
			job_stop(lane->running, stop);
		if (stop == WARREN_STOP_NOW && link->setup.no_ack)
			dropped += drop_waiting(link, lane->inbox);
		conn_ready(link->conn, &lane->seat->waiter);
	}
	conn_unlock(link->conn);
	if (dropped)
		log_event(LOG_WARN, "drain.dropped", L_INT("jobs", dropped),
		    L_STR("reason", "ack = \"none\": the broker has forgotten them"));
}

int link_ladder_limit(const struct link *link)
{
	return topology_ladder_passive(link->conf) ? topology_top_rung(link->conf)
						   : LADDER_RUNGS - 1;
}

int link_raise_ladder(struct link *link, int rung, int64_t deadline_ns)
{
	struct conn_waiter waiter = { 0 };
	conn_waiter_init(&waiter);
	conn_lock(link->conn);
	struct control *c = &link->control;
	if (rung > c->ladder_wanted && clock_mono_ns() >= c->ladder_retry_at_ns) {
		c->ladder_wanted = rung;
		c->ladder_done = false;
		next_errand(link);
	}
	/* Nobody announces that the ladder is done: the wait is short enough for a rarity. */
	while (c->ladder_top < rung && !c->ladder_done && clock_mono_ns() < deadline_ns)
		(void)conn_wait(link->conn, &waiter, clock_mono_ns() + 10 * NS_PER_MS);
	/* Still being built: what there is so far is not what it will reach. */
	int top = c->ladder_top >= rung || c->ladder_done ? c->ladder_top : -1;
	conn_unlock(link->conn);
	conn_waiter_fini(&waiter);
	return top;
}

void link_renew(struct link *link, const struct conf_queue *queue)
{
	conn_lock(link->conn);
	for (size_t i = 0; i < link->n_sources; i++) {
		struct source *source = &link->sources[i];
		/* Its lanes go on consuming; only what is missing is made. */
		if (source->queue == queue && source->state == SOURCE_READY)
			source->state = SOURCE_QUEUED;
	}
	/* Rungs may have gone with it. */
	link->control.ladder_done = false;
	link->control.ladder_top = -1;
	if (conn_broker(link->conn))
		conn_hurry(link->conn, true);
	next_errand(link);
	conn_unlock(link->conn);
}

static void describe_source(const struct source *source, char *why, size_t size)
{
	if (source->trouble[0])
		(void)snprintf(why, size, "queue %s: %s", source->queue->label, source->trouble);
	else
		(void)snprintf(why, size, "queue %s: %u of %u consumers", source->queue->label,
		    source->consuming, source->n_lanes);
}

enum link_health link_health(struct link *link, char *why, size_t size)
{
	enum link_health health = LINK_CONSUMING;
	why[0] = '\0';
	if (!conn_try_lock(link->conn))
		return LINK_BUSY;
	if (link->refused[0] && !link->was_consuming) {
		health = LINK_REFUSED;
		(void)snprintf(why, size, "%s", link->refused);
	} else if (!conn_broker(link->conn)) {
		const char *trouble = conn_trouble(link->conn);
		health = LINK_BUILDING;
		(void)snprintf(why, size, "no connection: %s", trouble[0] ? trouble : "connecting");
	} else {
		for (size_t i = 0; i < link->n_sources && health == LINK_CONSUMING; i++)
			if (!is_complete(link, &link->sources[i])) {
				health = LINK_BUILDING;
				describe_source(&link->sources[i], why, size);
			}
		if (link->control.ladder_trouble[0])
			(void)snprintf(why, size, "delay ladder: %s", link->control.ladder_trouble);
	}
	conn_unlock(link->conn);
	return health;
}

/* ---- for the scoreboard ---- */

static enum board_source_state state_of(const struct link *link, const struct source *source)
{
	if (source->paused)
		return BOARD_PAUSED;
	if (!conn_broker(link->conn))
		return BOARD_BUILDING;
	if (source->locked)
		return BOARD_HELD;
	/* Its lanes may consume all the same, while its dead-letter queue is gone, say. */
	if (source->state == SOURCE_WAITS && source->trouble[0])
		return BOARD_WAITING;
	if (is_complete(link, source))
		return BOARD_CONSUMING;
	return source->trouble[0] ? BOARD_WAITING : BOARD_BUILDING;
}

static unsigned count_unacked(const struct link *link, const struct source *source)
{
	unsigned n = 0;
	for (unsigned i = 0; i < source->n_lanes && !link->setup.no_ack; i++) {
		const struct lane *lane = &link->lanes[source->first_lane + i];
		n += lane->running != NULL;
		for (const struct waiting_job *w = lane->inbox->first; w; w = w->next)
			n++;
	}
	return n;
}

static void report_source(struct link *link, struct source *source)
{
	enum board_source_state state = state_of(link, source);
	if (state != source->shown) {
		source->shown = state;
		source->shown_since_ns = clock_mono_ns();
	}
	struct board_source out = {
		.state = (int32_t)state,
		.threads = source->n_lanes,
		.consuming = source->consuming,
		.unacked = count_unacked(link, source),
		.since_ns = source->shown_since_ns,
		.ready = source->ready,
		.dead = source->dead,
		.seen_ns = source->seen_ns,
	};
	if (state == BOARD_WAITING || state == BOARD_HELD) {
		out.code = source->code;
		out.retry_at_ns = source->retry_at_ns;
		(void)snprintf(out.text, sizeof(out.text), "%s", source->trouble);
	}
	board_write_source(
	    score_source(link->setup.score, link->setup.place, (uint32_t)source->queue->index),
	    &out);
}

void link_report(struct link *link)
{
	enum board_which which = link->setup.no_ack ? BOARD_UNACKED : BOARD_WORK;
	struct board_conn conn;
	if (!conn_try_lock(link->conn))
		return;
	conn_describe(link->conn, &conn);
	if (conn.state == BOARD_UP && link->control.ladder_trouble[0]) {
		conn.error_at_ns = clock_mono_ns();
		(void)snprintf(conn.error, sizeof(conn.error), "delay ladder: %s",
		    link->control.ladder_trouble);
	}
	for (size_t i = 0; i < link->n_sources; i++)
		report_source(link, &link->sources[i]);
	conn_unlock(link->conn);
	board_write_conn(score_conn(link->setup.score, link->setup.place, which), &conn);
}

bool link_cancel(struct link *link, struct bytes job_id)
{
	bool found = false;
	conn_lock(link->conn);
	for (unsigned i = 0; i < link->n_lanes && !found; i++) {
		struct warren_job *job = link->lanes[i].running;
		found = job && bytes_is(job_id, job->id);
		if (found)
			job_stop(job, WARREN_STOP_CANCEL);
	}
	conn_unlock(link->conn);
	return found;
}

bool link_watch(struct link *link, int64_t now_ns)
{
	return conn_watch(link->conn, now_ns);
}

const struct conf_queue *link_take_notice(struct link *link)
{
	const struct conf_queue *queue = NULL;
	if (!conn_try_lock(link->conn))
		return NULL;
	for (size_t i = 0; i < link->n_sources && !queue; i++)
		if (link->sources[i].wants_notice) {
			link->sources[i].wants_notice = false;
			link->sources[i].notice_under_way = true;
			queue = link->sources[i].queue;
		}
	conn_unlock(link->conn);
	return queue;
}

void link_notice_done(struct link *link, const struct conf_queue *queue, bool safe)
{
	conn_lock(link->conn);
	for (size_t i = 0; i < link->n_sources; i++) {
		struct source *source = &link->sources[i];
		if (source->queue != queue)
			continue;
		source->notice_under_way = false;
		if (safe)
			source->notice_sent = true;
		else
			source->wants_notice = true;
	}
	conn_unlock(link->conn);
}
