"""Rows of what publishers put into messages: F1 to F3, F5 to F11."""

import gzip
import hashlib
import os
import struct
import unittest

import pika

from accounting import FaultTest, row
import harness
import test_bad_input
from broker_fixture import wait_until
from test_bad_input import RawProperties, field, nested, text_field

MIB = 1 << 20
EVIL = "a\nevent=job.done forged=1\x1b[31m\r\x00\x07\u0085\u2028\u202e\x7f\ufeff\"quoted\" \\ end"
RAW = "\x1b\x00\x07\r\x85\u2028\u202e\x7f\ufeff"  # what of it must reach no log and no terminal


def nested_tables(depth):
    """By empty keys as small as they can be: 21,000 of them fit into a frame."""
    return b"".join(b"\0F" + struct.pack(">I", 6 * (depth - 1 - i)) for i in range(depth))


def nested_arrays(depth):
    return b"\1a" + b"".join(b"A" + struct.pack(">I", 5 * (depth - 1 - i)) for i in range(depth))


class PublisherTest(FaultTest):
    """Messages that pika would not make, in the account of the row."""

    def send(self, name, table=None, commands="", queue="work", body=None, **properties):
        """One message whose header table is `table` as it goes over the wire."""
        properties = {"message_id": name, "delivery_mode": 2, **properties}
        made = pika.BasicProperties(**properties) if table is None else RawProperties(table, **properties)
        if body is None:
            body = f"{name};{commands}" if commands else name
        self.channel.basic_publish("", queue, body, made, mandatory=True)
        self.confirmed[name] = queue

    def letters(self, daemon, count, queue="work.dead"):
        """The dead letters by their ids; they stay in the queue for the account."""
        daemon.patiently(lambda: self.ready(queue) >= count, f"{count} dead letters", 90)
        found = {}
        tags = []
        for _ in range(count):
            method, properties, body = self.channel.basic_get(queue)
            tags.append(method.delivery_tag)
            found[self.identify(properties, body)] = properties, body
        for tag in tags:
            self.channel.basic_nack(tag)
        return found

    def same_worker(self, daemon):
        self.assertEqual(len(daemon.events("worker.started", worker=0)), 1)
        self.refuse(daemon, "worker.exited")


def anonymous_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))


class Sizes(PublisherTest):
    @row("F1")
    def test_F1(self):
        """Bodies of 24 MiB where 16 MiB are the limit, three at a time, and one of exactly the limit plus one byte.

        They go through a temporary file, not through memory (growth less than 4 MiB), and are dead-lettered whole, as `refused`; nothing
        is given back or run; the others go on."""
        daemon = self.begin()
        worker = daemon.worker()
        before = peak = anonymous_kib(worker)
        hashes = {}
        for number, size in enumerate([24 * MIB] * 3 + [16 * MIB + 1]):
            name = f"large-{number}"
            body = name.encode() + b";" + os.urandom(size - len(name) - 1)
            hashes[name] = hashlib.sha256(body).digest()
            self.send(name, body=body)
        while len(daemon.events("job.dead")) < len(hashes):
            peak = max(peak, anonymous_kib(worker))
            self.assertTrue(daemon.process.poll() is None)
        letters = self.letters(daemon, len(hashes))
        for name, digest in hashes.items():
            properties, body = letters[name]
            self.assertEqual(properties.headers["x-warren-verdict"], "refused")
            self.assertEqual(hashlib.sha256(body).digest(), digest)
        self.assertLess(peak - before, 4096)
        self.seen(f"88 MiB of bodies, memory grew by {max(0, peak - before)} KiB")
        self.give("work", 20)
        self.same_worker(daemon)
        self.finish(daemon)


