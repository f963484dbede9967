/* What the operator's commands share: safe words, the connection, answers and their exit codes. */
#include "cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "text.h"
#include "url.h"

#define DEFAULT_URL "amqp://guest:guest@localhost:5672/%2f"

static const char *command = "";

/* ---- words for people ---- */

void cmd_set_name(const char *name)
{
	command = name;
}

static bool stays(char c, bool lines)
{
	return c == '"' || c == '\\' || (lines && (c == '\n' || c == '\t'));
}

static void put_pieces(FILE *out, struct bytes text, size_t (*escape)(struct bytes, char *, size_t))
{
	char buf[4096];
	enum { AT_ONCE = (sizeof(buf) - 8) / 8 }; /* no character grows more than eightfold */
	for (size_t at = 0; at < text.len;) {
		size_t n = text.len - at < AT_ONCE ? text.len - at : AT_ONCE;
		/* Never cut a character: its later bytes are 10xxxxxx. */
		for (int back = 0; at + n < text.len && back < 3; back++, n--)
			if (((unsigned char)text.data[at + n] & 0xC0) != 0x80)
				break;
		struct bytes piece = { text.data + at, n };
		(void)fwrite(buf, 1, escape(piece, buf, sizeof(buf)), out);
		at += n;
	}
}

void cmd_put_text(FILE *out, struct bytes text, bool lines)
{
	for (size_t at = 0; at < text.len;) {
		size_t n = 0;
		while (at + n < text.len && !stays(text.data[at + n], lines))
			n++;
		put_pieces(out, (struct bytes){ text.data + at, n }, text_escape);
		at += n;
		if (at < text.len)
			(void)putc(text.data[at++], out);
	}
}

void cmd_put_json(FILE *out, struct bytes text)
{
	(void)putc('"', out);
	put_pieces(out, text, text_escape_json);
	(void)putc('"', out);
}

/* ---- progress ---- */

static struct {
	bool on, drawn;
	int64_t started_ns, due_ns;
} progress;

static void progress_wipe(void)
{
	if (progress.drawn)
		(void)fputs("\r\033[K", stderr);
	progress.drawn = false;
}

void cmd_progress_start(void)
{
	progress.on = isatty(STDERR_FILENO) == 1;
	progress.started_ns = clock_mono_ns();
	progress.due_ns = progress.started_ns + NS_PER_S / 2;
}

static void progress_draw(uint64_t done, uint64_t total, double seconds)
{
	enum { WIDTH = 30 };
	char bar[WIDTH + 1];
	double rate = (double)done / seconds;
	progress_wipe();
	progress.drawn = true;
	if (total == 0) {
		(void)fprintf(stderr, "%" PRIu64 "  %.0f/s", done, rate);
		return;
	}
	size_t full = (size_t)((double)WIDTH * (double)done / (double)total);
	memset(bar, '.', WIDTH);
	memset(bar, '#', full < WIDTH ? full : WIDTH);
	bar[WIDTH] = '\0';
	(void)fprintf(stderr, "[%s] %" PRIu64 " of %" PRIu64 "  %.0f/s", bar, done, total, rate);
}

void cmd_progress(uint64_t done, uint64_t total)
{
	if (!progress.on)
		return;
	int64_t now = clock_mono_ns();
	if (now < progress.due_ns)
		return;
	progress.due_ns = now + NS_PER_S / 10;
	progress_draw(done, total, (double)(now - progress.started_ns) / NS_PER_S);
}

void cmd_progress_end(void)
{
	progress_wipe();
	progress.on = false;
}

/* ---- complaints ---- */

static void PRINTF_LIKE(1, 0) say(const char *fmt, va_list args)
{
	char text[2048];
	(void)vsnprintf(text, sizeof(text), fmt, args);
	progress_wipe();
	(void)fprintf(stderr, "warren %s: ", command);
	cmd_put_text(stderr, bytes_of(text), false);
	(void)putc('\n', stderr);
}

void cmd_say(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(fmt, args);
	va_end(args);
}

int cmd_usage(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(fmt, args);
	va_end(args);
	(void)fprintf(stderr, "Try 'warren %s --help'.\n", command);
	return EXIT_USAGE;
}

bool cmd_read_duration(const char *option, const char *text, int64_t *ns)
{
	if (text_duration_ns(text, ns))
		return true;
	(void)cmd_usage("%s: '%s' is not a duration such as 500ms, 10s, 5m or 2h", option, text);
	return false;
}

