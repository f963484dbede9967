"""The part `throughput` of bench/run: what a task that does nothing costs, for several numbers of threads."""

import functools

from contest import CONTESTANTS, YARDSTICK, CeleryQueue, Queue, in_turns, measure, show
from table import Table


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
        title = f"Threads, channels or processes: {count}; {options.rounds} rounds of {options.seconds:g} s"
        seen, failed = in_turns(able, options.rounds, functools.partial(measure_with, count), f"threads {count}")
        show(report, Table("throughput", title, able, YARDSTICK), seen, failed)
        save()
