/*
 * The scoreboard. What a worker writes here is read by the supervisor, and a plugin may scribble
 * over all of it: sizes and indexes are therefore kept in our own memory, never read back from the
 * shared one, and whatever is read is bounded before it is used.
 */
#include "score.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define SCORE_MAGIC UINT64_C(0x31726f63736e7277) /* "wrnscor1" */
#define SCORE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

enum {
	SCORE_WORKERS_MAX = 4096,
	SCORE_ROWS_MAX = 1 << 20, /* per worker */
	SCORE_QUEUES_MAX = 1 << 16,
	SCORE_TALLIES_MAX = 1 << 20,
	SUSPECT_TRIES = 1000, /* the supervisor is inside for a moment only */
};

/* The sizes say, too, that both sides come from one binary. */
struct score_head {
	uint64_t magic;
	struct score_size size;
	uint32_t sizes[7];
	atomic_uint rows;     /* in use */
	atomic_int log_level; /* that the operator wishes; -1: the configuration's */
	atomic_uint lenient;
	atomic_uint crashed;      /* some row tells of a crash that was not looked into yet */
	atomic_uint suspects_seq; /* odd while they are being written */
	atomic_uint n_suspects;
	_Alignas(uint64_t) struct suspect suspects[SUSPECTS_MAX];
};

struct score {
	void *map;
	size_t bytes;
	struct score_size size; /* our own copy: nobody can spoil it */
	bool ours;              /* we made it: how many rows are in use is our own word */
	struct score_worker *workers;
	struct board_wish *wishes;
	struct board_conn_row *conns;
	struct board_source_row *sources;
	struct tally *tallies;
	struct score_row *rows;
};

/* The parts, one behind the other. */
enum part {
	PART_HEAD,
	PART_WORKERS,
	PART_WISHES,
	PART_CONNS,
	PART_SOURCES,
	PART_TALLIES,
	PART_ROWS,
	PARTS
};

static const uint32_t part_sizes[PARTS] = { sizeof(struct score_head), sizeof(struct score_worker),
	sizeof(struct board_wish), sizeof(struct board_conn_row), sizeof(struct board_source_row),
	sizeof(struct tally), sizeof(struct score_row) };

static size_t part_count(const struct score_size *size, enum part part)
{
	switch (part) {
	case PART_HEAD:
		return 1;
	case PART_WORKERS:
		return size->workers;
	case PART_WISHES:
		return size->queues;
	case PART_CONNS:
		return (size_t)size->workers * BOARD_CONNECTIONS;
	case PART_SOURCES:
		return (size_t)size->workers * size->queues;
	case PART_TALLIES:
		return size->tallies;
	case PART_ROWS:
		return (size_t)size->workers * size->max_rows;
	case PARTS:
		break;
	}
	return 0;
}

/* Where a part begins; PARTS: how many bytes all of it has. */
static size_t part_offset(const struct score_size *size, enum part part)
{
	size_t at = 0;

	for (enum part p = PART_HEAD; p < part; p++)
		at += (part_count(size, p) * part_sizes[p] + 63) / 64 * 64;
	return at;
}

static bool size_is_possible(const struct score_size *size)
{
	return size->workers > 0 && size->workers <= SCORE_WORKERS_MAX && size->rows > 0 &&
	       size->rows <= size->max_rows && size->max_rows <= SCORE_ROWS_MAX &&
	       size->queues > 0 && size->queues <= SCORE_QUEUES_MAX &&
	       size->tallies >= size->queues && size->tallies <= SCORE_TALLIES_MAX;
}

static struct score *score_map(int fd, size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct score *score;

	if (map == MAP_FAILED)
		return NULL;
	score = calloc(1, sizeof(*score));
	if (!score) {
		munmap(map, size);
		errno = ENOMEM;
		return NULL;
	}
	score->map = map;
	score->bytes = size;
	return score;
}

static void *part_at(const struct score *score, enum part part)
{
	return (char *)score->map + part_offset(&score->size, part);
}

