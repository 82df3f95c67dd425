#!/bin/sh
# The arrows between the parts hold. A layer is broken where a file includes what it must not know, or
# makes itself known to outsiders.
# shellcheck disable=SC2317,SC2046,SC2086 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
cd "$top_srcdir" || exit 99

# includes FILE...: what the files include, as `FILE: <name>` or `FILE: "name"`.
includes() {
	grep -HE '^[[:space:]]*#[[:space:]]*include' "$@" |
		sed -E 's/^([^:]*):[^<"]*([<"][^>"]*[>"]).*/\1: \2/'
}

# only PATTERN...: fails where standard input has a line that matches none of the patterns, and shows it.
# No line at all is a fault of this test.
only() {
	pattern=$(printf '|%s' "$@")
	lines=$(cat)
	[ -n "$lines" ] && ! printf '%s\n' "$lines" | grep -vE "${pattern#|}"
}

# none PATTERN: fails where standard input has a line that matches, and shows it.
none() {
	lines=$(cat)
	[ -n "$lines" ] && ! printf '%s\n' "$lines" | grep -E "$1"
}

# closure FILE...: the files, and all of the project's headers that they reach.
closure() {
	seen=
	while [ $# -gt 0 ]; do
		f=$1
		shift
		case " $seen " in *" $f "*) continue ;; esac
		seen="$seen $f"
		[ ! -e "$f" ] || set -- "$@" $(includes "$f" | sed -n 's/.*: "\(.*\)"/\1/p')
	done
	printf '%s\n' $seen
}

sources() {
	find "$@" -name '*.[chly]' | sort
}

command_files() {
	sources client/command client/run
}

written_out() {
	includes $(sources brokerd client policy tests) |
		only ': <' ': "config\.h"' ': "(brokerd|client|policy|tests)(/[a-z0-9-]+)+\.h"'
}

there() {
	missing=
	for f in $(closure $(sources brokerd client policy tests)); do
		[ "$f" = config.h ] || [ -e "$f" ] || missing="$missing $f"
	done
	[ -z "$missing" ] || {
		echo "$missing"
		return 1
	}
}

policy_apart() {
	includes $(sources policy | grep -v -- '-test\.c$') | grep '"' |
		only ': "config\.h"' ': "policy/' ': "client/common/'
}

# No system calls, no logging, no database of users: only what computes.
policy_pure() {
	includes $(sources policy | grep -v -- '-test\.c$') | grep '<' |
		none '<(fcntl|poll|pwd|grp|syslog|signal|pthread|sys/(socket|stat|mman|ioctl|wait))\.h>'
}

client_below_brokerd() {
	closure $(sources client) | none '^brokerd/'
}

policy_below_brokerd() {
	closure $(sources policy) | none '^brokerd/'
}

command_is_outsider() {
	closure $(command_files) | none '^client/(wire|library)/'
}

command_uses_library() {
	includes $(command_files) | grep -q '"client/gpubroker\.h"'
}

# only_in PATTERN FILE...: what matches the pattern is included by these files and no other.
only_in() {
	what=$1
	shift
	includes $(sources brokerd client policy) | grep -E ": <$what>" |
		only "$(printf '|^%s:' "$@" | cut -c2-)"
}

# brokerd/landlock.c has the kernel's numbers itself.
no_landlock() {
	includes $(sources brokerd client policy) | none '<linux/landlock\.h>'
}

one_header() {
	cat Makefile.am ./*/*.am | grep -E '(^|_)HEADERS[[:space:]]*\+?=' |
		only '^include_HEADERS =$' '^include_HEADERS \+= %D%/gpubroker\.h$' &&
		grep -q 'include_HEADERS += %D%/gpubroker\.h$' client/client.am
}

header_alone() {
	includes client/gpubroker.h | only ': <std[a-z]+\.h>'
}

# What is never found would always pass.
helpers_work() {
	[ "$(closure client/library/connection.c | grep -cx -e client/library/connection.c -e client/wire/protocol.h)" = 2 ] &&
		command_files | grep -qx client/command/cli.c && ! command_files | grep -qx client/library/connection.c
}

tap_ok "the test sees includes" helpers_work
tap_ok "includes are written \"dir/file.h\"" written_out
tap_ok "and name files that are there" there
tap_ok "policy/ includes only policy/ and client/common/" policy_apart
tap_ok "policy/ does no I/O" policy_pure
tap_ok "policy/ never reaches brokerd/" policy_below_brokerd
tap_ok "client/ never reaches brokerd/" client_below_brokerd
tap_ok "the command includes client/gpubroker.h" command_uses_library
tap_ok "and never reaches the protocol" command_is_outsider
tap_ok "seccomp.h and cap-ng.h are confine.c's" only_in '(seccomp|cap-ng)\.h' brokerd/process/confine.c
tap_ok "linux/landlock.h, which older systems lack, is included nowhere" no_landlock
tap_ok "libudev and libnl are watcher.c's" only_in '(libudev\.h|netlink/.*)' brokerd/helper/watcher.c
tap_ok "libevent is the daemon's" only_in '(event\.h|event2/.*)' 'brokerd/[^:]*'
tap_ok "json-c is the command's" only_in '(json\.h|json-c/.*|json_.*)' 'client/[^:]*'
tap_ok "client/gpubroker.h is the only header that is installed" one_header
tap_ok "and needs nothing but the C library" header_alone
tap_done
