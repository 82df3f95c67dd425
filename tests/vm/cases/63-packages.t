#!/bin/bash
# The Debian packages, as an administrator meets them: installed on a host that has never had the broker, upgraded and
# removed while a VM has a card, installed again, and purged.
# packages: none is installed; all are in /tests/packages
. ./lib.sh

export DEBIAN_FRONTEND=noninteractive
# dpkg's own output, and how long it took. --force-confold: as apt does for who is not asked.
dpkg_does() {
	local start=$SECONDS
	status=0
	dpkg --force-confold "$@" >/tmp/dpkg.log 2>&1 </dev/null || status=$?
	took=$((SECONDS - start))
	diag "dpkg $1: $took s"
	sed 's/^/#   /' /tmp/dpkg.log
}
version() { echo packages/"$1"/libgpubroker0_*.deb packages/"$1"/gpubroker_*.deb; }
# What is on the host's own file system and in /run. What is left out is large, or other programs' caches and logs: to read all
# directories takes half a minute here.
files() {
	find / /run/gpubroker -xdev -regextype posix-extended \
		-regex '/(tmp|tests|build|root|proc|sys|boot|var/(lib/dpkg|lib/apt|log|cache|tmp)|usr/(src|include|lib/(modules|gcc|firmware|python.*)|share/(perl.*|python3|zoneinfo|i18n|qemu|selinux|auto.*|aclocal.*)))' \
		-prune -o ! -path '/etc/*-' -print 2>/dev/null | sort
}
enabled() { systemctl is-enabled "$1" 2>/dev/null; }
main_pid() { systemctl show -P MainPID gpubroker; }
lease_number() { gpubroker leases --json | grep -oE '"id": ?[0-9]+' | head -n 1; }

mv /etc/gpubroker /tmp/own
ok 'the host has not heard of the broker' test ! -e /usr/sbin/gpubrokerd
# dh_apparmor removes it if it is empty.
rmdir /etc/apparmor.d/disable 2>/dev/null
files >/tmp/before

