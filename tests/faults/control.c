/* The commands of fault_proxy; proxy.c lists them at its top. */
#include "proxy.h"

#include <stdlib.h>
#include <string.h>

static int64_t take_number(char **rest)
{
	const char *word = strsep(rest, " ");
	return word ? strtoll(word, NULL, 10) : 0;
}

/* ---- what is done to classes ---- */

static void set_delay(struct faults *f, const int64_t number[2])
{
	f->delay_ns = number[0] * NS_PER_MS;
	f->jitter_ns = number[1] * NS_PER_MS;
}

static void set_rate(struct faults *f, const int64_t number[2])
{
	f->rate = number[0];
}

static void set_chop(struct faults *f, const int64_t number[2])
{
	f->chop = (size_t)number[0];
	f->chop_gap_ns = number[1] * NS_PER_MS;
}

static void set_split(struct faults *f, const int64_t number[2])
{
	f->split_at = (uint64_t)number[0];
	f->split_gap_ns = number[1] * NS_PER_MS;
}

static void set_drop(struct faults *f, const int64_t number[2])
{
	(void)number;
	f->drop = true;
}

static void set_freeze(struct faults *f, const int64_t number[2])
{
	(void)number;
	f->frozen = true;
}

static void set_thaw(struct faults *f, const int64_t number[2])
{
	(void)number;
	f->frozen = false;
}

static void set_heal(struct faults *f, const int64_t number[2])
{
	(void)number;
	*f = (struct faults){ 0 };
}

static const struct setting {
	const char *word;
	void (*set)(struct faults *f, const int64_t number[2]);
} settings[] = {
	{ "delay", set_delay },
	{ "rate", set_rate },
	{ "chop", set_chop },
	{ "split", set_split },
	{ "drop", set_drop },
	{ "freeze", set_freeze },
	{ "thaw", set_thaw },
	{ "heal", set_heal },
};

static const char *change_faults(const struct setting *setting, char *rest)
{
	struct selection selection;
	if (!parse_selection(strsep(&rest, " "), &selection) || selection.conn)
		return "which class of connections?";
	unsigned ways = parse_ways(strsep(&rest, " "));
	if (!ways)
		return "c2s, s2c or both?";
	const int64_t first = take_number(&rest);
	const int64_t number[2] = { first, take_number(&rest) };
	for (unsigned class = 0; class < CLASSES; class ++)
		for (unsigned way = 0; way < WAYS; way++)
			if (selection.classes & 1u << class && ways & 1u << way)
				setting->set(&proxy.faults[class][way], number);
	return NULL;
}

/* ---- what is done to connections ---- */

static void reset(struct conn *conn, unsigned ways, int64_t bytes)
{
	for (unsigned way = 0; bytes && way < WAYS; way++)
		if (ways & 1u << way) {
			conn->pipe[way].cut_at = conn->pipe[way].seen + (uint64_t)bytes;
			conn->pipe[way].cut_how = END_RST;
		}
	if (!bytes)
		conn_reset(conn);
}

static void finish(struct conn *conn, unsigned ways, int64_t bytes)
{
	for (unsigned way = 0; way < WAYS; way++) {
		if (!(ways & 1u << way))
			continue;
		conn->pipe[way].cut_at = bytes ? conn->pipe[way].seen + (uint64_t)bytes : 0;
		conn->pipe[way].cut_how = END_FIN;
		if (!bytes)
			conn_finish(conn, (enum way)way);
	}
}

/* Answers with how many connections it did that to. */
static void end_conns(
    char *rest, FILE *answer, void (*how)(struct conn *conn, unsigned ways, int64_t bytes))
{
	struct selection selection;
	bool ok = parse_selection(strsep(&rest, " "), &selection);
	unsigned ways = parse_ways(strsep(&rest, " ")), n = 0;
	int64_t bytes = take_number(&rest);
	if (!ok || !ways) {
		(void)fprintf(answer, "error which connections, and c2s, s2c or both?\n");
		return;
	}
	for (struct conn *conn = proxy.conns; conn; conn = conn->next)
		if (!conn->dead && selects(&selection, conn)) {
			how(conn, ways, bytes);
			n++;
		}
	(void)fprintf(answer, "ok %u\n", n);
}

/* ---- answers ---- */

static void show_conns(FILE *answer)
{
	(void)fprintf(answer, "ok");
	for (const struct conn *c = proxy.conns; c; c = c->next)
		if (!c->dead)
			(void)fprintf(answer, " #%u:%s:%llu:%llu", c->number, class_word(c->class),
			    (unsigned long long)c->pipe[C2S].seen,
			    (unsigned long long)c->pipe[S2C].seen);
	(void)fprintf(answer, "\n");
}

static void show_count(char *rest, FILE *answer)
{
	struct selection selection;
	bool ok = parse_selection(strsep(&rest, " "), &selection);
	unsigned ways = parse_ways(strsep(&rest, " "));
	const char *word = strsep(&rest, " ");
	unsigned kind = word ? frame_kind_find(word) : KIND_UNKNOWN;
	unsigned long long n = 0;
	for (unsigned class = 0; class < CLASSES; class ++)
		for (unsigned way = 0; way < WAYS; way++)
			if (selection.classes & 1u << class && ways & 1u << way)
				n += proxy.counts[class][way][kind];
	if (ok && ways && kind != KIND_UNKNOWN)
		(void)fprintf(answer, "ok %llu\n", n);
	else
		(void)fprintf(answer, "error count what?\n");
}

static const char *change_mode(const char *word)
{
	static const char *const words[] = { "open", "refuse", "mute", "hangup" };
	for (unsigned i = 0; word && i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i], word) == 0)
			return proxy_set_mode((enum mode)i) ? NULL : "the port cannot be opened";
	return "no such mode";
}

static void say(FILE *answer, const char *wrong)
{
	if (wrong)
		(void)fprintf(answer, "error %s\n", wrong);
	else
		(void)fprintf(answer, "ok\n");
}

void obey(char *line, FILE *answer)
{
	char *rest = line;
	const char *word = strsep(&rest, " ");
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (strcmp(word, settings[i].word) == 0) {
			say(answer, change_faults(&settings[i], rest));
			return;
		}
	if (strcmp(word, "rst") == 0) {
		end_conns(rest, answer, reset);
	} else if (strcmp(word, "fin") == 0) {
		end_conns(rest, answer, finish);
	} else if (strcmp(word, "on") == 0) {
		const char *wrong = rest ? rule_add(rest) : "a rule about what?";
		if (wrong)
			say(answer, wrong);
		else
			(void)fprintf(answer, "ok %u\n", proxy.n_rules);
	} else if (strcmp(word, "hits") == 0) {
		const struct rule *rule = rule_find((unsigned)take_number(&rest));
		if (rule)
			(void)fprintf(answer, "ok %u\n", rule->hits);
		else
			say(answer, "no such rule");
	} else if (strcmp(word, "forget") == 0) {
		say(answer, rule_forget(rest));
	} else if (strcmp(word, "mode") == 0) {
		say(answer, change_mode(rest));
	} else if (strcmp(word, "to") == 0) {
		say(answer, rest && proxy_set_target(rest) ? NULL : "to HOST:PORT");
	} else if (strcmp(word, "conns") == 0) {
		show_conns(answer);
	} else if (strcmp(word, "accepted") == 0) {
		(void)fprintf(answer, "ok %u\n", proxy.n_conns);
	} else if (strcmp(word, "count") == 0) {
		show_count(rest, answer);
	} else {
		say(answer, "no such command");
	}
}
