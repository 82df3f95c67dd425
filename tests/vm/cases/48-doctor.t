#!/bin/bash
# A host that is broken in one way at a time: doctor names that, and what would help, and nothing else.
. ./lib.sh

dir=/etc/gpubroker/policy.d
# doctor USER [DEVICE]: leaves the checks that fail in $broken, and all that it says, on one line, in $text.
doctor() {
	local user=$1
	shift
	capture run_as "$user" gpubroker doctor "$@"
	broken=$(sed -nE 's/^FAIL  ([a-z]+): .*/\1/p' <<<"$stdout" | sort -u | tr '\n' ' ')
	text=$(tr -s ' \n' ' ' <<<"$stdout")
}

doctor alice $gpu
is "$broken" '' 'nothing fails on a host that is as it should be' || diag "$stdout"
is "$status" 0 '... and the exit status says so'
like "$stdout" 'PASS  iommu: the IOMMU is on, with [0-9]+ of [0-9]+ functions' '... the IOMMU is on'
like "$stdout" 'PASS  use: the host does not use it' '... the host does not use the card'
like "$stdout" 'PASS  rule: the policy allows you to claim it' '... and alice may have it'
like "$stdout" 'WARN  kvm: this host has no /dev/kvm' 'what is slow, but works, is a warning'
is "$(awk 'length > 80' <<<"$stdout")" '' 'no line is wider than 80 columns'
capture run_as alice gpubroker doctor --json
like "$stdout" '"check":"modules",' '--json has each check'
is "$(tr -d ' \n' <<<"$stdout" | grep -o '"result":"FAIL"')" '' '... and no failure either'

doctor bob $gpu
is "$broken" 'rule rules ' 'a device that the policy does not give is a failed rule, and so is that there is none for him'
like "$text" "policy add --user NAME $gpu" '... with the command that would give it'
doctor alice $boot_vga
is "$broken" 'use ' "the console's display is used by the host"
doctor alice $disk
like "$broken" 'use ' "the host's disk is used by it"
like "$text" "the host uses $disk: " '... and how'
doctor alice $groupless
like "$broken" 'group ' 'a function without a group cannot be lent'
doctor root
is "$broken" '' 'root has nothing to mend'
is "$(run_as alice gpubroker doctor 99:00.0 2>&1 >/dev/null)" \
	"gpubroker: there is no PCI function 99:00.0; 'gpubroker list --all' shows them" 'an address with nothing there is no result'

exec 7<>/dev/snd/controlC0 2>/dev/null || exec 7<"$(find /dev/dri -name 'card*' | sort | tail -n 1)"
for card in /sys/bus/pci/devices/*/drm/card* /sys/bus/pci/devices/*/sound/card*; do
	[ -e "$card" ] || continue
	address=${card#/sys/bus/pci/devices/} address=${address%%/*}
	[ "$(readlink -f /proc/$$/fd/7)" != "/dev/dri/${card##*/}" ] || opened=$address
done
if [ -n "${opened:-}" ]; then
	doctor root $opened
	like "$broken" 'use ' 'a card that a program has open is in use'
	like "$text" "pid $$ " '... by that program, for root'
fi
exec 7>&-

hold alice --gpu card
ok 'alice has the card' wait_for 20 is_leased $gpu
doctor carol $gpu
like "$text" 'WARN lease: alice has it now' 'a device that somebody has is a warning, with his name'
node=/dev/vfio/$(group_of $gpu)
chmod 0666 "$node"
doctor alice
is "$broken" 'nodes ' 'a node that everybody may open is named'
like "$text" "$node" '... by its path'
chmod 0600 "$node"
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'it goes back' wait_for 20 is_back $gpu bochs-drm

echo alow >$dir/48-doctor.policy
gpubroker policy reload >/dev/null
doctor alice
is "$broken" 'files policy ' 'a policy with a mistake is not in force'
like "$text" '1 mistake; an older policy is in force' '... and an older one is'
rm $dir/48-doctor.policy
mkdir /tmp/48-doctor
mv $dir/*.policy /tmp/48-doctor
gpubroker policy reload >/dev/null
doctor alice
is "$broken" 'policy ' 'an empty policy lets nobody claim anything'
mv /tmp/48-doctor/* $dir
: >$dir/48-closed.policy
chmod 0600 $dir/48-closed.policy
doctor root
like "$broken" 'files ' 'a file that the loader cannot read is a mistake, for root too'
rm $dir/48-closed.policy
gpubroker policy reload >/dev/null

groupadd -f doctorlab
usermod -aG doctorlab bob
capture setpriv --reuid bob --regid bob --clear-groups gpubroker doctor
text=$(tr -s ' \n' ' ' <<<"$stdout")
like "$text" 'WARN session: this session began before you were in the group doctorlab' 'a session without its new group is named'
gpasswd -d bob doctorlab >/dev/null
groupdel doctorlab

if rmmod vfio_iommu_type1 2>/dev/null; then
	doctor alice
	is "$broken" 'modules ' 'a module that is missing is named'
	like "$text" 'vfio_iommu_type1 is not loaded' '... by its name'
	modprobe vfio_iommu_type1
fi
systemctl stop gpubroker.socket gpubroker.service 2>/dev/null
doctor alice
is "$broken" 'broker ' 'a broker that does not run is named'
like "$text" 'systemctl enable --now gpubroker.socket gpubroker.service' '... with the command that starts it'
systemctl start gpubroker.socket gpubroker.service
# As somebody does who uninstalls it, by the names that README has, and installs it again.
systemctl disable --now gpubroker.service gpubroker.socket 2>/dev/null
is "$(systemctl is-active gpubroker-helpers.socket)" inactive 'the socket for the helpers goes with that for users'
systemctl enable --now gpubroker.socket gpubroker.service 2>/dev/null
doctor alice $gpu
is "$broken" '' 'all is well again'
done_testing