# Installed, as README says.
commands() {
	sed -n '/^## The first GPU/,/^## Packages/p' README.md | awk '
		/^```/ { inside = !inside; next }
		inside { line = line $0; if (sub(/\\$/, "", line)) next; gsub(/ +/, " ", line); print line; line = "" }'
}
mapfile -t lines < <(commands)
is "$(printf '%s\n' "${lines[@]:0:5}" | cut -d' ' -f1-2)" "$(printf '%s\n' 'apt install' 'gpubroker doctor' 'gpubroker policy' \
	'usermod -aG' 'gpubroker run')" 'README has five commands from the packages to a VM with the GPU'
# Lists that apt would read are not there, and neither is a network.
start=$SECONDS
ok "README: ${lines[0]}" sh -c "cd packages/1 && ${lines[0]}"
diag "apt install: $((SECONDS - start)) s"
is "$(enabled gpubroker.socket) $(enabled gpubroker.service) $(enabled gpubroker-prepare.service)" 'enabled enabled enabled' \
	'the socket, the daemon and the preparation at boot are enabled'
is "$(enabled gpubroker-metrics.timer)" disabled 'the timer of the metrics is not'
ok 'the socket is there' systemctl is-active -q gpubroker.socket
systemctl stop gpubroker.service
capture run_as alice gpubroker list
is $status 0 "a user's request starts the daemon by its socket"
like "$stdout" "$gpu .* available" '... which lists the GPUs'
like "$stderr" "the policy is empty, so nobody may have any of them; as root, 'gpubroker policy add --user USER 0000:" \
	'... and says what the next step is'
refused alice 77 'no rule allows' 'with no policy nothing is lent' --gpu 01:00.0
capture bash -c "${lines[1]}"
like "$stdout" 'the policy is empty' "README: ${lines[1]}, which says the same"
ok "README: ${lines[2]}" bash -c "${lines[2]}"
ok "README: ${lines[3]}" bash -c "${lines[3]}"
printf '# by the administrator\nprepare path 17.0/00.0\n' >/etc/gpubroker/policy.d/20-own.policy
reload
ok '... and what it prepares is prepared at the next boot' test -e /etc/udev/rules.d/69-gpubroker-prepare.rules
unlike "$(run_as alice gpubroker list 2>&1)" 'policy is empty' 'list says no more of it'

# Upgraded under a VM, which README's line starts; KVM and 16G cannot be had here.
line=${lines[4]/accel=kvm -cpu host -smp 8 -m 16G/accel=tcg -cpu max -smp 1 -m 64M}
isnt "$line" "${lines[4]}" 'README has a line for QEMU'
head -c 1M /dev/zero >/home/alice/disk.qcow2
chown alice: /home/alice/disk.qcow2
rm -f /tmp/claim.qmp
run_as alice bash -c "exec $line -nodefaults -display none -qmp unix:/tmp/claim.qmp,server=on,wait=off" >/tmp/claim.log 2>&1 </dev/null &
vm_pid=$!
ok "README: ${lines[4]:0:30} ..., and alice's QEMU has the GPU" vm_up claim
# Behind the port that --qemu adds they have numbers once the firmware has run.
has_both() { [[ $(vm_devices claim) == *1234:1111*8086:2668* ]]; }
ok '... with its audio function' wait_for 90 has_both
devices=$(vm_devices claim) pid=$(main_pid) lease=$(lease_number)
echo '# by the administrator' >>/etc/apparmor.d/gpubrokerd
own=$(cat /etc/gpubroker/policy.d/* /etc/apparmor.d/gpubrokerd | sha256sum)
socket=$(stat -c %i /run/gpubroker/socket)
set_mark
dpkg_does -i $(version 2)
is $status 0 'the packages are upgraded while a VM has the GPU'
ok 'another daemon serves' wait_for 30 systemctl is-active -q gpubroker.service
isnt "$(main_pid)" "$pid" '... which is not the one of before'
unlike "$(readlink "/proc/$(main_pid)/exe")" deleted '... but the program that was installed now'
is "$(stat -c %i /run/gpubroker/socket)" "$socket" 'the socket is the same, so that nobody is turned away meanwhile'
ok 'the VM goes on' alive $vm_pid
is "$(vm_devices claim)" "$devices" '... with the same devices'
is "$(lease_number)" "$lease" 'the lease is the same'
is "$(cat /etc/gpubroker/policy.d/* /etc/apparmor.d/gpubrokerd | sha256sum)" "$own" \
	'what the administrator has written and changed is as it was'
ok '... with the new file of AppArmor beside it' test -e /etc/apparmor.d/gpubrokerd.dpkg-dist
vm_end claim
is $? 0 'the VM ends as ever'
rm -f /home/alice/disk.qcow2
ok "the host's driver has the GPU again" wait_for 30 is_back $gpu bochs-drm
ok '... and the audio function' wait_for 30 is_back $gpu_audio snd_hda_intel

# Removed with a lease out.
hold alice --gpu 01:00.0
ok 'alice has the GPU once more' wait_for 30 is_leased $gpu
dpkg_does -r gpubroker
is $status 0 'the daemon is removed while a lease is out'
like "$(cat /tmp/dpkg.log)" "1 of its leases are out: 0000:01:00" 'the removal says which'
ok '... and waits for no holder' alive "${holders[0]}"
ok 'the daemon has ended' test ! -e "/proc/$(main_pid)/exe"
is "$(ls /run/gpubroker)" leases 'only the records are left, without a socket'
ok 'the rules that udev had for the boot are gone' test ! -e /etc/udev/rules.d/69-gpubroker-prepare.rules
is "$(cat /etc/gpubroker/policy.d/* /etc/apparmor.d/gpubrokerd | sha256sum)" "$own" 'the configuration stays'
dpkg_does -i $(version 2)
is $status 0 'the packages are installed again'
ok 'the daemon has taken the lease up' wait_for 30 is_leased $gpu
kill "${holders[0]}"
ok '... and gives the GPU back when it ends' wait_for 30 is_back $gpu bochs-drm
ok 'what is prepared has its rules for the boot again' wait_for 30 test -e /etc/udev/rules.d/69-gpubroker-prepare.rules
is "$(cat /etc/gpubroker/policy.d/* /etc/apparmor.d/gpubrokerd | sha256sum)" "$own" '... by the policy of before'

# Purged.
override=$(override_of $prep_twin)
dpkg_does -P gpubroker libgpubroker0
is $status 0 'the packages are purged'
files >/tmp/after
is "$(diff /tmp/before /tmp/after)" '' 'nothing is left of them'
is "$(getent passwd gpubroker)$(getent group gpubroker)" '' '... and no account'
is "$(systemctl list-units --all --plain --no-legend 'gpubroker*' | grep -v -e not-found -e gpubroker-tests -e gpubroker-uevents)" '' '... and no unit, but in what the units of the tests say'
is "$(dpkg -l 2>/dev/null | grep -c gpubroker)" 0 '... not in the list of packages either'
diag "what was prepared had the override '$override'"
done_testing
