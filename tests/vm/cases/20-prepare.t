#!/bin/bash
# Prepare rules: udev has what they name on vfio-pci before a driver of the host could see it, and
# the daemon takes over what a driver had first. tests/vm/initrd ran `gpubroker policy install`.
. ./lib.sh

rules=/etc/udev/rules.d/69-gpubroker-prepare.rules
policy=/etc/gpubroker/policy.d/run-cases.policy
field() {
	gpubroker list --all --json |
		python3 -c 'import json, sys; print(next(d[sys.argv[2]] for d in json.load(sys.stdin)
			if d["address"] == sys.argv[1]))' "$1" "$2"
}
is_status() { [ "$(field "$1" status)" = "$2" ]; }
# log SINCE TEXT: the service said it.
log() { journalctl -q -ugpubroker{,-load} --since "$1" -o cat | grep -qF -- "$2"; }
# verified NAME: from systemd 254 on, udev can be asked.
verified() {
	if udevadm verify --help >/dev/null 2>&1; then
		ok "$1" udevadm verify $rules
	else
		skip "$1" 'this udevadm has no verify'
	fi
}
# Whatever was written before is in the journal with an earlier second.
now() { command journalctl --sync 2>/dev/null; sleep 1; date '+%F %T'; }

# The boot.
cp /run/uevents.boot /tmp/boot
is "$(bound $gpu /tmp/boot)" bochs-drm 'bochs-drm bound the GPU that no rule names'
is "$(bound $gpu2 /tmp/boot)" bochs-drm '... and the second one'
is "$(bound $prep_gpu /tmp/boot)" vfio-pci 'only vfio-pci ever bound the prepared GPU'
is "$(bound $prep_audio /tmp/boot)" vfio-pci '... and its audio function, which the rule means'
is "$(bound $prep_twin /tmp/boot)" vfio-pci '... and of two identical cards the one that is meant by path'
is "$(override_of $prep_gpu):$(override_of $prep_audio)" vfio-pci:vfio-pci 'by their overrides'
is "$(override_of $gpu2)" '' 'the other twin has none'
ok 'before modules were loaded for devices' systemctl is-active gpubroker-prepare.service
# Until the first case, for others have it prepare things.
taken=$(journalctl -q -ugpubroker{,-load} -b --until "@$(stat -c %Y /run/uevents.boot)" -o cat | grep outcome=prepared)
is "$taken" '' 'so the daemon found nothing to take over'
is "$(grep -cE '^[^#]*(RUN|PROGRAM|IMPORT\{program\})' $rules)" 0 'the udev rules start no process'
verified 'udev finds nothing to say about them'
is "$(journalctl -q -b -u systemd-udevd.service -o cat | grep -c 69-gpubroker)" 0 '... nor did it at boot'
ok 'what was installed is not stale' bash -c '! journalctl -q -b -ugpubroker{,-load} | grep stale'
is "$(field $prep_gpu status):$(field $prep_audio status)" vfio-ready:vfio-ready 'list says vfio-ready'

# A lease.
vm alice prep --gpu 08:00.0 -- -m 64 -device vfio-pci,host=08:00.0 -device vfio-pci,host=08:00.1
ok 'alice claims the prepared GPU' vm_up prep
like "$(vm_devices prep)" 1234:1111 '... and has it'
vm_end prep
ok 'when she lets go it is vfio-ready again' wait_for 20 is_status $prep_gpu vfio-ready
is "$(driver_of $prep_gpu):$(override_of $prep_gpu)" vfio-pci:vfio-pci 'on its VFIO driver, with its override'

# A driver of the host has it first.
start=$(now)
echo >/sys/bus/pci/devices/$prep_twin/driver_override
echo $prep_twin >/sys/bus/pci/drivers/vfio-pci/unbind
echo $prep_twin >/sys/bus/pci/drivers_probe
ok 'what a driver of the host got, the daemon takes over' wait_for 20 has_driver $prep_twin vfio-pci
ok '... and says so' wait_for 10 log "$start" 'outcome=prepared'
like "$(bound $prep_twin /run/uevents)" 'vfio-pci bochs-drm vfio-pci' 'the driver of the host had it'

