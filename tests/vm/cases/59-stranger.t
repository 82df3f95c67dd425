#!/bin/bash
# What somebody does who has read the first page only: machines with names that people give, a definition that goes
# while the machine runs, a card that is in use already, sockets that are none, a device that is not there. Each ends
# in its time, with a sentence that helps, and with the card where it belongs.
. ./lib.sh
. /tests/libvirt.sh

attach() { capture timeout 200 /tests/as alice unlimited env XDG_RUNTIME_DIR="$run" gpubroker "$@"; }

# Names.
name="Tom's größe, games & more"
xml="Tom's größe, games \\&amp; more"
define libvirt strange "s|<name>.*<|<name>$xml<|" >/dev/null
ok 'a machine with spaces, a comma and more in its name starts' virsh start "$name" || diag "$(cat ~alice/.cache/libvirt/qemu/log/*.log)"
ok '... and has its card' is_leased $gpu
is "$(functions "$name")" '1234:1111 8086:2668' '... which it sees, with the audio function'
like "$(gpubroker leases)" 'alice' '... by a lease that is listed'

# What libvirt does to a machine with a card.
capture virsh managedsave "$name"
is $status 1 'its memory is not saved to disk, since the card has a state of its own'
like "$stderr" '[Mm]igrat' '... as libvirt says'
ok '... and it runs on' in_state "$name" running
ok '... with its card' is_leased $gpu
ok 'it is reset' virsh reset "$name"
ok '... with its card' is_leased $gpu
ok 'its definition goes while it runs' virsh undefine "$name"
ok '... and it runs on' in_state "$name" running
ok '... with its card' is_leased $gpu
ok 'it is destroyed' virsh destroy "$name"
ok '... and the card goes back' wait_for 20 is_back $gpu bochs-drm
capture virsh domstate "$name"
is $status 1 '... and nothing is left of the machine'

# The user has the card already, in another window.
hold alice --gpu 01:00.0
ok 'she has the card already' wait_for 20 is_leased $gpu
define libvirt lent '/GPUBROKER_WAIT/d' >/dev/null
start_fails lent "gpubroker: $gpu is leased to alice" 'a machine that wants the same card does not start'
kill "${holders[@]}"
wait "${holders[@]}" 2>/dev/null
ok 'the card is free' wait_for 20 is_back $gpu bochs-drm

# Started twice.
ok 'the machine starts' virsh start lent
capture virsh start lent
is $status 1 '... once'
like "$stderr" 'already active|already running' '... as libvirt says'

ok 'the machine is killed' kill -KILL "$(pid_of lent)"
ok '... and its card goes back' wait_for 20 is_back $gpu bochs-drm

# Paths that are no socket.
attach attach --qmp /home 01:00.0
isnt $status 0 'a directory is no monitor'
like "$stderr" 'gpubroker: .*/home.*; nothing was claimed' '... as is said'
attach attach --qmp /nowhere/vm.qmp 01:00.0
is $status 66 'nor is what is not there'
like "$stderr" 'there is no socket /nowhere/vm.qmp; start QEMU with -qmp' '... with the argument that makes one'
attach attach --qmp "/tmp/$(printf '%0200d' 0)" 01:00.0
isnt $status 0 'nor a path that is too long'
like "$stderr" 'gpubroker: .*; nothing was claimed' '... as is said'
attach attach --qmp /run/gpubroker/socket 01:00.0
isnt $status 0 "nor the broker's own socket"
like "$stderr" 'gpubroker: .*; nothing was claimed' '... as is said'

# gpubroker-qemu by hand.
qemu() { capture timeout 100 /tests/as alice unlimited env XDG_RUNTIME_DIR="$run" gpubroker-qemu "$@"; }
qemu --version
is "$status ${stdout%% *}" '0 QEMU' 'gpubroker-qemu --version is QEMU'"'"'s'
qemu -display none -device vfio-pci,host=99:00.0
is $status 66 'a device that is not there is told'
like "$stderr" 'gpubroker: .*99:00.0' '... by its address'
qemu -display none -device vfio-pci,host=nonsense
isnt $status 0 'what is no address is not claimed' || diag "$stderr"
like "$stderr" nonsense '... and named'
ok 'no record is left' wait_for 20 no_records

# In tmux, below Yama as on Ubuntu, with the shell's job control.
scope=/proc/sys/kernel/yama/ptrace_scope
before=$(<$scope)
echo 1 >$scope
terminal() { tmux -L stranger "$@"; }
shows() { terminal capture-pane -p -t alice | grep -q "$1"; }
type_line() { terminal send-keys -t alice -l "$1"; terminal send-keys -t alice Enter; }
holder_is() { [[ $(ps -o state= -C holder) == "$1" ]]; }
has_card() { grep -q has /tmp/stranger.held; }
no_holder() { ! pgrep -x holder; }
no_supervisor() { ! pgrep -x gpubroker-lend; }
window() {
	rm -f /tmp/stranger.held
	terminal -f /dev/null new-session -d -s alice -x 80 -y 24 "exec /tests/as alice unlimited env PS1='ready> ' bash --norc"
	wait_for 30 shows ready
	type_line "gpubroker run --gpu 02:00.0 -- /tests/holder $gpu2 /tmp/stranger.held keeps"
	ok "$1: a command has the card" wait_for 40 has_card || diag "$(terminal capture-pane -p -t alice)"
}
if command -v tmux >/dev/null; then
	window 'in tmux'
	terminal send-keys -t alice C-z
	ok '... is stopped by ^Z' wait_for 20 shows Stopped
	ok '... itself, too' wait_for 20 holder_is T
	type_line fg
	ok '... goes on by fg' wait_for 20 holder_is S
	terminal send-keys -t alice C-c
	ok '... ends by ^C' wait_for 20 no_holder
	ok '... and the host has the card' wait_for 20 is_back $gpu2 bochs-drm
	terminal kill-session -t alice
	window 'in another window'
	terminal kill-session -t alice
	ok '... which ends with its window' wait_for 20 no_holder
	ok '... and its supervisor' wait_for 20 no_supervisor
	ok '... and the host has the card' wait_for 20 is_back $gpu2 bochs-drm
	terminal kill-server 2>/dev/null
else
	skip 'a window of tmux' 'this host has no tmux'
fi
echo "$before" >$scope
end_libvirt lent
rm -f /tmp/stranger.held
done_testing
