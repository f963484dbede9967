/*
 * Who stands at which post of the crew: every post is manned, a process that leaves is relieved by
 * another one before it does, the quarantine is there while there are suspects. Floor 3.
 */
#ifndef WARREN_RELIEF_H
#define WARREN_RELIEF_H

#include "crew.h"

/* Starts a process for every post that has none. Call whenever one may have become free. */
void relief_man(struct crew *crew);

/* A message is, was or may be in the quarantine: it is manned for a while. */
void relief_call_quarantine(struct crew *crew, int64_t now_ns);

/* Looks at the workers about once a second: jobs that should have been given up, processes that
 * have run enough jobs or hold too much memory, a quarantine that has nothing to do. */
void relief_tick(struct crew *crew, int64_t now_ns);

#endif
