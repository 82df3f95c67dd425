#!/bin/bash
# Cases from machines in the field: a user in a thousand groups, ids and addresses as patterns, QEMU's arguments in
# JSON as libvirt writes them, an address that another device has since a card was added, a group that somebody else
# holds, a device on pci-stub, and a VMM that is killed together with its supervisor.
. ./lib.sh

rules=/etc/udev/rules.d/69-gpubroker-prepare.rules
own=/etc/gpubroker/policy.d/49-field.policy
status_of() {
	gpubroker list --all --json | python3 -c 'import json, sys; print(next(d["status"] for d in json.load(sys.stdin)
		if d["address"] == sys.argv[1]))' "$1"
}
is_status() { [ "$(status_of "$1")" = "$2" ]; }
# put ADDRESS DRIVER: by its override; an empty one leaves it to any driver.
put() {
	echo "$2" >"/sys/bus/pci/devices/$1/driver_override"
	[ ! -e "/sys/bus/pci/devices/$1/driver" ] || echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
	echo "$1" >/sys/bus/pci/drivers_probe
}

# ---- many groups, pairs of ids, patterns of addresses ----

cp /etc/group /tmp/saved.group
for i in $(seq 1000); do echo "ad$i:x:$((700000000 + i)):bob"; done >>/etc/group
echo 'gpuusers:x:1500000000:bob' >>/etc/group
cat >$own <<-END
	allow group gpuusers claim 1234:1111 address *:02:00.* limit 1
	allow user carol claim any
END
reload
ok 'bob is in a thousand groups' test "$(run_as bob id -G | wc -w)" -gt 1000
refused bob 77 'no rule allows' 'a card at another address is not his' --gpu 01:00.0
hold bob --gpu 02:00.0
ok 'a rule for the last of his groups, a pair of ids and a pattern gives him the card' wait_for 20 is_leased $gpu2
unlike "$(gpubroker leases)" 'would not grant' 'the lease is not shown as one that no rule grants'
systemctl restart gpubroker
like "$(gpubroker leases)" "leased .*$gpu2" 'after a restart the lease is there'
unlike "$(gpubroker leases)" 'would not grant' '... and granted by the policy'
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'the host has the card back' wait_for 20 is_back $gpu2 bochs-drm
cp /tmp/saved.group /etc/group

# ---- QEMU's arguments ----

