"""Rows D: plugins that misbehave."""

import os
import shutil
import signal

from accounting import BUILD, SLOWER, row
from broker_fixture import wait_until
from harness import SANITIZED
from proc import SABOTEURS, ProcTest, Watch, touch

ONCE = {"attempts": 1, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}
TWICE = {**ONCE, "attempts": 2}


class Verdicts(ProcTest):
    @row("D1")
    def test_D1(self):
        """Tasks return done, retry and dead, and what is no verdict: 9999, -1 and 0.

        As documented: acked; retried until the attempts are used up; dead-lettered at once, a breach with its own word,
        in the log with plugin and number."""
        daemon = self.begin(self.work(retry=TWICE))
        want = {}
        for commands, verdict in (("", None), ("retry later", "exhausted"), ("dead wrong", "dead"),
                                  ("return 9999", "breach"), ("return -1", "breach"), ("return 0", "breach")):
            want[self.give("work", 1, commands)[0]] = verdict
        wait_until(lambda: self.ready("work.dead") == 5, "five are dead")
        letters = self.letters()
        self.assertEqual({name: headers["x-warren-verdict"] for name, headers in letters.items()},
                         {name: verdict for name, verdict in want.items() if verdict})
        for number in (9999, -1, 0):
            self.assertIn("saboteur", self.expect(daemon, "plugin.breach", returned=number)["plugin"])
        self.finish(daemon, bound=0)

    @row("D9")
    def test_D9(self):
        """A task in C++ throws: inside of warren::task, and with nothing that catches.

        Caught: a retry with what() as the reason, the process lives. Raw: the process dies by SIGABRT, as in D2, and is
        replaced."""
        raw = self.work("raw", task="sabotage.throws", retry=ONCE, crash_limit=1)
        caught = self.work("caught", task="sabotage.catches", retry=ONCE)
        daemon = self.saboteur(caught, raw, more=["saboteur_cxx.so"]).start().consuming()
        name, odd = self.give("caught", 1, "throw")[0], self.give("caught", 1, "odd")[0]
        self.give("caught", 1)
        wait_until(lambda: self.ready("caught.dead") == 2, "both are dead")
        letters = self.letters("caught.dead")
        self.assertEqual(letters[name]["x-warren-reason"], f"exception: thrown by {name}")
        self.assertEqual(letters[odd]["x-warren-reason"], "exception of an unknown type")
        self.refuse(daemon, "worker.exited")
        name = self.give("raw", 1, "throw")[0]
        self.expect(daemon, "worker.exited", name="ABRT")
        wait_until(lambda: self.ready("raw.dead") == 1, "it is dead")
        self.assertEqual(self.letters("raw.dead")[name]["x-warren-signal"], "ABRT")
        self.finish(daemon, bound=0)