class Headers(PublisherTest):
    @row("F2", must=True)
    def test_F2(self):
        """Headers with 10,000 and 21,000 nested tables and arrays, through the real broker.

        rabbitmq-c up to 0.13 reads them: dead-lettered with their body, without their headers, and nothing else is touched. Later ones cannot: a
        notice is dead-lettered, then the message is rejected (`msg.rejected`). No worker ends. At the limit of 16 a message runs,
        and keeps its headers through a retry."""
        # A classic queue: RabbitMQ's quorum queues need seconds of their own for such a message.
        daemon = self.begin(self.work(type="classic", retry={"attempts": 2, "first": "1s", "jitter": 0.0}))
        self.load(commands="busy 20", rate=20)
        tables = {f"{kind}-{depth}": make(depth) for depth in (10000, 21000)
                  for kind, make in (("tables", nested_tables), ("arrays", nested_arrays))}
        for name, table in tables.items():
            self.send(name, table)
        self.send("allowed", nested(16), "retry later")
        letters = self.letters(daemon, len(tables) + 1)
        unread = len(daemon.events("conn.lost", reason="unreadable"))
        for name in tables if not unread else ():
            properties, body = letters[name]
            self.assertEqual((body, properties.headers["x-warren-verdict"]), (name.encode(), "refused"))
            self.assertIn("original headers are missing", properties.headers["x-warren-reason"])
        if unread:
            self.expect(daemon, "msg.rejected", len(tables))
            for name in tables:
                self.confirmed.pop(name)
        deep = letters["allowed"][0].headers
        self.assertEqual((deep["x-warren-verdict"], deep["x-warren-attempt"]), ("exhausted", 2))
        self.assertIn("t", deep)
        self.same_worker(daemon)
        self.seen("all read" if not unread else f"not read, {unread} connections lost")
        self.allow_stacks(daemon)
        self.finish(daemon, bound=unread * self.threads)

    def allow_stacks(self, daemon):
        """The library decodes by recursion: what it touches of the stack of a thread that reads stays with the process."""
        supervisor, *workers = self.baselines[daemon]
        self.baselines[daemon] = [supervisor, *((descriptors, threads, kib + threads * 4096)
                                                for descriptors, threads, kib in workers)]

    @row("F3")
    def test_F3(self):
        """Headers that fill a frame, an empty key, every kind of value, 1,000 keys, one key twice, no UTF-8, a value of unknown kind.

        Refused or run as documented, by the same worker over the same connection; what RabbitMQ itself does not take never arrives."""
        self.tried("test_an_empty_header_key", "test_headers_that_fill_the_frame", "test_headers_of_every_kind_come_back_as_they_were",
                   "test_a_thousand_headers_and_one_key_twice", "test_names_of_255_bytes_and_no_utf_8",
                   "test_headers_grown_to_the_limit_survive_a_retry")
        daemon = self.begin()
        with self.connect() as connection:
            try:
                channel = self.confirming(connection)
                channel.basic_publish("", "work", "unknown", RawProperties(field(b"key", b"?", b"")))
            except (pika.exceptions.AMQPError, OSError) as refusal:
                self.seen(f"unknown kind: {type(refusal).__name__}")
            else:
                self.fail("the broker took a value of unknown kind")
        for number in range(8):
            self.send(f"long-{number}", text_field(b"long", 120000))
        self.give("work", 20)
        self.assertEqual({letter[0].headers["x-warren-verdict"] for letter in self.letters(daemon, 8).values()}, {"refused"})
        self.refuse(daemon, "conn.lost")
        self.same_worker(daemon)
        self.finish(daemon)

    def tried(self, *names):
        """The tests of test_bad_input.py that are this row's, on this row's node."""
        harness._node = self.broker  # pylint: disable=protected-access
        result = unittest.TestResult()
        unittest.TestSuite(map(test_bad_input.Messages, names)).run(result)
        self.assertEqual([trouble for _, trouble in result.failures + result.errors], [])
        self.assertEqual(result.testsRun, len(names))


