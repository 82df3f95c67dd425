#!/bin/bash
# Programs of the host that have a device open: it is not taken from them before root or the rule says so, whoever
# they are and however they hide; and nobody waits for a finder that is gone, slow or hostile.
. ./lib.sh

policy=/etc/gpubroker/policy.d/45-in-use.policy
cat >$policy <<-END
	device pair address $gpu2
	device pair address $multi_gpu
	allow user carol claim address $gpu
	allow user carol claim address $gpu2
	allow user carol claim address $multi_gpu
	allow user carol claim address $multi_net
	allow user alice claim address $gpu2
	allow user bob claim address $gpu2 in-use
END
systemctl restart gpubroker
wait_for 20 run_as carol gpubroker list
finder() { [ "$(cat "/proc/$(helper_pid find)/comm")" = gpubroker-find ]; }
ok 'the finder is there' wait_for 20 finder
sleep 1

# card ADDRESS: the node of its display.
card() { local c=(/sys/bus/pci/devices/"$1"/drm/card*); echo "/dev/dri/${c##*/}"; }
wait_for 20 test -c "$(card $gpu2)"
# open NODE: a program has it open, its pid in opener.
cat >/tmp/opener.py <<-'END'
	import os, sys, time
	fds = [os.open(n, os.O_RDWR) for n in sys.argv[1:]]
	print("open", flush=True)
	time.sleep(1000)
END
open_node() {
	: >/tmp/opener.out
	"${@:2}" python3 /tmp/opener.py "$1" >/tmp/opener.out &
	opener=$!
	wait_for 20 grep -q open /tmp/opener.out
}
end_opener() {
	kill "$opener"
	wait "$opener" 2>/dev/null
}

# fresh: a display that nobody has had open. When the last one closes it, the kernel turns its connector on, and then it
# counts as a console.
fresh() {
	echo $gpu2 >/sys/bus/pci/drivers/bochs-drm/unbind
	echo $gpu2 >/sys/bus/pci/drivers/bochs-drm/bind
	wait_for 20 test -e /sys/bus/pci/devices/$gpu2/drm
	sleep 0.5
	node=$(card $gpu2)
	wait_for 20 test -c "$node"
}
open_card() {
	fresh
	open_node "$node" "$@"
}

# ---- a display ----
open_card
refused carol 78 "$gpu2 is in use by the host: a program of the host has $node open; stop it, or add --force" \
	'a display that a program of root has open is not lent' --gpu $gpu2
unlike "$stderr" "python|$opener" '... and nobody else learns whose it is'
is "$(driver_of $gpu2)" bochs-drm '... and nothing was unbound'
ok '... nor recorded' no_records
capture gpubroker run --gpu $gpu2 -- true
is $status 77 'root needs a rule too'
echo "allow user root claim address $gpu2" >>$policy
reload
capture gpubroker run --gpu $gpu2 -- true
is $status 78 '... and is refused for the same reason'
like "$stderr" "python3[.0-9]* \\(pid $opener of root\\) has $node open" '... but learns who it is'
capture gpubroker policy explain --user carol $gpu2
is $status 78 'explain gives the same answer'
like "$stdout" "refused without --force: python3[.0-9]* \\(pid $opener of root\\) has $node open" '... with the process'
capture run_as bob gpubroker run --gpu $gpu2 -- true
is $status 0 'a rule with in-use lends it all the same'
wait_for 20 is_back $gpu2 bochs-drm
end_opener
open_card
capture run_as carol gpubroker run --gpu $gpu2 --force -- true
is $status 0 '... and so does --force'
end_opener
wait_for 20 is_back $gpu2 bochs-drm
capture run_as carol gpubroker run --gpu $gpu2 -- true
is $status 0 'when nobody has it open, it is lent'
wait_for 20 is_back $gpu2 bochs-drm

# ---- another device instead ----
open_card
capture run_as carol gpubroker run --gpu pair -- gpubroker leases
is $status 0 'a claim by a name goes on to the next device'
like "$stdout" "$multi_gpu" '... which is the one that nobody has open'
wait_for 20 is_back $multi_gpu bochs-drm
capture run_as alice gpubroker run --gpu $gpu2 --wait=5s -- true
is $status 78 'one that has no other is refused, and does not wait'
end_opener
fresh

# ---- sound ----
sound() { local c=(/sys/bus/pci/devices/"$1"/sound/card*/controlC*); echo "/dev/snd/${c##*/}"; }
wait_for 20 test -c "$(sound $gpu_audio)"
open_node "$(sound $gpu_audio)"
refused carol 78 "$gpu is in use by the host: $gpu_audio: a program of the host has $(sound $gpu_audio) open" \
	'a card whose sound a program has open is not lent' --gpu $gpu
