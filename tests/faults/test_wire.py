#!/usr/bin/python3
"""What happens on the wire beyond the rows of the matrix: headers that nobody can read, sends that get stuck, frames
that never end; and that the check of invariant I4 finds what it looks for."""

import os
import time
import unittest

from accounting import BUILD, SILENCE
from proxy import early_acks, parse_seen
from wire import BACK, NetTest

from harness import Entry

WITHOUT_USER_TIMEOUT = os.path.join(BUILD, "tests", "faults", "no_user_timeout.so")


class WireTest(NetTest):
    def setUp(self):
        super().setUp()
        self.begin_row(self._testMethodName, False, False)


class Unreadable(WireTest):
    """The exception of promise 2: a message whose headers the AMQP library cannot decode."""

    def poisoned(self, confirm_after=0, **queue):
        daemon = self.begin(self.work(**queue))
        if confirm_after:
            self.proxy.rule("publish", "s2c", "basic.ack", "do", f"delay={confirm_after}")
        worker, since = daemon.worker(), daemon.mark_log()
        poison = self.proxy.rule("work", "s2c", "header", "always", "match=poison", "do", "spoil")
        self.publish(self.channel, "work", "poison", headers={"key": "value"})
        self.give("work", 30, "busy 100")
        self.expect(daemon, "msg.rejected", since=since, queue="work")
        # Several losses in a row make the pauses grow.
        self.recovered(daemon, since, time.time(), 2 * BACK)
        daemon.wait_for("job.done", 30, since)
        losses = self.losses(daemon, since)
        self.assertEqual({line["reason"] for line in losses}, {"unreadable"})
        self.assertGreaterEqual(poison(), 2)
        notice = self.get("work.dead")
        self.assertEqual(notice[1].headers["x-warren-verdict"], "refused")
        self.assertIn("cannot read", notice[1].headers["x-warren-reason"])
        self.assertEqual(daemon.worker(), worker)
        return daemon, self.threads * len(losses)

    def test_is_rejected_after_a_notice_and_all_others_are_done(self):
        daemon, bound = self.poisoned(type="classic")
        self.finish(daemon, bound=bound, excluded=["poison"])
        self.assertEqual(len(daemon.events("msg.rejected")), 1)
        self.assertEqual(sum(self.found.dead.values()), 0, "the notice was all there was")

    def test_that_comes_again_before_its_notice_is_safe_has_no_second_one(self):
        daemon, bound = self.poisoned(confirm_after=1500, type="classic")
        self.finish(daemon, bound=bound, excluded=["poison"])
        self.assertEqual(len(daemon.events("msg.rejected")), 1)
        self.assertEqual(sum(self.found.dead.values()), 0, "the notice was all there was")

    def test_is_not_rejected_where_the_wire_has_spoilt_it_only_once(self):
        """A notice about one message is no reason to reject another one, which comes for the first time, and has
        a notice of its own, even if it comes before the first one is confirmed."""
        daemon = self.begin(self.work(type="classic"))
        late = self.proxy.rule("publish", "s2c", "basic.ack", "do", "delay=1500")
        bound = 0
        for name in ("first", "second"):
            since = daemon.mark_log()
            spoilt = self.proxy.rule("work", "s2c", "header", f"match={name}", "do", "spoil")
            self.publish(self.channel, "work", name, headers={"key": "value"})
            daemon.wait_for("job.done", since=since, message_id=name)
            self.assertEqual(spoilt(), 1)
            self.assertIn("cannot read", self.get("work.dead")[1].headers["x-warren-reason"])
            bound += self.threads * len(self.losses(daemon, since))
        self.proxy.met(late)
        self.refuse(daemon, "msg.rejected")
        self.finish(daemon, bound=bound)
        self.assertEqual((self.found.done["first"], self.found.done["second"]), (1, 1))

    def test_is_kept_by_a_quorum_queue_that_dead_letters_by_itself(self):
        daemon, bound = self.poisoned()
        self.finish(daemon, bound=bound, excluded=["poison"])
        self.assertEqual(self.found.dead["poison"], 1)


class Frozen(WireTest):
    """Nothing is read any more while a large reply is on its way, and nothing is heard."""

    def freeze(self, seconds, event):
        daemon = self.begin(broker={"confirm_timeout": "60s"})
        self.channel.queue_declare("answers", durable=True)
        since, began = daemon.mark_log(), time.time()
        self.proxy.tell("freeze", "publish", "both")
        name, = self.give("work", 1, "reply " + "x" * 12_000_000, reply_to="answers")
        daemon.ran(name)
        self.give("work", 10)  # what publishes nothing does not wait
        daemon.wait_for("job.done", 10, since)
        self.expect(daemon, event, since=since, seconds=seconds, conn="publish")
        self.expect(daemon, "conn.lost", since=since, conn="publish")
        self.seen(f"{event} after {time.time() - began:.0f} s")
        self.heal()
        daemon.wait_for("job.done", since=since, message_id=name)
        self.assertFalse(daemon.events("conn.lost", since, conn="work"))
        self.finish(daemon, bound=0, answers=["answers"], answer_bound=0)

    def test_a_send_that_gets_nowhere_is_ended_by_the_system(self):
        self.freeze(2 * SILENCE, "conn.lost")


