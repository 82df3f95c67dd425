#!/bin/bash
# The core is killed at every system call of a claim, of a release and of a recovery, its own and
# its workers', and started again: each time the claim is held by its peer and known, or the host
# has everything back. The short form takes every k-th point.
. ./lib.sh
. ./torture.d/breaker.sh

# Seconds for each sweep of the short form.
: "${SWEEP_SECONDS:=8}"
orphans=0
declare -A n_outcome

# after: what the daemon, started again, made of it. `$1` is 1 where a peer holds the device.
after() {
	start
	if [ -z "$alive" ]; then
		outcome="the daemon does not start: $reply"
	elif [ "$1" = 1 ]; then
		held || { outcome="lost"; return; }
		outcome=held
	elif await 12 restored; then
		outcome=restored
	else
		outcome="not restored"
	fi
}

give_back() {
	release
	await 12 restored || outcome="held, but not given back"
}

point_claim() {
	ask "seize kill $1 $where"
	claim
	killed
	case $outcome:$answer in
	passed:granted*)
		held || outcome="granted, but not held"
		give_back ;;
	:granted*)
		after 1
		give_back ;;
	:fault*) after 0 ;;
	*) outcome="$outcome: the claimer was told: $answer" ;;
	esac
}

over() { restored || [ ! -e "/proc/$core" ]; }

point_release() {
	claim
	ask "seize kill $1 $where"
	release
	await 12 over
	killed
	if [ "$outcome" = passed ]; then
		restored || outcome="not restored"
	elif [ -z "$outcome" ]; then
		after 0
	fi
}

# recovery POINT HELD: the daemon is dead; it is killed when it comes up, and comes up again.
recovery() {
	start "kill $1 $where"
	killed
	if [ "$outcome" = passed ]; then
		if [ "$2" = 1 ]; then
			held || outcome="not taken up"
		else
			await 12 restored || outcome="not restored"
		fi
	elif [ -z "$outcome" ]; then
		after "$2"
	fi
}

# A VM goes on, whatever becomes of the daemon.
point_live() {
	[ -n "$lives" ] || { claim; lives=1; }
	ask kill
	recovery "$1" 1
	[ "$outcome" != passed ] || { give_back; lives=; }
}

# It ended while no daemon was there.
point_ended() {
	claim
	ask kill
	release
	recovery "$1" 0
}

# And an earlier daemon had come half of the way: no driver has the device.
point_half() {
	claim
	ask kill
	release
	echo >"/sys/bus/pci/devices/$device/driver_override"
	echo "$device" >/sys/bus/pci/drivers/vfio-pci/unbind
	recovery "$1" 0
}

# sweep WHAT [entry|exit]: all points of point_WHAT, or every k-th.
sweep() {
	local k=1 from=1 n started took
	where=${2:-entry} lives=
	n_outcome=([held]=0 [restored]=0)
	total=0
	"point_$1" 1000000
	is "$outcome" passed "$1: undisturbed it comes to its end, after $total calls"
	if [ "$outcome" != passed ]; then
		wrong "$1, undisturbed"
		return
	fi
	started=${EPOCHREALTIME/./}
	n=$((total / 2))
	"point_$1" $n
	tally "$1"
	took=$((${EPOCHREALTIME/./} - started))
	if [ -z "${THOROUGH:-}" ]; then
		k=$((total * took / (SWEEP_SECONDS * 1000000) + 1))
		from=$((1 + RANDOM % k))
	fi
	bad_before=$bad points=0
	n_outcome=([held]=0 [restored]=0)
	# How many calls there are differs a little from run to run, so it ends when none is hit.
	for ((n = from; n < total * 2; n += k)); do
		"point_$1" $n
		[ "$outcome" != passed ] || break
		points=$((points + 1))
		tally "$1"
	done
	is $bad "$bad_before" "$1: $points points (at $where, every $k. of $total), ${n_outcome[held]} held, ${n_outcome[restored]} restored, in $(((${EPOCHREALTIME/./} - started) / 1000000)) s"
	[ -z "$lives" ] || { give_back; lives=; }
}

tally() {
	case $outcome in
	held | restored) n_outcome[$outcome]=$((n_outcome[$outcome] + 1)) ;;
	passed) ;;
	*) lives=; wrong "$1: $point: $outcome" ;;
	esac
}

begin
for what in claim release live ended half; do
	sweep $what
	[ -z "${THOROUGH:-}" ] || sweep $what exit
done
is $orphans 0 'at no point did a worker begin to write to sysfs when its core was dead'
ask state
like "$reply" '^alive ' 'the daemon lives'
end
ok 'the usual daemon is back' wait_for 20 systemctl is-active gpubroker
done_testing