static void score_shape(struct score *score, const struct score_size *size)
{
	score->size = *size;
	score->workers = part_at(score, PART_WORKERS);
	score->wishes = part_at(score, PART_WISHES);
	score->conns = part_at(score, PART_CONNS);
	score->sources = part_at(score, PART_SOURCES);
	score->tallies = part_at(score, PART_TALLIES);
	score->rows = part_at(score, PART_ROWS);
}

static void write_head(struct score *score)
{
	struct score_head *head = score->map; /* new, so all of it is zero */

	head->magic = SCORE_MAGIC;
	head->size = score->size;
	memcpy(head->sizes, part_sizes, sizeof(part_sizes));
	atomic_store(&head->rows, score->size.rows);
	atomic_store(&head->log_level, -1);
	for (uint32_t i = 0; i < score->size.queues; i++) {
		score->tallies[i].queue = i;
		atomic_store(&score->tallies[i].state, TALLY_READY);
	}
}

struct score *score_create(const struct score_size *size, int *fd)
{
	struct score *score = NULL;
	size_t bytes;
	int saved;

	CHECK(size_is_possible(size));
	bytes = part_offset(size, PARTS);
	*fd = memfd_create("warren-score", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0)
		return NULL;
	if (ftruncate(*fd, (off_t)bytes) == 0 && fcntl(*fd, F_ADD_SEALS, SCORE_SEALS) == 0)
		score = score_map(*fd, bytes);
	if (!score) {
		saved = errno;
		close(*fd);
		*fd = -1;
		errno = saved;
		return NULL;
	}
	score_shape(score, size);
	score->ours = true;
	write_head(score);
	return score;
}

static bool head_fits(const struct score_head *head, size_t bytes)
{
	return head->magic == SCORE_MAGIC && size_is_possible(&head->size) &&
	       memcmp(head->sizes, part_sizes, sizeof(part_sizes)) == 0 &&
	       part_offset(&head->size, PARTS) == bytes;
}

struct score *score_open(int fd)
{
	const struct score_head *head;
	struct score *score;
	struct stat st;

	/* Without the seals somebody could shrink it, and reading would be SIGBUS. */
	if ((fcntl(fd, F_GET_SEALS) & SCORE_SEALS) != SCORE_SEALS || fstat(fd, &st) != 0 ||
	    st.st_size < (off_t)sizeof(*head))
		return NULL;
	score = score_map(fd, (size_t)st.st_size);
	if (!score)
		return NULL;
	head = score->map;
	if (!head_fits(head, score->bytes)) {
		score_close(score);
		return NULL;
	}
	score_shape(score, &head->size);
	return score;
}

void score_close(struct score *score)
{
	if (!score)
		return;
	munmap(score->map, score->bytes);
	free(score);
}

static struct score_head *head_of(struct score *score)
{
	return score->map;
}

uint32_t score_workers(const struct score *score)
{
	return score->size.workers;
}

uint32_t score_rows(const struct score *score)
{
	const struct score_head *head = score->map;
	uint32_t rows = score->ours ? score->size.rows : atomic_load(&head->rows);

	return rows > 0 && rows <= score->size.max_rows ? rows : score->size.rows;
}

bool score_use_rows(struct score *score, uint32_t rows)
{
	if (rows > score->size.max_rows)
		return false;
	if (rows > score->size.rows)
		score->size.rows = rows;
	atomic_store(&head_of(score)->rows, score->size.rows);
	return true;
}

uint32_t score_queues(const struct score *score)
{
	return score->size.queues;
}

/* They are claimed in order; who touches one behind the last gives it memory for nothing. */
uint32_t score_tallies(const struct score *score)
{
	uint32_t n = score->size.queues;

	while (n < score->size.tallies && atomic_load(&score->tallies[n].state) != TALLY_FREE)
		n++;
	return n;
}

struct score_worker *score_worker(struct score *score, uint32_t worker)
{
	CHECK(worker < score->size.workers);
	return &score->workers[worker];
}

