/* SPDX-License-Identifier: MIT */
/*
 * gpubroker(1): finds the command, and what all commands share: connecting, exit statuses, and
 * messages. Uses the broker only through the public gpubroker.h, like any outsider.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/common/util.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sysexits.h>

static const char usage[] =
	"usage: gpubroker [--socket PATH] COMMAND [...]\n"
	"\n"
	"  list [--all] [--json]        the GPUs (--all: every PCI function) and their status\n"
	"  run [--gpu DEVICE [--profile PROFILE | --memory SIZE]]... [--wait[=TIME]] [--force]\n"
	"      [--memlock SIZE] [--qemu [--rom FILE] [--primary]] -- COMMAND [ARG...]\n"
	"                               claim DEVICE and run COMMAND, a VMM, with it; --qemu: add\n"
	"                               the arguments that give it to QEMU\n"
	"  profiles [DEVICE] [--json]   parts of devices that drivers offer to make\n"
	"  leases [--json]              what is lent to whom\n"
	"  release LEASE                end a lease of your own\n"
	"  watch [--json]               what becomes of leases, as it happens\n"
	"  policy check [FILE...]       every mistake in the policy, before it is in force\n"
	"  policy explain --user USER DEVICE [--profile PROFILE]\n"
	"                               may USER have DEVICE, by which rule, with what limits\n"
	"  policy install               what prepare rules need at boot (root)\n"
	"  revoke LEASE [--after TIME]  end anybody's lease (root)\n"
	"  restore DEVICE               give a device back to its host driver (root)\n"
	"  vfs DEVICE N                 give a physical function N virtual ones, to be lent (root)\n"
	"  help, --version\n"
	"\n"
	"DEVICE is a PCI address, iommu-group:N, a name from the policy, or any.\n";

/* One line, whatever is in an argument that it names: it may go to a journal, or a terminal. */
void cli_error(const char *format, ...)
{
	cleanup_free char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	fputs("gpubroker: ", stderr);
	cli_print_text(stderr, text ? text : strerror(ENOMEM), -1);
	fputc('\n', stderr);
}

int cli_refusal_status(int refusal)
{
	switch (refusal) {
#define STATUS_OF(reason, number, word, status)                                                    \
	case number:                                                                               \
		return status;
		GPUBROKER_REFUSALS(STATUS_OF)
#undef STATUS_OF
	default:
		return EXIT_PROTOCOL;
	}
}

int cli_failed(const struct cli *cli, const struct gpubroker *handle, int r)
{
	const char *path = cli->socket ? cli->socket : "/run/gpubroker/socket";

	if (r > 0) {
		cli_error("%s", gpubroker_reason(handle));
		return cli_refusal_status(r);
	}
	switch (r) {
	case -ENOENT:
	case -ECONNREFUSED:
		cli_error(
			"no broker answers at %s; the administrator can start it with 'systemctl start "
			"gpubroker.socket'",
			path);
		return EXIT_NO_BROKER;
	case -ECONNRESET:
		cli_error(
			"the broker ended the connection; 'systemctl status gpubroker' may show why");
		return EXIT_NO_BROKER;
	case -EPROTO:
	case -EBADMSG:
	case -EPROTOTYPE:
		cli_error("what answers at %s does not speak gpubroker's protocol", path);
		return EXIT_PROTOCOL;
	default:
		cli_error("cannot talk to the broker at %s: %s", path, strerror(-r));
		return r == -EACCES || r == -EPERM ? EXIT_POLICY : EXIT_NO_BROKER;
	}
}

int cli_open(const struct cli *cli, struct gpubroker **ret_handle)
{
	struct gpubroker *handle = NULL;
	int r = gpubroker_open(cli->socket, &handle), status;

	if (!r) {
		*ret_handle = handle;
		return 0;
	}
	status = cli_failed(cli, handle, r);
	gpubroker_close(handle);
	return status;
}

int cli_finish_output(void)
{
	if (fflush(stdout) || ferror(stdout)) {
		cli_error("cannot write to standard output: %s", strerror(errno));
		return EXIT_SOFTWARE;
	}
	return EXIT_SUCCESS;
}

void cli_print_text(FILE *file, const char *text, int width)
{
	int n = 0;

	for (; *text && (width < 0 || n < width); text++, n++)
		fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, file);
	for (; n < width; n++)
		fputc(' ', file);
}

int cli_columns(FILE *file)
{
	struct winsize size;

	if (!isatty(fileno(file)))
		return 0;
	if (!ioctl(fileno(file), TIOCGWINSZ, &size) && size.ws_col)
		return size.ws_col;
	return 80;
}

bool cli_parse_time(const char *text, uint64_t *ret_seconds)
{
	static const struct {
		char name;
		uint64_t seconds;
	} units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };
	uint64_t total = 0;
	size_t next = 0;

	while (*text) {
		size_t digits = strspn(text, "0123456789");
		uint64_t value = 0;

		for (size_t i = 0; i < digits; i++) {
			value = value * 10 + (uint64_t)(text[i] - '0');
			if (value > UINT32_MAX)
				return false;
		}
		text += digits;
		while (next < ARRAY_SIZE(units) && units[next].name != *text)
			next++;
		if (!digits || next == ARRAY_SIZE(units))
			return false;
		total += value * units[next++].seconds;
		text++;
	}
	if (!total || total > INT32_MAX)
		return false;
	*ret_seconds = total;
	return true;
}

bool cli_parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char suffixes[] = "KMGT";
	uint64_t value = 0;
	const char *p = text, *suffix;
	unsigned shift = 0;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			return false;
	if (p == text)
		return false;
	if (*p) {
		suffix = strchr(suffixes, *p & ~0x20);
		if (!suffix || !*suffix || p[1])
			return false;
		shift = 10 * ((unsigned)(suffix - suffixes) + 1);
	}
	if (!value || value > UINT64_MAX >> shift)
		return false;
	*ret_bytes = value << shift;
	return true;
}

void cli_size_text(uint64_t bytes, char out[24])
{
	static const char units[] = "KMGT";
	size_t unit = 0;

	if (!bytes) {
		strcpy(out, "-");
		return;
	}
	for (bytes >>= 10; unit < strlen(units) - 1 && !(bytes & 1023); bytes >>= 10)
		unit++;
	snprintf(out, 24, "%" PRIu64 "%c", bytes, units[unit]);
}

static const struct {
	const char *name;
	int (*run)(const struct cli *cli, int argc, char **argv);
} commands[] = {
	{ "list", cli_list },	    { "run", cli_run },		{ "leases", cli_leases },
	{ "policy", cli_policy },   { "release", cli_release }, { "revoke", cli_revoke },
	{ "restore", cli_restore }, { "watch", cli_watch },	{ "profiles", cli_profiles },
	{ "vfs", cli_vfs },
};

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct cli cli = { 0 };
	int c;

	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (c) {
		case 's':
			cli.socket = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return cli_finish_output();
		case 'V':
			puts("gpubroker " PACKAGE_VERSION);
			return cli_finish_output();
		default:
			fputs(usage, stderr);
			return EXIT_USAGE_;
		}
	}
	argc -= optind;
	argv += optind;
	if (!argc) {
		fputs(usage, stderr);
		return EXIT_USAGE_;
	}
	if (!strcmp(argv[0], "help")) {
		fputs(usage, stdout);
		return cli_finish_output();
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(argv[0], commands[i].name)) {
			optind = 0; /* glibc: scan anew, from argv[1] */
			return commands[i].run(&cli, argc, argv);
		}
	}
	cli_error("there is no command '%s'; see 'gpubroker help'", argv[0]);
	return EXIT_USAGE_;
}
