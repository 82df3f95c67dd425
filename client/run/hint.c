/* SPDX-License-Identifier: MIT */
/*
 * Guesses what an argument of `gpubroker run` was meant to be, see hint.h. Reads only
 * /sys/class/drm.
 */
#include "config.h"

#include "client/run/hint.h"
#include "client/command/cli.h"
#include "client/host/bundle.h"
#include "client/common/address.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Reads hex digits, at most 8. Returns how many there are. */
static size_t hex_digits(const char **at, unsigned long *ret_value)
{
	size_t n = 0;

	*ret_value = 0;
	for (; n < 8 && pci_hex_digit((*at)[n]) >= 0; n++)
		*ret_value = *ret_value << 4 | (unsigned long)pci_hex_digit((*at)[n]);
	*at += n;
	return n;
}

/*
 * Reads an address of another form: with other separators, without the function, with fewer digits,
 * or as libvirt names it (pci_0000_01_00_0). Returns true with the address as it is written.
 */
static bool read_address(const char *given, char out[PCI_ADDRESS_TEXT])
{
	unsigned long parts[4] = { 0 };
	size_t digits[4] = { 0 }, n = 0, bus;
	const char *at = given;

	if (!strncmp(at, "pci_", 4))
		at += 4;
	while (n < 4 && (digits[n] = hex_digits(&at, &parts[n])) > 0) {
		n++;
		if (!*at || !strchr(":._", *at))
			break;
		at++;
	}
	/* Two of four digits are ids. */
	if (*at || n < 2 || (n == 2 && digits[0] > 2))
		return false;
	bus = n == 4 || (n == 3 && digits[0] > 2) ? 1 : 0;
	if (digits[bus] > 2 || digits[bus + 1] > 2 || parts[bus + 1] > 31 ||
	    (bus + 2 < n && parts[bus + 2] > 7))
		return false;
	snprintf(out, PCI_ADDRESS_TEXT, "%04lx:%02lx:%02lx.%lx", bus ? parts[0] : 0, parts[bus],
		 parts[bus + 1], bus + 2 < n ? parts[bus + 2] : 0);
	return true;
}

/* "card1" or "/dev/dri/renderD128": the address of its function. */
static bool read_card(const char *given, char out[PCI_ADDRESS_TEXT])
{
	const char *name = strrchr(given, '/') ? strrchr(given, '/') + 1 : given;
	char path[64], target[256], *last;
	struct pci_address address;
	ssize_t n;

	if (strncmp(name, "card", 4) && strncmp(name, "renderD", 7))
		return false;
	snprintf(path, sizeof(path), "/sys/class/drm/%.24s/device", name);
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	last = strrchr(target, '/');
	if (!last || pci_address_parse(last + 1, &address))
		return false;
	pci_address_format(&address, out);
	return true;
}

static bool is_ids(const char *given)
{
	unsigned long value;
	const char *at = given;

	return hex_digits(&at, &value) == 4 && *at++ == ':' && hex_digits(&at, &value) == 4 && !*at;
}

bool hint_device(const char *given, char out[HINT_TEXT])
{
	static const char *const all[] = { "all", "ANY", "Any", "gpu", "GPU", "*" };
	char address[PCI_ADDRESS_TEXT];
	unsigned long group;
	int end = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(given, all[i])) {
			snprintf(out, HINT_TEXT, "did you mean any, which is one that is free?");
			return true;
		}
	if (read_address(given, address) || read_card(given, address))
		snprintf(out, HINT_TEXT, "did you mean %s?", address);
	else if ((sscanf(given, "/dev/vfio/%lu%n", &group, &end) == 1 && !given[end]) ||
		 (sscanf(given, "group:%lu%n", &group, &end) == 1 && !given[end]))
		snprintf(out, HINT_TEXT, "did you mean iommu-group:%lu?", group);
	else if (strchr(given, ',') && given[0] != ',')
		snprintf(out, HINT_TEXT,
			 "each device has its own --gpu, as in --gpu %.*s --gpu %.40s",
			 (int)(strcspn(given, ",") > 40 ? 40 : strcspn(given, ",")), given,
			 strchr(given, ',') + 1);
	else if (is_ids(given))
		snprintf(out, HINT_TEXT,
			 "%s is what a model is called; the policy can give that a name, or give "
			 "one card's address",
			 given);
	else if (*given && strspn(given, "0123456789") == strlen(given))
		snprintf(out, HINT_TEXT, "GPUs have no numbers here, give an address or any");
	else
		return false;
	return true;
}

const char *hint_privilege(const char *command)
{
	static const char *const names[] = { "sudo", "su", "doas", "pkexec", "runuser", "run0" };
	const char *name = strrchr(command, '/') ? strrchr(command, '/') + 1 : command;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return names[i];
	return NULL;
}

bool hint_command(const char *given, const char *before, char out[HINT_TEXT])
{
	struct pci_address address;
	uint64_t seconds;

	if (before && !strcmp(before, "--wait") && cli_parse_time(given, &seconds))
		snprintf(out, HINT_TEXT, "did you mean --wait=%.24s?", given);
	else if (before && !strcmp(before, "--drivers") && bundle_is_name(given))
		snprintf(out, HINT_TEXT, "did you mean --drivers=%.64s?", given);
	else if (!pci_address_parse(given, &address))
		snprintf(out, HINT_TEXT, "did you mean --gpu %.24s?", given);
	else
		return false;
	return true;
}
