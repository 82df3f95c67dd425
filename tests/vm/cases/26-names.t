#!/bin/bash
# 500 hostile addresses, names and numbers (traversal, other digits, overlong, NUL and newline in
# them), by the command, on the wire and in a policy: the core opens nothing outside of its places, and each
# line of the journal stays one. The list is guest/names.py's.
. ./lib.sh

cp /tests/{wire,names}.py /tmp
names() { python3 /tmp/names.py "$@"; }
core=$(systemctl show -P MainPID gpubroker)
hostile=/etc/gpubroker/policy.d/50-names.policy
mark=$(journalctl -q -n 1 --show-cursor -o cat | sed -n 's/^-- cursor: //p')
said() { journalctl -q --no-pager -o cat -ugpubroker{,-load,-watch} --after-cursor "$mark" | grep -q "$1"; }

strace -f -y -qq -s 5000 -e trace=%file,openat2 -o /tmp/names.strace -p "$core" 2>/tmp/names.err &
tracer=$!
traced() { grep -q '^TracerPid:[[:space:]]*[1-9]' "/proc/$core/status"; }
wait_for 10 traced

is "$(names wire_names)" '107:500' 'on the wire, 500 names: each is refused'
like "$(names wire_numbers)" '^0:[0-9]+ 107:[0-9]+$' \
	'500 addresses, groups and leases: each is refused, or its connection dropped'
capture run_as alice python3 /tmp/names.py command
is "$stdout" 'tried 500 bad 0' 'by the command: none is taken, and what it says is printable, in lines' || diag "$stderr"
# What is right is lent, under the trace, so that this shows something.
capture run_as alice gpubroker run --gpu $gpu2 -- true
is "$status" 0 'beside them what is right is lent'
wait_for 20 is_back $gpu2 bochs-drm

names policy >$hostile
touch /etc/gpubroker/policy.d/$'51-\nlease=1 outcome=granted.policy' /etc/gpubroker/policy.d/$'52-\e[2J\xff.policy'
systemctl reload gpubroker
ok 'in a policy: it is not taken' wait_for 30 said 'the policy in force stays'
capture run_as bob gpubroker policy check $hostile
is "$status" 65 '... nor by policy check'
unlike "$(tr -d '\n\t' <<<"$stdout$stderr" | LC_ALL=C tr -d ' -~' | head -c 100)" . '... which says so in printable lines'
rm $hostile /etc/gpubroker/policy.d/5[12]-*
systemctl reload gpubroker
ok 'without them it is' wait_for 30 said 'loaded again'

kill $tracer
wait $tracer
is "$(names trace /tmp/names.strace)" 'calls some bad 0' 'the core has opened, read and named nothing outside of its places'
is "$(journalctl -q --no-pager -o json -ugpubroker{,-load,-watch} --after-cursor "$mark" | names journal)" \
	'lines some bad 0 names wrong 0 told some' 'each line of the journal is whole, and says each name as it was'
is "$(systemctl show -P MainPID gpubroker)" "$core" 'the core is the same process as before'
rm -f /tmp/names.* /tmp/wire.py
done_testing
