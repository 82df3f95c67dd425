#!/bin/sh
# `gpubroker drivers` and `drivers make` without a broker: what is wrong is said before anything is made, the same
# directory gives the same bytes, whatever its times and owners, and no failure leaves anything behind.
# shellcheck disable=SC2317,SC2154,SC2016 # functions are called by name, through tap_ok, which sets top_builddir

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
command=$top_builddir/client/gpubroker
dir=$(mktemp -d) || exit 99
trap 'chmod -R u+rwX "$dir"; rm -rf "$dir"' EXIT

gpubroker() { "$command" "$@" >"$dir/stdout" 2>"$dir/stderr" </dev/null; }

# says TEXT STATUS ARG...: `gpubroker drivers ARG...` fails so, with the text in the first line.
says() {
	text=$1 want=$2
	shift 2
	gpubroker drivers "$@"
	got=$?
	cat "$dir/stdout" "$dir/stderr"
	[ $got = "$want" ] && grep -qF -- "$text" "$dir/stderr"
}
clean() { [ -z "$(find "$dir/out" -mindepth 1)" ]; }

mkdir -p "$dir/tree/lib/modules/6.1-x/kernel" "$dir/tree/usr/lib" "$dir/out" "$dir/empty"
head -c 20000 "$command" >"$dir/tree/lib/modules/6.1-x/kernel/a.ko"
ln -s a.ko "$dir/tree/lib/modules/6.1-x/kernel/link.ko"
ln "$dir/tree/lib/modules/6.1-x/kernel/a.ko" "$dir/tree/lib/modules/6.1-x/kernel/hard.ko"
: >"$dir/tree/lib/modules/6.1-x/modules.dep"
: >"$dir/tree/empty file"

# make NAME DIRECTORY ARG...: a bundle in $dir/out.
make() {
	name=$1 from=$2
	shift 2
	gpubroker drivers make "$name" "$from" --output "$dir/out" --kernel 6.1-x --version 1.0 --device 10de:2330 "$@" || {
		cat "$dir/stderr"
		return 1
	}
}

tap_ok "make without anything: 64" says "needs a NAME and a DIRECTORY" 64 make
tap_ok "make without a kernel: 64, and where it is found" says "uname -r" 64 make x "$dir/tree" --version 1 --device 10de:2330
tap_ok "make without a version: 64" says "--version" 64 make x "$dir/tree" --kernel 6 --device 10de:2330
tap_ok "make without a device: 64" says "needs --device" 64 make x "$dir/tree" --kernel 6 --version 1
for device in 10de 10de:23 '*:2330' 10de:2330:1 10dx:2330 '' '10de: 330'; do
	tap_ok "--device '$device' is none: 64" says "is no device" 64 make x "$dir/tree" --kernel 6 --version 1 --device "$device"
done
for name in ../x a/b .x '' -- 'a b' "$(printf 'a\nb')"; do
	tap_ok "the name '$name' is none: 64" says "is none: give one word" 64 \
		make --kernel 6 --version 1 --device 10de:2330 -- "$name" "$dir/tree"
done
tap_ok "a kernel of two words: 64" says "--kernel 'a b' is none" 64 make x "$dir/tree" --kernel 'a b' --version 1 --device 10de:2330
tap_ok "make of no directory: 66" says "No such file" 66 make x "$dir/no" --kernel 6 --version 1 --device 10de:2330
tap_ok "make to no directory: 73" says "--output $dir/no" 73 make x "$dir/tree" --kernel 6 --version 1 --device 10de:2330 --output "$dir/no"
mkdir -p "$dir/open/below"
chmod 0777 "$dir/open"
tap_ok "make to where others could replace it: 73" says "others than you can write to $dir/open, and so replace" 73 \
	make x "$dir/tree" --kernel 6 --version 1 --device 10de:2330 --output "$dir/open"
tap_ok "... or to what is below: 73" says "others than you can write to $dir/open, and so replace" 73 \
	make x "$dir/tree" --kernel 6 --version 1 --device 10de:2330 --output "$dir/open/below"
chmod 1777 "$dir/open"
tap_ok "... but where nobody can, as in /tmp, nobody minds" sh -c \
	'"$0" drivers make x "$1/tree" --kernel 6 --version 1 --device 10de:2330 --output "$1/open" 2>&1 | {
		read -r line; case $line in *"others than you"*) exit 1 ;; esac; }' "$command" "$dir"
tap_ok "an option that was misspelled: 64, and what was meant" says "did you mean '--version'?" 64 make x y --verison 1
no_builder() {
	PATH=$dir/empty "$command" drivers make x "$dir/tree" --kernel 6 --version 1 --device 10de:2330 --output "$dir/out" 2>"$dir/stderr"
	[ $? = 127 ] && grep -q 'erofs-utils' "$dir/stderr"
}
[ -e /usr/sbin/mkfs.erofs ] || [ -e /sbin/mkfs.erofs ] || tap_ok "without mkfs.erofs: 127, and which package has it" no_builder
tap_ok "... and nothing is left" clean

