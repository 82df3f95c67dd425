#!/bin/bash
# Others beside the broker: udev rules that give VFIO's nodes away, VMMs that take a device past the broker, network
# namespaces, and consoles that are not the boot VGA.
. ./lib.sh

policy=/etc/gpubroker/policy.d/43-neighbours.policy
cat >$policy <<-END
	device pair address $gpu2
	device pair address $gpu
	allow user carol claim address $gpu
	allow user carol claim address $gpu2
	allow user carol claim address $multi_gpu
	allow user carol claim address $multi_net
	allow group users claim address $prep_twin boot-vga
	allow user carol claim address $prep_twin boot-vga
END
systemctl restart gpubroker
wait_for 20 run_as carol gpubroker list
group=/dev/vfio/$(group_of $gpu2)

# ---- a udev rule, as guides for passthrough recommend it ----
rule=/etc/udev/rules.d/10-qemu-vfio.rules
echo 'SUBSYSTEM=="vfio", OWNER="bob", MODE="0600"' >$rule
udevadm control --reload
set_mark
refused carol 78 "$gpu2 is not lent: others than root may open $group \\(owner bob, mode 0600\\).*udev rule.*grep" \
	'a device whose node a udev rule gives to bob is not lent' --gpu $gpu2
ok '... and is the host'\''s again' wait_for 20 is_back $gpu2 bochs-drm
like "$(said)" "uid=$(id -u carol) .*outcome=refused reason=\"node\"" '... and the journal says so'
# What is on VFIO already shows it before anything is done.
echo vfio-pci >/sys/bus/pci/devices/$gpu2/driver_override
echo $gpu2 >/sys/bus/pci/drivers/bochs-drm/unbind
echo $gpu2 >/sys/bus/pci/drivers_probe
bobs() { [ "$(stat -c %U "$group")" = bob ]; }
wait_for 20 bobs
refused carol 78 "$group \\(owner bob" '... and what is on VFIO already is refused at once' --gpu $gpu2
like "$(gpubroker list 2>&1)" "$gpu2: others than root may open $group \\(owner bob, mode 0600\\)" 'list names the node'
capture gpubroker policy explain --user carol $gpu2
is $status 78 '... and so does explain'
like "$stdout" "now +refused: others than root may open $group" '... with the node'
rm $rule
udevadm control --reload
chown root $group
# By its permissions alone.
chmod 660 $group
refused carol 78 "mode 0660" 'a node of root'\''s that a group may open is not lent either' --gpu $gpu2
chmod 600 $group
capture run_as carol gpubroker run --gpu $gpu2 -- true
is $status 0 'one that only root may open is'
wait_for 20 no_records

# Given away while it is lent.
hold carol --gpu $gpu2
ok 'it is lent' wait_for 20 is_leased $gpu2
chown bob $group
like "$(gpubroker leases)" "others than root may open $group \\(owner bob" 'leases shows a node that is given away meanwhile'
set_mark
kill ${holders[-1]}
wait ${holders[-1]} 2>/dev/null
stuck_why() { gpubroker leases | grep -q "stuck for .*$gpu2: opening $group: Permission denied: it is uid $(id -u bob)'s"; }
ok 'when its holder lets go, the lease is stuck and says why' wait_for 20 stuck_why
ok '... and the journal does' said_it "outcome=stuck reason=.*opening $group"
ok '... and it ends, once the device was off VFIO' wait_for 30 no_records

# Taken by a stranger as it ends.
chown root $group 2>/dev/null
is "$(driver_of $gpu2)" vfio-pci 'the device is on VFIO as before'
wait_for 20 test -e $group
wait_for 20 test "$(stat -c %U $group)" = root
hold carol --gpu $gpu2
wait_for 20 is_leased $gpu2
chgrp bob $group
chmod 660 $group
# It opens the node the moment that this can be opened.
run_as bob python3 -c '
import os, sys, time
while True:
    try:
        os.open(sys.argv[1], os.O_RDWR)
        break
    except OSError:
        pass
