#!/bin/bash
# The same while the daemon is killed as well, and started again by systemd.
. ./torture.d/cycles.sh

# Milliseconds; a start that takes up eight leases is a second of which no claim comes.
every=${THOROUGH:+20000}
: "${every:=2000}"
cycle "${long[@]}" -k 250 -K "$every"
is $status 0 'the daemon killed: claims go on to the end'
ok "the daemon killed: $(count granted "$out") granted" test "$(count granted "$out")" -ge 3
ok "... and the daemon killed $(count daemon_killed "$out") times" test "$(count daemon_killed "$out")" -ge 2
is "$(count refused "$out")" 0 '... none refused but for a function that was busy'
ok '... and it serves' wait_for 20 serves
isnt "$(main_pid)" "$core" '... a new one'
restored 'the daemon killed'

# The last daemon took up leases at its start and ended them: it must not have kept anything either. Its memory is
# compared with its own, after as much as the first had done when it was measured: what a start that takes up leases
# leaves in malloc's arenas is no leak.
core=$(main_pid)
sixteen >/dev/null
wait_for 20 all_back
cycle -n 40 -s 60
wait_for 20 all_back
ok "the last daemon has no more descriptors than the first, $fds_before" wait_for 10 has_fds "$fds_before"
stops_growing -n 40 -s 60
is $? 0 '... its memory does not go on growing over further claims'
ok '... nor has it more descriptors than that after them' wait_for 10 has_fds "$fds_before"
finish
