/* Looks at the running jobs a few times a second, so that starting one costs nothing. */
#include "overseer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "broker.h"
#include "clock.h"

enum {
	LOOK_MS = 100,
	/* What has become of a run, in the lowest bits of a grip's word. */
	FATE_NONE = 0,
	FATE_RUNNING = 1,
	FATE_GIVEN_UP = 2,
	FATE_LATE = 3, /* it returned after it was given up, or took its thread with it */
	FATE_BITS = 3,
	RUN = 4, /* the number of the run counts from here */
};

struct overseer {
	struct grip *grips;
	unsigned n;
	const struct overseer_ops *ops;
	void *owner;
	pthread_t thread;
	bool runs;
	int stop_fd;
};

/* ---- the grip ---- */

void grip_take(struct grip *grip, struct warren_job *job, int64_t limit_ns, int64_t kill_ns)
{
	uint64_t word = atomic_load_explicit(&grip->word, memory_order_relaxed);

	CHECK((word & FATE_BITS) == FATE_NONE);
	grip->job = job;
	atomic_store_explicit(&grip->limit_ns, limit_ns, memory_order_relaxed);
	atomic_store_explicit(&grip->kill_ns, kill_ns, memory_order_relaxed);
	atomic_store_explicit(&grip->word, word + RUN + FATE_RUNNING, memory_order_release);
}

/* From running to `fate`, unless it was given up: then it is late. */
static bool end_run(struct grip *grip, unsigned fate)
{
	uint64_t word = atomic_load_explicit(&grip->word, memory_order_relaxed);
	uint64_t run = word & ~(uint64_t)FATE_BITS, running = run + FATE_RUNNING;

	if (atomic_compare_exchange_strong(&grip->word, &running, run + fate))
		return true;
	atomic_store(&grip->word, run + FATE_LATE);
	return false;
}

bool grip_drop(struct grip *grip)
{
	return end_run(grip, FATE_NONE);
}

bool grip_lose(struct grip *grip)
{
	return end_run(grip, FATE_LATE);
}

static bool tell(struct grip *grip, uint64_t word)
{
	uint64_t run = word & ~(uint64_t)FATE_BITS;

	return atomic_exchange(&grip->told, run) != run;
}

bool grip_tell(struct grip *grip)
{
	return tell(grip, atomic_load(&grip->word));
}

bool grip_is_stuck(const struct grip *grip)
{
	return (atomic_load(&grip->word) & FATE_BITS) == FATE_GIVEN_UP;
}

/* ---- the thread ---- */

/* The limits are those of the run that `word` names only if the word is still the same after they
 * were read: for give-up the exchange sees to that. */
static void look_at(struct overseer *o, unsigned number, int64_t now_ns)
{
	struct grip *grip = &o->grips[number];
	uint64_t word = atomic_load_explicit(&grip->word, memory_order_acquire);

	if ((word & FATE_BITS) != FATE_RUNNING)
		return;
	int64_t limit_ns = atomic_load_explicit(&grip->limit_ns, memory_order_relaxed);
	int64_t kill_ns = atomic_load_explicit(&grip->kill_ns, memory_order_relaxed);
	if (now_ns >= limit_ns && atomic_load(&grip->word) == word && tell(grip, word))
		o->ops->late(o->owner, number);
	if (now_ns >= kill_ns &&
	    atomic_compare_exchange_strong(&grip->word, &word, word - FATE_RUNNING + FATE_GIVEN_UP))
		o->ops->give_up(o->owner, number, grip->job);
}

static void *overseer_main(void *arg)
{
	struct overseer *o = arg;
	struct pollfd stop = { .fd = o->stop_fd, .events = POLLIN };

	while (poll(&stop, 1, LOOK_MS) <= 0) {
		int64_t now_ns = clock_mono_ns();

		for (unsigned i = 0; i < o->n; i++)
			look_at(o, i, now_ns);
	}
	return NULL;
}

/* ---- life ---- */

struct overseer *overseer_create(
    struct grip *grips, unsigned n, const struct overseer_ops *ops, void *owner)
{
	struct overseer *o = xcalloc(1, sizeof(*o));

	*o = (struct overseer){ .grips = grips, .n = n, .ops = ops, .owner = owner };
	o->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return o;
}

bool overseer_start(struct overseer *o)
{
	pthread_attr_t attr;
	int result;

	if (o->stop_fd < 0)
		return false;
	PTOK(pthread_attr_init(&attr));
	/* settling publishes, which reads the connection */
	PTOK(pthread_attr_setstacksize(&attr, BROKER_STACK_SIZE));
	result = pthread_create(&o->thread, &attr, overseer_main, o);
	PTOK(pthread_attr_destroy(&attr));
	if (result != 0) {
		errno = result;
		return false;
	}
	(void)pthread_setname_np(o->thread, "overseer");
	o->runs = true;
	return true;
}

void overseer_destroy(struct overseer *o)
{
	if (!o)
		return;
	if (o->runs) {
		CHECK(eventfd_write(o->stop_fd, 1) == 0);
		PTOK(pthread_join(o->thread, NULL));
	}
	if (o->stop_fd >= 0)
		close(o->stop_fd);
	free(o);
}
