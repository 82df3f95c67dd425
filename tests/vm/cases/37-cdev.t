#!/bin/bash
# VMMs that take their devices by iommufd: an unmodified QEMU that opens /dev/iommu and the devices' own nodes gets
# them, one that opens groups gets those, and one may be told numbers instead; the lease is over when the
# last descriptor is gone, whatever becomes of the daemon meanwhile; and one that is taken back does not wait for a
# command that has opened nothing.
. ./lib.sh
killed=$(killed)
. /tests/cdev.sh
needs cdevs

# By QEMU's own opens.
vm alice one --gpu 01:00.0 -- -m 64 -object iommufd,id=i -device vfio-pci,host=01:00.0,iommufd=i \
	-device vfio-pci,host=01:00.1,iommufd=i
ok 'an unmodified QEMU that uses iommufd starts' vm_up one
like "$(vm_devices one | xargs)" '1234:1111.*8086:2668' '... and has both functions'
is "$(nodes $vm_pid)" '1 /dev/iommu 2 /dev/vfio/devices/vfio' '... by /dev/iommu and their own nodes, not by the group'
is "$(stat -c '%U %a' "$(cdev_of $gpu)")" 'root 600' '... which still belong to root alone'
is "$(lease_state $gpu)" leased 'the lease is like any other'
capture run_as alice gpubroker run --gpu $gpu -- true
is $status 75 '... and nobody else gets the device'
systemctl kill -s KILL gpubroker
ok 'the daemon is killed and comes back' wait_for 30 is_state $gpu leased
sleep 3
is "$(lease_state $gpu)" leased '... and the lease is held all the while'
like "$(vm_devices one | xargs)" '1234:1111.*8086:2668' '... as is the device'
vm_end one
ok 'the host has the GPU back when the VM has ended' wait_for 30 is_back $gpu bochs-drm
ok '... its audio function and its record' wait_for 20 no_records

# By groups, on the same kernel.
vm alice two --gpu 01:00.0 -- -m 64 -device vfio-pci,host=01:00.0 -device vfio-pci,host=01:00.1
ok 'an unmodified QEMU that uses groups starts' vm_up two
is "$(nodes $vm_pid | sed 's/ anon.*//')" '1 /dev/vfio/ 1 /dev/vfio/vfio' '... and has the group alone'
sleep 2
is "$(lease_state $gpu)" leased 'its lease goes on, though nobody uses its nodes'
kill -KILL $vm_pid
wait $vm_pid 2>/dev/null
ok 'the host has the GPU back' wait_for 30 is_back $gpu bochs-drm
ok '... and no record' wait_for 20 no_records

# By number.
vm alice three --gpu 01:00.0 --qemu --iommufd -- -m 64
ok 'a QEMU that --qemu gives numbers to starts' vm_up three
# Behind a port they show when the firmware has been there.
three() { [[ $(vm_devices three | xargs) =~ 1234:1111.*8086:2668 ]]; }
ok '... and has both functions' wait_for 60 three
like "$(tr '\0' ' ' <"/proc/$vm_pid/cmdline")" '-object iommufd,id=gpubroker-iommufd0,fd=[0-9]+ .*vfio-pci,fd=[0-9]+,iommufd=gpubroker-iommufd0' \
	'... by its arguments'
vm_end three
ok 'the host has the GPU back' wait_for 30 is_back $gpu bochs-drm
wait_for 20 no_records
# shellcheck disable=SC2016 # for the user's shell
capture run_as alice gpubroker run --gpu $gpu2 --iommufd -- sh -c 'echo $GPUBROKER_IOMMUFD $GPUBROKER_CDEVS; ls -l /proc/self/fd'
like "$stdout" "^([0-9]+) $gpu2=[0-9]+
.* \1? ?" 'a command finds the numbers in its environment'
like "$stdout" '-> /dev/iommu' '... and the descriptors behind them'
wait_for 20 no_records

