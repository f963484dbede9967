"""Rows C: processes and signals."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time

from accounting import SLOWER, row, seconds_pass, stamp
from broker_fixture import wait_until
from harness import SANITIZED
from proc import ProcTest, Watch, children, cpu_seconds, touch

PR_SET_CHILD_SUBREAPER = 36


class Death(ProcTest):
    processes_of_daemon = 2

    @row("C1", must=True)
    def test_C1(self):
        """A worker process is killed (SIGKILL) with a job on each of its threads.

        Lost 0; its jobs alone are run again, once each; signal and jobs stand in the log; its replacement consumes
        within 2 s; the neighbour notices nothing."""
        daemon = self.begin()
        self.hold(daemon, 2 * self.threads)
        victim, neighbour = self.workers(daemon)
        hit = {e.id for e in daemon.ledger("start") if e.pid == victim and e.id.startswith("held")}
        watch, since = Watch(), daemon.mark_log()
        os.kill(victim, signal.SIGKILL)
        line = self.expect(daemon, "worker.exited", since=since, signal=9)
        daemon.wait_for("worker.consuming", since=since)
        took = watch()
        self.assertEqual(int(line["pid"]), victim)
        self.assertEqual(len(line["jobs"].split(",")), self.threads)
        self.assertLess(took, 2 * SLOWER)
        self.report["recovery"] = round(took, 2)
        self.go(daemon)
        self.finish(daemon, bound=self.threads)
        again = {e.id for e in daemon.ledger("start") if e.pid not in (victim, neighbour)}
        self.assertEqual(again, hit)

    @row("C2")
    def test_C2(self):
        """A worker process chosen at random is killed (SIGKILL) every 200 ms for 10 s, under load.

        Lost 0; at most C runs again for each kill; the supervisor needs less than 5 % of a processor; who had finished
        no job is started again with back-off."""
        daemon = self.begin()
        self.load(commands="busy 100", rate=20)
        watch, busy, kills = Watch(), cpu_seconds(daemon.process.pid), 0
        while watch() < 10:
            workers = self.workers(daemon)
            if workers:
                os.kill(self.random.choice(workers), signal.SIGKILL)
                kills += 1
            time.sleep(0.2)  # the fault's own rhythm
        share = (cpu_seconds(daemon.process.pid) - busy) / watch()
        deaths = daemon.events("worker.exited", signal=9)
        self.assertGreater(len(deaths), 10)
        self.assertTrue([line for line in deaths if line.get("failures", "0") != "0"], "no back-off")
        self.assertLess(share, 0.05 * SLOWER)
        self.seen(f"{len(deaths)} deaths, supervisor at {100 * share:.1f} % of a processor")
        self.finish(daemon, bound=kills * self.threads)

    @row("C3", must=True)
    def test_C3(self):
        """The supervisor is killed (SIGKILL) while jobs run; another daemon is started at once, as systemd would.

        The workers notice within 1 s, take nothing more, let what runs finish within 5 s, and leave within another 5 s
        with exit code 123: no orphan. Both generations overlap: at most W * C runs again."""
        daemon = self.begin()
        self.hold(daemon, 2)
        short = self.give("work", 1, "busy 1500", "short")[0]
        daemon.ran(short, what="start")
        workers = self.workers(daemon)
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that the orphans' exit codes can be seen
        self.addCleanup(libc.prctl, PR_SET_CHILD_SUBREAPER, 0)
        killed, watch = time.time(), Watch()
        daemon.kill(signal.SIGKILL)
        daemon.process.wait()
        successor = self.saboteur().start()
        codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers}
        gone = watch()
        noticed = max(stamp(line) for line in daemon.events("supervisor.gone")) - killed
        self.assertEqual(codes, {123})
        self.assertEqual(daemon.processes(), [])
        self.assertLess(noticed, 1)
        self.assertLess(gone, 12 * SLOWER)
        self.seen(f"noticed after {noticed:.2f} s, the last orphan gone after {gone:.1f} s with exit code 123")
        self.go(daemon)
        self.finish(successor, bound=2 * self.threads)
        self.assertEqual([e.what for e in daemon.ledger(name=short)], ["start", "end"])
        self.assertEqual(successor.ledger("start", short), [], "what could be finished was not run again")

    @row("C4")
    def test_C4(self):
        """A worker is frozen (SIGSTOP) for longer than the heartbeat, then thawed; and once more, for good.

        The broker gives its jobs to others; thawed it finds its connection lost and acks nothing: at most C runs again.
        Frozen for good it is ended by SIGABRT and SIGKILL after 20 s without a pulse, and replaced."""
        daemon = self.begin()
        self.hold(daemon, 2 * self.threads)
        victim, since = self.workers(daemon)[0], daemon.mark_log()
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: len(self.prefetches()) == self.threads, "the broker gives it up", 15)
        self.go(daemon)
        self.under_way(daemon, 2 * self.threads)
        os.kill(victim, signal.SIGCONT)
        self.expect(daemon, "job.lost", self.threads, since=since)
        self.consuming_again(2 * self.threads)
        self.refuse(daemon, "worker.exited", since=since)
        watch = Watch()
        os.kill(victim, signal.SIGSTOP)
        self.expect(daemon, "worker.unresponsive", since=since, signal="ABRT")
        took = watch()
        self.expect(daemon, "worker.killed", since=since, signal="KILL")
        daemon.wait_for("worker.consuming", since=since)
        self.seen(f"SIGABRT {took:.0f} s after it was frozen for good")
        self.finish(daemon, bound=self.threads)


class Stop(ProcTest):
    @row("C5", must=True)
    def test_C5(self):
        """SIGTERM while jobs of 2 s run, with a drain limit of 10 s and a backlog.

        Nothing new is started; what runs is done and acked; exit 0; nothing is run again; the log says that nothing
        was given back."""
        self.processes_of_daemon = 2
        daemon = self.begin()
        running = self.give("work", 2 * self.threads, "busy 2000", "running")
        waiting = self.give("work", 20, "", "waiting")
        for name in running:
            daemon.ran(name, what="start")
        watch, since = Watch(), daemon.mark_log()
        self.assertEqual(daemon.stop(), 0)
        self.seen(f"exit 0 after {watch():.1f} s")
        self.expect(daemon, "drain.done", 2, since=since, given_back=0)
        self.assertFalse({e.id for e in daemon.ledger("start")} & set(waiting), "started after SIGTERM")
        self.assertEqual({e.id for e in daemon.ledger("end")} & set(running), set(running))
        self.baselines.clear()
        daemon.start()
        self.finish(daemon, bound=0)

    @row("C6", must=True)
    def test_C6(self):
        """SIGTERM while jobs run that outlast the drain limit (1 s): one listens, the others are deaf.

        At the limit they are told to stop, 5 s later the process ends without them; exit 75; all are given back, the
        deaf ones by name in the log; at most C runs again, and no attempt is used up."""
        daemon = self.begin(workers={"drain_limit": "1s"})
        listens = self.give("work", 1, "soft 60000", "listens")[0]
        daemon.ran(listens, what="start")
        deaf = self.hold(daemon, self.threads - 1, "deaf")
        watch, since = Watch(), daemon.mark_log()
        self.assertEqual(daemon.stop(), 75)
        self.assertLess(watch(), 10 * SLOWER)
        self.seen(f"exit 75 after {watch():.1f} s")
        self.expect(daemon, "job.given_back", since=since)
        self.expect(daemon, "drain.done", since=since, given_back=self.threads)
        line = daemon.wait_for("worker.exited", since=since, code=75)
        self.assertEqual(len(line["jobs"].split(",")), self.threads - 1)
        self.assertEqual(len(daemon.events("job.interrupted", since)), self.threads - 1)
        wait_until(lambda: self.ready("work") == self.threads, "all are in the queue again")
        self.baselines.clear()
        self.go(daemon)
        daemon.start().consuming(since)
        for name in deaf:
            daemon.ran(name)
        daemon.ran(listens, 2, what="start")
        daemon.kill(signal.SIGQUIT)
        self.finish(daemon, bound=self.threads, code=75, queued=True, stopped=True)
        self.assertTrue(all(e.attempt == 1 for e in daemon.ledger("start")))

    @row("C7")
    def test_C7(self):
        """SIGTERM ten times, mixed with SIGINT, SIGQUIT and SIGHUP, while a deaf job runs.

        Never longer than with one; a second SIGTERM shortens the wait to 5 s, SIGQUIT ends it; always exit 75, never a
        death by signal."""
        daemon = self.saboteur(workers={"drain_limit": "10m"})
        seconds, runs = [], 0
        mixed = self.random.choices([signal.SIGTERM, signal.SIGINT, signal.SIGHUP], k=9)
        for signals in ([signal.SIGTERM] * 2, [signal.SIGTERM] * 10, [signal.SIGQUIT],
                        [*mixed, signal.SIGTERM, signal.SIGQUIT, signal.SIGQUIT]):
            since, runs = daemon.mark_log(), runs + 1
            daemon.start().consuming(since)
            if runs == 1:
                held = self.hold(daemon, 1)[0]
            daemon.ran(held, runs, what="start")
            watch = Watch()
            for number in signals:
                daemon.kill(number)
                if number != signal.SIGHUP:
                    daemon.wait_for("daemon.stopping", since=since)  # the first is heard: equal ones melt into one
            self.assertEqual(daemon.wait(), 75)
            seconds.append(watch())
            self.assertEqual(daemon.processes(), [])
        self.assertLess(max(seconds), 12 * SLOWER)
        self.seen(f"exit 75 each time, after {', '.join(f'{s:.1f}' for s in seconds)} s")
        self.go(daemon)
        daemon.start()
        self.finish(daemon, bound=len(seconds))

    @row("C10")
    def test_C10(self):
        """SIGTERM, then SIGHUP 0.5 s later, while a job runs; and the reverse.

        It stops all the same; the job is done, once; exit 0."""
        daemon = self.saboteur()
        for first, second in ((signal.SIGTERM, signal.SIGHUP), (signal.SIGHUP, signal.SIGTERM)):
            since = daemon.mark_log()
            daemon.start().consuming(since)
            self.give("work", 1, "busy 2000", first.name)
            self.started(daemon, first.name)
            daemon.kill(first)
            time.sleep(0.5)  # the fault's own rhythm
            daemon.kill(second)
            daemon.wait_for("daemon.stopping", since=since)
            if second == signal.SIGHUP:
                self.expect(daemon, "reload.ignored", since=since)
            self.assertEqual(daemon.wait(), 0)
        self.finish(daemon, bound=0, stopped=True)

    def started(self, daemon, prefix):
        daemon.patiently(lambda: [e for e in daemon.ledger("start") if e.id.startswith(prefix)], "the job runs")

    @row("C11")
    def test_C11(self):
        """SIGHUP, then SIGINT, to every process of the daemon at once, with jobs under way.

        Workers ignore them: one reload, one drain; nothing is run again; exit 0."""
        self.processes_of_daemon = 2
        daemon = self.begin()
        names = self.hold(daemon, 2 * self.threads)
        os.killpg(daemon.process.pid, signal.SIGHUP)
        self.expect(daemon, "reload.done")
        for pid in self.workers(daemon):
            os.kill(pid, signal.SIGINT)
        os.killpg(daemon.process.pid, signal.SIGINT)
        daemon.wait_for("daemon.stopping")
        self.go(daemon)
        self.finish(daemon, bound=0, stopped=True)
        self.assertEqual({e.id for e in daemon.ledger("end")} & set(names), set(names))
        self.assertFalse([line for line in daemon.events("worker.exited") if "signal" in line])
        self.assertEqual(len(daemon.events("reload.started")), 1)


class Reload(ProcTest):
    @row("C8", must=True)
    def test_C8(self):
        """SIGHUP 100 times under load.

        Nothing is lost, nothing run again; at most one reload is in progress and one waits; what the old generations
        run is finished; the supervisor's descriptors and memory stay as they were."""
        self.processes_of_daemon = 2
        daemon = self.begin()
        self.load(commands="busy 40", rate=60)
        self.under_way(daemon)
        since = daemon.mark_log()
        for count in range(1, 101):
            daemon.kill(signal.SIGHUP)
            wait_until(lambda: len(daemon.events("signal", since, name="HUP")) == count, "it is heard", 20)
            time.sleep(0.02)  # the fault's own rhythm
        self.stop_flows()

        def over():
            return len({len(daemon.events(name, since)) for name in
                        ("reload.started", "reload.done", "generation.gone")}) == 1
        daemon.patiently(over, "the last reload is over")
        steps = [line["event"] for line in daemon.log.read()[since:]
                 if line.get("event") in ("reload.started", "reload.done", "generation.gone")]
        for number, step in enumerate(steps):
            self.assertEqual(step, ("reload.started", "reload.done", "generation.gone")[number % 3])
        self.seen(f"{len(steps) // 3} reloads, one after the other")
        self.finish(daemon, bound=0)

    @row("C9")
    def test_C9(self):
        """SIGHUP with a broken configuration, a missing plugin, a plugin that crashes, and wrong permissions.

        Each is refused in words; the old worker runs on untouched; nothing is run again."""
        trap = os.path.join(self.folder(), "trap")
        daemon = self.saboteur(environment={"WARREN_TEST_TRAP": trap}).start().consuming()
        self.hold(daemon, 1)
        good, worker = daemon.text("warren.cfg"), daemon.worker()
        for text, mode, what, words in (
                ("queues = (", 0o600, "", "syntax error"),
                (good.replace("saboteur.so", "none.so"), 0o600, "", "none.so"),
                (good, 0o600, "constructor", "SIGSEGV"),
                (good, 0o666, "", "writ")):
            since = daemon.mark_log()
            daemon.write(text)
            os.chmod(daemon.config, mode)
            touch(trap, what)
            daemon.kill(signal.SIGHUP)
            line = self.expect(daemon, "reload.refused", since=since)
            self.assertIn(words, line["error"])
        self.go(daemon)
        daemon.patiently(lambda: daemon.ledger("end"), "the job is done")
        self.assertEqual(daemon.ledger("end")[0].pid, worker)
        self.assertEqual(len(daemon.events("worker.started")), 1)
        os.chmod(daemon.config, 0o600)
        daemon.kill(signal.SIGHUP)
        daemon.wait_for("reload.done")
        self.finish(daemon, bound=0)


