/* The operator's desk: two tables of what can be asked, and the doors through which it is. */
#include "operator.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "metrics.h"
#include "report.h"
#include "text.h"

enum { WHY_MAX = PATH_MAX + 256 };

/* ---- commands ---- */

static void answer_version(
    void *context, struct control *control, control_client client, const struct words *words)
{
	(void)context, (void)words;
	control_answer(control, client, strdup("{\"ok\":true,\"version\":\"" WARREN_VERSION "\"}"));
}

static void answer_status(
    void *context, struct control *control, control_client client, const struct words *words)
{
	struct operator_desk *desk = context;
	struct view *view = watch_look(desk->watch);

	(void)words;
	control_answer(control, client, view ? report_status(view) : NULL);
	view_destroy(view);
}

/* The operator's wishes, under the name of their command. */
#define STEERED(name)                                                                              \
	static void answer_##name(void *context, struct control *control, control_client client,   \
	    const struct words *words)                                                             \
	{                                                                                          \
		struct operator_desk *desk = context;                                              \
                                                                                                   \
		(void)control;                                                                     \
		steer_##name(&desk->steer, client, words);                                         \
	}

STEERED(pause)
STEERED(resume)
STEERED(scale)
STEERED(cancel)
STEERED(log)
STEERED(reload)
STEERED(restart)
STEERED(drain)

static const struct control_command commands[] = {
	{ "version", answer_version },
	{ "status", answer_status },
	{ "pause", answer_pause },
	{ "pause QUEUE", answer_pause },
	{ "resume", answer_resume },
	{ "resume QUEUE", answer_resume },
	{ "scale QUEUE N", answer_scale },
	{ "cancel JOB", answer_cancel },
	{ "log LEVEL", answer_log },
	{ "reload", answer_reload },
	{ "restart", answer_restart },
	{ "drain", answer_drain },
	{ "drain LIMIT_MS", answer_drain },
};

/* ---- pages ---- */

typedef void write_page(struct operator_desk *desk, struct http_page *page);

static void write_text(struct http_page *page, const char *text)
{
	page->type = "text/plain; charset=utf-8";
	page->body = strdup(text);
	page->len = strlen(text);
}

/* Who gets this far has been answered by the supervisor's loop: it turns. */
static void write_health(struct operator_desk *desk, struct http_page *page)
{
	(void)desk;
	write_text(page, "ok\n");
}

/* What is written from the view of this moment; NULL: memory is short. */
static void write_view(struct operator_desk *desk, struct http_page *page, const char *type,
    char *(*text_of)(const struct view *))
{
	struct view *view = watch_look(desk->watch);

	page->type = type;
	page->body = view ? text_of(view) : NULL;
	page->len = page->body ? strlen(page->body) : 0;
	view_destroy(view);
}

static void write_metrics(struct operator_desk *desk, struct http_page *page)
{
	write_view(desk, page, "text/plain; version=0.0.4; charset=utf-8", metrics_text);
}

static void write_status(struct operator_desk *desk, struct http_page *page)
{
	write_view(desk, page, "application/json", report_status);
}

static void write_readiness(struct operator_desk *desk, struct http_page *page)
{
	struct view *view = watch_look(desk->watch);

	page->type = "text/plain; charset=utf-8";
	if (view && view->ready)
		write_text(page, "ready\n");
	else if (view)
		page->body = trouble_text(view);
	page->status = view && view->ready ? 200 : 503;
	page->len = page->body ? strlen(page->body) : 0;
	view_destroy(view);
}

static write_page write_index;

static const struct page {
	const char *path, *summary;
	write_page *write;
	bool (*is_built)(void); /* NULL: always */
} pages[] = {
	{ "/", "this list", write_index, NULL },
	{ "/healthz", "200 while the daemon lives", write_health, NULL },
	{ "/readyz", "200 when every queue is consumed as configured, else 503 and why not",
	    write_readiness, NULL },
	{ "/status", "all that warren status knows, in JSON", write_status, report_is_built },
	{ "/metrics", "for Prometheus", write_metrics, NULL },
};

static bool is_there(const struct page *page)
{
	return !page->is_built || page->is_built();
}

