#!/bin/bash
# A Slurm cluster of two hosts, each with a kernel and a broker of its own, and accounts in MariaDB: one job over both
# with a GPU and a VM on each, preemption, and a device that hangs on one of them.
. ./pair.sh
. ./lib.sh
. ./torture.sh
. ./slurm.sh

load_driver # of $driverless, which hangs on demand
ok 'the second host answers' second 'insmod /tests/gpubroker_test.ko; hostname n2'
isnt "$(second 'cat /proc/sys/kernel/random/boot_id')" "$(cat /proc/sys/kernel/random/boot_id)" '... with a kernel of its own'

# ---- a cluster ----
slurm_policy card=$gpu late=$driverless
# n2 is chosen before n1.
slurm_conf "n1($pair_first)" 'n[1-2]' "NodeName=n1 NodeAddr=$pair_first CPUs=8 Gres=gpu:card:1,gpu:late:1 Weight=2" \
	"NodeName=n2 NodeAddr=$pair_second CPUs=8 Gres=gpu:card:1,gpu:late:1 Weight=1" \
	'PartitionName=urgent Nodes=n[1-2] PriorityTier=10' \
	'PreemptType=preempt/partition_prio' 'PreemptMode=REQUEUE' \
	"AccountingStorageType=accounting_storage/slurmdbd" "AccountingStorageHost=n1" \
	'AccountingStorageTRES=gres/gpu,gres/gpu:card' 'JobAcctGatherType=jobacct_gather/none'
slurm_vm
for file in /etc/gpubroker/policy.d/60-slurm.policy /etc/slurm/{slurm,cgroup}.conf /tmp/vm.sh \
	/etc/systemd/system/slurmd.service.d/gpubroker.conf; do give $file; done
second 'systemctl daemon-reload; reload; cp /tests/nested.elf /tmp/'

mkdir -p /run/mysqld
mariadbd --no-defaults --user=root --datadir=/var/lib/mysql --socket=/run/mysqld/mysqld.sock --skip-networking >/tmp/mariadb.log 2>&1 &
mariadb=$!
answers() { mariadb --no-defaults -u root --socket=/run/mysqld/mysqld.sock -e 'select 1'; }
ok 'MariaDB starts' wait_for 100 answers || diag "$(tail -n 20 /tmp/mariadb.log)"
install -m 600 -o slurm /dev/null /etc/slurm/slurmdbd.conf
cat >/etc/slurm/slurmdbd.conf <<-END
	AuthType=auth/munge
	DbdHost=n1
	SlurmUser=slurm
	StorageType=accounting_storage/mysql
	StorageHost=localhost
	StorageUser=slurm
	StorageLoc=slurm
END
# slurmdbd would make the database, but with libmariadb 3.4.10 no query succeeds on a connection that missed it first.
mariadb --no-defaults -u root --socket=/run/mysqld/mysqld.sock \
	-e "create database slurm; create user slurm@localhost; grant all on slurm.* to slurm@localhost"
systemctl start munge
second 'systemctl start munge'
slurmdbd -D >/tmp/slurmdbd.log 2>&1 &
slurmdbd=$!
ok '... and slurmdbd, with it' wait_for 100 sacctmgr -i add cluster lab || diag "$(tail -n 20 /tmp/slurmdbd.log /tmp/mariadb.log)"
ok 'Slurm starts on the first host' systemctl start slurmctld slurmd || slurm_said
ok '... and on the second' second 'systemctl start slurmd' || diag "$(second 'journalctl -n 30 --no-pager -u slurmd -o cat')"
both_idle() { [ "$(sinfo -h -N -o '%N %T' | sort -u | xargs)" = 'n1 idle n2 idle' ]; }
ok 'both nodes serve' wait_for 100 both_idle || { sinfo -N -l | sed 's/^/# /'; slurm_said; }

# ---- one job over both ----
cat >/tmp/both.sh <<-END
	#!/bin/sh
	exec srun -l /tmp/vm.sh $gpu
