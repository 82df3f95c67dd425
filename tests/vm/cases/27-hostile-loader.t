#!/bin/bash
# A loader that sends wrong, late, huge and contradictory records to the real core: it ends nothing but
# itself, lends nothing that sysfs and the policy in force do not support, and comes back.
. ./lib.sh
. ./hostile.sh

# tests/unit/brokerd/helper-test.c has more of them, record by record.
ends_itself loader:short loader:type loader:counts loader:many-begin loader:after-end loader:bad-index \
	loader:endless-path loader:descriptors
ends_in_the_middle loader gpubroker-load

begin loader contradicts
good() { said_it 'the policy was loaded again: [0-9]{2} rules'; }
ok 'a loader that says good, none, good, none: the core stays, and takes what it says last' wait_for 20 good
lease_goes_on 'a loader that contradicts itself'

begin loader all-to-all
capture run_as bob gpubroker run --gpu $gpu2 -- true
is "$status" 0 'a loader is believed what the policy is: it can let anybody have a device, as SECURITY.md says'
wait_for 20 is_back $gpu2 bochs-drm
refused bob $disk '... but not a disk that is in use'
refused bob $boot_vga '... nor the boot VGA, without force'
refused bob $gpu '... nor what is lent to another'
lease_goes_on 'a loader that allows all to all'

# It is silent until the next reload; the core says after ten seconds that it is.
begin loader late 'the loader has not answered yet'
wait_for 5 answers
refused alice $gpu2 'a loader that announces a million rules and is silent: nothing is lent'
kib=$(peak)
ok "... and the core has no more than 64 MiB ($kib KiB)" test "$kib" -lt 65536
lease_goes_on 'a silent loader'
systemctl reload gpubroker
lends() { (run_as alice gpubroker run --gpu $gpu2 -- true); }
ok '... and when it speaks at last, it lends' wait_for 30 lends
wait_for 20 is_back $gpu2 bochs-drm
hostile_done
