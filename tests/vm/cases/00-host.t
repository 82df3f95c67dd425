#!/bin/bash
# The emulated host itself is as tests/vm/machine means it to be. Where this
# fails, no other case says anything.
. ./lib.sh

is "$(ps -o comm= -p 1)" systemd 'systemd is pid 1'
state=$(timeout 60 systemctl is-system-running --wait)
is "$state" running 'the host is up, no unit has failed' ||
	diag "$(systemctl --failed --no-legend)"

lacks 'the boot VGA is the boot VGA' boot-vga ||
	is "$(cat /sys/bus/pci/devices/$boot_vga/boot_vga)" 1 'the boot VGA is the boot VGA'
is "$(driver_of $boot_vga)" bochs-drm 'a driver has the boot VGA'
is "$(driver_of $gpu)" bochs-drm 'a driver has the GPU'
is "$(driver_of $gpu_audio)" snd_hda_intel 'a driver has its audio function'
is "$(driver_of $gpu2)" bochs-drm 'a driver has the second GPU'
is "$(driver_of $multi_gpu)" bochs-drm 'a driver has the GPU behind the bridge'
lacks 'a driver has the network card behind the bridge' e1000 ||
	is "$(driver_of $multi_net)" e1000 'a driver has the network card behind the bridge'
lacks 'a driver has the GPU without a group' second-bridge ||
	is "$(driver_of $groupless)" bochs-drm 'a driver has the GPU without a group'
lacks 'the card of four functions has three drivers' xhci_hcd ||
	is "$(driver_of $quad.0) $(driver_of $quad.1) $(driver_of $quad.2) $(driver_of $quad.3)" \
		'bochs-drm snd_hda_intel xhci_hcd ' 'the card of four functions has three drivers'
ok 'the driverless device is there' test -e "/sys/bus/pci/devices/$driverless"
is "$(driver_of $driverless)" '' '... and has no driver'
is "$(driver_of $disk)" nvme 'a driver has the disk'
ok 'the disk is mounted' mountpoint /mnt/scratch
ok 'nothing is at the absent address' test ! -e "/sys/bus/pci/devices/$absent"

# members ADDRESS: all functions of its group but bridges, which don't count.
members() {
	local f
	for f in /sys/bus/pci/devices/"$1"/iommu_group/devices/*; do
		case $(cat "$f/class") in 0x0604*) ;; *) basename "$f" ;; esac
	done | sort | xargs
}
is "$(members $gpu)" "$gpu $gpu_audio" 'the GPU and its audio function are a group'
is "$(members $gpu2)" "$gpu2" 'the second GPU is alone in its group'
is "$(members $boot_vga)" "$boot_vga" 'the boot VGA is alone in its group'
lacks 'the driverless device is alone in its group' early-groups ||
	is "$(members $driverless)" "$driverless" 'the driverless device is alone in its group'
is "$(members $disk)" "$disk" 'the disk is alone in its group'
lacks 'two slots behind a bridge are a group' bridge-groups ||
	is "$(members $multi_gpu)" "$multi_gpu $multi_net" 'two slots behind a bridge are a group'
lacks 'the groupless GPU has no group' second-bridge ||
	is "$(group_of $groupless)" '' 'the groupless GPU has no group'

for f in $gpu $gpu_audio $gpu2 $multi_gpu $multi_net; do
	is "$(override_of "$f")" '' "no override on $f"
done
ok 'this QEMU answers from inside' outer query-status

for user in alice bob carol; do
	is "$(run_as $user id -un)" $user "$user can log in"
done

if [ -e /usr/lib/systemd/system/gpubroker.socket ]; then
	ok 'gpubroker.socket is active' systemctl is-active gpubroker.socket
	ok 'gpubroker.service is active' systemctl is-active gpubroker.service
	ok 'the project has its account' getent passwd gpubroker
	ok 'vfio-pci is loaded' test -e /sys/bus/pci/drivers/vfio-pci
	is "$(stat -c '%a %U' /run/gpubroker/socket)" '666 root' 'all may connect to its socket'
else
	skip 'gpubroker.socket is active' 'the project is not installed'
fi
done_testing
