#!/usr/bin/python3
"""warrend -t --broker: what it says of a broker is what warrend then meets there, and it changes nothing."""

import json
import subprocess
import tempfile
import unittest

import pika

import canary
from broker_fixture import PATIENCE, wait_until
from harness import WARREND, WarrendTest, closed_port

FILES = {"name": "files", "type": "topic", "durable": True}
WORK = {"name": "work", "durable": True, "task": "debug.print", "retry": {"max": "3s"},
        "bindings": [{"exchange": "files", "keys": ["new.#"]}]}
ALONE = {"name": "alone", "task": "debug.print", "retry": {"attempts": 1}}  # no ladder
HOLDINGS = """
V = <<"%s">>,
{lists:sort([{amqqueue:get_name(Q), amqqueue:is_durable(Q), amqqueue:get_arguments(Q)} || Q <- rabbit_amqqueue:list(V)]),
 lists:sort(rabbit_exchange:list(V)), lists:sort(rabbit_binding:list(V))}.
"""


class Probe(WarrendTest):
    # -- what there is on the broker --

    def listed(self):
        """What rabbitmqctl lists of the virtual host."""
        lists = (("list_queues", "name", "durable", "auto_delete", "arguments", "messages", "consumers"),
                 ("list_exchanges", "name", "type", "durable", "auto_delete", "arguments"), ("list_bindings",))
        return [sorted(map(str, self.broker.rows(what, "-p", self.vhost, *columns))) for what, *columns in lists]

    def holdings(self):
        """Queues, exchanges and bindings with their arguments, by one run of rabbitmqctl: each takes most of a second."""
        return self.broker.ctl("eval", HOLDINGS % self.vhost)

    def permit(self, configure, write, read):
        """A user with these permissions; returns its URL."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"users": [{**canary.DEFINITION, "name": "limited", "tags": ""}],
                       "permissions": [{"vhost": self.vhost, "user": "limited", "configure": configure, "write": write,
                                        "read": read}]}, file)
            file.flush()
            self.broker.ctl("import_definitions", file.name)
        return self.url.replace(canary.USER + ":", "limited:")

    # -- the program --

    def probe(self, queues, code=0, options=("--broker",), **sections):
        """Runs warrend -t --broker; returns its lines, after checking that the broker is as it was."""
        sections.setdefault("exchanges", [FILES])
        daemon = self.daemon(self.settings(queues if isinstance(queues, list) else [queues], **sections))
        before = self.holdings()
        done = subprocess.run([WARREND, "-t", *options, "-c", daemon.config], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
        self.assertFalse(canary.sings(done.stdout + done.stderr))
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(self.holdings(), before, "the broker was changed")
        return done.stdout.splitlines()

    def line(self, lines, state, what):
        """The one line with that state about that part."""
        found = [line for line in lines if line.startswith(f"{state:15}  {what}")]
        self.assertEqual(len(found), 1, f"{state} {what}\n" + "\n".join(lines))
        return found[0]

    def troubles(self, lines):
        return [line for line in lines if line.startswith(("MISSING", "CLASHES", "REFUSED"))]

    def starts(self, queues, **sections):
        """Whether warrend itself comes to consume, or ends with 78."""
        sections.setdefault("exchanges", [FILES])
        queues = queues if isinstance(queues, list) else [queues]
        daemon = self.daemon(self.settings(queues, **sections)).start()
        daemon.patiently(lambda: daemon.events("worker.consuming") or daemon.process.poll() is not None, "an outcome")
        if daemon.process.poll() is None:
            daemon.stop()
            return True
        self.assertEqual(daemon.process.returncode, 78)
        return False

    # -- all well --

    def test_a_clean_broker_and_then_a_started_one(self):
        before = self.listed()
        lines = self.probe(WORK)
        self.assertEqual(self.listed(), before)
        self.assertEqual(self.troubles(lines), [])
        for what in ("exchange files topic durable", "queue work durable", "queue work.dead durable",
                     "queue work.quarantine durable", "queue work.retry durable"):
            self.line(lines, "will be created", what)
        self.line(lines, "will be bound", 'bind queue work to exchange files with key "new.#"')
        self.line(lines, "allowed", "to consume from queue work.quarantine")
        self.assertRegex(self.line(lines, "answers", "broker amqp://"), r": RabbitMQ \d+\.\d+\.\d+$")
        self.assertTrue(lines[-1].endswith(": warrend can start"), lines[-1])

        self.assertTrue(self.starts(WORK))
        lines = self.probe(WORK)
        self.assertEqual([line for line in lines if line.startswith("will be created")], [])
        for what in ("exchange files", "queue work:", "queue work.dead", "queue work.quarantine", "queue work.retry"):
            self.line(lines, "there", what)
        self.assertRegex(lines[-1], r"^\d+ there, \d+ will be bound: warrend can start$")

    def test_without_the_option_no_broker_is_needed(self):
        dead = [f"amqp://{canary.LOGIN}@127.0.0.1:{closed_port()}/"]
        lines = self.probe(WORK, options=(), urls=dead)
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], "^configuration .* is fine$")

    def test_messages_stay_as_they_are(self):
        self.assertTrue(self.starts([WORK, {**ALONE, "type": "quorum"}]))
        for queue in ("work", "alone"):
            self.put(queue, b"one", b"two")
        wait_until(lambda: str(self.listed()).count("'messages': 2") == 2, "counts of quorum queues, which come late")
        before = self.listed()
        lines = self.probe([WORK, {**ALONE, "type": "quorum"}])
        self.assertEqual(self.listed(), before)
        self.line(lines, "there", "queue work: messages ready: 2")
        for queue in ("work", "alone"):
            for body in (b"one", b"two"):
                method, _, got = self.get(queue)
                self.assertEqual((got, method.redelivered), (body, False))
            self.assertEqual(self.ready(queue), 0)

    def test_what_amqp_does_not_tell_is_said(self):
        lines = self.probe({**WORK, "time_limit": "45m"})
        for what in ("bindings", "policies", "the broker's consumer_timeout", "arguments of what will be created"):
            self.line(lines, "not known", what)
        self.assertIn("2710s", self.line(lines, "warning", "queue work"))

    # -- clashes --

    def clash(self, queue, words, exchanges=(FILES,)):
        """Both warrend -t --broker and warrend itself refuse it."""
        lines = self.probe(queue, code=78, exchanges=list(exchanges))
        self.assertEqual(len(self.troubles(lines)), 1, lines)
        found = self.troubles(lines)[0]
        for word in words:
            self.assertIn(word, found)
        self.assertTrue(lines[-1].endswith(", 1 CLASHES: warrend cannot do its work with this broker"), lines[-1])
        self.assertFalse(self.starts(queue, exchanges=list(exchanges)))

    def test_another_type(self):
        self.channel.queue_declare("work", durable=True, arguments={"x-queue-type": "classic"})
        self.put("work", b"kept")
        self.clash({**WORK, "type": "quorum", "broker_dead_letter": False},
                   ["CLASHES          queue work: exists with", "x-queue-type", "the configuration says quorum: delete it "
                    "(messages ready in it: 1), or set type = \"classic\""])
        self.assertEqual(self.get("work")[2], b"kept")

    def test_another_durability(self):
        if not self.broker.takes_transient_queues():
            self.skipTest("this broker refuses transient queues")
        self.channel.queue_declare("alone", durable=False)
        self.clash(ALONE, ["queue alone: exists with durable = false, the configuration says true: delete it, or set "
                           "durable = false"])

    def test_all_arguments_that_differ_are_named(self):
        self.channel.queue_declare("alone", durable=True, auto_delete=True,
                                   arguments={"x-max-length": 5, "x-overflow": "reject-publish"})
        self.clash({**ALONE, "arguments": {"x-max-length": 7, "x-message-ttl": 1000}},
                   ["with auto_delete = true, the configuration says false",
                    "with x-max-length = 5, the configuration says 7",
                    "with x-overflow = reject-publish, the configuration says nothing of it",
                    "without x-message-ttl, the configuration says 1000",
                    "x-max-length = 5 in its arguments", "no x-message-ttl in its arguments"])

    def test_another_dead_letter_queue(self):
        self.channel.queue_declare("work.dead", durable=True, arguments={"x-queue-type": "quorum"})
        self.clash(WORK, ["queue work.dead: exists with x-queue-type = quorum", "dead_letter_type = \"quorum\""])

    def test_another_return_queue(self):
        self.channel.queue_declare("work.retry", durable=True)
        self.clash(WORK, ["queue work.retry: exists without", ": delete it"])

    def test_another_rung(self):
        self.channel.exchange_declare("warren.v1.delay.00", "fanout", durable=True)
        self.clash(WORK, ["exchange warren.v1.delay.00: exists with type = fanout, the configuration says topic: delete it"])

    def test_another_exchange_type(self):
        self.channel.exchange_declare("files", "fanout", durable=True)
        self.clash(WORK, ["exchange files: exists with type = fanout, the configuration says topic: delete it, or set "
                          "type = \"fanout\""])

    def test_an_exclusive_queue_of_somebody_else(self):
        self.channel.queue_declare("alone", exclusive=True)
        lines = self.probe(ALONE, code=78)
        self.assertIn("another connection's exclusive queue", self.line(lines, "CLASHES", "queue alone"))
        lines = self.probe({**ALONE, "exclusive": True})
        self.assertIn("another connection holds it", self.line(lines, "there", "queue alone"))

    # -- what is missing --

    def missing(self, queue, *names, **sections):
        lines = self.probe(queue, code=78, **sections)
        self.assertEqual([" ".join(line.split(":")[0].split()[:3]) for line in self.troubles(lines)],
                         [f"MISSING {name}" for name in names])
        self.assertFalse(self.starts(queue, **sections))

    def test_passive_parts_that_are_missing(self):
        queue = {**ALONE, "declare": "passive"}
        self.missing(queue, "queue alone", "queue alone.dead", "queue alone.quarantine")
        for name in ("alone", "alone.dead", "alone.quarantine"):
            self.channel.queue_declare(name, durable=True, arguments={"x-max-length": 5})
        lines = self.probe(queue)
        self.assertIn("not compared", self.line(lines, "there", "queue alone:"))
        self.assertTrue(self.starts(queue))

    def test_a_queue_that_is_not_ours_to_declare(self):
        for name in ("alone.dead", "alone.quarantine"):
            self.channel.queue_declare(name, durable=True)
        self.missing({**ALONE, "declare": "off"}, "queue alone")
        self.channel.queue_declare("alone", durable=True)
        self.line(self.probe({**ALONE, "declare": "off"}), "there", "queue alone:")

    def test_an_exchange_that_nobody_lists(self):
        self.missing({**ALONE, "bindings": [{"exchange": "nowhere", "keys": ["a"]}]}, "bind queue")

    def test_a_passive_exchange_for_publishers(self):
        news = {"name": "news", "type": "fanout", "declare": "passive"}
        self.line(self.probe(ALONE, code=78, exchanges=[news]), "MISSING", "exchange news")
        self.channel.exchange_declare("news", "direct")
        self.line(self.probe(ALONE, exchanges=[news]), "there", "exchange news")

    def test_an_exchange_that_would_take_dead_letters(self):
        lines = self.probe({**ALONE, "arguments": {"x-dead-letter-exchange": "nowhere"}})
        self.assertIn("names exchange nowhere, which is not there", self.line(lines, "warning", "queue alone"))

    def test_an_exchange_type_that_the_broker_does_not_know(self):
        """Costs the connection; the rest is compared all the same."""
        lines = self.probe(ALONE, code=78, exchanges=[{"name": "odd", "type": "x-no-such", "durable": True}])
        self.assertIn("unknown exchange type", self.line(lines, "REFUSED", "exchange odd"))
        self.line(lines, "will be created", "queue alone durable")

    # -- permissions --

    def refusals(self, queue, *permissions):
        return self.troubles(self.probe(queue, code=78, urls=[self.permit(*permissions)]))

    def test_no_permission_to_configure(self):
        for there in (False, True):
            found = self.refusals(WORK, "", ".*", ".*")
            self.assertTrue(found and all("user limited lacks the configure permission on" in line for line in found), found)
            self.assertIn("queue work.retry", "".join(found))
            if not there:
                self.assertFalse(self.starts(WORK, urls=[self.permit("", ".*", ".*")]))
                self.assertTrue(self.starts(WORK))

    def test_no_permission_to_read(self):
        for there in (False, True):
            found = self.refusals(ALONE, ".*", ".*", "")
            self.assertEqual(len(found), 2, found)
            self.assertIn("REFUSED          to consume from queue alone: user limited lacks the read permission on queue alone "
                          f"in vhost {self.vhost}", found[0])
            if not there:
                self.assertFalse(self.starts(ALONE, urls=[self.permit(".*", ".*", "")]))

    def test_no_permission_to_write(self):
        """It would start, and could settle nothing."""
        found = self.refusals(ALONE, ".*", "", ".*")
        self.assertEqual(len(found), 1, found)
        self.assertIn("the write permission on exchange amq.default", found[0])

    def test_no_permission_to_bind(self):
        bound = {**ALONE, "bindings": [{"exchange": "files", "keys": ["a"]}]}
        found = self.refusals(bound, ".*", ".*", "alone.*")
        self.assertEqual(len(found), 1, found)
        self.assertIn("the read permission on exchange files", found[0])
        self.assertFalse(self.starts(bound, urls=[self.permit(".*", ".*", "alone.*")]))
        found = self.refusals(bound, ".*", "amq.default", ".*")
        self.assertEqual(len(found), 1, found)
        self.assertIn("the write permission on queue alone", found[0])
        self.assertFalse(self.starts(bound, urls=[self.permit(".*", "amq.default", ".*")]))

    def test_no_permission_for_the_ladder(self):
        found = self.refusals(WORK, ".*", "(work|amq.default).*", ".*")
        self.assertTrue(any("to publish retries" in line and "the write permission on exchange warren.v1.delay.00" in line
                            for line in found), found)

    def test_no_permission_for_a_dead_letter_exchange(self):
        self.channel.exchange_declare("grave", "fanout", durable=True)
        queue = {**ALONE, "arguments": {"x-dead-letter-exchange": "grave"}}
        found = self.refusals(queue, ".*", "alone|amq.default", ".*")
        self.assertEqual(len(found), 1, found)
        self.assertIn("the write permission on exchange grave", found[0])
        self.assertFalse(self.starts(queue, urls=[self.permit(".*", "alone|amq.default", ".*")]))

    # -- brokers --

    def test_no_broker(self):
        dead = [f"amqp://{canary.LOGIN}@127.0.0.1:{closed_port()}/" for _ in range(2)]
        lines = self.probe(WORK, code=69, urls=dead)
        self.assertEqual(len([line for line in lines if line.startswith("warning          broker amqp://")]), 2)
        self.line(lines, "MISSING", "a broker")

    def test_a_wrong_password(self):
        lines = self.probe(WORK, code=77, urls=[self.url.replace(canary.LOGIN, "canary:wrong")])
        self.assertIn(": auth: ", self.line(lines, "warning", "broker"))

    def test_the_first_broker_that_answers_is_compared(self):
        dead = f"amqp://{canary.LOGIN}@127.0.0.1:{closed_port()}/"
        other = self.broker.url(self.broker.add_vhost())
        lines = self.probe(WORK, urls=[dead, self.url, other])
        self.assertIn(f":***@{dead.split('@')[1]}", self.line(lines, "warning", "broker"))
        answers = [line for line in lines if line.startswith("answers")]
        self.assertEqual(["not compared" in line for line in answers], [False, True])

    def test_the_option_goes_with_t(self):
        done = subprocess.run([WARREND, "--broker"], stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
        self.assertEqual((done.returncode, done.stderr.splitlines()[0]), (64, "warrend: --broker goes with -t"))


if __name__ == "__main__":
    unittest.main()
