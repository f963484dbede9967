#!/usr/bin/python3
"""What a broker may do and a real one seldom does when it is looked at: against the scripted one, without any other."""

import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "run"))

from broker_fixture import PATIENCE, WARREN, wait_until  # noqa: E402
from fake_broker import FakeBroker, Place  # noqa: E402
from harness import Warrend, configuration  # noqa: E402

THREADS = 3
WORK = {"name": "work", "durable": True, "threads": THREADS, "task": "ledger.run", "retry": {"attempts": 1}}


class OddTest(unittest.TestCase):
    """A daemon, or `warren`, with a script for a broker."""

    def play(self, script):
        self.script = script
        self.place = Place(None)
        self.addCleanup(self.place.close)
        self.place.turn_to(script)
        return script

    def begin(self, script, **sections):
        self.play(script)
        broker = {"heartbeat": "1s", "reconnect_max": "1s", "confirm_timeout": "3s"}
        daemon = Warrend(lambda folder: configuration(folder, [self.place.url()], [WORK], broker=broker, **sections))
        self.addCleanup(daemon.remove)
        self.daemon = daemon.start()
        return daemon.consuming()

    def end(self):
        self.assertEqual(self.daemon.events("worker.exited"), [])
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(self.script.failures, [])

    def acked(self, count):
        wait_until(lambda: len(self.script.settled) >= count, f"{count} messages are settled", PATIENCE)
        self.assertEqual({kind for kind, _, _ in self.script.settled}, {"ack"})

    def count_dead(self):
        return sum(message.key == "work.dead" for message in self.script.published)


# ---- Channels ----

class Closing(FakeBroker):
    """Closes a channel twice in one breath; says it a third time when the channel is opened again, before the answer."""

    def __init__(self):
        super().__init__()
        self.closed = None

    def close_twice(self, client, channel):
        with client.lock:
            self.closed = client, channel
            self.close_channel(client, channel)
            client.send(channel, "channel.close", 406, "PRECONDITION_FAILED - once more", 0, 0)

    def on_channel_open(self, client, channel, *arguments):
        if self.closed == (client, channel):
            self.closed = None
            client.send(channel, "channel.close", 406, "PRECONDITION_FAILED - a late copy", 0, 0)
        super().on_channel_open(client, channel, *arguments)


class Declaring(FakeBroker):
    """Closes the connection over the first declarations of the work queue."""

    def __init__(self, codes):
        super().__init__()
        self.codes = list(codes)

    def on_queue_declare(self, client, channel, number, name, *arguments):
        if name == "work" and self.codes:
            client.send(0, "connection.close", self.codes.pop(0), "INTERNAL_ERROR - scripted", 50, 10)
            return
        super().on_queue_declare(client, channel, number, name, *arguments)


class Deaf(FakeBroker):
    """Says nothing more on the connections that it has when told so."""

    def __init__(self):
        super().__init__()
        self.deaf = set()

    def heard(self, client):
        if client not in self.deaf:
            super().heard(client)


class Channels(OddTest):
    def test_a_channel_close_that_comes_twice_and_late(self):
        daemon = self.begin(Closing())
        self.script.close_twice(*self.script.consumers("work")[0])
        daemon.wait_for("chan.closed", code=406)
        wait_until(lambda: len(self.script.consumers("work")) == THREADS and not self.script.closed, "all consume again", 20)
        for number in range(2 * THREADS):
            self.script.put("work", f"job-{number}")
        self.acked(2 * THREADS)
        self.assertEqual(daemon.events("conn.lost"), [])
        self.end()

    def test_a_consumer_that_the_server_cancels(self):
        daemon = self.begin(FakeBroker())
        client, channel = self.script.consumers("work")[0]
        with client.lock:
            client.send(channel, "basic.cancel", client.channels[channel].tag, 1)
            client.channels[channel].queue = None
        daemon.wait_for("consumer.cancelled")
        wait_until(lambda: len(self.script.consumers("work")) == THREADS, "all consume again", 20)
        self.script.put("work", "job")
        self.acked(1)
        self.assertEqual(self.script.count("basic.cancel_ok"), 0)  # 3.10 answers it with 503
        self.assertEqual(daemon.events("conn.lost"), [])
        self.end()

    def test_a_connection_that_is_closed_in_the_middle_of_a_declaration(self):
        daemon = self.begin(Declaring([541, 320]))
        self.assertEqual([line["code"] for line in daemon.events("conn.lost", conn="work")], ["541", "320"])
        self.script.put("work", "job")
        self.acked(1)
        self.end()

    def test_a_broker_that_falls_silent(self):
        daemon = self.begin(Deaf())
        self.script.put("work", f"job;wait {daemon.path('go')}")
        daemon.ran("job", what="start")
        self.script.deaf.update(self.script.clients)
        daemon.wait_for("conn.lost", conn="work", reason="heartbeat", seconds=10)
        open(daemon.path("go"), "w").close()
        daemon.wait_for("job.lost")
        daemon.ran("job", 2)
        self.acked(1)
        self.end()


