#!/usr/bin/python3
"""warren publish against a real broker, with pika on the other side."""

import json
import os
import pty
import re
import select
import subprocess
import tempfile
import threading
import time
import unittest

import pika

import canary
from broker_fixture import WARREN, Broker, BrokerTest, wait_until

UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


class Messages(BrokerTest):
    def setUp(self):
        super().setUp()
        self.channel.queue_declare("q", durable=True)

    def bodies(self, count):
        return [self.get("q")[2] for _ in range(count)]

    def test_arguments_are_messages(self):
        self.warren("publish", "-q", "q", "one", "", "three")
        self.assertEqual(self.bodies(3), [b"one", b"", b"three"])

    def test_file_and_standard_input_are_one_message(self):
        body = bytes(range(256)) * 1000
        self.warren("publish", "-q", "q", "-f", "-", input=body)
        self.warren("publish", "-q", "q", "-f", __file__)
        with open(__file__, "rb") as file:
            self.assertEqual(self.bodies(2), [body, file.read()])

    def test_lines_are_messages(self):
        self.warren("publish", "-q", "q", "-l", input=b"a\n\nc\0d\nlast without newline")
        self.assertEqual(self.bodies(4), [b"a", b"", b"c\0d", b"last without newline"])
        self.warren("publish", "-q", "q", "-l", input=b"")
        self.assertEqual(self.ready("q"), 0)

    def test_a_line_is_sent_as_it_comes(self):
        process = self.spawn("publish", "-q", "q", "-l")
        process.stdin.write(b"first\n")
        process.stdin.flush()
        self.assertEqual(self.bodies(1), [b"first"])
        process.stdin.write(b"second")
        self.end(process, 0)
        self.assertEqual(self.bodies(1), [b"second"])

    def test_long_lines_and_many(self):
        lines = [b"x" * 300000, b"y" * 2000000] + [b"line %d" % i for i in range(20000)]
        done = self.warren("publish", "-q", "q", "-l", "-v", input=b"\n".join(lines))
        self.assertIn(b"published 20002, confirmed 20002, unroutable 0", done.stderr)
        out = self.warren("subscribe", "-q", "q", "-n", "20002", "--body", "--timeout", "40s").stdout
        self.assertEqual(out.split(b"\n")[:-1], lines)

    def test_properties_and_headers(self):
        self.warren("publish", "-q", "q", "-t", "text.upper", "--priority", "7", "--expiry", "90s",
                    "--content-type", "text/plain", "--correlation-id", "c", "--reply-to", "r",
                    "--app-id", "a", "--message-id", "m", "-H", "text=a=b", "-H", "n:int=5",
                    "-H", "yes:bool=true", "-H", "with:colon:string=v", "body")
        _, p, _ = self.get("q")
        self.assertEqual((p.type, p.priority, p.expiration, p.content_type), ("text.upper", 7, "90000", "text/plain"))
        self.assertEqual((p.correlation_id, p.reply_to, p.app_id, p.message_id), ("c", "r", "a", "m"))
        self.assertEqual(p.delivery_mode, 2)
        self.assertEqual(p.headers, {"text": "a=b", "n": 5, "yes": True, "with:colon": "v"})
        # This pika cannot read doubles and negative numbers, so ask ourselves.
        self.warren("publish", "-q", "q", "-H", "n:int=-9223372036854775808", "-H", "x:double=1.5", "body")
        line = self.warren("subscribe", "-q", "q", "-n", "1", "--json").stdout
        self.assertEqual(json.loads(line)["headers"], {"n": -2 ** 63, "x": 1.5})
        self.warren("publish", "-q", "q", "--transient", "body")
        self.assertEqual(self.get("q")[1].delivery_mode, 1)

    def test_every_message_has_an_id_of_its_own(self):
        self.warren("publish", "-q", "q", "--repeat", "300", "a", "b")
        ids = [self.get("q")[1].message_id for _ in range(600)]
        self.assertEqual(len(set(ids)), 600)
        self.assertTrue(all(UUID.match(i) for i in ids), ids[0])
        self.warren("publish", "-q", "q", "--message-id", "job", "a", "b")
        self.assertEqual([self.get("q")[1].message_id for _ in range(2)], ["job-1", "job-2"])


