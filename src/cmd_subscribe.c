/* `warren subscribe`: prints messages as they arrive, and acknowledges what has been printed. */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "show.h"
#include "text.h"

static const char help[] =
    "usage: warren subscribe -q QUEUE [OPTIONS]\n"
    "       warren subscribe -e EXCHANGE [-k KEY]... [OPTIONS]\n"
    "\n"
    "Prints messages as they arrive. A message is acknowledged when it has been written, and goes\n"
    "back to its queue when it has not.\n"
    "\n"
    "Broker (default: amqp://guest:guest@localhost:5672/%2f):\n"
    "  -u, --url URL            its URL; wiped from the process list. Or in WARREN_URL\n"
    "  -c, --config FILE        as a configuration of warrend says, with its TLS settings\n"
    "Where from:\n"
    "  -q, --queue QUEUE        this queue\n"
    "  -e, --exchange EXCHANGE  this exchange, through a queue of our own that ends with us\n"
    "  -k, --key KEY            bound with this key; may be given several times (default: #)\n"
    "      --declare=durable|transient  creates queue or exchange if it is missing\n"
    "      --type TYPE          of the exchange (default: direct) or of the queue (classic, "
    "quorum)\n"
    "How much:\n"
    "  -n, --count COUNT        ends after COUNT messages, and takes no more from the queue\n"
    "      --timeout TIME       ends after TIME\n"
    "      --no-ack             the broker forgets a message when it sends it, printed or not "
    "(with\n"
    "                           -n, where that would lose what comes after COUNT, it does not)\n"
    "What is printed:\n"
    "                           default: properties, headers and body, a block each message\n"
    "  -j, --json               a line of JSON each message\n"
    "  -b, --body               the body and a newline\n"
    "  -Q, --quiet              does not say on standard error when it is subscribed\n"
    "  -h, --help\n"
    "\n"
    "Examples:\n"
    "  warren subscribe -q hello_2 -n 1\n"
    "  warren subscribe -q digests.dead --json -n 10 --timeout 5s\n"
    "  warren subscribe -e logs --body\n"
    "  warren subscribe -e test3 -k 'kern.*' -k '*.critical' --declare=transient --type topic\n"
    "\n"
    "Exit: 0 COUNT is reached, or it was interrupted, 64 usage, 65 no such queue or exchange,\n"
    "69 no broker, or it went away, 75 --timeout came before COUNT, 77 refused.\n";

enum {
	PREFETCH = 100,
	CHUNK = 4096, /* what a pipe that polls as writable takes without blocking */
	CANCEL_S = 5, /* how long the broker may take to stop sending */
	KEYS_MAX = 256,
};

enum format { FORMAT_BLOCK, FORMAT_JSON, FORMAT_BODY };

struct subscribe {
	struct cmd_target target;
	struct cmd_creation creation;
	const char *queue, *exchange;
	const char *keys[KEYS_MAX];
	size_t n_keys;
	int64_t count;      /* -1: no end */
	int64_t timeout_ns; /* -1: none */
	enum format format;
	bool no_ack, quiet;

	/* Once it runs. */
	struct broker *broker;
	char name[BROKER_NAME_MAX + 1]; /* of the queue, also where the server named it */
	char tag[24];
	unsigned consumers; /* how many we have been: each gets a tag of its own */
	int64_t prefetch, taken, acked;
	bool cancelling; /* the broker has been told to send no more */
	bool closed;     /* nobody reads standard output any more */
	bool to_terminal;
	int64_t deadline_ns;
};

/* ---- the command line ---- */

enum { OPT_DECLARE = 256, OPT_TYPE, OPT_TIMEOUT, OPT_NO_ACK };

