#!/bin/sh
# gpubroker(1) without a broker: its messages, and its exit status before it connects. If the command line has a
# mistake, 64 and not 69 shows that the command did not look for a broker.
# shellcheck disable=SC2317,SC2154,SC2016 # functions are called by name, through tap_ok, which sets top_builddir

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
command=$top_builddir/client/gpubroker
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

# gpubroker ARG...: runs the command with a socket that does not exist. Leaves $dir/out, $dir/err.
gpubroker() {
	"$command" --socket "$dir/socket" "$@" >"$dir/out" 2>"$dir/err" </dev/null
}

# exits STATUS ARG...: the command exits with that status, and writes to standard error alone.
exits() {
	want=$1
	shift
	gpubroker "$@"
	got=$?
	cat "$dir/out" "$dir/err"
	[ "$got" = "$want" ] || {
		echo "status $got, not $want"
		return 1
	}
	[ ! -s "$dir/out" ] && [ -s "$dir/err" ]
}

# says STATUS ARG...: the same, and writes one line that begins with the command's name; with --json an object.
says() {
	begins='gpubroker: '
	case " $* " in *' --json '*) begins='{"number":' ;; esac
	exits "$@" && [ "$(wc -l <"$dir/err")" = 1 ] && grep -q "^$begins" "$dir/err"
}

# says_that TEXT STATUS ARG...: the same, and the line has the text.
says_that() {
	text=$1
	shift
	says "$@" && grep -qF -- "$text" "$dir/err"
}

helps() {
	"$command" "$@" >"$dir/out" 2>"$dir/err" && [ ! -s "$dir/err" ] && grep -q '^usage: gpubroker' "$dir/out"
}

version() {
	"$command" --version >"$dir/out" && grep -qE '^gpubroker [0-9]+\.[0-9]' "$dir/out"
}

full() {
	"$command" --help >/dev/full 2>"$dir/err"
	[ $? = 70 ] && grep -q 'standard output' "$dir/err"
}

# options FILE: prints the long options that a source of the command accepts.
options() {
	sed -nE 's/^\t\t\{ "([a-z-]+)", (no|required|optional)_argument,.*/\1/p' "$top_srcdir/$1"
}

# all_in FILE: standard input names each option of client/FILE, with $2 for `--`.
all_in() {
	cat >"$dir/text"
	[ -n "$(options "$1")" ] && for option in $(options "$1"); do
		grep -qE -- "$2$option([^a-z-]|\$)" "$dir/text" || {
			echo "$option is not there"
			return 1
		}
	done
}

# synopsis COMMAND: prints its lines of the SYNOPSIS of its page.
synopsis() {
	sed -n '/^\.Sh SYNOPSIS/,/^\.Sh EXAMPLES/p' "$top_srcdir/client/gpubroker-${1%% *}.1" |
		awk -v "cm=.Cm $1" '/^\.Nm/ { in_it = 0 } $0 == cm { in_it = 1 } in_it'
}

# Each command that has a help has a page, which the list of gpubroker(1) names.
has_pages() {
	for c in $("$command" --socket "$dir/socket" __complete '' | cut -f 1); do
		[ "$c" = help ] && continue
		page=$(sed -n "s/^\\.It Cm $c Ta Xr \\(gpubroker-[a-z]*\\) 1 .*/\\1/p" "$top_srcdir/client/gpubroker.1")
		[ -n "$page" ] && grep -q "^\\.Nm gpubroker-$c\\( ,\\)*\$" "$top_srcdir/client/$page.1" &&
			grep -q "^\\.Cm $c\\( .*\\)*\$" "$top_srcdir/client/$page.1" || {
			echo "$c has no page"
			return 1
		}
	done
}

in_page() {
	synopsis "$1" | all_in "client/command/$1.c" '-'
}

# A page shows examples before it describes anything, and groff understands it.
good_page() {
	[ "$(grep '^\.Sh' "$1" | sed -n 3p)" = '.Sh EXAMPLES' ] || {
		echo "no examples behind the synopsis"
		return 1
	}
	! command -v groff >/dev/null || [ -z "$(groff -ww -mandoc -Tutf8 -z "$1" 2>&1 | tee /dev/stderr)" ]
}

run_in_synopsis() {
	synopsis run | all_in client/run/options.c '-'
}

attach_in_synopsis() {
	sed -n '/^\.Sh SYNOPSIS/,/^\.Sh EXAMPLES/p' "$top_srcdir/client/gpubroker-attach.1" |
		awk -v "cm=.Cm $1" '/^\.Nm/ { in_it = 0 } $0 == cm { in_it = 1 } in_it' | all_in "client/run/$1.c" '-'
}

drivers_make_in_synopsis() {
	synopsis "drivers make" | all_in client/command/drivers-make.c '-'
}

explain_in_synopsis() {
	synopsis "policy explain" | all_in client/command/explain.c '-'
}

# in_help SOURCE COMMAND...: the command's help names each option that the source takes.
in_help() {
	source=$1
	shift
	"$command" "$@" --help | all_in "$source" '--'
}

# on_a_screen COMMAND...: its help goes to standard output, is the same by -h and by `help`, has an example, and fits
# on a terminal of 24 lines of 80 columns.
on_a_screen() {
	"$command" "$@" --help >"$dir/out" 2>"$dir/err" && "$command" "$@" -h >"$dir/h" && "$command" help "$@" >"$dir/help" &&
		[ ! -s "$dir/err" ] && cmp "$dir/out" "$dir/h" && cmp "$dir/out" "$dir/help" &&
		grep -q "^usage: gpubroker $*" "$dir/out" &&
		{ [ "$*" = policy ] || grep -q '^Examples:' "$dir/out"; } &&
		awk 'length > 80 { print NR ": " $0; wide = 1 } END { exit wide || NR > 24 }' "$dir/out"
}

