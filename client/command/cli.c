/* SPDX-License-Identifier: MIT */
/*
 * Shared by the commands of gpubroker(1): connecting, exit statuses, messages, and values of
 * options. Uses the broker only through the public gpubroker.h, like any outsider.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/holders.h"
#include "client/command/refused.h"
#include "client/common/util.h"
#include "policy/units.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sysexits.h>

void cli_error(const char *format, ...)
{
	cleanup_free char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (refused_add(text ? text : strerror(ENOMEM)))
		return;
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
		refused_note(gpubroker_refused(handle));
		cli_error("%s", gpubroker_reason(handle));
		return cli_refusal_status(r);
	}
	switch (r) {
	case -ENOENT:
	case -ECONNREFUSED:
		cli_error("no broker answers at %s; the administrator can start it with "
			  "'systemctl start gpubroker.socket'",
			  path);
		return EXIT_NO_BROKER;
	case -ECONNRESET:
		cli_error("the broker ended the connection; 'systemctl status gpubroker' may "
			  "show why");
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

#define PATIENCE 2 /* seconds, after which the user is told that the broker has not answered */

static void say_waiting(int signal)
{
	static const char text[] =
		"gpubroker: waiting for the broker to answer; 'systemctl status gpubroker' shows "
		"its state\n";

	(void)signal;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		return;
}

/* As gpubroker_open(), and says on standard error that it waits, if it does. */
static int open_patiently(const char *socket, struct gpubroker **ret_handle)
{
	const struct sigaction say = { .sa_handler = say_waiting, .sa_flags = SA_RESTART };
	struct sigaction before;
	int r;

	sigaction(SIGALRM, &say, &before);
	alarm(refused_is_json() ? 0 : PATIENCE);
	r = gpubroker_open(socket, ret_handle);
	alarm(0);
	sigaction(SIGALRM, &before, NULL);
	return r;
}

int cli_open(const struct cli *cli, struct gpubroker **ret_handle)
{
	struct gpubroker *handle = NULL;
	int r = open_patiently(cli->socket, &handle), status;

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

bool cli_has_holder(uint32_t group)
{
	return holders_have(group);
}

bool cli_is_control(const char *text, size_t i)
{
	const unsigned char *at = (const unsigned char *)text + i;

	return *at < ' ' || *at == 0x7f || (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) ||
	       (i && at[-1] == 0xc2 && *at >= 0x80 && *at < 0xa0);
}

void cli_print_text(FILE *file, const char *text, int width)
{
	int n = 0;

	for (; text[n] && (width < 0 || n < width); n++)
		fputc(cli_is_control(text, (size_t)n) ? '?' : text[n], file);
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
	return units_parse_time(text, INT32_MAX, ret_seconds);
}

bool cli_parse_size(const char *text, uint64_t *ret_bytes)
{
	char upper[24];
	size_t n = strlen(text);

	if (!n || n >= sizeof(upper))
		return false;
	strcpy(upper, text);
	upper[n - 1] = (char)toupper((unsigned char)upper[n - 1]);
	return units_parse_size(upper, UINT64_MAX, ret_bytes);
}

char *cli_size_text(uint64_t bytes, char out[CLI_SIZE_TEXT])
{
	return units_size(bytes, out);
}

int cli_failed_for(const struct cli *cli, const struct gpubroker *handle, int r,
		   const char *address)
{
	if (r != -EINVAL)
		return cli_failed(cli, handle, r);
	cli_error("'%s' is no PCI address; 'gpubroker list --all' shows them", address);
	return EXIT_BAD_USAGE;
}

static void print_holder(const char *text)
{
	cli_error("  %s", text);
}

static int print_foreign(void *userdata, const struct gpubroker_device *device)
{
	int64_t *last = userdata;

	if (device->status == GPUBROKER_IN_USE && device->iommu_group != *last) {
		cli_error("%s is", device->address);
		holders_print((uint32_t)device->iommu_group, print_holder);
		*last = device->iommu_group;
	}
	return 0;
}

void cli_print_foreign(struct gpubroker *handle)
{
	int64_t last = -1;

	if (!geteuid())
		gpubroker_list(handle, print_foreign, &last);
}