# built FORMAT: what all images must be.
built() {
	tap_ok "$1: a bundle is made" make one "$dir/tree" "$2"
	cp -R "$dir/tree" "$dir/later"
	rm "$dir/later/lib/modules/6.1-x/kernel/hard.ko"
	ln "$dir/later/lib/modules/6.1-x/kernel/a.ko" "$dir/later/lib/modules/6.1-x/kernel/hard.ko"
	rm "$dir/later/empty file"
	: >"$dir/later/empty file"
	find "$dir/later" -exec touch -h -d '2001-02-03 04:05:06' {} +
	tap_ok "$1: ... and one of a copy, with other times and order" env TZ=Asia/Tokyo "$command" drivers make two "$dir/later" \
		--output "$dir/out" --kernel 6.1-x --version 1.0 --device 10de:2330 "$2"
	tap_ok "$1: ... has the same image" cmp "$dir/out/one/drivers.$1" "$dir/out/two/drivers.$1"
	tap_ok "$1: ... and manifest" cmp "$dir/out/one/manifest" "$dir/out/two/manifest"
	echo x >"$dir/later/other"
	make three "$dir/later" "$2"
	tap_ok "$1: another file makes another image" sh -c '! cmp -s "$0/one/drivers.$1" "$0/three/drivers.$1"' "$dir/out" "$1"
	rm -rf "$dir/later"
	tap_ok "$1: the manifest has its sum" sh -c 'sed -n "s/^sha256 //p" "$0/manifest" | grep -qx "$(sha256sum <"$0/drivers.$1" | cut -d " " -f 1)"' "$dir/out/one" "$1"
	tap_ok "$1: ... size and format" grep -qx "size $(stat -c %s "$dir/out/one/drivers.$1")" "$dir/out/one/manifest"
	tap_ok "$1: nothing else is there" sh -c '[ "$(ls -A "$0")" = "one
three
two" ] && [ "$(ls -A "$0/one" | wc -l)" = 2 ]' "$dir/out"
	tap_ok "$1: what is there is not replaced: 73" says "one is there already" 73 make one "$dir/tree" --output "$dir/out" \
		--kernel 6 --version 1 --device 10de:2330 "$2"
	rm -rf "${dir:?}"/out/*
}
PATH=$PATH:/usr/sbin:/sbin
if command -v mkfs.erofs >/dev/null; then
	built erofs --version=1.0
	echo x >"$dir/tree/gpubroker-drivers"
	tap_ok "a directory that has the guest's file is refused" says "which the bundle gets of its own" 64 make x "$dir/tree" \
		--output "$dir/out" --kernel 6 --version 1 --device 10de:2330
	rm "$dir/tree/gpubroker-drivers"
	tap_ok "... and nothing is left" clean
else
	tap_skip "erofs: the same directory gives the same bytes" "no mkfs.erofs"
fi
if command -v xorriso >/dev/null || command -v genisoimage >/dev/null; then
	built iso --iso
else
	tap_skip "iso: the same directory gives the same bytes" "neither xorriso nor genisoimage"
fi

# A builder that fails, and one that is interrupted: by programs of that name.
mkdir "$dir/bin"
printf '#!/bin/sh\nexit 3\n' >"$dir/bin/mkfs.erofs"
chmod +x "$dir/bin/mkfs.erofs"
PATH=$dir/bin:$PATH
tap_ok "a builder that fails: 70" says "mkfs.erofs failed; nothing was made" 70 make x "$dir/tree" --output "$dir/out" \
	--kernel 6 --version 1 --device 10de:2330
tap_ok "... and nothing is left" clean
# shellcheck disable=SC2016 # the shell below expands them
printf '#!/bin/sh\nkill -TERM $PPID\nexec sleep 100\n' >"$dir/bin/mkfs.erofs"
tap_ok "SIGTERM meanwhile: 143" says "interrupted; nothing was made" 143 make x "$dir/tree" --output "$dir/out" \
	--kernel 6 --version 1 --device 10de:2330
tap_ok "... and nothing is left" clean
mkdir "$dir/tree/closed"
chmod 500 "$dir/tree/closed"
printf '#!/bin/sh\nexit 3\n' >"$dir/bin/mkfs.erofs"
tap_ok "a directory that cannot be written goes, too" says "failed" 70 make x "$dir/tree" --output "$dir/out" \
	--kernel 6 --version 1 --device 10de:2330
tap_ok "... and nothing is left" clean

# Listing. Others' bundles are refused, so these are root's or none.
tap_ok "no directory, no drivers" sh -c '"$0" drivers --directory "$1/no" 2>&1 | grep -q "there are no drivers in $1/no"' "$command" "$dir"
tap_ok "drivers with an argument: 64" says "takes no argument 'mak'" 64 mak
if [ "$(id -u)" = 0 ]; then
	chmod 755 "$dir/out"
	mkdir "$dir/out/nv"
	printf abc >"$dir/out/nv/i"
	printf 'kernel 6.1-x\nversion 1.0\ndevice 10de:*\nimage i\nformat erofs\nsize 3\nsha256 %s\n' \
		ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad >"$dir/out/nv/manifest"
	tap_ok "a bundle is listed, and its image verified" gpubroker drivers --directory "$dir/out" --verify
	tap_ok "... on a line" grep -qx 'nv    1.0      6.1-x   erofs      3     [0-9]*  10de:\*' "$dir/stdout"
	gpubroker drivers --directory "$dir/out" --json
	tap_ok "... for programs" python3 -c 'import json,sys; b, = json.load(open(sys.argv[1])); assert b["name"] == "nv" and b["devices"] == ["10de:*"] and b["verified"] is None and b["size"] == 3' "$dir/stdout"
	printf abd >"$dir/out/nv/i"
	tap_ok "another image: 65, and which" says "$dir/out/nv/i: has the SHA-256" 65 --directory "$dir/out" --verify
	sed -i '2s/.*/verison 1/' "$dir/out/nv/manifest"
	tap_ok "a mistake: 65, its file and line, and what was meant" says \
		"$dir/out/nv/manifest:2: there is no 'verison'; did you mean 'version'?" 65 --directory "$dir/out"
else
	tap_skip "a bundle is listed" "it must be root's"
fi
tap_done
