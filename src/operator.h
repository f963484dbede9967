/*
 * What operators and their tools are told and may order: the commands of the control socket and
 * the pages of the HTTP server, each a table, behind the two doors. Floor 3.
 */
#ifndef WARREN_OPERATOR_H
#define WARREN_OPERATOR_H

#include "conf.h"
#include "control.h"
#include "http.h"
#include "steer.h"
#include "watch.h"

enum { OPERATOR_FDS = CONTROL_FDS + HTTP_FDS };

struct operator_desk {
	struct control *control;
	struct http *http;
	struct steer steer;
	struct watch *watch;
};

void operator_open(struct operator_desk *desk, struct crew *crew, struct watch *watch);
void operator_close(struct operator_desk *desk);

/*
 * Opens both doors as the configuration wants them, beside those that are open: operator_commit()
 * takes the new ones, operator_abandon() the old ones; either one is called after each success.
 * False with errors about the configuration at `path`; nothing has changed then.
 */
bool operator_prepare(struct operator_desk *desk, const char *path, const struct conf *conf,
    struct conf_errors *errors) MUST_CHECK;
void operator_commit(struct operator_desk *desk);
void operator_abandon(struct operator_desk *desk);

/* What poll() has to look at, at most OPERATOR_FDS; returns how many. */
size_t operator_fds(const struct operator_desk *desk, struct pollfd *fds);
/* When operator_serve() has to be called at the latest. */
int64_t operator_deadline(const struct operator_desk *desk);
void operator_serve(struct operator_desk *desk, int64_t now_ns);

#endif
