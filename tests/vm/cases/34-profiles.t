#!/bin/bash
# `gpubroker profiles`, of real mdev drivers: the kernel's samples. It asks no broker.
. ./lib.sh

for m in mtty mbochs mdpy; do
	modprobe -nq $m || skip_all "this kernel has no sample mdev devices ($m)"
done

# profiles ARG...: as bob, who may claim nothing, and with no broker to ask.
profiles() { run_as bob gpubroker --socket /nowhere profiles "$@"; }
# field DEVICE TYPE KEY: what the JSON says.
field() {
	profiles --json | python3 -c 'import json, sys
for p in json.load(sys.stdin):
	if (p["device"], p["type"]) == tuple(sys.argv[1:3]): print(p[sys.argv[3]])' "$@"
}

capture profiles
is "$status:$stdout" 0: 'no driver offers anything: an empty list is no fault'
like "$stderr" '^gpubroker: no device of this host offers profiles; .*driver' '... and a sentence says what would help'
capture profiles --json
is "$status:${stdout//[$'\n ']/}:$stderr" '0:[]:' '... in JSON an empty array'
capture profiles mtty
is $status 66 'a device that is not there is 66'

modprobe -a mtty mbochs mdpy
capture profiles
diag "$stdout"
is "$status:$stderr" 0: 'with the drivers there is a list, and no complaint'
like "$stdout" '^DEVICE +TYPE +NAME +MEMORY +AVAILABLE +TOTAL +API +DESCRIPTION' '... with its headings'
like "$stdout" $'\nmtty +mtty-2 +Dual port serial +- +12 +12 +vfio-pci' '... a type without memory'
like "$stdout" $'\nmbochs +mbochs-[^\n]* 16M +16 +16 +vfio-pci +virtual display, 16 MB' '... and one with it'
for m in mtty mbochs mdpy; do
	is "$(profiles --json | grep -c "\"device\": *\"$m\"")" \
		"$(ls /sys/class/mdev_bus/$m/mdev_supported_types | wc -l)" "each type of $m is listed"
done
for t in /sys/class/mdev_bus/mbochs/mdev_supported_types/*; do
	t=${t##*/}
	is "$(field mbochs "$t" memory)" \
		"$(($(sed -n 's/.* \([0-9]*\) MB video memory/\1/p' "/sys/class/mdev_bus/mbochs/mdev_supported_types/$t/description") * 1048576))" \
		"the memory of $t is what its driver states"
done
is "$(field mdpy mdpy-vga memory)" None 'a framebuffer of 640x480 is no size of memory'

# The ports of one serial card are shared by its types: 24 in all, 2 of which go.
uuid=83b8f4f2-509f-382f-3c1e-e6bfe0fa1034
echo $uuid >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create
is "$(field mtty mtty-2 available) $(field mtty mtty-2 instances) $(field mtty mtty-2 total)" '11 1 12' \
	'one that somebody made counts, and its total stays'
is "$(field mtty mtty-1 available) $(field mtty mtty-1 instances) $(field mtty mtty-1 total)" '22 0 22' \
	'... while the other type has less of both'
echo 1 >/sys/bus/mdev/devices/$uuid/remove
is "$(field mtty mtty-1 total) $(field mtty mtty-2 available)" '24 12' 'it is gone, and all is to be had again'

is "$(profiles --json mtty | grep -c '"device"')" 2 'of one device only its types are listed'
capture profiles $gpu
is "$status:$stdout" 66: 'a device without profiles is 66'
like "$stderr" "^gpubroker: $gpu has no profiles: its driver offers none" '... with a sentence'

# Each line as a terminal of 80 columns has it, \r and all.
run_as bob script -qec 'stty cols 80; gpubroker profiles' /dev/null >/tmp/profiles
ok 'on a terminal no line is longer than that' \
	awk '{ sub(/\r$/, "") } length > 80 { print; bad = 1 } END { exit bad || NR < 9 }' /tmp/profiles
like "$(cat /tmp/profiles)" 'mtty-2 +Dual port serial' '... and what is to be copied is whole'
rm -f /tmp/profiles
modprobe -ra mtty mbochs mdpy
ok 'the host has no parents of mdevs again' test ! -e /sys/class/mdev_bus/mtty
done_testing
