/* One AMQP connection on rabbitmq-c: frames in, events out; methods out without waiting. */
#include "broker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#include "clock.h"
#include "copy.h"
#include "dial.h"
#include "text.h"
#include "tls.h"
#include "topology.h"

#define ARRIVAL_NS (NS_PER_S / 2) /* for a last word on a connection that is given up */

enum {
	FRAME_MAX = 131072, /* the server's default; 4.1 and newer refuse less than 8192 */
	FRAME_MIN = 4096,   /* the protocol's */
	FRAME_OVERHEAD = 8,
	ACK_FRAME = FRAME_OVERHEAD + 2 + 2 + 8 + 1, /* class, method, tag, bits */
	ACKS_MAX = 32,
	HEAP_BODY = 1024 * 1024, /* the largest body that malloc is asked for */
	FIELDS_MAX = 4096,       /* entries of all tables of one message together */
};

/* A line on which one frame takes longer is as good as none: 4 kB/s carry the largest. */
#define HALFWAY_MAX_NS (30 * NS_PER_S)
#define LOOKS_NS (5 * NS_PER_S) /* whoever reads looks more often than that */

/* Where a channel number stands. */
enum channel_state {
	CHANNEL_FREE,
	CHANNEL_OPENING,
	CHANNEL_OPEN,
	CHANNEL_CLOSING, /* our channel.close is out; until its answer everything else is void */
};

/* A message whose header and body frames are still coming in. */
struct assembly {
	enum event_kind
	    kind; /* EV_DELIVERY, EV_GOT, EV_RETURNED; EV_NONE: no message is under way */
	bool has_header;
	uint64_t tag;
	uint32_t messages;
	int code;
	char text[BROKER_TEXT_MAX];
	struct arena *arena;
	struct msg msg;
	uint64_t body_size, got;
	int spool; /* temporary file of a body over max_message, -1 */
};

struct channel {
	enum channel_state state;
	uint16_t awaited[EV_PURGED + 1];    /* answers of each kind that were asked for */
	uint64_t published;                 /* since confirms are numbered */
	char consumer[BROKER_NAME_MAX + 1]; /* tag of the one consumer, "" none */
	struct assembly assembly;
};

struct broker {
	amqp_connection_state_t amqp;
	int64_t max_message;
	struct channel *channels; /* index = number - 1 */
	unsigned n_channels, channel_max;
	struct broker_error error;
	bool lost, tls;
	uint8_t acks[ACKS_MAX * ACK_FRAME]; /* frames that were put off */
	size_t n_acks;
	bool in_message;                  /* the last frame belongs to a message that goes on, */
	bool in_body;                     /* which may take a while */
	int64_t halfway_ns, looked_at_ns; /* since when a frame is awaited; 0: none is */
	char product[64];
	int version;
	struct arena *scratch; /* tables of the message being published */
};

/* ---- words ---- */

const char *broker_fault_word(enum broker_fault fault)
{
	switch (fault) {
	case FAULT_NONE:
		return "none";
	case FAULT_DNS:
		return "dns";
	case FAULT_CONNECT:
		return "connect";
	case FAULT_TIMEOUT:
		return "timeout";
	case FAULT_TLS:
		return "tls";
	case FAULT_AUTH:
		return "auth";
	case FAULT_VHOST:
		return "vhost";
	case FAULT_FILE:
		return "file";
	case FAULT_LOST:
		return "lost";
	case FAULT_HEARTBEAT:
		return "heartbeat";
	case FAULT_CLOSED:
		return "closed";
	case FAULT_PROTOCOL:
		return "protocol";
	case FAULT_UNREADABLE:
		return "unreadable";
	case FAULT_MEMORY:
		return "memory";
	}
	return "unknown";
}

static struct bytes from_amqp(amqp_bytes_t b)
{
	return (struct bytes){ b.bytes, b.len };
}

/* rabbitmq-c's type has no const; it never writes through the pointer when it encodes. */
static amqp_bytes_t to_amqp(struct bytes b)
{
	union {
		const void *in;
		void *out;
	} cast = { .in = b.data };
	return (amqp_bytes_t){ b.len, cast.out };
}

static amqp_bytes_t str_to_amqp(const char *s)
{
	return to_amqp(bytes_of(s));
}

static void copy_text(char *out, size_t size, amqp_bytes_t text)
{
	size_t len = text.len < size - 1 ? text.len : size - 1;
	if (len)
		memcpy(out, text.bytes, len);
	out[len] = '\0';
}

/* What the broker says of a close; it may say nothing. */
static void copy_reason(char *out, size_t size, amqp_bytes_t text)
{
	copy_text(out, size, text);
	if (!out[0])
		(void)snprintf(out, size, "the broker gave no reason");
}

PRINTF_LIKE(4, 5)
static void fail(
    struct broker_error *error, enum broker_fault fault, int code, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	error->fault = fault;
	error->code = code;
	(void)vsnprintf(error->text, sizeof(error->text), fmt, args);
	va_end(args);
}

/* The connection is dead from now on. The first reason is the one that counts. */
static void lose(struct broker *broker, enum broker_fault fault, int code, const char *text)
{
	if (broker->lost)
		return;
	broker->lost = true;
	fail(&broker->error, fault, code, "%s", text);
}

static void lose_by_status(struct broker *broker, int status)
{
	enum broker_fault fault = FAULT_LOST;
	if (status == AMQP_STATUS_HEARTBEAT_TIMEOUT)
		fault = FAULT_HEARTBEAT;
	else if (status == AMQP_STATUS_NO_MEMORY)
		fault = FAULT_MEMORY;
	else if (status == AMQP_STATUS_BAD_AMQP_DATA || status == AMQP_STATUS_UNKNOWN_CLASS ||
		 status == AMQP_STATUS_UNKNOWN_METHOD ||
		 status == AMQP_STATUS_INCOMPATIBLE_AMQP_VERSION)
		fault = FAULT_PROTOCOL;
	lose(broker, fault, 0, amqp_error_string2(status));
}

const struct broker_error *broker_last_error(const struct broker *broker)
{
	return &broker->error;
}

const char *broker_product(const struct broker *broker)
{
	return broker->product;
}

int broker_version(const struct broker *broker)
{
	return broker->version;
}

unsigned broker_channel_max(const struct broker *broker)
{
	return broker->channel_max;
}

int64_t broker_heartbeat_ns(const struct broker *broker)
{
	return amqp_get_heartbeat(broker->amqp) * NS_PER_S;
}

int broker_fd(const struct broker *broker)
{
	return amqp_get_sockfd(broker->amqp);
}

static void set_tcp(const struct broker *broker, int option, int value)
{
	(void)setsockopt(broker_fd(broker), IPPROTO_TCP, option, &value, sizeof(value));
}

bool broker_read_ahead(const struct broker *broker)
{
	return amqp_frames_enqueued(broker->amqp) || amqp_data_in_buffer(broker->amqp);
}

/* What TLS has decrypted already, nobody can ask for. */
bool broker_holds_more(const struct broker *broker)
{
	return broker->tls || broker->lost || broker_read_ahead(broker);
}

void broker_shutdown(int fd)
{
	(void)shutdown(fd, SHUT_RDWR);
}

void broker_init(void)
{
	tls_init();
}

void broker_widen_stack(void)
{
	struct rlimit limit;
	rlim_t wanted = 2 * (rlim_t)BROKER_STACK_SIZE;
	if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
	(void)setrlimit(RLIMIT_STACK, &limit);
}

/* ---- the way out ---- */

static bool sent(struct broker *broker, int status)
{
	if (status == AMQP_STATUS_OK)
		return true;
	lose_by_status(broker, status);
	return false;
}

/* For as long as rabbitmq-c itself would: what ends it is broker_shutdown, or TCP_USER_TIMEOUT. */
static bool wait_writable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	return poll(&p, 1, -1) > 0 || errno == EINTR;
}

bool broker_push_acks(struct broker *broker)
{
	int fd = broker_fd(broker);
	size_t at = 0, len = broker->n_acks * ACK_FRAME;
	broker->n_acks = 0;
	while (at < len) {
		ssize_t n = send(fd, broker->acks + at, len - at, MSG_NOSIGNAL);
		if (n >= 0)
			at += (size_t)n;
		else if (errno != EINTR && (errno != EAGAIN || !wait_writable(fd)))
			return sent(broker, AMQP_STATUS_SOCKET_ERROR);
	}
	return true;
}

/* Everything leaves in the order in which it was sent: after the close-ok of a channel, an ack on
 * it would cost the whole connection (504). */
static bool send_method(
    struct broker *broker, unsigned channel, amqp_method_number_t id, void *method)
{
	return !broker->lost && broker_push_acks(broker) &&
	       sent(broker, amqp_send_method(broker->amqp, (amqp_channel_t)channel, id, method));
}

/* ---- connecting ---- */

static struct timeval to_timeval(int64_t ns)
{
	if (ns < NS_PER_MS)
		ns = NS_PER_MS;
	return (struct timeval){ .tv_sec = (time_t)(ns / NS_PER_S),
		.tv_usec = (suseconds_t)(ns % NS_PER_S / 1000) };
}

