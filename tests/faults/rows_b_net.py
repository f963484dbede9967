"""Rows B: what the network does between warrend and the broker, and A10, which needs the proxy."""

import json
import re
import subprocess
import time
import unittest

from accounting import SILENCE, row, seconds_pass
from wire import BACK, NetTest


class Ends(NetTest):
    """The connection ends, one way or the other."""

    @row("B1")
    def test_B1(self):
        """RST in the middle of a body frame.

        The half of the message is dropped: its task never started, so nothing is run again. The connection is replaced."""
        daemon = self.begin()
        since = daemon.mark_log()
        cut = self.proxy.rule("work", "s2c", "body", "do", "half,rst")
        name, = self.give("work", 1, "reply " + "x" * 100_000)
        self.proxy.met(cut)
        self.expect(daemon, "conn.lost", since=since, conn="work")
        self.recovered(daemon, since, time.time())
        daemon.ran(name)
        self.finish(daemon, bound=0)
        run, = self.runs(name)
        self.assertTrue(run.redelivered)

    @row("B2")
    def test_B2(self):
        """FIN from the broker's side only, under load.

        Seen at once, not after two heartbeats; again at most one run per channel."""
        daemon = self.begin()
        self.load(commands="busy 200", rate=40)
        self.under_way(daemon)
        since, began = daemon.mark_log(), time.time()
        self.proxy.tell("fin", "work", "s2c")
        self.noticed(daemon, since, began, 1, conn="work", reason="lost")
        self.recovered(daemon, since, began, BACK)
        self.finish(daemon, bound=self.threads)

    @row("B6", must=True)
    def test_B6(self):
        """One basic.ack is swallowed, then both sides get a reset.

        Exactly that task runs again, marked as redelivered; no other does."""
        daemon = self.begin()
        since = daemon.mark_log()
        swallowed = self.proxy.rule("work", "c2s", "basic.ack", "do", "swallow,rst")
        name, = self.give("work", 1)
        self.proxy.met(swallowed)
        self.recovered(daemon, since, time.time(), BACK)
        daemon.ran(name, 2)
        self.give("work", 10)
        self.finish(daemon, bound=1)
        self.assertEqual([(run.attempt, run.redelivered) for run in self.runs(name)], [(1, False), (1, True)])
        self.assertEqual(self.report["duplicates"], 1)

    @row("B7", must=True)
    def test_B7(self):
        """One confirm is swallowed, then both sides of the publishing connection get a reset: for a reply, a dead letter.

        Nobody can know whether the broker has the message, so it is published again: twice at most, with the same ids.
        The task is not run again, because its own connection was not hit, and its ack waits for the second confirm."""
        daemon = self.begin()
        self.channel.queue_declare("answers", durable=True)
        for commands, properties in (("reply yes", {"reply_to": "answers"}), ("dead yes", {})):
            since = daemon.mark_log()
            swallowed = self.proxy.rule("publish", "s2c", "basic.ack", "do", "swallow,rst")
            name, = self.give("work", 1, commands, **properties)
            self.proxy.met(swallowed)
            self.expect(daemon, "conn.lost", since=since, conn="publish")
            self.expect(daemon, "job.dead" if commands == "dead yes" else "job.done", since=since, message_id=name)
            self.assertEqual(len(self.runs(name)), 1)
        self.assertFalse(daemon.events("conn.lost", conn="work"))
        # One for the dead letter that is there twice.
        self.finish(daemon, bound=1, answers=["answers"], answer_bound=1)
        self.assertEqual(sum(self.found.answers.values()), 2)
        self.assertEqual(self.found.dead[name], 2)