bool cmd_read_count(const char *option, const char *text, int64_t low, int64_t high, int64_t *n)
{
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	*n = value;
	if (errno == 0 && end != text && *end == '\0' && value >= low && value <= high)
		return true;
	(void)cmd_usage("%s: '%s' is not a whole number from %lld to %lld", option, text,
	    (long long)low, (long long)high);
	return false;
}

bool cmd_check_name(const char *option, const char *text)
{
	if (strlen(text) <= BROKER_NAME_MAX)
		return true;
	(void)cmd_usage("%s has %zu bytes; AMQP allows %d", option, strlen(text), BROKER_NAME_MAX);
	return false;
}

/* ---- signals ---- */

static volatile sig_atomic_t stopped;

static void on_stop(int signal)
{
	(void)signal;
	stopped = 1;
}

void cmd_note_stops(void)
{
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND };
	for (size_t i = 0; i < ARRAY_LEN(stops); i++)
		CHECK(sigaction(stops[i], &action, NULL) == 0);
}

bool cmd_stopped(void)
{
	return stopped;
}

/* ---- the broker ---- */

void cmd_take_url(struct cmd_target *target, char *argument)
{
	free(target->url);
	target->url = xstrdup(argument);
	explicit_bzero(argument, strlen(argument));
}

static int resolve_file(struct cmd_target *target)
{
	struct conf_errors errors = { 0 };
	target->conf = conf_load(target->file, &errors, NULL);
	conf_errors_print(&errors, stderr);
	int code = errors.refused ? EXIT_REFUSED : EXIT_CONFIG;
	conf_errors_free(&errors);
	if (!target->conf)
		return code;
	target->broker = target->conf->broker;
	return EXIT_OK;
}

static int resolve_url(struct cmd_target *target)
{
	static struct url url;
	char why[256];
	target->arena = arena_create();
	if (!target->arena || !url_parse(target->arena, target->url, &url, why, sizeof(why)))
		return cmd_usage(
		    "the URL of the broker: %s", target->arena ? why : "out of memory");
	if (!target->conf)
		target->broker = (struct conf_broker){ .heartbeat_ns = 10 * NS_PER_S,
			.connect_timeout_ns = 10 * NS_PER_S,
			.tls.verify = true };
	target->broker.urls = &url;
	target->broker.n_urls = 1;
	return EXIT_OK;
}

/* -u, and what -c says besides it; else -c; else WARREN_URL; else the broker of this host. */
int cmd_resolve(struct cmd_target *target)
{
	int code = target->file ? resolve_file(target) : EXIT_OK;
	if (code != EXIT_OK || (target->conf && !target->url))
		return code;
	char *environment = getenv("WARREN_URL");
	if (!target->url && environment && *environment)
		cmd_take_url(target, environment);
	if (!target->url)
		target->url = xstrdup(DEFAULT_URL);
	code = resolve_url(target);
	explicit_bzero(target->url, strlen(target->url));
	return code;
}

void cmd_target_free(struct cmd_target *target)
{
	free(target->url);
	conf_free(target->conf);
	arena_destroy(target->arena);
}

static struct broker *connect_any(const struct conf_broker *conf, const char *name, int *code)
{
	for (size_t i = 0; i < conf->n_urls; i++) {
		struct broker_error error;
		struct broker *broker = broker_connect(conf, i, name, CMD_MAX_MESSAGE, &error);
		if (broker)
			return broker;
		*code = dialog_exit_code(&error);
		cmd_say("cannot connect to %s: %s", conf->urls[i].shown, error.text);
	}
	return NULL;
}

struct broker *cmd_connect(struct cmd_target *target, int *code)
{
	*code = cmd_resolve(target);
	if (*code != EXIT_OK)
		return NULL;
	char name[64];
	(void)snprintf(name, sizeof(name), "warren %s", command);
	broker_init();
	struct broker *broker = connect_any(&target->broker, name, code);
	if (!broker)
		return NULL;
	struct event event;
	if (dialog_open(broker, &event))
		return broker;
	*code = cmd_explain(broker, &event, "open a channel");
	broker_destroy(broker, 0);
	return NULL;
}