class Crashes(ProcTest):
    def deaths(self, daemon):
        return [line for line in daemon.events("worker.exited") if line["unexpected"] == "true"]

    def crash(self, daemon, commands, name):
        """A job that brings its worker down: what is said of it, and its dead letter's headers."""
        since = daemon.mark_log()
        job = self.give("work", 1, commands, prefix=commands.split()[0])[0]
        crashed = self.expect(daemon, "worker.crashed", since=since, signal=name)
        self.assertEqual(crashed["task"], "sabotage.run")
        self.assertTrue([frame for frame in daemon.events("crash.frame", since) if frame["file"].endswith("saboteur.so")])
        exited = daemon.wait_for("worker.exited", since=since, name=name)
        self.assertEqual(exited["blamed"], "true")
        self.assertEqual(daemon.wait_for("job.suspect", since=since, certain="true")["job"], crashed["job"])
        daemon.wait_for("job.dead", since=since, verdict="crashed")
        headers = self.letters()[job]
        self.assertEqual((headers["x-warren-verdict"], headers["x-warren-signal"]), ("crashed", name))
        self.assertEqual(headers["x-warren-plugin"], "saboteur/1.0")
        return crashed

    @row("D2")
    def test_D2(self):
        """Tasks die by SIGSEGV, SIGFPE, SIGBUS, SIGILL and abort(), under load, with a crash_limit of 1.

        Each death is by that signal (so a core is kept where the system keeps them); the log has signal, address, task,
        job and a backtrace; the message is dead-lettered, its innocent neighbours run again at most once each."""
        daemon = self.begin(self.work(crash_limit=1))
        self.load(commands="busy 100", rate=10)
        for commands, name in (("segv", "SEGV"), ("fpe", "FPE"), ("bus", "BUS"), ("ill", "ILL"), ("abort", "ABRT")):
            crashed = self.crash(daemon, commands, name)
            self.assertEqual("address" in crashed, name != "ABRT")
        self.assertEqual(len(self.deaths(daemon)), 5)
        self.finish(daemon, bound=5 * (self.threads - 1))
        self.assertEqual(sum(self.found.dead.values()), 5)

    @row("D3", must=True)
    def test_D3(self):
        """A message that crashes its worker each time, under load.

        Dead-lettered after 3 crashes with signal, task and plugin; three deaths in all, two of them in the quarantine; the
        neighbours of the first one run again once each, those that come later not at all."""
        daemon = self.begin()
        self.load(commands="busy 100", rate=20)
        self.under_way(daemon)
        bad = self.give("work", 1, "segv", "bad")[0]
        self.expect(daemon, "job.dead", verdict="crashed")
        headers = self.letters()[bad]
        self.assertEqual([headers[f"x-warren-{key}"] for key in ("verdict", "signal", "crashes", "task", "plugin")],
                         ["crashed", "SEGV", 3, "sabotage.run", "saboteur/1.0"])
        self.assertEqual(len(self.deaths(daemon)), 3)
        first, second, third = daemon.ledger("start", bad)
        workers = {int(line["pid"]) for line in daemon.events("worker.started") if line["worker"] == "0"}
        self.assertIn(first.pid, workers)
        self.assertFalse({second.pid, third.pid} & workers)
        self.finish(daemon, bound=2 + self.threads - 1)
        self.seen(f"3 deaths, of them 2 in the quarantine; neighbours run again: {self.report['duplicates'] - 2}")

    @row("D4", must=True)
    def test_D4(self):
        """Tasks call exit(0), exit(1), quick_exit(0) and _exit(0), with a crash_limit of 1.

        The first three end the worker with 121 and `plugin.exit_called`, and their jobs are dead as `crashed`, signal EXIT.
        _exit cannot be caught: all that ran is suspected, and it is blamed when it does so alone."""
        daemon = self.begin(self.work(crash_limit=1))
        for number, commands in enumerate(("exit 0", "exit 1", "quick_exit 0"), 1):
            since = daemon.mark_log()
            self.give("work", 1, commands)
            self.assertEqual(self.expect(daemon, "plugin.exit_called", since=since)["task"], "sabotage.run")
            self.expect(daemon, "worker.exited", since=since, code=121)
            wait_until(lambda want=number: self.ready("work.dead") == want, "it is dead")
        since = daemon.mark_log()
        name = self.give("work", 1, "_exit 0")[0]
        self.expect(daemon, "worker.exited", 2, since=since, code=0, unexpected="true")
        wait_until(lambda: self.ready("work.dead") == 4, "it is dead")
        self.assertEqual({(letter["x-warren-verdict"], letter["x-warren-signal"]) for letter in self.letters().values()},
                         {("crashed", "EXIT")})
        self.assertEqual(len(daemon.ledger("start", name)), 2)
        self.finish(daemon, bound=1)

    @row("D8")
    def test_D8(self):
        """A task recurses without end; another takes 64 MiB of stack at once.

        The guard page is hit: SIGSEGV, as D2, with the hint that it may be the stack. (A plugin that is built without
        -fstack-clash-protection may step over the guard page: nothing of the host's can prevent that.)"""
        daemon = self.begin(self.work(crash_limit=1))
        for commands in ("overflow", f"alloca {64 << 20}"):
            self.assertEqual(self.crash(daemon, commands, "SEGV").get("hint"), "stack overflow?")
        self.finish(daemon, bound=0)

    @row("D10")
    def test_D10(self):
        """A task calls pthread_exit().

        `plugin.thread_exit`; its job is dead-lettered as a breach; its siblings finish; the process, which lacks a thread,
        is replaced and leaves with 122; nothing is run again. A lock that the host held for it is released."""
        daemon = self.begin([self.work(), self.work("serial", task="sabotage.serial")])
        self.hold(daemon, 1)
        since = daemon.mark_log()
        self.give("serial", 1, "pthread_exit")
        self.expect(daemon, "plugin.thread_exit", since=since)
        self.expect(daemon, "worker.replaced", since=since)
        daemon.wait_for("worker.consuming", since=since)
        self.go(daemon)
        self.expect(daemon, "worker.exited", since=since, code=122)
        wait_until(lambda: self.ready("serial.dead") == 1, "it is dead")
        self.assertEqual({letter["x-warren-verdict"] for letter in self.letters("serial.dead").values()}, {"breach"})
        for name in self.give("serial", 3):
            daemon.ran(name)
        self.finish(daemon, bound=0)

    @row("D11")
    def test_D11(self):
        """A task frees memory of the host's; another one jumps out of run() into the frame of an earlier run.

        Undefined by documentation. The allocator aborts at the first, at the latest when the host frees it too, and then
        the job may have been done; after the second, whatever happens, nothing is lost and the service goes on."""
        if SANITIZED:
            self.skipTest("a sanitizer reports what this row does")
        daemon = self.begin([self.work(crash_limit=1), self.work("jump", threads=1, crash_limit=1)])
        since = daemon.mark_log()
        self.give("work", 1, "free-body")
        self.expect(daemon, "worker.exited", since=since, name="ABRT")
        jumps = self.give("jump", 2, "longjmp")
        daemon.ran(jumps[1], what="start")
        for name in self.give("work", 3) + self.give("jump", 1):
            daemon.ran(name)
        self.finish(daemon, bound=None, resources=False)


