"""Rows A: what the broker does, or suffers."""

import contextlib
import os
import signal
import time

import pika

from accounting import BACK, RECONNECT_MAX, RETRIES, SILENCE, FaultTest, OwnNodeTest, row, seconds_pass, stamp
import canary
from broker_fixture import wait_until
from node import FaultNode

TICKS = os.sysconf("SC_CLK_TCK")
CLASSIC = {"name": "work", "durable": True, "threads": 4, "task": "ledger.run",
           "retry": RETRIES}

STOP_LOST = "stop/4"  # what the ledger says of a job that was told WARREN_STOP_LOST


def cpu_seconds(daemon):
    """What all processes of the daemon have used so far."""
    total = 0
    for pid in daemon.processes():
        with open(f"/proc/{pid}/stat") as file:
            total += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return total / TICKS


class Outages(FaultTest):
    @row("A1", must=True)
    def test_A1(self):
        """The broker is killed (SIGKILL) under load, and started again after 5 s. Two of the jobs would take 20 s.

        `conn.lost` once per connection; what runs is told and not acked (`job.lost`). At most one run per channel again;
        consuming within 4 s of the port's opening; no worker is replaced."""
        daemon = self.begin()
        self.load(commands="hear 100", rate=30)
        self.under_way(daemon)
        for name in self.give("work", 2, "once hear 20000", "long"):
            daemon.ran(name, what="start")
        since = daemon.mark_log()
        self.broker.kill()
        for name in ("work", "publish"):
            self.expect(daemon, "conn.lost", since=since, conn=name, reason="lost")
        self.expect(daemon, "job.lost", 2, since=since)
        seconds_pass(5)
        self.assertEqual(len(daemon.events("conn.lost", since, role="worker 0")), 2)
        opened = self.broker.start()
        self.recovered(daemon, since, opened, BACK)
        self.undisturbed(daemon)
        self.finish(daemon, bound=self.threads)

    @row("A2")
    def test_A2(self):
        """`rabbitmqctl stop_app` under load, `start_app` after 3 s.

        As A1; a connection that is not just being written to names the broker's own reason, code 320."""
        daemon = self.begin()
        self.load(commands="hear 100", rate=30)
        self.under_way(daemon)
        since = daemon.mark_log()
        self.broker.ctl("stop_app")
        self.addCleanup(self.broker.ctl, "start_app")
        self.expect(daemon, "conn.lost", since=since, conn="work")
        line = self.expect(daemon, "conn.lost", since=since, conn="publish")
        # A heartbeat that is just due may meet a closed socket, before what that still holds is read.
        self.assertIn((line["reason"], line.get("code")), {("closed", "320"), ("lost", None)})
        seconds_pass(3)
        starting = time.time()
        self.broker.ctl("start_app")
        self.recovered(daemon, since, starting, time.time() - starting + BACK)
        self.undisturbed(daemon)
        self.finish(daemon, bound=self.threads)

    @row("A3", must=True)
    def test_A3(self):
        """The broker is frozen (SIGSTOP) for 10 s under load, then goes on. Heartbeats are 2 s apart; two jobs would take
        20 s.

        `conn.lost reason=heartbeat` within 5 s; the long jobs are told; attempts that end by the handshake's limit; no busy loop (less than 2 % of
        a processor); at most one run per channel again."""
        daemon = self.begin()
        self.load(commands="busy 100", rate=40)
        self.under_way(daemon)
        for name in self.give("work", 2, "once hear 20000", "long"):
            daemon.ran(name, what="start")
        since, frozen_at = daemon.mark_log(), time.time()
        pid = self.broker.freeze()
        self.addCleanup(self.thaw, pid)
        lost = [self.expect(daemon, "conn.lost", since=since, conn=name, reason="heartbeat") for name in ("work", "publish")]
        self.expect(daemon, "job.lost", 2, since=since)
        silence = max(stamp(line) for line in lost) - frozen_at
        self.assertLessEqual(silence, SILENCE + 1)
        used, began = cpu_seconds(daemon), time.monotonic()
        seconds_pass(max(1, 10 - (time.time() - frozen_at)))
        busy = (cpu_seconds(daemon) - used) / (time.monotonic() - began)
        self.assertLess(busy, 0.02)
        self.seen(f"silence noticed after {silence:.1f} s; {100 * busy:.1f} % of a processor meanwhile")
        thawed = time.time()
        self.broker.thaw(pid)
        self.recovered(daemon, since, thawed, BACK)
        self.undisturbed(daemon)
        self.finish(daemon, bound=self.threads)

    def thaw(self, pid):
        with contextlib.suppress(ProcessLookupError):
            self.broker.thaw(pid)

    @row("A4")
    def test_A4(self):
        """The broker is frozen for 3 s under load, less than the silence that heartbeats allow.

        Nothing is lost, not even the connection; no run again; no line above info."""
        daemon = self.begin(broker={"heartbeat": "5s"})
        self.load(commands="busy 50", rate=40)
        self.under_way(daemon)
        since = daemon.mark_log()
        pid = self.broker.freeze()
        self.addCleanup(self.thaw, pid)
        seconds_pass(3)
        self.broker.thaw(pid)
        self.under_way(daemon)
        self.assertEqual([line for line in daemon.log.read()[since:] if line["level"] in ("warn", "error")], [])
        self.finish(daemon, bound=0)

    @row("A5", must=True)
    def test_A5(self):
        """The broker is not there when warrend starts; it comes after 4 s. Once more with --require-broker, and it does
        not come.

        The daemon is up and says READY=1; `conn.retry`, not more often than the pauses allow; consuming within 4 s of the
        port's opening. With --require-broker: exit 69 when start_limit is over."""
        daemon = self.begin()
        self.assertEqual(daemon.stop(), 0)
        self.give("work", 20, "busy 20")
        self.broker.kill()
        self.addCleanup(self.broker.start)
        refused = self.daemon(self.settings([self.work()], workers={"start_limit": "2s"}), "--require-broker").start()
        since = daemon.mark_log()
        told = len(daemon.text("status"))
        started = time.monotonic()
        daemon.start()
        wait_until(lambda: "READY=1" in daemon.text("status")[told:], "READY=1", 20)
        self.expect(daemon, "conn.retry", since=since, conn="work", reason="connect")
        self.assertEqual(refused.wait(), 69)
        self.expect_ended(refused, "daemon.no-broker")
        seconds_pass(max(0, 4 - (time.monotonic() - started)))
        tried = len(daemon.events("conn.retry", since))
        opened = self.broker.start()
        self.recovered(daemon, since, opened, BACK)
        self.assertLess(tried, 2 * 8)  # two connections, pauses that double from 0.2 s
        self.seen(f"--require-broker: exit 69; {tried} lines of conn.retry before it came")
        self.finish(daemon, bound=0)

    def expect_ended(self, daemon, event):
        self.assertTrue(daemon.events(event), event)
        self.report["events"].append(event)

    @row("A6")
    def test_A6(self):
        """The broker is killed and started again four times, each time as soon as jobs flow.

        At most one run per channel and kill again; no worker is replaced; no leak. (Fifty restarts, each of which takes
        a node some ten seconds, would be too many here.)"""
        daemon = self.begin()
        self.load(commands="busy 50", rate=40)
        for _ in range(4):
            self.under_way(daemon)
            since = daemon.mark_log()
            seconds_pass(self.random.uniform(0, 0.5))
            self.broker.kill()
            # The other connection may not be up again since the last time.
            daemon.wait_for("conn.lost", 1, since, conn="work", role="worker 0")
            self.recovered(daemon, since, self.broker.start(), BACK)
        self.undisturbed(daemon)
        self.finish(daemon, bound=4 * self.threads)

    @row("A21")
    def test_A21(self):
        """`rabbitmqctl close_all_connections` every 2 s for 40 s, under load.

        At most one run per channel and closing again; memory, descriptors and threads stay where they were."""
        daemon = self.begin()
        self.load(commands="busy 50", rate=40)
        closings, over = 0, time.monotonic() + 40
        while time.monotonic() < over:
            due = time.monotonic() + 2
            self.broker.ctl("close_all_connections", "-p", self.vhost, "enough")
            closings += 1
            wait_until(lambda: time.monotonic() > due, "two seconds pass")
        self.under_way(daemon)
        lost = len(daemon.events("conn.lost", conn="work", role="worker 0"))
        self.assertGreater(lost, closings // 2)
        self.undisturbed(daemon)
        self.seen(f"{closings} closings, the working connection lost {lost} times")
        self.finish(daemon, bound=closings * self.threads)

    @row("C20")
    def test_C20(self):
        """kill -9 of everything at once under load: broker, supervisor and workers; then all is started again.

        Lost 0; at most one run per channel again."""
        self.processes_of_daemon = 2
        daemon = self.begin()
        self.answers_queue()
        self.load(commands=lambda n: "busy 100;" + ("reply yes", "until 2 once more", "dead no")[n % 3], rate=40,
                  reply_to="answers")
        self.under_way(daemon)
        since = daemon.mark_log()
        for pid in daemon.processes():
            os.kill(pid, signal.SIGKILL)
        self.broker.kill()
        daemon.process.wait()
        wait_until(lambda: not daemon.processes(), "nothing is left of it", 10)
        self.broker.start()
        daemon.start()
        daemon.consuming(since, workers=2)
        self.under_way(daemon)
        self.finish(daemon, bound=2 * self.threads, both=0, answers=["answers"])


class Credentials(FaultTest):
    @row("A7")
    def test_A7(self):
        """The password is changed and all connections are closed; later the old password holds again.

        `conn.refused reason=auth`, the password in no line; pauses as long as they get; no crash; it works again by
        itself."""
        user, password = f"user-{self.vhost}", "s3cret-c4nary"
        self.broker.ctl("add_user", user, password)
        self.addCleanup(self.broker.ctl, "delete_user", user)
        self.broker.ctl("set_permissions", "-p", self.vhost, user, ".*", ".*", ".*")
        daemon = self.begin(urls=[self.url.replace(canary.LOGIN, f"{user}:{password}")])
        self.load(commands="busy 50", rate=40)
        self.under_way(daemon)
        since = daemon.mark_log()
        self.broker.ctl("change_password", user, "another")
        self.broker.ctl("close_all_connections", "-p", self.vhost, "enough")
        self.expect(daemon, "conn.refused", since=since, code=403, reason="auth")
        self.broker.ctl("change_password", user, password)
        self.recovered(daemon, since, time.time(), RECONNECT_MAX + BACK)
        self.undisturbed(daemon)
        self.assertNotIn(password, daemon.text() + daemon.text("out"))
        self.finish(daemon, bound=self.threads)


class Queues(FaultTest):
    @row("A8", must=True)
    def test_A8(self):
        """The queue is deleted while all threads run a job and more wait; another queue of the same worker is left alone.

        `consumer.cancelled queue=work`; what runs ends and is not acked (`job.lost`); the queue is made again
        (declare = "active") and consumed within 4 s. Jobs that were deleted with the queue are the operator's loss, and
        not counted; the other queue notices nothing."""
        daemon = self.begin([self.work(), self.work("other")])
        self.load("other", "busy 20", rate=20)
        deleted = self.give("work", 2 * self.threads, "hear 1500")
        daemon.patiently(lambda: len(daemon.ledger("start")) - len(daemon.ledger("end")) >= self.threads, "all threads run")
        since, at = daemon.mark_log(), time.time()
        self.channel.queue_delete("work")
        self.expect(daemon, "consumer.cancelled", since=since, queue="work")
        self.recovered(daemon, since, at, BACK, ["work"])
        self.expect(daemon, "job.lost", self.threads, since=since, queue="work")
        told = [entry for entry in daemon.ledger() if entry.what.startswith("stop/")]
        self.assertEqual({entry.what for entry in told}, {STOP_LOST})
        afterwards = self.give("work", self.threads, "busy 20")
        for name in afterwards:
            daemon.ran(name)
        self.refuse(daemon, "conn.lost", "chan.closed", "worker.exited")
        self.assertEqual(daemon.events("job.lost", queue="other"), [])
        self.seen(f"{len(deleted)} jobs went with their queue")
        self.finish(daemon, bound=0, excluded=deleted)

    @row("A9", must=True)
    def test_A9(self):
        """The queue is deleted and made again by somebody else at once.

        Consuming again within 4 s, with all threads and their prefetch; no ack goes to the new queue for a message of the
        old one (`chan.closed` does not occur)."""
        daemon = self.begin(CLASSIC)
        deleted = self.give("work", 2 * self.threads, "busy 500")
        daemon.patiently(lambda: len(daemon.ledger("start")) - len(daemon.ledger("end")) >= self.threads, "all threads run")
        since, at = daemon.mark_log(), time.time()
        self.channel.queue_delete("work")
        self.channel.queue_declare("work", durable=True)
        took = time.time() - at
        self.assertLess(took, 0.1 if took < 0.1 else 5)
        self.expect(daemon, "consumer.cancelled", since=since, queue="work")
        self.recovered(daemon, since, at, BACK)
        for name in self.give("work", 4 * self.threads, "busy 20"):
            daemon.ran(name)
        self.refuse(daemon, "conn.lost", "chan.closed", "worker.exited")
        self.seen(f"made again after {1000 * took:.0f} ms")
        self.finish(daemon, bound=0, excluded=deleted)


class Results(FaultTest):
    @row("A11")
    def test_A11(self):
        """The exchange that follow-ups go to does not exist; it is made after some attempts.

        The publishing channel is closed with 404 and opened again: `publish.failed code=404`. As the design has it a
        follow-up that cannot be routed is a retry, by the queue's pauses and attempts, so the task runs once for each
        attempt, and never twice for one. When the exchange is there all is done."""
        daemon = self.begin(self.work(retry={**RETRIES, "attempts": 20}))
        jobs = self.give("work", 3 * self.threads, "emit results key")
        self.expect(daemon, "publish.failed", code=404)
        self.expect(daemon, "job.retry", 2 * self.threads)
        self.assertEqual(daemon.events("job.done")[3 * self.threads:], [], "only the first ones, for warmth")
        self.channel.exchange_declare("results", "topic", durable=True)
        self.channel.queue_declare("answers", durable=True)
        self.channel.queue_bind("answers", "results", "#")
        for name in jobs:
            daemon.patiently(lambda: [e for e in daemon.ledger("end", name)], name)
        daemon.wait_for("job.done", 3 * self.threads + len(jobs))
        self.refuse(daemon, "conn.lost", "chan.closed", "worker.exited")
        self.finish(daemon, bound=0, answers=["answers"], answer_bound=0)
        self.assertEqual(set(self.found.answers), set(jobs))

    @row("A12")
    def test_A12(self):
        """A reply that no queue takes, and a follow-up that no queue takes.

        As the design has it the reply is counted and logged (`reply.unroutable`) and the job is done; the follow-up is a
        retry, and after the last attempt a dead letter."""
        daemon = self.begin(self.work(retry={**RETRIES, "attempts": 2}))
        replying = self.give("work", self.threads, "reply yes", reply_to="nowhere")
        following = self.give("work", self.threads, "follow nowhere")
        self.asked.clear()  # there is no place for an answer
        self.expect(daemon, "reply.unroutable", len(replying))
        self.expect(daemon, "job.dead", len(following), verdict="exhausted")
        self.finish(daemon, bound=0, both=len(following))  # their tasks had done what they could
        self.assertEqual(set(self.found.dead), set(following))
        self.assertEqual({name for name in replying if self.found.done[name]}, set(replying))

    @row("A13")
    def test_A13(self):
        """The queue of the replies is full and rejects what is published (the broker nacks); it is emptied later.

        `publish.failed reason=nacked`; tried again with growing pauses, while the original is not acked; no task runs
        again, each reply is there once."""
        daemon = self.begin()
        self.answers_queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
        self.put("answers", *["in the way"] * 1)
        wait_until(self.is_full, "the queue rejects")
        since = daemon.mark_log()
        jobs = self.give("work", self.threads, "reply yes", reply_to="answers")
        self.expect(daemon, "publish.failed", since=since)
        seconds_pass(2)
        self.refuse(daemon, "job.done", since=since)
        answers = []
        while len(answers) < len(jobs):
            method, properties, _ = self.get("answers")
            if properties.correlation_id:
                answers.append(properties.correlation_id)
        self.assertEqual(sorted(answers), sorted(jobs))
        self.asked.clear()  # they were taken here
        self.finish(daemon, bound=0, answers=["answers"], answer_bound=0)
        self.assertEqual(sum(count for name, count in self.found.answers.items() if name in jobs), 0)

    def is_full(self):
        try:
            self.put("answers", "in the way")
            return False
        except pika.exceptions.NackError:
            return True


class Alarms(FaultTest):
    def alarm(self, word, on, off):
        """Raises an alarm; it is over when the row is."""
        self.addCleanup(self.broker.ctl, word, *off)
        self.broker.ctl(word, *on)
        return lambda: self.broker.ctl(word, *off)

    @row("A14", must=True)
    def test_A14(self):
        """A memory alarm of 6 s: the broker reads nothing from connections that publish. Two threads have replies to
        send, two have none.

        `broker.blocked`, `broker.unblocked`; acks still flow, so jobs without replies are done meanwhile; a thread with a
        reply waits and takes no other job; no run again, each reply once."""
        daemon = self.begin()
        self.answers_queue()
        replying = self.give("work", 2, f"wait {daemon.path('go')};reply yes", reply_to="answers")
        plain = self.give("work", 100, f"wait {daemon.path('go')};busy 20")
        for name in replying:
            daemon.ran(name, what="start")
        since = daemon.mark_log()
        end = self.alarm("set_vm_memory_high_watermark", ["0.00001"], ["absolute", "512MB"])
        open(daemon.path("go"), "w").close()
        began = time.monotonic()
        self.expect(daemon, "broker.blocked", since=since)
        daemon.patiently(lambda: len(daemon.events("job.done", since)) == len(plain), "those without a reply are done")
        wait_until(lambda: self.ready("work") == 0 and self.unacked("work") == 2, "all but two are acked", 20)
        seconds_pass(max(0, 6 - (time.monotonic() - began)))
        self.assertFalse({line["message_id"] for line in daemon.events("job.done", since)} & set(replying))
        self.assertEqual(self.unacked("work"), 2)
        cleared = time.time()
        end()
        self.expect(daemon, "broker.unblocked", since=since)
        daemon.wait_for("job.done", len(plain) + 2, since)
        self.seen(f"{len(plain)} jobs without a reply done and acked during the alarm; "
                  f"replies out {stamp(daemon.events('job.done')[-1]) - cleared:.1f} s after it")
        self.refuse(daemon, "conn.lost", "chan.closed", "worker.exited")
        self.finish(daemon, bound=0, answers=["answers"])

    def unacked(self, queue):
        """Deliveries that are out, as the channels count them."""
        return sum(row["messages_unacknowledged"] for row in self.broker.rows(
            "list_channels", "vhost", "messages_unacknowledged") if row["vhost"] == self.vhost)

    @row("A15")
    def test_A15(self):
        """A disk alarm, replies that cannot be sent, and then SIGTERM, with a drain limit of 4 s.

        The drain limit is honoured, what was not confirmed is given back, exit 75. After the alarm another daemon does all
        of it; at most one run per channel again."""
        daemon = self.begin(workers={"drain_limit": "4s"})
        self.answers_queue()
        jobs = self.give("work", 3 * self.threads, f"wait {daemon.path('go')};reply yes", reply_to="answers")
        daemon.patiently(lambda: len(daemon.ledger("start")) - len(daemon.ledger("end")) >= self.threads, "all threads run")
        end = self.alarm("set_disk_free_limit", ["1000GB"], ["50MB"])
        open(daemon.path("go"), "w").close()
        self.expect(daemon, "broker.blocked")
        asked = time.monotonic()
        self.assertEqual(daemon.stop(), 75)
        took = time.monotonic() - asked
        self.assertLess(took, 4 + 8)
        given_back = daemon.events("daemon.stopped")[-1]["given_back"]
        self.seen(f"exit 75 {took:.1f} s after SIGTERM, {given_back} given back")
        end()
        since = daemon.mark_log()
        daemon.start().consuming(since)
        for name in jobs:
            daemon.ran(name)
        self.finish(daemon, bound=self.threads, answers=["answers"])


class Settings(FaultTest):
    @row("A20")
    def test_A20(self):
        """The queue exists with other arguments (406 on declare): at the start, and when it is made so during a run.

        At the start: exit 78 with the queue's name. During a run: `queue.failed code=406`, said ever more rarely, while
        other queues go on; consumed again once the queue is as it should be."""
        self.channel.queue_declare("odd", durable=True, arguments={"x-max-length": 7})
        refused = self.daemon(self.settings([self.work("odd")])).start()
        self.assertEqual(refused.wait(), 78)
        self.assertIn("odd", refused.text())
        daemon = self.begin([{**CLASSIC, "declare": "active"}, self.work("other")])
        self.load("other", "busy 50", rate=20)
        self.under_way(daemon)
        since = daemon.mark_log()
        os.kill(daemon.worker(), signal.SIGSTOP)  # or it might make the queue before we do
        try:
            self.channel.queue_delete("work")
            self.channel.queue_declare("work", durable=True, arguments={"x-max-length": 7})
        finally:
            os.kill(daemon.worker(), signal.SIGCONT)
        self.expect(daemon, "queue.failed", since=since, queue="work", code=406)
        seconds_pass(5)
        self.under_way(daemon)
        said = len(daemon.events("queue.failed", since))
        self.assertLess(said, 6)
        self.channel.queue_delete("work")
        self.recovered(daemon, since, time.time(), 16, ["work"])
        self.give("work", self.threads, "busy 20")
        self.seen(f"exit 78 at the start; {said} complaints in 5 s")
        self.refuse(daemon, "conn.lost", "worker.exited", since=since)
        self.finish(daemon, bound=0, graves=["odd.dead"])


class ConsumerTimeout(OwnNodeTest):
    advanced = "[{rabbit, [{consumer_timeout, 3000}, {channel_tick_interval, 1000}]}].\n"

    @row("A16", must=True, own_node=True)
    def test_A16(self):
        """A job takes longer than RabbitMQ's consumer timeout, which is 3 s here, and another one does so each time it
        runs; their neighbours do not. Two attempts are allowed.

        `chan.closed code=406` for each (from RabbitMQ 4.3 on `consumer.cancelled`); this channel alone is rebuilt, and
        the neighbours' jobs go on; the job is told (WARREN_STOP_LOST), its ack is not sent; its next run is the next
        attempt. The one that always takes too long is dead-lettered after its last attempt. A time_limit that reaches
        the timeout is warned of at the start, with the names of both settings."""
        daemon = self.begin(self.work(time_limit="40m", retry={**RETRIES, "attempts": 2}))
        slow = self.give("work", 1, "once hear 20000", "slow")[0]
        stubborn = self.give("work", 1, "hear 20000", "stubborn")[0]
        daemon.ran(slow, what="start")
        self.load(commands="busy 100", rate=20)
        cancels = [int(part) for part in self.version().split(".")[:2]] >= [4, 3]
        ways = [("chan.closed", {"code": 406}), ("consumer.cancelled", {})]
        way, other = reversed(ways) if cancels else ways
        self.expect(daemon, way[0], queue="work", **way[1])
        self.expect(daemon, "job.lost", message_id=slow)
        self.expect(daemon, "job.done", message_id=slow)
        self.expect(daemon, "job.lost", 2, message_id=stubborn)
        self.expect(daemon, "job.dead", message_id=stubborn, verdict="timed-out")
        told = ["start", STOP_LOST, "end"]
        self.assertEqual(self.runs(daemon, slow), {1: told, 2: ["start", "end"]})
        self.assertEqual(self.runs(daemon, stubborn), {1: told, 2: told})
        self.assertEqual(len(daemon.events("job.lost")), 3)
        self.refuse(daemon, "conn.lost", other[0], "worker.exited")
        self.warned(daemon)
        self.finish(daemon, bound=0, both=1)
        self.assertEqual(self.found.dead[stubborn], 1)

    @staticmethod
    def runs(daemon, name):
        """What was noted in each attempt of a job."""
        noted = {}
        for entry in daemon.ledger(name=name):
            noted.setdefault(entry.attempt, []).append(entry.what)
        return noted

    def warned(self, daemon):
        text = daemon.text()
        self.assertIn("time_limit", text)
        self.assertIn("consumer_timeout", text)


class FewChannels(OwnNodeTest):
    conf = "channel_max = 4\n"

    @row("A19", own_node=True)
    def test_A19(self):
        """The broker allows 4 channels on a connection; 8 threads are configured.

        `config.refused reason=channel_max need= got=`, exit 78; no loop of connections."""
        daemon = self.daemon(self.settings([self.work(threads=8)])).start()
        self.assertEqual(daemon.wait(), 78)
        self.expect_refusal(daemon)
        self.assertLessEqual(len(daemon.events("conn.up")), 2)
        self.finish(daemon, code=78, stopped=True)

    def expect_refusal(self, daemon):
        found = daemon.events("config.refused", reason="channel_max", got=4)
        self.assertTrue(found)
        self.report["events"].append(f"config.refused reason=channel_max need={found[0]['need']} got=4")


class Cluster(FaultTest):
    """Three nodes; quorum queues have a member on each. The first one holds the epmd of all, so it is never killed."""

    _nodes = []

    @classmethod
    def node(cls):
        if not cls._nodes:
            cls._nodes.append(FaultNode())
            for _ in range(2):
                cls._nodes.append(FaultNode(settings=["--join", cls._nodes[0].folder]))
        return cls._nodes[0]

    @classmethod
    def tearDownClass(cls):
        while cls._nodes:
            cls._nodes.pop().remove()

    def setUp(self):
        super().setUp()
        self.urls = [node.url(self.vhost) for node in self._nodes]
        for node in self._nodes[1:]:
            self.addCleanup(node.start)

    def leader(self, queue="work"):
        """The number of the node that leads the queue."""
        rows = self.broker.rows("list_queues", "-p", self.vhost, "name", "leader")
        name = next(row["leader"] for row in rows if row["name"] == queue)
        ports = {"warren@localhost": 0}
        ports.update({f"warren-{node.port()}@localhost": i for i, node in enumerate(self._nodes) if i})
        return ports[name]

    def members(self, queue):
        """How many nodes have a member of the queue that takes part."""
        rows = self.broker.rows("list_queues", "-p", self.vhost, "name", "online")
        return next(len(row["online"]) for row in rows if row["name"] == queue)

    @row("A17", own_node=True)
    def test_A17(self):
        """Three nodes; the dead-letter queue is a quorum queue, too. The node is killed that leads the queue and holds our
        connection; it comes back; then the leading one is killed that does not hold our connection.

        First: connected to another node within 15 s, at most one run per channel again. Then: no connection is lost, and
        jobs are done again within 15 s. (With a classic dead-letter queue, whose only node is away, the work queue is not
        consumed meanwhile: `queue.failed` says so.)"""
        daemon = self.begin(self.work(dead_letter_type="quorum"), urls=[self.urls[1], self.urls[0]])
        self.assertEqual((self.leader(), self.members("work")), (1, 3))
        self.load(commands="busy 100", rate=30)
        self.under_way(daemon)
        since, killed = daemon.mark_log(), time.time()
        self._nodes[1].kill()
        self.expect(daemon, "conn.lost", since=since, conn="work")
        self.recovered(daemon, since, killed, 15)
        self._nodes[1].start()
        daemon.patiently(lambda: self.members("work") == 3, "all three take part again")
        third = f"warren-{self._nodes[2].port()}@localhost"
        name = f"{self.vhost}_work"
        daemon.patiently(lambda: self.lead(name, third) and self.leader() == 2, "the third node leads")
        self.under_way(daemon)
        since = daemon.mark_log()
        self._nodes[2].kill()
        killed = time.monotonic()
        self.under_way(daemon, 20)
        took = time.monotonic() - killed
        self.assertLess(took, 15)
        self.refuse(daemon, "conn.lost", "chan.closed", since=since)
        self.seen(f"a leader elsewhere: no connection lost, 20 jobs in {took:.1f} s")
        self._nodes[2].start()
        self.finish(daemon, bound=2 * self.threads)

    def lead(self, queue, node):
        leader = self.leader()
        now = "warren@localhost" if leader == 0 else f"warren-{self._nodes[leader].port()}@localhost"
        return now == node or self.broker.ctl("eval", f"ra:transfer_leadership({{'{queue}', '{now}'}}, {{'{queue}', '{node}'}}).")

    @row("A18", own_node=True)
    def test_A18(self):
        """Three nodes, of which the two that do not hold our connection are killed; they come back after 10 s.

        No confirms come meanwhile: threads wait, nothing more is called done. Then all is done; at most one run per
        channel again."""
        daemon = self.begin(urls=[self.urls[0]])
        self.answers_queue()
        self.assertEqual(self.members("work"), 3)
        self.load(commands="busy 100;reply yes", rate=30, reply_to="answers")
        self.under_way(daemon)
        wait_until(lambda: time.monotonic() > self.broker.keeps_from, "the queues are known", 10)
        for node in self._nodes[1:]:
            node.kill()
        seconds_pass(2)
        done = len(daemon.events("job.done"))
        seconds_pass(8)
        self.assertEqual(len(daemon.events("job.done")), done)
        since = len(daemon.ledger("end"))
        for node in self._nodes[1:]:
            node.start()
        daemon.patiently(lambda: len(daemon.ledger("end")) > since + 20, "jobs are done again")
        self.undisturbed(daemon)
        self.finish(daemon, bound=self.threads, answers=["answers"])
