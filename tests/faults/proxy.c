/*
 * fault_proxy: a TCP proxy that does to AMQP connections what networks do, when a test tells it to.
 *
 *	fault_proxy --listen [ADDRESS:]PORT --to HOST:PORT [--seed N] [--capture FILE]
 *
 * PORT 0 chooses one; the address is 127.0.0.1 where none is given; the first line on standard
 *output is "listening PORT". Commands come as lines on standard input, each is answered by one
 *line, "ok ..." or "error ..."; the end of input ends the proxy. Everything random comes from the
 *seed.
 *
 * WHO is `all`, or a class of connections: `work`, `publish`, `unacked` by the last word of the
 * connection's name, or by what it does first (basic.consume, confirm.select); `new` before that is
 * known. What is set for a class holds for its future connections, too. `#N` is one connection, for
 * `rst`, `fin` and rules. WAY is c2s, s2c or both.
 *
 *	delay WHO WAY MS [JITTER_MS]     everything comes later; order is kept
 *	rate WHO WAY BYTES               a second; 0 is no limit
 *	chop WHO WAY N [GAP_MS]          at most N bytes a write, and a pause between writes
 *	split WHO WAY N [GAP_MS]         one pause, behind the connection's N-th byte
 *	drop WHO WAY                     swallows everything; the sender's kernel notices nothing
 *	freeze WHO WAY, thaw WHO WAY     neither reads nor writes: buffers fill up
 *	heal WHO WAY                     ends all of these
 *	fin WHO WAY [BYTES]              the receiver is told that the sender has ended; after BYTES
 *	rst WHO WAY [BYTES]              both sides get a reset; after BYTES more in that direction
 *	mode open|refuse|mute|hangup     for new connections: mute accepts and says nothing
 *	to HOST:PORT                     where new connections lead
 *
 *	on WHO WAY KIND [skip=N] [times=N|always] [match=TEXT] do ACTION,...
 *	    What happens to the next frame of that kind (basic.ack, header, body, any, ...; a
 *confirm is `publish s2c basic.ack`) that holds TEXT. Answers with the rule's number. The first
 *rule that meets a frame has it. Actions: swallow, half (the first half goes on), badend, spoil
 *(the first entry of the headers gets an unknown kind), flip=BYTE (a random bit of it; from the end
 *where negative), garbage=N (random bytes before it), delay=MS, drop (everything behind it, too),
 *	    fin or rst behind it.
 *	hits N, forget N|all             how often a rule met a frame; ends rules
 *	count WHO WAY KIND               how many such frames came
 *	conns, accepted                  "#N:CLASS:BYTES_C2S:BYTES_S2C" of each; how many there ever
 *were
 *
 * The capture has a line for each frame: "MS CONN CLASS WAY CHANNEL KIND FATE WORDS", where MS is
 *the monotonic clock when the proxy read it, and FATE passed, swallowed, changed or dropped.
 */
#include "proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum {
	EVENTS = 64,
	READ_SIZE = 64 * 1024,
	QUEUE_MAX = 256 * 1024, /* more than that waits in the kernel, and then at the sender */
	BUFFER = 64 * 1024,     /* of the kernel: so small that a frozen proxy is felt soon */
	LINE_MAX_LEN = 512,
};

struct proxy proxy;

static int epoll_fd, listen_fd = -1;
static struct in_addr listen_address;
static struct sockaddr_storage target;
static socklen_t target_len;

/* ---- small things ---- */

