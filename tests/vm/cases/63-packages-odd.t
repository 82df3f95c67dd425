#!/bin/bash
# The Debian packages on a host that `make install` had the broker from, with what an administrator has changed there,
# and purged while a VM has a card. 63-packages has the usual way.
# packages: none is installed; all are in /tests/packages
. ./lib.sh

export DEBIAN_FRONTEND=noninteractive
dpkg_does() {
	status=0
	dpkg --force-confold "$@" >/tmp/dpkg.log 2>&1 </dev/null || status=$?
	sed 's/^/#   /' /tmp/dpkg.log
}
version() { echo packages/"$1"/libgpubroker0_*.deb packages/"$1"/gpubroker_*.deb; }
main_pid() { systemctl show -P MainPID gpubroker; }

# As `./configure --prefix=/usr && make install` has it: the library is not where Debian has libraries.
mv /etc/gpubroker /tmp/own
for deb in $(version 1); do dpkg-deb -x "$deb" /tmp/unpacked; done
libraries=$(dirname "$(find /tmp/unpacked -name 'libgpubroker.so.0')")
mv "$libraries"/libgpubroker.so* /tmp/unpacked/usr/lib/
cp -a /tmp/unpacked/. /
rm -r /tmp/unpacked
ldconfig
systemd-sysusers
systemctl daemon-reload
systemctl restart systemd-modules-load.service
systemctl enable -q --now gpubroker.socket gpubroker.service
printf 'allow user alice claim address %s memlock 64M\n' "$gpu" >/etc/gpubroker/policy.d/own.policy
reload
hold alice --gpu 01:00.0
ok 'alice has a GPU by a broker that was installed from source' wait_for 30 is_leased $gpu || diag "$(cat /tmp/holders.log)"
old=$(main_pid)
# What an administrator does.
rm /etc/apparmor.d/gpubrokerd
install -d /etc/systemd/system/gpubroker.service.d
printf '[Service]\nNice=-1\n' >/etc/systemd/system/gpubroker.service.d/own.conf
systemctl mask -q gpubroker-prepare.service
chmod 750 /etc/gpubroker/policy.d
chgrp gpubroker /etc/gpubroker/policy.d

dpkg_does -i $(version 1)
is $status 0 'the packages are installed over it, while the lease is out'
ok 'a daemon serves' wait_for 30 systemctl is-active -q gpubroker.service
isnt "$(main_pid)" "$old" '... the one of the package'
unlike "$(readlink "/proc/$(main_pid)/exe")" deleted '... whose program is there'
is "$(systemctl list-units --plain --no-legend 'gpubroker.service' | wc -l):$(pidof gpubrokerd | wc -w)" \
	"1:$(systemctl list-units --plain --no-legend --state=active 'gpubroker*.service' | grep -cE 'gpubroker(-load|-watch|-find|-end)?\.service')" \
	'... and no second one'
ok 'the holder has noticed nothing' alive "${holders[0]}"
ok '... and has its lease' wait_for 30 is_leased $gpu
like "$(ldd /usr/bin/gpubroker)" "libgpubroker.so.0 => .*$(gcc -print-multiarch 2>/dev/null || echo linux-gnu)" \
	"the command has the package's library, not the one of before"
is "$(systemctl is-enabled gpubroker-prepare.service)" masked 'a unit that was masked is masked'
is "$(systemctl show -P Nice gpubroker.service)" -1 "an administrator's drop-in holds"
is "$(stat -c %a:%G /etc/gpubroker/policy.d)" 750:gpubroker "... and the mode of the policy's directory"
capture run_as alice gpubroker list
like "$stdout" "$gpu" '... whose rules are read'

# A choice between two versions.
systemctl disable -q gpubroker.service
rm -f /etc/apparmor.d/gpubrokerd
echo 'allow nonsense' >/etc/gpubroker/policy.d/mistake.policy
dpkg_does -i $(version 2)
is $status 0 'an upgrade with a mistake in the policy is no failed one'
is "$(systemctl is-enabled gpubroker.service)" disabled 'a service that was disabled is disabled'
ok '... and a file that was deleted is not there again' test ! -e /etc/apparmor.d/gpubrokerd
capture run_as alice gpubroker list
is $status 0 'the broker answers'
ok '... and the lease is there' wait_for 30 is_leased $gpu
rm /etc/gpubroker/policy.d/mistake.policy

# Purged while the VM has the card.
dpkg_does -P gpubroker libgpubroker0
is $status 0 'the packages are purged while a lease is out'
like "$(cat /tmp/dpkg.log)" "1 of its leases are out: $gpu" '... which the removal says'
mapfile -t lines < <(sed -n 's,^    \(cd /sys/.*\),\1,p' /tmp/dpkg.log)
is ${#lines[@]} 2 '... and what gives each of its two functions back'
ok 'the holder has noticed nothing of that either' alive "${holders[0]}"
is "$(ls -d /etc/gpubroker /var/lib/gpubroker /run/gpubroker 2>/dev/null)" '' 'nothing is left of the broker'
is "$(getent passwd gpubroker)" '' '... and no account'
kill "${holders[0]}"
wait "${holders[0]}" 2>/dev/null
has_let_go() { python3 - "$(group_of $gpu)" <<-'END'; }
	import os, sys
	os.close(os.open("/dev/vfio/" + sys.argv[1], os.O_RDWR))
END
ok 'the group is free' wait_for 20 has_let_go
for line in "${lines[@]}"; do ok "$line" bash -c "$line"; done
ok "the host's driver has the GPU" wait_for 30 is_back $gpu bochs-drm
ok '... and the audio function' wait_for 30 is_back $gpu_audio snd_hda_intel

# Once more, as on a host that has never had it.
dpkg_does -i $(version 1)
is $status 0 'the packages are installed again'
capture run_as alice gpubroker list
is $status 0 '... and serve'
like "$stderr" 'the policy is empty' '... without the policy that was purged'
is "$(systemctl show -P Nice gpubroker.service)" -1 "the administrator's drop-in, which is no file of a package, is there"
dpkg_does -P gpubroker libgpubroker0
rm -rf /etc/systemd/system/gpubroker* /usr/lib/libgpubroker.so* /tmp/own
systemctl daemon-reload
done_testing
