/* warrend: the daemon. Arguments in, exit code out; what it becomes is decided here: the
 * supervisor, or, executed by it, a worker process or a checking child. Floor 4. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "ipc.h"
#include "supervisor.h"
#include "worker.h"

#define DEFAULT_CONFIG "/etc/warren/warren.cfg"

enum {
	ORPHAN_LIMIT_S = 15, /* longer than a worker needs to leave in order */
	OOM_RAISE = 100,
	OOM_RAISE_QUARANTINE = 300,
	OOM_MAX = 1000,
};

enum mode { MODE_RUN, MODE_TEST, MODE_WORKER, MODE_CHECK };

struct arguments {
	enum mode mode;
	const char *path;
	bool require_broker;
	/* MODE_WORKER */
	unsigned number, place, generation;
	bool quarantine;
};

static const char usage[] =
    "Usage: warrend [-c FILE] [--require-broker]\n"
    "       warrend -t [-c FILE]\n"
    "\n"
    "Runs tasks from RabbitMQ queues, in the foreground.\n"
    "\n"
    "  -c, --config FILE   the configuration (default " DEFAULT_CONFIG ")\n"
    "  -t, --test          check configuration and plugins, then exit\n"
    "      --require-broker\n"
    "                      exit with 69 when nothing consumes within workers.start_limit\n"
    "  -V, --version       print the version\n"
    "  -h, --help          print this\n"
    "\n"
    "Signals:\n"
    "  TERM, INT           finish what runs (at most workers.drain_limit), then exit;\n"
    "                      a second one shortens the wait to 5 seconds\n"
    "  QUIT                give back what runs and exit\n"
    "  HUP                 reload configuration and plugins; a bad one is refused\n"
    "\n"
    "Examples:\n"
    "  warrend -t -c warren.cfg        is this configuration fine?\n"
    "  warrend -c warren.cfg           run; Ctrl-C drains and ends\n"
    "  kill -HUP $(pidof -s warrend)   reload\n"
    "\n"
    "See warrend(8), warren.cfg(5).\n";

/* ---- what every process of ours begins with ---- */

/*
 * Before anything else: a signal that comes in the first millisecond waits until somebody reads it.
 * The signals of faults stay open, so that a crash is a crash.
 */
static void block_signals(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP };
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		sigdelset(&set, faults[i]);
	sigprocmask(SIG_SETMASK, &set, NULL);
	/* whoever started us may ignore some; without SIGCHLD children cannot be waited for */
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
}

/* A descriptor that we open must never become 0, 1 or 2, where others would write to it. */
static bool open_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* ---- processes that the supervisor executes ---- */

/* What ps and top show: the kernel reads the arguments from our own memory. */
static void set_title(int argc, char **argv, const char *title)
{
	size_t room = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]);
	size_t len = strlen(title) < room ? strlen(title) : room;

	memset(argv[0], 0, room);
	memcpy(argv[0], title, len);
}

/* By hand there is nothing behind the descriptors that a child expects. */
static bool was_handed_over(void)
{
	return fcntl(CHILD_IPC, F_SETFD, FD_CLOEXEC) == 0 && fcntl(CHILD_CONF, F_GET_SEALS) > 0;
}

/* Says the first error, and how many there are, in the one message that a refusal is. */
static int refuse(struct conf_errors *errors)
{
	const struct conf_error *first = errors->list;
	int code = conf_errors_code(errors);
	char *text = errors->n ? xasprintf("%s:%u: %s", first->file, first->line, first->text)
			       : xstrdup("out of memory");

	(void)ipc_send(CHILD_IPC, IPC_REFUSED, (int64_t)errors->n, text);
	free(text);
	conf_errors_free(errors);
	return code;
}

/* Where memory runs out, the quarantine goes before a worker, and a worker before the supervisor
 * that would replace it. */
static void raise_oom_score(long by)
{
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char text[32] = "";
	long score;

	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0) {
		score = strtol(text, NULL, 10) + by;
		snprintf(text, sizeof(text), "%ld", score < OOM_MAX ? score : OOM_MAX);
		if (pwrite(fd, text, strlen(text), 0) < 0)
			log_event(LOG_DEBUG, "oom-score.kept", L_STR("why", strerror(errno)));
	}
	close(fd);
}

static timer_t orphan_timer; /* fires SIGKILL, which nothing can block */
static pid_t parent;

