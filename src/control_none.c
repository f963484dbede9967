/* The control socket of a build without a JSON library: there is none. Floor 3. */
#include <stdlib.h>

#include "clock.h"
#include "control.h"

bool control_is_built(void)
{
	return false;
}

struct control *control_create(
    const struct control_command *commands, size_t n_commands, void *context)
{
	(void)commands, (void)n_commands, (void)context;
	return NULL;
}

void control_destroy(struct control *control)
{
	(void)control;
}

bool control_prepare(struct control *control, const char *path, char *why, size_t why_size)
{
	(void)control, (void)path, (void)why, (void)why_size;
	return true;
}

void control_commit(struct control *control)
{
	(void)control;
}

void control_abandon(struct control *control)
{
	(void)control;
}

bool control_waits(struct control *control, control_client client)
{
	(void)control, (void)client;
	return false;
}

void control_answer(struct control *control, control_client client, char *json)
{
	(void)control, (void)client;
	free(json);
}

void control_refuse(
    struct control *control, control_client client, enum exit_code code, const char *fmt, ...)
{
	(void)control, (void)client, (void)code, (void)fmt;
}

void control_say(struct control *control, control_client client, const char *fmt, ...)
{
	(void)control, (void)client, (void)fmt;
}

void control_refuse_errors(struct control *control, control_client client, const char *error,
    const struct conf_errors *errors)
{
	(void)control, (void)client, (void)error, (void)errors;
}

size_t control_fds(const struct control *control, struct pollfd *fds)
{
	(void)control, (void)fds;
	return 0;
}

int64_t control_deadline(const struct control *control)
{
	(void)control;
	return CLOCK_NEVER;
}

void control_serve(struct control *control, int64_t now_ns)
{
	(void)control, (void)now_ns;
}
