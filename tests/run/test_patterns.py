#!/usr/bin/python3
"""The six patterns of the RabbitMQ tutorials, in both directions, with ordinary pika programs as the other side."""

import collections
import re
import unittest

from harness import WarrendTest, wait_until

HELLO_1 = {"name": "hello_1", "durable": False, "ack": "none", "task": "debug.print"}
HELLO_2 = {"name": "hello_2", "durable": True, "task": "debug.print"}
HELLO_3 = {"name": "hello_3", "durable": True, "threads": 2, "task": "ledger.run"}
EXCHANGES = {name: {"name": name, "type": kind, "durable": False}
             for name, kind in (("test", "fanout"), ("test2", "direct"), ("test3", "topic"))}


def private_queue(exchange, *keys):
    return {"name": "", "exclusive": True, "task": "debug.print",
            "bindings": [{"exchange": exchange, "keys": list(keys)}]}


class PatternTest(WarrendTest):
    def printed(self, daemon, count):
        """Waits for blocks of debug.print: (exchange, routing key, body), sorted."""
        block = re.compile(r"^exchange: ?(.*)\n(?:.*\n)*?routing_key: ?(.*)\n(?:.*\n)*?body: .*\n  (.*)\n$", re.M)

        def look():
            text = daemon.text("out")
            found = [block.search(part + "\n") for part in text.split("\n\n")[:-1]]
            return sorted(match.groups() for match in found) if len(found) >= count else None
        return wait_until(look, f"{count} blocks of debug.print")

    def bodies(self, daemon, count):
        return [body for _, _, body in self.printed(daemon, count)]

    def subscribe(self, *args):
        """Starts `warren subscribe`, waits until it is subscribed, and returns what gives its output."""
        process = self.spawn("subscribe", "--body", *args)
        line = process.stderr.readline()
        self.assertIn(b"subscribed", line.lower())
        return lambda: self.end(process, 0)[0].decode().splitlines()

    def sees(self, lines, *expected):
        wait_until(lambda: len(lines()) > len(expected), f"{expected} printed")
        self.assertEqual(lines()[1:], list(expected))


class Hello(PatternTest):
    """1: a transient queue; the broker forgets a message as it delivers it."""

    def setUp(self):
        super().setUp()
        if not self.broker.takes_transient_queues():
            self.skipTest("this broker refuses transient queues that are not exclusive")

    def test_pika_sends_and_warrend_prints(self):
        daemon = self.warrend(HELLO_1)
        self.program("send.py", "one", "two")
        self.assertEqual(self.printed(daemon, 2), [("", "hello_1", "one"), ("", "hello_1", "two")])
        self.assertEqual(daemon.stop(), 0)

    def test_pika_declares_first(self):
        self.program("send.py", "early")
        daemon = self.warrend(HELLO_1)
        self.assertEqual(self.bodies(daemon, 1), ["early"])

    def test_warren_publishes_and_pika_receives(self):
        lines = self.running("receive.py")
        self.warren("publish", "-q", "hello_1", "Hello World!")
        self.sees(lines, " [x] Received 'Hello World!'")

    def test_warren_declares_first_and_pika_receives(self):
        self.warren("publish", "-q", "hello_1", "--declare=transient", "early")
        self.sees(self.running("receive.py"), " [x] Received 'early'")

    def test_pika_sends_and_warren_subscribes(self):
        self.program("send.py", "one", "two")
        self.assertEqual(self.subscribe("-q", "hello_1", "-n", "2")(), ["one", "two"])


