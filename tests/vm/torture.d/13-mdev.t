#!/bin/bash
# The core is killed at every system call, its own and its workers', while an mdev is claimed, while its lease
# ends, and while a start takes it up; and started again. Each time what was granted is still lent, what was
# not is gone, and what somebody else made is there. Only a kernel with the samples has what it takes. The
# short form takes every k-th point.
. ./lib.sh
. ./torture.d/breaker.sh
needs mdevs

# Seconds for each sweep of the short form.
: "${SWEEP_SECONDS:=25}"
device=mtty=mtty-2
types=/sys/class/mdev_bus/mtty/mdev_supported_types
other=83b8f4f2-509f-382f-3c1e-e6bfe0fa1034

begin() {
	systemctl stop gpubroker.service gpubroker.socket
	modprobe mtty
	echo $other >$types/mtty-1/create
	mkdir -m 755 $dir $dir/policy
	echo 'allow user alice claim profile mtty-2' >$dir/policy/mdev.policy
	mkfifo $dir/{told,said,hold,claimed}
	# Open for both, so that nobody waits for the other end.
	exec {told}<>$dir/told {said}<>$dir/said {hold}<>$dir/hold {claimed}<>$dir/claimed
	uid=$(id -u alice)
	/tests/breaker --state $state ${GPUBROKERD:-gpubrokerd} --policy $dir/policy --socket $socket \
		--state $state <$dir/told >$dir/said 2>$dir/log &
	breaker=$!
	start
}
end() {
	ask stop
	kill $breaker
	wait $breaker 2>/dev/null
	exec {told}>&- {said}>&- {hold}>&- {claimed}>&-
	echo 1 >/sys/bus/mdev/devices/$other/remove
	modprobe -r mtty
	rm -rf $dir
	systemctl start gpubroker.socket gpubroker.service
}

others_there() { [ -e "$types/mtty-1/devices/$other" ]; }
# clean: nothing of ours, neither an mdev nor a record.
clean() {
	local files=("$state"/*) mdevs=("$types"/mtty-2/devices/*)
	[ ! -e "${files[0]}" ] && [ ! -e "${mdevs[0]}" ] && others_there
}
# lent: what was granted is the claimer's, and the daemon knows.
lent() {
	local mdevs=("$types"/mtty-2/devices/*)
	[ ${#mdevs[@]} = 1 ] && [ "${mdevs[0]}/iommu_group" -ef "/sys/kernel/iommu_groups/$group" ] &&
		[ -e "$state/$lease" ] && known && ! { : <>"/dev/vfio/$group"; } 2>/dev/null && others_there
}
# claim_one: sets group and granted, beside what claim does.
claim_one() {
	claim
	granted='' group=''
	[[ $answer != granted\ * ]] || { granted=1 group=${answer#granted * } group=${group%% *}; }
}
how_it_is() {
	echo "$answer; mdevs: $(cd /sys/bus/mdev/devices && echo *); records: $(cd $state && head -n 30 -- * 2>/dev/null)"
	/tests/claimer "$uid" $socket --leases
	tail -n 8 $dir/log
}
# killed: what came of the plan. Sets outcome to passed, or to nothing where the core was killed, and then
# starts it again.
killed() {
	ask done
	point=$reply outcome=
	case $reply in
	killed\ *)
		[[ $reply == *' orphans 0' ]] || { orphans=$((orphans + 1)); diag "$reply"; }
		start
		[ -n "$alive" ] || outcome="the daemon does not start: $reply" ;;
	passed\ *) outcome=passed total=${reply#passed } ;;
	*) outcome="neither killed nor passed: $reply" ;;
	esac
}
# after: what is left is one of the two, and it goes when its claimer lets go.
after() {
	if [ -n "$granted" ]; then
		await 20 lent || outcome='granted, and not lent'
		release
		n_lent=$((n_lent + 1))
	fi
	await 20 clean || outcome="${outcome:+$outcome; }not clean"
}

point_claim() {
	ask "seize kill $1 entry"
	claim_one
	killed
	local passed=$outcome
	[ "$outcome" != passed ] || outcome=''
	[ -n "$outcome" ] || after
	[ -n "$outcome" ] || outcome=$passed
}
# Let go, all of the way back is before it.
point_end() {
	claim_one
	[ -n "$granted" ] && await 10 lent || { outcome="not lent at the beginning: $answer"; return; }
	ask "seize kill $1 entry"
	release
	killed
	await 20 clean || outcome="${outcome:+$outcome; }not clean"
}
# A start finds the record of one that is held.
point_start() {
	claim_one
	[ -n "$granted" ] && await 10 lent || { outcome="not lent at the beginning: $answer"; return; }
	ask kill
	start "kill $1 entry"
	killed
	local passed=$outcome
	[ "$outcome" != passed ] || outcome=''
	[ -n "$outcome" ] || after
	[ -n "$outcome" ] || outcome=$passed
}

sweep() {
	local k=1 from=1 i started took
	total=0 n_lent=0
	"point_$1" 1000000
	is "$outcome" passed "$1: undisturbed it comes to its end, after $total calls" || { diag "$(how_it_is)"; return; }
	started=${EPOCHREALTIME/./}
	"point_$1" $((total / 2))
	took=$((${EPOCHREALTIME/./} - started))
	if [ -z "${THOROUGH:-}" ]; then
		k=$((total * took / (SWEEP_SECONDS * 1000000) + 1))
		from=$((1 + RANDOM % k))
	fi
	wrongs=0 points=0 n_lent=0
	for ((i = from; i < total * 2; i += k)); do
		"point_$1" $i
		[ "$outcome" != passed ] || break
		points=$((points + 1))
		[ -n "$outcome" ] || continue
		wrongs=$((wrongs + 1))
		[ $wrongs -gt 4 ] || diag "$1: $point: $outcome" "$(how_it_is)"
		[ -n "$alive" ] || start
	done
	is $wrongs 0 "$1: $points points (every $k. of $total), after $n_lent of them it was still lent, in $(((${EPOCHREALTIME/./} - started) / 1000000)) s"
	isnt $points 0 '... which are some'
}

begin
orphans=0
claim_one
like "$answer" '^granted ' 'a claim is granted'
ok '... and is lent' await 10 lent
release
ok '... and removed at its end' await 10 clean
sweep claim
sweep end
sweep start
is $orphans 0 'at no point did a worker begin to write to sysfs when its core was dead'
ask state
like "$reply" '^alive ' 'the daemon lives'
ok 'what somebody else made is there after all' others_there
end
done_testing
