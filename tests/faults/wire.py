"""Rows with the fault proxy between warrend and the broker; the test itself goes past it."""

import os
import shutil
import time

from accounting import FOLDER, HEARTBEAT, SEED, SILENCE, SLOWER, FaultTest, stamp
from proxy import Proxy, early_acks

CONNECT = 2  # seconds that an attempt to connect may take
BACK = 4 + CONNECT  # an attempt that began during the fault goes on until its end


class NetTest(FaultTest):
    """A row whose daemon reaches the broker by self.proxy."""

    def setUp(self):
        super().setUp()
        self.proxies = []
        self.proxy = self.new_proxy()

    def new_proxy(self, **more):
        proxy = Proxy(self.broker.port(), seed=SEED, **more)
        self.proxies.append(proxy)
        self.addCleanup(proxy.stop)
        return proxy

    def settings(self, queues, **sections):
        sections.setdefault("urls", [self.proxy.url(self.url)])
        sections["broker"] = {"heartbeat": f"{HEARTBEAT}s", "reconnect_max": "2s", "connect_timeout": f"{CONNECT}s",
                              **sections.get("broker", {})}
        return super().settings(queues, **sections)

    def keep_traces(self):
        super().keep_traces()
        for number, proxy in enumerate(self.proxies):
            os.makedirs(os.path.join(FOLDER, "failed", self.name), exist_ok=True)
            shutil.copy(proxy.path, os.path.join(FOLDER, "failed", self.name, f"wire-{number}"))

    def finish(self, *daemons, **what):
        super().finish(*daemons, **what)
        wrong = [early for proxy in self.proxies for early in early_acks(proxy.seen(), self.ledgers())]
        self.assertEqual(wrong, [], "I4: acks on the wire that nothing goes before")

    def expect(self, daemon, event, count=1, since=0, seconds=60, **fields):
        """The quarantine has connections of its own: what is expected of a connection is the one worker's."""
        line = super().expect(daemon, event, count, since, seconds, **fields)
        if event.startswith("conn.") and self.processes_of_daemon == 1:
            line = daemon.wait_for(event, count, since, seconds, role="worker 0", **fields)
        return line

    def losses(self, daemon, since, **fields):
        """The connections that the one worker has lost."""
        return daemon.events("conn.lost", since, role="worker 0", **fields)

    # -- faults --

    def heal(self):
        """The fault clears; returns when (time.time())."""
        self.proxy.heal()
        return time.time()

    def noticed(self, daemon, since, began, within=SILENCE, count=1, **fields):
        """The loss is seen in time. `began` is time.time() of the fault."""
        line = self.expect(daemon, "conn.lost", count, since, **fields)
        took = stamp(line) - began
        self.seen(f"loss seen after {took:.1f} s")
        self.assertLessEqual(took, within * SLOWER, "seconds until the loss was seen")
        return line

    def runs(self, name):
        """The lines that the ledger has about the starts of a job."""
        return [entry for entry in self.ledgers("start") if entry.id == name]
