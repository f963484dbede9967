"""What the rows about the host share: daemons with fault points, private mounts, and daemons that log into a pipe."""

import ctypes
import fcntl
import os
import shutil
import subprocess
import threading
import unittest

from accounting import FaultTest  # first: it knows where the others are
from faultpoint import Board
import harness

WALK = bool(os.environ.get("WARREN_FAULTS_WALK"))  # every n, not a sample

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
F_SETPIPE_SZ = 1031


class HostTest(FaultTest):
    """A row whose daemons have fault points."""

    threads = 2

    def setUp(self):
        super().setUp()
        self.board = Board()
        self.addCleanup(self.board.close)

    def daemon(self, config, *options, **more):
        more.setdefault("environment", self.board.environment())
        return super().daemon(config, *options, **more)

    def sample(self, total, wanted):
        """Numbers from 1 to total, all of them on a walk."""
        return list(range(1, total + 1)) if WALK or total <= wanted else sorted(self.random.sample(range(1, total + 1), wanted))

    def check_no_crash(self, daemon, since=0, where="", codes=("0", "71", "75")):
        """No process has ended by a signal, nor with another code, nor with words about its own inside."""
        for line in daemon.events("worker.exited", since):
            self.assertNotIn("signal", line, where)
            self.assertIn(line["code"], codes, where)
        self.assertNotIn("internal error", daemon.text(), where)
        code = daemon.process.poll()
        self.assertTrue(code is None or code >= 0, f"{where}: the supervisor was ended by signal {-(code or 0)}")

    def run_one(self, daemon, commands="", queue="work", **properties):
        """One job, until it is done."""
        name, = self.give(queue, 1, commands, **properties)
        daemon.ran(name)
        return name


def private_mounts():
    """From here on, mounts are seen by this process and its children alone. Skips the test where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise unittest.SkipTest(f"no private mounts here: {os.strerror(ctypes.get_errno())}")


def mount_tmpfs(folder, options):
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise unittest.SkipTest(f"no tmpfs here: {done.stderr.strip()}")


def unmount(folder):
    """And takes away what it was mounted in."""
    subprocess.run(["umount", "-l", folder], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(os.path.dirname(folder), ignore_errors=True)


class PipedWarrend(harness.Warrend):
    """Its standard error is a pipe; what comes out of it goes into the log as long as somebody reads."""

    def start(self):
        self.out, into = os.pipe()
        fcntl.fcntl(into, F_SETPIPE_SZ, 16384)
        self.reads = threading.Event()
        self.reads.set()
        threading.Thread(target=self.pump, daemon=True).start()
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", harness.WARREND, *self.options, "-c", self.config],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=into,
            env={**os.environ, **self.environment, harness.MARK: self.mark}, start_new_session=True)
        os.close(into)
        return self

    def pump(self):
        with open(self.path("log"), "ab", buffering=0) as log:
            while self.reads.wait():
                some = os.read(self.out, 65536)
                if not some:
                    os.close(self.out)
                    return
                log.write(some)

