"""The accounting of a fault: every message that was confirmed is looked for when it is over.

A row of the fault matrix is a method test_ID of a FaultTest, marked with @row. It begins with a daemon under load,
does its mischief, and ends with finish(), which checks what holds in every row:

I1  nothing is missing: each id that the broker had confirmed was done, dead-lettered, or is still queued.
I2  no more runs than the bound of the row: one for each job, and its attempt, is wanted; the others are counted.
I3  each id ends in one place: done, or dead-lettered, not both, and nothing is left in a queue.
I4  no ack without a reason: what the log calls done, dead or retry has its end line, its dead letter, its next run.
I5  within its time after the fault all consumers are back, each with its prefetch, and jobs are done.
I6  no zombies, no orphans; descriptors, threads and memory are where they were.
I7  one printed seed makes the faults of a row; what a row draws, it draws from self.random.
"""

import collections
import contextlib
import datetime
import functools
import json
import os
import random
import shutil
import signal
import threading
import time
import unittest

import pika

import node
from broker_fixture import BrokerTest, wait_until
from harness import BUILD, LEDGER, PLUGINS, SANITIZED, WarrendTest

SEED = int(os.environ.get("WARREN_SEED") or random.SystemRandom().randrange(1, 1 << 32))
SLOWER = 3 if SANITIZED else 1
FOLDER = os.path.join(BUILD, "faults")
SEEN = os.path.join(FOLDER, "seen.jsonl")

HEARTBEAT = 2  # seconds; short, so that rows are short
RECONNECT_MAX = 2  # seconds; by default it is 10
SILENCE = 2 * HEARTBEAT + 1  # a peer that says nothing for so long is given up
BACK = 4  # seconds until all consumers are back after the fault has cleared
QUIET = 90 * SLOWER  # seconds until everything that was begun must be over

DONE, RETRY, DEAD = 1, 2, 3  # verdicts, as in <warren/plugin.h>
RETRIES = {"attempts": 5, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}

_node = None


def shared_node():
    """The node that ctest started, or one of this process."""
    global _node
    if _node is None:
        _node = node.of_ctest() or node.FaultNode()
    return _node


def seconds_pass(seconds):
    """For faults that must last a while; a row does not wait so for what it expects."""
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > over, f"{seconds} s pass", seconds + 10)


def stamp(line):
    """When a line was logged, as time.time() counts."""
    return datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()


# ---- Rows ----

def row(name, must=False, own_node=False):
    """Marks a method as a row of the matrix. `must`: one of those that scripts/test runs without --all.
    `own_node`: needs nothing of the node that rows share, because it starts one of its own, or none.
    The build looks for lines that begin with @row("."""
    def mark(method):
        @functools.wraps(method)
        def run(self):
            self.begin_row(name, must, own_node)
            verdict = "failed"
            try:
                method(self)
                self.assertTrue(self.finished, "the row has not called finish()")
                verdict = "passed"
            except unittest.SkipTest as why:
                verdict = "skipped"
                self.seen(f"skipped: {why}")
                raise
            except BaseException:
                self.keep_traces()
                print(f"{name}: failed; WARREN_SEED={SEED} has the same schedule of faults", flush=True)
                raise
            finally:
                self.note_down(verdict)
        run.row = (name, must, own_node)
        return run
    return mark


# ---- What is put in ----

class Flow(threading.Thread):
    """Publishes jobs in the background, whatever happens to the broker, until stop(); notes an id once it is confirmed."""

    def __init__(self, test, queue, commands, rate, prefix, reply_to=None, properties=None):
        super().__init__(daemon=True)
        self.test, self.queue, self.commands, self.rate, self.prefix = test, queue, commands, rate, prefix
        self.properties = dict(properties or {}, reply_to=reply_to)
        self.over = threading.Event()
        self.number, self.failure = 0, None

    def run(self):
        while not self.over.is_set():
            try:
                with contextlib.closing(self.test.connect()) as connection:
                    self.pump(connection)
            except (pika.exceptions.AMQPError, OSError):
                self.over.wait(0.1)  # the broker is away
            except Exception as failure:  # pylint: disable=broad-except
                self.failure = failure
                return

    def pump(self, connection):
        channel = self.test.confirming(connection)
        while not self.over.is_set():
            name = f"{self.prefix}-{self.number}"
            commands = self.commands(self.number) if callable(self.commands) else self.commands
            self.number += 1
            self.test.publish(channel, self.queue, name, commands, **self.properties)
            self.over.wait(1 / self.rate)

    def stop(self):
        self.over.set()
        self.join(QUIET)
        if self.failure:
            raise self.failure
        if self.is_alive():
            raise AssertionError("the publisher hangs: does the broker still hold back its confirms?")


