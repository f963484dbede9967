#!/usr/bin/python3
"""Faults that reviews found, each of which stays mended: what one job or one queue suffers, no other does."""

import os
import signal
import tempfile
import time
import unittest

from harness import WarrendTest, wait_until

QUICK = {"attempts": 5, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}
MB = 1024 * 1024


def work(name="work", **more):
    return {"name": name, "durable": True, "task": "ledger.run", "retry": QUICK, **more}


def unacked(**more):
    return {"name": "work", "durable": True, "task": "ledger.run", "ack": "none", **more}


class TroubleTest(WarrendTest):
    def fill(self, queue, bodies):
        """Many messages at once: pika waits for the confirm of each."""
        with tempfile.TemporaryFile("w+") as file:
            file.writelines(body + "\n" for body in bodies)
            file.seek(0)
            self.warren("publish", "-q", queue, "--transient", "-l", stdin=file)

    @staticmethod
    def let_go(daemon):
        open(daemon.path("go"), "w").close()

    def never(self, daemon, *events):
        self.assertEqual([line for event in events for line in daemon.events(event)], [])


class Bodies(TroubleTest):
    def test_those_in_files_are_unmapped(self):
        daemon = self.warrend(work(prefetch=5), limits={"message": "1MiB"})
        self.put("work", f"job;wait {daemon.path('go')}")
        daemon.ran("job", what="start")
        bodies = [bytes([65 + i]) * (5 * MB) for i in range(4)]
        self.put("work", *bodies)
        wait_until(lambda: len(self.spooled(daemon)) == 4, "four wait behind the job, each in a file")
        self.let_go(daemon)
        self.assertEqual([self.get("work.dead")[2] == body for body in bodies], [True] * 4)
        daemon.wait_for("job.dead", 4)
        wait_until(lambda: not self.spooled(daemon), "all files are unmapped", 10)
        self.assertEqual(daemon.stop(), 0)

    @staticmethod
    def spooled(daemon):
        """The worker's mappings of temporary files without a name."""
        with open(f"/proc/{daemon.worker()}/maps") as file:
            paths = [line.split(None, 5)[5] for line in file if line.endswith("(deleted)\n")]
        return [path for path in paths if path.startswith(tempfile.gettempdir()) and "/tsan." not in path]


class WithoutAcks(TroubleTest):
    def test_one_long_job_holds_up_no_other_thread(self):
        count, filling = 3000, " " * 10000  # 30 MB: more than all buffers on the way hold
        go = os.path.join(tempfile.mkdtemp(prefix="warren-test-"), "go")
        self.addCleanup(lambda: (os.path.exists(go) and os.unlink(go), os.rmdir(os.path.dirname(go))))
        self.channel.queue_declare("work", durable=True)
        self.put("work", f"first;wait {go}")
        self.fill("work", (f"job-{i};busy 2{filling}" for i in range(count)))  # all ready at the start
        daemon = self.warrend(unacked(threads=4), broker={"heartbeat": "1s"})
        daemon.patiently(lambda: len(daemon.ledger("end")) == count, "the other threads do all the others")
        self.assertFalse(daemon.ledger("end", "first"))
        open(go, "w").close()
        daemon.ran("first")
        self.assertEqual(len({entry.id for entry in daemon.ledger("end")}), count + 1)
        self.assertEqual(len(daemon.ledger("start")), count + 1)
        daemon.wait_for("job.done", count + 1)
        self.never(daemon, "broker.silent", "conn.lost", "worker.exited")
        self.assertEqual(daemon.stop(), 0)

    def test_a_slow_backlog_does_not_hold_up_the_end(self):
        daemon = self.warrend(unacked(threads=2), workers={"drain_limit": "2s"})
        self.fill("work", (f"job-{i};busy 300{' ' * 1000}" for i in range(10000)))
        daemon.ran("job-0")
        asked = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.assertLess(time.monotonic() - asked, 2 + 6)
        self.assertGreater(int(daemon.events("drain.dropped")[0]["jobs"]), 0)
        self.never(daemon, "broker.silent", "worker.killed")


