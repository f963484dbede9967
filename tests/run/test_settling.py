#!/usr/bin/python3
"""What becomes of a message after its task has spoken: done, retried, dead-lettered, replied to, given back."""

import signal
import socket
import time
import unittest

import pika

from harness import WarrendTest, wait_until

QUICK = {"attempts": 3, "first": "1s", "factor": 1.0, "max": "1s", "jitter": 0.0}


def work(name="work", **more):
    return {"name": name, "durable": True, "task": "ledger.run", "retry": QUICK, **more}


class SettlingTest(WarrendTest):
    def dead(self, queue="work.dead"):
        """The next dead letter as (headers, properties, body)."""
        _, properties, body = self.get(queue)
        return properties.headers, properties, body

    def is_dead(self, verdict, reason, queue="work.dead"):
        headers, _, body = self.dead(queue)
        self.assertEqual(headers["x-warren-verdict"], verdict)
        self.assertIn(reason, headers["x-warren-reason"])
        return body

    def is_settled(self, daemon, queue="work"):
        """Nothing is left, neither ready nor unacknowledged: that would come back when the daemon stops."""
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(self.ready(queue), 0)

    def row(self, queue):
        rows = self.broker.rows("list_queues", "-p", self.vhost, "name", "messages", "messages_ready",
                                "messages_unacknowledged")
        return next(row for row in rows if row["name"] == queue)


class Retry(SettlingTest):
    def test_a_retry_comes_back_after_its_delay_and_not_before(self):
        daemon = self.warrend(work())
        self.put("work", "job\norigin\nuntil 3 not yet")
        daemon.wait_for("job.done", attempt=3)
        starts, ends = daemon.ledger("start", "job"), daemon.ledger("end", "job")
        self.assertEqual([entry.attempt for entry in starts], [1, 2, 3])
        for end, start in zip(ends, starts[1:]):
            self.assertGreaterEqual(start.ms - end.ms, 990)
            self.assertFalse(start.redelivered)
        retries = daemon.events("job.retry", verdict="retry", reason="not yet")
        self.assertEqual([(line["attempt"], line["delay"]) for line in retries], [("1", "1s"), ("2", "1s")])
        self.is_settled(daemon)
        self.assertEqual(self.ready("work.dead"), 0)

    def test_the_task_may_ask_for_a_delay_of_its_own(self):
        daemon = self.warrend(work())
        self.put("work", "other\nafter 2500\nuntil 2")
        daemon.wait_for("job.retry", delay="3s")  # whole seconds, rounded up
        self.put("work", "neighbour")  # is not held up by a message that waits
        daemon.ran("neighbour")
        self.assertEqual(len(daemon.ledger("start", "other")), 1)
        daemon.ran("other", 2)
        first, again = daemon.ledger("start", "other")[:2]
        self.assertGreaterEqual(again.ms - first.ms, 2490)

    def test_back_off_grows_by_its_factor(self):
        daemon = self.warrend(work(retry={**QUICK, "factor": 2.0, "max": "4s", "attempts": 3}))
        self.put("work", "job\nretry later")
        self.dead()
        self.assertEqual([line["delay"] for line in daemon.events("job.retry")], ["1s", "2s"])

    def test_a_task_sees_where_its_message_was_first_published(self):
        daemon = self.warrend(work(bindings=[{"exchange": "amq.topic", "keys": ["a.*"]}]))
        self.channel.basic_publish("amq.topic", "a.b", "job\norigin\nuntil 2")
        daemon.ran("job", 2)
        self.assertEqual(len(daemon.ledger("origin/amq.topic/a.b", "job")), 2)

    def test_a_forged_attempt_is_not_believed(self):
        daemon = self.warrend(work())
        self.put("work", "job\norigin", headers={"x-warren-attempt": -5, "x-warren-exchange": "forged"})
        daemon.ran("job")
        self.assertEqual(daemon.ledger("start")[0].attempt, 1)
        self.assertTrue(daemon.ledger("origin//work", "job"))

    def test_every_type_of_queue_retries(self):
        daemon = self.warrend([work("classic", type="classic"), work("quorum", type="quorum"),
                               work("dotted.*.#")])
        for queue in ("classic", "quorum", "dotted.*.#"):
            self.put(queue, f"{queue}\nuntil 2")
        for queue in ("classic", "quorum", "dotted.*.#"):
            daemon.ran(queue, 2)
            self.assertEqual([entry.attempt for entry in daemon.ledger("start", queue)], [1, 2])

    def test_under_drain_it_costs_no_attempt(self):
        daemon = self.warrend(work())
        self.put("work", "job\nyield")
        daemon.ran("job", what="start")
        self.assertEqual(daemon.stop(), 75)
        daemon.start().ran("job", 2, what="start")
        self.assertEqual([(e.attempt, e.redelivered) for e in daemon.ledger("start")], [(1, False), (1, True)])
        self.assertEqual(self.ready("work.dead"), 0)


