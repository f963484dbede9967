"""Fault points: makes the n-th call of malloc, fork, send and others fail in processes of a daemon under test.

    board = Board()
    daemon = self.daemon(config, environment=board.environment())
    with board.rule("memory", roles="supervisor", nth=7) as rule:
        ...
    rule.seen, rule.failed, rule.place()

faultpoint.c says what the words mean. Rules may be set and lifted at any time while the processes run.
"""

import errno
import mmap
import os
import struct
import subprocess
import tempfile

from harness import asan_options

BUILD = os.environ.get("WARREN_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
LIBRARY = os.path.join(BUILD, "tests", "faults", "faultpoint.so")

POINTS = ("memory fork thread send recv write read poll epoll eventfd timer open socket accept rename fsync mmap memfd "
          "connect bind pipe dup resolve signal locked").split()
ROLES = "supervisor worker quarantine check forked other".split()
CALLERS = "warrend rabbitmq libconfig openssl other".split()
COUNT, ONCE, FROM, EVERY = range(4)

# What the call says when it fails, where the test does not choose.
ERRORS = dict.fromkeys(POINTS, errno.EIO)
ERRORS.update(memory=errno.ENOMEM, fork=errno.EAGAIN, thread=errno.EAGAIN, send=errno.ECONNRESET, recv=errno.ECONNRESET,
              poll=errno.ENOMEM, epoll=errno.ENOMEM, eventfd=errno.EMFILE, timer=errno.EAGAIN, open=errno.EMFILE,
              socket=errno.EMFILE, accept=errno.EMFILE, mmap=errno.ENOMEM, memfd=errno.EMFILE, write=errno.ENOSPC,
              connect=errno.ETIMEDOUT, bind=errno.EADDRINUSE, pipe=errno.EMFILE, dup=errno.EMFILE,
              resolve=3,  # EAI_AGAIN
              signal=errno.EMFILE, locked=errno.EBUSY)

MAGIC = 0x31746c7561666e77
RULE = struct.Struct("=IIIIIiQQQQQiI")
RULES = 8
HEAD = 16
SEEN_AT, FAILED_AT, WHERE_AT = 40, 48, 56


def mask(words, names):
    """A set of bits: words are "a b", ["a", "b"] or None for all."""
    if words is None:
        return (1 << len(names)) - 1
    return sum(1 << names.index(word) for word in (words.split() if isinstance(words, str) else words))


class Rule:
    def __init__(self, board, slot, base):
        self.board, self.slot, self.base = board, slot, base

    def word(self, at):
        return struct.unpack_from("=Q", self.board.map, self.base + at)[0]

    @property
    def seen(self):
        """How many calls matched."""
        return self.word(SEEN_AT)

    @property
    def failed(self):
        """How many of them were made to fail."""
        return self.word(FAILED_AT)

    def place(self):
        """Where in warrend the last one failed was called, as function and line."""
        found = subprocess.run(["addr2line", "-sfpe", os.path.join(BUILD, "src", "warrend"), hex(self.word(WHERE_AT) - 1)],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        return found.stdout.strip()

    def lift(self):
        struct.pack_into("=I", self.board.map, self.base, 0)
        self.board.free.add(self.slot)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lift()


class Board:
    """The file that the processes look at."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="warren-faults-")
        size = HEAD + RULES * RULE.size
        self.file.write(struct.pack("=Q", MAGIC) + bytes(size - 8))
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), size)
        self.free = set(range(RULES))

    def environment(self):
        """For the daemon. Under a sanitizer the library stands before the sanitizer's own, which then needs a slower look at
        the stack to know who allocated what was lost."""
        return {"LD_PRELOAD": LIBRARY, "WARREN_FAULTS": self.file.name,
                "ASAN_OPTIONS": asan_options("verify_asan_link_order=0:fast_unwind_on_malloc=0")}

    def rule(self, points, roles=None, callers=None, mode=ONCE, nth=1, error=None, pid=0):
        """Sets a rule, at once in force; lift() or `with` ends it, and its counts can still be read."""
        slot = min(self.free)
        self.free.remove(slot)
        rule = Rule(self, slot, HEAD + slot * RULE.size)
        names = points.split() if isinstance(points, str) else points
        RULE.pack_into(self.map, rule.base, 0, mask(roles, ROLES), mask(callers, CALLERS), mode,
                       ERRORS[names[0]] if error is None else error, pid, mask(names, POINTS), nth, 0, 0, 0, 0, 0)
        struct.pack_into("=I", self.map, rule.base, 1)
        return rule

    def count(self, points, **more):
        """A rule that fails nothing."""
        return self.rule(points, mode=COUNT, **more)

    def shift_wall_clock(self, seconds):
        """How far the wall clock of all processes is off from now on."""
        struct.pack_into("=q", self.map, 8, int(seconds * 1e9))

    def close(self):
        self.map.close()
        self.file.close()
