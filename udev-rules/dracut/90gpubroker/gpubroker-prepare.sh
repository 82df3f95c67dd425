#!/bin/sh
# SPDX-License-Identifier: MIT
# Sourced by dracut inside the initramfs, when udev runs and nothing was triggered yet: has udev
# prepare GPUs for VMs before it loads the first driver. Must never exit: the boot goes on after it.

# udev handles devices in parallel: the event of one card may load the driver that then takes all
# cards of its kind. Not `add`: at a `change`, udev's own rules load no module.
udevadm trigger --action=change --subsystem-match=pci --settle
# What was applied, for gpubrokerd to compare with the policy.
cp /etc/udev/rules.d/69-gpubroker-prepare.rules /run/gpubroker-initramfs.rules