# offers WORD WORD...: `gpubroker __complete WORD...` offers the first word.
offers() {
	want=$1
	shift
	"$command" --socket "$dir/socket" __complete "$@" >"$dir/out" 2>"$dir/err" && [ ! -s "$dir/err" ] &&
		grep -qE "^$want(	|\$)" "$dir/out" || { cat "$dir/out" "$dir/err"; return 1; }
}

tap_ok "the manual's SYNOPSIS has each option of run" run_in_synopsis
tap_ok "... and of policy explain" explain_in_synopsis
tap_ok "each command has a page" has_pages
for page in "$top_srcdir"/client/*.1; do
	tap_ok "${page##*/} begins with examples, and has no faults" good_page "$page"
done
for c in list leases profiles watch drivers; do
	tap_ok "the page of $c has each option" in_page "$c"
done
tap_ok "the help of run has each option" in_help client/run/options.c run
tap_ok "the page of drivers make has each option" drivers_make_in_synopsis
tap_ok "the help of drivers make has each option" in_help client/command/drivers-make.c drivers make
tap_ok "... and fits on a screen" on_a_screen drivers make
for c in list leases profiles watch usage metrics drivers; do
	tap_ok "the help of $c has each option" in_help "client/command/$c.c" "$c"
done
slurm_in_synopsis() {
	synopsis "slurm $1" | all_in "client/command/$2.c" '-'
}
for c in gres/slurm-gres check/slurm job/slurm-job; do
	tap_ok "the page of slurm ${c%/*} has each option" slurm_in_synopsis "${c%/*}" "${c#*/}"
	tap_ok "... and its help" in_help "client/command/${c#*/}.c" slurm "${c%/*}"
	tap_ok "... which fits on a screen" on_a_screen slurm "${c%/*}"
done
tap_ok "the help of doctor has each option" in_help client/command/examine.c doctor
tap_ok "the help of revoke has each option" in_help client/command/release.c revoke
tap_ok "the help of prepare has each option" in_help client/command/prepare.c prepare
tap_ok "the help of serve has each option" in_help client/serve/serve.c serve
for c in check explain what install; do
	file=client/command/$c.c
	[ $c != check ] || file=client/command/policy.c
	[ $c != what ] || file=client/command/policy-what.c
	tap_ok "the help of policy $c has each option" in_help "$file" policy "$c"
	tap_ok "... and fits on a screen" on_a_screen policy "$c"
done
for c in attach detach; do
	tap_ok "the help of $c has each option" in_help "client/run/$c.c" "$c"
	tap_ok "... and so has its page" attach_in_synopsis "$c"
done
for c in list run profiles leases usage metrics release watch doctor policy revoke restore prepare serve vfs attach detach drivers slurm; do
	tap_ok "the help of $c fits on a screen" on_a_screen "$c"
done
tap_ok "the usage fits on a screen" sh -c '"$0" --help | awk "length > 80 { exit 1 } END { exit NR > 24 }"' "$command"
tap_ok "a command's arguments are not looked at for --help" says_that "nothing was claimed" 127 run -- no-such-command --help

tap_ok "--help is usage on standard output" helps --help
tap_ok "help too" helps help
tap_ok "--version is a name and a number" version
tap_ok "what cannot be written is said, not swallowed" full

tap_ok "no command: 64" exits 64
tap_ok "an unknown command: 64, and named" says_that "'lend'" 64 lend
for c in lst/list ls/list status/leases check/'policy check' relase/release version/--version; do
	tap_ok "${c%%/*}: 64, and what was meant" says_that "did you mean 'gpubroker ${c#*/}'?" 64 "${c%%/*}"
done
tap_ok "policy chekc: 64, and what was meant" says_that "did you mean 'policy check'?" 64 policy chekc
tap_ok "help of what is no command: 64, and what was meant" says_that "did you mean 'gpubroker run'?" 64 help runn
tap_ok "list --jsno: 64, and what was meant" says_that "did you mean '--json'?" 64 list --jsno
tap_ok "list -j: 64, and what was meant" says_that "did you mean '--json'?" 64 list -j
tap_ok "run --gpus: 64, and what was meant" says_that "did you mean '--gpu'?" 64 run --gpus 01:00.0 -- true
tap_ok "run --gpu without a device, before --: 64, and named" says_that "--gpu needs a value" 64 run --gpu -- true
tap_ok "a time behind --wait, without =: what was meant" says_that "did you mean --wait=30m?" 127 run --wait 30m -- true
tap_ok "a device without --gpu: what was meant" says_that "did you mean --gpu 01:00.0?" 127 run 01:00.0 -- true
for d in 1:0.0 0000:01:00 01:00 01:00:0; do
	tap_ok "--gpu $d: 64, and what was meant" says_that "did you mean 0000:01:00.0?" 64 run --gpu $d -- true
done
tap_ok "--gpu /dev/vfio/10: 64, and what was meant" says_that "did you mean iommu-group:10?" 64 run --gpu /dev/vfio/10 -- true
tap_ok "--gpu a,b: 64, and how several are given" says_that "--gpu a --gpu b" 64 run --gpu a,b -- true
tap_ok "--gpu with a model's ids: 64, and what to give" says_that "one card's address" 64 run --gpu 10de:24b0 -- true
tap_ok "--json before a command: 64, and where it stands" exits 64 --json list
tap_ok "... and in two lines, without the help" sh -c '[ "$(wc -l <"$1/err")" = 2 ] &&
	grep -qF "did you mean '"'gpubroker list --json'"'?" "$1/err"' - "$dir"
