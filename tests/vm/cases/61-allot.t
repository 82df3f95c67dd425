#!/bin/bash
# Root allots a GPU to bob: it is his alone at once, also over restarts, by the policy that is in force, and until it is
# retracted. Whoever is not root changes nothing of that, whatever they send.
. ./lib.sh

policy=/etc/gpubroker/policy.d/61-allot.policy
records=/run/gpubroker/leases
bob=$(id -u bob) first=300000
for f in subuid subgid; do
	[ ! -e /etc/$f ] || cp -p /etc/$f /tmp/$f.before
	echo "bob:$first:65536" >/etc/$f
done
cp /tests/{wire,who,allot}.py /tmp
rules() {
	printf '%s\n' "$@" >$policy
	reload
}
allotments() { gpubroker allotments --json | python3 -c "import json,sys; print(*[a['label'] for a in json.load(sys.stdin)])"; }
label_of() { gpubroker leases --json | python3 -c "import json,sys; print(*[l['allotment'] for l in json.load(sys.stdin)])"; }
is_label() { [ "$(label_of)" = "$1" ]; }
none_allotted() { [ -z "$(allotments)" ]; }
asks() { python3 /tmp/who.py asks "$@"; }

# ---- the policy bounds it ----
capture gpubroker allot --user bob --for job-1 02:00.0
is $status 77 'without a rule for it, a device cannot be allotted'
like "$stderr" "$gpu2 cannot be allotted, since no rule with \"allotted\" is about it; add a line as 'allow allotted claim address $gpu2'" \
	'... and the answer says which line would help'
rules 'allow allotted claim class display memlock 64G'
capture run_as bob gpubroker run --gpu 02:00.0 -- true
is $status 77 'the rule alone allows bob nothing'
capture run_as bob gpubroker allot --user bob --for job-1 02:00.0
is $status 77 'bob cannot allot it to himself'
like "$stderr" 'only root can allot a device to a user' '... and is told so'
python3 /tmp/allot.py forge "$bob" $gpu2 >/tmp/allot.forged 2>&1
is "$(cat /tmp/allot.forged)" 'refused 17
refused 17
dropped
dropped
dropped' 'nor by any message of his own, or of root in a user namespace, or with a label that is none'
capture gpubroker allot --user bob --for 'job 1' 02:00.0
is $status 64 'a label has no blanks'
capture gpubroker allot --user bob --for job-1 --until yesterday 02:00.0
is $status 64 'a time that is none is refused'
capture gpubroker allot --user bob --for job-1 01:00.0 03:00.0
is $status 77 'of two devices one has no rule: nothing is allotted'
is "$(allotments)" '' '... neither of the two'

# ---- it is bob's alone ----
ok 'root allots a GPU to bob' gpubroker allot --user bob --for job-1 02:00.0
ok 'once more is the same' gpubroker allot --user bob --for job-1 02:00.0
is "$(allotments)" job-1 'it is listed once'
is "$(cat $records/allotment-job-1 | grep -c '^device')" 1 '... and recorded'
refused alice 75 "$gpu2 is allotted to bob \(job-1\), and so reserved" 'alice, whose own rule allows it, is refused' --gpu 02:00.0
capture gpubroker run --gpu 02:00.0 -- true
is $status 77 'root has no rule, and gets none by that'
capture gpubroker restore 02:00.0
is $status 75 'root cannot give it to its driver before it is retracted'
like "$stderr" "$gpu2 is allotted to bob" '... and is told so'
capture gpubroker prepare 02:00.0
is $status 75 '... nor put it onto VFIO'
capture gpubroker allot --user alice --for job-2 02:00.0
is $status 75 'it cannot be allotted to another user'
capture gpubroker allot --user alice --for job-1 01:00.0
is $status 75 "nor can the label be another user's"
like "$stderr" 'job-1 is the label of what is allotted to bob' '... with a sentence'
like "$(run_as alice gpubroker list)" "$gpu2 .* allotted to bob \(job-1\)" 'list says for whom it is'
run_as carol gpubroker run --gpu 02:00.0 --wait -- touch /tmp/allot.turn >/tmp/allot.carol 2>&1 &
carol=$!
ok 'carol waits for it' wait_for 20 sh -c 'gpubroker leases --waiting | grep -q carol'
run_as bob gpubroker run -- sh -c 'ulimit -l; exec sleep 1000' >/tmp/allot.bob 2>&1 &
holder=$!
ok 'bob gets it, before her, and names no device' wait_for 20 is_label job-1
is "$(cat /tmp/allot.bob)" unlimited '... with the memory of the rule, or more'
like "$(gpubroker allotments)" "job-1 +bob +$gpu2 .*leased" 'allotments says that he has it'
like "$(gpubroker leases)" 'by the allotment job-1' 'and leases by which'
rules 'allow allotted claim class audio'
is "$(label_of)" job-1 'a policy that would not allow it leaves his lease alone'
systemctl restart gpubroker
ok 'after a restart he has it still' wait_for 20 is_label job-1
is "$(allotments)" job-1 '... by the allotment'
kill $holder
wait $holder 2>/dev/null
ok 'when he lets go, the host has it back' wait_for 20 has_driver $gpu2 bochs-drm
ok '... without a lease' wait_for 20 no_records
ok 'carol waits on' alive $carol
capture run_as bob gpubroker run -- true
is $status 77 'what the policy does not allow any more, bob cannot claim'
rules 'allow allotted claim class display'
is "$(asks $gpu2 $((first + 7)))" granted 'by the rule he can, as a subordinate uid of his too'
is "$(asks $gpu2 "$(id -u alice)")" 'refused 25' 'alice cannot'
rules 'allow allotted claim class display' "deny user bob claim address $gpu2"
is "$(asks $gpu2 "$bob")" 'refused policy' 'a deny wins'
capture gpubroker allot --user bob --for job-9 02:00.0
is $status 77 '... also when something is allotted'
rules 'allow allotted claim class display'

