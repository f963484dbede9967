/*
 * A preloaded library that makes the n-th call of a system or library function fail, in the
 *processes and for the callers that a test chose: what memory, descriptors, processes, network and
 *disk do on a bad day.
 *
 *	LD_PRELOAD=.../faultpoint.so WARREN_FAULTS=/path/to/board warrend -c ...
 *
 * The board is a file of struct board, made by the test (faultpoint.py) and mapped by every process
 *that is started with the two variables. The test writes rules into it at any time, also while the
 *processes run, and reads from it how many calls matched and how many failed. So a loop over n = 1,
 *2, ... ends when a rule was not reached any more.
 *
 * A rule matches a call by
 *	roles     the process: supervisor, worker, quarantine or check, told by the command line
 *that the process was executed with; "forked" is the supervisor's copy between fork and exec;
 *"other" is any other program points    the kind of function, see the enum below callers   who
 *calls, by the return address: warrend itself, librabbitmq, libconfig, OpenSSL, or others (libc
 *	          itself, plugins)
 *	pid       one process alone; 0: any
 * and makes it fail with `error` as errno
 *	MODE_COUNT   never: the matching calls are only counted
 *	MODE_ONCE    the n-th time
 *	MODE_FROM    the n-th time and ever after
 *	MODE_EVERY   each n-th time
 * counted over all processes together. Besides, the board can set the wall clock back or ahead, and
 *no other clock. `where` tells the last call that failed, as an offset in its module, for
 *addr2line.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

/* faultpoint.py has the same lists. */
enum point {
	POINT_MEMORY,  /* malloc, calloc, realloc, aligned memory, strdup, strndup, asprintf,
			  realpath */
	POINT_FORK,    /* fork */
	POINT_THREAD,  /* pthread_create */
	POINT_SEND,    /* send, sendto, sendmsg; write and writev on a socket */
	POINT_RECV,    /* recv, recvfrom, recvmsg; read and readv on a socket */
	POINT_WRITE,   /* write, writev, pwrite elsewhere */
	POINT_READ,    /* read, readv, pread elsewhere */
	POINT_POLL,    /* poll, ppoll */
	POINT_EPOLL,   /* epoll_create1, epoll_ctl, epoll_wait */
	POINT_EVENTFD, /* eventfd */
	POINT_TIMER,   /* timerfd_create, timerfd_settime, timer_create */
	POINT_OPEN,    /* open, openat, fopen */
	POINT_SOCKET,  /* socket, socketpair */
	POINT_ACCEPT,  /* accept, accept4 */
	POINT_RENAME,  /* rename, renameat */
	POINT_FSYNC,   /* fsync, fdatasync */
	POINT_MMAP,    /* mmap */
	POINT_MEMFD,   /* memfd_create, ftruncate */
	POINT_CONNECT, /* connect */
	POINT_BIND,    /* bind, listen */
	POINT_PIPE,    /* pipe, pipe2 */
	POINT_DUP,     /* dup2; fcntl with F_DUPFD */
	POINT_RESOLVE, /* getaddrinfo: error is the EAI_ number */
	POINT_SIGNAL,  /* signalfd */
	POINT_LOCKED,  /* fcntl with F_ADD_SEALS */
};

enum role { ROLE_SUPERVISOR, ROLE_WORKER, ROLE_QUARANTINE, ROLE_CHECK, ROLE_FORKED, ROLE_OTHER };
enum caller { CALLER_WARREND, CALLER_RABBITMQ, CALLER_LIBCONFIG, CALLER_OPENSSL, CALLER_OTHER };
enum mode { MODE_COUNT, MODE_ONCE, MODE_FROM, MODE_EVERY };

struct rule {
	atomic_uint active;
	uint32_t roles, callers, mode, error;
	int32_t pid;
	uint64_t points;
	uint64_t nth;
	atomic_uint_fast64_t seen, failed;
	_Atomic uint64_t where;
	_Atomic int32_t failed_pid;
	_Atomic uint32_t failed_point;
};

enum { RULES = 8 };
#define BOARD_MAGIC UINT64_C(0x31746c7561666e77) /* "wnfault1" */

struct board {
	uint64_t magic;
	atomic_int_fast64_t wall_shift_ns; /* how far the wall clock is off */
	struct rule rules[RULES];
};

static struct board *board; /* NULL: nothing ever fails */
static enum role role = ROLE_OTHER;

/* ---- who calls ---- */

enum { MODULES_MAX = 64 };