class Limits(ProcTest):
    @row("D5")
    def test_D5(self):
        """A task sleeps for ever, but asks whether it should stop; the queue's time limit is 1 s, the task's own shorter.

        It is told so at the limit, returns, and is retried and then dead-lettered by policy; the process stays."""
        daemon = self.begin(self.work(retry=TWICE, time_limit="1s"))
        names = self.give("work", 2, "soft 60000")
        wait_until(lambda: self.ready("work.dead") == 2, "both are dead")
        for name in names:
            first, second = daemon.ledger("start", name)
            took = daemon.ledger("end", name)[0].ms - first.ms
            self.assertGreaterEqual(took, 950)
            self.assertLess(took, 2000 * SLOWER)
            self.assertEqual(second.attempt, 2)
        self.assertEqual(self.letters()[names[0]]["x-warren-reason"], "stopped: 3")
        self.refuse(daemon, "worker.exited", "worker.replaced")
        self.finish(daemon, bound=0)


    @row("D6", must=True)
    def test_D6(self):
        """A task loops for ever with all signals blocked; time_limit 1 s, kill_after 1 s.

        After 2 s it is settled from outside, dead as `timed-out`; the process takes nothing more, its siblings finish, its
        replacement runs already; it exits with 122; nothing is run again."""
        quick = self.work("quick", time_limit="1s", kill_after="1s", retry=ONCE)
        daemon = self.begin([self.work(), quick])
        old, since = daemon.worker(), daemon.mark_log()
        self.hold(daemon, 1)
        name = self.give("quick", 1, "spin")[0]
        self.expect(daemon, "task.timeout", since=since, kind="soft")
        self.expect(daemon, "task.timeout", since=since, kind="hard")
        self.expect(daemon, "worker.replaced", since=since)
        daemon.wait_for("worker.consuming", since=since)
        wait_until(lambda: self.ready("quick.dead") == 1, "it is dead")
        self.assertEqual(self.letters("quick.dead")[name]["x-warren-verdict"], "timed-out")
        for late in self.give("work", 3):
            self.assertNotEqual(daemon.ran(late)[0].pid, old)
        self.go(daemon)
        self.expect(daemon, "worker.exited", since=since, code=122)
        self.finish(daemon, bound=0)

    @row("D7")
    def test_D7(self):
        """All C threads are stuck; and once more in a process that cannot notice, because it is frozen.

        The first: as D6, within 2 s of the hard limit. The second is seen by the supervisor from the scoreboard, ended by
        SIGABRT and SIGKILL, and replaced; each job ends within its attempts."""
        daemon = self.begin(self.work(time_limit="1s", kill_after="1s", retry=TWICE))
        since = daemon.mark_log()
        self.stick(daemon, "stuck")
        self.expect(daemon, "task.timeout", self.threads, since=since, kind="hard")
        self.expect(daemon, "job.retry", self.threads, since=since, verdict="timed-out")
        self.expect(daemon, "worker.exited", since=since, code=122)
        first = [e.ms for e in daemon.ledger("start") if e.id.startswith("stuck")][:self.threads]
        self.seen(f"the process had left {Watch.now_ms() - min(first)} ms after the first start")
        self.assertLess(Watch.now_ms() - min(first), 4000 * SLOWER + 2000)
        wait_until(lambda: len([e for e in daemon.ledger("end") if e.id.startswith("stuck")]) == self.threads, "all are done")
        since = daemon.mark_log()
        self.stick(daemon, "frozen")
        os.kill(daemon.worker(), signal.SIGSTOP)
        self.expect(daemon, "worker.overdue", since=since)
        daemon.wait_for("worker.exited", since=since, name="KILL")
        daemon.wait_for("worker.consuming", since=since)
        self.finish(daemon, bound=self.threads)

    def stick(self, daemon, prefix):
        """Every thread gets a job that is stuck in its first run."""
        path = daemon.path(prefix)
        names = self.give("work", self.threads, lambda number: f"once {path}-{number} hold {path}-never", prefix)
        for name in names:
            daemon.ran(name, what="start")


