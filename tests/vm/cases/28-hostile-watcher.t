#!/bin/bash
# A watcher that sends wrong, huge and contradictory records to the real core: it ends nothing but itself, lends
# nothing that sysfs does not support, and comes back.
. ./lib.sh
. ./hostile.sh

# tests/unit/brokerd/devices-test.c has more of them, record by record.
ends_itself watcher:long watcher:type watcher:address watcher:descriptors
ends_in_the_middle watcher gpubroker-watch

begin watcher lies
refused alice $boot_vga 'the boot VGA that is said to be an idle GPU of an allowed vendor is not lent'
refused alice $disk 'a disk that is said to be a GPU of an allowed vendor is not lent'
refused alice iommu-group:"$(group_of $disk)" '... nor by its group'
refused alice 0077:03:00.1 'a function that is only said to be there is not lent'
refused alice iommu-group:4711 '... nor its group'
capture run_as alice gpubroker run --gpu any -- gpubroker leases
is "$status" 0 'any of them is lent where sysfs says that it can be'
unlike "$stdout" "${boot_vga//./\\.}|${disk//./\\.}" '... and only that'
wait_for 20 is_back $gpu2 bochs-drm
lease_goes_on 'a watcher that says its functions have gone, and others come'
is "$(drivers)" "$before" '... no other function has changed its driver'
ok '... the disk is mounted' mountpoint -q /mnt/scratch
capture run_as alice gpubroker run --gpu $gpu2 -- true
is "$status" 0 'what is said to be of the group of the disk is lent by what sysfs says'
wait_for 20 is_back $gpu2 bochs-drm
is "$(drivers)" "$before" '... and nothing of the group of the disk came along'
unlike "$(gpubroker list --json | tr -d '\n')" $'\e' 'its strings without an end come to nobody as they are'

begin watcher too-many 'hostile watcher: told'
is "$(run_as bob gpubroker list --all | grep -c 0001:)" 16384 'of 20,000 functions as many are listed as there may be'
is "$(said | grep -c 'cannot be listed')" 1 '... of the others it is said once'
kib=$(peak)
ok "... and the core has no more than 64 MiB ($kib KiB)" test "$kib" -lt 65536
refused alice $boot_vga '... and the boot VGA is not lent'
lease_goes_on 'with 20,000 functions'

begin watcher flood 'hostile watcher: flooded'
ok 'after 6,000 contradictory records the core answers' wait_for 20 answers
kib=$(peak)
ok "... and has no more than 64 MiB ($kib KiB)" test "$kib" -lt 65536
lease_goes_on 'a watcher that floods'
is "$(drivers)" "$before" '... and no other function has changed its driver'
hostile_done
