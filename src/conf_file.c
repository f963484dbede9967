/* Files that are trusted: who may have written them, who may read their secrets. Floor 1. */
#include "conf.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "conf_read.h"

enum {
	FILE_MAX = 4 * 1024 * 1024,
	NAMES_MAX = 16 * 1024, /* room for one entry of the user and group databases */
	WHY_MAX = PATH_MAX + 256,
};

bool conf_is_shortage(int why)
{
	return why == ENOMEM || why == EMFILE || why == ENFILE;
}

/*
 * Systems that give each ordinary user a group of the same name make files writable by it: nobody
 * else is in it, so it opens nothing. What root owns is never made so.
 */
static bool is_private_group(gid_t gid, uid_t owner)
{
	char user_names[NAMES_MAX], group_names[NAMES_MAX];
	struct passwd user, *found_user = NULL;
	struct group group, *found_group = NULL;
	if (owner == 0)
		return false;
	if (getpwuid_r(owner, &user, user_names, sizeof(user_names), &found_user) != 0 ||
	    !found_user ||
	    getgrgid_r(gid, &group, group_names, sizeof(group_names), &found_group) != 0 ||
	    !found_group)
		return false;
	if (user.pw_gid != gid || strcmp(user.pw_name, group.gr_name) != 0)
		return false;
	for (char **member = group.gr_mem; *member; member++)
		if (strcmp(*member, user.pw_name) != 0)
			return false;
	return true;
}

/* Where there is an access list, the group's bits are what it gives anybody at most. */
static bool has_access_list(const char *path)
{
	return getxattr(path, "system.posix_acl_access", NULL, 0) > 0;
}

static bool is_writable_by_others(const char *path, const struct stat *st)
{
	if (S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX))
		return false; /* what lies in it belongs to root or us, so nobody else can replace
				 it */
	if (st->st_mode & S_IWOTH)
		return true;
	return (st->st_mode & S_IWGRP) &&
	       (has_access_list(path) || !is_private_group(st->st_gid, st->st_uid));
}

static bool is_owner_trusted(const char *path, const struct stat *st, char *why, size_t why_size)
{
	if (st->st_uid == 0 || st->st_uid == geteuid())
		return true;
	(void)snprintf(why, why_size,
	    "%s%s (mode %04o) belongs to user %lu, but must belong to root or to user %lu; chown%s "
	    "mends it",
	    S_ISLNK(st->st_mode) ? "the link " : "", path, st->st_mode & 07777,
	    (unsigned long)st->st_uid, (unsigned long)geteuid(), S_ISLNK(st->st_mode) ? " -h" : "");
	return false;
}

/* One file or folder by itself. */
static bool is_ours(const char *path, const struct stat *st, char *why, size_t why_size)
{
	if (!is_owner_trusted(path, st, why, why_size))
		return false;
	if (!is_writable_by_others(path, st))
		return true;
	(void)snprintf(why, why_size, "%s (mode %04o) is writable by others; chmod go-w mends it",
	    path, st->st_mode & 07777);
	return false;
}

static bool walk(char *at, const char *path, int *links, char *why, size_t why_size);

static bool say_errno(const char *path, char *why, size_t why_size)
{
	(void)snprintf(why, why_size, "%s: %s", *path ? path : "/", strerror(errno));
	return false;
}

/* The link at the end of `at` gives way to what it points to. */
static bool follow(char *at, int *links, char *why, size_t why_size)
{
	enum { LINKS_MAX = 40 };
	char target[PATH_MAX];
	ssize_t len = readlink(at, target, sizeof(target) - 1);
	if (len < 0)
		return say_errno(at, why, why_size);
	target[len] = '\0';
	errno = ELOOP;
	if (++*links > LINKS_MAX)
		return say_errno(at, why, why_size);
	*strrchr(at, '/') = '\0';
	return walk(at, target, links, why, why_size);
}

