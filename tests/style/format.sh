#!/usr/bin/env bash
# Checks that every C and C++ file is as clang-format writes it. `tests/style/format.sh --fix` writes them so.
# Major versions differ in details, so that one version decides: another one is as good as none.
set -euo pipefail

version=14
cd "$(dirname "$0")/../.."
tool=$(command -v "clang-format-$version" || command -v clang-format) || { echo "skipped: clang-format is not installed"; exit 77; }
[[ $("$tool" --version) == *"version $version."* ]] ||
	{ echo "skipped: this is $("$tool" --version), and version $version decides"; exit 77; }

how=(--dry-run -Werror)
[[ ${1:-} != --fix ]] || how=(-i)
find src include plugins tests bench -type f \( -name '*.[ch]' -o -name '*.cpp' \) -print0 | sort -z | xargs -0 "$tool" "${how[@]}"
