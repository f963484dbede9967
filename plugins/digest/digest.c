/* file.digest: replies with the digest of the file that the body names, or of the body itself. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include <warren/plugin.h>

enum {
	CHUNK = 64 * 1024,
	AS_FILE = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, /* a FIFO does not hold us up */
	AS_FOLDER = O_PATH | O_DIRECTORY | O_CLOEXEC,
};

/* Shared by all threads, constant after open(). */
struct digest {
	EVP_MD *algorithm;
	bool of_body;
	const char *root; /* "": any file */
	int root_fd;
};

/* ---- Opening the file ---- */

/* The path below the root that `path` names, or NULL when it lies elsewhere. */
static const char *below_root(const struct digest *digest, const char *path)
{
	size_t len = strlen(digest->root);
	if (*path != '/')
		return path;
	while (len > 0 && digest->root[len - 1] == '/')
		len--;
	if (strncmp(path, digest->root, len) != 0 || path[len] != '/')
		return NULL;
	return path + len;
}

/* Replaces the folder `*fd` by its entry `name`, which must not be a link. */
static bool step(int *fd, const char *name, int flags)
{
	int next = -1;
	if (strcmp(name, "..") == 0)
		errno = EXDEV;
	else
		next = openat(*fd, name, flags | O_NOFOLLOW);
	int error = errno;
	close(*fd);
	errno = error;
	*fd = next;
	return next >= 0;
}

/*
 * Opens a file below the root, one name after the other, so that neither ".." nor a symbolic link
 * leads out of it, whoever changes the folders meanwhile.
 */
static int open_below(int root_fd, const char *path)
{
	char name[NAME_MAX + 1];
	int fd = dup(root_fd);
	while (fd >= 0) {
		path += strspn(path, "/");
		size_t len = strcspn(path, "/");
		bool last = path[len] == '\0';
		snprintf(name, sizeof(name), "%.*s", (int)(len < NAME_MAX ? len : NAME_MAX), path);
		if (!step(&fd, len <= NAME_MAX ? name : "..", last ? AS_FILE : AS_FOLDER) || last)
			break;
		path += len;
	}
	return fd;
}

static int open_named(const struct digest *digest, const char *path)
{
	if (digest->root_fd >= 0) {
		const char *below = below_root(digest, path);
		errno = EXDEV;
		return below ? open_below(digest->root_fd, below) : -1;
	}
	errno = EINVAL;
	return *path == '/' ? open(path, AS_FILE) : -1;
}

/* No second attempt can mend a name; memory, descriptors and disks may recover. */
static enum warren_verdict not_opened(struct warren_job *job, const char *path, int error)
{
	switch (error) {
	case EINVAL:
		return warren_dead(job, "%s: not an absolute path", path);
	case EXDEV:
		return warren_dead(job, "%s: not below the root", path);
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case ENAMETOOLONG:
	case EACCES:
	case ENXIO:
		return warren_dead(job, "%s: %s", path, strerror(error));
	default:
		return warren_retry(job, "%s: %s", path, strerror(error));
	}
}

/* ---- The digest ---- */

static enum warren_verdict reply_hex(struct warren_job *job, EVP_MD_CTX *context)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE];
	unsigned len;
	if (!EVP_DigestFinal_ex(context, digest, &len))
		return warren_retry(job, "the digest could not be made");
	for (unsigned i = 0; i < len; i++) {
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 0xf];
	}
	warren_reply(job, "text/plain", hex, 2 * (size_t)len);
	return WARREN_DONE;
}

static enum warren_verdict digest_file(
    struct warren_job *job, EVP_MD_CTX *context, int fd, off_t size)
{
	char chunk[CHUNK];
	off_t done = 0;
	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return warren_retry(job, "read: %s", strerror(errno));
		if (n == 0)
			return reply_hex(job, context);
		if (!EVP_DigestUpdate(context, chunk, (size_t)n))
			return warren_retry(job, "the digest could not be made");
		if (warren_stopping(job) > WARREN_STOP_DRAIN)
			return warren_retry(job, "stopped after %lld bytes", (long long)done);
		done += n;
		warren_progress(job, (int)(done / (size / 100 + 1)));
	}
}