# ---- What comes out ----

Found = collections.namedtuple("Found", "done dead queued answers")


class FaultTest(WarrendTest):
    """A row: a daemon under load, a fault, and the account of it."""

    processes_of_daemon, threads = 1, 4  # W and C

    @classmethod
    def node(cls):
        return shared_node()

    def setUp(self):
        self.broker = self.node()
        self.broker.take()
        self.addCleanup(self.broker.give)
        BrokerTest.setUp(self)
        self.flows, self.daemons = [], []
        self.confirmed, self.doubtful = {}, {}  # id: the queue it went to
        self.asked = set()  # ids that want an answer
        self.baselines = {}
        self.finished, self.known_queues = False, None
        self.addCleanup(self.stop_flows)

    def tearDown(self):
        """The virtual host goes, if there still is a node."""
        with contextlib.suppress(RuntimeError, pika.exceptions.AMQPError, OSError):
            BrokerTest.tearDown(self)

    # -- the row itself --

    def begin_row(self, name, must, own_node):
        self.name, self.must = name, must
        self.random = random.Random(f"{SEED} {name}")  # I7
        self.began = time.monotonic()
        self.report = {"row": name, "lost": None, "duplicates": None, "bound": None, "jobs": 0, "recovery": None,
                       "events": [], "exit": None, "notes": []}
        print(f"{name}: WARREN_SEED={SEED}", flush=True)

    def seen(self, text):
        """What was measured, for the table."""
        self.report["notes"].append(text)
        print(f"{self.name}: {text}", flush=True)

    def note_down(self, verdict):
        record = {**self.report, "verdict": verdict, "seed": SEED, "seconds": round(time.monotonic() - self.began, 1),
                  "must": self.must, "broker": self.version()}
        os.makedirs(FOLDER, exist_ok=True)
        with open(SEEN, "a") as file:
            file.write(json.dumps(record) + "\n")

    def version(self):
        properties = getattr(getattr(self.connection, "_impl", None), "server_properties", None) or {}
        version = properties.get("version", "")
        return version.decode() if isinstance(version, bytes) else version

    def keep_traces(self):
        """A failed row leaves its logs and ledgers in the build folder."""
        for number, daemon in enumerate(self.daemons):
            folder = os.path.join(FOLDER, "failed", self.name, str(number))
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            for name in ("log", "out", "ledger", "warren.cfg"):
                with contextlib.suppress(OSError):
                    shutil.copy(daemon.path(name), folder)

    # -- daemons --

    def settings(self, queues, **sections):
        """As WarrendTest.settings(), with a ledger on the disk, and pauses that make rows short."""
        sections["broker"] = {"heartbeat": f"{HEARTBEAT}s", "reconnect_max": f"{RECONNECT_MAX}s",
                              **sections.get("broker", {})}
        also = sections.pop("also", [])

        def make(folder):
            plugins = [{"file": LEDGER, "options": {"file": os.path.join(folder, "ledger"), "sync": True}}, *also]
            return super(FaultTest, self).settings(queues, plugins=plugins, **sections)(folder)
        return make

    def daemon(self, config, *options, **more):
        daemon = super().daemon(config, *options, **more)
        self.daemons.append(daemon)
        return daemon

    def work(self, name="work", **more):
        """A queue as rows use it: quorum, because a classic one writes acks down late and forgets them in a crash."""
        return {"name": name, "type": "quorum", "durable": True, "threads": self.threads, "task": "ledger.run",
                "retry": RETRIES, **more}

    def begin(self, queues=None, *options, warm=None, **sections):
        """Starts a daemon of W processes with C threads for each queue, gives every thread something to do, and
        takes the baseline of I6."""
        queues = queues or [self.work()]
        queues = [queues] if isinstance(queues, dict) else queues
        sections["workers"] = {"processes": self.processes_of_daemon, "drain_limit": "10s", **sections.get("workers", {})}
        daemon = self.daemon(self.settings(queues, **sections), *options).start()
        daemon.queues = queues
        daemon.consuming(workers=self.processes_of_daemon)
        self.broker.declared()
        daemon.begun = daemon.mark_log()
        self.warm_up(daemon, warm if warm is not None else [queue["name"] for queue in queues])
        return daemon

    def warm_up(self, daemon, queues):
        """Every thread has run something, and the publishing connection has been used."""
        self.channel.queue_declare("warm", durable=True)
        count = 3 * self.threads * self.processes_of_daemon
        for queue in queues:
            self.give(queue, count, "busy 20;reply warm", "warm", reply_to="warm")
        daemon.wait_for("job.done", count * len(queues))
        self.channel.queue_delete("warm")
        self.asked.clear()
        self.baseline(daemon)

    # -- load --

    def answers_queue(self, name="answers", **arguments):
        """A queue for replies, which keeps what it has confirmed."""
        self.channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})
        self.broker.declared()
        return name

    def connect(self):
        return pika.BlockingConnection(pika.URLParameters(self.url + "?heartbeat=0"))

    @staticmethod
    def confirming(connection):
        channel = connection.channel()
        channel.confirm_delivery()
        return channel

    def publish(self, channel, queue, name, commands="", exchange="", **properties):
        """One job. Its id is noted down as confirmed when it is, and is in doubt until then."""
        body = f"{name};{commands}" if commands else name
        self.doubtful[name] = queue
        if properties.get("reply_to") and "reply " in commands:
            self.asked.add(name)
        channel.basic_publish(exchange, queue, body, mandatory=True, properties=pika.BasicProperties(
            message_id=name, delivery_mode=2, **properties))
        self.confirmed[name] = self.doubtful.pop(name)

    def give(self, queue, count, commands="", prefix="job", **properties):
        """Publishes some jobs now and returns their ids. `commands` may be a function of the number."""
        with contextlib.closing(self.connect()) as connection:
            channel = self.confirming(connection)
            first = len(self.confirmed) + len(self.doubtful)
            names = [f"{prefix}-{number}" for number in range(first, first + count)]
            for number, name in enumerate(names):
                self.publish(channel, queue, name, commands(number) if callable(commands) else commands, **properties)
        return names

    def load(self, queue="work", commands="busy 50", rate=50, reply_to=None, **properties):
        """Goes on publishing until the end of the row, or stop_flows()."""
        flow = Flow(self, queue, commands, rate, f"flow{len(self.flows)}", reply_to, properties)
        self.flows.append(flow)
        flow.start()
        return flow

    def stop_flows(self):
        for flow in self.flows:
            flow.over.set()
        for flow in self.flows:
            flow.stop()

    def under_way(self, daemon, jobs=None):
        """Waits until so many more jobs have ended: the load flows."""
        before = len(daemon.ledger("end"))
        jobs = jobs or 2 * self.threads * self.processes_of_daemon
        daemon.patiently(lambda: len(daemon.ledger("end")) >= before + jobs, f"{jobs} more jobs are done")

    # -- the daemon after the fault --

    def expect(self, daemon, event, count=1, since=0, seconds=60, **fields):
        """Waits for a line of the log, and puts it into the table."""
        line = daemon.wait_for(event, count, since, seconds, **fields)
        words = " ".join([event, *(f"{key}={value}" for key, value in fields.items())])
        if words not in self.report["events"]:
            self.report["events"].append(words)
        return line

    def refuse(self, daemon, *events, since=0):
        """None of these lines may be in the log."""
        for event in events:
            self.assertEqual(daemon.events(event, since), [], f"{event} in the log")

    def recovered(self, daemon, since, cleared, within=BACK, queues=None, workers=None):
        """I5: consumers are back so many seconds after the fault cleared (time.time()), and jobs are done again.

        Says how long it took. `since` is a mark of the log from before the fault."""
        queues = queues or [queue["name"] for queue in daemon.queues]
        workers = workers or self.processes_of_daemon
        lines = [daemon.wait_for("queue.consuming", 1, since, queue=name, role=f"worker {number}")
                 for name in queues for number in range(workers)]
        took = max(stamp(line) for line in lines) - cleared
        self.report["recovery"] = round(max(took, self.report["recovery"] or 0), 2)
        self.assertLessEqual(took, within * SLOWER, "seconds until all consumers were back")
        if any(not flow.over.is_set() for flow in self.flows):
            self.under_way(daemon)
        return took

    def undisturbed(self, daemon):
        """No worker was replaced since begin(); the quarantine may come and go."""
        self.assertEqual([line for event in ("worker.exited", "worker.started")
                          for line in daemon.events(event, daemon.begun) if line["worker"] != "quarantine"], [])

    def check_consumers(self, *daemons):
        """I5: W * C consumers on each queue, with their prefetch, and nobody else."""
        want = collections.Counter()
        for queue in (queue for daemon in daemons for queue in daemon.queues):
            processes = 1 if queue.get("exclusive") else self.processes_of_daemon
            want[queue["name"], queue.get("prefetch", 1), True] += queue.get("threads", 1) * processes
        names = {name for name, _, _ in want}

        def there():
            return want == collections.Counter(
                (row["queue_name"], row["prefetch_count"], row["ack_required"])
                for row in self.consumers() if row["queue_name"] in names)
        daemons[0].patiently(there, f"I5: consumers {dict(want)}", 20 * SLOWER)

    # -- I6 --

    @staticmethod
    def measure(pid):
        """Descriptors, threads, and resident KiB of a process."""
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        return len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]), int(status["VmRSS"].split()[0])

    def measure_all(self, daemon):
        """Of the supervisor, then of its workers in a stable order. The quarantine comes and goes, and is left out."""
        away = {daemon.process.pid, *(int(line["pid"]) for line in daemon.events("worker.started", worker="quarantine"))}
        pids = [pid for pid in daemon.processes() if pid not in away]
        return [self.measure(daemon.process.pid)] + sorted(self.measure(pid) for pid in pids)

    def baseline(self, daemon):
        self.baselines[daemon] = self.measure_all(daemon)

    @staticmethod
    def grown(was, now):
        """What of descriptors, threads and memory has grown: by 5 % and a little, as the last connection's end may still
        be under way, and the allocator keeps some pages for each thread."""
        limits = was[0] * 1.05 + 1, was[1], was[2] * 1.05 + 4096
        return [f"{what} {before} -> {after}" for what, before, after, limit in
                zip(("descriptors", "threads", "KiB"), was, now, limits)
                if after > limit and not (SANITIZED and what == "KiB")]

    def check_resources(self, daemon):
        was = self.baselines.get(daemon)
        if was is None:
            return

        def settled():
            with contextlib.suppress(OSError):
                self.now = self.measure_all(daemon)
                return len(self.now) == len(was) and not any(self.grown(a, b) for a, b in zip(was, self.now))
            return False
        try:
            wait_until(settled, "back at the baseline", 20 * SLOWER)
        except AssertionError:
            self.fail(f"I6: {was} became {self.now}: " + "; ".join(sum((self.grown(a, b) for a, b in zip(was, self.now)), [])))
        zombies = [pid for pid in daemon.processes() if node.state_of(pid) == "Z"]
        self.assertEqual(zombies, [], "I6: zombies")
        self.assertEqual(self.zombies_of(daemon.process.pid), [], "I6: zombies")

    @staticmethod
    def zombies_of(parent):
        """Zombies have no environment that would tell whose they are, but a parent."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
                state, ppid = file.read().rpartition(")")[2].split()[:2]
                if state == "Z" and int(ppid) == parent:
                    found.append(int(pid))
        return found

    # -- the account --

    def ledgers(self, what=None):
        return [entry for daemon in self.daemons for entry in daemon.ledger(what)]

    def under_way_still(self, excluded):
        """Confirmed jobs that have not ended for good, as far as ledgers and logs can tell."""
        over = {entry.id for entry in self.ledgers("end") if entry.verdict != RETRY}
        over |= {line.get("message_id") for daemon in self.daemons for line in daemon.events("job.dead")}
        return self.confirmed.keys() - over - excluded

    def await_quiet(self, daemons, excluded):
        """Until nothing is under way: the ledgers first, they cost nothing; then the queues. What is missing then
        gets its sentence from the account."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.under_way_still(excluded), "all jobs have ended", QUIET)
        with contextlib.suppress(AssertionError), contextlib.closing(self.connect()) as connection:
            channel = connection.channel()
            self.known_queues = self.queues()
            names = [name for name in self.known_queues if name not in self.ends]
            wait_until(lambda: not any(self.waiting(channel, name) for name in names), "all queues are empty", QUIET)

    def queues(self):
        """All of this row; asking takes a second, so what was known when it had become quiet holds until the end."""
        return [row["name"] for row in self.broker.rows("list_queues", "-p", self.vhost, "name")]

    @staticmethod
    def waiting(channel, queue):
        """How many messages are ready there: asked of the queue itself, as lists are seconds behind."""
        return channel.queue_declare(queue, passive=True).method.message_count

    def drain(self):
        """Empties every queue; for each id how often it is in a dead-letter queue, still queued, and answered."""
        found = Found(*(collections.Counter() for _ in Found._fields))
        with contextlib.closing(self.connect()) as connection:
            channel = connection.channel()
            for name in self.known_queues or self.queues():
                counter = found.dead if name in self.graves else found.answers if name in self.answers else found.queued
                while True:
                    method, properties, body = channel.basic_get(name, auto_ack=True)
                    if method is None:
                        break
                    counter[self.identify(properties, body)] += 1
        found.done.update(entry.id for entry in self.ledgers("end") if entry.verdict == DONE)
        return found

    def identify(self, properties, body):
        known = self.confirmed.keys() | self.doubtful.keys()
        for name in (properties.correlation_id, properties.message_id):
            if name in known:
                return name
        return body.split(b";")[0].split(b"\n")[0].decode(errors="replace")

    def extra_runs(self):
        """Runs beyond the first of each attempt of each job."""
        runs = collections.Counter((entry.id, entry.attempt) for entry in self.ledgers("start"))
        return {key: count - 1 for key, count in runs.items() if count > 1}

    def finish(self, daemon=None, bound=0, code=0, excluded=(), queued=False, both=0, answers=(), answer_bound=None,
               graves=(), resources=True, stopped=False, zealous=True):
        """Ends the row: waits for quiet, stops the daemon, takes stock, and checks I1 to I7.

        bound         the extra runs that the fault may cause; None where there is no bound: then they are reported
        code          how the daemon must exit
        excluded      ids of which nothing is promised: their queue was deleted by the operator
        queued        some may be left in queues: the daemon gave them back
        both          so many may be done and dead-lettered as well
        answers       queues of replies; answer_bound: the extra replies that there may be (bound by default)
        graves        dead-letter queues, besides those that end in .dead
        resources     False where the fault leaves other processes than there were
        stopped       the daemon has ended already, or is about to, with this code
        zealous       False where consumers need not be back: the row says why
        """
        self.stop_flows()
        daemons = daemon if isinstance(daemon, list) else [daemon] if daemon else []
        excluded, self.answers = set(excluded), set(answers)
        self.graves = set(graves)
        for each in self.daemons:
            for queue in getattr(each, "queues", []):
                self.graves.add(queue.get("dead_letter", f"{queue['name']}.dead"))
        self.ends = self.graves | self.answers | {"warren.v1.parked"}
        if not stopped:
            self.await_quiet(daemons, excluded)
            if zealous and daemons:
                self.check_consumers(*daemons)
        for each in daemons:
            if resources and not stopped:
                self.check_resources(each)
            self.report["exit"] = each.wait() if stopped else each.stop()
            self.assertEqual(self.report["exit"], code, "the exit code")
            self.assertEqual(each.processes(), [], "I6: orphans")
        self.check_account(bound, excluded, queued, both, answer_bound)
        self.finished = True

    def check_account(self, bound, excluded, queued, both, answer_bound):
        found = self.drain()
        wanted = set(self.confirmed) - excluded
        missing = {name for name in wanted if not (found.done[name] or found.dead[name] or found.queued[name])}
        unanswered = {name for name in self.asked & wanted
                      if found.done[name] and not found.answers[name] and not found.queued[name]}
        extra = self.extra_runs()
        again = sum(extra.values()) + sum(count - 1 for count in found.dead.values() if count > 1)
        self.report.update(lost=len(missing | unanswered), duplicates=again, bound=bound, jobs=len(self.confirmed))
        print(f"{self.name}: {len(self.confirmed)} jobs confirmed, {len(self.doubtful)} in doubt, lost {len(missing)}, "
              f"run again {again} (bound {'none' if bound is None else bound})", flush=True)
        self.assertEqual(missing, set(), "I1: missing")
        self.assertEqual(unanswered, set(), "I1: done without an answer")
        if bound is not None:
            self.assertLessEqual(again, bound, f"I2: run again: {extra}")
        doubly = [name for name in wanted if found.done[name] and found.dead[name]]
        self.assertLessEqual(len(doubly), both, f"I3: done and dead-lettered: {doubly}")
        if not queued:
            left = [name for name, count in found.queued.items() if count and name not in excluded]
            self.assertEqual(left, [], "I3: still queued")
        if self.answers and bound is not None:
            self.check_answers(found, bound if answer_bound is None else answer_bound)
        self.check_acks(found)
        self.found = found

    def check_answers(self, found, bound):
        extra = sum(count - 1 for count in found.answers.values() if count > 1)
        self.seen(f"answers: {sum(found.answers.values())}, {extra} of them again (bound {bound})")
        self.assertLessEqual(extra, bound, "I2: answers sent again")

    def check_acks(self, found):
        """I4, by the log: its lines about a job are written when everything but the ack is behind it."""
        ended = {(entry.id, entry.attempt) for entry in self.ledgers("end") if entry.verdict == DONE}
        started = {(entry.id, entry.attempt) for entry in self.ledgers("start")}
        for daemon in self.daemons:
            for line in daemon.log.read() if daemon.process else []:
                name, attempt = line.get("message_id"), int(line.get("attempt", 0) or 0)
                if line.get("event") == "job.done" and name in self.confirmed:
                    self.assertIn((name, attempt), ended, "I4: done without an end line")
                elif line.get("event") == "job.dead" and name in self.confirmed:
                    self.assertTrue(found.dead[name], f"I4: dead without a dead letter: {name}")
                elif line.get("event") == "job.retry" and name in self.confirmed:
                    self.assertTrue((name, attempt + 1) in started or found.queued[name] or found.dead[name],
                                    f"I4: retry without a next attempt: {name}")


class OwnNodeTest(FaultTest):
    """Rows whose broker has settings of its own: `conf` are lines of rabbitmq.conf, `advanced` is advanced.config."""

    conf = advanced = ""
    _nodes = {}

    @classmethod
    def node(cls):
        if cls not in cls._nodes:
            cls._nodes[cls] = node.FaultNode(settings=cls.options())
        return cls._nodes[cls]

    @classmethod
    def options(cls):
        options = []
        for name, text in (("conf", cls.conf), ("advanced", cls.advanced)):
            if text:
                path = os.path.join(FOLDER, f"{cls.__name__}.{name}")
                os.makedirs(FOLDER, exist_ok=True)
                with open(path, "w") as file:
                    file.write(text)
                options += [f"--{name}", path]
        return options

    @classmethod
    def tearDownClass(cls):
        made = cls._nodes.pop(cls, None)
        if made:
            made.remove()


# A stopped row tidies up like a failed one.
signal.signal(signal.SIGTERM, signal.default_int_handler)
