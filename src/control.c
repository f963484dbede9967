/* The control socket: clients as a small table of states, each with a deadline. */
#include "control.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "local.h"
#include "log.h"
#include "text.h"

enum {
	LINE_MAX_LEN = 4096, /* its end included */
	WHY_MAX = 256,
	READ_LIMIT_S = 2,  /* for the whole line */
	WRITE_LIMIT_S = 5, /* without progress */
	ACCEPT_PAUSE_S = 1,
};

enum client_state {
	CLIENT_READING,
	CLIENT_WAITING, /* its command has not answered yet */
	CLIENT_WRITING,
};

struct client {
	control_client id; /* 0: a free place */
	enum client_state state;
	int fd;
	int64_t deadline_ns;
	size_t line_len;
	char *owned; /* what `reply` points to, if it is to be freed */
	const char *reply;
	size_t reply_len, sent;
	char line[LINE_MAX_LEN];
};

struct control {
	const struct control_command *commands;
	size_t n_commands;
	void *context;
	struct local door, next; /* `next` only while `changes` */
	bool changes;            /* between prepare and commit, and there is something to commit */
	int64_t accept_ns;       /* no client is accepted before that */
	struct log_complaint accepting;
	control_client last_id;
	struct client clients[CONTROL_CLIENTS];
};

static const char short_of_memory[] = "{\"ok\":false,\"code\":70,\"error\":\"out of memory\"}\n";
static const char busy[] =
    "{\"ok\":false,\"code\":75,\"error\":\"16 clients are being served already; try again\"}\n";

bool control_is_built(void)
{
	return true;
}

struct control *control_create(
    const struct control_command *commands, size_t n_commands, void *context)
{
	struct control *control = xcalloc(1, sizeof(*control));

	control->commands = commands;
	control->n_commands = n_commands;
	control->context = context;
	control->door = control->next = LOCAL_NONE;
	return control;
}

static void leave(struct client *client)
{
	(void)close(client->fd);
	free(client->owned);
	client->owned = NULL;
	client->id = 0;
}

void control_destroy(struct control *control)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].id != 0)
			leave(&control->clients[i]);
	local_close(&control->next);
	local_close(&control->door);
	free(control);
}

/* ---- where it listens ---- */

bool control_prepare(struct control *control, const char *path, char *why, size_t why_size)
{
	CHECK(!control->changes);
	if (path && strcmp(path, control->door.path) == 0 && local_is_there(&control->door))
		return true;
	if (path && !local_open(&control->next, path, why, why_size))
		return false;
	control->changes = true;
	return true;
}

void control_commit(struct control *control)
{
	if (!control->changes)
		return;
	local_close(&control->door);
	control->door = control->next;
	control->next = LOCAL_NONE;
	control->changes = false;
	if (control->door.fd >= 0)
		log_event(LOG_INFO, "control.listening", L_STR("socket", control->door.path));
}

void control_abandon(struct control *control)
{
	local_close(&control->next);
	control->changes = false;
}

/* ---- writing ---- */

static void set_deadline(struct client *client, int64_t seconds)
{
	client->deadline_ns = clock_mono_ns() + seconds * NS_PER_S;
}

static void write_reply(struct client *client)
{
	while (client->sent < client->reply_len) {
		ssize_t n = send(client->fd, client->reply + client->sent,
		    client->reply_len - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			break;
		client->sent += (size_t)n;
		set_deadline(client, WRITE_LIMIT_S);
	}
	leave(client);
}

static void begin_reply(struct client *client, const char *reply, size_t len)
{
	client->reply = reply;
	client->reply_len = len;
	client->sent = 0;
	client->state = CLIENT_WRITING;
	set_deadline(client, WRITE_LIMIT_S);
	write_reply(client);
}

static struct client *find(struct control *control, control_client id)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (id != 0 && control->clients[i].id == id)
			return &control->clients[i];
	return NULL;
}

bool control_waits(struct control *control, control_client id)
{
	const struct client *client = find(control, id);

	return client && client->state == CLIENT_WAITING;
}

void control_answer(struct control *control, control_client id, char *json)
{
	struct client *client = find(control, id);
	size_t len;

	if (!client) {
		free(json);
		return;
	}
	CHECK(client->state == CLIENT_WAITING);
	if (!json) {
		begin_reply(client, short_of_memory, strlen(short_of_memory));
		return;
	}
	len = strlen(json);
	json[len] = '\n'; /* in the place of its terminator */
	client->owned = json;
	begin_reply(client, json, len + 1);
}

/* Takes it over; NULL: memory was short. */
static void answer_json(struct control *control, control_client client, json_t *reply)
{
	control_answer(control, client, reply ? json_dumps(reply, JSON_COMPACT) : NULL);
	json_decref(reply);
}

