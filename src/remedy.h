/* What an operator can do about what a broker says: tables of words. Floor 1. */
#ifndef WARREN_REMEDY_H
#define WARREN_REMEDY_H

#include "conf.h"

/* Of a connection that cannot be made or was lost; `error` begins with the word of its fault, as
 * in "dns: host name rabbit has no address". */
const char *remedy_of_connection(const char *error);

/* Of a queue that is not consumed: by AMQP's reply code, its text, and who declares the queue. */
const char *remedy_of_queue(int code, const char *text, enum conf_declare declare);

/* Of a connection that the broker has blocked: by its reason, as in "low on memory". */
const char *remedy_of_alarm(const char *reason);

#endif
