#!/bin/bash
# One claim from end to end: alice's unmodified QEMU gets the GPU and its audio
# function, others are told who has it, and the host gets both back.
. ./lib.sh

# field ADDRESS KEY: what `list` says of a device, as bob sees it.
field() {
	run_as bob gpubroker list --all --json |
		python3 -c 'import json, sys; print(next(d[sys.argv[2]] for d in json.load(sys.stdin)
			if d["address"] == sys.argv[1]))' "$1" "$2"
}
is_status() { [ "$(field "$1" status)" = "$2" ]; }

is "$(field $gpu status)" available 'an idle GPU is listed as available'
lacks 'the boot VGA is listed as that' boot-vga ||
	is "$(field $boot_vga status)" boot-vga 'the boot VGA is listed as that'
lacks 'a GPU without a group is listed as not viable' second-bridge ||
	is "$(field $groupless status)" not-viable 'a GPU without a group is listed as not viable'
is "$(field $gpu driver)" bochs-drm 'the list names the host driver'
is "$(field $gpu iommu_group)" "$(group_of $gpu)" 'the list has the IOMMU group'
is "$(field $gpu vendor):$(field $gpu device)" 1234:1111 'the list has the ids'
is "$(field $gpu allowed)" False 'the list tells bob that he may not have it'
like "$(run_as alice gpubroker list)" "^PCI ADDRESS .*$gpu .* bochs-drm .* available" \
	'the table shows the GPU'
unlike "$(run_as alice gpubroker list)" "$gpu_audio" 'the table shows GPUs only'

driver_before=$(driver_of $gpu)/$(driver_of $gpu_audio)
vm alice claim --gpu 01:00.0 -- -m 64 -device vfio-pci,host=01:00.0 -device vfio-pci,host=01:00.1
ok "alice's unmodified QEMU starts with the GPU" vm_up claim
like "$(vm_devices claim)" 1234:1111 'the VM has the GPU with its real id'
like "$(vm_devices claim)" 8086:2668 'the VM has the audio function with its real id'
is "$(driver_of $gpu)/$(driver_of $gpu_audio)" vfio-pci/vfio-pci 'both functions are on vfio-pci'
is "$(stat -c '%U:%G %a' "/dev/vfio/$(group_of $gpu)")" 'root:root 600' \
	'the group node still belongs to root alone'
is "$(cat /proc/$vm_pid/comm)" qemu-system-x86 'COMMAND runs under the pid that was started'

is "$(field $gpu status)" leased 'the list says leased'
is "$(field $gpu_audio status)" leased '... of the audio function too'
capture run_as alice gpubroker run --gpu $gpu -- true
is $status 75 'a second claim fails with 75'
like "$stderr" "^gpubroker: $gpu is leased to alice \(pid $vm_pid, lease [0-9]+\)" \
	'... and names the holder'
is "$(printf '%s\n' "$stderr" | wc -l)" 1 '... in one line'
capture run_as alice gpubroker run --gpu $gpu_audio -- true
is $status 77 'its companion is refused by policy to who has no rule for it'
leases=$(run_as bob gpubroker leases --json)
like "$leases" '"uid": ?1000' 'leases names the uid'
like "$leases" "\"$gpu\",? *
? *\"$gpu_audio\"" 'leases names both functions'
like "$leases" '"state": ?"leased"' 'leases has the state'
like "$(run_as bob gpubroker leases)" "alice +$vm_pid .*leased .* $gpu $gpu_audio" \
	'the table of leases shows them'
is "$(ls /run/gpubroker/leases | wc -l)" 1 'the lease is recorded'

vm_end claim
is $? 0 "the exit status is QEMU's own"
ok 'the GPU is back on bochs-drm' wait_for 20 is_back $gpu bochs-drm
ok 'the audio function is back on snd_hda_intel' wait_for 20 is_back $gpu_audio snd_hda_intel
is "$(driver_of $gpu)/$(driver_of $gpu_audio)" "$driver_before" 'both have the drivers they had'
is "$(override_of $gpu)$(override_of $gpu_audio)" '' 'both overrides are empty'
ok 'the list says available again' wait_for 10 is_status $gpu available
is "$(ls /run/gpubroker/leases)" '' 'no record is left'
is "$(run_as bob gpubroker leases --json | tr -d ' \n')" '[]' 'no lease is left'

# Progress is for terminals only.
unlike "$(cat /tmp/claim.log)" binding 'run is quiet where there is no terminal'
capture run_as alice script -qec "gpubroker run --gpu 01:00.0 -- true" /dev/null
like "$stdout" "${gpu_audio#0000:}: binding 1 of 2 .*${gpu#0000:}: binding 2 of 2 .*opening IOMMU group" \
	'run shows each step on a terminal'
ok 'the GPU comes back from a command that never opened it' wait_for 20 is_back $gpu bochs-drm
ok '... and the audio function' wait_for 20 is_back $gpu_audio snd_hda_intel

# COMMAND's ends are its own.
capture run_as alice gpubroker run --gpu 02:00.0 -- sh -c 'exit 42'
is $status 42 "COMMAND's exit status comes through"
wait_for 20 is_back $gpu2 bochs-drm
capture run_as alice bash -c 'gpubroker run --gpu 02:00.0 -- sh -c "kill -USR1 \$\$"; echo $?'
is "$stdout" $((128 + 10)) 'death by a signal comes through'
ok 'the second GPU is back' wait_for 20 is_back $gpu2 bochs-drm
capture run_as alice gpubroker run --gpu 02:00.0 -- /nowhere/qemu
is $status 127 'a command that does not exist gives 127'
is "$(driver_of $gpu2)" bochs-drm '... and takes nothing from the host'

# A script that starts its VMM twice has one lease.
cat >/tmp/twice <<-'END'
	#!/bin/sh
	for i in 1 2; do
		timeout -s KILL 20 qemu-system-x86_64 -nodefaults -display none -S -accel tcg -m 64 \
			-device vfio-pci,host=02:00.0 -qmp stdio <<-'QMP' | grep -c '"return"'
			{"execute":"qmp_capabilities"}
			{"execute":"query-pci"}
			{"execute":"quit"}
		QMP
	done
END
chmod 755 /tmp/twice
capture run_as alice gpubroker run --gpu 02:00.0 -- /tmp/twice
is "$(echo $stdout)" '3 3' 'a script may start its VMM twice under one lease'
[ "$stdout" = "3
3" ] || diag "$stderr"
ok 'the second GPU is back after the script' wait_for 20 is_back $gpu2 bochs-drm
rm -f /tmp/twice
done_testing
