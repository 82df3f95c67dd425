#!/bin/bash
# `run --qemu`: an unmodified QEMU gets all that is lent without a word about it in its own arguments: as one
# multifunction device, on machines with and without PCI Express, two GPUs, a ROM, the primary display.
. ./lib.sh

cat >/etc/gpubroker/policy.d/33-qemu.policy <<-END
	allow user carol claim any
	device two address $gpu2
	allow user carol claim address $boot_vga boot-vga
END
systemctl restart gpubroker
ok 'the daemon is back with the new policy' systemctl is-active gpubroker

# begin USER NAME MACHINE OPTIONS... -- [QEMU's options]: as vm(), with --qemu and that machine. Nothing in
# QEMU's own arguments says what is lent.
begin() {
	local user=$1 name=$2 machine=$3 before=()
	shift 3
	while [ "$1" != -- ]; do before+=("$1"); shift; done
	shift
	rm -f "/tmp/$name.qmp"
	run_as "$user" gpubroker run --qemu "${before[@]}" -- qemu-system-x86_64 -display none \
		-M "$machine" -cpu max -accel tcg -m 64 -qmp "unix:/tmp/$name.qmp,server=on,wait=off" "$@" \
		>"/tmp/$name.log" 2>&1 </dev/null &
	vm_pid=$!
}
# places NAME: "PARENT/SLOT.FUNCTION vendor:device" of each function; PARENT is the id of the port that it is
# behind, - on the root bus.
places() {
	qmp "$1" query-pci | python3 -c 'import json, sys
def show(devices, parent):
	for d in devices:
		print("%s/%d.%d %04x:%04x" % (parent, d["slot"], d["function"], d["id"]["vendor"], d["id"]["device"]))
		if "pci_bridge" in d:
			show(d["pci_bridge"].get("devices", []), d["qdev_id"])
for bus in json.load(sys.stdin):
	show(bus["devices"], "-")'
}
# lent NAME: those of them that are behind a port of ours, or in a slot that we took.
lent() { places "$1" | grep -E '^(gpubroker-port[0-9]+/|-/(2[0-9]|30)\.)' | xargs; }
# property NAME HOST-ADDRESS PROPERTY: of the vfio-pci that has this function.
property() {
	local path
	for path in $(qmp "$1" qom-list '{"path":"/machine/peripheral-anon"}' |
		python3 -c 'import json, sys
for p in json.load(sys.stdin):
	if p["type"] == "child<vfio-pci>": print("/machine/peripheral-anon/" + p["name"])'); do
		[ "$(qmp "$1" qom-get "{\"path\":\"$path\",\"property\":\"host\"}")" != "\"$2\"" ] ||
			qmp "$1" qom-get "{\"path\":\"$path\",\"property\":\"$3\"}"
	done
}
# host_again: all that this case lends is as it was.
host_again() {
	has_driver $gpu bochs-drm && has_driver $gpu_audio snd_hda_intel && has_driver $gpu2 bochs-drm &&
		has_driver $multi_gpu bochs-drm && has_driver $multi_net e1000 && has_driver $boot_vga bochs-drm &&
		no_records
}

is_lent() { [ "$(lent "$1")" = "$2" ]; }

rom="/tmp/a rom, with commas,.bin"
cp /usr/share/seabios/vgabios-stdvga.bin "$rom"
card='1234:1111' audio='8086:2668'

# Behind a port QEMU shows only what the VM's firmware has numbered, so these machines run.
begin alice claim q35 --gpu 01:00.0 --rom "$rom" -- -nodefaults
ok "alice's QEMU starts with a card that her arguments do not name" vm_up claim
ok 'the card and its audio function are functions 0 and 1 of one slot, behind a port of their own' \
	wait_for 60 is_lent claim "gpubroker-port0/0.0 $card gpubroker-port0/0.1 $audio"
diag "$(places claim)"
is "$(property claim $gpu romfile)" "\"$rom\"" 'the card has the ROM, commas and all'
is "$(property claim $gpu_audio romfile)" '""' '... and the audio function has none'
is "$(property claim $gpu x-vga)" false 'without --primary there is no x-vga'
is "$(cat /tmp/claim.log)" '' 'nothing is said where there is no terminal'
vm_end claim
is $? 0 "the exit status is QEMU's own"
ok 'the host has both functions back' wait_for 20 host_again

begin alice claim pc --gpu 01:00.0 --gpu 02:00.0 -- -nodefaults -S -device e1000,addr=1e.0
ok 'a machine without PCI Express starts with two cards' vm_up claim
is "$(lent claim)" "-/28.0 1234:1111 -/29.0 $card -/29.1 $audio -/30.0 8086:100e" \
	'... in slots of the root bus, beside what she put there herself'
vm_end claim
ok 'the host has both cards back' wait_for 20 host_again

begin carol claim q35 --gpu $multi_gpu --gpu two -- -nodefaults \
	-device pcie-root-port,id=gpubroker-port1,chassis=255,slot=255
ok 'a machine with a group of two slots and a second card starts' vm_up claim
ok 'each slot is behind a port of its own, and none has the name or number of her own port' \
	wait_for 60 is_lent claim \
	'gpubroker-port0/0.0 1234:1111 gpubroker-port2/0.0 8086:100e gpubroker-port3/0.0 1234:1111'
diag "$(places claim)"
vm_end claim
ok 'the host has three functions back' wait_for 20 host_again

# Without -nodefaults, so that QEMU would add a display of its own.
begin carol claim pc --force --gpu $boot_vga --primary -- -S -nic none
ok "a machine starts with the host's own display as its primary one" vm_up claim
is "$(property claim $boot_vga x-vga)" true '... which has x-vga'
is "$(places claim | grep -c ' 1234:1111')" 1 '... and is its only display'
vm_end claim
ok 'the host has its display back' wait_for 20 host_again

# What goes wrong before anything is taken, and after.
capture run_as alice gpubroker run --qemu --primary --gpu 01:00.0 -- touch /tmp/33-ran
is $status 64 '--primary with a display that has no VGA ranges is refused'
like "$stderr" '^gpubroker: --primary is for a VGA controller .*; nothing was claimed$' '... in a sentence'
is "$(driver_of $gpu)" bochs-drm '... before the host loses it'
capture run_as carol gpubroker run --qemu --primary --gpu two -- touch /tmp/33-ran
is $status 64 '... and so where only the broker knows what is meant'
like "$stderr" 'gpubroker: --primary .*; the device goes back$' '... which says that it was claimed'
ok '... and it comes back' wait_for 20 host_again
capture run_as alice gpubroker run --qemu --gpu 01:00.0 -- echo qemu -device vfio-pci,host=01:00.0
is $status 0 'arguments that have the card already are left as they are'
is "$stdout" "qemu -device vfio-pci,host=01:00.0 -device vfio-pci,host=$gpu_audio,addr=0x1e.0" \
	'... and only the rest is added'
like "$stderr" "^gpubroker: $gpu: the command's own arguments have it already" '... which is said'
ok 'the host has both back' wait_for 20 host_again
[ ! -e /tmp/33-ran ]
result $? 'no command was run where its arguments could not be made'

capture run_as alice script -qec 'gpubroker run --qemu --gpu 02:00.0 -- true' /dev/null
like "$stdout" "QEMU gets: -device vfio-pci,host=$gpu2,addr=0x1e.0" 'on a terminal the arguments are shown'
wait_for 20 host_again
rm -f "$rom" /etc/gpubroker/policy.d/33-qemu.policy
systemctl restart gpubroker
done_testing
