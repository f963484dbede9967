/* Runs a fuzz target on saved inputs, files or folders of them, each in memory of its exact size.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

static bool run_file(const char *path)
{
	struct stat st;
	FILE *file = fopen(path, "rb");
	if (!file || fstat(fileno(file), &st) != 0) {
		perror(path);
		return false;
	}
	size_t size = (size_t)st.st_size;
	uint8_t *data = malloc(size ? size : 1);
	bool whole = data && fread(data, 1, size, file) == size;
	(void)fclose(file);
	if (whole && getenv("WARREN_FUZZ_VERBOSE"))
		(void)fprintf(stderr, "%s\n", path);
	if (whole)
		(void)LLVMFuzzerTestOneInput(data, size);
	else
		(void)fprintf(stderr, "%s: cannot be read\n", path);
	free(data);
	return whole;
}

static bool run_folder(const char *path, DIR *folder, unsigned *n)
{
	bool ok = true;
	for (struct dirent *entry; (entry = readdir(folder));) {
		char file[4096];
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		ok = run_file(file) && ok;
		++*n;
	}
	return ok;
}

int main(int argc, char **argv)
{
	unsigned n = 0;
	bool ok = true;
	(void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		DIR *folder = opendir(argv[i]);
		if (folder) {
			ok = run_folder(argv[i], folder, &n) && ok;
			(void)closedir(folder);
		} else {
			ok = run_file(argv[i]) && ok;
			n++;
		}
	}
	printf("%u inputs\n", n);
	return ok && n > 0 ? 0 : 1;
}