int64_t now_ns(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* splitmix64 */
uint64_t random_number(uint64_t below)
{
	uint64_t z = proxy.seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return below ? (z ^ z >> 31) % below : 0;
}

const char *class_word(enum conn_class class)
{
	static const char *const words[] = { "new", "work", "publish", "unacked" };
	return words[class];
}

bool selects(const struct selection *selection, const struct conn *conn)
{
	return (selection->conn == 0 || selection->conn == conn->number) &&
	       selection->classes & 1u << conn->class;
}

static enum way other(enum way way)
{
	return way == C2S ? S2C : C2S;
}

static const struct faults *faults_of(const struct conn *conn, enum way way)
{
	return &proxy.faults[conn->class][way];
}

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- the end of connections ---- */

static void close_side(struct side *side)
{
	if (side->fd >= 0)
		close(side->fd); /* epoll forgets it by itself */
	side->fd = -1;
	side->interest = 0;
}

static void bury(struct conn *conn)
{
	conn->dead = true;
	for (unsigned way = 0; way < WAYS; way++)
		close_side(&conn->side[way]);
}

void conn_reset(struct conn *conn)
{
	const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
	for (unsigned way = 0; way < WAYS; way++)
		if (conn->side[way].fd >= 0)
			(void)setsockopt(
			    conn->side[way].fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	bury(conn);
}

void conn_finish(struct conn *conn, enum way way)
{
	conn->pipe[way].drop = conn->pipe[way].finish = true;
}

static void free_conn(struct conn *conn)
{
	for (unsigned way = 0; way < WAYS; way++) {
		struct pipe *pipe = &conn->pipe[way];
		for (struct chunk *next; pipe->first; pipe->first = next) {
			next = pipe->first->next;
			free(pipe->first);
		}
		free(pipe->in);
	}
	free(conn);
}

static void free_dead(void)
{
	for (struct conn **at = &proxy.conns; *at;) {
		struct conn *conn = *at;
		if (conn->dead) {
			*at = conn->next;
			free_conn(conn);
		} else {
			at = &conn->next;
		}
	}
}

/* ---- bytes on their way ---- */

bool conn_drops(const struct conn *conn, enum way way)
{
	return conn->pipe[way].drop || faults_of(conn, way)->drop;
}

static int64_t choose_delay(const struct faults *f)
{
	return f->delay_ns + (f->jitter_ns ? (int64_t)random_number((uint64_t)f->jitter_ns) : 0);
}

void conn_send(struct conn *conn, enum way way, const unsigned char *data, size_t len,
    int64_t extra_ns, enum end end)
{
	struct pipe *pipe = &conn->pipe[way];
	if (conn_drops(conn, way))
		len = 0;
	if (len == 0 && end == END_NOTHING)
		return;
	struct chunk *chunk = malloc(sizeof(*chunk) + len);
	if (!chunk)
		die("fault_proxy");
	*chunk = (struct chunk){ .len = len, .end = end };
	memcpy(chunk->data, data, len);
	chunk->due_ns = now_ns() + choose_delay(faults_of(conn, way)) + extra_ns;
	if (chunk->due_ns < pipe->last_due_ns)
		chunk->due_ns = pipe->last_due_ns;
	pipe->last_due_ns = chunk->due_ns;
	*pipe->last = chunk;
	pipe->last = &chunk->next;
	pipe->queued += len;
	if (end != END_NOTHING)
		pipe->drop = true; /* nothing follows an end */
}

/* How much of the first chunk may be written at once. */
static size_t portion(const struct pipe *pipe, const struct faults *f)
{
	size_t n = pipe->first->len - pipe->first->done;
	size_t fiftieth = f->rate > 50 ? (size_t)f->rate / 50 : 1;
	if (f->chop && n > f->chop)
		n = f->chop;
	if (f->rate && n > fiftieth)
		n = fiftieth;
	if (pipe->written < f->split_at && pipe->written + n > f->split_at)
		n = (size_t)(f->split_at - pipe->written);
	return n;
}

static void take_pause(struct pipe *pipe, const struct faults *f, size_t n, int64_t now)
{
	if (f->rate)
		pipe->write_at_ns = now + (int64_t)n * NS_PER_S / f->rate;
	else if (f->chop)
		pipe->write_at_ns = now + f->chop_gap_ns;
	if (f->split_at && pipe->written == f->split_at)
		pipe->write_at_ns = now + f->split_gap_ns;
}

static void end_chunk(struct conn *conn, enum way way)
{
	struct pipe *pipe = &conn->pipe[way];
	struct chunk *chunk = pipe->first;
	enum end end = chunk->end;
	pipe->queued -= chunk->len;
	pipe->first = chunk->next;
	if (!pipe->first)
		pipe->last = &pipe->first;
	free(chunk);
	if (end == END_RST)
		conn_reset(conn);
	else if (end == END_FIN)
		conn_finish(conn, way);
}

static bool may_write(const struct conn *conn, enum way way, int64_t now)
{
	const struct pipe *pipe = &conn->pipe[way];
	return !conn->dead && pipe->first && pipe->first->due_ns <= now &&
	       pipe->write_at_ns <= now && !faults_of(conn, way)->frozen && !conn->connecting;
}

static void tell_end(struct conn *conn, enum way way)
{
	struct pipe *pipe = &conn->pipe[way];
	if (pipe->first || !pipe->finish || pipe->ended || faults_of(conn, way)->frozen)
		return;
	pipe->ended = true;
	(void)shutdown(conn->side[other(way)].fd, SHUT_WR);
	if (conn->pipe[other(way)].ended)
		bury(conn);
}

static void write_out(struct conn *conn, enum way way)
{
	struct pipe *pipe = &conn->pipe[way];
	const struct faults *f = faults_of(conn, way);
	int64_t now = now_ns();
	while (may_write(conn, way, now)) {
		struct chunk *chunk = pipe->first;
		size_t n = portion(pipe, f);
		ssize_t sent =
		    n ? send(conn->side[other(way)].fd, chunk->data + chunk->done, n, MSG_NOSIGNAL)
		      : 0;
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0) {
			conn_reset(conn);
			return;
		}
		chunk->done += (size_t)sent;
		pipe->written += (uint64_t)sent;
		take_pause(pipe, f, (size_t)sent, now);
		if (chunk->done == chunk->len)
			end_chunk(conn, way);
	}
	if (!conn->dead)
		tell_end(conn, way);
}

/* ---- bytes coming in ---- */

static void make_room(struct pipe *pipe)
{
	if (pipe->in_size - pipe->in_len >= READ_SIZE)
		return;
	pipe->in_size = pipe->in_len + READ_SIZE;
	pipe->in = realloc(pipe->in, pipe->in_size);
	if (!pipe->in)
		die("fault_proxy");
}

/* Whole frames go on; `in` keeps the rest. */
static void scan(struct conn *conn, enum way way)
{
	struct pipe *pipe = &conn->pipe[way];
	size_t at = 0;
	struct frame frame;
	enum scan found = SCAN_FRAME;
	while (!pipe->alien && found != SCAN_MORE && at < pipe->in_len) {
		found = frame_scan(pipe->in + at, pipe->in_len - at, &frame);
		if (found == SCAN_ALIEN)
			pipe->alien = true;
		if (found != SCAN_FRAME)
			break;
		pass_frame(conn, way, &frame);
		at += frame.len;
	}
	if (pipe->alien) {
		conn_send(conn, way, pipe->in + at, pipe->in_len - at, 0, END_NOTHING);
		at = pipe->in_len;
	}
	memmove(pipe->in, pipe->in + at, pipe->in_len - at);
	pipe->in_len -= at;
}

/* What comes behind the cut is nobody's; of the frame that it goes through the first part goes on.
 */
static void cut(struct conn *conn, enum way way)
{
	struct pipe *pipe = &conn->pipe[way];
	pipe->cut_at = 0;
	conn_send(conn, way, pipe->in, pipe->in_len, 0, pipe->cut_how);
	pipe->in_len = 0;
}

static void read_in(struct conn *conn, enum way way)
{
	struct pipe *pipe = &conn->pipe[way];
	make_room(pipe);
	ssize_t n = recv(conn->side[way].fd, pipe->in + pipe->in_len, READ_SIZE, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0) {
		conn_reset(conn);
		return;
	}
	if (n == 0) {
		conn_send(conn, way, pipe->in, pipe->in_len, 0, END_NOTHING);
		pipe->eof = pipe->finish = true;
		return;
	}
	bool over = pipe->cut_at && pipe->seen + (uint64_t)n >= pipe->cut_at;
	if (over)
		n = (ssize_t)(pipe->cut_at - pipe->seen);
	pipe->seen += (uint64_t)n;
	pipe->in_len += (size_t)n;
	scan(conn, way);
	if (over)
		cut(conn, way);
}

/* ---- sockets ---- */

static bool wants_read(const struct conn *conn, enum way way)
{
	const struct pipe *pipe = &conn->pipe[way];
	return !pipe->eof && !faults_of(conn, way)->frozen && pipe->queued < QUEUE_MAX &&
	       !(conn->connecting && way == S2C);
}

/* A socket without any interest leaves epoll altogether: it would report hang-ups all the time. */
static void watch(struct side *side, uint32_t interest)
{
	struct epoll_event event = { .events = interest, .data.ptr = side };
	if (side->fd < 0 || interest == side->interest)
		return;
	int what = !interest ? EPOLL_CTL_DEL : side->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (epoll_ctl(epoll_fd, what, side->fd, &event) != 0)
		die("epoll_ctl");
	side->interest = interest;
}

static void watch_conn(struct conn *conn, int64_t now)
{
	for (unsigned way = 0; way < WAYS; way++) {
		enum way writes = other((enum way)way);
		uint32_t interest = wants_read(conn, (enum way)way) ? EPOLLIN : 0;
		if (may_write(conn, writes, now) || (way == S2C && conn->connecting))
			interest |= EPOLLOUT;
		watch(&conn->side[way], interest);
	}
}

static void set_up_socket(int fd)
{
	const int on = 1, buffer = BUFFER;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
}

static int connect_to_target(void)
{
	int fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	set_up_socket(fd);
	if (connect(fd, (const struct sockaddr *)&target, target_len) == 0 || errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

static void add_conn(int fd)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn)
		die("fault_proxy");
	conn->number = proxy.n_conns;
	conn->next = proxy.conns;
	proxy.conns = conn;
	set_up_socket(fd);
	for (unsigned way = 0; way < WAYS; way++) {
		conn->side[way] = (struct side){ conn, (enum way)way, -1, 0 };
		conn->pipe[way].last = &conn->pipe[way].first;
	}
	conn->side[C2S].fd = fd;
	if (proxy.mode == MODE_MUTE) {
		conn->pipe[C2S].drop = true;
		return;
	}
	conn->side[S2C].fd = connect_to_target();
	conn->connecting = true;
	if (conn->side[S2C].fd < 0)
		conn_reset(conn);
}

static void accept_all(void)
{
	for (;;) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		proxy.n_conns++;
		if (proxy.capture)
			(void)fprintf(proxy.capture, "%lld %u new c2s 0 accept passed\n",
			    (long long)(now_ns() / NS_PER_MS), proxy.n_conns);
		if (proxy.mode == MODE_HANG_UP)
			close(fd);
		else
			add_conn(fd);
	}
}

