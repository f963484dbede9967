#!/usr/bin/python3
"""TLS: what is trusted, what is refused and in which words, certificates of our own, and never a word in the clear."""

import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import unittest
import warnings

import canary
import tls_fixture
from harness import WARREND, WarrendTest, wait_until
from tls_fixture import StandIn

WORK = {"name": "work", "durable": True, "task": "ledger.run"}

_node = None


def tls_node():
    global _node
    if _node is None:
        _node = tls_fixture.TlsNode()
    return _node


class TlsTest(WarrendTest):
    node = staticmethod(tls_node)

    def setUp(self):
        super().setUp()
        self.ca = self.broker.authority.file
        self.addCleanup(self.broker.put, self.broker.right)

    def tls(self, url=None, queues=(WORK,), broker=None, **tls):
        """Settings of a daemon that connects by TLS."""
        return self.settings(list(queues), urls=[url or self.broker.tls_url(self.vhost)],
                             broker={"reconnect_max": "1s", "tls": {"ca_file": self.ca, **tls}, **(broker or {})})

    def connect(self, *args, **kwargs):
        return self.daemon(self.tls(*args, **kwargs)).start()

    def stand_in(self, serve):
        server = StandIn(serve)
        self.addCleanup(server.stop)
        return server

    @staticmethod
    def in_status(daemon, words):
        daemon.patiently(lambda: words in daemon.text("status").rpartition("STATUS=")[2], f"{words} in the status")

    def refused(self, daemon, words, reason="tls", event="conn.retry"):
        """The daemon says so in its log and to the service manager and goes on; `warren` says so and ends."""
        def told():
            self.assertIsNone(daemon.process.poll())
            return [line for line in daemon.events(event, reason=reason) if words in line["text"]]
        daemon.patiently(told, f"{event} reason={reason} with {words}")
        self.assertEqual(daemon.events("conn.up"), [])
        self.in_status(daemon, words)
        code = 77 if reason == "auth" else 69
        done = self.warren("publish", "-c", daemon.config, "-q", "work", "x", code=code)
        self.assertIn(words.encode(), done.stderr)
        done = self.warren("subscribe", "-c", daemon.config, "-q", "work", "-n", "1", code=code)
        self.assertIn(words.encode(), done.stderr)


class Trust(TlsTest):
    def test_a_certificate_that_is_right(self):
        daemon = self.connect().consuming()
        self.assertIn(f"amqps://{canary.USER}:***@localhost:", daemon.events("conn.up")[0]["broker"])
        self.warren("publish", "-c", daemon.config, "-q", "work", "by-tls")
        daemon.ran("by-tls")
        self.warren("publish", "-c", daemon.config, "-q", "other", "--declare=durable", "by-tls")
        done = self.warren("subscribe", "-c", daemon.config, "-q", "other", "-n", "1", "--body")
        self.assertIn(b"by-tls", done.stdout)
        self.assertEqual(daemon.stop(), 0)

    def test_the_authorities_of_the_system(self):
        url = self.broker.tls_url(self.vhost)
        self.channel.queue_declare("q", durable=True)
        done = self.warren("publish", "-u", url, "-q", "q", "x", code=69)
        self.assertIn(b"is not trusted: ", done.stderr)
        self.warren("publish", "-u", url, "-q", "q", "x", env={**os.environ, "SSL_CERT_FILE": self.ca})

    def test_each_fault_has_its_words_and_heals(self):
        issue = self.broker.authority.issue
        cases = [(issue("expired", "localhost", expired=True), "certificate has expired"),
                 (self.broker.other.issue("stranger", "localhost"), "is not trusted: unable to get local issuer certificate"),
                 (issue("elsewhere", "localhost", "DNS:elsewhere.example"), "not for host name localhost")]
        self.broker.show(cases[0][0])
        daemon = self.connect()
        for pair, words in cases:
            with self.subTest(words):
                self.broker.show(pair)
                self.refused(self.connect(), words)
                self.in_status(daemon, words)
        self.assertEqual(daemon.events("conn.up"), [])
        since = daemon.mark_log()
        self.broker.show(self.broker.right)
        daemon.wait_for("queue.consuming", since=since)
        self.assertEqual(daemon.events("worker.exited"), [])
        self.assertEqual(daemon.stop(), 0)

    def test_an_address_needs_its_entry_in_the_certificate(self):
        daemon = self.connect(self.broker.tls_url(self.vhost, "127.0.0.1"))
        self.refused(daemon, "the certificate has no entry for this IP address")
        self.broker.show(self.broker.authority.issue("address", "localhost", "DNS:localhost,IP:127.0.0.1"))
        daemon.consuming()
        self.assertEqual(daemon.stop(), 0)

    def test_without_verification_every_start_warns(self):
        self.broker.show(self.broker.other.issue("stranger", "localhost", "DNS:elsewhere.example", expired=True))
        daemon = self.daemon(self.tls(verify=False))
        for start in range(2):
            since = daemon.mark_log()
            daemon.start().wait_for("queue.consuming", since=since)
            warned = daemon.events("config.warning", since)
            self.assertTrue([line for line in warned if "tls.verify = false" in line["error"]], start)
            self.assertEqual(daemon.stop(), 0)


