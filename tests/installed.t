#!/bin/sh
# The files that `make install` installs: programs are hardened and need only the libraries that are listed here, and
# no file has more permission than it should. INSTALLED=DIR checks the files below DIR.
# shellcheck disable=SC2317,SC2086 # functions are called by name, through tap_ok; lists

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

for tool in readelf objdump make; do
	command -v $tool >/dev/null || {
		echo "1..0 # SKIP no $tool"
		exit 0
	}
done
if grep -q '^#define GPUBROKER_SANITIZED' "$top_builddir/config.h"; then
	echo "1..0 # SKIP built with sanitizers"
	exit 0
fi
if [ -z "${INSTALLED:-}" ]; then
	INSTALLED=$dir/root
	(umask 022 && make -C "$top_builddir" install DESTDIR="$INSTALLED" >"$dir/log" 2>&1) || {
		sed 's/^/# /' "$dir/log"
		echo 'Bail out! make install'
		exit 99
	}
fi

# Lists the libraries that each program may need, with the reason.
needed_by() {
	case $1 in
	gpubrokerd) echo '
		libc.so        the C library
		libevent_core  the loop of the core
		libseccomp.so  the filters, made before they are loaded
		libcap-ng.so   capabilities, dropped
		libnl-3.so     uevents: the watcher
		libudev.so     devices and their names: the watcher' ;;
	gpubroker) echo '
		libc.so        the C library
		libgpubroker   the broker, as for any outsider
		libjson-c.so   --json
		libsmartcols   tables on a terminal
		libmd.so       the checksums of drivers for guests' ;;
	gpubroker-qemu) echo '
		libc.so        the C library
		libjson-c.so   the arguments of an emulator' ;;
	gpubroker-hooks | gpubroker-policy-install) echo '
		libc.so        the C library' ;;
	libgpubroker.so*) echo '
		libc.so        the C library: whoever links with us has nothing else to load' ;;
	esac
}

elf_files() {
	find "$INSTALLED" -type f | sort | while read -r f; do
		[ "$(head -c 4 "$f" | tail -c 3)" != ELF ] || echo "$f"
	done
}

dynamic() { readelf -dW "$file"; }
segments() { readelf -lW "$file"; }
is_program() { case $file in *.so*) return 1 ;; esac }

position_independent() {
	readelf -hW "$file" | grep -q 'Type:.*DYN' || return 1
	! is_program || dynamic | grep -q 'FLAGS_1.*PIE'
}
full_relro() {
	segments | grep -q GNU_RELRO && dynamic | grep -qE 'FLAGS_1.*NOW'
}
stack_is_data() {
	segments | grep 'GNU_STACK' | grep -q ' RW ' && ! segments | grep 'GNU_STACK' | grep -q 'RWE'
}
nothing_both() { ! segments | grep -E '^ +LOAD.* (RWE|WE) '; }
no_text_relocation() { ! dynamic | grep TEXTREL; }
# Allows the directory of the library itself, which libtool records if ld.so does not search it by default.
no_search_path() {
	! dynamic | grep -E 'RPATH|RUNPATH' | grep -vF "[$libdir]"
}
uses() { readelf -W --dyn-syms "$file" | grep -E " UND $1(@|\$)"; }
stack_protector() { uses __stack_chk_fail; }
fortified() { uses '__(snprintf|memcpy|vsnprintf|strcpy|read)_chk'; }
# Each function that a pointer may call starts with endbr64. The property of the whole file also depends on the C
# library's objects, and Debian's do not have it.
branch_targets() { [ "$(objdump -d "$file" | grep -c endbr64)" -gt 20 ]; }
no_libraries_but() {
	allowed=$(needed_by "${file##*/}" | awk 'NF { print $1 }')
	[ -n "$allowed" ] || {
		echo 'nobody has said which libraries it may need'
		return 1
	}
	# On some machines the dynamic loader is one of them, for the stack protector's canary.
	dynamic | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' | grep -v '^ld-linux' >"$dir/needed"
	grep -q . "$dir/needed" || return 1
	# Each library must be on the list, up to its version.
	for l in $(cat "$dir/needed"); do
		found=
		for a in $allowed; do
			case $l in "$a" | "$a".* | "$a"-*) found=1 ;; esac
		done
		[ -n "$found" ] || { echo "needs $l"; return 1; }
	done
	# Each library on the list must be needed.
	[ "$(grep -c . "$dir/needed")" = "$(echo "$allowed" | wc -l)" ] || {
		echo "the list has more than it needs:" $(cat "$dir/needed")
		return 1
	}
}

