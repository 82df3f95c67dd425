/* SPDX-License-Identifier: MIT */
/*
 * vmm NAME FILE ADDRESS: makes the calls for a device that a VMM makes which Debian does not have,
 * in its order, without a machine, and without KVM, which the emulated host lacks. NAME, by the
 * sources of
 *
 *     cloud-hypervisor           53.0 with vfio-ioctls 0.7.0: --device path=, as its static program
 *     cloud-hypervisor-landlock  the same with --landlock
 *     cloud-hypervisor-iommufd   the same with --platform iommufd=on
 *     cloud-hypervisor-fd        the same with --platform iommufd_fd= and --device fd=, the numbers
 *                                of GPUBROKER_IOMMUFD and GPUBROKER_CDEVS
 *     crosvm                     of August 2026 (f1e797a): the device's process has a sandbox
 *     firecracker                its branch poc/pcie, with filters that come after the devices
 *
 * FILE gets a line for what has happened: "has VENDOR:DEVICE", or "cannot CALL: ERROR". SIGUSR1 is
 * the guest's reboot: the machine is taken down and made anew, as that VMM does. SIGTERM ends it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#if __has_include(<linux/iommufd.h>) && defined(VFIO_DEVICE_BIND_IOMMUFD)
#include <linux/iommufd.h>
#define HAS_IOMMUFD 1
#else
#define HAS_IOMMUFD 0
#endif

#define GUEST_SIZE (4 << 20)

struct vmm {
	const char *name, *file, *address;
	int container, group, device, iommufd;
	uint32_t ioas;
	int fd, fd_bound; /* what was inherited, and if it is bound by now */
	void *guest;
};

static int is(const struct vmm *vmm, const char *name)
{
	return !strncmp(vmm->name, name, strlen(name));
}

__attribute__((format(printf, 2, 3))) static void say(const struct vmm *vmm, const char *format,
						      ...)
{
	FILE *f = fopen(vmm->file, "ae");
	va_list args;

	if (!f)
		exit(3);
	va_start(args, format);
	vfprintf(f, format, args);
	va_end(args);
	fclose(f);
}

static int failed(const struct vmm *vmm, const char *call)
{
	say(vmm, "cannot %s: %s\n", call, strerror(errno));
	return -1;
}

/* musl's open() is the call of that name where there is one; glibc's is openat. */
static int open_node(const struct vmm *vmm, const char *path)
{
	int fd;

#ifdef SYS_open
	if (!is(vmm, "crosvm"))
		fd = (int)syscall(SYS_open, path, O_RDWR | 0100000 | O_CLOEXEC, 0666);
	else
#endif
		fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	return fd < 0 ? failed(vmm, path) : fd;
}

static int of_sysfs(const struct vmm *vmm, const char *what, char *path, size_t size)
{
	return snprintf(path, size, "/sys/bus/pci/devices/%s/%s", vmm->address, what) < (int)size
		       ? 0
		       : -1;
}

/* ---- groups ---- */

