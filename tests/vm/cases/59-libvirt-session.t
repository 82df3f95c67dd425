#!/bin/bash
# A machine of qemu:///session, made by Debian's libvirt from the examples: gpubroker-qemu answers libvirt, claims what
# the machine names, and is QEMU from then on. 59-libvirt-two and 59-libvirt-hostdev have more of it.
. ./lib.sh
. /tests/libvirt.sh

is "$status" 0 'libvirt asks gpubroker-qemu what QEMU can do' || diag "$stderr"
like "$stdout" '<enum name=.capsType.>|<hostdev supported=.yes.>' '... and is answered by QEMU'

ok 'the example for any device is defined' define libvirt lent
ok '... and starts' virsh start lent || diag "$(cat ~alice/.cache/libvirt/qemu/log/lent.log)"
ok '... with the card and its audio function in one lease' is_leased $gpu
is "$(gpubroker leases | awk '/^[0-9]/ { print NF - 6 }')" 2 '... and nothing else'
is "$(functions lent)" '1234:1111 8086:2668' '... which the machine has'
pid=$(pid_of lent)
is "$(readlink /proc/"$pid"/exe)" /usr/bin/qemu-system-x86_64 'the process that libvirt started is QEMU'
capture virsh event lent reboot --timeout 120
is "$status" 0 'its guest reboots'
ok 'it is suspended' virsh suspend lent
ok '... as libvirt says' in_state lent paused
ok '... and resumed' virsh resume lent
ok '... as it says' in_state lent running

# Another machine, whose device is not lent to this user, and then one that is.
define libvirt other "s/0000:01:00.0/$disk/; $alone" >/dev/null
start_fails other "gpubroker: .*$disk" 'a machine with a device that no rule allows does not start'
ok '... and has changed nothing' has_driver $disk nvme
define libvirt other "s/0000:01:00.0/$gpu2/; s/host=0000:01:00.1/host=$gpu2/" >/dev/null
start_fails other 'already attached|Duplicate' 'a machine with a device twice is refused by QEMU'
ok '... and the device goes back' wait_for 20 is_back $gpu2 bochs-drm
define libvirt other "s/0000:01:00.0/$gpu2/; $alone; /GPUBROKER_WAIT/d" >/dev/null
hold carol --gpu $gpu2
ok 'carol has the other card' wait_for 20 is_leased $gpu2
start_fails other "gpubroker: $gpu2 is leased to carol" 'a machine whose device is lent does not start'

ok 'the first is destroyed' virsh destroy lent
ok '... and its card goes back' wait_for 20 is_back $gpu bochs-drm
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok '... and the card that was lent, with its lease' wait_for 20 is_back $gpu2 bochs-drm
end_libvirt lent other
done_testing
