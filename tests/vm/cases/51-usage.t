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
echo rubbish >/var/lib/gpubroker/history/numbers
set_mark
systemctl start gpubroker.socket gpubroker
lend alice
result $(( ! (id > 1000000000) )) "a damaged file: numbers go on from the clock ($id)"
ok '... and the journal says so' said_it 'lease numbers: the file cannot be read: .*; they go on from the clock'
systemctl stop gpubroker.socket gpubroker
rm /var/lib/gpubroker/history/numbers
systemctl start gpubroker.socket gpubroker
is "$(stat -c '%U %a' /var/lib/gpubroker/history)" 'root 700' 'what outlives a reboot is for root alone'

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
# Every user may write any field into the journal.
run_as alice python3 - <<-'END'
	import socket
	s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	s.connect("/run/systemd/journal/socket")
	s.send(b"MESSAGE=forged\nGPUBROKER_LEASE=424242\nOBJECT_SYSTEMD_UNIT=gpubroker.service\n")
END
ok 'a user can write such a line' wait_for 10 has_entry GPUBROKER_LEASE=424242
is "$(fields -u gpubroker GPUBROKER_LEASE=424242)" '' '... and -u gpubroker, which gpubrokerd(8) says to use, does not show it'
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

# ---- usage ----
shown=$(gpubroker usage)
diag "$shown"
like "$shown" '^USER +DEVICE +LEASES +TIME +LAST' 'root sees a table'
like "$shown" $'\n'"alice +$gpu2 +[0-9]+ +([0-9]+m )?[0-9]+s " '... with what alice had, and for how long'
like "$shown" $'\n'"carol +$gpu2 +1 " '... and carol'
shown=$(run_as carol gpubroker usage)
like "$shown" $'\n'"carol +$gpu2 +1 " 'a user sees what was hers'
unlike "$shown" alice '... and nothing of others'
is "$(run_as bob gpubroker usage)" '' 'who had nothing sees nothing'
capture run_as carol gpubroker usage --user alice
is "$status" 77 "another user's usage is root's to see"
# numbers JSON: the leases in it.
numbers() { python3 -c 'import json,sys; print(*sorted(u["lease"] for u in json.load(sys.stdin)))'; }
is "$(gpubroker usage --json | numbers | tr ' ' '\n' | uniq -d)" '' 'no lease is there twice'
is "$(gpubroker usage --user carol --json | numbers)" "$fourth" '--user leaves out the others'
is "$(gpubroker usage --since 1s)" '' '--since leaves out what has ended before'
hold alice --gpu 02:00.0
wait_for 20 is_leased $gpu2
sleep 2
like "$(gpubroker usage --since 1s)" "alice +$gpu2 +1 +[12]s +now" '... and a lease that goes on counts up to now, from then on'
is "$(gpubroker usage --since 1s --json | python3 -c 'import json,sys; print(*[u["until"] for u in json.load(sys.stdin)])')" None \
	'... which JSON says by null'

# ---- the status ----
gpus=$(gpubroker list --json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)))')
text_is() { [[ $(systemctl show -P StatusText gpubroker) =~ $1 ]]; }
ok 'systemctl status counts what is lent' wait_for 10 text_is "^1 of $gpus GPUs lent; policy of [0-9-]+ [0-9:]+\$" ||
	diag "$(systemctl show -P StatusText gpubroker)"
run_as carol gpubroker run --wait --gpu $gpu2 -- true >/dev/null 2>&1 &
waiter=$!
ok '... and who waits' wait_for 20 text_is '1 waits; ' || diag "$(systemctl show -P StatusText gpubroker)"

# ---- metrics ----
metric() { gpubroker metrics | python3 /tests/openmetrics.py "$@"; }
refusals=$(metric 'gpubroker_refusals_total{reason="policy"}')
run_as bob gpubroker run --gpu $gpu2 -- true 2>/dev/null
ok 'metrics are OpenMetrics' sh -c 'gpubroker metrics | python3 /tests/openmetrics.py'
isnt "$(printf 'a 1\n# EOF\n' | python3 /tests/openmetrics.py)" '' '... and something else is none'
is "$(metric gpubroker_up 'gpubroker_leases{state="leased"}' 'gpubroker_gpus{status="lent"}' gpubroker_waiting_claims \
	gpubroker_policy_in_force)" '1 1 1 1 1' '... with what is lent, and who waits'
is "$(metric 'gpubroker_refusals_total{reason="policy"}')" $((refusals + 1)) '... and what was refused'
lent=$(metric "gpubroker_lent_seconds{user=\"alice\",device=\"$gpu2\",profile=\"\"}")
result $(( ! (lent >= 4) )) "... and for how long alice had it ($lent)"
shown=$(run_as carol gpubroker metrics)
is "$(python3 /tests/openmetrics.py <<<"$shown")" '' "a user's metrics are OpenMetrics too"
unlike "$shown" 'refusals|granted|alice' '... and say nothing that listings do not show'
like "$shown" 'gpubroker_leases\{state="leased"\} 1' '... but what they do'
mkdir -p /var/lib/prometheus/node-exporter
is "$(systemctl is-enabled gpubroker-metrics.timer)" disabled 'the timer is not enabled by default'
ok 'its service writes the file' systemctl start gpubroker-metrics.service ||
	diag "$(journalctl -q --no-pager -o cat -u gpubroker-metrics)"
prom=/var/lib/prometheus/node-exporter/gpubroker.prom
is "$(stat -c '%a' $prom)" 644 '... that everybody can read'
is "$(python3 /tests/openmetrics.py <$prom)" '' '... and that is whole'
like "$(cat $prom)" 'gpubroker_refusals_total\{reason="policy"\} [1-9]' "... with root's figures"
is "$(ls /var/lib/prometheus/node-exporter)" gpubroker.prom '... and nothing is left beside it'
kill "${holders[-1]}"
wait "${holders[-1]}" 2>/dev/null
wait $waiter
wait_for 20 is_back $gpu2 bochs-drm
ok 'then nothing is lent' wait_for 10 text_is "^0 of $gpus GPUs lent; policy of " ||
	diag "$(systemctl show -P StatusText gpubroker)"

# ---- what a power cut leaves, and a broker that is not there ----
before=$(gpubroker usage --json | numbers)
systemctl stop gpubroker.socket gpubroker
capture gpubroker metrics --output $prom
is "$status" 69 'without a broker metrics fails'
is "$(python3 /tests/openmetrics.py gpubroker_up <$prom)" 0 '... and the file says so'
# A line is 210 bytes; the second is cut.
dd if=/dev/zero of=/var/lib/gpubroker/history/usage bs=1 seek=300 count=120 conv=notrunc status=none
set_mark
systemctl start gpubroker.socket gpubroker
ok 'a record that was cut is told' wait_for 10 said_it 'the usage of devices: 1 damaged records are skipped'
after=$(gpubroker usage --json | numbers)
is "$(wc -w <<<"$after")" $(($(wc -w <<<"$before") - 1)) '... and the others are there'
lend carol
like "$(gpubroker usage --user carol --json | numbers)" "(^| )$id( |\$)" '... and so is the next'
rm -r /var/lib/prometheus
done_testing
