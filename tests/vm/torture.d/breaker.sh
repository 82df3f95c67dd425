# shellcheck shell=bash
# What 10-kill and 11-fail share: a daemon of their own under guest/breaker.c, a claimer, and what
# the kernel says of the device between them. Nothing here starts a process that it can do without.

# One function, alone in its group, whose driver binds in no time.
device=${plain[0]} driver=gpubroker_test
dir=${BREAKER_DIR:-/tmp/breaker}
socket=$dir/socket state=$dir/leases
alive='' bad=0
# GPUBROKERD=PATH: another daemon, as one that is broken on purpose.

# begin_breaker RULE: starts the daemon under the breaker, with this rule alone.
begin_breaker() {
	mkdir -m 755 $dir $dir/policy
	echo "$1" >$dir/policy/breaker.policy
	mkfifo $dir/{told,said,hold,claimed}
	# Open for both, so that nobody waits for the other end.
	exec {told}<>$dir/told {said}<>$dir/said {hold}<>$dir/hold {claimed}<>$dir/claimed
	uid=$(id -u alice)
	/tests/breaker --state $state ${GPUBROKERD:-gpubrokerd} --policy $dir/policy --socket $socket \
		--state $state --history $dir/history <$dir/told >$dir/said 2>$dir/log &
	breaker=$!
	start
}

end_breaker() {
	ask stop
	kill $breaker
	wait $breaker 2>/dev/null
	exec {told}>&- {said}>&- {hold}>&- {claimed}>&-
}

begin() {
	systemctl stop gpubroker.service gpubroker.socket
	insmod /tests/gpubroker_test.ko
	group=$(group_of "$device")
	begin_breaker "allow user alice claim address $device"
	# Whatever is measured from here on, the daemon is not new to.
	claim
	like "$answer" '^granted ' 'a claim is granted'
	ok '... and is held' held
	release
	ok '... and given back' await 10 restored
}

end() {
	end_breaker
	rmmod gpubroker_test
	rm -rf $dir
	systemctl start gpubroker.socket gpubroker.service
}

# ask COMMAND: of the breaker; its answer in $reply, the lines before it in $calls.
ask() {
	calls=()
	echo "$*" >&$told
	while IFS= read -rt 60 -u $said reply; do
		[[ $reply == call\ * ]] || return 0
		calls+=("$reply")
	done
	reply='no answer'
}

# killed: what came of the plan, from `done`. Sets point, and outcome to passed, or to nothing where
# the core was killed.
killed() {
	ask done
	point=$reply outcome=
	case $reply in
	killed\ *)
		alive=''
		[[ $reply == *' orphans 0' ]] || { orphans=$((orphans + 1)); diag "$reply"; } ;;
	passed\ *) outcome=passed total=${reply#passed } ;;
	*) outcome="neither killed nor passed: $reply" ;;
	esac
}

# start [PLAN]: sets core, alive.
start() {
	ask "start $*"
	alive='' core=${reply#* }
	[[ $reply != ready\ * ]] || alive=1
}

# claim: sets answer. claimer is the process that holds what was granted.
claim() {
	/tests/claimer "$uid" $socket "$device" <$dir/hold >$dir/claimed &
	claimer=$!
	IFS= read -rt 40 -u $claimed answer || answer=silent
	lease=${answer#granted } lease=${lease%% *}
	[[ $answer == granted\ * ]] || wait $claimer 2>/dev/null
}

# release: what was granted.
release() {
	echo >&$hold
	wait $claimer
}

# await SECONDS CONDITION: one that costs little. As in wait_for, a busy machine has three times SECONDS.
await() {
	local end=$((${EPOCHREALTIME/./} + 3 * $1 * 1000000))
	until "$2"; do
		[ "${EPOCHREALTIME/./}" -lt $end ] || return 1
		read -rt 0.03 -u "$pause_fd" _ || :
	done
}

# The host has back what it had, and the daemon keeps nothing about it.
restored() {
	local override files=("$state"/*)
	[ ! -e "${files[0]}" ] && has_driver "$device" $driver &&
		read -r override <"/sys/bus/pci/devices/$device/driver_override" &&
		[ "$override" = '(null)' ]
}

# on_record STATE: the daemon knows the lease, and that it is STATE.
on_record() {
	local line
	/tests/claimer "$uid" $socket --leases >$dir/listed
	while IFS= read -r line; do
		[[ $line != "lease $lease $group $1 "* ]] || return 0
	done <$dir/listed
	return 1
}
known() { on_record leased; }

# The claimer has the device, the daemon knows, and nobody else can have it.
held() {
	[ -e "$state/$lease" ] && has_driver "$device" vfio-pci && await 5 known &&
		! { : <>"/dev/vfio/$group"; } 2>/dev/null
}

# What is not as it was, for a diagnosis.
tell() {
	local override
	read -r override <"/sys/bus/pci/devices/$device/driver_override"
	echo "driver '$(driver_of "$device")', override '$override', records '$(cd "$state" && echo *)'"
	/tests/claimer "$uid" $socket --leases
	tail -n 6 $dir/log
}

# By hand, so that one point that went wrong is not all that follow.
repair() {
	local at=/sys/bus/pci/devices/$device
	[ -z "$alive" ] || ask stop
	echo >"$at/driver_override"
	has_driver "$device" $driver || {
		[ ! -e "$at/driver" ] || echo "$device" >"$at/driver/unbind"
		echo "$device" >/sys/bus/pci/drivers/$driver/bind
	}
	rm -f "$state"/*
	start
}

# wrong WHAT: a point that went wrong; the first few in full.
wrong() {
	bad=$((bad + 1))
	[ $bad -gt 8 ] || diag "$*" "$(tell)"
	# The next point begins afresh.
	kill -KILL $claimer 2>/dev/null
	wait $claimer 2>/dev/null
	[ -n "$alive" ] || start
	await 12 restored || repair
}
