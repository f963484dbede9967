/* For LD_PRELOAD: the system knows no TCP_USER_TIMEOUT, or not one that a full window falls under.
 */
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

__attribute__((visibility("default"))) int setsockopt(
    int fd, int level, int name, const void *value, socklen_t len)
{
	int (*next)(int, int, int, const void *, socklen_t);
	void *found = dlsym(RTLD_NEXT, "setsockopt");
	if (level == IPPROTO_TCP && name == TCP_USER_TIMEOUT)
		return 0;
	memcpy(&next, &found, sizeof(next));
	return next(fd, level, name, value, len);
}
