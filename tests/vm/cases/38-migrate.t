#!/bin/bash
# A running machine goes from one lease to another, both through the broker: a lease says whether its device can be
# migrated, and the kernel's sample serial card, which can, comes along with what was in it.
. ./lib.sh
killed=$(killed)
needs mdevs

modprobe mtty
bus=/sys/bus/mdev/devices
cat >/etc/gpubroker/policy.d/38-migrate.policy <<-END
	allow user alice claim profile mtty-2
END
# That parent is there now, so that Landlock knows it.
systemctl restart gpubroker
ok 'the daemon is back with the new policy' systemctl is-active gpubroker
# Where a kernel has no iommufd a driver that says that it logs what is written cannot tell: then QEMU is to
# take all memory for written.
tracking=''
kernel_has cdevs || tracking=,x-device-dirty-page-tracking=off
none() { [ -z "$(ls $bus)" ] && no_records; }
# begin NAME QEMU's options: a machine with a card.
begin() {
	local name=$1
	shift
	rm -f "/tmp/$name.qmp"
	# shellcheck disable=SC2016 # for the user's shell
	run_as alice gpubroker run --gpu mtty --profile mtty-2 -- sh -c 'echo "$GPUBROKER_MIGRATION"
		exec qemu-system-x86_64 -device vfio-pci,enable-migration=on,sysfsdev=/sys/bus/mdev/devices/$GPUBROKER_MDEV'"$tracking"' "$@"' \
		sh -nodefaults -display none -M q35 -cpu max -accel tcg -m 64 \
		-qmp "unix:/tmp/$name.qmp,server=on,wait=off" "$@" >"/tmp/$name.log" 2>&1 </dev/null &
	vm_pid=$!
}
hmp() { qmp "$1" human-monitor-command "{\"command-line\":\"$2\"}" | tr -d '"\\'; }
# card NAME: where the machine's firmware has put the card's ports.
card() { hmp "$1" 'info pci' | grep -oE 'BAR0: I/O at 0x[0-9a-f]+' | grep -oE '0x[0-9a-f]+'; }
has_ports() { [ -n "$(card "$1")" ]; }

begin from
from=$vm_pid
ok 'a machine with a card starts' vm_up from
ok '... and its firmware finds the card' wait_for 60 has_ports from
like "$(gpubroker leases --json | tr -d ' \n')" '"can_migrate":true' 'its lease says that it can be migrated'
like "$(gpubroker leases)" 'can be migrated with its virtual machine' '... in words too'
is "$(head -n 1 /tmp/from.log)" yes '... and so its VMM was told'
port=$(card from)
scratch=$(printf '0x%x' $((port + 7)))
hmp from "o /b $scratch 0x5a" >/dev/null
like "$(hmp from "i /b $scratch")" '= 0x5a' 'something is put into the card'
begin to -incoming unix:/tmp/migrate.sock
to=$vm_pid
ok 'another one waits, with a card of its own' vm_up to
is "$(ls $bus | wc -l) $(gpubroker leases --json | grep -c '"id"')" '2 2' '... by another lease'
qmp from migrate '{"uri":"unix:/tmp/migrate.sock"}' >/dev/null
status() { qmp "$1" query-status | grep -o '"status": "[a-z-]*"' | cut -d'"' -f4; }
over() { [ "$(status from)" = postmigrate ] && [ "$(status to)" = running ]; }
wait_for 90 over || diag "$(qmp from query-migrate; cat /tmp/from.log /tmp/to.log)"
ok 'the machine goes over' over
like "$(vm_devices to)" 4348:3253 '... and has its card there'
like "$(hmp to "i /b $scratch")" '= 0x5a' '... with what was in it'
qmp from quit >/dev/null
wait $from
left() { [ "$(ls $bus | wc -l)" = 1 ]; }
ok 'the card that it left is gone when its VMM is' wait_for 20 left
is "$(status to)" running '... and the machine goes on with the other'
systemctl restart gpubroker
ok 'a restart of the daemon' systemctl is-active gpubroker
like "$(gpubroker leases --json | tr -d ' \n')" '"can_migrate":true' '... forgets nothing of it'
vm_pid=$to
vm_end to
ok 'all are gone in the end' wait_for 20 none

# What is on vfio-pci cannot, and is not opened to be asked: that would reset it.
printf 'allow user alice claim any\n' >/etc/gpubroker/policy.d/38-migrate.policy
systemctl restart gpubroker
capture run_as alice gpubroker run --gpu $gpu2 -- sh -c 'echo "$GPUBROKER_MIGRATION"; gpubroker leases --json'
like "$(echo "$stdout" | tr -d ' \n')" '^no.*"can_migrate":false' 'a lease of a function on vfio-pci says that it cannot'
ok '... and it comes back' wait_for 20 is_back $gpu2 bochs-drm
is "$(killed)" "$killed" 'no process met its filter'
rm -f /etc/gpubroker/policy.d/38-migrate.policy /tmp/{from,to}.log /tmp/migrate.sock
systemctl restart gpubroker
modprobe -r mtty
done_testing
