#!/usr/bin/python3
"""warren queues: how much waits where, and what is missing."""

import json
import tempfile
import unittest

from broker_fixture import BrokerTest, wait_until

CONFIG = """
broker = { urls = [ "%s" ]; };
plugins = { load = ( { file = "print.so"; } ); };
queues = ( { name = "work"; durable = true; task = "debug.print"; kill_after = "1s"; dead_letter = "all.dead";
             retry = { first = "1s"; max = "3s"; jitter = 0.0; }; },
           { name = "once"; durable = true; task = "debug.print"; dead_letter = "all.dead"; retry = { attempts = 1; }; },
           { name = ""; exclusive = true; task = "debug.print"; bindings = ( { exchange = "amq.fanout"; keys = [ "" ]; } ); },
           { name = "mine"; exclusive = true; task = "debug.print"; } );
"""


class Queues(BrokerTest):
    def setUp(self):
        super().setUp()
        file = tempfile.NamedTemporaryFile("w", suffix=".cfg")
        self.addCleanup(file.close)
        file.write(CONFIG % self.url)
        file.flush()
        self.config = file.name

    def look(self, code=0):
        """What --json says, by queue; the table names the same."""
        lines = self.warren("queues", "-c", self.config, "--json", code=code).stdout.splitlines()
        rows = {row.pop("queue"): row for row in map(json.loads, lines)}
        table = self.warren("queues", "-c", self.config, code=code).stdout.decode().splitlines()
        self.assertRegex(table[0], "^QUEUE +READY +CONSUMERS$")
        self.assertEqual([line.split()[0] for line in table[1:]], list(rows))
        self.table = {line.split()[0]: line for line in table[1:]}
        return rows

    def test_all_that_a_configuration_has_to_do_with(self):
        self.channel.queue_declare("mine", exclusive=True)
        self.warren("topology", "-c", self.config, "--declare", code=77)  # what is somebody's alone
        self.channel.queue_delete("mine")
        self.warren("topology", "-c", self.config, "--declare")  # "mine" ends with it
        self.assertEqual(self.look(65)["mine"], {"kind": "work", "error": "missing"})
        self.channel.queue_declare("mine", exclusive=True)  # as a daemon would
        self.put("work", "a", "b")
        self.put("all.dead", "c")
        self.warren("publish", "-q", "once", "--delay", "200s", "later")
        rows = self.look()
        self.assertEqual(rows["work"], {"kind": "work", "ready": 2, "consumers": 0})
        self.assertEqual(rows["all.dead"], {"kind": "dead", "ready": 1, "consumers": 0})
        self.assertEqual([rows[name]["kind"] for name in ("work.retry", "once.retry")], ["retry", "retry"])
        self.assertEqual(rows["once.quarantine"]["kind"], "quarantine")
        self.assertEqual(rows["warren.v1.parked"], {"kind": "parked", "ready": 0, "consumers": 0})
        self.assertEqual(rows["mine"], {"kind": "work", "error": "exclusive to who declared it"})
        self.assertEqual(rows["warren.v1.delay.07"], {"kind": "delay", "delay": 128, "ready": 1, "consumers": 0})
        self.assertRegex(self.table["warren.v1.delay.07"], r" +1 +0 +each waits 2m 8s here$")
        self.assertNotIn("warren.v1.delay.08", rows)  # neither needed nor there
        self.channel.basic_consume("work", lambda *_: None)
        wait_until(lambda: self.look()["work"]["consumers"] == 1, "the consumer is counted")

    def test_what_is_missing_is_said_and_not_created(self):
        rows = self.look(65)
        for queue in ("work", "work.retry", "all.dead", "once", "warren.v1.delay.01", "warren.v1.parked"):
            self.assertEqual(rows[queue]["error"], "missing")
        self.assertRegex(self.table["all.dead"], "^all.dead +missing +keeps its dead letters$")
        self.assertNotIn("warren.v1.delay.02", rows)
        self.look(65)

    def test_usage(self):
        self.warren("queues", "-c", self.config, "more", code=64)
        self.warren("queues", "-c", "/no/such/file", code=78)
        self.warren("queues", "-c", self.config, "-u", "amqp://127.0.0.1:1", code=69)


if __name__ == "__main__":
    unittest.main()
