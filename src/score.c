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

#define SCORE_MAGIC UINT64_C(0x31726f63736e7277) /* "wrnscor1" */
#define SCORE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

enum {
	SCORE_WORKERS_MAX = 4096,
	SCORE_ROWS_MAX = 1 << 20, /* per worker */
	READ_TRIES = 1000,        /* a writer is inside for less than a microsecond, or dead */
};

struct score_head {
	uint64_t magic;
	uint32_t n_workers, rows_per_worker;
	uint32_t worker_size, row_size; /* both sides come from one binary; this says so */
	atomic_uint crashed;            /* some row tells of a crash that was not looked into yet */
	atomic_uint suspects_seq;       /* odd while they are being written */
	atomic_uint n_suspects;
	_Alignas(uint64_t) struct suspect suspects[SUSPECTS_MAX];
};

struct score {
	void *map;
	size_t size;
	uint32_t n_workers, rows_per_worker;
	struct score_worker *workers;
	struct score_row *rows;
};

static size_t workers_offset(void)
{
	return (sizeof(struct score_head) + 63) / 64 * 64;
}

static size_t rows_offset(uint32_t n_workers)
{
	return (workers_offset() + n_workers * sizeof(struct score_worker) + 63) / 64 * 64;
}

static size_t total_size(uint32_t n_workers, uint32_t rows_per_worker)
{
	return rows_offset(n_workers) +
	       (size_t)n_workers * rows_per_worker * sizeof(struct score_row);
}

static bool sizes_possible(uint32_t n_workers, uint32_t rows_per_worker)
{
	return n_workers > 0 && n_workers <= SCORE_WORKERS_MAX && rows_per_worker > 0 &&
	       rows_per_worker <= SCORE_ROWS_MAX;
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
	score->size = size;
	return score;
}

static void score_shape(struct score *score, uint32_t n_workers, uint32_t rows_per_worker)
{
	char *base = score->map;

	score->n_workers = n_workers;
	score->rows_per_worker = rows_per_worker;
	score->workers = (void *)(base + workers_offset());
	score->rows = (void *)(base + rows_offset(n_workers));
}

static void write_head(struct score *score)
{
	struct score_head *head = score->map; /* new, so all of it is zero */

	head->magic = SCORE_MAGIC;
	head->n_workers = score->n_workers;
	head->rows_per_worker = score->rows_per_worker;
	head->worker_size = sizeof(struct score_worker);
	head->row_size = sizeof(struct score_row);
	for (uint32_t i = 0; i < score->n_workers; i++) {
		score->workers[i].first_row = i * score->rows_per_worker;
		score->workers[i].n_rows = score->rows_per_worker;
	}
}

struct score *score_create(uint32_t n_workers, uint32_t rows_per_worker, int *fd)
{
	struct score *score = NULL;
	size_t size;
	int saved;

	CHECK(sizes_possible(n_workers, rows_per_worker));
	size = total_size(n_workers, rows_per_worker);
	*fd = memfd_create("warren-score", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0)
		return NULL;
	if (ftruncate(*fd, (off_t)size) == 0 && fcntl(*fd, F_ADD_SEALS, SCORE_SEALS) == 0)
		score = score_map(*fd, size);
	if (!score) {
		saved = errno;
		close(*fd);
		*fd = -1;
		errno = saved;
		return NULL;
	}
	score_shape(score, n_workers, rows_per_worker);
	write_head(score);
	return score;
}

static bool head_fits(const struct score_head *head, size_t size)
{
	return head->magic == SCORE_MAGIC &&
	       sizes_possible(head->n_workers, head->rows_per_worker) &&
	       head->worker_size == sizeof(struct score_worker) &&
	       head->row_size == sizeof(struct score_row) &&
	       total_size(head->n_workers, head->rows_per_worker) == size;
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
	if (!head_fits(head, score->size)) {
		score_close(score);
		return NULL;
	}
	score_shape(score, head->n_workers, head->rows_per_worker);
	return score;
}

void score_close(struct score *score)
{
	if (!score)
		return;
	munmap(score->map, score->size);
	free(score);
}

uint32_t score_workers(const struct score *score)
{
	return score->n_workers;
}

uint32_t score_rows(const struct score *score)
{
	return score->rows_per_worker;
}

struct score_worker *score_worker(struct score *score, uint32_t worker)
{
	CHECK(worker < score->n_workers);
	return &score->workers[worker];
}

struct score_row *score_row(struct score *score, uint32_t worker, uint32_t row)
{
	CHECK(worker < score->n_workers && row < score->rows_per_worker);
	return &score->rows[(size_t)worker * score->rows_per_worker + row];
}

static struct score_head *head_of(struct score *score)
{
	return score->map;
}

/* Whether any row still tells of a crash. */
static void note_crashes(struct score *score)
{
	size_t n = (size_t)score->n_workers * score->rows_per_worker;
	unsigned crashed = 0;

	for (size_t i = 0; i < n && !crashed; i++)
		crashed = atomic_load(&score->rows[i].signal) != 0;
	atomic_store(&head_of(score)->crashed, crashed);
}

void score_reset(struct score *score, uint32_t worker)
{
	struct score_worker *w = score_worker(score, worker);

	atomic_store(&w->pid, 0);
	atomic_store(&w->jobs, 0);
	for (uint32_t i = 0; i < score->rows_per_worker; i++) {
		struct score_row *row = score_row(score, worker, i);

		atomic_store(&row->state, ROW_UNUSED);
		atomic_store(&row->signal, 0);
		atomic_store(&row->child, 0);
		atomic_store(&row->jobs, 0);
		atomic_fetch_add(&row->seq, atomic_load(&row->seq) & 1); /* it died while writing */
	}
	note_crashes(score);
}

