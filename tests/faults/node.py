"""The private RabbitMQ node that the rows of the fault matrix torment, and the one that ctest keeps for all of them.

`node.py start` and `node.py stop` are the set-up and the clean-up of the ctest fixture. The node's parent is ctest
itself: should that end without a clean-up, so does the node, also after a row has killed it and started it again.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "run"))

from broker_fixture import SCRIPT, wait_until  # noqa: E402
from harness import Node  # noqa: E402

# RabbitMQ 3.10 forgets that a quorum queue ever was when it is killed within a second of the declaration: after the start
# the queue is listed, but has no leader for ever. That is no fault of ours to find, and rows stay away from it.
KEEPS_AFTER = 3  # seconds
STARTS_WITHIN = 180  # seconds, on a machine that does other things as well


def state_of(pid):
    """The letter of /proc: R, S, T for stopped, Z; empty when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


class FaultNode(Node):
    """A node that can be killed, stopped, frozen and started again at the same place."""

    vhosts_at_once = 1  # a row has one, and removes it

    def __init__(self, folder=None, parent=None, settings=()):
        """With a folder it is a node that runs there already. `settings` are options of `scripts/broker start`."""
        self.parent = parent or os.getpid()
        self.settings = settings
        self.at = None  # its port
        self.keeps_from = 0  # time.monotonic() from which on all queues survive a kill
        super().__init__(folder)
        if not self.own and os.path.exists(os.path.join(self.folder, "ports")):
            self.at = self.port()

    def start(self):
        """Starts it unless it runs, and returns when (time.time()) its port began to take connections."""
        opened = None
        process = subprocess.Popen(
            [SCRIPT, "start", self.folder, "--with-parent", str(self.parent), *self.settings],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + STARTS_WITHIN
        while process.poll() is None and time.monotonic() < deadline:
            if opened is None and self.listens():
                opened = time.time()
            time.sleep(0.02)
        process.kill()  # where it has not ended
        said = process.communicate()[0]
        if process.returncode != 0:
            raise RuntimeError(f"scripts/broker start: {said}")
        self.at = self.port()
        return opened or time.time()

    def listens(self):
        with contextlib.suppress(OSError):
            if self.at:
                socket.create_connection(("127.0.0.1", self.at), 1).close()
                return True
        return False

    def declared(self):
        """Somebody has just made queues."""
        self.keeps_from = time.monotonic() + KEEPS_AFTER

    def kill(self):
        wait_until(lambda: time.monotonic() > self.keeps_from, "the node knows its queues", 2 * KEEPS_AFTER)
        super().kill()

    def pid(self):
        return int(self.script("pid"))

    def freeze(self):
        """SIGSTOP: connections stay, nothing answers. Returns the process id, for thaw()."""
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: state_of(pid) == "T", "the node is stopped", 10)
        return pid

    @staticmethod
    def thaw(pid):
        os.kill(pid, signal.SIGCONT)

    # -- rows that did not come to their end --

    def take(self):
        """A row begins. If the one before it was killed, nobody knows how it left the node."""
        if os.path.exists(self.folder + ".taken"):
            self.kill()
        open(self.folder + ".taken", "w").close()
        if not self.listens():
            self.start()

    def give(self):
        """The row has ended: the node serves, and holds nothing of the row's."""
        os.unlink(self.folder + ".taken")

    def remove(self):
        super().remove()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.folder + ".taken")


# ---- The node of ctest ----

def folder_of_ctest():
    return os.environ.get("WARREN_FAULTS_NODE")


def of_ctest():
    """The node that the fixture has started; None outside of ctest."""
    folder = folder_of_ctest()
    if folder is None or not os.path.exists(folder + ".parent"):
        return None
    with open(folder + ".parent") as file:
        return FaultNode(folder, int(file.read()))


def main():
    folder, word = folder_of_ctest(), sys.argv[1]
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    subprocess.run([SCRIPT, "kill", folder], check=True)  # one that an earlier run left
    shutil.rmtree(folder, ignore_errors=True)
    for name in (".parent", ".taken"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder + name)
    if word == "start":
        with open(folder + ".parent", "w") as file:
            file.write(str(os.getppid()))
        os.mkdir(folder, 0o700)
        FaultNode(folder, os.getppid()).start()


if __name__ == "__main__":
    main()
