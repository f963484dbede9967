/* `warren top`: what a running daemon does, live, and the keys to steer it. */
#include "cmd_ask.h"

#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "curtain.h"
#include "figure.h"
#include "roster.h"
#include "screen.h"

static const char help[] =
    "usage: warren top [-s SOCKET | -c FILE]\n"
    "\n"
    "Shows what warrend does, every second, and steers it by keys; '?' lists them.\n"
    "\n" CMD_ASK_HELP "  -h, --help\n"
    "\n"
    "Exit: 0 ended with q, 64 usage, 69 no warrend answers, 71 no terminal, 77 not allowed.\n";

static const struct option options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "config", required_argument, NULL, 'c' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static const char keys_help[] =
    "Keys\n"
    "\n"
    "Tab           queues, threads\n"
    "Up Down       choose a row; also Page up, Page down, Home, End\n"
    "Left Right    other columns, where the terminal is too narrow for all\n"
    "Enter         all that is known of the row\n"
    "s S           sort by the next column, by the previous one\n"
    "r             sort the other way round\n"
    "/             only rows that contain a text; Escape ends it\n"
    "!             problems, and what to do about them\n"
    "p             pause the queue of the row; asks first\n"
    "u             resume the queue of the row; asks first\n"
    "c             cancel the job of the row; asks first\n"
    "?             this help\n"
    "q             back, or quit\n";

enum view { VIEW_QUEUES, VIEW_THREADS, N_VIEWS };
static const char *const view_names[N_VIEWS] = { "queues", "threads" };

enum page { PAGE_TABLE, PAGE_HELP, PAGE_PROBLEMS, PAGE_DETAIL };
enum input { INPUT_KEYS, INPUT_FILTER, INPUT_CONFIRM };

/* What is to be asked, and what a refresh of a second may take. */
struct inquiry {
	struct ask *ask; /* NULL: none is under way */
	int64_t deadline_ns;
};

struct top {
	struct cmd_daemon daemon;
	struct inquiry status, order;
	json_t *answer; /* the last status */
	int64_t answered_ns, next_ns;
	char *trouble; /* why there is no newer one; NULL: there is */
	struct roster rosters[N_VIEWS];
	enum view view;
	enum page page;
	size_t scrolled; /* of a page */
	enum input input;
	char *line;   /* the order that is to be confirmed */
	char *prompt; /* the question about it */
	char *said;   /* what came of the last one */
	enum tint said_tint;
	bool done;
};

static void set(char **field, char *text)
{
	free(*field);
	*field = text;
}

static struct roster *roster(struct top *top)
{
	return &top->rosters[top->view];
}

static void say(struct top *top, enum tint tint, char *text)
{
	set(&top->said, text);
	top->said_tint = tint;
}

/* ---- the daemon ---- */

static void update_rosters(struct top *top)
{
	for (size_t i = 0; i < N_VIEWS; i++) {
		struct reply_list list = reply_list(top->answer, view_names[i]);
		roster_update(&top->rosters[i], &list);
	}
}

static void begin(struct top *top, struct inquiry *inquiry, const char *line, int64_t limit_ns)
{
	inquiry->ask = ask_start(top->daemon.path, line);
	inquiry->deadline_ns = clock_mono_ns() + limit_ns;
}

/* The answer once there is one; else NULL, and with it why not, or that it is not over. */
static json_t *step(struct inquiry *inquiry, char **why)
{
	char words[512] = "";
	json_t *answer = NULL;
	*why = NULL;
	switch (ask_step(inquiry->ask)) {
	case ASK_BUSY:
		if (clock_mono_ns() < inquiry->deadline_ns)
			return NULL;
		*why = xstrdup("warrend does not answer: it is busy or stuck");
		break;
	case ASK_FAILED:
		*why = pen_safe(bytes_of(ask_why(inquiry->ask)));
		break;
	case ASK_ANSWERED:
		answer = reply_parse(ask_answer(inquiry->ask), words, sizeof(words));
		if (!answer)
			*why = pen_safe(bytes_of(words));
		break;
	}
	ask_end(inquiry->ask);
	inquiry->ask = NULL;
	return answer;
}

