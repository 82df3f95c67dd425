/* SPDX-License-Identifier: MIT */
/*
 * Looks at VFIO's container as the command will find it, see container.h. It must keep nothing
 * open, and never be a reason to fail: a command may need no container.
 */
#include "config.h"

#include "client/run/container.h"
#include "client/command/cli.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/ioctl.h>

#define CONTAINER "/dev/vfio/vfio"

void container_warn(void)
{
	static const int drivers[] = { VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU,
				       VFIO_SPAPR_TCE_v2_IOMMU, VFIO_SPAPR_TCE_IOMMU };
	cleanup_fd int fd = open(CONTAINER, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		cli_error("warning: " CONTAINER " cannot be opened here (%s), so no VMM can use "
			  "the device by its group; a systemd unit needs DeviceAllow=" CONTAINER
			  " rw and PrivateDevices=no, a container needs it mounted",
			  strerror(errno));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (ioctl(fd, VFIO_CHECK_EXTENSION, drivers[i]) > 0)
			return;
	cli_error("warning: VFIO has no driver for the IOMMU, so no VMM can use the device by its "
		  "group; root loads it with 'modprobe vfio_iommu_type1'");
}