/* One name further. What somebody else could have put in its place is refused. */
static bool enter(char *at, const char *name, size_t len, int *links, char *why, size_t why_size)
{
	struct stat st;
	if (stat(*at ? at : "/", &st) != 0)
		return say_errno(at, why, why_size);
	if (!is_ours(*at ? at : "/", &st, why, why_size))
		return false;
	if (len == 1 && *name == '.')
		return true;
	size_t end = strlen(at);
	if (len == 2 && strncmp(name, "..", len) == 0) {
		if (end)
			*strrchr(at, '/') = '\0';
		return true;
	}
	errno = ENAMETOOLONG;
	if (end + 1 + len >= PATH_MAX)
		return say_errno(at, why, why_size);
	(void)snprintf(at + end, PATH_MAX - end, "/%.*s", (int)len, name);
	if (lstat(at, &st) != 0)
		return say_errno(at, why, why_size);
	return !S_ISLNK(st.st_mode) ||
	       (is_owner_trusted(at, &st, why, why_size) && follow(at, links, why, why_size));
}

/*
 * Goes from `at`, "" for the root, along the path, as the kernel does. All folders on the way must
 * be ours, also those that links lead through. `at` becomes the path without links; PATH_MAX bytes.
 */
static bool walk(char *at, const char *path, int *links, char *why, size_t why_size)
{
	if (*path == '/')
		*at = '\0';
	while (*(path += strspn(path, "/"))) {
		size_t len = strcspn(path, "/");
		if (!enter(at, path, len, links, why, why_size))
			return false;
		path += len;
	}
	return true;
}