static bool set_up_tls(amqp_socket_t *socket, const struct conf_tls *tls, const struct url *url,
    struct broker_error *error)
{
	char why[BROKER_TEXT_MAX];
	if (!tls_set_up(amqp_ssl_socket_get_context(socket), tls, url->host, why, sizeof(why))) {
		fail(error, FAULT_FILE, 0, "%s", why);
		return false;
	}
	amqp_ssl_socket_set_verify_peer(socket, tls->verify);
	amqp_ssl_socket_set_verify_hostname(socket, tls->verify && !tls_is_address(url->host));
	return true;
}

static void fail_tls(struct broker_error *error, const struct url *url)
{
	char why[BROKER_TEXT_MAX];
	tls_explain(errno, why, sizeof(why));
	fail(error, FAULT_TLS, 0, "%s port %d: %s", url->host, url->port, why);
}

static void fail_late(struct broker_error *error, const struct url *url)
{
	fail(error, FAULT_TIMEOUT, 0, "no answer from %s port %d in time", url->host, url->port);
}

static void fail_connect(struct broker_error *error, int status, const struct url *url)
{
	switch (status) {
	case AMQP_STATUS_HOSTNAME_RESOLUTION_FAILED:
		fail(error, FAULT_DNS, 0, "host name %s has no address", url->host);
		break;
	case AMQP_STATUS_TIMEOUT:
		fail_late(error, url);
		break;
	case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
		fail(error, FAULT_TLS, 0, "the certificate is not for host name %s", url->host);
		break;
	case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
	case AMQP_STATUS_SSL_CONNECTION_FAILED:
	case AMQP_STATUS_SSL_ERROR:
		fail_tls(error, url);
		break;
	default:
		/* The library keeps the system's word for what went wrong to itself; what errno
		 * says is it, unless it is only that the attempt had begun. */
		fail(error, FAULT_CONNECT, 0, "%s port %d: %s", url->host, url->port,
		    status != AMQP_STATUS_SOCKET_ERROR ? amqp_error_string2(status)
		    : errno && errno != EINPROGRESS    ? strerror(errno)
						       : "nobody accepts a connection there");
	}
}

/* The library itself tries one address after the other, and the first may use up all the time. */
static bool open_plain(
    struct broker *broker, const struct url *url, int64_t deadline, struct broker_error *error)
{
	int fd;
	amqp_socket_t *socket = amqp_tcp_socket_new(broker->amqp);
	if (!socket) {
		fail(error, FAULT_MEMORY, 0, "out of memory");
		return false;
	}
	switch (dial(url->host, url->port, deadline, &fd)) {
	case DIALLED:
		amqp_tcp_socket_set_sockfd(socket, fd);
		return true;
	case DIAL_NO_NAME:
		fail(error, FAULT_DNS, 0, "host name %s has no address", url->host);
		break;
	case DIAL_LATE:
		fail_late(error, url);
		break;
	case DIAL_REFUSED:
		fail(error, FAULT_CONNECT, 0, "%s port %d: %s", url->host, url->port,
		    strerror(errno));
		break;
	}
	return false;
}

static bool open_tls(struct broker *broker, const struct conf_broker *conf, const struct url *url,
    int64_t deadline, struct broker_error *error)
{
	amqp_socket_t *socket = amqp_ssl_socket_new(broker->amqp);
	if (!socket) {
		fail(error, FAULT_MEMORY, 0, "out of memory");
		return false;
	}
	if (!set_up_tls(socket, &conf->tls, url, error))
		return false;
	struct timeval left = to_timeval(deadline - clock_mono_ns());
	tls_begin();
	errno = 0;
	int status = amqp_socket_open_noblock(socket, url->host, url->port, &left);
	if (status != AMQP_STATUS_OK)
		fail_connect(error, status, url);
	return status == AMQP_STATUS_OK;
}

static bool open_socket(struct broker *broker, const struct conf_broker *conf,
    const struct url *url, int64_t deadline, struct broker_error *error)
{
	broker->tls = url->tls;
	return url->tls ? open_tls(broker, conf, url, deadline, error)
			: open_plain(broker, url, deadline, error);
}

static amqp_table_entry_t entry_bool(const char *key)
{
	return (amqp_table_entry_t){ str_to_amqp(key),
		{ .kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1 } };
}

static amqp_table_entry_t entry_text(const char *key, const char *text)
{
	return (amqp_table_entry_t){ str_to_amqp(key),
		{ .kind = AMQP_FIELD_KIND_UTF8, .value.bytes = str_to_amqp(text) } };
}

static void fail_login(
    struct broker_error *error, const amqp_rpc_reply_t *reply, const struct url *url)
{
	if (reply->reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
	    reply->reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
		amqp_connection_close_t *close = reply->reply.decoded;
		char text[160];
		copy_reason(text, sizeof(text), close->reply_text);
		enum broker_fault fault = FAULT_CLOSED;
		if (close->reply_code == AMQP_ACCESS_REFUSED)
			fault = FAULT_AUTH;
		else if (close->reply_code == AMQP_NOT_ALLOWED)
			fault = FAULT_VHOST;
		fail(error, fault, close->reply_code, "%s", text);
		return;
	}
	int status = reply->library_error;
	if (status == AMQP_STATUS_TIMEOUT)
		fail(error, FAULT_TIMEOUT, 0, "%s port %d accepts, but does not speak AMQP in time",
		    url->host, url->port);
	else if (status == AMQP_STATUS_BROKER_UNSUPPORTED_SASL_METHOD)
		fail(error, FAULT_AUTH, 0,
		    "%s port %d does not offer the way to log in that broker.auth names", url->host,
		    url->port);
	else if (status == AMQP_STATUS_SSL_ERROR)
		fail_tls(error, url);
	else if (status == AMQP_STATUS_CONNECTION_CLOSED || status == AMQP_STATUS_SOCKET_ERROR)
		fail(error, FAULT_PROTOCOL, 0,
		    "%s port %d closed the connection during the AMQP handshake%s", url->host,
		    url->port, url->tls ? "" : " (if it speaks TLS, write amqps://)");
	else
		fail(error, FAULT_PROTOCOL, 0, "AMQP handshake with %s port %d: %s", url->host,
		    url->port,
		    reply->reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
			? amqp_error_string2(status)
			: "unexpected answer");
}

static bool log_in(struct broker *broker, const struct conf_broker *conf, const struct url *url,
    const char *name, int64_t deadline, struct broker_error *error)
{
	amqp_table_entry_t capability[] = {
		entry_bool("consumer_cancel_notify"),
		entry_bool("connection.blocked"),
		entry_bool("basic.nack"),
		entry_bool("publisher_confirms"),
		entry_bool("authentication_failure_close"),
		entry_bool("exchange_exchange_bindings"),
	};
	amqp_table_entry_t property[] = {
		entry_text("product", "warren"),
		entry_text("version", WARREN_VERSION),
		entry_text("connection_name", name),
		{ str_to_amqp("capabilities"),
		    { .kind = AMQP_FIELD_KIND_TABLE,
			.value.table = { ARRAY_LEN(capability), capability } } },
	};
	amqp_table_t properties = { ARRAY_LEN(property), property };

	char why[BROKER_TEXT_MAX];
	char *secret = NULL;
	if (conf->password_file &&
	    !(secret = conf_read_password(conf->password_file, why, sizeof(why)))) {
		fail(error, FAULT_FILE, 0, "%s", why);
		return false;
	}
	struct timeval left = to_timeval(deadline - clock_mono_ns());
	(void)amqp_set_handshake_timeout(broker->amqp, &left);
	int heartbeat = (int)(conf->heartbeat_ns / NS_PER_S);
	amqp_rpc_reply_t reply =
	    conf->auth == AUTH_EXTERNAL
		/* RabbitMQ maps the certificate and ignores the identity, but the library wants
		   one. */
		? amqp_login_with_properties(broker->amqp, url->vhost, 0, FRAME_MAX, heartbeat,
		      &properties, AMQP_SASL_METHOD_EXTERNAL, url->user)
		: amqp_login_with_properties(broker->amqp, url->vhost, 0, FRAME_MAX, heartbeat,
		      &properties, AMQP_SASL_METHOD_PLAIN, url->user,
		      secret ? secret : url->password);
	if (secret) {
		explicit_bzero(secret, strlen(secret));
		free(secret);
	}
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return true;
	fail_login(error, &reply, url);
	return false;
}

/* The server's table of properties says who it is. */
static void read_product(struct broker *broker)
{
	const amqp_table_t *table = amqp_get_server_properties(broker->amqp);
	struct bytes product = { "AMQP server", 11 }, version = { "", 0 };
	for (int i = 0; table && i < table->num_entries; i++) {
		amqp_table_entry_t *e = &table->entries[i];
		if (e->value.kind != AMQP_FIELD_KIND_UTF8)
			continue;
		if (bytes_is(from_amqp(e->key), "product"))
			product = from_amqp(e->value.value.bytes);
		else if (bytes_is(from_amqp(e->key), "version"))
			version = from_amqp(e->value.value.bytes);
	}
	(void)snprintf(broker->product, sizeof(broker->product), "%.*s %.*s", (int)product.len,
	    product.data, (int)version.len, version.data);
	int major = 0, minor = 0;
	char text[32];
	(void)snprintf(text, sizeof(text), "%.*s", (int)version.len, version.data);
	if (sscanf(text, "%d.%d", &major, &minor) == 2 && major > 0 && major < 100 && minor >= 0 &&
	    minor < 100)
		broker->version = major * 100 + minor;
}

