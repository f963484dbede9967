/* `warren publish`: sends messages, and is content only with what the broker confirms. */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "ladder.h"
#include "sender.h"
#include "text.h"

enum { BODY_MAX = CMD_MAX_MESSAGE };

static const char help[] =
    "usage: warren publish (-q QUEUE | -e EXCHANGE [-r KEY]) [OPTIONS] BODY...\n"
    "       warren publish (-q QUEUE | -e EXCHANGE [-r KEY]) [OPTIONS] -f FILE | -l\n"
    "\n"
    "Sends messages and waits until the broker has confirmed them and put each into a queue.\n"
    "\n"
    "Broker (default: amqp://guest:guest@localhost:5672/%2f):\n"
    "  -u, --url URL            its URL; wiped from the process list. Or in WARREN_URL\n"
    "  -c, --config FILE        as a configuration of warrend says, with its TLS settings\n"
    "Where to:\n"
    "  -q, --queue QUEUE        this queue, through the default exchange\n"
    "  -e, --exchange EXCHANGE  this exchange\n"
    "  -r, --routing-key KEY    with this routing key; default: the empty one\n"
    "      --delay TIME         not before TIME (90s, 2h, 30d) has passed; with -q only\n"
    "      --declare=durable|transient  creates queue or exchange if it is missing\n"
    "      --type TYPE          of the exchange (default: direct) or of the queue (classic, "
    "quorum)\n"
    "What:\n"
    "  BODY...                  one message each\n"
    "  -f, --file FILE          one message, its body the whole file; - is standard input\n"
    "  -l, --lines              one message for each line of standard input, as it comes\n"
    "      --repeat N           sends each message N times\n"
    "  -t, --task TASK          the property type: which task is to run\n"
    "  -H, --header NAME[:TYPE]=VALUE  a header; TYPE: string (default), int, bool, double\n"
    "      --priority N         0 to 255\n"
    "      --expiry TIME        after that nobody is to get it any more\n"
    "      --content-type TYPE  such as text/plain\n"
    "      --correlation-id ID, --reply-to QUEUE, --app-id ID  the properties of these names\n"
    "      --message-id ID      instead of a random one; with several messages ID-1, ID-2, ...\n"
    "      --transient          the broker may forget it when it restarts\n"
    "How:\n"
    "  -w, --wait[=TIME]        waits for a reply to each message and prints the replies, one a "
    "line,\n"
    "                           in the order published; gives up after TIME (30s) without any "
    "reply\n"
    "      --timeout TIME       how long the broker may confirm nothing (default: 30s)\n"
    "      --allow-unroutable   a message that no queue took is no error\n"
    "  -v, --verbose            sums up on standard error\n"
    "  -h, --help\n"
    "\n"
    "Examples:\n"
    "  warren publish -q hello_2 'Hello World!'\n"
    "  warren publish -q hello_1 --declare=transient hello\n"
    "  warren publish -e logs -r kern.critical 'disk on fire'\n"
    "  warren publish -q text -t text.upper --wait 'shout this'\n"
    "  find /usr/share -type f | warren publish -q digests -t file.digest -l -v\n"
    "  warren publish -q reports -H month:int=7 --delay 2h -f request.json\n"
    "\n"
    "Exit: 0 confirmed and routed, 64 usage, 65 unroutable, 69 no broker, 75 not confirmed (or no\n"
    "reply), 77 refused.\n";

enum { HEADERS_MAX = 64 };

struct publish {
	struct cmd_target target;
	struct cmd_creation creation;
	const char *queue, *exchange, *routing_key;
	const char *file, *message_id, *content_type, *correlation_id, *reply_to, *app_id, *task;
	char **bodies;
	size_t n_bodies;
	struct field headers[HEADERS_MAX + 2]; /* and those of a delayed message */
	size_t n_headers;
	int64_t priority;  /* -1: none */
	int64_t expiry_ns; /* -1: none */
	int64_t delay_ns;
	int64_t repeat;
	bool lines, transient, verbose;
	struct sender_rules rules;