static struct module {
	uintptr_t low, high, base;
	enum caller caller;
} modules[MODULES_MAX];
static size_t n_modules;

static enum caller caller_of_name(const char *name)
{
	if (name[0] == '\0')
		return CALLER_WARREND;
	if (strstr(name, "librabbitmq"))
		return CALLER_RABBITMQ;
	if (strstr(name, "libconfig"))
		return CALLER_LIBCONFIG;
	if (strstr(name, "libssl") || strstr(name, "libcrypto"))
		return CALLER_OPENSSL;
	return CALLER_OTHER;
}

static int note_module(struct dl_phdr_info *info, size_t size, void *unused)
{
	enum caller caller = caller_of_name(info->dlpi_name);
	(void)size;
	(void)unused;
	for (int i = 0; i < info->dlpi_phnum && caller != CALLER_OTHER; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t low = info->dlpi_addr + p->p_vaddr;
		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && n_modules < MODULES_MAX)
			modules[n_modules++] =
			    (struct module){ low, low + p->p_memsz, info->dlpi_addr, caller };
	}
	return 0;
}

static enum caller caller_of(uintptr_t address, uint64_t *offset)
{
	*offset = address;
	for (size_t i = 0; i < n_modules; i++)
		if (address >= modules[i].low && address < modules[i].high) {
			*offset = address - modules[i].base;
			return modules[i].caller;
		}
	return CALLER_OTHER;
}

/* ---- rules ---- */

static bool is_due(struct rule *rule)
{
	uint64_t count = atomic_fetch_add(&rule->seen, 1) + 1;
	switch ((enum mode)rule->mode) {
	case MODE_ONCE:
		return count == rule->nth;
	case MODE_FROM:
		return count >= rule->nth;
	case MODE_EVERY:
		return count % rule->nth == 0;
	case MODE_COUNT:
		break;
	}
	return false;
}

static bool applies(const struct rule *rule, enum point point, enum caller caller)
{
	return (rule->points >> point & 1) && (rule->roles >> role & 1) &&
	       (rule->callers >> caller & 1) && (rule->pid == 0 || rule->pid == (int32_t)getpid());
}

/* The errno with which this call is to fail, 0: it is let through. */
static int fault(enum point point, const void *return_address)
{
	uint64_t offset;
	int error = 0;
	if (!board)
		return 0;
	for (size_t i = 0; i < RULES; i++) {
		struct rule *rule = &board->rules[i];
		if (!atomic_load(&rule->active) || !(rule->points >> point & 1))
			continue;
		enum caller caller = caller_of((uintptr_t)return_address, &offset);
		if (!applies(rule, point, caller) || !is_due(rule))
			continue;
		atomic_store(&rule->where, offset);
		atomic_store(&rule->failed_pid, (int32_t)getpid());
		atomic_store(&rule->failed_point, (uint32_t)point);
		atomic_fetch_add(&rule->failed, 1);
		error = (int)rule->error;
	}
	return error;
}

/* True where the call is to fail; errno says why. */
static bool fails(enum point point, const void *return_address)
{
	int saved = errno, error = fault(point, return_address);
	errno = error ? error : saved;
	return error != 0;
}

/* ---- the real functions ---- */

/* Memory for the dynamic linker while it looks for the real malloc. */
static char early[16384];
static size_t early_used;
/* Each thread's own. Volatile, because dlsym is declared as never calling us back, and does. */
static __thread volatile bool resolving __attribute__((tls_model("initial-exec")));

static void *early_alloc(size_t size)
{
	size_t room = (size + 15) & ~(size_t)15;
	if (room > sizeof(early) - early_used)
		abort();
	early_used += room;
	return early + early_used - room; /* never given out twice, hence zero */
}

static bool is_early(const void *p)
{
	return (uintptr_t)p >= (uintptr_t)early && (uintptr_t)p < (uintptr_t)early + sizeof(early);
}

static void *find(const char *name)
{
	bool outer = resolving;
	resolving = true;
	void *found = dlsym(RTLD_NEXT, name);
	resolving = outer;
	if (!found)
		abort();
	return found;
}