struct score_row *score_row(struct score *score, uint32_t worker, uint32_t row)
{
	CHECK(worker < score->size.workers && row < score->size.max_rows);
	return &score->rows[(size_t)worker * score->size.max_rows + row];
}

struct board_conn_row *score_conn(struct score *score, uint32_t worker, enum board_which which)
{
	CHECK(worker < score->size.workers && which < BOARD_CONNECTIONS);
	return &score->conns[(size_t)worker * BOARD_CONNECTIONS + which];
}

struct board_source_row *score_source(struct score *score, uint32_t worker, uint32_t queue)
{
	CHECK(worker < score->size.workers && queue < score->size.queues);
	return &score->sources[(size_t)worker * score->size.queues + queue];
}

struct board_wish *score_wish(struct score *score, uint32_t queue)
{
	CHECK(queue < score->size.queues);
	return &score->wishes[queue];
}

void score_set_lenient(struct score *score)
{
	atomic_store(&head_of(score)->lenient, 1);
}

bool score_is_lenient(struct score *score)
{
	return atomic_load(&head_of(score)->lenient) != 0;
}

void score_set_log_level(struct score *score, int level)
{
	atomic_store(&head_of(score)->log_level, level);
}

int score_log_level(struct score *score)
{
	int level = atomic_load(&head_of(score)->log_level);

	return level >= LOG_ERROR && level <= LOG_DEBUG ? level : -1;
}

/* Whether any worker still tells of a crash. Its rows are not asked: most places have never had a
 * process, and to read a row gives it memory. */
static void note_crashes(struct score *score)
{
	struct score_head *head = head_of(score);

	atomic_store(&head->crashed, 0); /* first, so that a crash of this moment is not lost */
	for (uint32_t w = 0; w < score->size.workers; w++)
		if (atomic_load(&score->workers[w].crashed))
			atomic_store(&head->crashed, 1);
}

static void reset_board(struct score *score, uint32_t worker)
{
	for (enum board_which i = 0; i < BOARD_CONNECTIONS; i++) {
		struct board_conn_row *row = score_conn(score, worker, i);

		seqlock_mend(&row->seq);
		board_write_conn(row, &(struct board_conn){ .state = BOARD_NO_CONN });
	}
	for (uint32_t i = 0; i < score->size.queues; i++) {
		struct board_source_row *row = score_source(score, worker, i);

		seqlock_mend(&row->seq);
		board_write_source(row, &(struct board_source){ .state = BOARD_NO_QUEUE });
	}
}

void score_reset(struct score *score, uint32_t worker)
{
	struct score_worker *w = score_worker(score, worker);

	atomic_store(&w->pid, 0);
	atomic_store(&w->crashed, 0);
	atomic_store(&w->jobs, 0);
	reset_board(score, worker);
	for (uint32_t i = 0; i < score_rows(score); i++) {
		struct score_row *row = score_row(score, worker, i);

		atomic_store(&row->state, ROW_UNUSED);
		atomic_store(&row->signal, 0);
		atomic_store(&row->child, 0);
		atomic_store(&row->jobs, 0);
		atomic_store(&row->progress, -1);
		seqlock_mend(&row->seq);
	}
	note_crashes(score);
}

uint64_t score_finished(struct score *score, uint32_t worker)
{
	uint64_t sum = atomic_load(&score_worker(score, worker)->jobs);

	for (uint32_t i = 0; i < score_rows(score); i++)
		sum += atomic_load(&score_row(score, worker, i)->jobs);
	return sum;
}

_Static_assert(sizeof(struct score_job) % sizeof(uint64_t) == 0, "a job is whole words");
_Static_assert(offsetof(struct score_row, job) % sizeof(uint64_t) == 0, "it is aligned");
_Static_assert(sizeof(struct suspect) % sizeof(uint64_t) == 0, "a suspect is whole words");
_Static_assert(offsetof(struct score_head, suspects) % sizeof(uint64_t) == 0, "they are aligned");