class Disturbed(ProcTest):
    """What a plugin changes that belongs to the whole process; looked at once a second."""

    def disturbed(self, daemon, since, what, restored="true"):
        line = self.expect(daemon, "plugin.disturbed", since=since, what=what)
        self.assertEqual(line["restored"], restored)

    @row("D12")
    def test_D12(self):
        """A task resets SIGPIPE to its default; another one writes to a pipe that nobody reads, with signals unblocked.

        Put back within about a second, with one line in the log: the write then fails with EPIPE and the process lives.
        Sooner it lives, too, because worker threads block the signal. Only a task that undoes both kills its process by
        SIGPIPE: as D2, at most C runs again, and it is dead when it does so alone."""
        daemon = self.begin(self.work(retry=ONCE, crash_limit=1))
        since = daemon.mark_log()
        names = self.give("work", 1, "sigpipe;write")
        self.disturbed(daemon, since, "SIGPIPE")
        names += self.give("work", 1, "unblock-signals;write")
        wait_until(lambda: self.ready("work.dead") == 2, "the writes have failed")
        letters = self.letters()
        self.assertEqual({letters[name]["x-warren-reason"] for name in names}, {"write: Broken pipe"})
        self.refuse(daemon, "worker.exited")
        name = self.give("work", 1, "sigpipe;unblock-signals;write")[0]
        self.expect(daemon, "worker.exited", name="PIPE")
        wait_until(lambda: self.ready("work.dead") == 3, "it is dead")
        self.assertEqual(self.letters()[name]["x-warren-signal"], "PIPE")
        self.assertEqual(len(daemon.events("plugin.disturbed", since, what="SIGPIPE")), 1)
        self.finish(daemon, bound=self.threads)

    @row("D13")
    def test_D13(self):
        """A task sets SIGCHLD to be ignored; others run children, and leave daemons behind.

        Put back within about a second, with a line in the log: system() of the others works. What a plugin has made
        a daemon is nobody's child and lives on when the worker ends: only a group that warren_child() announced is ended."""
        daemon = self.begin(self.work(retry=ONCE))
        self.give("work", 1, "system 7")
        since = daemon.mark_log()
        self.give("work", 1, "sigchld")
        self.disturbed(daemon, since, "SIGCHLD")
        for name in self.give("work", 6, "system 7") + self.give("work", 2, "daemon 0.5"):
            daemon.ran(name)
        self.finish(daemon, bound=0)
        self.assertFalse(+self.found.dead)

    @row("D15")
    def test_D15(self):
        """A task changes directory, umask, locale and environment, and blocks all signals.

        Directory, umask and signal mask are put back, the locale is not (other threads may be using it; warren's own
        numbers do not depend on it); each is said once. The environment is not watched: warren reads none after its start."""
        daemon = self.begin()
        worker, since = daemon.worker(), daemon.mark_log()
        before = os.readlink(f"/proc/{worker}/cwd"), self.status(worker, "Umask")
        commands = "chdir /;umask 0077;setlocale C.UTF-8;setenv WARREN_URL;block-signals"
        self.give("work", 1, commands)
        for what in ("working directory", "umask"):
            self.disturbed(daemon, since, what)
        self.disturbed(daemon, since, "LC_NUMERIC", restored="false")
        # The mask is its thread's: noticed after the first task that follows a look.
        masked = self.status_of_threads(worker)
        wait_until(lambda: self.give("work", 3, "busy 20") and self.status_of_threads(worker) != masked, "masks are restored")
        self.disturbed(daemon, since, "blocked signals")
        self.assertEqual((os.readlink(f"/proc/{worker}/cwd"), self.status(worker, "Umask")), before)
        self.give("work", 1, commands)
        wait_until(lambda: self.status(worker, "Umask") == before[1], "it is put back again")
        self.assertEqual(len(daemon.events("plugin.disturbed", since)), 4)
        self.finish(daemon, bound=0)

    def status(self, pid, key):
        with open(f"/proc/{pid}/status") as file:
            return next(line.split()[1] for line in file if line.startswith(key + ":"))

    def status_of_threads(self, pid):
        return {self.status(f"{pid}/task/{tid}", "SigBlk") for tid in os.listdir(f"/proc/{pid}/task")}

    @row("D14")
    def test_D14(self):
        """A task closes every descriptor from 3 on: sockets, the line to the supervisor, and all others.

        Noticed at once: the process says so and exits with 70; it is replaced; the supervisor is unaffected; at most C
        runs again."""
        daemon = self.begin()
        self.hold(daemon, self.threads - 1)
        since = daemon.mark_log()
        self.give("work", 1, f"once {daemon.path('closed')} close 3;busy 3000")
        line = self.expect(daemon, "worker.exited", since=since, code=70)
        self.assertEqual(len(line["jobs"].split(",")), self.threads)
        daemon.wait_for("worker.consuming", since=since)
        self.go(daemon)
        self.finish(daemon, bound=self.threads)


