"""warrend as a process, without a broker: options, exit codes, signals, reload, readiness, death.

WARREN_BUILD names the build folder whose warrend is tested. The broker's address is a loopback port that
nobody listens on: workers open their plugins and go on trying to connect.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import canary

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("WARREN_BUILD", os.path.join(ROOT, "build"))
WARREND = os.path.join(BUILD, "src", "warrend")
PLUGINS = os.path.join(BUILD, "lib", "warren", "plugins")
PATIENCE = 20  # seconds that anything may take before a test calls it lost

CONFIG = """
broker = { urls = [ "amqp://%(login)s@127.0.0.1:%(port)d/%%2f" ]; };
plugins = { directory = "%(plugins)s"; load = ( { file = "upper.so"; } ); };
queues = ( { name = "q"; task = "text.upper"; threads = 2; } );
workers = { processes = %(processes)d; drain_limit = "%(drain)s"; start_limit = "%(start)s"; };
log = { level = "debug"; };
"""


def closed_port():
    """A port that was free a moment ago; bound and closed, so that nobody listens on it."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, what, patience=PATIENCE):
    """Waits until the condition gives something true, and returns that."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("waited %d s for %s" % (patience, what))


def children(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def is_there(pid):
    """Runs, in whatever state but dead."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


class Daemon:
    """One running warrend; its log lines are read as they come."""

    def __init__(self, args, **kwargs):
        self.lines = []
        self.process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True, **kwargs)
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.decode())

    def events(self, name):
        return [line for line in self.lines if " event=%s " % name in line + " "]

    def wait_event(self, name, count=1, patience=PATIENCE):
        wait_for(lambda: len(self.events(name)) >= count or self.process.poll() is not None,
                 "event=%s\n%s" % (name, "".join(self.lines[-30:])), patience)
        found = self.events(name)
        assert len(found) >= count, "no event=%s:\n%s" % (name, "".join(self.lines))
        return found[-1]

    def workers(self):
        return [p for p in children(self.pid) if "warren: worker" in title(p)]

    def wait_workers(self, count, but=()):
        """Waits until exactly so many worker processes are there, none of them one of `but`."""
        def settled():
            found = self.workers()
            return found if len(found) == count and not set(found) & set(but) else None
        return wait_for(settled, "%d workers\n%s" % (count, "".join(self.lines[-30:])))

    def kill(self, signum):
        self.process.send_signal(signum)

    def wait(self, patience=PATIENCE):
        code = self.process.wait(patience)
        self.reader.join(patience)
        return code

    def end(self):
        """Whatever the test did: nothing stays behind."""
        left = children(self.pid)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in left:
            wait_for(lambda: not is_there(pid), "the end of %d" % pid)
        self.reader.join()
        self.process.stderr.close()


