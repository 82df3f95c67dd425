#!/bin/bash
# Yama, by which a process reads only the memory of its descendants (kernel.yama.ptrace_scope=1, as on Ubuntu and
# Arch): a script that starts the VMM is served there as without Yama, and whoever started `run` notices nothing.
. ./lib.sh

scope=/proc/sys/kernel/yama/ptrace_scope
[ -e $scope ] || skip_all 'this kernel has no Yama'
before=$(<$scope)
back() {
	ok "$1: the GPU is back on its driver" wait_for 20 is_back $gpu2 bochs-drm
	ok "$1: no supervisor is left" wait_for 10 no_supervisor
}
no_supervisor() { ! pgrep -x gpubroker-lend; }
# ends PID STATUS NAME: whoever waits for it gets that status.
ends() { local s=0; wait "$1" 2>/dev/null || s=$?; is $s "$2" "$3"; }
has() { grep -q has /tmp/held; }
# A program that has the GPU and does not let go of it.
hold="/tests/holder $gpu2 /tmp/held keeps"
# script USER TEXT: `run` of a script.
script() {
	rm -f /tmp/held
	run_as "$1" gpubroker run --gpu 02:00.0 -- sh -c "$2" >/tmp/script.log 2>&1 </dev/null &
	pid=$!
}
script_has() { ok "$1" wait_for 20 has || diag "$(</tmp/script.log)"; }
play() { timeout 300 python3 /tests/terminal.py /tests/as alice unlimited bash --norc -i >/tmp/terminal.log 2>&1; }
played() { ok "$1" [ $? = 0 ] || diag "$(</tmp/terminal.log)"; }
# A script that does not exec QEMU.
script_vm() {
	rm -f /tmp/guest.qmp
	run_as alice gpubroker run --gpu 02:00.0 -- sh -c '"$@"; echo "status $?"; exit 5' sh \
		qemu-system-x86_64 -nodefaults -display none -M q35 -cpu max -accel tcg -m 64 \
		-qmp unix:/tmp/guest.qmp,server=on,wait=off -device vfio-pci,host=02:00.0 >/tmp/guest.log 2>&1 </dev/null &
	vm_pid=$!
}
script_vm_works() {
	script_vm
	ok "$1: a script's QEMU starts" vm_up guest
	like "$(vm_devices guest)" 1234:1111 "$1: ... and has the GPU"
	vm_end guest
	is $? 5 "$1: ... and the exit status is the script's"
	like "$(</tmp/guest.log)" 'status 0' "$1: ... which waited for QEMU"
	back "$1: a script's QEMU has ended"
}

echo 0 >$scope
script_vm_works 'scope 0'
script alice "exec $hold"
script_has 'scope 0: a program has the GPU'
is "$(</proc/$pid/comm)" holder 'scope 0: ... in the very process that was started'
kill $pid
ends $pid 143 'scope 0: ... and it ends by a signal'
back 'scope 0'

echo 1 >$scope
script_vm_works 'scope 1'
vm alice direct --gpu 02:00.0 -- -m 64 -device vfio-pci,host=02:00.0
ok 'a QEMU that is the command starts' vm_up direct
timeout 300 python3 /tests/terminal.py gpubroker leases >/tmp/terminal.log 2>&1 <<<'< qemu-system'
played 'leases names the program, not who waits for it'
vm_end direct
is $? 0 '... and its exit status is 0'
back 'a QEMU that is the command has ended'

script alice 'exit 42'
ends $pid 42 'an exit status is passed on'
script alice 'kill -SEGV $$'
ends $pid 139 'so is death by signal'
run_as alice gpubroker run --gpu 02:00.0 -- /etc/passwd 2>/dev/null &
ends $! 126 'and that a command cannot be executed'
back 'ended'

script alice "trap 'kill \$!; exit 6' TERM; $hold & wait"
script_has 'a child in the background has the GPU'
kill -TERM $pid
ends $pid 6 'a signal to who waits is handled by the command'
back 'handled'

script alice "$hold; true"
script_has 'a child of a script has the GPU'
kill -KILL "$(pgrep -x holder)"
ends $pid 0 'the child is killed, and the script goes on to its end'
back 'child killed'

