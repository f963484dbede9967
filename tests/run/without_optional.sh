#!/bin/sh
# A build without the libraries that warren can do without: it says what is left out, and its warrend says so where the
# configuration asks for it. usage: without_optional.sh SOURCE_FOLDER PLUGIN_FOLDER
set -eu

source=$1 plugins=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/warren-without-XXXXXX")
pid=
tidy() {
	[ -z "$pid" ] || kill -KILL "$pid" 2> /dev/null || true
	rm -rf "$work"
}
trap tidy EXIT

fail() {
	echo "without_optional: $*" >&2
	exit 1
}

cmake -S "$source" -B "$work/build" -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Debug -DWARREN_STRICT=ON \
	-DWARREN_WITH_JANSSON=OFF -DWARREN_WITH_MICROHTTPD=OFF > "$work/configure.log" 2>&1 ||
	{ cat "$work/configure.log" >&2; fail "it cannot be configured"; }
for what in "the control socket" HTTP; do
	grep -q "left out: $what" "$work/configure.log" || fail "nothing is said of $what"
done
cmake --build "$work/build" --target warrend -j 2 > "$work/build.log" 2>&1 ||
	{ cat "$work/build.log" >&2; fail "it does not build"; }
! ldd "$work/build/src/warrend" | grep -E 'jansson|microhttpd' || fail "it is linked with what it must not need"

cat > "$work/warren.cfg" <<C
broker = { urls = [ "amqp://guest:guest@127.0.0.1:1/%2f" ]; };
plugins = { directory = "$plugins"; load = ( { file = "upper.so"; } ); };
queues = ( { name = "work"; task = "text.upper"; } );
control = { socket = "warren.sock"; };
http = { port = 9419; };
C
"$work/build/src/warrend" -c "$work/warren.cfg" 2> "$work/log" &
pid=$!
tries=0
until grep -q event=daemon.ready "$work/log"; do
	tries=$((tries + 1))
	if [ $tries = 600 ] || ! kill -0 "$pid"; then
		cat "$work/log" >&2
		fail "warrend does not start"
	fi
	sleep 0.1
done
for event in control.off http.off; do
	grep -q "level=warn .*event=$event .*was built without" "$work/log" || fail "no event=$event"
done
[ ! -e "$work/warren.sock" ] || fail "there is a socket"
kill -TERM "$pid"
wait "$pid" || fail "it ends with $?"
pid=
echo "without_optional: builds, runs, and says what it has not got"
