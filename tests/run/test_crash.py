"""Promise 7: a message that crashes its worker is recognised, runs alone, and is dead-lettered; nobody else is blamed."""

import os
import signal
import tempfile
import unittest

from harness import LEDGER, WarrendTest, asan_options, wait_until


def work(**more):
    return {"name": "work", "task": "ledger.run", "threads": 4,
            "retry": {"attempts": 3, "first": "1s", "max": "1s", "jitter": 0.0}, **more}


class Crash(WarrendTest):

    def dead(self):
        method, properties, body = self.get("work.dead")
        return properties.headers, body.decode()

    def violent_ends(self, daemon):
        return [e for e in daemon.events("worker.exited") if e.get("unexpected") == "true"]

    def crash_until_dead(self, queue, body="bad;raise 11", **properties):
        daemon = self.warrend(queue)
        for i in range(3):
            self.put("work", f"neighbour{i};slow 10;wait {daemon.path('go')}", delivery_mode=2)
        daemon.ran("neighbour2", what="start")
        self.put("work", body, delivery_mode=2, **properties)
        daemon.wait_for("job.suspect", certain="true")
        open(daemon.path("go"), "w").close()
        headers, dead = self.dead()
        self.assertEqual(dead, body)
        for i in range(3):
            daemon.ran(f"neighbour{i}")
        return daemon, headers

    def check_crashed(self, daemon, headers, name):
        self.assertEqual(headers["x-warren-verdict"], "crashed")
        self.assertEqual(headers["x-warren-signal"], name)
        self.assertEqual(headers["x-warren-crashes"], 3)
        self.assertEqual(headers["x-warren-task"], "ledger.run")
        self.assertEqual(headers["x-warren-plugin"], "ledger/1.0")
        self.assertEqual(len(daemon.ledger("start", "bad")), 3)
        self.assertEqual(len(self.violent_ends(daemon)), 3)
        # Only the first crash had neighbours: the other two happened in the quarantine.
        for i in range(3):
            self.assertLessEqual(len(daemon.ledger("start", f"neighbour{i}")), 2)
        self.assertEqual(daemon.stop(), 0)

    def test_a_crashing_message_is_dead_after_three(self):
        daemon, headers = self.crash_until_dead(work())
        self.assertTrue(daemon.events("worker.crashed", signal="SEGV", task="ledger.run"))
        self.assertTrue([e for e in daemon.events("crash.frame") if e["file"].endswith("ledger.so")])
        self.check_crashed(daemon, headers, "SEGV")

    def test_also_on_a_quorum_queue(self):
        daemon, headers = self.crash_until_dead(work(type="quorum"), message_id="one")
        self.check_crashed(daemon, headers, "SEGV")

    def test_exit_is_a_crash(self):
        daemon, headers = self.crash_until_dead(work(), "bad;exit 0")
        self.assertTrue(daemon.events("plugin.exit_called", task="ledger.run"))
        self.assertTrue(daemon.events("worker.exited", code=121))
        self.check_crashed(daemon, headers, "EXIT")

    def test_a_crash_limit_of_one(self):
        daemon = self.warrend(work(crash_limit=1))
        self.put("work", "bad;raise 6", delivery_mode=2)
        headers, _ = self.dead()
        self.assertEqual((headers["x-warren-signal"], headers["x-warren-crashes"]), ("ABRT", 1))
        self.assertEqual(len(daemon.ledger("start", "bad")), 1)
        self.assertEqual(daemon.stop(), 0)

    def test_who_was_only_there_runs_alone_and_is_done(self):
        daemon = self.warrend(work())
        for i in range(4):
            self.put("work", f"job{i};wait {daemon.path('go')}", delivery_mode=2)
        for i in range(4):
            daemon.ran(f"job{i}", what="start")
        os.kill(daemon.worker(), signal.SIGKILL)
        daemon.wait_for("job.suspect", 4, certain="false")
        open(daemon.path("go"), "w").close()
        for i in range(4):
            daemon.ran(f"job{i}")
        daemon.wait_for("job.done", 4)
        daemon.wait_for("job.quarantined", 4)
        spans = []
        for i in range(4):
            start, end = daemon.ledger(name=f"job{i}")[-2:]
            self.assertEqual((start.what, end.what, start.pid), ("start", "end", daemon.quarantine()))
            spans.append((start.ms, end.ms))
        spans.sort()
        for before, after in zip(spans, spans[1:]):
            self.assertLessEqual(before[1], after[0], "they ran one at a time")
        self.assertEqual(self.ready("work.dead"), 0)
        self.assertEqual(daemon.stop(), 0)

    def test_an_exit_that_nothing_announced_is_pinned_down_in_the_quarantine(self):
        daemon = self.warrend(work(threads=2))
        # a code that warren's own processes use, too
        self.put("work", "bad;_exit 75", delivery_mode=2)
        headers, _ = self.dead()
        self.assertEqual(headers["x-warren-signal"], "EXIT")
        # once beside others, where it is only suspected, and three times alone
        self.assertEqual(len(daemon.ledger("start", "bad")), 4, daemon.text())
        self.assertEqual(daemon.stop(), 0)

    def test_the_count_outlives_the_supervisor(self):
        daemon = self.warrend(work())
        self.put("work", "bad;raise 11", delivery_mode=2)
        daemon.ran("bad", 2, what="start")  # the second time from the quarantine, and it says so
        daemon.kill(signal.SIGKILL)
        daemon.wait()
        wait_until(lambda: not daemon.processes(), "the workers are gone")
        ran = len(daemon.ledger("start", "bad"))
        daemon.start()
        headers, _ = self.dead()
        self.assertEqual(headers["x-warren-crashes"], 3)
        self.assertLessEqual(len(daemon.ledger("start", "bad")), ran + 2)
        self.assertEqual(daemon.stop(), 0)

    def test_who_ran_alone_and_asks_for_a_retry_is_cleared(self):
        daemon = self.warrend(work())
        self.put("work", f"job;wait {daemon.path('go')};until 2 not yet", delivery_mode=2)
        daemon.ran("job", what="start")
        os.kill(daemon.worker(), signal.SIGKILL)
        open(daemon.path("go"), "w").close()
        daemon.wait_for("job.done")
        self.assertEqual(len(daemon.events("job.quarantined")), 1)
        self.assertEqual([e.pid for e in daemon.ledger("end", "job")], [daemon.quarantine(), daemon.worker()])
        self.assertEqual(daemon.stop(), 0)

    def test_a_child_of_a_task_speaks_for_itself_alone(self):
        # of a child with one of the threads no sanitizer knows what it still reaches
        options = {"ASAN_OPTIONS": asan_options("detect_leaks=0")}
        daemon = self.daemon(self.settings([work(threads=1)]), environment=options).start().consuming()
        self.put("work", f"parent;child;wait {daemon.path('go')}", delivery_mode=2)
        daemon.ran("parent", what="start")
        open(daemon.path("go"), "w").close()
        daemon.wait_for("job.done")
        self.put("work", f"next;wait {daemon.path('on')}", delivery_mode=2)
        daemon.ran("next", what="start")
        os.kill(daemon.worker(), signal.SIGKILL)
        daemon.wait_for("job.suspect", certain="false")
        self.assertFalse(daemon.events("job.suspect", certain="true"))
        open(daemon.path("on"), "w").close()
        daemon.wait_for("job.done", 2)
        self.assertEqual(daemon.stop(), 0)

    def test_its_copy_in_another_queue_is_another_message(self):
        bound = {"bindings": [{"exchange": "news"}]}
        daemon = self.warrend([work(**bound), {"name": "calm", "task": "text.upper", "crash_limit": 1, **bound}],
                              exchanges=[{"name": "news", "type": "fanout"}])
        for _ in range(5):
            self.channel.basic_publish("news", "", "bad;raise 11", mandatory=True)
        daemon.wait_for("job.done", 5, queue="calm")
        for _ in range(5):
            self.dead()
        self.assertEqual(self.ready("calm.dead"), 0)
        self.assertEqual(daemon.stop(), 0)

    def test_a_dry_run_that_calls_exit_is_not_done(self):
        for body in ("x;exit 0", "x;thread_exit"):
            with tempfile.TemporaryDirectory() as folder:
                done = self.warren("plugin", "run", LEDGER, "ledger.run", "-o", f"file={folder}/ledger",
                                   input=body.encode(), code=70)
                self.assertIn(b"verdict: none", done.stderr)

    def test_a_thread_that_its_task_ends_harms_nobody(self):
        daemon = self.warrend(work())
        self.put("work", f"other;wait {daemon.path('go')}", delivery_mode=2)
        daemon.ran("other", what="start")
        self.put("work", "bad;thread_exit", delivery_mode=2)
        headers, _ = self.dead()
        self.assertEqual(headers["x-warren-verdict"], "breach")
        daemon.wait_for("worker.replaced")
        open(daemon.path("go"), "w").close()
        daemon.wait_for("worker.exited", code=122)
        self.assertEqual(len(daemon.ledger("start", "other")), 1)
        self.assertEqual(len(daemon.ledger("end", "other")), 1)
        self.assertEqual(daemon.stop(), 0)


