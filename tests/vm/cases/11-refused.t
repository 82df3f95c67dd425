#!/bin/bash
# Every "no" has its own clear answer and exit status, and changes nothing.
. ./lib.sh

# refused USER DEVICE STATUS REGEX NAME [OPTION...]
refused() {
	local user=$1 device=$2 want=$3 regex=$4 name=$5
	shift 5
	capture run_as "$user" gpubroker run "$@" --gpu "$device" -- touch /tmp/was-run
	is $status "$want" "$name: exit status $want"
	like "$stderr" "^gpubroker: [^
]*$regex[^
]*(
gpubroker: [^
]*){0,2}\$" "$name: one sentence that says so, and what may help"
}
snapshot() {
	for f in /sys/bus/pci/devices/*; do
		echo "$f $(driver_of "${f##*/}") $(override_of "${f##*/}")"
	done
}
before=$(snapshot)
set_mark

# bob, traced: every process of the daemon's, every write and open for writing.
pid=$(systemctl show -P MainPID gpubroker)
helpers="-p $(helper_pid watch) -p $(helper_pid load)"
# shellcheck disable=SC2086
strace -f -e trace=write,openat,openat2,clone,clone3,fork -o /tmp/refused.trace -p "$pid" $helpers 2>/tmp/strace.err &
tracer=$!
traced() {
	local p
	for p in $pid $(helper_pid watch) $(helper_pid load); do
		grep -q '^TracerPid:[[:space:]]*[1-9]' "/proc/$p/status" || return
	done
}
wait_for 10 traced
refused bob $gpu 77 "no rule allows you to claim $gpu; .*/etc/gpubroker/policy.d/" 'no rule for bob'
sleep 0.5
kill $tracer
wait $tracer 2>/dev/null
like "$(cat /tmp/refused.trace)" 'openat2' 'the trace saw the claim being decided'
is "$(grep -E 'O_WRONLY|O_RDWR' /tmp/refused.trace)" '' 'nothing was opened for writing for bob'
is "$(grep -E '^[0-9]+ +(clone|fork)' /tmp/refused.trace)" '' 'no worker was started for bob'
is "$(grep -E '^[0-9]+ +write' /tmp/refused.trace | grep -v 'write(2, ')" '' 'bob caused not one write but the log'

refused bob any 77 'no rule allows you to claim any GPU' 'no rule for any GPU'
lacks 'the boot VGA' boot-vga || {
	refused alice $boot_vga 78 "$boot_vga is the boot VGA .* boot-vga and --force" 'the boot VGA'
	refused alice $boot_vga 78 "$boot_vga is the boot VGA" 'the boot VGA by force without boot-vga' --force
}
refused alice $absent 66 "no PCI function $absent on this host" 'an address with nothing there'
refused alice ff:1f.7 66 'no PCI function 0000:ff:1f.7' 'the last address of the domain'
lacks 'a function without a group' second-bridge ||
	refused alice $groupless 72 "$groupless has no IOMMU group.*IOMMU on" 'a function without a group'
refused alice 1:0.0 64 "'1:0.0' is no device; did you mean 0000:01:00.0?" 'a malformed address'
refused alice 0000:01:00.8 64 "'0000:01:00.8' is no device" 'a function number past 7'
refused alice ../../etc/passwd 64 'is no device' 'a path'
refused alice iommu-group:x 64 'is no device' 'a malformed group'
refused alice iommu-group:99999 66 'no IOMMU group 99999' 'a group that is not there'
refused alice a100 67 'the policy has no device "a100"' 'a name that the policy lacks'
refused bob card 77 'no rule allows you to claim device "card"' "another's name"
lacks 'a companion in another slot' bridge-groups ||
	refused alice $multi_gpu 77 "$multi_gpu shares IOMMU group [0-9]+ with $multi_net, which no rule allows" \
		'a companion in another slot'
refused alice 02:00.0 64 'no size' 'a malformed size' --memlock 12Q
refused alice 02:00.0 77 'no rule grants you locked memory' 'memlock where no rule grants any' --memlock 1G
# On ARM there is none.
[ "$HOSTTYPE" != x86_64 ] || refused bob 0000:00:1f.0 77 'no rule allows you' "the host's ISA bridge"

capture run_as alice gpubroker --socket /tmp/nothing list
is $status 69 'no broker: exit status 69'
like "$stderr" 'no broker answers at /tmp/nothing' 'no broker: it says where it looked'
capture run_as alice gpubroker frobnicate
is $status 64 'an unknown command: exit status 64'
capture run_as alice gpubroker run
is $status 64 'run without COMMAND: exit status 64'

ok 'no command was started for a refused claim' test ! -e /tmp/was-run
is "$(snapshot)" "$before" 'no driver and no override has changed'
is "$(ls /run/gpubroker/leases)" '' 'no record was written'

# On ARM the kernel gives a function its group with its first driver, and nothing here has driven this one.
if lacks 'a function has a group before it has had a driver' early-groups; then
	refused alice $driverless 72 "$driverless has no IOMMU group.*gpubroker doctor" 'a function that has had no driver'
	like "$(run_as alice gpubroker doctor $driverless)" "no IOMMU group, though others are: .*prepare rule" \
		'... for which doctor knows what would help'
	d=/sys/bus/pci/devices/$driverless
	echo vfio-pci >$d/driver_override
	echo $driverless >/sys/bus/pci/drivers_probe
	ok '... and which has its group once it has had one' test -e $d/iommu_group
	echo $driverless >/sys/bus/pci/drivers/vfio-pci/unbind
	echo >$d/driver_override
fi

# What may be had though nothing drives it: claimed, and left without a driver again.
capture run_as alice gpubroker run --gpu $driverless -- readlink "/sys/bus/pci/devices/$driverless/driver"
like "$stdout" vfio-pci 'a function without a driver can be claimed'
ok '... and has none afterwards' wait_for 20 test ! -e "/sys/bus/pci/devices/$driverless/driver"
wait_for 10 no_records
is "$(override_of $driverless)" '' '... and no override'

journal=$(said)
like "$journal" "uid=1001 pid=[0-9]+ device=$gpu group=[0-9-]+ name=- rule=- by=- outcome=refused reason=\"policy\"" \
	'the journal has who was refused what and why'
like "$journal" "lease=[0-9]+ uid=1000 pid=[0-9]+ device=$driverless group=[0-9]+ name=- rule=/etc/gpubroker/policy.d/[^ ]+.policy:[0-9]+ by=- outcome=granted" \
	'the journal has who was granted what by which rule'
done_testing
