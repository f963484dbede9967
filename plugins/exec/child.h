/* One program, run to its end with body, output and errors flowing through pipes, in a group of its
 * own. */
#ifndef EXEC_CHILD_H
#define EXEC_CHILD_H

#include <warren/plugin.h>

struct child_order {
	char *const *argv; /* argv[0] is the program's absolute path */
	char *const *env;
	const char *directory; /* "": warrend's */
	const char *body;
	size_t body_len;
	bool want_output; /* otherwise it is read and thrown away */
	size_t max_output;
	int64_t kill_after_ms; /* between SIGTERM and SIGKILL */
};

struct child_result {
	int spawn_error;       /* errno: it could not be started, and nothing below holds */
	bool lost;             /* somebody else took its exit status */
	int status;            /* as waitpid gives it */
	bool too_much;         /* it was ended because it wrote more than max_output */
	enum warren_stop stop; /* it was ended for this reason, 0: it ended by itself */
	char *output;          /* malloc'ed, the caller's; NULL when there is none */
	size_t output_len;
};

/*
 * Starts the program, feeds it, and returns when it has ended. Lines of its standard error go to
 * the log. What is left of its process group then is killed: a job's processes end with the job.
 */
void child_run(
    struct warren_job *job, const struct child_order *order, struct child_result *result);

#endif