/* What the server wants of this connection. */
static bool read_terms(struct broker *broker, struct broker_error *error)
{
	/* 0 = no limit of the server's; channel numbers are 16 bits wide. */
	int max = amqp_get_channel_max(broker->amqp), frame_max = amqp_get_frame_max(broker->amqp);
	broker->channel_max = max > 0 && max < UINT16_MAX ? (unsigned)max : UINT16_MAX;
	read_product(broker);
	if (frame_max >= FRAME_MIN && frame_max <= FRAME_MAX)
		return true;
	fail(error, FAULT_PROTOCOL, 0, "the broker wants frames of %d bytes; AMQP's least is %d",
	    frame_max, FRAME_MIN);
	return false;
}

static struct broker *broker_create(int64_t max_message, struct broker_error *error)
{
	struct broker *broker = calloc(1, sizeof(*broker));
	if (broker)
		broker->scratch = arena_create();
	if (broker && broker->scratch)
		broker->amqp = amqp_new_connection();
	if (!broker || !broker->amqp) {
		fail(error, FAULT_MEMORY, 0, "out of memory");
		if (broker)
			arena_destroy(broker->scratch);
		free(broker);
		return NULL;
	}
	broker->max_message = max_message;
	return broker;
}

struct broker *broker_connect(const struct conf_broker *conf, size_t url_index, const char *name,
    int64_t max_message, struct broker_error *error)
{
	CHECK(url_index < conf->n_urls);
	const struct url *url = &conf->urls[url_index];
	*error = (struct broker_error){ 0 };
	struct broker *broker = broker_create(max_message, error);
	if (!broker)
		return NULL;

	int64_t deadline = clock_mono_ns() + conf->connect_timeout_ns;
	if (!open_socket(broker, conf, url, deadline, error) ||
	    !log_in(broker, conf, url, name, deadline, error) || !read_terms(broker, error)) {
		broker->lost = true;
		broker_destroy(broker, 0);
		return NULL;
	}
	/* Bytes that nobody acknowledges end the connection as soon as silence would. */
	set_tcp(broker, TCP_USER_TIMEOUT, (int)(2 * broker_heartbeat_ns(broker) / NS_PER_MS));
	amqp_maybe_release_buffers(broker->amqp);
	return broker;
}

/* ---- messages coming in ---- */

static void assembly_reset(struct assembly *a)
{
	arena_destroy(a->arena);
	msg_free_body(&a->msg);
	if (a->spool >= 0 && a->kind != EV_NONE)
		close(a->spool);
	*a = (struct assembly){ .kind = EV_NONE, .spool = -1 };
}

static struct bytes keep(struct arena *arena, amqp_bytes_t b, bool *ok)
{
	char *copy = arena_dup(arena, b.bytes, b.len);
	if (!copy)
		*ok = false;
	return (struct bytes){ copy, copy ? b.len : 0 };
}

/* Walks a decoded table; what it finds wrong ends up in `flaw`. The depth is bounded, so is the
 * recursion. */
struct walk {
	struct arena *arena;
	enum msg_flaw flaw;
	size_t fields, size;
	bool no_memory;
};

static bool take_table(struct walk *walk, const amqp_table_t *in, struct table *out, int depth);
static bool take_value(
    struct walk *walk, const amqp_field_value_t *in, struct value *out, int depth);

static bool flawed(struct walk *walk, enum msg_flaw flaw)
{
	walk->flaw = flaw;
	return false;
}

static bool take_bytes(struct walk *walk, amqp_bytes_t in, struct bytes *out)
{
	bool ok = true;
	walk->size += in.len;
	if (walk->size > MSG_HEADERS_MAX + MSG_HEADERS_ROOM)
		return flawed(walk, MSG_HEADERS_LARGE);
	*out = keep(walk->arena, in, &ok);
	walk->no_memory = walk->no_memory || !ok;
	return ok;
}

/* Counted before anything is allocated for them. */
static bool fields_fit(struct walk *walk, int n)
{
	walk->fields += (size_t)n;
	return walk->fields <= FIELDS_MAX || flawed(walk, MSG_HEADERS_LARGE);
}

static bool take_array(struct walk *walk, const amqp_array_t *in, struct value *out, int depth)
{
	out->kind = VALUE_ARRAY;
	out->array.n = 0;
	if (!fields_fit(walk, in->num_entries))
		return false;
	out->array.items = arena_zalloc(walk->arena, (size_t)in->num_entries, sizeof(struct value));
	if (!out->array.items) {
		walk->no_memory = true;
		return false;
	}
	for (int i = 0; i < in->num_entries; i++, out->array.n++)
		if (!take_value(walk, &in->entries[i], &out->array.items[i], depth))
			return false;
	return true;
}

static void take_signed(struct value *out, int64_t n, uint8_t width)
{
	*out = (struct value){ .kind = VALUE_INT, .width = width, .integer = n };
}

static void take_unsigned(struct value *out, uint64_t n, uint8_t width)
{
	*out = (struct value){ .kind = VALUE_UINT, .width = width, .natural = n };
}

static bool take_value(
    struct walk *walk, const amqp_field_value_t *in, struct value *out, int depth)
{
	*out = (struct value){ .kind = VALUE_VOID };
	walk->size += 9;
	if (depth > MSG_DEPTH_MAX)
		return flawed(walk, MSG_HEADERS_DEEP);
	if (walk->size > MSG_HEADERS_MAX + MSG_HEADERS_ROOM)
		return flawed(walk, MSG_HEADERS_LARGE);
	switch (in->kind) {
	case AMQP_FIELD_KIND_VOID:
		return true;
	case AMQP_FIELD_KIND_BOOLEAN:
		*out = V_BOOL(in->value.boolean != 0);
		return true;
	case AMQP_FIELD_KIND_I8:
		take_signed(out, in->value.i8, 1);
		return true;
	case AMQP_FIELD_KIND_I16:
		take_signed(out, in->value.i16, 2);
		return true;
	case AMQP_FIELD_KIND_I32:
		take_signed(out, in->value.i32, 4);
		return true;
	case AMQP_FIELD_KIND_I64:
		take_signed(out, in->value.i64, 8);
		return true;
	case AMQP_FIELD_KIND_U8:
		take_unsigned(out, in->value.u8, 1);
		return true;
	case AMQP_FIELD_KIND_U16:
		take_unsigned(out, in->value.u16, 2);
		return true;
	case AMQP_FIELD_KIND_U32:
		take_unsigned(out, in->value.u32, 4);
		return true;
	case AMQP_FIELD_KIND_U64:
		take_unsigned(out, in->value.u64, 8);
		return true;
	case AMQP_FIELD_KIND_F32:
		*out = (struct value){
			.kind = VALUE_DOUBLE, .width = 4, .real = (double)in->value.f32
		};
		return true;
	case AMQP_FIELD_KIND_F64:
		*out = (struct value){ .kind = VALUE_DOUBLE, .width = 8, .real = in->value.f64 };
		return true;
	case AMQP_FIELD_KIND_DECIMAL:
		*out = (struct value){ .kind = VALUE_DECIMAL,
			.scale = in->value.decimal.decimals,
			.natural = in->value.decimal.value };
		return true;
	case AMQP_FIELD_KIND_TIMESTAMP:
		*out = (struct value){ .kind = VALUE_TIMESTAMP, .natural = in->value.u64 };
		return true;
	case AMQP_FIELD_KIND_UTF8:
		out->kind = VALUE_STRING;
		return take_bytes(walk, in->value.bytes, &out->bytes);
	case AMQP_FIELD_KIND_BYTES:
		out->kind = VALUE_BYTES;
		return take_bytes(walk, in->value.bytes, &out->bytes);
	case AMQP_FIELD_KIND_ARRAY:
		return take_array(walk, &in->value.array, out, depth + 1);
	case AMQP_FIELD_KIND_TABLE:
		out->kind = VALUE_TABLE;
		return take_table(walk, &in->value.table, &out->table, depth + 1);
	default:
		return flawed(walk, MSG_HEADERS_BROKEN);
	}
}

static bool take_table(struct walk *walk, const amqp_table_t *in, struct table *out, int depth)
{
	out->n = 0;
	if (!fields_fit(walk, in->num_entries))
		return false;
	out->fields = arena_zalloc(walk->arena, (size_t)in->num_entries, sizeof(struct field));
	if (!out->fields) {
		walk->no_memory = true;
		return false;
	}
	for (int i = 0; i < in->num_entries; i++, out->n++) {
		const amqp_table_entry_t *e = &in->entries[i];
		if (e->key.len == 0)
			return flawed(walk, MSG_HEADERS_BROKEN);
		if (!take_bytes(walk, e->key, &out->fields[i].key) ||
		    !take_value(walk, &e->value, &out->fields[i].value, depth))
			return false;
	}
	return true;
}

