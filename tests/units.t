#!/bin/sh
# systemd accepts the units, sysusers.d and modules-load.d without a message, and finds the units well confined.
# shellcheck disable=SC2317,SC2046 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

made='gpubroker.service gpubroker-watch.service gpubroker-load.service gpubroker-find.service gpubroker-end.service gpubroker-metrics.service'
# Its score says nothing: the administrator's hooks must be able to do anything.
open='gpubroker-hooks.service'
path='gpubroker-hooks.path'
kept='gpubroker.socket gpubroker-helpers.socket gpubroker-prepare.service gpubroker-metrics.timer'

for unit in $made $open $path; do cp "$top_builddir/brokerd/$unit" "$dir/"; done
for unit in $kept; do cp "$top_srcdir/brokerd/$unit" "$dir/"; done

all_units() {
	for unit in "$top_srcdir"/brokerd/*.service "$top_srcdir"/brokerd/*.service.in "$top_srcdir"/brokerd/*.socket \
		"$top_srcdir"/brokerd/*.timer "$top_srcdir"/brokerd/*.path.in; do
		unit=${unit##*/}
		[ -e "$dir/${unit%.in}" ] || { echo "${unit%.in} is not looked at"; return 1; }
	done
}

# The daemon is not installed and its account does not exist, which `verify` would report.
verify() {
	mkdir "$dir/verify"
	for unit in $made $open $path $kept; do
		sed -e "s,^\(ExecStart\|ExecStartPre\|ExecReload\)=.*,\1=$(command -v true)," \
			-e 's/^\(User\|SocketUser\)=gpubroker/\1=root/' "$dir/$unit" >"$dir/verify/$unit" || return 1
	done
	# shellcheck disable=SC2086 # a list
	out=$(cd "$dir/verify" && SYSTEMD_UNIT_PATH="$dir/verify:" systemd-analyze verify --man=no $made $open $path $kept 2>&1)
	status=$?
	# Other units of the machine that runs this test may have faults.
	printf '%s\n' "$out" | grep -i gpubroker && return 1
	return "$status"
}

# The loader comes after a network's name service, which comes after the network, and this is no circle.
waits_for_names() {
	cp "$dir"/verify/* "$dir/names" || return 1
	printf '%s\n' '[Unit]' 'Wants=nss-user-lookup.target network-online.target' 'Before=nss-user-lookup.target' \
		'After=network-online.target' '[Service]' "ExecStart=$(command -v true)" >"$dir/names/names.service"
	printf '%s\n' '[Unit]' 'Wants=names.service' >>"$dir/names/gpubroker.socket"
	# shellcheck disable=SC2086 # a list
	out=$(cd "$dir/names" && SYSTEMD_UNIT_PATH="$dir/names:" systemd-analyze verify --man=no $made $open $path $kept \
		names.service 2>&1)
	! printf '%s\n' "$out" | grep -i 'cycle' &&
		grep -q '^After=.*nss-user-lookup.target' "$dir/gpubroker-load.service"
}

# score UNIT MOST: fails if systemd's measure of the unit's exposure is above MOST, in tenths.
score() {
	out=$(systemd-analyze security --no-pager --offline=yes --threshold="$2" "$dir/$1" 2>&1) && return
	printf '%s\n' "$out" | grep -v '^✓'
	return 1
}
# A unit without a sandbox must fail.
score_can_fail() {
	printf '[Service]\nExecStart=/bin/true\n' >"$dir/open.service"
	! score open.service 13 >/dev/null
}

substituted() {
	# shellcheck disable=SC2086 # a list
	! (cd "$dir" && grep -n '@[a-z_]*@' $made $open $path) &&
		grep -q '^ExecStart=/.*/gpubrokerd$' "$dir/gpubroker.service" &&
		grep -q '^ExecStart=/.*/gpubrokerd --helper watcher$' "$dir/gpubroker-watch.service" &&
		grep -q '^ExecStart=/.*/gpubrokerd --helper loader$' "$dir/gpubroker-load.service" &&
		grep -q '^ExecStart=/.*/gpubrokerd --helper finder$' "$dir/gpubroker-find.service" &&
		grep -q '^ExecStart=/.*/gpubrokerd --helper ender$' "$dir/gpubroker-end.service" &&
		grep -q '^ExecStart=/.*/gpubroker-hooks$' "$dir/$open" &&
		grep -q '^DirectoryNotEmpty=/.*/gpubroker/hooks.d$' "$dir/$path"
}

# For each setting that `systemd-analyze security` counts against a unit, the unit names it in a comment, or has it
# below a comment.
explained() {
	for unit in $made; do
		systemd-analyze security --no-pager --offline=yes --json=short "$dir/$unit" | tr '}' '\n' |
			grep '"set":false' | sed -nE 's/.*"name":"([A-Za-z]+)=.*/\1/p' | sort -u >"$dir/counted"
		[ -s "$dir/counted" ] || { echo "$unit: nothing was found"; return 1; }
		while read -r setting; do
			grep -qE "^#.*\b$setting=" "$dir/$unit" ||
				awk -v setting="^$setting=" '$0 ~ setting && last ~ /^#/ { found = 1 } { if ($0 !~ setting) last = $0 }
					END { exit !found }' "$dir/$unit" || {
				echo "$unit: $setting= is not explained"
				return 1
			}
		done <"$dir/counted"
	done
}

limited() {
	for unit in $made $open; do
		grep -q '^MemoryMax=[0-9]*M$' "$dir/$unit" && grep -q '^TasksMax=[0-9]*$' "$dir/$unit" || {
			echo "$unit: no limit"
			return 1
		}
	done
	grep -q '^WatchdogSec=[0-9]*$' "$dir/gpubroker.service"
}

account() {
	mkdir -p "$dir/root/etc" && systemd-sysusers --root="$dir/root" \
		"$top_srcdir/brokerd/gpubroker.sysusers" &&
		grep -E '^gpubroker:[^:]*:[1-9][0-9]*:.*:/nonexistent:/usr/sbin/nologin$' "$dir/root/etc/passwd"
}

tap_ok "the test knows all units" all_units
tap_ok "units have their paths" substituted
tap_ok "memory and tasks of each are limited, and the core is watched" limited
if command -v systemd-analyze >/dev/null; then
	tap_ok "systemd-analyze verify" verify
	mkdir "$dir/names"
	tap_ok "the loader waits for name services" waits_for_names
else
	tap_skip "systemd-analyze verify" "no systemd-analyze"
	tap_skip "the loader waits for name services" "no systemd-analyze"
fi
# From systemd 250 on, `security` reads files.
if systemd-analyze security --offline=yes "$dir/gpubroker.service" >/dev/null 2>&1; then
	tap_ok "systemd-analyze security tells a unit without a sandbox" score_can_fail
	for unit in $made; do
		tap_ok "systemd-analyze security: $unit has at most 1.3" score "$unit" 13
	done
	tap_ok "what it counts against them is explained in them" explained
else
	for unit in $made; do
		tap_skip "systemd-analyze security: $unit has at most 1.3" "no systemd-analyze that looks at files"
	done
	tap_skip "what it counts against them is explained in them" "the same"
fi
if command -v systemd-sysusers >/dev/null; then
	tap_ok "systemd-sysusers makes the account" account
else
	tap_skip "systemd-sysusers makes the account" "no systemd-sysusers"
fi
tap_done
