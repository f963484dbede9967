/*
 * <warren/plugin.h>: everything that a plugin of warren needs; C11 or C++20, nothing to link
 *against.
 *
 * THE THREAD RULE: run() is called from several threads at once; `state` is shared, `thread_state`
 * is yours alone, the job is yours until you return. A task with the flag WARREN_SERIAL is never
 *run by two threads at once: the honest way to start.
 *
 * A plugin is a shared object that exports one descriptor with one or more tasks. A task is a
 * function that takes a job (one message in hand of one thread) and returns a verdict; the host
 *does the rest: it acknowledges, retries with back-off, replies, and dead-letters.
 *
 *	#include <warren/plugin.h>
 *
 *	static enum warren_verdict hello(struct warren_job *job)
 *	{
 *		warren_log(job, WARREN_LOG_INFO, "hello from %s", warren_queue(job));
 *		return WARREN_DONE;
 *	}
 *
 *	static const struct warren_task tasks[] = { { .name = "demo.hello", .run = hello }, { 0 } };
 *
 *	WARREN_PLUGIN(hello, .version = "1.0", .summary = "says hello", .tasks = tasks, );
 *
 *	cc -shared -fPIC $(pkg-config --cflags warren) -o hello.so hello.c
 *	echo body | warren plugin run ./hello.so demo.hello
 *
 * Three rules hold everywhere:
 *   - What the host hands out (body, headers, names) is constant and lives until run() returns.
 *   - What a plugin hands in (reply, reason, message) is copied before the call returns.
 *   - A job may be used from one thread at a time. warren_stopping(), warren_time_left_ms(),
 *     warren_progress() and warren_log() alone may be called from several, until run() returns.
 *     A call that comes later is a defect, though for a while it is told so by WARREN_EGONE.
 *
 * What a publisher wrote may hold any byte. Text ends with a NUL that its length does not count;
 *only the length tells whether there are others inside.
 *
 * In C++ designated initialisers stand in the order of the members, and tables end with `{}`. An
 * exception must not leave a function that the host calls: see warren::task at the end.
 *
 * Changes of the ABI, newest first:
 *   1.0  2026-11-23  the first.
 */
#ifndef WARREN_ABI_PLUGIN_H
#define WARREN_ABI_PLUGIN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

/* Our structs are made to be given in part, and they grow: -Wextra would warn of every table. The
 * including file keeps this setting, as its own tables need it. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A host takes plugins of its own major version whose minor version is not newer than its own.
 * Minor versions only append: to the structs below and to the table of host functions.
 */
#define WARREN_ABI_MAJOR 1
#define WARREN_ABI_MINOR 0
#define WARREN_MAGIC 0x6e727277u /* "wrrn" */

#define WARREN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

struct warren_job;  /* one message, one run of one task; opaque */
struct warren_host; /* the host as the plugin as a whole sees it; opaque */

/* ---- What a task says ---- */

/* Any other value, zero among them, is a breach: logged, and the message is dead-lettered. */
enum warren_verdict {
	WARREN_DONE = 1,  /* acknowledge; publish the reply and the follow-ups */
	WARREN_RETRY = 2, /* transient: again later, by the queue's attempts and back-off */
	WARREN_DEAD = 3,  /* permanent: to the dead-letter queue, now */
};

/* Why a task should come to an end; a stronger reason has a higher number. */
enum warren_stop {
	WARREN_STOP_NONE = 0,
	WARREN_STOP_DRAIN = 1,  /* the daemon drains: finish if you can, or return WARREN_RETRY: the
				   message is given back and the run does not count as an attempt */
	WARREN_STOP_CANCEL = 2, /* the operator cancelled this job */
	WARREN_STOP_LIMIT = 3,  /* the time limit has passed */
	WARREN_STOP_LOST = 4, /* the connection is lost: somebody else has the message already, and
				 whatever this run returns, nothing will be published for it */
	WARREN_STOP_NOW = 5,  /* the drain limit is reached: return at once */
};

