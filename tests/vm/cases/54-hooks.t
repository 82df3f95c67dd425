#!/bin/bash
# The administrator's hooks: they run before a device is taken from its host driver and after it is back, whoever is
# killed meanwhile; a hook that fails keeps the device at the host, and none keeps it from the host.
. ./lib.sh

hooks=/etc/gpubroker/hooks.d log=/tmp/hooks.log
# What a hook sees: the event, the device's driver at that moment, its arguments.
hook() {
	cat >"$hooks/.new"
	chmod "${2:-755}" "$hooks/.new"
	mv "$hooks/.new" "$hooks/$1"
}
runner() { systemctl show -P MainPID gpubroker-hooks; }
has_runner() { [ "$(runner)" != 0 ] && systemctl -q is-active gpubroker-hooks; }
knows() { said_it 'there are hooks'; }
lines() { [ "$(wc -l <$log)" -ge "$1" ]; }
claim() { capture run_as alice gpubroker run --gpu $gpu2 -- true; }
: >$log
set_mark

# ---- none ----
is "$(runner)" 0 'without a hook no process waits for one'
claim
is $status 0 '... and a claim is granted'
wait_for 20 is_back $gpu2 bochs-drm

# ---- one ----
hook 10-note <<-END
	#!/bin/sh
	echo "\$1 \$(basename "\$(readlink /sys/bus/pci/devices/$gpu2/driver)") \$# \$2" >>$log
	echo "said by \$GPUBROKER_EVENT of \$GPUBROKER_DEVICES group \$GPUBROKER_GROUP"
	env | sort >/tmp/hooks.env
	ls /proc/self/fd >/tmp/hooks.fds
END
ok 'a hook that is put there has its runner started' wait_for 20 has_runner
ok '... and the broker learns of it' wait_for 20 knows
claim
is $status 0 'a claim is granted'
ok '... and ends' wait_for 20 is_back $gpu2 bochs-drm
is "$(cat $log)" "bind bochs-drm 2 $gpu2
restore bochs-drm 2 $gpu2" 'the hook ran before the unbind and after the host had it back'
is "$(grep -vE '^(GPUBROKER_(DEVICES|EVENT|GROUP|LEASE|UID)|LANG|PATH|PWD|_|SHLVL|OLDPWD)=' /tmp/hooks.env)" '' \
	'... with a clean environment'
is "$(tr '\n' ' ' </tmp/hooks.fds)" '0 1 2 3 ' '... and no descriptor of ours'
journal() { journalctl -q --no-pager -b -o cat -u gpubroker-hooks "$@"; }
noted() { journal -t hooks.d/10-note | grep -q "said by restore of $gpu2 group $(group_of $gpu2)"; }
ok '... and what it prints in the journal, under its name' wait_for 20 noted

# ---- one that fails ----
: >$log
hook 05-no <<<$'#!/bin/sh\n[ $1 = restore ] || exit 3'
refused alice 69 "$gpu2 was not taken from its host driver: the hook 05-no ended with status 3" \
	'a hook that fails keeps the device at the host' --gpu $gpu2
is "$(driver_of $gpu2)" bochs-drm '... on its driver'
is "$(override_of $gpu2)" '' '... without an override'
is "$(cat $log)" "restore bochs-drm 2 $gpu2" '... those behind it do not run, but those of the restore do'
ok '... and nothing is left' wait_for 10 no_records
rm $hooks/05-no
hook 05-no <<<$'#!/bin/sh\n[ $1 = bind ] || exit 4'
set_mark
claim
is $status 0 'one that fails at the restore'
ok '... keeps nothing from the host' wait_for 20 is_back $gpu2 bochs-drm
ok '... and the journal says which' wait_for 10 said_it 'after its restore the hook 05-no ended with status 4'
rm $hooks/05-no

# ---- those that misbehave ----
hook 20-bad <<-END
	#!/bin/bash
	[ \$1 = bind ] || exit 0
	(trap '' TERM; exec setsid sleep 3210) &
	disown
	exit 0
END
claim
is $status 0 'one that leaves a process with its output is not waited for'
ok '... and the process is ended' wait_for 10 eval '! pgrep -fx "sleep 3210"'
ok '... and its device is back' wait_for 20 is_back $gpu2 bochs-drm
hook 20-bad <<<$'#!/bin/sh\n[ $1 = restore ] || head -c 100M /dev/zero | tr "\\0" "\\n" | sed s/^/word/'
claim
like $status '^(0|69)$' 'one that prints without an end is granted or ended'
ok '... and its device is back' wait_for 60 is_back $gpu2 bochs-drm
ok '... and the broker serves' run_as alice gpubroker list
hook 20-bad <<<$'#!/bin/sh\n[ $1 = restore ] || kill -KILL $PPID'
refused alice 69 'the process that ran the hooks was ended' 'one that kills its parent' --gpu $gpu2
hook 20-bad <<<$'#!/bin/sh\n[ $1 = restore ] || kill -KILL $(systemctl show -P MainPID gpubroker-hooks)'
refused alice 69 'the process that ran the hooks was ended' 'one that kills the runner' --gpu $gpu2
ok '... which comes back' wait_for 20 has_runner
ok '... and the device is the host'"'"'s' wait_for 20 is_back $gpu2 bochs-drm
hook 20-bad <<<$'#!/bin/sh\ntrap "" TERM\n[ $1 = restore ] || while :; do sleep 1; done'
from=$SECONDS
refused alice 69 'the hook 20-bad took too long: all may take 30 s' 'one that does not end is ended' --gpu $gpu2
[ $((SECONDS - from)) -ge 30 ]
result $? '... after its time'
rm $hooks/20-bad

