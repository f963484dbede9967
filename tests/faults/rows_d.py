"""Rows D: plugins that misbehave."""

import os
import shutil

from accounting import BUILD, SLOWER, row
from broker_fixture import wait_until
from proc import SABOTEURS, ProcTest, touch

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
        daemon = self.begin([caught, raw], warm=[], more=["saboteur_cxx.so"])
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


class Disturbed(ProcTest):
    """What a plugin changes that belongs to the whole process; looked at once a second."""

    def disturbed(self, daemon, since, what, restored="true"):
        line = self.expect(daemon, "plugin.disturbed", since=since, what=what)
        self.assertEqual(line["restored"], restored)

    @row("D12")
    def test_D12(self):
        """A task resets SIGPIPE to its default; another one writes to a pipe that nobody reads.

        Noticed within about a second and put back, with one line in the log: the write then fails with EPIPE and the
        process lives. A write that comes sooner kills the process by SIGPIPE: as D2, at most C runs again."""
        daemon = self.begin(self.work(retry=ONCE))
        since = daemon.mark_log()
        self.give("work", 1, "sigpipe")
        self.disturbed(daemon, since, "SIGPIPE")
        name = self.give("work", 1, "write")[0]
        wait_until(lambda: self.ready("work.dead") == 1, "the write has failed")
        self.assertEqual(self.letters()[name]["x-warren-reason"], "write: Broken pipe")
        self.refuse(daemon, "worker.exited")
        self.give("work", 1, f"once {daemon.path('piped')} sigpipe;write")
        self.expect(daemon, "worker.exited", name="PIPE")
        wait_until(lambda: self.ready("work.dead") == 2, "its next run's write has failed")
        self.assertEqual(len(daemon.events("plugin.disturbed", since)), 1)
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


class Calls(ProcTest):
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
        self.finish(daemon, bound=0, answers=["answers"])

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
            other = self.daemon(bad).start()
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