class DeadLetter(SettlingTest):
    def test_exhausted_with_all_that_is_known_of_it(self):
        before = int(time.time() * 1000)
        daemon = self.warrend(work(bindings=[{"exchange": "amq.topic", "keys": ["a.*"]}]))
        body = b"job\nretry disk \xffon fire\x1b[31m"
        self.channel.basic_publish("amq.topic", "a.b", body, pika.BasicProperties(
            content_type="text/x-job", correlation_id="c", message_id="m", app_id="a", priority=3, type="t",
            expiration="60000", delivery_mode=1, headers={"mine": [1, {"deep": True}], "CC": ["other"]}))
        headers, properties, dead = self.dead()
        self.assertEqual(dead, body)
        self.assertEqual((properties.content_type, properties.correlation_id, properties.message_id,
                          properties.app_id, properties.priority, properties.type),
                         ("text/x-job", "c", "m", "a", 3, "t"))
        self.assertEqual((properties.delivery_mode, properties.expiration), (2, None))
        at = {name: headers.pop(f"x-warren-{name}") for name in ("first-at", "at", "expires-at")}
        self.assertLessEqual(before, at["first-at"])
        self.assertLessEqual(at["first-at"] + 2 * 990, at["at"])
        self.assertLessEqual(at["at"], time.time() * 1000)
        self.assertAlmostEqual(at["expires-at"], at["first-at"] + 60000, delta=1)
        self.assertEqual(headers, {
            "mine": [1, {"deep": True}], "x-warren-attempt": 3, "x-warren-queue": "work",
            "x-warren-task": "ledger.run", "x-warren-exchange": "amq.topic", "x-warren-routing-key": "a.b",
            "x-warren-reason": r"disk \xffon fire\x1b[31m", "x-warren-verdict": "exhausted",
            "x-warren-host": socket.gethostname(), "x-warren-plugin": "ledger/1.0"})
        daemon.wait_for("job.dead", verdict="exhausted", attempt=3)
        self.is_settled(daemon)

    def test_dead_at_once(self):
        daemon = self.warrend(work())
        self.put("work", "job\ndead no such customer")
        self.assertEqual(self.is_dead("dead", "no such customer"), b"job\ndead no such customer")
        self.assertEqual(len(daemon.ledger("start")), 1)
        self.is_settled(daemon)

    def test_breach(self):
        daemon = self.warrend(work())
        self.put("work", "job\nreturn 9")
        self.is_dead("breach", "ledger.run returned 9")
        daemon.wait_for("plugin.breach", plugin="ledger/1.0", returned=9)

    def test_expired_instead_of_a_retry_that_comes_too_late(self):
        daemon = self.warrend(work(retry={**QUICK, "first": "10s", "max": "10s"}))
        self.put("work", "job\nretry later", expiration="5000")
        self.is_dead("expired", "later")
        self.assertEqual(len(daemon.ledger("start")), 1)

    def test_expired_before_it_ran_again(self):
        daemon = self.warrend(work(retry={**QUICK, "first": "2s", "max": "2s"}))
        self.put("work", "job\nuntil 2", expiration="4000")
        over = time.monotonic() + 4.1
        daemon.ran("job")
        self.put("work", f"blocker\nwait {daemon.path('go')}")
        daemon.ran("blocker", what="start")
        wait_until(lambda: time.monotonic() > over, "the message expires")
        open(daemon.path("go"), "w").close()
        self.is_dead("expired", "expired before it could run")
        self.assertEqual(len(daemon.ledger("start", "job")), 1)

    def test_into_another_queue_or_nowhere(self):
        daemon = self.warrend([work(dead_letter="graveyard"), work("carefree", dead_letter="")])
        self.put("work", "job\ndead yes")
        self.is_dead("dead", "yes", "graveyard")
        self.put("carefree", "job\ndead yes")
        daemon.wait_for("job.dropped", queue="carefree", verdict="dead", reason="yes")
        self.is_settled(daemon, "carefree")

    def test_its_queue_is_made_again_when_it_was_deleted(self):
        daemon = self.warrend(work())
        self.channel.queue_delete("work.dead")
        self.put("work", "job\ndead yes")
        daemon.wait_for("job.dead")
        self.is_dead("dead", "yes")
        self.is_settled(daemon)


