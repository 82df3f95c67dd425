/* SPDX-License-Identifier: MIT */
/* How a check of `gpubroker doctor` tells its result, see doctor.h. Prints, or makes JSON. */
#include "config.h"

#include "client/command/doctor.h"
#include "client/command/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *word, *colour;
} results[DOCTOR_RESULTS] = {
	[DOCTOR_PASS] = { "PASS", "32" },
	[DOCTOR_NOTE] = { "NOTE", "36" },
	[DOCTOR_WARN] = { "WARN", "33" },
	[DOCTOR_FAIL] = { "FAIL", "31" },
};

/* Prints text, broken between words so that no line is wider than the terminal, or 80. */
static void print_wrapped(const char *text, int indent)
{
	const int width = cli_columns(stdout) ? cli_columns(stdout) : 80;
	int at = indent;

	while (*text) {
		const int n = (int)strcspn(text, " ");
		char word[256];

		if (at > indent && at + 1 + n > width) {
			printf("\n%*s", indent, "");
			at = indent;
		} else if (at > indent) {
			putchar(' ');
			at++;
		}
		snprintf(word, sizeof(word), "%.*s", n, text);
		cli_print_text(stdout, word, -1);
		at += n;
		text += n;
		text += strspn(text, " ");
	}
	putchar('\n');
}

void doctor_say(struct doctor *doctor, enum doctor_result result, const char *check,
		const char *cure, const char *format, ...)
{
	char text[512], line[600];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	doctor->count[result]++;
	if (doctor->json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "check", json_object_new_string(check));
		json_object_object_add(o, "result", json_object_new_string(results[result].word));
		json_object_object_add(o, "text", json_object_new_string(text));
		json_object_object_add(o, "cure", cure ? json_object_new_string(cure) : NULL);
		json_object_array_add(doctor->json, o);
		return;
	}
	if (doctor->colours)
		printf("\033[%sm%s\033[0m  ", results[result].colour, results[result].word);
	else
		printf("%s  ", results[result].word);
	snprintf(line, sizeof(line), "%s: %s.", check, text);
	print_wrapped(line, 6);
	if (cure) {
		snprintf(line, sizeof(line), "%s.", cure);
		printf("      ");
		print_wrapped(line, 6);
	}
}
