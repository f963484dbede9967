"""Rows E: what the host does: disks, logs, memory, descriptors, clocks, processors."""

import contextlib
import os
import resource
import signal
import subprocess
import time

from accounting import BUILD, HEARTBEAT, row, seconds_pass
import harness
import host
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
    """E3 walks the calls of malloc and its like, as they are made by warren's own code and its libraries, but for
    OpenSSL's thousands. libconfig ends or crashes its process where memory is short: the supervisor has a copy of
    itself read the configuration, so that this is no more than a refusal; in a worker nothing has begun yet."""

    @staticmethod
    def callers(roles):
        return "warrend rabbitmq libconfig" if "forked" in roles else "warrend rabbitmq"

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

    def how_many(self, roles, act):
        with self.board.count("memory", roles=roles, callers=self.callers(roles)) as counting:
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
            with self.board.rule("memory", roles=role, callers=self.callers(role), nth=n) as failing:
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
        reached = sum(self.fails_once(daemon, lambda: act(daemon), f"{what}, {roles}", roles=roles, callers=self.callers(roles), nth=n)
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
            with self.board.rule("memory", roles="supervisor worker", callers=self.callers(""), nth=n) as failing:
                code = daemon.stop()
            where = f"drain, n = {n}: {failing.place() if failing.failed else 'not reached'}"
            self.check_no_crash(daemon, 0, where)
            self.assertIn(code, (0, 75), where)
            self.faults += failing.failed
        self.seen(f"drain: {total} allocations")

    @row("E3", must=True)
    def test_E3(self):
        """The n-th call of malloc (calloc, strdup, ...) of warren and its libraries fails: at the start, during one delivery
        with its answer and its retry, a reconnect, a reload and a drain; in the supervisor, its copy that reads the
        configuration, the checking child and the worker.

        Lost 0. No process crashes. At the start: exit 71, or it comes up all the same. Later the supervisor goes on
        whatever fails, and a reload is refused at most; a worker gives back or rebuilds its connection, or ends with
        71 and is replaced: runs again at most once per channel and failure. As long as every call fails, it waits."""
        self.faults, self.starts = 0, {}
        for role, wanted in (("supervisor", 2), ("forked", 3), ("check", 3), ("worker", 4)):
            self.walk_start(role, wanted)
        self.seen(f"start: {self.starts}")
        self.walk_drain(2)
        daemon = self.begin()
        self.channel.queue_declare("answers", durable=True)
        self.walk(daemon, "delivery", self.delivery, "worker", 3)
        self.walk(daemon, "reconnect", self.reconnect, "worker", 3)
        self.walk(daemon, "reload", self.reload, "supervisor forked", 3)
        self.walk(daemon, "reload", self.reload, "check worker", 3)
        self.from_then_on(daemon)
        self.finish(daemon, bound=self.faults * self.threads, answers=["answers"])

    def from_then_on(self, daemon):
        """Nothing can be allocated for a while: nothing is lost, and all is well when there is memory again."""
        for roles in ("worker", "supervisor forked"):
            since = daemon.mark_log()
            with self.board.rule("memory", roles=roles, callers=self.callers(roles), mode=FROM) as failing:
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


class Calls(HostTest):
    """E4 walks the calls into the kernel that warren and its AMQP library make."""

    START = ("read write open recv send poll eventfd timer socket connect mmap memfd pipe dup signal locked fork thread "
             "resolve").split()
    LATER = "recv send poll write read open".split()
    CALLERS = "warrend rabbitmq"
    ROLES = "supervisor forked check worker"
    # What cannot be read cannot be told from what is not there; and a worker that is not heard thinks that it is alone.
    START_CODES = (None, 71, 73, 77, 78)
    WORKER_CODES = ("0", "71", "75", "77", "78", "123")

    def start_up(self):
        daemon = self.daemon(self.settings([self.work()])).start()
        # a line that cannot be written is missing
        daemon.patiently(lambda: daemon.process.poll() is not None or daemon.events("worker.consuming") or
                         daemon.events("queue.consuming"), "up or ended")
        return daemon, daemon.process.poll()

    def start_with(self, point, role, n):
        with self.board.rule(point, roles=role, callers=self.CALLERS, nth=n) as failing:
            daemon, code = self.start_up()
            where = f"start, {point} {n} in {role}: {failing.place() if failing.failed else 'not reached'}"
            self.check_no_crash(daemon, 0, where, self.WORKER_CODES)
            self.assertIn(code, self.START_CODES, f"{where}\n{daemon.text()}")
            if code is None:
                self.assertIn(daemon.stop(), (0, 75), where)
        self.assertEqual(daemon.processes(), [], where)
        return code

    def counts(self):
        """How often each point is reached by each role until the daemon consumes. Some wait for time to pass: a few are
        enough of these."""
        rules = {(point, role): self.board.count(point, roles=role, callers=self.CALLERS)
                 for point, role in self.some_pairs}
        daemon, code = self.start_up()
        self.assertIsNone(code)
        daemon.stop()
        for rule in rules.values():
            rule.lift()
        return {pair: min(rule.seen, 12) for pair, rule in rules.items() if rule.seen}

    @row("E4")
    def test_E4(self):
        """The n-th call of recv, send, read, write, open, poll, eventfd, socket, connect, mmap, memfd_create, pipe, dup,
        fork, pthread_create and others fails with the error that it has on a bad day: at the start, in each process, and
        under load, in supervisor and worker.

        Lost 0; no process crashes. At the start an exit code from 71 to 78 or a daemon that comes up; later a connection
        that is built anew, or a worker that ends in order and is replaced: runs again at most once per channel and
        failure."""
        pairs = [(point, role) for point in self.START for role in self.ROLES.split()]
        totals, codes, failures = {}, {}, []
        for at in range(0, len(pairs), 8):
            self.some_pairs = pairs[at:at + 8]
            totals.update(self.counts())
        todo = [(point, role, n) for (point, role), total in totals.items() for n in range(1, total + 1)]
        for point, role, n in todo if host.WALK else sorted(self.random.sample(todo, 30)):
            try:
                code = self.start_with(point, role, n)
                codes[code] = codes.get(code, 0) + 1
            except AssertionError as failure:
                failures.append(f"{point} {n} in {role}: {failure}")
        self.assertEqual(failures, [], "\n".join(failures))
        self.seen(f"start: {len(todo)} calls, codes {codes}")
        self.under_load()

    def under_load(self):
        daemon = self.begin()
        faults = 0
        for role in ("worker", "supervisor"):
            for point in self.LATER:
                for n in self.sample(8, 1):
                    since = daemon.mark_log()
                    with self.board.rule(point, roles=role, callers=self.CALLERS, nth=n) as failing:
                        for _ in range(2):
                            self.run_one(daemon, "reply answers" if point == "send" else "")
                        self.check_no_crash(daemon, since, f"{point} {n} in {role}: {failing.place()}", self.WORKER_CODES)
                    self.assertIsNone(daemon.process.poll(), f"{point} {n} in {role}")
                    faults += failing.failed
        self.seen(f"under load: {faults} failures")
        self.finish(daemon, bound=faults * self.threads)


class Clock(HostTest):
    @row("E5")
    def test_E5(self):
        """The wall clock (CLOCK_REALTIME alone) jumps an hour ahead, an hour back, ten years back, and then runs 2 % fast
        for a while, under load with retries.

        Lost 0, no run again. No timer notices: no connection is lost, no worker is replaced, retries come when they
        should, and a drain keeps its limit. The stamps of the log jump along."""
        daemon = self.begin([self.work(retry={"attempts": 5, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0})])
        self.load(commands=lambda n: "until 2 again" if n % 5 == 0 else "busy 20", rate=20)
        since = daemon.mark_log()
        for hours in (1, -1, -24 * 3652, 0):
            self.board.shift_wall_clock(hours * 3600)
            self.under_way(daemon, 20)
            year = int(daemon.log.read()[-1]["time"][:4])
            self.assertEqual(year, time.gmtime(time.time() + hours * 3600).tm_year)
        began = time.monotonic()
        while time.monotonic() < began + 3:
            self.board.shift_wall_clock((time.monotonic() - began) / 50)
            self.under_way(daemon, 2)
        self.board.shift_wall_clock(0)
        self.refuse(daemon, "conn.lost", "conn.retry", "worker.exited", "worker.unresponsive", since=since)
        self.finish(daemon)


class Processors(HostTest):
    @row("E6")
    def test_E6(self):
        """All processors are busy with others' work, while the daemon has the least share there is (nice 19), for five
        times as long as a peer may be silent.

        Lost 0, no run again. Heartbeats are kept: no connection is lost, no worker is taken for hung."""
        daemon = self.begin()
        self.load(commands="busy 50", rate=10)
        since = daemon.mark_log()
        before = len(daemon.ledger("end"))
        for pid in daemon.processes():
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), 19)
        hogs = [subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"])
                for _ in range(2 * os.cpu_count())]
        try:
            seconds_pass(5 * 2 * HEARTBEAT)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
        self.seen(f"{len(daemon.ledger('end')) - before} jobs meanwhile")
        self.refuse(daemon, "conn.lost", "worker.exited", "worker.unresponsive", since=since)
        self.finish(daemon)


