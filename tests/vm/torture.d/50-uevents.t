#!/bin/bash
# 20,000 events at once, and more than the watcher's socket holds, with functions going off their
# driver and back meanwhile: soon after, the broker's view is what sysfs says.
. ./lib.sh

# udevd would be at it for minutes.
noise=(systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket gpubroker-uevents.service)
watcher=$(pgrep -x gpubroker-watch)
since=$(date '+%F %T')
lost() { journalctl -q --no-pager -o cat -ugpubroker{,-load,-watch} --since "$since" | grep -c 'uevents were lost'; }
# agrees NAME [PID]: `list` and sysfs are the same within a second; a busy machine has ninety. With PID that
# process, which is stopped, goes on when the time begins.
agrees() {
	local out rc=0
	out=$(/tests/uevents compare 90 ${2:-}) || rc=$?
	result $rc "$1: list says of every function what sysfs says (${out#*ms=} ms)" || diag "$out"
}
# The same by the command, which is what people see.
command_agrees() {
	gpubroker list --all --json >/tmp/list.json
	ok "$1" python3 - <<-'END'
		import json, os
		base = "/sys/bus/pci/devices/"
		def name(path):
		    return os.path.basename(os.readlink(path)) if os.path.exists(path) else None
		def number(path):
		    return int(open(path).read(), 16)
		kernel = {a: (number(base + a + "/vendor"), number(base + a + "/device"),
		              name(base + a + "/driver"), name(base + a + "/iommu_group"))
		          for a in os.listdir(base)}
		def hexadecimal(n):
		    return int(n, 16) if isinstance(n, str) else n
		broker = {d["address"]: (hexadecimal(d["vendor"]), hexadecimal(d["device"]), d["driver"] or None,
		                         None if d["iommu_group"] is None else str(d["iommu_group"]))
		          for d in json.load(open("/tmp/list.json"))}
		assert kernel == broker, (set(kernel.items()) ^ set(broker.items()))
	END
	rm -f /tmp/list.json
}

systemctl stop "${noise[@]}"
insmod /tests/gpubroker_test.ko
agrees 'before'

# At once, as fast as the kernel makes them, while other functions change.
/tests/uevents toggle 60 gpubroker_test "${plain[@]:0:8}" >/tmp/toggle &
toggle=$!
out=$(/tests/uevents storm 20000 "${plain[@]}")
diag "$out"
/tests/uevents toggle 2 gpubroker_test "${plain[@]:8}" >>/tmp/toggle
agrees '20,000 events'
wait $toggle
is $? 0 'functions went off their driver and back meanwhile'
diag "$(cat /tmp/toggle)"
agrees 'and when that is over'
command_agrees '... and so does `gpubroker list --all --json`'

# With the watcher stopped its socket fills, and the kernel drops the rest.
before=$(lost)
kill -STOP "$watcher"
/tests/uevents storm 20000 "${plain[@]}" >/tmp/storm
ok 'with the watcher stopped, functions change' /tests/uevents toggle 20 gpubroker_test "${plain[@]}"
stale=$(/tests/uevents compare 0)
isnt $? 0 '... which the broker cannot know'
diag "$stale"
agrees 'the watcher goes on after an overflow' "$watcher"
lost_now() { [ "$(lost)" -gt "$before" ]; }
ok '... which it has noticed, and looked at every function' wait_for 5 lost_now
command_agrees '... and so says `gpubroker list --all --json`'

# A function that is plugged in, and one that goes, where the events of that are lost.
kill -STOP "$watcher"
/tests/uevents storm 20000 "${plain[@]}" >/tmp/storm
outer device_add '{"driver": "pci-testdev", "bus": "'$pair_port'", "id": "second"}' >/dev/null
ok 'a function is plugged in while the watcher is stopped' wait_for 30 test -e /sys/bus/pci/devices/$pair_b/iommu_group
agrees 'a function more' "$watcher"
like "$(gpubroker list --all)" "${pair_b#0000:}" '... is listed'
kill -STOP "$watcher"
/tests/uevents storm 20000 "${plain[@]}" >/tmp/storm
outer device_del '{"id": "second"}' >/dev/null
unplugged() { [ ! -e /sys/bus/pci/devices/$pair_b ]; }
ok 'and goes again' wait_for 30 unplugged
agrees 'a function less' "$watcher"
unlike "$(gpubroker list --all)" "${pair_b#0000:}" '... is not listed'

is "$(pgrep -x gpubroker-watch)" "$watcher" 'the watcher is the same process as before'
diag "the watcher noticed $(lost) overflows"
rmmod gpubroker_test
agrees 'the driver unloaded'
systemctl start "${noise[@]}"
rm -f /tmp/toggle /tmp/storm
done_testing
