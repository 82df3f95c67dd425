# shellcheck shell=bash
# For cases about devices' own nodes: cdev.py, spoken to by name. Sourced.

declare -A cdev_to cdev_from cdev_pid

# talk NAME COMMAND...: starts COMMAND, which is to end in cdev.py.
talk() {
	local name=$1 in out
	shift
	rm -f "/tmp/$name".{in,out}
	mkfifo "/tmp/$name".{in,out}
	"$@" <"/tmp/$name.in" >"/tmp/$name.out" 2>"/tmp/$name.err" &
	cdev_pid[$name]=$!
	exec {in}>"/tmp/$name.in" {out}<"/tmp/$name.out"
	cdev_to[$name]=$in cdev_from[$name]=$out
}

# say NAME STEP...: prints the answer.
say() {
	local line=
	echo "${*:2}" >&"${cdev_to[$1]}"
	read -rt 30 -u "${cdev_from[$1]}" line
	echo "$line"
}

# quit NAME: it ends, and with it all that only it has.
quit() {
	local in=${cdev_to[$1]} out=${cdev_from[$1]}
	echo end >&"$in"
	wait "${cdev_pid[$1]}"
	exec {in}>&- {out}<&-
	rm -f "/tmp/$1".{in,out,err}
}

cdev_of() { echo "/dev/vfio/devices/$(ls "/sys/bus/pci/devices/$1/vfio-dev")"; }
# lease_state ADDRESS: that of its lease, "" where it has none.
lease_state() {
	gpubroker leases --json | python3 -c 'import json, sys
for lease in json.load(sys.stdin):
    if sys.argv[1] in lease["devices"]:
        print(lease["state"])' "$1"
}
is_state() { [ "$(lease_state "$1")" = "$2" ]; }
# nodes PID: what it has open of VFIO and iommufd, a word each.
nodes() { local f; for f in "/proc/$1/fd"/*; do readlink "$f"; done | grep -E '^/dev/(vfio|iommu)' | sed 's:[0-9]*$::' | sort | uniq -c | xargs; }
