#!/usr/bin/python3
"""warren subscribe against a real broker, with pika on the other side."""

import base64
import datetime
import decimal
import json
import os
import pty
import signal
import subprocess
import unittest

import canary
from broker_fixture import WARREN, Broker, BrokerTest, wait_until

HOSTILE = "a\n\x1b[31mred\x07\x00\x85\u202e\u2028z"
RAW = [b"\x1b", b"\x07", b"\x00", "\x85".encode(), "\u202e".encode(), "\u2028".encode()]


class SubscribeTest(BrokerTest):
    def subscribe(self, *args, **options):
        """Starts it and waits until it is subscribed."""
        process = self.spawn("subscribe", *args, **options)
        line = process.stderr.readline()
        self.assertIn(b"subscribed to", line)
        return process


class Counts(SubscribeTest):
    def fill(self, count):
        self.channel.queue_declare("q", durable=True)
        self.put("q", *[b"%d" % i for i in range(count)])

    def check_rest(self, first, count):
        """What follows was never taken: it is ready, and not redelivered."""
        self.assertEqual(self.ready("q"), count)
        method, _, body = self.get("q")
        self.assertEqual((body, method.redelivered), (b"%d" % first, False))

    def test_takes_no_more_than_asked_for(self):
        self.fill(10)
        out = self.warren("subscribe", "-q", "q", "-n", "3", "--body").stdout
        self.assertEqual(out, b"0\n1\n2\n")
        self.check_rest(3, 7)

    def test_nor_of_many(self):
        self.fill(700)
        for first, count in ((0, 100), (100, 101), (201, 250), (451, 1)):
            out = self.warren("subscribe", "-q", "q", "-n", str(count), "--body").stdout
            self.assertEqual(out.split(), [b"%d" % i for i in range(first, first + count)])
        self.check_rest(452, 248)

    def test_no_ack_with_a_count_loses_nothing(self):
        self.fill(300)
        self.warren("subscribe", "-q", "q", "-n", "2", "--no-ack")
        self.check_rest(2, 298)

    def test_no_ack(self):
        self.fill(300)
        process = self.subscribe("-q", "q", "--no-ack", "--body", stdout=subprocess.DEVNULL)
        wait_until(lambda: self.ready("q") == 0, "all are taken")
        self.end(process, 0, signal.SIGTERM)
        self.assertEqual(self.ready("q"), 0)

    def test_timeout(self):
        self.fill(2)
        out = self.warren("subscribe", "-q", "q", "-n", "3", "--timeout", "500ms", "--body", code=75).stdout
        self.assertEqual(out, b"0\n1\n")
        self.assertEqual(self.ready("q"), 0)
        self.warren("subscribe", "-q", "q", "--timeout", "100ms", "-Q")

    def test_interrupted_with_a_reader_that_does_not_read(self):
        self.channel.queue_declare("q", durable=True)
        self.put("q", *[b"%06d" % i + b"x" * 5000 for i in range(150)])
        process = self.subscribe("-q", "q", "--body")
        wait_until(lambda: self.ready("q") < 60, "it has taken as many as it may")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: process.poll() is not None, "it ends")
        out, _ = process.communicate()
        self.assertEqual(process.returncode, 0)
        whole = out.count(b"\n")
        self.assertGreater(whole, 0)
        self.assertEqual(self.ready("q"), 150 - whole)
        self.assertTrue(self.get("q")[2].startswith(b"%06d" % whole))

    def test_nobody_reads_any_more(self):
        self.fill(5)
        reader, writer = os.pipe()
        os.close(reader)
        self.warren_to(writer)
        self.assertEqual(self.ready("q"), 5)

    def warren_to(self, writer):
        process = self.subscribe("-q", "q", "--body", stdout=writer)
        os.close(writer)
        self.end(process, 0)

    def test_full_disk(self):
        self.fill(5)
        with open("/dev/full", "wb") as full:
            process = self.subscribe("-q", "q", stdout=full)
            self.end(process, 71)
        self.assertEqual(self.ready("q"), 5)


