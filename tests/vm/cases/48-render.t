#!/bin/bash
# A render node that a card of the host really has: any number of programs may have it open, doctor names each, and the
# card is lent when none has.
# machine: render-node
. ./lib.sh

for render in /sys/bus/pci/devices/*; do
	[ "$(cat "$render/vendor" "$render/device" | xargs)" != '0x1af4 0x1050' ] || break
done
render=${render##*/}
# Without a text console on it: that has the card in use as soon as its driver is there, and again when it comes back.
fbdev=/sys/module/drm_kms_helper/parameters/fbdev_emulation
modprobe drm_kms_helper
echo N >$fbdev
ok 'the host has a card with a driver that makes a render node' modprobe virtio_gpu
nodes() { local n=(/sys/bus/pci/devices/"$render"/drm/renderD*); [ -e "${n[0]}" ] && node=/dev/dri/${n[0]##*/}; }
ok '... which is there' wait_for 20 nodes
nodes # in a subshell before
# Without a screen, or it would be a part of the host's console, which is never lent unasked.
for status in /sys/bus/pci/devices/"$render"/drm/card*/card*-*/status; do echo off >"$status"; done
wait_for 20 test -c "$node"
policy=/etc/gpubroker/policy.d/48-render.policy
echo "allow user alice claim address $render" >$policy
reload
doctor() { capture gpubroker doctor "$render"; text=$(tr -s ' \n' ' ' <<<"$stdout"); }

doctor
unlike "$text" 'WARN render' 'as long as nobody has it open, doctor says nothing of it'
# Two users, as a desktop and a program of another's. The node is for all, as logind has it at a seat.
chmod 666 "$node"
openers=()
for user in alice carol; do
	run_as $user python3 -c "import time
f = open('$node', 'rb+', buffering=0)
print('open', flush=True)
time.sleep(1000)" >/tmp/render-$user &
	openers+=($!)
	wait_for 20 grep -q open /tmp/render-$user
done
doctor
like "$text" "WARN render: python3[.0-9]* \(pid ${openers[0]} of alice\) has $node open, and the card's driver waits for it" 'doctor names who has it open'
like "$text" "WARN render: python3[.0-9]* \(pid ${openers[1]} of carol\) has $node open" '... each'
like "$text" 'to share the card, use virtio-gpu with Venus, see gpubroker\(7\)' '... and what shares a card'
refused alice 78 "$render is in use by the host: .*python3[.0-9]* \(pid ${openers[0]} of alice\) has $node open" 'a claim is refused, and names a program of her own' --gpu "$render"
kill "${openers[@]}"
wait "${openers[@]}" 2>/dev/null
vm alice guest --gpu "$render" --qemu -- -m 64
ok 'a machine gets the card when they have ended' vm_up guest
# Its firmware finds what is behind a port.
has_card() { [[ $(vm_devices guest) == *1af4:1050* ]]; }
ok '... which it has' wait_for 60 has_card || diag "$(vm_devices guest)"
ok "... and the host's render node is gone" test ! -e "$node"
vm_end guest
ok 'the host has the card back' wait_for 20 is_back "$render" virtio-pci
ok '... with a render node' wait_for 20 nodes
echo Y >$fbdev
rm -f $policy /tmp/render-*
reload
done_testing
