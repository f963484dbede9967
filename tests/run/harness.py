"""warrend under test: a private broker, a virtual host for each test, and daemons that are looked after.

Everything that a test starts ends with it, whatever happens. Nothing waits for a fixed time: a test waits
for what the daemon says in its log, for what the broker holds, or for what the plugin `ledger` wrote down.
"""

import atexit
import collections
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

import pika

import broker_fixture
import canary
from broker_fixture import BUILD, PATIENCE, ROOT, BrokerTest, wait_until

WARREND = os.path.join(BUILD, "src", "warrend")
PLUGINS = os.path.join(BUILD, "lib", "warren", "plugins")
LEDGER = os.path.join(BUILD, "tests", "run", "ledger.so")
HERE = os.path.join(ROOT, "tests", "run")
MARK = "WARREN_TEST_RUN"  # in the environment of every process of a daemon under test
SANITIZER = re.compile(r"ERROR: \w*Sanitizer|WARNING: ThreadSanitizer|runtime error:|^==\d+== ", re.M)
VALGRIND = os.environ.get("WARREN_VALGRIND")
SANITIZED = bool(os.environ.get("WARREN_SANITIZER"))  # slower, and larger than it will ever be elsewhere
SLOWER = 20 if VALGRIND else 1

# No fault of warren: threads that are inside of a deaf task when their process leaves.
os.environ.setdefault("TSAN_OPTIONS", "report_thread_leaks=0")


def asan_options(more):
    """These, besides those that there are."""
    return ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), more]))


# A test that is terminated tidies up like one that is interrupted.
signal.signal(signal.SIGTERM, signal.default_int_handler)


# ---- The broker ----

class Node(broker_fixture.Broker):
    """The private node, with what these tests do to it."""

    def stop(self):
        self.script("stop")

    def restart(self):
        self.stop()
        self.start()

    def rows(self, *args):
        """What a rabbitmqctl list command says, as a list of dictionaries."""
        return json.loads(self.ctl("--formatter=json", *args))


def closed_port():
    """A port of this host that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


_node = None


def shared_node():
    global _node
    if _node is None:
        _node = Node(os.environ.get("WARREN_TEST_BROKER"))
    return _node


# ---- The configuration ----

def libconfig(value, depth=0):
    """A Python value as libconfig text: dictionaries are groups, lists of them lists, other lists arrays."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    pad = "  " * (depth + 1)
    if isinstance(value, dict):
        inner = "".join(f"{pad}{key} = {libconfig(v, depth + 1)};\n" for key, v in value.items())
        return inner if depth == 0 else "{\n" + inner + "  " * depth + "}"
    items = (",\n" + pad).join(libconfig(v, depth + 1) for v in value)
    return f"( {items} )" if any(isinstance(v, dict) for v in value) or not value else f"[ {items} ]"


def configuration(folder, urls, queues, broker=None, plugins=(), exchanges=(), **sections):
    """A whole configuration, with the plugins that ship and the one of these tests."""
    load = list(plugins) or [{"file": "print.so"}, {"file": "sleep.so"}, {"file": "upper.so"},
                             {"file": LEDGER, "options": {"file": os.path.join(folder, "ledger")}}]
    return {"broker": {"urls": urls, "heartbeat": "5s", **(broker or {})},
            "plugins": {"directory": PLUGINS, "load": load},
            "exchanges": list(exchanges), "queues": list(queues),
            "workers": {"drain_limit": "20s", "start_limit": "60s", **sections.pop("workers", {})},
            "control": {"socket": os.path.join(folder, "warren.sock")}, **sections}


# ---- The log ----

PAIR = re.compile(r'([A-Za-z0-9_.]+)=("(?:[^"\\]|\\.)*"|\S*)')


def parse_logfmt(line):
    return {key: value[1:-1].replace('\\"', '"').replace("\\\\", "\\") if value[:1] == '"' else value
            for key, value in PAIR.findall(line)}


class Lines:
    """The whole lines of a file that grows, each parsed once. Any thread may read."""

    def __init__(self, path, parse):
        self.path, self.parse, self.at, self.items = path, parse, 0, []
        self.lock = threading.Lock()

    def read(self):
        with self.lock, contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            file.seek(self.at)
            whole, newline, _ = file.read().rpartition(b"\n")
            self.at += len(whole) + len(newline)
            if newline:
                self.items += [self.parse(line.decode()) for line in whole.split(b"\n")]
        return self.items


Entry = collections.namedtuple("Entry", "what pid thread attempt redelivered ms tid verdict id")


