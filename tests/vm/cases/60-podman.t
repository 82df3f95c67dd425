#!/bin/bash
# `run -- podman run …` with a real rootless podman: the container's VMM gets the card, also as another user of the
# container; podman's pause process is outside of the lease, which ends with the container.
. ./lib.sh
type podman >/dev/null 2>&1 || skip_all 'this host has no podman'
killed=$(killed)
scope=/proc/sys/kernel/yama/ptrace_scope
before=$(<$scope)
umask 022
said=/tmp/podman-said
mkdir -p $said
chmod 777 $said

# as USER COMMAND...: with a runtime directory, and not by run_as, without whose capabilities newuidmap cannot work.
# alice has subordinate uids, carol is to have none.
ulimit -l unlimited
cd /
as() {
	setpriv --reuid "$1" --regid "$(id -g "$1")" --init-groups env -i HOME="/home/$1" USER="$1" LOGNAME="$1" \
		PATH=/usr/bin:/bin LC_ALL=C.UTF-8 TERM=dumb STORAGE_DRIVER=vfs XDG_RUNTIME_DIR="/run/user/$(id -u "$1")" "${@:2}"
}
sed -i.without-carol /^carol:/d /etc/subuid /etc/subgid
for user in alice carol; do
	mkdir -p "/run/user/$(id -u $user)"
	chmod 700 "/run/user/$(id -u $user)"
	chown $user: "/run/user/$(id -u $user)"
done
# An image of a file or two, made here.
rootfs=$(mktemp -d)
chmod 755 $rootfs
mkdir $rootfs/{bin,tmp,proc,sys,dev,etc}
cp /bin/busybox $rootfs/bin/busybox
ln -s busybox $rootfs/bin/sh
cp /tests/vmm $rootfs/bin/vmm
printf 'root:x:0:0::/:/bin/sh\nvm:x:6:6::/:/bin/sh\n' >$rootfs/etc/passwd
tar -C $rootfs -cf /tmp/rootfs.tar .
rm -r $rootfs
pause_pid() { cat "/run/user/$(id -u "$1")/libpod/tmp/pause.pid" 2>/dev/null; }
no_pause() { local p; p=$(pause_pid "$1"); [ -z "$p" ] || gone "$p"; }
migrate() { as "$1" podman system migrate >/dev/null 2>&1; }
for user in alice carol; do
	ok "$user has an image" as $user \
		timeout 200 podman --cgroup-manager=cgroupfs import -q /tmp/rootfs.tar localhost/vmm
	migrate $user
	ok '... and no pause process' no_pause $user
done

options=(--rm --cgroups=disabled --network=none --device=/dev/vfio/vfio -v $said:/tmp)
# begin USER OPTION... -- COMMAND...: a container below `run`; ends it by its program.
begin() {
	local user=$1 given=()
	shift
	while [ "$1" != -- ]; do given+=("$1"); shift; done
	rm -f $said/said
	as "$user" gpubroker run --gpu 02:00.0 -- podman --cgroup-manager=cgroupfs run "${options[@]}" "${given[@]}" \
		localhost/vmm "${@:2}" >/tmp/podman.log 2>&1 </dev/null &
	pid=$!
}
has() { [ -e $said/said ] && [ "$(<$said/said)" = 'has 1234:1111' ]; }
has_card() { ok "$1" wait_for 30 has || diag "$(cat $said/said /tmp/podman.log)"; }
ends() {
	local s=0
	pkill -TERM -x vmm
	wait $pid || s=$?
	is $s "$2" "$1: the exit status is the container's" || diag "$(</tmp/podman.log)"
	ok "$1: ... and the host has its card back" wait_for 20 is_back $gpu2 bochs-drm
}
vmm=(/bin/vmm firecracker /tmp/said $gpu2)

begin alice -- "${vmm[@]}"
has_card "the first podman of a session: the container's VMM has the card"
ok '... and the pause process runs' alive "$(pause_pid alice)"
is "$(grep Seccomp: /proc/"$(pause_pid alice)"/status)" $'Seccomp:\t0' '... outside of the filter'
ends 'the first podman' 0
old=$(pause_pid alice)

begin alice --userns=keep-id -- "${vmm[@]}"
has_card 'keep-id: the VMM has the card'
is "$(stat -c %U "/proc/$(pgrep -x vmm)")" alice '... as the user herself'
is "$(pause_pid alice)" "$old" '... by the pause process that runs already'
ends keep-id 0

# By iommufd no node need be in the container.
if [ -e /dev/iommu ]; then
	begin alice -- /bin/vmm cloud-hypervisor-iommufd /tmp/said $gpu2
	has_card 'iommufd: the VMM has the card'
	is "$(grep 'locked memory' "/proc/$(pgrep -x vmm)/limits" | xargs)" 'Max locked memory unlimited unlimited bytes' \
		'... with the limit of locked memory'
	ends iommufd 0