tap_ok "--gpu 0: 64, and that there are no numbers" says_that "no numbers" 64 run --gpu 0 -- true

# fails_as_json STATUS NAME ARG...: it exits so, with one line on standard error that is an object, and nothing else.
fails_as_json() {
	status=$1 name=$2
	shift 2
	"$command" --socket "$dir/socket" "$@" >"$dir/out" 2>"$dir/err"
	[ $? = "$status" ] && [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/err")" = 1 ] &&
		python3 -c 'import json, sys
o = json.load(sys.stdin)
keys = "number name status sentence hint device other profile iommu_group lease uid user rule".split()
sys.exit(not (list(o) == keys and o["status"] == int(sys.argv[1]) and o["name"] == sys.argv[2] and o["sentence"]))' \
			"$status" "$name" <"$dir/err"
}

# steps_end STATUS NAME ARG...: the last line on descriptor 7 is that refusal, and standard error has text.
steps_end() {
	status=$1 name=$2
	shift 2
	"$command" --socket "$dir/socket" run --progress=json,7 "$@" 7>"$dir/steps" >"$dir/out" 2>"$dir/err"
	[ $? = "$status" ] && grep -q '^gpubroker: ' "$dir/err" &&
		tail -n 1 "$dir/steps" | python3 -c 'import json, sys
o = json.load(sys.stdin)
sys.exit(not (o["event"] == "refused" and o["status"] == int(sys.argv[1]) and o["name"] == sys.argv[2]))' "$status" "$name"
}

if command -v python3 >/dev/null; then
	for c in list leases watch profiles usage 'release 3' 'revoke 3' 'restore 01:00.0' 'vfs 01:00.0 2'; do
		# shellcheck disable=SC2086 # words
		[ "$c" = profiles ] || tap_ok "$c --json without a broker: an object on standard error" fails_as_json 69 no-broker $c --json
	done
	tap_ok "--json in front, and a wrong option: an object" fails_as_json 64 usage release --json --al 3
	tap_ok "... and behind it" fails_as_json 64 usage release --al 3 --json
	tap_ok "run --progress=json: an object on standard error" sh -c '"$0" --socket "$1/no" run --progress=json -- true \
		2>"$1/err"; [ $? = 69 ] && [ "$(wc -l <"$1/err")" = 1 ] && grep -q "^{\"event\":\"refused\"" "$1/err"' "$command" "$dir"
	tap_ok "run --progress=json,7: an object there, and text for people" steps_end 69 no-broker -- true
	tap_ok "... for COMMAND's name too" steps_end 127 no-command -- no-such-command
fi
tap_ok "run --progress=json,9, which is closed: 64" says_that "descriptor 9 is not open for writing" 64 run --progress=json,9 -- true 9>&-
for p in '' xml json, json,x json,-1 json,3x json,99999999999; do
	tap_ok "run --progress=$p: 64" says_that "--progress=json,3" 64 run --progress="$p" -- true
done
# A reader that has gone: the pipe's other end is closed before the command begins.
tap_ok "run --progress=json and a reader that has gone: 69, and no signal" sh -c '{ "$0" --socket "$1/no" run \
	--progress=json,7 -- true 2>"$1/err" 7>&1; echo $? >"$1/status"; } | :; grep -qx 69 "$1/status"' "$command" "$dir"

tap_ok "completion: commands" offers list ""
tap_ok "completion: ... that begin so" offers leases le
tap_ok "completion: policy's" offers check policy ""
tap_ok "completion: options" offers --memlock run --gpu any --m
tap_ok "completion: ... not behind COMMAND, which is the shell's" offers ":command 5" run --gpu any -- qemu -
tap_ok "completion: any, where no broker answers" offers any run --gpu ""
tap_ok "completion: files" offers :file policy check ""
tap_ok "completion: directories" offers :directory policy install --root ""
tap_ok "completion: the command below drivers" offers make drivers ""
tap_ok "completion: ... its options" offers --kernel drivers make --k
tap_ok "completion: ... and its directory" offers :directory drivers make nv ""
tap_ok "completion: what slurm does" offers gres slurm ""
tap_ok "completion: ... its options" offers --type slurm gres --t
tap_ok "completion: users" offers root policy explain --user ro
tap_ok "completion: nothing for a time, and no error" sh -c '[ -z "$("$0" __complete revoke --after "" 2>&1)" ]' "$command"

tap_ok "an unknown option before the command: 64" exits 64 --lend list
tap_ok "--socket without a path: 64" sh -c '"$0" --socket >/dev/null 2>&1; [ $? = 64 ]' "$command"
tap_ok "list with an argument: 64" says 64 list 01:00.0
tap_ok "list with an unknown option: 64" exits 64 list --gpus
tap_ok "list --json with a value: 64" exits 64 list --json=yes
tap_ok "leases with an argument: 64" says 64 leases 3
tap_ok "leases with an unknown option: 64" exits 64 leases --all
# Control characters could begin a line in a journal, or clear a terminal.
tap_ok "an argument with control characters: one line, without them" \
	says_that "'??<0>panic?[2J?' is no device" 64 run --gpu "$(printf '\r\n<0>panic\033[2J\177')" -- true
tap_ok "run --drivers without --qemu: 64" says_that "--drivers needs --qemu" 64 run --drivers -- true
tap_ok "a name behind --drivers, without =: what was meant" says_that "did you mean --drivers=nv-1?" 127 \
	run --qemu --drivers nv-1 -- true
