#!/usr/bin/python3
"""Stop, reload, and death of its processes, with jobs under way."""

import collections
import os
import signal
import unittest

from harness import WarrendTest, wait_until

WORK = {"name": "work", "durable": True, "threads": 4, "task": "ledger.run"}


def touch(path):
    open(path, "w").close()


class LifecycleTest(WarrendTest):
    def each_once(self, daemon, names, bound=0):
        """All of them are done; at most `bound` were run again."""
        daemon.patiently(lambda: {e.id for e in daemon.ledger("end")} >= set(names), "all jobs are done")
        again = sum(collections.Counter(e.id for e in daemon.ledger("start") if e.id in names).values()) - len(names)
        self.assertLessEqual(again, bound)
        wait_until(lambda: self.ready("work") == 0, "the queue is empty")


class Drain(LifecycleTest):
    def test_what_runs_is_finished_and_nothing_new_is_taken(self):
        daemon = self.warrend(WORK)
        self.put("work", *[f"running-{i};wait {daemon.path('go')}" for i in range(4)])
        self.put("work", *[f"next-{i}" for i in range(20)])
        for i in range(4):
            daemon.ran(f"running-{i}", what="start")
        daemon.kill(signal.SIGTERM)
        daemon.wait_for("drain.start")
        wait_until(lambda: self.ready("work") == 20 and not self.consumers(), "its consumers are cancelled")
        touch(daemon.path("go"))
        self.assertEqual(daemon.wait(), 0)
        self.assertEqual(len(daemon.ledger("start")), 4)
        self.assertEqual(self.ready("work"), 20)
        daemon.wait_for("drain.done", given_back=0)
        self.assertEqual(daemon.processes(), [])

    def test_sigint_drains_as_well(self):
        daemon = self.warrend(WORK)
        self.put("work", "job;busy 1000")
        daemon.ran("job", what="start")
        self.assertEqual(daemon.stop(signal.SIGINT), 0)
        self.assertEqual(len(daemon.events("job.done")), 1)

    def test_what_outlasts_the_limit_is_given_back(self):
        daemon = self.warrend(WORK, workers={"drain_limit": "1s"})
        go = daemon.path("go")
        self.put("work", f"listens;wait {go}", "deaf;busy 60000")
        for name in ("listens", "deaf"):
            daemon.ran(name, what="start")
        self.assertEqual(daemon.stop(), 75)
        daemon.wait_for("job.given_back")
        wait_until(lambda: self.ready("work") == 2, "both are in the queue again")
        touch(go)
        daemon.start().ran("listens", 2)
        again = daemon.ledger("start", "listens")[-1]
        self.assertEqual((again.attempt, again.redelivered), (1, True))

    def test_a_second_signal_shortens_the_wait(self):
        daemon = self.warrend(WORK, workers={"drain_limit": "10m"})
        self.put("work", f"job;wait {daemon.path('go')}")
        daemon.ran("job", what="start")
        daemon.kill(signal.SIGTERM)
        daemon.wait_for("drain.start")
        self.assertEqual(daemon.stop(), 75)
        wait_until(lambda: self.ready("work") == 1, "the job is given back")

    def test_with_prefetch_what_only_waited_is_given_back_and_is_no_failure(self):
        daemon = self.warrend({**WORK, "threads": 1, "prefetch": 10})
        self.put("work", f"job;wait {daemon.path('go')}", *[f"next-{i}" for i in range(5)])
        daemon.ran("job", what="start")
        wait_until(lambda: self.ready("work") == 0, "the others wait in the worker")
        daemon.kill(signal.SIGTERM)
        wait_until(lambda: self.ready("work") == 5, "they are given back at once")
        touch(daemon.path("go"))
        self.assertEqual(daemon.wait(), 0)


