# shellcheck shell=bash
# What the torture's cases share, beside lib.sh, which they source first.

devices=/sys/bus/pci/devices

# load_driver: all plain functions are on the driver that hangs on demand, see module/. However the
# case ends, nothing hangs any more and it is unloaded.
load_driver() {
	trap unload_driver EXIT
	insmod /tests/gpubroker_test.ko
}
unload_driver() {
	hang remove
	hang probe
	rmmod gpubroker_test
}
# hang STEP ADDRESS: from now on STEP (probe, remove) of ADDRESS hangs; without one it is over.
hang() { echo "${2:-}" >"/sys/module/gpubroker_test/parameters/hang_$1"; }

# now: milliseconds, of this host's own clock.
now() { local t=${EPOCHREALTIME/[.,]/}; echo "${t%???}"; }
seconds() { printf '%d.%03d s' $(($1 / 1000)) $(($1 % 1000)); }

sleeps() { [ "$(state "$1")" = D ]; }

# A user's claims in claims_by_many(): COUNT of them, of ADDRESS; a line each, "granted MILLISECONDS"
# or what went wrong. The time is that of the whole command, the way back is not in it.
claims_of() {
	local user=$1 address=$2 count=$3 before rc said
	for ((; count; count--)); do
		before=$(now) rc=0
		said=$(/tests/as "$user" unlimited gpubroker run --gpu "$address" -- true 2>&1) || rc=$?
		if [ $rc = 0 ]; then echo "granted $(($(now) - before))"; else echo "refused $rc $said"; fi
		wait_for 30 is_back "$address" gpubroker_test || echo "not given back: $address"
	done
}
# claims_by_many COUNT ADDRESS...: COUNT claims by u1, u2 ..., each with an ADDRESS of its own, all
# at the same time. Sets granted, unexpected (whatever was said beside), median, p90, max.
claims_by_many() {
	local count=$1 i=0 n pids=()
	shift
	rm -f /tmp/claims.*
	for address; do
		n=$((count / $# + (i < count % $#)))
		i=$((i + 1))
		claims_of "u$i" "$address" $n >"/tmp/claims.$i" &
		pids+=($!)
	done
	wait "${pids[@]}"
	unexpected=$(grep -hv '^granted' /tmp/claims.*)
	mapfile -t times < <(sed -n 's/^granted //p' /tmp/claims.* | sort -n)
	granted=${#times[@]}
	median=${times[granted / 2]:-0} p90=${times[granted * 9 / 10]:-0} max=${times[granted - 1]:-0}
	rm -f /tmp/claims.*
}
