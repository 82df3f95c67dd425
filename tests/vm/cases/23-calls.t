#!/bin/bash
# Each row of each filter is used: what the processes call is counted by the kernel while they do all
# that they do. (That nothing else is called shows by itself: the caller would be killed.)
. ./lib.sh

uncounted= # calls that cannot be brought about here
trace=/sys/kernel/tracing/events/raw_syscalls/sys_enter
main_pid() { systemctl show -P MainPID gpubroker; }
serving() { said_it serving; }
again() { gpubroker list; }
loaded_again() {
	[ "$(said | grep -c 'loaded again')" = 2 ]
}
# calls NAME FILE: what processes called that in the end have called, sorted. (One is shown with the
# name that it had at its first call of a kind.)
calls() {
	sed -nE 's/^\{ common_pid: ([^ ]+) +\[ *([0-9]+)\], id: sys_([a-z0-9_]+) .*/\1 \2 \3/p' "$2" |
		awk -v name="$1" '{ call[NR] = $3; pid[NR] = $2; if ($1 != "gpubrokerd") is[$2] = $1
				if ($1 == "gpubrokerd" && !($2 in is)) is[$2] = $1 }
			END { for (i = 1; i <= NR; i++) if (is[pid[i]] == name) print call[i] }' |
		sed 's/^newuname$/uname/; s/^newfstat$/fstat/' | sort -u
}
hist=hist:keys=common_pid.execname,id.syscall:size=32768
count_from_here() { echo "$hist" >$trace/trigger; }
# counted FILE: up to here, without a gap.
counted() {
	cat $trace/hist >"$1"
	echo "!$hist" >$trace/trigger
	is "$(sed -n 's/^ *Dropped: *//p' "$1")" 0 'every call was counted'
}
# rows PART: what its filter allows.
rows() { awk -v part="$1" '$1 == part { print $2 }' /tests/rows | sort -u; }
# used PART NAME FILE: what processes of that name called is in FILE.
used() {
	local rows calls
	rows=$(rows "$1") calls=$(calls "$2" "$3")
	diag "$2 calls: $(xargs <<<"$calls")"
	diag "$1: $(wc -l <<<"$rows") rows: $(xargs <<<"$rows")"
	is "$(comm -23 <(echo "$rows") <(printf '%s\n' $calls $uncounted | sort -u) | xargs)" '' "$1: each row of its filter is used"
}

needs histograms

# A name service that asks a daemon of its own, as many do.
cp /tests/libnss_remote.so.2 /usr/lib/x86_64-linux-gnu/
cp /etc/nsswitch.conf /tmp/nsswitch.saved
sed -i 's/^passwd:.*/& remote/' /etc/nsswitch.conf
python3 -c '
import os, socket, struct
s = socket.socket(socket.AF_UNIX)
s.bind("/run/remote.socket")
os.chmod("/run/remote.socket", 0o666)
s.listen()
while True:
    c = s.accept()[0]
    try:
        c.recv(100)
        c.send(struct.pack("=I", 4242))
    except OSError:
        pass
    c.close()' &
service=$!
ok 'a name service is there' wait_for 20 test -S /run/remote.socket

# The capability is there, so that dropping it can be seen.
# Newer kernels let a socket hold so much that little is ever lost.
rmem_max=$(sysctl -n net.core.rmem_max)
sysctl -qw net.core.rmem_max=212992
policy=/etc/gpubroker/policy.d/20-memlock.policy
echo "allow user alice claim address $gpu2 memlock 1G" >$policy
echo 'allow user remote claim any' >>$policy
# Started by hand, since what systemd calls before it executes a program is not the program's.
systemctl stop gpubroker.socket gpubroker
count_from_here
gpubrokerd --socket /tmp/calls.socket --state /tmp/calls.leases 2>/tmp/calls.log &
by_hand=$!
served=1
ok 'the broker serves' wait_for 30 grep -q serving /tmp/calls.log || served=
counted /tmp/hist.start
diag "gpubroker-load calls: $(calls gpubroker-load /tmp/hist.start | xargs)"
kill $by_hand
wait $by_hand
[ -n "$served" ] || done_testing
unlike "$(cat /tmp/calls.log)" 'no user "remote"' '... and has asked the name service'
rm -r /tmp/calls.socket /tmp/calls.leases /tmp/calls.log
set_mark
systemctl start gpubroker.socket gpubroker
ok 'it serves in its unit' wait_for 20 serving
core=$(main_pid)
# From here on only what is called when all has started.
count_from_here

