/* Lines that nobody can forge, that never block, and that say what was lost. */
#include "log.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "text.h"

enum { LINE_LIMIT = 4096 };

/* ---- A child that logs into a pipe ---- */

struct child {
	pid_t pid;
	int log;  /* what it writes on descriptor 2 */
	int word; /* a byte to and from it, to keep step */
};

/* log_init() reads where descriptor 2 leads once for a process, so each test has one of its own. */
static struct child begin(void (*run)(int word), const int log_ends[2])
{
	int words[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, words), 0);
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)dup2(log_ends[1], STDERR_FILENO);
		(void)close(log_ends[0]);
		(void)close(log_ends[1]);
		(void)close(words[0]);
		run(words[1]);
		_exit(0);
	}
	(void)close(log_ends[1]);
	(void)close(words[1]);
	return (struct child){ pid, log_ends[0], words[0] };
}

static struct child begin_pipe(void (*run)(int word))
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	return begin(run, ends);
}

static void say(int word)
{
	ck_assert_int_eq(write(word, "!", 1), 1);
}

static void await(int word)
{
	char byte;
	ck_assert_int_eq(read(word, &byte, 1), 1);
}

/* All that it logged until it ended, as text of its own memory. */
static char *finish(struct child child)
{
	size_t size = 1 << 20, len = 0;
	char *text = malloc(size);
	ck_assert_ptr_nonnull(text);
	for (ssize_t n; (n = read(child.log, text + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	text[len] = '\0';
	ck_assert_uint_eq(strlen(text), len); /* never a NUL */
	int status;
	ck_assert_int_eq(waitpid(child.pid, &status, 0), child.pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d: %s", status, text);
	(void)close(child.log);
	(void)close(child.word);
	return text;
}

static char *logged(void (*run)(int word))
{
	return finish(begin_pipe(run));
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;
	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

/* ---- JSON, read strictly enough to find a broken line ---- */

static const char *json_value(const char *p);

static const char *json_string(const char *p)
{
	if (!p || *p++ != '"')
		return NULL;
	while (*p != '"') {
		if ((unsigned char)*p < 0x20)
			return NULL;
		if (*p == '\\') {
			p++;
			if (*p == 'u' && strspn(p + 1, "0123456789abcdef") >= 4)
				p += 4;
			else if (*p == '\0' || !strchr("\"\\/bfnrt", *p))
				return NULL;
		}
		p++;
	}
	return p + 1;
}

static const char *json_number(const char *p)
{
	p += *p == '-';
	size_t whole = strspn(p, "0123456789");
	if (whole == 0 || (whole > 1 && *p == '0'))
		return NULL;
	p += whole;
	if (*p != '.')
		return p;
	size_t decimals = strspn(p + 1, "0123456789");
	return decimals ? p + 1 + decimals : NULL;
}

static const char *json_object(const char *p)
{
	if (*p != '{')
		return NULL;
	do {
		p = json_string(p + 1);
		if (!p || *p != ':')
			return NULL;
		p = json_value(p + 1);
	} while (p && *p == ',');
	return p && *p == '}' ? p + 1 : NULL;
}

static const char *json_value(const char *p)
{
	if (*p == '"')
		return json_string(p);
	if (*p == '{')
		return json_object(p);
	if (strncmp(p, "true", 4) == 0)
		return p + 4;
	if (strncmp(p, "false", 5) == 0)
		return p + 5;
	return json_number(p);
}

START_TEST(the_json_reader_is_strict)
{
	static const char *const wrong[] = { "{}", "{\"a\":01}", "{\"a\":-}", "{\"a\":\"\\x\"}",
		"{\"a\":\"\n\"}", "{\"a\":1,}", "{\"a\"}", "{\"a\":1.}", "{\"a\":\"\\u12g4\"}" };
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		ck_assert_msg(!json_object(wrong[i]), "%s", wrong[i]);
	ck_assert_str_eq(json_object("{\"a\":-1.5,\"b\":\"\\u00ff\\n\",\"c\":true}"), "");
}
END_TEST

static bool is_printable(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	return true;
}

/* Each line whole, not too long, valid UTF-8; and of its format. Returns how many. */
static unsigned check_lines(const char *text, bool json)
{
	unsigned n = 0;
	for (; *text; n++) {
		size_t len = strcspn(text, "\n");
		ck_assert_int_eq(text[len], '\n');
		ck_assert_uint_lt(len, LINE_LIMIT);
		ck_assert(text_is_utf8((struct bytes){ text, len }));
		ck_assert(is_printable(text, len));
		if (json)
			ck_assert_ptr_eq(json_object(text), text + len);
		else
			ck_assert_int_eq(strncmp(text, "time=", 5), 0);
		text += len + 1;
	}
	return n;
}

/* ---- Forms ---- */

static void log_all_kinds(void)
{
	log_event(LOG_INFO, "job.done", L_STR("task", "text.upper"), L_INT("attempt", 2),
	    L_NS("took", 31 * NS_PER_MS), L_BOOL("redelivered", false), L_STR("words", "two words"),
	    L_STR("empty", ""), L_OPT("nothing", ""), L_OPT("some", "thing"),
	    L_INT("min", INT64_MIN), L_NS("negative", -5 * NS_PER_MS), L_NS("long", 90 * NS_PER_S));
}

static void run_logfmt(int word)
{
	(void)word;
	log_init(LOG_INFO, LOG_LOGFMT);
	log_set_role("worker 0");
	log_all_kinds();
}

START_TEST(logfmt_has_fixed_forms)
{
	char *text = logged(run_logfmt);
	ck_assert_uint_eq(check_lines(text, false), 1);
	ck_assert_int_eq(text[5 + 10], 'T'); /* time=2024-01-01T00:00:00.000Z */
	ck_assert_str_eq(text + 5 + 24,
	    " level=info role=\"worker 0\" event=job.done task=text.upper attempt=2 took=31ms"
	    " redelivered=false words=\"two words\" empty=\"\" some=thing"
	    " min=-9223372036854775808 negative=0s long=90s\n");
	free(text);
}
END_TEST

static void run_json(int word)
{
	(void)word;
	log_init(LOG_INFO, LOG_JSON);
	log_all_kinds();
}

START_TEST(json_has_fixed_forms)
{
	char *text = logged(run_json);
	ck_assert_uint_eq(check_lines(text, true), 1);
	const char *rest = strchr(text, ',');
	ck_assert_ptr_nonnull(rest);
	ck_assert_str_eq(rest,
	    ",\"level\":\"info\",\"event\":\"job.done\",\"task\":\"text.upper\",\"attempt\":2,"
	    "\"took\":0.031000,\"redelivered\":false,\"words\":\"two words\",\"empty\":\"\","
	    "\"some\":\"thing\",\"min\":-9223372036854775808,\"negative\":0.000000,"
	    "\"long\":90.000000}\n");
	free(text);
}
END_TEST

static void run_levels(int word)
{
	(void)word;
	log_init(LOG_WARN, LOG_LOGFMT);
	log_event(LOG_INFO, "not.this", L_INT("n", 1));
	log_event(LOG_ERROR, "this.one", L_INT("n", 2));
	log_set_level(LOG_DEBUG);
	log_event(LOG_DEBUG, "this.too", L_INT("n", 3));
	log_init(LOG_ERROR, LOG_JSON); /* again, after a reload */
	log_event(LOG_WARN, "not.this", L_INT("n", 4));
	log_event(LOG_ERROR, "as.json", L_INT("n", 5));
}

START_TEST(levels_and_formats_change)
{
	char *text = logged(run_levels);
	ck_assert_uint_eq(count(text, "not.this"), 0);
	ck_assert_uint_eq(count(text, "level=error event=this.one n=2\n"), 1);
	ck_assert_uint_eq(count(text, "level=debug event=this.too n=3\n"), 1);
	ck_assert_uint_eq(count(text, "\"event\":\"as.json\",\"n\":5}\n"), 1);
	free(text);
}
END_TEST

/* ---- Hostile values (fault F7) ---- */

static const struct {
	const char *data;
	size_t len;
} hostile[] = {
#define H(s)                                                                                       \
	{                                                                                          \
		(s), sizeof(s) - 1                                                                 \
	}
	H("x\ntime=2024-01-01T00:00:00.000Z level=error event=forged"),
	H("x\r\nevent=forged"),
	H("\" event=forged x=\""),
	H("x event=forged"),
	H("event=forged"),
	H("x\",\"event\":\"forged"),
	H("\\"),
	H("\\\" event=forged"),
	H("\x1b[2J\x1b]0;forged\a"),
	H("\x9b"
	  "2J"),
	H("a\0event=forged"),
	H("\xC2\x85"
	  "event=forged"),
	H("\xE2\x80\xA8"
	  "event=forged"),
	H("\xE2\x80\xAE"
	  "degrof"),
	H("\xff\xfe\xC3"),
	H("\x7f"),
};

static void log_hostile(enum log_format format)
{
	log_init(LOG_INFO, format);
	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		struct bytes value = { hostile[i].data, hostile[i].len };
		log_event(LOG_INFO, "job.done", L_BYTES("job", value), L_INT("n", i));
	}
}

static void run_hostile_logfmt(int word)
{
	(void)word;
	log_hostile(LOG_LOGFMT);
}

static void run_hostile_json(int word)
{
	(void)word;
	log_hostile(LOG_JSON);
}

/* The line without what stands in quotes: there, no value may name a field. */
static void outside_quotes(const char *line, char *out)
{
	bool quoted = false;
	for (; *line != '\n'; line++) {
		if (*line == '\\' && quoted)
			line++;
		else if (*line == '"')
			quoted = !quoted;
		else if (!quoted)
			*out++ = *line;
	}
	*out = '\0';
	ck_assert(!quoted);
}

START_TEST(no_value_forges_a_line_or_field)
{
	char *text = logged(run_hostile_logfmt);
	ck_assert_uint_eq(check_lines(text, false), ARRAY_LEN(hostile));
	for (char *line = text; *line; line = strchr(line, '\n') + 1) {
		char bare[LINE_LIMIT];
		outside_quotes(line, bare);
		ck_assert_uint_eq(count(bare, "event="), 1);
		ck_assert_uint_eq(count(bare, "event=job.done job= n="), 1);
	}
	free(text);
}
END_TEST

START_TEST(no_value_breaks_json)
{
	char *text = logged(run_hostile_json);
	ck_assert_uint_eq(check_lines(text, true), ARRAY_LEN(hostile));
	ck_assert_uint_eq(count(text, "\"event\":"), ARRAY_LEN(hostile));
	free(text);
}
END_TEST

static void log_random(enum log_format format)
{
	log_init(LOG_INFO, format);
	srand(31);
	for (int i = 0; i < 200; i++) {
		char bytes[300];
		for (size_t k = 0; k < sizeof(bytes); k++)
			bytes[k] = (char)rand();
		struct bytes value = { bytes, (size_t)rand() % sizeof(bytes) };
		log_event(LOG_INFO, "job.done", L_BYTES("a", value), L_BYTES("b", value));
	}
}

static void run_random_logfmt(int word)
{
	(void)word;
	log_random(LOG_LOGFMT);
}

static void run_random_json(int word)
{
	(void)word;
	log_random(LOG_JSON);
}

START_TEST(random_bytes_stay_in_their_line)
{
	/* More than the pipe holds: what is dropped is reported, what arrives is whole. */
	char *text = logged(run_random_logfmt);
	ck_assert_uint_gt(check_lines(text, false), 50);
	free(text);
	text = logged(run_random_json);
	ck_assert_uint_gt(check_lines(text, true), 50);
	free(text);
}
END_TEST

/* ---- Limits ---- */

static char huge[64 * 1024];

static void log_long(enum log_format format)
{
	log_init(LOG_INFO, format);
	memset(huge, 'x', sizeof(huge));
	struct bytes all = { huge, sizeof(huge) }, most = { huge, 256 }, more = { huge, 257 };
	log_event(LOG_INFO, "one", L_BYTES("v", all), L_INT("after", 1));
	log_event(LOG_INFO, "two", L_BYTES("v", most), L_BYTES("w", more));
	struct log_field many[40];
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = L_BYTES("v", all);
	many[ARRAY_LEN(many) - 1] = L_INT("last", 7);
	log_write(LOG_INFO, "three", many, ARRAY_LEN(many));
}

static void run_long_logfmt(int word)
{
	(void)word;
	log_long(LOG_LOGFMT);
}

static void run_long_json(int word)
{
	(void)word;
	log_long(LOG_JSON);
}

START_TEST(fields_and_lines_have_their_limits)
{
	char *text = logged(run_long_logfmt);
	ck_assert_uint_eq(check_lines(text, false), 3);
	ck_assert_uint_eq(count(text, "x...\" after=1\n"), 1);
	ck_assert_uint_eq(count(text, "x w=\"x"), 1); /* 256 fit, and stand bare */
	for (const char *p = text; (p = strstr(p, "v=\"")); p++)
		ck_assert_uint_le(strcspn(p + 3, "\""), 256);
	/* Of too many fields the last ones that fit are kept, and the line says it is not all. */
	ck_assert_uint_eq(count(text, " last=7 cut=true\n"), 1);
	free(text);

	text = logged(run_long_json);
	ck_assert_uint_eq(check_lines(text, true), 3);
	ck_assert_uint_eq(count(text, ",\"last\":7,\"cut\":true}\n"), 1);
	free(text);
}
END_TEST

/* ---- A descriptor that does not take it ---- */

static void run_unread(int word)
{
	log_init(LOG_INFO, LOG_LOGFMT);
	int64_t start = clock_mono_ns();
	for (int i = 0; i < 20000; i++)
		log_event(LOG_INFO, "flood", L_INT("n", i));
	CHECK(clock_mono_ns() - start < 60 * NS_PER_S); /* it did not block */
	CHECK(log_dropped() > 0);
	say(word);
	await(word); /* the reader has made room */
	log_event(LOG_INFO, "after", L_INT("dropped", log_dropped()));
	log_event(LOG_INFO, "last", L_INT("n", 1));
}

/* Reads what stands in the pipe, until there is nothing for now. */
static void read_away(int fd, char *text, size_t size)
{
	size_t len = 0;
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	for (ssize_t n; (n = read(fd, text + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	text[len] = '\0';
	ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
}

static void check_drop_report(const char *first, const char *rest)
{
	unsigned arrived = check_lines(first, false);
	char want[100];
	(void)snprintf(want, sizeof(want), "event=log.dropped n=%u\n", 20000 - arrived);
	ck_assert_uint_eq(count(rest, want), 1);
	(void)snprintf(want, sizeof(want), "event=after dropped=%u\n", 20000 - arrived);
	ck_assert_uint_eq(count(rest, want), 1);
	ck_assert_uint_eq(check_lines(rest, false), 3); /* reported once */
}

START_TEST(what_nobody_reads_is_dropped_counted_and_reported)
{
	struct child child = begin_pipe(run_unread);
	static char first[1 << 20];
	await(child.word);
	read_away(child.log, first, sizeof(first));
	say(child.word);
	char *rest = finish(child);
	check_drop_report(first, rest);
	free(rest);
}
END_TEST

START_TEST(a_socket_is_treated_as_a_pipe_is)
{
	int ends[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	struct child child = begin(run_unread, ends);
	static char first[1 << 20];
	await(child.word);
	read_away(child.log, first, sizeof(first));
	say(child.word);
	char *rest = finish(child);
	check_drop_report(first, rest);
	free(rest);
}
END_TEST

static void run_reader_gone(int word)
{
	(void)signal(SIGPIPE, SIG_DFL);
	log_init(LOG_INFO, LOG_LOGFMT);
	await(word);
	for (int i = 0; i < 10; i++)
		log_event(LOG_INFO, "lost", L_INT("n", i));
	CHECK(log_dropped() == 10);
	say(word);
}

/* The log collector dies: the daemon must not. */
START_TEST(a_reader_that_is_gone_kills_nobody)
{
	struct child child = begin_pipe(run_reader_gone);
	(void)close(child.log);
	child.log = open("/dev/null", O_RDONLY);
	ck_assert_int_ge(child.log, 0);
	say(child.word);
	await(child.word);
	free(finish(child));
}
END_TEST

/* The flag O_NONBLOCK would be shared with whoever started us. */
START_TEST(the_callers_descriptor_stays_blocking)
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	int kept = dup(ends[1]);
	struct child child = begin(run_unread, ends);
	await(child.word);
	ck_assert_int_eq(fcntl(kept, F_GETFL) & O_NONBLOCK, 0);
	static char first[1 << 20];
	read_away(child.log, first, sizeof(first));
	say(child.word);
	(void)close(kept);
	free(finish(child));
}
END_TEST

static void limit_file(rlim_t size)
{
	struct rlimit limit;
	CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
	limit.rlim_cur = size;
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void run_full_disk(int word)
{
	(void)word;
	(void)signal(SIGXFSZ, SIG_IGN);
	int fd = memfd_create("log", MFD_CLOEXEC);
	int pipe_fd = dup(STDERR_FILENO);
	CHECK(fd >= 0 && pipe_fd >= 0);
	CHECK(dup2(fd, STDERR_FILENO) == STDERR_FILENO);
	log_init(LOG_INFO, LOG_LOGFMT);
	log_event(LOG_INFO, "whole", L_INT("n", 1));
	limit_file((rlim_t)lseek(fd, 0, SEEK_END) + 20);
	log_event(LOG_INFO, "torn", L_INT("n", 2));
	log_event(LOG_INFO, "lost", L_INT("n", 3));
	CHECK(log_dropped() == 2);
	limit_file(1 << 20);
	log_event(LOG_INFO, "again", L_INT("n", 4));
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	char text[4096];
	ssize_t len = read(fd, text, sizeof(text));
	CHECK(len > 0 && write(pipe_fd, text, (size_t)len) == len);
}

/* A line that went out in part does not swallow the next one. */
START_TEST(a_torn_line_is_ended_before_the_next)
{
	char *text = logged(run_full_disk);
	ck_assert_uint_eq(check_lines(text, false), 4);
	ck_assert_uint_eq(count(text, "event=whole n=1\n"), 1);
	ck_assert_uint_eq(count(text, "torn"), 0);
	ck_assert_uint_eq(count(text, "\ntime="), 3);
	ck_assert_uint_eq(count(text, "event=again n=4\n"), 1);
	ck_assert_uint_eq(count(text, "event=log.dropped n=2\n"), 1);
	free(text);
}
END_TEST

/* ---- Threads ---- */

enum { THREADS = 8, LINES = 300 };

static void *log_many(void *arg)
{
	for (int i = 0; i < LINES; i++) {
		log_event(LOG_INFO, "many", L_STR("thread", arg), L_INT("n", i));
		if (i == LINES / 2)
			log_init(LOG_INFO, LOG_LOGFMT);
	}
	return NULL;
}

static void run_threads(int word)
{
	(void)word;
	log_init(LOG_INFO, LOG_LOGFMT);
	static char names[THREADS][8];
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "t%d", i);
		PTOK(pthread_create(&threads[i], NULL, log_many, names[i]));
	}
	for (int i = 0; i < THREADS; i++)
		PTOK(pthread_join(threads[i], NULL));
	log_event(LOG_INFO, "end", L_INT("dropped", log_dropped()));
}

static void run_threads_unread(int word)
{
	run_threads(word);
	CHECK(log_dropped() > 0);
	say(word);
}

/* Room that one thread saw may be gone when it writes: even then it must not wait. */
START_TEST(many_threads_do_not_block_either)
{
	struct child child = begin_pipe(run_threads_unread);
	await(child.word); /* nobody has read a byte until here */
	char *text = finish(child);
	(void)check_lines(text, false);
	free(text);
}
END_TEST

/* Each line arrives whole, or is in the count. */
START_TEST(lines_of_many_threads_do_not_mix)
{
	char *text = logged(run_threads);
	unsigned lines = check_lines(text, false), many = count(text, "event=many thread=t");
	unsigned reports = count(text, "event=log.dropped"), dropped = 0;
	for (const char *p = text; (p = strstr(p, "event=log.dropped n=")); p++)
		dropped += (unsigned)strtoul(p + 20, NULL, 10);
	unsigned ends = count(text, "event=end");
	ck_assert_uint_eq(lines, many + reports + ends);
	if (ends == 1)
		ck_assert_uint_eq(many + dropped, THREADS * LINES);
	free(text);
}
END_TEST

/* ---- Complaints ---- */

/* The time of the next line is set back, as if it had passed. */
static bool complain_later(struct log_complaint *c, uint64_t *silent)
{
	c->next_ns = clock_mono_ns();
	return log_complain(c, silent);
}

START_TEST(complaints_thin_out)
{
	struct log_complaint c = { 0 };
	uint64_t silent = 99;
	ck_assert(log_complain(&c, &silent));
	ck_assert_uint_eq(silent, 0);
	for (int i = 0; i < 1000; i++)
		if (log_complain(&c, &silent))
			ck_abort_msg("complaint %d was written", i); /* within one second */
	ck_assert(complain_later(&c, &silent));
	ck_assert_uint_eq(silent, 1000);

	static const int64_t seconds[] = { 4, 8, 16, 32, 60, 60 };
	for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
		ck_assert(!log_complain(&c, &silent));
		ck_assert(complain_later(&c, &silent));
		ck_assert_uint_eq(silent, 1);
		ck_assert_int_eq(c.interval_ns, seconds[i] * NS_PER_S);
	}
}
END_TEST

START_TEST(healing_is_said_once)
{
	struct log_complaint c = { 0 };
	int64_t for_ns = -1;
	uint64_t silent;
	ck_assert(!log_healed(&c, &for_ns)); /* nothing to heal */
	ck_assert(log_complain(&c, &silent));
	c.since_ns -= 5 * NS_PER_S;
	ck_assert(log_healed(&c, &for_ns));
	ck_assert_int_ge(for_ns, 5 * NS_PER_S);
	ck_assert(!log_healed(&c, &for_ns));
	ck_assert(log_complain(&c, &silent)); /* and all begins anew */
	ck_assert_int_eq(c.interval_ns, NS_PER_S);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("log");
	tcase_add_test(t, the_json_reader_is_strict);
	tcase_add_test(t, logfmt_has_fixed_forms);
	tcase_add_test(t, json_has_fixed_forms);
	tcase_add_test(t, levels_and_formats_change);
	tcase_add_test(t, no_value_forges_a_line_or_field);
	tcase_add_test(t, no_value_breaks_json);
	tcase_add_test(t, random_bytes_stay_in_their_line);
	tcase_add_test(t, fields_and_lines_have_their_limits);
	tcase_add_test(t, what_nobody_reads_is_dropped_counted_and_reported);
	tcase_add_test(t, a_socket_is_treated_as_a_pipe_is);
	tcase_add_test(t, a_reader_that_is_gone_kills_nobody);
	tcase_add_test(t, the_callers_descriptor_stays_blocking);
	tcase_add_test(t, a_torn_line_is_ended_before_the_next);
	tcase_add_test(t, lines_of_many_threads_do_not_mix);
	tcase_add_test(t, many_threads_do_not_block_either);
	tcase_add_test(t, complaints_thin_out);
	tcase_add_test(t, healing_is_said_once);
	tcase_set_timeout(t, 60);

	Suite *suite = suite_create("log");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
