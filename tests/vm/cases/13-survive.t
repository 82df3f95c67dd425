#!/bin/bash
# Whatever is killed, a running VM keeps its GPU and the host gets it back
# afterwards: the kernel's reference to the group is the lease.
. ./lib.sh

main_pid() { systemctl show -P MainPID gpubroker; }
leases() { run_as bob gpubroker leases --json | tr -d ' \n'; }
back() {
	ok "$1: the GPU is back on its driver" wait_for 20 is_back $gpu2 bochs-drm
	ok "$1: no record is left" wait_for 10 no_records
	is "$(override_of $gpu2)" '' "$1: no override is left"
}
alive() { is "$(vm_devices survive)" "$devices" "$1: the VM's device goes on working"; }
start() {
	vm "$1" survive --gpu 02:00.0 -- -m 64 -device vfio-pci,host=02:00.0
	vm_up survive || fail 'the VM starts'
	devices=$(vm_devices survive)
}
# Who lends: the supervisor that `run` left behind, not a child of COMMAND's.
supervisor() { pgrep -x gpubroker-lend; }

start alice
like "$devices" 1234:1111 'a VM has the GPU'
id=$(leases)
ok 'the supervisor is there' supervisor
isnt "$(ps -o ppid= -p "$(supervisor)" | tr -d ' ')" "$vm_pid" "... and is not COMMAND's child"

# The daemon, restarted and killed, under the running VM.
old=$(main_pid)
systemctl restart gpubroker
isnt "$(main_pid)" "$old" 'the daemon was restarted'
alive 'restart of the daemon'
is "$(leases)" "$id" 'restart of the daemon: the lease is taken up as it was'
capture run_as alice gpubroker run --gpu 02:00.0 -- true
is $status 75 'restart of the daemon: the GPU is still not lent twice'
old=$(main_pid)
kill -KILL "$old"
restarted() { [ "$(main_pid)" != "$old" ] && systemctl is-active gpubroker; }
ok 'the daemon comes back when it is killed' wait_for 20 restarted
alive 'the daemon killed'
is "$(leases)" "$id" 'the daemon killed: the lease is taken up as it was'

kill -KILL "$(supervisor)"
alive 'the supervisor killed'
is "$(leases)" "$id" 'the supervisor killed: the lease goes on'
kill -KILL "$vm_pid"
wait "$vm_pid" 2>/dev/null
is $? $((128 + 9)) "QEMU killed: the exit status says so"
back 'QEMU killed'

# QEMU ends while no daemon is there.
start alice
systemctl stop gpubroker.service gpubroker.socket
alive 'no daemon'
vm_end survive
is "$(driver_of $gpu2)" vfio-pci 'without a daemon the GPU waits on vfio-pci'
systemctl start gpubroker.socket
systemctl start gpubroker
back 'QEMU ended while no daemon was there'

# Killed in the middle: the claim is undone by the next start.
for i in 1 2 3 4 5 6; do
	run_as alice gpubroker run --gpu 01:00.0 -- true 2>/dev/null &
	claimer=$!
	sleep "0.$((i * 7 % 10))"
	old=$(main_pid)
	kill -KILL "$old"
	wait $claimer
	wait_for 40 restarted || break # and no kill 0, which would be us
done
ok 'the daemon killed six times in a claim: the GPU is back' wait_for 20 is_back $gpu bochs-drm
ok '... and its audio function' wait_for 20 is_back $gpu_audio snd_hda_intel
ok '... no record is left' wait_for 10 no_records
is "$(override_of $gpu)$(override_of $gpu_audio)" '' '... and no override'

# A process that inherited the descriptor and outlives COMMAND keeps the lease.
cat >/tmp/inherit.py <<-'END'
	import os, sys, time
	fd = os.open(sys.argv[1], os.O_RDWR)
	if os.fork() == 0:
	    os.setsid()
	    open("/tmp/inherit.pid", "w").write(str(os.getpid()))
	    time.sleep(600)
END
rm -f /tmp/inherit.pid
capture run_as alice gpubroker run --gpu 02:00.0 -- \
	python3 /tmp/inherit.py "/dev/vfio/$(group_of $gpu2)"
is $status 0 'a command ends and leaves a child that has the descriptor'
wait_for 10 test -s /tmp/inherit.pid
sleep 1
like "$(leases)" '"state":"leased"' 'the lease goes on with the child'
is "$(driver_of $gpu2)" vfio-pci '... and the GPU stays on vfio-pci'
capture run_as alice gpubroker run --gpu 02:00.0 -- true
is $status 75 '... and is not lent to another'
kill "$(cat /tmp/inherit.pid)"
back 'the child ended'

# A claimer that is killed between its claim and its command.
run_as alice gpubroker run --gpu 02:00.0 -- sleep 600 &
claimer=$!
wait_for 10 has_driver $gpu2 vfio-pci
kill -KILL $claimer
wait $claimer 2>/dev/null
back 'the claimer killed'

# A damaged record is set aside and named, and the rest goes on.
set_mark
systemctl stop gpubroker.service gpubroker.socket
echo 'gpubroker lease 1' >/run/gpubroker/leases/7
systemctl start gpubroker.socket gpubroker.service
ok 'a damaged record does not keep the daemon from starting' systemctl is-active gpubroker
ok "... and is set aside, settled since nothing is as a lease would leave it" test -e /run/gpubroker/leases/7.settled
like "$(said)" \
	'lease record 7: damaged in line 2; it is set aside as 7.damaged' '... and the journal says so'
rm -f /run/gpubroker/leases/7.settled /tmp/inherit.py /tmp/inherit.pid
done_testing
