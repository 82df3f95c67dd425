#!/bin/bash
# What people see on a terminal of the leases, of changes, of `run`, of the tree of devices and of what they may have.
. ./lib.sh

# on_terminal COLUMNS USER COMMAND...: what the command writes to a terminal that is so wide, with its colours.
on_terminal() {
	local columns=$1 user=$2
	shift 2
	run_as "$user" timeout 60 env TERM=xterm LC_ALL=C.UTF-8 script -qec "stty cols $columns; $*" /dev/null </dev/null |
		tr -d '\r'
}
plain() { sed 's/\x1b\[[0-9;]*[mK]//g'; }
# wide_lines COLUMNS: those of $shown that are wider, in characters.
wide_lines() { LC_ALL=C.UTF-8 awk -v most="$1" 'length > most' <<<"$shown"; }

### leases
is "$(on_terminal 80 bob gpubroker leases)" 'Nothing is leased.' 'a terminal says that nothing is leased'
# It stands for a QEMU: its program is called so, and its arguments have a -name.
cp /bin/bash /tmp/qemu-of-people
run_as alice gpubroker run --gpu card -- /tmp/qemu-of-people -c 'read -rt 1000 <> <(:)' -name 'guest=Größe,process=x' \
	>/dev/null 2>&1 </dev/null &
vm=$!
ok 'alice has the card' wait_for 20 is_leased $gpu
run_as alice gpubroker run --wait --gpu $gpu -- true >/dev/null 2>&1 </dev/null &
first=$!
waits() { [ "$(gpubroker leases --waiting --json | grep -c '"place"')" = "$1" ]; }
ok 'a claim waits' wait_for 20 waits 1
shown=$(on_terminal 80 bob gpubroker leases)
coloured=$shown
shown=$(plain <<<"$shown")
diag "$shown"
like "$shown" '^LEASE +USER +HELD +ENDS +DEVICE +COMMAND' 'a terminal gets the columns for people'
is "$(wide_lines 80)" '' '... and no line is wider than it'
like "$shown" $'\n'"[0-9]+ +alice +[0-9]+[sm] +- +${gpu#0000:} .*\+audio +qemu-of-people \"Größe\"" \
	'a lease has its user, its device with what comes along, and its program'
like "$shown" $'\n  waiting: 1\\. alice [0-9]+[sm]' 'a claim that waits stands below the lease'
like "$coloured" $'\e\\[1mLEASE' 'a terminal gets colours'
unlike "$(on_terminal 80 bob env NO_COLOR=1 gpubroker leases)" $'\e\\[1' '... but not with NO_COLOR'
like "$(run_as bob gpubroker leases)" '^LEASE  USER      PID      IOMMU  STATE      HELD  DEVICES' \
	'a pipe gets the columns that it had'
is "$(run_as bob gpubroker leases --columns user,device | head -n 1 | tr -s ' ')" 'USER DEVICE' \
	'--columns takes those that are asked for'
like "$(run_as bob gpubroker leases --wide)" '^LEASE +USER +PID +STATE +HELD +SINCE +ENDS +GROUP +MIGRATES +RULE' \
	'--wide has all'
capture run_as bob gpubroker leases --columns usr
is "$status:$stderr" "64:gpubroker: leases has no column 'usr'; did you mean 'user'?; there are lease, user, held, ends, device, command, pid, state, since, group, migrates and rule" \
	'a column that is not there is refused, with those that there are'
gpubroker revoke "$(gpubroker leases --columns lease | tail -n 1 | tr -d ' ')" --after 5h
like "$(on_terminal 80 bob gpubroker leases | plain)" "alice +[0-9]+[sm] +.*[0-9]{2}:[0-9]{2} \\((5|4)h\\) +${gpu#0000:}" \
	'a lease that ends shows when, and how long that is'
shown=$(on_terminal 120 bob gpubroker leases | plain)
diag "$shown"
is "$(wide_lines 120)" '' 'a wider terminal is not overrun either'
kill $first $vm
wait $first $vm 2>/dev/null
rm /tmp/qemu-of-people
ok 'the card goes back' wait_for 20 is_back $gpu bochs-drm

### watch
run_as alice gpubroker run --gpu card -- sleep 1000 >/dev/null 2>&1 </dev/null &
vm=$!
ok 'alice has the card again' wait_for 20 is_leased $gpu
# A time zone in which midnight is some seconds away.
now=$(date -u +%s)
left=$(((2 * 86400 - now % 86400 - 25) % 86400))
zone=ZONE-$((left / 3600)):$((left / 60 % 60)):$((left % 60))
today=$(TZ=$zone date +%A,\ %F)
run_as bob timeout 200 env TERM=xterm TZ=$zone script -qefc 'gpubroker watch' /tmp/people.watch >/dev/null 2>&1 </dev/null &
watcher=$!
began() { grep -q 'day, [0-9]*-[0-9]' /tmp/people.watch; }
ok 'a terminal begins with a date' wait_for 20 began
shown=$(plain </tmp/people.watch | tr -d '\r')
like "$shown" 'LEASE +USER .*'$'\n''[0-9]+ +alice' '... after the leases that there are'
like "$shown" "$today" '... which is that of the day'
tomorrow() { [ "$(TZ=$zone date +%A,\ %F)" != "$today" ]; }
ok 'it becomes midnight' wait_for 30 tomorrow
kill $vm
wait $vm 2>/dev/null
over() { grep -q ': host' /tmp/people.watch; }
ok 'changes follow' wait_for 20 over
shown=$(plain </tmp/people.watch | tr -d '\r')
diag "$shown"
like "$shown" "$(TZ=$zone date +%A,\ %F)"$'\n'"00:00:[0-9]+  lease [0-9]+ of alice, $gpu: " \
	'the first change of another day has its date above it'
is "$(grep -c 'day, [0-9]*-[0-9]' <<<"$shown")" 2 '... and others have none'
kill $watcher
wait $watcher 2>/dev/null
rm /tmp/people.watch
done_testing
