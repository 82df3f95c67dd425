#!/bin/bash
# gpubroker serve: alice's own over HTTP, with a real broker: each path of the document, refusals, another user, a claim's
# steps as events, release, the broker's restart; root's; and systemd's socket, where the user has a manager. How it stands
# requests of every wrong form is tests/serve.t's.
. ./lib.sh

run=/run/alice socket=/run/alice/gpubroker/http
install -d -m 700 -o alice $run
home=$(getent passwd alice | cut -d: -f6)
# http USER METHOD PATH [BODY]: sets $status and $body.
http() {
	capture run_as "$1" python3 /tests/http.py $socket "${@:2}"
	{ read -r status; body=$(cat); } <<<"$stdout"
}
# of KEY: of the object in $body.
of() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$body" "$1"; }
install -d -o alice "$home/.config/gpubroker/machines"
# It opens its group as a VMM does: of what nothing has opened, `run` has both kinds of node open where there are two.
printf '#!/bin/sh\nexec 3<>/dev/vfio/%s\nexec sleep 1000\n' "$(group_of $gpu)" >"$home/.config/gpubroker/machines/vm"
chmod 755 "$home/.config/gpubroker/machines/vm"
run_as alice env XDG_RUNTIME_DIR=$run HOME="$home" gpubroker serve >/tmp/serve.log 2>&1 </dev/null &
serve=$!
ok 'alice has it served' wait_for 20 test -S $socket
is "$(stat -c %a:%U $socket)" 600:alice '... on a socket of her own'

# What there is.
http alice GET /v1/devices
is $status 200 'the devices' || diag "$stdout $stderr"
like "$body" "\"address\":\"$gpu\"" '... have her card'
http alice GET /v1/devices/01:00.0
is "$(of address):$(of status)" $gpu:available 'one of them, without its domain'
http alice GET /api/gpu/devices/$gpu/iommu-group
like "$(echo "$body" | tr -d ' \n')" "\"pci_address\":\"$gpu\".*\"pci_address\":\"${gpu%.0}.1\"" "Horcrux: what shares the group"
http alice GET /api/gpu/iommu-status
is "$(of enabled)" True 'Horcrux: the IOMMU is on'

# Refusals, with the broker's sentence.
for path in /v1/devices/$gpu/prepare /v1/devices/$gpu/restore /api/gpu/devices/$gpu/bind-vfio /api/gpu/devices/$gpu/unbind-vfio; do
	http alice POST $path
	is "$status:$(of name)" 403:not-yours "$path is root's"
	like "$(of title)" 'only root can' '... in a sentence'
done
hold carol --gpu 02:00.0
ok 'carol has a card' wait_for 30 is_leased $gpu2
id=$(gpubroker leases --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])')
http alice DELETE "/v1/leases/$id"
is "$status:$(of name)" 403:not-yours "alice cannot end carol's lease"
ok '... which goes on' is_leased $gpu2
http alice GET "/v1/leases/$id"
is "$(of user)" carol '... and has a name beside its uid'
http alice DELETE /v1/leases/99999
is "$status:$(of name)" 404:no-lease 'nor one that is not there'
capture run_as carol python3 /tests/http.py $socket GET /v1/devices
isnt $status 0 'carol cannot connect'
chmod 755 $run $run/gpubroker; chmod 666 $socket
capture run_as carol python3 /tests/http.py $socket GET /v1/devices
isnt $status 0 '... nor where the socket is open to all'
chmod 600 $socket; chmod 700 $run/gpubroker $run
http alice POST /v1/claims '{"machine":"vm","device":"02:00.0"}'
is "$status" 202 'a claim of what is leased is begun'
capture run_as alice python3 /tests/http.py $socket events /v1/claims/vm/events '"refused"'
like "$stdout" '"event":"refused","number":2,"name":"busy".*"user":"carol"' '... and refused, with who has it'
kill "${holders[0]}"
ok "carol's card is back" wait_for 30 is_back $gpu2 bochs-drm