class Formats(SubscribeTest):
    def setUp(self):
        super().setUp()
        self.channel.queue_declare("q", durable=True)

    def json(self):
        return json.loads(self.warren("subscribe", "-q", "q", "-n", "1", "--json").stdout)

    def test_block(self):
        self.put("q", b"two\nlines", message_id="m", delivery_mode=2, priority=3, type="t",
                 headers={"k": "v", "n": 5})
        out = self.warren("subscribe", "-q", "q", "-n", "1").stdout.decode()
        self.assertEqual(out, "queue: q\nexchange: \nrouting_key: q\nredelivered: false\ndelivery_mode: 2\n"
                              "priority: 3\nmessage_id: m\ntype: t\nheader k: v\nheader n: 5\n"
                              "body: 9 bytes\n  two\n  lines\n\n")

    def test_json_properties(self):
        properties = dict(content_type="text/plain", content_encoding="utf-8", delivery_mode=1, priority=9,
                          correlation_id="c", reply_to="r", expiration="60000", message_id="m", timestamp=17,
                          type="t", user_id=canary.USER, app_id="a", cluster_id="")
        self.put("q", "grüße \"\\\n\u202e", **properties)
        got = self.json()
        self.assertEqual((got["queue"], got["exchange"], got["routing_key"], got["redelivered"]),
                         ("q", "", "q", False))
        del properties["cluster_id"]
        self.assertEqual({k: v for k, v in got["properties"].items() if v != ""}, properties)
        self.assertEqual(got["body"], "grüße \"\\\n\u202e")

    def test_json_headers(self):
        when = datetime.datetime(2025, 11, 23, tzinfo=datetime.timezone.utc)
        headers = {"s": "x", "i": -1, "big": 2 ** 40, "t": True, "none": None, "list": [1, "a", {"b": False}],
                   "table": {"deep": {"er": 1}}, "when": when.replace(tzinfo=None), "price": decimal.Decimal("1.25"),
                   "raw": b"\xff\x00"}
        self.put("q", b"", headers=headers)
        got = self.json()["headers"]
        self.assertEqual(got["when"], {"$timestamp": int(when.timestamp())})
        self.assertEqual(got["price"], {"$decimal": "1.25"})
        self.assertEqual(base64.b64decode(got["raw"]["$bytes"]), b"\xff\x00")
        for key in ("s", "i", "big", "t", "none", "list", "table"):
            self.assertEqual(got[key], headers[key])

    def test_json_of_bytes(self):
        body = bytes(range(256)) * 5
        for n in range(4):
            self.put("q", body[:len(body) - n])
            got = self.json()
            self.assertNotIn("body", got)
            self.assertEqual(base64.b64decode(got["body_base64"]), body[:len(body) - n])

    def test_hostile_text_is_one_line_of_json(self):
        self.put("q", HOSTILE, message_id=HOSTILE, headers={HOSTILE: HOSTILE})
        out = self.warren("subscribe", "-q", "q", "-n", "1", "--json").stdout
        self.assertEqual(out.count(b"\n"), 1)
        for raw in RAW:
            self.assertNotIn(raw, out)
        got = json.loads(out)
        self.assertEqual((got["body"], got["properties"]["message_id"], got["headers"]),
                         (HOSTILE, HOSTILE, {HOSTILE: HOSTILE}))

    def on_terminal(self, *args):
        """What a terminal gets."""
        master, slave = pty.openpty()
        process = self.spawn("subscribe", "-q", "q", "-n", "1", *args, stdout=slave)
        os.close(slave)
        out = b""
        try:
            while True:
                part = os.read(master, 65536)
                if not part:
                    break
                out += part
        except OSError:  # the other side is closed
            pass
        os.close(master)
        self.end(process, 0)
        return out

    def test_hostile_text_on_a_terminal(self):
        for args in ([], ["--json"], ["--body"]):
            self.put("q", HOSTILE, message_id=HOSTILE, type=HOSTILE, headers={HOSTILE: HOSTILE})
            out = self.on_terminal(*args)
            self.assertIn(b"red", out)
            for raw in RAW:
                self.assertNotIn(raw, out, args)

    def test_a_body_cannot_forge_a_block(self):
        self.put("q", "x\n\nqueue: forged\nbody: 1 bytes", message_id="m\nqueue: forged")
        out = self.warren("subscribe", "-q", "q", "-n", "1").stdout
        self.assertEqual([line for line in out.split(b"\n") if line.startswith(b"queue:")], [b"queue: q"])

    def test_bodies_are_raw_where_nobody_looks(self):
        self.put("q", bytes(range(256)))
        self.assertEqual(self.warren("subscribe", "-q", "q", "-n", "1", "--body").stdout, bytes(range(256)) + b"\n")