class Silence(NetTest):
    """Nothing comes, and nobody says why."""

    @row("B3", must=True)
    def test_B3(self):
        """A black hole both ways, while nothing runs.

        Both connections are given up after two heartbeats of silence, with that reason; attempts to connect run into
        their time limit; once the network is back, so are the consumers."""
        daemon = self.begin()
        since, began = daemon.mark_log(), time.time()
        self.proxy.tell("drop", "all", "both")
        for conn in ("work", "publish"):
            self.noticed(daemon, since, began, SILENCE, conn=conn, reason="heartbeat")
        self.expect(daemon, "conn.retry", since=since, reason="timeout")
        self.recovered(daemon, since, self.heal(), BACK)
        self.give("work", 20, "busy 10")
        self.finish(daemon, bound=0)

    @row("B4")
    def test_B4(self):
        """A black hole both ways, while tasks run that do not listen.

        Their runs are told that they are lost as soon as the silence is noticed; the broker gives the messages to free
        threads, so two runs of one message overlap; at most one more per channel. A late result is not published:
        each message has one answer, that of the run that still has the lease."""
        daemon = self.begin()
        self.channel.queue_declare("answers", durable=True)
        names = self.give("work", 2, "busy 9000;reply yes", reply_to="answers")
        for name in names:
            daemon.ran(name, what="start")
        since, began = daemon.mark_log(), time.time()
        self.proxy.tell("drop", "all", "both")
        self.noticed(daemon, since, began, SILENCE, conn="work", reason="heartbeat")
        self.recovered(daemon, since, self.heal(), BACK + 9)  # a thread that still runs does not consume
        self.expect(daemon, "job.lost", 2, since)
        self.finish(daemon, bound=self.threads, answers=["answers"], answer_bound=0)
        self.assertEqual([len(self.runs(name)) for name in names], [2, 2])

    @row("B5")
    def test_B5(self):
        """Only what warrend sends is lost; the broker is still heard.

        The broker hears no heartbeat and closes the connections; again at most one run per channel."""
        daemon = self.begin()
        self.load(commands="busy 200", rate=40)
        self.under_way(daemon)
        since, began = daemon.mark_log(), time.time()
        self.proxy.tell("drop", "all", "c2s")
        self.noticed(daemon, since, began, 2 * SILENCE, conn="work")  # the broker's own time to notice
        self.recovered(daemon, since, self.heal(), BACK)
        self.finish(daemon, bound=self.threads)


class Damage(NetTest):
    """What arrives is not what was sent."""

    @row("B13", must=True)
    def test_B13(self):
        """A frame with a flipped bit (in its type, channel, length, last byte), half a frame, a wrong last byte, noise.

        Each time the connection is replaced for that reason, nothing behind the damage is believed, and at most one
        run per channel is run again."""
        daemon = self.begin(self.work(crash_limit=20))  # a message that often comes back is no reason for the quarantine
        damages = ["flip=0", "flip=3", "flip=-1", "half", "badend", "garbage=64"]
        self.random.shuffle(damages)
        for damage in damages:
            since = daemon.mark_log()
            hit = self.proxy.rule("work", "s2c", "basic.deliver", "do", damage)
            self.give("work", self.threads, "busy 20")
            self.proxy.met(hit)
            line = self.expect(daemon, "conn.lost", since=since, conn="work")
            self.seen(f"{damage}: {line['reason']}")
            self.assertEqual(line["reason"], "protocol")
            self.recovered(daemon, since, time.time(), BACK)
        self.finish(daemon, bound=len(damages) * self.threads)


