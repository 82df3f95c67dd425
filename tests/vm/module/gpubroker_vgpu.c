// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A host driver for the emulated host that makes of virtual functions what NVIDIA's vGPU manager does where
 * it uses no mdevs: by the same files in sysfs, and with a real VFIO device at the end. For VFs of QEMU's nvme,
 * of which it touches nothing; a driver_override brings them here.
 *
 *	nvidia/creatable_vgpu_types	a table of what this VF could be made now, nothing where it is something
 *	nvidia/current_vgpu_type	0, or the number of what it is; written, it becomes that, or nothing again
 *	nvidia/vgpu_params		a line that is kept
 *
 * A physical function has room for four units among its VFs, and what no longer fits is no longer in their
 * tables. Writing a type that is not in the table gives EINVAL. A VF that is something must first be cleared,
 * and cannot be while somebody has its device open: both EPERM, as the vendor's driver has been seen to say of the latter.
 *
 * A VM gets a function with only a configuration space, whose device id is the type. It must
 * never be part of what is installed: tests/vm alone loads it.
 */
#include <linux/delay.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vfio.h>

#define UNITS 4 /* of a physical function */
#define CONFIG_SIZE 256

static const struct vgpu_type {
	unsigned int id;
	const char *name;
	unsigned int units;
} types[] = {
	{ 557, "NVIDIA RTX5880-Ada-1Q", 1 },
	{ 558, "NVIDIA RTX5880-Ada-2Q", 2 },
	{ 560, "NVIDIA RTX5880-Ada-4Q", 4 },
};

struct vf;

/* Lives as long as VFIO needs it, which may be longer than its VF is bound. */
struct vgpu {
	struct vfio_device vdev;
	struct vf *vf;
	u8 config[CONFIG_SIZE];
};

struct vf {
	struct list_head link;
	struct pci_dev *pdev;
	const struct vgpu_type *type; /* NULL: it is nothing */
	struct vgpu *vgpu;
	bool open, going;
	char params[64];
};

static LIST_HEAD(vfs);
static DEFINE_MUTEX(lock);

/* A test that wants the kernel to take its time: milliseconds, before a VF becomes something. */
static unsigned int slow;
module_param(slow, uint, 0644);
MODULE_PARM_DESC(slow, "milliseconds that it takes to make one");

/* ---- the device ---- */

static struct vgpu *vgpu_of(struct vfio_device *vdev)
{
	return container_of(vdev, struct vgpu, vdev);
}

static int vgpu_init(struct vfio_device *vdev)
{
	return 0;
}

static void vgpu_release(struct vfio_device *vdev)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	vfio_free_device(vdev);
#endif
}

static void fill_config(struct vgpu *vgpu, const struct vgpu_type *type)
{
	u8 *c = vgpu->config;

	memset(c, 0, CONFIG_SIZE);
	c[PCI_VENDOR_ID] = 0xde;
	c[PCI_VENDOR_ID + 1] = 0x10;
	c[PCI_DEVICE_ID] = type->id & 0xff;
	c[PCI_DEVICE_ID + 1] = type->id >> 8;
	c[PCI_CLASS_DEVICE] = 0x02; /* a 3D controller */
	c[PCI_CLASS_DEVICE + 1] = 0x03;
}

static int vgpu_open(struct vfio_device *vdev)
{
	struct vgpu *vgpu = vgpu_of(vdev);
	int r = 0;

	mutex_lock(&lock);
	if (!vgpu->vf || vgpu->vf->going) {
		r = -ENODEV;
	} else {
		fill_config(vgpu, vgpu->vf->type);
		vgpu->vf->open = true;
	}
	mutex_unlock(&lock);
	return r;
}

static void vgpu_close(struct vfio_device *vdev)
{
	struct vgpu *vgpu = vgpu_of(vdev);

	mutex_lock(&lock);
	if (vgpu->vf)
		vgpu->vf->open = false;
	mutex_unlock(&lock);
}

static bool in_config(loff_t at, size_t count)
{
	loff_t offset = at & ((1ULL << 40) - 1);

	return at >> 40 == VFIO_PCI_CONFIG_REGION_INDEX && offset < CONFIG_SIZE &&
	       count <= CONFIG_SIZE - offset;
}

static ssize_t vgpu_read(struct vfio_device *vdev, char __user *out, size_t count, loff_t *at)
{
	loff_t offset = *at & ((1ULL << 40) - 1);

	if (!in_config(*at, count))
		return -EINVAL;
	if (copy_to_user(out, vgpu_of(vdev)->config + offset, count))
		return -EFAULT;
	*at += count;
	return count;
}

