/* The scoreboard as a worker may leave it: torn in the middle of a write, or scribbled over by a
 * plugin. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "inquest.h"
#include "score.h"

enum { WORKERS = 2, ROWS = 3, QUEUES = 2, TALLIES = 4 };

static void check_text(const char *text, size_t size)
{
	CHECK(memchr(text, '\0', size));
}

static void read_row(const struct score_row *row)
{
	struct score_job job;
	if (!score_read_job(row, &job))
		return;
	CHECK(!(atomic_load(&row->seq) & 1));
	check_text(job.id, sizeof(job.id));
	check_text(job.queue, sizeof(job.queue));
	check_text(job.task, sizeof(job.task));
	check_text(job.message_id, sizeof(job.message_id));
	CHECK(job.attempt >= 0 && job.redelivered <= 1 && job.started_ns >= 0 &&
	      job.deadline_ns >= 0);
}

/* What the supervisor makes of a worker's end, and what another worker then is told. */
static struct suspects known;

static void report(const struct finding *finding)
{
	CHECK(finding->crashes >= 0);
}

static void hold_inquest(struct score *score)
{
	struct suspect found;
	memset(&known, 0, sizeof(known));
	for (uint32_t w = 0; w < score_workers(score); w++)
		for (int alone = 0; alone <= 1; alone++) {
			const struct death death = { .worker = w, .signal = 9, .alone = alone };
			(void)inquest_hold(score, &death, &known, 1, report);
		}
	CHECK(known.n <= SUSPECTS_MAX);
	for (size_t i = 0; i < known.n; i++) {
		const struct suspect *suspect = &known.list[i].suspect;
		CHECK(identity_known(suspect->identity) && suspect->crashes >= 0 &&
		      suspect->leases >= 0);
		CHECK(suspect->signal == 0 || suspect_signal_name(suspect->signal));
		if (score_find_suspect(score, suspect->identity, &found))
			CHECK(memcmp(found.identity, suspect->identity, IDENTITY_LEN) == 0);
	}
}

static void read_tallies(struct score *score)
{
	struct tally_sum sum;
	uint32_t queue;
	char task[TALLY_TASK_MAX];
	for (uint32_t i = 0; i < score_tallies(score); i++) {
		if (!score_read_tally(score, i, &sum, &queue, task))
			continue;
		CHECK(queue < score_queues(score));
		check_text(task, sizeof(task));
		(void)histogram_quantile(&sum.run, 0.99);
	}
	(void)score_find_tally(score, 0, "some.task");
}

static void read_board(struct score *score)
{
	struct board_conn conn;
	struct board_source source;
	for (uint32_t w = 0; w < score_workers(score); w++) {
		for (enum board_which i = 0; i < BOARD_CONNECTIONS; i++)
			if (board_read_conn(score_conn(score, w, i), &conn)) {
				check_text(conn.broker, sizeof(conn.broker));
				check_text(conn.product, sizeof(conn.product));
				check_text(conn.error, sizeof(conn.error));
			}
		for (uint32_t q = 0; q < score_queues(score); q++)
			if (board_read_source(score_source(score, w, q), &source)) {
				check_text(source.text, sizeof(source.text));
				CHECK(source.ready >= -1 && source.dead >= -1 &&
				      source.since_ns >= 0);
			}
	}
}

static void read_all(struct score *score)
{
	for (uint32_t w = 0; w < score_workers(score); w++) {
		(void)score_finished(score, w);
		for (uint32_t r = 0; r < score_rows(score); r++)
			read_row(score_row(score, w, r));
	}
	for (enum tally_count what = 0; what < COUNT_N; what++)
		(void)score_sum(score, what);
	read_tallies(score);
	read_board(score);
	hold_inquest(score);
}

/* A new process takes the rows over, whatever they held. */
static void take_over(struct score *score)
{
	struct score_job job = { .id = "1.2.3", .attempt = 1 }, back;
	for (uint32_t w = 0; w < score_workers(score); w++) {
		score_reset(score, w);
		struct score_row *row = score_row(score, w, 0);
		CHECK(!score_read_job(row, &back) && score_finished(score, w) == 0);
		score_begin(row, &job);
		CHECK(score_read_job(row, &back) && strcmp(back.id, job.id) == 0 &&
		      back.attempt == 1);
	}
}

/* Rows as only a plugin that writes over them could leave them, but whole. */
static void fill_rows(struct score *score, struct feed *feed)
{
	for (uint32_t i = 0; i < WORKERS * ROWS; i++) {
		struct score_row *row = score_row(score, i / ROWS, i % ROWS);
		struct score_job job = { .crashes = (int32_t)feed_number(feed, 4) };
		uint8_t how = feed_byte(feed);
		memset(job.identity, how & 3, sizeof(job.identity));
		job.attempt = (int32_t)feed_number(feed, 4);
		job.redelivered = (uint32_t)feed_number(feed, 4);
		job.started_ns = (int64_t)feed_number(feed, 8);
		job.deadline_ns = (int64_t)feed_number(feed, 8);
		if (how & 4)
			memset(job.task, 'x', sizeof(job.task));
		score_begin(row, &job);
		score_state(row, (enum score_state)(how >> 4));
		if (how & 8)
			score_crash(score, row, (int)feed_number(feed, 2));
	}
}

/* Bytes of the input at places that it chooses; the supervisor has the board open already. */
static void scribble(int fd, struct feed *feed)
{
	struct stat st;
	CHECK(fstat(fd, &st) == 0);
	while (feed->left > 0) {
		off_t at = (off_t)(feed_number(feed, 2) % (uint64_t)st.st_size);
		struct bytes some = feed_bytes(feed, 255);
		if (at + (off_t)some.len <= st.st_size)
			CHECK(pwrite(fd, some.data, some.len, at) == (ssize_t)some.len);
	}
}

/* A file that is no scoreboard at all, or one by its head only. */
static void open_foreign(struct bytes bytes, bool sealed)
{
	int fd = memfd_create("foreign", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len);
	if (sealed)
		CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
	struct score *score = score_open(fd);
	CHECK(!score || sealed);
	if (score)
		read_all(score);
	score_close(score);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = { data, size };
	uint8_t how = feed_byte(&feed);
	int fd;
	if (how & 1) {
		open_foreign(feed_rest(&feed), how & 2);
		return 0;
	}
	const struct score_size shape = { WORKERS, ROWS, ROWS, QUEUES, TALLIES };
	struct score *score = score_create(&shape, &fd);
	CHECK(score);
	if (how & 4)
		fill_rows(score, &feed);
	scribble(fd, &feed);
	CHECK(score_workers(score) == WORKERS && score_rows(score) == ROWS);
	read_all(score);
	struct score *again = score_open(fd);
	if (again)
		read_all(again);
	score_close(again);
	take_over(score);
	score_close(score);
	close(fd);
	return 0;
}