/* ISO C knows no cast from a pointer to data to one to code. */
#define REAL(name)                                                                                 \
	static __typeof__(&name) real;                                                             \
	if (!real) {                                                                               \
		void *found = find(#name);                                                         \
		memcpy(&real, &found, sizeof(real));                                               \
	}

/* Those that fail with -1 are all alike. */
#define WRAP(type, point, failure, name, parameters, arguments)                                    \
	EXPORT type name parameters                                                                \
	{                                                                                          \
		REAL(name)                                                                         \
		if (fails((point), CALLER))                                                        \
			return failure;                                                            \
		return real arguments;                                                             \
	}

/* ---- memory ---- */

EXPORT void *malloc(size_t size)
{
	if (resolving)
		return early_alloc(size);
	REAL(malloc)
	return fails(POINT_MEMORY, CALLER) ? NULL : real(size);
}

EXPORT void *calloc(size_t n, size_t size)
{
	if (resolving)
		return early_alloc(n * size);
	REAL(calloc)
	return fails(POINT_MEMORY, CALLER) ? NULL : real(n, size);
}

EXPORT void free(void *p)
{
	if (resolving || is_early(p))
		return;
	REAL(free)
	real(p);
}

EXPORT void *realloc(void *p, size_t size)
{
	REAL(realloc)
	if (fails(POINT_MEMORY, CALLER))
		return NULL;
	if (!is_early(p))
		return real(p, size);
	void *moved = malloc(size);
	size_t most = (size_t)(early + sizeof(early) - (char *)p);
	return moved ? memcpy(moved, p, size < most ? size : most) : NULL;
}

EXPORT int posix_memalign(void **p, size_t alignment, size_t size)
{
	REAL(posix_memalign)
	int error = fault(POINT_MEMORY, CALLER);
	return error ? error : real(p, alignment, size);
}

EXPORT int vasprintf(char **out, const char *fmt, va_list args)
{
	REAL(vasprintf)
	return fails(POINT_MEMORY, CALLER) ? -1 : real(out, fmt, args);
}

EXPORT int asprintf(char **out, const char *fmt, ...)
{
	REAL(vasprintf)
	if (fails(POINT_MEMORY, CALLER))
		return -1;
	va_list args;
	va_start(args, fmt);
	int len = real(out, fmt, args);
	va_end(args);
	return len;
}

/* What _FORTIFY_SOURCE makes of some functions. */
int __vasprintf_chk(char **out, int flag, const char *fmt, va_list args);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags);
ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
char *__realpath_chk(const char *path, char *out, size_t room);

WRAP(void *, POINT_MEMORY, NULL, aligned_alloc, (size_t alignment, size_t size), (alignment, size))
WRAP(char *, POINT_MEMORY, NULL, strdup, (const char *s), (s))
WRAP(char *, POINT_MEMORY, NULL, strndup, (const char *s, size_t n), (s, n))
WRAP(char *, POINT_MEMORY, NULL, getcwd, (char *buf, size_t size), (buf, size))
WRAP(char *, POINT_MEMORY, NULL, realpath, (const char *path, char *out), (path, out))
WRAP(char *, POINT_MEMORY, NULL, __realpath_chk, (const char *path, char *out, size_t room),
    (path, out, room))
WRAP(int, POINT_MEMORY, -1, __vasprintf_chk, (char **out, int flag, const char *fmt, va_list args),
    (out, flag, fmt, args))

/* ---- processes and threads ---- */

EXPORT pid_t fork(void)
{
	REAL(fork)
	if (fails(POINT_FORK, CALLER))
		return -1;
	pid_t pid = real();
	if (pid == 0)
		role = ROLE_FORKED;
	return pid;
}

EXPORT int pthread_create(
    pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	REAL(pthread_create)
	int error = fault(POINT_THREAD, CALLER);
	return error ? error : real(thread, attr, run, arg);
}

/* ---- bytes in and out ---- */

static bool is_socket(int fd)
{
	struct stat st;
	int saved = errno;
	bool yes = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	errno = saved;
	return yes;
}

static enum point out_of(int fd)
{
	return board && is_socket(fd) ? POINT_SEND : POINT_WRITE;
}

static enum point into(int fd)
{
	return board && is_socket(fd) ? POINT_RECV : POINT_READ;
}

WRAP(ssize_t, POINT_SEND, -1, send, (int fd, const void *buf, size_t len, int flags),
    (fd, buf, len, flags))
WRAP(ssize_t, POINT_SEND, -1, sendmsg, (int fd, const struct msghdr *msg, int flags),
    (fd, msg, flags))
WRAP(ssize_t, POINT_SEND, -1, sendto,
    (int fd, const void *buf, size_t len, int flags, const struct sockaddr *to, socklen_t to_len),
    (fd, buf, len, flags, to, to_len))
WRAP(ssize_t, POINT_RECV, -1, recv, (int fd, void *buf, size_t len, int flags),
    (fd, buf, len, flags))