class Memory(ProcTest):
    LIMIT = 256 << 20
    ROOTS = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")

    def cgroup(self):
        """A memory cgroup with a limit, and the file that takes processes in; skips where none can be made."""
        for root in self.ROOTS:
            group = os.path.join(root, f"warren-test-{os.getpid()}")
            try:
                os.mkdir(group)
            except OSError:
                continue
            self.addCleanup(os.rmdir, group)
            with contextlib.suppress(OSError):
                for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max"):
                    if os.path.exists(os.path.join(group, name)):
                        touch(os.path.join(group, name), "0" if "swap.max" in name else str(self.LIMIT))
                if any(os.path.exists(os.path.join(group, name)) for name in ("memory.limit_in_bytes", "memory.max")):
                    return os.path.join(group, "cgroup.procs")
        return None

    @row("C13", must=True)
    def test_C13(self):
        """A task allocates without end in a memory cgroup of 256 MiB; where there is none to write to, it kills its process
        with SIGKILL instead, which is what the kernel does.

        The worker is killed, never the supervisor; all that ran is suspected, and runs next alone, once each; who brings
        the quarantine down by itself 3 times is dead as `crashed`, signal KILL; the others are done meanwhile."""
        group = None if SANITIZED else self.cgroup()  # a sanitizer needs terabytes of addresses, and more memory
        daemon = self.saboteur()
        if group:
            daemon.prefix = ("sh", "-c", f"echo $$ > {group}; exec \"$@\"", "sh")
        else:
            self.seen("no memory cgroup can be made here: SIGKILL by the task itself stands in")
        daemon.start().consuming()
        self.load(commands="busy 100", rate=20)
        self.under_way(daemon)
        bad = self.give("work", 1, "allocate" if group else "kill 9", "bad")[0]
        self.expect(daemon, "worker.exited", 4, signal=9)
        self.expect(daemon, "job.dead", verdict="crashed")
        headers = self.letters()[bad]
        self.assertEqual((headers["x-warren-signal"], headers["x-warren-crashes"]), ("KILL", 3))
        self.assertEqual(len(daemon.ledger("start", bad)), 4)
        killed = {int(line["pid"]) for line in daemon.events("worker.exited", signal=9)}
        normal = {int(e["pid"]) for e in daemon.events("worker.started") if e["worker"] == "0"} & killed
        beside = normal & {e.pid for e in daemon.ledger("start", bad)}
        self.assertEqual(len(beside), 1, "it ran beside others once")
        # The kernel now and then takes a second process of the group, while the first one is still on its way out.
        others = len(normal - beside)
        if not group:
            self.assertEqual(others, 0)
        self.under_way(daemon)
        self.seen(f"{len(killed)} processes killed{' by the kernel' if group else ''}, one of them beside others, "
                  f"{others} by the kernel's mistake")
        self.finish(daemon, bound=3 + self.threads - 1 + others * self.threads)

    @row("C18")
    def test_C18(self):
        """Recycling under load: each worker process ends after about 40 jobs.

        The replacement consumes before the old process stops; what runs is finished; nothing is run again; no second
        passes without a job done."""
        daemon = self.saboteur(workers={"recycle_jobs": 40}).start().consuming()
        self.load(commands="busy 20", rate=60)
        self.expect(daemon, "worker.recycle", 3, reason="jobs")
        self.stop_flows()
        recycled = {line["pid"] for line in daemon.events("worker.recycle")}
        for pid in recycled:
            daemon.wait_for("worker.exited", pid=pid, code=0)
            steps = [line["event"] for line in daemon.log.read()
                     if line["event"] == "worker.consuming" or line.get("pid") == pid and
                     line["event"] in ("worker.recycle", "worker.exited")]
            steps = steps[steps.index("worker.recycle") + 1:]
            self.assertEqual(steps[:1], ["worker.consuming"], "the replacement comes first")
        self.finish(daemon, bound=0)
        ends = sorted(e.ms for e in daemon.ledger("end"))
        pause = max(after - before for before, after in zip(ends, ends[1:]))
        self.assertLess(pause, 1000 * SLOWER)
        self.seen(f"{len(recycled)} processes recycled; the longest pause between two jobs was {pause} ms")