	/* Once it runs. */
	struct broker *broker;
	struct sender *sender;
	struct outgoing message; /* what all of them have in common */
	uint64_t number;         /* of the present message, from 1 */
	uint64_t id_base;        /* the end of a random message id, to which the number is added */
	char id_head[32];        /* the random beginning */
	char address[LADDER_ADDRESS_LEN + 1], rung[LADDER_NAME_SIZE], delay_key[LADDER_KEY_SIZE];
	char expiration[24];
};

/* ---- the command line ---- */

static bool read_value(const char *type, const char *text, struct value *value)
{
	char *end = NULL;
	errno = 0;
	if (strcmp(type, "string") == 0) {
		*value = V_STR(bytes_of(text));
		return true;
	}
	if (strcmp(type, "bool") == 0) {
		*value = V_BOOL(strcmp(text, "true") == 0);
		return value->boolean || strcmp(text, "false") == 0;
	}
	if (strcmp(type, "int") == 0)
		*value = V_INT(strtoll(text, &end, 10));
	else
		*value =
		    (struct value){ .kind = VALUE_DOUBLE, .width = 8, .real = strtod(text, &end) };
	return errno == 0 && end != text && *end == '\0';
}

static bool is_type(const char *word)
{
	static const char *const types[] = { "string", "int", "bool", "double" };
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcmp(types[i], word) == 0)
			return true;
	return false;
}

/* NAME=VALUE or NAME:TYPE=VALUE. A name with a colon needs its type. */
static bool read_header(struct publish *p, char *text)
{
	char *equals = strchr(text, '=');
	if (!equals || equals == text || p->n_headers == HEADERS_MAX) {
		(void)cmd_usage("-H: '%s' %s", text,
		    p->n_headers == HEADERS_MAX ? "is one header too many" : "is not NAME=VALUE");
		return false;
	}
	*equals = '\0';
	char *colon = strrchr(text, ':');
	const char *type = colon ? colon + 1 : "string";
	if (colon)
		*colon = '\0';
	struct field *field = &p->headers[p->n_headers++];
	field->key = bytes_of(text);
	if (!is_type(type))
		(void)cmd_usage("-H %s: '%s' is no type: string, int, bool or double", text, type);
	else if (!read_value(type, equals + 1, &field->value))
		(void)cmd_usage("-H %s: '%s' is no %s", text, equals + 1, type);
	else
		return cmd_check_name("the name of a header", text);
	return false;
}

enum {
	OPT_DELAY = 256,
	OPT_DECLARE,
	OPT_TYPE,
	OPT_REPEAT,
	OPT_PRIORITY,
	OPT_EXPIRY,
	OPT_CONTENT_TYPE,
	OPT_CORRELATION_ID,
	OPT_REPLY_TO,
	OPT_APP_ID,
	OPT_MESSAGE_ID,
	OPT_TRANSIENT,
	OPT_TIMEOUT,
	OPT_ALLOW_UNROUTABLE,
};

static const struct option options[] = {
	{ "url", required_argument, NULL, 'u' },
	{ "config", required_argument, NULL, 'c' },
	{ "queue", required_argument, NULL, 'q' },
	{ "exchange", required_argument, NULL, 'e' },
	{ "routing-key", required_argument, NULL, 'r' },
	{ "delay", required_argument, NULL, OPT_DELAY },
	{ "declare", required_argument, NULL, OPT_DECLARE },
	{ "type", required_argument, NULL, OPT_TYPE },
	{ "file", required_argument, NULL, 'f' },
	{ "lines", no_argument, NULL, 'l' },
	{ "repeat", required_argument, NULL, OPT_REPEAT },
	{ "task", required_argument, NULL, 't' },
	{ "header", required_argument, NULL, 'H' },
	{ "priority", required_argument, NULL, OPT_PRIORITY },
	{ "expiry", required_argument, NULL, OPT_EXPIRY },
	{ "content-type", required_argument, NULL, OPT_CONTENT_TYPE },
	{ "correlation-id", required_argument, NULL, OPT_CORRELATION_ID },
	{ "reply-to", required_argument, NULL, OPT_REPLY_TO },
	{ "app-id", required_argument, NULL, OPT_APP_ID },
	{ "message-id", required_argument, NULL, OPT_MESSAGE_ID },
	{ "transient", no_argument, NULL, OPT_TRANSIENT },
	{ "wait", optional_argument, NULL, 'w' },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "allow-unroutable", no_argument, NULL, OPT_ALLOW_UNROUTABLE },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool take_name(const char *option, const char *text, const char **out)
{
	*out = text;
	return cmd_check_name(option, text);
}

