#!/bin/bash
# A lease whose time is over ends, against a VM whose guest does not let go: who waits keeps waiting, and the
# holder's terminal says what happens.
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

mv $saved/*.policy $dir/
rm -f $dir/10-limits.policy /tmp/alice.* /tmp/bob.err /tmp/turns
loaded 'the policy is as before'
is "$(killed)" '' 'no process met its filter'
done_testing
