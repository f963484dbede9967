/*
 * One line per event, on standard error, in logfmt or JSON; never blocks the caller. Floor 0.
 *
 *	log_event(LOG_INFO, "job.done", L_BYTES("job", id), L_STR("task", name), L_INT("attempt",
 *2));
 *
 * Every value goes through one escaping function, so no byte that somebody else chose can forge a
 * line or drive a terminal. A line that cannot be written at once is dropped and counted; the count
 * is logged as `event=log.dropped n=...` when writing works again.
 */
#ifndef WARREN_LOG_H
#define WARREN_LOG_H

#include "base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

enum log_kind { LOG_K_BYTES, LOG_K_INT, LOG_K_MS, LOG_K_BOOL, LOG_K_SKIP };

struct log_field {
	const char *key; /* lower case, ours, never untrusted */
	enum log_kind kind;
	struct bytes bytes;
	int64_t number;
};

#define L_BYTES(k, b) ((struct log_field){ .key = (k), .kind = LOG_K_BYTES, .bytes = (b) })
#define L_STR(k, s) L_BYTES(k, bytes_of(s))
#define L_INT(k, n) ((struct log_field){ .key = (k), .kind = LOG_K_INT, .number = (int64_t)(n) })
#define L_BOOL(k, b) ((struct log_field){ .key = (k), .kind = LOG_K_BOOL, .number = (b) ? 1 : 0 })
/* A duration: nanoseconds in, printed as 31ms or 2.5s (a number of seconds in JSON). */
#define L_NS(k, ns) ((struct log_field){ .key = (k), .kind = LOG_K_MS, .number = (ns) })
/* Text that is left out when it is empty. */
#define L_OPT(k, s) log_opt((k), bytes_of(s))
#define L_OPT_BYTES(k, b) log_opt((k), (b))

struct log_field log_opt(const char *key, struct bytes value);

#define log_event(level, event, ...)                                                               \
	do {                                                                                       \
		if (log_enabled(level)) {                                                          \
			const struct log_field log_fields_[] = { __VA_ARGS__ };                    \
			log_write((level), (event), log_fields_, ARRAY_LEN(log_fields_));          \
		}                                                                                  \
	} while (0)

/* Call once, before any thread; reads where descriptor 2 leads. May be called again to change level
 * or format. */
void log_init(enum log_level level, enum log_format format);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* The role that stands in each line of this process: "supervisor", "worker 0". Copied. */
void log_set_role(const char *role);

/* Thread-safe; takes no lock that is held during a write. `event` is ours: words with dots. A field
 * longer than 256 bytes is cut with a mark, a line never exceeds 4 KiB: fields that do not fit are
 * left out, and `cut=true` says so. */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n);

/* Lines dropped so far because standard error would have blocked or failed. */
uint64_t log_dropped(void);

/*
 * A complaint that may repeat for hours: logged the first time, then at doubling intervals from one
 * second to a minute with the count of what was left out; log_healed() writes one line if there was
 * anything to heal. One struct per subject, zero-initialised, guarded by its owner.
 */
struct log_complaint {
	int64_t next_ns;
	int64_t interval_ns;
	uint64_t silent; /* complaints since the last line */
	uint64_t total;
	int64_t since_ns;
};

/* True when this complaint is due to be written; `silent` holds how many were left out before. */
bool log_complain(struct log_complaint *c, uint64_t *silent);
/* True once after complaints; `for_ns` is how long it lasted. */
bool log_healed(struct log_complaint *c, int64_t *for_ns);

#endif