/* What the publisher is answerable for: a message must not grow over the limit by being retried. */
static size_t size_of_own(const struct table *table)
{
	size_t size = 0;
	for (size_t i = 0; i < table->n; i++) {
		const struct table one = { &table->fields[i], 1 };
		if (!copy_drops_header(one.fields[0].key))
			size += copy_table_size(&one);
	}
	return size;
}

/* Where the headers cannot be kept, the message goes on without them, marked. */
static bool take_headers(struct arena *arena, const amqp_table_t *in, struct msg *msg)
{
	struct walk walk = { .arena = arena, .flaw = MSG_SOUND };
	struct table table;
	if (take_table(&walk, in, &table, 1) &&
	    (size_of_own(&table) <= MSG_HEADERS_MAX || flawed(&walk, MSG_HEADERS_LARGE))) {
		msg->props.headers = table;
		msg->props.present |= PROP_HEADERS;
		return true;
	}
	msg->flaw = walk.flaw;
	return !walk.no_memory;
}

/* Our bits and the library's for the text properties, and where each stands. */
static const struct text_prop {
	uint32_t ours;
	amqp_flags_t theirs;
	size_t our_offset, their_offset;
} text_props[] = {
#define TEXT_PROP(NAME, name)                                                                      \
	{                                                                                          \
		PROP_##NAME, AMQP_BASIC_##NAME##_FLAG, offsetof(struct props, name),               \
		    offsetof(amqp_basic_properties_t, name)                                        \
	}
	TEXT_PROP(CONTENT_TYPE, content_type),
	TEXT_PROP(CONTENT_ENCODING, content_encoding),
	TEXT_PROP(CORRELATION_ID, correlation_id),
	TEXT_PROP(REPLY_TO, reply_to),
	TEXT_PROP(EXPIRATION, expiration),
	TEXT_PROP(MESSAGE_ID, message_id),
	TEXT_PROP(TYPE, type),
	TEXT_PROP(USER_ID, user_id),
	TEXT_PROP(APP_ID, app_id),
	TEXT_PROP(CLUSTER_ID, cluster_id),
#undef TEXT_PROP
};

static bool take_properties(struct arena *arena, const amqp_basic_properties_t *in, struct msg *msg)
{
	bool ok = true;
	struct props *out = &msg->props;
	for (size_t i = 0; i < ARRAY_LEN(text_props); i++) {
		const struct text_prop *p = &text_props[i];
		if (!(in->_flags & p->theirs))
			continue;
		amqp_bytes_t theirs;
		memcpy(&theirs, (const char *)in + p->their_offset, sizeof(theirs));
		struct bytes ours = keep(arena, theirs, &ok);
		memcpy((char *)out + p->our_offset, &ours, sizeof(ours));
		out->present |= p->ours;
	}
	if (in->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG) {
		out->delivery_mode = in->delivery_mode;
		out->present |= PROP_DELIVERY_MODE;
	}
	if (in->_flags & AMQP_BASIC_PRIORITY_FLAG) {
		out->priority = in->priority;
		out->present |= PROP_PRIORITY;
	}
	if (in->_flags & AMQP_BASIC_TIMESTAMP_FLAG) {
		out->timestamp = in->timestamp;
		out->present |= PROP_TIMESTAMP;
	}
	if (in->_flags & AMQP_BASIC_HEADERS_FLAG)
		ok = take_headers(arena, &in->headers, msg) && ok;
	return ok;
}

/* A file that nobody else can see: without a name from the start where the file system can do that.
 */
static int open_spool(void)
{
	const char *dir = getenv("TMPDIR");
	if (!dir || !*dir)
		dir = "/tmp";
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
		return fd;
	char name[4096];
	if ((size_t)snprintf(name, sizeof(name), "%s/warren-XXXXXX", dir) >= sizeof(name))
		return -1;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		(void)unlink(name);
	return fd;
}

/*
 * A large one has a mapping of its own, which is given back whole: malloc learns from large blocks
 * to keep such for the next time, in the arena of every thread.
 */
static bool allocate_body(struct msg *msg, size_t size)
{
	if (size <= HEAP_BODY) {
		msg->body_alloc = malloc(size);
		return msg->body_alloc;
	}
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return false;
	msg->body_alloc = map;
	msg->body_map_len = size;
	return true;
}

/* The room for a body: memory, or a file where it is over the limit. */
static bool make_room(struct broker *broker, struct assembly *a)
{
	if (a->kind == EV_RETURNED || a->body_size == 0)
		return true; /* nobody wants the body of what came back: we sent it */
	if (a->body_size <= (uint64_t)broker->max_message) {
		return allocate_body(&a->msg, (size_t)a->body_size);
	}
	a->spool = open_spool();
	a->msg.flaw = a->spool < 0 ? MSG_UNSTORED : MSG_TOO_LARGE;
	return true;
}

static bool start_message(struct broker *broker, struct channel *ch, enum event_kind kind,
    amqp_bytes_t exchange, amqp_bytes_t key)
{
	struct assembly *a = &ch->assembly;
	if (a->kind != EV_NONE) {
		lose(broker, FAULT_PROTOCOL, 0,
		    "a message began before the one before it was complete");
		return false;
	}
	bool ok = true;
	a->kind = kind;
	a->spool = -1;
	a->arena = arena_create();
	if (a->arena) {
		a->msg.exchange = keep(a->arena, exchange, &ok);
		a->msg.routing_key = keep(a->arena, key, &ok);
	}
	if (!a->arena || !ok) {
		lose(broker, FAULT_MEMORY, 0, "out of memory while a message came in");
		return false;
	}
	return true;
}

static void store_body(struct assembly *a, const char *data, size_t len)
{
	if (a->msg.body_alloc) {
		memcpy((char *)a->msg.body_alloc + a->got, data, len);
		return;
	}
	for (size_t done = 0; a->spool >= 0 && done < len;) {
		ssize_t n = pwrite(a->spool, data + done, len - done, (off_t)(a->got + done));
		if (n > 0) {
			done += (size_t)n;
		} else if (n == 0 || errno != EINTR) {
			close(a->spool);
			a->spool = -1;
			a->msg.flaw = MSG_UNSTORED;
		}
	}
}

static void map_spool(struct assembly *a)
{
	void *map = mmap(NULL, (size_t)a->body_size, PROT_READ, MAP_PRIVATE, a->spool, 0);
	close(a->spool);
	a->spool = -1;
	if (map == MAP_FAILED) {
		a->msg.flaw = MSG_UNSTORED;
		return;
	}
	a->msg.body_alloc = map;
	a->msg.body_map_len = (size_t)a->body_size;
}

/* Hands a complete message over; true when it was complete. */
static bool finish_message(struct channel *ch, struct event *event)
{
	struct assembly *a = &ch->assembly;
	if (!a->has_header || a->got < a->body_size)
		return false;
	if (a->spool >= 0)
		map_spool(a);
	if (a->msg.body_alloc)
		a->msg.body = (struct bytes){ a->msg.body_alloc, (size_t)a->body_size };
	event->kind = a->kind;
	event->tag = a->tag;
	event->messages = a->messages;
	event->code = a->code;
	memcpy(event->text, a->text, sizeof(event->text));
	event->arena = a->arena;
	event->msg = a->msg;
	*a = (struct assembly){ .kind = EV_NONE, .spool = -1 };
	return true;
}

static void read_header(
    struct broker *broker, struct channel *ch, const amqp_frame_t *frame, struct event *event)
{
	struct assembly *a = &ch->assembly;
	if (a->kind == EV_NONE || a->has_header ||
	    frame->payload.properties.class_id != AMQP_BASIC_CLASS) {
		lose(broker, FAULT_PROTOCOL, 0, "a content header came where none belongs");
		return;
	}
	a->has_header = true;
	a->body_size = frame->payload.properties.body_size;
	if (a->body_size > (uint64_t)INT64_MAX / 2) {
		lose(broker, FAULT_PROTOCOL, 0, "a body of impossible size was announced");
		return;
	}
	if (!take_properties(a->arena, frame->payload.properties.decoded, &a->msg) ||
	    !make_room(broker, a)) {
		lose(broker, FAULT_MEMORY, 0, "out of memory while a message came in");
		return;
	}
	(void)finish_message(ch, event);
}

static void read_body(
    struct broker *broker, struct channel *ch, const amqp_frame_t *frame, struct event *event)
{
	struct assembly *a = &ch->assembly;
	amqp_bytes_t part = frame->payload.body_fragment;
	if (a->kind == EV_NONE || !a->has_header || part.len > a->body_size - a->got) {
		lose(broker, FAULT_PROTOCOL, 0, "a body frame came where none belongs");
		return;
	}
	store_body(a, part.bytes, part.len);
	a->got += part.len;
	(void)finish_message(ch, event);
}

/* ---- frames to events ---- */

