// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * For the emulated host: gives the PCI function that the parameter `device` names the files by which
 * xe is told, since Linux 6.19, what each virtual function may have of a card:
 * sriov_admin/.bulk_profile/{exec_quantum_ms,preempt_timeout_us} below it. Like xe's they only take
 * numbers, and none above a limit; what they took is in the parameters of that name. It must never be
 * part of what is installed: tests/vm alone loads it.
 *
 * ABI: Documentation/ABI/testing/sysfs-driver-intel-xe-sriov.
 */
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/sysfs.h>

#define QUANTUM_MAX 100000
#define TIMEOUT_MAX 100000000

static char *device;
module_param(device, charp, 0444);
static uint exec_quantum_ms;
module_param(exec_quantum_ms, uint, 0644);
static uint preempt_timeout_us;
module_param(preempt_timeout_us, uint, 0644);

static struct pci_dev *function;
static struct kobject *admin, *bulk;

static ssize_t take(const char *text, size_t count, uint most, uint *value)
{
	uint number;
	int r = kstrtouint(text, 0, &number);

	if (r)
		return r;
	if (number > most)
		return -EINVAL;
	*value = number;
	return count;
}

static ssize_t take_quantum(struct kobject *object, struct kobj_attribute *attribute, const char *text,
			    size_t count)
{
	return take(text, count, QUANTUM_MAX, &exec_quantum_ms);
}

static ssize_t take_timeout(struct kobject *object, struct kobj_attribute *attribute, const char *text,
			    size_t count)
{
	return take(text, count, TIMEOUT_MAX, &preempt_timeout_us);
}

static struct kobj_attribute quantum = __ATTR(exec_quantum_ms, 0200, NULL, take_quantum);
static struct kobj_attribute timeout = __ATTR(preempt_timeout_us, 0200, NULL, take_timeout);
static struct attribute *files[] = { &quantum.attr, &timeout.attr, NULL };
static const struct attribute_group group = { .attrs = files };

static void put_all(void)
{
	kobject_put(bulk);
	kobject_put(admin);
	pci_dev_put(function);
}

static int __init admin_init(void)
{
	uint domain, bus, slot, number;
	int r;

	if (!device || sscanf(device, "%x:%x:%x.%x", &domain, &bus, &slot, &number) != 4)
		return -EINVAL;
	function = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, number));
	if (!function)
		return -ENODEV;
	admin = kobject_create_and_add("sriov_admin", &function->dev.kobj);
	bulk = admin ? kobject_create_and_add(".bulk_profile", admin) : NULL;
	r = bulk ? sysfs_create_group(bulk, &group) : -ENOMEM;
	if (r)
		put_all();
	return r;
}

static void __exit admin_exit(void)
{
	sysfs_remove_group(bulk, &group);
	put_all();
}

module_init(admin_init);
module_exit(admin_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("xe's files for quotas of virtual functions, for gpubroker's tests");
