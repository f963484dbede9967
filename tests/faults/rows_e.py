"""Rows E: what the host does: disks, logs, memory, descriptors, clocks, processors."""

import contextlib
import os
import signal

import host
from accounting import row
from faultpoint import FROM
from host import HostTest


class Logs(HostTest):
    def setUp(self):
        super().setUp()
        self.mounts = []
        self.addCleanup(lambda: [host.unmount(folder) for folder in self.mounts])  # when the daemons are gone

    def fill(self, folder):
        """Takes all the room there is in a folder."""
        with contextlib.suppress(OSError), open(os.path.join(folder, "filler"), "wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        return os.path.join(folder, "filler")

    def daemon(self, config, *options, **more):
        daemon = super().daemon(config, *options, **more)
        small = daemon.path("small")
        os.mkdir(small)
        host.mount_tmpfs(small, "size=1m")
        self.mounts.append(small)
        os.symlink(os.path.join(small, "log"), daemon.path("log"))
        return daemon

    @row("E1", must=True)
    def test_E1(self):
        """The disk of the log (a tmpfs of 1 MiB) is full under load, and has room again later.

        Lost 0, no run again. Jobs go on being done. When there is room again, each process that dropped lines says so
        in one line, `log.dropped`, with their number."""
        host.private_mounts()
        daemon = self.begin()
        self.load(commands="busy 20", rate=60)
        self.under_way(daemon)
        filler = self.fill(daemon.path("small"))
        size = os.path.getsize(daemon.path("log"))
        self.under_way(daemon, 60)
        grown = os.path.getsize(daemon.path("log")) - size
        self.assertLess(grown, 4096, "the disk was full")
        since = daemon.mark_log()
        os.unlink(filler)
        dropped = self.expect(daemon, "log.dropped", since=since, role="worker 0")
        self.assertGreaterEqual(int(dropped["n"]), 40)
        self.under_way(daemon)
        self.assertEqual(len(daemon.events("log.dropped", since, role="worker 0")), 1)
        self.seen(f"60 jobs while the disk was full, {dropped['n']} lines dropped")
        self.finish(daemon)


class Memory(HostTest):
    """E3 walks the calls of malloc and its like, as they are made by warren's own code."""

    def fails_once(self, daemon, act, where, **rule):
        """One failure while act() goes on; True if it was reached. What act() waits for comes all the same."""
        since = daemon.mark_log()
        with self.board.rule("memory", **rule) as failing:
            act()
            where = f"{where}, {rule}: {failing.place() if failing.failed else 'not reached'}"
        self.check_no_crash(daemon, since, where)
        self.assertIsNone(daemon.process.poll(), where)
        self.faults += failing.failed
        return failing.failed > 0

    def how_many(self, roles, act, callers="warrend"):
        with self.board.count("memory", roles=roles, callers=callers) as counting:
            act()
        return counting.seen

    # -- start --

    def start_up(self):
        """Starts a daemon until it consumes or ends; its exit code, None: it consumes."""
        daemon = self.daemon(self.settings([self.work()])).start()
        daemon.patiently(lambda: daemon.process.poll() is not None or daemon.events("worker.consuming"), "up or ended")
        return daemon, daemon.process.poll()

    def walk_start(self, role, wanted):
        def once():
            daemon, code = self.start_up()
            self.assertIsNone(code)
            self.assertEqual(daemon.stop(), 0)
        total = self.how_many(role, once)
        for n in self.sample(total, wanted):
            with self.board.rule("memory", roles=role, callers="warrend", nth=n) as failing:
                daemon, code = self.start_up()
            where = f"start, {role}, n = {n}: {failing.place()}"
            self.check_no_crash(daemon, 0, where)
            self.assertIn(code, (None, 71), f"{where}\n{daemon.text()}")
            if code is None:
                self.assertEqual(daemon.stop(), 0, where)
            self.assertEqual(daemon.processes(), [], where)
            self.starts[code] = self.starts.get(code, 0) + 1
        return total

    # -- one delivery, reconnect, reload, drain --

    def delivery(self, daemon):
        """A job that answers, and one that is tried again."""
        self.run_one(daemon, "reply answers", reply_to="answers")
        name, = self.give("work", 1, "until 2 once more")
        daemon.ran(name, 2)

    def reconnect(self, daemon):
        """Sockets of the worker say that they were reset, until the one that consumes has. It says so at once."""
        since = daemon.mark_log()
        while not daemon.events("conn.lost", since, conn="work"):
            with self.board.rule("recv", roles="worker", callers="rabbitmq") as reset:
                daemon.patiently(lambda: reset.failed, "a socket was reset")
            with contextlib.suppress(AssertionError):
                daemon.wait_for("conn.lost", since=since, conn="work", seconds=0.5)
        daemon.wait_for("queue.consuming", since=since)
        self.run_one(daemon)

    def reload(self, daemon):
        since = daemon.mark_log()
        daemon.kill(signal.SIGHUP)
        daemon.patiently(lambda: any(daemon.events(event, since) for event in (
            "generation.gone", "reload.refused")), "the reload is over")
        daemon.patiently(lambda: len(daemon.processes()) == 2, "one worker is left")
        self.run_one(daemon)

    def walk(self, daemon, what, act, roles, wanted):
        total = self.how_many(roles, lambda: act(daemon))
        reached = sum(self.fails_once(daemon, lambda: act(daemon), f"{what}, {roles}", roles=roles, callers="warrend", nth=n)
                      for n in self.sample(total, wanted))
        self.seen(f"{what}, {roles}: {total} allocations, {reached} of them failed in turn")

    def stop_at_work(self):
        """Starts a daemon, and stops it while it works; the jobs that it took are left to the next one."""
        daemon, code = self.start_up()
        self.assertIsNone(code)
        for name in self.give("work", 2, "busy 100"):
            daemon.ran(name, what="start")
        return daemon

    def walk_drain(self, wanted):
        daemon = self.stop_at_work()
        total = self.how_many("supervisor worker", daemon.stop)
        for n in self.sample(total, wanted):
            daemon = self.stop_at_work()
            with self.board.rule("memory", roles="supervisor worker", callers="warrend", nth=n) as failing:
                code = daemon.stop()
            where = f"drain, n = {n}: {failing.place() if failing.failed else 'not reached'}"
            self.check_no_crash(daemon, 0, where)
            self.assertIn(code, (0, 75), where)
            self.faults += failing.failed
        self.seen(f"drain: {total} allocations")

    @row("E3", must=True)
    def test_E3(self):
        """The n-th call of malloc (calloc, strdup, ...) that warren itself makes fails: at the start, during one delivery
        with its answer and its retry, a reconnect, a reload and a drain; in the supervisor, its copy that reads the
        configuration, the checking child and the worker.

        Lost 0. No process crashes. At the start: exit 71, or it comes up all the same. Later the supervisor goes on
        whatever fails, and a reload is refused at most; a worker gives back or rebuilds its connection, or ends with
        71 and is replaced: runs again at most once per channel and failure. As long as every call fails, it waits."""
        self.faults, self.starts = 0, {}
        for role, wanted in (("supervisor", 2), ("forked", 4), ("check", 4), ("worker", 4)):
            self.walk_start(role, wanted)
        self.seen(f"start: {self.starts}")
        self.walk_drain(2)
        daemon = self.begin()
        self.channel.queue_declare("answers", durable=True)
        self.walk(daemon, "delivery", self.delivery, "worker", 4)
        self.walk(daemon, "reconnect", self.reconnect, "worker", 4)
        self.walk(daemon, "reload", self.reload, "supervisor forked", 4)
        self.walk(daemon, "reload", self.reload, "check worker", 3)
        self.from_then_on(daemon)
        self.finish(daemon, bound=self.faults * self.threads, answers=["answers"])

    def from_then_on(self, daemon):
        """Nothing can be allocated for a while: nothing is lost, and all is well when there is memory again."""
        for roles in ("worker", "supervisor forked"):
            since = daemon.mark_log()
            with self.board.rule("memory", roles=roles, callers="warrend", mode=FROM) as failing:
                names = self.give("work", 4)
                if roles != "worker":
                    daemon.kill(signal.SIGHUP)
                    daemon.wait_for("reload.refused", since=since)
                else:
                    daemon.patiently(lambda: failing.failed >= 4, "some allocations have failed")
            self.check_no_crash(daemon, since, "from then on")
            self.faults += 4
            for name in names:
                daemon.ran(name)