static void take_status(struct top *top)
{
	char *why;
	json_t *answer = step(&top->status, &why);
	if (answer && cmd_answer_code(answer) == EXIT_OK) {
		json_t *before = top->answer;
		top->answer = answer;
		top->answered_ns = clock_mono_ns();
		update_rosters(top);
		json_decref(before);
		set(&top->trouble, NULL);
		return;
	}
	if (answer)
		why = sheet_text(answer, "error");
	if (why)
		set(&top->trouble, why);
	json_decref(answer);
}

static void take_order(struct top *top)
{
	char *why;
	json_t *answer = step(&top->order, &why);
	if (answer && cmd_answer_code(answer) == EXIT_OK)
		say(top, TINT_GOOD, sheet_text(answer, "said"));
	else if (answer)
		say(top, TINT_BAD, sheet_text(answer, "error"));
	else if (why)
		say(top, TINT_BAD, why);
	json_decref(answer);
}

static void talk(struct top *top)
{
	int64_t now = clock_mono_ns();
	if (!top->status.ask && now >= top->next_ns) {
		begin(top, &top->status, "status\n", CMD_ASK_ANSWER_NS);
		top->next_ns = now + NS_PER_S;
	}
	if (top->status.ask)
		take_status(top);
	if (top->order.ask)
		take_order(top);
}

/* ---- drawing ---- */

static void put_state(struct top *top, struct pen *pen, size_t width)
{
	char ago[FIGURE_SIZE];
	if (!top->trouble) {
		screen_put_verdict(pen, top->answer);
		screen_put_facts(pen, top->answer, width);
		return;
	}
	double seconds = (double)(clock_mono_ns() - top->answered_ns) / NS_PER_S;
	pen_put(
	    pen, TINT_BAD, "NO ANSWER; what follows is from %s ago\n", figure_time(seconds, ago));
	pen_wrap(pen, TINT_WARN, top->trouble, 0, width);
}

static void put_problems(struct top *top, struct pen *pen, size_t width)
{
	enum { MOST = 4 };
	struct reply_list problems = reply_list(top->answer, "problems");
	for (size_t i = 0; i < problems.n && i < MOST; i++) {
		screen_put_problem_line(pen, reply_item(&problems, i), width);
		pen->put(pen, TINT_PLAIN, "\n");
	}
	if (problems.n > MOST)
		pen_put(pen, TINT_WARN, "and %zu more: ! shows them\n", problems.n - MOST);
}

/* How many rows are seen of how many there are; only busy threads have a row. */
static void put_size(struct top *top, struct pen *pen)
{
	const struct roster *r = roster(top);
	char busy[FIGURE_SIZE], total[FIGURE_SIZE];
	if (top->view == VIEW_THREADS)
		pen_put(pen, TINT_PLAIN, "%zu of %s busy, %s in all", r->n_rows,
		    figure_count(reply_real(top->answer, "threads_busy"), busy),
		    figure_count(reply_real(top->answer, "threads_total"), total));
	else
		pen_put(pen, TINT_PLAIN, "%zu of %zu", r->n_rows, r->n_items);
}

static void put_bar(struct top *top, struct pen *pen)
{
	struct roster *r = roster(top);
	char *filter = pen_safe(bytes_of(r->filter));
	pen->put(pen, TINT_PLAIN, "\n");
	for (size_t i = 0; i < N_VIEWS; i++)
		pen_put(pen, i == top->view ? TINT_STRONG : TINT_FAINT,
		    i == top->view ? "[%s] " : " %s  ", view_names[i]);
	put_size(top, pen);
	pen_put(pen, TINT_PLAIN, ", by %s %s", r->sheet->columns[r->sort].heading,
	    r->descending ? "down" : "up");
	if (*filter)
		pen_put(pen, TINT_WARN, ", with '%s'", filter);
	pen->put(pen, TINT_PLAIN, "\n");
	free(filter);
}

static void choose_row(struct pen *pen, bool chosen)
{
	CONTAINER_OF(pen, struct curtain_pen, pen)->chosen = chosen;
}

