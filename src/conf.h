/*
 * The configuration: parsed once by the supervisor, checked, then never changed. Floor 1; the only
 * door to libconfig. Every setting stands in options.def.
 */
#ifndef WARREN_CONF_H
#define WARREN_CONF_H

#include "log.h"
#include "msg.h"

enum { CONF_THREADS_MAX = 1024 }; /* of a queue, as options.def has it */

/* One AMQP URL, taken apart by our own parser (url.c). */
struct url {
	bool tls;
	char *host; /* without brackets */
	int port;
	char *user, *password, *vhost;
	char *shown;       /* the URL with the password as ***: the only form that may be printed */
	bool has_password; /* the URL itself named one other than guest:guest */
};

enum conf_auth { AUTH_PLAIN, AUTH_EXTERNAL };
enum conf_declare { DECLARE_ACTIVE, DECLARE_PASSIVE, DECLARE_OFF };
enum conf_queue_type { QUEUE_UNSET, QUEUE_CLASSIC, QUEUE_QUORUM };
enum conf_replies { REPLIES_ANY, REPLIES_DIRECT, REPLIES_NONE };
enum conf_route { ROUTE_TASK, ROUTE_TYPE, ROUTE_ROUTING_KEY, ROUTE_HEADER };

struct conf_tls {
	char *ca_file;              /* NULL: the system's certificate authorities */
	char *cert_file, *key_file; /* NULL, or both */
	char *key_password_file;
	bool verify;   /* default true; false is warned about at every start */
	unsigned line; /* of the group; 0 where there is none */
};

struct conf_broker {
	struct url *urls;
	size_t n_urls;
	char *password_file; /* NULL: the URL's */
	enum conf_auth auth;
	int64_t heartbeat_ns;
	int64_t connect_timeout_ns; /* TCP, TLS and AMQP handshake together */
	int64_t reconnect_max_ns;   /* the longest wait between attempts to connect again */
	int64_t confirm_timeout_ns; /* a publish that is not confirmed by then is published again */
	char *connection_name;      /* NULL: warrend@host */
	struct conf_tls tls;
};

/* An option of a plugin as it stands in the file; its type is known when the plugin is open. */
struct conf_option {
	char *name;
	struct value value; /* BOOL, INT, DOUBLE, STRING or ARRAY of these */
	unsigned line;
};

struct conf_plugin {
	char *file; /* absolute */
	struct conf_option *options;
	size_t n_options;
	unsigned line;
};

struct conf_exchange {
	char *name;
	char *type; /* fanout, direct, topic, headers, or x-... */
	bool durable, auto_delete, internal;
	enum conf_declare declare;
	struct table arguments;
	unsigned line;
};

struct conf_binding {
	char *exchange;
	char **keys; /* at least one */
	size_t n_keys;
	struct table arguments; /* headers exchanges: x-match and what is matched */
	unsigned line;
};

struct conf_retry {
	int attempts; /* runs in all, the first included; 1 = never again */
	int64_t first_ns, max_ns;
	double factor, jitter;
};

struct conf_queue {
	size_t index; /* its place in conf.queues */
	char *name;   /* "" = named by the server */
	char *label;  /* what logs and status call it: the name, or "(exchange)" for a server-named
			 one */
	enum conf_queue_type type;
	bool durable, exclusive, auto_delete;
	struct table arguments;
	struct conf_binding *bindings;
	size_t n_bindings;
	enum conf_declare declare;

	int threads;
	int prefetch;
	int priority; /* consumer priority (x-priority), 0 = not sent */
	bool no_ack;  /* ack = "none" */

	enum conf_route route;
	char *task;         /* ROUTE_TASK */
	char *route_header; /* ROUTE_HEADER */
	char **tasks;       /* patterns that a routed name must match one of; none = any */
	size_t n_tasks;

	struct conf_retry retry;
	int64_t time_limit_ns; /* 0 = none */
	int64_t kill_after_ns;
	int crash_limit;
	char *dead_letter; /* NULL: none (exclusive, server-named, ack = "none", or "") */
	enum conf_queue_type dead_letter_type;
	bool broker_dead_letter;
	enum conf_replies replies;
	unsigned line;
};