class Sources(SubscribeTest):
    def take(self, process, count):
        return [process.stdout.readline().strip() for _ in range(count)]

    def test_fanout(self):
        self.channel.exchange_declare("test", "fanout")
        process = self.subscribe("-e", "test", "--body", "-n", "1")
        self.channel.basic_publish("test", "", b"news", mandatory=True)
        self.assertEqual(self.end(process, 0)[0], b"news\n")

    def test_direct_with_several_keys(self):
        self.channel.exchange_declare("test2", "direct")
        process = self.subscribe("-e", "test2", "-k", "red", "-k", "green", "--body")
        for key in ("red", "blue", "green"):
            self.channel.basic_publish("test2", key, key)
        self.assertEqual(self.take(process, 2), [b"red", b"green"])
        self.end(process, 0, signal.SIGINT)

    def test_topic_declared_here(self):
        process = self.subscribe("-e", "test3", "--declare=transient", "--type", "topic", "--body", "-k",
                                 "kern.*", "*.critical")
        self.channel.exchange_declare("test3", "topic")
        for key in ("kern.info", "user.info", "user.critical"):
            self.channel.basic_publish("test3", key, key)
        self.assertEqual(self.take(process, 2), [b"kern.info", b"user.critical"])
        self.end(process, 0, signal.SIGTERM)

    def test_queue_declared_here(self):
        process = self.subscribe("-q", "made", "--declare=durable", "--type", "quorum", "-n", "1", "--body")
        self.warren("publish", "-q", "made", "x")
        self.assertEqual(self.end(process, 0)[0], b"x\n")

    def test_not_there(self):
        self.assertIn(b"no queue 'none'", self.warren("subscribe", "-q", "none", code=65).stderr)
        self.assertIn(b"no exchange 'none'", self.warren("subscribe", "-e", "none", code=65).stderr)
        self.warren("subscribe", "-q", "q", "-u", "amqp://127.0.0.1:1", code=69)
        self.warren("subscribe", "-q", "q", "-u", f"amqp://a:b@127.0.0.1:{self.broker.port()}", code=77)

    def test_the_queue_is_deleted(self):
        self.channel.queue_declare("q", durable=True)
        process = self.subscribe("-q", "q")
        self.channel.queue_delete("q")
        _, err = self.end(process, 69)
        self.assertIn(b"deleted", err)

    def test_usage(self):
        for args in ([], ["-q", "q", "-e", "e"], ["-q", "q", "-k", "k"], ["-q", ""], ["-e", ""], ["-q", "q", "-n", "0"],
                     ["-q", "q", "more"], ["-q", "q", "--timeout", "x"], ["-q", "q", "--type", "quorum"],
                     ["-q", "q", "--wrong"]):
            with self.subTest(args=args):
                self.warren("subscribe", *args, code=64)


class Disasters(SubscribeTest):
    """On a node of their own."""

    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()

    def test_the_broker_is_killed(self):
        self.channel.queue_declare("q", durable=True)
        process = self.subscribe("-q", "q")
        self.broker.kill()
        _, err = self.end(process, 69)
        self.assertIn(b"the connection is lost", err)


class Program(unittest.TestCase):
    def run_warren(self, *args):
        return subprocess.run([WARREN, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_help(self):
        for command in ("publish", "subscribe", "topology", "plugin"):
            for args in ((command, "--help"), ("help", command)):
                done = self.run_warren(*args)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn("xample", done.stdout)
        self.assertEqual(self.run_warren("help").returncode, 0)
        self.assertRegex(self.run_warren("--version").stdout, r"^warren \d+\.\d+\.\d+\n$")

    def test_a_wrong_command_is_guessed(self):
        for wrong, right in (("publsih", "publish"), ("sub", "subscribe"), ("topologie", "topology")):
            done = self.run_warren(wrong)
            self.assertEqual(done.returncode, 64)
            self.assertIn(f"did you mean '{right}'?", done.stderr)
        done = self.run_warren("frobnicate")
        self.assertEqual(done.returncode, 64)
        self.assertNotIn("did you mean", done.stderr)
        self.assertEqual(self.run_warren().returncode, 64)


if __name__ == "__main__":
    unittest.main()