static struct channel *find_channel(struct broker *broker, unsigned number)
{
	if (number == 0 || number > broker->n_channels)
		return NULL;
	return &broker->channels[number - 1];
}

static void free_channel(struct channel *ch)
{
	assembly_reset(&ch->assembly);
	*ch = (struct channel){ .state = CHANNEL_FREE, .assembly = ch->assembly };
}

/* True for an answer that was asked for; one that was not would lead those astray who wait for
 * others. */
static bool was_asked(struct broker *broker, struct channel *ch, enum event_kind kind)
{
	if (ch->awaited[kind] == 0) {
		lose(broker, FAULT_PROTOCOL, 0, "an answer came that nobody had asked for");
		return false;
	}
	ch->awaited[kind]--;
	return true;
}

static bool is_consumer(struct broker *broker, const struct channel *ch, amqp_bytes_t tag)
{
	if (ch->consumer[0] && bytes_is(from_amqp(tag), ch->consumer))
		return true;
	lose(broker, FAULT_PROTOCOL, 0, "a delivery came for a consumer that is not ours");
	return false;
}

/* A confirm, of either kind. */
static void read_confirm(struct broker *broker, const struct channel *ch, enum event_kind kind,
    uint64_t tag, bool multiple, struct event *event)
{
	if (tag > ch->published) {
		lose(broker, FAULT_PROTOCOL, 0, "a confirm came for what was never published");
		return;
	}
	event->kind = kind;
	event->tag = tag;
	event->multiple = multiple;
}

/* Answered at once: unanswered, the broker repeats it and goes on counting. */
static void read_channel_close(struct broker *broker, unsigned number, struct channel *ch,
    const amqp_channel_close_t *close, struct event *event)
{
	enum channel_state was = ch->state;
	if (was == CHANNEL_FREE || was == CHANNEL_OPENING)
		return; /* a stale copy of one that was answered before */
	amqp_channel_close_ok_t ok = { 0 };
	if (!send_method(broker, number, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok))
		return;
	if (was == CHANNEL_CLOSING)
		return; /* both sides closed; our own close-ok is still to come */
	free_channel(ch);
	event->kind = EV_CLOSED_BY_BROKER;
	event->code = close->reply_code;
	copy_reason(event->text, sizeof(event->text), close->reply_text);
}

/* For what RabbitMQ says at length, but without a word of what to do here. */
static const char *remedy(const char *text)
{
	if (!strstr(text, "transient_nonexcl_queues"))
		return text;
	return "the broker refuses queues that are neither durable nor exclusive: make it durable, "
	       "or permit them there (deprecated_features.permit.transient_nonexcl_queues = true)";
}

static void read_connection_method(
    struct broker *broker, const amqp_method_t *method, struct event *event)
{
	if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
		const amqp_connection_close_t *close = method->decoded;
		amqp_connection_close_ok_t ok = { 0 };
		char text[BROKER_TEXT_MAX];
		copy_reason(text, sizeof(text), close->reply_text);
		(void)send_method(broker, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
		lose(broker, FAULT_CLOSED, close->reply_code, remedy(text));
	} else if (method->id == AMQP_CONNECTION_CLOSE_OK_METHOD) {
		lose(broker, FAULT_LOST, 0, "closed by us");
	} else if (method->id == AMQP_CONNECTION_BLOCKED_METHOD) {
		const amqp_connection_blocked_t *blocked = method->decoded;
		event->kind = EV_BLOCKED;
		copy_text(event->text, sizeof(event->text), blocked->reason);
	} else if (method->id == AMQP_CONNECTION_UNBLOCKED_METHOD) {
		event->kind = EV_UNBLOCKED;
	}
}

static void read_basic_method(
    struct broker *broker, struct channel *ch, const amqp_method_t *method, struct event *event)
{
	struct assembly *a = &ch->assembly;
	switch (method->id) {
	case AMQP_BASIC_DELIVER_METHOD: {
		const amqp_basic_deliver_t *m = method->decoded;
		if (is_consumer(broker, ch, m->consumer_tag) &&
		    start_message(broker, ch, EV_DELIVERY, m->exchange, m->routing_key)) {
			a->tag = m->delivery_tag;
			a->msg.redelivered = m->redelivered != 0;
		}
		break;
	}
	case AMQP_BASIC_GET_OK_METHOD: {
		const amqp_basic_get_ok_t *m = method->decoded;
		if (was_asked(broker, ch, EV_GET_EMPTY) &&
		    start_message(broker, ch, EV_GOT, m->exchange, m->routing_key)) {
			a->tag = m->delivery_tag;
			a->messages = m->message_count;
			a->msg.redelivered = m->redelivered != 0;
		}
		break;
	}
	case AMQP_BASIC_RETURN_METHOD: {
		const amqp_basic_return_t *m = method->decoded;
		if (start_message(broker, ch, EV_RETURNED, m->exchange, m->routing_key)) {
			a->code = m->reply_code;
			copy_text(a->text, sizeof(a->text), m->reply_text);
		}
		break;
	}
	case AMQP_BASIC_ACK_METHOD: {
		const amqp_basic_ack_t *m = method->decoded;
		read_confirm(broker, ch, EV_CONFIRMED, m->delivery_tag, m->multiple != 0, event);
		break;
	}
	case AMQP_BASIC_NACK_METHOD: {
		const amqp_basic_nack_t *m = method->decoded;
		read_confirm(broker, ch, EV_REFUSED, m->delivery_tag, m->multiple != 0, event);
		break;
	}
	case AMQP_BASIC_CONSUME_OK_METHOD: {
		const amqp_basic_consume_ok_t *m = method->decoded;
		copy_text(event->name, sizeof(event->name), m->consumer_tag);
		memcpy(ch->consumer, event->name, sizeof(ch->consumer));
		break;
	}
	case AMQP_BASIC_CANCEL_METHOD: {
		const amqp_basic_cancel_t *m = method->decoded;
		event->kind = EV_CANCELLED;
		copy_text(event->name, sizeof(event->name), m->consumer_tag);
		break;
	}
	default:
		break;
	}
}

/* What a method says when it answers one of ours. */
static enum event_kind answer_of(amqp_method_number_t id)
{
	switch (id) {
	case AMQP_BASIC_QOS_OK_METHOD:
		return EV_QOS_OK;
	case AMQP_BASIC_CONSUME_OK_METHOD:
		return EV_CONSUMING;
	case AMQP_BASIC_CANCEL_OK_METHOD:
		return EV_CANCEL_OK;
	case AMQP_BASIC_GET_EMPTY_METHOD:
		return EV_GET_EMPTY;
	case AMQP_CONFIRM_SELECT_OK_METHOD:
		return EV_CONFIRMING;
	case AMQP_EXCHANGE_DECLARE_OK_METHOD:
		return EV_EXCHANGE_OK;
	case AMQP_QUEUE_DECLARE_OK_METHOD:
		return EV_QUEUE_OK;
	case AMQP_QUEUE_BIND_OK_METHOD:
	case AMQP_EXCHANGE_BIND_OK_METHOD:
	case AMQP_QUEUE_UNBIND_OK_METHOD:
	case AMQP_EXCHANGE_UNBIND_OK_METHOD:
		return EV_BIND_OK;
	case AMQP_CHANNEL_OPEN_OK_METHOD:
	case AMQP_CHANNEL_CLOSE_OK_METHOD:
		return EV_OPENED; /* none is awaited on a channel that is open */
	default:
		return EV_NONE;
	}
}

static void read_channel_method(
    struct broker *broker, unsigned number, const amqp_method_t *method, struct event *event)
{
	struct channel *ch = find_channel(broker, number);
	if (!ch) {
		lose(broker, FAULT_PROTOCOL, 0, "a method came on a channel that was never opened");
		return;
	}
	if (method->id == AMQP_CHANNEL_CLOSE_METHOD) {
		read_channel_close(broker, number, ch, method->decoded, event);
		return;
	}
	if (method->id == AMQP_CHANNEL_CLOSE_OK_METHOD && ch->state == CHANNEL_CLOSING) {
		free_channel(ch);
		event->kind = EV_CLOSED;
		return;
	}
	if (method->id == AMQP_CHANNEL_OPEN_OK_METHOD && ch->state == CHANNEL_OPENING) {
		ch->state = CHANNEL_OPEN;
		event->kind = EV_OPENED;
		return;
	}
	if (ch->state != CHANNEL_OPEN)
		return; /* on its way out: void */

	enum event_kind answer = answer_of(method->id);
	if (answer != EV_NONE && !was_asked(broker, ch, answer))
		return;
	event->kind = answer;
	switch (method->id) {
	case AMQP_QUEUE_DECLARE_OK_METHOD: {
		const amqp_queue_declare_ok_t *m = method->decoded;
		event->messages = m->message_count;
		event->consumers = m->consumer_count;
		copy_text(event->name, sizeof(event->name), m->queue);
		break;
	}
	case AMQP_CHANNEL_FLOW_METHOD: {
		amqp_channel_flow_ok_t ok = {
			.active = ((amqp_channel_flow_t *)method->decoded)->active
		};
		(void)send_method(broker, number, AMQP_CHANNEL_FLOW_OK_METHOD, &ok);
		break;
	}
	default:
		read_basic_method(broker, ch, method, event);
	}
}

