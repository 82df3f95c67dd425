#!/bin/bash
# Nothing that the cases before this one did was denied to anybody, from the boot on. (What tries to go
# beyond comes after it.)
. ./lib.sh

# denials: each line of the kernel's audit since the boot, from both places that keep it.
denials() {
	{ dmesg; journalctl -q --no-pager -b -o cat _TRANSPORT=audit + _TRANSPORT=kernel; } |
		grep -E 'avc: *denied|AVC avc|SELINUX_ERR|apparmor="(DENIED|AUDIT|ERROR)"|op=security_compute' |
		sed 's/^.*audit(/audit(/' | sort -u
}
# What Debian's systemd does at boot and Debian's policy does not let it, without the broker as with it:
# labelling again what is labelled, and journald's look at its credentials.
debians='comm="systemd-tmpfile".* tcontext=[^ ]*:(bin|user_home_dir|ssh_home|systemd_networkd_var_lib)_t:'
debians+='|comm="systemd-journal" name="/" dev="tmpfs".* tcontext=[^ ]*:tmpfs_t:'
is "$(denials | grep -vE "$debians")" '' 'not one denial was logged'
like "$(dmesg; journalctl -q --no-pager -b -o cat)" 'audit' 'the audit was kept'
unlike "$(dmesg)" 'audit_lost=[1-9]|audit.*callbacks suppressed' '... whole'

# That one would have been seen.
run_as bob sh -c ': </dev/kmsg' 2>/dev/null
isnt "$(denials | grep -c kmsg)" 0 'a denial is seen where there is one'
capture gpubroker doctor
like "$stdout" 'WARN  denials: (SELinux|AppArmor) has denied something [0-9]+ times? since the boot' '... and named by doctor'
like "$(tr -s ' \n' ' ' <<<"$stdout")" 'at last: sh, (chr_file|open)\.' '... with what was denied'
rm -f /tmp/60-denials.json
gpubroker doctor --snapshot /tmp/60-denials.json >/dev/null
unlike "$(</tmp/60-denials.json)" kmsg '... and not of which file, in a snapshot'
rm /tmp/60-denials.json
done_testing
