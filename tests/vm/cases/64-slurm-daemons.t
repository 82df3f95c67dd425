#!/bin/bash
# More jobs of Slurm's than GPUs, while all daemons are restarted; a job that is queued again, and one whose time is up.
. ./lib.sh
. ./slurm.sh

slurm_policy card=$gpu second=$gpu2
slurm_node gpu:card:1,gpu:second:1
slurm_vm
first=$(submit first --gres=gpu:card:1 /tmp/vm.sh $gpu)
second=$(submit second --gres=gpu:second:1 /tmp/vm.sh $gpu2)
ok 'two VMs run' wait_for 90 is_leased $gpu || slurm_said
ok '... with a GPU each' wait_for 90 is_leased $gpu2 || slurm_said
array=$(submit array --array=0-2 --gres=gpu:second:1 --wrap 'gpubroker run -- true')
ok 'an array waits for the GPU' wait_for 30 job_is "$array" PENDING
leases="$(lease_of $gpu id) $(lease_of $gpu2 id)"
systemctl restart gpubroker slurmctld slurmd
ok 'all daemons are restarted under running VMs' wait_for 60 node_is 'mixed*' || slurm_said
is "$(lease_of $gpu id) $(lease_of $gpu2 id)" "$leases" '... which go on'
is "$(squeue -h -t running -o %i | sort -n | xargs)" "$first $second" '... as Slurm knows'
scancel "$second"
ok 'scancel ends a VM, and the array gets the GPU, task by task' wait_for 200 job_is "$array" COMPLETED ||
	{ diag "$(cat /tmp/job-array.log)"; slurm_said; }
is "$(cat /tmp/job-array.log)" '' '... and no task has anything to say'
ok '... and the host has it' wait_for 30 is_back $gpu2 bochs-drm
ok '... while the other VM goes on' is_leased $gpu

scontrol requeue "$first"
ok 'a job that is queued again gives its GPU back' wait_for 60 is_back $gpu bochs-drm
wait_for 60 scontrol update jobid="$first" starttime=now timelimit=1
ok '... and gets one when it starts again' wait_for 100 is_leased $gpu || { diag "$(cat /tmp/job-first.log)"; slurm_said; }
ok 'a job whose time is up loses its GPU' wait_for 150 job_is "$first" TIMEOUT || slurm_said
ok '... and the host has it' wait_for 60 is_back $gpu bochs-drm
ok 'nothing stays allotted' wait_for 60 not_allotted || diag "$(gpubroker allotments; squeue -t all)"
ok '... nor leased' wait_for 30 no_records
slurm_end
rm -f /tmp/vm.sh /tmp/nested.elf
done_testing
