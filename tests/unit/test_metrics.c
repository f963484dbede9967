/* The metrics as a scraper reads them. They are left in $METRICS_FILE, if it is set, for promtool.
 */
#include "metrics.h"

#include <stdlib.h>

#include "stage.h"

#define CONFIG                                                                                     \
	"plugins = { load = ( { file = \"/lib/x.so\"; } ); };"                                     \
	"workers = { processes = 2; };"                                                            \
	"queues = ( { name = \"images\"; task = \"img.scale\"; threads = 4; },"                    \
	"           { name = \"mixed\"; route = \"type\"; threads = 2; } );"

static struct stage stage;

static struct tally *tally_of(uint32_t queue, const char *task)
{
	struct score *score = stage.crew.current->score;

	return score_tally(score, score_find_tally(score, queue, task));
}

/* Something of everything. */
static void setup(void)
{
	struct worker *w;

	stage_open(&stage, CONFIG);
	for (unsigned post = 0; post < 2; post++) {
		w = stage_worker(&stage, post, SLOT_CONSUMING);
		stage_conn(&stage, w, BOARD_WORK, BOARD_UP, "");
		stage_conn(
		    &stage, w, BOARD_PUBLISH, post ? BOARD_BLOCKED : BOARD_UP, "low on disk");
		stage_source(&stage, w, 0,
		    &(struct board_source){ .state = BOARD_CONSUMING,
			.threads = 4,
			.consuming = 4,
			.ready = 17,
			.dead = -1,
			.seen_ns = clock_mono_ns() });
		stage_thread(&stage, w, 0, 0, ROW_RUNNING, "img.scale");
	}
	w = stage_worker(&stage, 1, SLOT_CONSUMING) + 1;
	w->slot.state = SLOT_DRAINING;
	w->since_ns = clock_mono_ns();
	w->child.pid = getpid();
	stage_conn(&stage, w, BOARD_WORK, BOARD_UP, "");
	stage.crew.exits[CREW_CRASHED] = 3;
	watch_reloaded(&stage.watch, RELOAD_REFUSED, "why");
	tally_count(tally_of(0, "img.scale"), COUNT_TAKEN, 9);
	tally_count(tally_of(0, "img.scale"), COUNT_DONE, 7);
	histogram_add(&tally_of(0, "img.scale")->run, 80 * NS_PER_MS);
	histogram_add(&tally_of(0, "img.scale")->run, 80 * NS_PER_MS);
	histogram_add(&tally_of(0, "img.scale")->run, 3 * 3600 * NS_PER_S);
	histogram_add(&tally_of(0, "img.scale")->wait, 1);
	tally_count(tally_of(1, "a \"b\" \\ \n c"), COUNT_DONE, 1);
	tally_count(tally_of(1, "bad\xff"), COUNT_DONE, 1);
	tally_count(tally_of(1, "bad\\xff"), COUNT_DONE, 1);
}

static void teardown(void)
{
	stage_close(&stage);
}

static char *scrape(void)
{
	struct view *view = stage_look(&stage);
	char *text = metrics_text(view);

	ck_assert_ptr_nonnull(text);
	view_destroy(view);
	return text;
}