WRAP(ssize_t, POINT_RECV, -1, __recv_chk, (int fd, void *buf, size_t len, size_t room, int flags),
    (fd, buf, len, room, flags))
WRAP(ssize_t, POINT_RECV, -1, recvmsg, (int fd, struct msghdr *msg, int flags), (fd, msg, flags))
WRAP(ssize_t, POINT_RECV, -1, recvfrom,
    (int fd, void *buf, size_t len, int flags, struct sockaddr *from, socklen_t *from_len),
    (fd, buf, len, flags, from, from_len))
WRAP(ssize_t, out_of(fd), -1, write, (int fd, const void *buf, size_t len), (fd, buf, len))
WRAP(ssize_t, out_of(fd), -1, writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
WRAP(ssize_t, into(fd), -1, read, (int fd, void *buf, size_t len), (fd, buf, len))
WRAP(ssize_t, into(fd), -1, __read_chk, (int fd, void *buf, size_t len, size_t room),
    (fd, buf, len, room))
WRAP(ssize_t, into(fd), -1, readv, (int fd, const struct iovec *parts, int n), (fd, parts, n))
WRAP(ssize_t, POINT_WRITE, -1, pwrite, (int fd, const void *buf, size_t len, off_t at),
    (fd, buf, len, at))
WRAP(ssize_t, POINT_READ, -1, pread, (int fd, void *buf, size_t len, off_t at), (fd, buf, len, at))

/* ---- waiting ---- */

WRAP(int, POINT_POLL, -1, poll, (struct pollfd * fds, nfds_t n, int timeout), (fds, n, timeout))
WRAP(int, POINT_POLL, -1, __poll_chk, (struct pollfd * fds, nfds_t n, int timeout, size_t room),
    (fds, n, timeout, room))
WRAP(int, POINT_POLL, -1, ppoll,
    (struct pollfd * fds, nfds_t n, const struct timespec *timeout, const sigset_t *set),
    (fds, n, timeout, set))
WRAP(int, POINT_EPOLL, -1, epoll_create1, (int flags), (flags))
WRAP(int, POINT_EPOLL, -1, epoll_ctl, (int ep, int how, int fd, struct epoll_event *event),
    (ep, how, fd, event))
WRAP(int, POINT_EPOLL, -1, epoll_wait, (int ep, struct epoll_event *events, int n, int timeout),
    (ep, events, n, timeout))
WRAP(int, POINT_EVENTFD, -1, eventfd, (unsigned count, int flags), (count, flags))
WRAP(int, POINT_TIMER, -1, timerfd_create, (clockid_t clock, int flags), (clock, flags))
WRAP(int, POINT_TIMER, -1, timerfd_settime,
    (int fd, int flags, const struct itimerspec *to, struct itimerspec *from),
    (fd, flags, to, from))
WRAP(int, POINT_TIMER, -1, timer_create, (clockid_t clock, struct sigevent *event, timer_t *timer),
    (clock, event, timer))
WRAP(int, POINT_SIGNAL, -1, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags))

/* ---- the wall clock ---- */

enum { NS_PER_S = 1000000000 };

static void shift(struct timespec *at)
{
	int64_t ns = at->tv_nsec + atomic_load(&board->wall_shift_ns) % NS_PER_S;
	at->tv_sec += (time_t)(atomic_load(&board->wall_shift_ns) / NS_PER_S);
	at->tv_sec += ns < 0 ? -1 : ns >= NS_PER_S;
	at->tv_nsec = (long)((ns + NS_PER_S) % NS_PER_S);
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *at)
{
	REAL(clock_gettime)
	int result = real(clock, at);
	if (result == 0 && board && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		shift(at);
	return result;
}

EXPORT int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	*at = (struct timeval){ now.tv_sec, now.tv_nsec / 1000 };
	return 0;
}

EXPORT time_t time(time_t *at)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (at)
		*at = now.tv_sec;
	return now.tv_sec;
}

/* ---- descriptors ---- */

static mode_t mode_of(int flags, va_list args)
{
	bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	return creates ? (mode_t)va_arg(args, int) : 0;
}

#define WRAP_OPEN(name)                                                                            \
	EXPORT int name(const char *path, int flags, ...)                                          \
	{                                                                                          \
		REAL(name)                                                                         \
		if (fails(POINT_OPEN, CALLER))                                                     \
			return -1;                                                                 \
		va_list args;                                                                      \
		va_start(args, flags);                                                             \
		mode_t mode = mode_of(flags, args);                                                \
		va_end(args);                                                                      \
		return real(path, flags, mode);                                                    \
	}
