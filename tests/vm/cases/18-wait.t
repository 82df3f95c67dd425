#!/bin/bash
# Who waits for a GPU gets it in the order of arrival, whatever else is asked meanwhile; and nobody is
# left waiting, or waits for somebody who is gone.
. ./lib.sh

# waiter NAME USER OPTIONS...: claims, notes its turn in /tmp/turns, holds until /tmp/NAME.go.
waiter() {
	local name=$1 user=$2
	shift 2
	rm -f "/tmp/$name.go"
	run_as "$user" gpubroker run "$@" -- sh -c "echo $name >>/tmp/turns
		until [ -e /tmp/$name.go ]; do sleep 0.2; done" 2>"/tmp/$name.err" &
	pid=$!
}
has_turn() { grep -qx "$1" /tmp/turns; }
waiting() { [ "$(command journalctl -q -u gpubroker -o cat --after-cursor "$begun" | grep -c outcome=waiting)" -ge "$1" ]; }
go() { : >"/tmp/$1.go"; }
: >/tmp/turns
chmod 666 /tmp/turns
set_mark
begun=$mark

capture run_as alice gpubroker run --gpu 02:00.0 --wait=1s -- true
is $status 0 'what is free is not waited for'
capture run_as alice gpubroker run --gpu 01:00.1 --wait=never -- true
is $status 64 'a time that is none is refused'
capture run_as bob gpubroker run --gpu 02:00.0 --wait=5s -- true
is $status 77 'what the policy refuses is not waited for'

wait_for 10 is_back $gpu2 bochs-drm
waiter first alice --gpu 02:00.0
first=$pid
ok 'the first has it' wait_for 20 has_turn first
capture run_as alice gpubroker run --gpu 02:00.0 -- true
like "$stderr" 'leased to alice .* or wait for it with --wait' 'who is refused is told of --wait'
start=$SECONDS
capture run_as carol gpubroker run --gpu 02:00.0 --wait=2s -- true
is $status 75 'who waited in vain has the status of busy'
like "$stderr" 'not free within the time' '... and is told'
ok '... after the time' test $((SECONDS - start)) -ge 2

waiter second carol --gpu 02:00.0 --wait
second=$pid
ok 'the second waits' wait_for 10 waiting 2
waiter third alice --gpu 02:00.0 --wait
third=$pid
ok 'the third waits' wait_for 10 waiting 3
waiter gone alice --gpu 02:00.0 --wait
gone=$pid
ok 'one more waits' wait_for 10 waiting 4
waiter last carol --gpu 02:00.0 --wait
last=$pid
ok 'and one behind it' wait_for 10 waiting 5
kill $gone
wait $gone 2>/dev/null
# What a terminal shows; script(1) gives it one.
run_as alice script -qec 'gpubroker run --gpu 02:00.0 --wait=3s -- true' /dev/null >/tmp/place </dev/null
like "$(cat /tmp/place)" "waiting, 4th in the queue: $gpu2 is leased to alice \(pid $first, lease [0-9]+\)" \
	'a terminal shows the place, not counting one who left, and who has it'

go first
wait $first
ok 'the second is next' wait_for 20 has_turn second
capture run_as alice gpubroker run --gpu 02:00.0 -- true
is $status 75 'nobody comes between'
go second
wait $second
ok 'then the third' wait_for 20 has_turn third
go third
wait $third
ok 'then the last, past the one who left' wait_for 20 has_turn last
is "$(tr '\n' ' ' </tmp/turns)" 'first second third last ' 'in the order of arrival'

# Two devices: one is free, and kept for the one who waits for both.
waiter both alice --gpu 02:00.0 --gpu 01:00.0 --wait
both=$pid
ok 'one waits for a GPU that is lent and one that is free' wait_for 10 waiting 7
capture run_as alice gpubroker run --gpu 01:00.0 -- true
is $status 75 'the free one is not taken from it'
like "$stderr" "$gpu is reserved for somebody who waits for it" '... and the answer says why'
like "$(gpubroker leases --json)" "$gpu2" 'the other one is still lent'
unlike "$(gpubroker leases --json)" "$gpu\"" '... and only that'
reload
go last
wait $last
ok 'it gets both at once' wait_for 30 has_turn both
go both
wait $both
ok 'all is back' wait_for 20 is_back $gpu2 bochs-drm
ok '... the other too' wait_for 20 is_back $gpu bochs-drm
ok 'no record is left' wait_for 10 no_records

# The places outlive the daemon, whether it is restarted or killed.
: >/tmp/turns
places() { (set -- /run/gpubroker/leases/waiting-*; [ "${1##*[*]}" ] && echo $#) || echo 0; }
queued() { gpubroker leases --waiting --json | tr -d ' \n' | grep -o '"place":[0-9]*' | wc -l; }
waits() { [ "$(queued)" = "$1" ]; }
waiter hold alice --gpu 02:00.0
hold=$pid
wait_for 20 has_turn hold
joined=()
for name in one two three four; do
	user=alice
	[[ $name = t* ]] || user=carol
	waiter $name $user --gpu 02:00.0 --wait
	joined+=($pid)
	wait_for 10 waits ${#joined[@]}
done
is "$(places)" 4 'each claim that waits has a record'
capture run_as bob sh -c 'ls /run/gpubroker/leases'
unlike "$stdout" waiting '... which others do not see'
systemctl restart gpubroker
ok 'after a restart all four wait again' wait_for 20 waits 4
waiter late alice --gpu 02:00.0 --wait
late=$pid
ok '... and one more behind them' wait_for 10 waits 5
set_mark
kill -9 "$(systemctl show -P MainPID gpubroker)"
ok 'the broker starts again after a kill' wait_for 20 said_it '^serving: '
ok '... and all five wait again' wait_for 20 waits 5
# One that has ended meanwhile keeps nobody waiting.
systemctl stop gpubroker.socket gpubroker
kill "${joined[1]}"
wait "${joined[1]}" 2>/dev/null
capture run_as carol gpubroker run --gpu 02:00.0 --wait=1s -- true
is $status 69 'without a broker a claim that never waited is told so'
go hold
wait $hold
systemctl start gpubroker.socket gpubroker
for name in one three four late; do
	ok "$name has its turn" wait_for 30 has_turn $name
	go $name
done
wait "${joined[@]}" $late
is "$(tr '\n' ' ' </tmp/turns)" 'hold one three four late ' 'in the order of arrival, over all of it'
ok 'the device is back' wait_for 20 is_back $gpu2 bochs-drm
ok 'no record of a place is left' wait_for 10 test "$(places)" = 0
run_as alice gpubroker run --gpu 02:00.0 -- sleep 1000 &
hold=$!
wait_for 20 is_leased $gpu2
run_as carol gpubroker run --gpu 02:00.0 --wait=4s -- true 2>/tmp/place &
lost=$!
ok 'one waits for a limited time' wait_for 10 waits 1
systemctl stop gpubroker.socket gpubroker
wait $lost
is $? 75 'its time ends also while no broker comes back'
systemctl start gpubroker.socket gpubroker
kill $hold
wait $hold 2>/dev/null
ok 'the holder did not notice' wait_for 20 is_back $gpu2 bochs-drm
rm -f /tmp/*.go /tmp/turns /tmp/place /tmp/*.err
done_testing
