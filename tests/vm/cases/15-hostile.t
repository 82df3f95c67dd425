#!/bin/bash
# Peers that break the protocol, never read, or connect a thousand times: they
# are dropped or refused, others go on, and nothing of them is left.
. ./lib.sh

core=$(systemctl show -P MainPID gpubroker)
fds() { ls "/proc/$core/fd" | wc -l; }
rss() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$core/status"; }
run_as bob gpubroker list >/dev/null
before=$(fds) rss_before=$(rss)
back_to() { [ "$(fds)" = "$before" ]; }
serves() { is "$(run_as alice gpubroker leases --json | tr -d ' \n')" '[]' "$1: others are served"; }

cp /tests/{wire,hostile}.py /tmp
for attack in sizes types early descriptors busy claims silent; do
	capture run_as bob python3 /tmp/hostile.py $attack
	is "$stdout" done "$attack: each was dropped" || diag "$stderr"
	serves "$attack"
	ok "$attack: descriptors are back to what they were" wait_for 10 back_to
done

# A peer that never reads, with its connection open, while others go on.
run_as bob python3 /tmp/hostile.py deaf >/tmp/deaf.out 2>&1 &
deaf=$!
wait_for 20 grep -q ready /tmp/deaf.out
serves 'a peer that never reads'
capture run_as alice gpubroker run --gpu 02:00.0 -- true
is $status 0 'a peer that never reads: others claim'
kill $deaf
wait $deaf 2>/dev/null
wait_for 20 is_back $gpu2 bochs-drm
ok 'a peer that never reads: descriptors are back' wait_for 10 back_to

# A peer that claims and never reads: nothing is left with it.
run_as alice python3 /tmp/hostile.py greedy $gpu2 >/tmp/greedy.out 2>&1 &
greedy=$!
wait_for 20 grep -q ready /tmp/greedy.out
kill -KILL $greedy
wait $greedy 2>/dev/null
ok 'a claim that its peer never reads comes back' wait_for 20 is_back $gpu2 bochs-drm
ok '... record and all' wait_for 10 no_records

run_as bob python3 /tmp/hostile.py thousand >/tmp/thousand.out 2>&1 &
crowd=$!
wait_for 60 grep -q ready /tmp/thousand.out
is "$(cat /tmp/thousand.out)" "connected 1000 refused 872
ready" 'of 1,000 connections of one user 128 are served, the rest refused with a reason'
capture run_as bob gpubroker list
is $status 75 'the user with 128 connections is told so'
like "$stderr" '128 connections' '... in a sentence'
serves 'a user with 1,000 connections'
kill $crowd
wait $crowd 2>/dev/null
ok 'a user with 1,000 connections: descriptors are back' wait_for 10 back_to
run_as bob gpubroker list >/dev/null
is $? 0 '... and the user is served again'

is "$(systemctl show -P MainPID gpubroker)" "$core" 'the daemon is the same process as before'
grown=$(($(rss) - rss_before))
ok "the daemon has grown by less than 1 MiB ($grown KiB)" test $grown -lt 1024
done_testing
