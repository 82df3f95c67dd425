#!/bin/sh
# gpubroker doctor on snapshots of hosts that are broken in one way each: what it names, and what it advises, for
# processors, firmware and boot loaders that the emulated host has not; and snapshots that are hostile.
# shellcheck disable=SC2317,SC2154,SC2034 # functions are called by name, through tap_ok; snapshot() has the variables

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
command=$top_builddir/client/gpubroker
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

# A host on which nothing is wrong.
usual() {
	machine=x86_64 processor=intel hypervisor=false tables='"DMAR"' devicetree=false
	config='{"CONFIG_INTEL_IOMMU":true,"CONFIG_AMD_IOMMU":true}'
	line='intel_iommu=on' loader=update-grub remapped=true unsafe=false noiommu=false group=14
	modules='{"vfio-pci":true,"vfio":true,"vfio_iommu_type1":true}' nodes=''
	broker='{"answers":true,"tells_policy":true,"in_force":true,"refused":false,"rules":3,"files":1,"mistakes":0}'
	mistakes=0 memory=34359738368 available=30000000000 hugepages='' libvirt=null denials=null
	missing=0 may=1 kvm='"allowed"' kvm_group='"kvm"' memlock=-1 memlock_max=-1 cgroup=-1
	allowed=true grant=0 console=null in_use=null opened=null rendered=null status=available holder=null reset=flr node=0
	node_memory=17179869184 driver=nouveau vendor=10de class=030000 address=0000:01:00.0 more=''
}

snapshot() {
	cat <<-END
	{"gpubroker_snapshot":1,"version":"9.9","host":{"kernel":"6.12.1","machine":"$machine","processor":"$processor",
	"hypervisor":$hypervisor,"tables":[$tables],"devicetree":$devicetree,"config":$config,"command_line":"$line",
	"boot_loader":"$loader","remapped":$remapped,"unsafe_interrupts":$unsafe,"noiommu":$noiommu,"modules":$modules,
	"nodes":[$nodes],"broker":$broker,"mistakes":$mistakes,"memory":$memory,"memory_available":$available,
	"hugepages":[$hugepages],"libvirt":$libvirt,"denials":$denials},
	"caller":{"root":false,"missing_groups":$missing,"missing":null,"may_claim":$may,"kvm":$kvm,"kvm_group":$kvm_group,
	"memlock":$memlock,"memlock_max":$memlock_max,"cgroup_max":$cgroup},
	"devices":[{"address":"$address","vendor":"$vendor","device":"2204","subsystem_vendor":"1028",
	"subsystem_device":"0001","class":"$class","driver":"$driver","iommu_group":$group,"boot_vga":false,
	"bridge":false,"console":$console,"in_use":$in_use,"path":"pci0000:00/01.0/00.0","reset_method":"$reset",
	"numa_node":$node,"cpus":"0-7","node_memory":$node_memory,"connectors":["card1-DP-1"],"vgpu":false,
	"opened_by":$opened,"render_opened_by":$rendered,"status":"$status","allowed":$allowed,"holder":$holder,"memlock":$grant,
	"model":"GA102 [GeForce RTX 3090]"$more}]}
	END
}

# finds BROKEN PATTERN [VARIABLE=VALUE]... [-- ARGUMENT...]: on the host with these, doctor of its device names BROKEN,
# the checks that fail or warn, "fail:iommu warn:kvm", says PATTERN, and is as wide as a terminal.
finds() (
	usual
	broken=$1 pattern=$2
	shift 2
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		eval "${1%%=*}=\${1#*=}"
		shift
	done
	[ $# = 0 ] || shift
	snapshot >"$dir/snapshot"
	"$command" --socket "$dir/none" doctor --from "$dir/snapshot" "$@" "$address" >"$dir/out" 2>&1
	rc=$?
	found=$(sed -nE 's/^(FAIL|WARN)  ([a-z]+): .*/\1:\2/p' "$dir/out" | tr 'A-Z\n' 'a-z ')
	text=$(tr -s ' \n' '  ' <"$dir/out")
	cat "$dir/out"
	[ "${found% }" = "$broken" ] || { echo "named: $found, not $broken"; return 1; }
	[ -z "$(awk 'length > 80' "$dir/out")" ] || { echo 'too wide'; return 1; }
	case $broken in *fail:*) [ $rc = 1 ] ;; *) [ $rc = 0 ] ;; esac || { echo "status $rc"; return 1; }
	printf '%s\n' "$text" | grep -qE -- "$pattern" || { echo "not said: $pattern"; return 1; }
)

