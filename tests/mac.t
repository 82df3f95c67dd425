#!/bin/sh
# The SELinux module builds and the AppArmor profile parses, with the tools of this distribution. The emulated
# host shows that they work: tests/vm/run --selinux, --apparmor.
# shellcheck disable=SC2317 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

: "${SELINUX_DEVEL:=/usr/share/selinux/devel/Makefile}" "${MAKE:=make}"
module() {
	mkdir "$dir/$1" && cp "$top_srcdir"/selinux/gpubroker.te "$top_srcdir"/selinux/gpubroker.if \
		"$top_srcdir"/selinux/gpubroker.fc "$dir/$1" && cat >>"$dir/$1/gpubroker.te" &&
		"$MAKE" -C "$dir/$1" -f "$SELINUX_DEVEL" NAME= gpubroker.pp && [ -s "$dir/$1/gpubroker.pp" ]
}
as_it_is() { module whole </dev/null; }
# A module of another project, which uses each interface.
interfaces() {
	module used <<-END
		type mine_t;
		domain_type(mine_t)
		role mine_r;
		gpubroker_stream_connect(mine_t)
		gpubroker_rw_vfio_container(mine_t)
		gpubroker_use_vfio_fds(mine_t)
		gpubroker_claim(mine_t)
		gpubroker_read_config(mine_t)
		gpubroker_role(mine_r, mine_t)
		gpubroker_admin(mine_t, mine_r)
	END
}
# The compiler would accept `open` in this interface, but only the daemon may open the files.
not_open() {
	sed -n '/^interface(`gpubroker_use_vfio_fds/,/^.)/p' "$top_srcdir/selinux/gpubroker.if" >"$dir/interface" &&
		grep -q 'vfio_device_t:chr_file {.*ioctl map' "$dir/interface" &&
		! grep -E 'vfio_device_t:.*(open|_file_perms)' "$top_srcdir/selinux/gpubroker.if"
}
# An apostrophe in a comment of m4's quoted text ends that, and what follows the comment is lost without a word.
quotes() {
	! awk '/^[a-z_]+\(.*`/ { inside = 1 } /^.\)/ { inside = 0 }
		inside && /^[ \t]*#.*['"'"'`]/ { print FILENAME ":" FNR ": " $0; found = 1 } END { exit !found }' "$@"
}
no_quotes() { quotes "$top_srcdir"/selinux/gpubroker.if "$top_srcdir"/selinux/gpubroker.te; }
planted() {
	sed 's/^\t# policy check and/\t# the user'"'"'s policy check and/' "$top_srcdir/selinux/gpubroker.if" >"$dir/planted.if"
	! quotes "$dir/planted.if"
}
tap_ok "no comment ends an SELinux interface" no_quotes
tap_ok "... and one that does is found" planted
if [ -e "$SELINUX_DEVEL" ]; then
	tap_ok "the SELinux module builds" as_it_is
	tap_ok "its interfaces can be used" interfaces
else
	tap_skip "the SELinux module builds" "no $SELINUX_DEVEL"
	tap_skip "its interfaces can be used" "no $SELINUX_DEVEL"
fi
tap_ok "no interface lets a VMM open a device" not_open

parser=$(PATH=$PATH:/usr/sbin:/sbin command -v apparmor_parser)
parse() { "$parser" -Q -K -I "$top_srcdir/selinux/apparmor" "$1"; }
daemon() {
	! grep -n '@[a-z_]*@' "$top_builddir/selinux/apparmor/gpubrokerd" &&
		parse "$top_builddir/selinux/apparmor/gpubrokerd"
}
vmm() {
	printf 'abi <abi/3.0>,\ninclude <tunables/global>\nprofile vmm flags=(attach_disconnected) {\n%s\n}\n' \
		'include <abstractions/gpubroker-vmm>' >"$dir/vmm"
	parse "$dir/vmm"
}
if [ -n "$parser" ] && [ -e /etc/apparmor.d/tunables/global ]; then
	tap_ok "the daemon's AppArmor profile parses" daemon
	tap_ok "a VMM's profile with the abstraction does" vmm
else
	tap_skip "the daemon's AppArmor profile parses" "no apparmor_parser"
	tap_skip "a VMM's profile with the abstraction does" "no apparmor_parser"
fi
tap_done