class Ours(TlsTest):
    """Certificates of the client."""

    def external(self, subject, **more):
        pair = self.broker.authority.issue(f"client-{subject}", subject, **more)
        return dict(url=self.broker.tls_url(self.vhost, login="ignored"), broker={"auth": "external"},
                    cert_file=pair[0], key_file=pair[1])

    def test_external(self):
        daemon = self.connect(**self.external(canary.USER)).consuming()
        rows = self.broker.rows("list_connections", "user", "auth_mechanism", "vhost")
        self.assertEqual({(row["user"], row["auth_mechanism"]) for row in rows if row["vhost"] == self.vhost
                          and row["auth_mechanism"] != "PLAIN"}, {(canary.USER, "EXTERNAL")})
        self.warren("publish", "-c", daemon.config, "-q", "work", "external")
        daemon.ran("external")
        self.assertEqual(daemon.stop(), 0)

    def test_external_as_nobody(self):
        self.refused(self.connect(**self.external("nobody")), "ACCESS_REFUSED", "auth", "conn.refused")

    def test_no_certificate_where_one_is_the_only_way_to_log_in(self):
        self.broker.ctl("eval", "application:set_env(rabbit, auth_mechanisms, ['EXTERNAL']).")
        self.addCleanup(self.broker.ctl, "eval",
                        "application:set_env(rabbit, auth_mechanisms, ['PLAIN', 'EXTERNAL']).")
        self.refused(self.connect(), "does not offer the way to log in", "auth", "conn.refused")

    def test_no_certificate_where_tls_wants_one(self):
        server = self.stand_in(tls_fixture.handshake(self.broker.right, self.broker.authority))
        url = self.broker.tls_url(self.vhost).replace(str(self.broker.tls_port), str(server.port))
        self.refused(self.connect(url), "does the broker want a client certificate?")

    def test_a_key_with_a_password(self):
        settings = self.external(canary.USER, password=canary.PASSWORD)
        daemon = self.daemon(self.tls(key_password_file="key-password", **settings))
        daemon.add_secret("key-password", canary.PASSWORD + "\n")
        daemon.start().consuming()
        self.assertEqual(daemon.stop(), 0)


