/* The operator's wishes, carried out on the crew and answered in one sentence each. */
#include "steer.h"

#include "clock.h"
#include "log.h"
#include "text.h"

enum { NAME_MAX_SHOWN = 400 };

/* ---- words and answers ---- */

/* What others wrote is escaped, so a sentence is always printable ASCII or valid UTF-8. */
static const char *shown(struct bytes name, char buf[NAME_MAX_SHOWN])
{
	(void)text_escape(name, buf, NAME_MAX_SHOWN);
	return buf;
}

static struct generation *current(struct steer *steer, control_client client)
{
	struct generation *g = steer->crew->current;

	if (!g || steer->crew->stopping) {
		control_refuse(steer->control, client, EXIT_TEMPFAIL, "%s",
		    g ? "the daemon stops" : "the daemon has not started yet");
		return NULL;
	}
	return g;
}

/* ---- queues ---- */

static bool find_queue(const struct generation *g, struct bytes label, uint32_t *queue)
{
	const struct conf *conf = g->snapshot.conf;

	for (uint32_t i = 0; i < conf->n_queues; i++)
		if (bytes_is(label, conf->queues[i].label)) {
			*queue = i;
			return true;
		}
	return false;
}

static void refuse_queue(
    struct steer *steer, control_client client, const struct generation *g, struct bytes label)
{
	char name[NAME_MAX_SHOWN], first[NAME_MAX_SHOWN];
	const struct conf *conf = g->snapshot.conf;

	control_refuse(steer->control, client, EXIT_UNROUTABLE,
	    "no queue \"%s\" in the configuration; the first of its %zu queues is \"%s\"",
	    shown(label, name), conf->n_queues,
	    shown(bytes_of(conf->n_queues ? conf->queues[0].label : ""), first));
}

/* The next generation, of a reload that is under way, is to have the same wishes. */
static void wish_pause(struct steer *steer, const char *label, bool paused)
{
	struct generation *all[] = { steer->crew->current, steer->crew->next };
	uint32_t queue;

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i] && find_queue(all[i], bytes_of(label), &queue))
			atomic_store(&score_wish(all[i]->score, queue)->paused, paused);
}

static void pause_all(
    struct steer *steer, control_client client, const struct generation *g, bool paused)
{
	const struct conf *conf = g->snapshot.conf;
	unsigned changed = 0;

	for (uint32_t i = 0; i < conf->n_queues; i++) {
		changed += (atomic_load(&score_wish(g->score, i)->paused) != 0) != paused;
		wish_pause(steer, conf->queues[i].label, paused);
	}
	log_event(LOG_INFO, paused ? "queues.pause" : "queues.resume", L_INT("queues", changed));
	control_say(steer->control, client, "%u of %zu queues %s", changed, conf->n_queues,
	    paused ? "paused; jobs in hand finish" : "resumed");
}

static void set_pause(
    struct steer *steer, control_client client, const struct words *words, bool paused)
{
	struct generation *g = current(steer, client);
	char name[NAME_MAX_SHOWN];
	uint32_t queue;
	bool was;

	if (!g)
		return;
	if (words->n == 1) {
		pause_all(steer, client, g, paused);
		return;
	}
	if (!find_queue(g, words->list[1], &queue)) {
		refuse_queue(steer, client, g, words->list[1]);
		return;
	}
	was = atomic_load(&score_wish(g->score, queue)->paused) != 0;
	wish_pause(steer, g->snapshot.conf->queues[queue].label, paused);
	log_event(
	    LOG_INFO, paused ? "queue.pause" : "queue.resume", L_BYTES("queue", words->list[1]));
	control_say(steer->control, client, "queue %s %s%s", shown(words->list[1], name),
	    was != paused ? (paused ? "paused" : "resumed")
			  : (paused ? "was paused already" : "was not paused"),
	    paused && !was ? "; jobs in hand finish" : "");
}

void steer_pause(struct steer *steer, control_client client, const struct words *words)
{
	set_pause(steer, client, words, true);
}

void steer_resume(struct steer *steer, control_client client, const struct words *words)
{
	set_pause(steer, client, words, false);
}

/* ---- who waits ---- */

