/* SPDX-License-Identifier: MIT */
/*
 * Prints for people, see screen.h. It asks nobody, and decides nothing: what a table
 * says is the command's. Texts come from devices, programs and users: libsmartcols replaces control
 * characters in cells, screen_note() does below them.
 */
#include "config.h"

#include "client/command/screen.h"
#include "client/command/cli.h"
#include "client/common/nearness.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <libsmartcols.h>
#include <locale.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name, *sequence;
} colours[] = {
	[TONE_GOOD] = { "green", "\033[32m" },
	[TONE_MIND] = { "yellow", "\033[33m" },
	[TONE_BAD] = { "red", "\033[31m" },
	[TONE_DIM] = { "darkgray", "\033[90m" },
};

static bool is_coloured(void)
{
	return isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
}

void screen_say(struct screen_text *out, enum tone tone, const char *format, ...)
{
	va_list args;

	free(out->text);
	va_start(args, format);
	if (vasprintf(&out->text, format, args) < 0)
		out->text = NULL;
	va_end(args);
	out->tone = tone;
}

/* ---- tables ---- */

struct libscols_table *screen_table_new(void)
{
	struct libscols_table *table;

	setlocale(LC_CTYPE, ""); /* for the widths of characters */
	scols_init_debug(0);
	table = scols_new_table();
	if (!table)
		return NULL;
	scols_table_enable_colors(table, is_coloured());
	if (isatty(STDOUT_FILENO)) /* not by the library's own look, which takes COLUMNS first */
		scols_table_set_termwidth(table, (size_t)cli_columns(stdout));
	else
		scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
	return table;
}

/* Says that there is no such column, which there are, and which was perhaps meant. */
static int say_no_column(const char *command, const char *given,
			 const struct screen_column *const *columns, size_t n)
{
	const char *names[SCREEN_COLUMNS_MAX], *near;
	char list[SCREEN_COLUMNS_MAX * 16] = "";
	size_t len = 0;

	for (size_t i = 0; i < n && i < SCREEN_COLUMNS_MAX; i++) {
		names[i] = columns[i]->name;
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%.12s",
					!i	    ? ""
					: i + 1 < n ? ", "
						    : " and ",
					columns[i]->name);
	}
	near = nearness_best(given, names, n);
	cli_error("%s has no column '%s'%s%s%s; there are %s", command, given,
		  near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "", list);
	return EXIT_BAD_USAGE;
}

static size_t find_column(const char *name, const struct screen_column *const *columns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcasecmp(name, columns[i]->name))
			return i;
	return SIZE_MAX;
}

int screen_table_columns(struct libscols_table *table, const char *command,
			 const struct screen_column *const *columns, size_t n_columns,
			 const char *list, size_t ret_chosen[SCREEN_COLUMNS_MAX], size_t *ret_n)
{
	cleanup_free char *copy = strdup(list);
	char *save = NULL;

	*ret_n = 0;
	if (!copy)
		return EXIT_SOFTWARE;
	for (char *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		size_t i = find_column(name, columns, n_columns);
		struct libscols_column *made;

		if (i == SIZE_MAX)
			return say_no_column(command, name, columns, n_columns);
		if (*ret_n == SCREEN_COLUMNS_MAX) {
			cli_error("more than %d columns", SCREEN_COLUMNS_MAX);
			return EXIT_BAD_USAGE;
		}
		made = scols_table_new_column(table, columns[i]->heading, columns[i]->width,
					      columns[i]->flags);
		if (!made)
			return EXIT_SOFTWARE;
		scols_cell_set_color(scols_column_get_header(made), "bold");
		ret_chosen[(*ret_n)++] = i;
	}
	if (*ret_n)
		return 0;
	cli_error("--columns needs the names of columns, as in: gpubroker %s --columns %s", command,
		  columns[0]->name);
	return EXIT_BAD_USAGE;
}

struct libscols_line *screen_table_line(struct libscols_table *table, struct libscols_line *parent,
					struct screen_text *cells, size_t n)
{
	struct libscols_line *line = scols_table_new_line(table, parent);

	for (size_t i = 0; i < n; i++) {
		if (!line || (cells[i].text && scols_line_refer_data(line, i, cells[i].text))) {
			free(cells[i].text);
			line = NULL;
		} else if (colours[cells[i].tone].name) {
			scols_cell_set_color(scols_line_get_cell(line, i),
					     colours[cells[i].tone].name);
		}
		cells[i] = (struct screen_text){ 0 };
	}
	return line;
}

/* Ends a text that has more columns than `most` in "...". True: it was cut. */
static bool cut_text(const char *text, size_t most, char **ret_text)
{
	size_t columns = 0, n = 0;

	for (size_t i = 0; text[i]; i++)
		columns += ((unsigned char)text[i] & 0xc0) != 0x80;
	if (columns <= most || most < 4)
		return false;
	for (columns = 0; columns < most - 3 || ((unsigned char)text[n] & 0xc0) == 0x80; n++)
		columns += ((unsigned char)text[n] & 0xc0) != 0x80;
	return asprintf(ret_text, "%.*s...", (int)n, text) >= 0;
}