is "$(driver_of $gpu) $(driver_of $gpu_audio)" 'bochs-drm snd_hda_intel' '... and keeps both its drivers'
end_opener
fresh
# The sound is unbound before the display, and the display is given back first.
udevadm monitor --kernel --subsystem-match=pci >/tmp/order.out &
monitor=$!
sleep 1
capture run_as carol gpubroker run --gpu $gpu -- true
is $status 0 '... and is lent when nobody has'
wait_for 20 is_back $gpu_audio snd_hda_intel
wait_for 20 is_back $gpu bochs-drm
sleep 1
kill $monitor
wait $monitor 2>/dev/null
# order ACTION: the functions, in the order of the kernel's first events of each
order() { awk -v action="$1" '$2 == action { sub(/.*\//, "", $3); if (!seen[$3]++) print $3 }' /tmp/order.out | xargs; }
is "$(order unbind)" "$gpu_audio $gpu" 'its sound is unbound before its display'
is "$(awk '$2 == "bind" { sub(/.*\//, "", $3); print $3 }' /tmp/order.out | tail -2 | xargs)" "$gpu $gpu_audio" \
	'... and given back after it'

# ---- those that hide ----
fresh
mkdir -p /tmp/hidden
: >/tmp/opener.out
unshare --pid --fork --mount-proc --mount sh -c 'mount -t tmpfs none /tmp/hidden
	mknod /tmp/hidden/x c $(stat -c "0x%t 0x%T" '"$node"' | xargs -n1 printf "%d ")
	exec python3 /tmp/opener.py /tmp/hidden/x' >/tmp/opener.out &
opener=$!
wait_for 20 grep -q open /tmp/opener.out
refused carol 78 "a program of the host has $node open" \
	'a process of another pid and mount namespace, by a node of its own, is found' --gpu $gpu2
# The first process of a pid namespace takes no other signal from outside, and unshare none while it waits.
pkill -KILL -P $opener
wait $opener 2>/dev/null
fresh
fresh
chmod 666 "$node"
open_node "$node" run_as carol
refused carol 78 "python3[.0-9]* \\(pid $opener of carol\\) has $node open" \
	'of a process of her own she learns which it is' --gpu $gpu2
end_opener
fresh

