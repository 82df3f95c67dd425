#!/bin/bash
# README's way to the first GPU, typed as it stands there into a terminal of 80 columns and 24 lines, after its way from source, from
# `systemctl` on: what stands before that is how this host was built. 63-packages has the way by packages. Changed is what emulation cannot have: KVM, 16G, eight processors, a system on the disk.
# What was typed, and each screen, is in the output.
. ./lib.sh
command -v tmux >/dev/null || skip_all 'there is no tmux'

readme=/tests/README.md
# commands FROM TO: those of a section and up to the next, a line each.
commands() {
	sed -n "/^## $1/,/^## $2/p" $readme | awk '
		/^```/ { inside = !inside; next }
		inside { line = line $0; if (sub(/\\$/, "", line)) next; gsub(/ +/, " ", line); print line; line = "" }'
}
terminal() { tmux -L first "$@"; }
screen() { terminal capture-pane -p -t "$window" | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'; }
at_prompt() { screen | tail -n 1 | grep -qE "^\[[0-9]+\][a-z]+[#$]$"; }
# type LINE [SECONDS]: and waits until it has ended. Sets $status and $shown.
type_line() {
	typed=$((typed + 1))
	terminal send-keys -t "$window" C-l
	terminal send-keys -t "$window" -l "$1"
	terminal send-keys -t "$window" Enter
	pause
	wait_for "${2:-60}" at_prompt
	shown=$(screen)
	status=$(tail -n 1 <<<"$shown" | sed -E 's/^\[([0-9]+)\].*/\1/')
	diag "$shown"
}
works() {
	type_line "$1"
	is "$status" 0 "README: ${1:0:50}"
}
typed=0

# As after `make install`: nothing runs, and nobody may have anything.
systemctl disable --now gpubroker.socket gpubroker.service 2>/dev/null
mkdir /tmp/policies
mv /etc/gpubroker/policy.d/* /tmp/policies/
rm -f /var/lib/gpubroker/policy
mapfile -t lines < <(commands 'Packages' 'The processes' | sed '1,/^brokerd/d'; commands 'The first GPU' 'Packages' | sed '1,/^gpubroker doctor/d')
is "${lines[0]%% -*}" "apt install gcc libc6-dev make automake autoconf libtool pkg-config libnl-3-dev libudev-dev libseccomp-dev libcap-ng-dev libevent-dev libjson-c-dev libsmartcols-dev libmd-dev" \
	'README names what the build needs, as the tests do'
like "${lines[1]} ${lines[2]}" 'configure --prefix=/usr --sysconfdir=/etc make && make install' '... and how it is built'

terminal -f /dev/null new-session -d -s root -x 80 -y 24 "env PS1='[\$?]\u\$ ' HISTFILE= bash --norc"
window=root
wait_for 30 at_prompt
works "${lines[3]}"
works "${lines[4]}"
works "${lines[5]}"
type_line "${lines[6]}"
is "${lines[6]}:$status" 'gpubroker doctor:1' 'README: doctor, which fails as long as the policy is empty'
like "$shown" 'the policy is empty, so nobody may claim anything' '... and says so'
like "$shown" 'gpubroker policy add' '... and what the next step is'
works "${lines[7]}"
like "$shown" 'is in force' '... when the rule is in force'
works "${lines[8]}"

terminal new-session -d -s alice -x 80 -y 24 "exec su - alice -c \"env PS1='[\\\$?]\u\\\$ ' bash --norc\""
window=alice
wait_for 30 at_prompt
typed=$((typed + 1)) # she has logged in again
cp /tests/nested.elf /home/alice/
head -c 1M /dev/zero >/home/alice/disk.qcow2
chown alice /home/alice/disk.qcow2
type_line 'gpubroker list'
like "$shown" '01:00.0 .* yes +free' "alice sees that she may have it"
line=${lines[9]}
like "$line" '^gpubroker run --gpu 01:00.0 --qemu -- qemu-system-x86_64 .*accel=kvm -cpu host -smp 8 -m 16G' 'README has a line for QEMU'
line=${line/accel=kvm -cpu host -smp 8 -m 16G/accel=tcg -cpu max -smp 1 -m 128M}
terminal send-keys -t alice C-l
terminal send-keys -t alice -l "$line -nographic -kernel nested.elf -append stay"
terminal send-keys -t alice Enter
typed=$((typed + 1))
sees() { terminal capture-pane -p -S -300 -t "$window" | grep -qE "$1"; }
ok 'her VM runs' wait_for 90 sees '^END'
diag "$(screen)"
terminal send-keys -t alice C-a
terminal send-keys -t alice c
terminal send-keys -t alice -l 'info pci'
terminal send-keys -t alice Enter
ok "the card's audio function is in it" wait_for 30 sees 'Audio controller: PCI device 8086:2668'
diag "$(screen)"
ok '... and the lease is hers' is_leased $gpu
terminal send-keys -t alice C-a
terminal send-keys -t alice x
ok 'her prompt is back when QEMU has ended' wait_for 30 at_prompt
diag "$(screen)"
ok "the host's driver has the card again" wait_for 30 is_back $gpu bochs-drm
diag "$typed lines were typed, and three before them to build and install"

# The unit of a VM that outlives the login.
rm -f /etc/systemd/system/systemd-logind.service /etc/systemd/system/systemd-user-sessions.service
systemctl daemon-reload
systemctl start dbus systemd-logind
if timeout 60 loginctl enable-linger alice && wait_for 60 test -S /run/user/1000/bus; then
	mkdir -p /home/alice/.config/systemd/user
	sed -n '/^\[Service\]/,/^WantedBy/p' $readme |
		sed "s|/usr/bin/qemu-system-x86_64 \.\.\.|/usr/bin/qemu-system-x86_64 -machine q35,accel=tcg -m 128M -nodefaults -display none -serial none -kernel %h/nested.elf -append stay|" \
			>/home/alice/.config/systemd/user/vm.service
	chown -R alice: /home/alice/.config
	window=alice
	type_line 'export XDG_RUNTIME_DIR=/run/user/1000'
	works "$(sed -nE 's/^`(systemctl --user enable --now vm)`:$/\1/p' $readme)"
	ok 'the unit of a VM has the card' wait_for 60 is_leased $gpu
	terminal kill-session -t alice
	pause
	ok '... and keeps it when she has logged out' is_leased $gpu
	run_as alice env XDG_RUNTIME_DIR=/run/user/1000 systemctl --user disable --now vm
	ok '... and gives it back when it ends' wait_for 30 is_back $gpu bochs-drm
	loginctl disable-linger alice
else
	fail "alice's user manager runs"
	systemctl status --no-pager systemd-logind user@1000 2>&1 | sed 's/^/# /'
fi

terminal kill-server
rm -f /etc/gpubroker/policy.d/50-local.policy
mv /tmp/policies/* /etc/gpubroker/policy.d/
gpubroker policy reload >/dev/null
done_testing
