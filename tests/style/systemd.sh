#!/usr/bin/env bash
# Checks the systemd files: the unit verifies without a word, its exposure is at most 2.0, sysusers.d and tmpfiles.d parse.
set -euo pipefail

limit=20 # tenths
etc=$(realpath "$(dirname "$0")/../../etc")
command -v systemd-analyze >/dev/null || { echo "skipped: systemd-analyze is not installed"; exit 77; }

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/etc/systemd/system "$root"/usr/{sbin,bin,lib/sysusers.d,lib/tmpfiles.d} "$root/var/lib" "$root/run"
ln -s usr/bin "$root/bin"
cp "$etc/warrend.service" "$root/etc/systemd/system"
cp "$etc/warren.sysusers" "$root/usr/lib/sysusers.d/warren.conf"
cp "$etc/warren.tmpfiles" "$root/usr/lib/tmpfiles.d/warren.conf"
install -m 755 /dev/null "$root/usr/sbin/warrend"
install -m 755 /dev/null "$root/usr/bin/kill"
for target in sysinit basic shutdown multi-user network-online; do
	printf '[Unit]\nDescription=%s\n' "$target" >"$root/etc/systemd/system/$target.target"
done

quiet() {
	local said
	said=$("$@" 2>&1 || echo "exit code $?")
	[[ -z $said ]] || { echo "$1: $said"; exit 1; }
}

quiet systemd-analyze verify --man=no --root="$root" warrend.service

report=$(systemd-analyze security --offline=true --threshold=$limit --root="$root" warrend.service 2>&1) ||
	{ echo "$report"; echo "the unit's exposure is above $((limit / 10)).$((limit % 10))"; exit 1; }
grep -F 'Overall exposure level' <<<"$report"

if command -v systemd-sysusers >/dev/null && ((EUID == 0)); then
	systemd-sysusers --root="$root" warren.conf 2>&1
	grep -q '^warren:' "$root/etc/passwd"
	quiet systemd-tmpfiles --root="$root" --create warren.conf
	[[ $(stat -c %a "$root/etc/warren" "$root/run/warren" | sort -u) == 750 ]]
fi