/* What calls that can fail return: 0, or one of these. Each failure is logged by the host. */
enum warren_error {
	WARREN_OK = 0,
	WARREN_EINVAL = -1, /* NULL with a length, a name over 255 bytes, a malformed header */
	WARREN_ELARGE = -2, /* over WARREN_BODY_MAX or WARREN_HELD_MAX */
	WARREN_ENOMEM = -3,
	WARREN_EGONE =
	    -4, /* the job was given up, or is over; what is still done is of no effect */
};

enum warren_level { WARREN_LOG_ERROR, WARREN_LOG_WARN, WARREN_LOG_INFO, WARREN_LOG_DEBUG };

#define WARREN_NAME_MAX 255                 /* bytes: exchange, routing key, most properties */
#define WARREN_BODY_MAX (16u * 1024 * 1024) /* bytes: one reply or follow-up */
#define WARREN_HELD_MAX (64u * 1024 * 1024) /* bytes: all that one job holds until its verdict */

/* ---- Values: headers and properties, typed ---- */

enum warren_kind {
	WARREN_VOID,
	WARREN_BOOL,      /* boolean */
	WARREN_INT,       /* integer */
	WARREN_UINT,      /* natural */
	WARREN_DOUBLE,    /* real */
	WARREN_DECIMAL,   /* natural, with `scale` of its digits behind the point */
	WARREN_STRING,    /* text, len: should be UTF-8, may be anything */
	WARREN_BYTES,     /* text, len */
	WARREN_TIMESTAMP, /* natural: seconds since the epoch */
	WARREN_ARRAY,     /* items, len: values without names */
	WARREN_TABLE,     /* items, len: values with names */
};

/* Its layout stays as it is for the whole of a major version, so arrays of it can be walked. */
struct warren_value {
	enum warren_kind kind;
	int scale;
	const char *name; /* the header's or property's; NULL for the items of an array */
	union {
		bool boolean;
		int64_t integer;
		uint64_t natural;
		double real;
		const char *text; /* ends with a NUL that `len` does not count */
		const struct warren_value *items;
	};
	size_t len; /* of text: bytes; of items: their number */
};

/* What is known of a message besides its headers and its body. */
enum warren_field {
	/* Of the delivery: always there. */
	WARREN_JOB_ID,      /* STRING: names the job in warren's log */
	WARREN_TASK,        /* STRING */
	WARREN_QUEUE,       /* STRING: where it was taken from */
	WARREN_EXCHANGE,    /* STRING: where it was first published, before any retry */
	WARREN_ROUTING_KEY, /* STRING: the same */
	WARREN_ATTEMPT,     /* INT: which run this is, from 1 */
	WARREN_REDELIVERED, /* BOOL: the broker has delivered it before; it may have been run */

	/* Properties: there where the publisher set them. */
	WARREN_CONTENT_TYPE,     /* STRING */
	WARREN_CONTENT_ENCODING, /* STRING */
	WARREN_DELIVERY_MODE,    /* INT: 2 is persistent */
	WARREN_PRIORITY,         /* INT */
	WARREN_CORRELATION_ID,   /* STRING */
	WARREN_REPLY_TO,         /* STRING: the queue that waits for a reply */
	WARREN_EXPIRATION,       /* STRING: milliseconds */
	WARREN_MESSAGE_ID,       /* STRING */
	WARREN_SENT_AT,          /* TIMESTAMP: AMQP's property `timestamp` */
	WARREN_TYPE,             /* STRING */
	WARREN_USER_ID,          /* STRING: checked by the broker */
	WARREN_APP_ID,           /* STRING */
	WARREN_CLUSTER_ID,       /* STRING */
	WARREN_FIELDS            /* how many there are; not one of them */
};

