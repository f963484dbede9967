/*
 * What a thread does that has crashed: mark its row, say where, die of the same signal.
 *
 * All of it runs in a signal handler, on a stack of its own, in a process whose memory may be
 * spoilt: it allocates nothing, takes no lock of ours, and a timer ends it where it hangs. Frames
 * are told as file and offset (`addr2line -e FILE OFFSET` names the line), since looking for names
 * could hang.
 */
#include "crash.h"

#include <errno.h>
#include <execinfo.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "log.h"
#include "plugin.h"

enum {
	SIGNAL_STACK = 64 * 1024,
	FRAMES_MAX = 48,
	MODULES_MAX = 256,
	LAST_WORDS_S = 5, /* longer than they take */
	NEAR_STACK = 64 * 1024,
};

/* A file that is mapped: where its code lies. */
struct module {
	uintptr_t base, low, high;
	const char *name;
};

static struct {
	struct score *score;
	pid_t pid; /* a child that a plugin has forked says nothing in our name */
	char program[PATH_MAX];
	struct module modules[MODULES_MAX];
	size_t n_modules;
	timer_t limit; /* fires SIGKILL */
	bool has_limit;
	atomic_bool may_exit;
} crash;

static _Thread_local struct {
	struct score_row *row;
	char *stack; /* of signals, with a guard page below */
	size_t stack_size;
	uintptr_t low; /* end of its ordinary stack */
} self;

/* ---- prepared before anything happens ---- */

static int note_module(struct dl_phdr_info *info, size_t size, void *data)
{
	struct module *m = &crash.modules[crash.n_modules];

	(void)size;
	(void)data;
	if (crash.n_modules == MODULES_MAX)
		return 1;
	*m = (struct module){ .base = info->dlpi_addr,
		.low = UINTPTR_MAX,
		.name = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : crash.program };
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t low = info->dlpi_addr + p->p_vaddr;

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
			continue;
		m->low = low < m->low ? low : m->low;
		m->high = low + p->p_memsz > m->high ? low + p->p_memsz : m->high;
	}
	crash.n_modules++;
	return 0;
}

/* ---- last words ---- */

static const struct module *module_of(uintptr_t address)
{
	for (size_t i = 0; i < crash.n_modules; i++)
		if (address >= crash.modules[i].low && address < crash.modules[i].high)
			return &crash.modules[i];
	return NULL;
}

static void log_frame(int number, uintptr_t address)
{
	const struct module *m = module_of(address);
	char offset[32];

	(void)snprintf(
	    offset, sizeof(offset), "0x%lx", (unsigned long)(m ? address - m->base : address));
	log_event(LOG_ERROR, "crash.frame", L_INT("n", number), L_STR("file", m ? m->name : "?"),
	    L_STR("offset", offset));
}

