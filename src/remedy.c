/* Tables of what helps. */
#include "remedy.h"

#include <string.h>

static bool begins_with(const char *text, const char *word)
{
	return strncmp(text, word, strlen(word)) == 0;
}

const char *remedy_of_connection(const char *error)
{
	static const struct {
		const char *fault, *remedy;
	} remedies[] = {
		{ "dns:",
		    "correct the host name in broker.urls, or the name service of this host" },
		{ "connect:", "start the broker, or correct host and port in broker.urls; nothing "
			      "listens there, or no way leads there" },
		{ "timeout:",
		    "see whether the broker is overloaded (rabbitmq-diagnostics status) or a "
		    "firewall swallows what is sent to it" },
		{ "tls:",
		    "correct broker.tls, or the broker's certificate: its end, its authority, its "
		    "host name" },
		{ "auth:", "correct user and password (broker.urls, broker.password_file), or the "
			   "broker's user: rabbitmqctl authenticate_user" },
		{ "vhost:",
		    "make the virtual host (rabbitmqctl add_vhost) and let the user into it "
		    "(rabbitmqctl set_permissions), or correct broker.urls" },
		{ "file:", "correct the file that is named, or who may read it" },
		{ "heartbeat:", "see whether the network or the broker stands still" },
		{ "closed:", "the reason is the broker's; its log has more" },
		{ "protocol:",
		    "see whether the port is one for AMQP 0-9-1: 5672, or 5671 for TLS" },
		{ "memory:", "give this host memory" },
	};

	for (size_t i = 0; i < ARRAY_LEN(remedies); i++)
		if (begins_with(error, remedies[i].fault))
			return remedies[i].remedy;
	return "see whether the broker runs, and what its log says";
}

const char *remedy_of_queue(int code, const char *text, enum conf_declare declare)
{
	if (code == 403 && strstr(text, "exclusive use"))
		return "end the other consumer, which has the queue for itself alone: "
		       "rabbitmqctl list_consumers";
	if (code == 403)
		return "let the broker's user do it: rabbitmqctl set_permissions";
	if (code == 404 && declare == DECLARE_ACTIVE)
		return "make what is named, or let warrend declare it: exchanges = ( ... )";
	if (code == 404)
		return "make what is named, or let warrend do it: declare = \"active\"";
	if (code == 405)
		return "end the connection that has this exclusive queue: rabbitmqctl "
		       "list_connections";
	if (code == 406 && declare == DECLARE_ACTIVE)
		return "what is there has other properties: configure those, or delete it on the "
		       "broker with what is in it, or declare = \"passive\"";
	if (code == 406)
		return "configure what the broker can do for this queue";
	if (code == 530 || code == 540 || code == 541)
		return "the broker does not do that, or not now: see its log";
	return "it is tried again; the log of the broker may say more";
}

const char *remedy_of_alarm(const char *reason)
{
	bool memory = strstr(reason, "memory") != NULL, disk = strstr(reason, "disk") != NULL;

	if (memory && !disk)
		return "free memory on the broker (rabbitmq-diagnostics memory_breakdown), or "
		       "raise its vm_memory_high_watermark";
	if (disk && !memory)
		return "free space on the broker's disk, or lower its disk_free_limit";
	return "see what the broker is short of: rabbitmq-diagnostics alarms";
}
