#!/bin/bash
# A lease ends before its holder lets go: released by its owner, revoked by root, its rule's time up,
# with a warning before; and the one who does not let go is named.
. ./lib.sh

events=/tmp/events
capture gpubroker release 1
is $status 66 'a lease that is not there cannot be released'
like "$stderr" 'there is no lease 1' '... and the answer says so'

# hold USER FILE yields|keeps: a lease on gpu2 by a program that uses VFIO as QEMU does.
hold() {
	rm -f "$2"
	run_as "$1" gpubroker run --gpu 02:00.0 -- /tests/holder $gpu2 "$2" "$3" 2>"$2.err" &
	holder=$!
	wait_for 20 grep -q has "$2" || diag "$(cat "$2.err")"
}
lease_of() { gpubroker leases --json | python3 -c 'import json,sys; print(*[l["id"] for l in json.load(sys.stdin)])'; }
back() {
	ok "$1: the GPU is back on its driver" wait_for 20 is_back $gpu2 bochs-drm
	ok "$1: no record is left" wait_for 10 no_records
}

run_as bob gpubroker watch --json >$events &
watcher=$!
run_as bob gpubroker watch >$events.text &
watcher2=$!

hold alice /tmp/h1 yields
id=$(lease_of)
capture run_as bob gpubroker release "$id"
is $status 77 "another user's lease cannot be released"
like "$stderr" "lease $id is another user's; only that user and root can release it" '... and why'
capture run_as alice gpubroker revoke "$id"
is $status 77 'revoking is for root'
like "$stderr" "only root can revoke a lease; 'gpubroker release' ends one of your own" '... and what helps'
ok 'the lease goes on' alive $holder
ok 'the owner releases it' run_as alice gpubroker release "$id"
is "$(cat /tmp/h1)" $'has\nasked' '... which asked the holder, who let go'
back 'released'
wait $holder

hold alice /tmp/h2 yields
ok 'root revokes a lease' gpubroker revoke "$(lease_of)"
like "$(cat /tmp/h2)" asked '... and the holder was asked'
back 'revoked'
wait $holder

# An unmodified QEMU, whose guest gives the device up as its operating system would.
cp /tests/nested.elf /tmp/nested.elf
vm alice guest --gpu 02:00.0 -- -m 64 -serial file:/tmp/guest.serial -kernel /tmp/nested.elf -append yield \
	-device pcie-root-port,id=rp,slot=1 -device vfio-pci,host=02:00.0,bus=rp
ok 'a QEMU has the GPU' vm_up guest
ok '... and its guest runs' wait_for 60 grep -q END /tmp/guest.serial
ok 'its lease is revoked' gpubroker revoke "$(lease_of)"
like "$(cat /tmp/guest.serial)" YIELD '... for which the guest was asked'
back 'the guest gave it up'
ok 'QEMU runs on' qmp guest query-status
unlike "$(vm_devices guest)" 1234:1111 '... without the GPU'
ok '... which another user has now' run_as carol gpubroker run --gpu 02:00.0 -- true
vm_end guest
back 'the next user was done'
rm -f /tmp/nested.elf /tmp/guest.serial

# Who does not let go.
hold alice /tmp/h3 keeps
id=$(lease_of)
capture gpubroker revoke "$id"
is $status 75 'a holder that does not let go keeps the lease, and revoke says so'
like "$stderr" "lease $id is not the host's again yet: a process that was asked for it has it still \($gpu2: waits" \
	'... with the step that waits'
like "$stderr" "it is held by pid $holder \(holder\) of alice" '... and who holds it'
like "$(gpubroker leases)" "asked .*
       asked back for [0-9]+s: $gpu2: waits for .*
       held by pid $holder \(holder\) of alice" 'leases says since when, and who'
capture run_as alice gpubroker run --gpu 02:00.0 -- true
is $status 75 'it is not lent'
like "$stderr" "$gpu2 is asked back from alice .*whose program has not let go of it yet" '... and the answer says what it waits for'
# systemd waits for 4 s. By its defaults it would wait for 90.
ok 'the daemon stops all the same, and does not wait for the holder' \
	timeout 60 systemctl stop gpubroker.service gpubroker.socket
systemctl start gpubroker.socket gpubroker.service
asked_still() { gpubroker leases --json | tr -d ' \n' | grep -q "\"id\":$id,.*\"state\":\"asked\".*waitsforitsholder"; }
ok 'started again, it finds out that the holder has it still' wait_for 30 asked_still
ok 'others are served' run_as alice gpubroker run --gpu 01:00.0 -- true
kill -KILL $holder
wait $holder 2>/dev/null
back 'the holder is gone'
is "$(override_of $gpu2)" '' '... and no override is left'

# A time is set later: the holder is warned before.
run_as bob gpubroker watch --json >$events.2 &
watcher3=$!
hold alice /tmp/h4 yields
id=$(lease_of)
ok 'root revokes after a time' gpubroker revoke "$id" --after 6s
like "$(gpubroker leases)" "leased .*ends at" 'leases shows the end'
capture gpubroker revoke "$id" --after soon
is $status 64 'a time that is none is refused'
ok 'it ends by itself' wait_for 30 grep -q asked /tmp/h4
back 'the time is up'
wait $holder
warned() { tr '\n' ' ' <$events.2 | grep -q '"event":"ending"[^{]*"lease":'"$id"'.*"state":"restoring".*"state":"host"'; }
ok 'an event warned before it was taken back' wait_for 10 warned || diag "$(cat $events.2)"

kill $watcher3
# The first watchers went with the daemon that they watched.
wait $watcher $watcher2 $watcher3 2>/dev/null
like "$(cat $events)" '"state":"preparing".*"state":"ready".*"state":"leased".*"state":"restoring".*"state":"host"' \
	'watch tells a lease from its beginning to its end'
like "$(cat $events)" '"state":"asked"[^}]*"reason":"'$gpu2': waits' '... and what it waits for'
like "$(cat $events.text)" "lease [0-9]+ of alice, $gpu2: asked \($gpu2: waits for its holder" \
	'... to people as well'
rm -f /tmp/h[1-4] /tmp/h[1-4].err $events*

# What root gives back without a lease.
capture run_as alice gpubroker restore 09:00.0
is $status 77 'restoring is for root'
ok 'a prepared function goes to its host driver' gpubroker restore 09:00.0
is "$(driver_of $prep_twin):$(override_of $prep_twin)" bochs-drm: '... and has no override'
ok 'no record is left of it' no_records
hold alice /tmp/h5 yields
capture gpubroker restore 02:00.0
is $status 75 'a leased function is not restored under its holder'
like "$stderr" "$gpu2 is leased to alice .*'gpubroker revoke [0-9]+' asks for it back" '... and what helps'
kill $holder
wait $holder 2>/dev/null
back 'the holder ended'
ok "it stays there" has_driver $prep_twin bochs-drm
systemctl reload gpubroker
ok '... until the policy is loaded anew' wait_for 20 has_driver $prep_twin vfio-pci
done_testing