static void on_parent_death(int signal)
{
	const struct itimerspec limit = { .it_value.tv_sec = ORPHAN_LIMIT_S };

	(void)signal;
	if (getppid() != parent) /* anybody else may send us this signal too, and means nothing */
		(void)timer_settime(orphan_timer, 0, &limit, NULL);
}

/*
 * An orphan reads the end of its socket, lets running jobs finish for a moment and leaves
 * (worker.c). If it does not, because it hangs somewhere, the kernel ends it. Until here it was
 * SIGKILL at once.
 */
static bool expect_parent_death(void)
{
	struct sigevent kill_us = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct sigaction action = { .sa_handler = on_parent_death, .sa_flags = SA_RESTART };
	sigset_t set;

	parent = getppid();
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	return timer_create(CLOCK_MONOTONIC, &kill_us, &orphan_timer) == 0 &&
	       sigaction(SIGTERM, &action, NULL) == 0 &&
	       sigprocmask(SIG_UNBLOCK, &set, NULL) == 0 && prctl(PR_SET_PDEATHSIG, SIGTERM) == 0;
}

static void show_role(const struct arguments *args, char *role, size_t size)
{
	if (args->quarantine)
		snprintf(role, size, "quarantine");
	else
		snprintf(role, size, "worker %u", args->number);
}

/* The operator may have changed how many threads a queue has (warren scale). Shared memory may hold
 * anything: what cannot be is no wish. */
static void heed_scale(struct conf *conf, struct score *score)
{
	uint32_t rows = 0;

	for (size_t i = 0; i < conf->n_queues; i++) {
		unsigned wish = atomic_load(&score_wish(score, (uint32_t)i)->threads);

		rows += (uint32_t)conf->queues[i].threads;
		if (wish < 1 || wish > CONF_THREADS_MAX ||
		    rows - (uint32_t)conf->queues[i].threads + wish > score_rows(score))
			continue;
		rows += wish - (uint32_t)conf->queues[i].threads;
		conf->queues[i].threads = (int)wish;
	}
}

static int run_worker(const struct arguments *args, const char *path)
{
	struct conf_errors errors = { 0 };
	struct worker_setup setup = {
		.number = args->number,
		.place = args->place,
		.generation = args->generation,
		.quarantine = args->quarantine,
		.supervisor = CHILD_IPC,
	};
	struct conf *conf;
	char role[32];
	int code;

	snprintf(role, sizeof(role), "warren:worker%u", args->number);
	(void)prctl(PR_SET_NAME, args->quarantine ? "warren:quarant" : role);
	show_role(args, role, sizeof(role));
	log_set_role(role);
	setup.score = score_open(CHILD_SCORE);
	close(CHILD_SCORE);
	if (!setup.score || args->place >= score_workers(setup.score) || !expect_parent_death())
		return EXIT_OS;
	setup.conf = conf = snapshot_read(path, &errors);
	if (!conf)
		return refuse(&errors);
	heed_scale(conf, setup.score);
	log_init(conf->log_level, conf->log_format);
	raise_oom_score(args->quarantine ? OOM_RAISE_QUARANTINE : OOM_RAISE);
	code = worker_main(&setup);
	conf_free(conf);
	score_close(setup.score);
	return code;
}

/* Ends without exit(): what plugins have registered to run there is none of the check's business.
 */
__attribute__((noreturn)) static void run_check(const char *path)
{
	struct conf_errors errors = { 0 };
	struct conf *conf;
	bool fine;

	(void)prctl(PR_SET_NAME, "warren:check");
	log_set_role("check");
	signal(SIGPIPE, SIG_IGN);
	conf = snapshot_read(path, &errors);
	fine = conf && worker_check(conf, &errors) && errors.n == 0 && !errors.shortage;
	conf_free(conf);
	if (fine)
		_exit(EXIT_OK);
	check_report(CHILD_IPC, &errors);
	_exit(conf_errors_code(&errors));
}

static int run_child(int argc, char **argv, const struct arguments *args)
{
	char *path = xstrdup(args->path); /* the title overwrites the arguments */
	char title[32] = "warren: check", role[24];
	int code = EXIT_USAGE;

	if (was_handed_over()) {
		show_role(args, role, sizeof(role));
		if (args->mode == MODE_WORKER)
			snprintf(title, sizeof(title), "warren: %s", role);
		set_title(argc, argv, title);
		if (args->mode == MODE_CHECK)
			run_check(path);
		code = run_worker(args, path);
	} else {
		fprintf(stderr, "warrend: --%s is for warrend itself\n",
		    args->mode == MODE_WORKER ? CHILD_WORKER_OPTION : CHILD_CHECK_OPTION);
	}
	free(path);
	return code;
}