# A file system that does not answer, as FUSE may: who only has a file of it open makes nobody wait.
if modprobe fuse 2>/dev/null && [ -c /dev/fuse ]; then
	cat >/tmp/silent.py <<-'END'
		# Mounts a FUSE file system, answers until its file is open, and then no more.
		import ctypes, os, struct, sys, time
		libc = ctypes.CDLL(None, use_errno=True)
		fuse = os.open("/dev/fuse", os.O_RDWR)
		os.makedirs("/tmp/silent", exist_ok=True)
		if libc.mount(b"silent", b"/tmp/silent", b"fuse", 0,
		              b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse):
		    sys.exit("mount: %d" % ctypes.get_errno())
		def attr(mode): # no time of validity: the kernel has to ask each time
		    return struct.pack("QQQQQQIIIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, mode, 2, 0, 0, 0, 4096, 0)
		if not os.fork():
		    os.close(fuse)
		    os.open("/tmp/silent/file", os.O_RDONLY)
		    open("/tmp/silent.open", "w").close()
		    time.sleep(1000)
		while True:
		    request = os.read(fuse, 1 << 17)
		    _, op, unique, node = struct.unpack("IIQQ", request[:24])
		    if op == 26: # INIT
		        answer = struct.pack("IIIIHHIIHHIIIIIII", 7, 31, 0, 0, 0, 0, 4096, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		    elif op == 1: # LOOKUP
		        answer = struct.pack("QQQQII", 2, 0, 0, 0, 0, 0) + attr(0o100644)
		    elif op == 3 and not os.path.exists("/tmp/silent.open"): # GETATTR
		        answer = struct.pack("QII", 0, 0, 0) + attr(0o40755 if node == 1 else 0o100644)
		    elif op == 14: # OPEN
		        answer = struct.pack("QII", 1, 0, 0)
		    else:
		        continue
		    os.write(fuse, struct.pack("IiQ", 16 + len(answer), 0, unique) + answer)
	END
	rm -f /tmp/silent.open
	python3 /tmp/silent.py 2>/tmp/silent.err &
	silent=$!
	if wait_for 10 test -e /tmp/silent.open; then
		set_mark
		capture run_as carol gpubroker run --gpu $gpu2 -- true
		is $status 0 'a process with a file of a FUSE server that does not answer'
		unlike "$(said)" 'the finder has not said' '... does not make the finder wait'
		wait_for 20 is_back $gpu2 bochs-drm
	else
		fail 'a FUSE file system that does not answer' "$(cat /tmp/silent.err)"
	fi
	pkill -P $silent
	kill $silent
	wait $silent 2>/dev/null
	umount -l /tmp/silent
else
	skip 'a process with a file of a FUSE server that does not answer' 'this kernel has no FUSE'
fi

# ---- a user with very many descriptors ----
cat >/tmp/flood.py <<-'END'
	import os, resource, time
	soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
	resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
	for _ in range(4):
	    if not os.fork():
	        fd = os.open("/dev/zero", os.O_RDONLY)
	        try:
	            for _ in range(min(hard, 100000) - 10): os.dup(fd)
	        except OSError: pass
	        open("/tmp/flood.%d" % os.getpid(), "w").close()
	        time.sleep(1000)
	time.sleep(1000)
END
rm -f /tmp/flood.[0-9]*
run_as bob sh -c 'ulimit -n $(ulimit -Hn); exec python3 /tmp/flood.py' &
flood=$!
flooded() { set -- /tmp/flood.[0-9]*; [ $# = 4 ]; }
wait_for 60 flooded
diag "descriptors: $(for p in $(pgrep -P $flood); do ls "/proc/$p/fd" | wc -l; done | xargs)"
open_card
start=$(date +%s%N)
refused carol 78 "has $node open" 'a user with very many descriptors hides nobody who comes later' --gpu $gpu2
took=$((($(date +%s%N) - start) / 1000000))
ok "... and keeps nobody waiting ($took ms)" test $took -lt 8000
end_opener
fresh
start=$(date +%s%N)
capture run_as carol gpubroker run --gpu $gpu2 -- true
took=$((($(date +%s%N) - start) / 1000000))
is $status 0 "... nor from getting what nobody has ($took ms)"
wait_for 20 is_back $gpu2 bochs-drm
pkill -P $flood
kill $flood
wait $flood 2>/dev/null

# ---- without a finder ----
core=$(systemctl show -P MainPID gpubroker)
killed_finder=$(helper_pid find)
kill -STOP "$killed_finder"
set_mark
capture run_as carol gpubroker run --gpu $gpu2 -- true
is $status 0 'with a finder that does not answer a claim goes on'
like "$(said)" 'the finder has not said in 2000 ms who has a device open' '... after two seconds, and the journal says so'
wait_for 20 is_back $gpu2 bochs-drm
kill -KILL "$killed_finder"
another() { finder && [ "$(helper_pid find)" != "$killed_finder" ]; }
ok 'one that is killed is started again' wait_for 20 another
sleep 3
open_card
refused carol 78 "a program of the host has $node open" '... and finds again' --gpu $gpu2
end_opener
fresh
systemctl stop gpubroker-find
set_mark
capture run_as carol gpubroker run --gpu $gpu2 -- true
is $status 0 'without a finder devices are lent'
like "$(said)" 'the finder (is missing|has not said in [0-9]+ ms)' '... and the journal says so'
wait_for 20 is_back $gpu2 bochs-drm

# ---- a hostile one ----
cat >/tmp/hostile.py <<-'END'
	# The greeting of a finder, and then what it should not say.
	import os, socket, struct, sys, time
	size, what = int(sys.argv[1]), sys.argv[2]
	s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	s.connect("/run/gpubroker/helpers")
	s.send(struct.pack("IIII", 2, 2, size, 0))
	print("greeted", flush=True)
	if what == "unasked":
	    s.send(struct.pack("QII", 1, 0, 0).ljust(size, b"\0"))
	else:
	    question = s.recv(4096)
	    ident = struct.unpack("Q", question[:8])[0]
	    if what == "garbage":
	        s.send(os.urandom(size))
	    elif what == "short":
	        s.send(b"x")
	    elif what == "liar":
	        s.send(struct.pack("QII", ident + 7, 0, 0).ljust(size, b"\0"))
	    elif what == "accuses":
	        holder = question[16:24] + struct.pack("II32s32s", 1, 0, b"dri/card0", b"nobody")
	        s.send((struct.pack("QII", ident, 1, 0) + holder).ljust(size, b"\0"))
	s.settimeout(15)
	try:
	    print("dropped" if not s.recv(4096) else "served", flush=True)
	except OSError:
	    print("kept", flush=True)
END
# greeted: it has, and the core has had time to take it.
greeted() {
	wait_for 20 grep -q greeted /tmp/hostile.out
	sleep 1
}
size=$((16 + 4 * (8 + 8 + 32 + 32)))
for what in unasked garbage short; do
	set_mark
	setpriv --reuid=gpubroker --regid=gpubroker --clear-groups python3 /tmp/hostile.py $size $what >/tmp/hostile.out &
	hostile=$!
	greeted
	capture run_as carol gpubroker run --gpu $gpu2 -- true
	is $status 0 "a finder that sends what it should not ($what) refuses nobody"
	wait $hostile
	is "$(tail -n 1 /tmp/hostile.out)" dropped '... and is dropped'
	like "$(said)" 'the finder sent .*; its connection is closed' '... as the journal says'
	wait_for 20 is_back $gpu2 bochs-drm
done
setpriv --reuid=gpubroker --regid=gpubroker --clear-groups python3 /tmp/hostile.py $size accuses >/tmp/hostile.out &
hostile=$!
greeted
capture run_as carol gpubroker run --gpu $gpu2 -- true
is $status 78 'one that lies can refuse'
kill $hostile
wait $hostile 2>/dev/null
is "$(systemctl show -P MainPID gpubroker)" "$core" 'and the core has lived through all of it'
systemctl start gpubroker-find
wait_for 20 finder
is "$(killed)" '' 'no filter has killed anything'

rm -rf $policy /tmp/opener.* /tmp/order.out /tmp/silent* /tmp/flood* /tmp/hostile.* /tmp/hidden
systemctl restart gpubroker
done_testing
