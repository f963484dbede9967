#!/usr/bin/python3
"""warren topology: what it shows is what --declare creates, and what --declare creates is enough."""

import os
import tempfile
import unittest

import pika

from broker_fixture import BrokerTest

CONFIG = """
broker = { urls = [ "%(url)s" ]; };
plugins = { load = ( { file = "print.so"; } ); };
exchanges = ( { name = "files"; type = "topic"; durable = true; },
              { name = "lonely"; type = "fanout"; durable = false; } );
queues = ( { name = "work"; durable = true; task = "debug.print"; declare = "%(declare)s";
             retry = { max = "3s"; }; bindings = ( { exchange = "files"; keys = [ "new.#" ]; } ); } );
"""


class Topology(BrokerTest):
    def configure(self, declare):
        file = tempfile.NamedTemporaryFile("w", suffix=".cfg")
        self.addCleanup(file.close)
        file.write(CONFIG % {"url": self.url, "declare": declare})
        file.flush()
        return file.name

    def exists(self, kind, name):
        channel = self.connection.channel()
        try:
            getattr(channel, kind + "_declare")(name, passive=True)
            return True
        except pika.exceptions.ChannelClosedByBroker as error:
            self.assertEqual(error.reply_code, 404)
            return False

    def test_shows_without_a_broker(self):
        name = self.configure("active")
        out = self.warren("topology", "-c", name).stdout.decode()
        for line in ("queue work durable  # its messages run tasks", "exchange lonely fanout transient",
                     'bind queue work to exchange files with key "new.#"', "queue work.retry durable",
                     "queue work.dead durable", "exchange warren.v1.delay.01 topic durable"):
            self.assertIn("\n" + line, out)
        self.assertFalse(self.exists("queue", "work"))

    def test_declares_all_of_it_twice(self):
        name = self.configure("active")
        shown = self.warren("topology", "-c", name).stdout
        for _ in range(2):
            self.assertEqual(self.warren("topology", "-c", name, "--declare").stdout, shown)
        for queue in ("work", "work.dead", "work.retry", "warren.v1.parked", "warren.v1.delay.00"):
            self.assertTrue(self.exists("queue", queue), queue)
        self.assertTrue(self.exists("exchange", "lonely"))
        self.warren("publish", "-e", "files", "-r", "new.one", "-c", name, "x")
        self.warren("publish", "-q", "work", "--delay", "1s", "-c", name, "y")
        self.assertEqual([self.get("work")[2] for _ in range(2)], [b"x", b"y"])

    def test_a_queue_of_somebody_else(self):
        for declare in ("passive", "off"):
            name = self.configure(declare)
            self.assertIn(b"no queue 'work'", self.warren("topology", "-c", name, "--declare", code=65).stderr)
        self.channel.queue_declare("work", durable=True, arguments={"x-max-length": 5})
        self.assertIn(b"queue work must exist", self.warren("topology", "-c", name, "--declare").stdout)
        self.assertTrue(self.exists("queue", "work.dead") and self.exists("queue", "work.retry"))
        self.warren("publish", "-e", "files", "-r", "new.one", "x", code=65)  # nothing was bound

    def test_what_differs_is_refused(self):
        self.channel.queue_declare("work", durable=True, arguments={"x-max-length": 5})
        done = self.warren("topology", "-c", self.configure("active"), "--declare", code=65)
        self.assertIn(b"inequivalent arg", done.stderr)

    def test_bad_configurations(self):
        self.warren("topology", "-c", "/no/such/file", code=78)
        self.warren("topology", "-c", self.configure("sometimes"), code=78)
        name = self.configure("active")
        os.chmod(name, 0o666)
        self.warren("topology", "-c", name, code=77)
        self.warren("topology", "more", code=64)


if __name__ == "__main__":
    unittest.main()
