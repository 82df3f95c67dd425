#!/bin/bash
# Bundles of drivers: root makes them, `run --qemu --drivers` adds the one that fits as a read-only disk, and a guest
# that lacks its card's driver has it by the example for guests. What others than root could have written, what
# is not what was checked, and what is for another device is not used, and nothing is claimed for it.
. ./lib.sh
command -v mkfs.erofs >/dev/null || skip_all 'this host has no mkfs.erofs'

bundles=/usr/share/gpubroker/drivers
kernel=$(uname -r)
as_regex=${kernel//+/.}
work=/tmp/59
rm -rf "$work" "${bundles:?}"/*
mkdir -p "$work"
cat >/etc/gpubroker/policy.d/59-drivers.policy <<-END
	device fifty-nine address $gpu2
	allow user alice claim fifty-nine
END
reload

# make NAME ARGUMENT...: as root, among those of the host.
make() { capture gpubroker drivers make "$1" "$work/tree" --version 1.2 --kernel "$kernel" "${@:2}"; }
# drivers OPTION... -- COMMAND: by alice, for the second GPU.
drivers() { capture run_as alice gpubroker run --qemu --gpu 02:00.0 "$@"; }
host_has_it() { has_driver $gpu2 bochs-drm && no_records; }
# spared NAME: what was refused has left the host its GPU.
spared() { ok "$1: the host has its GPU, and there is no lease" host_has_it; }

# unpack DIRECTORY: the modules in it.
unpack() {
	find "$1" -name '*.ko.xz' | python3 -c 'import lzma, os, sys
for name in sys.stdin.read().split():
	with lzma.open(name) as packed, open(name[:-3], "wb") as out:
		out.write(packed.read())
	os.unlink(name)'
}

# The driver of the card with all that it needs, and a library.
mkdir -p "$work/tree/usr/lib/x86_64-linux-gnu"
modprobe --show-depends bochs | while read -r how file _; do
	[ "$how" != insmod ] || cp --parents "$file" "$work/tree"
done
[ ! -d "$work/tree/usr/lib/modules" ] || { mkdir -p "$work/tree/lib"; mv "$work/tree/usr/lib/modules" "$work/tree/lib/"; }
# The guest would take long for that.
unpack "$work/tree"
depmod -b "$work/tree" "$kernel" 2>/dev/null
cp -L /lib/x86_64-linux-gnu/libcap-ng.so.0 "$work/tree/usr/lib/x86_64-linux-gnu/"

# Making.
make bochs-1.2 --device 1234:1111
is "$status $stderr" '0 ' 'root makes a bundle' || diag "$stdout"
like "$stdout" "^$bundles/bochs-1.2: [0-9]+ bytes, version 1.2, for the kernel $as_regex\$" '... and is told what it is'
is "$(stat -c '%u %a' $bundles/bochs-1.2 $bundles/bochs-1.2/* | sort | uniq -c | xargs)" '2 0 644 1 0 755' \
	"... of root's, readable by all"
is "$(find $bundles -name '.*')" '' '... and nothing else is left'
cp -a "$work/tree" "$work/later"
find "$work/later" -exec touch -h {} +
capture run_as alice gpubroker drivers make other "$work/later" --version 1.2 --kernel "$kernel" --device 1234:1111 \
	--output /home/alice
is "$status" 0 'alice makes one of a copy with other times, in a directory of hers' || diag "$stderr"
ok '... with the same image' cmp /home/alice/other/drivers.erofs $bundles/bochs-1.2/drivers.erofs
ok '... and the same manifest' cmp /home/alice/other/manifest $bundles/bochs-1.2/manifest
capture run_as alice gpubroker drivers make mine "$work/tree" --version 1 --kernel "$kernel" --device 1234:1111
is $status 73 'alice makes none among those of the host'
like "$stderr" "only root can write to $bundles; '--output DIR'" '... which is said, and what would help'
make bochs-1.2 --device 1234:1111
is $status 73 'a bundle that is there is not replaced'
is "$(find $bundles /home/alice -name '.*.??????')" '' '... and what was begun is gone'
capture run_as alice gpubroker drivers --json
is "$(python3 -c 'import json,sys; b = json.load(sys.stdin); print(*[(x["name"], x["devices"], sys.argv[1] in x["here"]) for x in b])' \
	$gpu2 <<<"$stdout")" "('bochs-1.2', ['1234:1111'], True)" 'alice sees it, and that a GPU of the host is one of its devices'

# What fits, and what does not.
drivers --drivers --verbose -- true
is $status 0 'the bundle of her GPU is chosen' || diag "$stderr"
like "$stderr" "the VM gets the drivers bochs-1.2: version 1.2, for the kernel $as_regex" '... which is said, with its version'
like "$stderr" 'virtio-blk-pci.*GPUBROKERDRIVERS' '... as a disk of that serial number'
ok 'the host has it back' wait_for 20 host_has_it
make other-card --device 10de:*
drivers --drivers=other-card -- touch "$work/ran"
is $status 78 'drivers for another card are refused'
like "$stderr" "other-card has no drivers for $gpu2, 1234:1111; .*; nothing was claimed" '... before the claim'
spared 'drivers for another card'
capture run_as alice gpubroker run --qemu --gpu fifty-nine --drivers=other-card -- touch "$work/ran"
is $status 78 '... also where only the broker knows which card is meant'
like "$stderr" 'other-card has no drivers for .*; the device goes back' '... which says that it was claimed'
ok '... and goes back' wait_for 20 host_has_it
drivers --drivers=bochs-1.3 -- touch "$work/ran"
is $status 66 'a name that there is not is refused'
like "$stderr" "did you mean 'bochs-1.2'\?.*nothing was claimed" '... with the one that was meant'
make bochs-second --device 1234:*
drivers --drivers -- touch "$work/ran"
is $status 64 'two that fit are none'
like "$stderr" "bochs-1.2 \(for $as_regex\), bochs-second .*--drivers=NAME; nothing was claimed" '... but are named'
rm -rf $bundles/bochs-second
spared 'a choice that failed'

# The attacker: what others than root could write.
bad() {
	local name=$1 pattern=$2
	drivers --drivers=bad -- touch "$work/ran"
	is $status 65 "$name: refused"
	like "$stderr" "$pattern" '... in a sentence'
	rm -rf $bundles/bad
}
bundle() { rm -rf $bundles/bad; cp -a $bundles/bochs-1.2 $bundles/bad; }
bundle; chown alice $bundles/bad
bad "alice's directory" "$bundles/bad: does not belong to root"
bundle; chmod 775 $bundles/bad
bad 'a directory that a group can write' "$bundles/bad: can be written by others than root; chmod go-w it"
cp -a /home/alice/other $work/hers; ln -s $work/hers $bundles/bad
bad 'a link to a directory of hers' "$bundles/bad: is a symbolic link"
bundle; ln -sf /home/alice/other/drivers.erofs $bundles/bad/drivers.erofs
bad 'an image that is a link out' 'bad/drivers.erofs: is a symbolic link'
bundle; ln -sf /etc/shadow $bundles/bad/drivers.erofs
bad '... and one to what she may not read' 'bad/drivers.erofs: is a symbolic link'
bundle; cp /home/alice/other/drivers.erofs $bundles/hers; chown alice $bundles/hers; ln -f $bundles/hers $bundles/bad/drivers.erofs
bad 'a hard link to a file of hers' 'bad/drivers.erofs: does not belong to root'
rm -f $bundles/hers
bundle; chmod 666 $bundles/bad/manifest
bad 'a manifest that all can write' 'bad/manifest: can be written by others'
bundle; sed -i 's|^image .*|image ../../../../../etc/shadow|' $bundles/bad/manifest
bad 'a manifest that names another file' "bad/manifest:[0-9]+: image '../../../../../etc/shadow' leads out of the bundle"
bundle; mkfifo $bundles/bad/fifo; sed -i 's|^image .*|image fifo|' $bundles/bad/manifest
bad 'an image that is a pipe' 'bad/fifo: is no regular file'
bundle; printf x >>$bundles/bad/drivers.erofs
bad 'an image that grew' 'has [0-9]+ bytes, and by the manifest'
bundle; printf x | dd of=$bundles/bad/drivers.erofs bs=1 seek=5000 conv=notrunc status=none
bad 'an image of which a byte is another' 'has the SHA-256 .* by the manifest .*make the bundle again'
bundle; sed -i 's/^kernel/kernal/' $bundles/bad/manifest
capture gpubroker drivers
is $status 65 'the list has 65 where one has a mistake'
like "$stderr" "bad/manifest:[0-9]+: there is no 'kernal'; did you mean 'kernel'\?" '... which is named'
like "$stdout" "bochs-1.2 +1.2 +$as_regex" '... and the others are listed'
drivers --drivers -- true
is $status 0 '... and chosen from' || diag "$stderr"
wait_for 20 host_has_it
rm -rf $bundles/bad
chmod o+w $bundles
drivers --drivers -- touch "$work/ran"
is $status 78 'nothing is used from a directory that all can write' || diag "$stderr"
like "$stderr" "$bundles: can be written by others" '... which is said'
chmod o-w $bundles
spared 'what is not to be trusted'
ok 'no command was run for any of these' test ! -e "$work/ran"

# Another image under the name after the check: the command has what was checked.
cat >$work/reader <<-'END'
	#!/bin/bash
	touch /tmp/59-runs
	while [ ! -e /tmp/59-swapped ]; do sleep 0.1; done
	for a; do case $a in fd=*,set=*) a=${a#fd=} fd=${a%%,*} ;; esac; done
	cat <&"$fd" | sha256sum
	(echo x >&"$fd") 2>/dev/null && echo written
END
chmod 755 $work/reader
rm -f /tmp/59-runs /tmp/59-swapped
bundle
run_as alice gpubroker run --qemu --gpu 02:00.0 --drivers=bad -- $work/reader >$work/read 2>&1 &
pid=$!
ok 'a command runs with an image that was checked' wait_for 60 test -e /tmp/59-runs
cp /home/alice/other/manifest $bundles/bad/evil && mv $bundles/bad/evil $bundles/bad/drivers.erofs
touch /tmp/59-swapped
wait $pid
is "$(grep -oE '^[0-9a-f]{64}' $work/read)" "$(sed -n 's/^sha256 //p' $bundles/bochs-1.2/manifest)" \
	'... and reads that one, though another has its name by then'
ok '... which it cannot write' bash -c "! grep -q written $work/read"
rm -rf $bundles/bad
ok 'the host has it back' wait_for 20 host_has_it
scope=$(sysctl -n kernel.yama.ptrace_scope)
sysctl -qw kernel.yama.ptrace_scope=1
drivers --drivers=bochs-1.2 -- $work/reader
is "${stdout%% *}" "$(sed -n 's/^sha256 //p' $bundles/bochs-1.2/manifest)" 'it has the image where Yama restricts ptrace, too'
sysctl -qw kernel.yama.ptrace_scope="$scope"
ok 'the host has it back' wait_for 20 host_has_it
rm -f /tmp/59-runs /tmp/59-swapped

# disks NAME: the ends of their files' names, and whether they can be written, in the order of the VM's bus.
disks() {
	qmp "$1" query-block | python3 -c 'import json,sys
for b in json.load(sys.stdin):
	if b.get("inserted"):
		i = b["inserted"]
		print(b["qdev"].replace("/virtio-backend", ""), i["file"].split("/")[-1], "ro" if i["ro"] else "rw")' |
		while read -r path file mode; do
			echo "$(qmp "$1" qom-get "{\"path\":\"$path\",\"property\":\"addr\"}") $file $mode"
		done | sort | sed 's/^[^ ]* //' | paste -sd, | sed 's/,/, /'
}

# QEMU: the VM's own disk stays the first, by its slot, however it is written.
truncate -s 1M $work/own.img; chmod 666 $work/own.img
for machine in q35 pc; do
	rm -f /tmp/$machine.qmp
	run_as alice gpubroker run --qemu --gpu 02:00.0 --drivers=bochs-1.2 -- qemu-system-x86_64 -S -M $machine \
		-nodefaults -display none -cpu max -accel tcg -m 64 -qmp unix:/tmp/$machine.qmp,server=on,wait=off \
		-drive file=$work/own.img,format=raw,if=virtio >/tmp/$machine.log 2>&1 </dev/null &
	vm_pid=$!
	ok "QEMU starts with the disk on $machine" vm_up $machine || diag "$(cat /tmp/$machine.log)"
	is "$(disks $machine)" "own.img rw, 900 ro" '... read-only, by its descriptor, and behind the disk of the VM'
	vm_end $machine
	wait_for 20 host_has_it
done

# The guest: it has no DRM modules, and has the card's driver after the example has run.
initrd=$work/initrd
mkdir -p $initrd/{bin,sbin,dev,proc,sys,run,etc,tmp,usr/lib}
cp /bin/busybox $initrd/bin/busybox
for applet in sh mount umount mkdir cat ln ls sleep tr uname grep printf readlink sed; do ln -s busybox $initrd/bin/$applet; done
cp "$(command -v kmod)" $initrd/bin/kmod
for name in modprobe insmod depmod modinfo; do ln -s ../bin/kmod $initrd/sbin/$name; done
cp /sbin/ldconfig $initrd/sbin/ldconfig
ldd "$(command -v kmod)" | grep -oE '/[^ ]+' | while read -r file; do cp -L --parents "$file" $initrd; done
for module in virtio_pci virtio_blk erofs; do
	modprobe --show-depends $module | while read -r how file _; do [ "$how" != insmod ] || cp -n --parents "$file" $initrd; done
done
cp /lib/modules/"$kernel"/modules.{builtin,order,builtin.modinfo} $initrd/lib/modules/"$kernel"/ 2>/dev/null ||
	cp --parents /usr/lib/modules/"$kernel"/modules.{builtin,order} $initrd
unpack $initrd
depmod -b $initrd "$kernel" 2>/dev/null
cp /usr/share/doc/gpubroker/examples/guest/gpubroker-guest-drivers $initrd/sbin/
echo 'include /etc/ld.so.conf.d/*.conf' >$initrd/etc/ld.so.conf
cat >$initrd/init <<-'END'
	#!/bin/sh
	export PATH=/sbin:/bin
	mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
	exec >/dev/ttyS0 2>&1
	/sbin/modprobe virtio_pci; /sbin/modprobe virtio_blk
	card() { for d in /sys/bus/pci/devices/*; do [ "$(cat $d/vendor $d/device | tr -d '\n')" != 0x12340x1111 ] || readlink $d/driver; done; }
	echo "BEFORE driver=$(card) disks=$(ls /sys/block | tr '\n' ' ')"
	sed 's/^running=.*/running=6.0.0-other/' /sbin/gpubroker-guest-drivers >/tmp/other
	sh /tmp/other; echo "OTHER $? driver=$(card)"
	/sbin/gpubroker-guest-drivers; echo "STATUS $?"
	echo "AFTER driver=$(card) card=$(ls /sys/class/drm | tr '\n' ' ')"
	echo "LIBRARY $(/sbin/ldconfig -p | grep libcap-ng)"
	echo x 2>/dev/null >/dev/vda && echo WRITTEN
	echo END
	sleep 100000
END
chmod +x $initrd/init
(cd $initrd && find . | cpio -o -H newc --quiet) >$work/initrd.cpio
cp "/boot/vmlinuz-$kernel" $work/vmlinuz
chmod -R a+rX $work
begun=$SECONDS
# All but the first only saves time.
args='quiet mitigations=off nokaslr no_timer_check audit=0 lpj=4000000 cryptomgr.notests tsc=reliable'
# Not `max`, as in ../machine.
vm alice guest --qemu --gpu 02:00.0 --drivers -- -cpu qemu64 -m 256 -serial file:/tmp/guest.serial -kernel $work/vmlinuz \
	-initrd $work/initrd.cpio -append "console=ttyS0 $args"
ok 'a VM with Linux starts with the disk' vm_up guest
ok '... and its guest comes up' wait_for 240 grep -q END /tmp/guest.serial
diag "the guest took $((SECONDS - begun)) s"
serial=$(tr -d '\r' </tmp/guest.serial)
diag "$serial"
like "$serial" 'BEFORE driver= disks=vda' 'its card has no driver before'
like "$serial" "version 1.2, are for the kernel $as_regex, and this is 6.0.0-other" 'a guest with another kernel is told which one'
like "$serial" 'OTHER 1 driver=' '... and loads nothing'
like "$serial" 'STATUS 0' 'the example finds the disk by its serial number'
like "$serial" 'AFTER driver=[^ ]*bochs-drm card=card0' 'the card has its driver'
like "$serial" 'LIBRARY .*libcap-ng.so.0 .*/run/gpubroker-drivers/usr/lib' 'programs find the libraries'
unlike "$serial" 'WRITTEN' 'the guest cannot write the disk'
vm_end guest
ok 'the host has its GPU back' wait_for 30 host_has_it

rm -rf "$work" "${bundles:?}"/* /home/alice/other /etc/gpubroker/policy.d/59-drivers.policy
reload
done_testing