static void write_index(struct operator_desk *desk, struct http_page *page)
{
	FILE *out = open_memstream(&page->body, &page->len);

	(void)desk;
	page->type = "text/plain; charset=utf-8";
	if (!out)
		return;
	(void)fprintf(out, "warrend %s\n\n", WARREN_VERSION);
	for (size_t i = 0; i < ARRAY_LEN(pages); i++)
		if (is_there(&pages[i]))
			(void)fprintf(out, "%-12s %s\n", pages[i].path, pages[i].summary);
	page->body = text_finish(out, &page->body);
}

static bool find_page(void *context, const char *path, struct http_page *page)
{
	for (size_t i = 0; i < ARRAY_LEN(pages); i++)
		if (is_there(&pages[i]) && strcmp(pages[i].path, path) == 0) {
			pages[i].write(context, page);
			return true;
		}
	return false;
}

/* ---- the doors ---- */

void operator_open(struct operator_desk *desk, struct crew *crew, struct watch *watch)
{
	desk->control = control_create(commands, ARRAY_LEN(commands), desk);
	desk->steer = (struct steer){ .crew = crew, .control = desk->control };
	desk->watch = watch;
	desk->http = http_create(find_page, desk);
}

void operator_close(struct operator_desk *desk)
{
	http_destroy(desk->http);
	control_destroy(desk->control);
}

static void warn_of_no_control(const char *why, const char *remedy)
{
	log_event(LOG_WARN, "control.off", L_STR("why", why), L_STR("remedy", remedy));
}

/*
 * A path that nobody asked for may be one that our user cannot have: work is more important. But
 * where another daemon listens, somebody has started the same one twice.
 */
static bool prepare_control(struct operator_desk *desk, const char *path, const struct conf *conf,
    struct conf_errors *errors)
{
	char why[WHY_MAX] = "";

	if (!control_is_built()) {
		if (conf->control_socket && conf->control_line > 0)
			warn_of_no_control(
			    "this warrend was built without libjansson", "build it with it");
		return true;
	}
	if (control_prepare(desk->control, conf->control_socket, why, sizeof(why)))
		return true;
	if (conf->control_line > 0 || errno == EADDRINUSE) {
		conf_errors_add(errors, path, conf->control_line, "control.socket: %s", why);
		return false;
	}
	warn_of_no_control(
	    why, "set control.socket to a path that this user may make, or to \"\" for none");
	return control_prepare(desk->control, NULL, why, sizeof(why));
}

static bool prepare_http(struct operator_desk *desk, const char *path, const struct conf *conf,
    struct conf_errors *errors)
{
	char why[WHY_MAX] = "";

	if (!http_is_built() && conf->http_port != 0)
		log_event(LOG_WARN, "http.off",
		    L_STR("why", "this warrend was built without libmicrohttpd"),
		    L_STR("remedy", "build it with it"));
	if (http_prepare(desk->http, conf->http_address, conf->http_port, why, sizeof(why)))
		return true;
	conf_errors_add(errors, path, conf->http_line, "http.port: %s", why);
	return false;
}

bool operator_prepare(struct operator_desk *desk, const char *path, const struct conf *conf,
    struct conf_errors *errors)
{
	if (prepare_control(desk, path, conf, errors) && prepare_http(desk, path, conf, errors))
		return true;
	operator_abandon(desk);
	return false;
}

void operator_commit(struct operator_desk *desk)
{
	control_commit(desk->control);
	http_commit(desk->http);
}

void operator_abandon(struct operator_desk *desk)
{
	control_abandon(desk->control);
	http_abandon(desk->http);
}

size_t operator_fds(const struct operator_desk *desk, struct pollfd *fds)
{
	size_t n = control_fds(desk->control, fds);

	return n + http_fds(desk->http, fds + n);
}

int64_t operator_deadline(const struct operator_desk *desk)
{
	int64_t control_ns = control_deadline(desk->control), http_ns = http_deadline(desk->http);

	return control_ns < http_ns ? control_ns : http_ns;
}

void operator_serve(struct operator_desk *desk, int64_t now_ns)
{
	control_serve(desk->control, now_ns);
	http_serve(desk->http, now_ns);
}
