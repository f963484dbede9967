#!/usr/bin/python3
"""Ten thousand jobs through eight threads: none is lost, and whatever is done twice is counted."""

import collections
import hashlib
import os
import signal
import time
import unittest

from harness import VALGRIND, WarrendTest, wait_until

JOBS = int(os.environ.get("WARREN_JOBS", 10000))
THREADS = 8
LONG = 240  # seconds for all of them


class JobsTest(WarrendTest):
    def publish(self, queue, bodies, *options):
        """All of them with `warren publish`, which ends when the last one is confirmed."""
        self.warren("publish", "-q", queue, "-l", *options, input="\n".join(bodies).encode())


class TenThousand(JobsTest):
    def test_each_is_done_once_and_answered_with_its_own_digest(self):
        self.channel.queue_declare("answers", durable=True)
        daemon = self.warrend({"name": "work", "durable": True, "threads": THREADS, "task": "file.digest"},
                              plugins=[{"file": "digest.so", "options": {"source": "body"}}])
        if VALGRIND:
            self.assertTrue(all("valgrind" in os.readlink(f"/proc/{pid}/exe") for pid in daemon.processes()))
        bodies = [f"job {i} of {JOBS}" for i in range(JOBS)]
        started = time.monotonic()
        self.publish("work", bodies, "--reply-to", "answers")
        daemon.patiently(lambda: self.ready("answers") >= JOBS, f"{JOBS} answers", LONG)
        seconds = time.monotonic() - started
        self.assertEqual(daemon.stop(), 0)
        answers = self.warren("subscribe", "-q", "answers", "-n", str(JOBS), "--body").stdout.decode().split()
        self.assertEqual(sorted(answers), sorted(hashlib.sha256(body.encode()).hexdigest() for body in bodies))
        self.assertEqual((self.ready("work"), self.ready("answers"), self.ready("work.dead")), (0, 0, 0))
        stopped = daemon.wait_for("daemon.stopped", taken=JOBS, done=JOBS, retried=0, dead=0, given_back=0)
        print(f"\n{JOBS} jobs in {seconds:.1f} s{' under valgrind' if VALGRIND else ''}: {stopped['done']} done once")


class Killed(JobsTest):
    """Every job writes its start and its end into a ledger."""

    def begin(self, *types):
        """A daemon with a queue of each type, which share jobs and threads, and all the jobs in them."""
        self.names = {f"{kind}-queue": {f"{kind}-{i}" for i in range(JOBS // len(types))} for kind in types}
        self.threads = THREADS // len(types)
        daemon = self.warrend([{"name": f"{kind}-queue", "type": kind, "durable": True, "threads": self.threads,
                                "task": "ledger.run"} for kind in types])
        for queue, names in self.names.items():
            self.publish(queue, [f"{name};busy 5" for name in names])
        return daemon

    @staticmethod
    def done(daemon):
        ends = daemon.ledger("end")
        return len({entry.id for entry in ends}) if len(ends) >= JOBS else 0

    def finish(self, daemon, what, **bounds):
        """Waits until all are done, and settles the account: how many were lost, how many were run again."""
        daemon.patiently(lambda: self.done(daemon) >= JOBS, "all jobs are done", LONG)
        self.assertEqual(daemon.stop(), 0)
        self.channel = self.open_channel()
        started = collections.Counter(entry.id for entry in daemon.ledger("start"))
        ended = {entry.id for entry in daemon.ledger("end")}
        for queue, names in self.names.items():
            lost = names - ended
            again = sum(started[name] for name in names) - len(names)
            bound = bounds[queue.split("-")[0]]
            print(f"\n{what}, {queue}: {len(names)} jobs, lost {len(lost)}, run again {again} (bound {bound})")
            self.assertEqual(lost, set())
            self.assertLessEqual(again, len(names) if bound is None else bound)
            self.assertEqual([self.ready(name) for name in (queue, f"{queue}.dead")], [0, 0])

    def test_a_worker_every_second(self):
        daemon = self.begin("classic")
        kills, since = 0, 0
        while self.done(daemon) < JOBS and kills < 8:
            due = time.monotonic() + 1
            wait_until(lambda: time.monotonic() >= due, "a second passes")
            daemon.consuming(since)
            since = daemon.mark_log()
            os.kill(daemon.worker(), signal.SIGKILL)
            daemon.wait_for("worker.exited", signal=9, since=since)
            kills += 1
        self.assertGreater(kills, 3)
        self.finish(daemon, f"a worker killed {kills} times", classic=kills * THREADS)

    def interrupt(self, stop, *types):
        """Stops the broker when a quarter is done, and starts it again; the worker is still the one it was."""
        daemon = self.begin(*types)
        wait_until(lambda: len(daemon.ledger("end")) > JOBS // 4, "a quarter is done")
        since = daemon.mark_log()
        stop()
        self.assertLess(len(daemon.ledger("end")), JOBS)
        self.broker.start()
        daemon.wait_for("queue.consuming", len(types), since=since)
        self.assertEqual(len(daemon.events("worker.started")), 1)
        return daemon

    def test_the_broker_stopped_and_started(self):
        self.finish(self.interrupt(self.broker.stop, "classic"), "the broker stopped", classic=THREADS)

    def test_the_broker_killed_and_started(self):
        """A classic queue writes acknowledgements down late: what a killed node forgets of them has no bound."""
        daemon = self.interrupt(self.broker.kill, "quorum", "classic")
        self.finish(daemon, "the broker killed", quorum=self.threads, classic=None)


if __name__ == "__main__":
    unittest.main()
