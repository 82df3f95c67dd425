#!/bin/bash
# What SELinux does not let the broker, a VMM and others do. All of it is tried as root with every
# capability, so that it is the policy that says no, and once unconfined, where it goes.
. ./lib.sh

daemon=unconfined_u:unconfined_r:gpubrokerd_t:s0
vmm=unconfined_u:unconfined_r:gpubroker_test_t:s0:c1,c2
group=/dev/vfio/$(group_of $prep_gpu)
touch /tmp/empty.ko
sleep 1000 &
sleeper=$!

# beyond CONTEXT VERB ARGUMENT...: by a program that may be the way into the domain.
cp /tests/beyond /tmp/beyond
chcon system_u:object_r:gpubrokerd_exec_t:s0 /tmp/beyond
beyond() { runcon "$1" /tmp/beyond "${@:2}" 2>&1 | cat; }
all_of() { local line out=(); for line in "${tries[@]}"; do out+=("$line: $1"); done; printf '%s\n' "${out[@]}"; }

tries=('read /etc/shadow' 'create /etc/gpubroker/policy.d/50-own.policy' 'write /usr/bin/gpubroker'
	'create /etc/systemd/system/own.service' 'execute /bin/sh'
	'reach 127.0.0.1' 'open /dev/vda' 'open /dev/mem' "trace $sleeper" 'load /tmp/empty.ko' 'mount /mnt'
	'write /proc/sys/kernel/core_pattern' 'read /root')
# shellcheck disable=SC2206
words=(${tries[*]})
is "$(beyond "$daemon" "${words[@]}")" "$(all_of 'Permission denied')" \
	'the daemon cannot read secrets, write the policy, execute, reach the network, open a disk, trace, load or mount'
umount /mnt 2>/dev/null
is "$(/tests/beyond "${words[@]}" | grep -vE '^open /dev/mem' )" "$(all_of 'done' | grep -vE '^open /dev/mem')" \
	'... as the same program can, unconfined'
umount /mnt
rm -f /etc/gpubroker/policy.d/50-own.policy /etc/systemd/system/own.service
is "$(beyond "$daemon" open "$group" read /etc/passwd read /etc/gpubroker/policy.d)" \
	"open $group: done
read /etc/passwd: done
read /etc/gpubroker/policy.d: done" 'what it needs it can'

# The VMM.
cp /tests/beyond /tmp/beyond-vmm
chcon system_u:object_r:bin_t:s0 /tmp/beyond-vmm
is "$(runcon "$vmm" /tmp/beyond-vmm open "$group" open /dev/vfio/vfio)" \
	"open $group: Permission denied
open /dev/vfio/vfio: done" 'a VMM cannot open a group by itself, be it root, but the container'
like "$(dmesg | tail -n 20)" "denied  \{ open \} .*gpubroker_test_t:s0:c1,c2 tcontext=system_u:object_r:vfio_device_t:s0" \
	'... since it may not open one'
is "$(runcon "$vmm" /tmp/beyond-vmm write /run/gpubroker/leases create /run/gpubroker/leases/1 create /etc/gpubroker/policy.d/1.policy)" \
	"write /run/gpubroker/leases: Is a directory
create /run/gpubroker/leases/1: Permission denied
create /etc/gpubroker/policy.d/1.policy: Permission denied" 'nor write a record or a rule'

# Categories: what is alice's VM's is not bob's, though the files' modes would let him.
run_as alice sh -c 'echo mine >/tmp/alice.disk; chmod 666 /tmp/alice.disk'
is "$(run_as alice cat /tmp/alice.disk)" mine "a VM reads its own file"
capture run_as bob cat /tmp/alice.disk
like "$stderr" 'Permission denied' "... another one's does not, by its categories"
rm -f /tmp/alice.disk

# A lent descriptor that is passed on to a domain without the interface.
cp /tests/pass.py /tmp/pass.py
# passed TYPE: what a process of TYPE takes, which has alice's categories.
passed() {
	rm -f /tmp/pass.socket
	runcon "unconfined_u:unconfined_r:$1:s0:c400,c401" /usr/bin/python3 /tmp/pass.py take /tmp/pass.socket >/tmp/taken 2>&1 &
	local taker=$!
	wait_for 20 test -S /tmp/pass.socket
	(run_as alice gpubroker run --gpu 02:00.0 -- python3 /tmp/pass.py give /tmp/pass.socket /tmp/plain \
		"/dev/vfio/$(group_of $gpu2)") 2>/tmp/give.err
	wait $taker
	wait_for 20 is_back $gpu2 bochs-drm
	cat /tmp/taken
}
run_as alice sh -c 'echo plain >/tmp/plain'
is "$(passed gpubroker_test_t)" 'plain taken
lent taken' 'a lent descriptor can be passed on to a domain with the interface' || diag "$(cat /tmp/give.err)"
is "$(passed gpubroker_other_t)" 'plain taken
lent refused' '... and not to one without' || diag "$(cat /tmp/give.err)"
like "$(dmesg | tail -n 40)" 'denied  \{ use \} .*path="/dev/vfio/.*gpubroker_other_t:s0:c400,c401 tcontext=system_u:system_r:gpubrokerd_t:s0 tclass=fd' \
	'... which may not use what the daemon opened'

kill $sleeper
rm -f /tmp/beyond /tmp/beyond-vmm /tmp/empty.ko /tmp/pass.py /tmp/pass.socket /tmp/plain /tmp/taken
done_testing
