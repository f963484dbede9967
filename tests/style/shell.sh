#!/usr/bin/env bash
# Checks every shell script of the tree with shellcheck.
set -euo pipefail

cd "$(dirname "$0")/../.."
command -v shellcheck >/dev/null || { echo "skipped: shellcheck is not installed"; exit 77; }

scripts=()
while IFS= read -r -d '' file; do
	if [[ $file == *.sh ]] || head -n 1 "$file" | grep -aqE '^#!.*[/ ](ba|da)?sh( |$)'; then scripts+=("$file"); fi
done < <(find . \( -name .git -o -name 'build*' \) -prune -o -type f \( -name '*.sh' -o ! -name '*.*' \) -print0)

shellcheck "${scripts[@]}"
echo "shellcheck has nothing to say about ${#scripts[@]} scripts"