static void draw_table(struct top *top, size_t rows, size_t width)
{
	struct curtain_pen p = curtain_pen(0, rows, 0);
	put_state(top, &p.pen, width);
	put_problems(top, &p.pen, width);
	put_bar(top, &p.pen);
	size_t used = p.line + 1; /* with the heading */
	roster_put(roster(top), &p.pen, rows > used ? rows - used : 1, width, choose_row);
}

static void put_page(struct top *top, struct pen *pen, size_t width)
{
	if (top->page == PAGE_HELP) {
		pen->put(pen, TINT_PLAIN, keys_help);
	} else if (top->page == PAGE_DETAIL) {
		const json_t *chosen = roster_chosen(roster(top));
		screen_put_detail(pen, chosen, width);
	} else {
		put_state(top, pen, width);
		pen->put(pen, TINT_PLAIN, "\n");
		screen_put_problems(pen, top->answer, width);
		screen_put_healed(pen, top->answer, width);
	}
}

/* Scrolled no further than to its end. */
static void draw_page(struct top *top, size_t rows, size_t width)
{
	struct curtain_pen measure = curtain_pen(0, 0, 0);
	put_page(top, &measure.pen, width);
	size_t most = measure.line > rows ? measure.line - rows : 0;
	if (top->scrolled > most)
		top->scrolled = most;
	struct curtain_pen p = curtain_pen(0, rows, top->scrolled);
	put_page(top, &p.pen, width);
}

static void draw_last_line(struct top *top, size_t row)
{
	struct curtain_pen p = curtain_pen(row, row + 1, 0);
	char *filter = pen_safe(bytes_of(roster(top)->filter));
	if (top->input == INPUT_CONFIRM)
		pen_put(&p.pen, TINT_STRONG, "%s y/n", top->prompt);
	else if (top->input == INPUT_FILTER)
		pen_put(&p.pen, TINT_STRONG, "rows with: %s_", filter);
	else if (top->order.ask)
		pen_put(&p.pen, TINT_WARN, "waiting for warrend");
	else if (top->said)
		pen_put(&p.pen, top->said_tint, "%s", top->said);
	else
		pen_put(&p.pen, TINT_FAINT, "%s",
		    top->page == PAGE_TABLE
			? "? help  q quit  Tab threads  Enter look  / filter  s sort  p pause"
			: "q back  Up Down scroll");
	free(filter);
}

static void draw(struct top *top)
{
	enum { LEAST_ROWS = 4, LEAST_COLUMNS = 20 };
	size_t rows = curtain_rows(), width = curtain_columns();
	curtain_clear();
	if (rows >= LEAST_ROWS && width >= LEAST_COLUMNS) {
		if (top->page == PAGE_TABLE)
			draw_table(top, rows - 1, width);
		else
			draw_page(top, rows - 1, width);
	}
	draw_last_line(top, rows - 1);
	curtain_show();
}

/* ---- orders ---- */

/* "queue" of a queue, and of a thread the queue that it works for. */
static void ask_about_queue(struct top *top, const char *verb)
{
	struct bytes queue = reply_text(roster_chosen(roster(top)), "queue");
	if (queue.len == 0)
		return;
	char *safe = pen_safe(queue);
	const char *words[] = { verb, queue.data };
	set(&top->line, ask_line(words, ARRAY_LEN(words)));
	set(&top->prompt, xasprintf("%s queue %s?", verb, safe));
	top->input = top->line ? INPUT_CONFIRM : INPUT_KEYS;
	free(safe);
}

static void ask_about_job(struct top *top)
{
	const json_t *thread = top->view == VIEW_THREADS ? roster_chosen(roster(top)) : NULL;
	struct bytes id = reply_text(thread, "job.id");
	if (id.len == 0) {
		say(top, TINT_WARN, xstrdup("choose a thread that has a job first"));
		return;
	}
	char *safe = pen_safe(id), *task = sheet_text(thread, "job.task");
	const char *words[] = { "cancel", id.data };
	set(&top->line, ask_line(words, ARRAY_LEN(words)));
	set(&top->prompt, xasprintf("cancel job %s (%s)?", safe, task));
	top->input = top->line ? INPUT_CONFIRM : INPUT_KEYS;
	free(safe);
	free(task);
}

