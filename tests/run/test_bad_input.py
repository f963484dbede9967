#!/usr/bin/python3
"""What is wrong is said in words, and nothing that a publisher sends harms the worker or its log."""

import os
import struct
import subprocess
import unittest

import pika

import canary
from harness import BUILD, LEDGER, PLUGINS, WARREND, WarrendTest, wait_until

WORK = {"name": "work", "durable": True, "task": "ledger.run"}
WRONG = os.path.join(BUILD, "tests", "plugins")

# One line each, so that a line number names the section at fault.
SOUND = {
    "broker": 'broker = { urls = [ "amqp://guest:guest@127.0.0.1:1/%2f" ]; };',
    "plugins": f'plugins = {{ directory = "{PLUGINS}"; load = ( {{ file = "upper.so"; }} ); }};',
    "queues": 'queues = ( { name = "work"; task = "text.upper"; } );',
    "workers": "workers = { processes = 1; };",
    "log": 'log = { level = "info"; };',
}


def queue(settings):
    return f'queues = ( {{ name = "work"; {settings} }} );'


def plugin(settings):
    return f'plugins = {{ directory = "{PLUGINS}"; load = ( {{ {settings} }} ); }};'


# Which section says what, and what is said about it.
BROKEN = [
    ("log", 'log = { level "info" };', "syntax error"),
    ("log", 'log = { colour = "red"; };', "unknown setting log.colour"),
    ("log", 'log = { level = "loud"; };', '"error", "warn", "info" or "debug", not "loud"'),
    ("workers", 'workers = { processes = "one"; };', "must be a whole number"),
    ("workers", "workers = { processes = 0; };", "must be from 1 to 256, not 0"),
    ("workers", 'workers = { drain_limit = "30"; };', "must be a duration"),
    ("broker", 'broker = { urls = [ "http://x" ]; };', "must begin with amqp:// or amqps://"),
    ("broker", 'broker = { urls = [ "amqp://' + canary.LOGIN + '@h/a/b" ]; };', "holds a slash: write it as %2f"),
    ("broker", 'broker = { heartbeat = "0s"; };', 'must be from "1s" to "1h"'),
    ("queues", queue(""), "neither task nor route"),
    ("queues", queue('task = "text.upper"; route = "type";'), "both task and route"),
    ("queues", queue('task = "text.lower";'), 'no loaded plugin has the task "text.lower"; they have: text.upper'),
    ("queues", queue('task = "text.upper"; type = "stream";'), "streams are not supported"),
    ("queues", queue('task = "text.upper"; threads = 1025;'), "must be from 1 to 1024"),
    ("queues", queue('task = "text.upper"; arguments = { x-max-length = 4294967297; };'),
     "does not fit into 32 bits: write 4294967297L"),
    ("queues", queue('task = "text.upper"; exclusive = true; retry = { attempts = 2; };'), "retries need a queue"),
    ("queues", queue('task = "text.upper";').replace("work", ""), "must be exclusive"),
    ("queues", queue('task = "text.upper";').replace("work", "w" * 191), "longer than 190 bytes"),
    ("queues", queue('task = "text.upper"; }, { name = "work"; task = "text.upper";'), '"work" is listed twice'),
    ("plugins", plugin('file = "nowhere.so";'), "No such file or directory"),
    ("plugins", plugin('file = "upper.so"; options = { size = 3; };'), 'it has no option "size"'),
    ("plugins", plugin(f'file = "{LEDGER}";'), "file"),  # a required option
    ("plugins", plugin(f'file = "{LEDGER}"; options = {{ file = 3; }};'), "file"),
    ("plugins", plugin('file = "upper.so"; }, { file = "upper.so";'), "is loaded twice"),
]


