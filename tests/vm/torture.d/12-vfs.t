#!/bin/bash
# The core is killed at every system call, its own and its workers', while virtual functions are made
# and while a start goes on with that, and started again: each time there are as many as were asked
# for or as before, each on VFIO, and host drivers are let at new ones as before. The short form takes
# every k-th point.
. ./lib.sh
. ./torture.d/breaker.sh

# Seconds for each sweep of the short form.
: "${SWEEP_SECONDS:=25}"
pf=$lone_sriov at=/sys/bus/pci/devices/$lone_sriov

n_vfs() { local l=("$at"/virtfn*); if [ -e "${l[0]}" ]; then n=${#l[@]}; else n=0; fi; }
# settled: two or four, all as they should be, and nothing kept about it.
settled() {
	local files=("$state"/*) override probe l
	n_vfs
	[ ! -e "${files[0]}" ] && [[ $n == [24] ]] && read -r probe <"$at/sriov_drivers_autoprobe" &&
		[ "$probe" = 1 ] || return
	for l in "$at"/virtfn*; do
		[ "$l/driver" -ef /sys/bus/pci/drivers/vfio-pci ] && read -r override <"$l/driver_override" &&
			[ "$override" = vfio-pci ] || return
	done
}
how_it_is() {
	local l
	echo "VFs: $(for l in "$at"/virtfn*; do echo "$(link_name "$l") on '$(link_name "$l/driver")' by '$(<"$l/driver_override")'"; done | xargs)"
	echo "autoprobe $(<"$at/sriov_drivers_autoprobe"), records: $(cd $state && head -n 20 -- * 2>/dev/null)"
	tail -n 8 $dir/log
}
vfs() { gpubroker --socket $socket vfs "$pf" "$1" >$dir/vfs 2>&1; }

# after: what the daemon, started again, made of it.
after() {
	start
	if [ -z "$alive" ]; then
		outcome="the daemon does not start: $reply"
	elif await 20 settled; then
		outcome=$n
	else
		outcome='in between'
	fi
}

# From two to four. What was there before is as it was after the one before.
point_make() {
	settled && [ "$n" = 2 ] || vfs 2
	ask "seize kill $1 entry"
	vfs 4
	killed
	if [ "$outcome" = passed ]; then
		settled && [ "$n" = 4 ] || outcome='not made'
	elif [ -z "$outcome" ]; then
		after
	fi
}

# A start finds a record, and new ones that nobody has bound.
point_go_on() {
	ask kill
	echo 0 >"$at/sriov_drivers_autoprobe"
	echo 0 >"$at/sriov_numvfs"
	echo 4 >"$at/sriov_numvfs"
	printf '%s\n' 'gpubroker vfs 1' "function $pf 1b36 0010" 'autoprobe 1' 'before 2' 'before-on-vfio 1' \
		'wanted 4' 'by 0' 'driver -' end >"$state/vfs-${pf/./-}"
	start "kill $1 entry"
	killed
	if [ "$outcome" = passed ]; then
		await 20 settled && [ "$n" = 4 ] || outcome='not gone on with'
	elif [ -z "$outcome" ]; then
		after
		[ "$outcome" != 2 ] || outcome='not as many as were asked for'
	fi
}

sweep() {
	local k=1 from=1 i started took
	n_outcome=([2]=0 [4]=0)
	total=0
	"point_$1" 1000000
	is "$outcome" passed "$1: undisturbed it comes to its end, after $total calls" || { diag "$(how_it_is)"; return; }
	started=${EPOCHREALTIME/./}
	"point_$1" $((total / 2))
	took=$((${EPOCHREALTIME/./} - started))
	if [ -z "${THOROUGH:-}" ]; then
		k=$((total * took / (SWEEP_SECONDS * 1000000) + 1))
		from=$((1 + RANDOM % k))
	fi
	wrongs=0 points=0
	for ((i = from; i < total * 2; i += k)); do
		"point_$1" $i
		[ "$outcome" != passed ] || break
		points=$((points + 1))
		case $outcome in
		2 | 4) n_outcome[$outcome]=$((n_outcome[outcome] + 1)) ;;
		*)
			wrongs=$((wrongs + 1))
			[ $wrongs -gt 4 ] || diag "$1: $point: $outcome" "$(how_it_is)"
			[ -n "$alive" ] || start
			vfs 0 ;;
		esac
	done
	is $wrongs 0 "$1: $points points (every $k. of $total), ${n_outcome[2]} with two, ${n_outcome[4]} with four, in $(((${EPOCHREALTIME/./} - started) / 1000000)) s"
	isnt $points 0 '... which are some'
}

begin
orphans=0

vfs 2
ok 'two are there' settled
sweep make
sweep go_on
is $orphans 0 'at no point did a worker begin to write to sysfs when its core was dead'
ask state
like "$reply" '^alive ' 'the daemon lives'
vfs 0
n_vfs
is "$n" 0 'they go'
end
done_testing