class FrozenOnOlderSystems(Frozen):
    """There an answered probe of a full window keeps a connection for ever, whatever TCP_USER_TIMEOUT says."""

    test_a_send_that_gets_nowhere_is_ended_by_the_system = None

    def daemon(self, config, *options, **more):
        return super().daemon(config, *options, environment={"LD_PRELOAD": WITHOUT_USER_TIMEOUT}, **more)

    def test_a_send_that_gets_nowhere_is_ended_by_the_watch(self):
        self.freeze(45, "conn.stuck")


class Endless(WireTest):
    def test_a_frame_whose_length_grew_on_the_way(self):
        """64 KiB more are awaited than there are, while heartbeats trickle in: no silence, no wrong byte."""
        daemon = self.begin()
        since = daemon.mark_log()
        grown = self.proxy.rule("work", "s2c", "basic.deliver", "do", "grow")
        self.give("work", 1)
        self.proxy.met(grown)
        self.expect(daemon, "conn.lost", since=since, seconds=45, conn="work", reason="timeout")
        self.recovered(daemon, since, time.time(), BACK)
        self.finish(daemon, bound=0)


class Silent(WireTest):
    """The connection is fine, but one answer never comes."""

    def test_a_confirm_later_than_its_time_limit_is_waited_for_no_longer(self):
        daemon = self.begin(broker={"confirm_timeout": "1s"})
        self.channel.queue_declare("answers", durable=True)
        since = daemon.mark_log()
        late = self.proxy.rule("publish", "s2c", "basic.ack", "do", "delay=3000")
        name, = self.give("work", 1, "reply yes", reply_to="answers")
        self.proxy.met(late)
        self.expect(daemon, "publish.failed", since=since, reason="in-doubt")
        daemon.wait_for("job.done", since=since, message_id=name)
        self.assertFalse(daemon.events("conn.lost", since))
        self.finish(daemon, bound=0, answers=["answers"], answer_bound=1)
        self.assertEqual(self.found.answers[name], 2)

    def test_an_answer_that_never_comes_costs_the_connection(self):
        daemon = self.begin()
        answer = self.random.choice(["channel.open-ok", "basic.qos-ok", "basic.consume-ok", "queue.declare-ok"])
        self.seen(f"no {answer}")
        swallowed = self.proxy.rule("work", "s2c", answer, "skip=1", "do", "swallow")
        since = daemon.mark_log()
        self.proxy.tell("rst", "work", "both")
        self.proxy.met(swallowed)
        self.give("work", 10)
        silent = self.expect(daemon, "broker.silent", since=since, seconds=45)  # to the worker or to the quarantine
        daemon.patiently(lambda: [line for line in daemon.events("queue.consuming", since, role=silent["role"])
                                  if line["time"] > silent["time"]], "whoever waited in vain consumes again")
        self.finish(daemon, bound=0)


class EarlyAcks(unittest.TestCase):
    """The check itself: acks on the wire are compared with the ledger and with confirms."""

    DELIVERED = ["900 1 work c2s 2 channel.open passed",
                 "1000 1 work s2c 2 basic.deliver passed tag=1 redelivered=0 exchange= key=work",
                 "1000 1 work s2c 2 header passed size=5 id=job-1",
                 "1000 1 work s2c 2 body passed text=job-1;dead.yes"]
    PUBLISHED = ["1400 2 publish c2s 3 channel.open passed",
                 "1500 2 publish c2s 3 basic.publish passed exchange= key=work.dead",
                 "1500 2 publish c2s 3 header passed size=5 id=job-1",
                 "1500 2 publish c2s 3 body passed text=job-1;dead.yes"]
    CONFIRMED = ["1600 2 publish s2c 3 basic.ack passed tag=1 bits=0"]
    ACKED = ["1700 1 work c2s 2 basic.ack passed tag=1 bits=0"]

    def early(self, *lines, ended=None):
        ledger = [Entry("end", 1, 0, 1, False, ended, 1, 1, "job-1")] if ended else []
        return [name for _, name in early_acks([parse_seen(line) for line in lines], ledger)]

    def test_after_the_end_line(self):
        self.assertEqual(self.early(*self.DELIVERED, *self.ACKED, ended=1650), [])

    def test_before_the_end_line(self):
        self.assertEqual(self.early(*self.DELIVERED, *self.ACKED, ended=1750), ["job-1"])

    def test_after_the_confirm(self):
        self.assertEqual(self.early(*self.DELIVERED, *self.PUBLISHED, *self.CONFIRMED, *self.ACKED), [])

    def test_before_the_confirm_though_the_task_has_ended(self):
        late = [self.CONFIRMED[0].replace("1600", "1800", 1)]
        self.assertEqual(self.early(*self.DELIVERED, *self.PUBLISHED, *self.ACKED, *late, ended=1400), ["job-1"])

    def test_on_another_incarnation_of_the_channel(self):
        self.assertEqual(self.early(*self.DELIVERED, self.DELIVERED[0], *self.ACKED, ended=1650),
                         ["delivered to nobody here"])

    def test_without_any_confirm(self):
        swallowed = [self.CONFIRMED[0].replace("passed", "swallowed")]
        self.assertEqual(self.early(*self.DELIVERED, *self.PUBLISHED, *swallowed, *self.ACKED), ["job-1"])


if __name__ == "__main__":
    unittest.main()
