#!/usr/bin/env bash
# Checks what the documents say about files: man pages pass mandoc's lint, relative links lead somewhere, and every
# configuration in etc/ is accepted by the warrend in the build folder that WARREN_BUILD names.
set -euo pipefail

cd "$(dirname "$0")/../.."
build=${WARREN_BUILD:-build}
failures=0
complain() { echo "$1"; failures=$((failures + 1)); }

# The names that a forge gives to the headings of a page: lower case, no punctuation, dashes for spaces.
anchors() {
	sed -nE '/^\x60{3}/,/^\x60{3}/d; s/^#+ +//p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9_ -]//g; s/ /-/g'
}

check_link() {
	local page=$1 link=$2 file
	file=${link%%#*}
	file=${file:+$(dirname "$page")/$file}
	file=${file:-$page}
	if [[ ! -e $file ]]; then
		complain "$page: the link to $link leads nowhere"
	elif [[ $link == *'#'* && $file == *.md ]] && ! anchors "$file" | grep -qxF -- "${link#*#}"; then
		complain "$page: $file has no heading for #${link#*#}"
	fi
}

check_links() {
	local page link
	for page in ./*.md docs/*.md plugins/*/*.md; do
		[[ -e $page ]] || continue
		while IFS= read -r link; do
			[[ $link == *:* ]] || check_link "$page" "$link"
		done < <(sed -E '/^\x60{3}/,/^\x60{3}/d' "$page" | grep -oE '\]\([^) ]+\)' | sed -E 's/^\]\(//; s/\)$//')
	done
}

# warrend takes plugins only from folders that nobody else can write to, which a build tree need not be.
check_configurations() {
	local file code
	cp "$build"/lib/warren/plugins/*.so "$work"
	for file in etc/*.cfg etc/tutorial/*.cfg; do
		sed -E "/^ *#/!s|directory = \"[^\"]*\";||; s|^plugins = \{|& directory = \"$work\";|" "$file" >"$work/${file##*/}"
		"$build/src/warrend" -t -c "$work/${file##*/}" >"$work/said" 2>&1 && continue || code=$?
		complain "$file: warrend -t has ended with exit code $code: $(<"$work/said")"
	done
}

check_manuals() {
	local page
	for page in docs/*.[1-8]; do
		mandoc -Tlint -Wwarning "$page" || complain "$page: mandoc has complaints"
	done
}

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check_links
check_configurations
manuals=
if command -v mandoc >/dev/null; then check_manuals; else manuals=skipped; fi

((failures == 0)) || { echo "$failures complaints"; exit 1; }
[[ -z $manuals ]] || { echo "skipped: mandoc is not installed; links and configurations are fine"; exit 77; }