class Tasks(PatternTest):
    """2: a durable queue, persistent messages, an acknowledgement after the work."""

    def test_pika_sends_and_warrend_acknowledges(self):
        daemon = self.warrend(HELLO_2)
        self.program("new_task.py", "hello_2", "first", "second")
        self.assertEqual(self.bodies(daemon, 2), ["first", "second"])
        daemon.wait_for("job.done", 2)
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(self.ready("hello_2"), 0)

    def test_pika_declares_first_and_the_message_survives_the_broker(self):
        self.program("new_task.py", "hello_2", "kept")
        self.broker.restart()
        daemon = self.warrend(HELLO_2)
        self.assertEqual(self.bodies(daemon, 1), ["kept"])
        self.assertIn("delivery_mode: 2", daemon.text("out"))

    def test_warren_publishes_and_pika_works(self):
        self.warren("publish", "-q", "hello_2", "--declare=durable", "task.", "task..")
        self.sees(self.running("worker.py", "hello_2"), " [x] Received 'task.'", " [x] Received 'task..'")

    def test_pika_sends_and_warren_subscribes(self):
        self.program("new_task.py", "hello_2", "task")
        self.assertEqual(self.subscribe("-q", "hello_2", "-n", "1")(), ["task"])
        self.assertEqual(self.ready("hello_2"), 0)


class FairDispatch(PatternTest):
    """3: prefetch 1, so that who is faster does more."""

    def test_the_fast_thread_does_more(self):
        daemon = self.warrend(HELLO_3)
        tasks = [f"task-{i}\nslow 300" for i in range(20)]  # the first thread is slow, the second is not
        self.program("new_task.py", "hello_3", *tasks)
        daemon.wait_for("job.done", len(tasks))
        share = collections.Counter(entry.thread for entry in daemon.ledger("end"))
        self.assertEqual(sum(share.values()), len(tasks))
        self.assertGreater(share[1], 2 * share[0], share)
        self.assertGreater(share[0], 0, share)

    def test_each_queue_has_its_threads_and_no_more(self):
        """A thread runs what it has read, of whichever queue; the number of jobs of a queue at once is the queue's own."""
        threads = {"one": 1, "two": 2, "five": 5}
        count = 60
        daemon = self.warrend([{"name": name, "threads": n, "task": "ledger.run"} for name, n in threads.items()])
        for name in threads:
            bodies = [f"{name} {i}" + ";busy 20" * (i % 4 == 0) for i in range(count)]
            self.warren("publish", "-q", name, "-l", input="\n".join(bodies).encode())
        daemon.wait_for("job.done", count * len(threads))
        at_once, most = collections.Counter(), collections.Counter()
        for entry in daemon.ledger():
            name = entry.id.split()[0]
            at_once[name] += {"start": 1, "end": -1}[entry.what]
            most[name] = max(most[name], at_once[name])
        self.assertEqual(+at_once, {})
        for name, n in threads.items():
            self.assertLessEqual(most[name], n, most)
        self.assertEqual(len({entry.id for entry in daemon.ledger("end")}), count * len(threads))

    def test_warrend_and_a_pika_worker_share_a_queue(self):
        self.program("new_task.py", "hello_3", "pika" + "." * 600)
        lines = self.running("worker.py", "hello_3")
        wait_until(lambda: len(lines()) == 2, "the pika worker is busy")
        daemon = self.warrend(HELLO_3)
        self.program("new_task.py", "hello_3", *"abcdef")
        daemon.wait_for("job.done", 6)
        self.assertEqual({entry.id for entry in daemon.ledger("end")}, set("abcdef"))


class Fanout(PatternTest):
    """4: everybody gets everything, through a queue of their own."""

    def test_pika_emits_and_two_daemons_print(self):
        daemons = [self.warrend(private_queue("test", ""), exchanges=[EXCHANGES["test"]]) for _ in range(2)]
        self.program("emit_log.py", "news")
        for daemon in daemons:
            self.assertEqual(self.printed(daemon, 1), [("test", "", "news")])
        for daemon in daemons:
            self.assertEqual(daemon.stop(), 0)

    def test_pika_declares_first(self):
        lines = self.running("receive_logs.py")
        daemon = self.warrend(private_queue("test", ""), exchanges=[EXCHANGES["test"]])
        self.program("emit_log.py", "news")
        self.assertEqual(self.bodies(daemon, 1), ["news"])
        self.sees(lines, " [x] news")

    def test_warren_publishes_and_pika_receives(self):
        lines = self.running("receive_logs.py")
        self.warren("publish", "-e", "test", "news")
        self.sees(lines, " [x] news")

    def test_pika_emits_and_warren_subscribes(self):
        output = self.subscribe("-e", "test", "--declare=transient", "--type", "fanout", "-n", "2")
        self.program("emit_log.py", "news", "more")
        self.assertEqual(output(), ["news", "more"])


