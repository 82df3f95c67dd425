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
	mkdir -m 755 $dir $dir/policy
	echo 'allow user alice claim profile mtty-2' >$dir/policy/mdev.policy
	mkfifo $dir/{told,said,hold,claimed}
	# Open for both, so that nobody waits for the other end.
	exec {told}<>$dir/told {said}<>$dir/said {hold}<>$dir/hold {claimed}<>$dir/claimed
	uid=$(id -u alice)
	/tests/breaker --state $state ${GPUBROKERD:-gpubrokerd} --policy $dir/policy --socket $socket \
		--state $state <$dir/told >$dir/said 2>$dir/log &
	breaker=$!
	start
}
end() {
	ask stop
	kill $breaker
	wait $breaker 2>/dev/null
	exec {told}>&- {said}>&- {hold}>&- {claimed}>&-
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
orphans=0
claim_one
like "$answer" '^granted ' 'a claim is granted'
ok '... and is lent' await 10 lent
release
ok '... and removed at its end' await 10 clean
sweep claim
sweep end
sweep start
is $orphans 0 'at no point did a worker begin to write to sysfs when its core was dead'
ask state
like "$reply" '^alive ' 'the daemon lives'
ok 'what somebody else made is there after all' others_there
end
done_testing
