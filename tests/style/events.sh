#!/usr/bin/env bash
# The table "What the log says" of docs/operations.md has every event that src/ logs, and no other.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An event is a literal among the first arguments of a call that logs, before its fields; or a job's ending.
perl -0777 -ne '
	while (/(?:\b(?:log_event|log_errors|compose|send_signal)\(|\(struct ending\)\{)([^;]*?)(?:\bL_|;)/g) {
		my $arguments = $1;
		print "$1\n" while $arguments =~ /"([a-z-]+(?:\.[a-z_-]+)*)"/g;
	}' src/*.c | sort -u >"$work/logged"
sed -n '/^## What the log says/,$s/^| `\([^`]*\)`.*/\1/p' docs/operations.md >"$work/told"

failures=0
complain() { echo "docs/operations.md: $1"; failures=$((failures + 1)); }

# Whatever way of logging is new must not hide its events from this test.
for event in job.done log.dropped queue.paused worker.killed reload.refused signal; do
	grep -qx "$event" "$work/logged" || complain "src/ seems not to log $event any more, or this test reads it wrongly"
done
sort -c "$work/told" 2>/dev/null || complain "the events are not sorted"
while read -r event; do complain "nothing about $event"; done < <(comm -23 "$work/logged" <(sort -u "$work/told"))
while read -r event; do complain "nothing logs $event"; done < <(comm -13 "$work/logged" <(sort -u "$work/told"))
while read -r event; do complain "$event stands there twice"; done < <(sort "$work/told" | uniq -d)
((failures == 0))
