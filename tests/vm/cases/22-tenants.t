#!/bin/bash
# Between two tenants: what stays on VFIO is taken off it, reset and put back before anybody else has
# it; what cannot be reset is refused where a rule asks for that, and stuck where it fails. And a
# record that was damaged keeps its device from being lent until that is settled.
. ./lib.sh

dir=/etc/gpubroker/policy.d
state=/run/gpubroker/leases
cat >$dir/22-tenants.policy <<POLICY
allow user alice claim address $prep_twin
allow user carol claim address $prep_twin
allow user bob claim address $gpu2 require-reset
allow user bob claim address $gpu require-reset
POLICY
ok 'the policy is loaded' reload
stuck() { gpubroker leases --json | grep -q '"stuck"'; }

# A prepared function, from one tenant to the next.
capture udevadm settle

udevadm monitor --kernel --subsystem-match=pci >/tmp/uevents.22 &
monitor=$!
wait_for 10 grep -q '^KERNEL' /tmp/uevents.22
ok 'a prepared function is lent' run_as alice gpubroker run --gpu $prep_twin -- true
ok '... and given back' wait_for 20 no_records
is "$(driver_of $prep_twin):$(override_of $prep_twin)" vfio-pci:vfio-pci '... on its VFIO driver, as it was'
taken_off_and_put_back() { [ "$(grep -cE " (un)?bind .*$prep_twin" /tmp/uevents.22)" -ge 2 ]; }
wait_for 10 taken_off_and_put_back
kill $monitor
wait $monitor 2>/dev/null
like "$(grep -o ' [a-z]* .*'"$prep_twin" /tmp/uevents.22)" 'unbind[^
]*
.* bind' 'it was taken off its VFIO driver and put back between two tenants'
capture run_as carol gpubroker run --gpu $prep_twin -- true
is $status 0 'the next tenant has it'
wait_for 20 no_records

# A rule that requires a reset.
ok 'the second GPU can be reset by the kernel' test -e "/sys/bus/pci/devices/$gpu2/reset"
ok 'a card of two is not, for its audio cannot be' test ! -e "/sys/bus/pci/devices/$gpu_audio/reset"
capture run_as bob gpubroker run --gpu $gpu -- true
is $status 72 'what cannot be reset is refused where the rule requires a reset'
like "$stderr" "$gpu requires a reset between two users \($dir/22-tenants.policy:4\), and the kernel has no way to reset" \
	'... and the answer says so'
is "$(driver_of $gpu)" bochs-drm '... and nothing has changed'
capture run_as bob gpubroker policy explain --user bob $gpu
is $status 72 'explain says the same'
ok 'what can be reset is lent' run_as bob gpubroker run --gpu $gpu2 -- true
ok '... and comes back' wait_for 20 is_back $gpu2 bochs-drm
ok '... reset and all' wait_for 20 no_records

# A reset that fails: the kernel is told that it has no method after all.
method=$(cat "/sys/bus/pci/devices/$gpu2/reset_method")
end_without_reset() {
	run_as bob gpubroker run --gpu $gpu2 -- sleep 1000 &
	holder=$!
	wait_for 20 is_leased $gpu2
	echo '' >"/sys/bus/pci/devices/$gpu2/reset_method"
	kill $holder
	wait $holder 2>/dev/null
}
end_without_reset
ok 'a lease whose reset fails is stuck at its end' wait_for 20 stuck
like "$(gpubroker leases)" "$gpu2: reset: Inappropriate ioctl" '... and says so'
isnt "$(driver_of $gpu2)" bochs-drm '... and the host does not get it'
capture run_as alice gpubroker run --gpu $gpu2 -- true
is $status 75 '... nor another tenant'
systemctl restart gpubroker
ok '... nor after a restart' wait_for 20 stuck
echo "$method" >"/sys/bus/pci/devices/$gpu2/reset_method"
ok 'it settles by itself when a reset works' wait_for 30 is_back $gpu2 bochs-drm
ok '... and no record is left' wait_for 10 no_records

end_without_reset
wait_for 20 stuck
ok 'or root restores it without a reset' gpubroker restore $gpu2
ok '... to its host driver' wait_for 10 is_back $gpu2 bochs-drm
echo "$method" >"/sys/bus/pci/devices/$gpu2/reset_method"
wait_for 10 no_records

# A record that was damaged while its lease was held.
run_as carol gpubroker run --gpu 02:00.0 -- sleep 1000 &
holder=$!
wait_for 20 is_leased $gpu2
id=$(basename $state/*)
systemctl stop gpubroker.service gpubroker.socket
sed -i 's/^uid .*/uid nobody/' "$state/$id"
systemctl start gpubroker.socket gpubroker.service
ok "a damaged record's device is not lent" wait_for 20 stuck
like "$(gpubroker leases)" "its lease record is damaged \($id.damaged\); root settles it with 'gpubroker restore $gpu2'" \
	'... and leases says why, and what helps'
capture run_as alice gpubroker run --gpu 02:00.0 -- true
is $status 75 '... whoever asks'
kill $holder
wait $holder 2>/dev/null
sleep 1
is "$(driver_of $gpu2)" vfio-pci '... and nothing is guessed'
ok 'others are served' run_as alice gpubroker run --gpu 01:00.0 -- true
systemctl restart gpubroker
ok 'a restart does not forget it' wait_for 20 stuck
ok 'root restores it' gpubroker restore 02:00.0
is "$(driver_of $gpu2):$(override_of $gpu2)" bochs-drm: '... to the driver that claims it'
ok 'the record is settled' test -e "$state/$id.settled"
capture run_as alice gpubroker run --gpu 02:00.0 -- true
is $status 0 'it is lent again'
wait_for 20 is_back $gpu2 bochs-drm

# One that is damaged when the host has its device already: the kernel settles it.
systemctl stop gpubroker.service gpubroker.socket
rm -f $state/*
printf 'gpubroker lease 1\nid 7\nfunction %s 1234 1111\n' $gpu2 >$state/7
systemctl start gpubroker.socket gpubroker.service
ok 'a damaged record whose device is on its host driver is settled by that' wait_for 20 test -e $state/7.settled
unlike "$(gpubroker leases)" stuck '... and nothing is stuck'
# And one in which nothing can be read, while a function is on VFIO that no rule prepares.
systemctl stop gpubroker.service gpubroker.socket
rm -f $state/*
head -c 200 /dev/urandom >$state/8
echo vfio-pci >/sys/bus/pci/devices/$gpu2/driver_override
echo $gpu2 >/sys/bus/pci/drivers/bochs-drm/unbind
echo $gpu2 >/sys/bus/pci/drivers_probe
systemctl start gpubroker.socket gpubroker.service
ok 'rubbish in place of a record: what is on VFIO without a reason is not lent' wait_for 20 stuck
like "$(gpubroker leases)" "$gpu2" '... that very function'
unlike "$(gpubroker leases)" "$prep_twin" '... and not one that the policy prepares'
ok 'root restores it' gpubroker restore 02:00.0
is "$(driver_of $gpu2):$(override_of $gpu2)" bochs-drm: '... to the driver that claims it'

rm -f $dir/22-tenants.policy $state/* /tmp/uevents.22
reload
done_testing