# The most that it has had of memory, in KiB: of the process that speaks HTTP, and of the one that executes commands.
peak() {
	local p sum=0
	for p in $serve $(cat /proc/$serve/task/*/children); do
		sum=$((sum + $(awk '/^VmHWM:/ { print $2 }' /proc/$p/status)))
	done
	echo $sum
}
before=$(peak)
for _ in 1 2 3 4 5 6 7 8; do
	capture run_as alice python3 /tests/http.py $socket huge /v1/devices $((1 << 20))
	[ "$stdout" = 431 ] || break
done
is "$stdout" 431 'huge headers, of 1 MiB, are refused, eight times' || diag "$stderr"
grown=$(($(peak) - before))
ok '... and its memory does not grow by a tenth of them' test $grown -lt 820 || diag "$grown KiB"

# A claim.
run_as alice python3 /tests/http.py $socket events /v1/events '"host"' >/tmp/serve.events 2>&1 &
watcher=$!
ok 'a watch begins' wait_for 20 grep -q event-stream /tmp/serve.events
http alice POST /v1/claims '{"machine":"vm","device":"01:00.0","wait":"5m"}'
is "$status:$(of state)" 202:starting 'her machine is started' || diag "$stdout"
capture timeout 200 /tests/as alice unlimited python3 /tests/http.py $socket events /v1/claims/vm/events '"granted"'
like "$stdout" '"event":"step","step":"bind".*"index":1,"total":2.*"event":"granted","leases":\[\{"lease":[0-9]+' \
	'its steps are events, up to the lease'
ok '... which is hers' wait_for 20 is_leased $gpu
http alice GET /v1/claims/vm
is "$(of state)" granted 'the claim says so too'
id=$(gpubroker leases --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])')
capture run_as alice python3 /tests/http.py $socket document /usr/share/gpubroker/openapi.json $gpu "$id" vm
is "$stdout" 'all seen' 'each GET of the document answers as it is written there'
http alice POST /v1/claims '{"machine":"vm","device":"01:00.0"}'
is $status 409 'a machine that runs is not started twice'
kill -TERM $serve
wait $serve 2>/dev/null
is_gone() { ! test -S $socket; }
ok 'the service ends' wait_for 20 is_gone
ok '... and the lease goes on' is_leased $gpu
run_as alice env XDG_RUNTIME_DIR=$run HOME="$home" gpubroker serve >/tmp/serve.log 2>&1 </dev/null &
serve=$!
ok 'it is started again' wait_for 20 test -S $socket
http alice GET /v1/claims/vm
is "$(of state)" granted '... and knows the claim'
http alice DELETE "/v1/leases/$id"
is "$status:$(of state)" 200:host 'she gives it back' || diag "$stdout"
ok '... to the host' wait_for 20 is_back $gpu bochs-drm
http alice DELETE /v1/claims/vm
is $status 204 'the machine is ended'
kill $watcher 2>/dev/null
wait $watcher 2>/dev/null

# The broker's end, under it.
run_as alice python3 /tests/http.py $socket events /v1/events 'event: end' >/tmp/serve.events 2>&1 &
watcher=$!
ok 'another watch begins' wait_for 20 grep -q event-stream /tmp/serve.events
sleep 1 # until `watch` has asked
systemctl restart gpubroker
ok 'it hears of the end of the broker' wait_for 30 grep -q 'event: end' /tmp/serve.events
wait $watcher
http alice GET /v1/leases
is "$status" 200 'the next broker is asked'
ok 'the process that speaks HTTP has lived through it all' alive $serve

# The client of the documentation, and another's vGPU.
http alice POST /api/vms/none/vgpu '{"device":"01:00.0"}'
is $status 404 'a machine without a monitor is not found'
# A QEMU of hers that runs, by its monitor.
if ! lacks 'a device for a QEMU that runs' cdevs; then
	cp /tests/nested.elf /tmp/nested.elf
	vm alice plug -m 64 -serial file:/tmp/plug.serial -kernel /tmp/nested.elf -append yield \
		-device pcie-root-port,id=rp1,chassis=1,slot=1 -qmp "unix:$run/gpubroker/plug.qmp,server=on,wait=off"
	ok 'a QEMU of her own runs' vm_up plug
	ok '... with its guest' wait_for 90 grep -q END /tmp/plug.serial
	http alice POST /api/vms/plug/vgpu "{\"device\":\"$prep_twin\"}"
	is "$status:$(of name)" 403:policy 'it gets no device that she may not have' || diag "$stdout"
	http alice POST /api/vms/plug/vgpu '{"device":"01:00.0"}'
	is $status 200 'it gets her card' || diag "$stdout"
	ok '... which is leased' is_leased $gpu
	like "$(vm_devices plug | xargs)" '1234:1111 8086:2668' '... and has it, with its audio function'
	http alice POST /api/vms/plug/vgpu '{"device":"01:00.0"}'
	is $status 409 '... once' || diag "$stdout"
	http alice DELETE /api/vms/plug/vgpu
	is $status 200 'the guest is asked for it' || diag "$stdout"
	like "$(</tmp/plug.serial)" YIELD '... and yields it'
	ok '... to the host' wait_for 20 is_back $gpu bochs-drm
	is "$(vm_devices plug | grep -c 1234:1111)" 0 '... and has it no more'
	http alice DELETE /api/vms/plug/vgpu
	is $status 404 'there is nothing more to give back' || diag "$stdout"
	ok 'QEMU has lived through it' alive $vm_pid
	vm_end plug
	rm -f /tmp/nested.elf /tmp/plug.*
fi
client=/usr/share/doc/gpubroker/examples/serve/serve.py
if [ -e $client ]; then
	capture run_as alice python3 $client $socket
	like "$stdout" "$gpu .* available yours" 'the client of the documentation lists her card'
else
	skip 'the client of the documentation' 'documentation is not installed here'
fi
kill $serve
wait $serve 2>/dev/null

# Root's.
run=/run/root-serve socket=/run/root-serve/gpubroker/http
install -d -m 700 $run
env XDG_RUNTIME_DIR=$run gpubroker serve >/tmp/serve.log 2>&1 </dev/null &
serve=$!
ok 'root has it served' wait_for 20 test -S $socket
capture python3 /tests/http.py $socket POST /api/gpu/devices/$gpu/bind-vfio
like "$stdout" '^200' 'root prepares a device' || diag "$stdout"
ok '... onto vfio-pci' has_driver $gpu vfio-pci
capture python3 /tests/http.py $socket POST /api/gpu/devices/$gpu/unbind-vfio
like "$stdout" '^200' '... and restores it'
ok '... to its driver' wait_for 20 is_back $gpu bochs-drm
kill $serve
wait $serve 2>/dev/null

# systemd's socket, of the user's own manager, where the host has what starts one at a login. The hosts do without logind,
# which its session asks for.
uid=$(id -u alice)
user() { runuser -u alice -- env XDG_RUNTIME_DIR="/run/user/$uid" HOME="$home" "$@"; }
logind=/etc/systemd/system/systemd-logind.service
if [ -n "$(ls /usr/lib/*/security/pam_systemd.so 2>/dev/null)" ]; then
	rm -f $logind
	systemctl daemon-reload
	systemctl start systemd-logind
	ok 'alice has a manager of her own' systemctl start "user@$uid.service"
	socket=/run/user/$uid/gpubroker/http
	ok 'her manager listens' user systemctl --user start gpubroker-serve.socket
	is "$(stat -c %a $socket)" 600 '... on a socket of her own'
	is "$(user systemctl --user is-active gpubroker-serve.service)" inactive '... and nothing runs'
	capture user python3 /tests/http.py $socket GET /v1/devices
	like "$stdout" '^200' '... until she asks'
	capture user python3 /tests/http.py $socket POST /v1/claims '{"machine":"vm","device":"01:00.0"}'
	like "$stdout" '^202' 'a machine is started' || diag "$stdout"
	ok '... and leased its device' wait_for 60 is_leased $gpu
	is "$(user systemctl --user is-active gpubroker-machine-vm.service)" active '... as a unit of her own'
	user systemctl --user stop gpubroker-serve.service
	ok '... which outlives the service' is_leased $gpu
	capture user python3 /tests/http.py $socket DELETE /v1/claims/vm
	like "$stdout" '^204' '... and is ended by it'
	ok 'the host has its card' wait_for 30 is_back $gpu bochs-drm
	user systemctl --user stop gpubroker-serve.socket gpubroker-serve.service
	systemctl stop "user@$uid.service" systemd-logind 2>/dev/null
	ln -s /dev/null $logind
	systemctl daemon-reload
else
	skip 'socket activation' 'alice has no manager here'
fi
rm -rf "$home/.config/gpubroker" /run/alice /run/root-serve
is "$(journalctl -q -b -o cat | grep -c 'gpubroker.*SYS')" 0 'no filter has killed anything'
done_testing
