"""The part `memory` of bench/run: what the processes of an idle warrend hold, by the number of its threads."""

import contextlib
import os
import time

from contest import BODY_BYTES, WARM_UP, in_turns, show
from daemon import LARGEST_BODY, Source, Warrend, rounds_of, set_goal
from stand import wait_until
from table import Table

FEW = 8
THREADS = {f"{count} threads": count for count in (FEW, 64, 512)}
JOBS = 20  # for each thread
# Of a task that waits: what does nothing is run by few threads.
PLUGIN = 'file = "work.so"; options = { wait = "100ms"; };'
MOST_KIB = 8 * 1024
MOST_THREAD_KIB = 64
COLUMNS = (("worker_rss_kib", "worker's KiB, idle", ".0f", False), ("worker_pss_kib", "shared ones split", ".0f", False),
           ("worked_rss_kib", "after jobs", ".0f", False), ("worked_pss_kib", "shared ones split", ".0f", False),
           ("body_rss_kib", "after 64 MiB", ".0f", False), ("body_pss_kib", "shared ones split", ".0f", False),
           ("supervisor_rss_kib", "supervisor's KiB", ".0f", False),
           ("supervisor_pss_kib", "shared ones split", ".0f", False))


def work(daemon, count, *body):
    """The worker's memory when it is idle again."""
    done = daemon.count("done") + count
    daemon.publish(count, *body)
    wait_until(lambda: daemon.count("done") == done, "the last job")
    time.sleep(WARM_UP)
    return daemon.memory()["worker_rss_kib"], daemon.memory()["worker_pss_kib"]


def measure(site, broker, threads):
    path = os.path.join(site.folder, "body")
    with open(path, "wb") as file:
        file.truncate(LARGEST_BODY)
    with contextlib.ExitStack() as stack:
        daemon = Warrend(stack, site, broker, Source("memory", threads, "bench.wait", plugin=PLUGIN))
        time.sleep(WARM_UP)
        seen = daemon.memory()
        seen["worked_rss_kib"], seen["worked_pss_kib"] = work(daemon, JOBS * threads, "x" * BODY_BYTES)
        seen["body_rss_kib"], seen["body_pss_kib"] = work(daemon, 1, "-f", path)
        return seen | {"threads": threads, "load": os.getloadavg()[0]}


def set_goals(report, table, seen):
    few = [result["worker_rss_kib"] for result in seen if result["threads"] == FEW]
    set_goal(report, table, f"KiB of a worker with {FEW} idle threads", few, ".0f", MOST_KIB)
    for name, threads in THREADS.items():
        if threads == FEW:
            continue
        for key, when in ("worker_rss_kib", "idle"), ("worked_rss_kib", "after jobs"):
            each = [(many - less) / (threads - FEW) for less, many in rounds_of(seen, (f"{FEW} threads", name), key)]
            set_goal(report, table, f"KiB for each further thread, {name}, {when}", each, ".1f", MOST_THREAD_KIB)


def run(site, broker, options, report, save):
    what = "memory of idle processes"
    seen, failed = in_turns(tuple(THREADS), options.rounds, lambda name: measure(site, broker, THREADS[name]), what,
                            lambda result: f"{result['worker_rss_kib']} KiB")
    table = Table("memory", f"{what}; {options.rounds} rounds", list(THREADS), "", COLUMNS)
    set_goals(report, table, seen)
    show(report, table, seen, failed)
    save()
