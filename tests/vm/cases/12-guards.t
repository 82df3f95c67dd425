#!/bin/bash
# What is never lent, whatever the policy says; several groups in one claim; and
# the failure of one that puts all back.
. ./lib.sh

cat >/etc/gpubroker/policy.d/20-guards.policy <<-END
	allow user carol claim any
	device second address $gpu2
	device twins address $gpu
	device twins address $gpu2
	allow user carol claim address $boot_vga boot-vga
	deny user mallory claim any
END
systemctl restart gpubroker
ok 'the daemon is back with the new policy' systemctl is-active gpubroker

capture run_as carol gpubroker run --gpu $disk -- true
is $status 78 'a disk of the host is not lent, whatever the policy says'
like "$stderr" "$disk is in use by the host: disk nvme" '... and the answer names the disk'
if ! lacks 'a group with a network interface' e1000 bridge-groups; then
net=$(basename /sys/bus/pci/devices/$multi_net/net/*)
# set_up FLAG: IFF_UP of the interface, by ioctl.
set_up() {
	python3 - "$net" "$1" <<-'END'
		import fcntl, socket, struct, sys
		name, flag = sys.argv[1].encode(), int(sys.argv[2])
		fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", name, flag))
	END
}
set_up 1
capture run_as carol gpubroker run --gpu $multi_gpu -- true
is $status 78 'a group with a network interface that is up is not lent'
like "$stderr" "$multi_gpu is in use by the host: $multi_net: network interface $net is up" \
	'... and the answer names the interface'
set_up 0
capture run_as carol gpubroker run --gpu $multi_gpu -- readlink "/sys/bus/pci/devices/$multi_net/driver"
is $status 0 'once it is down, the group of two slots is lent'
like "$stdout" vfio-pci '... with the function of the other slot'
ok 'the network card is back' wait_for 20 is_back $multi_net e1000
ok '... and the GPU of its group' wait_for 20 is_back $multi_gpu bochs-drm
fi
capture run_as carol gpubroker run --gpu $boot_vga -- true
is $status 78 'the boot VGA is not lent without --force, even by a rule with boot-vga'
like "$stderr" 'add --force' '... and the answer says what it takes'
capture run_as carol gpubroker run --force --gpu $boot_vga -- readlink "/sys/bus/pci/devices/$boot_vga/driver"
is $status 0 'with rule and --force it is'
like "$stdout" vfio-pci '... and bound'
ok 'the boot VGA is back' wait_for 20 is_back $boot_vga bochs-drm

both='readlink /sys/bus/pci/devices/'$gpu'/driver /sys/bus/pci/devices/'$gpu2'/driver'
capture run_as carol gpubroker run --gpu $gpu --gpu second -- $both
is "$(echo "$stdout" | grep -c vfio-pci)" 2 'two groups come in one claim'
wait_for 20 is_back $gpu bochs-drm
wait_for 20 is_back $gpu2 bochs-drm
capture run_as carol gpubroker run --gpu twins --gpu twins -- $both
is "$(echo "$stdout" | grep -c vfio-pci)" 2 'the same name twice gives two devices'
wait_for 20 is_back $gpu bochs-drm
wait_for 20 is_back $gpu2 bochs-drm
capture run_as carol gpubroker run --gpu $gpu --gpu $gpu_audio --gpu "iommu-group:$(group_of $gpu)" -- true
is $status 0 'two functions of one group and the group itself are one claim'
wait_for 20 is_back $gpu bochs-drm

# A card of four functions, one of them without a driver: all go, all come back. Where a function has no group before it
# has had a driver, that one is not of the group, and stays as it is.
drivers() { for f in 0 1 2 3; do driver_of $quad.$f; done | xargs; }
before=$(drivers)
capture run_as carol gpubroker run --gpu $quad.0 -- sh -c \
	'for f in 0 1 2 3; do basename $(readlink /sys/bus/pci/devices/'$quad'.$f/driver); done'
of_group() { for f in 0 1 2 3; do [ ! -e "/sys/bus/pci/devices/$quad.$f/iommu_group" ] || echo vfio-pci; done | xargs; }
kernel_has early-groups && whole='vfio-pci vfio-pci vfio-pci vfio-pci' || whole=$(of_group)
is "$(echo $stdout)" "$whole" 'a card of four functions is lent whole'
wait_for 20 no_records
is "$(drivers)" "$before" '... and each function comes back to its own driver, or to none'
is "$(for f in 0 1 2 3; do override_of $quad.$f; done | xargs)" '' '... without an override'

# A holder of the second: the pair is refused, and the first is not touched.
run_as carol gpubroker run --gpu second -- sleep 1000 &
holder=$!
ok 'the second GPU is lent' wait_for 20 is_leased $gpu2
capture run_as carol gpubroker run --gpu $gpu --gpu $gpu2 -- true
is $status 75 'a claim of two of which one is lent is refused'
is "$(driver_of $gpu)" bochs-drm '... and takes nothing'
capture run_as carol gpubroker run --gpu twins -- readlink "/sys/bus/pci/devices/$gpu/driver"
is $status 0 'a name gives the device that is free'
kill $holder
wait $holder
ok 'it is back when its holder is killed' wait_for 20 is_back $gpu2 bochs-drm
wait_for 20 is_back $gpu bochs-drm
wait_for 20 no_records

# Root has the second group open, without a lease: nothing is begun, 43-neighbours shows the rest.
echo vfio-pci >/sys/bus/pci/devices/$gpu2/driver_override
echo $gpu2 >/sys/bus/pci/drivers/bochs-drm/unbind
echo $gpu2 >/sys/bus/pci/drivers_probe
sleep 1000 3<>"/dev/vfio/$(group_of $gpu2)" &
root_holder=$!
wait_for 5 fuser -s "/dev/vfio/$(group_of $gpu2)"
capture run_as carol gpubroker run --gpu $gpu --gpu $gpu2 -- true
is $status 75 'a claim of two of which another program has one is refused'
like "$stderr" "$gpu2 is in use by somebody else" '... and names the device and the reason'
ok '... and the first GPU is back' wait_for 20 is_back $gpu bochs-drm
ok '... and its audio function' wait_for 20 is_back $gpu_audio snd_hda_intel
kill $root_holder
wait $root_holder 2>/dev/null

# Restored to what it was, not to a default. That another program has it is remembered for a moment.
capture run_as carol gpubroker run --wait=60s --gpu $gpu2 -- true
is $status 0 'a function that is on vfio-pci already is lent'
wait_for 10 no_records
is "$(driver_of $gpu2)/$(override_of $gpu2)" vfio-pci/vfio-pci '... and stays there, override and all'
echo >/sys/bus/pci/devices/$gpu2/driver_override
echo $gpu2 >/sys/bus/pci/drivers/vfio-pci/unbind
echo $gpu2 >/sys/bus/pci/drivers_probe
is "$(driver_of $gpu2)" bochs-drm 'the second GPU is as the case found it'

# A host driver that is gone when the lease ends: said, kept trying, settled when it is back.
run_as carol gpubroker run --gpu $gpu -- sleep 1000 &
holder=$!
wait_for 20 is_leased $gpu_audio
modprobe -r snd_hda_intel
kill $holder
wait $holder
stuck() { run_as bob gpubroker leases | grep -q "stuck .*$gpu"; }
ok 'a lease whose host driver was unloaded is stuck at its end' wait_for 20 stuck
like "$(run_as bob gpubroker leases)" "$gpu_audio: its driver snd_hda_intel is not loaded: modprobe [$][(]cat /sys/bus/pci/devices/$gpu_audio/modalias[)]" \
	'... and says which function and driver, and how to load it'
is "$(driver_of $gpu)" bochs-drm '... while the other function is back'
# As the reason says.
modprobe "$(cat /sys/bus/pci/devices/$gpu_audio/modalias)"
ok 'it settles by itself when the driver is back' wait_for 30 no_records
is "$(driver_of $gpu_audio)" snd_hda_intel '... on that driver'

# A record that cannot be written: nothing is begun.
mount -t tmpfs -o ro none /run/gpubroker/leases
systemctl restart gpubroker
capture run_as carol gpubroker run --gpu $gpu -- true
is $status 71 'a lease that cannot be recorded is not begun'
like "$stderr" 'recording the lease: Read-only file system' '... and the answer says why'
is "$(driver_of $gpu)" bochs-drm '... and nothing has changed'
systemctl stop gpubroker.service gpubroker.socket
is "$(systemctl show -P Result gpubroker)" success 'the daemon stops in order'
umount /run/gpubroker/leases
systemctl start gpubroker.socket

# A policy with a mistake, and no copy of one without: nothing is lent, and it is said.
set_mark
rm -rf /var/lib/gpubroker/policy
echo 'allow user alice clam any' >/etc/gpubroker/policy.d/30-broken.policy
systemctl restart gpubroker
capture run_as alice gpubroker run --gpu $gpu -- true
is $status 69 'with a mistake in the policy nothing is lent'
like "$stderr" 'no valid policy.*systemctl status gpubroker' '... and the answer says where to look'
like "$(said)" \
	"30-broken.policy:1:18: " 'the journal has file, line and column of the mistake'
ok '--check finds it too' sh -c '! gpubrokerd --check'
rm /etc/gpubroker/policy.d/30-broken.policy /etc/gpubroker/policy.d/20-guards.policy
ok '--check finds the rest good' gpubrokerd --check
systemctl restart gpubroker
ok 'the daemon is back with the old policy' systemctl is-active gpubroker
done_testing