class Slow(NetTest):
    """Everything comes, but when?"""

    @row("B8")
    def test_B8(self):
        """The broker answers one byte a second during the handshake.

        The attempt ends at its time limit (`conn.retry reason=timeout`), and the next URL is tried; jobs are done."""
        self.proxy.tell("rate", "new", "s2c", 1)
        daemon = self.begin(urls=[self.proxy.url(self.url), self.url])
        self.expect(daemon, "conn.retry", 2, reason="timeout")
        self.give("work", 20)
        self.finish(daemon, bound=0)

    @row("B10")
    def test_B10(self):
        """After the login the line becomes so slow (20 bytes a second) that a message of 100 kB stands still half-way.

        Bytes come, so no heartbeat is missed: after half a minute without a whole frame the connection is given up
        all the same. The publishing connection is not touched."""
        daemon = self.begin()
        since = daemon.mark_log()
        self.proxy.tell("rate", "work", "s2c", 20)
        self.give("work", 1, "reply " + "x" * 100_000)
        self.expect(daemon, "conn.lost", since=since, conn="work", reason="timeout")
        self.recovered(daemon, since, self.heal(), BACK)
        self.finish(daemon, bound=0)
        self.assertFalse(daemon.events("conn.lost", since, conn="publish"))

    @row("B11")
    def test_B11(self):
        """A round trip of 500 ms, and up to 400 ms more at random.

        No heartbeat is lost, nothing is run again, and the jobs get on. How fast is not measured here: each costs its
        thread a round trip."""
        daemon = self.begin()
        self.channel.queue_declare("answers", durable=True)
        since = daemon.mark_log()
        self.proxy.tell("delay", "all", "both", 250, 200)
        began = time.monotonic()
        self.give("work", 6 * self.threads, "busy 100;reply yes", reply_to="answers")
        daemon.wait_for("job.done", 6 * self.threads, since)
        self.seen(f"{6 * self.threads} jobs of 0.1 s by {self.threads} threads in {time.monotonic() - began:.1f} s")
        self.heal()
        self.refuse(daemon, "conn.lost", "broker.silent", "publish.failed")
        self.finish(daemon, bound=0, answers=["answers"])

    @row("B12")
    def test_B12(self):
        """50 kB a second, with messages and replies that take several heartbeats: two of 400 kB each way.

        Nobody is taken for dead: no connection is lost, nothing is run or answered again."""
        daemon = self.begin()
        self.channel.queue_declare("answers", durable=True)
        self.proxy.tell("rate", "all", "both", 50_000)
        self.give("work", 2, "reply " + "x" * 400_000, reply_to="answers")
        daemon.wait_for("job.done", 2, daemon.mark_log())
        self.heal()
        self.refuse(daemon, "conn.lost", "conn.stuck", "publish.failed")
        self.finish(daemon, bound=0, answers=["answers"])

    @row("B15")
    def test_B15(self):
        """The stream is cut into pieces: a session where every byte comes alone, and 24 sessions with one pause each,
        at a position that the seed chooses among all of a recorded session.

        All sessions look the same: the job is done and answered once, nothing is lost but what the test resets."""
        daemon = self.begin()
        self.channel.queue_declare("answers", durable=True)
        self.session(daemon, "chop", 1)
        # The quarantine has a thread less to set up, so the longest is the worker's.
        lengths = [(max(sent for what, sent, _ in self.proxy.conns().values() if what == "work"), "c2s"),
                   (max(got for what, _, got in self.proxy.conns().values() if what == "work"), "s2c")]
        self.seen(f"a session has {lengths[0][0]} bytes there and {lengths[1][0]} back")
        for number in range(24):
            length, way = lengths[number % 2]
            self.session(daemon, "split", self.random.randrange(1, length), 20, way=way)
        self.finish(daemon, bound=0, answers=["answers"])

    def session(self, daemon, fault, *numbers, way="both"):
        """One session with a fault, from its connect to the answer to one job."""
        self.proxy.tell("heal", "all", "both")
        self.proxy.tell(fault, "all", way, *numbers)
        since = daemon.mark_log()
        self.proxy.tell("rst", "all", "both")
        daemon.wait_for("conn.up", 2, since, role="worker 0")
        daemon.wait_for("queue.consuming", since=since, name="work")
        name, = self.give("work", 1, "reply yes", reply_to="answers")
        daemon.wait_for("job.done", since=since, message_id=name)
        self.assertEqual(len(self.losses(daemon, since)), 2, f"{fault} {numbers} {way}")


