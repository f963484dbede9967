"""A terminal for tests: a pseudo terminal and a screen of characters that a program has drawn on it.

The program sees a terminal type that is made for it (tic), with just the sequences that are understood here.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import unicodedata

DESCRIPTION = r"""warren-test|a terminal that knows little,
	am@, bce@, cols#80, lines#24, it#8, colors#8, pairs#64,
	clear=\E[H\E[2J, cup=\E[%i%p1%d;%p2%dH, el=\E[K, ed=\E[J, cr=\r,
	smcup=\E[?1049h, rmcup=\E[?1049l, civis=\E[?25l, cnorm=\E[?25h,
	sgr0=\E[m, rev=\E[7m, bold=\E[1m, dim=\E[2m, op=\E[39;49m, setaf=\E[3%p1%dm, setab=\E[4%p1%dm,
	smkx=\E[?1h, rmkx=\E[?1l, kcuu1=\E[A, kcud1=\E[B, kcuf1=\E[C, kcub1=\E[D,
	khome=\E[H, kend=\E[F, kpp=\E[5~, knp=\E[6~, kbs=^?,
"""
UP, DOWN, RIGHT, LEFT, PAGE_DOWN, END, ESCAPE = (
    b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D", b"\x1b[6~", b"\x1b[F", b"\x1b")
SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


def compile_description(folder):
    """A folder for TERMINFO; None where tic is not installed."""
    source = os.path.join(folder, "warren-test.ti")
    with open(source, "w", encoding="ascii") as file:
        file.write(DESCRIPTION)
    try:
        subprocess.run(["tic", "-x", "-o", os.path.join(folder, "terminfo"), source], check=True,
                       stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    return os.path.join(folder, "terminfo")


class Screen:
    """What a person would see; raises ValueError for bytes that no program of ours should send."""

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.clear()
        self.row = self.column = 0
        self.alternate = False
        self.cursor = True

    def clear(self):
        self.cells = [[" "] * self.columns for _ in range(self.rows)]

    def text(self):
        return "\n".join("".join(line).rstrip() for line in self.cells)

    def feed(self, text):
        while text:
            match = SEQUENCE.match(text)
            if match:
                self.obey(*match.groups())
                text = text[match.end():]
            else:
                self.put(text[0])
                text = text[1:]

    def obey(self, private, numbers, letter):
        values = [int(n) for n in numbers.split(";") if n]
        if private:
            if values == [1049]:
                self.alternate = letter == "h"
            elif values == [25]:
                self.cursor = letter == "h"
        elif letter == "H":
            row, column = values or (1, 1)
            # Kept within the screen, as terminals do: what a program drew before it knew of a new
            # size may arrive after it.
            self.row, self.column = min(row, self.rows) - 1, min(column, self.columns) - 1
        elif letter == "J" and values == [2]:
            self.clear()
        elif letter in "JK":
            self.cells[self.row][self.column:] = [" "] * (self.columns - self.column)
            for line in self.cells[self.row + 1:] if letter == "J" else ():
                line[:] = [" "] * self.columns
        elif letter != "m":
            raise ValueError(f"ESC [ {numbers} {letter}")

    def put(self, c):
        if c == "\r":
            self.column = 0
        elif c == "\n":
            self.row = min(self.row + 1, self.rows - 1)
        elif c == "\b":
            self.column = max(self.column - 1, 0)
        elif unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs"):
            raise ValueError(f"the character {c!r}")
        elif unicodedata.combining(c):
            self.cells[self.row][max(self.column - 1, 0)] += c
        else:
            width = 2 if unicodedata.east_asian_width(c) in "WF" else 1
            if self.column + width > self.columns:
                self.row, self.column = min(self.row + 1, self.rows - 1), 0
            self.cells[self.row][self.column:self.column + width] = ([c] + [""] * (width - 1))[:self.columns]
            self.column += width


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, argv, environment, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.resize(rows, columns, None)
        self.modes = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=environment,
                                        start_new_session=True, preexec_fn=self.take_terminal)
        self.raw = b""  # everything so far
        self.fed = 0

    @staticmethod
    def take_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns, tell=signal.SIGWINCH):
        self.screen = Screen(rows, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.process.send_signal(tell)

    def read(self):
        """Takes what has been written, and returns the screen as text."""
        while select.select([self.master], [], [], 0)[0]:
            self.raw += os.read(self.master, 65536)
        fresh = self.raw[self.fed:]
        whole = self.whole(fresh)
        self.screen.feed(fresh[:whole].decode())
        self.fed += whole
        return self.screen.text()

    @staticmethod
    def whole(data):
        """How many bytes of it are whole characters and sequences: the rest may still come."""
        escape = data.rfind(b"\x1b")
        if escape >= 0 and not SEQUENCE.match(data[escape:].decode("utf-8", "replace")):
            return escape
        for cut in range(4):
            try:
                data[:len(data) - cut].decode()
                return len(data) - cut
            except UnicodeDecodeError:
                pass
        raise ValueError(f"bytes that are not UTF-8: {data!r}")

    def keys(self, data):
        os.write(self.master, data if isinstance(data, bytes) else data.encode())

    def is_restored(self):
        """As it was before the program: modes, screen, cursor."""
        self.read()
        return (termios.tcgetattr(self.slave) == self.modes and not self.screen.alternate
                and self.screen.cursor)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)
