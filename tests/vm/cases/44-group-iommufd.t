#!/bin/bash
# A lease by a group that its holder has attached to an iommufd: the group can be closed while the device goes on
# working, and the holder is left alone until the device is closed too.
. ./lib.sh
. /tests/cdev.sh
needs cdevs

cp /tests/{wire,group-by-iommufd}.py /tmp
set_mark
talk a run_as alice python3 /tmp/group-by-iommufd.py $gpu2
line=
read -rt 90 -u "${cdev_from[a]}" line
is "$line" ready 'a holder attaches its group to the iommufd, opens the device and closes the group' || diag "$(cat /tmp/a.err)"
sleep 6
is "$(lease_state $gpu2)" leased 'its lease goes on'
is "$(driver_of $gpu2)" vfio-pci '... and nobody takes the device from VFIO'
unlike "$(said)" 'stuck|recalled' '... or asks for it'
capture run_as alice gpubroker run --gpu $gpu2 -- true
is $status 75 '... or gets it'
like "$(gpubroker list)" "0000:02:00.0 .*leased" '... and it is listed so'
systemctl kill -s KILL gpubroker
ok 'a daemon that is killed takes it up' wait_for 30 is_state $gpu2 leased
sleep 4
is "$(lease_state $gpu2)" leased '... and leaves it alone, too'
is "$(say a close)" closed 'the device has worked all the while, and is closed'
ok '... which is the end of the lease' wait_for 20 is_back $gpu2 bochs-drm
ok '... though its holder goes on' wait_for 20 no_records
quit a
unlike "$(said)" stuck 'nothing was stuck'
rm /tmp/{wire,group-by-iommufd}.py
done_testing