class InTheWay(TlsTest):
    """What answers is no broker, or not by TLS."""

    def through(self, port):
        return self.broker.tls_url(self.vhost).replace(str(self.broker.tls_port), str(port))

    def never_in_the_clear(self, server):
        self.assertEqual(set(server.first), {b"\x16"})  # a TLS handshake, each time

    def test_an_old_version(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            server = self.stand_in(tls_fixture.handshake(self.broker.right, version=ssl.TLSVersion.TLSv1_1))
        self.refused(self.connect(self.through(server.port)), "(TLS 1.2 or newer is needed)")
        self.never_in_the_clear(server)

    def test_a_reset_in_the_handshake(self):
        server = self.stand_in(tls_fixture.reset)
        self.refused(self.connect(self.through(server.port)), "Connection reset by peer")
        self.never_in_the_clear(server)

    def test_an_end_in_the_handshake(self):
        server = self.stand_in(tls_fixture.hang_up)
        self.refused(self.connect(self.through(server.port)), "the other side closed the connection")
        self.never_in_the_clear(server)

    def test_silence_in_the_handshake(self):
        server = self.stand_in(tls_fixture.say_nothing)
        daemon = self.connect(self.through(server.port), broker={"connect_timeout": "1s"})
        self.refused(daemon, "in time", reason="timeout")
        self.never_in_the_clear(server)

    def test_tls_to_a_port_without(self):
        self.refused(self.connect(self.through(self.broker.port())), "does anybody speak TLS there?")

    def test_no_tls_to_a_port_with(self):
        url = self.through(self.broker.tls_port).replace("amqps:", "amqp:")
        daemon = self.daemon(self.settings([WORK], urls=[url], broker={"reconnect_max": "1s"})).start()
        self.refused(daemon, "(if it speaks TLS, write amqps://)", reason="protocol")


class Files(TlsTest):
    """What start and reload say of files that cannot be used."""

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="warren-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def file(self, name, source, mode=0o600):
        path = os.path.join(self.folder, name)
        shutil.copy(source, path)
        os.chmod(path, mode)
        return path

    def starts_not(self, code, words, config):
        daemon = self.daemon(config)
        done = subprocess.run([WARREND, "-t", "-c", daemon.config], stdin=subprocess.DEVNULL, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertIn(words, done.stdout)
        self.assertIn(daemon.config + ":", done.stdout)
        self.assertEqual(done.returncode, code, done.stdout)
        self.assertEqual(daemon.start().wait(), code)
        self.assertIn(words, daemon.text())
        self.assertEqual(daemon.events("worker.started"), [])

    def test_authorities(self):
        path = os.path.join(self.folder, "ca")
        self.starts_not(78, "ca: No such file", self.tls(ca_file=path))
        with open(path, "w") as out:
            out.write("no certificate\n")
        self.starts_not(78, f"ca_file {path} cannot be used: ", self.tls(ca_file=path))
        path = self.file("ca", self.ca, 0o666)
        self.starts_not(77, "ca (mode 0666) is writable by others", self.tls(ca_file=path))

    def test_certificate_and_key(self):
        pem, key = self.broker.authority.issue("mine", canary.USER)
        other = self.broker.authority.issue("another", canary.USER)[1]
        missing = os.path.join(self.folder, "missing")
        self.starts_not(78, "missing: No such file", self.tls(cert_file=missing, key_file=key))
        self.starts_not(78, "missing: No such file", self.tls(cert_file=pem, key_file=missing))
        self.starts_not(78, f"cert_file {key} cannot be used: ", self.tls(cert_file=key, key_file=key))
        self.starts_not(78, "key values mismatch", self.tls(cert_file=pem, key_file=other))
        open_key = self.file("key", key, 0o644)
        self.starts_not(77, "key (mode 0644) holds a secret and is readable by others",
                        self.tls(cert_file=pem, key_file=open_key))

    def test_the_password_of_a_key(self):
        pem, key = self.broker.authority.issue("locked", canary.USER, password="right")
        self.starts_not(78, f"key_file {key} cannot be used: ", self.tls(cert_file=pem, key_file=key))
        for text, mode, code, words in (("wrong\n", 0o600, 78, f"key_file {key} cannot be used: "),
                                        ("right\n", 0o644, 77, "(mode 0644) holds a secret"),
                                        ("", 0o600, 78, "first line is empty")):
            path = os.path.join(self.folder, "password")
            with open(path, "w") as out:
                out.write(text)
            os.chmod(path, mode)
            self.starts_not(code, words, self.tls(cert_file=pem, key_file=key, key_password_file=path))

    def test_a_reload_is_refused(self):
        daemon = self.connect().consuming()
        daemon.write(self.tls(ca_file=os.path.join(self.folder, "missing")))
        daemon.kill(signal.SIGHUP)
        self.assertIn("missing: No such file", daemon.wait_for("reload.refused")["error"])
        self.warren("publish", "-u", self.url, "-q", "work", "goes-on")
        daemon.ran("goes-on")

    def test_at_run_time_it_goes_on(self):
        ca = self.file("ca", self.ca)
        daemon = self.daemon(self.tls(ca_file=ca)).start().consuming()
        os.unlink(ca)
        since = daemon.mark_log()
        self.broker.ctl("close_all_connections", "-p", self.vhost, "enough")
        daemon.wait_for("conn.retry", since=since, reason="file")
        self.file("ca", self.ca)
        daemon.wait_for("queue.consuming", since=since)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
