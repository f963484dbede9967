/* A listening Unix socket at a path: who may stand in the way of it, and how it goes away again.
 * Floor 2. */
#ifndef WARREN_LOCAL_H
#define WARREN_LOCAL_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base.h"

struct local {
	int fd; /* -1: none */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	dev_t device; /* of the file that the path led to when it was made */
	ino_t inode;
};

#define LOCAL_NONE ((struct local){ .fd = -1 })

/*
 * Listens at the path, mode 0660. The folder is made with mode 0750 where it alone is missing; it
 * and all above it must be trusted (conf_check_folder). A socket of ours that nobody listens on is
 * replaced. False with why; errno is EADDRINUSE when somebody does.
 */
bool local_open(struct local *local, const char *path, char *why, size_t why_size) MUST_CHECK;

/* Whether the path still leads to it. */
bool local_is_there(const struct local *local);

/* Removes the file if it is there, and stops listening. */
void local_close(struct local *local);

/* What may connect besides the kernel's own check by mode: root, our own user, and members of the
 * group that the file belongs to now. */
bool local_admits(const struct local *local, int client, struct ucred *peer) MUST_CHECK;

#endif