static bool is_free(const struct steer *steer, const struct steer_pending *p)
{
	return p->what == STEER_NOTHING || !control_waits(steer->control, p->client);
}

static void wait_for(struct steer *steer, control_client client, enum steer_wait what)
{
	for (size_t i = 0; i < ARRAY_LEN(steer->pending); i++)
		if (is_free(steer, &steer->pending[i])) {
			steer->pending[i] = (struct steer_pending){
				.what = what, .client = client, .since_ns = clock_mono_ns()
			};
			return;
		}
	control_refuse(steer->control, client, EXIT_TEMPFAIL,
	    "it is being done, but too many wait for its end already");
}

static double waited_s(const struct steer_pending *p)
{
	return (double)(clock_mono_ns() - p->since_ns) / NS_PER_S;
}

/* The next one who waits for that; it is taken off the list. */
static bool next_waiting(
    struct steer *steer, enum steer_wait what, bool begun, struct steer_pending *found)
{
	for (size_t i = 0; i < ARRAY_LEN(steer->pending); i++) {
		struct steer_pending *p = &steer->pending[i];

		if (p->what != what || (begun && !p->begun))
			continue;
		*found = *p;
		p->what = STEER_NOTHING;
		return true;
	}
	return false;
}

/* ---- restart and scale: worker processes are replaced, one after the other ---- */

static bool renewal_is_possible(struct steer *steer, control_client client)
{
	const struct crew *crew = steer->crew;
	bool renewing = crew_renewing(crew);

	if (!crew->next && !crew->leaving && !steer->reloading && !renewing)
		return true;
	control_refuse(steer->control, client, EXIT_TEMPFAIL,
	    "worker processes are being replaced at this moment (%s); try again when that is over",
	    renewing ? "restart or scale" : "reload");
	return false;
}

/* False after saying why not. */
static bool begin_renewal(struct steer *steer, control_client client, enum steer_wait what)
{
	if (!crew_renew(steer->crew)) {
		control_refuse(steer->control, client, EXIT_TEMPFAIL,
		    "too many old worker processes still finish their jobs; try again when some "
		    "have left (warren status shows them)");
		return false;
	}
	wait_for(steer, client, what);
	return true;
}

void steer_restart(struct steer *steer, control_client client, const struct words *words)
{
	struct generation *g = current(steer, client);

	(void)words;
	if (!g || !renewal_is_possible(steer, client))
		return;
	if (begin_renewal(steer, client, STEER_RESTART))
		log_event(LOG_INFO, "restart.started", L_INT("workers", g->n_workers));
}

/* Decimal digits alone. */
static bool read_number(struct bytes word, int64_t *n)
{
	enum { DIGITS_MAX = 12 };

	*n = 0;
	for (size_t i = 0; i < word.len; i++) {
		if (word.data[i] < '0' || word.data[i] > '9' || i >= DIGITS_MAX)
			return false;
		*n = *n * 10 + (word.data[i] - '0');
	}
	return true;
}

static uint32_t rows_wished(struct generation *g)
{
	uint32_t rows = 0;

	for (uint32_t i = 0; i < g->snapshot.conf->n_queues; i++)
		rows += atomic_load(&score_wish(g->score, i)->threads);
	return rows;
}

static void scale(struct steer *steer, control_client client, uint32_t queue, unsigned threads)
{
	struct generation *g = steer->crew->current;
	const char *label = g->snapshot.conf->queues[queue].label;
	struct board_wish *wish = score_wish(g->score, queue);
	unsigned before = atomic_load(&wish->threads);
	char name[NAME_MAX_SHOWN];

	if (threads == before) {
		control_say(steer->control, client,
		    "queue %s has %u threads in each worker already", shown(bytes_of(label), name),
		    before);
		return;
	}
	atomic_store(&wish->threads, threads);
	if (!score_use_rows(g->score, rows_wished(g))) {
		atomic_store(&wish->threads, before);
		control_refuse(steer->control, client, EXIT_TEMPFAIL,
		    "so many threads need a reload: change queues.threads in the configuration");
		return;
	}
	if (!begin_renewal(steer, client, STEER_SCALE)) {
		atomic_store(&wish->threads, before);
		return;
	}
	log_event(LOG_INFO, "queue.scale", L_STR("queue", label), L_INT("from", before),
	    L_INT("to", threads));
	steer->scaling = true;
	steer->scaled_queue = queue;
	steer->scaled_from = before;
}