static int open_container(struct vmm *vmm)
{
	vmm->container = open_node(vmm, "/dev/vfio/vfio");
	if (vmm->container < 0)
		return -1;
	if (ioctl(vmm->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		return failed(vmm, "VFIO_GET_API_VERSION");
	if (ioctl(vmm->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1)
		return failed(vmm, "VFIO_CHECK_EXTENSION");
	return 0;
}

static int open_group(struct vmm *vmm)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[128], target[256] = "", node[64];

	of_sysfs(vmm, "iommu_group", path, sizeof(path));
	if (readlink(path, target, sizeof(target) - 1) < 0)
		return failed(vmm, path);
	snprintf(node, sizeof(node), "/dev/vfio/%.20s", strrchr(target, '/') + 1);
	vmm->group = open_node(vmm, node);
	if (vmm->group < 0)
		return -1;
	if (ioctl(vmm->group, VFIO_GROUP_GET_STATUS, &status))
		return failed(vmm, "VFIO_GROUP_GET_STATUS");
	/* All of them want it exactly so: no container is set. */
	if (status.flags != VFIO_GROUP_FLAGS_VIABLE) {
		say(vmm, "cannot use group: flags %#x\n", status.flags);
		return -1;
	}
	if (ioctl(vmm->group, VFIO_GROUP_SET_CONTAINER, &vmm->container))
		return failed(vmm, "VFIO_GROUP_SET_CONTAINER");
	if (ioctl(vmm->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return failed(vmm, "VFIO_SET_IOMMU");
	return 0;
}

static int map_by_container(const struct vmm *vmm)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)vmm->guest,
		.size = GUEST_SIZE,
	};

	return ioctl(vmm->container, VFIO_IOMMU_MAP_DMA, &map) ? failed(vmm, "VFIO_IOMMU_MAP_DMA")
							       : 0;
}

static int device_of_group(struct vmm *vmm)
{
	vmm->device = ioctl(vmm->group, VFIO_GROUP_GET_DEVICE_FD, vmm->address);
	return vmm->device < 0 ? failed(vmm, "VFIO_GROUP_GET_DEVICE_FD") : 0;
}

/* ---- iommufd ---- */

#if HAS_IOMMUFD
static int number_of(const char *variable, const char *address)
{
	const char *text = getenv(variable), *at;

	if (!text || !address)
		return text ? atoi(text) : -1;
	at = strstr(text, address);
	return at ? atoi(at + strlen(address) + 1) : -1;
}

static int open_iommufd(struct vmm *vmm)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	int inherited = is(vmm, "cloud-hypervisor-fd");

	vmm->iommufd = inherited ? dup(number_of("GPUBROKER_IOMMUFD", NULL))
				 : open_node(vmm, "/dev/iommu");
	if (vmm->iommufd < 0)
		return inherited ? failed(vmm, "inherit the iommufd") : -1;
	if (ioctl(vmm->iommufd, IOMMU_IOAS_ALLOC, &alloc))
		return failed(vmm, "IOMMU_IOAS_ALLOC");
	vmm->ioas = alloc.out_ioas_id;
	return 0;
}

static int open_cdev(struct vmm *vmm)
{
	char path[128], node[384] = "";
	struct dirent *entry;
	DIR *dir;

	if (is(vmm, "cloud-hypervisor-fd")) {
		vmm->fd = number_of("GPUBROKER_CDEVS", vmm->address);
		vmm->device = dup(vmm->fd);
		return vmm->device < 0 ? failed(vmm, "inherit the device") : 0;
	}
	of_sysfs(vmm, "vfio-dev", path, sizeof(path));
	dir = opendir(path);
	if (!dir)
		return failed(vmm, path);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			snprintf(node, sizeof(node), "/dev/vfio/devices/%s", entry->d_name);
	closedir(dir);
	vmm->device = open_node(vmm, node);
	return vmm->device < 0 ? -1 : 0;
}

