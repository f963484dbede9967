#!/usr/bin/env bash
# Metrics, alerts and dashboard belong together: the page of metrics is clean for promtool, the alerts are and fire when they
# should, and whatever etc/ and the manual name is what src/metrics.c writes.
set -euo pipefail

cd "$(dirname "$0")/../.."
page=$(mktemp)
trap 'rm -f "$page"' EXIT
METRICS_FILE=$page "${WARREN_BUILD:-build-dev}/tests/test_metrics" >/dev/null

names() { grep -ohE '\bwarren_[a-z_]+\b' "$@" | sed -E 's/_(bucket|sum|count)$//' | sort -u; }

# The page has only families that have values; the source has all.
known=$(names src/metrics.c)
failures=0
complain() { echo "$1"; failures=$((failures + 1)); }
compare() { # FILE: names nothing that there is not
	local name
	for name in $(names "$1" | grep -v '_test$'); do
		grep -qx "$name" <<<"$known" || complain "$1: src/metrics.c writes no $name"
	done
}
compare etc/prometheus/warren.rules.yml
compare etc/grafana/warren.json
compare docs/operations.md
for name in $known; do
	grep -q "\`$name\`" docs/operations.md || complain "docs/operations.md: nothing about $name"
done
/usr/bin/env python3 -m json.tool etc/grafana/warren.json >/dev/null || complain "etc/grafana/warren.json is no JSON"
((failures == 0)) || exit 1

command -v promtool >/dev/null || { echo "skipped: promtool is not installed"; exit 77; }
[[ -s $page ]] || { echo "no metrics"; exit 1; }
promtool check metrics <"$page"
promtool check rules etc/prometheus/warren.rules.yml
promtool test rules tests/style/warren.rules_test.yml
