# shellcheck shell=bash
# What the cases of qemu:///session share. Sourced after lib.sh; the case ends with end_libvirt.

command -v virsh >/dev/null || skip_all 'this host has no libvirt'
run=/run/user/1000
mkdir -p $run
chown alice $run
chmod 700 $run
examples=/usr/share/doc/gpubroker/examples/libvirt
# A disk whose first sector has the machine reset itself, as a guest does that reboots.
reset=/tmp/reset.img
{
	printf '\xb0\x06\xba\xf9\x0c\xee\xf4'
	head -c 503 /dev/zero
	printf '\x55\xaa'
	head -c 1M /dev/zero
} >$reset
chown alice $reset

virsh() { run_as alice env XDG_RUNTIME_DIR=$run virsh -q -c qemu:///session "$@"; }
# define EXAMPLE NAME [SED-SCRIPT]: an example as this host can run it, by emulation, and with what the script changes.
define() {
	sed -e "s/type='kvm'/type='qemu'/; s/'host-passthrough'/'maximum'/; s/'GiB'>16/'MiB'>64/; s/<vcpu>8/<vcpu>1/" \
		-e "s/type='qcow2'/type='raw'/; s|/home/alice/disk.qcow2|$reset|; /<interface/,/<\/interface/d" \
		-e "s|<name>.*<|<name>$2<|; s|</disk>|<shareable/></disk>| ; ${3:-}" "$examples/$1.xml" >"/tmp/$2.xml"
	chmod 644 "/tmp/$2.xml"
	(virsh undefine "$2") >/dev/null 2>&1 # in a subshell virsh() replaces the shell
	virsh define "/tmp/$2.xml"
}
# Of the example's two functions only the first.
alone='/multifunction/{n;N;d}'
# start_fails NAME REGEX TEST: libvirt does not start it, and shows this.
start_fails() {
	capture virsh start "$1"
	is "$status" 1 "$3"
	like "$stderr" "$2" '... and libvirt shows why'
}
# functions NAME: vendor and device of each function of the host that QEMU has.
functions() {
	(virsh qemu-monitor-command "$1" --hmp info qtree) |
		awk '/dev: / { vfio = /vfio-pci/ } vfio && /pci id/ { sub(/.*pci id /, ""); print $1 }' | sort | xargs
}
pid_of() { cat $run/libvirt/qemu/run/"$1".pid; }
in_state() { [ "$(virsh domstate "$1")" = "$2" ]; }
# end_session: libvirt's daemon ends. begin_session: the next one starts, with the limits of now. It keeps what it
# inherits open for minutes, which must be no pipe that somebody reads to its end.
libvirtd_pid() { pgrep -u alice -x libvirtd; }
end_session() { local pid; pid=$(libvirtd_pid) && kill "$@" "$pid" && wait_for 20 gone "$pid"; }
begin_session() { capture virsh version; }

# end_libvirt NAME...: nothing is left of the session, in which these were defined.
end_libvirt() {
	local name
	for name; do (virsh undefine "$name") >/dev/null 2>&1; done
	end_session
	for name; do rm -f "/tmp/$name.xml"; done
	rm -rf $reset ~alice/.cache/libvirt ~alice/.config/libvirt
}

# What it finds is kept. More than once: libvirt waits for an answer of QEMU's for a while only.
asks() { capture virsh domcapabilities --emulatorbin /usr/bin/gpubroker-qemu --virttype qemu; return "$status"; }
wait_for 60 asks
