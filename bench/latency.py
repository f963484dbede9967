"""The part `latency` of bench/run: how long after its publishing a task begins, and a reply is there."""

import array
import contextlib
import functools
import os
import subprocess

from contest import Queue, Running, in_turns, show, warrend
from stand import PATIENCE, bound, wait_until
from table import Table

THREADS = 8
FASTEST = 1_000_000  # messages a second: more than any broker takes
SHARES = (("p50", "p50", 0.5), ("p99", "p99", 0.99), ("p999", "p99.9", 0.999))
SAMPLE_BYTES = 16  # struct sample in bench/sample.h

WARREN = "warren"
CONFIRMED = ", confirmed"  # acknowledges when its reply was confirmed, as warren does; the others of bare.c send and forget
BARE = ("bare inline", "bare threads")
WAYS = {"begin": (*BARE, WARREN), "reply": (*BARE, *(name + CONFIRMED for name in BARE), WARREN)}
TITLES = {"begin": "From publishing to the begin of the task", "reply": "From publishing to the reply"}

COLUMNS = (*((f"single_{name}", f"one at a time: {title} µs", ".0f", False) for name, title, _ in SHARES),
           ("capacity", "most messages/s", ".0f", False), ("rate", "load: messages/s", ".0f", False),
           *((f"load_{name}", f"load: {title} µs", ".0f", False) for name, title, _ in SHARES))


class Samples:
    """The memory that bench/sample.h describes; by this path others of the same user open it while this process lives."""

    def __init__(self, stack, count):
        self.fd = os.memfd_create("samples")
        stack.callback(os.close, self.fd)
        os.ftruncate(self.fd, count * SAMPLE_BYTES)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    def sorted_ns(self, way, count):
        pairs = array.array("q", os.pread(self.fd, count * SAMPLE_BYTES, 0))
        return sorted(pairs[("begin", "reply").index(way)::2])


def command_of(site, queue, samples, name):
    if name == WARREN:
        plugin = f'file = "stamp.so"; options = {{ samples = "{samples.path}"; }};'
        return warrend(site, queue.url, queue.name, THREADS, "bench.stamp", plugin)
    how, _, confirmed = name.removeprefix("bare ").partition(",")
    return [site.bare, how, queue.url, queue.name, str(THREADS), "stamp-confirmed" if confirmed else "stamp", samples.path]


def probe(site, queue, samples, way, count, rate):
    """How many seconds it took until the last message had come that far."""
    done = subprocess.run(bound([site.probe, way, queue.url, queue.name, samples.path, str(count), str(rate)]), check=True,
                          stdout=subprocess.PIPE, timeout=PATIENCE + count / 50)
    return float(done.stdout)


def percentiles(prefix, samples, way, count):
    ages = samples.sorted_ns(way, count)
    return {f"{prefix}_{name}": ages[int(share * count)] / 1e3 for name, _, share in SHARES}


def measure(site, queue, samples, options, way, name):
    count, few = options.samples, max(1, options.samples // 5)
    wait_until(lambda: queue.look()[1] == 0, "the last consumer to be gone")
    queue.empty()  # of what one that has failed left: its stamps would be taken for new ones
    with contextlib.ExitStack() as stack:
        running = Running(stack, site, name, command_of(site, queue, samples, name))
        wait_until(lambda: running.consumes(queue, 1, THREADS), f"{name} to consume")
        capacity = count / probe(site, queue, samples, way, count, FASTEST)  # which also warms it up
        probe(site, queue, samples, way, few, "single")
        single = percentiles("single", samples, way, few)
        rate = options.rate or max(1, int(capacity / 2))
        probe(site, queue, samples, way, count, rate)
        return {"way": way, "threads": THREADS, "samples": count, "capacity": capacity, "rate": rate, **single,
                **percentiles("load", samples, way, count), "load": os.getloadavg()[0]}


def run(site, broker, options, report, save):
    queue = Queue(site, broker, "latency", 0)
    with contextlib.ExitStack() as stack:
        samples = Samples(stack, options.samples)
        for way, all_names in WAYS.items():
            names = [name for name in all_names if name.removesuffix(CONFIRMED) in options.only]
            seen, failed = in_turns(names, options.rounds, functools.partial(measure, site, queue, samples, options, way),
                                    f"latency, {way}", lambda result: f"p50 {result['single_p50']:.0f} µs alone, "
                                                                      f"{result['load_p50']:.0f} µs at {result['rate']}/s")
            title = (f"{TITLES[way]}: {THREADS} threads or channels; {options.rounds} rounds of {options.samples} messages at "
                     "load and a fifth as many one at a time")
            show(report, Table("latency", title, names, "", COLUMNS), seen, failed)
            save()