class Leaks(ProcTest):
    @row("D16")
    def test_D16(self):
        """Each task leaks 4 MiB, 5 descriptors and a thread, under load; recycle_memory is 96 MiB.

        The worker is replaced again and again, replacement first; nothing is lost, nothing run again; no process grows
        beyond the limit by more than what its jobs leak in a second or two."""
        if SANITIZED:
            self.skipTest("a sanitizer reports what this row leaks")
        daemon = self.begin(workers={"recycle_memory": "96MiB"})
        never = daemon.path("never")
        self.load(commands=f"leak {4 << 20};open 5;late {never};busy 50", rate=20)
        line = self.expect(daemon, "worker.recycle", 2, reason="memory")
        self.under_way(daemon)
        self.stop_flows()
        pid = line["pid"]
        daemon.wait_for("worker.exited", pid=pid)
        steps = [entry["event"] for entry in daemon.log.read()
                 if entry.get("pid") == pid and entry["event"] in ("worker.recycle", "worker.exited")
                 or entry["event"] == "worker.consuming"]
        after = steps[len(steps) - steps[::-1].index("worker.recycle"):]
        self.assertEqual(after[0], "worker.consuming", "the replacement comes first")
        self.assertTrue(all(line["code"] == "0" for line in daemon.events("worker.exited")))
        self.finish(daemon, bound=0, resources=False)


class Calls(ProcTest):
    @row("D17")
    def test_D17(self):
        """A thread that a task has left behind calls the host on its job when run() has long returned.

        The calls fail with WARREN_EGONE, `warren_stopping()` says that it is time, and nothing is published: for the last
        8 jobs of each worker thread. A later call is undefined, as the header says: a handle is a plain pointer."""
        daemon = self.begin()
        late = daemon.path("late")
        names = self.give("work", self.threads, f"late {late}", reply_to="answers")
        self.channel.queue_declare("answers", durable=True)
        daemon.patiently(lambda: len([line for line in daemon.events("job.done") if line["message_id"] in names]) == len(names),
                         "they are over")
        touch(late)
        for name in names:
            daemon.ran(name, what="late/3/-4/-4/-4")
        self.load(commands="busy 5", rate=50)
        self.under_way(daemon)
        self.refuse(daemon, "worker.exited")
        self.assertEqual(self.ready("answers"), 0)
        self.asked.clear()
        self.finish(daemon, bound=0)

    @row("D18")
    def test_D18(self):
        """Replies of 1 GiB, of NULL with a length, of as much as is allowed; a follow-up with 65,536 headers.

        Refused with an error and in the log, nothing is cut in silence: the job is dead-lettered though its task returns
        done. What is allowed gets through; the worker does not grow by what was refused."""
        daemon = self.begin(self.work(retry=ONCE))
        self.channel.queue_declare("answers", durable=True)
        good = self.give("work", 1, f"reply-size {16 << 20}", reply_to="answers")[0]
        calls = {f"reply-size {1 << 30}": "reply/-2", "reply-null 5": "reply/-1", "headers 65536": "publish/-2"}
        names = {self.give("work", 1, call)[0]: answer for call, answer in calls.items()}
        wait_until(lambda: self.ready("work.dead") == 3, "three are dead")
        for name, answer in names.items():
            daemon.ran(name, what=answer)
            self.assertEqual(self.letters()[name]["x-warren-verdict"], "dead")
        daemon.ran(good, what="reply/0")
        wait_until(lambda: self.ready("answers") == 1, "the good one is answered")
        grown = self.measure(daemon.worker())[2] - self.baselines[daemon][-1][2]
        self.assertLess(grown, 64 << 10, "KiB: what one job may hold")
        self.finish(daemon, bound=0, answers=["answers"], both=3, resources=False)

    @row("D21")
    def test_D21(self):
        """Calls of the host from two threads, from a thread's destructor, and while the process drains.

        What may be called from several threads works; the destructor's line gets into the log; a drain is not held up.
        (Calls on a job that has ended: D17.)"""
        daemon = self.begin()
        for name in self.give("work", 3, "share 20000"):
            daemon.ran(name)
        daemon.ran(self.give("work", 1, "destructor")[0])
        self.finish(daemon, bound=0)
        self.assertTrue(daemon.ledger("destructor"))
        daemon.wait_for("plugin.log", text="from a destructor")


