// sabotage.throws and sabotage.catches: the same task with and without the adaptor that lets no
// exception reach the host.
#include <stdexcept>
#include <string>

#include "book.h"

namespace
{

book ledger = { -1 };

warren_verdict run(warren_job *job)
{
	const char *text = warren_body_text(job);
	std::string body(text ? text : "");
	std::string id = body.substr(0, body.find(';'));
	book_note(&ledger, job, "start", 0, id.c_str());
	if (body.find(";throw") != std::string::npos)
		throw std::runtime_error("thrown by " + id);
	if (body.find(";odd") != std::string::npos)
		throw 42;
	book_note(&ledger, job, "end", WARREN_DONE, id.c_str());
	return WARREN_DONE;
}

bool start(warren_host *host, void **)
{
	return book_open(&ledger, warren_option_text(host, "file")) ||
	       warren_refuse(host, "the ledger cannot be opened");
}

const warren_task tasks[] = { { "sabotage.throws", run, 0, 0 },
	{ "sabotage.catches", warren::task<run>, 0, 0 }, {} };

const warren_option options[] = {
	{ "file", WARREN_OPT_PATH, nullptr, "where the lines go", nullptr, nullptr },
	{},
};

} // namespace

WARREN_PLUGIN(saboteur_cxx, .version = "1.0", .summary = "throws", .tasks = tasks,
    .options = options, .open = start);