class Routing(BrokerTest):
    def test_exchange_and_key(self):
        self.channel.exchange_declare("test2", "direct")
        self.channel.queue_declare("q", durable=True)
        self.channel.queue_bind("q", "test2", "red")
        self.channel.queue_bind("q", "test2", "")
        self.warren("publish", "-e", "test2", "-r", "red", "1")
        self.warren("publish", "-e", "test2", "2")
        self.assertEqual([self.get("q")[0].routing_key for _ in range(2)], ["red", ""])
        self.warren("publish", "-e", "test2", "-r", "green", "3", code=65)

    def test_unroutable(self):
        done = self.warren("publish", "-q", "nowhere", "--message-id", "lost", "x", code=65)
        self.assertIn(b"message lost is unroutable", done.stderr)
        self.warren("publish", "-q", "nowhere", "--allow-unroutable", "x")
        done = self.warren("publish", "-q", "nowhere", "--repeat", "2000", "x", code=65)
        self.assertIn(b"published 2000, confirmed 2000, unroutable 2000", done.stderr)
        self.assertLess(len(done.stderr.splitlines()), 10)

    def test_no_such_exchange(self):
        done = self.warren("publish", "-e", "nope", "x", code=65)
        self.assertIn(b"no exchange 'nope'", done.stderr)

    def test_a_full_queue_refuses(self):
        self.channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        done = self.warren("publish", "-q", "full", "--repeat", "50", "x", code=75)
        self.assertIn(b"refused", done.stderr)

    def test_declare_creates_what_is_missing(self):
        self.warren("publish", "-q", "d", "--declare=durable", "--type", "quorum", "1")
        self.channel.queue_declare("d", durable=True, arguments={"x-queue-type": "quorum"})
        self.warren("publish", "-q", "d", "--declare=durable", "2")  # what is there stays as it is
        self.warren("publish", "-e", "x", "--declare=transient", "--type", "fanout", "1", code=65)
        self.channel.exchange_declare("x", "fanout")

    def test_declare_makes_transient_queues(self):
        if not self.broker.takes_transient_queues():
            self.skipTest("this broker refuses transient queues that are not exclusive")
        self.warren("publish", "-q", "t", "--declare=transient", "1")
        self.channel.queue_declare("t", durable=False)

    def test_a_broker_that_refuses_transient_queues(self):
        try:
            self.broker.ctl("list_deprecated_features")
        except RuntimeError:
            self.skipTest("this broker has no deprecated features")
        with tempfile.NamedTemporaryFile("w") as conf:
            conf.write("deprecated_features.permit.transient_nonexcl_queues = false\n")
            conf.flush()
            node = Broker(settings=["--conf", conf.name])
        self.addCleanup(node.kill)
        for args in (["publish", "x"], ["subscribe"]):
            done = self.warren(*args, "-q", "t", "--declare=transient", code=77,
                               env={**os.environ, "WARREN_URL": node.url(node.add_vhost())})
            self.assertIn(b"transient: the broker refuses queues that are neither durable nor exclusive", done.stderr)

    def test_refusals(self):
        self.channel.queue_declare("q", durable=True)
        port = self.broker.port()
        self.warren("publish", "-u", self.url.replace("@", "-wrong@"), "-q", "q", "x", code=77)
        self.warren("publish", "-u", f"amqp://127.0.0.1:{port}/no-such-vhost", "-q", "q", "x", code=77)
        self.warren("publish", "-u", "amqp://127.0.0.1:1", "-q", "q", "x", code=69)
        self.warren("publish", "-u", "http://127.0.0.1", "-q", "q", "x", code=64)
        self.assertEqual(self.ready("q"), 0)

    def test_the_url_is_wiped(self):
        self.channel.queue_declare("q", durable=True)
        process = self.spawn("publish", "-u", self.url, "-q", "q", "-l", env=dict(os.environ))
        process.stdin.write(b"x\n")
        process.stdin.flush()
        self.get("q")
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            self.assertFalse(canary.sings(file.read()))
        self.end(process, 0)

    def test_usage(self):
        for args in ([], ["-q", "q"], ["x"], ["-q", "q", "-e", "e", "x"], ["-q", "q", "-l", "x"],
                     ["-q", "q", "-r", "k", "x"], ["-q", "", "x"], ["-e", "e", "--delay", "1s", "x"],
                     ["-q", "q", "--delay", "soon", "x"], ["-q", "q", "--delay", "2s", "--expiry", "1s", "x"],
                     ["-q", "q", "-H", "novalue", "x"], ["-q", "q", "-H", "n:int=five", "x"],
                     ["-q", "q", "-H", "n:itn=5", "x"], ["-q", "q", "--priority", "256", "x"],
                     ["-q", "q", "--declare", "maybe", "x"], ["-q", "q", "--type", "quorum", "x"],
                     ["-q", "q" * 256, "x"], ["-q", "q", "--wait", "--reply-to", "r", "x"],
                     ["-q", "q", "--no-such-option", "x"], ["-q", "q", "-f", "/no/such/file"]):
            with self.subTest(args=args):
                done = self.warren("publish", *args, code=64)
                self.assertTrue(done.stderr)

    def test_words_of_others_do_not_reach_the_terminal_raw(self):
        done = self.warren("publish", "-e", "no\x1b[31m\nsuch\u202e", "x", code=65)
        self.assertNotIn(b"\x1b", done.stderr)
        self.assertNotIn("\u202e".encode(), done.stderr)
        self.warren("pub\x1b[31mlish", code=64)


