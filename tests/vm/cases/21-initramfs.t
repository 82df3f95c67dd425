#!/bin/bash
# The opt-in for an initramfs, by initramfs-tools. This host was booted by one that has it, made by
# 21-initramfs.initramfs: udev has what prepare rules name on vfio-pci before a driver of the host
# could see it, though that is loaded there.
. ./lib.sh

rules=/etc/udev/rules.d/69-gpubroker-prepare.rules
early=/run/uevents.initramfs
has() { grep -qE "$2" "/tests/made/$1.list"; }
hasnt() { ! has "$@"; }
said() { grep gpubroker "/tests/made/$1.err"; }

# What is in it.
ok 'an initramfs has the driver of the host' has without '/bochs\.ko'
ok '... and nothing that would prepare a device without the opt-in' hasnt without '/vfio|^etc/udev/rules.d/69'
is "$(said without)" '' '... of which the hook says nothing'
ok 'with the opt-in it has the udev rules' has with "^${rules#/}\$"
ok '... vfio-pci' has with '/vfio-pci\.ko'
ok '... and what applies the rules' has with '^scripts/init-top/gpubroker$'
is "$(said with)" '' '... and the hook has nothing to complain of'
ok 'stale rules are in it as well' has stale "^${rules#/}\$"
like "$(said stale)" 'is stale .*policy install.*update-initramfs -u' '... and the hook says so'

# What it did: what was bound until it ended, and in all.
cat $early /run/uevents.boot >/tmp/all
dmesg | sed '/the initramfs ends/q' >/tmp/dmesg
like "$(tail -n 1 /tmp/dmesg)" 'the initramfs ends' 'the kernel was booted by it'
for a in $boot_vga $gpu $gpu2; do
	is "$(bound "$a" $early)" bochs-drm "bochs-drm was in it and has bound $a"
done
ok "... by the kernel's log too" grep -qE "Initialized bochs-drm .* for $gpu " /tmp/dmesg
is "$(bound $prep_gpu $early)" vfio-pci 'vfio-pci has bound the prepared GPU in the initramfs'
is "$(bound $prep_gpu /tmp/all)" vfio-pci '... and nothing else has, then or later'
is "$(bound $prep_audio $early):$(bound $prep_audio /tmp/all)" vfio-pci:vfio-pci '... nor its audio'
is "$(bound $prep_twin $early):$(bound $prep_twin /tmp/all)" vfio-pci:vfio-pci \
	'... nor, of two identical cards, the one that is meant'
is "$(dmesg | grep -E "bochs-drm .* for ($prep_gpu|$prep_twin) ")" '' "the kernel's log has no bochs-drm for them"
is "$(driver_of $prep_gpu):$(driver_of $gpu)" vfio-pci:bochs-drm 'so it has stayed'
is "$(dmesg | grep -c 'gpubroker: udev runs already')" 0 "it was before udev's own script"
ok 'what was applied is what is installed' cmp $rules /run/gpubroker-initramfs.rules
is "$(journalctl -q -ugpubroker{,-load} -b -o cat | grep -cE 'outcome=prepared|stale')" 0 \
	'the daemon found nothing to take over, and nothing stale'

echo '# another' >>/run/gpubroker-initramfs.rules
systemctl kill -s HUP --kill-whom=main gpubroker
logged() { journalctl -q -b -ugpubroker{,-load} -o cat | grep -F 'initramfs of this boot used a stale copy'; }
ok 'the daemon notices a stale copy' wait_for 10 logged
ok 'no unit has failed' bash -c '! systemctl --failed --no-legend | grep .'
done_testing
