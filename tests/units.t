#!/bin/sh
# systemd finds nothing to say about the units, sysusers.d and modules-load.d.
# shellcheck disable=SC2317,SC2046 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

# The daemon is not installed yet: verify would miss it.
verify() {
	sed "s,^\(ExecStart\|ExecStartPre\|ExecReload\)=.*,\1=$(command -v true)," \
		"$top_builddir/brokerd/gpubroker.service" >"$dir/gpubroker.service" &&
		cp "$top_srcdir/brokerd/gpubroker.socket" "$dir" &&
		sed "s|^ExecStart=.*|ExecStart=$(command -v true)|" \
			"$top_srcdir/brokerd/gpubroker-prepare.service" >"$dir/gpubroker-prepare.service" &&
		out=$(SYSTEMD_UNIT_PATH="$dir:" systemd-analyze verify --man=no \
			"$dir/gpubroker.service" "$dir/gpubroker.socket" \
			"$dir/gpubroker-prepare.service" 2>&1)
	status=$?
	# Other units of the machine that runs this test may have faults.
	printf '%s\n' "$out" | grep -i gpubroker && return 1
	return "$status"
}

substituted() {
	! grep -n '@[a-z_]*@' "$top_builddir/brokerd/gpubroker.service" &&
		grep -q '^ExecStart=/.*/gpubrokerd$' "$top_builddir/brokerd/gpubroker.service"
}

account() {
	mkdir -p "$dir/root/etc" && systemd-sysusers --root="$dir/root" \
		"$top_srcdir/brokerd/gpubroker.sysusers" &&
		grep -E '^gpubroker:[^:]*:[1-9][0-9]*:.*:/nonexistent:/usr/sbin/nologin$' "$dir/root/etc/passwd"
}

tap_ok "gpubroker.service has its paths" substituted
if command -v systemd-analyze >/dev/null; then
	tap_ok "systemd-analyze verify" verify
else
	tap_skip "systemd-analyze verify" "no systemd-analyze"
fi
if command -v systemd-sysusers >/dev/null; then
	tap_ok "systemd-sysusers makes the account" account
else
	tap_skip "systemd-sysusers makes the account" "no systemd-sysusers"
fi
tap_done