def parse_entry(line):
    what, pid, thread, attempt, redelivered, ms, tid, verdict, name = line.split(" ", 8)
    return Entry(what, int(pid), int(thread), int(attempt), redelivered == "1", int(ms), int(tid), int(verdict), name)


# ---- The daemon ----

class ServiceManager(threading.Thread):
    """Writes down what a daemon tells NOTIFY_SOCKET."""

    def __init__(self, name, file):
        super().__init__(daemon=True)
        self.file = file
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.start()

    def run(self):
        with open(self.file, "ab", buffering=0) as out:
            while data := self.socket.recv(65536):
                out.write(data + b"\n")

    def stop(self):
        self.socket.shutdown(socket.SHUT_RD)
        self.join()
        self.socket.close()


class Warrend:
    """One warrend in a private folder: its configuration, log, standard output, what it tells the service
    manager, and ledger are files there."""

    count = 0

    def __init__(self, config, *options, environment=()):
        Warrend.count += 1
        self.mark = f"{os.getpid()}-{Warrend.count}"
        self.folder = tempfile.mkdtemp(prefix="warren-test-")
        self.config = os.path.join(self.folder, "warren.cfg")
        self.log = Lines(os.path.join(self.folder, "log"), parse_logfmt)
        self.book = Lines(os.path.join(self.folder, "ledger"), parse_entry)
        self.secrets = {self.config}  # files that may hold the password
        self.songs = []  # where else it was seen
        self.write(config)
        self.process = None
        self.manager = ServiceManager(self.path("notify"), self.path("status"))
        self.options, self.environment = options, dict(environment)
        self.prefix = ()  # a program that runs it, with arguments

    def write(self, config):
        """Writes the configuration: text as it is, or settings (a function of the private folder)."""
        text = config(self.folder) if callable(config) else config
        text = text if isinstance(text, str) else libconfig(text)
        with open(os.open(self.config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return text

    def add_secret(self, name, text):
        """A file of the private folder that may hold the password."""
        self.secrets.add(self.path(name))
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)

    def start(self):
        wrapper = ["setpriv", "--pdeathsig", "KILL"]  # should this process be killed, so is the daemon
        environment = {**os.environ, "NOTIFY_SOCKET": self.path("notify"),
                       "RUNTIME_DIRECTORY": self.folder,  # where the control socket is, if its configuration names none
                       **self.environment, MARK: self.mark}
        if VALGRIND:
            wrapper += [VALGRIND, "--trace-children=yes", "--error-exitcode=99", "--leak-check=full",
                        "--errors-for-leak-kinds=definite", "--quiet"]
            environment["LD_PRELOAD"] = os.environ["WARREN_EXEC_SELF"]
        with open(self.path("out"), "ab") as out, open(self.path("log"), "ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, *self.prefix, WARREND, *self.options, "-c", self.config], stdin=subprocess.DEVNULL, stdout=out,
                stderr=log, env=environment, start_new_session=True)
        return self

    def path(self, name):
        return os.path.join(self.folder, name)

    def text(self, name="log"):
        with open(self.path(name), errors="surrogateescape") as file:
            return file.read()

    # -- what it says --

    def events(self, event, since=0, **fields):
        """All lines of the log with that event and those fields; `since` as mark_log() gave it."""
        want = {"event": event, **{key: str(value) for key, value in fields.items()}}
        return [line for line in self.log.read()[since:] if want.items() <= line.items()]

    def mark_log(self):
        return len(self.log.read())

    def wait_for(self, event, count=1, since=0, seconds=PATIENCE, **fields):
        """Waits until the log holds `count` such lines and returns the last of them."""
        def look():
            ended = self.process.poll() is not None  # looked at first: what it says last counts
            found = self.events(event, since, **fields)
            if ended and len(found) < count:
                raise AssertionError(f"warrend ended with {self.process.returncode}")
            return found[count - 1:count]
        return self.patiently(look, f"event={event} {fields}, {count} times", seconds)[0]

    def patiently(self, condition, what, seconds=PATIENCE):
        try:
            return wait_until(condition, what, seconds * SLOWER)
        except AssertionError as failure:
            raise AssertionError(f"{what}: {failure}\n{self.text()[-4000:]}") from None

    def consuming(self, since=0, workers=1):
        for number in range(workers):
            self.wait_for("worker.consuming", 1, since, worker=number)
        return self

    # -- what it ran --

    def ledger(self, what=None, name=None):
        return [e for e in self.book.read() if what in (None, e.what) and name in (None, e.id)]

    def ran(self, name, count=1, what="end", seconds=PATIENCE):
        """Waits until the job has ended (or started) that often, and returns its lines."""
        def look():
            found = self.ledger(what, name)
            return found if len(found) >= count else None
        return self.patiently(look, f"{what} of {name}, {count} times", seconds)

    # -- what becomes of it --

    def processes(self):
        """The process ids of all that belongs to it: the supervisor, its workers, their children."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
                if f"{MARK}={self.mark}".encode() in file.read().split(b"\0"):
                    found.append(int(pid))
        return found

    def worker(self):
        """The process id of the one worker that was started last; the quarantine's is none."""
        return int([e for e in self.events("worker.started") if e["worker"] != "quarantine"][-1]["pid"])

    def quarantine(self):
        """The process id of the quarantine that was started last."""
        return int(self.wait_for("worker.started", worker="quarantine")["pid"])

    def listen(self):
        """Looks for the password in all that can be seen of the daemon from outside."""
        self.songs += canary.in_processes(self.processes())
        self.songs += canary.in_files(self.folder, but=self.secrets)

    def kill(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=PATIENCE):
        return self.process.wait(seconds * SLOWER)

    def stop(self, number=signal.SIGTERM):
        """Drains, and returns the exit code; no process may be left behind."""
        self.listen()
        self.kill(number)
        code = self.wait()
        wait_until(lambda: not self.processes(), f"no process left of {self.mark}", 10)
        return code

    def remove(self):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process:
            self.process.wait()
        if self.manager:
            self.manager.stop()
            self.manager = None
        shutil.rmtree(self.folder, ignore_errors=True)


_daemons = []


@atexit.register
def remove_all():
    for daemon in _daemons:
        daemon.remove()


# ---- The pages ----

def page(port, path):
    """Status and text of one."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20 * SLOWER) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def series(text):
    """The values of the metrics by name and labels, as they are written."""
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:{.*})?) (\S+)$", text, re.M)}


# ---- The test case ----

class WarrendTest(BrokerTest):
    """A test with daemons: self.warrend() starts one on this test's virtual host."""

    node = staticmethod(shared_node)

    def setUp(self):
        self.broker = self.node()
        super().setUp()

    def settings(self, queues, **sections):
        """A configuration as a function of the daemon's folder, for warrend() and Warrend.write()."""
        urls = sections.pop("urls", [self.url])
        return lambda folder: configuration(folder, urls, queues, **sections)

    def daemon(self, config, *options, **more):
        daemon = Warrend(config, *options, **more)
        _daemons.append(daemon)
        self.addCleanup(self.look_after, daemon)
        return daemon

    def warrend(self, queues, *options, **sections):
        """Starts a daemon and waits until it consumes; `queues` is one queue or a list of them."""
        queues = [queues] if isinstance(queues, dict) else queues
        daemon = self.daemon(self.settings(queues, **sections), *options).start()
        return daemon.consuming(workers=sections.get("workers", {}).get("processes", 1))

    def look_after(self, daemon):
        """The end of every daemon: nothing of it stays, it kept the password, and no sanitizer has complained."""
        log = daemon.text() if daemon.process else ""
        daemon.listen()
        daemon.remove()
        self.assertEqual(daemon.songs, [], "the password is seen")
        complaint = SANITIZER.search(log)
        if complaint:
            self.fail("a sanitizer complains:\n" + log[complaint.start():][:6000])

    def program(self, name, *args):
        """Runs one of the pika programs to its end and returns what it printed."""
        done = subprocess.run(["/usr/bin/python3", os.path.join(HERE, "pika", name), *args], timeout=PATIENCE,
                              stdout=subprocess.PIPE, env=self.environment(), check=True, text=True)
        return done.stdout

    def running(self, name, *args):
        """Starts a pika program that goes on; its output is a file, returned with `lines()`."""
        out = tempfile.NamedTemporaryFile("r", prefix="warren-test-")
        process = subprocess.Popen(["/usr/bin/python3", os.path.join(HERE, "pika", name), *args],
                                   stdout=out.fileno(), env=self.environment())
        self.addCleanup(out.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def lines():
            with open(out.name) as file:
                return file.read().splitlines()
        wait_until(lines, f"{name} waits for messages")
        return lines

    def consumers(self):
        return self.broker.rows("list_consumers", "-p", self.vhost, "queue_name", "prefetch_count", "ack_required")

    def gone(self, queue):
        """True when the queue is not there."""
        channel = self.connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
            channel.close()
            return False
        except pika.exceptions.ChannelClosedByBroker:
            return True