/* A message that a task publishes; members left out are zero, and zero stands for "not set". */
struct warren_message {
	const char *exchange;    /* NULL or "": the default exchange, which routes by queue name */
	const char *routing_key; /* for the default exchange the name of a queue */
	const void *body;
	size_t body_len;
	const char *type; /* names the task where the queue routes by type */
	const char *content_type, *content_encoding;
	const char *correlation_id, *reply_to, *message_id, *app_id;
	int64_t expiration_ms; /* 0: never */
	uint8_t priority;
	bool transient;                     /* not written to disk; default is persistent */
	const struct warren_value *headers; /* n_headers of them, each with a name */
	size_t n_headers;
};

/* ---- The descriptor ---- */

enum {
	WARREN_SERIAL = 1 << 0, /* the host holds a lock around run(): one thread at a time */
};

/* A table of these ends with one whose name is NULL. */
struct warren_task {
	const char *name; /* [A-Za-z0-9._-], 1 to 255 bytes, unique among all loaded plugins */
	enum warren_verdict (*run)(struct warren_job *job);
	uint32_t flags;         /* WARREN_SERIAL or 0 */
	uint32_t time_limit_ms; /* what the task itself finds too long; the queue's time_limit holds
				   too, and the shorter one wins. 0: the queue's alone */
};

enum warren_option_type {
	WARREN_OPT_STRING = 1,
	WARREN_OPT_BOOL,     /* true, false */
	WARREN_OPT_INT,      /* 64 bits, signed */
	WARREN_OPT_FLOAT,    /* 1.5, or a whole number */
	WARREN_OPT_DURATION, /* "500ms", "10s", "5m", "2h"; read in milliseconds */
	WARREN_OPT_SIZE,     /* "4096", "64KiB", "16MiB"; read in bytes */
	WARREN_OPT_PATH,     /* absolute, or "" for none */
	WARREN_OPT_LIST,     /* strings; whole numbers are taken as their text */
};

/*
 * An option that the configuration may set. The host checks it before open(): an unknown name, a
 * wrong type, a value out of bounds, or nothing for a required one is an error with file and line.
 * A table of these ends with one whose name is NULL.
 */
struct warren_option {
	const char *name;
	enum warren_option_type type;
	const char *fallback; /* the default as text, a list's with commas; NULL: required */
	const char *help;     /* one line */
	const char *min; /* bounds as text, inclusive, of INT, FLOAT, DURATION, SIZE; or NULL */
	const char *max;
};

/*
 * What a plugin exports, by WARREN_PLUGIN, which fills all members before `version`. What is left
 * out is NULL; a plugin needs its tasks alone. The functions are called in the order in which they
 * stand: open, thread_open in each thread, the tasks, thread_close, close.
 */
struct warren_plugin {
	uint32_t magic, size, abi_major, abi_minor, task_size, option_size;
	const char *name;
	const char *version;
	const char *summary; /* one line */
	const struct warren_task *tasks;
	const struct warren_option *options;

	/* Once in each worker process, before any thread. `*state` is NULL and may be set. `host`
	 * stays valid until the process ends. False refuses to start: `return warren_refuse(host,
	 * "cannot open %s", path)`. */
	bool (*open)(struct warren_host *host, void **state);
	/* After all threads have ended, and only if open() succeeded. */
	void (*close)(void *state);

	/* In each worker thread, before its first job: for a database handle, an HTTP client. A
	 * thread may run jobs of every queue. Threads are numbered from 0. `host` stays valid until
	 * the thread ends. False refuses to start. */
	bool (*thread_open)(
	    struct warren_host *host, void *state, unsigned thread, void **thread_state);
	/* In the same thread, after its last job, and only if thread_open() succeeded. */
	void (*thread_close)(void *state, void *thread_state);
};

