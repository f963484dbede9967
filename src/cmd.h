/* The operator's commands, and what they share: the broker they talk to, its errors, safe text.
 * Floor 4. */
#ifndef WARREN_CMD_H
#define WARREN_CMD_H

#include <stdio.h>

#include "dialog.h"
#include "topology.h"

/* argv[0] is the command's own name. Each returns the exit code of the program. */
int cmd_dead(int argc, char **argv);
int cmd_plugin(int argc, char **argv);
int cmd_publish(int argc, char **argv);
int cmd_queues(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_steer(int argc, char **argv); /* pause, resume, drain and others, by its own name */
int cmd_subscribe(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_topology(int argc, char **argv);

/* ---- words for people ---- */

/* One line on standard error behind `warren COMMAND: `, made safe for a terminal. */
void cmd_say(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* The same for a command line that cannot be understood, with a hint; returns EXIT_USAGE. */
int cmd_usage(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Which command speaks; main sets it. */
void cmd_set_name(const char *name);

/*
 * Writes bytes that somebody else chose so that they cannot drive a terminal or forge a line: as
 * text_escape, but quotes and backslashes stand as they are, for people. `lines`: newlines and tabs
 * stay too.
 */
void cmd_put_text(FILE *out, struct bytes text, bool lines);
/* A JSON string with its quotes. Bytes that are not UTF-8 become \u00NN. */
void cmd_put_json(FILE *out, struct bytes text);

/*
 * Draws how far the work has come, on a terminal, when it takes longer than half a second. `total`
 * 0: unknown. cmd_say and cmd_progress_end wipe it away.
 */
void cmd_progress_start(void);
void cmd_progress(uint64_t done, uint64_t total);
void cmd_progress_end(void);

/* Options that several commands have. Each returns false when it has said what is wrong. */
bool cmd_read_duration(const char *option, const char *text, int64_t *ns) MUST_CHECK;
bool cmd_read_count(
    const char *option, const char *text, int64_t low, int64_t high, int64_t *n) MUST_CHECK;
/* A name of an exchange or queue, a routing key: at most 255 bytes. */
bool cmd_check_name(const char *option, const char *text) MUST_CHECK;

/*
 * From here on SIGINT, SIGTERM and SIGHUP are noted, so that what is under way comes to a clean
 * end; a second one of its kind ends the process at once.
 */
void cmd_note_stops(void);
bool cmd_stopped(void);

/* ---- the broker ---- */

#define CMD_CONFIG "/etc/warren/warren.cfg" /* where no other is named */

/* Where the broker is, as -u, -c, WARREN_URL or the default say. Zero-initialise. */
struct cmd_target {
	char *url;         /* -u, our own copy */
	const char *file;  /* -c */
	struct conf *conf; /* of -c, once resolved */
	struct conf_broker broker;
	struct arena *arena;
};

/* Takes -u's argument and wipes it where it stands, so that no process list shows it. */
void cmd_take_url(struct cmd_target *target, char *argument);

/* Reads URL or file. Returns EXIT_OK, or the exit code after saying what is wrong. */
int cmd_resolve(struct cmd_target *target) MUST_CHECK;
void cmd_target_free(struct cmd_target *target);

/*
 * Resolves, connects to the first URL that answers and opens DIALOG_CHANNEL. NULL after saying what
 * is wrong, with the exit code in `code`.
 */
enum { CMD_MAX_MESSAGE = 128 * 1024 * 1024 };
struct broker *cmd_connect(struct cmd_target *target, int *code) MUST_CHECK;

/* Says why `what` ("declare queue x") did not work, after dialog_answer; returns the exit code that
 * it means. */
int cmd_explain(const struct broker *broker, const struct event *event, const char *what);

/* Runs one step and waits for its answer, which it leaves in `event`. */
int cmd_declare(struct broker *broker, const struct step *step, struct event *event) MUST_CHECK;
int cmd_declare_all(struct broker *broker, const struct script *script) MUST_CHECK;

/*
 * Looks for a queue. EXIT_OK with its counts in `event` (EV_QUEUE_OK), or with what the broker says
 * against it (EV_CLOSED_BY_BROKER; code 404: there is none), and the channel is open again. Else
 * the exit code after saying what is wrong.
 */
int cmd_look(struct broker *broker, const char *queue, struct event *event) MUST_CHECK;

/* Looks whether exchange or queue is there, and only if not, declares it as the step says. */
int cmd_declare_missing(struct broker *broker, const struct step *step) MUST_CHECK;

/* --declare=durable|transient with --type: what is to be created where it is missing. */
struct cmd_creation {
	const char *word; /* durable, transient; NULL: nothing is created */
	const char *type; /* of the exchange, or of the queue */
};
bool cmd_check_creation(const struct cmd_creation *creation) MUST_CHECK;
int cmd_create_queue(
    struct broker *broker, const struct cmd_creation *creation, const char *name) MUST_CHECK;
int cmd_create_exchange(
    struct broker *broker, const struct cmd_creation *creation, const char *name) MUST_CHECK;

#endif
