# shellcheck shell=bash
# What the cases about virtual functions share: a physical function, its VFs, and what `list` says.
# shellcheck disable=SC2154,SC2034
pf=$sriov at=/sys/bus/pci/devices/$sriov
policy=/etc/gpubroker/policy.d/20-vfs.policy
vf() { link_name "$at/virtfn$1"; }
n_vfs() { local l=("$at"/virtfn*); [ -e "${l[0]}" ] && echo ${#l[@]} || echo 0; }
# on_vfio N: there are just N, each on VFIO by its override.
on_vfio() {
	local i
	[ "$(n_vfs)" = "$1" ] || return
	for ((i = 0; i < $1; i++)); do
		has_driver "$(vf $i)" vfio-pci && [ "$(override_of "$(vf $i)")" = vfio-pci ] || return
	done
}
# tried ADDRESS: how often the host driver's probe has been at it, bound or not.
tried() { journalctl -qk -b -o cat | grep -c "pci function $1"; }
autoprobe() { cat "$at/sriov_drivers_autoprobe"; }
# field ADDRESS PYTHON: of `list`, of a device d.
field() {
	gpubroker list --all --json |
		python3 -c 'import json, sys; d = next(d for d in json.load(sys.stdin) if d["address"] == sys.argv[1])
print(eval(sys.argv[2]))' "$1" "$2"
}
counts() { field "$pf" '"{free}/{created}/{total}".format(**d["vfs"])'; }
has_counts() { [ "$(counts)" = "$1" ]; }
is_status() { [ "$(field "$1" 'd["status"]')" = "$2" ]; }
log() { journalctl -q -ugpubroker --since "$1" -o cat | grep -qE -- "$2"; }
# Whatever was written before is in the journal with an earlier second.
now() { command journalctl --sync 2>/dev/null; sleep 1; date '+%F %T'; }

# Who may have them; a case removes it.
allow_vfs() {
	cat >$policy <<-END
		device vf vendor 1b36 device 0010
		allow user alice claim vendor 1b36 device 0010
		allow user bob claim vendor 1b36 device 0010
	END
	reload
}

# The host as before, at the end of a case that began with killed=$(killed).
vfs_done() {
	rm $policy
	reload
	is "$(n_vfs):$(driver_of $pf):$(autoprobe)" 0:nvme:1 'the host is as before'
	ok 'no record is left' no_records
	is "$(killed)" "$killed" 'no filter has killed anything'
}
