#!/bin/sh
# libgpubroker.so exports exactly the functions that gpubroker.h declares.
# shellcheck disable=SC2317,SC2086 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
so=$top_builddir/client/.libs/libgpubroker.so.0

[ -e "$so" ] || {
	echo "1..0 # SKIP configured with --disable-shared"
	exit 0
}

exported() {
	${NM:-nm} -D --defined-only "$so" | sed -nE 's/.* [A-Z] ([^@]*)(@.*)?$/\1/p' |
		grep -vx LIBGPUBROKER_0 | sort
}

# Comments and function types are not declarations.
declared() {
	sed -e 's|/\*.*\*/||' -e '/\/\*/,/\*\//d' -e '/^typedef/d' "$top_srcdir/client/gpubroker.h" |
		grep -oE '\bgpubroker_[a-z0-9_]+\(' | tr -d '(' | sort -u
}

same() {
	[ -n "$(exported)" ] || {
		echo "no symbol at all"
		return 1
	}
	missing=$(declared | grep -vxF "$(exported)")
	extra=$(exported | grep -vxF "$(declared)")
	[ -z "$missing$extra" ] || {
		echo "declared only:" $missing
		echo "exported only:" $extra
		return 1
	}
}

tap_ok "exported and declared functions are the same" same
tap_done
