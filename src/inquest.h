/*
 * The inquest on a worker process that has ended: which of the jobs that it was running is to
 * blame, and which are only suspected, from what stands in its rows of the scoreboard. Floor 1.
 */
#ifndef WARREN_INQUEST_H
#define WARREN_INQUEST_H

#include "score.h"

struct death {
	uint32_t worker; /* whose rows */
	int signal;      /* that it ended by; SIGNAL_EXIT: by an exit that nobody asked for */
	bool alone;      /* its jobs ran one at a time, in the quarantine */
};

struct finding {
	struct score_job job;
	bool certain; /* to blame; otherwise suspected */
	int signal;
	int crashes; /* of this message so far */
};

/*
 * Notes in `suspects` what it finds, and calls `report` for each job concerned. A thread that
 * crashed has marked its row: its job is to blame, and nobody else. Where no row is marked
 * (SIGKILL, the memory of the machine, _exit), all that ran are suspects; one that ran alone is to
 * blame. True when somebody is to blame.
 */
bool inquest_hold(struct score *score, const struct death *death, struct suspects *suspects,
    int64_t now_ns, void (*report)(const struct finding *finding));

#endif