/* The options that are a property of the message. */
static bool take_property(struct publish *p, int c, char *arg)
{
	switch (c) {
	case 't':
		return take_name("--task", arg, &p->task);
	case 'H':
		return read_header(p, arg);
	case OPT_PRIORITY:
		return cmd_read_count("--priority", arg, 0, UINT8_MAX, &p->priority);
	case OPT_EXPIRY:
		return cmd_read_duration("--expiry", arg, &p->expiry_ns);
	case OPT_CONTENT_TYPE:
		return take_name("--content-type", arg, &p->content_type);
	case OPT_CORRELATION_ID:
		return take_name("--correlation-id", arg, &p->correlation_id);
	case OPT_REPLY_TO:
		return take_name("--reply-to", arg, &p->reply_to);
	case OPT_APP_ID:
		return take_name("--app-id", arg, &p->app_id);
	case OPT_MESSAGE_ID:
		return take_name("--message-id", arg, &p->message_id);
	case OPT_TRANSIENT:
		return p->transient = true;
	default:
		(void)fputs(
		    "Try 'warren publish --help'.\n", stderr); /* getopt has said what is wrong */
		return false;
	}
}

static bool take_option(struct publish *p, int c, char *arg)
{
	switch (c) {
	case 'u':
		cmd_take_url(&p->target, arg);
		return true;
	case 'c':
		p->target.file = arg;
		return true;
	case 'q':
		return take_name("the name of the queue", arg, &p->queue);
	case 'e':
		return take_name("the name of the exchange", arg, &p->exchange);
	case 'r':
		return take_name("the routing key", arg, &p->routing_key);
	case OPT_DELAY:
		return cmd_read_duration("--delay", arg, &p->delay_ns);
	case OPT_DECLARE:
		p->creation.word = arg;
		return true;
	case OPT_TYPE:
		p->creation.type = arg;
		return true;
	case 'f':
		p->file = arg;
		return true;
	case 'l':
		return p->lines = true;
	case OPT_REPEAT:
		return cmd_read_count("--repeat", arg, 1, INT32_MAX, &p->repeat);
	case 'w':
		p->rules.wait = true;
		return !arg || cmd_read_duration("--wait", arg, &p->rules.wait_ns);
	case OPT_TIMEOUT:
		return cmd_read_duration("--timeout", arg, &p->rules.timeout_ns);
	case OPT_ALLOW_UNROUTABLE:
		return p->rules.allow_unroutable = true;
	case 'v':
		return p->verbose = true;
	default:
		return take_property(p, c, arg);
	}
}

/* What goes with what. NULL: all is well. */
static const char *find_contradiction(const struct publish *p)
{
	if (!p->queue == !p->exchange)
		return "where to? Give either -q QUEUE or -e EXCHANGE";
	if (p->routing_key && p->queue)
		return "-r goes with -e; -q has the queue's name as its key";
	if (p->queue && p->queue[0] == '\0')
		return "-q: the name of the queue is empty";
	if ((p->n_bodies > 0) + (p->file != NULL) + p->lines != 1)
		return "what? Give bodies, or -f FILE, or -l";
	if (p->delay_ns >= 0 && !p->queue)
		return "--delay goes with -q";
	if (p->delay_ns >= 0 && strlen(p->queue) > BROKER_NAME_MAX - strlen(LADDER_RETURN_SUFFIX))
		return "--delay: the name of the queue is too long: NAME" LADDER_RETURN_SUFFIX
		       " must fit";
	if (p->delay_ns >= 0 && p->transient)
		return "a delayed message cannot be --transient";
	if (p->delay_ns >= 0 && p->expiry_ns >= 0 && p->expiry_ns <= p->delay_ns)
		return "it would expire (--expiry) before its --delay is over";
	if (p->rules.wait && (p->reply_to || p->correlation_id))
		return "--wait sets --reply-to and --correlation-id itself";
	return NULL;
}

