/*
 * The control socket: takes one line of words from each client, hands it to the command that it
 * matches, and sends back one line of JSON. Knows nothing of what the commands do. Nothing here
 * waits for a client, and shortage of memory ends no more than one request. Floor 3.
 */
#ifndef WARREN_CONTROL_H
#define WARREN_CONTROL_H

#include <poll.h>

#include "conf.h"
#include "words.h"

enum {
	CONTROL_CLIENTS = 16,
	CONTROL_FDS = 1 + CONTROL_CLIENTS,
};

struct control;

/* A client that may have left by the time it is answered. */
typedef uint64_t control_client;

/*
 * Answers with control_answer() or control_refuse(), now or later; each client once. `words` last
 * until it returns.
 */
typedef void control_run(
    void *context, struct control *control, control_client client, const struct words *words);

struct control_command {
	const char *pattern; /* words_match() */
	control_run *run;
};

/* False where warren was built without a JSON library: then there is never a socket. */
bool control_is_built(void);

/* The commands must outlive it. For the start of a process: does not return NULL. */
struct control *control_create(
    const struct control_command *commands, size_t n_commands, void *context);
/* Removes the socket, if it is still ours. */
void control_destroy(struct control *control);

/*
 * Makes a socket that is used from control_commit() on, and forgotten by control_abandon(); clients
 * stay. Its folder is made where it is missing; a socket that nobody listens on any more is
 * replaced. NULL: none. A path that is in use already stays so. False with why; errno is EADDRINUSE
 * when another process listens there.
 */
bool control_prepare(
    struct control *control, const char *path, char *why, size_t why_size) MUST_CHECK;
void control_commit(struct control *control);
void control_abandon(struct control *control);

/* The answer, malloc'ed JSON without a line's end, which is freed; NULL: memory was short. */
void control_answer(struct control *control, control_client client, char *json);
/* Whether that client is still there, and not answered. */
bool control_waits(struct control *control, control_client client);

/* {"ok":true,"said":"..."}: one sentence for people. What others wrote must be escaped. */
void control_say(struct control *control, control_client client, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* {"ok":false,"code":code,"error":"..."}: `code` is what the client exits with. What others wrote
 * must be escaped. */
void control_refuse(struct control *control, control_client client, enum exit_code code,
    const char *fmt, ...) PRINTF_LIKE(4, 5);

/* The same, with a list of all that is wrong: "errors":[{"file","line","text"}]. */
void control_refuse_errors(struct control *control, control_client client, const char *error,
    const struct conf_errors *errors);

/* What poll() has to look at, at most CONTROL_FDS; returns how many. */
size_t control_fds(const struct control *control, struct pollfd *fds);
/* When control_serve() has to be called at the latest. */
int64_t control_deadline(const struct control *control);
void control_serve(struct control *control, int64_t now_ns);

#endif
