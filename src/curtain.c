/* The terminal as a whole screen. */
#include "curtain.h"

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

enum { MOST_OTHERS = 4 };

static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
static const int crashing[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };

static SCREEN *screen;
static volatile sig_atomic_t ended_by;
static bool gone;
static sigset_t mask_before; /* signals that end us come in while we wait, and at no other time */

/* For a crash: what the terminal needs, ready to be written. */
static struct termios modes_before;
static char farewell[256];

static void on_ending(int number)
{
	ended_by = number;
}

/* A crash cannot call the terminal library. It goes on to be one when this returns. */
static void on_crash(int number)
{
	if (write(STDOUT_FILENO, farewell, strlen(farewell)) >= 0)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &modes_before);
	(void)raise(number);
}

static void add_farewell(const char *capability)
{
	/* The library's table has strings that are not const. */
	char name[16];
	(void)snprintf(name, sizeof(name), "%s", capability);
	const char *text = tigetstr(name);
	size_t used = strlen(farewell);
	if (text && text != (const char *)-1)
		(void)snprintf(farewell + used, sizeof(farewell) - used, "%s", text);
}

static void catch_signals(void)
{
	sigset_t ends;
	(void)sigemptyset(&ends);
	for (size_t i = 0; i < ARRAY_LEN(ending); i++)
		(void)sigaddset(&ends, ending[i]);
	(void)sigprocmask(SIG_BLOCK, &ends, &mask_before);
	for (size_t i = 0; i < ARRAY_LEN(ending); i++) {
		struct sigaction on = { .sa_handler = on_ending };
		(void)sigaction(ending[i], &on, NULL);
		(void)sigdelset(&mask_before, ending[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(crashing); i++) {
		struct sigaction on = { .sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND };
		(void)sigaction(crashing[i], &on, NULL);
	}
}

static void start_colours(void)
{
	if (!pen_wants_colour(stdout) || start_color() != OK || use_default_colors() != OK)
		return;
	(void)init_pair(TINT_GOOD, COLOR_GREEN, -1);
	(void)init_pair(TINT_WARN, COLOR_YELLOW, -1);
	(void)init_pair(TINT_BAD, COLOR_RED, -1);
}

bool curtain_open(char *why, size_t why_size)
{
	enum { ESCAPE_MS = 50 };
	const char *term = getenv("TERM");
	if (tcgetattr(STDIN_FILENO, &modes_before) != 0 || isatty(STDOUT_FILENO) != 1) {
		(void)snprintf(why, why_size, "it draws on a terminal, and this is none");
		return false;
	}
	screen = newterm(NULL, stdout, stdin);
	if (!screen) {
		(void)snprintf(
		    why, why_size, "the terminal library does not know TERM=%s", term ? term : "");
		return false;
	}
	add_farewell("sgr0");
	add_farewell("cnorm");
	add_farewell("rmcup");
	catch_signals();
	(void)set_escdelay(ESCAPE_MS);
	(void)cbreak();
	(void)noecho();
	(void)keypad(stdscr, true);
	(void)nodelay(stdscr, true);
	(void)curs_set(0);
	start_colours();
	return true;
}

void curtain_close(void)
{
	(void)endwin();
	delscreen(screen);
	(void)sigprocmask(SIG_SETMASK, &mask_before, NULL);
	if (ended_by == 0)
		return;
	(void)signal(ended_by, SIG_DFL);
	(void)raise(ended_by);
}

bool curtain_must_close(void)
{
	return ended_by != 0 || gone;
}

size_t curtain_rows(void)
{
	return (size_t)LINES;
}

size_t curtain_columns(void)
{
	return (size_t)COLS;
}

/* ---- writing ---- */

static attr_t attributes_of(enum tint tint)
{
	switch (tint) {
	case TINT_STRONG:
		return A_BOLD;
	case TINT_FAINT:
		return A_DIM;
	case TINT_GOOD:
	case TINT_WARN:
	case TINT_BAD:
		return (has_colors() ? (attr_t)COLOR_PAIR(tint) : 0) |
		       (tint == TINT_BAD ? A_BOLD : 0);
	default:
		return A_NORMAL;
	}
}

static void put_piece(struct curtain_pen *p, enum tint tint, const char *text)
{
	size_t width = curtain_columns(), row = p->top + p->line - p->skip;
	if (p->line < p->skip || row >= p->bottom || p->column >= width)
		return;
	char *fit = pen_fit(text, width - p->column);
	(void)attrset((int)(attributes_of(tint) | (p->chosen ? A_REVERSE : 0)));
	(void)mvaddstr((int)row, (int)p->column, fit);
	(void)attrset(A_NORMAL);
	p->column += pen_width(fit);
	free(fit);
}

static void put_to_curtain(struct pen *pen, enum tint tint, const char *text)
{
	struct curtain_pen *p = CONTAINER_OF(pen, struct curtain_pen, pen);
	for (;;) {
		size_t n = strcspn(text, "\n");
		char *piece = xasprintf("%.*s", (int)n, text);
		put_piece(p, tint, piece);
		free(piece);
		if (text[n] == '\0')
			return;
		text += n + 1;
		p->line++;
		p->column = 0;
	}
}

struct curtain_pen curtain_pen(size_t top, size_t bottom, size_t skip)
{
	return (struct curtain_pen){ { put_to_curtain }, top, bottom, skip, 0, 0, false };
}

void curtain_clear(void)
{
	(void)erase();
}

void curtain_show(void)
{
	(void)refresh();
}

/* ---- keys ---- */

static int special_key(wint_t key)
{
	static const struct {
		wint_t curses;
		int ours;
	} keys[] = { { KEY_UP, KEY_OF_UP }, { KEY_DOWN, KEY_OF_DOWN }, { KEY_LEFT, KEY_OF_LEFT },
		{ KEY_RIGHT, KEY_OF_RIGHT }, { KEY_PPAGE, KEY_OF_PAGE_UP },
		{ KEY_NPAGE, KEY_OF_PAGE_DOWN }, { KEY_HOME, KEY_OF_HOME }, { KEY_END, KEY_OF_END },
		{ KEY_BACKSPACE, KEY_OF_BACKSPACE }, { KEY_ENTER, KEY_OF_ENTER },
		{ KEY_RESIZE, KEY_OF_RESIZE } };
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (keys[i].curses == key)
			return keys[i].ours;
	return KEY_OF_OTHER;
}

int curtain_key(void)
{
	enum { DELETE = 127, BACKSPACE = 8 };
	wint_t key;
	switch (get_wch(&key)) {
	case KEY_CODE_YES:
		return special_key(key);
	case OK:
		if (key == '\r')
			return KEY_OF_ENTER;
		return key == DELETE || key == BACKSPACE ? KEY_OF_BACKSPACE : (int)key;
	default:
		return KEY_OF_NONE;
	}
}

void curtain_wait(struct pollfd *others, size_t n, int timeout_ms)
{
	struct pollfd all[1 + MOST_OTHERS] = { { .fd = STDIN_FILENO, .events = POLLIN } };
	CHECK(n <= MOST_OTHERS);
	memcpy(all + 1, others, n * sizeof(*others));
	struct timespec timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };
	if (ppoll(all, (nfds_t)(1 + n), &timeout, &mask_before) < 0)
		return;
	if (all[0].revents & (POLLHUP | POLLERR | POLLNVAL))
		gone = true;
	memcpy(others, all + 1, n * sizeof(*others));
}
