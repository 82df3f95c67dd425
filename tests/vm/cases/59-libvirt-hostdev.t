#!/bin/bash
# Machines of qemu:///session with <hostdev>, as virt-manager adds it; below Yama; and without a broker.
. ./lib.sh
. /tests/libvirt.sh

# Where Yama restricts ptrace, as on Ubuntu, the process that libvirt knows is the one that waits for QEMU.
scope=$(cat /proc/sys/kernel/yama/ptrace_scope)
echo 1 >/proc/sys/kernel/yama/ptrace_scope
define libvirt other "s/0000:01:00.0/$gpu2/; $alone" >/dev/null
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
define libvirt lent >/dev/null
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
rm -rf /tmp/evil
done_testing
