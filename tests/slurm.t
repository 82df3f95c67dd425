#!/bin/sh
# gpubroker slurm without a broker and without Slurm: which devices of a saved list it counts, as which types and in
# which order, and what it refuses. tests/vm/cases/64-slurm.t has the real Slurm.
# shellcheck disable=SC2317,SC2154 # functions are called by name, through tap_ok, which sets top_builddir

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
command=$top_builddir/client/gpubroker
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/policy"

# device ADDRESS DEVICE CLASS GROUP [KEY:VALUE]
device() {
	printf '%s{"address":"%s","vendor":"10de","device":"%s","subsystem_vendor":"0000","subsystem_device":"0000",' "$comma" "$1" "$2"
	printf '"class":"%s","driver":"nouveau","iommu_group":%s,"boot_vga":false,"bridge":false,"console":null' "$3" "$4"
	printf ',"in_use":%s,"path":null,"serial":null}\n' "${5:-null}"
	comma=,
}
comma=''
{
	echo '['
	device 0000:00:02.0 00aa 030000 null
	device 0000:01:00.0 26b9 030200 11
	device 0000:02:00.0 22ba 040300 12
	device 0000:02:00.1 20b0 030200 12
	device 0000:03:00.0 20b0 030200 13
	device 0000:04:00.0 20b0 030200 14 '"it has a disk with a file system that is mounted"'
	device 0000:05:00.0 20b0 030200 15
	echo ']'
} >"$dir/devices"

# counts FILE-OF-POLICY WANTED [OPTION...]: with this policy `slurm gres` prints these lines for gres.conf.
counts() {
	printf '%s\n' "$1" >"$dir/policy/50-a.policy"
	want=$2
	shift 2
	"$command" slurm gres --node n1 --policy "$dir/policy" --devices "$dir/devices" "$@" >"$dir/out" 2>"$dir/err" || {
		cat "$dir/err"
		return 1
	}
	got=$(sed -n 's/^NodeName=n1 Name=gpu //p' "$dir/out" | tr '\n' ' ')
	[ "$got" = "$want" ] || { echo "got: $got"; return 1; }
}

# fails STATUS TEXT OPTION...
fails() {
	want=$1 text=$2
	shift 2
	"$command" --socket "$dir/none" slurm "$@" >"$dir/out" 2>"$dir/err"
	got=$?
	cat "$dir/out" "$dir/err"
	[ "$got" = "$want" ] && grep -qF -- "$text" "$dir/err"
}
# counts_of N: it prints so many.
counts_of() {
	[ "$("$command" slurm gres --node n1 --policy "$dir/policy" --devices "$dir/devices" | grep -c '^NodeName=n1 ')" = "$1" ]
}
says_node() { grep -qxF '# slurm.conf has for this node: NodeName=n1 Gres=gpu:a100:3,gpu:l40s:1' "$dir/out"; }

names='device l40s vendor 10de device 26b9
device a100 vendor 10de device 20b0'
tap_ok "a device of a rule is counted by the name in it, by type and then address, but for what the host uses" \
	counts "$names
allow allotted claim l40s
allow allotted claim a100
allow allotted claim class audio" \
	'Type=a100 File=/dev/gpubroker/0 Type=a100 File=/dev/gpubroker/1 Type=a100 File=/dev/gpubroker/2 Type=l40s File=/dev/gpubroker/3 '
tap_ok "... once for each group, by its GPU, as slurm.conf must have it" says_node
tap_ok "a rule without a name gives no type" counts 'allow allotted claim address 0000:01:00.0' 'File=/dev/gpubroker/0 '
tap_ok "a rule for users counts nothing, though root could allot by another" counts "allow any claim any
allow allotted claim address 0000:03:00.0" 'File=/dev/gpubroker/0 '
tap_ok "a device that is denied is not counted" counts "$names
allow allotted claim a100
deny any claim address 0000:02:00.1
deny any claim address 0000:03:00.0" 'Type=a100 File=/dev/gpubroker/0 '
tap_ok "--type counts this type alone, whatever the rule calls it" counts "$names
allow allotted claim class display" 'Type=l40s File=/dev/gpubroker/0 ' --type l40s
tap_ok "a type that the policy does not have is refused" fails 67 "the policy has no device of that name" \
	gres --policy "$dir/policy" --devices "$dir/devices" --type h100