static int take_by_iommufd(struct vmm *vmm)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_FIXED_IOVA,
		.user_va = (uintptr_t)vmm->guest,
		.length = GUEST_SIZE,
	};

	if (open_iommufd(vmm) || open_cdev(vmm))
		return -1;
	bind.iommufd = vmm->iommufd;
	if (!vmm->fd_bound && ioctl(vmm->device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return failed(vmm, "VFIO_DEVICE_BIND_IOMMUFD");
	attach.pt_id = map.ioas_id = vmm->ioas;
	if (ioctl(vmm->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		return failed(vmm, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
	if (ioctl(vmm->iommufd, IOMMU_IOAS_MAP, &map))
		return failed(vmm, "IOMMU_IOAS_MAP");
	return 0;
}

static void detach_iommufd(const struct vmm *vmm)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	ioctl(vmm->device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}
#else
static int take_by_iommufd(struct vmm *vmm)
{
	errno = ENOSYS;
	return failed(vmm, "use iommufd");
}

static void detach_iommufd(const struct vmm *vmm)
{
	(void)vmm;
}
#endif

/* ---- sandboxes ---- */

/* One that lets all pass but a call that nobody makes, as a filter that has been told of openat. */
static void install_own_filter(void)
{
	struct sock_filter rows[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_reboot, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = rows };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static void landlock_rule(int rules, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr below = { .allowed_access = access };

	below.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (below.parent_fd >= 0)
		syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0);
	close(below.parent_fd);
}

/* With --landlock: what may be opened is told before, the group and the container among it. */
static int restrict_by_landlock(const struct vmm *vmm)
{
	const uint64_t rw = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;
	struct landlock_ruleset_attr all = { .handled_access_fs = rw |
								  LANDLOCK_ACCESS_FS_READ_DIR };
	int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	char path[128], target[256] = "", node[64];

	if (rules < 0)
		return failed(vmm, "make a Landlock ruleset");
	of_sysfs(vmm, "iommu_group", path, sizeof(path));
	if (readlink(path, target, sizeof(target) - 1) < 0)
		return failed(vmm, path);
	snprintf(node, sizeof(node), "/dev/vfio/%.20s", strrchr(target, '/') + 1);
	landlock_rule(rules, node, rw);
	landlock_rule(rules, "/dev/vfio/vfio", rw);
	landlock_rule(rules, "/sys", rw | LANDLOCK_ACCESS_FS_READ_DIR);
	landlock_rule(rules, "/tmp", rw);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_landlock_restrict_self, rules, 0))
		return failed(vmm, "restrict by Landlock");
	close(rules);
	return 0;
}

/* ---- the machine ---- */

static int read_ids(const struct vmm *vmm)
{
	struct vfio_region_info config = { .argsz = sizeof(config),
					   .index = VFIO_PCI_CONFIG_REGION_INDEX };
	struct vfio_device_info info = { .argsz = sizeof(info) };
	uint16_t ids[2];

	if (ioctl(vmm->device, VFIO_DEVICE_GET_INFO, &info))
		return failed(vmm, "VFIO_DEVICE_GET_INFO");
	if (ioctl(vmm->device, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    pread(vmm->device, ids, sizeof(ids), (off_t)config.offset) != sizeof(ids))
		return failed(vmm, "VFIO_DEVICE_GET_REGION_INFO");
	say(vmm, "has %04x:%04x\n", ids[0], ids[1]);
	return 0;
}

/* The process of a device that runs in a sandbox: new namespaces, no file, and its own filter. */
static int read_ids_in_sandbox(const struct vmm *vmm)
{
	int status = 1;
	pid_t pid = fork();

	if (!pid) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC))
			failed(vmm, "unshare");
		install_own_filter();
		_exit(read_ids(vmm) ? 1 : 0);
	}
	waitpid(pid, &status, 0);
	return status ? -1 : 0;
}

static int take(struct vmm *vmm)
{
	if (is(vmm, "cloud-hypervisor-iommufd") || is(vmm, "cloud-hypervisor-fd"))
		return take_by_iommufd(vmm) ? -1 : read_ids(vmm);
	if (open_container(vmm) || open_group(vmm))
		return -1;
	if (is(vmm, "crosvm"))
		return map_by_container(vmm) || device_of_group(vmm) ? -1
								     : read_ids_in_sandbox(vmm);
	if (device_of_group(vmm) || read_ids(vmm))
		return -1;
	return map_by_container(vmm);
}

static void take_down(struct vmm *vmm)
{
	if (vmm->iommufd >= 0 && vmm->device >= 0) {
		detach_iommufd(vmm);
		vmm->fd_bound = vmm->fd >= 0;
	}
	if (vmm->device >= 0)
		close(vmm->device);
	if (vmm->group >= 0) {
		ioctl(vmm->group, VFIO_GROUP_UNSET_CONTAINER, &vmm->container);
		close(vmm->group);
	}
	if (vmm->container >= 0)
		close(vmm->container);
	if (vmm->iommufd >= 0)
		close(vmm->iommufd);
	vmm->container = vmm->group = vmm->device = vmm->iommufd = -1;
}

/* Cloud Hypervisor's thread "vmm", which has its filter before it opens anything. */
static void *run(void *userdata)
{
	struct vmm *vmm = userdata;
	sigset_t set;
	int sig = SIGUSR1;

	if (is(vmm, "cloud-hypervisor"))
		install_own_filter();
	if (is(vmm, "cloud-hypervisor-landlock") && restrict_by_landlock(vmm))
		return NULL;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	while (sig == SIGUSR1) {
		take_down(vmm);
		take(vmm);
		if (is(vmm, "firecracker"))
			install_own_filter();
		sigwait(&set, &sig);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct vmm vmm = { .container = -1, .group = -1, .device = -1, .iommufd = -1, .fd = -1 };
	pthread_t thread;
	sigset_t all;

	if (argc != 4)
		return 64;
	vmm.name = argv[1];
	vmm.file = argv[2];
	vmm.address = argv[3];
	vmm.guest =
		mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_SHARED, -1, 0);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	if (!is(&vmm, "cloud-hypervisor"))
		run(&vmm);
	else if (!pthread_create(&thread, NULL, run, &vmm))
		pthread_join(thread, NULL);
	return 0;
}