class Files(ProcTest):
    @row("D19")
    def test_D19(self):
        """Plugins that are none: another ABI version, no symbol, no ELF file, another machine, static TLS exhausted.

        At the start exit 78, with file and reason; at a reload refused, and the old one runs on."""
        folder = self.folder()
        wrong = os.path.join(BUILD, "tests", "plugins")
        touch(os.path.join(folder, "text.so"), "no ELF file at all\n")
        shutil.copy(os.path.join(wrong, "older.so"), os.path.join(folder, "machine.so"))
        with open(os.path.join(folder, "machine.so"), "r+b") as file:
            file.seek(18)
            file.write(b"\x08\x00")  # e_machine: MIPS
        faults = {f"{wrong}/wrong_MAJOR.so": "major", f"{wrong}/wrong_SYMBOL.so": "warren_plugin",
                  f"{folder}/text.so": "ELF", f"{folder}/machine.so": "", f"{SABOTEURS}/static_tls.so": "TLS"}
        daemon = self.begin()
        good = daemon.text("warren.cfg")
        for path, words in faults.items():
            since = daemon.mark_log()
            bad = good.replace("load = (", f"load = ( {{ file = \"{path}\"; }},", 1)
            self.assertNotEqual(bad, good)
            daemon.write(bad)
            daemon.kill(1)
            line = self.expect(daemon, "reload.refused", since=since)
            self.assertIn(os.path.basename(path), line["error"])
            self.assertIn(words, line["error"])
            other = self.daemon(bad.replace("warren.sock", "other.sock")).start()  # the first has its own
            self.assertEqual(other.wait(), 78)
            self.assertIn(os.path.basename(path), other.text())
        self.finish(daemon, bound=0)

    @row("D20")
    def test_D20(self):
        """A plugin's file is overwritten in place while it runs; later a good one is put there by rename.

        The process crashes when it comes to a page that has changed (as D2), and cannot start again while the file is
        no plugin; nothing is lost, and the service is back when the good file is there. A rename alone disturbs nobody."""
        folder = self.folder()
        path, source = os.path.join(folder, "saboteur.so"), os.path.join(SABOTEURS, "saboteur.so")
        shutil.copy(source, path)
        daemon = self.saboteur()
        daemon.write(daemon.text("warren.cfg").replace(source, path))
        daemon.start().consuming()
        for name in self.give("work", 3):
            daemon.ran(name)
        since = daemon.mark_log()
        touch(path, "overwritten\n")
        self.give("work", 1)
        self.assertIn(self.expect(daemon, "worker.exited", since=since)["name"], ("BUS", "SEGV"))
        daemon.wait_for("worker.refused", since=since)
        shutil.copy(source, path + ".new")
        os.rename(path + ".new", path)
        daemon.wait_for("worker.consuming", since=since)
        shutil.copy(source, path + ".new")
        os.rename(path + ".new", path)
        for name in self.give("work", 3):
            daemon.ran(name)
        self.finish(daemon, bound=self.threads)
