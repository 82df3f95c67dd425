#!/bin/bash
# A host whose kernel was told to leave its IOMMU off: doctor says so, and how that is undone with this boot loader.
# kernel: intel_iommu=off
. ./lib.sh

doctor() {
	capture run_as alice gpubroker doctor "$@"
	broken=$(sed -nE 's/^FAIL  ([a-z]+): .*/\1/p' <<<"$stdout" | sort -u | tr '\n' ' ')
	text=$(tr -s ' \n' ' ' <<<"$stdout")
}

doctor
is "$broken" 'iommu ' 'the IOMMU is what fails' || diag "$stdout"
is "$status" 1 '... and the exit status says so'
like "$text" "the kernel's command line switches the IOMMU off \('intel_iommu=off'\)" '... by the word that switches it off'
like "$text" "Take 'intel_iommu=off' out of the kernel's command line in your boot loader's" '... which is to go'
is "$(awk 'length > 80' <<<"$stdout")" '' 'no line is wider than 80 columns'
doctor $gpu
is "$broken" 'group iommu ' 'a device has no group, so cannot be lent'

# Boot loaders, by what they leave.
: >/etc/default/grub
doctor
like "$text" "out of GRUB_CMDLINE_LINUX in /etc/default/grub, run as root 'grub-mkconfig -o /boot/grub/grub.cfg'" "grub's place is named"
mkdir -p /boot/grub2
doctor
like "$text" "run as root 'grub2-mkconfig -o /boot/grub2/grub.cfg'" "... SUSE's"
rmdir /boot/grub2
ln -s /bin/true /usr/sbin/grubby
doctor
like "$text" "As root: 'grubby --update-kernel=ALL --remove-args=intel_iommu=off', and reboot" "... Fedora's"
rm /usr/sbin/grubby
ln -s /bin/true /usr/sbin/update-grub
doctor
like "$text" "run as root 'update-grub', and reboot" "... and Debian's"
rm /usr/sbin/update-grub /etc/default/grub
echo quiet >/etc/kernel/cmdline
doctor
like "$text" "out of /etc/kernel/cmdline, run as root 'kernel-install add" "systemd-boot's place is named"
rm /etc/kernel/cmdline
echo 'kernel_cmdline="quiet"' >/tmp/51.conf
mkdir -p /etc/dracut.conf.d
mv /tmp/51.conf /etc/dracut.conf.d/
doctor
like "$text" "out of kernel_cmdline in /etc/dracut.conf.d, run as root 'dracut --force" "dracut's place is named"
rm /etc/dracut.conf.d/51.conf

refused alice 72 'IOMMU' 'a claim is refused for it' --gpu $gpu
gpubroker doctor --snapshot /tmp/51.json >/dev/null
is "$(gpubroker doctor --from /tmp/51.json | grep -o "('intel_iommu=off')")" "('intel_iommu=off')" 'a snapshot says the same'
like "$(grep '"command_line"' /tmp/51.json)" 'intel_iommu=on iommu=pt .*intel_iommu=off"' '... with the words about the IOMMU'
unlike "$(grep '"command_line"' /tmp/51.json)" 'ttyS0|panic|quiet|random' '... and no others'
rm /tmp/51.json
done_testing
