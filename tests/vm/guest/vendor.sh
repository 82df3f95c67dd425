# shellcheck shell=bash
# What the cases about vendors' vGPUs share: four virtual functions with the driver of
# tests/vm/module/gpubroker_vgpu.c, who may claim what of them, and what they are. Sourced, after vfs.sh.
# shellcheck disable=SC2034,SC2154
modprobe vfio_iommu_type1
insmod /tests/gpubroker_vgpu.ko
driver=gpubroker_vgpu
# Four VFs, of which no host driver but this one takes any, as `sriov-manage` leaves them.
echo 0 >$at/sriov_drivers_autoprobe
echo 4 >$at/sriov_numvfs
for i in 0 1 2 3; do
	echo $driver >"/sys/bus/pci/devices/$(vf $i)/driver_override"
	vf $i >/sys/bus/pci/drivers_probe
done
vf0=$(vf 0) vf1=$(vf 1)
cat >/etc/gpubroker/policy.d/36-vendor.policy <<-END
	device quarter vendor 1b36 device 0010 profile 557
	allow user alice claim profile 557 memlock 1G
	allow user alice claim profile NVIDIA_RTX5880-Ada-2Q limit 1
	allow user carol claim profile any
	allow user carol claim address $vf0
	allow user bob claim any
END
reload
type_of() { cat "/sys/bus/pci/devices/$1/nvidia/current_vgpu_type"; }
types() { echo "$(type_of "$(vf 0)") $(type_of "$(vf 1)") $(type_of "$(vf 2)") $(type_of "$(vf 3)")"; }
none() { [ "$(types)" = '0 0 0 0' ] && no_records; }
drivers() { local i; for i in 0 1 2 3; do driver_of "$(vf $i)"; done | xargs; }
as_made="$driver $driver $driver $driver"
is "$(types) $(drivers)" "0 0 0 0 $as_made" 'four VFs that are nothing, with their driver'
# The daemon knows VFs by its watcher.
known() { [ "$(field "$(vf 3)" 'd["driver"]')" = $driver ]; }
ok 'the broker knows them' wait_for 20 known

# begin USER NAME OPTIONS...: QEMU is told by the environment which VFs it has.
begin() {
	local user=$1 name=$2
	shift 2
	rm -f "/tmp/$name.qmp"
	# shellcheck disable=SC2016 # for the user's shell
	run_as "$user" gpubroker run "$@" -- sh -c 'd=
		for f in $GPUBROKER_VGPU; do d="$d -device vfio-pci,host=$f"; done
		exec qemu-system-x86_64 $d "$@"' sh -nodefaults -display none -M q35 -cpu max -accel tcg -m 64 \
		-qmp "unix:/tmp/$name.qmp,server=on,wait=off" >"/tmp/$name.log" 2>&1 </dev/null &
	vm_pid=$!
}
# take USER NAME OPTIONS...: the same without a machine; what it has is in /tmp/NAME.has.
take() {
	local user=$1 name=$2
	shift 2
	rm -f "/tmp/$name.has"
	run_as "$user" gpubroker run "$@" -- python3 /tests/vfio-hold.py "/tmp/$name.has" >"/tmp/$name.log" 2>&1 </dev/null &
	vm_pid=$!
}
has() { wait_for 60 test -s "/tmp/$1.has" || { cat "/tmp/$1.log"; return 1; }; }
what_has() { cat "/tmp/$1.has"; }
let_end() { kill -TERM $vm_pid; wait $vm_pid 2>/dev/null; }
let_go() { kill "${holders[@]}" 2>/dev/null; wait "${holders[@]}" 2>/dev/null; holders=(); }
n_leased() { [ "$(gpubroker leases | grep -c ' leased ')" = "$1" ]; }

# The host as before.
vendor_done() {
	is "$(drivers)" "$as_made" 'all are with their driver'
	rm -f /etc/gpubroker/policy.d/36-vendor.policy /tmp/holders.log
	reload
	echo 0 >$at/sriov_numvfs
	echo 1 >$at/sriov_drivers_autoprobe
	rmmod gpubroker_vgpu
	is "$(n_vfs) $(driver_of $pf)" '0 nvme' 'the host is as before'
}