class Names(PublisherTest):
    @row("F5")
    def test_F5(self):
        """200 messages for tasks that nobody has, some without a name, one with a name that is none; between them sound ones.

        Dead-lettered at once as `unknown-task`, run never, one line of the log each."""
        queue = self.work(route="type", tasks=["ledger.*"])
        del queue["task"]
        daemon = self.begin([queue, self.work("plain", threads=1)], warm=["plain"])
        for number in range(200):
            kind = {"type": ("nobody.knows", "", EVIL, "ledger.nothing")[number % 4]} if number % 5 else {}
            self.send(f"unknown-{number}", **kind)
            if number % 10 == 0:
                self.send(f"sound-{number}", type="ledger.run")
        letters = self.letters(daemon, 200)
        self.assertEqual({letter[0].headers["x-warren-verdict"] for letter in letters.values()}, {"unknown-task"})
        self.assertEqual({letter[0].headers["x-warren-attempt"] for letter in letters.values()}, {1})
        self.assertEqual(len(daemon.events("job.dead")), 200)
        self.assertFalse([entry for entry in daemon.ledger() if entry.id.startswith("unknown")])
        self.same_worker(daemon)
        self.finish(daemon)

    @row("F6")
    def test_F6(self):
        """Forged headers of warren's own, attempts of -1, 0, 2^62, text, a table, a list, nothing; with and without a forged death in the
        return queue, which would make them believed.

        None gives a free retry: what is believed and absurd counts as the last attempt, what is not believed as the first."""
        daemon = self.begin(self.work(retry={"attempts": 3, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}))
        death = [{"queue": "work.retry", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["work"]}]
        values = [-1, 0, 1, 3, 4, 2 ** 62, "three", [1], {"a": 1}, None, True]
        runs = {}
        for number, value in enumerate(values):
            forged = {"x-warren-attempt": value, "x-warren-first-at": value, "x-warren-expires-at": "soon",
                      "x-warren-exchange": "e" * 300, "x-warren-routing-key": value}
            self.send(f"plain-{number}", headers=forged, commands="retry once")
            self.send(f"death-{number}", headers={**forged, "x-death": death}, commands="retry once")
            sound = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 3
            runs[f"plain-{number}"], runs[f"death-{number}"] = 3, 4 - value if sound else 1
        letters = self.letters(daemon, 2 * len(values))
        self.assertEqual({letter[0].headers["x-warren-verdict"] for letter in letters.values()}, {"exhausted"})
        self.assertEqual({name: len(daemon.ledger("start", name)) for name in runs}, runs)
        self.same_worker(daemon)
        self.finish(daemon)

    @row("F7")
    def test_F7(self):
        """Ids, types, names and headers with newline, ESC, NUL, U+0085, U+202E and more, at their full 255 bytes, and 60 KiB of ESC.

        One line of the log each, escaped, no field over 256 bytes; `warren subscribe` writes none of it raw, for people nor as JSON; the
        dead letter has all of it as it was."""
        daemon = self.begin()
        since = daemon.mark_log()
        long = EVIL + "x" * (255 - len(EVIL.encode()))
        raw = {"correlation_id": long, "type": long, "app_id": long, "content_type": long, "cluster_id": long,
               "reply_to": long, "headers": {long: long, "esc": "\x1b[2J" * 15000}}
        self.channel.basic_publish("", "work", f"evil;reply x;dead {EVIL.replace(chr(0), '')}".replace("\n", " "), pika.BasicProperties(
            message_id=long, **raw), mandatory=True)
        self.channel.basic_publish("", "work", b"evil\x1b]0;title\x07;dead \xff\xfe", pika.BasicProperties(message_id=long), mandatory=True)
        daemon.wait_for("job.dead", 2, since)
        with open(daemon.path("log"), newline="") as file:  # as it is: nothing but \n ends a line
            lines = file.read().split("\n")[since:-1]
        for character in RAW:
            self.assertFalse([line for line in lines if character in line], repr(character))
        self.assertEqual([line for line in lines if not line.startswith("time=")], [])
        self.assertLess(max(len(line.encode()) for line in lines), 4096)
        for line in daemon.events("job.dead", since):
            self.assertLessEqual(len(line["message_id"].encode()), 256)
        letters = [self.channel.basic_get("work.dead") for _ in range(2)]
        self.assertEqual(letters[0][1].message_id, long)
        self.assertEqual(letters[0][1].headers["esc"], "\x1b[2J" * 15000)
        for letter in letters:
            self.channel.basic_nack(letter[0].delivery_tag)
        self.check_output("--json")
        self.check_output()
        self.same_worker(daemon)
        self.finish(daemon)

    def check_output(self, *options):
        """What `warren subscribe` prints of two dead letters, which it puts into another queue's place."""
        for number in range(2):
            method, properties, body = self.get("work.dead")
            self.channel.queue_declare("shown")
            properties.headers.pop("x-death", None)
            self.channel.basic_publish("", "shown", body, properties, mandatory=True)
            self.channel.basic_publish("", "work.dead", body, properties, mandatory=True)
            del method, number
        out, said = self.end(self.spawn("subscribe", "-q", "shown", "-n", "2", *options), 0)
        for text in (out, said):
            for character in RAW:
                self.assertNotIn(character, text.decode())
        self.channel.queue_delete("shown")

    @row("F8")
    def test_F8(self):
        """reply_to that names a queue of somebody else, an exchange, nothing that exists; by the setting `replies`.

        "none" and "direct" publish nothing there (`reply.refused`), the job is done; "any", the default, publishes to the queue of that name
        alone, through the default exchange; what has no queue is counted (`reply.unroutable`), and the job is done."""
        queues = [self.work(replies=setting, name=setting, threads=1) for setting in ("any", "direct", "none")]
        daemon = self.begin(queues, warm=["any"])
        self.channel.queue_declare("victim", durable=True)
        self.channel.queue_bind("victim", "amq.topic", "#")
        for setting in ("any", "direct", "none"):
            self.send(f"{setting}-victim", queue=setting, reply_to="victim", commands="reply hello")
            for place in ("amq.topic", "amq.topic/key", "amq.rabbitmq.reply-to.forged", "/", "*", "#"):
                self.send(f"{setting}-{place}", queue=setting, reply_to=place, commands="reply hello")
        self.expect(daemon, "reply.refused", 6, queue="direct")
        self.expect(daemon, "reply.refused", 7, queue="none")
        self.expect(daemon, "reply.unroutable", 5, queue="any")
        daemon.wait_for("job.done", 21 + 3)
        self.assertEqual(self.ready("victim"), 1)
        self.asked.clear()
        self.same_worker(daemon)
        self.finish(daemon, answers=["victim"])


