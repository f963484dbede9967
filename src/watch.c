/* One look a second, from which memories are fed; and looks for whoever asks. */
#include "watch.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "text.h"

#define LOOK_NS NS_PER_S
#define FRESH_NS (60 * NS_PER_S) /* older numbers of messages prove nothing */

void watch_open(struct watch *watch, struct crew *crew)
{
	*watch = (struct watch){ 0 };
	watch->subject = (struct view_subject){
		.crew = crew,
		.reload = &watch->reload,
		.history = &watch->history,
		.started_ns = clock_mono_ns(),
		.started_wall_ms = clock_wall_ms(),
	};
}

void watch_close(struct watch *watch)
{
	history_free(&watch->history);
}

static struct view *look(
    struct watch *watch, const struct accounts *accounts, enum view_threads threads)
{
	struct view *view = view_create(&watch->subject, accounts, threads);

	if (view && !trouble_find(view)) {
		view_destroy(view);
		return NULL;
	}
	if (view)
		trouble_recall(&watch->memory, view);
	return view;
}

struct view *watch_look(struct watch *watch)
{
	struct accounts now;
	struct view *view;

	if (!view_accounts(watch->subject.crew, &now))
		return NULL;
	view = look(watch, &now, VIEW_BUSY);
	accounts_free(&now);
	return view;
}

static bool is_busy(const struct view_queue *queue, int64_t now_ns)
{
	return queue->configured && !queue->paused && queue->threads > 0 &&
	       queue->running >= queue->threads && queue->ready > 0 &&
	       now_ns - queue->seen_ns < FRESH_NS;
}

/* Why an error is one belongs to it. The reasons of warnings may hold figures that go on changing.
 */
static void set_headline(struct watch *watch, const struct view *view)
{
	const struct trouble *first = view->troubles;
	bool error;
	char text[2 * sizeof(watch->headline)];

	watch->headline[0] = '\0';
	if (view->n_troubles == 0)
		return;
	error = first->severity == TROUBLE_ERROR;
	(void)snprintf(text, sizeof(text), "%s: %s%s%s", first->subject, first->what,
	    error ? ": " : "", error ? first->why : "");
	(void)text_escape(bytes_of(text), watch->headline, sizeof(watch->headline));
}

static void remember(struct watch *watch, const struct view *view, int64_t now_ns)
{
	for (size_t i = 0; i < view->n_queues; i++)
		history_note_busy(&watch->history, view->queues[i].queue,
		    is_busy(&view->queues[i], now_ns), now_ns);
	trouble_tick(&watch->memory, view);
	set_headline(watch, view);
}

void watch_tick(struct watch *watch, bool checking, int64_t now_ns)
{
	struct accounts now;
	struct view *view;

	watch->subject.checking = checking;
	if (now_ns - watch->ticked_ns < LOOK_NS)
		return;
	watch->ticked_ns = now_ns;
	if (!view_accounts(watch->subject.crew, &now))
		return; /* memory is short: the next second is another chance */
	history_tick(&watch->history, &now, clock_mono_ns());
	view = look(watch, &now, VIEW_OVERDUE);
	accounts_free(&now);
	if (view)
		remember(watch, view, now_ns);
	view_destroy(view);
}

void watch_reloaded(struct watch *watch, enum reload_outcome outcome, const char *why)
{
	watch->reload.outcome = outcome;
	watch->reload.at_ns = clock_mono_ns();
	watch->reload.counts[outcome]++;
	(void)snprintf(watch->reload.why, sizeof(watch->reload.why), "%s", why);
}
