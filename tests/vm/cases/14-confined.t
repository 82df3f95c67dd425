#!/bin/bash
# What each process of the daemon's may do, as /proc tells; and the limit of locked
# memory, for which one capability is kept as long as a rule needs it.
. ./lib.sh

main_pid() { systemctl show -P MainPID gpubroker; }
# field PID KEY
field() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }
none=0000000000000000
sys_resource=0000000001000000

confined() {
	local pid=$1 name=$2 permitted=$3 bounding=$4
	is "$(field "$pid" CapPrm)" "$permitted" "$name: permitted capabilities"
	is "$(field "$pid" CapEff)" "$permitted" "$name: effective capabilities"
	is "$(field "$pid" CapInh)$(field "$pid" CapAmb)" $none$none "$name: no inheritable or ambient capability"
	# Of use to a process that executes a program, and that none may.
	is "$(field "$pid" CapBnd)" "$bounding" "$name: no more in the bounding set than its unit has"
	is "$(field "$pid" NoNewPrivs)" 1 "$name: no_new_privs"
	is "$(field "$pid" Seccomp)" 2 "$name: under a seccomp filter"
}

core=$(main_pid)
confined "$core" core $none $sys_resource
is "$(pgrep -P "$core" | wc -l)" 0 'the core has no child: its helpers are units of their own'
account=$(id -u gpubroker)
# The finder looks into all processes.
ptrace_and_read=0000000000080004
# The ender too, and it may signal.
and_kill=0000000000080024
for helper in gpubroker-load gpubroker-watch gpubroker-find gpubroker-end; do
	pid=$(helper_pid "${helper#gpubroker-}")
	is "$(cat "/proc/$pid/comm")" "$helper" "$helper is there"
	caps=$none
	[ $helper != gpubroker-find ] || caps=$ptrace_and_read
	[ $helper != gpubroker-end ] || caps=$and_kill
	confined "$pid" "$helper" $caps $caps
	is "$(field "$pid" Uid | tr '\t' ' ')" "$account $account $account $account" \
		"$helper: under its own account"
	is "$(field "$pid" Groups | tr -d ' ')" "$(id -g gpubroker)" "$helper: in no other group"
	is "$(stat -c %U "/proc/$pid/fd")" root "$helper: cannot be looked into by its account"
done

# The core has a network of its own, and must see all the same which interfaces the host uses: they keep a card
# from being lent.
isnt "$(readlink "/proc/$core/ns/net")" "$(readlink /proc/1/ns/net)" 'the core has no part in the network'
is "$(ls "/proc/$core/root/sys/class/net")" "$(ls /sys/class/net)" '... and sees the interfaces of the host'
is "$(cd "/proc/$core/root/dev" && echo vd* kms[g] vfi[o]/vfio)" 'vd* kms[g] vfio/vfio' \
	'... and of devices neither disks nor the log of the kernel, but VFIO'