static json_t *refusal(enum exit_code code, const char *error)
{
	return json_pack("{s:b,s:i,s:s}", "ok", 0, "code", (int)code, "error", error);
}

void control_say(struct control *control, control_client client, const char *fmt, ...)
{
	char *said = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&said, fmt, args) < 0)
		said = NULL;
	va_end(args);
	answer_json(control, client, said ? json_pack("{s:b,s:s}", "ok", 1, "said", said) : NULL);
	free(said);
}

void control_refuse(
    struct control *control, control_client client, enum exit_code code, const char *fmt, ...)
{
	char *error = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&error, fmt, args) < 0)
		error = NULL;
	va_end(args);
	answer_json(control, client, error ? refusal(code, error) : NULL);
	free(error);
}

static json_t *show_error(const struct conf_error *error)
{
	char file[PATH_MAX], text[LINE_MAX_LEN];

	(void)text_escape(bytes_of(error->file), file, sizeof(file));
	(void)text_escape(bytes_of(error->text), text, sizeof(text));
	return json_pack("{s:s,s:i,s:s}", "file", file, "line", (int)error->line, "text", text);
}

void control_refuse_errors(struct control *control, control_client client, const char *error,
    const struct conf_errors *errors)
{
	json_t *reply = refusal((enum exit_code)conf_errors_code(errors), error);
	json_t *list = json_array();
	bool whole = reply && list;

	for (size_t i = 0; whole && i < errors->n; i++)
		whole = json_array_append_new(list, show_error(&errors->list[i])) == 0;
	whole = json_object_set_new(reply, "errors", list) == 0 && whole;
	if (!whole) {
		json_decref(reply);
		reply = NULL;
	}
	answer_json(control, client, reply);
}

/* One that has not got as far as a command. */
static void turn_down(
    struct control *control, struct client *client, enum exit_code code, const char *error)
{
	client->state = CLIENT_WAITING;
	control_refuse(control, client->id, code, "%s", error);
}

/* ---- requests ---- */

/* "scale QUEUE N, status, ...": all patterns, or those that begin like the words. NULL: no memory
 * was left, or there are none. */
static char *list_patterns(const struct control *control, const struct words *like)
{
	char *list = NULL;

	for (size_t i = 0; i < control->n_commands; i++) {
		const char *pattern = control->commands[i].pattern;
		char *longer;

		if (like && !words_begin(like, pattern))
			continue;
		if (asprintf(&longer, "%s%s%s", list ? list : "", list ? ", " : "", pattern) < 0)
			longer = NULL;
		free(list);
		if (!longer)
			return NULL;
		list = longer;
	}
	return list;
}

static void refuse_command(
    struct control *control, struct client *client, const struct words *words)
{
	char shown[WHY_MAX];
	char *alike = list_patterns(control, words), *all = list_patterns(control, NULL);

	text_escape(words->list[0], shown, sizeof(shown));
	if (alike)
		control_refuse(control, client->id, EXIT_USAGE,
		    "wrong words after \"%s\"; there are: %s", shown, alike);
	else
		control_refuse(control, client->id, EXIT_USAGE, "no command \"%s\"; there are: %s",
		    shown, all ? all : "none");
	free(alike);
	free(all);
}

/* Asked for once the line is there: a client that is refused while it still writes might not read
 * why. */
static bool is_admitted(struct control *control, struct client *client)
{
	struct ucred peer;

	if (local_admits(&control->door, client->fd, &peer))
		return true;
	log_event(LOG_WARN, "control.refused", L_INT("uid", peer.uid), L_INT("pid", peer.pid));
	turn_down(control, client, EXIT_REFUSED,
	    "not allowed: only root, warrend's own user, and members of the group that the socket "
	    "belongs to");
	return false;
}

static void obey(struct control *control, struct client *client, size_t len)
{
	char why[WHY_MAX];
	struct words words;

	if (!is_admitted(control, client))
		return;
	if (!words_read(client->line, len, &words, why, sizeof(why))) {
		turn_down(control, client, EXIT_USAGE, why);
		return;
	}
	client->state = CLIENT_WAITING;
	client->deadline_ns = CLOCK_NEVER;
	for (size_t i = 0; i < control->n_commands; i++)
		if (words_match(&words, control->commands[i].pattern)) {
			control->commands[i].run(control->context, control, client->id, &words);
			return;
		}
	refuse_command(control, client, &words);
}

