/*
 * The terminal as a whole screen (curses), and as it was when that ends, however it ends. The only
 * door to the terminal library. Floor 4, for commands.
 */
#ifndef WARREN_CURTAIN_H
#define WARREN_CURTAIN_H

#include "pen.h"

/* Takes the terminal; false with `why` when it cannot be had. */
bool curtain_open(char *why, size_t why_size) MUST_CHECK;
/* Gives it back. When a signal ended the show, ends the process by it. */
void curtain_close(void);

/* True once the process was told to end, or the terminal is gone. */
bool curtain_must_close(void);

size_t curtain_rows(void);
size_t curtain_columns(void);

/*
 * A pen on the rows from `top` to before `bottom`, of which the first `skip` lines are above what
 * is seen. Longer lines are cut.
 */
struct curtain_pen {
	struct pen pen;
	size_t top, bottom, skip;
	size_t line, column; /* where the next text goes, counted from the first line */
	bool chosen;         /* text is shown as the one that is chosen */
};
struct curtain_pen curtain_pen(size_t top, size_t bottom, size_t skip);

void curtain_clear(void);
void curtain_show(void);

/* Keys that are no character. */
enum {
	KEY_OF_NONE = -1,
	KEY_OF_UP = -100,
	KEY_OF_DOWN,
	KEY_OF_LEFT,
	KEY_OF_RIGHT,
	KEY_OF_PAGE_UP,
	KEY_OF_PAGE_DOWN,
	KEY_OF_HOME,
	KEY_OF_END,
	KEY_OF_BACKSPACE,
	KEY_OF_RESIZE,
	KEY_OF_OTHER,
	KEY_OF_ENTER = '\n',
	KEY_OF_TAB = '\t',
	KEY_OF_ESCAPE = 27,
};

/* The next key or character; KEY_OF_NONE where there is none. */
int curtain_key(void);

struct pollfd;
/* Waits for keys and for the others, at most so long; signals that end the show end it. */
void curtain_wait(struct pollfd *others, size_t n, int timeout_ms);

#endif