static void on_confirm(struct top *top, int key)
{
	enum { ORDER_S = 60 };
	if (key == KEY_OF_NONE || key == KEY_OF_RESIZE)
		return;
	top->input = INPUT_KEYS;
	if (key == 'y' || key == 'Y') {
		begin(top, &top->order, top->line, ORDER_S * NS_PER_S);
		top->next_ns = 0;
	} else {
		say(top, TINT_PLAIN, xstrdup("nothing was done"));
	}
}

/* ---- keys ---- */

static void drop_last_character(char *text)
{
	size_t n = strlen(text);
	while (n > 0 && ((unsigned char)text[n - 1] & 0xC0) == 0x80)
		n--;
	text[n > 0 ? n - 1 : 0] = '\0';
}

static void add_character(char *text, size_t size, int key)
{
	char bytes[MB_LEN_MAX];
	mbstate_t state = { 0 };
	size_t used = strlen(text), n = wcrtomb(bytes, (wchar_t)key, &state);
	if (key < ' ' || n > sizeof(bytes) || used + n >= size)
		return;
	memcpy(text + used, bytes, n);
	text[used + n] = '\0';
}

static void on_filter(struct top *top, int key)
{
	struct roster *r = roster(top);
	if (key == KEY_OF_ENTER) {
		top->input = INPUT_KEYS;
	} else if (key == KEY_OF_ESCAPE) {
		r->filter[0] = '\0';
		top->input = INPUT_KEYS;
	} else if (key == KEY_OF_BACKSPACE) {
		drop_last_character(r->filter);
	} else {
		add_character(r->filter, sizeof(r->filter), key);
	}
	update_rosters(top);
}

static void open_page(struct top *top, enum page page)
{
	top->page = page;
	top->scrolled = 0;
}

static void on_page(struct top *top, int key)
{
	size_t screenful = curtain_rows() / 2;
	switch (key) {
	case 'q':
	case KEY_OF_ESCAPE:
	case KEY_OF_ENTER:
		open_page(top, PAGE_TABLE);
		break;
	case KEY_OF_UP:
		top->scrolled -= top->scrolled > 0;
		break;
	case KEY_OF_DOWN:
		top->scrolled++;
		break;
	case KEY_OF_PAGE_UP:
		top->scrolled -= top->scrolled < screenful ? top->scrolled : screenful;
		break;
	case KEY_OF_PAGE_DOWN:
		top->scrolled += screenful;
		break;
	}
}

static bool moves(struct top *top, int key)
{
	static const struct {
		int key;
		long rows, screenfuls;
	} keys[] = { { KEY_OF_UP, -1, 0 }, { KEY_OF_DOWN, 1, 0 }, { KEY_OF_PAGE_UP, 0, -1 },
		{ KEY_OF_PAGE_DOWN, 0, 1 }, { KEY_OF_HOME, -1000000, 0 },
		{ KEY_OF_END, 1000000, 0 } };
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (keys[i].key == key) {
			roster_move(roster(top),
			    keys[i].rows + keys[i].screenfuls * (long)(curtain_rows() / 2));
			return true;
		}
	return false;
}

static bool sorts(struct top *top, int key)
{
	struct roster *r = roster(top);
	if (key == 's')
		roster_sort_by_next(r, 1);
	else if (key == 'S')
		roster_sort_by_next(r, -1);
	else if (key == 'r')
		r->descending = !r->descending;
	else
		return false;
	update_rosters(top);
	return true;
}

static void on_table(struct top *top, int key)
{
	if (moves(top, key) || sorts(top, key))
		return;
	switch (key) {
	case 'q':
		top->done = true;
		break;
	case KEY_OF_TAB:
		top->view = (top->view + 1) % N_VIEWS;
		break;
	case KEY_OF_LEFT:
	case KEY_OF_RIGHT:
		roster_turn(roster(top), key == KEY_OF_RIGHT, curtain_columns() - 2);
		break;
	case KEY_OF_ENTER:
		open_page(top, PAGE_DETAIL);
		break;
	case KEY_OF_ESCAPE:
		roster(top)->filter[0] = '\0';
		update_rosters(top);
		break;
	case '/':
		top->input = INPUT_FILTER;
		break;
	case '!':
		open_page(top, PAGE_PROBLEMS);
		break;
	case '?':
		open_page(top, PAGE_HELP);
		break;
	case 'p':
		ask_about_queue(top, "pause");
		break;
	case 'u':
		ask_about_queue(top, "resume");
		break;
	case 'c':
		ask_about_job(top);
		break;
	}
}

