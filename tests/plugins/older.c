/* A plugin as if built with an ABI whose structs ended earlier: what it lacks reads as zero. */
#include <warren/plugin.h>

static enum warren_verdict run(struct warren_job *job)
{
	return warren_dead(job, "old but well");
}

/* The task of that time: without its last member. */
static const struct old_task {
	const char *name;
	enum warren_verdict (*run)(struct warren_job *job);
} tasks[] = { { "older.run", run }, { NULL, NULL } };

/* The descriptor of that time: it ended with the tasks. */
struct old_plugin {
	uint32_t magic, size, abi_major, abi_minor, task_size, option_size;
	const char *name, *version, *summary;
	const struct old_task *tasks;
};

WARREN_EXTERN const struct old_plugin warren_plugin;
const struct old_plugin warren_plugin = {
	.magic = WARREN_MAGIC,
	.size = sizeof(struct old_plugin),
	.abi_major = WARREN_ABI_MAJOR,
	.abi_minor = 0,
	.task_size = sizeof(struct old_task),
	.option_size = sizeof(struct warren_option),
	.name = "older",
	.version = "0.9",
	.tasks = tasks,
};