for name in no-such ../x '' .; do
	tap_ok "--drivers='$name': 66 before a broker is looked for" says_that "there are no such drivers" 66 \
		run --qemu --gpu teaching --drivers="$name" -- true
done
tap_ok "run without a command: 64" says_that COMMAND 64 run
tap_ok "run -- without a command: 64" says_that COMMAND 64 run --gpu 01:00.0 --
tap_ok "run with an unknown option: 64" exits 64 run --gpus 01:00.0 -- true
tap_ok "run --gpu without a device: 64" exits 64 run --gpu

for device in '' ' ' 1:0.0 01:00 01:00.8 01:20.0 0000:01:00.0.0 000000001:01:00.0 01:00.0/.. \
	iommu-group: iommu-group:-1 iommu-group:+1 iommu-group:0x1 iommu-group:4294967295 \
	iommu-group:18446744073709551617 'a b' a/b 0a100 -a100 'gpu;id' \
	abcdefghijklmnopqrstuvwxyz012345 "$(printf '\303\251t\303\251')"; do
	tap_ok "--gpu '$device' is no device: 64" says 64 run --gpu "$device" -- true
done
tap_ok "--gpu 17 times: 64" says 64 run --gpu=any --gpu=any --gpu=any --gpu=any --gpu=any \
	--gpu=any --gpu=any --gpu=any --gpu=any --gpu=any --gpu=any --gpu=any --gpu=any --gpu=any \
	--gpu=any --gpu=any --gpu=any -- true
for size in '' 0 0G -1 +1 ' 1' '1 ' 1.5G 1e9 0x10 G 12X 1GB 1GiB 1KK 18446744073709551616 \
	18446744073709551615K 16777216T 99999999999999999999999; do
	tap_ok "--memlock '$size' is no size: 64" says 64 run --memlock "$size" -- true
	tap_ok "--memory '$size' is no size: 64" says 64 run --memory "$size" -- true
done
tap_ok "--memory with a profile: 64" says_that "does not go with --profile x" 64 run --profile x --memory 8G -- true
tap_ok "--memory of a group: 64" says_that "not iommu-group:3" 64 run --gpu iommu-group:3 --memory 8G -- true
tap_ok "--memory twice: 64" says_that "is given twice" 64 run --memory 8G --memory 8G -- true
tap_ok "--memory of each of two: no broker, 69" says 69 run --gpu a --memory 8G --gpu b --memory 8G -- true

for time in '' ' ' 0 0s 10 s -1s +1s ' 1s' '1s ' 1.5h 1H 1m1h 1h1h 1s1s 1hm 1h30 24856d 2147483648s \
	596524h 99999999999999999999s 4294967296s '1h 30m' 1w; do
	tap_ok "--wait='$time' is no time: 64" says_that "--wait=$time" 64 run --wait="$time" -- true
	tap_ok "attach --wait='$time' is no time: 64" says_that "--wait=$time" 64 attach --qmp x --wait="$time" any
	tap_ok "revoke --after '$time' is no time: 64" says_that "--after '$time'" 64 revoke 3 --after "$time"
done
for lease in '' ' ' 0 00 -1 +1 ' 3' '3 ' 3x 0x3 1.5 18446744073709551616 99999999999999999999999 any 01:00.0; do
	tap_ok "release '$lease' is of no lease: 64" says_that "'$lease'" 64 release -- "$lease"
	tap_ok "revoke '$lease' is of no lease: 64" says_that "'$lease'" 64 revoke -- "$lease"
done
# attach and detach ask QEMU before the broker; what they make of a real one is 58-attach.t's.
for c in attach detach; do
	tap_ok "$c without a monitor: 64" says_that "--qmp vm.qmp" 64 $c 01:00.0
	tap_ok "$c without a device: 64" says_that "one DEVICE" 64 $c --qmp "$dir/qmp"
	tap_ok "$c of two devices: 64" says 64 $c --qmp "$dir/qmp" 01:00.0 02:00.0
	tap_ok "$c, and no such socket: 66" says_that "there is no socket $dir/qmp" 66 $c --qmp "$dir/qmp" 01:00.0
	tap_ok "$c, and no socket but a file: 69" says_that "no QEMU listens" 69 $c --qmp "$0" 01:00.0
	tap_ok "$c, and a socket's path that is too long: 69" says 69 $c --qmp "/tmp/$(printf %0200d 0)" 01:00.0
done
tap_ok "attach of what is no device: 64, and QEMU is not asked" says_that "'01:00.9'" 64 attach --qmp "$dir/qmp" 01:00.9
tap_ok "hotplug: 64, and what was meant" says_that "did you mean 'gpubroker attach'?" 64 hotplug
tap_ok "release without a lease: 64" says_that "gpubroker leases" 64 release
tap_ok "release of two: 64" says 64 release 3 4
tap_ok "release with a time: 64" exits 64 release 3 --after 10m
tap_ok "release with an unknown option: 64" exits 64 release --all 3
tap_ok "revoke without a lease: 64" says_that "--after" 64 revoke
tap_ok "revoke of two: 64" says 64 revoke 3 4
for time in soon 0s 2d 30; do
	tap_ok "revoke --kill=$time has no grace: 64" says_that "--kill='$time'" 64 revoke 3 --kill="$time"
