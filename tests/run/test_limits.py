"""Promise 8, and recycling: what takes too long or wears out is replaced, and nobody else notices."""

import os
import signal
import time
import unittest

from harness import WarrendTest, wait_until


def work(**more):
    return {"name": "work", "task": "ledger.run", "threads": 3, "time_limit": "1s", "kill_after": "1s",
            "retry": {"attempts": 2, "first": "1s", "max": "1s", "jitter": 0.0}, **more}


class TimeLimit(WarrendTest):

    def test_who_listens_is_told_and_nothing_else_happens(self):
        daemon = self.warrend(work())
        worker = daemon.worker()
        self.put("work", "late;yield", delivery_mode=2)
        daemon.wait_for("task.timeout", 2, kind="soft")
        _, properties, _ = self.get("work.dead")
        self.assertEqual(properties.headers["x-warren-verdict"], "exhausted")
        self.assertEqual(daemon.worker(), worker)
        self.assertFalse(daemon.events("task.timeout", kind="hard"))
        self.assertEqual(daemon.stop(), 0)

    def test_who_does_not_is_given_up_and_its_process_replaced(self):
        daemon = self.warrend([work(), {"name": "slow", "task": "ledger.run"}])
        old = daemon.worker()
        self.put("slow", f"sibling;wait {daemon.path('go')}", delivery_mode=2)
        daemon.ran("sibling", what="start")
        self.put("work", "stuck;busy 600000", delivery_mode=2)
        daemon.wait_for("task.timeout", kind="hard")
        daemon.wait_for("job.retry", verdict="timed-out")
        daemon.wait_for("worker.replaced", pid=old)
        daemon.patiently(lambda: daemon.worker() != old, "a replacement")
        new = daemon.worker()
        self.put("work", "next", delivery_mode=2)
        self.assertEqual(daemon.ran("next")[0].pid, new)
        self.assertIn(old, daemon.processes(), "the sibling still runs")
        open(daemon.path("go"), "w").close()
        self.assertEqual([e.pid for e in daemon.ran("sibling")], [old])
        daemon.wait_for("worker.exited", pid=old, code=122)
        # the second and last attempt ends the same way
        _, properties, body = self.get("work.dead")
        self.assertEqual(body, b"stuck;busy 600000")
        self.assertEqual(properties.headers["x-warren-verdict"], "timed-out")
        self.assertEqual(properties.headers["x-warren-attempt"], 2)
        daemon.wait_for("worker.exited", 2, code=122)
        self.assertEqual(len(daemon.ledger("start", "stuck")), 2)
        self.assertEqual(len(daemon.ledger("start", "sibling")), 1)
        self.assertEqual(daemon.stop(), 0)

    def test_all_threads_stuck(self):
        daemon = self.warrend(work(retry={"attempts": 1}))
        for i in range(3):
            self.put("work", f"stuck{i};busy 600000", delivery_mode=2)
        for _ in range(3):
            self.assertEqual(self.get("work.dead")[1].headers["x-warren-verdict"], "timed-out")
        daemon.wait_for("worker.exited", code=122)
        self.put("work", "next", delivery_mode=2)
        daemon.ran("next")
        self.assertEqual(len(daemon.ledger("start")), 4)
        self.assertEqual(daemon.stop(), 0)

    def test_a_late_return_counts_for_nothing(self):
        daemon = self.warrend([work(retry={"attempts": 1}), {"name": "slow", "task": "ledger.run"}])
        self.put("slow", f"sibling;wait {daemon.path('go')}", delivery_mode=2)  # keeps the process
        daemon.ran("sibling", what="start")
        self.put("work", "late;busy 4000;reply never", delivery_mode=2, reply_to="answers")
        self.channel.queue_declare("answers", durable=True)
        self.get("work.dead")
        daemon.wait_for("job.late")
        open(daemon.path("go"), "w").close()
        daemon.wait_for("worker.exited", code=122)
        self.assertEqual((self.ready("answers"), self.ready("work.dead"), self.ready("work")), (0, 0, 0))
        self.assertEqual(daemon.stop(), 0)

    def test_a_process_that_cannot_help_itself_is_seen_by_the_supervisor(self):
        daemon = self.warrend(work())
        old = daemon.worker()
        self.put("work", "stuck;stun overseer;busy 600000", delivery_mode=2)
        daemon.wait_for("worker.overdue", pid=old)
        daemon.wait_for("worker.exited", pid=old)
        # it counts as a run that took too long, so it does not go on like that for ever
        _, properties, _ = self.get("work.dead")
        self.assertIn(properties.headers["x-warren-verdict"], ("timed-out", "crashed"))
        self.assertEqual(daemon.stop(), 0)

    def test_a_run_in_a_frozen_process_counts_once_also_when_its_message_is_put_aside(self):
        # The broker must not take the message back before the supervisor has ended the process.
        daemon = self.warrend(work(), broker={"heartbeat": "60s"})
        self.put("work", "stuck;busy 600000", delivery_mode=2)
        for runs in (1, 2):
            frozen = daemon.ran("stuck", runs, what="start")[-1].pid
            os.kill(frozen, signal.SIGSTOP)
            daemon.wait_for("worker.overdue", pid=frozen)
            daemon.wait_for("worker.exited", pid=frozen, name="KILL")
        _, properties, _ = self.get("work.dead")
        self.assertEqual(properties.headers["x-warren-verdict"], "timed-out")
        self.assertEqual(properties.headers["x-warren-attempt"], 2)
        self.assertEqual([(e.attempt, e.pid) for e in daemon.ledger("start")],
                         [(1, daemon.ledger("start")[0].pid), (2, daemon.quarantine())])
        self.assertEqual(len(daemon.events("job.quarantined", attempt=1)), 1)
        self.assertEqual(daemon.stop(), 0)

    def test_who_waits_for_its_turn_is_not_late(self):
        daemon = self.warrend(work(task="ledger.serial", retry={"attempts": 1}))
        for i in range(3):
            self.put("work", f"job{i};busy 700", delivery_mode=2)
        for i in range(3):
            daemon.ran(f"job{i}")
        daemon.wait_for("job.done", 3)
        self.assertFalse(daemon.events("task.timeout"))
        self.assertEqual(daemon.stop(), 0)

    def test_stopping_while_one_is_stuck(self):
        daemon = self.warrend(work(retry={"attempts": 1}), workers={"drain_limit": "2s"})
        self.put("work", "stuck;busy 600000", delivery_mode=2)
        daemon.wait_for("worker.replaced")
        self.get("work.dead")
        self.assertEqual(daemon.stop(), 0)


