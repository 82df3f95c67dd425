# shellcheck shell=bash
# What the cases with hostile helpers share: the real core with helpers that play scripts, see hostile-helpers.c, and a
# lease of alice's that nothing of it may touch. Sourced by a case after lib.sh.

drop_in=/run/systemd/system/gpubroker.service.d
scripts=/run/gpubroker/hostile
main_pid() { systemctl show -P MainPID gpubroker; }
said() { journalctl -q --no-pager -o cat -u gpubroker --after-cursor "$mark"; }
# said_it REGEX: since the mark.
said_it() { said | grep -qE "$1"; }
# From here on only what comes is looked at.
set_mark() { mark=$(journalctl -q -u gpubroker -n 1 --show-cursor -o cat | sed -n 's/^-- cursor: //p'); }
peak() { sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(main_pid)/status"; }
answers() { gpubroker leases; }

# begin WHO SCRIPT [REGEX]: a core with that helper serves, or has said so.
begin() {
	set_mark
	echo "$1 $2" >$scripts
	systemctl kill -s KILL --kill-whom=main gpubroker
	wait_for 40 said_it "${3:-serving: }"
}
one_lease() { [ "$(gpubroker leases | grep -c '^[0-9]')" = 1 ]; }
lease_goes_on() {
	wait_for 20 one_lease # what was lent besides is on its way back
	is "$(gpubroker leases | awk '$1 ~ /^[0-9]/ { print $1, $2, $3, $5 }')" "$lease alice $holder leased" \
		"$1: the lease goes on, and is the only one"
	is "$(driver_of "$gpu") $(driver_of "$gpu_audio")" 'vfio-pci vfio-pci' "$1: its functions are its holder's"
}
# refused USER DEVICE WHY
refused() {
	capture run_as "$1" gpubroker run --gpu "$2" -- true
	case $status in
	66 | 69 | 75 | 77 | 78) pass "$3 ($2: $status)" ;;
	*) fail "$3 ($2: $status)" "$stderr" ;;
	esac
}
# Of what nobody has.
drivers() { for f in $boot_vga $disk $gpu2 $driverless $multi_gpu $multi_net; do driver_of "$f"; done | xargs; }

# ends_itself WHO:SCRIPT...: one start after the other, each with the next script; then an honest one.
ends_itself() {
	local s
	set_mark
	for s; do echo "${s/:/ }"; done >$scripts
	systemctl kill -s KILL --kill-whom=main gpubroker
	ok "$# hostile starts, and the core comes back to serve" wait_for 90 all_played
	said >/tmp/said
	for s; do
		like "$(grep -A 12 -x "hostile ${s/:/: }" /tmp/said | sed '/^Started\|^Starting/,$d' | grep -vE '^lease=')" \
			"the ${s%:*} (sent|has ended).*; ending.*Main process exited, code=exited, status=70" \
			"a ${s%:*} that sends ${s#*:}: the core ends itself, with a status that says so"
	done
	unlike "$(cat /tmp/said)" 'code=(killed, status=(11|6|31)|dumped)' '... and none of them by a signal'
	lease_goes_on 'after hostile starts'
	is "$(drivers)" "$before" '... and no other function has changed its driver'
	capture run_as alice gpubroker run --gpu "$gpu2" -- true
	is "$status" 0 '... and with honest helpers it lends'
	wait_for 20 has_driver "$gpu2" bochs-drm
	rm /tmp/said
}
all_played() { [ ! -s $scripts ] && said_it 'serving: .* 1 leases taken up'; }

[ -x /tests/hostile-helpers ] || skip_all 'there is no hostile build'
mkdir -p $drop_in
printf '[Service]\nExecStart=\nExecStart=/tests/hostile-helpers\nExecStartPre=\n' >$drop_in/hostile.conf
echo 'allow user alice claim class display vendor 10de
deny user carol claim any' >/etc/gpubroker/policy.d/30-hostile.policy
systemctl daemon-reload
systemctl restart gpubroker
is "$(readlink "/proc/$(main_pid)/exe")" /tests/hostile-helpers 'the real core, with helpers that are honest as yet'
run_as alice gpubroker run --gpu "$gpu" -- sleep 600 &
holder=$!
wait_for 20 has_driver "$gpu_audio" vfio-pci
lease=$(gpubroker leases --json | grep -o '"id": *[0-9]*' | tr -dc 0-9)
before=$(drivers)

# The end of a case.
hostile_done() {
	kill $holder
	wait $holder
	ok 'the lease ends as leases do' wait_for 20 has_driver "$gpu_audio" snd_hda_intel
	rm -r $drop_in $scripts /etc/gpubroker/policy.d/30-hostile.policy
	systemctl daemon-reload
	systemctl restart gpubroker
	capture run_as alice gpubroker run --gpu "$gpu2" -- true
	is "$status" 0 'the honest daemon serves again'
	wait_for 20 has_driver "$gpu2" bochs-drm
	done_testing
}
