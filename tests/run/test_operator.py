#!/usr/bin/python3
"""An operator sees what is wrong with a daemon under load, and what helps; and the numbers that he sees are true."""

import collections
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import pika

import terminal
from broker_fixture import WARREN
from harness import SLOWER, WarrendTest, closed_port, page, series, wait_until

QUICK = {"attempts": 3, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}


def work(name="work", **more):
    return {"name": name, "durable": True, "task": "ledger.run", "threads": 3, "retry": QUICK, **more}


class Repeated(threading.Thread):
    """Does something again and again beside the test, until stop(); what it raises is raised there."""

    def __init__(self, act):
        super().__init__(daemon=True)
        self.act, self.over, self.failure = act, threading.Event(), None
        self.start()

    def run(self):
        try:
            while not self.over.is_set():
                self.act(self.over)
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure

    def stop(self):
        self.over.set()
        self.join()
        if self.failure:
            raise self.failure


class OperatorTest(WarrendTest):
    def setUp(self):
        super().setUp()
        self.port = closed_port()

    def under_load(self, queues, **sections):
        """A daemon whose queue `work` is published to all the time."""
        daemon = self.warrend(queues, http={"port": self.port}, **sections)
        load = Repeated(self.publish_for_a_while)
        self.addCleanup(load.stop)
        self.done_more(daemon)
        return daemon

    def publish_for_a_while(self, over):
        """Until the connection is lost: the broker may be away, or may block it."""
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection = pika.BlockingConnection(
                pika.URLParameters(self.url + "?heartbeat=0&blocked_connection_timeout=1"))
            channel = connection.channel()
            while not over.is_set():
                channel.basic_publish("", "work", "load;busy 2", pika.BasicProperties(delivery_mode=2))
                connection.process_data_events(0.02)
            connection.close()
        over.wait(0.1)

    def done_more(self, daemon):
        """Waits until further jobs are done."""
        before = len(daemon.ledger("end", "load"))
        daemon.ran("load", before + 5)

    # -- what is seen --

    def program(self, daemon, *words):
        """Runs `warren WORD ...` against the daemon: exit code and output."""
        done = subprocess.run([WARREN, words[0], "-s", daemon.path("warren.sock"), *words[1:]], text=True,
                              env={**os.environ, "COLUMNS": "500"}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60 * SLOWER, check=False)
        self.assertEqual(done.stderr if words[0] == "status" else "", "")
        return done.returncode, done.stdout

    def metric(self, name):
        return series(page(self.port, "/metrics")[1])[name]

    def seen(self, daemon, severity, subject, what, *words):
        """Waits until program and pages say so in the same words, and returns since when they do."""
        said = re.compile(rf"^{severity.upper()} +{subject}: {what} for .*\n +why: (.*)\n +remedy: (.*)\n"
                          r"(?: +warrend tries again in .*\n)?", re.M)
        is_error = severity == "error"

        def agreed():
            code, text = self.program(daemon, "status")
            found = said.search(text)
            ready = page(self.port, "/readyz")
            if not found or not all(word in found[0] for word in words) or code != is_error:
                return False
            if is_error:
                line = rf"^error: {subject}: {what}: .*; remedy: {re.escape(found[2])}$"
                agree = ready[0] == 503 and re.search(line, ready[1], re.M)
            else:
                agree = ready == (200, "ready\n")
            return agree and self.metric(f'warren_problems{{severity="{severity}"}}') >= 1
        daemon.patiently(agreed, f"{severity}: {subject}: {what} {words}")
        # It looks once a second, and remembers only what it has seen then.
        daemon.patiently(lambda: any(re.fullmatch(subject, line["subject"])
                                     for line in daemon.events("trouble.began", what=what)), f"it is logged: {what}")
        return time.monotonic()

    def healed(self, daemon, subject, what, since):
        """Waits until program and pages say that it is over, and how long it lasted: longer than it was looked at."""
        lasted = time.monotonic() - since
        daemon.patiently(lambda: page(self.port, "/readyz") == (200, "ready\n"), "it is ready")
        self.done_more(daemon)

        def agreed():
            code, text = self.program(daemon, "status")
            return code == 0 and re.search(rf"^healed .* ago: {subject}: {what}, lasted \d", text, re.M) and \
                not re.search(rf"^(ERROR|WARNING) +{subject}: {what} ", text, re.M)
        daemon.patiently(agreed, f"healed: {subject}: {what}")
        self.assertEqual(self.metric("warren_ready"), 1)
        status = json.loads(page(self.port, "/status")[1])
        item = [item for item in status["healed"] if re.fullmatch(subject, item["subject"]) and item["what"] == what][0]
        self.assertGreaterEqual(item["lasted_s"], lasted)


