#!/usr/bin/python3
"""Writes the table of docs/reliability.md: each row with its fault and what is expected, from the docstrings of the
tests, and what was seen, from the records of all runs since `seen.jsonl` of the build folder was begun."""

import ast
import json
import os
import re
import sys

import matrix

ROOT = os.path.dirname(os.path.dirname(matrix.HERE))
PAGE = os.path.join(ROOT, "docs", "reliability.md")
BUILD = os.environ.get("WARREN_BUILD", os.path.join(ROOT, "build-dev"))
SEEN = os.path.join(BUILD, "faults", "seen.jsonl")
BEGIN, END = "<!-- the table: scripts/faults --table -->\n", "<!-- the end of the table -->\n"


def flat(text):
    return " ".join(text.split())


def docstrings():
    """The two paragraphs of each row: the fault, and the outcome that is expected."""
    found = {}
    for path in {path for path, _ in matrix.tests().values()}:
        with open(path) as file:
            tree = ast.parse(file.read())
        for method in ast.walk(tree):
            for mark in getattr(method, "decorator_list", []):
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "row":
                    fault, _, expected = (ast.get_docstring(method) or "").partition("\n\n")
                    found[mark.args[0].value] = flat(fault), flat(expected)
    return found


def records():
    """All records of each row, oldest first."""
    found = {}
    if os.path.exists(SEEN):
        with open(SEEN) as file:
            for line in file:
                record = json.loads(line)
                found.setdefault(record["row"], []).append(record)
    return found


def span(values, unit=""):
    """One number, or the smallest and the largest."""
    low, high = min(values), max(values)
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def counted(runs):
    """Lost, run again, recovery: over all runs that came to their end."""
    whole = [run for run in runs if run["lost"] is not None]
    if not whole:
        return []
    words = [f"lost {max(run['lost'] for run in whole)}"]
    if any(run["jobs"] for run in whole):
        bound = whole[-1]["bound"]
        words.append(f"of {span([run['jobs'] for run in whole])} jobs {span([run['duplicates'] for run in whole])} "
                     f"run again ({'no bound' if bound is None else f'at most {bound}'})")
    times = [run["recovery"] for run in whole if run["recovery"] is not None]
    if times:
        words.append(f"back after {span(times, ' s')}")
    return words


def seen(runs):
    if not runs:
        return "not run"
    last = runs[-1]
    words = counted(runs)
    words += [f"`{event}`" for event in last["events"]] + [f"exit {last['exit']}"] * (last["exit"] is not None)
    words += last["notes"]
    failed = sum(run["verdict"] == "failed" for run in runs)
    words.append(f"**failed in {failed} of {len(runs)} runs**" if failed else f"{len(runs)} run{'s' * (len(runs) > 1)}")
    return "; ".join(words)


def line(*cells):
    return "| " + " | ".join(re.sub(r"\s*\n\s*", " ", cell).replace("|", "\\|") for cell in cells) + " |\n"


def table():
    texts, runs = docstrings(), records()
    out = []
    for letter, (title, _) in matrix.LETTERS.items():
        out += [f"\n### {letter}. {title}\n\n", line("row", "fault", "expected", "seen"), line("---", "---", "---", "---")]
        for name in matrix.ROWS:
            if name[0] != letter:
                continue
            if name in texts:
                out.append(line(f"**{name}**" if name in matrix.MUST else name, *texts[name], seen(runs.get(name))))
            elif name in matrix.NOT_INJECTED:
                out.append(line(name, matrix.NOT_INJECTED[name][0], "", f"not injected: {matrix.NOT_INJECTED[name][1]}"))
    runs = [run for run in runs.get("chaos", []) if run["verdict"] != "failed"]
    if runs:
        out.append(f"\n### Random faults\n\nThe last run of `scripts/faults --chaos`, seed {runs[-1]['seed']}: {seen(runs[-1:])}.\n")
    return "".join(out)


def main():
    with open(PAGE) as file:
        before, begin, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{PAGE} has no place for the table", file=sys.stderr)
        return 1
    with open(PAGE, "w") as file:
        file.write(before + BEGIN + table() + "\n" + END + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