struct conf_workers {
	int processes;
	int64_t drain_limit_ns, start_limit_ns;
	int64_t recycle_jobs, recycle_memory; /* 0 = off */
};

struct conf {
	char *path; /* as given, for messages */
	struct conf_broker broker;
	char *plugin_directory;
	struct conf_plugin *plugins;
	size_t n_plugins;
	struct conf_exchange *exchanges;
	size_t n_exchanges;
	struct conf_queue *queues;
	size_t n_queues;
	struct conf_workers workers;
	int64_t max_message;
	enum log_level log_level;
	enum log_format log_format;
	char *control_socket;  /* NULL: none */
	unsigned control_line; /* where the file names it; 0: it does not */
	char *http_address;
	int http_port; /* 0: none */
	unsigned http_line;
	struct arena *arena; /* owns everything above */
};

/* One thing wrong with a configuration. `line` 0: the file as a whole. */
struct conf_error {
	const char *file; /* the caller's path */
	unsigned line;
	char *text;
};

struct conf_errors {
	struct conf_error *list;
	size_t n;
	bool refused; /* permissions: exit 77, not 78 */
	bool
	    shortage; /* memory, descriptors, processes: exit 71. The list may lack an error then */
};

/* True where errno says nothing of the file: memory or descriptors are short. */
bool conf_is_shortage(int why);
/* The exit code that these errors are worth. */
int conf_errors_code(const struct conf_errors *errors);

void conf_errors_add(struct conf_errors *errors, const char *file, unsigned line, const char *fmt,
    ...) PRINTF_LIKE(4, 5);
void conf_errors_free(struct conf_errors *errors);
/* Writes each as `file:line: text` to the stream, escaped, in the order of their lines. */
void conf_errors_print(const struct conf_errors *errors, void *stream);

/*
 * Reads the file into memory after checking owner and mode of it and of every folder above it.
 * Returns malloc'ed text with a terminator, or NULL with the reason in errors.
 */
char *conf_read_file(const char *path, size_t *len, struct conf_errors *errors) MUST_CHECK;

/*
 * Parses and checks. `path` stands in messages, which point to it, and is what relative paths are
 * relative to; no file is touched. NULL with all errors (not the first) when something is wrong.
 * Warnings (things that work but will hurt) go to `warnings`, which may be NULL.
 */
struct conf *conf_parse(const char *path, const char *text, struct conf_errors *errors,
    struct conf_errors *warnings) MUST_CHECK;

/* conf_read_file and conf_parse; a password in the file that others can read, and password files
 * that warren cannot or others can read, are errors, too. */
struct conf *conf_load(
    const char *path, struct conf_errors *errors, struct conf_errors *warnings) MUST_CHECK;

/*
 * conf_load that also hands over the text, malloc'ed, so that a worker process can be given exactly
 * what was checked here. It may hold a password. `text` is untouched when NULL is returned. All of
 * the configuration stands in `arena`, which is freed with it; NULL: one is made.
 */
struct conf *conf_load_text(const char *path, struct arena *arena, char **text, size_t *len,
    struct conf_errors *errors, struct conf_errors *warnings) MUST_CHECK;

void conf_free(struct conf *conf);

/*
 * True when `path`, opened as fd, and every folder above it belong to root or to us and are
 * writable by nobody else (a sticky folder is fine when the entry below belongs to one of the two).
 * Otherwise false with the offending path and mode in `why`. `secret`: it must not be readable by
 * others either.
 */
bool conf_check_path(const char *path, int fd, bool secret, char *why, size_t why_size) MUST_CHECK;

/* The same of a folder by itself: it and all above it. */
bool conf_check_folder(const char *path, char *why, size_t why_size) MUST_CHECK;

/* The password of the broker user: the first line of password_file. malloc'ed; NULL with why. */
char *conf_read_password(const char *path, char *why, size_t why_size) MUST_CHECK;

#endif