class Twice(PublisherTest):
    @row("F9")
    def test_F9(self):
        """Messages that all have one message_id, some with the same body, too.

        Each is run once: an id is the publisher's, and warren does not drop by it."""
        daemon = self.begin()
        for number in range(40):
            self.channel.basic_publish("", "work", f"same-{number % 20}", pika.BasicProperties(message_id="one", delivery_mode=2), mandatory=True)
        daemon.patiently(lambda: len([e for e in daemon.ledger("end") if e.id.startswith("same")]) == 40, "each is run")
        self.assertEqual(len(daemon.ledger("start")), len(daemon.ledger("end")))
        self.same_worker(daemon)
        self.finish(daemon, bound=20)  # the account takes those with the same body for one


class Numbers(PublisherTest):
    @row("F10")
    def test_F10(self):
        """The largest `expiration` that the broker takes; forged `x-warren-expires-at` of -1 and 2^63 - 1; a task that asks for a retry in 290 million
        years, or in less than no time.

        All run; the delay is clamped to the longest that the ladder has, 8 years, and says so."""
        daemon = self.begin(self.work(retry={"attempts": 2, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}))
        death = [{"queue": "work.retry", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["work"]}]
        self.send("expires", expiration="4294967295", commands="dead yes")
        for value in (-1, 0, 2 ** 63 - 1, -2 ** 63):
            self.send(f"forged{value}", headers={"x-death": death, "x-warren-attempt": 1, "x-warren-expires-at": value,
                                                 "x-warren-first-at": value, "x-delay": value})
        self.send("negative", commands="after -5;until 2")
        self.send("never", commands="after 9223372036854775807;retry much later")
        letter = self.letters(daemon, 1)["expires"][0]
        self.assertGreater(letter.headers["x-warren-expires-at"] - letter.headers["x-warren-first-at"], 4294967295 - 60000)
        daemon.ran("negative", 2)
        line = self.expect(daemon, "job.retry", message_id="never")
        self.assertEqual(line["delay"], "260046848s")  # 31 * 2^23: the top five bits
        self.seen(f"the longest delay: {line['delay']}")
        wait_until(lambda: len(daemon.events("job.done")) >= 12 + 5, "all others are done")
        self.assertFalse([entry for entry in daemon.ledger("start", "never") if entry.attempt > 1])
        self.confirmed.pop("never")  # it waits where it should
        wait_until(lambda: self.ready("warren.v1.delay.27") == 1, "it waits on the highest rung", 20)
        self.channel.queue_delete("warren.v1.delay.27")
        self.same_worker(daemon)
        self.finish(daemon)


class Bodies(PublisherTest):
    @row("F11")
    def test_F11(self):
        """Bodies without a byte; 100 MiB of zeros in 100 KiB of gzip, which says so in content_encoding.

        Passed on as they are: warren unpacks nothing."""
        daemon = self.begin()
        before = anonymous_kib(daemon.worker())
        bomb = b"bomb;dead yes;" + gzip.compress(b"\0" * 100 * MIB)
        self.send("bomb", body=bomb, content_encoding="gzip", content_type="text/plain")
        for number in range(10):
            self.channel.basic_publish("", "work", b"", pika.BasicProperties(message_id=f"empty-{number}", delivery_mode=2), mandatory=True)
        properties, body = self.letters(daemon, 1)["bomb"]
        self.assertEqual((body, properties.content_encoding), (bomb, "gzip"))
        daemon.ran("-", 10)
        self.assertLess(anonymous_kib(daemon.worker()) - before, 4096)
        self.same_worker(daemon)
        self.finish(daemon, bound=9)  # the account takes those without a body for one
