#!/bin/bash
# A host whose IOMMU remaps no interrupts: doctor names the word of the command line, and says what root has allowed.
# kernel: intremap=off
. ./lib.sh

doctor() {
	capture run_as alice gpubroker doctor "$@"
	broken=$(sed -nE 's/^FAIL  ([a-z]+): .*/\1/p' <<<"$stdout" | sort -u | tr '\n' ' ')
	text=$(tr -s ' \n' ' ' <<<"$stdout")
}
unsafe=/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts

doctor
is "$broken" 'interrupts ' 'interrupts are what fails' || diag "$stdout"
like "$text" 'PASS iommu: the IOMMU is on' '... for the IOMMU is on'
like "$text" "not remap interrupts \('intremap=off'\), so the kernel attaches no device" '... by the word that switches it off'
like "$text" "Take 'intremap=off' out of" '... which is to go'
unlike "$text" 'intel_iommu' '... and the IOMMU is not to be switched on'
refused alice 72 'interrupts' 'a claim is refused for it' --gpu $gpu

echo Y >$unsafe
doctor
is "$broken" '' 'what root allows does not fail'
like "$text" 'WARN interrupts: interrupts are not remapped, and root allows that' '... and is a warning'
echo N >$unsafe
done_testing
