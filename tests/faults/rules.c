/* Rules about frames: which one they meet, and what happens to it. */
#include "proxy.h"

#include <stdlib.h>
#include <string.h>

/* ---- words ---- */

bool parse_selection(const char *word, struct selection *selection)
{
	static const unsigned every = (1u << CLASSES) - 1;
	*selection = (struct selection){ every, 0 };
	if (!word)
		return false;
	if (word[0] == '#') {
		selection->conn = (unsigned)strtoul(word + 1, NULL, 10);
		return selection->conn > 0;
	}
	if (strcmp(word, "all") == 0)
		return true;
	for (unsigned i = 0; i < CLASSES; i++)
		if (strcmp(word, class_word((enum conn_class)i)) == 0) {
			selection->classes = 1u << i;
			return true;
		}
	return false;
}

unsigned parse_ways(const char *word)
{
	if (!word)
		return 0;
	return strcmp(word, "c2s") == 0    ? 1u << C2S
	       : strcmp(word, "s2c") == 0  ? 1u << S2C
	       : strcmp(word, "both") == 0 ? 1u << C2S | 1u << S2C
					   : 0;
}

static bool parse_action(struct rule *rule, const char *word)
{
	static const struct {
		const char *word;
		unsigned act;
	} acts[] = {
		{ "swallow", ACT_SWALLOW },
		{ "half", ACT_HALF },
		{ "badend", ACT_BAD_END },
		{ "spoil", ACT_SPOIL },
		{ "flip", ACT_FLIP },
		{ "garbage", ACT_GARBAGE },
		{ "grow", ACT_GROW },
		{ "delay", ACT_DELAY },
		{ "drop", ACT_DROP },
		{ "fin", ACT_FIN },
		{ "rst", ACT_RST },
	};
	size_t len = strcspn(word, "=");
	long number = word[len] ? strtol(word + len + 1, NULL, 10) : 0;
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		if (strlen(acts[i].word) != len || strncmp(acts[i].word, word, len) != 0)
			continue;
		rule->acts |= acts[i].act;
		if (acts[i].act == ACT_FLIP)
			rule->flip_at = number;
		else if (acts[i].act == ACT_GARBAGE)
			rule->garbage = (size_t)number;
		else if (acts[i].act == ACT_DELAY)
			rule->delay_ns = number * NS_PER_MS;
		return true;
	}
	return false;
}

static bool parse_option(struct rule *rule, const char *word)
{
	if (strcmp(word, "always") == 0)
		rule->times = 0;
	else if (strncmp(word, "times=", 6) == 0)
		rule->times = (unsigned)strtoul(word + 6, NULL, 10);
	else if (strncmp(word, "skip=", 5) == 0)
		rule->skip = (unsigned)strtoul(word + 5, NULL, 10);
	else if (strncmp(word, "match=", 6) == 0 && strlen(word + 6) < sizeof(rule->match))
		strcpy(rule->match, word + 6);
	else
		return false;
	return true;
}

static const char *parse_rule(struct rule *rule, char *words)
{
	char *rest = words;
	const char *selection = strsep(&rest, " "), *way = strsep(&rest, " ");
	const char *kind = strsep(&rest, " "), *word;
	unsigned ways = parse_ways(way);
	if (!parse_selection(selection, &rule->selection))
		return "no such selection";
	if (ways != 1u << C2S && ways != 1u << S2C)
		return "a rule needs c2s or s2c";
	rule->way = ways == 1u << C2S ? C2S : S2C;
	rule->any = kind && strcmp(kind, "any") == 0;
	rule->kind = kind ? frame_kind_find(kind) : KIND_UNKNOWN;
	if (!rule->any && rule->kind == KIND_UNKNOWN)
		return "no such kind of frame";
	while ((word = strsep(&rest, " ")) && strcmp(word, "do") != 0)
		if (!parse_option(rule, word))
			return "no such option of a rule";
	while (rest && (word = strsep(&rest, ",")))
		if (!parse_action(rule, word))
			return "no such action";
	return rule->acts ? NULL : "a rule needs `do` and an action";
}

const char *rule_add(char *words)
{
	struct rule *rule = calloc(1, sizeof(*rule)), **last = &proxy.rules;
	if (!rule)
		return "out of memory";
	rule->times = 1;
	const char *wrong = parse_rule(rule, words);
	if (wrong) {
		free(rule);
		return wrong;
	}
	rule->number = ++proxy.n_rules;
	while (*last)
		last = &(*last)->next;
	*last = rule;
	return NULL;
}

const char *rule_forget(const char *which)
{
	if (!which)
		return "forget needs a number, or all";
	bool every = strcmp(which, "all") == 0, found = every;
	unsigned number = (unsigned)strtoul(which, NULL, 10);
	for (struct rule **at = &proxy.rules; *at;) {
		struct rule *rule = *at;
		if (every || rule->number == number) {
			*at = rule->next;
			free(rule);
			found = true;
		} else {
			at = &rule->next;
		}
	}
	return found ? NULL : "no such rule";
}

