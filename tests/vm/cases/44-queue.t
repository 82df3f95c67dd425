#!/bin/bash
# Who waits is seen by all, keeps from others no more than may be had at once, and can be ended; and what is
# lent raises memlock by its own rule.
. ./lib.sh

policy=/etc/gpubroker/policy.d/44-queue.policy
cat >$policy <<-END
	allow user bob claim vendor 1234 class display limit 2
	allow user carol claim address $gpu memlock 1G
	allow user carol claim address $gpu2 memlock 64M
END
reload

# wait_as USER OPTIONS...: claims in the background; its pid is $pid, what it says is in /tmp/USER.err.
wait_as() {
	local user=$1
	shift
	run_as "$user" gpubroker run "$@" --wait -- true 2>"/tmp/$user.err" </dev/null &
	pid=$!
}
queue() { gpubroker leases --waiting --json | tr -d ' \n'; }
waits() { queue | grep -q "\"uid\":$(id -u "$1"),"; }
waits_not() { ! waits "$1"; }
number() { queue | sed 's/},{"id"/}\n{"id"/g' | grep "\"uid\":$(id -u "$1")," | sed 's/.*"id":\([0-9]*\),"uid.*/\1/;q'; }
said_watch() { grep -qE "$1" /tmp/watch; }

gpubroker watch >/tmp/watch &
watcher=$!
hold alice --gpu $gpu2
ok 'alice has a GPU' wait_for 20 is_leased $gpu2
is "$(queue)" '[]' 'nobody waits'

# A claim that waits for a lease of its own user.
wait_as alice --gpu $gpu2 --gpu $gpu
own=$pid
ok 'alice waits for it, and for one that is free' wait_for 20 waits alice
like "$(queue)" '"device":"'$gpu'".*"place":1,"keeps":false,"lease":[0-9]+' '... and keeps the free one from nobody'
like "$(run_as bob gpubroker leases)" "CLAIM  USER .*
[0-9]+ +alice +$own +1 +[0-9]+s +$gpu2 $gpu
       waits for lease [0-9]+ of alice
       keeps nothing from others" 'everybody sees who waits, for what, and in which place'
capture run_as bob gpubroker run --gpu $gpu -- true
is $status 0 'bob gets that one'
wait_for 20 is_back $gpu bochs-drm

# What waiting claims keep counts as if it was leased.
wait_as bob --gpu $gpu2 --gpu $gpu
ok 'bob waits for two devices' wait_for 20 waits bob
like "$(queue)" '"place":2,"keeps":true' '... and keeps the one that is free'
capture run_as bob gpubroker run --gpu $prep_twin --wait=1s -- true
is $status 75 'limit 2: bob may not wait for a third'
like "$stderr" "limit of the rule for $prep_twin .*or your claims that wait keep as many" '... and is told why'
capture run_as alice gpubroker run --gpu $gpu -- true
like "$stderr" 'reserved for somebody who waits' 'what bob keeps within the limit is kept'

# Ending claims that wait.
one=$(number alice) two=$(number bob)
capture run_as carol gpubroker release "$one"
is $status 77 "carol may not end alice's claim"
capture run_as bob gpubroker revoke "$two"
is $status 77 '... and revoke is for root'
set_mark
capture gpubroker revoke "$two"
is $status 0 "root ends bob's claim"
wait $pid
is $? 75 '... which is refused at once'
like "$(cat /tmp/bob.err)" "root ended this claim, number $two, while it waited" '... by its message'
ok '... and waits no longer' waits_not bob
ok '... as the journal says' wait_for 10 said_it "lease=$two .*by=0 outcome=revoking"
capture run_as bob gpubroker run --gpu $prep_twin -- true
is $status 0 'bob may have the third now'
capture run_as alice gpubroker release "$one"
is $status 0 'alice ends her own claim'
wait $own
is $? 75 '... which is refused, too'
like "$(cat /tmp/alice.err)" "its user ended this claim" '... by its message'
is "$(queue)" '[]' 'nobody waits'
ok 'watch has shown both' wait_for 10 said_watch "claim $one of alice, $gpu2 and 1 more: waits, at place 1 of the queue"
ok '... until they ended' wait_for 10 said_watch "claim $two of bob, .*: waits no longer"
is "$(driver_of $gpu2)" vfio-pci 'the lease has gone on'
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'it ends' wait_for 20 is_back $gpu2 bochs-drm
kill $watcher
wait $watcher 2>/dev/null

# The rule of a device that somebody else has raises nothing.
holders=()
hold alice --gpu $gpu
ok 'alice has the first GPU' wait_for 20 is_leased $gpu
MEMLOCK=8M
capture run_as carol gpubroker run --gpu any -- sh -c 'ulimit -l'
unset MEMLOCK
is "$stdout" 65536 "memlock is that of carol's rule for the GPU that she gets, and not for the other"
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'all is back' wait_for 20 is_back $gpu bochs-drm
ok '... the other too' wait_for 20 is_back $gpu2 bochs-drm
rm -f $policy /tmp/watch /tmp/*.err
reload
done_testing
