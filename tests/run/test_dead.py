#!/usr/bin/python3
"""warren dead: dead letters listed, shown, replayed and dropped; what is not meant stays, in its order."""

import json
import os
import pty
import re
import signal
import subprocess
import tempfile
import time
import unittest

import pika

from broker_fixture import PATIENCE, WARREN, Broker, BrokerTest, wait_until
from harness import SANITIZED, WarrendTest

CONFIG = """
broker = {{ urls = [ "{url}" ]; }};
plugins = {{ load = ( {{ file = "print.so"; }} ); }};
queues = ( {queues} );
"""
QUEUE = '{{ name = "{0}"; durable = true; task = "debug.print"; kill_after = "1s"; {1} }}'
BRIEF = 'retry = { first = "1s"; max = "1s"; jitter = 0.0; };'  # needs few rungs, which makes for quick tests


def now_ms():
    return int(time.time() * 1000)


class DeadTest(BrokerTest):
    """Dead letters as warren writes them, of a work queue that nobody consumes."""

    def setUp(self):
        super().setUp()
        self.config = self.configure(("work", BRIEF))

    def configure(self, *queues):
        """A configuration whose topology is there; its path."""
        file = tempfile.NamedTemporaryFile("w", suffix=".cfg")
        self.addCleanup(file.close)
        file.write(CONFIG.format(url=self.url, queues=", ".join(QUEUE.format(*queue) for queue in queues)))
        file.flush()
        self.warren("topology", "-c", file.name, "--declare")
        return file.name

    def bury(self, count=1, queue="work.dead", first=0, size=0, confirmed=False, **more):
        """Puts dead letters m0, m1, ... there, without waiting for each unless it is to be confirmed."""
        channel = self.connection.channel()
        if confirmed:
            channel.confirm_delivery()
        before = self.ready(queue)
        for number in range(first, first + count):
            headers = {"x-warren-queue": "work", "x-warren-task": f"task.{number % 3}", "x-warren-verdict": "dead",
                       "x-warren-reason": f"disk {number % 10} on fire", "x-warren-attempt": 3,
                       "x-warren-at": now_ms() - 3600000, "x-warren-exchange": "files",
                       "x-warren-routing-key": f"new.{number}", "x-warren-host": "web1",
                       "x-warren-plugin": "upper/1.0", **more}
            channel.basic_publish("", queue, b"body %d" % number + bytes(size), pika.BasicProperties(
                delivery_mode=2, message_id=f"m{number}", headers={k: v for k, v in headers.items() if v is not None}))
        channel.close()
        wait_until(lambda: self.ready(queue) == before + count, "all are there")

    def dead(self, word, *args, queue="work", **more):
        return self.warren("dead", word, "-c", self.config, queue, *args, **more)

    def listed(self, *args, **more):
        return [json.loads(line) for line in self.dead("list", "--json", *args, **more).stdout.splitlines()]

    def take_all(self, queue):
        """The messages of the queue, which is empty then, as (message id, properties, body)."""
        taken = []
        while message := self.try_get(queue):
            taken.append((message[1].message_id, message[1], message[2]))
        return taken

    def ids(self, queue):
        """Their ids, without taking them."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        channel = connection.channel()
        found = []
        count = channel.queue_declare(queue, passive=True).method.message_count
        for _, properties, _ in channel.consume(queue, inactivity_timeout=PATIENCE) if count else ():
            found.append(properties.message_id)
            if len(found) == count:
                break
        connection.close()
        wait_until(lambda: self.ready(queue) == len(found), "they are back")
        return found

    def arrived(self, count, queue="work"):
        wait_until(lambda: self.ready(queue) == count, f"{count} messages in {queue}")
        return self.take_all(queue)


class List(DeadTest):
    def test_a_table_for_people_and_lines_for_programs(self):
        self.bury(2)
        table = self.dead("list").stdout.decode().splitlines()
        self.assertRegex(table[0], r"NUMBER +VERDICT +TASK +TRIED +AGE +SIZE +WHERE +MESSAGE ID +REASON")
        self.assertRegex(table[2], r"^ +2 +dead +task.1 +3 +60m +6B +web1 upper/1.0 +m1 +disk 1 on fire$")
        first, second = self.listed()
        self.assertAlmostEqual(first.pop("age"), 3600, delta=60)
        self.assertAlmostEqual(first.pop("at") / 1000, time.time() - 3600, delta=60)
        self.assertEqual(first, {
            "number": 1, "message_id": "m0", "queue": "work", "task": "task.0", "verdict": "dead",
            "reason": "disk 0 on fire", "attempts": 3, "size": 6, "host": "web1", "plugin": "upper/1.0",
            "exchange": "files", "routing_key": "new.0"})
        self.assertEqual(second["message_id"], "m1")
        self.assertEqual(self.ids("work.dead"), ["m0", "m1"])

    def test_filters(self):
        self.bury(30)
        self.bury(1, first=30, n=5, **{"x-warren-at": now_ms(), "x-warren-verdict": "expired"})
        for args, want in [
                (["--task", "task.1"], range(1, 31, 3)), (["--task", "task.*", "-n", "2"], [0, 1]),
                (["--reason", "disk 4"], [4, 14, 24]), (["--verdict", "expired"], [30]),
                (["--newer", "30m"], [30]), (["--older", "30m", "--reason", "disk 0"], [0, 10, 20]),
                (["-H", "n=5"], [30]), (["-H", "x-warren-routing-key=new.7"], [7]),
                (["--id", "m3"], [3]), (["3", "m20", "1"], [0, 2, 20]), (["2", "--reason", "disk 1"], [1])]:
            with self.subTest(args=args):
                self.assertEqual([line["message_id"] for line in self.listed(*args)], [f"m{i}" for i in want])
        for args in (["--task", "nope"], ["99"], ["nope"], ["1", "--reason", "disk 5"], ["--older", "2h"]):
            self.assertIn(b"nothing matched; work.dead holds 31", self.dead("list", *args, code=65).stderr)
        self.assertEqual(self.ids("work.dead"), [f"m{i}" for i in range(31)])

    def test_an_empty_queue_and_one_that_is_not_there(self):
        self.assertEqual(self.dead("list").stdout, b"")
        self.assertIn(b"no queue 'nope'", self.dead("list", queue="nope", code=65).stderr)
        self.dead("show", code=65)
        self.dead("retry", "--all", code=65)

    def test_show(self):
        self.bury(1)
        self.put("work.dead", "text\nof two lines", "no text \xff".encode("latin1"), message_id="7")
        self.assertIn(b"header x-warren-reason: disk 0 on fire\n", self.dead("show").stdout)
        out = self.dead("show", "2").stdout
        self.assertIn(b"\nbody: 17 bytes\n  text\n  of two lines\n", out)
        out = self.dead("show", "3").stdout
        self.assertIn(b"  00000000  6e 6f 20 74 65 78 74 20 ff                       no text .\n", out)
        self.assertEqual(json.loads(self.dead("show", "--id", "7", "--json").stdout)["body"], "text\nof two lines")
        self.dead("show", "7", code=65)  # a number, not an id

    def test_what_others_wrote_drives_no_terminal(self):
        evil = "a\x1b[31m\n  1 dead\u202e\x9b\0"
        self.put("work.dead", evil, message_id=evil[:60], headers={
            name: evil for name in ("x-warren-task", "x-warren-reason", "x-warren-verdict", "x-warren-queue",
                                    "x-warren-host", "x-warren-plugin", "x-warren-exchange", evil)})
        self.put("work.dead", "x", headers={"x-warren-reason": "long" * 10000, "x-warren-at": "soon",
                                            "x-warren-attempt": [1], "x-death": [{"queue": 5}], "x-warren-queue": 5})
        for args in (["list"], ["list", "--json"], ["show"], ["show", "--json"], ["show", "2"],
                     ["retry", "--all", "--dry-run"], ["drop", "--all", "--dry-run"]):
            done = self.dead(*args, code=65 if args[0] == "retry" else 0)
            out = (done.stdout + done.stderr).decode()
            self.assertNotRegex(out, "[\x1b\x9b\0\u202e]")
        self.assertEqual(len(self.dead("list").stdout.splitlines()), 3)
        self.assertTrue(all(len(line) < 1000 for line in self.dead("list").stdout.splitlines()))
        self.assertEqual(self.ready("work.dead"), 2)

    def test_large_ones_are_not_held_in_memory(self):
        self.bury(150, size=1 << 20)
        process = self.spawn("dead", "list", "-c", self.config, "work", "--json", stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        if not SANITIZED:  # AddressSanitizer holds back what is freed
            self.assertLess(usage.ru_maxrss, 40 * 1024)  # KiB
        self.assertEqual(self.ready("work.dead"), 150)

    def test_a_queue_that_is_consumed_is_not_dead(self):
        self.channel.basic_consume("work", lambda *_: None)
        for args in (["list"], ["drop", "--all", "--yes"]):
            done = self.warren("dead", args[0], "work", *args[1:], code=77)
            self.assertIn(b"has consumers", done.stderr)

    def test_by_its_own_name(self):
        self.bury(2)
        out = self.warren("dead", "list", "work.dead", "--json").stdout  # WARREN_URL
        self.assertEqual(len(out.splitlines()), 2)
        self.assertEqual(len(self.listed(queue="work.dead")), 2)

    def test_of_a_shared_queue_only_ones_own(self):
        self.config = self.configure(*((name, BRIEF + 'dead_letter = "both.dead";') for name in ("one", "two")))
        for i in range(4):
            self.bury(1, "both.dead", first=i, **{"x-warren-queue": ("one", "two")[i % 2]})
        self.assertEqual([line["message_id"] for line in self.listed(queue="two")], ["m1", "m3"])
        self.assertEqual(len(self.listed(queue="both.dead")), 4)
        self.dead("retry", "--all", queue="one")
        self.assertEqual([m[0] for m in self.arrived(2, "one")], ["m0", "m2"])
        self.assertEqual(self.ids("both.dead"), ["m1", "m3"])

    def test_usage(self):
        self.bury(1)
        for args in ([], ["bury", "work"], ["list"], ["list", ""], ["retry", "work.dead"], ["drop", "work.dead"],
                     ["retry", "work.dead", "--all", "1"], ["retry", "work.dead", "0"],
                     ["list", "work.dead", "--older", "soon"], ["list", "work.dead", "--rate", "1"],
                     ["show", "work.dead", "--limit", "1"], ["retry", "work.dead", "--all", "--json"],
                     ["retry", "work.dead", "--all", "--rate", "0"], ["list", "work.dead", "-H", "novalue"],
                     ["retry", "work.dead", "--all", "--to", ""], ["list", "q" * 256]):
            with self.subTest(args=args):
                self.assertTrue(self.warren("dead", *args, code=64).stderr)
        self.warren("dead", "list", "-c", "/no/such/file", "work", code=78)
        self.warren("dead", "list", "-u", "amqp://127.0.0.1:1", "work", code=69)
        self.assertEqual(self.ready("work.dead"), 1)


class Retry(DeadTest):
    def test_goes_back_as_a_first_attempt_and_the_rest_stays(self):
        self.bury(5)
        self.put("work.dead", "the body", message_id="m5", correlation_id="c", type="t", priority=3, app_id="a",
                 content_type="text/plain", expiration="3600000", delivery_mode=1, headers={
                     "x-warren-queue": "work", "x-warren-exchange": "files", "x-warren-routing-key": "new.x",
                     "x-warren-attempt": 5, "x-warren-crashes": 3, "x-warren-signal": "SEGV",
                     "x-warren-expires-at": now_ms() - 1000, "x-warren-first-at": 1000,
                     "x-warren-reason": 'say "no"', "mine": [1, {"deep": True}], "CC": ["work.dead"]})
        done = self.dead("retry", "2", "m5", "4")
        self.assertIn(b"replayed 3; 3 of 6 remain in work.dead", done.stderr)
        replayed = self.arrived(3)
        self.assertEqual([m[0] for m in replayed], ["m1", "m3", "m5"])
        self.assertEqual(self.ids("work.dead"), ["m0", "m2", "m4"])
        _, p, body = replayed[2]
        self.assertEqual(body, b"the body")
        self.assertEqual((p.correlation_id, p.type, p.priority, p.app_id, p.content_type), ("c", "t", 3, "a", "text/plain"))
        self.assertEqual((p.delivery_mode, p.expiration), (2, None))
        headers = dict(p.headers)
        deaths = headers.pop("x-death")
        self.assertEqual((deaths[0]["queue"], len(deaths)), ("work.retry", 1))  # so warrend believes the rest
        self.assertAlmostEqual(headers.pop("x-warren-at") / 1000, time.time(), delta=60)
        self.assertEqual({k: v for k, v in headers.items() if not k.startswith("x-first-") and not k.startswith("x-last-")}, {
            "x-warren-attempt": 1, "x-warren-queue": "work", "x-warren-exchange": "files",
            "x-warren-routing-key": "new.x", "x-warren-first-at": 1000, "x-warren-reason": 'say "no"',
            "mine": [1, {"deep": True}]})

    def test_edited_bodies(self):
        self.bury(3)
        self.dead("retry", "--all", "--edit", "tr a-z A-Z | sed s/1/one/")
        self.assertEqual([m[2] for m in self.arrived(3)], [b"BODY 0", b"BODY one", b"BODY 2"])
        self.bury(1, size=3 << 20)
        self.dead("retry", "--all", "--edit", "cat")  # more than any pipe holds
        self.assertEqual(self.arrived(1)[0][2], b"body 0" + bytes(3 << 20))
        self.bury(1, size=3 << 20)
        self.dead("retry", "--all", "--edit", "echo unread; exec <&-; exec 3>&1; (sleep 0.1; echo late >&3)")
        self.assertEqual(self.arrived(1)[0][2], b"unread\nlate\n")

    def test_a_program_that_fails_leaves_the_message_alone(self):
        self.bury(12)
        done = self.dead("retry", "--all", "--edit", "read -r body; echo half; test \"$body\" != 'body 1' && exit 3; "
                         "kill -TERM $$", code=65)
        self.assertIn(b"number 1, m0 stays: the program ended with exit code 3", done.stderr)
        self.assertIn(b"number 2, m1 stays: the program died of signal 15", done.stderr)
        self.assertEqual(done.stderr.count(b"stays"), 5)  # the others are counted
        self.assertIn(b"replayed 0; 12 of 12 remain", done.stderr)
        self.assertEqual(self.ids("work.dead"), [f"m{i}" for i in range(12)])
        self.assertEqual(self.ready("work"), 0)

    def test_a_program_that_never_ends_is_ended_with_us(self):
        self.bury(1)
        with tempfile.TemporaryDirectory() as folder:
            process = self.spawn("dead", "retry", "-c", self.config, "work", "--all", "--edit",
                                 f"sleep 1000 & echo $! > {folder}/pid; wait")
            pid = int(wait_until(lambda: os.path.exists(f"{folder}/pid") and open(f"{folder}/pid").read(), "it runs"))
            _, err = self.end(process, 75, signal.SIGTERM)
            self.assertIn(b"interrupted: replayed 0; 1 of 1 remain", err)
            wait_until(lambda: not os.path.exists(f"/proc/{pid}") or " Z " in open(f"/proc/{pid}/stat").read(), "it is gone")
        self.assertEqual(self.ids("work.dead"), ["m0"])

    def test_another_queue(self):
        self.bury(2)
        self.channel.queue_declare("other", durable=True)
        self.channel.queue_declare("other.retry", durable=True)  # not warren's
        self.dead("retry", "1", "--to", "other")
        self.assertEqual(self.arrived(1, "other")[0][1].headers["x-warren-queue"], "other")
        self.assertIn(b"m1 stays: NOT_FOUND - no queue 'nope'", self.dead("retry", "--all", "--to", "nope", code=65).stderr)
        self.assertIn(b"it would go to where it is", self.dead("retry", "--all", "--to", "work.dead", code=65).stderr)
        self.assertEqual((self.ids("work.dead"), self.ready("other.retry")), (["m1"], 0))

    def test_what_does_not_say_where_it_came_from(self):
        self.put("work.dead", "x")
        self.assertIn(b"--to QUEUE sends it", self.dead("retry", "--all", code=65).stderr)
        self.dead("retry", "--all", "--to", "work")
        self.assertEqual(self.arrived(1)[0][2], b"x")

    def test_hostile_names_stop_nothing(self):
        names = ["", "nope", "work.dead", "work\0", "\0", "a" * 255, "a" * 256, "w\udcff", "amq.rabbitmq.reply-to", "\n", 5,
                 {"deep": {}}]
        for name in names:
            if isinstance(name, str):
                name = name.encode("utf8", "surrogateescape")
            self.put("work.dead", "x", headers={"x-warren-queue": name, "x-warren-exchange": name})
        self.bury(1)
        done = self.dead("retry", "--all", code=65)
        self.assertIn(b"replayed 1; 12 of 13 remain", done.stderr)
        self.assertEqual([m[0] for m in self.arrived(1)], ["m0"])
        self.assertEqual(self.ready("work.dead"), len(names))

    def test_a_full_queue(self):
        self.channel.queue_declare("full", durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
        self.bury(4)
        done = self.dead("retry", "--all", "--to", "full", code=75)
        self.assertIn(b"m2 stays: the broker refused it", done.stderr)
        self.assertEqual((self.ready("full"), self.ids("work.dead")), (2, ["m2", "m3"]))

    def test_dry_run(self):
        self.bury(3)
        out = self.dead("retry", "--task", "task.1", "--dry-run", "--edit", "false").stdout
        self.assertEqual(out, b"2 m1 would go to work\n")
        self.assertEqual(self.dead("drop", "1", "--dry-run").stdout, b"1 m0 would be dropped\n")
        self.assertEqual((self.ids("work.dead"), self.ready("work")), (["m0", "m1", "m2"], 0))

    def test_a_rate(self):
        self.bury(6)
        began = time.monotonic()
        self.dead("retry", "--all", "--rate", "5")
        self.assertGreaterEqual(time.monotonic() - began, 1.0)
        self.assertEqual(len(self.arrived(6)), 6)

    def test_of_a_queue_that_never_retries(self):
        self.config = self.configure(("once", "retry = { attempts = 1; };"))
        self.bury(1, "once.dead", **{"x-warren-queue": "once"})
        self.dead("retry", "--all", "--dry-run", queue="once")
        self.bury(1, "once.dead", first=1, **{"x-warren-queue": "once"})
        self.dead("retry", "--all", queue="once")
        self.assertEqual([m[1].headers["x-death"][0]["queue"] for m in self.arrived(2, "once")], ["once.retry"] * 2)

    def test_two_at_once(self):
        self.bury(300)
        both = [self.spawn("dead", "retry", "-c", self.config, "work", "--all", "--rate", "300") for _ in range(2)]
        err = b"".join(self.end(process, 0)[1] for process in both)
        self.assertEqual(sum(int(n) for n in re.findall(rb"replayed (\d+)", err)), 300)
        self.assertEqual(sorted(m[0] for m in self.arrived(300)), sorted(f"m{i}" for i in range(300)))

    def test_what_the_broker_counts_is_not_lost(self):
        self.channel.queue_declare("counted", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 20})
        self.bury(10, "counted")
        for _ in range(30):
            self.assertEqual(len(self.listed(queue="counted")), 10)
        self.assertEqual(sorted(m[0] for m in self.take_all("counted")), [f"m{i}" for i in range(10)])


class Drop(DeadTest):
    def ask(self, answer, *args, code):
        """Runs it on a terminal and gives the answer when it asks."""
        master, slave = pty.openpty()
        process = subprocess.Popen([WARREN, "dead", "drop", "-c", self.config, "work", *args], stdin=slave, stderr=slave,
                                   env=self.environment())
        self.processes.append(process)
        os.close(slave)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(master, 65536)
        answer(process, master)
        self.assertEqual(process.wait(60), code)
        said += os.read(master, 65536)
        os.close(master)
        return said

    def test_asks_on_a_terminal(self):
        self.bury(30)
        no = lambda _, terminal: os.write(terminal, b"\n")
        yes = lambda _, terminal: os.write(terminal, b"y\n")
        stop = lambda process, _: process.send_signal(signal.SIGINT)
        self.assertIn(b"Drop 3 of 30 in work.dead for ever? [y/N]", self.ask(no, "--reason", "disk 4", code=77))
        self.ask(stop, "--all", code=75)
        self.assertEqual(len(self.ids("work.dead")), 30)
        self.assertIn(b"dropped 3; 27 of 30 remain", self.ask(yes, "--reason", "disk 4", code=0))
        self.assertEqual(self.ids("work.dead"), [f"m{i}" for i in range(30) if i % 10 != 4])

    def test_not_without_a_terminal(self):
        self.bury(3)
        self.assertIn(b"--yes drops without asking", self.dead("drop", "--all", code=77).stderr)
        self.assertEqual(self.ready("work.dead"), 3)
        self.assertIn(b"dropped 1; 2 of 3 remain", self.dead("drop", "2", "--yes").stderr)
        self.assertEqual(self.ids("work.dead"), ["m0", "m2"])
        self.dead("drop", "--all", "--yes")
        self.assertEqual(self.ready("work.dead"), 0)


class TenThousand(DeadTest):
    """Ten thousand dead letters: what an evening of a broken database leaves behind."""

    COUNT = 10000

    def test_listed_filtered_edited_replayed_and_killed_in_the_middle(self):
        self.bury(self.COUNT)
        all_ids = [f"m{i}" for i in range(self.COUNT)]
        self.assertEqual([line["message_id"] for line in self.listed()], all_ids)
        chosen = [f"m{i}" for i in range(self.COUNT) if i % 30 == 4]  # 333 of them
        filters = ["--reason", "disk 4", "--task", "task.1", "--rate", "100", "--edit", "tr a-z A-Z"]
        self.assertEqual([line["message_id"] for line in self.listed(*filters[:4])], chosen)

        process = self.spawn("dead", "retry", "-c", self.config, "work", *filters)
        wait_until(lambda: self.ready("work") >= 50, "it is in the middle")
        _, err = self.end(process, 75, signal.SIGTERM)
        done = int(re.search(rb"interrupted: replayed (\d+); (\d+) of 10000 remain", err).group(1))
        wait_until(lambda: self.ready("work") == done, "what it said it did")
        self.assertEqual(self.ready("work.dead"), self.COUNT - done)

        process = self.spawn("dead", "retry", "-c", self.config, "work", *filters)
        wait_until(lambda: self.ready("work") >= done + 50, "it is in the middle again")
        self.end(process, -signal.SIGKILL, signal.SIGKILL)
        wait_until(lambda: self.ready("work.dead") + self.ready("work") in (self.COUNT, self.COUNT + 1) and
                   self.ready("work.retry") == 0, "all are somewhere")

        self.dead("retry", *filters[:4], *filters[6:])
        wait_until(lambda: self.ready("work.retry") == 0, "all are back")
        replayed = self.take_all("work")
        self.assertTrue(all(body == b"BODY " + name[1:].encode() for name, _, body in replayed))
        names = [name for name, _, _ in replayed]
        self.assertEqual(sorted(set(names)), sorted(chosen))
        self.assertLessEqual(len(names), len(chosen) + 1)  # the one that SIGKILL may leave
        self.assertEqual(self.ids("work.dead"), [name for name in all_ids if name not in set(chosen)])


class Disasters(DeadTest):
    """On a node of their own."""

    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()

    def begin(self):
        """A replay in the middle."""
        self.bury(300, confirmed=True)
        process = self.spawn("dead", "retry", "-c", self.config, "work", "--all", "--rate", "50")
        wait_until(lambda: self.ready("work") >= 20, "it is in the middle")
        return process

    def check_all_there(self, twice=1):
        """None is lost, and at most `twice` of them are both replayed and dead."""
        wait_until(lambda: self.ready("work.retry") == 0, "all are back")
        names = [m[0] for m in self.take_all("work") + self.take_all("work.dead")]
        self.assertEqual(len(set(names)), 300)
        self.assertLessEqual(len(names), 300 + twice)

    def test_a_broker_that_is_restarted(self):
        process = self.begin()
        self.broker.script("stop")
        _, err = self.end(process, 75)
        self.assertIn(b"cannot go on", err)
        self.assertRegex(err, rb"replayed \d+; \d+ of 300 remain")
        self.broker.start()
        self.channel = self.open_channel()
        self.check_all_there()

    def test_a_broker_that_is_killed(self):
        process = self.begin()
        self.broker.kill()
        _, err = self.end(process, 75)
        self.broker.start()
        self.channel = self.open_channel()
        # The broker confirms what is on its disk, and forgets the acks that are not there yet.
        done = int(re.search(rb"replayed (\d+);", err).group(1))
        self.check_all_there(twice=done + 1)

    def test_an_alarm_is_waited_for(self):
        process = self.begin()
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        self.addCleanup(self.broker.ctl, "set_vm_memory_high_watermark", "0.6")
        self.assertIn(b"takes no messages now", process.stderr.readline())
        _, err = self.end(process, 75, signal.SIGTERM)
        self.assertIn(b"may have been replayed, and is among the dead letters still", err)
        self.broker.ctl("set_vm_memory_high_watermark", "0.6")
        self.check_all_there()


class Daemon(WarrendTest):
    """Replayed jobs really run."""

    QUICK = {"attempts": 1, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}

    def work(self, name="work", **more):
        return {"name": name, "durable": True, "task": "ledger.run", "retry": self.QUICK, **more}

    def dead(self, daemon, word, *args, queue="work", **more):
        return self.warren("dead", word, "-c", daemon.config, queue, *args, **more)

    def test_a_routed_job_is_routed_again_and_nobody_else_gets_it(self):
        binding = {"bindings": [{"exchange": "amq.topic", "keys": ["ledger.*"]}]}
        for retry in (self.QUICK, {**self.QUICK, "attempts": 2, "max": "1s"}):
            with self.subTest(retry=retry):
                work = self.work(f"work{retry['attempts']}", route="routing_key", retry=retry, **binding)
                del work["task"]
                daemon = self.warrend(work)
                self.channel.queue_declare("witness", durable=True)
                self.channel.queue_bind("witness", "amq.topic", "ledger.*")
                self.channel.basic_publish("amq.topic", "ledger.run", "job\norigin\nretry no luck",
                                           pika.BasicProperties(message_id="m"))
                daemon.wait_for("job.dead", verdict="exhausted")
                self.get("witness")
                runs = len(daemon.ledger("start", "job"))
                done = self.dead(daemon, "retry", "m", "--edit", "sed 's/retry.*/hear/'", queue=work["name"])
                self.assertIn(b"replayed 1; 0 of 1 remain", done.stderr)
                daemon.wait_for("job.done")
                again = daemon.ledger("start", "job")[runs]
                self.assertEqual(again.attempt, 1)
                self.assertEqual(len(daemon.ledger("origin/amq.topic/ledger.run", "job")), runs + 1)
                self.assertEqual(self.ready("witness"), 0)
                self.channel.queue_unbind(work["name"], "amq.topic", "ledger.*")
                self.channel.queue_delete("witness")

    def test_beside_a_daemon_that_buries_more_and_more(self):
        daemon = self.warrend(self.work(threads=4))
        for i in range(100):
            self.put("work", f"job{i}\ndead again", message_id=f"m{i}")
        daemon.wait_for("job.dead", 100)
        process = self.spawn("dead", "retry", "-c", daemon.config, "work", "--all")
        for i in range(100, 150):
            self.put("work", f"job{i}\ndead again", message_id=f"m{i}")
        _, err = self.end(process, 0)  # it ends, though each comes back at once
        self.assertRegex(err, rb"replayed 1\d\d; 0 of 1\d\d remain")
        done = int(re.search(rb"replayed (\d+)", err).group(1))
        daemon.wait_for("job.dead", 150 + done)
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(self.ready("work.dead"), 150)
        found = [self.try_get("work.dead")[1].message_id for _ in range(150)]
        self.assertEqual(sorted(found), sorted(f"m{i}" for i in range(150)))

    def test_an_expired_job_runs_when_the_operator_says_so(self):
        daemon = self.warrend(self.work(retry={**self.QUICK, "attempts": 2}))
        self.put("work", "job\nafter 5000\nretry later", message_id="m", expiration="4000")
        daemon.wait_for("job.dead", verdict="expired")
        self.dead(daemon, "retry", "--verdict", "expired", "--edit", "echo job")
        daemon.wait_for("job.done", message_id="m")

    def test_parked_ones(self):
        daemon = self.warrend(self.work(retry={**self.QUICK, "attempts": 2}))
        self.assertEqual(daemon.stop(), 0)
        self.warren("publish", "-q", "work", "--delay", "2s", "--message-id", "m", "job\norigin")
        for queue in ("work", "work.retry"):
            self.channel.queue_delete(queue)
        wait_until(lambda: self.ready("warren.v1.parked") == 1, "it is parked")
        line = json.loads(self.dead(daemon, "list", "--json", queue="warren.v1.parked").stdout)
        self.assertEqual((line["verdict"], line["queue"], line["message_id"]), ("parked", "work", "m"))
        self.assertIn(b"m stays: NOT_FOUND", self.dead(daemon, "retry", "--all", queue="warren.v1.parked", code=65).stderr)
        daemon.start().consuming(daemon.mark_log())
        self.dead(daemon, "retry", "--all", queue="warren.v1.parked")
        daemon.ran("job")
        self.assertTrue(daemon.ledger("origin//work", "job"))
        wait_until(lambda: self.ready("warren.v1.parked") == 0, "it is parked no more")


if __name__ == "__main__":
    unittest.main()
