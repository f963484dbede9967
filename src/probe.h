/*
 * Compares a configuration with what is on its broker, and changes nothing there. Floor 2.
 *
 * What is there is looked at passively, then declared once more exactly as it is meant to be:
 * RabbitMQ answers ok, or names the difference (406). What is not there, and what only permissions
 * decide, is asked for in ways that RabbitMQ must refuse after it has looked at the permission: a
 * declaration with a dead-letter or alternate exchange that is a number, a consumer whose priority
 * is a text, a binding of the default exchange. Read permission on an exchange shows when a binding
 * with a key that nobody has is taken away. Measured on RabbitMQ 3.10.8; the order of its checks is
 * the same in the source of 4.3.
 */
#ifndef WARREN_PROBE_H
#define WARREN_PROBE_H

#include "plan.h"

/*
 * Tries each of the configured URLs, compares with the first one that answers, and fills the plan.
 * EXIT_OK when it is whole; otherwise the exit code, the plan saying why.
 */
int probe_run(const struct conf *conf, struct plan *plan) MUST_CHECK;

#endif
