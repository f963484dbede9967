/* Sockets of the file system, made so that no other process is robbed of its own. */
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "conf.h"

enum {
	BACKLOG = 32,
	LOCK_TRIES = 100, /* every 10 ms */
};

/* ---- the folder ---- */

static void folder_of(const char *path, char *folder, size_t size)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		(void)snprintf(folder, size, ".");
	else
		(void)snprintf(folder, size, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* Its mode does not depend on the umask that we were started with. */
static bool make_folder(const char *folder, char *why, size_t size)
{
	mode_t before = umask(0027);
	bool made = mkdir(folder, 0777) == 0 || errno == EEXIST;
	int saved = errno;

	(void)umask(before);
	if (made)
		return true;
	(void)snprintf(
	    why, size, "the folder %s is missing and cannot be made: %s", folder, strerror(saved));
	errno = saved;
	return false;
}

/*
 * Two that start at once would both find the same stale socket, and the slower one would remove
 * what the faster one has just made: who looks and makes does it alone. That takes a moment;
 * whoever may open the folder can hold its lock for longer, and must not keep us from starting.
 */
static bool lock(int fd)
{
	const struct timespec pause = { .tv_nsec = 10 * NS_PER_MS };

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return true;
		if (errno != EWOULDBLOCK)
			return false;
		(void)nanosleep(&pause, NULL);
	}
	return true;
}

static int lock_folder(const char *folder, char *why, size_t size)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), saved;

	if (fd >= 0 && lock(fd))
		return fd;
	saved = errno;
	(void)snprintf(why, size, "cannot lock the folder %s: %s", folder, strerror(saved));
	if (fd >= 0)
		(void)close(fd);
	errno = saved;
	return -1;
}

/* ---- what is there already ---- */

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	(void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	return to;
}

/* Whether somebody listens there; its process id, or 0. False with errno otherwise. */
static bool is_alive(const char *path, pid_t *pid)
{
	struct sockaddr_un to = address_of(path);
	struct ucred peer = { .pid = 0 };
	socklen_t len = sizeof(peer);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), saved;
	bool alive;

	if (fd < 0)
		return false;
	alive = connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == EAGAIN;
	saved = errno;
	if (alive)
		(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	*pid = peer.pid;
	(void)close(fd);
	errno = saved;
	return alive;
}

static bool refuse_living(const char *path, pid_t pid, char *why, size_t size)
{
	char who[32] = "";

	if (pid > 0)
		(void)snprintf(who, sizeof(who), " (process %d)", (int)pid);
	(void)snprintf(why, size,
	    "somebody listens on %s already%s: is warrend running? Two need a control.socket each",
	    path, who);
	errno = EADDRINUSE;
	return false;
}

/* Removes a socket that its owner left behind; anything else stays. */
static bool clear_way(const char *path, char *why, size_t size)
{
	struct stat st;
	pid_t pid;

	if (lstat(path, &st) != 0) {
		if (errno == ENOENT)
			return true;
		(void)snprintf(why, size, "%s: %s", path, strerror(errno));
		return false;
	}
	if (!S_ISSOCK(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid())) {
		(void)snprintf(
		    why, size, "%s is there already and is no socket of ours; it stays", path);
		errno = EEXIST;
		return false;
	}
	if (is_alive(path, &pid))
		return refuse_living(path, pid, why, size);
	if (errno == ECONNREFUSED && unlink(path) == 0)
		return true;
	(void)snprintf(why, size, "cannot replace %s: %s", path, strerror(errno));
	return false;
}

/* ---- the socket ---- */

static bool listen_at(struct local *local)
{
	struct sockaddr_un to = address_of(local->path);
	mode_t before = umask(0117);
	bool bound = bind(local->fd, (struct sockaddr *)&to, sizeof(to)) == 0;
	int saved = errno;
	struct stat st;

	(void)umask(before);
	errno = saved;
	if (!bound || listen(local->fd, BACKLOG) != 0 || lstat(local->path, &st) != 0)
		return false;
	local->device = st.st_dev;
	local->inode = st.st_ino;
	return true;
}

static bool make_socket(struct local *local, const char *path, char *why, size_t size)
{
	*local = LOCAL_NONE;
	(void)snprintf(local->path, sizeof(local->path), "%s", path);
	if (!clear_way(path, why, size))
		return false;
	local->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (local->fd >= 0 && listen_at(local))
		return true;
	(void)snprintf(why, size, "cannot listen on %s: %s", path, strerror(errno));
	return false;
}

bool local_open(struct local *local, const char *path, char *why, size_t why_size)
{
	char folder[sizeof(local->path)];
	int lock = -1, saved;
	bool made;

	*local = LOCAL_NONE;
	folder_of(path, folder, sizeof(folder));
	if (!make_folder(folder, why, why_size) || !conf_check_folder(folder, why, why_size) ||
	    (lock = lock_folder(folder, why, why_size)) < 0)
		return false;
	made = make_socket(local, path, why, why_size);
	saved = errno;
	(void)close(lock);
	if (!made)
		local_close(local);
	errno = saved;
	return made;
}

bool local_is_there(const struct local *local)
{
	struct stat st;

	return local->fd >= 0 && lstat(local->path, &st) == 0 && st.st_dev == local->device &&
	       st.st_ino == local->inode;
}

/* While it listens nobody takes its path for a stale one, so what is removed is ours. */
void local_close(struct local *local)
{
	if (local_is_there(local))
		(void)unlink(local->path);
	if (local->fd >= 0)
		(void)close(local->fd);
	*local = LOCAL_NONE;
}

/* ---- who is at the door ---- */

static bool is_in(gid_t group, const gid_t *groups, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (groups[i] == group)
			return true;
	return false;
}

static bool is_member(int client, gid_t group)
{
	socklen_t size = 0;
	gid_t *groups;
	bool member = false;

	/* the kernel says by an error how much room it needs */
	if (getsockopt(client, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || errno != ERANGE)
		return false;
	groups = malloc(size);
	if (groups && getsockopt(client, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
		member = is_in(group, groups, size / sizeof(*groups));
	free(groups);
	return member;
}

bool local_admits(const struct local *local, int client, struct ucred *peer)
{
	socklen_t size = sizeof(*peer);
	struct stat st;

	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, peer, &size) != 0) {
		*peer = (struct ucred){ .uid = (uid_t)-1, .gid = (gid_t)-1 };
		return false;
	}
	if (peer->uid == 0 || peer->uid == geteuid())
		return true;
	return local_is_there(local) && lstat(local->path, &st) == 0 &&
	       (peer->gid == st.st_gid || is_member(client, st.st_gid));
}
