#!/usr/bin/python3
"""What warren says of a running daemon, and to it, against a scripted daemon that is slow, dies or lies.

Needs no broker. The samples of tests/status are what the daemon answers.
"""

import contextlib
import json
import os
import re
import signal
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import terminal

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("WARREN_BUILD", os.path.join(ROOT, "build"))
WARREN = os.path.join(BUILD, "src", "warren")
SAMPLES = os.path.join(ROOT, "tests", "status")
PATIENCE = 60  # seconds until a condition that must come true counts as failed
NOBODY = 65534


def has(command):
    listed = subprocess.run([WARREN, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return f"\n  {command} " in listed


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what()}: not within {PATIENCE} s")
        time.sleep(0.02)


def sample(name):
    with open(os.path.join(SAMPLES, name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def line(answer):
    return json.dumps(answer).encode() + b"\n"


class Daemon:
    """A control socket. `answer` is the bytes for each line, or a function of connection and line."""

    def __init__(self, path, answer):
        self.path, self.answer = path, answer
        self.lines = []
        self.closing = threading.Event()
        self.listen()

    def listen(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(16)
        threading.Thread(target=self.run, args=(self.socket,), daemon=True).start()

    def run(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            asked = b""
            while not asked.endswith(b"\n"):
                more = connection.recv(4096)
                if not more:
                    return
                asked += more
            self.lines.append(asked.decode())
            answer = self.answer(connection, asked.decode()) if callable(self.answer) else self.answer
            connection.sendall(answer or b"")

    def orders(self):
        return [asked for asked in self.lines if asked != "status\n"]

    def vanish(self):
        """As if it had been killed: the file stays."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def close(self):
        self.closing.set()
        with contextlib.suppress(OSError):
            self.vanish()


class OperatorTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="warren-operator-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "warren.sock")
        self.environment = {k: v for k, v in os.environ.items()
                            if k not in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "NO_COLOR", "COLUMNS")}

    def daemon(self, answer, path=None):
        daemon = Daemon(path or self.path, answer)
        self.addCleanup(daemon.close)
        return daemon

    def warren(self, *args, code=0, socket_option=True, **options):
        options.setdefault("env", self.environment)
        where = ["-s", self.path] if socket_option else []
        done = subprocess.run([WARREN, args[0], *where, *args[1:]], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=PATIENCE, **options)
        self.assertEqual(done.returncode, code, f"warren {args}: {done.stdout} {done.stderr}")
        return done

    def said(self, *args, **options):
        return self.warren(*args, **options).stderr.decode()


@unittest.skipUnless(has("status"), "built without jansson")
class Status(OperatorTest):
    def test_a_sample_is_shown_as_its_screen(self):
        for name, code in (("healthy", 0), ("memory-alarm", 0), ("paused", 0), ("queue-gone", 1),
                           ("broker-down", 1), ("stuck-task", 1), ("crash-loop", 1), ("hostile-names", 1)):
            with self.subTest(name):
                daemon = self.daemon(line(sample(name)))
                out = self.warren("status", code=code).stdout.decode()
                with open(os.path.join(SAMPLES, name + ".txt"), encoding="utf-8") as file:
                    self.assertEqual(out, file.read())
                self.assertEqual(daemon.lines, ["status\n"])
                daemon.close()
                os.unlink(self.path)

    def test_json_is_the_answer_as_it_came(self):
        raw = b'{"ok" :true,  "problems":[ {"severity":"error"}],"new":"\xc3\xa9 \\u0000"}\n'
        self.daemon(raw)
        self.assertEqual(self.warren("status", "--json", code=1).stdout, raw)

    def test_ten_megabytes_are_read(self):
        status = sample("healthy")
        status["queues"] = [dict(status["queues"][0], queue=f"q{i:06}") for i in range(9000)]
        raw = line(status)
        self.assertGreater(len(raw), 10_000_000)
        self.daemon(raw)
        self.assertEqual(self.warren("status", "--json").stdout, raw)
        self.assertIn(b"\nq008999 ", self.warren("status").stdout)

    def test_an_answer_may_come_in_pieces(self):
        raw = line(sample("healthy"))

        def dribble(connection, _):
            for at in range(0, len(raw), 97):
                connection.sendall(raw[at:at + 97])
                time.sleep(0.001)  # so that pieces arrive apart

        self.daemon(dribble)
        self.assertEqual(self.warren("status", "--json").stdout, raw)

    def test_where_nobody_listens(self):
        said = self.said("status", code=69)
        self.assertIn(f"no warrend is running with the socket {self.path}: there is no such file", said)
        self.assertIn("-s", said)
        self.daemon(b"").vanish()
        self.assertIn("the one that made it has ended", self.said("status", code=69))

    @unittest.skipUnless(os.geteuid() == 0, "root alone can become somebody else")
    def test_a_closed_socket_names_its_group(self):
        program = os.path.join(self.folder, "warren")
        shutil.copy(WARREN, program)
        os.chmod(self.folder, 0o755)
        self.daemon(line(sample("healthy")))
        for closed, mode in ((self.path, 0o660), (self.folder, 0o750)):
            os.chmod(closed, mode)
            os.chown(closed, 0, 1)  # a system group of every distribution
            done = self.as_nobody(program)
            self.assertEqual(done.returncode, 77, done.stderr)
            self.assertIn(f"you may not use {closed}: it takes root, or a member of group daemon",
                          done.stderr.decode())

    def as_nobody(self, program):
        fd = os.open(program, os.O_RDONLY)
        try:
            return subprocess.run([f"/proc/self/fd/{fd}", "status", "-s", self.path], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=PATIENCE, pass_fds=(fd,), user=NOBODY,
                                  group=NOBODY, extra_groups=[])
        finally:
            os.close(fd)

    def test_the_socket_is_found_by_itself(self):
        self.daemon(line(sample("healthy")))
        self.environment["RUNTIME_DIRECTORY"] = f"{self.folder}:/elsewhere"
        self.warren("status", socket_option=False)
        # What has no socket is passed over, and named when nothing has one.
        os.mkdir(os.path.join(self.folder, "warren"))
        os.rename(self.path, os.path.join(self.folder, "warren", "warren.sock"))
        self.environment["XDG_RUNTIME_DIR"] = self.folder
        self.warren("status", socket_option=False)
        os.unlink(os.path.join(self.folder, "warren", "warren.sock"))
        if not os.path.exists("/run/warren/warren.sock"):
            self.assertIn(f"the socket {self.path}:", self.said("status", socket_option=False, code=69))

    def test_the_configuration_names_the_socket(self):
        config = os.path.join(self.folder, "warren.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write('control = { socket = "warren.sock"; };\n')
        self.daemon(line(sample("healthy")))
        self.warren("status", "-c", config, socket_option=False)
        with open(config, "a", encoding="utf-8") as file:
            file.write("nonsense = 1;\n")
        said = self.said("status", "-c", config, socket_option=False, code=78)
        self.assertIn(f"{config}:2: ", said)
        self.assertIn("-s SOCKET", said)

    def test_a_configuration_without_a_socket(self):
        config = os.path.join(self.folder, "warren.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write('control = { socket = ""; };\n')
        for words in (["status"], ["pause"]):
            said = self.said(*words, "-c", config, socket_option=False, code=69)
            self.assertIn("this configuration has no control socket", said)

    def test_what_is_no_answer(self):
        for raw, words in ((b"", "went away without an answer"),
                           (line(sample("healthy"))[:-30], "in the middle of its answer"),
                           (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak as warrend does"),
                           (b"\x1b[2J\xff\n", "does not speak as warrend does"), (b"[]\n", "not a JSON object"),
                           (b"[" * 100000 + b"\n", "does not speak as warrend does")):
            with self.subTest(raw[:40]):
                daemon = self.daemon(raw)
                said = self.said("status", code=69)
                self.assertIn(words, said)
                self.assertIsNone(re.search(r"[\x00-\x09\x0b-\x1f]", said))
                daemon.close()
                os.unlink(self.path)

    def test_a_refusal_has_its_words_and_code(self):
        for code in (65, 70, 75, 77):
            daemon = self.daemon(line({"ok": False, "code": code, "error": "because \x1b of\nthis"}))
            self.assertEqual(self.said("status", code=code), "warren status: because \\x1b of\\nthis\n")
            daemon.close()
            os.unlink(self.path)
        self.daemon(line({"ok": False, "code": 1e300}))
        self.said("status", code=70)

    def test_one_who_is_too_many_is_told_so(self):
        """The answer counts although the line is not read."""
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.path)
        listener.listen(1)

        def turn_away():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connection.sendall(line({"ok": False, "code": 75, "error": "16 others are served"}))
                connection.close()

        thread = threading.Thread(target=turn_away)
        thread.start()
        self.assertIn("16 others are served", self.said("status", code=75))
        thread.join()

    def test_silence_has_an_end(self):
        daemon = self.daemon(lambda *_: daemon.closing.wait(PATIENCE) and b"")
        self.assertIn("no answer from", self.said("status", code=69))

    def test_what_cannot_be_understood(self):
        for args in (["more"], ["--watch"], ["--watch=x"], ["--nonsense"]):
            self.warren("status", *args, code=64)
        self.assertIn("longer than", self.said("status", "-s", "/" + "x" * 200, code=64))


@unittest.skipUnless(has("status"), "built without jansson")
class Steering(OperatorTest):
    def test_lines_are_what_the_daemon_reads(self):
        daemon = self.daemon(line({"ok": True, "said": "it is done"}))
        for args, asked in ((["pause"], "pause"), (["pause", "images"], "pause images"),
                            (["resume", "a b%é"], "resume a%20b%25%C3%A9"), (["resume"], "resume"),
                            (["drain"], "drain"), (["drain", "--limit", "1.5s"], "drain 1500"),
                            (["reload"], "reload"), (["restart"], "restart"), (["cancel", "12.0.7"], "cancel 12.0.7"),
                            (["scale", "images", "4"], "scale images 4"), (["log", "debug"], "log debug")):
            done = self.warren(*args)
            self.assertEqual((done.stdout, done.stderr), (b"it is done\n", b""))
            self.assertEqual(daemon.lines.pop(), asked + "\n")

    def test_json_is_the_answer_as_it_came(self):
        self.daemon(b'{"ok":true,"said":"done","ended":[1,2]}\n')
        self.assertEqual(self.warren("reload", "-j").stdout, b'{"ok":true,"said":"done","ended":[1,2]}\n')

    def test_a_refused_reload_lists_every_error(self):
        self.daemon(line({"ok": False, "code": 78, "error": "the configuration was refused; the old one stays",
                          "errors": [{"file": "/etc/w.cfg", "line": 3, "text": "queues: \x1b"},
                                     {"file": "/etc/w.cfg", "line": 0, "text": "unreadable"}]}))
        self.assertEqual(self.said("reload", code=78),
                         "/etc/w.cfg:3: queues: \\x1b\n/etc/w.cfg: unreadable\n"
                         "warren reload: the configuration was refused; the old one stays\n")

    def test_refusals_have_their_codes(self):
        for code in (64, 65, 75, 77):
            daemon = self.daemon(line({"ok": False, "code": code, "error": "no queue 'x'"}))
            self.assertEqual(self.said("pause", "x", code=code), "warren pause: no queue 'x'\n")
            daemon.close()
            os.unlink(self.path)

    def test_waiting_ends_in_time(self):
        daemon = self.daemon(lambda *_: daemon.closing.wait(PATIENCE) and b"")
        said = self.said("drain", "--timeout", "300ms", code=75)
        self.assertIn("not over within 300ms. It goes on", said)
        self.assertEqual(daemon.lines, ["drain\n"])
        self.assertIn("not over within 0s", self.said("restart", "--timeout", "0", code=75))
        wait_until(lambda: daemon.lines == ["drain\n", "restart\n"], lambda: daemon.lines)

    def test_an_order_that_nobody_took_is_none(self):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.path)
        listener.listen(0)
        first = socket.socket(socket.AF_UNIX)
        self.addCleanup(first.close)
        first.connect(self.path)
        self.assertIn("nothing was ordered", self.said("restart", "--timeout", "200ms", code=75))

    def test_waiting_is_shown_on_a_terminal(self):
        over = threading.Event()
        self.daemon(lambda *_: over.wait(PATIENCE) and line({"ok": True, "said": "drained"}))
        self.addCleanup(over.set)
        shown = terminal.Terminal([WARREN, "drain", "-s", self.path], self.environment)
        self.addCleanup(shown.close)
        wait_until(lambda: "waiting until the running jobs are over (" in shown.read(), shown.read)
        over.set()
        self.assertEqual(shown.process.wait(PATIENCE), 0)
        self.assertEqual(shown.read().strip(), "drained")

    def test_what_cannot_be_understood(self):
        daemon = self.daemon(line({"ok": True, "said": ""}))
        for args in (["pause", "a", "b"], ["pause", ""], ["cancel"], ["scale", "q"], ["log"], ["reload", "now"],
                     ["pause", "--timeout", "1s"], ["reload", "--limit", "1s"], ["drain", "--limit", "soon"],
                     ["pause", "x" * 5000]):
            self.warren(*args, code=64)
        self.assertEqual(daemon.lines, [])

    def test_help_is_there_for_each(self):
        for command in ("status", "pause", "resume", "drain", "reload", "restart", "cancel", "scale", "log"):
            out = self.warren(command, "--help", socket_option=False).stdout.decode()
            self.assertTrue(out.startswith(f"usage: warren {command}"))
            self.assertIn("Exit: 0", out)
            self.assertLessEqual(max(map(len, out.split("\n"))), 100)


class TerminalTest(OperatorTest):
    def setUp(self):
        super().setUp()
        description = terminal.compile_description(self.folder)
        if not description:
            self.skipTest("tic is not installed")
        self.environment.update(TERM="warren-test", TERMINFO=description, LC_ALL="C.UTF-8")
        self.status = sample("healthy")
        self.order = {"ok": True, "said": "so be it"}
        self.scripted = self.daemon(
            lambda _, asked: line(self.status if asked == "status\n" else self.order))

    def start(self, command, *args, rows=24, columns=80):
        shown = terminal.Terminal([WARREN, command, "-s", self.path, *args], self.environment, rows, columns)
        self.addCleanup(shown.close)
        return shown

    def sees(self, shown, *texts):
        wait_until(lambda: all(text in shown.read() for text in texts), lambda: f"{texts} in\n{shown.read()}")

    def sees_no(self, shown, text):
        wait_until(lambda: text not in shown.read(), lambda: f"no '{text}' in\n{shown.read()}")

    def ends(self, shown, code):
        wait_until(lambda: shown.read() is None or shown.process.poll() is not None, shown.read)
        self.assertEqual(shown.process.returncode, code)
        self.assertTrue(shown.is_restored(), shown.raw[-200:])


@unittest.skipUnless(has("status"), "built without jansson")
class StatusOnATerminal(TerminalTest):
    def test_colours_are_for_terminals_that_want_them(self):
        self.status = sample("queue-gone")
        for more, colour in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            with self.subTest(more):
                self.environment.update(more)
                shown = self.start("status", rows=60)
                self.assertEqual(shown.process.wait(PATIENCE), 1)
                self.assertIn("1 error", shown.read())
                self.assertEqual(b"\x1b[" in shown.raw, colour)
        self.assertNotIn(b"\x1b", self.warren("status", code=1).stdout)

    def test_a_wide_terminal_has_tables_in_one_piece(self):
        shown = self.start("status", rows=60, columns=200)
        self.assertEqual(shown.process.wait(PATIENCE), 0)
        self.assertEqual(shown.read().count("QUEUE    STATE"), 1)
        self.assertRegex(shown.read(), "QUEUE    STATE .* RETRIED .* RUN p50")

    def test_watch_goes_on_while_the_daemon_is_away(self):
        shown = self.start("status", "--watch=1", rows=60, columns=250)
        self.sees(shown, "all is as configured", "every 1 s")
        self.scripted.vanish()
        self.sees(shown, "the one that made it has ended")
        self.sees_no(shown, "all is as configured")
        os.unlink(self.path)
        self.scripted.listen()
        self.sees(shown, "all is as configured")
        shown.keys("\x03")
        self.assertEqual(shown.process.wait(PATIENCE), -signal.SIGINT)


@unittest.skipUnless(has("top"), "built without jansson or ncursesw")
class Top(TerminalTest):
    def test_shows_queues_and_threads(self):
        shown = self.start("top")
        self.sees(shown, "all is as configured", "[queues]", "3 of 3, by QUEUE up", "> images", "  reports")
        shown.keys("\t")
        self.sees(shown, "[threads]", "5 of 5 busy, 12 in all, by AGE down", "> 0/5", "report.month", "37%")
        shown.keys("q")
        self.ends(shown, 0)

    def test_is_live(self):
        shown = self.start("top")
        self.sees(shown, "all is as configured")
        self.status = sample("queue-gone")
        self.sees(shown, "1 error", "ERROR    queue mail: not consuming", "NOT CONSUMED")
        shown.keys("!")
        self.sees(shown, "remedy: create the queue", "healed 5.0 s ago")
        shown.keys("q")
        self.sees(shown, "[queues]")

    def test_sorts_filters_and_turns_columns(self):
        shown = self.start("top")
        self.sees(shown, "by QUEUE up")
        shown.keys("sss")
        self.sees(shown, "by READY down")
        rows = re.findall(r"^[> ] (images|mail|reports)", shown.read(), re.M)
        self.assertEqual(rows, ["images", "reports", "mail"])
        shown.keys("r")
        self.sees(shown, "by READY up")
        self.assertEqual(re.findall(r"^[> ] (images|mail|reports)", shown.read(), re.M), rows[::-1])
        self.sees(shown, "> images")  # it stays chosen
        shown.keys("/")
        self.sees(shown, "rows with: _")
        shown.keys("Maié\x7f\n")
        self.sees(shown, "1 of 3", "with 'Mai'", "> mail")
        self.sees_no(shown, "reports")
        shown.keys(terminal.ESCAPE)
        self.sees(shown, "3 of 3", "reports")
        shown.keys(terminal.RIGHT)
        self.sees(shown, "RETRIED")
        shown.keys(terminal.RIGHT)
        self.sees(shown, "RUN p50")
        shown.keys(terminal.LEFT + terminal.LEFT)
        self.sees(shown, "CONSUM")

    def test_looks_at_one(self):
        shown = self.start("top", rows=60)
        self.sees(shown, "> images")
        shown.keys("\n")
        self.sees(shown, "tasks of queue images", "img.crop", "counts retried", "41")
        shown.keys("\x1b")
        self.sees(shown, "> images")
        shown.keys("\t\n")
        self.sees(shown, "job attempt", "1m 11s", "2026-10")

    def test_help_scrolls(self):
        shown = self.start("top", rows=10)
        self.sees(shown, "> images")
        shown.keys("?")
        self.sees(shown, "Keys", "Up Down")
        shown.keys(terminal.PAGE_DOWN * 3)
        self.sees(shown, "back, or quit")

    def test_asks_before_it_steers(self):
        shown = self.start("top")
        self.sees(shown, "> images")
        shown.keys(terminal.DOWN + b"p")
        self.sees(shown, "pause queue mail? y/n")
        shown.keys("n")
        self.sees(shown, "nothing was done")
        shown.keys("p")
        self.sees(shown, "pause queue mail? y/n")
        shown.keys("y")
        self.sees(shown, "so be it")
        self.order = {"ok": False, "code": 65, "error": "no such \x1b[2Jqueue"}
        shown.keys("uy")
        self.sees(shown, "no such \\x1b[2Jqueue")
        self.assertEqual(self.scripted.orders(), ["pause mail\n", "resume mail\n"])
        shown.keys("c")
        self.sees(shown, "choose a thread that has a job first")
        shown.keys("\tc")
        self.sees(shown, "cancel job 4030.5.12 (report.month)? y/n")
        shown.keys("y")
        wait_until(lambda: self.scripted.orders()[-1] == "cancel 4030.5.12\n", self.scripted.orders)

    def test_follows_the_size_of_the_terminal(self):
        shown = self.start("top")
        self.sees(shown, "> images")
        for rows, columns in ((30, 200), (5, 30), (2, 10), (1, 1), (24, 80)):
            shown.read()
            shown.resize(rows, columns)
            wait_until(lambda: shown.read().strip(), lambda: f"something on {rows}x{columns}")
        self.sees(shown, "> images", "DEAD-Q")
        shown.resize(30, 200)
        self.sees(shown, "> images", "RETRIED", "RUN p50")

    def test_a_daemon_that_goes_away_comes_back(self):
        shown = self.start("top")
        self.sees(shown, "all is as configured")
        self.scripted.vanish()
        self.sees(shown, "NO ANSWER", "the one that made it has ended", "> images")
        os.unlink(self.path)
        self.sees(shown, "there is no such file")
        self.scripted.listen()
        self.sees(shown, "all is as configured")
        self.sees_no(shown, "NO ANSWER")

    def test_keys_work_while_the_daemon_is_silent(self):
        shown = self.start("top")
        self.sees(shown, "> images")
        self.scripted.answer = lambda *_: self.scripted.closing.wait(PATIENCE) and b""
        wait_until(lambda: len(self.scripted.lines) > 1, lambda: self.scripted.lines)
        shown.keys("\t")
        self.sees(shown, "[threads]")
        shown.keys("q")
        self.ends(shown, 0)

    def test_hostile_names_stay_text(self):
        self.status = sample("hostile-names")
        shown = self.start("top", rows=40, columns=120)
        self.sees(shown, r"\x1b[2J\x1b]0;owned", "日本語", "1 error")
        shown.keys(terminal.DOWN + b"\n")
        self.sees(shown, "counts taken")
        shown.keys("q\t" + "s" * 5)
        self.sees(shown, "[threads]")
        shown.keys("!")
        self.sees(shown, "why: 404")
        shown.keys("qq")
        self.ends(shown, 0)

    def test_two_hundred_queues_scroll(self):
        model = self.status["queues"][1]
        self.status["queues"] = [dict(model, queue=f"q{i}") for i in range(200)]
        shown = self.start("top")
        self.sees(shown, "200 of 200", "> q0", "  q10")
        shown.keys(terminal.END)
        self.sees(shown, "> q199", "  q198")
        self.sees_no(shown, "q10 ")
        shown.keys(terminal.UP)
        self.sees(shown, "> q198", "  q199")

    def test_the_terminal_is_restored_whatever_happens(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT):
            with self.subTest(number.name):
                shown = self.start("top")
                self.sees(shown, "> images")
                self.assertTrue(shown.screen.alternate)
                shown.process.send_signal(number)
                self.ends(shown, -number)

    def test_a_common_terminal_is_restored(self):
        self.environment.update(TERM="xterm-256color")
        del self.environment["TERMINFO"]
        shown = self.start("top")
        wait_until(lambda: b"images" in self.raw_of(shown), lambda: shown.raw)
        shown.keys("q")
        self.assertEqual(shown.process.wait(PATIENCE), 0)
        self.assertRegex(self.raw_of(shown)[-100:], rb"\x1b\[\?1049l")

    def raw_of(self, shown):
        with contextlib.suppress(ValueError):
            shown.read()
        return shown.raw

    def test_where_it_cannot_draw(self):
        self.assertIn("draws on a terminal", self.said("top", code=71))
        self.environment["TERM"] = "no-such-terminal"
        shown = self.start("top")
        self.assertEqual(shown.process.wait(PATIENCE), 71)
        self.assertIn("TERM=no-such-terminal", shown.read())
        self.scripted.close()
        self.assertIn("has ended", self.said("top", code=69))
        self.warren("top", "more", code=64)


if __name__ == "__main__":
    unittest.main()