static int read_command_line(struct publish *p, int argc, char **argv)
{
	int c;
	while ((c = getopt_long(argc, argv, "u:c:q:e:r:f:lt:H:w::vh", options, NULL)) != -1) {
		if (c == 'h') {
			(void)fputs(help, stdout);
			return EXIT_OK;
		}
		if (!take_option(p, c, optarg))
			return EXIT_USAGE;
	}
	p->bodies = argv + optind;
	p->n_bodies = (size_t)(argc - optind);
	const char *wrong = find_contradiction(p);
	if (wrong)
		return cmd_usage("%s", wrong);
	return cmd_check_creation(&p->creation) ? -1 : EXIT_USAGE;
}

/* ---- the message ---- */

static void set_text(struct publish *p, enum prop prop, struct bytes *field, const char *text)
{
	if (!text)
		return;
	p->message.props.present |= (uint32_t)prop;
	*field = bytes_of(text);
}

static void add_header(struct publish *p, const char *name, struct value value)
{
	p->headers[p->n_headers++] = (struct field){ bytes_of(name), value };
}

/* While it waits on the ladder an expiration would fire there, so warrend gets it in
 * a header; the queue's name helps whoever finds the message parked. */
static void address_delayed(struct publish *p)
{
	uint32_t seconds = ladder_round(p->delay_ns);
	ladder_rung_name(ladder_rung(seconds), p->rung);
	if (!ladder_address(bytes_of(p->queue), p->address))
		or_die(NULL);
	ladder_key(seconds, p->address, p->delay_key);
	p->message.exchange = bytes_of(p->rung);
	p->message.routing_key = bytes_of(p->delay_key);
	add_header(p, "x-warren-queue", V_STR(bytes_of(p->queue)));
	if (p->expiry_ns >= 0)
		add_header(
		    p, "x-warren-expires-at", V_INT(clock_wall_ms() + p->expiry_ns / NS_PER_MS));
}

static void address(struct publish *p)
{
	p->message.exchange = bytes_of(p->queue ? "" : p->exchange);
	p->message.routing_key = bytes_of(p->queue ? p->queue : p->routing_key);
	if (p->expiry_ns < 0)
		return;
	(void)snprintf(p->expiration, sizeof(p->expiration), "%" PRId64, p->expiry_ns / NS_PER_MS);
	set_text(p, PROP_EXPIRATION, &p->message.props.expiration, p->expiration);
}

static void make_message(struct publish *p)
{
	struct props *props = &p->message.props;
	props->present = PROP_DELIVERY_MODE | PROP_MESSAGE_ID;
	props->delivery_mode = p->transient ? 1 : 2;
	set_text(p, PROP_TYPE, &props->type, p->task);
	set_text(p, PROP_CONTENT_TYPE, &props->content_type, p->content_type);
	set_text(p, PROP_CORRELATION_ID, &props->correlation_id, p->correlation_id);
	set_text(p, PROP_REPLY_TO, &props->reply_to, p->reply_to);
	set_text(p, PROP_APP_ID, &props->app_id, p->app_id);
	if (p->priority >= 0) {
		props->present |= PROP_PRIORITY;
		props->priority = (uint8_t)p->priority;
	}
	if (p->delay_ns >= 0)
		address_delayed(p);
	else
		address(p);
	if (p->n_headers > 0)
		props->present |= PROP_HEADERS;
	props->headers = (struct table){ p->headers, p->n_headers };
}

/* The first half of a version 4 UUID; the numbers count on from its random last field. */
static int make_ids(struct publish *p)
{
	unsigned char random[16];
	char hex[33];
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
		cmd_say("getrandom: %s", strerror(errno));
		return EXIT_OS;
	}
	random[6] = (unsigned char)((random[6] & 0x0F) | 0x40);
	random[8] = (unsigned char)((random[8] & 0x3F) | 0x80);
	text_hex(random, sizeof(random), hex);
	(void)snprintf(p->id_head, sizeof(p->id_head), "%.8s-%.4s-%.4s-%.4s", hex, hex + 8,
	    hex + 12, hex + 16);
	p->id_base = strtoull(hex + 20, NULL, 16);
	return EXIT_OK;
}