/*
 * WARREN_PLUGIN(name, .version = ..., .summary = ..., .tasks = ..., ...): defines the descriptor
 * and exports it, also under -fvisibility=hidden. Once in a plugin, outside of any function. With
 * WARREN_PLUGIN_STATIC defined the symbol is warren_plugin_<name> instead of warren_plugin, so that
 * a test can link several plugins in.
 */
/* clang-format off */
#define WARREN_PLUGIN(plugin_name, ...)                                                            \
	WARREN_EXTERN const struct warren_plugin WARREN_SYMBOL(plugin_name);                       \
	const struct warren_plugin WARREN_SYMBOL(plugin_name) = {                                  \
		.magic = WARREN_MAGIC,                                                             \
		.size = sizeof(struct warren_plugin),                                              \
		.abi_major = WARREN_ABI_MAJOR,                                                     \
		.abi_minor = WARREN_ABI_MINOR,                                                     \
		.task_size = sizeof(struct warren_task),                                           \
		.option_size = sizeof(struct warren_option),                                       \
		.name = #plugin_name,                                                              \
		__VA_ARGS__                                                                        \
	}
/* clang-format on */

#ifdef WARREN_PLUGIN_STATIC
#define WARREN_SYMBOL(plugin_name) warren_plugin_##plugin_name
#else
#define WARREN_SYMBOL(plugin_name) warren_plugin
#endif
#ifdef __cplusplus
#define WARREN_EXTERN extern "C" __attribute__((visibility("default")))
#else
#define WARREN_EXTERN extern __attribute__((visibility("default")))
#endif

/*
 * ---- The host's functions ----
 *
 * Every handle begins with a pointer to this table, so that the daemon, a dry run and a unit test
 * can each offer their own. Plugins call it through the functions below, where each is described.
 */
struct warren_api {
	const char *(*body)(const struct warren_job *job, size_t *len);
	const char *(*body_text)(struct warren_job *job);
	const struct warren_value *(*field)(struct warren_job *job, enum warren_field field);
	const struct warren_value *(*headers)(struct warren_job *job, size_t *n);
	const struct warren_value *(*header)(struct warren_job *job, const char *name);
	void *(*alloc)(struct warren_job *job, size_t size);
	void *(*state)(const struct warren_job *job);
	void *(*thread_state)(const struct warren_job *job);
	struct warren_host *(*host)(const struct warren_job *job);
	enum warren_stop (*stopping)(const struct warren_job *job);
	int64_t (*time_left_ms)(const struct warren_job *job);
	enum warren_verdict (*verdict)(
	    struct warren_job *job, enum warren_verdict verdict, const char *fmt, va_list args);
	enum warren_verdict (*retry_after)(struct warren_job *job, int64_t delay_ms);
	enum warren_error (*reply)(
	    struct warren_job *job, const char *content_type, const void *data, size_t len);
	enum warren_error (*publish)(
	    struct warren_job *job, const struct warren_message *message, size_t message_size);
	enum warren_error (*child)(struct warren_job *job, pid_t pgid);
	void (*progress)(struct warren_job *job, int percent);
	void (*log)(
	    const struct warren_job *job, enum warren_level level, const char *fmt, va_list args);

	void (*host_log)(
	    struct warren_host *host, enum warren_level level, const char *fmt, va_list args);
	bool (*refuse)(struct warren_host *host, const char *fmt, va_list args);
	const char *(*option_text)(struct warren_host *host, const char *name);
	bool (*option_bool)(struct warren_host *host, const char *name);
	int64_t (*option_int)(struct warren_host *host, const char *name);
	double (*option_float)(struct warren_host *host, const char *name);
	const char *const *(*option_list)(struct warren_host *host, const char *name, size_t *n);
	/* 1.0 ends here */
};

static inline const struct warren_api *warren_api_of(const void *handle)
{
	return *(const struct warren_api *const *)handle;
}

/* ---- Reading the message ---- */

/* The body: `*len` bytes, never NULL, not terminated. `len` must not be NULL. */
static inline const char *warren_body(const struct warren_job *job, size_t *len)
{
	return warren_api_of(job)->body(job, len);
}

