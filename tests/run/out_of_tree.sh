#!/bin/sh
# A plugin outside of the tree: installs warren to a private folder, builds a plugin against it with
# pkg-config and with find_package, and runs both. usage: out_of_tree.sh BUILD_FOLDER
set -eu

build=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/warren-install-XXXXXX")
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

fail() {
	echo "out_of_tree: $*" >&2
	exit 1
}

cmake --install "$build" --prefix "$prefix" > "$work/install.log" || {
	cat "$work/install.log" >&2
	fail "cmake --install failed"
}
warren=$prefix/bin/warren
PKG_CONFIG_PATH=$(find "$prefix" -name pkgconfig -type d)
export PKG_CONFIG_PATH
plugin_dir=$(pkg-config --variable=plugindir warren)

[ -x "$prefix/sbin/warrend" ] || fail "no sbin/warrend"
[ -f "$prefix/include/warren/plugin.h" ] || fail "no include/warren/plugin.h"
for name in print sleep upper digest exec; do
	"$warren" plugin show "$plugin_dir/$name.so" > /dev/null || fail "$name.so is refused"
done
for sample in "$prefix"/share/doc/warren/examples/*.cfg; do
	name=$(basename "$sample" .cfg)
	[ -f "$plugin_dir/$name.so" ] || continue
	sed "s|^plugins = {|plugins = { directory = \"$plugin_dir\";|" "$sample" > "$work/$name.cfg"
	"$prefix/sbin/warrend" -t -c "$work/$name.cfg" > "$work/sample.log" 2>&1 || {
		cat "$work/sample.log" >&2
		fail "the sample $name.cfg is refused"
	}
done
unit=$prefix/lib/systemd/system/warrend.service
if [ -f "$unit" ]; then
	grep -q "^ExecStart=$prefix/sbin/warrend" "$unit" || fail "$unit names another warrend"
fi

cat > "$work/hello.c" <<'C'
#include <warren/plugin.h>

static enum warren_verdict hello(struct warren_job *job)
{
	const char *name = warren_body_text(job);
	if (!name || !*name)
		return warren_dead(job, "nobody to greet");
	warren_log(job, WARREN_LOG_INFO, "greeting %s", name);
	warren_reply(job, "text/plain", "hello", 5);
	return WARREN_DONE;
}

static const struct warren_task tasks[] = { { .name = "demo.hello", .run = hello }, { 0 } };

WARREN_PLUGIN(hello, .version = "1.0", .summary = "says hello", .tasks = tasks);
C

# With a compiler and pkg-config alone, from a folder of its own, nothing of this tree in reach.
cd "$work"
flags=$(pkg-config --cflags warren)
# shellcheck disable=SC2086 # the flags are words
${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -fvisibility=hidden -shared -fPIC \
	$flags -o hello.so hello.c -Wl,-z,defs

[ "$(printf you | "$warren" plugin run ./hello.so demo.hello --raw)" = hello ] ||
	fail "the plugin built with pkg-config does not say hello"
code=0
"$warren" plugin run ./hello.so demo.hello < /dev/null > out.log || code=$?
[ "$code" = 65 ] || fail "an empty body gives exit code $code, not 65"
grep -q "^reason: nobody to greet$" out.log || fail "the reason is missing"
code=0
"$warren" plugin run ./hello.so demo.sing < /dev/null 2> /dev/null || code=$?
[ "$code" = 64 ] || fail "an unknown task gives exit code $code, not 64"
code=0
"$warren" plugin show ./hello.c > /dev/null 2>&1 || code=$?
[ "$code" = 78 ] || fail "a file that is no plugin gives exit code $code, not 78"

# With CMake's package.
mkdir cmake
cat > cmake/CMakeLists.txt <<'C'
cmake_minimum_required(VERSION 3.25)
project(hello LANGUAGES C)
find_package(warren 0.1 REQUIRED)
add_library(hello MODULE ../hello.c)
set_target_properties(hello PROPERTIES PREFIX "" C_VISIBILITY_PRESET hidden)
target_link_libraries(hello PRIVATE warren::plugin)
install(TARGETS hello LIBRARY DESTINATION ${WARREN_PLUGIN_DIR})
C
{
	cmake -S cmake -B cmake/build -DCMAKE_PREFIX_PATH="$prefix" &&
		cmake --build cmake/build &&
		cmake --install cmake/build
} > cmake.log 2>&1 || {
	cat cmake.log >&2
	fail "find_package(warren) does not build a plugin"
}
[ -f "$plugin_dir/hello.so" ] || fail "WARREN_PLUGIN_DIR is not $plugin_dir"
[ "$(printf you | "$warren" plugin run "$plugin_dir/hello.so" demo.hello --raw)" = hello ] ||
	fail "the plugin built with find_package does not say hello"
echo "out_of_tree: a plugin builds and runs, by pkg-config and by find_package"
