#!/bin/bash
# doctor reads only; and what it writes into a snapshot says nothing of users, and answers elsewhere as here.
. ./lib.sh

file=/tmp/50-snapshot.json
# All that somebody could change for a device: drivers, overrides, nodes, settings, /etc, modules.
look() {
	local f
	for f in /sys/bus/pci/devices/*; do
		echo "$f $(link_name "$f/driver") $(<"$f/driver_override") $(<"$f/power/control") $(<"$f/enable") $(cat "$f/reset_method" 2>&1)"
	done
	find /dev/vfio /dev/dri /dev/snd /etc /var/lib/gpubroker /run/gpubroker -printf '%p %m %U %G %l %T@ %s\n' 2>/dev/null | sort
	sysctl -a 2>/dev/null | grep -vE '^(kernel\.(random|ns_last_pid|pty|sched)|fs\.(dentry|inode|file|aio|quota)|net\.netfilter|kernel\.perf)'
	cut -d' ' -f1 /proc/modules | sort
	cat /sys/module/vfio*/parameters/* /sys/kernel/mm/hugepages/*/nr_hugepages
}

hold alice --gpu card
ok 'alice has the card' wait_for 20 is_leased $gpu
look >/tmp/50-before
for user in root alice carol; do
	for device in '' $gpu $gpu2 $boot_vga $groupless; do
		run_as $user gpubroker doctor $device --memory 1G >/dev/null 2>&1
	done
done
rm -f $file
gpubroker doctor --snapshot $file >/tmp/50-said
look >/tmp/50-after
is "$(diff /tmp/50-before /tmp/50-after)" '' 'doctor has changed nothing on the host'

like "$(</tmp/50-said)" "$file is written. It has no serial numbers" 'a snapshot is written'
ok '... which is JSON' python3 -c "import json; json.load(open('$file'))"
is "$(grep -nwE 'alice|bob|carol|root|serial|scratch' $file | grep -v '"root":')" '' '... without users and serial numbers'
is "$(grep -nw "$(uname -n)" $file)" '' "... and without the host's name"
like "$(<$file)" '"holder":"another user"' '... who has a card is another user'
ok 'carol writes one, too' run_as carol gpubroker doctor --snapshot /tmp/50-carol.json
is "$(stat -c %U /tmp/50-carol.json)" carol '... of her own'
capture run_as carol gpubroker doctor --snapshot $file
is "$status" 73 "... and not over root's"

# It answers as the host does. The lines of users differ, and those of the clock do not exist.
same() {
	local live saved
	live=$(run_as carol gpubroker doctor "$1" | sed -E 's/alice has it|another user has it/somebody has it/')
	saved=$(gpubroker doctor --from /tmp/50-carol.json "$1" | sed 1,2d | sed -E 's/another user has it/somebody has it/')
	is "$(diff <(tr -s ' \n' ' ' <<<"$live") <(tr -s ' \n' ' ' <<<"$saved"))" '' "doctor of a snapshot says of $1 what doctor says"
}
for device in $gpu $gpu2 $boot_vga $groupless $multi_gpu; do same $device; done
capture gpubroker list --from $file
is "$status" 0 'list answers from it'
like "$(tr -s ' ' <<<"$stdout")" "$gpu 1234:1111 vfio-pci [0-9]+ leased, another user" '... and says which card is lent'
like "$(tr -s ' ' <<<"$stdout")" "$boot_vga .* the host's console" '... which shows the console'
like "$(tr -s ' ' <<<"$stdout")" "$groupless .* no IOMMU group" '... and which has no group'
addresses() { sed -nE 's/^ *"address":"(.*)",/\1/p'; }
is "$(gpubroker list --from $file --json | addresses)" "$(gpubroker list --json | addresses)" '... the same as list'
for device in $gpu2 $boot_vga $groupless $disk; do
	live=$(gpubroker policy explain --user carol $device)
	saved=$(gpubroker policy explain --devices $file --user carol $device)
	is "$saved" "$live" "explain of a snapshot says of $device what explain says"
done

kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'it goes back' wait_for 20 is_back $gpu bochs-drm

# Memory.
doctor() {
	capture "$@"
	text=$(tr -s ' \n' ' ' <<<"$stdout")
}
MEMLOCK=8M doctor run_as alice gpubroker doctor $gpu2
like "$text" 'WARN memlock: a VM with it may have at most 8M, which your session lets you lock' 'a small limit is a warning'
MEMLOCK=8M doctor run_as alice gpubroker doctor $gpu2 --memory 1G
like "$text" "FAIL memlock: you may lock 8M, and a VM of 1G .*policy add --user NAME $gpu2 --memlock 2G" '... and fails for a VM that is larger'
doctor run_as alice gpubroker doctor $gpu2 --memory 1G
like "$text" 'PASS memlock' '... but not without a limit'
doctor gpubroker doctor --memory 640G
like "$text" 'FAIL memory: a VM of 640G does not fit into the host' 'a VM larger than the host is named'
doctor systemd-run -q --pipe --wait -p MemoryMax=300M gpubroker doctor --memory 512M
like "$text" 'FAIL session: this session may have only 300M' "the session's limit is named"
echo 4 >/proc/sys/vm/nr_hugepages
doctor gpubroker doctor --memory 64M
like "$text" 'WARN hugepages: 4 of 4 hugepages of 2M are free, 8M: a VM of 64M .*by 28,' 'hugepages are counted against the VM'
echo 0 >/proc/sys/vm/nr_hugepages
mkdir -p /usr/sbin /run/libvirt
: >/usr/sbin/virtqemud
: >/run/libvirt/virtqemud-sock
doctor gpubroker doctor
like "$text" "WARN libvirt: the system's libvirt does not ask the broker" 'a libvirt beside the broker is named'
rm -r /usr/sbin/virtqemud /run/libvirt
rm -f $file /tmp/50-*
done_testing
