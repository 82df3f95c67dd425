#!/bin/bash
# The host sleeps and wakes, the package is upgraded, the daemon started again: no VM notices, no
# lease is lost, and who waits goes on waiting as far as the daemon lives.
. ./lib.sh
needs sleep-tests

states() { gpubroker leases --json | tr -d ' \n' | grep -o '"state":"[a-z]*"' | xargs; }
running() { qmp "$1" query-status | grep -q '"running"'; }

vm alice one --gpu 02:00.0 -- -m 64 -device vfio-pci,host=02:00.0
ok 'a VM has the GPU' vm_up one
core=$(systemctl show -P MainPID gpubroker)
set_mark
run_as carol gpubroker run --gpu 02:00.0 --wait -- sh -c 'echo had >/tmp/had' &
waiter=$!
ok 'another waits for it' wait_for 20 said_it outcome=waiting

# The kernel goes to sleep as far as it is told, waits five seconds, and wakes by itself; the emulated
# machine has nothing that would wake it from the whole of it.
slept() { [ "$(cat /sys/power/suspend_stats/success)" -gt "$before" ]; }
for level in freezer devices platform; do
	before=$(cat /sys/power/suspend_stats/success)
	ok "the host sleeps: $level" sh -c "echo $level >/sys/power/pm_test; echo freeze >/sys/power/state"
	ok "$level: ... by the kernel's count" slept
	ok "$level: the VM runs on" running one
	is "$(states)" state:leased "$level: ... with its lease"
	is "$(driver_of $gpu2)" vfio-pci "$level: ... and its GPU"
done
echo none >/sys/power/pm_test
is "$(systemctl show -P MainPID gpubroker)" "$core" 'the daemon is the same process'
ok 'another is served' run_as alice gpubroker run --gpu 01:00.0 -- true
ok 'who waited waits' alive $waiter

vm_end one
ok 'the next in the queue has the GPU after all that' wait_for 20 test -e /tmp/had
wait $waiter
ok 'the GPU comes back' wait_for 20 is_back $gpu2 bochs-drm
ok '... and no record is left' wait_for 10 no_records

# An upgrade: every file of the package is another one, and what packages' scripts do is done.
vm alice one --gpu 02:00.0 -- -m 64 -device vfio-pci,host=02:00.0
ok 'a VM has the GPU' vm_up one
for file in /usr/sbin/gpubrokerd /usr/bin/gpubroker /usr/lib/libgpubroker.so.0.*; do
	[ -e "$file" ] || continue
	cp -p "$file" "$file.new"
	mv "$file.new" "$file"
done
core=$(systemctl show -P MainPID gpubroker)
systemctl daemon-reload
ok 'the unit is started again by the upgrade' systemctl try-restart gpubroker
isnt "$(systemctl show -P MainPID gpubroker)" "$core" 'the daemon is another process'
ok 'the VM runs on through an upgrade' running one
is "$(states)" state:leased '... with its lease'
capture run_as carol gpubroker run --gpu 02:00.0 -- true
is $status 75 '... which nobody else gets'
vm_end one
ok 'the GPU comes back by the new daemon' wait_for 20 is_back $gpu2 bochs-drm
ok '... and no record is left' wait_for 10 no_records
rm -f /tmp/had
done_testing