/* The body as a path, without the newline that a line of text ends with. */
static enum warren_verdict path_of(struct warren_job *job, char **path)
{
	size_t len;
	const char *body = warren_body(job, &len);
	if (len > 0 && body[len - 1] == '\n')
		len--;
	if (len == 0 || memchr(body, '\0', len))
		return warren_dead(job, "the body is not the name of a file");
	*path = warren_alloc(job, len + 1);
	if (!*path)
		return warren_retry(job, "out of memory");
	memcpy(*path, body, len);
	(*path)[len] = '\0';
	return WARREN_DONE;
}

static enum warren_verdict of_file(
    struct warren_job *job, const struct digest *digest, EVP_MD_CTX *context)
{
	char *path;
	enum warren_verdict verdict = path_of(job, &path);
	if (verdict != WARREN_DONE)
		return verdict;

	struct stat file;
	int fd = open_named(digest, path);
	if (fd < 0)
		return not_opened(job, path, errno);
	if (fstat(fd, &file) != 0)
		verdict = warren_retry(job, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(file.st_mode))
		verdict = warren_dead(job, "%s: not a regular file", path);
	else
		verdict = digest_file(job, context, fd, file.st_size);
	close(fd);
	return verdict;
}

static enum warren_verdict run(struct warren_job *job)
{
	const struct digest *digest = warren_state(job);
	EVP_MD_CTX *context = warren_thread_state(job);
	size_t len;
	const char *body = warren_body(job, &len);

	if (!EVP_DigestInit_ex(context, digest->algorithm, NULL))
		return warren_retry(job, "the digest could not be made");
	if (!digest->of_body)
		return of_file(job, digest, context);
	if (!EVP_DigestUpdate(context, body, len))
		return warren_retry(job, "the digest could not be made");
	return reply_hex(job, context);
}

/* ---- Life ---- */

static void stop(void *state)
{
	struct digest *digest = state;
	if (digest->root_fd >= 0)
		close(digest->root_fd);
	EVP_MD_free(digest->algorithm);
	free(digest);
}

static bool configure(struct warren_host *host, struct digest *digest)
{
	const char *algorithm = warren_option_text(host, "algorithm");
	const char *source = warren_option_text(host, "source");

	digest->algorithm = EVP_MD_fetch(NULL, algorithm, NULL);
	if (!digest->algorithm)
		return warren_refuse(host,
		    "OpenSSL has no digest \"%s\"; `openssl list -digest-commands` shows them",
		    algorithm);
	digest->of_body = strcmp(source, "body") == 0;
	if (!digest->of_body && strcmp(source, "file") != 0)
		return warren_refuse(host, "source is \"%s\"; it is \"file\" or \"body\"", source);
	digest->root = warren_option_text(host, "root");
	if (!*digest->root)
		return true;
	digest->root_fd = open(digest->root, AS_FOLDER);
	if (digest->root_fd < 0)
		return warren_refuse(host, "root %s: %s", digest->root, strerror(errno));
	return true;
}

static bool start(struct warren_host *host, void **state)
{
	struct digest *digest = calloc(1, sizeof(*digest));
	if (!digest)
		return warren_refuse(host, "out of memory");
	digest->root_fd = -1;
	if (!configure(host, digest)) {
		stop(digest);
		return false;
	}
	*state = digest;
	return true;
}

static bool start_thread(
    struct warren_host *host, void *state, unsigned thread, void **thread_state)
{
	(void)state, (void)thread;
	*thread_state = EVP_MD_CTX_new();
	return *thread_state || warren_refuse(host, "out of memory");
}

static void stop_thread(void *state, void *thread_state)
{
	(void)state;
	EVP_MD_CTX_free(thread_state);
}

static const struct warren_task tasks[] = {
	{ .name = "file.digest", .run = run },
	{ 0 },
};

static const struct warren_option options[] = {
	{
	    .name = "algorithm",
	    .type = WARREN_OPT_STRING,
	    .fallback = "sha256",
	    .help = "any digest that OpenSSL knows: sha256, sha512, sha3-256, blake2b512, ...",
	},
	{
	    .name = "source",
	    .type = WARREN_OPT_STRING,
	    .fallback = "file",
	    .help = "what is digested: the \"file\" that the body names, or the \"body\"",
	},
	{
	    .name = "root",
	    .type = WARREN_OPT_PATH,
	    .fallback = "",
	    .help = "only files below this folder, no symbolic links followed; \"\": any file",
	},
	{ 0 },
};

WARREN_PLUGIN(digest, .version = "1.0",
    .summary = "replies with the digest of a file or of the body", .tasks = tasks,
    .options = options, .open = start, .close = stop, .thread_open = start_thread,
    .thread_close = stop_thread);
