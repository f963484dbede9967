/* What the files of fault_proxy share: connections, what is done to them, and rules about frames.
 */
#ifndef FAULTS_PROXY_H
#define FAULTS_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "frame.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

enum way { C2S, S2C, WAYS };

/* What a connection is for, as far as is known yet. */
enum conn_class { CLASS_NEW, CLASS_WORK, CLASS_PUBLISH, CLASS_UNACKED, CLASSES };

/* Which connections a command or rule is about. */
struct selection {
	unsigned classes; /* bit mask; a class's future connections, too */
	unsigned conn;    /* this one alone, 0: any */
};

/* What is done to one direction of all connections of a class. */
struct faults {
	int64_t delay_ns, jitter_ns;
	int64_t rate; /* bytes a second, 0: no limit */
	size_t chop;  /* bytes a write at most, 0: no limit */
	int64_t chop_gap_ns;
	uint64_t split_at; /* the stream pauses at this byte, 0: nowhere */
	int64_t split_gap_ns;
	bool drop, frozen;
};

enum end { END_NOTHING, END_FIN, END_RST };

/* Bytes on their way out. */
struct chunk {
	struct chunk *next;
	int64_t due_ns;
	size_t len, done;
	enum end end; /* of the connection, once the bytes are written */
	unsigned char data[];
};

/* One direction. */
struct pipe {
	unsigned char *in; /* read, and not yet a whole frame */
	size_t in_len, in_size;
	bool alien;  /* what comes is no AMQP: passed on as it is */
	bool eof;    /* the sender has ended */
	bool finish; /* the receiver is to be told that, once all is written */
	bool ended;  /* it was told */
	bool drop;   /* nothing goes on any more, of this connection alone */
	struct chunk *first, **last;
	size_t queued;
	uint64_t seen, written;
	int64_t last_due_ns, write_at_ns;
	uint64_t cut_at; /* of `seen`: the connection ends there; 0: nowhere */
	enum end cut_how;
};

/* One socket of a connection. */
struct side {
	struct conn *conn;
	enum way reads; /* and writes the other way */
	int fd;
	uint32_t interest; /* as epoll knows it; 0: not at all */
};

struct conn {
	struct conn *next;
	unsigned number;
	enum conn_class class;
	bool connecting; /* to the server */
	bool dead;       /* to be freed at the end of the turn */
	struct side side[WAYS];
	struct pipe pipe[WAYS];
};

/* What happens to a frame that a rule is about. */
enum {
	ACT_SWALLOW = 1 << 0,
	ACT_HALF = 1 << 1,    /* only the first half of it */
	ACT_BAD_END = 1 << 2, /* its last byte is wrong */
	ACT_SPOIL = 1 << 3,   /* the first entry of its headers has a kind that nobody knows */
	ACT_FLIP = 1 << 4,    /* one bit of byte `flip_at`, chosen by the seed */
	ACT_GARBAGE = 1 << 5, /* `garbage` random bytes come before it */
	ACT_DELAY = 1 << 6,   /* and so is what comes after it */
	ACT_DROP = 1 << 7,    /* and everything that comes after it in this direction */
	ACT_FIN = 1 << 8,     /* the connection ends behind it, in order */
	ACT_GROW = 1 << 10,   /* it says that it is 64 KiB longer than it is */
	ACT_RST = 1 << 9,     /* the connection ends behind it, by force, on both sides */
};

struct rule {
	struct rule *next;
	unsigned number;
	struct selection selection;
	enum way way;
	unsigned kind;
	bool any; /* kind of frame */
	char match[80];
	unsigned skip, times; /* times 0: always */
	unsigned hits;
	unsigned acts;
	int64_t delay_ns;
	long flip_at; /* from the end where negative */
	size_t garbage;
};

enum mode {
	MODE_OPEN,
	MODE_REFUSE, /* nobody listens */
	MODE_MUTE,   /* accepts and says nothing */
	MODE_HANG_UP /* accepts and closes */
};

struct proxy {
	struct conn *conns;
	struct faults faults[CLASSES][WAYS];
	struct rule *rules;
	unsigned n_conns, n_rules; /* numbers given out */
	uint64_t counts[CLASSES][WAYS][FRAME_KINDS_MAX];
	uint64_t seed;
	FILE *capture;
	enum mode mode;
	int port;
};

extern struct proxy proxy;

/* proxy.c */
int64_t now_ns(void);
uint64_t random_number(uint64_t below);
const char *class_word(enum conn_class class);
bool selects(const struct selection *selection, const struct conn *conn);
/* Queues bytes for the other side, delayed as the class wants and `extra_ns` more. */
void conn_send(struct conn *conn, enum way way, const unsigned char *data, size_t len,
    int64_t extra_ns, enum end end);
void conn_reset(struct conn *conn);
/* Tells the receiver that the sender has ended, whether it has or not. */
void conn_finish(struct conn *conn, enum way way);
bool conn_drops(const struct conn *conn, enum way way);
bool proxy_set_mode(enum mode mode);
bool proxy_set_target(const char *host_port);

/* rules.c */
void pass_frame(struct conn *conn, enum way way, const struct frame *frame);
/* "SELECTION WAY KIND [words] do ACTIONS"; NULL, or what is wrong with it. */
const char *rule_add(char *words);
const char *rule_forget(const char *which);
const struct rule *rule_find(unsigned number);
bool parse_selection(const char *word, struct selection *selection);
/* A mask with bit C2S, S2C or both; 0: no such word. */
unsigned parse_ways(const char *word);

/* control.c: carries out one command and writes its answer. */
void obey(char *line, FILE *answer);

#endif
