"""What an operator orders through the control socket is done, is answered when it is over, and harms no job."""

import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import unittest
from urllib.parse import quote

from harness import PLUGINS, SLOWER, WarrendTest, wait_until


def order(daemon, *words, seconds=60):
    """Sends one command and returns the answer; None where the daemon went away without one."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(seconds * SLOWER)
        client.connect(daemon.path("warren.sock"))
        client.sendall(" ".join(quote(word, safe="") for word in words).encode() + b"\n")
        text = b"".join(iter(lambda: client.recv(65536), b""))
    return json.loads(text) if text else None


class Ordering(threading.Thread):
    """An order whose answer is awaited beside the test."""

    def __init__(self, daemon, *words):
        super().__init__(daemon=True)
        self.daemon_under_test, self.words, self.answer = daemon, words, None
        self.start()

    def run(self):
        self.answer = order(self.daemon_under_test, *self.words)

    def result(self):
        self.join(90 * SLOWER)
        return self.answer


class Steer(WarrendTest):

    def work(self, **more):
        return {"name": "work", "task": "ledger.run", "threads": 3, **more}

    def count(self, queue="work"):
        return sum(row["queue_name"] == queue for row in self.consumers())

    def settle_on(self, count, queue="work"):
        wait_until(lambda: self.count(queue) == count, f"{count} consumers of {queue}")

    @staticmethod
    def pids(daemon):
        return {int(line["pid"]) for line in daemon.events("worker.started")}

    def ok(self, answer):
        self.assertIsNotNone(answer)
        self.assertTrue(answer["ok"], answer)
        return answer["said"]

    def refused(self, answer, code):
        self.assertFalse(answer["ok"], answer)
        self.assertEqual(answer["code"], code, answer)
        return answer["error"]

    # -- pause, resume --

    def test_a_paused_queue_takes_nothing_and_its_jobs_finish(self):
        daemon = self.warrend([self.work(prefetch=5), {"name": "other", "task": "ledger.run"}])
        for i in range(3):
            self.put("work", f"running{i};wait {daemon.path('go')}", delivery_mode=2)
        for i in range(3):
            daemon.ran(f"running{i}", what="start")
        for i in range(6):
            self.put("work", f"waiting{i}", delivery_mode=2)
        self.assertIn("paused", self.ok(order(daemon, "pause", "work")))
        daemon.wait_for("queue.paused", queue="work")
        self.settle_on(0)
        self.assertEqual(self.count("other"), 1)
        open(daemon.path("go"), "w").close()
        for i in range(3):
            daemon.ran(f"running{i}")
        self.put("other", "elsewhere", delivery_mode=2)
        daemon.ran("elsewhere")
        self.assertFalse([e for e in daemon.ledger("start") if e.id.startswith("waiting")])
        self.assertIn("already", self.ok(order(daemon, "pause", "work")))
        self.assertIn("resumed", self.ok(order(daemon, "resume", "work")))
        for i in range(6):
            daemon.ran(f"waiting{i}")
        self.settle_on(3)
        self.assertIn("was not paused", self.ok(order(daemon, "resume", "work")))
        self.assertEqual(len(daemon.ledger("start")), 10, "nothing ran twice")
        self.assertEqual(daemon.stop(), 0)

    def test_a_pause_outlives_worker_connection_and_reload(self):
        daemon = self.warrend(self.work())
        self.ok(order(daemon, "pause"))
        self.settle_on(0)
        self.broker.ctl("close_all_connections", "-p", self.vhost, "enough")
        self.channel = self.open_channel()  # it was one of them
        daemon.wait_for("conn.lost", conn="work")
        daemon.wait_for("conn.up", 2, conn="work")
        mark = daemon.mark_log()
        os.kill(daemon.worker(), signal.SIGKILL)
        daemon.consuming(mark)
        mark = daemon.mark_log()
        self.ok(order(daemon, "reload"))
        daemon.consuming(mark)
        self.put("work", "kept", delivery_mode=2)
        self.assertEqual(self.count(), 0)
        self.assertEqual(daemon.ledger(), [])
        self.assertIn("1 of 1", self.ok(order(daemon, "resume")))
        daemon.ran("kept")
        self.assertEqual(daemon.stop(), 0)

    def test_an_unacked_queue_is_paused_too(self):
        daemon = self.warrend({"name": "news", "task": "ledger.run", "ack": "none", "durable": False})
        self.ok(order(daemon, "pause", "news"))
        self.settle_on(0, "news")
        self.put("news", "later")
        self.ok(order(daemon, "resume", "news"))
        daemon.ran("later")
        self.assertEqual(daemon.stop(), 0)

    def test_unknown_queues_are_named(self):
        daemon = self.warrend(self.work())
        for words in (("pause", "wrok"), ("resume", "wrok"), ("scale", "wrok", "2")):
            self.assertIn('"wrok"', self.refused(order(daemon, *words), 65))
        self.assertIn("\\n", self.refused(order(daemon, "pause", "a\nb \x1b[31m"), 65))
        self.assertEqual(daemon.stop(), 0)

    # -- scale, restart --

    def test_a_queue_gets_more_threads_and_fewer_until_the_next_reload(self):
        daemon = self.warrend([self.work(threads=1), {"name": "other", "task": "ledger.run"}])
        self.put("work", f"long;wait {daemon.path('go')}", delivery_mode=2)
        daemon.ran("long", what="start")
        self.assertIn("5 threads", self.ok(order(daemon, "scale", "work", "5")))
        wait_until(lambda: self.count() >= 5, "five consumers")
        for i in range(5):
            self.put("work", f"at once{i};wait {daemon.path('go')}", delivery_mode=2)
        for i in range(5):
            daemon.ran(f"at once{i}", what="start")
        open(daemon.path("go"), "w").close()
        daemon.ran("long")
        self.settle_on(5)
        self.assertIn("already", self.ok(order(daemon, "scale", "work", "5")))
        self.assertIn("2 threads", self.ok(order(daemon, "scale", "work", "2")))
        self.settle_on(2)
        os.kill(daemon.worker(), signal.SIGKILL)
        self.settle_on(2)
        self.ok(order(daemon, "reload"))
        self.settle_on(1)
        for words in (("0",), ("1025",), ("-1",), ("x",), ("99999999999",)):
            self.refused(order(daemon, "scale", "work", *words), 64)
        self.assertEqual(len([e for e in daemon.ledger("start")]), 6, "nothing ran twice")
        self.assertEqual(daemon.stop(), 0)

    def test_what_a_new_process_refuses_changes_nothing(self):
        plugins = [{"file": os.path.join(PLUGINS, "upper.so")}]
        queue = {"name": "work", "task": "text.upper", "threads": 3}
        daemon = self.warrend(queue, plugins=plugins)
        worker = daemon.worker()
        copy = daemon.path("upper.so")
        shutil.copy(plugins[0]["file"], copy)
        daemon.write(self.settings([queue], plugins=[{"file": copy}]))
        self.ok(order(daemon, "reload"))
        daemon.wait_for("generation.gone")
        worker = daemon.worker()
        self.spoil(copy)
        for words in (("scale", "work", "5"), ("restart",)):
            self.assertIn("upper.so", self.refused(order(daemon, *words), 78))
            self.settle_on(3)
        self.assertIn("already", self.ok(order(daemon, "scale", "work", "3")))
        self.put("work", "goes on", delivery_mode=2)
        wait_until(lambda: daemon.events("job.done"), "it goes on")
        self.assertIn(worker, daemon.processes())
        self.assertEqual(daemon.stop(), 0)

    def test_a_restart_replaces_every_process_and_interrupts_nothing(self):
        daemon = self.warrend(self.work(), workers={"processes": 2})
        daemon.consuming(workers=2)
        before = self.pids(daemon)
        self.put("work", f"long;wait {daemon.path('go')}", delivery_mode=2)
        pid = daemon.ran("long", what="start")[0].pid
        said = self.ok(order(daemon, "restart"))
        self.assertIn("2 worker processes", said)
        after = self.pids(daemon) - before
        self.assertEqual(len(after), 2)
        open(daemon.path("go"), "w").close()
        self.assertEqual(daemon.ran("long")[0].pid, pid)
        daemon.wait_for("worker.exited", pid=pid, code=0)
        self.assertEqual(daemon.stop(), 0)

    @staticmethod
    def spoil(path):
        with open(path + ".new", "w") as file:
            file.write("no plugin")
        os.rename(path + ".new", path)

    def test_a_refused_restart_leaves_all_others_alone(self):
        folder = tempfile.mkdtemp(prefix="warren-test-")
        self.addCleanup(shutil.rmtree, folder)
        plugin = os.path.join(folder, "upper.so")
        shutil.copy(os.path.join(PLUGINS, "upper.so"), plugin)
        daemon = self.warrend({"name": "work", "task": "text.upper"}, plugins=[{"file": plugin}], workers={"processes": 3})
        daemon.consuming(workers=3)
        self.ok(order(daemon, "restart"))
        old = self.pids(daemon)
        wait_until(lambda: len(daemon.processes()) == 4, "the old processes are gone")
        self.spoil(plugin)
        for _ in range(2):
            self.assertIn("upper.so", self.refused(order(daemon, "restart"), 78))
        fresh = self.pids(daemon) - old
        wait_until(lambda: not fresh & set(daemon.processes()), "the refused processes are gone")
        self.assertEqual(len(daemon.processes()), 4)
        self.settle_on(3)
        self.assertEqual(daemon.stop(), 0)

    def test_a_restart_whose_process_dies_at_once_is_over(self):
        daemon = self.warrend(self.work())
        worker = daemon.worker()
        ending = threading.Event()

        def kill_fresh():
            while not ending.wait(0.002):
                for line in daemon.events("worker.started"):
                    if int(line["pid"]) != worker:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(line["pid"]), signal.SIGKILL)
                            return
        killer = threading.Thread(target=kill_fresh)
        killer.start()
        answer = order(daemon, "restart")
        ending.set()
        killer.join()
        if not answer["ok"]:  # else it was consuming before it could be killed
            self.refused(answer, 78)
            self.assertIn(worker, daemon.processes())
        self.settle_on(3)
        self.ok(order(daemon, "restart"))
        self.assertEqual(daemon.stop(), 0)

    def test_one_missing_queue_holds_up_no_other(self):
        for name in ("gone", "gone.quarantine"):
            self.channel.queue_declare(name, durable=True)
        daemon = self.warrend([self.work(), {"name": "gone", "task": "ledger.run", "declare": "passive", "dead_letter": "",
                                             "retry": {"attempts": 1}}])
        self.channel.queue_delete("gone")
        daemon.wait_for("queue.failed", queue="gone")
        for change in (lambda: os.kill(daemon.worker(), signal.SIGKILL), lambda: self.ok(order(daemon, "restart")),
                       lambda: self.ok(order(daemon, "reload"))):
            mark = daemon.mark_log()
            change()
            daemon.wait_for("queue.consuming", since=mark, queue="work")
            self.settle_on(3)
        self.assertFalse(daemon.events("worker.refused"))
        self.put("work", "goes on", delivery_mode=2)
        daemon.ran("goes on")
        self.channel.queue_declare("gone", durable=True)
        daemon.wait_for("queue.consuming", since=mark, queue="gone")
        self.assertEqual(daemon.stop(), 0)

    def test_no_scale_while_a_reload_is_checked(self):
        queues = [self.work(), *({"name": f"q{i}", "task": "ledger.run"} for i in range(3))]
        daemon = self.warrend(queues)
        daemon.write(self.settings([self.work()]))
        reload = Ordering(daemon, "reload")
        daemon.wait_for("reload.started")
        answer = order(daemon, "scale", "q2", "2")
        self.ok(reload.result())
        self.assertIn(answer.get("code"), (75, 65), answer)
        self.settle_on(3)
        self.assertEqual(daemon.stop(), 0)

    def test_a_queue_resumes_also_beside_a_busy_one(self):
        daemon = self.warrend([self.work(threads=15, prefetch=5), {"name": "other", "task": "ledger.run"}])
        self.put("work", *(f"busy{i};wait {daemon.path('go')}" for i in range(75)), delivery_mode=2)
        daemon.ran("busy0", what="start")
        self.ok(order(daemon, "pause", "other"))
        self.settle_on(0, "other")
        self.ok(order(daemon, "resume", "other"))
        self.settle_on(1, "other")
        self.put("other", "runs", delivery_mode=2)
        daemon.ran("runs")
        open(daemon.path("go"), "w").close()
        daemon.ran("busy74")
        self.assertEqual(daemon.stop(), 0)

    def test_who_waits_is_told_that_the_daemon_stops(self):
        daemon = self.warrend(self.work(), workers={"drain_limit": "60s"})
        self.put("work", f"long;wait {daemon.path('go')}", delivery_mode=2)
        daemon.ran("long", what="start")
        self.ok(order(daemon, "reload"))
        waiting = Ordering(daemon, "reload")
        daemon.wait_for("reload.waiting")
        daemon.kill(signal.SIGTERM)
        self.assertIn("stops", self.refused(waiting.result(), 75))
        self.assertIn("given back", self.ok(order(daemon, "drain", "100")))
        self.assertEqual(daemon.wait(), 75)

    def test_one_change_at_a_time(self):
        daemon = self.warrend(self.work(threads=1), workers={"drain_limit": "60s"})
        self.put("work", f"long;wait {daemon.path('go')}", delivery_mode=2)
        daemon.ran("long", what="start")
        self.ok(order(daemon, "reload"))  # the old generation drains
        self.refused(order(daemon, "restart"), 75)
        self.refused(order(daemon, "scale", "work", "2"), 75)
        waiting = Ordering(daemon, "reload")
        daemon.wait_for("reload.waiting")
        open(daemon.path("go"), "w").close()
        self.ok(waiting.result())
        self.assertEqual(daemon.stop(), 0)

    # -- reload --

    def test_a_reload_is_answered_with_its_outcome(self):
        daemon = self.warrend(self.work())
        self.assertIn("generation 2", self.ok(order(daemon, "reload")))
        good = daemon.text("warren.cfg")
        daemon.write(good.replace('task = "ledger.run"', 'task = "ledger.rum"'))
        answer = order(daemon, "reload")
        self.refused(answer, 78)
        self.assertIn("ledger.rum", answer["errors"][0]["text"])
        self.assertGreater(answer["errors"][0]["line"], 0)
        self.assertEqual(answer["errors"][0]["file"], daemon.config)
        daemon.write(good + "\nnonsense = 1;\n")
        self.assertIn("nonsense", order(daemon, "reload")["errors"][0]["text"])
        daemon.write(good.replace('name = "work"', 'name = "nowhere"').replace("threads = 3", 'threads = 3;\n declare = "passive"'))
        self.assertIn("rolled back", self.refused(order(daemon, "reload"), 78))
        daemon.write(good)
        self.assertIn("generation", self.ok(order(daemon, "reload")))
        self.put("work", "still", delivery_mode=2)
        daemon.ran("still")
        self.assertEqual(daemon.stop(), 0)

    # -- cancel, log --

    def test_a_job_is_cancelled_by_its_id(self):
        daemon = self.warrend(self.work(retry={"attempts": 1}))
        self.put("work", "patient;yield", delivery_mode=2)
        daemon.ran("patient", what="start")
        self.refused(order(daemon, "cancel", "1.2.3"), 65)
        ids = [f"{daemon.worker()}.{thread}.1" for thread in range(3)]
        answers = {job: order(daemon, "cancel", job) for job in ids}
        found = [job for job, answer in answers.items() if answer["ok"]]
        self.assertEqual(len(found), 1, answers)
        self.assertIn("asked", answers[found[0]]["said"])
        daemon.wait_for("job.cancelled", job=found[0], told="true")
        daemon.ran("patient")
        self.assertEqual(self.get("work.dead")[2], b"patient;yield")
        self.assertEqual(daemon.stop(), 0)

    def test_the_log_tells_more_and_less(self):
        daemon = self.warrend(self.work(threads=1))
        self.ok(order(daemon, "log", "error"))
        mark = daemon.mark_log()
        for i in range(50):  # a worker looks once a second
            self.put("work", f"quiet{i};busy 50", delivery_mode=2)
        daemon.ran("quiet49")
        self.assertFalse(daemon.events("job.done", mark, message_id="quiet49"))
        self.ok(order(daemon, "log", "debug"))
        self.refused(order(daemon, "log", "loud"), 64)
        for i in range(50):
            self.put("work", f"loud{i};busy 50", delivery_mode=2)
        daemon.ran("loud49")
        self.assertTrue(daemon.events("job.done", mark))
        self.assertEqual(daemon.stop(), 0)

    # -- drain --

    def test_a_drain_is_answered_when_the_daemon_has_ended(self):
        daemon = self.warrend(self.work())
        self.put("work", "last;busy 500", delivery_mode=2)
        daemon.ran("last", what="start")
        self.assertIn("nothing that had started was given back", self.ok(order(daemon, "drain")))
        daemon.ran("last")
        self.assertEqual(daemon.wait(), 0)

    def test_a_drain_has_the_limit_of_the_order(self):
        daemon = self.warrend(self.work(), workers={"drain_limit": "10m"})
        self.put("work", "endless;busy 600000", delivery_mode=2)
        daemon.ran("endless", what="start")
        started = time.monotonic()
        self.assertIn("given back to the broker", self.ok(order(daemon, "drain", "500")))
        self.assertEqual(daemon.wait(), 75)
        self.assertLess(time.monotonic() - started, 60 * SLOWER)

    def test_who_goes_away_changes_nothing(self):
        daemon = self.warrend(self.work())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(daemon.path("warren.sock"))
            client.sendall(b"reload\n")
        daemon.wait_for("generation.gone")
        self.ok(order(daemon, "restart"))
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