void score_take(struct score_row *row, uint32_t queue, uint32_t tally)
{
	atomic_store_explicit(&row->queue, queue, memory_order_relaxed);
	atomic_store_explicit(&row->tally, tally, memory_order_relaxed);
	score_state(row, ROW_TAKEN);
}

void score_describe(struct score_row *row, const struct score_job *job)
{
	atomic_store_explicit(&row->progress, -1, memory_order_relaxed);
	seqlock_write(&row->seq, &row->job, job, sizeof(*job));
}

void score_begin(struct score_row *row, const struct score_job *job)
{
	score_describe(row, job);
	score_state(row, ROW_RUNNING);
}

void score_state(struct score_row *row, enum score_state state)
{
	atomic_store_explicit(&row->state, (int)state, memory_order_release);
}

void score_crash(struct score *score, struct score_row *row, int signal)
{
	size_t place = (size_t)(row - score->rows);

	atomic_store(&row->signal, signal);
	atomic_store(&score_worker(score, (uint32_t)(place / score->size.max_rows))->crashed, 1);
	atomic_store(&head_of(score)->crashed, 1);
}

static bool row_has_job(const struct score_row *row)
{
	int state = atomic_load_explicit(&row->state, memory_order_acquire);

	return state == ROW_RUNNING || state == ROW_SETTLING || state == ROW_SETTLED;
}

static void job_bound(struct score_job *job)
{
	job->id[sizeof(job->id) - 1] = '\0';
	job->queue[sizeof(job->queue) - 1] = '\0';
	job->task[sizeof(job->task) - 1] = '\0';
	job->message_id[sizeof(job->message_id) - 1] = '\0';
	job->attempt = job->attempt < 0 ? 0 : job->attempt;
	job->crashes = job->crashes < 0 ? 0 : job->crashes;
	job->crashes = job->crashes > CRASHES_MAX ? CRASHES_MAX : job->crashes;
	job->redelivered = job->redelivered != 0;
	job->started_ns = job->started_ns < 0 ? 0 : job->started_ns;
	job->deadline_ns = job->deadline_ns < 0 ? 0 : job->deadline_ns;
	job->kill_ns = job->kill_ns < 0 ? 0 : job->kill_ns;
}

static bool read_job(const struct score_row *row, struct score_job *job)
{
	if (!seqlock_read(&row->seq, &row->job, job, sizeof(*job)))
		return false;
	job_bound(job);
	return true;
}

bool score_read_job(const struct score_row *row, struct score_job *job)
{
	return row_has_job(row) && read_job(row, job);
}

bool score_is_open(const struct score_row *row)
{
	int state = atomic_load_explicit(&row->state, memory_order_acquire);

	return state == ROW_TAKEN || state == ROW_RUNNING || state == ROW_SETTLING ||
	       state == ROW_GIVEN_UP;
}

static bool row_has_or_had_job(const struct score_row *row)
{
	int state = atomic_load_explicit(&row->state, memory_order_acquire);

	return state == ROW_GIVEN_UP || state == ROW_STUCK || row_has_job(row);
}

bool score_read_crashed(const struct score_row *row, struct score_job *job)
{
	return row_has_or_had_job(row) && read_job(row, job);
}

bool score_read_times(const struct score_row *row, int64_t *started_ns, int64_t *deadline_ns)
{
	return row_has_or_had_job(row) &&
	       seqlock_read(&row->seq, &row->job.started_ns, started_ns, sizeof(*started_ns)) &&
	       seqlock_read(&row->seq, &row->job.deadline_ns, deadline_ns, sizeof(*deadline_ns));
}

/* ---- what is counted ---- */

uint32_t score_find_tally(struct score *score, uint32_t queue, const char *task)
{
	return (uint32_t)tally_find(
	    score->tallies, score->size.tallies, score->size.queues, queue, task);
}

struct tally *score_tally(struct score *score, uint32_t place)
{
	return &score->tallies[place < score->size.tallies ? place : 0];
}

