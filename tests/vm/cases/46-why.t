#!/bin/bash
# What a user is told who makes a mistake: each cause of a refusal has its own sentence, and it says what helps.
. ./lib.sh

dir=/etc/gpubroker/policy.d
mine=$dir/46-why.policy
# why USER DEVICE REGEX NAME: what run says, and that it claimed nothing.
why() {
	capture run_as "$1" gpubroker run --gpu "$2" -- touch /tmp/was-run
	is "$status" "${5:-77}" "$4: exit status"
	like "$stderr" "$3" "$4: a sentence that says so" || diag "$stderr"
}

# Six causes of "no rule allows you".
why bob $gpu 'no rule allows you any GPU of this host' 'nothing that he may have'
why carol $gpu "you may claim ${gpu2#0000:} \(available\)" 'something else that she may have'
capture env SUDO_USER=alice SUDO_UID=1000 gpubroker run --gpu $gpu -- true
is "$status" 77 'root by sudo has no rule'
like "$stderr" 'rules for alice do not concern root: run it as alice, without sudo' '... and is told to do without'

groupadd -f whylab
usermod -aG whylab bob
echo "allow group whylab claim address $gpu" >$mine
capture gpubroker policy reload
is "$status" 0 'a rule for a group is loaded'
capture setpriv --reuid bob --regid bob --clear-groups gpubroker run --gpu $gpu -- true
is "$status" 77 'a session from before the group has no rule'
like "$stderr" 'this session began before you had that group \(whylab\): log in again' '... and is told to log in again'
capture run_as bob gpubroker run --gpu $gpu -- true
is "$status" 0 'a new session has'
ok '... and the device goes back' wait_for 20 is_back $gpu bochs-drm

echo "allow user bob claim address $gpu2" >>$mine
why bob $gpu2 "allow it by now, and the broker has not loaded them since; .*'gpubroker policy reload'" 'a rule that is not in force'
echo alow >>$mine
gpubroker policy reload >/dev/null
why bob $gpu2 "the policy's files have 1 mistake, so an older policy is in force" 'a policy with a mistake'
rm $mine
gpasswd -d bob whylab >/dev/null
groupdel whylab

echo 'allow user late claim card' >$mine
gpubroker policy reload >/dev/null
useradd -M late
why late $gpu "allow it by now, and the broker has not loaded them since" 'a user made since'
gpubroker policy reload >/dev/null
capture run_as late gpubroker run --gpu $gpu -- true
is "$status" 0 '... has the device after a reload'
ok '... and it goes back' wait_for 20 is_back $gpu bochs-drm
userdel late
rm $mine
gpubroker policy reload >/dev/null

# What is no DEVICE, or none of the policy.
why alice carr "did you mean 'card'\?" 'a misspelled name' 67
why alice teeching "the policy's names are card" 'another name' 67
why alice all 'did you mean any' 'a word from elsewhere' 67
why alice pci_0000_01_00_0 "did you mean 0000:01:00.0\?" "libvirt's name of a device" 67
why alice "$(basename /sys/bus/pci/devices/$gpu/drm/card*)" "did you mean $gpu\?" 'a card of DRM' 67
ok 'nothing was run' test ! -e /tmp/was-run

# A QEMU without the device that it should get. Only its name makes it one.
cp /bin/sleep /tmp/qemu-system-sleep
capture run_as alice gpubroker run --gpu card -- /tmp/qemu-system-sleep 25
is "$status" 0 'a QEMU without the device runs'
like "$stderr" "^gpubroker: QEMU has not opened /dev/vfio/[0-9]+, so the VM is without $gpu.*--qemu" '... and its user is told'
capture run_as alice gpubroker run --gpu card -- sleep 12
is "$stderr" '' '... a script that takes its time is left alone'
ok 'the device goes back' wait_for 20 is_back $gpu bochs-drm

# Completion knows the broker's lists, and the policy's names.
like "$(run_as alice gpubroker __complete run --gpu '')" $'(^|\n)card\ta name of the policy' 'completion offers names of the policy'
like "$(run_as alice gpubroker __complete run --gpu '')" $'(^|\n)'"$gpu"$'\t[^\n]*, available' '... and devices'
hold alice --gpu card
ok 'alice has a device' wait_for 20 is_leased $gpu
like "$(run_as alice gpubroker __complete release '')" $'^[0-9]+\talice: '"$gpu" '... and her leases'
is "$(run_as bob gpubroker __complete release '')" '' '... and not another user'"'"'s'
like "$(gpubroker __complete revoke '')" $'^[0-9]+\talice: '"$gpu" '... and to root all'
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'it goes back' wait_for 20 is_back $gpu bochs-drm
done_testing
