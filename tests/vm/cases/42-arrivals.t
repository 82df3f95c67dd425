#!/bin/bash
# What changes around the daemon: a second one on its state directory, VFIO's modules unloaded and loaded again, /dev
# without VFIO, and prepare rules for functions of one slot in several groups.
. ./lib.sh
killed=$(killed)
. ./vfs.sh

main_pid() { systemctl show -P MainPID gpubroker; }
modules=(vfio_pci vfio_pci_core vfio_iommu_type1 vfio)
unload() { modprobe -ra "${modules[@]}" 2>/dev/null; ! grep -q '^vfio_pci ' /proc/modules; }
load() { modprobe -a vfio-pci vfio_iommu_type1; }
claims() { run_as alice gpubroker run --gpu 02:00.0 -- true; }

# A second daemon.
pid=$(main_pid)
hold alice --gpu 02:00.0
ok 'alice has a GPU' wait_for 20 is_leased $gpu2
before=$(cat /run/gpubroker/leases/*)
capture gpubrokerd --state /run/gpubroker/leases --socket /tmp/second
is $status 71 'a second daemon on the state directory ends'
like "$stderr" '/run/gpubroker/leases: another gpubrokerd has this state directory' '... with a sentence'
is "$(cat /run/gpubroker/leases/*)" "$before" '... and has changed no record'
is "$(main_pid)" "$pid" 'the first goes on'
systemctl kill -s KILL gpubroker
ok 'one that was killed is started again' wait_for 20 gpubroker list
like "$(gpubroker leases)" "$gpu2" '... and takes the lease up'
systemctl restart gpubroker
like "$(gpubroker leases)" "$gpu2" 'after a restart too'
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
holders=()
ok 'the GPU goes back' wait_for 20 is_back $gpu2 bochs-drm

# As a host without systemd's static nodes: the kernel makes /dev/vfio, and would remove it with its last node.
prepared=($prep_gpu $prep_audio $prep_twin)
for f in "${prepared[@]}"; do
	echo >"/sys/bus/pci/devices/$f/driver_override"
	echo "$f" >/sys/bus/pci/drivers/vfio-pci/unbind
done
mv /etc/gpubroker/policy.d /tmp/policy.d
mkdir /etc/gpubroker/policy.d
grep -v '^prepare' /tmp/policy.d/run-cases.policy >/etc/gpubroker/policy.d/a.policy
systemctl stop gpubroker.socket gpubroker
ok 'VFIO is unloaded' wait_for 10 unload
rm -rf /dev/vfio
load
ok 'the kernel makes /dev/vfio' test -c /dev/vfio/vfio
systemctl start gpubroker.socket gpubroker
ok 'a claim' wait_for 20 claims
wait_for 20 is_back $gpu2 bochs-drm
pid=$(main_pid)
for i in 1 2; do
	ok "a hook unloads VFIO ($i)" wait_for 10 unload
	load
	ok '... and loads it: the next claim is granted' claims
	ok '... and the GPU goes back' wait_for 20 is_back $gpu2 bochs-drm
done
is "$(main_pid)" "$pid" '... without a restart'

# Without VFIO.
wait_for 10 unload
seen=$(wc -l </run/uevents)
set_mark
capture claims
is $status 71 'without VFIO a claim is refused'
like "$stderr" "VFIO is not loaded; 'modprobe vfio-pci' as root loads it" '... and told what loads it'
is "$(driver_of $gpu2):$(tail -n +"$seen" /run/uevents | grep -c "PCI_SLOT_NAME=$gpu2")" bochs-drm:0 \
	'... and the GPU stayed on its driver'
load
ok 'once it is loaded the claim is granted' claims
wait_for 20 is_back $gpu2 bochs-drm

# /dev/vfio is another one after all.
wait_for 10 unload
rm -rf /dev/vfio
load
pid=$(main_pid) seen=$(wc -l </run/uevents)
set_mark
capture claims
is $status 71 'if /dev/vfio is another one a claim is refused'
like "$stderr" "VFIO's nodes are newer than the broker" '... with the reason'
is "$(tail -n +"$seen" /run/uevents | grep -c "PCI_SLOT_NAME=$gpu2")" 0 '... and the GPU stayed on its driver'
restarted() { [ "$(main_pid)" != "$pid" ] && gpubroker list; }
ok 'the daemon starts again' wait_for 20 restarted
ok '... and says why' said_it 'newer than this start: restarting'
ok 'the next claim is granted' claims
wait_for 20 is_back $gpu2 bochs-drm

# It is not loaded when the daemon starts: then systemd's rules for devices do not know its nodes.
systemctl mask --runtime -q modprobe@vfio_pci.service
systemctl stop gpubroker.socket gpubroker
wait_for 10 unload
rm -rf /dev/vfio
systemctl start gpubroker.socket gpubroker
wait_for 20 gpubroker list
capture claims
like "$status $stderr" "^71 .*'modprobe vfio-pci' as root loads it" 'a daemon that started without VFIO says what loads it'
load
pid=$(main_pid)
capture claims
[ $status = 0 ] || wait_for 20 restarted
ok 'once it is loaded a claim is granted, without a restart by anybody' claims
wait_for 20 is_back $gpu2 bochs-drm
systemctl unmask --runtime -q modprobe@vfio_pci.service

rm -rf /etc/gpubroker/policy.d
mv /tmp/policy.d /etc/gpubroker/policy.d
systemd-tmpfiles --create --prefix=/dev/vfio 2>/dev/null
systemctl restart gpubroker
prepared_again() { for f in "${prepared[@]}"; do has_driver "$f" vfio-pci || return; done; }
for f in "${prepared[@]}"; do echo "$f" >/sys/bus/pci/drivers_probe; done
ok 'what is prepared is taken again' wait_for 20 prepared_again

# Four VFs in the slot of their PF, each in a group of its own; a rule means one. The rule holds the ids of what was
# there when it was made.
rules=/etc/udev/rules.d/69-gpubroker-prepare.rules
first=${pf%.*}.1
echo "prepare address $first" >$policy
echo 0 >$at/sriov_drivers_autoprobe
echo 4 >$at/sriov_numvfs
gpubroker policy install >/dev/null
echo 0 >$at/sriov_numvfs
reload
ok 'a reload keeps the ids of a VF that has gone' grep -q "^# at address $first: .* is $first\$" $rules
udevadm control --reload
if udevadm verify --help >/dev/null 2>&1; then
	ok 'the udev rules are right' udevadm verify $rules
else
	skip 'the udev rules are right' 'this udevadm has no verify'
fi
echo 4 >$at/sriov_numvfs
udevadm settle
ok 'of four VFs in a slot the one that a rule means is on VFIO' wait_for 20 has_driver "$first" vfio-pci
sleep 1
is "$(for i in 0 1 2 3; do driver_of "$(vf $i)"; done | xargs)" vfio-pci '... and no other: each has a group of its own'
is "$(for i in 1 2 3; do override_of "$(vf $i)"; done | xargs)" '' '... nor an override'
echo 0 >$at/sriov_numvfs
echo 1 >$at/sriov_drivers_autoprobe
vfs_done
done_testing
