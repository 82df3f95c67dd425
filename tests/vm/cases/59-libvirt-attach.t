#!/bin/bash
# A machine of libvirt's that runs gets another card by attach, over a second monitor of its QEMU's, and libvirt goes on
# with it as before.
. ./lib.sh
. /tests/libvirt.sh

# By iommufd, or by the group where the kernel or QEMU has none.
# shellcheck disable=SC2154 # the library's
second=$run/second.qmp
spare="<qemu:arg value='-device'/><qemu:arg value='pcie-root-port,id=spare1,bus=pcie.0,addr=0x11,chassis=201'/>"
spare+="<qemu:arg value='-qmp'/><qemu:arg value='unix:$second,server=on,wait=off'/>"
attach() { capture timeout 200 /tests/as alice unlimited env XDG_RUNTIME_DIR="$run" gpubroker "$@"; }
define libvirt lent "s|<qemu:env|$spare<qemu:env|" >/dev/null
ok 'a machine with a second monitor starts' virsh start lent || diag "$(cat ~alice/.cache/libvirt/qemu/log/lent.log)"
attach attach --qmp $second --port spare1 02:00.0
is $status 0 '... and gets another card by that' || diag "$stderr"
ok '... which is lent' is_leased $gpu2
is "$(functions lent)" '1234:1111 1234:1111 8086:2668' '... and which the machine has beside the first'
attach attach --qmp "$(find ~alice/.config/libvirt $run -path '*-lent*' -name monitor.sock)" 02:00.0
is $status 75 "libvirt's own monitor is not free"
like "$stderr" 'as libvirt its own; .*A second monitor helps' '... as is said'
ok 'libvirt suspends the machine' virsh suspend lent
ok '... and resumes it' virsh resume lent
attach detach --qmp $second 02:00.0
is $status 0 'the card is detached' || diag "$stderr"
ok '... and the host has it back' is_back $gpu2 bochs-drm
is "$(functions lent)" '1234:1111 8086:2668' '... while the machine has the first'
ok '... which is lent still' is_leased $gpu
attach attach --qmp $second --port spare1 02:00.0
is $status 0 'a card is attached again' || diag "$stderr"
ok '... and the machine destroyed' virsh destroy lent
ok '... and the one card goes back' wait_for 20 is_back $gpu2 bochs-drm
ok '... and the other' wait_for 20 is_back $gpu bochs-drm
end_libvirt lent
done_testing
