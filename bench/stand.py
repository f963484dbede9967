"""What the programs of this folder share: a broker of their own, waiting, the processor time of a process, figures."""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATIENCE = 120  # seconds until something that must happen is called a failure


class Failed(SystemExit):
    """Ends the program with a message, unless somebody can go on without what has failed."""


def fail(why):
    raise Failed(f"{os.path.basename(sys.argv[0])}: {why}")


def end_on_signals():
    """What is on an exit stack then ends in an orderly way."""
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda *_: sys.exit(1))


def bound(command):
    """A command that ends with this process even where that is killed."""
    return ["setpriv", "--pdeathsig", "KILL", *command]


def wait_until(condition, what, pause=0.05):
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            fail(f"waited {PATIENCE} s in vain for {what}")
        time.sleep(pause)
    return value


class Broker:
    """A node of its own, which ends with this process even where that is killed."""

    def __init__(self, stack, folder, settings=""):
        self.folder = os.path.join(folder, "broker")
        conf = os.path.join(folder, "broker.conf")
        with open(conf, "w", encoding="ascii") as file:
            file.write(settings)
        stack.callback(self.script, "stop")
        self.url = self.script("start", "--with-parent", str(os.getpid()), "--conf", conf)
        self.pid = int(self.script("pid"))

    def script(self, word, *args):
        command = [os.path.join(ROOT, "scripts", "broker"), word, self.folder, *args]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            fail(f"scripts/broker {word} has failed")
        return done.stdout.strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_ns(pid):
    """The processor time of all threads of a process that are there now."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total


def figure(values, form):
    if not values:
        return ""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