class Start(ProcTest):
    @row("C14")
    def test_C14(self):
        """A plugin's constructor crashes: from the start on, and in each process after the first.

        At the start: exit 78, in words. Later: back-off from 0.1 s, doubling, so that there are at most 10 starts in the
        first minute (here 8 in 12 s), and `worker.crashloop`; when it crashes no longer, the service is back."""
        trap = os.path.join(self.folder(), "trap")
        touch(trap, "constructor")
        daemon = self.saboteur(environment={"WARREN_TEST_TRAP": trap}).start()
        self.assertEqual(daemon.wait(), 78)
        self.assertIn("a plugin crashed the process that checks the plugins: SIGSEGV", daemon.text())
        os.unlink(trap)
        since = daemon.mark_log()
        daemon.start().consuming(since)
        self.give("work", 1)
        daemon.wait_for("job.done", since=since)  # a job in hand would be a suspect, and its quarantine crash as well
        touch(trap, "constructor")
        watch, since = Watch(), daemon.mark_log()
        os.kill(daemon.worker(), signal.SIGKILL)
        self.expect(daemon, "worker.crashloop", since=since)
        seconds_pass(12 - watch())
        starts = len(daemon.events("worker.started", since))
        self.assertLessEqual(starts, 8)
        os.unlink(trap)
        daemon.wait_for("worker.consuming", since=since)
        self.give("work", 1)
        self.seen(f"{starts} starts in {watch():.0f} s")
        self.finish(daemon, bound=0)

    @row("C15")
    def test_C15(self):
        """A plugin refuses to open in the worker, which exits with 78: before anything has consumed, and later.

        Before: `worker.fatal`, and the supervisor exits with 78. Later that is no reason to end: back-off,
        the reason in the log, and the service is back when the plugin opens again."""
        trap = os.path.join(self.folder(), "trap")
        touch(trap, "refuse")
        daemon = self.saboteur(environment={"WARREN_TEST_TRAP": trap}).start()
        self.assertEqual(daemon.wait(), 78)
        self.assertEqual(len(daemon.events("worker.fatal", code=78)), 1)
        os.unlink(trap)
        since = daemon.mark_log()
        daemon.start().consuming(since)
        touch(trap, "refuse")
        since = daemon.mark_log()
        os.kill(daemon.worker(), signal.SIGKILL)
        self.assertIn("restart_in", self.expect(daemon, "worker.exited", since=since, code=78))
        self.assertIn("the trap says so", daemon.wait_for("worker.refused", since=since)["reason"])
        os.unlink(trap)
        daemon.wait_for("worker.consuming", since=since)
        self.give("work", 1)
        self.finish(daemon, bound=0)


