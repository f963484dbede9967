"""What all parts of bench/run share: where things are, who takes part, queues, a contestant at work, rounds, tables."""

import collections
import contextlib
import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

import pika

from stand import PATIENCE, ROOT, Failed, bound, cpu_ns, fail, wait_until
from table import print_table_of

CLIENTS = os.path.join(ROOT, "bench", "clients")
BODY_BYTES = 128
WARM_UP = 0.3
MOST_STOCK = 4_000_000
YARDSTICK = "bare inline"


def say(text):
    print(text, file=sys.stderr, flush=True)


def do(*command, **options):
    """Runs a step of the preparations; its output is no part of the tables."""
    subprocess.run(bound(command), check=True, stdout=sys.stderr, **options)


def output_of(*command):
    return subprocess.run(bound(command), check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Site:
    """Where things are: the build folder, what is made for the clients in it, and a folder that goes with the run."""

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.made = os.path.join(build, "clients")
        self.plugins = os.path.join(folder, "plugins")
        self.warren, self.warrend = (os.path.join(build, "src", name) for name in ("warren", "warrend"))
        self.bare, self.probe = (os.path.join(build, "bench", name) for name in ("bare", "probe"))
        self.go = os.path.join(self.made, "consume-go")
        self.js = os.path.join(self.made, "js")

    def make(self):
        do("cmake", "--preset", "release", "-B", self.build, "-DWARREN_BENCH=ON", "-DBUILD_TESTING=OFF", cwd=ROOT)
        do("cmake", "--build", self.build, "--parallel", str(os.cpu_count()))
        os.makedirs(self.made, exist_ok=True)
        # warrend takes plugins only from folders that nobody else can write to, which a build tree need not be.
        os.mkdir(self.plugins, 0o700)
        for name in "noop", "stamp", "work":
            shutil.copy(os.path.join(self.build, "lib", "warren", "plugins", f"{name}.so"), self.plugins)


def prepare_go(site):
    do("go", "build", "-o", site.go, os.path.join(CLIENTS, "consume.go"),
       env={**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": os.path.join(site.made, "go-cache")})


def prepare_js(site):
    os.makedirs(site.js, exist_ok=True)
    for name in "consume.js", "package.json", "package-lock.json":
        shutil.copy(os.path.join(CLIENTS, name), site.js)
    do("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline",
       "--cache", os.path.join(site.made, "npm-cache"), cwd=site.js)


def warrend(site, url, queue, count, task="bench.noop", plugin='file = "noop.so";', level="warn", prefetch=1):
    config = os.path.join(site.folder, "warren.cfg")
    with open(config, "w", encoding="ascii") as file:
        file.write(f"""broker = {{ urls = [ "{url}" ]; }};
plugins = {{ directory = "{site.plugins}"; load = ( {{ {plugin} }} ); }};
queues = ( {{ name = "{queue}"; task = "{task}"; threads = {count}; durable = false; prefetch = {prefetch};
              retry = {{ attempts = 1; }}; dead_letter = ""; }} );
control = {{ socket = ""; }};
log = {{ level = "{level}"; }};
""")
    return [site.warrend, "-c", config]


@dataclasses.dataclass
class Contestant:
    """A program that consumes: how it is started for so many threads, channels or processes, and what it needs."""

    command: object  # of site, URL, queue and number
    packages: tuple = ()
    prepare: object = None
    queue: str = "plain"
    consumers: int = 0  # that the broker sees; as many as threads when 0
    most: int = 0  # threads; any number when 0


CONTESTANTS = {
    YARDSTICK: Contestant(lambda site, url, queue, n: [site.bare, "inline", url, queue, str(n)]),
    "bare threads": Contestant(lambda site, url, queue, n: [site.bare, "threads", url, queue, str(n)]),
    "warren": Contestant(warrend),
    "Go amqp091-go": Contestant(
        lambda site, url, queue, n: [site.go, url, queue, str(n)],
        ("golang-go", "golang-github-rabbitmq-amqp091-go-dev"), prepare_go),
    "Node amqplib": Contestant(
        lambda site, url, queue, n: ["node", os.path.join(site.js, "consume.js"), url, queue, str(n)],
        ("nodejs", "npm"), prepare_js),
    "Python pika": Contestant(
        lambda _, url, queue, n: [sys.executable, os.path.join(CLIENTS, "consume.py"), url, queue, str(n)]),
    "Ruby Bunny": Contestant(
        lambda _, url, queue, n: ["/usr/bin/ruby", os.path.join(CLIENTS, "consume.rb"), url, queue, str(n)], ("ruby-bunny",)),
    "Celery": Contestant(
        lambda _, url, queue, n: [sys.executable, os.path.join(CLIENTS, "celery_app.py"), url, queue, str(n)],
        ("celery",), queue="celery", consumers=1),
    "amqp-consume": Contestant(
        # A program that does not read the body, such as true, would end amqp-consume by SIGPIPE.
        lambda _, url, queue, n: ["amqp-consume", "-u", url, "-q", queue, "-p", str(n), "cat"], ("amqp-tools",), most=1),
}

# Whoever has these from elsewhere does not need Debian's packages.
PROGRAMS = {"golang-go": "go", "nodejs": "node", "npm": "npm"}


def installed(package):
    if package in PROGRAMS and shutil.which(PROGRAMS[package]):
        return True
    asked = subprocess.run(bound(["dpkg-query", "-W", "-f", "${Status}", package]), check=False, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    return asked.stdout == "install ok installed"


def install(packages):
    missing = [package for package in packages if not installed(package)]
    if missing and os.geteuid() == 0:
        with contextlib.suppress(subprocess.CalledProcessError):
            do("apt-get", "install", "-y", "--no-install-recommends", *missing,
               env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    return [package for package in missing if not installed(package)]


def gather(site, names):
    """The contestants that can take part, and why the others cannot."""
    left_out = {}
    for name in names:
        contestant = CONTESTANTS[name]
        if missing := install(contestant.packages):
            left_out[name] = "not installed: " + " ".join(missing)
            continue
        try:
            if contestant.prepare:
                contestant.prepare(site)
        except subprocess.CalledProcessError as error:
            left_out[name] = str(error)
    for name, why in left_out.items():
        say(f"\n*** LEFT OUT: {name}: {why} ***\n")
    return [name for name in names if name not in left_out], left_out


class Queue:
    """A queue of short transient messages, and how many of them a measurement needs."""

    def __init__(self, site, broker, name, stock):
        self.warren, self.url, self.name = site.warren, broker.url, name
        self.stock, self.most_stock = stock, MOST_STOCK
        self.broker_pid = broker.pid
        parameters = pika.URLParameters(broker.url)
        parameters.heartbeat = 0  # nobody answers during a measurement
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        self.channel.queue_declare(name, arguments={"x-queue-type": "classic"})  # as warrend does

    def look(self):
        """How many messages are ready, and how many consumers there are."""
        method = self.channel.queue_declare(self.name, passive=True).method
        return method.message_count, method.consumer_count

    def message(self):
        return ["x" * BODY_BYTES]

    def fill(self):
        missing = self.stock - self.look()[0]
        if missing > 0:
            subprocess.run(bound([self.warren, "publish", "-u", self.url, "-q", self.name, "--transient", "--repeat",
                                  str(missing), *self.message()]), check=True, timeout=PATIENCE + missing / 500)
        return self.look()[0]

    def empty(self):
        self.channel.queue_purge(self.name)


class CeleryQueue(Queue):
    """Its messages are tasks in the second version of Celery's protocol."""

    def message(self):
        frame = '[["{}"],{{}},{{}}]'
        return ["-H", "task=bench.noop", "-H", "id=0", "-H", "lang=py", "--content-type", "application/json",
                frame.format("x" * (BODY_BYTES - len(frame.format(""))))]


def fields_of_stat(pid):
    """Those behind the name, which may hold anything: state, parent, ..."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(") ")[2].split()


def tree(root):
    """A process and all that descend from it."""
    children = collections.defaultdict(list)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children[int(fields_of_stat(pid)[1])].append(int(pid))
    pids = [root]
    for pid in pids:
        pids += children[pid]
    return pids


def numbers(path, *names):
    """The sum of some lines of a file of /proc that has a name and a number on each."""
    with open(path, encoding="ascii", errors="replace") as file:
        return sum(int(line.split()[1]) for line in file if line.partition(":")[0] in names)


def total(pids, count):
    """Of processes of which some, as the children of amqp-consume, may have ended."""
    result = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            result += count(pid)
    return result


def cpu_with_children_ns(pid):
    """Its own and that of the children that it has waited for."""
    fields = fields_of_stat(pid)
    return cpu_ns(pid) + (int(fields[13]) + int(fields[14])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def switches(pid):
    return total(os.listdir(f"/proc/{pid}/task"), lambda thread: numbers(
        f"/proc/{pid}/task/{thread}/status", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"))


class Running:
    """A contestant at work, in a session of its own, until the with block ends."""

    def __init__(self, stack, site, name, command):
        self.name, self.log = name, os.path.join(site.folder, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                bound(command), cwd=site.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                start_new_session=True)
        stack.callback(self.kill)

    def kill(self):
        """How they end is not measured, and this is the same for all."""
        if self.process.returncode is not None:
            return  # its number may be somebody else's by now
        for pid in tree(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def alive(self):
        if (code := self.process.poll()) is not None:
            with open(self.log, encoding="utf-8", errors="backslashreplace") as log:
                fail(f"{self.name} has ended with {code}: {log.read().strip()}")

    def consumes(self, queue, filled, consumers):
        self.alive()
        ready, there = queue.look()
        return there == consumers and ready < filled


@dataclasses.dataclass
class Reading:
    ready: int
    ns: int
    cpu_ns: int
    broker_ns: int
    switches: int
    idle_s: float


def idle_s():
    """Of all processors together, since the machine began."""
    with open("/proc/stat", encoding="ascii") as file:
        return sum(map(int, file.readline().split()[4:6])) / os.sysconf("SC_CLK_TCK")


def read(queue, pids):
    ready = queue.look()[0]
    return Reading(ready, time.monotonic_ns(), total(pids, cpu_with_children_ns), cpu_ns(queue.broker_pid),
                   total(pids, switches), idle_s())


def measure_once(site, queue, name, command, consumers, seconds):
    """What has been seen, or None where the queue has run dry."""
    wait_until(lambda: queue.look()[1] == 0, "the last consumer to be gone")
    filled = queue.fill()
    with contextlib.ExitStack() as stack:
        running = Running(stack, site, name, command)
        wait_until(lambda: running.consumes(queue, filled, consumers), f"{name} to consume")
        time.sleep(WARM_UP)
        pids = tree(running.process.pid)
        first = read(queue, pids)
        time.sleep(seconds)
        last = read(queue, pids)
        if last.ready == 0:
            return None
        messages = first.ready - last.ready
        passed = (last.ns - first.ns) / 1e9
        if messages <= 0:
            fail(f"{name} has consumed nothing in {seconds:g} s")
        return {
            "messages": messages, "seconds": passed, "messages_per_s": messages / passed,
            "cpu_us": (last.cpu_ns - first.cpu_ns) / messages / 1e3,
            "broker_cpu_us": (last.broker_ns - first.broker_ns) / messages / 1e3,
            "switches": (last.switches - first.switches) / messages,
            "all_of_processors": 1 - (last.idle_s - first.idle_s) / passed / os.cpu_count(),
            "peak_mib": total(pids, lambda pid: numbers(f"/proc/{pid}/status", "VmHWM")) / 1024,
            "pss_mib": total(pids, lambda pid: numbers(f"/proc/{pid}/smaps_rollup", "Pss")) / 1024,
            "load": os.getloadavg()[0],
        }


def measure(site, queue, name, command, consumers, seconds):
    while (seen := measure_once(site, queue, name, command, consumers, seconds)) is None:
        queue.stock *= 2
        if queue.stock > queue.most_stock:
            fail(f"{name} empties the queue however many messages are in it")
    return seen


def in_turns(names, rounds, measurement, what, brief=lambda result: f"{result['messages_per_s']:.0f} messages/s"):
    """What each round has measured, and why some contestants have failed; each round begins with another contestant."""
    seen, failed = [], {}
    for number in range(1, rounds + 1):
        for i in range(len(names)):
            name = names[(number - 1 + i) % len(names)]
            if name in failed:
                continue
            try:
                result = {"name": name, "round": number, **measurement(name)}
            except (Failed, subprocess.SubprocessError) as error:
                failed[name] = f"in round {number}: {error}"
                say(f"\n*** FAILED: {what}: {name} {failed[name]} ***\n")
                continue
            seen.append(result)
            say(f"{what}, round {number} of {rounds}: {name}: {brief(result)}")
    return seen, failed


def record(report, part, what, seen, failed):
    """Into the report: what a part has measured, and who has failed while it did."""
    report[part] += [{"what": what, **result} for result in seen]
    report["failed"] += [{"part": part, "what": what, "name": name, "why": why} for name, why in failed.items()]


def show(report, table, seen, failed):
    """Records, and prints."""
    record(report, table.part, table.title, seen, failed)
    report["tables"].append(dataclasses.asdict(table))
    print_table_of(report, table)


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.partition(": ")[2].strip() for line in file if line.startswith("model name")), platform.machine())


VERSIONS = {
    "warren": lambda site: output_of(site.warren, "--version"),
    "Go amqp091-go": lambda _: output_of("go", "version") + ", amqp091-go "
                               + output_of("dpkg-query", "-W", "-f", "${Version}", "golang-github-rabbitmq-amqp091-go-dev"),
    "Node amqplib": lambda site: "node " + output_of("node", "--version") + ", amqplib " + output_of(
        "node", "-p", f"require({json.dumps(os.path.join(site.js, 'node_modules', 'amqplib', 'package.json'))}).version"),
    "Python pika": lambda _: f"Python {platform.python_version()}, pika {pika.__version__}",
    "Ruby Bunny": lambda _: output_of(
        "/usr/bin/ruby", "-e", 'require "bunny"; print "Ruby #{RUBY_VERSION}, Bunny #{Bunny::VERSION}"'),
    "Celery": lambda _: "Celery " + output_of(sys.executable, "-c", "import celery; print(celery.__version__)"),
    "amqp-consume": lambda _: output_of("dpkg-query", "-W", "-f", "amqp-tools ${Version}", "amqp-tools"),
}


def versions(site, queue, names):
    server = queue.connection._impl.server_properties  # pylint: disable=protected-access
    return {
        "broker": f"RabbitMQ {server['version']}",
        "rabbitmq-c": output_of("pkg-config", "--modversion", "librabbitmq"),
        "kernel": platform.release(), "processor": processor(), "processors": os.cpu_count(),
        **{name: VERSIONS[name](site) for name in names if name in VERSIONS},
    }
