/* Looks at the host from a plugin's side: each task tries one part of the ABI. Any mismatch is
 * dead. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <warren/plugin.h>

#define EXPECT(what)                                                                               \
	do {                                                                                       \
		if (!(what))                                                                       \
			return warren_dead(job, "line %d: %s", __LINE__, #what);                   \
	} while (0)

static bool is(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

/* ---- What the message says ---- */

static enum warren_verdict read_fields(struct warren_job *job)
{
	EXPECT(is(warren_exchange(job), ""));
	EXPECT(is(warren_routing_key(job), "a.b"));
	EXPECT(is(warren_queue(job), "trial"));
	EXPECT(is(warren_message_id(job), "id-1"));
	EXPECT(is(warren_text(job, WARREN_TASK), "probe.fields"));
	EXPECT(warren_attempt(job) == 1);
	EXPECT(!warren_redelivered(job));
	EXPECT(!warren_correlation_id(job));
	EXPECT(!warren_text(job, WARREN_PRIORITY));
	EXPECT(warren_get(job, WARREN_PRIORITY)->integer == 5);
	EXPECT(warren_get(job, WARREN_SENT_AT)->natural == 1234567890);
	EXPECT(is(warren_get(job, WARREN_SENT_AT)->name, "timestamp"));
	EXPECT(!warren_get(job, WARREN_FIELDS));
	EXPECT(!warren_get(job, (enum warren_field) - 1));
	return WARREN_DONE;
}

static enum warren_verdict read_headers(struct warren_job *job)
{
	size_t n;
	const struct warren_value *all = warren_headers(job, &n);
	EXPECT(n == 4 && all);
	EXPECT(warren_headers(job, &n) == all);
	EXPECT(is(all[0].name, "text"));
	EXPECT(is(warren_header_text(job, "text"), "hello"));
	EXPECT(warren_header_int(job, "number", 0) == -7);
	EXPECT(warren_header_int(job, "text", 9) == 9);
	EXPECT(!warren_header(job, "absent"));
	const struct warren_value *list = warren_header(job, "list");
	EXPECT(list && list->kind == WARREN_ARRAY && list->len == 2);
	EXPECT(!list->items[0].name && list->items[0].boolean);
	const struct warren_value *inner = &list->items[1];
	EXPECT(inner->kind == WARREN_TABLE && inner->len == 1);
	EXPECT(is(inner->items[0].name, "deep") && is(inner->items[0].text, "down"));
	const struct warren_value *bytes = warren_header(job, "bytes");
	EXPECT(bytes->kind == WARREN_BYTES && bytes->len == 3 && !memcmp(bytes->text, "a\0b", 4));
	return WARREN_DONE;
}

static enum warren_verdict read_body(struct warren_job *job)
{
	size_t len;
	const char *body = warren_body(job, &len);
	const char *text = warren_body_text(job);
	EXPECT(body);
	if (memchr(body, '\0', len))
		return text ? warren_dead(job, "text with a NUL") : WARREN_DONE;
	EXPECT(text && strlen(text) == len && !memcmp(text, body, len));
	return WARREN_DONE;
}

/* ---- What the task says ---- */

/* The body is a C number: returned as it is, verdict or not. */
static enum warren_verdict say(struct warren_job *job)
{
	return (enum warren_verdict)strtol(warren_body_text(job), NULL, 10);
}

static enum warren_verdict retry_later(struct warren_job *job)
{
	warren_retry_after(job, strtoll(warren_body_text(job), NULL, 10));
	return warren_retry(job, "%s and %d", "words", 2);
}

static enum warren_verdict reply_large(struct warren_job *job)
{
	EXPECT(warren_reply(job, NULL, "", WARREN_BODY_MAX + 1) == WARREN_ELARGE);
	return WARREN_DONE; /* does not pass */
}

static enum warren_verdict reply_null(struct warren_job *job)
{
	EXPECT(warren_reply(job, NULL, NULL, 1) == WARREN_EINVAL);
	return WARREN_DONE;
}