class Opening(WarrendTest):
    """A plugin that does not survive its open() has no job that could be named: the log names its file."""

    def opening(self, first):
        """A configuration whose plugin does that in its open()."""
        def make(folder):
            options = {"file": os.path.join(folder, "ledger"), "first": first}
            return self.settings([work()], plugins=[{"file": LEDGER, "options": options}])(folder)
        return make

    def check_last_words(self, daemon, event, **fields):
        words = daemon.wait_for(event, role="worker 0", **fields)
        self.assertEqual(words["while"], LEDGER)
        self.assertNotIn("job", words)
        daemon.wait_for("crash.frame", file=LEDGER)

    def test_a_crash_at_the_start_is_told_and_tried_again(self):
        daemon = self.daemon(self.opening("raise 11")).start()
        self.check_last_words(daemon, "worker.crashed", signal="SEGV")
        daemon.wait_for("worker.exited", name="SEGV", was="starting")
        # No refusal, so not the end of the daemon: what made it crash may go away.
        daemon.wait_for("worker.crashloop")
        self.assertNotIn("READY=1", daemon.text("status"))
        daemon.write(self.opening(""))
        self.assertEqual(daemon.stop(), 0)
        daemon.start().consuming()

    def test_an_exit_at_the_start_as_well(self):
        daemon = self.daemon(self.opening("exit 0")).start()
        self.check_last_words(daemon, "plugin.exit_called")
        daemon.wait_for("worker.exited", 2, code=121, was="starting")
        self.assertEqual(daemon.stop(), 0)

    def test_at_a_reload_the_old_plugin_stays(self):
        daemon = self.daemon(self.opening("")).start().consuming()
        old = daemon.worker()
        for first, event in (("raise 6", "worker.crashed"), ("exit 78", "plugin.exit_called")):
            since = daemon.mark_log()
            daemon.write(self.opening(first))
            daemon.kill(signal.SIGHUP)
            self.assertEqual(daemon.wait_for(event, since=since)["while"], LEDGER)
            daemon.wait_for("reload.rolled-back", since=since)
            daemon.wait_for("generation.gone", since=since)
        self.put("work", "job", delivery_mode=2)
        self.assertEqual(daemon.ran("job")[0].pid, old)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