elf_files >"$dir/elf"
tap_ok 'programs and library are installed' test "$(wc -l <"$dir/elf")" -eq 6
libdir=$(grep -m 1 '/libgpubroker\.so' "$dir/elf")
libdir=${libdir%/*} libdir=${libdir#"$INSTALLED"}
while read -r file; do
	name=${file##*/}
	tap_ok "$name: position-independent" position_independent
	tap_ok "$name: relocations are read-only from the start" full_relro
	tap_ok "$name: the stack is no code" stack_is_data
	tap_ok "$name: nothing is both code and writable" nothing_both
	tap_ok "$name: code is not relocated" no_text_relocation
	tap_ok "$name: no library is searched for anywhere but where it is installed" no_search_path
	tap_ok "$name: needs the libraries that are meant, and no other" no_libraries_but
	# One call is all of it: it has no buffer to protect.
	[ "$name" != gpubroker-policy-install ] || continue
	if grep -q "^gb_cv_flag__fstack_protector_strong=yes" "$top_builddir/config.log"; then
		tap_ok "$name: stack protector" stack_protector
	else
		tap_skip "$name: stack protector" 'the compiler has none'
	fi
	if grep -q '^FORTIFY_CPPFLAGS=.*_FORTIFY_SOURCE=[23]' "$top_builddir/config.log"; then
		tap_ok "$name: fortified calls" fortified
	else
		tap_skip "$name: fortified calls" 'built without'
	fi
	if [ "$(uname -m)" = x86_64 ] &&
		grep -q '^gb_cv_flag__fcf_protection_full=yes' "$top_builddir/config.log"; then
		tap_ok "$name: functions start as branch targets" branch_targets
	else
		tap_skip "$name: functions start as branch targets" 'not of this compiler or machine'
	fi
done <"$dir/elf"

none() { ! find "$INSTALLED" "$@" | grep .; }
tap_ok 'nothing is setuid or setgid' none -perm /6000
tap_ok 'nothing can be written by group or others' none ! -type l -perm /022
tap_ok 'all can be read by all: there are no secrets' none ! -type l ! -perm -444
# The examples must be executable where they are, and not where hooks are run.
no_hook() { [ -d "$(find "$INSTALLED" -path '*/gpubroker/hooks.d')" ] && none -path '*/gpubroker/hooks.d/*'; }
tap_ok 'no hook is enabled, and there is a place for them' no_hook
# What the daemon cannot call, it cannot be made to call so easily: hooks are run by another program.
executes_nothing() {
	! readelf -W --dyn-syms "$(grep '/gpubrokerd$' "$dir/elf")" | grep -E ' UND (f?exec[a-z]*|posix_spawnp?|system|popen)(@|$)'
}
tap_ok 'gpubrokerd calls nothing that executes a program' executes_nothing
no_capability() { ! command -v getcap >/dev/null || ! getcap -r "$INSTALLED" | grep .; }
tap_ok 'no file has capabilities' no_capability
tap_ok 'no device, socket or pipe' none ! -type f ! -type d ! -type l
# If a file named a directory of the build, anybody might make that directory on another machine.
no_build_path() { ! grep -rlF -e "$top_builddir/" -e "$top_srcdir/" "$INSTALLED"; }
tap_ok 'no file names the directory that it was built in' no_build_path

# What `policy install` has made would keep devices from their drivers at the next boot. The policy is the
# administrator's.
uninstalls() {
	etc=$(dirname "$(dirname "$(find "$INSTALLED" -path '*/gpubroker/policy.d')")")
	mkdir -p "$etc/udev/rules.d"
	: >"$etc/udev/rules.d/69-gpubroker-prepare.rules"
	: >"$etc/gpubroker/policy.d/10-lab.policy"
	mkdir -p "$INSTALLED/var/lib/gpubroker/policy/admin"
	: >"$INSTALLED/var/lib/gpubroker/policy/admin/10-lab.policy"
	: >"$etc/gpubroker/hooks.d/10-lab"
	make -C "$top_builddir" uninstall DESTDIR="$INSTALLED" || return 1
	left=$(find "$INSTALLED" -type f | sort | tr '\n' ' ')
	[ "$left" = "$etc/gpubroker/hooks.d/10-lab $etc/gpubroker/policy.d/10-lab.policy " ] || { echo "$left"; return 1; }
}
case $INSTALLED in
"$dir"/*) tap_ok 'uninstall leaves the policy files and hooks alone, and nothing that was made of them' uninstalls ;;
*) tap_skip 'uninstall' 'it is not ours' ;;
esac
tap_done