class Faults(OperatorTest):
    def test_the_broker_is_stopped_and_started(self):
        daemon = self.under_load(work())
        self.node().stop()
        since = self.seen(daemon, "error", "broker amqp://.*", "no connection", "why: connect:", "start the broker")
        self.node().start()
        self.healed(daemon, "broker amqp://.*", "no connection", since)
        self.assertEqual(daemon.stop(), 0)

    def test_a_queue_that_warren_does_not_make_is_deleted(self):
        channel = self.open_channel()
        channel.queue_declare("given", durable=True)
        daemon = self.under_load([work(), work("given", declare="passive", ack="none", retry={"attempts": 1})])
        channel.queue_delete("given")
        since = self.seen(daemon, "error", "queue given", "not consuming", "NOT_FOUND", 'declare = "active"')
        channel.queue_declare("given", durable=True)
        self.healed(daemon, "queue given", "not consuming", since)
        self.assertEqual(daemon.stop(), 0)

    def test_a_queue_is_replaced_and_warren_makes_it_again(self):
        daemon = self.under_load([work(), work("own")])
        worker = daemon.worker()
        os.kill(worker, signal.SIGSTOP)  # or it would have made it again before anybody else
        try:
            self.channel.queue_delete("own")
            self.channel.queue_declare("own", durable=True, arguments={"x-max-length": 1})
        finally:
            os.kill(worker, signal.SIGCONT)
        since = self.seen(daemon, "error", "queue own", "not consuming", "PRECONDITION_FAILED", "other properties")
        self.channel.queue_delete("own")
        self.healed(daemon, "queue own", "not consuming", since)
        self.put("own", "job")
        daemon.ran("job")
        self.assertEqual(daemon.stop(), 0)

    def test_the_broker_is_short_of_memory(self):
        daemon = self.under_load([work(), work("asked")])
        self.channel.queue_declare("answers", durable=True)
        for i in range(2):
            self.put("asked", f"job{i};wait {daemon.path('go')};reply yes", reply_to="answers")
        self.put("asked", f"again;wait {daemon.path('go')};until 2 not yet")
        for name in ("job0", "job1", "again"):
            daemon.ran(name, what="start")
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            open(daemon.path("go"), "w").close()
            since = self.seen(daemon, "error", "broker amqp://.*", "takes no messages", "memory",
                              "jobs with replies, retries or dead letters wait", "vm_memory_high_watermark")
            self.assertEqual(self.metric('warren_jobs_running{queue="asked"}'), 3)
        finally:
            self.broker.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        self.healed(daemon, "broker amqp://.*", "takes no messages", since)
        daemon.ran("again", 2)
        self.assertEqual([self.get("answers")[2] for _ in range(2)], [b"yes"] * 2)
        self.assertEqual(daemon.stop(), 0)

    def test_a_task_does_not_return(self):
        daemon = self.under_load([work(), work("slow", time_limit="1s", kill_after="3s")])
        self.put("work", f"held;wait {daemon.path('go')}")  # the process stays until this one is done
        daemon.ran("held", what="start")
        self.put("slow", "job;once busy 60000")
        since = self.seen(daemon, "warning", "task ledger.run", "does not return", "past its time limit", "raise time_limit")
        self.seen(daemon, "warning", "task ledger.run", "does not return", "was given up", "correct the task")
        daemon.ran("job")  # its retry, in the process that takes over
        open(daemon.path("go"), "w").close()
        self.healed(daemon, "task ledger.run", "does not return", since)
        self.assertEqual(daemon.stop(), 0)

    def test_a_worker_is_in_a_crash_loop(self):
        daemon = self.under_load(work())
        started = len(daemon.events("worker.started", worker=0))

        def kill_the_next(over):
            for line in daemon.events("worker.started", worker=0)[started + len(killed):]:
                os.kill(int(line["pid"]), signal.SIGKILL)
                killed.append(line["pid"])
            over.wait(0.005)
        killed = []
        os.kill(daemon.worker(), signal.SIGKILL)
        killer = Repeated(kill_the_next)
        try:
            since = self.seen(daemon, "error", "worker 0", "in a crash loop", "signal KILL",
                              "before it had finished a job", "event=worker.exited", "warrend tries again in")
        finally:
            killer.stop()
        self.assertGreaterEqual(len(killed), 4)
        self.healed(daemon, "worker 0", "in a crash loop", since)
        self.assertEqual(daemon.stop(), 0)

    def test_a_queue_is_paused(self):
        daemon = self.under_load(work())
        self.assertEqual(self.program(daemon, "pause", "work")[0], 0)
        since = self.seen(daemon, "warning", "queue work", "paused", "warren resume work")
        self.assertEqual(self.metric('warren_queue_paused{queue="work"}'), 1)
        self.assertEqual(self.program(daemon, "resume", "work")[0], 0)
        self.healed(daemon, "queue work", "paused", since)
        self.assertEqual(daemon.stop(), 0)