static void read_frame(struct broker *broker, const amqp_frame_t *frame, struct event *event)
{
	event->channel = frame->channel;
	if (frame->frame_type == AMQP_FRAME_METHOD) {
		if (frame->channel == 0)
			read_connection_method(broker, &frame->payload.method, event);
		else
			read_channel_method(broker, frame->channel, &frame->payload.method, event);
		return;
	}
	if (frame->frame_type != AMQP_FRAME_HEADER && frame->frame_type != AMQP_FRAME_BODY)
		return; /* heartbeats that were queued during a send */

	struct channel *ch = find_channel(broker, frame->channel);
	if (!ch) {
		lose(broker, FAULT_PROTOCOL, 0, "content came on a channel that was never opened");
	} else if (ch->state == CHANNEL_OPEN) {
		if (frame->frame_type == AMQP_FRAME_HEADER)
			read_header(broker, ch, frame, event);
		else
			read_body(broker, ch, frame, event);
	}
}

/*
 * rabbitmq-c 0.14 and newer give up on headers nested deeper than 100 or of unknown kind. The
 * basic.deliver came before them, so we know whose they were.
 */
static void blame_delivery(struct broker *broker, int status)
{
	if (status != AMQP_STATUS_BAD_AMQP_DATA)
		return;
	for (unsigned i = 0; i < broker->n_channels; i++) {
		struct assembly *a = &broker->channels[i].assembly;
		if (a->kind != EV_DELIVERY || a->has_header)
			continue;
		lose(broker, FAULT_UNREADABLE, 0, "the headers of a message cannot be read");
		broker->error.channel = i + 1;
		broker->error.tag = a->tag;
		broker->error.redelivered = a->msg.redelivered;
		return;
	}
}

/* A message is one frame after the other, from its method on. */
static void note_frame(struct broker *broker, const amqp_frame_t *frame, const struct event *event)
{
	const struct channel *ch = find_channel(broker, frame->channel);
	broker->in_message = event->kind == EV_NONE && ch && ch->assembly.kind != EV_NONE;
	broker->in_body = broker->in_message && frame->frame_type == AMQP_FRAME_BODY;
	broker->halfway_ns = 0;
}

/*
 * Nothing more is there at the moment. A peer that sends a byte now and then, or that promised a
 * long frame and sends nothing but heartbeats, is never silent; but what was begun must come to an
 * end.
 */
static void note_pause(struct broker *broker)
{
	int64_t now = clock_mono_ns();
	bool halfway = broker->in_message || !amqp_release_buffers_ok(broker->amqp);
	/* Time in which nobody read, or in which this process stood still, is not the peer's. */
	if (!halfway || broker->halfway_ns == 0 || now - broker->looked_at_ns > LOOKS_NS)
		broker->halfway_ns = halfway ? now : 0;
	broker->looked_at_ns = now;
	if (halfway && now - broker->halfway_ns > HALFWAY_MAX_NS)
		lose(broker, FAULT_TIMEOUT, 0, "a frame or message stood still half-way");
}

void broker_read(struct broker *broker, struct event *event)
{
	*event = (struct event){ .kind = EV_NONE };
	while (!broker->lost && event->kind == EV_NONE) {
		struct timeval now = { 0, 0 };
		amqp_frame_t frame;
		/* What is still on its way is not to be waited for with acks in hand. */
		if (broker->n_acks && (broker->in_body || !broker_read_ahead(broker)) &&
		    !broker_push_acks(broker))
			break;
		int status = amqp_simple_wait_frame_noblock(broker->amqp, &frame, &now);
		if (status == AMQP_STATUS_TIMEOUT) {
			note_pause(broker);
			break;
		}
		if (status != AMQP_STATUS_OK) {
			blame_delivery(broker, status);
			lose_by_status(broker, status);
			break;
		}
		read_frame(broker, &frame, event);
		note_frame(broker, &frame, event);
		amqp_maybe_release_buffers_on_channel(broker->amqp, frame.channel);
	}
	if (broker->lost && event->kind == EV_NONE)
		event->kind = EV_LOST;
}

void event_drop(struct event *event)
{
	msg_free_body(&event->msg);
	arena_destroy(event->arena);
	event->arena = NULL;
}

/* ---- methods going out ---- */

/* A method for a channel that the broker closed meanwhile would cost the whole connection (504). */
static bool is_open(struct broker *broker, unsigned channel)
{
	struct channel *ch = find_channel(broker, channel);
	return ch && ch->state == CHANNEL_OPEN;
}

static bool send_if_open(
    struct broker *broker, unsigned channel, amqp_method_number_t id, void *method)
{
	if (broker->lost)
		return false;
	return !is_open(broker, channel) || send_method(broker, channel, id, method);
}

/* A method that has one answer, an event of that kind. */
static bool ask(struct broker *broker, unsigned channel, amqp_method_number_t id, void *method,
    enum event_kind answer)
{
	if (broker->lost)
		return false;
	if (!is_open(broker, channel))
		return true;
	find_channel(broker, channel)->awaited[answer]++;
	return send_method(broker, channel, id, method);
}

static bool grow_channels(struct broker *broker, unsigned channel)
{
	if (channel <= broker->n_channels)
		return true;
	struct channel *grown = realloc(broker->channels, channel * sizeof(*grown));
	if (!grown)
		return false;
	for (unsigned i = broker->n_channels; i < channel; i++)
		grown[i] = (struct channel){ .state = CHANNEL_FREE,
			.assembly = { .kind = EV_NONE, .spool = -1 } };
	broker->channels = grown;
	broker->n_channels = channel;
	return true;
}

bool broker_open_channel(struct broker *broker, unsigned channel)
{
	CHECK(channel >= 1 && channel <= broker->channel_max);
	if (!grow_channels(broker, channel)) {
		lose(broker, FAULT_MEMORY, 0, "out of memory");
		return false;
	}
	struct channel *ch = find_channel(broker, channel);
	CHECK(ch->state == CHANNEL_FREE);
	amqp_channel_open_t m = { .out_of_band = amqp_empty_bytes };
	if (!send_method(broker, channel, AMQP_CHANNEL_OPEN_METHOD, &m))
		return false;
	ch->state = CHANNEL_OPENING;
	return true;
}

bool broker_close_channel(struct broker *broker, unsigned channel)
{
	struct channel *ch = find_channel(broker, channel);
	CHECK(ch && ch->state == CHANNEL_OPEN);
	amqp_channel_close_t m = { .reply_code = AMQP_REPLY_SUCCESS,
		.reply_text = amqp_empty_bytes };
	if (!send_method(broker, channel, AMQP_CHANNEL_CLOSE_METHOD, &m))
		return false;
	ch->state = CHANNEL_CLOSING;
	assembly_reset(&ch->assembly);
	return true;
}

bool broker_qos(struct broker *broker, unsigned channel, unsigned prefetch)
{
	amqp_basic_qos_t m = { .prefetch_count = (uint16_t)prefetch };
	return ask(broker, channel, AMQP_BASIC_QOS_METHOD, &m, EV_QOS_OK);
}

bool broker_select(struct broker *broker, unsigned channel)
{
	amqp_confirm_select_t m = { 0 };
	return ask(broker, channel, AMQP_CONFIRM_SELECT_METHOD, &m, EV_CONFIRMING);
}

bool broker_ack(struct broker *broker, unsigned channel, uint64_t tag)
{
	amqp_basic_ack_t m = { .delivery_tag = tag };
	return send_if_open(broker, channel, AMQP_BASIC_ACK_METHOD, &m);
}

static uint8_t *put_number(uint8_t *at, uint64_t number, unsigned bytes)
{
	while (bytes-- > 0)
		*at++ = (uint8_t)(number >> 8 * bytes);
	return at;
}

/* AMQP 0-9-1, 4.2.3 to 4.2.5 and basic.ack. */
static void write_ack(uint8_t *at, unsigned channel, uint64_t tag)
{
	at = put_number(at, AMQP_FRAME_METHOD, 1);
	at = put_number(at, channel, 2);
	at = put_number(at, ACK_FRAME - FRAME_OVERHEAD, 4);
	at = put_number(at, AMQP_BASIC_ACK_METHOD, 4);
	at = put_number(at, tag, 8);
	at = put_number(at, 0, 1); /* not multiple */
	(void)put_number(at, AMQP_FRAME_END, 1);
}

/* rabbitmq-c sends each frame by itself; what TLS encrypts, only it can send. */
bool broker_put_off_ack(struct broker *broker, unsigned channel, uint64_t tag)
{
	if (broker->tls || !is_open(broker, channel))
		return broker_ack(broker, channel, tag);
	if (broker->lost || (broker->n_acks == ACKS_MAX && !broker_push_acks(broker)))
		return false;
	write_ack(broker->acks + broker->n_acks++ * ACK_FRAME, channel, tag);
	return true;
}

