#!/bin/bash
# Debian's Slurm says who gets which GPU, and the broker makes it true: the kit of gpubroker-slurm(7), with slurmctld,
# slurmd and munge on this host, and jobs that run VMs.
. ./lib.sh
. ./torture.sh

command -v slurmctld >/dev/null || skip_all 'this host has no Slurm'
kit=/usr/share/gpubroker/slurm examples=/usr/share/doc/gpubroker/examples/slurm
node=$(uname -n)
load_driver # of $driverless, which hangs on demand
cp /tests/nested.elf /tmp/nested.elf

# ---- a node of a cluster, from the examples ----
cat >/etc/gpubroker/policy.d/60-slurm.policy <<-END
	device card address $gpu
	device late address $driverless
	device second address $gpu2
	allow allotted claim card memlock 2G
	allow allotted claim late
	allow allotted claim second
END
reload
ip link set lo up
ip addr add 192.0.2.1/32 dev lo
cp /etc/hosts /tmp/hosts.before
echo "192.0.2.1 $node" >>/etc/hosts
mkdir -p /etc/slurm
# Slurm's own values are for machines that are not busy: whatever is late here is no fault.
sed -e "s/^SlurmctldHost=.*/SlurmctldHost=$node(192.0.2.1)/; s/^HealthCheckInterval=.*/HealthCheckInterval=5/" \
	-e "s/^NodeName=.*/NodeName=$node NodeAddr=192.0.2.1 CPUs=8 Gres=gpu:card:1,gpu:late:1,gpu:second:1/" \
	-e "s/Nodes=[^ ]*/Nodes=$node/; s/,task.affinity//; s/^SelectTypeParameters=.*/SelectTypeParameters=CR_CPU/" \
	-e '$a MessageTimeout=100\nSlurmdTimeout=3000\nBatchStartTimeout=600\nKillWait=3\nUnkillableStepTimeout=600' \
	-e '$a SlurmdParameters=config_overrides' $examples/slurm.conf >/etc/slurm/slurm.conf
echo 'ConstrainDevices=yes' >/etc/slurm/cgroup.conf
install -D -m 644 $examples/slurmd.conf /etc/systemd/system/slurmd.service.d/gpubroker.conf
systemctl daemon-reload
# systemd looks at each unit's limits for this, which no job here comes near.
ok 'Slurm starts on a node with the kit' systemctl start munge slurmctld slurmd ||
	diag "$(journalctl -n 40 --no-pager -u slurmd -u slurmctld -o cat)"
is "$(sed 1d /etc/gpubroker/slurm.map | xargs)" "0 $gpu 1 $driverless 2 $gpu2" '... whose map has the devices by type'

