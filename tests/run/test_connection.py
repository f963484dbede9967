#!/usr/bin/python3
"""The connection: kept during long tasks, built anew after every loss, and refused in plain words."""

import os
import signal
import socket
import time
import unittest

import canary
from harness import WarrendTest, closed_port, wait_until

WORK = {"name": "work", "durable": True, "task": "ledger.run"}


def seconds_pass(seconds):
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > over, f"{seconds} s pass")


class Heartbeat(WarrendTest):
    """One second here: the broker ends a connection that is silent for about two."""

    def test_a_task_of_many_intervals_keeps_its_connection(self):
        daemon = self.warrend({**WORK, "threads": 2}, broker={"heartbeat": "1s"})
        self.put("work", "a;busy 6000", "b;busy 6000;dead yes")  # both threads never look around
        daemon.wait_for("job.done")
        daemon.wait_for("job.dead")  # the idle publishing connection lives as well
        self.assertFalse(daemon.events("conn.lost"))
        self.assertEqual(len(daemon.ledger("start")), 2)
        self.assertEqual(daemon.stop(), 0)

    def test_also_while_draining(self):
        daemon = self.warrend(WORK, broker={"heartbeat": "1s"})
        self.put("work", "job;busy 6000", "next")
        daemon.ran("job", what="start")
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(daemon.events("conn.lost"))
        daemon.wait_for("job.done")
        self.assertEqual(self.ready("work"), 1)  # the next one was not taken

    def test_queues_without_ack_are_left_unread_and_keep_their_connection(self):
        daemon = self.warrend({**WORK, "ack": "none"}, broker={"heartbeat": "1s"})
        before = self.memory(daemon)
        self.put("work", f"first;wait {daemon.path('go')}")
        daemon.ran("first", what="start")
        count, filling = 1000, ";" + " " * 40000  # 40 MB: more than sockets hold
        lines = "".join(f"job-{i}{filling}\n" for i in range(count))
        self.warren("publish", "-q", "work", "--transient", "-l", input=lines.encode())
        seconds_pass(4)
        self.assertLess(self.memory(daemon) - before, 30, "MiB: 100 jobs of 40 kB, and little more, may wait in memory")
        open(daemon.path("go"), "w").close()
        daemon.patiently(lambda: len(daemon.ledger("end")) == count + 1, "all jobs are done")
        self.assertFalse(daemon.events("conn.lost"))

    @staticmethod
    def memory(daemon):
        """What the worker has needed at most, in MiB."""
        with open(f"/proc/{daemon.worker()}/status") as file:
            return int(dict(line.split(":", 1) for line in file)["VmHWM"].split()[0]) // 1024


class Again(WarrendTest):
    """Whatever is lost is built anew: connection, channels, prefetch, consumers, topology."""

    def consumes_again(self, daemon, since, threads=1):
        daemon.wait_for("queue.consuming", since=since, queue="work")
        self.assertEqual([(row["queue_name"], row["prefetch_count"], row["ack_required"]) for row in self.consumers()],
                         [("work", 1, True)] * threads)
        self.channel = self.open_channel()
        self.put("work", "afterwards")
        daemon.ran("afterwards")

    def test_after_its_queue_was_deleted(self):
        daemon = self.warrend({**WORK, "threads": 3})
        self.put("work", f"job;wait {daemon.path('go')}")
        daemon.ran("job", what="start")
        since = daemon.mark_log()
        self.channel.queue_delete("work")
        daemon.wait_for("consumer.cancelled", since=since, queue="work")
        daemon.wait_for("queue.consuming", since=since)
        open(daemon.path("go"), "w").close()
        daemon.wait_for("job.lost")  # its message went with the queue: no ack is sent
        self.consumes_again(daemon, since, 3)
        self.assertFalse(daemon.events("chan.closed"))

    def test_after_its_queue_was_deleted_and_made_again_at_once(self):
        daemon = self.warrend({**WORK, "threads": 3})
        since = daemon.mark_log()
        self.channel.queue_delete("work")
        self.channel.queue_declare("work", durable=True)
        daemon.wait_for("consumer.cancelled", since=since, queue="work")
        self.consumes_again(daemon, since, 3)

    def test_after_a_restart_of_the_broker_also_when_it_was_not_there_at_first(self):
        daemon = self.warrend({**WORK, "threads": 3})
        since = daemon.mark_log()
        self.broker.kill()
        daemon.wait_for("conn.lost", since=since)
        late = self.daemon(self.settings([{**WORK, "name": "late"}])).start()
        late.wait_for("daemon.ready")
        late.wait_for("conn.retry")
        self.broker.start()
        late.wait_for("queue.consuming", queue="late")
        daemon.wait_for("queue.consuming", since=since)
        self.assertEqual(late.stop(), 0)
        self.consumes_again(daemon, since, 3)
        self.assertEqual(len(daemon.events("worker.started")), 1)

    def test_after_its_connections_were_closed(self):
        daemon = self.warrend(WORK)
        since = daemon.mark_log()
        self.broker.ctl("close_all_connections", "-p", self.vhost, "enough")
        self.consumes_again(daemon, since)

    def test_by_the_next_url_where_the_first_is_dead(self):
        dead = f"amqp://guest:guest@127.0.0.1:{closed_port()}/{self.vhost}"
        daemon = self.warrend(WORK, urls=[dead, self.url])
        self.put("work", "job")
        daemon.ran("job")


