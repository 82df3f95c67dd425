#!/bin/bash
# Who had what: lease numbers that are never used twice, the fields of the journal, the usage of each user, and what a
# monitoring system reads.
. ./lib.sh

main_pid() { systemctl show -P MainPID gpubroker; }
lease_of() { gpubroker leases --json | python3 -c 'import json,sys; print(*[l["id"] for l in json.load(sys.stdin)])'; }
again() { [ "$(main_pid)" != "$core" ] && [ "$(main_pid)" != 0 ] && gpubroker list; }
# lend USER: a lease of gpu2 that has begun and ended; sets id.
lend() {
	hold "$1" --gpu 02:00.0
	wait_for 20 is_leased $gpu2
	id=$(lease_of)
	sleep "${2:-0}"
	kill "${holders[-1]}"
	wait "${holders[-1]}" 2>/dev/null
	wait_for 20 is_back $gpu2 bochs-drm
}
# fields MATCH...: the entries of the journal with these fields, a line of JSON each.
fields() { journalctl -q --no-pager -o json "$@"; }
has_entry() { [ -n "$(fields "$@")" ]; }
value() { python3 -c 'import json,sys
for line in sys.stdin:
    print(json.loads(line).get(sys.argv[1], ""))' "$1" | tail -n 1; }

# ---- numbers ----
lend alice 2
first=$id
core=$(main_pid)
systemctl restart gpubroker
ok 'the daemon is there again' wait_for 20 again
lend alice
is "$id" $((first + 1)) 'after a restart the next lease has the next number'
second=$id
core=$(main_pid)
kill -KILL "$core"
ok 'the daemon comes back when it is killed' wait_for 20 again
lend alice
result $(( ! (id > second && id <= second + 1000) )) "a killed daemon repeats no number, and leaves a small gap ($second, $id)"
third=$id
# As a reboot: all that is in /run is gone.
systemctl stop gpubroker.socket gpubroker
rm -rf /run/gpubroker/leases
systemctl start gpubroker.socket gpubroker
lend carol
is "$id" $((third + 1)) 'after a reboot too'
fourth=$id
systemctl stop gpubroker.socket gpubroker
echo rubbish >/var/lib/gpubroker/numbers
set_mark
systemctl start gpubroker.socket gpubroker
lend alice
result $(( ! (id > 1000000000) )) "a damaged file: numbers go on from the clock ($id)"
ok '... and the journal says so' said_it 'lease numbers: the file cannot be read: .*; they go on from the clock'
systemctl stop gpubroker.socket gpubroker
rm /var/lib/gpubroker/numbers
systemctl start gpubroker.socket gpubroker
is "$(stat -c '%U %a' /var/lib/gpubroker)" 'root 700' 'what outlives a reboot is for root alone'

# ---- the journal ----
ok 'a lease has fields in the journal' wait_for 10 has_entry GPUBROKER_LEASE=$first GPUBROKER_OUTCOME=ended
is "$(fields GPUBROKER_LEASE=$first GPUBROKER_OUTCOME=granted | value GPUBROKER_UID)" "$(id -u alice)" '... its user'
is "$(fields GPUBROKER_LEASE=$first GPUBROKER_OUTCOME=granted | value GPUBROKER_DEVICE)" $gpu2 '... its device'
like "$(fields GPUBROKER_LEASE=$first GPUBROKER_OUTCOME=granted | value GPUBROKER_RULE)" '\.policy:[0-9]+$' '... the rule'
duration=$(fields GPUBROKER_LEASE=$first GPUBROKER_OUTCOME=ended | value GPUBROKER_DURATION)
result $(( ! (duration >= 2 && duration < 120) )) "... and how long it was ($duration)"
is "$(journalctl -q -o cat -u gpubroker GPUBROKER_LEASE=$first GPUBROKER_OUTCOME=granted | wc -l)" 1 \
	'the lines are still those of the unit'
like "$(journalctl -q -o cat -u gpubroker GPUBROKER_LEASE=$first GPUBROKER_OUTCOME=ended)" \
	"^lease=$first uid=.* outcome=ended reason=- duration=$duration\$" '... and the message is the line that it was'
isnt "$(fields GPUBROKER_LEASE=$first GPUBROKER_OUTCOME=ended | value _SYSTEMD_UNIT)" '' 'systemd knows who wrote it'
# A claim that fails: the journal has the client's words. The node is not the broker's any more.
mv /dev/vfio/vfio /dev/vfio/gone
capture run_as alice gpubroker run --gpu 02:00.0 -- true
isnt "$status" 0 'without VFIO nothing is lent'
mv /dev/vfio/gone /dev/vfio/vfio
failed() { has_entry GPUBROKER_OUTCOME=refused "GPUBROKER_UID=$(id -u alice)"; }
ok '... and the journal has it' wait_for 10 failed
why=$(fields GPUBROKER_OUTCOME=refused "GPUBROKER_UID=$(id -u alice)" | value GPUBROKER_REASON)
like "$why" '^failed: .' "... with what the client was told ($why)"
like "$stderr" "$(sed 's/^failed: //; s/[][().*^$?+{}|\\]/./g; s/;.*//' <<<"$why")" '... in the same words'
wait_for 20 is_back $gpu2 bochs-drm
done_testing
