/* Waits for what the broker answers. */
#include "dialog.h"

#include <poll.h>

#include "clock.h"

void dialog_next(struct broker *broker, int64_t deadline_ns, struct event *event)
{
	enum { HEARTBEAT_STEP_MS = 500 }; /* heartbeats are due every second at most */
	for (;;) {
		broker_read(broker, event);
		int wait_ms = clock_until_ms(deadline_ns, HEARTBEAT_STEP_MS);
		if (event->kind != EV_NONE || wait_ms == 0)
			return;
		struct pollfd p = { .fd = broker_fd(broker), .events = POLLIN };
		(void)poll(&p, 1, wait_ms);
	}
}

bool dialog_answer(struct broker *broker, enum event_kind kind, struct event *event)
{
	int64_t deadline = clock_mono_ns() + DIALOG_ANSWER_S * NS_PER_S;
	for (;;) {
		dialog_next(broker, deadline, event);
		if (event->kind == kind)
			return true;
		if (event->kind == EV_NONE || event->kind == EV_LOST ||
		    event->kind == EV_CLOSED_BY_BROKER)
			return false;
		event_drop(event);
	}
}

bool dialog_open(struct broker *broker, struct event *event)
{
	*event = (struct event){ .kind = EV_LOST };
	return broker_open_channel(broker, DIALOG_CHANNEL) &&
	       dialog_answer(broker, EV_OPENED, event);
}

int dialog_exit_code(const struct broker_error *error)
{
	switch (error->fault) {
	case FAULT_AUTH:
	case FAULT_VHOST:
		return EXIT_REFUSED;
	case FAULT_FILE:
		return EXIT_CONFIG;
	case FAULT_CLOSED: /* 541: what the broker calls an internal error is a deprecated feature
			    */
		return error->code == 403 || error->code == 530 || error->code == 541
			   ? EXIT_REFUSED
			   : EXIT_UNAVAILABLE;
	case FAULT_MEMORY:
		return EXIT_OS;
	default:
		return EXIT_UNAVAILABLE;
	}
}