open("/tmp/has-it", "w").close()
time.sleep(1000)' $group &
stranger=$!
systemctl kill -s STOP gpubroker # it is slower than the stranger
kill ${holders[-1]}
wait ${holders[-1]} 2>/dev/null
wait_for 20 test -e /tmp/has-it
systemctl kill -s CONT gpubroker
if [ -e /tmp/has-it ]; then
	slow() { gpubroker leases | grep -q 'releasing for .*a process has it open still or again'; }
	ok 'a stranger who gets in between: after a while the lease says so' wait_for 30 slow
	like "$(gpubroker leases)" "held by pid [0-9]+ \\(python3\\) of bob" '... and tells root who'
	kill $stranger
else
	fail 'a stranger gets in between'
	kill $stranger
fi
wait $stranger 2>/dev/null
rm -f /tmp/has-it
ok 'it ends when the stranger does' wait_for 30 no_records
chgrp root $group 2>/dev/null
chmod 600 $group 2>/dev/null

# ---- a VMM past the broker ----
is "$(gpubroker list --json | python3 -c 'import json, sys
print([d["status"] for d in json.load(sys.stdin) if d["address"] == sys.argv[1]][0])' $gpu2)" vfio-ready 'nobody has it'
rm -f /tmp/foreign.out
GPUBROKER_VGPU=$gpu2 python3 /tests/vfio-hold.py /tmp/foreign.out &
foreign=$!
ok 'a VMM of root'\''s takes it by VFIO' wait_for 20 test -s /tmp/foreign.out
like "$(gpubroker list 2>&1)" "0000:02:00.0 .*in-use" 'list says in-use, before anybody has claimed it'
like "$(gpubroker list 2>&1)" "held by pid $foreign " '... and names the holder to root'
unlike "$(run_as carol gpubroker list 2>&1)" "held by" '... and to nobody else'
capture gpubroker policy explain --user carol $gpu2
is $status 75 'explain does not say that it could be lent'
like "$stdout" 'now +in use: a process has' '... but that it is in use'
set_mark
refused carol 75 "$gpu2 is in use by somebody else" 'a claim is refused as busy' --gpu $gpu2
capture gpubroker run --gpu $gpu2 -- true
like "$stderr" 'no rule allows' 'root has no rule here'
ok '... and nothing was changed' has_driver $gpu2 vfio-pci
capture run_as carol gpubroker run --gpu pair -- readlink "/sys/bus/pci/devices/$gpu/driver"
is $status 0 'a name goes on to the card that is free'
like "$stdout" vfio-pci '... which is lent'
wait_for 20 is_back $gpu bochs-drm
capture run_as carol gpubroker run --wait=8s --gpu $gpu2 -- true
is $status 75 'with --wait it is waited for, as long as was said'
alive $foreign || fail 'the VMM lives'
run_as carol gpubroker run --wait=100s --gpu $gpu2 -- touch /tmp/got-it &
waiter=$!
sleep 4
ok 'who waits longer still waits' alive $waiter
no_records || fail 'nothing is leased meanwhile'
kill $foreign
wait $foreign 2>/dev/null
ok '... and has it when the VMM has ended' wait_for 30 test -e /tmp/got-it
wait $waiter
wait_for 20 no_records
rm -f /tmp/got-it /tmp/foreign.out
# A program that has opened the group, and no device.
sleep 1000 3<>$group &
foreign=$!
wait_for 5 fuser -s $group
refused carol 75 "$gpu2 is in use by somebody else" 'who has only the group is found by the claim' --gpu $gpu2
like "$(gpubroker list 2>&1)" "0000:02:00.0 .*in-use" '... and then listed'
kill $foreign
wait $foreign 2>/dev/null
echo >/sys/bus/pci/devices/$gpu2/driver_override
echo $gpu2 >/sys/bus/pci/drivers/vfio-pci/unbind
echo $gpu2 >/sys/bus/pci/drivers_probe
is "$(driver_of $gpu2)" bochs-drm 'it is as the case found it'

