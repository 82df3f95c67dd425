#!/bin/bash
# A user with subordinate uids is one user: her rules, limits and quotas go by their owner, whichever of her
# uids she claims as and whichever groups she leaves. So they do when /etc/subuid changes.
. ./lib.sh

cp /tests/{wire,who}.py /tmp
who() { python3 /tmp/who.py "$@"; }
policy=/etc/gpubroker/policy.d/41-owners.policy
first=300000 alice=$(id -u alice) bob=$(id -u bob)
said() { journalctl -q --no-pager -o cat -u gpubroker --after-cursor "$mark" | grep -cE "$1"; }
loaded() { [ "$(said 'loaded again|^serving: ')" -ge 1 ]; }
rules() {
	printf '%s\n' "$@" >$policy
	set_mark
	systemctl reload gpubroker
	wait_for 20 loaded
}
# own UID: what UID, with no groups, is answered when it asks whether it might claim gpu2.
own() { who asks $gpu2 "$@"; }
answers() { [ "$(own "$1")" = "$2" ]; }

# No other rule may allow her anything.
mv /etc/gpubroker/policy.d/run-cases.policy /tmp/owners-others

for f in subuid subgid; do
	[ ! -e /etc/$f ] || cp -p /etc/$f /tmp/$f.before
	echo "alice:$first:65536" >/etc/$f
done

# ---- rules ----
rules 'deny user alice claim any' "allow any claim address $gpu2"
is "$(own "$alice")" 'refused policy' 'alice, who is denied, is refused'
is "$(own $((first + 5)))" 'refused policy' '... and as one of her subordinate uids'
is "$(own $((first + 65535)))" 'refused policy' '... and as the last one'
is "$(own $((first + 65536)))" 'granted' 'a uid after them is its own owner, and may have it'
is "$(own "$bob")" 'granted' 'and so may bob'
capture who inside $gpu2 alice $first 5
is "$stdout" "$((first + 4)) refused policy" 'in a user namespace of hers, as another uid there, she is refused'
capture setpriv --reuid $((first + 5)) --regid $((first + 5)) --clear-groups gpubroker run --gpu $gpu2 -- true
is $status 77 '... and so is gpubroker run as such a uid'
capture gpubroker policy explain --user $((first + 5)) $gpu2
is $status 77 'explain gives the same answer'
like "$stdout" "uid $((first + 5)) is a subordinate uid of user $alice" '... and says whose uid it is'

# ---- groups: with subordinate gids she can leave hers ----
groupadd -f owners-denied
gpasswd -a alice owners-denied >/dev/null
rules 'deny group owners-denied claim any' "allow any claim address $gpu2"
is "$(own "$alice")" 'refused policy' 'a group that is denied is denied without it: alice has left it'
capture who inside $gpu2 alice $first 0
is "$stdout" "$alice refused policy" '... as she can in a user namespace'
is "$(own $((first + 5)))" 'refused policy' '... and as a subordinate uid'
is "$(own "$bob")" 'granted' 'bob is not in it'
gpasswd -d alice owners-denied >/dev/null
groupdel owners-denied

# ---- limits, and the right to end a lease ----
rules "allow any claim class display limit 1"
setpriv --reuid $((first + 7)) --regid "$alice" --clear-groups \
	gpubroker run --gpu $gpu2 -- sleep 1000 >/tmp/owners.log 2>&1 </dev/null &
holder=$!
held() { gpubroker leases | grep -q $gpu2; }
ok 'a subordinate uid of hers has the one lease that the rule allows' wait_for 20 held
capture run_as alice gpubroker run --gpu $gpu -- true
is $status 75 'alice has no second one'
like "$stderr" 'limit|lease' '... and is told of the limit'
is "$(who asks $gpu $((first + 8)))" 'refused limit' '... nor has another uid of hers'
is "$(who asks $gpu "$bob")" 'granted' 'bob has his own'
lease=$(gpubroker leases --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["id"])')
is "$(gpubroker leases --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["uid"])')" \
	$((first + 7)) 'the lease is recorded with the uid that the kernel reported'
capture run_as bob gpubroker release "$lease"
isnt $status 0 'bob cannot end it'
systemctl restart gpubroker
wait_for 20 held
is "$(who asks $gpu $((first + 8)))" 'refused limit' 'after a restart the lease still counts'
capture run_as alice gpubroker release "$lease"
is $status 0 'alice can end it: it is hers'
kill $holder
wait $holder 2>/dev/null
ok '... and it ends' wait_for 30 no_records

# ---- connections ----
rules "allow any claim address $gpu2"
mkfifo /tmp/owners.go
who crowd $first 128 </tmp/owners.go >/tmp/owners.crowd 2>&1 &
crowd=$!
exec 9>/tmp/owners.go
full() { grep -q '^128$' /tmp/owners.crowd; }
ok '128 subordinate uids of hers connect' wait_for 60 full || diag "$(</tmp/owners.crowd)" "$(gpubroker leases)"
is "$(own $((first + 200)))" 'refused quota' 'another one cannot'
is "$(own "$alice")" 'refused quota' '... nor can she herself'
is "$(own "$bob")" 'granted' 'bob goes on'
ok 'and root' gpubroker list
exec 9>&-
wait $crowd
ok 'when they go, she is served again' wait_for 20 answers "$alice" granted

# ---- a change ----
rules 'deny user alice claim any' "allow any claim address $gpu2"
is "$(own $((first + 5)))" 'refused policy' 'the uid is hers'
echo "bob:$first:65536" >/etc/subuid
ok 'the file gives it to bob: that counts without a reload' wait_for 20 answers $((first + 5)) granted
printf '%s\n' "alice:$first:65536" "bob:$first:65536" >/tmp/subuid.new
mv /tmp/subuid.new /etc/subuid
ok 'to both: then it is nobody and gets nothing' wait_for 20 answers $((first + 5)) 'refused policy'
capture gpubroker policy check
like "$stdout" "/etc/subuid:2:1: warning: uid $first of 'bob'" '... and policy check warns of that'
rm /etc/subuid
ok 'the file is gone: it is a user of its own' wait_for 20 answers $((first + 5)) granted
echo "alice:$first:65536" >/etc/subuid
systemctl reload gpubroker
ok 'and hers again' wait_for 20 answers $((first + 5)) 'refused policy'

rm -f $policy /tmp/{wire,who}.py /tmp/owners.* /etc/subuid /etc/subgid
for f in subuid subgid; do
	[ ! -e /tmp/$f.before ] || mv /tmp/$f.before /etc/$f
done
mv /tmp/owners-others /etc/gpubroker/policy.d/run-cases.policy
systemctl restart gpubroker
gpubroker list >/dev/null
ok 'nothing is on record' no_records
done_testing
