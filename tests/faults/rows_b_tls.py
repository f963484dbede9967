"""Row B20: TLS that is not to be trusted, in the middle of the work."""

import time

from accounting import FaultTest, row
import node
import tls_fixture


class TlsNode(tls_fixture.Tls, node.FaultNode):
    pass


class Certificates(FaultTest):
    _node = None

    @classmethod
    def node(cls):
        cls._node = cls._node or TlsNode()
        return cls._node

    @classmethod
    def tearDownClass(cls):
        if cls._node:
            cls._node.remove()

    def close_tls_connections(self):
        """Those of the daemon; publishers have their own."""
        for line in self.broker.ctl("list_connections", "pid", "ssl", "vhost").splitlines():
            pid, *rest = line.split("\t")
            if rest == ["true", self.vhost]:
                self.broker.ctl("close_connection", pid, "enough")

    @row("B20", own_node=True)
    def test_B20(self):
        """The broker comes back with an expired certificate, then one of another authority, then one for another host,
        while publishers go on; then with the right one. (Addresses, TLS 1.1, RST in the handshake, no TLS at all, and files
        that cannot be read at start: tests/run/test_tls.py.)

        Each is refused with its own words in the status (the log thins out), `conn.retry reason=tls`; never in the clear; no worker
        ends. Consuming again once the right one is there; at most one run per channel again."""
        authority = self.broker.authority
        bad = [(authority.issue("expired", "localhost", expired=True), "certificate has expired"),
               (self.broker.other.issue("stranger", "localhost"), "unable to get local issuer certificate"),
               (authority.issue("elsewhere", "localhost", "DNS:elsewhere.example"), "not for host name localhost")]
        daemon = self.begin(self.work(), urls=[self.broker.tls_url(self.vhost)],
                            broker={"tls": {"ca_file": authority.file}})
        self.load(commands="hear 300", rate=20)
        self.under_way(daemon)
        since = daemon.mark_log()
        for pair, words in bad:
            self.broker.show(pair)
            self.close_tls_connections()
            daemon.patiently(lambda: words in daemon.text("status").rpartition("STATUS=")[2], f"{words} in the status")
            self.assertEqual(daemon.events("conn.up", since), [])
            self.seen(words)
        self.expect(daemon, "conn.retry", since=since, reason="tls")
        self.broker.show(self.broker.right)
        self.recovered(daemon, since, time.time())
        self.refuse(daemon, "worker.exited")
        self.assertTrue(all(line["broker"].startswith("amqps://") for line in daemon.events("conn.up")))
        self.finish(daemon, bound=self.threads)
