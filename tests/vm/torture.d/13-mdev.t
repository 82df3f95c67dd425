#!/bin/bash
# The core is killed at every system call, its own and its workers', while an mdev is claimed, while its lease
# ends, and while a start takes it up; and started again. Each time what was granted is still lent, what was
# not is gone, and what somebody else made is there. Only a kernel with the samples has what it takes. The
# short form takes every k-th point.
. ./lib.sh
. ./torture.d/breaker.sh
needs mdevs

device=mtty=mtty-2
types=/sys/class/mdev_bus/mtty/mdev_supported_types
other=83b8f4f2-509f-382f-3c1e-e6bfe0fa1034

begin() {
	systemctl stop gpubroker.service gpubroker.socket
	modprobe mtty
	echo $other >$types/mtty-1/create
	begin_breaker 'allow user alice claim profile mtty-2'
}
end() {
	end_breaker
	echo 1 >/sys/bus/mdev/devices/$other/remove
	modprobe -r mtty
	rm -rf $dir
	systemctl start gpubroker.socket gpubroker.service
}

others_there() { [ -e "$types/mtty-1/devices/$other" ]; }
# clean: nothing of ours, neither an mdev nor a record.
clean() {
	local files=("$state"/*) mdevs=("$types"/mtty-2/devices/*)
	[ ! -e "${files[0]}" ] && [ ! -e "${mdevs[0]}" ] && others_there
}
# lent: what was granted is the claimer's, and the daemon knows.
lent() {
	local mdevs=("$types"/mtty-2/devices/*)
	[ ${#mdevs[@]} = 1 ] && [ "${mdevs[0]}/iommu_group" -ef "/sys/kernel/iommu_groups/$group" ] &&
		[ -e "$state/$lease" ] && known && ! { : <>"/dev/vfio/$group"; } 2>/dev/null && others_there
}
how_it_is() {
	echo "$answer; mdevs: $(cd /sys/bus/mdev/devices && echo *); records: $(cd $state && head -n 30 -- * 2>/dev/null)"
	/tests/claimer "$uid" $socket --leases
	tail -n 8 $dir/log
}
. ./torture.d/parts.sh

begin
look_at_parts '... and removed at its end'
end
done_testing
