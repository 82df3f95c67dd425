#!/bin/bash
# SELinux enforces, and everybody is in the domain that is meant.
. ./lib.sh

# domain PID: its context without the trailing NUL.
context() { tr -d '\0' <"/proc/$1/attr/current"; }
label() { stat -c %C "$1"; }

ok 'SELinux is there' test -e /sys/fs/selinux/enforce
is "$(cat /sys/fs/selinux/enforce)" 1 'SELinux enforces'
is "$(systemctl is-system-running --wait)" running 'the host is up, no unit has failed' ||
	diag "$(systemctl --failed --no-legend)"

core=$(systemctl show -P MainPID gpubroker)
is "$(context "$core")" system_u:system_r:gpubrokerd_t:s0 'the core is in its domain'
for helper in load watch find; do
	is "$(context "$(helper_pid $helper)")" system_u:system_r:gpubrokerd_t:s0 "gpubroker-$helper is in it too"
done
is "$(selinuxexeccon /usr/libexec/gpubroker-policy-install system_u:system_r:init_t:s0)" \
	system_u:system_r:gpubroker_install_t:s0 "policy install has a domain where the service starts it"
is "$(selinuxexeccon /usr/bin/gpubroker system_u:system_r:init_t:s0)" \
	"$(selinuxexeccon /usr/bin/true system_u:system_r:init_t:s0)" \
	'the command has that of any other program where a unit starts it'
# unit COMMAND...: what a system unit of alice's prints that runs COMMAND with a GPU. (dbus may not pass a pipe on, so
# not by systemd-run --pipe.)
unit() {
	local unit=/run/systemd/system/gpubroker-vm.service out=/run/gpubroker-vm.out
	printf '%s\n' '[Service]' Type=oneshot User=alice "StandardOutput=file:$out" \
		"ExecStart=/usr/bin/gpubroker run --gpu 02:00.0 -- $*" >$unit
	systemctl daemon-reload
	systemctl start gpubroker-vm
	tr -d '\0' <$out | tail -n 1
	rm -f $unit $out
	systemctl daemon-reload
}
is "$(unit cat /proc/self/attr/current)" system_u:system_r:initrc_t:s0 "a system unit's gpubroker run gets its GPU"
ok '... and the host has it back' wait_for 20 is_back $gpu2 bochs-drm
is "$(run_as alice cat /proc/self/attr/current | tr -d '\0')" unconfined_u:unconfined_r:gpubroker_test_t:s0:c400,c401 \
	"a user's command is confined, with categories of its own"
isnt "$(run_as bob cat /proc/self/attr/current | tr -d '\0')" "$(run_as alice cat /proc/self/attr/current | tr -d '\0')" \
	'... which another user has not'

is "$(label /usr/sbin/gpubrokerd)" system_u:object_r:gpubrokerd_exec_t:s0 'the daemon has its type'
is "$(label /usr/bin/gpubroker)" system_u:object_r:gpubroker_exec_t:s0 'the command has its type'
is "$(label /usr/libexec/gpubroker-policy-install)" system_u:object_r:gpubroker_install_exec_t:s0 \
	'what the service runs to install the rules has its own'
is "$(label /run/gpubroker)" system_u:object_r:gpubroker_runtime_t:s0 'its directory has its type'
is "$(label /run/gpubroker/socket)" system_u:object_r:gpubroker_runtime_t:s0 'its socket has its type'
is "$(label /run/gpubroker/helpers)" system_u:object_r:gpubroker_runtime_t:s0 "... and that of its helpers"
is "$(label /run/gpubroker/leases)" system_u:object_r:gpubroker_lease_t:s0 'its records have their type'
usage=$(find /var/lib/gpubroker -name usage)
is "$(label "${usage%/*}") $(label "$usage")" \
	'system_u:object_r:gpubroker_history_t:s0 system_u:object_r:gpubroker_history_t:s0' '... and so has what outlives a reboot'
is "$(label /etc/gpubroker/policy.d)" system_u:object_r:gpubroker_conf_t:s0 'its policy has its type'
is "$(label /dev/vfio)" system_u:object_r:gpubroker_vfio_dir_t:s0 'the directory of VFIO has its type'
ok '... and root, who is not confined, may list it' ls /dev/vfio
is "$(label /dev/vfio/vfio)" system_u:object_r:gpubroker_vfio_container_t:s0 'the container has its own'
is "$(label "/dev/vfio/$(group_of $prep_gpu)")" system_u:object_r:vfio_device_t:s0 'a group has its type'

# At birth, by the kernel: udevd is stopped, so nobody labels it later.
systemctl stop systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket 2>/dev/null
run_as alice gpubroker run --gpu 02:00.0 -- sleep 1000 &
holder=$!
ok 'a function is bound while udevd is stopped' wait_for 20 has_driver $gpu2 vfio-pci
is "$(label "/dev/vfio/$(group_of $gpu2)")" system_u:object_r:vfio_device_t:s0 'a group has its type at birth'
kill $holder
wait $holder 2>/dev/null
systemctl start systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udevd.service
ok 'it comes back' wait_for 20 is_back $gpu2 bochs-drm
done_testing
