#!/bin/bash
# The torture's machine is as tests/vm/machine says, and its driver hangs on demand, in the D
# state, and lets go: what the other cases here rest on.
. ./lib.sh

devices=/sys/bus/pci/devices
parameters=/sys/module/gpubroker_test/parameters
# Functions in the group of $1 that are no bridges.
members() {
	local d
	for d in "$devices/$1/iommu_group/devices"/*; do
		read -r class <"$d/class"
		[[ $class == 0x06* ]] || echo -n "${d##*/} "
	done
}

is ${#plain[@]} 16 'sixteen plain functions'
alone=0
for f in "${plain[@]}"; do
	[ "$(members "$f")" != "$f " ] || alone=$((alone + 1))
done
is $alone 16 'each of them is alone in its group'
is "$(cat "$devices/${plain[15]}"/{vendor,device} | tr '\n' ' ')" '0x1b36 0x0005 ' '... and is a pci-testdev'
is "$(members $lone_gpu)$(driver_of $lone_gpu)" "$lone_gpu bochs-drm" 'the GPU is alone in its group, on bochs-drm'
is "$(members $pair_a)" "$pair_a " 'the first of the pair has its group for itself at first'
outer device_add '{"driver": "pci-testdev", "bus": "'$pair_port'", "id": "second"}' >/dev/null
ok 'the second of the pair appears' wait_for 30 test -e $devices/$pair_b/iommu_group
is "$(members $pair_a)" "$pair_a $pair_b " '... in the same group'
outer device_del '{"id": "second"}' >/dev/null
no_second() { [ ! -e $devices/$pair_b ]; }
ok '... and goes again' wait_for 30 no_second

ok 'the test driver loads' insmod /tests/gpubroker_test.ko
bound=0
for f in "${plain[@]}"; do ! has_driver "$f" gpubroker_test || bound=$((bound + 1)); done
is $bound 16 '... and binds all of them'
f=${plain[0]}
echo $f >$devices/$f/driver/unbind
is "$(driver_of $f)" '' 'it unbinds at once'
echo $f >/sys/bus/pci/drivers/gpubroker_test/bind
is "$(driver_of $f)" gpubroker_test '... and binds again'

sleeps() { [ "$(state "$1")" = D ]; }
for step in remove probe; do
	echo $f >$parameters/hang_$step
	is "$(cat $parameters/hang_$step)" $f "hang_$step names the function"
	file=$devices/$f/driver/unbind
	[ $step = remove ] || file=/sys/bus/pci/drivers/gpubroker_test/bind
	(echo $f >$file) &
	writer=$!
	ok "... and its $step hangs in the D state" wait_for 10 sleeps $writer
	kill -KILL $writer
	sleep 1
	is "$(state $writer)" D '... which no signal ends'
	echo ${plain[1]} >$devices/${plain[1]}/driver/unbind
	is "$(driver_of ${plain[1]})" '' '... while another function goes its way'
	echo ${plain[1]} >/sys/bus/pci/drivers/gpubroker_test/bind
	echo >$parameters/hang_$step
	ok '... and is over when nothing is named any more' wait_for 10 gone $writer
	wait $writer 2>/dev/null
done
is "$(driver_of $f)" gpubroker_test 'at the end it is bound'
ok 'the driver can be unloaded' rmmod gpubroker_test
done_testing
