#!/bin/bash
# gpubroker prepare: root has a free device on its VFIO driver until the next boot or `restore`; a lease in between
# and a restart of the broker change nothing, and a broker that is killed in the middle is followed by one that ends it.
. ./lib.sh

field() {
	gpubroker list --all --json |
		python3 -c 'import json, sys; print(next(d[sys.argv[2]] for d in json.load(sys.stdin)
			if d["address"] == sys.argv[1]))' "$1" "$2"
}
is_ready() { [ "$(field $gpu status):$(driver_of $gpu)" = vfio-ready:vfio-pci ]; }
prepare() { capture gpubroker prepare "$@"; }

host=$(driver_of $gpu)
is "$host" bochs-drm 'the host has its GPU'

# Refusals that teach.
capture run_as alice gpubroker prepare $gpu
is $status 77 'only root may prepare'
like "$stderr" "only root can prepare a device; 'gpubroker run' puts what you claim onto VFIO" '... and others need not'
capture run_as alice gpubroker prepare --json $gpu
like "$stderr" '^\{"number":17,"name":"not-yours","status":77,"sentence":"only root' '... as JSON too'
is "$stdout" '' '... which is not where the result would be'
prepare 00:01.0
is $status 78 'the console is not prepared'
prepare ff:00.0
is $status 66 'nor what is not there'
hold alice --gpu 01:00.0
ok 'alice claims it' wait_for 30 is_leased $gpu
prepare 01:00.0
is $status 75 'what is leased is not prepared'
like "$stderr" "is leased to alice .*gpubroker revoke" '... and by whom it is'
prepare --json 01:00.0
is "$(python3 -c 'import json, sys; o = json.loads(sys.argv[1]); print(o["number"], o["user"], o["device"])' "$stderr")" \
	"2 alice $gpu" '... also for a program'
kill "${holders[0]}"
ok 'the host has it back' wait_for 30 is_back $gpu $host
# Its sound: the last close of a display's node has the kernel switch its console on.
sound=$(echo /sys/bus/pci/devices/$gpu_audio/sound/card*/controlC*)
exec 9<"/dev/snd/${sound##*/}"
prepare 01:00.0
if [ $status = 78 ]; then
	like "$stderr" 'in use by the host: .* has /dev/snd/controlC. open; stop that, or add --force' 'what a program has open is named'
	is "$(driver_of $gpu)" $host '... and left alone'
else
	fail 'what a program has open is refused' "$status $stderr"
fi
exec 9<&-

# It does what it says.
set_mark
prepare --json 01:00.0
is $status 0 'root prepares it' || diag "$stderr"
is "$(python3 -c 'import json, sys; o = json.loads(sys.argv[1]); print(o["device"], o["status"], o["driver"])' "$stdout")" \
	"$gpu vfio-ready vfio-pci" '... which a program reads'
is "$(driver_of $gpu):$(driver_of "${gpu%.0}.1")" vfio-pci:vfio-pci 'with all of its group'
ok '... and the list has it' wait_for 20 is_ready
ok 'the journal tells who asked for it' wait_for 20 said_it 'outcome=preparing.*by=0|by=0.*outcome=preparing'
is "$(echo /run/gpubroker/leases/prepare-*)" '/run/gpubroker/leases/prepare-*' 'nothing of it is on record any more'
prepare 01:00.0
is $status 0 'once more changes nothing'

# A lease, a restart, and a restore.
vm alice one --gpu 01:00.0 -- -m 64 -device vfio-pci,host=01:00.0
ok 'alice is lent it' vm_up one
qmp one quit >/dev/null
wait $vm_pid
ok '... and it is ready again behind her' wait_for 30 no_records
ok '... on vfio-pci' wait_for 20 is_ready
systemctl restart gpubroker
ok 'it is so for the next broker' wait_for 30 is_ready
capture gpubroker restore 01:00.0
is $status 0 'restore undoes it' || diag "$stderr"
ok '... and the host has its driver' wait_for 20 is_back $gpu $host
is "$(override_of $gpu)" '' '... without an override'

# Killed in the middle: the record is there, and nothing or half of it is done.
systemctl stop gpubroker
vendor=$(sed 's/^0x//' "/sys/bus/pci/devices/$gpu/vendor") device=$(sed 's/^0x//' "/sys/bus/pci/devices/$gpu/device")
printf 'gpubroker prepare 1\nfunction %s %s %s\nby 0\nend\n' $gpu "$vendor" "$device" \
	>"/run/gpubroker/leases/prepare-${gpu%.0}-0"
echo vfio-pci >"/sys/bus/pci/devices/$gpu/driver_override"
echo $gpu >"/sys/bus/pci/devices/$gpu/driver/unbind"
systemctl start gpubroker
ok 'a broker ends what the one before it had begun' wait_for 30 is_ready
ok '... and then nothing is on record' wait_for 20 bash -c '! ls /run/gpubroker/leases/prepare-* 2>/dev/null'
ok 'restore gives it back' gpubroker restore 01:00.0
ok '... to the host' wait_for 20 is_back $gpu $host
is "$(killed)" '' 'no filter has killed anything'
done_testing
