"""Rows of what a broker sends that is none, or no good one: B9, B14, F4."""

import struct
import time

from accounting import BACK, RECONNECT_MAX, FaultTest, row
from broker_fixture import wait_until
from fake_broker import BODY, HEADER, METHOD, METHODS, FakeBroker, Message, Place, Script, encode

PERSISTENT = struct.pack(">HB", 0x1000, 2)
CONNECT_TIMEOUT = 2  # seconds; for the rows whose listener says nothing


class Silent(Script):
    """Accepts, reads, says nothing."""

    def serve(self, client):
        while client.peer.recv(65536):
            pass


class Http(Script):
    """A web server, which answers what it does not understand."""

    def serve(self, client):
        client.peer.recv(65536)
        client.raw(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>Bad Request</h1>\r\n")


class Garbage(Script):
    """A mebibyte of random bytes, then nothing."""

    def __init__(self, seed):
        super().__init__()
        self.random = seed

    def serve(self, client):
        client.raw(self.random.randbytes(1 << 20))
        while client.peer.recv(65536):
            pass


class PlaceTest(FaultTest):
    """The daemon's one URL leads to the real node, and for a while to something else."""

    def setUp(self):
        super().setUp()
        self.place = Place(self.broker.port())
        self.addCleanup(self.place.close)

    def begin_here(self, **sections):
        sections["broker"] = {"connect_timeout": f"{CONNECT_TIMEOUT}s", **sections.get("broker", {})}
        return self.begin(urls=[self.place.url(self.vhost)], **sections)

    def play(self, script):
        self.place.turn_to(script)
        return script

    def back(self, daemon, script, since):
        """The real node is there again. What the script did was what it was to do."""
        self.assertEqual(script.failures, [])
        cleared = time.time()
        self.place.turn_to(None)
        # An attempt that the script still has runs into its time limit first.
        self.recovered(daemon, since, cleared, RECONNECT_MAX + CONNECT_TIMEOUT + BACK)
        self.same_worker(daemon)

    def same_worker(self, daemon):
        self.assertEqual(len(daemon.events("worker.started", worker=0)), 1)
        self.refuse(daemon, "worker.exited")


class Impostors(PlaceTest):
    @row("B9", must=True)
    def test_B9(self):
        """Where the broker was somebody else listens: one who accepts and says nothing, a web server, one who sends a MiB of
        garbage.

        `conn.retry reason=timeout` within connect_timeout, `reason=protocol` at once; attempts at the back-off, no growth; consuming within its time
        when the broker is back; the jobs that ran are the only ones run again."""
        daemon = self.begin_here(broker={"reconnect_max": "1s"})
        self.load(commands="busy 50", rate=40)
        self.under_way(daemon)
        for script, reason in ((Silent(), "timeout"), (Http(), "protocol"), (Garbage(self.random), "protocol")):
            since = daemon.mark_log()
            self.play(script)
            self.expect(daemon, "conn.retry", since=since, conn="work", reason=reason)
            self.expect(daemon, "conn.retry", since=since, conn="publish", reason=reason)
            wait_until(lambda: script.accepted >= 3, "they try again", 30)
            self.back(daemon, script, since)
        self.finish(daemon, bound=3 * self.threads)


# ---- Scripts for a client that has logged in ----

class Attacker(FakeBroker):
    """Behaves well, but for what it does to the first consumer of each connection: `attacks` in turn, the last one again
    and again."""

    def __init__(self, attacks):
        super().__init__()
        self.attacks, self.done = list(attacks), 0
        self.attacked = set()

    def on_basic_consume(self, client, channel, number, queue, *arguments):
        super().on_basic_consume(client, channel, number, queue, *arguments)
        if queue == "work" and client not in self.attacked:
            self.attacked.add(client)
            attack = self.attacks[min(self.done, len(self.attacks) - 1)]
            self.done += 1
            attack(client, channel)


def impossible_body(client, channel):
    client.deliver_method(channel)
    client.content(channel, PERSISTENT, b"", 1 << 63)


def endless_body(client, channel):
    """Announces a TiB, sends a part of it, and another method."""
    client.deliver_method(channel)
    client.content(channel, PERSISTENT, b"x" * 300000, 1 << 40)
    client.deliver_method(channel)


def no_body(client, channel):
    client.deliver_method(channel)
    client.content(channel, PERSISTENT, b"", 5)
    client.deliver_method(channel)


def no_header(client, channel):
    client.deliver_method(channel)
    client.frame(BODY, channel, b"hello")


def beyond(client, channel):
    client.deliver_method(channel)
    client.content(channel, PERSISTENT, b"hello", 3)


def header_alone(client, channel):
    client.content(channel, PERSISTENT, b"")


def foreign_class(client, channel):
    client.deliver_method(channel)
    client.frame(HEADER, channel, struct.pack(">HHQ", 50, 0, 0) + PERSISTENT)


def unknown_channel(client, channel):
    client.send(900, "basic.deliver", "tag", 1, 0, "", "work")


def unknown_consumer(client, channel):
    client.deliver_method(channel, consumer="nobody")
    client.content(channel, PERSISTENT, b"job")


def unknown_method(client, channel):
    client.frame(METHOD, channel, struct.pack(">HH", 77, 1))


def short_method(client, channel):
    client.frame(METHOD, channel, encode("basic.deliver", "tag", 1, 0, "", "work")[:-3])


def unasked_answer(client, channel):
    client.send(channel, "queue.declare_ok", "work", 0, 0)


def unasked_close_ok(client, channel):
    client.send(channel, "channel.close_ok")


def unpublished_confirm(client, channel):
    client.send(channel, "basic.ack", 1 << 62, 1)


def wrong_end(client, channel):
    client.frame(METHOD, channel, encode("basic.cancel_ok", "tag"), end=b"\0")


def no_frame_at_all(client, channel):
    client.raw(b"\xff" * 64)


# What is sent, and what is said of it.
HOSTILE = [
    (impossible_body, "impossible size"), (endless_body, "before the one before it was complete"),
    (no_body, "before the one before it was complete"), (no_header, "a body frame came where none belongs"),
    (beyond, "a body frame came where none belongs"), (header_alone, "a content header came where none belongs"),
    (foreign_class, "a content header came where none belongs"), (unknown_channel, "on a channel that was never opened"),
    (unknown_consumer, "for a consumer that is not ours"), (unknown_method, ""), (short_method, ""),
    (unasked_answer, "nobody had asked for"), (unasked_close_ok, "nobody had asked for"),
    (unpublished_confirm, "what was never published"), (wrong_end, ""), (no_frame_at_all, ""),
]


def zero_frames(client, channel):
    """Legal: frames without a byte in them between the parts of a body, which comes in single bytes."""
    with client.lock:
        tag = client.deliver_method(channel)
        client.channels[channel].waiting[tag] = Message("", "work", PERSISTENT, b"zero")
        client.content(channel, PERSISTENT, b"", 4)
        for byte in b"zero":
            for _ in range(100):
                client.frame(BODY, channel, b"")
            client.frame(BODY, channel, bytes([byte]))


class Odd(FakeBroker):
    """Two messages whose frames take turns, once two channels consume; then one in very small pieces."""

    def __init__(self):
        super().__init__()
        self.pending = []

    def on_basic_consume(self, client, channel, number, queue, *arguments):
        super().on_basic_consume(client, channel, number, queue, *arguments)
        if queue != "work":
            return
        self.pending.append(channel)
        if len(self.pending) == 2:
            self.interleave(client, *self.pending)
        elif len(self.pending) == 3:
            zero_frames(client, channel)

    @staticmethod
    def interleave(client, one, two):
        for channel, name in ((one, b"one"), (two, b"two")):
            tag = client.deliver_method(channel)
            client.channels[channel].waiting[tag] = Message("", "work", PERSISTENT, name)
        client.content(two, PERSISTENT, b"", 3)
        client.content(one, PERSISTENT, b"", 3)
        for place in range(3):
            client.frame(BODY, one, b"one"[place:place + 1])
            client.frame(BODY, two, b"two"[place:place + 1])


class Chatterer(FakeBroker):
    """Says things at random to every client that has got as far as to consume or to publish: whole methods and contents, at
    the wrong time, on any channel."""

    events = ["basic.deliver", "basic.return", "basic.cancel", "channel.close", "connection.blocked", "connection.unblocked"]
    answers = sorted(name for name in METHODS if name.endswith("_ok")) + ["basic.ack", "basic.nack"]

    def __init__(self, seed):
        super().__init__()
        self.random = seed
        self.said = 0

    def argument(self, letter, tags):
        if letter in "bhlq":
            return self.random.randrange({"b": 2, "h": 600, "l": 1 << 32, "q": 5}[letter])
        return self.random.choice(["", "work", "x" * 255, *3 * tags])

    def chatter(self, client):
        for _ in range(self.random.randrange(1, 40)):
            name = self.random.choice(self.events if self.random.random() < 0.97 else self.answers)
            channel = 0 if name.startswith("connection") else self.random.choice(list(client.channels) or [1])
            tags = [state.tag for state in client.channels.values() if state.tag]
            client.send(channel, name, *(self.argument(letter, tags) for letter in METHODS[name][2]))
            if name in ("basic.deliver", "basic.return") and self.random.random() < 0.8:
                client.content(channel, PERSISTENT, b"chatter")
            self.said += 1

    def on_basic_consume(self, client, channel, *arguments):
        super().on_basic_consume(client, channel, *arguments)
        self.chatter(client)

    def on_confirm_select(self, client, channel, *arguments):
        super().on_confirm_select(client, channel, *arguments)
        self.chatter(client)

    def on_basic_ack(self, *_):
        """Of what was never delivered, too."""

    on_basic_nack = on_basic_reject = on_channel_close_ok = on_basic_ack


class Hostile(PlaceTest):
    @row("F4")
    def test_F4(self):
        """A malicious broker: bodies of 2^63 bytes and of a TiB, header without body, body without header or beyond its size, deliveries on
        unknown channels and for unknown consumers, answers and confirms that nobody asked for, methods cut short, frames with a wrong end.
        An odd one: frames of two channels that take turns, frames without a byte. And one that says whole methods at random.

        Each ends the connection with `conn.lost reason=protocol` and what was wrong, takes no memory, and brings nothing down; what is odd but legal
        is run and acked."""
        daemon = self.begin_here(broker={"reconnect_max": "1s"})
        since = daemon.mark_log()
        script = self.play(Attacker([attack for attack, _ in HOSTILE]))
        for number, (attack, words) in enumerate(HOSTILE):
            lost = self.nth_loss(daemon, since, number)
            self.assertEqual(lost["reason"], "protocol", f"{attack.__name__}: {lost}")
            self.assertIn(words, lost["text"], attack.__name__)
        self.report["events"].append("conn.lost reason=protocol")
        self.assertEqual(script.failures, [])
        chatterer = self.play(Chatterer(self.random))
        wait_until(lambda: chatterer.accepted >= 25, "25 connections are talked to", 60)
        self.same_worker(daemon)
        odd = self.play(Odd())
        for name in ("one", "two", "zero"):
            daemon.ran(name)
        wait_until(lambda: len(odd.settled) == 3, "each is acked", 20)
        self.assertEqual({kind for kind, _, _ in odd.settled}, {"ack"})
        self.load(commands="busy 50", rate=40)
        self.back(daemon, odd, daemon.mark_log())
        self.seen(f"{len(HOSTILE)} attacks, {chatterer.said} things said at random")
        self.finish(daemon, bound=0)

    @staticmethod
    def nth_loss(daemon, since, number):
        """The losses of the work connection in their order; the first is when the real broker went away."""
        return daemon.wait_for("conn.lost", number + 2, since, conn="work", role="worker 0")


class Bounds(FakeBroker):
    """A broker with another idea of frames."""

    def __init__(self, frame_max):
        super().__init__()
        self.tune = (2047, frame_max, 1)


def long_frame(client, channel):
    client.deliver_method(channel)
    client.content(channel, PERSISTENT, b"", 200000)
    client.frame(BODY, channel, b"x" * 200000)


def endless_frame(client, channel):
    client.raw(struct.pack(">BHI", BODY, channel, 0xFFFFFFFF) + b"x" * 100000)


class Frames(PlaceTest):
    @row("B14")
    def test_B14(self):
        """Frames of 200 kB and of 4 GiB where 128 KiB were agreed upon; frame_max offered as 0, 1, 4095, 4096 and 2^32 - 1.

        Longer frames end the connection, `reason=protocol`. 0 and more than ours mean ours, 131072; 4096, the protocol's least, works; what is
        less is refused or taken for that least."""
        daemon = self.begin_here(broker={"reconnect_max": "1s"})
        since = daemon.mark_log()
        script = self.play(Attacker([long_frame, endless_frame]))
        for number in range(2):
            lost = Hostile.nth_loss(daemon, since, number)
            self.assertEqual(lost["reason"], "protocol", lost)
        self.report["events"].append("conn.lost reason=protocol")
        self.assertEqual(script.failures, [])
        for offered in (0, 1, 4095, 4096, 0xFFFFFFFF):
            self.offer(daemon, offered)
        self.load(commands="busy 50", rate=40)
        self.back(daemon, self.place.script, daemon.mark_log())
        self.finish(daemon, bound=0)

    def offer(self, daemon, frame_max):
        since, name = daemon.mark_log(), f"offered-{frame_max}"
        script = self.play(Bounds(frame_max))

        def look():
            refused = daemon.events("conn.retry", since, conn="work", reason="protocol")
            return refused or script.consumers("work") and len(script.consumers("work")) == self.threads
        daemon.patiently(look, f"frame_max {frame_max} is refused or works", 20)
        if not script.consumers("work"):
            self.assertLess(frame_max, 4096)
            self.assertGreater(frame_max, 0)
            self.seen(f"frame_max {frame_max}: refused")
            return
        script.put("work", f"{name};busy 0{' ' * 10000};dead yes")  # several frames there and back
        daemon.ran(name)
        wait_until(lambda: script.settled, "it is acked", 20)
        self.assertEqual(len([m for m in script.published if m.key == "work.dead" and len(m.body) > 10000]), 1)
        used = {terms[1] for terms in script.terms}
        self.assertEqual(used, {131072 if frame_max == 0 else max(4096, min(frame_max, 131072))})
        self.assertEqual(script.failures, [])
        self.seen(f"frame_max {frame_max}: {used.pop()} is used")
