#!/bin/bash
# The system's libvirt, and driverctl, beside the broker: neither takes a card that is lent unseen, and what root does
# to a card during its lease is not undone at its end.
. ./lib.sh

command -v virsh >/dev/null || skip_all 'this host has no libvirt'
hook=/etc/libvirt/hooks/qemu.d/gpubroker
ids=/sys/bus/pci/drivers/vfio-pci
mine=/etc/gpubroker/policy.d/59-libvirt.policy
virsh() { command virsh -q -c qemu:///system "$@"; }
# node ADDRESS: libvirt's name of it.
node() { tr ':.' '__' <<<"pci_$1"; }
# machine NAME ADDRESS: defined, with the function by <hostdev>.
machine() {
	local d=${2%%:*} b=${2#*:} f=${2##*.}
	local s=${b#*:}
	b=${b%%:*} s=${s%.*}
	virsh define /dev/stdin <<-END
	<domain type='qemu'>
	  <name>$1</name>
	  <memory unit='MiB'>64</memory>
	  <os><type arch='x86_64' machine='q35'>hvm</type></os>
	  <devices>
	    <hostdev mode='subsystem' type='pci' managed='yes'>
	      <source><address domain='0x$d' bus='0x$b' slot='0x$s' function='0x$f'/></source>
	    </hostdev>
	  </devices>
	</domain>
	END
}
# let_go: the holder ends.
let_go() { kill "${holders[@]}"; wait "${holders[@]}" 2>/dev/null; holders=(); }
# holds ADDRESS KIND ARGUMENT...: alice has what the arguments name, and a device of it open.
holds() {
	rm -f /tmp/holder.said
	run_as alice gpubroker run "${@:3}" -- /tests/holder "$1" /tmp/holder.said "$2" >/tmp/holder.log 2>&1 &
	holders+=($!)
	wait_for 20 grep -q has /tmp/holder.said || diag "$(cat /tmp/holder.log)"
}
# is_over ADDRESS DRIVER OVERRIDE: the lease is, and the function has these.
is_over() { is_free "$1" && [ "$(driver_of "$1") $(override_of "$1")" = "$2 $3" ]; }

like "$(gpubroker doctor | tr -s ' \n' ' ')" "WARN libvirt: the system's libvirt does not ask the broker.*'install -D [^ ]*/libvirt-hook $hook'" 'doctor says that the hook is missing'
install -D /usr/share/gpubroker/libvirt-hook $hook
systemctl restart libvirtd.service
unlike "$(gpubroker doctor | tr -s ' \n' ' ')" 'WARN libvirt' '... and nothing once it is there'

# libvirt asks.
hold alice --gpu $gpu2
ok 'alice has a card' wait_for 20 is_leased $gpu2
machine thief $gpu2 >/dev/null
capture virsh start thief
is "$status" 1 'a machine of the system does not start with a card that is lent'
like "$stderr" "gpubroker: $gpu2 is lent to alice \(lease [0-9]+\), so thief cannot have it" '... and libvirt says to whom'
ok '... and alice has it' is_leased $gpu2
systemctl stop gpubroker.socket gpubroker.service
capture virsh start thief
like "$stderr" "thief wants $gpu2, and it cannot be asked what is lent: .*no broker answers" 'nor with one on record, while no broker answers'
systemctl start gpubroker.socket gpubroker.service
ok '... which the next broker has' wait_for 20 is_leased $gpu2

# A holder that has not opened it.
ok 'virsh nodedev-reattach takes at once what nobody has open' timeout 180 /usr/bin/virsh -q -c qemu:///system nodedev-reattach "$(node $gpu2)"
ok '... and the lease is over with that, though its command runs' wait_for 20 is_over $gpu2 bochs-drm ''
ok '... on' alive "${holders[0]}"
let_go

# A holder that has no guest to ask: libvirt waits for it.
holds $gpu2 keeps --gpu 02:00.0
virsh nodedev-reattach "$(node $gpu2)" >/tmp/taker.log 2>&1 &
taker=$!
is_waited_for() { gpubroker leases | grep -q "$gpu2 is being taken from this lease"; }
ok 'while virsh nodedev-reattach waits for the holder, leases says so' wait_for 30 is_waited_for
ok '... and the lease goes on' is_leased $gpu2
let_go
wait $taker || diag "$(cat /tmp/taker.log)"
ok '... to its end, when the host has the card' wait_for 20 is_over $gpu2 bochs-drm ''

# A guest that gives it up when it is asked, as an operating system does.
cp /tests/nested.elf /tmp/nested.elf
# guest TEST: alice's machine has the card, and its guest runs. It may wait, since the broker asks only every few
# seconds whether another program has a card still.
guest() {
	rm -f /tmp/guest.serial
	vm alice guest --gpu 02:00.0 --wait=60s -- -m 64 -serial file:/tmp/guest.serial -kernel /tmp/nested.elf -append yield \
		-device pcie-root-port,id=rp,slot=1 -device vfio-pci,host=02:00.0,bus=rp
	ok "$1" vm_up guest
	ok '... and its guest runs' wait_for 60 grep -q END /tmp/guest.serial
}
guest 'a machine has the card'
set_mark
ok 'virsh nodedev-reattach takes it for the host' virsh nodedev-reattach "$(node $gpu2)"
ok '... which has it' wait_for 20 has_driver $gpu2 bochs-drm
like "$(gpubroker leases)" "$gpu2 was taken from this lease, and not by the broker: bochs-drm has it" '... and leases says so'
like "$(gpubroker leases --json | tr -d ' \n')" "\"taken\":\[\{\"device\":\"$gpu2\",\"driver\":\"bochs-drm\"\}\]" '... as JSON too'
ok '... and the journal' wait_for 20 said_it "device=$gpu2 .*outcome=taken-away reason=\"not by the broker"
vm_end guest
ok '... and the lease ends with the machine' wait_for 20 is_over $gpu2 bochs-drm ''

# A free card is libvirt's, and then not the broker's.
ok 'the machine starts once the card is free' virsh start thief
refused alice 75 "$gpu2 is in use by somebody else" 'a card that libvirt has is not lent' --gpu $gpu2
ok 'the machine ends' virsh destroy thief
ok '... and its card goes back' wait_for 20 is_over $gpu2 bochs-drm ''
virsh undefine thief

# driverctl, while a card is lent: it has done its work before the lease ends, or waits for the holder until then.
guest 'a machine has the card again'
ok 'driverctl gives it to VFIO for good' driverctl set-override $gpu2 vfio-pci
echo 1234 1111 >$ids/remove_id # which it has added
vm_end guest
ok '... and the end of the lease does not take that back' wait_for 20 is_over $gpu2 vfio-pci vfio-pci
# driverctl_waits ARGUMENT...: runs it in the background while alice has the card open, and then ends alice's lease.
driverctl_waits() {
	holds $gpu2 keeps --gpu 02:00.0
	timeout 300 driverctl "$@" >/tmp/taker.log 2>&1 &
	taker=$!
	wait_for 30 is_waited_for || return 1
	let_go
	wait $taker || { cat /tmp/taker.log; return 1; }
}
driverctl_waits unset-override $gpu2 || diag 'driverctl failed'
ok 'driverctl takes that back, and the end of the lease does not bring it again' wait_for 20 is_over $gpu2 bochs-drm ''
driverctl_waits set-override $gpu2 none || diag 'driverctl failed'
ok 'driverctl keeps all drivers from it, also after the lease' wait_for 20 is_over $gpu2 '' none
driverctl unset-override $gpu2
ok '... until it is told otherwise' wait_for 20 has_driver $gpu2 bochs-drm
driverctl_waits set-override $gpu2 vfio-pci || diag 'driverctl failed'
echo 1234 1111 >$ids/remove_id
ok 'what driverctl waited for, it has as it wanted' wait_for 40 is_over $gpu2 vfio-pci vfio-pci
driverctl unset-override $gpu2
ok '... and gives back' wait_for 20 has_driver $gpu2 bochs-drm

# Of a group whose holder goes on. The kernel binds a host driver to none of it before that ends.
holds $gpu_audio keeps --gpu 01:00.0
virsh nodedev-reattach "$(node $gpu)" >/tmp/taker.log 2>&1
is "$(driver_of $gpu)$(override_of $gpu)" '' 'a card is taken whose audio function is in use, and no driver may have it' || diag "$(cat /tmp/taker.log)"
let_go
ok '... before the lease is over' wait_for 20 is_over $gpu bochs-drm ''
ok '... with the audio function' wait_for 20 is_back $gpu_audio snd_hda_intel
holds $gpu_audio keeps --gpu 01:00.0
ok 'driverctl gives a card to VFIO whose audio function is in use' driverctl set-override $gpu vfio-pci
echo 1234 1111 >$ids/remove_id
systemctl restart gpubroker
ok '... and the broker is started again' wait_for 20 is_leased $gpu
let_go
ok '... which knows at the end of the lease that it stays there' wait_for 40 is_over $gpu vfio-pci vfio-pci
driverctl unset-override $gpu
ok '... until it is taken back' wait_for 20 has_driver $gpu bochs-drm

# A card that was prepared.
echo "allow user alice claim address $prep_twin" >$mine
reload
holds $prep_twin keeps --gpu $prep_twin
virsh nodedev-reattach "$(node $prep_twin)" >/tmp/taker.log 2>&1 &
taker=$!
wait_for 30 test ! -e /sys/bus/pci/devices/$prep_twin/driver
let_go
wait $taker || diag "$(cat /tmp/taker.log)"
ok 'virsh nodedev-reattach gives a prepared card to the host, and the end of its lease leaves it there' wait_for 20 is_over $prep_twin bochs-drm ''
rm $mine
reload
ok '... until the policy is loaded again' wait_for 20 is_over $prep_twin vfio-pci vfio-pci
rm -r $hook /tmp/taker.log /tmp/nested.elf /tmp/guest.serial /tmp/holder.*
done_testing