static void finish_connecting(struct conn *conn)
{
	int error = 0;
	socklen_t len = sizeof(error);
	(void)getsockopt(conn->side[S2C].fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		conn_reset(conn);
	else
		conn->connecting = false;
}

static void serve(struct side *side, uint32_t events)
{
	struct conn *conn = side->conn;
	if (conn->dead)
		return;
	if (side->reads == S2C && conn->connecting)
		finish_connecting(conn);
	else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && wants_read(conn, side->reads))
		read_in(conn, side->reads);
	else if (events & EPOLLERR)
		conn_reset(conn);
}

/* ---- the port ---- */

static bool open_port(void)
{
	const int on = 1;
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)proxy.port),
		.sin_addr = listen_address };
	socklen_t len = sizeof(address);
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &listen_fd };
	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	(void)setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listen_fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(listen_fd, 256) != 0 ||
	    getsockname(listen_fd, (struct sockaddr *)&address, &len) != 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) != 0) {
		close(listen_fd);
		listen_fd = -1;
		return false;
	}
	proxy.port = ntohs(address.sin_port);
	return true;
}

bool proxy_set_mode(enum mode mode)
{
	proxy.mode = mode;
	if (mode == MODE_REFUSE && listen_fd >= 0) {
		close(listen_fd);
		listen_fd = -1;
	}
	return mode == MODE_REFUSE || listen_fd >= 0 || open_port();
}