done
tap_ok "release --kill: 64" exits 64 release 3 --kill
tap_ok "revoke --after without a time: 64" exits 64 revoke 3 --after
tap_ok "revoke with a time and no lease: 64" says 64 revoke --after 10m
tap_ok "revoke with an unknown option: 64" exits 64 revoke --force 3
tap_ok "restore without a device: 64" says_that "DEVICE" 64 restore
tap_ok "restore of two: 64" says 64 restore 01:00.0 01:00.1
tap_ok "prepare without a device: 64" says_that "DEVICE" 64 prepare
tap_ok "prepare of two: 64" says 64 prepare 01:00.0 01:00.1
tap_ok "prepare without a broker: 69" says_that "$dir/socket" 69 prepare ff:1f.7
tap_ok "serve with an argument: 64" says 64 serve now
for p in '' 0 65536 -1 x 99999999; do
	tap_ok "serve --port '$p': 64" says_that "from 1 to 65535" 64 serve --port "$p"
done
tap_ok "serve without a runtime directory: 69" sh -c 'unset XDG_RUNTIME_DIR; "$0" serve 2>"$1/err"; [ $? = 69 ] &&
	grep -q XDG_RUNTIME_DIR "$1/err"' "$command" "$dir"
tap_ok "restore with an unknown option: 64" exits 64 restore --force 01:00.0
tap_ok "vfs without a number: 64" says_that "a number" 64 vfs 01:00.0
tap_ok "vfs with two: 64" says 64 vfs 01:00.0 1 2
tap_ok "vfs with an unknown option: 64" exits 64 vfs --force 01:00.0 1
for number in -1 65536 1x x '' 0x10 999999 18446744073709551617; do
	tap_ok "'$number' is no number of virtual functions: 64" says_that "from 0 to 65535" 64 vfs 01:00.0 -- "$number"
done
tap_ok "doctor of two devices: 64" says_that "'02:00.0'" 64 doctor 01:00.0 02:00.0
tap_ok "doctor with an unknown option: 64" exits 64 doctor --fix
for size in 0 -1 x 16Q 99999999999G ''; do
	tap_ok "doctor --memory '$size': 64" says_that "is no size" 64 doctor --memory "$size"
done
tap_ok "doctor --snapshot of one device: 64" says_that "all devices" 64 doctor --snapshot "$dir/snapshot" 01:00.0
tap_ok "... of another snapshot: 64" says_that "all devices" 64 doctor --snapshot "$dir/snapshot" --from "$dir/snapshot"
tap_ok "... and wrote nothing" [ ! -e "$dir/snapshot" ]
tap_ok "doctor --from a file that is not there: 66" says_that "No such file" 66 doctor --from "$dir/snapshot"
tap_ok "list --from a file that is not there: 66" says_that "No such file" 66 list --from "$dir/snapshot"
tap_ok "list --from with other columns: 64" says_that "columns" 64 list --from "$dir/snapshot" --wide
no_broker() { "$command" --socket "$dir/socket" doctor >"$dir/out" 2>&1; [ $? = 1 ] && grep -q '^FAIL  broker: no broker answers' "$dir/out"; }
tap_ok "doctor without a broker: that is a result, not an error" no_broker
for value in "$(printf '1\nallow any claim any')" '1 in-use' '1#' '"1"' ''; do
	tap_ok "policy add --limit '$value': 64, no second statement" says_that "is no value" 64 \
		policy add --user alice 01:00.0 --limit "$value"
	tap_ok "policy add of device '$value': 64" exits 64 policy add --user alice "$value"
	tap_ok "policy add for user '$value': 64" exits 64 policy add --user "$value" 01:00.0
	tap_ok "policy add to file '$value': 64" exits 64 policy add --user alice 01:00.0 --file "$value"
done
tap_ok "policy add to a file elsewhere: 64" says_that "gpubroker/policy.d, where the policy is" 64 \
	policy add --user alice 01:00.0 --file /etc/passwd
tap_ok "policy add for a user and a group: 64" says_that "one --user or one --group" 64 \
	policy add --user alice --group lab 01:00.0
tap_ok "policy edit of a file elsewhere: 64" says_that "is not in" 64 policy edit ../passwd.policy
tap_ok "watch with an argument: 64" says_that "'3'" 64 watch 3
tap_ok "watch with an unknown option: 64" exits 64 watch --all
tap_ok "watch --json with a value: 64" exits 64 watch --json=yes
tap_ok "--wait's time is behind a '=': else it is the command" says_that "10m" 127 run --wait 10m true

for time in 1s 90s 10m 1h 1h30m 1d2h3m4s 7d 24855d 2147483647s 596523h; do
	tap_ok "--wait=$time is a time: 69" says 69 run --wait="$time" -- true
	tap_ok "revoke --after $time is a time: 69" says 69 revoke 3 --after "$time"
done
tap_ok "--wait alone is without an end: 69" says 69 run --wait -- true
for lease in 1 3 007 18446744073709551615; do
	tap_ok "$lease is a lease: 69" says 69 release "$lease"
	tap_ok "$lease is one to revoke: 69" says 69 revoke "$lease"
done
tap_ok "revoke's options may stand first: 69" says 69 revoke --after=10m 3
tap_ok "restore without a broker: 69" says_that "$dir/socket" 69 restore 01:00.0
tap_ok "vfs without a broker: 69" says_that "$dir/socket" 69 vfs 01:00.0 0
tap_ok "vfs of 65535: 69" says 69 vfs 01:00.0 65535
tap_ok "watch without a broker: 69" says_that "gpubroker.socket" 69 watch
tap_ok "watch --json without a broker: 69, and no half JSON" says 69 watch --json

tap_ok "usage without a broker: 69" says_that "gpubroker.socket" 69 usage
for time in 2026-11-01 2024-02-29 today 7d 8h 90s; do
	tap_ok "--since $time is a time: 69" says 69 usage --since "$time" --json
done
for time in '' ' ' 2026-11-1 26-11-01 2026-02-30 2025-02-29 2026-13-01 2026-11-01T00 +2026-11-0 yesterday 7 7w -1d 0h; do
	tap_ok "--since '$time' is none: 64" says_that "is no time" 64 usage --since "$time"