static enum warren_verdict reply_twice(struct warren_job *job)
{
	char text[] = "second";
	EXPECT(warren_reply(job, "text/plain", "first", 5) == WARREN_OK);
	EXPECT(warren_reply(job, "text/plain", text, 6) == WARREN_OK);
	text[0] = 'X'; /* the host has its own copy */
	return WARREN_DONE;
}

static enum warren_verdict hold_much(struct warren_job *job)
{
	size_t size = WARREN_BODY_MAX;
	char *body = calloc(1, size);
	enum warren_error error = WARREN_OK;
	struct warren_message message = { .routing_key = "q", .body = body, .body_len = size };
	int n = 0;
	for (; !error && n < 10; n++)
		error = warren_publish(job, &message);
	free(body);
	EXPECT(error == WARREN_ELARGE && n == 4);
	return WARREN_DONE;
}

static enum warren_verdict publish(struct warren_job *job)
{
	char long_name[300];
	memset(long_name, 'x', sizeof(long_name));
	long_name[299] = '\0';
	struct warren_value deep[20], none = warren_string("", "x");
	struct warren_value headers[] = { warren_string("s", "text"), warren_int("i", 7) };
	for (int i = 0; i < 20; i++)
		deep[i] = (struct warren_value){
			.kind = WARREN_TABLE, .name = "d", .items = &deep[i + 1], .len = i < 19
		};

	EXPECT(!warren_publish(job, &(struct warren_message){ .exchange = "e",
					.routing_key = "k",
					.body = "body",
					.body_len = 4,
					.type = "t",
					.headers = headers,
					.n_headers = 2,
					.expiration_ms = 1500,
					.priority = 3 }));
	EXPECT(!warren_publish(job, &(struct warren_message){ .routing_key = "q" }));
	EXPECT(warren_publish(job, &(struct warren_message){ .routing_key = long_name }) ==
	       WARREN_EINVAL);
	EXPECT(warren_publish(job, &(struct warren_message){ .headers = &none, .n_headers = 1 }) ==
	       WARREN_EINVAL);
	EXPECT(warren_publish(job, &(struct warren_message){ .headers = deep, .n_headers = 1 }) ==
	       WARREN_EINVAL);
	EXPECT(
	    warren_publish(job, &(struct warren_message){ .expiration_ms = -1 }) == WARREN_EINVAL);
	return warren_retry(job, "as it should be");
}

/* ---- Time and life ---- */

static enum warren_verdict look(struct warren_job *job)
{
	if (warren_stopping(job))
		return warren_retry(job, "stop %d, left %d", (int)warren_stopping(job),
		    (int)warren_time_left_ms(job));
	EXPECT(warren_time_left_ms(job) > 0);
	warren_progress(job, 150);
	EXPECT(!warren_child(job, 0));
	warren_log(job, WARREN_LOG_DEBUG, "all is %s", "well");
	return WARREN_DONE;
}

static enum warren_verdict when_gone(struct warren_job *job)
{
	EXPECT(warren_reply(job, NULL, "x", 1) == WARREN_EGONE);
	EXPECT(warren_publish(job, &(struct warren_message){ 0 }) == WARREN_EGONE);
	EXPECT(warren_child(job, 1) == WARREN_EGONE);
	EXPECT(!warren_alloc(job, 1));
	EXPECT(warren_stopping(job) >= WARREN_STOP_LIMIT);
	EXPECT(warren_time_left_ms(job) == 0);
	return WARREN_DONE;
}

struct state {
	const char *word;
	int64_t wait_ms, size, number;
	double ratio;
	bool flag;
	const char *const *list;
	size_t n_list;
};

