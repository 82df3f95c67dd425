/* SPDX-License-Identifier: MIT */
/*
 * Makes a directory in the shape of /sys with more functions than an emulated host can have, for
 * tests/bench/run: `tree DIRECTORY FUNCTIONS`. Cards of two functions, a display and its sound, each
 * with an IOMMU group of its own, as a list of a real host would have them; the files are those that
 * the daemon reads of them there.
 */
#include "tests/bench/clock.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>

static const char *top;

static void __attribute__((format(printf, 2, 3))) file(const char *text, const char *format, ...)
{
	char name[256];
	va_list args;
	int fd;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die(name);
	close(fd);
}

static void __attribute__((format(printf, 1, 2))) directory(const char *format, ...)
{
	char name[256];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	if (mkdir(name, 0755) && errno != EEXIST)
		die(name);
}

static void __attribute__((format(printf, 2, 3))) to(const char *target, const char *format, ...)
{
	char name[256];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	if (symlink(target, name))
		die(name);
}

/* A bus has 32 slots, and a domain 255 buses beside the root. */
static void function(unsigned i)
{
	static const char *const files[][2] = {
		{ "vendor", "0x10de\n" },	    { "subsystem_vendor", "0x10de\n" },
		{ "subsystem_device", "0x134f\n" }, { "enable", "1\n" },
		{ "driver_override", "(null)\n" },  { "reset", "" },
	};
	unsigned slot = i / 2, number = i % 2;
	char address[16], path[128], text[128];

	snprintf(address, sizeof(address), "0000:%02x:%02x.%x", slot / 32 + 1, slot % 32, number);
	snprintf(path, sizeof(path), "%s/devices/pci0000:00/%s", top, address);
	directory("%s", path);
	for (size_t k = 0; k < sizeof(files) / sizeof(*files); k++)
		file(files[k][1], "%s/%s", path, files[k][0]);
	snprintf(text, sizeof(text), "0x%04x\n", 0x2000 + slot % 8 + (number ? 0x100 : 0));
	file(text, "%s/device", path);
	file(number ? "0x040300\n" : "0x030000\n", "%s/class", path);
	snprintf(text, sizeof(text), "pci:v000010DEd%08Xsv000010DEsd0000134Fbc%02Xsc%02Xi00\n",
		 0x2000 + slot % 8 + (number ? 0x100 : 0), number ? 4U : 3U, number ? 3U : 0U);
	file(text, "%s/modalias", path);
	if (!number) {
		file("0\n", "%s/boot_vga", path);
		directory("%s/kernel/iommu_groups/%u", top, slot);
		directory("%s/kernel/iommu_groups/%u/devices", top, slot);
	}
	snprintf(text, sizeof(text), "../../../kernel/iommu_groups/%u", slot);
	to(text, "%s/iommu_group", path);
	to(number ? "../../../bus/pci/drivers/snd_hda_intel" : "../../../bus/pci/drivers/nouveau",
	   "%s/driver", path);
	snprintf(text, sizeof(text), "../../../devices/pci0000:00/%s", address);
	to(text, "%s/bus/pci/devices/%s", top, address);
	snprintf(text, sizeof(text), "../../../../devices/pci0000:00/%s", address);
	to(text, "%s/kernel/iommu_groups/%u/devices/%s", top, slot, address);
}

int main(int argc, char **argv)
{
	static const char *const directories[] = {
		"bus",
		"bus/pci",
		"bus/pci/devices",
		"bus/pci/drivers",
		"bus/pci/drivers/nouveau",
		"bus/pci/drivers/snd_hda_intel",
		"bus/pci/drivers/vfio-pci",
		"class",
		"class/net",
		"class/block",
		"class/drm",
		"class/graphics",
		"class/vtconsole",
		"class/input",
		"class/vfio",
		"devices",
		"devices/pci0000:00",
		"kernel",
		"kernel/iommu_groups",
	};
	unsigned n = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

	if (!n || n > 16000) {
		fprintf(stderr, "usage: tree DIRECTORY FUNCTIONS\n");
		return 2;
	}
	top = argv[1];
	directory("%s", top);
	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++)
		directory("%s/%s", top, directories[i]);
	file("", "%s/bus/pci/drivers_probe", top);
	for (unsigned i = 0; i < n; i++)
		function(i);
	return 0;
}