done
tap_ok "usage of a user whom nobody knows: 67" says_that "no user 'no-such-user'" 67 usage --user no-such-user
tap_ok "usage of what is no uid: 67" says_that "no user '99999999999'" 67 usage --user 99999999999
tap_ok "usage with an argument: 64, and what was meant" says_that "--user bob" 64 usage bob
tap_ok "metrics to where nothing can be written: 69, and why" sh -c '! "$0" --socket "$1/socket" metrics --output /dev/null/x 	2>"$1/err" && grep -q "/dev/null/x: Not a directory" "$1/err"' "$command" "$dir"
mkfifo "$dir/fifo"
ln -s "$dir/nowhere" "$dir/link"
for f in fifo link; do
	tap_ok "metrics replace no $f: 69, and why" sh -c '! "$0" --socket "$1/socket" metrics --output "$1/$2" 2>"$1/err" &&
		grep -q "$1/$2: it is there and is no regular file" "$1/err"' "$command" "$dir" $f
done
tap_ok "... which are as they were" test -p "$dir/fifo" -a -L "$dir/link"
metrics_are_whole() {
	"$command" --socket "$dir/socket" metrics --output "$dir/metrics" 2>/dev/null
	[ $? = 69 ] && grep -qx 'gpubroker_up 0' "$dir/metrics" && [ "$(tail -n 1 "$dir/metrics")" = '# EOF' ] &&
		[ "$(stat -c %a "$dir/metrics")" = 644 ] && [ "$(find "$dir" -name 'metrics*' | wc -l)" = 1 ]
}
tap_ok "without a broker metrics say so, in a whole file, and fail" metrics_are_whole

tap_ok "list without a broker: 69, one line that says what would help" says_that "$dir/socket" 69 list
tap_ok "list --json without a broker: 69, and no half JSON" says 69 list --json
tap_ok "leases without a broker: 69" says_that "gpubroker.socket" 69 leases
tap_ok "leases --json without a broker: 69" says 69 leases --json
tap_ok "leases --waiting without a broker: 69" says 69 leases --waiting --json
# Programs that have a daemon start what they run: no children of ours.
mkdir "$dir/bin"
for name in docker nerdctl virsh systemd-run; do cp /bin/sh "$dir/bin/$name"; done
for name in docker nerdctl virsh systemd-run; do
	tap_ok "run -- $name: 64, since a daemon would start it" says_that "nothing was claimed" 64 run -- "$dir/bin/$name" run
done
tap_ok "run -- systemd-run --scope starts it itself: 69" says 69 run -- "$dir/bin/systemd-run" --scope true
tap_ok "... also behind another option's value: 69" says 69 run -- "$dir/bin/systemd-run" --unit vm1 --scope true
printf '#!/bin/sh\nexec podman "$@"\n' >"$dir/bin/docker.sh"
chmod 755 "$dir/bin/docker.sh"
mv "$dir/bin/docker.sh" "$dir/bin/nerdctl"
tap_ok "run -- a script of such a name: 69" says 69 run -- "$dir/bin/nerdctl" run
printf '#!/bin/sh\n' >"$dir/bin/podman"
chmod 755 "$dir/bin/podman"
for option in --remote=false -r=0 '--log-level debug' '--root /tmp/x --cgroup-manager cgroupfs' '--remote --remote=false' \
	'--syslog --tmpdir /tmp/x'; do
	# shellcheck disable=SC2086 # an option and its value
	tap_ok "run -- podman $option: 69" says 69 run -- "$dir/bin/podman" $option run image
done
tap_ok "run -- podman with options of its command: 69" says 69 run -- "$dir/bin/podman" run -c 512 -r --url=x image
with_host() { (export CONTAINER_HOST=unix:/x && "$@"); }
tap_ok "run -- podman --remote=false, with CONTAINER_HOST: 69" \
	with_host says 69 run -- "$dir/bin/podman" --remote=false run image
cp /bin/sh "$dir/bin/docker.podman"
mv "$dir/bin/docker.podman" "$dir/bin/podman"
ln -sf podman "$dir/bin/docker"
tap_ok "run -- docker that is a link to podman: 69" says 69 run -- "$dir/bin/docker" run image
for option in --remote --url=ssh://host -r '--root /tmp/x --remote' '--cgroup-manager cgroupfs -c host' '--remote=false --url=x'; do
	# shellcheck disable=SC2086 # options and their values
	tap_ok "run -- podman $option: 64" says_that "a service" 64 run -- "$dir/bin/podman" $option run image
done
tap_ok "run -- podman with CONTAINER_HOST: 64" with_host says_that "a service" 64 run -- "$dir/bin/podman" run image

tap_ok "run without a broker: 69" says_that "no broker" 69 run -- true
for device in any a100 01:00.0 0000:01:00.1 10000:01:1f.7 iommu-group:17; do
	tap_ok "--gpu $device is a device: 69" says 69 run --gpu "$device" -- true
done
for size in 1 4096 8K 512m 64G 1t 16777215T 18446744073709551615; do
	tap_ok "--memlock $size is a size: 69" says 69 run --memlock "$size" -- true
done
# profiles asks no broker. The test does not know this machine's devices: 34-profiles.t reads real ones.
tap_ok "profiles with an unknown option: 64" exits 64 profiles --all
tap_ok "profiles of two devices: 64" says_that "'02:00.0'" 64 profiles 01:00.0 02:00.0
for device in '' . .. a/b ../mtty /sys/class/mdev_bus/mtty; do
	tap_ok "profiles '$device': no device: 64" says_that "'$device' is no device" 64 profiles "$device"