bool proxy_set_target(const char *host_port)
{
	char host[256];
	const char *colon = strrchr(host_port, ':');
	if (!colon || (size_t)(colon - host_port) >= sizeof(host))
		return false;
	memcpy(host, host_port, (size_t)(colon - host_port));
	host[colon - host_port] = '\0';
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
		return false;
	memcpy(&target, found->ai_addr, found->ai_addrlen);
	target_len = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

/* ---- the loop ---- */

static void read_commands(void)
{
	static char line[LINE_MAX_LEN];
	static size_t len;
	ssize_t n = read(STDIN_FILENO, line + len, sizeof(line) - 1 - len);
	if (n <= 0)
		exit(0);
	len += (size_t)n;
	for (char *end; (end = memchr(line, '\n', len));) {
		*end = '\0';
		obey(line, stdout);
		(void)fflush(stdout);
		len -= (size_t)(end + 1 - line);
		memmove(line, end + 1, len);
	}
	if (len == sizeof(line) - 1)
		exit(1);
}

static int64_t next_write_ns(const struct conn *conn, enum way way)
{
	const struct pipe *pipe = &conn->pipe[way];
	if (!pipe->first || faults_of(conn, way)->frozen || conn->connecting)
		return INT64_MAX;
	return pipe->first->due_ns > pipe->write_at_ns ? pipe->first->due_ns : pipe->write_at_ns;
}

/* Writes what is due and returns when something will be. */
static int64_t tend_conns(void)
{
	int64_t wake_ns = INT64_MAX;
	for (struct conn *conn = proxy.conns; conn; conn = conn->next) {
		for (unsigned way = 0; way < WAYS && !conn->dead; way++)
			if (conn->side[other((enum way)way)].fd >= 0)
				write_out(conn, (enum way)way);
			else if (conn->pipe[way].eof)
				bury(conn); /* mute */
		if (conn->dead)
			continue;
		int64_t now = now_ns();
		watch_conn(conn, now);
		for (unsigned way = 0; way < WAYS; way++) {
			int64_t at = next_write_ns(conn, (enum way)way);
			if (at > now && at < wake_ns)
				wake_ns = at;
		}
	}
	return wake_ns;
}

static int until_ms(int64_t wake_ns)
{
	if (wake_ns == INT64_MAX)
		return -1;
	int64_t left = wake_ns - now_ns();
	return left <= 0 ? 0 : (int)(left / NS_PER_MS) + 1;
}

static void turn(void)
{
	struct epoll_event events[EVENTS];
	int64_t wake_ns = tend_conns();
	free_dead();
	if (proxy.capture)
		(void)fflush(proxy.capture);
	int n = epoll_wait(epoll_fd, events, EVENTS, until_ms(wake_ns));
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == NULL)
			read_commands();
		else if (events[i].data.ptr == &listen_fd)
			accept_all();
		else
			serve(events[i].data.ptr, events[i].events);
	}
}

