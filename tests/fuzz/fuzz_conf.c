/* Configurations: each is refused with lines that are safe to print, or works as far as the
 * broker's topology. */
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "fuzz.h"
#include "topology.h"

static void check_errors(const struct conf_errors *errors)
{
	struct memory memory;
	conf_errors_print(errors, memory_open(&memory));
	struct bytes all = memory_close(&memory);
	size_t lines = 0;
	CHECK(is_safe_text(all, "\n"));
	for (size_t i = 0; i < all.len; i++)
		lines += all.data[i] == '\n';
	CHECK(lines == errors->n);
	free(memory.text);
}

static void check_script(struct script *script)
{
	for (size_t i = 0; i < script->n; i++) {
		const struct step *step = &script->steps[i];
		char shown[512];
		step_show(step, shown, sizeof(shown));
		CHECK(shown[0] && step->name && strlen(step->name) <= 255);
		CHECK(!step->source || strlen(step->source) <= 255);
		CHECK(!step->key || strlen(step->key) <= 255);
	}
	script_free(script);
}

static void check_conf(const struct conf *conf)
{
	CHECK(conf->broker.n_urls > 0 && conf->broker.heartbeat_ns > 0);
	for (size_t i = 0; i < conf->n_queues; i++) {
		const struct conf_queue *queue = &conf->queues[i];
		CHECK(queue->index == i && queue->threads >= 1 && queue->threads <= 1024);
		CHECK(queue->prefetch >= 1 && queue->retry.attempts >= 1);
		CHECK(queue->name[0] || queue->exclusive);
		CHECK(queue->route != ROUTE_TASK || queue->task);
		CHECK(queue->route != ROUTE_HEADER || queue->route_header);
		check_script(topology_queue(conf, queue));
	}
	check_script(topology_exchanges(conf));
	check_script(topology_ladder(topology_top_rung(conf), topology_ladder_passive(conf)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf_errors errors = { 0 }, warnings = { 0 };
	char *text = xcalloc(1, size + 1);
	if (size)
		memcpy(text, data, size);
	struct conf *conf = conf_parse("fuzz.cfg", text, &errors, &warnings);
	CHECK((conf != NULL) == (errors.n == 0));
	if (conf)
		check_conf(conf);
	check_errors(&errors);
	check_errors(&warnings);
	conf_free(conf);
	conf_errors_free(&errors);
	conf_errors_free(&warnings);
	free(text);
	return 0;
}
