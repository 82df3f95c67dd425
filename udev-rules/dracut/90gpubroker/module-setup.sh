#!/bin/bash
# SPDX-License-Identifier: MIT
# A dracut module that puts prepared devices on VFIO before the initramfs loads a host driver. dracut
# includes it only if a file in /etc/dracut.conf.d names it:
#
#	add_dracutmodules+=" gpubroker "
#
# It copies the udev rules of `gpubroker policy install` and the modules that they name, and has udev
# apply them before its coldplug. It must never keep dracut from building an initramfs: it reports a
# fault with its remedy, and the host boots with its own drivers.

gpubroker_rules=/etc/udev/rules.d/69-gpubroker-prepare.rules

# 255: dracut includes the module only if it is named.
check() {
	return 255
}

depends() {
	echo udev-rules
}

# Warns about missing or stale rules. Compares them with the rules that the current policy gives.
gpubroker_look() {
	local tmp said renew="'gpubroker policy install' renews it, then 'dracut -f'"

	tmp=$(mktemp -d) || return
	if ! command -v gpubroker >/dev/null; then
		dwarn "gpubroker: there is no gpubroker command to ask whether $gpubroker_rules is stale"
	elif ! said=$(gpubroker policy install --keep --root "$tmp" 2>&1); then
		dwarn "gpubroker: whether $gpubroker_rules is stale cannot be told: $said"
	elif [[ ! -e $gpubroker_rules && -e $tmp$gpubroker_rules ]]; then
		dwarn "gpubroker: $gpubroker_rules is not there, so that nothing is prepared: $renew"
	elif [[ ! -e $gpubroker_rules ]]; then
		dwarn "gpubroker: the policy prepares nothing, so that the initramfs has nothing to prepare"
	elif ! cmp -s "$tmp$gpubroker_rules" "$gpubroker_rules"; then
		dwarn "gpubroker: $gpubroker_rules is stale and is copied as it is: $renew"
	fi
	rm -rf "$tmp"
}

# Prints the drivers that the rules set.
gpubroker_drivers() {
	sed -n 's/^[^#]*DRIVER}="\([0-9A-Za-z_-]\{1,\}\)".*/\1/p' "$gpubroker_rules" | sort -u
}

installkernel() {
	local driver

	[[ -e $gpubroker_rules ]] || return 0
	# hostonly= : otherwise dracut installs only modules that are loaded now.
	hostonly='' instmods -c vfio-pci || dwarn "gpubroker: the kernel has no vfio-pci, so that nothing is prepared"
	for driver in $(gpubroker_drivers); do
		hostonly='' instmods -s "$driver"
	done
	return 0
}

install() {
	gpubroker_look
	[[ -e $gpubroker_rules ]] || return 0
	inst_simple "$gpubroker_rules"
	inst_multiple cp udevadm
	# shellcheck disable=SC2154 # moddir is dracut's
	inst_hook pre-trigger 10 "$moddir/gpubroker-prepare.sh"
}
