// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A host driver for the emulated host that hangs on demand: for QEMU's pci-testdev, of which it
 * touches nothing. Where the parameter hang_probe or hang_remove names a function ("0000:05:00.0",
 * or "all"), probing or removing it sleeps as drivers that hang do: in the D state, with the
 * device's lock held, and no signal ends it. It goes on as soon as the parameter names it no more.
 *
 * Both can be written at run time below /sys/module/gpubroker_test/parameters; a newline alone
 * empties one. It must never be part of what is installed: tests/vm alone loads it.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/wait.h>

struct hang {
	const char *step;
	char who[16]; /* an address, "all", or empty */
};

static DEFINE_SPINLOCK(hang_lock);
static DECLARE_WAIT_QUEUE_HEAD(hang_changed);
static struct hang hang_probe = { .step = "probe" };
static struct hang hang_remove = { .step = "remove" };

static int hang_set(const char *text, const struct kernel_param *param)
{
	struct hang *hang = param->arg;
	char who[sizeof(hang->who)];
	ssize_t n = strscpy(who, text, sizeof(who));

	if (n < 0)
		return -EINVAL;
	if (n && who[n - 1] == '\n')
		who[n - 1] = '\0';
	spin_lock(&hang_lock);
	strscpy(hang->who, who, sizeof(hang->who));
	spin_unlock(&hang_lock);
	wake_up_all(&hang_changed);
	return 0;
}

static int hang_get(char *out, const struct kernel_param *param)
{
	const struct hang *hang = param->arg;
	int n;

	spin_lock(&hang_lock);
	n = sysfs_emit(out, "%s\n", hang->who);
	spin_unlock(&hang_lock);
	return n;
}

static const struct kernel_param_ops hang_ops = {
	.set = hang_set,
	.get = hang_get,
};

module_param_cb(hang_probe, &hang_ops, &hang_probe, 0644);
MODULE_PARM_DESC(hang_probe, "PCI address, or \"all\", whose probe hangs");
module_param_cb(hang_remove, &hang_ops, &hang_remove, 0644);
MODULE_PARM_DESC(hang_remove, "PCI address, or \"all\", whose remove hangs");

static bool named(const struct hang *hang, struct pci_dev *pdev)
{
	bool is;

	spin_lock(&hang_lock);
	is = !strcmp(hang->who, "all") || !strcmp(hang->who, pci_name(pdev));
	spin_unlock(&hang_lock);
	return is;
}

static void hang_while_named(const struct hang *hang, struct pci_dev *pdev)
{
	if (!named(hang, pdev))
		return;
	pci_info(pdev, "%s hangs\n", hang->step);
	/* Uninterruptible: not even SIGKILL ends it. */
	wait_event(hang_changed, !named(hang, pdev));
	pci_info(pdev, "%s goes on\n", hang->step);
}

static int gpubroker_test_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	hang_while_named(&hang_probe, pdev);
	return 0;
}

static void gpubroker_test_remove(struct pci_dev *pdev)
{
	hang_while_named(&hang_remove, pdev);
}

static const struct pci_device_id gpubroker_test_ids[] = {
	{ PCI_DEVICE(0x1b36, 0x0005) },
	{}
};
MODULE_DEVICE_TABLE(pci, gpubroker_test_ids);

static struct pci_driver gpubroker_test_driver = {
	.name = "gpubroker_test",
	.id_table = gpubroker_test_ids,
	.probe = gpubroker_test_probe,
	.remove = gpubroker_test_remove,
};
module_pci_driver(gpubroker_test_driver);

MODULE_DESCRIPTION("Hangs on demand, to test gpubroker");
MODULE_LICENSE("Dual MIT/GPL");
