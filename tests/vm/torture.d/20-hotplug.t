#!/bin/bash
# Functions that come into a lent group, and that vanish from one: the first are kept from host
# drivers, and go to one when the lease ends; the second end the lease, and the rest of the group
# comes back.
. ./lib.sh
. ./torture.sh

insmod /tests/gpubroker_test.ko
wait_for 10 is_back "$pair_a" gpubroker_test
cat >/etc/gpubroker/policy.d/50-pair.policy <<POLICY
allow user alice claim address $pair_a
allow user alice claim address $pair_b
POLICY
reload
gpubroker watch --json >/tmp/events &
watcher=$!

rm -f /tmp/h1
run_as alice gpubroker run --gpu "$pair_a" -- /tests/holder "$pair_a" /tmp/h1 yields &
holder=$!
ok 'one function of the group is there, and lent' wait_for 20 grep -q has /tmp/h1

outer device_add "{\"driver\": \"pci-testdev\", \"id\": \"late\", \"bus\": \"$pair_port\"}" >/dev/null
ok 'a function is plugged into the lent group' wait_for 30 test -e "/sys/bus/pci/devices/$pair_b"
is "$(group_of "$pair_b")" "$(group_of "$pair_a")" '... the same group'
ok 'it is kept from its host driver' wait_for 20 has_driver "$pair_b" vfio-pci
ok 'the journal says so' wait_for 5 said_it "device=$pair_b .* outcome=arrived"
like "$(gpubroker leases)" "$pair_a $pair_b" 'leases shows it'
ok 'the holder notices nothing' alive $holder
is "$(cat /tmp/h1)" has '... and was not asked for anything'

# The daemon is killed: what it learnt is in the record.
systemctl kill -s KILL gpubroker
wait_for 20 gpubroker list
like "$(gpubroker leases)" "$pair_a $pair_b" 'a daemon started anew knows of it'
kill $holder
wait $holder 2>/dev/null
ok 'the lease ends: the first goes back' wait_for 20 is_back "$pair_a" gpubroker_test
ok '... and the one that came to the driver that claims it' wait_for 20 is_back "$pair_b" gpubroker_test
is "$(override_of "$pair_a")$(override_of "$pair_b")" '' '... without overrides'
ok '... and no record' wait_for 10 no_records

# One of two vanishes. QEMU's monitor presses the button; the kernel takes the function away, which it
# does only when its holder has let go of it.
kill $watcher
gpubroker watch --json >/tmp/events &
watcher=$!
rm -f /tmp/h2
run_as alice gpubroker run --gpu "$pair_a" -- /tests/holder "$pair_a" /tmp/h2 yields &
holder=$!
ok 'both functions are lent' wait_for 20 grep -q has /tmp/h2
outer device_del '{"id": "late"}' >/dev/null
ok 'one is pulled' wait_for 30 test ! -e "/sys/bus/pci/devices/$pair_b"
ok 'the holder is asked for the rest' wait_for 20 grep -q asked /tmp/h2
wait $holder
ok 'the other comes back' wait_for 20 is_back "$pair_a" gpubroker_test
is "$(override_of "$pair_a")" '' '... without an override'
ok '... and no record' wait_for 10 no_records
ok 'the journal says that it vanished' wait_for 5 said_it "device=$pair_b .* outcome=vanished"
ok '... and an event does' wait_for 10 grep -q '"event":"vanished"[^{]*"device":"'"$pair_b"'"' /tmp/events || diag "$(cat /tmp/events)"
kill $watcher
wait $watcher 2>/dev/null

# The only function of a group vanishes under its holder.
port=$pair_port
outer device_add "{\"driver\": \"pci-testdev\", \"id\": \"late\", \"bus\": \"$port\"}" >/dev/null
ok 'a function is plugged in' wait_for 30 is_back "$pair_b" gpubroker_test
rm -f /tmp/h3
run_as alice gpubroker run --gpu "$pair_b" -- /tests/holder "$pair_b" /tmp/h3 yields &
holder=$!
ok 'it is lent' wait_for 20 grep -q has /tmp/h3
outer device_del '{"id": "late"}' >/dev/null
ok 'the function that is held is pulled: its holder is asked' wait_for 30 grep -q asked /tmp/h3
wait $holder
ok 'it goes' wait_for 30 test ! -e "/sys/bus/pci/devices/$pair_b"
ok 'the rest of the group is the host'"'"'s' wait_for 30 is_back "$pair_a" gpubroker_test
ok '... and no record is left' wait_for 10 no_records
ok 'another claim is served' run_as alice gpubroker run --gpu "$pair_a" -- true

rm -f /etc/gpubroker/policy.d/50-pair.policy /tmp/h[123] /tmp/events
reload
wait_for 20 no_records
rmmod gpubroker_test
done_testing
