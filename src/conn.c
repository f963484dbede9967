/* Leader and followers on one AMQP connection, its keeper thread, and its reconnects. */
#include "conn.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

enum {
	TICK_MS = 250,
	VIGIL_MS = 1, /* for so long, or twice as long, nobody reads where a leader stays away */
	EVENTS_AT_A_TIME = 256, /* read in one turn */
	GOODBYE_MS = 2000,
};

#define BACKOFF_FIRST_NS (NS_PER_S / 2)
#define STUCK_MIN_NS (30 * NS_PER_S)
#define GOOD_NS (10 * NS_PER_S) /* a connection that stood so long was a good one */
#define SEIZE_NS NS_PER_S

struct conn {
	const struct conf *conf;
	const struct conn_ops *ops;
	void *owner;
	char name[32];
	char client_name[160]; /* shown by the broker */

	pthread_mutex_t lock;
	struct broker *broker;      /* NULL while there is none */
	bool broken;                /* the keeper is to tear it down */
	bool leading;               /* somebody has the role of reading, */
	struct conn_waiter *reader; /* the leader's own, NULL: the keeper */
	bool kept;  /* the last leader left with the role, and nobody has led since */
	bool vigil; /* the keeper looks whether it stays away */
	unsigned keeps, seen_keeps; /* how often that was; the keeper's last look */
	int64_t left_ns;            /* a waiter left with what it waited for */
	bool hurry, stopping, no_reconnect;
	struct conn_waiter *followers;     /* asleep, the one who came last first */
	const struct conn_waiter *polling; /* the leader's, while it sleeps in poll */
	int wake_fd;                       /* eventfd that ends that sleep */

	pthread_t keeper;
	bool keeper_runs;
	struct conn_waiter keeper_wake, keeper_left;

	/* Reconnects: the keeper's. */
	size_t next_url;
	int64_t backoff_ns;
	int64_t good_since_ns; /* 0: not all is built up */
	struct log_complaint complaint;
	int64_t heartbeat_sent_ns;
	int64_t since_ns; /* up, or down, for so long */
	int64_t trouble_at_ns, connect_at_ns;
	size_t url;                         /* of the last attempt */
	char trouble[BROKER_TEXT_MAX + 64]; /* the last one; it stays when all is well again */

	/* For the watching thread, which must not take the lock. */
	pthread_mutex_t fd_lock;
	int fd;
	_Atomic int64_t held_since_ns; /* when the lock's holder got it, 0: nobody holds it */
	/* The watching thread's own: when it last saw the holder or its bytes get on. */
	int64_t watched_since_ns, watched_at_ns;
	int watched_queue;
};

/* ---- waiters ---- */

void conn_waiter_init(struct conn_waiter *waiter)
{
	pthread_condattr_t attr;
	PTOK(pthread_condattr_init(&attr));
	PTOK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	PTOK(pthread_cond_init(&waiter->cond, &attr));
	PTOK(pthread_condattr_destroy(&attr));
	waiter->ready = waiter->brief = waiter->waiting = false;
	waiter->next = waiter->prev = NULL;
	waiter->seat = NULL;
}

void conn_waiter_fini(struct conn_waiter *waiter)
{
	PTOK(pthread_cond_destroy(&waiter->cond));
}

void conn_lock(struct conn *conn)
{
	PTOK(pthread_mutex_lock(&conn->lock));
	atomic_store_explicit(&conn->held_since_ns, clock_mono_ns(), memory_order_relaxed);
}

void conn_unlock(struct conn *conn)
{
	atomic_store_explicit(&conn->held_since_ns, 0, memory_order_relaxed);
	PTOK(pthread_mutex_unlock(&conn->lock));
}

/* When who holds the lock got it, or woke with it: a clock that costs nothing. */
static int64_t locked_ns(const struct conn *conn)
{
	return atomic_load_explicit(&conn->held_since_ns, memory_order_relaxed);
}

