"""The part `scale` of bench/run: how the cost of a message grows with threads, queues, retries in flight and its size."""

import contextlib
import functools
import os
import time

from contest import BODY_BYTES, MOST_STOCK, WARM_UP, in_turns, numbers, show
from daemon import Source, Warrend, rounds_of, set_goal
from stand import fail, wait_until
from table import Table

MOST_RATIO = 1.5
THREADS = (1, 8, 64, 512)
QUEUES = (1, 10, 50, 200)
THREADS_OF_QUEUES = 200
RETRIES = 1000
RUNG = "warren.v1.delay.09"  # where they wait
KIB, MIB = 1024, 1024 * 1024
BODIES = {"1 B": 1, "1 KiB": KIB, "64 KiB": 64 * KIB, "1 MiB": MIB, "16 MiB": 16 * MIB, "64 MiB": 64 * MIB}
BODIES_BYTES = 128 * MIB  # of all that wait together, well below what the broker takes into its memory
MOST_BODIES = 10000
MOST_KEPT_KIB = 1024
BODY = "x" * BODY_BYTES

COLUMNS = (("messages_per_s", "messages/s", ".0f", True), ("cpu_us", "CPU µs/message", ".1f", True),
           ("supervisor_cpu_us", "supervisor's CPU µs/message", ".2f", False),
           ("broker_cpu_us", "broker CPU µs/message", ".1f", False), ("switches", "context switches/message", ".2f", False),
           ("worker_rss_mib", "worker MiB", ".1f", False), ("supervisor_rss_mib", "supervisor MiB", ".1f", False))
BODY_COLUMNS = (("messages_per_s", "messages/s", ".1f", False), ("mib_per_s", "MiB/s", ".1f", False),
                ("worker_cpu_us", "worker's CPU µs/message", ".1f", False),
                ("cpu_us_per_mib", "for each MiB", ".0f", False), ("switches", "context switches/message", ".2f", False),
                ("worker_peak_mib", "worker's peak MiB", ".1f", False), ("kept_kib", "KiB kept", ".0f", False))


class Load:
    """Messages that do nothing, spread over queues, and how many of them a measurement needs."""

    def __init__(self, site, broker, seconds):
        self.site, self.broker, self.seconds = site, broker, seconds
        self.stocks = {}  # by the queues that are consumed

    def measure(self, *sources):
        # Before the last of many threads consumes, the others have run many messages.
        self.stocks.setdefault(sources, int(4000 * self.seconds) + 100 * sum(source.threads for source in sources))
        while not (seen := self.measure_once(sources, self.stocks[sources])):
            self.stocks[sources] *= 2
            if self.stocks[sources] > MOST_STOCK:
                fail("warrend empties its queues however many messages are in them")
        return seen

    def measure_once(self, sources, stock):
        """What has been seen, or None where the queues have run dry."""
        queues = sum(source.task == "bench.noop" for source in sources)
        each = -(-stock // queues)
        with contextlib.ExitStack() as stack:
            daemon = Warrend(stack, self.site, self.broker, *sources)
            with daemon.held():
                daemon.publish(each, BODY)
            wait_until(daemon.consumes, "all threads to consume")
            time.sleep(WARM_UP)
            first_done, first = daemon.count("done"), daemon.costs()
            time.sleep(self.seconds)
            last, last_done = daemon.costs(), daemon.count("done")
            if last_done == each * queues:
                return None
            if last_done == first_done:
                fail(f"warrend has run nothing in {self.seconds:g} s")
            memory = {key.replace("_kib", "_mib"): value / KIB for key, value in daemon.memory().items()}
            return (last - first).for_each_of(last_done - first_done) | memory


def with_threads(load, count):
    return load.measure(Source("scale", count))


def with_queues(load, count):
    return load.measure(*(Source(f"scale.{i}", THREADS_OF_QUEUES // count) for i in range(count)))


def with_retries(load, count):
    retries = Source("scale.retries", 8, "bench.retry", 5)
    with contextlib.ExitStack() as stack:
        if count:
            refusing = Warrend(stack, load.site, load.broker, retries)
            refusing.publish(count, BODY)
            wait_until(lambda: refusing.count("retried") == count, "all retries to be in flight")
            refusing.running.kill()
            stack.callback(refusing.purge, RUNG)
        return load.measure(Source("scale", 8), retries)


def compare(what, cases, measurement, options, report, save):
    """A table of cases, each compared with the first, and what the dearest message costs of one of the first."""
    names = list(cases)
    seen, failed = in_turns(names, options.rounds, lambda name: measurement(cases[name]), what)
    table = Table("scale", f"{what}; {options.rounds} rounds of {options.seconds:g} s", names, names[0], COLUMNS)
    growth = [max(costs) / costs[0] for costs in rounds_of(seen, names, "cpu_us")]
    set_goal(report, table, f"CPU of the dearest message, of one with {names[0]}", growth, ".2f", MOST_RATIO)
    show(report, table, seen, failed)
    save()


def measure_body(site, broker, size):
    count, path = min(MOST_BODIES, BODIES_BYTES // size), os.path.join(site.folder, "body")
    with open(path, "wb") as file:
        file.truncate(size)
    with contextlib.ExitStack() as stack:
        daemon = Warrend(stack, site, broker, Source("scale", 1))
        daemon.publish(100, "x")  # what the first messages need is no part of a body
        wait_until(lambda: daemon.count("done") == 100, "the first messages")
        before = daemon.memory()
        with daemon.held():
            daemon.publish(count, "-f", path)
            first = daemon.costs()
        wait_until(lambda: daemon.count("done") == 100 + count, "the last body", 0.01)
        seen = (daemon.costs() - first).for_each_of(count)
        time.sleep(WARM_UP)
        if size >= MIB:
            seen["cpu_us_per_mib"] = seen["worker_cpu_us"] * MIB / size
        return seen | {"bytes": size, "mib_per_s": seen["messages_per_s"] * size / MIB,
                       "kept_kib": daemon.memory()["worker_rss_kib"] - before["worker_rss_kib"],
                       "worker_peak_mib": numbers(f"/proc/{daemon.worker}/status", "VmHWM") / KIB}


def compare_bodies(site, broker, options, report, save):
    what, names = "bodies, 1 thread", list(BODIES)
    seen, failed = in_turns(names, options.rounds, lambda name: measure_body(site, broker, BODIES[name]), what)
    table = Table("scale", f"{what}; {options.rounds} rounds", names, "", BODY_COLUMNS)
    kept = [values[-1] for values in rounds_of(seen, names, "kept_kib")]
    set_goal(report, table, f"KiB kept of {names[-1]}", kept, ".0f", MOST_KEPT_KIB)
    show(report, table, seen, failed)
    save()


def run(site, broker, options, report, save):
    load = Load(site, broker, options.seconds)
    threads = {f"{count} thread{'s' * (count > 1)}": count for count in THREADS}
    queues = {f"{count} queue{'s' * (count > 1)}": count for count in QUEUES}
    retries = {"none in flight": 0, f"{RETRIES} in flight": RETRIES}
    for what, cases, measurement in (("threads, 1 queue", threads, with_threads),
                                     (f"queues, {THREADS_OF_QUEUES} threads", queues, with_queues),
                                     ("retries, 8 threads", retries, with_retries)):
        compare(what, cases, functools.partial(measurement, load), options, report, save)
    compare_bodies(site, broker, options, report, save)