/* The body as a C string, copied into the job's memory at each call. NULL when it holds a NUL byte
 * or memory is short. */
static inline const char *warren_body_text(struct warren_job *job)
{
	return warren_api_of(job)->body_text(job);
}

/* One field of the message, or NULL where the publisher did not set it. `name` is AMQP's name of
 * it. */
static inline const struct warren_value *warren_get(struct warren_job *job, enum warren_field field)
{
	return warren_api_of(job)->field(job, field);
}

/* The text of a STRING field; NULL where it is not set or is no STRING. */
static inline const char *warren_text(struct warren_job *job, enum warren_field field)
{
	const struct warren_value *value = warren_get(job, field);
	return value && value->kind == WARREN_STRING ? value->text : NULL;
}

/* Never NULL, may be "": the default exchange, an empty key. */
static inline const char *warren_exchange(struct warren_job *job)
{
	return warren_text(job, WARREN_EXCHANGE);
}

static inline const char *warren_routing_key(struct warren_job *job)
{
	return warren_text(job, WARREN_ROUTING_KEY);
}

static inline const char *warren_queue(struct warren_job *job)
{
	return warren_text(job, WARREN_QUEUE);
}

/* NULL where the publisher set none. */
static inline const char *warren_content_type(struct warren_job *job)
{
	return warren_text(job, WARREN_CONTENT_TYPE);
}

static inline const char *warren_message_id(struct warren_job *job)
{
	return warren_text(job, WARREN_MESSAGE_ID);
}

static inline const char *warren_correlation_id(struct warren_job *job)
{
	return warren_text(job, WARREN_CORRELATION_ID);
}

/* Which run of this message this is, from 1. Runs that a crash or a drain cut short may not count.
 */
static inline int warren_attempt(struct warren_job *job)
{
	return (int)warren_get(job, WARREN_ATTEMPT)->integer;
}

/* The broker has delivered this message before: parts of the work may have been done. */
static inline bool warren_redelivered(struct warren_job *job)
{
	return warren_get(job, WARREN_REDELIVERED)->boolean;
}

/*
 * All headers, `*n` of them, as the publisher wrote them and warren and the broker added to them.
 * Tables and arrays inside are reached by `items` and `len`; they are nested 16 deep at most. A
 * name stands here up to its first NUL. Never NULL when *n > 0.
 */
static inline const struct warren_value *warren_headers(struct warren_job *job, size_t *n)
{
	return warren_api_of(job)->headers(job, n);
}

/* The header of exactly that name, the first where there are several, or NULL. */
static inline const struct warren_value *warren_header(struct warren_job *job, const char *name)
{
	return warren_api_of(job)->header(job, name);
}

/* The text of a header; NULL where it is missing or of another kind. */
static inline const char *warren_header_text(struct warren_job *job, const char *name)
{
	const struct warren_value *value = warren_header(job, name);
	return value && value->kind == WARREN_STRING ? value->text : NULL;
}

/* A header that is a whole number; `fallback` where it is missing, of another kind or too large. */
static inline int64_t warren_header_int(struct warren_job *job, const char *name, int64_t fallback)
{
	const struct warren_value *value = warren_header(job, name);
	if (value && value->kind == WARREN_INT)
		return value->integer;
	if (value && value->kind == WARREN_UINT && value->natural <= INT64_MAX)
		return (int64_t)value->natural;
	return fallback;
}

/* ---- Working ---- */

/* Memory that the host frees after run(): aligned for any type, not cleared. NULL when memory is
 * short. Size 0 gives a valid pointer. */
static inline void *warren_alloc(struct warren_job *job, size_t size)
{
	return warren_api_of(job)->alloc(job, size);
}

/* What open() set: shared by all threads. */
static inline void *warren_state(const struct warren_job *job)
{
	return warren_api_of(job)->state(job);
}