class Twice(ProcTest):
    @row("C19")
    def test_C19(self):
        """The same configuration is run by two supervisors, the second while the first is under load; then the first is
        killed (SIGKILL), and started again over whatever it has left.

        The second is refused (exit 73) before it starts a worker: the control socket of the first is alive, and stays. One
        that a killed daemon has left is replaced. Nothing is lost, and only the kill runs anything again (at most C)."""
        first = self.begin()
        self.load(commands="busy 100", rate=20)
        self.under_way(first)
        second = self.daemon(first.text("warren.cfg")).start()
        self.assertEqual(second.wait(), 73)
        self.assertIn(f"(process {first.process.pid})", self.expect(second, "daemon.failed")["error"])
        self.assertEqual(second.events("worker.started"), [])
        self.under_way(first)
        first.kill(signal.SIGKILL)
        first.process.wait()
        since = first.mark_log()
        first.start().consuming(since)
        self.baselines.clear()
        self.finish(first, bound=self.threads)


class FirstProcess(ProcTest):
    UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

    @row("C17")
    def test_C17(self):
        """warrend is process 1 (of a pid namespace), and a plugin leaves grandchildren behind.

        Orphans are reaped, and a worker's death is not confused with theirs; SIGTERM drains; the exit code gets
        through."""
        try:
            allowed = subprocess.run([*self.UNSHARE, "true"], stderr=subprocess.DEVNULL, timeout=20).returncode == 0
        except OSError:
            allowed = False
        if not allowed:
            self.skipTest("unshare is not permitted here")
        daemon = self.saboteur()
        daemon.prefix = self.UNSHARE
        daemon.start().consuming()
        first = children(daemon.process.pid)[0]
        for name in self.give("work", 10, "daemon 0.5", "parent"):
            daemon.ran(name)
        wait_until(lambda: len(children(first)) == 1, "orphans are reaped")
        since = daemon.mark_log()
        self.give("work", 1, f"once {daemon.path('killed')} kill 9", "killed")
        self.expect(daemon, "worker.exited", since=since, signal=9)
        daemon.consuming(since)
        self.assertEqual(self.zombies_of(first), [])
        self.hold(daemon, 1)
        os.kill(first, signal.SIGTERM)
        daemon.wait_for("daemon.stopping")
        self.go(daemon)
        self.finish(daemon, bound=1, stopped=True)


class Frozen(ProcTest):
    @row("C21")
    def test_C21(self):
        """The whole tree is frozen (SIGSTOP) for longer than heartbeat and supervision allow (25 s), then thawed.

        Nobody takes anybody for dead: no process is ended; connections are made anew, consuming again within 11 s; at
        most W * C runs again."""
        self.processes_of_daemon = 2
        daemon = self.begin()
        self.hold(daemon, 2 * self.threads)
        tree, since = daemon.processes(), daemon.mark_log()
        for pid in tree:
            os.kill(pid, signal.SIGSTOP)
        seconds_pass(25)
        self.assertEqual(self.prefetches(), [])
        thawed = time.time()
        for pid in tree:
            os.kill(pid, signal.SIGCONT)
        self.go(daemon)
        self.recovered(daemon, since, thawed, within=11)
        self.refuse(daemon, "worker.exited", "worker.unresponsive", since=since)
        self.finish(daemon, bound=2 * self.threads)
