/*
 * The W3C trace context of a message: which trace its job belongs to, so that the log and what the
 * job publishes can name it. warren makes no spans of its own, so it passes on what it was given.
 * Pure. Floor 1.
 */
#ifndef WARREN_TRACE_H
#define WARREN_TRACE_H

#include "arena.h"
#include "msg.h"

enum { TRACE_MAX = 8 * 1024 }; /* bytes of either header; a longer one is ignored */

struct trace {
	struct bytes
	    parent; /* of `traceparent`; empty: there is none, or none that is well-formed */
	struct bytes state; /* of `tracestate`; empty without a parent */
};

/* What the headers of a message say. Points into them. */
struct trace trace_of(const struct table *headers);

/* Trace-id and span-id for the log, "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7": nothing
 * but hex digits and the dash. Empty without a trace. */
struct bytes trace_ids(const struct trace *trace);

/*
 * Adds both headers to a message that follows from the job, unless it has a `traceparent` of its
 * own; a `tracestate` of its own stays, too. Takes memory only where there is a trace, and for
 * the table alone: what the headers say is not copied. False when memory is short.
 */
bool trace_carry(const struct trace *trace, struct arena *arena, struct props *props) MUST_CHECK;

#endif
