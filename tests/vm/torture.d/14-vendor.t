#!/bin/bash
# The same as 13-mdev of a vendor's vGPU: a virtual function that stays with its driver and is given a type. Each time
# what was granted is still lent, what was not is nothing again, and what somebody else made of another virtual
# function is there.
. ./lib.sh
. ./torture.d/breaker.sh
needs gpubroker_vgpu

device=$lone_sriov=557
at=/sys/bus/pci/devices/$lone_sriov

begin() {
	local i f
	systemctl stop gpubroker.service gpubroker.socket
	modprobe vfio_iommu_type1
	insmod /tests/gpubroker_vgpu.ko
	echo 0 >$at/sriov_drivers_autoprobe
	echo 2 >$at/sriov_numvfs
	for i in 0 1; do
		f=$(link_name $at/virtfn$i)
		echo gpubroker_vgpu >/sys/bus/pci/devices/$f/driver_override
		echo $f >/sys/bus/pci/drivers_probe
	done
	ours=$(link_name $at/virtfn1)
	type=$at/virtfn1/nvidia/current_vgpu_type
	echo 558 >$at/virtfn0/nvidia/current_vgpu_type
	begin_breaker 'allow user alice claim profile 557'
}
end() {
	end_breaker
	echo 0 >$at/sriov_numvfs
	echo 1 >$at/sriov_drivers_autoprobe
	rmmod gpubroker_vgpu
	rm -rf $dir
	systemctl start gpubroker.socket gpubroker.service
}

is_type() { local now; read -r now <"$1" && [ "$now" = "$2" ]; }
others_there() { is_type $at/virtfn0/nvidia/current_vgpu_type 558; }
# clean: nothing of ours, neither a type nor a record.
clean() {
	local files=("$state"/*)
	[ ! -e "${files[0]}" ] && is_type "$type" 0 && others_there
}
# lent: what was granted is the claimer's, and the daemon knows.
lent() {
	is_type "$type" 557 && [ "/sys/bus/pci/devices/$ours/iommu_group" -ef "/sys/kernel/iommu_groups/$group" ] &&
		[ -e "$state/$lease" ] && known && ! { : <>"/dev/vfio/$group"; } 2>/dev/null && others_there
}
how_it_is() {
	echo "$answer; types: $(cat $at/virtfn?/nvidia/current_vgpu_type | xargs); records: $(cd $state && head -n 30 -- * 2>/dev/null)"
	/tests/claimer "$uid" $socket --leases
	tail -n 8 $dir/log
}
. ./torture.d/parts.sh

begin
look_at_parts '... and nothing again at its end'
end
done_testing
