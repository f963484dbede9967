#!/usr/bin/python3
"""Random faults at random times from one seed, under a load of all kinds of jobs: `chaos.py MINUTES`.

Afterwards nothing is lost, no more was run again than the faults allow, and descriptors, threads and memory of the
supervisor and its workers are where they were. Started by scripts/faults --chaos.
"""

import collections
import contextlib
import os
import signal
import sys
import time
import unittest

from accounting import QUIET, FaultTest, row, seconds_pass
from broker_fixture import wait_until
from proxy import Proxy

MINUTES = float(sys.argv[1]) if len(sys.argv) > 1 else 3
PAUSE = 12  # seconds between two faults at most; a fault that takes longer delays the next one
RUNS_MAX = 2  # of a job, by its own retries

Fault = collections.namedtuple("Fault", "name weight hits")


def jobs(number):
    """Most are done at once, some are slow, some want another attempt, some are refused; most answer."""
    kind = number % 10
    if kind == 7:
        return f"busy 30;until {RUNS_MAX} not yet;reply {number}"
    if kind == 8:
        return "busy 10;dead for good"
    if kind == 9:
        return f"hear 2500;reply {number}"
    return f"busy {20 + kind * 10};reply {number}"


class Chaos(FaultTest):
    processes_of_daemon = 2

    @row("chaos")
    def test_chaos(self):
        """Random faults at random times, one seed."""
        self.all_channels = self.processes_of_daemon * self.threads
        self.proxy = Proxy(self.broker.port(), seed=self.random.randrange(1 << 30), capture=False)
        self.addCleanup(self.proxy.stop)
        self.answers_queue()
        daemon = self.begin(urls=[self.proxy.url(self.url)], workers={"drain_limit": "10s", "start_limit": "15s"})
        self.load(commands=jobs, rate=30, reply_to="answers")
        self.under_way(daemon)
        schedule = self.schedule()
        print("\n".join(f"at {at:5.0f} s: {name}" for at, name, _ in schedule), flush=True)
        hits = self.torment(daemon, schedule)
        self.addCleanup(self.proxy.heal)
        self.proxy.heal()
        self.under_way(daemon)
        self.stop_flows()
        self.catch_up()
        counts = collections.Counter(name for _, name, _ in schedule)
        self.seen(f"{MINUTES:g} minutes, {len(schedule)} faults: " + ", ".join(f"{n} {c}" for n, c in sorted(counts.items())))
        # A channel that is hit has its job run again, and with it the attempt that follows, or its dead letter.
        self.finish(daemon, bound=RUNS_MAX * hits, answers=["answers"])

    def catch_up(self):
        """Minutes of outages can leave thousands of jobs behind, for which the account has no patience."""
        with contextlib.closing(self.connect()) as connection:
            channel = connection.channel()
            wait_until(lambda: not self.waiting(channel, "work"), "what was left behind has been taken",
                       60 * MINUTES + QUIET)

    def faults(self):
        """With the number of channels that each may hit. A reload hits none by itself, but what waits for a confirm when
        the drain limit is reached is given back."""
        every, one = self.all_channels, self.threads
        return [Fault("kill_broker", 2, every), Fault("stop_broker", 1, every), Fault("freeze_broker", 2, every),
                Fault("close_connections", 2, every), Fault("kill_worker", 3, one + 1), Fault("stop_worker", 1, one + 1),
                Fault("reload", 2, every), Fault("reset", 2, every), Fault("black_hole", 2, every), Fault("deaf", 1, every),
                Fault("slow", 1, every), Fault("pieces", 1, every), Fault("memory_alarm", 1, 0)]

    def schedule(self):
        """(when, what, a number that the fault may draw on), all of it before the first fault."""
        faults, at, planned = self.faults(), 2.0, []
        while at < MINUTES * 60:
            fault = self.random.choices(faults, [fault.weight for fault in faults])[0]
            planned.append((at, fault.name, self.random.random()))
            at += self.random.uniform(0.5, PAUSE)
        return planned

    def torment(self, daemon, schedule):
        hits = {fault.name: fault.hits for fault in self.faults()}
        began, total = time.monotonic(), 0
        for at, name, draw in schedule:
            wait_until(lambda: time.monotonic() - began >= at, "its time", at + 10)  # pylint: disable=cell-var-from-loop
            print(f"{time.monotonic() - began:5.0f} s {name} ({len(daemon.ledger('end'))} runs so far)", flush=True)
            getattr(self, name)(daemon, draw)
            self.assertIsNone(daemon.process.poll(), "the supervisor lives")
            total += hits[name]
        return total

    # -- the faults --

    def kill_broker(self, _, draw):
        self.broker.kill()
        seconds_pass(4 * draw)
        self.broker.start()

    def stop_broker(self, _, draw):
        self.broker.stop()
        seconds_pass(4 * draw)
        self.broker.start()

    def freeze_broker(self, _, draw):
        pid = self.broker.freeze()
        try:
            seconds_pass(1 + 9 * draw)
        finally:
            self.broker.thaw(pid)

    def close_connections(self, _, draw):
        self.broker.ctl("close_all_connections", "-p", self.vhost, "enough")

    @staticmethod
    def a_worker(daemon, draw):
        workers = sorted(pid for pid in daemon.processes() if pid != daemon.process.pid)
        return workers[int(draw * len(workers))] if workers else None

    def kill_worker(self, daemon, draw):
        pid = self.a_worker(daemon, draw)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop_worker(self, daemon, draw):
        pid = self.a_worker(daemon, draw)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                seconds_pass(1 + 9 * draw)
                os.kill(pid, signal.SIGCONT)

    def reload(self, daemon, _):
        daemon.kill(signal.SIGHUP)

    def reset(self, _, draw):
        self.proxy.tell("rst", ("work", "publish", "all")[int(3 * draw)], "both")

    def for_a_while(self, seconds, *words):
        self.proxy.tell(*words)
        seconds_pass(seconds)
        self.proxy.heal()

    def black_hole(self, _, draw):
        self.for_a_while(1 + 8 * draw, "drop", "all", "both")

    def deaf(self, _, draw):
        """The broker is heard, and hears nothing."""
        self.for_a_while(1 + 8 * draw, "drop", "all", "c2s")

    def slow(self, _, draw):
        self.for_a_while(5, "delay", "all", "both", int(50 + 400 * draw), 200)

    def pieces(self, _, draw):
        self.for_a_while(5, "chop", "all", "both", int(1 + 20 * draw))

    def memory_alarm(self, _, draw):
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            seconds_pass(1 + 6 * draw)
        finally:
            self.broker.ctl("set_vm_memory_high_watermark", "absolute", "512MB")


if __name__ == "__main__":
    suite = unittest.TestSuite([Chaos("test_chaos")])
    sys.exit(0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1)
