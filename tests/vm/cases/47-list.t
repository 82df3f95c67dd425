#!/bin/bash
# What people see of the list, on a terminal of 80 columns: which device they may have, who has the others, and why not.
. ./lib.sh

# on_terminal COLUMNS USER COMMAND...: what the command writes to a terminal that is so wide, with its colours.
on_terminal() {
	local columns=$1 user=$2
	shift 2
	run_as "$user" env TERM=xterm script -qec "stty cols $columns; $*" /dev/null </dev/null | tr -d '\r'
}
plain() { sed 's/\x1b\[[0-9;]*m//g'; }
# line DEVICE: its line in the list that is in $shown.
line() { grep "^ *${1#0000:} " <<<"$shown"; }

shown=$(on_terminal 80 alice gpubroker list | plain)
diag "$shown"
like "$shown" '^GPU +NAME +YOU +STATUS' 'a terminal gets the columns for people'
is "$(awk 'length > 80' <<<"$shown")" '' '... and no line is wider than it'
like "$(line $gpu)" ' card +yes +free$' 'what alice may have is free, and has the name of the policy'
like "$(line $boot_vga)" "the host's console" "the console's display is the host's"
shown=$(on_terminal 80 bob gpubroker list | plain)
like "$(line $gpu)" ' card +no +free$' 'what bob may not have says so'
like "$(on_terminal 80 alice gpubroker list)" $'\e\\[32m' 'a terminal gets colours'
unlike "$(on_terminal 80 alice env NO_COLOR=1 gpubroker list)" $'\e\\[3' '... but not with NO_COLOR'
like "$(run_as alice gpubroker list)" '^PCI ADDRESS +VENDOR' 'a pipe gets the columns that it had'
unlike "$(run_as alice gpubroker list --wide)" $'\e' '... and no colours'

hold alice --gpu card
ok 'alice has the card' wait_for 20 is_leased $gpu
run_as carol gpubroker run --wait --gpu $gpu -- true >/dev/null 2>&1 &
shown=$(on_terminal 80 bob gpubroker list | plain)
like "$(line $gpu)" ' no +alice, [0-9]+s' 'who has a device stands there, and for how long'
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'it goes back' wait_for 20 is_back $gpu bochs-drm

shown=$(run_as alice gpubroker list --all --columns address,status,group)
like "$shown" '^ADDRESS +STATUS +GROUP' '--columns takes those that are asked for'
like "$(grep "^$disk " <<<"$shown")" 'in use: ' "the host's disk is in use, and not available"
is "$(wc -l <<<"$(run_as alice gpubroker list --all --columns address)")" \
	"$(($(find /sys/bus/pci/devices/ -mindepth 1 | wc -l) + 1))" '... and every function has a line'
capture run_as alice gpubroker list --columns address,stauts
is "$status" 64 'a column that is not there is refused'
like "$stderr" "no column 'stauts'; did you mean 'status'\?" '... and what was meant is said'
like "$(run_as alice gpubroker list --wide)" '^ADDRESS +MODEL +DRIVER +GROUP +NODE +PATH +SERIAL +NAME +YOU +STATUS' '--wide has all'

echo alow >/etc/gpubroker/policy.d/47-list.policy
gpubroker policy reload >/dev/null
like "$(on_terminal 80 bob gpubroker list | plain)" "The policy's files have 1 mistake and are not in force" \
	'a policy that is not in force stands below the list'
rm /etc/gpubroker/policy.d/47-list.policy
gpubroker policy reload >/dev/null
unlike "$(on_terminal 80 bob gpubroker list | plain)" 'not in force' '... and one that is does not'
done_testing