# ---- it is taken away ----
ok 'retract ends it' gpubroker retract job-1
is "$(allotments)" '' 'nothing is allotted any more'
ok 'carol gets it then' wait_for 20 test -e /tmp/allot.turn
wait $carol
ok 'what is not allotted can be retracted all the same' gpubroker retract job-1
capture run_as bob gpubroker retract job-1
is $status 77 'but not by bob'
ok 'the host has it back' wait_for 20 is_back $gpu2 bochs-drm
ok 'two labels for bob' gpubroker allot --user bob --for a.new --until 1h 02:00.0
ok '... of a GPU each' gpubroker allot --user bob --for b 01:00.0
capture run_as bob gpubroker run -- true
is $status 64 'then he has to say which'
like "$stderr" 'several allotments are yours \(a.new, b\); say which by --allotment' '... and is told how'
systemctl kill -s KILL gpubroker
wait_for 20 systemctl is-active gpubroker
is "$(allotments)" 'a.new b' 'a kill of the broker loses none'
run_as bob gpubroker run --allotment b -- /tests/holder $gpu /tmp/allot.held yields >/tmp/allot.bob 2>&1 &
holder=$!
ok 'he takes one by its label' wait_for 20 grep -q has /tmp/allot.held
capture env GPUBROKER_ALLOTMENT=c setpriv --reuid "$bob" --clear-groups gpubroker run -- true
is $status 66 'a label that is not his, in the environment, is refused'
ok 'his program yields when root retracts it' gpubroker retract b
wait $holder
is "$(allotments)" a.new '... and the other stays'
ok 'the GPU is back' is_back $gpu bochs-drm

# ---- a holder that does not let go ----
rm -f /tmp/allot.held
run_as bob gpubroker run -- /tests/holder $gpu2 /tmp/allot.held keeps >/tmp/allot.bob 2>&1 &
holder=$!
ok 'a program has the other' wait_for 20 grep -q has /tmp/allot.held
capture gpubroker retract a.new
is $status 75 'retract says when the holder does not let go'
like "$stderr" "$gpu2 of a.new is asked back \(.*\): 'gpubroker revoke [0-9]+ --kill' ends" '... with the sentence'
capture run_as bob gpubroker run --allotment a.new -- true
is $status 75 'bob claims nothing by it meanwhile'
systemctl restart gpubroker
is "$(allotments)" a.new 'a restart forgets neither the allotment'
like "$(gpubroker allotments)" 'a.new .* retracting' '... nor that it is being taken away'
kill -KILL $holder
wait $holder 2>/dev/null
ok 'when the holder is gone, it ends by itself' wait_for 30 none_allotted
ok '... and the host has the GPU' is_back $gpu2 bochs-drm

# ---- races, time, a record that is broken ----
for i in 1 2 3 4 5; do
	gpubroker allot --user bob --for race 02:00.0 || break
	run_as bob gpubroker run --wait=20s -- true >/tmp/allot.bob 2>&1 &
	holder=$!
	[ $((i % 2)) = 0 ] || pause
	gpubroker retract race || break
	wait $holder
	[ -z "$(label_of)$(allotments)" ] || break
done
is $i 5 'claims and retract at the same time leave nothing'
ok 'the host has the GPU' wait_for 20 is_back $gpu2 bochs-drm
ok 'until: an allotment of two seconds' gpubroker allot --user bob --for short --until 2s 02:00.0
ok '... ends by itself' wait_for 20 none_allotted
gpubroker allot --user bob --for broken 02:00.0
sed -i 's/^uid .*/uid 0/; s/1234/123/' $records/allotment-broken
systemctl restart gpubroker
like "$(gpubroker allotments)" "broken +nobody's +$gpu2 .*damaged" 'a damaged record serves nobody'
is "$(asks $gpu2 "$(id -u alice)")" 'refused 25' '... but keeps the device from others'
is "$(asks $gpu2 "$bob")" 'refused policy' '... and from bob'
ok '... until root retracts it' gpubroker retract broken
is "$(asks $gpu2 "$(id -u alice)")" granted '... which frees it'
is "$(ls $records)" '' 'no record is left'

# When `watch` has begun is not seen, so there are some, and it may begin within one.
run_as carol gpubroker watch --json >/tmp/allot.events 2>&1 &
watcher=$!
told() {
	gpubroker allot --user bob --for seen 02:00.0 && gpubroker retract seen &&
		grep -q '"event":"allotted".*"allotment":"seen"' /tmp/allot.events &&
		grep -q '"event":"retracted".*"allotment":"seen"' /tmp/allot.events
}
ok 'watch tells of the end of an allotment' wait_for 60 told
like "$(</tmp/allot.events)" '"event":"allotted".*"allotment":"seen".*"device":"'$gpu2'"' '... and of its beginning'
kill $watcher
wait $watcher 2>/dev/null
rm -f $policy /tmp/{wire,who,allot}.py /tmp/allot.* /etc/subuid /etc/subgid
for f in subuid subgid; do
	[ ! -e /tmp/$f.before ] || mv /tmp/$f.before /etc/$f
done
reload
is "$(killed)" '' 'no filter has killed anything'
done_testing
