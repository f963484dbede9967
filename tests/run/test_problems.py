#!/usr/bin/python3
"""What is not as configured is said once in words, to the log and the service manager, and so is that it is over."""

import json
import shutil
import signal
import subprocess
import unittest

from harness import WarrendTest, closed_port, page, series


def work(name="work", **more):
    return {"name": name, "durable": True, "task": "ledger.run", **more}


class Problems(WarrendTest):
    def began(self, daemon, subject, what, *words):
        """The line that says so; the words stand in its reason or remedy."""
        line = daemon.wait_for("trouble.began", subject=subject, what=what)
        for word in words:
            self.assertIn(word, line["why"] + " " + line["remedy"])
        return line

    def healed(self, daemon, subject, what):
        daemon.wait_for("trouble.healed", subject=subject, what=what)
        self.assertEqual(len(daemon.events("trouble.began", subject=subject, what=what)), 1, "said once")

    @staticmethod
    def told(daemon):
        """The last status that the service manager was told."""
        return daemon.text("status").rpartition("STATUS=")[2].partition("\n")[0]

    def test_start_work_reload_and_stop_are_none(self):
        daemon = self.warrend(work(threads=2), workers={"processes": 2})
        self.put("work", *(f"job{i}" for i in range(20)))
        for i in range(20):
            daemon.ran(f"job{i}")
        daemon.kill(signal.SIGHUP)
        daemon.wait_for("generation.gone", generation=1)
        self.put("work", "after")
        daemon.ran("after")
        daemon.patiently(lambda: self.told(daemon) == "2 of 2 worker processes consuming", "a good status")
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(daemon.events("trouble.began"), [])

    def test_a_broker_that_is_away(self):
        daemon = self.warrend(work())
        self.node().stop()
        line = daemon.wait_for("trouble.began", what="no connection")
        self.assertEqual(line["level"], "error")
        self.assertTrue(line["subject"].startswith("broker amqp://"), line)
        daemon.patiently(lambda: "no connection" in self.told(daemon), "a status with the reason")
        self.node().start()
        daemon.wait_for("trouble.healed", what="no connection")
        daemon.patiently(lambda: self.told(daemon) == "1 of 1 worker processes consuming", "a good status")
        self.assertEqual(daemon.stop(), 0)

    def test_a_queue_that_is_not_there(self):
        channel = self.open_channel()
        channel.queue_declare("given", durable=True)
        daemon = self.warrend(work("given", declare="passive", ack="none"))
        channel.queue_delete("given")
        self.began(daemon, "queue given", "not consuming", "NOT_FOUND", "declare =")
        channel.queue_declare("given", durable=True)
        self.healed(daemon, "queue given", "not consuming")
        self.assertEqual(daemon.stop(), 0)

    def test_a_task_that_does_not_return(self):
        daemon = self.warrend(work(time_limit="1s", kill_after="20s"))
        self.put("work", "job;busy 5000")
        self.began(daemon, "task ledger.run", "does not return", "past its time limit", "kill_after")
        self.healed(daemon, "task ledger.run", "does not return")
        self.assertEqual(daemon.stop(), 0)

    def test_a_reload_that_is_refused(self):
        daemon = self.warrend(work())
        good = daemon.write(self.settings([work()]))
        daemon.write(good + "nonsense = 1;\n")
        daemon.kill(signal.SIGHUP)
        line = self.began(daemon, "configuration", "reload refused", "nonsense", "generation 1 goes on", "warrend -t")
        self.assertEqual(line["level"], "warn")
        daemon.patiently(lambda: "reload refused" in self.told(daemon), "a status with the reason")
        daemon.write(good)
        daemon.kill(signal.SIGHUP)
        self.healed(daemon, "configuration", "reload refused")
        self.assertEqual(daemon.stop(), 0)

    # -- the pages --

    def test_metrics_status_and_readiness_agree(self):
        port = closed_port()
        daemon = self.warrend(work(threads=2), http={"port": port})
        self.put("work", *(f"job{i}" for i in range(20)), "last;dead why")
        daemon.wait_for("job.dead")
        daemon.wait_for("job.done", 20)
        labels = 'queue="work",task="ledger.run"'

        def settled():
            now = series(page(port, "/metrics")[1])
            ends = sum(value for name, value in now.items() if name.startswith("warren_jobs_total"))
            self.assertLessEqual(ends, now[f"warren_jobs_taken_total{{{labels}}}"])
            return now if ends == 21 else None
        counted = daemon.patiently(settled, "all are counted")
        self.assertEqual(counted[f'warren_jobs_total{{{labels},outcome="done"}}'], 20)
        self.assertEqual(counted[f'warren_jobs_total{{{labels},outcome="dead"}}'], 1)
        self.assertEqual(counted[f"warren_job_run_seconds_count{{{labels}}}"], 21)
        self.assertEqual(counted["warren_ready"], 1)
        self.assertEqual(page(port, "/readyz"), (200, "ready\n"))
        status = json.loads(page(port, "/status")[1])
        self.assertEqual((status["totals"]["taken"], status["totals"]["done"], status["problems"]), (21, 20, []))
        if shutil.which("promtool"):
            subprocess.run(["promtool", "check", "metrics"], input=page(port, "/metrics")[1], text=True, check=True)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