class Cancels(NetTest):
    @row("A10")
    def test_A10(self):
        """The queue is deleted under running tasks, the broker's cancels come a second late, and within that second the
        broker is killed; then it starts again.

        What was in the queue is the operator's loss. The queue is made again, every thread consumes, none is stuck."""
        # RabbitMQ 3.10 leaves a quorum queue without a leader for ever when it is killed just after the declaration.
        daemon = self.begin(self.work(type="classic"))
        self.give("work", 1, "until 2")
        daemon.wait_for("job.retry")
        daemon.wait_for("job.done", daemon.queues[0]["threads"] * 3 + 1)
        gone = self.give("work", self.threads, "busy 3000")
        for name in gone:
            daemon.ran(name, what="start")
        since = daemon.mark_log()
        late = self.proxy.rule("work", "s2c", "basic.cancel", "always", "do", "delay=1000")
        self.channel.queue_delete("work")
        self.proxy.met(late)
        self.broker.kill()
        self.expect(daemon, "conn.lost", since=since, conn="work")
        opened = self.broker.start()
        self.recovered(daemon, since, opened, BACK)
        self.channel = self.open_channel()
        self.give("work", 20, "busy 10")
        self.finish(daemon, bound=0, excluded=gone)


class Storm(NetTest):
    processes_of_daemon, threads = 2, 1

    @row("B18")
    def test_B18(self):
        """All connections of 5 daemons with 2 workers and a quarantine each (30 connections) are reset at once, and for 8 s whoever connects is hung up on.

        Attempts spread: no tenth of a second sees more than a tenth of them all. Everybody is back within 15 s, and the
        attempts become fewer while the outage lasts."""
        daemons = [self.begin(self.work(f"work{i}", type="classic")) for i in range(5)]
        marks = [daemon.mark_log() for daemon in daemons]
        before, began = self.proxy.accepted(), time.monotonic() * 1000
        self.proxy.tell("mode", "hangup")
        self.proxy.tell("rst", "all", "both")
        seconds_pass(8)
        cleared = self.heal()
        for daemon, since in zip(daemons, marks):
            self.recovered(daemon, since, cleared, 15)
        times = [s.ms - began for s in self.proxy.seen("accept")][before:]
        most = max(sum(at <= other < at + 100 for other in times) for at in times)
        self.seen(f"{len(times)} attempts, at most {most} in 100 ms")
        self.assertLessEqual(most, len(times) / 10)
        for i in range(5):
            self.give(f"work{i}", 4)
        self.finish(daemons, bound=0)

    @row("B19")
    def test_B19(self):
        """One consuming socket of two workers is destroyed by the host (`ss -K`).

        Only that worker rebuilds, and only that connection; again at most one run per channel of it."""
        daemon = self.begin(urls=[self.url])
        rows = self.broker.rows("list_connections", "peer_port", "client_properties", "vhost")
        ports = [row["peer_port"] for row in rows
                 if row["vhost"] == self.vhost and " work\"" in json.dumps(row["client_properties"])]
        away = {int(line["pid"]) for line in daemon.events("worker.started", worker="quarantine")}
        ports = [port for port in ports if self.owner(port) not in away]
        self.assertEqual(len(ports), 2)
        self.load(commands="busy 200", rate=10)
        self.under_way(daemon)
        since, began = daemon.mark_log(), time.time()
        self.destroy(self.random.choice(ports))
        self.noticed(daemon, since, began, 1, conn="work")
        daemon.wait_for("queue.consuming", since=since, name="work", seconds=BACK)
        self.under_way(daemon)
        self.assertEqual(len(daemon.events("conn.lost", since)), 1)
        self.assertEqual(len(daemon.events("queue.consuming", since, name="work")), 1)
        self.finish(daemon, bound=self.threads)

    @staticmethod
    def owner(port):
        """The process id of who connects from that port."""
        sockets = subprocess.run(["ss", "-tnpH", "sport", "=", f":{port}"], stdout=subprocess.PIPE, text=True, check=True)
        return int(re.search(r"pid=(\d+)", sockets.stdout)[1])

    def destroy(self, port):
        done = subprocess.run(["ss", "-K", "-tn", "src", "127.0.0.1", "sport", "=", f":{port}"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if f":{port}" not in done.stdout:
            self.skipTest(f"this kernel or user destroys no sockets: {done.stdout.strip()[-100:]}")


if __name__ == "__main__":
    unittest.main()