END
wide=$(submit wide -N2 --ntasks-per-node=1 --gres=gpu:card:1 --requeue /tmp/both.sh)
ok 'a job over both has a GPU here' wait_for 150 is_leased $gpu || { diag "$(cat /tmp/job-wide.log)"; slurm_said; }
leased_there() { second 'is_leased $gpu'; }
ok '... and one there' wait_for 100 leased_there || { diag "$(cat /tmp/job-wide.log)"; diag "$(second slurm_said)"; }
is "$(lease_of $gpu allotment) $(second 'lease_of $gpu allotment')" "slurm-$wide slurm-$wide" '... by an allotment of each broker'
uses() { grep -q "^0:.*register b0c5" /tmp/job-wide.log && grep -q "^1:.*register b0c5" /tmp/job-wide.log; }
ok '... with a VM on each, which uses it' wait_for 100 uses || diag "$(cat /tmp/job-wide.log)"

# ---- preemption by the partition's priority ----
urgent=$(submit urgent -p urgent -w n2 --gres=gpu:card:1 --wrap 'gpubroker run -- true && hostname')
ok 'a job of the partition that goes first takes a GPU of the other' wait_for 150 job_is "$urgent" COMPLETED || slurm_said
is "$(second 'cat /tmp/job-urgent.log')" n2 '... and had it'
like "$(scontrol show job "$wide")" ' Restarts=1 ' '... which is queued again'
scancel "$wide"
ok '... and cancelled, both hosts have their devices' wait_for 100 is_back $gpu bochs-drm
ok '... the other too' second 'wait_for 60 is_back $gpu bochs-drm'

# ---- a device that hangs on one of the hosts ----
second 'hang remove $driverless'
cat >/tmp/late.sh <<-'END'
	#!/bin/sh
	gpubroker run -- hostname && exit
	scontrol requeue $SLURM_JOB_ID
	sleep 1000
END
late=$(submit late --gres=gpu:late:1 --requeue /tmp/late.sh)
drained() { [[ $(sinfo -h -n n2 -o '%T %E') == drain*' gpubroker: '* ]]; }
ok 'a device that hangs on one node drains that node' wait_for 200 drained || { sinfo -N -l | sed 's/^/# /'; slurm_said; }
like "$(sinfo -h -n n2 -o %E)" "$driverless .*is stuck" '... with the reason'
unlike "$(sinfo -h -n n1 -o %T)" drain '... and not the other'
wait_for 60 scontrol update jobid="$late" starttime=now
ok 'the job runs on the other' wait_for 200 job_is "$late" COMPLETED || { diag "$(cat /tmp/job-late.log)"; slurm_said; }
is "$(tail -n 1 /tmp/job-late.log)" n1 '... with the device of that'
second 'hang remove'
undrained() { [[ $(sinfo -h -n n2 -o '%T') == idle ]]; }
ok 'when the device is back, its node serves again' wait_for 100 undrained || sinfo -N -l | sed 's/^/# /'

# ---- accounts ----
counted() { sacct -X -n -P -D -j "$1" -o AllocTRES | grep -q "$2"; }
ok 'sacct shows the two GPUs of the job over both' wait_for 60 counted "$wide" 'gres/gpu=2' || diag "$(sacct -D -P -o JobID,State,NodeList,AllocTRES)"
ok '... with their type' counted "$wide" 'gres/gpu:card=2'
ok '... and the one of the other' counted "$urgent" 'gres/gpu=1'

is "$(gpubroker allotments --json | tr -d ' \n')$(second 'gpubroker allotments --json' | tr -d ' \n')" '[][]' 'nothing stays allotted'
ok '... nor leased' wait_for 30 no_records
ok '... on both' second 'wait_for 30 no_records'
systemctl stop slurmd slurmctld
second 'systemctl stop slurmd; rmmod gpubroker_test'
kill $slurmdbd $mariadb
wait $slurmdbd $mariadb
done_testing