# ---- a container's network ----
if ! lacks 'an interface in a network namespace' e1000; then
	net=$(basename /sys/bus/pci/devices/$multi_net/net/*)
	unshare --net sleep 1000 &
	container=$!
	elsewhere() { [ "$(readlink /proc/$container/ns/net)" != "$(readlink /proc/self/ns/net)" ]; }
	wait_for 10 elsewhere
	python3 - "$net" $container <<-'END'
		import socket, struct, sys
		# RTM_NEWLINK with IFLA_NET_NS_PID
		s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
		body = struct.pack("BxHiII", 0, 0, socket.if_nametoindex(sys.argv[1]), 0, 0)
		body += struct.pack("HHI", 8, 19, int(sys.argv[2]))
		s.send(struct.pack("IHHII", 16 + len(body), 16, 5, 1, 0) + body)
		sys.exit(struct.unpack("i", s.recv(1000)[16:20])[0] != 0)
	END
	is "$(ls /sys/bus/pci/devices/$multi_net/net)" '' 'an interface goes to a container'
	refused carol 78 "$multi_net: a network interface of it is in another network namespace" \
		'its group is not lent' --gpu $multi_gpu
	capture gpubroker policy explain --user carol $multi_gpu
	is $status 78 '... which explain says too'
	like "$(gpubroker list --all --json | tr -d '\n')" 'another network namespace' '... and list --json'
	kill $container
	wait $container 2>/dev/null
	ok '... and the interface comes back' wait_for 20 test -e /sys/bus/pci/devices/$multi_net/net/"$net"
fi

# ---- a console on another display ----
card=$(basename "$(ls -d /sys/bus/pci/devices/$gpu2/drm/card*)")
connector=$(ls -d /sys/class/drm/"$card"-* | head -1)
is "$(cat "$connector/status") $(cat "$connector/enabled")" 'connected disabled' 'a display that nothing is shown on'
# For three seconds the broker remembers the program that had the group. (In a subshell, run_as replaces it.)
is_lent() { (run_as carol gpubroker run --gpu $gpu2 -- true); }
ok '... is lent' wait_for 20 is_lent
wait_for 20 is_back $gpu2 bochs-drm
fb=$(basename "$(ls -d /sys/bus/pci/devices/$gpu2/graphics/fb*)")
# con2fbmap CONSOLE FRAMEBUFFER
con2fbmap() {
	python3 - "$1" "$2" <<-'END'
		import fcntl, struct, sys
		fcntl.ioctl(open("/dev/fb0"), 0x4610, struct.pack("II", int(sys.argv[1]), int(sys.argv[2])))
	END
}
con2fbmap 1 "${fb#fb}"
card=$(basename "$(ls -d /sys/bus/pci/devices/$gpu2/drm/card*)")
connector=$(ls -d /sys/class/drm/"$card"-* | head -1)
is "$(cat "$connector/enabled")" enabled 'a text console is put on it'
refused carol 78 "$gpu2 is part of the host's console: its connector .* is connected and on; it takes a rule with boot-vga" \
	'then it is part of the console' --gpu $gpu2
capture gpubroker policy explain --user carol $gpu2
is $status 78 '... for explain, too'
sed -i "s/claim address $gpu2\$/& boot-vga/" $policy
reload
refused carol 78 'a rule allows it, add --force' '... with a rule, too, without --force' --gpu $gpu2
capture run_as carol gpubroker run --force --gpu $gpu2 -- true
is $status 0 '... but with --force'
wait_for 20 is_back $gpu2 bochs-drm
wait_for 20 no_records
con2fbmap 1 0

rm $policy
systemctl restart gpubroker
ok 'the daemon is back with the old policy' wait_for 20 gpubroker list
is "$(killed)" '' 'no filter has killed anything'
done_testing