static void set_listen(const char *text)
{
	const char *colon = strrchr(text, ':');
	char address[64];
	(void)snprintf(address, sizeof(address), "%.*s", colon ? (int)(colon - text) : 0, text);
	proxy.port = (int)strtol(colon ? colon + 1 : text, NULL, 10);
	if (inet_pton(AF_INET, colon ? address : "127.0.0.1", &listen_address) != 1)
		exit(64);
}

static void read_arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "to", required_argument, NULL, 't' },
		{ "seed", required_argument, NULL, 's' },
		{ "capture", required_argument, NULL, 'c' },
		{ 0 },
	};
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'l')
			set_listen(optarg);
		else if (c == 's')
			proxy.seed = strtoull(optarg, NULL, 10);
		else if (c == 'c' && !(proxy.capture = fopen(optarg, "ae")))
			die(optarg);
		else if (c == '?' || (c == 't' && !proxy_set_target(optarg)))
			exit(64);
	}
	if (target_len == 0 || listen_address.s_addr == 0) {
		(void)fprintf(stderr, "usage: fault_proxy --listen [ADDRESS:]PORT --to HOST:PORT "
				      "[--seed N] [--capture FILE]\n");
		exit(64);
	}
}

int main(int argc, char **argv)
{
	struct epoll_event commands = { .events = EPOLLIN, .data.ptr = NULL };
	read_arguments(argc, argv);
	(void)signal(SIGPIPE, SIG_IGN);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &commands) != 0 ||
	    !open_port())
		die("fault_proxy");
	(void)printf("listening %d\n", proxy.port);
	(void)fflush(stdout);
	for (;;)
		turn();
}
