#!/bin/bash
# Machines of qemu:///session, made by Debian's libvirt from the examples: gpubroker-qemu answers libvirt, claims what
# the machine names, and is QEMU from then on.
. ./lib.sh
. /tests/libvirt.sh

# starts NAME REGEX TEST: libvirt does not start it, and shows this.
start_fails() {
	capture virsh start "$1"
	is "$status" 1 "$3"
	like "$stderr" "$2" '... and libvirt shows why'
}

# More than once: libvirt waits for an answer of QEMU's for a while only.
asks() { capture virsh domcapabilities --emulatorbin /usr/bin/gpubroker-qemu --virttype qemu; return "$status"; }
wait_for 60 asks
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
define libvirt other "s/0000:01:00.0/$gpu2/; $alone" >/dev/null
waits() { gpubroker leases --waiting | grep -q "alice.*$gpu2"; }
waits_not() { ! waits; }
virsh start other >/tmp/start.log 2>&1 &
start=$!
ok 'but it waits in the queue if it is to' wait_for 30 waits
ok '... and may be destroyed meanwhile' virsh destroy other
wait $start
ok '... which ends the claim' wait_for 20 waits_not
virsh start other >/tmp/start.log 2>&1 &
start=$!
ok 'one waits again' wait_for 30 waits
kill "${holders[@]}"
wait $start
is $? 0 '... and starts when its turn has come' || diag "$(cat /tmp/start.log)"
ok '... with the card' is_leased $gpu2

# What ends around the two machines.
end_session -KILL
ok "libvirt's daemon is killed, and the machines go on" alive "$pid"
begin_session
is "$(virsh list --name | sort | xargs)" 'lent other' '... which the next one finds'
systemctl restart gpubroker
ok 'the broker is started again, and the leases are there' is_leased $gpu
ok '... both' is_leased $gpu2
ok 'one is destroyed' virsh destroy lent
ok '... and its card goes back' wait_for 20 is_back $gpu bochs-drm
ok '... and the other machine goes on' in_state other running
ok 'it ends too' virsh destroy other
ok '... and its card goes back' wait_for 20 is_back $gpu2 bochs-drm

# Where Yama restricts ptrace, as on Ubuntu, the process that libvirt knows is the one that waits for QEMU.
scope=$(cat /proc/sys/kernel/yama/ptrace_scope)
echo 1 >/proc/sys/kernel/yama/ptrace_scope
ok 'under Yama a machine starts too' virsh start other
ok '... with its card' is_leased $gpu2
is "$(cat "/proc/$(pid_of other)/comm")" gpubroker '... though QEMU is not the process that libvirt started'
is "$(functions other)" 1234:1111 '... and the machine has it'
ok '... and is destroyed' virsh destroy other
ok '... and the card goes back' wait_for 20 is_back $gpu2 bochs-drm
echo "$scope" >/proc/sys/kernel/yama/ptrace_scope

# <hostdev>, for a prepared card. libvirt sets the limit of locked memory itself, before it executes anything.
end_session
needed=$(((64 + 1024) << 20))
MEMLOCK=8M begin_session
MEMLOCK=8M define libvirt-hostdev prepared >/dev/null
start_fails prepared 'cannot limit locked memory' 'a session that may lock little cannot start a <hostdev>'
like "$(MEMLOCK=8M run_as alice gpubroker doctor | tr -s ' \n' ' ')" "qemu:///session fails with 'cannot limit locked memory'.*limits.d" '... as doctor says, with what helps'
end_session
MEMLOCK=$needed begin_session
ok 'with the memory of the machine and 1 GiB' virsh start prepared || diag "$(cat ~alice/.cache/libvirt/qemu/log/prepared.log)"
ok '... it starts with the prepared card' is_leased $prep_gpu
is "$(functions prepared)" '1234:1111 8086:293e' '... which the machine has'
ok '... and is destroyed' virsh destroy prepared
ok '... and the card stays prepared' wait_for 20 is_back $prep_gpu vfio-pci

# Without a broker. The environment leads nowhere else: libvirt takes PATH over from whoever starts its daemon, which
# itself asks the QEMUs there.
end_session
mkdir -p /tmp/evil
printf '#!/bin/sh\n: >/tmp/was-here\n' >/tmp/evil/gpubroker
printf '#!/bin/sh\nexit 1\n' >/tmp/evil/qemu-system-x86_64
chmod 755 /tmp/evil/*
virsh() { run_as alice env XDG_RUNTIME_DIR=$run PATH=/tmp/evil:/usr/bin virsh -q -c qemu:///session "$@"; }
begin_session
systemctl stop gpubroker.socket gpubroker.service
start_fails lent 'no broker answers' 'without a broker a machine with a device does not start'
define libvirt plain '/<qemu:commandline/,/<.qemu:commandline/d' >/dev/null
ok '... and one without a device does' virsh start plain
is "$(readlink "/proc/$(pid_of plain)/exe")" /usr/bin/qemu-system-x86_64 '... by QEMU, not by one of PATH'
ok '... and ends' virsh destroy plain
ok '... nor was the gpubroker of PATH executed' test ! -e /tmp/was-here
systemctl start gpubroker.socket gpubroker.service
end_libvirt lent other prepared plain
rm -rf /tmp/evil /tmp/start.log
done_testing