# lacks PATTERN ...: as `finds`, where nothing is broken, and PATTERN is not said.
lacks() (
	unsaid=$1
	shift
	finds '' 'PASS iommu' "$@" && ! tr -s ' \n' '  ' <"$dir/out" | grep -qE -- "$unsaid"
)

without() { finds 'fail:iommu fail:group' "$@" group=null; }

tap_ok "a good host has no fault" finds '' 'PASS iommu: the IOMMU is on'
# The IOMMU: firmware, kernel, command line.
tap_ok "Intel, off in the firmware" without 'Enable VT-d' 'tables='
tap_ok "AMD, off in the firmware" without 'Enable IOMMU and SVM' 'tables=' processor=amd
tap_ok "Arm, off in the firmware" without 'Enable the SMMU in the firmware' 'tables=' processor= machine=aarch64
tap_ok "Arm, not in the device tree" without 'device tree must describe an SMMU' 'tables=' processor= machine=aarch64 devicetree=true
tap_ok "a VM without an IOMMU" without 'intel-iommu,intremap=on' 'tables=' hypervisor=true
tap_ok "Intel, off by default" without "Put 'intel_iommu=on' into GRUB_CMDLINE_LINUX in /etc/default/grub, run as root 'update-grub', and reboot" line=
tap_ok "... switched off" without "Take 'intel_iommu=off' out of" line='intel_iommu=off'
tap_ok "... switched off after it was on" without "switches the IOMMU off .'intel_iommu=off'" line='intel_iommu=on,sm_on iommu=pt intel_iommu=off'
tap_ok "... by iommu=off, whatever else is on" without "Take 'iommu=off' out of" line='iommu=off intel_iommu=on'
tap_ok "... on, and the kernel does not use it" without 'dmesg . grep' line='intel_iommu=off intel_iommu=on'
tap_ok "... and iommu=soft is no off" without 'dmesg . grep' line='iommu=soft intel_iommu=on xintel_iommu=off'
tap_ok "... nor is iommu=nooff" without 'dmesg . grep' line='iommu=nooff,offset intel_iommu=on'
tap_ok "... the kernel has no driver" without 'CONFIG_INTEL_IOMMU' 'config={}'
tap_ok "AMD, switched off" without "Take 'amd_iommu=off' out of" 'tables="IVRS"' processor=amd line='amd_iommu=off'
tap_ok "AMD is not advised to switch on what is on by default" without 'dmesg . grep' 'tables="IVRS"' processor=amd line=
tap_ok "AMD, the kernel has no driver" without 'CONFIG_AMD_IOMMU' 'tables="IVRS"' 'config={}'
tap_ok "Arm, the kernel has no driver" without 'CONFIG_ARM_SMMU_V3' 'tables="IORT"' 'config={}' machine=aarch64
tap_ok "virtio, the kernel has no driver" without 'CONFIG_VIRTIO_IOMMU' 'tables="VIOT"' hypervisor=true
tap_ok "the processor's own GPU alone is left out" finds 'fail:group' "own GPU, 0000:00:02.0, out of the IOMMU by default.*Put 'intel_iommu=on'" \
	group=null line= vendor=8086 address=0000:00:02.0 'config={"CONFIG_INTEL_IOMMU":true,"CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF":true}' \
	'more=},{"address":"01:00.1","vendor":"1","device":"1","class":"030000","driver":"","iommu_group":1'
tap_ok "Arm, a function that has had no driver has no group" finds 'fail:group' 'gets its group with its first driver.*prepare rule' \
	group=null driver= machine=aarch64 processor= 'tables="IORT"' 'config={"CONFIG_ARM_SMMU_V3":true}' \
	'more=},{"address":"01:00.1","vendor":"1","device":"1","class":"030000","driver":"","iommu_group":1'