# begin NAME [QEMU's options]: with --qemu, as libvirt starts it.
begin() {
	local name=$1
	shift
	rm -f "/tmp/$name.qmp"
	run_as carol gpubroker run --gpu 02:00.0 --qemu -- qemu-system-x86_64 -display none -vga none -nic none -cpu max \
		-accel tcg -m 64 -S -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \
		-qmp "unix:/tmp/$name.qmp,server=on,wait=off" "$@" >"/tmp/$name.log" 2>&1 </dev/null &
	vm_pid=$!
}
ports() { qmp "$1" query-pci | python3 -c 'import json, sys
for bus in json.load(sys.stdin):
	for d in bus["devices"]:
		if d["qdev_id"]: print(d["qdev_id"], d["slot"])' | sort | xargs; }

begin json -M q35 -device '{"driver":"pcie-root-port","id":"pci.1","bus":"pcie.0","chassis":1,"addr":"0x1"}' \
	-device '{"driver":"pcie-root-port","id":"pci.2","bus":"pcie.0","chassis":255,"addr":"0x2"}'
ok 'devices in JSON, at places that libvirt chose' vm_up json || diag "$(cat /tmp/json.log)"
like "$(ports json)" '^gpubroker-port0 [0-9]+ pci\.1 1 pci\.2 2$' '... have them, and our port another one'
vm_end json

cat >/tmp/q35.cfg <<-END
	[machine]
	  type = "q35"
	[device "rp"]
	  driver = "pcie-root-port"
	  bus = "pcie.0"
	  chassis = "255"
	  addr = "1.0"
END
begin config -readconfig /tmp/q35.cfg
ok 'a machine that only -readconfig tells' vm_up config || diag "$(cat /tmp/config.log)"
like "$(ports config)" '^gpubroker-port0 [0-9]+ rp 1$' '... gets our port beside its own'
vm_end config

# ---- both are killed ----

begin killed -M q35
ok 'a machine runs' vm_up killed
supervisor=$(pgrep -x gpubroker -P "$vm_pid" || pgrep -x gpubroker -u carol)
kill -9 "$vm_pid" $supervisor
wait "$vm_pid" 2>/dev/null
ok 'QEMU and its supervisor killed at once: the host has the card back' wait_for 20 is_back $gpu2 bochs-drm

# ---- other drivers ----

if modprobe pci-stub 2>/dev/null || [ -e /sys/bus/pci/drivers/pci-stub ]; then
	put $gpu2 pci-stub
	is "$(driver_of $gpu2)" pci-stub 'a card that its administrator keeps on pci-stub'
	capture run_as carol gpubroker run --gpu 02:00.0 -- readlink "/sys/bus/pci/devices/$gpu2/driver"
	like "$status $stdout" '^0 .*/vfio-pci$' '... is lent'
	ok '... and goes back there' wait_for 20 is_back $gpu2 pci-stub
	is "$(override_of $gpu2)" pci-stub '... with its override'
	put $gpu2 ''
else
	skip 'a card on pci-stub' 'this kernel has none'
fi
put $boot_vga vfio-pci
ok 'the boot VGA on vfio-pci shows no console: it is vfio-ready' wait_for 10 is_status $boot_vga vfio-ready
put $boot_vga ''
ok '... and on its driver the boot VGA' wait_for 10 is_status $boot_vga boot-vga

# ---- an address that is another device's by now ----

echo "prepare address $disk" >/tmp/disk.policy
like "$(gpubroker policy check /tmp/disk.policy)" "disk.policy:1:1: warning: the host is using $disk \(disk" \
	'policy check warns of an address that the host uses'
echo "prepare address $gpu2" >>$own
unlike "$(gpubroker policy check $own)" 'the host is using' '... and of no other'
gpubroker policy install >/dev/null
ok 'the udev rule holds the ids of what is there' grep -qF "# at address $gpu2: 1234:1111 is $gpu2" $rules
# As if another card had been there when the rules were made.
sed -i 's/1234:1111 is/10de:1eb8 is/; s/v00001234d00001111/v000010DEd00001EB8/' $rules
capture gpubroker policy install --keep
is $status 0 'a renewal'
like "$stderr" "$gpu2 is 1234:1111, and was 10de:1eb8" '... says that another device is there'
ok '... and keeps the ids' grep -qF 'v000010DEd00001EB8' $rules
udevadm control --reload
echo $gpu2 >/sys/bus/pci/devices/$gpu2/driver/unbind
udevadm trigger --action=add --settle "/sys/bus/pci/devices/$gpu2"
is "$(driver_of $gpu2):$(override_of $gpu2)" : 'udev leaves that device alone'
gpubroker policy install >/dev/null
udevadm control --reload
udevadm trigger --action=add --settle "/sys/bus/pci/devices/$gpu2"
is "$(driver_of $gpu2)" vfio-pci 'by hand the rules are made anew, and mean what is there'

# ---- what somebody else holds ----

sed -i '$d' $own
gpubroker policy install >/dev/null
udevadm control --reload
sleep 1000 <>"/dev/vfio/$(group_of $gpu2)" &
holder=$!
wait_for 5 fuser -s "/dev/vfio/$(group_of $gpu2)"
capture gpubroker restore $gpu2
is $status 75 'restore of a group that another program has'
like "$stderr" "$gpu2 is still held by a process" '... says so'
like "$stderr" "held by pid $holder \(sleep\)" '... and which'
unlike "$(gpubroker leases)" 'would not grant' '... and no rule is missed'
kill $holder
wait $holder 2>/dev/null
ok 'when it lets go, the host has the card' wait_for 30 no_records
put $gpu2 ''
is "$(driver_of $gpu2)" bochs-drm '... as the case found it'

# ---- interrupts ----

ok 'this machine remaps interrupts' grep -q '^IR-' /sys/kernel/irq/*/chip_name
is "$(status_of $gpu)" available '... so its devices can be lent'

rm $own
reload
done_testing
