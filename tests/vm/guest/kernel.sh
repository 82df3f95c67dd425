# shellcheck shell=bash
# What a kernel may lack, for the tests that need it and for the line at the end of a run. Each is
# asked of the kernel itself: they are built differently, and a version tells little. Sourced.

# The features, in the order in which they are told, and their words. A feature without words is a driver.
kernel_features=(cdevs mdevs landlock landlock-ioctl peerpidfd passrights histograms children sleep-tests
	ia32 user-namespaces devmem apparmor boot-vga second-bridge early-groups bridge-groups
	e1000 xhci_hcd gpubroker_test gpubroker_vgpu gpubroker_admin)
declare -A kernel_words=(
	[cdevs]='device nodes of VFIO (cdevs) with iommufd'
	[mdevs]='sample mdev devices (mtty, mdpy, mbochs)'
	[landlock]='Landlock'
	[landlock-ioctl]='Landlock that handles ioctl (version 5)'
	[peerpidfd]='SO_PEERPIDFD'
	[passrights]='SO_PASSRIGHTS'
	[histograms]='counting of system calls (raw_syscalls, hist)'
	[children]='list of children in /proc'
	[sleep-tests]='tests of sleep (pm_test)'
	[ia32]='32-bit system calls'
	[devmem]='/dev/mem'
	[user-namespaces]='user namespaces'
	[apparmor]='AppArmor'
	[boot-vga]='boot VGA'
	[second-bridge]='second PCI host bridge'
	[bridge-groups]='IOMMU group of two functions behind a conventional bridge'
	[early-groups]='IOMMU group of a function before it has had a driver'
)

# kernel_has FEATURE
kernel_has() {
	case $1 in
	cdevs) modprobe -q vfio && modprobe -nq iommufd && grep -q ' vfio-dev$' /proc/devices ;;
	mdevs) modprobe -nq mtty && modprobe -nq mdpy && modprobe -nq mbochs ;;
	landlock) landlock_version 1 ;;
	landlock-ioctl) landlock_version 5 ;;
	peerpidfd) socket_option 77 ;;
	passrights) socket_option 83 ;;
	histograms)
		[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing 2>/dev/null
		[ -e /sys/kernel/tracing/events/raw_syscalls/sys_enter/hist ]
		;;
	children) [ -e "/proc/self/task/$BASHPID/children" ] ;;
	sleep-tests) [ -e /sys/power/pm_test ] ;;
	ia32) [ -e /proc/sys/abi/vsyscall32 ] ;;
	user-namespaces) [ -e /proc/self/ns/user ] ;;
	devmem) [ -e /dev/mem ] ;;
	apparmor) [ -d /sys/module/apparmor ] ;;
	# A PC that has none is not the machine that it should be, and no reason to skip anything.
	boot-vga) [ "$HOSTTYPE" = x86_64 ] || grep -qs 1 /sys/bus/pci/devices/*/boot_vga ;;
	second-bridge) [ "$HOSTTYPE" = x86_64 ] || [ -e "/sys/bus/pci/devices/$groupless" ] ;;
	early-groups) [ "$HOSTTYPE" = x86_64 ] || [ -e "/sys/bus/pci/devices/$driverless/iommu_group" ] ;;
	bridge-groups)
		[ "$HOSTTYPE" = x86_64 ] ||
			[ "/sys/bus/pci/devices/$multi_gpu/iommu_group" -ef "/sys/bus/pci/devices/$multi_net/iommu_group" ]
		;;
	# Its headers were not there when the tests were built.
	gpubroker_test | gpubroker_vgpu | gpubroker_admin) [ -e "/tests/$1.ko" ] ;;
	*) modprobe -nq "$1" ;;
	esac
}

# kernel_lacks FEATURE...: the words for those that it lacks, with a semicolon between them; its status is 1
# where there are none.
kernel_lacks() {
	local feature words=''
	for feature; do
		kernel_has "$feature" || words+="; ${kernel_words[$feature]:-driver $feature}"
	done
	[ -n "$words" ] && echo "${words#; }"
}

landlock_version() {
	python3 -c 'import ctypes, sys
sys.exit(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) < int(sys.argv[1]))' "$1"
}

# socket_option NUMBER: one that can be read or set on a Unix socket.
socket_option() {
	python3 -c 'import errno, socket, sys
a, b = socket.socketpair()
try:
	a.getsockopt(socket.SOL_SOCKET, int(sys.argv[1]))
except OSError as e:
	sys.exit(e.errno == errno.ENOPROTOOPT)' "$1"
}