class Direct(PatternTest):
    """5: a private queue with several keys."""

    def test_pika_emits_and_warrend_prints_what_it_asked_for(self):
        daemon = self.warrend(private_queue("test2", "warning", "error"), exchanges=[EXCHANGES["test2"]])
        for severity in ("info", "warning", "error"):
            self.program("emit_log_direct.py", severity, f"a {severity}")
        self.assertEqual(self.printed(daemon, 2), [("test2", "error", "a error"), ("test2", "warning", "a warning")])

    def test_pika_declares_first(self):
        self.program("emit_log_direct.py", "error", "nobody listens")
        daemon = self.warrend(private_queue("test2", "error"), exchanges=[EXCHANGES["test2"]])
        self.program("emit_log_direct.py", "error", "heard")
        self.assertEqual(self.bodies(daemon, 1), ["heard"])

    def test_warren_publishes_and_pika_receives_what_it_asked_for(self):
        lines = self.running("receive_logs_direct.py", "warning", "error")
        self.warren("publish", "-e", "test2", "-r", "info", "--allow-unroutable", "no")
        self.warren("publish", "-e", "test2", "-r", "warning", "one")
        self.warren("publish", "-e", "test2", "-r", "error", "two")
        self.sees(lines, " [x] warning:one", " [x] error:two")

    def test_pika_emits_and_warren_subscribes(self):
        output = self.subscribe("-e", "test2", "-k", "warning", "-k", "error", "--declare=transient", "-n", "2")
        for severity in ("info", "warning", "error"):
            self.program("emit_log_direct.py", severity, severity)
        self.assertEqual(output(), ["warning", "error"])


class Topic(PatternTest):
    """6: keys with wildcards."""

    KEYS = ("kern.*", "*.critical")
    SENT = ("kern.info", "cron.info", "cron.critical", "kern.critical", "kern.critical.long")
    MATCHING = ("cron.critical", "kern.critical", "kern.info")

    def emit(self):
        for key in self.SENT:
            self.program("emit_log_topic.py", key, f"m {key}")

    def test_pika_emits_and_warrend_prints_what_matches_once(self):
        daemon = self.warrend(private_queue("test3", *self.KEYS), exchanges=[EXCHANGES["test3"]])
        self.emit()
        self.assertEqual(self.printed(daemon, 3), [("test3", key, f"m {key}") for key in self.MATCHING])

    def test_pika_declares_first(self):
        lines = self.running("receive_logs_topic.py", "#")
        daemon = self.warrend(private_queue("test3", *self.KEYS), exchanges=[EXCHANGES["test3"]])
        self.emit()
        self.assertEqual(self.bodies(daemon, 3), [f"m {key}" for key in self.MATCHING])
        self.sees(lines, *[f" [x] {key}:m {key}" for key in self.SENT])

    def test_warren_publishes_and_pika_receives_what_matches(self):
        lines = self.running("receive_logs_topic.py", *self.KEYS)
        for key in self.SENT:
            self.warren("publish", "-e", "test3", "-r", key, "--allow-unroutable", "m")
        self.sees(lines, " [x] kern.info:m", " [x] cron.critical:m", " [x] kern.critical:m")

    def test_pika_emits_and_warren_subscribes(self):
        output = self.subscribe("-e", "test3", "-k", "kern.*", "-k", "*.critical", "--declare=transient", "--type",
                                "topic", "-n", "3")
        self.emit()
        self.assertEqual(sorted(output()), [f"m {key}" for key in self.MATCHING])


if __name__ == "__main__":
    unittest.main()