/* Only writes to the command and the interrupt line have an effect. */
static ssize_t vgpu_write(struct vfio_device *vdev, const char __user *in, size_t count,
			  loff_t *at)
{
	loff_t offset = *at & ((1ULL << 40) - 1);
	u8 bytes[CONFIG_SIZE];
	size_t i;

	if (!in_config(*at, count))
		return -EINVAL;
	if (copy_from_user(bytes, in, count))
		return -EFAULT;
	for (i = 0; i < count; i++)
		if (offset + i == PCI_COMMAND || offset + i == PCI_COMMAND + 1 ||
		    offset + i == PCI_INTERRUPT_LINE)
			vgpu_of(vdev)->config[offset + i] = bytes[i];
	*at += count;
	return count;
}

static void region(struct vfio_region_info *info)
{
	bool is_config = info->index == VFIO_PCI_CONFIG_REGION_INDEX;

	info->offset = (u64)info->index << 40;
	info->size = is_config ? CONFIG_SIZE : 0;
	info->flags = is_config ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
static int vgpu_region(struct vfio_device *vdev, struct vfio_region_info *info,
		       struct vfio_info_cap *caps)
{
	if (info->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	region(info);
	return 0;
}
#endif

static long tell_device(void __user *arg)
{
	const size_t size = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

static long tell_region(void __user *arg)
{
	const size_t size = offsetofend(struct vfio_region_info, offset);
	struct vfio_region_info info;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	region(&info);
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

/* It has no interrupts. */
static long tell_irq(void __user *arg)
{
	const size_t size = offsetofend(struct vfio_irq_info, count);
	struct vfio_irq_info info;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.flags = 0;
	info.count = 0;
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

static long vgpu_ioctl(struct vfio_device *vdev, unsigned int what, unsigned long arg)
{
	switch (what) {
	case VFIO_DEVICE_GET_INFO:
		return tell_device((void __user *)arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return tell_region((void __user *)arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return tell_irq((void __user *)arg);
	case VFIO_DEVICE_RESET:
		return 0;
	}
	return -ENOTTY;
}

static const struct vfio_device_ops vgpu_ops = {
	.name = "gpubroker_vgpu",
	.init = vgpu_init,
	.release = vgpu_release,
	.open_device = vgpu_open,
	.close_device = vgpu_close,
	.read = vgpu_read,
	.write = vgpu_write,
	.ioctl = vgpu_ioctl,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	.get_region_info_caps = vgpu_region,
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
#endif
};

/* ---- making and clearing ---- */

static unsigned int units_left(const struct vf *of)
{
	unsigned int used = 0;
	const struct vf *vf;

	list_for_each_entry(vf, &vfs, link)
		if (vf->pdev->physfn == of->pdev->physfn && vf->type)
			used += vf->type->units;
	return UNITS - used;
}

static int vf_make(struct vf *vf, unsigned int id)
{
	const struct vgpu_type *type = NULL;
	struct vgpu *vgpu;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].id == id)
			type = &types[i];
	mutex_lock(&lock);
	if (vf->type)
		r = -EPERM;
	else if (!type || type->units > units_left(vf))
		r = -EINVAL;
	else
		r = 0;
	if (!r)
		vf->type = type; /* nobody else's from here on */
	mutex_unlock(&lock);
	if (r)
		return r;
	if (slow)
		msleep(slow);

	vgpu = vfio_alloc_device(vgpu, vdev, &vf->pdev->dev, &vgpu_ops);
	r = PTR_ERR_OR_ZERO(vgpu);
	if (!r) {
		vgpu->vf = vf;
		vf->vgpu = vgpu;
		r = vfio_register_group_dev(&vgpu->vdev);
		if (r)
			vfio_put_device(&vgpu->vdev);
	}
	if (r) {
		mutex_lock(&lock);
		vf->vgpu = NULL;
		vf->type = NULL;
		mutex_unlock(&lock);
	}
	return r;
}

/* `force` waits for whoever has it open. */
static int vf_clear(struct vf *vf, bool force)
{
	struct vgpu *vgpu;

	mutex_lock(&lock);
	if (!vf->type) {
		mutex_unlock(&lock);
		return 0;
	}
	vgpu = vf->vgpu;
	if (!vgpu || vf->going || (vf->open && !force)) {
		mutex_unlock(&lock);
		return -EPERM;
	}
	vf->going = true;
	mutex_unlock(&lock);

	vfio_unregister_group_dev(&vgpu->vdev);

	mutex_lock(&lock);
	vgpu->vf = NULL;
	vf->vgpu = NULL;
	vf->type = NULL;
	vf->going = vf->open = false;
	mutex_unlock(&lock);
	vfio_put_device(&vgpu->vdev);
	return 0;
}

/* ---- the files ---- */

static ssize_t creatable_vgpu_types_show(struct device *dev, struct device_attribute *attr,
					 char *out)
{
	struct vf *vf = dev_get_drvdata(dev);
	ssize_t n = sysfs_emit(out, "ID    : vGPU Name\n");
	size_t i;

	mutex_lock(&lock);
	for (i = 0; i < ARRAY_SIZE(types); i++)
		if (!vf->type && types[i].units <= units_left(vf))
			n += sysfs_emit_at(out, n, "%-5u : %s\n", types[i].id, types[i].name);
	mutex_unlock(&lock);
	return n;
}

static ssize_t current_vgpu_type_show(struct device *dev, struct device_attribute *attr, char *out)
{
	struct vf *vf = dev_get_drvdata(dev);
	ssize_t n;

	mutex_lock(&lock);
	n = sysfs_emit(out, "%u\n", vf->type ? vf->type->id : 0);
	mutex_unlock(&lock);
	return n;
}

static ssize_t current_vgpu_type_store(struct device *dev, struct device_attribute *attr,
				       const char *text, size_t count)
{
	struct vf *vf = dev_get_drvdata(dev);
	unsigned int id;
	int r = kstrtouint(text, 10, &id);

	if (!r)
		r = id ? vf_make(vf, id) : vf_clear(vf, false);
	return r ? r : count;
}

static ssize_t vgpu_params_show(struct device *dev, struct device_attribute *attr, char *out)
{
	struct vf *vf = dev_get_drvdata(dev);
	ssize_t n;

	mutex_lock(&lock);
	n = sysfs_emit(out, "%s\n", vf->params);
	mutex_unlock(&lock);
	return n;
}

static ssize_t vgpu_params_store(struct device *dev, struct device_attribute *attr,
				 const char *text, size_t count)
{
	struct vf *vf = dev_get_drvdata(dev);
	const size_t n = strcspn(text, "\n");

	if (n >= sizeof(vf->params))
		return -EINVAL;
	mutex_lock(&lock);
	memcpy(vf->params, text, n);
	vf->params[n] = '\0';
	mutex_unlock(&lock);
	return count;
}

static DEVICE_ATTR_RO(creatable_vgpu_types);
static DEVICE_ATTR_RW(current_vgpu_type);
static DEVICE_ATTR_RW(vgpu_params);

static struct attribute *vgpu_attributes[] = {
	&dev_attr_creatable_vgpu_types.attr,
	&dev_attr_current_vgpu_type.attr,
	&dev_attr_vgpu_params.attr,
	NULL,
};

static const struct attribute_group vgpu_group = {
	.name = "nvidia",
	.attrs = vgpu_attributes,
};

static const struct attribute_group *vgpu_groups[] = { &vgpu_group, NULL };

/* ---- the driver ---- */

static int vgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct vf *vf;

	if (!pdev->is_virtfn)
		return -ENODEV;
	vf = kzalloc(sizeof(*vf), GFP_KERNEL);
	if (!vf)
		return -ENOMEM;
	vf->pdev = pdev;
	pci_set_drvdata(pdev, vf);
	mutex_lock(&lock);
	list_add_tail(&vf->link, &vfs);
	mutex_unlock(&lock);
	return 0;
}

static void vgpu_remove(struct pci_dev *pdev)
{
	struct vf *vf = pci_get_drvdata(pdev);

	vf_clear(vf, true);
	mutex_lock(&lock);
	list_del(&vf->link);
	mutex_unlock(&lock);
	kfree(vf);
}

/* By driver_override alone. */
static const struct pci_device_id vgpu_ids[] = {
	{ PCI_DEVICE_DRIVER_OVERRIDE(PCI_ANY_ID, PCI_ANY_ID, 1) },
	{}
};

static struct pci_driver vgpu_driver = {
	.name = "gpubroker_vgpu",
	.id_table = vgpu_ids,
	.probe = vgpu_probe,
	.remove = vgpu_remove,
	.dev_groups = vgpu_groups,
	/* Else the group would be the host's, and VFIO could not have it. */
	.driver_managed_dma = true,
};
module_pci_driver(vgpu_driver);

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("IOMMUFD");
#else
MODULE_IMPORT_NS(IOMMUFD);
#endif
MODULE_DESCRIPTION("vGPUs of virtual functions, to test gpubroker");
MODULE_LICENSE("Dual MIT/GPL");