bool score_read_tally(struct score *score, uint32_t place, struct tally_sum *sum, uint32_t *queue,
    char task[TALLY_TASK_MAX])
{
	const struct tally *tally = score_tally(score, place);

	if (atomic_load_explicit(&tally->state, memory_order_acquire) != TALLY_READY)
		return false;
	*queue = tally->queue;
	memcpy(task, tally->task, TALLY_TASK_MAX);
	task[TALLY_TASK_MAX - 1] = '\0';
	*sum = (struct tally_sum){ 0 };
	tally_add(sum, tally);
	return *queue < score->size.queues;
}

uint64_t score_sum(struct score *score, enum tally_count what)
{
	uint64_t sum = 0;

	CHECK(what < COUNT_N);
	for (uint32_t i = 0; i < score_tallies(score); i++)
		sum += atomic_load_explicit(&score->tallies[i].counts[what], memory_order_relaxed);
	return sum;
}

/* ---- what is known against messages ---- */

void score_publish_suspects(struct score *score, const struct suspects *suspects)
{
	struct score_head *head = head_of(score);

	/* One writer, who never dies in between and lives on. */
	atomic_fetch_add_explicit(&head->suspects_seq, 1, memory_order_relaxed);
	for (size_t i = 0; i < suspects->n; i++)
		seqlock_store(
		    &head->suspects[i], &suspects->list[i].suspect, sizeof(struct suspect));
	atomic_store_explicit(&head->n_suspects, (unsigned)suspects->n, memory_order_release);
	atomic_fetch_add_explicit(&head->suspects_seq, 1, memory_order_release);
}

static bool look_up(struct score_head *head, const uint8_t *identity, struct suspect *found)
{
	unsigned n = atomic_load_explicit(&head->n_suspects, memory_order_acquire);

	for (unsigned i = 0; i < n && i < SUSPECTS_MAX; i++) {
		seqlock_fetch(found, &head->suspects[i], sizeof(*found));
		if (memcmp(found->identity, identity, IDENTITY_LEN) == 0)
			return true;
	}
	return false;
}

static bool find_published(struct score_head *head, const uint8_t *identity, struct suspect *found)
{
	for (int i = 0; i < SUSPECT_TRIES; i++) {
		unsigned before = atomic_load_explicit(&head->suspects_seq, memory_order_acquire);
		bool known;

		if (before & 1)
			continue;
		known = look_up(head, identity, found);
		if (atomic_load_explicit(&head->suspects_seq, memory_order_relaxed) == before)
			return known;
	}
	return false;
}

/* A job that crashed a moment ago, in a process that is not buried yet. */
static bool row_crashed_with(
    const struct score_row *row, const uint8_t *identity, struct suspect *found)
{
	int signal = atomic_load(&row->signal);
	struct score_job job;

	if (signal == 0 || !score_read_crashed(row, &job) ||
	    memcmp(job.identity, identity, IDENTITY_LEN) != 0)
		return false;
	*found = (struct suspect){ .crashes = job.crashes + 1, .signal = signal, .doubtful = 1 };
	memcpy(found->identity, identity, IDENTITY_LEN);
	return true;
}

static bool find_crashed(struct score *score, const uint8_t *identity, struct suspect *found)
{
	for (uint32_t w = 0; w < score->size.workers; w++)
		for (uint32_t i = 0;
		     i < score_rows(score) && atomic_load(&score->workers[w].crashed); i++)
			if (row_crashed_with(score_row(score, w, i), identity, found))
				return true;
	return false;
}

bool score_find_suspect(
    struct score *score, const uint8_t identity[IDENTITY_LEN], struct suspect *found)
{
	struct score_head *head = head_of(score);
	struct suspect fresh;
	bool known;

	if (!identity_known(identity))
		return false;
	known = find_published(head, identity, found);
	if (!atomic_load(&head->crashed) || !find_crashed(score, identity, &fresh))
		return known;
	if (!known || found->crashes < fresh.crashes) {
		fresh.leases = known ? found->leases : 0;
		*found = fresh;
	}
	return true;
}
