#!/bin/bash
# Between two tenants of a device's own node, which opens more than once: a descriptor that was never bound
# keeps the lease, wherever it went, and what an old tenant keeps is worth nothing to him once another has the
# device. First what happens without a broker.
. ./lib.sh
killed=$(killed)
. /tests/cdev.sh
needs cdevs

# root_binds DRIVER: the second GPU, by plain writes.
root_binds() {
	echo "$1" >/sys/bus/pci/devices/$gpu2/driver_override
	echo $gpu2 >/sys/bus/pci/devices/$gpu2/driver/unbind
	echo $gpu2 >/sys/bus/pci/drivers_probe
}
root_binds vfio-pci
node=$(cdev_of $gpu2)
talk old python3 /tests/cdev.py
talk new python3 /tests/cdev.py
is "$(say old open i /dev/iommu) $(say old open d "$node")" 'ok ok' 'without a broker: a tenant opens the node, and keeps it idle'
is "$(say new open i /dev/iommu) $(say new open d "$node") $(say new bind d i)" 'ok ok ok' '... the next one opens it and binds it'
is "$(say old bind d i)" EINVAL '... while he has it, the old one cannot'
is "$(say new close d)" ok '... and when he is through'
is "$(say old bind d i) $(say old info d)" 'ok ok' '... the old one binds it: the theft'
quit old
quit new
root_binds ''
ok 'the host has it again' has_driver $gpu2 bochs-drm

# The same with the broker. The old tenant gives his descriptor to a process that is none of the claim's, and
# unlocks it, so that the broker takes it for gone.
talk old run_as alice python3 /tests/cdev.py
talk a run_as alice gpubroker run --gpu $gpu2 -- python3 /tests/cdev.py
ok 'a tenant claims' wait_for 20 is_leased $gpu2
node=$(cdev_of $gpu2)
is "$(say a open i /dev/iommu) $(say a open d "$node")" 'ok ok' '... and opens the node, and binds it not'
is "$(say old receive d /tmp/old.socket) $(say a send d /tmp/old.socket)" 'listening ok' '... and passes it on'
read -rt 30 -u "${cdev_from[old]}" line
is "$line" ok '... to another process'
is "$(say old receive i /tmp/old.socket) $(say a send i /tmp/old.socket)" 'listening ok' '... with its iommufd'
read -rt 30 -u "${cdev_from[old]}" line
quit a
sleep 2
is "$(lease_state $gpu2)" leased 'what was passed on keeps the lease, though it was never bound'
systemctl kill -s KILL gpubroker
ok '... and through a restart of the daemon' wait_for 30 is_state $gpu2 leased
capture run_as carol gpubroker run --gpu $gpu2 -- true
is $status 75 '... so that the next one has to wait'
is "$(say old unlock d)" ok 'the old one does as if he had let go'
systemctl restart gpubroker
unlent() { local s; s=$(lease_state $gpu2); [ "$s" = stuck ]; }
ok 'then it is on its way back, which the kernel does not finish: it is stuck' wait_for 40 unlent
capture run_as carol gpubroker run --gpu $gpu2 -- true
isnt $status 0 '... and lent to nobody'
like "$stderr" "$gpu2 .*(stuck|unbind)" '... who is told why'
like "$(gpubroker leases)" "held by pid ${cdev_pid[old]} .* of alice" '... and root sees who has it' ||
	diag "$(ls -l "/proc/${cdev_pid[old]}/fd")"
isnt "$(say old bind d i)" ok 'the old descriptor does not bind any more'
is "$(say old info d)" EINVAL '... and gives no device'
is "$(say old close d)" ok 'he lets go'
ok 'the host has it back' wait_for 40 is_back $gpu2 bochs-drm
ok '... and no record' wait_for 20 no_records
quit old

# What stays on its VFIO driver is unbound and bound again all the same.
echo "allow user alice claim address $prep_twin" >/etc/gpubroker/policy.d/38-cdev.policy
systemctl restart gpubroker
is "$(driver_of $prep_twin)" vfio-pci 'a function that is prepared'
before=$(cdev_of $prep_twin)
ok '... has a node while nobody has it' test -c "$before"
talk old run_as alice python3 /tests/cdev.py
talk a run_as alice gpubroker run --gpu $prep_twin -- python3 /tests/cdev.py
ok '... is claimed' wait_for 20 is_leased $prep_twin
is "$(say a open i /dev/iommu) $(say a open d "$(cdev_of $prep_twin)") $(say a unlock d)" 'ok ok ok' '... opened and unlocked'
is "$(say old receive d /tmp/old.socket) $(say a send d /tmp/old.socket)" 'listening ok' '... and passed on'
read -rt 30 -u "${cdev_from[old]}" line
quit a
stuck_twin() { is_state $prep_twin stuck; }
ok '... so it is not lent again' wait_for 40 stuck_twin
quit old
ok 'until it is let go' wait_for 40 no_records
is "$(driver_of $prep_twin)" vfio-pci '... when it is on its VFIO driver again'
capture run_as alice gpubroker run --gpu $prep_twin -- true
is $status 0 '... and lent'
wait_for 20 no_records
rm /etc/gpubroker/policy.d/38-cdev.policy
systemctl restart gpubroker
is "$(killed)" "$killed" 'no process met its filter'
done_testing
