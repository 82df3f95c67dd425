#!/bin/bash
# Claims of a vendor's vGPUs, of a driver of our own that has NVIDIA's files (tests/vm/module/gpubroker_vgpu.c):
# a virtual function stays with its driver and is made a type for a lease, an unmodified QEMU has it, and it is
# nothing again at the end. As many as there are, and a word for each refusal.
. ./lib.sh
killed=$(killed)
needs gpubroker_vgpu
. ./vfs.sh
. ./vendor.sh

capture run_as bob gpubroker profiles $pf
like "$stdout" "$vf0 +557 +NVIDIA RTX5880-Ada-1Q " 'profiles lists what they can become, by its number and name'

begin alice one --gpu $vf1 --profile 557
ok 'a QEMU that claims a VF as a type starts' vm_up one
like "$(vm_devices one)" 10de:022d '... and has that type'
is "$(types)" '0 557 0 0' '... which is that VF'
is "$(drivers)" "$as_made" '... and still with its driver'
like "$(gpubroker leases)" "alice .* leased .* $vf1 557" 'it is listed as what it is'
like "$(gpubroker leases --json | tr -d ' \n')" '"parent":"'"$vf1"'","profile":"557","mdev":null' '... in JSON, and it is no mdev'
is "$(stat -c %u "/dev/vfio/$(group_of "$vf1")")" 0 'its node is still root'"'"'s'
ok 'the journal says which it is' log '1 hour ago' "name=557 .* outcome=granted reason=\"vGPU, NVIDIA RTX5880-Ada-1Q\""
alices=$vm_pid
refused carol 75 "profile \"557\" of $vf1 is leased to alice" 'nobody else gets that VF' --gpu $vf1 --profile 557
capture gpubroker vfs $pf 0
is "$status" 75 'nor do VFs go while one is lent'
vm_pid=$alices
vm_end one
ok 'it is nothing again when the VM has ended, and its record is gone' wait_for 20 none

take alice two --gpu $pf --profile 'NVIDIA RTX5880-Ada-2Q'
ok 'any VF of a physical function, by what the driver calls the type' has two
like "$(what_has two)" 10de:022e '... and it has it'
is "$(types)" '558 0 0 0' '... of the first that is free'
kill -KILL $vm_pid
wait $vm_pid 2>/dev/null
ok 'it is nothing again when it was killed' wait_for 20 none
take alice three --gpu quarter --gpu quarter --memlock 1G
ok 'a name of the policy may mean a type: two by one claim' has three
is "$(what_has three) $(types)" '10de:022d 10de:022d 557 557 0 0' '... are two VFs'
let_end
ok 'both are nothing again' wait_for 20 none
# Its arguments by the broker.
rm -f /tmp/four.qmp
run_as alice gpubroker run --qemu --gpu $pf --profile 557 -- qemu-system-x86_64 -nodefaults -display none -M q35 \
	-cpu max -accel tcg -m 64 -qmp unix:/tmp/four.qmp,server=on,wait=off >/tmp/four.log 2>&1 </dev/null &
vm_pid=$!
ok 'run --qemu adds the VF that it became' vm_up four
# Behind a port, which QMP looks behind only when the VM's firmware has numbered its bus.
four_has() { [[ $(vm_devices four) == *10de:022d* ]]; }
ok '... and the VM has it' wait_for 60 four_has
vm_end four
ok 'nothing again' wait_for 20 none

# Who may not, and what is not.
refused bob 77 "no rule allows you to claim profile \"557\" of $vf0" 'who may have any device may not have a vGPU by that' \
	--gpu $vf0 --profile 557
refused bob 77 'no rule allows you to claim profile "no-such"' 'nor is told whether there is such a type' --gpu $pf --profile no-such
refused alice 77 "no rule allows you to claim profile \"560\" of $vf0" 'a rule for one type is none for another' --gpu $vf0 --profile 560
refused carol 66 "$pf has no profile \"999\"; 'gpubroker profiles $pf' shows" 'a type that there is not' --gpu $pf --profile 999
refused alice 77 'more locked memory was asked for than the rule for .* grants \(1024 MiB' 'more memory than the rule of that type grants' \
	--gpu $pf --profile 557 --memlock 2G
ok 'none of these made anything' none

# As many as there are. Held by a process that does nothing.
for _ in 1 2 3 4; do hold carol --gpu $pf --profile 557; done
wait_for 60 n_leased 4 || diag "$(gpubroker leases; cat /tmp/holders.log)"
is "$(types)" '557 557 557 557' 'four get the four that there are'
refused alice 75 "none of profile \"557\" of $pf is left: 4 of it are in use; try again" 'the fifth is refused' --gpu $pf --profile 557
let_go
ok 'all are nothing again' wait_for 30 none
hold carol --gpu $pf --profile 558
ok 'one of a larger type' wait_for 30 n_leased 1
refused carol 66 "$pf offers no profile \"560\" while 1 of its virtual functions is in use, but 557, 558; " \
	'what no longer fits is not offered, and what is left is told' --gpu $pf --profile 560
hold carol --gpu $pf --profile 558
ok 'another, and the room is used up' wait_for 30 n_leased 2
refused carol 75 "none of profile \"558\" of $pf is left: 2 of it are in use" '... and the next is told how many there are' \
	--gpu $pf --profile 558
let_go
ok 'all are nothing again' wait_for 30 none

is "$(killed)" "$killed" 'no process met its filter'
vendor_done
done_testing