/* What thread_open() set: this thread's alone. */
static inline void *warren_thread_state(const struct warren_job *job)
{
	return warren_api_of(job)->thread_state(job);
}

/* The host handle, for reading options inside of run(). */
static inline struct warren_host *warren_host_of(const struct warren_job *job)
{
	return warren_api_of(job)->host(job);
}

/* 0, or why the task should come to an end. Cheap: a task that runs for more than a second asks
 * often. No thread is ever cancelled from outside: a task that never looks costs the whole worker
 * process. */
static inline enum warren_stop warren_stopping(const struct warren_job *job)
{
	return warren_api_of(job)->stopping(job);
}

/* Milliseconds until the time limit, 0 when it has passed, INT64_MAX when there is none. */
static inline int64_t warren_time_left_ms(const struct warren_job *job)
{
	return warren_api_of(job)->time_left_ms(job);
}

/* How far the job is, 0 to 100; shown by `warren status`. */
static inline void warren_progress(struct warren_job *job, int percent)
{
	warren_api_of(job)->progress(job, percent);
}

/*
 * Announces that the job runs a child in process group `pgid`, 0 that it has ended. Should the
 * worker die in between, the supervisor ends that group. WARREN_EGONE: the job was given up; end
 * the child.
 */
static inline enum warren_error warren_child(struct warren_job *job, pid_t pgid)
{
	return warren_api_of(job)->child(job, pgid);
}

/* One line in warren's log, which names plugin, task, job and trace by itself. Any byte may be
 * logged: the host escapes. Cut at 256 bytes. */
WARREN_PRINTF(3, 4)
static inline void warren_log(
    const struct warren_job *job, enum warren_level level, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	warren_api_of(job)->log(job, level, fmt, args);
	va_end(args);
}

/* ---- Results ---- */

/*
 * The reply: held until the verdict, sent only with WARREN_DONE, and only where the message asks
 * for one (WARREN_REPLY_TO). The last one counts. `content_type` may be NULL.
 *
 * A reply or follow-up that the host refused is not lost in silence: should the task return
 * WARREN_DONE all the same, the job ends as WARREN_RETRY after WARREN_ENOMEM and as WARREN_DEAD
 * otherwise.
 */
static inline enum warren_error warren_reply(
    struct warren_job *job, const char *content_type, const void *data, size_t len)
{
	return warren_api_of(job)->reply(job, content_type, data, len);
}

/*
 * A follow-up: held until the verdict and published, in the order of the calls, only with
 *WARREN_DONE. The job is done when the broker has confirmed all of them; one that no queue takes is
 *a retry. It belongs to the message's trace (headers `traceparent`, `tracestate`) unless it has a
 *`traceparent` of its own.
 *
 *	warren_publish(job, &(struct warren_message){
 *		.routing_key = "thumbnails", .body = path, .body_len = strlen(path) });
 */
static inline enum warren_error warren_publish(
    struct warren_job *job, const struct warren_message *message)
{
	return warren_api_of(job)->publish(job, message, sizeof(*message));
}

/* Values for the headers of a message. What they point to is copied by warren_publish(). */
static inline struct warren_value warren_string(const char *name, const char *text)
{
	struct warren_value value;
	memset(&value, 0, sizeof(value));
	value.kind = WARREN_STRING;
	value.name = name;
	value.text = text;
	value.len = strlen(text);
	return value;
}

static inline struct warren_value warren_int(const char *name, int64_t number)
{
	struct warren_value value;
	memset(&value, 0, sizeof(value));
	value.kind = WARREN_INT;
	value.name = name;
	value.integer = number;
	return value;
}

/* `return warren_retry(job, "database: %s", error);` The reason stands in log and headers, escaped,
 * cut at 1 KiB. */
