"""The part `work` of bench/run: how much of the threads and of the processors tasks that do something can use."""

import dataclasses
import functools
import os

from contest import BODY_BYTES, Queue, in_turns, measure, show, warrend
from table import Table

YARDSTICK = "bare threads"
AHEAD = "warren, prefetch 2"  # what a thread does next is there before it is done
SHA256_BYTES = 64 * 1024
MOST_BYTES = 1536 * 1024 * 1024  # in a queue: well below the limit that bench/run gives the broker


@dataclasses.dataclass
class Task:
    """A task as warren and bare.c name it, and the bodies it takes."""

    name: str
    bare: tuple
    options: str
    wait_ms: int = 0  # that it takes without using a processor
    body_bytes: int = BODY_BYTES


def waiting(wait_ms):
    return Task("bench.wait", ("wait", str(wait_ms)), f'wait = "{wait_ms}ms";', wait_ms)


def hashing(times):
    return Task("bench.sha256", ("sha256", str(times)), f"times = {times};", body_bytes=SHA256_BYTES)


TASKS = {
    "SHA-256 of 64 KiB": hashing(1),
    "SHA-256 of 64 KiB, 100 times": hashing(100),
    "wait 1 ms": waiting(1),
    "wait 10 ms": waiting(10),
}

COLUMNS = (("messages_per_s", "messages/s", ".0f", True), ("of_threads", "of threads / task time", ".2f", False),
           ("of_processors", "of all processors", ".2f", False), ("all_of_processors", "with broker and all else", ".2f", False),
           ("cpu_us", "CPU µs/message", ".1f", True), ("broker_cpu_us", "broker CPU µs/message", ".1f", False),
           ("switches", "context switches/message", ".2f", False))


class WorkQueue(Queue):
    """Of messages as one task takes them."""

    def __init__(self, site, broker, task, stock):
        super().__init__(site, broker, f"work-{task.body_bytes}", stock)
        self.body_bytes, self.most_stock = task.body_bytes, min(self.most_stock, MOST_BYTES // task.body_bytes)

    def message(self):
        return ["x" * self.body_bytes]


def command_of(site, queue, task, count, name):
    if name == YARDSTICK:
        return [site.bare, "threads", queue.url, queue.name, str(count), *task.bare]
    return warrend(site, queue.url, queue.name, count, task.name, f'file = "work.so"; options = {{ {task.options} }};',
                   prefetch=2 if name == AHEAD else 1)


def measure_work(site, queue, title, count, seconds, name):
    task = TASKS[title]
    result = measure(site, queue, name, command_of(site, queue, task, count, name), count, seconds)
    if task.wait_ms:
        result["of_threads"] = result["messages_per_s"] * task.wait_ms / 1e3 / count
    result["of_processors"] = result["messages_per_s"] * result["cpu_us"] / 1e6 / os.cpu_count()
    return {"task": title, "threads": count, **result}


def names_of(task, only):
    names = [name for name in (YARDSTICK, "warren") if name in only]
    return names + [AHEAD] * ("warren" in only and task.wait_ms > 0)


def run(site, broker, options, report, save):
    for title, task in TASKS.items():
        names = names_of(task, options.only)
        queue = WorkQueue(site, broker, task, 1000 + int(1000 * options.seconds))
        for count in options.threads:
            seen, failed = in_turns(names, options.rounds,
                                    functools.partial(measure_work, site, queue, title, count, options.seconds),
                                    f"{title}, threads {count}")
            table = Table("work", f"{title}, threads: {count}; {options.rounds} rounds of {options.seconds:g} s", names,
                          YARDSTICK, COLUMNS)
            show(report, table, seen, failed)
            save()
        queue.empty()
