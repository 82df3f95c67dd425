# shellcheck shell=bash
# Claims and releases without end, by eight users on sixteen functions: what 40 and 41 share. The short
# sweep of each is 100 cycles, or what a busy machine makes of them in two minutes, the whole one 50,000.
. ./lib.sh

# udevd, which knows nothing of these functions, costs a tenth of a second for each of their events.
noise=(systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket gpubroker-uevents.service)
users=(u1 u2 u3 u4 u5 u6 u7 u8)
main_pid() { systemctl show -P MainPID gpubroker; }
fds() { local f=("/proc/$core/fd/"*); echo ${#f[@]}; }
# What a leak would grow: not the pages of programs and libraries, of which ever more are touched.
rss() { sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$core/status"; }
# count NAME LINE: the number behind NAME= in what cycle printed.
count() { local v=${2#*"$1="}; echo "${v%%[ $'\n']*}"; }
cycle() {
	out=$(/tests/cycle run "$@" "${users[@]}" -- "${plain[@]}")
	status=$?
	diag "$out"
}
# sixteen: one command has as many as it may, which are as many leases as there can be here. Prints how many it has.
sixteen() {
	run_as u1 gpubroker run $(printf -- '--gpu %s ' "${plain[@]}") -- \
		/bin/sh -c 'echo "$GPUBROKER_LEASE" | tr , "\n" | sort -u | wc -l'
}
# stops_growing CYCLES...: a leak grows by as much in each round, malloc's arenas only until they have their size, and
# how much that takes depends on how many leases there are at once, which a busy machine decides. So memory has
# to stand still, within 256 KiB, over one of four further rounds of these cycles.
stops_growing() {
	local before round all=
	for round in 1 2 3 4; do
		before=$(rss)
		cycle "$@"
		wait_for 20 all_back
		grown=$(($(rss) - before))
		all+="$grown "
		[ $grown -ge 256 ] || { diag "memory grew by $all KiB"; return 0; }
	done
	diag "memory grew by $all KiB, in each of $round rounds"
	return 1
}
has_fds() { [ "$(fds)" = "$1" ]; }
all_back() {
	local f
	for f in "${plain[@]}"; do has_driver "$f" gpubroker_test || return; done
	no_records
}
# restored WHEN: everything as before.
restored() {
	local f overrides=
	ok "$1: every function is back on its driver, and no record is left" wait_for 30 all_back
	for f in "${plain[@]}"; do overrides+=$(override_of "$f"); done
	is "$overrides" '' "$1: no override is left"
	is "$(run_as u1 gpubroker leases --json | tr -d ' \n')" '[]' "$1: the broker knows of no lease"
}
serves() { systemctl is-active gpubroker && run_as u1 gpubroker list; }

systemctl stop "${noise[@]}"
insmod /tests/gpubroker_test.ko
ok 'sixteen functions are on a driver that binds fast' wait_for 10 all_back
# A line for each claim and each end would have journald take a third of the machine for hours.
if [ -n "${THOROUGH:-}" ]; then
	mkdir -p /run/systemd/system/gpubroker.service.d
	printf '[Service]\nLogLevelMax=notice\n' >/run/systemd/system/gpubroker.service.d/quiet.conf
	systemctl daemon-reload
	systemctl restart gpubroker
fi
ok 'the broker serves' wait_for 20 serves

# The table of leases, malloc's arenas and the like have their size after this.
core=$(main_pid)
sixteen >/dev/null
wait_for 20 all_back
cycle -n 40 -s 60
wait_for 20 all_back
fds_before=$(fds) rss_before=$(rss)

if [ -n "${THOROUGH:-}" ]; then long=(-n 50000 -p 60); else long=(-n 100 -s 120); fi

# The last of both.
finish() {
	is "$(killed)" '' 'no filter killed anything'
	ok 'the driver can be unloaded: nobody holds it' rmmod gpubroker_test
	if [ -n "${THOROUGH:-}" ]; then
		rm /run/systemd/system/gpubroker.service.d/quiet.conf
		systemctl daemon-reload
	fi
	systemctl start "${noise[@]}"
	done_testing
}
