/* SPDX-License-Identifier: MIT */
/*
 * gpubroker vfs: root creates virtual functions of a physical one, or removes them. Asks the
 * broker, which answers when that is done. It decides nothing.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/json-out.h"
#include "client/command/refused.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool parse_number(const char *text, uint32_t *ret_number)
{
	size_t n = strspn(text, "0123456789");
	unsigned long value;

	if (!n || n > 5 || text[n])
		return false;
	value = strtoul(text, NULL, 10);
	if (value > UINT16_MAX)
		return false;
	*ret_number = (uint32_t)value;
	return true;
}

static void print_number(const char *address, uint32_t number)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "device", json_object_new_string(address));
	json_object_object_add(o, "vfs", json_object_new_int64(number));
	json_out_print(o);
}

int cli_vfs(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct gpubroker *handle;
	char address[20];
	uint32_t number;
	int r;
	struct arguments arguments = { .command = "vfs", .mode = "" };

	if (arguments_only_json(&arguments, argc, argv, options))
		return arguments.status;
	if (argc - optind != 2) {
		cli_error("vfs needs one DEVICE, a PCI address, and a number, as in: gpubroker vfs "
			  "3b:00.0 4");
		return EXIT_BAD_USAGE;
	}
	if (!parse_number(argv[optind + 1], &number)) {
		cli_error("'%s' is no number of virtual functions: give one from 0 to 65535",
			  argv[optind + 1]);
		return EXIT_BAD_USAGE;
	}
	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_vfs(handle, argv[optind], number, address);
	if (r) {
		r = cli_failed_for(cli, handle, r, argv[optind]);
	} else {
		if (refused_is_json())
			print_number(address, number);
		else if (cli_columns(stdout))
			printf("%s has %u virtual function%s.\n", address, (unsigned)number,
			       number == 1 ? "" : "s");
		r = cli_finish_output();
	}
	gpubroker_close(handle);
	return r;
}
