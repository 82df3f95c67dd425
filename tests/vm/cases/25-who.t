#!/bin/bash
# Who a client is: the kernel's word, for uids at the edges, in a user namespace, behind a connection
# that was handed on, and for one that is gone before it is answered. Decided as designed, and told.
# A getsockopt() that fails is tests/unit/brokerd/who-test.c's.
. ./lib.sh

cp /tests/{wire,who}.py /tmp
who() { python3 /tmp/who.py "$@"; }
policy=/etc/gpubroker/policy.d/40-who.policy
# said REGEX: since the mark; the number of lines.
said() { journalctl -q --no-pager -o cat -u gpubroker --after-cursor "$mark" | grep -cE "$1"; }
rules() {
	printf '%s\n' "$@" >$policy
	set_mark
	systemctl reload gpubroker
	wait_for 20 loaded
}
loaded() { [ "$(said 'loaded again|^serving: ')" -ge 1 ]; }
main_pid() { systemctl show -P MainPID gpubroker; }

core=$(main_pid)
uids='0 1 65534 2147483647 2147483648 4294967294'
# ---- without a rule, and beside others' ----
rules "allow user 2 claim address $gpu2" "allow user 65533 claim address $gpu2" \
	"allow user 2147483646 claim address $gpu2" "allow user 4294967293 claim address $gpu2" \
	"allow user 65535 claim address $gpu2"
set_mark
# They are split here.
# shellcheck disable=SC2086
capture who uids $gpu2 $uids
for uid in $uids; do
	like "$stdout" "(^|
)$uid refused policy" "uid $uid without a rule is refused"
	is "$(said "^lease=- uid=$uid pid=[0-9]+ device=$gpu2 group=[0-9]+ name=- rule=- by=- outcome=refused reason=\"policy\" duration=-$")" 1 \
		'... and that is in the journal'
done
mapfile -t own < <(for uid in $uids; do echo "allow user $uid claim address $gpu2"; done)
rules "${own[@]}"
set_mark
# shellcheck disable=SC2086
capture who uids $gpu2 $uids
n=0
for uid in $uids; do
	n=$((n + 1))
	like "$stdout" "(^|
)$uid granted" "uid $uid with a rule is lent it"
	is "$(said "^lease=[0-9]+ uid=$uid pid=[0-9]+ device=$gpu2 group=[0-9]+ name=- rule=$policy:$n by=- outcome=granted reason=- duration=-$")" 1 \
		'... by its own rule, which the journal names'
done

# ---- in a namespace ----
rules "allow user alice claim address $gpu2" 'deny user carol claim any' "allow user 0 claim address $gpu2"
alice=$(id -u alice) bob=$(id -u bob)
set_mark
capture run_as alice unshare -Urpf python3 /tmp/who.py itself $gpu2
is "$stdout" '0 granted' 'alice, who is root in a namespace of hers, is lent what alice may have'
is "$(said "^lease=[0-9]+ uid=$alice pid=[0-9]+ .* outcome=granted")" 1 '... as alice'
wait_for 20 is_back $gpu2 bochs-drm
capture run_as bob unshare -Ur python3 /tmp/who.py itself $gpu2
is "$stdout" '0 refused policy' 'bob, who is root in a namespace of his, is not lent what root may have'
capture run_as bob unshare -U --map-user="$alice" python3 /tmp/who.py itself $gpu2
is "$stdout" "$alice refused policy" '... nor what alice may have, as whom he is there'
is "$(said "^lease=- uid=$bob pid=[0-9]+ device=$gpu2 .* outcome=refused reason=\"policy\"")" 2 \
	'... and the journal says that it was bob'

# ---- a connection that was handed on ----
set_mark
capture who handed $gpu2 "$bob" "$alice"
is "$stdout" 'refused policy' "a connection of bob's, handed to alice, is bob's"
is "$(said "uid=$bob .* outcome=refused reason=\"policy\"")" 1 '... and the journal says so'
capture who handed $gpu2 "$alice" "$bob"
is "$stdout" granted "a connection of alice's, handed to bob, is alice's: with it she hands on her rights"
is "$(said "uid=$alice .* outcome=granted")" 1 '... and answers for them'
capture who orphan $gpu2 "$alice"
is "$stdout" granted 'also where the process that connected has ended'

# ---- gone before the answer ----
set_mark
capture who leaves $gpu2 "$alice" 0 20 60 120 vfio-pci 200 vfio-pci 300
is "$(grep -c back <<<"$stdout")" 8 'a claimer that goes before it is answered, at eight moments: the device comes back' ||
	diag "$stdout $stderr"
ok '... no record stays' wait_for 10 no_records
is "$(override_of $gpu2)" '' '... and no override'
ends=$(said "uid=$alice .* outcome=(granted|refused)")
is "$ends" 8 '... and the journal has a line for each, granted or refused'
isnt "$(said 'outcome=refused reason="gone"')" 0 '... which says of one that is gone that it is'

# ---- whose limit would be raised? ----
rules "allow user alice claim address $gpu2 memlock 64M"
# The capability that this takes is there after the start that follows.
again() { [ "$(main_pid)" != "$core" ] && gpubroker list; }
wait_for 20 again
set_mark
capture who orphan $gpu2 "$alice"
is "$stdout" 'refused failed' 'where its limit is to be raised, a claimer that has ended is lent nothing'
is "$(said "uid=$alice .* outcome=refused reason=\"failed: ")" 1 '... and the journal says so'
is "$(driver_of $gpu2)" bochs-drm '... and the host has it back'
rm $policy /tmp/{wire,who}.py
systemctl restart gpubroker
gpubroker list >/dev/null
ok 'nothing is on record' no_records
done_testing
