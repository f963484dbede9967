"""The fault proxy under a test's control: commands, counters, and what was seen on the wire.

proxy.c says what the commands do. A Proxy ends with its test: it reads commands from a pipe that closes with us.
"""

import collections
import os
import subprocess
import tempfile

from broker_fixture import BUILD, wait_until

PROGRAM = os.path.join(BUILD, "tests", "faults", "fault_proxy")

Seen = collections.namedtuple("Seen", "ms conn what way channel kind fate words")


def parse_seen(line):
    ms, conn, what, way, channel, kind, fate, *words = line.split()
    return Seen(int(ms), int(conn), what, way, int(channel), kind, fate,
                dict(word.split("=", 1) for word in words))


class Proxy:
    """One fault_proxy in front of host:port."""

    def __init__(self, port, host="127.0.0.1", seed=1, listen="0", capture=True):
        self.folder = tempfile.TemporaryDirectory(prefix="warren-proxy-")
        self.path = os.path.join(self.folder.name, "capture")
        options = ["--capture", self.path] if capture else []
        self.process = subprocess.Popen(
            [PROGRAM, "--listen", listen, "--to", f"{host}:{port}", "--seed", str(seed), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.port = int(self.process.stdout.readline().split()[1])

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()

    def url(self, url):
        """That URL, by way of this proxy."""
        head, _, tail = url.partition("@")
        return f"{head}@127.0.0.1:{self.port}/{tail.partition('/')[2]}"

    # -- commands --

    def tell(self, *words):
        """One command, as proxy.c describes it; returns what the answer says after "ok"."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        answer = self.process.stdout.readline().rstrip("\n")
        if not answer.startswith("ok"):
            raise AssertionError(f"{words}: {answer or 'the proxy has ended'}")
        return answer[3:]

    def rule(self, *words):
        """A rule about frames ("work c2s basic.ack do swallow,rst"); returns a function: how often it met one."""
        number = self.tell("on", *words)
        return lambda: int(self.tell("hits", number))

    def met(self, hits, count=1, seconds=30):
        wait_until(lambda: hits() >= count, f"the rule meets {count} frames", seconds)

    def heal(self):
        """No fault any more, for what stands and what comes."""
        self.tell("forget", "all")
        self.tell("heal", "all", "both")
        self.tell("mode", "open")

    def count(self, who, way, kind):
        return int(self.tell("count", who, way, kind))

    def accepted(self):
        return int(self.tell("accepted"))

    def conns(self):
        """The connections that stand: {number: (class, bytes c2s, bytes s2c)}."""
        found = {}
        for word in self.tell("conns").split():
            number, what, sent, got = word[1:].split(":")
            found[int(number)] = (what, int(sent), int(got))
        return found

    # -- the wire --

    def seen(self, kind=None, way=None, what=None):
        """Frames in the order in which they were read."""
        self.accepted()  # what came before this answer is written down
        with open(self.path) as file:
            all_seen = [parse_seen(line) for line in file]
        return [s for s in all_seen if kind in (None, s.kind) and way in (None, s.way) and what in (None, s.what)]


# ---- invariant I4 ----

def deliveries(seen):
    """{(conn, channel, tag): (id, redelivered)} of all that warrend was sent; the id is what the body begins with."""
    found, current = {}, {}
    for s in seen:
        key = (s.conn, s.channel)
        if s.way != "s2c":
            continue
        if s.kind == "basic.deliver":
            current[key] = int(s.words["tag"])
        elif s.kind == "body" and key in current:
            text = s.words["text"].partition(";")[0]
            found[(*key, current.pop(key))] = text
    return found


def publishes(seen):
    """[(ms of the publish, id, ms of its confirm or None)] of all that warrend published, by connection and channel."""
    found, out, number = [], {}, collections.Counter()
    current = {}
    for s in seen:
        key = (s.conn, s.channel)
        if s.kind == "confirm.select":
            number[key] = 0
        elif s.kind == "basic.publish" and s.way == "c2s":
            number[key] += 1
            current[key] = (s.ms, number[key])
        elif s.kind == "body" and s.way == "c2s" and key in current:
            ms, n = current.pop(key)
            out[(*key, n)] = [ms, s.words["text"].partition(";")[0], None]
            found.append(out[(*key, n)])
        elif s.kind == "basic.ack" and s.way == "s2c" and s.fate == "passed":
            tag, multiple = int(s.words["tag"]), int(s.words["bits"]) & 1
            for (conn, channel, n), entry in out.items():
                if (conn, channel) == key and (n == tag or (multiple and n < tag)) and entry[2] is None:
                    entry[2] = s.ms
    return [tuple(entry) for entry in found]


def early_acks(seen, ledger):
    """I4: acks that no end line of the ledger and no confirmed copy goes before. Must be empty.

    A copy (retry, dead letter) begins with the same bytes as its original. An ack is also early when something was
    published for its job and was not confirmed by then.
    """
    ends = collections.defaultdict(list)
    for entry in ledger:
        if entry.what == "end":
            ends[entry.id].append(entry.ms)
    copies = collections.defaultdict(list)
    for at, name, confirmed in publishes(seen):
        copies[name].append((at, confirmed))
    tags, wrong = deliveries(seen), []
    for s in seen:
        if s.kind != "basic.ack" or s.way != "c2s":
            continue
        name = tags.get((s.conn, s.channel, int(s.words["tag"])))
        ended = any(ms <= s.ms for ms in ends[name])
        copied = any(ms is not None and ms <= s.ms for _, ms in copies[name])
        open_at_last = [ms for at, ms in copies[name] if at <= s.ms][-1:]
        if not (ended or copied) or any(ms is None or ms > s.ms for ms in open_at_last):
            wrong.append((s, name))
    return wrong
