"""A warrend to be measured: its configuration, what it says on its control socket, what its processes cost, and goals."""

import collections
import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import time

import pika

from contest import Running, numbers, switches
from stand import PATIENCE, bound, cpu_ns, fail, wait_until

EXCHANGE = "bench"  # from which a message goes to all queues of the task that is its routing key
LARGEST_BODY = 64 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Source:
    """A queue that the daemon consumes."""

    name: str
    threads: int
    task: str = "bench.noop"
    attempts: int = 1
    plugin: str = 'file = "noop.so";'

    def text(self):
        return f"""{{ name = "{self.name}"; task = "{self.task}"; threads = {self.threads}; durable = false;
              retry = {{ attempts = {self.attempts}; }}; dead_letter = ""; }}"""


@dataclasses.dataclass
class Costs:
    """What a daemon has cost since it began."""

    ns: int
    supervisor_ns: int
    worker_ns: int
    broker_ns: int
    switches: int

    def __sub__(self, other):
        return Costs(*(getattr(self, field.name) - getattr(other, field.name) for field in dataclasses.fields(self)))

    def for_each_of(self, messages):
        return {
            "messages": messages, "seconds": self.ns / 1e9, "messages_per_s": messages / self.ns * 1e9,
            "cpu_us": (self.supervisor_ns + self.worker_ns) / messages / 1e3,
            "supervisor_cpu_us": self.supervisor_ns / messages / 1e3, "worker_cpu_us": self.worker_ns / messages / 1e3,
            "broker_cpu_us": self.broker_ns / messages / 1e3, "switches": self.switches / messages,
            "load": os.getloadavg()[0],
        }


class Warrend:
    """A daemon with one worker process, until the with block of the stack ends; its queues go with it."""

    def __init__(self, stack, site, broker, *sources):
        self.site, self.broker, self.sources = site, broker, sources
        self.socket = os.path.join(site.folder, "warren.sock")
        self.declare()
        stack.callback(self.clean)
        self.running = Running(stack, site, "warren", [site.warrend, "-c", self.configure()])
        wait_until(self.consumes, "warrend to consume")
        self.supervisor, self.worker = self.running.process.pid, self.status()["workers"][0]["pid"]

    def configure(self):
        path = os.path.join(self.site.folder, "warren.cfg")
        plugins = dict.fromkeys(source.plugin for source in self.sources)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"""broker = {{ urls = [ "{self.broker.url}" ]; }};
plugins = {{ directory = "{self.site.plugins}"; load = ( {", ".join(f"{{ {plugin} }}" for plugin in plugins)} ); }};
queues = ( {", ".join(source.text() for source in self.sources)} );
limits = {{ message = "{LARGEST_BODY}"; }};
control = {{ socket = "{self.socket}"; }};
log = {{ level = "warn"; }};
""")
        return path

    @contextlib.contextmanager
    def channel(self):
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.broker.url))) as connection:
            yield connection.channel()

    def declare(self):
        with self.channel() as channel:
            channel.exchange_declare(EXCHANGE)
            for source in self.sources:
                channel.queue_declare(source.name)
                channel.queue_bind(source.name, EXCHANGE, source.task)

    def clean(self):
        with self.channel() as channel:
            for source in self.sources:
                for end in "", ".quarantine", ".retry":
                    channel.queue_delete(source.name + end)

    def purge(self, queue):
        with self.channel() as channel:
            channel.queue_purge(queue)

    def ask(self, words):
        self.running.alive()
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(self.socket)
            s.sendall(words.encode() + b"\n")
            with s.makefile("rb") as answer:
                return json.load(answer)

    def status(self):
        return self.ask("status")

    def count(self, outcome):
        return self.status()["totals"][outcome]

    def consumers(self):
        with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):  # it has only just started
            return sum(queue["consumers"] for queue in self.status()["queues"])
        return 0

    def consumes(self):
        return self.consumers() == sum(source.threads for source in self.sources)

    def publish(self, count, *body):
        """Each queue that has the task of the first one gets so many."""
        subprocess.run(bound([self.site.warren, "publish", "-u", self.broker.url, "-e", EXCHANGE, "-r", self.sources[0].task,
                              "--transient", "--repeat", str(count), *body]), check=True, timeout=PATIENCE + count / 500)

    @contextlib.contextmanager
    def held(self):
        """Takes nothing for the length of the block. Threads that have their channels consume again in a moment; those that
        start beside waiting messages need many seconds, as the broker is busy with the threads that consume already."""
        self.ask("pause")
        wait_until(lambda: self.consumers() == 0, "all queues to be paused")
        yield
        self.ask("resume")

    def costs(self):
        return Costs(time.monotonic_ns(), cpu_ns(self.supervisor), cpu_ns(self.worker), cpu_ns(self.broker.pid),
                     switches(self.supervisor) + switches(self.worker))

    def memory(self):
        """Resident KiB, and how much that is where each shared page is split among all that have it."""
        result = {}
        for who, pid in ("worker", self.worker), ("supervisor", self.supervisor):
            rollup = f"/proc/{pid}/smaps_rollup"
            result |= {f"{who}_rss_kib": numbers(rollup, "Rss"), f"{who}_pss_kib": numbers(rollup, "Pss")}
        return result

    def drain(self):
        """Ends it as an operator does; seconds from the signal to its end."""
        ended = os.pidfd_open(self.supervisor)
        try:
            begin = time.monotonic_ns()
            os.kill(self.supervisor, signal.SIGTERM)
            if not select.select([ended], [], [], PATIENCE)[0]:
                fail(f"warrend has not ended {PATIENCE} s after SIGTERM")
            seconds = (time.monotonic_ns() - begin) / 1e9
        finally:
            os.close(ended)
        if code := self.running.process.wait():
            fail(f"warrend has ended with {code} after SIGTERM")
        return seconds


def rounds_of(seen, names, key):
    """For each round that all of these cases have finished, what they have measured, in the order of the names."""
    rounds = collections.defaultdict(dict)
    for result in seen:
        if result["name"] in names:
            rounds[result["round"]][result["name"]] = result[key]
    return [[values[name] for name in names] for values in rounds.values() if len(values) == len(names)]


def set_goal(report, table, goal, values, form, most):
    """Whether a goal holds, by the median of all rounds; printed below its table."""
    holds = bool(values) and statistics.median(values) <= most
    report["goals"].append({"what": table.title, "goal": goal, "values": values, "form": form, "most": most, "holds": holds})
