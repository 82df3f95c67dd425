#!/bin/bash
# Debian's Slurm says who gets which GPU, and the broker makes it true: the kit of gpubroker-slurm(7), with slurmctld,
# slurmd and munge on this host. 64-slurm-daemons and 64-slurm-health have what takes longer.
. ./lib.sh
. ./slurm.sh

slurm_policy card=$gpu late=$driverless second=$gpu2
slurm_node gpu:card:1,gpu:late:1,gpu:second:1
is "$(sed 1d /etc/gpubroker/slurm.map | xargs)" "0 $gpu card 1 $driverless late 2 $gpu2 second" '... whose map has the devices by type'
slurm_vm
refused bob 77 "" 'without a job bob gets no GPU' --gpu card

# ---- two jobs of one user, one of whom forges what Slurm says ----
first=$(run_as bob env SLURM_JOB_GPUS=2 SLURM_STEP_GPUS=2 GPUBROKER_ALLOTMENT=slurm-999 \
	/bin/sh -c 'ulimit -l 8192; exec sbatch --parsable -D /tmp -o /tmp/job-first.log --gres=gpu:card:1 --wrap "exec gpubroker run -- sleep 1000"')
second=$(submit second --gres=gpu:second:1 /tmp/vm.sh $gpu2)
ok 'a job gets a GPU of the type that it asks for' wait_for 90 is_leased $gpu || { diag "$(cat /tmp/job-first.log)"; slurm_said; }
is "$(lease_of $gpu allotment)" "slurm-$first" '... by an allotment of its own, whatever it has forged'
ok 'a second job of the same user runs beside it' wait_for 90 is_leased $gpu2 || { diag "$(cat /tmp/job-second.log)"; slurm_said; }
is "$(lease_of $gpu2 allotment)" "slurm-$second" '... by its own'
used() { grep -q 'register b0c5' /tmp/job-second.log; }
ok '... whose VM uses the device' wait_for 60 used || diag "$(cat /tmp/job-second.log)"
limit=$(awk '/Max locked memory/ { print $4 }' "/proc/$(lease_of $gpu pid)/limits")
is "$limit" $((2 << 30)) 'the limit of locked memory is that of the rule, not of who submitted'
refused carol 75 "slurm-$second" 'a user with a rule of her own does not get what a job has' --gpu $gpu2
scancel "$first" "$second"
ok 'scancel ends the VM, and the host has its device' wait_for 60 is_back $gpu2 bochs-drm
ok '... and so for the other job' wait_for 30 is_back $gpu bochs-drm

# ---- a job with several types: Slurm tells the prolog those of one, and a user all kinds of things ----
forged=$'\n     Nodes='$node$' CPU_IDs=0 Mem=0 GRES=gpu:late:1(IDX:1)\nJobId=1 '
both=$(submit both --gres=gpu:card:1,gpu:second:1 --comment="$forged" -J "$forged" --wrap 'gpubroker allotments')
ok 'a job with GPUs of two types ends' wait_for 100 job_is "$both" COMPLETED || slurm_said
is "$(grep -oE "$gpu|$gpu2|$driverless" /tmp/job-both.log | sort | xargs)" "$gpu $gpu2" '... and had both, and none that its name means'
whole=$(submit whole --exclusive --wrap 'gpubroker allotments')
ok 'a job with the node for itself ends' wait_for 100 job_is "$whole" COMPLETED || slurm_said
is "$(grep -oE "$gpu|$gpu2|$driverless" /tmp/job-whole.log | sort | xargs)" "$gpu $gpu2 $driverless" \
	'... and all GPUs of the node were its user'"'s"

# ---- what must not be ----
sed -i 's/gpu:card:1,gpu:late:1,gpu:second:1/gpu:second:1,gpu:card:1,gpu:late:1/' /etc/slurm/slurm.conf
capture $kit/slurmd-start
is "$status" 1 'slurmd does not start where Slurm numbers the GPUs otherwise than the map'
like "$stderr" 'must have .*Gres=gpu:card:1,gpu:late:1,gpu:second:1' '... with what slurm.conf must have'
ok 'nothing stays allotted' wait_for 60 not_allotted || diag "$(gpubroker allotments; squeue -t all)"
ok '... nor leased' wait_for 30 no_records
slurm_end
rm -f /tmp/vm.sh /tmp/nested.elf
done_testing
