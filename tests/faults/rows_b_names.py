"""Rows B16 and B17: names that lead elsewhere, and a resolver that hangs.

The daemon lives in a mount namespace where /etc/hosts, /etc/resolv.conf and /etc/nsswitch.conf are files of the test.
"""

import contextlib
import os
import shlex
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from unittest import mock

from accounting import row
from wire import BACK, NetTest

import harness

NAME = "broker.warren.test"


class Resolver(threading.Thread):
    """Answers every question for an address with 127.0.0.1; or, told to hang, nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        self.hangs, self.asked = False, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        self.start()

    def run(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                query, sender = self.socket.recvfrom(512)
                self.asked += 1
                if not self.hangs:
                    self.socket.sendto(self.answer(query), sender)

    @staticmethod
    def answer(query):
        end = query.index(b"\0", 12) + 5  # behind the name: its zero, type and class
        question = query[12:end]
        wants_address = question[-4:] == b"\0\1\0\1"
        head = query[:2] + struct.pack(">5H", 0x8580, 1, int(wants_address), 0, 0)
        found = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton("127.0.0.1")
        return head + question + (found if wants_address else b"")

    def close(self):
        self.socket.close()


class NamesTest(NetTest):
    def setUp(self):
        if not self.allowed():
            self.skipTest("no mount namespace of our own: unshare -m and mount --bind are not allowed here")
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="warren-names-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.write("nsswitch.conf", "hosts: files dns\n")
        self.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:20 attempts:1\n")
        self.write("hosts", "127.0.0.1 localhost\n")
        self.write("warrend", self.wrapper())
        os.chmod(self.path("warrend"), 0o700)
        patch = mock.patch("harness.WARREND", self.path("warrend"))
        patch.start()
        self.addCleanup(patch.stop)

    @staticmethod
    def allowed():
        done = subprocess.run(["unshare", "-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        """In place: what is bound elsewhere is the file, not its name."""
        with open(self.path(name), "w") as file:
            file.write(text)

    def wrapper(self):
        names = ("hosts", "resolv.conf", "nsswitch.conf")
        binds = " && ".join(f"mount --bind {shlex.quote(self.path(name))} /etc/{name}" for name in names)
        return f"#!/bin/sh\nexec unshare -m sh -c {shlex.quote(f'{binds} && exec {harness.WARREND} ' + chr(34) + '$@' + chr(34))} sh \"$@\"\n"

    def named(self):
        return self.proxy.url(self.url).replace("127.0.0.1", NAME)


class Moves(NamesTest):
    @row("B16")
    def test_B16(self):
        """The broker's name has several addresses, of which the first refuses, then swallows every attempt; then the name
        moves to another host.

        Each time all addresses are tried, and the consumers are back within 4 s and one attempt's time limit."""
        self.proxy = self.new_proxy(listen="127.0.0.7:0")
        port = self.proxy.port
        self.write("hosts", f"127.0.0.1 {NAME}\n127.0.0.7 {NAME}\n")  # the system tries 127.0.0.1 first
        daemon = self.begin(urls=[self.named()])
        with self.black_hole("127.0.0.1", port):
            self.moves(daemon, "the first address swallows attempts")
        other = self.new_proxy(listen=f"127.0.0.8:{port}")
        self.write("hosts", f"127.0.0.1 {NAME}\n127.0.0.8 {NAME}\n")
        self.proxy.tell("mode", "refuse")
        self.moves(daemon, "the name has moved")
        self.assertGreaterEqual(other.accepted(), 2)
        self.finish(daemon, bound=0)

    def moves(self, daemon, what):
        since, began = daemon.mark_log(), time.time()
        self.proxy.tell("rst", "all", "both")
        daemon.wait_for("conn.lost", 2, since)
        self.seen(f"{what}: back after {self.recovered(daemon, since, began, BACK):.1f} s")
        self.give("work", 4)
        daemon.wait_for("job.done", 4, since)
        daemon.wait_for("conn.up", 2, since)  # the publishing connection is back, too

    @contextlib.contextmanager
    def black_hole(self, host, port):
        """An address whose attempts to connect are never answered: its queue of them is full."""
        with contextlib.ExitStack() as stack:
            hole = stack.enter_context(socket.socket())
            hole.bind((host, port))
            hole.listen(0)
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((host, port))
            yield


class Hangs(NamesTest):
    def setUp(self):
        super().setUp()
        try:
            self.resolver = Resolver()
        except OSError as why:
            self.skipTest(f"port 53 of 127.0.0.1 is not to be had: {why.strerror}")
        self.addCleanup(self.resolver.close)

    @row("B17")
    def test_B17(self):
        """The publishing connection is lost, and the resolver hangs for 20 s.

        Only that connection's keeper waits: jobs that publish nothing are done as always. A drain does not wait for the
        resolver either: exit 0 at once."""
        daemon = self.begin(urls=[self.named()])
        since, asked = daemon.mark_log(), self.resolver.asked
        self.resolver.hangs = True
        self.proxy.tell("rst", "publish", "both")
        self.expect(daemon, "conn.lost", since=since, conn="publish")
        daemon.patiently(lambda: self.resolver.asked > asked, "the resolver is asked")
        began = time.monotonic()
        self.give("work", 20, "busy 50")
        daemon.wait_for("job.done", 20, since, 10)
        self.finish(daemon, bound=0)
        took = time.monotonic() - began
        self.seen(f"20 jobs and the drain took {took:.1f} s, the name was asked for {self.resolver.asked - asked} times")
        self.assertLess(took, 18)
        self.assertFalse(daemon.events("conn.up", since))


if __name__ == "__main__":
    unittest.main()
