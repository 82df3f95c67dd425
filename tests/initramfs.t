#!/bin/sh
# The hooks for an initramfs, beside stand-ins for initramfs-tools, for dracut and for the command. They do
# nothing unless the administrator wants them, and they report rules that are stale or missing.
# shellcheck disable=SC2317 # functions are called by name, through tap_ok

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
tools=$top_srcdir/udev-rules/initramfs-tools/hooks/gpubroker
boot=$top_srcdir/udev-rules/initramfs-tools/scripts/init-top/gpubroker
dracut=$top_srcdir/udev-rules/dracut/90gpubroker
rules=etc/udev/rules.d/69-gpubroker-prepare.rules
text='# DRIVER}="no-comment"
ENV{.GPUBROKER_DRIVER}=="", KERNEL=="*.0", ENV{.GPUBROKER_DRIVER}="mlx5_vfio_pci"
ENV{.GPUBROKER_DRIVER}=="", ENV{.GPUBROKER_DRIVER}="absent_vfio_pci"
ATTR{driver_override}="$env{.GPUBROKER_DRIVER}"'

mkdir "$dir/bin" "$dir/work"
TMPDIR=$dir/work
PATH=$dir/bin:$PATH
export TMPDIR PATH dir

cat >"$dir/hook-functions" <<'END'
manual_add_modules() { printf '%s\n' "$@" >>"$DESTDIR/modules"; }
END
cat >"$dir/bin/modinfo" <<'END'
#!/bin/sh
[ "$1 $2" = '-k 6.0' ] && case $3 in vfio-pci) [ ! -e "$dir/without" ] ;; mlx5_vfio_pci) : ;; *) false ;; esac
END
# $dir/policy holds the udev rules of the policy; without that file, the policy has a mistake.
cat >"$dir/bin/gpubroker" <<'END'
#!/bin/sh
[ "$*" = "policy install --keep --root $5" ] || exit 64
[ -e "$dir/policy" ] || { echo '10-lab.policy:3:1: expected device, found "alow"' >&2; exit 65; }
[ -s "$dir/policy" ] || exit 0
mkdir -p "$5/etc/udev/rules.d" && cp "$dir/policy" "$5/etc/udev/rules.d/69-gpubroker-prepare.rules"
END
# The shell of dracut defines these, and calls the module's functions.
cat >"$dir/dracut" <<'END'
dwarn() { echo "$*" >&2; }
instmods() {
	case $* in '-c vfio-pci') [ ! -e "$dir/without" ] || return 1 ;; esac
	printf '%s\n' "${hostonly-unset}:$*" >>"$initdir/modules"
}
inst_simple() { mkdir -p "$initdir/etc/udev/rules.d" && cp "$1" "$initdir/etc/udev/rules.d/"; }
inst_multiple() { :; }
inst_hook() { echo "$1 $2 ${3##*/}" >"$initdir/hooks"; }
. "$dir/module-setup.sh"
moddir=/module
installkernel && install
END
chmod 755 "$dir"/bin/*

# The same scripts, with the paths of this test.
sed -e "s,-e /etc/gpubroker,-e $dir/etc/gpubroker," \
	-e "s,/usr/share/initramfs-tools/hook-functions,$dir/hook-functions," \
	-e "s,^rules=/etc,rules=$dir/etc," -e 's,\$tmp\$rules,$tmp${rules#"$dir"},' \
	"$tools" >"$dir/hook"
sed -e "s,^gpubroker_rules=/etc,gpubroker_rules=$dir/etc," \
	-e 's,\$tmp\$gpubroker_rules,$tmp${gpubroker_rules#"$dir"},g' \
	"$dracut/module-setup.sh" >"$dir/module-setup.sh"

# state INSTALLED POLICY: installs these rules (`no`: none) beside this policy (`no`: one with a mistake).
state() {
	rm -rf "$dir/etc" "$dir/policy" "$dir/without"
	mkdir -p "$dir/etc/udev/rules.d" "$dir/etc/gpubroker"
	: >"$dir/etc/gpubroker/initramfs"
	[ "$1" = no ] || printf '%s\n' "$1" >"$dir/$rules"
	case $2 in
	no) ;;
	'') : >"$dir/policy" ;;
	*) printf '%s\n' "$2" >"$dir/policy" ;;
	esac
}

# run_tools: runs the hook and returns its status; its messages are in $dir/said.
run_tools() {
	rm -rf "$dir/image"
	mkdir "$dir/image"
	DESTDIR=$dir/image version=6.0 sh "$dir/hook" >"$dir/said" 2>&1 && ! ls "$dir/work" | grep .
}
run_dracut() {
	rm -rf "$dir/image"
	mkdir "$dir/image"
	initdir=$dir/image bash "$dir/dracut" >"$dir/said" 2>&1 && ! ls "$dir/work" | grep .
}
run() { "run_$1" || { cat "$dir/said"; return 1; }; }

said() { grep -qF -- "$1" "$dir/said" || { cat "$dir/said"; return 1; }; }
quiet() { ! grep . "$dir/said"; }
empty() { ! find "$dir/image" -mindepth 1 | grep .; }
copied() { cmp "$dir/$rules" "$dir/image/$rules"; }

nobody_asked() {
	state "$text" "$text" && rm "$dir/etc/gpubroker/initramfs" && run tools && quiet && empty
}
asks_by_name() {
	bash -c '. "$1"; check; [ $? = 255 ]' sh "$dir/module-setup.sh"
}
all_well() { state "$text" "$text" && run "$1" && quiet && copied; }
# A prerequisite could make the script run after udev's.
boot_script() { sh -n "$boot" && [ -x "$boot" ] && [ -z "$(sh "$boot" prereqs)" ]; }
boot_nothing() { sed "s,=/etc,=$dir/nowhere," "$boot" >"$dir/boot" && ! sh -x "$dir/boot" 2>&1 | grep udevadm; }
modules_tools() { [ "$(sort "$dir/image/modules" | uniq | xargs)" = 'mlx5_vfio_pci vfio-pci' ]; }
modules_dracut() {
	grep -qx ':-c vfio-pci' "$dir/image/modules" && grep -qx ':-s mlx5_vfio_pci' "$dir/image/modules" &&
		! grep no-comment "$dir/image/modules" &&
		grep -qx 'pre-trigger 10 gpubroker-prepare.sh' "$dir/image/hooks" &&
		[ -e "$dracut/gpubroker-prepare.sh" ]
}
stale() {
	state "$text" '# other' && run "$1" && copied && said 'is stale and is copied as it is' &&
		said "'gpubroker policy install' renews it, then '$2'"
}
not_there() {
	state no "$text" && run "$1" && said 'is not there' && said "then '$2'" && [ ! -e "$dir/image/etc" ]
}
nothing() { state no '' && run "$1" && said 'prepares nothing' && [ ! -e "$dir/image/etc" ]; }
mistake() { state "$text" no && run "$1" && copied && said 'cannot be told' && said '10-lab.policy:3:1:'; }
no_vfio() {
	state "$text" "$text" && : >"$dir/without" && run "$1" && said 'no vfio-pci'
}

tap_ok "the hook of initramfs-tools is sh" sh -n "$tools"
tap_ok "... and comes after udev's" [ "$(sh "$tools" prereqs)" = udev ]
tap_ok "it does nothing unless it was asked for" nobody_asked
tap_ok "it copies the rules and says nothing" all_well tools
tap_ok "... and the modules that the rules name, if the kernel has them" modules_tools
tap_ok "its script for the boot asks for no order" boot_script
tap_ok "... and does nothing without the rules" boot_nothing
tap_ok "stale rules are said to be so" stale tools 'update-initramfs -u'
tap_ok "... and absent ones" not_there tools 'update-initramfs -u'
tap_ok "a policy that prepares nothing is no fault" nothing tools
tap_ok "a policy with a mistake leaves what was installed" mistake tools
tap_ok "a kernel without vfio-pci is said" no_vfio tools

if ! command -v bash >/dev/null; then
	tap_skip "the module of dracut" "no bash"
	tap_done
fi
tap_ok "the module of dracut is bash" bash -n "$dracut/module-setup.sh"
tap_ok "... and what it has sourced at boot is sh" sh -n "$dracut/gpubroker-prepare.sh"
tap_ok "it is included only when asked for by name" asks_by_name
tap_ok "it copies the rules and says nothing" all_well dracut
tap_ok "... and the modules that they name, loaded here or not, and a hook before udev's trigger" modules_dracut
tap_ok "stale rules are said to be so" stale dracut 'dracut -f'
tap_ok "... and absent ones" not_there dracut 'dracut -f'
tap_ok "a policy that prepares nothing is no fault" nothing dracut
tap_ok "a policy with a mistake leaves what was installed" mistake dracut
tap_ok "a kernel without vfio-pci is said" no_vfio dracut
tap_done
