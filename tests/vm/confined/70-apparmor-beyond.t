#!/bin/bash
# What AppArmor does not let the broker, a VMM and others do. All of it is tried as root with every
# capability, so that it is the profile that says no, and once unconfined, where it goes.
. ./lib.sh

group=/dev/vfio/$(group_of $prep_gpu)
cp /tests/beyond /tmp/beyond
touch /tmp/empty.ko
sleep 1000 &
sleeper=$!

# beyond PROFILE VERB ARGUMENT...
beyond() { aa-exec -p "$1" -- /tmp/beyond "${@:2}" 2>&1 | cat; }
all_of() { local line; for line in "${tries[@]}"; do echo "$line: $1"; done; }

tries=('read /etc/shadow' 'create /etc/gpubroker/policy.d/50-own.policy' 'write /usr/bin/gpubroker'
	'create /etc/systemd/system/own.service' 'execute /bin/sh' 'reach 127.0.0.1' 'open /dev/vda'
	"trace $sleeper" 'load /tmp/empty.ko' 'mount /mnt' 'write /proc/sys/kernel/core_pattern' 'read /root')
# shellcheck disable=SC2206
words=(${tries[*]})
is "$(beyond gpubrokerd "${words[@]}" | sed 's/Operation not permitted/Permission denied/')" "$(all_of 'Permission denied')" \
	'the daemon cannot read secrets, write the policy, execute, reach the network, open a disk, trace, load or mount'
is "$(/tmp/beyond "${words[@]}")" "$(all_of 'done')" '... as the same program can, unconfined'
umount /mnt
rm -f /etc/gpubroker/policy.d/50-own.policy /etc/systemd/system/own.service
is "$(beyond gpubrokerd open "$group" read /etc/passwd read /etc/gpubroker/policy.d)" \
	"open $group: done
read /etc/passwd: done
read /etc/gpubroker/policy.d: done" 'what it needs it can'

# The VMM: the node's mode is what keeps it from a group, as everybody without a profile. See the abstraction.
is "$(run_as alice /tmp/beyond open "$group" open /dev/vfio/vfio)" \
	"open $group: Permission denied
open /dev/vfio/vfio: done" 'a VMM cannot open a group by itself, but the container'
is "$(beyond gpubroker-test create /run/gpubroker/leases/1 create /etc/gpubroker/policy.d/1.policy)" \
	'create /run/gpubroker/leases/1: Permission denied
create /etc/gpubroker/policy.d/1.policy: Permission denied' 'nor write a record or a rule, be it root'
is "$(beyond gpubroker-other open "$group" open /dev/vfio/vfio)" \
	"open $group: Permission denied
open /dev/vfio/vfio: Permission denied" 'without the abstraction neither can be opened, be it by root'

# A lent descriptor that is passed on.
cp /tests/pass.py /tmp/pass.py
# passed PROFILE: what a process under it takes.
passed() {
	rm -f /tmp/pass.socket
	aa-exec -p "$1" -- /usr/bin/python3 /tmp/pass.py take /tmp/pass.socket >/tmp/taken 2>&1 &
	local taker=$!
	wait_for 20 test -S /tmp/pass.socket
	(run_as alice gpubroker run --gpu 02:00.0 -- python3 /tmp/pass.py give /tmp/pass.socket /tmp/plain \
		"/dev/vfio/$(group_of $gpu2)") 2>/tmp/give.err
	wait $taker
	wait_for 20 is_back $gpu2 bochs-drm
	cat /tmp/taken
}
run_as alice sh -c 'echo plain >/tmp/plain'
is "$(passed gpubroker-test)" 'plain taken
lent taken' 'a lent descriptor can be passed on to a profile with the abstraction' || diag "$(cat /tmp/give.err)"
is "$(passed gpubroker-attached)" 'plain taken
lent refused' '... and attach_disconnected' || diag "$(cat /tmp/give.err)"
like "$(dmesg | tail -n 40)" 'Failed name lookup - disconnected path.*profile="gpubroker-attached" name="dev/vfio/' \
	'... for it comes from another mount namespace'
is "$(passed gpubroker-other)" 'plain taken
lent refused' '... and not to one without' || diag "$(cat /tmp/give.err)"

kill $sleeper
rm -f /tmp/beyond /tmp/empty.ko /tmp/pass.py /tmp/pass.socket /tmp/plain /tmp/taken
done_testing
