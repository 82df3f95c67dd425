#!/bin/bash
# A lease whose time is over ends, against a VM whose guest does not let go: who waits keeps waiting, the holder's
# terminal says what happens, and where root or the policy says so, the holder's processes are ended, and no others.
. ./lib.sh

dir=/etc/gpubroker/policy.d
saved=/tmp/policy.saved
mkdir -p $saved
mv $dir/*.policy $saved/
loaded() { reload; result $? "$1"; }
cat >$dir/10-limits.policy <<-END
	allow user alice claim address $gpu for 20s
	allow user bob claim address $gpu
	allow user alice claim address $gpu2
END
loaded 'a policy with times is in force'
state_is() { gpubroker leases --json | tr -d ' \n' | grep -q "\"devices\":\[[^]]*\"$1\".*\"state\":\"$2\""; }
has_turn() { grep -qx "$1" /tmp/turns; }
waits() { gpubroker leases --waiting | grep -q "$1 .*$gpu"; }
: >/tmp/turns
chmod 666 /tmp/turns
# tty USER FILE COMMAND...: on a terminal of its own, whose text goes to FILE.
tty() {
	local user=$1 file=$2
	shift 2
	rm -f "$file"
	run_as "$user" script -qefc "$*" "$file" </dev/null >/dev/null 2>&1 &
	tty_pid=$!
}
card="-nodefaults -display none -M q35 -cpu max -accel tcg -m 64"

# ---- a VM that does not let go ----

tty alice /tmp/alice.tty "gpubroker run --gpu $gpu -- qemu-system-x86_64 $card -device vfio-pci,host=$gpu -device vfio-pci,host=$gpu_audio"
alice=$tty_pid
ok 'a VM without a system in it has the GPU for 20 seconds' wait_for 30 is_leased $gpu
run_as bob gpubroker run --gpu $gpu --wait -- sh -c 'echo bob >>/tmp/turns' 2>/tmp/bob.err &
bob=$!
ok 'another user waits for it' wait_for 10 waits bob
ok 'the VM is asked for it, and does not let go' wait_for 60 state_is $gpu asked
ok 'who waits is still in the queue' waits bob
ok '... and was told nothing else' alive $bob
like "$(gpubroker leases)" "asked back for [0-9]+s: $gpu: waits for its holder to let go" 'leases says what it waits for'
like "$(tr -d '\r' </tmp/alice.tty)" "gpubroker: lease [0-9]+ ends in [0-9]+ seconds?, at [0-9:]{8}; $gpu \(IOMMU group [0-9]+\) is then asked back" \
	"the holder's terminal is told before the end"
like "$(tr -d '\r' </tmp/alice.tty)" "gpubroker: the time of lease [0-9]+ is over; $gpu .* is asked back" '... at the end'
like "$(tr -d '\r' </tmp/alice.tty)" "is over, and this command has $gpu .* still" '... and that it has it still'
vm=$(pgrep -x qemu-system-x86 | head -1)
kill -KILL "$vm"
wait $alice
ok 'when the VM ends, who waited has it' wait_for 40 has_turn bob
wait $bob
is $? 0 '... and its command ran'
ok 'the GPU is back' wait_for 20 is_back $gpu bochs-drm
ok '... record and all' wait_for 10 no_records

# ---- a revocation, and a broker that is started again ----

tty alice /tmp/alice.tty "gpubroker run --gpu $gpu2 -- sh -c 'exec 3<>/dev/vfio/$(group_of $gpu2); sleep 300'"
alice=$tty_pid
ok 'a lease without an end' wait_for 20 is_leased $gpu2
id=$(gpubroker leases --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p' | head -1)
ok '... is revoked' gpubroker revoke "$id"
ok 'which its terminal is told' wait_for 10 grep -q "gpubroker: lease $id was taken back; $gpu2" /tmp/alice.tty
kill $alice
wait $alice 2>/dev/null
ok 'the GPU is back' wait_for 20 is_back $gpu2 bochs-drm

run_as alice gpubroker run --gpu $gpu2 -- sleep 300 2>/tmp/alice.err &
alice=$!
ok 'a lease without a terminal' wait_for 20 is_leased $gpu2
id=$(gpubroker leases --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p' | head -1)
gpubroker revoke "$id"
ok '... is the host'\''s again' wait_for 20 is_back $gpu2 bochs-drm
is "$(cat /tmp/alice.err)" '' 'into a file or a pipe nothing is said'
kill $alice
wait $alice 2>/dev/null

# ---- a process that outlives its command ----

tty alice /tmp/alice.tty "gpubroker run --gpu $gpu2 -- sh -c 'setsid sleep 400 </dev/null >/dev/null 2>&1 & echo \$! >/tmp/alice.pid; sleep 3'; sleep 2"
wait $tty_pid
left=$(cat /tmp/alice.pid)
like "$(tr -d '\r' </tmp/alice.tty)" "gpubroker: $gpu2 .* stays leased, since the command has started what goes on: sleep \(pid $left\)" \
	'the end of a command says which process keeps the lease'
like "$(run_as alice gpubroker leases)" "alice +$left .*
 +process [0-9]+ has ended; sleep \(pid $left\), which it started, keeps the lease" '... and leases shows it, not the one that is gone'
kill "$left"
ok 'the GPU is back when that ends' wait_for 20 is_back $gpu2 bochs-drm

# ---- root ends the holder ----

ender() { [ "$(cat "/proc/$(systemctl show -P MainPID gpubroker-end)/comm")" = gpubroker-end ]; }
ok 'the ender runs' wait_for 20 ender
lease_state_of() { gpubroker leases --json | sed -n 's/.*"state": *"\([a-z]*\)".*/\1/p' | head -1; }
id_now() { gpubroker leases --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p' | head -1; }
# clings HOW: alice holds gpu2 and clings to it.
clings() {
	rm -f /tmp/clinger
	run_as alice gpubroker run --gpu $gpu2 -- python3 /tests/clinger.py "$1" "$(group_of $gpu2)" $gpu2 >/tmp/clinger 2>&1 &
	clinger=$!
	wait_for 30 grep -q has /tmp/clinger || diag "$(cat /tmp/clinger)"
}
freed() { wait_for 60 is_back $gpu2 bochs-drm && wait_for 20 no_records; }

vm alice dies --gpu $gpu2 -- -m 64 -device vfio-pci,host=$gpu2
vm_up dies || fail 'the VM starts'
id=$(id_now)
capture run_as alice gpubroker revoke "$id" --kill
is $status 77 'a user ends nobody'
capture gpubroker revoke "$id" --kill=soon
is $status 64 'a grace that is no time is refused'
capture gpubroker revoke "$id" --kill=5s
is $status 0 'revoke --kill ends a VM that does not let go, and waits for it'
wait $vm_pid 2>/dev/null
ok '... and the GPU is back' freed
like "$(said)" "outcome=killing" 'the journal says who ordered it'
like "$(said)" "outcome=asked reason=\"$gpu2: SIGTERM was sent to pid [0-9]+ \(qemu-system-x86" '... and what was ended'

clings ignores
capture gpubroker revoke "$(id_now)" --kill=3s
is $status 0 'a process that ignores SIGTERM is ended by SIGKILL'
wait $clinger 2>/dev/null
is $? 137 '... after the grace'
ok '... and the GPU is back' freed

for how in forks passes stopped namespace script thread leaderless; do
	clings $how
	capture gpubroker revoke "$(id_now)" --kill=1s
	is $status 0 "a holder that $how is ended" || diag "$(gpubroker leases; ps -ef | grep clinger)"
	ok "... and the GPU is back: $how" freed || diag "$(said)"
	for pid in $(pgrep -f tests/clinger.py); do kill -KILL "$pid"; done
	wait $clinger 2>/dev/null
done

# A process of the same user that has nothing of it.
run_as alice python3 - >/tmp/other 2>&1 <<-END &
	import time
	time.sleep(300)
END
bystander=$!
clings ignores
capture gpubroker revoke "$(id_now)" --kill=1s
is $status 0 'one more is ended'
ok '... but no process that has nothing open' alive $bystander
kill $bystander
wait $bystander $clinger 2>/dev/null
ok '... and the GPU is back' freed

# ---- without the ender ----

clings ignores
id=$(id_now)
systemctl stop gpubroker-end
capture gpubroker revoke "$id" --kill
is $status 71 'without the ender revoke --kill is refused'
like "$stderr" 'gpubroker-end.service has to run' '... and says what is missing'
ok '... and nothing was begun' state_is $gpu2 leased
systemctl start gpubroker-end
wait_for 20 ender
kill -STOP "$(systemctl show -P MainPID gpubroker-end)"
run_as root gpubroker revoke "$id" --kill=1s 2>/tmp/revoke.err &
revoking=$!
silent() { gpubroker leases | grep -q 'gpubroker-end.service does not answer'; }
ok 'an ender that is stopped is named' wait_for 40 silent
ok '... while others are served' gpubroker list
kill -KILL "$(systemctl show -P MainPID gpubroker-end)"
wait $revoking
is $? 0 'the next one does it'
wait $clinger 2>/dev/null
ok '... and the GPU is back' freed

# ---- by the policy ----

sed -i 's/for 20s/for 30s kill=2s/' $dir/10-limits.policy
loaded 'a policy that kills is in force'
like "$(run_as alice gpubroker policy explain $gpu --user alice)" 'for +30s, then kill, with 2s between the signals' 'explain tells it'
vm alice expires --gpu $gpu -- -m 64 -device vfio-pci,host=$gpu -device vfio-pci,host=$gpu_audio
vm_up expires || fail 'the VM starts'
is "$(lease_state_of)" leased 'a VM has the GPU for 30 seconds'
systemctl restart gpubroker
ok 'its time is over, and it is ended, through a restart' wait_for 90 is_back $gpu bochs-drm
wait $vm_pid 2>/dev/null
ok 'no record is left' wait_for 20 no_records

mv $saved/*.policy $dir/
rm -f $dir/10-limits.policy /tmp/alice.* /tmp/bob.err /tmp/turns /tmp/clinger /tmp/other /tmp/revoke.err
loaded 'the policy is as before'
is "$(killed)" '' 'no process met its filter'
done_testing