class Channels(WarrendTest):
    def test_each_thread_has_one_with_prefetch_1(self):
        self.warrend([{**WORK, "threads": 3}, {**WORK, "name": "other", "threads": 2}])
        rows = self.broker.rows("list_channels", "connection", "number", "consumer_count", "vhost", "user")
        mine = [row for row in rows if row["vhost"] == self.vhost and row["consumer_count"]]
        self.assertEqual([row["consumer_count"] for row in mine], [1] * 5)
        self.assertEqual(len({row["number"] for row in mine}), 5)
        self.assertEqual(len({row["connection"] for row in mine}), 1)
        self.assertEqual([row["prefetch_count"] for row in self.consumers()], [1] * 5)


class Refused(WarrendTest):
    def setUp(self):
        super().setUp()
        self.user = f"user-{self.vhost}"
        self.broker.ctl("add_user", self.user, canary.PASSWORD)
        self.broker.ctl("set_permissions", "-p", self.vhost, self.user, ".*", ".*", ".*")

    def urls(self, more=""):
        return [self.url.replace(canary.LOGIN, canary.LOGIN.replace(canary.USER, self.user) + more)]

    def test_a_wrong_password_until_it_is_right_again(self):
        daemon = self.warrend(WORK, urls=self.urls())
        self.broker.ctl("change_password", self.user, "another")
        self.broker.ctl("close_all_connections", "-p", self.vhost, "enough")
        refused = daemon.wait_for("conn.refused", code=403)
        self.assertIn(self.user, refused["broker"])
        since = daemon.mark_log()
        self.broker.ctl("change_password", self.user, canary.PASSWORD)
        daemon.wait_for("queue.consuming", since=since, seconds=120)
        self.assertEqual(len(daemon.events("worker.started")), 1)
        self.assertEqual(daemon.stop(), 0)

    def test_a_refused_password_is_shown_nowhere(self):
        daemon = self.daemon(self.settings([WORK], urls=self.urls("x"), log={"level": "debug"})).start()
        daemon.wait_for("conn.refused", code=403)
        self.assertIn("STATUS=", daemon.text("status"))
        self.assertEqual(daemon.stop(), 0)  # the harness looks for it, as in every test

    def test_a_password_file(self):
        daemon = self.daemon(self.settings([WORK], urls=[self.url.replace(canary.LOGIN, canary.USER)],
                                           broker={"password_file": "password"}, log={"level": "debug"}))
        daemon.add_secret("password", canary.PASSWORD + "\n")
        daemon.start().consuming()
        self.assertEqual(daemon.stop(), 0)

    def test_the_harness_would_hear_it(self):
        daemon = self.daemon(self.settings([{"name": "printed", "task": "debug.print"}]))
        daemon.environment["OTHER"] = canary.TOKEN
        daemon.start().consuming()
        self.put("printed", canary.TOKEN)
        daemon.wait_for("job.done")
        daemon.listen()
        heard, daemon.songs = set(daemon.songs), []
        self.assertLessEqual({daemon.path("out"), f"/proc/{daemon.worker()}/environ"}, heard)
        daemon.kill(signal.SIGKILL)
        daemon.wait()
        daemon.patiently(lambda: not daemon.processes(), "no process is left")
        os.remove(daemon.path("out"))

    def test_a_virtual_host_that_is_not_there(self):
        daemon = self.daemon(self.settings([WORK], urls=[self.broker.url("nowhere")])).start()
        line = daemon.wait_for("conn.retry", code=530)
        self.assertIn("nowhere", line["text"])

    def test_no_broker_where_one_is_required(self):
        urls = [f"amqp://guest:guest@127.0.0.1:{closed_port()}/{self.vhost}"]
        daemon = self.daemon(self.settings([WORK], urls=urls, workers={"start_limit": "2s"}),
                             "--require-broker").start()
        self.assertEqual(daemon.wait(), 69)
        self.assertTrue(daemon.events("daemon.no-broker"))


if __name__ == "__main__":
    unittest.main()
