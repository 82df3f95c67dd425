#!/bin/bash
# attach and detach: a QEMU that runs, started without a word of the broker, gets a device over its monitor, and gives
# it back; the lease is QEMU's. What goes wrong leaves nothing behind. Only where there is iommufd.
. ./lib.sh
killed=$(killed)
. /tests/cdev.sh
needs cdevs
cp /tests/nested.elf /tmp/nested.elf

# attach USER NAME ARGUMENT..., detach: of the QEMU that vm() has started by that name.
attach() { capture timeout 120 /tests/as "$1" unlimited gpubroker attach --qmp "/tmp/$2.qmp" "${@:3}"; }
detach() { capture timeout 120 /tests/as "$1" unlimited gpubroker detach --qmp "/tmp/$2.qmp" "${@:3}"; }
# descriptors vfio-dev|vfio|iommu: how many devices' nodes, groups or iommufds the QEMU has open. By number, since
# a name goes with the mount of the daemon that has opened it.
descriptors() {
	local number
	case $1 in
	iommu) number=$(stat -c '%t:%T$' /dev/iommu) ;;
	*) number=$(awk -v kind="$1" '$2 == kind { printf "%x:", $1 }' /proc/devices) ;;
	esac
	stat -Lc '%t:%T' "/proc/$vm_pid/fd"/* 2>/dev/null | grep -c "^${number:-none}"
}
# guest_boots NAME: its kernel has come up.
guest_boots() { wait_for 90 grep -q END "/tmp/$1.serial"; }
# peripherals NAME: ids of QEMU's devices that are ours.
peripherals() {
	qmp "$1" qom-list '{"path":"/machine/peripheral"}' | python3 -c 'import json, sys
print(*sorted(p["name"] for p in json.load(sys.stdin) if p["name"].startswith("gpubroker-")))'
}
lease_of() { gpubroker leases --json | python3 -c 'import json,sys; print(*[l["id"] for l in json.load(sys.stdin)])'; }
# untouched NAME: what was refused has left the host its GPU, and QEMU as it was.
untouched() {
	is "$(driver_of $gpu) $(lease_of)" 'bochs-drm ' "$1: the host has its GPU, and there is no lease"
	is "$(descriptors vfio-dev) $(descriptors vfio) $(descriptors iommu)" '0 0 0' "$1: QEMU has no descriptor"
}

vm alice plug -m 64 -serial file:/tmp/plug.serial -kernel /tmp/nested.elf -append yield \
	-device pcie-root-port,id=rp1,chassis=1,slot=1 -device pcie-root-port,id=rp2,chassis=2,slot=2
ok 'a QEMU of her own runs' vm_up plug
ok '... with its guest' guest_boots plug

# What is known before is refused before.
attach alice plug --port rp9 01:00.0
is $status 78 'a port that QEMU does not have is refused'
like "$stderr" "no free root port 'rp9'; one that it has: rp1; nothing was claimed" '... with one that it has'
attach carol plug 02:00.0
is $status 77 "another user's QEMU is refused" || diag "$stderr"
chmod 666 /tmp/plug.qmp
# Where commands are confined these two are not: SELinux would keep them from the socket, by its categories.
AS_CONFINED='' attach carol plug 02:00.0
is $status 77 '... where its socket is open to all, too'
like "$stderr" 'runs as uid [0-9]+, .*; nothing was claimed' '... in a sentence'
AS_CONFINED='' attach root plug 02:00.0
is $status 77 "... by root as well, whose lease it would be"
attach alice plug 02:00.9
is $status 64 'what is no device is refused'
attach alice plug $prep_twin
isnt $status 0 'so is a device that she may not have'
untouched 'refused'

# The card and its audio function.
attach alice plug 01:00.0
is $status 0 'alice attaches a card' || diag "$stderr"
is "$stderr" '' '... of which there is nothing to say'
is "$(lease_state $gpu)" leased 'there is a lease'
id=$(lease_of)
is "$(peripherals plug)" "gpubroker-$id-0000-01-00.0 gpubroker-$id-0000-01-00.1" 'QEMU has both functions'
like "$(vm_devices plug | xargs)" '1234:1111 8086:2668' '... in one slot behind a port'
like "$(tr '\r\n' '  ' </tmp/plug.serial)" 'PLUGGED 1234:1111 +PLUGGED 8086:2668' '... which the guest uses'
is "$(descriptors vfio-dev) $(descriptors iommu)" '2 1' 'QEMU has two nodes and one iommufd'
is "$(descriptors vfio)" 0 '... and no group'
capture run_as alice gpubroker run --gpu 01:00.0 -- true
is $status 75 'nobody gets the card a second time'
attach alice plug 01:00.0
is $status 75 'it cannot be attached twice'
like "$stderr" "has $gpu already, by lease $id" '... which is said'
systemctl kill -s KILL gpubroker
ok 'the daemon is killed and comes back' wait_for 30 is_state $gpu leased

# A second device, behind the port that is left.
attach alice plug 02:00.0
is $status 0 'she attaches a second card' || diag "$stderr"
is "$(descriptors vfio-dev) $(descriptors iommu)" '3 1' '... by the same iommufd' || diag "$(ls -l "/proc/$vm_pid/fd")"
attach alice plug any
is $status 78 'a third has no port'
like "$stderr" "each of QEMU's 2 root ports has a device; .*pcie-root-port" '... and the answer says how there would be one'
detach alice plug any
is $status 64 'which of two is to be detached is not guessed'
like "$stderr" "it has .*$gpu" '... and those that there are are named'

detach alice plug 01:00.0
is $status 0 'she detaches the first' || diag "$stderr"
like "$(cat /tmp/plug.serial)" YIELD '... for which the guest was asked'
ok '... and the host has it back' wait_for 5 is_back $gpu bochs-drm
ok '... with its audio function' has_driver $gpu_audio snd_hda_intel
is "$(lease_state $gpu2)" leased 'the second lease goes on'
detach alice plug 01:00.0
is $status 66 'what is detached cannot be detached again'
like "$stderr" "no device 01:00.0 that was attached; it has $gpu2" '... and the answer says what can'
capture run_as alice gpubroker run --gpu 01:00.0 -- true
is $status 0 'the first can be had by another program at once'
wait_for 20 is_back $gpu bochs-drm
for round in 1 2 3; do
	attach alice plug 01:00.0
	is $status 0 "round $round: attached again" || diag "$stderr"
	detach alice plug $gpu_audio
	is $status 0 "round $round: detached, by the audio function's address" || diag "$stderr"
done
is "$(descriptors vfio-dev) $(descriptors iommu)" '1 1' 'however often, QEMU keeps no descriptor of them'
detach alice plug any
is $status 0 'any is the one that is left'
ok 'nothing is left' wait_for 5 no_records

# Taken back by the broker, as from a QEMU that has had it from the start.
attach alice plug 01:00.0
is $status 0 'attached for another end'
ok '... which is a release' run_as alice gpubroker release "$(lease_of)"
is "$(peripherals plug)" '' '... for which QEMU has unplugged it'
ok '... and the host has it back' wait_for 20 is_back $gpu bochs-drm

# What goes wrong in between: QEMU does not take the device.
taken() { qmp plug device_add "{\"driver\":\"e1000\",\"bus\":\"$1\",\"id\":\"taken-$1\"}"; }
ok "a port gets a device of QEMU's" taken rp1
attach alice plug --port rp1 01:00.0
is $status 78 'a port that is taken is refused'
attach alice plug 01:00.0
is $status 0 '... and without a word the other one is found'
detach alice plug 01:00.0
is $status 0 '... and given back'

# The VM ends.
attach alice plug 01:00.0
is $status 0 'once more'
vm_end plug
ok 'with the VM the lease ends' wait_for 30 is_back $gpu bochs-drm
ok '... and its record' wait_for 20 no_records

# A monitor that another client has, and what is none.
vm alice plug -m 64 -S -device pcie-root-port,id=rp1 -monitor unix:/tmp/plug.hmp,server=on,wait=off
ok 'a paused QEMU' vm_up plug
run_as alice python3 -c 'import socket, time
s = socket.socket(socket.AF_UNIX); s.connect("/tmp/plug.qmp"); s.recv(100); print("has it", flush=True); time.sleep(1000)' \
	>/tmp/plug.busy &
busy=$!
ok 'another client has its monitor' wait_for 20 grep -q 'has it' /tmp/plug.busy
attach alice plug 01:00.0
is $status 75 'a monitor that has a client is told from one that answers'
like "$stderr" 'another client has it.*A second monitor helps.*nothing was claimed' '... and what helps'
kill $busy
wait $busy 2>/dev/null
capture timeout 60 /tests/as alice unlimited gpubroker attach --qmp /tmp/plug.hmp 01:00.0
is $status 76 "QEMU's monitor for people is told from QMP"
untouched 'no monitor'
attach alice plug 01:00.0
is $status 0 'a paused guest gets a device'
like "$stderr" 'the guest is paused, and finds it when it goes on' '... which is said'
vm_end plug
ok 'the host has it back' wait_for 30 is_back $gpu bochs-drm
wait_for 20 no_records

# Locked memory is the running QEMU's.
MEMLOCK=8M vm alice plug -m 64 -S -device pcie-root-port,id=rp1
ok 'a QEMU that may lock 8 MiB' vm_up plug
attach alice plug 01:00.0
is $status 77 '... gets no device for its 64 MiB'
like "$stderr" "QEMU \(pid $vm_pid\) may lock only 8M of memory, .* 64M of its guest .* one of 2G.*; nothing was claimed" \
	'... and the answer says how much it would need'
untouched 'too little memory'
vm_end plug

# ... and where the rest, as the firmware's memory, does not fit, QEMU fails in the middle.
MEMLOCK=64M vm alice plug -m 64 -S -device pcie-root-port,id=rp1
ok 'a QEMU that may lock just the memory of its guest' vm_up plug
attach alice plug 01:00.0
is $status 70 'QEMU cannot plug the card in'
like "$stderr" 'QEMU cannot plug the device: .*
.*the device goes back to the host$' '... which is said, and that it goes back'
ok '... and it does' wait_for 30 is_back $gpu bochs-drm
ok '... with its audio function' wait_for 20 has_driver $gpu_audio snd_hda_intel
is "$(peripherals plug) $(descriptors vfio-dev)" ' 0' '... and QEMU has nothing of it'
vm_end plug
ok 'no record is left of that' wait_for 20 no_records

# Machines without ports.
vm alice plug -M pc -m 64 -S
ok 'a machine without PCI Express' vm_up plug
attach alice plug 01:00.0
is $status 78 '... gets no device'
like "$stderr" 'no PCI Express root port .*-machine q35 .*pcie-root-port' '... and the answer says which would'
vm_end plug

# By a QEMU that `run` has started, which has a device by then.
vm alice plug --gpu 02:00.0 --qemu --iommufd -- -m 64 -S -device pcie-root-port,id=rp1
ok 'a QEMU below `run`' vm_up plug
attach alice plug 01:00.0
is $status 0 '... gets a second device' || diag "$stderr"
is "$(descriptors vfio-dev) $(descriptors iommu)" '3 1' '... by the iommufd that it has'
vm_end plug
ok 'the host has both back' wait_for 30 is_back $gpu bochs-drm
ok '... and no record' wait_for 20 no_records

is "$(killed)" "$killed" 'no process met its filter'
rm -f /tmp/nested.elf /tmp/plug.*
done_testing