# Set-user-ID programs have no privilege below run. One that its user cannot read cannot be read by the supervisor either.
cp /tests/holder /tmp/suid
chmod 4755 /tmp/suid
script alice "/tmp/suid $gpu2 /tmp/held keeps; true"
script_has "a set-user-ID program has the GPU"
is "$(stat -c %U "/proc/$(pgrep -x suid)")" alice '... as the user who has started it'
kill -KILL "$(pgrep -x suid)"
ends $pid 0 '... and it ends'
back 'set-user-ID'
chmod 4711 /tmp/suid
script alice "/tmp/suid $gpu2 /tmp/held keeps; exit 4"
ends $pid 4 'one that cannot be read does not have it'
like "$(</tmp/script.log)" 'cannot see which file process [0-9]+ \(suid\) opens; .*does not let itself be read' '... which is said'
back 'unreadable'
rm /tmp/suid

script alice "exec $hold"
script_has 'a command has the GPU'
kill -KILL "$(pgrep -x holder)"
ends $pid 137 'the command is killed, and so who waits for it'
back 'command killed'

script alice "exec $hold"
script_has 'a command has the GPU'
kill -KILL $pid
wait $pid 2>/dev/null
back 'who waits is killed, and the command with it'

script alice "exec $hold"
script_has 'a command has the GPU'
kill -KILL "$(pgrep -x gpubroker-lend)"
ok 'the supervisor is killed, and the command goes on' alive $pid
kill $pid
ends $pid 143 '... and who waits passes on its signals and its status'
back 'supervisor killed'

# A daemon forks twice and has the GPU after the command has ended.
script alice "setsid sh -c 'sleep 1; $hold & exit 0' & exit 3"
ends $pid 3 'a command ends before its daemon'
script_has '... which is served then, and has the GPU'
kill "$(pgrep -x holder)"
back 'daemon ended'

# A terminal, with the shell's job control.
run="gpubroker run --gpu 02:00.0 -- sh -c '$hold; true'"
rm -f /tmp/held
play <<END
> $run
? grep -q has /tmp/held
^Z
< Stopped
? ps -o state= -C holder | grep -q T
> fg
? ps -o state= -C holder | grep -q S
^C
? ! pgrep -x holder
> echo "status \$?"
< status 130
? ! pgrep -x gpubroker-lend
END
played '^Z stops a script and its child, fg continues both, ^C ends both, and the shell gets its status'
back '^C'

rm -f /tmp/held
play <<END
> $run &
? grep -q has /tmp/held
> jobs
< Running
> kill %1
? ! pgrep -x holder
> wait %1; echo "status \$?"
< status 143
END
played 'a job in the background is ended by kill %1'
back 'kill %1'

rm -f /tmp/held
play <<END
> $run
? grep -q has /tmp/held
hangup
? ! pgrep -x holder
END
played 'a closed terminal ends the command'
back 'closed terminal'

# `run` leads the session, as when a terminal's window starts it.
rm -f /tmp/held
timeout 300 python3 /tests/terminal.py /tests/as alice unlimited sh -c "exec $run" >/tmp/terminal.log 2>&1 <<END
? grep -q has /tmp/held
hangup
? ! pgrep -x holder
END
played '... also where no shell is between them'
back 'closed window'

rm -f /tmp/held
play <<END
> cd /tmp; nohup $run >/dev/null 2>&1 &
? grep -q has /tmp/held
hangup
END
played 'nohup: the terminal is closed'
ok 'nohup: ... and the command goes on' is_leased $gpu2
kill "$(pgrep -x holder)"
back 'nohup'

# What cannot be: said before the host has lost the GPU to anybody.
echo 2 >$scope
capture run_as alice gpubroker run --gpu 02:00.0 -- true
is $status 71 'scope 2: run is refused'
like "$stderr" 'kernel.yama.ptrace_scope is 2, so gpubroker cannot see which files COMMAND opens.*nothing was claimed; the administrator can set it to 1' \
	'... with the reason and what helps'
is "$(driver_of $gpu2)" bochs-drm '... before anything is claimed'

echo "$before" >$scope
rm -f /tmp/held /tmp/guest.log /tmp/script.log /tmp/terminal.log
done_testing