class Delays(BrokerTest):
    def test_a_delayed_message_comes_later(self):
        self.channel.queue_declare("q", durable=True)
        began = time.monotonic()
        self.warren("publish", "-q", "q", "--delay", "2s", "--expiry", "1h", "-H", "k=v", "--message-id", "m", "late")
        self.assertEqual(self.ready("q"), 0)
        method, properties, body = self.get("q")
        self.assertGreaterEqual(time.monotonic() - began, 1.9)
        self.assertEqual((body, method.routing_key, method.exchange), (b"late", "q", ""))
        self.assertEqual((properties.message_id, properties.expiration), ("m", None))
        self.assertEqual(properties.headers["k"], "v")
        self.assertAlmostEqual(properties.headers["x-warren-expires-at"], (time.time() + 3600) * 1000, delta=60000)
        self.warren("publish", "-q", "q", "--delay", "0", "now")
        self.assertEqual(self.get("q")[2], b"now")

    def test_leaves_what_else_the_queue_has_alone(self):
        for queue in ("q", "q.quarantine"):
            self.channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        self.warren("publish", "-q", "q", "--delay", "0", "now")
        self.assertEqual(self.get("q")[2], b"now")

    def test_to_a_queue_that_is_not_there(self):
        done = self.warren("publish", "-q", "none", "--delay", "1s", "x", code=65)
        self.assertIn(b"no queue 'none'", done.stderr)