# A worker, caught while a claim is at it: its filter and what it holds.
cat >/tmp/catch.py <<-'END'
	import os, sys, time
	core, seen = sys.argv[1], {}
	filters = int(dict(l.split(":", 1) for l in open(f"/proc/{core}/status"))["Seccomp_filters"])
	end = time.time() + 60
	while time.time() < end and not os.path.exists("/tmp/catch.stop"):
	    try:
	        kids = open(f"/proc/{core}/task/{core}/children").read().split()
	    except OSError:
	        break
	    for pid in kids:
	        try:
	            if open(f"/proc/{pid}/comm").read().strip() != "gpubrokerd":
	                continue
	            status = dict(l.split(":", 1) for l in open(f"/proc/{pid}/status"))
	            fds = sorted(os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd"))
	        except OSError:
	            continue
	        if int(status["Seccomp_filters"]) <= filters:
	            continue # not under its own yet
	        seen[pid] = (status["CapPrm"].strip(), status["Seccomp"].strip(), fds)
	for pid, (caps, mode, fds) in seen.items():
	    odd = [f for f in fds if not f.startswith(("/sys/", "/var/lib/gpubroker/history/", "pipe:"))]
	    print(f"worker caps={caps} seccomp={mode} odd={odd}")
END
rm -f /tmp/catch.stop
python3 /tmp/catch.py "$core" >/tmp/catch.out 2>&1 &
catcher=$!
for i in 1 2 3; do
	run_as alice gpubroker run --gpu 01:00.0 -- true
	wait_for 20 is_back $gpu_audio snd_hda_intel
done
touch /tmp/catch.stop
wait $catcher
if ! lacks 'a worker was seen at work' children; then
	like "$(cat /tmp/catch.out)" worker 'a worker was seen at work'
	is "$(sort -u /tmp/catch.out)" "worker caps=$none seccomp=2 odd=[]" \
		'workers hold sysfs files or what outlives a reboot, and a pipe, and nothing else'
fi

# ---- locked memory ----
# The doorbell of an SMMU is where a PC has memory from 128 MiB on, see gpubrokerd(8); a guest of that processor has none there.
[ "$HOSTTYPE" = x86_64 ] && size=512 || size=120
vm_with() {
	local name=$1
	shift
	MEMLOCK=8M vm alice "$name" "$@" -- -m $size -device vfio-pci,host=02:00.0
}

vm_with tight --gpu 02:00.0
wait $vm_pid
isnt $? 0 "a VM of $size MiB fails under 8 MiB of locked memory where no rule grants more"
like "$(cat /tmp/tight.log)" 'warning: only 8192 KiB of memory may be locked.*allow user alice claim address 0000:02:00.0 memlock' \
	'run warns of the limit before, and names the rule that would lift it'
like "$(cat /tmp/tight.log)" 'gpubroker: warning.*Cannot allocate memory' "... and QEMU says it after"
wait_for 20 is_back $gpu2 bochs-drm

# The capability is gone by now, so a reload that needs it starts the daemon again; leases go on.
run_as alice gpubroker run --gpu 01:00.0 -- sleep 300 &
holder=$!
wait_for 20 is_leased $gpu_audio
echo "allow user alice claim address $gpu2 memlock 1G" >/etc/gpubroker/policy.d/20-memlock.policy
capture timeout 60 systemctl reload gpubroker
is $status 0 'systemctl reload waits for no broker that cannot start before it ends'
again() { [ "$(main_pid)" != "$core" ] && systemctl is-active gpubroker; }
ok 'a reload that first grants memlock has the daemon started again' wait_for 40 again
core=$(main_pid)
like "$(run_as bob gpubroker leases)" "alice +$holder .*leased" '... under a lease that goes on'
kill $holder
wait $holder
wait_for 20 is_back $gpu_audio snd_hda_intel
confined "$core" 'core with a memlock rule' $sys_resource $sys_resource
is "$(field "$(helper_pid load)" CapPrm)$(field "$(helper_pid find)" CapPrm)" $none$ptrace_and_read 'no helper has the capability'
vm_with roomy --gpu 02:00.0
ok "a VM of $size MiB starts where a rule grants 1G" vm_up roomy
is "$(prlimit -n --memlock -o SOFT,HARD --noheadings --raw -p $vm_pid | tail -1)" '1073741824 1073741824' \
	"the claimer's limit is what the rule grants"
unlike "$(cat /tmp/roomy.log)" warning '... and nothing is warned of'
vm_end roomy
wait_for 20 is_back $gpu2 bochs-drm
MEMLOCK=8M capture run_as alice gpubroker run --gpu 02:00.0 --memlock 640M -- sh -c 'ulimit -l'
is "$stdout" 655360 '--memlock asks for less'
wait_for 20 is_back $gpu2 bochs-drm
MEMLOCK=8M capture run_as alice gpubroker run --gpu 02:00.0 --memlock 2G -- true
is $status 77 '--memlock for more than the rule grants is refused'
like "$stderr" "grants \(1024 MiB, /etc/gpubroker/policy.d/20-memlock.policy:1\)" '... with the grant and its rule'
MEMLOCK=8M capture run_as alice gpubroker run --gpu 01:00.0 -- sh -c 'ulimit -l'
is "$stdout" 8192 "another device's rule raises nothing"
wait_for 20 is_back $gpu bochs-drm
rm /etc/gpubroker/policy.d/20-memlock.policy
systemctl restart gpubroker
is "$(field "$(main_pid)" CapPrm)" $none 'without the rule the capability is gone again'
done_testing