static void on_key(struct top *top, int key)
{
	if (top->input == INPUT_CONFIRM) {
		on_confirm(top, key);
		return;
	}
	if (key != KEY_OF_RESIZE)
		set(&top->said, NULL);
	if (top->input == INPUT_FILTER)
		on_filter(top, key);
	else if (top->page != PAGE_TABLE)
		on_page(top, key);
	else if (!top->order.ask || key == 'q')
		on_table(top, key);
}

/* ---- the show ---- */

static void wait_for_more(struct top *top)
{
	enum { MOST_MS = 1000 };
	struct pollfd others[2];
	size_t n = 0;
	int wait_ms = top->status.ask ? MOST_MS : clock_until_ms(top->next_ns, MOST_MS);
	struct ask *const asks[] = { top->status.ask, top->order.ask };
	for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
		int step_ms = asks[i] ? ask_poll(asks[i], &others[n++]) : -1;
		if (step_ms >= 0 && step_ms < wait_ms)
			wait_ms = step_ms;
	}
	curtain_wait(others, n, wait_ms);
}

static void show(struct top *top)
{
	while (!top->done && !curtain_must_close()) {
		int key;
		talk(top);
		while (!top->done && (key = curtain_key()) != KEY_OF_NONE)
			on_key(top, key);
		draw(top);
		if (!top->done)
			wait_for_more(top);
	}
}

/* The first answer comes before the terminal is touched: a mistake is said in plain words. */
static int open_top(struct top *top)
{
	static const char *const words[] = { "status" };
	const struct cmd_patience patience = { CMD_ASK_ANSWER_NS, NULL };
	int code;
	top->answer = cmd_ask(&top->daemon, words, ARRAY_LEN(words), &patience, NULL, &code);
	if (!top->answer)
		return code;
	code = cmd_answer_code(top->answer);
	if (code != EXIT_OK) {
		cmd_say_refused(top->answer);
		return code;
	}
	top->answered_ns = clock_mono_ns();
	top->next_ns = top->answered_ns + NS_PER_S;
	update_rosters(top);
	return EXIT_OK;
}

static int run(struct top *top)
{
	char why[128];
	int code = open_top(top);
	if (code != EXIT_OK)
		return code;
	if (!curtain_open(why, sizeof(why))) {
		cmd_say("%s; 'warren status' needs none", why);
		return EXIT_OS;
	}
	show(top);
	curtain_close();
	return EXIT_OK;
}

static void top_free(struct top *top)
{
	for (size_t i = 0; i < N_VIEWS; i++)
		roster_free(&top->rosters[i]);
	ask_end(top->status.ask);
	ask_end(top->order.ask);
	json_decref(top->answer);
	free(top->trouble);
	free(top->line);
	free(top->prompt);
	free(top->said);
	free(top->daemon.path);
}

/* The column of that heading. */
static size_t column_of(const struct sheet *sheet, const char *heading)
{
	size_t i = 0;
	while (strcmp(sheet->columns[i].heading, heading) != 0)
		CHECK(++i < sheet->n_columns);
	return i;
}

int cmd_top(int argc, char **argv)
{
	struct top top = { .rosters = {
			       [VIEW_QUEUES] = { .sheet = &sheet_queues },
			       [VIEW_THREADS] = { .sheet = &sheet_threads, .descending = true },
			   } };
	int c;
	while ((c = getopt_long(argc, argv, "s:c:h", options, NULL)) != -1) {
		switch (c) {
		case 's':
			top.daemon.socket = optarg;
			break;
		case 'c':
			top.daemon.file = optarg;
			break;
		case 'h':
			(void)fputs(help, stdout);
			return EXIT_OK;
		default:
			(void)fputs("Try 'warren top --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		return cmd_usage("what is '%s'?", argv[optind]);
	pen_set_locale();
	top.rosters[VIEW_THREADS].sort = column_of(&sheet_threads, "AGE");
	int code = run(&top);
	top_free(&top);
	return code;
}