class Numbers(OperatorTest):
    """What is counted is what ran: whatever happens to workers, jobs, configuration and daemon."""

    OUTCOMES = ("done", "retried", "dead", "given_back", "lost", "quarantined", "interrupted")

    def watch(self, _):
        """One more scrape: no counter goes back, or vanishes, and no job has an outcome before it is taken."""
        now = {name: value for name, value in series(page(self.port, "/metrics")[1]).items()
               if re.match(r"\w+_(total|count|bucket|sum)\b", name)}
        back = {name: (value, now.get(name)) for name, value in self.last.items() if now.get(name, -1) < value}
        self.assertEqual(back, {}, "counters that went back")
        for queue, counts in self.by_queue(now).items():
            self.assertLessEqual(sum(counts[word] for word in self.OUTCOMES), counts["taken"], queue)
        self.last = now
        self.scrapes += 1

    def by_queue(self, values):
        """Sums over all tasks: {queue: {outcome or counter or histogram: n}}."""
        sums = collections.defaultdict(collections.Counter)
        for name, value in values.items():
            found = re.match(r'warren_\w+?_(?:(\w+)_total|(\w+)_seconds_count|total)\{queue="(\w+)",task="[\w.]*"'
                             r'(?:,outcome="(\w+)")?\}$', name)
            if found:
                sums[found[3]][found[4] or found[1] or found[2]] += int(value)
        return sums

    def kill_one_at_work(self, daemon):
        """Kills a worker process in the middle of its jobs."""
        before = len(daemon.ledger("start"))
        daemon.patiently(lambda: len(daemon.ledger("start")) > before + 5, "it is at work")

        def killed():
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                pid = daemon.ledger("start")[-1].pid
                os.kill(pid, signal.SIGKILL)
                return pid
        daemon.wait_for("worker.exited", pid=daemon.patiently(killed, "one is killed"))

    def publish_all(self, over):
        """Jobs for both queues until it is enough: of each hundred eight are retried, four dead, one crashes, one is slow."""
        kinds = {**{i: "busy 5;until 2 not yet" for i in range(0, 80, 10)}, **{i: "dead why" for i in range(5, 85, 20)},
                 37: "raise 11", 61: "once busy 4000"}
        connection = pika.BlockingConnection(pika.URLParameters(self.url + "?heartbeat=0"))
        channel = connection.channel()
        channel.confirm_delivery()
        for i in itertools.count():
            if over.is_set() and i % 100 == 0:
                break
            kind = kinds.get(i % 100, "busy 8")
            for queue in ("work", "other"):
                body = f"{queue}-{i};{kind}"
                channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)
                self.meant["dead" if kind[:4] in ("dead", "rais") else "done", queue].add(f"{queue}-{i}")
            connection.sleep(0.01)
        connection.close()

    def at_rest(self, daemon):
        """The numbers by queue, when all jobs are settled for good; None before."""
        if not {e.id for e in daemon.ledger("end") if e.verdict == 1} >= self.meant["done", "work"] | self.meant["done", "other"]:
            return None
        rows = self.broker.rows("list_queues", "-p", self.vhost, "name", "messages")
        if sum(int(row["messages"]) for row in rows if not row["name"].endswith(".dead")):
            return None
        values = series(page(self.port, "/metrics")[1])
        busy = sum(value for name, value in values.items()
                   if name.startswith("warren_jobs_running") or name == 'warren_worker_processes{state="draining"}')
        return None if busy else self.by_queue(values)

    def test_they_are_those_of_the_ledger(self):
        self.meant, self.last, self.scrapes = collections.defaultdict(set), {}, 0  # ids by outcome and queue
        daemon = self.warrend([work(time_limit="1s", kill_after="1s"), work("other", time_limit="1s", kill_after="1s")],
                              http={"port": self.port}, workers={"processes": 2})
        watcher, publisher = Repeated(self.watch), Repeated(self.publish_all)
        try:
            for act in (self.kill_one_at_work, self.order("reload"), self.kill_one_at_work, self.order("restart"),
                        self.kill_one_at_work, self.order("reload")):
                act(daemon)
            publisher.stop()
            counts = daemon.patiently(lambda: self.at_rest(daemon), "rest", 120)
        finally:
            publisher.stop()
            watcher.stop()
        for queue in ("work", "other"):
            self.compare(daemon, queue, counts[queue])
        self.assertGreater(self.scrapes, 20)
        self.assertEqual(daemon.stop(), 0)

    def test_a_job_that_is_given_up_runs_until_it_is_settled(self):
        daemon = self.warrend(work("slow", time_limit="1s", kill_after="1s"), http={"port": self.port})
        self.put("slow", "job;once busy 3000")
        daemon.ran("job", what="start")
        pid = daemon.worker()

        def numbers():
            values = series(page(self.port, "/metrics")[1])
            counts = self.by_queue(values)["slow"]
            return counts, sum(counts[word] for word in self.OUTCOMES) + values['warren_jobs_running{queue="slow"}']
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")  # the retry waits, and the task returns meanwhile
        try:
            daemon.wait_for("job.late")
            counts, accounted = numbers()
            self.assertEqual((counts["taken"], counts["retried"], accounted), (1, 0, 1))
            os.kill(pid, signal.SIGKILL)
            daemon.wait_for("worker.exited", pid=pid)
            counts, accounted = daemon.patiently(lambda: (n := numbers())[0]["interrupted"] and n, "it is counted")
            self.assertEqual(counts["taken"], accounted)
        finally:
            self.broker.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        daemon.wait_for("job.done")
        counts = daemon.patiently(lambda: (n := numbers()[0])["done"] and n, "it is done")
        self.assertEqual((counts["interrupted"], counts["late"], counts["timed_out"]), (1, 1, 1))
        self.assertEqual(daemon.stop(), 0)

    def order(self, word):
        """`warren WORD`, again while what was changed before is not over (75)."""
        return lambda daemon: daemon.patiently(
            lambda: self.assertIn(code := self.program(daemon, word)[0], (0, 75), word) or code == 0, word)

    def compare(self, daemon, queue, counts):
        """
        The ledger's line and the count are not one step: a process that is killed between them has written the
        line, and its job is counted as interrupted. Nothing else may stand between the two.
        """
        ledger = collections.Counter()
        for e in daemon.ledger():
            if e.id.startswith(queue):
                ledger[e.what if e.what == "start" else f"end {e.verdict}"] += 1
        ends = sum(n for what, n in ledger.items() if what != "start")
        events = collections.Counter(line["event"] for line in daemon.log.read() if line.get("queue") == queue)
        print(f"{queue}: {dict(counts)}; ledger: {dict(ledger)}; dead letters: {self.ready(queue + '.dead')}")
        interrupted = counts["interrupted"]

        def differ(more, less, what):
            self.assertIn(more - less, range(interrupted + 1), f"{queue}: {what}: {more} and {less}")
        self.assertEqual(counts["taken"], sum(counts[word] for word in self.OUTCOMES), queue)
        self.assertGreater(interrupted, 0)
        differ(ledger["end 1"], counts["done"] + counts["lost"], "ends with done, and done")
        differ(counts["wait"], ledger["start"], "begun as counted, and as written")
        differ(ends - counts["late"], counts["run"], "ended as written, and as counted")
        differ(counts["wait"] - counts["run"], counts["timed_out"], "not returned, and given up")
        differ(self.ready(queue + ".dead"), counts["dead"], "dead letters, and dead")
        for word, event in (("done", "job.done"), ("retried", "job.retry"), ("dead", "job.dead"),
                            ("quarantined", "job.quarantined")):
            differ(events[event], counts[word], f"lines and {word}")
        self.assertEqual(counts["crashed"], len(daemon.events("job.suspect", queue=queue, certain="true")))
        self.assertEqual(counts["timed_out"], len(daemon.events("task.timeout", queue=queue, kind="hard")))
        self.assertEqual(counts["late"], len(daemon.events("job.late", queue=queue)))
        self.assertGreaterEqual(counts["done"], len(self.meant["done", queue]))
        self.assertEqual({self.get(f"{queue}.dead")[2].decode().partition(";")[0] for _ in range(self.ready(queue + ".dead"))},
                         self.meant["dead", queue], "who is dead was meant to be")