# Another kernel, which has a driver of its own for such a card; here it is not to be had.
other=/lib/modules/other
mkdir $other
echo 'alias vfio_pci:v00001234d00001111sv*sd*bc*sc*i* other_vfio_pci' >$other/modules.alias
start=$(now)
systemctl kill -s HUP --kill-whom=main gpubroker
ok 'another kernel that is installed makes the file stale' wait_for 10 log "$start" 'is stale'
gpubroker policy install >/dev/null
ok '... and is in it then' grep -q 'kmod load other_vfio_pci' $rules
verified 'udev finds nothing to say about that either'
udevadm control --reload

# Hot-plug.
start=$(now)
outer device_add "{\"driver\": \"bochs-display\", \"bus\": \"$empty_port\", \"id\": \"plugged\"}" >/dev/null
plugged=0000:05:00.0
ok 'a GPU that is plugged in gets to vfio-pci, where its variant driver is not there' wait_for 30 has_driver $plugged vfio-pci
diag "drivers of the plugged GPU: $(bound $plugged /run/uevents); the daemon: $(
	journalctl -q -ugpubroker{,-load} --since "$start" -o cat | grep "$plugged" | xargs)"
ok '... and is vfio-ready' wait_for 10 is_status $plugged vfio-ready
# A preparation under way would be another claim's.
vm alice plug --gpu $plugged --wait=60s -- -m 64 -device vfio-pci,host=05:00.0
ok '... and alice can claim it' vm_up plug
vm_end plug
ok '... and give it back' wait_for 20 is_status $plugged vfio-ready
outer device_del '{"id": "plugged"}' >/dev/null
ok 'it can be unplugged' wait_for 30 test ! -e /sys/bus/pci/devices/$plugged || diag "$(dmesg | tail -n 20)"
rm -r $other
gpubroker policy install >/dev/null

# What the host uses, and what drives its console, is left alone.
start=$(now)
cp $policy /tmp/saved.policy
printf '%s\n' "prepare address $disk" 'prepare path 01.0' >>$policy
reload
ok 'what the host is using is left to it, with the reason' \
	wait_for 10 log "$start" "device=$disk group=$(group_of $disk) name=- rule=- by=- outcome=not-prepared reason=\"the host is using it: disk"
ok 'as is the boot VGA' wait_for 10 log "$start" "device=$boot_vga group=$(group_of $boot_vga) name=- rule=- by=- outcome=not-prepared"
is "$(driver_of $disk):$(driver_of $boot_vga)" nvme:bochs-drm 'both have their drivers'

# Renewed, stale, wrong.
ok 'reload has renewed the udev rules' grep -q "KERNEL==\"0000:04:00.?\"" $rules
cp /tmp/saved.policy $policy
start=$(now)
systemctl kill -s HUP --kill-whom=main gpubroker
ok 'a stale file is noticed' wait_for 10 log "$start" 'is stale'
gpubroker policy install >/dev/null
start=$(now)
systemctl kill -s HUP --kill-whom=main gpubroker
ok 'it is loaded anew' wait_for 10 log "$start" 'loaded again'
ok '... and after policy install it is not stale' bash -c "! journalctl -q -ugpubroker{,-load} --since '$start' | grep stale"
sum=$(md5sum $rules)
start=$(now)
echo 'prepare nonsense wrong' >>$policy
systemctl restart gpubroker
is "$(md5sum $rules)" "$sum" 'a wrong policy leaves the udev rules as they were'
ok '... and the journal says why' log "$start" 'run-cases.policy:'
ok '... and what of it' log "$start" 'nothing was changed'
ok '... and the daemon runs' systemctl is-active gpubroker.service
run_as alice gpubroker policy install >/dev/null 2>/tmp/err
is $? 65 'policy install fails with 65 for it'
cp /tmp/saved.policy $policy
echo '#' >>$rules
run_as alice gpubroker policy install >/dev/null 2>/tmp/err
is $? 73 'a user cannot install'
like "$(cat /tmp/err)" 'this takes root' '... and is told'
systemctl restart gpubroker
is "$(md5sum $rules)" "$sum" 'a restart renews them'
ok 'no unit has failed' bash -c '! systemctl --failed --no-legend | grep .'
done_testing
