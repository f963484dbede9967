#!/usr/bin/env bash
# Checks the #includes of src/: each foreign library has one door, and no file includes a header of a higher floor.
# The floor of a header stands in its first comment as "Floor N".
set -euo pipefail
shopt -s extglob

cd "$(dirname "$0")/../../src"
failures=0
complain() { echo "src/$1"; failures=$((failures + 1)); }

stated() { head -n 30 "$1" | grep -oE 'Floor [0-4]' | head -n 1 | cut -d' ' -f2; }

# A source has the floor of its own header; one without a header says it, or is a program.
floor_of() {
	local header=${1%.c}.h
	if [[ -e $header ]]; then stated "$header"; else stated "$1" || echo 4; fi
}

check_door() {
	local pattern=$1 door=$2 what=$3 file
	while IFS= read -r file; do
		# shellcheck disable=SC2053 # the door is a pattern
		[[ $file == $door ]] || complain "$file includes $what, which is behind $door"
	done < <(grep -lE "^ *# *include *[<\"]($pattern)" -- *.[ch])
	compgen -G "$door" >/dev/null || complain "$door is not there"
}

check_door 'rabbitmq-c/|amqp(_[a-z_]+)?\.h' broker.c rabbitmq-c
check_door 'openssl/(ssl|err|x509[a-z_0-9]*)\.h' tls.c "OpenSSL's TLS"
check_door 'libconfig\.h' 'conf*.c' libconfig
check_door '(curses|term)\.h' curtain.c ncurses
check_door 'dlfcn\.h' '@(plugin|http).c' dlfcn.h
check_door 'microhttpd\.h' http.c libmicrohttpd

for file in *.[ch]; do
	floor=$(floor_of "$file") || { complain "$file: its header does not say \"Floor N\""; continue; }
	while IFS= read -r header; do
		above=$(stated "$header") || { complain "$header does not say \"Floor N\""; continue; }
		((above <= floor)) || complain "$file, floor $floor, includes $header of floor $above"
	done < <(sed -nE 's/^ *# *include *"([^"]+\.h)".*/\1/p' "$file")
done

((failures == 0)) || { echo "$failures complaints"; exit 1; }