void steer_scale(struct steer *steer, control_client client, const struct words *words)
{
	struct generation *g = current(steer, client);
	uint32_t queue;
	int64_t threads;

	if (!g)
		return;
	if (!find_queue(g, words->list[1], &queue))
		refuse_queue(steer, client, g, words->list[1]);
	else if (!read_number(words->list[2], &threads) || threads < 1 ||
		 threads > CONF_THREADS_MAX)
		control_refuse(steer->control, client, EXIT_USAGE,
		    "the number of threads is a number from 1 to %d", CONF_THREADS_MAX);
	else if (renewal_is_possible(steer, client))
		scale(steer, client, queue, (unsigned)threads);
}

static void scaled(struct steer *steer)
{
	struct generation *g = steer->crew->current;
	struct steer_pending p;
	char name[NAME_MAX_SHOWN];

	steer->scaling = false;
	while (next_waiting(steer, STEER_SCALE, false, &p))
		control_say(steer->control, p.client,
		    "queue %s has %u threads in each worker now, instead of %u, until the next "
		    "reload (%.1f s)",
		    shown(bytes_of(g->snapshot.conf->queues[steer->scaled_queue].label), name),
		    atomic_load(&score_wish(g->score, steer->scaled_queue)->threads),
		    steer->scaled_from, waited_s(&p));
}

static void restarted(struct steer *steer)
{
	struct steer_pending p;

	while (next_waiting(steer, STEER_RESTART, false, &p))
		control_say(steer->control, p.client,
		    "%u worker processes replaced (%.1f s); those that still run jobs finish them",
		    steer->crew->current->n_workers, waited_s(&p));
}

/* A fresh process cannot take over, or something came in between: those that were not replaced
 * stay, and the wish is taken back. */
static void renewal_failed(struct steer *steer, enum exit_code code, const char *why)
{
	struct generation *g = steer->crew->current;
	struct steer_pending p;
	char words[NAME_MAX_SHOWN];

	(void)shown(bytes_of(why), words);
	if (steer->scaling)
		atomic_store(
		    &score_wish(g->score, steer->scaled_queue)->threads, steer->scaled_from);
	steer->scaling = false;
	log_event(LOG_ERROR, "restart.failed", L_STR("why", why));
	while (next_waiting(steer, STEER_SCALE, false, &p) ||
	       next_waiting(steer, STEER_RESTART, false, &p))
		control_refuse(steer->control, p.client, code,
		    "the worker processes that were not replaced yet stay: %s", words);
	crew_stop_renewing(steer->crew);
}

/* What was wished for will not come any more. */
static void turn_all_away(struct steer *steer)
{
	struct steer_pending p;

	for (enum steer_wait what = STEER_RELOAD; what < STEER_DRAIN; what++)
		while (next_waiting(steer, what, false, &p))
			control_refuse(steer->control, p.client, EXIT_TEMPFAIL, "the daemon stops");
}

void steer_tick(struct steer *steer)
{
	struct crew *crew = steer->crew;

	if (crew->stopping) {
		turn_all_away(steer);
		return;
	}
	if (!crew_renewing(crew) || !crew_renewed(crew))
		return;
	if (crew->renewal_why[0]) {
		renewal_failed(steer, EXIT_CONFIG, crew->renewal_why);
		return;
	}
	crew_stop_renewing(crew);
	if (steer->scaling)
		scaled(steer);
	else
		restarted(steer);
}

/* ---- one job ---- */

void steer_cancel(struct steer *steer, control_client client, const struct words *words)
{
	struct score_job job;
	char id[NAME_MAX_SHOWN], task[NAME_MAX_SHOWN], queue[NAME_MAX_SHOWN];

	if (!crew_cancel(steer->crew, words->list[1], &job)) {
		control_refuse(steer->control, client, EXIT_UNROUTABLE,
		    "no job \"%s\" runs; warren status lists those that do",
		    shown(words->list[1], id));
		return;
	}
	control_say(steer->control, client,
	    "job %s (task %s, queue %s) was asked to come to an end; it does so when its task "
	    "looks at warren_stopping()",
	    shown(words->list[1], id), shown(bytes_of(job.task), task),
	    shown(bytes_of(job.queue), queue));
}