WARREN_PRINTF(2, 3)
static inline enum warren_verdict warren_retry(struct warren_job *job, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	warren_api_of(job)->verdict(job, WARREN_RETRY, fmt, args);
	va_end(args);
	return WARREN_RETRY;
}

/* `return warren_dead(job, "no image %s", name);` */
WARREN_PRINTF(2, 3)
static inline enum warren_verdict warren_dead(struct warren_job *job, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	warren_api_of(job)->verdict(job, WARREN_DEAD, fmt, args);
	va_end(args);
	return WARREN_DEAD;
}

/* Asks that the retry come after `delay_ms` instead of the queue's back-off, and returns
 * WARREN_RETRY. The host may wait longer, never shorter; negative counts as 0. */
static inline enum warren_verdict warren_retry_after(struct warren_job *job, int64_t delay_ms)
{
	return warren_api_of(job)->retry_after(job, delay_ms);
}

/* ---- The plugin as a whole: open() and thread_open() ---- */

/* One line in warren's log, which names the plugin by itself. Thread-safe. */
WARREN_PRINTF(3, 4)
static inline void warren_host_log(
    struct warren_host *host, enum warren_level level, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	warren_api_of(host)->host_log(host, level, fmt, args);
	va_end(args);
}

/* Records why open() or thread_open() refuses, and returns false. */
WARREN_PRINTF(2, 3)
static inline bool warren_refuse(struct warren_host *host, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	warren_api_of(host)->refuse(host, fmt, args);
	va_end(args);
	return false;
}

/*
 * The value of an option: the configuration's or the default. All were checked before open(), so
 * these cannot fail, and what they return lives as long as the plugin. An option that the table
 * does not have, or has with another type, is a mistake in the plugin: logged, answered with zero
 * or "", and open() is taken as refused. Thread-safe.
 */
static inline const char *warren_option_text(struct warren_host *host, const char *name)
{
	return warren_api_of(host)->option_text(host, name); /* STRING, PATH; never NULL */
}

static inline bool warren_option_bool(struct warren_host *host, const char *name)
{
	return warren_api_of(host)->option_bool(host, name);
}

static inline int64_t warren_option_int(struct warren_host *host, const char *name)
{
	return warren_api_of(host)->option_int(host, name); /* INT; DURATION in ms; SIZE in bytes */
}

static inline double warren_option_float(struct warren_host *host, const char *name)
{
	return warren_api_of(host)->option_float(host, name);
}

/* `*n` strings and a NULL behind them. `n` may be NULL. */
static inline const char *const *warren_option_list(
    struct warren_host *host, const char *name, size_t *n)
{
	return warren_api_of(host)->option_list(host, name, n);
}

#ifdef __cplusplus
} /* extern "C" */

#include <exception>
#include <stdexcept>

/*
 * C++ alone: adaptors that let no exception reach the host, which could only end the process.
 *
 *	static const warren_task tasks[] = { { "image.scale", warren::task<scale>, 0, 0 }, {} };
 *
 * warren::dead thrown in a task is WARREN_DEAD, any other exception WARREN_RETRY, what() the
 *reason.
 */
namespace warren
{

struct dead : std::runtime_error {
	using std::runtime_error::runtime_error;
};

template <warren_verdict (*Run)(warren_job *)> warren_verdict task(warren_job *job)
{
	try {
		return Run(job);
	} catch (const dead &e) {
		return warren_dead(job, "%s", e.what());
	} catch (const std::exception &e) {
		return warren_retry(job, "exception: %s", e.what());
	} catch (...) {
		return warren_retry(job, "exception of an unknown type");
	}
}

template <bool (*Open)(warren_host *, void **)> bool open(warren_host *host, void **state)
{
	try {
		return Open(host, state);
	} catch (const std::exception &e) {
		return warren_refuse(host, "exception: %s", e.what());
	} catch (...) {
		return warren_refuse(host, "exception of an unknown type");
	}
}

} /* namespace warren */
#endif

#endif