bool broker_nack(struct broker *broker, unsigned channel, uint64_t tag)
{
	amqp_basic_nack_t m = { .delivery_tag = tag, .requeue = 1 };
	return send_if_open(broker, channel, AMQP_BASIC_NACK_METHOD, &m);
}

bool broker_nack_all(struct broker *broker, unsigned channel)
{
	amqp_basic_nack_t m = { .delivery_tag = 0, .multiple = 1, .requeue = 1 };
	return send_if_open(broker, channel, AMQP_BASIC_NACK_METHOD, &m);
}

/*
 * Closing a socket with unread data resets the connection, and a reset may overtake what was sent
 * last. So the peer is told that nothing more comes, and what it still sends is thrown away until
 * it has read all and hangs up itself.
 */
static void let_it_arrive(int fd)
{
	int64_t deadline_ns = clock_mono_ns() + ARRIVAL_NS;
	char rest[16384];
	if (shutdown(fd, SHUT_WR) != 0)
		return;
	for (;;) {
		struct pollfd readable = { .fd = fd, .events = POLLIN };
		if (poll(&readable, 1, clock_until_ms(deadline_ns, 1000)) <= 0)
			return;
		ssize_t n = recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN) ||
		    clock_mono_ns() >= deadline_ns)
			return;
	}
}

bool broker_reject(struct broker *broker, unsigned channel, uint64_t tag)
{
	/* Also the last word on a connection that can no longer be read. */
	if (broker->lost && broker->error.fault == FAULT_UNREADABLE) {
		if (!broker_push_acks(broker) ||
		    amqp_basic_reject(broker->amqp, (amqp_channel_t)channel, tag, 0) !=
			AMQP_STATUS_OK)
			return false;
		let_it_arrive(amqp_get_sockfd(broker->amqp));
		return true;
	}
	amqp_basic_reject_t m = { .delivery_tag = tag };
	return send_if_open(broker, channel, AMQP_BASIC_REJECT_METHOD, &m);
}

bool broker_cancel(struct broker *broker, unsigned channel, const char *consumer_tag)
{
	amqp_basic_cancel_t m = { .consumer_tag = str_to_amqp(consumer_tag) };
	return ask(broker, channel, AMQP_BASIC_CANCEL_METHOD, &m, EV_CANCEL_OK);
}

bool broker_get(struct broker *broker, unsigned channel, const char *queue)
{
	amqp_basic_get_t m = { .queue = str_to_amqp(queue) };
	return ask(broker, channel, AMQP_BASIC_GET_METHOD, &m, EV_GET_EMPTY);
}

bool broker_consume(struct broker *broker, unsigned channel, const struct consume *consume)
{
	amqp_table_entry_t priority = { amqp_cstring_bytes("x-priority"),
		{ .kind = AMQP_FIELD_KIND_I32, .value.i32 = consume->priority } };
	amqp_basic_consume_t m = { .queue = str_to_amqp(consume->queue),
		.consumer_tag = str_to_amqp(consume->consumer_tag),
		.no_ack = consume->no_ack,
		.exclusive = consume->exclusive,
		.arguments = { consume->priority ? 1 : 0, &priority } };
	if (is_open(broker, channel))
		copy_text(
		    find_channel(broker, channel)->consumer, BROKER_NAME_MAX + 1, m.consumer_tag);
	return ask(broker, channel, AMQP_BASIC_CONSUME_METHOD, &m, EV_CONSUMING);
}

bool broker_consume_in_vain(struct broker *broker, unsigned channel, const char *queue)
{
	amqp_table_entry_t priority = entry_text("x-priority", "none");
	amqp_basic_consume_t m = { .queue = str_to_amqp(queue), .arguments = { 1, &priority } };
	return ask(broker, channel, AMQP_BASIC_CONSUME_METHOD, &m, EV_CONSUMING);
}

bool broker_heartbeat(struct broker *broker)
{
	amqp_frame_t frame = { .frame_type = AMQP_FRAME_HEARTBEAT, .channel = 0 };
	return !broker->lost && broker_push_acks(broker) &&
	       sent(broker, amqp_send_frame(broker->amqp, &frame));
}

bool broker_writable(const struct broker *broker)
{
	struct pollfd p = { .fd = broker_fd(broker), .events = POLLOUT };
	return !broker->lost && poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

/* ---- tables going out ---- */

static bool give_table(struct arena *arena, const struct table *in, amqp_table_t *out);

static bool give_value(struct arena *arena, const struct value *in, amqp_field_value_t *out)
{
	*out = (amqp_field_value_t){ .kind = AMQP_FIELD_KIND_VOID };
	switch ((enum value_kind)in->kind) {
	case VALUE_VOID:
		break;
	case VALUE_BOOL:
		out->kind = AMQP_FIELD_KIND_BOOLEAN;
		out->value.boolean = in->boolean;
		break;
	case VALUE_INT:
		if (in->width == 1) {
			out->kind = AMQP_FIELD_KIND_I8;
			out->value.i8 = (int8_t)in->integer;
		} else if (in->width == 2) {
			out->kind = AMQP_FIELD_KIND_I16;
			out->value.i16 = (int16_t)in->integer;
		} else if (in->width == 4) {
			out->kind = AMQP_FIELD_KIND_I32;
			out->value.i32 = (int32_t)in->integer;
		} else {
			out->kind = AMQP_FIELD_KIND_I64;
			out->value.i64 = in->integer;
		}
		break;
	case VALUE_UINT:
		if (in->width == 1) {
			out->kind = AMQP_FIELD_KIND_U8;
			out->value.u8 = (uint8_t)in->natural;
		} else if (in->width == 2) {
			out->kind = AMQP_FIELD_KIND_U16;
			out->value.u16 = (uint16_t)in->natural;
		} else if (in->width == 4) {
			out->kind = AMQP_FIELD_KIND_U32;
			out->value.u32 = (uint32_t)in->natural;
		} else {
			/* RabbitMQ has no unsigned 64 bit kind. */
			out->kind = AMQP_FIELD_KIND_I64;
			out->value.i64 = (int64_t)in->natural;
		}
		break;
	case VALUE_DOUBLE:
		if (in->width == 4) {
			out->kind = AMQP_FIELD_KIND_F32;
			out->value.f32 = (float)in->real;
		} else {
			out->kind = AMQP_FIELD_KIND_F64;
			out->value.f64 = in->real;
		}
		break;
	case VALUE_DECIMAL:
		out->kind = AMQP_FIELD_KIND_DECIMAL;
		out->value.decimal.decimals = in->scale;
		out->value.decimal.value = (uint32_t)in->natural;
		break;
	case VALUE_TIMESTAMP:
		out->kind = AMQP_FIELD_KIND_TIMESTAMP;
		out->value.u64 = in->natural;
		break;
	case VALUE_STRING:
		out->kind = AMQP_FIELD_KIND_UTF8;
		out->value.bytes = to_amqp(in->bytes);
		break;
	case VALUE_BYTES:
		out->kind = AMQP_FIELD_KIND_BYTES;
		out->value.bytes = to_amqp(in->bytes);
		break;
	case VALUE_ARRAY:
		out->kind = AMQP_FIELD_KIND_ARRAY;
		out->value.array.num_entries = (int)in->array.n;
		out->value.array.entries =
		    arena_zalloc(arena, in->array.n, sizeof(*out->value.array.entries));
		if (!out->value.array.entries)
			return false;
		for (size_t i = 0; i < in->array.n; i++)
			if (!give_value(arena, &in->array.items[i], &out->value.array.entries[i]))
				return false;
		break;
	case VALUE_TABLE:
		out->kind = AMQP_FIELD_KIND_TABLE;
		return give_table(arena, &in->table, &out->value.table);
	}
	return true;
}

static bool give_table(struct arena *arena, const struct table *in, amqp_table_t *out)
{
	out->num_entries = (int)in->n;
	out->entries = arena_zalloc(arena, in->n, sizeof(*out->entries));
	if (!out->entries)
		return false;
	for (size_t i = 0; i < in->n; i++) {
		out->entries[i].key = to_amqp(in->fields[i].key);
		if (!give_value(arena, &in->fields[i].value, &out->entries[i].value))
			return false;
	}
	return true;
}

bool broker_declare(struct broker *broker, unsigned channel, const struct step *step)
{
	amqp_table_t arguments;
	arena_reset(broker->scratch);
	if (!give_table(broker->scratch, &step->arguments, &arguments)) {
		lose(broker, FAULT_MEMORY, 0, "out of memory");
		return false;
	}
	switch (step->kind) {
	case STEP_EXCHANGE: {
		amqp_exchange_declare_t m = { .exchange = str_to_amqp(step->name),
			.type = str_to_amqp(step->type),
			.passive = step->passive,
			.durable = step->durable,
			.auto_delete = step->auto_delete,
			.internal = step->internal,
			.arguments = arguments };
		return ask(broker, channel, AMQP_EXCHANGE_DECLARE_METHOD, &m, EV_EXCHANGE_OK);
	}
	case STEP_QUEUE: {
		amqp_queue_declare_t m = { .queue = str_to_amqp(step->name),
			.passive = step->passive,
			.durable = step->durable,
			.exclusive = step->exclusive,
			.auto_delete = step->auto_delete,
			.arguments = arguments };
		return ask(broker, channel, AMQP_QUEUE_DECLARE_METHOD, &m, EV_QUEUE_OK);
	}
	case STEP_BIND: {
		amqp_queue_bind_t m = { .queue = str_to_amqp(step->name),
			.exchange = str_to_amqp(step->source),
			.routing_key = str_to_amqp(step->key),
			.arguments = arguments };
		return ask(broker, channel, AMQP_QUEUE_BIND_METHOD, &m, EV_BIND_OK);
	}
	case STEP_BIND_EXCHANGE: {
		amqp_exchange_bind_t m = { .destination = str_to_amqp(step->name),
			.source = str_to_amqp(step->source),
			.routing_key = str_to_amqp(step->key),
			.arguments = arguments };
		return ask(broker, channel, AMQP_EXCHANGE_BIND_METHOD, &m, EV_BIND_OK);
	}
	}
	return false;
}

bool broker_unbind(struct broker *broker, unsigned channel, const struct step *step)
{
	if (step->kind == STEP_BIND) {
		amqp_queue_unbind_t m = { .queue = str_to_amqp(step->name),
			.exchange = str_to_amqp(step->source),
			.routing_key = str_to_amqp(step->key) };
		return ask(broker, channel, AMQP_QUEUE_UNBIND_METHOD, &m, EV_BIND_OK);
	}
	CHECK(step->kind == STEP_BIND_EXCHANGE);
	amqp_exchange_unbind_t m = { .destination = str_to_amqp(step->name),
		.source = str_to_amqp(step->source),
		.routing_key = str_to_amqp(step->key) };
	return ask(broker, channel, AMQP_EXCHANGE_UNBIND_METHOD, &m, EV_BIND_OK);
}

/* ---- publishing ---- */

static bool too_long(struct bytes b, const char *what, char *why, size_t size)
{
	if (b.len <= BROKER_NAME_MAX)
		return false;
	if (why)
		(void)snprintf(why, size, "%s has %zu bytes; AMQP allows 255", what, b.len);
	return true;
}

static bool fields_can_go(const struct table *table, int depth);

/* By the measure of take_value, so that what could be read can be sent again. */
static bool value_can_go(const struct value *value, int depth)
{
	if (depth > MSG_DEPTH_MAX)
		return false;
	if (value->kind == VALUE_TABLE)
		return fields_can_go(&value->table, depth + 1);
	for (size_t i = 0; value->kind == VALUE_ARRAY && i < value->array.n; i++)
		if (!value_can_go(&value->array.items[i], depth + 1))
			return false;
	return true;
}

static bool fields_can_go(const struct table *table, int depth)
{
	for (size_t i = 0; i < table->n; i++)
		if (table->fields[i].key.len > BROKER_NAME_MAX ||
		    !value_can_go(&table->fields[i].value, depth))
			return false;
	return true;
}

/* Of the content header: class, weight, body size, flags, and what is present. */
static size_t header_size(const struct props *props)
{
	size_t size = 2 + 2 + 8 + 2;
	for (size_t i = 0; i < ARRAY_LEN(text_props); i++) {
		struct bytes b;
		memcpy(&b, (const char *)props + text_props[i].our_offset, sizeof(b));
		if (props->present & text_props[i].ours)
			size += 1 + b.len;
	}
	size += props->present & PROP_DELIVERY_MODE ? 1 : 0;
	size += props->present & PROP_PRIORITY ? 1 : 0;
	size += props->present & PROP_TIMESTAMP ? 8 : 0;
	return size + (props->present & PROP_HEADERS ? copy_table_size(&props->headers) : 0);
}

/* A publish that fails half-way to be encoded poisons the connection, so all of it is checked
 * before. */
static bool can_encode(
    const struct broker *broker, const struct outgoing *out, char *why, size_t size)
{
	static const char *const names[] = { "content_type", "content_encoding", "correlation_id",
		"reply_to", "expiration", "message_id", "type", "user_id", "app_id", "cluster_id" };
	_Static_assert(
	    ARRAY_LEN(names) == ARRAY_LEN(text_props), "one name for each text property");
	if (too_long(out->exchange, "exchange", why, size) ||
	    too_long(out->routing_key, "routing key", why, size))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(text_props); i++) {
		struct bytes b;
		memcpy(&b, (const char *)&out->props + text_props[i].our_offset, sizeof(b));
		if (too_long(b, names[i], why, size))
			return false;
	}
	if (!(out->props.present & PROP_HEADERS))
		return true;
	/* All properties stand in one frame. */
	size_t room = (size_t)amqp_get_frame_max(broker->amqp) - FRAME_OVERHEAD;
	if (header_size(&out->props) > room || !fields_can_go(&out->props.headers, 1)) {
		if (why)
			(void)snprintf(why, size,
			    "headers are too large, too deep or have a key over 255 bytes");
		return false;
	}
	return true;
}