/* ---- the log ---- */

void steer_log(struct steer *steer, control_client client, const struct words *words)
{
	static const char *const names[] = {
		[LOG_ERROR] = "error",
		[LOG_WARN] = "warn",
		[LOG_INFO] = "info",
		[LOG_DEBUG] = "debug",
	};
	struct generation *all[] = { steer->crew->current, steer->crew->next,
		steer->crew->leaving };

	for (int level = 0; level < (int)ARRAY_LEN(names); level++) {
		if (!bytes_is(words->list[1], names[level]))
			continue;
		for (size_t i = 0; i < ARRAY_LEN(all); i++)
			if (all[i])
				score_set_log_level(all[i]->score, level);
		log_set_level((enum log_level)level);
		control_say(steer->control, client,
		    "the log tells of %s and worse, until the next reload", names[level]);
		return;
	}
	control_refuse(
	    steer->control, client, EXIT_USAGE, "the level is error, warn, info or debug");
}

/* ---- reload ---- */

void steer_reload(struct steer *steer, control_client client, const struct words *words)
{
	(void)words;
	if (!current(steer, client))
		return;
	steer->wants_reload = true;
	wait_for(steer, client, STEER_RELOAD);
}

void steer_reload_begins(struct steer *steer)
{
	if (crew_renewing(steer->crew))
		renewal_failed(steer, EXIT_TEMPFAIL, "a reload came in between");
	steer->reloading = true;
	for (size_t i = 0; i < ARRAY_LEN(steer->pending); i++)
		steer->pending[i].begun |= steer->pending[i].what == STEER_RELOAD;
}

void steer_reload_done(struct steer *steer)
{
	struct steer_pending p;

	steer->reloading = false;
	score_set_log_level(steer->crew->current->score, -1); /* if wished while it came up */
	while (next_waiting(steer, STEER_RELOAD, true, &p))
		control_say(steer->control, p.client, "reloaded: generation %u is at work (%.1f s)",
		    steer->crew->current->number, waited_s(&p));
}

void steer_reload_rolled_back(struct steer *steer, const char *why)
{
	struct steer_pending p;
	char words[NAME_MAX_SHOWN];

	steer->reloading = false;
	while (next_waiting(steer, STEER_RELOAD, true, &p))
		control_refuse(steer->control, p.client, EXIT_CONFIG,
		    "rolled back, and generation %u runs on: %s", steer->crew->current->number,
		    shown(bytes_of(why), words));
}

void steer_reload_refused(struct steer *steer, const struct conf_errors *errors)
{
	struct steer_pending p;

	steer->reloading = false;
	while (next_waiting(steer, STEER_RELOAD, true, &p))
		control_refuse_errors(steer->control, p.client,
		    "the new configuration is refused, and the old one runs on", errors);
}

/* ---- drain ---- */

void steer_drain(struct steer *steer, control_client client, const struct words *words)
{
	int64_t limit_ms;

	/* Also while it stops already: the wait is shortened then. */
	if (!steer->crew->stopping && !current(steer, client))
		return;
	if (words->n > 1) {
		if (!read_number(words->list[1], &limit_ms)) {
			control_refuse(steer->control, client, EXIT_USAGE,
			    "the limit is a number of milliseconds");
			return;
		}
		crew_limit_drain(steer->crew, limit_ms * NS_PER_MS);
	}
	steer->wants_drain = true;
	wait_for(steer, client, STEER_DRAIN);
}

void steer_drained(struct steer *steer)
{
	struct tally_sum all = accounts_sum(&steer->crew->past, NULL);
	struct steer_pending p;

	while (next_waiting(steer, STEER_DRAIN, false, &p))
		control_say(steer->control, p.client,
		    "the daemon has ended (%.1f s), %llu jobs done in its life; %s", waited_s(&p),
		    (unsigned long long)all.counts[COUNT_DONE],
		    steer->crew->gave_back ? "some that had started were given back to the broker"
					   : "nothing that had started was given back");
}