WRAP_OPEN(open)
WRAP_OPEN(open64)

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	REAL(openat)
	if (fails(POINT_OPEN, CALLER))
		return -1;
	va_list args;
	va_start(args, flags);
	mode_t mode = mode_of(flags, args);
	va_end(args);
	return real(dir, path, flags, mode);
}

EXPORT int fcntl(int fd, int how, ...)
{
	REAL(fcntl)
	va_list args;
	va_start(args, how);
	void *arg = va_arg(args, void *); /* as libc itself does, whatever it is */
	va_end(args);
	if ((how == F_DUPFD || how == F_DUPFD_CLOEXEC) && fails(POINT_DUP, CALLER))
		return -1;
	if (how == F_ADD_SEALS && fails(POINT_LOCKED, CALLER))
		return -1;
	return real(fd, how, arg);
}

EXPORT void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	REAL(mmap)
	return fails(POINT_MMAP, CALLER) ? MAP_FAILED : real(at, len, prot, flags, fd, offset);
}

EXPORT int getaddrinfo(
    const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	REAL(getaddrinfo)
	int error = fault(POINT_RESOLVE, CALLER);
	return error ? -error : real(host, service, hints, found);
}

WRAP(int, POINT_OPEN, -1, __open_2, (const char *path, int flags), (path, flags))
WRAP(int, POINT_OPEN, -1, __open64_2, (const char *path, int flags), (path, flags))
WRAP(FILE *, POINT_OPEN, NULL, fopen, (const char *path, const char *mode), (path, mode))
WRAP(int, POINT_SOCKET, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, POINT_SOCKET, -1, socketpair, (int domain, int type, int protocol, int fds[2]),
    (domain, type, protocol, fds))
WRAP(int, POINT_CONNECT, -1, connect, (int fd, const struct sockaddr *to, socklen_t len),
    (fd, to, len))
WRAP(int, POINT_BIND, -1, bind, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len))
WRAP(int, POINT_BIND, -1, listen, (int fd, int backlog), (fd, backlog))
WRAP(
    int, POINT_ACCEPT, -1, accept, (int fd, struct sockaddr *from, socklen_t *len), (fd, from, len))
WRAP(int, POINT_ACCEPT, -1, accept4, (int fd, struct sockaddr *from, socklen_t *len, int flags),
    (fd, from, len, flags))
WRAP(int, POINT_RENAME, -1, rename, (const char *from, const char *to), (from, to))
WRAP(int, POINT_RENAME, -1, renameat, (int from_dir, const char *from, int to_dir, const char *to),
    (from_dir, from, to_dir, to))
WRAP(int, POINT_FSYNC, -1, fsync, (int fd), (fd))
WRAP(int, POINT_FSYNC, -1, fdatasync, (int fd), (fd))
WRAP(int, POINT_MEMFD, -1, memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP(int, POINT_MEMFD, -1, ftruncate, (int fd, off_t len), (fd, len))
WRAP(int, POINT_PIPE, -1, pipe, (int fds[2]), (fds))
WRAP(int, POINT_PIPE, -1, pipe2, (int fds[2], int flags), (fds, flags))
WRAP(int, POINT_DUP, -1, dup2, (int from, int to), (from, to))

/* ---- the beginning of a process ---- */

static bool has_argument(const char *line, size_t len, const char *word)
{
	for (size_t at = 0; at < len; at += strlen(line + at) + 1)
		if (strcmp(line + at, word) == 0)
			return true;
	return false;
}

static enum role read_role(void)
{
	char line[4096] = "";
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (fd >= 0)
		close(fd);
	const char *slash = strrchr(line, '/'), *name = slash ? slash + 1 : line;
	if (len <= 0 || strcmp(name, "warrend") != 0)
		return ROLE_OTHER;
	if (has_argument(line, (size_t)len, "--quarantine"))
		return ROLE_QUARANTINE;
	if (has_argument(line, (size_t)len, "--worker"))
		return ROLE_WORKER;
	return has_argument(line, (size_t)len, "--check-plugins") ? ROLE_CHECK : ROLE_SUPERVISOR;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("WARREN_FAULTS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	struct board *map = mmap(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED || map->magic != BOARD_MAGIC)
		return;
	role = read_role();
	(void)dl_iterate_phdr(note_module, NULL);
	board = map;
}
