# shellcheck shell=sh
# TAP for the shell tests, which source this, as tap.h is for C. It shows the output of a command that fails.

: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}" "${top_builddir:=$top_srcdir}"
export LC_ALL=C
tap_n=0
tap_bad=0

# tap_ok NAME COMMAND [ARG...]: passes if the command succeeds.
tap_ok() {
	tap_name=$1
	shift
	tap_n=$((tap_n + 1))
	if tap_out=$("$@" 2>&1); then
		echo "ok $tap_n - $tap_name"
	else
		tap_bad=$((tap_bad + 1))
		echo "not ok $tap_n - $tap_name"
		printf '%s\n' "$tap_out" | sed 's/^/# /'
	fi
}

# tap_skip NAME REASON: reports that a test was skipped, and why.
tap_skip() {
	tap_n=$((tap_n + 1))
	echo "ok $tap_n - $1 # SKIP $2"
}

tap_done() {
	echo "1..$tap_n"
	[ "$tap_bad" = 0 ]
	exit
}