cp "$dir/devices" "$dir/few"
{
	sed '$d' "$dir/few"
	for n in 10 11 12 13 14 15 16 17 18 19 1a 1b 1c; do device 0000:$n:00.0 20b0 030200 $((0x$n + 16)); done
	echo ']'
} >"$dir/devices"
echo 'allow allotted claim class display' >"$dir/policy/50-a.policy"
tap_ok "more devices are counted than an allotment can have" counts_of 17
mv "$dir/few" "$dir/devices"
echo 'allow any claim any' >"$dir/policy/50-a.policy"
tap_ok "without a rule for allotments it says which one helps" fails 66 "'allow allotted claim class display'" \
	gres --policy "$dir/policy" --devices "$dir/devices"
tap_ok "another host's devices are not written" fails 64 "--write" gres --devices "$dir/devices" --write
tap_ok "a name that is none of a node's is refused" fails 64 "no name of a node" gres --node 'a b'
tap_ok "check without a map says what makes it" fails 66 "'gpubroker slurm gres --write' makes it" check --map "$dir/none"
echo '0 nonsense' >"$dir/map"
tap_ok "check refuses a map that is damaged" fails 65 "no position with an address" check --map "$dir/map"
echo '0 0000:01:00.0' >"$dir/map"
tap_ok "check fails without a broker" fails 69 "no broker answers" check --map "$dir/map"

# ---- a job's GPUs, from Slurm's JSON ----
# job GRES_DETAIL [NAME]: job 17 has this on its two nodes; a job of the same array comes before it.
job() {
	printf '{"jobs":[{"job_id":16,"gres_detail":["gpu:a:1(IDX:7)","gpu:a:1(IDX:7)"]},' >"$dir/job"
	printf '{"job_id":17,"name":"%s","gres_detail":["gpu:a:1(IDX:9)","%s"]}],"errors":[]}\n' "${2:-x}" "$1" >>"$dir/job"
}
has() {
	got=$("$command" slurm job --id 17 --node 2 ${2:+--known "$2"} <"$dir/job" 2>&1)
	[ "$got" = "$1" ] || { echo "got: $got"; return 1; }
}
# unclear TEXT [OPTION...]: it is said so, and no number is printed.
unclear() {
	text=$1
	shift
	"$command" slurm job --id 17 --node 2 "$@" <"$dir/job" >"$dir/out" 2>"$dir/err"
	got=$?
	cat "$dir/out" "$dir/err"
	[ "$got" = 65 ] && [ ! -s "$dir/out" ] && grep -qF -- "$text" "$dir/err"
}
job 'gpu:a:1(IDX:0),gpu:b:3(IDX:2-3,12)'
tap_ok "a job has its GPUs of all types, and not those of another job or node" has 0,2,3,12 2,12
tap_ok "a prolog's number that the job does not have is not believed" unclear 'lacks one of --known' --known 1,2
tap_ok "... nor is a list that is none" unclear '--known is no list' --known '1;2'
job 'shard:2(1/4,1/4),gpu:2(IDX:0-1),fpga:1(IDX:5)'
tap_ok "what is no GPU is not counted as one" has 0,1
job 'gpu:a:1(IDX:0)' '\n    Nodes=n2 GRES=gpu:a:1(IDX:8)\",\"gres_detail\":[\"\",\"gpu:a:1(IDX:8)\"]'
tap_ok "a job's name is never taken for Slurm's words" has 0
for bad in 'gpu:a:1' 'gpu:a:1(CNT:1)' 'gpu:a:1(IDX:)' 'gpu:a:1(IDX:3-2)' 'gpu:a:1(IDX:1024)' 'gpu:a:1(IDX:0' \
	'gpu:a:1(IDX:99999999999999999999)' 'gpu:a:1(IDX:0)gpu:b:1(IDX:1)'; do
	job "$bad"
	tap_ok "'$bad' is not understood, and gives no GPU" unclear 'another form'
done
printf '{"jobs":[{"job_id":17,"gres_detail":["","gpu(IDX:1)"]},{"job_id":17,"gres_detail":["","gpu(IDX:2)"]}]}' >"$dir/job"
tap_ok "two jobs of one number give none" unclear 'no such job, or several'
printf '{"jobs":[{"job_id":17,"gres_detail":["gpu(IDX:1)"]}]}' >"$dir/job"
tap_ok "a node that the job does not have gives none" unclear 'does not have so many nodes'
printf '{"jobs":[{"job_id":17}]}' >"$dir/job"
tap_ok "a Slurm that does not tell is said to be too old" unclear 'too old'
printf '{"jobs":' >"$dir/job"
tap_ok "half of an answer gives none" unclear 'ends too early'
tap_ok "a job without a number is refused" fails 64 'no number of a job' job --id 17x --node 1
tap_ok "... and so is one without a node" fails 64 '--node' job --id 17
tap_ok "a wrong command is told the right ones" fails 64 "'slurm gres'" gers
tap_done
