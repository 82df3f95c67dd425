#!/bin/bash
# The core is killed at every system call, its own and those of the processes that it forks, while root gives an
# allotment a socket, and while root retracts an allotment that has one and somebody who is connected; and started again,
# with the sockets that it has had kept. Each time the allotment has its socket whole or not at all, what root was told is
# true, and root gets it by asking again; in the end there is no file, no record and nothing kept. The short form takes
# every k-th point.
# Below /run: root makes no socket where others may change a directory on the way.
export BREAKER_DIR=/run/gpubroker-breaker
. ./lib.sh
. ./torture.d/breaker.sh

# Seconds for each sweep of the short form.
: "${SWEEP_SECONDS:=20}"
orphans=0
record=$state/allotment-pod file=$dir/allotments/pod

broker() { gpubroker --socket $socket "$@" >$dir/said-of 2>&1; }
give() { broker allot --user alice --for pod --socket pod "$device"; }
# at: whoever connects there is the allotment.
at() { gpubroker --socket $file allotments --json 2>/dev/null | grep -q '"label":"pod"'; }
# how: what the record says: none, allotted, socket, retracting, or something that is wrong.
how() {
	local text=
	how=none
	{ IFS= read -rd '' text <"$record"; } 2>/dev/null
	case $text in
	*$'\nretracting 1\ndevice '*$'\nend\n') how=retracting ;;
	*$'\nretracting 0\ndevice '*$'\nsocket pod gid '*$'\nend\n') how=socket ;;
	*$'\nretracting 0\ndevice '*$'\nend\n') how=allotted ;;
	?*) how='half a record' ;;
	esac
}
settled() { how; [ "$how" != retracting ]; }
no_file() { [ ! -e $file ]; }

# after STATUS NOW: the core, started again, has what root was told, and root gets it by asking once more.
after() {
	start
	if [ -z "$alive" ]; then
		outcome="the daemon does not start: $reply"
	elif ! await 20 settled; then
		outcome="$how, and no more"
	elif [ "$1" = 0 ] && [ "$how" != "$2" ]; then
		outcome="$how, and root was told that it is $2"
	elif [ "$1$2" = 0socket ] && ! at; then
		outcome='root was told that there is a socket, and nobody answers there'
	elif [ "$how" = none ] && ! no_file; then
		outcome='no allotment, and its socket is left'
	else
		outcome=$how
		[ "$2" = none ] || { give && at; } || outcome="$how, and not given once more: $(<$dir/said-of)"
	fi
}
# clean: whatever is left is retracted, and then nothing is.
clean() {
	broker retract pod || outcome="$outcome, and not retracted: $(<$dir/said-of)"
	await 12 restored || outcome="$outcome, and not restored"
	no_file || outcome="$outcome, and its file is left"
	rm -f $file
}

point_give() {
	local rc=0
	ask "seize kill $1 entry"
	give || rc=$?
	killed
	if [ "$outcome" = passed ]; then
		how
		[ "$how" = socket ] && at || outcome="undisturbed: $how"
	elif [ -z "$outcome" ]; then
		after $rc socket
	fi
	clean
}

point_retract() {
	local rc=0 watcher
	give || { outcome="not given: $(<$dir/said-of)"; return; }
	gpubroker --socket $file watch >/dev/null 2>&1 &
	watcher=$!
	ask "seize kill $1 entry"
	broker retract pod || rc=$?
	killed
	if [ "$outcome" = passed ]; then
		how
		[ "$how" = none ] || outcome="undisturbed: $how"
	elif [ -z "$outcome" ]; then
		after $rc none
	fi
	kill $watcher 2>/dev/null
	wait $watcher 2>/dev/null
	clean
}

sweep() {
	local k=1 from=1 n started took wrongs=0 points=0
	declare -A n_outcome=([none]=0 [allotted]=0 [socket]=0)
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
		none | allotted | socket) n_outcome[$outcome]=$((n_outcome[$outcome] + 1)) ;;
		*)
			wrongs=$((wrongs + 1))
			[ $wrongs -gt 4 ] || diag "$1: $point: $outcome" "$(tell)" "$(cd $state && head -n 20 -- * 2>/dev/null)"
			[ -n "$alive" ] || start
			await 12 restored || repair ;;
		esac
		# Points differ: that by which they were counted may have been a quick one.
		[ -n "${THOROUGH:-}" ] || [ $((${EPOCHREALTIME/./} - started)) -lt $((SWEEP_SECONDS * 4000000)) ] || break
	done
	is $wrongs 0 "$1: $points points (every $k. of $total), ${n_outcome[none]} without the allotment, ${n_outcome[allotted]} without the socket, ${n_outcome[socket]} with it, in $(((${EPOCHREALTIME/./} - started) / 1000000)) s"
	isnt $points 0 '... which are some'
}

systemctl stop gpubroker.service gpubroker.socket
insmod /tests/gpubroker_test.ko
group=$(group_of "$device")
begin_breaker "allow allotted claim address $device"
ok 'an allotment gets a socket' give || diag "$(<$dir/said-of)"
ok '... where one is the allotment' at
ask kill
start
ok 'the next daemon has it still' at
clean
ok 'retract leaves no file' no_file
sweep give
sweep retract
is $orphans 0 'at no point did a worker begin to write to sysfs when its core was dead'
ask state
like "$reply" '^alive ' 'the daemon lives'
end
ok 'the usual daemon is back' wait_for 20 systemctl is-active gpubroker
done_testing
