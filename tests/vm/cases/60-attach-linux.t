#!/bin/bash
# attach and detach with a Linux in the guest: its driver binds to the card when it is plugged in, and lets go of it
# when it is asked back. The guest is the host's own kernel with one driver.
. ./lib.sh
. /tests/cdev.sh
killed=$(killed)
needs cdevs

# The second monitor: libvirt keeps the first for itself, as something does here.
attach() { capture timeout 150 /tests/as alice unlimited gpubroker attach --qmp /tmp/linux.second "$@"; }
detach() { capture timeout 150 /tests/as alice unlimited gpubroker detach --qmp /tmp/linux.second "$@"; }

echo 'allow user alice claim profile any' >/etc/gpubroker/policy.d/60-attach.policy
modprobe mbochs
systemctl restart gpubroker
ok 'the daemon is back with the new policy' systemctl is-active gpubroker

kernel=$(uname -r)
dir=$(mktemp -d)
mkdir $dir/{bin,proc,sys,dev,modules}
cp /bin/busybox $dir/bin/busybox
modprobe -S "$kernel" --show-depends bochs | awk '$1 == "insmod" { print $2 }' >$dir/list
n=10
while read -r module; do
	name=$n-${module##*/}
	case $module in
	*.xz) xz -dc "$module" >"$dir/modules/${name%.xz}" ;;
	*) cp "$module" "$dir/modules/$name" ;;
	esac
	n=$((n + 1))
done <$dir/list
rm $dir/list
cat >$dir/init <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for m in /modules/*; do insmod $m; done
echo "GUEST UP" >/dev/ttyS0
before=
while :; do
	now=$(cd /sys/bus/pci/drivers/bochs-drm && echo 0000:*)
	[ "$now" = "$before" ] || echo "BOUND $now" >/dev/ttyS0
	before=$now
	sleep 1
done
END
chmod 755 $dir/init
(cd $dir && find . | cpio -o -H newc 2>/dev/null) >/tmp/linux.initrd
rm -r $dir
chmod 644 /tmp/linux.initrd
cp "$(ls /boot/vmlinuz-"$kernel" /vmlinuz 2>/dev/null | head -n 1)" /tmp/linux.kernel

serial() { tr -d '\r' </tmp/linux.serial; }
bound() { [[ $(serial | grep BOUND | tail -n 1) == "BOUND 0000:0"* ]]; }
unbound() { [ "$(serial | grep BOUND | tail -n 1)" = 'BOUND 0000:*' ]; }
begun=$SECONDS
vm alice linux -m 192 -serial file:/tmp/linux.serial -kernel /tmp/linux.kernel -initrd /tmp/linux.initrd -cpu qemu64 \
	-append 'console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check nowatchdog audit=0 cryptomgr.notests' \
	-qmp unix:/tmp/linux.second,server=on,wait=off \
	-device pcie-root-port,id=rp1,chassis=1,slot=1,mem-reserve=32M \
	-device pcie-root-port,id=rp2,chassis=2,slot=2,mem-reserve=32M
ok 'a Linux guest' wait_for 100 grep -q 'GUEST UP' /tmp/linux.serial || diag "$(tail -n 20 /tmp/linux.serial)"
diag "it has booted after $((SECONDS - begun)) s"

run_as alice python3 -c 'import socket, time
s = socket.socket(socket.AF_UNIX); s.connect("/tmp/linux.qmp"); s.recv(100); print("has it", flush=True); time.sleep(1000)' \
	>/tmp/linux.busy &
busy=$!
ok 'another program keeps its first monitor' wait_for 20 grep -q 'has it' /tmp/linux.busy
for round in 1 2; do
	attach 01:00.0
	is $status 0 "round $round: a card is attached" || diag "$stderr"
	ok '... and the driver of the guest binds to it' wait_for 20 bound || diag "$(tail -n 20 /tmp/linux.serial)"
	detach 01:00.0
	is $status 0 '... and detached' || diag "$stderr"
	ok '... for which the driver has let go of it' wait_for 5 unbound || diag "$(tail -n 20 /tmp/linux.serial)"
	ok '... and the host has it back' wait_for 5 is_back $gpu bochs-drm
done
attach 01:00.0
is $status 0 'once more'
ok '... with the driver' wait_for 20 bound
capture run_as alice gpubroker release "$(gpubroker leases --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["id"])')"
is $status 0 'it is asked back by a release' || diag "$stderr"
ok '... for which the guest lets go of it' wait_for 20 unbound || diag "$(tail -n 20 /tmp/linux.serial)"
ok '... and the host has it back' wait_for 20 is_back $gpu bochs-drm

# An mdev has a node of its own as well.
attach --profile mbochs-small mbochs
is $status 0 'an mdev is attached by iommufd' || diag "$stderr"
uuid=$(ls /sys/bus/mdev/devices)
like "$(python3 /tests/qmp.py /tmp/linux.second qom-list '{"path":"/machine/peripheral"}')" "gpubroker-[0-9]*-$uuid" '... and is in QEMU by its UUID'
detach "$uuid"
is $status 0 '... and detached' || diag "$stderr"
is "$(ls /sys/bus/mdev/devices)" '' '... and gone'

kill $busy
wait $busy 2>/dev/null
vm_end linux
ok 'no record is left' wait_for 20 no_records
is "$(killed)" "$killed" 'no process met its filter'
rm -f /tmp/linux.* /etc/gpubroker/policy.d/60-attach.policy
modprobe -r mbochs
systemctl restart gpubroker
done_testing
