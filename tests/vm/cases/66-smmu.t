#!/bin/bash
# What is different on 64-bit ARM, as gpubrokerd(8) has it: the doorbell of interrupts, which is mapped into what a device
# sees, and what a guest whose memory covers it gets.
. ./lib.sh

[ "$HOSTTYPE" = aarch64 ] || skip_all 'this host has no SMMU'
like "$(cat "/sys/kernel/iommu_groups/$(group_of $gpu2)/reserved_regions")" '^0x0*8000000 0x0*80fffff msi' \
	'the doorbell is where the manual says'
capture run_as alice gpubroker doctor $gpu2
is $status 0 'doctor has nothing to find fault with' || diag "$stdout"
like "$stdout" 'PASS  iommu: the IOMMU is on' '... since the SMMU is on'

# A PC's memory, which has no gap there.
vm alice large --gpu 02:00.0 -- -m 256 -device vfio-pci,host=02:00.0
wait $vm_pid
isnt $? 0 'a guest whose memory covers it gets no device'
like "$(cat /tmp/large.log)" 'vfio' '... which QEMU says' || diag "$(cat /tmp/large.log)"
diag "$(cat /tmp/large.log)"
ok '... and the host has it back' wait_for 30 is_back $gpu2 bochs-drm
vm alice small --gpu 02:00.0 -- -m 64 -device vfio-pci,host=02:00.0
ok 'one whose memory does not cover it has it' vm_up small
vm_end small
ok '... and the host has it back, too' wait_for 30 is_back $gpu2 bochs-drm
done_testing