# Where the vDSO has no clock, the clock is a system call.
clock=/sys/devices/system/clocksource/clocksource0
clock_before=$(<$clock/current_clocksource)
# Not on 6.1, which in emulation sometimes does not come back from that: there the call is made and not seen.
[ "$(</tests/on)" != debian12 ] || uncounted=clock_gettime
[ -n "$uncounted" ] || for source in acpi_pm hpet; do
	! grep -qw $source $clock/available_clocksource || echo $source >$clock/current_clocksource
done
run_as alice gpubroker list >/dev/null
capture run_as alice gpubroker run --gpu "$gpu2" -- true
is "$status" 0 'a claim, with locked memory'
wait_for 20 is_back $gpu2 bochs-drm
run_as alice gpubroker run --gpu "$gpu2" -- sleep 300 &
holder=$!
wait_for 20 is_leased $gpu2
capture run_as alice gpubroker run --gpu "$gpu2" -- true
is "$status" 75 'a second one is refused'
gpubroker leases >/dev/null
kill $holder
wait $holder
wait_for 20 is_back $gpu2 bochs-drm
udevadm trigger --settle --subsystem-match=pci
echo 1 >/sys/bus/pci/devices/$gpu2/remove
sleep 1
echo 1 >/sys/bus/pci/rescan
ok 'a function that went comes back' wait_for 20 is_back $gpu2 bochs-drm
# A stop as in a suspend, in which more happens than its socket holds.
watcher=$(helper_pid watch)
kill -STOP "$watcher"
for ((i = 0; i < 40; i++)); do
	for f in /sys/bus/pci/devices/*/uevent; do echo change >"$f"; done
done
kill -CONT "$watcher"
# A call is restarted only where the stop meets it: both wait in poll() unless there is something to do.
in_poll() { grep -q poll "/proc/$1/wchan"; }
for pid in "$watcher" "$(helper_pid find)"; do
	for ((i = 0; i < 3; i++)); do
		wait_for 20 in_poll "$pid"
		kill -STOP "$pid"
		sleep 0.3
		kill -CONT "$pid"
	done
done
lost() { said_it 'uevents were lost'; }
ok 'the watcher goes on after a stop, and says that events were lost' wait_for 20 lost
# So many rules that malloc takes pages of their own for them.
rm $policy
for ((i = 0; i < 4000; i++)); do echo "allow user alice claim address 0000:77:00.0"; done >${policy%memlock.policy}many.policy
systemctl reload gpubroker
no_capability() { [ "$(sed -n 's/^CapPrm:\t//p' "/proc/$core/status")" = 0000000000000000 ]; }
ok 'the capability is dropped' wait_for 20 no_capability
is "$(main_pid)" "$core" 'all of it by one core'
echo 'allow user remote claim any' >${policy%memlock.policy}many.policy
systemctl reload gpubroker
ok 'the policy is as before' wait_for 30 loaded_again
[ -n "$uncounted" ] || echo "$clock_before" >$clock/current_clocksource
rm ${policy%memlock.policy}many.policy
systemctl stop gpubroker.socket gpubroker
sysctl -qw net.core.rmem_max="$rmem_max"
counted /tmp/hist
mv /tmp/nsswitch.saved /etc/nsswitch.conf
kill $service
rm -f /usr/lib/x86_64-linux-gnu/libnss_remote.so.2 /run/remote.socket
systemctl start gpubroker.socket gpubroker

used core gpubrokerd /tmp/hist
kernel_has peerpidfd || used core_old_kernel gpubrokerd /tmp/hist
! kernel_has cdevs || used core_cdev gpubrokerd /tmp/hist
used worker gpubrokerd /tmp/hist
used watcher gpubroker-watch /tmp/hist
used watcher_start gpubroker-watch /tmp/hist.start
used finder gpubroker-find /tmp/hist
# At its start the finder reads what NVIDIA's driver says, which is not here.
# The loader's table is not asked: what it is for, name services of all kinds, is not here.
is "$(killed)" '' 'no filter has killed anything since the boot'
rm -f /tmp/hist /tmp/hist.start
done_testing