class Limits(Logs):
    @row("E7")
    def test_E7(self):
        """The log reaches RLIMIT_FSIZE under load, and the limit is lifted later.

        Lost 0, no run again; SIGXFSZ ends nobody. Jobs go on, and `log.dropped` says how many lines are missing. (warrend
        opens no log of its own, so that a read-only /var/log is its starter's trouble.)"""
        host.private_mounts()
        daemon = self.begin(log={"level": "debug"})
        self.load(commands="busy 20", rate=60)
        self.under_way(daemon, 80)
        size = os.path.getsize(daemon.path("log"))
        self.assertGreater(size, 1.5 * os.path.getsize(daemon.path("ledger")), "the ledger does not reach the limit")
        for pid in daemon.processes():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        since = daemon.mark_log()
        self.under_way(daemon, 30)
        self.assertLessEqual(os.path.getsize(daemon.path("log")), size + 4096)
        for pid in daemon.processes():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        dropped = self.expect(daemon, "log.dropped", since=since, role="worker 0")
        self.under_way(daemon)
        self.seen(f"30 jobs above the limit, {dropped['n']} lines dropped")
        self.assertEqual(daemon.events("worker.exited"), [])
        self.finish(daemon)


class Torn(HostTest):
    @row("E9")
    def test_E9(self):
        """The writer of a scoreboard's row is killed at a random instruction, 10,000 times, in a small program; and a
        worker that is busy, 5 times.

        The reader sees a whole job or none, never parts of two; the supervisor names jobs that there are. Lost 0; again
        at most one run per channel and kill."""
        done = subprocess.run([os.path.join(BUILD, "tests", "faults", "torn"), "10000", str(self.random.randrange(1 << 31))],
                              stdout=subprocess.PIPE, text=True, timeout=500)
        self.seen(done.stdout.strip())
        self.assertEqual(done.returncode, 0)
        daemon = self.begin()
        self.load(commands="", rate=200)
        for count in range(1, 6):
            self.under_way(daemon)
            os.kill(daemon.worker(), signal.SIGKILL)
            daemon.wait_for("worker.exited", count)
            daemon.wait_for("worker.consuming", count + 1)
        for line in daemon.events("job.interrupted"):
            self.assertEqual((line["task"], line["queue"]), ("ledger.run", "work"))
        self.finish(daemon, bound=5 * self.threads)


class Pipes(HostTest):
    def daemon(self, config, *options, **more):
        daemon = host.PipedWarrend(config, *options, environment=self.board.environment())
        harness._daemons.append(daemon)
        self.addCleanup(self.look_after, daemon)
        self.daemons.append(daemon)
        return daemon

    @row("E2")
    def test_E2(self):
        """Nobody reads the pipe that is the daemon's standard error, until somebody does again.

        Lost 0, no run again. Jobs go on being done, as no thread ever waits for the pipe; `log.dropped` says how many
        lines are missing."""
        daemon = self.begin()
        self.load(commands="busy 20", rate=60)
        self.under_way(daemon)
        daemon.reads.clear()
        self.under_way(daemon, 120)
        since = daemon.mark_log()
        daemon.reads.set()
        dropped = self.expect(daemon, "log.dropped", since=since, role="worker 0")
        self.assertGreaterEqual(int(dropped["n"]), 30)
        self.under_way(daemon)
        self.seen(f"120 jobs while nobody read, {dropped['n']} lines dropped")
        self.finish(daemon)