static const struct option options[] = {
	{ "url", required_argument, NULL, 'u' },
	{ "config", required_argument, NULL, 'c' },
	{ "queue", required_argument, NULL, 'q' },
	{ "exchange", required_argument, NULL, 'e' },
	{ "key", required_argument, NULL, 'k' },
	{ "declare", required_argument, NULL, OPT_DECLARE },
	{ "type", required_argument, NULL, OPT_TYPE },
	{ "count", required_argument, NULL, 'n' },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "no-ack", no_argument, NULL, OPT_NO_ACK },
	{ "json", no_argument, NULL, 'j' },
	{ "body", no_argument, NULL, 'b' },
	{ "quiet", no_argument, NULL, 'Q' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool add_key(struct subscribe *s, const char *key)
{
	if (s->n_keys == KEYS_MAX) {
		(void)cmd_usage("-k: more than %d keys", KEYS_MAX);
		return false;
	}
	s->keys[s->n_keys++] = key;
	return cmd_check_name("the binding key", key);
}

static bool take_option(struct subscribe *s, int c, char *arg)
{
	switch (c) {
	case 'u':
		cmd_take_url(&s->target, arg);
		return true;
	case 'c':
		s->target.file = arg;
		return true;
	case 'q':
		s->queue = arg;
		return cmd_check_name("the name of the queue", arg);
	case 'e':
		s->exchange = arg;
		return cmd_check_name("the name of the exchange", arg);
	case 'k':
		return add_key(s, arg);
	case OPT_DECLARE:
		s->creation.word = arg;
		return true;
	case OPT_TYPE:
		s->creation.type = arg;
		return true;
	case 'n':
		return cmd_read_count("-n", arg, 1, INT64_MAX, &s->count);
	case OPT_TIMEOUT:
		return cmd_read_duration("--timeout", arg, &s->timeout_ns);
	case OPT_NO_ACK:
		return s->no_ack = true;
	case 'j':
		s->format = FORMAT_JSON;
		return true;
	case 'b':
		s->format = FORMAT_BODY;
		return true;
	case 'Q':
		return s->quiet = true;
	default:
		(void)fputs(
		    "Try 'warren subscribe --help'.\n", stderr); /* getopt has said what is wrong */
		return false;
	}
}

static int read_command_line(struct subscribe *s, int argc, char **argv)
{
	int c;
	while ((c = getopt_long(argc, argv, "u:c:q:e:k:n:jbQh", options, NULL)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return EXIT_OK;
		}
		if (!take_option(s, c, optarg))
			return EXIT_USAGE;
	}
	for (; optind < argc && s->n_keys > 0; optind++) /* -k a b c */
		if (!add_key(s, argv[optind]))
			return EXIT_USAGE;
	if (optind < argc)
		return cmd_usage(
		    "what is '%s'? A queue is named with -q, an exchange with -e", argv[optind]);
	if (!s->queue == !s->exchange)
		return cmd_usage("where from? Give either -q QUEUE or -e EXCHANGE");
	if (s->queue && (s->n_keys > 0 || s->queue[0] == '\0'))
		return cmd_usage(
		    s->n_keys > 0 ? "-k goes with -e" : "-q: the name of the queue is empty");
	if (s->exchange && s->exchange[0] == '\0')
		return cmd_usage("-e: nothing can be bound to the default exchange; use -q");
	return cmd_check_creation(&s->creation) ? -1 : EXIT_USAGE;
}

/* ---- signals: they arrive while we wait, and at no other time ---- */

static volatile sig_atomic_t stopping;
static sigset_t while_waiting;

static void on_stop(int signal)
{
	(void)signal;
	stopping = 1;
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_stop };
	sigset_t stops;
	CHECK(sigemptyset(&stops) == 0 && sigaddset(&stops, SIGINT) == 0 &&
	      sigaddset(&stops, SIGTERM) == 0);
	CHECK(sigaction(SIGINT, &action, NULL) == 0 && sigaction(SIGTERM, &action, NULL) == 0);
	PTOK(pthread_sigmask(SIG_BLOCK, &stops, &while_waiting));
	CHECK(sigdelset(&while_waiting, SIGINT) == 0 && sigdelset(&while_waiting, SIGTERM) == 0);
}

/* Waits for the descriptor, a signal, or the deadline; half a second at most. True: it is ready. */
static bool wait_for(int fd, short events, int64_t deadline_ns)
{
	int ms = clock_until_ms(deadline_ns, 500);
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * NS_PER_MS };
	struct pollfd p = { .fd = fd, .events = events };
	return ppoll(&p, 1, &ts, &while_waiting) == 1;
}

/* ---- printing ---- */

static void print_body(const struct subscribe *s, FILE *out, struct bytes body)
{
	if (s->to_terminal)
		cmd_put_text(out, body, true);
	else if (body.len)
		(void)fwrite(body.data, 1, body.len, out);
	(void)putc('\n', out);
}

