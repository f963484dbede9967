#!/usr/bin/python3
"""The W3C trace context: a job's log lines name its trace, and what follows from the job belongs to it."""

import unittest

from harness import WarrendTest

IDS = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
TRACE = {"traceparent": f"00-{IDS}-01", "tracestate": "vendor=1,other=2"}
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def work(name="work", **more):
    return {"name": name, "durable": True, "task": "ledger.run",
            "retry": {"attempts": 2, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}, **more}


class Trace(WarrendTest):
    def setUp(self):
        super().setUp()
        for name in ("answers", "next"):
            self.channel.queue_declare(name, durable=True)

    def headers(self, queue):
        """Of the next message there, without those that warren writes."""
        headers = self.get(queue)[1].headers
        return headers and {name: value for name, value in headers.items() if not name.startswith("x-warren-")}

    def test_the_log_the_reply_and_follow_ups_have_it(self):
        daemon = self.warrend(work())
        self.put("work", "job;say hello;follow next;reply yes", headers={**TRACE, "mine": 1}, reply_to="answers")
        daemon.wait_for("job.done", trace=IDS)
        daemon.wait_for("task.log", text="hello", trace=IDS)
        self.assertEqual(self.headers("answers"), TRACE)
        self.assertEqual(self.headers("next"), TRACE)

    def test_it_can_be_followed_from_task_to_task(self):
        daemon = self.warrend([work(), work("second")])
        self.put("work", "job;follow second", headers=TRACE)
        for queue in ("work", "second"):
            daemon.wait_for("job.done", queue=queue, trace=IDS)

    def test_a_follow_up_may_belong_to_another_one(self):
        daemon = self.warrend(work())
        self.put("work", f"job;begin next {OTHER}", headers=TRACE)
        self.assertEqual(self.headers("next"), {"traceparent": OTHER})
        daemon.wait_for("job.done", trace=IDS)

    def test_retries_and_dead_letters_keep_it(self):
        daemon = self.warrend(work())
        self.put("work", "job;retry later", headers=TRACE)
        daemon.wait_for("job.retry", trace=IDS)
        daemon.wait_for("job.dead", attempt=2, trace=IDS)
        self.assertEqual(self.headers("work.dead"), TRACE)

    def test_who_is_given_up_and_comes_back_late_has_it(self):
        daemon = self.warrend([work(), work("strict", time_limit="1s", kill_after="1s")])
        self.put("work", f"keeps the process;wait {daemon.path('go')}")
        daemon.ran("keeps the process", what="start")
        self.put("strict", "job;once busy 4000", headers=TRACE)
        daemon.wait_for("job.retry", verdict="timed-out", trace=IDS)
        daemon.wait_for("job.late", trace=IDS)
        daemon.wait_for("job.done", attempt=2, trace=IDS)
        open(daemon.path("go"), "w").close()

    def test_one_that_is_malformed_is_a_header_like_any_other(self):
        daemon = self.warrend(work())
        for number, parent in enumerate(("00-0-0-00", TRACE["traceparent"].upper(), f"ff-{IDS}-01", f"00-{IDS}-01-x", 7)):
            headers = {**TRACE, "traceparent": parent}
            self.put("work", f"job{number};say hello;follow next;reply yes", headers=headers, reply_to="answers")
            self.assertIsNone(self.headers("answers"))
            self.assertIsNone(self.headers("next"))
            self.put("work", f"dead{number};dead wrong", headers=headers)
            self.assertEqual(self.headers("work.dead"), headers)
        daemon.wait_for("job.dead", 5)
        self.assertEqual([line for line in daemon.log.read() if "trace" in line], [])

    def test_without_one_there_is_none(self):
        daemon = self.warrend(work())
        self.put("work", "job;say hello;follow next;reply yes", headers={"tracestate": "a=1"}, reply_to="answers")
        self.assertIsNone(self.headers("answers"))
        self.assertIsNone(self.headers("next"))
        daemon.wait_for("job.done")
        self.assertEqual([line for line in daemon.log.read() if "trace" in line], [])


if __name__ == "__main__":
    unittest.main()
