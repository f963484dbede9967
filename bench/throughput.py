"""The part `throughput` of bench/run: what a task that does nothing costs, for several numbers of threads."""

import functools

from contest import CONTESTANTS, YARDSTICK, CeleryQueue, Queue, in_turns, measure, print_table, record
from stand import figure


def run(site, broker, options, report, save):
    stock = 2000 + int(4000 * options.seconds)
    queues = {"plain": Queue(site, broker, "plain", stock), "celery": CeleryQueue(site, broker, "celery", stock)}

    def measure_with(count, name):
        contestant, queue = CONTESTANTS[name], queues[CONTESTANTS[name].queue]
        command = contestant.command(site, queue.url, queue.name, count)
        return {"threads": count, **measure(site, queue, name, command, contestant.consumers or count, options.seconds)}

    for count in options.threads:
        able = [name for name in options.only if not 0 < CONTESTANTS[name].most < count]
        if not able:
            continue
        what = f"threads {count}"
        seen, failed = in_turns(able, options.rounds, functools.partial(measure_with, count), what)
        record(report, "throughput", what, seen, failed)
        save()
        print(f"\nThreads, channels or processes: {count}; {options.rounds} rounds of {options.seconds:g} s, load "
              f"{figure([result['load'] for result in seen], '.1f')}")
        print_table(able, seen, failed, YARDSTICK)
