/* What a shared object exports, read from the file itself, so that nothing of it has to run.
 * Floor 1. */
#ifndef WARREN_ELFSYM_H
#define WARREN_ELFSYM_H

#include "base.h"

/*
 * The size of the data symbol `name` that the ELF file behind `fd` defines for others. 0 with a
 * sentence in `why` where the file is no shared object for this machine, or defines no such data.
 */
size_t elfsym_data_size(int fd, const char *name, char *why, size_t why_size) MUST_CHECK;

#endif