def title(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().decode(errors="replace")
    except OSError:
        return ""


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="warren-test-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.path = os.path.join(self.dir, "warren.cfg")
        self.write()

    def write(self, text=CONFIG, mode=0o600, processes=2, drain="2s", start="15s"):
        values = dict(login=canary.LOGIN, port=closed_port(), plugins=PLUGINS, processes=processes, drain=drain,
                      start=start)
        with open(self.path, "w") as f:
            f.write(text % values)
        os.chmod(self.path, mode)

    def run_warrend(self, *args):
        done = subprocess.run([WARREND, *args], stdin=subprocess.DEVNULL, timeout=PATIENCE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertFalse(canary.sings(done.stdout + done.stderr), "warrend shows the password")
        return done

    def start(self, *args, prefix=(), pass_fds=(), **environment):
        daemon = Daemon([*prefix, WARREND, "-c", self.path, *args], pass_fds=pass_fds,
                        env={**os.environ, "RUNTIME_DIRECTORY": self.dir, **environment})
        self.addCleanup(self.check_secret, daemon)
        self.addCleanup(daemon.end)
        return daemon

    def check_secret(self, daemon):
        self.assertFalse(canary.sings("".join(daemon.lines)), "the log shows the password")

    def start_ready(self, *args, **kwargs):
        daemon = self.start(*args, **kwargs)
        daemon.wait_event("worker.loaded", 2)
        return daemon


class Options(Case):
    def test_help_shows_options_and_examples(self):
        done = self.run_warrend("-h")
        self.assertEqual(done.returncode, 0)
        for word in ("--require-broker", "Examples:", "HUP", "-t"):
            self.assertIn(word, done.stdout)
        self.assertNotIn("--worker", done.stdout)

    def test_version(self):
        done = self.run_warrend("-V")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^warrend \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_64(self):
        for args in (["-x"], ["--nope"], ["-c"], ["stray"], ["--worker", "x"], ["--worker", "0"],
                     ["--check-plugins"]):
            done = self.run_warrend(*args)
            self.assertEqual(done.returncode, 64, args)
            self.assertTrue(done.stderr, args)

    def test_a_reader_that_is_gone_is_not_success(self):
        with open("/dev/full", "w") as full:
            self.assertEqual(subprocess.run([WARREND, "-h"], stdout=full).returncode, 71)

    def test_standard_descriptors_may_be_closed(self):
        for args in ("-V", "-t -c " + self.path):
            done = subprocess.run(["sh", "-c", "exec %s %s <&- >&- 2>&-" % (WARREND, args)],
                                  timeout=PATIENCE)
            self.assertEqual(done.returncode, 0)


class Check(Case):
    def test_a_good_one_is_fine(self):
        done = self.run_warrend("-t", "-c", self.path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "configuration %s is fine\n" % self.path)

    def test_a_syntax_error_has_file_and_line(self):
        self.write("\n\nbroker = { urls = = };\n")
        done = self.run_warrend("-t", "-c", self.path)
        self.assertEqual(done.returncode, 78)
        self.assertRegex(done.stderr, "^%s:3: " % re.escape(self.path))
        self.assertEqual(done.stdout, "")

    def test_all_errors_at_once(self):
        self.write(CONFIG + "nonsense = 1;\nmore = 2;\n")
        done = self.run_warrend("-t", "-c", self.path)
        self.assertEqual(done.returncode, 78)
        self.assertIn("warren.cfg:7: ", done.stderr)
        self.assertIn("warren.cfg:8: ", done.stderr)

    def test_a_missing_plugin_has_file_and_line(self):
        self.write(CONFIG.replace("upper.so", "no-such.so"))
        done = self.run_warrend("-t", "-c", self.path)
        self.assertEqual(done.returncode, 78)
        self.assertIn("warren.cfg:3: ", done.stderr)
        self.assertIn("no-such.so", done.stderr)

    def test_a_missing_file(self):
        self.assertEqual(self.run_warrend("-t", "-c", self.path + ".not").returncode, 78)

    def test_a_file_that_others_may_write_is_refused(self):
        os.chmod(self.path, 0o666)
        done = self.run_warrend("-t", "-c", self.path)
        self.assertEqual(done.returncode, 77)
        self.assertIn(self.path, done.stderr)


class Start(Case):
    def test_a_bad_configuration_ends_it_with_file_and_line(self):
        self.write("\nbroker = = ;\n")
        daemon = self.start()
        self.assertEqual(daemon.wait(), 78)
        self.assertIn("%s:2: " % self.path, "".join(daemon.lines))

    def test_a_bad_plugin_ends_it_with_file_and_line(self):
        self.write(CONFIG.replace("upper.so", "no-such.so"))
        daemon = self.start()
        self.assertEqual(daemon.wait(), 78)
        self.assertIn("%s:3: " % self.path, "".join(daemon.lines))
        self.assertEqual(daemon.events("worker.started"), [])

    def test_wrong_permissions_end_it(self):
        os.chmod(self.path, 0o666)
        self.assertEqual(self.start().wait(), 77)

    def test_workers_have_a_name_and_nothing_that_is_not_theirs(self):
        with tempfile.TemporaryFile() as stray:
            os.set_inheritable(stray.fileno(), True)
            daemon = self.start_ready(pass_fds=[stray.fileno()], WATCHDOG_USEC="0", LISTEN_FDS="1")
            inode = os.fstat(stray.fileno()).st_ino
            for number, pid in enumerate(daemon.workers()):
                self.assertEqual(title(pid).rstrip("\0"), "warren: worker %d" % number)
                self.assertEqual(os.readlink("/proc/%d/fd/0" % pid), "/dev/null")
                for fd in os.listdir("/proc/%d/fd" % pid):
                    try:
                        self.assertNotEqual(os.stat("/proc/%d/fd/%s" % (pid, fd)).st_ino, inode)
                    except FileNotFoundError:
                        pass  # closed meanwhile
                with open("/proc/%d/environ" % pid) as f:
                    self.assertNotRegex(f.read(), "NOTIFY_SOCKET|WATCHDOG|LISTEN_FDS")

    def test_without_a_broker_it_goes_on(self):
        daemon = self.start_ready()
        daemon.wait_event("daemon.ready")
        self.assertIsNone(daemon.process.poll())

    def test_require_broker_is_69(self):
        self.write(start="1s")
        daemon = self.start("--require-broker")
        self.assertEqual(daemon.wait(), 69)
        daemon.wait_event("daemon.no-broker")


class Stop(Case):
    def check_gone(self, daemon, code=0):
        workers = daemon.workers()
        self.assertEqual(daemon.wait(), code, "".join(daemon.lines))
        self.assertEqual([p for p in workers if is_there(p)], [])
        daemon.wait_event("daemon.stopped")

    def test_each_signal_alone(self):
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            daemon = self.start_ready()
            daemon.kill(signum)
            self.check_gone(daemon)

    def test_many_signals_mixed(self):
        daemon = self.start_ready()
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGHUP,
                       signal.SIGQUIT, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGPIPE):
            daemon.kill(signum)
        self.check_gone(daemon)

    def test_hup_after_term_is_ignored(self):
        self.write(drain="5s")
        daemon = self.start_ready()
        worker = daemon.workers()[0]
        os.kill(worker, signal.SIGSTOP)  # so that the stop takes a moment
        daemon.kill(signal.SIGTERM)
        daemon.wait_event("daemon.stopping")
        daemon.kill(signal.SIGHUP)
        daemon.wait_event("reload.ignored")
        os.kill(worker, signal.SIGCONT)
        self.check_gone(daemon)
        self.assertEqual(daemon.events("reload.started"), [])

    def test_hup_then_term(self):
        daemon = self.start_ready()
        daemon.kill(signal.SIGHUP)
        daemon.kill(signal.SIGTERM)
        self.check_gone(daemon)

    def test_a_signal_in_the_first_milliseconds(self):
        for step in range(30):
            daemon = self.start()
            until = time.monotonic() + step / 1000
            while time.monotonic() < until:
                pass
            daemon.kill(signal.SIGTERM)
            code = daemon.wait()
            if code == -signal.SIGTERM:  # before main: not even its first line was written
                self.assertEqual(daemon.lines, [])
            else:
                self.assertEqual(code, 0)

    def test_a_frozen_worker_is_killed_in_the_end(self):
        self.write(drain="1s", processes=1)
        daemon = self.start()
        daemon.wait_event("worker.loaded")
        os.kill(daemon.workers()[0], signal.SIGSTOP)
        daemon.kill(signal.SIGTERM)
        self.check_gone(daemon)
        daemon.wait_event("worker.killed")


class Death(Case):
    def test_a_killed_worker_is_replaced(self):
        daemon = self.start_ready()
        workers = daemon.workers()
        os.kill(workers[0], signal.SIGKILL)
        line = daemon.wait_event("worker.exited")
        self.assertIn("pid=%d " % workers[0], line)
        self.assertIn("signal=9 ", line)
        new = daemon.wait_workers(2, but=workers[:1])
        self.assertIn(workers[1], new)
        daemon.wait_event("worker.loaded", 3)

    def test_a_frozen_worker_is_noticed_and_replaced(self):
        self.write(processes=1)
        daemon = self.start()
        daemon.wait_event("worker.loaded")
        frozen = daemon.workers()[0]
        os.kill(frozen, signal.SIGSTOP)
        self.assertIn("signal=ABRT", daemon.wait_event("worker.unresponsive", patience=30))
        daemon.wait_event("worker.killed")
        daemon.wait_workers(1, but=[frozen])

    def test_backoff_grows_while_nothing_works(self):
        self.write(processes=1)
        daemon = self.start()
        for count in range(1, 4):
            daemon.wait_event("worker.loaded", count)
            os.kill(daemon.wait_workers(1)[0], signal.SIGKILL)
            daemon.wait_event("worker.exited", count)
        waits = [re.search("failures=(\\d+)", line).group(1)
                 for line in daemon.events("worker.exited")]
        self.assertEqual(waits, ["1", "2", "3"])

    def test_workers_do_not_outlive_the_supervisor(self):
        daemon = self.start_ready()
        workers = daemon.workers()
        self.assertEqual(len(workers), 2)
        daemon.kill(signal.SIGKILL)
        for pid in workers:
            wait_for(lambda: not is_there(pid), "the end of worker %d" % pid, patience=2)

    def test_a_frozen_orphan_leaves_when_it_thaws(self):
        self.write(processes=1)
        daemon = self.start()
        daemon.wait_event("worker.loaded")
        worker = daemon.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        daemon.kill(signal.SIGKILL)
        daemon.process.wait()
        os.kill(worker, signal.SIGCONT)
        wait_for(lambda: not is_there(worker), "the end of worker %d" % worker, patience=2)

    def test_sigterm_to_a_worker_means_nothing(self):
        daemon = self.start_ready()
        workers = daemon.workers()
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        os.kill(workers[0], signal.SIGKILL)  # something to wait for
        daemon.wait_event("worker.loaded", 3)
        self.assertIn(workers[1], daemon.workers())
        self.assertEqual(len(daemon.events("worker.exited")), 1)


class Reload(Case):
    def test_a_good_one_replaces_the_workers(self):
        daemon = self.start_ready()
        old = daemon.workers()
        self.write(processes=3)
        daemon.kill(signal.SIGHUP)
        daemon.wait_event("reload.done")
        daemon.wait_workers(3, but=old)
        daemon.wait_event("generation.gone")

    def check_refused(self, daemon, line):
        old = daemon.workers()
        daemon.kill(signal.SIGHUP)
        refused = daemon.wait_event("reload.refused")
        self.assertIn("file=%s " % self.path, refused)
        self.assertIn("line=%d " % line, refused)
        self.assertEqual(daemon.workers(), old)
        self.assertIsNone(daemon.process.poll())

    def test_a_bad_configuration_is_refused(self):
        daemon = self.start_ready()
        self.write("\n\n\nqueues = = ;\n")
        self.check_refused(daemon, 4)

    def test_a_bad_plugin_is_refused(self):
        daemon = self.start_ready()
        self.write(CONFIG.replace("upper.so", "no-such.so"))
        self.check_refused(daemon, 3)

    def test_after_a_refusal_a_good_one_works(self):
        daemon = self.start_ready()
        self.write("nonsense\n")
        daemon.kill(signal.SIGHUP)
        daemon.wait_event("reload.refused")
        self.write()
        daemon.kill(signal.SIGHUP)
        daemon.wait_event("reload.done")

    def test_many_leave_nothing_behind(self):
        daemon = self.start_ready()
        before = descriptors(daemon.pid)
        for count in range(30):
            daemon.kill(signal.SIGHUP)
            wait_for(lambda: len(daemon.events("signal")) > count, "the signal to be read")
        wait_for(lambda: daemon.events("reload.started")
                 and len(daemon.events("generation.gone")) == len(daemon.events("reload.started")),
                 "the last reload\n" + "".join(daemon.lines[-20:]))
        daemon.wait_workers(2)
        self.assertEqual(descriptors(daemon.pid), before)
        self.assertEqual(daemon.events("worker.unresponsive"), [])

    def test_signals_to_the_whole_group_reach_the_supervisor_alone(self):
        daemon = self.start_ready()
        os.killpg(daemon.pid, signal.SIGHUP)
        daemon.wait_event("reload.done")
        daemon.wait_event("generation.gone")
        os.killpg(daemon.pid, signal.SIGINT)
        self.assertEqual(daemon.wait(), 0)
        self.assertFalse([line for line in daemon.events("worker.exited") if "signal=" in line])


class ServiceManager(Case):
    """The other end of NOTIFY_SOCKET."""

    def listen(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE)

    def start_notified(self, name, **more):
        return self.start(NOTIFY_SOCKET=name, **more)

    def receive(self, first):
        """The next datagram that begins with the word; what comes before is skipped."""
        while True:
            text = self.socket.recv(4096).decode()
            if text.startswith(first):
                return text

    def check_life(self, daemon):
        self.receive("READY=1")
        self.receive("STATUS=0 of 2 worker processes consuming")
        daemon.kill(signal.SIGHUP)
        self.assertRegex(self.receive("RELOADING=1"), r"\nMONOTONIC_USEC=\d+$")
        self.receive("READY=1")
        daemon.wait_event("reload.done")
        daemon.kill(signal.SIGTERM)
        self.receive("STOPPING=1")
        self.assertEqual(daemon.wait(), 0)

    def test_a_path(self):
        path = os.path.join(self.dir, "notify")
        self.listen(path)
        self.check_life(self.start_notified(path))

    def test_an_abstract_name(self):
        name = "warren-test-%d" % os.getpid()
        self.listen("\0" + name)
        self.check_life(self.start_notified("@" + name))

    def test_a_refused_reload_is_ready_again(self):
        path = os.path.join(self.dir, "notify")
        self.listen(path)
        daemon = self.start_notified(path)
        self.receive("READY=1")
        self.write("nonsense\n")
        daemon.kill(signal.SIGHUP)
        self.receive("RELOADING=1")
        self.receive("READY=1")
        daemon.wait_event("reload.refused")

    def test_the_watchdog_is_fed(self):
        path = os.path.join(self.dir, "notify")
        self.listen(path)
        self.start_notified(path, WATCHDOG_USEC="200000")
        self.receive("WATCHDOG=1")
        begin = time.monotonic()
        for _ in range(5):
            self.receive("WATCHDOG=1")
        self.assertLess(time.monotonic() - begin, 5 * 0.2)

    def test_the_watchdog_of_somebody_else_is_not(self):
        path = os.path.join(self.dir, "notify")
        self.listen(path)
        daemon = self.start_notified(path, WATCHDOG_USEC="1000", WATCHDOG_PID="1")
        daemon.wait_event("worker.loaded", 2)
        daemon.kill(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.socket.setblocking(False)
        with self.assertRaises(BlockingIOError):
            self.receive("WATCHDOG=1")

    def test_nobody_listens(self):
        daemon = self.start_notified(os.path.join(self.dir, "nobody"))
        daemon.wait_event("worker.loaded", 2)
        daemon.kill(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)


class FirstProcess(Case):
    UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

    def setUp(self):
        super().setUp()
        try:
            allowed = subprocess.run([*self.UNSHARE, "true"], stderr=subprocess.DEVNULL,
                                     timeout=PATIENCE).returncode == 0
        except OSError:
            allowed = False
        if not allowed:
            self.skipTest("unshare is not permitted here")

    def test_it_stops_at_sigterm_and_reaps_orphans(self):
        script = '(sleep 0.3 &); exec "$@"'
        daemon = self.start(prefix=[*self.UNSHARE, "sh", "-c", script, "sh"])
        daemon.wait_event("worker.loaded", 2)
        self.assertIn(" pid=1 ", daemon.wait_event("daemon.started"))
        first = children(daemon.pid)[0]
        wait_for(lambda: len(children(first)) == 2, "the orphan to be reaped")
        os.kill(first, signal.SIGHUP)
        daemon.wait_event("reload.done")
        os.kill(first, signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        daemon.wait_event("daemon.stopped")


if __name__ == "__main__":
    unittest.main(verbosity=2)
