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
is "$status:$stderr" "64:gpubroker: leases has no column 'usr'; did you mean 'user'?; there are lease, user, held, ends, device, command, pid, state, since, group, migrates, rule and allotment" \
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

### run
ok 'the card is back' wait_for 20 is_back $gpu bochs-drm
echo "allow user carol claim address $gpu for 8h limit 1" >/etc/gpubroker/policy.d/53-people.policy
gpubroker policy reload
# over.sh: until the leases are over, so that the terminal is there for what is said at the end.
cat >/tmp/over.sh <<'END'
"$@"
while gpubroker leases | grep -q .; do read -rt 0.2 <> <(:); done
END
chmod 755 /tmp/over.sh
shown=$(on_terminal 80 carol bash /tmp/over.sh gpubroker run --gpu 01:00.0 --qemu -- true)
diag "$(cat -v <<<"$shown")"
like "$shown" $'\r?\e\\[K'"${gpu_audio#0000:}: binding 1 of 2 to its VFIO driver"$'\e\\['"K${gpu#0000:}: binding 2 of 2" \
	'the steps are on one line, which is rewritten'
shown=$(plain <<<"$shown")
like "$shown" "${gpu#0000:} [^ ]+ \(\+audio, group $(group_of $gpu)\): bound and opened in [0-9]+\.[0-9]s; yours until [A-Za-z ]*[0-9]+:[0-9]+"$'\n' \
	'what was got is said, with its end'
like "$(grep '^QEMU gets' <<<"$shown")" '^QEMU gets: -device vfio-pci.*\.\.\. \(--verbose for all\)$' "QEMU's arguments are cut"
is "$(grep '^QEMU gets' <<<"$shown" | awk 'length > 80')" '' '... to the width of the terminal'
like "$shown" "gpubroker: ${gpu#0000:} goes back to the host. You had it for [0-9]+s\." 'at the end stands how long it was'
capture run_as carol gpubroker run --gpu 01:00.0 --qemu --verbose -- printf '%s '
is "$status" 0 'the card is claimed again'
is "$(tr -d "'" <<<"${stderr#QEMU gets: }")" "${stdout% }" '--verbose has all arguments, and no terminal gets anything else'
like "$stderr" '^QEMU gets: [^ ]+ [^ ]+' '... on a line'
printf '#!/bin/bash\nsleep 3 &\n' >/tmp/leaves.sh
chmod 755 /tmp/leaves.sh
on_terminal 80 alice bash /tmp/over.sh gpubroker run --gpu card -- /tmp/leaves.sh >/tmp/people.run
like "$(plain </tmp/people.run)" "$gpu .*stays leased, since the command has started what goes on: sleep \(pid [0-9]+\)" \
	'what goes on is said'
unlike "$(plain </tmp/people.run)" 'goes back to the host' '... instead of that it goes back'
rm /tmp/people.run /tmp/leaves.sh

# A claim while the device goes back.
hold alice --gpu card
ok 'alice has it' wait_for 20 is_leased $gpu
capture run_as carol gpubroker run --gpu 01:00.0 -- true
is "$status" 75 'what is held is refused'
like "$stderr" '^gpubroker: 0000:01:00.0 is leased to alice' '... with its holder'
unlike "$stderr" 'waiting for it' '... and not waited for'
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'it comes back' wait_for 20 is_back $gpu bochs-drm
# A holder that does not let go: its lease goes back for as long as it holds.
leaving() { gpubroker leases --columns state | grep -q -E 'releasing|restoring'; }
ask_back() {
	rm -f /tmp/people.holder
	run_as alice gpubroker run --gpu 02:00.0 -- /tests/holder $gpu2 /tmp/people.holder keeps >/dev/null 2>&1 </dev/null &
	keeper=$!
	wait_for 20 grep -q has /tmp/people.holder
	gpubroker revoke "$(gpubroker leases --columns lease | tail -n 1 | tr -d ' ')" >/dev/null 2>&1 &
	revoking=$!
	wait_for 20 leaving
}
# One that lets go within the seconds in which a claim is tried again. A slow host may take longer for all that.
for _ in 1 2 3; do
	ask_back
	run_as carol gpubroker run --gpu 02:00.0 -- true 2>/tmp/people.err </dev/null &
	claimer=$!
	wait_for 2 grep -q 'waiting for it' /tmp/people.err
	kill -KILL $keeper
	wait $keeper $revoking 2>/dev/null
	wait $claimer
	status=$?
	wait_for 30 is_back $gpu2 bochs-drm
	[ $status != 0 ] || break
done
is $status 0 'a claim without --wait gets a device that comes back within some seconds' || diag "$(</tmp/people.err)"
is "$(</tmp/people.err)" 'gpubroker: 02:00.0 is on its way back to the host; waiting for it, 5s at most' \
	'... and says nothing but that it waits'