class Route(SettlingTest):
    def test_by_type(self):
        daemon = self.warrend(self.by("type"))
        self.put("work", "job", type="ledger.run")
        daemon.wait_for("job.done", task="ledger.run")
        self.put("work", "job", type="ledger.nothing")
        self.is_dead("unknown-task", "ledger.nothing")
        self.put("work", "job")
        self.is_dead("unknown-task", "the message names no task")

    def test_by_routing_key(self):
        daemon = self.warrend(self.by("routing_key", bindings=[{"exchange": "amq.topic", "keys": ["#"]}]))
        for key in ("ledger.run", "ledger.nothing"):
            self.channel.basic_publish("amq.topic", key, f"{key}\nuntil 2")
        self.is_dead("unknown-task", "ledger.nothing")
        daemon.wait_for("job.done", attempt=2, task="ledger.run")  # the first key counts, not the ladder's

    def test_by_header(self):
        daemon = self.warrend(self.by("header:job"))
        self.put("work", "job", headers={"job": "ledger.other"})
        daemon.wait_for("job.done", task="ledger.other")
        self.put("work", "job", headers={"job": 7})
        self.is_dead("unknown-task", "names no task")

    def test_only_what_the_queue_allows(self):
        daemon = self.warrend(self.by("type", tasks=["ledger.r*"]))
        self.put("work", "job", type="ledger.other")
        self.is_dead("unknown-task", "ledger.other")
        self.put("work", "job", type="ledger.run")
        daemon.wait_for("job.done")

    @staticmethod
    def by(route, **more):
        queue = work(route=route, **more)
        del queue["task"]
        return queue