/* ---- warrend -t ---- */

static void print_warnings(struct conf_errors *warnings)
{
	for (size_t i = 0; i < warnings->n; i++) {
		const struct conf_errors one = { .list = &warnings->list[i], .n = 1 };

		fputs("warning: ", stderr);
		conf_errors_print(&one, stderr);
	}
}

static int run_test(const char *path)
{
	struct conf_errors errors = { 0 }, warnings = { 0 };
	struct snapshot snapshot;
	bool fine = snapshot_take(&snapshot, path, &errors, &warnings);
	int code;

	if (fine)
		fine = check_run(path, &snapshot, &errors);
	print_warnings(&warnings);
	conf_errors_print(&errors, stderr);
	if (fine)
		printf("configuration %s is fine\n", path);
	code = fine ? EXIT_OK : conf_errors_code(&errors);
	snapshot_drop(&snapshot);
	conf_errors_free(&errors);
	conf_errors_free(&warnings);
	return code;
}

static void unblock_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* ---- arguments ---- */

/* Only the supervisor writes these. */
static unsigned read_number(const char *text)
{
	return (unsigned)strtoul(text, NULL, 10);
}

enum long_option {
	OPT_REQUIRE_BROKER = 256,
	OPT_WORKER,
	OPT_PLACE,
	OPT_GENERATION,
	OPT_QUARANTINE,
	OPT_CHECK,
};

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "test", no_argument, NULL, 't' },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ "require-broker", no_argument, NULL, OPT_REQUIRE_BROKER },
	{ CHILD_WORKER_OPTION, required_argument, NULL, OPT_WORKER },
	{ "place", required_argument, NULL, OPT_PLACE },
	{ "generation", required_argument, NULL, OPT_GENERATION },
	{ CHILD_QUARANTINE_OPTION, no_argument, NULL, OPT_QUARANTINE },
	{ CHILD_CHECK_OPTION, no_argument, NULL, OPT_CHECK },
	{ 0 },
};

/* -1: go on; otherwise the exit code of a program that is already done. */
static int take_option(struct arguments *args, int option)
{
	switch (option) {
	case 'c':
		args->path = optarg;
		return -1;
	case 't':
		args->mode = MODE_TEST;
		return -1;
	case OPT_REQUIRE_BROKER:
		args->require_broker = true;
		return -1;
	case OPT_WORKER:
		args->mode = MODE_WORKER;
		args->number = read_number(optarg);
		return -1;
	case OPT_PLACE:
		args->place = read_number(optarg);
		return -1;
	case OPT_QUARANTINE:
		args->quarantine = true;
		return -1;
	case OPT_GENERATION:
		args->generation = read_number(optarg);
		return -1;
	case OPT_CHECK:
		args->mode = MODE_CHECK;
		return -1;
	case 'V':
		puts("warrend " WARREN_VERSION);
		return EXIT_OK;
	case 'h':
		fputs(usage, stdout);
		return EXIT_OK;
	default:
		fputs("Try 'warrend --help'.\n", stderr);
		return EXIT_USAGE;
	}
}

static int read_arguments(int argc, char **argv, struct arguments *args)
{
	int option, code;

	while ((option = getopt_long(argc, argv, "c:tVh", options, NULL)) != -1)
		if ((code = take_option(args, option)) >= 0)
			return code;
	if (optind == argc)
		return -1;
	fprintf(stderr, "warrend: takes no argument '%s'\nTry 'warrend --help'.\n", argv[optind]);
	return EXIT_USAGE;
}

/* A full disk or a closed pipe must not look like success. */
static int finish(int code)
{
	return fflush(stdout) != 0 && code == EXIT_OK ? EXIT_OS : code;
}

int main(int argc, char **argv)
{
	struct arguments args = { .path = DEFAULT_CONFIG };
	struct supervisor_setup setup;
	int code;

	block_signals();
	if (!open_standard_descriptors())
		return EXIT_OS;
	log_init(LOG_INFO, LOG_LOGFMT);
	code = read_arguments(argc, argv, &args);
	if (code >= 0)
		return finish(code);
	if (args.mode == MODE_WORKER || args.mode == MODE_CHECK)
		return run_child(argc, argv, &args);
	log_set_role("supervisor");
	setup = (struct supervisor_setup){ args.path, args.require_broker };
	if (args.mode == MODE_RUN)
		return supervisor_run(&setup);
	unblock_signals();
	return finish(run_test(args.path));
}