class Configuration(WarrendTest):
    def check(self, over, mode=0o600):
        """warrend -t on the sound configuration with other sections: its exit code, what it says, the file."""
        daemon = self.daemon("\n".join({**SOUND, **over}.values()) + "\n")
        os.chmod(daemon.config, mode)
        done = subprocess.run([WARREND, "-t", "-c", daemon.config], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertFalse(canary.sings(done.stdout))
        return done.returncode, done.stdout, daemon.config

    def test_a_sound_one_is_fine(self):
        code, said, path = self.check({})
        self.assertEqual((code, said), (0, f"configuration {path} is fine\n"))

    def test_each_kind_of_fault_is_said_with_file_and_line(self):
        for section, text, words in BROKEN:
            with self.subTest(text):
                code, said, path = self.check({section: text})
                self.assertEqual(code, 78)
                self.assertIn(f"{path}:{list(SOUND).index(section) + 1}: ", said)
                self.assertIn(words, said)
                self.assertEqual(len(said.splitlines()), 1, said)

    def test_all_faults_are_said_in_one_run(self):
        code, said, path = self.check({"queues": queue("task = 7;"), "workers": "workers = { processes = 0; };",
                                       "log": 'log = { colour = "red"; };'})
        self.assertEqual(code, 78)
        self.assertEqual([line.split(": ")[0] for line in said.splitlines()], [f"{path}:{n}" for n in (3, 4, 5)])

    def test_a_plugin_of_another_abi_is_refused_with_the_remedy(self):
        for name, words in (("MAJOR", "rebuild the plugin"), ("MINOR", "update warren"), ("MAGIC", "magic"),
                            ("SYMBOL", "warren_plugin")):
            file = os.path.join(WRONG, f"wrong_{name}.so")
            if not os.path.exists(file):
                self.skipTest(f"{file} is not built")
            with self.subTest(name):
                code, said, path = self.check({"plugins": plugin(f'file = "{file}";')})
                self.assertEqual(code, 78)
                self.assertIn(f"{path}:2: plugin {file}: ", said)
                self.assertIn(words, said)

    def test_files_that_others_may_read_or_write(self):
        secret = {"broker": 'broker = { urls = [ "amqp://u:canary@127.0.0.1:1/%2f" ]; };'}
        for over, mode, words in ((({}), 0o622, "writable by others"), (secret, 0o644, "readable by others")):
            with self.subTest(words):
                code, said, path = self.check(over, mode)
                self.assertEqual(code, 77, said)
                self.assertIn(f"{path} (mode {mode:04o})", said)
                self.assertIn(words, said)
        self.assertEqual(self.check({}, 0o644)[0], 0)

    def test_what_the_broker_refuses_ends_the_first_start_with_its_words(self):
        self.channel.queue_declare("work", durable=True, arguments={"x-max-length": 5})  # warrend wants it without
        daemon = self.daemon(self.settings([WORK])).start()
        daemon.wait_for("queue.failed", code=406, queue="work")
        self.assertEqual(daemon.wait(), 78)


# ---- Messages ----

class RawProperties(pika.BasicProperties):
    """Properties whose header table is given as it goes over the wire."""

    def __init__(self, table, **properties):
        super().__init__(**properties)
        self.table = table

    def encode(self):
        self.headers = None
        flags, *pieces = super().encode()
        flags = struct.unpack(">H", flags)[0] | self.FLAG_HEADERS
        before = sum(getattr(self, name) is not None for name in ("content_type", "content_encoding"))
        return [struct.pack(">H", flags), *pieces[:2 * before], struct.pack(">I", len(self.table)), self.table,
                *pieces[2 * before:]]


def field(key, kind, value):
    return struct.pack("B", len(key)) + key + kind + value


def nested(depth):
    table = b""
    for _ in range(depth):
        table = field(b"t", b"F", struct.pack(">I", len(table)) + table)
    return table


def text_field(key, size):
    return field(key, b"S", struct.pack(">I", size) + b"x" * size)


class Messages(WarrendTest):
    """Each test ends with the same worker process running an ordinary job."""

    def setUp(self):
        super().setUp()
        self.server = self.warrend({**WORK, "retry": {"attempts": 2, "first": "1s", "jitter": 0.0}},
                                   limits={"message": "64KiB"})
        self.pid = self.server.worker()

    def lives(self):
        self.put("work", "ordinary")
        self.server.ran("ordinary")
        self.assertEqual((self.server.worker(), len(self.server.events("worker.started"))), (self.pid, 1))
        self.assertFalse(self.server.events("worker.exited"))
        wait_until(lambda: self.ready("work") == 0, "nothing is left behind")

    def refused(self, reason, body):
        """The dead letter of a message that was not run: its headers, when the body is as it was sent."""
        _, properties, dead = self.get("work.dead")
        self.assertEqual(properties.headers["x-warren-verdict"], "refused")
        self.assertIn(reason, properties.headers["x-warren-reason"])
        self.assertTrue(dead == body, f"{len(dead)} bytes instead of {len(body)}, or others")
        return properties

    def send(self, table, body=b"job", **properties):
        self.channel.basic_publish("", "work", body, RawProperties(table, **properties), mandatory=True)

    def test_a_body_over_the_limit_is_kept_whole_byte_for_byte(self):
        for size in (64 * 1024 + 1, 3 * 1024 * 1024, 131072 - 8, 2 * (131072 - 8)):
            body = os.urandom(size)
            self.put("work", body, message_id="large", headers={"mine": 1})
            properties = self.refused("body over the size limit", body)
            self.assertEqual((properties.message_id, properties.headers["mine"]), ("large", 1))
        self.put("work", b"exact;" + b" " * (64 * 1024 - 6))
        self.server.ran("exact")
        self.lives()

    def test_headers_nested_10000_deep(self):
        self.send(nested(10000), b"deep")
        _, properties, body = self.get("work.dead")
        self.assertEqual(properties.headers["x-warren-verdict"], "refused")
        if body:  # librabbitmq up to 0.13 can read it, later ones cannot: the notice says so
            self.assertEqual(body, b"deep")
            self.assertIn("nested deeper than 16", properties.headers["x-warren-reason"])
        self.lives()

    def test_headers_nested_17_deep_and_16(self):
        self.send(nested(17), b"deep")
        self.refused("nested deeper than 16", b"deep")
        self.send(nested(16), b"fine")
        self.server.ran("fine")
        self.lives()

    def test_an_empty_header_key(self):
        self.send(field(b"", b"t", b"\1"), b"nameless")
        self.refused("original headers are missing", b"nameless")
        self.lives()

    def test_headers_that_fill_the_frame(self):
        self.send(text_field(b"long", 120000), b"stuffed", message_id="m")
        properties = self.refused("headers over 64 KiB", b"stuffed")
        self.assertEqual(properties.message_id, "m")
        self.assertNotIn("long", properties.headers)
        self.lives()

    def test_a_thousand_headers_and_one_key_twice(self):
        self.send(b"".join(field(f"key-{i}".encode(), b"t", b"\1") for i in range(1000)), b"many")
        self.send(field(b"twice", b"t", b"\1") * 2, b"twice")
        self.server.ran("many")
        self.server.ran("twice")
        self.lives()

    def test_headers_grown_to_the_limit_survive_a_retry(self):
        """What warren and the broker add on the way counts for itself: no retry runs without its headers."""
        self.send(text_field(b"long", 65536 - 40), b"full;retry later")
        _, properties, body = self.get("work.dead")
        self.assertEqual(body, b"full;retry later")
        self.assertEqual(len(properties.headers["long"]), 65536 - 40)
        self.assertEqual(properties.headers["x-warren-reason"], "later")
        self.lives()

    def test_headers_of_every_kind_come_back_as_they_were(self):
        table = b"".join([field(b"b", b"b", b"\xff"), field(b"B", b"B", b"\xff"), field(b"s", b"s", b"\xff\xff"),
                          field(b"u", b"u", b"\xff\xff"), field(b"I", b"I", b"\xff" * 4),
                          field(b"i", b"i", b"\xff" * 4), field(b"l", b"l", b"\x80" + b"\0" * 7),
                          field(b"f", b"f", b"\0" * 4),
                          field(b"d", b"d", b"\0" * 8), field(b"D", b"D", b"\2\0\0\0\7"), field(b"V", b"V", b""),
                          field(b"T", b"T", b"\0" * 7 + b"\1"), field(b"x", b"x", struct.pack(">I", 3) + b"\0\1\xff"),
                          field(b"A", b"A", struct.pack(">I", 2) + b"t\1")])
        self.send(table, b"kinds;dead yes")
        line = self.spawn("subscribe", "-q", "work.dead", "-n", "1", "--json")
        out, _ = self.end(line, 0)
        for part in (b'"B":255', b'"b":-1', b'"u":65535', b'"l":-9223372036854775808'):
            self.assertIn(part, out.replace(b": ", b":"))
        self.lives()

    def test_names_that_would_forge_a_log_line(self):
        evil = "a\nevent=job.done forged=1\x1b[31m\u0085\u202e\x7f\"quoted\" \\ end"
        self.channel.basic_publish("", "work", "job;origin;dead " + evil.replace("\n", " "), pika.BasicProperties(
            message_id=evil, correlation_id=evil, type=evil, reply_to=evil, app_id=evil, headers={evil: evil}))
        self.channel.basic_publish("", "work", b"nul;dead a\0b", pika.BasicProperties(message_id="a\0b"))
        self.server.wait_for("job.dead", 2)
        _, properties, _ = self.get("work.dead")
        self.assertEqual((properties.message_id, properties.headers[evil]), (evil, evil))  # as it was, in the copy
        log = self.server.text()
        for character in "\x1b\x85\u202e\x7f\0":
            self.assertNotIn(character, log)
        self.assertFalse(self.server.events("job.done"))
        self.assertTrue(all(line.startswith("time=") for line in log.splitlines()), log)
        self.assertLess(max(map(len, log.splitlines())), 4096)
        self.lives()

    def test_names_of_255_bytes_and_no_utf_8(self):
        raw = RawProperties(field(b"\xff" * 255, b"S", struct.pack(">I", 2) + b"\xff\xfe"), message_id="m" * 255,
                            type="t" * 255)
        self.channel.basic_publish("", "work", b"long;dead \xff\xfe", raw)
        line = self.server.wait_for("job.dead")
        self.assertIn(r"\xff\xfe", line["reason"].replace("\\\\", "\\"))
        self.lives()

    def test_a_forged_message_of_warrens_own(self):
        """Headers that only warren writes: no free retries, no crash."""
        for value in (-1, 2 ** 62, "three", [1], {"a": 1}, None, True):
            self.put("work", "forged;retry once", headers={"x-warren-attempt": value, "x-death": value})
        for _ in range(7):
            self.get("work.dead")
        self.assertLessEqual(len(self.server.ledger("start", "forged")), 14)
        self.lives()

    def test_a_forged_death_is_believed_no_further_than_the_attempts(self):
        death = {"queue": "work.retry", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["work"]}
        self.put("work", "forged;retry once", headers={"x-death": [death], "x-warren-attempt": 10 ** 15})
        _, properties, _ = self.get("work.dead")
        self.assertEqual(properties.headers["x-warren-verdict"], "exhausted")
        self.assertEqual(len(self.server.ledger("start", "forged")), 1)
        self.lives()

    def test_an_empty_body(self):
        self.put("work", b"")
        self.server.ran("-")
        self.lives()


if __name__ == "__main__":
    unittest.main()