uint64_t score_finished(struct score *score, uint32_t worker)
{
	uint64_t sum = atomic_load(&score_worker(score, worker)->jobs);

	for (uint32_t i = 0; i < score->rows_per_worker; i++)
		sum += atomic_load(&score_row(score, worker, i)->jobs);
	return sum;
}

/*
 * The job crosses in words, each of them atomic: stores with release and loads with acquire keep
 * them between the two sequence numbers without a fence, and without a race that a checker could
 * name.
 */
typedef uint64_t __attribute__((may_alias)) word;
_Static_assert(sizeof(struct score_job) % sizeof(word) == 0, "a job is whole words");
_Static_assert(sizeof(struct suspect) % sizeof(word) == 0, "a suspect is whole words");
_Static_assert(offsetof(struct score_head, suspects) % sizeof(word) == 0, "they are aligned");

static void store_words(void *to, const void *from, size_t size)
{
	word *out = to;
	const word *in = from;

	for (size_t i = 0; i < size / sizeof(word); i++)
		__atomic_store_n(&out[i], in[i], __ATOMIC_RELEASE);
}

static void fetch_words(void *to, const void *from, size_t size)
{
	word *out = to;
	const word *in = from;

	for (size_t i = 0; i < size / sizeof(word); i++)
		out[i] = __atomic_load_n(&in[i], __ATOMIC_ACQUIRE);
}

void score_begin(struct score_row *row, const struct score_job *job)
{
	unsigned seq = atomic_load_explicit(&row->seq, memory_order_relaxed);

	atomic_store_explicit(&row->seq, seq + 1, memory_order_relaxed);
	store_words(&row->job, job, sizeof(*job));
	atomic_store_explicit(&row->seq, seq + 2, memory_order_release);
	score_state(row, ROW_RUNNING);
}

void score_state(struct score_row *row, enum score_state state)
{
	atomic_store_explicit(&row->state, (int)state, memory_order_release);
}

void score_count(struct score_row *row, enum score_counter what, uint64_t n)
{
	CHECK(what < COUNT_N);
	atomic_fetch_add_explicit(&row->counters[what], n, memory_order_relaxed);
}

void score_crash(struct score *score, struct score_row *row, int signal)
{
	atomic_store(&row->signal, signal);
	atomic_store(&head_of(score)->crashed, 1);
}

static bool row_has_job(const struct score_row *row)
{
	int state = atomic_load_explicit(&row->state, memory_order_acquire);

	return state == ROW_RUNNING || state == ROW_SETTLING;
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
	for (int i = 0; i < READ_TRIES; i++) {
		unsigned before = atomic_load_explicit(&row->seq, memory_order_acquire);

		if (before & 1)
			continue;
		fetch_words(job, &row->job, sizeof(*job));
		if (atomic_load_explicit(&row->seq, memory_order_relaxed) != before)
			continue;
		job_bound(job);
		return true;
	}
	return false;
}

bool score_read_job(const struct score_row *row, struct score_job *job)
{
	return row_has_job(row) && read_job(row, job);
}

bool score_read_crashed(const struct score_row *row, struct score_job *job)
{
	bool stuck = atomic_load_explicit(&row->state, memory_order_acquire) == ROW_GIVEN_UP;

	return (stuck || row_has_job(row)) && read_job(row, job);
}

uint64_t score_sum(struct score *score, enum score_counter what)
{
	size_t n = (size_t)score->n_workers * score->rows_per_worker;
	uint64_t sum = 0;

	CHECK(what < COUNT_N);
	for (size_t i = 0; i < n; i++)
		sum += atomic_load_explicit(&score->rows[i].counters[what], memory_order_relaxed);
	return sum;
}

/* ---- what is known against messages ---- */

void score_publish_suspects(struct score *score, const struct suspects *suspects)
{
	struct score_head *head = head_of(score);

	/* One writer, who never dies in between and lives on. */
	atomic_fetch_add_explicit(&head->suspects_seq, 1, memory_order_relaxed);
	for (size_t i = 0; i < suspects->n; i++)
		store_words(&head->suspects[i], &suspects->list[i].suspect, sizeof(struct suspect));
	atomic_store_explicit(&head->n_suspects, (unsigned)suspects->n, memory_order_release);
	atomic_fetch_add_explicit(&head->suspects_seq, 1, memory_order_release);
}

static bool look_up(struct score_head *head, const uint8_t *identity, struct suspect *found)
{
	unsigned n = atomic_load_explicit(&head->n_suspects, memory_order_acquire);

	for (unsigned i = 0; i < n && i < SUSPECTS_MAX; i++) {
		fetch_words(found, &head->suspects[i], sizeof(*found));
		if (memcmp(found->identity, identity, IDENTITY_LEN) == 0)
			return true;
	}
	return false;
}

static bool find_published(struct score_head *head, const uint8_t *identity, struct suspect *found)
{
	for (int i = 0; i < READ_TRIES; i++) {
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
static bool find_crashed(struct score *score, const uint8_t *identity, struct suspect *found)
{
	size_t n = (size_t)score->n_workers * score->rows_per_worker;
	struct score_job job;

	for (size_t i = 0; i < n; i++) {
		int signal = atomic_load(&score->rows[i].signal);

		if (signal == 0 || !score_read_crashed(&score->rows[i], &job) ||
		    memcmp(job.identity, identity, IDENTITY_LEN) != 0)
			continue;
		*found =
		    (struct suspect){ .crashes = job.crashes + 1, .signal = signal, .doubtful = 1 };
		memcpy(found->identity, identity, IDENTITY_LEN);
		return true;
	}
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
