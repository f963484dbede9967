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

class Wire:
    """What was seen, read in its order: deliveries and their acks, publishes and their confirms."""

    def __init__(self, ledger):
        self.ends = collections.defaultdict(list)  # id: when its runs ended
        for entry in ledger:
            if entry.what == "end":
                self.ends[entry.id].append(entry.ms)
        self.delivered = {}  # (conn, channel): {tag: id or None}, of the channel's present incarnation
        self.begun = {}  # (conn, channel): the number of the message whose body is still to come, by way
        self.published = {}  # (conn, channel): {number: id}, not confirmed yet
        self.open = collections.Counter()  # id: copies that are not confirmed
        self.kept = collections.Counter()  # id: copies that are
        self.acks, self.early = 0, []

    def see(self, s):
        key = (s.conn, s.channel)
        act = {("channel.open", "c2s"): self.see_open, ("basic.deliver", "s2c"): self.see_deliver,
               ("basic.publish", "c2s"): self.see_publish, ("header", "c2s"): self.see_header, ("body", "s2c"): self.see_delivered_body,
               ("body", "c2s"): self.see_published_body, ("basic.ack", "s2c"): self.see_confirm,
               ("basic.ack", "c2s"): self.see_ack}.get((s.kind, s.way))
        if act:
            act(s, key)

    def see_open(self, _, key):
        self.delivered[key], self.published[key] = {}, {}

    def see_deliver(self, s, key):
        tag = int(s.words["tag"])
        self.delivered[key][tag] = None
        self.begun[key, "s2c"] = tag

    def see_publish(self, _, key):
        self.published[key][0] = number = self.published[key].get(0, 0) + 1  # 0: how many there were
        self.begun[key, "c2s"] = number

    def see_delivered_body(self, s, key):
        tag = self.begun.pop((key, "s2c"), None)
        if tag is not None:
            self.delivered[key][tag] = s.words["text"].partition(";")[0]

    def see_header(self, s, key):
        """A reply is correlated with its job; copies have the job's own message id; a follow-up begins with it."""
        name = s.words.get("correlation") or s.words.get("id")
        if name:
            self.name_published(key, name)

    def see_published_body(self, s, key):
        self.name_published(key, s.words["text"].partition(";")[0])

    def name_published(self, key, name):
        number = self.begun.pop((key, "c2s"), None)
        if number is not None:
            self.published[key][number] = name
            self.open[name] += 1

    def see_confirm(self, s, key):
        tag, multiple = int(s.words["tag"]), int(s.words["bits"]) & 1
        out = self.published.get(key, {})
        for number in [n for n in out if n and (n == tag or (multiple and n < tag))]:
            name = out.pop(number)
            if s.fate in ("passed", "changed"):
                self.open[name] -= 1
                self.kept[name] += 1

    def see_ack(self, s, key):
        self.acks += 1
        name = self.delivered.get(key, {}).pop(int(s.words["tag"]), "delivered to nobody here")
        ended = any(ms <= s.ms for ms in self.ends[name])
        # A copy in doubt was published again: then one of the two is confirmed, and that is enough.
        if not (ended or self.kept[name]) or (self.open[name] > 0 and not self.kept[name]):
            self.early.append((s, name))


def early_acks(seen, ledger):
    """I4: acks that no end line of the ledger and no confirmed copy goes before, or that go before the confirm of what
    was published for the job, or that a channel sends for what was not delivered on it. Must be empty."""
    wire = Wire(ledger)
    for s in seen:
        wire.see(s)
    return wire.early
