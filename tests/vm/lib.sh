# shellcheck shell=bash
# What the scripts of the emulated host share: where the cache is, how progress
# is told. Sourced after `set -eu`; $vm is this directory.
# All progress goes to stderr: stdout belongs to TAP.

# shellcheck disable=SC2034
cache=${GPUBROKER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/gpubroker}
export LC_ALL=C.UTF-8

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# host_of KERNEL: makes the host, unless the cache has it, and prints its directory.
host_of() {
	case $1 in
	desktop12 | cockpit12 | cluster) "$vm/root-more" "$1" ;;
	debian13-arm64) "$vm/root-arm64" ;;
	*) "$vm/root" "$1" ;;
	esac
}

# progress LABEL SECONDS: a live line, on a terminal only.
progress() {
	[ ! -t 2 ] || printf '\r  %-58s %4d s ' "$1" "$2" >&2
}

# progress_end LABEL SECONDS RESULT
progress_end() {
	if [ -t 2 ]; then
		printf '\r  %-58s %4d s  %s\n' "$1" "$2" "$3" >&2
	else
		echo "# $1: $3 after $2 s" >&2
	fi
}

# step LABEL COMMAND...: runs COMMAND with its noise kept back. A terminal gets
# a line that counts the seconds, anything else one line at the start and one at
# the end; a failure shows the end of what COMMAND said. COMMAND may be a
# function; it runs in a subshell under `set -e`.
step() {
	local label=$1 log start=$SECONDS ticker='' rc=0
	shift
	log=$(mktemp)
	if [ -t 2 ]; then
		# COMMAND is in the foreground, so that Ctrl-C reaches it.
		while kill -0 $$ 2>/dev/null; do
			progress "$label" $((SECONDS - start))
			sleep 0.5
		done &
		ticker=$!
	else
		echo "# $label ..." >&2
	fi
	# Not `( … ) || rc`: that would switch `set -e` off inside.
	set +e
	( set -eu; "$@" ) >"$log" 2>&1 </dev/null
	rc=$?
	set -e
	if [ -n "$ticker" ]; then
		kill "$ticker"
		wait "$ticker" 2>/dev/null || :
	fi
	progress_end "$label" $((SECONDS - start)) "$([ $rc = 0 ] && echo 'done' || echo FAILED)"
	[ $rc = 0 ] || tail -n "${STEP_LINES:-40}" "$log" >&2
	rm -f "$log"
	return $rc
}
