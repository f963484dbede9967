// A plugin in C++20: no exception reaches the host.
#include <string>

#include <warren/plugin.h>

namespace
{

struct State {
	std::string prefix;
};

warren_verdict run(warren_job *job)
{
	size_t len;
	const char *body = warren_body(job, &len);
	std::string text(body, len);
	if (text == "dead")
		throw warren::dead("never again");
	if (text == "retry")
		throw std::runtime_error("not now");
	if (text == "odd")
		throw 42;
	std::string reply = static_cast<State *>(warren_state(job))->prefix + text;
	warren_value headers[] = { warren_string("s", "text"), warren_int("i", 7) };
	warren_message message = { .routing_key = "next", .headers = headers, .n_headers = 2 };
	warren_publish(job, &message);
	warren_reply(job, "text/plain", reply.data(), reply.size());
	return WARREN_DONE;
}

bool start(warren_host *host, void **state)
{
	std::string prefix = warren_option_text(host, "prefix");
	if (prefix == "throw")
		throw std::runtime_error("thrown in open");
	*state = new State{ prefix };
	return true;
}

void stop(void *state)
{
	delete static_cast<State *>(state);
}

const warren_task tasks[] = { { "cxx.run", warren::task<run>, 0, 0 }, {} };

const warren_option options[] = {
	{ "prefix", WARREN_OPT_STRING, "> ", "stands before the reply", nullptr, nullptr },
	{},
};

} // namespace

WARREN_PLUGIN(cxx, .version = "1.0", .summary = "C++", .tasks = tasks, .options = options,
    .open = warren::open<start>, .close = stop);
