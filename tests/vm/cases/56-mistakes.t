#!/bin/bash
# The mistakes that users and administrators make first, each with what is said of it and its exit status. Those that need
# no broker are in tests/cli.t and tests/policy/bad, those that have a cause each in 46-why, 39-fit, 45-in-use, 51-iommu-off.
. ./lib.sh

dir=/etc/gpubroker/policy.d
mine=$dir/56-mistakes.policy
# says STATUS REGEX COMMAND...: what root runs; says_to USER STATUS REGEX COMMAND...
says() {
	local wanted=$1 regex=$2
	shift 2
	capture timeout 60 "$@"
	like "$status
$stdout
$stderr" "^$wanted"$'\n'".*$regex" "$*"
}
says_to() {
	local user=$1 wanted=$2 regex=$3
	shift 3
	capture run_as "$user" timeout 60 "$@"
	like "$status
$stdout
$stderr" "^$wanted"$'\n'".*$regex" "$user: $*"
}

### a DEVICE
says_to alice 64 'GPUs have no numbers here' gpubroker run --gpu 0 -- true
says_to alice 64 'did you mean 0000:01:00.0' gpubroker run --gpu 01:00 -- true
says_to alice 64 'each device has its own --gpu' gpubroker run --gpu 01:00.0,02:00.0 -- true
says_to alice 64 'can give that a name' gpubroker run --gpu 10de:24b0 -- true
says_to alice 66 'no PCI function 0000:01:00.2' gpubroker run --gpu 01:00.2 -- true
says_to alice 67 "the policy's names are card" gpubroker run --gpu nvidia -- true
says_to alice 67 'did you mean any, which is one that is free' gpubroker run --gpu ANY -- true
says_to alice 64 "'gpubroker list --json'" gpubroker --json list
says_to alice 64 "no option '-g'; did you mean '--gpu'" gpubroker run -g card -- true
says_to alice 64 "no option '--device'; did you mean '--gpu'" gpubroker run --device card -- true
says_to alice 126 'su cannot change the user below .gpubroker run.*nothing was claimed' gpubroker run --gpu card -- su -c true
says_to alice 64 'give its number from .gpubroker leases' gpubroker release 01:00.0
says_to alice 66 'there is no lease 99999' gpubroker release 99999
says_to alice 77 "only root can revoke a lease; 'gpubroker release' ends one of your own" gpubroker revoke 1
says_to alice 77 'takes root' gpubroker policy reload
says_to alice 77 'takes root' gpubroker policy add --user bob 01:00.0
says_to alice 77 "shares IOMMU group [0-9]+ with 0000:07:02.0, which no rule allows you.*you may claim card|card \(" \
	gpubroker run --gpu 07:01.0 -- true
says_to alice 78 "the host's console; it takes a rule with boot-vga and --force" gpubroker run --gpu 00:01.0 -- true
says_to alice 72 'has no IOMMU group' gpubroker run --gpu 41:00.0 -- true

says 67 "there is no user 'nosuch', so the rule was not added" gpubroker policy add --user nosuch 01:00.0
like "$(run_as u7 gpubroker doctor | tr -s ' \n' ' ')" 'FAIL rules: no rule of the policy allows you to claim any device' \
	'doctor tells a user that no rule is for him'

### the policy's files
( umask 077; echo "allow user bob claim address $gpu" >$mine )
says 65 'cannot be read by the loader, which is not root; chmod a\+r it' gpubroker policy check
says 65 'stays in force' gpubroker policy reload
says 1 'failed' systemctl reload gpubroker
mv $mine $dir/56-mistakes.conf
says 0 'is not read, since its name does not end in .policy; rename it' gpubroker policy check
rm $dir/56-mistakes.conf
printf '\xef\xbb\xbfallow user bob claim any\n' >$mine
says 65 'save the file without a byte order mark' gpubroker policy check
printf '\xff\xfea\x00' >$mine
says 65 'save the file as UTF-8, not UTF-16' gpubroker policy check
echo "allow bob claim address $gpu" >$mine
says 65 'did you mean "user bob"' gpubroker policy check
echo 'allow user bob claim class gpu' >$mine
says 65 'did you mean "display"' gpubroker policy check
echo 'allow user alice,bob claim any' >$mine
says 0 'there is no user "alice,bob", so this rule matches nobody' gpubroker policy check
echo "allow user bob claim address $gpu_audio" >$mine
says 0 "also lends the display $gpu" gpubroker policy check
echo alow >$mine
gpubroker policy reload >/dev/null 2>&1
like "$(systemctl status -n0 gpubroker)" 'the one on disk has mistakes and is not in force' 'systemctl status says that the policy is broken'
says_to bob 77 "the policy's files have 1 mistake" gpubroker run --gpu $gpu -- true
rm $mine
says 0 'is in force' gpubroker policy reload

says 65 "$dir/50-local.policy:[0-9]+:[0-9]+: error: expected after \"memlock\" a size.*the rule was not added" \
	gpubroker policy add --user bob 01:00.0 --memlock 20GB