node_state() { sinfo -h -n "$node" -o "%T %E"; }
node_is() { [[ $(node_state) == $1 ]]; }
job_is() { [ "$(squeue -h -t all -j "$1" -o %T | sort -u | xargs)" = "$2" ]; }
lease_of() { gpubroker leases --json | python3 -c 'import json, sys
for l in json.load(sys.stdin):
	if sys.argv[1] in l["devices"]: print(l[sys.argv[2]])' "$1" "$2"; }
not_allotted() { [ "$(gpubroker allotments --json | tr -d ' \n')" = '[]' ]; }
ok '... and Slurm takes it as it is' wait_for 60 node_is 'idle none' || diag "$(node_state; journalctl -n 30 --no-pager -u slurmd -u slurmctld -o cat)"

cat >/tmp/vm.sh <<-END
	#!/bin/sh
	exec gpubroker run -- qemu-system-x86_64 -nodefaults -display none -M q35 -cpu max -accel tcg -m 64 \\
		-serial stdio -kernel /tmp/nested.elf -append stay -device vfio-pci,host=\$1
END
chmod 755 /tmp/vm.sh
# submit LOG OPTION...: a job of bob's; prints its number.
submit() { (run_as bob sbatch --parsable -D /tmp -o "/tmp/job-$1.log" "${@:2}"); }

refused bob 77 "" 'without a job bob gets no GPU' --gpu card

# ---- two jobs of one user, one of whom forges what Slurm says ----
first=$(run_as bob env SLURM_JOB_GPUS=2 SLURM_STEP_GPUS=2 GPUBROKER_ALLOTMENT=slurm-999 \
	/bin/sh -c 'ulimit -l 8192; exec sbatch --parsable -D /tmp -o /tmp/job-first.log --gres=gpu:card:1 /tmp/vm.sh '$gpu)
second=$(submit second --gres=gpu:second:1 /tmp/vm.sh $gpu2)
ok 'a job gets a GPU of the type that it asks for' wait_for 90 is_leased $gpu || diag "$(cat /tmp/job-first.log; node_state)"
is "$(lease_of $gpu allotment)" "slurm-$first" '... by an allotment of its own, whatever it has forged'
ok 'a second job of the same user runs beside it' wait_for 90 is_leased $gpu2 || diag "$(cat /tmp/job-second.log; node_state)"
is "$(lease_of $gpu2 allotment)" "slurm-$second" '... by its own'
used() { grep -q 'register b0c5' /tmp/job-second.log; }
ok '... whose VM uses the device' wait_for 60 used || diag "$(cat /tmp/job-second.log)"
limit=$(awk '/Max locked memory/ { print $4 }' "/proc/$(lease_of $gpu pid)/limits")
is "$limit" $((2 << 30)) 'the limit of locked memory is that of the rule, not of who submitted'
refused carol 75 "slurm-$second" 'a user with a rule of her own does not get what a job has' --gpu $gpu2

# ---- more jobs than GPUs, and restarts of all daemons ----
array=$(submit array --array=0-2 --gres=gpu:second:1 --wrap 'gpubroker run -- true')
ok 'an array waits for the GPU' wait_for 30 job_is "$array" PENDING
leases="$(lease_of $gpu id) $(lease_of $gpu2 id)"
systemctl restart gpubroker slurmctld slurmd
ok 'all daemons are restarted under running VMs' wait_for 60 node_is 'mixed* none' || diag "$(node_state)"
is "$(lease_of $gpu id) $(lease_of $gpu2 id)" "$leases" '... which go on'
is "$(squeue -h -t running -o %i | sort -n | xargs)" "$first $second" '... as Slurm knows'
scancel "$second"
ok 'scancel ends a VM, and the array gets the GPU, task by task' wait_for 200 job_is "$array" COMPLETED ||
	diag "$(squeue -t all; cat /tmp/job-array.log)"
is "$(cat /tmp/job-array.log)" '' '... and no task has anything to say'
ok '... and the host has it' wait_for 30 is_back $gpu2 bochs-drm
ok '... while the other VM goes on' is_leased $gpu

# ---- requeue, a time limit, and a driver that hangs ----
scontrol requeue "$first"
ok 'a job that is queued again gives its GPU back' wait_for 60 is_back $gpu bochs-drm
wait_for 60 scontrol update jobid="$first" starttime=now timelimit=1
ok '... and gets one when it starts again' wait_for 100 is_leased $gpu || diag "$(squeue -t all; cat /tmp/job-first.log; node_state)"
hang remove $driverless
stuck=$(submit stuck --gres=gpu:late:1 --wrap 'gpubroker run -- true')
ok 'a GPU whose host driver hangs drains the node' wait_for 120 node_is 'drain* gpubroker:*' || diag "$(node_state; squeue -t all)"
like "$(node_state)" "gpubroker: $driverless .*is stuck .*unbind" '... with the device and the step as the reason'
like "$(cat /tmp/job-stuck.log)" "$driverless is stuck" '... as the job was told'
ok 'a job whose time is up loses its GPU' wait_for 150 job_is "$first" TIMEOUT || diag "$(squeue -t all)"
ok '... and the host has it' wait_for 60 is_back $gpu bochs-drm
hang remove
ok 'when the device is back, the node is resumed' wait_for 90 node_is 'idle none' || diag "$(node_state)"
scontrol update nodename="$node" state=drain reason=maintenance
$kit/health
ok 'what an administrator has drained stays so' wait_for 20 node_is 'drained maintenance'
scontrol update nodename="$node" state=resume
echo "0 $disk" >/tmp/disk.map
capture gpubroker slurm check --map /tmp/disk.map
is "$status" 75 'what the host uses is a fault, before a prolog meets it'
like "$stdout" "$disk is in use by the host: disk nvme" '... with the use'
rm /tmp/disk.map

# ---- what a user keeps beside the job, and what is no fault of the node ----
kept=$(submit kept --gres=gpu:second:1 --wrap 'exec sleep 1000')
ok 'a job with a GPU runs' wait_for 100 job_is "$kept" RUNNING || diag "$(squeue -t all; node_state)"
run_as bob env GPUBROKER_ALLOTMENT="slurm-$kept" \
	gpubroker run -- python3 /tests/clinger.py ignores "$(group_of $gpu2)" $gpu2 >/tmp/job-clinger.log 2>&1 &
clinger=$!
ok '... and a process outside it has the GPU' wait_for 60 grep -q has /tmp/job-clinger.log || diag "$(cat /tmp/job-clinger.log)"
scancel "$kept"
ok 'what keeps the GPU of a job that has ended is ended' wait_for 200 is_back $gpu2 bochs-drm || diag "$(gpubroker leases)"
wait $clinger 2>/dev/null
ok '... and the node is not drained' wait_for 100 node_is 'idle none' || diag "$(node_state)"

{ cat /etc/gpubroker/slurm.map; for ((i = 3; i < 17; i++)); do printf '%d 0000:%02x:1f.0\n' $i $((i + 64)); done; } \
	>"/etc/gpubroker/slurm.map.$node"
capture env SLURM_JOB_GPUS="$(seq -s , 0 16)" SLURM_JOB_ID=9001 SLURM_JOB_UID="$(id -u bob)" SLURMD_NODENAME="$node" $kit/prolog
rm "/etc/gpubroker/slurm.map.$node"
is "$status" 0 'a job that asks for more than an allotment can have does not drain the node'
like "$(journalctl -t gpubroker-slurm -o cat --no-pager)" 'job 9001: .*more than 16 devices' '... and the log says so'
scontrol update nodename="$node" state=drain reason='gpubroker: for this test'
scontrol update nodename="$node" state=down reason='gpubroker: for this test'
rm -f "/run/gpubroker-slurm/$node/well"
$kit/health
like "$(scontrol --oneliner show node "$node")" ' State=[^ ]*DOWN' 'a node that is down besides is not resumed'
scontrol update nodename="$node" state=resume
ok '... before an administrator does' wait_for 60 node_is 'idle none' || diag "$(node_state)"

# ---- whole nodes ----
whole=$(submit whole --exclusive --wrap 'gpubroker allotments')
ok 'a job with the node for itself ends' wait_for 100 job_is "$whole" COMPLETED || diag "$(squeue -t all; node_state)"
is "$(grep -oE "$gpu|$gpu2|$driverless" /tmp/job-whole.log | sort | xargs)" "$gpu $gpu2 $driverless" \
	'... and all GPUs of the node were its user'"'s"

# ---- what must not be ----
sed -i 's/gpu:card:1,gpu:late:1,gpu:second:1/gpu:second:1,gpu:card:1,gpu:late:1/' /etc/slurm/slurm.conf
capture $kit/slurmd-start
is "$status" 1 'slurmd does not start where Slurm numbers the GPUs otherwise than the map'
like "$stderr" 'must have .*Gres=gpu:card:1,gpu:late:1,gpu:second:1' '... with what slurm.conf must have'

ok 'nothing stays allotted' wait_for 60 not_allotted || diag "$(gpubroker allotments; squeue -t all)"
ok '... nor leased' wait_for 30 no_records
systemctl stop slurmd slurmctld munge
ip addr del 192.0.2.1/32 dev lo
cat /tmp/hosts.before >/etc/hosts
rm -rf /etc/systemd/system/slurmd.service.d /etc/slurm/{slurm,cgroup,gres}.conf /etc/gpubroker/slurm.map /tmp/{vm.sh,job-*.log,nested.elf} \
	/etc/tmpfiles.d/gpubroker-slurm.conf /etc/gpubroker/policy.d/60-slurm.policy /run/gpubroker-slurm /dev/gpubroker /tmp/hosts.before
systemctl daemon-reload
reload
done_testing
