#!/usr/bin/python3
"""Every row of the fault matrix: a test, or a reason why there is none. Run as a program it checks just that."""

import glob
import os
import re
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))

LETTERS = {"A": ("The broker", 21), "B": ("The network", 20), "C": ("Processes and signals", 21),
           "D": ("Misbehaving plugins", 21), "E": ("The host", 9), "F": ("What publishers and brokers send", 11)}
ROWS = [f"{letter}{number}" for letter, (_, count) in LETTERS.items() for number in range(1, count + 1)]
MUST = "A1 A3 A5 A8 A9 A14 A16 B3 B6 B7 B9 B13 C1 C3 C5 C6 C8 C13 D3 D4 D6 E1 E3 F2".split()

# Rows that no test injects: what the fault is, and why.
NOT_INJECTED = {
    "E8": ("24 hours of random faults",
           "a test that takes a day is no test; `scripts/faults --chaos MINUTES` is the same for as long as one likes"),
}

# The build finds rows by the same words.
MARK = re.compile(r'^\s*@row\("([A-F][0-9]+)"(.*)\)', re.M)


def tests():
    """The file and the options of each row that is a test."""
    found = {}
    for path in sorted(glob.glob(os.path.join(HERE, "rows_*.py"))):
        with open(path) as file:
            for name, options in MARK.findall(file.read()):
                if name in found:
                    raise ValueError(f"{name} is in {found[name][0]} and in {path}")
                found[name] = path, options
    return found


def refuse_unknown(names):
    """Ends the program with 64 where one of them is no row that can be run."""
    for name in names:
        if name in NOT_INJECTED:
            problem = f"{name} is not injected: {NOT_INJECTED[name][1]}"
        elif name not in ROWS:
            problem = f"there is no row {name}; they are A1 to F11"
        else:
            continue
        print(f"faults: {problem}", file=sys.stderr)
        sys.exit(64)


class MatrixTest(unittest.TestCase):
    def test_each_row_is_a_test_or_has_a_reason(self):
        self.assertEqual(len(ROWS), 103)
        self.assertEqual(sorted(set(ROWS) - set(tests()) - set(NOT_INJECTED)), [], "neither")
        self.assertEqual(sorted(set(tests()) & set(NOT_INJECTED)), [], "both")
        self.assertEqual(sorted((set(tests()) | set(NOT_INJECTED)) - set(ROWS)), [], "not in the matrix")

    def test_the_ones_that_must_be_are_exactly_these(self):
        self.assertEqual(len(MUST), 24)
        self.assertEqual(sorted(name for name, (_, options) in tests().items() if "must=True" in options), sorted(MUST))


if __name__ == "__main__":
    if sys.argv[1:2] == ["known"]:
        refuse_unknown(sys.argv[2:])
    else:
        unittest.main()