class Replies(BrokerTest):
    """A pika worker answers, in an order of its own."""

    def serve(self, answer, expected):
        """Takes `expected` messages, then calls answer(reply, messages) with all of them."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        channel = connection.channel()
        channel.queue_declare("rpc", durable=True)
        taken = []

        def reply(properties, body):
            channel.basic_publish("", properties.reply_to, body,
                                  pika.BasicProperties(correlation_id=properties.correlation_id))

        def run():
            for method, properties, body in channel.consume("rpc", auto_ack=True, inactivity_timeout=30):
                if method is None:
                    break
                taken.append((properties, body))
                if len(taken) == expected:
                    break
            answer(reply, taken)
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)

    def test_replies_come_in_the_order_published(self):
        def answer(reply, messages):
            for properties, body in reversed(messages):
                reply(properties, body.upper())
        self.serve(answer, 3)
        done = self.warren("publish", "-q", "rpc", "--wait", "one", "two", "three")
        self.assertEqual(done.stdout, b"ONE\nTWO\nTHREE\n")

    def test_many_more_than_may_be_in_flight(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        channel = connection.channel()
        channel.queue_declare("rpc", durable=True)

        def on_message(_, method, properties, body):
            channel.basic_publish("", properties.reply_to, body[::-1],
                                  pika.BasicProperties(correlation_id=properties.correlation_id))
            if method.delivery_tag == 5000:
                channel.stop_consuming()

        channel.basic_consume("rpc", on_message, auto_ack=True)
        thread = threading.Thread(target=lambda: (channel.start_consuming(), connection.close()))
        thread.start()
        lines = [b"%d" % i for i in range(5000)]
        done = self.warren("publish", "-q", "rpc", "-l", "--wait=20s", input=b"\n".join(lines))
        thread.join()
        self.assertEqual(done.stdout.split(), [line[::-1] for line in lines])

    def test_a_reply_that_does_not_come(self):
        def answer(reply, messages):
            reply(*messages[0])
            reply(*messages[2])
        self.serve(answer, 3)
        done = self.warren("publish", "-q", "rpc", "--wait=1s", "--message-id", "m", "a", "b", "c", code=75)
        self.assertEqual(done.stdout, b"a\nc\n")
        self.assertIn(b"message m-2 got no reply", done.stderr)

    def test_unroutable_does_not_wait(self):
        self.warren("publish", "-q", "nowhere", "--wait=30s", "x", code=65)


class Disasters(BrokerTest):
    """On a node of their own."""

    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()

    def setUp(self):
        super().setUp()
        self.channel.queue_declare("q", durable=True)

    def test_an_alarm_is_waited_for(self):
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        process = self.spawn("publish", "-q", "q", "--repeat", "1000", "x")
        self.assertIn(b"takes no messages now", process.stderr.readline())
        self.broker.ctl("set_vm_memory_high_watermark", "0.6")
        self.end(process, 0)
        wait_until(lambda: self.ready("q") == 1000, "all are there")

    def test_an_alarm_that_stays(self):
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            self.warren("publish", "-q", "q", "--repeat", "1000", "--timeout", "1s", "x", code=75)
            # One that no buffer holds: the send itself is blocked.
            self.warren("publish", "-q", "q", "--timeout", "1s", "-f", "-", input=bytes(30000000), code=75)
        finally:
            self.broker.ctl("set_vm_memory_high_watermark", "0.6")

    def test_what_was_confirmed_survives_a_kill(self):
        process = self.spawn("publish", "-q", "q", "--repeat", "2000000", "x")
        wait_until(lambda: self.ready("q") > 1000, "it has begun")
        self.broker.kill()
        _, err = self.end(process, 75)
        confirmed = int(re.search(rb"confirmed (\d+)", err).group(1))
        self.assertGreater(confirmed, 0)
        self.warren("publish", "-q", "q", "x", code=69)
        self.broker.start()
        self.channel = self.open_channel()
        self.assertGreaterEqual(self.ready("q"), confirmed)


class Progress(BrokerTest):
    def test_a_bar_on_a_terminal_alone(self):
        self.channel.queue_declare("q", durable=True)
        master, slave = pty.openpty()
        process = subprocess.Popen([WARREN, "publish", "-q", "q", "-l", "-v"], env=self.environment(), stdin=subprocess.PIPE,
                                   stderr=slave)
        self.processes.append(process)
        os.close(slave)
        seen = b""
        while b"\x1b[K" not in seen:  # drawn and wiped at least once
            process.stdin.write(b"x\n" * 100)
            process.stdin.flush()
            if select.select([master], [], [], 0.01)[0]:
                seen += os.read(master, 65536)
        process.stdin.close()
        self.assertEqual(process.wait(60), 0)
        seen += os.read(master, 65536)
        os.close(master)
        self.assertRegex(seen, rb"\d+  \d+/s")
        self.assertRegex(seen, rb"\x1b\[Kpublished \d+, confirmed \d+, unroutable 0 in ")
        self.assertEqual(self.warren("publish", "-q", "q", "--repeat", "20000", "x").stderr, b"")


if __name__ == "__main__":
    unittest.main()
