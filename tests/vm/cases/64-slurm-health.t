#!/bin/bash
# A node of Slurm's on which something does not come back: what drains it, with which reason, and what resumes it.
. ./lib.sh
. ./torture.sh
. ./slurm.sh

load_driver # of $driverless, which hangs on demand
slurm_policy card=$gpu late=$driverless second=$gpu2
printf '#!/bin/sh\n[ ! -e /tmp/fails ] || exit 1\nexec %s/epilog\n' $kit >/tmp/epilog
chmod 755 /tmp/epilog
slurm_node gpu:card:1,gpu:late:1,gpu:second:1 Epilog=/tmp/epilog

# ---- a driver that hangs, beside another job ----
beside=$(submit beside --gres=gpu:card:1 --wrap 'exec gpubroker run -- sleep 1000')
ok 'a job runs' wait_for 90 is_leased $gpu || slurm_said
hang remove $driverless
stuck=$(submit stuck --gres=gpu:late:1 --wrap 'gpubroker run -- true')
ok 'a GPU whose host driver hangs drains the node' wait_for 120 node_is 'drain* gpubroker:*' || slurm_said
like "$(node_state)" "gpubroker: $driverless .*is stuck .*unbind" '... with the device and the step as the reason'
like "$(cat /tmp/job-stuck.log)" "$driverless is stuck" '... as the job was told'
ok '... while the other job goes on' job_is "$beside" RUNNING
is "$(lease_of $gpu allotment)" "slurm-$beside" '... with its GPU'
hang remove
is_resumed() { [[ $(node_state) != drain* && $(node_state) != *'gpubroker: '* ]]; }
ok 'when the device is back, the node is resumed, under the job' wait_for 90 is_resumed || slurm_said
# Slurm leaves the reason that it finds, if it drains a node by itself. An epilog that fails is such a case.
touch /tmp/fails
scancel "$beside"
ok 'a node that Slurm itself drains afterwards' wait_for 60 node_is 'drained *' || slurm_said
rm -f "/run/gpubroker-slurm/$node/well"
$kit/health
ok '... is not resumed for an old reason of the health check' node_is 'drained *' || slurm_said
rm /tmp/fails
gpubroker retract "slurm-$beside" --wait=60s
scontrol update nodename="$node" state=resume
ok '... before an administrator does' wait_for 60 node_is 'idle *' || slurm_said

# ---- an administrator's word ----
scontrol update nodename="$node" state=drain reason=maintenance
$kit/health
ok 'what an administrator has drained stays so' wait_for 20 node_is 'drained maintenance'
scontrol update nodename="$node" state=resume
scontrol update nodename="$node" state=drain reason='gpubroker: for this test'
scontrol update nodename="$node" state=down reason='gpubroker: for this test'
rm -f "/run/gpubroker-slurm/$node/well"
$kit/health
like "$(scontrol --oneliner show node "$node")" ' State=[^ ]*DOWN' 'a node that is down besides is not resumed'
scontrol update nodename="$node" state=resume
ok '... before an administrator does' wait_for 60 node_is 'idle *' || slurm_said
echo "0 $disk" >/tmp/disk.map
capture gpubroker slurm check --map /tmp/disk.map
is "$status" 75 'what the host uses is a fault, before a prolog meets it'
like "$stdout" "$disk is in use by the host: disk nvme" '... with the use'
rm /tmp/disk.map

# ---- what a user keeps beside the job ----
kept=$(submit kept --gres=gpu:second:1 --wrap 'exec sleep 1000')
# Slurm calls it running while its prolog does.
has_allotment() { gpubroker allotments | grep -q "^$1 "; }
ok 'a job with a GPU runs' wait_for 100 has_allotment "slurm-$kept" || slurm_said
run_as bob env GPUBROKER_ALLOTMENT="slurm-$kept" \
	gpubroker run -- python3 /tests/clinger.py ignores "$(group_of $gpu2)" $gpu2 >/tmp/job-clinger.log 2>&1 &
clinger=$!
ok '... and a process outside it has the GPU' wait_for 60 grep -q has /tmp/job-clinger.log || diag "$(cat /tmp/job-clinger.log)"
scancel "$kept"
ok 'what keeps the GPU of a job that has ended is ended' wait_for 200 is_back $gpu2 bochs-drm || diag "$(gpubroker leases)"
wait $clinger 2>/dev/null
ok '... and the node is not drained' wait_for 100 node_is 'idle *' || slurm_said

ok 'nothing stays allotted' wait_for 60 not_allotted || diag "$(gpubroker allotments; squeue -t all)"
ok '... nor leased' wait_for 30 no_records
slurm_end
rm -f /tmp/epilog
done_testing
