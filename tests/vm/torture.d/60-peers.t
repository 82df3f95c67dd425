#!/bin/bash
# 10,000 idle peers of 100 users, and one user who misbehaves in every way at once: others' claims
# are granted as fast as when it is quiet, the core stays small, and limits hold. With users who take
# every place that there is, others have one, and root can end a lease.
. ./lib.sh

# udevd, which knows nothing of these functions, costs a tenth of a second for each of their events.
noise=(systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket gpubroker-uevents.service)
users=(u1 u2 u3 u4 u5 u6 u7)
core=$(systemctl show -P MainPID gpubroker)
memory() { sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$core/status"; }
fds() { local f=("/proc/$core/fd/"*); echo ${#f[@]}; }
count() { local v=${2#*"$1="}; echo "${v%%[ $'\n']*}"; }
has_fds() { [ "$(fds)" = "$1" ]; }
all_back() {
	local f
	for f in "${plain[@]}"; do has_driver "$f" gpubroker_test || return; done
	no_records
}
# idle: the core has done all that it was asked for.
idle() {
	local before after
	read -r -a before <"/proc/$core/stat"
	pause
	read -r -a after <"/proc/$core/stat"
	[ "${before[13]} ${before[14]}" = "${after[13]} ${after[14]}" ]
}
# leads PID: it is the first of a process group.
leads() {
	local stat
	read -r -a stat <"/proc/$1/stat"
	[ "${stat[4]}" = "$1" ]
}
# claims WHEN: claims of seven users for six seconds, each of functions of its own and from the connect to
# the grant; adds to `medians`.
claims() {
	local out n
	out=$(/tests/cycle run -o -c -n 10000 -s 6 -t 300 "${users[@]}" -- "${plain[@]:0:14}")
	n=$(count granted "$out")
	is "$((n > 0)),$(count refused "$out"),$(count faults "$out"),$(count unreachable "$out")" 1,0,0,0 \
		"$1: $n claims, all granted"
	diag "$out"
	medians+=("$(count median "$out")")
}
# middle NUMBER...: the median of an odd count.
middle() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

systemctl stop "${noise[@]}"
insmod /tests/gpubroker_test.ko
wait_for 10 all_back
medians=() && claims 'to warm up'
wait_for 20 all_back
fds_before=$(fds)
diag "resident $(memory VmRSS) KiB, $fds_before descriptors"
medians=()
claims 'quiet'
claims 'quiet again'
alone=("${medians[@]}")

/tests/cycle hold 100 20000 20099 >/tmp/hold &
hold=$!
ok '10,000 connections of 100 users' wait_for 90 grep -q ready /tmp/hold
is "$(cat /tmp/hold)" 'held 10000 refused 0
ready' '... and none is refused'
diag "resident $(memory VmRSS) KiB, at most $(memory VmHWM) KiB, $(fds) descriptors"
diag "the unit's memory, kernel's included: $(systemctl show -P MemoryCurrent gpubroker) bytes"
ok "memory is less than 16 MiB ($(memory VmHWM) KiB)" test "$(memory VmHWM)" -lt 16384

# One user's limit: others are not concerned.
/tests/cycle hold 140 20100 20100 >/tmp/limit &
limit=$!
ok 'one user asks for 140 more' wait_for 30 grep -q ready /tmp/limit
is "$(cat /tmp/limit)" 'held 128 refused 12
you have 128 connections to the broker, which is the most for one user; end some and try again
ready' '... and has 128, and a sentence for each of the others'
ok '... while others connect' run_as u1 gpubroker list
kill $limit
wait $limit
like "$(cat /tmp/limit)" 'alive 128' '... and keeps those it has'

medians=()
claims 'with 10,000 idle peers'
crowd=("${medians[@]}")
# u8's processor time is the scheduler's affair, which gives each user a share; here there are two
# processors for all, so it takes what is left over. Rounds in turn, quiet while u8 is stopped, since
# what else the machine does comes and goes.
setsid nice -n 19 /tests/cycle misbehave u8 600 "${plain[15]}" >/tmp/misbehave &
bad=$!
wait_for 10 leads $bad
pause
quiet=() loud=() ratios=() rounds=${THOROUGH:+7}
: "${rounds:=2}"
for ((i = 1; i <= rounds; i++)); do
	kill -STOP -- -$bad
	wait_for 20 idle
	medians=() && claims "u8 is stopped, $i"
	quiet+=("${medians[@]}")
	kill -CONT -- -$bad
	medians=() && claims "u8 misbehaves, $i"
	loud+=("${medians[@]}")
	ratios+=($((loud[i - 1] * 100 / quiet[i - 1])))
done
diag "resident $(memory VmRSS) KiB, at most $(memory VmHWM) KiB, $(fds) descriptors"
ok 'another user is served while u8 has all it may have' run_as u1 gpubroker list
kill $bad
wait $bad
diag "u8: $(cat /tmp/misbehave)"
for what in connects rubbish claims listings; do
	ok "u8 did misbehave: $what" test "$(count $what "$(cat /tmp/misbehave)")" -gt 0
done
ok "memory is less than 16 MiB ($(memory VmHWM) KiB)" test "$(memory VmHWM)" -lt 16384

# As many connections as there may be, of users who are not root.
/tests/cycle hold 120 20200 20217 >/tmp/full &
full=$!
ok 'other users take the places that are left' wait_for 60 grep -q ready /tmp/full
like "$(cat /tmp/full)" '^held 2160 refused 0' '... all 12,160'
run_as u1 gpubroker run --gpu "${plain[0]}" -- sleep 1000 &
holder=$!
ok 'in the full house somebody else claims' wait_for 30 is_leased "${plain[0]}"
ok '... and lists' run_as u2 gpubroker list
capture gpubroker leases --json
is $status 0 '... and root lists'
lease=$(python3 -c 'import json, sys; print(*[l["id"] for l in json.load(sys.stdin)])' <<<"$stdout")
# It is not of a kind that lets go, so the answer is that the holder was asked.
capture gpubroker revoke "$lease"
like "$status" '^(0|75)$' '... and revokes' || diag "$stderr"
kill $holder
wait $holder
wait_for 20 all_back
for way in kinds away silent; do
	/tests/attack $way u8 8 >/tmp/attack &
	bad=$!
	pause
	out=$(timeout 100 /tests/attack measure u1 5)
	diag "$way, in a full house: $out"
	is "$(count failed "$out")" 0 "$way: another user is served meanwhile"
	wait $bad
	diag "$way: $(cat /tmp/attack)"
done
kill $full
wait $full
alive=$(count alive "$(sed 's/alive /alive=/' /tmp/full)")
ok "places came from those who had most ($alive of 2160 are left)" test "$alive" -lt 2160

kill $hold
wait $hold
like "$(cat /tmp/hold)" 'alive 10000' 'of the 10,000 none was dropped'
ok 'when all have gone, descriptors are back' wait_for 30 has_fds "$fds_before"
ok "... and u8's function too" wait_for 20 all_back
medians=() && claims 'quiet after'
diag "median of a claim: nobody else ${alone[*]} and ${medians[*]}, with idle peers ${crowd[*]}, u8 stopped ${quiet[*]}, u8 at it ${loud[*]} us"
q=$(middle "${alone[@]}" "${medians[@]}")
diag "ratio: idle peers $((crowd[0] * 100 / q))%, u8 misbehaving ${ratios[*]}%, the middle one $(middle "${ratios[@]}")%"
# That nobody is starved is seen above: all were granted. How fast is for the whole form, which is given a
# quiet machine: in emulation a median varies by four with what else there is.
if [ -n "${THOROUGH:-}" ]; then
	m=$(middle "${ratios[@]}")
	ok "a claim beside one who misbehaves takes less than twice its time ($m%)" test "$m" -lt 200
fi
is "$(systemctl show -P MainPID gpubroker)" "$core" 'the daemon is the same process as before'
wait_for 20 all_back
rmmod gpubroker_test
systemctl start "${noise[@]}"
rm -f /tmp/hold /tmp/limit /tmp/misbehave /tmp/full /tmp/attack
done_testing
