#!/bin/bash
# Virtual functions of a real physical one, an NVMe controller: made by root, and lent like any device.
. ./lib.sh
killed=$(killed)
. ./vfs.sh

allow_vfs

# Refused.
is "$(driver_of $pf):$(n_vfs)" nvme:0 'the physical function has its host driver, and no VFs'
capture run_as alice gpubroker vfs $pf 2
is "$status" 77 'a user cannot make VFs'
like "$stderr" 'only root can' '... and is told'
capture gpubroker vfs $pf 5
is "$status" 72 'more than there can be are refused'
like "$stderr" "$pf can have at most 4 virtual functions" '... with how many there can be'
capture gpubroker vfs $gpu 1
is "$status" 72 'what has no SR-IOV is refused'
like "$stderr" "$gpu can have no virtual functions: it has no SR-IOV" '... with the reason'
capture gpubroker vfs $absent 1
is "$status" 66 'nothing is there: refused'
capture gpubroker vfs $pf many
is "$status" 64 'no number'
capture gpubroker vfs nonsense 1
is "$status" 64 'no address'
is "$(n_vfs):$(autoprobe)" 0:1 'nothing was changed'
ok 'list says how many it can have' wait_for 10 has_counts 0/0/4

# Made.
before=$(wc -l </run/uevents)
capture gpubroker vfs $pf 2
is "$status:$stderr" 0: 'root makes two'
ok '... on vfio-pci, by their overrides' on_vfio 2
is "$(autoprobe)" 1 '... and autoprobe is as before'
tail -n +"$before" /run/uevents >/tmp/made
is "$(bound "$(vf 0)" /tmp/made):$(bound "$(vf 1)" /tmp/made)" vfio-pci:vfio-pci 'only vfio-pci ever bound them'
is "$(tried "$(vf 0)"):$(tried "$(vf 1)")" 0:0 '... and no driver of the host has tried to'
is "$(driver_of $pf)" nvme 'the physical function stays on its driver'
ok 'no record is left' no_records
ok 'the journal says so' log '1 hour ago' "device=$pf .* by=0 outcome=vfs reason=\"2 virtual functions, 0 before\""
isnt "$(group_of "$(vf 0)")" "$(group_of $pf)" 'each has a group of its own'
ok 'list counts them' wait_for 10 has_counts 2/2/4
is "$(field "$(vf 0)" 'd["physfn"]'):$(field "$(vf 0)" 'd["status"]')" $pf:vfio-ready '... and says whose they are'
before=$(wc -l </run/uevents)
capture gpubroker vfs $pf 2
is "$status" 0 'as many as there are: done'
is "$(tail -n +"$((before + 1))" /run/uevents | grep -c "$(vf 0)")" 0 '... and nothing happened to them'
vf0=$(vf 0) vf1=$(vf 1)
table=$(script -qec 'stty cols 80; gpubroker list --all' /dev/null | tr -d '\r' | sed 's/\x1b\[[0-9;]*m//g')
diag "$table"
is "$(awk 'length > 80' <<<"$table")" '' 'the listing fits a terminal of 80 columns'
like "$table" "${pf#0000:} [^
]*2/2 VFs free
  ${vf0#0000:} [^
]*free
  ${vf1#0000:} " '... with the VFs under their PF'

# Lent.
vm alice vf --gpu "$(vf 0)" -- -m 64 -device "vfio-pci,host=$(vf 0)"
ok 'alice claims a VF' vm_up vf
like "$(vm_devices vf)" 1b36:0010 '... and her VM has it'
ok 'list counts one less' wait_for 10 has_counts 1/2/4
for n in 4 0; do
	capture gpubroker vfs $pf $n
	is "$status" 75 "while one is lent, $n are refused"
	like "$stderr" "$pf stay as they are: $(vf 0) is leased to alice \(pid [0-9]+, lease [0-9]+\); 'gpubroker revoke" \
		'... with who has it'
done
capture gpubroker vfs $pf 2
is "$status" 0 '... but as many as there are is no change'
capture run_as bob gpubroker run --gpu $pf -- true
is "$status" 78 'the physical function is not lent'
like "$stderr" 'it has virtual functions' '... since it has VFs'
alices=$vm_pid
vm bob other --gpu vf -- -m 64 -device "vfio-pci,host=$(vf 1)"
ok 'bob claims by name, and gets the other one' vm_up other
like "$(vm_devices other)" 1b36:0010 '... and his VM has it'
vm_end other
vm_pid=$alices
vm_end vf
ok 'when they let go, the VFs are as before' wait_for 30 on_vfio 2
ok '... and free' wait_for 10 has_counts 2/2/4

# Another number.
capture gpubroker vfs $pf 4
is "$status:$stderr" 0: 'from two to four'
ok '... by way of none' on_vfio 4
is "$(autoprobe)" 1 'autoprobe is as before'
# QEMU's VFs are gone with a reset of their PF, and it leaves VF Enable set in its configuration, so
# that the kernel, which would enable them again, takes them to be there.
echo 1 >$at/reset
gpubroker vfs $pf 0
capture gpubroker vfs $pf 4
is "$status:$stderr" 0: 'after a reset of the PF they are made anew'
vm alice reset --gpu "$(vf 3)" -- -m 64 -device "vfio-pci,host=$(vf 3)"
ok '... and can be claimed' vm_up reset
like "$(vm_devices reset)" 1b36:0010 '... and the VM has it'
vm_end reset
ok '... and it goes back' wait_for 20 has_counts 4/4/4
echo 0 >$at/sriov_drivers_autoprobe
capture gpubroker vfs $pf 0
is "$status:$(n_vfs)" 0:0 'root removes them'
ok '... and list counts none' wait_for 10 has_counts 0/0/4
is "$(autoprobe)" 0 'autoprobe that was off stays off'
echo 1 >$at/sriov_drivers_autoprobe

# What the host has, and what does not work.
echo 2 >$at/sriov_numvfs
was_tried() { [ "$(tried "$(vf 1)")" -gt 0 ]; }
ok 'without the broker the host driver sees them' wait_for 20 was_tried
ok '... and VFIO does not' bash -c "! [ /sys/bus/pci/devices/$(vf 1)/driver -ef /sys/bus/pci/drivers/vfio-pci ]"
capture gpubroker vfs $pf 2
is "$status" 0 'as many as there are'
ok '... are taken over where they are not on VFIO' on_vfio 2
gpubroker vfs $pf 0
echo $pf >/sys/bus/pci/drivers/nvme/unbind
capture gpubroker vfs $pf 2
is "$status" 72 'a PF without a driver is refused'
like "$stderr" 'has no host driver' '... with the reason'
echo $pf >/sys/bus/pci/drivers/nvme/bind

vfs_done
done_testing