class Reload(LifecycleTest):
    def reload(self, daemon, *queues, **sections):
        since = daemon.mark_log()
        daemon.write(self.settings(queues, **sections))
        daemon.kill(signal.SIGHUP)
        return since

    def test_under_load_nothing_is_lost_and_nothing_done_twice(self):
        daemon = self.warrend(WORK)
        names = [f"job-{i}" for i in range(2000)]
        self.warren("publish", "-q", "work", "-l", input="\n".join(f"{name};busy 5" for name in names).encode())
        for threads in (2, 8, 3):
            since = self.reload(daemon, {**WORK, "threads": threads})
            daemon.wait_for("reload.done", since=since)
            daemon.wait_for("generation.gone", since=since)
        self.assertEqual(len(daemon.events("worker.started")), 4)
        self.assertEqual(len(self.consumers()), 3)
        self.each_once(daemon, names)
        self.assertEqual(daemon.stop(), 0)

    def test_the_new_configuration_counts(self):
        daemon = self.warrend(WORK)
        since = self.reload(daemon, WORK, {**WORK, "name": "another"}, log={"level": "debug"})
        daemon.wait_for("reload.done", since=since)
        self.put("another", "job")
        daemon.ran("job")

    def test_a_long_job_of_the_old_generation_is_finished(self):
        daemon = self.warrend(WORK)
        self.put("work", f"long;wait {daemon.path('go')}")
        daemon.ran("long", what="start")
        since = self.reload(daemon, WORK)
        daemon.wait_for("reload.done", since=since)
        self.put("work", "meanwhile")
        daemon.ran("meanwhile")
        touch(daemon.path("go"))
        daemon.wait_for("generation.gone", since=since)
        self.each_once(daemon, ["long", "meanwhile"])
        self.assertFalse(daemon.events("job.given_back"))

    def test_a_broken_one_is_refused_with_its_line_and_the_old_one_runs_on(self):
        daemon = self.warrend(WORK)
        worker = daemon.worker()
        for text, words, line in (
                ("queues = (", "syntax error", 1),
                (daemon.text("warren.cfg").replace("ledger.run", "ledger.gone"), "ledger.gone", None),
                (daemon.text("warren.cfg").replace("print.so", "missing.so"), "missing.so", None)):
            since = daemon.mark_log()
            daemon.write(text)
            daemon.kill(signal.SIGHUP)
            refused = daemon.wait_for("reload.refused", since=since)
            self.assertIn(words, refused["error"])
            self.assertEqual(refused["file"], daemon.config)
            self.assertGreater(int(refused["line"]), 0)
            if line:
                self.assertEqual(int(refused["line"]), line)
        self.put("work", "job")
        self.assertEqual(daemon.ran("job")[0].pid, worker)

    def test_one_that_the_broker_refuses_is_rolled_back(self):
        daemon = self.warrend(WORK)
        worker = daemon.worker()
        self.channel.queue_declare("short", durable=True, arguments={"x-max-length": 5})
        since = self.reload(daemon, WORK, {**WORK, "name": "short"})
        daemon.wait_for("reload.rolled-back", since=since)
        daemon.wait_for("generation.gone", since=since)
        self.put("work", "job")
        self.assertEqual(daemon.ran("job")[0].pid, worker)

    def test_exclusive_queues_change_hands(self):
        mine = {"name": "mine", "exclusive": True, "task": "ledger.run"}
        news = {"name": "", "exclusive": True, "task": "ledger.run",
                "bindings": [{"exchange": "amq.fanout", "keys": [""]}]}
        daemon = self.warrend([mine, news])
        for i in range(2):
            since = self.reload(daemon, mine, news)
            daemon.wait_for("reload.done", since=since)
            daemon.wait_for("generation.gone", since=since)
            daemon.wait_for("queue.consuming", since=since, queue="mine")
            self.channel.basic_publish("", "mine", f"mine-{i}", mandatory=True)
            self.channel.basic_publish("amq.fanout", "", f"news-{i}", mandatory=True)
            daemon.ran(f"mine-{i}")
            daemon.ran(f"news-{i}")
        self.assertEqual(daemon.stop(), 0)


class Death(LifecycleTest):
    def test_a_killed_worker_is_replaced_and_its_jobs_are_run_again(self):
        daemon = self.warrend(WORK)
        worker, names = daemon.worker(), [f"job-{i}" for i in range(4)]
        self.put("work", *[f"{name};wait {daemon.path('go')}" for name in names])
        for name in names:
            daemon.ran(name, what="start")
        since = daemon.mark_log()
        os.kill(worker, signal.SIGKILL)
        line = daemon.wait_for("worker.exited", signal=9, since=since)
        self.assertEqual(int(line["pid"]), worker)
        self.assertEqual(len(daemon.events("job.interrupted", since)), 4)
        touch(daemon.path("go"))
        self.each_once(daemon, names, bound=4)
        self.assertNotEqual(daemon.worker(), worker)
        self.assertTrue(all(entry.redelivered for entry in daemon.ledger("end")))
        self.assertEqual(daemon.stop(), 0)

    def test_several_workers_share_the_work_and_one_may_die(self):
        daemon = self.warrend(WORK, workers={"processes": 3})
        self.assertEqual(len(self.consumers()), 12)
        names = [f"job-{i}" for i in range(600)]
        self.warren("publish", "-q", "work", "-l", input="\n".join(f"{name};busy 10" for name in names).encode())
        wait_until(lambda: len(daemon.ledger("end")) > 100, "they work")
        os.kill(daemon.worker(), signal.SIGKILL)
        self.each_once(daemon, names, bound=4)
        self.assertGreaterEqual(len({entry.pid for entry in daemon.ledger("end")}), 3)
        killed = daemon.wait_for("worker.exited", signal=9)["worker"]
        daemon.wait_for("worker.consuming", 2, worker=killed)
        self.assertEqual(daemon.stop(), 0)

    def test_a_killed_supervisor_takes_its_workers_along(self):
        daemon = self.warrend(WORK, workers={"processes": 2})
        self.put("work", "short;busy 1000", f"long;wait {daemon.path('go')}")
        for name in ("short", "long"):
            daemon.ran(name, what="start")
        daemon.kill(signal.SIGKILL)
        daemon.wait()
        wait_until(lambda: not self.consumers(), "they consume no longer", 10)
        wait_until(lambda: not daemon.processes(), "no process is left", 30)
        wait_until(lambda: self.ready("work") == 1, "the broker has the long job again")
        self.assertEqual(len(daemon.ledger("end", "short")), 1)

    def test_signals_for_the_whole_process_group_harm_no_job(self):
        daemon = self.warrend(WORK)
        self.put("work", f"job;wait {daemon.path('go')}")
        daemon.ran("job", what="start")
        os.killpg(daemon.process.pid, signal.SIGHUP)
        daemon.wait_for("reload.done")
        os.killpg(daemon.process.pid, signal.SIGINT)
        daemon.wait_for("drain.start", 2)
        touch(daemon.path("go"))
        self.assertEqual(daemon.wait(), 0)
        self.assertEqual([e.what for e in daemon.ledger(name="job")], ["start", "end"])


if __name__ == "__main__":
    unittest.main()
