"""What the rows about processes (C) and about plugins that misbehave (D) have in common."""

import os
import shutil
import tempfile
import time

from accounting import BUILD, SLOWER, FaultTest
from broker_fixture import wait_until

SABOTEURS = os.path.join(BUILD, "tests", "faults", "plugins")


def touch(path, text=""):
    with open(path, "w") as file:
        file.write(text)


def is_there(pid):
    """Runs, in whatever state but dead."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Seconds since it was made."""

    def __init__(self):
        self.at = time.monotonic()

    def __call__(self):
        return time.monotonic() - self.at

    @staticmethod
    def now_ms():
        """The time as the ledger counts it."""
        return int(time.monotonic() * 1000)


class ProcTest(FaultTest):
    """A daemon with the saboteur: jobs misbehave as their bodies say."""

    threads = 3

    def folder(self):
        folder = tempfile.mkdtemp(prefix="warren-test-")
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def settings(self, queues, **sections):
        """As FaultTest.settings(), with the plugins that misbehave; `more` of them by name."""
        names = ["saboteur.so", *sections.pop("more", ())]

        def make(folder):
            also = [{"file": os.path.join(SABOTEURS, name), "options": {"file": os.path.join(folder, "ledger")}}
                    for name in names]
            return FaultTest.settings(self, queues, also=also, **sections)(folder)
        return make

    def work(self, name="work", **more):
        return super().work(name, **{"task": "sabotage.run", **more})

    def saboteur(self, *queues, environment=(), **sections):
        """A daemon that is not started yet, for what happens at the start."""
        queues = list(queues) or [self.work()]
        sections["workers"] = {"processes": self.processes_of_daemon, "drain_limit": "10s",
                               **sections.get("workers", {})}
        daemon = self.daemon(self.settings(queues, **sections), environment=environment)
        daemon.queues = queues
        return daemon

    def hold(self, daemon, count, prefix="held"):
        """Publishes jobs that last until the file `go` is there, and waits until they run. Returns their ids."""
        names = self.give("work", count, f"hold {daemon.path('go')}", prefix)
        for name in names:
            daemon.ran(name, what="start")
        return names

    def go(self, daemon):
        touch(daemon.path("go"))

    def workers(self, daemon):
        """Process ids of the workers that run, oldest first; without the quarantine's."""
        started = [int(line["pid"]) for line in daemon.events("worker.started") if line["worker"] != "quarantine"]
        return [pid for pid in started if is_there(pid)]

    def prefetches(self, queue="work"):
        return [row["prefetch_count"] for row in self.consumers() if row["queue_name"] == queue]

    def consuming_again(self, count, seconds=30):
        """Waits until so many consumers are there, each with prefetch 1, and returns how long it took."""
        watch = Watch()
        wait_until(lambda: self.prefetches() == [1] * count, f"{count} consumers", seconds * SLOWER)
        return watch()

    def letters(self, queue="work.dead"):
        """The headers of what lies in a dead-letter queue, by id; the letters stay there."""
        found, last = {}, None
        channel = self.connection.channel()
        while True:
            method, properties, _ = channel.basic_get(queue)
            if method is None:
                break
            found[properties.message_id], last = properties.headers, method.delivery_tag
        if last is not None:
            channel.basic_nack(last, multiple=True, requeue=True)
        channel.close()
        return found