ask_back
ok 'it is asked back' leaving
capture run_as carol gpubroker run --gpu 02:00.0 -- true
is "$status" 75 'a device that does not come back within some seconds is refused'
like "$stderr" '02:00.0 is on its way back to the host; waiting for it' '... after it was said that it is waited for'
like "$stderr" $'\n''gpubroker: 0000:02:00.0 is ' '... as it is by then'
kept() { gpubroker leases --columns state | grep -qE 'stuck|asked'; }
ok 'it does not come back' wait_for 30 kept
# As root itself, who sees every process.
shown=$(TERM=xterm script -qec 'stty cols 80; gpubroker leases' /dev/null </dev/null | tr -d '\r' | plain)
diag "$shown"
like "$shown" $'\n'"  (stuck|asked back) since [^ ]+: $gpu2: " 'below its lease stands since when, and why'
like "$shown" $'\n'"  held by pid $keeper \(holder\) of alice" '... and who holds it'
like "$shown" $'\n'"  'gpubroker revoke [0-9]+( --kill)?' " '... and what helps'
is "$(wide_lines 80)" '' '... in lines that fit'
kill -KILL $keeper
wait $keeper $revoking 2>/dev/null
ok 'that comes back, too' wait_for 30 is_back $gpu2 bochs-drm
rm -f /tmp/people.holder /tmp/people.err
rm /tmp/over.sh

### what one may have
shown=$(on_terminal 80 carol gpubroker policy what | plain)
diag "$shown"
like "$shown" "You may claim ${gpu#0000:}: limit 1 \\(has 0\\), for 8h, by 53-people.policy:1"$'\n'"  ${gpu#0000:}  .*\\+audio +free" \
	'policy what names the rule, its limits and the device'
like "$shown" "You may claim ${gpu2#0000:}: by run-cases.policy:[0-9]+"$'\n'"  ${gpu2#0000:} .* free" '... and the next'
unlike "$shown" "$boot_vga" '... and nothing else'
is "$(wide_lines 80)" '' '... in lines that fit'
run_as carol gpubroker run --gpu $gpu -- sleep 1000 >/dev/null 2>&1 </dev/null &
holders=($!)
ok 'carol has it' wait_for 20 is_leased $gpu
shown=$(gpubroker policy what --user carol)
like "$shown" "carol may claim ${gpu#0000:}: limit 1 \\(has 1\\).*"$'\n'"  ${gpu#0000:} .* carol, [0-9]+[sm]" \
	'--user says it of another, what is used up, and who has it'
capture run_as bob gpubroker policy what
is "$status:$stdout" '77:No rule allows you anything; ask the administrator for one.' 'one who may have nothing is told so'
aged() { sed 's/carol, [0-9]*[sm]/carol, AGE/'; }
is "$(run_as carol gpubroker policy explain | aged)" "$(run_as carol gpubroker policy what | aged)" 'policy explain without a device is the same'
like "$(run_as carol gpubroker policy explain $gpu)" "^$gpu: allowed for carol" '... and with one, without --user, is about oneself'
echo "allow user bob claim address $gpu2" >>/etc/gpubroker/policy.d/53-people.policy
like "$(run_as bob gpubroker policy what)" 'The broker does not allow you all of that' 'a rule that is not in force is not passed over'
capture run_as bob gpubroker run --gpu $gpu -- true
like "$stderr" 'no rule allows you any GPU' 'nor is it told as something to claim'
capture run_as alice gpubroker run --gpu 0a:00.0 -- true
like "$stderr" "you may claim .*card \\(${gpu#0000:}, leased\\)" 'a refusal says what one may claim, by its name'
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'carol has let go' wait_for 20 is_back $gpu bochs-drm
rm /etc/gpubroker/policy.d/53-people.policy
gpubroker policy reload

### the tree
shown=$(on_terminal 80 bob gpubroker list --tree | plain)
diag "$shown"
like "$shown" $'\n'"${gpu#0000:}  [^ ]+ +card .*"$'\n'"└─${gpu_audio#0000:} " 'the audio function is below its GPU'
like "$shown" "└─07:02.0 " '... and what shares its group from another slot'
unlike "$shown" '\+audio' '... instead of beside it'
is "$(wide_lines 80)" '' '... in lines that fit'
like "$(run_as bob env LC_ALL=C gpubroker list --tree)" "[\`]-${gpu_audio#0000:} " 'a tree is plain where characters are'
shown=$(gpubroker list --tree --all --columns gpu)
like "$shown" "${sriov#0000:}" 'the tree of all functions has the others'
done_testing
