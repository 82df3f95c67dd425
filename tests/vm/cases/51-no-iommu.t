#!/bin/bash
# A host whose firmware offers no IOMMU: doctor does not send its user to the boot loader.
# machine: no-iommu
. ./lib.sh

is "$(ls /sys/firmware/acpi/tables/DMAR 2>/dev/null)" '' 'the firmware has no table of an IOMMU'
capture run_as alice gpubroker doctor
text=$(tr -s ' \n' ' ' <<<"$stdout")
is "$(sed -nE 's/^FAIL  ([a-z]+): .*/\1/p' <<<"$stdout")" iommu 'the IOMMU is what fails'
like "$text" 'this host is a VM without an IOMMU, so it can lend nothing' '... since this machine has none'
like "$text" '-device intel-iommu,intremap=on' '... with what gives it one'
unlike "$text" 'intel_iommu=|grub|reboot' "... and nothing about the kernel's command line"
refused alice 72 'IOMMU' 'a claim is refused for it' --gpu $gpu
done_testing
