"""The part `publish` of bench/run: what publishing with confirms costs."""

import os
import resource
import subprocess
import time

from contest import BODY_BYTES, Queue, in_turns, show
from stand import PATIENCE, bound, cpu_ns, fail
from table import Table

PUBLISH_WINDOW = 256  # what `warren publish` has without a confirm at most: WINDOW in src/sender.c
PUBLISH_YARDSTICK = "bare publish"


def publish(site, queue, name, count):
    """The whole life of the process, connection and all."""
    command = {
        "warren publish": [site.warren, "publish", "-u", queue.url, "-q", queue.name, "--transient", "--repeat", str(count),
                           *queue.message()],
        PUBLISH_YARDSTICK: [site.bare, "publish", queue.url, queue.name, str(count), str(BODY_BYTES), str(PUBLISH_WINDOW)],
    }[name]
    queue.empty()
    before, broker_ns = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_ns(queue.broker_pid)
    begin = time.monotonic_ns()
    subprocess.run(bound(command), check=True, timeout=PATIENCE + count / 500)
    ns, after = time.monotonic_ns() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if queue.look()[0] != count:
        fail(f"{name} has published {queue.look()[0]} messages instead of {count}")
    return {
        "messages": count, "seconds": ns / 1e9, "messages_per_s": count / ns * 1e9,
        "cpu_us": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count * 1e6,
        "broker_cpu_us": (cpu_ns(queue.broker_pid) - broker_ns) / count / 1e3,
        "switches": (after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw) / count,
        "load": os.getloadavg()[0],
    }


def run(site, broker, options, report, save):
    queue = Queue(site, broker, "published", 0)
    names = (PUBLISH_YARDSTICK, "warren publish")
    seen, failed = in_turns(names, options.rounds, lambda name: publish(site, queue, name, options.messages), "publishing")
    queue.empty()
    title = f"Publishing {options.messages} messages, at most {PUBLISH_WINDOW} without a confirm; {options.rounds} rounds"
    show(report, Table("publish", title, names, PUBLISH_YARDSTICK), seen, failed)
    save()
