#!/bin/bash
# Two machines of qemu:///session, one of which waits in the queue for its card, and what ends around them: libvirt's
# daemon, and the broker.
. ./lib.sh
. /tests/libvirt.sh

ok 'a machine with a card is defined' define libvirt lent
ok '... and starts' virsh start lent || diag "$(cat ~alice/.cache/libvirt/qemu/log/lent.log)"
pid=$(pid_of lent)
define libvirt other "s/0000:01:00.0/$gpu2/; $alone" >/dev/null
hold carol --gpu $gpu2
ok 'carol has the other card' wait_for 20 is_leased $gpu2
waits() { gpubroker leases --waiting | grep -q "alice.*$gpu2"; }
waits_not() { ! waits; }
virsh start other >/tmp/start.log 2>&1 &
start=$!
ok 'a machine waits for it in the queue' wait_for 30 waits
ok '... and may be destroyed meanwhile' virsh destroy other
wait $start
ok '... which ends the claim' wait_for 20 waits_not
virsh start other >/tmp/start.log 2>&1 &
start=$!
ok 'one waits again' wait_for 30 waits
kill "${holders[@]}"
wait $start
is $? 0 '... and starts when its turn has come' || diag "$(cat /tmp/start.log)"
ok '... with the card' is_leased $gpu2

# What ends around the two machines.
end_session -KILL
ok "libvirt's daemon is killed, and the machines go on" alive "$pid"
begin_session
is "$(virsh list --name | sort | xargs)" 'lent other' '... which the next one finds'
systemctl restart gpubroker
ok 'the broker is started again, and the leases are there' is_leased $gpu
ok '... both' is_leased $gpu2
ok 'one is destroyed' virsh destroy lent
ok '... and its card goes back' wait_for 20 is_back $gpu bochs-drm
ok '... and the other machine goes on' in_state other running
ok 'it ends too' virsh destroy other
ok '... and its card goes back' wait_for 20 is_back $gpu2 bochs-drm

end_libvirt lent other
rm /tmp/start.log
done_testing
