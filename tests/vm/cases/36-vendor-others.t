#!/bin/bash
# A vendor's vGPUs beside others who make some, and how they end where something ends badly: the daemon, the type that
# it set, a lease that is taken back. What somebody else made is left alone.
. ./lib.sh
killed=$(killed)
needs gpubroker_vgpu
. ./vfs.sh
. ./vendor.sh

# What somebody else made.
echo 558 >"/sys/bus/pci/devices/$vf0/nvidia/current_vgpu_type"
refused carol 78 "$vf0 is in use by the host: somebody else has made a vGPU of it, type 558" 'one that others made is not lent' \
	--gpu $vf0 --profile 557
refused carol 78 "$vf0 is in use by the host: its driver has made a vGPU of it" '... nor whole' --gpu $vf0
take carol other --gpu $pf --profile 557
ok 'another VF of the same is' has other
is "$(types)" '558 557 0 0' '... and that one stays as it is'
let_end
only_theirs() { [ "$(types)" = '558 0 0 0' ] && no_records; }
ok '... also at the end' wait_for 20 only_theirs

# Changed under our feet: somebody clears ours, makes it another, and takes a VF between look and making.
echo 0 >"/sys/bus/pci/devices/$vf0/nvidia/current_vgpu_type"
hold alice --gpu $vf1 --profile 557
ok 'one is held by who does not use it' wait_for 30 n_leased 1
echo 0 >"/sys/bus/pci/devices/$vf1/nvidia/current_vgpu_type"
echo 558 >"/sys/bus/pci/devices/$vf1/nvidia/current_vgpu_type"
let_go
theirs() { [ "$(types)" = '0 558 0 0' ] && no_records; }
ok 'what somebody made of it meanwhile is left alone at the end' wait_for 30 theirs
echo 0 >"/sys/bus/pci/devices/$vf1/nvidia/current_vgpu_type"
(
	while :; do
		echo 560 >"/sys/bus/pci/devices/$vf0/nvidia/current_vgpu_type"
		echo 0 >"/sys/bus/pci/devices/$vf0/nvidia/current_vgpu_type"
	done
) 2>/dev/null &
racer=$!
raced='' n=0
while [ -z "$raced" ] && [ $n -lt 300 ]; do
	n=$((n + 1))
	capture run_as carol gpubroker run --gpu $vf1 --profile 557 -- true
	[[ ! $stderr =~ 'was free when the broker looked' ]] || raced=$stderr
done
kill $racer
wait $racer 2>/dev/null
echo 0 >"/sys/bus/pci/devices/$vf0/nvidia/current_vgpu_type" 2>/dev/null
like "$raced" "profile \"557\" of $vf1 was free when the broker looked.*\\(.*\\): somebody else was faster; try again" \
	"what changes between the look and the making is said ($n tries)"
ok '... and nothing of ours is left' wait_for 20 none

# The daemon is killed while one is lent and another is somebody else's.
echo 557 >"/sys/bus/pci/devices/$vf0/nvidia/current_vgpu_type"
take alice kept --gpu $pf --profile 557
ok 'one more' has kept
systemctl kill -s KILL gpubroker
ok 'the daemon comes back' wait_for 30 test -S /run/gpubroker/socket
back() { gpubroker leases | grep -q " leased .* $vf1 557"; }
ok '... and knows the lease' wait_for 30 back
is "$(types)" '557 557 0 0' '... and touched neither'
let_end
ours_gone() { [ "$(types)" = '557 0 0 0' ] && no_records; }
ok 'ours is nothing again when its holder has ended, and the other as it was' wait_for 20 ours_gone
# Ended while no daemon is there: the next start clears it.
take alice late --gpu $pf --profile 557
ok 'and another' has late
systemctl stop gpubroker.socket gpubroker.service
let_end
is "$(types)" '557 557 0 0' 'with no daemon it stays'
systemctl start gpubroker.socket gpubroker.service
ok 'and the next start clears it, and nothing else' wait_for 30 ours_gone
echo 0 >"/sys/bus/pci/devices/$vf0/nvidia/current_vgpu_type"

# Taken back while it is in use: the driver says no, which is said, and then it goes with its VM.
take alice taken --gpu $vf1 --profile 557
ok 'one that is to be taken back' has taken
lease=$(gpubroker leases --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p')
capture gpubroker revoke "$lease"
stuck() { gpubroker leases --json | grep -q 'clearing the vGPU: Operation not permitted'; }
ok 'is stuck while its holder has it, and why is said' wait_for 60 stuck
let_end
ok 'and goes when that ends' wait_for 30 none

is "$(killed)" "$killed" 'no process met its filter'
vendor_done
done_testing