fi

echo 1 >$scope
begin alice --user 6:6 -- "${vmm[@]}"
has_card 'another user of the container has the card, where Yama restricts ptrace'
isnt "$(stat -c %u "/proc/$(pgrep -x vmm)")" "$(id -u alice)" '... by a subordinate uid'
ends 'another user' 0
echo "$before" >$scope

capture as alice gpubroker run --gpu 02:00.0 -- podman --cgroup-manager=cgroupfs run "${options[@]}" localhost/vmm \
	/bin/sh -c 'exit 42'
is $status 42 'a container that fails' || diag "$stderr"
ok '... ends the lease' wait_for 20 is_back $gpu2 bochs-drm
capture as alice gpubroker run --gpu 02:00.0 -- podman --cgroup-manager=cgroupfs run --pull=never "${options[@]}" localhost/nothing
is $status 125 'a podman that has no such image'
ok '... ends the lease' wait_for 20 is_back $gpu2 bochs-drm

begin alice -d --name later -- "${vmm[@]}"
wait $pid
is $? 0 'a container in the background is started' || diag "$(</tmp/podman.log)"
has_card '... and has the card'
ok '... which stays lent' is_leased $gpu2
ok '... until it is stopped' as alice podman --cgroup-manager=cgroupfs stop -t 5 later
ok '... and the host has its card back' wait_for 20 is_back $gpu2 bochs-drm

# Without subordinate uids.
begin carol -- "${vmm[@]}"
has_card 'without subordinate uids: the VMM has the card'
is "$(grep Seccomp: /proc/"$(pause_pid carol)"/status)" $'Seccomp:\t0' '... and the pause process is outside of the filter'
ends 'without subordinate uids' 0

# What run does not see keeps the lease, until podman ends it.
migrate carol
ok 'the pause process ends' wait_for 10 no_pause carol
capture as carol gpubroker run --gpu 02:00.0 -- sh -c \
	"podman --cgroup-manager=cgroupfs run ${options[*]} localhost/vmm /bin/sh -c 'exit 7'"
is $status 7 'a script starts podman first' || diag "$stderr"
ok '... whose pause process keeps the lease' is_leased $gpu2
migrate carol
ok "... until 'podman system migrate'" wait_for 20 is_back $gpu2 bochs-drm

# A podman that does not start it when it is asked to.
mkdir -p /tmp/podman
printf '#!/bin/sh\n[ "$1" != unshare ] || exit 1\nexec /usr/bin/podman "$@"\n' >/tmp/podman/podman
chmod 755 /tmp/podman/podman
capture as carol gpubroker run --gpu 02:00.0 -- /tmp/podman/podman --cgroup-manager=cgroupfs run "${options[@]}" localhost/vmm \
	/bin/sh -c 'exit 8'
is $status 8 'podman starts no pause process when it is asked to'
like "$stderr" "did not start podman's pause process; if the command starts it, the device stays lent until 'podman system migrate' ends it" \
	'... and run says what follows'
migrate carol
ok '... which ends it' wait_for 20 is_back $gpu2 bochs-drm

# Programs that a daemon would start.
cp /bin/busybox /tmp/podman/docker
capture run_as alice gpubroker run --gpu 02:00.0 -- /tmp/podman/docker run image
is $status 64 'docker is refused'
like "$stderr" "docker has its daemon start the program, .*'podman run' .*; nothing was claimed" '... in a sentence'
is "$(driver_of $gpu2)" bochs-drm '... before anything is claimed'
capture run_as alice gpubroker run --gpu 02:00.0 -- podman --remote run image
is $status 64 'so is a podman that asks a service'
like "$stderr" 'podman has a service start the program, by --remote' '... in a sentence'
printf '#!/bin/sh\nexec podman "$@"\n' >/tmp/podman/docker
capture as carol gpubroker run --gpu 02:00.0 -- /tmp/podman/docker --cgroup-manager=cgroupfs run "${options[@]}" localhost/vmm \
	/bin/sh -c 'exit 9'
is $status 9 "a docker that is podman's is podman" || diag "$stderr"
ok '... and its lease ends' wait_for 20 is_back $gpu2 bochs-drm

is "$(killed)" "$killed" 'no process met its filter'
for user in alice carol; do
	migrate $user
	rm -rf "/run/user/$(id -u $user)/"{libpod,containers}
done
mv /etc/subuid.without-carol /etc/subuid
mv /etc/subgid.without-carol /etc/subgid
rm -rf /tmp/podman /tmp/rootfs.tar /tmp/podman.log $said
done_testing
