#!/bin/bash
# attach where the kernel has no iommufd: a QEMU that `run` has started opens the group of what is attached, which its
# supervisor serves for as long as attach waits for it. The lease is QEMU's then, and ends when the guest lets go.
. ./lib.sh
killed=$(killed)
[ ! -e /dev/iommu ] || skip_all 'this kernel has iommufd, by which devices are attached'
cp /tests/nested.elf /tmp/nested.elf

cat >/etc/gpubroker/policy.d/60-attach.policy <<-END
	allow user alice claim profile any
	allow user carol claim card
END
modprobe -q mbochs
systemctl restart gpubroker
ok 'the daemon is back with the new policy' systemctl is-active gpubroker

attach() { capture timeout 120 /tests/as "$1" unlimited gpubroker attach --qmp "/tmp/$2.qmp" "${@:3}"; }
detach() { capture timeout 120 /tests/as "$1" unlimited gpubroker detach --qmp "/tmp/$2.qmp" "${@:3}"; }
# groups PID: how many groups the process has open. By number, since a name goes with the mount of the daemon that opened it.
groups() {
	local number
	number=$(awk '$2 == "vfio" { printf "%x:", $1 }' /proc/devices)
	stat -Lc '%t:%T' "/proc/$1/fd"/* 2>/dev/null | grep -c "^$number"
}
supervisor() { pgrep -x gpubroker-lend; }
lease_of() { gpubroker leases --json | python3 -c 'import json, sys
print(*[l["id"] for l in json.load(sys.stdin) if sys.argv[1] in l["devices"]])' "$1"; }
peripherals() {
	qmp "$1" qom-list '{"path":"/machine/peripheral"}' | python3 -c 'import json, sys
print(*sorted(p["name"] for p in json.load(sys.stdin) if p["name"].startswith("gpubroker-") and "port" not in p["name"]))'
}
ports=(-device pcie-root-port,id=rp1,chassis=1,slot=1 -device pcie-root-port,id=rp2,chassis=2,slot=2)

vm alice alone -m 64 -S "${ports[@]}"
ok 'a QEMU of her own' vm_up alone
attach alice alone 01:00.0
is $status 78 '... that no run has started gets no device'
like "$stderr" "this kernel has no /dev/iommu \(iommufd\), so .* only if 'gpubroker run' has started it; .*nothing was claimed" \
	'... and the answer says which would'
vm_end alone

vm alice plug --gpu 02:00.0 --qemu -- -m 64 -serial file:/tmp/plug.serial -kernel /tmp/nested.elf -append yield "${ports[@]}"
ok 'a QEMU below run, with a card' vm_up plug
ok '... and its guest' wait_for 90 grep -q END /tmp/plug.serial
is "$(groups $vm_pid) $(groups "$(supervisor)")" '1 1' '... and a group'
attach alice plug --port rp1 01:00.0
is $status 0 'she attaches a second' || diag "$stderr"
id=$(lease_of $gpu)
is "$(peripherals plug)" "gpubroker-$id-0000-01-00.0 gpubroker-$id-0000-01-00.1" '... with its audio function'
like "$(tr '\r\n' '  ' </tmp/plug.serial)" 'PLUGGED 1234:1111 +PLUGGED 8086:2668' '... which the guest uses'
is "$(groups $vm_pid) $(groups "$(supervisor)")" '2 1' '... by its group, of which the supervisor has kept no copy'
detach alice plug 01:00.0
is $status 0 'she detaches it' || diag "$stderr"
ok '... and the host has it back' wait_for 5 is_back $gpu bochs-drm
ok '... with its audio function' has_driver $gpu_audio snd_hda_intel
is "$(groups $vm_pid) $(lease_of $gpu2 | wc -w)" '1 1' '... while the first lease goes on'
for round in 1 2; do
	attach alice plug 01:00.0
	is $status 0 "round $round: attached again" || diag "$stderr"
	detach alice plug any
	is $status 0 "round $round: detached" || diag "$stderr"
done

# A part of a device, and what programs read.
attach alice plug --json --profile mbochs-small mbochs
is $status 0 'she attaches an mdev' || diag "$stderr"
uuid=$(ls /sys/bus/mdev/devices)
is "$(python3 -c 'import json, sys
o = json.load(sys.stdin)
print(o["devices"][0]["device"], o["devices"][0]["id"] == "gpubroker-%d-%s" % (o["lease"], o["devices"][0]["device"]), o["used"])' \
	<<<"$stdout")" "$uuid True True" '... which is told in JSON'
detach alice plug --json "$uuid"
is "$status $(tr -d ' \n' <<<"$stdout" | sed 's/[0-9]*}$/N}/')" '0 {"lease":N}' '... and detaches it'
is "$(ls /sys/bus/mdev/devices)" '' '... and it is gone'

# One that waits lets others have the monitor meanwhile.
hold carol --gpu 01:00.0
attach alice plug 01:00.0
is $status 75 'a card that another user has is refused'
timeout 200 /tests/as alice unlimited gpubroker attach --qmp /tmp/plug.qmp --wait=10m 01:00.0 >/tmp/plug.out 2>&1 &
waiter=$!
waits() { gpubroker leases | grep -q waits; }
ok '... or waited for' wait_for 20 waits || diag "$(gpubroker leases)"
ok '... while the monitor is free for others' qmp plug query-status
kill -KILL "${holders[-1]}"
wait "${holders[-1]}" 2>/dev/null
wait $waiter
is $? 0 '... and attached when it is free' || diag "$(</tmp/plug.out)"
detach alice plug 01:00.0
is $status 0 '... and detached' || diag "$stderr"

# Others at the supervisor's socket.
first=$(lease_of $gpu2)
cat >/tmp/visitor.py <<-'END'
	import array, os, socket, sys, time
	s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	s.connect("\0gpubroker-lend/%s/%s" % (sys.argv[1], sys.argv[2]))
	turn = s.recv(4) # of a stranger nothing
	if sys.argv[3] == "stays":
	    print("connected" if turn else "sent away", flush=True)
	    time.sleep(1000)
	try:
	    s.sendmsg([b"\1\0\0\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [os.open("/dev/null", os.O_RDWR)]))])
	    print(s.recv(4))
	except OSError:
	    print(b"")
END
is "$(run_as bob timeout 20 python3 /tmp/visitor.py 1000 "$first" lends)" "b''" "another user's file is not taken"
is "$(run_as alice timeout 20 python3 /tmp/visitor.py 1000 "$first" lends)" "b''" 'nor is a file of her own that is no group'
run_as alice python3 /tmp/visitor.py 1000 "$first" stays >/tmp/visitor.out &
visitor=$!
wait_for 20 grep -q connected /tmp/visitor.out
attach alice plug 01:00.0
is $status 75 'while another attach is under way'
like "$stderr" 'another attach to this QEMU is under way; nothing was claimed' '... it is said before anything is claimed'
is "$(driver_of $gpu)" bochs-drm '... so the host has its card still'
kill $visitor
wait $visitor 2>/dev/null
# A socket that is closed only after an hour, sent before the supervisor has looked who comes.
cat >/tmp/lingers.py <<-'END'
	import array, socket, struct, sys
	listener = socket.create_server(("127.0.0.1", 0))
	sent = 0
	for i in range(100):
	    c = socket.create_connection(listener.getsockname())
	    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
	    c.setblocking(False)
	    try:
	        while True:
	            c.send(bytes(65536))
	    except BlockingIOError:
	        pass
	    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	    fd = array.array("i", [c.fileno()])
	    try:
	        s.connect("\0gpubroker-lend/%s/%s" % (sys.argv[1], sys.argv[2]))
	        s.sendmsg([b"\1\0\0\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])
	        sent += 1
	    except OSError:
	        pass
	    # Ours are not the last copies, where it was sent.
	    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1 if sent else 0, 3600))
	    s.close()
	    c.detach()
	print(sent, flush=True)
END
run_as bob timeout 120 python3 /tmp/lingers.py 1000 "$first" >/tmp/lingers.out 2>&1 &
lingers=$!
ok 'a stranger sends sockets that linger' wait_for 40 grep -qE '^[1-9]' /tmp/lingers.out || diag "$(</tmp/lingers.out)"
attach alice plug 01:00.0
is $status 0 '... and attach works when the visitors have gone' || diag "$stderr"
kill $lingers 2>/dev/null
wait $lingers 2>/dev/null

vm_end plug
ok 'with the VM both leases end' wait_for 30 is_back $gpu bochs-drm
ok '... and their records' wait_for 20 no_records

# Where a QEMU of `run` lets go, ends, or lies.
for mode in 'closes 14' 'ends 14' 'refuses 14' 'keeps 99'; do
	read -r word at <<<"$mode"
	rm -f /tmp/liar.qmp
	run_as alice gpubroker run --gpu 02:00.0 -- python3 /tests/hostile-qmp.py /tmp/liar.qmp $word "$at" >/tmp/liar.log 2>&1 </dev/null &
	liar=$!
	wait_for 20 test -S /tmp/liar.qmp
	attach alice liar 01:00.0
	isnt $status 0 "a QEMU that $word: attach fails" || diag "$stdout"
	like "$stderr" 'the device goes back to the host$' '... and the device goes back' || diag "$(</tmp/liar.log)"
	ok '... in fact' wait_for 20 is_back $gpu bochs-drm
	kill $liar 2>/dev/null
	wait $liar 2>/dev/null
	wait_for 20 is_back $gpu2 bochs-drm
done

is "$(killed)" "$killed" 'no process met its filter'
rm -f /tmp/nested.elf /tmp/plug.* /tmp/liar.* /tmp/alone.* /tmp/visitor.* /etc/gpubroker/policy.d/60-attach.policy
modprobe -r mbochs
systemctl restart gpubroker
done_testing