done
tap_ok "profiles of an address where nothing is: 66" says_that "fffffffe:ff:1f.7" 66 profiles fffffffe:ff:1f.7
tap_ok "profiles of a name that nothing has: 66" says_that "no device no-such-parent" 66 profiles no-such-parent
tap_ok "... and no half JSON" says 66 profiles --json no-such-parent
tap_ok "--rom without --qemu: 64" says_that "--rom needs --qemu" 64 run --rom "$command" -- true
tap_ok "--primary without --qemu: 64" says_that "--primary needs --qemu" 64 run --primary -- true
tap_ok "--rom without a file: 64" exits 64 run --qemu --rom
tap_ok "--qemu with a value: 64" exits 64 run --qemu=yes -- true
: >"$dir/empty"
tap_ok "a ROM that is not there: 64, and nothing was claimed" says_that "nothing was claimed" 64 \
	run --qemu --rom "$dir/nothing" -- true
tap_ok "a ROM that is a directory: 64" says_that "no regular file" 64 run --qemu --rom "$dir" -- true
tap_ok "a ROM with nothing in it: 64" says_that "is empty" 64 run --qemu --rom "$dir/empty" -- true
tap_ok "run --qemu without a broker: 69" says_that "no broker" 69 run --qemu --rom "$command" --primary -- true
# mute SECONDS: a broker that accepts and says nothing for so long, and then goes.
mute() {
	python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1]); s.listen(); c = s.accept()[0]; time.sleep(float(sys.argv[2]))' "$dir/mute" "$1" &
	until [ -S "$dir/mute" ]; do sleep 0.05; done
	sleep 0.2
	"$command" --socket "$dir/mute" list 2>"$dir/err"
	status=$?
	wait
	rm -f "$dir/mute"
	[ $status = 69 ] && grep -q 'waiting for the broker to answer' "$dir/err"
}
not_mute() { mute 0.2 && return 1; grep -q 'ended the connection' "$dir/err"; }
if command -v python3 >/dev/null; then
	tap_ok "a broker that does not answer for two seconds is said" mute 5
	tap_ok "... and not sooner" not_mute
else
	tap_skip "a broker that does not answer is said" "no python3"
fi
tap_ok "a file that nobody listens at: 69" sh -c \
	': >"$1/file"; "$0" --socket "$1/file" list 2>"$1/err"; [ $? = 69 ] && [ "$(wc -l <"$1/err")" = 1 ]' \
	"$command" "$dir"
tap_ok "a socket's path that is too long: 69, never cut" sh -c \
	'"$0" --socket "/tmp/$(printf %0200d 0)" list 2>/dev/null; [ $? = 69 ]' "$command"

: >"$dir/plain"
mkdir "$dir/bin" "$dir/bin/adirectory"
tap_ok "a command that is not there: 127, and no broker is asked" says_that "nothing was claimed" 127 \
	run --gpu 01:00.0 -- no-such-command-anywhere
tap_ok "an empty command: 127" says 127 run -- ''
tap_ok "a path that is not there: 127" says 127 run -- "$dir/nothing"
tap_ok "a path through a file: 127" says 127 run -- "$dir/plain/nothing"
tap_ok "a file that cannot be executed: 126" says_that "nothing was claimed" 126 run -- "$dir/plain"
tap_ok "a directory by its path: 126" says_that "nothing was claimed" 126 run -- "$dir/bin"
PATH=$dir/bin:$PATH
tap_ok "a directory in PATH is no command: 127" says 127 run -- adirectory
PATH=$dir:$PATH
tap_ok "a file in PATH that cannot be executed: 126" says 126 run -- plain

# checks STATUS TEXT ARG...: policy check of the directory $dir/d, or of drafts for it.
checks() {
	want=$1 text=$2
	shift 2
	"$command" policy check --policy "$dir/d" "$@" >"$dir/out" 2>&1
	[ $? = "$want" ] && grep -qF -- "$text" "$dir/out" && return
	cat "$dir/out"
	return 1
}
mkdir "$dir/d"
echo 'device teaching vendor 10de' >"$dir/d/names.policy"
echo 'allow any claim teaching' >"$dir/draft.policy"
if [ "$(id -u)" = 0 ]; then
	chown root "$dir/d" "$dir/d/names.policy"
	tap_ok "check: a draft may use the names of the other files" checks 0 "1 statement in 1 file, no mistake" "$dir/draft.policy"
	: >"$dir/d/alice.conf"
	: >"$dir/d/names.policy~"
	tap_ok "check: a file that is not read because of its name is named" checks 0 "alice.conf: warning: is not read"
	tap_ok "... a backup is not" checks 0 "1 statement in 1 file, no mistake, 3 warnings"
	echo alow >"$dir/d/broken.policy"
	tap_ok "check: mistakes in other files than the draft are counted, and not the draft's" 		checks 0 "The other files have 1 mistake" "$dir/draft.policy"
	rm "$dir/d/broken.policy"
	echo 'allow any claim teaching' >"$dir/d/rules.policy"
	: >"$dir/names.policy"
	tap_ok "check: a draft that breaks another file is a mistake" \
		checks 65 "others have 1 mistake more" "$dir/names.policy"
	tap_ok "... whose line is shown" checks 65 "d/rules.policy:1:17: error:" "$dir/names.policy"
	echo alow >"$dir/d/broken.policy"
	cp "$dir/d/broken.policy" "$dir/names.policy"
	tap_ok "check: a draft stands for the file of its name" checks 65 'found "alow"' "$dir/names.policy"
else
	tap_skip "check of a directory" "it has to be root's"