class Recycling(WarrendTest):

    def test_by_jobs(self):
        daemon = self.warrend(work(threads=2), workers={"recycle_jobs": 20})
        jobs = [f"job{i}" for i in range(100)]
        self.put("work", *jobs, delivery_mode=2)
        for job in jobs:
            daemon.ran(job)
        daemon.wait_for("worker.recycle", reason="jobs")
        daemon.wait_for("worker.exited", code=0)
        self.put("work", "last", delivery_mode=2)
        daemon.ran("last")
        self.assertEqual(len(daemon.ledger("start")), 101, "each once")
        self.assertEqual(daemon.stop(), 0)

    def test_a_long_job_outlives_the_recycling_of_its_process(self):
        daemon = self.warrend(work(time_limit="0"), workers={"recycle_jobs": 20, "drain_limit": "1s"})
        self.put("work", f"long;wait {daemon.path('go')}", delivery_mode=2)
        old = daemon.ran("long", what="start")[0].pid
        for batch in range(3):
            jobs = [f"job{batch}-{i}" for i in range(25)]
            self.put("work", *jobs, delivery_mode=2)
            for job in jobs:
                daemon.ran(job)
        daemon.wait_for("worker.recycle", pid=old)
        daemon.wait_for("drain.start", because="another process has its post")
        seconds = time.monotonic() + 2  # longer than the drain limit
        wait_until(lambda: time.monotonic() > seconds, "the drain limit passes")
        open(daemon.path("go"), "w").close()
        self.assertEqual([e.pid for e in daemon.ran("long")], [old])
        daemon.wait_for("worker.exited", pid=old, code=0)
        self.assertEqual(len(daemon.ledger("start", "long")), 1)
        self.assertEqual(daemon.stop(), 0)

    def test_by_memory_and_with_the_replacement_first(self):
        daemon = self.warrend(work(threads=1), workers={"recycle_memory": "1MiB"})
        old = daemon.worker()
        self.put("work", "job", delivery_mode=2)
        daemon.wait_for("worker.recycle", reason="memory", pid=old)
        daemon.wait_for("worker.exited", pid=old, code=0)
        lines = [(e["event"], int(e["pid"]) if "pid" in e else None) for e in daemon.log.read()
                 if e["event"] in ("worker.started", "worker.consuming", "worker.exited")
                 and e.get("worker") == "0"]
        end = lines.index(("worker.exited", old))
        self.assertEqual([event for event, _ in lines[:end]].count("worker.consuming"), 2)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
