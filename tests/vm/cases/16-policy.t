#!/bin/bash
# The policy in force: limits, times, drivers and attributes act; a reload takes a good
# policy and refuses a bad one whole; check and explain say what the daemon does.
. ./lib.sh

dir=/etc/gpubroker/policy.d
saved=/tmp/policy.saved
mkdir -p $saved
mv $dir/*.policy $saved/
# loaded NAME: the daemon has said what came of the policy, which said() prints.
loaded() { reload; result $? "$1"; }
core=$(systemctl show -P MainPID gpubroker)
# A third GPU, whose group has another function where the kernel makes one.
kernel_has bridge-groups && third=$multi_gpu || third=$prep_twin

cat >$dir/10-lab.policy <<-END
	device left path 10.0/00.0
	device right path 11.0/00.0
	allow user alice claim left for 15s
	allow user alice claim right limit 1
	allow user alice claim address $third limit 1
	allow user alice claim address $multi_net
	allow group render claim class display driver bochs-drm subsystem-vendor 1af4
	allow user carol claim right vfio-driver nothere_vfio_pci
END
loaded 'a new policy is taken by a reload'
is "$(systemctl show -P MainPID gpubroker)" "$core" '... by the same process'
like "$(said)" 'loaded again: 8 rules' '... and the journal counts its rules'

# Paths tell the cards apart; limits count by user and rule.
run_as alice gpubroker run --gpu right -- sleep 1000 &
holder=$!
ok 'a card named by its path is lent' wait_for 20 is_leased $gpu2
is "$(driver_of $gpu)" bochs-drm '... and its identical twin is not'
capture run_as alice gpubroker run --gpu right -- true
is $status 75 'a second lease by a rule of limit 1 is refused'
like "$stderr" "1 lease already.* \($dir/10-lab.policy:4\)" '... and the answer names limit and rule'
capture run_as alice gpubroker run --gpu $third -- true
is $status 0 "another rule's limit is another's"
wait_for 20 is_back $third bochs-drm

# A mistake: refused whole, what is in force stays, the leases too.
echo 'allow user bob claim anny thing' >$dir/20-broken.policy
loaded 'a policy with a mistake is answered'
like "$(said)" '20-broken.policy:1:[0-9]+: ' '... with file, line and column in the journal'
like "$(said)" 'the policy in force stays' '... and the policy in force stays'
is "$(driver_of $gpu2)" vfio-pci '... and the lease goes on'
capture gpubroker policy check
is $status 65 'policy check fails on it'
like "$stdout" '20-broken.policy:1:[0-9]+: error: .*
    allow user bob claim anny thing
 +\^' '... with the line and a caret'
rm $dir/20-broken.policy

# The command waits for the verdict, and fails with the finding.
capture gpubroker policy reload
is $status 0 'policy reload takes a good policy'
like "$stdout" 'in force: 8 statements in 1 file' '... and says so'
echo 'allow user bob claim anny thing' >$dir/20-broken.policy
capture gpubroker policy reload
is $status 65 'policy reload fails on a mistake'
like "$stdout" '20-broken.policy:1:[0-9]+: error: ' '... with the line'
like "$stdout" 'not loaded; the one of .* stays in force' '... and says which policy is in force'
rm $dir/20-broken.policy
capture run_as alice gpubroker policy reload
is $status 77 'only root may reload'
capture gpubroker policy add --user bob "$gpu2" --memlock 1G
is $status 0 'policy add lets bob have a device'
is "$(cat $dir/50-local.policy)" "allow user bob claim address $gpu2 memlock 1G" '... by one line'
like "$stdout" 'in force: 9 statements in 2 files' '... that is in force at once, by a daemon with the capability'
like "$(gpubroker policy explain --user bob "$gpu2")" 'allowed for bob' '... as explain has it'
capture gpubroker policy add --user bob "$gpu2" --memlock 1Q
is $status 65 'policy add refuses a rule with a mistake'
is "$(cat $dir/50-local.policy)" "allow user bob claim address $gpu2 memlock 1G" '... and leaves the file as it was'
printf '#!/bin/sh\necho alow >>"$1"\n' >/tmp/editor
chmod 0755 /tmp/editor
capture env VISUAL=/tmp/editor gpubroker policy edit 50-local </dev/null
is $status 65 'policy edit refuses a mistake'
is "$(cat $dir/50-local.policy)" "allow user bob claim address $gpu2 memlock 1G" '... and leaves the file as it was'
echo "device mine address $gpu2" >$dir/50-local.policy
echo 'allow user bob claim mine' >$dir/60-uses.policy
printf '#!/bin/sh\n: >"$1"\n' >/tmp/editor
capture env VISUAL=/tmp/editor gpubroker policy edit 50-local </dev/null
is $status 65 'policy edit refuses what breaks another file'
like "$stdout" '60-uses.policy:1:[0-9]+: error' '... and shows its line'
is "$(cat $dir/50-local.policy)" "device mine address $gpu2" '... and leaves the file as it was'
rm $dir/60-uses.policy
cat >/tmp/editor <<'END'
#!/bin/sh
kill -INT $PPID
gpubroker policy add --user bob any >/tmp/editor.out 2>&1
echo $? >>/tmp/editor.out
END
capture env VISUAL=/tmp/editor gpubroker policy edit 50-local
is $status 0 'a ^C in the editor does not end policy edit'
like "$(cat /tmp/editor.out)" $'somebody else is changing the policy .*\n73' '... and nobody else changes the policy meanwhile'
printf '#!/bin/sh\nrm "$1"\nln -s /etc/shadow "$1"\n' >/tmp/editor
capture env VISUAL=/tmp/editor gpubroker policy edit 50-local
is $status 70 'a link that the editor leaves is not installed'
is "$(stat -c %a /etc/shadow)" 640 '... and what it leads to keeps its mode'
printf '#!/bin/sh\n: >"$1"\n' >/tmp/editor
umask 077
capture env VISUAL=/tmp/editor gpubroker policy edit 50-local
umask 022
is $status 0 'policy edit takes the rule away'
like "$stdout" 'in force: 8 statements' '... at once'
is "$(stat -c %a:%U $dir/50-local.policy)" 644:root '... and the loader can read the file, whatever the umask'
ok '... nothing else is left' test -z "$(ls -d /etc/gpubroker/edit.* 2>/dev/null)"
rm $dir/50-local.policy
loaded 'the policy is as before'

# A file that root can read, and the loader not: what check says is what the daemon does.
echo 'allow user bob claim right' >$dir/20-closed.policy
chmod 0600 $dir/20-closed.policy
capture gpubroker policy check
is $status 65 'policy check as root fails on a file that the loader cannot read'
like "$stdout" '20-closed.policy: error: .*chmod a\+r' '... and says what helps'
loaded 'the daemon answers it'
like "$(said)" 'the policy in force stays' '... and does not take it either'
chmod 0644 $dir/20-closed.policy
chmod 0700 $dir
capture gpubroker policy check
is $status 65 'policy check as root fails on a directory that the loader cannot read'
chmod 0755 $dir
mv $dir/20-closed.policy $dir/20-closed.conf
capture gpubroker policy check
is $status 0 'a file with another name is not read'
like "$stdout" '20-closed.conf: warning: is not read' '... and policy check says so'
rm $dir/20-closed.conf

# A policy that would not grant the lease any more: it goes on, marked.
unlike "$(run_as alice gpubroker leases)" 'would not grant' 'a lease that the policy grants is not marked'
sed -i '/claim right limit/d' $dir/10-lab.policy
loaded 'the rule of a lease is taken away'
is "$(driver_of $gpu2)" vfio-pci 'the lease goes on'
like "$(run_as bob gpubroker leases)" $'\n       the policy in force would not grant this lease' '... and is marked'
like "$(run_as bob gpubroker leases --json | tr -d ' \n')" '"allowed":false' '... in JSON too'
systemctl restart gpubroker
core=$(systemctl show -P MainPID gpubroker)
like "$(run_as bob gpubroker leases --json | tr -d ' \n')" \
	"\"rule\":\"$dir/10-lab.policy:4\",\"allowed\":false" '... and after a restart'
kill $holder
wait $holder
ok 'the card is back' wait_for 20 is_back $gpu2 bochs-drm

# A driver that is not there.
capture run_as carol gpubroker run --gpu right -- true
is $status 71 'a rule with a VFIO driver that is not loaded fails'
like "$stderr" 'the VFIO driver that its rule names is not loaded' '... and the answer says so'
is "$(driver_of $gpu2)" bochs-drm '... and nothing has changed'

# `for`: a holder that lets go of the device, though not of the group, and one that does not.
run_as alice gpubroker run --gpu left -- python3 -c \
	"import os, time; os.open('/dev/vfio/$(group_of $gpu)', os.O_RDWR); time.sleep(300)" &
holder=$!
ok 'a lease for 15 seconds begins' wait_for 20 is_leased $gpu
like "$(run_as bob gpubroker leases --json)" '"expires": ?[0-9]' '... and leases tells when it expires'
ok '... and ends after that, whoever has the group open' wait_for 35 is_back $gpu bochs-drm
ok '... with the audio function' wait_for 20 is_back $gpu_audio snd_hda_intel
ok '... while its command still runs' kill $holder
wait $holder
like "$(said)" 'outcome=expired' \
	'the journal says that it expired'
vm alice expire --gpu left -- -m 64 -device vfio-pci,host=01:00.0 -device vfio-pci,host=01:00.1
vm_up expire || fail 'the VM starts'
asked() { run_as bob gpubroker leases --json | grep -q "\"asked\""; }
ok 'a VM that does not give its device back when the time is up is asked for it' wait_for 40 asked
like "$(run_as bob gpubroker leases)" "asked .*$gpu.*
 +asked back for [0-9]+s: $gpu: waits for its holder" '... and leases says what it waits for'
capture run_as alice gpubroker run --gpu left -- true
is $status 75 '... and is not lent'
like "$stderr" "$gpu is asked back from alice" '... and the answer says why'
capture run_as carol gpubroker list
is $status 0 '... while others are served'
kill -KILL $vm_pid
wait $vm_pid 2>/dev/null
ok 'it settles by itself when the VM is gone' wait_for 30 is_back $gpu bochs-drm
ok '... with the audio function' wait_for 20 is_back $gpu_audio snd_hda_intel
ok '... record and all' wait_for 10 no_records

# explain agrees with the daemon, as anybody, without a daemon, and on a saved list.
run_as bob gpubroker list --all --json >/tmp/devices.json
explain() { run_as bob gpubroker policy explain "$@"; }
capture explain --user alice $gpu
is $status 0 'explain says what the daemon allows'
like "$stdout" "$gpu: allowed for alice
  rule      $dir/10-lab.policy:3
.*for       15s
.*$gpu_audio  comes along, the same slot
.*now       could be lent" '... by which rule, for how long, with what'
with_daemon=$stdout
capture explain --user bob $gpu
is $status 77 'explain says what the daemon refuses'
like "$stdout" "no rule allows $gpu" '... and why'
if ! lacks 'explain says by which rule a function of another slot comes along' bridge-groups; then
	capture explain --user alice $multi_gpu
	like "$stdout" "$multi_net  comes along by $dir/10-lab.policy:5" \
		'explain says by which rule a function of another slot comes along'
fi
capture explain --user alice $boot_vga
is $status 77 'explain refuses the boot VGA to whom no rule allows it'
systemctl stop gpubroker.service gpubroker.socket
capture explain --user alice $gpu
is "$stdout" "$with_daemon" 'explain says the same without a daemon'
capture explain --user alice --devices /tmp/devices.json $gpu
is "$stdout" "$with_daemon" '... and on a saved device list'
capture explain --user alice --devices /etc/passwd $gpu
is $status 65 'a device list that is no JSON is refused'
capture explain --user nobodyatall $gpu
is $status 67 'a user that does not exist is said'
capture run_as bob gpubroker policy check
is $status 0 'policy check runs as anybody, without a daemon'

# Files that could have been written by others are not taken.
chmod g+w $dir/10-lab.policy
capture gpubrokerd --check
isnt $status 0 'a policy file that others can write is refused'
like "$stderr" 'can be written by others than root; chmod go-w it' '... and why'
chmod g-w $dir/10-lab.policy
chown bob $dir/10-lab.policy
capture gpubrokerd --check
like "$stderr" 'does not belong to root' "a policy file that is not root's is refused"
chown root $dir/10-lab.policy
ln -s /etc/passwd $dir/30-link.policy
capture gpubrokerd --check
like "$stderr" '30-link.policy: is a symbolic link' 'a policy file that is a link is refused'
ln -sf /dev/null $dir/30-link.policy
capture gpubrokerd --check
is $status 0 'a link to /dev/null masks a namesake'
rm $dir/*.policy
mv $saved/*.policy $dir/
systemctl start gpubroker.socket gpubroker.service
ok 'the daemon is back with the old policy' systemctl is-active gpubroker
done_testing
