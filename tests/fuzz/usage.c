/* SPDX-License-Identifier: MIT */
/*
 * The file of the usage of devices, as the next start finds it. The input is lines, which the
 * target seals, since no mutation would find a checksum; and then the whole input as the file. A
 * line that the parser accepts is what the broker would write, and nothing that a lease cannot have.
 *
 * About: brokerd/record/sealed.c brokerd/record/usage.c
 */
#include "config.h"

#include <errno.h>

#include "brokerd/record/sealed.h"
#include "brokerd/record/usage.h"
#include "client/common/name.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "usage";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void check_line(const char *line)
{
	struct usage_entry entry, again;
	char text[USAGE_LINE + 1];

	memset(&entry, 0x5a, sizeof(entry));
	if (!usage_parse(line, &entry))
		return;
	must(entry.number && entry.lease);
	must(memchr(entry.device, 0, sizeof(entry.device)) &&
	     memchr(entry.profile, 0, sizeof(entry.profile)));
	must(mdev_is_name(entry.device, sizeof(entry.device)));
	must(usage_format(&entry, text) && usage_parse(text, &again));
	must(again.number == entry.number && again.lease == entry.lease && again.uid == entry.uid &&
	     again.since == entry.since && again.seconds == entry.seconds &&
	     !strcmp(again.device, entry.device) && !strcmp(again.profile, entry.profile));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char file[8192 + USAGE_LINE + 1];
	struct sealed lines = { .text = file, .size = USAGE_LINE };
	const char *line;
	size_t used = 0, found = 0, made = 0;

	for (size_t at = 0; at < size && used + USAGE_LINE < sizeof(file);) {
		const uint8_t *newline = memchr(data + at, '\n', size - at);
		const size_t n = newline ? (size_t)(newline - data) - at : size - at;
		char text[USAGE_LINE + 1];

		if (n < sizeof(text)) {
			memcpy(text, data + at, n);
			text[n] = '\0';
			if (sealed_make(file + used, USAGE_LINE, text)) {
				check_line(file + used);
				used += USAGE_LINE;
				made++;
			}
		}
		at += n + 1;
	}
	lines.len = used;
	while (sealed_next(&lines))
		found++;
	must(found == made && !lines.damaged && lines.at == lines.len);
	/* As it is: cut, mixed, or with what looks like a seal. */
	lines = (struct sealed){ .text = (const char *)data, .len = size, .size = USAGE_LINE };
	while ((line = sealed_next(&lines))) {
		must(line >= (const char *)data && line + USAGE_LINE <= (const char *)data + size);
		check_line(line);
	}
	must(lines.at == size);
	return 0;
}

void fuzz_seeds(fuzz_write write)
{
	static const char lines[] = "1 3 1000 1790000000 3600 0000:01:00.0 -\n"
				    "2 4 1001 1790000000 0 mtty mtty-2\n"
				    "0 4 1001 1790000000 0 mtty mtty-2\n"
				    "18446744073709551615 1 0 0 0 x -\n"
				    "3 4 99999999999 1 1 ../x -\n";
	struct usage_entry entry = { .number = 7, .lease = 9, .uid = 5, .seconds = 1 };
	char text[2 * USAGE_LINE + 1];

	write("lines", lines, sizeof(lines) - 1);
	strcpy(entry.device, "0000:01:00.0");
	must(usage_format(&entry, text));
	write("sealed", text, USAGE_LINE);
	memmove(text + 100, text, USAGE_LINE);
	write("cut", text, USAGE_LINE + 100);
}
