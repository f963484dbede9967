"""Tables in Markdown of what bench/run has measured: while it measures, and from its report."""

import dataclasses
import sys

from stand import figure

COLUMNS = (("messages_per_s", "messages/s", ".0f", True), ("cpu_us", "CPU µs/message", ".1f", True),
           ("broker_cpu_us", "broker CPU µs/message", ".1f", False),
           ("switches", "context switches/message", ".2f", False), ("peak_mib", "peak MiB", ".1f", False),
           ("pss_mib", "MiB, shared ones split", ".1f", False))


def ratios(mine, others, key):
    """To another contestant, in the rounds that both have finished."""
    by_round = {other["round"]: other[key] for other in others}
    return [result[key] / by_round[result["round"]] for result in mine if result["round"] in by_round]


def print_table(names, seen, failed, yardstick, columns=COLUMNS):
    """A row for each contestant, with its ratio to the yardstick in the same round."""
    columns = [column for column in columns if any(column[0] in result for result in seen)]
    of_yardstick = [result for result in seen if result["name"] == yardstick]
    head = []
    for _, title, _, compared in columns:
        head += [title] + [f"of {yardstick}"] * compared
    print("\n| |", " | ".join(head), "|\n|" + " --- |" * (len(head) + 1))
    for name in names:
        mine = [result for result in seen if result["name"] == name]
        cells = []
        for key, _, form, compared in columns:
            cells.append(figure([result[key] for result in mine if key in result], form))
            if compared:
                cells.append("1" if mine and name == yardstick else figure(ratios(mine, of_yardstick, key), ".2f"))
        print(f"| {name} |", " | ".join(cells), "|")
    for name, why in failed.items():
        print(f"\n**failed**: {name} {why}")
    sys.stdout.flush()


@dataclasses.dataclass
class Table:
    """What the report keeps of a table besides the results, whose `what` is its title."""

    part: str
    title: str
    names: list
    yardstick: str
    columns: tuple = COLUMNS


def print_goal(goal):
    verdict = "holds" if goal["holds"] else "**does not hold**"
    print(f"\n{goal['goal']}: {figure(goal['values'], goal['form'])}; goal: at most {goal['most']:{goal['form']}}: {verdict}",
          flush=True)


def print_table_of(report, table):
    seen = [result for result in report[table.part] if result["what"] == table.title]
    failed = {failure["name"]: failure["why"] for failure in report["failed"] if failure["what"] == table.title}
    print(f"\n{table.title}; load {figure([result['load'] for result in seen], '.1f')}")
    print_table(table.names, seen, failed, table.yardstick, table.columns)
    for goal in report["goals"]:
        if goal["what"] == table.title:
            print_goal(goal)


def print_circumstances(report):
    for what, version in report["versions"].items():
        print(f"* {what}: {version}")
    for name, why in report["left_out"].items():
        print(f"* **left out**: {name}: {why}")
    print("\nMedian (least to most).")
