# shellcheck shell=bash
# What has to hold while a driver of the host hangs, and afterwards: for the cases that make one
# hang in remove and in probe. Sourced after lib.sh and torture.sh.

# What hangs here hangs for ever, so an answer is one however long a busy machine takes for it.
main_pid() { systemctl show -P MainPID gpubroker; }
# leased ADDRESS KEY: what `leases` says of its lease; nothing where there is none.
leased() {
	timeout 120 gpubroker leases --json | python3 -c 'import json, sys
for l in json.load(sys.stdin):
	if sys.argv[1] in l["devices"]: print(l[sys.argv[2]])' "$1" "$2"
}
listed() {
	timeout 120 gpubroker list --all --json | python3 -c 'import json, sys
for d in json.load(sys.stdin):
	if d["address"] == sys.argv[1]: print(d["status"])' "$1"
}
is_stuck() { [ "$(leased "$1" state)" = stuck ]; }

# claim_hangs ADDRESS: alice claims what its driver does not let go of, and is answered all the same.
claim_hangs() {
	local took
	hang remove "$1"
	took=$(now)
	capture run_as alice timeout 120 gpubroker run --gpu "$1" -- true
	took=$(($(now) - took))
	diag "the claim was answered after $(seconds $took)"
	is $status 75 'a claim whose unbind hangs is answered with 75'
	ok '... not before ten seconds' test $took -ge 9500
	like "$stderr" "^gpubroker: $1 is stuck \($1: unbind" '... and names the step'
}

# stuck_as_told ADDRESS STEP WHEN: it is said to be stuck in STEP, and nobody can have it.
stuck_as_told() {
	is "$(leased "$1" state)" stuck "$3: leases says stuck"
	like "$(leased "$1" reason)" "^$1: $2" "$3: ... names the function and the step"
	ok "$3: ... and since when" test "$(leased "$1" since)" -gt 0
	is "$(listed "$1")" stuck "$3: list says stuck"
	local before
	before=$(now)
	capture run_as bob timeout 120 gpubroker run --gpu "$1" -- true
	diag "the answer to a second claim took $(seconds $(($(now) - before)))"
	is $status 75 "$3: a second claim is answered"
	like "$stderr" "^gpubroker: $1 is stuck \($1: $2" '... with the step'
}

# others_go_on COUNT ADDRESS WHEN: COUNT claims of other functions, beside the hanging one, and
# their times.
others_go_on() {
	local others=() f
	for f in "${plain[@]}"; do
		[ "$f" = "$2" ] || [ ${#others[@]} = 8 ] || others+=("$f")
	done
	claims_by_many "$1" "${others[@]}"
	is "$granted" "$1" "$3: $1 claims of other functions are granted"
	is "$unexpected" '' "$3: ... and given back"
	diag "$3: $1 claims by 8 users: median $(seconds "$median"), p90 $(seconds "$p90"), max $(seconds "$max")"
}

# asks_nothing_that_waits ADDRESS: the core itself reads no file whose read takes the device's lock,
# which a driver that hangs holds: on Debian 12's kernel driver_override and sriov_numvfs are such.
# The kernel here takes it for neither, so the core would not be seen to hang: looked at are its
# calls.
asks_nothing_that_waits() {
	local core tracer
	core=$(main_pid)
	rm -f /tmp/core.strace
	# What the core opens, its workers may read: hence the reads, by the files' names.
	strace -qq -yy -e trace=read,pread64,readv -o /tmp/core.strace -p "$core" 2>/dev/null &
	tracer=$!
	wait_for 10 grep -qE "^TracerPid:[[:space:]]*[1-9]" "/proc/$core/status"
	timeout 120 /tests/as bob unlimited gpubroker run --gpu "$1" -- true 2>/dev/null
	timeout 120 /tests/as bob unlimited gpubroker run --gpu "${plain[15]}" -- true
	wait_for 20 is_free "${plain[15]}"
	kill $tracer
	wait $tracer 2>/dev/null
	like "$(</tmp/core.strace)" '/sys/devices/pci' 'the core was seen to read sysfs'
	is "$(grep -Eo '<[^>]*/(driver_override|sriov_numvfs|uevent)>' /tmp/core.strace | sort | uniq -c)" '' \
		'the core reads nothing that takes the lock of a device'
	rm -f /tmp/core.strace
}

# survives_restart ADDRESS STEP: stop is quick, and after a start it is as stuck as before.
survives_restart() {
	local before
	before=$(now)
	# systemd waits for 4 s. By its defaults it would wait for 90, and without SIGKILL for ever.
	ok 'it stops while it hangs, and systemd waits no longer than it waits for the unit' \
		timeout 60 systemctl stop gpubroker.service gpubroker.socket
	diag "systemctl stop took $(seconds $(($(now) - before)))"
	before=$(now)
	ok 'it starts while it hangs' timeout 120 systemctl start gpubroker.socket gpubroker.service
	diag "systemctl start took $(seconds $(($(now) - before)))"
	stuck_as_told "$1" "$2" 'after a restart'
	capture run_as u1 timeout 120 gpubroker run --gpu "${plain[14]}" -- true
	is $status 0 'after a restart: another function can be claimed'
	ok '... and comes back' wait_for 20 is_free "${plain[14]}"
}

# settles ADDRESS: nothing hangs any more.
settles() {
	ok 'when the kernel lets go, it is back on its driver by itself' \
		wait_for 40 is_back "$1" gpubroker_test
	ok '... with no record left' wait_for 40 no_records
	is "$(override_of "$1")" '' '... and no override'
	capture run_as bob timeout 120 gpubroker run --gpu "$1" -- true
	is $status 0 '... and can be claimed again'
	ok '... and comes back from that' wait_for 20 is_free "$1"
	is "$(driver_of "$1")" gpubroker_test '... on its driver'
}
