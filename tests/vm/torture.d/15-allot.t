#!/bin/bash
# The core is killed at every system call, its own and its workers', while root allots a device, while its user has it
# and root retracts it, and while a start goes on with that; and started again. Each time an allotment is in force whole
# or not at all, what root was told is true, no lease outlives its allotment, and in the end nothing is left. The short
# form takes every k-th point.
. ./lib.sh
. ./torture.d/breaker.sh

# Seconds for each sweep of the short form.
: "${SWEEP_SECONDS:=20}"
orphans=0
record=$state/allotment-job.1
record=${record/./,}

broker() { gpubroker --socket $socket "$@" >$dir/said-of 2>&1; }
allot() { broker allot --user alice --for job.1 "$device"; }
# how: what there is of the allotment: none, allotted, retracting, or something that is wrong.
how() {
	local text= files
	how=none
	{ IFS= read -rd '' text <"$record"; } 2>/dev/null
	files=("$state"/[0-9]*) # now: a lease goes before its allotment
	case $text in
	*$'\nretracting 0\ndevice '"$device "*$'\nend\n') how=allotted ;;
	*$'\nretracting 1\ndevice '"$device "*$'\nend\n') how=retracting ;;
	?*) how='half a record' ;;
	esac
	[ ! -e "${files[0]}" ] || [ $how != none ] || how='a lease without its allotment'
}
settled() { how; [ "$how" != retracting ]; }
over() { settled || [ ! -e "/proc/$core" ]; }
# listed: the daemon knows as much as the record says.
listed() {
	local n
	n=$(gpubroker --socket $socket allotments --json | grep -c '"label":"job.1"')
	[ "$how" = none ] && [ "$n" = 0 ] || { [ "$how" = allotted ] && [ "$n" = 1 ]; }
}

# after STATUS NOW: the core, started again, has what root was told.
after() {
	start
	if [ -z "$alive" ]; then
		outcome="the daemon does not start: $reply"
	elif ! await 20 settled; then
		outcome="$how, and no more"
	elif ! listed; then
		outcome="$how, but not listed so"
	elif [ "$1" = 0 ] && [ "$how" != "$2" ]; then
		outcome="$how, and root was told that it is $2"
	else
		outcome=$how
	fi
}
# clean: whatever is left is retracted, and then nothing is.
clean() {
	broker retract job.1 || outcome="$outcome, and not retracted: $(<$dir/said-of)"
	[ -z "$claimer" ] || release
	claimer=
	await 12 restored || outcome="$outcome, and not restored"
}

point_allot() {
	local rc=0
	ask "seize kill $1 entry"
	allot || rc=$?
	killed
	if [ "$outcome" = passed ]; then
		how
		[ "$how" = allotted ] || outcome="undisturbed: $how"
	elif [ -z "$outcome" ]; then
		after $rc allotted
	fi
	clean
}

point_retract() {
	local rc=0
	allot
	claim
	[[ $answer == granted\ * ]] || { outcome="not granted: $answer"; return; }
	ask "seize kill $1 entry"
	broker retract job.1 || rc=$?
	killed
	if [ "$outcome" = passed ]; then
		how
		[ "$how" = none ] || outcome="undisturbed: $how"
	elif [ -z "$outcome" ]; then
		after $rc none
	fi
	clean
}

# A start finds an allotment that is being taken away, and a lease by it.
point_go_on() {
	allot
	claim
	[[ $answer == granted\ * ]] || { outcome="not granted: $answer"; return; }
	ask kill
	sed -i 's/^retracting 0/retracting 1/' "$record"
	start "kill $1 entry"
	[ -z "$alive" ] || await 20 over
	killed
	if [ "$outcome" = passed ]; then
		how
		[ "$how" = none ] || outcome="undisturbed: $how"
	elif [ -z "$outcome" ]; then
		after 0 none
	fi
	clean
}

sweep() {
	local k=1 from=1 n started took wrongs=0 points=0
	declare -A n_outcome=([none]=0 [allotted]=0)
	total=0
	"point_$1" 1000000
	is "$outcome" passed "$1: undisturbed it comes to its end, after $total calls" || { diag "$(tell)"; return; }
	started=${EPOCHREALTIME/./}
	"point_$1" $((total / 2))
	took=$((${EPOCHREALTIME/./} - started))
	if [ -z "${THOROUGH:-}" ]; then
		k=$((total * took / (SWEEP_SECONDS * 1000000) + 1))
		from=$((1 + RANDOM % k))
	fi
	for ((n = from; n < total * 2; n += k)); do
		"point_$1" $n
		[ "$outcome" != passed ] || break
		points=$((points + 1))
		case $outcome in
		none | allotted) n_outcome[$outcome]=$((n_outcome[$outcome] + 1)) ;;
		*)
			wrongs=$((wrongs + 1))
			[ $wrongs -gt 4 ] || diag "$1: $point: $outcome" "$(tell)" "$(cd $state && head -n 20 -- * 2>/dev/null)"
			[ -n "$alive" ] || start
			await 12 restored || repair ;;
		esac
		# Points differ: that by which they were counted may have been a quick one.
		[ -n "${THOROUGH:-}" ] || [ $((${EPOCHREALTIME/./} - started)) -lt $((SWEEP_SECONDS * 4000000)) ] || break
	done
	is $wrongs 0 "$1: $points points (every $k. of $total), ${n_outcome[none]} without, ${n_outcome[allotted]} with the allotment, in $(((${EPOCHREALTIME/./} - started) / 1000000)) s"
	isnt $points 0 '... which are some'
}

systemctl stop gpubroker.service gpubroker.socket
insmod /tests/gpubroker_test.ko
group=$(group_of "$device") claimer=
begin_breaker "allow allotted claim address $device"
allot
claim
like "$answer" '^granted ' 'what is allotted is granted'
ok '... and is held' held
clean
sweep allot
sweep retract
sweep go_on
is $orphans 0 'at no point did a worker begin to write to sysfs when its core was dead'
ask state
like "$reply" '^alive ' 'the daemon lives'
end
ok 'the usual daemon is back' wait_for 20 systemctl is-active gpubroker
done_testing