tap_ok "... and one that has a driver is not told to wait for it" finds 'fail:group' 'See iommu above' \
	group=null machine=aarch64 processor= 'tables="IORT"' 'config={"CONFIG_ARM_SMMU_V3":true}' \
	'more=},{"address":"01:00.1","vendor":"1","device":"1","class":"030000","driver":"","iommu_group":1'
# Boot loaders.
for loader in grubby=grubby.--update-kernel=ALL.--args=intel_iommu=on ostree=rpm-ostree.kargs.--append=intel_iommu=on \
	proxmox=proxmox-boot-tool.refresh kernel-install=kernel-install.add grub2=grub2-mkconfig grub=grub-mkconfig \
	entries=loader/entries dracut=kernel_cmdline nixos=boot.kernelParams firmware=/boot/firmware/cmdline.txt \
	u-boot=u-boot-update unheard-of=your.boot.loader; do
	tap_ok "the boot loader ${loader%%=*} gets its own advice" without "${loader#*=}" line= "loader=${loader%%=*}"
done
# Interrupts, and VFIO without an IOMMU.
tap_ok "interrupts are not remapped" finds 'fail:interrupts' 'x2APIC' remapped=false
tap_ok "... by the command line" finds 'fail:interrupts' "Take 'intremap=off' out of" remapped=false line='intel_iommu=on intremap=off'
tap_ok "... and root allows it" finds 'warn:interrupts' 'root allows that' remapped=false unsafe=true
tap_ok "VFIO without an IOMMU" finds 'warn:noiommu' 'enable_unsafe_noiommu_mode' noiommu=true
# Modules, nodes, broker, policy.
tap_ok "vfio-pci is missing" finds 'fail:modules' 'vfio-pci is not loaded' 'modules={"vfio":true,"vfio_iommu_type1":true}'
tap_ok "vfio_iommu_type1 is missing" finds 'fail:modules' 'No available IOMMU models' 'modules={"vfio-pci":true,"vfio":true}'
tap_ok "... and iommufd does instead" finds '' 'modules are loaded' 'modules={"vfio-pci":true,"vfio":true,"iommufd":true}'
tap_ok "a node is given away" finds 'fail:nodes' 'may open /dev/vfio/14 .owner another user, mode 0666' \
	'nodes={"path":"/dev/vfio/14","owner":"another user","mode":"0666"}'
tap_ok "no broker" finds 'fail:broker' 'systemctl enable --now' 'broker={"answers":false}'
tap_ok "a policy with a mistake" finds 'fail:policy fail:files' '1 mistake; an older policy is in force' mistakes=1 \
	'broker={"answers":true,"tells_policy":true,"in_force":true,"refused":true,"mistakes":1}'
tap_ok "an empty policy" finds 'fail:policy' 'the policy is empty' 'broker={"answers":true,"tells_policy":true,"rules":0}'
# Others who take devices.
tap_ok "the system's libvirt asks nobody" finds 'warn:libvirt' "'install -D .*/libvirt-hook /etc/libvirt/hooks/qemu.d/gpubroker'" 'libvirt={"system":true,"hook":false}'
tap_ok "... with a hook" finds '' 'iommu' 'libvirt={"system":true,"hook":true}'
tap_ok "libvirt's session may lock little" finds '' "may lock only 8M.*cannot limit locked memory.*limits.d" 'libvirt={"system":false}' memlock_max=8388608
tap_ok "... exactly what libvirt adds" finds '' "may lock only 1G" 'libvirt={"system":false}' memlock_max=1073741824
tap_ok "... enough for small machines" finds '' "may have at most 7G" 'libvirt={"system":false}' memlock_max=8589934592
tap_ok "... not for one of 8G, which needs 9G" finds '' "hostdev of a machine of 8G in qemu:///session fails" 'libvirt={"system":false}' memlock_max=9663676415 -- --memory 8G
tap_ok "... and just for it" lacks 'qemu:///session' 'libvirt={"system":false}' memlock_max=9663676416 -- --memory 8G
tap_ok "... or for all that the host has" lacks 'qemu:///session' 'libvirt={"system":false}' memlock_max=35433480192
tap_ok "SELinux has denied something" finds 'warn:denials' 'SELinux has denied something 2 times since the boot, at last: qemu, chr_file of vfio' \
	'denials={"module":"SELinux","readable":true,"count":2,"last":"qemu, chr_file of vfio"}'
