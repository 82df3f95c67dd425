#!/bin/bash
# Peers are killed at random while eight users claim and release: nothing is left of any of it, and
# every function is on its driver.
. ./torture.d/cycles.sh

capture sixteen
is "$status:$stdout$stderr" 0:16 'one command gets sixteen devices'
restored 'sixteen devices'

cycle "${long[@]}" -k 250
is $status 0 'peers killed: claims go on to the end'
ok "peers killed: $(count granted "$out") granted" test "$(count granted "$out")" -ge 20
ok "... and $(count killed "$out") peers killed" test "$(count killed "$out")" -ge 10
is "$(count refused "$out")" 0 '... none refused but for a function that was busy'
is "$(count faults "$out")$(count unreachable "$out")" 00 '... and none failed'
is "$(main_pid)" "$core" '... by one and the same daemon'
restored 'peers killed'
ok "peers killed: $fds_before descriptors, as before" wait_for 10 has_fds "$fds_before"
[ $(($(rss) - rss_before)) -lt 256 ] || stops_growing "${long[@]}" -k 250
is $? 0 'peers killed: memory does not go on growing'
finish
