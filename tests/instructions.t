#!/bin/sh
# The instructions of the hot paths (a verdict, decoding a request, one event) are at most 5 % more than those kept in
# tests/bench/instructions. callgrind counts them, so neither the machine nor its load matters, and only those in
# our own code: which of its variants the C library takes depends on the processor.
#
# Compilers differ by more than 5 %, so the figures are kept by compiler, its version and how far it optimizes. For
# another one there is nothing to compare with: the test is skipped, and says the line to be kept.
#   instructions.t --keep   (with top_builddir of a build) keeps what it counts, in the source tree

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
kept=$top_srcdir/tests/bench/instructions
paths=$top_builddir/tests/bench/paths
walks=1000
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

skip_all() {
	tap_skip 'instructions of the hot paths' "$1"
	tap_done
}
command -v valgrind >/dev/null || skip_all 'there is no valgrind'
[ -x "$paths" ] || exit 99
# Compiled into another shape: with sanitizers, for coverage, or otherwise by hand.
flags=$(sed -n 's/^CFLAGS = //p' "$top_builddir/Makefile")
level=$(printf '%s\n' $flags | sed -n 's/^-O/-O/p' | tail -n 1)
other=$(printf '%s\n' $flags | grep -vE '^(-O.?|-g[0-9]?|-f[a-z]*-prefix-map=.*|-W.*)?$')
[ -z "$other" ] || skip_all "it is built with $(echo $other), for which no figures are kept"
! grep -q '^#define GPUBROKER_SANITIZED' "$top_builddir/config.h" || skip_all 'it is built with sanitizers'
# Valgrind does not read every compiler's debugging information, and needs none.
"${STRIP:-strip}" --strip-debug -o "$dir/paths" "$paths" || exit 99
compiler="$("$paths" compiler) ${level:--O0}"

# count PATH: instructions of one walk, in the program's own code.
count() {
	valgrind --tool=callgrind --callgrind-out-file="$dir/$1" --toggle-collect="path_$1" --compress-strings=no \
		"$dir/paths" "$1" >"$dir/said" 2>&1 || { cat "$dir/said" >&2; return 1; }
	awk -v walks="$walks" -v own=/paths '
		/^ob=/ { ours = substr($0, length($0) - length(own) + 1) == own }
		/^calls=/ { getline; next }
		/^[0-9+*-]/ && ours { n += $2 }
		END { printf "%d\n", n / walks }' "$dir/$1"
}

line=$compiler
for path in verdict decode event; do
	n=$(count "$path") || exit 1
	[ "$n" -gt 0 ] || { echo "not ok 1 - callgrind counts the instructions of $path"; echo 1..1; exit 1; }
	line="$line $path $n"
	eval "$path=$n"
done
if [ "${1:-}" = --keep ]; then
	{ grep -vF "$compiler " "$kept"; echo "$line"; } >"$dir/new"
	cat "$dir/new" >"$kept"
	exit
fi
before=$(grep -F "$compiler " "$kept") || {
	echo "# to be kept in tests/bench/instructions, where this compiler is used: $line"
	skip_all "no figures are kept for $compiler"
}

# not_more PATH: it has at most 5 % more instructions than are kept.
not_more() {
	eval "now=\$$1"
	was=$(printf '%s\n' "$before" | sed -n "s/.* $1 \([0-9]*\).*/\1/p")
	echo "$1: $now instructions, kept are $was: see HACKING.md, instructions"
	[ $((now * 100)) -le $((was * 105)) ]
}
tap_ok 'a verdict takes no more instructions than before' not_more verdict
tap_ok 'decoding a request takes no more instructions than before' not_more decode
tap_ok 'an event takes no more instructions than before' not_more event
for path in verdict decode event; do
	eval "now=\$$path"
	was=$(printf '%s\n' "$before" | sed -n "s/.* $path \([0-9]*\).*/\1/p")
	echo "# $path: $now instructions, kept are $was"
done
tap_done
