#!/bin/sh
# Whatever says which version this is says the same: an administrator who reads NEWS.md, a package manager and
# `gpubroker --version` must not disagree, and a package must not be built of another version than it is called.
# shellcheck disable=SC2317 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
version=$(sed -nE 's/^AC_INIT\(\[gpubroker\], \[([0-9.]+)\]\)$/\1/p' "$top_srcdir/configure.ac")
packaging=$top_srcdir/brokerd/packaging

# says FILE EXPRESSION: the first that sed's EXPRESSION finds in FILE is the version.
says() {
	said=$(sed -nE "$2" "$top_srcdir/$1" | head -n 1)
	[ -n "$version" ] && [ "$said" = "$version" ] || {
		echo "$1 says '$said', configure.ac '$version'"
		return 1
	}
}
program() { [ "$("$top_builddir/client/gpubroker" --version)" = "gpubroker $version" ]; }
symbols() {
	# A symbol of a version that is not out yet would let programs be installed with a library that is older.
	sed -nE 's/^ .* ([0-9.]+)$/\1/p' "$packaging/debian/libgpubroker0.symbols" | while read -r since; do
		[ "$(printf '%s\n' "$since" "$version" | sort -V | tail -n 1)" = "$version" ] ||
			{ echo "a symbol since $since"; return 1; }
	done
}

tap_ok "NEWS.md begins with this version" says NEWS.md 's/^## ([0-9.]+).*/\1/p'
tap_ok "README.md" says README.md 's/^This is version ([0-9]+(\.[0-9]+)+)[,.].*/\1/p'
tap_ok "SECURITY.md" says SECURITY.md 's/^This document describes version ([0-9]+(\.[0-9]+)+)\.$/\1/p'
tap_ok "the SELinux module" says selinux/gpubroker.te 's/^policy_module\(gpubroker, ([0-9.]+)\.0\)$/\1/p'
tap_ok "the Debian packages" says brokerd/packaging/debian/changelog '1s/^gpubroker \(([0-9.]+)-.*/\1/p'
tap_ok "no symbol of the library is of a later one" symbols
tap_ok "the rpm packages" says brokerd/packaging/gpubroker.spec 's/^Version: +([0-9.]+)$/\1/p'
tap_ok "... and their changelog" says brokerd/packaging/gpubroker.spec 's/^\* .* ([0-9.]+)-[0-9]+$/\1/p'
tap_ok "gpubroker --version" program
tap_done
