/* Messages between supervisor and worker: one datagram each, over a SOCK_SEQPACKET pair. Floor 0.
 */
#ifndef WARREN_IPC_H
#define WARREN_IPC_H

#include "base.h"

enum ipc_word {
	/* worker to supervisor */
	IPC_LOADED = 1, /* its plugins are open */
	IPC_CONSUMING,  /* every consumer it should have by now is confirmed by the broker */
	IPC_REFUSED, /* configuration or plugin is no good; text says why; exit 78 or 77 follows */
	IPC_PULSE,   /* it is alive; sent once a second by the thread that watches */
	IPC_GIVEN_BACK, /* number = started jobs that were given back so far */
	IPC_STATE,      /* text: why it is not consuming; empty when it is again */
	IPC_OVERRUN, /* it gave up a job whose task does not return, and takes no more; text: which
		      */
	IPC_ASIDE,   /* there are messages in the quarantine */
	/* about the message whose identity stands in text, in hex */
	IPC_RETRIED,    /* it was known to the supervisor, and was published anew */
	IPC_SETTLED,    /* it was known to the supervisor, and is settled for good */
	IPC_LEASE_LOST, /* the broker took it back from a running job */
	/* supervisor to worker */
	IPC_DRAIN,  /* take no more; number = milliseconds that running jobs may still have */
	IPC_RETIRE, /* take no more; running jobs may finish, however long they take, and are not
		       told */
	IPC_NOW,    /* give back what still runs and leave */
	IPC_CANCEL, /* text: the job whose task is asked to come to an end */
};

enum { IPC_TEXT_MAX = 1024 };

struct ipc_msg {
	uint32_t word; /* enum ipc_word */
	uint32_t len;  /* of text */
	int64_t number;
	char text[IPC_TEXT_MAX]; /* not terminated */
};

/* A connected pair, close-on-exec and non-blocking. False with errno. */
bool ipc_pair(int fds[2]) MUST_CHECK;

/* Sends one message; text may be NULL and is cut at IPC_TEXT_MAX. False when the peer is gone or
 * its buffer is full (errno EAGAIN). */
bool ipc_send(int fd, enum ipc_word word, int64_t number, const char *text);

/* 1: a message; 0: nothing there; -1: the peer is gone or spoke nonsense. */
int ipc_recv(int fd, struct ipc_msg *msg) MUST_CHECK;

#endif
