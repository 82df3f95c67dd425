# shellcheck shell=bash
# Two hosts, n1 and n2, with a network of their own, see ../pair. Sourced first, since it gives the host its name.

pair_first=192.0.2.1 pair_second=192.0.2.2

# pair_join 1|2: this is the first, or the second.
pair_join() {
	local card
	modprobe virtio_net
	udevadm settle
	card=$(basename "$(echo /sys/bus/pci/devices/0000:00:1b.0/virtio*/net/*)")
	ip link set lo up
	ip link set "$card" up
	ip addr add "192.0.2.$1/24" dev "$card"
	hostname "n$1"
	printf '%s\n' "$pair_first n1" "$pair_second n2" >>/etc/hosts
}

# second SCRIPT [ARGUMENT...]: bash on the second host, as root, with what cases use; the output and status are its own.
second() { python3 /tests/pair.py run "$pair_second" "$@"; }
# give FILE: the second host gets it, at the same place.
give() { second 'mkdir -p "$(dirname "$1")" && base64 -d <<<"$3" >"$1" && chmod "$2" "$1"' "$1" "$(stat -c %a "$1")" "$(base64 "$1")"; }