static uintptr_t fault_place(const void *context)
{
#if defined(__x86_64__)
	const ucontext_t *u = context;

	return (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	const ucontext_t *u = context;

	return (uintptr_t)u->uc_mcontext.pc;
#else
	(void)context;
	return 0;
#endif
}

/* From the frame that faulted on, which is told before the search for the others, which may fail;
 * those of the handler above it tell nothing. */
static void log_frames(uintptr_t place)
{
	void *frames[FRAMES_MAX];
	int n, first = 0;

	if (place)
		log_frame(0, place);
	n = backtrace(frames, FRAMES_MAX);
	for (int i = 0; i < n && first == 0; i++)
		if ((uintptr_t)frames[i] == place)
			first = i + 1;
	for (int i = first; i < n; i++)
		log_frame(i - first + (place != 0), (uintptr_t)frames[i]);
}

static bool near_stack_end(uintptr_t address)
{
	return self.low && address < self.low + NEAR_STACK && address + NEAR_STACK > self.low;
}

static void log_crash(int signal, const siginfo_t *info)
{
	bool kernel = info->si_code > 0;
	struct score_job job;
	bool has_job = self.row && score_read_job(self.row, &job);
	char address[32] = "";

	if (kernel)
		(void)snprintf(
		    address, sizeof(address), "0x%lx", (unsigned long)(uintptr_t)info->si_addr);
	log_event(LOG_ERROR, "worker.crashed", L_STR("signal", suspect_signal_name(signal)),
	    L_OPT("address", address), L_OPT("job", has_job ? job.id : NULL),
	    L_OPT("task", has_job ? job.task : NULL), L_OPT("queue", has_job ? job.queue : NULL),
	    L_OPT("message_id", has_job ? job.message_id : NULL), L_OPT("while", plugins_at_work()),
	    L_OPT("hint",
		kernel && near_stack_end((uintptr_t)info->si_addr) ? "stack overflow?" : NULL));
}

/* A fault of the thread itself, or its abort(); not a signal that somebody sent, nor a fault in a
 * child. */
static bool is_own(const siginfo_t *info)
{
	if (getpid() != crash.pid)
		return false;
	return info->si_code > 0 || (info->si_code == SI_TKILL && info->si_pid == crash.pid);
}

/* What faulted faults again when the handler returns; these do not. */
static bool comes_again(int signal, const siginfo_t *info)
{
	return info->si_code > 0 && signal != SIGTRAP && signal != SIGSYS;
}

static void on_crash(int signal, siginfo_t *info, void *context)
{
	const struct itimerspec limit = { .it_value.tv_sec = LAST_WORDS_S }, none = { 0 };

	if (is_own(info)) {
		if (self.row)
			score_crash(crash.score, self.row, signal);
		if (crash.has_limit)
			(void)timer_settime(crash.limit, 0, &limit, NULL);
		log_crash(signal, info);
		log_frames(fault_place(context));
		if (crash.has_limit) /* a core may take its time */
			(void)timer_settime(crash.limit, 0, &none, NULL);
	}
	/* SA_RESETHAND has put the default in place; the core shows where it was. */
	if (!comes_again(signal, info))
		(void)syscall(SYS_tgkill, getpid(), gettid(), signal);
}

static void on_exit_called(void)
{
	struct score_job job;
	bool has_job = self.row && score_read_job(self.row, &job);

	if (getpid() != crash.pid || atomic_load(&crash.may_exit))
		return;
	if (self.row)
		score_crash(crash.score, self.row, SIGNAL_EXIT);
	log_event(LOG_ERROR, "plugin.exit_called", L_OPT("job", has_job ? job.id : NULL),
	    L_OPT("task", has_job ? job.task : NULL), L_OPT("queue", has_job ? job.queue : NULL),
	    L_OPT("message_id", has_job ? job.message_id : NULL),
	    L_OPT("while", plugins_at_work()));
	log_frames(0);
	_exit(EXIT_PLUGIN_EXIT);
}

/* ---- setting up ---- */

void crash_allow_exit(void)
{
	atomic_store(&crash.may_exit, true);
}

static void guard_exit(void)
{
	if (atexit(on_exit_called) != 0 || at_quick_exit(on_exit_called) != 0)
		log_event(LOG_WARN, "crash.no-exit-guard", L_STR("why", "out of memory"));
}

void crash_init(struct score *score)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP };
	struct sigevent kill_us = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct sigaction action = { .sa_sigaction = on_crash,
		.sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND) };
	void *frame[1];

	crash.score = score;
	crash.pid = getpid();
	if (readlink("/proc/self/exe", crash.program, sizeof(crash.program) - 1) < 0)
		crash.program[0] = '\0';
	(void)backtrace(frame, 1); /* the first call loads the unwinder, which allocates */
	crash.has_limit = timer_create(CLOCK_MONOTONIC, &kill_us, &crash.limit) == 0;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		CHECK(sigaction(faults[i], &action, NULL) == 0);
	crash_know_plugins();
}

void crash_know_plugins(void)
{
	crash.n_modules = 0;
	(void)dl_iterate_phdr(note_module, NULL);
	guard_exit();
}

static void note_stack(void)
{
	pthread_attr_t attr;
	void *low;
	size_t size;

	if (pthread_getattr_np(pthread_self(), &attr) != 0)
		return;
	if (pthread_attr_getstack(&attr, &low, &size) == 0)
		self.low = (uintptr_t)low;
	PTOK(pthread_attr_destroy(&attr));
}

bool crash_thread_start(struct score_row *row)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	stack_t stack = { .ss_size = SIGNAL_STACK };

	self.stack_size = SIGNAL_STACK + page;
	self.stack = mmap(NULL, self.stack_size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (self.stack == MAP_FAILED) {
		self.stack = NULL;
		return false;
	}
	(void)mprotect(self.stack, page, PROT_NONE);
	stack.ss_sp = self.stack + page;
	CHECK(sigaltstack(&stack, NULL) == 0);
	note_stack();
	self.row = row;
	return true;
}

void crash_thread_end(void)
{
	const stack_t none = { .ss_flags = SS_DISABLE };

	self.row = NULL;
	if (!self.stack)
		return;
	CHECK(sigaltstack(&none, NULL) == 0);
	munmap(self.stack, self.stack_size);
	self.stack = NULL;
}
