#!/bin/bash
# Virtual functions by a prepare rule: made at a start, and there again after whatever takes them away.
. ./lib.sh
killed=$(killed)
. ./vfs.sh

allow_vfs
start=$(now)
echo "prepare address $pf vfs 3" >>$policy
reload
ok 'the policy has three made' wait_for 30 on_vfio 3
ok '... and the journal says so' wait_for 5 log "$start" "device=$pf .* outcome=prepared reason=\"3 virtual functions, 0 before\""
is "$(driver_of $pf):$(autoprobe)" nvme:1 'the PF stays on its driver, autoprobe as it was'
ok 'udev is told nothing of it' bash -c "! grep -v '^#' /etc/udev/rules.d/69-gpubroker-prepare.rules | grep -F '0000:0b:00.?'"
echo 0 >$at/sriov_numvfs
ok 'what took them away (a reset, in some drivers): they come back' wait_for 30 on_vfio 3
echo 0 >$at/sriov_numvfs
echo $pf >/sys/bus/pci/drivers/nvme/unbind
sleep 2
is "$(n_vfs)" 0 'without a driver there are none'
echo $pf >/sys/bus/pci/drivers/nvme/bind
ok 'its driver comes back: so do they' wait_for 30 on_vfio 3
echo "$(vf 1)" >/sys/bus/pci/drivers/vfio-pci/unbind
ok 'one that was taken off VFIO goes back there' wait_for 30 on_vfio 3
systemctl stop gpubroker.socket gpubroker
echo 0 >$at/sriov_numvfs
systemctl start gpubroker.socket gpubroker
ok 'a start, as at boot, has them made' wait_for 40 on_vfio 3
gpubroker restore "$(vf 2)"
off_vfio() { ! has_driver "$(vf 2)" vfio-pci && [ -z "$(override_of "$(vf 2)")" ]; }
ok "one that root restores is off VFIO, for the host's drivers" wait_for 20 off_vfio
sleep 2
ok '... and stays so' off_vfio
capture gpubroker vfs $pf 1
is "$status" 0 'root has another number than the policy'
sleep 2
ok '... and it stays so' on_vfio 1
reload
ok '... until the policy is loaded anew' wait_for 30 on_vfio 3
vm alice held --gpu "$(vf 0)" -- -m 64 -device "vfio-pci,host=$(vf 0)"
vm_up held
start=$(now)
sed -i 's/vfs 3/vfs 2/' $policy
reload
ok 'while one is lent a new number waits, with the reason' wait_for 20 log "$start" \
	'outcome=not-prepared reason="it has 3 virtual functions, not 2, of which one is lent"'
is "$(n_vfs)" 3 '... and they are as they were'
vm_end held
ok '... until it is free' wait_for 40 on_vfio 2
start=$(now)
sed -i 's/vfs 2/vfs 9/' $policy
reload
ok 'more than there can be is said' wait_for 20 log "$start" 'outcome=not-prepared reason="it can have at most 4 virtual functions, not 9"'

# What each may have of the card, as xe takes it.
quotas() { cat /sys/module/gpubroker_admin/parameters/{exec_quantum_ms,preempt_timeout_us} | xargs; }
have() { [ "$(quotas)" = "$1" ]; }
start=$(now)
sed -i 's/vfs 9/vfs 2 vf-exec-quantum-ms 20 vf-preempt-timeout-us 500/' $policy
reload
ok 'quotas that the driver does not know are said' wait_for 20 log "$start" \
	'outcome=no-quota reason="exec_quantum_ms is not set: its driver has no sriov_admin, as xe has since Linux 6.19"'
ok '... and the virtual functions are of use without' on_vfio 2
if ! lacks 'quotas of virtual functions' gpubroker_admin; then
	insmod /tests/gpubroker_admin.ko device=$pf
	start=$(now)
	reload
	ok 'what each may have is set when the policy is loaded' wait_for 20 have '20 500'
	ok '... and nothing is made anew for that' bash -c "! journalctl -q --no-pager -o cat -u gpubroker --since '$start' | grep -E 'outcome=(prepared|no-quota)'"
	echo 0 >/sys/module/gpubroker_admin/parameters/exec_quantum_ms
	echo 0 >$at/sriov_numvfs
	ok '... and when they are made anew' wait_for 30 have '20 500'
	ok '... which they are' wait_for 30 on_vfio 2
	start=$(now)
	sed -i 's/ms 20/ms 100001/' $policy
	reload
	ok 'what the driver does not take is said' wait_for 20 log "$start" \
		'outcome=no-quota reason="exec_quantum_ms is not set: Invalid argument"'
	is "$(quotas):$(n_vfs)" '20 500:2' '... and all stays as it was'
	rmmod gpubroker_admin
fi

sed -i '/^prepare/d' $policy
reload
gpubroker vfs $pf 0
vfs_done
done_testing
