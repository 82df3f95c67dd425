#!/bin/bash
# A deliberately hostile build: each part of the daemon's tries, in its finished confinement and
# in the unit's own sandbox, what it must not be able to do. What is tried and by what it fails is a
# table in guest/hostile-parts.c. Then a core that keeps what it lends.
. ./lib.sh

[ -x /tests/hostile-parts ] || skip_all 'there is no hostile build'
units=/run/systemd/system

touch /dev/shm/hostile-victim /dev/shm/hostile-victim2
mkdir -p /dev/shm/hostile-directory

# attempts WHERE N: each of the N lines of the table is a test.
attempts() {
	local name got wanted n=0
	while IFS=$'\t' read -r name got wanted; do
		n=$((n + 1))
		if [ -z "$wanted" ]; then
			fail "$1: $name"
		elif [ "$name" = 'opens /dev/mem' ] && lacks "$1: $name" devmem; then
			:
		elif [ "$wanted" = - ]; then
			skip "$1: $name" 'only Landlock stops it, and there is none'
		else
			is "$got" "$wanted" "$1: one that $name: $wanted"
		fi
	done </run/hostile.out
	is $n "$2" "$1: all of the table was tried"
}

# A copy of the unit, which leaves the daemon alone.
sed -e 's|^ExecStart=.*|ExecStart=/tests/hostile-parts --socket /run/gpubroker/hostile --state /run/gpubroker/hostile-leases|' \
	-e 's/^Type=.*/Type=oneshot/' -e 's/^Restart=.*/Restart=no/' -e '/^ExecStartPre=/d' -e '/^ExecReload=/d' \
	-e '/^Requires=/d' -e '/^Sockets=/d' -e '/^Wants=gpubroker/d' -e '/^WatchdogSec=/d' -e 's/^\[Service\]/&\nStandardOutput=file:\/run\/hostile.out\nStandardError=journal\nEnvironment=HOSTILE=unit\nTimeoutStartSec=120/' \
	/usr/lib/systemd/system/gpubroker.service >$units/gpubroker-hostile.service
systemctl daemon-reload
ok 'the hostile build has run in the sandbox of the unit' systemctl start gpubroker-hostile
attempts 'in the unit' 104
# The helpers, in theirs, but for TasksMax=: each attempt has a process.
while read -r unit helper n; do
	unit=gpubroker-$unit
	sed -e "s|^ExecStart=.*|ExecStart=/tests/hostile-parts --helper $helper --socket /tmp/hostile-core|" \
		-e 's/^Type=.*/Type=oneshot/' -e 's/^Restart=.*/Restart=no/' -e '/^Requires=/d' -e '/^Before=/d' \
		-e '/^StopPropagatedFrom=/d' -e '/^TasksMax=/d' \
		-e "s|^\[Service\]|&\nStandardOutput=file:/run/hostile-$helper.out\nStandardError=journal\nEnvironment=HOSTILE=unit HOSTILE_CORE=$(systemctl show -P MainPID gpubroker)\nTimeoutStartSec=120|" \
		"/usr/lib/systemd/system/$unit.service" >"$units/gpubroker-hostile.service"
	systemctl daemon-reload
	ok "the hostile build has run in the sandbox of $unit" systemctl start gpubroker-hostile
	mv "/run/hostile-$helper.out" /run/hostile.out
	attempts "in $unit" "$n"
done <<-END
	watch watcher 103
	load loader 102
	find finder 104
	end ender 104
	END
# What gets through where neither is there.
diag "$(journalctl -q --no-pager -o cat -u gpubroker-hostile | grep ', without ')"
rm $units/gpubroker-hostile.service
ok 'the hostile build has run without the unit' \
	sh -c '/tests/hostile-parts --socket /run/gpubroker/hostile --state /run/gpubroker/hostile-leases >/run/hostile.out 2>/run/hostile.err'
attempts 'by hand' 56
rm -rf /run/gpubroker/hostile* /dev/shm/hostile* /run/hostile.out /run/hostile.err /tmp/hostile*

# ---- a core that keeps a descriptor of what it lends ----
main_pid() { systemctl show -P MainPID gpubroker; }
mkdir -p $units/gpubroker.service.d
printf '[Service]\nExecStart=\nExecStart=/tests/hostile-parts\nEnvironment=HOSTILE=keep\n' \
	>$units/gpubroker.service.d/hostile.conf
systemctl daemon-reload
systemctl restart gpubroker
keeper=$(main_pid)
is "$(readlink "/proc/$keeper/exe")" /tests/hostile-parts 'a core that keeps what it lends serves'
capture run_as alice gpubroker run --gpu $gpu2 -- true
is "$status" 0 '... and lends'
ls -l "/proc/$keeper/fd" | grep -q "/dev/vfio/$(group_of $gpu2)\$"
is $? 0 '... and has the group open, which no confinement can prevent'
sleep 2
like "$(gpubroker leases)" 'alice .*leased' '... then the lease does not end when its holder does'
capture run_as carol gpubroker run --gpu $gpu2 -- true
is "$status" 75 '... and nobody else is lent it: nothing is lent twice'
is "$(driver_of $gpu2)" vfio-pci '... nor has the host it back'
rm -r $units/gpubroker.service.d
systemctl daemon-reload
systemctl restart gpubroker
ok 'an honest core that is started gives it back' wait_for 20 is_back $gpu2 bochs-drm
ok '... and the lease has ended' wait_for 10 no_records
isnt "$(main_pid)" "$keeper" 'the daemon is the honest one again'
capture run_as carol gpubroker run --gpu $gpu2 -- true
is "$status" 0 '... and lends it'
ok '... and takes it back' wait_for 20 is_back $gpu2 bochs-drm
done_testing
