# shellcheck shell=bash
# What the cases with hostile helpers share: the real core with helpers that play scripts, see hostile-helpers.c, and a
# lease of alice's that nothing of it may touch. Sourced by a case after lib.sh.

units=/run/systemd/system
scripts=/run/gpubroker-hostile/scripts
main_pid() { systemctl show -P MainPID gpubroker; }
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
	local s n=0
	set_mark
	for s; do echo "${s/:/ }"; done >$scripts
	systemctl kill -s KILL --kill-whom=main gpubroker
	ok "$# hostile starts, and the core comes back to serve" wait_for 90 all_played $#
	said >/tmp/said
	# The n-th of each is of the n-th start. What two processes write may be in the journal in another order. The first
	# end is by the signal above.
	grep '^hostile ' /tmp/said >/tmp/said.starts
	grep '; ending, to be started again' /tmp/said >/tmp/said.reasons
	grep '^gpubroker.service: Main process exited' /tmp/said | tail -n +2 >/tmp/said.ends
	for s; do
		n=$((n + 1))
		like "$(for f in starts reasons ends; do sed -n ${n}p /tmp/said.$f; done)" \
			"^hostile ${s/:/: }.the ${s%:*} sent [^;]*; ending[^;]*code=exited, status=70" \
			"a ${s%:*} that sends ${s#*:}: the core ends itself, with a status that says so"
	done
	unlike "$(cat /tmp/said)" 'code=(killed, status=(11|6|31)|dumped)' '... and none of them by a signal'
	lease_goes_on 'after hostile starts'
	is "$(drivers)" "$before" '... and no other function has changed its driver'
	capture run_as alice gpubroker run --gpu "$gpu2" -- true
	is "$status" 0 '... and with honest helpers it lends'
	wait_for 20 is_back "$gpu2" bochs-drm
	rm /tmp/said /tmp/said.*
}
# ends_in_the_middle WHO UNIT: a helper that ends is another one's to follow, and nobody's end.
ends_in_the_middle() {
	local core
	core=$(main_pid)
	set_mark
	echo "$1 half" >$scripts
	systemctl kill -s KILL --kill-whom=main "$2"
	twice() { [ "$(said | grep -c "^the $1 has ended")" = 2 ]; }
	ok "a $1 that ends in the middle: another one comes" wait_for 40 twice "$1"
	ok '... after one that has sent half' said_it "^hostile $1: half"
	there() { [ "$(cat "/proc/$(systemctl show -P MainPID "$2")/comm")" = "$2" ]; }
	ok '... and is there' wait_for 20 there "$1" "$2"
	capture run_as alice gpubroker run --gpu "$gpu2" -- true
	is "$status" 0 '... and the core lends'
	wait_for 20 is_back "$gpu2" bochs-drm
	is "$(main_pid)" "$core" '... and has not ended'
	is "$(gpubroker list --all | grep -c .)" "$listed" '... and knows all functions'
	lease_goes_on "a $1 that ends"
}
# all_played N: so many cores have ended themselves, and the next one serves.
all_played() {
	[ ! -s $scripts ] && said | awk -v n="$1" '
		/; ending, to be started again/ { ended++; serves = 0 }
		/^serving: .* 1 leases taken up/ { serves = 1 }
		END { exit !(ended == n && serves) }'
}

[ -x /tests/hostile-helpers ] || skip_all 'there is no hostile build'
install -d -o gpubroker -g gpubroker ${scripts%/*}
install -o gpubroker -g gpubroker -m 644 /dev/null $scripts
for helper in watch:watcher load:loader; do
	mkdir -p $units/gpubroker-${helper%:*}.service.d
	printf '[Service]\nExecStart=\nExecStart=/tests/hostile-helpers --helper %s\nReadWritePaths=%s\n' \
		${helper#*:} ${scripts%/*} >$units/gpubroker-${helper%:*}.service.d/hostile.conf
done
echo 'allow user alice claim class display vendor 10de
deny user carol claim any' >/etc/gpubroker/policy.d/30-hostile.policy
systemctl daemon-reload
systemctl restart gpubroker
systemctl restart gpubroker-watch gpubroker-load
wait_for 20 answers
is "$(readlink "/proc/$(main_pid)/exe")" /usr/sbin/gpubrokerd 'the real core'
is "$(readlink "/proc/$(helper_pid watch)/exe" "/proc/$(helper_pid load)/exe" | uniq)" /tests/hostile-helpers \
	'... with helpers that are honest as yet'
run_as alice gpubroker run --gpu "$gpu" -- sleep 600 &
holder=$!
wait_for 20 is_leased "$gpu"
lease=$(gpubroker leases --json | grep -o '"id": *[0-9]*' | tr -dc 0-9)
before=$(drivers)
listed=$(gpubroker list --all | grep -c .)

# The end of a case.
hostile_done() {
	kill $holder
	wait $holder
	ok 'the lease ends as leases do' wait_for 20 is_back "$gpu_audio" snd_hda_intel
	rm -r $units/gpubroker-{watch,load}.service.d ${scripts%/*} /etc/gpubroker/policy.d/30-hostile.policy
	systemctl daemon-reload
	systemctl restart gpubroker gpubroker-watch gpubroker-load
	capture run_as alice gpubroker run --gpu "$gpu2" -- true
	is "$status" 0 'the honest daemon serves again'
	wait_for 20 is_back "$gpu2" bochs-drm
	done_testing
}
