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


class Brief(JobsTest):
    """Jobs that take less time than it takes to wake a thread: whoever reads them keeps reading, and holds acks back as
    long as it has more of them at hand. A job that takes long all the same is not to be felt by others: what comes, or
    leaves, a tenth of a second later in the mean where nobody sees to it."""

    ROUNDS = 21

    def begin(self):
        """A daemon that has found the jobs of the first of two queues to be brief."""
        queues = [{"name": "brief", "threads": THREADS}, {"name": "other"}]
        for queue in queues:
            queue.update(durable=True, task="ledger.run")
            self.channel.queue_declare(queue["name"], durable=True)
        # A line for each job would be most of what it takes.
        daemon = self.daemon(self.settings(queues, log={"level": "warn"})).start()
        self.warm_up(daemon, "first")
        return daemon

    def warm_up(self, daemon, name):
        """The long jobs of one round would be a part of the mean in the next. At its end all is acknowledged."""
        names = [f"{name}.{i}" for i in range(500)]
        self.publish("brief", names)
        daemon.patiently(lambda: set(names) <= {entry.id for entry in daemon.ledger("end")}, "all are done")
        self.wait_ms(daemon, "other", f"after {name}")

    def wait_ms(self, daemon, queue, *bodies):
        """How long after it was published the last of them started."""
        published_ms = time.monotonic() * 1000
        self.put(queue, *(body.encode() for body in bodies))
        return max(daemon.ran(body.split(";")[0], what="start")[0].ms for body in bodies) - published_ms

    def assertSoon(self, waits):
        """Three times may be the machine's fault."""
        self.assertLess(sorted(waits)[-4], 50, waits)

    def test_another_queue_does_not_wait_for_one_that_takes_long(self):
        daemon = self.begin()
        waits = []
        for i in range(self.ROUNDS):
            self.publish("brief", [f"{i}.{k}" for k in range(500)] + [f"long {i};busy 400"])
            wait_until(lambda: self.ready("brief") == 0, "all are taken, the long one last")
            waits.append(self.wait_ms(daemon, "other", f"other {i}"))
            daemon.ran(f"long {i}")
        self.assertSoon(waits)

    def test_acks_do_not_wait_for_one_that_takes_long(self):
        daemon = self.begin()
        worker = daemon.ledger("end")[-1].pid
        waits = []
        for i in range(self.ROUNDS):
            self.warm_up(daemon, f"warm {i}")
            os.kill(worker, signal.SIGSTOP)
            self.put("brief", *[b"brief"] * (THREADS - 1), b"long %d;busy 400" % i)
            wait_until(lambda: self.ready("brief") <= 1, "all are on their way, but for an ack that was caught by the stop")
            os.kill(worker, signal.SIGCONT)
            daemon.ran(f"long {i}", what="start")
            others = [f"{i}.{k}" for k in range(THREADS - 1)]  # each channel is needed
            waits.append(self.wait_ms(daemon, "brief", *(f"{name};busy 400" for name in others)))
            for name in (f"long {i}", *others):
                daemon.ran(name)
        self.assertSoon(waits)

    def test_a_killed_worker_has_one_job_of_each_channel_run_again(self):
        """Also where several had been done, and their acks were still in hand."""
        daemon = self.begin()
        names = [f"job {i}" for i in range(JOBS)]
        worker = daemon.ledger("end")[-1].pid
        os.kill(worker, signal.SIGSTOP)  # or most are done before the last is published
        self.publish("brief", names)
        os.kill(worker, signal.SIGCONT)
        killed = set()
        for share in range(1, 5):
            daemon.patiently(lambda: len(daemon.ledger("end")) > share * JOBS // 5 and self.busiest(daemon) not in killed,
                             f"{share} fifths are done")
            victim = self.busiest(daemon)
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
        daemon.patiently(lambda: set(names) <= {entry.id for entry in daemon.ledger("end")}, "all jobs are done", LONG)
        self.assertEqual(daemon.stop(), 0)
        runs = collections.Counter(entry.id for entry in daemon.ledger("start"))
        again = sum(runs[name] for name in names) - len(names)
        print(f"\n{len(killed)} workers killed amid {JOBS} brief jobs: run again {again} (bound {len(killed) * THREADS})")
        self.assertLessEqual(again, len(killed) * THREADS)

    @staticmethod
    def busiest(daemon):
        """The process that did most of late: not the quarantine."""
        return collections.Counter(entry.pid for entry in daemon.ledger("end")[-100:]).most_common(1)[0][0]

    def test_more_than_one_at_once_on_a_channel(self):
        """Others read what is a thread's own; each is run once all the same."""
        daemon = self.warrend([{"name": f"q{n}", "threads": n, "prefetch": 5, "task": "ledger.run"} for n in (1, 3)])
        self.finish(daemon, ["q1", "q3"])

    def test_without_acks(self):
        daemon = self.warrend([{"name": f"q{n}", "threads": n, "ack": "none", "task": "ledger.run"} for n in (1, 3)])
        self.finish(daemon, ["q1", "q3"])

    def finish(self, daemon, queues):
        """Jobs of which some take long, each of which is done once."""
        names = {f"{queue}-{i}" for queue in queues for i in range(400)}
        for queue in queues:
            mine = sorted(name for name in names if name.startswith(queue))
            self.publish(queue, [name + ";busy 20" * (i % 20 == 0) for i, name in enumerate(mine)])
        daemon.wait_for("job.done", len(names))
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(sorted(entry.id for entry in daemon.ledger("end")), sorted(names))


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