const struct rule *rule_find(unsigned number)
{
	const struct rule *rule = proxy.rules;
	while (rule && rule->number != number)
		rule = rule->next;
	return rule;
}

/* ---- meeting frames ---- */

static bool meets(
    struct rule *rule, const struct conn *conn, enum way way, const struct frame *frame)
{
	if (rule->way != way || !selects(&rule->selection, conn) ||
	    (!rule->any && rule->kind != frame->kind) ||
	    (rule->match[0] && !frame_holds(frame, rule->match)) ||
	    (rule->times && rule->hits >= rule->times))
		return false;
	if (rule->skip) {
		rule->skip--;
		return false;
	}
	return true;
}

static void flip(unsigned char *data, size_t len, long at)
{
	size_t where = at < 0 ? len - (size_t)-at : (size_t)at;
	if (where < len)
		data[where] ^= (unsigned char)(1u << random_number(8));
}

static void send_garbage(struct conn *conn, enum way way, size_t len)
{
	unsigned char *noise = malloc(len);
	if (!noise)
		return;
	for (size_t i = 0; i < len; i++)
		noise[i] = (unsigned char)random_number(256);
	conn_send(conn, way, noise, len, 0, END_NOTHING);
	free(noise);
}

static void act(const struct rule *rule, struct conn *conn, enum way way, const struct frame *frame)
{
	enum end end = rule->acts & ACT_RST   ? END_RST
		       : rule->acts & ACT_FIN ? END_FIN
					      : END_NOTHING;
	size_t len = rule->acts & ACT_SWALLOW ? 0
		     : rule->acts & ACT_HALF  ? frame->len / 2
					      : frame->len;
	unsigned char *copy = malloc(frame->len);
	if (!copy)
		return;
	memcpy(copy, frame->data, frame->len);
	if (rule->acts & ACT_SPOIL && frame_first_header_kind(frame))
		copy[frame_first_header_kind(frame)] = '?';
	if (rule->acts & ACT_FLIP)
		flip(copy, frame->len, rule->flip_at);
	if (rule->acts & ACT_GROW)
		copy[FRAME_LEN_AT + 1]++;
	if (rule->acts & ACT_BAD_END)
		copy[frame->len - 1] = 0;
	if (rule->acts & ACT_GARBAGE)
		send_garbage(conn, way, rule->garbage);
	conn_send(conn, way, copy, len, rule->delay_ns, end);
	if (rule->acts & ACT_DROP)
		conn->pipe[way].drop = true;
	free(copy);
}

static void learn(struct conn *conn, enum way way, const struct frame *frame)
{
	char name[256];
	if (way != C2S || conn->class != CLASS_NEW)
		return;
	if (strcmp(frame_kind_name(frame->kind), "basic.consume") == 0)
		conn->class = CLASS_WORK;
	else if (strcmp(frame_kind_name(frame->kind), "confirm.select") == 0)
		conn->class = CLASS_PUBLISH;
	if (strcmp(frame_kind_name(frame->kind), "connection.start-ok") != 0 ||
	    !frame_client_name(frame, name, sizeof(name)))
		return;
	const char *last = strrchr(name, ' ');
	for (unsigned i = CLASS_WORK; last && i < CLASSES; i++)
		if (strcmp(last + 1, class_word((enum conn_class)i)) == 0)
			conn->class = (enum conn_class)i;
}

/* One line: when, which connection, which way, what, and what became of it. */
static void capture(
    const struct conn *conn, enum way way, const struct frame *frame, const char *fate)
{
	char text[256];
	if (!proxy.capture)
		return;
	frame_describe(frame, text, sizeof(text));
	(void)fprintf(proxy.capture, "%lld %u %s %s %u %s %s%s%s\n",
	    (long long)(now_ns() / NS_PER_MS), conn->number, class_word(conn->class),
	    way == C2S ? "c2s" : "s2c", frame->channel, frame_kind_name(frame->kind), fate,
	    text[0] ? " " : "", text);
}

void pass_frame(struct conn *conn, enum way way, const struct frame *frame)
{
	struct rule *rule = proxy.rules;
	learn(conn, way, frame);
	proxy.counts[conn->class][way][frame->kind]++;
	while (rule && !meets(rule, conn, way, frame))
		rule = rule->next;
	if (rule) {
		rule->hits++;
		capture(conn, way, frame, rule->acts & ACT_SWALLOW ? "swallowed" : "changed");
		act(rule, conn, way, frame);
	} else {
		capture(conn, way, frame, conn_drops(conn, way) ? "dropped" : "passed");
		conn_send(conn, way, frame->data, frame->len, 0, END_NOTHING);
	}
}
