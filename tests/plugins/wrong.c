/* Plugins that a host must refuse, one for each WRONG_... that the build defines. */
#ifdef WRONG_SYMBOL
#define WARREN_PLUGIN_STATIC /* exports warren_plugin_wrong */
#endif
#include <warren/plugin.h>

__attribute__((unused)) static enum warren_verdict run(struct warren_job *job)
{
	(void)job;
	return WARREN_DONE;
}

#if defined(WRONG_OPEN)
static bool start(struct warren_host *host, void **state)
{
	(void)state;
	return warren_refuse(host, "no disk in drive %d", 7);
}
#elif defined(WRONG_SILENT)
static bool start(struct warren_host *host, void **state)
{
	(void)host, (void)state;
	return false;
}
#elif defined(WRONG_ASK)
static bool start(struct warren_host *host, void **state)
{
	(void)state;
	return *warren_option_text(host, "colour") == '\0';
}
#else
#define start NULL
#endif

#if defined(WRONG_THREAD)
static bool start_thread(
    struct warren_host *host, void *state, unsigned thread, void **thread_state)
{
	(void)state, (void)thread_state;
	return warren_refuse(host, "no room for thread %u", thread);
}
#else
#define start_thread NULL
#endif

static const struct warren_task tasks[] = {
#if defined(WRONG_TASK_NAME)
	{ .name = "wrong name", .run = run },
#elif defined(WRONG_RUN)
	{ .name = "wrong.run", .run = NULL },
#elif defined(WRONG_FLAGS)
	{ .name = "wrong.flags", .run = run, .flags = 0x80 },
#elif defined(WRONG_TWICE)
	{ .name = "wrong.twice", .run = run },
	{ .name = "wrong.twice", .run = run },
#elif !defined(WRONG_EMPTY)
	{ .name = "wrong.run", .run = run },
#endif
	{ 0 },
};

static const struct warren_option options[] = {
#if defined(WRONG_DEFAULT)
	{ .name = "delay", .type = WARREN_OPT_DURATION, .fallback = "soon", .help = "when" },
#elif defined(WRONG_BOUND)
	{ .name = "n", .type = WARREN_OPT_INT, .fallback = "1", .help = "many", .max = "lots" },
#elif defined(WRONG_TYPE)
	{ .name = "n", .type = (enum warren_option_type)99, .fallback = "1", .help = "many" },
#endif
	{ 0 },
};

#if defined(WRONG_FUNCTION)
WARREN_EXTERN int warren_plugin(void);
int warren_plugin(void)
{
	return (int)tasks[0].run(NULL) + (options[0].name != NULL);
}
#elif defined(WRONG_MAGIC) || defined(WRONG_MAJOR) || defined(WRONG_MINOR) ||                      \
    defined(WRONG_SIZE) || defined(WRONG_TASK_SIZE) || defined(WRONG_SMALL)
/* By hand, as nobody should write it. */
WARREN_EXTERN const struct warren_plugin warren_plugin;
const struct warren_plugin warren_plugin = {
#ifdef WRONG_MAGIC
	.magic = 0x1234,
#else
	.magic = WARREN_MAGIC,
#endif
#ifdef WRONG_SIZE
	.size = sizeof(struct warren_plugin) + 8,
#elif defined(WRONG_SMALL)
	.size = 8,
#else
	.size = sizeof(struct warren_plugin),
#endif
#ifdef WRONG_MAJOR
	.abi_major = WARREN_ABI_MAJOR + 1,
#else
	.abi_major = WARREN_ABI_MAJOR,
#endif
#ifdef WRONG_MINOR
	.abi_minor = WARREN_ABI_MINOR + 1,
#endif
#ifdef WRONG_TASK_SIZE
	.task_size = sizeof(struct warren_task) + 8,
#else
	.task_size = sizeof(struct warren_task),
#endif
	.option_size = sizeof(struct warren_option),
	.name = "wrong",
	.version = "1.0",
	.tasks = tasks,
	.options = options,
};
#else
WARREN_PLUGIN(wrong, .version = "1.0", .summary = "to be refused", .tasks = tasks,
    .options = options, .open = start, .thread_open = start_thread);
#endif
