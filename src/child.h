/*
 * Processes made by executing ourselves anew: workers, and short-lived ones that check plugins. A
 * child gets three descriptors under fixed numbers, its arguments, and nothing else. Floor 3.
 */
#ifndef WARREN_CHILD_H
#define WARREN_CHILD_H

#include <sys/types.h>

#include "conf.h"

enum child_fd {
	CHILD_IPC = 3,   /* its end of the socket pair */
	CHILD_CONF = 4,  /* the configuration's text, sealed: what was checked is what is run */
	CHILD_SCORE = 5, /* the scoreboard; workers only */
};

enum child_role { CHILD_WORKER, CHILD_CHECK };

/* How the roles are called on the command line; nobody but child_spawn uses these. */
#define CHILD_WORKER_OPTION "worker"
#define CHILD_CHECK_OPTION "check-plugins"
#define CHILD_QUARANTINE_OPTION "quarantine"

struct child_order {
	enum child_role role;
	const char *path; /* of the configuration, for messages and relative paths */
	int conf_fd;
	/* CHILD_WORKER */
	int score_fd;
	unsigned number, place, generation;
	bool quarantine;
};

struct child {
	pid_t pid; /* 0: none */
	int ipc;   /* -1: none */
};

/*
 * fork and exec of /proc/self/exe. False with errno also where the exec failed. The child is sent
 * SIGKILL when we die, until it asks for something milder; all its signals are blocked.
 */
bool child_spawn(const struct child_order *order, struct child *child) MUST_CHECK;
void child_close_ipc(struct child *child);

/* Resident bytes of a process; 0 where that cannot be said. */
int64_t child_memory(pid_t pid);

/* A configuration as it was read, once, and as children read it again. */
struct snapshot {
	struct conf *conf;
	int fd; /* sealed memfd with the text */
};

/* Reads, parses, seals. False with all reasons in `errors`; warnings as in conf_parse. */
bool snapshot_take(struct snapshot *snapshot, const char *path, struct conf_errors *errors,
    struct conf_errors *warnings) MUST_CHECK;
void snapshot_drop(struct snapshot *snapshot);
/* The child's side: parses the text behind CHILD_CONF, and closes it. */
struct conf *snapshot_read(const char *path, struct conf_errors *errors) MUST_CHECK;

/* A child that opens the plugins of a configuration. Its complaints gather in `errors`. */
struct check {
	struct child child;
	const char *path;
	int64_t deadline_ns;
	struct conf_errors errors;
};

bool check_start(struct check *check, const char *path, const struct snapshot *snapshot) MUST_CHECK;
/* Takes in what has arrived. False when nothing more will come. */
bool check_read(struct check *check);
/* After waitpid: adds what the child could not say itself. True when all is fine. */
bool check_ended(struct check *check, int status);
/* All of it at once, blocking, at most until the start limit: for warrend -t. */
bool check_run(const char *path, const struct snapshot *snapshot, struct conf_errors *errors);
/* The child's side of a complaint: one message per error. */
void check_report(int ipc, const struct conf_errors *errors);

#endif
