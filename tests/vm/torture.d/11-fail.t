#!/bin/bash
# Each write to sysfs, open, change of a record, send and read of a claim and of a release fails in
# each of the ways that a kernel knows: it ends claimed or rolled back, the peer is told, no
# descriptor is left over, and the host gets everything back. And in a recovery: the daemon takes
# the lease up, or ends and does so when it is started again. The short form takes what there is time for.
. ./lib.sh
. ./torture.d/breaker.sh

# Seconds for the short form.
: "${SWEEP_SECONDS:=40}"
errors=(EIO EBUSY ENODEV ENOSPC ENOMEM EINTR EMFILE ETOOMANYREFS)
classes=(sysfs open record send read)
declare -A n_calls n_writes n_points n_outcome

descriptors() { local f=("/proc/$core/fd"/*); n_descriptors=${#f[@]}; }
few() { descriptors; [ "$n_descriptors" -le "$before" ]; }

restored_or_stuck() { restored || { [ -n "$alive" ] && on_record stuck && seen=stuck; }; }

# settle: the host has everything back: at once; or, where giving it back was what failed, when the
# daemon is started again, which tries again as it does every ten seconds by itself.
settle() {
	seen=''
	await 1 restored_or_stuck && [ -z "$seen" ] && return
	if [ -z "$seen" ] && [ -n "$alive" ] && await 5 restored_or_stuck && [ -z "$seen" ]; then
		how_settled=late
		return
	fi
	how_settled=stuck
	[ -z "$alive" ] || ask stop
	start
	if [ -z "$alive" ]; then
		outcome="the daemon does not start: $reply"
	elif ! await 15 restored; then
		outcome="it does not come back"
	elif [ -z "$seen" ]; then
		outcome="forgotten until a restart: $point"
	fi
}

# failed: what came of the plan, from `done`.
failed() {
	ask done
	point=$reply
	case $reply in
	failed\ *) ;;
	passed\ *) point=passed ;;
	*) outcome="neither failed nor passed: $reply" ;;
	esac
	ask state
	[[ $reply == alive\ * ]] || {
		alive=''
		# What the daemon ends with on purpose, sysexits.h's.
		case ${reply#gone } in
		'exit 70' | 'exit 71') ended=$((ended + 1)) daemon=ended ;;
		*) outcome="the daemon died: $reply" ;;
		esac
	}
}

# leak: no more is open than before.
leak() {
	[ -z "$alive" ] || [ "$daemon" = ended ] || [ -n "$how_settled" ] || await 3 few ||
		outcome="$((n_descriptors - before)) descriptors left over: $(ls -l "/proc/$core/fd" | tail -n 3)"
	[ -n "$alive" ] || { start; [ -n "$alive" ] || outcome="the daemon does not start: $reply"; }
}

# The peer of a claim: granted; or refused with a sentence; or the daemon or the connection ended,
# which only a send that failed or a daemon that ended excuse.
point_claim() {
	descriptors
	before=$n_descriptors
	ask "seize fail $1 $2 $3"
	claim
	failed
	case $answer in
	granted\ *)
		told_of=claimed
		[ -n "$alive" ] || start
		held || outcome="${outcome:-granted, but not held}"
		release ;;
	refused\ [0-9]*\ ?*) told_of=refused ;;
	fault\ *)
		told_of=dropped
		[ "$1" = send ] || [ "$daemon" = ended ] || outcome="${outcome:-the peer was dropped: $answer}" ;;
	*) outcome="${outcome:-the peer was told: $answer}" ;;
	esac
	settle
	leak
}

# claim_whole: a claim that nothing breaks. One whose open of the group failed with EBUSY was told that another program
# has it, and for three seconds the next are told so, too.
claim_whole() {
	local i
	for ((i = 0; i < 40; i++)); do
		claim
		[[ $answer == refused\ * ]] || return 0
		read -rt 0.2 -u "$pause_fd" _ || :
	done
}

over() { restored || [ ! -e "/proc/$core" ] || [ "${EPOCHREALTIME/./}" -gt $given_up ]; }

point_release() {
	descriptors
	before=$n_descriptors
	claim_whole
	ask "seize fail $1 $2 $3"
	release
	given_up=$((${EPOCHREALTIME/./} + 1500000))
	await 3 over
	failed
	told_of=released
	settle
	leak
}

# A VM goes on while the daemon is started anew.
point_recovery() {
	told_of='taken-up'
	[ -n "$lives" ] || { claim_whole; lives=1; }
	ask kill
	start "fail $1 $2 $3"
	failed
	if [ -z "$alive" ]; then
		start
		[ -n "$alive" ] || { outcome="${outcome:-the daemon does not start: $reply}"; return; }
	fi
	held || outcome="${outcome:-lost}"
}

# run PHASE CLASS N HOW
run() {
	outcome='' how_settled='' daemon=lives
	[ "$1" = recovery ] || [ -z "$lives" ] || { release; lives=; await 10 restored; }
	began=$SECONDS
	"point_$1" "$2" "$3" "$4"
	[ $((SECONDS - began)) -lt 8 ] || diag "$1: $2 $3 $4 ($point) took $((SECONDS - began)) s: $answer, $reply, ${how_settled:-at once}"
	if [ -n "$outcome" ]; then
		wrong "$1: $2 $3 $4 ($point): $outcome"
		told_of=wrong lives=
	fi
	[ "$point" != passed ] || return
	n_points[$1]=$((n_points[$1] + 1))
	n_points[$1 $2]=$((n_points[$1 $2] + 1))
	n_points[$1 $4]=$((n_points[$1 $4] + 1))
	n_outcome[$1 $told_of]=$((n_outcome[$1 $told_of] + 1))
	[ -z "$how_settled" ] || n_outcome[$1 $how_settled]=$((n_outcome[$1 $how_settled] + 1))
	[ $daemon = lives ] || n_outcome[$1 ended]=$((n_outcome[$1 ended] + 1))
}

# listed PHASE: counts the calls of each class, from $calls.
listed() {
	local line words
	for line in "${calls[@]}"; do
		read -ra words <<<"$line"
		n_calls[$1 ${words[4]}]=$((n_calls[$1 ${words[4]}] + 1))
		[ "${words[3]}" != write ] || n_writes[$1 ${words[4]}]=$((n_writes[$1 ${words[4]}] + 1))
	done
}

# plan PHASE: all that can be broken in it, into $plan.
plan() {
	local class n how
	for class in "${classes[@]}"; do
		for ((n = 1; n <= n_calls[$1 $class]; n++)); do
			for how in "${errors[@]}"; do plan+=("$1 $class $n $how"); done
		done
		for ((n = 1; n <= n_writes[$1 $class]; n++)); do
			[ $class = send ] || plan+=("$1 $class $n short")
		done
	done
}

# counts PHASE KEYS...: "key 3, other 4"
counts() {
	local phase=$1 text='' key
	shift
	for key; do text+=", $key ${n_points[$phase $key]:-${n_outcome[$phase $key]:-0}}"; done
	echo "${text#, }"
}

begin
ended=0 plan=() lives=
ask 'seize list'
claim
ask done
listed claim
release
await 5 restored
claim
ask 'seize list'
release
await 5 restored
ask done
listed release
claim
ask kill
start list
listed recovery
ask 'done'
listed recovery
release
await 5 restored
plan claim
plan release
plan recovery
for class in "${classes[@]}"; do
	diag "$class: ${n_calls[claim $class]:-0} calls in a claim, ${n_calls[release $class]:-0} in a release, ${n_calls[recovery $class]:-0} in a recovery"
done
isnt ${#plan[@]} 0 "there is something to break, in ${#plan[@]} ways"

# All of them; or as many as there is time for, in an order that spreads over all and is the same
# each time: by steps of a number that has no divisor in common with how many there are.
started=${EPOCHREALTIME/./} n=${#plan[@]} step=1
if [ -z "${THOROUGH:-}" ]; then
	step=$((n * 618 / 1000))
	divides() { local a=$1 b=$2 t; while [ $b != 0 ]; do t=$((a % b)) a=$b b=$t; done; [ $a != 1 ]; }
	while divides "$n" $step; do step=$((step + 1)); done
fi
for ((i = 0; i < n; i++)); do
	[ -n "${THOROUGH:-}" ] || [ $(((${EPOCHREALTIME/./} - started) / 1000000)) -lt "$SWEEP_SECONDS" ] || break
	run ${plan[i * step % n]}
done
[ -z "$lives" ] || { release; await 10 restored; }
for phase in claim release recovery; do
	diag "$phase, by class: $(counts $phase "${classes[@]}")"
	diag "$phase, by error: $(counts $phase "${errors[@]}" short)"
	diag "$phase, what became of it: $(counts $phase claimed refused dropped released taken-up wrong); settled later: $(counts $phase late stuck); the daemon ended on purpose: $(counts $phase ended)"
done
is $bad 0 "$((n_points[claim] + n_points[release] + n_points[recovery])) failures (of ${#plan[@]}) in $(((${EPOCHREALTIME/./} - started) / 1000000)) s: nothing lost, nobody left waiting, nothing left over"
ask state
like "$reply" '^alive ' 'the daemon lives'
end
ok 'the usual daemon is back' wait_for 20 systemctl is-active gpubroker
done_testing