static enum warren_verdict states(struct warren_job *job)
{
	const struct state *state = warren_state(job);
	const unsigned *thread = warren_thread_state(job);
	EXPECT(*thread == 0);
	EXPECT(is(state->word, "blue") && state->wait_ms == 1500 && state->size == 65536);
	EXPECT(state->number == 12 && state->flag && state->ratio > 0.4 && state->ratio < 0.6);
	EXPECT(state->n_list == 2 && is(state->list[1], "b") && !state->list[2]);
	EXPECT(is(warren_option_text(warren_host_of(job), "word"), "blue"));
	return WARREN_DONE;
}

/* Not atomic on purpose: only the lock of WARREN_SERIAL keeps the count right. */
static int inside, most_inside;

static enum warren_verdict serial(struct warren_job *job)
{
	inside++;
	if (inside > most_inside)
		most_inside = inside;
	sched_yield();
	int most = most_inside;
	inside--;
	return most == 1 ? WARREN_DONE : warren_dead(job, "%d at once", most);
}

static bool start(struct warren_host *host, void **state)
{
	struct state *s = calloc(1, sizeof(*s));
	if (!s)
		return warren_refuse(host, "out of memory");
	*s = (struct state){
		.word = warren_option_text(host, "word"),
		.wait_ms = warren_option_int(host, "wait"),
		.size = warren_option_int(host, "size"),
		.number = warren_option_int(host, "number"),
		.ratio = warren_option_float(host, "ratio"),
		.flag = warren_option_bool(host, "flag"),
	};
	s->list = warren_option_list(host, "list", &s->n_list);
	*state = s;
	return true;
}

static void stop(void *state)
{
	free(state);
}

static bool start_thread(
    struct warren_host *host, void *state, unsigned thread, void **thread_state)
{
	unsigned *number = malloc(sizeof(*number));
	if (!number || !state)
		return warren_refuse(host, "out of memory");
	*number = thread;
	*thread_state = number;
	return true;
}

static void stop_thread(void *state, void *thread_state)
{
	(void)state;
	free(thread_state);
}

static const struct warren_task tasks[] = {
	{ .name = "probe.fields", .run = read_fields },
	{ .name = "probe.headers", .run = read_headers },
	{ .name = "probe.body", .run = read_body },
	{ .name = "probe.say", .run = say },
	{ .name = "probe.retry", .run = retry_later, .time_limit_ms = 2500 },
	{ .name = "probe.reply_large", .run = reply_large },
	{ .name = "probe.reply_null", .run = reply_null },
	{ .name = "probe.reply_twice", .run = reply_twice },
	{ .name = "probe.hold", .run = hold_much },
	{ .name = "probe.publish", .run = publish },
	{ .name = "probe.look", .run = look },
	{ .name = "probe.gone", .run = when_gone },
	{ .name = "probe.states", .run = states },
	{ .name = "probe.serial", .run = serial, .flags = WARREN_SERIAL },
	{ 0 },
};

static const struct warren_option options[] = {
	{ .name = "word", .type = WARREN_OPT_STRING, .help = "required" },
	{ .name = "wait",
	    .type = WARREN_OPT_DURATION,
	    .fallback = "1.5s",
	    .min = "1s",
	    .max = "1m" },
	{ .name = "size", .type = WARREN_OPT_SIZE, .fallback = "64KiB" },
	{ .name = "number", .type = WARREN_OPT_INT, .fallback = "12", .min = "-5", .max = "20" },
	{ .name = "ratio", .type = WARREN_OPT_FLOAT, .fallback = "0.5", .max = "1" },
	{ .name = "flag", .type = WARREN_OPT_BOOL, .fallback = "true" },
	{ .name = "list", .type = WARREN_OPT_LIST, .fallback = "a,b" },
	{ .name = "path", .type = WARREN_OPT_PATH, .fallback = "" },
	{ 0 },
};

WARREN_PLUGIN(probe, .version = "2.5", .summary = "looks at its host", .tasks = tasks,
    .options = options, .open = start, .close = stop, .thread_open = start_thread,
    .thread_close = stop_thread);
