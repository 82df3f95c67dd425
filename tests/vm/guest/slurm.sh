# shellcheck shell=bash
# A node of a Slurm cluster with the kit of gpubroker-slurm(7), for the cases about it. Sourced after lib.sh.

kit=/usr/share/gpubroker/slurm examples=/usr/share/doc/gpubroker/examples/slurm
node=$(uname -n)
command -v slurmctld >/dev/null || skip_all 'this host has no Slurm'

# slurm_policy NAME=ADDRESS...: root may allot these, and Slurm counts each as a GPU of that type. Names in order.
slurm_policy() {
	local each
	for each; do
		echo "device ${each%%=*} address ${each#*=}"
		echo "allow allotted claim ${each%%=*} memlock 2G"
	done >/etc/gpubroker/policy.d/60-slurm.policy
	reload
}

# slurm_conf CONTROLLER NODES [LINE...]: what /etc has of a cluster, from the examples; LINEs are more of slurm.conf, with
# the nodes.
slurm_conf() {
	mkdir -p /etc/slurm
	# Slurm's own values are for machines that are not busy: whatever is late here is no fault.
	sed -e "s/^SlurmctldHost=.*/SlurmctldHost=$1/; s/^HealthCheckInterval=.*/HealthCheckInterval=5/; /^NodeName=/d" \
		-e "s/ Nodes=[^ ]*/ Nodes=$2/; s/,task.affinity//; s/^SelectTypeParameters=.*/SelectTypeParameters=CR_CPU/" \
		-e '$a MessageTimeout=100\nSlurmdTimeout=3000\nBatchStartTimeout=600\nKillWait=3\nUnkillableStepTimeout=600' \
		-e '$a SlurmdParameters=config_overrides' $examples/slurm.conf >/etc/slurm/slurm.conf
	printf '%s\n' "${@:3}" >>/etc/slurm/slurm.conf
	echo 'ConstrainDevices=yes' >/etc/slurm/cgroup.conf
	install -D -m 644 $examples/slurmd.conf /etc/systemd/system/slurmd.service.d/gpubroker.conf
	systemctl daemon-reload
}

# slurm_node GRES [LINE...]: a controller, and a node of it with these; LINEs are more of slurm.conf.
slurm_node() {
	ip link set lo up
	ip addr add 192.0.2.1/32 dev lo
	cp /etc/hosts /tmp/hosts.before
	echo "192.0.2.1 $node" >>/etc/hosts
	slurm_conf "$node(192.0.2.1)" "$node" "NodeName=$node NodeAddr=192.0.2.1 CPUs=8 Gres=$1" "${@:2}"
	# systemd looks at each unit's limits for this, which no job here comes near.
	ok 'Slurm starts on a node with the kit' systemctl start munge slurmctld slurmd ||
		diag "$(journalctl -n 40 --no-pager -u slurmd -u slurmctld -o cat)"
	ok '... and takes it as it is' wait_for 60 node_is 'idle none' || slurm_said
}

# slurm_end: as it was before.
slurm_end() {
	systemctl stop slurmd slurmctld munge
	ip addr del 192.0.2.1/32 dev lo
	cat /tmp/hosts.before >/etc/hosts
	rm -rf /etc/systemd/system/slurmd.service.d /etc/slurm/{slurm,cgroup,gres}.conf /etc/gpubroker/slurm.map* \
		/etc/tmpfiles.d/gpubroker-slurm.conf /etc/gpubroker/policy.d/60-slurm.policy /run/gpubroker-slurm \
		/dev/gpubroker /tmp/{hosts.before,job-*.log} /var/lib/slurm/{slurmctld,slurmd}/*
	systemctl daemon-reload
	reload
}

slurm_said() { diag "$(node_state; squeue -t all; journalctl -n 40 --no-pager -u slurmd -u slurmctld -t gpubroker-slurm -o cat)"; }
node_state() { sinfo -h -n "$node" -o "%T %E"; }
node_is() { [[ $(node_state) == $1 ]]; }
job_is() { [ "$(squeue -h -t all -j "$1" -o %T | sort -u | xargs)" = "$2" ]; }
lease_of() { gpubroker leases --json | python3 -c 'import json, sys
for l in json.load(sys.stdin):
	if sys.argv[1] in l["devices"]: print(l[sys.argv[2]])' "$1" "$2"; }
not_allotted() { [ "$(gpubroker allotments --json | tr -d ' \n')" = '[]' ]; }
# submit LOG OPTION...: a job of bob's; prints its number.
submit() { (run_as bob sbatch --parsable -D /tmp -o "/tmp/job-$1.log" "${@:2}"); }

# slurm_vm: /tmp/vm.sh ADDRESS, a job that runs a VM with what it is allotted, and says what the VM sees.
slurm_vm() {
	cp /tests/nested.elf /tmp/nested.elf
	cat >/tmp/vm.sh <<-'END'
		#!/bin/sh
		exec gpubroker run -- qemu-system-x86_64 -nodefaults -display none -M q35 -cpu max -accel tcg -m 64 \
			-serial stdio -kernel /tmp/nested.elf -append stay -device vfio-pci,host=$1
	END
	chmod 755 /tmp/vm.sh
}
