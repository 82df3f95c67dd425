#!/bin/sh
# SPDX-License-Identifier: MIT
# dracut sources this file inside the initramfs, after udev has started and before any trigger. It has
# udev prepare GPUs for VMs before udev loads the first driver. It must never exit: the boot goes on
# after it.

# udev handles devices in parallel: the event of one card may load the driver that then binds all
# cards of its kind. The action is `change` and not `add`, because udev's own rules load no module at
# a `change`.
udevadm trigger --action=change --subsystem-match=pci --settle
# gpubrokerd compares this copy of the applied rules with the policy.
cp /etc/udev/rules.d/69-gpubroker-prepare.rules /run/gpubroker-initramfs.rules
