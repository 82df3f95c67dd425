#!/bin/bash
# A node with more GPUs than an allotment can have, by the kit of gpubroker-slurm(7), with its prolog and epilog executed
# as slurmd does. Slurm itself is not here: cases/64-slurm has it.
. ./lib.sh
. ./torture.sh

load_driver
kit=/usr/share/gpubroker/slurm left=/run/gpubroker-slurm/n1
many=("${plain[@]}" "$lone_gpu")
echo 'allow allotted claim any' >/etc/gpubroker/policy.d/60-slurm.policy
reload
for i in "${!many[@]}"; do echo "$i ${many[i]}"; done >/etc/gpubroker/slurm.map
# slurmd PROGRAM GPUS
slurmd() { capture env SLURM_JOB_GPUS="$2" SLURM_JOB_ID=17 SLURM_JOB_UID="$(id -u bob)" SLURMD_NODENAME=n1 $kit/"$1"; }
# in_allotment LABEL: how many devices it has.
in_allotment() { gpubroker allotments --json | python3 -c 'import json, sys
print(sum(len(a["devices"]) for a in json.load(sys.stdin) if a["label"] == sys.argv[1]))' "$1"; }

slurmd prolog "$(seq -s , 0 16)"
is "$status" 0 'a job that asks for more than an allotment can have gets them' || diag "$stdout$stderr"
is "$(in_allotment slurm-17)" 16 '... as many as fit under its label'
is "$(in_allotment slurm-17.2)" 1 '... and the others under a second one'
capture run_as bob gpubroker run --allotment slurm-17.2 -- true
is "$status" 0 '... which the user claims by' || diag "$stderr"
slurmd epilog "$(seq -s , 0 16)"
is "$status" 0 'the epilog takes back both' || diag "$stdout$stderr"
is "$(gpubroker allotments --json | tr -d ' \n')" '[]' '... and nothing is left'

# The last device is in the second allotment, and hangs.
{ echo "0 $lone_gpu"; for i in "${!plain[@]}"; do echo "$((i + 1)) ${plain[i]}"; done; } >/etc/gpubroker/slurm.map
hang remove "${plain[-1]}"
slurmd prolog "$(seq -s , 0 16)"
capture run_as bob gpubroker run --allotment slurm-17.2 -- true
slurmd epilog "$(seq -s , 0 16)"
is "$status" 1 'a device of the second allotment that does not come back fails the epilog'
is "$(ls $left)" $'lock\nslurm-17.2' '... which leaves that one alone to the health check'
is "$(in_allotment slurm-17)" 0 '... and has taken back the first'
hang remove
# There is no slurmctld, so the health check fails, after it has done its part.
taken() { $kit/health; [ ! -e $left/slurm-17.2 ]; }
export SLURMD_NODENAME=n1
ok '... and it does it when the device is back' wait_for 30 taken
is "$(gpubroker allotments --json | tr -d ' \n')" '[]' '... so that nothing is left'
ok '... nor leased' wait_for 30 no_records
rm -rf /etc/gpubroker/policy.d/60-slurm.policy /etc/gpubroker/slurm.map /run/gpubroker-slurm
reload
done_testing