tap_ok "AppArmor has denied nothing" finds '' 'AppArmor has denied the broker and VMs nothing' 'denials={"module":"AppArmor","readable":true,"count":0}'
tap_ok "what may not be read is said" finds '' 'you may not read the log' 'denials={"module":"AppArmor","readable":false,"count":0}'
# The caller.
tap_ok "a session without its groups" finds 'warn:session' 'before you were in 2 of your groups' missing=2
tap_ok "no KVM" finds 'warn:kvm' 'VT-x' 'kvm="absent"'
tap_ok "KVM is not allowed" finds 'fail:kvm' 'usermod -aG kvm NAME' 'kvm="forbidden"'
# Memory.
tap_ok "no memory may be locked" finds 'warn:memlock' 'at most 8M, which your session.*--memlock 17G' memlock=8388608
tap_ok "the rule's limit is told" finds '' 'at most 20G, which the rule' memlock=8388608 grant=21474836480
tap_ok "... and is too small for a VM" finds 'fail:memlock' 'you may lock 4G, and a VM of 8G.*--memlock 9G' memlock=8388608 grant=4294967296 -- --memory 8G
tap_ok "... or fits" finds '' 'PASS memlock' memlock=8388608 grant=9663676416 -- --memory 8G
tap_ok "a VM larger than the host" finds 'fail:memory warn:node' 'does not fit into the host, which has 32G' -- --memory 64G
tap_ok "... than what is free" finds 'warn:memory warn:node' 'available now, 27.9G' -- --memory 30G
tap_ok "... than the device's node" finds 'warn:node' 'node 0 has 16384M' -- --memory 20G
tap_ok "... than the session may have" finds 'fail:session' 'only 4G of memory' cgroup=4294967296 -- --memory 8G
tap_ok "hugepages are counted" finds '' '512 of 1024 hugepages of 2M are free: 1G' 'hugepages={"size":2097152,"total":1024,"free":512}'
tap_ok "... and as many as a VM needs" finds '' '512 of 1024 hugepages' 'hugepages={"size":2097152,"total":1024,"free":512}' -- --memory 1G
tap_ok "... and too few" finds 'warn:hugepages' 'raise vm.nr_hugepages by 1536' 'hugepages={"size":2097152,"total":1024,"free":512}' -- --memory 4G
# The device.
tap_ok "the host's console" finds 'fail:use' "shows the host's console" 'console="the text console is on it"'
tap_ok "the host uses it" finds 'fail:use' 'a screen' 'in_use="a screen is on card1-DP-1"'
tap_ok "programs have its render node open: each is named, and what may be used instead" \
	finds 'fail:use warn:render warn:render' "blender \\(pid 9 of bob\\) has /dev/dri/renderD128 open, and the card's driver waits for it. End that process" \
	'opened="python3 (pid 8 of alice) has /dev/dri/card0 open"' \
	'rendered=["python3 (pid 8 of alice) has /dev/dri/renderD128 open","blender (pid 9 of bob) has /dev/dri/renderD128 open",7]'
tap_ok "... which is no list: no matter" finds '' 'the host does not use it' 'rendered="x"'
tap_ok "a program has it open" finds 'fail:use' 'Xorg has /dev/dri/card0 open' 'opened="Xorg has /dev/dri/card0 open"'
tap_ok "a program has it through VFIO" finds 'fail:use' 'past the broker' status=in-use
tap_ok "no reset" finds 'warn:reset' 'vendor-reset' reset=
tap_ok "no rule" finds 'fail:rule' 'policy add --user NAME 0000:01:00.0' allowed=false
tap_ok "somebody has it" finds 'warn:lease' 'another user has it now .leased' 'holder="another user"' status=leased
tap_ok "hints are for what they concern" finds '' 'Code 43' class=030000
tap_ok "... a screen at the card" finds '' 'connected to card1-DP-1'
no_code_43() { ! finds '' 'Code 43' "$@"; }
tap_ok "... and not for a card without a display" no_code_43 class=030200
tap_ok "... nor another vendor's" no_code_43 vendor=1002
tap_ok "a licence is for a card that makes vGPUs" finds '' 'licence server' 'more=,"vfs":{"total":16}'

