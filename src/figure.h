/* Numbers as people read them: 12.3k, 1.2 GiB, 350 ms, 3h 05m. Floor 4, for commands. */
#ifndef WARREN_FIGURE_H
#define WARREN_FIGURE_H

/* Each writes into `buf` and returns it; what is not a number (NAN) is a dash. */
enum { FIGURE_SIZE = 32 };

/* 0 to 9999 as they stand, then three digits and k, M, G, T. */
char *figure_count(double n, char buf[FIGURE_SIZE]);

/* How many a second, with digits where they are few: 0.05, 12.5, 1234. */
char *figure_rate(double per_s, char buf[FIGURE_SIZE]);

/* 12 us, 3.5 ms, 350 ms, 1.5 s, 42 s, 3m 20s, 4h 05m, 3d 04h. */
char *figure_time(double seconds, char buf[FIGURE_SIZE]);

/* 512 B, 1.2 GiB. */
char *figure_bytes(double n, char buf[FIGURE_SIZE]);

#endif