static bool is_alone(const struct publish *p)
{
	return !p->lines && p->n_bodies <= 1 && p->repeat == 1;
}

static size_t next_id(struct publish *p, char *id, size_t size)
{
	p->number++;
	int n;
	if (!p->message_id)
		n = snprintf(id, size, "%s-%012" PRIx64, p->id_head,
		    (p->id_base + p->number) & UINT64_C(0xFFFFFFFFFFFF));
	else if (is_alone(p))
		n = snprintf(id, size, "%s", p->message_id);
	else
		n = snprintf(id, size, "%s-%" PRIu64, p->message_id, p->number);
	return (size_t)n;
}

static int publish_body(struct publish *p, struct bytes body)
{
	for (int64_t i = 0; i < p->repeat; i++) {
		char id[BROKER_NAME_MAX + 32];
		p->message.props.message_id = (struct bytes){ id, next_id(p, id, sizeof(id)) };
		p->message.body = body;
		int code = sender_publish(p->sender, &p->message);
		if (code != EXIT_OK)
			return code;
	}
	return EXIT_OK;
}

/* ---- where bodies come from ---- */

/* Bytes that have been read from a descriptor and not been used. */
struct input {
	int fd;
	char *data;
	size_t start, end, size;
};

/* Makes room for more behind the unused bytes; false when they are too many for a body. */
static bool input_grow(struct input *in)
{
	if (in->start > 0) {
		memmove(in->data, in->data + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
	if (in->end < in->size)
		return true;
	if (in->size >= BODY_MAX)
		return false;
	size_t size = in->size ? in->size * 2 : 65536;
	char *grown = realloc(in->data, size);
	if (!grown)
		return false;
	in->data = grown;
	in->size = size;
	return true;
}

/* One read; `got` 0 is the end. */
static int input_read(struct input *in, size_t *got)
{
	if (in->end == in->size && !input_grow(in)) {
		cmd_say("a body over %d MiB cannot be sent", BODY_MAX >> 20);
		return EXIT_UNROUTABLE;
	}
	ssize_t n;
	do
		n = read(in->fd, in->data + in->end, in->size - in->end);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		cmd_say("cannot read: %s", strerror(errno));
		return EXIT_USAGE;
	}
	*got = (size_t)n;
	in->end += (size_t)n;
	return EXIT_OK;
}

/* Publishes the lines that are complete. `seen`: how many unused bytes hold no newline. */
static int publish_whole_lines(struct publish *p, struct input *in, size_t *seen)
{
	char *newline;
	while (
	    (newline = memchr(in->data + in->start + *seen, '\n', in->end - in->start - *seen))) {
		char *line = in->data + in->start;
		int code = publish_body(p, (struct bytes){ line, (size_t)(newline - line) });
		if (code != EXIT_OK)
			return code;
		in->start = (size_t)(newline - in->data) + 1;
		*seen = 0;
	}
	*seen = in->end - in->start;
	return EXIT_OK;
}

static int publish_lines(struct publish *p, struct input *in)
{
	size_t got = 1, seen = 0;
	int code = EXIT_OK;
	while (code == EXIT_OK && got > 0) {
		code = sender_idle(p->sender, in->fd);
		if (code == EXIT_OK)
			code = input_read(in, &got);
		if (code == EXIT_OK)
			code = publish_whole_lines(p, in, &seen);
	}
	if (code == EXIT_OK && in->end > in->start)
		code = publish_body(p, (struct bytes){ in->data + in->start, in->end - in->start });
	return code;
}

/* The whole file, before the connection is made: nothing then keeps the broker waiting. */
static int read_file(const char *path, struct input *in)
{
	size_t got = 1;
	int code = EXIT_OK;
	if (strcmp(path, "-") != 0) {
		in->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (in->fd < 0) {
			cmd_say("%s: %s", path, strerror(errno));
			return EXIT_USAGE;
		}
	}
	while (code == EXIT_OK && got > 0)
		code = input_read(in, &got);
	if (in->fd != STDIN_FILENO)
		(void)close(in->fd);
	return code;
}

static int publish_all(struct publish *p, struct input *in)
{
	int code = EXIT_OK;
	if (p->lines)
		code = publish_lines(p, in);
	else if (p->file)
		code = publish_body(p, (struct bytes){ in->data, in->end });
	for (size_t i = 0; i < p->n_bodies && code == EXIT_OK; i++)
		code = publish_body(p, bytes_of(p->bodies[i]));
	return code == EXIT_OK ? sender_finish(p->sender) : code;
}

/* ---- what must be there ---- */

/* The broker confirms what goes to a rung though nobody may ever get it, so look first. */
static int find_queue(struct publish *p)
{
	struct step look = { .kind = STEP_QUEUE, .passive = true, .name = p->queue };
	struct event event;
	return p->rules.allow_unroutable ? EXIT_OK : cmd_declare(p->broker, &look, &event);
}

static int make_return_queue(struct publish *p)
{
	struct script *script = or_die(topology_return(p->queue));
	int code = cmd_declare_all(p->broker, script);
	script_free(script);
	return code;
}

static int make_ladder(struct publish *p)
{
	struct script *script =
	    or_die(topology_ladder(ladder_rung(ladder_round(p->delay_ns)), false));
	int code = cmd_declare_all(p->broker, script);
	script_free(script);
	return code == EXIT_OK ? make_return_queue(p) : code;
}

static int make_ready(struct publish *p)
{
	int code = EXIT_OK;
	if (p->creation.word)
		code = p->queue ? cmd_create_queue(p->broker, &p->creation, p->queue)
				: cmd_create_exchange(p->broker, &p->creation, p->exchange);
	if (code == EXIT_OK && p->delay_ns >= 0)
		code = find_queue(p);
	if (code == EXIT_OK && p->delay_ns >= 0)
		code = make_ladder(p);
	return code;
}

/* ---- */

static void sum_up(const struct publish *p, int64_t took_ns, bool well)
{
	const struct sender_counts *n = sender_counts(p->sender);
	if (well && !p->verbose)
		return;
	(void)fprintf(stderr, "published %" PRIu64 ", confirmed %" PRIu64 ", unroutable %" PRIu64,
	    n->published, n->confirmed, n->unroutable);
	if (n->refused)
		(void)fprintf(stderr, ", refused %" PRIu64, n->refused);
	if (p->rules.wait)
		(void)fprintf(stderr, ", replies %" PRIu64, n->replies);
	(void)fprintf(stderr, " in %.1fs\n", (double)took_ns / NS_PER_S);
}

static int run(struct publish *p, struct input *in)
{
	int64_t began_ns = clock_mono_ns();
	p->sender = sender_create(p->broker, &p->rules);
	if (!p->rules.wait || isatty(STDOUT_FILENO) != 1)
		cmd_progress_start();
	int code = sender_start(p->sender);
	if (code == EXIT_OK)
		code = publish_all(p, in);
	cmd_progress_end();
	sum_up(p, clock_mono_ns() - began_ns, code == EXIT_OK);
	sender_destroy(p->sender);
	return code;
}

static int publish(struct publish *p)
{
	struct input in = { .fd = STDIN_FILENO };
	int code = p->file ? read_file(p->file, &in) : EXIT_OK;
	if (code == EXIT_OK)
		code = make_ids(p);
	if (code == EXIT_OK)
		p->broker = cmd_connect(&p->target, &code);
	if (p->broker) {
		make_message(p);
		p->rules.total = p->lines ? 0 : (uint64_t)p->repeat * (p->file ? 1 : p->n_bodies);
		code = make_ready(p);
		if (code == EXIT_OK)
			code = run(p, &in);
		broker_destroy(p->broker, 1000);
	}
	free(in.data);
	return code;
}

int cmd_publish(int argc, char **argv)
{
	struct publish p = { .routing_key = NULL,
		.priority = -1,
		.expiry_ns = -1,
		.delay_ns = -1,
		.repeat = 1,
		.rules = { .timeout_ns = 30 * NS_PER_S, .wait_ns = 30 * NS_PER_S } };
	(void)signal(SIGPIPE, SIG_IGN);
	int code = read_command_line(&p, argc, argv);
	if (code < 0)
		code = publish(&p);
	cmd_target_free(&p.target);
	return code;
}