static struct timespec to_timespec(int64_t ns)
{
	return (
	    struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
}

static void sleep_until(struct conn *conn, struct conn_waiter *waiter, int64_t deadline_ns)
{
	atomic_store_explicit(&conn->held_since_ns, 0, memory_order_relaxed);
	if (deadline_ns == CLOCK_NEVER) {
		PTOK(pthread_cond_wait(&waiter->cond, &conn->lock));
	} else {
		struct timespec at = to_timespec(deadline_ns);
		int result = pthread_cond_timedwait(&waiter->cond, &conn->lock, &at);
		CHECK(result == 0 || result == ETIMEDOUT);
	}
	atomic_store_explicit(&conn->held_since_ns, clock_mono_ns(), memory_order_relaxed);
}

/* Asleep as one of those whom the role of reading can be passed to. */
static void follow(struct conn *conn, struct conn_waiter *waiter, int64_t deadline_ns)
{
	waiter->waiting = true;
	waiter->prev = NULL;
	waiter->next = conn->followers;
	if (waiter->next)
		waiter->next->prev = waiter;
	conn->followers = waiter;

	sleep_until(conn, waiter, deadline_ns);

	if (waiter->prev)
		waiter->prev->next = waiter->next;
	else
		conn->followers = waiter->next;
	if (waiter->next)
		waiter->next->prev = waiter->prev;
	waiter->waiting = false;
}

bool conn_may_put_off(const struct conn *conn)
{
	return conn->broker && !conn->broken && conn->kept && broker_read_ahead(conn->broker);
}

bool conn_push_acks(struct conn *conn)
{
	if (!conn->broker || conn->broken)
		return false;
	if (broker_push_acks(conn->broker))
		return true;
	conn_broken(conn);
	return false;
}

/* Whoever gives up the role wakes one follower to take it, so that somebody always reads. */
static void pass_on(struct conn *conn)
{
	(void)conn_push_acks(conn);
	if (conn->leading)
		return;
	for (struct conn_waiter *w = conn->followers; w; w = w->next)
		if (!w->ready) {
			PTOK(pthread_cond_signal(&w->cond));
			return;
		}
}

struct conn_waiter *conn_reader(struct conn *conn)
{
	return conn->reader;
}

void conn_ready(struct conn *conn, struct conn_waiter *waiter)
{
	waiter->ready = true;
	if (waiter->waiting)
		PTOK(pthread_cond_signal(&waiter->cond));
	else if (waiter == conn->polling)
		CHECK(eventfd_write(conn->wake_fd, 1) == 0);
}

/* ---- reading ---- */

static void wake_keeper(struct conn *conn)
{
	conn->keeper_wake.ready = true;
	PTOK(pthread_cond_signal(&conn->keeper_wake.cond));
}

void conn_broken(struct conn *conn)
{
	if (!conn->broker || conn->broken)
		return;
	conn->broken = true;
	/* Whoever sleeps in poll on this socket must let go of it before it can be closed. */
	broker_shutdown(broker_fd(conn->broker));
	wake_keeper(conn);
}

static bool may_read(struct conn *conn)
{
	return !conn->ops->may_read || conn->ops->may_read(conn->owner);
}

/* Reads what is there. True when something came; false also when the connection is lost. */
static bool drain(struct conn *conn)
{
	const struct conn_waiter *waiter = conn->reader;
	bool some = false;
	for (int i = 0; i < EVENTS_AT_A_TIME && !conn->broken && may_read(conn); i++) {
		struct event event;
		broker_read(conn->broker, &event);
		if (event.kind == EV_NONE)
			return some;
		if (event.kind == EV_LOST) {
			if (conn->ops->dying)
				conn->ops->dying(conn->owner, conn->broker);
			conn_broken(conn);
			return false;
		}
		some = true;
		conn->ops->event(conn->owner, &event);
		/* What the leader itself waits for need not wait for the rest. */
		if (waiter && waiter->ready)
			return true;
	}
	return some;
}

/* An unread connection must still be heard. */
static void keep_alive_unread(struct conn *conn)
{
	int64_t now = clock_mono_ns();
	if (now - conn->heartbeat_sent_ns < broker_heartbeat_ns(conn->broker) / 2)
		return;
	conn->heartbeat_sent_ns = now;
	if (!broker_heartbeat(conn->broker))
		conn_broken(conn);
}

static int poll_timeout_ms(const struct conn *conn, int64_t deadline_ns)
{
	int64_t quarter = broker_heartbeat_ns(conn->broker) / NS_PER_MS / 4;
	int cap = quarter < 1000 ? (int)quarter : 1000;
	return clock_until_ms(deadline_ns, cap);
}

/* Sleeps, without the lock, until the socket or somebody has something for the leader. */
static void poll_unlocked(
    struct conn *conn, const struct conn_waiter *waiter, bool reads, int64_t deadline_ns)
{
	struct pollfd p[] = {
		{ .fd = reads ? broker_fd(conn->broker) : -1, .events = POLLIN },
		{ .fd = conn->wake_fd, .events = POLLIN },
	};
	int timeout = poll_timeout_ms(conn, deadline_ns);
	eventfd_t value;
	conn->polling = waiter;
	(void)conn_push_acks(conn);
	conn_unlock(conn);
	(void)poll(p, ARRAY_LEN(p), reads || timeout < TICK_MS ? timeout : TICK_MS);
	conn_lock(conn);
	conn->polling = NULL;
	if (p[1].revents & POLLIN)
		(void)eventfd_read(conn->wake_fd, &value);
}

/* One turn as the leader: read what is there, or else wait for it. What the socket has is asked for
 * by poll alone, as it mostly has nothing. */
static void lead(struct conn *conn, struct conn_waiter *waiter, int64_t deadline_ns)
{
	conn->leading = true;
	conn->reader = waiter;
	conn->kept = false;
	bool reads = may_read(conn);
	if (!reads)
		keep_alive_unread(conn);
	bool some = reads && broker_holds_more(conn->broker) && drain(conn);
	if (!some && !conn->broken && !(waiter && waiter->ready)) {
		poll_unlocked(conn, waiter, reads, deadline_ns);
		if (!conn->broken)
			(void)drain(conn);
	}
	conn->leading = false;
	conn->reader = NULL;
	if (conn->broken)
		wake_keeper(conn);
}

/*
 * What the thread leaves for takes less time than to wake another one. But one message now and then
 * is worth no vigil; and in a hurry the keeper would take the role itself, and wake a thread for
 * each message.
 */
static bool may_keep(const struct conn *conn, const struct conn_waiter *waiter)
{
	return waiter->ready && waiter->brief && !conn->leading && !conn->hurry &&
	       conn->followers && locked_ns(conn) - conn->left_ns < VIGIL_MS * NS_PER_MS;
}

static void keep_role(struct conn *conn)
{
	conn->kept = true;
	conn->keeps++;
	if (!conn->vigil) {
		conn->vigil = true;
		wake_keeper(conn);
	}
}

bool conn_wait(struct conn *conn, struct conn_waiter *waiter, int64_t deadline_ns)
{
	while (!waiter->ready && (deadline_ns == CLOCK_NEVER || clock_mono_ns() < deadline_ns)) {
		if (conn->broker && !conn->broken && !conn->leading)
			lead(conn, waiter, deadline_ns);
		else
			follow(conn, waiter, deadline_ns);
	}
	if (may_keep(conn, waiter))
		keep_role(conn);
	else
		pass_on(conn);
	if (waiter->ready)
		conn->left_ns = locked_ns(conn);
	return waiter->ready;
}

/* ---- the keeper ---- */

static double random_unit(void)
{
	uint32_t r = 0;
	if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
		r = (uint32_t)clock_mono_ns() * 2654435761u;
	return (double)r / 4294967296.0;
}

/* Full jitter: anything between nothing and the current ceiling, so that a thousand clients of a
 * broker that comes back do not come at once. */
static int64_t next_backoff(struct conn *conn, const struct broker_error *error)
{
	int64_t max_ns = conn->conf->broker.reconnect_max_ns;
	/* Credentials and files do not come right in a second. */
	bool hopeless =
	    error->fault == FAULT_AUTH || error->fault == FAULT_VHOST || error->fault == FAULT_FILE;
	conn->backoff_ns = conn->backoff_ns ? conn->backoff_ns * 2 : BACKOFF_FIRST_NS;
	if (hopeless || conn->backoff_ns > max_ns)
		conn->backoff_ns = max_ns;
	return (int64_t)(random_unit() * (double)conn->backoff_ns);
}

static struct log_field log_code(int code)
{
	struct log_field field = L_INT("code", code);
	if (code == 0)
		field.kind = LOG_K_SKIP;
	return field;
}

static void note_trouble(struct conn *conn, const struct broker_error *error)
{
	conn->trouble_at_ns = clock_mono_ns();
	(void)snprintf(conn->trouble, sizeof(conn->trouble), "%s: %s",
	    broker_fault_word(error->fault), error->text);
}

static void complain(
    struct conn *conn, const struct url *url, const struct broker_error *error, int64_t wait_ns)
{
	uint64_t silent = 0;
	note_trouble(conn, error);
	if (!log_complain(&conn->complaint, &silent))
		return;
	log_event(LOG_WARN, error->fault == FAULT_AUTH ? "conn.refused" : "conn.retry",
	    L_STR("conn", conn->name), L_STR("broker", url->shown),
	    L_STR("reason", broker_fault_word(error->fault)), log_code(error->code),
	    L_STR("text", error->text), L_NS("next_try", wait_ns), L_INT("silent", silent));
}

/* One attempt at the next URL. The lock is not held: names resolve and handshakes take as long as
 * they like. */
static struct broker *try_to_connect(struct conn *conn, int64_t *wait_ns)
{
	const struct conf_broker *broker_conf = &conn->conf->broker;
	size_t index = conn->next_url++ % broker_conf->n_urls;
	struct broker_error error;
	struct broker *broker =
	    broker_connect(broker_conf, index, conn->client_name, conn->conf->max_message, &error);
	if (!broker) {
		/* The other URLs are tried at once; only a whole round without success backs off.
		 */
		bool round_over = conn->next_url % broker_conf->n_urls == 0;
		*wait_ns = round_over ? next_backoff(conn, &error) : 0;
		conn_lock(conn);
		conn->url = index;
		complain(conn, &broker_conf->urls[index], &error, *wait_ns);
		conn_unlock(conn);
		return NULL;
	}
	conn->next_url = index;
	int64_t down_ns = 0;
	(void)log_healed(&conn->complaint, &down_ns);
	log_event(LOG_INFO, "conn.up", L_STR("conn", conn->name),
	    L_STR("broker", broker_conf->urls[index].shown),
	    L_STR("server", broker_product(broker)), L_NS("after", down_ns));
	return broker;
}

static void install(struct conn *conn, struct broker *broker)
{
	conn->broker = broker;
	conn->broken = false;
	conn->good_since_ns = conn->heartbeat_sent_ns = 0;
	conn->since_ns = clock_mono_ns();
	conn->url = conn->next_url;
	PTOK(pthread_mutex_lock(&conn->fd_lock));
	conn->fd = broker_fd(broker);
	PTOK(pthread_mutex_unlock(&conn->fd_lock));
	conn->ops->up(conn->owner);
	pass_on(conn);
}

static void forget_fd(struct conn *conn)
{
	PTOK(pthread_mutex_lock(&conn->fd_lock));
	conn->fd = -1;
	PTOK(pthread_mutex_unlock(&conn->fd_lock));
}

/* Nobody leads and the lock is held, so nobody else can be inside the library. */
static void tear_down(struct conn *conn)
{
	struct broker *broker = conn->broker;
	struct broker_error why = *broker_last_error(broker);
	if (why.fault == FAULT_NONE)
		why.fault = FAULT_LOST;
	log_event(LOG_WARN, "conn.lost", L_STR("conn", conn->name),
	    L_STR("reason", broker_fault_word(why.fault)), log_code(why.code),
	    L_OPT("text", why.text));
	note_trouble(conn, &why);
	conn->since_ns = clock_mono_ns();
	/* One that is lost as soon as it is good would be made anew five times a second. */
	if (conn->good_since_ns && clock_mono_ns() - conn->good_since_ns > GOOD_NS)
		conn->backoff_ns = 0;
	conn->ops->down(conn->owner, &why);
	conn->broker = NULL;
	conn->broken = false;
	forget_fd(conn);
	broker_destroy(broker, 0);
}

/* The first attempt after a loss waits too: everybody else lost it at the same moment. */
static void connect_again(struct conn *conn)
{
	conn_unlock(conn);
	int64_t wait_ns = 0;
	struct broker *broker = try_to_connect(conn, &wait_ns);
	conn_lock(conn);
	conn->connect_at_ns = clock_mono_ns() + wait_ns;
	if (!broker)
		return;
	if (conn->stopping) {
		broker_destroy(broker, GOODBYE_MS);
		return;
	}
	install(conn, broker);
	conn->connect_at_ns = clock_mono_ns();
}

static void look_after(struct conn *conn)
{
	if (!conn->leading) {
		if (conn->hurry) {
			lead(conn, NULL, clock_mono_ns() + TICK_MS * NS_PER_MS);
		} else if (!may_read(conn)) {
			keep_alive_unread(conn);
		} else {
			conn->leading = true;
			(void)drain(conn);
			conn->leading = false;
		}
		pass_on(conn);
	}
	if (!conn->broken)
		conn->ops->tick(conn->owner, clock_mono_ns());
}

/* The role that a leader left with, and has not come back for since the last look, is passed on.
 * And nothing is held back for longer than from one look to the next. */
static void keep_vigil(struct conn *conn)
{
	bool same = conn->keeps == conn->seen_keeps;
	conn->seen_keeps = conn->keeps;
	(void)conn_push_acks(conn);
	if (!same)
		return;
	if (conn->kept)
		pass_on(conn);
	conn->vigil = conn->kept = false;
}

static void *keeper_main(void *arg)
{
	struct conn *conn = arg;
	int64_t look_at_ns = 0;
	conn_lock(conn);
	while (!conn->stopping) {
		int64_t now = clock_mono_ns(), until = now + TICK_MS * NS_PER_MS;
		if (conn->broken && !conn->leading) {
			tear_down(conn);
			struct broker_error lost = { .fault = FAULT_LOST };
			conn->connect_at_ns = clock_mono_ns() + next_backoff(conn, &lost);
			continue;
		}
		if (!conn->broker && !conn->no_reconnect) {
			if (now >= conn->connect_at_ns) {
				connect_again(conn);
				continue;
			}
			until = conn->connect_at_ns;
		} else if (conn->broker && !conn->broken) {
			if (conn->hurry || now >= look_at_ns) {
				look_after(conn);
				look_at_ns = until;
			}
			if (conn->hurry && !conn->leading)
				continue;
			if (conn->vigil)
				keep_vigil(conn);
			until = conn->vigil ? now + VIGIL_MS * NS_PER_MS : look_at_ns;
		}
		if (!conn->keeper_wake.ready)
			sleep_until(conn, &conn->keeper_wake, until);
		conn->keeper_wake.ready = false;
	}
	conn->keeper_left.ready = true;
	PTOK(pthread_cond_signal(&conn->keeper_left.cond));
	conn_unlock(conn);
	return NULL;
}

/* ---- life ---- */

struct conn *conn_create(
    const struct conf *conf, const char *name, const struct conn_ops *ops, void *owner)
{
	int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (wake_fd < 0)
		return NULL;
	struct conn *conn = xcalloc(1, sizeof(*conn));
	char host[64] = "";
	(void)gethostname(host, sizeof(host) - 1);
	conn->conf = conf;
	conn->ops = ops;
	conn->owner = owner;
	conn->fd = -1;
	conn->since_ns = clock_mono_ns();
	conn->wake_fd = wake_fd;
	(void)snprintf(conn->name, sizeof(conn->name), "%s", name);
	(void)snprintf(conn->client_name, sizeof(conn->client_name), "%.64s@%.63s %s",
	    conf->broker.connection_name ? conf->broker.connection_name : "warrend", host, name);
	PTOK(pthread_mutex_init(&conn->lock, NULL));
	PTOK(pthread_mutex_init(&conn->fd_lock, NULL));
	conn_waiter_init(&conn->keeper_wake);
	conn_waiter_init(&conn->keeper_left);
	return conn;
}

bool conn_start(struct conn *conn)
{
	pthread_attr_t attr;
	PTOK(pthread_attr_init(&attr));
	PTOK(pthread_attr_setstacksize(&attr, BROKER_STACK_SIZE));
	int result = pthread_create(&conn->keeper, &attr, keeper_main, conn);
	PTOK(pthread_attr_destroy(&attr));
	if (result != 0) {
		errno = result;
		return false;
	}
	char name[16];
	(void)snprintf(name, sizeof(name), "keep %.9s", conn->name);
	(void)pthread_setname_np(conn->keeper, name);
	conn->keeper_runs = true;
	return true;
}

/* A keeper that is stuck in a name look-up is left behind, with all it can reach: the process ends.
 */
static bool join_keeper(struct conn *conn)
{
	int64_t deadline_ns = clock_mono_ns() + GOODBYE_MS * NS_PER_MS;
	conn_lock(conn);
	while (!conn->keeper_left.ready && clock_mono_ns() < deadline_ns)
		sleep_until(conn, &conn->keeper_left, deadline_ns);
	bool left = conn->keeper_left.ready;
	conn_unlock(conn);
	if (left)
		PTOK(pthread_join(conn->keeper, NULL));
	return left;
}

void conn_destroy(struct conn *conn)
{
	if (!conn)
		return;
	conn_seize(conn);
	conn->stopping = true;
	wake_keeper(conn);
	conn_unlock(conn);
	if (conn->keeper_runs && !join_keeper(conn))
		return;
	forget_fd(conn);
	broker_destroy(conn->broker, GOODBYE_MS);
	conn_waiter_fini(&conn->keeper_wake);
	conn_waiter_fini(&conn->keeper_left);
	close(conn->wake_fd);
	PTOK(pthread_mutex_destroy(&conn->lock));
	PTOK(pthread_mutex_destroy(&conn->fd_lock));
	free(conn);
}

struct broker *conn_broker(struct conn *conn)
{
	return conn->broken ? NULL : conn->broker;
}

void conn_hurry(struct conn *conn, bool hurry)
{
	if (hurry && !conn->hurry)
		wake_keeper(conn);
	conn->hurry = hurry;
}

void conn_is_good(struct conn *conn)
{
	if (conn->good_since_ns == 0)
		conn->good_since_ns = clock_mono_ns();
}

void conn_no_reconnect(struct conn *conn)
{
	conn->no_reconnect = true;
}

/* Bytes that the kernel still holds for the peer; they change as long as the peer takes any. */
static int unsent(const struct conn *conn)
{
	int queue = 0;
	if (conn->fd >= 0)
		(void)ioctl(conn->fd, SIOCOUTQ, &queue);
	return queue;
}

bool conn_watch(struct conn *conn, int64_t now_ns)
{
	int64_t limit = 2 * conn->conf->broker.heartbeat_ns;
	int64_t since = atomic_load_explicit(&conn->held_since_ns, memory_order_relaxed);
	bool cut = false;
	if (limit < STUCK_MIN_NS)
		limit = STUCK_MIN_NS;
	PTOK(pthread_mutex_lock(&conn->fd_lock));
	int queue = unsent(conn);
	if (since == 0 || since != conn->watched_since_ns || queue != conn->watched_queue) {
		conn->watched_since_ns = since;
		conn->watched_queue = queue;
		conn->watched_at_ns = now_ns;
	} else if (now_ns - conn->watched_at_ns >= limit && conn->fd >= 0) {
		broker_shutdown(conn->fd);
		cut = true;
	}
	PTOK(pthread_mutex_unlock(&conn->fd_lock));
	if (cut)
		log_event(LOG_ERROR, "conn.stuck", L_STR("conn", conn->name),
		    L_NS("for", now_ns - since));
	return cut;
}

bool conn_try_lock(struct conn *conn)
{
	if (pthread_mutex_trylock(&conn->lock) != 0)
		return false;
	atomic_store_explicit(&conn->held_since_ns, clock_mono_ns(), memory_order_relaxed);
	return true;
}

void conn_seize(struct conn *conn)
{
	int64_t deadline_ns = clock_mono_ns() + SEIZE_NS;
	while (clock_mono_ns() < deadline_ns) {
		if (conn_try_lock(conn))
			return;
		(void)nanosleep(&(struct timespec){ .tv_nsec = 5 * NS_PER_MS }, NULL);
	}
	PTOK(pthread_mutex_lock(&conn->fd_lock));
	if (conn->fd >= 0)
		broker_shutdown(conn->fd);
	PTOK(pthread_mutex_unlock(&conn->fd_lock));
	conn_lock(conn);
}

const char *conn_trouble(const struct conn *conn)
{
	return conn->broker ? "" : conn->trouble;
}

void conn_describe(const struct conn *conn, struct board_conn *out)
{
	const struct url *url = &conn->conf->broker.urls[conn->url];
	*out = (struct board_conn){
		.state = conn->broker ? BOARD_UP : BOARD_DOWN,
		.since_ns = conn->since_ns,
		.retry_at_ns = conn->broker || conn->no_reconnect ? 0 : conn->connect_at_ns,
		.error_at_ns = conn->trouble_at_ns,
	};
	(void)snprintf(out->broker, sizeof(out->broker), "%s", url->shown);
	(void)snprintf(out->error, sizeof(out->error), "%s", conn->trouble);
	if (conn->broker)
		(void)snprintf(
		    out->product, sizeof(out->product), "%s", broker_product(conn->broker));
}