# ---- Confirms ----

class Patient(FakeBroker):
    """Keeps confirms back until so many dead letters are there; then the last comes first, each with `multiple`."""

    def __init__(self, wanted):
        super().__init__()
        self.wanted, self.held, self.order = wanted, [], []

    def confirm(self, client, channel, number, message):
        if message.key != "work.dead":
            super().confirm(client, channel, number, message)
            return
        self.held.append((client, channel, number, message))
        if len(self.held) == self.wanted:
            for held_client, held_channel, held_number, held in reversed(self.held):
                self.order.append(held.body)
                held_client.send(held_channel, "basic.ack", held_number, 1)

    def settle(self, client, channel, name, tag, requeue):
        super().settle(client, channel, name, tag, requeue)
        self.order.append((name, self.settled[-1][1].body))


class Refusing(FakeBroker):
    """Refuses the first dead letters: `how` is "nack" or "return"."""

    def __init__(self, how, times):
        super().__init__()
        self.how, self.times = how, times
        self.early = []  # acked before their dead letter was kept

    def confirm(self, client, channel, number, message):
        if message.key == "work.dead" and self.times > 0:
            self.times -= 1
            self.early += self.settled
            if self.how == "nack":
                client.send(channel, "basic.nack", number, 1)
                return
            client.send(channel, "basic.return", 312, "NO_ROUTE", "", message.key)
            client.content(channel, message.properties, message.body)
            client.send(channel, "basic.ack", number, 0)
            return
        super().confirm(client, channel, number, message)


class Confirms(OddTest):
    def test_they_come_in_another_order_and_for_several(self):
        self.begin(Patient(THREADS))
        bodies = [f"job-{number};dead yes".encode() for number in range(THREADS)]
        for body in bodies:
            self.script.put("work", body)
        self.acked(THREADS)
        order = self.script.order
        for body in bodies:
            self.assertLess(order.index(body), order.index(("ack", body)), order)
        self.end()

    def test_a_dead_letter_that_is_refused_is_sent_again(self):
        for how in ("nack", "return"):
            with self.subTest(how):
                daemon = self.begin(Refusing(how, 2))
                self.script.put("work", "job;dead yes")
                self.acked(1)
                self.assertEqual(self.count_dead(), 3)
                self.assertEqual(self.script.early, [])
                daemon.wait_for("publish.failed")
                self.assertEqual(len(daemon.ledger("start")), 1)
                self.end()


class Shuffling(FakeBroker):
    """Confirms in tens: 6, 8 and 10 each for itself, then 5 and all before it, then 9 and all before it."""

    def confirm(self, client, channel, number, message):
        if number % 10 == 0:
            first = number - 10
            for tag, multiple in ((6, 0), (8, 0), (10, 0), (5, 1), (9, 1)):
                client.send(channel, "basic.ack", first + tag, multiple)


class Failing(FakeBroker):
    """Stores all but the last five of fifty, and says so in one nack."""

    def confirm(self, client, channel, number, message):
        if number == 45:
            client.send(channel, "basic.ack", 45, 1)
        elif number == 50:
            client.send(channel, "basic.nack", 50, 1)


class Returning(FakeBroker):
    """Has no queue for the third message."""

    def confirm(self, client, channel, number, message):
        if number == 3:
            client.send(channel, "basic.return", 312, "NO_ROUTE", "", message.key)
            client.content(channel, message.properties, message.body)
        client.send(channel, "basic.ack", number, 0)


class Publishing(OddTest):
    """`warren publish -l`, which has many messages under way on one channel."""

    def publish(self, script, count, code):
        self.play(script)
        with tempfile.TemporaryFile("w+") as lines:
            lines.writelines(f"line {number}\n" for number in range(count))
            lines.seek(0)
            done = subprocess.run([WARREN, "publish", "-u", self.place.url(), "-q", "work", "-l"], stdin=lines,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, code, done.stderr.decode())
        self.assertEqual(script.failures, [])
        self.assertEqual(len(script.published), count)
        return done.stderr.decode()

    def test_confirms_out_of_order_and_for_several(self):
        self.publish(Shuffling(), 100, 0)

    def test_a_nack_for_several(self):
        self.publish(Failing(), 50, 75)

    def test_a_return_before_its_confirm(self):
        self.publish(Returning(), 5, 65)


if __name__ == "__main__":
    unittest.main()