fi
tap_ok "check: a directory that is not there is a mistake" \
	sh -c '"$0" policy check --policy /does/not/exist; [ $? = 65 ]' "$command"

# A display of an APU, the console's own, and a USB controller in its slot and group; and a card by itself.
cat >"$dir/devices.json" <<'JSON'
[ { "address": "0000:04:00.0", "vendor": "1002", "device": "1638", "class": "030000", "driver": "amdgpu",
    "iommu_group": 5, "boot_vga": true },
  { "address": "0000:04:00.3", "vendor": "1022", "device": "1639", "class": "0c0330", "driver": "xhci_hcd",
    "iommu_group": 5, "boot_vga": false },
  { "address": "0000:05:00.0", "vendor": "10de", "device": "1eb8", "class": "030200", "driver": null,
    "iommu_group": 6, "boot_vga": false } ]
JSON
# warns COUNT TEXT: the policy on standard input has so many warnings, the first of which has the text.
warns() {
	cat >"$dir/a.policy"
	"$command" policy check --devices "$dir/devices.json" "$dir/a.policy" >"$dir/out" 2>&1 &&
		grep -q "no mistake, $1 warning" "$dir/out" && grep -qF -- "$2" "$dir/out" && return
	cat "$dir/out"
	return 1
}
tap_ok "check: a prepare rule whose group has the boot display is warned of" \
	warns 1 "a.policy:1:1: warning: prepares 0000:04:00.0, but its IOMMU group 5 has the console's own display" <<'POLICY'
prepare address 04:00.3
POLICY
tap_ok "check: ... and another is not" warns 0 "" <<'POLICY'
prepare address 05:00.0
POLICY
# gpubroker-qemu, beside a stand-in for gpubroker, and with one for QEMU: each prints its name and its arguments.
mkdir "$dir/own" "$dir/path"
cp "$top_builddir/client/gpubroker-qemu" "$dir/own/"
for f in own/gpubroker own/qemu path/gpubroker path/qemu-system-x86_64; do
	printf '#!/bin/sh\necho "%s"\nprintf "<%%s>\\n" "$@"\nexit 7\n' "$f" >"$dir/$f"
	chmod 755 "$dir/$f"
done
# emulates STATUS OUTPUT ARG...: it exits with that status, and prints that, lines for blanks.
emulates() {
	want=$1
	printf '%s\n' "$2" | tr ' ' '\n' >"$dir/want"
	shift 2
	env PATH="$dir/path:$PATH" GPUBROKER_QEMU="${qemu-$dir/own/qemu}" "$dir/own/gpubroker-qemu" "$@" >"$dir/out" 2>"$dir/err"
	got=$?
	cat "$dir/out" "$dir/err"
	[ "$got" = "$want" ] && cmp "$dir/want" "$dir/out"
}
# emulates_not STATUS TEXT ARG...: it exits with that status, and writes one line with the text to standard error.
emulates_not() {
	want=$1 text=$2
	shift 2
	env GPUBROKER_QEMU="$qemu" "$dir/own/gpubroker-qemu" "$@" >"$dir/out" 2>"$dir/err"
	got=$?
	cat "$dir/out" "$dir/err"
	[ "$got" = "$want" ] && [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/err")" = 1 ] && grep -qF -- "$text" "$dir/err"
}
waits() (
	GPUBROKER_WAIT=$1
	export GPUBROKER_WAIT
	shift
	emulates "$@"
)
tap_ok "gpubroker-qemu: without a device it is QEMU, whose status is its own" emulates 7 'own/qemu <-m> <4G> <-device> <e1000>' -m 4G -device e1000
tap_ok "... for libvirt's probe too" emulates 7 'own/qemu <-machine> <none,accel=tcg> <-device> <vfio-pci,host=01:00.0>' \
	-machine none,accel=tcg -device vfio-pci,host=01:00.0
tap_ok "... with a device it is the gpubroker beside it, not one of PATH" \
	emulates 7 "own/gpubroker <run> <--gpu=00ff:ff:1f.7> <--> <$dir/own/qemu> <-device> <vfio-pci,host=ff:ff:1f.7> <-m> <4G>" \
	-device vfio-pci,host=ff:ff:1f.7 -m 4G
tap_ok "... which waits if it is to" waits 30m 7 "own/gpubroker <run> <--wait=30m> <--gpu=00ff:ff:1f.7> <--> <$dir/own/qemu> <-device> <vfio-pci,host=ff:ff:1f.7>" \
	-device vfio-pci,host=ff:ff:1f.7
qemu=qemu-system-x86_64
tap_ok "... a QEMU is a whole path" emulates_not 127 "GPUBROKER_QEMU is 'qemu-system-x86_64'; it must be the whole path" -m 4G
qemu=$dir/none
tap_ok "... one that is not there is said to be missing" emulates_not 127 "$dir/none: cannot be executed: No such file" -m 4G
qemu=$dir/own/gpubroker-qemu
tap_ok "... and it never executes itself" emulates_not 64 "is gpubroker-qemu itself" -m 4G
ln -s gpubroker-qemu "$dir/own/again"
qemu=$dir/own/again
tap_ok "... by another name either" emulates_not 64 "is gpubroker-qemu itself" -m 4G
qemu=$(printf '/a\nb')
tap_ok "... and what it prints is one line" emulates_not 127 "/a?b: cannot be executed" -m 4G
unset qemu
rm "$dir/own/gpubroker"
qemu=$dir/own/qemu
tap_ok "... without a gpubroker it says which one is missing" emulates_not 127 "$dir/own/gpubroker: cannot be executed" \
	-device vfio-pci,host=ff:ff:1f.7

tap_done