static bool give_properties(
    struct arena *arena, const struct props *in, amqp_basic_properties_t *out)
{
	for (size_t i = 0; i < ARRAY_LEN(text_props); i++) {
		const struct text_prop *p = &text_props[i];
		if (!(in->present & p->ours))
			continue;
		struct bytes ours;
		memcpy(&ours, (const char *)in + p->our_offset, sizeof(ours));
		amqp_bytes_t theirs = to_amqp(ours);
		memcpy((char *)out + p->their_offset, &theirs, sizeof(theirs));
		out->_flags |= p->theirs;
	}
	if (in->present & PROP_DELIVERY_MODE) {
		out->delivery_mode = in->delivery_mode;
		out->_flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
	}
	if (in->present & PROP_PRIORITY) {
		out->priority = in->priority;
		out->_flags |= AMQP_BASIC_PRIORITY_FLAG;
	}
	if (in->present & PROP_TIMESTAMP) {
		out->timestamp = in->timestamp;
		out->_flags |= AMQP_BASIC_TIMESTAMP_FLAG;
	}
	if (in->present & PROP_HEADERS) {
		out->_flags |= AMQP_BASIC_HEADERS_FLAG;
		return give_table(arena, &in->headers, &out->headers);
	}
	return true;
}

enum publish_sent broker_publish(struct broker *broker, unsigned channel,
    const struct outgoing *message, bool mandatory, char *why, size_t why_size)
{
	if (!can_encode(broker, message, why, why_size))
		return SENT_NOTHING;
	if (broker->lost || !is_open(broker, channel) || !broker_push_acks(broker))
		return SENT_LOST;
	amqp_basic_properties_t props = { 0 };
	arena_reset(broker->scratch);
	if (!give_properties(broker->scratch, &message->props, &props)) {
		lose(broker, FAULT_MEMORY, 0, "out of memory");
		return SENT_LOST;
	}
	int status =
	    amqp_basic_publish(broker->amqp, (amqp_channel_t)channel, to_amqp(message->exchange),
		to_amqp(message->routing_key), mandatory, 0, &props, to_amqp(message->body));
	if (!sent(broker, status))
		return SENT_LOST;
	find_channel(broker, channel)->published++;
	/* A body that fills its last frame leaves MSG_MORE set: 200 ms of silence.
	 */
	size_t part = (size_t)amqp_get_frame_max(broker->amqp) - FRAME_OVERHEAD;
	if (message->body.len > 0 && message->body.len % part == 0 && !broker_heartbeat(broker))
		return SENT_LOST;
	return SENT;
}

void broker_hold(struct broker *broker)
{
	set_tcp(broker, TCP_CORK, 1);
}

/* Said again, TCP_NODELAY pushes what waits, also under TCP_CORK (tcp(7)). */
void broker_flush(struct broker *broker)
{
	set_tcp(broker, TCP_NODELAY, 1);
}

void broker_release(struct broker *broker)
{
	set_tcp(broker, TCP_CORK, 0);
}

/* ---- the end ---- */

static void say_goodbye(struct broker *broker, int wait_ms)
{
	amqp_connection_close_t m = { .reply_code = AMQP_REPLY_SUCCESS,
		.reply_text = amqp_cstring_bytes("goodbye") };
	if (!broker_writable(broker) || !send_method(broker, 0, AMQP_CONNECTION_CLOSE_METHOD, &m))
		return;
	int64_t deadline = clock_mono_ns() + wait_ms * NS_PER_MS;
	while (!broker->lost && clock_mono_ns() < deadline) {
		struct event event;
		broker_read(broker, &event);
		event_drop(&event);
		struct pollfd p = { .fd = broker_fd(broker), .events = POLLIN };
		if (event.kind == EV_NONE)
			(void)poll(&p, 1, clock_until_ms(deadline, wait_ms));
	}
}

void broker_destroy(struct broker *broker, int wait_ms)
{
	if (!broker)
		return;
	if (!broker->lost && wait_ms > 0)
		say_goodbye(broker, wait_ms);
	for (unsigned i = 0; i < broker->n_channels; i++)
		assembly_reset(&broker->channels[i].assembly);
	free(broker->channels);
	arena_destroy(broker->scratch);
	(void)amqp_destroy_connection(broker->amqp);
	free(broker);
}
