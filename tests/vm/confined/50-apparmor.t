#!/bin/bash
# AppArmor enforces, and everybody is in the profile that is meant.
. ./lib.sh

profile() { cat "/proc/$1/attr/current"; }

is "$(cat /sys/module/apparmor/parameters/enabled)" Y 'AppArmor is there'
is "$(cat /sys/module/apparmor/parameters/mode)" enforce 'AppArmor enforces'
is "$(systemctl is-system-running --wait)" running 'the host is up, no unit has failed' ||
	diag "$(systemctl --failed --no-legend)"
like "$(cat /sys/kernel/security/apparmor/profiles)" 'gpubrokerd \(enforce\)' "the daemon's profile is loaded, to be enforced"
like "$(cat /sys/kernel/security/apparmor/profiles)" 'gpubroker-test \(enforce\)' "... and the client's"

core=$(systemctl show -P MainPID gpubroker)
is "$(profile "$core")" 'gpubrokerd (enforce)' 'the core is in its profile'
for helper in load watch find; do
	is "$(profile "$(helper_pid $helper)")" 'gpubrokerd (enforce)' "gpubroker-$helper is in it too"
done
is "$(run_as alice cat /proc/self/attr/current)" 'gpubroker-test (enforce)' "a user's command is confined"
is "$(systemd-run -q --wait --pipe --uid=alice /usr/bin/gpubroker run --gpu 02:00.0 -- cat /proc/self/attr/current 2>&1 | tail -n 1)" \
	unconfined "a system unit's gpubroker run gets its GPU, and no profile"
ok '... and the host has it back' wait_for 20 is_back $gpu2 bochs-drm
done_testing
