#!/bin/bash
# Functions that come into a lent group and may not be lent: judged as a claim is, left to the host, and the lease
# ends. One is denied by a rule, one is in use by the host after a restart of the daemon, and one comes while a claim
# is under way.
. ./lib.sh
. ./torture.sh

policy=/etc/gpubroker/policy.d/50-pair.policy
insmod /tests/gpubroker_test.ko
wait_for 10 is_back "$pair_a" gpubroker_test
modprobe nvme

# plug DRIVER-OPTIONS, pull: the second function of the pair's group.
plug() { outer device_add "{\"id\": \"late\", \"bus\": \"$pair_port\", $1}" >/dev/null; }
pull() {
	outer device_del '{"id": "late"}' >/dev/null
	wait_for 30 test ! -e "$devices/$pair_b"
}
a_disk='"driver": "nvme", "serial": "late", "drive": "late_disk"'
the_disk() { local d=("$devices/$pair_b"/nvme/nvme*/nvme*n*); [ -e "${d[0]}" ] && echo "${d[0]##*/}"; }
has_disk() { [ -n "$(the_disk)" ]; }
swaps() { grep -q "^/dev/$1 " /proc/swaps; }

# A deny rule. The holder has the group attached, so the kernel binds no host driver to what comes.
cat >$policy <<POLICY
allow user alice claim address $pair_a
allow user alice claim address $pair_b
deny user alice claim class storage
POLICY
reload
set_mark
gpubroker watch --json >/tmp/events &
watcher=$!
before=$(wc -l </run/uevents)
rm -f /tmp/a1
run_as alice gpubroker run --gpu "$pair_a" -- /tests/holder "$pair_a" /tmp/a1 yields &
holder=$!
ok 'alice has one function of a group' wait_for 20 grep -q has /tmp/a1
plug "$a_disk"
ok 'a disk is plugged into the group' wait_for 30 test -e "$devices/$pair_b"
is "$(group_of "$pair_b")" "$(group_of "$pair_a")" '... the same group'
ok 'a rule denies it: the holder is asked for what she has' wait_for 20 grep -q asked /tmp/a1
wait $holder
ok '... which goes back' wait_for 20 is_back "$pair_a" gpubroker_test
ok 'the host gets its disk' wait_for 30 has_disk
is "$(driver_of "$pair_b"):$(override_of "$pair_b")" nvme: '... on its driver, without an override'
is "$(tail -n +"$before" /run/uevents >/tmp/a.uevents; bound "$pair_b" /tmp/a.uevents)" nvme '... and no other ever bound it'
ok 'the journal says why, and by which rule' \
	said_it "device=$pair_b .*rule=$policy:3 .*outcome=not-lent reason=\"a rule denies it\""
ok '... and that the lease was recalled' said_it 'outcome=recalled'
ok 'an event says why' wait_for 10 grep -q \
	'"event":"arrived"[^{]*"device":"'"$pair_b"'"[^{]*"reason":"a rule denies it"' /tmp/events || diag "$(cat /tmp/events)"
ok 'no record is left' wait_for 10 no_records
kill $watcher
wait $watcher 2>/dev/null
capture run_as alice gpubroker run --gpu "$pair_a" -- true
is $status 77 'a claim of the group is refused in the same way'
pull

# The host uses what came while the daemon was down. The holder has attached nothing, so the host's driver bound it.
cat >$policy <<POLICY
allow user alice claim address $pair_a
allow user alice claim address $pair_b
POLICY
reload
hold alice --gpu "$pair_a"
ok 'alice has the group and does not use it' wait_for 20 is_leased "$pair_a"
systemctl stop gpubroker.socket gpubroker
plug "$a_disk"
ok 'the daemon is down: the host gets the disk' wait_for 30 has_disk
disk=$(the_disk)
ok '... and uses it' sh -c "mkswap /dev/$disk && swapon /dev/$disk"
set_mark
systemctl start gpubroker.socket gpubroker
ok 'the daemon looks at the group, and says what is in use' \
	wait_for 20 said_it "device=$pair_b .*outcome=not-lent reason=\"the host is using it: disk $disk is on it\""
ok 'what alice has goes back' wait_for 20 is_back "$pair_a" gpubroker_test
is "$(driver_of "$pair_b")" nvme 'the disk stays with the host'
ok '... and in use' swaps "$disk"
swapoff "/dev/$disk"
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
holders=()
ok 'no record is left' wait_for 10 no_records
pull

# While a claim is under way: its first function hangs in the driver's remove.
hang remove "$pair_a"
run_as alice gpubroker run --gpu "$pair_a" -- true >/tmp/a.out 2>&1 &
claim=$!
ok 'a claim is under way' wait_for 8 sh -c "gpubroker leases | grep -q preparing"
plug '"driver": "pci-testdev"'
ok 'a function comes' wait_for 8 test -e "$devices/$pair_b"
hang remove
rc=0
wait $claim || rc=$?
is $rc 71 'the claim is refused'
like "$(cat /tmp/a.out)" 'a function has come into its IOMMU group meanwhile' '... with the reason'
ok 'both are the host'"'"'s' wait_for 20 is_back "$pair_a" gpubroker_test
ok '... the one that came too' wait_for 20 is_back "$pair_b" gpubroker_test
ok 'the next claim gets both' run_as alice gpubroker run --gpu "$pair_a" -- true
ok '... and gives them back' wait_for 20 is_back "$pair_b" gpubroker_test
ok 'no record is left' wait_for 10 no_records
pull

rm -f $policy /tmp/a1 /tmp/a.out /tmp/a.uevents /tmp/events
reload
rmmod gpubroker_test
done_testing