int cmd_explain(const struct broker *broker, const struct event *event, const char *what)
{
	if (event->kind == EV_CLOSED_BY_BROKER) {
		cmd_say("cannot %s: %s", what, event->text);
		return event->code == 403 || event->code == 405 ? EXIT_REFUSED : EXIT_UNROUTABLE;
	}
	if (event->kind != EV_LOST) {
		cmd_say("cannot %s: no answer from the broker for %d s", what, DIALOG_ANSWER_S);
		return EXIT_UNAVAILABLE;
	}
	const struct broker_error *error = broker_last_error(broker);
	cmd_say("cannot %s: %s%s", what,
	    error->fault == FAULT_CLOSED ? "" : "the connection is lost: ", error->text);
	return dialog_exit_code(error);
}

static enum event_kind answer_of(enum step_kind kind)
{
	switch (kind) {
	case STEP_EXCHANGE:
		return EV_EXCHANGE_OK;
	case STEP_QUEUE:
		return EV_QUEUE_OK;
	default:
		return EV_BIND_OK;
	}
}

static bool run_step(struct broker *broker, const struct step *step, struct event *event)
{
	*event = (struct event){ .kind = EV_LOST };
	return broker_declare(broker, DIALOG_CHANNEL, step) &&
	       dialog_answer(broker, answer_of(step->kind), event);
}

static int explain_step(
    const struct broker *broker, const struct step *step, const struct event *event)
{
	char shown[1024], what[1100];
	const char *kind = step->kind == STEP_EXCHANGE ? "exchange" : "queue";
	step_show(step, shown, sizeof(shown));
	if (step->passive)
		(void)snprintf(what, sizeof(what), "find %s %s", kind, step->name);
	else
		(void)snprintf(what, sizeof(what), "declare %s", shown);
	return cmd_explain(broker, event, what);
}

int cmd_declare(struct broker *broker, const struct step *step, struct event *event)
{
	return run_step(broker, step, event) ? EXIT_OK : explain_step(broker, step, event);
}

int cmd_declare_all(struct broker *broker, const struct script *script)
{
	for (size_t i = 0; i < script->n; i++) {
		struct event event;
		int code = cmd_declare(broker, &script->steps[i], &event);
		if (code != EXIT_OK)
			return code;
	}
	return EXIT_OK;
}

/* A passive declaration that finds nothing costs the channel. */
static int reopen(struct broker *broker)
{
	struct event event = { .kind = EV_LOST };
	if (dialog_open(broker, &event))
		return EXIT_OK;
	return cmd_explain(broker, &event, "open a channel");
}

int cmd_look(struct broker *broker, const char *queue, struct event *event)
{
	struct step look = { .kind = STEP_QUEUE, .passive = true, .name = queue };
	if (run_step(broker, &look, event))
		return EXIT_OK;
	return event->kind == EV_CLOSED_BY_BROKER ? reopen(broker)
						  : explain_step(broker, &look, event);
}

int cmd_declare_missing(struct broker *broker, const struct step *step)
{
	struct step look = *step;
	struct event event;
	look.passive = true;
	if (run_step(broker, &look, &event))
		return EXIT_OK;
	if (event.kind != EV_CLOSED_BY_BROKER || event.code != 404)
		return explain_step(broker, &look, &event);
	int code = reopen(broker);
	return code == EXIT_OK ? cmd_declare(broker, step, &event) : code;
}

bool cmd_check_creation(const struct cmd_creation *creation)
{
	const char *word = creation->word;
	if (word && strcmp(word, "durable") != 0 && strcmp(word, "transient") != 0)
		(void)cmd_usage("--declare: '%s' is neither durable nor transient", word);
	else if (creation->type && !word)
		(void)cmd_usage("--type says what --declare creates, and needs it");
	else
		return true;
	return false;
}

int cmd_create_queue(struct broker *broker, const struct cmd_creation *creation, const char *name)
{
	struct field type = { BYTES_LIT("x-queue-type"), V_STR(bytes_of(creation->type)) };
	struct step step = { .kind = STEP_QUEUE,
		.name = name,
		.durable = strcmp(creation->word, "durable") == 0,
		.arguments = { &type, creation->type ? 1 : 0 } };
	return cmd_declare_missing(broker, &step);
}

int cmd_create_exchange(
    struct broker *broker, const struct cmd_creation *creation, const char *name)
{
	struct step step = { .kind = STEP_EXCHANGE,
		.name = name,
		.type = creation->type ? creation->type : "direct",
		.durable = strcmp(creation->word, "durable") == 0 };
	return cmd_declare_missing(broker, &step);
}
