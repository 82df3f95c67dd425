#!/bin/bash
# An allotment with a socket of its own: whoever connects there is its user, with its device and nothing else, root too;
# also over restarts, until it is retracted or its time is over. Where there is podman, in a rootless and in a rootful
# container that gets the socket by CDI instead of a device's node.
. ./lib.sh

policy=/etc/gpubroker/policy.d/61-allot-socket.policy
dir=/run/gpubroker/allotments said=/tmp/allot-said
bob=$(id -u bob)
killed=$(killed)
cp /tests/{wire,who,allot}.py /tmp
printf '%s\n' 'allow allotted claim class display memlock 64G' "allow user bob claim address $gpu" >$policy
reload
allots() { gpubroker allot --user bob --for pod --socket pod "$@" 02:00.0; }
# at COMMAND...: by root, at the socket.
at() { GPUBROKER_SOCKET=$dir/pod "$@"; }
# claims_at COMMAND...: the same for a claim, in the background; where a confinement is, a user's, which it is about.
claims_at() {
	[ -n "$AS_CONFINED" ] || exec env GPUBROKER_SOCKET=$dir/pod gpubroker run -- "$@"
	run_as bob gpubroker --socket $dir/pod run -- "$@"
}
field() { gpubroker allotments --json | python3 -c "import json,sys; print(*[a['$1'] for a in json.load(sys.stdin)])"; }
holder_is() { gpubroker leases --json | python3 -c "
import json, sys
sys.exit(['$1', '$2'] not in [[l['user'], l['allotment']] for l in json.load(sys.stdin)])"; }
none_allotted() { [ -z "$(field label)" ]; }
serves() { gpubroker allotments --json | python3 -c "
import json, sys
sys.exit(not [a for a in json.load(sys.stdin) if a['label'] == 'pod' and a['listening']])"; }
serves_not() { ! serves; }

# ---- where it may be ----
for path in /tmp/pod ../pod $dir/../pod $dir/a/b .pod 'a b' a:b ''; do
	capture gpubroker allot --user bob --for pod --socket "$path" 02:00.0
	is $status 64 "a socket is not at '$path'"
done
is "$(field label)" '' '... and nothing is allotted then'
touch $dir/file
capture gpubroker allot --user bob --for pod --socket file 02:00.0
is $status 73 'what is there and no socket stays'
like "$stderr" "$dir/file: is there already, and is no socket" '... in a sentence'
gpubroker retract pod
rm $dir/file
python3 -c "import socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind('$dir/other'); s.listen(1); time.sleep(1000)" &
other=$!
wait_for 20 test -S $dir/other
capture gpubroker allot --user bob --for pod --socket other 02:00.0
is $status 73 "another process' socket stays"
like "$stderr" 'another process listens there' '... in a sentence'
kill $other
wait $other 2>/dev/null
capture gpubroker allot --user bob --for pod --socket other 02:00.0
is $status 0 'what is left of one is replaced' || diag "$stderr"
ok 'it is retracted' gpubroker retract pod
chmod 777 $dir
capture allots
is $status 73 'no socket is made where others may write'
chmod 755 $dir
mv $dir $dir.away
mkdir -m 755 /run/elsewhere
ln -s /run/elsewhere $dir
capture allots
is $status 73 'nor by way of a link, root'"'"'s own too'
rm $dir
is "$(ls /run/elsewhere)" '' '... and nothing comes to be where it leads'
rmdir /run/elsewhere
mv $dir.away $dir
gpubroker retract pod
full= raced= made=()
# /run has room for the record, and for nothing or little more.
for more in 0 1 2; do
	mount -o remount,nr_inodes=$(($(df --output=iused /run | tail -n 1) + more)) /run
	capture allots
	full+=" $((status != 0 || more == 2))"
	mount -o remount,nr_inodes=1000000 /run
	gpubroker retract pod
	[ -z "$(ls $dir)" ] || full+=' left'
done
is "$full" ' 1 1 1' 'in a full /run root is told that it failed, and nothing is left'
# Until it listens, a socket looks like one that is dead.
gpubroker allot --user bob --for pod 02:00.0
for round in 1 2 3 4 5 6; do
	for i in 1 2 3; do allots >/dev/null 2>&1 & made[i]=$!; done
	s=1
	for i in 1 2 3; do wait "${made[i]}" && s=0; done
	raced+=" $s"
	at gpubroker list >/dev/null 2>&1 || raced+=" round $round: nobody answers"
	gpubroker retract pod
done
is "$raced" ' 0 0 0 0 0 0' 'several commands for one socket at a time make one'
capture gpubroker allot --user root --for roots --socket roots 02:00.0
is $status 71 "an allotment of root's gets none" || diag "$stderr"
like "$stderr" "the allotment gets no socket: roots is root's" '... in a sentence'
gpubroker retract roots

# ---- whoever connects ----
ok 'root gives an allotment a socket' allots
ok 'once more is the same' allots
is "$(stat -c '%F %U %a' $dir/pod)" 'socket bob 600' "it is bob's"
is "$(field socket)" $dir/pod 'it is listed'
capture gpubroker allot --user bob --for other --socket pod 01:00.0
is $status 71 'another allotment does not get the same'
like "$stderr" 'the allotment gets no socket: that one is of pod' '... in a sentence'
gpubroker allot --user bob --for other 01:00.0
is "$(at gpubroker list --all --json | grep -o '"address":"[^"]*"')" "\"address\":\"$gpu2\"" 'there root sees its device alone'
is "$(at gpubroker allotments --json | grep -o '"label":"[^"]*"')" '"label":"pod"' '... and no other allotment'
for command in 'restore 02:00.0' 'prepare 02:00.0' 'retract pod' 'revoke 1' 'vfs 02:00.0 1' \
	'allot --user bob --for more 01:00.0'; do
	# shellcheck disable=SC2086 # words
	capture at gpubroker $command
	is $status 77 "there root cannot: $command"
done
like "$stderr" 'at the socket of the allotment pod, where nobody can do that' '... and is told why'
capture at gpubroker run --gpu 01:00.0 -- true
is $status 77 'what bob has otherwise is not claimed there'
like "$stderr" "$gpu is not of the allotment pod, and nothing else can be claimed at its socket" '... in a sentence'
claims_at sh -c 'ulimit -l; exec sleep 1000' >$said 2>&1 &
holder=$!
ok 'a claim there is by bob' wait_for 30 holder_is bob pod
ok '... with the memory of the rule' wait_for 10 test -s $said
capture run_as carol gpubroker --socket $dir/pod list
is $status 77 'who may not open the file does not connect'
chown carol $dir/pod
is "$(run_as carol gpubroker --socket $dir/pod leases --json | grep -o '"user":"[^"]*"')" '"user":"bob"' \
	'whoever has the file is bob'
chown bob $dir/pod

# ---- restarts ----
systemctl restart gpubroker
ok 'after a restart the lease is there' wait_for 20 holder_is bob pod
ok '... and the socket serves' at gpubroker list
ok '... which is listed' serves
systemctl kill -s KILL gpubroker
wait_for 20 systemctl is-active gpubroker
ok 'after a kill it serves' at gpubroker list
kill $holder
wait $holder 2>/dev/null
ok 'when the holder lets go, the host has the GPU' wait_for 20 has_driver $gpu2 bochs-drm
systemctl stop gpubroker.socket gpubroker-helpers.socket gpubroker
systemctl start gpubroker.socket gpubroker-helpers.socket gpubroker
ok 'a stop ends the socket, since nobody keeps it' serves_not
capture at gpubroker list
is $status 69 '... and nobody answers there'
ok 'allot with the same makes it anew' allots
ok '... and it serves' at gpubroker list

# ---- what else root may send, and how much ----
gpubroker retract other
gpubroker allot --user bob --for bad 01:00.0
if [ "$AS_CONFINED" = selinux ]; then
	skip 'what else is sent' 'there SELinux lets the broker receive no other sockets'
else
	begun=$SECONDS
	python3 /tmp/allot.py others bad bad "$bob" >$said 2>&1
	is "$(<$said)" 'file refused failed
datagram refused failed
connected refused failed
stream refused failed
credentials refused failed
network refused failed
slow refused failed
two refused failed
many refused failed
none refused failed
list dropped' 'whatever is sent in place of a listening socket is answered'
	result $((SECONDS - begun > 60)) "... and nothing has waited for it ($((SECONDS - begun)) s)"
fi
ok 'the broker serves' at gpubroker list
gpubroker retract bad
is "$(python3 /tmp/allot.py crowd $dir/pod 17)" '17 11' 'connections there are as few as one needs'
gpubroker allot --user bob --for other --socket other 01:00.0
python3 /tmp/allot.py floods $dir/pod >$said 2>&1 &
flood=$!
wait_for 20 test -s $said
begun=$SECONDS
ok "who floods one socket keeps nobody of another from its own" \
	run_as bob gpubroker --socket $dir/other run -- true
ok '... nor its user from the broker' run_as bob gpubroker list
result $((SECONDS - begun > 20)) "... and nobody waits for long ($((SECONDS - begun)) s)"
kill $flood
wait $flood 2>/dev/null
ok 'then the flooded one serves' wait_for 20 at gpubroker list
gpubroker retract other
wait_for 30 is_back $gpu bochs-drm

# ---- killed at any time, with the service manager's store ----
stored() { systemctl show -P NFileDescriptorStore gpubroker; }
lost=
for round in 1 2 3 4 5 6 7 8; do
	[ $((round % 2)) = 0 ] && allots >/dev/null 2>&1
	if [ $((round % 2)) = 1 ]; then gpubroker retract pod; fi >/dev/null 2>&1
	if [ $((round % 2)) = 1 ]; then allots & else gpubroker retract pod & fi >/dev/null 2>&1
	command=$!
	sleep 0.0$((RANDOM % 10))
	systemctl reset-failed gpubroker
	systemctl kill -s KILL gpubroker
	wait $command
	wait_for 20 gpubroker list >/dev/null || lost+=" $round: no broker"
	if [ $((round % 2)) = 1 ]; then
		allots >/dev/null 2>&1 && at gpubroker list >/dev/null 2>&1 || lost+=" $round: not given"
		[ "$(stored)" = 1 ] || lost+=" $round: $(stored) kept"
	else
		gpubroker retract pod
		[ -z "$(ls $dir)" ] || lost+=" $round: a file is left"
		[ "$(stored)" = 0 ] || lost+=" $round: $(stored) kept"
	fi
done
is "$lost" '' 'whenever the broker is killed, a socket is there whole or not at all, and so it is kept'
allots

# ---- the end ----
python3 /tmp/allot.py stays $dir/pod >$said 2>&1 &
inside=$!
ok 'one is connected' wait_for 20 grep -q in $said
ok 'retract ends it' gpubroker retract pod
wait $inside
is $? 0 '... with the connection'
is "$(ls $dir)" '' '... and the file'
ok 'until' allots --until 24s
env GPUBROKER_SOCKET=$dir/pod gpubroker watch --json >/tmp/allot.watch 2>&1 &
watcher=$!
claims_at /tests/holder $gpu2 /tmp/allot.held yields >$said 2>&1 &
holder=$!
ok 'its holder is told of the end before' wait_for 20 grep -q '"event":"ending"' /tmp/allot.watch || diag "$(<$said)" "$(</tmp/allot.watch)"
wait $holder
wait $watcher
ok '... and then it is gone' wait_for 60 none_allotted
is "$(ls $dir)" '' '... with the file'
ok 'the host has the GPU' is_back $gpu2 bochs-drm

# ---- containers ----
containers() {
	local user=$1 args name=pod-$1 s=0
	shift
	args=(--cgroup-manager=cgroupfs run --rm --cgroups=disabled --network=none -v /usr:/usr:ro -v $shared:/tmp)
	ok "$user: an allotment with a socket" gpubroker allot --user bob --for $name --socket $name 02:00.0
	sed "s/pod-7/$name/g" /usr/share/doc/gpubroker/examples/containers/allotment.json >/etc/cdi/gpubroker-$name.json
	chmod 666 /dev/vfio/vfio
	rm -f $shared/said
	"$@" podman "${args[@]}" --device gpubroker/allotment=$name localhost/vmm \
		gpubroker run -- /opt/vmm firecracker /tmp/said $gpu2 >/tmp/podman.log 2>&1 </dev/null &
	pid=$!
	has() { [ -e $shared/said ] && [ "$(<$shared/said)" = 'has 1234:1111' ]; }
	ok "$user: the container's VMM has the card" wait_for 60 has || diag "$(cat $shared/said /tmp/podman.log)"
	ok "$user: ... as bob, by the allotment" holder_is bob $name
	capture "$@" podman "${args[@]}" --device gpubroker/allotment=$name localhost/vmm \
		sh -c "gpubroker restore 02:00.0; echo \$?; gpubroker list --all --json; ls /dev/vfio; id -u"
	like "$stdout" "^77
.*$gpu2.*
vfio
0\$" "$user: root in the container is the allotment, with its device, and has no node of it"
	unlike "$stdout" "$gpu\"" "$user: ... and sees no other"
	pkill -TERM -x vmm
	wait $pid || s=$?
	is $s 0 "$user: the container ends with its program" || diag "$(</tmp/podman.log)"
	ok "$user: retract ends it" gpubroker retract $name --wait=60s
	is "$(ls $dir)" '' "$user: ... with the socket"
	ok "$user: the host has its card back" wait_for 30 is_back $gpu2 bochs-drm
	rm /etc/cdi/gpubroker-$name.json
}
if type podman >/dev/null 2>&1; then
	ulimit -l unlimited
	umask 022
	cd /
	shared=/tmp/podman-said
	mkdir -p $shared /etc/cdi /run/user/"$bob"
	chmod 777 $shared
	chmod 700 /run/user/"$bob"
	chown bob: /run/user/"$bob"
	rootfs=$(mktemp -d)
	chmod 755 $rootfs
	mkdir $rootfs/{opt,tmp,proc,sys,dev,etc,usr,run}
	ln -s usr/bin $rootfs/bin
	ln -s usr/lib $rootfs/lib
	ln -s usr/lib64 $rootfs/lib64
	cp /tests/vmm $rootfs/opt/vmm
	cp /etc/passwd /etc/group /etc/ld.so.cache $rootfs/etc/
	tar -C $rootfs -cf /tmp/rootfs.tar .
	rm -r $rootfs
	as_bob() {
		setpriv --reuid bob --regid "$(id -g bob)" --init-groups env -i HOME=/home/bob USER=bob LOGNAME=bob \
			PATH=/usr/bin:/bin LC_ALL=C.UTF-8 TERM=dumb STORAGE_DRIVER=vfs XDG_RUNTIME_DIR="/run/user/$bob" "$@"
	}
	as_root() { env STORAGE_DRIVER=vfs PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
	grep -q ^bob: /etc/subuid || { echo bob:300000:65536 >>/etc/subuid; echo bob:300000:65536 >>/etc/subgid; }
	ok 'a rootless podman has an image' as_bob timeout 200 podman --cgroup-manager=cgroupfs import -q /tmp/rootfs.tar localhost/vmm
	containers bob as_bob
	as_bob podman system migrate >/dev/null 2>&1
	ok 'a rootful podman has an image' as_root timeout 200 podman import -q /tmp/rootfs.tar localhost/vmm
	containers root as_root
	rm -rf /tmp/rootfs.tar /tmp/podman.log $shared
else
	skip 'containers' 'this host has no podman'
fi

rm -f $policy /tmp/{wire,who,allot}.py $said /tmp/allot.{held,watch}
reload
is "$(killed)" "$killed" 'no filter has killed anything'
done_testing
