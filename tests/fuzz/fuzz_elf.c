/* ELF files that others wrote: one that is opened as a plugin may hold anything. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "elfsym.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char why[300] = "";
	int fd = memfd_create("plugin", MFD_CLOEXEC);
	CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	if (elfsym_data_size(fd, "warren_plugin", why, sizeof(why)) == 0)
		CHECK(why[0] && is_safe_text(bytes_of(why), ""));
	close(fd);
	return 0;
}
