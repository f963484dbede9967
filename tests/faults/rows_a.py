"""Rows A: what the broker does, or suffers."""

from accounting import BACK, FaultTest, row, seconds_pass


class Outages(FaultTest):
    @row("A1", must=True)
    def test_A1(self):
        """The broker is killed (SIGKILL) under load, and started again after 5 s.

        Lost 0; again at most one run per channel. One `conn.lost` per connection; running tasks are told, their acks
        skipped; consuming again within 4 s of the port's opening; no worker is replaced."""
        daemon = self.begin()
        self.load(commands="busy 200", rate=40)
        self.under_way(daemon)
        since = daemon.mark_log()
        self.broker.kill()
        self.expect(daemon, "conn.lost", since=since)
        seconds_pass(5)
        opened = self.broker.start()
        self.recovered(daemon, since, opened, BACK)
        self.assertEqual(len(daemon.events("worker.started")), 1)
        self.finish(daemon, bound=self.threads)
