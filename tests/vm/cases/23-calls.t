#!/bin/bash
# Each row of each filter is used: what the processes call is counted by the kernel while they do all
# that they do. (That nothing else is called shows by itself: the caller would be killed.)
. ./lib.sh

trace=/sys/kernel/tracing/events/raw_syscalls/sys_enter
main_pid() { systemctl show -P MainPID gpubroker; }
serving() { journalctl -q --no-pager -o cat -u gpubroker --since "$since" | grep -q serving; }
again() { gpubroker list; }
# calls NAME: what processes of that name have called, sorted.
calls() {
	sed -nE "s/^\{ common_pid: $1 +\[ *[0-9]+\], id: sys_([a-z0-9_]+) .*/\1/p" /tmp/hist |
		sort -u
}
# rows PART: what its filter allows.
rows() { awk -v part="$1" '$1 == part { print $2 }' /tests/rows | sort -u; }
# used PART NAME
used() {
	local rows calls
	rows=$(rows "$1") calls=$(calls "$2")
	diag "$1: $(wc -l <<<"$rows") rows: $(xargs <<<"$rows")"
	is "$(comm -23 <(echo "$rows") <(echo "$calls") | xargs)" '' "$1: each row of its filter is used"
}

[ -d $trace ] || mount -t tracefs none /sys/kernel/tracing
[ -e $trace/trigger ] || skip_all 'the kernel cannot count system calls (raw_syscalls, hist)'

# The capability is there, so that dropping it can be seen.
policy=/etc/gpubroker/policy.d/20-memlock.policy
echo "allow user alice claim address $gpu2 memlock 1G" >$policy
since=$(date '+%F %T')
systemctl restart gpubroker
ok 'the broker serves' wait_for 20 serving
core=$(main_pid)
# From here on only what is called under the filters.
echo 'hist:keys=common_pid.execname,id.syscall:size=32768' >$trace/trigger

run_as alice gpubroker list >/dev/null
capture run_as alice gpubroker run --gpu "$gpu2" -- true
is "$status" 0 'a claim, with locked memory'
wait_for 20 has_driver $gpu2 bochs-drm
run_as alice gpubroker run --gpu "$gpu2" -- sleep 300 &
holder=$!
wait_for 20 has_driver $gpu2 vfio-pci
capture run_as alice gpubroker run --gpu "$gpu2" -- true
is "$status" 75 'a second one is refused'
gpubroker leases >/dev/null
kill $holder
wait $holder
wait_for 20 has_driver $gpu2 bochs-drm
udevadm trigger --settle --subsystem-match=pci
rm $policy
systemctl reload gpubroker
no_capability() { [ "$(sed -n 's/^CapPrm:\t//p' "/proc/$core/status")" = 0000000000000000 ]; }
ok 'the capability is dropped' wait_for 20 no_capability
is "$(main_pid)" "$core" 'all of it by one core'
systemctl stop gpubroker.socket gpubroker
cat $trace/hist >/tmp/hist
echo '!hist:keys=common_pid.execname,id.syscall:size=32768' >$trace/trigger
is "$(sed -n 's/^ *Dropped: *//p' /tmp/hist)" 0 'every call was counted'
systemctl start gpubroker.socket gpubroker

used core gpubrokerd
used worker gpubrokerd
used watcher gpubroker-watch
used loader gpubroker-load
is "$(journalctl -q --no-pager -k -b -g 'type=1326' -o cat)" '' 'no filter has killed anything since the boot'
rm -f /tmp/hist
done_testing
