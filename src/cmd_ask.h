/* What the commands share that ask a running daemon. Floor 4. */
#ifndef WARREN_CMD_ASK_H
#define WARREN_CMD_ASK_H

#include "ask.h"
#include "clock.h"
#include "cmd.h"
#include "reply.h"

/* Lines of a command's help. */
#define CMD_ASK_HELP                                                                               \
	"  -s, --socket SOCKET   the daemon's control socket\n"                                    \
	"  -c, --config FILE     the configuration that names it. Without both: warren.sock in\n"  \
	"                        $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/warren or /run/warren\n"

/* Where the daemon is, as -s and -c say. Zero-initialise; free `path`. */
struct cmd_daemon {
	const char *socket; /* -s */
	const char *file;   /* -c */
	char *path;         /* once resolved */
};

/* Returns EXIT_OK, or the exit code after saying what is wrong. */
int cmd_find_daemon(struct cmd_daemon *daemon) MUST_CHECK;

/* How long an answer takes that nothing has to be waited for, at most. */
#define CMD_ASK_ANSWER_NS (10 * NS_PER_S)

/* How long to wait for the answer, and what is said of a longer wait. */
struct cmd_patience {
	int64_t timeout_ns; /* CLOCK_NEVER: for ever */
	const char
	    *waiting; /* shown on a terminal while it lasts; NULL: the answer comes at once */
};

/*
 * Finds the daemon, asks, and parses what it says; NULL after saying why there is no answer, with
 * the exit code in `code`. An answer may be a refusal: cmd_answer_code. `raw`: the answer as it
 * came, malloc'ed; may be NULL.
 */
json_t *cmd_ask(struct cmd_daemon *daemon, const char *const *words, size_t n,
    const struct cmd_patience *patience, char **raw, int *code) MUST_CHECK;

/* EXIT_OK, or the exit code that a refusal is worth. */
int cmd_answer_code(const json_t *answer);
/* Says what the daemon said why not. */
void cmd_say_refused(const json_t *answer);

#endif
