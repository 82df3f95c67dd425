# shellcheck shell=bash
# What a case may use. A case is bash, starts with `. ./lib.sh`, runs as root
# inside the emulated host, and ends with done_testing. It leaves the host as it
# found it: what it started it ends, by pid.

. /tests/machine
. /tests/kernel.sh

lib_n=0 lib_failed=0
# selinux, apparmor or nothing: what enforces here. Then users' commands are confined too, see as.c.
read -r AS_CONFINED </tests/confined-by
export AS_CONFINED
export XDG_RUNTIME_DIR=/tmp

diag() { printf '%s\n' "$*" | sed 's/^/# /'; }

# result STATUS NAME: the line of one test; all others end here. The status of each is that of its test, so that a
# case may add `|| diag ...`.
result() {
	lib_n=$((lib_n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $lib_n - $2"
	else
		lib_failed=$((lib_failed + 1))
		echo "not ok $lib_n - $2"
		return 1
	fi
}

# ok NAME COMMAND...: COMMAND succeeds.
ok() {
	local name=$1 out rc=0
	shift
	out=$("$@" 2>&1) || rc=$?
	result $rc "$name" || ! diag "status $rc of: $*
$out"
}

# is GOT WANTED NAME
is() {
	local rc=0
	[ "$1" = "$2" ] || rc=1
	result $rc "$3" || ! diag "got:    $1
wanted: $2"
}

# isnt GOT UNWANTED NAME
isnt() {
	local rc=0
	[ "$1" != "$2" ] || rc=1
	result $rc "$3" || ! diag "got: $1"
}

# like GOT REGEX NAME, unlike: an extended regular expression, over all lines.
like() {
	local rc=0
	[[ $1 =~ $2 ]] || rc=1
	result $rc "$3" || ! diag "got:     $1
pattern: $2"
}
unlike() {
	local rc=0
	[[ ! $1 =~ $2 ]] || rc=1
	result $rc "$3" || ! diag "got:     $1
against: $2"
}

pass() { result 0 "$1"; }
fail() { result 1 "$1" || { shift; [ $# = 0 ] || diag "$*"; }; }

# skip NAME REASON
skip() {
	lib_n=$((lib_n + 1))
	echo "ok $lib_n - $1 # SKIP $2"
}

skip_all() {
	skip "${0##*/}" "$*"
	echo "1..1"
	exit 0
}

# needs FEATURE...: the whole case is skipped where the kernel lacks one, see kernel.sh.
needs() {
	local words
	words=$(kernel_lacks "$@") || return 0
	skip_all "this kernel has no $words"
}

# lacks NAME FEATURE...: true, with NAME skipped, where the kernel lacks one: `lacks NAME x || is …`.
lacks() {
	local words
	words=$(kernel_lacks "${@:2}") || return 1
	skip "$1" "this kernel has no $words"
}

done_testing() {
	echo "1..$lib_n"
	[ $lib_failed = 0 ]
	exit
}

# capture COMMAND...: sets $status, $stdout, $stderr. Forks nothing of its own.
capture() {
	status=0
	"$@" >/tmp/capture.out 2>/tmp/capture.err </dev/null || status=$?
	stdout=$(</tmp/capture.out) stderr=$(</tmp/capture.err)
}

# run_as USER COMMAND...: with USER's uid, groups, home and nothing of root's.
# The locked-memory limit is lifted, so that nested VMs start; MEMLOCK=8M sets
# another (a number of bytes, or with K, M, G).
# In a subshell it execs: in `run_as alice … &` the pid $! is COMMAND's own.
run_as() {
	local user=$1 limit=${MEMLOCK:-unlimited}
	shift
	[ "$limit" = unlimited ] || limit=$(numfmt --from=iec "$limit")
	if [ "$BASHPID" = "$$" ]; then
		/tests/as "$user" "$limit" "$@"
	else
		exec /tests/as "$user" "$limit" "$@"
	fi
}

# hold USER OPTIONS...: in the background, by a process that does nothing. Adds its pid to holders.
holders=()
hold() {
	local user=$1
	shift
	run_as "$user" gpubroker run "$@" -- sleep 1000 >>/tmp/holders.log 2>&1 </dev/null &
	holders+=($!)
}

# refused USER STATUS PATTERN NAME OPTIONS...: what USER runs with OPTIONS is refused, with this
# status and sentence. A case about something else has a function of its own for either.
refused() {
	local user=$1 wanted=$2 pattern=$3 name=$4
	shift 4
	capture run_as "$user" gpubroker run "$@" -- true
	is $status "$wanted" "$name"
	like "$stderr" "$pattern" '... with a sentence'
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds; its status otherwise. SECONDS is enough on a machine
# that does nothing else; there are three times as many, so that one that is busy fails no test.
wait_for() {
	local end=$((SECONDS + 3 * $1)) rc
	shift
	while :; do
		"$@" >/dev/null 2>&1 && return 0
		rc=$?
		[ $SECONDS -lt $end ] || return $rc
		pause
	done
}

# A fifth of a second. Polling must cost nothing here, so neither this nor the common
# conditions below start a process: each would take a tenth of a second of the CPU.
exec {pause_fd}<> <(:)
pause() { read -rt 0.2 -u "$pause_fd" _ || :; }

# The kernel's own word on a function; empty where there is none.
link_name() { local l; l=$(readlink "$1"); echo "${l##*/}"; }
driver_of() { link_name "/sys/bus/pci/devices/$1/driver"; }
group_of() { link_name "/sys/bus/pci/devices/$1/iommu_group"; }
override_of() {
	local o=
	read -r o <"/sys/bus/pci/devices/$1/driver_override"
	[ "$o" = '(null)' ] || echo "$o"
}
has_driver() { [ "/sys/bus/pci/devices/$1/driver" -ef "/sys/bus/pci/drivers/$2" ]; }
# bound ADDRESS FILE: the drivers that bound it, by the kernel's events, in order.
bound() {
	awk -v slot="PCI_SLOT_NAME=$1" -v RS= '
		/(^|\n)ACTION=bind(\n|$)/ && index($0 "\n", slot "\n") {
			match($0, /\nDRIVER=[^\n]*/); print substr($0, RSTART + 8, RLENGTH - 8) }' "$2" | xargs
}
# no_records: the broker has no lease on record; claims that wait have records of their own.
# One may go between the list and the look, so each is looked at.
no_records() { local f; for f in /run/gpubroker/leases/[0-9]*; do [ ! -e "$f" ] || return 1; done; }
# is_free ADDRESS: no record has it.
is_free() {
	local record text
	for record in /run/gpubroker/leases/*; do
		text=
		{ read -rd '' text <"$record"; } 2>/dev/null
		[[ $text != *"$1"* ]] || return 1
	done
}
# is_back ADDRESS DRIVER: the host has it back. Its driver comes first and the record goes last; a claim between
# the two is refused as busy.
is_back() { has_driver "$1" "$2" && is_free "$1"; }
# is_leased ADDRESS: its claimer has it. That it is on vfio-pci may be a claim that is still under way.
is_leased() {
	gpubroker leases --json | tr -d ' \n' |
		grep -qE "\"devices\":\[[^]]*\"${1//./\\.}\"[^]]*\][^}]*\"state\":\"leased\""
}
# The journal, with all that was written before: journald reads its sockets when it gets to it.
journalctl() { command journalctl --sync 2>/dev/null; command journalctl "$@"; }
# set_mark: what the broker and its helpers write from here on is what said() prints. By an entry of the unit: to
# journalctl of systemd 252, after one of another is after the first of ours.
set_mark() { mark=$(journalctl -q -u gpubroker -n 1 --show-cursor -o cat | sed -n 's/^-- cursor: //p'); }
said() { journalctl -q --no-pager -o cat -ugpubroker{,-load,-watch,-find,-end} --after-cursor "$mark"; }
# said_it REGEX
said_it() { said | grep -qE "$1"; }
# reload: until the daemon serves by it, which may restart itself meanwhile.
reload() {
	set_mark
	systemctl reload gpubroker
	wait_for 20 said_it 'loaded again|policy in force stays|^serving: '
}
# killed: what filters have killed since the boot, as systemd says; nothing else tells.
killed() { journalctl -q --no-pager -b -o cat -ugpubroker{,-load,-watch,-find,-end} | grep -E 'status=31/SYS'; }
# helper_pid watch, helper_pid load, helper_pid find: the daemon's helper; 0: there is none.
helper_pid() { systemctl show -P MainPID "gpubroker-$1"; }
# state PID: R, S, D ... as in its stat; empty where there is none.
state() {
	local s=
	{ read -r s <"/proc/$1/stat"; } 2>/dev/null
	s=${s##*) }
	echo "${s%% *}"
}
# gone PID: it has ended. One that nobody has waited for, a zombie, still answers `kill -0`.
gone() { [[ $(state "$1") == [ZX] || ! -e /proc/$1 ]]; }
alive() { ! gone "$1"; }

# vm USER NAME [gpubroker run's options... --] QEMU's options...: starts an
# unmodified QEMU in the background, with a QMP socket; sets vm_pid. Without a
# `--` it is QEMU alone. Its output goes to /tmp/NAME.log.
vm() {
	local user=$1 name=$2 before=() arg split=
	shift 2
	for arg; do [ "$arg" != -- ] || split=1; done
	if [ -n "$split" ]; then
		before=(gpubroker run)
		while [ "$1" != -- ]; do before+=("$1"); shift; done
		before+=(--)
		shift
	fi
	rm -f "/tmp/$name.qmp"
	run_as "$user" "${before[@]}" qemu-system-x86_64 -nodefaults -display none -M q35 \
		-cpu max -accel tcg -qmp "unix:/tmp/$name.qmp,server=on,wait=off" "$@" \
		>"/tmp/$name.log" 2>&1 </dev/null &
	vm_pid=$!
}

# vm_up NAME [SECONDS]: until its QMP answers; shows its log if it doesn't.
vm_up() {
	wait_for "${2:-60}" test -S "/tmp/$1.qmp"
	wait_for "${2:-60}" python3 /tests/qmp.py "/tmp/$1.qmp" query-status || {
		diag "$(cat "/tmp/$1.log")"
		return 1
	}
}

# qmp NAME COMMAND [JSON-ARGUMENTS]: prints the answer as JSON.
qmp() { python3 /tests/qmp.py "/tmp/$1.qmp" "${@:2}"; }

# vm_end NAME: the QEMU that vm() started last ends; its status. One that does not answer is shown and killed: it
# would keep what it was lent from all that comes after.
vm_end() {
	local t
	qmp "$1" quit >/dev/null || {
		for t in /proc/$vm_pid/task/*; do
			diag "$(cat "$t/comm" "$t/wchan" "$t/syscall" "$t/stack" 2>&1)"
		done
		kill -KILL $vm_pid
	}
	wait $vm_pid
}

# vm_devices NAME: "vendor:device" of each PCI function that the VM has.
vm_devices() { python3 /tests/qmp.py --devices "/tmp/$1.qmp"; }

# outer COMMAND [JSON-ARGUMENTS]: asks the QEMU that runs this very host.
outer() { python3 /tests/qmp.py /dev/virtio-ports/gpubroker.monitor "$@"; }