static bool walk_from_here(char *at, const char *path, char *why, size_t why_size)
{
	char here[PATH_MAX];
	int links = 0;
	*at = '\0';
	if (*path != '/' && !getcwd(here, sizeof(here)))
		return say_errno(path, why, why_size);
	return (*path == '/' || walk(at, here, &links, why, why_size)) &&
	       walk(at, path, &links, why, why_size);
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

bool conf_check_path(const char *path, int fd, bool secret, char *why, size_t why_size)
{
	struct stat open_one, named_one;
	char resolved[PATH_MAX];
	if (fstat(fd, &open_one) != 0)
		return say_errno(path, why, why_size);
	if (!walk_from_here(resolved, path, why, why_size))
		return false;
	if (lstat(resolved, &named_one) != 0)
		return say_errno(path, why, why_size);

	if (!is_same_file(&open_one, &named_one))
		(void)snprintf(why, why_size, "%s was replaced while it was being opened", path);
	else if (!S_ISREG(open_one.st_mode))
		(void)snprintf(why, why_size, "%s is not a regular file", path);
	else if (secret && (open_one.st_mode & S_IROTH))
		(void)snprintf(why, why_size,
		    "%s (mode %04o) holds a secret and is readable by others; chmod o= mends it",
		    resolved, open_one.st_mode & 07777);
	else
		return is_ours(resolved, &open_one, why, why_size);
	return false;
}

bool conf_check_folder(const char *path, char *why, size_t why_size)
{
	char resolved[PATH_MAX], inside[PATH_MAX];
	if (snprintf(inside, sizeof(inside), "%s/.", path) >= (int)sizeof(inside)) {
		errno = ENAMETOOLONG;
		return say_errno(path, why, why_size);
	}
	return walk_from_here(resolved, inside, why, why_size);
}

/* All of an open file. NULL with why. */
static char *slurp(const char *path, int fd, size_t *len, char *why, size_t why_size)
{
	struct stat st;
	if (fstat(fd, &st) != 0 || st.st_size > FILE_MAX) {
		(void)snprintf(why, why_size, "%s is larger than %d MiB", path, FILE_MAX >> 20);
		errno = EFBIG;
		return NULL;
	}
	size_t room = (size_t)st.st_size;
	char *text = calloc(room + 1, 1);
	*len = 0;
	if (!text) {
		(void)snprintf(why, why_size, "%s: out of memory", path);
		errno = ENOMEM;
		return NULL;
	}
	while (*len < room) {
		ssize_t n = read(fd, text + *len, room - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			(void)snprintf(why, why_size, "%s: %s", path, strerror(errno));
			free(text);
			return NULL;
		}
		if (n == 0)
			break;
		*len += (size_t)n;
	}
	return text;
}

static void close_quietly(int fd)
{
	int saved = errno;
	(void)close(fd);
	errno = saved;
}

/* -1 with why and errno, and whether that is a matter of permissions. */
static int open_checked(const char *path, bool secret, char *why, size_t why_size, bool *refused)
{
	/* O_NONBLOCK: a FIFO in the file's place must not hold us up before it is refused. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		(void)say_errno(path, why, why_size);
		*refused = errno == EACCES || errno == EPERM;
		return -1;
	}
	errno = 0;
	if (conf_check_path(path, fd, secret, why, why_size)) {
		*refused = false;
		return fd;
	}
	*refused = !conf_is_shortage(errno);
	close_quietly(fd);
	return -1;
}

/* Opened, checked and read. NULL with why and errno, and whether that is a matter of permissions.
 */
static char *read_checked(const char *path, bool secret, struct conf_file *file, char *why,
    size_t why_size, bool *refused)
{
	struct stat st;
	int fd = open_checked(path, secret, why, why_size, refused);
	if (fd < 0)
		return NULL;
	file->text = fstat(fd, &st) == 0 ? slurp(path, fd, &file->len, why, why_size) : NULL;
	file->mode = file->text ? st.st_mode & 07777 : 0;
	close_quietly(fd);
	return file->text;
}

bool conf_open_file(const char *path, struct conf_file *file, struct conf_errors *errors)
{
	char why[WHY_MAX];
	bool refused;
	if (!read_checked(path, false, file, why, sizeof(why), &refused)) {
		int why_not = errno;
		size_t len = strlen(path); /* which stands before each error anyway */
		bool twice = strncmp(why, path, len) == 0 && why[len] == ':';
		conf_errors_add(errors, path, 0, "%s", twice ? why + len + 2 : why);
		errors->refused |= refused;
		errors->shortage |= conf_is_shortage(why_not);
		return false;
	}
	const char *nul = memchr(file->text, '\0', file->len);
	if (nul) {
		unsigned line = 1;
		for (const char *p = file->text; p < nul; p++)
			line += *p == '\n';
		conf_errors_add(
		    errors, path, line, "the file holds a NUL byte here: it is not text");
		free(file->text);
		return false;
	}
	return true;
}

char *conf_read_file(const char *path, size_t *len, struct conf_errors *errors)
{
	struct conf_file file;
	if (!conf_open_file(path, &file, errors))
		return NULL;
	*len = file.len;
	return file.text;
}

static char *read_secret(const char *path, char *why, size_t why_size, bool *refused)
{
	struct conf_file file;
	char *text = read_checked(path, true, &file, why, why_size, refused);
	if (!text)
		return NULL;
	size_t line_len = strcspn(text, "\r\n");
	char *password = NULL;
	if (line_len < file.len && text[line_len] == '\0')
		(void)snprintf(why, why_size, "%s holds a NUL byte", path);
	else if (line_len == 0)
		(void)snprintf(
		    why, why_size, "%s: the first line is empty, but should be the password", path);
	else if (!(password = strndup(text, line_len)))
		(void)snprintf(why, why_size, "%s: out of memory", path);
	explicit_bzero(text, file.len);
	free(text);
	return password;
}

char *conf_read_password(const char *path, char *why, size_t why_size)
{
	bool refused;
	return read_secret(path, why, why_size, &refused);
}

void conf_check_secret(struct reader *r, const char *setting, const char *path)
{
	char why[WHY_MAX];
	bool refused;
	char *password = read_secret(path, why, sizeof(why), &refused);
	if (!password) {
		reader_wrong(r, conf_line(r, "%s", setting), "%s: %s", setting, why);
		r->errors->refused |= refused;
		return;
	}
	explicit_bzero(password, strlen(password));
	free(password);
}

void conf_check_file(struct reader *r, const char *setting, const char *path, bool secret)
{
	char why[WHY_MAX];
	bool refused;
	if (!path)
		return;
	int fd = open_checked(path, secret, why, sizeof(why), &refused);
	if (fd >= 0) {
		(void)close(fd);
		return;
	}
	reader_wrong(r, conf_line(r, "%s", setting), "%s: %s", setting, why);
	r->errors->refused |= refused;
}