# Snapshots of other versions, and such as nobody wrote.
newer() (
	usual
	snapshot | sed 's/"gpubroker_snapshot":1/"gpubroker_snapshot":7,"new":{"x":[1]}/' >"$dir/snapshot"
	"$command" doctor --from "$dir/snapshot"
)
tap_ok "what a newer version has written is read" newer
refuses() (
	printf '%s' "$1" >"$dir/snapshot"
	"$command" doctor --from "$dir/snapshot" >"$dir/out" 2>"$dir/err"
	rc=$?
	cat "$dir/out" "$dir/err"
	[ $rc = 65 ] && grep -q "$2" "$dir/err"
)
tap_ok "an empty file is none" refuses '' 'ends too early'
tap_ok "nor are two files in one" refuses '{"gpubroker_snapshot":1,"devices":[]}{}' 'something follows its JSON'
tap_ok "half a file is none" refuses '{"gpubroker_snapshot":1,' 'ends too early'
tap_ok "a list of devices is none" refuses '[]' 'it is no snapshot'
tap_ok "nor an object" refuses '{"devices":[]}' 'it is no snapshot'
tap_ok "one without devices is none" refuses '{"gpubroker_snapshot":1}' 'no JSON array of devices'
tap_ok "nor one of a very deep nesting" refuses "{\"gpubroker_snapshot\":1,\"a\":$(printf '%0200d' 0 | sed 's/0/[/g')" 'no JSON'
many=$(awk 'BEGIN { for (i = 0; i <= 16384; i++) printf "%s{}", i ? "," : "" }')
tap_ok "nor one of more devices than a host has" refuses "{\"gpubroker_snapshot\":1,\"devices\":[$many]}" 'more devices'
tap_ok "one that says nothing has faults, and no crash" sh -c 'echo "{\"gpubroker_snapshot\":1,\"devices\":[]}" >"$1"; "$0" doctor --from "$1"; [ $? = 1 ]' "$command" "$dir/snapshot"
escapes() (
	usual
	opened='"\u001b[2J\u0007\nFAIL  iommu: faked\u007f"' holder='"\u001b]0;x"' loader='\u001b[31m' missing=2
	snapshot >"$dir/snapshot"
	"$command" doctor --from "$dir/snapshot" 01:00.0 >"$dir/out"
	! LC_ALL=C tr -d '\n' <"$dir/out" | LC_ALL=C grep -q '[[:cntrl:]]' && ! grep -q '^FAIL  iommu' "$dir/out"
)
tap_ok "control characters do not reach the terminal" escapes

# What is written.
written() (
	cd "$dir" && "$command" --socket "$dir/none" doctor --snapshot "$dir/new" >"$dir/out" && grep -q '"gpubroker_snapshot":1' "$dir/new" &&
		! grep -qE "\"serial\"|: *\"($(id -un)|$(uname -n))\"" "$dir/new"
)
tap_ok "a snapshot has no serial numbers, no user and no host name" written
again() {
	"$command" --socket "$dir/none" doctor --snapshot "$dir/new" >"$dir/out" 2>"$dir/err"
	[ $? = 73 ] && grep -q 'File exists' "$dir/err"
}
tap_ok "... and never replaces a file" again
link() {
	ln -s "$dir/target" "$dir/link"
	"$command" --socket "$dir/none" doctor --snapshot "$dir/link" >"$dir/out" 2>&1
	[ $? = 73 ] && [ ! -e "$dir/target" ]
}
tap_ok "... nor follows a link" link
same() {
	"$command" --socket "$dir/none" doctor >"$dir/live"
	"$command" doctor --from "$dir/new" | sed 1,2d >"$dir/saved"
	diff "$dir/live" "$dir/saved"
}
tap_ok "... from which doctor answers as on that host" same
tap_done
