/* Finding a running daemon, and one answer from it. */
#include "cmd_ask.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

static int find_by_file(struct cmd_daemon *daemon)
{
	struct conf_errors errors = { 0 };
	struct conf *conf = conf_load(daemon->file, &errors, NULL);
	conf_errors_print(&errors, stderr);
	int code = conf_errors_code(&errors);
	conf_errors_free(&errors);
	if (!conf) {
		cmd_say("so it does not say where the socket is; -s SOCKET does");
		return code;
	}
	if (conf->control_socket)
		daemon->path = xstrdup(conf->control_socket);
	else
		cmd_say("this configuration has no control socket");
	conf_free(conf);
	return daemon->path ? EXIT_OK : EXIT_UNAVAILABLE;
}

int cmd_find_daemon(struct cmd_daemon *daemon)
{
	free(daemon->path);
	daemon->path = NULL;
	if (!daemon->socket && daemon->file)
		return find_by_file(daemon);
	daemon->path = daemon->socket ? xstrdup(daemon->socket) : ask_default_socket();
	return EXIT_OK;
}

/* ---- waiting ---- */

static void show_waiting(const struct cmd_patience *patience, int64_t waited_ns)
{
	if (patience->waiting && isatty(STDERR_FILENO) == 1)
		(void)fprintf(stderr, "\r\033[K%s (%" PRId64 " s; Ctrl-C stops the waiting alone)",
		    patience->waiting, waited_ns / NS_PER_S);
}

static void wipe_waiting(const struct cmd_patience *patience)
{
	if (patience->waiting && isatty(STDERR_FILENO) == 1)
		(void)fputs("\r\033[K", stderr);
}

static int64_t deadline_in(int64_t now, int64_t timeout_ns)
{
	return timeout_ns > CLOCK_NEVER - now ? CLOCK_NEVER : now + timeout_ns;
}

static enum ask_state wait_for(struct ask *ask, const struct cmd_patience *patience)
{
	int64_t started = clock_mono_ns(), now = started;
	int64_t deadline = deadline_in(started, patience->timeout_ns);
	int64_t shown = started + NS_PER_S / 2;
	enum ask_state state;
	do {
		state = ask_wait(ask, shown < deadline ? shown : deadline);
		now = clock_mono_ns();
		if (state == ASK_BUSY)
			show_waiting(patience, now - started);
		shown = now + NS_PER_S;
	} while (state == ASK_BUSY && now < deadline);
	wipe_waiting(patience);
	return state;
}

static int say_late(
    const struct cmd_daemon *daemon, const struct ask *ask, const struct cmd_patience *patience)
{
	char limit[32];
	text_show_duration(patience->timeout_ns, limit, sizeof(limit));
	if (!patience->waiting) {
		cmd_say("no answer from %s for %s: warrend is busy or stuck; its log may say why",
		    daemon->path, limit);
		return EXIT_UNAVAILABLE;
	}
	if (ask_is_sent(ask))
		cmd_say(
		    "not over within %s. It goes on: 'warren status' shows how far it is", limit);
	else
		cmd_say("warrend is busy and did not listen for %s; nothing was ordered", limit);
	return EXIT_TEMPFAIL;
}

static json_t *parse(const struct cmd_daemon *daemon, struct bytes text, char **raw, int *code)
{
	char why[512];
	json_t *answer = reply_parse(text, why, sizeof(why));
	if (!answer) {
		cmd_say("%s does not speak as warrend does: %s", daemon->path, why);
		*code = EXIT_UNAVAILABLE;
	} else if (raw) {
		*raw = xasprintf("%.*s", (int)text.len, text.data);
	}
	return answer;
}

json_t *cmd_ask(struct cmd_daemon *daemon, const char *const *words, size_t n,
    const struct cmd_patience *patience, char **raw, int *code)
{
	*code = cmd_find_daemon(daemon);
	if (*code != EXIT_OK)
		return NULL;
	char *line = ask_line(words, n);
	if (!line) {
		*code = cmd_usage("that is longer than warrend listens to");
		return NULL;
	}
	struct ask *ask = ask_start(daemon->path, line);
	free(line);
	json_t *answer = NULL;
	switch (wait_for(ask, patience)) {
	case ASK_ANSWERED:
		answer = parse(daemon, ask_answer(ask), raw, code);
		break;
	case ASK_FAILED:
		cmd_say("%s", ask_why(ask));
		*code = ask_code(ask);
		break;
	case ASK_BUSY:
		*code = say_late(daemon, ask, patience);
		break;
	}
	ask_end(ask);
	return answer;
}

int cmd_answer_code(const json_t *answer)
{
	if (reply_bool(answer, "ok"))
		return EXIT_OK;
	double code = reply_real(answer, "code");
	return code >= 1 && code <= 125 ? (int)code : EXIT_INTERNAL;
}

void cmd_say_refused(const json_t *answer)
{
	struct bytes why = reply_text(answer, "error");
	if (why.len > 0)
		cmd_say("%.*s", (int)why.len, why.data);
	else
		cmd_say("warrend refuses, and does not say why");
}