# One lease, one way.
talk a run_as alice gpubroker run --gpu $gpu2 -- python3 /tests/cdev.py
ok 'a process claims' wait_for 20 is_leased $gpu2
node=$(cdev_of $gpu2)
group=/dev/vfio/$(group_of $gpu2)
is "$(say a open i /dev/iommu) $(say a open d "$node") $(say a bind d i)" 'ok ok ok' 'it opens by iommufd and binds'
is "$(say a accounting i)" 'ok 0' 'no rule grants it locked memory, so its own is counted with all of its user'
is "$(say a open g "$group")" EBUSY '... and does not get the group as well'
like "$(cat /tmp/a.err)" "$gpu2 .* was opened in the other way already" '... which it is told'
is "$(say a open e "$node")" EBUSY 'nor the node again, which is bound'
quit a
ok 'its end is the end of the lease' wait_for 20 no_records
talk a run_as alice gpubroker run --gpu $gpu2 -- python3 /tests/cdev.py
ok 'another one' wait_for 20 is_leased $gpu2
is "$(say a open g "$group") $(say a open d "$(cdev_of $gpu2)")" 'ok EBUSY' 'who opens the group first does not get the node'
quit a
ok 'that too ends' wait_for 20 no_records

# What the command has not opened goes back at once when it is taken, and the command goes on.
lender() { lent=$(pgrep -nx gpubroker-lend); }
watches() { lender && ls -l "/proc/$lent/fd" | grep -q inotify; }
taken() {
	ok "$1: the host has it" wait_for 8 is_back $gpu2 bochs-drm
	is "$(say a open d "$node")" ENOENT '... while the command runs, which cannot open it any more'
	like "$(cat /tmp/a.err)" "$gpu2 .* is not opened again for process [0-9]+: it has been taken back" '... and is told why'
	quit a
}
lease_of() { gpubroker leases --json | python3 -c 'import json,sys; print(*[l["id"] for l in json.load(sys.stdin)])'; }
talk a run_as alice gpubroker run --gpu $gpu2 -- python3 /tests/cdev.py
ok 'a command that opens nothing has a device' wait_for 20 is_leased $gpu2
node=$(cdev_of $gpu2)
ok '... whose supervisor is told when it is taken' wait_for 20 watches || diag "$(lender; ls -l "/proc/$lent/fd")"
ok 'its user releases it' run_as alice gpubroker release "$(lease_of)"
taken released
talk a run_as alice gpubroker run --gpu $gpu2 -- python3 /tests/cdev.py
ok 'another one' wait_for 20 is_leased $gpu2
node=$(cdev_of $gpu2)
wait_for 20 watches
systemctl restart gpubroker
ok 'the broker is started again' wait_for 20 is_state $gpu2 leased
ok 'root revokes it' gpubroker revoke "$(lease_of)"
taken revoked
# As in a container, where the supervisor does not see the nodes of the host.
if [ "$AS_CONFINED" = selinux ]; then
	skip 'a command with a /dev of its own' 'SELinux lets nobody mount there'
else
	talk a unshare -m sh -c "mount -t tmpfs none /dev/vfio/devices && exec /tests/as alice unlimited gpubroker run --gpu $gpu2 -- python3 /tests/cdev.py"
	ok 'one with a /dev of its own' wait_for 20 is_leased $gpu2
	node=$(cdev_of $gpu2)
	ok 'root revokes that' gpubroker revoke "$(lease_of)"
	taken 'revoked, unseen'
fi
wait_for 20 no_records

# Whose limit.
echo "allow user alice claim address $gpu2 memlock 1G" >/etc/gpubroker/policy.d/37-memlock.policy
systemctl restart gpubroker
ok 'a rule grants locked memory' wait_for 20 run_as alice gpubroker list
talk a run_as alice gpubroker run --gpu $gpu2 -- python3 /tests/cdev.py
wait_for 20 is_leased $gpu2
is "$(say a open i /dev/iommu) $(say a accounting i)" 'ok ok 1' 'then it is counted by process, against the limit that was raised'
quit a
rm /etc/gpubroker/policy.d/37-memlock.policy
systemctl restart gpubroker
ok 'nothing is left' wait_for 20 no_records
is "$(killed)" "$killed" 'no process met its filter'
done_testing