# ---- files that are no hooks ----
: >$log
hook 30-shared 777 <<<$'#!/bin/sh\necho shared >>/tmp/hooks.log'
hook 40-plain 644 <<<$'#!/bin/sh\necho plain >>/tmp/hooks.log'
hook 50-dot.sh <<<$'#!/bin/sh\necho dot >>/tmp/hooks.log'
hook 60-alice <<<$'#!/bin/sh\necho alice >>/tmp/hooks.log'
chown alice $hooks/60-alice
ln -s /dev/null $hooks/70-masked
ln -s /bin/true $hooks/80-link
claim
is $status 0 'a claim beside files that are no hooks'
wait_for 20 is_back $gpu2 bochs-drm
is "$(grep -vc note $log; grep -cE 'shared|plain|dot|alice' $log)" $'2\n0' '... runs none of them'
warned() {
	local said
	said=$(journal)
	for one in '30-shared: others than root may write to it' '40-plain: it is not executable' \
		'50-dot.sh: a hook.s name has only' '60-alice: it is not root.s' '80-link: it is a link'; do
		grep -qE "hooks.d/$one" <<<"$said" || return 1
	done
	! grep -q 70-masked <<<"$said"
}
ok '... and the journal says why, of each' wait_for 10 warned
rm $hooks/[3-8]0-*
: >$log
chmod 777 $hooks
set_mark
claim
is $status 0 'a directory that anybody may write to'
wait_for 20 is_back $gpu2 bochs-drm
is "$(cat $log)" '' '... has no hook that is run'
chmod 755 $hooks
ok '... until it is root'"'"'s alone' wait_for 20 said_it 'there are hooks: '

# ---- whoever is killed ----
hook 10-note <<-END
	#!/bin/sh
	echo "\$1 \$(basename "\$(readlink /sys/bus/pci/devices/$gpu2/driver)")" >>$log
	[ \$1 = restore ] || [ ! -e /tmp/slow ] || sleep 20
	[ \$1 = bind ] || [ ! -e /tmp/slow-restore ] || sleep 20
END
: >$log
: >/tmp/slow
run_as alice gpubroker run --gpu $gpu2 -- true >/tmp/hooks.out 2>&1 &
claimer=$!
wait_for 20 lines 1
old=$(systemctl show -P MainPID gpubroker)
kill -KILL "$old"
rm /tmp/slow
wait $claimer
ok 'the broker is killed while a hook runs: the device is the host'"'"'s' wait_for 40 is_back $gpu2 bochs-drm
is "$(tail -n 1 $log)" 'restore bochs-drm' '... and the hooks of the restore have run'
: >$log
: >/tmp/slow-restore
claim
wait_for 20 lines 2
is "$(is_free $gpu2 && echo free)" '' 'while the hooks of a restore run, the device is not free'
capture run_as alice gpubroker run --gpu $gpu2 -- true
is $status 75 '... and a claim is told to wait'
kill -KILL "$(systemctl show -P MainPID gpubroker)"
rm /tmp/slow-restore
ok 'the broker is killed then: the device is the host'"'"'s' wait_for 40 is_back $gpu2 bochs-drm
is "$(sort $log | uniq -c | tr -s ' ')" ' 1 bind bochs-drm
 2 restore bochs-drm' '... and they have run once more'

# ---- no runner ----
wait_for 20 has_runner
systemctl stop gpubroker-hooks.path gpubroker-hooks.service
refused alice 69 'the hooks that come first cannot run, since gpubroker-hooks.service is missing' \
	'without the runner nothing is taken' --gpu $gpu2
is "$(driver_of $gpu2)" bochs-drm '... and all is as it was'
ok '... and nothing is left' wait_for 40 no_records
systemctl restart gpubroker
ok 'the broker starts it again' wait_for 20 has_runner
wait_for 40 no_records

# ---- none any more ----
set_mark
rm $hooks/10-note
ok 'without hooks the runner ends' wait_for 20 eval '! has_runner'
ok '... and the broker knows' wait_for 20 said_it 'there are no hooks any more'
claim
is $status 0 '... and lends at once'
ok '... as before' wait_for 20 is_back $gpu2 bochs-drm
is "$(ls -A $hooks)" '' 'the directory is empty'
rm -f /tmp/hooks.*
done_testing