class Ladder(TroubleTest):
    def test_a_rung_that_the_broker_refuses_stops_nothing_else(self):
        self.channel.queue_declare("warren.v1.delay.12", durable=True, arguments={"x-max-length": 1})
        # By its configuration the ladder has the rungs of 1 and 2 seconds.
        daemon = self.warrend([work(kill_after="2s"), work("other", kill_after="2s"),
                               work("gone", kill_after="2s")])
        self.put("work", "long;after 7200000;until 3")
        daemon.wait_for("ladder.failed", code=406)
        self.put("other", "short;until 2")
        since = daemon.mark_log()
        self.channel.queue_delete("gone")
        daemon.wait_for("queue.consuming", since=since, queue="gone", seconds=15)
        self.put("gone", "afterwards")
        daemon.ran("afterwards", seconds=15)
        first, again = daemon.ran("short", 2, seconds=15)
        self.assertLess(again.ms - first.ms, 5000)
        daemon.wait_for("job.retry", 2, queue="work", delay="3s", seconds=20)  # both rungs together
        ends = daemon.ran("long", 3, seconds=20)
        self.assertGreaterEqual(ends[2].ms - ends[1].ms, 2990)
        self.assertEqual(daemon.stop(), 0)


class Draining(TroubleTest):
    def test_a_dead_letter_queue_that_was_deleted_is_made_again(self):
        daemon = self.warrend(work())
        self.put("work", f"job;wait {daemon.path('go')};dead yes")
        daemon.ran("job", what="start")
        self.channel.queue_delete("work.dead")
        daemon.kill(signal.SIGTERM)
        daemon.wait_for("drain.start")
        self.let_go(daemon)
        self.assertEqual(daemon.wait(), 0)
        self.assertEqual(self.get("work.dead")[1].headers["x-warren-verdict"], "dead")
        self.assertEqual(self.ready("work"), 0)


class BackOff(TroubleTest):
    def test_a_refusal_counts_once_for_all_threads_of_the_queue(self):
        daemon = self.warrend(work(threads=8))
        since, worker = daemon.mark_log(), daemon.worker()
        os.kill(worker, signal.SIGSTOP)  # or it might consume before we do
        try:
            self.channel.queue_delete("work")
            self.channel.queue_declare("work", durable=True)
            tag = self.channel.basic_consume("work", lambda *got: None, exclusive=True)
        finally:
            os.kill(worker, signal.SIGCONT)
        daemon.wait_for("queue.failed", since=since, queue="work", code=403)
        over = time.monotonic() + 2
        wait_until(lambda: time.monotonic() > over, "2 s of refusals pass")
        self.channel.basic_cancel(tag)
        daemon.wait_for("queue.consuming", since=since, queue="work", threads=8, seconds=6)
        self.put("work", "job")
        daemon.ran("job")
        self.assertEqual(daemon.worker(), worker)
        self.assertEqual(daemon.stop(), 0)


class Alarm(TroubleTest):
    def test_large_replies_wait_for_its_end_and_the_worker_lives(self):
        daemon = self.warrend(work(threads=3))
        self.channel.queue_declare("answers", durable=True)
        answers = {letter * (8 * MB) for letter in "abc"}
        for i, answer in enumerate(sorted(answers)):
            self.put("work", f"job-{i}\nwait {daemon.path('go')}\nreply {answer}", reply_to="answers")
            daemon.ran(f"job-{i}", what="start")
        worker = daemon.worker()
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            self.let_go(daemon)
            daemon.patiently(lambda: len(daemon.ledger("end")) == 3, "all tasks have ended")
            over = time.monotonic() + 25
            wait_until(lambda: time.monotonic() > over or daemon.events("worker.exited"), "the alarm goes on")
            self.never(daemon, "worker.unresponsive", "worker.exited", "job.done")
        finally:
            self.broker.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        daemon.wait_for("job.done", 3)
        self.assertTrue({self.get("answers")[2].decode() for _ in answers} == answers, "each reply is there once")
        self.assertEqual(daemon.worker(), worker)
        self.never(daemon, "worker.unresponsive", "worker.exited")
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
