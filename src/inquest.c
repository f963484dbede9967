/* Who brought a worker process down. */
#include "inquest.h"

#include <signal.h>

typedef void reporter(const struct finding *finding);

/* The mark comes from memory that a plugin may have spoilt. */
static int marked_signal(const struct score_row *row)
{
	int signal = atomic_load(&row->signal);

	return (signal > 0 && signal < NSIG) || signal == SIGNAL_EXIT ? signal : 0;
}

static void blame(struct score *score, const struct score_row *row, const struct score_job *job,
    int signal, struct suspects *suspects, int64_t now_ns, reporter *report)
{
	struct finding finding = { .job = *job, .certain = true, .signal = signal };

	finding.crashes = suspects_blame(suspects, job->identity, job->crashes, signal, now_ns);
	tally_count(score_tally(score, atomic_load(&row->tally)), COUNT_CRASHES, 1);
	report(&finding);
}

static bool blame_marked(struct score *score, const struct death *death, struct suspects *suspects,
    int64_t now_ns, reporter *report)
{
	bool found = false;

	for (uint32_t i = 0; i < score_rows(score); i++) {
		const struct score_row *row = score_row(score, death->worker, i);
		struct score_job job;

		if (!marked_signal(row) || !score_read_crashed(row, &job))
			continue;
		blame(score, row, &job, marked_signal(row), suspects, now_ns, report);
		found = true;
	}
	return found;
}

static bool is_running(const struct score_row *row)
{
	return atomic_load(&row->state) == ROW_RUNNING;
}

static void doubt_all(struct score *score, const struct death *death, struct suspects *suspects,
    int64_t now_ns, reporter *report)
{
	for (uint32_t i = 0; i < score_rows(score); i++) {
		const struct score_row *row = score_row(score, death->worker, i);
		struct finding finding = { .signal = death->signal };

		if (!is_running(row) || !score_read_job(row, &finding.job))
			continue;
		suspects_doubt(suspects, finding.job.identity, death->signal, now_ns);
		report(&finding);
	}
}

static bool blame_lonely(struct score *score, const struct death *death, struct suspects *suspects,
    int64_t now_ns, reporter *report)
{
	for (uint32_t i = 0; i < score_rows(score); i++) {
		const struct score_row *row = score_row(score, death->worker, i);
		struct score_job job;

		if (!is_running(row) || !score_read_job(row, &job))
			continue;
		blame(score, row, &job, death->signal, suspects, now_ns, report);
		return true;
	}
	return false;
}

bool inquest_hold(struct score *score, const struct death *death, struct suspects *suspects,
    int64_t now_ns, reporter *report)
{
	if (blame_marked(score, death, suspects, now_ns, report))
		return true;
	if (death->alone)
		return blame_lonely(score, death, suspects, now_ns, report);
	doubt_all(score, death, suspects, now_ns, report);
	return false;
}
