"""Rows B: what the network does between warrend and the broker, and A10, which needs the proxy."""

import time
import unittest

from accounting import SILENCE, row, seconds_pass
from wire import BACK, NetTest

MB = 1024 * 1024


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
        daemon = self.begin()
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


if __name__ == "__main__":
    unittest.main()
