#!/usr/bin/python3
"""Runs rows of the fault matrix by their names: `run.py A1 B3`. Exits 77 when all of them were skipped."""

import importlib
import os
import sys
import unittest

import matrix


def test_of(name):
    """The test of a row, from the file that matrix.py found it in."""
    path, _ = matrix.tests()[name]
    module = importlib.import_module(os.path.basename(path)[:-3])
    for case in vars(module).values():
        for method in dir(case) if isinstance(case, type) else ():
            marked = getattr(getattr(case, method), "row", None)
            if marked and marked[0] == name:
                return case(method)
    raise LookupError(f"{path} marks {name}, but no test case of it has such a method")


def main(names):
    unknown = [name for name in names if name not in matrix.tests()]
    if unknown or not names:
        print(f"no such row: {' '.join(unknown)}; there are {' '.join(matrix.tests())}", file=sys.stderr)
        return 64
    result = unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(map(test_of, names)))
    if not result.wasSuccessful():
        return 1
    return 77 if len(result.skipped) == len(names) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
