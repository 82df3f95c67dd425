#!/bin/bash
# VMMs other than QEMU, and QEMU's own block driver, get what is lent by the opens that they make: programs of Debian's
# where it has them, and where not (Cloud Hypervisor, crosvm, Firecracker), tests/vm/guest/vmm.c, which makes the same calls.
. ./lib.sh
killed=$(killed)
. /tests/cdev.sh
needs cdevs
scope=/proc/sys/kernel/yama/ptrace_scope
before=$(<$scope)

cat >/etc/gpubroker/policy.d/60-vmms.policy <<-END
	allow user carol claim address $multi_gpu
	allow user carol claim address $multi_net
END
reload

# vmm NAME [OPTION...]: starts it as alice with the second card. says LINE: what it has written.
vmm() {
	rm -f /tmp/vmm.said
	run_as alice gpubroker run --gpu 02:00.0 "${@:2}" -- /tests/vmm "$1" /tmp/vmm.said $gpu2 >/tmp/vmm.log 2>&1 </dev/null &
	vmm_pid=$!
}
said_n() { [ "$(wc -l </tmp/vmm.said)" = "$1" ]; }
lines() { xargs </tmp/vmm.said; }
# has NAME COUNT LINES TEST: when it has written so many lines, they are these.
has() { wait_for 20 said_n "$1"; is "$(lines)" "$2" "$3" || diag "$(cat /tmp/vmm.log)"; }
reboot_guest() { kill -USR1 "$(pgrep -x vmm | head -n 1)"; }
vmm_ends() {
	kill -TERM "$(pgrep -x vmm | head -n 1)"
	local s=0
	wait $vmm_pid || s=$?
	is $s 0 "$1: ... it ends"
	ok "$1: ... and the host has its card back" wait_for 20 is_back $gpu2 bochs-drm
}

card=1234:1111
for yama in 0 1; do
	echo $yama >$scope
	for name in cloud-hypervisor crosvm firecracker; do
		vmm $name
		has 1 "has $card" "$name, Yama $yama: has the card by its group"
		reboot_guest
		has 2 "has $card has $card" '... and after a reboot of its guest'
		vmm_ends "$name, Yama $yama"
	done
done
echo "$before" >$scope

vmm cloud-hypervisor-landlock
has 1 "has $card" 'Cloud Hypervisor confined by Landlock has the card'
vmm_ends 'confined by Landlock'

vmm cloud-hypervisor-iommufd
has 1 "has $card" 'Cloud Hypervisor with iommufd=on has the card by its own node'
like "$(nodes "$(pgrep -x vmm)")" '/dev/iommu .*/dev/vfio/devices/vfio' '... and no group'
reboot_guest
has 2 "has $card cannot $(cdev_of $gpu2): Device or resource busy" '... but not after a reboot, where it opens the node again'
like "$(cat /tmp/vmm.log)" 'a VMM has bound it to its iommufd, and the kernel does that once' '... which is said'
vmm_ends iommufd=on

vmm cloud-hypervisor-fd --iommufd
has 1 "has $card" 'Cloud Hypervisor with fd= has the card'
reboot_guest
has 2 "has $card has $card" '... and after a reboot of its guest'
vmm_ends fd=

# DPDK, with a network card whose group has a display besides.
if type dpdk-testpmd >/dev/null 2>&1; then
	capture timeout 120 /tests/as carol unlimited gpubroker run --gpu $multi_net -- \
		dpdk-testpmd -l 0,1 --no-huge -m 64 --no-shconf --no-telemetry --iova-mode=va -a $multi_net -- --total-num-mbufs=2048
	is $status 0 "DPDK's testpmd runs" || diag "$stdout $stderr"
	like "$stdout$stderr" 'Port 0: 52:54:00' '... and has the network card'
	ok '... which the host has back' wait_for 20 is_back $multi_net e1000
	ok '... with the display' wait_for 20 is_back $multi_gpu bochs-drm
else
	skip "DPDK's testpmd" 'this host has no DPDK'
fi

# QEMU's own driver for NVMe, with one that is plugged in and whose disk root takes away from the host.
nvme=0000:05:00.0
plugged() {
	outer blockdev-add '{"driver":"null-co","node-name":"lent","size":67108864,"read-zeroes":true}' &&
		outer device_add "{\"driver\":\"nvme\",\"id\":\"lent\",\"bus\":\"$empty_port\",\"drive\":\"lent\",\"serial\":\"lent\"}"
} >/dev/null
ok 'an NVMe is plugged in' plugged
ok "... which the host takes for a disk" wait_for 30 has_driver $nvme nvme
echo $nvme >/sys/bus/pci/drivers/nvme/unbind
vm alice block --gpu $nvme -- -m 64 -S -blockdev "driver=nvme,node-name=lent,device=$nvme,namespace=1"
ok "a QEMU with its own driver for it starts" vm_up block
is "$(qmp block human-monitor-command '{"command-line":"qemu-io lent \"read -P 0 4096 8192\""}' | tr -d '"')" '' \
	'... and reads from it'
like "$(qmp block query-named-block-nodes)" '"virtual-size": 67108864' '... as large as it is'
vm_end block
ok '... and its lease ends' wait_for 20 no_records
outer device_del '{"id":"lent"}' >/dev/null
gone_from_bus() { [ ! -e /sys/bus/pci/devices/$nvme ]; }
ok 'it is unplugged' wait_for 30 gone_from_bus
outer blockdev-del '{"node-name":"lent"}' >/dev/null

is "$(killed)" "$killed" 'no process met its filter'
rm -rf /tmp/vmm.said /tmp/vmm.log /tmp/dpdk /etc/gpubroker/policy.d/60-vmms.policy
reload
done_testing