static const char *const lines[] = {
	"\n# TYPE warren_jobs_total counter\n",
	"\nwarren_ready 0\n",
	"\nwarren_problems{severity=\"error\"} 1\n",
	"\nwarren_problems{severity=\"warning\"} 1\n",
	"\nwarren_reloads_total{outcome=\"refused\"} 1\n",
	"\nwarren_reloads_total{outcome=\"done\"} 0\n",
	"\nwarren_worker_processes{state=\"consuming\"} 2\n",
	"\nwarren_worker_processes{state=\"draining\"} 1\n",
	"\nwarren_worker_processes{state=\"backoff\"} 0\n",
	"\nwarren_worker_exits_total{cause=\"crash\"} 3\n",
	"\nwarren_connection_up{worker=\"0\",connection=\"work\"} 1\n",
	"\nwarren_connection_up{worker=\"1\",connection=\"publish\"} 1\n",
	"\nwarren_connection_blocked{worker=\"1\",connection=\"publish\"} 1\n",
	"\nwarren_queue_threads{queue=\"images\"} 8\n",
	"\nwarren_queue_consumers{queue=\"images\"} 8\n",
	"\nwarren_queue_paused{queue=\"images\"} 0\n",
	"\nwarren_queue_messages_ready{queue=\"images\"} 17\n",
	"\nwarren_jobs_running{queue=\"images\"} 2\n",
	"\nwarren_jobs_taken_total{queue=\"images\",task=\"img.scale\"} 9\n",
	"\nwarren_jobs_total{queue=\"images\",task=\"img.scale\",outcome=\"done\"} 7\n",
	"\nwarren_jobs_total{queue=\"mixed\",task=\"\",outcome=\"dead\"} 0\n",
	"task=\"a \\\"b\\\" \\\\ \\n c\",outcome=\"done\"} 1\n",
	"\nwarren_job_run_seconds_bucket{queue=\"images\",task=\"img.scale\",le=\"0.05\"} 0\n",
	"\nwarren_job_run_seconds_bucket{queue=\"images\",task=\"img.scale\",le=\"0.1\"} 2\n",
	"\nwarren_job_run_seconds_bucket{queue=\"images\",task=\"img.scale\",le=\"7200\"} 2\n",
	"\nwarren_job_run_seconds_bucket{queue=\"images\",task=\"img.scale\",le=\"+Inf\"} 3\n",
	"\nwarren_job_run_seconds_sum{queue=\"images\",task=\"img.scale\"} 10800.160000000\n",
	"\nwarren_job_run_seconds_count{queue=\"images\",task=\"img.scale\"} 3\n",
	"\nwarren_job_wait_seconds_bucket{queue=\"images\",task=\"img.scale\",le=\"0.0001\"} 1\n",
};

static void save(const char *text)
{
	const char *path = getenv("METRICS_FILE");
	FILE *file = path ? fopen(path, "w") : NULL;

	if (!path)
		return;
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

START_TEST(it_says_what_is_so)
{
	char *text = scrape();

	save(text);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		ck_assert_msg(strstr(text, lines[i]) != NULL, "no%s", lines[i]);
	free(text);
}
END_TEST

START_TEST(what_is_not_known_is_not_there)
{
	char *text = scrape();

	ck_assert_ptr_null(strstr(text, "warren_queue_dead_letters{"));
	ck_assert_ptr_null(strstr(text, "warren_queue_messages_ready{queue=\"mixed\"}"));
	ck_assert_ptr_null(strstr(text, "warren_job_wait_seconds_count{queue=\"mixed\""));
	free(text);
}
END_TEST

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A scraper takes nothing of a page that has one twice. */
START_TEST(no_series_stands_twice)
{
	char *text = scrape(), *series[2000], *rest = text, *line;
	size_t n = 0;

	while ((line = strsep(&rest, "\n"))) {
		if (line[0] == '#' || line[0] == '\0')
			continue;
		ck_assert_uint_lt(n, ARRAY_LEN(series));
		*strrchr(line, ' ') = '\0';
		series[n++] = line;
	}
	qsort(series, n, sizeof(series[0]), by_text);
	for (size_t i = 1; i < n; i++)
		ck_assert_str_ne(series[i - 1], series[i]);
	ck_assert_uint_gt(n, 100);
	free(text);
}
END_TEST

START_TEST(a_daemon_without_a_crew_has_metrics)
{
	struct generation *g = stage.crew.current;
	char *text;

	stage.crew.current = NULL;
	text = scrape();
	ck_assert_ptr_nonnull(strstr(text, "\nwarren_ready 0\n"));
	free(text);
	stage.crew.current = g;
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("metrics");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, it_says_what_is_so);
	tcase_add_test(t, what_is_not_known_is_not_there);
	tcase_add_test(t, no_series_stands_twice);
	tcase_add_test(t, a_daemon_without_a_crew_has_metrics);

	Suite *suite = suite_create("metrics");
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