static void take_line(struct control *control, struct client *client)
{
	const char *end = memchr(client->line, '\n', client->line_len);

	if (end && end + 1 == client->line + client->line_len)
		obey(control, client, client->line_len - 1);
	else if (end)
		turn_down(control, client, EXIT_USAGE, "there is something behind the line's end");
	else if (client->line_len == LINE_MAX_LEN)
		turn_down(control, client, EXIT_USAGE, "the line is longer than 4096 bytes");
}

static void read_line(struct control *control, struct client *client)
{
	ssize_t n = recv(client->fd, client->line + client->line_len,
	    LINE_MAX_LEN - client->line_len, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		client->line_len += (size_t)n;
		take_line(control, client);
	} else if (n == 0 && client->line_len > 0) {
		turn_down(control, client, EXIT_USAGE, "the line has no end");
	} else {
		leave(client);
	}
}

/* ---- clients ---- */

static struct client *free_place(struct control *control)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].id == 0)
			return &control->clients[i];
	return NULL;
}

/* What it may have sent is read, or it would be told of a reset where the answer stands. */
static void turn_away(int fd)
{
	char line[LINE_MAX_LEN];

	(void)recv(fd, line, sizeof(line), MSG_DONTWAIT);
	(void)send(fd, busy, strlen(busy), MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)close(fd);
}

static void welcome(struct control *control, int fd)
{
	struct client *client = free_place(control);

	if (!client) {
		turn_away(fd);
		return;
	}
	client->id = ++control->last_id;
	client->fd = fd;
	client->line_len = 0;
	client->state = CLIENT_READING;
	set_deadline(client, READ_LIMIT_S);
}

/* Without a descriptor for it the client stays where poll() would report it again at once. */
static void pause_accepting(struct control *control, int64_t now_ns)
{
	uint64_t silent;
	int why = errno;

	control->accept_ns = now_ns + ACCEPT_PAUSE_S * NS_PER_S;
	if (log_complain(&control->accepting, &silent))
		log_event(LOG_ERROR, "control.deaf", L_STR("why", strerror(why)),
		    L_INT("silent", silent));
}

static void accept_clients(struct control *control, int64_t now_ns)
{
	int64_t lasted_ns;

	for (int i = 0; i < CONTROL_CLIENTS && control->door.fd >= 0; i++) {
		int fd = accept4(control->door.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			welcome(control, fd);
			if (log_healed(&control->accepting, &lasted_ns))
				log_event(LOG_INFO, "control.hears", L_NS("after", lasted_ns));
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			pause_accepting(control, now_ns);
			return;
		}
	}
}

static void serve_client(
    struct control *control, struct client *client, short events, int64_t now_ns)
{
	if (client->state == CLIENT_READING && events)
		read_line(control, client);
	else if (client->state == CLIENT_WRITING && events)
		write_reply(client);
	else if (events & (POLLHUP | POLLERR))
		leave(client); /* it waits no more */
	if (client->id == 0 || now_ns < client->deadline_ns)
		return;
	if (client->state == CLIENT_READING)
		turn_down(control, client, EXIT_USAGE, "no whole line came within 2 seconds");
	else
		leave(client);
}

static struct pollfd watch(const struct client *client)
{
	static const short events[] = {
		[CLIENT_READING] = POLLIN,
		[CLIENT_WAITING] = 0, /* that it leaves is reported unasked */
		[CLIENT_WRITING] = POLLOUT,
	};

	return (struct pollfd){ .fd = client->fd, .events = events[client->state] };
}

size_t control_fds(const struct control *control, struct pollfd *fds)
{
	size_t n = 0;

	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].id != 0)
			fds[n++] = watch(&control->clients[i]);
	if (control->door.fd >= 0 && control->accept_ns == 0)
		fds[n++] = (struct pollfd){ .fd = control->door.fd, .events = POLLIN };
	return n;
}

int64_t control_deadline(const struct control *control)
{
	int64_t at_ns = control->accept_ns ? control->accept_ns : CLOCK_NEVER;

	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].id != 0 && control->clients[i].deadline_ns < at_ns)
			at_ns = control->clients[i].deadline_ns;
	return at_ns;
}

void control_serve(struct control *control, int64_t now_ns)
{
	struct pollfd fds[CONTROL_CLIENTS];

	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		fds[i] = control->clients[i].id ? watch(&control->clients[i])
						: (struct pollfd){ .fd = -1 };
	(void)poll(fds, CONTROL_CLIENTS, 0);
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (fds[i].fd >= 0 && control->clients[i].fd == fds[i].fd && control->clients[i].id)
			serve_client(control, &control->clients[i], fds[i].revents, now_ns);
	if (control->accept_ns == 0 || now_ns >= control->accept_ns) {
		control->accept_ns = 0;
		accept_clients(control, now_ns);
	}
}