like "$stdout$stderr" 'found "20GB"; did you mean "20G"' '... and with what was meant'
echo "allow user bob claim address $gpu memlock=20G" >$mine
says 65 'did you mean "memlock 20G"' gpubroker policy check
echo "allow user bob claim address $gpu for 8 h" >$mine
says 65 'found "8"; did you mean "8h"' gpubroker policy check
rm $mine

### what QEMU meets
tiny=(timeout 20 qemu-system-x86_64 -nodefaults -display none -M q35 -m 64M)
says_to alice 1 'Could not access KVM' gpubroker run --gpu card --qemu -- "${tiny[@]}" -accel kvm
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm
modprobe -r vfio_iommu_type1
says_to alice 1 "VFIO has no driver for the IOMMU.*'modprobe vfio_iommu_type1'.*No available IOMMU models" \
	gpubroker run --gpu card --qemu -- "${tiny[@]}" -accel tcg
modprobe vfio_iommu_type1
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm
says 1 '/dev/vfio/vfio cannot be opened here.*PrivateDevices=no' systemd-run -q --uid=alice --wait --pipe -p PrivateDevices=yes \
	gpubroker run --gpu card --qemu -- "${tiny[@]}" -accel tcg
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm
says 69 'Address family' systemd-run -q --uid=alice --wait --pipe -p RestrictAddressFamilies=AF_INET gpubroker run --gpu card -- true
capture run_as alice gpubroker run --gpu card -- true
is "$status:$stderr" 0: 'a command that meets nothing of that is told nothing'
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm
says_to alice 1 'the command names 0000:02:00.0, which this claim does not have.*did you mean to add --gpu 0000:02:00.0' \
	gpubroker run --gpu card -- "${tiny[@]:2}" -accel tcg -device vfio-pci,host=02:00.0
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm
MEMLOCK=8M says_to alice 1 'this VM locks 64M, so it will fail.*memlock 1088M' gpubroker run --gpu card --qemu -- "${tiny[@]}" -accel tcg
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm
says_to alice 70 'a gpubroker run inside another' gpubroker run --gpu card -- gpubroker run --gpu 02:00.0 -- true
ok 'both go back' wait_for 20 is_back $gpu bochs-drm
ok '... both' wait_for 20 is_back $gpu2 bochs-drm
on_terminal() {
	run_as alice timeout 90 env TERM=xterm script -qec "stty cols 80; $*" /dev/null </dev/null | tr -d '\r' | sed 's/\x1b\[[0-9;]*[mK]//g'
}
like "$(on_terminal gpubroker run --gpu card -- true)" 'the command never opened /dev/vfio/[0-9]+.*for QEMU, add --qemu' \
	'who forgot --qemu is told'
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm
shown=$(on_terminal gpubroker run --gpu card --qemu -- true)
like "$shown" 'the command never opened /dev/vfio/[0-9]+' 'a QEMU that ends before it opens the device, too'
unlike "$shown" 'add --qemu' '... but not to add what was given'
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm

### where it is run from
capture run_as alice env -i /usr/bin/gpubroker run --gpu card -- /bin/true
is "$status:$stderr" 0: 'cron, which gives neither PATH nor HOME, runs it'
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm
shown=$(on_terminal env LC_ALL=xx_YY.nonsense LANGUAGE=xx NLSPATH=/dev/zero LOCPATH=/dev/null COLUMNS=9 LINES=-1 gpubroker list)
like "$shown" '^GPU +NAME +YOU +STATUS' 'an environment that makes no sense changes nothing' || diag "$shown"

### what keeps a device
printf '#!/bin/bash\nsleep 1000 &\n' >/tmp/leaves.sh
chmod 755 /tmp/leaves.sh
run_as alice gpubroker run --gpu card --gpu 02:00.0 -- /tmp/leaves.sh >/dev/null 2>&1 </dev/null
ok 'both devices stay leased' is_leased $gpu2
says_to alice 64 "'02:00.0' is no lease; did you mean [0-9]+, which has it" gpubroker release 02:00.0
run_as bob env GPUBROKER_LEASE="$(gpubroker leases --columns lease | tail -n 1 | tr -d ' ')" /bin/bash -c 'exec -a forged sleep 500' &
forger=$!
shown=$(on_terminal gpubroker leases)
diag "$shown"
is "$(grep -c 'alice .* sleep, pid' <<<"$shown")" 2 'each lease of a command names what keeps it'
unlike "$shown" $'\n\n' '... in lines without gaps'
shown=$(gpubroker leases)
like "$shown" 'sleep \(pid [0-9]+\), which it started, keeps the lease' 'root sees it, too'
unlike "$shown" "pid $forger\)" '... and not the process of another user that claims to be it'
kill $forger
read -r keeper < <(sed -nE 's/.*sleep \(pid ([0-9]+)\), which.*/\1/p' <<<"$shown")
kill "$keeper"
ok 'both come back' wait_for 20 is_back $gpu bochs-drm
ok '... both' wait_for 20 is_back $gpu2 bochs-drm
rm /tmp/leaves.sh
done_testing
