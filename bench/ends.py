"""The part `ends` of bench/run: from the start of a program to its first job, and from SIGTERM to the end of warrend."""

import contextlib
import functools
import os
import time

from contest import WARM_UP, YARDSTICK, Queue, Running, cpu_with_children_ns, in_turns, show, total, tree, warrend
from daemon import Source, Warrend
from stand import wait_until
from table import Table

THREADS = 8
WAITING = 1000
TOLD = b"it runs"
DRAINS = {"8 threads": (Source("ends", 8),), "512 threads": (Source("ends", 512),),
          "200 queues, 200 threads": tuple(Source(f"ends.{i}", 1) for i in range(200))}

START_COLUMNS = (("ms", "ms to the first job", ".1f", True), ("cpu_ms", "CPU ms until then", ".1f", True))
DRAIN_COLUMNS = (("ms", "ms to the end", ".1f", False),)


def in_ms(result):
    return f"{result['ms']:.1f} ms"


def tells(running):
    running.alive()
    with open(running.log, "rb") as log:
        return TOLD in log.read()


def measure_start(site, queue, name):
    command = {
        YARDSTICK: [site.bare, "inline", queue.url, queue.name, str(THREADS), "tell"],
        "warren": warrend(site, queue.url, queue.name, THREADS, "bench.tell", level="info"),
    }[name]
    wait_until(lambda: queue.look()[1] == 0, "the last consumer to be gone")
    queue.fill()
    with contextlib.ExitStack() as stack:
        begin = time.monotonic_ns()
        running = Running(stack, site, name, command)
        wait_until(lambda: tells(running), "the first job", 0.0005)
        return {"ms": (time.monotonic_ns() - begin) / 1e6, "load": os.getloadavg()[0],
                "cpu_ms": total(tree(running.process.pid), cpu_with_children_ns) / 1e6}


def measure_drain(site, broker, name):
    with contextlib.ExitStack() as stack:
        daemon = Warrend(stack, site, broker, *DRAINS[name])
        time.sleep(WARM_UP)
        return {"ms": daemon.drain() * 1e3, "load": os.getloadavg()[0]}


def run(site, broker, options, report, save):
    queue = Queue(site, broker, "ends", WAITING)
    parts = (("start, 8 threads, messages wait", (YARDSTICK, "warren"), functools.partial(measure_start, site, queue),
              YARDSTICK, START_COLUMNS),
             ("drain, all idle", tuple(DRAINS), functools.partial(measure_drain, site, broker), "", DRAIN_COLUMNS))
    for what, names, measurement, yardstick, columns in parts:
        seen, failed = in_turns(names, options.rounds, measurement, what, in_ms)
        show(report, Table("ends", f"{what}; {options.rounds} rounds", names, yardstick, columns), seen, failed)
        save()