class Replies(SettlingTest):
    def setUp(self):
        super().setUp()
        self.channel.queue_declare("answers", durable=True)

    def test_to_the_queue_that_waits_for_it(self):
        self.warrend(work())
        self.put("work", "job\nreply pong", reply_to="answers", correlation_id="c", delivery_mode=2)
        _, properties, body = self.get("answers")
        self.assertEqual((body, properties.correlation_id, properties.content_type, properties.delivery_mode),
                         (b"pong", "c", "text/plain", 2))
        self.put("work", "job\nreply pong", reply_to="answers", message_id="m")
        self.assertEqual(self.get("answers")[1].correlation_id, "m")

    def test_direct_reply_to(self):
        self.warrend(work())
        channel = self.open_channel()
        answers = []
        channel.basic_consume("amq.rabbitmq.reply-to", lambda *got: answers.append(got[3]), auto_ack=True)
        channel.basic_publish("", "work", "job\nreply pong", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        wait_until(lambda: self.connection.process_data_events(0.05) or answers, "a direct reply")
        self.assertEqual(answers, [b"pong"])

    def test_only_with_done_and_only_once(self):
        daemon = self.warrend(work())
        self.put("work", "job\nreply early\nuntil 2\nreply late", reply_to="answers")
        daemon.wait_for("job.done", attempt=2)
        self.put("work", "job\nreply never\ndead yes", reply_to="answers")
        self.dead()
        self.assertEqual(self.get("answers")[2], b"late")
        self.assertEqual(self.ready("answers"), 0)

    def test_nobody_waits_any_more(self):
        daemon = self.warrend(work())
        self.put("work", "job\nreply pong", reply_to="long.gone")
        daemon.wait_for("reply.unroutable", reply_to="long.gone")
        daemon.wait_for("job.done")
        self.is_settled(daemon)
        self.assertEqual(self.ready("work.dead"), 0)

    def test_refused_where_the_queue_allows_none(self):
        daemon = self.warrend([work(replies="none"), work("direct", replies="direct")])
        for queue in ("work", "direct"):
            self.put(queue, "job\nreply pong", reply_to="answers")
            daemon.wait_for("reply.refused", queue=queue)
        daemon.wait_for("job.done", 2)
        self.assertEqual(self.ready("answers"), 0)


class FollowUps(SettlingTest):
    def test_is_published_with_done(self):
        daemon = self.warrend([work(), work("next")])
        self.put("work", "job\nfollow next\nuntil 2")
        daemon.wait_for("job.done", queue="next")
        self.assertEqual([line["queue"] for line in daemon.events("job.done")].count("next"), 1)
        self.is_settled(daemon, "next")

    def test_that_no_queue_takes_is_a_retry(self):
        daemon = self.warrend(work())
        self.put("work", "job\nfollow later")
        daemon.wait_for("job.retry", attempt=1)
        self.channel.queue_declare("later", durable=True)
        daemon.wait_for("job.done")
        self.assertEqual(self.get("later")[2], b"job")

    def test_that_no_queue_ever_takes_is_a_dead_letter(self):
        self.warrend(work(retry={**QUICK, "attempts": 2}))
        self.put("work", "job\nfollow nowhere")
        self.is_dead("exhausted", "nowhere")


class AckAfterConfirm(SettlingTest):
    def test_during_a_memory_alarm_nothing_is_acked_that_has_to_publish(self):
        daemon = self.warrend(work(threads=2))
        go = daemon.path("go")
        self.put("work", f"stuck\nwait {go}\ndead yes")
        daemon.ran("stuck", what="start")
        self.put("work", f"gate\nwait {go}", *[f"plain-{i}" for i in range(30)])
        daemon.ran("gate", what="start")
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            open(go, "w").close()
            for i in range(30):  # those that publish nothing keep flowing
                daemon.ran(f"plain-{i}")
            daemon.wait_for("broker.blocked")
            row = self.row("work")
            self.assertEqual((row["messages_ready"], row["messages_unacknowledged"]), (0, 1))
            self.assertFalse(daemon.events("job.dead"))
        finally:
            self.broker.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        daemon.wait_for("job.dead")
        self.is_dead("dead", "yes")
        self.is_settled(daemon)
        self.assertEqual(daemon.stop(), 0)

    def test_a_job_that_cannot_publish_is_given_back_at_the_drain_limit(self):
        daemon = self.warrend(work(), workers={"drain_limit": "1s"})
        go = daemon.path("go")
        self.put("work", f"stuck\nwait {go}\ndead yes")
        daemon.ran("stuck", what="start")
        self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            open(go, "w").close()
            daemon.wait_for("broker.blocked")
            self.assertEqual(daemon.stop(signal.SIGTERM), 75)
        finally:
            self.broker.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        wait_until(lambda: self.ready("work") == 1, "the job is given back")


if __name__ == "__main__":
    unittest.main()
