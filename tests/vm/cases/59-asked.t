#!/bin/bash
# What root does by driverctl and libvirt to a card whose holder the broker has asked for it: when the holder lets go
# the card is as root would have it. They have done their work by then, or wait in the kernel for the card's lock.
. ./lib.sh

command -v virsh >/dev/null || skip_all 'this host has no libvirt'
ids=/sys/bus/pci/drivers/vfio-pci
mine=/etc/gpubroker/policy.d/59-asked.policy
# node ADDRESS: libvirt's name of it.
node() { tr ':.' '__' <<<"pci_$1"; }
# is_over ADDRESS DRIVER OVERRIDE: the lease is, and the function has these.
is_over() { is_free "$1" && [ "$(driver_of "$1") $(override_of "$1")" = "$2 $3" ]; }
number_of() { gpubroker leases --json | python3 -c 'import json, sys
print(*[l["id"] for l in json.load(sys.stdin) if sys.argv[1] in l["devices"]])' "$1"; }
is_asked() { gpubroker leases --json | grep -q '"state": *"asked"'; }
# waits_for_lock: the taker waits in the kernel for the broker's worker, which waits there for the holder.
waits_for_lock() { [ "$(state "$(pgrep -P $taker)")" = D ] && grep -q new_id_store "/proc/$(pgrep -P $taker)/stack"; }
# has_done: the taker has ended, which a kernel lets it whose driver_override has a lock of its own, or waits as well.
has_done() { gone $taker || [ "$(state "$(pgrep -P $taker)")" = D ]; }
# meanwhile CONDITION ADDRESS COMMAND...: alice has the card and is asked for it. Then root executes the command, and she
# lets go when it has come as far as CONDITION.
meanwhile() {
	local until=$1
	shift
	rm -f /tmp/holder.said
	run_as alice gpubroker run --gpu "$1" -- /tests/holder "$1" /tmp/holder.said keeps >/tmp/holder.log 2>&1 &
	holders+=($!)
	wait_for 40 grep -q has /tmp/holder.said || diag "$(cat /tmp/holder.log)"
	# It says after a while that the holder has it still.
	run_as alice gpubroker release "$(number_of "$1")" 2>/dev/null
	ok "$1: its holder is asked for it" wait_for 40 is_asked || diag "$(gpubroker leases)"
	timeout 300 "${@:2}" >/tmp/taker.log 2>&1 &
	taker=$!
	ok "... and '${*:2}' meanwhile" wait_for 40 "$until" || diag "$(cat /tmp/taker.log)"
	kill "${holders[@]}"
	wait "${holders[@]}" 2>/dev/null
	holders=()
	wait $taker || diag "$(cat /tmp/taker.log)"
}

meanwhile waits_for_lock $gpu2 driverctl set-override $gpu2 vfio-pci
echo 1234 1111 >$ids/remove_id # which it has added
ok 'driverctl gives it to VFIO, and there it stays after the lease' wait_for 40 is_over $gpu2 vfio-pci vfio-pci
driverctl unset-override $gpu2
ok '... until it is taken back' wait_for 20 has_driver $gpu2 bochs-drm
meanwhile has_done $gpu2 driverctl set-override $gpu2 none
ok 'driverctl keeps all drivers from it, also after the lease' wait_for 40 is_over $gpu2 '' none
driverctl unset-override $gpu2
ok '... until it is told otherwise' wait_for 20 has_driver $gpu2 bochs-drm
meanwhile has_done $gpu2 virsh -q -c qemu:///system nodedev-reattach "$(node $gpu2)"
ok 'virsh nodedev-reattach gives it to the host' wait_for 40 is_over $gpu2 bochs-drm ''

# A card that was prepared, so that the end of its lease would put it on VFIO.
echo "allow user alice claim address $prep_twin" >$mine
reload
meanwhile has_done $prep_twin virsh -q -c qemu:///system nodedev-reattach "$(node $prep_twin)"
ok '... and a prepared card as well' wait_for 40 is_over $prep_twin bochs-drm ''
rm $mine
reload
ok '... until the policy is loaded again' wait_for 20 is_over $prep_twin vfio-pci vfio-pci
rm -f /tmp/taker.log /tmp/holder.*
done_testing