class Views(OperatorTest):
    TIMES = re.compile(r'"(\w+_s|rate|memory_bytes)": ?[-0-9.e+]+')

    def test_the_program_shows_what_the_page_shows(self):
        daemon = self.warrend([work(), work("paused")], http={"port": self.port})
        self.put("work", *(f"job{i}" for i in range(10)), f"long;wait {daemon.path('go')}")
        self.assertEqual(self.program(daemon, "pause", "paused")[0], 0)
        for name in [f"job{i}" for i in range(10)]:
            daemon.ran(name)
        daemon.ran("long", what="start")

        def agree():
            code, text = self.program(daemon, "status", "--json")
            other = page(self.port, "/status")[1]
            self.assertEqual(code, 0)
            one, two = (json.loads(self.TIMES.sub(r'"\1": 0', shown)) for shown in (text, other))
            return one if one == two else None
        status = daemon.patiently(agree, "the same")  # numbers may change between the two looks
        self.assertEqual((status["totals"]["taken"], status["totals"]["done"]), (11, 10))
        self.assertEqual([p["what"] for p in status["problems"]], ["paused"])
        open(daemon.path("go"), "w").close()
        self.assertEqual(daemon.stop(), 0)

    def test_a_job_that_is_not_run_is_shown_as_itself(self):
        daemon = self.warrend({"name": "work", "durable": True, "route": "type", "tasks": ["ledger.run"]},
                              http={"port": self.port})
        self.put("work", f"job;wait {daemon.path('go')}", type="ledger.run", message_id="before")
        daemon.ran("job", what="start")
        self.put("work", "job", type="no.such", message_id="after")
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")  # what is dead waits
        try:
            open(daemon.path("go"), "w").close()
            daemon.wait_for("broker.blocked")
            job = json.loads(page(self.port, "/status")[1])["threads"][0]["job"]
            self.assertEqual((job["message_id"], job["task"]), ("after", "no.such"))
        finally:
            self.broker.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        daemon.wait_for("job.dead")
        self.assertEqual(daemon.stop(), 0)

    def test_top_shows_a_real_daemon(self):
        folder = tempfile.mkdtemp(prefix="warren-test-")
        self.addCleanup(shutil.rmtree, folder)
        description = terminal.compile_description(folder)
        if not description:
            self.skipTest("tic is not installed")
        daemon = self.under_load([work(), work("quiet")])
        shown = terminal.Terminal(
            [WARREN, "top", "-s", daemon.path("warren.sock")],
            {**os.environ, "TERM": "warren-test", "TERMINFO": description, "LC_ALL": "C.UTF-8"})
        self.addCleanup(shown.close)

        def sees(*patterns):
            daemon.patiently(lambda: all(re.search(p, shown.read(), re.M) for p in patterns), f"{patterns} on the screen")
        sees("all is as configured", r"^. work +ok +3/3", r"^. quiet +ok +3/3")
        self.assertEqual(self.program(daemon, "pause", "quiet")[0], 0)
        sees("1 warning", r"^. quiet +paused +0/3")
        self.put("work", f"held;wait {daemon.path('go')}", message_id="this-one")
        shown.keys("\t")
        sees(r"0/\d +running +work +ledger.run")
        open(daemon.path("go"), "w").close()
        shown.keys("q")
        wait_until(lambda: shown.read() is None or shown.process.poll() is not None, "top ends")
        self.assertEqual(shown.process.returncode, 0)
        self.assertTrue(shown.is_restored())
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
