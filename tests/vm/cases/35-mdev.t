#!/bin/bash
# Claims of profiles, of the kernel's sample mdev drivers: an mdev is made for its lease, an unmodified QEMU
# has it, and it is gone at the end, whatever ended it. As many as there are, and a word for each refusal;
# what somebody else made is left alone.
. ./lib.sh
killed=$(killed)
needs mdevs

modprobe -a mtty mbochs mdpy
bus=/sys/bus/mdev/devices
cat >/etc/gpubroker/policy.d/35-mdev.policy <<-END
	device vga-4 profile mbochs-small
	allow user alice claim profile mtty-1 limit 30
	allow user alice claim profile mtty-2
	allow user alice claim vga-4
	allow user alice claim profile mbochs-medium for 1h
	allow user carol claim profile any
	allow user bob claim any
	allow group users claim profile mdpy-vga
	deny user bob claim profile mdpy-vga
END
# Those parents are there now, so that Landlock knows them.
systemctl restart gpubroker
ok 'the daemon is back with the new policy' systemctl is-active gpubroker

mdevs() { local l=("$bus"/*); [ -e "${l[0]}" ] && echo ${#l[@]} || echo 0; }
none() { [ "$(mdevs)" = 0 ] && no_records; }
# begin USER NAME OPTIONS... -- QEMU's options: QEMU is told by the environment which mdevs it has.
begin() {
	local user=$1 name=$2 before=()
	shift 2
	while [ "$1" != -- ]; do before+=("$1"); shift; done
	shift
	rm -f "/tmp/$name.qmp"
	# shellcheck disable=SC2016 # for the user's shell
	run_as "$user" gpubroker run "${before[@]}" -- sh -c 'd=
		for u in $GPUBROKER_MDEV; do d="$d -device vfio-pci,sysfsdev=/sys/bus/mdev/devices/$u"; done
		exec qemu-system-x86_64 $d "$@"' sh -nodefaults -display none -M q35 -cpu max -accel tcg -m 64 \
		-qmp "unix:/tmp/$name.qmp,server=on,wait=off" "$@" >"/tmp/$name.log" 2>&1 </dev/null &
	vm_pid=$!
}

# One of each, and both in one VM.
begin alice one --gpu mtty --profile mtty-2 --
ok 'a QEMU that claims a serial card starts' vm_up one
like "$(vm_devices one)" 4348:3253 '... and has it'
is "$(ls /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/devices | wc -l)" 1 'it is an mdev of the type that was asked for'
uuid=$(ls $bus)
like "$(gpubroker leases)" "alice .* leased .* mtty mtty-2" 'it is listed as what it is'
like "$(gpubroker leases --json | tr -d ' \n')" \
	'"devices":\[\].*"parent":"mtty","profile":"mtty-2","mdev":"'"$uuid"'"' '... in JSON with its number'
is "$(stat -c %u "/dev/vfio/$(link_name "$bus/$uuid/iommu_group")")" 0 'its node is still root'"'"'s'
like "$(journalctl -q --no-pager -b -o cat -u gpubroker)" \
	"device=- group=[0-9]+ name=mtty-2 .* outcome=granted reason=\"mdev $uuid of mtty\"" 'the journal says which it is'
vm_end one
ok 'it is gone when the VM has ended, and its record' wait_for 20 none

begin alice two --gpu vga-4 --gpu mtty --profile 'Single port serial' --
ok 'a name of the policy may mean a profile, and what a driver calls it does as well' vm_up two
like "$(vm_devices two | xargs)" '(1234:1111.*4348:3253|4348:3253.*1234:1111)' '... and a VM has a display and a serial card by one claim'
is "$(ls /sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-small/devices | wc -l) $(ls /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/devices | wc -l)" '1 1' \
	'... of just those types'
kill -KILL $vm_pid
wait $vm_pid 2>/dev/null
ok 'they are gone when it was killed' wait_for 20 none

# Who may not, and what is not.
refused bob 77 'gpubroker: no rule allows you to claim profile "mtty-1" of mtty; ' \
	'who may have any device may not have a part of one by that' --gpu mtty --profile mtty-1
refused bob 77 'the policy denies you profile "mdpy-vga" of mdpy \(/etc/gpubroker/policy.d/35-mdev.policy:9\)' \
	'a deny beats a group that is allowed it' --gpu mdpy --profile mdpy-vga
refused bob 77 'no rule allows you to claim profile "no-such"' \
	'who has no rule is not told whether there is such a profile' --gpu mtty --profile no-such
refused alice 77 'no rule allows you to claim profile "mdpy-xga" of mdpy' 'a rule for one profile is none for another' \
	--gpu mdpy --profile mdpy-xga
refused carol 66 'gpubroker: mtty has no profile "mtty-3"; '"'gpubroker profiles mtty' shows" 'a profile that there is not' \
	--gpu mtty --profile mtty-3
refused carol 66 "gpubroker: $gpu2 offers no profiles: its driver makes no mediated devices" \
	'a device that makes no mdevs' --gpu $gpu2 --profile mtty-1
refused carol 67 'the policy has no .*"mttx"' 'neither a name of the policy nor a parent' --gpu mttx --profile mtty-1
refused carol 64 "'../../x' does not have the form of a profile" 'what leads out of a directory is no profile' --gpu mtty --profile ../../x
refused carol 64 'needs a device, not iommu-group:1; ' 'an IOMMU group has no profiles' --gpu iommu-group:1 --profile mtty-1
is "$(mdevs)" 0 'none of these made anything'

# explain USER DEVICE OPTIONS...
explain() {
	capture gpubroker policy explain --user "$@"
}
explain alice mtty --profile mtty-2
is "$status" 0 'policy explain knows of profiles'
like "$stdout" 'mtty-2 of mtty: allowed for alice.*35-mdev.policy:3.*now +could be lent: 12 of it' '... by which rule, and how many are left'
explain alice vga-4
like "$status $stdout" '^0 mbochs-small of mbochs: allowed for alice' '... also by a name that means a part'
explain bob mdpy --profile mdpy-vga
like "$status $stdout" '^77 .*35-mdev.policy:9 denies it' '... and who is denied it'
explain bob mtty --profile mtty-1
like "$status $stdout" '^77 .*no rule with this profile allows it' 'a rule without a profile is none for a part'
explain alice mtty --profile mtty-9
is "$status" 66 'a profile that there is not is said'

# As many as there are. Held by a process that does nothing.
twelve() { [ "$(mdevs)" = 12 ] && [ "$(gpubroker leases | grep -c ' leased .* mtty-2$')" = 12 ]; }
for _ in {1..12}; do hold carol --gpu mtty --profile mtty-2; done
wait_for 60 twelve || diag "$(gpubroker leases; cat /tmp/holders.log)"
ok 'twelve at once get the twelve that there are' twelve
refused alice 75 'none of profile "mtty-2" of mtty is left: 12 of it are in use; try again' 'the thirteenth is refused' \
	--gpu mtty --profile mtty-2
kill "${holders[0]}"
wait "${holders[0]}" 2>/dev/null
eleven() { [ "$(mdevs)" = 11 ]; }
ok 'one ends' wait_for 20 eleven
hold carol --gpu mtty --profile mtty-1
half() { gpubroker leases | grep -q ' leased .* mtty-1$'; }
ok 'and half of it goes' wait_for 20 half
refused alice 75 'none of profile "mtty-2" of mtty is left: 11 of it are in use, and left there is mtty-1: 1; ' \
	'who is refused is told what else is left' --gpu mtty --profile mtty-2
waiting() { journalctl -q --no-pager -b -o cat -u gpubroker | grep -c 'outcome=waiting'; }
waited=$(waiting)
waits() { [ "$(waiting)" -gt "$waited" ]; }
hold alice --gpu mtty --profile mtty-2 --wait
ok 'who would rather wait does' wait_for 20 waits
refused carol 75 'gpubroker: mtty is reserved for somebody who waits' 'nobody who came later gets what is left' \
	--gpu mtty --profile mtty-1
kill "${holders[12]}"
wait "${holders[12]}" 2>/dev/null
unset 'holders[0]' 'holders[12]'
ok 'when half a one has ended there is a whole one for who waited' wait_for 30 twelve
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'all are gone' wait_for 30 none

# Between the look and the making somebody else is faster: what the kernel says changes under our feet. A
# racer makes and removes them all the time, so that now and then it does.
(
	type=/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2
	u() { printf '00000000-0000-4000-8000-%012d' "$1"; }
	for i in {1..11}; do u $i >$type/create; done
	while :; do
		u 12 >$type/create && echo 1 >$bus/"$(u 12)"/remove
	done
) 2>/dev/null &
racer=$!
raced='' n=0
while [ -z "$raced" ] && [ $n -lt 300 ]; do
	n=$((n + 1))
	capture run_as carol gpubroker run --gpu mtty --profile mtty-2 -- true
	[[ ! $stderr =~ 'was free when the broker looked' ]] || raced=$stderr
done
kill $racer
wait $racer 2>/dev/null
for f in $bus/00000000-*; do [ ! -e $f ] || { echo "${f##*/}"; echo 1 >$f/remove; }; done >/tmp/others
like "$raced" 'gpubroker: profile "mtty-2" of mtty was free when the broker looked.*\(No space left on device\): somebody else was faster; try again' \
	"what changes between the look and the making is said ($n tries)"
ok '... and what somebody else made was left alone' test "$(wc -l </tmp/others)" -ge 11
ok '... while all of ours is gone' wait_for 20 none

# The daemon is killed while one is lent and one of somebody else's is there.
other=83b8f4f2-509f-382f-3c1e-e6bfe0fa1034
echo $other >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create
begin alice kept --gpu mtty --profile mtty-2 --
ok 'one more VM' vm_up kept
uuid=$(cd $bus && ls | grep -v $other)
others() {
	gpubroker profiles --json mtty | python3 -c 'import json, sys
print(*("%s:%d" % (p["type"], p["others"]) for p in json.load(sys.stdin)))'
}
is "$(others)" 'mtty-1:1 mtty-2:0' 'profiles tells somebody else'"'"'s from ours'
like "$(gpubroker profiles mtty)" 'TOTAL  OTHERS  API.*mtty-1 .* [0-9]+ +1 +vfio-pci' '... in a column of their own'
systemctl kill -s KILL gpubroker
ok 'the daemon comes back' wait_for 30 test -S /run/gpubroker/socket
back() { gpubroker leases | grep -q ' leased .* mtty mtty-2$'; }
ok '... and knows the lease' wait_for 30 back
ok '... whose mdev is there' test -e "$bus/$uuid"
ok '... as is the one of somebody else' test -e $bus/$other
vm_end kept
ours_gone() { [ ! -e "$bus/$uuid" ] && no_records; }
ok 'ours is gone when its VM has ended' wait_for 20 ours_gone
ok '... and the other is not' test -e $bus/$other
# Ended while no daemon is there: the next start removes it.
begin alice late --gpu mtty --profile mtty-2 --
ok 'and another' vm_up late
uuid=$(cd $bus && ls | grep -v $other)
systemctl stop gpubroker.socket gpubroker.service
vm_end late
ok 'with no daemon its mdev stays' test -e "$bus/$uuid"
systemctl start gpubroker.socket gpubroker.service
ok 'and the next start removes it' wait_for 30 ours_gone
ok '... and nothing else' test -e $bus/$other
echo 1 >$bus/$other/remove

# Taken back: the kernel asks nobody for these, so it waits until they are let go, and says so.
hold carol --gpu mdpy --profile mdpy-vga
one() { gpubroker leases | grep -q ' leased .* mdpy mdpy-vga$'; }
ok 'a third driver lends as well' wait_for 30 one
lease=$(gpubroker leases --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p')
capture gpubroker revoke "$lease"
is $status 0 'root takes it back'
kill "${holders[-1]}"
wait "${holders[-1]}" 2>/dev/null
ok 'it is gone' wait_for 30 none

is "$(killed)" "$killed" 'no process met its filter'
rm -f /etc/gpubroker/policy.d/35-mdev.policy /tmp/holders.log /tmp/others
systemctl restart gpubroker
modprobe -ra mtty mbochs mdpy
ok 'the host has no parents of mdevs again' test ! -e /sys/class/mdev_bus/mtty
done_testing