void screen_table_mark_cut(struct libscols_table *table)
{
	cleanup_free char *text = NULL;
	struct libscols_column *column;

	/* The library knows widths when it has printed. */
	if (!isatty(STDOUT_FILENO) || scols_print_table_to_string(table, &text))
		return;
	for (size_t c = 0; (column = scols_table_get_column(table, c)); c++) {
		for (size_t i = 0; i < scols_table_get_nlines(table); i++) {
			struct libscols_line *line = scols_table_get_line(table, i);
			const char *whole = scols_line_get_column_data(line, column);
			char *shorter;

			/* In a tree the branches take some of the width. */
			if (whole && scols_column_is_trunc(column) &&
			    !scols_column_is_tree(column) &&
			    cut_text(whole, scols_column_get_width(column), &shorter))
				scols_line_refer_column_data(line, column, shorter);
		}
	}
}

/* Prints n bytes of text as a line. */
static void print_part(enum tone tone, int indent, const char *text, size_t n)
{
	const char *colour = is_coloured() ? colours[tone].sequence : NULL;

	printf("%*s%s", indent, "", colour ? colour : "");
	for (size_t i = 0; i < n; i++)
		putchar(cli_is_control(text, i) ? '?' : text[i]);
	puts(colour ? "\033[0m" : "");
}

#define INDENT 2
#define LEAST_ROOM 20 /* on a narrower terminal nothing is folded */

/* How many bytes of the text fit into so many columns: up to a blank, where there is one. */
static size_t fitting(const char *text, size_t most)
{
	size_t columns = 0, n = 0, blank = 0;

	for (; text[n] && columns <= most; n++) {
		if (text[n] == ' ')
			blank = n;
		columns += ((unsigned char)text[n] & 0xc0) != 0x80;
	}
	if (columns <= most)
		return n;
	for (n--; n > 1 && ((unsigned char)text[n] & 0xc0) == 0x80; n--)
		;
	return blank ? blank : n;
}

/* Prints text in lines that fit the terminal, the first indented by `first`. */
static void print_folded(enum tone tone, int first, int others, const char *text)
{
	const int room = cli_columns(stdout);
	int indent = first;

	do {
		size_t n = room > indent + LEAST_ROOM ? fitting(text, (size_t)(room - indent))
						      : strlen(text);

		print_part(tone, indent, text, n);
		text += n;
		text += strspn(text, " ");
		indent = others;
	} while (*text);
}

void screen_line(enum tone tone, const char *text)
{
	print_folded(tone, 0, 2 * INDENT, text);
}

void screen_note(enum tone tone, const char *text)
{
	print_folded(tone, INDENT, INDENT, text);
}

int screen_table_indented(struct libscols_table *table)
{
	const int room = cli_columns(stdout);
	cleanup_free char *text = NULL;
	char *save = NULL;

	if (room > INDENT + LEAST_ROOM)
		scols_table_set_termwidth(table, (size_t)(room - INDENT));
	screen_table_mark_cut(table);
	if (scols_print_table_to_string(table, &text) || !text)
		return EXIT_SOFTWARE;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		printf("%*s%s\n", INDENT, "", line);
	return 0;
}

/* ---- words ---- */

const char *screen_user(uint32_t uid, char out[SCREEN_USER])
{
	const struct passwd *user = getpwuid((uid_t)uid);

	if (user)
		snprintf(out, SCREEN_USER, "%.32s", user->pw_name);
	else
		snprintf(out, SCREEN_USER, "uid %" PRIu32, uid);
	return out;
}

const char *screen_address(const char *address)
{
	return strncmp(address, "0000:", 5) ? address : address + 5;
}

/* Writes what a vendor is called: "NVIDIA", "Red Hat", "AMD/ATI". */
static void write_vendor(const char *name, char out[32])
{
	const char *open = strchr(name, '[');
	size_t n = open ? strcspn(open + 1, "]") : strcspn(name, ",");
	const char *end = open ? NULL : strstr(name, " Corporation");

	if (end && (size_t)(end - name) < n)
		n = (size_t)(end - name);
	snprintf(out, 32, "%.*s", (int)(n < 31 ? n : 31), open ? open + 1 : name);
}

void screen_model(const struct gpubroker_device *d, struct screen_text *out)
{
	const char *open = strrchr(d->model, '['), *close = open ? strchr(open, ']') : NULL;
	char vendor[32];

	write_vendor(d->vendor_name, vendor);
	if (close && close > open + 1)
		screen_say(out, TONE_PLAIN, "%.*s", (int)(close - open - 1), open + 1);
	else if (d->model[0])
		screen_say(out, TONE_PLAIN, "%s%s%s", vendor, vendor[0] ? " " : "", d->model);
	else
		screen_say(out, TONE_PLAIN, "%04x:%04x", d->vendor, d->device);
}

#define MODEL_MOST 24

void screen_shorten(struct screen_text *text)
{
	size_t most = MODEL_MOST;

	if (!text->text || strlen(text->text) <= MODEL_MOST + 3)
		return;
	while (most && ((unsigned char)text->text[most] & 0xc0) == 0x80)
		most--;
	strcpy(text->text + most, "...");
}

const char *screen_companion(uint32_t class_code)
{
	switch (class_code >> 8) {
	case 0x0403:
		return "audio";
	case 0x0c03:
		return "usb";
	default:
		return class_code >> 16 == 0x03	  ? "display"
		       : class_code >> 16 == 0x02 ? "network"
		       : class_code >> 16 == 0x01 ? "storage"
						  : "other";
	}
}
