#!/bin/sh
# A second daemon on a state directory ends, says which, and has changed nothing.
# shellcheck disable=SC2317 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(mktemp -d) || exit 99
holder=
trap '[ -z "$holder" ] || kill "$holder"; rm -rf "$dir"' EXIT

# The lock is flock(2) on the directory itself, which the first daemon keeps as long as it lives.
mkdir "$dir/state"
mkfifo "$dir/locked"
# By -F it is one process. One that flock forked would stay, and whoever reads our output would wait for its end.
flock -nF "$dir/state" sh -c 'echo >"$0"; exec sleep 1000' "$dir/locked" >/dev/null 2>&1 &
holder=$!
read -r _ <"$dir/locked"

# As a worker that hangs does not keep it, sleep gets it from flock only by inheriting the open file.
before=$(date +%s)
timeout 120 "$top_builddir/brokerd/gpubrokerd" --state "$dir/state" --socket "$dir/socket" >"$dir/out" 2>&1
status=$?
took=$(($(date +%s) - before))

said() { grep -q "$1" "$dir/out" || { cat "$dir/out"; return 1; }; }

tap_ok "a second daemon ends: 71" [ $status = 71 ]
tap_ok "... and names the directory" said "$dir/state: another gpubrokerd has this state directory"
tap_ok "... and says what to do" said "by --state"
tap_ok "it waits a little, for one that is ending" [ $took -ge 4 ]
tap_ok "... but not for ever" [ $took -le 90 ]
tap_ok "it has not touched the first one's socket" [ ! -e "$dir/socket" ]
tap_done
