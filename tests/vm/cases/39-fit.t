#!/bin/bash
# `run --memory`: of all that the policy allows and nobody has, the smallest that has so much is claimed, a
# device whole or a part of one, and on a terminal it is said which and why. All GPUs here have 16 MB.
. ./lib.sh
killed=$(killed)

cat >/etc/gpubroker/policy.d/39-fit.policy <<-END
	device pair address $gpu
	device pair address $gpu2
	allow user bob claim pair
	allow user bob claim profile mbochs-small
	allow user bob claim profile mbochs-medium
	allow user bob claim profile mbochs-large
	device tiny profile mbochs-small
	allow user carol claim profile mbochs-large
END
systemctl restart gpubroker
ok 'the daemon is back with the new policy' systemctl is-active gpubroker

# What the last claim had is free again, unless it is held: what fits depends on that.
holders=()
settled() { [ ${#holders[@]} -gt 0 ] || wait_for 20 no_records; }
# said USER OPTIONS...: what a terminal is told, and what was lent meanwhile.
said() {
	local user=$1
	shift
	settled
	capture run_as "$user" script -qec "gpubroker run $* -- sh -c 'gpubroker leases --json | tr -d \" \\n\"'" /dev/null
	stdout=${stdout//$'\r'/}
}
# Each claim is judged when what the one before it had has come back.
refused_when_settled() {
	settled
	refused "$@"
}
drop() {
	kill "${holders[@]}"
	wait "${holders[@]}" 2>/dev/null
	holders=()
}

# ---- devices whole ----
said bob --gpu any --memory 8M
is $status 0 'a GPU by its memory'
like "$stdout" "gpubroker: $gpu \(16M\) is the smallest that has 8M" 'which and why is said'
like "$stdout" "\"devices\":\[\"$gpu\"" '... and it is that which is lent'
capture run_as bob gpubroker run --gpu any --memory 16M -- true
is "$status:$stderr" 0: 'just as much as it has is had, and who is no terminal is told nothing'
said carol --memory 8M
like "$stdout" "gpubroker: $gpu2 \(16M\)" 'another user gets what he may have, and without --gpu it is any'

if [ -e /sys/devices/system/node/node0 ] && echo 0 >/sys/bus/pci/devices/$gpu2/numa_node; then
	said bob --gpu any --memory 8M
	like "$stdout" "gpubroker: $gpu2 \(16M\) is the smallest that has 8M, on your NUMA node 0" \
		'of equals the one on the node of the caller'
	echo -1 >/sys/bus/pci/devices/$gpu2/numa_node
	echo 0 >/sys/bus/pci/devices/$gpu/numa_node
	said bob --gpu any --memory 8M
	like "$stdout" "gpubroker: $gpu \(16M\) is the smallest that has 8M, on your NUMA node 0" '... whichever that is'
	echo -1 >/sys/bus/pci/devices/$gpu/numa_node
else
	skip 'of equals the one on the node of the caller' 'this kernel has no NUMA nodes'
fi

said bob --gpu pair --memory 8M --gpu pair --memory 8M
like "$stdout" "\"devices\":\[\"$gpu\".*\"devices\":\[\"$gpu2\"" 'of two that are asked for each is another one'
refused_when_settled bob 66 "not enough devices under 'pair' with 8M" 'of three there are not as many' \
	--gpu pair --memory 8M --gpu pair --memory 8M --gpu pair --memory 8M
refused_when_settled bob 66 "nothing of 'any' that you may have has 17M; the largest that is free is $gpu \(16M\)" \
	'more than there is' --gpu any --memory 17M
refused_when_settled bob 77 "no rule allows you anything of '$gpu_audio' that says how much memory" 'what the policy does not allow' \
	--gpu $gpu_audio --memory 1M
refused_when_settled bob 67 'the policy has no device "pear"' 'a name that the policy has not' --gpu pear --memory 8M

hold bob --gpu $gpu
ok 'one is taken' wait_for 30 is_leased $gpu
refused_when_settled bob 75 "gpubroker: $gpu is leased to bob" 'what stands beside it and is not to be had is told as that' \
	--gpu pair --memory 8M --gpu $gpu
said bob --gpu pair --memory 8M
like "$stdout" "gpubroker: $gpu2 \(16M\) is the smallest that has 8M" 'then it is the other, which is as good'
hold bob --gpu pair --memory 1M
ok 'which is taken by its memory' wait_for 30 is_leased $gpu2
refused_when_settled bob 75 "all that has 8M and that you may have is in use, as $gpu \(16M\); try again, or use --wait" \
	'then all are taken' --gpu pair --memory 8M
waiting() { journalctl -q --no-pager -b -o cat -u gpubroker | grep -c 'outcome=waiting'; }
waited=$(waiting)
waits() { [ "$(waiting)" -gt "$waited" ]; }
hold bob --gpu pair --memory 8M --wait
ok 'who would rather wait does' wait_for 30 waits
kill "${holders[0]}" "${holders[1]}"
wait "${holders[0]}" "${holders[1]}" 2>/dev/null
one_left() { [ "$(gpubroker leases --json | grep -c '"state": *"leased"')" = 1 ]; }
ok '... and has one when one is free' wait_for 30 one_left
holders=("${holders[2]}")
drop
ok 'all is given back' wait_for 30 no_records

# ---- parts ----
if ! lacks 'parts of devices by their memory' mdevs; then
	modprobe mbochs
	systemctl restart gpubroker # so that Landlock knows it
	before=$(journalctl -q --no-pager -b -o cat -u gpubroker | grep -c outcome=refused)
	for row in '1M small 4M' '4M small 4M' '5M medium 16M' '8M medium 16M' '17M large 64M' '64M large 64M'; do
		read -r asked type has <<<"$row"
		said bob --gpu any --memory "$asked"
		like "$stdout" "gpubroker: mbochs-$type of mbochs \($has\) is the smallest that has $asked" "$asked is of mbochs-$type"
		like "$stdout" "\"parent\":\"mbochs\",\"profile\":\"mbochs-$type\"" '... which is lent'
	done
	refused_when_settled bob 66 'has 65M; the largest that is free is mbochs-large of mbochs \(64M\)' 'more than the largest has' \
		--memory 65M
	said bob --gpu mbochs --memory 8M
	like "$stdout" 'gpubroker: mbochs-medium of mbochs' 'parts of one device, by the name of what makes them'
	said bob --gpu tiny --memory 1M
	like "$stdout" 'gpubroker: mbochs-small of mbochs' "parts by the policy's name"
	refused_when_settled bob 66 "nothing of 'tiny' that you may have has 8M; the largest that is free is mbochs-small of mbochs" \
		'... which has no larger one' --gpu tiny --memory 8M
	said bob --gpu pair --memory 8M
	like "$stdout" "gpubroker: $gpu \(16M\)" 'a name that means devices whole means no part'
	said carol --gpu mbochs --memory 1M
	like "$stdout" 'gpubroker: mbochs-large of mbochs \(64M\) is the smallest that has 1M' 'what the policy does not allow is passed over'
	is "$(journalctl -q --no-pager -b -o cat -u gpubroker | grep -c outcome=refused)" "$before" \
		'... and to ask for it is no refusal in the log'
	said bob --memory 4M --memlock 1T
	is $status 77 'what is refused for another reason is refused with that'

	for _ in 1 2 3 4; do hold bob --gpu mbochs --profile mbochs-large; done
	four() { [ "$(gpubroker leases | grep -c ' leased .* mbochs-large$')" = 4 ]; }
	ok 'all of its memory is in use' wait_for 60 four
	said bob --memory 1M
	like "$stdout" "gpubroker: $gpu \(16M\) is the smallest free one that has 1M; mbochs-small of mbochs \(4M\) is in use" \
		'where no part is left it is a device whole'
	refused_when_settled bob 75 "all that has 17M and that you may have is in use, as mbochs-large of mbochs \(64M\); the largest that is free is $gpu" \
		'and what is larger than that is in use' --memory 17M
	drop
	ok 'all are gone' wait_for 30 no_records
	modprobe -r mbochs
fi

is "$(killed)" "$killed" 'no process met its filter'
rm -f /etc/gpubroker/policy.d/39-fit.policy /tmp/holders.log
systemctl restart gpubroker
done_testing
