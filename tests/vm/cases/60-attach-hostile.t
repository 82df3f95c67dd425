#!/bin/bash
# attach and a monitor that is none of a QEMU's, or of one that has been taken over: at each step it refuses, closes,
# ends, or says nothing that is of use. The command ends in its time with a sentence, and the device goes back as soon
# as nobody has it.
. ./lib.sh
. /tests/cdev.sh
killed=$(killed)
needs cdevs

start_liar() {
	rm -f /tmp/liar.qmp
	run_as alice python3 /tests/hostile-qmp.py /tmp/liar.qmp "$1" "$2" >/tmp/liar.log 2>&1 </dev/null &
	liar=$!
	wait_for 20 test -S /tmp/liar.qmp
}
end_liar() {
	kill $liar 2>/dev/null
	wait $liar 2>/dev/null
}
attach() { capture timeout 150 /tests/as alice unlimited gpubroker attach --qmp /tmp/liar.qmp 01:00.0; }
wordy() { [[ $stderr == *gpubroker:* && $stderr != *$'\e'* ]]; }

# Commands 1 to 13 come before the claim; 14 and 15 hand over the iommufd, 16 and 17 the audio function, 18 and 19 the card.
for mode in closes ends refuses; do
	for at in 1 2 5 10 14 15 16 17 18 19; do
		start_liar $mode $at
		attach
		[ $status != 0 ] && [ $status != 124 ] && wordy
		result $? "$mode at command $at: attach fails with a sentence" || diag "$status: $stderr"
		[ $at -ge 14 ] || [[ $stderr == *'nothing was claimed'* ]] || fail "$mode at command $at: nothing is claimed" "$stderr"
		case $mode in
		ends) ;;
		# It has what it was handed until it is told to let go.
		*) kill -USR1 $liar ;;
		esac
		ok "$mode at command $at: ... and the host has its card" wait_for 30 is_back $gpu bochs-drm
		end_liar
	done
done
for mode in silent events deep long ids; do
	for at in 5 16; do
		start_liar $mode $at
		begun=$SECONDS
		attach
		[ $status != 0 ] && [ $status != 124 ] && wordy
		result $? "$mode at command $at: attach fails with a sentence after $((SECONDS - begun)) s" || diag "$status: $stderr"
		kill -USR1 $liar
		ok "$mode at command $at: ... and the host has its card" wait_for 30 is_back $gpu bochs-drm
		end_liar
	done
done
start_liar drops 19
attach
isnt $status 0 'one that says yes and lets go is seen through'
like "$stderr" 'let go of it|goes back to the host' '... in a sentence'
ok '... and the host has its card' wait_for 30 is_back $gpu bochs-drm
end_liar

# What the user wants has happened: the guest lets go, or QEMU ends, just when detach asks.
for mode in ejects dies; do
	start_liar $mode 99
	attach
	is $status 0 "one that $mode: attach" || diag "$stderr"
	capture timeout 60 /tests/as alice unlimited gpubroker detach --qmp /tmp/liar.qmp 01:00.0
	is "$status $stderr" '0 ' "... and detach, which is no failure where the device $mode"
	ok '... and the host has its card' is_back $gpu bochs-drm
	end_liar
done

# Paths.
start_liar keeps 99
ln -s /tmp/liar.qmp /tmp/liar.link
capture timeout 60 /tests/as carol unlimited gpubroker attach --qmp /tmp/liar.link 02:00.0
is $status 77 "another user's socket behind a link is refused"
capture timeout 60 /tests/as alice unlimited gpubroker detach --qmp /tmp/liar.link iommu-group:
is $status 66 'what is no device is not detached'
rm /tmp/liar.link
end_liar
mkfifo /tmp/liar.link
chmod 666 /tmp/liar.link
capture timeout 20 /tests/as alice unlimited gpubroker attach --qmp /tmp/liar.link 01:00.0
is $status 69 'a pipe is no socket, and nobody waits for it' || diag "$stderr"
rm /tmp/liar.link

ok 'no record is left' wait_for 20 no_records
is "$(killed)" "$killed" 'no process met its filter'
rm -f /tmp/liar.*
done_testing