static char *print(const struct subscribe *s, const struct msg *msg, size_t *len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, len);
	if (!out)
		return NULL;
	if (s->format == FORMAT_JSON)
		show_json(out, msg, s->name);
	else if (s->format == FORMAT_BODY)
		print_body(s, out, msg->body);
	else
		show_block(out, msg, s->name);
	bool good = !ferror(out);
	if (fclose(out) == 0 && good)
		return text;
	free(text);
	return NULL;
}

/*
 * Writes all of it, and keeps the connection alive while nobody reads standard output. False when
 * it was not written: interrupted, nobody there (closed), or an error, in `code`.
 */
static bool write_out(struct subscribe *s, const char *text, size_t len, int *code)
{
	int64_t beat_ns = clock_mono_ns();
	while (len > 0) {
		if (!wait_for(STDOUT_FILENO, POLLOUT, CLOCK_NEVER)) {
			if (stopping)
				return false;
			if (clock_mono_ns() - beat_ns >= s->target.broker.heartbeat_ns / 2) {
				beat_ns = clock_mono_ns();
				(void)!broker_heartbeat(s->broker); /* the next read tells */
			}
			continue;
		}
		ssize_t n = write(STDOUT_FILENO, text, len < CHUNK ? len : CHUNK);
		if (n < 0 && errno != EINTR && errno != EAGAIN) {
			s->closed = errno == EPIPE;
			if (!s->closed)
				cmd_say("cannot write to standard output: %s", strerror(errno));
			*code = s->closed ? EXIT_OK : EXIT_OS;
			return false;
		}
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* ---- consuming ---- */

static bool acks(const struct subscribe *s)
{
	return !s->no_ack || s->count >= 0;
}

static int fail(const struct subscribe *s)
{
	const struct event lost = { .kind = EV_LOST };
	return cmd_explain(s->broker, &lost, "go on");
}

/* Never more at once than may still be taken; the last ones come one by one. */
static int consume(struct subscribe *s)
{
	struct event event = { .kind = EV_LOST };
	char what[BROKER_NAME_MAX + 32];
	(void)snprintf(what, sizeof(what), "consume queue %s", s->name);
	s->prefetch = s->count < 0 || s->count - s->taken > PREFETCH ? PREFETCH : 1;
	s->cancelling = false;
	s->acked = s->taken;
	(void)snprintf(s->tag, sizeof(s->tag), "subscribe-%u", ++s->consumers);
	struct consume consume = { .queue = s->name, .consumer_tag = s->tag, .no_ack = !acks(s) };
	if (broker_qos(s->broker, DIALOG_CHANNEL, (unsigned)s->prefetch) &&
	    dialog_answer(s->broker, EV_QOS_OK, &event) &&
	    broker_consume(s->broker, DIALOG_CHANNEL, &consume) &&
	    dialog_answer(s->broker, EV_CONSUMING, &event))
		return EXIT_OK;
	return cmd_explain(s->broker, &event, what);
}

static bool cancel(struct subscribe *s)
{
	if (s->cancelling)
		return true;
	s->cancelling = true;
	return broker_cancel(s->broker, DIALOG_CHANNEL, s->tag);
}

/*
 * An ack lets the broker send another one: so before the ack that would let it send more than was
 * asked for, it is told to stop. It takes both in their order.
 */
static bool ack(struct subscribe *s, uint64_t tag)
{
	if (s->count >= 0 && s->acked + 1 + s->prefetch > s->count && !cancel(s))
		return false;
	s->acked++;
	return !acks(s) || broker_ack(s->broker, DIALOG_CHANNEL, tag);
}

static int take_delivery(struct subscribe *s, struct event *event)
{
	int code = EXIT_OK;
	size_t len = 0;
	char *text = print(s, &event->msg, &len);
	bool written = text && write_out(s, text, len, &code);
	free(text);
	if (!text) {
		cmd_say("out of memory");
		code = EXIT_OS;
	}
	s->taken += written;
	bool sent = written ? ack(s, event->tag)
			    : !acks(s) || broker_nack(s->broker, DIALOG_CHANNEL, event->tag);
	return sent ? code : fail(s);
}

/* -1: go on. */
static int take(struct subscribe *s, struct event *event)
{
	int code = EXIT_OK;
	switch (event->kind) {
	case EV_DELIVERY:
		code = take_delivery(s, event);
		break;
	case EV_CANCEL_OK:
		if (s->taken >= s->count)
			return EXIT_OK;
		code = consume(s);
		break;
	case EV_CANCELLED:
		cmd_say(
		    "the broker has ended it: queue %s was deleted, or its node is gone", s->name);
		return EXIT_UNAVAILABLE;
	case EV_CLOSED_BY_BROKER:
		return cmd_explain(s->broker, event, "go on");
	case EV_LOST:
		return fail(s);
	default:
		break;
	}
	return code == EXIT_OK && !s->closed ? -1 : code;
}

/* Tells the broker to stop, and gives back what it has sent meanwhile. */
static void give_back(struct subscribe *s)
{
	int64_t deadline = clock_mono_ns() + CANCEL_S * NS_PER_S;
	struct event event = { .kind = EV_NONE };
	if (!cancel(s))
		return;
	do {
		dialog_next(s->broker, deadline, &event);
		if (event.kind == EV_DELIVERY && acks(s) &&
		    !broker_nack(s->broker, DIALOG_CHANNEL, event.tag))
			event.kind = EV_LOST;
		event_drop(&event);
	} while (event.kind != EV_CANCEL_OK && event.kind != EV_LOST && event.kind != EV_NONE &&
		 event.kind != EV_CLOSED_BY_BROKER);
}

static int listen(struct subscribe *s)
{
	int code = -1;
	while (code < 0 && !stopping) {
		struct event event;
		broker_read(s->broker, &event);
		if (event.kind != EV_NONE) {
			code = take(s, &event);
			event_drop(&event);
		} else if (clock_mono_ns() >= s->deadline_ns) {
			code = s->count < 0 ? EXIT_OK : EXIT_TEMPFAIL;
		} else {
			(void)wait_for(broker_fd(s->broker), POLLIN, s->deadline_ns);
		}
	}
	bool complete = s->count >= 0 && s->taken >= s->count;
	bool connected = code <= EXIT_OK || code == EXIT_TEMPFAIL || code == EXIT_OS;
	if (connected && !complete)
		give_back(s);
	return code < 0 || (connected && complete) ? EXIT_OK : code;
}

/* ---- what must be there ---- */

static int bind_own_queue(struct subscribe *s)
{
	struct step queue = {
		.kind = STEP_QUEUE, .name = "", .exclusive = true, .auto_delete = true
	};
	struct event event;
	int code = EXIT_OK;
	if (s->creation.word)
		code = cmd_create_exchange(s->broker, &s->creation, s->exchange);
	if (code == EXIT_OK)
		code = cmd_declare(s->broker, &queue, &event);
	if (code == EXIT_OK)
		(void)snprintf(s->name, sizeof(s->name), "%s", event.name);
	for (size_t i = 0; i < s->n_keys && code == EXIT_OK; i++) {
		struct step bind = {
			.kind = STEP_BIND, .name = s->name, .source = s->exchange, .key = s->keys[i]
		};
		code = cmd_declare(s->broker, &bind, &event);
	}
	return code;
}

static int make_ready(struct subscribe *s)
{
	if (s->exchange) {
		if (s->n_keys == 0)
			s->keys[s->n_keys++] = "#"; /* a fanout exchange asks for none */
		return bind_own_queue(s);
	}
	(void)snprintf(s->name, sizeof(s->name), "%s", s->queue);
	return s->creation.word ? cmd_create_queue(s->broker, &s->creation, s->queue) : EXIT_OK;
}

static int subscribe(struct subscribe *s)
{
	int code = EXIT_OK;
	s->broker = cmd_connect(&s->target, &code);
	if (!s->broker)
		return code;
	s->to_terminal = isatty(STDOUT_FILENO) == 1;
	s->deadline_ns = s->timeout_ns < 0 ? CLOCK_NEVER : clock_mono_ns() + s->timeout_ns;
	code = make_ready(s);
	catch_signals();
	if (code == EXIT_OK)
		code = consume(s);
	if (code == EXIT_OK) {
		if (!s->quiet)
			cmd_say("subscribed to %s %s", s->exchange ? "exchange" : "queue",
			    s->exchange ? s->exchange : s->queue);
		code = listen(s);
	}
	broker_destroy(s->broker, 1000);
	return code;
}

int cmd_subscribe(int argc, char **argv)
{
	struct subscribe s = { .count = -1, .timeout_ns = -1 };
	(void)signal(SIGPIPE, SIG_IGN);
	int code = read_command_line(&s, argc, argv);
	if (code < 0)
		code = subscribe(&s);
	cmd_target_free(&s.target);
	return code;
}
