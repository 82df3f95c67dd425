#!/bin/bash
# Users send the broker descriptors whose close takes an hour, in every way, are turned away with them, send
# without end, or say nothing: the broker closes none of those itself, others are served, and it ends in time.
. ./lib.sh

core=$(systemctl show -P MainPID gpubroker)
restarts=$(systemctl show -P NRestarts gpubroker)
socket=/run/gpubroker/socket
fds() { ls "/proc/$core/fd" | wc -l; }
run_as alice gpubroker list >/dev/null
before=$(fds)
# Of the cases before this one: 28-hostile-watcher has its watcher killed.
killed=$(killed)
back_to() { [ "$(fds)" = "$before" ]; }
# Each closer is a child of the core, as each worker is.
no_children() { [ -z "$(cat /proc/[0-9]*/stat 2>/dev/null | sed 's/^.*) //' | awk -v core="$core" '$2 == core && $1 != "Z"')" ]; }
count() { local v=${2#*"$1="}; echo "${v%%[ $'\n']*}"; }
# users: six at once, by numbers that no account has but for the first two.
ways=(kinds hidden own away flood silent)
users=(bob carol 20000 20001 20002 20003)
start_attacks() {
	local i
	attackers=()
	for i in "${!ways[@]}"; do
		/tests/attack "${ways[i]}" "${users[i]}" "$1" $socket >"/tmp/attack.${ways[i]}" &
		attackers+=($!)
	done
}

diag "quiet: $(/tests/attack measure alice 3 $socket)"
set_mark
start_attacks 9
pause
out=$(timeout 120 /tests/attack measure alice 6 $socket)
diag "under all attacks: $out"
is "$(count failed "$out")" 0 'another user is served under all attacks at once'
longest=$(count longest "$out")
# A core that waited would wait for an hour, or until its watchdog's minute. Thirty seconds are for a busy host.
ok "... and waits ${longest:-for ever} ms at most" test "${longest%.*}" -lt 30000
ok '... also one who comes by the command' run_as alice gpubroker list
capture gpubroker leases --json
is "$status" 0 '... and root'
wait "${attackers[@]}"
for way in "${ways[@]}"; do
	out=$(cat "/tmp/attack.$way")
	diag "$way: $out"
	ok "$way: it was tried" test "$(count times "$out")" -gt 10
	case $way in kinds | hidden | own)
		kernel_has passrights || ok "$way: the kernel let descriptors through" \
			test "$(count not_sent "$out")" -lt "$(count times "$out")" ;;
	esac
done
is "$(systemctl show -P MainPID gpubroker)" "$core" 'the daemon is the same process as before'
is "$(systemctl show -P NRestarts gpubroker)" "$restarts" '... and was not started again'
lines=$(said | grep -c 'uid=')
ok "the journal is not full of it ($lines lines)" test "$lines" -lt 1000
like "$(said)" 'outcome=suppressed' '... what is left out is counted'
ok 'all closers have ended' wait_for 30 no_children
ok 'descriptors are back to what they were' wait_for 20 back_to

# One who has said hello may be idle, one who has not goes.
cp /tests/{wire,hostile}.py /tmp
capture run_as bob python3 /tmp/hostile.py mute
like "$stdout" '^dropped ([5-9]|[1-5][0-9]) answered True' 'one who says nothing goes, not before five seconds' || diag "$stdout $stderr"

# While an attack goes on, a stop takes no longer than else.
start_attacks 6
pause
set_mark
start=$SECONDS
ok 'the daemon can be restarted under the attacks' systemctl restart gpubroker
took=$((SECONDS - start))
ok "... in $took s" test $took -lt 60
isnt "$(systemctl show -P MainPID gpubroker)" "$core" '... it is another process'
unlike "$(journalctl -q --no-pager -o cat -u gpubroker --after-cursor "$mark")" 'timed out|SIGKILL|watchdog' '... and nothing had to be killed'
wait "${attackers[@]}"
ok 'others are served' run_as alice gpubroker list
is "$(killed)" "$killed" 'no filter has killed anything'
rm -f /tmp/attack.*
done_testing
